//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod crashes;

use async_compression::tokio::write::GzipEncoder;
use hardtack_test_support::{JobBinary, TempLake, assert_frame, assert_frame_snapshot, rows, table};
use rstest::rstest;
use tokio::io::AsyncWriteExt;

const TABLE: &str = "out/observations";
const HEADER: &str = "DATE,PATIENT,ENCOUNTER,CATEGORY,CODE,DESCRIPTION,VALUE,UNITS,TYPE\n";

fn job() -> JobBinary<'static> {
    JobBinary::new(env!("CARGO_BIN_EXE_observations")).args(["--source", "in", "--target", "out"])
}

fn line(patient: &str, date: &str) -> String {
    format!("{date},{patient},enc,vital-signs,8302-2,Body Height,127.9,cm,numeric\n")
}

/// Three observations on two days, one of them twice.
fn three() -> String {
    let [a, b, c] = [("a", "2023-01-27T16:17:47Z"), ("b", "2024-02-29T23:59:59Z"), ("c", "2023-01-27T00:00:00Z")]
        .map(|(patient, date)| line(patient, date));
    format!("{HEADER}{a}{b}{c}{a}")
}

/// The job in a lake of its own that has these observations.
fn with(path: &str, content: impl AsRef<[u8]>) -> JobBinary<'static> {
    let job = job();
    job.dir().write(path, content);
    job
}

/// Who was observed on which day.
fn days(lake: &TempLake) -> String {
    if lake.files(TABLE).is_empty() {
        return "-".to_owned();
    }
    let rows = lake.read_parquet(TABLE).df().select_columns(&["patient", "year", "month", "day"]);
    table(rows.expect("columns of the table"))
}

/// The folders that have a file, once for each.
fn folders(lake: &TempLake) -> Vec<String> {
    let folder = |file: String| Some(file.strip_prefix(TABLE)?.trim_start_matches('/').rsplit_once('/')?.0.to_owned());
    lake.files(TABLE).into_iter().map(|file| folder(file).expect("a file is in a folder")).collect()
}

#[test]
fn takes_the_fixtures_without_any_argument() {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_observations"));
    job.dir().copy("fixtures/synthea", concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/synthea"));
    job.run().assert_code(0);
    assert_frame_snapshot!(job.dir().read_parquet("target/lake/observations"), @"
    patient: Utf8 | encounter: Utf8 | category: Utf8 | code: Utf8 | description: Utf8      | value: Utf8            | units: Utf8 | type: Utf8 | year: Utf8 | month: Utf8 | day: Utf8
    pat-ada       | enc-03          | vital-signs    | 29463-7    | Body Weight            | 27.8                   | kg          | numeric    | 2023       | 10          | 10
    pat-ada       | enc-03          | vital-signs    | 8302-2     | Body Height            | 127.9                  | cm          | numeric    | 2023       | 10          | 10
    pat-dov       | null            | null           | QALY       | QALY                   | 41.5                   | a           | numeric    | null       | null        | null
    pat-inés      | enc-04          | survey         | 72166-2    | Tobacco smoking status | Never smoked, they say | null        | text       | 2023       | 12          | 31
    pat-inés      | enc-05          | vital-signs    | 8310-5     | Body temperature       | 37.62                  | Cel         | numeric    | 2024       | 2           | 29
    ");
}

#[tokio::test]
async fn a_file_or_a_folder_plain_or_compressed() {
    let reference = with("in/observations.csv", three());
    reference.run().assert_code(0);
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(three().as_bytes()).await.unwrap();
    encoder.shutdown().await.unwrap();
    let (plain, compressed) = (Vec::from(HEADER.to_owned() + &line("a", "2023-01-27T16:17:47Z")), encoder.into_inner());
    let forms: [&[(&str, &Vec<u8>)]; 2] = [
        &[("in/observations.csv.gz", &compressed)],
        &[("in/observations/2023/a.csv", &plain), ("in/observations/all.csv.gz", &compressed)],
    ];
    for files in forms {
        let job = job();
        files.iter().for_each(|(path, content)| job.dir().write(path, content));
        job.run().assert_code(0);
        assert_eq!(days(job.dir()), days(reference.dir()), "{:?}", job.dir().files("in"));
    }
}

#[rstest]
#[case::none(1, &[], &["`observations.csv`", "a folder `observations`", "in/observations"])]
#[case::both(2, &["observations.csv", "observations/a.csv"], &["in/observations.csv` and `", "in/observations/a.csv`"])]
fn without_one_file_or_one_folder_it_says_what_it_looked_for(
    #[case] code: i32,
    #[case] files: &[&str],
    #[case] named: &[&str],
) {
    let job = job();
    files.iter().for_each(|path| job.dir().write(&format!("in/{path}"), three()));
    let finished = job.run();
    finished.assert_code(code);
    for part in named {
        assert!(finished.stderr.contains(part), "`{part}` should be named\n{finished}");
    }
}

/// What is read does not depend on how the header is written.
#[rstest]
#[case::other_order_and_case(
    "units,VALUE,type,Code,date,category,patient,encounter,description\n,,,,2023-01-27,,a,,\n",
    1
)]
#[case::with_one_more_column(&(HEADER.replace("DATE,", "DATE,NOTE,") + &line("a", "2023-01-27,x")), 1)]
#[case::without_rows(HEADER, 0)]
fn headers_may_differ(#[case] text: &str, #[case] files: usize) {
    let job = with("in/observations.csv", three());
    job.run().assert_code(0);
    job.dir().write("in/observations.csv", text);
    job.run().assert_code(0);
    assert_eq!(job.dir().files(TABLE).len(), files);
    if files > 0 {
        let expected = rows! { patient, year, month, day; "a", "2023", "1", "27" };
        assert_frame(job.dir().read_parquet(TABLE), expected.ignoring_other_columns());
    }
}

