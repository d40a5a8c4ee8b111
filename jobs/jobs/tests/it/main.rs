//! All jobs in one binary, and what each of them may do.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test looks at files, and stops where it fails")]

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
