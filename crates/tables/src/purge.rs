//! Removing rows after their retention period.

use chrono::TimeDelta;
use futures::TryStreamExt;
use hardtack_catalog::{Catalog, CatalogOf, Partition, Predicate, TableDescription};
use hardtack_core::{JobContext, Location, Result};
use object_store::ObjectMeta;

use crate::Table;
use crate::place::{base_of, check_not_iceberg, delete, is_same, open, wanted_files};
use crate::publisher::{amend, repoint_undone, sum};
use crate::selection;
use crate::steps::Counted;

/// What [`purge`] has removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// The files, sorted.
    pub files: Vec<Location>,
    /// The names of the partitions without remaining files (`day=2026-11-21`), sorted.
    pub partitions: Vec<String>,
}

/// Removes the files of a table that are older than the retention period, and drops partitions that become empty, like
/// `purge_table` of AWS Glue. Younger files stay.
///
/// The store determines a file's age. Rows are removed with their files, so rows that a job rewrites become young
/// again. Partitions are dropped from the catalog before their files are deleted; a query that was planned before may
/// miss files. Partitions that a run rebuilds meanwhile stay as the run leaves them.
///
/// With `dry_run` it only reports what would be removed.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for an Iceberg table; errors of the catalog and the store. Removals up to then are kept; purging again continues.
pub async fn purge(ctx: &JobContext, table: &Table, retention: TimeDelta, dry_run: bool) -> Result<Purged> {
    let catalog = ctx.catalog().await?;
    let description = catalog.get_table(table.database(), table.table()).await?;
    check_not_iceberg(
        &description,
        "replace its old partitions with a job; `hardtack iceberg expire` then removes their files",
    )?;
    let purge = Purge { ctx, catalog: catalog.as_ref(), table: &description, retention, dry_run };
    let mut purged = Purged::default();
    if description.partition_keys.is_empty() {
        let (old, _) = purge.files(description.location()?).await?;
        purge.delete(description.location()?, &old, &mut purged).await?;
    } else {
        // All partitions are listed before the first is dropped, because drops may shift later pages.
        let partitions: Vec<Partition> = catalog.list_partitions(&description, &Predicate::all()).try_concat().await?;
        for partition in partitions {
            purge.partition(partition, &mut purged).await?;
        }
    }
    if !dry_run && !purged.files.is_empty() {
        purge.recount().await?;
    }
    purged.files.sort();
    purged.partitions.sort();
    Ok(purged)
}

struct Purge<'a> {
    ctx: &'a JobContext,
    catalog: &'a dyn Catalog,
    table: &'a TableDescription,
    retention: TimeDelta,
    dry_run: bool,
}

impl Purge<'_> {
    /// The files in a folder, split into those that are too old and the rest.
    async fn files(&self, folder: &Location) -> Result<(Vec<ObjectMeta>, Vec<ObjectMeta>)> {
        let files = wanted_files(self.ctx.stores(), folder, &selection::file_filter(self.table)?).await?;
        Ok(files.into_iter().partition(|file| file.last_modified + self.retention < self.ctx.now()))
    }

    async fn delete(&self, folder: &Location, old: &[ObjectMeta], purged: &mut Purged) -> Result<()> {
        let (store, _) = open(self.ctx.stores(), folder)?;
        purged.files.extend(old.iter().map(|file| Location::of(&store.url, &file.location)));
        if self.dry_run { Ok(()) } else { delete(&store, old.iter().map(|file| file.location.clone()).collect()).await }
    }

    async fn partition(&self, partition: Partition, purged: &mut Purged) -> Result<()> {
        let Some(folder) = partition.storage.location.clone() else { return Ok(()) };
        let (old, young) = self.files(&folder).await?;
        if old.is_empty() {
            return Ok(());
        }
        if young.is_empty() {
            if !self.dry_run {
                if self.in_folder(&partition, &folder).await?.is_none() {
                    return Ok(());
                }
                self.catalog.drop_partitions(self.table, std::slice::from_ref(&partition.values)).await?;
            }
            purged.partitions.push(self.table.partition_name(&partition.values));
            return self.delete(&folder, &old, purged).await;
        }
        self.delete(&folder, &old, purged).await?;
        if self.dry_run {
            return Ok(());
        }
        // The number of remaining rows is unknown.
        if let Some(mut now) = self.in_folder(&partition, &folder).await? {
            Counted::forget(&mut now.parameters);
            let changed = [now];
            self.catalog.update_partitions(self.table, &changed).await?;
            let base = base_of(self.table)?;
            repoint_undone(self.catalog, self.ctx.stores(), &base, self.table, &changed, None).await?;
        }
        Ok(())
    }

    /// The current partition, unless a run has pointed it elsewhere since.
    async fn in_folder(&self, partition: &Partition, folder: &Location) -> Result<Option<Partition>> {
        let now = self.catalog.get_partitions(self.table, std::slice::from_ref(&partition.values)).await?.pop();
        Ok(now.filter(|now| now.storage.location.as_ref().is_some_and(|location| is_same(location, folder))))
    }

    /// Sets the table's counts to the sum of its partitions, if these are known.
    async fn recount(&self) -> Result<()> {
        let counted = match self.table.partition_keys.is_empty() {
            true => None,
            false => sum(self.catalog, self.table).await?,
        };
        amend(self.catalog, &self.table.database, &self.table.name, |table| match counted {
            Some(counted) => counted.write(&mut table.parameters),
            None => Counted::forget(&mut table.parameters),
        })
        .await
    }
}
