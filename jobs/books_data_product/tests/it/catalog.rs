//! Through the catalog: tables, by name, where files were.

use hardtack::catalog::CatalogOf;
use hardtack::core::JobContext;
use hardtack::runtime::{RuntimeArgs, open_context};
use hardtack::tables::{CrawlOptions, Table, crawl};
use hardtack_test_support::containers::{glue, s3};
use hardtack_test_support::{Frame, JobBinary, table};

use crate::FIXTURES;

/// A context that sees what the job has made.
fn reader(job: &JobBinary<'_>) -> JobContext {
    open_context("reader", &RuntimeArgs { state: job.dir().at(".hardtack"), ..RuntimeArgs::default() }).unwrap()
}

/// The job on the fixtures, and what it makes of them without a catalog.
fn without_catalog() -> (JobBinary<'static>, String) {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_books_data_product"));
    job.dir().copy("fixtures/lake", FIXTURES);
    job.run().assert_code(0);
    let wanted = table(job.dir().read_parquet("target/lake/books"));
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
        let rows = ctx.load(Table::named("glue_reference", "books")).await.unwrap();
        assert_eq!(table(Frame::collect(rows).await.unwrap()), wanted);
    }
    let described = ctx.catalog().await.unwrap().get_table("glue_reference", "books").await.unwrap();
    assert_eq!(described.parameters["recordCount"], "6");
}

#[test]
fn a_table_that_is_not_there_is_named() {
    let (job, _) = without_catalog();
    let failed = job.args(["--source-database", "raw"]).run();
    failed.assert_code(1);
    assert!(failed.stderr.contains("`raw.books`"), "{failed}");
}

#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn tables_of_glue_on_s3() {
    let (job, wanted) = without_catalog();
    let (bucket, source, target) = (s3().bucket(), glue().database(), glue().database());
    bucket.copy("in", FIXTURES);
    let books = [("title", "string"), ("publish_date", "string"), ("author", "string")];
    let authors = [("name", "string"), ("id", "bigint"), ("birth_date", "date")];
    for (table, columns) in [("books", &books), ("authors", &authors)] {
        source.create_json_table(table, &bucket.at(&format!("in/sample_data/json/{table}")), columns);
    }

    let job = job.envs(bucket.s3().env()).envs(target.glue().env()).args(["--catalog", "glue"]);
    let job = job.args(["--source-database", source.name(), "--target-database", target.name()]);
    let job = job.arg("--target").arg(bucket.at("out"));
    for _ in 0..2 {
        job.run().assert_code(0);
        assert_eq!(table(bucket.read_parquet(&target.location_of("books"))), wanted);
        assert_eq!(bucket.open_uploads(), [""; 0]);
    }
}
