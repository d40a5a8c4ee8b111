//! `hardtack run`: the jobs of a pipeline.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use chrono::{DateTime, Utc};
use hardtack_test_support::{Finished, JobBinary, TempLake};
use rstest::rstest;
use serde_json::{Value, json};

use crate::backfill::windowed;
use crate::bookmark::plain;

/// The `hardtack` command in a folder with binaries of the jobs `a` to `d`, which write to folders of their names.
fn hardtack() -> JobBinary<'static> {
    let hardtack = JobBinary::new(env!("CARGO_BIN_EXE_hardtack")).env("HARDTACK_STATE", "state");
    hardtack.dir().write("bin/.folder", "");
    for job in ["a", "b", "c", "d"] {
        symlink(windowed(), hardtack.dir().path().join("bin").join(job)).unwrap();
    }
    hardtack
}

/// Writes a pipeline of these jobs: each with its arguments and, after a `<`, the jobs that it comes after.
fn pipeline(dir: &TempLake, jobs: &[&str]) {
    let mut text = "name = \"nightly\"\n".to_owned();
    for job in jobs {
        let (job, after) = job.split_once(" < ").map_or((*job, None), |(job, after)| (job, Some(after)));
        let mut words = job.split(' ');
        let name = words.next().unwrap();
        let args: Vec<&str> = ["--target", name].into_iter().chain(words).collect();
        text += &format!("[[jobs]]\njob = \"{name}\"\nargs = {args:?}\n");
        if let Some(after) = after {
            text += &format!("after = {:?}\n", after.split_whitespace().collect::<Vec<_>>());
        }
    }
    dir.write("nightly.toml", text);
}

/// Runs it with these options.
fn nightly<'a>(hardtack: &'a JobBinary<'_>, options: &[&str]) -> JobBinary<'a> {
    hardtack.again().args(["run", "nightly.toml", "--bin-dir", "bin"]).args(options)
}

/// A window whose day a job can refuse.
const DAY: [&str; 4] = ["--window-start", "2024-01-01", "--window-end", "2024-01-02"];
const REFUSE: &str = "--refuse 2024-01-01";

/// Replaces the binary of a job by a script that may call the real one.
fn script(dir: &TempLake, job: &str, text: &str) {
    let path = dir.path().join("bin").join(job);
    let real = dir.path().join("real");
    std::fs::create_dir_all(&real).unwrap();
    std::fs::rename(&path, real.join(job)).unwrap();
    dir.write(&format!("bin/{job}"), format!("#!/bin/sh\n{}\n", text.replace("REAL", &format!("real/{job} \"$@\""))));
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The number of rows of each job.
fn rows(dir: &TempLake) -> BTreeMap<&'static str, usize> {
    let jobs = ["a", "b", "c", "d"].into_iter().filter(|job| !dir.files(job).is_empty());
    jobs.map(|job| (job, dir.read_parquet(job).num_rows())).collect()
}

/// The status of each job by what `--json` prints.
fn statuses(finished: &Finished) -> Vec<(String, String)> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let lines = finished.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (text(&line, "job"), text(&line, "status"))).collect()
}

fn shown(said: &str) -> String {
    let said = plain(said);
    regex::Regex::new(r"\d+\.\d\b").unwrap().replace_all(&said, "0.0").into_owned()
}

fn assert_statuses(finished: &Finished, wanted: &[(&str, &str)]) {
    let found = statuses(finished);
    let found: Vec<(&str, &str)> = found.iter().map(|(job, status)| (job.as_str(), status.as_str())).collect();
    assert_eq!(found, wanted, "{finished}");
}

