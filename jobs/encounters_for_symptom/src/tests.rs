use std::sync::Arc;

use hardtack_test_support::cells::*;
use hardtack_test_support::{
    Frame, TempLake, TestContext, assert_frame, assert_frame_snapshot, load, optimized_plan, rows,
};
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn args() -> Args {
    Args { source: "s3://in".into(), target: "s3://out".into() }
}

fn args_in(lake: &TempLake) -> Args {
    Args { source: lake.location().into(), ..args() }
}

fn schema() -> SchemaRef {
    schema! {
        id: string, start: timestamp, stop: timestamp, patient: string, organization: string, provider: string,
        payer: string, encounterclass: string, code: bigint, description: string, base_encounter_cost: double,
        total_claim_cost: double, payer_coverage: double, reasoncode: bigint, reasondescription: string,
    }
}

/// The written columns: those that are read, without the start, then its day.
fn written() -> SchemaRef {
    let read = schema();
    let kept = read.fields().iter().filter(|f| f.name() != "start").cloned();
    let day = ["year", "month", "day"].map(|part| Arc::new(Field::new(part, DataType::Int32, true)));
    Arc::new(Schema::new(kept.chain(day).collect::<Vec<_>>()))
}

/// Runs the job on these rows.
async fn saved(encounters: impl Into<Frame>) -> Frame {
    let test = TestContext::new(args()).given("encounters", encounters.into());
    main(test.ctx()).await.unwrap();
    assert_eq!(test.calls(), ["load encounters", "save encounters_for_symptom"]);
    test.saved("encounters_for_symptom")
}

#[test]
fn encounters_are_a_file_or_a_folder_of_files() {
    let expected = CsvFiles::new("encounters", "s3://in/encounters").file_or_folder();
    assert_eq!(encounters(&args()), Dataset::new(expected.with_schema(schema()), None));
}

#[test]
fn the_lake_has_a_folder_for_every_day_and_is_replaced() {
    assert_eq!(
        encounters_for_symptom(&args()),
        Dataset::new(ParquetDataset::new("encounters_for_symptom", "s3://out/encounters_for_symptom"), None)
            .overwrite()
            .partition_by(["year", "month", "day"])
            .with_compression(Compression::Snappy)
    );
}

#[tokio::test]
async fn different_encounters_for_a_symptom_with_a_reason_are_kept() {
    let encounters = rows! {
        id,  start,                 description,                         reasoncode, total_claim_cost;
        "a", "2023-01-27T16:17:47", "Encounter for symptom",             195662009,  3798.09;
        "b", "2023-01-27T16:17:47", "Encounter for symptom (procedure)", 444814009,  77.49;
        "a", "2023-01-27T16:17:47", "Encounter for symptom",             195662009,  3798.09;
        "a", "2023-01-27T16:17:47", "Encounter for symptom",             195662009,  3798.1;
        "c", "2023-01-28T00:00:00", "Encounter for symptom",             null,       77.49;
        "d", "2023-01-28T00:00:00", "Encounter for problem",             195662009,  77.49;
    };
    assert_frame(
        saved(encounters.in_schema(&schema())).await,
        rows! {
            id,  description,                         reasoncode, total_claim_cost, year, month, day;
            "a", "Encounter for symptom",             195662009,  3798.09,          2023, 1,     27;
            "a", "Encounter for symptom",             195662009,  3798.1,           2023, 1,     27;
            "b", "Encounter for symptom (procedure)", 444814009,  77.49,            2023, 1,     27;
        }
        .in_schema(&written()),
    );
}

#[rstest]
#[case::as_it_is("Encounter for symptom", Some(1), 1)]
#[case::inside("An Encounter for symptom (procedure)", Some(1), 1)]
#[case::case_counts("encounter for symptom", Some(1), 0)]
#[case::another("Encounter for check up (procedure)", Some(1), 0)]
#[case::no_pattern("Encounter%for_symptom", Some(1), 0)]
#[case::no_description(None, Some(1), 0)]
#[case::no_reason("Encounter for symptom", None, 0)]
#[case::zero_is_a_reason("Encounter for symptom", Some(0), 1)]
#[tokio::test]
async fn an_encounter_is_kept_or_not(
    #[case] description: impl Into<Option<&'static str>>,
    #[case] reason: Option<i64>,
    #[case] kept: usize,
) {
    let encounter = rows! { description: Utf8, reasoncode: Int64; description.into(), reason };
    assert_eq!(saved(encounter.in_schema(&schema())).await.num_rows(), kept);
}

