//! Replacing partitions, and places that nobody replaces.

use std::path::Path;
use std::sync::{Arc, Mutex};

use hardtack_core::{Error, ErrorKind, JobContext, Location, PublishAction, Sink};
use hardtack_sinks::{CsvFile, JsonLines, ParquetDataset, PartitionValues};
use rstest::rstest;

use crate::{context, files, read, save, sql};

fn days(root: &Location) -> ParquetDataset {
    ParquetDataset::new("days", root).partition_by(["day", "city"])
}

const TWO_DAYS: &str = "select * from (values
    (1, date '2026-01-01', 'x'), (2, date '2026-01-01', null), (3, date '2026-01-02', 'x')) as t(n, day, city)";

async fn refused(ctx: &JobContext, sink: &dyn Sink, query: &str) -> Error {
    sink.stage(&ctx.staging("out"), sql(ctx, query).await).await.unwrap_err()
}

#[tokio::test]
async fn the_partitions_of_the_rows_are_replaced_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = days(&folder.path().into());
    save(&context("r1"), &dataset, TWO_DAYS).await;
    save(&context("r2"), &dataset, "select 4 as n, date '2026-01-01' as day, 'x' as city").await;
    let again = "select * from (values (5, date '2026-01-01', 'x'), (6, date '2026-01-03', '')) as t(n, day, city)";
    for run in ["r3", "r4"] {
        save(&context(run), &dataset.clone().overwrite_partitions(), again).await;
    }
    insta::assert_snapshot!(read(&context("r5"), folder.path().to_str().unwrap()).await, @"
    +---+
    | n |
    +---+
    | 2 |
    | 3 |
    | 5 |
    | 6 |
    +---+
    ");
    insta::assert_snapshot!(files(folder.path()).join("\n"), @"
    day=2026-01-01/city=__HIVE_DEFAULT_PARTITION__/part-00000-r1.parquet
    day=2026-01-01/city=x/part-00000-r4.parquet
    day=2026-01-02/city=x/part-00000-r1.parquet
    day=2026-01-03/city=__HIVE_DEFAULT_PARTITION__/part-00000-r4.parquet
    ");
}

#[tokio::test]
async fn a_partition_that_is_named_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = days(&folder.path().into());
    save(&context("r1"), &dataset, TWO_DAYS).await;
    let named = [("2026-01-01", None), ("2026-01-02", Some("x")), ("2026-01-09", Some("never was"))];
    let named = named.map(|(day, city)| PartitionValues::of("day", day).and("city", city));
    save(&context("r2"), &dataset.also_overwriting(named), "select 7 as n, date '2026-01-02' as day, 'x' as city")
        .await;
    assert_eq!(
        files(folder.path()),
        ["day=2026-01-01/city=x/part-00000-r1.parquet", "day=2026-01-02/city=x/part-00000-r2.parquet"]
    );
}

#[tokio::test]
async fn files_that_appear_later_and_those_that_are_hidden_stay() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("days", Location::from(folder.path())).partition_by(["n"]).overwrite_partitions();
    save(&context("r1"), &dataset, "select 1 as n, 1 as x").await;
    let partition = folder.path().join("n=1");
    let copy = |to: &str| std::fs::copy(crate::only_file(&partition, "part-00000-r1"), partition.join(to)).unwrap();
    std::fs::create_dir(partition.join("deeper")).unwrap();
    for name in ["_hidden.parquet", ".hidden.parquet", "notes.txt", "foreign.parquet", "deeper/foreign.parquet"] {
        copy(name);
    }
    let ctx = context("r2");
    let staged = dataset.stage(&ctx.staging("out"), sql(&ctx, "select 1 as n, 2 as x").await).await.unwrap();
    copy("later.parquet");
    ctx.publish(&staged.publish).await.unwrap();
    let left = ["n=1/.hidden.parquet", "n=1/_hidden.parquet", "n=1/later.parquet", "n=1/notes.txt"];
    assert_eq!(files(folder.path()), [&left[..], &["n=1/part-00000-r2.parquet"]].concat());
}

#[rstest]
#[case::without_columns(
    ParquetDataset::new("out", "memory:/x").overwrite_partitions(),
    "only a dataset with partition columns has partitions to overwrite (sink: out, location: memory:/x, hint: name the columns with `.partition_by([...])`, or replace everything with `.overwrite()`)"
)]
#[case::incomplete(
    days(&"memory:/x".into()).also_overwriting([PartitionValues::of("day", "2026-01-01")]),
    "a partition is named without a value of its column `city` (partition columns: day, city, hint: name each partition with a value of every partition column)"
)]
#[tokio::test]
async fn a_replacement_that_cannot_be_is_refused_in_dry_runs_too(
    #[case] dataset: ParquetDataset,
    #[case] message: &str,
) {
    let ctx = context("r");
    let error = refused(&ctx, &dataset, TWO_DAYS).await;
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Usage, message));
    let dry = dataset.conform(&ctx.staging("out"), sql(&ctx, TWO_DAYS).await).await.unwrap_err();
    assert_eq!(dry.to_string(), message);
}

