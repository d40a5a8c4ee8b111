//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::Arc;

use hardtack::catalog::{CatalogHandle, GlueCatalog};
use hardtack::chrono;
use hardtack::core::JobContext;
use hardtack::core::fault::{ICEBERG_POINTS, POINTS};
use hardtack::iceberg::{IcebergMaintenance, IcebergTable};
use hardtack::runtime::{RuntimeArgs, open_context};
use hardtack_test_support::containers::{glue, s3};
use hardtack_test_support::iceberg_rest::IcebergRest;
use hardtack_test_support::{Frame, JobBinary, TempLake, json, table};
use insta::assert_snapshot;

const PASSES: &str = include_str!("../../../../fixtures/lake/people/people.jsonl");
const REFUSED: &str = include_str!("../../../../fixtures/people/refused/people/people.jsonl");
const BROKEN: &str = include_str!("../../../../fixtures/people/broken/people/people.jsonl");

fn job() -> JobBinary<'static> {
    JobBinary::new(env!("CARGO_BIN_EXE_publish_people")).args(["--source", "in", "--target", "out"])
}

fn reader(job: &JobBinary<'_>) -> JobContext {
    open_context("reader", &RuntimeArgs::with_state(job.dir().at(".hardtack"))).unwrap()
}

/// The rows of a version of the table, in the order of ids; "-" if there is no table.
async fn rows_of(job: &JobBinary<'_>, people: IcebergTable) -> String {
    match reader(job).load(people).await {
        Ok(rows) => table(Frame::collect(rows).await.unwrap()),
        Err(e) if e.kind() == hardtack::core::ErrorKind::NotFound => "-".to_owned(),
        Err(e) => panic!("{e:?}"),
    }
}

async fn rows(job: &JobBinary<'_>) -> String {
    rows_of(job, people()).await
}

fn people() -> IcebergTable {
    IcebergTable::named("lake", "people")
}

