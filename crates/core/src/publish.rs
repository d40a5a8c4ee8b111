//! What it takes to make staged work visible, and to undo it: short lists of actions that another process can execute.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use crate::store::Stores;
use crate::{Error, Location, Result, fault};

/// One step that makes staged work visible. Each is idempotent, and serialised into the commit record, so that whoever
/// finds the record can finish the work. Locations are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum PublishAction {
    /// Completes a multipart upload.
    CompleteUpload {
        /// Where the object appears.
        location: Location,
        /// The upload's id.
        upload_id: String,
        /// The parts' ETags in order.
        parts: Vec<String>,
        /// The object's ETag as computed from them, where they are MD5s.
        etag: Option<String>,
        /// Size in bytes.
        bytes: u64,
        /// XXH3 (64 bit) of the content.
        xxh3: u64,
    },
    /// Moves a hidden file to its place.
    RenameFile {
        /// The hidden file.
        from: Location,
        /// Its place.
        to: Location,
        /// Size in bytes.
        bytes: u64,
        /// XXH3 (64 bit) of the content.
        xxh3: u64,
    },
    /// Deletes an object that has been superseded.
    Delete {
        /// The object.
        location: Location,
    },
    /// A step of a sink from outside this framework, executed by the [`Publisher`] registered under that name.
    Foreign {
        /// The publisher's name.
        publisher: String,
        /// When it happens.
        phase: Phase,
        /// What it needs to know.
        payload: serde_json::Value,
    },
}

/// The order within a commit, over all sinks: files appear, then pointers move, then superseded files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Files appear.
    Appear,
    /// Pointers to them move.
    Point,
    /// What was superseded goes.
    Remove,
}

impl PublishAction {
    /// When this action is executed.
    pub fn phase(&self) -> Phase {
        match self {
            Self::CompleteUpload { .. } | Self::RenameFile { .. } => Phase::Appear,
            Self::Delete { .. } => Phase::Remove,
            Self::Foreign { phase, .. } => *phase,
        }
    }
}

impl fmt::Display for PublishAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CompleteUpload { location, .. } => write!(f, "complete the upload of {location}"),
            Self::RenameFile { from, to, .. } => write!(f, "rename {from} to {to}"),
            Self::Delete { location } => write!(f, "delete {location}"),
            Self::Foreign { publisher, .. } => write!(f, "a step of the publisher `{publisher}`"),
        }
    }
}

/// How to remove what a run staged, noted before it is staged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "discard", rename_all = "snake_case")]
pub enum DiscardAction {
    /// Hidden files with this suffix in this folder.
    StagedFiles {
        /// The folder.
        folder: Location,
        /// The end of their names, which holds the run's id.
        suffix: String,
    },
    /// A multipart upload.
    Upload {
        /// Where its object would have appeared.
        location: Location,
        /// The upload's id.
        upload_id: String,
    },
    /// The multipart uploads that the run began, also those whose beginning nobody answered, so that nobody knows their
    /// ids. They are found by listing, where a store can.
    Uploads {
        /// The folder in which their objects would have appeared; or without a mark the one object.
        location: Location,
        /// What is in the names of the run's objects and of no other's. Without it another run may be uploading the same
        /// object: only uploads without content are meant, and they are discarded only when no other run of the job and
        /// scope can be.
        mark: Option<String>,
    },
    /// An object in a place that nothing points to yet.
    Object {
        /// The object.
        location: Location,
    },
    /// A folder that only this run writes to, and that nothing points to yet. Its name and that of the folder around it
    /// say so: `_versions/<run id>-<token>`; no other is removed.
    Folder {
        /// The folder.
        location: Location,
    },
    /// Work of a sink from outside this framework.
    Foreign {
        /// The publisher's name.
        publisher: String,
        /// What it needs to know.
        payload: String,
    },
}

/// Remembers what to discard if this run dies.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// Notes that something is about to be staged. Durable when it returns; but where there are many, what is noted one by
    /// one ([`DiscardAction::Upload`], [`DiscardAction::Object`]) may be written together a moment later.
    async fn note(&self, action: DiscardAction) -> Result<()>;

    /// Makes all that was noted durable; a run does so before it commits.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// A journal that lasts as long as the process.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<Vec<DiscardAction>>);

impl MemoryJournal {
    /// What was noted, each action once.
    pub fn noted(&self) -> Vec<DiscardAction> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn note(&self, action: DiscardAction) -> Result<()> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.contains(&action) {
            noted.push(action);
        }
        Ok(())
    }
}

/// Executes the actions of sinks from outside this framework.
#[async_trait]
pub trait Publisher: Debug + Send + Sync {
    /// Makes visible what `payload` describes. Doing it again must change nothing.
    async fn publish(&self, payload: &serde_json::Value) -> Result<()>;
    /// Removes what was staged. Doing it again must change nothing.
    async fn discard(&self, payload: &str) -> Result<()>;
}

/// The publishers of a session, by name.
#[derive(Debug, Default)]
pub struct Publishers(Mutex<HashMap<String, Arc<dyn Publisher>>>);

impl Publishers {
    /// Adds or replaces a publisher.
    pub fn register(&self, name: impl Into<String>, publisher: Arc<dyn Publisher>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), publisher);
    }

    fn get(&self, name: &str) -> Result<Arc<dyn Publisher>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned().ok_or_else(|| {
            Error::usage(format!("no publisher is registered under the name `{name}`"))
                .with("way out", "run the job itself, whose binary knows its publishers")
        })
    }
}

/// How many files are published or discarded at once. Requests to an object store are what takes time.
const AT_ONCE: usize = 64;

/// To hand a rename over to a thread that may block costs more than the rename, where the disk is a local one: several
/// go together. Where each takes milliseconds (NFS), that several threads rename helps.
const GOES_AT_ONCE: usize = 16;
const RENAMES_IN_A_GO: usize = 64;

/// Executes publish actions, phase by phase, many at a time within a phase. `progress` is called once for each.
///
/// # Errors
/// The first action that fails; those of later phases are then not executed. Executing the list again goes on.
pub async fn publish(
    stores: &Stores,
    publishers: &Publishers,
    actions: &[PublishAction],
    progress: &(dyn Fn(&PublishAction) + Send + Sync),
) -> Result<()> {
    for phase in [Phase::Appear, Phase::Point, Phase::Remove] {
        let due = actions.iter().filter(|a| a.phase() == phase);
        let (renames, others): (Vec<_>, Vec<_>) = due.partition(|a| matches!(a, PublishAction::RenameFile { .. }));
        let one = |action| async move {
            publish_one(stores, publishers, action).await?;
            progress(action);
            Ok::<_, Error>(())
        };
        futures::stream::iter(others).map(one).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let goes = renames.chunks(renames.len().div_ceil(GOES_AT_ONCE).clamp(1, RENAMES_IN_A_GO));
        futures::stream::iter(goes)
            .map(|go| async move {
                let Some(PublishAction::RenameFile { to, .. }) = go.first() else { return Ok(()) };
                stores.open(to)?.0.staging.publish_all(go).await?;
                go.iter().for_each(|action| progress(action));
                Ok::<_, Error>(())
            })
            .buffer_unordered(GOES_AT_ONCE)
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

/// Discards staged work, many actions at a time. All are tried; the first error is returned.
///
/// # Errors
/// The first action that failed.
pub async fn discard(stores: &Stores, publishers: &Publishers, actions: &[DiscardAction]) -> Result<()> {
    let results: Vec<Result<()>> = futures::stream::iter(actions)
        .map(|action| async move {
            fault::hit("discard.before")?;
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
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    results.into_iter().collect()
}