#[test]
fn jobs_run_in_the_order_of_the_file() {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["b", "a"]);
    let finished = nightly(&hardtack, &[]).run();
    finished.assert_code(0);
    insta::assert_snapshot!(shown(&finished.stdout), @"
     job |  status   | exit code | seconds |            run            | read | written | error
    -----+-----------+-----------+---------+---------------------------+------+---------+-------
     b   | succeeded |         0 |     0.0 | 20261121T040000Z-00000000 |    0 |       1 |
     a   | succeeded |         0 |     0.0 | 20261121T040000Z-00000000 |    0 |       1 |
    2 jobs: 2 succeeded
    ");
    insta::assert_snapshot!(shown(&finished.stderr), @"
    b begins (run 20261121T040000Z-00000000)
    b succeeded in 0.0 s
    a begins (run 20261121T040000Z-00000000)
    a succeeded in 0.0 s
    ");
    assert_eq!(rows(hardtack.dir()), [("a", 1), ("b", 1)].into());
    assert!(hardtack.dir().read("pipeline-logs/nightly/a.log").contains(r#""message":"the run succeeded""#));
    // Without `--resume`, everything runs again.
    nightly(&hardtack, &[]).run().assert_code(0);
    assert_eq!(rows(hardtack.dir()), [("a", 2), ("b", 2)].into());
    let fsck = hardtack.again().arg("fsck").run();
    fsck.assert_code(0);
}

#[test]
fn a_failure_skips_what_comes_after_it_and_a_resume_runs_the_rest() {
    let hardtack = hardtack();
    // `b` is refused, so `d` is skipped; `c` runs.
    script(hardtack.dir(), "b", "[ -e fixed ] || exec REAL --refuse 2024-01-01\nexec REAL");
    pipeline(hardtack.dir(), &["d < b c", "b < a", "c < a", "a"]);
    let first = nightly(&hardtack, &DAY).run();
    first.assert_code(3);
    insta::assert_snapshot!(shown(&first.stdout), @"
     job |  status   | exit code | seconds |            run            | read | written |                  error
    -----+-----------+-----------+---------+---------------------------+------+---------+-----------------------------------------
     a   | succeeded |         0 |     0.0 | 20261121T040000Z-00000000 |    0 |       1 |
     b   | failed    |         3 |     0.0 | 20261121T040000Z-00000000 |    0 |       1 | this day is not liked (day: 2024-01-01)
     c   | succeeded |         0 |     0.0 | 20261121T040000Z-00000000 |    0 |       1 |
     d   | skipped   |           |         |                           |      |         |
    4 jobs: 2 succeeded, 1 failed, 1 skipped
    `--resume` runs those that have not succeeded
    ");
    assert_eq!(rows(hardtack.dir()), [("a", 1), ("c", 1)].into());

    hardtack.dir().write("fixed", "");
    let plan = nightly(&hardtack, &[&DAY[..], &["--resume", "--dry-run"]].concat()).run();
    insta::assert_snapshot!(plan.stdout, @"
    dry run: nothing is run
     job | after | binary | would run
    -----+-------+--------+-----------
     a   |       | bin/a  | no
     b   | a     | bin/b  | yes
     c   | a     | bin/c  | no
     d   | b, c  | bin/d  | yes
    ");
    let resumed = nightly(&hardtack, &[&DAY[..], &["--resume", "--json"]].concat()).run();
    resumed.assert_code(0);
    assert_statuses(&resumed, &[("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded"), ("d", "succeeded")]);
    assert_eq!(rows(hardtack.dir()), [("a", 1), ("b", 1), ("c", 1), ("d", 1)].into());

    let done = nightly(&hardtack, &[&DAY[..], &["--resume"]].concat()).run();
    insta::assert_snapshot!(done.assert_code(0).stdout, @"nothing to do: every job has succeeded (4 jobs)");
    // Another scope has executions of its own.
    nightly(&hardtack, &["--resume"]).run().assert_code(0);
    assert_eq!(rows(hardtack.dir()), [("a", 2), ("b", 2), ("c", 2), ("d", 2)].into());
}

#[rstest]
#[case::one_by_one("1", false)]
#[case::at_once("2", true)]
fn independent_jobs_run_concurrently(#[case] parallel: &str, #[case] overlap: bool) {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a --pause 1000 < ", "b --pause 1000 < "]);
    let finished = nightly(&hardtack, &["--parallel", parallel, "--json"]).run();
    finished.assert_code(0);
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let time = |job: usize, name: &str| lines[job][name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!(time(1, "started_at") < time(0, "finished_at"), overlap, "{finished}");
}

/// The exit code is that of the first failure by order, not by time.
#[test]
fn the_first_failure_decides_the_exit_code() {
    let hardtack = hardtack();
    script(hardtack.dir(), "a", "sleep 1; exit 7");
    script(hardtack.dir(), "b", "echo it is broken; exit 9");
    pipeline(hardtack.dir(), &["a < ", "b < "]);
    let finished = nightly(&hardtack, &["--parallel", "2"]).env("PATH", "/usr/bin:/bin").run();
    finished.assert_code(7);
    assert!(finished.stderr.contains("b failed with exit code 9 in "), "{finished}");
    assert!(finished.stderr.contains(": it is broken (pipeline-logs/nightly/b.log)"), "{finished}");
}

/// `a` has committed, and the pipeline does not know: it is killed before `a` has ended.
/// Or it knows, and is killed before `b` has begun.
#[rstest]
#[case::after_a_run("a", "REAL; kill -9 $PPID", 1)]
#[case::before_a_run("b", "[ -e killed ] || { : > killed; kill -9 $PPID; exit 1; }; exec REAL", 2)]
fn a_pipeline_that_was_killed_between_jobs_is_resumed(#[case] job: &str, #[case] text: &str, #[case] attempts: usize) {
    let hardtack = hardtack();
    script(hardtack.dir(), job, text);
    pipeline(hardtack.dir(), &["a", "b", "c"]);
    let killed = nightly(&hardtack, &[]).run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    let resumed = nightly(&hardtack, &["--resume", "--json"]).run();
    resumed.assert_code(0);
    assert_statuses(&resumed, &[("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")]);
    assert_eq!(rows(hardtack.dir()), [("a", 1), ("b", 1), ("c", 1)].into());
    let line = resumed.stdout.lines().find(|line| line.contains(&format!("\"job\":\"{job}\""))).unwrap();
    assert_eq!(serde_json::from_str::<Value>(line).unwrap()["runs"].as_array().unwrap().len(), attempts);
}

/// Its run goes on without it. Either that commits or the one of the resumed pipeline.
#[rstest]
#[case::the_old_run_is_slow("4000")]
#[case::the_old_run_is_fast("700")]
fn a_pipeline_that_was_killed_during_a_job_is_resumed(#[case] pause: &str) {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a", &format!("b --pause {pause}"), "c"]);
    let mut run = nightly(&hardtack, &[]).start();
    assert!(run.wait_until(|| !hardtack.dir().hidden_files("b").is_empty()));
    run.kill();
    run.wait();
    // The run of `b` writes the record of its end after its commit.
    let resumed = nightly(&hardtack, &["--resume", "--json"]).run();
    resumed.assert_code(0);
    assert_statuses(&resumed, &[("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")]);
    // The run that has lost ends without a trace.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(rows(hardtack.dir()), [("a", 1), ("b", 1), ("c", 1)].into());
}

/// A plain call starts over, and says that there was something to resume.
#[test]
fn a_pipeline_that_was_killed_starts_over_without_resume() {
    let hardtack = hardtack();
    script(hardtack.dir(), "b", "[ -e killed ] || { : > killed; kill -9 $PPID; exit 1; }; exec REAL");
    pipeline(hardtack.dir(), &["a", "b"]);
    nightly(&hardtack, &[]).run();
    let again = nightly(&hardtack, &[]).run();
    again.assert_code(0);
    assert!(again.stderr.contains("`--resume` continues one"), "{again}");
    assert_eq!(rows(hardtack.dir()), [("a", 2), ("b", 1)].into());
}

#[rstest]
#[case::sigterm(false)]
#[case::ctrl_c(true)]
fn a_signal_stops_the_jobs_and_skips_the_rest(#[case] interrupts: bool) {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a --pause 60000 < ", "b --pause 60000 < ", "c < "]);
    let mut run = nightly(&hardtack, &["--parallel", "2", "--json"]).start();
    let staged = || !hardtack.dir().hidden_files("a").is_empty() && !hardtack.dir().hidden_files("b").is_empty();
    assert!(run.wait_until(staged));
    if interrupts {
        run.interrupt()
    } else {
        run.terminate()
    }
    let finished = run.wait();
    finished.assert_code(143);
    assert_statuses(&finished, &[("a", "stopped"), ("b", "stopped"), ("c", "skipped")]);
    assert!(!staged(), "staged rows are discarded");
}

#[rstest]
#[case::again(&[])]
#[case::resumed(&["--resume"])]
fn of_two_at_once_the_second_is_refused(#[case] options: &[&str]) {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a --pause 2000"]);
    let mut first = nightly(&hardtack, &[]).start();
    assert!(first.wait_until(|| !hardtack.dir().hidden_files("a").is_empty()));
    let second = nightly(&hardtack, options).run();
    second.assert_code(4);
    assert!(second.stderr.contains("the pipeline is being run (pipeline: nightly, scope: default, host: "), "{second}");
    // In another scope it is another execution.
    nightly(&hardtack, &["--scope", "other"]).run().assert_code(0);
    first.wait().assert_code(0);
    assert_eq!(rows(hardtack.dir()), [("a", 2)].into());
}

/// Both may find no other. Creating the record decides.
#[test]
fn of_two_that_start_together_one_runs() {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a --pause 1500"]);
    let start = || nightly(&hardtack, &[]).start();
    let mut codes: Vec<_> = [start(), start(), start()].map(|run| run.wait().code()).into();
    codes.sort();
    assert_eq!(codes, [Some(0), Some(4), Some(4)]);
    assert_eq!(rows(hardtack.dir()), [("a", 1)].into());
}

fn edit(dir: &TempLake, from: u64, to: u64, edit: impl FnOnce(&mut Value)) {
    let path = |number: u64| format!("state/nightly/pipelines/default/{number:012}.json");
    let mut record = serde_json::from_str(&dir.read(&path(from))).unwrap();
    edit(&mut record);
    dir.write(&path(to), record.to_string());
}

/// Whether a process on another machine is alive is known by what it has said last.
#[rstest]
#[case::just_now(0, 4)]
#[case::a_minute_ago(60, 4)]
#[case::long_ago(130, 0)]
fn a_pipeline_on_another_machine_is_alive_for_a_while(#[case] seconds: i64, #[case] code: i32) {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a"]);
    nightly(&hardtack, &[]).run().assert_code(0);
    edit(hardtack.dir(), 1, 1, |record| {
        record["host"] = json!("elsewhere");
        record["alive_at"] = json!(Utc::now() - chrono::TimeDelta::seconds(seconds));
        record["finished_at"] = json!(null);
    });
    nightly(&hardtack, &[]).run().assert_code(code);
}

/// A process that was paused for so long that another has taken over stops what it has started.
#[test]
fn a_pipeline_that_was_taken_over_stops() {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a --pause 1500 < ", "b --pause 60000 < ", "c < a"]);
    let mut run = nightly(&hardtack, &["--parallel", "2"]).start();
    let staged = || !hardtack.dir().hidden_files("a").is_empty() && !hardtack.dir().hidden_files("b").is_empty();
    assert!(run.wait_until(staged));
    edit(hardtack.dir(), 1, 2, |record| record["number"] = json!(2));
    let finished = run.wait();
    finished.assert_code(4);
    assert!(finished.stderr.contains("another process has taken over this pipeline"), "{finished}");
    assert_eq!(rows(hardtack.dir()), [("a", 1)].into());
}

/// An operator has repaired the cause and run the job by hand.
#[test]
fn a_job_that_was_rerun_by_hand_is_done() {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &[&format!("a {REFUSE}"), "b"]);
    nightly(&hardtack, &DAY).run().assert_code(3);
    let runs = hardtack.again().args(["runs", "a", "--json"]).run();
    let run = serde_json::from_str::<Value>(&runs.stdout).unwrap()["run"]["id"].as_str().unwrap().to_owned();
    hardtack.again().args(["rerun", &run, "--", "--refuse="]).run().assert_code(0);
    let resumed = nightly(&hardtack, &[&DAY[..], &["--resume"]].concat()).run();
    resumed.assert_code(0);
    assert!(resumed.stderr.contains("a: a run has committed meanwhile"), "{resumed}");
    assert_eq!(rows(hardtack.dir()), [("a", 1), ("b", 1)].into());
}

#[rstest]
#[case::file(&["a"], &[], "the file of the pipeline has changed since the last execution (pipeline: nightly, ")]
#[case::arguments(&["b"], &["--", "--pause=1"], "the arguments have changed since the last execution")]
fn a_changed_pipeline_is_resumed_only_if_that_is_wanted(
    #[case] jobs: &[&str],
    #[case] args: &[&str],
    #[case] said: &str,
) {
    let hardtack = hardtack();
    script(hardtack.dir(), "b", "[ -e fixed ] || exit 1\nexec REAL");
    pipeline(hardtack.dir(), &["b"]);
    nightly(&hardtack, &[]).run().assert_code(1);
    hardtack.dir().write("fixed", "");
    pipeline(hardtack.dir(), jobs);
    let refused = nightly(&hardtack, &[&["--resume"], args].concat()).run();
    refused.assert_code(2);
    assert!(refused.stderr.contains(said) && refused.stderr.contains("--accept-changes"), "{refused}");
    nightly(&hardtack, &[&["--resume", "--accept-changes"], args].concat()).run().assert_code(0);
    assert_eq!(rows(hardtack.dir()).keys().copied().collect::<Vec<_>>(), jobs);
}

#[test]
fn output_is_passed_through_if_wanted() {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a --refuse 2024-01-01"]);
    let finished = nightly(&hardtack, &[&DAY[..], &["--logs", "-"]].concat()).run();
    finished.assert_code(3);
    assert!(finished.stderr.contains(r#""level":"ERROR""#), "{finished}");
    assert!(finished.stdout.contains("this day is not liked"), "{finished}");
    assert!(!hardtack.dir().path().join("pipeline-logs").exists());
}

/// An exit code of 0 alone does not make a job done: `--resume` would skip it.
#[test]
fn a_run_without_a_commit_has_not_succeeded() {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a", "b"]);
    let finished = nightly(&hardtack, &["--", "--dry-run"]).run();
    finished.assert_code(1);
    assert!(finished.stdout.contains("the run ended well, but has no commit of the job `a`"), "{finished}");
}

#[test]
fn a_damaged_record_is_named_and_no_obstacle_to_starting_over() {
    let hardtack = hardtack();
    pipeline(hardtack.dir(), &["a"]);
    nightly(&hardtack, &[]).run().assert_code(0);
    let record = "state/nightly/pipelines/default/000000000001.json";
    hardtack.dir().write(record, "{");
    let resumed = nightly(&hardtack, &["--resume"]).run();
    resumed.assert_code(1);
    assert!(resumed.stderr.contains("nightly/pipelines/default/000000000001.json"), "{resumed}");
    let fsck = hardtack.again().arg("fsck").run();
    fsck.assert_code(1);
    assert!(fsck.stdout.contains("a record of a pipeline does not parse"), "{fsck}");
    assert!(fsck.stdout.contains("`hardtack run` then starts the pipeline over"), "{fsck}");
    nightly(&hardtack, &[]).run().assert_code(0);
    assert_eq!(hardtack.dir().read(record), "{", "it stays for a person to look at");
    assert!(Path::new(&hardtack.dir().path().join("state/nightly/pipelines/default/000000000002.json")).exists());
}

#[rstest]
#[case::no_file("", &[], "the pipeline cannot be read (file: nightly.toml")]
#[case::syntax("name = 'x'\njobs = [", &[], "the pipeline does not parse")]
#[case::line("name = 'x'\n[[jobs]]\njob = 'a'\n\nparallel = 2\n", &[], "(file: nightly.toml, line: 5)")]
#[case::cycle(
    "name = 'x'\n[[jobs]]\njob = 'a'\nafter = ['b']\n[[jobs]]\njob = 'b'\nafter = ['a']\n",
    &[],
    "jobs wait for each other: `a` after `b` after `a` (file: nightly.toml, line: 3"
)]
#[case::no_binary("name = 'x'\n[[jobs]]\njob = 'a'\n[[jobs]]\njob = 'x'\n", &[], "there is no binary of this job (job: x, binary: bin/x")]
#[case::own_option("name = 'x'\n[[jobs]]\njob = 'a'\n", &["--", "--state=s"], "`hardtack run` sets `--state=s` for each job itself")]
#[case::half_a_window("name = 'x'\n[[jobs]]\njob = 'a'\n", &["--window-start", "2024-01-01"], "--window-end")]
fn a_pipeline_that_cannot_work_is_refused(#[case] text: &str, #[case] options: &[&str], #[case] said: &str) {
    let hardtack = hardtack();
    if !text.is_empty() {
        hardtack.dir().write("nightly.toml", text);
    }
    let refused = nightly(&hardtack, options).run();
    refused.assert_code(2);
    assert!(refused.stderr.contains(said), "{refused}");
    assert!(!hardtack.dir().path().join("state").exists(), "nothing is recorded");
}
