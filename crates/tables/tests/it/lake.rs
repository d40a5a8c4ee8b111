//! A lake and a catalog in a temporary folder.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::FieldRef;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hardtack_catalog::{
    Catalog, CatalogExt, CatalogHandle, Column, Database, EmbeddedCatalog, Partition, Predicate, TableDescription,
    TableFormat,
};
use hardtack_core::{Clock, JobContext, Location, PublishAction, Result, Sink, Staged};
use hardtack_tables::Table;
use hardtack_test_support::{Frame, TempLake};

/// Files below `lake/`, and a catalog with the database `lake`.
pub(crate) struct World {
    pub(crate) dir: TempLake,
    pub(crate) catalog: Arc<dyn Catalog>,
    clock: Arc<Later>,
}

/// The machine's clock, moved forward.
#[derive(Debug, Default)]
struct Later(Mutex<TimeDelta>);

impl Clock for Later {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + *self.0.lock().unwrap()
    }
}

/// The table of most tests: partitioned by a text.
pub(crate) fn sales() -> Table {
    Table::named("lake", "sales")
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = TempLake::new();
        let catalog = Arc::new(EmbeddedCatalog::new(dir.path().join("catalog.db")));
        catalog.create_database(&Database::new("lake")).await.unwrap();
        Self { dir, catalog, clock: Arc::default() }
    }

    /// A world with the table `lake.sales`, with these columns and keys (`"id: bigint, name: string"`).
    pub(crate) async fn with_sales(columns: &str, keys: &str) -> Self {
        let world = Self::new().await;
        world.catalog.create_table(&world.description("sales", columns, keys)).await.unwrap();
        world
    }

    /// A world with the usual table, partitioned by `day`.
    pub(crate) async fn partitioned() -> Self {
        Self::with_sales("id: bigint", "day: string").await
    }

    pub(crate) fn description(&self, name: &str, columns: &str, keys: &str) -> TableDescription {
        TableDescription::new("lake", name, &TableFormat::Parquet, self.dir.at(&format!("lake/{name}")))
            .with_columns(columns_of(columns))
            .with_partition_keys(columns_of(keys))
    }

    pub(crate) fn advance(&self, by: TimeDelta) {
        *self.clock.0.lock().unwrap() += by;
    }

    /// The context of a new run.
    pub(crate) fn run(&self) -> JobContext {
        self.run_on(Arc::clone(&self.catalog))
    }

    pub(crate) fn run_on(&self, catalog: Arc<dyn Catalog>) -> JobContext {
        let ctx = JobContext::builder("job")
            .threads(2)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .extension(Arc::new(CatalogHandle::new(catalog)))
            .build()
            .unwrap();
        hardtack_tables::register(&ctx);
        ctx
    }

    /// Stages rows in a new run, to be published later.
    pub(crate) async fn stage(&self, table: Table, rows: Frame) -> Result<(JobContext, Staged)> {
        let ctx = self.run();
        let staged = table.stage(&ctx.staging("out"), rows.to_df(ctx.session())).await?;
        Ok((ctx, staged))
    }

    /// Saves rows to a table in a new run.
    pub(crate) async fn save(&self, table: Table, rows: Frame) -> Vec<PublishAction> {
        let (ctx, staged) = self.stage(table, rows).await.unwrap();
        ctx.publish(&staged.publish).await.unwrap();
        staged.publish
    }

    pub(crate) async fn table(&self, name: &str) -> TableDescription {
        self.catalog.get_table("lake", name).await.unwrap()
    }

    pub(crate) async fn swap(&self, a: &str, b: &str) {
        swap(self.catalog.as_ref(), a, b).await;
    }

    pub(crate) async fn partitions(&self, name: &str) -> Vec<Partition> {
        self.catalog.all_partitions(&self.table(name).await, &Predicate::all()).await.unwrap()
    }

    /// The rows of a table as readers of the catalog see them, as sorted lines.
    pub(crate) async fn rows(&self, name: &str) -> Vec<String> {
        read(self.catalog.as_ref(), name).await.unwrap()
    }

    /// `recordCount`, and whether `totalSize` matches the files, for the table and each partition.
    pub(crate) async fn counts(&self, name: &str) -> BTreeMap<String, String> {
        let table = self.table(name).await;
        let mut counts = BTreeMap::new();
        let (mut all, mut all_size) = (0, 0);
        for partition in self.partitions(name).await {
            let location = partition.storage.location.clone().unwrap();
            let size = size_of(&location);
            let name = table.partition_name(&partition.values);
            all_size += size;
            all += partition.parameters.get("recordCount").map_or(0, |n| n.parse::<u64>().unwrap());
            counts.insert(name, count(&partition.parameters, size));
        }
        if table.partition_keys.is_empty() {
            all_size = size_of(table.location().unwrap());
        } else if let Some(count) = table.parameters.get("recordCount") {
            assert_eq!(count.parse::<u64>().unwrap(), all);
        }
        counts.insert("all".to_owned(), count(&table.parameters, all_size));
        counts
    }

    /// The files of versions and records below the table's folder.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        let all = self.dir.files(&format!("lake/{name}"));
        all.into_iter().filter(|file| file.contains("/_versions/")).collect()
    }

    /// The files that readers of this folder see.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        self.dir.files(folder).into_iter().filter(|file| !file.contains("/_")).collect()
    }
}

