//! A job against a model of it.

use hardtack_test_support::cells::{CsvColumn, TEXTS, any_row, assert_agrees_with_model, json_of, similar_rows};
use hardtack_test_support::{Frame, TempLake};

const COLUMNS: [CsvColumn; 2] = [("A", TEXTS), ("B", TEXTS)];

/// A job that says whether it got the cell `x`, and a model of it, which has `counts` of the rows with this cell.
fn check(counts: fn(usize) -> usize) {
    let job = async |lake: &TempLake| {
        let text: String = lake.files("rows").iter().map(|file| lake.read(file)).collect();
        Frame::from_json_lines(&format!(r#"{{"n": {}}}"#, usize::from(text.contains('x'))))
    };
    let model = |rows: &[Vec<usize>]| {
        let found = rows.iter().filter(|row| json_of(&COLUMNS, row).contains(&r#""x""#)).count();
        Frame::from_json_lines(&format!(r#"{{"n": {}}}"#, counts(found)))
    };
    assert_agrees_with_model("rows", &COLUMNS, similar_rows(any_row(2)), job, model);
}

#[test]
fn a_job_that_agrees_with_its_model_passes() {
    check(|found| found.min(1));
}

#[test]
#[should_panic = "minimal failing input"]
fn a_job_that_does_not_is_found() {
    check(|found| found);
}
