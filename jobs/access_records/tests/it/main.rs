//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use hardtack_test_support::containers::{S3, s3, s3_of_moto};
use hardtack_test_support::{
    Arrivals, JobBinary, JobContract, assert_frame, assert_frame_snapshot, contract_tests, is_committed, json, rows,
    table,
};
use rstest::rstest;

/// The first moment of 2026-11-28.
const MIDNIGHT: i64 = 1_795_824_000_000;

/// A record of a session, so many milliseconds after midnight.
fn record(session: &str, after_midnight: i64) -> String {
    let payload = json!({
        "sessionId": session, "timestamp": MIDNIGHT + after_midnight, "method": "GET",
        "requestURL": "/repo/v1/entity/syn12", "userAgent": "synapser/2.1",
    });
    json!({ "payload": payload }).to_string()
}

const FILE: &str = "access_records/api-1-2026-11-28-00-00-00-28a75682";

fn contract() -> JobContract {
    JobContract::new(env!("CARGO_BIN_EXE_access_records"), "processed_access_records")
        .earlier(FILE, record("z", -5))
        .delivered(FILE, [record("a", -1), record("b", 0), record("b", 0), record("b", 1)].join("\n"))
}

// What is missing here are the promises of jobs that replace their tables.
contract_tests! { job: contract();
    bad_usage_ends_with_code_2(),
    arguments_come_from_the_environment_too(),
    a_dry_run_touches_nothing_and_says_what_is_not_there(),
    it_describes_itself(),
    cores_and_time_zone_do_not_matter(),
    a_table_that_is_not_there_is_named(),
}

