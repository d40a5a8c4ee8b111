"""Reads what crates/sinks/tests/it/interop.rs has written with DuckDB, pyarrow and Spark, and compares types and values.

    read_dataset.py FOLDER [ENGINE...]

FOLDER has `expected.json` and two datasets, partitioned by `city` and `year`: `left_out`, in whose files there are no
partition columns, and `kept`, in whose files they are. A difference is printed with engine, dataset, row and column, and
the exit code is 1.
"""

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Context, Decimal
from pathlib import Path
from typing import Any


@dataclass
class Rows:
    """What an engine has read: the logical type of each column, and the rows as JSON would have them."""

    types: dict[str, str]
    rows: list[dict[str, Any]]


def plain(value: Any, logical: str) -> Any:
    """A Python value as `expected.json` has it. What is not as its type says stays, and so differs."""
    if value is None:
        return None
    if inner := re.fullmatch(r"list<(.+)>", logical):
        return [plain(each, inner[1]) for each in value]
    if inner := re.fullmatch(r"struct<n:(\w+),s:(\w+)>", logical):
        return {"n": plain(value["n"], inner[1]), "s": plain(value["s"], inner[2])} | {k: v for k, v in value.items() if k not in "ns"}
    if inner := re.fullmatch(r"map<(\w+),(\w+)>", logical):
        return {plain(k, inner[1]): plain(v, inner[2]) for k, v in dict(value).items()}
    match value:
        case Decimal():
            # Spark hands even its own literal -0.0000000001 of decimal(38,10) to Python as -1.00E-10: the same value with two
            # more digits. So it is compared by the scale that the type says, unless that would lose something.
            scale = re.fullmatch(r"decimal\(\d+,(\d+)\)", logical)
            scaled = value.quantize(Decimal(1).scaleb(-int(scale[1])), context=Context(prec=76)) if scale else value
            return f"{scaled if scaled == value else value:f}"
        case bytes() | bytearray():
            return bytes(value).hex()
        case datetime():
            # All moments are in UTC; whether a column says so is in its type.
            naive = value.astimezone(timezone.utc).replace(tzinfo=None) if value.tzinfo else value
            return naive.isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
    return value


# --- DuckDB -----------------------------------------------------------------------------------------------------------

DUCKDB_TYPES = {
    "INTEGER": "int", "BIGINT": "bigint", "DOUBLE": "double", "BOOLEAN": "boolean", "DATE": "date",
    "TIMESTAMP": "timestamp", "TIMESTAMP_MS": "timestamp", "TIMESTAMP WITH TIME ZONE": "timestamp_utc",
    "VARCHAR": "string", "BLOB": "binary", "INTEGER[]": "list<int>", "MAP(VARCHAR, INTEGER)": "map<string,int>",
    "STRUCT(n INTEGER, s VARCHAR)": "struct<n:int,s:string>",
}  # fmt: skip


def duckdb(dataset: Path) -> Rows:
    import duckdb

    db = duckdb.connect()
    table = f"read_parquet('{dataset}/**/*.parquet', hive_partitioning = true)"
    described = db.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()

    def logical(declared: str) -> str:
        declared = declared.replace('"', "")
        if declared.startswith("DECIMAL"):
            return declared.lower()
        return DUCKDB_TYPES.get(declared, declared)

    types = {column[0]: logical(column[1]) for column in described}
    # A moment with a zone would need pytz to come to Python; what it is in UTC does not.
    columns = [f'make_timestamp(epoch_us("{c}")) AS "{c}"' if t == "timestamp_utc" else f'"{c}"' for c, t in types.items()]
    rows = db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
    return Rows(types, [{c: plain(v, types[c]) for c, v in zip(types, row)} for row in rows])


# --- pyarrow ----------------------------------------------------------------------------------------------------------


