//! The AWS Glue Data Catalog.

mod client;
mod convert;
mod expression;
mod failure;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::stream::{self, StreamExt, TryStreamExt};
use hardtack_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use crate::catalog::{Catalog, PartitionPages};
use crate::conflict::{self, Conflict, Failures};
use crate::name::folded;
use crate::predicate::{BoundPredicate, Predicate};
use crate::table::{Database, Partition, TableDescription};

use client::{ATTEMPTS, Client};
use convert::{database_from, database_input, partition_from, partition_input, table_from, table_input};
use failure::{Failure, unanswered};

/// The AWS Glue Data Catalog: Athena, Spark on Glue and EMR, and Redshift see the same tables.
///
/// Region and credentials come from where the AWS CLI takes them: environment variables, profiles, the container, the
/// instance. `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_GLUE` are honoured. (Profiles that need `aws sso login` are not
/// read; `aws configure export-credentials` turns them into variables.)
///
/// Requests that are throttled or fail in transit are tried up to eight times, with backoff. Credentials that have expired
/// are fetched anew. `HTTPS_PROXY` and `NO_PROXY` are honoured, as for S3.
///
/// An update of a table keeps properties that hardtack does not model (owner, retention, buckets, sort order, column
/// parameters ...), and Glue archives no old version. An update of a partition replaces it.
#[derive(Clone)]
pub struct GlueCatalog {
    client: Client,
    catalog_id: Option<String>,
}

impl fmt::Debug for GlueCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.catalog_id.as_deref().map(|id| format!(", {id}")).unwrap_or_default();
        write!(f, "GlueCatalog({:?}{id})", self.client)
    }
}

/// The limits of Glue's API for one request.
const MAX_CREATE: usize = 100;
const MAX_UPDATE: usize = 100;
const MAX_DELETE: usize = 25;
const MAX_GET: usize = 1000;
const MAX_PAGE: usize = 1000;

/// The number of batches in flight.
const CONCURRENCY: usize = 4;

impl GlueCatalog {
    /// The catalog of this account, or the one with this id (another account's number).
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if no region is configured. Credentials are resolved with the first request.
    pub async fn open(catalog_id: Option<&str>) -> Result<Self> {
        Ok(Self { client: Client::configured().await?, catalog_id: catalog_id.map(str::to_owned) })
    }

    /// The catalog of a Glue-compatible service at this endpoint, with these keys (id and secret): for moto in tests,
    /// which must not change the environment of the process.
    pub fn at(endpoint: &str, region: &str, keys: (&str, &str)) -> Self {
        Self { client: Client::at(endpoint, region, keys), catalog_id: None }
    }

    /// The catalog with this id (another account's number).
    #[must_use]
    pub fn with_catalog_id(self, id: &str) -> Self {
        Self { catalog_id: Some(id.to_owned()), ..self }
    }

    /// Repeats requests so often and so soon: for tests, which do not wait for half a minute.
    #[doc(hidden)]
    #[must_use]
    pub fn with_retries(self, attempts: usize, first_pause: Duration) -> Self {
        Self { client: self.client.with_retries(attempts, first_pause), ..self }
    }

    /// Calls an operation on this catalog. Arguments that are null are left out.
    async fn call<R: DeserializeOwned>(&self, operation: &str, mut arguments: Value) -> Result<R, Failure> {
        if let Value::Object(members) = &mut arguments {
            members.insert("CatalogId".to_owned(), json!(self.catalog_id));
            members.retain(|_, value| !value.is_null());
        }
        self.client.call(operation, &arguments).await
    }

    /// Calls an operation whose result does not matter.
    async fn execute(&self, operation: &str, arguments: Value) -> Result<(), Failure> {
        self.call(operation, arguments).await.map(|IgnoredAny| ())
    }

    /// Calls an operation on partitions of a table, which are its argument of this name.
    async fn batch<R: DeserializeOwned>(
        &self,
        operation: &str,
        table: &TableDescription,
        name: &str,
        partitions: &[impl Serialize],
    ) -> Result<R> {
        let arguments = json!({ "DatabaseName": table.database, "TableName": table.name, (name): partitions });
        self.call(operation, arguments).await.map_err(|e| e.of_table(&table.database, &table.name))
    }

