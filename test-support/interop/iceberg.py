"""Reads Iceberg tables that hardtack has written, and lets hardtack read what others write to them.

    iceberg.py FOLDER FOLDER_OF_BINARIES

FOLDER has what `crates/iceberg/tests/it/interop.rs` writes: an embedded catalog, tables of all types and all partition
transforms, each with half of the rows in `main` and all of them on a branch, and the rows as plain Parquet. PyIceberg (by the
same SQLite file) and DuckDB (by the metadata) must see exactly these rows. Then PyIceberg appends to tables, evolves them and
creates one, and `hardtack sql` must see that. `hardtack iceberg` compacts, regroups and alters tables, and both must see the same rows as before. At last
datasets that pyarrow has written become Iceberg tables by `hardtack iceberg migrate`, and both must see their rows. A
difference is printed, and the exit code is 1.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extensions
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog
from pyiceberg.types import LongType

failures = 0


def check(what: str, found: Any, wanted: Any) -> None:
    global failures
    if found != wanted:
        failures += 1
        print(f"iceberg, {what}: {found}\n  not {wanted}"[:2000])


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["id"])


def published(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those in `main`."""
    return [row for row in rows if row["id"] in (1, 3)]


def read_by_pyiceberg(catalog: Any, expected: list[dict[str, Any]]) -> int:
    count = 0
    for name in catalog.list_tables("lake"):
        table = catalog.load_table(name)
        what = f"PyIceberg, {name[1]}"
        check(what, by_id(table.scan().to_arrow().to_pylist()), published(expected))
        branches = [ref for ref in table.metadata.refs if ref != "main"]
        check(f"{what}, branches", len(branches), 1)
        scan = table.scan(snapshot_id=table.metadata.refs[branches[0]].snapshot_id)
        check(f"{what}, branch", by_id(scan.to_arrow().to_pylist()), expected)
        # By the bounds and the partitions that we have written.
        for row in expected:
            for column in ["i", "t", "on", "at", "utc", "price"]:
                if row[column] is not None:
                    value = row[column] if isinstance(row[column], (int, str)) else str(row[column]).replace(" ", "T")
                    literal = f"'{value}'" if not isinstance(value, int) else value
                    if column == "price":
                        literal = value
                    filtered = table.scan(f"{column} == {literal}", snapshot_id=scan.snapshot_id).to_arrow().to_pylist()
                    check(f"{what}, {column} == {literal}", by_id(filtered), [r for r in expected if r[column] == row[column]])
        check(f"{what}, history", len(table.history()), 1)
        count += 1
    return count


def read_by_duckdb(catalog: Any, expected: list[dict[str, Any]]) -> int:
    connection = duckdb.connect()
    for extension in ["avro", "iceberg"]:
        duckdb_extensions.import_extension(extension, con=connection)
    connection.execute("SET TimeZone = 'UTC'")
    count = 0
    for name in catalog.list_tables("lake"):
        table = catalog.load_table(name)
        rows = connection.execute(f"SELECT * FROM iceberg_scan('{table.metadata_location}')").to_arrow_table().to_pylist()
        check(f"DuckDB, {name[1]}", normal(rows), normal(published(expected)))
        branch = next(ref for ref in table.metadata.refs.values() if ref.snapshot_id != table.metadata.current_snapshot_id)
        scan = f"iceberg_scan('{table.metadata_location}', snapshot_from_id = {branch.snapshot_id}::UBIGINT)"
        rows = connection.execute(f"SELECT * FROM {scan}").to_arrow_table().to_pylist()
        check(f"DuckDB, {name[1]}, branch", normal(rows), normal(expected))
        count += 1
    return count


