//! The commit protocol.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use hardtack_core::audit::History;
use hardtack_core::format::NewerFormat;
use hardtack_core::{DiscardAction, Error, Journal, PublishAction, Result, Run, RunId, fault};
use tokio::sync::Mutex;

use crate::codec;
use crate::names::{decode_name, name};
use crate::records::{Abandonment, AttemptRecord, CommitRecord, Invocation, JournalEntry, RunRecord, Settlement};
use crate::store::StateStore;

/// The commits of one job and scope.
#[derive(Debug, Clone)]
pub struct Ledger {
    state: Arc<dyn StateStore>,
    job: String,
    scope: String,
    invocation: Option<Invocation>,
}

/// The number of records that are read concurrently.
pub(crate) const CONCURRENCY: usize = 32;

/// The result of beginning a run.
#[derive(Debug)]
pub enum Begun {
    /// The run has begun.
    Attempt(Box<Attempt>),
    /// The newest commit is not published yet, and must be before the next run begins: that run builds on published
    /// state.
    Unpublished,
    /// A run of this name is on record. File names contain the run's name, so it must be new.
    NameTaken,
}

/// An attempt that can no longer commit or be published: its leftovers may be discarded.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The run.
    pub run: RunId,
    /// Its claim. `None` if only a journal exists: the run was forgotten although it was alive, and continued.
    pub attempt: Option<AttemptRecord>,
    /// How it has ended.
    pub end: End,
    /// Its possible leftovers. (A published run has leftovers if a sink failed and the job continued without it.)
    pub leftovers: Vec<DiscardAction>,
    /// The entries of its journal that do not parse.
    pub damaged: Vec<String>,
}

/// How a run has ended that can no longer commit or be published.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// Another run has taken its number: it can never commit.
    Lost,
    /// Its commit was published.
    Published(Box<CommitRecord>),
    /// Its commit was abandoned.
    Abandoned(Abandonment),
}

impl Finished {
    /// Whether the attempt can be forgotten once its leftovers are gone. A run that has lost may be alive and stage
    /// more until it notices, so it stays on record for [`AFTERLIFE`] after it was first swept.
    pub fn has_ended(&self, now: DateTime<Utc>) -> bool {
        match &self.attempt {
            _ if !self.damaged.is_empty() => false,
            Some(attempt) if self.end == End::Lost => attempt.swept.is_some_and(|at| at + AFTERLIFE <= now),
            _ => true,
        }
    }

    /// Whether it has not been swept before.
    pub fn is_new(&self) -> bool {
        self.attempt.as_ref().is_none_or(|attempt| attempt.swept.is_none())
    }
}

/// How long a run that can never commit stays on record after others have discarded what it had staged. A run that is
/// alive notices within minutes. But one that was paused just before creating a file creates it when it resumes, and if
/// it is then killed, only its record leads to the file.
pub const AFTERLIFE: TimeDelta = TimeDelta::hours(24);

/// The state of a run, held from its start to its end.
#[derive(Debug)]
pub struct Attempt {
    /// The run and the number that it claims.
    pub record: AttemptRecord,
    /// The bookmarks of the last commit.
    pub bookmarks: BTreeMap<String, serde_json::Value>,
    /// The numbers that audits have measured, up to the last commit.
    pub metrics: History,
    /// The journal in which the run records what it stages.
    pub journal: Arc<LedgerJournal>,
}

impl Ledger {
    /// Creates the ledger of a job and scope.
    pub fn new(state: Arc<dyn StateStore>, job: impl Into<String>, scope: impl Into<String>) -> Self {
        Self { state, job: job.into(), scope: scope.into(), invocation: None }
    }

    /// Says how this process was started; the records of the runs that it begins say so, too.
    #[must_use]
    pub fn invoked_by(mut self, invocation: Option<Invocation>) -> Self {
        self.invocation = invocation;
        self
    }

