//! What other engines do to a table: they delete rows where they are, rename and drop columns, partition anew.
#![expect(clippy::disallowed_methods, reason = "makes the files of another engine")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use iceberg::TableUpdate;
use iceberg::io::{FileIO, FileIOBuilder, LocalFsStorageFactory};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Manifest, ManifestContentType, ManifestList,
    ManifestListWriter, ManifestWriterBuilder, Operation, Snapshot, SnapshotReference, SnapshotRetention, Struct,
    Summary, TableMetadata,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};

use super::World;

/// How rows are deleted where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletes {
    Positions,
    /// By `id`, the field 1.
    Values,
}

/// A row in a file.
struct Place {
    path: String,
    row: i64,
    spec_id: i32,
    partition: Struct,
}

fn io() -> FileIO {
    FileIOBuilder::new(Arc::new(LocalFsStorageFactory)).build()
}

fn field(id: i32, name: &str, of: DataType) -> Field {
    Field::new(name, of, true).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
}

impl World {
    pub(crate) async fn table_metadata(&self) -> TableMetadata {
        let table = self.catalog.get_table("lake", "t").await.unwrap();
        TableMetadata::read_from(&io(), table.metadata_location().unwrap()).await.unwrap()
    }

    /// Commits updates as another engine does.
    pub(crate) async fn change(&self, updates: Vec<TableUpdate>) {
        let description = self.catalog.get_table("lake", "t").await.unwrap();
        let before = description.metadata_location().unwrap().to_owned();
        let metadata = TableMetadata::read_from(&io(), &before).await.unwrap();
        let mut builder = metadata.into_builder(Some(before));
        for update in updates {
            builder = update.apply(builder).unwrap();
        }
        let metadata = builder.build().unwrap().metadata;
        let name = format!("{}/metadata/99999-{}.metadata.json", metadata.location(), uuid::Uuid::new_v4());
        metadata.write_to(&io(), &name.parse().unwrap()).await.unwrap();
        self.catalog.update_table(&description.with_metadata_location(&name)).await.unwrap();
    }

    /// The table's oldest snapshot.
    pub(crate) async fn first_snapshot(&self) -> i64 {
        let metadata = self.table_metadata().await;
        let first = metadata.snapshots().min_by_key(|snapshot| snapshot.sequence_number());
        first.unwrap().snapshot_id()
    }

    /// The manifests of the current snapshot, with their specs.
    pub(crate) async fn manifests(&self) -> Vec<(i32, Manifest)> {
        let metadata = self.table_metadata().await;
        let Some(snapshot) = metadata.current_snapshot() else { return Vec::new() };
        let list = std::fs::read(snapshot.manifest_list()).unwrap();
        let list = ManifestList::parse_with_version(&list, metadata.format_version()).unwrap();
        let mut manifests = Vec::new();
        for file in list.entries() {
            manifests.push((file.partition_spec_id, file.load_manifest(&io()).await.unwrap()));
        }
        manifests
    }

    /// The live files of this content.
    pub(crate) async fn live(&self, content: DataContentType) -> Vec<(i32, DataFile)> {
        let mut live = Vec::new();
        for (spec_id, manifest) in self.manifests().await {
            let entries = manifest.entries().iter().filter(|entry| entry.is_alive());
            live.extend(entries.map(|entry| (spec_id, entry.data_file().clone())));
        }
        live.retain(|(_, file)| file.content_type() == content);
        live
    }

