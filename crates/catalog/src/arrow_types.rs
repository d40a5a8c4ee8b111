//! Hive types to Arrow and back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use hardtack_core::{Error, Result};

use crate::hive_type::{HiveField, HiveType};

/// The metadata key of a field's Hive type, where the Arrow type does not determine it: `char(n)`, `varchar(n)`.
pub const HIVE_TYPE_KEY: &str = "hive.type";

/// The metadata key of a column's comment.
pub const COMMENT_KEY: &str = "comment";

impl From<&HiveType> for DataType {
    fn from(hive: &HiveType) -> Self {
        match hive {
            HiveType::Void => Self::Null,
            HiveType::Boolean => Self::Boolean,
            HiveType::TinyInt => Self::Int8,
            HiveType::SmallInt => Self::Int16,
            HiveType::Int => Self::Int32,
            HiveType::BigInt => Self::Int64,
            HiveType::Float => Self::Float32,
            HiveType::Double => Self::Float64,
            HiveType::Decimal(precision, scale) => Self::Decimal128(*precision, *scale as i8),
            HiveType::String | HiveType::Char(_) | HiveType::VarChar(_) => Self::Utf8,
            HiveType::Binary => Self::Binary,
            HiveType::Date => Self::Date32,
            HiveType::Timestamp => Self::Timestamp(TimeUnit::Microsecond, None),
            HiveType::TimestampLocalTz => Self::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            HiveType::IntervalYearMonth => Self::Interval(IntervalUnit::YearMonth),
            HiveType::IntervalDayTime => Self::Interval(IntervalUnit::DayTime),
            HiveType::Array(element) => Self::List(Arc::new(element.to_field(Field::LIST_FIELD_DEFAULT_NAME, true))),
            HiveType::Map(key, value) => {
                let entry = Fields::from(vec![key.to_field("key", false), value.to_field("value", true)]);
                Self::Map(Arc::new(Field::new("entries", Self::Struct(entry), false)), false)
            }
            HiveType::Struct(fields) => {
                Self::Struct(fields.iter().map(|f| f.data_type.to_field(&f.name, true)).collect())
            }
        }
    }
}

impl TryFrom<&DataType> for HiveType {
    type Error = Error;

    /// The narrowest Hive type that holds every value, regardless of the encoding (views, dictionaries, large offsets).
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for types that Hive does not have: time of day, durations, unions,
    /// intervals in nanoseconds, decimals with more than 38 digits or a negative scale.
    fn try_from(arrow: &DataType) -> Result<Self> {
        Ok(match arrow {
            DataType::Null => Self::Void,
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::TinyInt,
            DataType::Int16 | DataType::UInt8 => Self::SmallInt,
            DataType::Int32 | DataType::UInt16 => Self::Int,
            DataType::Int64 | DataType::UInt32 => Self::BigInt,
            DataType::UInt64 => Self::Decimal(20, 0),
            DataType::Float16 | DataType::Float32 => Self::Float,
            DataType::Float64 => Self::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale)
                if *precision <= 38 && (0..=*precision as i8).contains(scale) =>
            {
                Self::Decimal(*precision, *scale as u8)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Binary
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampLocalTz,
            DataType::Interval(IntervalUnit::YearMonth) => Self::IntervalYearMonth,
            DataType::Interval(IntervalUnit::DayTime) => Self::IntervalDayTime,
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::FixedSizeList(element, _) => Self::Array(Box::new(Self::of(element)?)),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(entry) if entry.len() == 2 => {
                    Self::Map(Box::new(Self::of(&entry[0])?), Box::new(Self::of(&entry[1])?))
                }
                _ => return Err(no_hive_type(arrow)),
            },
            DataType::Struct(fields) => Self::Struct(
                fields
                    .iter()
                    .map(|f| Ok(HiveField { name: f.name().clone(), data_type: Self::of(f)? }))
                    .collect::<Result<_>>()?,
            ),
            DataType::Dictionary(_, values) => Self::try_from(values.as_ref())?,
            DataType::RunEndEncoded(_, values) => Self::of(values)?,
            other => return Err(no_hive_type(other)),
        })
    }
}

