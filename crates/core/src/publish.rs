//! Executes publish and discard actions.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use crate::actions::{Check, DiscardAction, Phase, PublishAction};
use crate::store::Stores;
use crate::{Error, Location, Result, fault};

/// Executes the actions of foreign sinks.
#[async_trait]
pub trait Publisher: Debug + Send + Sync {
    /// Checks that the staged work of `payload` is intact, or has been published before. A process that finishes
    /// another one's run calls this before it publishes anything. (By default, nothing is checked.)
    ///
    /// # Errors
    /// [`ErrorKind::Lost`](crate::ErrorKind::Lost) for missing or damaged work, with its name and a hint.
    async fn verify(&self, _payload: &serde_json::Value) -> Result<()> {
        Ok(())
    }
    /// A short description of what `payload` does, for a person who decides whether to abandon it.
    fn describe(&self, payload: &serde_json::Value) -> Option<String> {
        let _ = payload;
        None
    }
    /// Publishes what `payload` describes. Repeating it must change nothing.
    async fn publish(&self, payload: &serde_json::Value) -> Result<()>;
    /// Discards staged work. Repeating it must change nothing.
    async fn discard(&self, payload: &str) -> Result<()>;
    /// Keeps staged work for a person to look at, in place of discarding it: that of a run whose audit has failed. Returns
    /// where it is and how to look at it, or `None` if it is to be discarded, as it is by default.
    ///
    /// # Errors
    /// Those of finding out; it is discarded then.
    async fn keep(&self, payload: &str) -> Result<Option<String>> {
        let _ = payload;
        Ok(None)
    }
}

/// The publishers of a session, by name.
#[derive(Debug, Default)]
pub struct Publishers(Mutex<HashMap<String, Arc<dyn Publisher>>>);

impl Publishers {
    /// Adds or replaces a publisher.
    pub fn register(&self, name: impl Into<String>, publisher: Arc<dyn Publisher>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), publisher);
    }

    /// Describes a step of a publisher, if the publisher is registered and has a description.
    pub fn describe(&self, name: &str, payload: &serde_json::Value) -> String {
        let described = self.get(name).ok().and_then(|publisher| publisher.describe(payload));
        described.unwrap_or_else(|| format!("a step of the publisher `{name}`"))
    }

    fn get(&self, name: &str) -> Result<Arc<dyn Publisher>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned().ok_or_else(|| {
            Error::usage(format!("no publisher is registered under the name `{name}`"))
                .hint("run the job itself, whose binary knows its publishers")
        })
    }
}

/// How many files are published or discarded concurrently. Requests to an object store dominate the time.
const CONCURRENCY: usize = 64;

/// Handing a rename over to the blocking pool costs more than the rename on a local disk, so renames are batched. Where
/// each takes milliseconds (NFS), several threads help.
const BATCH_CONCURRENCY: usize = 16;
const RENAMES_PER_BATCH: usize = 64;

fn goes<'a, 'b>(renames: &'a [&'b PublishAction]) -> std::slice::Chunks<'a, &'b PublishAction> {
    renames.chunks(renames.len().div_ceil(BATCH_CONCURRENCY).clamp(1, RENAMES_PER_BATCH))
}

/// Checks that the files of publish actions are intact: staged as written, or published already. Changes nothing.
/// Called before the first action is executed, it keeps a damaged commit from being half published.
///
/// # Errors
/// [`ErrorKind::Lost`](crate::ErrorKind::Lost) for the first that is gone or damaged.
pub async fn verify(stores: &Stores, publishers: &Publishers, actions: &[PublishAction], check: Check) -> Result<()> {
    let (mut renames, mut others) = (Vec::new(), Vec::new());
    for action in actions {
        match action {
            PublishAction::RenameFile { .. } => renames.push(action),
            PublishAction::Foreign { publisher, payload, .. } if check == Check::Content => {
                others.push((publishers.get(publisher)?, payload));
            }
            // An upload is completed with the ETags of its parts, so the store checks it. The others have nothing
            // staged.
            PublishAction::CompleteUpload { .. } | PublishAction::Delete { .. } | PublishAction::Foreign { .. } => {}
        }
    }
    futures::stream::iter(goes(&renames))
        .map(|go| async move {
            let Some(PublishAction::RenameFile { to, .. }) = go.first() else { return Ok(()) };
            stores.open(to)?.0.staging.verify_all(go, check).await
        })
        .buffer_unordered(BATCH_CONCURRENCY)
        .try_collect::<()>()
        .await?;
    let foreign = others.into_iter().map(|(publisher, payload)| async move { publisher.verify(payload).await });
    futures::stream::iter(foreign).buffer_unordered(CONCURRENCY).try_collect::<()>().await
}

