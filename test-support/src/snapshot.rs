//! Formats frames and plans as text, for snapshots.

use std::cmp::Ordering;
use std::sync::LazyLock;

use arrow::datatypes::Field;
use datafusion::physical_plan::displayable;
use datafusion::prelude::DataFrame;
use hardtack_core::Result;
use regex::Regex;

use crate::frame::Frame;
use crate::value::{Value, logical_type, type_name};

/// Formats rows as text with typed, aligned columns, sorted so that the result does not depend on the order of the
/// rows.
///
/// ```
/// use hardtack_test_support::{rows, table};
///
/// let books = rows! { title, pages; "Dune", 612; "Catch 22", null };
/// assert_eq!(table(books), "\
/// title: Utf8 | pages: Int64
/// Catch 22    | null
/// Dune        | 612");
/// ```
///
/// # Panics
/// If the plan of a `DataFrame` fails.
#[track_caller]
pub fn table(rows: impl Into<Frame>) -> String {
    text(&rows.into(), true)
}

pub(crate) fn table_in_order(frame: &Frame) -> String {
    text(frame, false)
}

fn text(frame: &Frame, sorted: bool) -> String {
    let batch = frame.to_batch();
    let columns: Vec<_> = batch.columns().iter().map(Value::of).collect();
    let row = |i: usize| columns.iter().map(|column| &column[i]).collect::<Vec<_>>();
    let mut rows: Vec<_> = (0..batch.num_rows()).map(row).collect();
    if sorted {
        let order = |a: &[&Value], b: &[&Value]| {
            a.iter().zip(b).map(|(a, b)| a.order(b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        };
        rows.sort_by(|a, b| order(a, b));
    }
    let titles: Vec<_> = frame.schema().fields().iter().map(|f| column_title(f)).collect();
    let cells: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
    let mut lines = aligned(&titles, &cells);
    if cells.is_empty() {
        lines.push("(no rows)".to_owned());
    }
    lines.join("\n")
}

pub(crate) fn column_title(field: &Field) -> String {
    format!("{}: {}", field.name(), type_name(&logical_type(field.data_type())))
}

/// A header and rows, with aligned columns.
pub(crate) fn aligned(header: &[String], rows: &[Vec<String>]) -> Vec<String> {
    let chars = |text: &String| text.chars().count();
    let width = |i: usize| rows.iter().map(|row| chars(&row[i])).chain([chars(&header[i])]).max().unwrap_or_default();
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join(" | ").trim_end().to_owned()
    };
    std::iter::once(&header.to_vec()).chain(rows).map(line).collect()
}

/// Compares the rows of a [`Frame`] or `DataFrame`, formatted by [`table`] (sorted, with typed, aligned columns), with
/// an `insta` snapshot. Takes an inline snapshot, or the name of one in a file.
///
/// ```
/// use hardtack_test_support::{assert_frame_snapshot, rows};
///
/// let books = rows! { title, pages; "Dune", 612; "Catch 22", null };
/// assert_frame_snapshot!(books, @r"
/// title: Utf8 | pages: Int64
/// Catch 22    | null
/// Dune        | 612
/// ");
/// ```
#[macro_export]
macro_rules! assert_frame_snapshot {
    ($rows:expr, @$snapshot:literal $(,)?) => {
        $crate::insta::assert_snapshot!($crate::table($rows), @$snapshot)
    };
    ($name:expr, $rows:expr $(,)?) => {
        $crate::insta::assert_snapshot!($name, $crate::table($rows))
    };
    ($rows:expr $(,)?) => {
        $crate::insta::assert_snapshot!($crate::table($rows))
    };
}

/// The plan as written by the job, without parts that vary between runs (temporary folders, ids).
///
/// ```
/// use datafusion::prelude::*;
/// use hardtack_test_support::{insta, logical_plan, rows};
///
/// let long = rows! { title, pages; "Dune", 612 }.df().filter(col("pages").gt(lit(100)))?;
/// insta::assert_snapshot!(logical_plan(&long), @r"
/// Filter: ?table?.pages > Int32(100)
///   TableScan: ?table?
/// ");
/// # Ok::<(), datafusion::error::DataFusionError>(())
/// ```
pub fn logical_plan(rows: &DataFrame) -> String {
    stable(&rows.logical_plan().display_indent().to_string())
}

/// The optimised plan, for tests that filters and columns are pushed down into the source.
///
/// # Errors
/// Errors of the optimiser.
pub fn optimized_plan(rows: &DataFrame) -> Result<String> {
    Ok(stable(&rows.clone().into_optimized_plan()?.display_indent().to_string()))
}

/// The physical plan.
///
/// # Errors
/// Errors of the planner.
pub async fn physical_plan(rows: &DataFrame) -> Result<String> {
    let plan = rows.clone().create_physical_plan().await?;
    Ok(stable(&displayable(plan.as_ref()).indent(false).to_string()))
}

/// Replaces the names of temporary folders (`tempfile`'s), run ids and UUIDs by placeholders.
fn stable(plan: &str) -> String {
    static VOLATILE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let filters = [
            (r"[^\s\[,=(]*/\.tmp\w{6}\b", "[tmp]"),
            (r"\b\d{8}T\d{6}Z-[0-9a-f]{8}\b", "[run]"),
            (r"\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b", "[uuid]"),
        ];
        filters.map(|(what, name)| (Regex::new(what).expect("a valid pattern"), name)).into()
    });
    let plan = VOLATILE.iter().fold(plan.to_owned(), |plan, (what, name)| what.replace_all(&plan, *name).into_owned());
    plan.trim_end().to_owned()
}
