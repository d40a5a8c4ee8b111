//! Saving to a table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::TimeDelta;
use datafusion::prelude::DataFrame;
use hardtack_catalog::{
    Catalog, CatalogExt, CatalogOf, Column, Partition, Predicate, SchemaEvolution, TableDescription, TableFormat,
    schema_from_catalog,
};
use hardtack_core::actions::Phase;
use hardtack_core::{Error, ErrorKind, Location, NamedTable, PublishAction, Result, Sink, StageContext, Staged};
use hardtack_sinks::{
    Compression, Folder, ParquetDataset, PartitionValues, Placement, SortColumn, Statistics, Unseen, Visibility,
    WrittenFile, mark_append_only, refuse_append_only,
};
use tokio::sync::Mutex;

use crate::Table;
use crate::evolution;
use crate::place::{base_of, is_same, name_in};
use crate::publisher::PUBLISHER;
use crate::selection;
use crate::steps::{CountChange, Counted, Payload, Rebuilt, Slot, Step};
use crate::versions;

/// The number of partitions per publish action: each action is a few requests to the catalog, and one record of what it
/// supersedes.
const PARTITIONS_PER_ACTION: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    #[default]
    Append,
    Overwrite,
    OverwritePartitions,
}

#[cfg(feature = "iceberg")]
impl Mode {
    /// The same of an Iceberg table.
    pub(crate) fn of_iceberg(self, table: hardtack_iceberg::IcebergTable) -> hardtack_iceberg::IcebergTable {
        match self {
            Self::Append => table.append(),
            Self::Overwrite => table.overwrite(),
            Self::OverwritePartitions => table.overwrite_partitions(),
        }
    }
}

/// How a [`Table`] is saved to.
#[derive(Clone, PartialEq)]
pub(crate) struct Writing {
    pub(crate) mode: Mode,
    pub(crate) create: Option<TableDescription>,
    pub(crate) evolution: SchemaEvolution,
    grace_period: TimeDelta,
    /// The layout of files; its name and place do not matter.
    pub(crate) files: ParquetDataset,
}

impl Writing {
    /// The defaults, for the table of this name.
    pub(crate) fn of(name: &str) -> Self {
        Self {
            mode: Mode::default(),
            create: None,
            evolution: SchemaEvolution::default(),
            grace_period: versions::GRACE_PERIOD,
            files: ParquetDataset::new(name, ""),
        }
    }

    /// Shows what differs from the defaults.
    pub(crate) fn show(&self, f: &mut fmt::DebugStruct<'_, '_>, name: &str) {
        let usual = Self::of(name);
        if self.mode != usual.mode {
            f.field("mode", &self.mode);
        }
        if let Some(description) = &self.create {
            let columns: Vec<String> =
                description.all_columns().map(|c| format!("{}: {}", c.name, c.data_type)).collect();
            f.field("create_if_missing", &columns.join(", "));
        }
        if self.evolution != usual.evolution {
            f.field("schema_evolution", &self.evolution);
        }
        if self.grace_period != usual.grace_period {
            f.field("grace_period", &self.grace_period.to_string());
        }
        if self.files != usual.files {
            f.field("files", &self.files);
        }
    }
}

/// Saving to a table. It is written as Parquet, one file per partition up to a target size, like a [`ParquetDataset`].
///
/// Rows are coerced to the table's columns (see [`coerce_to_schema`](hardtack_transforms::coerce_to_schema)); the case of
/// names does not matter.
///
/// | | what readers see while the run publishes |
/// | --- | --- |
/// | [`append`](Table::append) | whole files, one after another |
/// | [`overwrite_partitions`](Table::overwrite_partitions) | of each partition the old rows or the new ones |
/// | [`overwrite`](Table::overwrite) | the same, and at the end the partitions without new rows are dropped |
///
/// `recordCount` and `totalSize` are kept as parameters of the table and of each partition.
impl Table {
    /// Adds the rows to the existing ones (the default).
    #[must_use]
    pub fn append(mut self) -> Self {
        self.writing.mode = Mode::Append;
        self
    }

