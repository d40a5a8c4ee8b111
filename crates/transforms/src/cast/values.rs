//! Casts of arrays that check every value, a batch at a time.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait,
    StructArray, UInt64Array, make_array, new_null_array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::kernels::cmp::not_distinct;
use datafusion::arrow::compute::{CastOptions, cast_with_options, take};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Fields, Float16Type, Float32Type, Float64Type, Int64Type, TimeUnit,
};
use datafusion::arrow::util::display::array_value_to_string;
use hardtack_catalog::types::{Fit, Policy, entry, plain};
use hardtack_core::{Error, Result, text};

use super::max_characters;
use crate::columns::{type_name, type_name_of};

/// Casts an array to a field, or refuses the first value that does not fit. Rows that `visible` hides, because their
/// parent is null, may contain anything.
pub(super) fn fit_array(
    policy: Policy,
    array: &ArrayRef,
    to: &Field,
    name: &str,
    visible: Option<&NullBuffer>,
) -> Result<ArrayRef> {
    use DataType::*;
    let fitted: ArrayRef = match (array.data_type(), to.data_type()) {
        // Texts of limited length have metadata, within structs and lists as well.
        (from, to_type) if from == to_type && to.metadata().is_empty() => Arc::clone(array),
        (Null, to) => new_null_array(to, array.len()),
        (Struct(_), Struct(fields)) => Arc::new(fit_struct(policy, array.as_struct(), fields, name, visible)?),
        (FixedSizeList(_, n), FixedSizeList(element, m)) if n == m => {
            Arc::new(fit_fixed_list(policy, array.as_fixed_size_list(), element, name, visible)?)
        }
        (List(_) | LargeList(_) | FixedSizeList(..) | ListView(_) | LargeListView(_), List(element)) => {
            Arc::new(fit_list::<i32>(policy, array, element, name, visible)?)
        }
        (List(_) | LargeList(_) | FixedSizeList(..) | ListView(_) | LargeListView(_), LargeList(element)) => {
            Arc::new(fit_list::<i64>(policy, array, element, name, visible)?)
        }
        (Map(..), Map(entries, sorted)) => Arc::new(fit_map(policy, array.as_map(), entries, *sorted, name, visible)?),
        _ => fit_scalars(policy, array, to, name, visible)?,
    };
    if !to.is_nullable() {
        let nulls = fitted.logical_nulls();
        let shown = |i: &usize| visible.is_none_or(|v| v.is_valid(*i));
        if nulls.is_some_and(|n| n.null_count() > 0 && (0..n.len()).filter(|i| n.is_null(*i)).any(|i| shown(&i))) {
            return Err(Error::refused("a column that is declared not null is null").with("column", name));
        }
    }
    Ok(fitted)
}

fn fit_struct(
    policy: Policy,
    from: &StructArray,
    to: &Fields,
    name: &str,
    visible: Option<&NullBuffer>,
) -> Result<StructArray> {
    let visible = NullBuffer::union(from.nulls(), visible);
    if to.is_empty() {
        return Ok(StructArray::new_empty_fields(from.len(), visible));
    }
    let fit_field = |field: &FieldRef| match from.column_by_name(field.name()) {
        Some(child) => fit_array(policy, child, field, &format!("{name}.{}", field.name()), visible.as_ref()),
        None => Ok(new_null_array(field.data_type(), from.len())),
    };
    let children = to.iter().map(fit_field).collect::<Result<_>>()?;
    Ok(StructArray::try_new(to.clone(), children, visible)?)
}

fn fit_list<O: OffsetSizeTrait>(
    policy: Policy,
    from: &ArrayRef,
    to: &FieldRef,
    name: &str,
    visible: Option<&NullBuffer>,
) -> Result<GenericListArray<O>> {
    use DataType::*;
    let (List(element) | LargeList(element) | FixedSizeList(element, _) | ListView(element) | LargeListView(element)) =
        from.data_type()
    else {
        return Err(Error::unexpected("not a list").with("column", name));
    };
    let list = cast(from, &GenericListArray::<O>::DATA_TYPE_CONSTRUCTOR(Arc::clone(element)))?;
    let list = list.as_list::<O>();
    let visible = NullBuffer::union(list.nulls(), visible);
    let (offsets, [values]) = compact(list.offsets(), visible.as_ref(), [list.values()])?;
    let values = fit_array(policy, &values, to, &format!("{name}[]"), None)?;
    Ok(GenericListArray::try_new(Arc::clone(to), offsets, values, visible)?)
}

