//! What a table consists of, as tables: the metadata tables of Iceberg, with Spark's names of columns.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use futures::TryStreamExt;
use hardtack_core::{Error, Result, nearest};
use iceberg::spec::{DataContentType, ManifestEntryRef, SnapshotRetention};

use crate::catalog::Loaded;
use crate::error::failed;
use crate::snapshot::{ancestors, contents, manifests_of};
use crate::version::{Version, refs};

const NAMES: [&str; 6] = ["snapshots", "history", "refs", "manifests", "files", "partitions"];

/// The metadata table of this name.
///
/// # Errors
/// Usage if there is none of this name.
pub(crate) async fn inspect(table: &Loaded, name: &str) -> Result<Arc<dyn TableProvider>> {
    let rows = metadata(table, name).await?;
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

/// The rows of the metadata table of this name.
pub(crate) async fn metadata(table: &Loaded, name: &str) -> Result<RecordBatch> {
    Ok(match name {
        "snapshots" => snapshots(table)?,
        "history" => history(table)?,
        "refs" => references(table)?,
        "manifests" => manifests(table).await?,
        "files" => files(table).await?,
        "partitions" => partitions(table).await?,
        _ => {
            let error = Error::usage("an Iceberg table has no metadata table of this name")
                .with("table", table.qualified_name())
                .with("name", name)
                .with("names", NAMES.join(", "));
            return Err(match nearest(name, NAMES) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            });
        }
    })
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)))?)
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn texts<T: Into<String>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.map(|text| text.map(Into::into)).collect::<StringArray>())
}

fn snapshots(table: &Loaded) -> Result<RecordBatch> {
    let mut all: Vec<_> = table.metadata().snapshots().collect();
    all.sort_by_key(|s| (s.timestamp_ms(), s.sequence_number()));
    let summary = |s: &iceberg::spec::Snapshot| {
        let sorted: BTreeMap<_, _> = s.summary().additional_properties.iter().collect();
        serde_json::to_string(&sorted).ok()
    };
    rows(vec![
        ("committed_at", times(all.iter().map(|s| s.timestamp_ms()))),
        ("snapshot_id", Arc::new(all.iter().map(|s| Some(s.snapshot_id())).collect::<Int64Array>())),
        ("parent_id", Arc::new(all.iter().map(|s| s.parent_snapshot_id()).collect::<Int64Array>())),
        ("operation", texts(all.iter().map(|s| Some(s.summary().operation.as_str())))),
        ("manifest_list", texts(all.iter().map(|s| Some(s.manifest_list())))),
        ("summary", texts(all.iter().map(|s| summary(s)))),
    ])
}

fn history(table: &Loaded) -> Result<RecordBatch> {
    let metadata = table.metadata();
    let current: HashSet<i64> = match metadata.current_snapshot_id() {
        Some(head) => ancestors(table, head).map(|s| s.snapshot_id()).collect(),
        None => HashSet::new(),
    };
    let all = metadata.history();
    let parent = |id: i64| metadata.snapshot_by_id(id).and_then(|s| s.parent_snapshot_id());
    rows(vec![
        ("made_current_at", times(all.iter().map(|entry| entry.timestamp_ms()))),
        ("snapshot_id", Arc::new(all.iter().map(|entry| Some(entry.snapshot_id)).collect::<Int64Array>())),
        ("parent_id", Arc::new(all.iter().map(|entry| parent(entry.snapshot_id)).collect::<Int64Array>())),
        (
            "is_current_ancestor",
            Arc::new(all.iter().map(|entry| Some(current.contains(&entry.snapshot_id))).collect::<BooleanArray>()),
        ),
    ])
}

fn references(table: &Loaded) -> Result<RecordBatch> {
    let all = refs(table)?;
    let kind = |retention: &SnapshotRetention| match retention {
        SnapshotRetention::Branch { .. } => "BRANCH",
        SnapshotRetention::Tag { .. } => "TAG",
    };
    let age = |retention: &SnapshotRetention| match retention {
        SnapshotRetention::Branch { max_ref_age_ms, .. } | SnapshotRetention::Tag { max_ref_age_ms } => *max_ref_age_ms,
    };
    rows(vec![
        ("name", texts(all.iter().map(|r| Some(r.name.as_str())))),
        ("type", texts(all.iter().map(|r| Some(kind(&r.reference.retention))))),
        ("snapshot_id", Arc::new(all.iter().map(|r| Some(r.reference.snapshot_id)).collect::<Int64Array>())),
        ("max_reference_age_in_ms", Arc::new(all.iter().map(|r| age(&r.reference.retention)).collect::<Int64Array>())),
    ])
}

