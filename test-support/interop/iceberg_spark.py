"""Lets Spark read Iceberg tables that hardtack has written, and hardtack what Spark does to them.

    iceberg_spark.py FOLDER FOLDER_OF_BINARIES

After iceberg.py, on the same FOLDER. Spark reads tables of both format versions on `main`, writes to a branch, fast-forwards
`main` to it, and deletes rows as position deletes; `hardtack sql` must see all of that. A difference is printed, and the exit
code is 1.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
from iceberg import check, sql
from iceberg_runtime import jars
from pyiceberg.catalog import load_catalog
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import LongType
from pyspark.sql import SparkSession

def session(folder: Path) -> Any:
    builder = SparkSession.builder.master("local[1]").config("spark.jars", ",".join(jars(folder)))
    for key, value in {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.files": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.files.type": "hadoop",
        "spark.sql.catalog.files.warehouse": str(folder),
    }.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def for_hadoop(metadata: str) -> None:
    """Makes a table known to a catalog of Hadoop, which goes by the names of files."""
    folder = Path(metadata).parent
    shutil.copy(metadata, folder / "v1.metadata.json")
    (folder / "version-hint.text").write_text("1")


def main() -> int:
    folder, hardtack = Path(sys.argv[1]).resolve() / "iceberg", Path(sys.argv[2]).resolve() / "hardtack"
    file = folder / "catalog.sqlite"
    catalog = load_catalog("hardtack", type="sql", uri=f"sqlite:///{file}")
    spark = session(folder)
    columns = "id, b, i, d, price, t, cast(`on` as string) as day, tags, place.city as city"
    ours = 'id, b, i, d, price, t, cast("on" as string) as day, tags, place[\'city\'] as city'
    count = 0
    for version in [2, 3]:
        for name in ["by_text", "by_date", "by_bucket", "by_truncated_number", "by_hour", "by_month"]:
            table = f"{name}_v{version}"
            for_hadoop(catalog.load_table(f"lake.{table}").metadata_location)
            rows = [row.asDict() for row in spark.sql(f"select {columns} from files.lake.{table} order by id").collect()]
            wanted = sql(hardtack, file, f"select {ours} from lake.{table} order by id")
            show = lambda rows: [{k: float(v) if k in ("d", "price") and v is not None else v for k, v in row.items()} for row in rows]
            check(f"Spark, {table}", show(rows), show(wanted))
            count += 1
    print(f"iceberg: Spark has read {count} tables")

    table = "files.lake.by_text_v2"
    spark.sql(f"alter table {table} set tblproperties ('write.delete.mode' = 'merge-on-read')")
    spark.sql(f"alter table {table} create branch audit")
    spark.sql(f"insert into {table}.branch_audit select 21, b, i, f, d, price, big, 'spark', `on`, at, utc, tags, place from {table} where id = 1")
    head = lambda: spark.sql(f"select file from {table}.metadata_log_entries order by timestamp desc, latest_sequence_number desc limit 1").collect()[0][0]
    ids = lambda table: [row["id"] for row in sql(hardtack, file, f"select id from lake.{table} order by id")]
    register = lambda name: catalog.register_table(f"lake.{name}", head())
    before = ids("by_text_v2")
    register("spark_branch")
    check("hardtack, main before the fast-forward of Spark", ids("spark_branch"), before)
    check("hardtack, branch of Spark", ids('"spark_branch@audit"'), [*before, 21])
    spark.sql(f"call files.system.fast_forward('lake.by_text_v2', 'main', 'audit')")
    register("spark_forward")
    check("hardtack, main after the fast-forward of Spark", ids("spark_forward"), [*before, 21])
    spark.sql(f"insert into {table} select /*+ coalesce(1) */ explode(array(43, 44)), b, i, f, d, price, big, 'spark', `on`, at, utc, tags, place from {table} where id = 21")
    spark.sql(f"delete from {table} where id = 43")
    register("spark_deletes")
    check("hardtack, what Spark has deleted", ids("spark_deletes"), [*before, 21, 44])
    deletes = sql(hardtack, file, "select content, count(*) as n from lake.\"spark_deletes$files\" where content <> 'DATA' group by content")
    check("Spark has written position deletes", [row["content"] for row in deletes], ["POSITION_DELETES"])
    print("iceberg: hardtack has read what Spark has written, with its position deletes")

    # An order that hardtack writes files in, because Spark has given it to the table.
    spark.sql(f"alter table {table} write locally ordered by bucket(3, id), b desc nulls last, id desc, hours(at)")
    register("spark_ordered")
    options = ["--catalog", f"embedded:{file}", "--state", str(folder / "state")]
    done = subprocess.run([hardtack, *options, "iceberg", "compact", "lake.spark_ordered", "--all"], capture_output=True, text=True)
    check("hardtack compacts in Spark's order", done.stderr if done.returncode else "", "")
    check("hardtack, compacted in Spark's order", ids("spark_ordered"), [*before, 21, 44])
    files = catalog.load_table("lake.spark_ordered").inspect.files().to_pylist()
    check("files say that they are in Spark's order", {file["sort_order_id"] for file in files}, {1})
    bucket = BucketTransform(3).transform(LongType())
    order = lambda row: (bucket(row["id"]), row["b"] is None, not row["b"], -row["id"])
    for file in files:
        rows = parquet.read_table(file["file_path"], columns=["b", "id"]).to_pylist()
        check(f"{file['file_path']} is sorted", rows, sorted(rows, key=order))
    print(f"iceberg: {len(files)} files are in the order of Spark's table")
    spark.stop()
    from iceberg import failures

    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
