//! `hardtack fsck` on damaged state, lake and catalog.

use std::fs;

use hardtack_core::{Location, PublishAction};
use hardtack_runtime::{RuntimeArgs, open_context};
use hardtack_state::{CommitRecord, RunStatus};
use regex::Regex;

use crate::{Killed, hardtack};

/// The report on the state that a run has left, and the exit code; without random names.
fn fsck(killed: &Killed, args: &[&str]) -> String {
    let folder = killed.folder.path().to_string_lossy().into_owned();
    let (code, text) = hardtack(killed.folder.path(), &[&["fsck"], args].concat());
    let text = text.replace(&folder, "").replace(&killed.attempt.record.run.token, "[token]");
    format!("{} {text}", code.unwrap())
}

/// The only staged file.
fn staged(killed: &Killed) -> std::path::PathBuf {
    let mut files = fs::read_dir(killed.folder.path().join("out")).unwrap();
    files.next().unwrap().unwrap().path()
}

fn state(killed: &Killed, key: &str) -> std::path::PathBuf {
    killed.folder.path().join("state/job").join(key)
}

#[test]
fn where_nothing_has_run_nothing_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        hardtack(folder.path(), &["fsck"]),
        (Some(0), "nothing is damaged, orphaned or left behind\n".to_owned())
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_may_go_on_is_no_finding() {
    let killed = Killed::run("r1").await;
    insta::assert_snapshot!(fsck(&killed, &["--repair"]), @"0 nothing is damaged, orphaned or left behind");
    assert_eq!(killed.files(), [".000000.r1.staged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_killed_runs_have_left_is_finished_or_cleared_away() {
    let killed = Killed::run("r1").await;
    let next = Killed::in_folder(killed.folder, "r2").await;
    next.commit().await;
    insta::assert_snapshot!(fsck(&next, &[]), @"
    1 left behind: job (default): commit 1 of run r2
        it is not fully published
        hint: `hardtack fsck --repair`
    left behind: job (default): run r1
        it can never commit, and what it staged has not been discarded
        hint: `hardtack fsck --repair`
    2 findings: 0 damaged, 0 orphaned, 2 left behind; 0 repaired
    ");
    insta::assert_snapshot!(fsck(&next, &["--repair"]), @"
    0 left behind: job (default): commit 1 of run r2
        it is not fully published
        repaired
    left behind: job (default): run r1
        it can never commit, and what it staged has not been discarded
        repaired
    2 findings: 0 damaged, 0 orphaned, 2 left behind; 2 repaired
    ");
    assert_eq!(next.files(), ["rows.jsonl"]);
    insta::assert_snapshot!(fsck(&next, &[]), @"0 nothing is damaged, orphaned or left behind");
    for run in ["r1", "r2"] {
        let record = next.ledger.get_run(&run.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(record.status, if run == "r1" { RunStatus::Killed } else { RunStatus::Succeeded });
    }
}

/// Leaks of earlier versions: files and a record without an attempt.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_looks_after_is_found_by_its_name() {
    let killed = Killed::run("r1").await;
    let next = Killed::in_folder(killed.folder, "r2").await;
    next.commit().await;
    next.ledger.forget(&"r1".parse().unwrap()).await.unwrap();
    assert_eq!(hardtack(next.folder.path(), &["recover"]).0, Some(0));
    fs::write(next.folder.path().join("out/.000007.other.12345678.staged"), "").unwrap();
    let said =
        Regex::new("r1([.-])[0-9a-f]{8}").unwrap().replace_all(&fsck(&next, &["--repair"]), "r1$1[token]").into_owned();
    insta::assert_snapshot!(said, @"
    1 orphaned: /out/.000000.r1.[token].staged
        run r1-[token] has staged it, and can never publish it
        repaired
    orphaned: /out/.000007.other.12345678.staged
        run other-12345678, which is not on record at this state location, has staged it
        hint: remove it, unless another state location knows the run
    left behind: job (default): run r1
        its record says that it is running, but it is not
        repaired
    3 findings: 0 damaged, 2 orphaned, 1 left behind; 2 repaired
    ");
    let mut left = next.files();
    left.sort();
    assert_eq!(left, [".000007.other.12345678.staged", "rows.jsonl"]);
}

/// Damage to the data itself: nothing is published, nothing is guessed, and a person decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_that_is_damaged_is_named_with_a_hint() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    let file = staged(&killed);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, b"{\"n\":2}\n").unwrap();
    insta::assert_snapshot!(fsck(&killed, &["--repair"]), @"
    1 damaged: job (default): commit 1 of run r1
        a staged file is not what the run wrote: it has the staged size, but different content (staged: /out/.000000.r1.[token].staged, target: /out/rows.jsonl, sink: out)
        hint: restore the staged file; or skip it with `hardtack recover --skip-missing`, which keeps the files that it would have replaced, and run the job again
    1 finding: 1 damaged, 0 orphaned, 0 left behind; 0 repaired
    ");
    let (code, said) = hardtack(killed.folder.path(), &["recover"]);
    assert_eq!((code, killed.files()), (Some(1), vec![".000000.r1.staged".to_owned()]), "{said}");
    for part in ["job: job", "sink: out", "rows.jsonl", "the staged size, but different content", "--skip-missing"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    fs::write(&file, whole).unwrap();
    insta::assert_snapshot!(hardtack(killed.folder.path(), &["recover"]).1, @"job (default): published run r1");
    // Published files do not change either.
    insta::assert_snapshot!(fsck(&killed, &[]), @"0 nothing is damaged, orphaned or left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_are_mended_if_others_say_what_they_said() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    assert_eq!(hardtack(killed.folder.path(), &["recover"]).0, Some(0));
    let next = Killed::in_folder(killed.folder, "r2").await;
    for key in ["scopes/default/head.json", "scopes/default/attempts/r2.json"] {
        fs::write(state(&next, key), "").unwrap();
    }
    fs::write(state(&next, "scopes/default/notes.txt"), "x").unwrap();
    insta::assert_snapshot!(fsck(&next, &["--repair"]), @"
    1 damaged: job (default): job/scopes/default/attempts/r2.json
        the attempt does not say what it claims; it cannot be more than the next number
        repaired
    damaged: job (default): job/scopes/default/head.json
        the head does not parse; the records say what it was
        repaired
    damaged: job (default): job/scopes/default/notes.txt
        this object does not belong to the state
        hint: remove it
    3 findings: 3 damaged, 0 orphaned, 0 left behind; 2 repaired
    ");
    assert_eq!(next.ledger.attempts().await.unwrap(), std::slice::from_ref(&next.attempt.record));
    // The commit itself cannot be reconstructed.
    fs::remove_file(state(&next, "scopes/default/notes.txt")).unwrap();
    let commit = state(&next, "scopes/default/commits/000000000001.json");
    fs::write(&commit, fs::read_to_string(&commit).unwrap().replace("rows.jsonl", "cows.jsonl")).unwrap();
    insta::assert_snapshot!(fsck(&next, &["--repair"]), @"
    1 damaged: job (default): job/scopes/default/commits/000000000001.json
        a commit record has changed since it was written: its hash differs; it is not executed
        hint: restore it as it was written, from a version or a copy of the state location; if there is none, abandon the commit with `hardtack recover --job job --scope default --abandon 1`
    1 finding: 1 damaged, 0 orphaned, 0 left behind; 0 repaired
    ");
}

/// As after a part of the state was restored from an older copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_ahead_of_what_is_settled_is_mended() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    assert_eq!(hardtack(killed.folder.path(), &["recover"]).0, Some(0));
    let head = state(&killed, "scopes/default/head.json");
    fs::write(&head, "7").unwrap();
    insta::assert_snapshot!(fsck(&killed, &["--repair"]), @"
    0 damaged: job (default): job/scopes/default/head.json
        the head names a commit that is not settled; the records say what it was
        repaired
    1 finding: 1 damaged, 0 orphaned, 0 left behind; 1 repaired
    ");
    assert_eq!(fs::read_to_string(head).unwrap(), "1");
    insta::assert_snapshot!(fsck(&killed, &[]), @"0 nothing is damaged, orphaned or left behind");
}

/// A forged record with a correct hash requests the deletion of a file elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_touched_outside_of_the_places_of_the_sinks() {
    let killed = Killed::run("r1").await;
    let elsewhere = killed.folder.path().join("letter.txt");
    fs::write(&elsewhere, "dear").unwrap();
    let mut publish = killed.staged.publish.clone();
    publish.push(PublishAction::Delete { location: Location::from(&elsewhere) });
    let run = killed.attempt.record.run.clone();
    let record = CommitRecord {
        publish: [("out".to_owned(), publish)].into(),
        places: Some(vec![Location::from(killed.folder.path()).join("out")]),
        ..CommitRecord::new(1, run.clone(), run.started_at)
    };
    killed.ledger.commit(&record).await.unwrap();
    let (code, said) = hardtack(killed.folder.path(), &["recover"]);
    assert_eq!(code, Some(1), "{said}");
    for part in ["sink: out", "letter.txt", "none of it is executed", "1 scope could not be recovered"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert_eq!((elsewhere.exists(), killed.files()), (true, vec![".000000.r1.staged".to_owned()]));
    assert!(fsck(&killed, &["--repair"]).starts_with("1 damaged: job (default): commit 1 of run r1"));
    assert!(elsewhere.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_cannot_be_read_is_a_finding() {
    let killed = Killed::run("r1").await;
    fs::write(killed.folder.path().join("state/catalog.sqlite"), "this is no catalog".repeat(100)).unwrap();
    let said = fsck(&killed, &[]);
    assert!(said.starts_with("1 damaged: the catalog `embedded`\n"), "{said}");
    // It is a foreign object, and does not block anything.
    assert!(said.ends_with("1 finding: 1 damaged, 0 orphaned, 0 left behind; 0 repaired\n"), "{said}");
}

/// Files that `object_store` has left half written.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_half_written_goes_after_a_day() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    assert_eq!(hardtack(killed.folder.path(), &["recover"]).0, Some(0));
    let half = [state(&killed, "scopes/default/head.json#1"), killed.folder.path().join("out/x.json#2")];
    for file in &half {
        fs::write(file, "").unwrap();
    }
    insta::assert_snapshot!(fsck(&killed, &["--repair"]), @"0 nothing is damaged, orphaned or left behind");
    for file in &half {
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 60 * 60);
        fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    insta::assert_snapshot!(fsck(&killed, &["--repair"]), @"
    0 left behind: /out/x.json#2
        a killed run has left it half written
        repaired
    left behind: job (default): /state/job/scopes/default/head.json#1
        a killed run has left it half written
        repaired
    2 findings: 0 damaged, 0 orphaned, 2 left behind; 2 repaired
    ");
    assert!(half.iter().all(|file| !file.exists()));
}

/// An error in one job does not stop the recovery of others.
#[tokio::test(flavor = "multi_thread")]
async fn recovery_goes_on_with_the_other_jobs() {
    let killed = Killed::run("r1").await;
    killed.commit().await;
    let options = RuntimeArgs::with_state(Location::from(killed.folder.path()).join("state"));
    let ctx = open_context("a", &options).unwrap();
    let state = hardtack_runtime::open_state(ctx.stores(), &options.records.state).unwrap();
    let torn = "a_job_before/scopes/default/commits/000000000001.json";
    state.put(torn, "{".into()).await.unwrap();
    let (code, said) = hardtack(killed.folder.path(), &["recover"]);
    assert_eq!((code, killed.files()), (Some(1), vec!["rows.jsonl".to_owned()]), "{said}");
    assert!(said.starts_with("job (default): published run r1\n"), "{said}");
    assert!(said.contains("a_job_before (default): a commit record does not parse"), "{said}");
    assert!(said.contains(torn) && said.contains("1 scope could not be recovered"), "{said}");
}
