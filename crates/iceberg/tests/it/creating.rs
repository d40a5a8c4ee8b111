//! Tables that several runs create.

use std::sync::Arc;

use hardtack_test_support::rows;

use super::World;
use crate::interposed::Interposed;

/// Between the moment at which a run finds no table, and the one at which it looks what is in the folder.
#[tokio::test]
async fn a_table_that_another_run_has_created_and_published_meanwhile_is_used() {
    let world = Arc::new(World::new());
    let there = Arc::clone(&world);
    let others = Box::pin(async move { there.save(&there.table(), &rows! { id; 1 }).await });
    let run = world.run_with(Interposed::after_lookup(&world.catalog, others));
    let rows = rows! { id; 2 }.to_df(run.ctx.session());
    let staged = hardtack_core::Sink::stage(&world.table(), &run.ctx.staging("out"), rows).await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1", "2"]);
}