#[tokio::test]
async fn the_day_is_that_of_utc() {
    let texts = [
        "2024-02-29T23:59:59Z",
        "2024-03-01T00:30:00+01:00",
        // An hour that Berlin's clocks skip, and one that they show twice.
        "2023-03-26T02:30:00+01:00",
        "2023-10-29T02:30:00+02:00",
        "2023-10-29T02:30:00+01:00",
        "2023-12-31T20:00:00-05:00",
        "1899-12-31",
        "",
    ];
    let lake = TempLake::new();
    let lines = texts.map(|start| format!("{start},Encounter for symptom,1,,,,,,,,,,,,{start}"));
    let header = "start,description,reasoncode,id,stop,patient,organization,provider,payer,encounterclass,code,\
        base_encounter_cost,total_claim_cost,payer_coverage,reasondescription";
    lake.write("encounters.csv", format!("{header}\n{}\n", lines.join("\n")));
    let delivered = load(encounters(&args_in(&lake))).await.unwrap();
    let days = saved(delivered).await.df().select_columns(&["reasondescription", "year", "month", "day"]).unwrap();
    assert_frame_snapshot!(days, @"
    reasondescription: Utf8   | year: Int32 | month: Int32 | day: Int32
    null                      | null        | null         | null
    1899-12-31                | 1899        | 12           | 31
    2023-03-26T02:30:00+01:00 | 2023        | 3            | 26
    2023-10-29T02:30:00+01:00 | 2023        | 10           | 29
    2023-10-29T02:30:00+02:00 | 2023        | 10           | 29
    2023-12-31T20:00:00-05:00 | 2024        | 1            | 1
    2024-02-29T23:59:59Z      | 2024        | 2            | 29
    2024-03-01T00:30:00+01:00 | 2024        | 2            | 29
    ");
}

#[tokio::test]
async fn rows_are_filtered_before_they_are_compared() {
    let test = TestContext::new(args()).given("encounters", Frame::empty(schema()));
    main(test.ctx()).await.unwrap();
    assert_eq!(test.sink("encounters_for_symptom"), format!("{:?}", encounters_for_symptom(test.args())));
    assert_snapshot!(optimized_plan(&test.saved_plan("encounters_for_symptom")).unwrap(), @r#"
    Projection: encounters.id, encounters.stop, encounters.patient, encounters.organization, encounters.provider, encounters.payer, encounters.encounterclass, encounters.code, encounters.description, encounters.base_encounter_cost, encounters.total_claim_cost, encounters.payer_coverage, encounters.reasoncode, encounters.reasondescription, date_part(Utf8("year"), encounters.start) AS year, date_part(Utf8("month"), encounters.start) AS month, date_part(Utf8("day"), encounters.start) AS day
      Aggregate: groupBy=[[encounters.id, encounters.start, encounters.stop, encounters.patient, encounters.organization, encounters.provider, encounters.payer, encounters.encounterclass, encounters.code, encounters.description, encounters.base_encounter_cost, encounters.total_claim_cost, encounters.payer_coverage, encounters.reasoncode, encounters.reasondescription]], aggr=[[]]
        Projection: encounters.id, encounters.start, encounters.stop, encounters.patient, encounters.organization, encounters.provider, encounters.payer, encounters.encounterclass, encounters.code, encounters.description, canonical(encounters.base_encounter_cost) AS base_encounter_cost, canonical(encounters.total_claim_cost) AS total_claim_cost, canonical(encounters.payer_coverage) AS payer_coverage, encounters.reasoncode, encounters.reasondescription
          Filter: encounters.reasoncode IS NOT NULL AND contains(encounters.description, Utf8("Encounter for symptom"))
            TableScan: encounters projection=[id, start, stop, patient, organization, provider, payer, encounterclass, code, description, base_encounter_cost, total_claim_cost, payer_coverage, reasoncode, reasondescription]
    "#);
    assert_eq!(test.saved("encounters_for_symptom").columns(), Frame::empty(written()).columns());
}

#[tokio::test]
async fn nothing_is_saved_if_the_encounters_cannot_be_loaded() {
    let test = TestContext::new(args()).given("encounters", Error::not_found("there is no file"));
    assert_eq!(main(test.ctx()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(test.calls(), ["load encounters"]);
}

const DESCRIPTIONS: Cells = &[
    ("Encounter for symptom", r#""Encounter for symptom""#),
    ("\"Encounter for symptom, \"\"acute\"\"\"", r#""Encounter for symptom, \"acute\"""#),
    ("Encounter for problem", r#""Encounter for problem""#),
    ("", "null"),
];
const COLUMNS: [CsvColumn; 15] = [
    ("Id", TEXTS),
    ("START", MOMENTS),
    ("STOP", MOMENTS),
    ("PATIENT", TEXTS),
    ("ORGANIZATION", TEXTS),
    ("PROVIDER", TEXTS),
    ("PAYER", TEXTS),
    ("ENCOUNTERCLASS", TEXTS),
    ("CODE", INTEGERS),
    ("DESCRIPTION", DESCRIPTIONS),
    ("BASE_ENCOUNTER_COST", NUMBERS),
    ("TOTAL_CLAIM_COST", NUMBERS),
    ("PAYER_COVERAGE", NUMBERS),
    ("REASONCODE", INTEGERS),
    ("REASONDESCRIPTION", TEXTS),
];

const START: usize = 1;
const DESCRIPTION: usize = 9;
const REASONCODE: usize = 13;

/// Rows, most of them encounters for a symptom with a reason.
fn encounter_rows() -> impl Strategy<Value = Vec<CsvRow>> {
    similar_rows(any_row(COLUMNS.len()).prop_map(|mut row| {
        row[DESCRIPTION] %= 2;
        row[REASONCODE] = row[REASONCODE].max(1);
        row
    }))
}

#[test]
fn the_job_does_what_its_model_says() {
    let is_wanted =
        |cells: &[&str]| cells[DESCRIPTION].contains("Encounter for symptom") && cells[REASONCODE] != "null";
    let model = |rows: &[CsvRow]| distinct_by_day(&COLUMNS, rows, START, is_wanted, &written());
    let job = async |lake: &TempLake| saved(load(encounters(&args_in(lake))).await.unwrap()).await;
    assert_agrees_with_model("encounters", &COLUMNS, encounter_rows(), job, model);
}
