//! Completes or discards the work of earlier runs.

use std::sync::Arc;
use std::time::Duration;

use hardtack_core::actions::{Check, DiscardAction, Phase, Places, PublishAction};
use hardtack_core::publish;
use hardtack_core::{Error, ErrorKind, JobContext, Result, RunId, fault};
use hardtack_state::{AFTERLIFE, CommitRecord, End, ErrorRecord, Finished, Ledger, RunRecord, RunStatus, Settlement};

/// The result of a recovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Runs whose commits were rolled forward: they are now published.
    pub published: Vec<RunId>,
    /// Runs whose leftovers were discarded: they can never commit.
    pub discarded: Vec<RunId>,
}

/// Options of a recovery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoverOptions {
    /// Continue instead of failing where a staged file is damaged, or is gone and its target is not what was committed.
    /// Missing data stays missing; each case is logged.
    pub skip_missing: bool,
}

/// Rolls forward the commits of a job and scope that are not fully published, and discards the leftovers of runs that
/// can never commit. Every run begins with this; it is idempotent.
///
/// # Errors
/// Errors of the stores; [`Unexpected`](ErrorKind::Unexpected) if a commit cannot be completed as recorded.
pub async fn recover(ctx: &JobContext, ledger: &Ledger, options: RecoverOptions) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    if ledger.mend_head().await? {
        tracing::warn!(job = ledger.job(), scope = ledger.scope(), "the head was wrong and has been rewritten");
    }
    for commit in ledger.pending().await? {
        let named = |e: Error| e.with("commit", commit.sequence).with("of run", &commit.run.id);
        match roll_forward(ctx, ledger, &commit, options, &|_| {}).await.map_err(named)? {
            Settlement::Published { .. } => {}
            // Abandoned just now; its staged files are swept below.
            Settlement::Abandoned(_) => continue,
        }
        tracing::info!(run = %commit.run.id, commit = commit.sequence, "rolled forward");
        let run = commit.run.id.clone();
        amend_record(ctx, ledger, &run, |record| settle(record, &End::Published(Box::new(commit)))).await;
        recovered.published.push(run);
    }
    recovered.discarded = sweep(ctx, ledger).await?;
    Ok(recovered)
}

/// Corrects the record of a run that could not do so itself. No decision depends on a record, so failures are only
/// logged.
async fn amend_record(ctx: &JobContext, ledger: &Ledger, run: &RunId, amend: impl FnOnce(&mut RunRecord)) {
    let amended = async {
        if let Some(before) = ledger.get_run(run).await? {
            let mut record = before.clone();
            amend(&mut record);
            if record != before {
                record.finished_at = Some(ctx.now());
                ledger.put_run(&record).await?;
            }
        }
        Ok::<_, Error>(())
    };
    if let Err(e) = amended.await {
        tracing::warn!(%run, "the run record could not be corrected: {}", e.chain());
    }
}

/// Discards the leftovers of runs that can never commit, and forgets attempts that have been published. Leftovers that
/// cannot be discarded now are logged and stay on record; they do not block other runs. Returns the runs that can never
/// commit and have not been swept before.
pub(crate) async fn sweep(ctx: &JobContext, ledger: &Ledger) -> Result<Vec<RunId>> {
    let mut discarded = Vec::new();
    for finished in ledger.finished().await? {
        let run = &finished.run;
        match sweep_one(ctx, ledger, &finished).await {
            Ok(()) if finished.end == End::Lost && finished.is_new() => {
                tracing::info!(%run, "discarded its staged files");
                discarded.push(run.clone());
            }
            Ok(()) => {}
            Err(e) => tracing::warn!(%run, "its staged files could not be discarded yet: {}", e.chain()),
        }
    }
    sweep_half_written(ctx, ledger).await?;
    Ok(discarded)
}

async fn sweep_one(ctx: &JobContext, ledger: &Ledger, finished: &Finished) -> Result<()> {
    let (run, now) = (&finished.run, ctx.now());
    discard(ctx, ledger, finished.leftovers.clone()).await?;
    for entry in &finished.damaged {
        tracing::warn!(%run, entry, "an entry of its journal does not parse; `hardtack fsck` finds its leftovers");
    }
    amend_record(ctx, ledger, run, |record| {
        // If the run has recorded that it failed to publish, keep that: it was abandoned later.
        if record.status == RunStatus::Running || matches!(finished.end, End::Abandoned(_)) {
            settle(record, &finished.end);
        }
    })
    .await;
    match &finished.attempt {
        _ if finished.has_ended(now) => forget(ledger, run).await,
        Some(attempt) if finished.is_new() => ledger.mark_swept(attempt, now).await,
        _ => Ok(()),
    }
}

