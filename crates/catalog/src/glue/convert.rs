//! Conversions between our values and Glue's.

use std::collections::HashMap;

use hardtack_core::{Error, Location, Result};

use crate::table::{Column, Database, Partition, StorageDescriptor, TableDescription};

use super::wire::{self, Other};

/// The members of a table that an update keeps. Its other members are ours, or Glue's own.
const KEPT: [&str; 7] =
    ["Owner", "LastAccessTime", "LastAnalyzedTime", "Retention", "ViewOriginalText", "ViewExpandedText", "TargetTable"];

/// Glue returns an empty text for a missing one.
fn text(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn database_input(database: &Database) -> wire::Database {
    wire::Database {
        name: database.name.clone(),
        description: database.description.clone(),
        location_uri: database.location.as_ref().map(Location::to_string),
        parameters: database.parameters.clone(),
    }
}

pub(super) fn database_from(found: wire::Database) -> Database {
    let mut database = Database::new(found.name);
    database.description = text(found.description);
    database.location = text(found.location_uri).map(Location::from);
    database.parameters = found.parameters;
    database
}

/// Glue restarts the version count when a table is recreated, so our version includes the time of creation.
fn version(found: &wire::Table) -> Option<String> {
    let created: f64 = found.create_time.as_ref().and_then(|time| time.get().parse().ok()).unwrap_or_default();
    Some(format!("{}@{created}", found.version_id.as_ref()?))
}

pub(super) fn table_from(database: &str, found: wire::Table) -> TableDescription {
    TableDescription {
        version: version(&found),
        database: found.database_name.unwrap_or_else(|| database.to_owned()),
        name: found.name,
        description: text(found.description),
        storage: storage_from(found.storage_descriptor),
        partition_keys: found.partition_keys.into_iter().map(column_from).collect(),
        parameters: found.parameters,
        table_type: text(found.table_type),
    }
}

/// A table as Glue expects it, with those properties of the current table that hardtack does not model.
pub(super) fn table_input(table: &TableDescription, current: Option<wire::Table>) -> Result<wire::TableInput> {
    let wire::Table { storage_descriptor, partition_keys, mut other, .. } = current.unwrap_or_default();
    if other.get("ViewDefinition").is_some_and(|definition| !definition.is_null()) {
        return Err(Error::usage("a view in several dialects can only be changed where it was created")
            .with("table", table.qualified_name()));
    }
    other.retain(|name, value| KEPT.contains(&name.as_str()) && !value.is_null());
    Ok(wire::TableInput {
        name: table.name.clone(),
        description: table.description.clone(),
        storage_descriptor: to_storage(&table.storage, storage_descriptor),
        partition_keys: to_columns(&table.partition_keys, partition_keys),
        parameters: table.parameters.clone(),
        table_type: table.table_type.clone(),
        other,
    })
}

fn to_columns(columns: &[Column], current: Vec<wire::Column>) -> Vec<wire::Column> {
    let mut others: HashMap<String, Other> = current.into_iter().map(|c| (c.name.to_lowercase(), c.other)).collect();
    let column = |column: &Column| wire::Column {
        name: column.name.clone(),
        r#type: Some(column.data_type.clone()),
        comment: column.comment.clone(),
        other: others.remove(&column.name.to_lowercase()).unwrap_or_default(),
    };
    columns.iter().map(column).collect()
}

fn column_from(found: wire::Column) -> Column {
    Column { comment: text(found.comment), ..Column::foreign(found.name, found.r#type.unwrap_or_default()) }
}

fn to_storage(storage: &StorageDescriptor, current: wire::StorageDescriptor) -> wire::StorageDescriptor {
    wire::StorageDescriptor {
        columns: to_columns(&storage.columns, current.columns),
        location: storage.location.as_ref().map(Location::to_string),
        input_format: storage.input_format.clone(),
        output_format: storage.output_format.clone(),
        serde_info: wire::SerdeInfo {
            serialization_library: storage.serde_library.clone(),
            parameters: storage.serde_parameters.clone(),
            other: current.serde_info.other,
        },
        parameters: storage.parameters.clone(),
        other: current.other,
    }
}

fn storage_from(found: wire::StorageDescriptor) -> StorageDescriptor {
    StorageDescriptor {
        columns: found.columns.into_iter().map(column_from).collect(),
        location: text(found.location).map(Location::from),
        input_format: text(found.input_format),
        output_format: text(found.output_format),
        serde_library: text(found.serde_info.serialization_library),
        serde_parameters: found.serde_info.parameters,
        parameters: found.parameters,
    }
}

pub(super) fn partition_input(partition: &Partition) -> wire::Partition {
    wire::Partition {
        values: partition.values.clone(),
        storage_descriptor: to_storage(&partition.storage, wire::StorageDescriptor::default()),
        parameters: partition.parameters.clone(),
    }
}

pub(super) fn partition_from(found: wire::Partition) -> Partition {
    Partition { values: found.values, storage: storage_from(found.storage_descriptor), parameters: found.parameters }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::TableFormat;

    /// As earlier releases have it, with whose versions it is compared.
    #[rstest]
    #[case(r#"{"VersionId": "3", "CreateTime": 1700000000.5}"#, Some("3@1700000000.5"))]
    #[case(r#"{"VersionId": "3", "CreateTime": 1700000000}"#, Some("3@1700000000"))]
    #[case(r#"{"VersionId": "3", "CreateTime": 1.700000000123E9}"#, Some("3@1700000000.123"))]
    #[case(r#"{"VersionId": "3", "CreateTime": 1796032576.3617535}"#, Some("3@1796032576.3617535"))]
    #[case(r#"{"VersionId": "3", "CreateTime": null}"#, Some("3@0"))]
    #[case(r#"{"VersionId": "3"}"#, Some("3@0"))]
    #[case(r#"{"CreateTime": 1700000000.5}"#, None)]
    fn a_version_has_the_time_of_creation(#[case] answer: &str, #[case] expected: Option<&str>) {
        assert_eq!(version(&serde_json::from_str(answer).unwrap()).as_deref(), expected);
    }

    #[test]
    fn null_is_what_is_not_there() {
        let nulls = r#"{"Name": "t", "Description": null, "PartitionKeys": null, "Parameters": {"a": null, "b": "c"},
            "StorageDescriptor": {"Columns": null, "SerdeInfo": null, "Parameters": null}, "Owner": null}"#;
        let found: wire::Table = serde_json::from_str(nulls).unwrap();
        let table = table_from("lake", found.clone());
        assert_eq!(table.parameters.into_iter().collect::<Vec<_>>(), [("b".to_owned(), "c".to_owned())]);
        assert_eq!((table.storage, table.partition_keys), (StorageDescriptor::default(), Vec::new()));
        let ours = TableDescription::new("lake", "t", &TableFormat::Parquet, "s3://lake/t");
        assert!(table_input(&ours, Some(found)).unwrap().other.is_empty());
    }
}
