//! Makes a table of files an Iceberg table.

use std::sync::Arc;

use hardtack_catalog::CatalogOf;
use hardtack_core::{Error, JobContext, Location, Meter, Result};
use hardtack_iceberg::Migration;
use hardtack_sources::{FileFormat, FolderFile};

use crate::place::base_of;
use crate::{CatalogTable, Table};

/// What a migration has made an Iceberg table of, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Files with rows.
    pub files: usize,
    /// Their rows.
    pub rows: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The first snapshot. None in a dry run, and for a table without rows.
    pub snapshot: Option<i64>,
}

/// How often files are listed again because they have changed meanwhile.
const ATTEMPTS: usize = 5;

/// Makes a table of Parquet files an Iceberg table, in one step and in place: no file is rewritten. Its partition keys
/// become identity partitions. Jobs that name the table go on as they are, and so do their bookmarks by column.
///
/// Nobody should save to the table meanwhile. A run that has begun to fails when it is published; files that come in the
/// last instant are not part of the Iceberg table. With `dry_run` it only finds out whether all files fit.
///
/// ```no_run
/// # async fn example(ctx: &hardtack_core::JobContext) -> hardtack_core::Result<()> {
/// use hardtack_tables::{Table, migrate};
///
/// let sales = Table::named("lake", "sales");
/// let would = migrate(ctx, &sales, true).await?;
/// assert_eq!(migrate(ctx, &sales, false).await?.rows, would.rows);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`NotFound`](hardtack_core::ErrorKind::NotFound) if there is no such table;
/// [`Usage`](hardtack_core::ErrorKind::Usage) if it is an Iceberg table already, or is not one of Parquet files;
/// [`Refused`](hardtack_core::ErrorKind::Refused) for a file that readers of Iceberg would not read as it is read now;
/// [`Conflict`](hardtack_core::ErrorKind::Conflict) if others change it all the time. It is a table of files still then.
pub async fn migrate(ctx: &JobContext, table: &Table, dry_run: bool) -> Result<Migrated> {
    let at = |e: Error| if e.get("table").is_none() { e.with("table", table.qualified_name()) } else { e };
    for _ in 0..ATTEMPTS {
        let before = Listed::of(ctx, table).await.map_err(at)?;
        let base = base_of(before.table.description()).map_err(at)?;
        let prepared =
            Migration::prepare(ctx, before.table.description(), &base, before.in_files(&base), &before.files);
        let migration = prepared.await.map_err(at)?;
        let found =
            Migrated { files: migration.files(), rows: migration.rows(), bytes: migration.bytes(), snapshot: None };
        if dry_run {
            return Ok(found);
        }
        let now = Listed::of(ctx, table).await.map_err(at)?;
        if now.files == before.files && now.table.description().version == before.table.description().version {
            let snapshot = migration.commit(ctx, ctx.now()).await.map_err(at)?;
            return Ok(Migrated { snapshot, ..found });
        }
    }
    Err(at(Error::conflict("others change the table all the time"))
        .hint("stop the jobs that save to it, and try again"))
}

/// A table of files, and all of them.
struct Listed {
    table: CatalogTable,
    folders: Vec<Location>,
    files: Vec<FolderFile>,
}

impl Listed {
    async fn of(ctx: &JobContext, table: &Table) -> Result<Self> {
        let catalog = ctx.catalog().await?;
        let description = catalog.get_table(table.database(), table.table()).await?;
        if description.is_iceberg() {
            return Err(Error::usage("this is an Iceberg table already"));
        }
        let table = CatalogTable::new(catalog, description, Arc::new(Meter::default()))?;
        let folders = table.folders(&[], &ctx.session().state()).await?;
        if let Some(other) = folders.iter().find(|folder| folder.format != FileFormat::Parquet) {
            return Err(Error::usage("only Parquet files can be those of an Iceberg table")
                .with("folder", &other.location)
                .hint("save the rows to a new table, with `.iceberg()`"));
        }
        let places = folders.iter().map(|folder| folder.location.clone()).collect();
        let files = table.by_folder().files(folders, &ctx.session().state()).await?;
        Ok(Self { table, folders: places, files })
    }

    /// Whether its readers would read what is put into a folder of this table of files.
    fn in_files(&self, base: &Location) -> bool {
        let metadata = base.join("metadata");
        self.folders.iter().any(|folder| folder.contains(&metadata))
    }
}
