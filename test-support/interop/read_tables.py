"""Lets jobs write tables by name, and reads them as others do: boto3 asks Glue, DuckDB and pyarrow read the files.

    read_tables.py FOLDER_OF_BINARIES

S3 and the Glue Data Catalog are moto's, in this process. The jobs `customer_events` (which creates its tables) and
`books_data_product` (whose table is there already, partitioned, as a template for CloudFormation would make it) are run
twice each with `--catalog glue`. Which rows they should write is worked out here from the fixtures. A difference is printed
with its table, and the exit code is 1.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

FIXTURES = Path(__file__).parents[2] / "fixtures" / "lake"
BUCKET, DATABASE = "lake", "glue_reference"
NULL = "__HIVE_DEFAULT_PARTITION__"
KNOWN_SINCE = "struct<first_name:timestamp,last_name:timestamp,email:timestamp>"

# What Athena and Spark want of a table of Parquet files.
PARQUET = {
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
}
SERDE = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"

Row = dict[str, Any]


@dataclass
class Table:
    """What must be there."""

    name: str
    columns: dict[str, str]
    rows: list[Row]
    keys: dict[str, str] = field(default_factory=dict)
    # Columns whose values nobody knows before.
    unknown: tuple[str, ...] = ()


# --- what the jobs should write ---------------------------------------------------------------------------------------


def fixtures(folder: str) -> Iterator[Row]:
    for file in sorted((FIXTURES / folder).iterdir()):
        yield from (json.loads(line) for line in file.read_text().splitlines() if line.strip())


def day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def books() -> Table:
    authors: dict[str, Row] = {author["name"]: author for author in fixtures("sample_data/json/authors")}
    rows = []
    for book in fixtures("sample_data/json/books"):
        author = authors.get(book.get("author"), {})
        rows.append({
            "title": book["title"],
            "publish_date": day(book.get("publish_date")),
            "author_birth_date": day(author.get("birth_date")),
            "author_id": author.get("id"),
            "author_name": book.get("author"),
        })  # fmt: skip
    columns = {"title": "string", "publish_date": "date", "author_birth_date": "date", "author_id": "bigint"}
    return Table("books", columns, rows, keys={"author_name": "string"})


def customers() -> list[Table]:
    """The last event of a customer decides."""
    last: dict[int, Row] = {}
    for event in sorted(fixtures("customer_events"), key=lambda event: event["ts_ms"]):
        last[(event["after"] or event["before"])["id"]] = event

    def moment(event: Row) -> datetime:
        return datetime.fromtimestamp(event["ts_ms"] / 1000, timezone.utc).replace(tzinfo=None)

    # Since when values are known is null where no update has left one out.
    there = [event["after"] | {"_as_of": moment(event), "_known_since": None} for event in last.values() if event["op"] != "d"]
    gone = [{"id": who, "_as_of": moment(event)} for who, event in last.items() if event["op"] == "d"]
    names = {"first_name": "string", "last_name": "string", "email": "string"}
    times = {"_as_of": "timestamp", "_applied_at": "timestamp"}
    return [
        Table("customers", {"id": "bigint"} | names | {"_as_of": "timestamp", "_known_since": KNOWN_SINCE}, there),
        Table("customers_deleted", {"id": "bigint"} | times, gone, unknown=("_applied_at",)),
    ]


# --- AWS, as moto plays it --------------------------------------------------------------------------------------------


class Aws:
    def __init__(self, endpoint: str) -> None:
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        self.env = keys | {"AWS_ENDPOINT_URL": endpoint}
        self.endpoint = endpoint
        given = {"endpoint_url": endpoint, "region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.s3, self.glue = boto3.client("s3", **given), boto3.client("glue", **given)
        self.s3.create_bucket(Bucket=BUCKET)
        self.glue.create_database(DatabaseInput={"Name": DATABASE})

    def create(self, table: Table) -> None:
        """As CloudFormation does from a template."""

        def typed(columns: dict[str, str]) -> list[dict[str, str]]:
            return [{"Name": name, "Type": of} for name, of in columns.items()]

        storage = PARQUET | {"Location": f"s3://{BUCKET}/out/books", "Columns": typed(table.columns)}
        self.glue.create_table(
            DatabaseName=DATABASE,
            TableInput={
                "Name": table.name,
                "TableType": "EXTERNAL_TABLE",
                "Parameters": {"EXTERNAL": "TRUE", "classification": "parquet"},
                "PartitionKeys": typed(table.keys),
                "StorageDescriptor": storage | {"SerdeInfo": {"SerializationLibrary": SERDE}},
            },
        )

    def run(self, job: Path) -> None:
        """Runs a job twice: the second run must change nothing that readers see."""
        args = ["--source", FIXTURES, "--target", f"s3://{BUCKET}/out", "--target-database", DATABASE, "--catalog", "glue"]
        for _ in range(2):
            done = subprocess.run([job, *args, "--state", f"s3://{BUCKET}/state"], env=self.env, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{job.name} ended with {done.returncode}\n{done.stderr}")

    def partitions(self, name: str) -> list[dict[str, Any]]:
        pages = self.glue.get_paginator("get_partitions").paginate(DatabaseName=DATABASE, TableName=name)
        return [partition for page in pages for partition in page["Partitions"]]

    def files(self, location: str) -> list[tuple[str, int]]:
        """The keys and sizes of what is directly in a folder, without what is hidden."""
        prefix = location.removeprefix(f"s3://{BUCKET}/").rstrip("/") + "/"
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix, Delimiter="/").get("Contents", [])
        return [(o["Key"], o["Size"]) for o in found if not o["Key"].removeprefix(prefix).startswith(("_", "."))]


# --- engines: the rows of some files ----------------------------------------------------------------------------------

DUCKDB_TYPES = {
    "VARCHAR": "string",
    "BIGINT": "bigint",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "STRUCT(first_name TIMESTAMP, last_name TIMESTAMP, email TIMESTAMP)": KNOWN_SINCE,
}


def duckdb(aws: Aws, keys: list[str]) -> tuple[dict[str, str], list[Row]]:
    import duckdb

    # Its extension for S3 would have to be downloaded, and so the files are instead.
    with tempfile.TemporaryDirectory() as folder:
        for number, key in enumerate(keys):
            aws.s3.download_file(BUCKET, key, f"{folder}/{number}.parquet")
        read = duckdb.connect().execute(f"SELECT * FROM read_parquet('{folder}/*.parquet', hive_partitioning = false)")
        types = {column[0]: DUCKDB_TYPES.get(str(column[1]), str(column[1])) for column in read.description}
        return types, [dict(zip(types, row)) for row in read.fetchall()]


ARROW_TYPES = {
    "large_string": "string",
    "int64": "bigint",
    "date32[day]": "date",
    "timestamp[us]": "timestamp",
    "struct<first_name: timestamp[us], last_name: timestamp[us], email: timestamp[us]>": KNOWN_SINCE,
}


def pyarrow(aws: Aws, keys: list[str]) -> tuple[dict[str, str], list[Row]]:
    import pyarrow.dataset
    import pyarrow.fs

    s3 = pyarrow.fs.S3FileSystem(access_key="test", secret_key="test", region="us-east-1", endpoint_override=aws.endpoint)
    paths = [f"{BUCKET}/{key}" for key in keys]
    table = pyarrow.dataset.dataset(paths, filesystem=s3, format="parquet", partitioning=None).to_table()
    return {f.name: ARROW_TYPES.get(str(f.type), str(f.type)) for f in table.schema}, table.to_pylist()


ENGINES: dict[str, Callable[[Aws, list[str]], tuple[dict[str, str], list[Row]]]] = {"duckdb": duckdb, "pyarrow": pyarrow}


# --- what must hold ---------------------------------------------------------------------------------------------------


class Differences(list[str]):
    def unless(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            self.append(f"{what} is {found!r}, not {wanted!r}")


def typed(columns: list[dict[str, str]]) -> dict[str, str]:
    return {column["Name"]: column["Type"] for column in columns}


def storage(found: Differences, what: str, of: dict[str, Any], table: Table) -> None:
    found.unless(f"{what}: Columns", list(typed(of["Columns"]).items()), list(table.columns.items()))
    for key, wanted in PARQUET.items():
        found.unless(f"{what}: {key}", of.get(key), wanted)
    found.unless(f"{what}: SerDe", of.get("SerdeInfo", {}).get("SerializationLibrary"), SERDE)


def counted(found: Differences, what: str, parameters: dict[str, str], rows: int, size: int) -> None:
    found.unless(f"{what}: recordCount", parameters.get("recordCount"), str(rows))
    found.unless(f"{what}: totalSize", parameters.get("totalSize"), str(size))


def same_rows(found: Differences, what: str, table: Table, read: tuple[dict[str, str], list[Row]], wanted: list[Row]) -> None:
    types, rows = read
    found.unless(f"{what}: types", types, table.columns)

    def known(row: Row) -> list[tuple[str, str]]:
        return sorted((c, repr(v)) for c, v in row.items() if c in table.columns and c not in table.unknown)

    found.unless(f"{what}: rows", sorted(map(known, rows)), sorted(map(known, wanted)))
    empty = [column for column in table.unknown if any(row.get(column) is None for row in rows)]
    found.unless(f"{what}: columns with nulls", empty, [])


def differences(aws: Aws, table: Table) -> Differences:
    found = Differences()
    described = aws.glue.get_table(DatabaseName=DATABASE, Name=table.name)["Table"]
    parameters = described["Parameters"]
    found.unless("TableType", described.get("TableType"), "EXTERNAL_TABLE")
    found.unless("EXTERNAL", parameters.get("EXTERNAL"), "TRUE")
    found.unless("classification", parameters.get("classification"), "parquet")
    found.unless("PartitionKeys", list(typed(described.get("PartitionKeys", [])).items()), list(table.keys.items()))
    storage(found, "table", described["StorageDescriptor"], table)

    # Where the rows are, by the values of the partition, and what is known of them.
    partitions = {tuple(p["Values"]): p for p in aws.partitions(table.name)} if table.keys else {(): described}
    wanted: dict[tuple[str, ...], list[Row]] = {} if table.keys else {(): []}
    for row in table.rows:
        wanted.setdefault(tuple(NULL if row[key] is None else str(row[key]) for key in table.keys), []).append(row)
    found.unless("partitions", sorted(partitions), sorted(wanted))
    all_files = []
    for values in partitions.keys() & wanted.keys():
        partition, what = partitions[values], f"partition {'/'.join(values)}" if values else "its folder"
        files = aws.files(partition["StorageDescriptor"]["Location"])
        all_files += files
        storage(found, what, partition["StorageDescriptor"], table)
        counted(found, what, partition["Parameters"], len(wanted[values]), sum(size for _, size in files))
        for engine, read in ENGINES.items():
            try:
                same_rows(found, f"{what}, {engine}", table, read(aws, [key for key, _ in files]), wanted[values])
            except Exception as error:  # Whatever an engine throws, the other is asked, too.
                found.append(f"{what}, {engine} fails: {type(error).__name__}: {error}")
    counted(found, "table", parameters, len(table.rows), sum(size for _, size in all_files))
    return found


def main() -> int:
    binaries = Path(sys.argv[1])
    # moto's server would print each request.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        aws = Aws(f"http://{host}:{port}")
        by_author = books()
        aws.create(by_author)
        for job in ("customer_events", "books_data_product"):
            aws.run(binaries / job)
        failed = False
        for table in [by_author, *customers()]:
            found = differences(aws, table)
            for difference in found:
                print(f"{table.name}: {difference}", file=sys.stderr)
            failed = failed or bool(found)
            said = f"Glue, DuckDB and pyarrow have the {len(table.columns) + len(table.keys)} columns and {len(table.rows)} rows"
            print(f"table {table.name}: {'DIFFERS' if found else said}")
        return int(failed)
    finally:
        server.stop()


if __name__ == "__main__":
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    sys.exit(main())
