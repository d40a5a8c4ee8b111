//! Through the catalog: tables, by name, instead of files.

use std::sync::Arc;

use hardtack::catalog::{CatalogHandle, CatalogOf, Column, GlueCatalog, TableDescription, TableFormat};
use hardtack::core::JobContext;
use hardtack::runtime::{RuntimeArgs, open_context};
use hardtack::tables::{CrawlOptions, Table, crawl};
use hardtack_test_support::containers::{Bucket, Database, glue, s3};
use hardtack_test_support::{Frame, JobBinary, json, table};
use insta::{allow_duplicates, assert_snapshot};

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
        assert_eq!(rows(&ctx, "glue_reference", "books").await, wanted);
    }
    let described = ctx.catalog().await.unwrap().get_table("glue_reference", "books").await.unwrap();
    assert_eq!(described.parameters["recordCount"], "6");
}

/// The delivered books are JSON, and must not be overwritten by a job with mixed-up databases.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_written_is_refused_before_anything_is_written() {
    let (job, _) = without_catalog();
    let ctx = reader(&job);
    let delivered = job.dir().at("fixtures/lake/sample_data/json");
    crawl(&ctx, &delivered, "raw", &CrawlOptions::default()).await.unwrap();
    let before = (job.dir().files(""), job.dir().hidden_files("fixtures"), rows(&ctx, "raw", "books").await);
    let refused = job.again().args(["--source-database", "raw", "--target-database", "raw", "--target", "lake"]).run();
    refused.assert_code(2);
    for part in ["raw.books", "json", "another database"] {
        assert!(refused.stderr.contains(part), "`{part}` should be named\n{refused}");
    }
    assert_eq!((job.dir().files(""), job.dir().hidden_files("fixtures"), rows(&ctx, "raw", "books").await), before);
}

/// The fixtures of the job in a bucket, and in a database of Glue.
fn delivered(job: &JobBinary<'_>) -> (Bucket, Database) {
    let (bucket, source) = (s3().bucket(), glue().database());
    bucket.copy("in", job.dir().path().join("fixtures/lake"));
    let books = [("title", "string"), ("publish_date", "string"), ("author", "string")];
    let authors = [("name", "string"), ("id", "bigint"), ("birth_date", "date")];
    for (table, columns) in [("books", &books), ("authors", &authors)] {
        source.create_json_table(table, &bucket.at(&format!("in/sample_data/json/{table}")), columns);
    }
    (bucket, source)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
async fn tables_of_glue_on_s3() {
    let (job, wanted) = without_catalog();
    let ((bucket, source), target) = (delivered(&job), glue().database());
    let job = job.on_glue(&bucket, &source, &target);
    for _ in 0..2 {
        job.run().assert_code(0);
        assert_eq!(table(bucket.read_parquet(&target.location_of("books"))), wanted);
        assert_eq!(rows(&reader_of_glue(&bucket, &target), target.name(), "books").await, wanted);
        assert_eq!(bucket.open_uploads(), [""; 0]);
    }
}

/// Somebody else has created the table (with a CloudFormation template, for example) at the job's location, and has
/// chosen its keys.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
async fn partitions_of_a_table_that_is_there_are_registered_in_glue() {
    let (job, _) = without_catalog();
    let ((bucket, source), target) = (delivered(&job), glue().database());
    let columns =
        [("title", "string"), ("publish_date", "date"), ("author_birth_date", "date"), ("author_id", "bigint")];
    let described = TableDescription::new(target.name(), "books", &TableFormat::Parquet, bucket.at("out/books"))
        .with_columns(columns.map(|(name, of)| Column::foreign(name, of)))
        .with_partition_keys([Column::foreign("author_name", "string")]);
    let ctx = reader_of_glue(&bucket, &target);
    ctx.catalog().await.unwrap().create_table(&described).await.unwrap();

    let job = job.on_glue(&bucket, &source, &target);
    for _ in 0..2 {
        job.run().assert_code(0);
        let found = target.call("GetPartitions", &json!({ "DatabaseName": target.name(), "TableName": "books" }));
        let partitions = found["Partitions"].as_array().unwrap().iter().map(|p| {
            let location = p["StorageDescriptor"]["Location"].as_str().unwrap();
            assert!(location.starts_with(bucket.at("out/books/").as_str()), "{location}");
            format!("{} {}", p["Values"], p["Parameters"]["recordCount"])
        });
        let mut partitions: Vec<_> = partitions.collect();
        partitions.sort();
        let books = rows(&ctx, target.name(), "books").await;
        allow_duplicates! {
            assert_snapshot!(partitions.join("\n"), @r#"
            ["E. Harrow"] "1"
            ["Inés Okafor"] "1"
            ["Mara Quill"] "2"
            ["Tobias Fenn"] "1"
            ["__HIVE_DEFAULT_PARTITION__"] "1"
            "#);
            assert_snapshot!(books, @"
            title: Utf8                     | publish_date: Date32 | author_birth_date: Date32 | author_id: Int64 | author_name: Utf8
            A Field Guide to Missing Trains | 2003-05-22           | 1968-11-02                | 2                | Tobias Fenn
            Letters from the Tidal Office   | 1902-12-01           | null                      | null             | E. Harrow
            Noches de papel                 | 2011-10-08           | null                      | 3                | Inés Okafor
            Salt and Timetables             | 1994-09-01           | 1951-06-30                | 1                | Mara Quill
            Songs of the Weir               | null                 | null                      | null             | null
            The Lighthouse Ledger           | 1987-03-14           | 1951-06-30                | 1                | Mara Quill
            ");
        }
        assert_eq!(bucket.open_uploads(), [""; 0]);
    }
}
