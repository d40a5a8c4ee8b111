//! CSV files of random cells, for tests that hold a job against a model of it.

use std::ops::Range;

use arrow::datatypes::SchemaRef;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::frame::Frame;
use crate::lake::{TempLake, block_on};
use crate::matching::assert_frame;

/// The cells that a column may have: each as it stands in a CSV file, and as JSON.
pub type Cells = &'static [(&'static str, &'static str); 4];

/// Texts, with all that has to be quoted.
pub const TEXTS: Cells =
    &[("", "null"), ("\"\"", r#""""#), ("x", r#""x""#), ("\"Ä,\"\"b\"\"\r\n書\"", r#""Ä,\"b\"\r\n書""#)];

/// Integers, two spellings of one among them.
pub const INTEGERS: Cells = &[("", "null"), ("0", "0"), ("195662009", "195662009"), ("195662009.0", "195662009")];

/// Numbers, two spellings of one among them.
pub const NUMBERS: Cells = &[("", "null"), ("77.49", "77.49"), ("77.490", "77.49"), ("-1e3", "-1000.0")];

/// Times, two spellings of one among them.
pub const MOMENTS: Cells = &[
    ("", "null"),
    ("2024-02-29T23:59:59Z", r#""2024-02-29T23:59:59""#),
    ("2024-03-01T00:59:59+01:00", r#""2024-02-29T23:59:59""#),
    ("1969-12-31 23:59:59.999999", r#""1969-12-31T23:59:59.999999""#),
];

/// A column of a CSV file: its name in the header, and its cells.
pub type CsvColumn = (&'static str, Cells);

/// Which cell each column of a row has.
pub type CsvRow = Vec<usize>;

/// Rows that differ from `first` in one column at most: many are equal, and many nearly so.
pub fn similar_rows(first: impl Strategy<Value = CsvRow>) -> impl Strategy<Value = Vec<CsvRow>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize), 0..24);
    (first, changes).prop_map(|(first, changes)| {
        let changed = |(column, cell): (prop::sample::Index, usize)| {
            let mut row = first.clone();
            row[column.index(first.len())] = cell;
            row
        };
        changes.into_iter().map(changed).collect()
    })
}

/// A row of any cells.
pub fn any_row(columns: usize) -> impl Strategy<Value = CsvRow> {
    prop::collection::vec(0..4_usize, columns)
}

/// The text of a CSV file with these rows.
pub fn csv_of(columns: &[CsvColumn], rows: &[CsvRow]) -> String {
    let line = |cells: Vec<&str>| cells.join(",") + "\n";
    let header = line(columns.iter().map(|(name, _)| *name).collect());
    let lines = rows.iter().map(|row| line(row.iter().zip(columns).map(|(at, (_, cells))| cells[*at].0).collect()));
    header + &lines.collect::<String>()
}

/// The cells of a row as JSON.
pub fn json_of(columns: &[CsvColumn], row: &[usize]) -> Vec<&'static str> {
    row.iter().zip(columns).map(|(at, (_, cells))| cells[*at].1).collect()
}

/// Writes rows as CSV files of a folder, some of them twice: those up to `cut`, the others, and the first again.
pub fn write_in_parts(lake: &TempLake, folder: &str, columns: &[CsvColumn], rows: &[CsvRow], cut: prop::sample::Index) {
    let (some, others) = rows.split_at(cut.index(rows.len() + 1));
    for (name, part) in [("some", some), ("more/others", others), ("more/some again", some)] {
        lake.write(&format!("{folder}/{name}.csv"), csv_of(columns, part));
    }
}

/// A model of a job that keeps the distinct rows that are wanted, with the day of their time in its place, implemented
/// only with texts and lists. `time` is the index of the column; `written` are the columns of the result.
pub fn distinct_by_day(
    columns: &[CsvColumn],
    rows: &[CsvRow],
    time: usize,
    is_wanted: impl Fn(&[&str]) -> bool,
    written: &SchemaRef,
) -> Frame {
    let mut kept: Vec<Vec<&str>> = Vec::new();
    for row in rows {
        let cells = json_of(columns, row);
        if is_wanted(&cells) && !kept.contains(&cells) {
            kept.push(cells);
        }
    }
    let line = |cells: Vec<&str>| {
        let part = |at: Range<usize>| cells[time].get(at).map_or("null", |digits| digits.trim_start_matches('0'));
        let day = [("year", 1..5), ("month", 6..8), ("day", 9..11)].map(|(name, at)| (name.to_owned(), part(at)));
        let fields = columns.iter().zip(&cells).map(|((name, _), value)| (name.to_lowercase(), *value));
        let others = fields.enumerate().filter(|(at, _)| *at != time).map(|(_, field)| field);
        let fields: Vec<_> = others.chain(day).map(|(name, value)| format!("{name:?}: {value}")).collect();
        format!("{{{}}}", fields.join(", "))
    };
    let lines: Vec<_> = kept.into_iter().map(line).collect();
    Frame::from_json_lines_as(written, &lines.join("\n"))
}

/// Checks that the output of a job on a folder of CSV files equals that of its model, whatever the order of lines,
/// their distribution over files, and the number of deliveries. `job` gets a lake with the folder, and returns what it
/// saves.
///
/// # Panics
/// If they differ: with the smallest rows that were found.
#[track_caller]
pub fn assert_agrees_with_model(
    folder: &str,
    columns: &[CsvColumn],
    rows: impl Strategy<Value = Vec<CsvRow>>,
    job: impl AsyncFn(&TempLake) -> Frame,
    model: impl Fn(&[CsvRow]) -> Frame,
) {
    let shuffled = rows.prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle()));
    let checked =
        TestRunner::new(ProptestConfig::with_cases(48)).run(&(shuffled, any::<prop::sample::Index>()), |case| {
            let ((rows, again), cut) = case;
            let lake = TempLake::new();
            write_in_parts(&lake, folder, columns, &again, cut);
            assert_frame(block_on(job(&lake)), model(&rows));
            Ok(())
        });
    checked.unwrap_or_else(|failed| panic!("{failed}"));
}
