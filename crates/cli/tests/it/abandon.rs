//! `hardtack recover --abandon`: a commit that can never be published does not block its scope for good.

use std::fs;
use std::path::Path;
use std::process::Command;

use hardtack_core::fault::ABANDON_POINTS;
use hardtack_state::{Abandonment, CommitRecord, End, Ledger, RunStatus, Settlement};
use rstest::rstest;

use crate::{Killed, hardtack};

const ABANDON: [&str; 7] = ["recover", "--job", "job", "--scope", "default", "--abandon", "1"];

fn abandon(folder: &Path) -> (Option<i32>, String) {
    hardtack(folder, &[&ABANDON[..], &["--yes"]].concat())
}

/// A run that was killed after its commit, and whose staged file is gone.
async fn stuck() -> Killed {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    for file in fs::read_dir(killed.folder.path().join("out")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(hardtack(killed.folder.path(), &["recover"]).0, Some(1));
    killed
}

/// The output, without parts that vary between runs.
fn plain(killed: &Killed, said: &str) -> String {
    let said = said.replace(killed.folder.path().to_str().unwrap(), "");
    regex::Regex::new(r"(by) \S+ on \S+|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
        .unwrap()
        .replace_all(&said, "$1 *")
        .into_owned()
}

async fn abandonment(killed: &Killed) -> Option<Abandonment> {
    killed.ledger.abandonment(1).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_unpublished_is_said_and_the_next_run_goes_on() {
    let killed = stuck().await;
    let (code, said) = abandon(killed.folder.path());
    assert_eq!(code, Some(0), "{said}");
    insta::assert_snapshot!(plain(&killed, &said), @"
    job (default): commit 1 was abandoned by * at  *
    commit 1 of job (default), of run r1, committed at  *.
    What stays unpublished, as far as it has not happened yet:
      sink out
        files that do not appear:
          /out/rows.jsonl
    What its run has staged is discarded. This cannot be undone.
    ");
    let Abandonment { user, host, at } = abandonment(&killed).await.unwrap();
    assert!(!user.is_empty() && !host.is_empty() && at > killed.attempt.record.run.started_at);

    // It is done once; repeating it reports the same.
    let (code, again) = abandon(killed.folder.path());
    assert_eq!((code, again.lines().next()), (Some(0), said.lines().next()));
    insta::assert_snapshot!(hardtack(killed.folder.path(), &["recover"]).1, @"job (default): nothing to do");
    insta::assert_snapshot!(hardtack(killed.folder.path(), &["fsck"]).1, @"nothing is damaged, orphaned or left behind");
    let (_, runs) = hardtack(killed.folder.path(), &["runs", "job"]);
    assert!(runs.contains("| abandoned |") && runs.contains("| the commit was abandoned by "), "{runs}");

    let next = Killed::in_folder(killed.folder, "r2").await;
    assert_eq!(next.attempt.record.claims, 2);
    next.commit().await;
    assert_eq!(hardtack(next.folder.path(), &["recover"]).0, Some(0));
    assert_eq!(next.files(), ["rows.jsonl"]);
}

/// The next run rereads what the abandoned one had read: those rows are in no sink.
#[tokio::test(flavor = "multi_thread")]
async fn bookmarks_go_back_to_those_of_the_last_published_commit() {
    let first = Killed::run("r1").await;
    first.commit_with([("in".to_owned(), 5.into())].into()).await;
    assert_eq!(hardtack(first.folder.path(), &["recover"]).0, Some(0));
    let second = Killed::in_folder(first.folder, "r2").await;
    second.commit_with([("in".to_owned(), 9.into())].into()).await;
    let (code, said) =
        hardtack(second.folder.path(), &["recover", "--job", "job", "--scope", "default", "--abandon", "2", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Bookmarks go back to those of the last commit that was published."), "{said}");
    assert_eq!(second.files(), ["rows.jsonl"], "what it had staged is discarded, and what was there stays");
    let third = Killed::in_folder(second.folder, "r3").await;
    assert_eq!(third.attempt.bookmarks, [("in".to_owned(), 5.into())].into());
}

/// A cron job cannot answer a prompt.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_and_a_yes_nothing_is_abandoned() {
    let killed = stuck().await;
    let (code, said) = hardtack(killed.folder.path(), &ABANDON);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/out/rows.jsonl") && said.contains("add `--yes`"), "{said}");
    assert_eq!((abandonment(&killed).await, killed.ledger.pending().await.unwrap().len()), (None, 1));
    for (args, said) in [
        (&["recover", "--abandon", "1"][..], "--job <NAME>"),
        (&["recover", "--job", "job", "--abandon", "1"], "--scope <NAME>"),
        (&["recover", "--yes"], "--abandon <SEQUENCE>"),
        (&[&ABANDON[..], &["--skip-missing"]].concat(), "cannot be used with"),
    ] {
        let (code, text) = hardtack(killed.folder.path(), args);
        assert_eq!((code, text.contains(said)), (Some(2), true), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_or_not_there_is_not_abandoned() {
    let killed = Killed::run("r1").await;
    let (code, said) = abandon(killed.folder.path());
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(said, @"hardtack: there is no commit 1 of this job and scope (job: job, scope: default)");
    killed.commit().await;
    assert_eq!(hardtack(killed.folder.path(), &["recover"]).0, Some(0));
    let (code, said) = abandon(killed.folder.path());
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(said, @"hardtack: commit 1 is published, so there is nothing to abandon (job: job, scope: default)");
}

/// Killed at any step, the commit is either abandoned or not, and the next run discards the leftovers.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_no_half_abandoned_commit(
    #[values(ABANDON_POINTS[0], ABANDON_POINTS[1], "discard.before", "discard.after", "state.forget.between")]
    point: &str,
) {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    let status = Command::new(env!("CARGO_BIN_EXE_hardtack"))
        .args(ABANDON)
        .arg("--yes")
        .current_dir(killed.folder.path())
        .env_clear()
        .envs([("HARDTACK_STATE", "state"), ("FAILPOINTS", &format!("{point}=return(kill)"))])
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), None, "{point} was not reached");
    let is_abandoned = point != ABANDON_POINTS[0];
    assert_eq!(abandonment(&killed).await.is_some(), is_abandoned);
    let (code, said) = hardtack(killed.folder.path(), &["fsck", "--repair"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(hardtack(killed.folder.path(), &["fsck"]).0, Some(0));
    assert_eq!(killed.files(), if is_abandoned { vec![] } else { vec!["rows.jsonl"] });
    let record = killed.ledger.get_run(&killed.attempt.record.run.id).await.unwrap().unwrap();
    assert_eq!(record.status, if is_abandoned { RunStatus::Abandoned } else { RunStatus::Succeeded });
    assert!(killed.ledger.attempts().await.unwrap().is_empty());
}

/// A commit that cannot even be read blocks its scope like any other, with a clear error.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_commit_names_the_hint_and_can_be_abandoned() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    fs::write(killed.folder.path().join("state/job/scopes/default/commits/000000000001.json"), "{").unwrap();
    for command in ["recover", "fsck"] {
        let (code, said) = hardtack(killed.folder.path(), &[command]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("`hardtack recover --job job --scope default --abandon 1`"), "{said}");
    }
    let (code, said) = abandon(killed.folder.path());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("what it would publish is unknown"), "{said}");
    assert_eq!(killed.files(), [""; 0]);
    let end = Ledger::end_of_run(&killed.ledger, &killed.attempt.record.run.id).await.unwrap();
    assert_eq!(end, None, "the record that named it cannot be read");
    insta::assert_snapshot!(hardtack(killed.folder.path(), &["fsck"]).1, @"nothing is damaged, orphaned or left behind");
    assert_eq!(Killed::in_folder(killed.folder, "r2").await.attempt.record.claims, 2);
}

/// The run was not dead but slow: it detects that it was abandoned.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_published_late_finds_out() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    assert_eq!(abandon(killed.folder.path()).0, Some(0));
    let settled = killed.ledger.mark_published(1, &killed.attempt.record.run.id).await.unwrap();
    assert!(matches!(settled, Settlement::Abandoned(_)), "{settled:?}");
    let end = killed.ledger.end_of_run(&killed.attempt.record.run.id).await.unwrap();
    assert!(matches!(end, Some(End::Abandoned(_))), "{end:?}");
    let newer = CommitRecord::new(2, killed.attempt.record.run.clone(), killed.attempt.record.run.started_at);
    assert_eq!(killed.ledger.commit(&newer).await.unwrap(), (), "the next number is free");
}

/// An older version reports that it is too old, and does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_newer_version_asks_for_an_upgrade() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    let commit = "job/scopes/default/commits/000000000001.json";
    fs::write(killed.folder.path().join("state").join(commit), r#"{"format": 9}"#).unwrap();
    for (args, code) in [(&["recover"][..], 2), (&["fsck", "--repair"], 1), (&[&ABANDON[..], &["--yes"]].concat(), 2)] {
        let (found, said) = hardtack(killed.folder.path(), args);
        assert_eq!(found, Some(code), "{said}");
        for part in ["a commit record has format 9, and this version reads formats up to 1", "upgrade hardtack", commit]
        {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
    assert_eq!(killed.files(), [".000000.r1.staged"]);
}