    /// Fetches all pages of a list.
    async fn all<T: DeserializeOwned>(&self, operation: &str, mut arguments: Value) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        loop {
            let (items, next) = self.call::<wire::Page<T>>(operation, arguments.clone()).await?.into_parts();
            all.extend(items);
            match next {
                Some(token) => arguments["NextToken"] = token.into(),
                None => return Ok(all),
            }
        }
    }

    async fn table(&self, database: &str, name: &str) -> Result<wire::Table> {
        let found: Result<wire::FoundTable, _> =
            self.call("GetTable", json!({ "DatabaseName": database, "Name": name })).await;
        found.map_err(|e| e.of_table(database, name))?.table.ok_or_else(|| unanswered("a table"))
    }

    /// Fails if a table of files has become one of Iceberg since the caller read it. Not every implementation of Glue compares
    /// the values of a new partition with the keys, of which it has none any more.
    async fn check_still_partitioned(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        table_from(&table.database, self.table(&table.database, &table.name).await?).check_partitioned()
    }

    async fn has_tables(&self, database: &str) -> Result<bool> {
        let arguments = json!({ "DatabaseName": database, "MaxResults": 1 });
        let found: Result<wire::Page<IgnoredAny>, _> = self.call("GetTables", arguments).await;
        Ok(!found.map_err(|e| e.of_database(database))?.items.is_empty())
    }

    /// Gets one batch of partitions by their values. Glue may leave some for another request.
    async fn get_batch(&self, table: &TableDescription, values: Vec<Vec<String>>) -> Result<Vec<Partition>> {
        let mut found = Vec::new();
        let mut wanted = value_lists(values);
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_millis(6400))
            .with_max_times(ATTEMPTS)
            .with_jitter()
            .build();
        for pause in pauses {
            let answer: wire::FoundPartitions =
                self.batch("BatchGetPartition", table, "PartitionsToGet", &wanted).await?;
            found.extend(answer.partitions.into_iter().map(partition_from));
            wanted = answer.unprocessed_keys;
            if wanted.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(pause).await;
        }
        let names: Vec<String> = wanted.iter().take(5).map(|keys| table.partition_name(&keys.values)).collect();
        Err(Error::unavailable(format!("Glue did not look up {} partitions; try again later", wanted.len()))
            .with("table", table.qualified_name())
            .with("partitions", names.join(", ")))
    }

    /// Creates a batch and returns the failures. A partition that exists with the same content is not a failure.
    async fn create_batch(&self, table: &TableDescription, partitions: Vec<Partition>) -> Result<Vec<Failed>> {
        let inputs: Vec<wire::Partition> = partitions.iter().map(partition_input).collect();
        let failed = failed(self.batch("BatchCreatePartition", table, "PartitionInputList", &inputs).await?);
        let existing: Vec<Vec<String>> =
            failed.iter().filter(|f| f.exists()).map(|failed| failed.values.clone()).collect();
        if existing.is_empty() {
            return Ok(failed);
        }
        let wanted: HashMap<&[String], &Partition> = partitions.iter().map(|p| (p.values.as_slice(), p)).collect();
        let same: Vec<Partition> = self.get_batch(table, existing).await?;
        let same = |values: &[String]| same.iter().any(|p| p.values == values && wanted.get(values) == Some(&p));
        Ok(failed.into_iter().filter(|failed| !(failed.exists() && same(&failed.values))).collect())
    }

    async fn update_batch(&self, table: &TableDescription, partitions: Vec<Partition>) -> Result<Vec<Failed>> {
        let entry = |partition: &Partition| wire::UpdateEntry {
            partition_value_list: partition.values.clone(),
            partition_input: partition_input(partition),
        };
        let entries: Vec<_> = partitions.iter().map(entry).collect();
        Ok(failed(self.batch("BatchUpdatePartition", table, "Entries", &entries).await?))
    }

    async fn delete_batch(&self, table: &TableDescription, values: Vec<Vec<String>>) -> Result<Vec<Failed>> {
        let lists = value_lists(values);
        let failed = failed(self.batch("BatchDeletePartition", table, "PartitionsToDelete", &lists).await?);
        Ok(failed.into_iter().filter(|failed| !failed.is_missing()).collect())
    }

    /// One page of partitions, and the token of the next page, if there is one.
    async fn page(&self, listing: &Listing, token: Option<String>, filtered: bool) -> Result<Page, Failure> {
        let Listing { table, expression, wanted } = listing;
        let arguments = json!({
            "DatabaseName": table.database,
            "TableName": table.name,
            "Expression": expression.as_ref().filter(|_| filtered),
            "NextToken": token,
            "MaxResults": MAX_PAGE,
        });
        let (found, next) = self.call::<wire::Page<_>>("GetPartitions", arguments).await?.into_parts();
        let mut partitions = Vec::new();
        for partition in found.into_iter().map(partition_from) {
            if wanted.matches(&partition.values)? {
                partitions.push(partition);
            }
        }
        Ok(Page { partitions, next, filtered })
    }

    /// The first page. If Glue cannot evaluate the expression (key names that its parser reserves, values that do not
    /// have their key's type, types that it does not compare), all partitions are listed and filtered here.
    async fn first_page(&self, listing: &Listing) -> Result<Page, Failure> {
        match self.page(listing, None, true).await {
            Err(failure) if listing.expression.is_some() && failure.is_about_input() => {
                tracing::warn!(
                    table = listing.table.qualified_name(),
                    expression = listing.expression,
                    reason = failure.to_string(),
                    "Glue cannot evaluate the predicate, so all partitions are listed",
                );
                self.page(listing, None, false).await
            }
            result => result,
        }
    }
}

