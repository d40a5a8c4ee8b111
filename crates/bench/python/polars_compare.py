"""Counts with Polars which customers were added, removed and changed."""

import arguments

arguments.limit_polars()

import polars as pl
from polars import col

COLUMNS = "name email since balance visits".split()


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", suite="compare")
    before, after = (pl.scan_parquet(f"{args.data}/{side}/*.parquet") for side in ("before", "after"))
    both = before.join(after, on="id", how="full", suffix="_after")
    added, removed = col("id").is_null(), col("id_after").is_null()
    differs = pl.any_horizontal(col(name).ne_missing(col(f"{name}_after")) for name in COLUMNS)
    counts = {"added": added, "removed": removed, "changed": differs & ~added & ~removed}
    counted = both.select(rows.sum().cast(pl.Int64).alias(name) for name, rows in counts.items())
    counted.collect(engine="streaming").write_parquet(f"{args.out}/counts.parquet")


main()
