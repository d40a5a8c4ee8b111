//! Finishing what earlier runs began.

use std::sync::Arc;
use std::time::Duration;

use hardtack_core::publish::{self, Check, DiscardAction, Phase, Places, PublishAction};
use hardtack_core::{Error, ErrorKind, JobContext, Result, RunId, fault};
use hardtack_state::{AFTERLIFE, CommitRecord, End, ErrorRecord, Finished, Ledger, RunRecord, RunStatus, Settlement};

/// What a recovery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Runs whose commits were rolled forward: they are published now.
    pub published: Vec<RunId>,
    /// Runs whose leftovers were discarded: they can never commit.
    pub discarded: Vec<RunId>,
}

/// How to recover.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoverOptions {
    /// Go on where a staged file is damaged, or gone and its target is not what was committed, instead of failing. What is
    /// missing stays missing; each case is logged.
    pub skip_missing: bool,
}

/// Rolls forward the commits of a job and scope that have not been published to the end, and discards what runs left that
/// can never commit. Every run begins with it; doing it again changes nothing.
///
/// # Errors
/// Those of the stores; [`Unexpected`](ErrorKind::Unexpected) if a commit cannot be completed as recorded.
pub async fn recover(ctx: &JobContext, ledger: &Ledger, options: RecoverOptions) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    if ledger.mend_head().await? {
        tracing::warn!(job = ledger.job(), scope = ledger.scope(), "the head could not be right; it was written anew");
    }
    for commit in ledger.pending().await? {
        let named = |e: Error| e.with("commit", commit.sequence).with("of run", &commit.run.id);
        match roll_forward(ctx, ledger, &commit, options, &|_| {}).await.map_err(named)? {
            Settlement::Published { .. } => {}
            // Just now; what it has staged is swept below.
            Settlement::Abandoned(_) => continue,
        }
        tracing::info!(run = %commit.run.id, commit = commit.sequence, "rolled forward");
        let run = commit.run.id.clone();
        amend_record(ctx, ledger, &run, |record| settle(record, &End::Published(commit))).await;
        recovered.published.push(run);
    }
    recovered.discarded = sweep(ctx, ledger).await?;
    Ok(recovered)
}

/// Corrects the record of a run that could not do so itself. A record decides nothing, so nothing fails because of it.
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

/// Discards what runs left that can never commit, and forgets attempts that have been published. What cannot be discarded
/// now is logged and stays on record; it keeps nobody from running. Returns the runs that can never commit and have not been
/// swept before.
pub(crate) async fn sweep(ctx: &JobContext, ledger: &Ledger) -> Result<Vec<RunId>> {
    let mut discarded = Vec::new();
    for finished in ledger.finished().await? {
        let run = &finished.run;
        match sweep_one(ctx, ledger, &finished).await {
            Ok(()) if finished.end == End::Lost && finished.is_new() => {
                tracing::info!(%run, "discarded what it had staged");
                discarded.push(run.clone());
            }
            Ok(()) => {}
            Err(e) => tracing::warn!(%run, "what it had staged could not be discarded yet: {}", e.chain()),
        }
    }
    sweep_half_written(ctx, ledger).await?;
    Ok(discarded)
}

async fn sweep_one(ctx: &JobContext, ledger: &Ledger, finished: &Finished) -> Result<()> {
    let (run, now) = (&finished.run, ctx.now());
    discard(ctx, ledger, finished.leftovers.clone()).await?;
    for entry in &finished.damaged {
        tracing::warn!(%run, entry, "an entry of its journal does not parse; `hardtack fsck` finds what it has left");
    }
    amend_record(ctx, ledger, run, |record| {
        // A run that failed to publish says so; that it was abandoned came later.
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

/// Forgets an attempt, unless the run's record could not be completed (the disk is full, say): then somebody who comes later
/// is told of it by the attempt.
async fn forget(ledger: &Ledger, run: &RunId) -> Result<()> {
    match ledger.get_run(run).await {
        Ok(Some(record)) if record.status == RunStatus::Running => {
            Err(Error::unavailable("the run's record says that it runs, and could not be completed"))
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
        }
        End::Abandoned(abandonment) => {
            record.status = RunStatus::Abandoned;
            // Why it could not be published is worth more than that it was abandoned.
            record.error.get_or_insert_with(|| ErrorRecord::from(&abandonment.error()));
        }
    }
}

/// Removes what killed runs have left half written at the state location, unless one that was paused may still be writing.
async fn sweep_half_written(ctx: &JobContext, ledger: &Ledger) -> Result<()> {
    let before = ctx.now() - AFTERLIFE;
    if !ledger.half_written(before, true).await?.is_empty() && !ledger.is_contested(&ctx.run().id).await? {
        for key in ledger.half_written(before, false).await? {
            tracing::info!(key, "removed what a killed run had half written");
        }
    }
    Ok(())
}

/// Discards what one run left. An upload of which only the object is known is taken for its own unless another run of the
/// job and scope can be uploading the same object; such a run is on record before its upload is there to be found. (What
/// has parts is never found: it belongs to somebody who knows it. So nothing that was committed is aborted, whoever did.)
async fn discard(ctx: &JobContext, ledger: &Ledger, leftovers: Vec<DiscardAction>) -> Result<()> {
    let (shared, own): (Vec<_>, Vec<_>) =
        leftovers.into_iter().partition(|action| matches!(action, DiscardAction::Uploads { mark: None, .. }));
    // Whatever becomes of the others.
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
            let why = "an upload that nobody knows may be that of another run of the job, which goes on or was killed";
            Err(Error::unavailable(why).with("location", location).hint("run the job again when that one has ended"))
        }
        _ => Ok(()),
    }
}

/// Executes the actions of a commit and marks it published. Before anything is published, all of it is checked. Returns how
/// the commit is settled: somebody may have abandoned it meanwhile.
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
        // Another process may be rolling forward the same commit; a later commit may even have superseded it since. Once
        // it is settled, what cannot be found any more was there, or is not wanted.
        return ledger.settlement(commit.sequence).await?.ok_or(error);
    }
    ledger.mark_published(commit.sequence, &ctx.run().id).await
}

