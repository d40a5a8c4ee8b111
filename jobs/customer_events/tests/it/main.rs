//! The job's binary, end to end: the guarantees of a run, for a job that overwrites what it reads and has two sinks.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "a test looks at files and stops where it fails"
)]

mod catalog;
mod crashes;
mod faults;
mod runs;
mod s3;
mod torture;

use hardtack_test_support::{JobBinary, TempLake, table};

const MORNING: &str = r#"{"before": null, "after": {"id": 1, "first_name": "Ada", "last_name": "Byron", "email": null}, "op": "c", "ts_ms": 1795132800000}
{"before": null, "after": {"id": 2, "first_name": "Bob", "last_name": "Ray", "email": null}, "op": "c", "ts_ms": 1795132800001}
{"before": {"id": 3, "first_name": "Cid", "last_name": "X", "email": null}, "after": null, "op": "d", "ts_ms": 1795132800002}
"#;
const EVENING: &str = r#"{"before": {"id": 2, "first_name": "Bob", "last_name": "Ray", "email": null}, "after": null, "op": "d", "ts_ms": 1795132900000}
{"before": {"id": 1, "first_name": "Ada", "last_name": "Byron", "email": null}, "after": {"id": 1, "first_name": "Ada", "last_name": "Lovelace", "email": null}, "op": "u", "ts_ms": 1795132900001}
"#;

/// The job in a lake of its own, which has processed the morning's events; the evening's are ready to be read.
fn after_the_morning() -> JobBinary<'static> {
    let job = job();
    job.dir().write("in/customer_events/morning.jsonl", MORNING);
    job.run().assert_code(0);
    job.dir().write("in/customer_events/evening.jsonl", EVENING);
    job
}

fn job() -> JobBinary<'static> {
    job_between("in", "out")
}

fn job_between(source: &str, target: &str) -> JobBinary<'static> {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_customer_events")).args(["--source", source, "--target", target]);
    job.args(["--keep-deletes-days", "36500", "--threads", "2", "--log-format", "pretty"])
}

/// Both tables as a reader sees them, without the times of applied deletes and of known values.
fn state(lake: &TempLake) -> String {
    let read = |name: &str| match lake.files(name).is_empty() {
        true => "-".to_owned(),
        false => table(lake.read_parquet(name).df().drop_columns(&["_applied_at", "_known_since"]).unwrap()),
    };
    format!("{}\n{}", read("out/customers"), read("out/customers_deleted"))
}

/// Everything below the target that readers should not see.
fn leftovers(lake: &TempLake) -> Vec<String> {
    lake.hidden_files("out")
}
