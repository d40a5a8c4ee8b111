"""Asks the lake of observations with DuckDB: counts by category, of all files and of one year."""

import arguments
import duckdb


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="scan")
    db = arguments.connect(args)
    year = "where year = 2020" if args.case == "year" else ""
    db.execute(f"""
        copy (
            select category, count(*) as observations, count(distinct patient) as patients
            from read_parquet(
                '{args.data}/lake/observations/*/*/*/*.parquet', hive_partitioning = true,
                hive_types = {{year: int, month: int, day: int}}
            )
            {year} group by category
        ) to '{args.out}/rows.parquet' (format parquet)""")


main()
