//! Classifies texts of CSV, JSON and folder names without a declared type.
//!
//! A text is a number, a date or a boolean only if writing its value gives it back, up to the exceptions listed in the
//! [crate](crate), whatever the other values of the column. In doubt it stays a text.

use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use hardtack_core::text::Number;

use crate::text::parse;

/// The common kind of a column's values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Null,
    Bool,
    /// A 64-bit integer that a double holds exactly.
    Int,
    /// A 64-bit integer that would lose digits as a double.
    Long,
    Float,
    Date,
    Timestamp,
    /// A timestamp with an offset from UTC.
    Moment,
    Text,
}

impl Kind {
    /// The kind that holds the values of both: the least upper bound, so neither order nor grouping matters.
    pub(crate) fn widen(self, other: Self) -> Self {
        use Kind::{Date, Float, Int, Long, Null, Text, Timestamp};
        match (self, other) {
            (a, b) if a == b => a,
            (Null, kind) | (kind, Null) => kind,
            (Int | Long, Int | Long) => Long,
            (Int | Float, Int | Float) => Float,
            (Date | Timestamp, Date | Timestamp) => Timestamp,
            _ => Text,
        }
    }

    /// The kind of a text. Blanks around it are ignored.
    pub(crate) fn of(text: &str) -> Self {
        let text = text.trim_ascii();
        let bytes = text.as_bytes();
        match bytes.first() {
            None => Self::Text,
            Some(b't' | b'T' | b'f' | b'F') => {
                let boolean = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
                if boolean { Self::Bool } else { Self::Text }
            }
            Some(b'0'..=b'9' | b'-' | b'.') if is_date_like(bytes) => Self::of_time(text),
            Some(b'0'..=b'9' | b'-' | b'.') => Self::of_number(text),
            Some(_) if NOT_FINITE.contains(&text) => Self::Float,
            Some(_) => Self::Text,
        }
    }

    /// The kind of a value in a folder name `name=value`. Blanks are part of it.
    pub(crate) fn of_folder(value: &str) -> Self {
        if value.trim_ascii().len() < value.len() { Self::Text } else { Self::of(value) }
    }

    fn of_number(text: &str) -> Self {
        if NOT_FINITE.contains(&text) {
            return Self::Float;
        }
        let Some(number) = Number::read(text) else { return Self::Text };
        let leading_zero = number.whole.len() > 1 && number.whole[0] == b'0';
        if number.sign == Some(b'+') || leading_zero {
            return Self::Text;
        }
        match (number.fraction, number.exponent) {
            (None, None) if number.sign.is_some() && number.whole == b"0" => Self::Text,
            (None, None) => Self::of_integer(text, &number),
            (None, Some(exponent)) if !(exponent.signed && is_digit_of_its_own(number.whole)) => Self::Text,
            _ => Self::of_float(text, &number),
        }
    }

    /// The kind of a JSON number. It is a number in any notation, so only its digits and its sign have to be preserved.
    pub(crate) fn of_json_number(text: &str) -> Self {
        match Number::read(text) {
            None => Self::Text,
            Some(number) if number.fraction.is_some() || number.exponent.is_some() || text == "-0" => {
                Self::of_float(text, &number)
            }
            Some(number) => Self::of_integer(text, &number),
        }
    }

    fn of_integer(text: &str, number: &Number<'_>) -> Self {
        if text.len() <= SHORT {
            return Self::Int;
        }
        match text.parse::<i64>() {
            Ok(integer) if number.is_kept_by(integer as f64) => Self::Int,
            Ok(_) => Self::Long,
            Err(_) => Self::Text,
        }
    }

    fn of_float(text: &str, number: &Number<'_>) -> Self {
        let short = number.exponent.is_none() && text.len() <= SHORT;
        let kept = || Float64Type::parse(text).is_some_and(|float| number.is_kept_by(float));
        if short || kept() { Self::Float } else { Self::Text }
    }

