//! Columns, partition fields and properties change; rows stay.

use std::sync::Arc;

use arrow::datatypes::DataType;
use hardtack_catalog::{SchemaEvolution, schema};
use hardtack_core::{ErrorKind, Result};
use hardtack_iceberg::{CompactOptions, IcebergMaintenance, IcebergTable, PartitionField, TableChange};
use hardtack_test_support::{json, rows};
use insta::assert_snapshot;
use rstest::rstest;

use super::World;
use crate::foreign::Deletes;
use crate::interposed::Interposed;

fn t() -> IcebergTable {
    IcebergTable::named("lake", "t")
}

fn rename(column: &str, to: &str) -> TableChange {
    TableChange::RenameColumn { column: column.to_owned(), to: to.to_owned() }
}

fn drop_column(column: &str) -> TableChange {
    TableChange::DropColumn { column: column.to_owned() }
}

fn add(column: &str, of: &str) -> TableChange {
    TableChange::AddColumn { column: column.to_owned(), data_type: TableChange::parse_type(of).unwrap() }
}

fn shift(column: &str, after: Option<&str>) -> TableChange {
    TableChange::MoveColumn { column: column.to_owned(), after: after.map(str::to_owned) }
}

fn widen(column: &str, of: &str) -> TableChange {
    TableChange::WidenColumn { column: column.to_owned(), data_type: TableChange::parse_type(of).unwrap() }
}

fn make_optional(column: &str) -> TableChange {
    TableChange::MakeOptional { column: column.to_owned() }
}

fn partition_by(fields: &str) -> TableChange {
    TableChange::PartitionBy(PartitionField::parse_list(fields).unwrap())
}

fn set(property: &str, value: &str) -> TableChange {
    TableChange::Set { property: property.to_owned(), value: value.to_owned() }
}

impl World {
    async fn alter(&self, change: TableChange) -> Result<bool> {
        let run = self.run();
        IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await?.alter(&change).await
    }

    /// Changes that are made, and made once.
    async fn altered(&self, change: TableChange) {
        assert!(self.alter(change.clone()).await.unwrap(), "{change}");
    }

    /// The columns that the catalog shows.
    async fn described(&self) -> Vec<String> {
        let columns = self.run().ctx.load(t()).await.unwrap().schema().as_arrow().clone();
        columns.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect()
    }

    /// `id`, `name`, `place: (city, zip)`, `tags`, and `prices` with two rows.
    async fn people() -> Self {
        let world = Self::new();
        let columns = schema! {
            id: bigint not null, name: string, place: struct<city: string, zip: int>,
            tags: array<struct<tag: string, n: int>>, prices: map<string, float>,
        };
        let table = t().create_if_missing(world.new_table().with_schema(columns));
        let rows = rows! {
            id, name, place: Struct([("city", Utf8), ("zip", Int32)]), tags: List(Struct([("tag", Utf8), ("n", Int32)])),
            prices: Map(Utf8, Float32);
            1, "Ann", json!({"city": "Ghent", "zip": 9000}), json!([{"tag": "new", "n": 1}]), json!({"a": 1.5});
            2, null, null, null, null;
        };
        world.save(&table, &rows).await;
        world
    }
}

#[tokio::test]
async fn columns_are_renamed_with_their_rows() {
    let world = World::people().await;
    let before = world.rows().await;
    world.altered(rename("name", "called")).await;
    world.altered(rename("place", "home")).await;
    world.altered(rename("home.zip", "code")).await;
    world.altered(rename("tags.element.tag", "label")).await;
    let now: Vec<String> = before.iter().map(|row| row.replace("zip:", "code:").replace("tag:", "label:")).collect();
    assert_eq!(world.rows().await, now);
    assert_eq!(world.described().await[1..3], ["called: Utf8", "home: Struct(\"city\": Utf8, \"code\": Int32)"]);
    // The name is free; what is added under it is new.
    world.altered(add("name", "string")).await;
    assert_eq!(world.rows().await[1], "2 null null null null null");
    assert!(world.rows().await[0].ends_with(" null"));
    // In another case it is another name.
    world.altered(rename("called", "Called")).await;
    assert_eq!(world.described().await[1], "Called: Utf8");
}