    /// Replaces the table: partitions without new rows are dropped.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.writing.mode = Mode::Overwrite;
        self
    }

    /// Replaces the partitions that have new rows, and leaves the others alone. A table without partition keys is
    /// replaced as a whole.
    #[must_use]
    pub fn overwrite_partitions(mut self) -> Self {
        self.writing.mode = Mode::OverwritePartitions;
        self
    }

    /// Says that the rows that are saved include the earlier ones that are to stay, for example because they are merged
    /// with them. Only then may rows of a [bookmarked](hardtack_core::bookmarks) source replace what is there.
    #[must_use]
    pub fn merges(self) -> Self {
        self.laid_out(ParquetDataset::merges)
    }

    /// Does the same as [`overwrite_partitions`](Table::overwrite_partitions), and also replaces these partitions, which
    /// are dropped if there are no rows for them.
    #[must_use]
    pub fn also_overwriting(self, partitions: impl IntoIterator<Item = PartitionValues>) -> Self {
        self.laid_out(|files| files.also_overwriting(partitions)).overwrite_partitions()
    }

    /// Adds the rows, and protects the folder of the table: see [`ParquetDataset::append_only`]. Rebuilding partitions of
    /// the table is refused as well.
    #[must_use]
    pub fn append_only(self) -> Self {
        self.laid_out(ParquetDataset::append_only).append()
    }

    /// Creates the table (and its database) if it is not in the catalog when the run is published. A run that fails
    /// creates nothing. The name in the description is ignored.
    ///
    /// ```
    /// use hardtack_catalog::{TableDescription, TableFormat, columns_of, schema};
    /// use hardtack_tables::Table;
    ///
    /// let description = TableDescription::new("lake", "books", &TableFormat::Parquet, "s3://lake/books")
    ///     .with_columns(columns_of(&schema! { title: string, author: string })?)
    ///     .with_partition_keys(columns_of(&schema! { year: int })?);
    /// let books = Table::named("lake", "books").overwrite_partitions().create_if_missing(description);
    /// # Ok::<_, hardtack_core::Error>(())
    /// ```
    #[must_use]
    pub fn create_if_missing(mut self, description: TableDescription) -> Self {
        let mut description = description;
        description.database = self.database().to_owned();
        description.name = self.table().to_owned();
        self.writing.create = Some(description);
        self
    }

    /// Creates the table if it is missing, as the author says or else with this description.
    pub(crate) fn or_create(self, description: TableDescription) -> Self {
        if self.writing.create.is_some() { self } else { self.create_if_missing(description) }
    }

    /// Chooses what happens when rows have columns that the table does not have ([`SchemaEvolution::Fail`] by default).
    #[must_use]
    pub fn schema_evolution(mut self, evolution: SchemaEvolution) -> Self {
        self.writing.evolution = evolution;
        self
    }

    /// Sets how long the files of a replaced partition stay for queries that were planned before (one hour by default).
    /// A later run that saves to the table removes them, or `hardtack vacuum`.
    #[must_use]
    pub fn grace_period(mut self, grace_period: TimeDelta) -> Self {
        self.writing.grace_period = grace_period;
        self
    }

    /// Sorts the rows within each file by these columns, so that readers can skip more: names, for ascending and nulls
    /// first, or [`SortColumn`]s.
    #[must_use]
    pub fn sorted_by<C: Into<SortColumn>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        self.laid_out(|files| files.sorted_by(columns))
    }

    /// Chooses the compression (zstd of level 3 by default).
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        self.laid_out(|files| files.with_compression(compression))
    }

    /// The size in bytes at which a file is closed and another begun (512 MiB by default).
    #[must_use]
    pub fn with_target_file_bytes(self, bytes: u64) -> Self {
        self.laid_out(|files| files.with_target_file_bytes(bytes))
    }

    /// The maximum number of rows per row group (1,048,576 by default).
    #[must_use]
    pub fn with_row_group_rows(self, rows: usize) -> Self {
        self.laid_out(|files| files.with_row_group_rows(rows))
    }

    /// Chooses the statistics that are written for each column.
    #[must_use]
    pub fn with_statistics(self, statistics: Statistics) -> Self {
        self.laid_out(|files| files.with_statistics(statistics))
    }

    /// Adds Bloom filters for these columns.
    #[must_use]
    pub fn with_bloom_filters<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        self.laid_out(|files| files.with_bloom_filters(columns))
    }

    /// Writes these columns without dictionaries.
    #[must_use]
    pub fn without_dictionary<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        self.laid_out(|files| files.without_dictionary(columns))
    }

    /// Uses the layout of this dataset, and counts what is written under its name.
    pub(crate) fn written_as(mut self, files: &ParquetDataset) -> Self {
        self.writing.files = files.clone();
        self
    }

    fn laid_out(mut self, layout: impl FnOnce(ParquetDataset) -> ParquetDataset) -> Self {
        self.writing.files = layout(self.writing.files);
        self
    }

    /// The table in the catalog, or the one that is to be created.
    async fn target(&self, catalog: &dyn Catalog) -> Result<(TableDescription, bool)> {
        match (catalog.get_table(self.database(), self.table()).await, &self.writing.create) {
            (Ok(table), _) if table.is_iceberg() => {
                // With support, it was saved to as what it is.
                Err(Error::usage("this binary was built without support for Iceberg tables")
                    .with("table", table.qualified_name())
                    .hint("enable the feature `iceberg` of the hardtack crate"))
            }
            (Ok(table), _) => Ok((table, true)),
            (Err(e), Some(description)) if e.kind() == ErrorKind::NotFound => {
                let mut description = description.checked()?;
                // Readers may run in other working directories.
                description.storage.location = Some(description.location()?.absolute()?);
                Ok((description, false))
            }
            (Err(e), None) if e.kind() == ErrorKind::NotFound => {
                Err(e.hint("`.create_if_missing(description)` creates it with the first run"))
            }
            (Err(e), _) => Err(e),
        }
    }
}

