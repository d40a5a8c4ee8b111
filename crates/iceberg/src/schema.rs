//! Iceberg's types and Arrow's.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use hardtack_core::{Error, Result};
use iceberg::arrow::{arrow_schema_to_schema_auto_assign_ids, schema_to_arrow_schema};
use iceberg::spec::Schema as IcebergSchema;

use crate::error::failed;

/// The schema of a new table for rows with these columns; fields get ids in order.
///
/// # Errors
/// Usage for a type that Iceberg does not have, with the column.
pub(crate) fn iceberg_schema(rows: &Schema) -> Result<IcebergSchema> {
    arrow_schema_to_schema_auto_assign_ids(&storable(rows)?).map_err(failed)
}

/// The columns as Iceberg stores them: the narrowest of its types that holds every value.
pub(crate) fn storable(rows: &Schema) -> Result<Schema> {
    let fields = rows.fields().iter().map(|field| storable_field(field).map_err(|e| e.with("column", field.name())));
    Ok(Schema::new(fields.collect::<Result<Vec<_>>>()?))
}

fn storable_field(field: &Field) -> Result<Field> {
    Ok(Field::new(field.name(), storable_type(field.data_type())?, field.is_nullable()))
}

fn storable_type(data_type: &DataType) -> Result<DataType> {
    let list = |item: &FieldRef| {
        let element = Field::new("element", storable_type(item.data_type())?, item.is_nullable());
        Ok::<_, Error>(DataType::List(Arc::new(element)))
    };
    Ok(match data_type {
        DataType::Boolean | DataType::Int32 | DataType::Int64 | DataType::Float32 | DataType::Float64 => {
            data_type.clone()
        }
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if *precision <= 38 && *scale >= 0 =>
        {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::FixedSizeBinary(_) => data_type.clone(),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Dictionary(_, values) => storable_type(values)?,
        DataType::RunEndEncoded(_, values) => storable_type(values.data_type())?,
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| storable_field(field)).collect::<Result<Fields>>()?)
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => list(item)?,
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err(unknown(data_type)) };
            let pair: Fields = pair.iter().map(|field| storable_field(field)).collect::<Result<_>>()?;
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), *sorted)
        }
        other => return Err(unknown(other)),
    })
}

fn unknown(data_type: &DataType) -> Error {
    Error::usage(format!("Iceberg has no type for {data_type}; cast the column, to a string for example"))
}

/// The Arrow schema of a table: as other tables here have it, with each field's id in its metadata.
pub(crate) fn arrow_schema(schema: &IcebergSchema) -> Result<SchemaRef> {
    let arrow = schema_to_arrow_schema(schema).map_err(failed)?;
    let fields: Fields = arrow.fields().iter().map(usual_field).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The crate `iceberg` calls UTC `+00:00`, and takes offsets of 64 bits for binary values.
fn usual_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(usual_type(field.data_type())))
}

fn usual_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeBinary => DataType::Binary,
        DataType::LargeUtf8 => DataType::Utf8,
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("UTC".into())),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(usual_field).collect()),
        DataType::List(item) | DataType::LargeList(item) => DataType::List(usual_field(item)),
        DataType::Map(entries, sorted) => DataType::Map(usual_field(entries), *sorted),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(DataType::Int8, "int")]
    #[case(DataType::UInt32, "long")]
    #[case(DataType::UInt64, "decimal(20, 0)")]
    #[case(DataType::Decimal256(38, 2), "decimal(38, 2)")]
    #[case(DataType::Utf8View, "string")]
    #[case(DataType::LargeBinary, "binary")]
    #[case(DataType::FixedSizeBinary(3), "fixed(3)")]
    #[case(DataType::Date64, "date")]
    #[case(DataType::Time32(TimeUnit::Second), "time")]
    #[case(DataType::Timestamp(TimeUnit::Nanosecond, None), "timestamp")]
    #[case(DataType::Timestamp(TimeUnit::Second, Some("Europe/Vienna".into())), "timestamptz")]
    #[case(DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), "string")]
    fn every_value_has_a_type(#[case] arrow: DataType, #[case] iceberg: &str) {
        let rows = Schema::new(vec![Field::new("x", arrow.clone(), false)]);
        let schema = iceberg_schema(&rows).unwrap();
        let field = &schema.as_struct().fields()[0];
        assert_eq!((field.id, field.required, field.field_type.to_string()), (1, true, iceberg.to_owned()));
        // What is read is what is stored.
        let stored = storable(&rows).unwrap();
        assert_eq!(arrow_schema(&schema).unwrap().field(0).data_type(), stored.field(0).data_type());
    }

    #[rstest]
    #[case(DataType::Null)]
    #[case(DataType::Duration(TimeUnit::Second))]
    #[case(DataType::Decimal256(39, 0))]
    fn there_is_no_type_for_everything(#[case] arrow: DataType) {
        let error = iceberg_schema(&Schema::new(vec![Field::new("x", arrow, true)])).unwrap_err();
        assert_eq!((error.kind(), error.get("column")), (hardtack_core::ErrorKind::Usage, Some("x")));
    }
}