/// The parameters of a listing of partitions.
struct Listing {
    table: TableDescription,
    expression: Option<String>,
    wanted: BoundPredicate,
}

struct Page {
    partitions: Vec<Partition>,
    next: Option<String>,
    /// Whether the next request carries the expression: a token is bound to it.
    filtered: bool,
}

/// A partition of a batch that could not be created, updated or deleted.
struct Failed {
    values: Vec<String>,
    failure: Failure,
}

impl Failed {
    fn exists(&self) -> bool {
        self.failure.conflict() == Some(Conflict::AlreadyExists)
    }

    fn is_missing(&self) -> bool {
        self.failure.kind() == ErrorKind::NotFound
    }
}

fn failed(answer: wire::BatchErrors) -> Vec<Failed> {
    let failed = |error: wire::PartitionError| Failed {
        values: error.partition_values,
        failure: Failure::of_detail(error.error_detail),
    };
    answer.errors.into_iter().map(failed).collect()
}

fn value_lists(values: Vec<Vec<String>>) -> Vec<wire::PartitionValueList> {
    values.into_iter().map(|values| wire::PartitionValueList { values }).collect()
}

/// Sends one request per batch, a few concurrently, and collects the failures. A request that fails as a whole does not
/// stop the others.
async fn in_batches<T, F>(
    verb: &str,
    table: &TableDescription,
    items: &[T],
    size: usize,
    request: impl Fn(Vec<T>) -> F,
) -> Result<()>
where
    T: Clone,
    F: Future<Output = Result<Vec<Failed>>>,
{
    let batches: Vec<Vec<T>> = items.chunks(size).map(<[T]>::to_vec).collect();
    let results: Vec<Result<Vec<Failed>>> =
        stream::iter(batches.into_iter().map(request)).buffered(CONCURRENCY).collect().await;
    let mut failures = Failures::default();
    let mut broken = None;
    for result in results {
        match result {
            Ok(failed) => {
                failed.into_iter().for_each(|f| failures.add(table.partition_name(&f.values), f.failure.into()))
            }
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    match broken {
        None => failures.into_result(verb, &table.qualified_name(), items.len()),
        Some(error) if items.len() <= size => Err(error),
        Some(error) => Err(error.hint(format!("some of the {} partitions may be {verb}; do it again", items.len()))),
    }
}

#[async_trait]
impl Catalog for GlueCatalog {
    async fn create_database(&self, database: &Database) -> Result<()> {
        let database = database.checked()?;
        let arguments = json!({ "DatabaseInput": database_input(&database) });
        self.execute("CreateDatabase", arguments).await.map_err(|e| e.of_database(&database.name))
    }

    async fn get_database(&self, name: &str) -> Result<Database> {
        let name = folded(name);
        let found: Result<wire::FoundDatabase, _> = self.call("GetDatabase", json!({ "Name": name })).await;
        let found = found.map_err(|e| e.of_database(&name))?;
        found.database.map(database_from).ok_or_else(|| unanswered("a database"))
    }

    async fn list_databases(&self) -> Result<Vec<Database>> {
        let found = self.all("GetDatabases", json!({})).await?;
        let mut databases: Vec<Database> = found.into_iter().map(database_from).collect();
        databases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(databases)
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        let name = folded(name);
        // Glue would drop the tables, too.
        if self.has_tables(&name).await? {
            return Err(conflict::database_in_use(&name));
        }
        self.execute("DeleteDatabase", json!({ "Name": name })).await.map_err(|e| e.of_database(&name))
    }

    async fn create_table(&self, table: &TableDescription) -> Result<()> {
        let table = table.checked()?;
        let arguments = json!({ "DatabaseName": table.database, "TableInput": table_input(&table, None)? });
        self.execute("CreateTable", arguments).await.map_err(|e| e.of_new_table(&table.database, &table.name))
    }

    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription> {
        let (database, name) = (folded(database), folded(name));
        Ok(table_from(&database, self.table(&database, &name).await?))
    }

    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>> {
        let database = folded(database);
        let found = self.all("GetTables", json!({ "DatabaseName": database })).await;
        let found = found.map_err(|e| e.of_database(&database))?;
        let mut tables: Vec<TableDescription> = found.into_iter().map(|found| table_from(&database, found)).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    async fn update_table(&self, table: &TableDescription) -> Result<()> {
        let table = table.checked_content()?;
        // The current table is read for the properties that hardtack does not model. An outdated version may already
        // show here; the request carries the version all the same, because another writer may come in between.
        let current = self.table(&table.database, &table.name).await?;
        let before = table_from(&table.database, current.clone());
        table.check_update(&before)?;
        // Their values are of no table without keys, so that they could not be listed any more.
        let superseded = match table.is_iceberg() && !before.is_iceberg() {
            true => self.list_partitions(&before, &Predicate::all()).try_concat().await?,
            false => Vec::new(),
        };
        let arguments = json!({
            "DatabaseName": table.database,
            "VersionId": current.version_id,
            "TableInput": table_input(&table, Some(current))?,
            "SkipArchive": true,
        });
        self.execute("UpdateTable", arguments).await.map_err(|failure| match (failure.conflict(), &table.version) {
            (Some(_), Some(expected)) => {
                conflict::table_changed(&table.qualified_name(), expected, None).because(Error::from(failure))
            }
            _ => failure.of_table(&table.database, &table.name),
        })?;
        let values: Vec<Vec<String>> = superseded.into_iter().map(|partition| partition.values).collect();
        let dropped =
            in_batches("dropped", &before, &values, MAX_DELETE, |batch| self.delete_batch(&before, batch)).await;
        if let Err(e) = dropped {
            // Nobody asks for the partitions of an Iceberg table.
            tracing::warn!(error = %e, table = table.qualified_name(), "partitions of the former table of files stay");
        }
        Ok(())
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<()> {
        let (database, name) = (folded(database), folded(name));
        let arguments = json!({ "DatabaseName": database, "Name": name });
        self.execute("DeleteTable", arguments).await.map_err(|e| e.of_table(&database, &name))
    }

    async fn get_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<Vec<Partition>> {
        let table = &table.addressed();
        if table.is_iceberg() {
            // Glue refuses values for a table without keys.
            return Ok(Vec::new());
        }
        let batches: Vec<Vec<Vec<String>>> = values.chunks(MAX_GET).map(<[_]>::to_vec).collect();
        let requests = stream::iter(batches.into_iter().map(|batch| self.get_batch(table, batch)));
        Ok(requests.buffered(CONCURRENCY).try_collect::<Vec<_>>().await?.concat())
    }

    fn list_partitions(&self, table: &TableDescription, predicate: &Predicate) -> PartitionPages {
        let table = table.addressed();
        let wanted = match predicate.bind(&table) {
            Ok(wanted) => wanted,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let expression = expression::of(&wanted);
        let (catalog, listing) = (self.clone(), Arc::new(Listing { table, expression, wanted }));
        enum Next {
            First,
            Page(String, bool),
            End,
        }
        stream::try_unfold(Next::First, move |next| {
            let (catalog, listing) = (catalog.clone(), Arc::clone(&listing));
            async move {
                let page = match next {
                    Next::First => catalog.first_page(&listing).await,
                    Next::Page(token, filtered) => catalog.page(&listing, Some(token), filtered).await,
                    Next::End => return Ok(None),
                };
                let page = page.map_err(|e| e.of_table(&listing.table.database, &listing.table.name))?;
                let next = page.next.map_or(Next::End, |token| Next::Page(token, page.filtered));
                Ok(Some((page.partitions, next)))
            }
        })
        .boxed()
    }

    async fn add_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        let table = &table.addressed();
        let partitions = table.check_partitions(partitions)?;
        self.check_still_partitioned(table, &partitions).await?;
        in_batches("added", table, &partitions, MAX_CREATE, |batch| self.create_batch(table, batch)).await
    }

    async fn update_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        let table = &table.addressed();
        let partitions = table.check_partitions(partitions)?;
        self.check_still_partitioned(table, &partitions).await?;
        in_batches("updated", table, &partitions, MAX_UPDATE, |batch| self.update_batch(table, batch)).await
    }

    async fn drop_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<()> {
        let table = &table.addressed();
        table.check_partitioned()?;
        in_batches("dropped", table, values, MAX_DELETE, |batch| self.delete_batch(table, batch)).await
    }
}
