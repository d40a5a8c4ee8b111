//! The `hardtack` command on the state of runs that were killed, and on the tables of a catalog.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test looks at files, says what it has measured, and stops where it fails"
)]

mod abandon;
mod backfill;
mod bookmark;
mod catalog;
mod compact;
mod compare;
mod crawl;
mod deploy;
mod fsck;
mod guide;
mod iceberg;
mod package;
mod pipeline;
mod quality;
mod rerun;
mod runs;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod serving;
#[cfg(feature = "serve")]
mod smith;
mod swap;
#[cfg(feature = "serve")]
mod torture;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use hardtack_core::{JobContext, Journal, Location, PublishAction, Run, Sink, Staged};
use hardtack_runtime::{RuntimeArgs, open_context, open_state};
use hardtack_sinks::JsonLines;
use hardtack_state::{Attempt, AttemptRecord, Begun, CommitRecord, Ledger};

/// The state that a killed run leaves: staged rows, with or without a commit.
struct Killed {
    folder: tempfile::TempDir,
    ledger: Ledger,
    attempt: Box<Attempt>,
    staged: Staged,
}

impl Killed {
    async fn run(id: &str) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), id).await
    }

    async fn in_folder(folder: tempfile::TempDir, id: &str) -> Self {
        let options = RuntimeArgs::with_state(Location::from(folder.path()).join("state"));
        let base = open_context("job", &options).unwrap();
        let state = open_state(base.stores(), &options.records.state).unwrap();
        let ledger = Ledger::new(state, "job", Run::WHOLE_JOB);
        let run = Run { id: id.parse().unwrap(), ..base.run().clone() };
        let Begun::Attempt(attempt) = ledger.begin(&run).await.unwrap() else { panic!("it does not begin") };
        let journal: Arc<dyn Journal> = attempt.journal.clone();
        let ctx = JobContext::builder("job").share(&base).run(run).journal(journal).build().unwrap();
        let rows = ctx.session().sql("select 1 as n").await.unwrap();
        let sink = JsonLines::new("out", Location::from(folder.path()).join("out/rows.jsonl"));
        let staged = sink.stage(&ctx.staging("out"), rows).await.unwrap();
        Self { folder, ledger, attempt, staged }
    }

    async fn commit(&self) {
        self.commit_with(BTreeMap::new()).await;
    }

    async fn commit_with(&self, bookmarks: BTreeMap<String, serde_json::Value>) {
        let AttemptRecord { run, claims, .. } = &self.attempt.record;
        let record = CommitRecord {
            publish: [("out".to_owned(), self.staged.publish.clone())].into(),
            bookmarks,
            places: Some(["out", "old.jsonl"].map(|place| Location::from(self.folder.path()).join(place)).into()),
            ..CommitRecord::new(*claims, run.clone(), run.started_at)
        };
        self.ledger.commit(&record).await.unwrap();
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("out")).into_iter().flatten();
        // Omits the run's token, which is random.
        let name = |name: String| name.replace(&format!(".{}.", self.attempt.record.run.token), ".");
        entries.map(|e| name(e.unwrap().file_name().into_string().unwrap())).collect()
    }
}

fn hardtack(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_hardtack"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("HARDTACK_STATE", "state")
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_published() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    assert_eq!(killed.files(), [".000000.r1.staged"]);
    insta::assert_snapshot!(hardtack(killed.folder.path(), &["recover"]).1, @"job (default): published run r1");
    assert_eq!(killed.files(), ["rows.jsonl"]);
    insta::assert_snapshot!(hardtack(killed.folder.path(), &["recover"]).1, @"job (default): nothing to do");
    let (code, runs) = hardtack(killed.folder.path(), &["runs", "job"]);
    assert_eq!(code, Some(0));
    assert!(runs.contains("| r1  | job | default | succeeded |"), "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_waits_until_its_run_can_never_commit() {
    let killed = Killed::run("r1").await;
    // It may only be paused.
    insta::assert_snapshot!(hardtack(killed.folder.path(), &["recover"]).1, @"job (default): nothing to do");
    assert_eq!(killed.files(), [".000000.r1.staged"]);
    let next = Killed::in_folder(killed.folder, "r2").await;
    next.commit().await;
    insta::assert_snapshot!(hardtack(next.folder.path(), &["recover", "--job", "job", "--scope", "default"]).1, @"
    job (default): published run r2
    job (default): discarded leftovers of run r1
    ");
    assert_eq!(next.files(), ["rows.jsonl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_that_is_gone_is_a_loud_error_that_can_be_skipped() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    std::fs::remove_dir_all(killed.folder.path().join("out")).unwrap();
    let (code, text) = hardtack(killed.folder.path(), &["recover"]);
    assert_eq!(code, Some(1));
    for part in ["the staged file is gone", "rows.jsonl", "--skip-missing", "of run: r1"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let (code, text) = hardtack(killed.folder.path(), &["recover", "--skip-missing"]);
    assert_eq!(code, Some(0), "{text}");
    insta::assert_snapshot!(hardtack(killed.folder.path(), &["recover"]).1, @"job (default): nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_for_the_sake_of_a_file_that_is_lost() {
    let mut killed = Killed::run("r1").await;
    let old = killed.folder.path().join("old.jsonl");
    std::fs::write(&old, "{}").unwrap();
    killed.staged.publish.push(PublishAction::Delete { location: Location::from(&old) });
    killed.commit().await;
    std::fs::remove_dir_all(killed.folder.path().join("out")).unwrap();
    let (code, text) = hardtack(killed.folder.path(), &["recover", "--skip-missing"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(old.exists(), "both the new and the old file are gone");
    assert!(text.contains("a file of this sink is lost"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_not_there_is_named() {
    let killed = Killed::run("r1").await;
    let (code, said) = hardtack(killed.folder.path(), &["recover", "--job", "nope"]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(said, @"hardtack: there is no such job or scope in this state (state: state)");
}

/// Everything that prints the command line, or an error about it.
#[test]
fn a_password_is_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let location = "s3://AKIA:hidden@bucket/lake";
    for args in [&["recover", "--state", location][..], &["crawl", location, "--database", "d"], &["compact", location]]
    {
        let (code, said) = hardtack(folder.path(), args);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("it contains a password") && !said.contains("hidden") && !said.contains("AKIA"),
            "{said}"
        );
    }
}

#[test]
fn usage() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(hardtack(folder.path(), &["recover"]).1, @"there are no runs in the state at state");
    assert_eq!(
        hardtack(folder.path(), &["recover", "--job", "x"]).0,
        Some(0),
        "whoever recovers each hour may begin before the first run"
    );
    insta::assert_snapshot!(hardtack(folder.path(), &["runs", "nope"]).1, @"hardtack: no run of `nope` is on record (state: state, hint: there are no runs in this state; name another with `--state`)");
    assert_eq!(hardtack(folder.path(), &["recover", "--state", "ftp://x"]).0, Some(2));
    assert_eq!(hardtack(folder.path(), &["--help"]).0, Some(0));
}
