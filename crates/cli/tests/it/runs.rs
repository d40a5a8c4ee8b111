//! `hardtack runs`: which runs are shown, as they begin and end, and how they have moved.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hardtack_core::{Counts, Location, Run, moment};
use hardtack_runtime::{RuntimeArgs, open_context, open_state};
use hardtack_state::{ErrorRecord, Ledger, RunRecord, RunStatus};
use hardtack_test_support::JobBinary;
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::backfill::windowed;
use crate::bookmark::plain;
use crate::hardtack;

/// A run of the job `sales` with this id: its scope, status, start, seconds, rows read and written.
fn record(id: &str, scope: &str, status: RunStatus, at: DateTime<Utc>, seconds: i64, rows: u64) -> RunRecord {
    let run = Run {
        id: id.parse().unwrap(),
        job: "sales".to_owned(),
        scope: scope.to_owned(),
        started_at: at,
        token: Run::new_token(),
        window: None,
    };
    let counts = |rows| Counts { rows, ..Counts::default() };
    RunRecord {
        status,
        finished_at: (status != RunStatus::Running).then(|| at + TimeDelta::seconds(seconds)),
        sources: [("orders".to_owned(), counts(rows * 2))].into(),
        sinks: [("sales".to_owned(), counts(rows))].into(),
        error: (status == RunStatus::Failed)
            .then(|| ErrorRecord { kind: "refused".to_owned(), message: "it is not liked".to_owned() }),
        ..RunRecord::begin(run)
    }
}

/// A state location with these runs.
async fn state(records: &[RunRecord]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let options = RuntimeArgs::with_state(Location::from(folder.path()).join("state"));
    let ctx = open_context("test", &options).unwrap();
    let state = open_state(ctx.stores(), &options.records.state).unwrap();
    for record in records {
        assert!(Ledger::new(state.clone(), &record.run.job, &record.run.scope).create_run(record).await.unwrap());
    }
    folder
}

#[rstest]
#[case::all(&[], "a b c d e")]
#[case::failed(&["--status", "failed"], "b")]
#[case::several(&["--status", "failed,stopped"], "b c")]
#[case::several_times(&["--status", "failed", "--status", "running"], "b e")]
#[case::scope(&["--scope", "2026-11-02"], "c d")]
#[case::since_a_date(&["--since", "2026-11-03"], "c d e")]
#[case::since_a_time(&["--since", "2026-11-03T00:00:01Z"], "d e")]
#[case::a_date_is_included(&["--until", "2026-11-03"], "a b c")]
#[case::a_time_is_not(&["--until", "2026-11-03T00:00:00Z"], "a b")]
#[case::both(&["--since", "2026-11-02", "--until", "2026-11-03"], "b c")]
#[case::since_some_time_ago(&["--since", "2h"], "e")]
#[case::until_some_time_ago(&["--until", "2h"], "a b c d")]
#[case::the_newest_of_them(&["--until", "2h", "--last", "2"], "c d")]
#[case::none(&["--status", "abandoned"], "")]
#[tokio::test(flavor = "multi_thread")]
async fn runs_are_filtered(#[case] filter: &[&str], #[case] ids: &str) {
    let day = |day: &str| moment(day).unwrap();
    let runs = [
        record("a", "default", RunStatus::Succeeded, day("2026-11-01"), 1, 1),
        record("b", "default", RunStatus::Failed, day("2026-11-02"), 1, 1),
        record("c", "2026-11-02", RunStatus::Stopped, day("2026-11-03"), 1, 1),
        record("d", "2026-11-02", RunStatus::Succeeded, day("2026-11-04"), 1, 1),
        record("e", "default", RunStatus::Running, Utc::now() - TimeDelta::hours(1), 0, 1),
    ];
    let folder = state(&runs).await;
    for command in [&["runs", "--json"][..], &["runs", "sales", "--json"]] {
        let (code, said) = hardtack(folder.path(), &[command, filter].concat());
        assert_eq!(code, Some(0), "{said}");
        let found: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found: Vec<&str> = found.iter().map(|record| record["run"]["id"].as_str().unwrap()).collect();
        assert_eq!(found.join(" "), ids);
    }
    let (_, table) = hardtack(folder.path(), &[&["runs"], filter].concat());
    match ids {
        "" => assert_eq!(table, "there are no such runs in the state at state\n"),
        _ => assert_eq!(table.lines().count(), 2 + ids.split(' ').count(), "{table}"),
    }
}

