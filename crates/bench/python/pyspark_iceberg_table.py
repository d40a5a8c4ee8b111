"""The observations by day with PySpark on this machine: as plain Parquet, and as an Iceberg table."""

import os
import shutil
import sys
from pathlib import Path

import arguments

if "PYSPARK_GATEWAY_PORT" not in os.environ:
    arguments.become_python_with_iceberg()

import pyspark

if not (shutil.which("java") or os.getenv("JAVA_HOME")):
    sys.exit("Spark needs Java, and there is none")
sys.path.append(str(Path(__file__).parents[3] / "test-support/interop"))


def version() -> str:
    import iceberg_runtime  # noqa: F401

    return f"PySpark {pyspark.__version__} with Iceberg"


args = arguments.parse("PySpark", version, suite="iceberg")
place = Path(args.out).resolve().parent
if "PYSPARK_GATEWAY_PORT" not in os.environ:
    import iceberg_runtime

    arguments.become_spark(args, iceberg_runtime.jars(place))

from pyspark.sql import functions as F

COLUMNS = """date timestamp, patient string, encounter string, category string, code string, description string,
    value string, units string, type string"""


def main() -> None:
    spark = arguments.spark_session(args, "zstd")
    rows = spark.read.csv(f"{args.data}/observations.csv", schema=COLUMNS, header=True)
    if args.case == "table":
        for key, value in {
            "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
            "spark.sql.catalog.lake.type": "hadoop",
            "spark.sql.catalog.lake.warehouse": str(place / "warehouse"),
        }.items():
            spark.conf.set(key, value)
        # The files of rows are the result; those of metadata are beside it. All rows of a day are in one task.
        table = rows.writeTo("lake.db.observations").partitionedBy(F.days("date"))
        table.tableProperty("write.data.path", str(Path(args.out).resolve())).create()
    else:
        rows = rows.withColumn("day", F.to_date("date"))
        rows.repartition("day").write.mode("overwrite").partitionBy("day").parquet(args.out)
    spark.stop()


main()
