//! A catalog in which others are faster once.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use hardtack_catalog::{Catalog, Database, Partition, PartitionPages, Predicate, TableDescription};
use hardtack_core::Result;
use tokio::sync::Mutex;

/// Lets others do something immediately before a table is updated for the first time, or after it was looked up.
pub(crate) struct Interposed {
    inner: Arc<dyn Catalog>,
    before_update: Mutex<Option<BoxFuture<'static, ()>>>,
    after_lookup: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Interposed {
    pub(crate) fn new(inner: &Arc<dyn Catalog>, others: BoxFuture<'static, ()>) -> Arc<Self> {
        let (before_update, after_lookup) = (Mutex::new(Some(others)), Mutex::default());
        Arc::new(Self { inner: Arc::clone(inner), before_update, after_lookup })
    }

    pub(crate) fn after_lookup(inner: &Arc<dyn Catalog>, others: BoxFuture<'static, ()>) -> Arc<Self> {
        let (before_update, after_lookup) = (Mutex::default(), Mutex::new(Some(others)));
        Arc::new(Self { inner: Arc::clone(inner), before_update, after_lookup })
    }
}

async fn come(others: &Mutex<Option<BoxFuture<'static, ()>>>) {
    let others = others.lock().await.take();
    if let Some(others) = others {
        others.await;
    }
}

impl fmt::Debug for Interposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Catalog for Interposed {
    async fn create_database(&self, database: &Database) -> Result<()> {
        self.inner.create_database(database).await
    }

    async fn get_database(&self, name: &str) -> Result<Database> {
        self.inner.get_database(name).await
    }

    async fn list_databases(&self) -> Result<Vec<Database>> {
        self.inner.list_databases().await
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        self.inner.drop_database(name).await
    }

    async fn create_table(&self, table: &TableDescription) -> Result<()> {
        self.inner.create_table(table).await
    }

    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription> {
        let found = self.inner.get_table(database, name).await;
        come(&self.after_lookup).await;
        found
    }

    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>> {
        self.inner.list_tables(database).await
    }

    async fn update_table(&self, table: &TableDescription) -> Result<()> {
        come(&self.before_update).await;
        self.inner.update_table(table).await
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<()> {
        self.inner.drop_table(database, name).await
    }

    async fn get_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<Vec<Partition>> {
        self.inner.get_partitions(table, values).await
    }

    fn list_partitions(&self, table: &TableDescription, predicate: &Predicate) -> PartitionPages {
        self.inner.list_partitions(table, predicate)
    }

    async fn add_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.inner.add_partitions(table, partitions).await
    }

    async fn update_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.inner.update_partitions(table, partitions).await
    }

    async fn drop_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<()> {
        self.inner.drop_partitions(table, values).await
    }
}
