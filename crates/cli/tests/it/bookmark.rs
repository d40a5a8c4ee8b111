//! `hardtack bookmark` and `hardtack runs`: a person sees and moves how far the sources have read.

use hardtack_runtime::{RuntimeArgs, open_context, open_state};
use hardtack_state::{Ledger, RunRecord};
use hardtack_test_support::{Finished, JobBinary};
use rstest::rstest;
use serde_json::{Value, json};

use crate::backfill::windowed;
use crate::{Killed, hardtack};

/// A job whose source `counter` counts its runs.
fn job() -> JobBinary<'static> {
    JobBinary::new(windowed()).env("HARDTACK_STATE", "state").args(["--target", "out"])
}

fn on(job: &JobBinary<'_>, args: &[&str]) -> (Option<i32>, String) {
    hardtack(job.dir().path(), args)
}

/// The output with the same ids and times, which have the same width, whenever it is printed.
pub(crate) fn plain(said: &str) -> String {
    let said = regex::Regex::new(r"\d{8}T\d{6}Z-[0-9a-f]{8}").unwrap().replace_all(said, "20261121T040000Z-00000000");
    let time = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").unwrap();
    time.replace_all(&said, "2026-11-21T04:00:00Z").into_owned()
}

fn lines(said: &str) -> Vec<Value> {
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The positions of the scope, as the next run will find them.
fn positions(job: &JobBinary<'_>) -> Value {
    let (code, said) = on(job, &["bookmark", "show", "windowed", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    lines(&said).iter().map(|line| (line["source"].as_str().unwrap().to_owned(), line["position"].clone())).collect()
}

/// The ids of the commits that moved a position, oldest first.
fn history(job: &JobBinary<'_>) -> Vec<Value> {
    let (code, said) = on(job, &["bookmark", "history", "windowed", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    lines(&said)
}

fn run_of(line: &Value) -> &str {
    line["run"].as_str().unwrap()
}

fn rows(job: &JobBinary<'_>) -> usize {
    job.dir().read_parquet("out").num_rows()
}

fn counted(runs: u64) -> Value {
    json!({"format": 1, "runs": runs})
}

#[test]
fn positions_are_shown_and_where_they_came_from() {
    let job = job();
    for _ in 0..2 {
        job.run().assert_code(0);
    }
    insta::assert_snapshot!(plain(&on(&job, &["bookmark", "show", "windowed"]).1), @"
      scope  | source  | position | after commit |          of run           |          at
    ---------+---------+----------+--------------+---------------------------+----------------------
     default | counter | runs=2   | 2            | 20261121T040000Z-00000000 | 2026-11-21T04:00:00Z
    ");
    insta::assert_snapshot!(plain(&on(&job, &["bookmark", "history", "windowed"]).1), @"
      scope  | commit |            run            |          at          |   by    | source  | position
    ---------+--------+---------------------------+----------------------+---------+---------+----------
     default |      1 | 20261121T040000Z-00000000 | 2026-11-21T04:00:00Z | the job | counter | runs=1
     default |      2 | 20261121T040000Z-00000000 | 2026-11-21T04:00:00Z | the job | counter | runs=2
    ");
    let history = history(&job);
    assert_eq!((&history[1]["from"], &history[1]["to"]), (&counted(1), &counted(2)));
    assert_eq!((&history[0]["from"], &history[0]["change"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_reset_is_recorded_and_can_be_undone() {
    let job = job();
    for _ in 0..2 {
        job.run().assert_code(0);
    }
    let reset = ["bookmark", "reset", "windowed", "--yes", "--reason", "delivered again"];
    let (code, said) = on(&job, &reset);
    assert_eq!(code, Some(0), "{said}");
    insta::assert_snapshot!(plain(&said), @"
    windowed (default): moved by commit 3 (run 20261121T040000Z-00000000)
    to undo it: hardtack bookmark rewind windowed --scope default --to-run 20261121T040000Z-00000000
    windowed (default):
     source  |  from  |  to
    ---------+--------+------
     counter | runs=2 | none
    ");
    assert_eq!(positions(&job), json!({}));

    let change = history(&job).pop().unwrap();
    assert_eq!((&change["commit"], &change["to"]), (&json!(3), &Value::Null));
    assert_eq!(
        (&change["change"]["command"], &change["change"]["reason"]),
        (&json!("reset"), &json!("delivered again"))
    );
    assert!(["user", "host"].iter().all(|name| change["change"][*name].as_str().is_some_and(|text| !text.is_empty())));
    assert_eq!(on(&job, &["runs", "windowed", "--json"]).1.lines().count(), 3, "the change is on record");

    let undo = said.lines().find_map(|line| line.strip_prefix("to undo it: hardtack ")).unwrap();
    let undo: Vec<&str> = undo.split(' ').chain(["--yes"]).collect();
    assert_eq!(on(&job, &undo).0, Some(0));
    assert_eq!(positions(&job), json!({"counter": counted(2)}));
    // And the undoing, too.
    assert_eq!(on(&job, &["bookmark", "rewind", "windowed", "--to-run", run_of(&change), "--yes"]).0, Some(0));
    assert_eq!(positions(&job), json!({}));
    job.run().assert_code(0);
    assert_eq!(positions(&job), json!({"counter": counted(1)}));
    assert_eq!(rows(&job), 3);
    let (code, said) = on(&job, &["fsck"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn positions_go_back_to_a_run_and_to_a_time() {
    let job = job();
    for _ in 0..3 {
        job.run().assert_code(0);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let history = history(&job);
    let (code, said) = on(&job, &["bookmark", "rewind", "windowed", "--to-run", run_of(&history[0]), "--yes"]);
    assert_eq!((code, positions(&job)), (Some(0), json!({"counter": counted(1)})), "{said}");
    let time = history[1]["committed_at"].as_str().unwrap();
    let (code, said) = on(&job, &["bookmark", "rewind", "windowed", "--to-time", time, "--yes", "--json"]);
    assert_eq!((code, positions(&job)), (Some(0), json!({"counter": counted(2)})), "{said}");
    let record: Value = serde_json::from_str(said.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert_eq!((&record["commit"], &record["status"]), (&json!(5), &json!("succeeded")));
    // It is there already.
    let (code, said) = on(&job, &["bookmark", "rewind", "windowed", "--to-time", time, "--yes"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(said, @"windowed (default): the positions are already so; nothing is changed");
    job.run().assert_code(0);
    assert_eq!(positions(&job), json!({"counter": counted(3)}));
}

#[rstest]
#[case::argument(r#"{"format":1,"runs":7}"#)]
#[case::file("@position.json")]
fn a_position_is_set(#[case] position: &str) {
    let job = job();
    job.run().assert_code(0);
    job.dir().write("position.json", r#"{"format": 1, "runs": 7}"#);
    let set = ["bookmark", "set", "windowed", "--source", "counter", position, "--yes"];
    assert_eq!(on(&job, &set).0, Some(0));
    job.run().assert_code(0);
    assert_eq!(positions(&job), json!({"counter": counted(8)}));
}

/// A position may be set before the first run, to begin where something else has ended.
#[test]
fn the_first_position_is_set_and_undone() {
    let job = job();
    let set = ["bookmark", "set", "windowed", "--source", "counter", r#"{"runs":5}"#, "--yes"];
    let (code, said) = on(&job, &set);
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = on(&job, &[&set[..], &["--create"]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("to undo it: hardtack bookmark reset windowed --scope default"), "{said}");
    job.run().assert_code(0);
    assert_eq!(positions(&job), json!({"counter": counted(6)}));
}

/// A run moves the sources that it reads, and keeps the positions of all others.
#[test]
fn sources_that_a_run_does_not_touch_keep_their_positions() {
    let job = job();
    job.run().assert_code(0);
    let set = ["bookmark", "set", "windowed", "--source", "other", "41", "--yes", "--create"];
    assert_eq!(on(&job, &set).0, Some(0));
    job.run().assert_code(0);
    job.again().arg("--idle").run().assert_code(0);
    assert_eq!(positions(&job), json!({"counter": counted(2), "other": 41}));
    assert_eq!(on(&job, &["bookmark", "reset", "windowed", "--source", "other", "--yes"]).0, Some(0));
    assert_eq!(positions(&job), json!({"counter": counted(2)}));
}

/// The run had begun before the change, so it has read from a position that is no longer right.
#[test]
fn a_run_that_had_begun_before_a_change_loses() {
    let job = job();
    job.run().assert_code(0);
    let mut run = job.again().args(["--pause", "3000"]).start();
    assert!(run.wait_until(|| !job.dir().hidden_files("out").iter().all(|file| !file.contains(".staged"))));
    let (code, said) = on(&job, &["bookmark", "reset", "windowed", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let lost = run.wait();
    lost.assert_code(4);
    assert_eq!((rows(&job), positions(&job)), (1, json!({})));
    assert!(job.dir().hidden_files("out").iter().all(|file| !file.contains(".staged")), "staged rows are left");
    job.run().assert_code(0);
    assert_eq!((rows(&job), positions(&job)), (2, json!({"counter": counted(1)})));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpublished_commit_is_published_before_a_change() {
    let killed = Killed::run("r1").await;
    killed.commit_with([("in".to_owned(), 5.into())].into()).await;
    let folder = killed.folder.path();
    let (_, said) = hardtack(folder, &["bookmark", "show", "job"]);
    assert!(said.contains("1 (not published yet)"), "{said}");
    let (code, said) = hardtack(folder, &["bookmark", "set", "job", "--source", "in", "4", "--yes"]);
    assert_eq!((code, killed.files()), (Some(0), vec!["rows.jsonl".to_owned()]), "{said}");
    let (_, said) = hardtack(folder, &["bookmark", "history", "job"]);
    let said: Vec<&str> = said.lines().skip(2).collect();
    assert!(said[0].contains("|      1 | r1 ") && said[0].contains("| the job "), "{said:?}");
    assert!(
        said[1].contains("|      2 | ") && said[1].contains("| set by ") && said[1].ends_with("| in     | 4"),
        "{said:?}"
    );
}

/// Whatever happens to the command, the position is either the old or the new one.
#[rstest]
#[case("state.commit.before", 1)]
#[case("state.commit.after", 0)]
#[case("state.done.before", 0)]
#[case("state.done.after", 0)]
#[case("run.cleanup.before", 0)]
fn a_killed_change_has_happened_or_not(#[case] point: &str, #[case] runs: u64) {
    let job = job();
    job.run().assert_code(0);
    let change = |points: &str| -> Finished {
        let mut hardtack = JobBinary::new(env!("CARGO_BIN_EXE_hardtack"))
            .env("HARDTACK_STATE", job.dir().path().join("state").display());
        if !points.is_empty() {
            hardtack = hardtack.env("FAILPOINTS", format!("{points}=return(kill)"));
        }
        hardtack.args(["bookmark", "set", "windowed", "--source", "counter", r#"{"format":1,"runs":0}"#, "--yes"]).run()
    };
    assert_eq!(change(point).signal(), Some(9));
    job.run().assert_code(0);
    assert_eq!(positions(&job), json!({"counter": counted(runs + 1)}));
    change("").assert_code(0);
    assert_eq!(positions(&job), json!({"counter": counted(0)}));
    let (_, said) = on(&job, &["runs", "windowed"]);
    assert!(!said.contains("running"), "{said}");
    let (code, said) = on(&job, &["fsck"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn without_a_terminal_and_a_yes_nothing_is_moved() {
    let job = job();
    job.run().assert_code(0);
    let (code, said) = on(&job, &["bookmark", "reset", "windowed"]);
    assert_eq!((code, positions(&job)), (Some(2), json!({"counter": counted(1)})));
    insta::assert_snapshot!(said, @"
    windowed (default):
     source  |  from  |  to
    ---------+--------+------
     counter | runs=1 | none
    hardtack: moving positions requires confirmation, but there is no terminal (command: reset, hint: review the change above, and add `--yes`)
    ");
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let job = job();
    job.run().assert_code(0);
    job.again().args(["--scope", "other"]).run().assert_code(0);
    let run = run_of(&history(&job)[0]).to_owned();
    let said = |args: &[&str]| {
        let (code, said) = on(&job, args);
        assert_eq!(
            code,
            Some(if said.contains("is not a position") || said.contains("is JSON") { 2 } else { 1 }),
            "{said}"
        );
        said.replace(&run, "RUN")
    };
    let all = [
        said(&["bookmark", "show", "nope"]),
        said(&["bookmark", "show", "windowed", "--scope", "nope"]),
        said(&["bookmark", "history", "windowed", "--source", "nope"]),
        said(&["bookmark", "reset", "windowed", "--source", "nope", "--yes"]),
        said(&["bookmark", "reset", "windowed", "--scope", "nope", "--yes"]),
        said(&["bookmark", "rewind", "windowed", "--to-run", "nope", "--yes"]),
        said(&["bookmark", "rewind", "windowed", "--to-time", "2001-01-01", "--yes"])
            .split(" (first")
            .next()
            .unwrap()
            .to_owned()
            + "\n",
        said(&["bookmark", "set", "windowed", "--source", "nope", "1", "--yes"]),
        said(&["bookmark", "set", "windowed", "--source", "counter", "{", "--yes"]),
        said(&["bookmark", "set", "windowed", "--source", "counter", "null", "--yes"]),
        said(&["runs", "nope"]),
    ];
    insta::assert_snapshot!(all.concat(), @r#"
    hardtack: no run of `nope` is on record (state: state, hint: the jobs in this state are `windowed`)
    hardtack: this job has no scope `nope` (hint: its scopes are `default`, `other`)
    hardtack: no source `nope` of this job has a position (job: windowed, hint: its sources with a position are `counter`)
    hardtack: no source `nope` of this job has a position (job: windowed, hint: its sources with a position are `counter`)
    hardtack: this job has no scope `nope` (hint: its scopes are `default`, `other`)
    hardtack: no commit of this scope is of run `nope`; a run that failed has none (hint: the newest runs with a commit are `RUN`)
    hardtack: there was no commit until 2001-01-01T00:00:00Z
    hardtack: no source `nope` of this job has a position (job: windowed, hint: its sources with a position are `counter`; `--create` sets the first position of a source)
    hardtack: a position is JSON, for example `{"format":1,"location":"s3://lake/clicks","by":"path","through":"2026/11/21"}` (argument: POSITION, hint: the field `position` of what `hardtack bookmark show --json` prints can be edited and set): EOF while parsing an object at line 1 column 1
    hardtack: `null` is not a position (hint: `hardtack bookmark reset` removes one)
    hardtack: no run of `nope` is on record (state: state, hint: the jobs in this state are `windowed`)
    "#);
}

/// A commit record with it could not be read again.
#[test]
fn a_position_that_is_nested_too_deep_is_refused() {
    let job = job();
    job.run().assert_code(0);
    let deep = "[".repeat(126) + &"]".repeat(126);
    let set = ["bookmark", "set", "windowed", "--source", "counter", "--yes", &deep];
    let (code, said) = on(&job, &set);
    assert_eq!(code, Some(2));
    assert!(said.contains("nested at most 64 levels"), "{said}");
    job.run().assert_code(0);
}

#[test]
fn a_run_is_shown_with_all_that_is_on_record() {
    let job = job();
    job.again().args(["--run-id", "first"]).run().assert_code(0);
    let day = ["--window-start", "2024-01-02", "--window-end", "2024-01-03"];
    job.again().args(day).args(["--run-id", "second", "--refuse", "2024-01-02"]).run().assert_code(3);
    let known = |said: &str| {
        let said = said.replace(windowed().to_str().unwrap(), "windowed");
        let said = regex::Regex::new(r"\(\d+\.\d+ s\)").unwrap().replace_all(&said, "(SECONDS)");
        regex::Regex::new(r"\b\d{3}\b").unwrap().replace_all(&plain(&said), "###").into_owned()
    };
    insta::assert_snapshot!(known(&on(&job, &["runs", "show", "first"]).1), @"
    run       first
    job       windowed
    scope     default
    status    succeeded
    commit    1
    started   2026-11-21T04:00:00Z
    finished  2026-11-21T04:00:00Z (SECONDS)
    command   windowed --target=out

     source  | files | rows | bytes
    ---------+-------+------+-------
     counter |     0 |    0 |     0

     sink | files | rows | bytes
    ------+-------+------+-------
     days |     1 |    1 |   ###

     bookmark | from |   to
    ----------+------+--------
     counter  | none | runs=1
    ");
    insta::assert_snapshot!(known(&on(&job, &["runs", "show", "second"]).1), @"
    run       second
    job       windowed
    scope     2024-01-02
    window    2024-01-02 to 2024-01-03
    status    failed
    started   2026-11-21T04:00:00Z
    finished  2026-11-21T04:00:00Z (SECONDS)
    error     this day is not liked (day: 2024-01-02) (refused)
    command   windowed --target=out --refuse=2024-01-02

     source  | files | rows | bytes
    ---------+-------+------+-------
     counter |     0 |    0 |     0

     sink | files | rows | bytes
    ------+-------+------+-------
     days |     1 |    1 |   ###
    ");
    let (_, json) = on(&job, &["runs", "show", "second", "--json"]);
    let record: RunRecord = serde_json::from_str(&json).unwrap();
    assert_eq!(record.run.window.unwrap().scope(), "2024-01-02");
    insta::assert_snapshot!(on(&job, &["runs", "show", "third"]).1, @"hardtack: no run `third` is on record (state: state, hint: the newest runs are `second`, `first`; `hardtack runs` lists them all)");
    let (_, all) = on(&job, &["runs"]);
    let listed: Vec<_> = all.lines().skip(2).map(|line| line.split('|').nth(1).unwrap().trim().to_owned()).collect();
    assert_eq!(listed, ["first", "second"]);
    assert_eq!(on(&job, &["runs", "--last", "1"]).1.lines().count(), 3);
}

/// A commit that was given up is not part of the history: the next run starts before it.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_commit_is_not_in_the_history() {
    let killed = Killed::run("r1").await;
    killed.commit_with([("in".to_owned(), 5.into())].into()).await;
    let folder = killed.folder.path();
    let abandon = ["recover", "--job", "job", "--scope", "default", "--abandon", "1", "--yes"];
    assert_eq!(hardtack(folder, &abandon).0, Some(0));
    insta::assert_snapshot!(hardtack(folder, &["bookmark", "show", "job"]).1, @"no source of `job` has a position");
    insta::assert_snapshot!(hardtack(folder, &["bookmark", "history", "job"]).1, @"no source of `job` has ever had a position");
    let options = RuntimeArgs::with_state(hardtack_core::Location::from(folder).join("state"));
    let state = open_state(open_context("job", &options).unwrap().stores(), &options.records.state).unwrap();
    assert_eq!(Ledger::new(state, "job", "default").newest_bookmarks().await.unwrap(), None);
}
