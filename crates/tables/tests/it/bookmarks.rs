//! Tables of which a run reads what is new.

use chrono::TimeDelta;
use datafusion::prelude::{col, lit};
use hardtack_catalog::{Catalog, DatabaseName, TableDescription, TableFormat, columns_of, schema};
use hardtack_core::bookmarks::Positions;
use hardtack_core::{ErrorKind, JobContext, Source};
use hardtack_sources::{Bookmark, JsonFiles};
use hardtack_tables::{ByColumn, Dataset, Table};
use rstest::rstest;

use crate::world::{World, cells};

/// Events by day, as JSON.
async fn events(world: &World) -> TableDescription {
    let table = TableDescription::new("lake", "events", &TableFormat::Json, "memory:/lake/events")
        .with_columns(columns_of(&schema! { id: bigint }).unwrap())
        .with_partition_keys(columns_of(&schema! { day: string }).unwrap());
    world.create(&table).await;
    table
}

async fn put(world: &World, day: &str, file: &str, id: u32) {
    world.put(format!("memory:/lake/events/day={day}/{file}"), format!("{{\"id\": {id}}}")).await;
}

/// What a run reads that begins with these bookmarks, and those that it leaves.
async fn read(world: &World, last: Positions, source: impl Source) -> (String, Positions) {
    let ctx = JobContext::builder("job").share(&world.ctx).bookmarks(last).build().unwrap();
    let rows = ctx.load(source).await.unwrap();
    let rows = rows.sort_by(vec![col("id")]).unwrap();
    (cells(rows).await, ctx.bookmarks_after())
}

fn new_events() -> Table {
    Table::named("lake", "events").bookmarked(Bookmark::by_modification_time())
}

#[rstest]
#[case::by_time(Bookmark::by_modification_time().into())]
#[case::by_path(Bookmark::by_path().into())]
#[tokio::test]
async fn new_partitions_and_new_files_are_read_once(#[case] bookmark: Bookmark) {
    let (world, source) = (World::new(), Table::named("lake", "events").bookmarked(bookmark));
    let table = events(&world).await;
    world.partitions(&table, &[["01"], ["02"]]).await;
    put(&world, "01", "a.json", 1).await;
    put(&world, "02", "a.json", 2).await;
    put(&world, "03", "a.json", 3).await;
    let (rows, last) = read(&world, Positions::new(), source.clone()).await;
    assert_eq!(rows, "1|01;2|02", "the third is not in the catalog");

    world.partitions(&table, &[["03"]]).await;
    put(&world, "02", "b.json", 4).await;
    let (rows, last) = read(&world, last, source.clone()).await;
    assert_eq!(rows, "3|03;4|02");
    let (rows, same) = read(&world, last.clone(), source).await;
    assert_eq!((rows.as_str(), same), ("", last));
}

#[tokio::test]
async fn a_filter_on_partitions_leaves_nothing_for_later() {
    let world = World::new();
    let table = events(&world).await;
    world.partitions(&table, &[["01"], ["02"]]).await;
    put(&world, "01", "a.json", 1).await;
    put(&world, "02", "a.json", 2).await;
    let ctx = JobContext::builder("job").share(&world.ctx).build().unwrap();
    let rows = ctx.load(new_events()).await.unwrap();
    let limited = rows.clone().limit(0, Some(1)).unwrap();
    assert!(!cells(limited).await.is_empty());
    assert!(!ctx.bookmarks_after().contains_key("lake.events"), "of two, one was needed");
    assert_eq!(cells(rows.filter(col("day").eq(lit("02"))).unwrap()).await, "2|02");
    let (rows, _) = read(&world, ctx.bookmarks_after(), new_events()).await;
    assert_eq!(rows, "");
}

/// The same job, with and without a catalog.
#[tokio::test]
async fn a_dataset_has_the_bookmark_of_its_files() {
    let world = World::new();
    let table = events(&world).await;
    world.partitions(&table, &[["01"]]).await;
    put(&world, "01", "a.json", 1).await;
    let database: DatabaseName = "lake".parse().unwrap();
    let files = || {
        JsonFiles::new("events", "memory:/lake/events")
            .with_schema(schema! { id: bigint, day: string })
            .with_hive_partitions()
            .bookmarked(Bookmark::by_modification_time())
    };
    for database in [None, Some(&database)] {
        let source = Dataset::new(files(), database);
        assert!(source.is_bookmarked());
        let (rows, last) = read(&world, Positions::new(), source.clone()).await;
        assert_eq!(rows, "1|01");
        assert_eq!(read(&world, last.clone(), source).await, (String::new(), last));
    }
}

#[tokio::test]
async fn a_table_that_was_moved_is_refused() {
    let world = World::new();
    events(&world).await;
    let position = serde_json::json!({"format": 1, "location": "memory:/old", "by": "path", "through": ""});
    let last = Positions::from([("lake.events".to_owned(), position)]);
    let ctx = JobContext::builder("job").share(&world.ctx).bookmarks(last).build().unwrap();
    let error = ctx.load(Table::named("lake", "events").bookmarked(Bookmark::by_path())).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.events")));
}

/// Its path comes before or after all others, whatever its time.
#[tokio::test]
async fn a_partition_elsewhere_has_no_place_in_the_order_of_paths() {
    let world = World::new();
    let table = events(&world).await;
    world.catalog.add_partitions(&table, &[table.partition(["01".to_owned()], "memory:/other/01")]).await.unwrap();
    world.put("memory:/other/01/a.json", "{\"id\": 1}").await;
    let ctx = JobContext::builder("job").share(&world.ctx).build().unwrap();
    let error = ctx.load(Table::named("lake", "events").bookmarked(Bookmark::by_path())).await.unwrap_err();
    assert_eq!((error.kind(), error.get("file")), (ErrorKind::Usage, Some("memory:/other/01/a.json")));
    assert_eq!(read(&world, Positions::new(), new_events()).await.0, "1|01");
}

