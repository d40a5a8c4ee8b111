"""Merges change events into customers with Polars: the last event of each customer, in one file."""

import os

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

CUSTOMER = {"id": pl.Int64} | dict.fromkeys("first_name last_name email".split(), pl.String)
EVENT = {"before": pl.Struct(CUSTOMER), "after": pl.Struct(CUSTOMER), "op": pl.String, "ts_ms": pl.Int64}
FOLDER = {"insert": "inserts", "change": "changes"}
STEPS = {"r": 0, "c": 1, "u": 2, "d": 3}


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", suite="merge")
    file = f"{args.out}/customers.parquet"
    events = pl.scan_ndjson(f"{args.data}/{FOLDER[args.case]}/customer_events/*.jsonl", schema=EVENT)
    after = col("after").struct.field
    changes = events.select(
        pl.coalesce(after("id"), col("before").struct.field("id")).alias("id"),
        *[after(name) for name in CUSTOMER if name != "id"],
        col("ts_ms"),
        col("op").replace_strict(STEPS, return_dtype=pl.Int64).alias("step"),
    )
    if args.case == "change":
        # Current customers come before all events of their millisecond.
        current = pl.scan_parquet(file).select(
            *CUSTOMER, col("_as_of").dt.timestamp("ms").alias("ts_ms"), pl.lit(-1, pl.Int64).alias("step")
        )
        changes = pl.concat([current, changes])
    order = col("ts_ms") * 8 + col("step")
    last = changes.with_columns(order.alias("order")).group_by("id").agg(
        pl.all().exclude("id", "order").get(col("order").arg_max())
    )
    customers = last.filter(col("step") != 3).select(
        *CUSTOMER, pl.from_epoch("ts_ms", time_unit="ms").cast(pl.Datetime("us")).alias("_as_of")
    )
    customers.sink_parquet(f"{file}.new", compression="zstd", maintain_order=False, engine="streaming")
    os.replace(f"{file}.new", file)


main()
