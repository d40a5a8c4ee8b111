//! Produces snapshots: a manifest of the added files, the manifests of the parent without what is replaced, their list.

mod merge;
mod regroup;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use hardtack_core::{Error, Result, fault};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, FormatVersion, Literal, Manifest, ManifestContentType,
    ManifestEntryRef, ManifestFile, ManifestListWriter, ManifestStatus, ManifestWriter, ManifestWriterBuilder,
    NestedFieldRef, Operation, PartitionSpec, PrimitiveLiteral, PrimitiveType, SchemaRef, Snapshot, SnapshotRef,
    Struct, StructType, Summary, Type,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::{Loaded, metadata_folder};
use crate::error::failed;
use crate::touched::Replaced;

pub(crate) use merge::{TARGET, TARGET_BYTES};
pub(crate) use regroup::Regrouping;

/// What a snapshot does to the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// They stay.
    #[default]
    Append,
    /// Those of partitions with new rows are replaced; in a table without partitions, all.
    OverwritePartitions,
    /// All are replaced.
    Overwrite,
    /// Those of given partitions are replaced, whether or not they have new rows.
    OverwriteTouched,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::OverwritePartitions => "overwrite_partitions",
            Self::Overwrite => "overwrite",
            Self::OverwriteTouched => "overwrite_touched",
        }
    }

    /// The inverse of [`Mode::name`].
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Append, Self::OverwritePartitions, Self::Overwrite, Self::OverwriteTouched]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// How many manifests are read concurrently.
const READS: usize = 32;
/// The number of files per manifest. They are held three times while it is written: here, by the writer, and as bytes.
const FILES_PER_MANIFEST: usize = 2_000;

/// A snapshot to be produced. It may be produced several times, on different parents, until one is committed.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: i64,
    pub(crate) mode: Mode,
    /// The schema of the snapshot, and its id.
    pub(crate) schema: SchemaRef,
    pub(crate) schema_id: i32,
    /// The spec of all added files.
    spec_id: i32,
    added: Vec<DataFile>,
    /// What [`Mode::OverwriteTouched`] replaces.
    replaced: Replaced,
    /// Properties of the summary, beside the counts.
    properties: HashMap<String, String>,
    /// Manifests of the added files, once they are written. They do not depend on the parent.
    manifests: Vec<ManifestFile>,
    /// What the added files replace, whatever the mode.
    rewritten: Option<Rewritten>,
    /// All manifests and lists that were written.
    written: Vec<String>,
}

/// Files that a snapshot replaces, by others with the same rows or by none.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// Data files, and files of deletes that were applied to them.
    pub(crate) files: HashSet<String>,
    /// The sequence number of the snapshot that was read. The added files get it, so that equality deletes of later
    /// snapshots still apply to their rows.
    pub(crate) sequence: i64,
    /// Whether the added files have the rows of those.
    pub(crate) same_rows: bool,
}

/// Counts of a summary.
#[derive(Debug, Default)]
struct Counts {
    files: u64,
    rows: u64,
    bytes: u64,
    delete_files: u64,
    position_deletes: u64,
    equality_deletes: u64,
}

impl Counts {
    fn add(&mut self, content: ManifestContentType, file: &DataFile) {
        self.bytes += file.file_size_in_bytes();
        match content {
            ManifestContentType::Data => {
                self.files += 1;
                self.rows += file.record_count();
            }
            ManifestContentType::Deletes => {
                self.delete_files += 1;
                match file.content_type() {
                    DataContentType::EqualityDeletes => self.equality_deletes += file.record_count(),
                    _ => self.position_deletes += file.record_count(),
                }
            }
        }
    }
}

impl Draft {
    pub(crate) fn new(
        loaded: &Loaded,
        mode: Mode,
        spec_id: i32,
        added: Vec<DataFile>,
        properties: HashMap<String, String>,
    ) -> Self {
        let schema = Arc::clone(loaded.metadata().current_schema());
        let schema_id = schema.schema_id();
        let (id, manifests, written) = (new_id(loaded), Vec::new(), Vec::new());
        let (replaced, rewritten) = (Replaced::default(), None);
        Self { id, mode, schema, schema_id, spec_id, added, replaced, properties, manifests, rewritten, written }
    }

