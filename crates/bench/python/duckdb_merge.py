"""Merges change events into customers with DuckDB: the last event of each customer, in one file."""

import os

import arguments
import duckdb

CUSTOMER = "struct(id bigint, first_name varchar, last_name varchar, email varchar)"
FOLDER = {"insert": "inserts", "change": "changes"}


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="merge")
    db = arguments.connect(args)
    file = f"{args.out}/customers.parquet"
    columns = {"before": CUSTOMER, "after": CUSTOMER, "op": "varchar", "ts_ms": "bigint"}
    # Current customers come before all events of their millisecond.
    known = (
        "union all select {id: id, first_name: first_name, last_name: last_name, email: email} as customer,"
        f" '' as op, epoch_ms(_as_of) as ts_ms, -1 as step from read_parquet('{file}')"
    )
    db.execute(f"""
        copy (
            select
                last.customer.id as id, last.customer.first_name as first_name,
                last.customer.last_name as last_name, last.customer.email as email,
                make_timestamp(last.ts_ms * 1000) as _as_of
            from (
                select arg_max({{customer: customer, op: op, ts_ms: ts_ms}}, ts_ms * 8 + step) as last
                from (
                    select
                        coalesce(after, before) as customer, op, ts_ms,
                        case op when 'd' then 3 when 'u' then 2 when 'c' then 1 else 0 end as step
                    from read_json(
                        '{args.data}/{FOLDER[args.case]}/customer_events/*.jsonl',
                        format = 'newline_delimited', columns = {columns}
                    )
                    {known if args.case == "change" else ""}
                )
                group by customer.id
            )
            where last.op <> 'd'
        ) to '{file}.new' (format parquet, compression zstd)""")
    os.replace(f"{file}.new", file)


main()
