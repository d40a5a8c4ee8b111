//! Bookmarks of tables of which other engines have deleted rows where they are.

use hardtack_core::bookmarks::Positions;
use hardtack_core::{ErrorKind, JobContext};
use hardtack_iceberg::IcebergTable;
use hardtack_test_support::rows;
use rstest::rstest;

use super::World;
use crate::foreign::Deletes;
use crate::world::lines;

#[rstest]
#[case::positions(Deletes::Positions)]
#[case::values(Deletes::Values)]
#[tokio::test]
async fn a_bookmark_moves_over_what_is_left(#[case] how: Deletes) {
    let world = World::new();
    for id in 0..6_i64 {
        world.save(&world.table(), &rows! { id; 2 * id; 2 * id + 1 }).await;
    }
    world.delete_rows(&[0, 2, 4, 6, 8, 10], how).await;
    let source = || IcebergTable::named("lake", "t").bookmarked();
    let ctx =
        |last: &Positions| JobContext::builder("job").share(&world.run().ctx).bookmarks(last.clone()).build().unwrap();
    // What a limit leaves out is read by the next run.
    let limited = ctx(&Positions::new());
    let rows = limited.load(source()).await.unwrap().limit(0, Some(1)).unwrap();
    assert_eq!(rows.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    assert_eq!(limited.bookmarks_after(), Positions::new());
    let all = ctx(&Positions::new());
    let rows = all.load(source()).await.unwrap().collect().await.unwrap();
    let mut rows: Vec<String> = rows.iter().flat_map(lines).collect();
    rows.sort();
    assert_eq!(rows, ["1", "11", "3", "5", "7", "9"]);
    let last = all.bookmarks_after();
    assert!(last.contains_key("lake.t"));

    world.save(&world.table(), &rows! { id; 12 }).await;
    let next = ctx(&last);
    let rows = next.load(source()).await.unwrap().collect().await.unwrap();
    assert_eq!(rows.iter().flat_map(lines).collect::<Vec<_>>(), ["12"]);
    // Which rows go now cannot be told.
    world.delete_rows(&[12], how).await;
    let error = ctx(&last).load(source().with_changes()).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Refused, Some("lake.t")));
}