    /// The initial record of a run that this process begins.
    pub fn new_record(&self, run: Run) -> RunRecord {
        RunRecord { invocation: self.invocation.clone(), ..RunRecord::begin(run) }
    }

    /// The ledgers of all jobs and scopes in this state.
    ///
    /// # Errors
    /// Errors of the store.
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

    /// The ledgers of all scopes of a job, by name.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn of_job(state: &Arc<dyn StateStore>, job: &str) -> Result<Vec<Self>> {
        let folder = format!("{}/scopes", name(job));
        let keys = state.list(&folder, None).await?;
        let scope = |key: &String| Some(decode_name(key.strip_prefix(&folder)?.split('/').nth(1)?));
        let scopes: BTreeSet<String> = keys.iter().filter_map(scope).collect();
        Ok(scopes.into_iter().map(|scope| Self::new(Arc::clone(state), job, scope)).collect())
    }

    /// The names of all jobs in this state.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn jobs(state: &Arc<dyn StateStore>) -> Result<BTreeSet<String>> {
        let keys = state.list("", None).await?;
        let job = |key: &String| {
            let mut names = key.split('/');
            let job = decode_name(names.next()?);
            matches!(names.next()?, "runs" | "scopes").then_some(job)
        };
        Ok(keys.iter().filter_map(job).collect())
    }

    /// All commits that parse, oldest first.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn commits(&self) -> Result<Vec<CommitRecord>> {
        let mut commits = Vec::new();
        for sequence in self.numbers("commits", 0).await? {
            if let Ok(commit) = self.get(sequence).await {
                commits.extend(commit);
            }
        }
        Ok(commits)
    }

    /// Rewrites an attempt that does not parse. It is given the next number: it had claimed that number or an earlier
    /// one, so once another run takes it, this run can never commit.
    ///
    /// # Errors
    /// Errors of the store.
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

    /// The number up to which all commits are known to be settled. It is only an optimisation that skips older commits;
    /// everything it says is also in the records. It may lag behind, so a head that does not parse or is ahead of the
    /// settled commits is treated as absent.
    async fn head(&self) -> Result<u64> {
        Ok(match self.written_head().await? {
            WrittenHead::Right(head) => head,
            WrittenHead::Ahead | WrittenHead::Damaged => 0,
        })
    }

    async fn written_head(&self) -> Result<WrittenHead> {
        let key = self.key("head.json");
        let Some(bytes) = self.state.get(&key).await? else { return Ok(WrittenHead::Right(0)) };
        Ok(match decode_head(&key, &bytes) {
            Ok(head) if head > 0 && self.state.get(&self.numbered("published", head)).await?.is_none() => {
                WrittenHead::Ahead
            }
            Ok(head) => WrittenHead::Right(head),
            Err(_) => WrittenHead::Damaged,
        })
    }

    /// The key of the head if it names a commit that is not settled, as after a part of the state was restored from an
    /// older copy. No run relies on such a head; [`Ledger::mend_head`] rewrites it.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn head_ahead(&self) -> Result<Option<String>> {
        Ok(matches!(self.written_head().await?, WrittenHead::Ahead).then(|| self.key("head.json")))
    }

    /// Rewrites the head from the records if it cannot be right; returns whether it did.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn mend_head(&self) -> Result<bool> {
        if let WrittenHead::Right(_) = self.written_head().await? {
            return Ok(false);
        }
        let published = self.numbers("published", 0).await?;
        let head = published.iter().zip(1..).take_while(|(found, wanted)| *found == wanted).count() as u64;
        self.state.put(&self.key("head.json"), codec::to_json(&head)?).await?;
        Ok(true)
    }

    /// The numbers of the objects in `folder` after `head`.
    pub(crate) async fn numbers(&self, folder: &str, head: u64) -> Result<Vec<u64>> {
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
    /// Errors of the store.
    pub async fn newest(&self) -> Result<u64> {
        let head = self.head().await?;
        Ok(self.numbers("commits", head).await?.last().copied().unwrap_or(head))
    }

    /// The commit of this number.
    ///
    /// # Errors
    /// Errors of the store; [`Unexpected`](hardtack_core::ErrorKind::Unexpected) for a record that does not parse.
    pub async fn get(&self, sequence: u64) -> Result<Option<CommitRecord>> {
        let key = self.numbered("commits", sequence);
        match self.state.get(&key).await? {
            Some(bytes) => CommitRecord::decode(&bytes).map(Some).map_err(|e| e.with("object", key)),
            None => Ok(None),
        }
    }

    /// The commits that are not settled, oldest first. There is more than one only if their runs were killed and no
    /// other run followed.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn pending(&self) -> Result<Vec<CommitRecord>> {
        let head = self.head().await?;
        let settled: HashSet<u64> = self.numbers("published", head).await?.into_iter().collect();
        let mut pending = Vec::new();
        for sequence in self.numbers("commits", head).await? {
            if !settled.contains(&sequence) {
                pending.extend(self.get(sequence).await.map_err(|e| self.blocked_by(sequence, e))?);
            }
        }
        Ok(pending)
    }

    /// The error for a commit whose record cannot be read, with a hint: it blocks every run of the scope.
    pub fn blocked_by(&self, sequence: u64, error: Error) -> Error {
        let error = error.with("job", &self.job).with("scope", &self.scope).with("commit", sequence);
        match error.detail::<NewerFormat>() {
            Some(_) => error,
            None => error.hint(format!(
                "restore it as it was written, from a version or a copy of the state location; if there is none, abandon the commit with `{}`",
                self.abandon_command(sequence)
            )),
        }
    }

    /// The command that abandons a commit, for hints.
    pub fn abandon_command(&self, sequence: u64) -> String {
        format!("hardtack recover --job {} --scope {} --abandon {sequence}", self.job, self.scope)
    }

    /// Begins a run: records an attempt at the next commit, and the run.
    ///
    /// The attempt exists before the run's record does, and until that has its final version. Recovery goes through
    /// attempts, so it finds every record that its run could not complete.
    ///
    /// # Errors
    /// Those of [`Ledger::create_run`].
    pub async fn begin(&self, run: &Run) -> Result<Begun> {
        let newest = self.newest().await?;
        let Some((bookmarks, metrics)) = self.position(newest).await? else { return Ok(Begun::Unpublished) };
        let record = AttemptRecord { run: run.clone(), claims: newest + 1, swept: None };
        let key = self.attempt_key(&run.id);
        if !self.create(&key, record.encode()?).await? {
            return Ok(Begun::NameTaken);
        }
        let is_new = self.create_run(&self.new_record(run.clone())).await;
        if !matches!(is_new, Ok(true)) {
            // This run's journal is still empty. (If the name was used before, the journal's entries belong to that
            // run.)
            self.state.delete(&key).await?;
            return is_new.map(|_| Begun::NameTaken);
        }
        let journal = LedgerJournal::new(Arc::clone(&self.state), self.key(&format!("attempts/{}", run.id)));
        Ok(Begun::Attempt(Box::new(Attempt { record, bookmarks, metrics, journal: Arc::new(journal) })))
    }

    /// The bookmarks and metrics after this commit and all before it: those of the newest published one. The rows of an abandoned
    /// commit are in no sink, so its sources must be read again from their previous positions. `None` if a commit is
    /// not settled.
    async fn position(&self, newest: u64) -> Result<Option<(BTreeMap<String, serde_json::Value>, History)>> {
        for sequence in (1..=newest).rev() {
            match self.settlement(sequence).await? {
                None => return Ok(None),
                Some(Settlement::Abandoned(_)) => {}
                Some(Settlement::Published { .. }) => {
                    let commit = self.get(sequence).await?.ok_or_else(|| self.gone(sequence))?;
                    return Ok(Some((commit.bookmarks, commit.metrics)));
                }
            }
        }
        Ok(Some(Default::default()))
    }

    /// Creates an object; returns whether it is ours. If a response was lost and the request repeated, the store
    /// reports that the object exists; then its content must be what we wrote.
    async fn create(&self, key: &str, value: Bytes) -> Result<bool> {
        Ok(self.state.create(key, value.clone()).await?
            || self.state.get(key).await?.is_some_and(|found| found == value))
    }

    fn gone(&self, sequence: u64) -> Error {
        Error::unexpected("the record of the newest commit is missing, and with it the bookmarks")
            .with("object", self.numbered("commits", sequence))
            .hint("restore it from a version or a copy of the state location")
    }

    fn attempt_key(&self, run: &RunId) -> String {
        self.key(&format!("attempts/{run}.json"))
    }

    /// Commits: creates the record with its number. This is the moment that decides.
    ///
    /// # Errors
    /// [`Conflict`](hardtack_core::ErrorKind::Conflict) if another run has taken the number: then this one can never
    /// commit. After any other error it is unknown whether the record was written; [`Ledger::get`] may tell.
    pub async fn commit(&self, record: &CommitRecord) -> Result<()> {
        let key = self.numbered("commits", record.sequence);
        fault::hit("state.commit.before")?;
        let created = self.state.create(&key, record.encode()?).await?;
        fault::hit("state.commit.after")?;
        if created {
            return Ok(());
        }
        // A repeated request finds the record that the first one wrote.
        match self.get(record.sequence).await? {
            Some(taken) if taken.run.id == record.run.id => Ok(()),
            Some(taken) => Err(superseded(&record.run, &taken)),
            None => Err(Error::conflict("another run has taken this commit's number")),
        }
    }

    /// Fails if another run has taken the number that this attempt claims.
    ///
    /// # Errors
    /// [`Conflict`](hardtack_core::ErrorKind::Conflict) in that case; errors of the store.
    pub async fn check(&self, attempt: &AttemptRecord) -> Result<()> {
        match self.get(attempt.claims).await? {
            Some(taken) if taken.run.id != attempt.run.id => Err(superseded(&attempt.run, &taken)),
            _ => Ok(()),
        }
    }

    /// Settles a commit as published: all its actions have been executed. Returns its settlement, because it may have
    /// been abandoned meanwhile.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn mark_published(&self, sequence: u64, by: &RunId) -> Result<Settlement> {
        fault::hit("state.done.before")?;
        let settlement = self.settle(sequence, Settlement::Published { by: by.clone() }).await?;
        fault::hit("state.done.after")?;
        self.advance_head(sequence).await?;
        Ok(settlement)
    }

    /// Settles a commit as abandoned: its unpublished files never appear, and the next run continues from the commit
    /// before it. Its staged files are left to the sweep. Returns its settlement, because it may have been published
    /// meanwhile.
    ///
    /// # Errors
    /// [`NotFound`](hardtack_core::ErrorKind::NotFound) if there is no such commit;
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if a newer version has written it; errors of the store.
    pub async fn abandon(&self, sequence: u64, abandonment: &Abandonment) -> Result<Settlement> {
        self.abandonable(sequence).await?;
        fault::hit("state.abandon.before")?;
        let settlement = self.settle(sequence, Settlement::Abandoned(abandonment.clone())).await?;
        fault::hit("state.abandon.after")?;
        self.advance_head(sequence).await?;
        Ok(settlement)
    }

    /// The commit of this number, if it can be abandoned; `None` if its record is damaged, because then it can never be
    /// published.
    ///
    /// # Errors
    /// Those of [`Ledger::abandon`]; [`Usage`](hardtack_core::ErrorKind::Usage) if it is published.
    pub async fn abandonable(&self, sequence: u64) -> Result<Option<CommitRecord>> {
        let commit = match self.get(sequence).await {
            // A number without a commit must not be settled: a run may still take it.
            Ok(None) => {
                let message = format!("there is no commit {sequence} of this job and scope");
                return Err(Error::not_found(message).with("job", &self.job).with("scope", &self.scope));
            }
            Ok(commit) => commit,
            Err(e) if codec::is_damaged(&e) => None,
            Err(e) => return Err(e),
        };
        match self.settlement(sequence).await? {
            Some(Settlement::Published { .. }) => Err(self.already_published(sequence)),
            Some(Settlement::Abandoned(_)) | None => Ok(commit),
        }
    }

    /// The error when a commit is abandoned too late.
    pub fn already_published(&self, sequence: u64) -> Error {
        Error::usage(format!("commit {sequence} is published, so there is nothing to abandon"))
            .with("job", &self.job)
            .with("scope", &self.scope)
    }

    /// Settles a commit unless it is already settled; returns its settlement. Creating the record decides between
    /// publishing and abandoning.
    async fn settle(&self, sequence: u64, as_wanted: Settlement) -> Result<Settlement> {
        if self.state.create(&self.numbered("published", sequence), as_wanted.encode()?).await? {
            return Ok(as_wanted);
        }
        Ok(self.settlement(sequence).await?.unwrap_or(as_wanted))
    }

    /// The head states that all commits up to it are settled, so it advances one commit at a time.
    async fn advance_head(&self, sequence: u64) -> Result<()> {
        if sequence == 1 || self.is_settled(sequence - 1).await? {
            self.state.put(&self.key("head.json"), codec::to_json(&sequence)?).await?;
        }
        Ok(())
    }

    /// The settlement of a commit, if it is settled.
    ///
    /// # Errors
    /// Errors of the store; [`Unexpected`](hardtack_core::ErrorKind::Unexpected) for a damaged record.
    pub async fn settlement(&self, sequence: u64) -> Result<Option<Settlement>> {
        let key = self.numbered("published", sequence);
        match self.state.get(&key).await? {
            Some(bytes) => Settlement::decode(&bytes).map(Some).map_err(|e| e.with("object", key)),
            // The head has passed it: if the folder was cleaned by hand, its newest record was kept.
            None if self.head().await? >= sequence => {
                Ok(self.get(sequence).await?.map(|commit| Settlement::Published { by: commit.run.id }))
            }
            None => Ok(None),
        }
    }

    /// The abandonment of a commit, if it was abandoned.
    ///
    /// # Errors
    /// Those of [`Ledger::settlement`].
    pub async fn abandonment(&self, sequence: u64) -> Result<Option<Abandonment>> {
        Ok(match self.settlement(sequence).await? {
            Some(Settlement::Abandoned(abandonment)) => Some(abandonment),
            Some(Settlement::Published { .. }) | None => None,
        })
    }

    /// Whether a commit is settled: fully published, or abandoned.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn is_settled(&self, sequence: u64) -> Result<bool> {
        Ok(self.state.get(&self.numbered("published", sequence)).await?.is_some() || self.head().await? >= sequence)
    }

    /// The attempts that are over: those that can never commit because another run has taken their number, and those
    /// whose commits are settled. An attempt that does not parse is not included, because its claim is unknown.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn finished(&self) -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        for (run, on_record) in self.on_record().await? {
            let attempt = match self.attempt(&run).await? {
                Some(Ok(attempt)) => Some(attempt),
                Some(Err(e)) => {
                    tracing::warn!(%run, "an attempt is left alone; see `hardtack fsck`: {}", e.chain());
                    continue;
                }
                // It was forgotten meanwhile.
                None if on_record => continue,
                None => None,
            };
            let end = match &attempt {
                Some(attempt) => self.end_of(&run, attempt.claims).await?,
                // The attempt was forgotten, so its commit is settled or another run has its number.
                None => self.end_of_run(&run).await?.or(Some(End::Lost)),
            };
            let Some(end) = end else { continue };
            let (mut leftovers, damaged) = self.journal_of(&run).await?;
            leftovers.retain(|action| end.leaves(action));
            finished.push(Finished { run, attempt, end, leftovers, damaged });
        }
        Ok(finished)
    }

    /// How a run that claims this number has ended, if it can no longer commit or be published.
    async fn end_of(&self, run: &RunId, claims: u64) -> Result<Option<End>> {
        match self.get(claims).await {
            Ok(None) => Ok(None),
            Ok(Some(taken)) if taken.run.id != *run => Ok(Some(End::Lost)),
            Ok(Some(taken)) => Ok(match self.settlement(claims).await? {
                None => None,
                Some(Settlement::Published { .. }) => Some(End::Published(Box::new(taken))),
                Some(Settlement::Abandoned(by)) => Some(End::Abandoned(by)),
            }),
            // Whichever run has taken the number, its commit will not be published any more.
            Err(e) if codec::is_damaged(&e) => Ok(self.abandonment(claims).await?.map(End::Abandoned)),
            // A process that can read the commit may still publish it.
            Err(e) if e.detail::<NewerFormat>().is_some() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Records that the leftovers of an attempt so far are discarded. The attempt stays on record, see [`AFTERLIFE`].
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn mark_swept(&self, attempt: &AttemptRecord, now: DateTime<Utc>) -> Result<()> {
        let record = AttemptRecord { swept: Some(now), ..attempt.clone() };
        self.state.put(&self.attempt_key(&attempt.run.id), record.encode()?).await
    }

    /// Whether a run other than this one may still commit: it is running, or was killed.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn is_contested(&self, run: &RunId) -> Result<bool> {
        Ok(self.unfinished().await?.iter().any(|other| other != run))
    }

    /// The runs that may still commit or be published, as far as known: the claim of an attempt that does not parse is
    /// unknown.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn unfinished(&self) -> Result<HashSet<RunId>> {
        let finished: HashSet<RunId> = self.finished().await?.into_iter().map(|finished| finished.run).collect();
        Ok(self.on_record().await?.into_keys().filter(|run| !finished.contains(run)).collect())
    }

    /// Whether this run has an attempt on record.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn is_on_record(&self, run: &RunId) -> Result<bool> {
        Ok(self.state.get(&self.attempt_key(run)).await?.is_some())
    }

    /// The attempts on record: of runs that are running, were killed, have leftovers that are not discarded yet, or may
    /// be alive although they can never commit. Attempts that do not parse are omitted.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn attempts(&self) -> Result<Vec<AttemptRecord>> {
        let mut attempts = Vec::new();
        for run in self.on_record().await?.into_keys() {
            attempts.extend(self.attempt(&run).await?.and_then(Result::ok));
        }
        Ok(attempts)
    }

    /// The runs that have an attempt or a journal, and whether the attempt exists: it is a record directly in the
    /// folder, with its journal in a folder below.
    async fn on_record(&self) -> Result<BTreeMap<RunId, bool>> {
        let folder = self.key("attempts");
        let mut runs = BTreeMap::new();
        for key in self.state.list(&folder, None).await? {
            let inside = key.strip_prefix(&folder).unwrap_or(&key).trim_start_matches('/');
            let (name, is_attempt) = match inside.split_once('/') {
                Some((run, _)) => (Some(run), false),
                None => (inside.strip_suffix(".json"), true),
            };
            // Foreign objects do not block runs; `hardtack fsck` reports them.
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

    /// How a run with a commit has ended, whatever the number; `None` if it has no commit, or one that is not settled.
    /// This reads all commits, and is only for rare cases.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn end_of_run(&self, run: &RunId) -> Result<Option<End>> {
        match self.commits().await?.into_iter().rev().find(|commit| commit.run.id == *run) {
            Some(commit) => self.end_of(run, commit.sequence).await,
            None => Ok(None),
        }
    }

    async fn journal_keys(&self, run: &RunId) -> Result<Vec<String>> {
        self.state.list(&self.key(&format!("attempts/{run}")), None).await
    }

    /// The journal of a run, and the entries that do not parse.
    async fn journal_of(&self, run: &RunId) -> Result<(Vec<DiscardAction>, Vec<String>)> {
        let (mut actions, mut damaged) = (Vec::new(), Vec::new());
        for key in self.journal_keys(run).await? {
            match self.state.get(&key).await?.map(|bytes| JournalEntry::decode(&key, &bytes)) {
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
    /// Errors of the store.
    pub async fn forget(&self, run: &RunId) -> Result<()> {
        let keys = self.journal_keys(run).await?;
        futures::stream::iter(keys.iter())
            .map(|key| self.state.delete(key))
            .buffer_unordered(16)
            .try_collect::<()>()
            .await?;
        fault::hit("state.forget.between")?;
        // Last, so that a crash in between leaves a record to find.
        self.state.delete(&self.attempt_key(run)).await
    }

    /// Finds half-written files that killed runs have left here and nobody has modified since `before`; removes them
    /// unless this is a dry run.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn half_written(&self, before: DateTime<Utc>, dry_run: bool) -> Result<Vec<String>> {
        let mut found = self.state.sweep_half_written(self.key("").trim_end_matches('/'), before, dry_run).await?;
        found.extend(self.state.sweep_half_written(&format!("{}/runs", name(&self.job)), before, dry_run).await?);
        Ok(found)
    }

    /// Writes the first version of a run record; returns whether the run's id was new to the job.
    ///
    /// This object also serves to test that the store honours create-if-absent, because nobody removes it. An attempt
    /// would not do: another run may consider it ended and remove it, and then a second create would rightly succeed.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the store does not honour create-if-absent: without it, two runs
    /// could both believe that they have committed.
    pub async fn create_run(&self, record: &RunRecord) -> Result<bool> {
        let (key, value) = (RunRecord::key(&record.run.job, &record.run.id), record.encode()?);
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
    /// Errors of the store.
    pub async fn put_run(&self, record: &RunRecord) -> Result<()> {
        self.state.put(&RunRecord::key(&record.run.job, &record.run.id), record.encode()?).await
    }

    /// The record of a run of this job.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn get_run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let key = RunRecord::key(&self.job, run);
        self.state.get(&key).await?.map(|bytes| RunRecord::decode(&key, &bytes)).transpose()
    }

    /// The ids of the runs of a job that are on record.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn run_ids(state: &Arc<dyn StateStore>, job: &str) -> Result<BTreeSet<RunId>> {
        let keys = state.list(&format!("{}/runs", name(job)), None).await?;
        let id = |key: &String| key.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
        Ok(keys.iter().filter_map(id).collect())
    }

    /// The run records of a job, oldest first. Records that do not parse are logged.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn runs(state: &Arc<dyn StateStore>, job: &str) -> Result<Vec<RunRecord>> {
        let keys = state.list(&format!("{}/runs", name(job)), None).await?;
        let read = futures::stream::iter(keys).map(|key| async move {
            let found = state.get(&key).await?;
            Ok::<_, Error>(found.map(|bytes| RunRecord::decode(&key, &bytes)))
        });
        let mut records = Vec::new();
        for record in read.buffered(CONCURRENCY).try_collect::<Vec<_>>().await?.into_iter().flatten() {
            match record {
                Ok(record) => records.push(record),
                Err(e) => tracing::warn!("a run record is left out: {}", e.chain()),
            }
        }
        records.sort_by_key(|r| (r.run.started_at, r.run.id.clone()));
        Ok(records)
    }
}

