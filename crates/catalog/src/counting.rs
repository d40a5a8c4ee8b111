//! A catalog that counts its requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use hardtack_core::Result;

use crate::catalog::{Catalog, IcebergServer, PartitionPages};
use crate::predicate::Predicate;
use crate::table::{Database, Partition, TableDescription};

/// How often an operation was called, and how many items it transferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// The number of calls; for [`list_partitions`](Catalog::list_partitions) the number of pages.
    pub calls: u64,
    /// The number of databases, tables or partitions sent or received.
    pub items: u64,
}

/// Forwards every request to another catalog and counts it, so that a test can show what a query costs.
#[derive(Debug)]
pub struct CountingCatalog {
    inner: Arc<dyn Catalog>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<&'static str, Requests>>);

impl Counts {
    fn add(&self, operation: &'static str, items: usize) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = counts.entry(operation).or_default();
        requests.calls += 1;
        requests.items += items as u64;
    }
}

impl CountingCatalog {
    /// Counts the requests to `inner`.
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self { inner, counts: Arc::default() }
    }

    /// Returns the requests since the last call, by operation, and resets the counts.
    pub fn take(&self) -> BTreeMap<&'static str, Requests> {
        std::mem::take(&mut *self.counts.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Catalog for CountingCatalog {
    async fn create_database(&self, database: &Database) -> Result<()> {
        self.counts.add("create_database", 1);
        self.inner.create_database(database).await
    }

    async fn get_database(&self, name: &str) -> Result<Database> {
        self.counts.add("get_database", 1);
        self.inner.get_database(name).await
    }

    async fn list_databases(&self) -> Result<Vec<Database>> {
        let found = self.inner.list_databases().await;
        self.counts.add("list_databases", found.as_ref().map_or(0, Vec::len));
        found
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        self.counts.add("drop_database", 1);
        self.inner.drop_database(name).await
    }

    async fn create_table(&self, table: &TableDescription) -> Result<()> {
        self.counts.add("create_table", 1);
        self.inner.create_table(table).await
    }

    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription> {
        self.counts.add("get_table", 1);
        self.inner.get_table(database, name).await
    }

    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>> {
        let found = self.inner.list_tables(database).await;
        self.counts.add("list_tables", found.as_ref().map_or(0, Vec::len));
        found
    }

    async fn update_table(&self, table: &TableDescription) -> Result<()> {
        self.counts.add("update_table", 1);
        self.inner.update_table(table).await
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<()> {
        self.counts.add("drop_table", 1);
        self.inner.drop_table(database, name).await
    }

    async fn get_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<Vec<Partition>> {
        self.counts.add("get_partitions", values.len());
        self.inner.get_partitions(table, values).await
    }

    fn list_partitions(&self, table: &TableDescription, predicate: &Predicate) -> PartitionPages {
        let counts = Arc::clone(&self.counts);
        let count = move |page: &Result<Vec<Partition>>| {
            counts.add("list_partitions", page.as_ref().map_or(0, Vec::len));
        };
        self.inner.list_partitions(table, predicate).inspect(count).boxed()
    }

    async fn add_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.counts.add("add_partitions", partitions.len());
        self.inner.add_partitions(table, partitions).await
    }

    async fn update_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.counts.add("update_partitions", partitions.len());
        self.inner.update_partitions(table, partitions).await
    }

    async fn drop_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<()> {
        self.counts.add("drop_partitions", values.len());
        self.inner.drop_partitions(table, values).await
    }

    async fn swap_tables(&self, a: &TableDescription, b: &TableDescription) -> Result<()> {
        self.counts.add("swap_tables", 2);
        self.inner.swap_tables(a, b).await
    }

    fn check_swap(&self, a: &TableDescription, b: &TableDescription) -> Result<()> {
        self.inner.check_swap(a, b)
    }

    /// Requests to it are not counted.
    fn iceberg_server(&self) -> Option<Arc<dyn IcebergServer>> {
        self.inner.iceberg_server()
    }
}
