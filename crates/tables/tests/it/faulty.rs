//! Catalogs that fail, or let others come first.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hardtack_catalog::{Catalog, Database, Partition, PartitionPages, Predicate, TableDescription};
use hardtack_core::{Error, Result};

type Meanwhile = Box<dyn FnOnce() + Send>;

/// Fails at the change with this number (from 0), before or after it is made, and at all later ones.
pub(crate) struct FaultyCatalog {
    inner: Arc<dyn Catalog>,
    changes: AtomicUsize,
    fails_at: usize,
    made: bool,
    /// What others do just before the first time that partitions are read by their values, or updated.
    before_read: Mutex<Option<Meanwhile>>,
    before_update: Mutex<Option<Meanwhile>>,
    /// The same before a table is updated.
    before_table: Mutex<Option<Meanwhile>>,
}

impl fmt::Debug for FaultyCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyCatalog")
    }
}

impl FaultyCatalog {
    /// Never fails, but others come in between.
    pub(crate) fn interrupted(inner: Arc<dyn Catalog>, before_update: Meanwhile) -> Arc<Self> {
        Arc::new(Self { before_update: Mutex::new(Some(before_update)), ..Self::failing(inner, usize::MAX, false) })
    }

    pub(crate) fn interrupted_before_table(inner: Arc<dyn Catalog>, before_table: Meanwhile) -> Arc<Self> {
        Arc::new(Self { before_table: Mutex::new(Some(before_table)), ..Self::failing(inner, usize::MAX, false) })
    }

    pub(crate) fn interrupted_before_reading(inner: Arc<dyn Catalog>, before_read: Meanwhile) -> Arc<Self> {
        Arc::new(Self { before_read: Mutex::new(Some(before_read)), ..Self::failing(inner, usize::MAX, false) })
    }

    pub(crate) fn new(inner: Arc<dyn Catalog>, fails_at: usize, made: bool) -> Arc<Self> {
        Arc::new(Self::failing(inner, fails_at, made))
    }

    fn failing(inner: Arc<dyn Catalog>, fails_at: usize, made: bool) -> Self {
        let (before_read, before_update, before_table) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { inner, changes: AtomicUsize::new(0), fails_at, made, before_read, before_update, before_table }
    }

    /// Whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.changes.load(Ordering::Relaxed) > self.fails_at
    }

    async fn change(&self, change: impl Future<Output = Result<()>> + Send) -> Result<()> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        if number < self.fails_at || (number == self.fails_at && self.made) {
            change.await?;
        }
        if number < self.fails_at { Ok(()) } else { Err(Error::unavailable("a test says so")) }
    }
}

/// Runs the others in a thread of their own, as if in another process.
fn let_others(meanwhile: &Mutex<Option<Meanwhile>>) {
    let meanwhile = meanwhile.lock().unwrap().take();
    if let Some(meanwhile) = meanwhile {
        std::thread::spawn(meanwhile).join().unwrap();
    }
}

#[async_trait]
impl Catalog for FaultyCatalog {
    async fn create_database(&self, database: &Database) -> Result<()> {
        self.change(self.inner.create_database(database)).await
    }
    async fn get_database(&self, name: &str) -> Result<Database> {
        self.inner.get_database(name).await
    }
    async fn list_databases(&self) -> Result<Vec<Database>> {
        self.inner.list_databases().await
    }
    async fn drop_database(&self, name: &str) -> Result<()> {
        self.change(self.inner.drop_database(name)).await
    }
    async fn create_table(&self, table: &TableDescription) -> Result<()> {
        self.change(self.inner.create_table(table)).await
    }
    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription> {
        self.inner.get_table(database, name).await
    }
    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>> {
        self.inner.list_tables(database).await
    }
    async fn update_table(&self, table: &TableDescription) -> Result<()> {
        let_others(&self.before_table);
        self.change(self.inner.update_table(table)).await
    }
    async fn drop_table(&self, database: &str, name: &str) -> Result<()> {
        self.change(self.inner.drop_table(database, name)).await
    }
    async fn get_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<Vec<Partition>> {
        let_others(&self.before_read);
        self.inner.get_partitions(table, values).await
    }
    fn list_partitions(&self, table: &TableDescription, predicate: &Predicate) -> PartitionPages {
        self.inner.list_partitions(table, predicate)
    }
    async fn add_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.change(self.inner.add_partitions(table, partitions)).await
    }
    async fn update_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        let_others(&self.before_update);
        self.change(self.inner.update_partitions(table, partitions)).await
    }
    async fn drop_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<()> {
        self.change(self.inner.drop_partitions(table, values)).await
    }
}