#[tokio::test]
async fn columns_go_and_come() {
    let world = World::people().await;
    world.altered(drop_column("prices")).await;
    world.altered(drop_column("place.zip")).await;
    world.altered(drop_column("tags.element.n")).await;
    assert_eq!(world.rows().await, ["1 Ann {city: Ghent} [{tag: new}]", "2 null null null"]);
    world.altered(add("place.zip", "bigint")).await;
    world.altered(add("born", "date")).await;
    world.altered(add("tags.element.more", "array<struct<x:int>>")).await;
    // Not what was dropped.
    assert_eq!(
        world.rows().await,
        ["1 Ann {city: Ghent, zip: null} [{tag: new, more: null}] null", "2 null null null null"]
    );
    let ids = |metadata: serde_json::Value| metadata["last-column-id"].as_i64().unwrap();
    let before = ids(world.metadata().await);
    world.altered(add("s", "struct<a: int, b: map<string, timestamp>>")).await;
    assert_eq!(ids(world.metadata().await), before + 5);
    assert_eq!(world.rows().await[1], "2 null null null null null");
    world.altered(add("at", "timestamptz")).await;
    assert_eq!(world.described().await.last().unwrap(), "at: Timestamp(µs, \"UTC\")");
    let first = world.first_snapshot().await;
    assert!(world.read(t().snapshot(first)).await.unwrap()[0].contains("9000"));
}

#[tokio::test]
async fn columns_move() {
    let world = World::people().await;
    world.altered(drop_column("tags")).await;
    world.altered(shift("prices", None)).await;
    world.altered(shift("id", Some("place"))).await;
    world.altered(shift("place.zip", None)).await;
    assert_eq!(world.rows().await, ["null null null 2", "{a: 1.5} Ann {zip: 9000, city: Ghent} 1"]);
    assert!(!world.alter(shift("prices", None)).await.unwrap());
    assert!(!world.alter(shift("id", Some("place"))).await.unwrap());
    let catalog = world.catalog.get_table("lake", "t").await.unwrap();
    assert!(catalog.metadata_location().is_some());
}