/// Forgets an attempt, unless the run's record could not be completed (the disk is full, for example): then the attempt
/// tells a later recovery to do so.
async fn forget(ledger: &Ledger, run: &RunId) -> Result<()> {
    match ledger.get_run(run).await {
        Ok(Some(record)) if record.status == RunStatus::Running => {
            Err(Error::unavailable("the run's record says that it is running, and could not be completed"))
        }
        _ => ledger.forget(run).await,
    }
}

/// Completes the record of a run that could not do so itself.
pub(crate) fn settle(record: &mut RunRecord, end: &End) {
    match end {
        End::Lost => record.status = RunStatus::Killed,
        End::Published(commit) => {
            record.status = RunStatus::Succeeded;
            record.commit = Some(commit.sequence);
            record.error = None;
            record.bookmarks_to.clone_from(&commit.bookmarks);
            record.change.clone_from(&commit.change);
        }
        End::Abandoned(abandonment) => {
            record.status = RunStatus::Abandoned;
            // The reason why it could not be published is more useful than the fact that it was abandoned.
            record.error.get_or_insert_with(|| ErrorRecord::from(&abandonment.error()));
        }
    }
}

/// Removes half-written files of killed runs from the state location, unless a paused run may still be writing.
async fn sweep_half_written(ctx: &JobContext, ledger: &Ledger) -> Result<()> {
    let before = ctx.now() - AFTERLIFE;
    if !ledger.half_written(before, true).await?.is_empty() && !ledger.is_contested(&ctx.run().id).await? {
        for key in ledger.half_written(before, false).await? {
            tracing::info!(key, "removed half-written files of a killed run");
        }
    }
    Ok(())
}

/// Discards the leftovers of one run. An upload of which only the object is known is taken to be the run's own, unless
/// another run of the job and scope can be uploading the same object; such a run is on record before its upload can be
/// found. (An upload that has parts is never found this way: its owner knows its id. So no committed upload is ever
/// aborted, whoever committed it.)
async fn discard(ctx: &JobContext, ledger: &Ledger, leftovers: Vec<DiscardAction>) -> Result<()> {
    let (shared, own): (Vec<_>, Vec<_>) =
        leftovers.into_iter().partition(|action| matches!(action, DiscardAction::Uploads { mark: None, .. }));
    // Independently of the others.
    let discarded = publish::discard(ctx.stores(), ctx.publishers(), &own).await;
    let mut found = Vec::new();
    for action in &shared {
        if let DiscardAction::Uploads { location, mark } = action {
            found.extend(ctx.stores().open(location)?.0.staging.find_uploads(location, mark.as_deref()).await?);
        }
    }
    if found.is_empty() || !ledger.is_contested(&ctx.run().id).await? {
        publish::discard(ctx.stores(), ctx.publishers(), &found).await?;
        found.clear();
    }
    discarded?;
    match found.first() {
        Some(DiscardAction::Upload { location, .. }) => {
            let why =
                "an upload of unknown origin may belong to another run of the job, which is running or was killed";
            Err(Error::unavailable(why).with("location", location).hint("run the job again when that run has ended"))
        }
        _ => Ok(()),
    }
}

/// Executes the actions of a commit and marks it published. Everything is verified before anything is published.
/// Returns the settlement of the commit, which may have been abandoned meanwhile.
pub(crate) async fn roll_forward(
    ctx: &JobContext,
    ledger: &Ledger,
    commit: &CommitRecord,
    options: RecoverOptions,
    progress: &(dyn Fn(&PublishAction) + Send + Sync),
) -> Result<Settlement> {
    check_places(commit)?;
    let outcome = async {
        if options.skip_missing {
            return publish_what_can_be(ctx, commit).await;
        }
        verify(ctx, commit).await?;
        publish::publish(ctx.stores(), ctx.publishers(), &commit.actions(), progress).await
    };
    if let Err(error) = outcome.await {
        // Another process may be rolling forward the same commit; a later commit may even have superseded its files
        // since. Once it is settled, the missing files had been there, or are not needed.
        return ledger.settlement(commit.sequence).await?.ok_or(error);
    }
    ledger.mark_published(commit.sequence, &ctx.run().id).await
}

