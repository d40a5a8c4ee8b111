//! Publish and discard actions: steps that make staged work visible or undo it, which another process can execute; and
//! the journal that notes what to discard.

use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, Location, Result};

/// One step that makes staged work visible. Each step is idempotent and serialised into the commit record, so that any
/// process that finds the record can finish the work. Locations are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum PublishAction {
    /// Completes a multipart upload.
    CompleteUpload {
        /// The location of the object.
        location: Location,
        /// The upload's id.
        upload_id: String,
        /// The parts' ETags in order.
        parts: Vec<String>,
        /// The object's ETag computed from them, if they are MD5s.
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
    /// A step of a foreign sink, executed by the [`Publisher`](crate::publish::Publisher) registered under this name.
    Foreign {
        /// The publisher's name.
        publisher: String,
        /// The phase of the step.
        phase: Phase,
        /// Its parameters.
        payload: serde_json::Value,
    },
}

/// The order within a commit, over all sinks: files appear, then pointers move, then superseded files are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Files appear.
    Appear,
    /// Pointers to them move.
    Point,
    /// Superseded files are deleted.
    Remove,
}

impl PublishAction {
    /// The phase of this action.
    pub fn phase(&self) -> Phase {
        match self {
            Self::CompleteUpload { .. } | Self::RenameFile { .. } => Phase::Appear,
            Self::Delete { .. } => Phase::Remove,
            Self::Foreign { phase, .. } => *phase,
        }
    }

    /// The hash of the file that this action makes visible, if it is one.
    pub fn content_hash(&self) -> Option<u64> {
        match self {
            Self::CompleteUpload { xxh3, .. } | Self::RenameFile { xxh3, .. } => Some(*xxh3),
            Self::Delete { .. } | Self::Foreign { .. } => None,
        }
    }

    /// The files that this action touches; a foreign step's files are known to its publisher only.
    fn files(&self) -> impl Iterator<Item = &Location> {
        let (one, other) = match self {
            Self::CompleteUpload { location, .. } | Self::Delete { location } => (Some(location), None),
            Self::RenameFile { from, to, .. } => (Some(from), Some(to)),
            Self::Foreign { .. } => (None, None),
        };
        one.into_iter().chain(other)
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

/// The places that sinks have declared, each a file or a folder with everything below it.
#[derive(Debug)]
pub struct Places<'a>(HashSet<&'a str>);

impl<'a> Places<'a> {
    /// Creates places from absolute locations.
    pub fn new(places: impl IntoIterator<Item = &'a Location>) -> Self {
        Self(places.into_iter().map(|place| place.as_str().trim_end_matches('/')).collect())
    }

    /// The places that are not within another one.
    pub fn outermost(&self) -> Vec<Location> {
        let mut outermost: Vec<Location> =
            self.0.iter().filter(|place| !self.is_inside(place)).map(|place| Location::from(*place)).collect();
        outermost.sort();
        outermost
    }

    fn is_inside(&self, text: &str) -> bool {
        text.match_indices('/').any(|(at, _)| self.0.contains(&text[..at]))
    }

    /// Checks that an action touches no file elsewhere. (Publishers are responsible for their own steps.)
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`](crate::ErrorKind::Unexpected) with the action and the file if it does.
    pub fn check(&self, action: &PublishAction) -> Result<()> {
        // Actions have absolute locations without `..`.
        let is_ours =
            |file: &str| !file.split('/').any(|name| name == "..") && (self.0.contains(file) || self.is_inside(file));
        match action.files().find(|file| !is_ours(file.as_str())) {
            None => Ok(()),
            Some(file) => Err(Error::unexpected("an action touches a file outside the places that its sink declared")
                .with("action", action)
                .with("file", file)),
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
        /// The end of their names, which contains the run's id.
        suffix: String,
    },
    /// A multipart upload.
    Upload {
        /// The location of its object.
        location: Location,
        /// The upload's id.
        upload_id: String,
    },
    /// The multipart uploads of the run, including those whose creation was not answered, so that nobody knows their
    /// ids. They are found by listing, if the store supports it.
    Uploads {
        /// The folder of their objects or, without a mark, the single object.
        location: Location,
        /// The part of names that only the run's objects have. Without it another run may be uploading the same object:
        /// then only uploads without content are discarded, and only if no other run of the job and scope can be
        /// active.
        mark: Option<String>,
    },
    /// An object that nothing points to yet.
    Object {
        /// The object.
        location: Location,
    },
    /// A folder that only this run writes to, and that nothing points to yet. Its path shows that: `_versions/<run
    /// id>-<token>`; no other folder is removed.
    Folder {
        /// The folder.
        location: Location,
    },
    /// Staged work of a foreign sink.
    Foreign {
        /// The publisher's name.
        publisher: String,
        /// Its parameters.
        payload: String,
    },
}

/// Records what to discard if this run dies.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// Notes that something is about to be staged. The note is durable when this returns, except that individual items
    /// ([`DiscardAction::Upload`], [`DiscardAction::Object`]) may be written in groups a moment later.
    async fn note(&self, action: DiscardAction) -> Result<()>;

    /// Makes all notes durable; a run does so before it commits.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// A journal that lasts as long as the process.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<Vec<DiscardAction>>);

impl MemoryJournal {
    /// The noted actions, without duplicates.
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

/// How thoroughly staged files are checked before they are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Their sizes: for the process that has just staged them.
    Size,
    /// Their contents as well: for another process that finishes the run later.
    Content,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/lake/books/a.parquet", true)]
    #[case("/lake/books", true)]
    #[case("/lake/books2/a.parquet", false)]
    #[case("/lake/a.parquet", false)]
    #[case("/lake/books/../a.parquet", false)]
    #[case("file:///lake/books/a.parquet", false)]
    #[case("s3://bucket/x", true)]
    #[case("s3://bucket2/x", false)]
    #[case("memory:/x", true)]
    fn an_action_stays_in_the_places_of_its_sinks(#[case] file: &str, #[case] inside: bool) {
        let places = ["/lake/books", "s3://bucket/", "memory:/", "/lake/books/day=1"].map(Location::from);
        let places = Places::new(&places);
        let rename =
            |from: &str, to: &str| PublishAction::RenameFile { from: from.into(), to: to.into(), bytes: 0, xxh3: 0 };
        let good = "/lake/books/b.parquet";
        for action in [PublishAction::Delete { location: file.into() }, rename(good, file), rename(file, good)] {
            let checked = places.check(&action);
            assert_eq!(checked.is_ok(), inside, "{action}");
            assert_eq!(
                checked.err().and_then(|e| e.get("file").map(ToOwned::to_owned)),
                (!inside).then(|| file.to_owned())
            );
        }
        assert_eq!(places.outermost(), ["/lake/books", "memory:", "s3://bucket"].map(Location::from));
    }
}
