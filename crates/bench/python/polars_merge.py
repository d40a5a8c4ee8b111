"""Merges change events into customers with Polars: the last event of each customer, in one file."""

import os

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

CUSTOMER = {"id": pl.Int64} | dict.fromkeys("first_name last_name email".split(), pl.String)
EVENT = {"before": pl.Struct(CUSTOMER), "after": pl.Struct(CUSTOMER), "op": pl.String, "ts_ms": pl.Int64}
FOLDER = {"insert": "inserts", "change": "changes", "few": "few"}
STEPS = {"r": 0, "c": 1, "u": 2, "d": 3}


def changes(data: str, case: str) -> pl.LazyFrame:
    """The changes of a case, one per event."""
    after = col("after").struct.field
    events = pl.scan_ndjson(f"{data}/{FOLDER[case]}/customer_events/*.jsonl", schema=EVENT)
    return events.select(
        pl.coalesce(after("id"), col("before").struct.field("id")).alias("id"),
        *[after(name) for name in CUSTOMER if name != "id"],
        col("ts_ms"),
        col("op").replace_strict(STEPS, return_dtype=pl.Int64).alias("step"),
    )


def merge(changes: pl.LazyFrame, current: pl.LazyFrame | None) -> pl.LazyFrame:
    """The last version of every customer who is not deleted."""
    if current is not None:
        # Current customers come before all events of their millisecond.
        current = current.select(
            *CUSTOMER, col("_as_of").dt.timestamp("ms").alias("ts_ms"), pl.lit(-1, pl.Int64).alias("step")
        )
        changes = pl.concat([current, changes])
    order = col("ts_ms") * 8 + col("step")
    last = changes.with_columns(order.alias("order")).group_by("id").agg(
        pl.all().exclude("id", "order").get(col("order").arg_max())
    )
    return last.filter(col("step") != 3).select(
        *CUSTOMER, pl.from_epoch("ts_ms", time_unit="ms").cast(pl.Datetime("us")).alias("_as_of")
    )


def merge_file(args) -> None:
    file = f"{args.out}/customers.parquet"
    customers = merge(changes(args.data, args.case), None if args.case == "insert" else pl.scan_parquet(file))
    customers.sink_parquet(f"{file}.new", compression="zstd", maintain_order=False, engine="streaming")
    os.replace(f"{file}.new", file)


if __name__ == "__main__":
    merge_file(arguments.parse("Polars", lambda: f"Polars {pl.__version__}", suite="merge"))
