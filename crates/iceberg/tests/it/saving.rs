//! What a table has after rows were saved to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hardtack_catalog::schema;
use hardtack_core::{ErrorKind, Sink};
use hardtack_iceberg::{IcebergTable, PartitionField};
use hardtack_test_support::rows;
use insta::assert_snapshot;
use rstest::rstest;

use super::World;

#[tokio::test]
async fn a_table_is_created_and_appended_to() {
    let world = World::new();
    world.save(&world.table(), &rows! { id, name; 1, "a"; 2, null }).await;
    world.save(&IcebergTable::named("lake", "t"), &rows! { name, id; "c", 3 }).await;
    assert_eq!(world.rows().await, ["1 a", "2 null", "3 c"]);
    assert_eq!(world.refs().await, ["main"]);
    assert_snapshot!(world.history().await.join("\n"), @"
    append: +1 -0 files, +1 -0 rows; 2 files, 3 rows
    append: +1 -0 files, +2 -0 rows; 1 files, 2 rows
    ");
}

#[tokio::test]
async fn all_rows_are_replaced() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1; 2 }).await;
    world.save(&world.table().overwrite(), &rows! { id; 3 }).await;
    assert_eq!(world.rows().await, ["3"]);
    world.save(&world.table().overwrite(), &rows! { id: Int64; }).await;
    assert_eq!(world.rows().await, [""; 0]);
    assert_snapshot!(world.history().await.join("\n"), @"
    delete: +0 -1 files, +0 -1 rows; 0 files, 0 rows
    overwrite: +1 -1 files, +1 -2 rows; 1 files, 1 rows
    append: +1 -0 files, +2 -0 rows; 1 files, 2 rows
    ");
}

#[tokio::test]
async fn partitions_with_new_rows_are_replaced() {
    let world = World::new();
    let table = IcebergTable::named("lake", "t")
        .create_if_missing(world.new_table().partition_by([PartitionField::identity("day")]));
    world.save(&table, &rows! { id, day; 1, "mon"; 2, "mon"; 3, "tue"; 4, null; 5, "" }).await;
    let table = table.overwrite_partitions();
    world.save(&table, &rows! { id, day; 6, "mon"; 7, null; 8, "wed" }).await;
    assert_eq!(world.rows().await, ["3 tue", "5 ", "6 mon", "7 null", "8 wed"]);
    assert_snapshot!(world.history().await.join("\n"), @"
    overwrite: +3 -2 files, +3 -3 rows; 5 files, 5 rows
    append: +4 -0 files, +5 -0 rows; 4 files, 5 rows
    ");
    // Names do not tell the values.
    let files = world.dir.files("lake/t/data");
    assert_eq!(files.iter().filter(|file| file.contains("mon") || file.contains("day")).count(), 0, "{files:?}");
}

#[tokio::test]
async fn rows_without_partitions_are_replaced_as_a_whole() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1; 2 }).await;
    world.save(&world.table().overwrite_partitions(), &rows! { id; 3 }).await;
    assert_eq!(world.rows().await, ["3"]);
}

/// Nothing was said about other rows.
#[tokio::test]
async fn no_rows_are_no_snapshot() {
    let world = World::new();
    world.save(&world.table(), &rows! { id: Int64; }).await;
    assert_eq!(world.history().await, [""; 0]);
    assert_eq!(world.rows().await, [""; 0]);
}

#[rstest]
#[case::identity(PartitionField::identity("x"), 5)]
#[case::bucket(PartitionField::bucket(2, "x"), 3)]
#[case::truncate(PartitionField::truncate(1, "t"), 4)]
#[case::text(PartitionField::identity("t"), 5)]
#[case::year(PartitionField::year("at"), 3)]
#[case::month(PartitionField::month("at"), 4)]
#[case::day(PartitionField::day("at"), 4)]
#[case::hour(PartitionField::hour("at"), 5)]
#[case::decimal(PartitionField::identity("d"), 4)]
#[case::float(PartitionField::identity("f"), 4)]
#[case::boolean(PartitionField::identity("b"), 3)]
#[case::date(PartitionField::identity("on"), 3)]
#[tokio::test]
async fn rows_go_to_the_partition_of_their_value(#[case] field: PartitionField, #[case] files: u64) {
    let world = World::new();
    let table = IcebergTable::named("lake", "t").create_if_missing(world.new_table().partition_by([field]));
    let rows = rows! {
        x, t, at: Timestamp(Microsecond, None), d: Decimal128(5, 2), f: Float64, b, on: Date32;
        1, "ab", "1969-12-31T23:59:59.5", "1.00", 0.0, true, "1969-12-31";
        2, "ac", "1970-01-01T00:00:00", "-1.00", -0.0, false, "1970-01-01";
        3, "ba", "1970-01-01T01:00:00", "1.00", 1.5, true, "1970-01-01";
        4, "__HIVE_DEFAULT_PARTITION__", "1970-02-01T00:00:00", "0.01", -1.5, true, "1970-01-01";
        null, null, null, null, null, null, null;
    };
    world.save(&table, &rows).await;
    let before = world.rows().await;
    assert_eq!(before.len(), 5);
    let history = world.history().await.join("\n");
    assert!(history.contains(&format!("+{files} -0 files, +5")), "{history}");
    // The same rows again replace exactly their partitions.
    world.save(&table.overwrite_partitions(), &rows).await;
    assert_eq!(world.rows().await, before);
    let history = world.history().await.join("\n");
    assert!(history.contains(&format!("+{files} -{files} files, +5 -5")), "{history}");
}

