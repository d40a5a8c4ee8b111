//! The binary from end to end.

use async_compression::tokio::write::GzipEncoder;
use hardtack_test_support::{JobBinary, TempLake, assert_frame, assert_frame_snapshot, rows, table};
use rstest::rstest;
use tokio::io::AsyncWriteExt;

const TABLE: &str = "out/encounters_for_symptom";
const HEADER: &str = "Id,START,STOP,PATIENT,ORGANIZATION,PROVIDER,PAYER,ENCOUNTERCLASS,CODE,DESCRIPTION,\
    BASE_ENCOUNTER_COST,TOTAL_CLAIM_COST,PAYER_COVERAGE,REASONCODE,REASONDESCRIPTION\n";
const SHUFFLED: &str = "description,REASONCODE,start,stop,patient,organization,provider,payer,encounterclass,Code,\
    base_encounter_cost,Total_Claim_Cost,payer_coverage,reasondescription,ID\n\
    Encounter for symptom,7,2023-01-27,,,,,,,,,,,,a\n";

fn job() -> JobBinary<'static> {
    JobBinary::new(env!("CARGO_BIN_EXE_encounters_for_symptom")).args(["--source", "in", "--target", "out"])
}

fn line(id: &str, start: &str) -> String {
    format!("{id},{start},,pat,org,pro,,ambulatory,1,Encounter for symptom,1.5,2.5,0.0,7,\n")
}

/// Three encounters on two days, one of them twice.
fn three() -> String {
    let [a, b, c] = [("a", "2023-01-27T16:17:47Z"), ("b", "2024-02-29T23:59:59Z"), ("c", "2023-01-27T00:00:00Z")]
        .map(|(id, start)| line(id, start));
    format!("{HEADER}{a}{b}{c}{a}")
}

/// The job in a lake of its own that has these encounters.
fn with(path: &str, content: impl AsRef<[u8]>) -> JobBinary<'static> {
    let job = job();
    job.dir().write(path, content);
    job
}

/// Which encounter is on which day.
fn days(lake: &TempLake) -> String {
    if lake.files(TABLE).is_empty() {
        return "-".to_owned();
    }
    let rows = lake.read_parquet(TABLE).df().select_columns(&["id", "year", "month", "day"]);
    table(rows.expect("columns of the table"))
}

/// The folders that have a file, once for each.
fn folders(lake: &TempLake) -> Vec<String> {
    let folder = |file: String| Some(file.strip_prefix(TABLE)?.trim_start_matches('/').rsplit_once('/')?.0.to_owned());
    lake.files(TABLE).into_iter().map(|file| folder(file).expect("a file is in a folder")).collect()
}

