//! Decides whether a value means what a file has.

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::exact::Exact;
use crate::json::Json;
use crate::time::{Moment, parse_any_day, parse_day};
use crate::value::Value;

/// A value as written in a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// An empty unquoted field, or no field at all.
    Missing,
    /// A field of a CSV file.
    Field {
        /// Its content.
        text: String,
        /// Whether it is quoted.
        quoted: bool,
    },
    /// A value of a JSON file.
    Json(Json),
    /// The value of a folder name.
    Folder(String),
    /// A value of a typed file.
    Typed(Value),
}

/// Whether a value that a reader returned, without a declared type, means what was written: written again, it would be
/// the same text, up to the exceptions in the guide (contracts, "What inference may do").
pub fn keeps(written: &Written, given: &Value) -> bool {
    match written {
        Written::Missing => *given == Value::Null,
        // An empty quoted text is only a value of text.
        Written::Field { text, quoted: true } if text.is_empty() && *given == Value::Null => true,
        // Blanks around a value that is not a text do not count, except in a folder name.
        Written::Field { text, .. } if !matches!(given, Value::Text(_)) => text_keeps(text.trim_ascii(), given),
        Written::Field { text, .. } | Written::Folder(text) => text_keeps(text, given),
        Written::Json(json) => json_keeps(json, given),
        Written::Typed(value) => value_keeps(value, given),
    }
}

fn text_keeps(text: &str, given: &Value) -> bool {
    match given {
        Value::Text(value) => value == text,
        Value::Bool(value) => text.eq_ignore_ascii_case(&value.to_string()),
        Value::Day(day) => parse_day(text) == Some(*day),
        Value::Moment(value) => Moment::parse(text).is_some_and(|moment| match text.len() {
            10 => moment.nanos == value.nanos,
            _ => moment == *value,
        }),
        number => is_number_of(text, number) && number_keeps(text, number),
    }
}

/// Whether the notation is used for numbers only: no plus, no leading zero, and a power of ten only as programs write
/// it: after a point, or after a single digit and with a sign.
fn is_number_of(text: &str, given: &Value) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
    if leading_zero || text.starts_with('+') || (text == "-0" && !matches!(given, Value::Int(_))) {
        return false;
    }
    match digits.split_once(['e', 'E']) {
        None => true,
        Some((mantissa, exponent)) => {
            mantissa.contains('.') || (mantissa.len() == 1 && mantissa != "0" && exponent.starts_with(['-', '+']))
        }
    }
}

/// No sign and no digit is lost, except trailing zeros of a fraction.
fn number_keeps(text: &str, given: &Value) -> bool {
    if let Some(value) = float(given).filter(|value| !value.is_finite()) {
        return not_finite(text).is_some_and(|written| same_float(value, written));
    }
    match given {
        Value::Int(value) => value.to_string() == text,
        given => Exact::parse(text).is_some_and(|written| exact(given) == Some(written)),
    }
}

fn not_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "inf" | "Infinity" => Some(f64::INFINITY),
        "-inf" | "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// NaN and infinity in any case, with or without a sign, as declared floats accept them.
fn any_not_finite(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let (sign, word) = match lower.as_bytes().first()? {
        b'-' => (-1.0, &lower[1..]),
        b'+' => (1.0, &lower[1..]),
        _ => (1.0, lower.as_str()),
    };
    match word {
        "nan" => Some(f64::NAN),
        "inf" | "infinity" => Some(sign * f64::INFINITY),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        Value::SmallFloat(value) => Some((*value).into()),
        _ => None,
    }
}

/// A number of any type.
fn exact(value: &Value) -> Option<Exact> {
    match value {
        Value::Int(value) => Exact::parse(&value.to_string()),
        Value::Decimal(value) => Exact::parse(value),
        Value::Float(value) => Exact::of_float(*value),
        Value::SmallFloat(value) => Exact::of_small_float(*value),
        _ => None,
    }
}

fn json_keeps(json: &Json, given: &Value) -> bool {
    match (json, given) {
        (Json::Null, given) => *given == Value::Null,
        (Json::Bool(written), Value::Bool(given)) => written == given,
        (Json::Bool(written), Value::Text(given)) => written.to_string() == *given,
        // Texts of JSON stay texts.
        (Json::Text(written), given) => matches!(given, Value::Text(given) if given == written),
        (Json::Number(token), Value::Text(given)) => token == given,
        (Json::Number(token), given) => number_keeps(token, given),
        (Json::List(written), Value::List(given)) => {
            written.len() == given.len() && written.iter().zip(given).all(|(w, g)| json_keeps(w, g))
        }
        (Json::Object(written), Value::Object(given)) => {
            let written: Vec<_> = written.iter().map(|(k, v)| (k.clone(), Written::Json(v.clone()))).collect();
            row_keeps(&written, given)
        }
        _ => false,
    }
}

