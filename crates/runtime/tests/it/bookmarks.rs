//! Windows of runs, and changes of bookmarks by a person.

use std::collections::BTreeMap;

use hardtack_core::{Context, ErrorKind, JobContext, Result, moment};
use hardtack_runtime::{Bars, Job, RuntimeArgs, WindowArgs, change_bookmarks, execute, open_context, open_state};
use hardtack_sinks::InMemory;
use hardtack_state::{Change, Ledger, RunStatus};
use serde_json::{Value, json};

use crate::{Counter, World, one};

impl World {
    fn ledger(&self) -> (JobContext, Ledger) {
        let ctx = open_context("job", &self.options()).unwrap();
        let state = open_state(ctx.stores(), &self.options().records.state).unwrap();
        (ctx, Ledger::new(state, "job", "default"))
    }

    async fn count(&self) -> Result<()> {
        let run = async |ctx: &Context<()>| {
            let rows = ctx.load(Counter).await?;
            ctx.save(InMemory::new("counted"), rows).await
        };
        self.run(run).await.map(drop)
    }
}

fn change() -> Change {
    Change { user: "ann".to_owned(), host: "desk".to_owned(), command: "set".to_owned(), reason: None }
}

fn bookmarks<const N: usize>(positions: [(&str, Value); N]) -> BTreeMap<String, Value> {
    positions.map(|(source, position)| (source.to_owned(), position)).into()
}

#[tokio::test]
async fn a_run_knows_its_window_and_records_it() {
    let world = World::new();
    let window = WindowArgs {
        window_start: Some(moment("2024-01-31").unwrap()),
        window_end: Some(moment("2024-02-01").unwrap()),
    };
    let options = RuntimeArgs { window, scope: "2024-01-31".to_owned(), ..world.options() };
    let mut seen = None;
    let main = async |ctx: &Context<()>| {
        seen = ctx.window();
        ctx.save(InMemory::new("out"), one(ctx).await?).await
    };
    let outcome = execute(&Job::new("job"), (), &options, main, &Bars::new(false)).await.unwrap();
    assert_eq!(seen.unwrap().to_string(), "2024-01-31 to 2024-02-01");
    assert_eq!(outcome.record.run.window, seen);
    assert_eq!(world.records().await[0].run.window, seen);
    let ctx = open_context("job", &options).unwrap();
    let state = open_state(ctx.stores(), &options.records.state).unwrap();
    let ledger = Ledger::new(state, "job", "2024-01-31");
    assert_eq!(ledger.commits().await.unwrap()[0].run.window, seen);

    // In each window it would process the same.
    let main = async |ctx: &Context<()>| ctx.save(InMemory::new("out"), one(ctx).await?).await;
    let error = execute(&Job::new("job"), (), &options, main, &Bars::new(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    insta::assert_snapshot!(error, @"the run was given a window, but the job never asks for it (hint: the job has to read by `ctx.window()`; or leave out `--window-start` and `--window-end`)");
    assert_eq!(ledger.commits().await.unwrap().len(), 1);
}

/// What `hardtack backfill` relies on when it continues.
#[tokio::test]
async fn a_run_commits_under_the_number_that_it_claims_or_not_at_all() {
    let world = World::new();
    let run = async |claim| {
        let options = RuntimeArgs { claim: Some(claim), ..world.options() };
        let mut called = false;
        let main = async |ctx: &Context<()>| {
            called = true;
            ctx.save(InMemory::new("out"), one(ctx).await?).await
        };
        let ended = execute(&Job::new("job"), (), &options, main, &Bars::new(false)).await;
        (ended.map(|outcome| outcome.record.commit).map_err(|error| error.kind()), called)
    };
    assert_eq!(run(1).await, (Ok(Some(1)), true));
    assert_eq!(run(1).await, (Err(ErrorKind::Conflict), false), "another run has it");
    assert_eq!(run(3).await, (Err(ErrorKind::Conflict), false), "nobody has the one before it");
    assert_eq!(run(2).await, (Ok(Some(2)), true));
    // The losers have left nothing behind.
    assert!(world.ledger().1.attempts().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_change_is_a_commit_and_a_run() {
    let world = World::new();
    world.count().await.unwrap();
    let (ctx, ledger) = world.ledger();
    let before = bookmarks([("counter", json!(1))]);
    let record = change_bookmarks(&ctx, &ledger, &change(), &before, bookmarks([("counter", json!(7))])).await.unwrap();
    assert_eq!((record.status, record.commit, &record.change), (RunStatus::Succeeded, Some(2), &Some(change())));
    assert_eq!((&record.bookmarks_from, record.bookmarks_to["counter"].clone()), (&before, json!(7)));
    assert!(world.records().await.contains(&record));
    assert!(ledger.pending().await.unwrap().is_empty() && ledger.attempts().await.unwrap().is_empty());
    world.count().await.unwrap();
    assert_eq!(ledger.newest_bookmarks().await.unwrap().unwrap().bookmarks, bookmarks([("counter", json!(8))]));
}

/// The person has seen positions that are no longer there.
#[tokio::test]
async fn a_change_of_positions_that_have_moved_is_a_conflict() {
    let world = World::new();
    world.count().await.unwrap();
    let (ctx, ledger) = world.ledger();
    let seen = bookmarks([("counter", json!(1))]);
    world.count().await.unwrap();
    let error = change_bookmarks(&ctx, &ledger, &change(), &seen, BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("a run has moved the bookmarks meanwhile"), "{error}");
    assert_eq!(ledger.newest_bookmarks().await.unwrap().unwrap().bookmarks["counter"], json!(2));
    let record = world.records().await.into_iter().find(|record| record.change.is_some()).unwrap();
    assert_eq!((record.status, record.change), (RunStatus::Superseded, Some(change())));
    assert!(ledger.attempts().await.unwrap().is_empty(), "its attempt is left");
}

/// A change of one position and a run that moves another keep both.
#[tokio::test]
async fn a_run_keeps_the_positions_of_sources_that_it_does_not_read() {
    let world = World::new();
    let (ctx, ledger) = world.ledger();
    let other = bookmarks([("other", json!({"through": "2026-11-21"}))]);
    change_bookmarks(&ctx, &ledger, &change(), &BTreeMap::new(), other.clone()).await.unwrap();
    world.count().await.unwrap();
    let all = ledger.newest_bookmarks().await.unwrap().unwrap().bookmarks;
    assert_eq!((&all["other"], &all["counter"]), (&other["other"], &json!(1)));
}
