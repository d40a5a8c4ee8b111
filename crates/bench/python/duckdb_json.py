"""Reads access records with DuckDB: an aggregate of a few fields, and all fields as Parquet."""

import arguments
import duckdb

PAYLOAD = {
    "method": "varchar", "host": "varchar", "path": "varchar", "query": "varchar", "status": "bigint",
    "bytes_in": "bigint", "bytes_out": "bigint", "duration_ms": "double", "upstream_ms": "double",
    "user_id": "bigint", "session": "varchar", "ip": "varchar", "user_agent": "varchar", "referer": "varchar",
    "tls": "boolean", "cached": "boolean", "country": "varchar", "region": "varchar",
    "client": "struct(os varchar, browser varchar, version bigint, mobile boolean)", "tags": "varchar[]",
    "trace": "varchar", "message": "varchar",
}  # fmt: skip


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="json")
    db = arguments.connect(args)

    match args.case:
        case "few":
            # Four times as fast as read_json() with a struct of these fields: each record is gone through once.
            paths = [f"$.payload.{name}" for name in ("country", "status", "bytes_out", "duration_ms")]
            rows = f"""
                select
                    of[1] as country, of[2]::bigint as status, count(*) as requests,
                    sum(of[3]::bigint)::bigint as bytes_out, max(of[4]::double) as duration_ms
                from (
                    select json_extract_string(json, {paths}) as of from read_ndjson_objects('{args.data}/access/*.jsonl')
                ) group by all"""
        case case:
            files = "access/*.jsonl" if case == "all" else "access_gzip/*.jsonl.gz"
            payload = ", ".join(f'"{name}" {kind}' for name, kind in PAYLOAD.items())
            columns = {"id": "bigint", "time": "timestamp", "kind": "varchar", "payload": f"struct({payload})"}
            rows = f"from read_json('{args.data}/{files}', format = 'newline_delimited', columns = {columns})"
    db.execute(f"copy ({rows}) to '{args.out}/access_records.parquet' (format parquet, compression zstd)")


main()
