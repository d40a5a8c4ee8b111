//! How a text becomes a value: the one set of rules that CSV and JSON share.
//!
//! * Nothing is lost silently: `1.5` is no integer, `1.239` no `Decimal(9, 2)`, `2024-01-01T10:30` no date. A number
//!   that is whole (`3.0`, `1e3`) is an integer.
//! * Dates are `2024-01-31`, timestamps as in RFC 3339 with a `T` or a space, with or without a zone; without one they are
//!   in the column's zone, or UTC. A bare integer in a timestamp column counts the column's unit since 1970, in a date
//!   column (up to seven digits) days, which is how change events write them.
//! * Booleans are `true`, `t`, `yes`, `y`, `1` and their opposites, in any case.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, GenericListArray, GenericStringBuilder, MapArray,
    NullBufferBuilder, OffsetSizeTrait, PrimitiveArray, StringArray, StringViewBuilder, StructArray,
};
use arrow::compute::cast_with_options;
use arrow::compute::kernels::cast_utils::{Parser, parse_decimal, string_to_datetime};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, DecimalType, Field, FieldRef, Fields,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeZone, Utc};

use crate::convert::STRICT;

/// The index of the first text that is not a value of the wanted type.
pub(crate) type BadIndex = usize;

/// Turns texts into an array of type `to`.
pub(crate) fn parse<'a>(
    texts: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>,
    to: &DataType,
) -> Result<ArrayRef, BadIndex> {
    match to {
        DataType::Utf8 => Ok(strings::<i32>(texts)),
        DataType::LargeUtf8 => Ok(strings::<i64>(texts)),
        DataType::Utf8View => {
            let mut builder = StringViewBuilder::with_capacity(texts.len());
            texts.for_each(|text| builder.append_option(text));
            Ok(Arc::new(builder.finish()))
        }
        DataType::Boolean => {
            let value = |(i, text): (usize, Option<Cow<'a, str>>)| {
                text.map(|text| boolean(text.trim_ascii()).ok_or(i)).transpose()
            };
            let values: Result<BooleanArray, BadIndex> = texts.enumerate().map(value).collect();
            Ok(Arc::new(values?))
        }
        DataType::Int8 => primitive::<Int8Type>(texts, to, integer::<Int8Type>),
        DataType::Int16 => primitive::<Int16Type>(texts, to, integer::<Int16Type>),
        DataType::Int32 => primitive::<Int32Type>(texts, to, integer::<Int32Type>),
        DataType::Int64 => primitive::<Int64Type>(texts, to, integer::<Int64Type>),
        DataType::UInt8 => primitive::<UInt8Type>(texts, to, integer::<UInt8Type>),
        DataType::UInt16 => primitive::<UInt16Type>(texts, to, integer::<UInt16Type>),
        DataType::UInt32 => primitive::<UInt32Type>(texts, to, integer::<UInt32Type>),
        DataType::UInt64 => primitive::<UInt64Type>(texts, to, integer::<UInt64Type>),
        DataType::Float32 => primitive::<Float32Type>(texts, to, Float32Type::parse),
        DataType::Float64 => primitive::<Float64Type>(texts, to, Float64Type::parse),
        DataType::Date32 => primitive::<Date32Type>(texts, to, date),
        DataType::Decimal128(p, s) => primitive::<Decimal128Type>(texts, to, |t| decimal::<Decimal128Type>(t, *p, *s)),
        DataType::Decimal256(p, s) => primitive::<Decimal256Type>(texts, to, |t| decimal::<Decimal256Type>(t, *p, *s)),
        DataType::Timestamp(unit, zone) => {
            let zone =
                zone.as_deref().unwrap_or("+00:00").parse::<arrow::array::timezone::Tz>().map_err(|_| 0_usize)?;
            match unit {
                TimeUnit::Second => primitive::<TimestampSecondType>(texts, to, |t| timestamp(t, &zone, 1_000_000_000)),
                TimeUnit::Millisecond => {
                    primitive::<TimestampMillisecondType>(texts, to, |t| timestamp(t, &zone, 1_000_000))
                }
                TimeUnit::Microsecond => {
                    primitive::<TimestampMicrosecondType>(texts, to, |t| timestamp(t, &zone, 1_000))
                }
                TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(texts, to, |t| timestamp(t, &zone, 1)),
            }
        }
        _ => by_cast(&texts.collect::<StringArray>(), to),
    }
}

