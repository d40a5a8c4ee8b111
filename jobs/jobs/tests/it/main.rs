//! All jobs in one binary, and what each of them may do.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test looks at files, and stops where it fails")]

mod otel;
mod policy;

use hardtack_test_support::JobBinary;
use rstest::rstest;

/// `jobs run NAME`, in a temporary folder for its state.
fn jobs() -> JobBinary<'static> {
    JobBinary::new(env!("CARGO_BIN_EXE_jobs"))
}

/// The names of all jobs.
fn names() -> Vec<String> {
    let listed = jobs().args(["list", "--json"]).run();
    listed.assert_code(0);
    let name =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].as_str().unwrap().to_owned();
    listed.stdout.lines().map(name).collect()
}

#[test]
fn every_job_of_the_workspace_is_there() {
    let folders = std::fs::read_dir("..").unwrap();
    let mut folders: Vec<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.retain(|folder| folder != "jobs");
    folders.sort();
    assert_eq!(names(), folders);
}

#[rstest]
#[case::help(&["run", "books_data_product", "--help"], 0)]
#[case::wrong_argument(&["run", "books_data_product", "--taregt", "x"], 2)]
#[case::no_source(&["run", "books_data_product", "--source", "nowhere"], 1)]
#[case::unknown_job(&["run", "books"], 2)]
fn exit_codes_are_those_of_a_job(#[case] args: &[&str], #[case] code: i32) {
    jobs().args(args.iter().copied()).run().assert_code(code);
}

/// The lines of a run in CloudWatch's embedded metric format.
fn metrics(stdout: &str) -> Vec<serde_json::Value> {
    let lines = stdout.lines().filter(|line| line.starts_with(r#"{"_aws""#));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// In a job of AWS Batch, or where they are asked for, and nowhere else.
#[rstest]
#[case::in_batch(&[("AWS_BATCH_JOB_ID", "4711:3"), ("AWS_BATCH_JOB_ATTEMPT", "2")], 4)]
#[case::asked_for(&[("HARDTACK_METRICS", "emf")], 4)]
#[case::not_wanted(&[("AWS_BATCH_JOB_ID", "4711"), ("HARDTACK_METRICS", "none")], 0)]
#[case::elsewhere(&[], 0)]
fn a_run_prints_its_metrics(#[case] env: &[(&str, &str)], #[case] lines: usize) {
    let job = jobs().envs(env.iter().copied()).args(["run", "books_data_product"]);
    job.dir().copy("fixtures/lake", "../../fixtures/lake");
    let run = job.run();
    run.assert_code(0);
    let found = metrics(&run.stdout);
    assert_eq!(found.len(), lines, "{}", run.stdout);
    assert!(found.first().is_none_or(|line| line["Succeeded"] == 1 && line["RowsWritten"] == 6), "{found:?}");
}

/// People are told of a run that fails, in whatever way, and only of such.
#[rstest]
#[case::no_source(&["--source", "nowhere"], 1)]
#[case::no_failure(&[], 0)]
fn a_failure_is_told(#[case] args: &[&str], #[case] code: i32) {
    let job = jobs().args(["run", "books_data_product"]).args(args.iter().copied());
    let job = job.args(["--metrics", "emf", "--on-failure-command", "/usr/bin/tee told.json"]);
    job.dir().copy("fixtures/lake", "../../fixtures/lake");
    let run = job.run();
    run.assert_code(code);
    assert_eq!(metrics(&run.stdout)[0]["Failed"], u64::from(code != 0));
    let told = std::fs::read_to_string(job.dir().path().join("told.json")).ok();
    assert_eq!(told.is_some(), code != 0);
    if let Some(told) = told {
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told["job"], &told["exit_code"]), (&"books_data_product".into(), &code.into()));
        let look = told["look"].as_str().unwrap();
        assert!(look.starts_with("hardtack --state ") && look.contains(told["run"].as_str().unwrap()), "{look}");
    }
}
