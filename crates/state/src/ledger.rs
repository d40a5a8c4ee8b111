//! The protocol of commits.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use hardtack_core::format::NewerFormat;
use hardtack_core::{DiscardAction, Error, Journal, PublishAction, Result, Run, RunId, fault};
use tokio::sync::Mutex;

use crate::codec;
use crate::names::{decode_name, name};
use crate::records::{Abandonment, AttemptRecord, CommitRecord, JournalEntry, RunRecord, Settlement};
use crate::store::StateStore;

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
    /// How it has ended.
    pub end: End,
    /// What it may have left behind. (A published run leaves something if a sink failed and the job went on without it.)
    pub leftovers: Vec<DiscardAction>,
    /// The entries of its journal that do not parse.
    pub damaged: Vec<String>,
}

/// How a run has ended that nothing can come of any more.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// Another run has its number: it can never commit.
    Lost,
    /// Its commit was published.
    Published(CommitRecord),
    /// Its commit was abandoned.
    Abandoned(Abandonment),
}

impl Finished {
    /// Whether the attempt can be forgotten once its leftovers are gone. A run that has lost may be alive, and stage more
    /// until it finds out; so it stays on record for [`AFTERLIFE`] from when it was swept first.
    pub fn has_ended(&self, now: DateTime<Utc>) -> bool {
        match &self.attempt {
            _ if !self.damaged.is_empty() => false,
            Some(attempt) if self.end == End::Lost => attempt.swept.is_some_and(|at| at + AFTERLIFE <= now),
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

    /// The number up to which all commits are known to be settled. It may lag behind, so one that does not parse, or is
    /// ahead of what is settled, is as good as none: it spares looking at what is older, and says nothing that the
    /// records do not.
    async fn head(&self) -> Result<u64> {
        Ok(self.written_head().await?.and_then(Result::ok).unwrap_or(0))
    }

    /// The head as it is written down, if it is.
    async fn written_head(&self) -> Result<Option<Result<u64>>> {
        let key = self.key("head.json");
        let Some(bytes) = self.state.get(&key).await? else { return Ok(None) };
        let head = match decode_head(&key, &bytes) {
            Ok(head) if head > 0 && self.state.get(&self.numbered("published", head)).await?.is_none() => {
                Err(Error::unexpected("the commit that the head names is not settled").with("object", key))
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
        self.state.put(&self.key("head.json"), codec::to_json(&head)?).await?;
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

    /// The commits that are not settled, oldest first. There is more than one only if their runs were killed and never
    /// followed by another.
    ///
    /// # Errors
    /// Those of the store.
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

    /// The error of a commit whose record cannot be read, with what to do about it: it keeps every run of the scope from its
    /// start.
    pub fn blocked_by(&self, sequence: u64, error: Error) -> Error {
        let error = error.with("job", &self.job).with("scope", &self.scope).with("commit", sequence);
        match error.detail::<NewerFormat>() {
            Some(_) => error,
            None => error.hint(format!(
                "restore it as it was written, from a version or a copy of the state location; if there is none, give the \
                 commit up with `{}`",
                self.abandon_command(sequence)
            )),
        }
    }

    /// The command that abandons a commit, for hints.
    pub fn abandon_command(&self, sequence: u64) -> String {
        format!("hardtack recover --job {} --scope {} --abandon {sequence}", self.job, self.scope)
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
        let Some(bookmarks) = self.bookmarks(newest).await? else { return Ok(Begun::Unpublished) };
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

    /// How far sources have been read after the commit of this number and all before it: what the newest of them says that
    /// was published. The rows of an abandoned commit are in no sink, so its sources have to be read again from where they
    /// were. None if a commit is not settled.
    async fn bookmarks(&self, newest: u64) -> Result<Option<BTreeMap<String, serde_json::Value>>> {
        for sequence in (1..=newest).rev() {
            match self.settlement(sequence).await? {
                None => return Ok(None),
                Some(Settlement::Abandoned(_)) => {}
                Some(Settlement::Published { .. }) => {
                    let commit = self.get(sequence).await?.ok_or_else(|| self.gone(sequence))?;
                    return Ok(Some(commit.bookmarks));
                }
            }
        }
        Ok(Some(BTreeMap::new()))
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
            .hint("restore it from a version or a copy of the state location")
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

    /// Settles a commit as published: all its actions have been executed. Returns how it is settled, for somebody may have
    /// abandoned it meanwhile.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mark_published(&self, sequence: u64, by: &RunId) -> Result<Settlement> {
        fault::hit("state.done.before")?;
        let settlement = self.settle(sequence, Settlement::Published { by: by.clone() }).await?;
        fault::hit("state.done.after")?;
        self.advance_head(sequence).await?;
        Ok(settlement)
    }

    /// Settles a commit as abandoned: what is not published of it never will be, and the next run goes on from the commit
    /// before it. What it has staged is left to whoever sweeps. Returns how it is settled, for it may have been published
    /// meanwhile.
    ///
    /// # Errors
    /// [`NotFound`](hardtack_core::ErrorKind::NotFound) if there is no such commit; [`Usage`](hardtack_core::ErrorKind::Usage)
    /// if a newer version has written it; those of the store.
    pub async fn abandon(&self, sequence: u64, abandonment: &Abandonment) -> Result<Settlement> {
        self.abandonable(sequence).await?;
        fault::hit("state.abandon.before")?;
        let settlement = self.settle(sequence, Settlement::Abandoned(abandonment.clone())).await?;
        fault::hit("state.abandon.after")?;
        self.advance_head(sequence).await?;
        Ok(settlement)
    }

    /// The commit of this number, if it can be abandoned; none if its record is damaged, for then nobody will ever publish
    /// what it says.
    ///
    /// # Errors
    /// Those of [`Ledger::abandon`]; [`Usage`](hardtack_core::ErrorKind::Usage) if it is published.
    pub async fn abandonable(&self, sequence: u64) -> Result<Option<CommitRecord>> {
        let commit = match self.get(sequence).await {
            // A number without a commit must not be settled: a run may yet take it.
            Ok(None) => {
                let message = format!("there is no commit {sequence} of this job and scope");
                return Err(Error::not_found(message).with("job", &self.job).with("scope", &self.scope));
            }
            Ok(commit) => commit,
            Err(e) if codec::is_damaged(&e) => None,
            Err(e) => return Err(e),
        };
        match self.settlement(sequence).await? {
            Some(Settlement::Published { .. }) => Err(self.is_published_already(sequence)),
            Some(Settlement::Abandoned(_)) | None => Ok(commit),
        }
    }

    /// The error of whoever wants to abandon a commit too late.
    pub fn is_published_already(&self, sequence: u64) -> Error {
        Error::usage(format!("commit {sequence} is published, so there is nothing to abandon"))
            .with("job", &self.job)
            .with("scope", &self.scope)
    }

    /// Settles a commit unless it is settled already; returns how it is. Creating the record decides between those who
    /// publish and those who abandon.
    async fn settle(&self, sequence: u64, as_wanted: Settlement) -> Result<Settlement> {
        if self.state.create(&self.numbered("published", sequence), as_wanted.encode()?).await? {
            return Ok(as_wanted);
        }
        Ok(self.settlement(sequence).await?.unwrap_or(as_wanted))
    }

    /// The head says that all commits up to it are settled, so it moves step by step.
    async fn advance_head(&self, sequence: u64) -> Result<()> {
        if sequence == 1 || self.is_settled(sequence - 1).await? {
            self.state.put(&self.key("head.json"), codec::to_json(&sequence)?).await?;
        }
        Ok(())
    }

    /// How a commit is settled, if it is.
    ///
    /// # Errors
    /// Those of the store; [`Unexpected`](hardtack_core::ErrorKind::Unexpected) for a record that is damaged.
    pub async fn settlement(&self, sequence: u64) -> Result<Option<Settlement>> {
        let key = self.numbered("published", sequence);
        match self.state.get(&key).await? {
            Some(bytes) => Settlement::decode(&bytes).map(Some).map_err(|e| e.with("object", key)),
            // The head has passed it; whoever has cleared the folder by hand has kept the newest.
            None if self.head().await? >= sequence => {
                Ok(self.get(sequence).await?.map(|commit| Settlement::Published { by: commit.run.id }))
            }
            None => Ok(None),
        }
    }

    /// Who has abandoned a commit, if anybody has.
    ///
    /// # Errors
    /// Those of [`Ledger::settlement`].
    pub async fn abandonment(&self, sequence: u64) -> Result<Option<Abandonment>> {
        Ok(match self.settlement(sequence).await? {
            Some(Settlement::Abandoned(abandonment)) => Some(abandonment),
            Some(Settlement::Published { .. }) | None => None,
        })
    }

    /// Whether a commit is settled: published to its end, or abandoned.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_settled(&self, sequence: u64) -> Result<bool> {
        Ok(self.state.get(&self.numbered("published", sequence)).await?.is_some() || self.head().await? >= sequence)
    }

    /// The attempts that nothing can come of any more: those that can never commit, because another run has taken their
    /// number, and those whose commits are settled. One that does not parse is none of them, for it does not say what it
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

    /// How a run has ended that claims this number, if nothing can come of it any more.
    async fn end_of(&self, run: &RunId, claims: u64) -> Result<Option<End>> {
        match self.get(claims).await {
            Ok(None) => Ok(None),
            Ok(Some(taken)) if taken.run.id != *run => Ok(Some(End::Lost)),
            Ok(Some(taken)) => Ok(match self.settlement(claims).await? {
                None => None,
                Some(Settlement::Published { .. }) => Some(End::Published(taken)),
                Some(Settlement::Abandoned(by)) => Some(End::Abandoned(by)),
            }),
            // Whoever has taken the number, nobody publishes anything of it any more.
            Err(e) if codec::is_damaged(&e) => Ok(self.abandonment(claims).await?.map(End::Abandoned)),
            // Whoever can read the commit may yet publish it.
            Err(e) if e.detail::<NewerFormat>().is_some() => Ok(None),
            Err(e) => Err(e),
        }
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

    /// How a run has ended that has a commit, whichever number that has; none if it has no commit, or one that is not
    /// settled. All commits are read: this is for what hardly ever happens.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn end_of_run(&self, run: &RunId) -> Result<Option<End>> {
        match self.commits().await?.into_iter().rev().find(|commit| commit.run.id == *run) {
            Some(commit) => self.end_of(run, commit.sequence).await,
            None => Ok(None),
        }
    }

    async fn journal_keys(&self, run: &RunId) -> Result<Vec<String>> {
        self.state.list(&self.key(&format!("attempts/{run}")), None).await
    }

    /// What a run has noted, and the entries that do not parse.
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
    /// Those of the store.
    pub async fn put_run(&self, record: &RunRecord) -> Result<()> {
        self.state.put(&RunRecord::key(&record.run.job, &record.run.id), record.encode()?).await
    }

    /// The record of a run of this job.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get_run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let key = RunRecord::key(&self.job, run);
        self.state.get(&key).await?.map(|bytes| RunRecord::decode(&key, &bytes)).transpose()
    }

    /// The run records of a job, oldest first. Those that do not parse are named in the log.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn runs(state: &Arc<dyn StateStore>, job: &str) -> Result<Vec<RunRecord>> {
        let mut records = Vec::new();
        for key in state.list(&format!("{}/runs", name(job)), None).await? {
            match state.get(&key).await?.map(|bytes| RunRecord::decode(&key, &bytes)) {
                Some(Ok(record)) => records.push(record),
                Some(Err(e)) => tracing::warn!("a run record is left out: {}", e.chain()),
                None => {}
            }
        }
        records.sort_by_key(|r| (r.run.started_at, r.run.id.clone()));
        Ok(records)
    }
}

impl End {
    /// Whether what the run has noted is left over, to be discarded.
    fn leaves(&self, noted: &DiscardAction) -> bool {
        match (self, noted) {
            (Self::Lost, _) => true,
            // Hidden files that were published are hidden no more, and uploads are none.
            (_, DiscardAction::StagedFiles { .. } | DiscardAction::Uploads { .. }) => true,
            (Self::Abandoned(_), DiscardAction::Upload { .. }) => true,
            (Self::Published(commit), DiscardAction::Upload { upload_id, .. }) => {
                !commit.publish.values().flatten().any(
                    |action| matches!(action, PublishAction::CompleteUpload { upload_id: id, .. } if id == upload_id),
                )
            }
            // Some of the commit's actions have been executed. Only whoever put these there knows whether something points
            // to them.
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

/// The head is no more than a hint, so it has neither a format nor a seal.
pub(crate) fn decode_head(key: &str, bytes: &[u8]) -> Result<u64> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::unexpected("the head does not parse").with("object", key).because(e))
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
}
