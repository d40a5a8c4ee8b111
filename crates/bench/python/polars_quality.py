"""The observations with Polars: written, and then checked in what was written."""

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

COLUMNS = dict.fromkeys("date patient encounter category code description value units type".split(), pl.String)
DAY = ["year", "month", "day"]
BOOLEANS = ["t", "true", "y", "yes", "1", "f", "false", "n", "no", "0"]


def check(args) -> None:
    """The checks of bench_quality.rs."""
    rows = pl.scan_parquet(f"{args.out}/**/*.parquet", hive_partitioning=True)
    numeric = col("type") == "numeric"
    rules = [col(column).is_not_null().all() for column in ("patient", "code", "description", "type")]
    rules += [col(column).is_not_null().mean() > 0.5 for column in ("encounter", "value")]
    rules += [
        (col("patient").str.len_chars() == 36).all(),
        col("code").str.len_chars().is_between(0, 20, closed="none").all(),
        col("description").str.len_chars().is_between(0, 300, closed="none").all(),
        (col("units").str.len_chars().fill_null(0) < 60).all(),
        col("type").is_in(["numeric", "text"]).all(),
        (col("category").fill_null("-") != "").all(),
        col("year").is_between(1900, 2100, closed="none").all(),
        col("month").is_between(0, 13, closed="none").all(),
        col("day").is_between(0, 32, closed="none").all(),
        col("code").str.contains("^[0-9A-Z-]+$").all(),
        (~col("units").fill_null("").is_in(["kilogram", "metre", "second"])).all(),
        (numeric & col("value").cast(pl.Float64, strict=False).is_not_null()).sum() / numeric.sum() > 0.9,
        (~col("code").str.to_lowercase().is_in(BOOLEANS)).mean() > 0.9,
        pl.len() > 1000,
        col("year").mean().is_between(1950, 2050, closed="none"),
    ]

    def uniqueness(*columns: str) -> pl.LazyFrame:
        groups = rows.group_by(columns).len()
        return groups.select((col("len") == 1).sum() / col("len").sum() > 0.1)

    patients = pl.scan_csv(f"{args.data}/patients.csv").select("id").unique()
    found = rows.select("patient").join(patients, left_on="patient", right_on="id", how="semi").select(pl.len())
    frames = [
        rows.select(rule.alias(str(i)) for i, rule in enumerate(rules)),
        uniqueness("patient", "encounter", "code", "value"),
        uniqueness("encounter", "description"),
        found,
        rows.select(pl.len()),
    ]
    verdicts, first, second, found, all_rows = pl.collect_all(frames, engine="streaming")
    assert all(verdicts.row(0)) and first.item() and second.item(), verdicts
    assert found.item() / all_rows.item() >= 0.99


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", suite="quality")
    rows = pl.scan_csv(f"{args.data}/observations.csv", schema=COLUMNS).unique(maintain_order=False)
    rows = rows.with_columns(col("date").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us"))
    rows = rows.with_columns(
        col("date").dt.year().alias("year"),
        col("date").dt.month().cast(pl.Int32).alias("month"),
        col("date").dt.day().cast(pl.Int32).alias("day"),
    ).drop("date")
    # As in polars_elt.py: the fastest of the ways to write one file for each day.
    target = pl.PartitionBy(args.out, key=DAY, include_key=False, approximate_bytes_per_file=None)
    rows.sort(DAY).sink_parquet(target, compression="snappy", mkdir=True, maintain_order=True, engine="streaming")
    if args.case == "audited":
        check(args)


main()
