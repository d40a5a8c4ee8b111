//! Datasets of a job: files or a table, declared once, by path and name.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::prelude::DataFrame;
use hardtack_catalog::{CatalogOf, DatabaseName, TableDescription, TableFormat, columns_of};
use hardtack_core::{Error, ErrorKind, LoadContext, Location, NamedTable, Result, Sink, Source, StageContext, Staged};
use hardtack_sinks::{Compression, ParquetDataset, PartitionValues};
use hardtack_sources::{Bookmark, Files, Format, ParquetFiles};
use hardtack_transforms::{Missing, coerce_to_schema, coerce_to_schema_with};

use crate::Table;
use crate::evolution::{fold_names, same_name};

/// A dataset of a job, declared once: files, or a table of the catalog instead if the run names a database.
/// Declarations about the files, above all their schema, also apply to the table, so that a job runs with and without a
/// catalog.
///
/// ```
/// use hardtack_catalog::{DatabaseName, schema};
/// use hardtack_sinks::ParquetDataset;
/// use hardtack_tables::Dataset;
///
/// /// The books, in `s3://lake/books`; as the table `books`, if the run names a database.
/// fn books(database: Option<&DatabaseName>) -> Dataset<ParquetDataset> {
///     Dataset::new(ParquetDataset::new("books", "s3://lake/books"), database)
///         .with_schema(schema! { title: string not null, pages: int })
///         .overwrite()
/// }
///
/// assert_eq!(books(None).table(), None);
/// let database = "glue_reference".parse()?;
/// assert_eq!(books(Some(&database)).table().unwrap().qualified_name(), "glue_reference.books");
/// # Ok::<_, hardtack_core::Error>(())
/// ```
///
/// Its name inside the job is that of the files, whether or not they are a table: tests of `main` need not know which. The
/// table has the same name unless [`table_named`](Dataset::table_named) gives it another.
///
/// **As a source**, a table has the columns that were declared, in their order. A value that does not fit is refused, and so
/// is null where it is not allowed. Columns that the table does not have are null.
///
/// **As a sink**, rows are saved to the table ([`Table`] says what readers see). If the catalog does not have it, it is created
/// over the folder of the files. If it does, the table keeps its partition keys and its columns, and has to be where the files
/// would be: rows are not saved elsewhere than the job says.
///
/// **As both**: a `Dataset<ParquetDataset>` is also a source, which reads what earlier runs have saved. A run reads what was
/// there when it began, also if it overwrites it.
#[derive(Clone, PartialEq)]
pub struct Dataset<F> {
    files: F,
    table: Option<Table>,
    /// Whether reading a sink that was never saved to yields no rows. Sources have their own option for this.
    or_empty: bool,
}

/// Files that may be a table of the catalog: [`Files`] and [`ParquetDataset`].
pub trait DatasetFiles: Sized {
    /// Their name within the job.
    #[doc(hidden)]
    fn name_in_job(&self) -> &str;

    /// The table with the layout of these files.
    #[doc(hidden)]
    fn adapted(&self, table: Table) -> Table;

    /// Like `adapted`, for a table without options so far.
    #[doc(hidden)]
    fn adapted_at_first(&self, table: Table) -> Table {
        self.adapted(table)
    }
}

impl<F: Format> DatasetFiles for Files<F> {
    fn name_in_job(&self) -> &str {
        Source::name(self)
    }

    fn adapted(&self, table: Table) -> Table {
        let table = match self.bookmark() {
            Some(bookmark) => table.bookmarked(bookmark),
            None => table,
        };
        match self.declared_schema().filter(|_| self.is_or_empty()) {
            Some(schema) => table.or_empty(schema),
            None => table,
        }
    }
}

impl DatasetFiles for ParquetDataset {
    fn name_in_job(&self) -> &str {
        Sink::name(self)
    }

    fn adapted(&self, table: Table) -> Table {
        table.written_as(self)
    }

    fn adapted_at_first(&self, table: Table) -> Table {
        let table = self.adapted(table);
        match (self.is_overwrite(), self.is_overwrite_partitions()) {
            (true, _) => table.overwrite(),
            (_, true) => table.overwrite_partitions(),
            _ => table,
        }
    }
}

