//! Conversions between our values and Glue's.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_glue::types::{
    Column as GlueColumn, Database as GlueDatabase, DatabaseInput, Partition as GluePartition, PartitionInput,
    SerDeInfo, StorageDescriptor as GlueStorage, Table as GlueTable, TableInput,
};
use hardtack_core::{Error, Location, Result};

use crate::table::{Column, Database, Partition, StorageDescriptor, TableDescription};

use super::incomplete;

type GlueMap = Option<HashMap<String, String>>;

fn to_map(map: &BTreeMap<String, String>) -> GlueMap {
    Some(map.clone().into_iter().collect())
}

fn from_map(map: GlueMap) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

/// Glue returns an empty text for a missing one.
fn text(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn database_input(database: &Database) -> Result<DatabaseInput> {
    DatabaseInput::builder()
        .name(&database.name)
        .set_description(database.description.clone())
        .set_location_uri(database.location.as_ref().map(Location::to_string))
        .set_parameters(to_map(&database.parameters))
        .build()
        .map_err(incomplete)
}

pub(super) fn database_from(found: GlueDatabase) -> Database {
    let mut database = Database::new(found.name);
    database.description = text(found.description);
    database.location = text(found.location_uri).map(Location::from);
    database.parameters = from_map(found.parameters);
    database
}

/// Glue restarts the version count when a table is recreated, so our version includes the time of creation.
pub(super) fn version(found: &GlueTable) -> Option<String> {
    let created = found.create_time.map_or(0.0, |time| time.as_secs_f64());
    Some(format!("{}@{created}", found.version_id.as_ref()?))
}

pub(super) fn table_from(database: &str, found: GlueTable) -> TableDescription {
    TableDescription {
        version: version(&found),
        database: found.database_name.unwrap_or_else(|| database.to_owned()),
        name: found.name,
        description: text(found.description),
        storage: found.storage_descriptor.map(storage_from).unwrap_or_default(),
        partition_keys: found.partition_keys.unwrap_or_default().into_iter().map(column_from).collect(),
        parameters: from_map(found.parameters),
        table_type: text(found.table_type),
    }
}

/// A table as Glue expects it, with those properties of the current table that hardtack does not model.
pub(super) fn table_input(table: &TableDescription, current: Option<GlueTable>) -> Result<TableInput> {
    let mut input = TableInput::builder();
    let (mut storage, mut keys) = (None, None);
    if let Some(current) = current {
        if current.view_definition.is_some() {
            return Err(Error::usage("a view in several dialects can only be changed where it was created")
                .with("table", table.qualified_name()));
        }
        input = input
            .set_owner(current.owner)
            .set_last_access_time(current.last_access_time)
            .set_last_analyzed_time(current.last_analyzed_time)
            .retention(current.retention)
            .set_view_original_text(current.view_original_text)
            .set_view_expanded_text(current.view_expanded_text)
            .set_target_table(current.target_table);
        (storage, keys) = (current.storage_descriptor, current.partition_keys);
    }
    input
        .name(&table.name)
        .set_description(table.description.clone())
        .set_table_type(table.table_type.clone())
        .storage_descriptor(to_storage(&table.storage, storage)?)
        .set_partition_keys(Some(to_columns(&table.partition_keys, keys)?))
        .set_parameters(to_map(&table.parameters))
        .build()
        .map_err(incomplete)
}

fn to_columns(columns: &[Column], current: Option<Vec<GlueColumn>>) -> Result<Vec<GlueColumn>> {
    let mut parameters: HashMap<String, GlueMap> =
        current.unwrap_or_default().into_iter().map(|c| (c.name.to_lowercase(), c.parameters)).collect();
    let column = |column: &Column| {
        GlueColumn::builder()
            .name(&column.name)
            .r#type(&column.data_type)
            .set_comment(column.comment.clone())
            .set_parameters(parameters.remove(&column.name.to_lowercase()).flatten())
            .build()
            .map_err(incomplete)
    };
    columns.iter().map(column).collect()
}

fn column_from(found: GlueColumn) -> Column {
    Column { comment: text(found.comment), ..Column::foreign(found.name, found.r#type.unwrap_or_default()) }
}

fn to_storage(storage: &StorageDescriptor, current: Option<GlueStorage>) -> Result<GlueStorage> {
    let mut current = current.unwrap_or_else(|| GlueStorage::builder().build());
    let name = current.serde_info.and_then(|serde| serde.name);
    let serde = SerDeInfo::builder().set_name(name).set_serialization_library(storage.serde_library.clone());
    current.serde_info = Some(serde.set_parameters(to_map(&storage.serde_parameters)).build());
    current.columns = Some(to_columns(&storage.columns, current.columns)?);
    current.location = storage.location.as_ref().map(Location::to_string);
    current.input_format.clone_from(&storage.input_format);
    current.output_format.clone_from(&storage.output_format);
    current.parameters = to_map(&storage.parameters);
    Ok(current)
}

fn storage_from(found: GlueStorage) -> StorageDescriptor {
    let serde = found.serde_info;
    StorageDescriptor {
        columns: found.columns.unwrap_or_default().into_iter().map(column_from).collect(),
        location: text(found.location).map(Location::from),
        input_format: text(found.input_format),
        output_format: text(found.output_format),
        serde_library: serde.as_ref().and_then(|serde| text(serde.serialization_library.clone())),
        serde_parameters: from_map(serde.and_then(|serde| serde.parameters)),
        parameters: from_map(found.parameters),
    }
}

pub(super) fn partition_input(partition: &Partition) -> Result<PartitionInput> {
    Ok(PartitionInput::builder()
        .set_values(Some(partition.values.clone()))
        .storage_descriptor(to_storage(&partition.storage, None)?)
        .set_parameters(to_map(&partition.parameters))
        .build())
}

pub(super) fn partition_from(found: GluePartition) -> Partition {
    Partition {
        values: found.values.unwrap_or_default(),
        storage: found.storage_descriptor.map(storage_from).unwrap_or_default(),
        parameters: from_map(found.parameters),
    }
}