/// Whether [`parse`] knows the type.
pub(crate) fn can_parse(to: &DataType) -> bool {
    arrow::compute::can_cast_types(&DataType::Utf8, to) && !to.is_nested()
}

fn primitive<'a, T: ArrowPrimitiveType>(
    texts: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>,
    to: &DataType,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> Result<ArrayRef, BadIndex> {
    let (mut values, mut valid) = (Vec::with_capacity(texts.len()), NullBufferBuilder::new(texts.len()));
    for (i, text) in texts.enumerate() {
        match text {
            Some(text) => {
                values.push(parse(text.trim_ascii()).ok_or(i)?);
                valid.append_non_null();
            }
            None => {
                values.push(T::default_value());
                valid.append_null();
            }
        }
    }
    Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), valid.finish()).with_data_type(to.clone())))
}

fn strings<'a, O: OffsetSizeTrait>(texts: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>) -> ArrayRef {
    let mut builder = GenericStringBuilder::<O>::with_capacity(texts.len(), texts.len() * 16);
    texts.for_each(|text| builder.append_option(text));
    Arc::new(builder.finish())
}

fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|w| w.eq_ignore_ascii_case(text));
    if is(["true", "t", "yes", "y", "1"]) { Some(true) } else { is(["false", "f", "no", "n", "0"]).then_some(false) }
}

fn integer<T: ArrowPrimitiveType + Parser>(text: &str) -> Option<T::Native> {
    T::parse(text).or_else(|| {
        // `3.0` and `1e3` are whole; beyond 2^53 a float no longer says which integer it means.
        let value: f64 = text.parse().ok()?;
        let whole = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
        if whole { T::parse(&format!("{value:.0}")) } else { None }
    })
}

fn decimal<T: DecimalType>(text: &str, precision: u8, scale: i8) -> Option<T::Native> {
    if let Some((_, fraction)) = text.split_once('.').filter(|(_, f)| f.bytes().all(|b| b.is_ascii_digit())) {
        // The parser of arrow drops the digits that do not fit.
        let kept = usize::try_from(scale).unwrap_or(0);
        if fraction.trim_end_matches('0').len() > kept {
            return None;
        }
    }
    parse_decimal::<T>(text, precision, scale).ok()
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn date(text: &str) -> Option<i32> {
    if text.len() > 10 {
        let moment = string_to_datetime(&Utc, text).ok().filter(|m| m.time() == NaiveTime::MIN)?;
        return i32::try_from(moment.timestamp().div_euclid(86_400)).ok();
    }
    if text.len() <= 8 && is_integer(text) && text.trim_start_matches('-').len() < 8 {
        return text.parse().ok();
    }
    Date32Type::parse(text)
}

/// In units of `nanos` nanoseconds.
fn timestamp<Z: TimeZone>(text: &str, zone: &Z, nanos: i64) -> Option<i64> {
    if let Some(second) = utc_second(text) {
        return second.checked_mul(1_000_000_000 / nanos);
    }
    if is_integer(text) {
        return text.parse().ok();
    }
    // `2024-01-31 10:00`, as spreadsheets write it.
    let text = if text.len() == 16 { Cow::Owned(format!("{text}:00")) } else { Cow::Borrowed(text) };
    let moment: DateTime<Z> = string_to_datetime(zone, &text).ok()?;
    let below = i64::from(moment.timestamp_subsec_nanos());
    if below % nanos != 0 {
        return None;
    }
    moment.timestamp().checked_mul(1_000_000_000 / nanos)?.checked_add(below / nanos)
}

/// The second that `2024-01-31T10:00:00Z` says: what most feeds write, read without looking for anything else.
fn utc_second(text: &str) -> Option<i64> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':'), (19, b'Z')];
    if !marks.iter().all(|(at, mark)| bytes[*at] == *mark) || !matches!(bytes[10], b'T' | b' ') {
        return None;
    }
    let day = NaiveDate::from_ymd_opt(number(0, 4)? as i32, number(5, 7)?, number(8, 10)?)?;
    Some(day.and_hms_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?)?.and_utc().timestamp())
}

