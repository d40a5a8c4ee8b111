//! What queries spill to disk is watched.

use hardtack_core::{Context, Error, Result};
use hardtack_runtime::{Bars, Job, Outcome, QueryArgs, RuntimeArgs, execute};
use hardtack_sinks::JsonLines;

use crate::World;

/// More rows than the memory limit holds, sorted.
const BIG: &str =
    "select value, repeat('x', 100) || cast(value as string) as x from generate_series(1, 400000) order by x";

/// Saves them, after a statement.
async fn sorted(world: &World, first: &str) -> Result<Outcome> {
    let query = QueryArgs { memory_limit: Some(32 << 20), threads: Some(1), spill_dir: None };
    let options = RuntimeArgs { query, ..world.options() };
    let main = async |ctx: &Context<()>| {
        ctx.session().sql(first).await?;
        ctx.save(JsonLines::new("big", world.at("out/big.jsonl")), ctx.session().sql(BIG).await?).await
    };
    execute(&Job::new("job"), (), &options, main, &Bars::new(false)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_that_was_spilled_is_on_record() {
    let world = World::new();
    let record = sorted(&world, "select 1").await.unwrap().record;
    assert!(record.spilled_bytes.is_some_and(|bytes| bytes > 1 << 20), "{:?}", record.spilled_bytes);
    assert_eq!(world.records().await, [record]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_spills_nothing_says_nothing_of_it() {
    let world = World::new();
    let record = world.run(async |_| Ok(())).await.unwrap().record;
    assert_eq!(record.spilled_bytes, None);
}

/// DataFusion has a limit of its own, which a full disk looks like.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_no_more_space_says_where_and_how_much_there_was() {
    let world = World::new();
    let error: Error = sorted(&world, "set datafusion.runtime.max_temp_directory_size = '1M'").await.unwrap_err();
    assert_eq!(error.message(), "the spill disk is full");
    for name in ["folder", "free", "limit"] {
        assert!(error.get(name).is_some(), "{name}: {error}");
    }
    assert_eq!(world.records().await[0].error.as_ref().unwrap().message, error.chain());
}