impl<F: DatasetFiles> Dataset<F> {
    /// Creates a dataset of these files, or of the table with their name if a database is given.
    pub fn new(files: F, database: Option<&DatabaseName>) -> Self {
        let table = database.map(|database| Table::named(database.as_str(), files.name_in_job()));
        Self { table: table.map(|table| files.adapted_at_first(table)), files, or_empty: false }
    }

    /// Gives the table a name that differs from the dataset's name within the job.
    #[must_use]
    pub fn table_named(mut self, name: &str) -> Self {
        self.table = self.table.map(|table| table.renamed(name));
        self
    }

    /// The files, which the table replaces.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// The table, if the run names a database.
    pub fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// Sets options of the table, if the dataset is one:
    ///
    /// ```
    /// # use hardtack_sinks::ParquetDataset;
    /// # use hardtack_tables::{Dataset, SchemaEvolution};
    /// # let sales = Dataset::new(ParquetDataset::new("sales", "s3://lake/sales"), None);
    /// sales.when_table(|table| table.overwrite_partitions().schema_evolution(SchemaEvolution::AddColumns));
    /// ```
    #[must_use]
    pub fn when_table(mut self, choose: impl FnOnce(Table) -> Table) -> Self {
        self.table = self.table.map(choose);
        self
    }

    fn map(mut self, choose: impl FnOnce(F) -> F) -> Self {
        self.files = choose(self.files);
        self.adapted()
    }

    fn adapted(mut self) -> Self {
        self.table = self.table.map(|table| self.files.adapted(table));
        self
    }
}

/// Options of files that are read; for others, build the files first and use [`Dataset::new`].
impl<F: Format> Dataset<Files<F>> {
    /// See [`Files::with_schema`].
    #[must_use]
    pub fn with_schema(self, schema: impl Into<SchemaRef>) -> Self {
        self.map(|files| files.with_schema(schema))
    }

    /// See [`Files::or_empty`].
    #[must_use]
    pub fn or_empty(self) -> Self {
        self.map(Files::or_empty)
    }

    /// See [`Files::file_or_folder`].
    #[must_use]
    pub fn file_or_folder(self) -> Self {
        self.map(Files::file_or_folder)
    }

    /// Reads only what no earlier run has read; see [`Files::bookmarked`] and [`Table::bookmarked`].
    #[must_use]
    pub fn bookmarked(self, bookmark: impl Into<Bookmark>) -> Self {
        self.map(|files| files.bookmarked(bookmark))
    }

    /// See [`Files::with_origin`].
    #[must_use]
    pub fn with_origin(self) -> Self {
        self.map(Files::with_origin)
    }
}

/// Options of files that are written; for others, build the files first and use [`Dataset::new`].
impl Dataset<ParquetDataset> {
    /// See [`ParquetDataset::with_schema`].
    #[must_use]
    pub fn with_schema(self, schema: impl Into<SchemaRef>) -> Self {
        self.map(|files| files.with_schema(schema))
    }

    /// Replaces all rows; see [`ParquetDataset::overwrite`] and [`Table::overwrite`].
    #[must_use]
    pub fn overwrite(self) -> Self {
        self.map(ParquetDataset::overwrite).when_table(Table::overwrite)
    }

    /// Says that the rows that are saved include the earlier ones; see [`ParquetDataset::merges`].
    #[must_use]
    pub fn merges(self) -> Self {
        self.map(ParquetDataset::merges)
    }

    /// Replaces the partitions that have new rows; see [`ParquetDataset::overwrite_partitions`] and
    /// [`Table::overwrite_partitions`].
    #[must_use]
    pub fn overwrite_partitions(self) -> Self {
        self.map(ParquetDataset::overwrite_partitions).when_table(Table::overwrite_partitions)
    }

    /// Replaces these partitions as well; see [`ParquetDataset::also_overwriting`].
    #[must_use]
    pub fn also_overwriting(self, partitions: impl IntoIterator<Item = PartitionValues>) -> Self {
        self.map(|files| files.also_overwriting(partitions)).when_table(Table::overwrite_partitions)
    }