fn by_cast(texts: &StringArray, to: &DataType) -> Result<ArrayRef, BadIndex> {
    let cast = |texts: &StringArray| cast_with_options(texts, to, &STRICT);
    // Only after a failure it is worth looking at each text by itself.
    cast(texts).map_err(|_| (0..texts.len()).find(|&i| cast(&texts.slice(i, 1)).is_err()).unwrap_or(0))
}

/// The type with which a JSON decoder should read so that [`from_texts`] can apply the rules of this module: types for
/// which arrow's decoder has rules of its own that lose something (or none at all) become texts, at any depth.
pub(crate) fn as_texts(to: &DataType) -> DataType {
    use DataType as D;
    let child = |f: &FieldRef| Arc::new(Field::new(f.name(), as_texts(f.data_type()), f.is_nullable()));
    match to {
        D::Struct(fields) => D::Struct(fields.iter().map(child).collect()),
        D::List(item) => D::List(child(item)),
        D::LargeList(item) => D::LargeList(child(item)),
        D::FixedSizeList(item, n) => D::FixedSizeList(child(item), *n),
        D::Map(entries, sorted) => D::Map(child(entries), *sorted),
        D::Null | D::Boolean | D::Float32 | D::Float64 | D::Utf8 | D::LargeUtf8 | D::Utf8View => to.clone(),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => to.clone(),
        _ => D::Utf8,
    }
}

/// Turns what was read as [`as_texts`] into what it should be. `None` if a text is no value of its type.
pub(crate) fn from_texts(array: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    use DataType as D;
    if array.data_type() == to {
        return Some(Arc::clone(array));
    }
    Some(match to {
        D::Struct(fields) => {
            let rows = array.as_struct_opt()?;
            Arc::new(struct_from_texts(rows, fields)?)
        }
        D::List(item) => Arc::new(list_from_texts(array.as_list_opt::<i32>()?, item)?),
        D::LargeList(item) => Arc::new(list_from_texts(array.as_list_opt::<i64>()?, item)?),
        D::FixedSizeList(item, n) => {
            let list = array.as_fixed_size_list_opt()?;
            let values = from_texts(list.values(), item.data_type())?;
            Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *n, values, list.nulls().cloned()).ok()?)
        }
        D::Map(entries, sorted) => {
            let map = array.as_map_opt()?;
            let D::Struct(fields) = entries.data_type() else { return None };
            let pairs = struct_from_texts(map.entries(), fields)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted).ok()?)
        }
        _ => {
            let texts = array.as_string_opt::<i32>()?;
            parse((0..texts.len()).map(|i| texts.is_valid(i).then(|| Cow::Borrowed(texts.value(i)))), to).ok()?
        }
    })
}

fn struct_from_texts(rows: &StructArray, fields: &Fields) -> Option<StructArray> {
    let columns =
        rows.columns().iter().zip(fields).map(|(c, f)| from_texts(c, f.data_type())).collect::<Option<_>>()?;
    StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len()).ok()
}