def normal(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Moments as texts in UTC, whatever the class of their zone."""
    text = lambda value: value.isoformat().replace("+00:00", "") if hasattr(value, "isoformat") else value
    return by_id([{name: text(value) for name, value in row.items()} for row in rows])


def sql(hardtack: Path, catalog: Path, query: str) -> list[dict[str, Any]]:
    args = ["--catalog", f"embedded:{catalog}", "--state", str(catalog.parent / "state"), "sql", "--format", "json", "--command", query]
    done = subprocess.run([hardtack, *args], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{query}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def write_by_pyiceberg(catalog: Any, hardtack: Path, file: Path) -> None:
    ids = lambda table: [row["id"] for row in sql(hardtack, file, f"select id from lake.{table} order by id")]
    for name in ["plain_v2", "by_day_v2", "by_two_v2", "by_text_v2"]:
        table = catalog.load_table(f"lake.{name}")
        again = table.scan().to_arrow()
        table.append(again.set_column(0, again.schema.field(0), pa.array([11, 12], pa.int64())))
        check(f"hardtack reads what PyIceberg appended to {name}", ids(name), [1, 3, 11, 12])
    table = catalog.load_table("lake.plain_v2")
    with table.update_schema() as update:
        update.update_column("i", LongType())
        update.add_column("extra", LongType())
        update.delete_column("f")
        update.move_first("t")
    with table.update_schema() as update:
        update.rename_column("i", "number")
    rows = sql(hardtack, file, "select t, number, extra from lake.plain_v2 where number > 0 order by id")
    check("hardtack reads evolved columns", rows, [{"t": "a/b=c", "number": 7, "extra": None}] * 2)
    table.delete("id == 11")
    check("hardtack reads what PyIceberg left", ids("plain_v2"), [1, 3, 12])
    created = catalog.create_table("lake.pets", schema=pa.schema([("id", pa.int64()), ("name", pa.string())]))
    created.append(pa.table({"id": [1, 2], "name": ["Rex", None]}))
    check("hardtack reads a table of PyIceberg", sql(hardtack, file, "select * from lake.pets order by id"),
          [{"id": 1, "name": "Rex"}, {"id": 2, "name": None}])
    snapshots = sql(hardtack, file, 'select operation from lake."plain_v2$history" h join lake."plain_v2$snapshots" s using (snapshot_id) order by made_current_at')
    check("hardtack lists snapshots of PyIceberg", [row["operation"] for row in snapshots][:2], ["append", "append"])


def maintain_by_hardtack(catalog: Any, hardtack: Path, file: Path) -> int:
    connection = duckdb.connect()
    for extension in ["avro", "iceberg"]:
        duckdb_extensions.import_extension(extension, con=connection)
    connection.execute("SET TimeZone = 'UTC'")

    def iceberg(*args: str) -> None:
        options = ["--catalog", f"embedded:{file}", "--state", str(file.parent / "state")]
        done = subprocess.run([hardtack, *options, "iceberg", *args], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{args}\n{done.stderr}")

    def rows(name: str) -> list[dict[str, Any]]:
        table = catalog.load_table(f"lake.{name}")
        found = by_id(table.scan().to_arrow().to_pylist())
        scan = f"SELECT * FROM iceberg_scan('{table.metadata_location}')"
        by_duckdb = connection.execute(scan).to_arrow_table().to_pylist()
        check(f"DuckDB, {name}, maintained", normal(by_duckdb), normal(found))
        return found

    names = [name for _, name in catalog.list_tables("lake") if name.endswith("_v2")]
    for name in names:
        before = rows(name)
        for args in [["compact", f"lake.{name}", "--all"], ["rewrite-manifests", f"lake.{name}"]]:
            iceberg(*args)
            check(f"PyIceberg, {name}, {args[0]}", rows(name), before)
        operation = catalog.load_table(f"lake.{name}").current_snapshot().summary.operation
        check(f"PyIceberg, {name}, operation", operation.value, "replace")
    before = rows("by_day_v2")
    for change in ["rename-column price cost", "rename-column place.zip code", "drop-column f", "add-column extra bigint",
                   "widen-column i bigint", "move-column t --first", "make-optional id", "set a=b"]:
        iceberg("alter", "lake.by_day_v2", *change.split())
    iceberg("alter", "lake.by_day_v2", "partition-by", "bucket(2, id), day(at)")
    place = lambda at: at and {"city": at["city"], "code": at["zip"]}
    wanted = [{"t": row["t"], **row, "cost": row["price"], "place": place(row["place"]), "extra": None} for row in before]
    wanted = [{name: value for name, value in row.items() if name not in ("f", "price")} for row in wanted]
    check("PyIceberg, altered", rows("by_day_v2"), wanted)
    iceberg("compact", "lake.by_day_v2")
    check("PyIceberg, altered and compacted", rows("by_day_v2"), wanted)
    table = catalog.load_table("lake.by_day_v2")
    check("PyIceberg, partition fields", [field.name for field in table.spec().fields], ["id_bucket", "at_day"])
    return len(names)


def migrated_by_hardtack(catalog: Any, hardtack: Path, file: Path, expected: list[dict[str, Any]]) -> int:
    """Datasets of pyarrow, of all types and by partition keys of several types, with odd values."""
    connection = duckdb.connect()
    for extension in ["avro", "iceberg"]:
        duckdb_extensions.import_extension(extension, con=connection)
    connection.execute("SET TimeZone = 'UTC'")
    options = ["--catalog", f"embedded:{file}", "--state", str(file.parent / "state")]

    def run(*args: str) -> None:
        done = subprocess.run([hardtack, *options, *args], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{args}\n{done.stderr}\n{done.stdout}")

    rows = pq.read_table(file.parent / "expected").drop_columns(["utc"])
    expected = [{name: value for name, value in row.items() if name != "utc"} for row in expected]
    keys = {"migrated": [], "migrated_by_text": ["t"], "migrated_by_number_and_date": ["i", "on"], "migrated_old": []}
    for name, by in keys.items():
        old = {"version": "1.0", "store_decimal_as_integer": False, "coerce_timestamps": "us"} if name.endswith("old") else {}
        place = file.parent / "of_files" / name
        pq.write_to_dataset(rows, place, partition_cols=by, **old)
        run("crawl", "--database", "lake", str(place))
        before = normal(sql(hardtack, file, f"select id, t, i, price, \"on\" from lake.{name}"))
        run("iceberg", "migrate", f"lake.{name}")
        check(f"hardtack, {name}", normal(sql(hardtack, file, f"select id, t, i, price, \"on\" from lake.{name}")), before)
        run("iceberg", "alter", f"lake.{name}", "rename-column", "f", "single")
        table = catalog.load_table(f"lake.{name}")
        # The types of partition keys are those that a crawl finds.
        text = lambda row: {column: str(value) for column, value in row.items()}
        named = [{"single" if column == "f" else column: value for column, value in row.items()} for row in expected]
        if "t" in by:
            # In the name of a folder this text is Hive's null.
            named = [row if row["t"] != "__HIVE_DEFAULT_PARTITION__" else {**row, "t": None} for row in named]
        wanted = [text(row) for row in normal(named)]
        check(f"PyIceberg, {name}", [text(row) for row in normal(table.scan().to_arrow().to_pylist())], wanted)
        scan = f"SELECT * FROM iceberg_scan('{table.metadata_location}')"
        check(f"DuckDB, {name}", [text(row) for row in normal(connection.execute(scan).to_arrow_table().to_pylist())], wanted)
        for column, value in [("i", 7), ("t", "'a/b=c'"), ("price", -9.99)]:
            found = table.scan(f"{column} == {value}").to_arrow().to_pylist()
            check(f"PyIceberg, {name}, {column} == {value}", len(found), 1)
    return len(keys)


def main() -> int:
    folder, binaries = Path(sys.argv[1]).resolve() / "iceberg", Path(sys.argv[2]).resolve()
    file = folder / "catalog.sqlite"
    expected = by_id(pq.read_table(folder / "expected").to_pylist())
    catalog = load_catalog("hardtack", type="sql", uri=f"sqlite:///{file}", warehouse=str(folder / "warehouse"))
    count = read_by_pyiceberg(catalog, expected)
    print(f"iceberg: PyIceberg has read {count} tables, each on `main` and on a branch")
    count = read_by_duckdb(catalog, expected)
    print(f"iceberg: DuckDB has read {count} tables, each on `main` and on a branch")
    write_by_pyiceberg(catalog, binaries / "hardtack", file)
    print("iceberg: hardtack has read what PyIceberg has written")
    count = maintain_by_hardtack(catalog, binaries / "hardtack", file)
    print(f"iceberg: hardtack has maintained {count} tables")
    migrated = migrated_by_hardtack(catalog, binaries / "hardtack", file, expected)
    print(f"iceberg: PyIceberg and DuckDB have read {migrated} tables that were of files")
    return int(failures > 0 or count == 0)


if __name__ == "__main__":
    sys.exit(main())