    /// The same, to replace these partitions ([`Mode::OverwriteTouched`]).
    pub(crate) fn replacing(self, replaced: Replaced) -> Self {
        Self { replaced, ..self }
    }

    /// What [`Mode::OverwriteTouched`] replaces.
    pub(crate) fn replaced(&self) -> &Replaced {
        &self.replaced
    }

    /// A draft that replaces files by others, in the default spec.
    pub(crate) fn rewriting(
        loaded: &Loaded,
        rewritten: Rewritten,
        added: Vec<DataFile>,
        properties: HashMap<String, String>,
    ) -> Self {
        let spec_id = loaded.metadata().default_partition_spec_id();
        let draft = Self::new(loaded, Mode::Append, spec_id, added, properties);
        Self { rewritten: Some(rewritten), ..draft }
    }

    /// The same with this schema of the table, and its id.
    pub(crate) fn with_schema(self, schema: &SchemaRef, schema_id: i32) -> Self {
        Self { schema: Arc::clone(schema), schema_id, ..self }
    }

    /// Adds a property to the summary.
    pub(crate) fn set(&mut self, key: &str, value: String) {
        self.properties.insert(key.to_owned(), value);
    }

    /// Removes the manifests that were written for a snapshot that will not be committed.
    pub(crate) async fn discard(&mut self, loaded: &Loaded) -> Result<()> {
        self.manifests.clear();
        for file in std::mem::take(&mut self.written) {
            loaded.file_io().delete(&file).await.map_err(failed)?;
        }
        Ok(())
    }