/// Executes publish actions, phase by phase, many at a time within a phase. `progress` is called once for each.
///
/// # Errors
/// The first action that fails; later phases are then not executed. Executing the list again continues.
pub async fn publish(
    stores: &Stores,
    publishers: &Publishers,
    actions: &[PublishAction],
    progress: &(dyn Fn(&PublishAction) + Send + Sync),
) -> Result<()> {
    for phase in [Phase::Appear, Phase::Point, Phase::Remove] {
        let due = actions.iter().filter(|a| a.phase() == phase);
        let (renames, others): (Vec<_>, Vec<_>) = due.partition(|a| matches!(a, PublishAction::RenameFile { .. }));
        // By numbers, because a closure over references would make the future one that cannot be sent.
        let (others, batches) = (&others, &goes(&renames).collect::<Vec<_>>());
        let one = |i: usize| async move {
            publish_one(stores, publishers, others[i]).await?;
            progress(others[i]);
            Ok::<_, Error>(())
        };
        futures::stream::iter(0..others.len()).map(one).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        futures::stream::iter(0..batches.len())
            .map(|i: usize| async move {
                let go = batches[i];
                let Some(PublishAction::RenameFile { to, .. }) = go.first() else { return Ok(()) };
                stores.open(to)?.0.staging.publish_all(go).await?;
                go.iter().for_each(|action| progress(action));
                Ok::<_, Error>(())
            })
            .buffer_unordered(BATCH_CONCURRENCY)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

async fn publish_one(stores: &Stores, publishers: &Publishers, action: &PublishAction) -> Result<()> {
    match action {
        PublishAction::CompleteUpload { location, .. } | PublishAction::RenameFile { to: location, .. } => {
            stores.open(location)?.0.staging.publish_all(&[action]).await
        }
        PublishAction::Delete { location } => {
            fault::hit("publish.delete.before")?;
            delete(stores, location).await?;
            fault::hit("publish.delete.after")
        }
        PublishAction::Foreign { publisher, payload, .. } => publishers.get(publisher)?.publish(payload).await,
    }
}

async fn delete(stores: &Stores, location: &Location) -> Result<()> {
    let (store, path) = stores.open(location)?;
    match store.objects.delete(&path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(e) => Err(Error::from(e).with("location", location)),
    }
}

/// Keeps what a run has staged whose audit has failed, as far as its publishers do that. Returns the actions that must not
/// be executed for it, each with where to find what is kept.
pub async fn keep(publishers: &Publishers, actions: Vec<DiscardAction>) -> Vec<(DiscardAction, String)> {
    let mut kept = Vec::new();
    for action in actions {
        let DiscardAction::Foreign { publisher, payload } = &action else { continue };
        let found = match publishers.get(publisher) {
            Ok(publisher) => publisher.keep(payload).await,
            Err(e) => Err(e),
        };
        match found {
            Ok(Some(place)) => kept.push((action, place)),
            Ok(None) => {}
            Err(e) => tracing::warn!("what was refused cannot be kept: {}", e.chain()),
        }
    }
    kept
}

/// Discards staged work, many actions at a time. All are tried; the first error is returned.
///
/// # Errors
/// The first action that failed.
pub async fn discard(stores: &Stores, publishers: &Publishers, actions: &[DiscardAction]) -> Result<()> {
    let results: Vec<Result<()>> = futures::stream::iter(0..actions.len())
        .map(|i: usize| async move {
            fault::hit("discard.before")?;
            let action = &actions[i];
            match action {
                DiscardAction::StagedFiles { folder: location, .. }
                | DiscardAction::Upload { location, .. }
                | DiscardAction::Uploads { location, .. }
                | DiscardAction::Folder { location } => {
                    stores.open(location)?.0.staging.discard(action).await?;
                }
                DiscardAction::Object { location } => delete(stores, location).await?,
                DiscardAction::Foreign { publisher, payload } => publishers.get(publisher)?.discard(payload).await?,
            }
            fault::hit("discard.after")
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    results.into_iter().collect()
}
