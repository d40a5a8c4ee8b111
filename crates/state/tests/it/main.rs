//! The ledger against real stores: mutual exclusion, and what may be removed when.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test looks at files and stops where it fails")]

mod abandoning;
mod bookmarks;
mod formats;
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hardtack_core::{DiscardAction, Error, ErrorKind, JobContext, Journal, Location, PublishAction, Result, Run};
use hardtack_state::{
    AFTERLIFE, Attempt, AttemptRecord, Begun, CommitRecord, ErrorRecord, Ledger, ObjectState, RunRecord, RunStatus,
    StateStore,
};
use rstest::rstest;

fn run(id: &str) -> Run {
    Run {
        id: id.parse().unwrap(),
        job: "job".to_owned(),
        scope: Run::WHOLE_JOB.to_owned(),
        started_at: DateTime::<Utc>::UNIX_EPOCH,
        token: "12345678".to_owned(),
        window: None,
    }
}

fn commit(sequence: u64, id: &str) -> CommitRecord {
    CommitRecord {
        publish: [("out".to_owned(), vec![PublishAction::Delete { location: "memory:/x".into() }])].into(),
        bookmarks: [("in".to_owned(), serde_json::json!({"at": sequence}))].into(),
        ..CommitRecord::new(sequence, run(id), DateTime::UNIX_EPOCH)
    }
}

/// Begins a run that must not be blocked.
async fn begin(ledger: &Ledger, run: &Run) -> Attempt {
    match ledger.begin(run).await.unwrap() {
        Begun::Attempt(attempt) => *attempt,
        other => panic!("{other:?}"),
    }
}

/// The runs that are over, and their leftovers.
async fn finished(ledger: &Ledger) -> Vec<(AttemptRecord, Vec<DiscardAction>)> {
    ledger.finished().await.unwrap().into_iter().map(|f| (f.attempt.unwrap(), f.leftovers)).collect()
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
        let attempt = begin(&ledger, &run(&id)).await;
        assert_eq!(attempt.record.claims, n);
        let bookmark = attempt.bookmarks.get("in").map(|b| b["at"].as_u64().unwrap());
        assert_eq!(bookmark, (n > 1).then_some(n - 1));
        ledger.commit(&commit(n, &id)).await.unwrap();
        assert_eq!(ledger.pending().await.unwrap(), [commit(n, &id)]);
        assert!(!ledger.is_settled(n).await.unwrap());
        ledger.mark_published(n, &run(&id).id).await.unwrap();
        ledger.mark_published(n, &run("another").id).await.unwrap();
        assert!(ledger.is_settled(n).await.unwrap());
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
    // If the winner repeats its request because the response was lost, it has still won.
    let winner = ledger.get(1).await.unwrap().unwrap();
    ledger.commit(&winner).await.unwrap();
}

#[tokio::test]
async fn scopes_and_odd_names_do_not_touch_one_another() {
    let world = world("file");
    for (n, scope) in ["default", "2026/11", "2026", "..", "a b%", "ü", ""].into_iter().enumerate() {
        let (ledger, id) = (world.ledger(scope), format!("r{n}"));
        assert_eq!(ledger.newest().await.unwrap(), 0, "{scope}");
        begin(&ledger, &run(&id)).await;
        ledger.commit(&commit(1, &id)).await.unwrap();
    }
    let found = Ledger::all(&world.state).await.unwrap();
    let mut scopes: Vec<_> = found.iter().map(|l| l.scope().to_owned()).collect();
    scopes.sort();
    assert_eq!(scopes, ["", "..", "2026", "2026/11", "a b%", "default", "ü"]);
    assert!(found.iter().all(|ledger| ledger.job() == "job"));
}

