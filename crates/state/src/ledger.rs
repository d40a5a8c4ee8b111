//! The protocol of commits.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hardtack_core::{DiscardAction, Error, Journal, PublishAction, Result, Run, RunId, fault};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::records::{AttemptRecord, CommitRecord, RunRecord};
use crate::store::StateStore;

/// A name as one segment of a key. Names come from users: a slash must not make a folder, nor `..` leave one.
pub(crate) fn name(text: &str) -> String {
    if text.is_empty() {
        return "%;".to_owned();
    }
    text.chars().fold(String::new(), |mut encoded, c| {
        if c.is_alphanumeric() || matches!(c, '-' | '_') || (c == '.' && !encoded.is_empty()) {
            encoded.push(c);
        } else {
            encoded.push_str(&format!("%{:02X}", u32::from(c)));
            encoded.push(';');
        }
        encoded
    })
}

/// What [`name`] encoded.
fn decode_name(segment: &str) -> String {
    let mut text = String::new();
    let mut rest = segment;
    while let Some((plain, encoded)) = rest.split_once('%') {
        text.push_str(plain);
        let (hex, after) = encoded.split_once(';').unwrap_or((encoded, ""));
        text.extend(u32::from_str_radix(hex, 16).ok().and_then(char::from_u32));
        rest = after;
    }
    text + rest
}

/// The commits of one job and scope.
#[derive(Debug, Clone)]
pub struct Ledger {
    state: Arc<dyn StateStore>,
    job: String,
    scope: String,
}

/// What a run holds from its start to its end.
#[derive(Debug)]
pub struct Attempt {
    /// The run and the number that it claims.
    pub record: AttemptRecord,
    /// The bookmarks of the last commit.
    pub bookmarks: BTreeMap<String, serde_json::Value>,
    /// Where the run notes what it stages.
    pub journal: Arc<LedgerJournal>,
}

impl Ledger {
    /// The ledger of a job and scope.
    pub fn new(state: Arc<dyn StateStore>, job: impl Into<String>, scope: impl Into<String>) -> Self {
        Self { state, job: job.into(), scope: scope.into() }
    }