fn list_from_texts<O: OffsetSizeTrait>(list: &GenericListArray<O>, item: &FieldRef) -> Option<GenericListArray<O>> {
    let values = from_texts(list.values(), item.data_type())?;
    GenericListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned()).ok()
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn check(text: &str, to: &DataType) -> Option<String> {
        let array = parse([Some(Cow::Borrowed(text))].into_iter(), to).ok()?;
        assert_eq!(array.data_type(), to);
        Some(array_value_to_string(&array, 0).unwrap())
    }

    #[rstest]
    #[case("12", DataType::Int64, Some("12"))]
    #[case(" -3 ", DataType::Int8, Some("-3"))]
    #[case("3.0", DataType::Int32, Some("3"))]
    #[case("1e3", DataType::UInt16, Some("1000"))]
    #[case("1.5", DataType::Int64, None)]
    #[case("300", DataType::Int8, None)]
    #[case("9223372036854775807", DataType::Int64, Some("9223372036854775807"))]
    #[case("9223372036854775808", DataType::Int64, None)]
    #[case("12abc", DataType::Int64, None)]
    #[case("", DataType::Int64, None)]
    #[case("2.5e-1", DataType::Float64, Some("0.25"))]
    #[case("1,5", DataType::Float64, None)]
    #[case("TRUE", DataType::Boolean, Some("true"))]
    #[case("n", DataType::Boolean, Some("false"))]
    #[case("2", DataType::Boolean, None)]
    #[case("2024-02-29", DataType::Date32, Some("2024-02-29"))]
    #[case("2023-02-29", DataType::Date32, None)]
    #[case("2024-02-29T00:00:00Z", DataType::Date32, Some("2024-02-29"))]
    #[case("2024-02-29T10:30:00Z", DataType::Date32, None)]
    #[case("1905-01-01 00:00:00", DataType::Date32, Some("1905-01-01"))]
    #[case("19000", DataType::Date32, Some("2022-01-08"))]
    #[case("-1", DataType::Date32, Some("1969-12-31"))]
    #[case("1.20", DataType::Decimal128(9, 2), Some("1.20"))]
    #[case("1.200", DataType::Decimal128(9, 2), Some("1.20"))]
    #[case("1.239", DataType::Decimal128(9, 2), None)]
    #[case("12345678.00", DataType::Decimal128(9, 2), None)]
    #[case("-7", DataType::Decimal256(50, 3), Some("-7.000"))]
    #[case("2024-01-31 10:00:00", DataType::Timestamp(TimeUnit::Microsecond, None), Some("2024-01-31T10:00:00"))]
    #[case("2024-01-31T10:00:00+02:00", DataType::Timestamp(TimeUnit::Second, None), Some("2024-01-31T08:00:00"))]
    #[case("2024-01-31 10:00", DataType::Timestamp(TimeUnit::Second, None), Some("2024-01-31T10:00:00"))]
    #[case("2024-01-31", DataType::Timestamp(TimeUnit::Second, None), Some("2024-01-31T00:00:00"))]
    #[case("2024-01-31T10:00:00.5Z", DataType::Timestamp(TimeUnit::Second, None), None)]
    #[case("1969-12-31T23:59:59.5Z", DataType::Timestamp(TimeUnit::Millisecond, None), Some("1969-12-31T23:59:59.500"))]
    #[case("1700000000000", DataType::Timestamp(TimeUnit::Millisecond, None), Some("2023-11-14T22:13:20"))]
    #[case("10:30:00", DataType::Time64(TimeUnit::Microsecond), Some("10:30:00"))]
    #[case("ab", DataType::Binary, Some("6162"))]
    fn texts_become_values_or_are_refused(#[case] text: &str, #[case] to: DataType, #[case] value: Option<&str>) {
        assert_eq!(check(text, &to).as_deref(), value);
    }

    proptest! {
        #[test]
        fn the_short_way_to_a_second_ends_where_the_long_one_does(
            parts in (0_u32..=9999, 0_u32..14, 0_u32..33, 0_u32..26, 0_u32..62, 0_u32..62),
            damage in prop::option::weighted(0.3, (0_usize..20, "[0-9:TZ +-]")),
        ) {
            let (y, m, d, h, min, s) = parts;
            let mut text = format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}Z");
            if let Some((at, with)) = damage {
                text.replace_range(at..=at, &with);
            }
            if let Some(second) = utc_second(&text) {
                prop_assert_eq!(string_to_datetime(&Utc, &text).unwrap().timestamp(), second);
            } else if let Ok(moment) = string_to_datetime(&Utc, &text) {
                let is_leap_second = moment.timestamp_subsec_nanos() >= 1_000_000_000;
                let usual = moment.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                prop_assert!(text != usual || is_leap_second, "{} is usual", text);
            }
        }
    }

    #[test]
    fn the_first_bad_text_is_named() {
        for to in [DataType::Int64, DataType::Time64(TimeUnit::Microsecond), DataType::Boolean] {
            let texts = [None, Some("x"), Some("y")].map(|t| t.map(Cow::Borrowed));
            assert_eq!(parse(texts.into_iter(), &to).unwrap_err(), 1, "{to}");
        }
    }
}
