//! Tables by name in SQL.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::information_schema::{
    INFORMATION_SCHEMA, INFORMATION_SCHEMA_TABLES, InformationSchemaProvider,
};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider, Session,
    TableProvider,
};
use datafusion::common::Result as DFResult;
use datafusion::datasource::TableType;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use hardtack_catalog::{Catalog, CatalogHandle, CatalogOf, TableDescription, schema_from_catalog};
use hardtack_core::{Environment, Error, ErrorKind, Result, nearest};

use crate::opened::{opened, versioned};
use crate::provider::read_only;

/// Makes the tables of the run's catalog known to SQL in this context's session: `select * from lake.books` reads the table
/// `books` of the database `lake`.
///
/// Names are resolved when a query uses them, by one request per table; nothing is listed beforehand. `show tables`,
/// `show columns from lake.books` and the tables of `information_schema` show what the catalog contains at that moment.
/// Tables are read-only: they are written by saving to a [`Table`](crate::Table).
///
/// The session's own names take precedence: tables that a job registers are found as before.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if the context has no catalog.
pub fn register_names(env: &Environment) -> Result<()> {
    let handle = env.catalog_handle()?;
    let state = env.session().state_ref();
    let mut state = state.write();
    let options = &mut state.config_mut().options_mut().catalog;
    // DataFusion's own only lists names that are known synchronously.
    options.information_schema = false;
    let name = options.default_catalog.clone();
    let list = Arc::clone(state.catalog_list());
    let session = list.catalog(&name).unwrap_or_else(|| Arc::new(MemoryCatalogProvider::new()));
    if session.as_any().is::<Names>() {
        return Ok(());
    }
    let functions = state.table_functions().keys().cloned().collect();
    let tables = Lookup { handle, env: env.clone(), functions: Arc::new(functions) };
    let names = Names { name: name.clone(), session, tables };
    list.register_catalog(name, Arc::new(names));
    Ok(())
}

/// Looks up tables in the run's catalog.
#[derive(Debug, Clone)]
struct Lookup {
    handle: Arc<CatalogHandle>,
    env: Environment,
    /// Table functions of the session (`generate_series`), which are looked up like tables.
    functions: Arc<HashSet<String>>,
}

impl Lookup {
    async fn table(&self, database: &str, name: &str) -> Result<Arc<dyn TableProvider>> {
        let catalog = self.handle.open().await?;
        let (description, version) = match catalog.get_table(database, name).await {
            // A table may have such a name.
            Err(e) if e.kind() == ErrorKind::NotFound => match versioned(name) {
                (table, Some(version)) => (catalog.get_table(database, table).await?, Some(version)),
                _ => return Err(e),
            },
            found => (found?, None),
        };
        self.open(catalog, description, version).await
    }

    async fn open(
        &self,
        catalog: Arc<dyn Catalog>,
        table: TableDescription,
        version: Option<&str>,
    ) -> Result<Arc<dyn TableProvider>> {
        let meter = self.env.meters().source(&table.qualified_name());
        opened(&self.env, catalog, table, version, meter).await
    }
}

/// How many tables an error names.
const MAX_NAMED: usize = 20;

impl Lookup {
    /// Adds to the error about a missing table the name that was probably meant, or the existing names. If the catalog
    /// cannot be listed (a role may only permit gets), the error stays as it is.
    async fn with_what_there_is(&self, error: Error, database: &str, name: &str) -> Error {
        let listed = async {
            let catalog = self.handle.open().await?;
            let databases = catalog.list_databases().await?;
            if !databases.iter().any(|d| d.name == database) {
                return Ok(("databases", database, databases.into_iter().map(|d| d.name).collect::<Vec<_>>()));
            }
            let tables = catalog.list_tables(database).await?;
            Ok::<_, Error>(("tables", name, tables.into_iter().map(|t| t.name).collect()))
        };
        let Ok((what, wanted, names)) = listed.await else { return error };
        match nearest(wanted, names.iter().map(String::as_str)) {
            Some(likely) if what == "tables" => error.with("did you mean", format!("{database}.{likely}")),
            Some(likely) => error.with("did you mean", format!("{likely}.{name}")),
            None if names.is_empty() => error.hint("`hardtack crawl LOCATION --database DB` creates tables from files"),
            None if names.len() > MAX_NAMED => {
                error.with(what, format!("{} and {} more", names[..MAX_NAMED].join(", "), names.len() - MAX_NAMED))
            }
            None => error.with(what, names.join(", ")),
        }
    }
}

/// The names of a session, with those of the run's catalog as a fallback.
#[derive(Debug)]
struct Names {
    /// Its name in three-part names.
    name: String,
    session: Arc<dyn CatalogProvider>,
    tables: Lookup,
}

