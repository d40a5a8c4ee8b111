"""The observations with Polars: written, and then checked in what was written, by Polars itself or by pandera."""

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

COLUMNS = dict.fromkeys("date patient encounter category code description value units type".split(), pl.String)
DAY = ["year", "month", "day"]
BOOLEANS = ["t", "true", "y", "yes", "1", "f", "false", "n", "no", "0"]


def check(args) -> None:
    """The checks of bench_quality.rs."""
    # Read once: a scan would be read again for each of the frames below, in twice the time.
    rows = pl.read_parquet(f"{args.out}/**/*.parquet", hive_partitioning=True).lazy()
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


def check_with_pandera(args) -> None:
    """The checks of bench_quality.rs as a schema of pandera. What it has no check for is a function of the data frame."""
    import pandera.polars as pa

    numeric = col("type") == "numeric"

    def of_frame(passes) -> pa.Check:
        return pa.Check(lambda data: bool(passes(data.lazyframe).collect().item()))

    def unique(*columns: str) -> pa.Check:
        return of_frame(
            lambda rows: rows.group_by(columns).len().select((col("len") == 1).sum() / col("len").sum() > 0.1)
        )

    patients = pl.scan_csv(f"{args.data}/patients.csv").select("id").unique()
    text = {"dtype": pl.String, "nullable": True}
    schema = pa.DataFrameSchema(
        {
            "patient": pa.Column(pl.String, pa.Check.str_length(36, 36)),
            "encounter": pa.Column(**text),
            "category": pa.Column(**text, checks=pa.Check.ne("")),
            "code": pa.Column(pl.String, [pa.Check.str_length(1, 19), pa.Check.str_matches("^[0-9A-Z-]+$")]),
            "description": pa.Column(pl.String, pa.Check.str_length(1, 299)),
            "value": pa.Column(**text),
            "units": pa.Column(
                **text, checks=[pa.Check.str_length(0, 59), pa.Check.notin(["kilogram", "metre", "second"])]
            ),
            "type": pa.Column(pl.String, pa.Check.isin(["numeric", "text"])),
            "year": pa.Column(checks=pa.Check.in_range(1900, 2100, False, False)),
            "month": pa.Column(checks=pa.Check.in_range(0, 13, False, False)),
            "day": pa.Column(checks=pa.Check.in_range(0, 32, False, False)),
        },
        checks=[
            of_frame(lambda rows: rows.select(col("encounter").is_not_null().mean() > 0.5)),
            of_frame(lambda rows: rows.select(col("value").is_not_null().mean() > 0.5)),
            of_frame(
                lambda rows: rows.select(
                    (numeric & col("value").cast(pl.Float64, strict=False).is_not_null()).sum() / numeric.sum() > 0.9
                )
            ),
            of_frame(lambda rows: rows.select((~col("code").str.to_lowercase().is_in(BOOLEANS)).mean() > 0.9)),
            of_frame(lambda rows: rows.select(pl.len() > 1000)),
            of_frame(lambda rows: rows.select(col("year").mean().is_between(1950, 2050, closed="none"))),
            unique("patient", "encounter", "code", "value"),
            unique("encounter", "description"),
            of_frame(
                lambda rows: rows.select(
                    col("patient").is_in(patients.collect().to_series().implode()).mean() >= 0.99
                )
            ),
        ],
        strict=True,
    )
    schema.validate(pl.read_parquet(f"{args.out}/**/*.parquet", hive_partitioning=True), lazy=True)


MODES = {"": "Polars checks by itself", "pandera": "pandera checks"}


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", MODES, suite="quality")
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
        {"": check, "pandera": check_with_pandera}[args.mode](args)


main()
