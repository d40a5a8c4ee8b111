//! Files that may be a table: what a job declares once, by path and by name.

use std::fmt;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::prelude::DataFrame;
use hardtack_catalog::{CatalogOf, DatabaseName, TableDescription, TableFormat, columns_of};
use hardtack_core::{Error, ErrorKind, LoadContext, Location, Result, Sink, Source, StageContext, Staged};
use hardtack_sinks::ParquetDataset;
use hardtack_sources::{Files, Format};
use hardtack_transforms::{Missing, coerce_to_schema, coerce_to_schema_with};

use crate::Table;
use crate::evolution::{fold_names, same_name};

/// Files, or a table of the catalog in their place if a database is named. What is declared of the files, above all their
/// schema, holds for the table, so that a job says it once and runs with and without a catalog.
///
/// ```
/// use hardtack_catalog::{DatabaseName, schema};
/// use hardtack_sinks::ParquetDataset;
/// use hardtack_tables::{InDatabase, OrTable};
///
/// /// The books, in `TARGET/books`; also as a table, if the job is told in which database.
/// fn books(target_database: Option<&DatabaseName>) -> OrTable<ParquetDataset> {
///     ParquetDataset::new("books", "s3://lake/books")
///         .with_schema(schema! { title: string not null, pages: int })
///         .overwrite()
///         .in_database(target_database, "books")
/// }
///
/// assert_eq!(books(None).table(), None);
/// let database = "glue_reference".parse()?;
/// assert_eq!(books(Some(&database)).table().unwrap().qualified_name(), "glue_reference.books");
/// # Ok::<_, hardtack_core::Error>(())
/// ```
///
/// The name inside the job stays that of the files: tests of `main` need not know which it is.
///
/// As a source, rows come from where the catalog says and have the columns that were declared, in their order; a value
/// that does not fit is refused, and so is null where it is not allowed. Columns that the table does not have are null.
///
/// As a sink, the rows are saved to the table ([`Table`] has what readers see), which is created over the folder
/// of the files if the catalog does not have it. A table that is there keeps its partition keys and its columns, and has to
/// be where the files would be: rows are not saved elsewhere than the job says.
#[derive(Clone, PartialEq)]
pub struct OrTable<F> {
    files: F,
    table: Option<Table>,
}

impl<F> OrTable<F> {
    /// The table, if a database was named.
    pub fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// Chooses how the table is read or saved to, if it is one:
    ///
    /// ```
    /// # use hardtack_sinks::ParquetDataset;
    /// # use hardtack_tables::{InDatabase, SchemaEvolution};
    /// # let sales = ParquetDataset::new("sales", "s3://lake/sales").in_database(None, "sales");
    /// sales.when_table(|table| table.overwrite_partitions().schema_evolution(SchemaEvolution::AddColumns));
    /// ```
    #[must_use]
    pub fn when_table(mut self, choose: impl FnOnce(Table) -> Table) -> Self {
        self.table = self.table.map(choose);
        self
    }
}

impl<F: fmt::Debug> fmt::Debug for OrTable<F> {
    /// As the files, if they are no table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.table {
            None => self.files.fmt(f),
            Some(table) => {
                f.debug_struct("OrTable").field("table", &table.qualified_name()).field("files", &self.files).finish()
            }
        }
    }
}

/// What can be a table of the catalog instead.
pub trait InDatabase: Sized {
    /// The table of this name, if a database is named, in place of the files.
    fn in_database(self, database: Option<&DatabaseName>, table: &str) -> OrTable<Self>;
}

impl<F: Format> InDatabase for Files<F> {
    fn in_database(self, database: Option<&DatabaseName>, table: &str) -> OrTable<Self> {
        let table = database.map(|database| {
            let table = Table::named(database.as_str(), table);
            match self.declared_schema().filter(|_| self.is_or_empty()) {
                Some(schema) => table.or_empty(schema),
                None => table,
            }
        });
        OrTable { files: self, table }
    }
}

#[async_trait]
impl<F: Format> Source for OrTable<Files<F>> {
    fn name(&self) -> &str {
        self.files.name()
    }

    fn location(&self) -> Option<Location> {
        if self.table.is_some() { None } else { self.files.location() }
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

/// With the way out for a table that is not there.
fn missing(error: Error, table: &Table) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let crawl = format!("`hardtack crawl LOCATION --database {}` makes tables of files", table.database());
    error.hint(crawl + "; without a database the job reads the files themselves")
}

impl InDatabase for ParquetDataset {
    fn in_database(self, database: Option<&DatabaseName>, table: &str) -> OrTable<Self> {
        let table = database.map(|database| {
            let table = Table::named(database.as_str(), table).written_as(&self);
            if self.is_overwrite() { table.overwrite() } else { table }
        });
        OrTable { files: self, table }
    }
}

#[async_trait]
impl Sink for OrTable<ParquetDataset> {
    fn name(&self) -> &str {
        self.files.name()
    }

    fn location(&self) -> Option<Location> {
        if self.table.is_some() { None } else { self.files.location() }
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

impl OrTable<ParquetDataset> {
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
