//! Tables that are Iceberg tables: read and saved to by name, as any other.

use hardtack_catalog::TableDescription;
use hardtack_core::bookmarks::Positions;
use hardtack_core::{Error, ErrorKind, JobContext, Sink, Source};
use hardtack_sinks::PartitionValues;
use hardtack_sources::Bookmark;
use hardtack_tables::{ByColumn, Table};
use hardtack_test_support::{Frame, rows};
use rstest::rstest;

use crate::lake::{World, load, sales};

/// The table `lake.sales`, which is created as an Iceberg table, partitioned by `day`.
fn created(world: &World) -> Table {
    sales().create_if_missing(world.description("sales", "id: bigint", "day: string")).iceberg()
}

async fn with_rows(rows: Frame) -> World {
    let world = World::new().await;
    world.save(created(&world), rows).await;
    world
}

async fn rows_of(world: &World) -> Vec<String> {
    load(&world.run(), sales()).await.unwrap()
}

async fn refused(world: &World, table: Table) -> Error {
    world.stage(table, rows! { id, day; 9, "mon" }).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn the_modes_are_those_of_any_table() {
    let world = with_rows(rows! { id, day; 1, "mon"; 2, "tue" }).await;
    assert!(world.table("sales").await.is_iceberg());
    // What is there stays what it is, whoever saves to it.
    world.save(sales(), rows! { id, day; 3, "mon" }).await;
    assert_eq!(rows_of(&world).await, ["id=1 day=mon", "id=2 day=tue", "id=3 day=mon"]);
    world.save(sales().overwrite_partitions(), rows! { id, day; 4, "mon" }).await;
    assert_eq!(rows_of(&world).await, ["id=2 day=tue", "id=4 day=mon"]);
    world.save(sales().overwrite(), rows! { id, day; 5, "wed" }).await;
    assert_eq!(rows_of(&world).await, ["id=5 day=wed"]);
    assert!(sales().overwrite().replaces() && !sales().replaces());
}

#[tokio::test]
async fn the_case_of_names_does_not_matter() {
    let world = with_rows(rows! { Id, day; 1, "mon" }).await;
    world.save(sales(), rows! { ID, Day; 2, "tue" }).await;
    let found = rows_of(&world).await;
    assert_eq!(found.len(), 2, "{found:?}");
    let ctx = world.run();
    let changes = rows! { DAY; "tue" }.to_df(ctx.session());
    let touched = sales().touched_by(&ctx, &changes).await.unwrap();
    assert_eq!(load(&ctx, touched).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_an_iceberg_table_cannot_do_is_refused() {
    let world = with_rows(rows! { id, day; 1, "mon" }).await;
    let named = PartitionValues::of("day", "mon");
    for (table, said) in [(sales().append_only(), "append_only"), (sales().also_overwriting([named]), "touched_by")] {
        let error = refused(&world, table).await;
        assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.sales")));
        assert!(error.to_string().contains(said), "{error}");
    }
    // A table does not move.
    let mut elsewhere: TableDescription = world.description("sales", "id: bigint", "day: string");
    elsewhere.storage.location = Some(world.dir.at("other"));
    let error = refused(&world, sales().create_if_missing(elsewhere).iceberg()).await;
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.sales")));
    assert_eq!(rows_of(&world).await, ["id=1 day=mon"]);
}

#[tokio::test]
async fn a_table_of_files_stays_one() {
    let world = World::partitioned().await;
    let error = refused(&world, created(&world)).await;
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.sales")));
    // It is touched as a whole.
    let ctx = world.run();
    let changes = rows! { day; "mon" }.to_df(ctx.session());
    assert_eq!(sales().touched_by(&ctx, &changes).await.unwrap(), sales());
}

#[tokio::test]
async fn partitions_that_are_touched_are_replaced() {
    let world = with_rows(rows! { id, day; 1, "mon"; 2, "tue" }).await;
    let ctx = world.run();
    let changes = rows! { day; "mon" }.to_df(ctx.session());
    let touched = sales().overwrite().touched_by(&ctx, &changes).await.unwrap();
    assert!(!touched.replaces(), "what it replaces was read");
    assert_eq!(load(&ctx, touched.clone()).await.unwrap(), ["id=1 day=mon"]);
    let odd = touched.clone().bookmarked(ByColumn::new("id"));
    assert_eq!(load(&ctx, odd).await.unwrap_err().kind(), ErrorKind::Usage);
    let staged = touched.stage(&ctx.staging("out"), rows! { id, day; 3, "mon" }.to_df(ctx.session())).await.unwrap();
    ctx.audit().await.unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(rows_of(&world).await, ["id=2 day=tue", "id=3 day=mon"]);

    // Made anew as another kind of table meanwhile.
    let changes = rows! { day; "mon" }.to_df(ctx.session());
    let touched = sales().overwrite().touched_by(&ctx, &changes).await.unwrap();
    world.catalog.drop_table("lake", "sales").await.unwrap();
    world.catalog.create_table(&world.description("sales", "id: bigint", "day: string")).await.unwrap();
    assert_eq!(refused(&world, touched).await.kind(), ErrorKind::Conflict);
}

#[rstest]
#[case::by_files(sales().bookmarked(Bookmark::by_modification_time()))]
#[case::by_column(sales().bookmarked(ByColumn::new("id")))]
#[tokio::test]
async fn a_bookmark_reads_what_is_new(#[case] source: Table) {
    let world = with_rows(rows! { id, day; 1, "mon" }).await;
    let read = async |last: &Positions| {
        let ctx = JobContext::builder("job").share(&world.run()).bookmarks(last.clone()).build().unwrap();
        let rows = load(&ctx, source.clone()).await.unwrap();
        (rows, ctx.bookmarks_after())
    };
    assert!(source.is_bookmarked());
    let (rows, last) = read(&Positions::new()).await;
    assert_eq!(rows, ["id=1 day=mon"]);
    world.save(sales(), rows! { id, day; 2, "mon" }).await;
    let (rows, last) = read(&last).await;
    assert_eq!(rows, ["id=2 day=mon"]);
    assert_eq!(read(&last).await, (Vec::new(), last));
}
