//! A lake and a catalog in a temporary folder.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hardtack_catalog::{Catalog, CatalogHandle, EmbeddedCatalog, RestCatalog, RestCredentials};
use hardtack_core::actions::{DiscardAction, MemoryJournal};
use hardtack_core::{JobContext, Location, Result, Sink, Staged};
use hardtack_iceberg::{IcebergTable, NewIcebergTable};
use hardtack_test_support::iceberg_rest::IcebergRest;
use hardtack_test_support::{Frame, TempLake};

pub(crate) struct World<K> {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) kind: K,
    pub(crate) dir: TempLake,
}

/// A kind of catalog.
pub(crate) trait Kind: Sized {
    fn open(dir: &TempLake) -> (Self, Arc<dyn Catalog>);
}

pub(crate) struct Embedded;

impl Kind for Embedded {
    fn open(dir: &TempLake) -> (Self, Arc<dyn Catalog>) {
        (Self, Arc::new(EmbeddedCatalog::new(dir.path().join("catalog.sqlite"))))
    }
}

/// A REST catalog, with its server.
pub(crate) struct Rest(pub(crate) IcebergRest);

impl Kind for Rest {
    fn open(dir: &TempLake) -> (Self, Arc<dyn Catalog>) {
        let server = IcebergRest::start(&dir.path().join("warehouse"));
        let catalog = RestCatalog::new(server.url().parse().unwrap(), RestCredentials::None).unwrap();
        (Self(server), Arc::new(catalog))
    }
}

/// A run, and what it has noted.
pub(crate) struct OneRun {
    pub(crate) ctx: JobContext,
    journal: Arc<MemoryJournal>,
}

impl<K: Kind> World<K> {
    pub(crate) fn new() -> Self {
        let dir = TempLake::new();
        let (kind, catalog) = K::open(&dir);
        Self { catalog, kind, dir }
    }

    pub(crate) fn at(&self, path: &str) -> Location {
        self.dir.at(path)
    }

    /// The table `lake.t`, which is created in `lake/t`.
    pub(crate) fn table(&self) -> IcebergTable {
        IcebergTable::named("lake", "t").create_if_missing(self.new_table())
    }

    pub(crate) fn new_table(&self) -> NewIcebergTable {
        NewIcebergTable::at(self.at("lake/t"))
    }

    /// A new run.
    pub(crate) fn run(&self) -> OneRun {
        self.run_with(Arc::clone(&self.catalog))
    }

    /// A new run that sees the catalog through this one.
    pub(crate) fn run_with(&self, catalog: Arc<dyn Catalog>) -> OneRun {
        let journal = Arc::new(MemoryJournal::default());
        let ctx = JobContext::builder("job")
            .threads(2)
            .journal(Arc::clone(&journal) as _)
            .extension(Arc::new(CatalogHandle::new(catalog)))
            .build()
            .unwrap();
        hardtack_iceberg::register(&ctx);
        OneRun { ctx, journal }
    }

    /// Stages rows in a new run.
    pub(crate) async fn stage(&self, table: &IcebergTable, rows: &Frame) -> Result<(OneRun, Staged)> {
        let run = self.run();
        let staged = table.stage(&run.ctx.staging("out"), rows.to_df(run.ctx.session())).await?;
        Ok((run, staged))
    }

    /// Saves rows in a new run.
    pub(crate) async fn save(&self, table: &IcebergTable, rows: &Frame) {
        let (run, staged) = self.stage(table, rows).await.unwrap();
        run.ctx.publish(&staged.publish).await.unwrap();
    }

    /// The rows of a version of a table, as sorted lines.
    pub(crate) async fn read(&self, table: IcebergTable) -> Result<Vec<String>> {
        let run = self.run();
        let rows = run.ctx.load(table).await?.collect().await?;
        let mut lines: Vec<String> = rows.iter().flat_map(lines).collect();
        lines.sort();
        Ok(lines)
    }

    /// The current rows of `lake.t`.
    pub(crate) async fn rows(&self) -> Vec<String> {
        self.read(IcebergTable::named("lake", "t")).await.unwrap()
    }

    /// The table's metadata, as JSON.
    pub(crate) async fn metadata(&self) -> serde_json::Value {
        let table = self.catalog.get_table("lake", "t").await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "as a foreign reader does")]
        let text = std::fs::read(table.metadata_location().unwrap()).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// The names of the table's branches and tags.
    pub(crate) async fn refs(&self) -> Vec<String> {
        let metadata = self.metadata().await;
        let refs = metadata["refs"].as_object().map(|refs| refs.keys().cloned().collect::<Vec<_>>());
        let mut refs = refs.unwrap_or_default();
        refs.sort();
        refs
    }

    /// The summaries of the ancestors of `main`, newest first.
    pub(crate) async fn history(&self) -> Vec<String> {
        let metadata = self.metadata().await;
        let snapshots = metadata["snapshots"].as_array().cloned().unwrap_or_default();
        let mut next = metadata["refs"]["main"]["snapshot-id"].as_i64();
        let mut history = Vec::new();
        while let Some(id) = next {
            let snapshot = snapshots.iter().find(|s| s["snapshot-id"].as_i64() == Some(id)).unwrap();
            let summary = &snapshot["summary"];
            let of = |key: &str| summary[key].as_str().unwrap_or("0").to_owned();
            history.push(format!(
                "{}: +{} -{} files, +{} -{} rows; {} files, {} rows",
                summary["operation"].as_str().unwrap(),
                of("added-data-files"),
                of("deleted-data-files"),
                of("added-records"),
                of("deleted-records"),
                of("total-data-files"),
                of("total-records"),
            ));
            next = snapshot["parent-snapshot-id"].as_i64();
        }
        history
    }
}

impl OneRun {
    /// Discards what the run has staged.
    pub(crate) async fn discard(&self) -> Result<()> {
        let noted: Vec<DiscardAction> = self.journal.noted();
        hardtack_core::publish::discard(self.ctx.stores(), self.ctx.publishers(), &noted).await
    }
}

/// The rows of a batch, as texts.
pub(crate) fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("null");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" "))
        .collect()
}