impl CatalogProvider for Names {
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// The session's names; the catalog's are only known on demand.
    fn schema_names(&self) -> Vec<String> {
        self.session.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let (name, tables) = (name.to_owned(), self.tables.clone());
        match self.session.schema(&name) {
            Some(schema) => Some(schema),
            None if name == INFORMATION_SCHEMA => {
                let (catalog, session) = (self.name.clone(), Arc::clone(&self.session));
                Some(Arc::new(Information(Arc::new(Listing { catalog, session, tables }))))
            }
            None => Some(Arc::new(Database { name, tables })),
        }
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> DFResult<Option<Arc<dyn SchemaProvider>>> {
        self.session.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> DFResult<Option<Arc<dyn SchemaProvider>>> {
        self.session.deregister_schema(name, cascade)
    }
}

/// A database of the run's catalog, if it has one of this name.
#[derive(Debug)]
struct Database {
    name: String,
    tables: Lookup,
}

impl Database {
    fn read_only(&self, table: &str) -> DataFusionError {
        read_only(&format!("{}.{table}", self.name)).into()
    }
}

#[async_trait]
impl SchemaProvider for Database {
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// Empty: `information_schema` lists them.
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn table_exist(&self, _: &str) -> bool {
        false
    }

    async fn table(&self, name: &str) -> DFResult<Option<Arc<dyn TableProvider>>> {
        match self.tables.table(&self.name, name).await {
            Ok(table) => Ok(Some(table)),
            Err(e) if e.kind() == ErrorKind::NotFound && self.tables.functions.contains(name) => Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(self.tables.with_what_there_is(e, &self.name, name).await.into())
            }
            Err(e) => Err(e.into()),
        }
    }

    fn register_table(&self, name: String, _: Arc<dyn TableProvider>) -> DFResult<Option<Arc<dyn TableProvider>>> {
        Err(self.read_only(&name))
    }

    fn deregister_table(&self, name: &str) -> DFResult<Option<Arc<dyn TableProvider>>> {
        Err(self.read_only(name))
    }
}

// --- listing -------------------------------------------------------------------------------------------------------

/// `information_schema`. The catalog is listed when a query reads one of its tables.
#[derive(Debug)]
struct Information(Arc<Listing>);

#[async_trait]
impl SchemaProvider for Information {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_names(&self) -> Vec<String> {
        INFORMATION_SCHEMA_TABLES.iter().map(|name| (*name).to_owned()).collect()
    }

    fn table_exist(&self, name: &str) -> bool {
        INFORMATION_SCHEMA_TABLES.contains(&name)
    }

    async fn table(&self, name: &str) -> DFResult<Option<Arc<dyn TableProvider>>> {
        let nothing = InformationSchemaProvider::new(Arc::new(MemoryCatalogProviderList::new()));
        let Some(table) = nothing.table(name).await? else { return Ok(None) };
        let (name, schema, listing) = (name.to_owned(), table.schema(), Arc::clone(&self.0));
        Ok(Some(Arc::new(InformationTable { name, schema, listing })))
    }
}

/// The names of the session and the catalog together.
#[derive(Debug)]
struct Listing {
    catalog: String,
    session: Arc<dyn CatalogProvider>,
    tables: Lookup,
}

impl Listing {
    /// Takes all names as they are now. Tables only have columns; those that cannot be read have none.
    async fn take(&self) -> Result<Arc<dyn CatalogProviderList>> {
        let mut all = Listed::<dyn SchemaProvider>::default();
        let catalog = self.tables.handle.open().await?;
        for database in catalog.list_databases().await? {
            let mut tables = Listed::<dyn TableProvider>::default();
            for table in catalog.list_tables(&database.name).await? {
                let name = table.name.clone();
                // The catalog need not know the columns of an Iceberg table.
                let schema = match table.is_iceberg() {
                    true => self.tables.open(Arc::clone(&catalog), table, None).await.map(|table| table.schema()),
                    false => schema_from_catalog(&table),
                };
                let schema = schema.unwrap_or_else(|_| Arc::new(Schema::empty()));
                tables.0.insert(name, Arc::new(EmptyTable::new(schema)));
            }
            all.0.insert(database.name, Arc::new(tables));
        }
        for name in self.session.schema_names() {
            if let Some(schema) = self.session.schema(&name) {
                all.0.insert(name, schema);
            }
        }
        let list = MemoryCatalogProviderList::new();
        list.register_catalog(self.catalog.clone(), Arc::new(all));
        Ok(Arc::new(list))
    }
}

/// A list sorted by name. (DataFusion's own lists have no order.)
#[derive(Debug)]
struct Listed<T: ?Sized>(BTreeMap<String, Arc<T>>);

impl<T: ?Sized> Default for Listed<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl CatalogProvider for Listed<dyn SchemaProvider> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.0.get(name).cloned()
    }
}

#[async_trait]
impl SchemaProvider for Listed<dyn TableProvider> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> DFResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// A table of `information_schema`.
#[derive(Debug)]
struct InformationTable {
    name: String,
    schema: SchemaRef,
    listing: Arc<Listing>,
}

#[async_trait]
impl TableProvider for InformationTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let all = InformationSchemaProvider::new(self.listing.take().await?);
        let table = all.table(&self.name).await?;
        let table =
            table.ok_or_else(|| Error::unexpected("a table of `information_schema` does not exist any more"))?;
        table.scan(session, projection, filters, limit).await
    }
}
