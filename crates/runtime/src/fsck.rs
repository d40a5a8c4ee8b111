//! Finds everything that is damaged, orphaned or left behind in state, lake and catalog.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use hardtack_catalog::CatalogOf;
use hardtack_core::actions::{DiscardAction, Places, PublishAction};
use hardtack_core::format::NewerFormat;
use hardtack_core::publish::discard;
use hardtack_core::{Error, JobContext, Location, Result, RunId};
use hardtack_state::{
    AFTERLIFE, BrokenObject, CommitRecord, End, Finished, Ledger, ObjectKind, RunRecord, RunStatus, Settlement,
    StateStore, broken_objects,
};
use hardtack_tables::{Table, TableProblemKind, VacuumOptions, check_tables, vacuum};
use object_store::ObjectStoreExt;

use crate::recover::{RecoverOptions, check_places, recover, settle, verify};

/// A finding of [`fsck`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: FindingKind,
    /// The job and the scope as `job (scope)`, or the table, if it belongs to one.
    pub of: Option<String>,
    /// The place: an object of the state location, a file, or a run.
    pub place: String,
    /// The problem, in one line.
    pub what: String,
    /// The remedy.
    pub remedy: Remedy,
}

/// The kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// It has changed since it was written.
    Damaged,
    /// Nothing refers to it.
    Orphaned,
    /// A killed run has left it unfinished; the next run may finish or remove it.
    LeftBehind,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "damaged",
            Self::Orphaned => "orphaned",
            Self::LeftBehind => "left behind",
        })
    }
}

/// The remedy for a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// A repair fixes it without loss.
    Repair,
    /// It has been repaired.
    Repaired,
    /// No fix without loss is known, so a person has to decide.
    ByHand(String),
}

/// Checks the state location, the places of the lake that its jobs write to, and the catalog. With `repair`, everything
/// that can be repaired without loss is: commits are published, leftovers discarded, records completed. Runs may be
/// active meanwhile; their work in progress is not a finding.
///
/// # Errors
/// Errors of the stores and the catalog. A damaged object is a finding.
pub async fn fsck(ctx: &JobContext, state: &Arc<dyn StateStore>, repair: bool) -> Result<Vec<Finding>> {
    let mut fsck = Fsck { ctx, state, repair, ledgers: Ledger::all(state).await?, findings: Vec::new() };
    // The lake is listed before the records are read: a run is on record before it stages files. If it ends in between,
    // it is no longer on record, but its staged files are gone by then (see `is_there`).
    let lake = fsck.lake().await?;
    fsck.objects().await?;
    for ledger in fsck.ledgers.clone() {
        fsck.ledger(&ledger).await?;
    }
    fsck.records().await?;
    fsck.orphans(lake).await?;
    fsck.catalog().await?;
    let mut findings = fsck.findings;
    findings.sort_by(|a, b| (a.kind, &a.of, &a.place).cmp(&(b.kind, &b.of, &b.place)));
    Ok(findings)
}

struct Fsck<'a> {
    ctx: &'a JobContext,
    state: &'a Arc<dyn StateStore>,
    repair: bool,
    ledgers: Vec<Ledger>,
    findings: Vec<Finding>,
}

/// A file in the lake that waits to be published or discarded, if its name identifies its run.
struct Waiting {
    location: Location,
    /// The run that has staged it; for an upload only the name tells, see [`Fsck::orphans`].
    version: Option<String>,
    discard: DiscardAction,
}

/// Runs by the part of file names that identifies them, and whether somebody is responsible for their staged files: the
/// run itself, or the next sweep.
type Owners = HashMap<String, bool>;

