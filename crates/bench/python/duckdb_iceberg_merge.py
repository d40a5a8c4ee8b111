"""Merges change events into customers with DuckDB, into one file: it writes no Iceberg tables without a REST catalog."""

import duckdb_merge

duckdb_merge.main("iceberg-merge")
