//! The job's binary, end to end: a job that overwrites some partitions of what it reads.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test looks at files and stops where it fails")]

use hardtack_test_support::{JobBinary, JobContract, TempLake, job_contract, table};

fn event(id: &str, premium: u32, status: &str, effective: &str, recorded: &str) -> String {
    format!(
        r#"{{"policy_id":"{id}","holder":"Ann","premium":{premium},"status":"{status}","effective_date":"{effective}","recorded_at":"{recorded}T00:00:00Z"}}"#
    ) + "\n"
}

fn earlier() -> String {
    event("P1", 10, "active", "2026-09-01", "2026-09-01") + &event("P2", 20, "active", "2026-09-15", "2026-09-15")
}

/// A late change and a delete.
fn later() -> String {
    event("P1", 15, "active", "2026-10-02", "2026-11-03") + &event("P2", 20, "deleted", "2026-10-01", "2026-11-04")
}

/// The first events, then also the others.
fn contract() -> JobContract {
    JobContract::new(env!("CARGO_BIN_EXE_policy_snapshots"), "policy_snapshots")
        .earlier("policy_events/a.jsonl", earlier())
        .delivered("policy_events/a.jsonl", earlier())
        .delivered("policy_events/b.jsonl", later())
}

job_contract!(contract());

#[test]
fn killed_at_every_fault_point_the_next_run_ends_in_the_right_state() {
    for passes_before in [0, 1] {
        contract().killed_at_any_step_the_next_run_ends_in_the_right_state(passes_before);
    }
}

#[test]
fn killed_while_rolling_forward_the_next_run_ends_it() {
    contract().killed_again_while_rolling_forward();
}

fn job(until: &str) -> JobBinary<'static> {
    contract().job().args(["--until", until])
}

fn months(lake: &TempLake) -> Vec<(String, String)> {
    let files = lake.files("out/policy_snapshots");
    files
        .iter()
        .map(|file| file.rsplit_once('/').unwrap())
        .map(|(month, file)| (month.to_owned(), file.to_owned()))
        .collect()
}

/// Each run is given only what is new. The months before the earliest change keep their files.
#[test]
fn only_the_months_concerned_are_written() {
    let job = job("2026-11-15");
    job.dir().write("in/policy_events/a.jsonl", earlier());
    job.run().assert_code(0);
    let before = months(job.dir());
    assert_eq!(before.len(), 3);
    job.dir().write("in/policy_events/a.jsonl", later());
    job.run().assert_code(0);
    let after = months(job.dir());
    let folders = |months: &[(String, String)]| months.iter().map(|(month, _)| month.clone()).collect::<Vec<_>>();
    assert_eq!(folders(&after), folders(&before));
    let written: Vec<_> = after.iter().filter(|file| !before.contains(file)).map(|(month, _)| month.as_str()).collect();
    assert_eq!(written, ["out/policy_snapshots/month=2026-10-01", "out/policy_snapshots/month=2026-11-01"]);
}

#[test]
fn the_fixtures_make_a_snapshot_per_month() {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_policy_snapshots")).args(["--until", "2026-03-31"]);
    job.dir().copy("fixtures/lake", std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/lake"));
    job.run().assert_code(0);
    insta::assert_snapshot!(table(job.dir().read_parquet("target/lake/policy_snapshots")), @"
    policy_id: Utf8 | holder: Utf8 | premium: Decimal128(12, 2) | status: Utf8 | effective_date: Date32 | recorded_at: Timestamp(µs) | deleted: Boolean | month: Utf8
    H-100           | Ada Lovelace | 310.50                     | active       | 2026-01-25             | 2026-03-03T07:15:00        | false            | 2026-01-01
    H-100           | Ada Lovelace | 310.50                     | active       | 2026-01-25             | 2026-03-03T07:15:00        | false            | 2026-02-01
    H-100           | Ada Lovelace | 310.50                     | active       | 2026-01-25             | 2026-03-03T07:15:00        | false            | 2026-03-01
    H-101           | Grace Hopper | 275.00                     | active       | 2026-01-15             | 2026-01-15T09:30:00        | false            | 2026-01-01
    H-101           | Grace Hopper | 290.00                     | active       | 2026-02-01             | 2026-01-28T16:45:00        | false            | 2026-02-01
    H-101           | Grace Hopper | 290.00                     | lapsed       | 2026-03-31             | 2026-03-31T23:59:59        | false            | 2026-03-01
    M-200           | Alan Turing  | 89.99                      | active       | 2026-01-20             | 2026-01-20T11:00:00        | false            | 2026-01-01
    M-200           | Alan Turing  | 89.99                      | deleted      | 2026-02-10             | 2026-02-10T10:00:00        | true             | 2026-02-01
    M-200           | Alan Turing  | 95.00                      | active       | 2026-03-05             | 2026-03-05T12:00:00        | false            | 2026-03-01
    ");
}

#[test]
fn a_date_that_cannot_be_is_refused() {
    let job = job("2026-02-31");
    assert!(job.run().assert_code(2).stderr.contains("--until"));
}

#[test]
fn a_change_without_a_date_is_named() {
    let line = event("P1", 10, "active", "2026-09-01", "2026-09-01").replace("\"2026-09-01\"", "null");
    contract().refuses("policy_events/a.jsonl", line, 3, &["a.jsonl", "line: 1", "effective_date"]);
}
