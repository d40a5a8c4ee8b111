//! The ledger against real stores: what excludes what, and what may be removed when.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test looks at files and stops where it fails")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hardtack_core::{DiscardAction, ErrorKind, JobContext, Journal, Location, PublishAction, Result, Run};
use hardtack_state::{CommitRecord, Ledger, ObjectState, RunRecord, StateStore};
use rstest::rstest;

fn run(id: &str) -> Run {
    Run {
        id: id.parse().unwrap(),
        job: "job".to_owned(),
        scope: Run::WHOLE_JOB.to_owned(),
        started_at: DateTime::<Utc>::UNIX_EPOCH,
        token: "12345678".to_owned(),
    }
}

fn commit(sequence: u64, id: &str) -> CommitRecord {
    CommitRecord {
        sequence,
        run: run(id),
        committed_at: DateTime::<Utc>::UNIX_EPOCH,
        publish: [("out".to_owned(), vec![PublishAction::Delete { location: "memory:/x".into() }])].into(),
        bookmarks: [("in".to_owned(), serde_json::json!({"at": sequence}))].into(),
    }
}

fn upload(id: &str) -> DiscardAction {
    DiscardAction::Upload { location: "memory:/x".into(), upload_id: id.to_owned() }
}

/// State on the file system and in memory.
struct World {
    _folder: tempfile::TempDir,
    _ctx: JobContext,
    state: Arc<dyn StateStore>,
}

fn world(store: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let ctx = JobContext::builder("job").build().unwrap();
    let location = if store == "file" { Location::from(folder.path()).join("st ate") } else { "memory:/state".into() };
    let state = Arc::new(ObjectState::open(ctx.stores(), &location).unwrap());
    World { _folder: folder, _ctx: ctx, state }
}

impl World {
    fn ledger(&self, scope: &str) -> Ledger {
        Ledger::new(Arc::clone(&self.state), "job", scope)
    }
}

#[rstest]
#[tokio::test]
async fn commits_are_numbered_and_carry_the_bookmarks_on(#[values("file", "memory")] store: &str) {
    let world = world(store);
    let ledger = world.ledger("default");
    for n in 1..=3 {
        let id = format!("r{n}");
        let attempt = ledger.begin(&run(&id)).await.unwrap().unwrap();
        assert_eq!(attempt.record.claims, n);
        let bookmark = attempt.bookmarks.get("in").map(|b| b["at"].as_u64().unwrap());
        assert_eq!(bookmark, (n > 1).then_some(n - 1));
        ledger.commit(&commit(n, &id)).await.unwrap();
        assert_eq!(ledger.pending().await.unwrap(), [commit(n, &id)]);
        assert!(!ledger.is_published(n).await.unwrap());
        ledger.mark_published(n, &run(&id).id).await.unwrap();
        ledger.mark_published(n, &run("another").id).await.unwrap();
        assert!(ledger.is_published(n).await.unwrap());
        assert_eq!(ledger.pending().await.unwrap(), []);
        assert_eq!(ledger.newest().await.unwrap(), n);
    }
}

#[rstest]
#[tokio::test]
async fn one_of_many_takes_a_number(#[values("file", "memory")] store: &str) {
    let world = world(store);
    let ledger = world.ledger("default");
    let attempts = (0..16).map(|n| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.commit(&commit(1, &format!("r{n}"))).await })
    });
    let mut winners = 0;
    for attempt in futures::future::join_all(attempts).await {
        match attempt.unwrap() {
            Ok(()) => winners += 1,
            Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict),
        }
    }
    assert_eq!(winners, 1);
    // The winner that asks again, because its answer was lost, has still won.
    let winner = ledger.get(1).await.unwrap().unwrap();
    ledger.commit(&winner).await.unwrap();
}