#[test]
fn takes_the_fixtures_without_any_argument() {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_encounters_for_symptom"));
    job.dir().copy("fixtures/synthea", concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/synthea"));
    job.run().assert_code(0);
    assert_frame_snapshot!(job.dir().read_parquet("target/lake/encounters_for_symptom"), @r#"
    id: Utf8 | stop: Timestamp(µs) | patient: Utf8 | organization: Utf8 | provider: Utf8 | payer: Utf8 | encounterclass: Utf8 | code: Int64 | description: Utf8                 | base_encounter_cost: Float64 | total_claim_cost: Float64 | payer_coverage: Float64 | reasoncode: Int64 | reasondescription: Utf8                     | year: Utf8 | month: Utf8 | day: Utf8
    enc-01   | 2023-01-27T16:32:47 | pat-ada       | org-1              | pro-1          | pay-1       | ambulatory           | 185345009   | Encounter for symptom             | 77.49                        | 3798.09                   | 0.0                     | 195662009         | Acute viral pharyngitis (disorder)          | 2023       | 1           | 27
    enc-02   | 2023-01-27T18:15:00 | pat-ben       | org-1              | pro-2          | pay-1       | ambulatory           | 185345009   | Encounter for symptom (procedure) | 77.49                        | 77.49                     | 16.62                   | 444814009         | "Viral sinusitis, \"the second this year\"" | 2023       | 1           | 27
    enc-05   | 2024-03-01T00:14:59 | pat-inés      | org-1              | pro-1          | null        | ambulatory           | 185345009   | Encounter for symptom             | 77.49                        | 97.49                     | 0.0                     | 10509002          | Acute bronchitis (disorder)                 | 2024       | 2           | 29
    enc-07   | null                | pat-dov       | org-3              | pro-4          | pay-2       | ambulatory           | 185345009   | Encounter for symptom             | 77.49                        | 77.49                     | 77.49                   | 36971009          | Sinusitis (disorder)                        | null       | null        | null
    "#);
}

#[tokio::test]
async fn a_file_or_a_folder_plain_or_compressed() {
    let reference = with("in/encounters.csv", three());
    reference.run().assert_code(0);
    insta::assert_snapshot!(days(reference.dir()), @"
    id: Utf8 | year: Utf8 | month: Utf8 | day: Utf8
    a        | 2023       | 1           | 27
    b        | 2024       | 2           | 29
    c        | 2023       | 1           | 27
    ");
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(three().as_bytes()).await.unwrap();
    encoder.shutdown().await.unwrap();
    let (plain, compressed) = (Vec::from(HEADER.to_owned() + &line("a", "2023-01-27T16:17:47Z")), encoder.into_inner());
    let forms: [&[(&str, &Vec<u8>)]; 3] = [
        &[("in/encounters.csv.gz", &compressed)],
        &[("in/encounters/2023/a.csv", &plain), ("in/encounters/all.csv.gz", &compressed)],
        // What is not CSV is not ours: a table of another tool beside its source.
        &[("in/encounters.csv.gz", &compressed), ("in/encounters/part-0.parquet", &plain)],
    ];
    for files in forms {
        let job = job();
        files.iter().for_each(|(path, content)| job.dir().write(path, content));
        job.run().assert_code(0);
        assert_eq!(days(job.dir()), days(reference.dir()), "{:?}", job.dir().files("in"));
    }
}

#[rstest]
#[case::none(1, &[], &["`encounters.csv`", "a folder `encounters`", "in/encounters"])]
#[case::others(1, &["encounters.json", "encounters_2.csv", "encounters/notes.txt"], &["`encounters.csv`", "notes.txt"])]
#[case::both(2, &["encounters.csv", "encounters/a.csv"], &["in/encounters.csv` and `", "in/encounters/a.csv`"])]
#[case::two_files(2, &["encounters.csv", "encounters.csv.gz"], &["encounters.csv` and `", "encounters.csv.gz`"])]
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
#[case::other_order_and_case(SHUFFLED, 1)]
#[case::with_one_more_column(&(HEADER.replace("Id,", "Id,NOTE,") + &line("a,x", "2023-01-27")), 1)]
#[case::with_crlf(&format!("\u{feff}{HEADER}{}", line("a", "2023-01-27")).replace('\n', "\r\n"), 1)]
#[case::without_rows(HEADER, 0)]
fn headers_may_differ(#[case] text: &str, #[case] files: usize) {
    let job = with("in/encounters.csv", three());
    job.run().assert_code(0);
    job.dir().write("in/encounters.csv", text);
    job.run().assert_code(0);
    assert_eq!(job.dir().files(TABLE).len(), files);
    if files > 0 {
        let expected = rows! { id, year, month, day; "a", "2023", "1", "27" };
        assert_frame(job.dir().read_parquet(TABLE), expected.ignoring_other_columns());
    }
}

/// A run that fails says what is wrong, and what was there stays.
#[rstest]
#[case::too_few_fields("a,b\n", &["encounters.csv", "line: 6", "2 fields where 15 are expected"])]
#[case::no_time(&line("d", "noon"), &["encounters.csv", "line: 6", "column: start", "noon"])]
#[case::no_such_day(&line("d", "2023-02-29T00:00:00Z"), &["line: 6", "column: start", "2023-02-29"])]
#[case::seconds(&line("d", "1700000000"), &["encounters.csv", "line: 6", "column: start", "1700000000", "to_timestamp_millis"])]
#[case::milliseconds(&line("d", "1700000000000"), &["line: 6", "column: start", "1700000000000"])]
#[case::a_number_like_a_day(&line("d", "20240131"), &["line: 6", "column: start", "20240131"])]
#[case::infinite_cost(&line("d", "").replace("1.5", "1e400"), &["line: 6", "column: base_encounter_cost", "1e400"])]
#[case::no_cost(&line("d", "").replace("1.5", "1;5"), &["line: 6", "column: base_encounter_cost", "1;5"])]
#[case::not_closed(&line("\"d", "2023-02-28"), &["encounters.csv", "line: 6", "quote"])]
fn what_is_wrong_is_named_and_nothing_is_published(#[case] bad: &str, #[case] named: &[&str]) {
    let job = with("in/encounters.csv", three());
    job.run().assert_code(0);
    let before = (job.dir().files("out"), days(job.dir()));

    job.dir().write("in/encounters.csv", three() + bad);
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
fn one_file_for_every_day(#[values("1", "2", "8")] threads: &str, #[values("UTC", "America/New_York")] zone: &str) {
    let job = with("in/encounters/a.csv", three());
    job.dir().write("in/encounters/b.csv", three() + &line("d", "") + &line("e", "2024-03-01T00:00:00Z"));
    job.again().args(["--threads", threads]).env("TZ", zone).run().assert_code(0);
    insta::allow_duplicates! { insta::assert_snapshot!(folders(job.dir()).join("\n"), @"
    year=2023/month=1/day=27
    year=2024/month=2/day=29
    year=2024/month=3/day=1
    year=__HIVE_DEFAULT_PARTITION__/month=__HIVE_DEFAULT_PARTITION__/day=__HIVE_DEFAULT_PARTITION__
    ") };
}

#[test]
fn a_file_without_a_column_is_refused() {
    let finished = with("in/encounters.csv", three().replace("START", "BEGIN")).run();
    finished.assert_code(3);
    assert!(finished.stderr.contains("the file has no column `start`"), "{finished}");
}

#[test]
fn running_again_ends_in_the_same_state() {
    let job = with("in/encounters.csv", three());
    job.run().assert_code(0);
    let (before, wanted) = (job.dir().files(TABLE), days(job.dir()));
    job.run().assert_code(0);
    let after = job.dir().files(TABLE);
    assert_eq!((days(job.dir()), after.len()), (wanted, 2));
    assert!(before.iter().all(|file| !after.contains(file)), "superseded files are gone");
}

#[test]
fn what_was_delivered_last_is_what_is_there() {
    let job = with("in/encounters.csv", three());
    job.run().assert_code(0);
    job.dir().write("in/encounters.csv", HEADER.to_owned() + &line("z", "2025-07-01"));
    job.run().assert_code(0);
    assert_eq!(folders(job.dir()), ["year=2025/month=7/day=1"]);
}

/// Killed before the commit nothing has changed; killed after, the next run ends it; in the end all is as it should be.
#[rstest]
#[case::staging("stage.file.created", "return(kill)", false)]
#[case::staging_the_second_file("stage.file.finished", "1*off->return(kill)", false)]
#[case::before_the_commit("state.commit.before", "return(kill)", false)]
#[case::after_the_commit("state.commit.after", "return(kill)", true)]
#[case::publishing_the_second_file("publish.file.after", "1*off->return(kill)", true)]
#[case::deleting("publish.delete.before", "return(kill)", true)]
fn killed_at_any_step_the_next_run_heals(#[case] point: &str, #[case] action: &str, #[case] committed: bool) {
    let job = with("in/encounters.csv", HEADER.to_owned() + &line("z", "2025-07-01"));
    job.run().assert_code(0);
    let before = days(job.dir());
    job.dir().write("in/encounters.csv", three());

    let killed = job.failing_at(point, action).run();

    assert_eq!(killed.signal(), Some(9), "{point} was not reached\n{killed}");
    assert!(committed || days(job.dir()) == before, "killed at {point}, something was visible");
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
    let finished = JobBinary::new(env!("CARGO_BIN_EXE_encounters_for_symptom")).args(args).run();
    finished.assert_code(2);
    assert!(finished.stderr.contains(named), "`{named}` should be named\n{finished}");
}
