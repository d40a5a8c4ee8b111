//! The binary from end to end.

use async_compression::tokio::write::GzipEncoder;
use hardtack_test_support::{JobBinary, TempLake, assert_frame_snapshot, table};
use rstest::rstest;
use tokio::io::AsyncWriteExt;

const TABLE: &str = "out/sinusitis_study";
const CONDITIONS: &str = "START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION\n\
    2024-02-29,,ada,e1,40055000,Chronic sinusitis (disorder)\n\
    2024-02-29,,ada,e1,40055000,Chronic sinusitis (disorder)\n\
    2023-01-27,2023-02-20,ada,e2,444814009,\"Viral sinusitis, acute (disorder)\"\n\
    2023-01-27,2023-02-09,ada,e3,195662009,Acute viral pharyngitis (disorder)\n";
const PATIENTS: &str = "Id,BIRTHDATE,DEATHDATE,SSN,DRIVERS,PASSPORT,PREFIX,FIRST,LAST,SUFFIX,MAIDEN,MARITAL,RACE,\
    ETHNICITY,GENDER,BIRTHPLACE,ADDRESS,CITY,STATE,COUNTY,ZIP,LAT,LON,HEALTHCARE_EXPENSES,HEALTHCARE_COVERAGE\n\
    ada,1996-02-29,,999-10-0001,,,,Ada,Quill,,,M,white,nonhispanic,F,,,Boston,,,02118,42.36,-71.06,1200.5,300.0\n";

fn job() -> JobBinary<'static> {
    JobBinary::new(env!("CARGO_BIN_EXE_sinusitis_study")).args(["--source", "in", "--target", "out"])
}

/// The job in a lake of its own that has these rows.
fn with(conditions: &str, patients: &str) -> JobBinary<'static> {
    let job = job();
    job.dir().write("in/conditions.csv", conditions);
    job.dir().write("in/patients.csv", patients);
    job
}

/// The study as a reader sees it, in short.
fn study(lake: &TempLake) -> String {
    if lake.files(TABLE).is_empty() {
        return "-".to_owned();
    }
    let rows = lake.read_parquet(TABLE).df().select_columns(&["encounter", "stop", "condition_age"]);
    table(rows.expect("columns of the table"))
}

