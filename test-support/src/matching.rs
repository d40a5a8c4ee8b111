//! Compares frames, and reports only the differences.

use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::prelude::DataFrame;
use mockall::predicate::function;

use crate::frame::{Frame, collect_blocking};
use crate::snapshot::{aligned, column_title};
use crate::value::{Value, allows, logical_type, type_name};

/// The maximum number of differences of each kind that are shown.
const MAX_SHOWN: usize = 20;

/// Fails the test unless `actual` matches `expected`, and prints the differences: columns, missing and unexpected rows,
/// and changed cells if rows are [paired by a key](Expected::keyed_by).
///
/// `actual` is a [`Frame`], or a `DataFrame`, which is executed; `expected` is a `Frame` or an [`Expected`] created
/// from one.
///
/// By default all columns are expected, in the same order. The order of *rows* does not matter, but the number of
/// occurrences of each does. Neither Arrow's representation of a type (`Utf8`, `Utf8View`, a dictionary) nor
/// nullability matters. NaN equals NaN, and -0.0 equals 0.0.
///
/// ```
/// use hardtack_test_support::{assert_frame, rows};
///
/// let saved = rows! {
///     title,      price;
///     "Dune",     9.5;
///     "Catch 22", 7.25;
/// };
/// assert_frame(&saved, rows! { title, price; "Catch 22", 7.25; "Dune", 9.5 });
///
/// let expected = rows! { title; "Catch 22" };
/// assert_frame(&saved, expected.ignoring_other_rows().ignoring_other_columns());
/// ```
///
/// # Panics
/// If they differ, or the plan of a `DataFrame` fails.
#[track_caller]
pub fn assert_frame(actual: impl Into<Frame>, expected: impl Into<Expected>) {
    if let Err(mismatch) = expected.into().check(&actual.into()) {
        panic!("{mismatch}");
    }
}

/// A predicate for `mockall` doubles: the rows of the `DataFrame` are as expected. Differences are printed with the
/// output of the failing test.
///
/// ```
/// use hardtack_test_support::{MockSink, frame_that, rows};
/// use mockall::predicate::always;
///
/// let mut sink = MockSink::new();
/// sink.expect_name().return_const("numbers".to_owned());
/// sink.expect_stage().with(always(), frame_that(rows! { id; 1; 2 })).once().returning(|_, _| Ok(Default::default()));
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let ctx = hardtack_core::JobContext::builder("test").build()?;
/// ctx.save(sink, rows! { id; 2; 1 }.df()).await?;
/// # Ok::<(), hardtack_core::Error>(())
/// # }).unwrap();
/// ```
pub fn frame_that(expected: impl Into<Expected>) -> impl mockall::Predicate<DataFrame> {
    let expected = expected.into();
    function(move |rows: &DataFrame| match collect_blocking(rows.clone()) {
        Ok(frame) => expected.check(&frame).inspect_err(|mismatch| print_to_test(mismatch)).is_ok(),
        Err(error) => {
            print_to_test(&error.chain());
            false
        }
    })
}

#[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
fn print_to_test(what: &dyn fmt::Display) {
    eprintln!("{what}");
}

/// The expectation of a frame: rows, or only a schema or a number of rows.
///
/// Created from a [`Frame`], whose methods of the same names are short for `Expected::from(frame)....`.
#[derive(Debug, Clone)]
pub struct Expected {
    what: What,
    ordered: bool,
    exact_types: bool,
    other_columns: bool,
    other_rows: bool,
    tolerance: Option<f64>,
    key: Vec<String>,
}

#[derive(Debug, Clone)]
enum What {
    Rows(Frame),
    Schema(SchemaRef),
    RowCount(usize),
}

impl From<Frame> for Expected {
    fn from(frame: Frame) -> Self {
        Self::new(What::Rows(frame))
    }
}

impl From<&Frame> for Expected {
    fn from(frame: &Frame) -> Self {
        Self::from(frame.clone())
    }
}

impl From<&Expected> for Expected {
    fn from(expected: &Expected) -> Self {
        expected.clone()
    }
}