#[async_trait]
impl Sink for Table {
    fn name(&self) -> &str {
        self.qualified_name()
    }

    fn catalog_table(&self) -> Option<NamedTable> {
        Some(self.named_table())
    }

    fn replaces(&self) -> bool {
        #[cfg(feature = "iceberg")]
        if self.iceberg.only.is_some() {
            return false;
        }
        self.writing.mode != Mode::Append && !self.writing.files.is_merge()
    }

    fn deletes(&self) -> bool {
        #[cfg(feature = "iceberg")]
        if self.iceberg.only.is_some() {
            return true;
        }
        self.writing.mode != Mode::Append
    }

    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged> {
        #[cfg(feature = "iceberg")]
        if let Some(there) = self.as_iceberg(ctx).await? {
            return there.table.stage(ctx, there.folded(rows)?).await;
        }
        #[cfg(feature = "iceberg")]
        self.check_kind()?;
        let saving = Saving::begin(self, ctx, &rows).await?;
        tracing::info!(table = self.qualified_name(), location = %saving.base, new = !saving.exists, "saving to a table");
        saving.stage(rows).await
    }

    /// Coerces rows to the table, if the context has a catalog, or to the one that is to be created.
    async fn conform(&self, ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        #[cfg(feature = "iceberg")]
        if ctx.catalog_handle().is_ok()
            && let Some(there) = self.as_iceberg(ctx).await?
        {
            return Sink::conform(&there.table, ctx, there.folded(rows)?).await;
        }
        let table = match (ctx.catalog_handle(), &self.writing.create) {
            (Ok(_), _) => Saving::begin(self, ctx, &rows).await?.table,
            (Err(_), Some(description)) => {
                let mut table = description.checked()?;
                writable(&table)?;
                evolution::evolve(&mut table, rows.schema().as_arrow(), self.writing.evolution)?;
                table
            }
            (Err(_), None) => return Ok(rows),
        };
        let (dataset, rows) = coerced(&self.writing, &table, rows)?;
        dataset.conform(ctx, rows).await
    }
}