#[tokio::test]
async fn types_widen_and_columns_become_optional() {
    let world = World::people().await;
    let before = world.rows().await;
    world.altered(widen("place.zip", "bigint")).await;
    world.altered(widen("prices.value", "double")).await;
    world.altered(widen("tags.element.n", "bigint")).await;
    assert_eq!(world.rows().await, before);
    assert!(!world.alter(widen("place.zip", "bigint")).await.unwrap());
    assert!(!world.alter(make_optional("name")).await.unwrap());
    assert!(world.stage(&t(), &rows! { id, name; null, "x" }).await.is_err());
    world.altered(make_optional("id")).await;
    world.save(&t(), &rows! { id: Int64, name, place: Struct([("city", Utf8), ("zip", Int64)]), tags: List(Struct([("tag", Utf8), ("n", Int64)])), prices: Map(Utf8, Float64); null, "x", json!({"city": null, "zip": 5000000000_i64}), null, null }).await;
    assert!(world.rows().await.contains(&"null x {city: null, zip: 5000000000} null null".to_owned()));
    let decimals = World::new();
    decimals.save(&decimals.table(), &rows! { d: Decimal128(5, 2); "1.00" }).await;
    decimals.altered(widen("d", "decimal(9,2)")).await;
    assert_eq!(decimals.rows().await, ["1.00"]);
    assert_eq!(decimals.alter(widen("d", "decimal(9,3)")).await.unwrap_err().kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn new_files_are_partitioned_anew() {
    let world = World::new();
    world.save(&world.table(), &rows! { id, day; 1, "mon"; 2, "tue" }).await;
    world.altered(partition_by("day, bucket(2, id)")).await;
    assert!(!world.alter(partition_by("identity(day), bucket[2](id)")).await.unwrap());
    world.save(&t(), &rows! { id, day; 3, "mon"; 4, "tue" }).await;
    assert_eq!(world.rows().await, ["1 mon", "2 tue", "3 mon", "4 tue"]);
    let all = CompactOptions { all: true, ..CompactOptions::default() };
    let run = world.run();
    let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap();
    // By a column that old files have in their spec, too.
    let error = world.alter(drop_column("day")).await.unwrap_err();
    assert_snapshot!(error, @"rows are partitioned by this column (column: day, table: lake.t, hint: partition by other columns first, and compact all files)");
    world.altered(partition_by("")).await;
    assert_eq!(world.alter(drop_column("day")).await.unwrap_err().kind(), ErrorKind::Usage);
    care.compact(&run.ctx, &all).await.unwrap();
    world.altered(drop_column("day")).await;
    assert_eq!(world.rows().await, ["1", "2", "3", "4"]);
    world.save(&t(), &rows! { id; 5 }).await;
    // Files are planned with the columns that there are now.
    let found = run.ctx.load(t()).await.unwrap().filter(datafusion::prelude::col("id").gt(datafusion::prelude::lit(4)));
    assert_eq!(found.unwrap().count().await.unwrap(), 1);
    care.compact(&run.ctx, &all).await.unwrap();
    assert_eq!(world.rows().await, ["1", "2", "3", "4", "5"]);
    world.altered(partition_by("truncate(10, id)")).await;
    world.save(&t().overwrite_partitions(), &rows! { id; 6; 16 }).await;
    assert_eq!(world.rows().await.len(), 7);
}

#[tokio::test]
async fn properties_are_set_and_removed() {
    let world = World::people().await;
    world.altered(set("write.parquet.compression-codec", "snappy")).await;
    assert!(!world.alter(set("write.parquet.compression-codec", "snappy")).await.unwrap());
    assert_eq!(world.metadata().await["properties"]["write.parquet.compression-codec"], "snappy");
    let unset = TableChange::Unset { property: "write.parquet.compression-codec".to_owned() };
    world.altered(unset.clone()).await;
    assert!(!world.alter(unset).await.unwrap());
    for property in ["format-version", "hardtack.created-by", ""] {
        let error = world.alter(set(property, "3")).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.get("table") == Some("lake.t"), "{error}");
    }
}

#[rstest]
#[case(rename("nam", "x"), "the table has no column `nam` (table: lake.t, hint: did you mean `name`?)")]
#[case(rename("name", "ID"), "there is a column of this name (name: id, column: name, table: lake.t)")]
#[case(rename("name", "a.b"), "a name of a column is not empty, and has no dots")]
#[case(rename("place.zip", "city"), "there is a column of this name (name: city, column: place.zip, table: lake.t)")]
#[case(rename("tags.element", "x"), "the elements of a list and the values of a map are not columns")]
#[case(rename("prices.key", "x"), "the keys of a map cannot be changed")]
#[case(drop_column("prices.value"), "the elements of a list and the values of a map are not columns")]
#[case(drop_column("place.street"), "the table has no column `place.street`")]
#[case(add("name", "int"), "there is a column of this name")]
#[case(add("place.city", "int"), "there is a column of this name")]
#[case(add("name.x", "int"), "this column is not a struct, so it has no columns")]
#[case(add("nowhere.x", "int"), "the table has no column `nowhere`")]
#[case(
    shift("id", Some("nam")),
    "there is no other column of this name beside it (after: nam, column: id, table: lake.t, hint: did you mean `name`?)"
)]
#[case(shift("id", Some("id")), "there is no other column of this name beside it")]
#[case(widen("id", "int"), "long cannot become int")]
#[case(widen("name", "bigint"), "string cannot become long")]
#[case(widen("place", "bigint"), "cannot become long")]
#[case(widen("name", "array<string>"), "only the types of numbers can be widened")]
#[case(partition_by("day(id)"), "the column's type does not have this transform")]
#[case(partition_by("nam"), "did you mean `name`?")]
#[tokio::test]
async fn what_cannot_be_is_refused(#[case] change: TableChange, #[case] why: &str) {
    let world = World::people().await;
    let (metadata, files) = (world.metadata().await, world.dir.files("lake"));
    let error = world.alter(change).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(why), "{error}");
    assert_eq!((world.metadata().await, world.dir.files("lake")), (metadata, files));
}

