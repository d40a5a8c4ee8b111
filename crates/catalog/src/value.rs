//! Partition values: texts that compare as their key's type.

use std::cmp::Ordering;
use std::iter::once;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Decimal256Type, Float64Type, TimeUnit, TimestampMicrosecondType, i256};
use chrono::{DateTime, NaiveDate, Utc};
use hardtack_core::{Error, Result, text};

use crate::hive_type::HiveType;
use crate::table::{Column, NULL_PARTITION};

/// A partition's value, or a literal that it is compared with, parsed as its key's type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PartitionValue {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Scaled to [`SCALE`] digits after the point.
    Decimal(i256),
    Double(f64),
    Date(NaiveDate),
    Timestamp(DateTime<Utc>),
    Text(String),
}

const SCALE: i8 = 38;

impl PartitionValue {
    /// # Errors
    /// Usage if the text is not a value of the key's type.
    pub(crate) fn parse(key: &Column, text: &str) -> Result<Self> {
        Self::parse_as(&key.hive_type()?, key, text)
    }

    /// [`PartitionValue::parse`] for many values of one key.
    pub(crate) fn parse_as(data_type: &HiveType, key: &Column, text: &str) -> Result<Self> {
        if text == NULL_PARTITION {
            return Ok(Self::Null);
        }
        let invalid = || {
            Error::usage(format!("`{text}` is not a value of the type {data_type}")).with("partition key", &key.name)
        };
        if text.is_empty() {
            return Err(invalid().hint(format!("write null as `{NULL_PARTITION}`")));
        }
        let parsed = match data_type {
            HiveType::Boolean if text.eq_ignore_ascii_case("true") => Some(Self::Boolean(true)),
            HiveType::Boolean if text.eq_ignore_ascii_case("false") => Some(Self::Boolean(false)),
            HiveType::TinyInt => text.parse::<i8>().ok().map(|n| Self::Integer(n.into())),
            HiveType::SmallInt => text.parse::<i16>().ok().map(|n| Self::Integer(n.into())),
            HiveType::Int => text.parse::<i32>().ok().map(|n| Self::Integer(n.into())),
            HiveType::BigInt => text.parse::<i64>().ok().map(Self::Integer),
            HiveType::Decimal(..) => decimal(text),
            HiveType::Float | HiveType::Double => text::float::<Float64Type>(text).map(Self::Double),
            HiveType::Date => text.parse().ok().map(Self::Date),
            HiveType::Timestamp | HiveType::TimestampLocalTz => timestamp(data_type, text),
            HiveType::String | HiveType::Char(_) | HiveType::VarChar(_) => Some(Self::Text(text.to_owned())),
            _ => None,
        };
        parsed.ok_or_else(invalid)
    }

    /// Compares two values of one key; null compares with nothing.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => Some(a.cmp(b)),
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Decimal(a), Self::Decimal(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Date(a), Self::Date(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// As readers parse it from folder names.
fn timestamp(data_type: &HiveType, text: &str) -> Option<PartitionValue> {
    let zone = (*data_type == HiveType::TimestampLocalTz).then(|| "+00:00".into());
    let read = text::parse(once(Some(text.into())), &DataType::Timestamp(TimeUnit::Microsecond, zone)).ok()?;
    let micros = read.as_primitive::<TimestampMicrosecondType>();
    DateTime::from_timestamp_micros(micros.value(0)).map(PartitionValue::Timestamp)
}

/// Exponents are not accepted: partition values are not written with them.
fn decimal(text: &str) -> Option<PartitionValue> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.len() <= 38 && part.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !plain(whole) || !plain(fraction) {
        return None;
    }
    text::decimal::<Decimal256Type>(text, 76, SCALE).map(PartitionValue::Decimal)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn value(data_type: &str, text: &str) -> Result<PartitionValue> {
        PartitionValue::parse(&Column::foreign("k", data_type), text)
    }

    #[rstest]
    #[case("int", "9", "10", Ordering::Less)]
    #[case("int", "-9", "-10", Ordering::Greater)]
    #[case("tinyint", "007", "7", Ordering::Equal)]
    #[case("smallint", "32767", "-32768", Ordering::Greater)]
    #[case("bigint", "9223372036854775807", "0", Ordering::Greater)]
    #[case("string", "9", "10", Ordering::Greater)]
    #[case("string", "a", "ä", Ordering::Less)]
    #[case("varchar(3)", "A", "a", Ordering::Less)]
    #[case("date", "2026-07-01", "2026-06-30", Ordering::Greater)]
    #[case("decimal(10,2)", "9.5", "10.25", Ordering::Less)]
    #[case("decimal(10,2)", "1.50", "1.5", Ordering::Equal)]
    #[case("decimal(38,38)", "-0.00000000000000000000000000000000000001", "0", Ordering::Less)]
    #[case("decimal(38,0)", "99999999999999999999999999999999999999", "1", Ordering::Greater)]
    #[case("double", "1e3", "999.5", Ordering::Greater)]
    #[case("double", "inf", "1e308", Ordering::Greater)]
    #[case("float", "0.10", "0.1", Ordering::Equal)]
    #[case("timestamp with local time zone", "2026-07-01T02:00:00+02:00", "2026-07-01T00:00:00Z", Ordering::Equal)]
    #[case("boolean", "false", "TRUE", Ordering::Less)]
    #[case("timestamp", "2026-07-01 00:00:00", "2026-07-01T00:00:00.000", Ordering::Equal)]
    #[case("timestamp", "2026-07-01 00:00:00.001", "2026-07-01", Ordering::Greater)]
    fn values_compare_as_their_type(
        #[case] data_type: &str,
        #[case] a: &str,
        #[case] b: &str,
        #[case] expected: Ordering,
    ) {
        let (a, b) = (value(data_type, a).unwrap(), value(data_type, b).unwrap());
        assert_eq!((a.compare(&b), b.compare(&a)), (Some(expected), Some(expected.reverse())));
        assert_eq!(a.compare(&PartitionValue::Null), None);
    }

    #[rstest]
    #[case("int", "x")]
    #[case("int", "1.0")]
    #[case("int", " 1")]
    #[case("tinyint", "128")]
    #[case("smallint", "32768")]
    #[case("date", "2026-02-30")]
    #[case("decimal(4,2)", "1e2")]
    #[case("decimal(4,2)", ".")]
    #[case("boolean", "yes")]
    #[case("timestamp", "yesterday")]
    #[case("timestamp", "2026-07-01 00:00:00.0000001")]
    #[case("timestamp with local time zone", "2026-02-30 00:00:00Z")]
    #[case("double", "1e400")]
    #[case("double", "-1e400")]
    #[case("double", "1e-400")]
    #[case("double", "9007199254740993")]
    #[case("float", "x")]
    #[case("string", "")]
    #[case("array<int>", "[1]")]
    fn other_texts_are_refused(#[case] data_type: &str, #[case] text: &str) {
        let error = value(data_type, text).unwrap_err();
        let start = format!("`{text}` is not a value of the type {data_type} (partition key: k");
        assert!(error.to_string().starts_with(&start), "{error}");
    }

    #[test]
    fn null_is_of_every_type() {
        for data_type in ["int", "string", "date"] {
            assert_eq!(value(data_type, NULL_PARTITION).unwrap(), PartitionValue::Null);
        }
    }
}
