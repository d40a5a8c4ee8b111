//! Field ids: the numbers by which table formats identify columns, whatever their names.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use hardtack_core::{Error, Result};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

/// The ids of fields and of those within them, depth first; empty if one of them has none.
pub(crate) fn of(fields: &Fields) -> Vec<i32> {
    let mut ids = Vec::new();
    if fields.iter().all(|field| collect(field, &mut ids)) { ids } else { Vec::new() }
}

fn collect(field: &Field, ids: &mut Vec<i32>) -> bool {
    match field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok()) {
        Some(id) => ids.push(id),
        None => return false,
    }
    within(field.data_type()).iter().all(|field| collect(field, ids))
}

/// The fields that a type consists of. The entries of a map are no field of their own.
fn within(data_type: &DataType) -> Vec<FieldRef> {
    match data_type {
        DataType::Struct(fields) => fields.iter().cloned().collect(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => vec![Arc::clone(item)],
        DataType::Map(entries, _) => within(entries.data_type()),
        _ => Vec::new(),
    }
}

/// The schema with these ids; none are no change.
///
/// # Errors
/// Unexpected if there are more or fewer than fields.
pub(crate) fn with(schema: &SchemaRef, ids: &[i32]) -> Result<SchemaRef> {
    if ids.is_empty() {
        return Ok(Arc::clone(schema));
    }
    let mut rest = ids.iter();
    let fields: Option<Fields> = schema.fields().iter().map(|field| identified(field, &mut rest)).collect();
    match fields {
        Some(fields) if rest.len() == 0 => Ok(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))),
        _ => Err(Error::unexpected("the rows have other columns than the schema with the field ids")
            .with("columns", schema)
            .with("ids", ids.len())),
    }
}

fn identified(field: &FieldRef, ids: &mut std::slice::Iter<'_, i32>) -> Option<FieldRef> {
    let id = ids.next()?;
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| identified(f, ids)).collect::<Option<_>>()?),
        DataType::List(item) => DataType::List(identified(item, ids)?),
        DataType::LargeList(item) => DataType::LargeList(identified(item, ids)?),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(identified(item, ids)?, *size),
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            let pair = pair.iter().map(|f| identified(f, ids)).collect::<Option<Fields>>()?;
            DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(pair))), *sorted)
        }
        other => other.clone(),
    };
    let mut metadata = field.metadata().clone();
    metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    Some(Arc::new(field.as_ref().clone().with_data_type(data_type).with_metadata(metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_depth_first() {
        let pair =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]);
        let entries = Field::new("entries", DataType::Struct(pair), false);
        let point = Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Int32, true)]);
        let points = Field::new("element", DataType::Struct(point), true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int32, true),
            Field::new("points", DataType::List(Arc::new(points)), true),
            Field::new("m", DataType::Map(Arc::new(entries), false), true),
        ]));
        assert_eq!(of(schema.fields()), [] as [i32; 0]);
        let ids = [1, 2, 5, 6, 7, 3, 8, 9];
        let identified = with(&schema, &ids).unwrap();
        assert_eq!(of(identified.fields()), ids);
        let parquet = parquet::arrow::ArrowSchemaConverter::new().convert(&identified).unwrap();
        let leaves = parquet.columns().iter().map(|c| (c.path().string(), c.self_type().get_basic_info().id()));
        let leaves: Vec<_> = leaves.collect();
        let expected = [
            ("n", 1),
            ("points.list.element.x", 6),
            ("points.list.element.y", 7),
            ("m.entries.key", 8),
            ("m.entries.value", 9),
        ];
        assert_eq!(leaves, expected.map(|(path, id)| (path.to_owned(), id)));
        with(&schema, &[1, 2]).unwrap_err();
    }
}
