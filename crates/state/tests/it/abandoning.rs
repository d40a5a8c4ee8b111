//! Abandoned commits: what settles them, where the next run starts, and which leftovers there are.

use bytes::Bytes;
use chrono::DateTime;
use hardtack_core::{DiscardAction, ErrorKind, Journal};
use hardtack_state::{Abandonment, Attempt, Begun, End, Ledger, Settlement, broken_objects};
use rstest::rstest;

use crate::{World, begin, commit, run, upload, world};

fn by(user: &str) -> Abandonment {
    Abandonment { user: user.to_owned(), host: "laptop".to_owned(), at: DateTime::UNIX_EPOCH }
}

/// A ledger with a published commit, and a second one that its run cannot publish, each with a bookmark.
async fn stuck(world: &World) -> (Ledger, Attempt) {
    let ledger = world.ledger("default");
    begin(&ledger, &run("r1")).await;
    ledger.commit(&commit(1, "r1")).await.unwrap();
    ledger.mark_published(1, &run("r1").id).await.unwrap();
    ledger.forget(&run("r1").id).await.unwrap();
    let attempt = begin(&ledger, &run("r2")).await;
    ledger.commit(&commit(2, "r2")).await.unwrap();
    (ledger, attempt)
}

#[rstest]
#[tokio::test]
async fn the_next_run_starts_from_the_last_commit_that_was_published(#[values("file", "memory")] store: &str) {
    let world = world(store);
    let (ledger, _) = stuck(&world).await;
    assert!(matches!(ledger.begin(&run("r3")).await.unwrap(), Begun::Unpublished));
    assert_eq!(ledger.abandon(2, &by("ann")).await.unwrap(), Settlement::Abandoned(by("ann")));
    assert_eq!(ledger.pending().await.unwrap(), []);
    // The number stays taken, and its input must be read again.
    let next = begin(&ledger, &run("r3")).await;
    assert_eq!((next.record.claims, next.bookmarks), (3, commit(1, "r1").bookmarks));
    // The same holds if several commits in a row are abandoned.
    ledger.commit(&commit(3, "r3")).await.unwrap();
    ledger.abandon(3, &by("ann")).await.unwrap();
    assert_eq!(begin(&ledger, &run("r4")).await.bookmarks, commit(1, "r1").bookmarks);
    ledger.commit(&commit(4, "r4")).await.unwrap();
    ledger.mark_published(4, &run("r4").id).await.unwrap();
    assert_eq!(begin(&ledger, &run("r5")).await.bookmarks, commit(4, "r4").bookmarks);
    assert!(broken_objects(&world.state).await.unwrap().is_empty());
    let head = world.state.get("job/scopes/default/head.json").await.unwrap();
    assert_eq!(head, Some(Bytes::from("4")), "whoever comes later does not look at them again");
}

#[tokio::test]
async fn without_any_published_commit_the_next_run_starts_afresh() {
    let world = world("memory");
    let ledger = world.ledger("default");
    ledger.commit(&commit(1, "r1")).await.unwrap();
    ledger.abandon(1, &by("ann")).await.unwrap();
    let next = begin(&ledger, &run("r2")).await;
    assert_eq!((next.record.claims, next.bookmarks.len()), (2, 0));
}

/// The first settlement decides, and later ones accept it.
#[tokio::test]
async fn a_commit_is_settled_once() {
    let world = world("file");
    let (ledger, _) = stuck(&world).await;
    ledger.abandon(2, &by("ann")).await.unwrap();
    let first = Settlement::Abandoned(by("ann"));
    assert_eq!(ledger.abandon(2, &by("bob")).await.unwrap(), first);
    assert_eq!(ledger.mark_published(2, &run("r2").id).await.unwrap(), first);
    assert_eq!(ledger.abandonment(2).await.unwrap(), Some(by("ann")));
    let error = first.published(2).unwrap_err();
    assert_eq!((error.kind(), error.detail()), (ErrorKind::Lost, Some(&by("ann"))));
    assert!(error.to_string().contains("by ann on laptop at 1970-01-01T00:00:00Z"), "{error}");

    let late = ledger.abandon(1, &by("bob")).await.unwrap_err();
    assert_eq!(
        (late.kind(), late.message()),
        (ErrorKind::Usage, "commit 1 is published, so there is nothing to abandon")
    );
    // A number that no run has taken must not be settled: a run may still take it.
    assert_eq!(ledger.abandon(3, &by("bob")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(ledger.settlement(3).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_staged_is_left_over_but_for_what_may_be_pointed_to() {
    let world = world("memory");
    let (ledger, attempt) = stuck(&world).await;
    let hidden = DiscardAction::StagedFiles { folder: "/x".into(), suffix: ".r2.staged".to_owned() };
    let folder = DiscardAction::Folder { location: "/x/_versions/r2-12345678".into() };
    for action in [&upload("u1"), &hidden, &folder] {
        attempt.journal.note(action.clone()).await.unwrap();
    }
    assert!(ledger.finished().await.unwrap().is_empty(), "it can still be published");
    assert!(ledger.is_contested(&run("other").id).await.unwrap());
    ledger.abandon(2, &by("ann")).await.unwrap();
    let [finished] = ledger.finished().await.unwrap().try_into().unwrap();
    assert_eq!((&finished.end, finished.run.as_str()), (&End::Abandoned(by("ann")), "r2"));
    // A partition may already point to the folder; vacuum determines that.
    assert_eq!(finished.leftovers, [upload("u1"), hidden]);
    assert!(finished.has_ended(DateTime::UNIX_EPOCH), "a run that has committed stages nothing any more");
    assert!(!ledger.is_contested(&run("other").id).await.unwrap());
    let end = ledger.end_of_run(&run("r2").id).await.unwrap();
    assert_eq!(end, Some(End::Abandoned(by("ann"))));
}

/// An unreadable record blocks its scope as well.
#[tokio::test]
async fn a_commit_whose_record_is_damaged_can_be_given_up() {
    let world = world("file");
    let (ledger, _) = stuck(&world).await;
    world.state.put("job/scopes/default/commits/000000000002.json", Bytes::from("{")).await.unwrap();
    let error = ledger.pending().await.unwrap_err();
    assert!(error.get_hint().unwrap().contains("`hardtack recover --job job --scope default --abandon 2`"), "{error}");
    assert!(ledger.finished().await.unwrap().is_empty(), "a copy of the record may turn up");
    assert_eq!(ledger.abandonable(2).await.unwrap(), None);
    ledger.abandon(2, &by("ann")).await.unwrap();
    assert_eq!(ledger.pending().await.unwrap(), []);
    let [finished] = ledger.finished().await.unwrap().try_into().unwrap();
    assert_eq!((finished.run.as_str(), finished.end), ("r2", End::Abandoned(by("ann"))));
    let next = begin(&ledger, &run("r3")).await;
    assert_eq!((next.record.claims, next.bookmarks), (3, commit(1, "r1").bookmarks));
}
