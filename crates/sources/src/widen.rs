//! One type for columns that files store with different types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use hardtack_core::{Error, Location, Result};

/// The schema of typed files together: columns by name, in the order in which they were first seen. A column that some
/// files lack is nullable.
#[derive(Debug, Default)]
pub(crate) struct Union {
    fields: Vec<(FieldRef, Location)>,
    files: usize,
}

impl Union {
    /// Takes in the schema of another file.
    pub(crate) fn add(&mut self, schema: &Schema, file: &Location) -> Result<()> {
        for (field, _) in &mut self.fields {
            if schema.field_with_name(field.name()).is_err() {
                *field = Arc::new(field.as_ref().clone().with_nullable(true));
            }
        }
        for new in schema.fields() {
            match self.fields.iter_mut().find(|(field, _)| field.name() == new.name()) {
                None => {
                    let nullable = new.is_nullable() || self.files > 0;
                    self.fields.push((Arc::new(new.as_ref().clone().with_nullable(nullable)), file.clone()));
                }
                Some((field, first)) => {
                    let wide = widen(field.data_type(), new.data_type()).ok_or_else(|| {
                        Error::refused(format!(
                            "`{}` is {} in {first} and {} in {file}; declare a schema",
                            new.name(),
                            field.data_type(),
                            new.data_type()
                        ))
                        .with("column", new.name())
                    })?;
                    *field = Arc::new(Field::new(field.name(), wide, field.is_nullable() || new.is_nullable()));
                }
            }
        }
        self.files += 1;
        Ok(())
    }

    pub(crate) fn schema(self) -> Schema {
        Schema::new(self.fields.into_iter().map(|(field, _)| field).collect::<Fields>())
    }
}

/// The type that holds the values of both without loss (but for the precision of integers that become floats).
fn widen(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as D;
    let field = |a: &FieldRef, b: &FieldRef| {
        let wide = widen(a.data_type(), b.data_type())?;
        Some(Arc::new(Field::new(a.name(), wide, a.is_nullable() || b.is_nullable())))
    };
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (D::Null, other) | (other, D::Null) => other.clone(),
        (a, b) if a.is_integer() && b.is_integer() => widen_integers(a, b)?,
        (a, b) if a.is_numeric() && b.is_numeric() && (a.is_floating() || b.is_floating()) => {
            let small = |t: &D| t.is_floating() && *t != D::Float64;
            if small(a) && small(b) { D::Float32 } else { D::Float64 }
        }
        (D::Decimal128(p1, s1), D::Decimal128(p2, s2)) => {
            let whole = (i16::from(*p1) - i16::from(*s1)).max(i16::from(*p2) - i16::from(*s2));
            let scale = *s1.max(s2);
            let precision = u8::try_from(whole + i16::from(scale)).ok().filter(|p| *p <= 38)?;
            D::Decimal128(precision, scale)
        }
        (a, b) if is_text(a) && is_text(b) => {
            if *a == D::Utf8View || *b == D::Utf8View {
                D::Utf8View
            } else {
                D::LargeUtf8
            }
        }
        (a, b) if a.is_binary() && b.is_binary() => {
            if *a == D::BinaryView || *b == D::BinaryView {
                D::BinaryView
            } else {
                D::LargeBinary
            }
        }
        (D::Dictionary(_, value), other) | (other, D::Dictionary(_, value)) => {
            let other = if let D::Dictionary(_, value) = other { value } else { other };
            widen(value, other)?
        }
        (D::Timestamp(u1, z1), D::Timestamp(u2, z2)) if z1 == z2 => D::Timestamp(finer(*u1, *u2), z1.clone()),
        (D::Date32, D::Timestamp(unit, None)) | (D::Timestamp(unit, None), D::Date32) => D::Timestamp(*unit, None),
        (D::Date32 | D::Date64, D::Date32 | D::Date64) => D::Date64,
        (D::List(a), D::List(b)) => D::List(field(a, b)?),
        (D::LargeList(a), D::LargeList(b)) => D::LargeList(field(a, b)?),
        (D::Struct(a), D::Struct(b)) => D::Struct(widen_fields(a, b)?),
        _ => return None,
    })
}

fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn widen_integers(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as D;
    let signed = a.is_signed_integer() || b.is_signed_integer();
    // An unsigned type needs the next signed one.
    let bits =
        |t: &D| t.primitive_width().map(|bytes| bytes * 8 * if signed && t.is_unsigned_integer() { 2 } else { 1 });
    Some(match (bits(a)?.max(bits(b)?), signed) {
        (16, true) => D::Int16,
        (32, true) => D::Int32,
        (64, true) => D::Int64,
        (16, false) => D::UInt16,
        (32, false) => D::UInt32,
        (64, false) => D::UInt64,
        (_, true) => D::Decimal128(20, 0),
        _ => return None,
    })
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    a.max(b)
}

fn widen_fields(a: &Fields, b: &Fields) -> Option<Fields> {
    let nullable = |f: &FieldRef| Arc::new(f.as_ref().clone().with_nullable(true));
    let both = a.iter().map(|mine| match b.iter().find(|f| f.name() == mine.name()) {
        None => Some(nullable(mine)),
        Some(theirs) => {
            let wide = widen(mine.data_type(), theirs.data_type())?;
            Some(Arc::new(Field::new(mine.name(), wide, mine.is_nullable() || theirs.is_nullable())))
        }
    });
    let new = b.iter().filter(|f| a.iter().all(|mine| mine.name() != f.name())).map(|f| Some(nullable(f)));
    both.chain(new).collect()
}