/// Nobody knows whether it is running, but since when.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_not_ended_shows_how_long_it_has_been_running() {
    let runs = [record("a", "default", RunStatus::Running, Utc::now() - TimeDelta::minutes(2), 0, 1)];
    let folder = state(&runs).await;
    let (_, said) = hardtack(folder.path(), &["runs"]);
    assert!(regex::Regex::new(r"\| running or killed \|.*\|  12\d\.\d\+ \|").unwrap().is_match(&said), "{said}");
}

#[rstest]
#[case::status(&["--status", "bad"], "[possible values: running, succeeded, failed, stopped, superseded, killed, abandoned]")]
#[case::since(&["--since", "yesterday"], "expected a date or time such as `2026-11-21` or `2026-11-21T04:00:00Z`, or a time before now such as `7d`")]
#[case::backwards(&["--since", "1d", "--until", "7d"], "no run can be both: `--since` is after `--until`")]
#[case::interval(&["--watch", "--interval", "0s"], "expected a time from `1ms`")]
#[case::interval_alone(&["--interval", "1s"], "--watch")]
fn filters_that_select_nothing_are_refused(#[case] filter: &[&str], #[case] said: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (code, output) = hardtack(folder.path(), &[&["runs"], filter].concat());
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains(said), "{output}");
}