    /// Where the rows with these ids are.
    async fn places(&self, ids: Vec<i64>) -> Vec<Place> {
        let mut places = Vec::new();
        for (spec_id, file) in self.live(DataContentType::Data).await {
            let content = std::fs::File::open(file.file_path()).unwrap();
            let mut first = 0;
            for batch in ParquetRecordBatchReaderBuilder::try_new(content).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let is_id = |field: &Arc<Field>| field.metadata().get(PARQUET_FIELD_ID_META_KEY).unwrap() == "1";
                let at = batch.schema().fields().iter().position(is_id).unwrap();
                let found = batch.column(at).as_primitive::<Int64Type>().clone();
                for row in (0..batch.num_rows()).filter(|row| ids.contains(&found.value(*row))) {
                    let (path, partition) = (file.file_path().to_owned(), file.partition().clone());
                    places.push(Place { path, row: first + row as i64, spec_id, partition });
                }
                first += batch.num_rows() as i64;
            }
        }
        places
    }

    /// Deletes rows where they are, in one snapshot.
    pub(crate) async fn delete_rows(&self, ids: &[i64], how: Deletes) {
        let metadata = self.table_metadata().await;
        let mut groups: Vec<(i32, Struct, Vec<Place>)> = Vec::new();
        for place in self.places(ids.to_vec()).await {
            let same = |group: &&mut (i32, Struct, _)| group.0 == place.spec_id && group.1 == place.partition;
            match groups.iter_mut().find(same) {
                Some((.., places)) => places.push(place),
                None => groups.push((place.spec_id, place.partition.clone(), vec![place])),
            }
        }
        let mut by_spec: HashMap<i32, Vec<DataFile>> = HashMap::new();
        for (spec_id, partition, mut places) in groups {
            places.sort_by(|a, b| (&a.path, a.row).cmp(&(&b.path, b.row)));
            let columns: Vec<(Field, ArrayRef)> = match how {
                Deletes::Positions => vec![
                    (
                        field(2_147_483_546, "file_path", DataType::Utf8),
                        Arc::new(StringArray::from_iter_values(places.iter().map(|place| &place.path))),
                    ),
                    (
                        field(2_147_483_545, "pos", DataType::Int64),
                        Arc::new(Int64Array::from_iter_values(places.iter().map(|place| place.row))),
                    ),
                ],
                Deletes::Values => {
                    vec![(field(1, "id", DataType::Int64), Arc::new(Int64Array::from(ids.to_vec())))]
                }
            };
            let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
            let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
            let path = format!("{}/data/deletes-{}.parquet", metadata.location(), unique());
            let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
            writer.write(&rows).unwrap();
            let content = writer.into_inner().unwrap();
            std::fs::write(&path, &content).unwrap();
            let mut file = DataFileBuilder::default();
            file.file_path(path)
                .file_format(DataFileFormat::Parquet)
                .partition(partition)
                .partition_spec_id(spec_id)
                .record_count(rows.num_rows() as u64)
                .file_size_in_bytes(content.len() as u64);
            match how {
                Deletes::Positions => file.content(DataContentType::PositionDeletes),
                Deletes::Values => file.content(DataContentType::EqualityDeletes).equality_ids(Some(vec![1])),
            };
            by_spec.entry(spec_id).or_default().push(file.build().unwrap());
        }
        self.add_deletes(&metadata, by_spec).await;
    }

    async fn add_deletes(&self, metadata: &TableMetadata, by_spec: HashMap<i32, Vec<DataFile>>) {
        let parent = metadata.current_snapshot().unwrap();
        let (id, sequence) = (unique() as i64 + 1, metadata.next_sequence_number());
        let list = std::fs::read(parent.manifest_list()).unwrap();
        let list = ManifestList::parse_with_version(&list, metadata.format_version()).unwrap();
        let mut manifests: Vec<_> = list.consume_entries().into_iter().collect();
        for (spec_id, files) in by_spec {
            let output = io().new_output(format!("{}/metadata/d-{}.avro", metadata.location(), unique())).unwrap();
            let spec = metadata.partition_spec_by_id(spec_id).unwrap().as_ref().clone();
            let schema = Arc::clone(metadata.current_schema());
            let mut writer = ManifestWriterBuilder::new(output, Some(id), schema, spec).build_v2_deletes();
            for file in files {
                writer.add_file(file, -1).unwrap();
            }
            manifests.push(writer.write_manifest_file().await.unwrap());
            assert_eq!(manifests.last().unwrap().content, ManifestContentType::Deletes);
        }
        let path = format!("{}/metadata/snap-{}.avro", metadata.location(), unique());
        let output = io().new_output(&path).unwrap().writer().await.unwrap();
        let mut list = ManifestListWriter::v2(output, id, Some(parent.snapshot_id()), sequence);
        list.add_manifests(manifests.into_iter()).unwrap();
        list.close().await.unwrap();
        let snapshot = Snapshot::builder()
            .with_manifest_list(path)
            .with_snapshot_id(id)
            .with_parent_snapshot_id(Some(parent.snapshot_id()))
            .with_sequence_number(sequence)
            .with_summary(Summary { operation: Operation::Delete, additional_properties: HashMap::new() })
            .with_schema_id(metadata.current_schema_id())
            .with_timestamp_ms(metadata.last_updated_ms() + 1)
            .build();
        let reference = SnapshotReference::new(id, SnapshotRetention::branch(None, None, None));
        let set = TableUpdate::SetSnapshotRef { ref_name: "main".to_owned(), reference };
        self.change(vec![TableUpdate::AddSnapshot { snapshot }, set]).await;
    }
}

/// A number that no other call has returned.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
