//! Copies runs of rows from many arrays into one.
//!
//! The rows of one partition lie in short runs in many batches. Copying run by run touches each run once; the general
//! kernel (`interleave`), which copies row by row, takes several times as long for texts. It is used for everything
//! that is neither text nor a plain number.

use std::hint::black_box;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanBufferBuilder, GenericByteArray, PrimitiveArray, StringArray,
    downcast_primitive,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::interleave;
use datafusion::arrow::datatypes::{
    ArrowNativeType, ByteArrayType, DataType, GenericBinaryType, GenericStringType, UInt32Type,
};
use datafusion::common::{Result, exec_datafusion_err};

use super::pack::{Texts, as_packed, with_texts};

/// A run of consecutive rows: array number, first row, number of rows.
pub(super) type RowRun = (usize, usize, usize);

/// The rows of these runs, `rows` in total. Texts may be packed.
pub(super) fn copy(to: &DataType, arrays: &[&dyn Array], runs: &[RowRun], rows: usize) -> Result<ArrayRef> {
    macro_rules! primitive {
        ($t:ty) => {
            Ok(primitives::<$t>(arrays, runs, rows))
        };
    }
    downcast_primitive! {
        to => (primitive),
        DataType::Utf8 => texts(arrays, runs, rows),
        DataType::LargeUtf8 => bytes::<GenericStringType<i64>>(arrays, runs, rows),
        DataType::Binary => bytes::<GenericBinaryType<i32>>(arrays, runs, rows),
        DataType::LargeBinary => bytes::<GenericBinaryType<i64>>(arrays, runs, rows),
        _ => row_by_row(arrays, runs)
    }
}

/// Texts, which stay packed if all arrays are packed with the same texts.
pub(super) fn copy_packed(arrays: &[&dyn Array], runs: &[RowRun], rows: usize) -> Result<ArrayRef> {
    let packed: Option<Vec<_>> = arrays.iter().map(|array| array.as_dictionary_opt::<UInt32Type>()).collect();
    if let Some(packed) = packed
        && packed.windows(2).all(|pair| Arc::ptr_eq(pair[0].values(), pair[1].values()))
    {
        let numbers: Vec<&dyn Array> = packed.iter().map(|packed| packed.keys() as &dyn Array).collect();
        let numbers = primitives::<UInt32Type>(&numbers, runs, rows);
        fetch_texts(numbers.as_primitive::<UInt32Type>().values(), packed[0].values().as_string());
        return with_texts(numbers.as_primitive(), packed[0].values());
    }
    as_packed(texts(arrays, runs, rows)?)
}

fn row_by_row(arrays: &[&dyn Array], runs: &[RowRun]) -> Result<ArrayRef> {
    let rows: Vec<(usize, usize)> =
        runs.iter().flat_map(|(array, start, rows)| (*start..start + rows).map(|row| (*array, row))).collect();
    Ok(interleave(arrays, &rows)?)
}

fn primitives<T: ArrowPrimitiveType>(arrays: &[&dyn Array], runs: &[RowRun], rows: usize) -> ArrayRef {
    let mut values: Vec<T::Native> = Vec::with_capacity(rows);
    let typed: Vec<&[T::Native]> = arrays.iter().map(|a| a.as_primitive::<T>().values().as_ref()).collect();
    fetch(&typed, runs);
    for (array, start, rows) in runs {
        values.extend_from_slice(&typed[*array][*start..start + rows]);
    }
    let array = PrimitiveArray::<T>::new(values.into(), nulls(arrays, runs, rows));
    Arc::new(array.with_data_type(arrays[0].data_type().clone()))
}

/// Touches the ends of all runs before they are copied. Runs lie far apart in memory; copying alone would miss the
/// cache once per run, one miss after the other, whereas these loads overlap.
fn fetch<T: Copy>(values: &[&[T]], runs: &[RowRun]) {
    for (array, start, rows) in runs {
        let run = &values[*array][*start..start + rows];
        black_box((run.first().copied(), run.last().copied()));
    }
}

/// Touches the texts that are about to be encoded, for the same reason.
fn fetch_texts(numbers: &[u32], texts: &StringArray) {
    let (offsets, data) = (texts.value_offsets(), texts.value_data());
    for number in numbers {
        // The number of a null is arbitrary and may be out of range.
        let first = offsets.get(*number as usize).and_then(|offset| data.get(*offset as usize));
        black_box(first.copied());
    }
}

fn texts(arrays: &[&dyn Array], runs: &[RowRun], rows: usize) -> Result<ArrayRef> {
    let typed: Vec<Texts<'_>> = arrays.iter().map(|array| Texts::of(*array)).collect();
    // A growing buffer is copied, so computing the size first pays off; for packed texts that would take as long as
    // copying them.
    let needed = runs.iter().map(|(array, start, rows)| match &typed[*array] {
        Texts::Plain(texts) => (texts.value_offsets()[start + rows] - texts.value_offsets()[*start]) as usize,
        Texts::Packed(..) => rows * 16,
    });
    let mut values: Vec<u8> = Vec::with_capacity(needed.sum());
    let mut ends: Vec<i32> = Vec::with_capacity(rows + 1);
    ends.push(0);
    for (array, start, rows) in runs {
        let before = values.len();
        match &typed[*array] {
            Texts::Plain(texts) => {
                let offsets = &texts.value_offsets()[*start..=start + rows];
                values.extend_from_slice(&texts.value_data()[offsets[0] as usize..offsets[*rows] as usize]);
                let by = before as i32 - offsets[0];
                ends.extend(offsets[1..].iter().map(|offset| offset + by));
            }
            Texts::Packed(keys, texts) => {
                let (offsets, data) = (texts.value_offsets(), texts.value_data());
                for key in &keys.values()[*start..start + rows] {
                    let key = *key as usize;
                    values.extend_from_slice(&data[offsets[key] as usize..offsets[key + 1] as usize]);
                    ends.push(values.len() as i32);
                }
            }
        }
        if i32::try_from(values.len()).is_err() {
            return Err(exec_datafusion_err!("{rows} rows have more than 2 GiB of text in one column"));
        }
    }
    let (offsets, nulls) = (OffsetBuffer::new(ends.into()), nulls(arrays, runs, rows));
    Ok(Arc::new(StringArray::try_new(offsets, values.into(), nulls)?))
}

