//! Finishing what earlier runs began.

use std::sync::Arc;
use std::time::Duration;

use hardtack_core::publish::{self, DiscardAction, Phase, PublishAction};
use hardtack_core::{Error, ErrorKind, JobContext, Result, RunId, fault};
use hardtack_state::{CommitRecord, Ledger, RunRecord, RunStatus};

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
    /// Go on where a staged file is gone and its target is not what was committed, instead of failing. What is missing
    /// stays missing; each case is logged.
    pub skip_missing: bool,
}

/// Rolls forward the commits of a job and scope that have not been published to the end, and discards what runs left that
/// can never commit. Every run begins with it; doing it again changes nothing.
///
/// # Errors
/// Those of the stores; [`Unexpected`](ErrorKind::Unexpected) if a commit cannot be completed as recorded.
pub async fn recover(ctx: &JobContext, ledger: &Ledger, options: RecoverOptions) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    for commit in ledger.pending().await? {
        let named = |e: Error| e.with("commit", commit.sequence).with("of run", &commit.run.id);
        roll_forward(ctx, ledger, &commit, options, &|_| {}).await.map_err(named)?;
        tracing::info!(run = %commit.run.id, commit = commit.sequence, "rolled forward");
        recovered.published.push(commit.run.id.clone());
        amend_record(ctx, ledger, &commit.run.id, |record| {
            record.status = RunStatus::Succeeded;
            record.commit = Some(commit.sequence);
            record.error = None;
            record.bookmarks_to.clone_from(&commit.bookmarks);
        })
        .await;
    }
    recovered.discarded = sweep(ctx, ledger).await?;
    Ok(recovered)
}

/// Corrects the record of a run that could not do so itself. A record decides nothing, so nothing fails because of it.
async fn amend_record(ctx: &JobContext, ledger: &Ledger, run: &RunId, amend: impl FnOnce(&mut RunRecord)) {
    let amended = async {
        if let Some(mut record) = ledger.get_run(run).await? {
            amend(&mut record);
            record.finished_at = Some(ctx.now());
            ledger.put_run(&record).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(e) = amended.await {
        tracing::warn!(%run, "the run record could not be corrected: {}", e.chain());
    }
}

/// Discards what runs left that can never commit, and forgets attempts that have been published. What cannot be discarded
/// now is logged and stays on record; it keeps nobody from running.
pub(crate) async fn sweep(ctx: &JobContext, ledger: &Ledger) -> Result<Vec<RunId>> {
    let mut discarded = Vec::new();
    for (attempt, leftovers) in ledger.finished_attempts().await? {
        let run = attempt.run.id;
        let cleaned = async {
            discard(ctx, ledger, leftovers).await?;
            ledger.forget(&run).await?;
            Ok::<_, Error>(ledger.get(attempt.claims).await?.is_some_and(|commit| commit.run.id == run))
        };
        match cleaned.await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(%run, "discarded what it had staged");
                amend_record(ctx, ledger, &run, |record| {
                    if record.status == RunStatus::Running {
                        record.status = RunStatus::Superseded;
                    }
                })
                .await;
                discarded.push(run);
            }
            Err(e) => tracing::warn!(%run, "what it had staged could not be discarded yet: {}", e.chain()),
        }
    }
    Ok(discarded)
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
            Err(Error::unavailable(why)
                .with("location", location)
                .with("way out", "run the job again when that one has ended"))
        }
        _ => Ok(()),
    }
}

/// Executes the actions of a commit and marks it published.
pub(crate) async fn roll_forward(
    ctx: &JobContext,
    ledger: &Ledger,
    commit: &CommitRecord,
    options: RecoverOptions,
    progress: &(dyn Fn(&PublishAction) + Send + Sync),
) -> Result<()> {
    let outcome = if options.skip_missing {
        publish_what_can_be(ctx, commit).await
    } else {
        publish::publish(ctx.stores(), ctx.publishers(), &commit.actions(), progress).await
    };
    if let Err(error) = outcome {
        // Another process may be rolling forward the same commit; a later commit may even have superseded it since. Once
        // it is marked published, what cannot be found any more was there.
        return if ledger.is_published(commit.sequence).await? { Ok(()) } else { Err(error) };
    }
    ledger.mark_published(commit.sequence, &ctx.run().id).await
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
            match publish::publish(ctx.stores(), ctx.publishers(), std::slice::from_ref(&action), &|_| {}).await {
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

/// How long a run that ends waits for files that are being begun. A container that is told to stop has 30 seconds in all.
pub(crate) const TO_SETTLE: Duration = Duration::from_secs(10);

/// Discards what this run has staged and forgets its attempt, after it failed.
pub(crate) async fn discard_attempt(ctx: &JobContext, ledger: &Ledger, journal: &Arc<hardtack_state::LedgerJournal>) {
    let cleaned = async {
        let settled = ctx.end_staging(TO_SETTLE).await;
        discard(ctx, ledger, journal.noted().await).await?;
        settled?;
        ledger.forget(&ctx.run().id).await
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
