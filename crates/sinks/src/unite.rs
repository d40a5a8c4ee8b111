//! One schema for files whose columns differ.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use hardtack_core::{Error, Location, Result};

/// The columns of all files by name, in the order in which they were first seen. One that a file lacks is nullable.
///
/// # Errors
/// Refused if a column's types have none in common that holds the values of both exactly.
pub(crate) fn unite<'a>(files: impl Iterator<Item = (&'a SchemaRef, &'a Location)> + Clone) -> Result<SchemaRef> {
    let mut columns: Vec<(FieldRef, &Location)> = Vec::new();
    for (schema, file) in files.clone() {
        for new in schema.fields() {
            let Some((field, first)) = columns.iter_mut().find(|(field, _)| field.name() == new.name()) else {
                columns.push((Arc::clone(new), file));
                continue;
            };
            *field = unite_fields(field, new, true).ok_or_else(|| {
                let (name, a, b) = (new.name(), field.data_type(), new.data_type());
                let message = format!("`{name}` is {a} in {first} and {b} in {file}, which have no type in common");
                Error::refused(message).with("column", name).with("way out", "rewrite one of them by a job")
            })?;
        }
    }
    let everywhere = |field: &FieldRef| files.clone().all(|(schema, _)| schema.index_of(field.name()).is_ok());
    let fields = columns.into_iter().map(|(f, _)| if everywhere(&f) { f } else { nullable(&f) });
    Ok(Arc::new(Schema::new(fields.collect::<Fields>())))
}

fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_nullable(true))
}

fn unite_fields(a: &FieldRef, b: &FieldRef, by_name: bool) -> Option<FieldRef> {
    let both = unite_types(a.data_type(), b.data_type(), by_name)?;
    let null = a.is_nullable() || b.is_nullable();
    Some(Arc::new(a.as_ref().clone().with_data_type(both).with_nullable(null)))
}

/// The type that holds the values of both exactly. Structs may have different fields only where they can be matched
/// `by_name` when they are cast, which is not so within lists.
fn unite_types(a: &DataType, b: &DataType, by_name: bool) -> Option<DataType> {
    use DataType as D;
    let bits = |t: &D| t.primitive_width().unwrap_or_default();
    let text = |t: &D| t.is_string();
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (D::Null, other) | (other, D::Null) => other.clone(),
        (D::Dictionary(_, value), other) | (other, D::Dictionary(_, value)) => {
            let other = if let D::Dictionary(_, value) = other { value } else { other };
            unite_types(value, other, by_name)?
        }
        (a, b) if text(a) && text(b) => D::Utf8View,
        (D::FixedSizeBinary(_), _) | (_, D::FixedSizeBinary(_)) => return None,
        (a, b) if a.is_binary() && b.is_binary() => D::BinaryView,
        (a, b) if a.is_integer() && b.is_integer() => {
            let (wide, other) = if bits(a) >= bits(b) { (a, b) } else { (b, a) };
            let same_sign = wide.is_signed_integer() == other.is_signed_integer();
            let holds = same_sign || (wide.is_signed_integer() && bits(wide) > bits(other));
            holds.then(|| wide.clone())?
        }
        (a, b) if a.is_floating() && b.is_floating() => if bits(a) >= bits(b) { a } else { b }.clone(),
        (D::Decimal128(p, s), D::Decimal128(q, t)) if s == t => D::Decimal128(*p.max(q), *s),
        (D::Decimal256(p, s), D::Decimal256(q, t)) if s == t => D::Decimal256(*p.max(q), *s),
        (D::Timestamp(u, z), D::Timestamp(v, y)) if z == y => D::Timestamp(*u.max(v), z.clone()),
        (D::List(a), D::List(b)) => D::List(unite_fields(a, b, false)?),
        (D::LargeList(a), D::LargeList(b)) => D::LargeList(unite_fields(a, b, false)?),
        (D::Map(a, sorted), D::Map(b, also)) if sorted == also => D::Map(unite_fields(a, b, false)?, *sorted),
        (D::Struct(a), D::Struct(b)) => D::Struct(unite_structs(a, b, by_name)?),
        _ => return None,
    })
}

