//! Care for a table, by a person: branches, tags, publishing what was refused, going back; expiry, orphans; compaction,
//! manifests; single files; columns, partition fields, properties.

mod alter;
mod cleaning;
mod compact;
mod deleting;
mod manifests;
mod refs;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use hardtack_catalog::CatalogOf;
use hardtack_core::{Environment, Result, Stores};
use iceberg::{TableRequirement, TableUpdate};

use crate::catalog::{Attempts, Change, IcebergCatalog, Loaded};
use crate::inspect;
use crate::publisher::is_branch_of;
use crate::sink::catalog_of;

pub use alter::TableChange;
pub use cleaning::{ExpireOptions, Expired};
pub use compact::{CompactOptions, Compacted};
pub use deleting::DeletedFiles;
pub use manifests::RewrittenManifests;

/// How many files are read or removed concurrently.
pub(crate) const CONCURRENCY: usize = 32;

/// An Iceberg table that a person takes care of. Each change is one commit; with [`dry_run`](Self::dry_run) none is made.
///
/// ```no_run
/// # async fn example(ctx: &hardtack_core::JobContext) -> hardtack_core::Result<()> {
/// use hardtack_iceberg::{ExpireOptions, IcebergMaintenance};
///
/// let people = IcebergMaintenance::open(ctx, "lake", "people", ctx.now()).await?;
/// people.tag("end_of_2026", None).await?;
/// people.expire(ExpireOptions { retain_last: Some(10), ..Default::default() }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct IcebergMaintenance {
    catalog: Arc<dyn IcebergCatalog>,
    stores: Arc<Stores>,
    database: String,
    table: String,
    now: DateTime<Utc>,
    dry_run: bool,
}

impl IcebergMaintenance {
    /// The table of this name in the run's catalog.
    ///
    /// # Errors
    /// [`NotFound`](hardtack_core::ErrorKind::NotFound) if there is none, [`Usage`](hardtack_core::ErrorKind::Usage) if it
    /// is not an Iceberg table.
    pub async fn open(env: &Environment, database: &str, table: &str, now: DateTime<Utc>) -> Result<Self> {
        env.catalog_handle()?;
        let catalog = catalog_of(env).await?;
        let loaded = catalog.load(database, table).await?;
        let (database, table) = (loaded.database().to_owned(), loaded.name().to_owned());
        Ok(Self { catalog, stores: env.shared_stores(), database, table, now, dry_run: false })
    }

    /// Finds out what would be done, and does nothing.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    async fn load(&self) -> Result<Loaded> {
        self.catalog.load(&self.database, &self.table).await
    }

    /// One of the [metadata tables](crate::opened): `snapshots`, `history`, `refs`, `manifests`, `files`, `partitions`.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for any other name.
    pub async fn metadata(&self, name: &str) -> Result<RecordBatch> {
        inspect::metadata(&self.load().await?, name).await
    }

    /// The one of these runs, by their [versions](hardtack_core::Run::version), that has a branch of this name.
    pub fn run_of_branch<'r>(branch: &str, runs: &'r HashSet<String>) -> Option<&'r String> {
        runs.iter().find(|run| is_branch_of(branch, run))
    }

    async fn attempts(&self) -> Result<Attempts<'_>> {
        Ok(Attempts::new(self.catalog.as_ref(), self.load().await?))
    }

    /// Commits a change, unless this is a dry run. Says whether that is all.
    async fn commit(
        &self,
        attempts: &mut Attempts<'_>,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
    ) -> Result<bool> {
        Ok(self.dry_run || attempts.commit(Change { requirements, updates }).await?.is_some())
    }
}
