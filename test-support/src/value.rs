//! Values of any type in a form that compares, hashes and prints independently of Arrow's representation.

use std::cmp::Ordering;
use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// A value. All string types are `Text`, all lists `List` and so on; numbers, dates and the like are distinguished by
/// the type of their column. NaN equals NaN, and -0.0 equals 0.0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Null,
    /// Printed without quotes: whole numbers, decimals, dates, hex of binary.
    Plain(String),
    /// A float in the shortest form that parses to the same number.
    Float(String),
    Text(String),
    List(Vec<Value>),
    Struct(Vec<(String, Value)>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// All values of a column.
    pub(crate) fn of(array: &ArrayRef) -> Vec<Self> {
        match array.data_type() {
            DataType::Null => vec![Self::Null; array.len()],
            DataType::Dictionary(_, value) => Self::of(&cast_to(array, value)),
            DataType::RunEndEncoded(_, value) => Self::of(&cast_to(array, value.data_type())),
            DataType::Utf8View | DataType::LargeUtf8 => Self::of(&cast_to(array, &DataType::Utf8)),
            DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
                Self::of(&cast_to(array, &DataType::Binary))
            }
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                each(array, |row| Self::Text(texts.value(row).to_owned()))
            }
            DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => Self::of(&cast_to(array, &DataType::List(item.clone()))),
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                each(array, |row| Self::List(Self::of(&lists.value(row))))
            }
            DataType::Struct(fields) => {
                let columns: Vec<_> = array.as_struct().columns().iter().map(Self::of).collect();
                let at = |row: usize| fields.iter().zip(&columns).map(move |(f, c)| (f.name().clone(), c[row].clone()));
                each(array, |row| Self::Struct(at(row).collect()))
            }
            DataType::Map(..) => {
                let maps = array.as_map();
                each(array, |row| {
                    let entries = maps.value(row);
                    let (keys, values) = (Self::of(entries.column(0)), Self::of(entries.column(1)));
                    let mut entries: Vec<_> = keys.into_iter().zip(values).collect();
                    // The order of entries is not part of a map.
                    entries.sort_by(|(a, _), (b, _)| a.order(b));
                    Self::Map(entries)
                })
            }
            _ => {
                let options = FormatOptions::new();
                let formatter = ArrayFormatter::try_new(array.as_ref(), &options).expect("all leaf types print");
                let float = array.data_type().is_floating();
                each(array, |row| match formatter.value(row).to_string() {
                    zero if float && zero == "-0.0" => Self::Float("0.0".to_owned()),
                    text if float => Self::Float(text),
                    text => Self::Plain(text),
                })
            }
        }
    }

    /// Whether both are equal except for the rounding of floats: within `tolerance`, absolute or, for large values,
    /// relative.
    pub(crate) fn is_close(&self, other: &Self, tolerance: f64) -> bool {
        let all = |a: &[Self], b: &[Self]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_close(b, tolerance));
        match (self, other) {
            (Self::Float(a), Self::Float(b)) if a != b => match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(x), Ok(y)) if x.is_finite() && y.is_finite() => {
                    (x - y).abs() <= tolerance * x.abs().max(y.abs()).max(1.0)
                }
                _ => false,
            },
            (Self::List(a), Self::List(b)) => all(a, b),
            (Self::Struct(a), Self::Struct(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((n, a), (m, b))| n == m && a.is_close(b, tolerance))
            }
            (Self::Map(a), Self::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && a.is_close(b, tolerance))
            }
            (a, b) => a == b,
        }
    }

    /// An order for printing: nulls first, numbers by size, everything else by its text.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) | (Self::Float(a), Self::Float(b)) => {
                match (a.parse::<f64>(), b.parse()) {
                    (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
                    _ => a.cmp(b),
                }
            }
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (a, b) => (a != &Self::Null).cmp(&(b != &Self::Null)).then_with(|| a.to_string().cmp(&b.to_string())),
        }
    }

    fn nested(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            other => other.to_string(),
        }
    }
}

fn each(array: &ArrayRef, value: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..array.len()).map(|row| if array.is_null(row) { Value::Null } else { value(row) }).collect()
}

fn cast_to(array: &ArrayRef, to: &DataType) -> ArrayRef {
    cast(array, to).expect("another way of storing the same values")
}

/// A text is printed without quotes unless it would be ambiguous.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Null => f.write_str("null"),
            Self::Plain(text) | Self::Float(text) => f.write_str(text),
            Self::Text(text) => {
                let odd = |c: char| c.is_control() || c == '|' || c == '"';
                if text.is_empty() || text == "null" || text.trim() != text || text.contains(odd) {
                    write!(f, "{text:?}")
                } else {
                    f.write_str(text)
                }
            }
            Self::List(items) => write!(f, "[{}]", join(items.iter().map(Self::nested).collect())),
            Self::Struct(fields) => {
                write!(f, "{{{}}}", join(fields.iter().map(|(n, v)| format!("{n}: {}", v.nested())).collect()))
            }
            Self::Map(entries) => {
                write!(
                    f,
                    "{{{}}}",
                    join(entries.iter().map(|(k, v)| format!("{}: {}", k.nested(), v.nested())).collect())
                )
            }
        }
    }
}

/// The type as a reader of the rows sees it: one type of string, binary and list, no dictionaries, everything nullable.
/// Columns with the same logical type can hold the same values.
pub(crate) fn logical_type(data_type: &DataType) -> DataType {
    use DataType as T;
    let item = |field: &FieldRef| FieldRef::new(Field::new("item", logical_type(field.data_type()), true));
    match data_type {
        T::Utf8View | T::LargeUtf8 => T::Utf8,
        T::BinaryView | T::LargeBinary | T::FixedSizeBinary(_) => T::Binary,
        T::Dictionary(_, value) => logical_type(value),
        T::RunEndEncoded(_, value) => logical_type(value.data_type()),
        T::List(f) | T::LargeList(f) | T::FixedSizeList(f, _) | T::ListView(f) | T::LargeListView(f) => {
            T::List(item(f))
        }
        T::Struct(fields) => T::Struct(
            fields.iter().map(|f| Field::new(f.name(), logical_type(f.data_type()), true)).collect::<Fields>(),
        ),
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(fields) if fields.len() == 2 => {
                crate::types::Map(logical_type(fields[0].data_type()), logical_type(fields[1].data_type()))
            }
            _ => data_type.clone(),
        },
        T::Timestamp(unit, Some(zone)) if is_utc(zone) => T::Timestamp(*unit, Some("+00:00".into())),
        other => other.clone(),
    }
}

/// The name of a type as in [`rows!`](crate::rows), except for the brackets of a struct.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("List({})", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let field = |f: &FieldRef| format!("{}: {}", f.name(), type_name(f.data_type()));
            format!("Struct({})", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(of) if of.len() == 2 => {
                format!("Map({}, {})", type_name(of[0].data_type()), type_name(of[1].data_type()))
            }
            _ => data_type.to_string(),
        },
        other => other.to_string(),
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "utc" | "Z" | "Etc/UTC" | "+00" | "+00:00" | "+0000")
}

/// Whether an expected type matches an actual one: `Null`, at any depth, matches any type.
pub(crate) fn allows(expected: &DataType, found: &DataType) -> bool {
    use DataType as T;
    match (expected, found) {
        (T::Null, _) => true,
        (T::List(a), T::List(b)) => allows(a.data_type(), b.data_type()),
        (T::Struct(a), T::Struct(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && allows(a.data_type(), b.data_type()))
        }
        (a, b) => a == b,
    }
}