    fn writer(
        &mut self,
        loaded: &Loaded,
        content: ManifestContentType,
        spec: &PartitionSpec,
        schema: &SchemaRef,
    ) -> Result<ManifestWriter> {
        let metadata = loaded.metadata();
        let path = format!("{}/{}-m-{}.avro", metadata_folder(metadata), self.id, Uuid::new_v4());
        let output = loaded.file_io().new_output(&path).map_err(failed)?;
        self.written.push(path);
        let schema = Arc::clone(schema);
        let builder = ManifestWriterBuilder::new(output, Some(self.id), schema, spec.clone());
        Ok(match (metadata.format_version(), content) {
            (FormatVersion::V1, _) => builder.build_v1(),
            (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
            (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
            (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
        })
    }

    /// The manifests of the added files, whose sequence number is inherited from the commit.
    async fn added_manifests(&mut self, loaded: &Loaded) -> Result<Vec<ManifestFile>> {
        if self.manifests.is_empty() {
            let spec = spec(loaded, self.spec_id)?;
            // The first version of the format has no sequence numbers.
            let sequence = match (&self.rewritten, loaded.metadata().format_version()) {
                (None, _) | (_, FormatVersion::V1) => -1,
                (Some(rewritten), _) => rewritten.sequence,
            };
            let schema = Arc::clone(&self.schema);
            for start in (0..self.added.len()).step_by(FILES_PER_MANIFEST) {
                let mut writer = self.writer(loaded, ManifestContentType::Data, spec, &schema)?;
                for file in self.added.iter().skip(start).take(FILES_PER_MANIFEST) {
                    writer.add_file(file.clone(), sequence).map_err(failed)?;
                }
                self.manifests.push(writer.write_manifest_file().await.map_err(failed)?);
            }
            fault::hit("iceberg.manifest.after")?;
        }
        Ok(self.manifests.clone())
    }

    /// Whether this snapshot, which adds files to these partitions, replaces a file.
    fn replaces(
        &self,
        content: ManifestContentType,
        spec: &PartitionSpec,
        file: &DataFile,
        partitions: &HashSet<Struct>,
    ) -> bool {
        if let Some(rewritten) = &self.rewritten {
            return rewritten.files.contains(file.file_path());
        }
        let partition = file.partition();
        match self.mode {
            Mode::Append => false,
            Mode::Overwrite => true,
            // Without partition fields, all rows are one partition, whatever fields there were before.
            Mode::OverwritePartitions if partitions.contains(&Struct::empty()) => true,
            Mode::OverwritePartitions => spec.spec_id() == self.spec_id && partitions.contains(partition),
            // A file of deletes of another spec may apply to files that stay.
            Mode::OverwriteTouched => match content {
                ManifestContentType::Data => self.replaced.has(spec.spec_id(), partition),
                ManifestContentType::Deletes => self.replaced.partitions.contains(&(spec.spec_id(), partition.clone())),
            },
        }
    }

    /// The manifests of the parent, without what is replaced.
    async fn kept_manifests(
        &mut self,
        loaded: &Loaded,
        parent: &SnapshotRef,
        removed: &mut Counts,
    ) -> Result<Vec<ManifestFile>> {
        let mut list = manifests_of(loaded, parent).await?;
        // What earlier snapshots have removed is not part of this one.
        list.retain(has_live);
        if self.mode == Mode::Append && self.rewritten.is_none() {
            return Ok(list);
        }
        let partitions: HashSet<Struct> = self.added.iter().map(|file| file.partition().clone()).collect();
        let mut loading = contents(loaded, list);
        let mut kept = Vec::new();
        while let Some((file, manifest)) = loading.try_next().await? {
            let spec = spec(loaded, file.partition_spec_id)?;
            // A manifest has the schema that it was written with, whose types may be narrower.
            let schema = manifest.metadata().schema();
            let entries = entries_of(spec, &self.schema, &file, &manifest)?;
            let replaced: Vec<bool> =
                entries.iter().map(|(_, data)| self.replaces(file.content, spec, data, &partitions)).collect();
            if !replaced.contains(&true) {
                // The counts of its files may be missing.
                if !entries.is_empty() {
                    kept.push(file);
                }
                continue;
            }
            let schema = if is_known(spec, &self.schema) { Arc::clone(&self.schema) } else { Arc::clone(schema) };
            let mut writer = self.writer(loaded, file.content, spec, &schema)?;
            for ((entry, data), is_replaced) in entries.into_iter().zip(replaced) {
                let (snapshot, sequence, inherited) =
                    existing_entry(&entry).map_err(|e| e.with("manifest", &file.manifest_path))?;
                if is_replaced {
                    removed.add(file.content, &data);
                    writer.add_delete_file(data, sequence, inherited).map_err(failed)?;
                } else {
                    writer.add_existing_file(data, snapshot, sequence, inherited).map_err(failed)?;
                }
            }
            kept.push(writer.write_manifest_file().await.map_err(failed)?);
        }
        Ok(kept)
    }

    /// Produces the snapshot on this parent: writes what it consists of. Nothing refers to it yet.
    pub(crate) async fn produce(
        &mut self,
        loaded: &Loaded,
        parent: Option<&SnapshotRef>,
        now_ms: i64,
    ) -> Result<Snapshot> {
        let mut removed = Counts::default();
        let mut manifests = self.added_manifests(loaded).await?;
        if let Some(parent) = parent {
            let kept = self.kept_manifests(loaded, parent, &mut removed).await?;
            manifests.extend(self.merged(loaded, kept).await?);
        }
        self.finish(loaded, parent, manifests, &removed, now_ms).await
    }

    /// Writes the list of these manifests.
    async fn finish(
        &mut self,
        loaded: &Loaded,
        parent: Option<&SnapshotRef>,
        manifests: Vec<ManifestFile>,
        removed: &Counts,
        now_ms: i64,
    ) -> Result<Snapshot> {
        let metadata = loaded.metadata();
        let (sequence, first_row_id) = (metadata.next_sequence_number(), metadata.next_row_id());
        let parent_id = parent.map(|parent| parent.snapshot_id());
        let path = format!("{}/snap-{}-{}.avro", metadata_folder(metadata), self.id, Uuid::new_v4());
        let output = loaded.file_io().new_output(&path).map_err(failed)?.writer().await.map_err(failed)?;
        self.written.push(path.clone());
        let mut list = match metadata.format_version() {
            FormatVersion::V1 => ManifestListWriter::v1(output, self.id, parent_id),
            FormatVersion::V2 => ManifestListWriter::v2(output, self.id, parent_id, sequence),
            FormatVersion::V3 => ManifestListWriter::v3(output, self.id, parent_id, sequence, Some(first_row_id)),
        };
        list.add_manifests(manifests.into_iter()).map_err(failed)?;
        let next_row_id = list.next_row_id();
        list.close().await.map_err(failed)?;
        fault::hit("iceberg.list.after")?;
        // Clocks differ between machines; time does not go back in a table.
        let timestamp = now_ms.max(metadata.last_updated_ms());
        let builder = Snapshot::builder()
            .with_manifest_list(path)
            .with_snapshot_id(self.id)
            .with_parent_snapshot_id(parent_id)
            .with_sequence_number(sequence)
            .with_summary(self.summary(parent, removed))
            .with_schema_id(self.schema_id)
            .with_timestamp_ms(timestamp);
        Ok(match next_row_id {
            Some(next) => builder.with_row_range(first_row_id, next - first_row_id).build(),
            None => builder.build(),
        })
    }

    fn summary(&self, parent: Option<&SnapshotRef>, removed: &Counts) -> Summary {
        let mut added = Counts::default();
        self.added.iter().for_each(|file| added.add(ManifestContentType::Data, file));
        let operation = match (self.mode, removed.files + removed.delete_files, self.added.is_empty()) {
            _ if self.rewritten.as_ref().is_some_and(|rewritten| rewritten.same_rows) => Operation::Replace,
            (Mode::Append, ..) if self.rewritten.is_none() => Operation::Append,
            (_, 1.., true) => Operation::Delete,
            _ => Operation::Overwrite,
        };
        let mut properties = self.properties.clone();
        let mut set = |key: &str, value: u64| {
            if value > 0 {
                properties.insert(key.to_owned(), value.to_string());
            }
        };
        set("added-data-files", added.files);
        set("added-records", added.rows);
        set("added-files-size", added.bytes);
        set("deleted-data-files", removed.files);
        set("deleted-records", removed.rows);
        set("removed-files-size", removed.bytes);
        set("removed-delete-files", removed.delete_files);
        set("removed-position-deletes", removed.position_deletes);
        set("removed-equality-deletes", removed.equality_deletes);
        let partitions: BTreeSet<String> = self.added.iter().map(|file| format!("{:?}", file.partition())).collect();
        set("changed-partition-count", partitions.len() as u64);
        let before = |key: &str| match parent {
            Some(parent) => parent.summary().additional_properties.get(key)?.parse::<u64>().ok(),
            None => Some(0),
        };
        let mut total = |key: &str, more: u64, less: u64| {
            if let Some(before) = before(key) {
                properties.insert(key.to_owned(), (before + more).saturating_sub(less).to_string());
            }
        };
        total("total-data-files", added.files, removed.files);
        total("total-records", added.rows, removed.rows);
        total("total-files-size", added.bytes, removed.bytes);
        total("total-delete-files", 0, removed.delete_files);
        total("total-position-deletes", 0, removed.position_deletes);
        total("total-equality-deletes", 0, removed.equality_deletes);
        Summary { operation, additional_properties: properties }
    }
}

/// The manifests of a snapshot.
pub(crate) async fn manifests_of(loaded: &Loaded, snapshot: &SnapshotRef) -> Result<Vec<ManifestFile>> {
    let list = loaded.as_table()?.manifest_list_reader(snapshot).load().await.map_err(failed)?;
    Ok(list.consume_entries().into_iter().collect())
}

/// Manifests with what is in them, in this order, read concurrently.
pub(crate) fn contents(
    loaded: &Loaded,
    manifests: Vec<ManifestFile>,
) -> impl Stream<Item = Result<(ManifestFile, Manifest)>> + Unpin {
    let loading = manifests.into_iter().map(move |file| async move {
        let manifest = file.load_manifest(loaded.file_io()).await.map_err(failed)?;
        Ok((file, manifest))
    });
    stream::iter(loading).buffered(READS)
}

/// What an entry that stays was added with: snapshot, sequence number, sequence number of the file.
fn existing_entry(entry: &ManifestEntryRef) -> Result<(i64, i64, Option<i64>)> {
    match (entry.snapshot_id(), entry.sequence_number()) {
        (Some(snapshot), Some(sequence)) => Ok((snapshot, sequence, entry.file_sequence_number)),
        _ => Err(Error::unexpected("a manifest entry has no sequence number").with("file", entry.file_path())),
    }
}

/// A live file of a snapshot.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) spec_id: i32,
    pub(crate) data: DataFile,
}

/// The live files of a snapshot, data and deletes, as this schema has them.
pub(crate) async fn live(loaded: &Loaded, snapshot: &SnapshotRef, schema: &SchemaRef) -> Result<Vec<Live>> {
    let mut loading = contents(loaded, manifests_of(loaded, snapshot).await?);
    let mut live = Vec::new();
    while let Some((file, manifest)) = loading.try_next().await? {
        let spec_id = file.partition_spec_id;
        let entries = entries_of(spec(loaded, spec_id)?, schema, &file, &manifest)?;
        live.extend(entries.into_iter().map(|(_, data)| Live { spec_id, data }));
    }
    Ok(live)
}

/// Whether a manifest may have live files.
pub(crate) fn has_live(file: &ManifestFile) -> bool {
    file.added_files_count != Some(0) || file.existing_files_count != Some(0)
}

/// The live entries of a manifest; otherwise as [`all_entries_of`].
fn entries_of(
    spec: &PartitionSpec,
    schema: &SchemaRef,
    file: &ManifestFile,
    manifest: &Manifest,
) -> Result<Vec<(ManifestEntryRef, DataFile)>> {
    let mut entries = all_entries_of(spec, schema, file, manifest)?;
    entries.retain(|(entry, _)| entry.is_alive());
    Ok(entries)
}

/// The entries of a manifest, each with its file as this schema has it: with partition values of its types, and with
/// its row id.
fn all_entries_of(
    spec: &PartitionSpec,
    schema: &SchemaRef,
    file: &ManifestFile,
    manifest: &Manifest,
) -> Result<Vec<(ManifestEntryRef, DataFile)>> {
    let types = match is_known(spec, schema) {
        true => Some(spec.partition_type(schema).map_err(failed)?),
        false => None,
    };
    let mut next_row_id = file.first_row_id.and_then(|id| i64::try_from(id).ok());
    let mut entries = Vec::new();
    for entry in manifest.entries() {
        let data = entry.data_file();
        // Those without one have those that follow, in order.
        let first_row_id = match (data.first_row_id(), next_row_id) {
            (None, Some(next)) if file.content == ManifestContentType::Data => {
                next_row_id = Some(next + data.record_count().cast_signed());
                Some(next)
            }
            (own, _) => own,
        };
        let partition = match &types {
            Some(types) => promoted(data.partition(), types),
            None => data.partition().clone(),
        };
        let data = match partition == *data.partition() && first_row_id == data.first_row_id() {
            true => data.clone(),
            false => with_partition(data, file.partition_spec_id, partition, first_row_id)?,
        };
        entries.push((Arc::clone(entry), data));
    }
    Ok(entries)
}

/// Whether a schema has the columns of all partition fields.
fn is_known(spec: &PartitionSpec, schema: &SchemaRef) -> bool {
    spec.fields().iter().all(|field| schema.field_by_id(field.source_id).is_some())
}

/// A partition of a spec in the types of this schema, as far as that has its columns.
pub(crate) fn partition_as(loaded: &Loaded, spec_id: i32, values: &Struct, schema: &SchemaRef) -> Result<Struct> {
    let spec = spec(loaded, spec_id)?;
    Ok(match is_known(spec, schema) {
        true => promoted(values, &spec.partition_type(schema).map_err(failed)?),
        false => values.clone(),
    })
}

/// Partition values in types that have become wider.
fn promoted(partition: &Struct, types: &StructType) -> Struct {
    let value = |(value, field): (Option<&Literal>, &NestedFieldRef)| {
        let Some(Literal::Primitive(value)) = value else { return value.cloned() };
        let Type::Primitive(of) = field.field_type.as_ref() else { return Some(Literal::Primitive(value.clone())) };
        Some(Literal::Primitive(match (of, value) {
            (PrimitiveType::Long, PrimitiveLiteral::Int(n)) => PrimitiveLiteral::Long(i64::from(*n)),
            (PrimitiveType::Double, PrimitiveLiteral::Float(x)) => PrimitiveLiteral::Double(f64::from(x.0).into()),
            (_, value) => value.clone(),
        }))
    };
    partition.iter().zip(types.fields()).map(value).collect()
}

/// The same file with another partition and row id. (The crate has no way to change one.)
fn with_partition(file: &DataFile, spec_id: i32, partition: Struct, first_row_id: Option<i64>) -> Result<DataFile> {
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(partition)
        .partition_spec_id(spec_id)
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(first_row_id)
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(id) = file.sort_order_id() {
        builder.sort_order_id(id);
    }
    builder
        .build()
        .map_err(|e| Error::unexpected("a data file is incomplete").with("file", file.file_path()).because(e))
}

/// The draft of what a snapshot has added, to be produced on another parent: with the same files and properties.
pub(crate) async fn redraft(
    loaded: &Loaded,
    staged: &SnapshotRef,
    mode: Mode,
    (schema, schema_id): (&SchemaRef, i32),
) -> Result<Draft> {
    let (mut added, mut spec_id) = (Vec::new(), loaded.metadata().default_partition_spec_id());
    let mut replaced = Replaced::default();
    let mut list = manifests_of(loaded, staged).await?;
    list.retain(|file| file.added_snapshot_id == staged.snapshot_id() && file.content == ManifestContentType::Data);
    let mut loading = contents(loaded, list);
    while let Some((file, manifest)) = loading.try_next().await? {
        let id = file.partition_spec_id;
        let own = all_entries_of(spec(loaded, id)?, schema, &file, &manifest)?.into_iter();
        let own: Vec<_> = own.filter(|(entry, _)| entry.status() != ManifestStatus::Existing).collect();
        replaced.partitions.extend(own.iter().map(|(_, data)| (id, data.partition().clone())));
        let own = own.into_iter().filter(|(entry, _)| entry.is_alive()).map(|(_, data)| data);
        // Rows get ids when they become visible.
        let own = own.map(|data| match data.first_row_id() {
            Some(_) => with_partition(&data, id, data.partition().clone(), None),
            None => Ok(data),
        });
        let own: Vec<DataFile> = own.collect::<Result<_>>()?;
        if !own.is_empty() {
            spec_id = id;
        }
        added.extend(own);
    }
    let counted =
        |key: &str| ["added-", "deleted-", "removed-", "total-", "changed-"].iter().any(|p| key.starts_with(p));
    let properties = staged.summary().additional_properties.iter().filter(|(key, _)| !counted(key));
    let properties = properties.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Draft::new(loaded, mode, spec_id, added, properties).with_schema(schema, schema_id).replacing(replaced))
}

fn spec(loaded: &Loaded, id: i32) -> Result<&PartitionSpec> {
    let spec = loaded.metadata().partition_spec_by_id(id);
    spec.map(AsRef::as_ref).ok_or_else(|| {
        Error::unexpected("a partition spec is missing").with("table", loaded.qualified_name()).with("spec", id)
    })
}

/// An id that no snapshot of the table has.
fn new_id(loaded: &Loaded) -> i64 {
    loop {
        let (a, b) = Uuid::new_v4().as_u64_pair();
        let id = (a ^ b).cast_signed() & i64::MAX;
        if id > 0 && loaded.metadata().snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

/// Whether a snapshot is another one, or among its ancestors.
pub(crate) fn is_ancestor(loaded: &Loaded, ancestor: i64, of: i64) -> bool {
    ancestors(loaded, of).any(|snapshot| snapshot.snapshot_id() == ancestor)
}

/// A snapshot and its ancestors, as far as the table still has them.
pub(crate) fn ancestors(loaded: &Loaded, of: i64) -> impl Iterator<Item = &SnapshotRef> {
    let metadata = loaded.metadata();
    std::iter::successors(metadata.snapshot_by_id(of), |s| metadata.snapshot_by_id(s.parent_snapshot_id()?))
}