// --- by a column ----------------------------------------------------------------------------------------------------

/// Orders with a moment of change.
async fn orders(world: &World) {
    let table = TableDescription::new("lake", "orders", &TableFormat::Json, "memory:/lake/orders").with_columns(
        columns_of(&schema! { id: bigint, tiny: tinyint, at: timestamp, day: date, code: string }).unwrap(),
    );
    world.create(&table).await;
}

async fn order(world: &World, id: u32, time: &str) {
    let row = format!(
        r#"{{"id": {id}, "tiny": {id}, "at": "2026-01-01T{time}:00Z", "day": "2026-01-{:02}", "code": "c{id}"}}"#,
        id + 1
    );
    world.put(format!("memory:/lake/orders/{id}.json"), row).await;
}

/// The ids that a run reads.
async fn ids(world: &World, last: Positions, by: ByColumn) -> (String, Positions) {
    let ctx = JobContext::builder("job").share(&world.ctx).bookmarks(last).build().unwrap();
    let rows = ctx.load(Table::named("lake", "orders").bookmarked(by)).await.unwrap();
    let rows = rows.sort_by(vec![col("id")]).unwrap().select(vec![col("orders.id")]).unwrap();
    (cells(rows).await, ctx.bookmarks_after())
}

#[rstest]
#[case::numbers(ByColumn::new("id"), "3")]
#[case::moments(ByColumn::new("at"), "3")]
#[case::dates(ByColumn::new("day"), "3")]
#[case::texts(ByColumn::new("code"), "3")]
#[case::numbers_again(ByColumn::new("id").look_back(1_i64), "2;3")]
#[case::moments_again(ByColumn::new("at").look_back(TimeDelta::minutes(59)), "2;3")]
#[case::all_again(ByColumn::new("tiny").look_back(i64::MAX), "1;2;3")]
#[case::days_again(ByColumn::new("day").look_back(TimeDelta::days(2)), "1;2;3")]
#[tokio::test]
async fn rows_above_the_highest_value_are_read(#[case] by: ByColumn, #[case] expected: &str) {
    let world = World::new();
    orders(&world).await;
    order(&world, 1, "09:00").await;
    order(&world, 2, "10:00").await;
    let (rows, last) = ids(&world, Positions::new(), by.clone()).await;
    assert_eq!(rows, "1;2");
    order(&world, 3, "11:00").await;
    let (rows, last) = ids(&world, last, by.clone()).await;
    assert_eq!(rows, expected);
    let (_, same) = ids(&world, last.clone(), by).await;
    assert_eq!(same, last);
}

#[tokio::test]
async fn a_position_by_column_can_be_read_by_people() {
    let world = World::new();
    orders(&world).await;
    order(&world, 1, "09:00").await;
    let (_, last) = ids(&world, Positions::new(), ByColumn::new("at")).await;
    insta::assert_snapshot!(last["lake.orders"], @r#"{"format":1,"location":"lake.orders","by":"column","column":"at","through":"2026-01-01T09:00:00"}"#);
}

/// The highest value is that of a plan that has read all.
#[tokio::test]
async fn a_limit_does_not_move_a_bookmark_by_column() {
    let world = World::new();
    orders(&world).await;
    order(&world, 1, "09:00").await;
    order(&world, 2, "10:00").await;
    let ctx = JobContext::builder("job").share(&world.ctx).build().unwrap();
    let rows = ctx.load(Table::named("lake", "orders").bookmarked(ByColumn::new("id"))).await.unwrap();
    rows.clone().limit(0, Some(1)).unwrap().collect().await.unwrap();
    assert_eq!(ctx.bookmarks_held()["lake.orders"], "no plan has read it to its end");
    rows.filter(col("id").lt(lit(2))).unwrap().collect().await.unwrap();
    assert_eq!(ctx.bookmarks_after()["lake.orders"]["through"], "2", "the filter has seen it");
}

#[rstest]
#[case::unknown(ByColumn::new("nope"), ErrorKind::Usage, "the table does not have the column of the bookmark")]
#[case::another(ByColumn::new("code"), ErrorKind::Usage, "the bookmark of this source is of another table or column")]
#[case::a_number_back(
    ByColumn::new("at").look_back(1_i64), ErrorKind::Usage, "the look-back of the bookmark does not fit the column"
)]
#[tokio::test]
async fn a_column_that_does_not_fit_is_refused(#[case] by: ByColumn, #[case] kind: ErrorKind, #[case] expected: &str) {
    let world = World::new();
    orders(&world).await;
    order(&world, 1, "09:00").await;
    let (_, last) = ids(&world, Positions::new(), ByColumn::new("at")).await;
    let ctx = JobContext::builder("job").share(&world.ctx).bookmarks(last).build().unwrap();
    let error = ctx.load(Table::named("lake", "orders").bookmarked(by)).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (kind, expected));
}

/// It would never be found again.
#[tokio::test]
async fn a_null_in_the_column_is_refused() {
    let world = World::new();
    orders(&world).await;
    order(&world, 1, "09:00").await;
    let (_, last) = ids(&world, Positions::new(), ByColumn::new("id")).await;
    world.put("memory:/lake/orders/null.json", r#"{"code": "x"}"#).await;
    let (error, same) = ids(&world, last.clone(), ByColumn::new("id")).await;
    assert!(error.contains("a value of the bookmark's column is missing"), "{error}");
    assert_eq!(same, last);
}