#[test]
fn takes_the_fixtures_without_any_argument() {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_sinusitis_study"));
    job.dir().copy("fixtures/synthea", concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/synthea"));
    job.run().assert_code(0);
    assert_frame_snapshot!(job.dir().read_parquet("target/lake/sinusitis_study"), @"
    start: Date32 | stop: Date32 | patient: Utf8 | encounter: Utf8 | code: Int64 | description: Utf8                        | birthdate: Date32 | marital: Utf8 | race: Utf8 | ethnicity: Utf8 | gender: Utf8 | condition_age: Int32
    2023-01-27    | 2023-02-20   | pat-ben       | enc-02          | 444814009   | Viral sinusitis (disorder)               | 1987-03-14        | S             | black      | nonhispanic     | M            | 13103
    2024-02-29    | null         | pat-ada       | enc-05          | 40055000    | Chronic sinusitis, both sides (disorder) | 1996-02-29        | M             | white      | nonhispanic     | F            | 10227
    ");
}

#[tokio::test]
async fn files_or_folders_plain_or_compressed() {
    let reference = with(CONDITIONS, PATIENTS);
    reference.run().assert_code(0);
    insta::assert_snapshot!(study(reference.dir()), @"
    encounter: Utf8 | stop: Date32 | condition_age: Int32
    e1              | null         | 10227
    e2              | 2023-02-20   | 9829
    ");
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(PATIENTS.as_bytes()).await.unwrap();
    encoder.shutdown().await.unwrap();
    for patients in ["in/patients.csv.gz", "in/patients/2024/all.csv.gz"] {
        let job = job();
        job.dir().write("in/conditions/a.csv", CONDITIONS);
        job.dir().write("in/conditions/again/b.csv", CONDITIONS);
        job.dir().write(patients, encoder.get_ref());
        job.run().assert_code(0);
        assert_eq!(study(job.dir()), study(reference.dir()), "{patients}");
    }
}

#[rstest]
#[case::no_conditions(1, &["patients.csv"], &["`conditions.csv`", "a folder `conditions`", "in/conditions"])]
#[case::no_patients(1, &["conditions.csv"], &["`patients.csv`", "a folder `patients`", "in/patients"])]
#[case::both(2, &["conditions.csv", "patients.csv", "patients/a.csv"], &["patients.csv` and `", "patients/a.csv`"])]
fn without_one_file_or_one_folder_it_says_what_it_looked_for(
    #[case] code: i32,
    #[case] files: &[&str],
    #[case] named: &[&str],
) {
    let job = job();
    for path in files {
        let text = if path.starts_with("patients") { PATIENTS } else { CONDITIONS };
        job.dir().write(&format!("in/{path}"), text);
    }
    let finished = job.run();
    finished.assert_code(code);
    for part in named {
        assert!(finished.stderr.contains(part), "`{part}` should be named\n{finished}");
    }
}

/// A run that fails says what is wrong, and what was there stays.
#[rstest]
#[case::too_few_fields("2024-02-29,b\n", "", &["conditions.csv", "line: 6", "2 fields where 6 are expected"])]
#[case::no_such_day("2023-02-29,,ada,,1,x\n", "", &["conditions.csv", "line: 6", "column: start", "2023-02-29"])]
#[case::no_code(",,ada,,one,x\n", "", &["conditions.csv", "line: 6", "column: code", "one"])]
#[case::malformed_patient("", "eve,1996-02-30,,,,,,,,,,,,,,,,,,,,,,,\n", &["patients.csv", "line: 3", "birthdate"])]
#[case::unused_column("", "eve,,,,,,,,,,,,,,,,,,,,,north,,,\n", &["patients.csv", "line: 3", "column: lat", "north"])]
fn what_is_wrong_is_named_and_nothing_is_published(
    #[case] condition: &str,
    #[case] patient: &str,
    #[case] named: &[&str],
) {
    let job = with(CONDITIONS, PATIENTS);
    job.run().assert_code(0);
    let before = (job.dir().files("out"), study(job.dir()));

    job.dir().write("in/conditions.csv", CONDITIONS.to_owned() + condition);
    job.dir().write("in/patients.csv", PATIENTS.to_owned() + patient);
    let finished = job.run();

    finished.assert_code(3);
    for part in named {
        assert!(finished.stderr.contains(part), "`{part}` should be named\n{finished}");
    }
    assert_eq!((job.dir().files("out"), study(job.dir())), before);
    assert_eq!(job.dir().hidden_files("out"), [""; 0]);
}

/// However many cores, and however often: one file with the same rows.
#[rstest]
fn there_is_one_file(#[values("1", "2", "8")] threads: &str) {
    let job = with(CONDITIONS, PATIENTS).args(["--threads", threads]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        job.run().assert_code(0);
        let files = job.dir().files(TABLE);
        assert_eq!(files.len(), 1);
        assert!(!seen.contains(&files), "a run has files of its own");
        seen.push(files);
        insta::allow_duplicates! { insta::assert_snapshot!(study(job.dir()), @"
        encounter: Utf8 | stop: Date32 | condition_age: Int32
        e1              | null         | 10227
        e2              | 2023-02-20   | 9829
        ") };
    }
}

/// Headers in any order and case, more columns than are declared, no rows at all.
#[test]
fn headers_may_differ() {
    let job = with("note,description,PATIENT,start,Stop,encounter,code\nx,sinusitis,ada,2024-02-29,,e9,\n", PATIENTS);
    job.run().assert_code(0);
    insta::assert_snapshot!(study(job.dir()), @"
    encounter: Utf8 | stop: Date32 | condition_age: Int32
    e9              | null         | 10227
    ");
    job.dir().write("in/conditions.csv", CONDITIONS.lines().next().unwrap());
    job.run().assert_code(0);
    assert_eq!(job.dir().files(TABLE), [""; 0], "no rows, no file");
}

/// Killed before the commit nothing has changed; killed after, the next run ends it; in the end all is as it should be.
#[rstest]
#[case::staging("stage.file.finished", false)]
#[case::before_the_commit("state.commit.before", false)]
#[case::publishing("publish.file.after", true)]
#[case::deleting("publish.delete.before", true)]
fn killed_at_any_step_the_next_run_heals(#[case] point: &str, #[case] committed: bool) {
    let job = with("START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION\n,,ada,e0,,sinusitis\n", PATIENTS);
    job.run().assert_code(0);
    let before = study(job.dir());
    job.dir().write("in/conditions.csv", CONDITIONS);

    let killed = job.failing_at(point, "return(kill)").run();

    assert_eq!(killed.signal(), Some(9), "{point} was not reached\n{killed}");
    assert!(committed || study(job.dir()) == before, "killed at {point}, something was visible");
    job.run().assert_code(0);
    assert_eq!((study(job.dir()).lines().count(), job.dir().files(TABLE).len()), (3, 1));
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
    let finished = JobBinary::new(env!("CARGO_BIN_EXE_sinusitis_study")).args(args).run();
    finished.assert_code(2);
    assert!(finished.stderr.contains(named), "`{named}` should be named\n{finished}");
}
