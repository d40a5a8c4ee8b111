//! Values keep what types promise: for any two types that have a united type, the values of both can be cast there and
//! back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, FixedSizeBinaryArray,
    FixedSizeListArray, Float32Array, Float64Array, Int64Array, LargeListArray, ListArray, MapArray, StringArray,
    StructArray, UInt64Array, make_array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use hardtack_catalog::types::Policy;
use hardtack_core::ErrorKind;
use proptest::prelude::*;

use super::convert_array;

const UNITS: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

fn scalar() -> impl Strategy<Value = DataType> {
    use DataType::*;
    let number = vec![Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float16, Float32, Float64];
    let text = vec![Utf8, LargeUtf8, Utf8View];
    let binary = vec![Binary, LargeBinary, BinaryView, FixedSizeBinary(2), FixedSizeBinary(3)];
    let time = UNITS.into_iter().map(|unit| if unit < TimeUnit::Microsecond { Time32(unit) } else { Time64(unit) });
    let dictionary = vec![
        Dictionary(Box::new(Int16), Box::new(Int64)),
        Dictionary(Box::new(Int16), Box::new(Utf8)),
        Dictionary(Box::new(Int32), Box::new(Decimal128(9, 2))),
        RunEndEncoded(Arc::new(Field::new("run_ends", Int32, false)), Arc::new(Field::new("values", Int32, true))),
    ];
    let zone = prop::sample::select(vec![None, Some("UTC"), Some("+00:00"), Some("+05:30")]);
    prop_oneof![
        6 => prop::sample::select(number),
        2 => prop::sample::select(text),
        2 => prop::sample::select(binary),
        1 => prop::sample::select(time.collect::<Vec<_>>()),
        1 => prop::sample::select(dictionary),
        1 => prop::sample::select(vec![Boolean, Date32, Date64]),
        2 => (1u8..=38, 0i8..=10).prop_map(|(p, s)| Decimal128(p.max(s as u8), s)),
        1 => (1u8..=38, 0i8..=10).prop_map(|(p, s)| Decimal256(p.max(s as u8), s)),
        2 => (prop::sample::select(UNITS.to_vec()), zone).prop_map(|(unit, zone)| Timestamp(unit, zone.map(Into::into))),
        1 => prop::sample::select(UNITS.to_vec()).prop_map(Duration),
    ]
}

/// Two types of one shape, so that they mostly have a common type.
fn pair() -> impl Strategy<Value = (DataType, DataType)> {
    let item = |of: DataType| Arc::new(Field::new("item", of, true));
    let list = move |kind: usize, of: DataType| match kind {
        0 => DataType::List(item(of)),
        1 => DataType::LargeList(item(of)),
        2 => DataType::ListView(item(of)),
        n => DataType::FixedSizeList(item(of), n as i32 - 1),
    };
    let map = |key: DataType, value: DataType| {
        let entry = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
    };
    let field = |name: &str, of: Option<DataType>| of.map(|of| Field::new(name, of, true));
    (scalar(), scalar()).prop_recursive(3, 8, 2, move |inner| {
        prop_oneof![
            (inner.clone(), 0usize..5, 0usize..5).prop_map(move |((a, b), k, l)| (list(k, a), list(l, b))),
            (inner.clone(), inner.clone()).prop_map(move |((a, b), (c, d))| {
                // The key of a map is a non-null scalar.
                let encoded = |of: &DataType| matches!(of, DataType::Dictionary(..) | DataType::RunEndEncoded(..));
                let key = |of: DataType| match of.is_nested() || of == DataType::Null || encoded(&of) {
                    true => DataType::Int32,
                    false => of,
                };
                (map(key(a), c), map(key(b), d))
            }),
            (inner.clone(), inner.clone(), any::<[bool; 2]>()).prop_map(move |((a, b), (c, d), [mine, theirs])| {
                let one = [field("a", Some(a)), field("b", mine.then_some(c))];
                let other = [field("b", theirs.then_some(d)), field("a", Some(b))];
                let all = |fields: [Option<Field>; 2]| DataType::Struct(fields.into_iter().flatten().collect());
                (all(one), all(other))
            }),
        ]
    })
}

/// Numbers, about half of them at the limits of types.
fn numbers() -> impl Strategy<Value = Vec<i64>> {
    let border = (0u32..63, -2i64..=2, any::<bool>()).prop_map(|(bits, near, negative)| {
        let border = (1i64 << bits).saturating_add(near);
        if negative { -border } else { border }
    });
    prop::collection::vec(prop_oneof![border, -1000i64..1000, any::<i64>()], 64)
}

