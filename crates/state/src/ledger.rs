//! The protocol of commits.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
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
pub(crate) fn decode_name(segment: &str) -> String {
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

/// The longest name of a file or folder that file systems hold, in bytes.
const LONGEST_NAME: usize = 255;

/// Checks that a scope can be kept: it becomes the name of a folder.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if it is empty, or too long for a file system.
///
/// ```
/// use hardtack_state::check_scope;
///
/// assert!(check_scope("2026-11-21").is_ok());
/// assert!(check_scope(&"x".repeat(260)).is_err());
/// ```
pub fn check_scope(scope: &str) -> Result<()> {
    let bytes = name(scope).len();
    match scope {
        "" => Err(Error::usage("a scope has a name, for example `2026-11-21`")),
        _ if bytes > LONGEST_NAME => Err(Error::usage(format!(
            "a scope becomes the name of a folder, of {LONGEST_NAME} bytes at most, and this is one of {bytes}; \
             give it a short one, for example `2026-11-21`"
        ))),
        _ => Ok(()),
    }
}

/// The commits of one job and scope.
#[derive(Debug, Clone)]
pub struct Ledger {
    state: Arc<dyn StateStore>,
    job: String,
    scope: String,
}

/// What came of beginning a run.
#[derive(Debug)]
pub enum Begun {
    /// It has begun.
    Attempt(Box<Attempt>),
    /// The newest commit has not been published yet, which has to be done first: the next run builds on what it finds.
    Unpublished,
    /// A run of this name is on record; names of files carry it, so it has to be new.
    NameTaken,
}

/// An attempt that nothing can come of any more: what it has left may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The run.
    pub run: RunId,
    /// What it claimed. None if there is only a journal: the run was forgotten, was alive all the same, and went on.
    pub attempt: Option<AttemptRecord>,
    /// Its commit, if it was published. Otherwise it can never commit.
    pub commit: Option<CommitRecord>,
    /// What it may have left behind. (A published run leaves something if a sink failed and the job went on without it.)
    pub leftovers: Vec<DiscardAction>,
    /// The entries of its journal that do not parse.
    pub damaged: Vec<String>,
}

impl Finished {
    /// Whether the attempt can be forgotten once its leftovers are gone. A run that has lost may be alive, and stage more
    /// until it finds out; so it stays on record for [`AFTERLIFE`] from when it was swept first.
    pub fn has_ended(&self, now: DateTime<Utc>) -> bool {
        match &self.attempt {
            _ if !self.damaged.is_empty() => false,
            Some(attempt) if self.commit.is_none() => attempt.swept.is_some_and(|at| at + AFTERLIFE <= now),
            _ => true,
        }
    }

    /// Whether nobody has swept it before.
    pub fn is_new(&self) -> bool {
        self.attempt.as_ref().is_none_or(|attempt| attempt.swept.is_none())
    }
}

