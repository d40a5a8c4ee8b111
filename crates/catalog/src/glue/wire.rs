//! The values of Glue's API, as its JSON has them. What hardtack does not model is either ignored or kept in `other`.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Members that hardtack does not model, for updates that keep them.
pub(super) type Other = Map<String, Value>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Database {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location_uri: Option<String>,
    #[serde(deserialize_with = "texts")]
    pub(super) parameters: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Column {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
    #[serde(flatten)]
    pub(super) other: Other,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SerdeInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) serialization_library: Option<String>,
    #[serde(deserialize_with = "texts")]
    pub(super) parameters: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(super) other: Other,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct StorageDescriptor {
    #[serde(deserialize_with = "nullable")]
    pub(super) columns: Vec<Column>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input_format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_format: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) serde_info: SerdeInfo,
    #[serde(deserialize_with = "texts")]
    pub(super) parameters: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// A table as Glue answers it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) database_name: Option<String>,
    pub(super) description: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) storage_descriptor: StorageDescriptor,
    #[serde(deserialize_with = "nullable")]
    pub(super) partition_keys: Vec<Column>,
    #[serde(deserialize_with = "texts")]
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) table_type: Option<String>,
    pub(super) version_id: Option<String>,
    /// In seconds. Its text: `serde_json` does not read every number exactly.
    pub(super) create_time: Option<Box<RawValue>>,
    #[serde(flatten)]
    pub(super) other: Other,
}

/// A table as Glue expects it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TableInput {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    pub(super) storage_descriptor: StorageDescriptor,
    pub(super) partition_keys: Vec<Column>,
    pub(super) parameters: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table_type: Option<String>,
    #[serde(flatten)]
    pub(super) other: Other,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Partition {
    #[serde(deserialize_with = "nullable")]
    pub(super) values: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) storage_descriptor: StorageDescriptor,
    #[serde(deserialize_with = "texts")]
    pub(super) parameters: BTreeMap<String, String>,
}

/// The values that name a partition.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartitionValueList {
    pub(super) values: Vec<String>,
}

/// A change of one partition in a batch.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateEntry {
    pub(super) partition_value_list: Vec<String>,
    pub(super) partition_input: Partition,
}

// --- answers -------------------------------------------------------------------------------------------------------

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FoundDatabase {
    pub(super) database: Option<Database>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FoundTable {
    pub(super) table: Option<Table>,
}

/// A page of a list, whatever it lists.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", bound = "T: DeserializeOwned")]
pub(super) struct Page<T> {
    #[serde(alias = "DatabaseList", alias = "TableList", alias = "Partitions", default, deserialize_with = "nullable")]
    pub(super) items: Vec<T>,
    next_token: Option<String>,
}

impl<T> Page<T> {
    /// The token of the next page, if there is one, and the items.
    pub(super) fn into_parts(self) -> (Vec<T>, Option<String>) {
        (self.items, self.next_token.filter(|token| !token.is_empty()))
    }
}

/// Partitions that were looked up.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct FoundPartitions {
    #[serde(deserialize_with = "nullable")]
    pub(super) partitions: Vec<Partition>,
    #[serde(deserialize_with = "nullable")]
    pub(super) unprocessed_keys: Vec<PartitionValueList>,
}

/// What failed of a batch.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct BatchErrors {
    #[serde(deserialize_with = "nullable")]
    pub(super) errors: Vec<PartitionError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct PartitionError {
    #[serde(alias = "PartitionValueList", deserialize_with = "nullable")]
    pub(super) partition_values: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) error_detail: ErrorDetail,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ErrorDetail {
    #[serde(deserialize_with = "nullable")]
    pub(super) error_code: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) error_message: String,
}

/// The default for null.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A map without the entries that are null.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let entries: BTreeMap<String, Option<String>> = nullable(deserializer)?;
    Ok(entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}
