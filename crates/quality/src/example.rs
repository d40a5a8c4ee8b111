//! Some of the values that fail, so that people see what is wrong.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{SortColumn, concat, filter, lexsort_to_indices, take};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// The number of values that are shown.
pub(crate) const SHOWN: usize = 5;
/// The number of characters of a value that are shown.
const CHARACTERS: usize = 60;

/// Which values are shown for the rows of a count.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The number of the count of the rows that fail.
    pub(crate) count: usize,
    /// The numbers of the columns in the schema.
    pub(crate) columns: Vec<usize>,
}

/// The least of the values that fail: the same ones, whatever the order of the rows.
#[derive(Debug, Default)]
pub(crate) struct Examples(Vec<ArrayRef>);

impl Examples {
    pub(crate) fn add(&mut self, wanted: &Wanted, fails: &BooleanArray, rows: &RecordBatch) -> Result<(), ArrowError> {
        if fails.true_count() == 0 {
            return Ok(());
        }
        let columns = wanted.columns.iter().map(|i| filter(rows.column(*i), fails)).collect::<Result<Vec<_>, _>>()?;
        self.merge(Self(least(columns)?))
    }

    pub(crate) fn add_all(&mut self, columns: Vec<ArrayRef>) -> Result<(), ArrowError> {
        self.merge(Self(least(columns)?))
    }

    pub(crate) fn merge(&mut self, other: Self) -> Result<(), ArrowError> {
        if self.0.is_empty() || other.0.is_empty() {
            self.0 = [std::mem::take(&mut self.0), other.0].concat();
            return Ok(());
        }
        let both = self.0.iter().zip(&other.0).map(|(a, b)| concat(&[a.as_ref(), b.as_ref()]));
        self.0 = least(both.collect::<Result<_, _>>()?)?;
        Ok(())
    }

    /// The values as text: `7`, or `("a", 7)` for several columns.
    pub(crate) fn texts(&self) -> Result<Vec<String>, ArrowError> {
        texts(&self.0)
    }
}

/// The first rows by their order; in the order they have, if a type has none.
fn least(columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, ArrowError> {
    // Dictionaries differ from batch to batch.
    let plain = columns.into_iter().map(|column| match column.data_type() {
        DataType::Dictionary(_, values) => datafusion::arrow::compute::cast(&column, &values.as_ref().clone()),
        _ => Ok(column),
    });
    let columns = plain.collect::<Result<Vec<_>, _>>()?;
    let Some(rows) = columns.first().map(|column| column.len()) else { return Ok(columns) };
    let keys: Vec<_> = columns
        .iter()
        .filter(|column| !column.data_type().is_nested())
        .map(|column| SortColumn { values: column.clone(), options: None })
        .collect();
    let first = match keys.is_empty() {
        true => UInt32Array::from_iter_values(0..rows.min(SHOWN) as u32),
        false => lexsort_to_indices(&keys, Some(SHOWN))?,
    };
    columns.iter().map(|column| Ok(compact(take(column, &first, None)?))).collect()
}

/// Views would keep the texts of all rows alive.
fn compact(column: ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column,
    }
}

/// Rows as text: `7`, or `("a", 7)` for several columns.
pub(crate) fn texts(columns: &[ArrayRef]) -> Result<Vec<String>, ArrowError> {
    let options = FormatOptions::default().with_null("null");
    let formatters = columns.iter().map(|column| {
        let quoted = matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        Ok((ArrayFormatter::try_new(column.as_ref(), &options)?, column, quoted))
    });
    let formatters = formatters.collect::<Result<Vec<_>, ArrowError>>()?;
    let rows = columns.first().map_or(0, |column| column.len());
    let mut texts = Vec::new();
    for row in 0..rows {
        let values: Vec<String> = formatters
            .iter()
            .map(|(formatter, column, quoted)| match *quoted && !column.is_null(row) {
                true => format!("{:?}", short(&formatter.value(row).to_string())),
                false => short(&formatter.value(row).to_string()),
            })
            .collect();
        let text = if values.len() == 1 { values.concat() } else { format!("({})", values.join(", ")) };
        if texts.last().map(|last: &String| last.cmp(&text)) != Some(Ordering::Equal) {
            texts.push(text);
        }
    }
    Ok(texts)
}

fn short(text: &str) -> String {
    if text.chars().count() <= CHARACTERS {
        text.to_owned()
    } else {
        text.chars().take(CHARACTERS - 1).chain(['…']).collect()
    }
}