    /// The ledgers of all jobs and scopes that this state knows.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all(state: &Arc<dyn StateStore>) -> Result<Vec<Self>> {
        let keys = state.list("", None).await?;
        let mut found: Vec<(String, String)> = keys
            .iter()
            .filter_map(|key| {
                let mut names = key.split('/');
                let job = decode_name(names.next()?);
                (names.next()? == "scopes").then_some(())?;
                Some((job, decode_name(names.next()?)))
            })
            .collect();
        found.sort();
        found.dedup();
        Ok(found.into_iter().map(|(job, scope)| Self::new(Arc::clone(state), job, scope)).collect())
    }

    /// The job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The scope.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    fn key(&self, rest: &str) -> String {
        format!("{}/scopes/{}/{rest}", name(&self.job), name(&self.scope))
    }

    fn numbered(&self, folder: &str, sequence: u64) -> String {
        self.key(&format!("{folder}/{sequence:012}.json"))
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match self.state.get(key).await? {
            Some(bytes) => decode(key, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The number up to which all commits are known to be published. It may lag behind.
    async fn head(&self) -> Result<u64> {
        Ok(self.read(&self.key("head.json")).await?.unwrap_or(0))
    }

    /// The numbers of the objects in `folder` after `head`.
    async fn numbers(&self, folder: &str, head: u64) -> Result<Vec<u64>> {
        let keys = self.state.list(&self.key(folder), Some(&self.numbered(folder, head))).await?;
        keys.iter()
            .map(|key| {
                let number = key.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
                number.and_then(|n| n.parse().ok()).ok_or_else(|| foreign(key))
            })
            .collect()
    }

    /// The number of the newest commit, 0 if there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn newest(&self) -> Result<u64> {
        let head = self.head().await?;
        Ok(self.numbers("commits", head).await?.last().copied().unwrap_or(head))
    }

    /// The commit of this number.
    ///
    /// # Errors
    /// Those of the store; [`Unexpected`](hardtack_core::ErrorKind::Unexpected) for a record that does not parse.
    pub async fn get(&self, sequence: u64) -> Result<Option<CommitRecord>> {
        self.read(&self.numbered("commits", sequence)).await
    }

    /// The commits that have not been published to the end, oldest first. There is more than one only if their runs were
    /// killed and never followed by another.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn pending(&self) -> Result<Vec<CommitRecord>> {
        let head = self.head().await?;
        let published: HashSet<u64> = self.numbers("published", head).await?.into_iter().collect();
        let mut pending = Vec::new();
        for sequence in self.numbers("commits", head).await? {
            if !published.contains(&sequence) {
                pending.extend(self.get(sequence).await?);
            }
        }
        Ok(pending)
    }

    /// Begins an attempt at the next commit; `None` if the newest commit has not been published yet, which has to be done
    /// first: the next run builds on what it finds.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the store does not honour create-if-absent: without it, two runs
    /// could both believe that they have committed.
    pub async fn begin(&self, run: &Run) -> Result<Option<Attempt>> {
        let newest = self.newest().await?;
        if newest > 0 && !self.is_published(newest).await? {
            return Ok(None);
        }
        let bookmarks = match newest {
            0 => BTreeMap::new(),
            n => self.get(n).await?.map(|commit| commit.bookmarks).unwrap_or_default(),
        };
        let record = AttemptRecord { run: run.clone(), claims: newest + 1 };
        let key = self.attempt_key(&run.id);
        let value = encode(&record)?;
        // A store that was asked twice, because an answer was lost, says that the object is there; then it has to be ours.
        let created = self.state.create(&key, value.clone()).await?
            || self.state.get(&key).await?.is_some_and(|found| found == value);
        let created_again = self.state.create(&key, value).await?;
        if !created || created_again {
            return Err(Error::usage(
                "the state location does not honour create-if-absent, so runs could overwrite each other's commits; \
                 use a store that does (Amazon S3, a local file system)",
            ));
        }
        let journal = LedgerJournal::new(Arc::clone(&self.state), self.key(&format!("attempts/{}", run.id)));
        Ok(Some(Attempt { record, bookmarks, journal: Arc::new(journal) }))
    }

    fn attempt_key(&self, run: &RunId) -> String {
        self.key(&format!("attempts/{run}.json"))
    }

    /// Commits: creates the record with its number. This instant decides.
    ///
    /// # Errors
    /// [`Conflict`](hardtack_core::ErrorKind::Conflict) if another run has taken the number: then this one can never commit.
    /// After any other error it is not known whether the record was written; [`Ledger::get`] may tell.
    pub async fn commit(&self, record: &CommitRecord) -> Result<()> {
        let key = self.numbered("commits", record.sequence);
        fault::hit("state.commit.before")?;
        let created = self.state.create(&key, encode(record)?).await?;
        fault::hit("state.commit.after")?;
        if created {
            return Ok(());
        }
        // A request that was sent twice finds the record that it wrote the first time.
        match self.get(record.sequence).await? {
            Some(taken) if taken.run.id == record.run.id => Ok(()),
            Some(taken) => Err(superseded(&record.run, &taken)),
            None => Err(Error::conflict("another run has taken this commit's number")),
        }
    }

    /// Fails if another run has taken the number that this attempt claims.
    ///
    /// # Errors
    /// [`Conflict`](hardtack_core::ErrorKind::Conflict) then; those of the store.
    pub async fn check(&self, attempt: &AttemptRecord) -> Result<()> {
        match self.get(attempt.claims).await? {
            Some(taken) if taken.run.id != attempt.run.id => Err(superseded(&attempt.run, &taken)),
            _ => Ok(()),
        }
    }

    /// Notes that all actions of a commit have been executed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mark_published(&self, sequence: u64, by: &RunId) -> Result<()> {
        fault::hit("state.done.before")?;
        self.state.create(&self.numbered("published", sequence), encode(by)?).await?;
        fault::hit("state.done.after")?;
        // The head says that all commits up to it are published, so it moves step by step.
        if sequence == 1 || self.is_published(sequence - 1).await? {
            self.state.put(&self.key("head.json"), encode(&sequence)?).await?;
        }
        Ok(())
    }

    /// Whether all actions of a commit have been executed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_published(&self, sequence: u64) -> Result<bool> {
        Ok(self.state.get(&self.numbered("published", sequence)).await?.is_some() || self.head().await? >= sequence)
    }

    /// The attempts that can never commit (another run has taken their number) or have been published, with what they
    /// may have left behind. (A published run leaves something if a sink failed and the job went on without it.)
    ///
    /// # Errors
    /// Those of the store.
    pub async fn finished_attempts(&self) -> Result<Vec<(AttemptRecord, Vec<DiscardAction>)>> {
        let mut finished = Vec::new();
        for key in self.attempt_keys().await? {
            let Some(attempt) = self.read::<AttemptRecord>(&key).await? else { continue };
            let leftovers = match self.get(attempt.claims).await? {
                None => continue,
                Some(taken) if taken.run.id != attempt.run.id => self.journal_of(&attempt.run.id).await?,
                Some(taken) if self.is_published(attempt.claims).await? => {
                    let wanted = taken.actions();
                    let mut noted = self.journal_of(&attempt.run.id).await?;
                    noted.retain(|action| is_superfluous(action, &wanted));
                    noted
                }
                Some(_) => continue,
            };
            finished.push((attempt, leftovers));
        }
        Ok(finished)
    }

    /// Whether a run other than this one may still commit: it goes on, or was killed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_contested(&self, run: &RunId) -> Result<bool> {
        let finished = self.finished_attempts().await?;
        let is_finished = |id: &RunId| finished.iter().any(|(attempt, _)| attempt.run.id == *id);
        Ok(self.attempts().await?.iter().any(|attempt| attempt.run.id != *run && !is_finished(&attempt.run.id)))
    }

    /// The attempts that are on record: of runs that go on, were killed, or have left something that is not discarded yet.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn attempts(&self) -> Result<Vec<AttemptRecord>> {
        let mut attempts = Vec::new();
        for key in self.attempt_keys().await? {
            attempts.extend(self.read::<AttemptRecord>(&key).await?);
        }
        Ok(attempts)
    }

    /// The record of an attempt is directly in the folder, its journal in a folder below.
    async fn attempt_keys(&self) -> Result<Vec<String>> {
        let depth = self.key("attempts/x").split('/').count();
        let mut keys = self.state.list(&self.key("attempts"), None).await?;
        keys.retain(|key| key.split('/').count() == depth);
        Ok(keys)
    }

    async fn journal_keys(&self, run: &RunId) -> Result<Vec<String>> {
        self.state.list(&self.key(&format!("attempts/{run}")), None).await
    }

    async fn journal_of(&self, run: &RunId) -> Result<Vec<DiscardAction>> {
        let mut actions = Vec::new();
        for key in self.journal_keys(run).await? {
            actions.extend(self.read::<Vec<DiscardAction>>(&key).await?.unwrap_or_default());
        }
        Ok(actions)
    }

    /// Forgets an attempt whose leftovers are gone.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget(&self, run: &RunId) -> Result<()> {
        let keys = self.journal_keys(run).await?;
        futures::stream::iter(keys.iter())
            .map(|key| self.state.delete(key))
            .buffer_unordered(16)
            .try_collect::<()>()
            .await?;
        fault::hit("state.forget.between")?;
        // Last, so that a crash in between leaves something to find.
        self.state.delete(&self.attempt_key(run)).await
    }

    /// Writes the first version of a run record; says whether the run's id was new to the job.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn create_run(&self, record: &RunRecord) -> Result<bool> {
        self.state.create(&RunRecord::key(&record.run.job, &record.run.id), encode(record)?).await
    }

    /// Writes a later version of a run record.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_run(&self, record: &RunRecord) -> Result<()> {
        self.state.put(&RunRecord::key(&record.run.job, &record.run.id), encode(record)?).await
    }

    /// The record of a run of this job.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get_run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        self.read(&RunRecord::key(&self.job, run)).await
    }

    /// The run records of a job, oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn runs(state: &Arc<dyn StateStore>, job: &str) -> Result<Vec<RunRecord>> {
        let mut records = Vec::new();
        for key in state.list(&format!("{}/runs", name(job)), None).await? {
            if let Some(bytes) = state.get(&key).await? {
                records.push(decode::<RunRecord>(&key, &bytes)?);
            }
        }
        records.sort_by_key(|r| (r.run.started_at, r.run.id.clone()));
        Ok(records)
    }
}

