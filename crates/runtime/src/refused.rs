//! Refused rows that stay for inspection, and when they go.

use chrono::TimeDelta;
use futures::StreamExt;
use hardtack_core::listing::list_files;
use hardtack_core::{JobContext, Location, Result};
use hardtack_state::refused_folder;
use object_store::ObjectStoreExt as _;

/// Removes the refused rows of earlier runs: those of the same scope if the run has succeeded, and of any scope if they
/// are old. It does not fail a run.
pub(crate) async fn remove(ctx: &JobContext, state: &Location, keep_for: TimeDelta, succeeded: bool) {
    // A job without audits keeps nothing.
    if ctx.audits().is_empty() {
        return;
    }
    if let Err(e) = try_remove(ctx, state, keep_for, succeeded).await {
        tracing::warn!("refused rows of earlier runs could not be removed: {}", e.chain());
    }
}

async fn try_remove(ctx: &JobContext, state: &Location, keep_for: TimeDelta, succeeded: bool) -> Result<()> {
    let run = ctx.run();
    let (store, all) = ctx.stores().open(&refused_folder(state, &run.job, None))?;
    let (_, same_scope) = ctx.stores().open(&refused_folder(state, &run.job, Some(&run.scope)))?;
    let (_, own) = ctx.stores().open(&refused_folder(state, &run.job, Some(&run.scope)).join(run.id.as_str()))?;
    let files = list_files(&store.url, store.objects.as_ref(), &all, |_| true).await?;
    let is_old = |file: &object_store::ObjectMeta| ctx.now() - file.last_modified > keep_for;
    let is_settled = |file: &object_store::ObjectMeta| succeeded && file.location.prefix_matches(&same_scope);
    let goes = files.iter().filter(|file| !file.location.prefix_matches(&own) && (is_old(file) || is_settled(file)));
    let goes: Vec<_> = goes.map(|file| file.location.clone()).collect();
    let mut gone = futures::stream::iter(goes.iter().map(|path| store.objects.delete(path))).buffered(8);
    while let Some(result) = gone.next().await {
        match result {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
