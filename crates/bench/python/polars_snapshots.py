"""Rebuilds monthly snapshots of policies with Polars: the last version of each policy up to each month."""

import os
import shutil

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

EVENT = {
    "policy_id": pl.String,
    "holder": pl.String,
    "premium": pl.Float64,
    "status": pl.String,
    "effective_date": pl.String,
    "recorded_at": pl.String,
}
COLUMNS = [*EVENT, "deleted"]


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", suite="snapshots")
    events = pl.scan_ndjson(f"{args.data}/{args.case}/policy_events/*.jsonl", schema=EVENT).select(
        "policy_id",
        "holder",
        col("premium").round(2).cast(pl.Decimal(12, 2)),
        "status",
        col("effective_date").str.to_date("%Y-%m-%d"),
        col("recorded_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us"),
        (col("status") == "deleted").alias("deleted"),
    ).collect(engine="streaming")
    since = events["effective_date"].dt.truncate("1mo")
    months = pl.date_range(since.min(), pl.date(2025, 12, 1), "1mo", eager=True)
    new = f"{args.out}.new"
    shutil.rmtree(new, ignore_errors=True)
    order = col("effective_date").cast(pl.Int64) * 10_000_000_000 + col("recorded_at").dt.epoch("s")
    # Month by month: a snapshot is the one before, or what it was, and the events up to its end.
    snapshot = None
    for month in months:
        parts = [events.filter(since <= month).lazy()]
        if args.case == "late":
            parts.append(pl.scan_parquet(f"{args.out}/month={month}/*.parquet", hive_partitioning=False).select(COLUMNS))
        elif snapshot is not None:
            parts = [snapshot.lazy(), events.filter(since == month).lazy()]
        rows = pl.concat(parts).with_columns(order.alias("order"))
        last = rows.group_by("policy_id").agg(pl.all().exclude("order").get(col("order").arg_max()))
        snapshot = last.select(COLUMNS).collect(engine="streaming")
        os.makedirs(f"{new}/month={month}")
        snapshot.write_parquet(f"{new}/month={month}/part.parquet", compression="zstd")
    arguments.replace_partitions(new, args.out)


main()