    /// Adds rows and protects them; see [`ParquetDataset::append_only`].
    #[must_use]
    pub fn append_only(self) -> Self {
        self.map(ParquetDataset::append_only).when_table(Table::append)
    }

    /// See [`ParquetDataset::partition_by`].
    #[must_use]
    pub fn partition_by<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        self.map(|files| files.partition_by(columns))
    }

    /// See [`ParquetDataset::with_compression`].
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        self.map(|files| files.with_compression(compression))
    }

    /// Reading a dataset that was never saved to yields no rows instead of an error. Requires a declared schema.
    #[must_use]
    pub fn or_empty(mut self) -> Self {
        self.or_empty = true;
        self
    }

    /// Reads and replaces only the partitions that these rows fall in, if the dataset is an Iceberg table: for a merge, of
    /// the changes with what is there. Files, and tables of files, are read and replaced as a whole. The rows are
    /// computed for it, so they should be [persisted](hardtack_core::Context::persist).
    ///
    /// # Errors
    /// Those of [`Table::touched_by`].
    #[cfg(feature = "iceberg")]
    pub async fn touched_by(mut self, env: &hardtack_core::Environment, rows: &DataFrame) -> Result<Self> {
        if let Some(mut table) = self.table.take() {
            if let Some(schema) = self.files.declared_schema()
                && let Ok(description) = description(&table, &self.files, schema)
            {
                table = table.or_create(description);
            }
            self.table = Some(table.touched_by(env, rows).await?);
        }
        Ok(self)
    }

    /// The dataset as a source.
    fn as_source(&self) -> Result<Dataset<ParquetFiles>> {
        let location = self.files.location().ok_or_else(|| Error::unexpected("a dataset has a location"))?;
        let mut files = ParquetFiles::new(self.files.name_in_job(), location);
        if let Some(schema) = self.files.declared_schema() {
            files = files.with_schema(Arc::clone(schema));
        }
        if !self.files.partition_columns().is_empty() {
            files = files.with_hive_partitions();
        }
        if self.or_empty {
            files = files.or_empty();
        }
        Ok(Dataset { files, table: self.table.clone(), or_empty: false }.adapted())
    }
}

impl<F: fmt::Debug> fmt::Debug for Dataset<F> {
    /// Printed like the files, if it is nothing more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.table.is_none() && !self.or_empty {
            return self.files.fmt(f);
        }
        let mut f = f.debug_struct("Dataset");
        if let Some(table) = &self.table {
            f.field("table", &table.qualified_name());
        }
        f.field("files", &self.files);
        if self.or_empty {
            f.field("or_empty", &true);
        }
        f.finish()
    }
}

#[async_trait]
impl<F: Format> Source for Dataset<Files<F>> {
    fn name(&self) -> &str {
        self.files.name()
    }

    fn location(&self) -> Option<Location> {
        if self.table.is_some() { None } else { self.files.location() }
    }

    fn catalog_table(&self) -> Option<NamedTable> {
        self.table.as_ref().and_then(Source::catalog_table)
    }

    fn has_files_beside(&self) -> bool {
        self.table.is_none() && self.files.has_files_beside()
    }

    fn is_bookmarked(&self) -> bool {
        self.table.as_ref().map_or(self.files.is_bookmarked(), Source::is_bookmarked)
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        let Some(table) = &self.table else { return self.files.load(ctx).await };
        let rows = table.load(ctx).await.map_err(|e| missing(e, table))?;
        let Some(schema) = self.files.declared_schema() else { return Ok(rows) };
        let declared = coerce_to_schema_with(fold_names(rows, &schema)?, &schema, Missing::FillWithNull);
        declared.map_err(|e| e.with("table", table.qualified_name()))
    }

    async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef> {
        match (&self.table, self.files.declared_schema()) {
            (Some(table), None) => table.schema(ctx).await.map_err(|e| missing(e, table)),
            _ => self.files.schema(ctx).await,
        }
    }

