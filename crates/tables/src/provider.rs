//! A table of the catalog as DataFusion scans it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DFResult, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use hardtack_catalog::{self as catalog, Catalog, CatalogOf, NULL_PARTITION, Partition, schema_from_catalog};
use hardtack_core::{Error, LoadContext, Location, Meter, Result};
use hardtack_sources::{Bookmark, FileFilter, Folder, FolderScan, NewFiles, partition_value};

use crate::Table;
use crate::filters::predicate;
use crate::format::{NANOSECONDS, TRUNCATE, file_format};
use crate::selection::{self, TYPES};

/// A table of the catalog as DataFusion scans it: lazily. Creating one requests only the table's description. A scan
/// requests the partitions that its filters leave, in pages, and lists the folders of those and no others.
///
/// Filters on partition keys are evaluated by the catalog, as far as [`Predicate`](hardtack_catalog::Predicate) can
/// express them, and on the partitions' values; no rows are read for them.
pub struct CatalogTable {
    description: catalog::TableDescription,
    catalog: Arc<dyn Catalog>,
    scan: FolderScan,
    /// Which files of its folders belong to it.
    wanted: FileFilter,
}

impl fmt::Debug for CatalogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CatalogTable").field(&self.description.qualified_name()).finish()
    }
}

impl CatalogTable {
    /// Opens the table of this name in the run's catalog. Reads are counted for the source that is being loaded.
    ///
    /// # Errors
    /// [`NotFound`](hardtack_core::ErrorKind::NotFound) if the catalog has no such table, and as for
    /// [`CatalogTable::new`].
    pub async fn open(ctx: &LoadContext, table: &Table) -> Result<Self> {
        let catalog = ctx.catalog().await?;
        let description = catalog.get_table(table.database(), table.table()).await?;
        Self::new(catalog, description, ctx.meter())
    }

    /// A table that was read from `catalog`. `meter` counts what is read of it.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if it is not a table of files (a view, an Iceberg table), if its
    /// format or a column's type is not supported, or if a column is duplicate.
    pub fn new(catalog: Arc<dyn Catalog>, description: catalog::TableDescription, meter: Arc<Meter>) -> Result<Self> {
        description.location()?;
        file_format(&description, None)?;
        let schema = schema_from_catalog(&description)?;
        let truncates = description.parameters.get(NANOSECONDS).is_some_and(|how| how == TRUNCATE);
        // A column that was set to text takes every value.
        let said = selection::listed(&description, TYPES)?;
        let scan = FolderScan::new(&schema, description.partition_keys.len(), meter)
            .with_truncated_timestamps(truncates)
            .with_json_text(&said);
        let wanted = selection::file_filter(&description)?;
        Ok(Self { description, catalog, scan, wanted })
    }

    /// The catalog's description of the table.
    pub fn description(&self) -> &catalog::TableDescription {
        &self.description
    }

    /// How its folders are read.
    #[cfg(feature = "iceberg")]
    pub(crate) fn by_folder(&self) -> &FolderScan {
        &self.scan
    }

    /// The folders of the table that may contain rows for these filters, which are on partition keys only.
    pub(crate) async fn folders(&self, filters: &[Expr], session: &dyn Session) -> Result<Vec<Folder>> {
        let table = &self.description;
        if table.partition_keys.is_empty() {
            let (location, format) = (table.location()?.clone(), file_format(table, None)?);
            return Ok(vec![Folder { location, format, values: Vec::new(), wanted: self.wanted.clone() }]);
        }
        let wanted = predicate(table, filters);
        tracing::debug!(table = table.qualified_name(), predicate = %wanted, "listing partitions");
        let mut pages = self.catalog.list_partitions(table, &wanted);
        let mut folders = Vec::new();
        while let Some(page) = pages.try_next().await? {
            let values = page.iter().map(|p| self.values(p)).collect::<Result<Vec<_>>>()?;
            let keep = self.scan.select(&values.iter().map(Vec::as_slice).collect::<Vec<_>>(), filters, session)?;
            for ((partition, values), _) in page.iter().zip(values).zip(keep).filter(|(_, keep)| *keep) {
                let format = file_format(table, Some(partition))?;
                let (location, wanted) = (self.location(partition)?, self.wanted.clone());
                folders.push(Folder { location, format, values, wanted });
            }
        }
        // Catalogs return partitions in any order; rows should have a stable one.
        folders.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(folders)
    }

    /// The rows of the files that no run before this one has read.
    pub(crate) async fn new_rows(self, bookmark: Bookmark, ctx: &LoadContext) -> Result<NewRows> {
        let folders = self.folders(&[], &ctx.session().state()).await?;
        let files = self.scan.new_files(folders, bookmark, self.description.location()?, ctx).await;
        let files = files.map_err(|e| e.with("table", self.description.qualified_name()))?;
        Ok(NewRows { table: self, files })
    }

    fn values(&self, partition: &Partition) -> Result<Vec<ScalarValue>> {
        let texts = partition.values.iter().map(|v| (v != NULL_PARTITION).then_some(v.as_str()));
        let values = self.scan.partition_columns().iter().zip(texts).map(|(key, text)| partition_value(key, text));
        values.collect::<Result<_>>().map_err(|e| {
            let name = self.description.partition_name(&partition.values);
            e.with("table", self.description.qualified_name()).with("partition", name)
        })
    }

    fn location(&self, partition: &Partition) -> Result<Location> {
        match &partition.storage.location {
            Some(location) => Ok(location.clone()),
            None => Ok(self.description.location()?.join(self.description.partition_name(&partition.values))),
        }
    }
}

/// The rows of a table that are new to a run.
#[derive(Debug)]
pub(crate) struct NewRows {
    table: CatalogTable,
    files: NewFiles,
}

#[async_trait]
impl TableProvider for NewRows {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        self.files.plan(projection, filters, limit, session)
    }
}

/// The error for changing a table by SQL.
pub(crate) fn read_only(table: &str) -> Error {
    Error::usage(format!("`{table}` is in the catalog, which is read-only in SQL"))
        .hint("save to it: `ctx.save(Table::named(database, table), rows)`")
}

#[async_trait]
impl TableProvider for CatalogTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.scan.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.scan.is_about_partitions(filter) {
            true => TableProviderFilterPushDown::Exact,
            // Parquet gets its filters from the physical plan, where they are pushed down as well.
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let folders = self.folders(filters, session).await?;
        self.scan.plan(folders, projection, limit, session).await
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        _: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        Err(read_only(&self.description.qualified_name()).into())
    }
}