/// How long a run that can never commit stays on record after others have discarded what it had staged by then. A run
/// that is alive finds out within minutes; but one that was paused right before it created a file creates it when it wakes
/// up, and if it is killed then, its record is all that tells of the file.
pub const AFTERLIFE: TimeDelta = TimeDelta::hours(24);

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

    /// All commits, oldest first, but for those that do not parse.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn commits(&self) -> Result<Vec<CommitRecord>> {
        let mut commits = Vec::new();
        for sequence in self.numbers("commits", 0).await? {
            if let Ok(commit) = self.get(sequence).await {
                commits.extend(commit);
            }
        }
        Ok(commits)
    }

    /// Writes an attempt anew that does not parse. It gets the next number: what it has claimed is that one or an earlier
    /// one, so once this is taken by another run, it can never commit.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mend_attempt(&self, run: &Run) -> Result<()> {
        let record = AttemptRecord { run: run.clone(), claims: self.newest().await? + 1, swept: None };
        self.state.put(&self.attempt_key(&run.id), record.encode()?).await
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

    /// The number up to which all commits are known to be published. It may lag behind, so one that does not parse, or is
    /// ahead of what is published, is as good as none: it spares looking at what is older, and says nothing that the
    /// records do not.
    async fn head(&self) -> Result<u64> {
        Ok(self.written_head().await?.and_then(Result::ok).unwrap_or(0))
    }

    /// The head as it is written down, if it is.
    async fn written_head(&self) -> Result<Option<Result<u64>>> {
        let key = self.key("head.json");
        let Some(bytes) = self.state.get(&key).await? else { return Ok(None) };
        let head = match decode(&key, &bytes) {
            Ok(head) if head > 0 && self.state.get(&self.numbered("published", head)).await?.is_none() => {
                Err(Error::unexpected("the commit that the head names is not published").with("object", key))
            }
            head => head,
        };
        Ok(Some(head))
    }

    /// Writes the head anew, from the records, if it cannot be right; says whether it did.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mend_head(&self) -> Result<bool> {
        let Some(Err(_)) = self.written_head().await? else { return Ok(false) };
        let published = self.numbers("published", 0).await?;
        let head = published.iter().zip(1..).take_while(|(found, wanted)| *found == wanted).count() as u64;
        self.state.put(&self.key("head.json"), encode(&head)?).await?;
        Ok(true)
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
        let key = self.numbered("commits", sequence);
        match self.state.get(&key).await? {
            Some(bytes) => CommitRecord::decode(&bytes).map(Some).map_err(|e| e.with("object", key)),
            None => Ok(None),
        }
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

    /// Begins a run: an attempt at the next commit, and the run's record.
    ///
    /// The attempt is on record before the run's record is and until that has its last version, so whoever looks after
    /// attempts comes across each record that its run could not complete.
    ///
    /// # Errors
    /// Those of [`Ledger::create_run`].
    pub async fn begin(&self, run: &Run) -> Result<Begun> {
        let newest = self.newest().await?;
        if newest > 0 && !self.is_published(newest).await? {
            return Ok(Begun::Unpublished);
        }
        let bookmarks = match newest {
            0 => BTreeMap::new(),
            n => self.get(n).await?.ok_or_else(|| self.gone(n))?.bookmarks,
        };
        let record = AttemptRecord { run: run.clone(), claims: newest + 1, swept: None };
        let key = self.attempt_key(&run.id);
        if !self.create(&key, record.encode()?).await? {
            return Ok(Begun::NameTaken);
        }
        let is_new = self.create_run(&RunRecord::begin(run.clone())).await;
        if !matches!(is_new, Ok(true)) {
            // Nothing has been noted yet. (What is in the journal of a name that was used before is that run's.)
            self.state.delete(&key).await?;
            return is_new.map(|_| Begun::NameTaken);
        }
        let journal = LedgerJournal::new(Arc::clone(&self.state), self.key(&format!("attempts/{}", run.id)));
        Ok(Begun::Attempt(Box::new(Attempt { record, bookmarks, journal: Arc::new(journal) })))
    }

    /// Creates an object; says whether it is ours. A store that was asked twice, because an answer was lost, says that the
    /// object is there; then it has to be what we wrote.
    async fn create(&self, key: &str, value: Bytes) -> Result<bool> {
        Ok(self.state.create(key, value.clone()).await?
            || self.state.get(key).await?.is_some_and(|found| found == value))
    }

    fn gone(&self, sequence: u64) -> Error {
        Error::unexpected("the record of the newest commit is gone, and with it how far sources have been read")
            .with("object", self.numbered("commits", sequence))
            .with("way out", "restore it from a version or a copy of the state location")
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
        let created = self.state.create(&key, record.encode()?).await?;
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

    /// The attempts that nothing can come of any more: those that can never commit, because another run has taken their
    /// number, and those that have been published. One that does not parse is none of them, for it does not say what it
    /// claims.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn finished(&self) -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        for (run, on_record) in self.on_record().await? {
            let attempt = match self.attempt(&run).await? {
                Some(Ok(attempt)) => Some(attempt),
                Some(Err(e)) => {
                    tracing::warn!(%run, "an attempt is left alone; see `hardtack fsck`: {}", e.chain());
                    continue;
                }
                // It was forgotten while this went on.
                None if on_record => continue,
                None => None,
            };
            let taken = match &attempt {
                Some(attempt) => self.get(attempt.claims).await?,
                None => self.commit_of(&run).await?,
            };
            let commit = match taken {
                None if attempt.is_some() => continue,
                Some(taken) if taken.run.id == run && !self.is_published(taken.sequence).await? => continue,
                taken => taken.filter(|taken| taken.run.id == run),
            };
            let (mut leftovers, damaged) = self.journal_of(&run).await?;
            if let Some(commit) = &commit {
                let wanted = commit.actions();
                leftovers.retain(|action| is_superfluous(action, &wanted));
            }
            finished.push(Finished { run, attempt, commit, leftovers, damaged });
        }
        Ok(finished)
    }

    /// Notes that what an attempt had left by now is discarded. It stays on record, see [`AFTERLIFE`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mark_swept(&self, attempt: &AttemptRecord, now: DateTime<Utc>) -> Result<()> {
        let record = AttemptRecord { swept: Some(now), ..attempt.clone() };
        self.state.put(&self.attempt_key(&attempt.run.id), record.encode()?).await
    }

    /// Whether a run other than this one may still commit: it goes on, or was killed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_contested(&self, run: &RunId) -> Result<bool> {
        Ok(self.unfinished().await?.iter().any(|other| other != run))
    }

    /// The runs that may still commit or be published, as far as is known: of an attempt that does not parse nobody knows
    /// what it claims.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn unfinished(&self) -> Result<HashSet<RunId>> {
        let finished: HashSet<RunId> = self.finished().await?.into_iter().map(|finished| finished.run).collect();
        Ok(self.on_record().await?.into_keys().filter(|run| !finished.contains(run)).collect())
    }

    /// Whether there is an attempt of this run.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_on_record(&self, run: &RunId) -> Result<bool> {
        Ok(self.state.get(&self.attempt_key(run)).await?.is_some())
    }

    /// The attempts that are on record: of runs that go on, were killed, have left something that is not discarded yet, or
    /// may be alive though they can never commit. Those that do not parse are left out.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn attempts(&self) -> Result<Vec<AttemptRecord>> {
        let mut attempts = Vec::new();
        for run in self.on_record().await?.into_keys() {
            attempts.extend(self.attempt(&run).await?.and_then(Result::ok));
        }
        Ok(attempts)
    }

    /// The runs of which there is an attempt or a journal, and whether the attempt is there: a record directly in the
    /// folder, and its journal in a folder below.
    async fn on_record(&self) -> Result<BTreeMap<RunId, bool>> {
        let folder = self.key("attempts");
        let mut runs = BTreeMap::new();
        for key in self.state.list(&folder, None).await? {
            let inside = key.strip_prefix(&folder).unwrap_or(&key).trim_start_matches('/');
            let (name, is_attempt) = match inside.split_once('/') {
                Some((run, _)) => (Some(run), false),
                None => (inside.strip_suffix(".json"), true),
            };
            // What is none of ours keeps nobody from running; `hardtack fsck` names it.
            if let Some(run) = name.and_then(|name| name.parse().ok()) {
                *runs.entry(run).or_default() |= is_attempt;
            }
        }
        Ok(runs)
    }

    async fn attempt(&self, run: &RunId) -> Result<Option<Result<AttemptRecord>>> {
        let key = self.attempt_key(run);
        let found = self.state.get(&key).await?;
        Ok(found.map(|bytes| AttemptRecord::decode(&bytes).map_err(|e| e.with("object", &key))))
    }

    /// The commit of a run, whichever number it has. All are read: this is for what hardly ever happens.
    async fn commit_of(&self, run: &RunId) -> Result<Option<CommitRecord>> {
        for sequence in self.numbers("commits", 0).await?.into_iter().rev() {
            if let Some(commit) = self.get(sequence).await?.filter(|commit| commit.run.id == *run) {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    async fn journal_keys(&self, run: &RunId) -> Result<Vec<String>> {
        self.state.list(&self.key(&format!("attempts/{run}")), None).await
    }

    /// What a run has noted, and the entries that do not parse.
    async fn journal_of(&self, run: &RunId) -> Result<(Vec<DiscardAction>, Vec<String>)> {
        let (mut actions, mut damaged) = (Vec::new(), Vec::new());
        for key in self.journal_keys(run).await? {
            match self.state.get(&key).await?.map(|bytes| decode::<Vec<DiscardAction>>(&key, &bytes)) {
                Some(Ok(noted)) => actions.extend(noted),
                Some(Err(_)) => damaged.push(key),
                None => {}
            }
        }
        Ok((actions, damaged))
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

    /// What killed runs have left half written here, and nobody has touched since a moment; it is removed unless this is a
    /// dry run.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn half_written(&self, before: DateTime<Utc>, dry_run: bool) -> Result<Vec<String>> {
        let mut found = self.state.sweep_half_written(self.key("").trim_end_matches('/'), before, dry_run).await?;
        found.extend(self.state.sweep_half_written(&format!("{}/runs", name(&self.job)), before, dry_run).await?);
        Ok(found)
    }

    /// Writes the first version of a run record; says whether the run's id was new to the job.
    ///
    /// Whether the store honours create-if-absent is tried with this object, because nobody removes it: of an attempt,
    /// say, another run may think that it has ended, and a second create would succeed for that reason.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the store does not honour create-if-absent: without it, two runs
    /// could both believe that they have committed.
    pub async fn create_run(&self, record: &RunRecord) -> Result<bool> {
        let (key, value) = (RunRecord::key(&record.run.job, &record.run.id), encode(record)?);
        if !self.create(&key, value.clone()).await? {
            return Ok(false);
        }
        if self.state.create(&key, value).await? {
            return Err(Error::usage(
                "the state location does not honour create-if-absent, so runs could overwrite each other's commits; \
                 use a store that does (Amazon S3, a local file system)",
            ));
        }
        Ok(true)
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

    /// The run records of a job, oldest first. Those that do not parse are named in the log.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn runs(state: &Arc<dyn StateStore>, job: &str) -> Result<Vec<RunRecord>> {
        let mut records = Vec::new();
        for key in state.list(&format!("{}/runs", name(job)), None).await? {
            match state.get(&key).await?.map(|bytes| decode::<RunRecord>(&key, &bytes)) {
                Some(Ok(record)) => records.push(record),
                Some(Err(e)) => tracing::warn!("a run record is left out: {}", e.chain()),
                None => {}
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

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    let text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::unexpected("a record cannot be written").because(e))?;
    Ok(Bytes::from(text))
}

pub(crate) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
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
        CommitRecord::new(1, run, committed_at)
    }

    /// A store that has the record of this run already when it is asked to create it.
    fn taken_by(run: &str) -> Ledger {
        let mut store = MockStateStore::new();
        let found = record(run).encode().unwrap();
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