macro_rules! options {
    ($($(#[$doc:meta])* fn $name:ident($self:ident $(, $arg:ident: $type:ty)*) $body:block)+) => {
        impl Expected {
            $($(#[$doc])* #[must_use] pub fn $name(mut $self $(, $arg: $type)*) -> Self { $body $self })+
        }
        impl Frame {
            $($(#[$doc])* #[must_use] pub fn $name(&self $(, $arg: $type)*) -> Expected {
                Expected::from(self).$name($($arg),*)
            })+
        }
    };
}

options! {
    /// Expects the rows in this order.
    fn ordered(self) { self.ordered = true; }

    /// Expects the types exactly as Arrow stores them, and the same nullability.
    fn exact_types(self) { self.exact_types = true; }

    /// Compares only the expected columns; there may be others, in any order.
    fn ignoring_other_columns(self) { self.other_columns = true; }

    /// Expects at least these rows; there may be others.
    fn ignoring_other_rows(self) { self.other_rows = true; }

    /// Considers floats equal that differ by at most `tolerance` (relative to the larger one, if that is above 1), at
    /// any depth. It is meant for rounding noise: values that are really different should be further apart.
    fn float_tolerance(self, tolerance: f64) { self.tolerance = Some(tolerance); }

    /// Pairs rows by these columns to show which cells of them changed, instead of a missing and an unexpected row.
    fn keyed_by(self, columns: impl IntoIterator<Item = impl Into<String>>) {
        self.key = columns.into_iter().map(Into::into).collect();
    }
}

impl Expected {
    fn new(what: What) -> Self {
        Self {
            what,
            ordered: false,
            exact_types: false,
            other_columns: false,
            other_rows: false,
            tolerance: None,
            key: Vec::new(),
        }
    }

    /// Expects these columns, with any rows.
    pub fn schema(schema: impl Into<SchemaRef>) -> Self {
        Self::new(What::Schema(schema.into()))
    }

    /// Expects this many rows, whatever their content.
    pub fn row_count(rows: usize) -> Self {
        Self::new(What::RowCount(rows))
    }

    /// Compares.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, actual: &Frame) -> Result<(), Mismatch> {
        let mut mismatch = Mismatch::default();
        match &self.what {
            What::RowCount(expected) if *expected == actual.num_rows() => {}
            What::RowCount(expected) => {
                mismatch.say(format!("expected {}, found {}", count(*expected, "row"), actual.num_rows()));
            }
            What::Schema(schema) => {
                self.compare_columns(schema, &actual.schema(), &mut mismatch);
            }
            What::Rows(expected) => {
                let columns = self.compare_columns(&expected.schema(), &actual.schema(), &mut mismatch);
                self.compare_rows(&columns, expected, actual, &mut mismatch);
            }
        }
        if mismatch.text.is_empty() { Ok(()) } else { Err(mismatch) }
    }

    /// Compares columns, and returns the names of those with comparable values.
    fn compare_columns(&self, expected: &SchemaRef, actual: &SchemaRef, mismatch: &mut Mismatch) -> Vec<String> {
        let mut comparable = Vec::new();
        let mut lines = Vec::new();
        for field in expected.fields() {
            let Some((_, found)) = actual.fields().find(field.name()) else {
                lines.push(format!("missing     {}", column_title(field)));
                continue;
            };
            if self.allows_type(field.data_type(), found.data_type()) {
                comparable.push(field.name().clone());
            } else {
                let (wanted, found) = match self.exact_types {
                    true => (field.data_type().to_string(), found.data_type().to_string()),
                    false => (type_name(&logical_type(field.data_type())), type_name(&logical_type(found.data_type()))),
                };
                lines.push(format!("retyped     {}: expected {wanted}, found {found}", field.name()));
            }
            if self.exact_types && field.is_nullable() != found.is_nullable() {
                let what = |nullable| if nullable { "nullable" } else { "not null" };
                let (wanted, found) = (what(field.is_nullable()), what(found.is_nullable()));
                lines.push(format!("retyped     {}: expected {wanted}, found {found}", field.name()));
            }
        }
        if !self.other_columns {
            let unexpected = actual.fields().iter().filter(|f| expected.fields().find(f.name()).is_none());
            lines.extend(unexpected.map(|f| format!("unexpected  {}", column_title(f))));
            let names = |schema: &SchemaRef| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
            let (wanted, found) = (names(expected), names(actual));
            if lines.iter().all(|line| line.starts_with("retyped")) && wanted != found {
                lines.push(format!("reordered   expected {}, found {}", wanted.join(", "), found.join(", ")));
            }
        }
        mismatch.section("columns differ", &lines);
        comparable
    }

    fn allows_type(&self, expected: &DataType, found: &DataType) -> bool {
        match self.exact_types {
            true => expected == found,
            false => allows(&logical_type(expected), &logical_type(found)),
        }
    }

    fn compare_rows(&self, columns: &[String], expected: &Frame, actual: &Frame, mismatch: &mut Mismatch) {
        if columns.is_empty() && !expected.schema().fields().is_empty() {
            return; // nothing to tell rows apart by, and the columns have been reported
        }
        let (wanted, found) = (table(expected, columns), table(actual, columns));
        let equal = |a: &Row, b: &Row| a.iter().zip(b).all(|(a, b)| self.equal(a, b));
        let (mut missing, mut unexpected) = without_equals(&wanted, &found);
        if self.tolerance.is_some() {
            missing.retain(|row| match unexpected.iter().position(|other| equal(row, other)) {
                Some(i) => {
                    unexpected.remove(i);
                    false
                }
                None => true,
            });
        }
        let changed = self.pair_by_key(columns, &mut missing, &mut unexpected, mismatch);
        if self.other_rows {
            unexpected.clear();
        }
        let different = !(missing.is_empty() && unexpected.is_empty() && changed.is_empty());
        if different && wanted.len() != found.len() && !self.other_rows {
            mismatch.say(format!("expected {}, found {}", count(wanted.len(), "row"), found.len()));
        }
        if !(missing.is_empty() && unexpected.is_empty()) {
            let title = match (missing.len(), unexpected.len()) {
                (m, 0) => format!("{} missing (-)", count(m, "row")),
                (0, u) => format!("{} unexpected (+)", count(u, "row")),
                (m, u) => format!("{} missing (-), {u} unexpected (+)", count(m, "row")),
            };
            mismatch.say(title);
            mismatch.rows(columns, &missing, &unexpected);
        }
        let lines = self.changed_cells(columns, &changed);
        mismatch.section(&format!("{} changed", count(changed.len(), "row")), &lines);
        if self.ordered && !different {
            // All rows exist, so only their order can differ.
            let mut rest = found.iter();
            let misplaced = |i: &usize| match self.other_rows {
                true => !rest.any(|other| equal(&wanted[*i], other)),
                false => !equal(&wanted[*i], &found[*i]),
            };
            if let Some(i) = (0..wanted.len()).find(misplaced) {
                let (instead, which) = match self.other_rows {
                    true => (vec![], "this one (-) is too early"),
                    false => (vec![&found[i]], "expected (-), found (+)"),
                };
                mismatch.say(format!("the rows are in another order, first at row {}: {which}", i + 1));
                mismatch.rows(columns, &[&wanted[i]], &instead);
            }
        }
    }

    fn equal(&self, a: &Value, b: &Value) -> bool {
        self.tolerance.map_or_else(|| a == b, |tolerance| a.is_close(b, tolerance))
    }

    /// Removes pairs of rows with equal keys from the missing and the unexpected ones.
    fn pair_by_key<'a>(
        &self,
        columns: &[String],
        missing: &mut Vec<&'a Row>,
        unexpected: &mut Vec<&'a Row>,
        mismatch: &mut Mismatch,
    ) -> Vec<(&'a Row, &'a Row)> {
        let position = |name: &String| columns.iter().position(|c| c == name);
        let Some(key) = self.key.iter().map(position).collect::<Option<Vec<_>>>().filter(|key| !key.is_empty()) else {
            if !self.key.is_empty() {
                mismatch
                    .say(format!("rows cannot be paired by {}: not all are comparable columns", self.key.join(", ")));
            }
            return Vec::new();
        };
        let of = |row: &'a Row| key.iter().map(|i| &row[*i]).collect::<Vec<_>>();
        let mut pairs = Vec::new();
        missing.retain(|row| match unexpected.iter().position(|other| of(other) == of(row)) {
            Some(i) => {
                pairs.push((*row, unexpected.remove(i)));
                false
            }
            None => true,
        });
        pairs
    }

    /// For each changed row, its key, followed by the changed cells.
    fn changed_cells(&self, columns: &[String], changed: &[(&Row, &Row)]) -> Vec<String> {
        let describe = |(wanted, found): &(&Row, &Row)| {
            let is_key = |i: &usize| self.key.contains(&columns[*i]);
            let key: Vec<_> =
                (0..columns.len()).filter(is_key).map(|i| format!("{}: {}", columns[i], wanted[i])).collect();
            let differs = |i: &usize| !self.equal(&wanted[*i], &found[*i]);
            let cell = |i| format!("\n    {}: expected {}, found {}", columns[i], wanted[i], found[i]);
            key.join(", ") + &(0..columns.len()).filter(differs).map(cell).collect::<String>()
        };
        changed.iter().map(describe).collect()
    }
}

type Row = Vec<Value>;

/// The values of these columns, row by row.
fn table(frame: &Frame, columns: &[String]) -> Vec<Row> {
    let batch = frame.to_batch();
    let columns: Vec<_> = columns.iter().filter_map(|name| batch.column_by_name(name)).map(Value::of).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

/// The remaining rows of both when equal rows are removed in pairs, each in its order.
fn without_equals<'a>(wanted: &'a [Row], found: &'a [Row]) -> (Vec<&'a Row>, Vec<&'a Row>) {
    let mut counts: HashMap<&Row, usize> = HashMap::new();
    for row in found {
        *counts.entry(row).or_default() += 1;
    }
    let mut take = |row: &'a Row| match counts.get_mut(row) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    let missing = wanted.iter().filter(|row| !take(row)).collect();
    // The rows that were not paired, last occurrences first.
    let mut unexpected: Vec<_> = found.iter().rev().filter(|row| take(row)).collect();
    unexpected.reverse();
    (missing, unexpected)
}

/// The differences between two frames; prints as several lines.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    text: String,
}

impl Mismatch {
    fn say(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn section(&mut self, title: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        self.say(format!("{title}:"));
        for line in lines.iter().take(MAX_SHOWN) {
            self.say(format!("  {line}"));
        }
        self.rest(lines.len());
    }

    fn rows(&mut self, columns: &[String], missing: &[&Row], unexpected: &[&Row]) {
        let marked = |mark: &'static str, rows: &[&Row]| {
            let line = move |row: &&Row| (mark, row.iter().map(ToString::to_string).collect::<Vec<_>>());
            rows.iter().take(MAX_SHOWN).map(line).collect::<Vec<_>>()
        };
        let (marks, cells): (Vec<_>, Vec<_>) = marked("-", missing).into_iter().chain(marked("+", unexpected)).unzip();
        let mut lines = aligned(columns, &cells).into_iter();
        self.say(format!("    {}", lines.next().unwrap_or_default()));
        for (mark, line) in marks.iter().zip(lines) {
            self.say(format!("  {mark} {line}"));
        }
        for (what, rows) in [("missing", missing), ("unexpected", unexpected)] {
            if rows.len() > MAX_SHOWN {
                self.say(format!("  ... and {} more {what}", rows.len() - MAX_SHOWN));
            }
        }
    }

    fn rest(&mut self, all: usize) {
        if all > MAX_SHOWN {
            self.say(format!("  ... and {} more", all - MAX_SHOWN));
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the frame is not as expected\n{}", self.text)
    }
}

/// Same as [`Display`](fmt::Display), so that `unwrap` shows the lines as lines.
impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Mismatch {}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
