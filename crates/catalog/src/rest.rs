//! An Iceberg REST catalog.

mod client;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use hardtack_core::{Error, ErrorKind, Location, Result};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::RestAddress;
use crate::catalog::{Catalog, IcebergServer, PartitionPages, ServedTable};
use crate::conflict::{self, Conflict};
use crate::name::folded;
use crate::predicate::Predicate;
use crate::table::{Database, Partition, TableDescription};

pub use client::RestCredentials;
use client::{Client, Failure, parse, part};

/// A catalog of Iceberg tables behind the [Iceberg REST protocol], such as Apache Polaris, Lakekeeper, Nessie or Unity
/// Catalog have it.
///
/// Databases are namespaces of one level; those below others are left out. All tables are Iceberg tables, and views are
/// left out. Names are case-insensitive here, also if the server distinguishes them: the name in lower case comes
/// first, and two others that differ by case alone are refused.
///
/// Credentials come from the environment ([`RestCredentials::from_variables`]): a token in `HARDTACK_CATALOG_TOKEN`, or
/// `HARDTACK_CATALOG_CREDENTIAL` as `CLIENT_ID:CLIENT_SECRET` for OAuth2, with `HARDTACK_CATALOG_SCOPE` and
/// `HARDTACK_CATALOG_OAUTH2_SERVER_URI`. Requests to AWS (`https://glue.REGION.amazonaws.com/iceberg`,
/// `https://s3tables.REGION.amazonaws.com/iceberg`), and those for which `HARDTACK_CATALOG_SIGV4` names the service, are
/// signed with the credentials that the environment has for the AWS CLI. Files are read and written with the credentials of
/// the run: the server is not asked for any.
///
/// Requests that are throttled or fail in transit are repeated for some seconds, with backoff, if they may be executed
/// twice.
///
/// [Iceberg REST protocol]: https://github.com/apache/iceberg/blob/main/open-api/rest-catalog-open-api.yaml
#[derive(Clone)]
pub struct RestCatalog(Arc<Inner>);

struct Inner {
    client: Client,
    /// Names that the server writes in another way, by those in lower case: of a database, or of it and a table.
    spelt: Mutex<HashMap<Vec<String>, Vec<String>>>,
}

impl fmt::Debug for RestCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RestCatalog({})", self.0.client.address)
    }
}

/// The number of requests in flight for a list.
const CONCURRENCY: usize = 16;

/// The properties of a namespace with its description and location.
const COMMENT: &str = "comment";
const LOCATION: &str = "location";

#[derive(Debug, Deserialize)]
struct Namespaces {
    namespaces: Vec<Vec<String>>,
    #[serde(rename = "next-page-token")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Tables {
    identifiers: Vec<Identifier>,
    #[serde(rename = "next-page-token")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Identifier {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(default)]
    properties: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct LoadedTable {
    #[serde(rename = "metadata-location")]
    metadata_location: Option<String>,
    metadata: Box<RawValue>,
}

impl RestCatalog {
    /// The catalog at this address, with the credentials that the environment has; with AWS's at an address of AWS. No
    /// request is sent.
    ///
    /// # Errors
    /// As for [`RestCredentials::from_variables`].
    #[expect(clippy::disallowed_methods, reason = "secrets are no arguments, which other users of a machine can see")]
    pub fn open(address: RestAddress) -> Result<Self> {
        let credentials = RestCredentials::from_variables(|name| std::env::var(name).ok())?.for_address(&address);
        Self::new(address, credentials)
    }

    /// The catalog at this address, with these credentials.
    ///
    /// # Errors
    /// Unexpected if the system's certificates cannot be read.
    pub fn new(address: RestAddress, credentials: RestCredentials) -> Result<Self> {
        Ok(Self(Arc::new(Inner { client: Client::new(address, credentials)?, spelt: Mutex::default() })))
    }

    fn client(&self) -> &Client {
        &self.0.client
    }

