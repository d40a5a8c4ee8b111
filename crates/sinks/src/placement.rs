//! Where the files of a write go, and how they become visible.

use std::fmt::Debug;

use async_trait::async_trait;
use hardtack_core::actions::DiscardAction;
use hardtack_core::{Location, Result, StageContext};

/// Chooses the folders of a write: for sinks that are built on [`ParquetDataset`](crate::ParquetDataset) and whose
/// partitions are not located by folder names.
#[async_trait]
pub trait Placement: Debug + Send + Sync {
    /// The folder for a partition's files, given its values and its conventional folder name (`a=1/b=2`; both are empty
    /// without partitions). It is called for each file, by many tasks concurrently.
    ///
    /// # Errors
    /// Any error fails the write.
    async fn folder(&self, values: &[String], name: &str) -> Result<Folder>;

    /// The placement as a value, from which its crate can recreate it in another process.
    fn describe(&self) -> serde_json::Value;
}

/// A folder of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub location: Location,
    /// Whether readers look there.
    pub visibility: Visibility,
}

/// Whether readers look into a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visibility {
    /// They may: files are staged (if the store is a file system, in this folder, at or above theirs) and appear when
    /// they are published.
    Staged(Location),
    /// They do not, because nothing refers to it: files are written there directly. The folder must be recorded as
    /// [`DiscardAction::Folder`] before the write begins.
    Unseen,
}

/// Folders named after their partitions, below one that readers look into.
#[derive(Debug)]
pub(crate) struct Below {
    /// The folder in which files are staged.
    root: Location,
    folder: Location,
}

impl Below {
    /// Places files in the folder `path` of `root`.
    pub(crate) fn new(root: &Location, path: &str) -> Self {
        Self { root: root.clone(), folder: root.join(path) }
    }
}

#[async_trait]
impl Placement for Below {
    async fn folder(&self, _: &[String], name: &str) -> Result<Folder> {
        Ok(Folder { location: self.folder.join(name), visibility: Visibility::Staged(self.root.clone()) })
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "below": { "root": self.root, "folder": self.folder } })
    }
}

/// Folders named after their partitions, below one that only this run writes to and nothing refers to.
#[derive(Debug)]
pub struct Unseen(Location);

impl Unseen {
    /// Creates a new folder `_versions/<run>` below `base`, which is otherwise left alone. Its content is discarded if
    /// the run fails.
    ///
    /// # Errors
    /// Errors of the journal.
    pub async fn below(ctx: &StageContext, base: &Location) -> Result<Self> {
        let location = base.join(hardtack_core::staging::VERSIONS).join(ctx.run().version());
        ctx.journal().note(DiscardAction::Folder { location: location.clone() }).await?;
        Ok(Self(location))
    }

    /// The folder.
    pub fn location(&self) -> &Location {
        &self.0
    }
}

#[async_trait]
impl Placement for Unseen {
    async fn folder(&self, _: &[String], name: &str) -> Result<Folder> {
        Ok(Folder { location: self.0.join(name), visibility: Visibility::Unseen })
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "unseen": { "folder": self.0 } })
    }
}
