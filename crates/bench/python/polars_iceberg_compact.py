"""Rewrites the small files of the observations with Polars: one file per year, in any order or sorted."""

import arguments

arguments.limit_polars()

import polars as pl
from polars import col


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", suite="iceberg-compact")
    rows = pl.scan_parquet(f"{args.data}/files/observations/*/*.parquet", hive_partitioning=False)
    rows = rows.with_columns(col("date").dt.year().alias("date_year"))
    rows = rows.sort("date_year", "patient", "date") if args.case == "sorted" else rows.sort("date_year")
    years = pl.PartitionBy(args.out, key="date_year", include_key=False, approximate_bytes_per_file=None)
    rows.sink_parquet(years, compression="zstd", mkdir=True, engine="streaming")


main()
