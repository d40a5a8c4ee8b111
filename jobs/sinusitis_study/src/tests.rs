use std::sync::Arc;

use hardtack_test_support::cells::{Cells, CsvColumn, CsvRow, csv_of, similar_rows, write_in_parts};
use hardtack_test_support::{
    Cell, Frame, TempLake, TestContext, assert_frame, assert_frame_snapshot, block_on, load, null, optimized_plan, rows,
};
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn args() -> Args {
    Args { source: "s3://in".into(), target: "s3://out".into() }
}

fn conditions_schema() -> SchemaRef {
    schema! { start: date, stop: date, patient: string, encounter: string, code: bigint, description: string }
}

fn patients_schema() -> SchemaRef {
    schema! {
        id: string, birthdate: date, deathdate: date, ssn: string, drivers: string, passport: string, prefix: string,
        first: string, last: string, suffix: string, maiden: string, marital: string, race: string, ethnicity: string,
        gender: string, birthplace: string, address: string, city: string, state: string, county: string, zip: string,
        lat: double, lon: double, healthcare_expenses: double, healthcare_coverage: double,
    }
}

fn written() -> SchemaRef {
    schema! {
        start: date, stop: date, patient: string, encounter: string, code: bigint, description: string,
        birthdate: date, marital: string, race: string, ethnicity: string, gender: string, condition_age: int,
    }
}

/// Runs the job on these rows.
async fn saved(conditions: Frame, patients: Frame) -> Frame {
    let test = TestContext::new(args()).given("conditions", conditions).given("patients", patients);
    main(test.ctx()).await.unwrap();
    assert_eq!(test.calls(), ["load conditions", "load patients", "save sinusitis_study"]);
    test.saved("sinusitis_study")
}

/// A patient of whom everything is known.
fn ada() -> Frame {
    let ada =
        rows! { id, birthdate, marital, race, ethnicity, gender; "ada", "1996-02-29", "M", "white", "hispanic", "F" };
    ada.in_schema(&patients_schema())
}

#[test]
fn conditions_and_patients_are_files_or_folders_of_files() {
    let expected = CsvFiles::new("conditions", "s3://in/conditions").file_or_folder();
    assert_eq!(conditions(&args()), Dataset::new(expected.with_schema(conditions_schema()), None));
    let expected = CsvFiles::new("patients", "s3://in/patients").file_or_folder();
    assert_eq!(patients(&args()), Dataset::new(expected.with_schema(patients_schema()), None));
}

#[test]
fn the_study_is_replaced() {
    let expected = ParquetDataset::new("sinusitis_study", "s3://out/sinusitis_study");
    assert_eq!(
        sinusitis_study(&args()),
        Dataset::new(expected, None).overwrite().with_compression(Compression::Snappy)
    );
}

