"""The command line of all scripts: `X_SUITE.py CASE DATA OUT [--threads N] [--memory-limit SIZE] [--mode MODE]`."""

import argparse

DATA = {
    "elt": "folder of encounters.csv, observations.csv, conditions.csv, patients.csv",
    "merge": "folder of inserts/customer_events and changes/customer_events",
    "json": "folder of access and access_gzip",
    "access": "folder of plain/access_records and gzip/access_records",
    "scan": "folder of lake/observations",
    "quality": "folder of observations.csv and patients.csv",
    "iceberg": "folder of observations.csv",
    "iceberg-merge": "folder of inserts/customer_events, changes/customer_events and few/customer_events",
    "iceberg-read": "folder of files/observations, files/by_year and state/catalog.sqlite",
    "iceberg-incremental": "folder of state/catalog.sqlite",
    "iceberg-compact": "folder of files/observations",
    "compare": "folder of before and after",
    "snapshots": "folder of year/policy_events and late/policy_events",
}
CASES = {
    "elt": ("encounters", "observations", "sinusitis"),
    "merge": ("insert", "change"),
    "json": ("few", "all", "all_gzip"),
    "access": ("plain", "gzip"),
    "scan": ("full", "year"),
    "quality": ("alone", "audited"),
    "iceberg": ("plain", "table"),
    "iceberg-merge": ("insert", "change", "few"),
    "iceberg-read": ("days", "days_2020", "years", "years_2020"),
    "iceberg-incremental": ("batch",),
    "iceberg-compact": ("unsorted", "sorted"),
    "compare": ("customers",),
    "snapshots": ("year", "late"),
}


def parse(engine: str, version, modes: dict[str, str] | None = None, suite: str = "elt") -> argparse.Namespace:
    """Parses the command line of one engine.

    `version` is called for `--version`, which says whether the engine can run here. `modes` are the ways to do the
    work; the empty name is what is fastest for the case.
    """
    modes = modes or {"": "the only one"}
    parser = argparse.ArgumentParser(
        description=f"The cases of {suite} with {engine}",
        epilog="modes: " + "; ".join(f"{name}: {what}" for name, what in modes.items()),
    )
    parser.add_argument("case", choices=CASES[suite])
    parser.add_argument("data", help=DATA[suite])
    parser.add_argument("out", help="folder to write to; it holds what the case begins with, or is empty")
    parser.add_argument("--threads", type=int, help="default: one per core")
    parser.add_argument("--memory-limit", help="for example 1GiB, if the engine has such a limit")
    parser.add_argument("--mode", choices=modes, default="")
    parser.add_argument("--version", action="version", version=version())
    return parser.parse_args()


def mode() -> str:
    """The mode, for what must happen before anything is imported."""
    import sys

    return sys.argv[sys.argv.index("--mode") + 1] if "--mode" in sys.argv[:-1] else ""


def limit_polars() -> None:
    """Passes `--threads` to Polars, which reads it when it is imported."""
    import os
    import sys

    if "--threads" in sys.argv:
        os.environ["POLARS_MAX_THREADS"] = sys.argv[sys.argv.index("--threads") + 1]


def connect(args: argparse.Namespace):
    """A DuckDB with the settings of all scripts."""
    import duckdb

    db = duckdb.connect()
    db.execute("set TimeZone = 'UTC'; set preserve_insertion_order = false; set enable_progress_bar = false")
    if args.threads:
        db.execute(f"set threads = {args.threads}")
    if args.memory_limit:
        db.execute(f"set memory_limit = '{args.memory_limit}'")
    return db


def become_python_with_iceberg() -> None:
    """Turns this process into one of the Python with the DuckDB and the Spark that Iceberg's extensions exist for."""
    import os
    import sys

    other = os.environ.get("HARDTACK_BENCH_ICEBERG_PYTHON") or os.path.expanduser("~/.cache/hardtack/iceberg-venv/bin/python")
    # What it became is not to become it again.
    if os.environ.pop("HARDTACK_BENCH_BECAME", None) == other:
        return
    if not os.access(other, os.X_OK):
        sys.exit(f"there is no Python with Iceberg: `.ci/bench-python --in` fills {os.path.dirname(os.path.dirname(other))}")
    os.environ["HARDTACK_BENCH_BECAME"] = other
    os.execv(other, [other, *sys.argv])


def connect_with_iceberg(args: argparse.Namespace):
    """A DuckDB with the extension that its package brings."""
    import duckdb_extensions

    db = connect(args)
    for extension in ["avro", "iceberg"]:
        duckdb_extensions.import_extension(extension, con=db)
    return db


def metadata_location(catalog: str, table: str) -> str:
    """The current metadata of a table of an SQL catalog."""
    import sqlite3

    found = sqlite3.connect(f"file:{catalog}?mode=ro", uri=True).execute(
        "select metadata_location from iceberg_tables where table_namespace || '.' || table_name = ?", [table]
    )
    return found.fetchone()[0]


def sql_catalog(state: str):
    """PyIceberg's view of the catalog that is embedded in a state, which is created if it is not there."""
    from pathlib import Path

    from pyiceberg.catalog import load_catalog

    return load_catalog("hardtack", type="sql", uri=f"sqlite:///{Path(state).resolve()}/catalog.sqlite")


def become_spark(args: argparse.Namespace, jars: list[str] | None = None) -> None:
    """Turns this process into the JVM, with these jars, so that its memory and processor time are what is measured."""
    import os
    import sys

    import pyspark

    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return
    submit = os.path.join(os.path.dirname(pyspark.__file__), "bin", "spark-submit")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_HOME"] = os.path.dirname(pyspark.__file__)
    master = f"local[{args.threads or os.cpu_count()}]"
    options = ["--master", master, "--driver-memory", "6g", "--conf", "spark.ui.enabled=false"]
    if jars:
        options += ["--jars", ",".join(jars)]
    os.execv(submit, [submit, *options, os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def spark_session(args: argparse.Namespace, codec: str):
    """A Spark session with the settings of all scripts."""
    import os

    from pyspark.sql import SparkSession

    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": 4 * (args.threads or os.cpu_count()),
        "spark.sql.parquet.compression.codec": codec,
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # Files are renamed by the tasks, not one after another by the driver.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": 2,
        "spark.ui.showConsoleProgress": False,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    builder = SparkSession.builder.appName(args.case)
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def replace_partitions(new: str, folder: str) -> None:
    """Replaces those partitions of a data set that are in a new folder."""
    import os
    import shutil

    os.makedirs(folder, exist_ok=True)
    for partition in sorted(os.listdir(new)):
        shutil.rmtree(f"{folder}/{partition}", ignore_errors=True)
        os.rename(f"{new}/{partition}", f"{folder}/{partition}")
    os.rmdir(new)
