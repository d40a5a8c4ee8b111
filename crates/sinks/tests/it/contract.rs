//! The contract of every sink, checked on every store: nothing is visible before it is published, publishing twice
//! changes nothing, and discarding leaves no trace.

use std::sync::Arc;

use futures::TryStreamExt;
use hardtack_core::actions::MemoryJournal;
use hardtack_core::publish::discard;
use hardtack_core::{ErrorKind, JobContext, Location, PublishAction, Sink};
use hardtack_sinks::{CsvFile, JsonLines, ParquetDataset, PartitionValues};
use object_store::ObjectStoreExt;
use rstest::rstest;

use crate::{context, sql};

const ROWS: &str = "select * from (values (1, 'a'), (2, 'b')) as t(n, c)";

fn sink(kind: &str, root: &Location) -> Box<dyn Sink> {
    match kind {
        "parquet" => Box::new(ParquetDataset::new("out", root.join("out"))),
        "partitioned" => Box::new(ParquetDataset::new("out", root.join("out")).overwrite().partition_by(["c"])),
        "partitions" => {
            let dataset = ParquetDataset::new("out", root.join("out")).partition_by(["c"]);
            Box::new(dataset.also_overwriting([PartitionValues::of("c", "gone")]))
        }
        "append-only" => Box::new(ParquetDataset::new("out", root.join("out")).append_only()),
        "csv" => Box::new(CsvFile::new("out", root.join("out/rows.csv.gz"))),
        "json" => Box::new(JsonLines::new("out", root.join("out/rows.jsonl"))),
        _ => unreachable!(),
    }
}

/// What a reader sees: everything that is not hidden.
async fn visible(ctx: &JobContext, root: &Location) -> Vec<String> {
    let (store, path) = ctx.stores().open(root).unwrap();
    let listed: Vec<_> = store.objects.list(Some(&path)).try_collect().await.unwrap();
    let mut names: Vec<_> = listed.iter().map(|m| m.location.to_string()).collect();
    names.retain(|name| !name.rsplit('/').next().unwrap().starts_with(['.', '_']));
    names.sort();
    names
}

#[rstest]
#[tokio::test]
async fn staged_is_invisible_and_published_is_whole(
    #[values("parquet", "partitioned", "partitions", "append-only", "csv", "json")] kind: &str,
    #[values("file", "memory", "odd names")] store: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let root = match store {
        "file" => Location::from(folder.path()),
        "odd names" => Location::from(folder.path()).join("a b/ü%20=#?"),
        _ => Location::from("memory:/lake"),
    };
    let journal = Arc::new(MemoryJournal::default());
    let ctx = JobContext::builder("job").journal(journal.clone()).build().unwrap();
    let sink = sink(kind, &root);

    let staged = sink.stage(&ctx.staging("out"), sql(&ctx, ROWS).await).await.unwrap();
    assert_eq!(visible(&ctx, &root).await, Vec::<String>::new());
    assert_eq!(staged.report.rows, 2);

    // The actions survive serialisation in a commit record.
    let json = serde_json::to_string(&staged.publish).unwrap();
    let actions: Vec<PublishAction> = serde_json::from_str(&json).unwrap();
    assert_eq!(actions, staged.publish);

    ctx.publish(&actions).await.unwrap();
    let published = visible(&ctx, &root).await;
    assert_eq!(published.len(), usize::try_from(staged.report.files).unwrap());
    ctx.publish(&actions).await.unwrap();
    discard(ctx.stores(), ctx.publishers(), &journal.noted()).await.unwrap();
    assert_eq!(
        visible(&ctx, &root).await,
        published,
        "publishing again, or discarding what is published, changed something"
    );
}

#[rstest]
#[tokio::test]
async fn discarded_leaves_no_trace(
    #[values("parquet", "partitioned", "partitions", "append-only", "csv", "json")] kind: &str,
    #[values("file", "memory")] store: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let root = if store == "file" { Location::from(folder.path()) } else { Location::from("memory:/lake") };
    let journal = Arc::new(MemoryJournal::default());
    let ctx = JobContext::builder("job").journal(journal.clone()).build().unwrap();
    let staged = sink(kind, &root).stage(&ctx.staging("out"), sql(&ctx, ROWS).await).await.unwrap();
    for _ in 0..2 {
        discard(ctx.stores(), ctx.publishers(), &journal.noted()).await.unwrap();
    }
    assert_eq!(crate::files(folder.path()), Vec::<String>::new());
    // Publishing discarded files is an error.
    let error = ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("the commit cannot be completed as recorded"), "{error}");
}

#[rstest]
#[tokio::test]
async fn a_stranger_at_the_target_is_not_taken_for_ours(#[values("file", "memory")] store: &str) {
    let folder = tempfile::tempdir().unwrap();
    let root = if store == "file" { Location::from(folder.path()) } else { Location::from("memory:/lake") };
    let journal = Arc::new(MemoryJournal::default());
    let ctx = JobContext::builder("job").journal(journal.clone()).build().unwrap();
    let target = root.join("out/rows.jsonl");
    let staged = JsonLines::new("out", &target).stage(&ctx.staging("out"), sql(&ctx, ROWS).await).await.unwrap();
    discard(ctx.stores(), ctx.publishers(), &journal.noted()).await.unwrap();
    let (store, path) = ctx.stores().open(&target).unwrap();
    // Even with the same size.
    let size = usize::try_from(staged.report.bytes).unwrap();
    store.objects.put(&path, vec![b'x'; size].into()).await.unwrap();
    let error = ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn a_plan_that_fails_names_its_reason() {
    let ctx = context("r");
    let rows = sql(&ctx, "select 1 / n as x from (values (1), (0)) as t(n)").await;
    let error = ParquetDataset::new("out", "memory:/out").stage(&ctx.staging("out"), rows).await.unwrap_err();
    insta::assert_snapshot!(error.chain(), @"a number was divided by zero (hint: `x / nullif(y, 0)` is null where `y` is zero)");
}
