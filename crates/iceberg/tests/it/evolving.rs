//! Columns that come, and types that widen.

use hardtack_catalog::SchemaEvolution;
use hardtack_core::ErrorKind;
use hardtack_iceberg::IcebergTable;
use hardtack_test_support::{json, rows};
use insta::assert_snapshot;

use super::World;

fn t() -> IcebergTable {
    IcebergTable::named("lake", "t")
}

#[tokio::test]
async fn columns_come_when_the_run_is_published() {
    let world = World::new();
    world.save(&world.table(), &rows! { id, place: Struct([("city", Utf8)]); 1, json!({"city": "Ghent"}) }).await;
    let more = rows! {
        id, place: Struct([("city", Utf8), ("zip", Int32)]), tags: List(Utf8);
        2, json!({"city": "Gdynia", "zip": 81}), ["new"];
    };
    let error = world.stage(&t(), &more).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_snapshot!(error, @"the table does not have these columns (columns: place.zip, tags, table: lake.t, hint: drop them before saving, or let the table grow: .schema_evolution(AddColumns))");
    let table = t().schema_evolution(SchemaEvolution::AddColumns);
    let (run, staged) = world.stage(&table, &more).await.unwrap();
    assert_eq!(world.rows().await, ["1 {city: Ghent}"]);
    run.ctx.publish(&staged.publish).await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1 {city: Ghent, zip: null} null", "2 {city: Gdynia, zip: 81} [new]"]);
}

#[tokio::test]
async fn types_widen() {
    let world = World::new();
    world.save(&world.table(), &rows! { i: Int32, f: Float32, d: Decimal128(5, 2), t; 1, 1.5, "1.00", "a" }).await;
    let wide = rows! { i: Int64, f: Float64, d: Decimal128(9, 2), t; 5000000000_i64, 1e300, "1234567.00", "b" };
    let (run, staged) = world.stage(&t().schema_evolution(SchemaEvolution::WidenTypes), &wide).await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1 1.5 1.00 a", "5000000000 1e300 1234567.00 b"]);
    // A value that does not fit is refused without it.
    let world = World::new();
    world.save(&world.table(), &rows! { i: Int32; 1 }).await;
    let error = world.stage(&t(), &rows! { i: Int64; 5000000000_i64 }).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

/// Windows of a backfill, for example.
#[tokio::test]
async fn two_runs_add_the_same_column() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let table = t().schema_evolution(SchemaEvolution::AddColumns);
    let (first, a) = world.stage(&table, &rows! { id, extra; 2, "x" }).await.unwrap();
    let (second, b) = world.stage(&table, &rows! { id, extra; 3, "y" }).await.unwrap();
    second.ctx.publish(&b.publish).await.unwrap();
    first.ctx.publish(&a.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1 null", "2 x", "3 y"]);
}

#[tokio::test]
async fn two_runs_add_columns_of_their_own() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let table = t().schema_evolution(SchemaEvolution::AddColumns);
    let (first, a) = world.stage(&table, &rows! { id, x; 2, "x" }).await.unwrap();
    let (second, b) = world.stage(&table, &rows! { id, y; 3, "y" }).await.unwrap();
    second.ctx.publish(&b.publish).await.unwrap();
    first.ctx.publish(&a.publish).await.unwrap();
    first.ctx.publish(&a.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1 null null", "2 null x", "3 y null"]);
}

/// The run that adds a column and fails leaves the columns as they were.
#[tokio::test]
async fn a_run_that_fails_adds_nothing() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let table = t().schema_evolution(SchemaEvolution::AddColumns);
    let (run, _) = world.stage(&table, &rows! { id, extra; 2, "x" }).await.unwrap();
    run.discard().await.unwrap();
    assert_eq!(world.rows().await, ["1"]);
    world.save(&table, &rows! { id, extra; 3, "y" }).await;
    assert_eq!(world.rows().await, ["1 null", "3 y"]);
}

/// Fields of structs in lists and maps, twice.
#[tokio::test]
async fn fields_come_at_every_depth() {
    let world = World::new();
    let one = rows! { id, tags: List(Struct([("a", Utf8)])), m: Map(Utf8, Struct([("x", Int32)])); 1, json!([{"a": "p"}]), json!({"k": {"x": 1}}) };
    world.save(&world.table(), &one).await;
    let table = t().schema_evolution(SchemaEvolution::AddColumns);
    let more = rows! {
        id, tags: List(Struct([("a", Utf8), ("b", Int32)])), m: Map(Utf8, Struct([("x", Int32), ("y", Int32)]));
        2, json!([{"a": "q", "b": 7}]), json!({"k": {"x": 1, "y": 2}});
    };
    let (first, a) = world.stage(&table, &more).await.unwrap();
    let (second, b) = world.stage(&table, &more).await.unwrap();
    second.ctx.publish(&b.publish).await.unwrap();
    first.ctx.publish(&a.publish).await.unwrap();
    let expected = [
        "1 [{a: p, b: null}] {k: {x: 1, y: null}}",
        "2 [{a: q, b: 7}] {k: {x: 1, y: 2}}",
        "2 [{a: q, b: 7}] {k: {x: 1, y: 2}}",
    ];
    assert_eq!(world.rows().await, expected);
}

/// The partition values of older files are of the narrower type.
#[tokio::test]
async fn partitions_are_found_when_their_type_has_widened() {
    let world = World::new();
    let new = world.new_table().partition_by([hardtack_iceberg::PartitionField::identity("p")]);
    let table = IcebergTable::named("lake", "t").create_if_missing(new);
    world.save(&table, &rows! { id, p: Int32; 1, 5; 2, 6 }).await;
    let wide = t().schema_evolution(SchemaEvolution::WidenTypes).overwrite_partitions();
    world.save(&wide, &rows! { id, p: Int64; 3, 5; 4, 5000000000_i64 }).await;
    assert_eq!(world.rows().await, ["2 6", "3 5", "4 5000000000"]);
    world.save(&t().overwrite(), &rows! { id, p: Int64; 9, 9 }).await;
    assert_eq!(world.rows().await, ["9 9"]);
}
