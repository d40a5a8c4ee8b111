"""Merges change events into customers with DuckDB: the last event of each customer, in one file."""

import os

import arguments
import duckdb

CUSTOMER = "struct(id bigint, first_name varchar, last_name varchar, email varchar)"
FOLDER = {"insert": "inserts", "change": "changes", "few": "few"}


def main(suite: str = "merge") -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite=suite)
    db = arguments.connect(args)
    file = f"{args.out}/customers.parquet"
    columns = {"before": CUSTOMER, "after": CUSTOMER, "op": "varchar", "ts_ms": "bigint"}
    # Current customers come before all events of their millisecond.
    known = (
        "union all select id, first_name, last_name, email, epoch_ms(_as_of) * 8 - 1 as place, false as deleted"
        f" from read_parquet('{file}')"
    )
    # Column by column: of a struct, `arg_max` takes twice as long.
    db.execute(f"""
        copy (
            select
                id, arg_max_null(first_name, place) as first_name, arg_max_null(last_name, place) as last_name,
                arg_max_null(email, place) as email, make_timestamp((max(place) + 1) // 8 * 1000) as _as_of
            from (
                select
                    coalesce(after.id, before.id) as id, after.first_name as first_name, after.last_name as last_name,
                    after.email as email,
                    ts_ms * 8 + case op when 'd' then 3 when 'u' then 2 when 'c' then 1 else 0 end as place,
                    op = 'd' as deleted
                from read_json(
                    '{args.data}/{FOLDER[args.case]}/customer_events/*.jsonl',
                    format = 'newline_delimited', columns = {columns}
                )
                {"" if args.case == "insert" else known}
            )
            group by id
            having not arg_max(deleted, place)
        ) to '{file}.new' (format parquet, compression zstd)""")
    os.replace(f"{file}.new", file)


if __name__ == "__main__":
    main()
