//! `hardtack rerun`: a run once more.

use hardtack_state::RunRecord;
use hardtack_test_support::{Finished, JobBinary, TempLake};
use rstest::rstest;
use serde_json::{Value, json};

use crate::backfill::windowed;
use crate::bookmark::plain;
use crate::hardtack;

fn job() -> JobBinary<'static> {
    JobBinary::new(windowed()).env("HARDTACK_STATE", "state").args(["--target", "out"])
}

/// `hardtack rerun` with these arguments, in the working directory of the job.
fn rerun(job: &JobBinary<'_>, args: &[&str]) -> (Option<i32>, String) {
    hardtack(job.dir().path(), &[&["rerun"], args].concat())
}

/// All records, oldest first.
fn records(job: &JobBinary<'_>) -> Vec<RunRecord> {
    let (code, said) = hardtack(job.dir().path(), &["runs", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Changes a field of a run's record.
fn edit(job: &JobBinary<'_>, run: &str, edit: impl FnOnce(&mut Value)) {
    let path = format!("state/windowed/runs/{run}.json");
    let mut record = serde_json::from_str(&job.dir().read(&path)).unwrap();
    edit(&mut record);
    job.dir().write(&path, record.to_string());
}

fn rows(job: &JobBinary<'_>) -> usize {
    job.dir().read_parquet("out").num_rows()
}

#[test]
fn a_failed_run_is_run_again_until_it_succeeds() {
    let job = job();
    let day = ["--window-start", "2024-01-02", "--window-end", "2024-01-03", "--refuse", "2024-01-01,2024-01-02"];
    job.again().args(day).args(["--run-id", "first"]).run().assert_code(3);

    let (code, said) = rerun(&job, &["first"]);
    assert_eq!(code, Some(3), "the exit code of the job: {said}");
    assert!(said.contains("this day is not liked"), "its log is passed through: {said}");
    let (code, said) = rerun(&job, &["first", "--", "--refuse", "2024-01-01"]);
    assert_eq!(code, Some(0), "{said}");

    let records = records(&job);
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.run.scope == "2024-01-02" && record.run.window.is_some()));
    assert_eq!((records[2].commit, rows(&job)), (Some(1), 1));
    // A rerun can be run again itself.
    let args: Vec<_> = records.iter().map(|record| record.invocation.as_ref().unwrap().args.concat()).collect();
    assert_eq!(args[0], ["--target=out", "--refuse=2024-01-01,2024-01-02"]);
    assert_eq!((&args[1], args[2].join(" ")), (&args[0], "--target=out --refuse=2024-01-01".to_owned()));
}

/// A run of a binary with several jobs is run again by that binary, as the same job.
#[test]
fn a_job_of_several_in_a_binary_is_run_again() {
    let folder = TempLake::new();
    let many = folder.path().join("many");
    std::os::unix::fs::symlink(windowed(), &many).unwrap();
    let job = JobBinary::new(many).env("HARDTACK_STATE", "state");
    let day = ["--window-start", "2024-01-02", "--window-end", "2024-01-03", "--refuse", "2024-01-02"];
    job.again().args(["run", "two", "--target", "out", "--run-id", "first"]).args(day).run().assert_code(3);

    let (code, said) = rerun(&job, &["first"]);
    assert_eq!(code, Some(3), "the exit code of the job: {said}");
    let (code, said) = rerun(&job, &["first", "--", "--refuse", "2024-01-01"]);
    assert_eq!((code, rows(&job)), (Some(0), 1), "{said}");
    let records = records(&job);
    assert_eq!(records.iter().map(|record| &*record.run.job).collect::<Vec<_>>(), ["two"; 3]);
}

/// Relative locations, state and catalog are those of the run's folder and of the command's.
#[test]
fn a_run_is_run_again_from_another_folder() {
    let job = job();
    job.again().args(["--run-id", "first"]).run().assert_code(0);
    let elsewhere = tempfile::tempdir().unwrap();
    let state = job.dir().path().join("state");
    let args = ["rerun", "first", "--state", state.to_str().unwrap()];
    let (code, said) = hardtack(elsewhere.path(), &args);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with(&format!("cd {} && ", job.dir().path().display())), "{said}");
    assert_eq!((rows(&job), records(&job).len()), (2, 2));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    let (code, said) = hardtack(elsewhere.path(), &[&args[..], &["--directory", "nowhere"]].concat());
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = hardtack(elsewhere.path(), &[&args[..], &["--directory", ".", "--binary", "./nope"]].concat());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("the job cannot be started"), "{said}");
}

#[test]
fn what_would_be_run_is_printed() {
    let job = job();
    job.again()
        .args(["--run-id", "first", "--refuse", "2024-01-01"])
        .env("HARDTACK_PROFILE", "true")
        .run()
        .assert_code(0);
    let (code, said) = rerun(&job, &["first", "--dry-run", "--", "--pause=1"]);
    assert_eq!(code, Some(0), "{said}");
    let folder = job.dir().path().display().to_string();
    let said = plain(&said).replace(windowed().to_str().unwrap(), "/bin/windowed").replace(&folder, "/folder");
    insta::assert_snapshot!(said, @"cd /folder && /bin/windowed --target=out --refuse=2024-01-01 --profile --pause=1 --scope default --run-id 20261121T040000Z-00000000 --state /folder/state --catalog embedded");
    assert_eq!(records(&job).len(), 1);
}

