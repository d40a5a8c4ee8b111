//! CSV files of random cells, for tests that hold a job against a model of it.

use proptest::prelude::*;

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
