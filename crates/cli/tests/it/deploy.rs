//! `hardtack deploy`: jobs describe themselves to it.

use std::fs;
use std::path::PathBuf;

use rstest::rstest;

/// The job that tests of backfills run.
fn binaries() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_hardtack")).with_file_name("examples")
}

/// A folder with a `hardtack.toml`, in which the job `windowed` runs.
fn project(job: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
[env.prod]
image = "registry/{{job}}:{{version}}"
subnets = ["subnet-1"]
security-groups = ["sg-1"]
state = "s3://state/hardtack"

[env.prod.jobs.windowed]
version = "1.0.0"
{job}
"#
    );
    fs::write(folder.path().join("hardtack.toml"), text).unwrap();
    folder
}

fn deploy(folder: &tempfile::TempDir, args: &[&str]) -> (Option<i32>, String) {
    let binaries = binaries();
    let all: Vec<&str> = ["deploy"].into_iter().chain(args.iter().copied()).collect();
    let more = ["--binaries", binaries.to_str().unwrap()];
    crate::hardtack(folder.path(), &all.into_iter().chain(more).collect::<Vec<_>>())
}

#[rstest]
#[case::no_such_environment("", &["template", "--env", "prdo"], "did you mean: prod")]
#[case::no_such_job("", &["template", "sales", "--env", "prod"], "add `[env.prod.jobs.sales]` to `hardtack.toml`")]
#[case::no_such_argument("arguments = { targets = \"s3://lake\" }", &["template", "--env", "prod"], "did you mean: target")]
#[case::no_file("", &["template", "--env", "prod", "--config", "other.toml"], "the file cannot be read (file: other.toml")]
fn what_is_wrong_is_said(#[case] job: &str, #[case] args: &[&str], #[case] expected: &str) {
    let folder = project(job);
    let (code, text) = deploy(&folder, args);
    assert!(code == Some(2) && text.contains(expected), "{code:?} {text}");
}

#[test]
fn a_job_that_is_not_built_is_named() {
    let folder = project("");
    let (code, text) =
        crate::hardtack(folder.path(), &["deploy", "template", "--env", "prod", "--binaries", "target/release"]);
    assert!(code == Some(2) && text.contains("(job: windowed, binary: target/release/windowed"), "{code:?} {text}");
}
