//! Writing files that no reader sees until they are published.
//!
//! On a file system a staged file is a hidden file in the sink's root folder, moved to its place by a rename. On S3 and
//! other stores with multipart uploads it is an upload that has not been completed. Both are named by a
//! [`PublishAction`] that another process can execute, or undone through a [`DiscardAction`].
#![allow(clippy::disallowed_methods, reason = "this is where staged files are made and moved")]

mod local;
mod multipart;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use twox_hash::XxHash3_64;

pub use self::local::LocalStaging;
pub use self::multipart::{MultipartStaging, UploadList};
use crate::actions::{Check, DiscardAction, Journal, PublishAction};
use crate::{Error, ErrorKind, Location, Result, Run, fault};

/// The port by which a store stages files, with an implementation for file systems and one for multipart uploads.
#[async_trait]
pub trait Staging: Debug + Send + Sync {
    /// Creates a file that will be at `target` once it is published. `root` is the sink's own folder, at or above
    /// `target`. Notes in `journal` first what to discard if the run dies.
    async fn create(&self, journal: &dyn Journal, run: &Run, root: &Path, target: &Path)
    -> Result<Box<dyn StagedFile>>;

    /// Stages files with known contents, and returns their publish actions in order.
    async fn put(
        &self,
        journal: &dyn Journal,
        run: &Run,
        root: &Path,
        files: Vec<(Location, Bytes)>,
    ) -> Result<Vec<PublishAction>> {
        let put = files.into_iter().map(async |(target, bytes)| {
            let put = async {
                let mut file = self.create(journal, run, root, &target.resolve()?.path).await?;
                file.write(bytes).await?;
                file.finish().await
            };
            put.await.map_err(|e| e.with("target", &target))
        });
        // All are awaited even after an error: a request may have been answered but not noted yet.
        futures::future::join_all(put).await.into_iter().collect()
    }

    /// Writes files with known content directly to their places, without staging them: for a folder that nothing points
    /// to yet, which the caller has noted as [`DiscardAction::Folder`]. An error names its `target`.
    async fn put_unseen(&self, files: Vec<(Path, Bytes)>) -> Result<()>;

    /// Removes empty folders, `folder` and those in it, if the store has folders.
    async fn prune(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }

    /// Checks that the files to publish are staged as written, or already at their targets. A store that completes an
    /// upload by the ETags of its parts does so itself.
    ///
    /// # Errors
    /// [`ErrorKind::Lost`] for the first that is missing or damaged.
    async fn verify_all(&self, _actions: &[&PublishAction], _check: Check) -> Result<()> {
        Ok(())
    }

    /// Finds the half-written files that killed processes have left below a folder, if the store has such files:
    /// [`object_store`] first writes a local file `name` as `name#1`, and hides it from its listings. Finds those last
    /// modified before `before`, and removes them unless it is a dry run.
    ///
    /// # Errors
    /// The store's errors. A missing folder has no such files.
    async fn sweep_half_written(
        &self,
        _folder: &Path,
        _before: DateTime<Utc>,
        _dry_run: bool,
    ) -> Result<Vec<Location>> {
        Ok(Vec::new())
    }

    /// The hidden staged files below a folder, with the run and token that they belong to.
    ///
    /// # Errors
    /// The store's errors. A store whose staged files have no names returns none.
    async fn staged_below(&self, _folder: &Path) -> Result<Vec<StagedBy>> {
        Ok(Vec::new())
    }

    /// Makes a staged file visible. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Lost`] if the staged file is gone and the target is not it.
    async fn publish(&self, action: &PublishAction) -> Result<()>;

    /// [`Staging::publish`] for several files, one after the other.
    ///
    /// # Errors
    /// The first failure; the files after it are not published.
    async fn publish_all(&self, actions: &[&PublishAction]) -> Result<()> {
        for action in actions {
            fault::hit("publish.file.before")?;
            self.publish(action).await?;
            fault::hit("publish.file.after")?;
        }
        Ok(())
    }

