//! The binary from end to end.

use hardtack_test_support::{JobContract, assert_frame_snapshot, csv_contract, job_contract};
use rstest::rstest;

const CONDITIONS: &str = "START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION\n\
    2024-02-29,,ada,e1,40055000,Chronic sinusitis (disorder)\n\
    2024-02-29,,ada,e1,40055000,Chronic sinusitis (disorder)\n\
    2023-01-27,2023-02-20,ada,e2,444814009,\"Viral sinusitis, acute (disorder)\"\n\
    2023-01-27,2023-02-09,ada,e3,195662009,Acute viral pharyngitis (disorder)\n";
const PATIENTS: &str = "Id,BIRTHDATE,DEATHDATE,SSN,DRIVERS,PASSPORT,PREFIX,FIRST,LAST,SUFFIX,MAIDEN,MARITAL,RACE,\
    ETHNICITY,GENDER,BIRTHPLACE,ADDRESS,CITY,STATE,COUNTY,ZIP,LAT,LON,HEALTHCARE_EXPENSES,HEALTHCARE_COVERAGE\n\
    ada,1996-02-29,,999-10-0001,,,,Ada,Quill,,,M,white,nonhispanic,F,,,Boston,,,02118,42.36,-71.06,1200.5,300.0\n";

fn contract() -> JobContract {
    JobContract::new(env!("CARGO_BIN_EXE_sinusitis_study"), "sinusitis_study")
        .earlier("conditions.csv", "START,STOP,PATIENT,ENCOUNTER,CODE,DESCRIPTION\n,,ada,e0,,sinusitis\n")
        .earlier("patients.csv", PATIENTS)
        .delivered("conditions.csv", CONDITIONS)
        .delivered("patients.csv", PATIENTS)
}

job_contract!(contract());
csv_contract!(contract(), conditions);
csv_contract!(contract(), patients);

#[test]
fn takes_the_fixtures_without_any_argument() {
    let job = contract().job_after_the_fixtures("fixtures/synthea");
    assert_frame_snapshot!(job.dir().read_parquet("target/lake/sinusitis_study"), @"
    start: Date32 | stop: Date32 | patient: Utf8 | encounter: Utf8 | code: Int64 | description: Utf8                        | birthdate: Date32 | marital: Utf8 | race: Utf8 | ethnicity: Utf8 | gender: Utf8 | condition_age: Int32
    2023-01-27    | 2023-02-20   | pat-ben       | enc-02          | 444814009   | Viral sinusitis (disorder)               | 1987-03-14        | S             | black      | nonhispanic     | M            | 13103
    2024-02-29    | null         | pat-ada       | enc-05          | 40055000    | Chronic sinusitis, both sides (disorder) | 1996-02-29        | M             | white      | nonhispanic     | F            | 10227
    ");
}

#[test]
fn the_study_is_one_file_with_each_diagnosis_once() {
    let job = contract().job_with_delivery();
    job.run().assert_code(0);
    assert_eq!(job.dir().files("out/sinusitis_study").len(), 1);
    let study = job.dir().read_parquet("out/sinusitis_study").df();
    assert_frame_snapshot!(study.select_columns(&["encounter", "stop", "condition_age"]).expect("its columns"), @"
    encounter: Utf8 | stop: Date32 | condition_age: Int32
    e1              | null         | 10227
    e2              | 2023-02-20   | 9829
    ");
}

/// A failing run reports the error, and existing data stays, even if the study does not use the column.
#[rstest]
#[case::no_such_day("conditions.csv", "2023-02-29,,ada,,1,x\n", &["line: 6", "column: start", "2023-02-29"])]
#[case::no_code("conditions.csv", ",,ada,,one,x\n", &["line: 6", "column: code", "one"])]
#[case::no_birth("patients.csv", "eve,1996-02-30,,,,,,,,,,,,,,,,,,,,,,,\n", &["line: 3", "birthdate"])]
#[case::unused_column("patients.csv", "eve,,,,,,,,,,,,,,,,,,,,,north,,,\n", &["line: 3", "column: lat", "north"])]
fn a_malformed_value_is_refused(#[case] file: &str, #[case] bad: &str, #[case] named: &[&str]) {
    let good = if file == "patients.csv" { PATIENTS } else { CONDITIONS };
    contract().refuses(file, good.to_owned() + bad, 3, &[&[file], named].concat());
}
