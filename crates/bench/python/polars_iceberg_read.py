"""Asks the observations by category with Polars: of plain files, and of the Iceberg tables that have the same files."""

from datetime import date, datetime

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

MODES = {
    "": "the plain files, in folders of their partitions",
    "iceberg": "the Iceberg tables, whose files Polars reads",
    "pyiceberg": "the Iceberg tables, whose files PyIceberg reads",
}
FOLDERS = {"days": ("observations", {"date_day": pl.Date}), "years": ("by_year", {"date_year": pl.Int32})}
TABLES = {"days": "lake.observations", "years": "lake.by_year"}
COLUMNS = ("category", "patient", "description")


def version() -> str:
    if not arguments.mode():
        return f"Polars {pl.__version__}"
    import pyiceberg

    return f"Polars {pl.__version__} with PyIceberg {pyiceberg.__version__}"


def main() -> None:
    args = arguments.parse("Polars", version, MODES, suite="iceberg-read")
    which, _, year = args.case.partition("_")
    if not args.mode:
        folder, keys = FOLDERS[which]
        rows = pl.scan_parquet(f"{args.data}/files/{folder}/*/*.parquet", hive_partitioning=True, hive_schema=keys)
        if year and which == "days":
            rows = rows.filter(col("date_day") >= date(2020, 1, 1), col("date_day") < date(2021, 1, 1))
        elif year:
            rows = rows.filter(col("date_year") == 2020)
    else:
        table = arguments.sql_catalog(f"{args.data}/state").load_table(TABLES[which])
        if args.mode == "iceberg":
            rows = pl.scan_iceberg(table)
            if year:
                rows = rows.filter(col("date") >= datetime(2020, 1, 1), col("date") < datetime(2021, 1, 1))
        else:
            where = "date >= '2020-01-01T00:00:00' and date < '2021-01-01T00:00:00'"
            scan = table.scan(row_filter=where, selected_fields=COLUMNS) if year else table.scan(selected_fields=COLUMNS)
            rows = pl.from_arrow(scan.to_arrow()).lazy()
    counted = rows.group_by("category").agg(
        pl.len().cast(pl.Int64).alias("observations"),
        col("patient").n_unique().cast(pl.Int64).alias("patients"),
        col("description").str.len_chars().sum().cast(pl.Int64).alias("characters"),
    )
    counted.collect(engine="streaming").write_parquet(f"{args.out}/rows.parquet")


main()
