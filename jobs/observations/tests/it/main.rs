//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod crashes;

use hardtack_test_support::{JobContract, assert_frame_snapshot, csv_contract, job_contract};
use rstest::rstest;

const HEADER: &str = "DATE,PATIENT,ENCOUNTER,CATEGORY,CODE,DESCRIPTION,VALUE,UNITS,TYPE\n";

fn line(patient: &str, date: &str) -> String {
    format!("{date},{patient},enc,vital-signs,8302-2,Body Height,127.9,cm,numeric\n")
}

/// Observations on three days of UTC, and one without a date. One is duplicated.
fn delivered() -> String {
    let times = ["2023-01-27T16:17:47Z", "2024-02-29T23:59:59Z", "2023-01-27T00:00:00Z", "2024-03-01T00:00:00Z", ""];
    let lines = ["a", "b", "c", "d", "e"].into_iter().zip(times).map(|(patient, date)| line(patient, date));
    HEADER.to_owned() + &lines.collect::<String>() + &line("a", times[0])
}

fn contract() -> JobContract {
    JobContract::new(env!("CARGO_BIN_EXE_observations"), "observations")
        .earlier("observations.csv", HEADER.to_owned() + &line("z", "2025-07-01"))
        .delivered("observations.csv", delivered())
}

job_contract!(contract());
csv_contract!(contract(), observations);

#[test]
fn takes_the_fixtures_without_any_argument() {
    let job = contract().job_after_the_fixtures("fixtures/synthea");
    assert_frame_snapshot!(job.dir().read_parquet("target/lake/observations"), @"
    patient: Utf8 | encounter: Utf8 | category: Utf8 | code: Utf8 | description: Utf8      | value: Utf8            | units: Utf8 | type: Utf8 | year: Utf8 | month: Utf8 | day: Utf8
    pat-ada       | enc-03          | vital-signs    | 29463-7    | Body Weight            | 27.8                   | kg          | numeric    | 2023       | 10          | 10
    pat-ada       | enc-03          | vital-signs    | 8302-2     | Body Height            | 127.9                  | cm          | numeric    | 2023       | 10          | 10
    pat-dov       | null            | null           | QALY       | QALY                   | 41.5                   | a           | numeric    | null       | null        | null
    pat-inés      | enc-04          | survey         | 72166-2    | Tobacco smoking status | Never smoked, they say | null        | text       | 2023       | 12          | 31
    pat-inés      | enc-05          | vital-signs    | 8310-5     | Body temperature       | 37.62                  | Cel         | numeric    | 2024       | 2           | 29
    ");
}

/// A failing run reports the error, and existing data stays.
#[rstest]
#[case::no_time("noon")]
#[case::no_such_day("2023-02-29T00:00:00Z")]
fn a_malformed_date_is_refused(#[case] date: &str) {
    let named = ["observations.csv", "line: 8", "column: date", date];
    contract().refuses("observations.csv", delivered() + &line("d", date), 3, &named);
}

#[test]
fn there_is_one_file_for_every_day() {
    contract().has_one_file_in_each_of(&[
        "year=2023/month=1/day=27",
        "year=2024/month=2/day=29",
        "year=2024/month=3/day=1",
        "year=__HIVE_DEFAULT_PARTITION__/month=__HIVE_DEFAULT_PARTITION__/day=__HIVE_DEFAULT_PARTITION__",
    ]);
}

/// A run that is killed while publishing has not removed superseded files: readers see the old rows as well.
#[test]
fn what_is_superseded_goes_last() {
    let job = contract().job();
    job.dir().write("in/observations.csv", HEADER.to_owned() + &line("z", "2025-07-01"));
    job.run().assert_code(0);
    job.dir().write("in/observations.csv", delivered());
    let killed = job.failing_at("publish.file.after", "1*off->return(kill)").run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    let files = job.dir().files("out");
    assert!(files.iter().any(|file| file.contains("year=2025")), "{files:?}");
}
