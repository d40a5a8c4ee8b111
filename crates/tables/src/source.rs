//! A table as a source.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;
use datafusion::sql::TableReference;
use hardtack_catalog::CatalogOf;
use hardtack_core::{ErrorKind, LoadContext, NamedTable, Result, Source};
use hardtack_transforms::{Missing, coerce_to_schema_with};

use crate::column::{Kind, TableBookmark};
use crate::evolution::fold_names;
use crate::opened::opened;
use crate::{CatalogTable, Table};

impl Table {
    /// As a source: treats a table that the catalog does not have as one without rows, with these columns. For jobs
    /// that read their own output, which does not exist in the first run. An existing table has the columns of the
    /// catalog.
    #[must_use]
    pub fn or_empty(mut self, schema: impl Into<SchemaRef>) -> Self {
        self.or_empty = Some(schema.into());
        self
    }

    /// As a source: reads only what no earlier run of the job (and scope) has read.
    ///
    /// By a [`Bookmark`](hardtack_sources::Bookmark), these are new files, in new partitions and in those that were there;
    /// see [`Files::bookmarked`](hardtack_sources::Files::bookmarked). All partitions are listed, whatever the bookmark. A
    /// partition that was overwritten since is new as a whole. [`ByColumn`](crate::ByColumn), these are rows with a higher
    /// value of a column.
    ///
    /// ```
    /// use hardtack_sources::Bookmark;
    /// use hardtack_tables::Table;
    ///
    /// let orders = Table::named("lake", "orders").bookmarked(Bookmark::by_modification_time());
    /// assert!(format!("{orders:?}").contains("bookmark: by modification time"));
    /// ```
    #[must_use]
    pub fn bookmarked(mut self, bookmark: impl Into<TableBookmark>) -> Self {
        self.bookmark = Some(bookmark.into());
        self
    }

    pub(crate) fn named_table(&self) -> NamedTable {
        let created_at = self.writing.create.as_ref().and_then(|table| table.location().ok().cloned());
        NamedTable { database: self.database().to_owned(), table: self.table().to_owned(), created_at }
    }

    /// The table, or what is new in it.
    async fn rows(&self, ctx: &LoadContext) -> Result<Arc<dyn TableProvider>> {
        let Some(TableBookmark(Kind::Files(bookmark))) = self.bookmark else { return self.provider(ctx).await };
        match (CatalogTable::open(ctx, self).await, &self.or_empty) {
            (Ok(table), _) => Ok(Arc::new(table.new_rows(bookmark, ctx).await?)),
            (Err(e), Some(_)) if e.kind() == ErrorKind::NotFound => self.provider(ctx).await,
            (Err(e), _) => Err(e),
        }
    }

    async fn provider(&self, ctx: &LoadContext) -> Result<Arc<dyn TableProvider>> {
        let open = async {
            let catalog = ctx.catalog().await?;
            let description = catalog.get_table(self.database(), self.table()).await?;
            opened(ctx, catalog, description, None, ctx.meter()).await
        };
        match (open.await, &self.or_empty) {
            (Ok(table), _) => Ok(table),
            (Err(e), Some(schema)) if e.kind() == ErrorKind::NotFound => {
                Ok(Arc::new(EmptyTable::new(Arc::clone(schema))))
            }
            (Err(e), _) => Err(e),
        }
    }
}

#[async_trait]
impl Source for Table {
    fn name(&self) -> &str {
        self.qualified_name()
    }

    fn catalog_table(&self) -> Option<NamedTable> {
        Some(self.named_table())
    }

    fn is_bookmarked(&self) -> bool {
        self.bookmark.is_some()
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        #[cfg(feature = "iceberg")]
        if let Some(rows) = self.iceberg_rows(ctx).await? {
            return Ok(rows);
        }
        let source = provider_as_source(self.rows(ctx).await?);
        // Qualified by its own name, so that two tables with a column of the same name can be joined.
        let name = TableReference::partial(self.database(), self.table());
        let plan = LogicalPlanBuilder::scan(name, source, None)?.build()?;
        let rows = DataFrame::new(ctx.session().state(), plan);
        match &self.bookmark {
            Some(TableBookmark(Kind::Column(by))) => by.new_rows(rows, self.qualified_name(), ctx),
            _ => Ok(rows),
        }
    }

    /// The schema from the catalog; no file is listed.
    async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef> {
        Ok(self.provider(ctx).await?.schema())
    }

    /// Coerces rows to the table's columns if the context has a catalog with the table, or else to the declared
    /// columns.
    async fn conform(&self, ctx: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        let schema = match ctx.catalog_handle() {
            Ok(_) => Some(self.schema(ctx).await?),
            Err(_) => self.or_empty.clone(),
        };
        match schema {
            Some(schema) => coerce_to_schema_with(fold_names(rows, &schema)?, &schema, Missing::FillWithNull),
            None => Ok(rows),
        }
    }
}