#[tokio::test]
async fn what_finds_rows_stays() {
    let world = World::new();
    let new = world.new_table().partition_by([PartitionField::day("at")]).sorted_by(["id"]);
    let table = t().create_if_missing(new);
    world.save(&table, &rows! { id, p: Int32, at: Timestamp(Microsecond, None); 1, 1, "2026-11-29T12:00:00" }).await;
    for (column, how) in [("at", "partitioned"), ("id", "sorted")] {
        let error = world.alter(drop_column(column)).await.unwrap_err();
        assert!(error.to_string().contains(&format!("rows are {how} by this column")), "{error}");
    }
    // It is the name of a partition field.
    let error = world.alter(add("at_day", "date")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.to_string().contains("at_day"), "{error}");
    world.altered(rename("at", "moment")).await;
    world.altered(rename("id", "number")).await;
    world
        .save(&t(), &rows! { number, p: Int32, moment: Timestamp(Microsecond, None); 2, 2, "2026-11-29T13:00:00" })
        .await;
    assert_eq!(world.rows().await, ["1 1 2026-11-29T12:00:00", "2 2 2026-11-29T13:00:00"]);
    world.altered(rename("number", "id")).await;
    world.altered(partition_by("p")).await;
    world.save(&t(), &rows! { id, p: Int32, moment: Timestamp(Microsecond, None); 3, 3, "2026-11-29T13:00:00" }).await;
    world.delete_rows(&[3], Deletes::Positions).await;
    let error = world.alter(widen("p", "bigint")).await.unwrap_err();
    assert!(error.to_string().contains("hardtack iceberg compact"), "{error}");
    let run = world.run();
    let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap();
    care.compact(&run.ctx, &CompactOptions::default()).await.unwrap();
    world.altered(widen("p", "bigint")).await;
    world.save(&t(), &rows! { id, p: Int64, moment: Timestamp(Microsecond, None); 4, 5000000000_i64, null }).await;
    assert_eq!(world.rows().await, ["1 1 2026-11-29T12:00:00", "2 2 2026-11-29T13:00:00", "4 5000000000 null"]);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::people().await;
    let (metadata, files) = (world.metadata().await, world.dir.files("lake"));
    let run = world.run();
    let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap().dry_run(true);
    assert!(care.alter(&rename("name", "called")).await.unwrap());
    assert!(!care.alter(&make_optional("name")).await.unwrap());
    assert!(care.alter(&rename("nam", "called")).await.is_err());
    assert_eq!((world.metadata().await, world.dir.files("lake")), (metadata, files));
}

/// Two changes at once are both made, or one of them is refused for what the other has made of the table.
#[tokio::test]
async fn changes_of_others_stay() {
    for (others, ours, expected) in [
        (add("a", "int"), add("b", "int"), Ok(["a: Int32", "b: Int32"])),
        (add("a", "int"), add("a", "int"), Err("there is a column of this name")),
        (drop_column("name"), rename("name", "b"), Err("the table has no column `name`")),
    ] {
        let world = Arc::new(World::people().await);
        let there = Arc::clone(&world);
        let doing = Box::pin(async move { there.altered(others).await });
        let run = world.run_with(Interposed::new(&world.catalog, doing));
        let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap();
        match (care.alter(&ours).await, expected) {
            (Ok(_), Ok(columns)) => assert_eq!(world.described().await[5..], columns),
            (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
            (done, _) => panic!("{done:?}"),
        }
        assert_eq!(world.rows().await.len(), 2);
    }
}

/// A run that has staged rows before is published with the columns as they are then.
#[tokio::test]
async fn runs_in_progress_are_published() {
    let world = World::new();
    world.save(&world.table(), &rows! { id, name, x; 1, "a", 1 }).await;
    let (same, a) = world.stage(&t(), &rows! { id, name, x; 2, "b", 2 }).await.unwrap();
    let growing = t().schema_evolution(SchemaEvolution::AddColumns);
    let (more, b) = world.stage(&growing, &rows! { id, name, x, y; 3, "c", 3, 3 }).await.unwrap();
    world.altered(rename("name", "called")).await;
    world.altered(drop_column("x")).await;
    world.altered(add("z", "string")).await;
    same.ctx.publish(&a.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1 a null", "2 b null"]);
    more.ctx.publish(&b.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1 a null null", "2 b null null", "3 c null 3"]);
    assert_eq!(DataType::Int64, *world.run().ctx.load(t()).await.unwrap().schema().as_arrow().field(3).data_type());
}
