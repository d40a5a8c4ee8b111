"""Merges change events into customers with Polars: into one file, and into an Iceberg table by PyIceberg."""

import os

import arguments
import polars_merge

import polars as pl
from polars import col

MODES = {"": "into one file", "pyiceberg": "into an Iceberg table, of which the touched partitions are rewritten"}
# PyIceberg replaces partitions of plain columns only, so the bucket is one.
BUCKETS = 16


def version() -> str:
    if arguments.mode() != "pyiceberg":
        return f"Polars {pl.__version__}"
    import pyiceberg

    return f"Polars {pl.__version__} with PyIceberg {pyiceberg.__version__}"


def with_bucket(rows: pl.DataFrame) -> pl.DataFrame:
    from pyiceberg_core import transform

    return rows.with_columns(pl.Series("bucket", transform.bucket(rows["id"].to_arrow(), BUCKETS), dtype=pl.Int32))


def merge_table(args) -> None:
    os.makedirs(f"{args.out}/state", exist_ok=True)
    catalog = arguments.sql_catalog(f"{args.out}/state")
    changes = polars_merge.changes(args.data, args.case)
    if args.case == "insert":
        create(args, catalog, with_bucket(polars_merge.merge(changes, None).collect(engine="streaming")))
        return
    table = catalog.load_table("crm.customers")
    changes = with_bucket(changes.collect(engine="streaming"))
    touched = changes["bucket"].unique()
    current = pl.scan_iceberg(table).filter(col("bucket").is_in(touched.to_list()))
    merged = polars_merge.merge(changes.drop("bucket").lazy(), current).collect(engine="streaming")
    table.dynamic_partition_overwrite(with_bucket(merged).to_arrow())


def create(args, catalog, customers: pl.DataFrame) -> None:
    from pyiceberg.transforms import IdentityTransform

    rows = customers.to_arrow()
    catalog.create_namespace("crm")
    table = catalog.create_table("crm.customers", schema=rows.schema, location=f"{os.path.abspath(args.out)}/customers")
    with table.update_spec() as update:
        update.add_field("bucket", IdentityTransform())
    table.append(rows)


def main() -> None:
    args = arguments.parse("Polars", version, MODES, suite="iceberg-merge")
    if args.mode == "pyiceberg":
        merge_table(args)
    else:
        polars_merge.merge_file(args)


main()
