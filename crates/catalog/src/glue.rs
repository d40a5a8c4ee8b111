//! The AWS Glue Data Catalog.

mod convert;
mod expression;
mod failure;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::config::{Credentials, Region, SharedHttpClient};
use aws_sdk_glue::types::{
    BatchUpdatePartitionRequestEntry, ErrorDetail, PartitionInput, PartitionValueList, Table as GlueTable,
};
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::stream::{self, StreamExt, TryStreamExt};
use hardtack_core::{Error, ErrorKind, Result};

use crate::catalog::{Catalog, PartitionPages};
use crate::conflict::{self, Conflict, Failures};
use crate::name::folded;
use crate::predicate::{BoundPredicate, Predicate};
use crate::table::{Database, Partition, TableDescription};

use convert::{database_from, database_input, partition_from, partition_input, table_from, table_input};
use failure::{Failure, unanswered};

/// The AWS Glue Data Catalog: Athena, Spark on Glue and EMR, and Redshift see the same tables.
///
/// Region and credentials come from where the AWS CLI takes them: environment variables, profiles, the container, the
/// instance. `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_GLUE` are honoured. (Profiles that need `aws sso login` are not
/// read; `aws configure export-credentials` turns them into variables.)
///
/// Requests that are throttled or fail in transit are tried up to eight times, with backoff.
///
/// An update of a table keeps properties that hardtack does not model (owner, retention, buckets, sort order, column
/// parameters ...), and Glue archives no old version. An update of a partition replaces it.
#[derive(Debug, Clone)]
pub struct GlueCatalog {
    client: Client,
    catalog_id: Option<String>,
}

/// The number of attempts per request.
const ATTEMPTS: u32 = 8;

/// The limits of Glue's API for one request.
const MAX_CREATE: usize = 100;
const MAX_UPDATE: usize = 100;
const MAX_DELETE: usize = 25;
const MAX_GET: usize = 1000;
const MAX_PAGE: i32 = 1000;

/// The number of batches in flight.
const CONCURRENCY: usize = 4;

fn http() -> SharedHttpClient {
    HttpClientBuilder::new().tls_provider(Provider::rustls(CryptoMode::Ring)).build_https()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(Duration::from_secs(20))
}

impl GlueCatalog {
    /// The catalog of this account, or the one with this id (another account's number).
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if no region is configured. Credentials are resolved with the first request.
    pub async fn open(catalog_id: Option<&str>) -> Result<Self> {
        let config =
            aws_config::defaults(BehaviorVersion::latest()).http_client(http()).retry_config(retries()).load().await;
        if config.region().is_none() {
            return Err(Error::usage("Glue is not configured; set AWS_REGION and credentials as for the AWS CLI"));
        }
        Ok(Self::new(Client::new(&config), catalog_id))
    }

