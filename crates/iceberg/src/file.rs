//! What was written as a data file of a table, with the metrics by which readers skip it.

use std::collections::HashMap;

use hardtack_core::{Error, Result};
use hardtack_sinks::{ColumnMetrics, WrittenFile};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, PrimitiveType, Schema, Struct, Type,
};

/// As many characters of a text, or bytes, are kept of a bound: the default of `write.metadata.metrics.default`.
const TRUNCATED: usize = 16;

/// The data file of a table with this schema, and the sort order by which its rows are sorted.
pub(crate) fn data_file(
    file: &WrittenFile,
    schema: &Schema,
    spec_id: i32,
    partition: Struct,
    sort_order: Option<i32>,
) -> Result<DataFile> {
    let (mut sizes, mut values, mut nulls) = (HashMap::new(), HashMap::new(), HashMap::new());
    let (mut lower, mut upper) = (HashMap::new(), HashMap::new());
    for column in &file.columns {
        let Some((id, of)) = column.field_id.and_then(|id| Some((id, primitive(schema, id)?))) else {
            return Err(Error::unexpected("a column of a written file is not one of the table")
                .with("file", &file.location)
                .with("column", &column.path));
        };
        sizes.insert(id, column.bytes);
        values.insert(id, column.values);
        nulls.extend(column.nulls.map(|count| (id, count)));
        let (min, max) = bounds(of, column);
        lower.extend(min.map(|bound| (id, bound)));
        upper.extend(max.map(|bound| (id, bound)));
    }
    let mut data = DataFileBuilder::default();
    if let Some(id) = sort_order {
        data.sort_order_id(id);
    }
    data.content(DataContentType::Data)
        .file_path(file.location.to_string())
        .file_format(DataFileFormat::Parquet)
        .partition(partition)
        .partition_spec_id(spec_id)
        .record_count(file.rows)
        .file_size_in_bytes(file.bytes)
        .column_sizes(sizes)
        .value_counts(values)
        .null_value_counts(nulls)
        .lower_bounds(lower)
        .upper_bounds(upper)
        .build()
        .map_err(|e| Error::unexpected("a data file is incomplete").because(e))
}

fn primitive(schema: &Schema, id: i32) -> Option<&PrimitiveType> {
    match schema.field_by_id(id)?.field_type.as_ref() {
        Type::Primitive(of) => Some(of),
        _ => None,
    }
}

/// The bounds of a column. There are none within lists and maps, whose values are not those of one row.
fn bounds(of: &PrimitiveType, column: &ColumnMetrics) -> (Option<Datum>, Option<Datum>) {
    if column.repeated {
        return (None, None);
    }
    let lower = column.min.as_deref().and_then(|bytes| datum(of, truncated_down(of, bytes)));
    let upper = column.max.as_deref().and_then(|bytes| datum(of, &truncated_up(of, bytes)?));
    (lower, upper)
}

/// A bound as Parquet's statistics have it, which is how Iceberg has it but for decimals in integers.
fn datum(of: &PrimitiveType, bytes: &[u8]) -> Option<Datum> {
    let bytes = match of {
        // Big-endian where they are a field of bytes, little-endian where they are an integer.
        PrimitiveType::Decimal { precision, .. } if *precision <= 18 => bytes.iter().rev().copied().collect(),
        _ => bytes.to_vec(),
    };
    let datum = Datum::try_from_bytes(&bytes, of.clone()).ok()?;
    (!datum.is_nan()).then_some(datum)
}

/// The end of the first characters of a text, if there are more.
fn cut(text: &str) -> Option<usize> {
    text.char_indices().nth(TRUNCATED).map(|(at, _)| at)
}

/// A value that is not greater.
fn truncated_down<'b>(of: &PrimitiveType, bytes: &'b [u8]) -> &'b [u8] {
    match of {
        PrimitiveType::String => match std::str::from_utf8(bytes).ok().and_then(cut) {
            Some(end) => &bytes[..end],
            None => bytes,
        },
        PrimitiveType::Binary => &bytes[..bytes.len().min(TRUNCATED)],
        _ => bytes,
    }
}

/// A value that is not less; `None` if there is none of this length.
fn truncated_up(of: &PrimitiveType, bytes: &[u8]) -> Option<Vec<u8>> {
    match of {
        PrimitiveType::String => {
            let text = std::str::from_utf8(bytes).ok()?;
            let Some(end) = cut(text) else { return Some(bytes.to_vec()) };
            let mut chars: Vec<char> = text[..end].chars().collect();
            while let Some(last) = chars.pop() {
                // The next code point; those of surrogates are none.
                if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
                    chars.push(next);
                    return Some(chars.into_iter().collect::<String>().into_bytes());
                }
            }
            None
        }
        PrimitiveType::Binary if bytes.len() > TRUNCATED => {
            let mut bytes = bytes[..TRUNCATED].to_vec();
            while let Some(last) = bytes.pop() {
                if let Some(next) = last.checked_add(1) {
                    bytes.push(next);
                    return Some(bytes);
                }
            }
            None
        }
        _ => Some(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(min: &[u8], max: &[u8]) -> ColumnMetrics {
        ColumnMetrics {
            path: "x".to_owned(),
            field_id: Some(1),
            repeated: false,
            bytes: 1,
            values: 1,
            nulls: Some(0),
            min: Some(min.to_vec()),
            max: Some(max.to_vec()),
        }
    }

    proptest! {
        #[test]
        fn bounds_of_texts_hold(text in "(a|\u{10ffff}|\u{d7ff}|.){0,40}") {
            let (lower, upper) = bounds(&PrimitiveType::String, &column(text.as_bytes(), text.as_bytes()));
            let text = Datum::string(&text);
            prop_assert!(lower.unwrap() <= text);
            prop_assert!(upper.is_none_or(|upper| upper >= text));
        }

        #[test]
        fn bounds_of_bytes_hold(bytes in proptest::collection::vec(proptest::sample::select(vec![0, 7, 255]), 0..40)) {
            let (lower, upper) = bounds(&PrimitiveType::Binary, &column(&bytes, &bytes));
            let lower = lower.unwrap().to_bytes().unwrap().into_vec();
            prop_assert!(lower <= bytes);
            prop_assert!(upper.is_none_or(|upper| upper.to_bytes().unwrap().into_vec() >= bytes));
        }
    }

    #[test]
    fn decimals_are_stored_as_integers_or_bytes() {
        let of = |precision| PrimitiveType::Decimal { precision, scale: 2 };
        let bound = |precision, bytes: &[u8]| bounds(&of(precision), &column(bytes, bytes)).0.unwrap().to_string();
        assert_eq!(bound(9, &(-1234_i32).to_le_bytes()), "-12.34");
        assert_eq!(bound(18, &1234_i64.to_le_bytes()), "12.34");
        assert_eq!(bound(38, &(-1234_i128).to_be_bytes()), "-12.34");
    }

    #[test]
    fn values_within_lists_have_no_bounds() {
        let column = ColumnMetrics { repeated: true, ..column(&[1, 0, 0, 0], &[1, 0, 0, 0]) };
        assert_eq!(bounds(&PrimitiveType::Int, &column), (None, None));
    }
}