#[tokio::test]
async fn only_scopes_are_ledgers() {
    let world = world("memory");
    let other = Ledger::new(Arc::clone(&world.state), "an other", "s");
    begin(&other, &run("r")).await;
    world.ledger("s").create_run(&RunRecord::begin(run("r"))).await.unwrap();
    let found = Ledger::all(&world.state).await.unwrap();
    let found: Vec<_> = found.iter().map(|ledger| (ledger.job(), ledger.scope())).collect();
    assert_eq!(found, [("an other", "s")], "a job that has nothing but records of runs has no scope yet");
}

#[tokio::test]
async fn leftovers_may_go_only_once_their_run_can_never_commit() {
    let world = world("file");
    let ledger = world.ledger("default");
    let paused = begin(&ledger, &run("paused")).await;
    paused.journal.note(upload("u1")).await.unwrap();
    let other = begin(&ledger, &run("other")).await;
    // Both claim the same number; as long as neither has it, the paused run may resume and commit.
    assert_eq!(paused.record.claims, other.record.claims);
    assert_eq!(finished(&ledger).await, []);

    ledger.commit(&commit(1, "other")).await.unwrap();
    assert_eq!(
        finished(&ledger).await,
        [(paused.record.clone(), vec![upload("u1")])],
        "the winner is not published yet, so it stays"
    );
    assert_eq!(ledger.check(&paused.record).await.unwrap_err().kind(), ErrorKind::Conflict);
    ledger.check(&other.record).await.unwrap();

    ledger.forget(&paused.record.run.id).await.unwrap();
    ledger.mark_published(1, &other.record.run.id).await.unwrap();
    assert_eq!(finished(&ledger).await, [(other.record.clone(), vec![])]);
    ledger.forget(&other.record.run.id).await.unwrap();
    assert_eq!(finished(&ledger).await, []);
    assert_eq!(world.state.list("job/scopes/default/attempts", None).await.unwrap(), Vec::<String>::new());
}

/// It continues to stage after others have discarded its files, and is then killed.
#[tokio::test]
async fn a_run_that_has_lost_stays_on_record_for_a_while() {
    let world = world("file");
    let ledger = world.ledger("default");
    let lost = begin(&ledger, &run("lost")).await;
    lost.journal.note(upload("u1")).await.unwrap();
    ledger.commit(&commit(1, "other")).await.unwrap();
    let now = DateTime::UNIX_EPOCH;
    let [swept] = ledger.finished().await.unwrap().try_into().unwrap();
    assert!(swept.is_new() && !swept.has_ended(now));
    ledger.mark_swept(&lost.record, now).await.unwrap();
    lost.journal.note(upload("u2")).await.unwrap();
    let [swept] = ledger.finished().await.unwrap().try_into().unwrap();
    assert_eq!(swept.leftovers, [upload("u1"), upload("u2")]);
    assert!(!swept.is_new() && !swept.has_ended(now + AFTERLIFE / 2) && swept.has_ended(now + AFTERLIFE));
    assert!(!ledger.is_contested(&run("other").id).await.unwrap(), "it can never commit");
    // It was forgotten although it was alive, and recorded something.
    ledger.forget(&lost.record.run.id).await.unwrap();
    lost.journal.note(upload("u3")).await.unwrap();
    let [forgotten] = ledger.finished().await.unwrap().try_into().unwrap();
    assert_eq!((forgotten.attempt.as_ref(), &forgotten.leftovers[..]), (None, &[upload("u3")][..]));
    assert!(forgotten.has_ended(now));
}

