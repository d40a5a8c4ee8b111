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
use hardtack_core::{Error, JobContext, Location, Meter, Result};
use hardtack_sources::{Folder, FolderScan, Wanted, partition_value};

use crate::Table;
use crate::filters::predicate;
use crate::format::{NANOSECONDS, TRUNCATE, file_format};
use crate::selection::{self, TYPES};

/// A table of the catalog as DataFusion scans it: lazily. Making one asks for the table's description only. A scan asks
/// for the partitions that its filters leave, by pages, and lists the folders of those and no others.
///
/// Filters on partition keys are answered by the catalog, as far as its [`Predicate`](hardtack_catalog::Predicate) goes,
/// and by the partitions' values; no row is read for them.
pub struct CatalogTable {
    description: catalog::Table,
    catalog: Arc<dyn Catalog>,
    scan: FolderScan,
    /// Which files of its folders it has.
    wanted: Wanted,
}

impl fmt::Debug for CatalogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CatalogTable").field(&self.description.qualified_name()).finish()
    }
}

impl CatalogTable {
    /// The table of this name in the catalog of the run. What is read is counted for the source of the same name.
    ///
    /// # Errors
    /// [`NotFound`](hardtack_core::ErrorKind::NotFound) if the catalog has no such table, and those of
    /// [`CatalogTable::new`].
    pub async fn open(ctx: &JobContext, table: &Table) -> Result<Self> {
        Self::open_as(ctx, table, table.qualified_name()).await
    }

    pub(crate) async fn open_as(ctx: &JobContext, table: &Table, source: &str) -> Result<Self> {
        let catalog = ctx.catalog().await?;
        let description = catalog.get_table(table.database(), table.table()).await?;
        Self::new(catalog, description, ctx.meters().source(source))
    }

    /// A table that has been read from `catalog`. What is read of it is counted by `meter`.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for what is not a table of files (a view, a table of Iceberg), a format
    /// or a column's type that this framework does not know, or a column that is there twice.
    pub fn new(catalog: Arc<dyn Catalog>, description: catalog::Table, meter: Arc<Meter>) -> Result<Self> {
        description.location()?;
        file_format(&description, None)?;
        let schema = schema_from_catalog(&description)?;
        let truncates = description.parameters.get(NANOSECONDS).is_some_and(|how| how == TRUNCATE);
        // What was said to be a text takes everything.
        let said = selection::listed(&description, TYPES)?;
        let scan = FolderScan::new(&schema, description.partition_keys.len(), meter)
            .with_truncated_timestamps(truncates)
            .with_json_text(&said);
        let wanted = selection::wanted(&description)?;
        Ok(Self { description, catalog, scan, wanted })
    }

    /// What the catalog says of the table.
    pub fn description(&self) -> &catalog::Table {
        &self.description
    }

    /// The folders of the table that can hold rows for which the filters hold; they are about partition keys only.
    async fn folders(&self, filters: &[Expr], session: &dyn Session) -> Result<Vec<Folder>> {
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
        // Catalogs give partitions in any order; rows should not.
        folders.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(folders)
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

/// Somebody wants to change a table by SQL.
pub(crate) fn read_only(table: &str) -> Error {
    Error::usage(format!("`{table}` is in the catalog, which SQL only reads"))
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
            // Parquet takes filters from the physical plan, where they are pushed down too.
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