    async fn conform(&self, ctx: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        match (&self.table, self.files.declared_schema()) {
            (Some(table), None) => Source::conform(table, ctx, rows).await,
            _ => self.files.conform(ctx, rows).await,
        }
    }
}

/// With a hint for a table that is not there.
fn missing(error: Error, table: &Table) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let crawl = format!("`hardtack crawl LOCATION --database {}` makes tables of files", table.database());
    error.hint(crawl + "; without a database the job reads the files themselves")
}

/// Reads the rows that earlier runs have saved.
#[async_trait]
impl Source for Dataset<ParquetDataset> {
    fn name(&self) -> &str {
        self.files.name_in_job()
    }

    fn location(&self) -> Option<Location> {
        Sink::location(self)
    }

    fn catalog_table(&self) -> Option<NamedTable> {
        Sink::catalog_table(self)
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        self.as_source()?.load(ctx).await
    }

    async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef> {
        self.as_source()?.schema(ctx).await
    }

    async fn conform(&self, ctx: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        self.as_source()?.conform(ctx, rows).await
    }
}

#[async_trait]
impl Sink for Dataset<ParquetDataset> {
    fn name(&self) -> &str {
        self.files.name()
    }

    fn location(&self) -> Option<Location> {
        if self.table.is_some() { None } else { self.files.location() }
    }

    fn catalog_table(&self) -> Option<NamedTable> {
        let named = Sink::catalog_table(self.table.as_ref()?)?;
        Some(NamedTable { created_at: self.files.location(), ..named })
    }

    fn declared_schema(&self) -> Option<SchemaRef> {
        Sink::declared_schema(&self.files)
    }

    fn replaces(&self) -> bool {
        self.table.as_ref().map_or(self.files.replaces(), Sink::replaces)
    }

    fn deletes(&self) -> bool {
        self.table.as_ref().map_or(self.files.deletes(), Sink::deletes)
    }

    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged> {
        let Some(table) = &self.table else { return self.files.stage(ctx, rows).await };
        let (table, rows, created) = self.as_table(table, rows)?;
        match (table.stage(ctx, rows).await, created) {
            (Err(e), Err(why)) if e.kind() == ErrorKind::NotFound => Err(why.with("table", table.qualified_name())),
            (staged, _) => staged,
        }
    }

    async fn conform(&self, ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        let Some(table) = &self.table else { return self.files.conform(ctx, rows).await };
        let (table, rows, created) = self.as_table(table, rows)?;
        match (ctx.catalog_handle(), created) {
            // Nobody knows of a table that is there.
            (Err(_), Err(why)) => Err(why.with("table", table.qualified_name())),
            _ => Sink::conform(&table, ctx, rows).await,
        }
    }
}

impl Dataset<ParquetDataset> {
    /// The rows as they were declared, the table that is created over the folder of the files if it is not there, and why
    /// none can be.
    fn as_table(&self, table: &Table, rows: DataFrame) -> Result<(Table, DataFrame, Result<()>)> {
        let rows = match self.files.declared_schema() {
            Some(schema) => coerce_to_schema(rows, schema)?,
            None => rows,
        };
        Ok(match description(table, &self.files, rows.schema().as_arrow()) {
            Ok(description) => (table.clone().or_create(description), rows, Ok(())),
            // A table that is there may take what none can be made of.
            Err(why) => (table.clone(), rows, Err(why)),
        })
    }
}

/// The table that has these files, with these rows in them.
fn description(table: &Table, files: &ParquetDataset, rows: &Schema) -> Result<TableDescription> {
    let location = files.location().ok_or_else(|| Error::unexpected("a dataset has a location"))?;
    // Readers work in other folders.
    let location = location.absolute()?;
    let mut columns = columns_of(rows)?;
    let mut keys = Vec::new();
    for key in files.partition_columns() {
        let found = columns.iter().position(|column| same_name(&column.name, key));
        let found = found.ok_or_else(|| Error::usage("the rows lack a partition column").with("column", key))?;
        keys.push(columns.remove(found));
    }
    let description = TableDescription::new(table.database(), table.table(), &TableFormat::Parquet, location);
    Ok(description.with_columns(columns).with_partition_keys(keys))
}
