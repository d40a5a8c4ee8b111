//! The contract of every sink, on S3: nothing exists before it is published, publishing twice changes nothing,
//! discarding leaves no trace, and the published files equal those that the same sink writes to a folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use hardtack_core::actions::MemoryJournal;
use hardtack_core::publish::discard;
use hardtack_core::{Error, ErrorKind, JobContext, Location, Sink, Source, Staged};
use hardtack_sinks::{CsvFile, JsonLines, ParquetDataset};
use hardtack_sources::{CsvFiles, ParquetFiles};
use hardtack_test_support::containers::{Bucket, S3, s3, s3_of_moto};
use object_store::ObjectStoreExt;
use rstest::rstest;

const ROWS: &str = "select * from (values (1, 'a b'), (2, 'ü/=%20'), (3, null), (4, 'x:y')) as t(n, c)";

/// The number of objects, and of uploads that were begun but neither completed nor aborted.
fn objects_and_uploads(bucket: &Bucket) -> (usize, usize) {
    (bucket.files("").len(), bucket.open_uploads().len())
}

/// A run that writes to the bucket, and its journal.
struct Writer {
    journal: Arc<MemoryJournal>,
    ctx: JobContext,
}

impl Writer {
    fn new(bucket: &Bucket, run: &str) -> Self {
        let journal = Arc::new(MemoryJournal::default());
        let builder = JobContext::builder("job").run_id(run.parse().unwrap()).threads(1);
        let ctx = builder.journal(journal.clone()).store_factory("s3", Arc::new(bucket.s3().clone())).build().unwrap();
        Self { journal, ctx }
    }

    async fn stage(&self, kind: &str, root: &Location) -> Staged {
        sink(kind, root).stage(&self.ctx.staging("out"), self.ctx.session().sql(ROWS).await.unwrap()).await.unwrap()
    }

    async fn discard(&self) {
        discard(self.ctx.stores(), self.ctx.publishers(), &self.journal.noted()).await.unwrap();
    }

    /// The contents of all files below `root`, by path relative to it.
    async fn contents(&self, root: &Location) -> BTreeMap<String, Vec<u8>> {
        let (store, path) = self.ctx.stores().open(root).unwrap();
        let mut contents = BTreeMap::new();
        for meta in store.objects.list(Some(&path)).try_collect::<Vec<_>>().await.unwrap() {
            let bytes = store.objects.get(&meta.location).await.unwrap().bytes().await.unwrap();
            contents.insert(meta.location.as_ref()[path.as_ref().len()..].to_owned(), bytes.to_vec());
        }
        contents
    }
}

fn sink(kind: &str, root: &Location) -> Box<dyn Sink> {
    let table = ParquetDataset::new("out", root.join("out"));
    match kind {
        "append" => Box::new(table),
        "overwrite" => Box::new(table.overwrite()),
        "partitioned" => Box::new(table.partition_by(["c"])),
        "partitioned overwrite" => Box::new(table.overwrite().partition_by(["c"])),
        "csv" => Box::new(CsvFile::new("out", root.join("out/rows ü.csv.gz"))),
        "json" => Box::new(JsonLines::new("out", root.join("out/rows.jsonl"))),
        _ => unreachable!(),
    }
}

