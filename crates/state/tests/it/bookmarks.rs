//! The history of positions, and the records of backfills.

use chrono::{DateTime, TimeDelta};
use hardtack_core::{Window, moment};
use hardtack_state::{Abandonment, Backfill, Change, CommitRecord, Ledger, Move, WindowRecord, WindowStatus, moves};
use rstest::rstest;
use serde_json::json;

use crate::{commit, run, world};

#[rstest]
#[tokio::test]
async fn the_history_is_that_of_commits_that_count(#[values("file", "memory")] store: &str) {
    let world = world(store);
    let ledger = world.ledger("default");
    assert_eq!(ledger.newest_bookmarks().await.unwrap(), None);
    for (n, id) in [(1, "a"), (2, "b"), (3, "c")] {
        ledger.commit(&commit(n, id)).await.unwrap();
    }
    let by = Abandonment { user: "u".to_owned(), host: "h".to_owned(), at: DateTime::UNIX_EPOCH };
    ledger.mark_published(1, &run("a").id).await.unwrap();
    ledger.abandon(2, &by).await.unwrap();
    let history = ledger.bookmark_history().await.unwrap();
    let said: Vec<_> = history.iter().map(|at| (at.sequence, at.run.id.as_str(), at.is_published)).collect();
    assert_eq!(said, [(1, "a", true), (3, "c", false)]);
    assert_eq!(ledger.newest_bookmarks().await.unwrap().as_ref(), history.last());
    assert_eq!(history[1].bookmarks["in"], json!({"at": 3}));
}

/// A record that cannot be read is no reason to show a history without it.
#[tokio::test]
async fn a_damaged_commit_is_an_error() {
    let world = world("memory");
    let ledger = world.ledger("default");
    ledger.commit(&commit(1, "a")).await.unwrap();
    world.state.put("job/scopes/default/commits/000000000001.json", "{".into()).await.unwrap();
    assert!(ledger.bookmark_history().await.unwrap_err().message().contains("does not parse"));
}

#[test]
fn a_move_has_a_source_that_differs() {
    let before = [("gone".to_owned(), json!(1)), ("kept".to_owned(), json!(2)), ("moved".to_owned(), json!(3))].into();
    let after = [("kept".to_owned(), json!(2)), ("moved".to_owned(), json!(4)), ("new".to_owned(), json!(5))].into();
    let moved = |source: &str, from, to| Move { source: source.to_owned(), from, to };
    let wanted = [
        moved("gone", Some(json!(1)), None),
        moved("moved", Some(json!(3)), Some(json!(4))),
        moved("new", None, Some(json!(5))),
    ];
    assert_eq!(moves(&before, &after), wanted);
}

#[tokio::test]
async fn a_change_is_part_of_its_commit() {
    let world = world("memory");
    let ledger = world.ledger("default");
    let change = Change {
        user: "ann".to_owned(),
        host: "desk".to_owned(),
        command: "reset".to_owned(),
        reason: Some("delivered again".to_owned()),
    };
    assert_eq!(change.to_string(), "reset by ann@desk: delivered again");
    ledger.commit(&CommitRecord { change: Some(change.clone()), ..commit(1, "a") }).await.unwrap();
    assert_eq!(ledger.bookmark_history().await.unwrap()[0].change, Some(change));
}

#[tokio::test]
async fn jobs_and_scopes_are_found() {
    let world = world("memory");
    assert!(Ledger::jobs(&world.state).await.unwrap().is_empty());
    for scope in ["b/c", "a"] {
        world.ledger(scope).commit(&commit(1, "r")).await.unwrap();
    }
    assert_eq!(Ledger::jobs(&world.state).await.unwrap(), ["job".to_owned()].into());
    let scopes: Vec<_> =
        Ledger::of_job(&world.state, "job").await.unwrap().iter().map(|l| l.scope().to_owned()).collect();
    assert_eq!(scopes, ["a", "b/c"]);
    assert!(Ledger::of_job(&world.state, "jo").await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn windows_have_a_record_each(#[values("file", "memory")] store: &str) {
    let world = world(store);
    let backfill = Backfill::new(world.state.clone(), "job");
    let start = moment("2024-01-01").unwrap();
    let day = |n| Window::new(start + TimeDelta::days(n), start + TimeDelta::days(n + 1)).unwrap();
    let record = WindowRecord {
        window: day(1),
        scope: day(1).scope(),
        status: WindowStatus::Failed,
        runs: vec![run("a").id],
        after: 4,
        started_at: start,
        finished_at: Some(start + TimeDelta::milliseconds(1500)),
        exit_code: Some(3),
        error: Some("no".to_owned()),
    };
    backfill.put(&record).await.unwrap();
    assert_eq!(record.seconds(), Some(1.5));
    let found = backfill.get_all(&[day(0), day(1), day(2)]).await;
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    assert_eq!(found, [None, Some(record), None]);
    // It is neither a run nor a scope.
    assert!(Ledger::jobs(&world.state).await.unwrap().is_empty());
}