#[tokio::test(flavor = "multi_thread")]
async fn those_over_25_are_published() {
    let job = job();
    job.dir().write("in/people/people.jsonl", PASSES);
    job.run().assert_code(0);
    assert_snapshot!(rows(&job).await, @"
    id: Int64 | name: Utf8  | age: Int32
    1         | Mara Quill  | 75
    2         | Tobias Fenn | 58
    4         | Ada Weir    | 26
    ");
    job.dir().write("in/people/people.jsonl", "{\"id\": 11, \"name\": \"Lena Roth\", \"age\": 30}");
    job.run().assert_code(0);
    assert_snapshot!(rows(&job).await, @"
    id: Int64 | name: Utf8  | age: Int32
    1         | Mara Quill  | 75
    2         | Tobias Fenn | 58
    4         | Ada Weir    | 26
    11        | Lena Roth   | 30
    ");
}

/// They can be looked at on the branch, which the message names.
#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_stay_on_their_branch() {
    let job = job();
    job.dir().write("in/people/people.jsonl", PASSES);
    job.run().assert_code(0);
    let published = rows(&job).await;
    job.dir().write("in/people/people.jsonl", REFUSED);
    let refused = job.run();
    refused.assert_code(3);
    assert_eq!(rows(&job).await, published);
    let branch =
        refused.stderr.split('`').find(|part| part.starts_with("hardtack_")).unwrap_or_else(|| panic!("{refused}"));
    assert_snapshot!(rows_of(&job, people().branch(branch)).await, @"
    id: Int64 | name: Utf8      | age: Int32
    1         | Mara Quill      | 75
    2         | Tobias Fenn     | 58
    4         | Ada Weir        | 26
    6         | Irma Vogel      | 41
    6         | Irma Vogel-Haas | 41
    7         | Per Lind        | 33
    ");
    // Later runs leave it alone.
    job.dir().write("in/people/people.jsonl", "{\"id\": 11, \"name\": \"Lena Roth\", \"age\": 30}");
    job.run().assert_code(0);
    assert!(rows_of(&job, people().branch(branch)).await.contains("Per Lind"));

    job.dir().write("in/people/people.jsonl", REFUSED);
    let dropped = job.again().args(["--on-audit-failure", "drop"]).run();
    dropped.assert_code(3);
    assert!(!dropped.stderr.contains("hardtack_"), "{dropped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_in_the_middle_leaves_nothing() {
    let job = job();
    job.dir().write("in/people/people.jsonl", BROKEN);
    let broken = job.run();
    assert_ne!(broken.code(), Some(0), "{broken}");
    assert!(broken.stderr.contains("line: 3"), "{broken}");
    assert_eq!(rows(&job).await, "-");
    assert_eq!(job.dir().files("out"), [""; 0]);
}

/// Kills a run at a step. Once the next run has healed that, the table has the rows of a delivery once if the killed
/// run had committed, and not at all otherwise.
async fn killed_and_healed(server: Option<&IcebergRest>, point: &str, passes: &str) {
    let job = match server {
        Some(server) => job().args(["--catalog".to_owned(), format!("rest:{}", server.url())]),
        None => job(),
    };
    let reader = || {
        let mut args = RuntimeArgs::with_state(job.dir().at(".hardtack"));
        if let Some(server) = server {
            args.records.catalog = format!("rest:{}", server.url()).parse().unwrap();
        }
        open_context("reader", &args).unwrap()
    };
    let deliver = |id: i64, name: &str| {
        let person = json!({ "id": id, "name": name, "age": 30 });
        job.dir().write("in/people/people.jsonl", person.to_string());
    };
    let commits = || {
        let commits = job.dir().hidden_files(".hardtack/publish_people/scopes/default/commits");
        commits.iter().filter(|file| file.ends_with(".json")).count()
    };
    if !point.starts_with("iceberg.create") {
        deliver(1, "Ann");
        job.run().assert_code(0);
    }
    let before = commits();
    deliver(2, "Bob");
    if point.starts_with("iceberg.discard") {
        // The next run discards, and is killed meanwhile.
        assert_eq!(job.failing_at("state.commit.before", "return(kill)").run().signal(), Some(9));
    }
    let killed = job.failing_at(point, &format!("{passes}return(kill)")).run();
    if passes.is_empty() && point.starts_with("iceberg.") {
        assert_eq!(killed.signal(), Some(9), "{point}: {killed}");
    }
    let committed = commits() - before;
    deliver(3, "Cy");
    job.run().assert_code(0);
    let healed = table(Frame::collect(reader().load(people()).await.unwrap()).await.unwrap());
    let times = |name: &str| healed.matches(name).count();
    assert_eq!((times("Ann"), times("Bob"), times("Cy")), (before, committed, 1), "{point} {passes}: {healed}");
    let table = IcebergMaintenance::open(&reader(), "lake", "people", chrono::Utc::now()).await.unwrap();
    assert_eq!(table.metadata("refs").await.unwrap().num_rows(), 1, "{point} {passes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_next_run_heals() {
    let points = POINTS.iter().chain(ICEBERG_POINTS);
    for point in points.filter(|point| !point.starts_with("stage.file") && !point.starts_with("publish.")) {
        for passes in ["", "1*off->", "3*off->"] {
            killed_and_healed(None, point, passes).await;
        }
    }
}

/// The server writes the metadata itself.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_behind_a_rest_catalog_the_next_run_heals() {
    for point in ICEBERG_POINTS.iter().filter(|point| !point.starts_with("iceberg.metadata")) {
        for passes in ["", "1*off->"] {
            let warehouse = TempLake::new();
            let server = IcebergRest::start(warehouse.path());
            killed_and_healed(Some(&server), point, passes).await;
        }
    }
}

/// The same on S3, with the Glue Data Catalog: what Athena needs is in the table's description.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
async fn on_s3_and_in_glue() {
    let (bucket, database) = (s3().bucket(), glue().database());
    let job = JobBinary::new(env!("CARGO_BIN_EXE_publish_people"))
        .envs(bucket.s3().env())
        .envs(database.glue().env())
        .args(["--catalog", "glue", "--source", "in", "--target-database", database.name(), "--target"])
        .arg(bucket.at("out"));
    let glue = GlueCatalog::at(database.glue().endpoint(), database.glue().region(), database.glue().keys());
    let ctx = JobContext::builder("reader").store_factory("s3", Arc::new(bucket.s3().clone()));
    let ctx = ctx.extension(Arc::new(CatalogHandle::new(Arc::new(glue)))).build().unwrap();
    let people = || IcebergTable::named(database.name(), "people");
    let read = async |people: IcebergTable| table(Frame::collect(ctx.load(people).await.unwrap()).await.unwrap());

    job.dir().write("in/people/people.jsonl", PASSES);
    job.run().assert_code(0);
    // Killed after the commit of the table, before it knows.
    job.dir().write("in/people/people.jsonl", "{\"id\": 11, \"name\": \"Lena Roth\", \"age\": 30}");
    assert_eq!(job.failing_at("iceberg.publish.after", "return(kill)").run().signal(), Some(9));
    job.dir().write("in/people/people.jsonl", "{\"id\": 12, \"name\": \"Omar Diaz\", \"age\": 31}");
    job.run().assert_code(0);
    let published = read(people()).await;
    assert_snapshot!(published, @"
    id: Int64 | name: Utf8  | age: Int32
    1         | Mara Quill  | 75
    2         | Tobias Fenn | 58
    4         | Ada Weir    | 26
    11        | Lena Roth   | 30
    12        | Omar Diaz   | 31
    ");
    let found = database.call("GetTable", &json!({ "DatabaseName": database.name(), "Name": "people" }));
    let columns = found["Table"]["StorageDescriptor"]["Columns"].as_array().unwrap();
    let columns: Vec<String> = columns.iter().map(|c| format!("{} {}", c["Name"], c["Type"])).collect();
    assert_eq!(columns, [r#""id" "bigint""#, r#""name" "string""#, r#""age" "int""#]);
    assert_eq!(found["Table"]["Parameters"]["table_type"], "ICEBERG");

    job.dir().write("in/people/people.jsonl", REFUSED);
    job.run().assert_code(3);
    assert_eq!(read(people()).await, published);
    assert_eq!(bucket.open_uploads(), [""; 0]);
}
