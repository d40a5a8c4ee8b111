"""Reads access records with Polars: an aggregate of a few fields, and all fields as Parquet."""

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

CLIENT = {"os": pl.String, "browser": pl.String, "version": pl.Int64, "mobile": pl.Boolean}
PAYLOAD = {
    "method": pl.String, "host": pl.String, "path": pl.String, "query": pl.String, "status": pl.Int64,
    "bytes_in": pl.Int64, "bytes_out": pl.Int64, "duration_ms": pl.Float64, "upstream_ms": pl.Float64,
    "user_id": pl.Int64, "session": pl.String, "ip": pl.String, "user_agent": pl.String, "referer": pl.String,
    "tls": pl.Boolean, "cached": pl.Boolean, "country": pl.String, "region": pl.String,
    "client": pl.Struct(CLIENT), "tags": pl.List(pl.String), "trace": pl.String, "message": pl.String,
}  # fmt: skip
FEW = ("country", "status", "bytes_out", "duration_ms")


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", suite="json")

    def payload(*fields: str) -> dict:
        return {"payload": pl.Struct({name: PAYLOAD[name] for name in fields})}

    match args.case:
        case "few":
            field = col("payload").struct.field
            rows = (
                pl.scan_ndjson(f"{args.data}/access/*.jsonl", schema=payload(*FEW))
                .select(*[field(name) for name in FEW])
                .group_by("country", "status")
                .agg(pl.len().alias("requests"), col("bytes_out").sum(), col("duration_ms").max())
            )
        case case:
            files = "access/*.jsonl" if case == "all" else "access_gzip/*.jsonl.gz"
            top = {"id": pl.Int64, "time": pl.String, "kind": pl.String}
            rows = pl.scan_ndjson(f"{args.data}/{files}", schema=top | payload(*PAYLOAD)).with_columns(
                col("time").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us")
            )
    rows.sink_parquet(
        f"{args.out}/access_records.parquet", compression="zstd", maintain_order=False, engine="streaming"
    )


main()
