//! `hardtack compact`: a run like any other, even when it is killed.

use hardtack_runtime::FAULT_POINTS;
use hardtack_test_support::{JobBinary, TempLake, rows, table};
use rstest::rstest;

/// A lake with a dataset of small files in two folders, and one file in a third.
fn lake() -> JobBinary<'static> {
    let hardtack = JobBinary::new(env!("CARGO_BIN_EXE_hardtack"));
    let lake = hardtack.dir();
    for folder in ["day=1", "day=a%2Fb"] {
        lake.write_parquet(&format!("sales/{folder}/one.parquet"), rows! { id, city; 1, "Roma"; 2, null });
        lake.write_parquet(&format!("sales/{folder}/two.parquet"), rows! { id, city; 1, "Roma"; 3, "Oslo" });
        lake.write_parquet(&format!("sales/{folder}/three.parquet"), rows! { id, city; 4, "Paris" });
    }
    lake.write_parquet("sales/day=2/alone.parquet", rows! { id, city; 5, "Bonn" });
    hardtack.args(["compact", "sales", "--threads", "2", "--log-format", "pretty"])
}

fn state(lake: &TempLake) -> String {
    let table = table(lake.read_parquet("sales"));
    let mut lines: Vec<_> = table.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn names(lake: &TempLake) -> usize {
    lake.files("sales").len()
}

#[test]
fn small_files_become_one_per_folder_and_then_nothing_is_done() {
    let hardtack = lake();
    let (before, dry) = (state(hardtack.dir()), hardtack.again().arg("--dry-run").run());
    dry.assert_code(0);
    assert_eq!(dry.stdout.lines().count(), 3, "{dry}");
    assert!(dry.stdout.contains("sales/day=1: 3 files of "), "{dry}");
    assert_eq!(names(hardtack.dir()), 7);
    assert!(!hardtack.dir().path().join(".hardtack").exists(), "a dry run has recorded something");

    let done = hardtack.run();
    done.assert_code(0);
    assert!(done.stderr.contains("read   sales: 6 files, 10 rows"), "{done}");
    assert!(done.stderr.contains("wrote  sales (compaction): 2 files, 10 rows"), "{done}");
    let after = hardtack.dir().files("sales");
    assert_eq!(after.len(), 3, "{after:?}");
    assert_eq!(state(hardtack.dir()), before);

    hardtack.run().assert_code(0);
    assert_eq!(hardtack.dir().files("sales"), after, "a second compaction has done something");
    let dry = hardtack.again().arg("--dry-run").run();
    assert!(dry.stdout.contains("nothing to do"), "{dry}");
    let runs = hardtack.dir().hidden_files(".hardtack");
    assert!(runs.iter().any(|file| file.contains("compact/runs/")), "{runs:?}");
    assert!(runs.iter().any(|file| file.contains("sales/commits/000000000002.json")), "{runs:?}");
}

/// Every fault point, as for jobs: before the commit nothing has happened, and after it the next run ends in the right
/// state, whether or not it finds anything to compact.
#[test]
fn killed_at_any_step_the_next_run_ends_in_the_right_state() {
    let rows = state(lake().dir());
    for point in FAULT_POINTS {
        let hardtack = lake();
        assert_eq!(hardtack.failing_at("run.staged", "return(kill)").run().signal(), Some(9));
        let killed = hardtack.failing_at(point, "return(kill)").run();
        assert_eq!(killed.signal(), Some(9), "{point} was not reached\n{killed}");
        let commit = FAULT_POINTS.iter().position(|p| *p == "state.commit.after");
        if FAULT_POINTS.iter().position(|p| p == point) < commit {
            assert_eq!((names(hardtack.dir()), state(hardtack.dir())), (7, rows.clone()), "{point}");
        }
        hardtack.run().assert_code(0);
        assert_eq!((names(hardtack.dir()), state(hardtack.dir())), (3, rows.clone()), "{point}");
        assert_eq!(hardtack.dir().hidden_files("sales"), Vec::<String>::new(), "{point}");
    }
}

/// One run is slow to commit, and another finishes meanwhile: only the latter is published, and no row is duplicated.
#[rstest]
#[case::of_one_place(&[])]
#[case::under_the_name_of_a_job(&["--job", "books"])]
#[test]
fn of_two_at_once_one_commits(#[case] args: &[&str]) {
    let hardtack = lake().args(args);
    let rows = state(hardtack.dir());
    let mut slow = hardtack.failing_at("run.staged", "sleep(5000)").start();
    assert!(slow.wait_until(|| hardtack.dir().hidden_files("sales").len() == 2));
    hardtack.run().assert_code(0);
    slow.wait().assert_code(4);
    assert_eq!((names(hardtack.dir()), state(hardtack.dir())), (3, rows));
    assert_eq!(hardtack.dir().hidden_files("sales"), Vec::<String>::new());
}

#[test]
fn usage() {
    let hardtack = lake();
    let says = |args: &[&str], code: i32, text: &str| {
        let run = hardtack.again().args(args).run();
        assert_eq!(run.code(), Some(code), "{run}");
        assert!(run.stderr.contains(text), "{run}");
    };
    says(&["--target-file-size", "lots"], 2, "expected a size such as `512MiB`");
    says(&["--sorted-by", "id,ctiy"], 2, "the column `ctiy`");
    says(&["--sorted-by", "id desc, ctiy nulls last"], 2, "the column `ctiy`");
    assert_eq!(names(hardtack.dir()), 7);
    let nowhere = JobBinary::new(env!("CARGO_BIN_EXE_hardtack")).args(["--state", "s", "compact", "nope"]).run();
    assert_eq!(nowhere.code(), Some(1));
    assert!(nowhere.stderr.contains("there are no Parquet files to compact"), "{nowhere}");
}
