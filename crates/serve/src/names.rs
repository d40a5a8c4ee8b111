//! The tables of the run's catalog in `pg_catalog`.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, MemTable, MemoryCatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::{TableType, ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr_fn::SimpleScalarUDF;
use datafusion::logical_expr::{ColumnarValue, LogicalPlanBuilder, ScalarUDF, Signature, Volatility, cast, create_udf};
use datafusion::prelude::{Expr, SessionContext, ident, lit};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;
use hardtack_catalog::{CatalogHandle, CatalogOf, schema_from_catalog};
use hardtack_core::{Error, ErrorKind, JobContext, Result};
use tokio::sync::Mutex;

/// The name of the server's only database.
pub(crate) const DATABASE: &str = "hardtack";

/// Registers tables by name, and in `pg_catalog`, for all sessions derived from this context.
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
    // DataFusion's own only lists names that are known synchronously; ours lists the catalog.
    let tables = Tables { catalog, listed: Arc::default() };
    let provider =
        PgCatalogSchemaProvider::try_new(tables, Arc::new(PgCatalogStaticTables::try_new()?), EmptyContextProvider)?;
    own.register_schema("pg_catalog", Arc::new(PgCatalog { provider: Arc::new(provider), settings: settings()? }))?;
    no_indexes_and_no_routines(session);
    hardtack_tables::register_names(ctx)
}

/// The tables and functions that drivers query for indexes, keys and functions. There are none here, so the answers are
/// empty, but the queries must be planned.
fn no_indexes_and_no_routines(session: &SessionContext) {
    let fields = ["x", "n"].map(|name| Field::new(name, DataType::Int32, true));
    for (name, of) in [
        ("_pg_expandarray", DataType::Struct(fields.to_vec().into())),
        ("col_description", DataType::Utf8),
        ("obj_description", DataType::Utf8),
        ("pg_get_indexdef", DataType::Utf8),
        ("shobj_description", DataType::Utf8),
        ("pg_get_function_result", DataType::Utf8),
        ("pg_get_function_arguments", DataType::Utf8),
        ("pg_get_function_identity_arguments", DataType::Utf8),
    ] {
        let null = of.clone();
        let answer = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::try_from(&null)?));
        let signature = Signature::variadic_any(Volatility::Stable);
        let function = SimpleScalarUDF::new_with_signature(name, signature, of, Arc::new(answer));
        session.register_udf(ScalarUDF::from(function));
    }
}

/// Settings that drivers look up; [`datafusion_postgres`] has one of them.
const SETTINGS: [(&str, &str); 8] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "on"),
    ("max_identifier_length", "63"),
    // The maximum number of columns of a key; no table here has one.
    ("max_index_keys", "32"),
    ("server_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

fn settings() -> Result<Arc<dyn TableProvider>> {
    let texts = |of: fn(&(&'static str, &'static str)) -> &'static str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(SETTINGS.iter().map(of)))
    };
    let missing = || new_null_array(&DataType::Utf8, SETTINGS.len());
    let mut columns = vec![("name", texts(|s| s.0)), ("setting", texts(|s| s.1))];
    columns.extend(
        ["unit", "category", "short_desc", "extra_desc", "context", "vartype", "source"].map(|n| (n, missing())),
    );
    columns.extend(["min_val", "max_val", "enumvals", "boot_val", "reset_val", "sourcefile"].map(|n| (n, missing())));
    columns.push(("sourceline", new_null_array(&DataType::Int32, SETTINGS.len())));
    columns.push(("pending_restart", Arc::new(BooleanArray::from(vec![false; SETTINGS.len()]))));
    let rows = RecordBatch::try_from_iter(columns).map_err(DataFusionError::from)?;
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

/// The schema `pg_catalog`, with more settings.
#[derive(Debug)]
struct PgCatalog {
    provider: Arc<dyn SchemaProvider>,
    settings: Arc<dyn TableProvider>,
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_names(&self) -> Vec<String> {
        self.provider.table_names()
    }

    async fn table(&self, name: &str) -> datafusion::error::Result<Option<Arc<dyn TableProvider>>> {
        if name == "pg_settings" {
            return Ok(Some(Arc::clone(&self.settings)));
        }
        let Some(table) = self.provider.table(name).await? else { return Ok(None) };
        Ok(Some(match name {
            "pg_index" | "pg_constraint" => with_lists(&table)?,
            "pg_class" => with_privileges(table)?,
            "pg_type" => match self.provider.table("pg_namespace").await? {
                Some(namespaces) => in_namespace(table, namespaces)?,
                None => table,
            },
            _ => table,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.provider.table_exist(name)
    }
}

/// Columns that are lists in PostgreSQL, but texts in the library's tables.
const LISTS: [&str; 6] = ["conexclop", "confkey", "conkey", "indkey", "indoption", "indclass"];

/// The same table, with lists where PostgreSQL has them. There are no indexes and no keys.
fn with_lists(table: &Arc<dyn TableProvider>) -> datafusion::error::Result<Arc<dyn TableProvider>> {
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int16, true)));
    let fields = table
        .schema()
        .fields()
        .iter()
        .map(|field| match LISTS.contains(&field.name().as_str()) {
            true => Field::new(field.name(), list.clone(), true),
            false => field.as_ref().clone(),
        })
        .collect::<Vec<_>>();
    Ok(Arc::new(MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]])?))
}