/// Nine usual runs, among them one that failed half-way; then one that takes long, one that reads little, one as always.
#[tokio::test(flavor = "multi_thread")]
async fn a_trend_marks_what_is_unusual() {
    let (day, good) = (|n: i64| moment("2026-11-01").unwrap() + TimeDelta::days(n), RunStatus::Succeeded);
    let runs = [
        record("r0", "default", good, day(0), 60, 1000),
        record("r1", "default", good, day(1), 62, 1010),
        record("r2", "default", good, day(2), 58, 990),
        record("r3", "default", RunStatus::Failed, day(3), 3, 10),
        record("r4", "default", good, day(4), 61, 1020),
        record("r5", "default", good, day(5), 60, 1000),
        record("r6", "default", good, day(6), 190, 1000),
        record("r7", "default", good, day(7), 60, 400),
        record("r8", "default", good, day(8), 64, 1050),
        record("other", "other", good, day(9), 1, 1),
    ];
    let folder = state(&runs).await;
    let (code, said) = hardtack(folder.path(), &["runs", "trend", "sales", "--scope", "default"]);
    assert_eq!(code, Some(0), "{said}");
    insta::assert_snapshot!(said, @"
           started        | run |  scope  |  status   |    seconds     |    read     |   written   |    unusual
    ----------------------+-----+---------+-----------+----------------+-------------+-------------+---------------
     2026-11-01T00:00:00Z | r0  | default | succeeded |           60.0 |        2000 |        1000 |
     2026-11-02T00:00:00Z | r1  | default | succeeded |           62.0 |        2020 |        1010 |
     2026-11-03T00:00:00Z | r2  | default | succeeded |           58.0 |        1980 |         990 |
     2026-11-04T00:00:00Z | r3  | default | failed    |            3.0 |          20 |          10 |
     2026-11-05T00:00:00Z | r4  | default | succeeded |           61.0 |        2040 |        1020 |
     2026-11-06T00:00:00Z | r5  | default | succeeded |           60.0 |        2000 |        1000 |
     2026-11-07T00:00:00Z | r6  | default | succeeded | 190.0 (+217 %) |    2000 (=) |    1000 (=) | seconds
     2026-11-08T00:00:00Z | r7  | default | succeeded |    60.0 (-1 %) | 800 (-60 %) | 400 (-60 %) | read, written
     2026-11-09T00:00:00Z | r8  | default | succeeded |    64.0 (+7 %) | 2100 (+5 %) | 1050 (+5 %) |
    in brackets: the difference from the median of up to 30 successful runs before, if there are 5
    unusual: by more than 3 median absolute deviations and more than 20 %, seconds also by more than 1 s
    ");
    let (_, said) = hardtack(
        folder.path(),
        &["runs", "trend", "sales", "--scope", "default", "--since", "2026-11-07", "--last", "2", "--json"],
    );
    insta::assert_snapshot!(said, @r#"
    {"run":"r7","job":"sales","scope":"default","started_at":"2026-11-08T00:00:00Z","status":"succeeded","seconds":60.0,"read":800,"written":400,"usual":{"seconds":60.5,"read":2000.0,"written":1000.0},"unusual":["read","written"]}
    {"run":"r8","job":"sales","scope":"default","started_at":"2026-11-09T00:00:00Z","status":"succeeded","seconds":64.0,"read":2100,"written":1050,"usual":{"seconds":60.0,"read":2000.0,"written":1000.0},"unusual":[]}
    "#);
    let (code, said) = hardtack(folder.path(), &["runs", "trend", "nope"]);
    assert_eq!(code, Some(1), "{said}");
}

/// In a pipe: a line for each run and each change, until Ctrl-C.
#[rstest]
#[case::lines(false)]
#[case::json(true)]
fn runs_are_watched(#[case] json: bool) {
    let job = JobBinary::new(windowed()).env("HARDTACK_STATE", "state").args(["--target", "out"]);
    job.again().args(["--run-id", "before"]).run().assert_code(0);
    // It is left out, and stops nothing.
    job.dir().write("state/windowed/runs/damaged.json", "{");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardtack"));
    command.args(["runs", "--watch", "--interval", "20ms"]).args(json.then_some("--json"));
    command.current_dir(job.dir().path()).env_clear().env("HARDTACK_STATE", "state").stdout(Stdio::piped());
    let mut watch = command.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let again = job.again().args(["--run-id", "again", "--pause", "1000"]).start();
    let (begins, ends) = (lines.next().unwrap(), lines.next().unwrap());
    again.wait().assert_code(0);
    let pid = Pid::from_raw(watch.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(lines.next(), None);
    assert!(watch.wait().unwrap().success());
    if json {
        let of = |line: &str| serde_json::from_str::<RunRecord>(line).unwrap();
        let said: Vec<_> =
            [&first, &begins, &ends].map(|line| of(line)).map(|r| (r.run.id.to_string(), r.status)).into();
        let (again, before) = ("again".to_owned(), "before".to_owned());
        let wanted =
            [(before, RunStatus::Succeeded), (again.clone(), RunStatus::Running), (again, RunStatus::Succeeded)];
        assert_eq!(said, wanted);
    } else {
        let said = plain(&[first, begins, ends].join("\n"));
        let said = regex::Regex::new(r"in \d+\.\d s").unwrap().replace_all(&said, "in N s");
        insta::assert_snapshot!(said, @"
        2026-11-21T04:00:00Z before windowed (default): succeeded in N s, read 0, wrote 1
        2026-11-21T04:00:00Z again windowed (default): running or killed
        2026-11-21T04:00:00Z again windowed (default): succeeded in N s, read 0, wrote 1
        ");
    }
}

/// `hardtack runs --watch | head -1` ends.
#[test]
fn a_watch_that_nobody_reads_ends() {
    let job = JobBinary::new(windowed()).env("HARDTACK_STATE", "state").args(["--target", "out"]);
    job.run().assert_code(0);
    let hardtack = job.dir().path().join("hardtack");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hardtack"), &hardtack).unwrap();
    let mut watch = Command::new(hardtack)
        .args(["runs", "windowed", "--watch", "--interval", "20ms"])
        .current_dir(job.dir().path())
        .env_clear()
        .env("HARDTACK_STATE", "state")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut first).unwrap();
    // The pipe is closed; the next run is the next line.
    job.run().assert_code(0);
    for _ in 0..500 {
        if let Some(status) = watch.try_wait().unwrap() {
            assert!(status.success());
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    watch.kill().unwrap();
    panic!("it goes on");
}