/// An array made of these numbers.
fn array(of: &DataType, rows: usize, numbers: &mut impl Iterator<Item = i64>) -> ArrayRef {
    use DataType::*;
    let mut next = || numbers.next().unwrap();
    let plain = |of: &DataType, from: ArrayRef| {
        cast_with_options(&from, of, &CastOptions { safe: true, ..CastOptions::default() }).unwrap()
    };
    let mut some = |i: usize| (i % 4 != 3).then(&mut next);
    let day = |unit: TimeUnit| match unit {
        TimeUnit::Second => 86_400,
        TimeUnit::Millisecond => 86_400_000,
        TimeUnit::Microsecond => 86_400_000_000,
        TimeUnit::Nanosecond => 86_400_000_000_000,
    };
    match of {
        Null => new_null_array(of, rows),
        Boolean => Arc::new((0..rows).map(|i| some(i).map(|n| n > 0)).collect::<BooleanArray>()),
        UInt64 => Arc::new((0..rows).map(|i| some(i).map(|n| n as u64)).collect::<UInt64Array>()),
        Float64 => Arc::new((0..rows).map(|i| some(i).map(|n| n as f64 / 8.0)).collect::<Float64Array>()),
        Float32 => Arc::new((0..rows).map(|i| some(i).map(|n| n as f32 / 8.0)).collect::<Float32Array>()),
        Float16 => plain(of, Arc::new((0..rows).map(|i| some(i).map(|n| (n % 2048) as f32)).collect::<Float32Array>())),
        of if of.is_integer() => {
            let bits = of.primitive_width().unwrap() * 8;
            let small =
                |n: i64| if of.is_signed_integer() { n >> (64 - bits) } else { (n as u64 >> (64 - bits)) as i64 };
            // Small numbers as well, not only truncated large ones.
            let fit = |n: i64| if n.unsigned_abs() < 100 { n.abs() } else { small(n) };
            plain(of, Arc::new((0..rows).map(|i| some(i).map(fit)).collect::<Int64Array>()))
        }
        Decimal128(p, s) => {
            let limit = 10i128.pow(u32::from(*p));
            let numbers = (0..rows).map(|i| some(i).map(|n| i128::from(n) * 12_345_678_901 % limit));
            Arc::new(numbers.collect::<Decimal128Array>().with_precision_and_scale(*p, *s).unwrap())
        }
        Decimal256(p, s) => plain(of, array(&Decimal128(*p, *s), rows, numbers)),
        Utf8 => Arc::new((0..rows).map(|i| some(i).map(|n| n.to_string())).collect::<StringArray>()),
        Binary => Arc::new((0..rows).map(|i| some(i).map(|n| n.to_be_bytes())).collect::<BinaryArray>()),
        FixedSizeBinary(size) => {
            let values = (0..rows).map(|i| some(i).map(|n| n.to_be_bytes()[..*size as usize].to_vec()));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *size).unwrap())
        }
        LargeUtf8 | Utf8View => plain(of, array(&Utf8, rows, numbers)),
        LargeBinary | BinaryView => plain(of, array(&Binary, rows, numbers)),
        Date32 => Arc::new((0..rows).map(|i| some(i).map(|n| n as i32)).collect::<Date32Array>()),
        Date64 => {
            let days = (0..rows).map(|i| some(i).map(|n| i64::from(n as i32) * 86_400_000));
            Arc::new(days.collect::<Date64Array>())
        }
        Time32(unit) => {
            let times = (0..rows).map(|i| some(i).map(|n| n.rem_euclid(day(*unit))));
            plain(of, plain(&Int32, Arc::new(times.collect::<Int64Array>())))
        }
        Time64(unit) => {
            let times = (0..rows).map(|i| some(i).map(|n| n.rem_euclid(day(*unit))));
            plain(of, Arc::new(times.collect::<Int64Array>()))
        }
        Timestamp(..) | Duration(_) => {
            let numbers = (0..rows).map(some).collect::<Int64Array>();
            make_array(numbers.into_data().into_builder().data_type(of.clone()).build().unwrap())
        }
        Dictionary(_, values) => plain(of, array(values, rows, numbers)),
        RunEndEncoded(_, values) => plain(of, array(values.data_type(), rows, numbers)),
        Struct(fields) if fields.is_empty() => Arc::new(StructArray::new_empty_fields(rows, None)),
        Struct(fields) => {
            let columns = fields.iter().map(|f| array(f.data_type(), rows, numbers)).collect();
            let nulls = NullBuffer::from((0..rows).map(|i| i % 5 != 4).collect::<Vec<_>>());
            Arc::new(StructArray::new(fields.clone(), columns, Some(nulls)))
        }
        List(item) => {
            let lengths: Vec<usize> = (0..rows).map(|i| i % 3).collect();
            let values = array(item.data_type(), lengths.iter().sum(), numbers);
            let nulls = NullBuffer::from((0..rows).map(|i| i % 4 != 2).collect::<Vec<_>>());
            Arc::new(ListArray::new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, Some(nulls)))
        }
        LargeList(item) => {
            let lengths: Vec<usize> = (0..rows).map(|i| (i + 1) % 3).collect();
            let values = array(item.data_type(), lengths.iter().sum(), numbers);
            Arc::new(LargeListArray::new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, None))
        }
        ListView(item) => plain(of, array(&List(Arc::clone(item)), rows, numbers)),
        FixedSizeList(item, size) => {
            let values = array(item.data_type(), rows * *size as usize, numbers);
            let nulls = NullBuffer::from((0..rows).map(|i| i % 3 != 1).collect::<Vec<_>>());
            Arc::new(FixedSizeListArray::new(Arc::clone(item), *size, values, Some(nulls)))
        }
        Map(entries, sorted) => {
            let Struct(fields) = entries.data_type() else { unreachable!() };
            let lengths: Vec<usize> = (0..rows).map(|i| i % 3).collect();
            let count = lengths.iter().sum();
            // Every fourth number becomes null, except in keys.
            let keys = array(fields[0].data_type(), count * 2, numbers);
            let places: UInt64Array =
                (0..count * 2).filter(|i| keys.is_valid(*i)).map(|i| i as u64).take(count).collect();
            let keys = arrow::compute::take(&keys, &places, None).unwrap();
            let values = array(fields[1].data_type(), count, numbers);
            let pairs = StructArray::new(fields.clone(), vec![keys, values], None);
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(MapArray::new(Arc::clone(entries), offsets, pairs, None, *sorted))
        }
        other => unreachable!("{other}"),
    }
}

