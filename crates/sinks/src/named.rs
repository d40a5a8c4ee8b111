//! Partitions named by their values.

use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Date32Type, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use hardtack_core::{Error, Result};

use crate::partition::Partitioner;

/// A partition, named by a value for each of its columns. See
/// [`also_overwriting`](crate::ParquetDataset::also_overwriting).
///
/// ```
/// use chrono::NaiveDate;
/// use hardtack_sinks::PartitionValues;
///
/// let day = NaiveDate::from_ymd_opt(2026, 11, 28).unwrap();
/// PartitionValues::of("day", day).and("country", "DE").and("shard", 7);
/// // Null, for the folder `country=__HIVE_DEFAULT_PARTITION__`:
/// PartitionValues::of("country", None::<&str>);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionValues(Vec<(String, PartitionValue)>);

/// A value of a partition column: a date, an integer, a text, a boolean, null (`None`), or any [`ScalarValue`].
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionValue(ScalarValue);

macro_rules! from_types_that_scalars_have {
    ($($of:ty),+) => {
        $(impl From<$of> for PartitionValue {
            fn from(value: $of) -> Self {
                Self(value.into())
            }
        })+
    };
}

from_types_that_scalars_have!(ScalarValue, &str, String, bool, i32, i64);

impl From<NaiveDate> for PartitionValue {
    fn from(day: NaiveDate) -> Self {
        Self(ScalarValue::Date32(Some(Date32Type::from_naive_date(day))))
    }
}

impl<V: Into<Self>> From<Option<V>> for PartitionValue {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self(ScalarValue::Null), Into::into)
    }
}

impl PartitionValues {
    /// The partition with this value in this column.
    pub fn of(column: impl Into<String>, value: impl Into<PartitionValue>) -> Self {
        Self(vec![(column.into(), value.into())])
    }

    /// Adds the value of another column. The order of columns does not matter.
    #[must_use]
    pub fn and(mut self, column: impl Into<String>, value: impl Into<PartitionValue>) -> Self {
        self.0.push((column.into(), value.into()));
        self
    }

    /// The values in the order of the partition columns, as the names of folders have them, in a dataset with these
    /// columns.
    pub(crate) fn texts(&self, columns: &SchemaRef, partition_by: &[String]) -> Result<Vec<String>> {
        if let Some((column, _)) = self.0.iter().find(|(column, _)| !partition_by.contains(column)) {
            return Err(Error::usage(format!("`{column}` names a partition, but is not a partition column"))
                .with("partition columns", partition_by.join(", ")));
        }
        let keys = partition_by.iter().map(|name| {
            let (_, value) = self.0.iter().rev().find(|(column, _)| column == name).ok_or_else(|| {
                Error::usage(format!("a partition is named without a value of its column `{name}`"))
                    .with("partition columns", partition_by.join(", "))
                    .hint("name each partition with a value of every partition column")
            })?;
            let field = columns.field_with_name(name)?.clone().with_nullable(true);
            Ok((value.fitting(&field)?.to_array()?, field))
        });
        let (arrays, fields): (Vec<_>, Vec<_>) = keys.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let columns = Arc::new(Schema::new(fields));
        let row = RecordBatch::try_new(Arc::clone(&columns), arrays)?;
        let partitions = Partitioner::new(&columns, partition_by, true, &[])?.split(&row)?;
        Ok(partitions.into_iter().flat_map(|(values, _)| values).collect())
    }
}

impl PartitionValue {
    /// The value in the type of a column.
    fn fitting(&self, column: &Field) -> Result<ScalarValue> {
        let (value, wanted) = (&self.0, column.data_type());
        let fits = value.cast_to(wanted).ok().filter(|fitting| {
            fitting.is_null() == value.is_null()
                && (value.is_null() || fitting.cast_to(&value.data_type()).is_ok_and(|back| back == *value))
        });
        fits.ok_or_else(|| {
            Error::usage("the value of a named partition does not have the type of its column")
                .with("column", column.name())
                .with("value", value)
                .with("type of the value", value.data_type())
                .with("type of the column", wanted)
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use hardtack_catalog::NULL_PARTITION;
    use rstest::rstest;

    use super::*;

    fn texts(partition: &PartitionValues) -> Result<Vec<String>> {
        let columns = Schema::new(vec![
            Field::new("n", DataType::Int64, false),
            Field::new("day", DataType::Date32, false),
            Field::new("city", DataType::Utf8View, true),
        ]);
        partition.texts(&columns.into(), &["day".to_owned(), "city".to_owned()])
    }

    fn day() -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 2, 29).unwrap()
    }

    #[rstest]
    #[case(PartitionValues::of("day", day()).and("city", "Köln"), ["2024-02-29", "Köln"])]
    #[case(PartitionValues::of("city", 7).and("day", "2024-02-29"), ["2024-02-29", "7"])]
    #[case(PartitionValues::of("city", "").and("day", None::<&str>), [NULL_PARTITION, NULL_PARTITION])]
    #[case(PartitionValues::of("day", ScalarValue::Null).and("city", Some("x")), [NULL_PARTITION, "x"])]
    fn values_are_written_as_in_folder_names(#[case] partition: PartitionValues, #[case] expected: [&str; 2]) {
        assert_eq!(texts(&partition).unwrap(), expected);
    }

    #[rstest]
    #[case(
        PartitionValues::of("day", day()),
        "a partition is named without a value of its column `city` (partition columns: day, city, hint: name each partition with a value of every partition column)"
    )]
    #[case(
        PartitionValues::of("n", 1),
        "`n` names a partition, but is not a partition column (partition columns: day, city)"
    )]
    #[case(PartitionValues::of("day", "soon").and("city", "x"), "the value of a named partition does not have the type of its column (column: day, value: soon, type of the value: Utf8, type of the column: Date32)")]
    #[case(PartitionValues::of("day", "2024-2-29").and("city", "x"), "the value of a named partition does not have the type of its column (column: day, value: 2024-2-29, type of the value: Utf8, type of the column: Date32)")]
    fn a_partition_that_cannot_be_is_refused(#[case] partition: PartitionValues, #[case] message: &str) {
        let error = texts(&partition).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (hardtack_core::ErrorKind::Usage, message));
    }
}