/// A damaged attempt blocks no other run, and nothing about it is guessed.
#[tokio::test]
async fn an_attempt_that_does_not_parse_blocks_nobody() {
    let world = world("memory");
    let ledger = world.ledger("default");
    let [torn, noted] = [begin(&ledger, &run("torn")).await, begin(&ledger, &run("noted")).await];
    torn.journal.note(upload("u1")).await.unwrap();
    for id in ["u2", "u3"] {
        noted.journal.note(upload(id)).await.unwrap();
    }
    let entry = "job/scopes/default/attempts/noted/000000.json";
    for key in ["job/scopes/default/attempts/torn.json", entry] {
        world.state.put(key, Bytes::new()).await.unwrap();
    }
    begin(&ledger, &run("r")).await;
    ledger.commit(&commit(1, "r")).await.unwrap();
    ledger.mark_published(1, &run("r").id).await.unwrap();
    let finished = ledger.finished().await.unwrap();
    let found: Vec<_> = finished.iter().map(|f| (f.run.as_str(), &f.leftovers[..], &f.damaged[..])).collect();
    assert_eq!(found, [("noted", &[upload("u3")][..], &[entry.to_owned()][..]), ("r", &[], &[])]);
    assert!(!finished[0].has_ended(DateTime::UNIX_EPOCH + AFTERLIFE * 2), "something of it may be left");
    assert!(ledger.is_contested(&run("r").id).await.unwrap(), "nobody knows what the torn one claims");
    assert_eq!(ledger.attempts().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_head_that_does_not_parse_is_written_anew() {
    let world = world("file");
    let ledger = world.ledger("default");
    assert!(!ledger.mend_head().await.unwrap());
    for n in 1..=3 {
        ledger.commit(&commit(n, &format!("r{n}"))).await.unwrap();
    }
    for n in [1, 2] {
        ledger.mark_published(n, &run("r").id).await.unwrap();
    }
    assert!(!ledger.mend_head().await.unwrap());
    for damage in ["", "2\0", "-1", "{}", "4"] {
        world.state.put("job/scopes/default/head.json", Bytes::from(damage)).await.unwrap();
        assert_eq!((ledger.newest().await.unwrap(), ledger.pending().await.unwrap()), (3, vec![commit(3, "r3")]));
        assert!(ledger.mend_head().await.unwrap(), "{damage}");
        assert_eq!(head(&world).await, Some(2));
    }
}

/// A commit that is truncated or has a flipped bit, anywhere, is an error or decodes to the same value.
#[tokio::test]
async fn a_commit_that_was_damaged_is_not_executed() {
    let world = world("memory");
    let ledger = world.ledger("default");
    let record = CommitRecord { places: Some(vec!["memory:/".into()]), ..commit(1, "r") };
    ledger.commit(&record).await.unwrap();
    let key = "job/scopes/default/commits/000000000001.json";
    let written = world.state.get(key).await.unwrap().unwrap();
    let cut = (0..written.len()).map(|end| written.slice(..end));
    let flipped = (0..written.len()).map(|at| {
        let mut bytes = written.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    });
    for damaged in cut.chain(flipped) {
        world.state.put(key, damaged.clone()).await.unwrap();
        let error = ledger.get(1).await.expect_err(&String::from_utf8_lossy(&damaged));
        assert_eq!((error.kind(), error.get("object")), (ErrorKind::Unexpected, Some(key)));
    }
    world.state.put(key, written).await.unwrap();
    assert_eq!(ledger.get(1).await.unwrap(), Some(record));
    // Earlier versions wrote neither hash nor places.
    let old = serde_json::to_vec(&commit(1, "r")).unwrap();
    world.state.put(key, Bytes::from(old)).await.unwrap();
    assert_eq!(ledger.get(1).await.unwrap(), Some(commit(1, "r")));
}

#[tokio::test]
async fn the_journal_is_written_before_it_matters() {
    let world = world("file");
    let ledger = world.ledger("default");
    let attempt = begin(&ledger, &run("r")).await;
    let folder = DiscardAction::StagedFiles { folder: "/x".into(), suffix: ".r.staged".to_owned() };
    for action in [folder.clone(), folder.clone(), upload("u1"), upload("u2")] {
        attempt.journal.note(action).await.unwrap();
    }
    ledger.commit(&commit(1, "other")).await.unwrap();
    let durable = finished(&ledger).await.remove(0).1;
    assert!(durable.contains(&folder), "a folder is durable at once, and noted once: {durable:?}");
    assert_eq!(durable.iter().filter(|a| **a == folder).count(), 1);
    assert!(durable.contains(&upload("u1")) && durable.contains(&upload("u2")), "the first uploads are, too");
    // Many entries are written in batches.
    for n in 3..100 {
        attempt.journal.note(folder.clone()).await.unwrap();
        attempt.journal.note(upload(&format!("u{n}"))).await.unwrap();
    }
    let durable = || async { finished(&ledger).await.remove(0).1.len() };
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
    assert!(matches!(ledger.begin(&run("r2")).await.unwrap(), Begun::Unpublished));
    ledger.mark_published(1, &run("r1").id).await.unwrap();
    assert_eq!(begin(&ledger, &run("r2")).await.record.claims, 2);
    // Even if publication is out of order, the head does not pass an unpublished commit.
    for (n, id) in [(2, "r2"), (3, "r3")] {
        ledger.commit(&commit(n, id)).await.unwrap();
    }
    ledger.mark_published(3, &run("r3").id).await.unwrap();
    assert_eq!(ledger.pending().await.unwrap(), [commit(2, "r2")]);
    assert_eq!(head(&world).await, Some(1));
    assert!(ledger.is_settled(3).await.unwrap() && !ledger.is_settled(2).await.unwrap());
    // Commits that the head has passed are not read again.
    for n in [2, 3] {
        ledger.mark_published(n, &run("r2").id).await.unwrap();
        assert_eq!(head(&world).await, Some(n));
    }
    world.state.delete("job/scopes/default/published/000000000002.json").await.unwrap();
    assert!(ledger.is_settled(2).await.unwrap());
    assert_eq!((ledger.pending().await.unwrap(), ledger.newest().await.unwrap()), (vec![], 3));
}

/// The stored number up to which all commits are published.
async fn head(world: &World) -> Option<u64> {
    let head = world.state.get("job/scopes/default/head.json").await.unwrap();
    head.map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// Uploads with unknown ids are discarded only if no other run can be uploading.
#[tokio::test]
async fn a_run_is_alone_if_every_other_can_never_commit() {
    let world = world("memory");
    let ledger = world.ledger("default");
    let [r1, r2, r3] = ["r1", "r2", "r3"].map(|id| run(id).id);
    begin(&ledger, &run("r1")).await;
    assert!(!ledger.is_contested(&r1).await.unwrap(), "by itself");
    assert!(ledger.is_contested(&r3).await.unwrap());
    begin(&ledger, &run("r2")).await;
    assert!(ledger.is_contested(&r1).await.unwrap() && ledger.is_contested(&r2).await.unwrap());
    ledger.commit(&commit(1, "r2")).await.unwrap();
    assert!(ledger.is_contested(&r1).await.unwrap(), "the winner goes on until it is published");
    assert!(!ledger.is_contested(&r2).await.unwrap(), "the loser can never commit");
    ledger.mark_published(1, &r2).await.unwrap();
    assert!(!ledger.is_contested(&r3).await.unwrap());
    let on_record: Vec<_> = ledger.attempts().await.unwrap().into_iter().map(|a| (a.run.id, a.claims)).collect();
    assert_eq!(on_record, [(r1.clone(), 1), (r2.clone(), 1)]);
    ledger.forget(&r1).await.unwrap();
    assert_eq!(ledger.attempts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_published_run_leaves_only_what_it_did_not_publish() {
    let world = world("file");
    let ledger = world.ledger("default");
    let attempt = begin(&ledger, &run("r1")).await;
    let unknown = DiscardAction::Uploads { location: "memory:/".into(), mark: Some("r1-12345678".to_owned()) };
    let hidden = DiscardAction::StagedFiles { folder: "/x".into(), suffix: ".r1.staged".to_owned() };
    // Something may refer to these; only their creator knows.
    let kept = [
        DiscardAction::Object { location: "memory:/o".into() },
        DiscardAction::Folder { location: "memory:/_versions/r1-12345678".into() },
        DiscardAction::Foreign { publisher: "p".to_owned(), payload: String::new() },
    ];
    for action in [unknown.clone(), upload("wanted"), upload("given up"), hidden.clone()].into_iter().chain(kept) {
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
    assert_eq!(finished(&ledger).await, [], "not before it is published");
    ledger.mark_published(1, &record.run.id).await.unwrap();
    assert_eq!(finished(&ledger).await[0].1, [unknown, upload("given up"), hidden]);
}

#[tokio::test]
async fn a_run_id_is_new_or_it_is_not() {
    let world = world("memory");
    let ledger = world.ledger("default");
    let record = RunRecord::begin(run("r"));
    assert!(ledger.create_run(&record).await.unwrap());
    let other = RunRecord::begin(Run { token: "87654321".to_owned(), ..run("r") });
    assert!(!ledger.create_run(&other).await.unwrap());
    assert!(matches!(ledger.begin(&other.run).await.unwrap(), Begun::NameTaken));
    assert_eq!(ledger.attempts().await.unwrap(), [], "who does not begin has no attempt");
    assert_eq!(ledger.get_run(&record.run.id).await.unwrap(), Some(record.clone()));
    assert_eq!(Ledger::runs(&world.state, "job").await.unwrap(), [record]);
}

#[tokio::test]
async fn runs_are_listed_oldest_first_as_they_stand() {
    let world = world("memory");
    let ledger = world.ledger("default");
    let record = |id: &str, seconds| {
        let started_at = DateTime::from_timestamp(seconds, 0).unwrap();
        RunRecord::begin(Run { started_at, ..run(id) })
    };
    let [mut z, a, b] = [record("z", 1), record("a", 2), record("b", 2)];
    for record in [&b, &a, &z] {
        ledger.create_run(record).await.unwrap();
    }
    let failure = Error::refused("it cannot be").because(Error::not_found("it is not there"));
    z.status = RunStatus::Failed;
    z.error = Some(ErrorRecord::from(&failure));
    ledger.put_run(&z).await.unwrap();
    assert_eq!(Ledger::runs(&world.state, "job").await.unwrap(), [z.clone(), a, b]);
    let told = ledger.get_run(&z.run.id).await.unwrap().unwrap().error.unwrap();
    assert_eq!((told.kind.as_str(), told.message.as_str()), ("refused", "it cannot be: it is not there"));
    assert_eq!(Ledger::runs(&world.state, "jo").await.unwrap(), []);
}

/// A store whose "create" overwrites, as some S3-compatible stores do.
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
    insta::assert_snapshot!(ledger.pending().await.unwrap_err().chain(), @"a commit record does not parse; it is not executed (object: job/scopes/default/commits/000000000001.json, job: job, scope: default, commit: 1, hint: restore it as it was written, from a version or a copy of the state location; if there is none, abandon the commit with `hardtack recover --job job --scope default --abandon 1`): missing field `sequence` at line 1 column 2");
    world.state.put("job/scopes/default/commits/notes.txt", Bytes::from_static(b"{}")).await.unwrap();
    insta::assert_snapshot!(ledger.newest().await.unwrap_err().chain(), @"a foreign object is in the state location; remove it (object: job/scopes/default/commits/notes.txt)");
}

/// A store that fails on demand, or that executes a create but reports that the object exists: the response to the
/// first request was lost, and the request repeated.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn StateStore>,
    forgets_answers: bool,
    down: AtomicBool,
}

impl Faulty {
    fn ledger(self: &Arc<Self>) -> Ledger {
        Ledger::new(Arc::clone(self) as Arc<dyn StateStore>, "job", "default")
    }

    fn is_up(&self) -> Result<()> {
        if self.down.load(Ordering::Relaxed) { Err(Error::unavailable("the store is down")) } else { Ok(()) }
    }
}

fn faulty(world: &World, forgets_answers: bool) -> Arc<Faulty> {
    Arc::new(Faulty { inner: Arc::clone(&world.state), forgets_answers, down: AtomicBool::new(false) })
}

#[async_trait]
impl StateStore for Faulty {
    async fn create(&self, key: &str, value: Bytes) -> Result<bool> {
        self.is_up()?;
        Ok(self.inner.create(key, value).await? && !self.forgets_answers)
    }
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.is_up()?;
        self.inner.put(key, value).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.inner.get(key).await
    }
    async fn list<'a>(&self, prefix: &'a str, after: Option<&'a str>) -> Result<Vec<String>> {
        self.inner.list(prefix, after).await
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await
    }
}

#[tokio::test]
async fn an_attempt_that_was_noted_by_a_request_whose_answer_was_lost_begins() {
    let world = world("memory");
    let ledger = faulty(&world, true).ledger();
    assert_eq!(begin(&ledger, &run("r")).await.record.claims, 1);
    // An object that another run has put there is not ours.
    world.state.put("job/scopes/default/attempts/other.json", Bytes::from_static(b"{}")).await.unwrap();
    assert!(matches!(ledger.begin(&run("other")).await.unwrap(), Begun::NameTaken));
}

/// The journal of `r` as a later run would read it, sorted.
async fn durable(world: &World) -> Vec<DiscardAction> {
    let mut found = Vec::new();
    for key in world.state.list("job/scopes/default/attempts/r", None).await.unwrap() {
        let bytes = world.state.get(&key).await.unwrap().unwrap();
        let entry: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        found.extend(serde_json::from_value::<Vec<DiscardAction>>(entry["discard"].clone()).unwrap());
    }
    found.sort_by_key(|action| format!("{action:?}"));
    found
}

#[tokio::test]
async fn what_could_not_be_noted_is_noted_with_what_comes_next() {
    let world = world("memory");
    let store = faulty(&world, false);
    let journal = begin(&store.ledger(), &run("r")).await.journal;
    let folder = DiscardAction::StagedFiles { folder: "/x".into(), suffix: ".r.staged".to_owned() };
    store.down.store(true, Ordering::Relaxed);
    for action in [upload("u1"), folder.clone()] {
        assert_eq!(journal.note(action).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(durable(&world).await, []);
    // Repeating an entry that must be durable either fails again or makes it durable.
    assert_eq!(journal.note(folder.clone()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    store.down.store(false, Ordering::Relaxed);
    journal.note(folder.clone()).await.unwrap();
    assert_eq!(durable(&world).await, [folder.clone(), upload("u1")]);
    journal.note(upload("u2")).await.unwrap();
    // Nothing is pending, so nothing is written.
    journal.flush().await.unwrap();
    journal.note(folder.clone()).await.unwrap();
    journal.note(upload("u1")).await.unwrap();
    assert_eq!(world.state.list("job/scopes/default/attempts/r", None).await.unwrap().len(), 2);
    assert_eq!(durable(&world).await, [folder, upload("u1"), upload("u2")]);
    let mut noted = journal.noted().await;
    noted.sort_by_key(|action| format!("{action:?}"));
    assert_eq!(noted, durable(&world).await);
}

#[tokio::test]
async fn many_uploads_are_noted_together_a_moment_later() {
    let world = world("memory");
    let journal = begin(&world.ledger("default"), &run("r")).await.journal;
    let written = async || world.state.list("job/scopes/default/attempts/r", None).await.unwrap().len();
    let note = async |range: std::ops::RangeInclusive<u32>| {
        for n in range {
            journal.note(upload(&format!("{n:02}"))).await.unwrap();
        }
    };
    for n in 1..=16 {
        note(n..=n).await;
        assert_eq!(written().await, n as usize, "the first are written one by one");
    }
    for (waiting, objects) in [(17..=17, 17), (18..=30, 18)] {
        note(waiting).await;
        assert_eq!(written().await, objects - 1);
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if written().await == objects {
                break;
            }
        }
        assert_eq!(written().await, objects, "without being asked");
    }
    assert_eq!(durable(&world).await, (1..=30).map(|n| upload(&format!("{n:02}"))).collect::<Vec<_>>());
    // After a pause the next entry is written immediately; entries that must be durable never wait.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    note(31..=32).await;
    assert_eq!(written().await, 19);
    let object = DiscardAction::Object { location: "memory:/o".into() };
    journal.note(object.clone()).await.unwrap();
    assert_eq!(written().await, 19, "objects come in numbers, too");
    journal.note(DiscardAction::Folder { location: "memory:/_versions/r".into() }).await.unwrap();
    assert_eq!(written().await, 20);
    assert!(durable(&world).await.contains(&object));
}

#[rstest]
#[tokio::test]
async fn objects_are_kept_by_key(#[values("file", "memory")] store: &str) {
    let world = world(store);
    let state = &world.state;
    let (one, two) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
    assert_eq!(state.get("a/b/2").await.unwrap(), None);
    assert!(state.create("a/b/2", one.clone()).await.unwrap());
    assert!(!state.create("a/b/2", two.clone()).await.unwrap());
    assert_eq!(state.get("a/b/2").await.unwrap(), Some(one.clone()));
    state.put("a/b/2", two.clone()).await.unwrap();
    assert_eq!(state.get("a/b/2").await.unwrap(), Some(two.clone()));
    for key in ["a/b/10", "a/bc/1", "a/b/1/x", "%2E;"] {
        state.put(key, one.clone()).await.unwrap();
    }
    assert_eq!(state.list("", None).await.unwrap(), ["%2E;", "a/b/1/x", "a/b/10", "a/b/2", "a/bc/1"]);
    assert_eq!(state.list("a/b", None).await.unwrap(), ["a/b/1/x", "a/b/10", "a/b/2"]);
    assert_eq!(state.list("a/b", Some("a/b/10")).await.unwrap(), ["a/b/2"]);
    assert_eq!(state.list("a/z", None).await.unwrap(), Vec::<String>::new());
    state.delete("a/b/2").await.unwrap();
    state.delete("a/b/2").await.unwrap();
    assert_eq!(state.list("a/b", None).await.unwrap(), ["a/b/1/x", "a/b/10"]);
}

/// A file is in the place of a folder.
#[tokio::test]
async fn a_store_that_fails_is_named_with_the_object() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), "a file").unwrap();
    let ctx = JobContext::builder("job").build().unwrap();
    let location = Location::from(folder.path()).join("state");
    let state = ObjectState::open(ctx.stores(), &location).unwrap();
    let value = Bytes::from_static(b"1");
    let errors = [
        state.create("a/b", value.clone()).await.map(drop),
        state.put("a/b", value).await,
        state.get("a/b").await.map(drop),
        state.delete("a/b").await,
    ];
    for error in errors.map(Result::unwrap_err) {
        assert_eq!(error.message(), "the state location failed");
        assert_eq!(error.get("state"), Some(location.to_string().as_str()));
        assert_eq!(error.get("object"), Some("a/b"));
    }
}

#[test]
fn the_actions_of_a_commit_are_those_of_all_sinks() {
    let delete = |location: &str| PublishAction::Delete { location: location.into() };
    let publish = BTreeMap::from([
        ("b".to_owned(), vec![delete("memory:/3")]),
        ("a".to_owned(), vec![delete("memory:/1"), delete("memory:/2")]),
    ]);
    let record = CommitRecord { publish, ..commit(1, "r") };
    assert_eq!(record.actions(), [delete("memory:/1"), delete("memory:/2"), delete("memory:/3")]);
}