#[rstest]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
#[tokio::test]
async fn staged_is_invisible_and_published_is_whole(
    #[values(s3, s3_of_moto)] service: fn() -> S3,
    #[values("append", "overwrite", "partitioned", "partitioned overwrite", "csv", "json")] kind: &str,
) {
    let bucket = service().bucket();
    let root = bucket.at("lake");
    let run = Writer::new(&bucket, "first");
    let staged = run.stage(kind, &root).await;
    let files = usize::try_from(staged.report.files).unwrap();
    assert_eq!((files, staged.report.rows), (if kind.starts_with("partitioned") { 4 } else { 1 }, 4));
    assert_eq!(objects_and_uploads(&bucket), (0, files), "staged");

    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(objects_and_uploads(&bucket), (files, 0), "published");
    let published = run.contents(&root).await;

    let folder = tempfile::tempdir().unwrap();
    let local = run.stage(kind, &folder.path().into()).await;
    run.ctx.publish(&local.publish).await.unwrap();
    let wanted = run.contents(&folder.path().into()).await;
    assert_eq!(published.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    assert!(published == wanted, "the bytes on S3 and in a folder differ");

    run.ctx.publish(&staged.publish).await.unwrap();
    run.discard().await;
    assert_eq!(objects_and_uploads(&bucket), (files, 0), "published again, and discarded");
    assert!(run.contents(&root).await == published, "publishing again, or discarding, changed something");

    let next = Writer::new(&bucket, "next");
    let staged = next.stage(kind, &root).await;
    assert!(next.contents(&root).await == published, "staging changed what was published");
    next.ctx.publish(&staged.publish).await.unwrap();
    let adds = matches!(kind, "append" | "partitioned");
    assert_eq!(objects_and_uploads(&bucket), (if adds { 2 * files } else { files }, 0), "the next run");
}

#[rstest]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
#[tokio::test]
async fn discarded_leaves_no_trace(
    #[values(s3, s3_of_moto)] service: fn() -> S3,
    #[values("append", "partitioned", "partitioned overwrite", "csv", "json")] kind: &str,
) {
    let bucket = service().bucket();
    let root = bucket.at("lake");
    let run = Writer::new(&bucket, "run");
    let staged = run.stage(kind, &root).await;
    assert_ne!(objects_and_uploads(&bucket).1, 0, "nothing to discard");
    for _ in 0..2 {
        run.discard().await;
        assert_eq!(objects_and_uploads(&bucket), (0, 0));
    }
    // Publishing discarded files fails. (Only that is checked: moto responds with an internal error.)
    run.ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!(objects_and_uploads(&bucket), (0, 0));
}

/// A file that was replaced or removed after it was listed is not read: the listed version is requested from S3.
#[rstest]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_before_it_is_read_ends_the_run(
    #[values(s3, s3_of_moto)] service: fn() -> S3,
    #[values("csv", "parquet")] format: &str,
    #[values(true, false)] removed: bool,
) {
    let bucket = service().bucket();
    let run = Writer::new(&bucket, "first");
    let old = ["a", "b"];
    // The same size as before.
    let new = "c";
    for name in old {
        write(&run, &bucket, format, name, name).await;
    }
    let at = bucket.at("in");
    let rows = match format {
        "csv" => CsvFiles::new("in", at).load(&run.ctx.loading("in")).await.unwrap(),
        _ => ParquetFiles::new("in", at).load(&run.ctx.loading("in")).await.unwrap(),
    };
    assert_eq!(rows.clone().count().await.unwrap(), 2);
    match removed {
        true => bucket.remove(&format!("in/b.{format}")),
        false => write(&run, &bucket, format, "b", new).await,
    }
    let error = Error::from(rows.collect().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Changed, "{error:?}");
    assert!(error.get("file").is_some_and(|file| file.ends_with(&format!("in/b.{format}"))), "{error:?}");
    assert_eq!(error.message().contains("gone"), removed, "{error:?}");
}

/// Writes a file of one row to the folder `in`.
async fn write(run: &Writer, bucket: &Bucket, format: &str, name: &str, value: &str) {
    if format == "csv" {
        return bucket.write(&format!("in/{name}.csv"), format!("v\n{value}\n"));
    }
    let row = run.ctx.session().sql(&format!("select '{value}' as v")).await.unwrap();
    // One folder for each, because files are named after their run.
    let folder = format!("made/{name}{value}");
    let made = ParquetDataset::new("made", bucket.at(&folder)).stage(&run.ctx.staging("out"), row).await.unwrap();
    run.ctx.publish(&made.publish).await.unwrap();
    let [file] = &*bucket.files(&folder) else { panic!("one row is in one file") };
    bucket.write(&format!("in/{name}.parquet"), bucket.read(file));
}
