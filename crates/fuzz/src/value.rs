//! The values that readers return.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;

use crate::time::{Moment, show_day};

/// A value, without its representation: an integer is an integer, whatever its width.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A decimal, written in full.
    Decimal(String),
    /// A float of 64 bits.
    Float(f64),
    /// A float of 32 bits (or of 16).
    SmallFloat(f32),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Days since 1970.
    Day(i64),
    /// A point in time; without a zone it is taken for UTC.
    Moment(Moment),
    /// A value of a type that only equals itself: times of day, intervals.
    Other(String),
    /// Values one after another.
    List(Vec<Value>),
    /// Values by name; a map has its keys as texts.
    Object(Vec<(String, Value)>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Decimal(value) => write!(f, "{value}dec"),
            Self::Float(value) => write!(f, "{value:?}f64"),
            Self::SmallFloat(value) => write!(f, "{value:?}f32"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Bytes(value) => write!(f, "{value:02x?}"),
            Self::Day(value) => f.write_str(&show_day(*value)),
            Self::Moment(value) => write!(f, "{value}"),
            Self::Other(value) => write!(f, "<{value}>"),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Object(fields) => f.debug_map().entries(fields.iter().map(|(k, v)| (k, v))).finish(),
        }
    }
}

/// The value of a row.
///
/// # Panics
/// For a timestamp that contradicts its type, which Arrow does not allow.
pub fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Value::Null;
    }
    macro_rules! int {
        ($of:ty) => {
            Value::Int(array.as_primitive::<$of>().value(row).into())
        };
    }
    let list = |values: ArrayRef| Value::List((0..values.len()).map(|i| value(&values, i)).collect());
    let other = || array_value_to_string(array, row).unwrap_or_else(|e| e.to_string());
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int8 => int!(Int8Type),
        DataType::Int16 => int!(Int16Type),
        DataType::Int32 => int!(Int32Type),
        DataType::Int64 => int!(Int64Type),
        DataType::UInt8 => int!(UInt8Type),
        DataType::UInt16 => int!(UInt16Type),
        DataType::UInt32 => int!(UInt32Type),
        DataType::UInt64 => int!(UInt64Type),
        DataType::Float16 => Value::SmallFloat(array.as_primitive::<Float16Type>().value(row).into()),
        DataType::Float32 => Value::SmallFloat(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            Value::Decimal(other())
        }
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Value::Text(array.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Value::Text(array.as_string_view().value(row).to_owned()),
        DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        DataType::LargeBinary => Value::Bytes(array.as_binary::<i64>().value(row).to_vec()),
        DataType::BinaryView => Value::Bytes(array.as_binary_view().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => Value::Bytes(array.as_fixed_size_binary().value(row).to_vec()),
        DataType::Date32 => Value::Day(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Date64 => {
            Value::Moment(Moment::new(array.as_primitive::<Date64Type>().value(row).into(), 1_000_000, false))
        }
        DataType::Timestamp(unit, zone) => {
            let (count, nanos) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000),
                TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000_000),
                TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000),
                TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1),
            };
            Value::Moment(Moment::new(count.into(), nanos, zone.is_some()))
        }
        DataType::List(_) => list(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            value(dictionary.values(), dictionary.normalized_keys()[row])
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            Value::Object(fields.iter().zip(columns).map(|(f, c)| (f.name().clone(), value(c, row))).collect())
        }
        DataType::Map(..) => {
            let entries: ArrayRef = std::sync::Arc::new(array.as_map().value(row));
            let pair =
                |i: usize| (key(&value(entries.as_struct().column(0), i)), value(entries.as_struct().column(1), i));
            Value::Object((0..entries.len()).map(pair).collect())
        }
        _ => Value::Other(other()),
    }
}

fn key(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}