/// A run that fails says what is wrong, and what was there stays.
#[rstest]
#[case::too_few_fields("2023-01-27,b\n", &["observations.csv", "line: 6", "2 fields where 9 are expected"])]
#[case::no_time(&line("d", "noon"), &["observations.csv", "line: 6", "column: date", "noon"])]
#[case::no_such_day(&line("d", "2023-02-29T00:00:00Z"), &["line: 6", "column: date", "2023-02-29"])]
#[case::not_closed(&line("\"d", "2023-02-28"), &["observations.csv", "line: 6", "quote"])]
fn what_is_wrong_is_named_and_nothing_is_published(#[case] bad: &str, #[case] named: &[&str]) {
    let job = with("in/observations.csv", three());
    job.run().assert_code(0);
    let before = (job.dir().files("out"), days(job.dir()));

    job.dir().write("in/observations.csv", three() + bad);
    let finished = job.run();

    finished.assert_code(3);
    for part in named {
        assert!(finished.stderr.contains(part), "`{part}` should be named\n{finished}");
    }
    assert_eq!((job.dir().files("out"), days(job.dir())), before);
    assert_eq!(job.dir().hidden_files("out"), [""; 0]);
}

/// Neither cores nor the machine's time zone change what is written: one file a day, of UTC.
#[rstest]
fn one_file_for_every_day(#[values("1", "8")] threads: &str, #[values("UTC", "America/New_York")] zone: &str) {
    let job = with("in/observations/a.csv", three());
    job.dir().write("in/observations/b.csv", three() + &line("d", "") + &line("e", "2024-03-01T00:00:00Z"));
    job.again().args(["--threads", threads]).env("TZ", zone).run().assert_code(0);
    insta::allow_duplicates! { insta::assert_snapshot!(folders(job.dir()).join("\n"), @"
    year=2023/month=1/day=27
    year=2024/month=2/day=29
    year=2024/month=3/day=1
    year=__HIVE_DEFAULT_PARTITION__/month=__HIVE_DEFAULT_PARTITION__/day=__HIVE_DEFAULT_PARTITION__
    ") };
}

#[test]
fn running_again_ends_in_the_same_state() {
    let job = with("in/observations.csv", three());
    job.run().assert_code(0);
    let (before, wanted) = (job.dir().files(TABLE), days(job.dir()));
    job.run().assert_code(0);
    let after = job.dir().files(TABLE);
    assert_eq!((days(job.dir()), after.len()), (wanted, 2));
    assert!(before.iter().all(|file| !after.contains(file)), "superseded files are gone");
}

/// Killed before the commit nothing has changed; killed after, the next run ends it; in the end all is as it should be.
#[rstest]
#[case::staging("stage.file.finished", "1*off->return(kill)", false)]
#[case::before_the_commit("state.commit.before", "return(kill)", false)]
#[case::publishing("publish.file.after", "1*off->return(kill)", true)]
#[case::deleting("publish.delete.before", "return(kill)", true)]
fn killed_at_any_step_the_next_run_heals(#[case] point: &str, #[case] action: &str, #[case] committed: bool) {
    let job = with("in/observations.csv", HEADER.to_owned() + &line("z", "2025-07-01"));
    job.run().assert_code(0);
    let before = days(job.dir());
    job.dir().write("in/observations.csv", three());

    let killed = job.failing_at(point, action).run();

    assert_eq!(killed.signal(), Some(9), "{point} was not reached\n{killed}");
    if committed {
        let old = folders(job.dir()).iter().any(|folder| folder == "year=2025/month=7/day=1");
        assert!(old, "killed at {point}, what is superseded was gone before all that supersedes it was there");
    } else {
        assert_eq!(days(job.dir()), before, "killed at {point}, something was visible");
    }
    job.run().assert_code(0);
    assert_eq!(folders(job.dir()), ["year=2023/month=1/day=27", "year=2024/month=2/day=29"]);
    assert_eq!(job.dir().hidden_files("out"), [""; 0]);
}

#[test]
fn a_dry_run_touches_nothing_and_says_what_is_not_there() {
    let job = job().arg("--dry-run");
    let run = job.run();
    run.assert_code(1);
    assert!(run.stderr.contains("no file to read"), "{run}");
    assert_eq!((job.dir().files(""), job.dir().hidden_files("")), (vec![], vec![]));
}

#[rstest]
#[case::unknown(&["--sauce", "in"], "--sauce")]
#[case::malformed(&["--source", "ftp://host/lake"], "s3://my-bucket")]
fn bad_usage_ends_with_code_2(#[case] args: &[&str], #[case] named: &str) {
    let finished = JobBinary::new(env!("CARGO_BIN_EXE_observations")).args(args).run();
    finished.assert_code(2);
    assert!(finished.stderr.contains(named), "`{named}` should be named\n{finished}");
}
