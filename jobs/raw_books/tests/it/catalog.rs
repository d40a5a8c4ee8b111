//! Through the catalog: tables, by name, instead of files.

use std::sync::Arc;

use hardtack::catalog::{CatalogHandle, CatalogOf, GlueCatalog};
use hardtack::core::JobContext;
use hardtack::runtime::{RuntimeArgs, open_context};
use hardtack::tables::{CrawlOptions, Table, crawl};
use hardtack_test_support::containers::{Bucket, Database, glue, s3};
use hardtack_test_support::{Frame, JobBinary, table};

use crate::contract;

/// A context that sees the job's output.
fn reader(job: &JobBinary<'_>) -> JobContext {
    open_context("reader", &RuntimeArgs::with_state(job.dir().at(".hardtack"))).unwrap()
}

/// A context that sees a job's output in Glue and on S3.
fn reader_of_glue(bucket: &Bucket, database: &Database) -> JobContext {
    let glue = database.glue();
    let catalog = GlueCatalog::at(glue.endpoint(), glue.region(), glue.keys());
    let ctx = JobContext::builder("reader").store_factory("s3", Arc::new(bucket.s3().clone()));
    ctx.extension(Arc::new(CatalogHandle::new(Arc::new(catalog)))).build().unwrap()
}

/// The rows of a table, through the catalog.
async fn rows(ctx: &JobContext, database: &str, name: &str) -> String {
    table(Frame::collect(ctx.load(Table::named(database, name)).await.unwrap()).await.unwrap())
}

/// The job on the fixtures, and its output without a catalog.
fn without_catalog() -> (JobBinary<'static>, String) {
    let job = contract().job_after_the_fixtures("fixtures/lake");
    let wanted = table(job.dir().read_parquet("target/lake/raw/books"));
    (job, wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_the_rows_that_files_have() {
    let (job, wanted) = without_catalog();
    let ctx = reader(&job);
    let delivered = job.dir().at("fixtures/lake/sample_data/json");
    crawl(&ctx, &delivered, "raw", &CrawlOptions::default()).await.unwrap();

    let job = job.args(["--source-database", "raw", "--target-database", "glue_reference", "--target", "lake"]);
    for _ in 0..2 {
        job.run().assert_code(0);
        assert_eq!(rows(&ctx, "glue_reference", "raw_books").await, wanted);
    }
    let described = ctx.catalog().await.unwrap().get_table("glue_reference", "raw_books").await.unwrap();
    assert_eq!(described.parameters["recordCount"], "6");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
async fn tables_of_glue_on_s3() {
    let (job, wanted) = without_catalog();
    let (bucket, database) = (s3().bucket(), glue().database());
    bucket.copy("in", job.dir().path().join("fixtures/lake"));
    let columns = [("title", "string"), ("publish_date", "string"), ("author", "string")];
    database.create_json_table("books", &bucket.at("in/sample_data/json/books"), &columns);

    let job = job.on_glue(&bucket, &database, &database);
    for _ in 0..2 {
        job.run().assert_code(0);
        assert_eq!(table(bucket.read_parquet(&database.location_of("raw_books"))), wanted);
        assert_eq!(rows(&reader_of_glue(&bucket, &database), database.name(), "raw_books").await, wanted);
        assert_eq!(bucket.open_uploads(), [""; 0]);
    }
}
