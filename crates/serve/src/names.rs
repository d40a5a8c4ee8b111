//! What clients find in `pg_catalog`: the tables of the run's catalog.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;
use hardtack_catalog::{CatalogHandle, CatalogOf, schema_from_catalog};
use hardtack_core::{Error, ErrorKind, JobContext, Result};
use tokio::sync::Mutex;

/// What the one database of the server is called.
pub(crate) const DATABASE: &str = "hardtack";

/// Makes tables known by name to all sessions that come of this context, also to those who look into `pg_catalog`.
pub(crate) fn register(ctx: &JobContext) -> Result<()> {
    let session = ctx.session();
    let catalog = ctx.catalog_handle()?;
    if session.catalog(DATABASE).is_some() {
        return Ok(());
    }
    DATABASE.clone_into(&mut session.state_ref().write().config_mut().options_mut().catalog.default_catalog);
    let own = Arc::new(MemoryCatalogProvider::new());
    session.register_catalog(DATABASE, Arc::clone(&own) as Arc<dyn CatalogProvider>);
    setup_pg_catalog(session, DATABASE, EmptyContextProvider).map_err(|e| Error::from(*e))?;
    // It looks at names that are known without asking anybody; ours asks.
    let tables = Tables { catalog, listed: Arc::default() };
    let provider =
        PgCatalogSchemaProvider::try_new(tables, Arc::new(PgCatalogStaticTables::try_new()?), EmptyContextProvider)?;
    own.register_schema("pg_catalog", Arc::new(provider))?;
    hardtack_tables::register_names(ctx)
}

/// Lets a session know where it is: in this schema.
pub(crate) fn enter(session: &SessionContext, schema: &str) {
    schema.clone_into(&mut session.state_ref().write().config_mut().options_mut().catalog.default_schema);
    for (name, value) in [("current_database", DATABASE), ("current_catalog", DATABASE), ("current_schema", schema)] {
        let value = ColumnarValue::Scalar(ScalarValue::from(value));
        let constant = move |_: &[ColumnarValue]| Ok(value.clone());
        session.register_udf(create_udf(name, vec![], DataType::Utf8, Volatility::Stable, Arc::new(constant)));
    }
}

/// How long a listing is good for: clients ask for it table by table.
const GOOD_FOR: Duration = Duration::from_secs(2);

type Columns = Arc<Vec<(String, SchemaRef)>>;

/// The tables of the catalog, as they were a moment ago.
#[derive(Debug, Clone)]
struct Tables {
    catalog: Arc<CatalogHandle>,
    listed: Arc<Mutex<HashMap<String, (Instant, Columns)>>>,
}

impl Tables {
    async fn of(&self, database: &str) -> Result<Option<Columns>> {
        let mut listed = self.listed.lock().await;
        if let Some((_, tables)) = listed.get(database).filter(|(at, _)| at.elapsed() < GOOD_FOR) {
            return Ok(Some(Arc::clone(tables)));
        }
        let tables = match self.catalog.open().await?.list_tables(database).await {
            Ok(tables) => tables,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        // Those that nobody can read have no columns.
        let columns = tables.into_iter().map(|table| {
            let schema = schema_from_catalog(&table).unwrap_or_else(|_| Arc::new(Schema::empty()));
            (table.name, schema)
        });
        let tables: Columns = Arc::new(columns.collect());
        listed.insert(database.to_owned(), (Instant::now(), Arc::clone(&tables)));
        Ok(Some(tables))
    }
}

#[async_trait]
impl CatalogInfo for Tables {
    async fn catalog_names(&self) -> Result<Vec<String>, DataFusionError> {
        Ok(vec![DATABASE.to_owned()])
    }

    async fn schema_names(&self, _: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        let databases = self.catalog.open().await?.list_databases().await?;
        let own = ["pg_catalog", "information_schema"].map(str::to_owned);
        Ok(Some(own.into_iter().chain(databases.into_iter().map(|database| database.name)).collect()))
    }

    async fn table_names(&self, _: &str, schema: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        let tables = self.of(schema).await?;
        Ok(Some(tables.iter().flat_map(|tables| tables.iter().map(|(name, _)| name.clone())).collect()))
    }

    async fn table_schema(&self, _: &str, schema: &str, table: &str) -> Result<Option<SchemaRef>, DataFusionError> {
        let tables = self.of(schema).await?;
        Ok(tables.and_then(|tables| tables.iter().find(|(name, _)| name == table).map(|(_, s)| Arc::clone(s))))
    }

    async fn table_type(&self, _: &str, schema: &str, table: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(self.table_schema(DATABASE, schema, table).await?.map(|_| TableType::Base))
    }
}