impl Fsck<'_> {
    fn found(&mut self, kind: FindingKind, of: Option<String>, place: impl fmt::Display, what: impl Into<String>) {
        let remedy = if self.repair { Remedy::Repaired } else { Remedy::Repair };
        self.findings.push(Finding { kind, of, place: place.to_string(), what: what.into(), remedy });
    }

    fn by_hand(&mut self, of: Option<String>, place: impl fmt::Display, error: &Error, hint: &str) {
        let hint = error.get_hint().unwrap_or(hint).to_owned();
        let (place, what, remedy) =
            (place.to_string(), error.chain_without(&["object", "job", "scope", "commit"]), Remedy::ByHand(hint));
        self.findings.push(Finding { kind: FindingKind::Damaged, of, place, what, remedy });
    }

    // --- the state location ----------------------------------------------------------------------------------------

    async fn objects(&mut self) -> Result<()> {
        for broken in broken_objects(self.state).await? {
            self.object(broken).await?;
        }
        Ok(())
    }

    async fn object(&mut self, broken: BrokenObject) -> Result<()> {
        let BrokenObject { key, kind, job, scope, error } = broken;
        let ledger =
            self.ledgers.iter().find(|l| Some(l.job()) == job.as_deref() && Some(l.scope()) == scope.as_deref());
        let (ledger, of) = (ledger.cloned(), named(job.as_deref(), scope.as_deref()));
        match (kind, ledger) {
            // A newer version has written it: it is not damaged, and is not repaired.
            _ if error.detail::<NewerFormat>().is_some() => self.by_hand(of, key, &error, "upgrade hardtack"),
            (ObjectKind::Head, Some(ledger)) => {
                self.found(FindingKind::Damaged, of, key, "the head does not parse; the records say what it was");
                if self.repair {
                    ledger.mend_head().await?;
                }
            }
            (ObjectKind::Attempt(run), Some(ledger)) => match ledger.get_run(&run).await {
                Ok(Some(record)) => {
                    let what = "the attempt does not say what it claims; it cannot be more than the next number";
                    self.found(FindingKind::Damaged, of, key, what);
                    if self.repair {
                        ledger.mend_attempt(&record.run).await?;
                    }
                }
                _ => self.by_hand(of, key, &error, "if the run has ended, remove the object"),
            },
            (ObjectKind::Journal(run), Some(ledger)) if is_finished(&ledger, &run).await? => {
                let what =
                    "an entry of a journal does not parse; the run has ended, and its leftovers are found by name";
                self.found(FindingKind::Damaged, of, &key, what);
                if self.repair {
                    self.state.delete(&key).await?;
                }
            }
            (ObjectKind::Journal(_), _) => {
                self.by_hand(of, key, &error, "run the job; when it has committed, it can be repaired");
            }
            (ObjectKind::Run(_), _) => {
                self.by_hand(of, key, &error, "remove the object if the run has ended; only its counts are lost");
            }
            (ObjectKind::Backfill, _) => {
                self.by_hand(
                    of,
                    key,
                    &error,
                    "remove the object; `hardtack backfill --resume` then runs its window again",
                );
            }
            (ObjectKind::Pipeline, _) => {
                self.by_hand(of, key, &error, "remove the object; `hardtack run` then starts the pipeline over");
            }
            (ObjectKind::Foreign, _) => self.by_hand(of, key, &error, "remove it"),
            (ObjectKind::Commit(sequence), Some(ledger)) => {
                // Whatever its content, it is abandoned.
                if !matches!(ledger.abandonment(sequence).await, Ok(Some(_))) {
                    self.by_hand(of, key, &ledger.blocked_by(sequence, error), "restore it");
                }
            }
            _ => self.by_hand(of, key, &error, "restore it as it was written, from a copy of the state location"),
        }
        Ok(())
    }

    async fn ledger(&mut self, ledger: &Ledger) -> Result<()> {
        let of = named(Some(ledger.job()), Some(ledger.scope()));
        if let Some(key) = ledger.head_ahead().await? {
            let what = "the head names a commit that is not settled; the records say what it was";
            self.found(FindingKind::Damaged, of.clone(), key, what);
            if self.repair {
                ledger.mend_head().await?;
            }
        }
        let pending = match ledger.pending().await {
            Ok(pending) => pending,
            // The object is a finding of its own.
            Err(e) if e.get("object").is_some() => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut is_whole = true;
        for commit in &pending {
            let place = format!("commit {} of run {}", commit.sequence, commit.run.id);
            let checked = async {
                check_places(commit)?;
                verify(self.ctx, commit).await
            };
            match checked.await {
                Ok(()) if is_whole => {
                    self.found(FindingKind::LeftBehind, of.clone(), place, "it is not fully published");
                }
                Ok(()) => {}
                Err(_) if ledger.is_settled(commit.sequence).await? => {}
                Err(e) => {
                    is_whole = false;
                    let hint =
                        format!("find out what has happened to it; or {}", ledger.abandon_command(commit.sequence));
                    self.by_hand(of.clone(), place, &e, &hint);
                }
            }
        }
        for finished in ledger.finished().await? {
            if finished.damaged.is_empty() && (finished.is_new() || finished.has_ended(self.ctx.now())) {
                let what = match finished.end {
                    End::Published(_) => "it is published, and still on record",
                    End::Abandoned(_) => "its commit was abandoned, and what it staged has not been discarded",
                    End::Lost => "it can never commit, and what it staged has not been discarded",
                };
                self.found(FindingKind::LeftBehind, of.clone(), format!("run {}", finished.run), what);
            }
        }
        let half_written = ledger.half_written(self.ctx.now() - AFTERLIFE, !self.repair).await?;
        for key in half_written {
            self.found(FindingKind::LeftBehind, of.clone(), key, "a killed run has left it half written");
        }
        self.published_files(ledger, of.as_deref()).await?;
        if self.repair && is_whole {
            recover(self.ctx, ledger, RecoverOptions::default()).await?;
        }
        Ok(())
    }

    /// Checks the files of the newest commit whose names contain the run's id: nobody else modifies those.
    async fn published_files(&mut self, ledger: &Ledger, of: Option<&str>) -> Result<()> {
        let Ok(Some(commit)) = ledger.get(ledger.newest().await?).await else { return Ok(()) };
        // The files of an abandoned or damaged commit need not exist.
        if !matches!(ledger.settlement(commit.sequence).await, Ok(Some(Settlement::Published { .. }))) {
            return Ok(());
        }
        for action in commit.actions() {
            let (PublishAction::RenameFile { to: file, bytes, .. }
            | PublishAction::CompleteUpload { location: file, bytes, .. }) = &action
            else {
                continue;
            };
            let (store, path) = self.ctx.stores().open(file)?;
            if !path.filename().is_some_and(|name| name.contains(&commit.run.version())) {
                continue;
            }
            let meta = match store.objects.head(&path).await {
                Ok(meta) => meta,
                // It was superseded.
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(e) => return Err(Error::from(e).with("file", file)),
            };
            if meta.size != *bytes {
                let what = format!("it has {} bytes, but {bytes} were published", meta.size);
                let hint = "restore the file, or rerun the job to write it again";
                self.by_hand(of.map(ToOwned::to_owned), file, &Error::unexpected(what), hint);
            }
        }
        Ok(())
    }

    /// Finds run records with status `running` whose attempts are no longer on record.
    async fn records(&mut self) -> Result<()> {
        for (job, records) in self.run_records().await? {
            for record in records.into_iter().filter(|record| record.status == RunStatus::Running) {
                let ledger = Ledger::new(Arc::clone(self.state), &job, &record.run.scope);
                if is_accounted_for(&ledger, &record.run.id).await? {
                    continue;
                }
                let of = named(Some(&job), Some(&record.run.scope));
                let place = format!("run {}", record.run.id);
                self.found(FindingKind::LeftBehind, of, place, "its record says that it is running, but it is not");
                if self.repair {
                    self.close(&ledger, record).await?;
                }
            }
        }
        Ok(())
    }

    /// The records of all runs, by job.
    async fn run_records(&self) -> Result<BTreeMap<String, Vec<RunRecord>>> {
        let mut records = BTreeMap::new();
        for ledger in &self.ledgers {
            if !records.contains_key(ledger.job()) {
                records.insert(ledger.job().to_owned(), Ledger::runs(self.state, ledger.job()).await?);
            }
        }
        Ok(records)
    }

    async fn close(&self, ledger: &Ledger, mut record: RunRecord) -> Result<()> {
        let end = ledger.end_of_run(&record.run.id).await?.unwrap_or(End::Lost);
        settle(&mut record, &end);
        record.finished_at = Some(self.ctx.now());
        ledger.put_run(&record).await
    }

    // --- the lake --------------------------------------------------------------------------------------------------

    /// The places that the jobs of this state have declared.
    async fn places(&self) -> Result<Vec<Location>> {
        let mut declared = BTreeSet::new();
        for ledger in &self.ledgers {
            declared.extend(ledger.commits().await?.into_iter().flat_map(places_of));
        }
        Ok(Places::new(&declared).outermost())
    }

    /// The files in the lake that wait to be published or discarded.
    async fn lake(&mut self) -> Result<Vec<Waiting>> {
        let mut waiting = Vec::new();
        let before = self.ctx.now() - AFTERLIFE;
        for place in self.places().await? {
            let Ok((store, path)) = self.ctx.stores().open(&place) else { continue };
            for file in store.staging.staged_below(&path).await? {
                let (location, version) = (file.location, Some(file.version));
                waiting.push(Waiting { location, version, discard: file.discard });
            }
            for discard in store.staging.find_uploads(&place, Some("")).await? {
                if let DiscardAction::Upload { location, .. } = &discard {
                    waiting.push(Waiting { location: location.clone(), version: None, discard });
                }
            }
            for file in store.staging.sweep_half_written(&path, before, !self.repair).await? {
                self.found(FindingKind::LeftBehind, None, file, "a killed run has left it half written");
            }
        }
        Ok(waiting)
    }

    /// The runs of this state.
    async fn owners(&self) -> Result<Owners> {
        let mut owners = Owners::new();
        let records = self.run_records().await?;
        for ledger in &self.ledgers {
            // Runs that have not been swept are findings of their own, which include their leftovers.
            let finished = ledger.finished().await?.into_iter().filter(Finished::is_new).map(|finished| finished.run);
            let looked_after: HashSet<RunId> = ledger.unfinished().await?.into_iter().chain(finished).collect();
            let of_scope = records[ledger.job()].iter().map(|record| &record.run);
            let of_scope = of_scope.filter(|run| run.scope == ledger.scope());
            owners.extend(of_scope.map(|run| (run.version(), looked_after.contains(&run.id))));
            // Their records may be damaged.
            let attempts = ledger.attempts().await?.into_iter().map(|attempt| attempt.run);
            owners.extend(attempts.map(|run| (run.version(), looked_after.contains(&run.id))));
            let pending = ledger.pending().await.unwrap_or_default();
            owners.extend(pending.into_iter().map(|commit| (commit.run.version(), true)));
        }
        Ok(owners)
    }

    /// Finds files that can never be published.
    async fn orphans(&mut self, lake: Vec<Waiting>) -> Result<()> {
        let owners = self.owners().await?;
        for Waiting { location, version, discard: action } in lake {
            let owner = match &version {
                Some(version) => owners.get_key_value(version),
                None => owners.iter().find(|(version, _)| name(&location).contains(version.as_str())),
            };
            match (owner, version) {
                (Some((_, true)), _) | (None, None) => {}
                (Some((version, false)), _) if self.is_there(&location, &action).await? => {
                    let what = format!("run {version} has staged it, and can never publish it");
                    self.found(FindingKind::Orphaned, None, &location, what);
                    if self.repair {
                        discard(self.ctx.stores(), self.ctx.publishers(), &[action]).await?;
                    }
                }
                (None, Some(version)) => {
                    let what = format!("run {version}, which is not on record at this state location, has staged it");
                    let hint = "remove it, unless another state location knows the run";
                    let (place, remedy) = (location.to_string(), Remedy::ByHand(hint.to_owned()));
                    self.findings.push(Finding { kind: FindingKind::Orphaned, of: None, place, what, remedy });
                }
                (Some(_), _) => {}
            }
        }
        Ok(())
    }

    /// Whether it still exists: it may have been discarded or published meanwhile, by a run or by this repair.
    async fn is_there(&self, location: &Location, action: &DiscardAction) -> Result<bool> {
        match action {
            DiscardAction::StagedFiles { .. } => self.ctx.stores().exists(location).await,
            _ => Ok(true),
        }
    }

    // --- the catalog -----------------------------------------------------------------------------------------------

    async fn catalog(&mut self) -> Result<()> {
        let mut unfinished = HashSet::new();
        for ledger in &self.ledgers {
            unfinished.extend(ledger.attempts().await?.iter().map(|attempt| attempt.run.version()));
        }
        let handle = self.ctx.catalog_handle()?;
        let problems = match check_tables(self.ctx, &unfinished).await {
            Ok(problems) => problems,
            Err(e) => {
                let hint = "restore the catalog, or recreate it with `hardtack crawl`";
                self.by_hand(None, format!("the catalog `{}`", handle.identity()), &e, hint);
                return Ok(());
            }
        };
        for problem in problems {
            let of = Some(problem.table.clone());
            match problem.kind {
                TableProblemKind::Dangling { values, location } => {
                    let what = match values.is_empty() {
                        true => "the catalog has a row count here, but there is no file".to_owned(),
                        false => format!(
                            "the catalog has a row count for the partition {} here, but there is no file",
                            values.join("/")
                        ),
                    };
                    let hint = "restore the files, or rerun the job to write them again";
                    self.by_hand(of, location, &Error::unexpected(what), hint);
                }
                TableProblemKind::Unreadable(e) => {
                    self.by_hand(of, "the catalog", &e, "find out what is wrong with the table")
                }
                TableProblemKind::LeftBehind(files) => {
                    let what = match files.len() {
                        1 => "a file that nothing refers to can be removed".to_owned(),
                        n => format!("{n} files that nothing refers to can be removed"),
                    };
                    self.found(FindingKind::LeftBehind, of, &files[0], what);
                    if let (true, Some((database, table))) = (self.repair, problem.table.split_once('.')) {
                        let options = VacuumOptions { unfinished: unfinished.clone(), ..VacuumOptions::default() };
                        vacuum(self.ctx, &Table::named(database, table), &options).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a run that seemed to be running is on record, or has just ended.
async fn is_accounted_for(ledger: &Ledger, run: &RunId) -> Result<bool> {
    let is_running = |record: RunRecord| record.status == RunStatus::Running;
    Ok(ledger.is_on_record(run).await? || !ledger.get_run(run).await?.is_some_and(is_running))
}

async fn is_finished(ledger: &Ledger, run: &RunId) -> Result<bool> {
    Ok(ledger.finished().await?.iter().any(|finished| finished.run == *run))
}

/// The places that a commit declares. Commits of earlier versions declare none, but the folders of their staged files
/// are known.
fn places_of(commit: CommitRecord) -> Vec<Location> {
    let folder = |action: &PublishAction| match action {
        PublishAction::RenameFile { from, .. } => from.as_str().rsplit_once('/').map(|(folder, _)| folder.into()),
        _ => None,
    };
    let staged = commit.actions();
    commit.places.unwrap_or_else(|| staged.iter().filter_map(folder).collect())
}

fn named(job: Option<&str>, scope: Option<&str>) -> Option<String> {
    Some(match (job?, scope) {
        (job, Some(scope)) => format!("{job} ({scope})"),
        (job, None) => job.to_owned(),
    })
}

/// The last segment of a location.
fn name(location: &Location) -> &str {
    location.as_str().rsplit('/').next().unwrap_or_default()
}