impl End {
    /// Whether a journal entry of the run is a leftover to be discarded.
    fn leaves(&self, noted: &DiscardAction) -> bool {
        match (self, noted) {
            (Self::Lost, _) => true,
            // Published files are no longer hidden, and completed uploads no longer exist.
            (_, DiscardAction::StagedFiles { .. } | DiscardAction::Uploads { .. }) => true,
            (Self::Abandoned(_), DiscardAction::Upload { .. }) => true,
            (Self::Published(commit), DiscardAction::Upload { upload_id, .. }) => {
                !commit.publish.values().flatten().any(
                    |action| matches!(action, PublishAction::CompleteUpload { upload_id: id, .. } if id == upload_id),
                )
            }
            // Some of the commit's actions may have been executed. Only their creator knows whether something refers to
            // these.
            (_, DiscardAction::Object { .. } | DiscardAction::Folder { .. } | DiscardAction::Foreign { .. }) => false,
        }
    }
}

fn superseded(run: &Run, by: &CommitRecord) -> Error {
    Error::conflict("another run of this job and scope has committed first; nothing of this run was published")
        .with("job", &run.job)
        .with("scope", &run.scope)
        .with("commit", by.sequence)
        .with("other run", &by.run.id)
}

/// The head as it is stored; a missing one is 0.
enum WrittenHead {
    Right(u64),
    /// It names a commit that is not settled.
    Ahead,
    /// It does not parse.
    Damaged,
}

