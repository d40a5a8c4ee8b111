"""Counts with DuckDB which customers were added, removed and changed."""

import arguments
import duckdb

COLUMNS = "name email since balance visits".split()


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="compare")
    db = arguments.connect(args)
    differs = " or ".join(f"a.{name} is distinct from b.{name}" for name in COLUMNS)
    db.execute(f"""
        copy (
            select
                count(*) filter (b.id is null) as added, count(*) filter (a.id is null) as removed,
                count(*) filter (a.id = b.id and ({differs})) as changed
            from read_parquet('{args.data}/before/*.parquet') b full join read_parquet('{args.data}/after/*.parquet') a
            on a.id = b.id
        ) to '{args.out}/counts.parquet' (format parquet)""")


main()
