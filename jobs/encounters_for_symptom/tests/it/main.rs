//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use hardtack::catalog::CatalogOf;
use hardtack::runtime::{RuntimeArgs, open_context};
use hardtack::tables::Table;
use hardtack_test_support::{Frame, JobContract, assert_frame_snapshot, csv_contract, job_contract, table};
use rstest::rstest;

const HEADER: &str = "Id,START,STOP,PATIENT,ORGANIZATION,PROVIDER,PAYER,ENCOUNTERCLASS,CODE,DESCRIPTION,\
    BASE_ENCOUNTER_COST,TOTAL_CLAIM_COST,PAYER_COVERAGE,REASONCODE,REASONDESCRIPTION\n";

fn line(id: &str, start: &str) -> String {
    format!("{id},{start},,pat,org,pro,,ambulatory,1,Encounter for symptom,1.5,2.5,0.0,7,\n")
}

/// Encounters on three days of UTC, and one without a start. One is duplicated.
fn delivered() -> String {
    let times = ["2023-01-27T16:17:47Z", "2024-02-29T23:59:59Z", "2023-01-27T00:00:00Z", "2024-03-01T00:00:00Z", ""];
    let lines = ["a", "b", "c", "d", "e"].into_iter().zip(times).map(|(id, start)| line(id, start));
    HEADER.to_owned() + &lines.collect::<String>() + &line("a", times[0])
}

fn contract() -> JobContract {
    JobContract::new(env!("CARGO_BIN_EXE_encounters_for_symptom"), "encounters_for_symptom")
        .earlier("encounters.csv", HEADER.to_owned() + &line("z", "2025-07-01"))
        .delivered("encounters.csv", delivered())
}

job_contract!(contract());
csv_contract!(contract(), encounters);

#[test]
fn takes_the_fixtures_without_any_argument() {
    let job = contract().job_after_the_fixtures("fixtures/synthea");
    assert_frame_snapshot!(job.dir().read_parquet("target/lake/encounters_for_symptom"), @r#"
    id: Utf8 | stop: Timestamp(µs) | patient: Utf8 | organization: Utf8 | provider: Utf8 | payer: Utf8 | encounterclass: Utf8 | code: Int64 | description: Utf8                 | base_encounter_cost: Float64 | total_claim_cost: Float64 | payer_coverage: Float64 | reasoncode: Int64 | reasondescription: Utf8                     | year: Utf8 | month: Utf8 | day: Utf8
    enc-01   | 2023-01-27T16:32:47 | pat-ada       | org-1              | pro-1          | pay-1       | ambulatory           | 185345009   | Encounter for symptom             | 77.49                        | 3798.09                   | 0.0                     | 195662009         | Acute viral pharyngitis (disorder)          | 2023       | 1           | 27
    enc-02   | 2023-01-27T18:15:00 | pat-ben       | org-1              | pro-2          | pay-1       | ambulatory           | 185345009   | Encounter for symptom (procedure) | 77.49                        | 77.49                     | 16.62                   | 444814009         | "Viral sinusitis, \"the second this year\"" | 2023       | 1           | 27
    enc-05   | 2024-03-01T00:14:59 | pat-inés      | org-1              | pro-1          | null        | ambulatory           | 185345009   | Encounter for symptom             | 77.49                        | 97.49                     | 0.0                     | 10509002          | Acute bronchitis (disorder)                 | 2024       | 2           | 29
    enc-07   | null                | pat-dov       | org-3              | pro-4          | pay-2       | ambulatory           | 185345009   | Encounter for symptom             | 77.49                        | 77.49                     | 77.49                   | 36971009          | Sinusitis (disorder)                        | null       | null        | null
    "#);
}

/// A failing run reports the error, and existing data stays.
#[rstest]
#[case::no_time(&line("d", "noon"), &["column: start", "noon"])]
#[case::no_such_day(&line("d", "2023-02-29T00:00:00Z"), &["column: start", "2023-02-29"])]
#[case::seconds(&line("d", "1700000000"), &["column: start", "1700000000", "to_timestamp_millis"])]
#[case::milliseconds(&line("d", "1700000000000"), &["column: start", "1700000000000"])]
#[case::a_number_like_a_day(&line("d", "20240131"), &["column: start", "20240131"])]
#[case::infinite_cost(&line("d", "").replace("1.5", "1e400"), &["column: base_encounter_cost", "1e400"])]
#[case::no_cost(&line("d", "").replace("1.5", "1;5"), &["column: base_encounter_cost", "1;5"])]
fn a_malformed_value_is_refused(#[case] bad: &str, #[case] named: &[&str]) {
    let named = [&["encounters.csv", "line: 8"], named].concat();
    contract().refuses("encounters.csv", delivered() + bad, 3, &named);
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

/// With a database the same rows are a table of the catalog, partitioned in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_has_the_rows_that_files_have() {
    let job = contract().job_with_delivery().args(["--target-database", "clinic"]);
    let options = RuntimeArgs::with_state(job.dir().at(".hardtack"));
    let ctx = open_context("reader", &options).unwrap();
    for _ in 0..2 {
        job.run().assert_code(0);
        let rows = ctx.load(Table::named("clinic", "encounters_for_symptom")).await.unwrap();
        let days = Frame::collect(rows.select_columns(&["id", "year", "month", "day"]).unwrap()).await.unwrap();
        insta::allow_duplicates! { insta::assert_snapshot!(table(days), @"
        id: Utf8 | year: Int32 | month: Int32 | day: Int32
        a        | 2023        | 1            | 27
        b        | 2024        | 2            | 29
        c        | 2023        | 1            | 27
        d        | 2024        | 3            | 1
        e        | null        | null         | null
        ") };
    }
    let described = ctx.catalog().await.unwrap().get_table("clinic", "encounters_for_symptom").await.unwrap();
    let keys: Vec<_> = described.partition_keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(keys, ["year", "month", "day"]);
}