/// Whether a row or object means what was written: each field is found by its name, possibly in another case, and no
/// other field has a value.
pub fn row_keeps(written: &[(String, Written)], given: &[(String, Value)]) -> bool {
    let holds = |name: &str, value: &Written| {
        if let Some((_, given)) = given.iter().find(|(g, _)| g == name) {
            return keeps(value, given);
        }
        // A column whose name differs in case is either its column or another one without a value.
        let other = given.iter().find(|(g, _)| g.to_lowercase() == name.to_lowercase());
        other.is_some_and(|(_, given)| keeps(value, given))
            || match value {
                Written::Missing | Written::Typed(Value::Null) => true,
                Written::Json(json) => json.is_hollow(),
                _ => false,
            }
    };
    let all_there = written.iter().all(|(name, value)| holds(name, value));
    let known = |name: &str| written.iter().any(|(w, _)| w.to_lowercase() == name.to_lowercase());
    all_there && given.iter().all(|(name, value)| *value == Value::Null || known(name))
}

/// Whether a value of a typed file is still the same, possibly in a wider type or as a text.
fn value_keeps(written: &Value, given: &Value) -> bool {
    match (written, given) {
        (Value::Null, given) => *given == Value::Null,
        (Value::List(written), Value::List(given)) => {
            written.len() == given.len() && written.iter().zip(given).all(|(w, g)| value_keeps(w, g))
        }
        (Value::Object(written), Value::Object(given)) => {
            let written: Vec<_> = written.iter().map(|(k, v)| (k.clone(), Written::Typed(v.clone()))).collect();
            row_keeps(&written, given)
        }
        (Value::Int(written), Value::Float(given)) => {
            given.fract() == 0.0 && format!("{given:.0}") == written.to_string()
        }
        (Value::Int(written), Value::SmallFloat(given)) => {
            given.fract() == 0.0 && format!("{given:.0}") == written.to_string()
        }
        (Value::SmallFloat(written), Value::Float(given)) => same_float((*written).into(), *given),
        (Value::SmallFloat(written), Value::SmallFloat(given)) => same_float((*written).into(), (*given).into()),
        (Value::Float(written), Value::Float(given)) => same_float(*written, *given),
        (Value::Day(written), Value::Moment(given)) => given.day() == Some(*written),
        (Value::Moment(written), Value::Day(given)) => written.day() == Some(*given),
        (Value::Moment(written), Value::Moment(given)) => written.nanos == given.nanos,
        (Value::Moment(written), Value::Text(given)) => {
            Moment::parse(given).is_some_and(|given| given.nanos == written.nanos)
        }
        (Value::Day(written), Value::Text(given)) => parse_day(given) == Some(*written),
        (Value::Bool(written), Value::Text(given)) => written.to_string() == *given,
        (Value::Other(written), Value::Text(given)) => written == given,
        (Value::Float(_) | Value::SmallFloat(_), Value::Text(given)) => match exact(written) {
            Some(written) => Exact::parse(given) == Some(written),
            None => not_finite(given).zip(float(written)).is_some_and(|(a, b)| same_float(a, b)),
        },
        (Value::Int(_) | Value::Decimal(_), Value::Text(given)) => Exact::parse(given) == exact(written),
        (Value::Int(_) | Value::Decimal(_), Value::Int(_) | Value::Decimal(_) | Value::Float(_)) => {
            exact(written).zip(exact(given)).is_some_and(|(written, given)| written.equals(&given))
        }
        (written, given) => written == given,
    }
}

fn same_float(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a.to_bits() == b.to_bits()
}

/// The meaning of a text under a declared type.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// This value, and it must be read.
    Exactly(Value),
    /// If it is read, it is this value: its notation is unusual.
    Perhaps(Value),
    /// It is not a value of this type.
    Nothing,
}

impl Meaning {
    fn of(value: Value, usual: bool) -> Self {
        if usual { Self::Exactly(value) } else { Self::Perhaps(value) }
    }

    /// Whether a result is allowed.
    pub fn allows(&self, given: &Value) -> bool {
        match self {
            Self::Exactly(value) | Self::Perhaps(value) => same(value, given),
            Self::Nothing => false,
        }
    }
}