#[tokio::test]
async fn scopes_and_odd_names_do_not_touch_one_another() {
    let world = world("file");
    for scope in ["default", "2026/11", "2026", "..", "a b%", "ü", ""] {
        let ledger = world.ledger(scope);
        assert_eq!(ledger.newest().await.unwrap(), 0, "{scope}");
        ledger.begin(&run("r")).await.unwrap();
        ledger.commit(&commit(1, "r")).await.unwrap();
    }
    let found = Ledger::all(&world.state).await.unwrap();
    let mut scopes: Vec<_> = found.iter().map(|l| l.scope().to_owned()).collect();
    scopes.sort();
    assert_eq!(scopes, ["", "..", "2026", "2026/11", "a b%", "default", "ü"]);
}

#[tokio::test]
async fn leftovers_may_go_only_once_their_run_can_never_commit() {
    let world = world("file");
    let ledger = world.ledger("default");
    let paused = ledger.begin(&run("paused")).await.unwrap().unwrap();
    paused.journal.note(upload("u1")).await.unwrap();
    let other = ledger.begin(&run("other")).await.unwrap().unwrap();
    // Both claim the same number; as long as nobody has it, the paused run may wake up and commit.
    assert_eq!(paused.record.claims, other.record.claims);
    assert_eq!(ledger.finished_attempts().await.unwrap(), []);

    ledger.commit(&commit(1, "other")).await.unwrap();
    let finished = ledger.finished_attempts().await.unwrap();
    assert_eq!(finished, [(paused.record.clone(), vec![upload("u1")])], "the winner is not published yet, so it stays");
    assert_eq!(ledger.check(&paused.record).await.unwrap_err().kind(), ErrorKind::Conflict);
    ledger.check(&other.record).await.unwrap();

    ledger.forget(&paused.record.run.id).await.unwrap();
    ledger.mark_published(1, &other.record.run.id).await.unwrap();
    assert_eq!(ledger.finished_attempts().await.unwrap(), [(other.record.clone(), vec![])]);
    ledger.forget(&other.record.run.id).await.unwrap();
    assert_eq!(ledger.finished_attempts().await.unwrap(), []);
    assert_eq!(world.state.list("job/scopes/default/attempts", None).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_journal_is_written_before_it_matters() {
    let world = world("file");
    let ledger = world.ledger("default");
    let attempt = ledger.begin(&run("r")).await.unwrap().unwrap();
    let folder = DiscardAction::StagedFiles { folder: "/x".into(), suffix: ".r.staged".to_owned() };
    for action in [folder.clone(), folder.clone(), upload("u1"), upload("u2")] {
        attempt.journal.note(action).await.unwrap();
    }
    ledger.commit(&commit(1, "other")).await.unwrap();
    let durable = ledger.finished_attempts().await.unwrap().remove(0).1;
    assert!(durable.contains(&folder), "a folder is durable at once, and noted once: {durable:?}");
    assert_eq!(durable.iter().filter(|a| **a == folder).count(), 1);
    assert!(durable.contains(&upload("u1")) && durable.contains(&upload("u2")), "the first uploads are, too");
    // Where there are many, they are written together.
    for n in 3..100 {
        attempt.journal.note(folder.clone()).await.unwrap();
        attempt.journal.note(upload(&format!("u{n}"))).await.unwrap();
    }
    let durable = || async { ledger.finished_attempts().await.unwrap().remove(0).1.len() };
    assert!(durable().await < 100);
    attempt.journal.flush().await.unwrap();
    assert_eq!(durable().await, 100);
    let written = world.state.list("job/scopes/default/attempts/r", None).await.unwrap();
    assert!(written.len() < 30, "{} objects", written.len());
}

#[tokio::test]
async fn nobody_builds_on_a_commit_that_is_not_published() {
    let world = world("file");
    let ledger = world.ledger("default");
    ledger.commit(&commit(1, "r1")).await.unwrap();
    assert!(ledger.begin(&run("r2")).await.unwrap().is_none());
    ledger.mark_published(1, &run("r1").id).await.unwrap();
    assert_eq!(ledger.begin(&run("r2")).await.unwrap().unwrap().record.claims, 2);
    // Should somebody have got ahead all the same, the head does not pass what is not published.
    for (n, id) in [(2, "r2"), (3, "r3")] {
        ledger.commit(&commit(n, id)).await.unwrap();
    }
    ledger.mark_published(3, &run("r3").id).await.unwrap();
    assert_eq!(ledger.pending().await.unwrap(), [commit(2, "r2")]);
}

#[tokio::test]
async fn a_published_run_leaves_only_what_it_did_not_publish() {
    let world = world("file");
    let ledger = world.ledger("default");
    let attempt = ledger.begin(&run("r1")).await.unwrap().unwrap();
    let unknown = DiscardAction::Uploads { location: "memory:/".into(), mark: Some("r1-12345678".to_owned()) };
    for action in [unknown.clone(), upload("wanted"), upload("given up")] {
        attempt.journal.note(action).await.unwrap();
    }
    let mut record = commit(1, "r1");
    let complete = PublishAction::CompleteUpload {
        location: "memory:/x".into(),
        upload_id: "wanted".to_owned(),
        parts: vec![],
        etag: None,
        bytes: 0,
        xxh3: 0,
    };
    record.publish.insert("out".to_owned(), vec![complete]);
    ledger.commit(&record).await.unwrap();
    assert_eq!(ledger.finished_attempts().await.unwrap(), [], "not before it is published");
    ledger.mark_published(1, &record.run.id).await.unwrap();
    assert_eq!(ledger.finished_attempts().await.unwrap()[0].1, [unknown, upload("given up")]);
}

#[tokio::test]
async fn a_run_id_is_new_or_it_is_not() {
    let world = world("memory");
    let ledger = world.ledger("default");
    let record = RunRecord::begin(run("r"));
    assert!(ledger.create_run(&record).await.unwrap());
    assert!(!ledger.create_run(&record).await.unwrap());
    assert_eq!(ledger.get_run(&record.run.id).await.unwrap(), Some(record.clone()));
    assert_eq!(Ledger::runs(&world.state, "job").await.unwrap(), [record]);
}

/// A store whose "create" overwrites, as some S3 look-alikes do.
#[derive(Debug)]
struct Careless(Arc<dyn StateStore>);

#[async_trait]
impl StateStore for Careless {
    async fn create(&self, key: &str, value: Bytes) -> Result<bool> {
        self.0.put(key, value).await.map(|()| true)
    }
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.0.put(key, value).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.0.get(key).await
    }
    async fn list<'a>(&self, prefix: &'a str, after: Option<&'a str>) -> Result<Vec<String>> {
        self.0.list(prefix, after).await
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).await
    }
}

#[tokio::test]
async fn a_store_that_does_not_honour_create_if_absent_is_refused() {
    let world = world("memory");
    let ledger = Ledger::new(Arc::new(Careless(Arc::clone(&world.state))), "job", "default");
    let error = ledger.begin(&run("r")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    insta::assert_snapshot!(error, @"the state location does not honour create-if-absent, so runs could overwrite each other's commits; use a store that does (Amazon S3, a local file system)");
}

#[tokio::test]
async fn a_record_that_does_not_parse_is_named() {
    let world = world("memory");
    let ledger = world.ledger("default");
    world.state.put("job/scopes/default/commits/000000000001.json", Bytes::from_static(b"{}")).await.unwrap();
    insta::assert_snapshot!(ledger.pending().await.unwrap_err().chain(), @"a record in the state location does not parse; was it written by a newer version? (object: job/scopes/default/commits/000000000001.json): missing field `sequence` at line 1 column 2");
    world.state.put("job/scopes/default/commits/notes.txt", Bytes::from_static(b"{}")).await.unwrap();
    insta::assert_snapshot!(ledger.newest().await.unwrap_err().chain(), @"an object in the state location is none of ours; remove it (object: job/scopes/default/commits/notes.txt)");
}