fn bytes<T: ByteArrayType>(arrays: &[&dyn Array], runs: &[RowRun], rows: usize) -> Result<ArrayRef> {
    let typed: Vec<&GenericByteArray<T>> = arrays.iter().map(|a| a.as_bytes::<T>()).collect();
    let range = |(array, start, rows): &RowRun| {
        let offsets = &typed[*array].value_offsets()[*start..=start + rows];
        (offsets, offsets[0].as_usize(), offsets[*rows].as_usize())
    };
    let length: usize = runs.iter().map(&range).map(|(_, start, end)| end - start).sum();
    // More bytes than the offsets can address are an error of the kernel.
    if T::Offset::from_usize(length).is_none() {
        return row_by_row(arrays, runs);
    }
    let mut values = Vec::with_capacity(length);
    let mut ends: Vec<T::Offset> = Vec::with_capacity(rows + 1);
    ends.push(T::Offset::default());
    for run in runs {
        let (offsets, start, end) = range(run);
        let (before, first) = (values.len(), offsets[0]);
        values.extend_from_slice(&typed[run.0].value_data()[start..end]);
        let before = T::Offset::usize_as(before);
        ends.extend(offsets[1..].iter().map(|offset| before + (*offset - first)));
    }
    let (offsets, nulls) = (OffsetBuffer::new(ends.into()), nulls(arrays, runs, rows));
    Ok(Arc::new(GenericByteArray::<T>::try_new(offsets, values.into(), nulls)?))
}

fn nulls(arrays: &[&dyn Array], runs: &[RowRun], rows: usize) -> Option<NullBuffer> {
    if arrays.iter().all(|array| array.null_count() == 0) {
        return None;
    }
    let mut valid = BooleanBufferBuilder::new(rows);
    for (array, start, rows) in runs {
        match arrays[*array].nulls() {
            Some(nulls) => {
                let first = nulls.offset() + start;
                valid.append_packed_range(first..first + rows, nulls.validity());
            }
            None => valid.append_n(*rows, true),
        }
    }
    Some(NullBuffer::new(valid.finish()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        BooleanArray, Decimal128Array, DictionaryArray, LargeStringArray, ListArray, StringViewArray,
        TimestampMicrosecondArray,
    };
    use datafusion::arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    use super::*;

    /// Arrays of many types with these values.
    fn arrays(values: &[Option<i32>]) -> Vec<ArrayRef> {
        let texts: Vec<Option<String>> = values.iter().map(|v| v.map(|v| "ü".repeat(v as usize % 20))).collect();
        let lists = values.iter().map(|v| v.map(|v| vec![Some(v), None]));
        vec![
            Arc::new(PrimitiveArray::<Int32Type>::from(values.to_vec())),
            Arc::new(
                TimestampMicrosecondArray::from_iter(values.iter().map(|v| v.map(i64::from))).with_timezone("UTC"),
            ),
            Arc::new(
                Decimal128Array::from_iter(values.iter().map(|v| v.map(i128::from)))
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
            Arc::new(StringArray::from(texts.clone())),
            Arc::new(LargeStringArray::from(texts.clone())),
            Arc::new(StringViewArray::from_iter(texts.iter().map(Option::as_deref))),
            Arc::new(BooleanArray::from_iter(values.iter().map(|v| v.map(|v| v % 2 == 0)))),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            Arc::new(DictionaryArray::<UInt32Type>::from_iter(texts.iter().map(Option::as_deref))),
        ]
    }

    proptest! {
        #[test]
        fn it_is_what_interleave_gives(
            values in prop::collection::vec(prop::collection::vec(prop::option::of(0..1000), 1..20), 1..5),
            picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..9), 0..20),
            cut in 0_usize..3,
        ) {
            let columns: Vec<Vec<ArrayRef>> = values.iter().map(|v| arrays(v)).collect();
            for i in 0..columns[0].len() {
                // Includes arrays that are slices of others.
                let column: Vec<ArrayRef> =
                    columns.iter().map(|c| c[i].slice(cut.min(c[i].len() - 1), c[i].len() - cut.min(c[i].len() - 1))).collect();
                let refs: Vec<&dyn Array> = column.iter().map(|a| a.as_ref()).collect();
                let runs: Vec<RowRun> = picks
                    .iter()
                    .map(|(array, start, rows)| {
                        let array = array.index(refs.len());
                        let start = start.index(refs[array].len());
                        (array, start, (*rows).min(refs[array].len() - start))
                    })
                    .collect();
                let rows = runs.iter().map(|r| r.2).sum();
                let copied = copy(refs[0].data_type(), &refs, &runs, rows).unwrap();
                let wanted = row_by_row(&refs, &runs).unwrap();
                prop_assert_eq!(copied.as_ref(), wanted.as_ref());
            }
        }
    }
}