    /// Sends a request about a namespace or a table with the names that the server has for them. `names` are in lower
    /// case.
    async fn named<T, F>(&self, names: &[&str], send: impl Fn(String) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let known = self.0.spelt.lock().unwrap_or_else(PoisonError::into_inner).get(&names).cloned();
        let tried = known.unwrap_or_else(|| names.clone());
        match send(path(&tried)).await {
            Err(failure) if failure.is(StatusCode::NOT_FOUND) && !failure.is_gone_after_repetition() => {
                match self.spelt(&names).await? {
                    Some(found) if found != tried => {
                        self.0.spelt.lock().unwrap_or_else(PoisonError::into_inner).insert(names, found.clone());
                        send(path(&found)).await
                    }
                    _ => Err(failure),
                }
            }
            outcome => outcome,
        }
    }

    /// The names as the server writes them, if it has them.
    async fn spelt(&self, names: &[String]) -> Result<Option<Vec<String>>> {
        let [database, table @ ..] = names else { return Ok(None) };
        let Some(database) = only(self.namespaces().await?, database)? else { return Ok(None) };
        let [table] = table else { return Ok(Some(vec![database])) };
        let tables = match self.tables(&path(std::slice::from_ref(&database))).await {
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(None),
            tables => tables.map_err(|failure| failure.error("database", &database))?,
        };
        Ok(only(tables, table)?.map(|table| vec![database, table]))
    }

    /// The namespaces of one level, as the server writes them.
    async fn namespaces(&self) -> Result<Vec<String>> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            // Without a token, even an empty one, a server need not send pages.
            let page = self.client().get::<Namespaces>("namespaces", &[("pageToken", token.as_str())]).await;
            let page = page.map_err(|failure| failure.error("catalog", &self.client().address))?;
            found.extend(page.namespaces.into_iter().filter_map(|levels| <[String; 1]>::try_from(levels).ok()));
            match page.next.filter(|next| !next.is_empty()) {
                Some(next) => token = next,
                None => return Ok(found.into_iter().map(|[name]| name).collect()),
            }
        }
    }

    /// The tables of a namespace, as the server writes them.
    async fn tables(&self, namespace: &str) -> Result<Vec<String>, Failure> {
        let (mut found, mut token) = (Vec::new(), String::new());
        let path = format!("{namespace}/tables");
        loop {
            let page = self.client().get::<Tables>(&path, &[("pageToken", token.as_str())]).await?;
            found.extend(page.identifiers.into_iter().map(|identifier| identifier.name));
            match page.next.filter(|next| !next.is_empty()) {
                Some(next) => token = next,
                None => return Ok(found),
            }
        }
    }

    /// Loads a table; `snapshots` says whether with `all` of them or those of branches and tags (`refs`).
    async fn table(&self, database: &str, name: &str, snapshots: &str) -> Result<ServedTable> {
        let (database, name) = (folded(database), folded(name));
        let query = [("snapshots", snapshots)];
        let loaded: Result<LoadedTable, Failure> =
            self.named(&[&database, &name], async |path| self.client().get(&path, &query).await).await;
        let loaded = loaded.map_err(|failure| of_table(failure, &database, &name))?;
        Ok(loaded.named(database, name))
    }

    async fn describe(&self, database: &str, name: &str) -> Result<TableDescription> {
        self.table(database, name, "refs").await?.description()
    }
}

impl LoadedTable {
    fn named(self, database: String, name: String) -> ServedTable {
        ServedTable { database, name, metadata_location: self.metadata_location, metadata: self.metadata }
    }
}

/// The path of a namespace, or of a table in it.
fn path(names: &[String]) -> String {
    match names {
        [database, table] => format!("namespaces/{}/tables/{}", part(database), part(table)),
        _ => format!("namespaces/{}", names.first().map(|name| part(name)).unwrap_or_default()),
    }
}

/// The one of these names that is `wanted` but for its case.
///
/// # Errors
/// Usage if there are several, none of which is in lower case.
fn only(names: Vec<String>, wanted: &str) -> Result<Option<String>> {
    let mut found: Vec<String> = names.into_iter().filter(|name| folded(name) == wanted).collect();
    if let Some(exact) = found.iter().position(|name| name == wanted) {
        return Ok(Some(found.swap_remove(exact)));
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(Error::usage("the catalog has several names that differ by case alone")
            .with("names", found.join(", "))
            .hint("rename all but one of them")),
    }
}