/// The rows coerced to the table's columns, and the layout of its files.
fn coerced(writing: &Writing, table: &TableDescription, rows: DataFrame) -> Result<(ParquetDataset, DataFrame)> {
    let schema = schema_from_catalog(table)?;
    let rows = evolution::coerce(evolution::fold_names(rows, &schema)?, &schema)?;
    let keys = table.partition_keys.iter().map(|key| key.name.clone());
    Ok((writing.files.clone().with_schema(schema).partition_by(keys), rows))
}

/// A table that rows are being saved to.
struct Saving<'a> {
    ctx: &'a StageContext,
    writing: &'a Writing,
    catalog: Arc<dyn Catalog>,
    /// The table with its new columns.
    table: TableDescription,
    exists: bool,
    changes: Vec<Column>,
    /// The base folder of its partitions.
    base: Location,
}

impl<'a> Saving<'a> {
    async fn begin(sink: &'a Table, ctx: &'a StageContext, rows: &DataFrame) -> Result<Self> {
        let catalog = ctx.catalog().await?;
        let (mut table, exists) = sink.target(catalog.as_ref()).await?;
        writable(&table)?;
        let base = base_of(&table)?;
        if let Some(said) = sink.writing.create.as_ref().and_then(|description| description.location().ok()) {
            is_there(&table, &base, &said.absolute()?)?;
        }
        let changes = evolution::evolve(&mut table, rows.schema().as_arrow(), sink.writing.evolution)?;
        if !exists {
            Counted::default().write(&mut table.parameters);
        }
        Ok(Self { ctx, writing: &sink.writing, catalog, table, exists, changes, base })
    }

    async fn stage(self, rows: DataFrame) -> Result<Staged> {
        let (dataset, rows) = coerced(self.writing, &self.table, rows)?;
        let (files, steps) = match self.writing.mode {
            Mode::Append => {
                let files = dataset.write_files(self.ctx, rows, Arc::new(Current::of(&self))).await?;
                let steps = self.appended(&files)?;
                (files, steps)
            }
            Mode::Overwrite | Mode::OverwritePartitions => {
                refuse_append_only(self.ctx, &self.base).await?;
                let named = self.named(&dataset, &rows)?;
                let fresh = Unseen::below(self.ctx, &self.base).await?;
                let root = fresh.location().clone();
                let files = dataset.write_files(self.ctx, rows, Arc::new(fresh)).await?;
                let steps = self.rebuilt(&files, &root, named).await?;
                (files, steps)
            }
        };
        let mut actions = Vec::new();
        if !self.exists || !self.changes.is_empty() || Counted::of(&self.table.parameters).is_none() {
            let create = (!self.exists).then(|| self.table.clone().into());
            actions.push((Phase::Appear, Step::Describe { create, columns: self.changes.clone() }));
        }
        actions.extend(steps);
        let expired =
            versions::expired(self.ctx.stores(), &self.base, self.writing.grace_period, self.ctx.now()).await?;
        actions.extend(expired.into_iter().map(|record| (Phase::Remove, Step::Remove { record })));
        let report = WrittenFile::report(&files);
        let mut publish: Vec<PublishAction> = files.into_iter().filter_map(|file| file.publish).collect();
        if self.writing.mode == Mode::Append && self.writing.files.is_append_only() {
            publish.extend(mark_append_only(self.ctx, &self.base).await?);
        }
        for (phase, step) in actions {
            publish.push(self.action(phase, step)?);
        }
        Ok(Staged { report, publish, location: Some(self.base) })
    }

    fn action(&self, phase: Phase, step: Step) -> Result<PublishAction> {
        let payload = Payload {
            catalog: self.ctx.catalog_handle()?.identity().to_owned(),
            database: self.table.database.clone(),
            table: self.table.name.clone(),
            base: self.base.clone(),
            run: self.ctx.run().version(),
            token: self.ctx.run().token.clone(),
            step,
        };
        let payload = payload.to_json()?;
        Ok(PublishAction::Foreign { publisher: PUBLISHER.to_owned(), phase, payload })
    }