#[test]
fn takes_the_fixtures_without_any_argument() {
    let job = contract().job_after_the_fixtures("fixtures/lake");
    let records = job.dir().read_parquet("target/lake/processed_access_records");
    let shown = ["session_id", "timestamp", "instance", "normalized_method_signature", "client", "client_version"];
    let shown = records.df().select_columns(&[&shown[..], &["entity_id", "record_date"]].concat()).unwrap();
    assert_frame_snapshot!(shown, @"
    session_id: Utf8 | timestamp: Timestamp(µs) | instance: Utf8 | normalized_method_signature: Utf8            | client: Utf8      | client_version: Utf8 | entity_id: Int64 | record_date: Utf8
    5e55-01          | 2026-11-27T23:55:00      | 412            | GET /entity/#/bundle2                        | WEB               | 5.0                  | 4021             | 2026-11-27
    5e55-02          | 2026-11-27T23:56:40      | 412            | POST /entity/#/table/transaction/async/start | PYTHON            | 4.6.0                | 4021             | 2026-11-27
    5e55-03          | 2026-11-27T23:59:59.999  | 412            | GET /version                                 | ELB_HEALTHCHECKER | 2.0                  | null             | 2026-11-27
    5e55-04          | 2026-11-28T00:00:00      | 412            | GET /filehandle/#/url                        | SYNAPSER          | 2.1.1.259            | null             | 2026-11-28
    5e55-05          | 2026-11-28T00:01:01      | 412            | DELETE /evaluation/submission/#              | WEB               | 541.0                | null             | 2026-11-28
    5e55-06          | 2026-11-28T00:01:02      | 412            | GET /objects/#/access/#                      | UNKNOWN           | null                 | null             | 2026-11-28
    ");
    assert_eq!(records.columns().len(), 27);
}

#[test]
fn there_is_one_file_for_every_day() {
    contract().has_one_file_in_each_of(&["record_date=2026-11-27", "record_date=2026-11-28"]);
}

/// The sessions of the target.
fn sessions(job: &JobBinary<'_>) -> Vec<String> {
    let seen =
        table(job.dir().read_parquet("out/processed_access_records").df().select_columns(&["session_id"]).unwrap());
    seen.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

/// Files that were read are read again.
const EVERYTHING: [&str; 2] = ["--job-bookmark-option", "job-bookmark-disable"];

/// The files that a run has read of the source.
fn files_read(job: &JobBinary<'_>, run: &str) -> u64 {
    job.again().args(["--run-id", run]).run().assert_code(0);
    let record = job.dir().read(&format!(".hardtack/access_records/runs/{run}.json"));
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["sources"]["access_records"]["files"].as_u64().unwrap()
}

#[test]
fn a_run_reads_the_files_that_have_arrived_since() {
    let job = contract().job();
    let arrives = |path: &str, session: &str| {
        job.dir().write(&format!("in/access_records/2026/11/28/{path}"), record(session, 0));
    };
    arrives("00/api-1-2026-11-28-00-00-00-b", "a");
    arrives("01/api-1-2026-11-28-01-00-00-b", "b");
    assert_eq!((files_read(&job, "first"), sessions(&job)), (2, vec!["a".to_owned(), "b".to_owned()]));
    arrives("02/api-1-2026-11-28-02-00-00-b", "c");
    arrives("01/api-1-2026-11-28-01-00-00-a", "late");
    assert_eq!(files_read(&job, "second"), 2);
    assert_eq!(files_read(&job, "third"), 0);
    assert_eq!(sessions(&job), ["a", "b", "c", "late"]);
}

const ARRIVALS: Arrivals = Arrivals {
    column: "session_id",
    path: |hour, number| format!("access_records/2026/11/{:02}/{:02}/api-1-{number:06}", hour / 24 + 1, hour % 24),
    content: |id| record(&id.to_string(), 0),
};

#[test]
fn each_arrival_is_stored_once() {
    contract().each_arrival_is_stored_once(ARRIVALS);
}

#[rstest]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn each_arrival_is_stored_once_on_s3(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    contract().each_arrival_is_stored_once_on_s3(&service(), ARRIVALS);
}

#[test]
fn each_run_adds_to_the_target_what_it_does_not_have() {
    let job = contract().job_after_the_earlier().args(EVERYTHING);
    let dedupe = || job.again().arg("--dedupe-against-target");
    for _ in 0..2 {
        dedupe().run().assert_code(0);
        assert_eq!(sessions(&job), ["a", "b", "b", "z"]);
    }
    // Nothing new is nothing to compare.
    let nothing = contract().job();
    nothing.dir().write(&format!("in/{FILE}"), "");
    nothing.again().arg("--dedupe-against-target").run().assert_code(0);
    dedupe().arg("--dry-run").run().assert_code(0);
    // Otherwise what is delivered is added.
    job.run().assert_code(0);
    assert_eq!(sessions(&job), ["a", "a", "b", "b", "b", "b", "z"]);
}

/// A file that is not Parquet shows whether it was read.
#[rstest]
#[case::not_delivered("2026-11-29", 0)]
#[case::delivered("2026-11-28", 3)]
fn of_the_target_the_delivered_days_are_read(#[case] day: &str, #[case] code: i32) {
    let job = contract().job_with_delivery().arg("--dedupe-against-target");
    job.dir().write(&format!("out/processed_access_records/record_date={day}/x.parquet"), "this is not Parquet");
    job.run().assert_code(code);
}

/// Killed at any step, the next run ends with every record once.
#[rstest]
fn killed_at_any_step_the_next_run_heals(
    #[values(
        "stage.file.created",
        "stage.file.finished",
        "run.staged",
        "state.commit.before",
        "state.commit.after",
        "publish.file.after"
    )]
    point: &str,
    #[values("return(kill)", "1*off->return(kill)")] action: &str,
) {
    let job = contract().job_after_the_earlier().arg("--dedupe-against-target");
    let killed = job.failing_at(point, action).run();
    let is_passed_once = action != "return(kill)" && killed.code() == Some(0);
    assert!(killed.signal() == Some(9) || is_passed_once, "{point} was not reached\n{killed}");
    if !is_committed(point) && !is_passed_once {
        assert_eq!(sessions(&job), ["z"], "killed at {point}, something was visible");
    }
    job.run().assert_code(0);
    assert_eq!(
        (sessions(&job), job.dir().hidden_files("out")),
        (["a", "b", "b", "z"].map(str::to_owned).to_vec(), vec![])
    );
}