/// Whether two values are the same, NaN included. The sign of a zero counts for floats only.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => same_float(*a, *b),
        (Value::SmallFloat(a), Value::SmallFloat(b)) => same_float((*a).into(), (*b).into()),
        (Value::Decimal(_), Value::Decimal(_)) => exact(a).zip(exact(b)).is_some_and(|(a, b)| a.equals(&b)),
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((ka, a), (kb, b))| ka == kb && same(a, b))
        }
        (a, b) => a == b,
    }
}

/// The meaning of a written value under a declared column.
pub fn declared(written: &Written, field: &Field) -> Meaning {
    let missing = || if field.is_nullable() { Meaning::Exactly(Value::Null) } else { Meaning::Nothing };
    let is_text = matches!(field.data_type(), DataType::Utf8);
    match written {
        Written::Missing | Written::Json(Json::Null) => missing(),
        Written::Field { text, quoted: true } if text.is_empty() && !is_text => match missing() {
            Meaning::Exactly(value) => Meaning::Perhaps(value),
            other => other,
        },
        Written::Field { text, .. } | Written::Folder(text) => of_text(text, field.data_type()),
        Written::Json(json) => of_json(json, field.data_type()),
        Written::Typed(_) => Meaning::Nothing,
    }
}

fn of_json(json: &Json, to: &DataType) -> Meaning {
    match (json, to) {
        (Json::Bool(value), DataType::Boolean) => Meaning::Exactly(Value::Bool(*value)),
        (Json::Bool(value), DataType::Utf8) => Meaning::Perhaps(Value::Text(value.to_string())),
        (Json::Number(token), DataType::Utf8) => Meaning::Perhaps(Value::Text(token.clone())),
        // A number is neither a date nor a boolean.
        (Json::Number(_), DataType::Boolean | DataType::Date32 | DataType::Timestamp(..)) => Meaning::Nothing,
        (Json::Number(token), to) => of_text(token, to),
        (Json::Text(text), DataType::Utf8 | DataType::Date32 | DataType::Timestamp(..)) => of_text(text, to),
        (Json::Text(text), DataType::Boolean) => match text.trim_ascii() {
            word @ ("true" | "false") => Meaning::Perhaps(Value::Bool(word == "true")),
            _ => Meaning::Nothing,
        },
        (Json::Text(text), to) => match of_text(text, to) {
            Meaning::Exactly(value) => Meaning::Perhaps(value),
            other => other,
        },
        (Json::List(items), DataType::List(item)) => {
            let items: Vec<Meaning> = items.iter().map(|json| declared(&Written::Json(json.clone()), item)).collect();
            all(items, Value::List)
        }
        (Json::Object(fields), DataType::Struct(wanted)) => {
            let meanings = wanted.iter().map(|field| {
                let mut found = fields.iter().filter(|(key, _)| key == field.name());
                match (found.next(), found.next()) {
                    (Some((_, value)), None) => declared(&Written::Json(value.clone()), field),
                    (None, _) => declared(&Written::Missing, field),
                    // A duplicate key.
                    (Some(_), Some(_)) => Meaning::Nothing,
                }
            });
            let names: Vec<String> = wanted.iter().map(|field| field.name().clone()).collect();
            all(meanings.collect(), |values| Value::Object(names.into_iter().zip(values).collect()))
        }
        _ => Meaning::Nothing,
    }
}

fn all(meanings: Vec<Meaning>, make: impl FnOnce(Vec<Value>) -> Value) -> Meaning {
    let mut usual = true;
    let mut values = Vec::new();
    for meaning in meanings {
        match meaning {
            Meaning::Exactly(value) => values.push(value),
            Meaning::Perhaps(value) => {
                usual = false;
                values.push(value);
            }
            Meaning::Nothing => return Meaning::Nothing,
        }
    }
    Meaning::of(make(values), usual)
}