/// Whether what a published run noted is no part of what it published: hidden files are all renamed by then, and an upload
/// that the commit does not complete is not wanted.
fn is_superfluous(noted: &DiscardAction, wanted: &[PublishAction]) -> bool {
    match noted {
        // What was wanted is an upload no more.
        DiscardAction::StagedFiles { .. } | DiscardAction::Uploads { .. } => true,
        DiscardAction::Upload { upload_id, .. } => !wanted
            .iter()
            .any(|action| matches!(action, PublishAction::CompleteUpload { upload_id: id, .. } if id == upload_id)),
        // Only whoever put them there knows whether something points to them.
        DiscardAction::Object { .. } | DiscardAction::Folder { .. } | DiscardAction::Foreign { .. } => false,
    }
}

fn superseded(run: &Run, by: &CommitRecord) -> Error {
    Error::conflict("another run of this job and scope has committed first; nothing of this run was published")
        .with("job", &run.job)
        .with("scope", &run.scope)
        .with("commit", by.sequence)
        .with("other run", &by.run.id)
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    let text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::unexpected("a record cannot be written").because(e))?;
    Ok(Bytes::from(text))
}

fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::unexpected("a record in the state location does not parse; was it written by a newer version?")
            .with("object", key)
            .because(e)
    })
}