#[rstest]
#[case::unknown(rows! { id, nam; 1, "a" }, "the table does not have these columns")]
#[case::missing(rows! { name; "a" }, "id")]
#[case::type_(rows! { id, name; "x", "a" }, "a value does not fit the declared type")]
#[case::null(rows! { id, name; null, "a" }, "id")]
#[tokio::test]
async fn rows_that_do_not_fit_are_refused(#[case] rows: hardtack_test_support::Frame, #[case] why: &str) {
    let world = World::new();
    let new = world.new_table().with_schema(schema! { id: bigint not null, name: string });
    let table = IcebergTable::named("lake", "t").create_if_missing(new);
    let run = world.run();
    use hardtack_core::Sink;
    let error = table.stage(&run.ctx.staging("out"), rows.to_df(run.ctx.session())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.chain().contains(why) && error.chain().contains("lake.t"), "{}", error.chain());
    run.discard().await.unwrap();
    // It was created by the run that failed.
    assert_eq!(world.catalog.get_table("lake", "t").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.dir.files("lake"), [""; 0]);
}

#[tokio::test]
async fn a_table_that_is_missing_is_not_created_by_chance() {
    let world = World::new();
    let error = world.stage(&IcebergTable::named("lake", "t"), &rows! { id; 1 }).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("create_if_missing"), "{error}");
}

#[rstest]
#[case(
    PartitionField::day("sold"),
    "the table has no column `sold` to be partitioned by (partition field: day(sold), table: lake.t, hint: did you mean `sold_at`?)"
)]
#[case(
    PartitionField::day("id"),
    "the column's type does not have this transform (partition field: day(id), type: long, table: lake.t)"
)]
#[tokio::test]
async fn a_partition_field_that_cannot_be_is_refused(#[case] field: PartitionField, #[case] why: &str) {
    let world = World::new();
    let table = IcebergTable::named("lake", "t").create_if_missing(world.new_table().partition_by([field]));
    let error = world.stage(&table, &rows! { id, sold_at; 1, "x" }).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), why);
}

#[tokio::test]
async fn a_new_table_does_not_take_the_folder_of_another() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let other = IcebergTable::named("lake", "other").create_if_missing(world.new_table());
    let Err(error) = world.stage(&other, &rows! { id; 2 }).await else { panic!("it is created") };
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.other")));
    assert!(error.get("metadata").is_some(), "{error}");
    assert_eq!(world.catalog.get_table("lake", "other").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.rows().await, ["1"]);
}

#[tokio::test]
async fn a_new_table_does_not_hide_files() {
    let world = World::new();
    world.dir.write("lake/t/year=2026/a.parquet", "rows");
    let Err(error) = world.stage(&world.table(), &rows! { id; 2 }).await else { panic!("it is created") };
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.t")));
    assert!(error.get("there is").unwrap().ends_with("lake/t/year=2026"), "{error}");
    // What is hidden is nobody's rows.
    world.dir.remove("lake/t");
    world.dir.write("lake/t/_hidden/a.parquet", "rows");
    world.save(&world.table(), &rows! { id; 2 }).await;
    assert_eq!(world.rows().await, ["2"]);
}

/// Files are handed over to the threads that write them in batches: each hand-over costs as much as a small file, and each
/// thread holds memory.
#[test]
fn many_partitions_are_written_by_few_threads() {
    let started = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&started);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(move || _ = counter.fetch_add(1, Ordering::Relaxed))
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new();
        let table = IcebergTable::named("lake", "t")
            .create_if_missing(world.new_table().partition_by([PartitionField::identity("id")]));
        let run = world.run();
        let ids = run.ctx.session().sql("select value as id from generate_series(1, 320)").await.unwrap();
        let staged = table.stage(&run.ctx.staging("out"), ids).await.unwrap();
        assert_eq!(staged.report.files, 320);
    });
    let threads = started.load(Ordering::Relaxed);
    // 64 files are written at once, in batches of 16.
    assert!(threads < 16, "{threads} threads");
}
