"""The three ELT cases with Polars, one file per partition."""

import os

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

MODES = {
    "": "the fastest for the case",
    "streaming": "the streaming partitioned sink",
    "sorted": "the streaming partitioned sink, sorted by partition first",
    "collect": "all in memory, split by partition, a file for each",
}
# Measured at scale 1 on 2 cores, see README.md.
FASTEST = {"encounters": "sorted", "observations": "sorted", "sinusitis": "streaming"}

COLUMNS = {
    "encounters": dict.fromkeys("id start stop patient organization provider payer encounterclass".split(), pl.String)
    | {"code": pl.Int64, "description": pl.String}
    | dict.fromkeys("base_encounter_cost total_claim_cost payer_coverage".split(), pl.Float64)
    | {"reasoncode": pl.Int64, "reasondescription": pl.String},
    "observations": dict.fromkeys(
        "date patient encounter category code description value units type".split(), pl.String
    ),
    "conditions": {
        "start": pl.Date,
        "stop": pl.Date,
        "patient": pl.String,
        "encounter": pl.String,
        "code": pl.Int64,
        "description": pl.String,
    },
    "patients": {"id": pl.String, "birthdate": pl.Date, "deathdate": pl.Date}
    | dict.fromkeys("ssn drivers passport prefix first last suffix maiden marital".split(), pl.String)
    | dict.fromkeys("race ethnicity gender birthplace address city state county zip".split(), pl.String)
    | dict.fromkeys("lat lon healthcare_expenses healthcare_coverage".split(), pl.Float64),
}
DAY = ["year", "month", "day"]


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", MODES)
    mode = args.mode or FASTEST[args.case]

    def table(name: str) -> pl.LazyFrame:
        return pl.scan_csv(f"{args.data}/{name}.csv", schema=COLUMNS[name])

    def timestamp(name: str) -> pl.Expr:
        return col(name).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us")

    def save_by_day(rows: pl.LazyFrame, day: str) -> None:
        rows = rows.with_columns(
            col(day).dt.year().alias("year"),
            col(day).dt.month().cast(pl.Int32).alias("month"),
            col(day).dt.day().cast(pl.Int32).alias("day"),
        ).drop(day)
        if mode == "collect":
            parts = rows.collect(engine="streaming").partition_by(DAY, as_dict=True, include_key=False)
            for (year, month, day_of_month), part in parts.items():
                folder = f"{args.out}/year={year}/month={month}/day={day_of_month}"
                os.makedirs(folder)
                part.write_parquet(f"{folder}/0.parquet", compression="snappy")
            return
        if mode == "sorted":
            rows = rows.sort(DAY)
        # Without a limit of bytes a partition is one file.
        target = pl.PartitionBy(args.out, key=DAY, include_key=False, approximate_bytes_per_file=None)
        rows.sink_parquet(
            target, compression="snappy", mkdir=True, maintain_order=mode == "sorted", engine="streaming"
        )

    match args.case:
        case "encounters":
            # Duplicates are compared as text, which is cheaper than after parsing and the same: the text is canonical.
            symptoms = table("encounters").filter(
                col("description").str.contains("Encounter for symptom", literal=True), col("reasoncode").is_not_null()
            )
            distinct = symptoms.unique(maintain_order=False)
            save_by_day(distinct.with_columns(timestamp("start"), timestamp("stop")), "start")
        case "observations":
            save_by_day(table("observations").unique(maintain_order=False).with_columns(timestamp("date")), "date")
        case "sinusitis":
            conditions = table("conditions").filter(col("description").str.contains("sinusitis", literal=True))
            patients = table("patients").filter(
                pl.all_horizontal(col("ethnicity", "race", "gender", "marital").is_not_null())
            )
            # A condition's patient is one row, so what is distinct before the join is distinct after it.
            study = (
                conditions.unique(maintain_order=False)
                .join(patients.unique(maintain_order=False), left_on="patient", right_on="id")
                .select(
                    *COLUMNS["conditions"],
                    *"birthdate marital race ethnicity gender".split(),
                    condition_age=(col("start") - col("birthdate")).dt.total_days().cast(pl.Int32),
                )
            )
            study.sink_parquet(
                f"{args.out}/sinusitis.parquet", compression="snappy", maintain_order=False, engine="streaming"
            )


main()