fn foreign(key: &str) -> Error {
    Error::unexpected("an object in the state location is none of ours; remove it").with("object", key)
}

/// The journal of an attempt, in the state location.
///
/// What has to be discarded by listing (staged files of a folder, uploads) is durable at once, and so are the first uploads
/// of a run by their ids. Where there are many, they are written together about once a second: a killed run may leave the
/// uploads of its last second behind where a bucket does not let them be listed; nobody sees them, and the bucket's rule
/// for incomplete uploads removes them.
#[derive(Debug)]
pub struct LedgerJournal(Arc<Notes>);

#[derive(Debug)]
struct Notes {
    state: Arc<dyn StateStore>,
    folder: String,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    all: HashSet<DiscardAction>,
    waiting: Vec<DiscardAction>,
    /// Whether something waits that must not.
    urgent: bool,
    written: usize,
    last: Option<Instant>,
}

const TOGETHER: Duration = Duration::from_secs(1);
/// So many writes are made one by one before they are made together.
const ONE_BY_ONE: usize = 16;

impl LedgerJournal {
    fn new(state: Arc<dyn StateStore>, folder: String) -> Self {
        Self(Arc::new(Notes { state, folder, noted: Mutex::default() }))
    }

    /// Everything that was noted.
    pub async fn noted(&self) -> Vec<DiscardAction> {
        self.0.noted.lock().await.all.iter().cloned().collect()
    }
}