/// Firehose puts objects one after another, compresses them or not, and gives files no suffix.
#[test]
fn records_come_in_all_forms_of_firehose() {
    let job = contract().job();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all([record("c", 0), record("d", 0)].concat().as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let hour = "in/access_records/2026/11/28/00";
    job.dir().write(&format!("{hour}/api-1-2026-11-28-00-01-00-a"), [record("a", 0), record("b", 0)].concat());
    job.dir().write(&format!("{hour}/api-1-2026-11-28-00-02-00-b.gz"), &gzip);
    job.dir().write(&format!("{hour}/api-1-2026-11-28-00-03-00-c"), gzip);
    job.dir().write("in/access_records/2026/11/28/01/api-1-2026-11-28-01-00-00-d", record("e", 3_600_000) + "\r\n");
    job.run().assert_code(0);
    assert_eq!(sessions(&job), ["a", "b", "c", "d", "e"]);
}

/// A file of which two records cannot be read.
fn damaged() -> String {
    let unknown = record("y", 0).replace("\"method\":", "\"threadId\":\"five\",\"method\":");
    [record("a", 0), record("x", 0).replace("}}", "}"), unknown, record("b", 0)].join("\n")
}

#[test]
fn a_record_that_cannot_be_read_fails_the_run() {
    contract().refuses(FILE, damaged(), 3, &[FILE, "line: 3", "this is not JSON", "--quarantine LOCATION"]);
    contract().refuses(FILE, "{", 3, &[FILE, "line: 1", "--quarantine LOCATION"]);
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_on_request() {
    let job = contract().job().args(["--quarantine", "quarantine"]).args(EVERYTHING);
    job.dir().write(&format!("in/{FILE}"), damaged());
    for times in 1..=2 {
        job.run().assert_code(0);
        assert_eq!(sessions(&job), [vec!["a"; times], vec!["b"; times]].concat());
        assert_eq!(job.dir().read_parquet("quarantine").num_rows(), 2 * times);
    }
    let parts = job.dir().read_parquet("quarantine").df().distinct().unwrap();
    let parts = parts.select_columns(&["file", "offset", "reason"]).unwrap();
    let (first, path) = (record("a", 0).len() as i64 + 1, job.dir().at(&format!("in/{FILE}")));
    let expected = rows! {
        file,          offset,                                reason;
        path.as_str(), first,                                 "this is not JSON: expected `,` or `}`";
        path.as_str(), first + record("x", 0).len() as i64,   "`five` is not an Int64 (column: payload.threadId)";
    };
    assert_frame(parts, expected);
}

#[rstest]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn what_is_on_s3_is_what_is_in_a_folder(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    let service = service();
    let (bucket, expected) = (service.bucket(), contract().seen_after_a_run());
    bucket.write(&format!("in/{FILE}"), [record("a", -1), record("b", 0), record("b", 1)].join("\n"));
    bucket.write(&format!("in/{FILE}-2"), "no record");
    let job =
        JobBinary::new(env!("CARGO_BIN_EXE_access_records")).envs(bucket.s3().env()).arg("--dedupe-against-target");
    let job = [("state", "state"), ("source", "in"), ("target", "out"), ("quarantine", "quarantine")]
        .into_iter()
        .fold(job.args(EVERYTHING), |job, (name, folder)| job.arg(format!("--{name}")).arg(bucket.at(folder)));
    for times in 1..=2 {
        job.run().assert_code(0);
        assert_eq!(contract().seen(&bucket.download()), expected);
        assert_eq!(bucket.read_parquet(&bucket.at("quarantine")).num_rows(), times);
        assert_eq!(bucket.open_uploads(), [""; 0]);
    }
}