#[tokio::test]
async fn joins_different_diagnoses_to_their_patients() {
    let conditions = rows! {
        start,        patient, encounter, code,      description;
        "2024-02-29", "ada",   "e1",      40055000,  "Chronic sinusitis (disorder)";
        "2024-02-29", "ada",   "e1",      40055000,  "Chronic sinusitis (disorder)";
        "2024-02-29", "ada",   "e2",      40055000,  "Chronic sinusitis (disorder)";
        "2024-02-29", "ada",   "e1",      195662009, "Acute viral pharyngitis (disorder)";
        "2024-02-29", "eve",   "e3",      40055000,  "Chronic sinusitis (disorder)";
        "2024-02-29", null,    "e4",      40055000,  "Chronic sinusitis (disorder)";
    };
    let patients = rows! {
        id,    birthdate,    marital, race,    ethnicity,  gender;
        "ada", "1996-02-29", "M",     "white", "hispanic", "F";
        "ada", "1996-02-29", "M",     "white", "hispanic", "F";
        "ben", "1987-03-14", "S",     "black", "hispanic", "M";
        null,  "1996-02-29", "M",     "white", "hispanic", "F";
    };
    let found = saved(conditions.in_schema(&conditions_schema()), patients.in_schema(&patients_schema())).await;
    assert_frame_snapshot!(found, @"
    start: Date32 | stop: Date32 | patient: Utf8 | encounter: Utf8 | code: Int64 | description: Utf8            | birthdate: Date32 | marital: Utf8 | race: Utf8 | ethnicity: Utf8 | gender: Utf8 | condition_age: Int32
    2024-02-29    | null         | ada           | e1              | 40055000    | Chronic sinusitis (disorder) | 1996-02-29        | M             | white      | hispanic        | F            | 10227
    2024-02-29    | null         | ada           | e2              | 40055000    | Chronic sinusitis (disorder) | 1996-02-29        | M             | white      | hispanic        | F            | 10227
    ");
}

/// Patients are distinct if their rows differ, even in columns that the study does not use: then both have the
/// diagnosis.
#[tokio::test]
async fn what_is_not_written_tells_rows_apart() {
    let diagnosis = rows! { start, patient, description; "2024-02-29", "ada", "Viral sinusitis (disorder)" };
    let patients = rows! {
        id,    birthdate,    marital, race,    ethnicity,  gender, zip;
        "ada", "1996-02-29", "M",     "white", "hispanic", "F",    "02118";
        "ada", "1996-02-29", "M",     "white", "hispanic", "F",    "02119";
        "ada", "1996-02-29", "M",     "white", "hispanic", "F",    null;
        "ada", "1996-02-29", "M",     "white", "hispanic", "F",    "02118";
    };
    let diagnosis = diagnosis.in_schema(&conditions_schema());
    let found = saved(diagnosis, patients.in_schema(&patients_schema()).in_batches(2)).await;
    assert_frame(found.df().select_columns(&["patient"]).unwrap(), rows! { patient; "ada"; "ada"; "ada" });
}

#[rstest]
#[case::as_it_is("sinusitis", 1)]
#[case::inside("Acute bacterial sinusitis (disorder)", 1)]
#[case::case_counts("Sinusitis (disorder)", 0)]
#[case::another("Acute bronchitis (disorder)", 0)]
#[case::none(None, 0)]
#[tokio::test]
async fn a_diagnosis_is_of_sinusitis_or_not(#[case] description: impl Into<Option<&'static str>>, #[case] kept: usize) {
    let diagnosis = rows! { start, patient, description: Utf8; "2024-02-29", "ada", description.into() };
    assert_eq!(saved(diagnosis.in_schema(&conditions_schema()), ada()).await.num_rows(), kept);
}

/// If any of these is missing, the study cannot group a patient.
#[rstest]
#[tokio::test]
async fn a_patient_is_known_or_not(
    #[values("ethnicity", "race", "gender", "marital")] column: &str,
    #[values(None, Some(""), Some("x"))] value: Option<&str>,
) {
    let diagnosis = rows! { patient, description; "ada", "Viral sinusitis (disorder)" };
    let patient = ada().df().with_column(column, cast(lit(ScalarValue::from(value)), DataType::Utf8)).unwrap();
    let found = saved(diagnosis.in_schema(&conditions_schema()), patient.into()).await;
    assert_eq!(found.num_rows(), usize::from(value == Some("x")));
}

#[rstest]
#[case::on_the_day_of_birth("2024-02-29", "2024-02-29", 0)]
#[case::the_day_after("2024-02-28", "2024-02-29", 1)]
#[case::a_leap_year("2024-01-01", "2025-01-01", 366)]
#[case::a_plain_year("2023-01-01", "2024-01-01", 365)]
#[case::a_century("1900-03-01", "2000-03-01", 36525)]
#[case::before_birth("2024-03-01", "2024-02-29", -1)]
#[case::before_1970("1951-06-30", "1969-12-31", 6759)]
#[case::no_start("2024-02-29", null, null)]
#[case::no_birth(null, "2024-02-29", null)]
#[tokio::test]
async fn the_age_is_in_days(
    #[case] birth: impl Into<Cell>,
    #[case] start: impl Into<Cell>,
    #[case] age: impl Into<Cell>,
) {
    let diagnosis = rows! { start: Utf8, patient, description; start.into(), "ada", "Viral sinusitis (disorder)" };
    let patient =
        rows! { id, birthdate: Utf8, marital, race, ethnicity, gender; "ada", birth.into(), "M", "w", "h", "F" };
    let found = saved(diagnosis.in_schema(&conditions_schema()), patient.in_schema(&patients_schema())).await;
    assert_frame(found, rows! { condition_age: Int32; age.into() }.ignoring_other_columns());
}

#[tokio::test]
async fn rows_are_filtered_before_they_are_joined() {
    let test = TestContext::new(args())
        .given("conditions", Frame::empty(conditions_schema()))
        .given("patients", Frame::empty(patients_schema()));
    main(test.ctx()).await.unwrap();
    assert_eq!(test.sink("sinusitis_study"), format!("{:?}", sinusitis_study(test.args())));
    // All columns of a patient are read, even those that are not written, because they distinguish patients.
    assert_snapshot!(optimized_plan(&test.saved_plan("sinusitis_study")).unwrap(), @r#"
    Projection: conditions.start, conditions.stop, conditions.patient, conditions.encounter, conditions.code, conditions.description, patients.birthdate, patients.marital, patients.race, patients.ethnicity, patients.gender, CAST(conditions.start - patients.birthdate AS Int32) AS condition_age
      Aggregate: groupBy=[[conditions.start, conditions.stop, conditions.patient, conditions.encounter, conditions.code, conditions.description, patients.id, patients.birthdate, patients.deathdate, patients.ssn, patients.drivers, patients.passport, patients.prefix, patients.first, patients.last, patients.suffix, patients.maiden, patients.marital, patients.race, patients.ethnicity, patients.gender, patients.birthplace, patients.address, patients.city, patients.state, patients.county, patients.zip, patients.lat, patients.lon, patients.healthcare_expenses, patients.healthcare_coverage]], aggr=[[]]
        Projection: conditions.start, conditions.stop, conditions.patient, conditions.encounter, conditions.code, conditions.description, patients.id, patients.birthdate, patients.deathdate, patients.ssn, patients.drivers, patients.passport, patients.prefix, patients.first, patients.last, patients.suffix, patients.maiden, patients.marital, patients.race, patients.ethnicity, patients.gender, patients.birthplace, patients.address, patients.city, patients.state, patients.county, patients.zip, canonical(patients.lat) AS lat, canonical(patients.lon) AS lon, canonical(patients.healthcare_expenses) AS healthcare_expenses, canonical(patients.healthcare_coverage) AS healthcare_coverage
          Inner Join: conditions.patient = patients.id
            Filter: contains(conditions.description, Utf8("sinusitis"))
              TableScan: conditions projection=[start, stop, patient, encounter, code, description]
            Filter: patients.ethnicity != Utf8("") AND patients.race != Utf8("") AND patients.gender != Utf8("") AND patients.marital != Utf8("")
              TableScan: patients projection=[id, birthdate, deathdate, ssn, drivers, passport, prefix, first, last, suffix, maiden, marital, race, ethnicity, gender, birthplace, address, city, state, county, zip, lat, lon, healthcare_expenses, healthcare_coverage]
    "#);
    assert_frame(test.saved("sinusitis_study"), Frame::empty(written()));
}

#[tokio::test]
async fn nothing_is_saved_if_the_patients_cannot_be_loaded() {
    let test = TestContext::new(args())
        .given("conditions", Frame::empty(conditions_schema()))
        .given("patients", Error::not_found("there is no file"));
    assert_eq!(main(test.ctx()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(test.calls(), ["load conditions", "load patients"]);
}

const IDS: Cells =
    &[("ada", r#""ada""#), ("\"ada\"", r#""ada""#), ("\"Ä, \"\"書\"\"\"", r#""Ä, \"書\"""#), ("", "null")];
const TEXTS: Cells =
    &[("x", r#""x""#), ("", "null"), ("\"\"", r#""""#), ("\"Ä,\"\"b\"\"\r\n書\"", r#""Ä,\"b\"\r\n書""#)];
const DATES: Cells = &[("2024-02-29", "19782"), ("", "null"), ("1969-12-31", "-1"), ("2024-02-29T00:00:00Z", "19782")];
const NUMBERS: Cells = &[("7", "7"), ("", "null"), ("7.0", "7"), ("-1", "-1")];
const DESCRIPTIONS: Cells = &[
    ("sinusitis", r#""sinusitis""#),
    ("\"Viral sinusitis, \"\"acute\"\"\"", r#""Viral sinusitis, \"acute\"""#),
    ("Sinusitis", r#""Sinusitis""#),
    ("", "null"),
];
/// The columns of the conditions, then those of the patients.
const CELLS: [CsvColumn; 31] = [
    ("START", DATES),
    ("STOP", DATES),
    ("PATIENT", IDS),
    ("ENCOUNTER", TEXTS),
    ("CODE", NUMBERS),
    ("DESCRIPTION", DESCRIPTIONS),
    ("Id", IDS),
    ("BIRTHDATE", DATES),
    ("DEATHDATE", DATES),
    ("SSN", TEXTS),
    ("DRIVERS", TEXTS),
    ("PASSPORT", TEXTS),
    ("PREFIX", TEXTS),
    ("FIRST", TEXTS),
    ("LAST", TEXTS),
    ("SUFFIX", TEXTS),
    ("MAIDEN", TEXTS),
    ("MARITAL", TEXTS),
    ("RACE", TEXTS),
    ("ETHNICITY", TEXTS),
    ("GENDER", TEXTS),
    ("BIRTHPLACE", TEXTS),
    ("ADDRESS", TEXTS),
    ("CITY", TEXTS),
    ("STATE", TEXTS),
    ("COUNTY", TEXTS),
    ("ZIP", TEXTS),
    ("LAT", NUMBERS),
    ("LON", NUMBERS),
    ("HEALTHCARE_EXPENSES", NUMBERS),
    ("HEALTHCARE_COVERAGE", NUMBERS),
];
/// The number of columns of the conditions.
const CONDITION: usize = 6;

/// A model of the job, implemented only with texts and lists: all pairs, then the distinct ones, then those of the
/// study.
fn model(conditions: &[CsvRow], patients: &[CsvRow]) -> Frame {
    let pairs = conditions.iter().flat_map(|c| patients.iter().map(move |p| c.iter().chain(p)));
    let pairs = pairs.map(|pair| pair.zip(CELLS).map(|(at, (_, cells))| cells[*at].1).collect::<Vec<_>>());
    let mut different: Vec<Vec<&str>> = Vec::new();
    for pair in pairs {
        let of = |name: &str| pair[CELLS.iter().position(|(n, _)| *n == name).unwrap()];
        if of("PATIENT") == of("Id") && of("Id") != "null" && !different.contains(&pair) {
            different.push(pair);
        }
    }
    let line = |pair: Vec<&str>| {
        let of = |name: &str| pair[CELLS.iter().position(|(n, _)| n.eq_ignore_ascii_case(name)).unwrap()];
        let known = ["ethnicity", "race", "gender", "marital"].iter().all(|name| !["null", "\"\""].contains(&of(name)));
        let days = |name: &str| of(name).parse::<i32>().ok();
        let age = days("start").zip(days("birthdate")).map(|(start, birth)| start - birth);
        let value = |name: &str| match name {
            "condition_age" => age.map_or("null".to_owned(), |age| age.to_string()),
            _ => of(name).to_owned(),
        };
        let written = written();
        let fields = written.fields().iter().map(|f| format!("{:?}: {}", f.name(), value(f.name())));
        let wanted = of("description").contains("sinusitis") && known;
        wanted.then(|| format!("{{{}}}", fields.collect::<Vec<_>>().join(", ")))
    };
    let lines: Vec<_> = different.into_iter().filter_map(line).collect();
    // Dates are numbers of days here, so that ages are differences.
    let days = |f: &Arc<Field>| match f.data_type() {
        DataType::Date32 => Arc::new(f.as_ref().clone().with_data_type(DataType::Int32)),
        _ => Arc::clone(f),
    };
    let with_days: SchemaRef = Arc::new(Schema::new(written().fields().iter().map(days).collect::<Vec<_>>()));
    Frame::from_json_lines_as(&with_days, &lines.join("\n")).in_schema(&written())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The output equals that of the model, whatever the order of lines, their distribution over files, and the number
    /// of deliveries, even if rows of patients with the same id differ.
    #[test]
    fn the_job_does_what_its_model_says(
        (conditions_rows, shuffled) in
            similar_rows(Just(vec![0; CONDITION])).prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
        patients_rows in similar_rows(Just(vec![0; CELLS.len() - CONDITION])),
        cut in any::<prop::sample::Index>(),
    ) {
        let (of_conditions, of_patients) = CELLS.split_at(CONDITION);
        let lake = TempLake::new();
        write_in_parts(&lake, "conditions", of_conditions, &shuffled, cut);
        lake.write("patients.csv", csv_of(of_patients, &patients_rows));
        let args = Args { source: lake.location().into(), ..args() };
        block_on(async {
            let (conditions, patients) = (load(conditions(&args)).await.unwrap(), load(patients(&args)).await.unwrap());
            assert_frame(saved(conditions, patients).await, model(&conditions_rows, &patients_rows));
        });
    }
}
