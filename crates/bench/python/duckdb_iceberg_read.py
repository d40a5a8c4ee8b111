"""Asks the observations by category with DuckDB: of plain files, and of the Iceberg tables that have the same files."""

import arguments

if arguments.mode() == "iceberg":
    arguments.become_python_with_iceberg()

import duckdb

MODES = {"": "the plain files, in folders of their partitions", "iceberg": "the Iceberg tables"}
DAYS = "date_day >= date '2020-01-01' and date_day < date '2021-01-01'"
DATES = "date >= timestamp '2020-01-01' and date < timestamp '2021-01-01'"
FILES = {
    "days": "'{data}/files/observations/*/*.parquet', hive_partitioning = true, hive_types = {{date_day: date}}",
    "years": "'{data}/files/by_year/*/*.parquet', hive_partitioning = true, hive_types = {{date_year: int}}",
}
TABLES = {"days": "lake.observations", "years": "lake.by_year"}


def version() -> str:
    if arguments.mode() != "iceberg":
        return f"DuckDB {duckdb.__version__}"
    import duckdb_extensions  # noqa: F401

    return f"DuckDB {duckdb.__version__} with Iceberg"


def main() -> None:
    args = arguments.parse("DuckDB", version, MODES, suite="iceberg-read")
    which, _, year = args.case.partition("_")
    if args.mode == "iceberg":
        db = arguments.connect_with_iceberg(args)
        rows = f"iceberg_scan('{arguments.metadata_location(f'{args.data}/state/catalog.sqlite', TABLES[which])}')"
        where = DATES
    else:
        db = arguments.connect(args)
        rows = f"read_parquet({FILES[which].format(data=args.data)})"
        where = DAYS if which == "days" else "date_year = 2020"
    db.execute(f"""
        copy (
            select
                category, count(*) as observations, count(distinct patient) as patients,
                sum(length(description))::bigint as characters
            from {rows} {f"where {where}" if year else ""} group by category
        ) to '{args.out}/rows.parquet' (format parquet)""")


main()
