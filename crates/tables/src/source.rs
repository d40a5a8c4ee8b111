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
use hardtack_core::{ErrorKind, LoadContext, Result, Source};
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

    async fn provider(&self, ctx: &LoadContext) -> Result<Arc<dyn TableProvider>> {
        match (CatalogTable::open(ctx, self).await, &self.or_empty) {
            (Ok(table), _) => Ok(Arc::new(table)),
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

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        let source = provider_as_source(self.provider(ctx).await?);
        // Qualified by its own name, so that two tables with a column of the same name can be joined.
        let name = TableReference::partial(self.database(), self.table());
        let plan = LogicalPlanBuilder::scan(name, source, None)?.build()?;
        Ok(DataFrame::new(ctx.session().state(), plan))
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
