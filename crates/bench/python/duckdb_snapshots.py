"""Rebuilds monthly snapshots of policies with DuckDB: the last version of each policy up to each month."""

import shutil

import arguments
import duckdb

EVENT = {
    "policy_id": "varchar",
    "holder": "varchar",
    "premium": "decimal(12, 2)",
    "status": "varchar",
    "effective_date": "date",
    "recorded_at": "timestamp",
}


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="snapshots")
    db = arguments.connect(args)
    events = f"'{args.data}/{args.case}/policy_events/*.jsonl'"
    db.execute(f"""
        create temp table events as
        select *, status = 'deleted' as deleted, date_trunc('month', effective_date)::date as since
        from read_json({events}, format = 'newline_delimited', columns = {EVENT})""")
    first = db.execute("select min(since) from events").fetchone()[0]
    current = ""
    if args.case == "late":
        files = f"read_parquet('{args.out}/*/*.parquet', hive_partitioning = true, hive_types = {{'month': date}})"
        current = f"""
            union all
            select policy_id, holder, premium, status, effective_date, recorded_at, deleted, month
            from {files} where month >= date '{first}'"""
    # One number instead of two columns: the day, then the second of recording.
    place = "datediff('day', date '2020-01-01', effective_date) * 10000000000 + epoch(recorded_at)::bigint"
    columns = ["policy_id", "holder", "premium", "status", "effective_date", "recorded_at", "deleted"]
    last = ", ".join(f"arg_max({name}, place) as {name}" for name in columns[1:])
    new = f"{args.out}.new"
    shutil.rmtree(new, ignore_errors=True)
    db.execute(f"""
        copy (
            select policy_id, {last}, month
            from (
                select *, {place} as place
                from (
                    select policy_id, holder, premium, status, effective_date, recorded_at, deleted, month
                    from events join (
                        select unnest(generate_series(date '{first}', date '2025-12-01', interval 1 month))::date as month
                    ) on since <= month
                    {current}
                )
            )
            group by month, policy_id
        ) to '{new}' (format parquet, compression zstd, partition_by (month))""")
    arguments.replace_partitions(new, args.out)


main()
