//! What every sink promises, on S3: nothing is there before it is published, publishing twice changes nothing, what is
//! discarded leaves no trace, and what is published is what the same sink writes to a folder.
//!
//! In a bucket per test, in whatever answers at `HARDTACK_TEST_S3_ENDPOINT` (moto, LocalStack, MinIO). Without it these
//! tests are left out and say so; `.ci/run` starts moto.
#![allow(clippy::print_stdout, reason = "a test that is left out says so")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::TryStreamExt;
use hardtack_core::publish::{MemoryJournal, discard};
use hardtack_core::staging::MultipartStaging;
use hardtack_core::store::StoreFactory;
use hardtack_core::{JobContext, Location, Result, Sink, Staged, Store};
use hardtack_sinks::{CsvFile, JsonLines, ParquetDataset};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, RetryConfig};
use rstest::rstest;
use url::Url;

const ROWS: &str = "select * from (values (1, 'a b'), (2, 'ü/=%20'), (3, null), (4, 'x:y')) as t(n, c)";

/// A bucket of its own, made and looked at with nothing but HTTP.
#[derive(Debug)]
struct Bucket {
    host: String,
    name: String,
}

impl Bucket {
    fn new() -> Option<Arc<Self>> {
        let Ok(endpoint) = std::env::var("HARDTACK_TEST_S3_ENDPOINT") else {
            println!("left out: set HARDTACK_TEST_S3_ENDPOINT=http://127.0.0.1:PORT to run this test against S3");
            return None;
        };
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let host = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let name = format!("hardtack-sinks-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let bucket = Self { host, name };
        bucket.request("PUT", "");
        Some(Arc::new(bucket))
    }

    fn root(&self) -> Location {
        format!("s3://{}/lake", self.name).into()
    }

    fn request(&self, method: &str, query: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let (host, name) = (&self.host, &self.name);
        let head =
            format!("{method} /{name}{query} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close");
        write!(stream, "{head}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{head}\n{answer}");
        answer
    }

    /// How many objects there are, and how many uploads were begun and neither completed nor aborted.
    fn objects_and_uploads(&self) -> (usize, usize) {
        let count = |query, tag| self.request("GET", query).matches(tag).count();
        (count("?list-type=2", "<Key>"), count("?uploads", "<UploadId>"))
    }
}

impl StoreFactory for Bucket {
    fn open(&self, url: &Url) -> Result<Store> {
        let s3 = AmazonS3Builder::new()
            .with_bucket_name(url.host_str().unwrap())
            .with_endpoint(format!("http://{}", self.host))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("test")
            .with_secret_access_key("test")
            .with_retry(RetryConfig { max_retries: 1, ..RetryConfig::default() })
            .build()?;
        let s3 = Arc::new(s3);
        let staging = MultipartStaging::new(url.clone(), s3.clone(), s3.clone());
        Ok(Store { url: url.clone(), objects: s3, staging: Arc::new(staging) })
    }
}

/// A run that writes to the bucket, and what it notes to leave behind.
struct Writer {
    bucket: Arc<Bucket>,
    journal: Arc<MemoryJournal>,
    ctx: JobContext,
}

impl Writer {
    fn new(bucket: &Arc<Bucket>, run: &str) -> Self {
        let journal = Arc::new(MemoryJournal::default());
        let builder = JobContext::builder("job").run_id(run.parse().unwrap()).threads(1);
        let ctx = builder.journal(journal.clone()).store_factory("s3", bucket.clone()).build().unwrap();
        Self { bucket: bucket.clone(), journal, ctx }
    }

    async fn stage(&self, kind: &str, root: &Location) -> Staged {
        sink(kind, root).stage(&self.ctx, self.ctx.session().sql(ROWS).await.unwrap()).await.unwrap()
    }

    async fn discard(&self) {
        discard(self.ctx.stores(), self.ctx.publishers(), &self.journal.noted()).await.unwrap();
    }

    /// The contents of all files below `root`, by their paths relative to it.
    async fn contents(&self, root: &Location) -> BTreeMap<String, Vec<u8>> {
        let (store, path) = self.ctx.stores().open(root).unwrap();
        let mut contents = BTreeMap::new();
        for meta in store.objects.list(Some(&path)).try_collect::<Vec<_>>().await.unwrap() {
            let bytes = store.objects.get(&meta.location).await.unwrap().bytes().await.unwrap();
            contents.insert(meta.location.as_ref()[path.as_ref().len()..].to_owned(), bytes.to_vec());
        }
        contents
    }

    /// Leaves nothing to whoever lends the endpoint.
    async fn clean_up(self) {
        let (store, _) = self.ctx.stores().open(&self.bucket.root()).unwrap();
        for meta in store.objects.list(None).try_collect::<Vec<_>>().await.unwrap() {
            store.objects.delete(&meta.location).await.unwrap();
        }
        self.bucket.request("DELETE", "");
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
#[tokio::test]
async fn staged_is_invisible_and_published_is_whole(
    #[values("append", "overwrite", "partitioned", "partitioned overwrite", "csv", "json")] kind: &str,
) {
    let Some(bucket) = Bucket::new() else { return };
    let run = Writer::new(&bucket, "first");
    let staged = run.stage(kind, &bucket.root()).await;
    let files = usize::try_from(staged.report.files).unwrap();
    assert_eq!((files, staged.report.rows), (if kind.starts_with("partitioned") { 4 } else { 1 }, 4));
    assert_eq!(bucket.objects_and_uploads(), (0, files), "staged");

    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(bucket.objects_and_uploads(), (files, 0), "published");
    let published = run.contents(&bucket.root()).await;

    let folder = tempfile::tempdir().unwrap();
    let local = run.stage(kind, &folder.path().into()).await;
    run.ctx.publish(&local.publish).await.unwrap();
    let wanted = run.contents(&folder.path().into()).await;
    assert_eq!(published.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    assert!(published == wanted, "the bytes on S3 and in a folder differ");

    run.ctx.publish(&staged.publish).await.unwrap();
    run.discard().await;
    assert_eq!(bucket.objects_and_uploads(), (files, 0), "published again, and discarded");
    assert!(run.contents(&bucket.root()).await == published, "publishing again, or discarding, changed something");

    let next = Writer::new(&bucket, "next");
    let staged = next.stage(kind, &bucket.root()).await;
    assert!(next.contents(&bucket.root()).await == published, "staging changed what was published");
    next.ctx.publish(&staged.publish).await.unwrap();
    let adds = matches!(kind, "append" | "partitioned");
    assert_eq!(bucket.objects_and_uploads(), (if adds { 2 * files } else { files }, 0), "the next run");
    next.clean_up().await;
}

#[rstest]
#[tokio::test]
async fn discarded_leaves_no_trace(
    #[values("append", "partitioned", "partitioned overwrite", "csv", "json")] kind: &str,
) {
    let Some(bucket) = Bucket::new() else { return };
    let run = Writer::new(&bucket, "run");
    let staged = run.stage(kind, &bucket.root()).await;
    assert_ne!(bucket.objects_and_uploads().1, 0, "nothing to discard");
    for _ in 0..2 {
        run.discard().await;
        assert_eq!(bucket.objects_and_uploads(), (0, 0));
    }
    // What was discarded cannot be published any more. (No more than that: moto answers with an internal error.)
    run.ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!(bucket.objects_and_uploads(), (0, 0));
    run.clean_up().await;
}