    /// The steps that register what was appended.
    fn appended(&self, files: &[WrittenFile]) -> Result<Vec<(Phase, Step)>> {
        let slots: Vec<Slot> = slots(files)?.into_values().collect();
        let added = slots.iter().map(|slot| slot.counted).sum();
        let steps = chunks(slots).map(|(_, partitions)| (Phase::Point, Step::Append { partitions })).collect();
        Ok(self.counted(steps, CountChange::Add(added)))
    }

    /// The partitions that are replaced even without new rows.
    fn named(&self, dataset: &ParquetDataset, rows: &DataFrame) -> Result<Vec<Vec<String>>> {
        if self.writing.mode != Mode::OverwritePartitions {
            return Ok(Vec::new());
        }
        dataset.named_partitions(&rows.schema().as_arrow().clone().into())
    }

    /// The steps that point partitions to their new files.
    async fn rebuilt(
        &self,
        files: &[WrittenFile],
        root: &Location,
        named: Vec<Vec<String>>,
    ) -> Result<Vec<(Phase, Step)>> {
        let mut slots = slots(files)?;
        if self.table.partition_keys.is_empty() {
            // It is one partition, even without rows.
            slots.entry(Vec::new()).or_insert_with(|| Slot::new(Vec::new(), root.clone()));
        }
        let replaced: BTreeSet<_> = slots.keys().cloned().chain(named).collect();
        let present = self.present(replaced.iter()).await?;
        let mut superseded =
            versions::list_superseded(self.ctx.stores(), &selection::file_filter(&self.table)?, &present).await?;
        let added: Counted = slots.values().map(|slot| slot.counted).sum();
        let replaced: Option<Counted> = present.iter().map(|partition| Counted::of(&partition.parameters)).sum();
        let change = match (self.writing.mode, replaced) {
            (Mode::Overwrite, _) => CountChange::Set(added),
            (_, Some(replaced)) => CountChange::Add(added - replaced),
            (_, None) => CountChange::Unknown,
        };
        let rebuilt = slots.into_values().map(|slot| Rebuilt { superseded: superseded.remove(&slot.values), slot });
        let mut steps: Vec<_> = chunks(rebuilt.collect::<Vec<_>>())
            .map(|(chunk, partitions)| (Phase::Point, Step::Rebuild { chunk, partitions }))
            .collect();
        // The remaining ones have no new rows.
        let (from, dropped) = (steps.len(), superseded.into_values().collect::<Vec<_>>());
        steps.extend(
            chunks(dropped).map(|(chunk, partitions)| (Phase::Remove, Step::Drop { chunk: from + chunk, partitions })),
        );
        Ok(self.counted(steps, change))
    }

    /// Appends the step that counts the table's rows, after its partitions have been counted. (A table without
    /// partitions is counted when it is pointed.)
    fn counted(&self, mut steps: Vec<(Phase, Step)>, change: CountChange) -> Vec<(Phase, Step)> {
        if !self.table.partition_keys.is_empty() && !steps.is_empty() {
            steps.push((Phase::Remove, Step::Count { change }));
        }
        steps
    }

    /// The current state of the partitions to replace. (A table without keys is one partition without values.)
    async fn present(&self, values: impl Iterator<Item = &Vec<String>>) -> Result<Vec<Partition>> {
        if !self.exists {
            return Ok(Vec::new());
        }
        if self.table.partition_keys.is_empty() {
            return Ok(vec![self.table.partition([""; 0], self.table.location()?.clone())]);
        }
        match self.writing.mode {
            Mode::Overwrite => self.catalog.all_partitions(&self.table, &Predicate::all()).await,
            _ => self.catalog.get_partitions(&self.table, &values.cloned().collect::<Vec<_>>()).await,
        }
    }
}

