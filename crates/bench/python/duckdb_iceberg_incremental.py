"""Reads the last batch of an Iceberg table with DuckDB, which finds it by a filter, and writes it as Parquet."""

import arguments

arguments.become_python_with_iceberg()

import duckdb


def version() -> str:
    import duckdb_extensions  # noqa: F401

    return f"DuckDB {duckdb.__version__} with Iceberg"


def main() -> None:
    args = arguments.parse("DuckDB", version, suite="iceberg-incremental")
    db = arguments.connect_with_iceberg(args)
    metadata = arguments.metadata_location(f"{args.data}/state/catalog.sqlite", "lake.observations")
    db.execute(f"""
        copy (select * from iceberg_scan('{metadata}') where batch = 1)
        to '{args.out}/rows.parquet' (format parquet, compression zstd)""")


main()
