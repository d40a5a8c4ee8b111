//! Where the files of a write go, and how they come to be seen.

use std::fmt::Debug;

use async_trait::async_trait;
use hardtack_core::publish::DiscardAction;
use hardtack_core::{Location, Result, StageContext};

/// Where the files of a write go: for sinks that are built on [`ParquetDataset`](crate::ParquetDataset) and know better
/// than the names of folders where their partitions are.
#[async_trait]
pub trait Placement: Debug + Send + Sync {
    /// The folder of a partition's files, given by its values and by the name that its folder has by custom (`a=1/b=2`;
    /// both are empty if nothing is partitioned). It is asked for each file, by many tasks at once.
    ///
    /// # Errors
    /// Whatever keeps the partition from being written; the write fails.
    async fn folder(&self, values: &[String], name: &str) -> Result<Folder>;

    /// The placement as a value, from which its crate could make it again in another process.
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
    /// They may: files are staged (in this folder at or above them, if the store is a file system) and appear when they
    /// are published.
    Staged(Location),
    /// They cannot, for nothing points to it: files are put there directly. Before the write begins it has to be noted as
    /// [`DiscardAction::Folder`].
    Unseen,
}

/// Folders named by their partitions, below one that readers look into.
#[derive(Debug)]
pub(crate) struct Below {
    /// Where files are staged.
    root: Location,
    folder: Location,
}

impl Below {
    /// In the folder `path` of `root`.
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

/// Folders named by their partitions, below one that only this run writes to and that nothing points to.
#[derive(Debug)]
pub struct Unseen(Location);

impl Unseen {
    /// A new place at `base`, which stays as it is: `_versions/<run>` below it. What is put there is discarded if the run
    /// fails.
    ///
    /// # Errors
    /// Those of the journal.
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