/// The same table with a column of privileges, which are null.
fn with_privileges(table: Arc<dyn TableProvider>) -> datafusion::error::Result<Arc<dyn TableProvider>> {
    let schema = table.schema();
    let all = schema.fields().iter().map(|field| ident(field.name()));
    let columns: Vec<Expr> = all.chain([lit(ScalarValue::Utf8(None)).alias("relacl")]).collect();
    let plan = LogicalPlanBuilder::scan("pg_class", provider_as_source(table), None)?.project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// The types of PostgreSQL, in the schema `pg_catalog` of this server.
fn in_namespace(
    table: Arc<dyn TableProvider>,
    namespaces: Arc<dyn TableProvider>,
) -> datafusion::error::Result<Arc<dyn TableProvider>> {
    let schema = table.schema();
    let own = LogicalPlanBuilder::scan("n", provider_as_source(namespaces), None)?
        .filter(ident("nspname").eq(lit("pg_catalog")))?
        .project([ident("oid").alias("own")])?
        .build()?;
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "typnamespace" => cast(ident("own"), field.data_type().clone()).alias("typnamespace"),
        name => ident(name),
    });
    let plan = LogicalPlanBuilder::scan("pg_type", provider_as_source(table), None)?
        .cross_join(own)?
        .project(columns.collect::<Vec<_>>())?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// Sets the current schema of a session.
pub(crate) fn enter(session: &SessionContext, schema: &str) {
    schema.clone_into(&mut session.state_ref().write().config_mut().options_mut().catalog.default_schema);
    for (name, value) in [("current_database", DATABASE), ("current_catalog", DATABASE), ("current_schema", schema)] {
        let value = ColumnarValue::Scalar(ScalarValue::from(value));
        let constant = move |_: &[ColumnarValue]| Ok(value.clone());
        session.register_udf(create_udf(name, vec![], DataType::Utf8, Volatility::Stable, Arc::new(constant)));
    }
}

/// How long a listing is valid: clients query it table by table.
const LISTING_VALIDITY: Duration = Duration::from_secs(2);

type Columns = Arc<Vec<(String, SchemaRef)>>;

/// A recent listing of the catalog's tables.
#[derive(Debug, Clone)]
struct Tables {
    catalog: Arc<CatalogHandle>,
    listed: Arc<Mutex<HashMap<String, (Instant, Columns)>>>,
}

impl Tables {
    async fn of(&self, database: &str) -> Result<Option<Columns>> {
        let mut listed = self.listed.lock().await;
        if let Some((_, tables)) = listed.get(database).filter(|(at, _)| at.elapsed() < LISTING_VALIDITY) {
            return Ok(Some(Arc::clone(tables)));
        }
        let tables = match self.catalog.open().await?.list_tables(database).await {
            Ok(tables) => tables,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        // Unreadable tables have no columns.
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