/// Whether values that a file stores as `stored` can be read as `declared` without loss, as far as types can tell: what a
/// value may still refuse (a text that is no number, a number that is too large) shows when it is read.
pub(crate) fn is_readable(stored: &DataType, declared: &DataType) -> bool {
    use DataType as D;
    match (stored, declared) {
        (a, b) if a == b => true,
        (D::Struct(stored), D::Struct(declared)) => declared.iter().all(|d| {
            stored
                .iter()
                .find(|s| s.name() == d.name())
                .map_or(d.is_nullable(), |s| is_readable(s.data_type(), d.data_type()))
        }),
        (D::List(s), D::List(d)) | (D::LargeList(s), D::LargeList(d)) => is_readable(s.data_type(), d.data_type()),
        (D::Map(s, _), D::Map(d, _)) => is_readable(s.data_type(), d.data_type()),
        (D::Struct(_), _) | (_, D::Struct(_)) => false,
        (D::Dictionary(_, value), declared) => is_readable(value, declared),
        // Arrow would cut off the fraction, or the time.
        (stored, declared) if stored.is_floating() && !declared.is_floating() && declared.is_numeric() => false,
        (D::Float64, D::Float32 | D::Float16) => false,
        (D::Decimal128(_, s1) | D::Decimal256(_, s1), D::Decimal128(_, s2) | D::Decimal256(_, s2)) => s1 <= s2,
        (D::Decimal128(_, s) | D::Decimal256(_, s), declared) if declared.is_integer() => *s <= 0,
        (D::Timestamp(..), D::Date32 | D::Date64 | D::Time32(_) | D::Time64(_)) => false,
        // What is finer than the unit shows when it is read.
        (D::Timestamp(..), D::Timestamp(..)) => true,
        (D::Timestamp(..) | D::Date32 | D::Date64, declared) if declared.is_numeric() => false,
        (stored, D::Timestamp(..) | D::Date32 | D::Date64) if stored.is_numeric() => false,
        (D::Boolean, declared) | (declared, D::Boolean) if declared.is_numeric() => false,
        (stored, declared) => arrow::compute::can_cast_types(stored, declared),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(DataType::Int32, DataType::Int64, Some(DataType::Int64))]
    #[case(DataType::UInt32, DataType::Int8, Some(DataType::Int64))]
    #[case(DataType::UInt64, DataType::Int8, Some(DataType::Decimal128(20, 0)))]
    #[case(DataType::Int64, DataType::Float32, Some(DataType::Float64))]
    #[case(DataType::Null, DataType::Utf8, Some(DataType::Utf8))]
    #[case(DataType::Utf8, DataType::Utf8View, Some(DataType::Utf8View))]
    #[case(DataType::Int64, DataType::Utf8, None)]
    #[case(DataType::Decimal128(5, 2), DataType::Decimal128(8, 0), Some(DataType::Decimal128(10, 2)))]
    #[case(
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Second, None),
        Some(DataType::Timestamp(TimeUnit::Second, None))
    )]
    #[case(
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Millisecond, None),
        Some(DataType::Timestamp(TimeUnit::Nanosecond, None))
    )]
    #[case(
        DataType::Struct(vec![Field::new("a", DataType::Int8, false)].into()),
        DataType::Struct(vec![Field::new("b", DataType::Int8, false), Field::new("a", DataType::Int16, false)].into()),
        Some(DataType::Struct(vec![Field::new("a", DataType::Int16, false), Field::new("b", DataType::Int8, true)].into()))
    )]
    fn types_widen_without_loss(#[case] a: DataType, #[case] b: DataType, #[case] wide: Option<DataType>) {
        assert_eq!(widen(&a, &b), wide);
        if !a.is_nested() {
            assert_eq!(widen(&b, &a), wide);
        }
    }

    #[test]
    fn a_column_allows_nulls_if_any_file_may_have_some() {
        let file = |fields: &[(&str, bool)]| {
            Schema::new(fields.iter().map(|(n, null)| Field::new(*n, DataType::Int8, *null)).collect::<Fields>())
        };
        let mut union = Union::default();
        for fields in [&[("a", false), ("b", true), ("c", false)][..], &[("b", false), ("a", false), ("d", false)]] {
            union.add(&file(fields), &Location::from("x")).unwrap();
        }
        assert_eq!(union.schema(), file(&[("a", false), ("b", true), ("c", true), ("d", true)]));
    }

    #[rstest]
    #[case(DataType::Int32, DataType::Int64, true)]
    #[case(DataType::Int64, DataType::Int32, true)]
    #[case(DataType::Float64, DataType::Int64, false)]
    #[case(DataType::Int64, DataType::Float64, true)]
    #[case(DataType::Utf8View, DataType::Utf8, true)]
    #[case(DataType::Utf8, DataType::Date32, true)]
    #[case(DataType::Decimal128(9, 2), DataType::Decimal128(9, 1), false)]
    #[case(DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Date32, false)]
    #[case(DataType::Timestamp(TimeUnit::Nanosecond, None), DataType::Timestamp(TimeUnit::Second, None), true)]
    #[case(DataType::Date32, DataType::Timestamp(TimeUnit::Microsecond, None), true)]
    #[case(DataType::Boolean, DataType::Utf8, true)]
    #[case(DataType::new_list(DataType::Int8, true), DataType::Int8, false)]
    fn lossy_reads_are_refused(#[case] stored: DataType, #[case] declared: DataType, #[case] readable: bool) {
        assert_eq!(is_readable(&stored, &declared), readable);
    }
}
