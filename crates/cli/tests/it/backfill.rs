//! `hardtack backfill`: a job, once per window.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hardtack_test_support::{Finished, JobBinary};
use rstest::rstest;
use serde_json::Value;

/// The job of `examples/windowed.rs`.
pub(crate) fn windowed() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_hardtack")).with_file_name("examples").join("windowed");
    assert!(binary.exists(), "build it with `cargo build -p hardtack-cli --example windowed`");
    binary
}

fn hardtack() -> JobBinary<'static> {
    JobBinary::new(env!("CARGO_BIN_EXE_hardtack")).env("HARDTACK_STATE", "state")
}

/// A backfill of days of January 2024, from the first.
fn january<'a>(hardtack: &'a JobBinary<'_>, days: u32, options: &[&str], job: &[&str]) -> JobBinary<'a> {
    let to = format!("2024-01-{days:02}");
    hardtack
        .again()
        .args(["backfill", windowed().to_str().unwrap(), "--from", "2024-01-01", "--to", &to, "--by", "day"])
        .args(options)
        .args(["--", "--target", "out"])
        .args(job)
}

/// The records that `--json` prints.
fn records(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many rows there are of each day.
fn days(hardtack: &JobBinary<'_>) -> BTreeMap<String, usize> {
    let mut days = BTreeMap::new();
    for line in hardtack_test_support::table(hardtack.dir().read_parquet("out")).lines() {
        if let Some(at) = line.find("2024-01-") {
            *days.entry(line[at..at + 10].to_owned()).or_default() += 1;
        }
    }
    days
}

/// Each of these days once.
fn each_once(n: u32) -> BTreeMap<String, usize> {
    (1..=n).map(|day| (format!("2024-01-{day:02}"), 1)).collect()
}

#[test]
fn thirty_windows_of_which_three_fail_and_only_those_run_again() {
    let hardtack = hardtack();
    let bad = "2024-01-03,2024-01-17,2024-01-30";
    let first = january(&hardtack, 30, &["--parallel", "4"], &["--refuse", bad]).run();
    first.assert_code(1);
    insta::assert_snapshot!(first.stdout, @"
       window   | status | exit code | attempts |                  error
    ------------+--------+-----------+----------+-----------------------------------------
     2024-01-03 | failed |         3 |        1 | this day is not liked (day: 2024-01-03)
     2024-01-17 | failed |         3 |        1 | this day is not liked (day: 2024-01-17)
     2024-01-30 | failed |         3 |        1 | this day is not liked (day: 2024-01-30)
    30 windows: 27 succeeded, 3 failed
    `--failed-only` runs those that failed again; their logs are in backfill-logs/windowed
    ");
    assert_eq!(first.stderr.lines().count(), 30, "a line for each window\n{first}");
    assert!(first.stderr.contains("2024-01-17 failed with exit code 3 in "), "{first}");
    assert_eq!(days(&hardtack).len(), 27);

    let again = january(&hardtack, 30, &["--failed-only", "--json"], &["--refuse", "2024-01-17"]).run();
    again.assert_code(1);
    let ran: Vec<_> =
        records(&again).iter().map(|r| (r["scope"].clone(), r["runs"].as_array().unwrap().len())).collect();
    assert_eq!(ran, ["2024-01-03", "2024-01-17", "2024-01-30"].map(|day| (day.into(), 2)));

    january(&hardtack, 30, &["--failed-only"], &[]).run().assert_code(0);
    assert_eq!(days(&hardtack), each_once(30));
    for options in ["--failed-only", "--resume"] {
        let done = january(&hardtack, 30, &[options], &[]).run();
        done.assert_code(0);
        assert!(done.stdout.starts_with("nothing to do: "), "{done}");
    }
    let log = std::fs::read_to_string(hardtack.dir().path().join("backfill-logs/windowed/2024-01-17.log")).unwrap();
    assert_eq!((log.matches("--- run ").count(), log.matches("this day is not liked").count()), (3, 2), "{log}");
}

/// Each run takes longer than the start of the others, so that all are active when the first commits.
#[test]
fn windows_commit_side_by_side() {
    let hardtack = hardtack();
    let finished = january(&hardtack, 6, &["--parallel", "6", "--json"], &["--pause", "1500"]).run();
    finished.assert_code(0);
    let time = |record: &Value, name: &str| record[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let records = records(&finished);
    let last_start = records.iter().map(|r| time(r, "started_at")).max().unwrap();
    let first_end = records.iter().map(|r| time(r, "finished_at")).min().unwrap();
    assert!(last_start < first_end, "{finished}");
    assert_eq!(days(&hardtack), each_once(6));
}

/// Without a flag, a backfill processes everything anew; that a window once succeeded does not hide its failure.
#[test]
fn a_second_backfill_runs_everything_again() {
    let hardtack = hardtack();
    january(&hardtack, 3, &[], &[]).run().assert_code(0);
    let again = january(&hardtack, 3, &[], &["--refuse", "2024-01-02"]).run();
    again.assert_code(1);
    assert!(again.stderr.starts_with("3 windows succeeded before and are run again\n"), "{again}");
    assert!(again.stdout.contains("3 windows: 2 succeeded, 1 failed"), "{again}");
    january(&hardtack, 3, &["--failed-only"], &[]).run().assert_code(0);
    assert_eq!(days(&hardtack).into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn in_an_array_job_each_child_runs_its_window() {
    let hardtack = hardtack();
    let child = |index: &str, job: &[&str]| {
        january(&hardtack, 3, &["--resume"], job).env("AWS_BATCH_JOB_ARRAY_INDEX", index).run()
    };
    let done = child("1", &[]);
    done.assert_code(0);
    assert_eq!(days(&hardtack).into_keys().collect::<Vec<_>>(), ["2024-01-02"]);
    assert!(done.stderr.contains(r#""message":"the run succeeded""#), "the job's log is passed through: {done}");
    assert!(!hardtack.dir().path().join("backfill-logs").exists());
    // A retried child of a window that is done.
    insta::assert_snapshot!(child("1", &[]).stdout, @"nothing to do: every window has succeeded (1 window)");
    // Batch decides by the exit code of the run.
    child("2", &["--refuse", "2024-01-03"]).assert_code(3);
    let beyond = child("3", &[]);
    beyond.assert_code(2);
    insta::assert_snapshot!(beyond.stderr, @"hardtack: there is no window 3 (windows: 3, hint: the last is 2; make the array as large as there are windows)");
}

/// The runs of a killed backfill go on without it. Their windows are not processed twice.
#[test]
fn a_killed_backfill_is_resumed() {
    let hardtack = hardtack();
    let mut backfill = january(&hardtack, 5, &["--parallel", "2"], &["--pause", "1500"]).start();
    let begun = || hardtack.dir().files("state").iter().filter(|file| file.contains("/attempts/")).count() >= 2;
    assert!(backfill.wait_until(begun));
    backfill.kill();
    let resumed = january(&hardtack, 5, &["--resume", "--parallel", "3"], &["--pause", "500"]).run();
    resumed.assert_code(0);
    assert!(resumed.stdout.contains("5 windows: 5 succeeded"), "{resumed}");
    // Orphans that lost to the second run of their window end without a trace.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(days(&hardtack), each_once(5));
    january(&hardtack, 5, &["--resume"], &[]).run().assert_code(0);
    assert_eq!(days(&hardtack), each_once(5));
}

/// Each asks whether a window is processed, and both may hear that it is not.
#[test]
fn of_two_that_resume_at_once_each_window_is_processed_by_one() {
    let hardtack = hardtack();
    january(&hardtack, 6, &[], &["--refuse", "2024-01-02,2024-01-05"]).run().assert_code(1);
    let resume = || january(&hardtack, 9, &["--resume", "--parallel", "3"], &["--pause", "200"]).start();
    let both = [resume(), resume()].map(|backfill| backfill.wait());
    for finished in &both {
        finished.assert_code(0);
        assert!(finished.stdout.starts_with("9 windows: 5 succeeded, 4 skipped"), "{finished}");
    }
    assert_eq!(days(&hardtack), each_once(9));
}

/// An exit code of 0 alone does not make a window done: `--resume` would skip it.
#[rstest]
#[case::a_dry_run(&[], &["--dry-run"])]
#[case::another_name(&["--job", "another"], &[])]
fn a_run_without_a_commit_has_not_succeeded(#[case] options: &[&str], #[case] job: &[&str]) {
    let hardtack = hardtack();
    let finished = january(&hardtack, 1, options, job).run();
    finished.assert_code(1);
    assert!(finished.stdout.contains("the run ended well, but has no commit of the job"), "{finished}");
    january(&hardtack, 1, &["--resume"], &[]).run().assert_code(0);
    assert_eq!(days(&hardtack).into_keys().collect::<Vec<_>>(), ["2024-01-01"]);
}

/// The run's rows are committed, so running the job again would store them twice.
#[rstest]
#[case::not_published("state.commit.after")]
#[case::published("state.done.after")]
fn a_run_that_was_killed_after_its_commit_has_succeeded(#[case] point: &str) {
    let hardtack = hardtack();
    // The fault point is armed in the job only: it gets the variable from a shell in between.
    hardtack.dir().write(
        "windowed",
        format!("#!/bin/sh\nFAILPOINTS='{point}=return(kill)' exec {} \"$@\"\n", windowed().display()),
    );
    let script = hardtack.dir().path().join("windowed");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let args = ["backfill", "./windowed", "--from", "2024-01-01", "--to", "2024-01-02", "--by", "day"];
    let finished = hardtack.again().args(args).args(["--", "--target", "out"]).run();
    finished.assert_code(0);
    assert!(finished.stdout.contains("2 windows: 2 succeeded"), "{finished}");
    assert_eq!(days(&hardtack), each_once(2));
}

#[rstest]
#[case::sigterm(false)]
#[case::ctrl_c(true)]
fn a_signal_stops_the_runs_and_starts_no_other(#[case] interrupts: bool) {
    let hardtack = hardtack();
    let mut backfill = january(&hardtack, 5, &["--parallel", "2"], &["--pause", "60000"]).start();
    let staged = || hardtack.dir().hidden_files("out").len() >= 2;
    assert!(backfill.wait_until(staged));
    if interrupts {
        backfill.interrupt()
    } else {
        backfill.terminate()
    }
    let finished = backfill.wait();
    finished.assert_code(143);
    assert!(finished.stdout.contains("5 windows: 0 succeeded, 2 stopped, 3 not started"), "{finished}");
    assert!(hardtack.dir().hidden_files("out").is_empty(), "staged rows are discarded");
    january(&hardtack, 5, &["--resume"], &[]).run().assert_code(0);
    assert_eq!(days(&hardtack), each_once(5));
}

#[test]
fn a_damaged_record_of_a_window_is_named() {
    let hardtack = hardtack();
    january(&hardtack, 1, &[], &[]).run().assert_code(0);
    hardtack.dir().write("state/windowed/backfills/2024-01-01.json", "{");
    let resumed = january(&hardtack, 3, &["--resume"], &[]).run();
    resumed.assert_code(1);
    assert!(resumed.stderr.contains("windowed/backfills/2024-01-01.json"), "{resumed}");
    assert!(resumed.stdout.contains("3 windows: 2 succeeded, 1 failed"), "the others are run: {resumed}");
    assert_eq!(
        hardtack.dir().read("state/windowed/backfills/2024-01-01.json"),
        "{",
        "it stays for a person to look at"
    );
    let plan = january(&hardtack, 1, &["--dry-run"], &[]).run().stdout;
    assert!(plan.contains("record cannot be read"), "{plan}");
    let fsck = hardtack.again().arg("fsck").run();
    fsck.assert_code(1);
    assert!(fsck.stdout.contains("a record of a backfill does not parse"), "{fsck}");
    assert!(
        fsck.stdout.contains("remove the object; `hardtack backfill --resume` then runs its window again"),
        "{fsck}"
    );
}

#[test]
fn a_dry_run_lists_the_windows() {
    let hardtack = hardtack();
    january(&hardtack, 2, &[], &["--refuse", "2024-01-02"]).run().assert_code(1);
    insta::assert_snapshot!(january(&hardtack, 3, &["--failed-only", "--dry-run"], &[]).run().stdout, @"
    dry run: nothing is run
     number |   scope    |          window          |  status   | would run
    --------+------------+--------------------------+-----------+-----------
          0 | 2024-01-01 | 2024-01-01 to 2024-01-02 | succeeded | no
          1 | 2024-01-02 | 2024-01-02 to 2024-01-03 | failed    | yes
          2 | 2024-01-03 | 2024-01-03 to 2024-01-04 | never run | no
    ");
}

#[rstest]
#[case::backwards(&["--from", "2024-01-02", "--to", "2024-01-01", "--by", "day"], &[], "`--from` is after `--to`")]
#[case::half_a_month(&["--from", "2024-01-15", "--to", "2024-03-31", "--by", "month"], &[], "choose `--from 2024-01-01` or")]
#[case::no_date(&["--from", "yesterday", "--to", "2024-03-31", "--by", "month"], &[], "expected a date such as `2024-01-31`")]
#[case::own_option(&["--from", "2024-01-01", "--to", "2024-01-31", "--by", "day"], &["--scope=x"], "sets `--scope=x` for each window itself")]
#[case::two_ways(&["--from", "2024-01-01", "--to", "2024-01-31", "--by", "day", "--resume", "--failed-only"], &[], "cannot be used with")]
#[case::no_binary(&["--from", "2024-01-01", "--to", "2024-01-31", "--by", "day"], &[], "the job cannot be started (binary: ./nope")]
fn a_backfill_that_cannot_work_is_refused(#[case] options: &[&str], #[case] job: &[&str], #[case] said: &str) {
    let refused = hardtack().args(["backfill", "./nope"]).args(options).arg("--").args(job).run();
    refused.assert_code(2);
    assert!(refused.stderr.contains(said), "{refused}");
}
