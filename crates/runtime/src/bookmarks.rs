//! Changes of bookmarks by a person.

use std::collections::BTreeMap;

use hardtack_core::{Error, JobContext, Result};
use hardtack_state::{Attempt, Change, CommitRecord, Ledger, RunRecord, RunStatus};
use serde_json::Value;

use crate::lifecycle::{Decision, begin, decide, end_failed, save_record};
use crate::recover::{RecoverOptions, clean_up, discard_attempt, recover, roll_forward};

/// Replaces the bookmarks of the context's job and scope, if they are still `before`. The change is a commit without
/// publish actions, so of the change and a run that is active meanwhile one commits, and the other ends with a
/// conflict. Returns the record of the change, which is on record like a run.
///
/// # Errors
/// [`Conflict`](hardtack_core::ErrorKind::Conflict) if a run has committed meanwhile; those of [`recover()`].
pub async fn change_bookmarks(
    base: &JobContext,
    ledger: &Ledger,
    change: &Change,
    before: &BTreeMap<String, Value>,
    after: BTreeMap<String, Value>,
) -> Result<RunRecord> {
    recover(base, ledger, RecoverOptions::default()).await?;
    let attempt = begin(base, ledger, None).await?;
    let run = attempt.record.run.clone();
    let ctx = JobContext::builder(ledger.job()).share(base).run(run.clone()).build()?;
    let mut record = RunRecord::begin(run.clone());
    record.bookmarks_from.clone_from(&attempt.bookmarks);
    record.change = Some(change.clone());
    if attempt.bookmarks != *before {
        return Err(discard(&ctx, ledger, &attempt, &mut record, moved_meanwhile(ledger)).await);
    }
    let commit = CommitRecord {
        bookmarks: after,
        metrics: attempt.metrics.clone(),
        places: Some(Vec::new()),
        change: Some(change.clone()),
        ..CommitRecord::new(attempt.record.claims, run, ctx.now())
    };
    match decide(ledger, &commit).await {
        Decision::Committed => {}
        Decision::Lost(error) => return Err(discard(&ctx, ledger, &attempt, &mut record, error).await),
        Decision::Unknown(error) => return Err(end_failed(ledger, &mut record, error).await),
    }
    record.commit = Some(commit.sequence);
    let settled = roll_forward(&ctx, ledger, &commit, RecoverOptions::default(), &|_| {}).await;
    if let Err(error) = settled.and_then(|settlement| settlement.published(commit.sequence)) {
        return Err(end_failed(ledger, &mut record, error).await);
    }
    record.status = RunStatus::Succeeded;
    record.finished_at = Some(ctx.now());
    record.bookmarks_to = commit.bookmarks;
    save_record(ledger, &record).await;
    clean_up(&ctx, ledger).await;
    Ok(record)
}

async fn discard(ctx: &JobContext, ledger: &Ledger, attempt: &Attempt, record: &mut RunRecord, error: Error) -> Error {
    let error = end_failed(ledger, record, error).await;
    discard_attempt(ctx, ledger, &attempt.journal, &[]).await;
    error
}

fn moved_meanwhile(ledger: &Ledger) -> Error {
    Error::conflict("a run has moved the bookmarks meanwhile; nothing was changed")
        .with("job", ledger.job())
        .with("scope", ledger.scope())
        .hint("look at them with `hardtack bookmark show`, and repeat the command")
}