#[test]
fn a_secret_is_not_on_record_and_has_to_be_given_again() {
    let job = job();
    job.again().args(["--run-id", "first", "--api-key", "wrong"]).run().assert_code(3);
    assert!(!job.dir().read("state/windowed/runs/first.json").contains("wrong"));
    let (code, said) = rerun(&job, &["first"]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(said, @"hardtack: the record does not hold the value of `--api-key`, which is a secret (job: windowed, run: first, hint: give it again: `hardtack rerun first -- --api-key VALUE`, or set `WINDOWED_API_KEY` in the environment)");
    let (code, said) = rerun(&job, &["first", "--", "--api-key", "correct"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("--api-key ***") && !said.contains("correct"), "{said}");
    let args = ["rerun", "first"];
    let given = JobBinary::new(env!("CARGO_BIN_EXE_hardtack")).envs([("WINDOWED_API_KEY", "x")]).args(args);
    let state = job.dir().path().join("state");
    given.env("HARDTACK_STATE", state.display()).run().assert_code(0);
    let (_, shown) = hardtack(job.dir().path(), &["runs", "show", "first"]);
    assert!(shown.contains("--target=out --api-key=***"), "{shown}");
}

#[rstest]
#[case::bookmarks("change", "this is a change of bookmarks by a person, not a run of the job")]
#[case::earlier_version("earlier", "the record does not say how the run was started")]
#[case::unknown("nope", "no run `nope` is on record")]
fn what_cannot_be_run_again_is_refused(#[case] run: &str, #[case] said: &str) {
    let job = job();
    job.again().args(["--run-id", "earlier"]).run().assert_code(0);
    edit(&job, "earlier", |record| {
        record.as_object_mut().unwrap().remove("invocation");
    });
    let (code, output) = hardtack(job.dir().path(), &["bookmark", "reset", "windowed", "--yes"]);
    assert_eq!(code, Some(0), "{output}");
    let change = records(&job).into_iter().find(|record| record.change.is_some()).unwrap().run.id;
    let (code, output) = rerun(&job, &[if run == "change" { change.as_str() } else { run }]);
    assert_eq!(code, Some(if run == "nope" { 1 } else { 2 }), "{output}");
    assert!(output.contains(said), "{output}");
    assert_eq!(records(&job).len(), 2);
}

#[rstest]
#[case::own_option(&["r", "--", "--scope=x"], "`hardtack rerun` sets `--scope=x` itself")]
#[case::no_id(&["a/b"], "not a run id")]
fn a_call_that_is_wrong_is_refused(#[case] args: &[&str], #[case] said: &str) {
    let (code, output) = rerun(&job(), args);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains(said), "{output}");
}

#[test]
fn a_run_that_is_running_is_not_run_again() {
    let job = job();
    let mut running = job.again().args(["--run-id", "first", "--pause", "60000"]).start();
    assert!(running.wait_until(|| !job.dir().hidden_files("out").is_empty()));
    let (code, said) = rerun(&job, &["first"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("the run is on record as running") && said.contains("--was-killed"), "{said}");
    // On another machine, nobody can tell.
    running.kill();
    running.wait();
    edit(&job, "first", |record| record["invocation"]["host"] = json!("elsewhere"));
    assert_eq!(rerun(&job, &["first"]).0, Some(2));
    let (code, said) = rerun(&job, &["first", "--was-killed", "--", "--pause=0"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(rows(&job), 1);
}

/// On this machine it is known.
#[rstest]
#[case::before_its_commit("state.commit.before", None)]
#[case::after_its_commit("state.commit.after", Some("`hardtack recover --job windowed --scope default` finishes it"))]
fn a_killed_run_is_run_again_unless_it_has_committed(#[case] point: &str, #[case] refused: Option<&str>) {
    let job = job();
    let killed: Finished = job.again().args(["--run-id", "first"]).failing_at(point, "return(kill)").run();
    assert_eq!(killed.signal(), Some(9));
    let (code, said) = rerun(&job, &["first"]);
    match refused {
        None => assert_eq!((code, rows(&job)), (Some(0), 1), "{said}"),
        Some(why) => assert!(code == Some(2) && said.contains(why), "{said}"),
    }
}

#[test]
fn a_job_has_to_be_named_if_several_have_the_run() {
    let job = job();
    job.dir().write("bin/.folder", "");
    std::os::unix::fs::symlink(windowed(), job.dir().path().join("bin/another")).unwrap();
    job.again().args(["--run-id", "first"]).run().assert_code(0);
    std::fs::create_dir_all(job.dir().path().join("state/another/runs")).unwrap();
    let record = job.dir().read("state/windowed/runs/first.json").replace("\"windowed\"", "\"another\"");
    job.dir().write("state/another/runs/first.json", record);
    let (code, said) = rerun(&job, &["first"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("name one of `another`, `windowed` with `--job`"), "{said}");
    assert_eq!(rerun(&job, &["first", "--job", "windowed"]).0, Some(0));
}