impl Notes {
    /// Writes what waits. If that fails it goes on waiting.
    async fn write(&self, noted: &mut Noted) -> Result<()> {
        if noted.waiting.is_empty() {
            return Ok(());
        }
        let key = format!("{}/{:06}.json", self.folder, noted.written);
        self.state.put(&key, encode(&noted.waiting)?).await?;
        noted.waiting.clear();
        noted.urgent = false;
        noted.written += 1;
        noted.last = Some(Instant::now());
        Ok(())
    }
}

#[async_trait]
impl Journal for LedgerJournal {
    async fn note(&self, action: DiscardAction) -> Result<()> {
        let mut noted = self.0.noted.lock().await;
        let many = matches!(action, DiscardAction::Upload { .. } | DiscardAction::Object { .. });
        if !noted.all.insert(action.clone()) {
            // Noted before; whoever relies on it being durable can.
            return if many || !noted.urgent { Ok(()) } else { self.0.write(&mut noted).await };
        }
        noted.waiting.push(action);
        noted.urgent |= !many;
        let recently = noted.last.is_some_and(|last| last.elapsed() < TOGETHER);
        if many && recently && noted.written >= ONE_BY_ONE {
            if noted.waiting.len() == 1 {
                let notes = Arc::clone(&self.0);
                tokio::spawn(async move {
                    tokio::time::sleep(TOGETHER).await;
                    if let Err(e) = notes.write(&mut *notes.noted.lock().await).await {
                        tracing::warn!("what is staged could not be noted yet: {}", e.chain());
                    }
                });
            }
            return Ok(());
        }
        self.0.write(&mut noted).await
    }

    async fn flush(&self) -> Result<()> {
        self.0.write(&mut *self.0.noted.lock().await).await
    }
}

#[cfg(test)]
mod tests {
    use hardtack_core::ErrorKind;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::MockStateStore;

    fn record(run: &str) -> CommitRecord {
        let run = Run {
            id: run.parse().unwrap(),
            job: "job".to_owned(),
            scope: "s".to_owned(),
            started_at: chrono::DateTime::UNIX_EPOCH,
            token: "12345678".to_owned(),
        };
        let committed_at = run.started_at;
        CommitRecord { sequence: 1, run, committed_at, publish: BTreeMap::new(), bookmarks: BTreeMap::new() }
    }

    /// A store that has the record of this run already when it is asked to create it.
    fn taken_by(run: &str) -> Ledger {
        let mut store = MockStateStore::new();
        let found = encode(&record(run)).unwrap();
        let key = "job/scopes/s/commits/000000000001.json";
        store.expect_create().times(1).withf(move |k, _| k == key).returning(|_, _| Ok(false));
        store.expect_get().times(1).withf(move |k| k == key).return_once(move |_| Ok(Some(found)));
        Ledger::new(Arc::new(store), "job", "s")
    }

    #[tokio::test]
    async fn a_commit_that_was_sent_twice_has_succeeded() {
        taken_by("mine").commit(&record("mine")).await.unwrap();
        let lost = taken_by("other").commit(&record("mine")).await.unwrap_err();
        assert_eq!((lost.kind(), lost.get("other run")), (ErrorKind::Conflict, Some("other")));
    }

    /// People look for these names.
    #[rstest]
    #[case("default", "default")]
    #[case("2026-11_v1.2", "2026-11_v1.2")]
    #[case("Größe", "Größe")]
    #[case("a b/c", "a%20;b%2F;c")]
    #[case("..", "%2E;.")]
    #[case("", "%;")]
    fn names_are_kept_where_they_can_be(#[case] text: &str, #[case] segment: &str) {
        assert_eq!(name(text), segment);
    }

    proptest! {
        #[test]
        fn any_name_is_one_segment_and_comes_back(text in any::<String>()) {
            let segment = name(&text);
            prop_assert!(!segment.contains('/') && segment != "." && segment != "..");
            prop_assert_eq!(decode_name(&segment), text);
        }
    }
}
