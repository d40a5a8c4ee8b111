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
use hardtack_core::{ErrorKind, JobContext, Result, Source};
use hardtack_transforms::{Missing, coerce_to_schema_with};

use crate::evolution::fold_names;
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

    /// A provider whose reads are counted for the source `source`.
    async fn provider(&self, ctx: &JobContext, source: &str) -> Result<Arc<dyn TableProvider>> {
        match (CatalogTable::open_as(ctx, self, source).await, &self.or_empty) {
            (Ok(table), _) => Ok(Arc::new(table)),
            (Err(e), Some(schema)) if e.kind() == ErrorKind::NotFound => {
                Ok(Arc::new(EmptyTable::new(Arc::clone(schema))))
            }
            (Err(e), _) => Err(e),
        }
    }

    /// Loads its rows, counted for the source `source`.
    pub(crate) async fn load_as(&self, ctx: &JobContext, source: &str) -> Result<DataFrame> {
        let source = provider_as_source(self.provider(ctx, source).await?);
        // Qualified by its own name, so that two tables with a column of the same name can be joined.
        let plan =
            LogicalPlanBuilder::scan(TableReference::partial(self.database(), self.table()), source, None)?.build()?;
        Ok(DataFrame::new(ctx.session().state(), plan))
    }
}

#[async_trait]
impl Source for Table {
    fn name(&self) -> &str {
        self.qualified_name()
    }

    async fn load(&self, ctx: &JobContext) -> Result<DataFrame> {
        self.load_as(ctx, self.qualified_name()).await
    }

    /// The schema from the catalog; no file is listed.
    async fn schema(&self, ctx: &JobContext) -> Result<SchemaRef> {
        Ok(self.provider(ctx, self.qualified_name()).await?.schema())
    }

    /// Coerces rows to the table's columns if the context has a catalog with the table, or else to the declared
    /// columns.
    async fn conform(&self, ctx: &JobContext, rows: DataFrame) -> Result<DataFrame> {
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
