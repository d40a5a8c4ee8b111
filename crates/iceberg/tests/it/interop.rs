//! Tables for other readers: `.ci/interop` lets PyIceberg, DuckDB and Spark read what the test here writes.

use std::path::PathBuf;
use std::sync::Arc;

use hardtack_catalog::{CatalogHandle, EmbeddedCatalog};
use hardtack_core::{JobContext, Sink};
use hardtack_iceberg::{IcebergTable, NewIcebergTable, PartitionField};
use hardtack_sinks::ParquetDataset;
use hardtack_test_support::{Frame, TempLake, json, rows};

use crate::world::lines;

fn all_types() -> Frame {
    rows! {
        id, b: Boolean, i: Int32, f: Float32, d: Float64, price: Decimal128(9, 2), big: Decimal128(38, 10), t, on: Date32,
        at: Timestamp(Microsecond, None), utc: Timestamp(Microsecond, Some("UTC".into())),
        tags: List(Utf8), place: Struct([("city", Utf8), ("zip", Int32)]);
        1, true, 7, 1.5, 2.5, "9.99", "12345678901234567890.0123456789", "a/b=c", "1969-12-31",
        "1969-12-31T23:59:59.999999", "2026-11-29T12:00:00Z", ["new", "gift"], json!({"city": "Ghent", "zip": 9000});
        2, false, -7, -1.5, -2.5, "-9.99", "-1", "ü", "2026-11-29",
        "2026-11-29T12:00:00", "1969-12-31T23:59:59.5Z", json!(["a", null]), json!({"city": null, "zip": 1});
        3, null, null, null, null, null, null, null, null, null, null, null, null;
        4, true, 2147483647, 0.0, 0.0, "0.00", "0", "__HIVE_DEFAULT_PARTITION__", "1970-01-01",
        "1970-01-01T00:00:00", "1970-01-01T00:00:00Z", json!([]), json!({"city": "", "zip": null});
    }
}

fn fields() -> Vec<(&'static str, Vec<PartitionField>)> {
    let (day, bucket) = (PartitionField::day("utc"), PartitionField::bucket(4, "t"));
    vec![
        ("plain", vec![]),
        ("by_boolean", vec![PartitionField::identity("b")]),
        ("by_text", vec![PartitionField::identity("t")]),
        ("by_decimal", vec![PartitionField::identity("price")]),
        ("by_date", vec![PartitionField::identity("on")]),
        ("by_timestamp", vec![PartitionField::identity("at")]),
        ("by_year", vec![PartitionField::year("at")]),
        ("by_month", vec![PartitionField::month("on")]),
        ("by_day", vec![PartitionField::day("at")]),
        ("by_hour", vec![PartitionField::hour("utc")]),
        ("by_bucket", vec![PartitionField::bucket(3, "id")]),
        ("by_truncated_text", vec![PartitionField::truncate(1, "t")]),
        ("by_truncated_number", vec![PartitionField::truncate(10, "i")]),
        ("by_two", vec![day, bucket]),
    ]
}

/// Written for others if `HARDTACK_INTEROP_OUT` names a folder, and read here in any case.
#[tokio::test]
async fn all_types_and_transforms_are_for_everybody() {
    let own = TempLake::new();
    #[allow(clippy::disallowed_methods, reason = "`.ci/interop` names the folder")]
    let folder = std::env::var_os("HARDTACK_INTEROP_OUT").map_or_else(|| own.path().to_owned(), PathBuf::from);
    let folder = folder.join("iceberg");
    let at = |path: &str| folder.join(path).to_string_lossy().into_owned();
    let catalog = Arc::new(EmbeddedCatalog::new(folder.join("catalog.sqlite")));
    let context = || {
        let catalog = Arc::clone(&catalog) as Arc<dyn hardtack_catalog::Catalog>;
        let ctx =
            JobContext::builder("job").threads(2).extension(Arc::new(CatalogHandle::new(catalog))).build().unwrap();
        hardtack_iceberg::register(&ctx);
        ctx
    };
    let rows = all_types();
    let ctx = context();
    let expected = ParquetDataset::new("expected", at("expected"));
    let staged = expected.stage(&ctx.staging("expected"), rows.to_df(ctx.session())).await.unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    let mut wanted: Vec<String> = rows.batches().iter().flat_map(lines).collect();
    wanted.sort();
    for version in [2, 3] {
        for (name, fields) in fields() {
            let name = format!("{name}_v{version}");
            let new =
                NewIcebergTable::at(at(&format!("lake/{name}"))).partition_by(fields).with_format_version(version);
            let table = IcebergTable::named("lake", &name).create_if_missing(new);
            // One half is published; all of it is on a branch.
            for (n, part) in rows.in_batches(2).batches().iter().enumerate() {
                let part = Frame::try_new(part.schema(), vec![part.clone()]).unwrap();
                let ctx = context();
                let staged = table.stage(&ctx.staging("out"), part.to_df(ctx.session())).await.unwrap();
                if n == 0 {
                    ctx.publish(&staged.publish).await.unwrap();
                }
                let branch = format!("hardtack_{}", ctx.run().version());
                let version = if n == 0 { table.clone() } else { table.clone().branch(branch) };
                let read = ctx.load(version).await.unwrap().collect().await.unwrap();
                let mut read: Vec<String> = read.iter().flat_map(lines).collect();
                read.sort();
                assert_eq!(read.len(), 2 * (n + 1), "{name}");
                assert!(n == 0 || read == wanted, "{name}: {read:?}");
            }
        }
    }
}