fn of_database(failure: Failure, name: &str) -> Error {
    match failure.is(StatusCode::NOT_FOUND) {
        true => conflict::no_database(name),
        false => failure.error("database", name),
    }
}

fn of_table(failure: Failure, database: &str, name: &str) -> Error {
    let qualified = format!("{database}.{name}");
    match failure.is(StatusCode::NOT_FOUND) {
        true => conflict::no_table(&qualified),
        false => failure.error("table", qualified),
    }
}

fn database_from(name: &str, properties: BTreeMap<String, String>) -> Database {
    let mut database = Database::new(name);
    let mut parameters = properties;
    database.description = parameters.remove(COMMENT).filter(|text| !text.is_empty());
    database.location = parameters.remove(LOCATION).map(|text| Location::from(text.as_str()));
    database.parameters = parameters;
    database
}

fn changed_by_its_server(name: &str) -> Error {
    Error::usage("the server of this catalog changes the metadata of Iceberg tables itself")
        .with("table", name)
        .hint("write to the table with a library for Iceberg")
}

#[async_trait]
impl Catalog for RestCatalog {
    async fn create_database(&self, database: &Database) -> Result<()> {
        let database = database.checked()?;
        let mut properties = database.parameters;
        properties.extend(database.description.map(|text| (COMMENT.to_owned(), text)));
        properties.extend(database.location.map(|location| (LOCATION.to_owned(), location.as_str().to_owned())));
        let request = json!({ "namespace": [database.name], "properties": properties });
        match self.client().post("namespaces", &request).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(StatusCode::CONFLICT) => Err(conflict::database_exists(&database.name)),
            Err(failure) => Err(failure.error("database", &database.name)),
        }
    }

    async fn get_database(&self, name: &str) -> Result<Database> {
        let name = folded(name);
        let found: Result<Namespace, Failure> =
            self.named(&[&name], async |path| self.client().get(&path, &[]).await).await;
        let found = found.map_err(|failure| of_database(failure, &name))?;
        Ok(database_from(&name, found.properties.unwrap_or_default()))
    }

    async fn list_databases(&self) -> Result<Vec<Database>> {
        let mut names: Vec<String> = self.namespaces().await?.iter().map(|name| folded(name)).collect();
        names.sort_unstable();
        names.dedup();
        let loading = names.into_iter().map(|name| async move { self.get_database(&name).await });
        present(stream::iter(loading).buffered(CONCURRENCY).collect().await)
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        let name = folded(name);
        let dropped = self.named(&[&name], async |path| self.client().delete(&path, &[]).await).await;
        match dropped {
            Err(failure) if failure.is_gone_after_repetition() => Ok(()),
            Err(failure) if failure.is(StatusCode::CONFLICT) => Err(conflict::database_in_use(&name)),
            dropped => dropped.map_err(|failure| of_database(failure, &name)),
        }
    }

    /// Registers an Iceberg table whose metadata is there. Usage for any other one.
    async fn create_table(&self, table: &TableDescription) -> Result<()> {
        let table = table.checked()?;
        let name = table.qualified_name();
        let Some(metadata) = table.metadata_location() else {
            return Err(Error::usage("this catalog has Iceberg tables only")
                .with("table", name)
                .hint("save to an Iceberg table, or name another catalog with `--catalog`"));
        };
        let request = json!({ "name": table.name, "metadata-location": metadata });
        let register = async |path| self.client().post(&format!("{path}/register"), &request).await;
        match self.named(&[&table.database], register).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(StatusCode::CONFLICT) => Err(conflict::table_exists(&name)),
            Err(failure) => Err(of_database(failure, &table.database)),
        }
    }

    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription> {
        self.describe(database, name).await
    }

    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>> {
        let database = folded(database);
        let names = self.named(&[&database], async |path| self.tables(&path).await).await;
        let names = names.map_err(|failure| of_database(failure, &database))?;
        let mut names: Vec<String> = names.iter().map(|name| folded(name)).collect();
        names.sort_unstable();
        names.dedup();
        let database = &database;
        let loading = names.into_iter().map(|name| async move { self.describe(database, &name).await });
        present(stream::iter(loading).buffered(CONCURRENCY).collect().await)
    }

    /// Usage: the server changes the metadata itself.
    async fn update_table(&self, table: &TableDescription) -> Result<()> {
        let table = table.checked_content()?;
        table.check_update(&self.describe(&table.database, &table.name).await?)?;
        Err(changed_by_its_server(&table.qualified_name()))
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<()> {
        let (database, name) = (folded(database), folded(name));
        let query = [("purgeRequested", "false")];
        let dropped = self.named(&[&database, &name], async |path| self.client().delete(&path, &query).await).await;
        match dropped {
            Err(failure) if failure.is_gone_after_repetition() => Ok(()),
            dropped => dropped.map_err(|failure| of_table(failure, &database, &name)),
        }
    }

    async fn get_partitions(&self, table: &TableDescription, _: &[Vec<String>]) -> Result<Vec<Partition>> {
        self.describe(&table.database, &table.name).await.map(|_| Vec::new())
    }

    fn list_partitions(&self, table: &TableDescription, _: &Predicate) -> PartitionPages {
        let (catalog, table) = (self.clone(), table.addressed());
        stream::once(async move { catalog.get_partitions(&table, &[]).await }).boxed()
    }

    async fn add_partitions(&self, table: &TableDescription, _: &[Partition]) -> Result<()> {
        Err(conflict::no_partitions(&table.addressed().qualified_name()))
    }

    async fn update_partitions(&self, table: &TableDescription, _: &[Partition]) -> Result<()> {
        Err(conflict::no_partitions(&table.addressed().qualified_name()))
    }

    async fn drop_partitions(&self, table: &TableDescription, _: &[Vec<String>]) -> Result<()> {
        Err(conflict::no_partitions(&table.addressed().qualified_name()))
    }

    /// Usage: the protocol has no change of two tables, and a table that is renamed is missing in between.
    fn check_swap(&self, a: &TableDescription, b: &TableDescription) -> Result<()> {
        Err(Error::usage("an Iceberg REST catalog cannot swap two tables in one step")
            .with("table", a.addressed().qualified_name())
            .with("with", b.addressed().qualified_name())
            .hint(
                "let readers use a view that you change, or overwrite the one table with the rows of the other, which is \
                 one commit",
            ))
    }

    fn iceberg_server(&self) -> Option<Arc<dyn IcebergServer>> {
        Some(Arc::new(self.clone()))
    }
}

