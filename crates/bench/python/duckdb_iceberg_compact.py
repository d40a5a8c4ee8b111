"""Rewrites the small files of the observations with DuckDB: one file per year, in any order or sorted."""

import os

import arguments
import duckdb


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="iceberg-compact")
    db = arguments.connect(args)
    days = f"{args.data}/files/observations"
    if args.case == "sorted":
        # A partitioned writer does not keep the order of rows.
        db.execute("set preserve_insertion_order = true")
        for year in sorted({day.removeprefix("date_day=")[:4] for day in os.listdir(days)}):
            os.mkdir(f"{args.out}/date_year={year}")
            files = f"'{days}/date_day={year}-*/*.parquet', hive_partitioning = false"
            db.execute(f"""
                copy (select * from read_parquet({files}) order by patient, date)
                to '{args.out}/date_year={year}/part.parquet' (format parquet, compression zstd)""")
        return
    # The writer of a year stays open.
    db.execute("set partitioned_write_max_open_files = 1000000; set partitioned_write_flush_threshold = 100000000")
    db.execute(f"""
        copy (
            select *, year(date)::int as date_year
            from read_parquet('{days}/*/*.parquet', hive_partitioning = false)
        ) to '{args.out}' (format parquet, compression zstd, partition_by (date_year), overwrite_or_ignore)""")


main()
