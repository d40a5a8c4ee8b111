//! What is refused, and how it is said.

use std::fs;
use std::path::{Path, PathBuf};

use hardtack_core::{Error, ErrorKind};
use hardtack_package::{Binary, Jobs, Options, package, verify};
use rstest::rstest;

use crate::workspace::TestWorkspace;
use crate::{SAMPLE, named};

fn error(options: &Options) -> Error {
    package(options).unwrap_err()
}

fn binary(job: Option<&str>, path: &str) -> Binary {
    Binary { job: job.map(str::to_owned), path: PathBuf::from(path) }
}

#[rstest]
#[case::unknown(&["cuont"], "there is no job `cuont` (hint: did you mean `count`? the jobs are count, report)")]
#[case::no_job(&["count", "plain"], "there is no job `plain` (hint: the jobs are count, report)")]
#[case::left_out(&["tool"], "there is no job `tool` (hint: the jobs are count, report)")]
#[case::none(&[], "no job is named (hint: name one, or all with `--all`: the jobs are count, report)")]
fn jobs_are_those_of_the_workspace(#[case] jobs: &[&str], #[case] said: &str) {
    let error = error(&SAMPLE.0.options(named(jobs)));
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Usage, said));
}

#[rstest]
#[case::of_which(&["count", "report"], vec![binary(None, "x")], "a binary without a job's name is for a call with one job")]
#[case::of_another(&["count"], vec![binary(Some("report"), "x")], "there is a binary for `report`, which is not among the jobs of this call")]
#[case::twice(&["count"], vec![binary(None, "x"), binary(Some("count"), "y")], "there are two binaries for `count`")]
#[case::not_there(&["count"], vec![binary(None, "/none")], "the binary cannot be read")]
#[case::a_script(&["count"], vec![binary(None, file!())], "this is not a binary")]
fn a_binary_is_for_one_job(#[case] jobs: &[&str], #[case] binaries: Vec<Binary>, #[case] said: &str) {
    // Paths of source files are relative to the root of this repository.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let binaries = binaries.into_iter().map(|b| Binary { path: root.join(&b.path), ..b }).collect();
    let error = error(&Options { binaries, ..SAMPLE.0.options(named(jobs)) });
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, said), "{error:?}");
}

#[test]
fn a_binary_for_another_processor_is_refused() {
    let own = Binary { job: None, path: std::env::current_exe().unwrap() };
    let other = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };
    let target = format!("{other}-unknown-linux-gnu");
    let options = Options { target: Some(target.clone()), binaries: vec![own], ..SAMPLE.0.options(named(&["count"])) };
    let error = error(&options);
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, &*format!("the binary is not for `{target}`")));
}

#[test]
fn a_folder_without_a_workspace_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = error(&Options { folder: folder.path().to_owned(), ..Options::default() });
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, "cargo finds no workspace that it can read"));
    assert!(error.chain().contains("could not find `Cargo.toml`"), "{}", error.chain());
}

#[test]
fn a_workspace_without_jobs_is_refused() {
    let workspace = TestWorkspace::new();
    workspace.write("Cargo.toml", "[workspace]\nresolver = '3'\nmembers = ['crates/macros']\n");
    workspace.run("cargo", &["generate-lockfile", "--offline", "--quiet"]);
    let error = error(&workspace.options(Jobs::All));
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, "no package of this workspace is a job"));
}

#[test]
fn a_build_that_fails_leaves_nothing() {
    let workspace = TestWorkspace::new();
    workspace.write("jobs/count/src/main.rs", "fn main() { nothing }\n");
    let error = error(&workspace.options(named(&["count"])));
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unexpected, "cargo cannot build the jobs"));
    assert_eq!(fs::read_dir(workspace.output()).unwrap().count(), 0);
}

#[test]
fn an_output_that_cannot_be_written_to_is_refused_before_the_build() {
    let workspace = TestWorkspace::new();
    workspace.write("jobs/count/src/main.rs", "this does not build");
    let error = error(&Options { output: Some("/dev/null/out".into()), ..workspace.options(named(&["count"])) });
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, "the output folder cannot be written to"));
}

#[rstest]
#[case::not_there("none.tar.zst", ErrorKind::Usage, "the file cannot be read")]
#[case::no_checksum("text.tar.zst", ErrorKind::Usage, "the checksum cannot be read")]
#[case::no_artefact("text", ErrorKind::Usage, "this is neither an archive nor an image")]
fn what_is_not_an_artefact_is_refused(#[case] name: &str, #[case] kind: ErrorKind, #[case] said: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.tar.zst"), "").unwrap();
    fs::write(folder.path().join("text"), "").unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    fs::write(folder.path().join("text.sha256"), format!("{empty}  text\n")).unwrap();
    let error = verify(&folder.path().join(name)).unwrap_err();
    assert_eq!((error.kind(), error.message()), (kind, said));
}