fn unite_structs(a: &Fields, b: &Fields, by_name: bool) -> Option<Fields> {
    let names = |fields: &Fields| fields.iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    if names(a) != names(b) && (!by_name || !a.iter().any(|f| find(b, f).is_some())) {
        return None;
    }
    let both = a.iter().map(|field| match find(b, field) {
        Some(other) => unite_fields(field, other, by_name),
        None => Some(nullable(field)),
    });
    let new = b.iter().filter(|field| find(a, field).is_none()).map(|field| Some(nullable(field)));
    both.chain(new).collect()
}

fn find<'a>(fields: &'a Fields, like: &Field) -> Option<&'a FieldRef> {
    fields.iter().find(|field| field.name() == like.name())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;
    use rstest::rstest;

    use super::*;

    /// `a: Int8, b: Utf8?` where `?` says that there may be nulls.
    fn record(fields: &str) -> DataType {
        let field = |text: &str| {
            let (name, data_type) = text.split_once(": ").unwrap();
            Field::new(name, data_type.trim_end_matches('?').parse().unwrap(), data_type.ends_with('?'))
        };
        DataType::Struct(fields.split(", ").map(field).collect())
    }

    fn list(item: DataType) -> DataType {
        DataType::new_list(item, true)
    }

    fn in_zone(unit: TimeUnit, zone: Option<&str>) -> DataType {
        DataType::Timestamp(unit, zone.map(Into::into))
    }

    #[rstest]
    #[case(DataType::Int8, DataType::Int64, Some(DataType::Int64))]
    #[case(DataType::UInt8, DataType::Int16, Some(DataType::Int16))]
    #[case(DataType::UInt16, DataType::Int16, None)]
    #[case(DataType::Int8, DataType::UInt64, None)]
    #[case(DataType::Int64, DataType::Float64, None)]
    #[case(DataType::Float32, DataType::Float64, Some(DataType::Float64))]
    #[case(DataType::Utf8, DataType::LargeUtf8, Some(DataType::Utf8View))]
    #[case(DataType::Utf8, DataType::Binary, None)]
    #[case(DataType::FixedSizeBinary(2), DataType::Binary, None)]
    #[case(DataType::Decimal128(5, 2), DataType::Decimal128(9, 2), Some(DataType::Decimal128(9, 2)))]
    #[case(DataType::Decimal128(5, 2), DataType::Decimal128(5, 1), None)]
    #[case(DataType::Null, DataType::Date32, Some(DataType::Date32))]
    #[case(
        in_zone(TimeUnit::Second, None),
        in_zone(TimeUnit::Microsecond, None),
        Some(in_zone(TimeUnit::Microsecond, None))
    )]
    #[case(in_zone(TimeUnit::Second, None), in_zone(TimeUnit::Second, Some("UTC")), None)]
    #[case(record("a: Int8"), record("b: Utf8, a: Int16?"), Some(record("a: Int16?, b: Utf8?")))]
    #[case(record("a: Int8?"), record("b: Int8?"), None)]
    #[case(list(record("a: Int8?")), list(record("a: Int16")), Some(list(record("a: Int16?"))))]
    #[case(list(record("a: Int8?")), list(record("a: Int8?, b: Int8?")), None)]
    fn types_unite_only_where_nothing_is_lost(
        #[case] a: DataType,
        #[case] b: DataType,
        #[case] both: Option<DataType>,
    ) {
        assert_eq!(unite_types(&a, &b, true), both);
        if !a.is_nested() {
            assert_eq!(unite_types(&b, &a, true), both);
        }
    }

    #[test]
    fn a_column_that_a_file_lacks_is_nullable() {
        let schema = |names: &[&str]| -> SchemaRef {
            Arc::new(Schema::new(names.iter().map(|n| Field::new(*n, DataType::Int8, false)).collect::<Fields>()))
        };
        let (files, at) = ([schema(&["a", "b"]), schema(&["c", "a"])], Location::from("x"));
        let all = unite(files.iter().map(|schema| (schema, &at))).unwrap();
        let shown: Vec<_> = all.fields().iter().map(|f| (f.name().as_str(), f.is_nullable())).collect();
        assert_eq!(shown, [("a", false), ("b", true), ("c", true)]);
    }
}
