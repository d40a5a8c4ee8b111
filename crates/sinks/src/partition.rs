//! Partitions: values that rows share.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::partition;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ident, lit, when};
use datafusion::prelude::DataFrame;
use hardtack_catalog::{NULL_PARTITION, partition_name};
use hardtack_core::{Error, Result, nearest};

use crate::layout::index;

/// An empty text shares the folder of null; treated as the same value as null, it also shares its file.
pub(crate) fn empty_is_null(rows: DataFrame, names: &[String]) -> Result<DataFrame> {
    let schema = rows.schema().as_arrow();
    let is_text = |data_type: &DataType| match data_type {
        DataType::Dictionary(_, values) => values.is_string(),
        data_type => data_type.is_string(),
    };
    let text = |f: &Field| names.contains(f.name()) && is_text(f.data_type());
    if !schema.fields().iter().any(|f| text(f)) {
        return Ok(rows);
    }
    let column = |f: &FieldRef| -> Result<Expr> {
        let column = ident(f.name());
        if !text(f) {
            return Ok(column);
        }
        let null = lit(ScalarValue::try_from(f.data_type())?);
        Ok(when(column.clone().eq(lit("")), null).otherwise(column)?.alias(f.name()))
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(rows.select(columns)?)
}

/// Whether distinct moments always have distinct names in this zone: when clocks are set back, an hour occurs twice.
fn names_moments(zone: &str) -> bool {
    let zone = zone.trim();
    matches!(zone.to_ascii_uppercase().as_str(), "UTC" | "Z" | "ETC/UTC" | "GMT") || zone.starts_with(['+', '-'])
}

/// Removes the partition columns, and those that are omitted, from batches and names their folders.
#[derive(Debug)]
pub(crate) struct Partitioner {
    names: Vec<String>,
    columns: Vec<usize>,
    rest: Vec<usize>,
}

impl Partitioner {
    /// # Errors
    /// Usage if a column is missing or has a type that a folder name cannot express, or if no other column is left.
    pub(crate) fn new(schema: &SchemaRef, names: &[String], keep: bool, omitted: &[String]) -> Result<Self> {
        let mut columns = Vec::new();
        for name in names {
            let Ok(index) = schema.index_of(name) else {
                let there: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let why = format!("the partition column `{name}` is not among the columns {}", there.join(", "));
                let hint = match nearest(name, there.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "add it to the rows, and to the sink's schema if it declares one".to_owned(),
                };
                return Err(Error::usage(why).hint(hint));
            };
            let data_type = schema.field(index).data_type();
            let ambiguous = matches!(data_type, DataType::Timestamp(_, Some(zone)) if !names_moments(zone));
            if data_type.is_nested() || data_type.is_floating() || data_type.is_binary() || ambiguous {
                return Err(Error::usage(format!(
                    "the column `{name}` of type {data_type} cannot be a partition column; cast it to a string, \
                     an integer or a date"
                )));
            }
            columns.push(index);
        }
        let omitted = omitted.iter().map(|name| index(schema, name, "omit_columns")).collect::<Result<Vec<_>>>()?;
        let is_kept = |i: &usize| (keep || !columns.contains(i)) && !omitted.contains(i);
        let rest: Vec<usize> = (0..schema.fields().len()).filter(is_kept).collect();
        if rest.is_empty() && !columns.is_empty() {
            return Err(Error::usage("all columns are partition columns; a file needs at least one column"));
        }
        Ok(Self { names: names.to_vec(), columns, rest })
    }

    /// The names of the partition columns.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The indices of the partition columns.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The schema of the files.
    pub(crate) fn file_schema(&self, schema: &SchemaRef) -> Result<SchemaRef> {
        Ok(schema.project(&self.rest)?.into())
    }

    /// The folder of a partition.
    pub(crate) fn folder(&self, values: &[String]) -> String {
        partition_name(self.names.iter().map(String::as_str), values)
    }

    /// Splits a sorted batch into runs of equal partition values, each with these values as Hive writes them.
    pub(crate) fn split(&self, batch: &RecordBatch) -> Result<Vec<(Vec<String>, Range<usize>)>> {
        if self.columns.is_empty() {
            return Ok(vec![(Vec::new(), 0..batch.num_rows())]);
        }
        let keys: Vec<ArrayRef> = self.columns.iter().map(|i| batch.column(*i).clone()).collect();
        let options = FormatOptions::new()
            .with_date_format(Some("%Y-%m-%d"))
            .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
            .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f"));
        let formatters =
            keys.iter().map(|k| ArrayFormatter::try_new(k.as_ref(), &options)).collect::<Result<Vec<_>, _>>()?;
        let mut runs = Vec::new();
        for range in partition(&keys)?.ranges() {
            let values = keys.iter().zip(&formatters).map(|(key, formatter)| {
                let text = match key.is_null(range.start) {
                    true => String::new(),
                    false => formatter.value(range.start).to_string(),
                };
                // Hive does not distinguish the empty string from null.
                if text.is_empty() { NULL_PARTITION.to_owned() } else { text }
            });
            runs.push((values.collect(), range));
        }
        Ok(runs)
    }

    /// The rows of a range, as a file has them.
    pub(crate) fn rows(&self, batch: &RecordBatch, range: &Range<usize>) -> Result<RecordBatch> {
        let all = if self.rest.len() == batch.num_columns() { batch.clone() } else { batch.project(&self.rest)? };
        Ok(if range.len() == all.num_rows() { all } else { all.slice(range.start, range.len()) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Date32Array, Int32Array, StringArray};
    use datafusion::arrow::datatypes::{Field, Schema};
    use rstest::rstest;

    use super::*;

    #[test]
    fn runs_of_equal_values_share_a_partition() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("day", DataType::Date32, true),
            Field::new("n", DataType::Int32, true),
            Field::new("city", DataType::Utf8, true),
        ]));
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(Date32Array::from(vec![Some(0), Some(0), None])),
                Arc::new(Int32Array::from(vec![1, 2, 3])),
                Arc::new(StringArray::from(vec!["a/b", "a/b", ""])),
            ],
        )
        .unwrap();
        let partitioner = Partitioner::new(&schema, &["day".to_owned(), "city".to_owned()], false, &[]).unwrap();
        let runs = partitioner.split(&batch).unwrap();
        let values = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        assert_eq!(runs, [(values(["1970-01-01", "a/b"]), 0..2), (values([NULL_PARTITION, NULL_PARTITION]), 2..3)]);
        assert_eq!(partitioner.folder(&runs[0].0), "day=1970-01-01/city=a%2Fb");
        assert_eq!(partitioner.rows(&batch, &runs[0].1).unwrap().num_columns(), 1);
    }

    #[rstest]
    #[case(&["nope"], "the partition column `nope` is not among the columns day, x (hint: add it to the rows, and to the sink's schema if it declares one)")]
    #[case(&["days"], "the partition column `days` is not among the columns day, x (hint: did you mean `day`?)")]
    #[case(&["x"], "the column `x` of type Float64 cannot be a partition column; cast it to a string, an integer or a date")]
    #[case(&["day", "x"], "the column `x` of type Float64 cannot be a partition column; cast it to a string, an integer or a date")]
    fn refuses(#[case] names: &[&str], #[case] message: &str) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("day", DataType::Date32, true),
            Field::new("x", DataType::Float64, true),
        ]));
        let names: Vec<String> = names.iter().map(|s| (*s).to_owned()).collect();
        assert_eq!(Partitioner::new(&schema, &names, false, &[]).unwrap_err().to_string(), message);
    }
}
