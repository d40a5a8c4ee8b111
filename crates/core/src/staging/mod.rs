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
use crate::publish::{Check, DiscardAction, Journal, PublishAction};
use crate::{Error, ErrorKind, Location, Result, Run, fault};

/// How one store stages files: a small port with an implementation for file systems and one for multipart uploads.
#[async_trait]
pub trait Staging: Debug + Send + Sync {
    /// Begins a file that will be at `target` once it is published. `root` is the sink's own folder, at or above `target`.
    /// What must be undone if the run dies is written to `journal` first.
    async fn create(&self, journal: &dyn Journal, run: &Run, root: &Path, target: &Path)
    -> Result<Box<dyn StagedFile>>;

    /// Stages files whose content is at hand, and says in their order what makes them visible.
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
        // After an error, too, all come to their ends: a request may have been answered that nobody has noted yet.
        futures::future::join_all(put).await.into_iter().collect()
    }

    /// Writes a file whose content is at hand to its place at once, without staging it: for a folder that nothing points
    /// to yet, which the caller has noted as [`DiscardAction::Folder`].
    async fn put_unseen(&self, target: &Path, bytes: Bytes) -> Result<()>;

    /// Removes folders without files, `folder` and those in it, where a store has folders.
    async fn prune(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }

    /// Checks that files which are to be published are staged as they were written, or at their targets already. A store
    /// that completes an upload by the ETags of its parts does so itself.
    ///
    /// # Errors
    /// [`ErrorKind::Lost`] for the first that is gone or damaged.
    async fn verify_all(&self, _actions: &[&PublishAction], _check: Check) -> Result<()> {
        Ok(())
    }

    /// What killed processes have left below a folder of what they were about to write at once, where a store has such
    /// things: [`object_store`] writes a local file `name` under the name `name#1` first, and hides it from its listings.
    /// Those are found that were touched last before a moment, and removed unless it is a dry run.
    ///
    /// # Errors
    /// Those of the store. A folder that is not there has none.
    async fn sweep_half_written(
        &self,
        _folder: &Path,
        _before: DateTime<Utc>,
        _dry_run: bool,
    ) -> Result<Vec<Location>> {
        Ok(Vec::new())
    }

    /// The staged files below a folder that are hidden there, and of which run and token they are.
    ///
    /// # Errors
    /// Those of the store. A store whose staged files have no names has none.
    async fn staged_below(&self, _folder: &Path) -> Result<Vec<StagedBy>> {
        Ok(Vec::new())
    }

    /// Makes a staged file visible. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Lost`] if what was staged is gone and what is at the target is not it.
    async fn publish(&self, action: &PublishAction) -> Result<()>;

    /// [`Staging::publish`] for several files, one after the other.
    ///
    /// # Errors
    /// The first that fails; those behind it are not published then.
    async fn publish_all(&self, actions: &[&PublishAction]) -> Result<()> {
        for action in actions {
            fault::hit("publish.file.before")?;
            self.publish(action).await?;
            fault::hit("publish.file.after")?;
        }
        Ok(())
    }

    /// Removes what a run staged. Doing it again changes nothing.
    async fn discard(&self, action: &DiscardAction) -> Result<()>;

    /// What there is to discard for [`DiscardAction::Uploads`], one by one. Without a mark those only of which nothing has
    /// been uploaded: nobody knows their ids, or somebody has just begun.
    ///
    /// # Errors
    /// Those of the store, and none where it cannot list uploads or does not let them be listed: then nothing is found.
    async fn find_uploads(&self, _location: &Location, _mark: Option<&str>) -> Result<Vec<DiscardAction>> {
        Ok(Vec::new())
    }
}

/// A hidden file, and the run that has staged it, by its [`Run::version`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedBy {
    /// Where it is.
    pub location: Location,
    /// The run's id and token.
    pub version: String,
    /// What discards it, and others of the run in the same folder.
    pub discard: DiscardAction,
}

/// A file being staged.
#[async_trait]
pub trait StagedFile: Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the file durable and returns what makes it visible.
    async fn finish(self: Box<Self>) -> Result<PublishAction>;
}

impl Debug for dyn StagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StagedFile")
    }
}

/// The name of the folder in which folders that only one run writes to are.
pub const VERSIONS: &str = "_versions";

/// The path of a folder that only one run writes to.
///
/// # Errors
/// Unexpected if its name does not say that it is one: then somebody else's files may be in it.
fn versions_path(location: &Location) -> Result<Path> {
    let path = location.resolve()?.path;
    let parts: Vec<_> = path.parts().collect();
    match parts.as_slice() {
        [.., versions, _] if versions.as_ref() == VERSIONS => Ok(path),
        _ => Err(Error::unexpected("this is not the folder of a run, so it is not removed").with("folder", location)),
    }
}

/// Streams an object through the hash that staged files are recognised by: XXH3 of 64 bits.
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
    .hint("restore the staged file, or put the wanted object at the target and run `hardtack recover --skip-missing`")
}

/// Damage to a file that waits to be published.
fn damaged(what: &str, from: &Location, to: &Location) -> Error {
    let error = Error::new(ErrorKind::Lost, format!("a staged file is not what the run wrote: {what}"))
        .with("staged", from)
        .with("target", to)
        .hint(
            "restore the staged file; or give it up with `hardtack recover --skip-missing`, which deletes nothing for \
             its sake, and run the job again",
        );
    match partition_of(to) {
        Some(partition) => error.with("partition", partition),
        None => error,
    }
}

/// The partition that a file is in, as its folders name it: `year=2026/month=11`.
fn partition_of(file: &Location) -> Option<String> {
    let path = file.resolve().ok()?.path;
    let parts: Vec<_> = path.parts().collect();
    let (_, folders) = parts.split_last()?;
    let keys: Vec<&str> = folders.iter().map(AsRef::as_ref).filter(|name| name.contains('=')).collect();
    (!keys.is_empty()).then(|| keys.join("/"))
}