/// Counts what a store is asked to list.
#[derive(Debug)]
struct Listings(Arc<dyn object_store::ObjectStore>, Arc<Mutex<Vec<String>>>);

impl std::fmt::Display for Listings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait::async_trait]
impl object_store::ObjectStore for Listings {
    async fn put_opts(
        &self,
        path: &object_store::path::Path,
        payload: object_store::PutPayload,
        options: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        self.0.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &object_store::path::Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(
        &self,
        path: &object_store::path::Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>> {
        self.0.delete_stream(paths)
    }

    fn list(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.1.lock().unwrap().push(prefix.map(ToString::to_string).unwrap_or_default());
        self.0.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.1.lock().unwrap().push(prefix.map(ToString::to_string).unwrap_or_default());
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &object_store::path::Path,
        to: &object_store::path::Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Counted(Arc<Mutex<Vec<String>>>);

impl hardtack_core::store::StoreFactory for Counted {
    fn open(&self, url: &url::Url) -> hardtack_core::Result<hardtack_core::Store> {
        let (stores, root) = (hardtack_core::Stores::new(false), Location::from("file:///"));
        let store = stores.open(&root)?.0;
        let objects = Arc::new(Listings(store.objects, Arc::clone(&self.0)));
        Ok(hardtack_core::Store { url: url.clone(), objects, staging: store.staging })
    }
}

#[tokio::test]
async fn only_the_partitions_concerned_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = days(&folder.path().into()).overwrite_partitions();
    save(&context("r1"), &dataset, TWO_DAYS).await;
    let listed = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::new(Counted(Arc::clone(&listed)));
    let ctx = JobContext::builder("job").store_factory("file", store).build().unwrap();
    save(&ctx, &dataset, "select 7 as n, date '2026-01-02' as day, 'x' as city").await;
    let listed: Vec<String> = listed.lock().unwrap().clone();
    let root = format!("{}/", folder.path().display());
    // Where an Iceberg table would have its metadata, and the partition.
    let wanted = ["metadata", "_iceberg/metadata", "day=2026-01-02/city=x"].map(|folder| format!("{root}{folder}"));
    assert_eq!(listed, wanted.map(|folder| folder.trim_start_matches('/').to_owned()));
}

// --- append-only places --------------------------------------------------------------------------------------------

async fn bronze(folder: &Path) {
    let bronze = ParquetDataset::new("bronze", Location::from(folder).join("lake/bronze")).append_only();
    for run in ["r1", "r2"] {
        save(&context(run), &bronze, "select 1 as n, 'a' as c").await;
    }
    let there = ["lake/bronze/_append_only", "lake/bronze/part-00000-r1.parquet", "lake/bronze/part-00000-r2.parquet"];
    assert_eq!(files(folder), there);
}

#[rstest]
#[case::itself(|lake: &Location| Box::new(ParquetDataset::new("x", lake.join("bronze")).overwrite()) as Box<dyn Sink>)]
#[case::partitions(|lake: &Location| Box::new(ParquetDataset::new("x", lake.join("bronze")).partition_by(["c"]).overwrite_partitions()) as _)]
#[case::below(|lake: &Location| Box::new(ParquetDataset::new("x", lake.join("bronze/deep/er")).overwrite()) as _)]
#[case::above(|lake: &Location| Box::new(ParquetDataset::new("x", lake.clone()).overwrite()) as _)]
#[case::csv(|lake: &Location| Box::new(CsvFile::new("x", lake.join("bronze/x.csv"))) as _)]
#[case::json(|lake: &Location| Box::new(JsonLines::new("x", lake.join("bronze/y/x.jsonl"))) as _)]
#[tokio::test]
async fn what_is_append_only_is_not_replaced(#[case] sink: fn(&Location) -> Box<dyn Sink>) {
    let folder = tempfile::tempdir().unwrap();
    bronze(folder.path()).await;
    let before = files(folder.path());
    let lake = Location::from(folder.path()).join("lake");
    let sink = sink(&lake);
    let error = refused(&context("r3"), sink.as_ref(), "select 2 as n, 'a' as c").await;
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.message(), "the place is append-only, but the sink would replace what is there");
    assert_eq!(error.get("marker"), Some(lake.join("bronze/_append_only").as_str()));
    assert!(error.get("location").unwrap().starts_with(lake.as_str()), "{error}");
    assert!(error.to_string().contains("remove the marker"), "{error}");
    assert_eq!(files(folder.path()), before);

    // Whoever removes the marker decides.
    std::fs::remove_file(folder.path().join("lake/bronze/_append_only")).unwrap();
    save(&context("r4"), &Boxed(sink), "select 2 as n, 'a' as c").await;
}

/// A sink of any kind.
#[derive(Debug)]
struct Boxed(Box<dyn Sink>);

#[async_trait::async_trait]
impl Sink for Boxed {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn stage(
        &self,
        ctx: &hardtack_core::StageContext,
        rows: datafusion::prelude::DataFrame,
    ) -> hardtack_core::Result<hardtack_core::Staged> {
        self.0.stage(ctx, rows).await
    }
}

/// Protected are partitions of a dataset (below what is replaced, or between it and the dataset's folder) and nothing
/// beside them.
#[rstest]
#[case("day=2026-01-01", true)]
#[case("day=2026-01-01/city=x", true)]
#[case("day=2026-01-01/city=x/deeper", true)]
#[case("day=2026-01-02", false)]
#[case("day=2026-01-01/city=__HIVE_DEFAULT_PARTITION__", false)]
#[case("_versions/x", false)]
#[tokio::test]
async fn a_partition_may_be_append_only(#[case] place: &str, #[case] protected: bool) {
    let folder = tempfile::tempdir().unwrap();
    let root = Location::from(folder.path());
    save(&context("r1"), &days(&root), TWO_DAYS).await;
    save(&context("r2"), &ParquetDataset::new("x", root.join(place)).append_only(), "select 1 as n").await;
    let ctx = context("r3");
    let rows = sql(&ctx, "select 7 as n, date '2026-01-01' as day, 'x' as city").await;
    let staged = days(&root).overwrite_partitions().stage(&ctx.staging("out"), rows).await;
    assert_eq!(staged.map_err(|e| e.kind()).err(), protected.then_some(ErrorKind::Usage));
}

#[tokio::test]
async fn beside_an_append_only_place_files_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    bronze(folder.path()).await;
    let lake = Location::from(folder.path()).join("lake");
    save(&context("r3"), &ParquetDataset::new("x", lake.join("bronze2")).overwrite(), "select 1 as n").await;
    save(&context("r3"), &CsvFile::new("x", lake.join("bronze.csv")), "select 1 as n").await;
}

/// Two first runs at once publish the same marker, and each can be rolled forward after the other.
#[rstest]
#[tokio::test]
async fn two_runs_may_publish_the_marker(#[values("file", "memory")] store: &str) {
    let folder = tempfile::tempdir().unwrap();
    let root = if store == "file" { Location::from(folder.path()) } else { Location::from("memory:/bronze") };
    let ctx = context("r1");
    let bronze = ParquetDataset::new("bronze", &root).append_only();
    let mut staged = Vec::new();
    for _ in 0..2 {
        staged.push(bronze.stage(&ctx.staging("out"), sql(&ctx, "select 1 as n").await).await.unwrap());
    }
    let (first, second) = (staged.remove(0).publish, staged.remove(0).publish);
    for actions in [&second, &first, &second, &first] {
        let marker: Vec<PublishAction> = actions[1..].to_vec();
        assert_eq!(marker.len(), 1);
        ctx.publish(&marker).await.unwrap();
    }
}

/// Compaction keeps all rows.
#[tokio::test]
async fn an_append_only_place_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    bronze(folder.path()).await;
    let bronze = ParquetDataset::new("bronze", Location::from(folder.path()).join("lake/bronze"));
    let io = Arc::new(hardtack_core::StagingIo::default());
    let job = JobContext::builder("job").io(io.clone()).build().unwrap();
    bronze.compact(&hardtack_core::Context::new((), job.clone())).await.unwrap();
    job.publish(&io.staged()[0].staged.publish).await.unwrap();
    let left = files(folder.path());
    assert_eq!((left.len(), left[0].as_str()), (2, "lake/bronze/_append_only"));
    assert!(left[1].contains("compacted"), "{left:?}");
}

/// Rows since a bookmark would be all that is left.
#[test]
fn sinks_say_whether_they_replace_what_is_there() {
    let dataset = || ParquetDataset::new("a", "memory:/a").partition_by(["p"]);
    let replacing: [&dyn Sink; 4] = [
        &dataset().overwrite(),
        &dataset().overwrite_partitions(),
        &CsvFile::new("a", "memory:/a.csv"),
        &JsonLines::new("a", "memory:/a.jsonl"),
    ];
    assert!(replacing.iter().all(|sink| sink.replaces()));
    let keeping: [&dyn Sink; 6] = [
        &dataset(),
        &dataset().append_only(),
        &dataset().overwrite().merges(),
        &dataset().overwrite_partitions().merges(),
        &CsvFile::new("a", "memory:/a.csv").merges(),
        &JsonLines::new("a", "memory:/a.jsonl").merges(),
    ];
    assert!(!keeping.iter().any(|sink| sink.replaces()));
}
