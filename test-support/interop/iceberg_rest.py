"""Lets hardtack and PyIceberg share tables behind an Iceberg REST catalog.

    iceberg_rest.py FOLDER_OF_BINARIES

The server is the double of our tests, `iceberg_rest`, whose other client PyIceberg is: what the two say must be what the
protocol says. The job `publish_people` writes a table; PyIceberg reads it, appends to it, evolves it and creates another
one; the job appends again, and the commands read what has become of it. A difference is printed, and the exit code is 1.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.types import LongType

failures = 0


def check(what: str, found: Any, wanted: Any) -> None:
    global failures
    if found != wanted:
        failures += 1
        print(f"iceberg, REST, {what}: {found}\n  not {wanted}"[:2000])


def run(*args: Any) -> str:
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{args}\n{done.stderr}")
    return done.stdout


def main() -> int:
    binaries = Path(sys.argv[1]).resolve()
    keys = ["AKID", "s3cr3t/+=", "eu-central-1", "s3tables"]
    os.environ |= dict(zip(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"], keys))
    for demanded in [[], keys]:
        with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
            [binaries / "iceberg_rest", Path(folder) / "warehouse", *demanded],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as server:
            assert server.stdin and server.stdout
            signing = {"rest.sigv4-enabled": "true", "rest.signing-region": keys[2], "rest.signing-name": keys[3]}
            if demanded:
                os.environ["HARDTACK_CATALOG_SIGV4"] = keys[3]
            share(binaries, Path(folder), server.stdout.readline().strip(), signing if demanded else {})
            server.stdin.close()
    print("iceberg: hardtack and PyIceberg have shared tables behind REST catalogs, one of which demands signatures")
    return int(failures > 0)


def share(binaries: Path, folder: Path, url: str, signing: dict[str, str]) -> None:
    records = ["--catalog", f"rest:{url}?warehouse=lake", "--state", folder / "state"]

    def deliver(*people: tuple[int, str, int]) -> None:
        file = folder / "in" / "people" / "people.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps({"id": id, "name": name, "age": age}) + "\n" for id, name, age in people))
        run(binaries / "publish_people", *records, "--source", folder / "in", "--target", folder / "out")

    def sql(query: str) -> list[dict[str, Any]]:
        lines = run(binaries / "hardtack", *records, "sql", "--format", "json", "--command", query).splitlines()
        return [json.loads(line) for line in lines]

    deliver((1, "Ann", 30), (2, "Bob", 40))
    catalog = load_catalog("hardtack", type="rest", uri=url, warehouse="lake", **signing)
    check("tables", catalog.list_tables("lake"), [("lake", "people")])
    table = catalog.load_table("lake.people")
    both = [{"id": 1, "name": "Ann", "age": 30}, {"id": 2, "name": "Bob", "age": 40}]
    rows = lambda table: sorted(table.scan().to_arrow().to_pylist(), key=lambda row: row["id"])
    check("PyIceberg reads", rows(table), both)

    late = catalog.load_table("lake.people")
    again = table.scan().to_arrow()
    table.append(again.set_column(0, again.schema.field(0), pa.array([11, 12], pa.int64())))
    check("hardtack reads what PyIceberg appended", [row["id"] for row in sql("select id from lake.people order by id")], [1, 2, 11, 12])
    deliver((3, "Cy", 50))
    check("PyIceberg reads both", [row["id"] for row in rows(table.refresh())], [1, 2, 3, 11, 12])
    # Its head is not the head any more: the server refuses it, and PyIceberg tries again.
    late.append(again.set_column(0, again.schema.field(0), pa.array([13, 14], pa.int64())))
    ids = [row["id"] for row in sql("select id from lake.people order by id")]
    check("hardtack reads a late append", ids, [1, 2, 3, 11, 12, 13, 14])
    table.refresh()
    with table.update_schema() as update:
        update.add_column("height", LongType())
        update.rename_column("age", "years")
    check("hardtack reads evolved columns", sql("select id, years, height from lake.people where id = 3"), [{"id": 3, "years": 50, "height": None}])
    created = catalog.create_table("lake.pets", schema=pa.schema([("id", pa.int64()), ("name", pa.string())]))
    created.append(pa.table({"id": [1, 2], "name": ["Rex", None]}))
    check("hardtack reads a table of PyIceberg", sql("select * from lake.pets order by id"),
          [{"id": 1, "name": "Rex"}, {"id": 2, "name": None}])

    hardtack = binaries / "hardtack"
    listed = run(hardtack, *records, "tables")
    check("hardtack lists", ["lake.people" in listed, "lake.pets" in listed], [True, True])
    described = run(hardtack, *records, "describe", "lake.people")
    check("hardtack describes", all(word in described for word in ["height", "years", str(folder / "out")]), True)
    run(hardtack, *records, "iceberg", "tag", "lake.people", "before")
    check("PyIceberg sees a tag of hardtack", "before" in catalog.load_table("lake.people").metadata.refs, True)
    snapshots = sql('select operation from lake."people$snapshots"')
    check("hardtack lists snapshots", len(snapshots), 4)


if __name__ == "__main__":
    sys.exit(main())
