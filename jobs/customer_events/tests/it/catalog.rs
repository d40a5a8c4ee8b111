//! Through the catalog: tables, by name, instead of files. The job reads the tables that it writes.

use hardtack::core::JobContext;
use hardtack::runtime::FAULT_POINTS;
use hardtack::tables::{CrawlOptions, Table, crawl};
use hardtack_test_support::containers::{glue, s3};
use hardtack_test_support::{Frame, JobBinary, is_committed, table};

use crate::{EVENING, MORNING, contract, job, reader};

const TABLES: [&str; 2] = ["customers", "customers_deleted"];

/// Both tables as readers of the catalog see them, without the times at which deletes were applied.
async fn tables(ctx: &JobContext) -> String {
    let mut shown = Vec::new();
    for name in TABLES {
        let rows = ctx.load(Table::named("glue_reference", name)).await.unwrap();
        shown.push(table(Frame::collect(rows.drop_columns(&["_applied_at", "_known_since"]).unwrap()).await.unwrap()));
    }
    shown.join("\n")
}

/// A context that sees the job's output, and the job, after the morning's events.
async fn after_the_morning() -> (JobContext, JobBinary<'static>) {
    let job = job().args(["--source-database", "raw", "--target-database", "glue_reference"]);
    let ctx = reader(&job.dir().at(".hardtack"));
    job.dir().write("in/customer_events/morning.jsonl", MORNING);
    crawl(&ctx, &job.dir().at("in"), "raw", &CrawlOptions::default()).await.unwrap();
    job.run().assert_code(0);
    job.dir().write("in/customer_events/evening.jsonl", EVENING);
    (ctx, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_the_rows_that_files_have() {
    let wanted = contract().seen_after_a_run();
    let (ctx, job) = after_the_morning().await;
    for _ in 0..2 {
        let run = job.run();
        run.assert_code(0);
        let place = format!(" to {}\n", job.dir().at("out/customers"));
        assert!(run.stderr.contains(&place), "{place} is not in\n{run}");
        assert_eq!(tables(&ctx).await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_next_run_ends_in_the_right_state() {
    let wanted = contract().seen_after_a_run();
    for point in FAULT_POINTS {
        let (ctx, job) = after_the_morning().await;
        let before = tables(&ctx).await;
        let killed = job.failing_at(point, "return(kill)").run();
        // A run on tables does not pass the points that only concern files.
        if killed.signal() == Some(9) && !is_committed(point) {
            assert_eq!(tables(&ctx).await, before, "killed at {point}, something was visible");
        }
        job.run().assert_code(0);
        assert_eq!(tables(&ctx).await, wanted, "killed at {point}, the next run did not end in the right state");
    }
}

#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn tables_of_glue_on_s3() {
    let wanted = contract().seen_after_a_run();
    let (bucket, database) = (s3().bucket(), glue().database());
    let customer = "struct<id:bigint,first_name:string,last_name:string,email:string>";
    let columns = [("before", customer), ("after", customer), ("op", "string"), ("ts_ms", "bigint")];
    database.create_json_table("customer_events", &bucket.at("in/customer_events"), &columns);

    let job = JobBinary::new(env!("CARGO_BIN_EXE_customer_events")).on_glue(&bucket, &database, &database);
    let job = job.arg("--state").arg(bucket.at("state"));
    bucket.write("in/customer_events/morning.jsonl", MORNING);
    job.run().assert_code(0);
    bucket.write("in/customer_events/evening.jsonl", EVENING);
    for _ in 0..2 {
        job.run().assert_code(0);
        let found = TABLES.map(|name| table(without_times(bucket.read_parquet(&database.location_of(name)))));
        assert_eq!(found.join("\n"), wanted);
        assert_eq!(bucket.open_uploads(), [""; 0]);
    }
}

/// Omits the times at which deletes were applied.
fn without_times(rows: Frame) -> hardtack::datafusion::dataframe::DataFrame {
    rows.df().drop_columns(&["_applied_at", "_known_since"]).unwrap()
}