def pyarrow(dataset: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.dataset

    def logical(of: pa.DataType) -> str:
        t = pa.types
        if t.is_dictionary(of):
            return logical(of.value_type)
        if t.is_string(of) or t.is_large_string(of) or t.is_string_view(of):
            return "string"
        if t.is_timestamp(of) and of.unit in ("ms", "us") and of.tz in (None, "UTC"):
            return "timestamp_utc" if of.tz else "timestamp"
        if t.is_decimal128(of):
            return f"decimal({of.precision},{of.scale})"
        if t.is_list(of):
            return f"list<{logical(of.value_type)}>"
        if t.is_struct(of):
            return f"struct<{','.join(f'{field.name}:{logical(field.type)}' for field in of)}>"
        if t.is_map(of):
            return f"map<{logical(of.key_type)},{logical(of.item_type)}>"
        return {"int32": "int", "int64": "bigint", "bool": "boolean", "date32[day]": "date"}.get(str(of), str(of))

    table = pa.dataset.dataset(dataset, format="parquet", partitioning="hive").to_table()
    types = {field.name: logical(field.type) for field in table.schema}
    return Rows(types, [{c: plain(v, types[c]) for c, v in row.items()} for row in table.to_pylist()])


# --- Spark ------------------------------------------------------------------------------------------------------------

# The session, once there is one: Java is too slow to start twice.
SPARK: list[Any] = []


def spark(dataset: Path) -> Rows:
    from pyspark.sql import SparkSession

    if not SPARK:
        # `collect` shows moments in the zone of this process.
        os.environ["TZ"] = "UTC"
        time.tzset()
        options = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
        }
        builder = SparkSession.builder.master("local[1]").config(map=options)
        SPARK.append(builder.getOrCreate())
        SPARK[0].sparkContext.setLogLevel("ERROR")
    table = SPARK[0].read.parquet(str(dataset))

    def logical(of: str) -> str:
        # Spark's `timestamp` is a moment; what other engines call so is its `timestamp_ntz`.
        return {"timestamp": "timestamp_utc", "timestamp_ntz": "timestamp", "array<int>": "list<int>"}.get(of, of)

    types = {column: logical(of) for column, of in table.dtypes}
    rows = (row.asDict(recursive=True) for row in table.collect())
    return Rows(types, [{c: plain(v, types[c]) for c, v in row.items()} for row in rows])


# --- what must hold ---------------------------------------------------------------------------------------------------

ENGINES: dict[str, Callable[[Path], Rows]] = {"duckdb": duckdb, "pyarrow": pyarrow, "spark": spark}

# What an engine makes of the name of a folder is its own affair; it may be a wider type.
PARTITION_TYPES = {"string": {"string"}, "int": {"int", "bigint"}}


def differences(read: Rows, expected: dict[str, Any]) -> list[str]:
    found = []
    wanted = {column["name"]: column["type"] for column in expected["columns"]}
    for column in wanted.keys() | read.types.keys():
        is_type, wanted_type = read.types.get(column, "missing"), wanted.get(column, "no such column")
        allowed = PARTITION_TYPES[wanted_type] if column in expected["partitions"] else {wanted_type}
        if is_type not in allowed:
            found.append(f"column {column}: the type is {is_type}, not {wanted_type}")
    if len(read.rows) != len(expected["rows"]):
        found.append(f"{len(read.rows)} rows, not {len(expected['rows'])}")
    rows = {row["id"]: row for row in read.rows}
    for wanted_row in expected["rows"]:
        row = rows.get(wanted_row["id"])
        if row is None:
            found.append(f"row {wanted_row['id']} is missing")
            continue
        for column, value in wanted_row.items():
            # 1 is not True here, nor 1.0.
            if column in row and (type(row[column]), row[column]) != (type(value), value):
                found.append(f"row {row['id']}, column {column}: {row[column]!r}, not {value!r}")
    return found


def main() -> int:
    folder, *engines = sys.argv[1:]
    expected = json.loads((Path(folder) / "expected.json").read_text())
    failed = False
    for engine in engines or ENGINES:
        if engine == "spark" and not shutil.which("java"):
            print("!!! NO JAVA: Spark IS LEFT OUT", file=sys.stderr)
            continue
        for dataset in ("left_out", "kept"):
            start = time.monotonic()
            try:
                read = ENGINES[engine](Path(folder) / dataset)
                found = differences(read, expected)
            except Exception as error:  # Whatever an engine throws, the others are asked, too.
                found = [f"it fails: {type(error).__name__}: {error}"]
            for difference in found:
                print(f"{engine}, {dataset}: {difference}", file=sys.stderr)
            failed = failed or bool(found)
            rows = f"{len(expected['rows'])} rows, {len(expected['columns'])} columns"
            print(f"{engine}, {dataset}: {'DIFFERS' if found else rows + ' as written'} ({time.monotonic() - start:.1f} s)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