/// Checks that a commit touches nothing outside the places that the run's sinks have declared. (A record of an earlier
/// version declares none, and is trusted.)
pub(crate) fn check_places(commit: &CommitRecord) -> Result<()> {
    let Some(places) = &commit.places else { return Ok(()) };
    let places = Places::new(places);
    for (sink, actions) in &commit.publish {
        for action in actions {
            places.check(action).map_err(|e| {
                Error::unexpected("a commit record has an action that its run cannot have committed")
                    .with("job", &commit.run.job)
                    .with("sink", sink)
                    .hint("find out who has changed the record; none of it is executed")
                    .because(e)
            })?;
        }
    }
    Ok(())
}

/// Verifies that all files that a commit publishes are as they were staged.
pub(crate) async fn verify(ctx: &JobContext, commit: &CommitRecord) -> Result<()> {
    for (sink, actions) in &commit.publish {
        let verified = publish::verify(ctx.stores(), ctx.publishers(), actions, closeness(ctx, commit)).await;
        verified.map_err(|e| e.with("job", &commit.run.job).with("sink", sink))?;
    }
    Ok(())
}

/// A run knows what it has just staged. A process that finishes another run's commit does not know what has happened
/// since.
fn closeness(ctx: &JobContext, commit: &CommitRecord) -> Check {
    if commit.run == *ctx.run() { Check::Size } else { Check::Content }
}

/// A sink that has lost a file keeps the files that it would have superseded: nothing is deleted in favour of a file
/// that is missing.
async fn publish_what_can_be(ctx: &JobContext, commit: &CommitRecord) -> Result<()> {
    for (sink, actions) in &commit.publish {
        let mut actions = actions.clone();
        actions.sort_by_key(PublishAction::phase);
        let mut lost = false;
        for action in actions {
            if lost && action.phase() > Phase::Appear {
                tracing::warn!(sink, %action, "skipped, because a file of this sink is lost");
                continue;
            }
            match publish_one(ctx, &action).await {
                Err(e) if e.kind() == ErrorKind::Lost => {
                    tracing::warn!(sink, %action, "skipped: {}", e.chain());
                    lost = true;
                }
                other => other?,
            }
        }
    }
    Ok(())
}

/// Publishes a file if it is intact.
async fn publish_one(ctx: &JobContext, action: &PublishAction) -> Result<()> {
    let action = std::slice::from_ref(action);
    publish::verify(ctx.stores(), ctx.publishers(), action, Check::Content).await?;
    publish::publish(ctx.stores(), ctx.publishers(), action, &|_| {}).await
}

/// How long an ending run waits for files that are being created. A container has 30 seconds in total to stop.
pub(crate) const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Discards everything that this run has staged but what is kept, and forgets its attempt, after it failed.
pub(crate) async fn discard_attempt(
    ctx: &JobContext,
    ledger: &Ledger,
    journal: &Arc<hardtack_state::LedgerJournal>,
    kept: &[DiscardAction],
) {
    let cleaned = async {
        let settled = ctx.end_staging(SETTLE_TIMEOUT).await;
        let mut noted = journal.noted().await;
        noted.retain(|action| !kept.contains(action));
        discard(ctx, ledger, noted).await?;
        settled?;
        forget(ledger, &ctx.run().id).await
    };
    if let Err(e) = cleaned.await {
        // The attempt stays on record, so a later run will discard the rest.
        tracing::warn!(
            "the files that this run staged could not be discarded now; a later run will discard them: {}",
            e.chain()
        );
    }
}

/// Cleans up after a commit is published: forgets the attempt, and those that it has defeated.
pub(crate) async fn clean_up(ctx: &JobContext, ledger: &Ledger) {
    let cleaned = async {
        fault::hit("run.cleanup.before")?;
        sweep(ctx, ledger).await?;
        fault::hit("run.cleanup.after")
    };
    if let Err(e) = cleaned.await {
        tracing::warn!(
            "the run is published, but its attempt could not be removed now; a later run will remove it: {}",
            e.chain()
        );
    }
}