/// The elements of fixed-size lists; null lists have elements, too.
fn fit_fixed_list(
    policy: Policy,
    from: &FixedSizeListArray,
    to: &FieldRef,
    name: &str,
    visible: Option<&NullBuffer>,
) -> Result<FixedSizeListArray> {
    let visible = NullBuffer::union(from.nulls(), visible);
    let size = usize::try_from(from.value_length()).unwrap_or_default();
    let shown = visible.as_ref().map(|v| v.expand(size));
    let values = fit_array(policy, from.values(), to, &format!("{name}[]"), shown.as_ref())?;
    Ok(FixedSizeListArray::try_new(Arc::clone(to), from.value_length(), values, visible)?)
}

fn fit_map(
    policy: Policy,
    from: &MapArray,
    entries: &FieldRef,
    sorted: bool,
    name: &str,
    visible: Option<&NullBuffer>,
) -> Result<MapArray> {
    let fields = entry(entries).ok_or_else(|| Error::unexpected("not a map").with("column", name))?;
    let visible = NullBuffer::union(from.nulls(), visible);
    let (offsets, [keys, values]) = compact(from.offsets(), visible.as_ref(), [from.keys(), from.values()])?;
    // By position: writers give the two different names.
    let keys = fit_array(policy, &keys, &fields[0], &format!("{name}[key]"), None)?;
    let values = fit_array(policy, &values, &fields[1], &format!("{name}[value]"), None)?;
    let fitted = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    Ok(MapArray::try_new(Arc::clone(entries), offsets, fitted, visible, sorted)?)
}

/// The elements of lists without those that no row refers to: a slice keeps all elements, and a null list may keep
/// some.
fn compact<O: OffsetSizeTrait, const N: usize>(
    offsets: &OffsetBuffer<O>,
    visible: Option<&NullBuffer>,
    elements: [&ArrayRef; N],
) -> Result<(OffsetBuffer<O>, [ArrayRef; N])> {
    let shown = |row: usize| visible.is_none_or(|v| v.is_valid(row));
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    let rows = 0..offsets.len() - 1;
    if rows.clone().all(|row| shown(row) || offsets[row] == offsets[row + 1]) {
        let lengths = OffsetBuffer::from_lengths(offsets.lengths());
        return Ok((lengths, elements.map(|e| e.slice(first, last - first))));
    }
    let lengths = rows.clone().map(|row| if shown(row) { (offsets[row + 1] - offsets[row]).as_usize() } else { 0 });
    let kept = rows.filter(|row| shown(*row)).flat_map(|row| offsets[row].as_usize()..offsets[row + 1].as_usize());
    let kept = UInt64Array::from_iter_values(kept.map(|i| i as u64));
    let mut taken = elements.map(Arc::clone);
    for element in &mut taken {
        *element = take(element, &kept, None)?;
    }
    Ok((OffsetBuffer::from_lengths(lengths), taken))
}

fn fit_scalars(
    policy: Policy,
    array: &ArrayRef,
    to: &Field,
    name: &str,
    visible: Option<&NullBuffer>,
) -> Result<ArrayRef> {
    let from = cast(array, plain(array.data_type()))?;
    let refuse = |message: &str, row: usize| {
        let value = array_value_to_string(&from, row).unwrap_or_default();
        let value =
            if value.chars().count() > 100 { value.chars().take(100).collect::<String>() + "…" } else { value };
        let (is, declared) = (type_name(from.data_type()), type_name_of(to));
        // Hive has one name for timestamps of all units.
        let same = is == declared;
        let (is, declared) = match same {
            true => (from.data_type().to_string(), to.data_type().to_string()),
            false => (is, declared),
        };
        Error::refused(message).with("column", name).with("value", value).with("type", is).with("declared", declared)
    };
    let first = |lost: BooleanBuffer| {
        let lost = visible.map_or_else(|| lost.clone(), |v| &lost & v.inner());
        lost.set_indices().next()
    };
    let fit = policy
        .fit(from.data_type(), to.data_type())
        .ok_or_else(|| Error::unexpected("there is no such cast").with("column", name))?;
    let fitted = convert(&from, plain(to.data_type())).map_err(|e| e.with("column", name))?;
    if let Some(row) = first(lost(fit, &from, &fitted)?) {
        return Err(refuse("a value does not fit the declared type without loss", row));
    }
    if let Some(limit) = max_characters(to)
        && let Some(row) = first(longer_than(limit, &fitted))
    {
        return Err(refuse("a text is longer than declared", row));
    }
    cast(&fitted, to.data_type())
}

/// Which values the cast has lost.
fn lost(fit: Fit, from: &ArrayRef, fitted: &ArrayRef) -> Result<BooleanBuffer> {
    let present = |array: &ArrayRef| {
        array.logical_nulls().map_or_else(|| BooleanBuffer::new_set(array.len()), |n| n.inner().clone())
    };
    let vanished = &present(from) & &!&present(fitted);
    Ok(match fit {
        Fit::Always => BooleanBuffer::new_unset(from.len()),
        Fit::Readable => vanished,
        Fit::InRange => &vanished | &(&infinite(fitted) & &!&infinite(from)),
        Fit::RoundTrip => {
            let back = convert(fitted, from.data_type())?;
            let same = not_distinct(&positive_zero(from), &positive_zero(&back))?;
            &vanished | &!same.values()
        }
    })
}