    /// The catalog of a Glue-compatible service at this endpoint, with these keys (id and secret): for moto in tests,
    /// which must not change the environment of the process.
    pub fn at(endpoint: &str, region: &str, keys: (&str, &str)) -> Self {
        let config = aws_sdk_glue::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(region.to_owned()))
            .credentials_provider(Credentials::new(keys.0, keys.1, None, None, "given"))
            .http_client(http())
            .retry_config(retries());
        Self::new(Client::from_conf(config.build()), None)
    }

    /// The catalog behind a given client.
    pub fn new(client: Client, catalog_id: Option<&str>) -> Self {
        Self { client, catalog_id: catalog_id.map(str::to_owned) }
    }

    fn id(&self) -> Option<String> {
        self.catalog_id.clone()
    }

    async fn table(&self, database: &str, name: &str) -> Result<GlueTable> {
        let request = self.client.get_table().set_catalog_id(self.id()).database_name(database).name(name);
        let found = request.send().await.map_err(|e| Failure::of(e).of_table(database, name))?;
        found.table.ok_or_else(|| unanswered("a table"))
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
        let request = self.client.get_tables().set_catalog_id(self.id()).database_name(database).max_results(1);
        let found = request.send().await.map_err(|e| Failure::of(e).of_database(database))?;
        Ok(!found.table_list().is_empty())
    }

    /// Gets one batch of partitions by their values. Glue may leave some for another request.
    async fn get_batch(&self, table: &TableDescription, values: Vec<Vec<String>>) -> Result<Vec<Partition>> {
        let mut found = Vec::new();
        let mut wanted = values.into_iter().map(value_list).collect::<Result<Vec<_>>>()?;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_millis(6400))
            .with_max_times(ATTEMPTS as usize)
            .with_jitter()
            .build();
        for pause in pauses {
            let request = self.client.batch_get_partition().set_catalog_id(self.id()).database_name(&table.database);
            let request = request.table_name(&table.name).set_partitions_to_get(Some(wanted));
            let answer = request.send().await.map_err(|e| Failure::of(e).of_table(&table.database, &table.name))?;
            found.extend(answer.partitions.unwrap_or_default().into_iter().map(partition_from));
            wanted = answer.unprocessed_keys.unwrap_or_default();
            if wanted.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(pause).await;
        }
        let names: Vec<String> = wanted.iter().take(5).map(|keys| table.partition_name(keys.values())).collect();
        Err(Error::unavailable(format!("Glue did not look up {} partitions; try again later", wanted.len()))
            .with("table", table.qualified_name())
            .with("partitions", names.join(", ")))
    }

    /// Creates a batch and returns the failures. A partition that exists with the same content is not a failure.
    async fn create_batch(&self, table: &TableDescription, partitions: Vec<Partition>) -> Result<Vec<Failed>> {
        let inputs: Vec<PartitionInput> = partitions.iter().map(partition_input).collect::<Result<_>>()?;
        let request = self.client.batch_create_partition().set_catalog_id(self.id()).database_name(&table.database);
        let request = request.table_name(&table.name).set_partition_input_list(Some(inputs));
        let answer = request.send().await.map_err(|e| Failure::of(e).of_table(&table.database, &table.name))?;
        let errors = answer.errors.unwrap_or_default().into_iter();
        let failed: Vec<Failed> =
            errors.map(|e| Failed::new(e.partition_values.unwrap_or_default(), e.error_detail)).collect();
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
        let entry = |partition: &Partition| {
            let entry = BatchUpdatePartitionRequestEntry::builder();
            let entry = entry.set_partition_value_list(Some(partition.values.clone()));
            entry.partition_input(partition_input(partition)?).build().map_err(incomplete)
        };
        let entries: Vec<_> = partitions.iter().map(entry).collect::<Result<_>>()?;
        let request = self.client.batch_update_partition().set_catalog_id(self.id()).database_name(&table.database);
        let request = request.table_name(&table.name).set_entries(Some(entries));
        let answer = request.send().await.map_err(|e| Failure::of(e).of_table(&table.database, &table.name))?;
        let errors = answer.errors.unwrap_or_default().into_iter();
        Ok(errors.map(|e| Failed::new(e.partition_value_list.unwrap_or_default(), e.error_detail)).collect())
    }

    async fn delete_batch(&self, table: &TableDescription, values: Vec<Vec<String>>) -> Result<Vec<Failed>> {
        let lists = values.into_iter().map(value_list).collect::<Result<Vec<_>>>()?;
        let request = self.client.batch_delete_partition().set_catalog_id(self.id()).database_name(&table.database);
        let request = request.table_name(&table.name).set_partitions_to_delete(Some(lists));
        let answer = request.send().await.map_err(|e| Failure::of(e).of_table(&table.database, &table.name))?;
        let errors = answer.errors.unwrap_or_default().into_iter();
        let failed = errors.map(|e| Failed::new(e.partition_values.unwrap_or_default(), e.error_detail));
        Ok(failed.filter(|failed| !failed.is_missing()).collect())
    }

    /// One page of partitions, and the token of the next page, if there is one.
    async fn page(&self, listing: &Listing, token: Option<String>, filtered: bool) -> Result<Page, Failure> {
        let Listing { table, expression, wanted } = listing;
        let request = self.client.get_partitions().set_catalog_id(self.id()).database_name(&table.database);
        let request = request.table_name(&table.name).max_results(MAX_PAGE).set_next_token(token);
        let request = request.set_expression(expression.clone().filter(|_| filtered));
        let answer = request.send().await.map_err(Failure::of)?;
        let mut partitions = Vec::new();
        for partition in answer.partitions.unwrap_or_default().into_iter().map(partition_from) {
            if wanted.matches(&partition.values).map_err(Failure::own)? {
                partitions.push(partition);
            }
        }
        Ok(Page { partitions, next: answer.next_token.filter(|token| !token.is_empty()), filtered })
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
    fn new(values: Vec<String>, detail: Option<ErrorDetail>) -> Self {
        Self { values, failure: Failure::of_detail(detail.as_ref()) }
    }

    fn exists(&self) -> bool {
        self.failure.conflict() == Some(Conflict::AlreadyExists)
    }

    fn is_missing(&self) -> bool {
        self.failure.kind() == ErrorKind::NotFound
    }
}

