//! On Iceberg tables: a run reads and rewrites the buckets in which something changes.

use hardtack::core::JobContext;
use hardtack::iceberg::IcebergTable;
use hardtack::runtime::FAULT_POINTS;
use hardtack_test_support::{Frame, JobBinary, is_committed, table};

use crate::{EVENING, MORNING, contract, job, reader};

/// Both tables, without the times at which deletes were applied.
async fn tables(ctx: &JobContext) -> String {
    let mut shown = Vec::new();
    for name in ["customers", "customers_deleted"] {
        let rows = ctx.load(IcebergTable::named("shop", name)).await.unwrap();
        shown.push(table(Frame::collect(rows.drop_columns(&["_applied_at", "_known_since"]).unwrap()).await.unwrap()));
    }
    shown.join("\n")
}

/// A context that sees the job's output, and the job, after the morning's events.
fn after_the_morning() -> (JobContext, JobBinary<'static>) {
    let job = job().args(["--target-database", "shop", "--target-format", "iceberg"]);
    let ctx = reader(&job.dir().at(".hardtack"));
    job.dir().write("in/customer_events/morning.jsonl", MORNING);
    job.run().assert_code(0);
    job.dir().write("in/customer_events/evening.jsonl", EVENING);
    (ctx, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_the_rows_that_files_have() {
    let wanted = contract().seen_after_a_run();
    let (ctx, job) = after_the_morning();
    for _ in 0..2 {
        job.run().assert_code(0);
        assert_eq!(tables(&ctx).await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_without_changes_stay_as_they_are() {
    let job = job().args(["--target-database", "shop", "--target-format", "iceberg"]);
    let event = |id: u32, name: &str, at: u64| {
        let after = format!(r#"{{"id": {id}, "first_name": "{name}", "last_name": "X", "email": null}}"#);
        format!("{{\"before\": null, \"after\": {after}, \"op\": \"c\", \"ts_ms\": {at}}}\n")
    };
    let all: String = (0..200).map(|id| event(id, "A", 1_795_132_800_000)).collect();
    job.dir().write("in/customer_events/events.jsonl", &all);
    job.run().assert_code(0);
    let files = || -> Vec<String> {
        let files = job.dir().files("out/customers/data").into_iter();
        files.filter(|file| file.ends_with(".parquet")).collect()
    };
    assert_eq!(files().len(), 16);
    job.dir().write("in/customer_events/events.jsonl", event(7, "B", 1_795_132_900_000));
    job.run().assert_code(0);
    assert_eq!(files().len(), 17, "one bucket was written again");
    let rows = reader(&job.dir().at(".hardtack")).load(IcebergTable::named("shop", "customers")).await.unwrap();
    assert_eq!(rows.count().await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_next_run_ends_in_the_right_state() {
    let wanted = contract().seen_after_a_run();
    let more = ["iceberg.staged.after", "iceberg.publish.before", "iceberg.swap.after", "iceberg.publish.after"];
    for point in FAULT_POINTS.iter().copied().chain(more) {
        let (ctx, job) = after_the_morning();
        let before = tables(&ctx).await;
        let killed = job.failing_at(point, "return(kill)").run();
        // A run on tables does not pass the points that only concern files.
        if killed.signal() == Some(9) && !point.starts_with("iceberg.") && !is_committed(point) {
            assert_eq!(tables(&ctx).await, before, "killed at {point}, something was visible");
        }
        job.run().assert_code(0);
        assert_eq!(tables(&ctx).await, wanted, "killed at {point}, the next run did not end in the right state");
    }
}

/// Without its database the job means the folder of files, in which it would replace the files of the table.
#[test]
fn a_run_that_forgets_what_its_tables_are_changes_nothing() {
    let job = job();
    job.dir().write("in/customer_events/morning.jsonl", MORNING);
    job.again().args(["--target-format", "iceberg"]).run().assert_code(0);
    let files = job.dir().files("out");
    let refused = job.run();
    refused.assert_code(2);
    assert!(refused.stderr.contains("the folder of an Iceberg table"), "{refused}");
    assert_eq!(job.dir().files("out"), files);

    // And the other way around: rows of files would be left behind.
    let job = crate::job();
    job.dir().write("in/customer_events/morning.jsonl", MORNING);
    job.run().assert_code(0);
    let files = job.dir().files("out");
    let refused = job.again().args(["--target-format", "iceberg"]).run();
    refused.assert_code(2);
    assert!(refused.stderr.contains("hardtack iceberg migrate"), "{refused}");
    assert_eq!(job.dir().files("out"), files);
}