/// The items that could be read, without those that were dropped meanwhile or that the caller may not see.
fn present<T>(items: Vec<Result<T>>) -> Result<Vec<T>> {
    let mut found = Vec::new();
    for item in items {
        match item {
            Ok(item) => found.push(item),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) if e.kind() == ErrorKind::Usage => tracing::warn!(error = %e, "left out of a list of the catalog"),
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

#[async_trait]
impl IcebergServer for RestCatalog {
    async fn load(&self, database: &str, name: &str) -> Result<ServedTable> {
        self.table(database, name, "all").await
    }

    async fn create(&self, database: &str, request: &Value) -> Result<ServedTable> {
        let database = folded(database);
        let name = request.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let create = async |path| self.client().post(&format!("{path}/tables"), request).await;
        match self.named(&[&database], create).await {
            Ok(answer) => Ok(parse::<LoadedTable>(&answer)?.named(database, name)),
            Err(failure) if failure.is(StatusCode::CONFLICT) => {
                Err(conflict::table_exists(&format!("{database}.{name}")))
            }
            Err(failure) => Err(of_database(failure, &database)),
        }
    }

    async fn commit(&self, database: &str, name: &str, change: &Value) -> Result<ServedTable> {
        let (database, name) = (folded(database), folded(name));
        let committed = self.named(&[&database, &name], async |path| self.client().post(&path, change).await).await;
        match committed {
            Ok(answer) => Ok(parse::<LoadedTable>(&answer)?.named(database, name)),
            Err(failure) if failure.is(StatusCode::CONFLICT) => {
                let error = failure.error("table", format!("{database}.{name}"));
                Err(Conflict::ConcurrentModification
                    .error("the table was changed since it was read")
                    .with("table", format!("{database}.{name}"))
                    .because(error))
            }
            Err(failure) => Err(of_table(failure, &database, &name)),
        }
    }
}
