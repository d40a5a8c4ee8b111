//! A catalog, a store and a context to test with.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::DataFrame;
use hardtack_catalog::{self as catalog, Catalog, CatalogExt, CatalogHandle, CountingCatalog, EmbeddedCatalog};
use hardtack_core::{Error, JobContext, Location, Result};
use hardtack_tables::Table;
use hardtack_test_support::CountingStores;
use object_store::{ObjectStoreExt, PutPayload};

/// A catalog and a store that count their requests, and a run with both.
pub struct World {
    pub ctx: JobContext,
    pub catalog: Arc<CountingCatalog>,
    pub requests: Arc<CountingStores>,
}

impl World {
    pub fn new() -> Self {
        let catalog = Arc::new(CountingCatalog::new(Arc::new(EmbeddedCatalog::in_memory())));
        let requests = Arc::<CountingStores>::default();
        let ctx = JobContext::builder("job")
            .threads(2)
            .extension(Arc::new(CatalogHandle::new(catalog.clone())))
            .store_factory("memory", Arc::clone(&requests) as _)
            .build()
            .unwrap();
        Self { ctx, catalog, requests }
    }

    /// Creates a table and its database.
    pub async fn create(&self, table: &catalog::TableDescription) {
        self.catalog.ensure_database(&catalog::Database::new(&table.database)).await.unwrap();
        self.catalog.create_table(table).await.unwrap();
    }

    /// Adds partitions at `location/key=value`.
    pub async fn partitions<const N: usize>(&self, table: &catalog::TableDescription, all: &[[&str; N]]) {
        let partition = |values: &[&str; N]| {
            let values = values.map(str::to_owned);
            let location = table.location().unwrap().join(table.partition_name(&values));
            table.partition(values, location)
        };
        self.catalog.add_partitions(table, &all.iter().map(partition).collect::<Vec<_>>()).await.unwrap();
    }

    pub async fn put(&self, location: impl Into<Location>, bytes: impl Into<PutPayload>) {
        let (store, path) = self.ctx.stores().open(&location.into()).unwrap();
        store.objects.put(&path, bytes.into()).await.unwrap();
    }

    pub async fn load(&self, table: &str) -> Result<DataFrame> {
        let (database, table) = table.split_once('.').unwrap();
        self.ctx.load(Table::named(database, table)).await
    }

    /// The requests to catalog and store since the last call.
    pub fn asked(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.catalog.take().iter().map(|(name, r)| format!("{name} {} ({})", r.calls, r.items)));
        lines.extend(self.requests.take_counts().iter().map(|(name, n)| format!("{name} {n}")));
        lines.join("\n")
    }
}

/// The rows, sorted.
pub async fn show(rows: DataFrame) -> String {
    match try_show(rows).await {
        Ok(rows) => rows,
        Err(error) => error.chain(),
    }
}

async fn try_show(rows: DataFrame) -> Result<String> {
    let batches = rows.collect().await?;
    let text = pretty_format_batches(&batches)?.to_string();
    let mut lines: Vec<&str> = text.lines().collect();
    let end = lines.len() - 1;
    if end > 3 {
        lines[3..end].sort_unstable();
    }
    Ok(lines.join("\n"))
}

/// The rows in one line, or the error.
pub async fn cells(rows: DataFrame) -> String {
    let batches = match rows.collect().await {
        Ok(batches) => batches,
        Err(error) => return Error::from(error).to_string(),
    };
    let row = |batch: &RecordBatch, row| {
        let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
        cells.collect::<Vec<_>>().join("|")
    };
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |i| row(batch, i)));
    rows.collect::<Vec<_>>().join(";")
}
