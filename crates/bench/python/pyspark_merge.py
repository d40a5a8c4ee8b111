"""Merges change events into customers with PySpark on this machine: the last event of each customer, in one file."""

import os
import shutil
import sys

import arguments
import pyspark

if not (shutil.which("java") or os.getenv("JAVA_HOME")):
    sys.exit("Spark needs Java, and there is none")
args = arguments.parse("PySpark", lambda: f"PySpark {pyspark.__version__}", suite="merge")
arguments.become_spark(args)

from pyspark.sql import functions as F

CUSTOMER = "struct<id: bigint, first_name: string, last_name: string, email: string>"
FOLDER = {"insert": "inserts", "change": "changes"}


def main() -> None:
    spark = arguments.spark_session(args, "zstd")
    schema = f"before {CUSTOMER}, after {CUSTOMER}, op string, ts_ms bigint"
    events = spark.read.json(f"{args.data}/{FOLDER[args.case]}/customer_events", schema=schema)
    step = F.when(F.col("op") == "d", 3).when(F.col("op") == "u", 2).when(F.col("op") == "c", 1).otherwise(0)
    changes = events.select(F.coalesce("after", "before").alias("customer"), "ts_ms", step.alias("step"))
    if args.case == "change":
        # Current customers come before all events of their millisecond.
        current = spark.read.parquet(args.out).select(
            F.struct("id", "first_name", "last_name", "email").alias("customer"),
            F.unix_millis(F.col("_as_of").cast("timestamp")).alias("ts_ms"),
            F.lit(-1).alias("step"),
        )
        changes = current.unionByName(changes)
    last = changes.groupBy(F.col("customer.id").alias("key")).agg(
        F.max_by(F.struct("customer", "ts_ms", "step"), F.col("ts_ms") * 8 + F.col("step")).alias("last")
    )
    as_of = F.timestamp_millis("last.ts_ms").alias("_as_of")
    customers = last.filter("last.step <> 3").select("last.customer.*", as_of)
    new = f"{args.out}.new"
    customers.coalesce(1).write.mode("overwrite").parquet(new)
    # A table cannot be overwritten while it is read.
    shutil.rmtree(args.out)
    os.rename(new, args.out)
    spark.stop()


main()