/// Casts; values that cannot be cast become null.
fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    use DataType::*;
    match (array.data_type(), to) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (from, to) if from.is_string() && !to.is_string() && !to.is_binary() => {
            Ok(text::parse_or_null(texts(array).map(|text| text.map(Cow::Borrowed)), to)?)
        }
        // Arrow has no direct cast from some of the other types.
        (from, FixedSizeBinary(_)) if from.is_binary() && *from != Binary => convert(&cast(array, &Binary)?, to),
        // Via a type without a zone: an instant stays the same instant.
        (Timestamp(unit, Some(_)), Timestamp(..) | Date32 | Date64) => {
            convert(&relabel(array, Timestamp(*unit, None))?, to)
        }
        (Timestamp(..) | Date32 | Date64, Timestamp(unit, Some(_))) => {
            relabel(&convert(array, &Timestamp(*unit, None))?, to.clone())
        }
        (Timestamp(..), Date64) => convert(&convert(array, &Date32)?, &Date64),
        // Arrow fails for timestamps outside chrono's years.
        (Timestamp(unit, None), Date32) => {
            let seconds = 86_400;
            let day = match unit {
                TimeUnit::Second => seconds,
                TimeUnit::Millisecond => seconds * 1_000,
                TimeUnit::Microsecond => seconds * 1_000_000,
                TimeUnit::Nanosecond => seconds * 1_000_000_000,
            };
            let counted = cast(array, &Int64)?;
            let days = counted.as_primitive::<Int64Type>();
            Ok(Arc::new(days.unary_opt::<_, Date32Type>(|t| i32::try_from(t.div_euclid(day)).ok())))
        }
        // Arrow multiplies without an overflow check here, but checks between timestamps.
        (Date32, Timestamp(unit, None)) if *unit != TimeUnit::Second => {
            convert(&cast(array, &Timestamp(TimeUnit::Second, None))?, to)
        }
        (Date64, Timestamp(unit, None)) if *unit != TimeUnit::Millisecond => {
            convert(&cast(array, &Timestamp(TimeUnit::Millisecond, None))?, to)
        }
        _ => cast(array, to),
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &options)?)
}

/// The same numbers under another type.
fn relabel(array: &ArrayRef, to: DataType) -> Result<ArrayRef> {
    Ok(make_array(array.to_data().into_builder().data_type(to).build()?))
}

fn texts(array: &ArrayRef) -> Box<dyn Iterator<Item = Option<&str>> + '_> {
    match array.data_type() {
        DataType::Utf8 => Box::new(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => Box::new(array.as_string::<i64>().iter()),
        DataType::Utf8View => Box::new(array.as_string_view().iter()),
        _ => Box::new(std::iter::empty()),
    }
}

fn longer_than(limit: usize, texts_: &ArrayRef) -> BooleanBuffer {
    texts(texts_).map(|t| t.is_some_and(|t| t.len() > limit && t.chars().count() > limit)).collect()
}

fn infinite(floats: &ArrayRef) -> BooleanBuffer {
    fn of<T: ArrowPrimitiveType>(floats: &ArrayRef, test: impl Fn(T::Native) -> bool) -> BooleanBuffer {
        floats.as_primitive::<T>().values().iter().map(|v| test(*v)).collect()
    }
    match floats.data_type() {
        DataType::Float16 => of::<Float16Type>(floats, |v| v.is_infinite()),
        DataType::Float32 => of::<Float32Type>(floats, f32::is_infinite),
        DataType::Float64 => of::<Float64Type>(floats, f64::is_infinite),
        _ => BooleanBuffer::new_unset(floats.len()),
    }
}