/// Swaps two tables of `lake`.
pub(crate) async fn swap(catalog: &dyn Catalog, a: &str, b: &str) {
    let (a, b) = (catalog.get_table("lake", a).await.unwrap(), catalog.get_table("lake", b).await.unwrap());
    catalog.swap_tables(&a, &b).await.unwrap();
}

fn count(parameters: &BTreeMap<String, String>, size: u64) -> String {
    let right = parameters.get("totalSize").map(|n| n.parse::<u64>().unwrap() == size);
    let rows = parameters.get("recordCount").map_or("?", String::as_str);
    match right {
        Some(true) => rows.to_owned(),
        Some(false) => format!("{rows}, totalSize is wrong"),
        None => format!("{rows}, no totalSize"),
    }
}

fn visible(folder: &Location) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.as_str()) else { return Vec::new() };
    let visible = |path: &std::path::PathBuf| !path.file_name().unwrap().to_string_lossy().starts_with(['_', '.']);
    entries.map(|entry| entry.unwrap().path()).filter(visible).filter(|path| path.is_file()).collect()
}

fn size_of(folder: &Location) -> u64 {
    visible(folder).iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// Reads a table as any reader of the catalog does: first the partitions, then their files.
pub(crate) async fn read(catalog: &dyn Catalog, name: &str) -> Result<Vec<String>> {
    let table = catalog.get_table("lake", name).await?;
    let mut places = Vec::new();
    if table.partition_keys.is_empty() {
        places.push((String::new(), table.location()?.clone()));
    }
    for partition in catalog.all_partitions(&table, &Predicate::all()).await? {
        places.push((format!("{} ", table.partition_name(&partition.values)), partition.storage.location.unwrap()));
    }
    let session = SessionContext::new();
    let mut rows = Vec::new();
    for (partition, location) in places {
        for file in visible(&location) {
            let options = ParquetReadOptions::default().file_extension("");
            for batch in session.read_parquet(file.to_string_lossy().into_owned(), options).await?.collect().await? {
                rows.extend(lines(&batch).map(|line| format!("{partition}{line}")));
            }
        }
    }
    rows.sort();
    Ok(rows)
}

/// Reads a table as a job does; columns of partitions come last.
pub(crate) async fn load(ctx: &JobContext, table: Table) -> Result<Vec<String>> {
    Ok(shown(&ctx.load(table).await?.collect().await?))
}

/// Rows as sorted lines.
pub(crate) fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows: Vec<String> = batches.iter().flat_map(lines).collect();
    rows.sort();
    rows
}

/// `id=1 name=x`
fn lines(batch: &RecordBatch) -> impl Iterator<Item = String> {
    let options = FormatOptions::new().with_null("null");
    let cells = |row: usize| {
        let cell = |(field, column): (&FieldRef, &ArrayRef)| {
            format!("{}={}", field.name(), ArrayFormatter::try_new(column, &options).unwrap().value(row))
        };
        batch.schema().fields().iter().zip(batch.columns()).map(cell).collect::<Vec<_>>().join(" ")
    };
    (0..batch.num_rows()).map(cells).collect::<Vec<_>>().into_iter()
}

pub(crate) fn columns_of(text: &str) -> Vec<Column> {
    let columns = text.split(", ").filter(|column| !column.is_empty());
    columns.map(|column| column.split_once(": ").map(|(name, t)| Column::foreign(name, t)).unwrap()).collect()
}