/// The type with one encoding for all kinds of lists and values.
fn canonical(of: &DataType) -> DataType {
    use DataType::*;
    let inner = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(canonical(field.data_type())));
    match of {
        List(item) | LargeList(item) | ListView(item) | FixedSizeList(item, _) => List(inner(item)),
        Struct(fields) => Struct(fields.iter().map(inner).collect()),
        Map(entries, sorted) => Map(inner(entries), *sorted),
        Dictionary(_, values) => canonical(values),
        RunEndEncoded(_, values) => canonical(values.data_type()),
        other => other.clone(),
    }
}

/// Whether values may be out of range of the united type, which is only checked when they are read.
fn has_range(of: &DataType) -> bool {
    match of {
        DataType::Timestamp(..) | DataType::Duration(_) | DataType::Date32 | DataType::Date64 => true,
        DataType::Struct(fields) => fields.iter().any(|f| has_range(f.data_type())),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => has_range(f.data_type()),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn united_types_hold_the_values_of_both((a, b) in pair(), numbers in numbers()) {
        let field = |of: &DataType| Field::new("c", of.clone(), true);
        let Ok(united) = Policy::Infer.unite(&field(&a), &field(&b)) else { return Ok(()) };
        for of in [&a, &b] {
            let values = array(of, 9, &mut numbers.iter().copied().cycle());
            let original = convert_array(Policy::Coerce, &values, &field(&canonical(of))).unwrap();
            match convert_array(Policy::Read, &values, &united) {
                Ok(wide) => {
                    prop_assert_eq!(wide.data_type(), united.data_type());
                    let back = convert_array(Policy::Coerce, &wide, &field(&canonical(of))).unwrap();
                    prop_assert_eq!(&back, &original, "{} in {}", of, united);
                }
                Err(e) => {
                    prop_assert!(has_range(of), "{e}");
                    prop_assert_eq!(e.kind(), ErrorKind::Refused, "{}", e.chain());
                    prop_assert!(e.get("value").is_some(), "{e}");
                }
            }
        }
    }

    /// A value that passes under a policy stays the same: cast back to its original type, it is equal.
    #[test]
    fn what_is_read_is_what_was_stored(from in scalar(), to in scalar(), numbers in numbers()) {
        let Some(_) = Policy::Read.fit(&from, &to) else { return Ok(()) };
        let values = array(&from, 9, &mut numbers.iter().copied().cycle());
        let plain = canonical(&from);
        // The same number or time can be written as many texts.
        prop_assume!(!plain.is_string() && !canonical(&to).is_string());
        let field = |of: &DataType| Field::new("c", of.clone(), true);
        let original = convert_array(Policy::Coerce, &values, &field(&plain)).unwrap();
        // One by one, because a single value that does not fit fails the whole array.
        for row in 0..values.len() {
            if let Ok(read) = convert_array(Policy::Read, &values.slice(row, 1), &field(&to)) {
                let back = convert_array(Policy::Coerce, &read, &field(&plain)).unwrap();
                prop_assert_eq!(&back, &original.slice(row, 1), "{} as {}", from, to);
            }
        }
    }
}