/// The head is only a hint, so it has neither a format nor a seal.
pub(crate) fn decode_head(key: &str, bytes: &[u8]) -> Result<u64> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::unexpected("the head does not parse").with("object", key).because(e))
}

fn foreign(key: &str) -> Error {
    Error::unexpected("a foreign object is in the state location; remove it").with("object", key)
}

/// The journal of an attempt, in the state location.
///
/// Entries that are discarded by listing (staged files of a folder, uploads) are durable immediately, and so are the
/// ids of a run's first uploads. Later ids are written in batches, about once a second: if the bucket does not allow
/// uploads to be listed, a killed run may leave the uploads of its last second behind. They are invisible, and the
/// bucket's lifecycle rule for incomplete uploads removes them.
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
    /// Whether an entry is pending that must be durable immediately.
    urgent: bool,
    written: usize,
    last: Option<Instant>,
}

const TOGETHER: Duration = Duration::from_secs(1);
/// The number of entries that are written individually before batching begins.
const UNBATCHED_ENTRIES: usize = 16;

impl LedgerJournal {
    fn new(state: Arc<dyn StateStore>, folder: String) -> Self {
        Self(Arc::new(Notes { state, folder, noted: Mutex::default() }))
    }

    /// All recorded entries.
    pub async fn noted(&self) -> Vec<DiscardAction> {
        self.0.noted.lock().await.all.iter().cloned().collect()
    }
}

