"""The observations by day with Polars: as plain Parquet, and as an Iceberg table by PyIceberg."""

from pathlib import Path

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

COLUMNS = dict.fromkeys("date patient encounter category code description value units type".split(), pl.String)
MODES = {"": "the fastest for the case"}


def write_table(rows: pl.LazyFrame, out: str) -> None:
    """PyIceberg takes all rows at once, and writes the partitions itself."""
    from pyiceberg.transforms import DayTransform

    place = Path(out).resolve().parent
    catalog = arguments.sql_catalog(str(place))
    catalog.create_namespace("lake")
    data = rows.collect(engine="streaming").to_arrow()
    # The files of rows are the result; those of metadata are beside it.
    properties = {"write.data.path": str(Path(out).resolve())}
    table = catalog.create_table("lake.observations", schema=data.schema, location=f"{place}/table", properties=properties)
    with table.update_spec() as update:
        update.add_field("date", DayTransform(), "date_day")
    table.append(data)


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", MODES, suite="iceberg")
    rows = pl.scan_csv(f"{args.data}/observations.csv", schema=COLUMNS)
    rows = rows.with_columns(col("date").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us"))
    if args.case == "table":
        write_table(rows, args.out)
    else:
        day = rows.with_columns(col("date").dt.date().alias("day")).sort("day")
        day.sink_parquet(pl.PartitionBy(args.out, key="day", include_key=False, approximate_bytes_per_file=None), mkdir=True)


if __name__ == "__main__":
    main()
