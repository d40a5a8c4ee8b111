//! The real binary with many files, killed or stopped in the middle of them, or without space for them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;

use hardtack_test_support::{Frame, JobBinary, TempLake, assert_frame};
use rstest::rstest;

use crate::{HEADER, contract, line};

const TABLE: &str = "out/observations";

const DAYS: usize = 10_000;
/// Half of the files are staged or published when there are this many.
const HALF: usize = DAYS / 2;
/// Allows for files that are in progress concurrently: at most 64.
const MIDDLE: std::ops::Range<usize> = HALF - 100..HALF + 100;

/// One or two observations on each of this many days.
fn observations(days: usize) -> String {
    let mut text = HEADER.to_owned();
    for (patient, [year, month, day], hour) in observed(days) {
        write!(text, "{}", line(&patient, &format!("{year}-{month:02}-{day:02}T0{hour}:00:00Z"))).unwrap();
    }
    text
}

/// The patient, the date (all months have 28 days) and the hour of each.
fn observed(days: usize) -> impl Iterator<Item = (String, [usize; 3], usize)> {
    let date = |n| [1900 + n / 336, n / 28 % 12 + 1, n % 28 + 1];
    (0..days).flat_map(move |n| (0..=n % 2).map(move |hour| (format!("p{n}"), date(n), hour)))
}

/// The job in a lake of its own with these observations.
fn with(observations: String) -> JobBinary<'static> {
    let job = contract().job();
    job.dir().write("in/observations.csv", observations);
    job
}

/// The names of folders with a file; each has only one.
fn folders(lake: &TempLake) -> BTreeSet<String> {
    let files = lake.files(TABLE);
    assert!(files.iter().all(|file| file.ends_with(".parquet")), "readers would find {files:?}");
    let folders: BTreeSet<_> = files.iter().map(|file| file.rsplit_once('/').unwrap().0.to_owned()).collect();
    assert_eq!(folders.len(), files.len(), "a day has two files");
    folders
}

/// All files exist, with each row once, and there is nothing else.
fn assert_complete(lake: &TempLake) {
    assert_eq!(folders(lake).len(), DAYS);
    assert_eq!(lake.hidden_files("out"), [""; 0]);
    let json = |(patient, [year, month, day], _): (String, [usize; 3], _)| {
        format!(r#"{{"patient": "{patient}", "year": "{year}", "month": "{month}", "day": "{day}"}}"#)
    };
    let wanted: Vec<String> = observed(DAYS).map(json).collect();
    assert_frame(lake.read_parquet(TABLE), Frame::from_json_lines(&wanted.join("\n")).ignoring_other_columns());
}

#[test]
fn killed_amid_ten_thousand_files_nothing_is_half_visible_and_the_next_run_heals() {
    let job = contract().job().in_memory();
    job.dir().write("in/observations.csv", observations(DAYS));

    let killed = job.failing_at("stage.file.created", &format!("{HALF}*off->return(kill)")).run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    let staged = job.dir().hidden_files("out").len();
    assert!(MIDDLE.contains(&staged), "{staged} files were staged: that is not the middle");
    assert_eq!(folders(job.dir()).len(), 0, "something was visible before the commit");

    let killed = job.failing_at("publish.file.after", &format!("{HALF}*off->return(kill)")).run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    let visible = folders(job.dir()).len();
    assert!(MIDDLE.contains(&visible), "{visible} files were visible: that is not the middle");
    let rows = job.dir().read_parquet(TABLE).num_rows();
    assert!((visible..=2 * visible).contains(&rows), "{rows} rows in {visible} files");

    // The source is removed, so that the result is the commit that was rolled forward, and not the work of a new run.
    job.dir().remove("in/observations.csv");
    job.run().assert_code(1);
    assert_complete(job.dir());
}

/// When stopped, it discards everything that it has staged, and also the dozens of files that are just being created.
/// (Discarding is slow here, so they have time to appear.)
#[test]
fn stopped_amid_many_files_nothing_is_left() {
    let job = with(observations(500));
    let slow = "stage.file.before=200*off->sleep(300);discard.after=sleep(600)";
    let mut run = job.again().env("FAILPOINTS", slow).start();
    assert!(run.wait_until(|| job.dir().hidden_files("out").len() >= 200), "it was not in the middle of staging");

    run.terminate();

    let stopped = run.wait();
    stopped.assert_code(143);
    assert_eq!((job.dir().files("out"), job.dir().hidden_files("out")), (vec![], vec![]), "{stopped}");
    job.run().assert_code(0);
    assert_eq!(folders(job.dir()).len(), 500);
}

#[test]
fn without_room_nothing_is_published_and_the_error_says_what_to_do() {
    // One day exceeds the limit; the others do not.
    let many: String = (0..20_000).map(|n| line(&format!("patient {n}"), "2024-02-29T12:00:00Z")).collect();
    let job = with(observations(200) + &many);

    let ended = job.again().with_file_limit(64).run();

    ended.assert_code(1);
    let said = ended.stderr;
    for part in ["out/observations/.", "free some space", "run again"] {
        assert!(said.contains(part), "`{part}` should be named\n{said}");
    }
    assert_eq!((job.dir().files("out"), job.dir().hidden_files("out")), (vec![], vec![]), "{said}");

    job.run().assert_code(0);
    assert_eq!(folders(job.dir()).len(), 201);
    assert_eq!(job.dir().read_parquet(TABLE).num_rows(), 20_300);
    assert_eq!(job.dir().hidden_files("out"), [""; 0]);
}

/// The job on a disk of its own with these limits, and again when there is space. The disk disappears with the
/// processes that see it, so the script leaves copies of its content, and the job's output.
const ON_A_SMALL_DISK: &str = r#"
set -e
mkdir out
mount -t tmpfs -o "$1" small out
code=0; "$0" --source in --target out 2>first.txt || code=$?
echo "$code" >>first.txt
cp -r out first
mount -o remount,size=64m,nr_inodes=10000 out
"$0" --source in --target out
cp -r out second
"#;

#[rstest]
#[case::while_staging("size=400k", &["the disk is full; free some space and run again", "out/observations/."], 0)]
#[case::while_publishing("nr_inodes=300", &["the run has committed", "the disk is full", "out/observations/year="], 1)]
#[test]
#[ignore = "mounts a file system (root, or a user namespace): cargo test --workspace --tests -- --ignored"]
fn on_a_full_disk_nothing_is_half_visible_and_with_room_the_next_run_heals(
    #[case] limits: &str,
    #[case] named: &[&str],
    #[case] visible: usize,
) {
    let job = with(observations(200));
    let mut command = Command::new("unshare");
    let script = ["-rm", "sh", "-c", ON_A_SMALL_DISK, env!("CARGO_BIN_EXE_observations"), limits];
    let ended = command.args(script).current_dir(job.dir().path()).env_clear().output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));

    let said = job.dir().read("first.txt");
    assert!(said.ends_with("\n1\n"), "the exit code should be 1\n{said}");
    for part in named {
        assert!(said.contains(part), "`{part}` should be named\n{said}");
    }
    let files = job.dir().files("first");
    assert!(files.iter().all(|file| file.ends_with(".parquet")), "readers would find {files:?}");
    assert_eq!((files.len().min(1), job.dir().hidden_files("first").is_empty()), (visible, visible == 0), "{said}");

    assert_eq!((job.dir().files("second").len(), job.dir().hidden_files("second").len()), (200, 0));
    assert_eq!(job.dir().read_parquet("second").num_rows(), 300);
}
