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
FEW = ("country", "status", "bytes_out", "duration_ms")


def payload(fields) -> str:
    return "struct(" + ", ".join(f'"{name}" {PAYLOAD[name]}' for name in fields) + ")"


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="json")
    db = arguments.connect(args)

    def records(files: str, columns: dict[str, str]) -> str:
        return f"read_json('{args.data}/{files}', format = 'newline_delimited', columns = {columns})"

    match args.case:
        case "few":
            rows = f"""
                select
                    payload.country as country, payload.status as status, count(*) as requests,
                    sum(payload.bytes_out)::bigint as bytes_out, max(payload.duration_ms) as duration_ms
                from {records("access/*.jsonl", {"payload": payload(FEW)})} group by all"""
        case case:
            files = "access/*.jsonl" if case == "all" else "access_gzip/*.jsonl.gz"
            columns = {"id": "bigint", "time": "timestamp", "kind": "varchar", "payload": payload(PAYLOAD)}
            rows = f"from {records(files, columns)}"
    db.execute(f"copy ({rows}) to '{args.out}/access_records.parquet' (format parquet, compression zstd)")


main()
