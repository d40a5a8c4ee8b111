use std::sync::Arc;

use hardtack_test_support::cells::*;
use hardtack_test_support::{
    Frame, TempLake, TestContext, assert_frame, assert_frame_snapshot, load, optimized_plan, rows,
};
use insta::assert_snapshot;

use super::*;

fn args() -> Args {
    Args { source: "s3://in".into(), target: "s3://out".into() }
}

fn args_in(lake: &TempLake) -> Args {
    Args { source: lake.location().into(), ..args() }
}

fn schema() -> SchemaRef {
    schema! {
        date: timestamp, patient: string, encounter: string, category: string, code: string, description: string,
        value: string, units: string, type: string,
    }
}

/// The written columns: those that are read, without the date, then its day.
fn written() -> SchemaRef {
    let read = schema();
    let kept = read.fields().iter().filter(|f| f.name() != "date").cloned();
    let day = ["year", "month", "day"].map(|part| Arc::new(Field::new(part, DataType::Int32, true)));
    Arc::new(Schema::new(kept.chain(day).collect::<Vec<_>>()))
}

/// Runs the job on these rows.
async fn saved(observations: impl Into<Frame>) -> Frame {
    let test = TestContext::new(args()).given("observations", observations.into());
    main(test.ctx()).await.unwrap();
    assert_eq!(test.calls(), ["load observations", "save observations"]);
    test.saved("observations")
}

#[test]
fn observations_are_a_file_or_a_folder_of_files() {
    let expected = CsvFiles::new("observations", "s3://in/observations").file_or_folder();
    assert_eq!(delivered(&args()), Dataset::new(expected.with_schema(schema()), None));
}

#[test]
fn the_lake_has_a_folder_for_every_day_and_is_replaced() {
    assert_eq!(
        observations(&args()),
        Dataset::new(ParquetDataset::new("observations", "s3://out/observations"), None)
            .overwrite()
            .partition_by(["year", "month", "day"])
            .with_compression(Compression::Snappy)
    );
}

#[tokio::test]
async fn every_different_observation_is_kept_once() {
    let observations = rows! {
        date,                    patient, code,     value,   units;
        "2023-10-10T04:17:47",   "ada",   "8302-2", "127.9", "cm";
        "2023-10-10T04:17:47",   "ada",   "8302-2", "127.9", "cm";
        "2023-10-10T04:17:47",   "ada",   "8302-2", "127.9", null;
        "2023-10-10T04:17:47",   "ada",   "8302-2", null,    "127.9";
        "2023-10-10T04:17:47",   "ada",   "8302-2", null,    "127.9";
        "2024-02-29T23:59:59.5", "ada",   "8302-2", "127.9", "cm";
    };
    assert_frame_snapshot!(saved(observations.in_schema(&schema())).await, @"
    patient: Utf8 | encounter: Utf8 | category: Utf8 | code: Utf8 | description: Utf8 | value: Utf8 | units: Utf8 | type: Utf8 | year: Int32 | month: Int32 | day: Int32
    ada           | null            | null           | 8302-2     | null              | null        | 127.9       | null       | 2023        | 10           | 10
    ada           | null            | null           | 8302-2     | null              | 127.9       | null        | null       | 2023        | 10           | 10
    ada           | null            | null           | 8302-2     | null              | 127.9       | cm          | null       | 2023        | 10           | 10
    ada           | null            | null           | 8302-2     | null              | 127.9       | cm          | null       | 2024        | 2            | 29
    ");
}

/// Observations that differ only in the time of day are two observations of that day, although no written column
/// distinguishes them.
#[tokio::test]
async fn the_time_tells_observations_apart() {
    let observations = rows! { date, patient; "2023-10-10T04:00:00", "ada"; "2023-10-10T05:00:00", "ada"; null, "ada" };
    assert_frame(
        saved(observations.in_schema(&schema()).in_batches(3)).await,
        rows! {
            patient, year: Int32, month: Int32, day: Int32;
            "ada",   2023,        10,           10;
            "ada",   2023,        10,           10;
            "ada",   null,        null,         null;
        }
        .in_schema(&written()),
    );
}

#[tokio::test]
async fn the_day_is_that_of_utc() {
    let texts = ["2024-02-29T23:59:59Z", "2024-03-01T00:30:00+01:00", "2023-03-26T02:30:00+01:00", "1899-12-31", ""];
    let lake = TempLake::new();
    let header = "date,patient,encounter,category,code,description,value,units,type";
    let lines = texts.map(|date| format!("{date},,,,,,{date},,text"));
    lake.write("observations.csv", format!("{header}\n{}\n", lines.join("\n")));
    let observations = load(delivered(&args_in(&lake))).await.unwrap();
    let days = saved(observations).await.df().select_columns(&["value", "year", "month", "day"]).unwrap();
    assert_frame_snapshot!(days, @"
    value: Utf8               | year: Int32 | month: Int32 | day: Int32
    null                      | null        | null         | null
    1899-12-31                | 1899        | 12           | 31
    2023-03-26T02:30:00+01:00 | 2023        | 3            | 26
    2024-02-29T23:59:59Z      | 2024        | 2            | 29
    2024-03-01T00:30:00+01:00 | 2024        | 2            | 29
    ");
}

#[tokio::test]
async fn nothing_but_equal_rows_goes() {
    let test = TestContext::new(args()).given("observations", Frame::empty(schema()));
    main(test.ctx()).await.unwrap();
    assert_eq!(test.sink("observations"), format!("{:?}", observations(test.args()).audited(rules())));
    assert_snapshot!(optimized_plan(&test.saved_plan("observations")).unwrap(), @r#"
    Projection: observations.patient, observations.encounter, observations.category, observations.code, observations.description, observations.value, observations.units, observations.type, date_part(Utf8("year"), observations.date) AS year, date_part(Utf8("month"), observations.date) AS month, date_part(Utf8("day"), observations.date) AS day
      Aggregate: groupBy=[[observations.date, observations.patient, observations.encounter, observations.category, observations.code, observations.description, observations.value, observations.units, observations.type]], aggr=[[]]
        TableScan: observations projection=[date, patient, encounter, category, code, description, value, units, type]
    "#);
    assert_eq!(test.saved("observations").columns(), Frame::empty(written()).columns());
}

#[tokio::test]
async fn nothing_is_saved_if_the_observations_cannot_be_loaded() {
    let test = TestContext::new(args()).given("observations", Error::not_found("there is no file"));
    assert_eq!(main(test.ctx()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(test.calls(), ["load observations"]);
}

const VALUES: Cells =
    &[("", "null"), ("37.62", r#""37.62""#), ("37.620", r#""37.620""#), ("Never smoked", r#""Never smoked""#)];
const COLUMNS: [CsvColumn; 9] = [
    ("DATE", MOMENTS),
    ("PATIENT", TEXTS),
    ("ENCOUNTER", TEXTS),
    ("CATEGORY", TEXTS),
    ("CODE", TEXTS),
    ("DESCRIPTION", TEXTS),
    ("VALUE", VALUES),
    ("UNITS", TEXTS),
    ("TYPE", TEXTS),
];
const DATE: usize = 0;

#[test]
fn the_job_does_what_its_model_says() {
    let model = |rows: &[CsvRow]| distinct_by_day(&COLUMNS, rows, DATE, |_| true, &written());
    let job = async |lake: &TempLake| saved(load(delivered(&args_in(lake))).await.unwrap()).await;
    assert_agrees_with_model("observations", &COLUMNS, similar_rows(any_row(COLUMNS.len())), job, model);
}