impl HiveType {
    /// The Hive type of a field. Unlike the conversion from [`DataType`] it recognises `char(n)` and `varchar(n)`,
    /// which are in the field's [metadata](HIVE_TYPE_KEY).
    ///
    /// # Errors
    /// As for the conversion from [`DataType`]; the error names the field.
    pub fn of(field: &Field) -> Result<Self> {
        let plain = Self::try_from(field.data_type()).map_err(|e| e.with("field", field.name()))?;
        let noted = field.metadata().get(HIVE_TYPE_KEY).and_then(|text| text.parse::<Self>().ok());
        Ok(match (plain, noted) {
            (Self::String, Some(text @ (Self::Char(_) | Self::VarChar(_)))) => text,
            (plain, _) => plain,
        })
    }

    /// The Arrow field of this type. [`HiveType::of`] returns exactly this type for it.
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.into(), nullable);
        match self {
            Self::Char(_) | Self::VarChar(_) => {
                field.with_metadata(HashMap::from([(HIVE_TYPE_KEY.to_owned(), self.to_string())]))
            }
            _ => field,
        }
    }

    /// The maximum number of characters of a text: the n of `char(n)` and `varchar(n)`.
    pub fn max_characters(&self) -> Option<usize> {
        match self {
            Self::Char(length) => Some(usize::from(*length)),
            Self::VarChar(length) => Some(usize::from(*length)),
            _ => None,
        }
    }
}

fn no_hive_type(arrow: &DataType) -> Error {
    Error::usage(format!("Hive has no type for Arrow's {arrow}; cast it to one that Hive has, such as a string"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::hive_type::tests::any_hive_type;

    proptest! {
        #[test]
        fn to_arrow_and_back_is_exact(t in any_hive_type()) {
            prop_assert_eq!(HiveType::of(&t.to_field("f", true)).unwrap(), t);
        }
    }

    #[rstest]
    #[case(DataType::UInt8, "smallint")]
    #[case(DataType::UInt16, "int")]
    #[case(DataType::UInt32, "bigint")]
    #[case(DataType::UInt64, "decimal(20,0)")]
    #[case(DataType::Float16, "float")]
    #[case(DataType::Utf8View, "string")]
    #[case(DataType::FixedSizeBinary(16), "binary")]
    #[case(DataType::Date64, "date")]
    #[case(DataType::Timestamp(TimeUnit::Nanosecond, None), "timestamp")]
    #[case(DataType::Timestamp(TimeUnit::Second, Some("+02:00".into())), "timestamp with local time zone")]
    #[case(DataType::Decimal256(38, 10), "decimal(38,10)")]
    #[case(DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), "string")]
    #[case(DataType::LargeList(Arc::new(Field::new("x", DataType::Int8, false))), "array<tinyint>")]
    fn encodings_do_not_matter(#[case] arrow: DataType, #[case] hive: &str) {
        assert_eq!(HiveType::try_from(&arrow).unwrap().to_string(), hive);
    }

    #[rstest]
    #[case(DataType::Time64(TimeUnit::Nanosecond))]
    #[case(DataType::Duration(TimeUnit::Second))]
    #[case(DataType::Decimal256(39, 0))]
    #[case(DataType::Decimal128(5, -2))]
    #[case(DataType::Interval(IntervalUnit::MonthDayNano))]
    fn types_without_a_word_are_refused(#[case] arrow: DataType) {
        let error = HiveType::of(&Field::new("f", arrow.clone(), true)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Hive has no type for Arrow's {arrow}; cast it to one that Hive has, such as a string (field: f)")
        );
    }

    /// A file reader may return maps that no builder would create.
    #[test]
    fn a_map_has_keys_and_values() {
        for names in [&["k"][..], &["k", "v", "w"]] {
            let entry: Vec<_> = names.iter().map(|name| Field::new(*name, DataType::Int8, false)).collect();
            let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false);
            assert!(HiveType::try_from(&map).is_err(), "{map}");
        }
    }

    #[rstest]
    #[case("char(3)", Some(3))]
    #[case("varchar(65535)", Some(65535))]
    #[case("string", None)]
    #[case("array<char(3)>", None)]
    fn some_texts_have_a_length(#[case] hive: &str, #[case] length: Option<usize>) {
        assert_eq!(hive.parse::<HiveType>().unwrap().max_characters(), length);
    }

    #[test]
    fn a_noted_length_counts_for_text_only() {
        let noted = HashMap::from([(HIVE_TYPE_KEY.to_owned(), "varchar(5)".to_owned())]);
        let field = Field::new("f", DataType::Int32, true).with_metadata(noted);
        assert_eq!(HiveType::of(&field).unwrap(), HiveType::Int);
    }
}