    /// Discards what a run staged. Repeating it changes nothing.
    async fn discard(&self, action: &DiscardAction) -> Result<()>;

    /// The individual uploads to discard for [`DiscardAction::Uploads`]. Without a mark, only those without content:
    /// either nobody knows their ids, or they were just created.
    ///
    /// # Errors
    /// The store's errors. If the store cannot list uploads, or does not permit it, nothing is found.
    async fn find_uploads(&self, _location: &Location, _mark: Option<&str>) -> Result<Vec<DiscardAction>> {
        Ok(Vec::new())
    }
}

/// A hidden staged file with its run's [`Run::version`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedBy {
    /// Where it is.
    pub location: Location,
    /// The run's id and token.
    pub version: String,
    /// The action that discards it, and others of the run in the same folder.
    pub discard: DiscardAction,
}

/// A file being staged.
#[async_trait]
pub trait StagedFile: Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the file durable and returns its publish action.
    async fn finish(self: Box<Self>) -> Result<PublishAction>;
}

impl Debug for dyn StagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StagedFile")
    }
}

/// The name of the folder that contains the folders of single runs.
pub const VERSIONS: &str = "_versions";

/// The path of a folder of a single run.
///
/// # Errors
/// Unexpected if its name does not identify it as one: it may then contain files of others.
fn versions_path(location: &Location) -> Result<Path> {
    let path = location.resolve()?.path;
    let parts: Vec<_> = path.parts().collect();
    match parts.as_slice() {
        [.., versions, _] if versions.as_ref() == VERSIONS => Ok(path),
        _ => Err(Error::unexpected("this is not the folder of a run, so it is not removed").with("folder", location)),
    }
}

/// Computes the hash by which staged files are recognised: 64-bit XXH3.
///
/// # Errors
/// Those of the store.
pub async fn content_hash(objects: &dyn ObjectStore, path: &Path) -> Result<u64> {
    let mut stream = objects.get(path).await?.into_stream();
    let mut hash = XxHash3_64::with_seed(0);
    while let Some(bytes) = stream.next().await {
        hash.write(&bytes?);
    }
    Ok(hash.finish())
}

trait Write64 {
    fn write(&mut self, bytes: &[u8]);
    fn finish(&self) -> u64;
}

impl Write64 for XxHash3_64 {
    fn write(&mut self, bytes: &[u8]) {
        std::hash::Hasher::write(self, bytes);
    }
    fn finish(&self) -> u64 {
        std::hash::Hasher::finish(self)
    }
}

fn gone(what: &str, target: &Location) -> Error {
    Error::new(
        ErrorKind::Lost,
        format!(
            "{what}, and what is at its target is not what the run wrote; the commit cannot be completed as recorded"
        ),
    )
    .with("target", target)
    .hint(
        "restore the staged file, or put the committed object at the target and run `hardtack recover --skip-missing`",
    )
}

/// The error for a damaged staged file.
fn damaged(what: &str, from: &Location, to: &Location) -> Error {
    let error = Error::new(ErrorKind::Lost, format!("a staged file is not what the run wrote: {what}"))
        .with("staged", from)
        .with("target", to)
        .hint(
            "restore the staged file; or skip it with `hardtack recover --skip-missing`, which keeps the files that it would have replaced, and run the job again",
        );
    match partition_of(to) {
        Some(partition) => error.with("partition", partition),
        None => error,
    }
}

/// The partition of a file, from its folders: `year=2026/month=11`.
fn partition_of(file: &Location) -> Option<String> {
    let path = file.resolve().ok()?.path;
    let parts: Vec<_> = path.parts().collect();
    let (_, folders) = parts.split_last()?;
    let keys: Vec<&str> = folders.iter().map(AsRef::as_ref).filter(|name| name.contains('=')).collect();
    (!keys.is_empty()).then(|| keys.join("/"))
}