/// Refuses a table whose location differs from the job's: a job that names a location wants the rows there.
pub(crate) fn is_there(table: &TableDescription, base: &Location, said: &Location) -> Result<()> {
    if is_same(base, said) {
        return Ok(());
    }
    Err(Error::usage("the table's location differs from the job's, and a table does not move")
        .with("table", table.qualified_name())
        .with("location of the table", base)
        .with("location in the job", said)
        .hint("give the job the table's location (as its target), or save to another table"))
}

/// Only Parquet tables can be written.
fn writable(table: &TableDescription) -> Result<()> {
    table.location()?;
    if selection::is_part(table) {
        let why =
            format!("`{}` consists of some files of its folder, so nothing can be saved to it", table.qualified_name());
        let hint = "move its files to a folder of their own, drop the table (`hardtack drop`), and crawl";
        return Err(Error::usage(why).hint(hint));
    }
    match table.format()? {
        TableFormat::Parquet => Ok(()),
        other => Err(not_parquet(&other).with("table", table.qualified_name())),
    }
}

fn not_parquet(format: &TableFormat) -> Error {
    let kind = format.classification();
    Error::usage(format!("its files are {kind}, but only tables of Parquet files can be saved to"))
        .hint("save to a table of Parquet files, of another name or in another database, or write files with `CsvFile` or `JsonLines`")
}

/// The written files by partition.
fn slots(files: &[WrittenFile]) -> Result<BTreeMap<Vec<String>, Slot>> {
    let mut slots = BTreeMap::new();
    for file in files {
        let (folder, name) = name_in(&file.location)?;
        let slot = slots.entry(file.values.clone()).or_insert_with(|| Slot::new(file.values.clone(), folder));
        slot.add(file, name);
    }
    Ok(slots)
}

/// Splits into numbered chunks.
fn chunks<T>(all: Vec<T>) -> impl Iterator<Item = (usize, Vec<T>)> {
    let mut all = all.into_iter();
    let chunks = std::iter::from_fn(move || {
        let chunk: Vec<T> = all.by_ref().take(PARTITIONS_PER_ACTION).collect();
        (!chunk.is_empty()).then_some(chunk)
    });
    chunks.enumerate()
}

/// The current locations of partitions. Rows are appended there, or in the default folder if a partition is new.
#[derive(Debug)]
struct Current {
    catalog: Arc<dyn Catalog>,
    table: TableDescription,
    exists: bool,
    base: Location,
    known: Mutex<HashMap<Vec<String>, Location>>,
}

impl Current {
    fn of(saving: &Saving<'_>) -> Self {
        Self {
            catalog: Arc::clone(&saving.catalog),
            table: saving.table.clone(),
            exists: saving.exists,
            base: saving.base.clone(),
            known: Mutex::default(),
        }
    }

    async fn find(&self, values: &[String], name: &str) -> Result<Location> {
        if self.table.partition_keys.is_empty() {
            return self.table.location()?.absolute();
        }
        let found = match self.exists {
            true => self.catalog.get_partitions(&self.table, &[values.to_vec()]).await?.pop(),
            false => None,
        };
        let Some(found) = found else { return Ok(self.base.join(name)) };
        match self.table.format_of(&found)? {
            TableFormat::Parquet => {}
            other => return Err(not_parquet(&other).with("partition", name)),
        }
        found.storage.location.as_ref().unwrap_or(&self.base.join(name)).absolute()
    }
}

#[async_trait]
impl Placement for Current {
    async fn folder(&self, values: &[String], name: &str) -> Result<Folder> {
        let known = self.known.lock().await.get(values).cloned();
        let location = match known {
            Some(location) => location,
            None => {
                let location = self.find(values, name).await?;
                self.known.lock().await.insert(values.to_vec(), location.clone());
                location
            }
        };
        // Staged files are hidden, but must be on the same file system.
        let root = if self.base.contains(&location) { &self.base } else { &location };
        Ok(Folder { visibility: Visibility::Staged(root.clone()), location })
    }

    fn describe(&self) -> serde_json::Value {
        let (database, table) = (&self.table.database, &self.table.name);
        serde_json::json!({ "partitions_of": { "database": database, "table": table, "base": self.base } })
    }
}