/// Checks that a commit touches nothing outside of the places that the run's sinks have declared. (A record of an earlier
/// version does not say which those are, and is taken at its word.)
pub(crate) fn check_places(commit: &CommitRecord) -> Result<()> {
    let Some(places) = &commit.places else { return Ok(()) };
    let places = Places::new(places);
    for (sink, actions) in &commit.publish {
        for action in actions {
            places.check(action).map_err(|e| {
                Error::unexpected("a commit record asks for something that its run cannot have committed")
                    .with("job", &commit.run.job)
                    .with("sink", sink)
                    .hint("find out who has changed the record; nothing of it is executed")
                    .because(e)
            })?;
        }
    }
    Ok(())
}

/// Checks that everything that a commit publishes is as it was staged.
pub(crate) async fn verify(ctx: &JobContext, commit: &CommitRecord) -> Result<()> {
    for (sink, actions) in &commit.publish {
        let verified = publish::verify(ctx.stores(), ctx.publishers(), actions, closeness(ctx, commit)).await;
        verified.map_err(|e| e.with("job", &commit.run.job).with("sink", sink))?;
    }
    Ok(())
}

/// A run knows what it has just staged. Whoever finishes the run of another knows nothing of what happened since.
fn closeness(ctx: &JobContext, commit: &CommitRecord) -> Check {
    if commit.run == *ctx.run() { Check::Size } else { Check::Content }
}

/// A sink of which something is lost keeps what it would have superseded: nothing is deleted for the sake of a file that
/// did not come.
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

/// Publishes a file if it is whole.
async fn publish_one(ctx: &JobContext, action: &PublishAction) -> Result<()> {
    let action = std::slice::from_ref(action);
    publish::verify(ctx.stores(), ctx.publishers(), action, Check::Content).await?;
    publish::publish(ctx.stores(), ctx.publishers(), action, &|_| {}).await
}

/// How long a run that ends waits for files that are being begun. A container that is told to stop has 30 seconds in all.
pub(crate) const TO_SETTLE: Duration = Duration::from_secs(10);

/// Discards what this run has staged and forgets its attempt, after it failed.
pub(crate) async fn discard_attempt(ctx: &JobContext, ledger: &Ledger, journal: &Arc<hardtack_state::LedgerJournal>) {
    let cleaned = async {
        let settled = ctx.end_staging(TO_SETTLE).await;
        discard(ctx, ledger, journal.noted().await).await?;
        settled?;
        forget(ledger, &ctx.run().id).await
    };
    if let Err(e) = cleaned.await {
        // The attempt stays on record, so a later run discards the rest.
        tracing::warn!("what this run staged could not be discarded now; a later run will: {}", e.chain());
    }
}

/// After a commit has been published: the attempt is forgotten, and so are those that it has beaten.
pub(crate) async fn clean_up(ctx: &JobContext, ledger: &Ledger) {
    let cleaned = async {
        fault::hit("run.cleanup.before")?;
        sweep(ctx, ledger).await?;
        fault::hit("run.cleanup.after")
    };
    if let Err(e) = cleaned.await {
        tracing::warn!(
            "the run is published, but its traces could not be removed now; a later run will: {}",
            e.chain()
        );
    }
}
