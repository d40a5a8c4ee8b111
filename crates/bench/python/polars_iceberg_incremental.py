"""Reads the last batch of an Iceberg table with Polars or PyIceberg, by a filter, and writes it as Parquet."""

import arguments

arguments.limit_polars()

import polars as pl
import pyiceberg
from polars import col

MODES = {"": "Polars reads the files that PyIceberg names", "pyiceberg": "PyIceberg reads them"}


def main() -> None:
    version = f"Polars {pl.__version__} with PyIceberg {pyiceberg.__version__}"
    args = arguments.parse("Polars", lambda: version, MODES, suite="iceberg-incremental")
    table = arguments.sql_catalog(f"{args.data}/state").load_table("lake.observations")
    if args.mode == "pyiceberg":
        pl.from_arrow(table.scan(row_filter="batch == 1").to_arrow()).write_parquet(f"{args.out}/rows.parquet")
    else:
        rows = pl.scan_iceberg(table).filter(col("batch") == 1)
        rows.sink_parquet(f"{args.out}/rows.parquet", compression="zstd", engine="streaming")


main()