impl Notes {
    /// Writes the pending entries. If that fails they stay pending.
    async fn write(&self, noted: &mut Noted) -> Result<()> {
        if noted.waiting.is_empty() {
            return Ok(());
        }
        let key = format!("{}/{:06}.json", self.folder, noted.written);
        self.state.put(&key, JournalEntry::encode(&noted.waiting)?).await?;
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
            // Recorded before; if it must be durable, make sure that it is.
            return if many || !noted.urgent { Ok(()) } else { self.0.write(&mut noted).await };
        }
        noted.waiting.push(action);
        noted.urgent |= !many;
        let recently = noted.last.is_some_and(|last| last.elapsed() < TOGETHER);
        if many && recently && noted.written >= UNBATCHED_ENTRIES {
            if noted.waiting.len() == 1 {
                let notes = Arc::clone(&self.0);
                tokio::spawn(async move {
                    tokio::time::sleep(TOGETHER).await;
                    if let Err(e) = notes.write(&mut *notes.noted.lock().await).await {
                        tracing::warn!("staged files could not be recorded yet: {}", e.chain());
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

    use super::*;
    use crate::MockStateStore;

    fn record(run: &str) -> CommitRecord {
        let run = Run {
            id: run.parse().unwrap(),
            job: "job".to_owned(),
            scope: "s".to_owned(),
            started_at: chrono::DateTime::UNIX_EPOCH,
            token: "12345678".to_owned(),
            window: None,
        };
        let committed_at = run.started_at;
        CommitRecord::new(1, run, committed_at)
    }

    /// A store that already has the record of this run when it is created.
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
}