async fn manifests(table: &Loaded) -> Result<RecordBatch> {
    let all = match Version::Current.of(table)? {
        Some(snapshot) => manifests_of(table, &snapshot).await?,
        None => Vec::new(),
    };
    let count = |of: fn(&iceberg::spec::ManifestFile) -> Option<u32>| -> ArrayRef {
        Arc::new(all.iter().map(|m| of(m).map(u64::from)).collect::<UInt64Array>())
    };
    rows(vec![
        ("path", texts(all.iter().map(|m| Some(m.manifest_path.as_str())))),
        ("length", Arc::new(all.iter().map(|m| Some(m.manifest_length)).collect::<Int64Array>())),
        ("partition_spec_id", Arc::new(all.iter().map(|m| Some(m.partition_spec_id)).collect::<Int32Array>())),
        ("added_snapshot_id", Arc::new(all.iter().map(|m| Some(m.added_snapshot_id)).collect::<Int64Array>())),
        ("added_data_files_count", count(|m| m.added_files_count)),
        ("existing_data_files_count", count(|m| m.existing_files_count)),
        ("deleted_data_files_count", count(|m| m.deleted_files_count)),
    ])
}

/// The live entries of the current snapshot, each with its partition as JSON.
async fn entries(table: &Loaded) -> Result<Vec<(i32, Option<String>, ManifestEntryRef)>> {
    let Some(snapshot) = Version::Current.of(table)? else { return Ok(Vec::new()) };
    let mut loading = contents(table, manifests_of(table, &snapshot).await?);
    let mut all = Vec::new();
    while let Some((file, manifest)) = loading.try_next().await? {
        let spec_id = file.partition_spec_id;
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            all.push((spec_id, partition(table, spec_id, entry)?, Arc::clone(entry)));
        }
    }
    Ok(all)
}

/// The values of the partition fields by name; `None` without partition fields.
fn partition(table: &Loaded, spec_id: i32, entry: &ManifestEntryRef) -> Result<Option<String>> {
    let metadata = table.metadata();
    let Some(spec) = metadata.partition_spec_by_id(spec_id).filter(|spec| !spec.is_unpartitioned()) else {
        return Ok(None);
    };
    let types = spec.partition_type(metadata.current_schema()).map_err(failed)?;
    let mut values = serde_json::Map::new();
    for (field, value) in types.fields().iter().zip(entry.data_file().partition().iter()) {
        let value = match value {
            Some(value) => value.clone().try_into_json(&field.field_type).map_err(failed)?,
            None => serde_json::Value::Null,
        };
        values.insert(field.name.clone(), value);
    }
    Ok(Some(serde_json::Value::Object(values).to_string()))
}

async fn files(table: &Loaded) -> Result<RecordBatch> {
    let all = entries(table).await?;
    let content = |entry: &ManifestEntryRef| match entry.content_type() {
        DataContentType::Data => "DATA",
        DataContentType::PositionDeletes => "POSITION_DELETES",
        DataContentType::EqualityDeletes => "EQUALITY_DELETES",
    };
    let number = |of: fn(&ManifestEntryRef) -> u64| -> ArrayRef {
        Arc::new(all.iter().map(|(_, _, entry)| Some(of(entry))).collect::<UInt64Array>())
    };
    rows(vec![
        ("content", texts(all.iter().map(|(_, _, entry)| Some(content(entry))))),
        ("file_path", texts(all.iter().map(|(_, _, entry)| Some(entry.file_path())))),
        ("file_format", texts(all.iter().map(|(_, _, entry)| Some(entry.file_format().to_string())))),
        ("spec_id", Arc::new(all.iter().map(|(spec, ..)| Some(*spec)).collect::<Int32Array>())),
        ("partition", texts(all.iter().map(|(_, partition, _)| partition.clone()))),
        ("record_count", number(|entry| entry.record_count())),
        ("file_size_in_bytes", number(|entry| entry.file_size_in_bytes())),
    ])
}

async fn partitions(table: &Loaded) -> Result<RecordBatch> {
    let mut all: BTreeMap<(Option<String>, i32), (u64, u64, u64)> = BTreeMap::new();
    for (spec_id, partition, entry) in entries(table).await? {
        if entry.content_type() == DataContentType::Data {
            let counts = all.entry((partition, spec_id)).or_default();
            *counts = (counts.0 + entry.record_count(), counts.1 + 1, counts.2 + entry.file_size_in_bytes());
        }
    }
    let number = |of: fn(&(u64, u64, u64)) -> u64| -> ArrayRef {
        Arc::new(all.values().map(|counts| Some(of(counts))).collect::<UInt64Array>())
    };
    rows(vec![
        ("partition", texts(all.keys().map(|(partition, _)| partition.clone()))),
        ("spec_id", Arc::new(all.keys().map(|(_, spec)| Some(*spec)).collect::<Int32Array>())),
        ("record_count", number(|counts| counts.0)),
        ("file_count", number(|counts| counts.1)),
        ("total_data_file_size_in_bytes", number(|counts| counts.2)),
    ])
}