    fn of_time(text: &str) -> Self {
        let is = |to: &DataType| parse([Some(text.into())].into_iter(), to).is_ok();
        if text.len() == 10 {
            return if is(&DataType::Date32) { Self::Date } else { Self::Text };
        }
        let Some(offset) = offset(text) else { return Self::Text };
        if !is(&DataType::Timestamp(TimeUnit::Microsecond, None)) {
            return Self::Text;
        }
        if offset.is_empty() { Self::Timestamp } else { Self::Moment }
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Null | Self::Text => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Int | Self::Long => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Moment => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// A number of at most this many characters without an exponent keeps all its digits as a double.
const SHORT: usize = 15;

/// The spellings of NaN and infinity that programs write. Other spellings are more likely names.
const NOT_FINITE: [&str; 5] = ["NaN", "inf", "-inf", "Infinity", "-Infinity"];

/// `1e-7` and `5E+20` are numbers, as programs write them. `1158E590003`, `12E4` and `12E-4` may be anything.
fn is_digit_of_its_own(whole: &[u8]) -> bool {
    matches!(whole, [b'1'..=b'9'])
}

/// `2024-01-31`, with or without a time.
fn is_date_like(text: &[u8]) -> bool {
    let time = || text.len() == 10 || text.len() >= 16 && matches!(text[10], b'T' | b't' | b' ') && text[13] == b':';
    text.len() >= 10 && text[4] == b'-' && text[7] == b'-' && text.is_ascii() && time()
}

/// The rest after the time of a timestamp, if that is nothing, `Z` or an offset. The name of a zone would be lost.
fn offset(text: &str) -> Option<&str> {
    let time = text.get(10..)?;
    let (time, offset) = time.split_at(time.find(['Z', 'z', '+', '-']).unwrap_or(time.len()));
    let is = |text: &str, others: &[u8]| text.bytes().all(|b| b.is_ascii_digit() || others.contains(&b));
    let known = matches!(offset, "" | "Z" | "z") || is(&offset[1..], b":");
    (known && is(time, b":.Tt ")).then_some(offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1", Kind::Int)]
    #[case("0", Kind::Int)]
    #[case("-7", Kind::Int)]
    #[case(" 7 ", Kind::Int)]
    #[case("-0", Kind::Text)]
    #[case("+1", Kind::Text)]
    #[case("+1.5", Kind::Text)]
    #[case("007", Kind::Text)]
    #[case("-007", Kind::Text)]
    #[case("00", Kind::Text)]
    #[case("00.5", Kind::Text)]
    #[case("--1", Kind::Text)]
    #[case("9007199254740992", Kind::Int)]
    #[case("9007199254740993", Kind::Long)]
    #[case("1000000000000000000", Kind::Int)]
    #[case("1152921504606846976", Kind::Long)]
    #[case("9223372036854775807", Kind::Long)]
    #[case("-9223372036854775808", Kind::Long)]
    #[case("9223372036854775808", Kind::Text)]
    #[case("1.5", Kind::Float)]
    #[case("0.5", Kind::Float)]
    #[case("-0.0", Kind::Float)]
    #[case("1.50", Kind::Float)]
    #[case(".5", Kind::Float)]
    #[case("5.", Kind::Float)]
    #[case(".", Kind::Text)]
    #[case("0.1000000000000000055", Kind::Text)]
    #[case("0.30000000000000004", Kind::Float)]
    #[case("123456789012345678.90", Kind::Text)]
    #[case("9007199254740993.0", Kind::Text)]
    #[case(".5e-3", Kind::Float)]
    #[case("1.234567E7", Kind::Float)]
    #[case("1e-07", Kind::Float)]
    #[case("1E+16", Kind::Float)]
    #[case("1E5", Kind::Text)]
    #[case("1158E590003", Kind::Text)]
    #[case("12E4", Kind::Text)]
    #[case("12E-4", Kind::Text)]
    #[case("0e-5", Kind::Text)]
    #[case("1.0e400", Kind::Text)]
    #[case("1.0e-400", Kind::Text)]
    #[case("1.2.3", Kind::Text)]
    #[case("-", Kind::Text)]
    #[case("NaN", Kind::Float)]
    #[case("-inf", Kind::Float)]
    #[case("Nan", Kind::Text)]
    #[case("True", Kind::Bool)]
    #[case("yes", Kind::Text)]
    #[case("2024-01-31", Kind::Date)]
    #[case("2024-02-31", Kind::Text)]
    #[case("20240131", Kind::Int)]
    #[case("2024-01-31 10:00", Kind::Timestamp)]
    #[case("2024-01-31T10:00:00.123", Kind::Timestamp)]
    #[case("2024-01-31T10:00:00.1234567", Kind::Text)]
    #[case("2024-01-31T10:00:00.1230000001", Kind::Text)]
    #[case("2016-12-31T23:59:60", Kind::Text)]
    #[case("2024-01-31 100000", Kind::Text)]
    #[case("2024-01-31T10:00:00Z", Kind::Moment)]
    #[case("2024-01-31 10:00:00-05:00", Kind::Moment)]
    #[case("2024-01-31 10:00:00.5+02", Kind::Moment)]
    #[case("2024-01-31 10:00:00 Europe/Berlin", Kind::Text)]
    #[case("2024-01-31 10:00:00 Etc/GMT+5", Kind::Text)]
    #[case("2024-01-31Z", Kind::Text)]
    #[case("2024-01-31T", Kind::Text)]
    #[case("2024-01-31T10", Kind::Text)]
    #[case("2024-01-31T10:0", Kind::Text)]
    #[case("2024-01-31-10:00", Kind::Text)]
    #[case("2024-01-31\u{fc}", Kind::Text)]
    fn values_have_a_kind(#[case] text: &str, #[case] kind: Kind) {
        assert_eq!(Kind::of(text), kind);
    }

    #[rstest]
    #[case("12", Kind::Int)]
    #[case("-0", Kind::Float)]
    #[case("1.0", Kind::Float)]
    #[case("1E5", Kind::Float)]
    #[case("1e400", Kind::Text)]
    #[case("1e-400", Kind::Text)]
    #[case("0e-400", Kind::Float)]
    #[case("0.1000000000000000055", Kind::Text)]
    #[case("9007199254740993", Kind::Long)]
    #[case("9007199254740993.0", Kind::Text)]
    #[case("123456789012345678901234567890", Kind::Text)]
    fn numbers_of_json_have_a_kind(#[case] text: &str, #[case] kind: Kind) {
        assert_eq!(Kind::of_json_number(text), kind);
    }

    #[rstest]
    #[case("12", Kind::Int)]
    #[case("01", Kind::Text)]
    #[case(" 1", Kind::Text)]
    #[case("2024-01-31", Kind::Date)]
    fn folders_have_a_kind(#[case] text: &str, #[case] kind: Kind) {
        assert_eq!(Kind::of_folder(text), kind);
    }

    #[rstest]
    #[case(&["", "1"], Kind::Int)]
    #[case(&["1", "1.5"], Kind::Float)]
    #[case(&["1", "007"], Kind::Text)]
    #[case(&["12345", "1158E590003"], Kind::Text)]
    #[case(&["9007199254740993", "1"], Kind::Long)]
    #[case(&["9007199254740993", "0.5"], Kind::Text)]
    #[case(&["9007199254740993", "1", "0.5"], Kind::Text)]
    #[case(&["true", "1"], Kind::Text)]
    #[case(&["2024-01-31", "2024-01-31 10:00"], Kind::Timestamp)]
    #[case(&["2024-01-31T10:00:00", "2024-01-31T10:00:00Z"], Kind::Text)]
    #[case(&["2024-01-31", "7"], Kind::Text)]
    fn kinds_widen_in_any_order(#[case] texts: &[&str], #[case] kind: Kind) {
        let of = |t: &&str| if t.is_empty() { Kind::Null } else { Kind::of(t) };
        assert_eq!(texts.iter().map(of).fold(Kind::Null, Kind::widen), kind);
        assert_eq!(texts.iter().rev().map(of).fold(Kind::Null, Kind::widen), kind);
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        use Kind::*;
        prop::sample::select(vec![Null, Bool, Int, Long, Float, Date, Timestamp, Moment, Text])
    }

    proptest! {
        #[test]
        fn widening_is_a_least_upper_bound(a in kinds(), b in kinds(), c in kinds()) {
            prop_assert_eq!(a.widen(b), b.widen(a));
            prop_assert_eq!(a.widen(b).widen(c), a.widen(b.widen(c)));
            prop_assert_eq!(a.widen(b).widen(a), a.widen(b));
        }
    }
}