/// Arrow treats -0.0 and 0.0 as different numbers.
fn positive_zero(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| v + 0.0)),
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| v + 0.0)),
        _ => Arc::clone(array),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float32Array, Float64Array, Int32Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::Int32Type;
    use hardtack_catalog::HiveType;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn fit(array: &ArrayRef, to: &Field, name: &str, visible: Option<&NullBuffer>) -> Result<ArrayRef> {
        fit_array(Policy::Coerce, array, to, name, visible)
    }
    use crate::testing::batch;

    /// Takes a text as a value of the first type, coerces it to the second, and returns it as text. The value is cast,
    /// so types that JSON does not have can be tested.
    fn check(value: &str, from: &str, to: &str) -> Result<String> {
        let field = |hive: &str| hive.parse::<HiveType>().unwrap().to_field("c", true);
        let text: ArrayRef = Arc::new(StringArray::from(vec![None, Some(value)]));
        let array = convert(&text, field(from).data_type()).unwrap();
        assert!(array.is_valid(1), "{value} is no {from}");
        fit(&array, &field(to), "c", None).map(|fitted| array_value_to_string(&fitted, 1).unwrap())
    }

    #[rstest]
    #[case("127", "bigint", "tinyint", "127")]
    #[case("-7.0", "double", "int", "-7")]
    #[case("-0.0", "double", "int", "0")]
    #[case("7.00", "decimal(5,2)", "smallint", "7")]
    #[case("1.50", "decimal(5,2)", "decimal(3,1)", "1.5")]
    #[case("9007199254740992", "bigint", "double", "9007199254740992.0")]
    #[case("0.1", "double", "float", "0.1")]
    #[case("0.1", "double", "decimal(10,2)", "0.10")]
    #[case("0.29", "decimal(10,2)", "double", "0.29")]
    #[case("NaN", "double", "float", "NaN")]
    #[case("inf", "double", "float", "inf")]
    #[case("-0.0", "float", "int", "0")]
    #[case("1", "int", "boolean", "true")]
    #[case("true", "boolean", "int", "1")]
    #[case("1e3", "string", "int", "1000")]
    #[case("3.0", "string", "int", "3")]
    #[case("9007199254740993.0", "string", "bigint", "9007199254740993")]
    #[case("1e3", "string", "double", "1000.0")]
    #[case("-inf", "string", "double", "-inf")]
    #[case("1e400", "string", "double", "refused")]
    #[case("1e-400", "string", "double", "refused")]
    #[case("9007199254740993", "string", "double", "refused")]
    #[case("3.14159265358979323846", "string", "double", "3.141592653589793")]
    #[case("1e39", "string", "float", "refused")]
    #[case("007", "string", "int", "7")]
    #[case("1.50", "string", "decimal(2,1)", "1.5")]
    #[case("-.5", "string", "decimal(2,1)", "-0.5")]
    #[case("+12e-1", "string", "decimal(2,1)", "1.2")]
    #[case("1200e-3", "string", "decimal(2,1)", "1.2")]
    #[case("0e99999", "string", "decimal(2,1)", "0.0")]
    #[case(
        "99999999999999999999999999999999999999",
        "string",
        "decimal(38,0)",
        "99999999999999999999999999999999999999"
    )]
    #[case("100000000000000000000000000000000000000", "string", "decimal(38,0)", "refused")]
    #[case(
        "115792089237316195423570985008687907853269984665640564039457584007913129639937",
        "string",
        "decimal(38,0)",
        "refused"
    )]
    #[case("1e2147483647", "string", "decimal(38,0)", "refused")]
    #[case("1.23", "string", "decimal(2,1)", "refused")]
    #[case("1.23e0", "string", "decimal(2,1)", "refused")]
    #[case("1e65538", "string", "decimal(2,1)", "refused")]
    #[case("e5", "string", "decimal(2,1)", "refused")]
    #[case("-", "string", "decimal(2,1)", "refused")]
    #[case("+", "string", "decimal(2,1)", "refused")]
    #[case("", "string", "decimal(2,1)", "refused")]
    #[case(".", "string", "decimal(2,1)", "refused")]
    #[case("1.2.3", "string", "decimal(2,1)", "refused")]
    #[case(" 1", "string", "int", "refused")]
    #[case("", "string", "int", "refused")]
    #[case("1.5", "string", "int", "refused")]
    #[case("yes", "string", "boolean", "true")]
    #[case("maybe", "string", "boolean", "refused")]
    #[case("tru", "string", "boolean", "refused")]
    #[case("2024-02-29", "string", "date", "2024-02-29")]
    #[case("2023-02-29", "string", "date", "refused")]
    #[case("20240131", "string", "date", "refused")]
    #[case("1987", "string", "date", "refused")]
    #[case("1700000000", "string", "timestamp", "refused")]
    #[case("2016-12-31T23:59:60Z", "string", "timestamp", "refused")]
    #[case("2024-02-29T00:00:00Z", "string", "date", "2024-02-29")]
    #[case("2024-02-29T00:00:01Z", "string", "date", "refused")]
    #[case("2024-02-29T00:00:00+01:00", "string", "date", "refused")]
    #[case("+10999-12-31", "string", "date", "+10999-12-31")]
    #[case("2024-02-29 12:00:00.123456000", "string", "timestamp", "2024-02-29T12:00:00.123456")]
    #[case("2024-02-29 12:00:00.1234567", "string", "timestamp", "refused")]
    #[case("2024-02-29T12:00:00+02:00", "string", "timestamp", "2024-02-29T10:00:00")]
    #[case("2024-02-29", "date", "timestamp", "2024-02-29T00:00:00")]
    #[case("+200000-01-01", "date", "timestamp", "+200000-01-01T00:00:00")]
    #[case("2024-02-29", "date", "timestamp with local time zone", "2024-02-29T00:00:00Z")]
    #[case("2024-02-29T00:00:00", "timestamp", "date", "2024-02-29")]
    #[case("2024-02-29T00:00:00.000001", "timestamp", "date", "refused")]
    #[case("1969-12-31T23:59:59.999999", "timestamp", "date", "refused")]
    #[case("2024-02-29T00:00:00Z", "timestamp with local time zone", "date", "2024-02-29")]
    #[case("2024-02-29T10:00:00", "timestamp", "timestamp with local time zone", "2024-02-29T10:00:00Z")]
    #[case("128", "bigint", "tinyint", "refused")]
    #[case("-1.5", "double", "int", "refused")]
    #[case("2.5", "double", "bigint", "refused")]
    #[case("2.5", "float", "int", "refused")]
    #[case("2.5", "float", "bigint", "refused")]
    #[case("2", "double", "bigint", "2")]
    #[case("NaN", "double", "int", "refused")]
    #[case("inf", "double", "decimal(38,0)", "refused")]
    #[case("1e300", "double", "float", "refused")]
    #[case("1.25", "double", "decimal(10,1)", "refused")]
    #[case("9007199254740993", "bigint", "double", "refused")]
    #[case("9223372036854775807", "bigint", "double", "refused")]
    #[case("16777217", "int", "float", "refused")]
    #[case("1.25", "decimal(5,2)", "decimal(5,1)", "refused")]
    #[case("123.00", "decimal(5,2)", "decimal(2,0)", "refused")]
    #[case("0.1234567890123456789", "decimal(38,19)", "double", "refused")]
    #[case("2", "int", "boolean", "refused")]
    #[case("2147483647", "int", "decimal(10,0)", "2147483647")]
    #[case("1000000000", "int", "decimal(9,0)", "refused")]
    #[case("1000", "smallint", "decimal(5,2)", "refused")]
    #[case("99.99", "decimal(4,2)", "decimal(4,3)", "refused")]
    #[case("äöü", "string", "varchar(3)", "äöü")]
    #[case("äöüß", "string", "varchar(3)", "äöüß is too long")]
    #[case("1234", "int", "char(3)", "1234 is too long")]
    fn a_cast_is_exact_or_refused(#[case] value: &str, #[case] from: &str, #[case] to: &str, #[case] expected: &str) {
        let found = check(value, from, to).unwrap_or_else(|e| match e.message() {
            "a value does not fit the declared type without loss" => "refused".to_owned(),
            "a text is longer than declared" => format!("{value} is too long"),
            other => other.to_owned(),
        });
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case(
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        1_001,
        None
    )]
    #[case(DataType::Timestamp(TimeUnit::Nanosecond, None), DataType::Timestamp(TimeUnit::Second, None), -2_000_000_000, Some(-2))]
    #[case(DataType::Timestamp(TimeUnit::Second, None), DataType::Timestamp(TimeUnit::Nanosecond, None), i64::MAX / 1000, None)]
    #[case(DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into())), DataType::Timestamp(TimeUnit::Millisecond, None), 7, Some(7000))]
    #[case(DataType::Timestamp(TimeUnit::Second, None), DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into())), 7, Some(7))]
    #[case(DataType::Date64, DataType::Timestamp(TimeUnit::Nanosecond, None), i64::MAX / 1000, None)]
    #[case(DataType::Timestamp(TimeUnit::Second, None), DataType::Date64, 86_400, Some(86_400_000))]
    #[case(DataType::Timestamp(TimeUnit::Millisecond, None), DataType::Date64, 86_400_000, Some(86_400_000))]
    #[case(DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Date64, 86_400_000_000, Some(86_400_000))]
    #[case(DataType::Timestamp(TimeUnit::Nanosecond, None), DataType::Date64, 86_400_000_000_000, Some(86_400_000))]
    #[case(DataType::Timestamp(TimeUnit::Second, Some("America/New_York".into())), DataType::Date64, 86_400, Some(86_400_000))]
    #[case(DataType::Timestamp(TimeUnit::Millisecond, None), DataType::Date64, 1, None)]
    #[case(DataType::Timestamp(TimeUnit::Second, None), DataType::Date64, i64::MAX, None)]
    fn an_instant_stays_the_same_instant(
        #[case] from: DataType,
        #[case] to: DataType,
        #[case] value: i64,
        #[case] expected: Option<i64>,
    ) {
        let numbers: ArrayRef = Arc::new(datafusion::arrow::array::Int64Array::from(vec![value]));
        let fitted = fit(&relabel(&numbers, from).unwrap(), &Field::new("c", to, true), "c", None);
        assert!(fitted.as_ref().err().is_none_or(|e| e.kind() == hardtack_core::ErrorKind::Refused), "{fitted:?}");
        let fitted = fitted.map(|f| relabel(&f, DataType::Int64).unwrap());
        assert_eq!(fitted.ok().map(|f| f.as_primitive::<datafusion::arrow::datatypes::Int64Type>().value(0)), expected);
    }

    /// Every cast that the rules allow works, and by a plain cast where they say so.
    #[test]
    fn no_cast_fails_but_for_its_values() {
        use DataType::*;
        let samples: &[(&str, &[DataType])] = &[
            ("1", &[Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float16, Float32, Float64]),
            ("1", &[Decimal32(5, 2), Decimal64(9, 2), Decimal128(5, 2), Decimal256(40, 2), Decimal128(38, 0)]),
            ("1", &[Utf8, LargeUtf8, Utf8View, Binary, LargeBinary, BinaryView, FixedSizeBinary(1), Boolean]),
            ("2024-01-01", &[Date32, Date64, Timestamp(TimeUnit::Second, None), Utf8]),
            ("2024-01-01", &[Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), Utf8View]),
            ("10:00:00", &[Time32(TimeUnit::Second), Time64(TimeUnit::Nanosecond), Utf8]),
        ];
        let types: Vec<&DataType> = samples.iter().flat_map(|(_, types)| *types).collect();
        for (sample, from) in samples.iter().flat_map(|(sample, types)| types.iter().map(move |t| (sample, t))) {
            let text: ArrayRef = Arc::new(StringArray::from(vec![None, Some(*sample)]));
            let text = if from.is_binary() { cast(&text, &Binary).unwrap() } else { text };
            let array = convert(&text, from).unwrap();
            assert!(array.is_valid(1), "{sample} is no {from}");
            for to in &types {
                let Some(rule) = Policy::Coerce.fit(from, to) else { continue };
                match fit(&array, &Field::new("c", (*to).clone(), true), "c", None) {
                    Ok(fitted) => assert!(fitted.is_null(0) && fitted.is_valid(1), "{from} to {to}"),
                    Err(e) => {
                        assert_eq!(e.kind(), hardtack_core::ErrorKind::Refused, "{from} to {to}: {e:?}");
                        assert_ne!(rule, Fit::Always, "{from} to {to}: {e:?}");
                    }
                }
                if rule == Fit::Always {
                    let strict = CastOptions { safe: false, ..CastOptions::default() };
                    cast_with_options(&array, to, &strict).unwrap();
                }
            }
        }
    }

    #[rstest]
    #[case(
        "s: struct<x:bigint,gone:string,l:array<bigint>>",
        "s: struct<l:array<tinyint>,x:int>",
        r#"{"s":{"x":1,"gone":"g","l":[1,null]}}"#,
        Ok("{l: [1, ], x: 1}")
    )]
    #[case(
        "s: struct<l:array<bigint>>",
        "s: struct<l:array<tinyint>>",
        r#"{"s":{"l":[1,128]}}"#,
        Err(
            "a value does not fit the declared type without loss (column: s.l[], value: 128, type: bigint, declared: tinyint)"
        )
    )]
    #[case(
        "m: map<string,string>",
        "m: map<string,date>",
        r#"{"m":{"a":"2024-01-01","b":null}}"#,
        Ok("{a: 2024-01-01, b: }")
    )]
    #[case(
        "m: map<string,string>",
        "m: map<string,date>",
        r#"{"m":{"a":"soon"}}"#,
        Err(
            "a value does not fit the declared type without loss (column: m[value], value: soon, type: string, declared: date)"
        )
    )]
    #[case(
        "m: map<string,string>",
        "m: map<int,string>",
        r#"{"m":{"x":"y"}}"#,
        Err(
            "a value does not fit the declared type without loss (column: m[key], value: x, type: string, declared: int)"
        )
    )]
    #[case(
        "a: array<string>",
        "a: array<varchar(2)>",
        r#"{"a":["ok","too long"]}"#,
        Err("a text is longer than declared (column: a[], value: too long, type: string, declared: varchar(2))")
    )]
    #[case(
        "a: array<string>",
        "a: array<string> not null",
        r#"{"a":null}"#,
        Err("a column that is declared not null is null (column: a)")
    )]
    fn nested_values_are_cast_in_depth(
        #[case] from: &str,
        #[case] to: &str,
        #[case] row: &str,
        #[case] expected: Result<&str, &str>,
    ) {
        let batch = batch(from, &[row]);
        let to = hardtack_catalog::schema_literal(to);
        let fitted = fit(batch.column(0), to.field(0), to.field(0).name(), None);
        let fitted = fitted.map(|f| array_value_to_string(&f, 0).unwrap()).map_err(|e| e.to_string());
        assert_eq!(fitted.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn what_a_null_hides_is_not_looked_at() {
        // Row 0 is null, above a field with a value that would not fit; row 1 is a null list that keeps its elements.
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1000), None]));
        let fields = Fields::from(vec![Field::new("x", DataType::Int32, true)]);
        let row: ArrayRef =
            Arc::new(StructArray::new(fields, vec![numbers], Some(NullBuffer::from(vec![false, true]))));
        let to = |nullable| {
            let x = Field::new("x", DataType::Int8, nullable);
            Field::new("s", DataType::Struct(Fields::from(vec![x])), true)
        };
        assert_eq!(fit(&row, &to(true), "s", None).unwrap().null_count(), 1);
        let error = fit(&row, &to(false), "s", None).unwrap_err();
        assert_eq!(error.to_string(), "a column that is declared not null is null (column: s.x)");

        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(7)]));
        let fields = Fields::from(vec![Field::new("x", DataType::Int32, true)]);
        let row: ArrayRef =
            Arc::new(StructArray::new(fields, vec![numbers], Some(NullBuffer::from(vec![false, true]))));
        assert_eq!(array_value_to_string(&fit(&row, &to(false), "s", None).unwrap(), 1).unwrap(), "{x: 7}");

        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(999), None]), Some([Some(1), Some(2)])]);
        let (field, offsets, values, _) = list.into_parts();
        let list: ArrayRef =
            Arc::new(ListArray::new(field, offsets, values, Some(NullBuffer::from(vec![false, true]))));
        let to = Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Int8, false))), true);
        let fitted = fit(&list, &to, "l", None).unwrap();
        assert_eq!(array_value_to_string(&fitted, 1).unwrap(), "[1, 2]");

        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), Some(2)]), Some([Some(999), None])]);
        let (field, offsets, values, _) = list.into_parts();
        let list: ArrayRef =
            Arc::new(ListArray::new(field, offsets, values, Some(NullBuffer::from(vec![true, false]))));
        let to = Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Int8, false))), true);
        let fitted = fit(&list, &to, "l", None).unwrap();
        assert_eq!(array_value_to_string(&fitted, 0).unwrap(), "[1, 2]");
        let fitted = fit(&list.slice(1, 1), &to, "l", None).unwrap();
        assert!(fitted.is_null(0));

        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some([None, Some(999)]), Some([Some(1), Some(2)])]);
        let fitted = fit(&(Arc::new(list.slice(1, 1)) as ArrayRef), &to, "l", None).unwrap();
        assert_eq!(array_value_to_string(&fitted, 0).unwrap(), "[1, 2]");
    }

    #[test]
    fn encodings_of_lists_and_texts_do_not_matter() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), Some(2)]), None]);
        let large =
            cast(&(Arc::new(list) as ArrayRef), &DataType::LargeList(Arc::new(Field::new("x", DataType::Int32, true))));
        let to = "array<string>".parse::<HiveType>().unwrap().to_field("l", true);
        let fitted = fit(&large.unwrap(), &to, "l", None).unwrap();
        assert_eq!(array_value_to_string(&fitted, 0).unwrap(), "[1, 2]");

        let text: ArrayRef = Arc::new(StringArray::from(vec!["1", "x"]));
        let encoded = cast(&text, &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))).unwrap();
        let error = fit(&encoded, &Field::new("c", DataType::Int64, true), "c", None).unwrap_err();
        assert_eq!(error.get("value"), Some("x"));
    }

    /// Types and values must agree: conversions that types allow work, those that they refuse are errors.
    #[rstest]
    #[case::nulls(DataType::Null, DataType::Int32, Ok(""))]
    #[case::large(list(DataType::Int32), DataType::LargeList(item(DataType::Int64)), Ok("[1, 2]"))]
    #[case::view(DataType::ListView(item(DataType::Int32)), list(DataType::Int64), Ok("[1, 2]"))]
    #[case::fixed(fixed(DataType::Int32, 2), fixed(DataType::Int64, 2), Ok("[1, 2]"))]
    #[case::no_longer_fixed(fixed(DataType::Int32, 2), list(DataType::Int64), Ok("[1, 2]"))]
    #[case::longer(fixed(DataType::Int32, 2), fixed(DataType::Int64, 3), Err("c"))]
    #[case::newly_fixed(list(DataType::Int32), fixed(DataType::Int64, 2), Err("c"))]
    #[case::elements(list(DataType::Int32), list(DataType::Date32), Err("c[]"))]
    #[case::map(hive("map<string,int>"), hive("map<string,bigint>"), Ok("{a: 1}"))]
    #[case::map_values(hive("map<string,int>"), hive("map<string,date>"), Err("c[value]"))]
    fn types_say_what_values_can_become(
        #[case] from: DataType,
        #[case] to: DataType,
        #[case] expected: Result<&str, &str>,
    ) {
        let array = match &from {
            DataType::Null => new_null_array(&from, 1),
            DataType::Map(..) => Arc::clone(batch("c: map<string,int>", &[r#"{"c":{"a":1}}"#]).column(0)),
            _ => {
                let list: ArrayRef =
                    Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), Some(2)])]));
                cast(&list, &from).unwrap()
            }
        };
        let to = Field::new("c", to, true);
        let problem = super::super::conversion_problem(Policy::Coerce, &Field::new("c", from, true), &to);
        let fitted = fit(&array, &to, "c", None);
        match expected {
            Ok(shown) => {
                assert_eq!(problem.map(|p| p.path), None);
                let fitted = fitted.unwrap();
                assert_eq!(fitted.data_type(), to.data_type());
                assert_eq!(array_value_to_string(&fitted, 0).unwrap(), shown);
            }
            Err(path) => {
                assert_eq!(problem.map(|p| p.path).as_deref(), Some(path));
                assert_eq!(fitted.unwrap_err().get("column"), Some(path));
            }
        }
    }

    fn hive(name: &str) -> DataType {
        DataType::from(&name.parse::<HiveType>().unwrap())
    }

    fn item(element: DataType) -> FieldRef {
        Arc::new(Field::new("item", element, true))
    }

    fn list(element: DataType) -> DataType {
        DataType::List(item(element))
    }

    fn fixed(element: DataType, length: i32) -> DataType {
        DataType::FixedSizeList(item(element), length)
    }

    #[test]
    fn days_and_halves_have_their_range() {
        let days: ArrayRef = Arc::new(datafusion::arrow::array::Date32Array::from(vec![3_000_000]));
        let nanoseconds = Field::new("c", DataType::Timestamp(TimeUnit::Nanosecond, None), true);
        assert_eq!(fit(&days, &nanoseconds, "c", None).unwrap_err().kind(), hardtack_core::ErrorKind::Refused);

        let double: ArrayRef = Arc::new(Float64Array::from(vec![70_000.0]));
        let half = Field::new("c", DataType::Float16, true);
        assert_eq!(fit(&double, &half, "c", None).unwrap_err().kind(), hardtack_core::ErrorKind::Refused);
    }

    #[test]
    fn sensitive_values_are_in_no_message() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let to = Field::new("c", DataType::Int64, true);
        let hidden = to.clone().with_metadata([("sensitive".to_owned(), "true".to_owned())].into());
        for (to, value) in [(to, "x"), (hidden, "(redacted)")] {
            let error = crate::convert_array(Policy::Coerce, &text, &to).unwrap_err();
            assert_eq!(error.get("value"), Some(value), "{error}");
        }
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["ä".repeat(1000)]));
        let error = fit(&text, &Field::new("c", DataType::Int64, true), "c", None).unwrap_err();
        assert_eq!(error.get("value"), Some(format!("{}…", "ä".repeat(100)).as_str()));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["ä".repeat(100)]));
        let error = fit(&text, &Field::new("c", DataType::Int64, true), "c", None).unwrap_err();
        assert_eq!(error.get("value"), Some("ä".repeat(100).as_str()));
    }

    proptest! {
        /// Every value that passes comes back; every value that is refused does not fit.
        #[test]
        fn integers_survive_or_are_refused(values in prop::collection::vec(any::<i64>(), 1..20), bits in 0usize..4) {
            let to = [DataType::Int8, DataType::Int16, DataType::Int32, DataType::UInt64][bits].clone();
            let fits = |v: &i64| match bits {
                0 => i8::try_from(*v).is_ok(),
                1 => i16::try_from(*v).is_ok(),
                2 => i32::try_from(*v).is_ok(),
                _ => u64::try_from(*v).is_ok(),
            };
            let array: ArrayRef = Arc::new(datafusion::arrow::array::Int64Array::from(values.clone()));
            let fitted = fit(&array, &Field::new("c", to, true), "c", None);
            prop_assert_eq!(fitted.is_ok(), values.iter().all(fits));
            if let Ok(fitted) = fitted {
                prop_assert_eq!(&convert(&fitted, &DataType::Int64).unwrap(), &array);
            }
        }

        #[test]
        fn doubles_become_floats_by_rounding(values in prop::collection::vec(any::<f64>(), 1..20)) {
            let array: ArrayRef = Arc::new(Float64Array::from(values.clone()));
            let fitted = fit(&array, &Field::new("c", DataType::Float32, true), "c", None);
            let rounded: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            let fits = values.iter().zip(&rounded).all(|(v, r)| v.is_infinite() || !r.is_infinite());
            prop_assert_eq!(fitted.is_ok(), fits);
            if let Ok(fitted) = fitted {
                let expected: ArrayRef = Arc::new(Float32Array::from(rounded));
                prop_assert!(not_distinct(&fitted, &expected).unwrap().values().set_indices().count() == values.len()
                    || values.iter().any(|v| v.is_nan()));
            }
        }
    }
}