fn value_list(values: Vec<String>) -> Result<PartitionValueList> {
    PartitionValueList::builder().set_values(Some(values)).build().map_err(incomplete)
}

fn incomplete(error: aws_sdk_glue::error::BuildError) -> Error {
    Error::unexpected("a request to Glue is incomplete").because(error)
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
        let request =
            self.client.create_database().set_catalog_id(self.id()).database_input(database_input(&database)?);
        request.send().await.map_err(|e| Failure::of(e).of_database(&database.name))?;
        Ok(())
    }

    async fn get_database(&self, name: &str) -> Result<Database> {
        let name = folded(name);
        let request = self.client.get_database().set_catalog_id(self.id()).name(&name);
        let found = request.send().await.map_err(|e| Failure::of(e).of_database(&name))?;
        found.database.map(database_from).ok_or_else(|| unanswered("a database"))
    }

    async fn list_databases(&self) -> Result<Vec<Database>> {
        let request = self.client.get_databases().set_catalog_id(self.id());
        let mut pages = request.into_paginator().send();
        let mut databases = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| Error::from(Failure::of(e)))?;
            databases.extend(page.database_list.into_iter().map(database_from));
        }
        databases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(databases)
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        let name = folded(name);
        // Glue would drop the tables, too.
        if self.has_tables(&name).await? {
            return Err(conflict::database_in_use(&name));
        }
        let request = self.client.delete_database().set_catalog_id(self.id()).name(&name);
        request.send().await.map_err(|e| Failure::of(e).of_database(&name))?;
        Ok(())
    }

    async fn create_table(&self, table: &TableDescription) -> Result<()> {
        let table = table.checked()?;
        let request = self.client.create_table().set_catalog_id(self.id()).database_name(&table.database);
        let result = request.table_input(table_input(&table, None)?).send().await;
        result.map_err(|e| Failure::of(e).of_new_table(&table.database, &table.name))?;
        Ok(())
    }

    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription> {
        let (database, name) = (folded(database), folded(name));
        Ok(table_from(&database, self.table(&database, &name).await?))
    }

    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>> {
        let database = folded(database);
        let request = self.client.get_tables().set_catalog_id(self.id()).database_name(&database);
        let mut pages = request.into_paginator().send();
        let mut tables = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| Failure::of(e).of_database(&database))?;
            tables.extend(page.table_list.unwrap_or_default().into_iter().map(|found| table_from(&database, found)));
        }
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
        let version = current.version_id.clone();
        let input = table_input(&table, Some(current))?;
        let request = self.client.update_table().set_catalog_id(self.id()).database_name(&table.database);
        let result = request.table_input(input).set_version_id(version).skip_archive(true).send().await;
        result.map_err(|e| {
            let failure = Failure::of(e);
            match (failure.conflict(), &table.version) {
                (Some(_), Some(expected)) => {
                    conflict::table_changed(&table.qualified_name(), expected, None).because(Error::from(failure))
                }
                _ => failure.of_table(&table.database, &table.name),
            }
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
        let request = self.client.delete_table().set_catalog_id(self.id()).database_name(&database).name(&name);
        request.send().await.map_err(|e| Failure::of(e).of_table(&database, &name))?;
        Ok(())
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
