"""The observations with DuckDB: written, and then checked in what was written."""

import arguments
import duckdb

COLUMNS = {"date": "TIMESTAMP"} | dict.fromkeys(
    "patient encounter category code description value units type".split(), "VARCHAR"
)


def checks(written: str, patients: str) -> str:
    """The checks of bench_quality.rs in one query; each is a column that must be true."""

    def share(passes: str) -> str:
        return f"count(*) filter ({passes}) = count(*)"

    def uniqueness(columns: str) -> str:
        return f"(select count(*) filter (n = 1) / sum(n) from (select count(*) n from w group by {columns})) > 0.1"

    rules = [share(f"{column} is not null") for column in ("patient", "code", "description", '"type"')]
    rules += [f"count({column}) / count(*) > 0.5" for column in ("encounter", "value")]
    rules += [
        share("length(patient) = 36"),
        share("length(code) > 0 and length(code) < 20"),
        share("length(description) > 0 and length(description) < 300"),
        share("coalesce(length(units), 0) < 60"),
        share("\"type\" in ('numeric', 'text')"),
        share("category is null or category <> ''"),
        share("year > 1900 and year < 2100"),
        share("month > 0 and month < 13"),
        share("day > 0 and day < 32"),
        share("regexp_full_match(code, '[0-9A-Z-]+')"),
        share("units is null or units not in ('kilogram', 'metre', 'second')"),
        "count(*) filter (\"type\" = 'numeric' and try_cast(value as double) is not null)"
        " / count(*) filter (\"type\" = 'numeric') > 0.9",
        "count(*) filter (lower(code) not in ('t', 'true', 'y', 'yes', '1', 'f', 'false', 'n', 'no', '0'))"
        " / count(*) > 0.9",
        "count(*) > 1000",
        "avg(year) > 1950 and avg(year) < 2050",
        uniqueness("patient, encounter, code, value"),
        uniqueness("encounter, description"),
        f"(select count(*) filter (patient in (select id from {patients})) / count(*) from w) >= 0.99",
    ]
    columns = ", ".join(f"{rule} as r{i}" for i, rule in enumerate(rules))
    return f"with w as (select * from {written}) select {columns} from w"


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="quality")
    db = arguments.connect(args)
    # As in duckdb_elt.py: the fastest of the ways to write one file for each day.
    db.execute("set partitioned_write_max_open_files = 1000000; set partitioned_write_flush_threshold = 100000000")
    rows = (
        f"read_csv('{args.data}/observations.csv', auto_detect = false, header = true, delim = ',', quote = '\"',"
        f" escape = '\"', columns = {COLUMNS})"
    )
    db.execute(f"""
        copy (
            select * exclude (date), year(date)::int as year, month(date)::int as month, day(date)::int as day
            from (select distinct * from {rows})
        ) to '{args.out}'
        (format parquet, compression snappy, partition_by (year, month, day), overwrite_or_ignore)""")
    if args.case == "audited":
        written = f"read_parquet('{args.out}/**/*.parquet', hive_partitioning = true)"
        verdicts = db.execute(checks(written, f"read_csv('{args.data}/patients.csv')")).fetchone()
        assert all(verdicts), verdicts


main()