/// The least and the greatest integer of a type.
fn bounds(to: &DataType) -> Option<(i128, i128)> {
    Some(match to {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

/// The meaning of a text under a type. Blanks are ignored unless the type is text.
fn of_text(text: &str, to: &DataType) -> Meaning {
    let trimmed = text.trim_ascii();
    let usual = trimmed == text;
    match to {
        DataType::Utf8 => Meaning::Exactly(Value::Text(text.to_owned())),
        DataType::Boolean => match trimmed.to_ascii_lowercase().as_str() {
            word @ ("true" | "false") => Meaning::of(Value::Bool(word == "true"), usual),
            "t" | "yes" | "y" | "1" => Meaning::Perhaps(Value::Bool(true)),
            "f" | "no" | "n" | "0" => Meaning::Perhaps(Value::Bool(false)),
            _ => Meaning::Nothing,
        },
        DataType::Date32 => match (parse_day(trimmed), parse_any_day(trimmed), Moment::parse(trimmed)) {
            (Some(day), _, _) => Meaning::of(Value::Day(day), usual),
            (None, Some(day), _) => Meaning::Perhaps(Value::Day(day)),
            (None, None, Some(moment)) => {
                moment.day().map_or(Meaning::Nothing, |day| Meaning::Perhaps(Value::Day(day)))
            }
            (None, None, None) => Meaning::Nothing,
        },
        DataType::Timestamp(unit, zone) => Moment::parse(trimmed).map_or(Meaning::Nothing, |moment| {
            let nanos = nanos_of(*unit);
            let fits = moment.nanos % nanos == 0 && i64::try_from(moment.nanos / nanos).is_ok();
            let value = Value::Moment(Moment { zoned: zone.is_some(), ..moment });
            // Most writers have the seconds, and no blank before the offset.
            let usual = usual && text.get(19..).is_some_and(|rest| !rest.contains(' '));
            if fits { Meaning::of(value, usual) } else { Meaning::Nothing }
        }),
        DataType::Float32 | DataType::Float64 => match Exact::parse(trimmed) {
            Some(exact) => of_float(trimmed, &exact, to, usual),
            None => any_not_finite(trimmed).map_or(Meaning::Nothing, |value| Meaning::Perhaps(float_of(value, to))),
        },
        DataType::Decimal128(precision, scale) => {
            let fits = |unscaled: &String| unscaled.trim_start_matches('-').len() <= usize::from(*precision);
            let exact = Exact::parse(trimmed);
            match exact.as_ref().and_then(|exact| exact.unscaled(*scale)).filter(fits) {
                Some(_) => Meaning::of(Value::Decimal(in_full(trimmed)), usual && is_plain(trimmed)),
                None => Meaning::Nothing,
            }
        }
        to => {
            let value = Exact::parse(trimmed).and_then(|exact| exact.integer());
            match (value, bounds(to)) {
                (Some(value), Some((least, most))) if (least..=most).contains(&value) => {
                    Meaning::of(Value::Int(value), usual && value.to_string() == text)
                }
                _ => Meaning::Nothing,
            }
        }
    }
}

fn nanos_of(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn float_of(value: f64, to: &DataType) -> Value {
    if *to == DataType::Float32 { Value::SmallFloat(value as f32) } else { Value::Float(value) }
}

/// The nearest float, unless it overflows, or becomes zero although another number was written. Integers written out,
/// without digits after a point, must be exactly it, or its shortest form, which is what most programs write.
fn of_float(text: &str, exact: &Exact, to: &DataType, usual: bool) -> Meaning {
    let small = *to == DataType::Float32;
    let (value, read, kept) = if small {
        let value: f32 = text.parse().unwrap_or(f32::NAN);
        (Value::SmallFloat(value), f64::from(value), 6)
    } else {
        let value: f64 = text.parse().unwrap_or(f64::NAN);
        (Value::Float(value), value, 15)
    };
    let lost = !read.is_finite() || (read == 0.0) != exact.is_zero();
    let behind_point = text.split(['e', 'E']).next().and_then(|mantissa| mantissa.split_once('.'));
    let written_out = behind_point.is_none_or(|(_, digits)| digits.bytes().all(|digit| digit == b'0'));
    let integer = written_out
        && exact.integer().is_some_and(|integer| !exact.is_zero() && format!("{read:.0}") != integer.to_string());
    let shortest = if small { Exact::of_small_float(read as f32) } else { Exact::of_float(read) };
    if lost || (integer && shortest.as_ref() != Some(exact)) {
        return Meaning::Nothing;
    }
    let usual = usual && !integer;
    let normal = read == 0.0 || (1e-30..1e30).contains(&read.abs());
    Meaning::of(value, usual && is_plain(text) && exact.digits.len() <= kept && normal)
}

/// `-12.50`, and no `+12`, `012`, `.5`, `1e3`.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole) && all_digits(fraction) && (whole == "0" || !whole.starts_with('0'))
}

/// A number without a power of ten.
fn in_full(text: &str) -> String {
    let Some(exact) = Exact::parse(text) else { return text.to_owned() };
    let scale = i8::try_from(exact.scale()).unwrap_or(i8::MAX);
    let unscaled = exact.unscaled(scale).unwrap_or_default();
    format!("{unscaled}e-{scale}")
}
