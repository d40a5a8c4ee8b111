//! Runs whose table is swapped for another one before they are published, in the embedded catalog: a REST server swaps none.

use std::sync::Arc;

use hardtack_catalog::Catalog;
use hardtack_core::{ErrorKind, Sink};
use hardtack_iceberg::{IcebergTable, NewIcebergTable};
use hardtack_test_support::rows;
use insta::assert_snapshot;
use rstest::rstest;

use super::World;
use crate::interposed::Interposed;

/// A world with the table `green.t` as well, with the row 7, and how it is swapped with `lake.t`, which has the row 1.
async fn blue_and_green() -> World {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let new = NewIcebergTable::at(world.at("green/t"));
    world.save(&IcebergTable::named("green", "t").create_if_missing(new), &rows! { id; 7 }).await;
    world
}

async fn swap(catalog: Arc<dyn Catalog>) {
    let (lake, green) = (catalog.get_table("lake", "t").await.unwrap(), catalog.get_table("green", "t").await.unwrap());
    catalog.swap_tables(&lake, &green).await.unwrap();
}

async fn rows_of_both(world: &World) -> [Vec<String>; 2] {
    [world.rows().await, world.read(IcebergTable::named("green", "t")).await.unwrap()]
}

/// Not even by name: what a run has staged is published to the table to which it has written, or not at all.
#[tokio::test]
async fn a_run_is_not_published_to_a_table_that_was_swapped_for_its_own() {
    let world = blue_and_green().await;
    let (run, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    swap(Arc::clone(&world.catalog)).await;
    let error = run.ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_snapshot!(error, @"the table was dropped or swapped after the run had written to it, and another one has its name (table: lake.t, hint: if two tables were swapped, swap them back and run `hardtack recover`; or leave the rows out with `hardtack recover --skip-missing`, and run the job again)");
    assert_eq!(rows_of_both(&world).await, [["7"], ["1"]]);
    // A run that has failed leaves the other table alone as well.
    run.discard().await.unwrap();
    assert_eq!(rows_of_both(&world).await, [["7"], ["1"]]);
    swap(Arc::clone(&world.catalog)).await;
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(rows_of_both(&world).await, [vec!["1", "2"], vec!["7"]]);
}

/// The tables are swapped between the last look at the table and the commit, of the branch or of `main`.
#[rstest]
#[case::while_it_stages(true)]
#[case::while_it_publishes(false)]
#[tokio::test]
async fn a_commit_asserts_which_table_it_is(#[case] stages: bool) {
    let world = blue_and_green().await;
    let swapping = Box::pin(swap(Arc::clone(&world.catalog)));
    let run = world.run_with(Interposed::new(&world.catalog, swapping));
    let error = if stages {
        let rows = rows! { id; 2 }.to_df(run.ctx.session());
        world.table().stage(&run.ctx.staging("out"), rows).await.unwrap_err()
    } else {
        let (_, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
        run.ctx.publish(&staged.publish).await.unwrap_err()
    };
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("swapped meanwhile"), "{error}");
    assert_eq!(rows_of_both(&world).await, [["7"], ["1"]]);
}
