//! Tables that other engines have changed in ways that this crate does not.
#![expect(clippy::disallowed_methods, reason = "makes files to read")]

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::json::ReaderBuilder;
use arrow::util::display::array_value_to_string;
use datafusion::prelude::{col, lit};
use hardtack_catalog::EmbeddedCatalog;
use hardtack_core::{ErrorKind, JobContext, Stores};
use hardtack_test_support::TempLake;
use iceberg::TableUpdate;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, Datum, FormatVersion, ManifestListWriter, ManifestWriterBuilder,
    NestedFieldRef, Operation, PartitionSpec as Spec, PrimitiveType, Snapshot, SnapshotReference, SnapshotRetention,
    SortOrder, StructType, Summary, TableMetadataBuilder, UnboundPartitionSpec,
};
use parquet::arrow::ArrowWriter;
use rstest::rstest;

use super::*;
use crate::catalog::{IcebergCatalog, Pointers};

fn field(id: i32, name: &str, of: PrimitiveType) -> NestedFieldRef {
    Arc::new(NestedField::optional(id, name, Type::Primitive(of)))
}

fn schema(fields: Vec<NestedFieldRef>) -> Schema {
    Schema::builder().with_fields(fields).build().unwrap()
}

struct World {
    lake: TempLake,
    catalog: Pointers,
    table: Loaded,
    ctx: JobContext,
    meter: Arc<Meter>,
}

impl World {
    async fn new(schema: Schema, spec: impl Into<UnboundPartitionSpec>, version: FormatVersion) -> Self {
        let lake = TempLake::new();
        let at = lake.path().join("t").to_str().unwrap().to_owned();
        let catalog = Arc::new(EmbeddedCatalog::new(lake.path().join("catalog.sqlite")));
        let catalog = Pointers::new(catalog, Arc::new(Stores::new(false)));
        let order = SortOrder::unsorted_order();
        let metadata = TableMetadataBuilder::new(schema, spec, order, at, version, HashMap::new()).unwrap();
        let table = catalog.create("lake", "t", metadata.build().unwrap().metadata).await.unwrap();
        let ctx = JobContext::builder("test").threads(2).build().unwrap();
        Self { lake, catalog, table, ctx, meter: Arc::default() }
    }

    async fn change(&mut self, updates: Vec<TableUpdate>) {
        self.table = self.catalog.commit(&self.table, &[], updates).await.unwrap();
    }

    /// Another schema, which becomes current.
    async fn evolve(&mut self, schema: Schema) {
        let added = TableUpdate::AddSchema { schema };
        self.change(vec![added, TableUpdate::SetCurrentSchema { schema_id: -1 }]).await;
    }

    /// Writes a file of these rows.
    fn file(&self, name: &str, rows: &RecordBatch) -> DataFileBuilder {
        let path = self.lake.path().join(name);
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        writer.write(rows).unwrap();
        let content = writer.into_inner().unwrap();
        std::fs::write(&path, &content).unwrap();
        let mut file = DataFileBuilder::default();
        file.file_path(path.to_str().unwrap().to_owned())
            .content(DataContentType::Data)
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .partition_spec_id(self.table.metadata().default_partition_spec_id())
            .record_count(rows.num_rows() as u64)
            .file_size_in_bytes(content.len() as u64);
        file
    }

    fn path(&self, name: &str) -> String {
        self.lake.path().join(name).to_str().unwrap().to_owned()
    }

    /// Rows in the current schema, from JSON.
    fn rows(&self, json: &str) -> RecordBatch {
        of_json(&arrow_schema(self.table.metadata().current_schema()).unwrap(), json)
    }

    /// Adds files in a snapshot of their own.
    async fn add(&mut self, files: Vec<DataFile>) {
        let metadata = Arc::clone(self.table.metadata());
        let (id, io) = (metadata.last_sequence_number() + 1, self.table.file_io().clone());
        let mut manifests = Vec::new();
        if let Some(parent) = metadata.current_snapshot() {
            let table = self.table.as_table().unwrap();
            let list = table.manifest_list_reader(parent).load().await.unwrap();
            manifests.extend(list.consume_entries());
        }
        let (data, deletes): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.content_type() == DataContentType::Data);
        for (i, files) in [data, deletes].into_iter().enumerate().filter(|(_, files)| !files.is_empty()) {
            let output = io.new_output(self.path(&format!("m-{id}-{i}.avro"))).unwrap();
            let spec = metadata.default_partition_spec().as_ref().clone();
            let writer = ManifestWriterBuilder::new(output, Some(id), Arc::clone(metadata.current_schema()), spec);
            let mut writer = match (metadata.format_version(), i) {
                (FormatVersion::V3, 0) => writer.build_v3_data(),
                (FormatVersion::V3, _) => writer.build_v3_deletes(),
                (_, 0) => writer.build_v2_data(),
                _ => writer.build_v2_deletes(),
            };
            for file in files {
                writer.add_file(file, -1).unwrap();
            }
            manifests.push(writer.write_manifest_file().await.unwrap());
        }
        let path = self.path(&format!("snap-{id}.avro"));
        let output = io.new_output(&path).unwrap().writer().await.unwrap();
        let is_third = metadata.format_version() == FormatVersion::V3;
        let mut list = match is_third {
            true => ManifestListWriter::v3(output, id, None, id, Some(0)),
            false => ManifestListWriter::v2(output, id, None, id),
        };
        list.add_manifests(manifests.into_iter()).unwrap();
        list.close().await.unwrap();
        let builder = Snapshot::builder()
            .with_manifest_list(path)
            .with_snapshot_id(id)
            .with_parent_snapshot_id(metadata.current_snapshot_id())
            .with_sequence_number(id)
            .with_summary(Summary { operation: Operation::Append, additional_properties: HashMap::new() })
            .with_schema_id(metadata.current_schema_id())
            .with_timestamp_ms(metadata.last_updated_ms() + 1);
        let snapshot = match is_third {
            true => builder.with_row_range(metadata.next_row_id(), 100).build(),
            false => builder.build(),
        };
        let reference = SnapshotReference::new(id, SnapshotRetention::branch(None, None, None));
        let set = TableUpdate::SetSnapshotRef { ref_name: "main".to_owned(), reference };
        self.change(vec![TableUpdate::AddSnapshot { snapshot }, set]).await;
    }

    fn scan(&self) -> Result<IcebergScan> {
        let metadata = self.table.metadata();
        let snapshot = metadata.current_snapshot().cloned();
        let schema = Arc::clone(metadata.current_schema());
        IcebergScan::new(self.table.clone(), snapshot, schema, Arc::clone(&self.meter))
    }

    async fn try_read(&self, filter: Option<Expr>) -> Result<Vec<String>> {
        let rows = self.ctx.session().read_table(Arc::new(self.scan()?))?;
        let rows = match filter {
            Some(filter) => rows.filter(filter)?,
            None => rows,
        };
        let mut lines: Vec<String> = rows.collect().await?.iter().flat_map(lines).collect();
        lines.sort();
        Ok(lines)
    }

    async fn read(&self, filter: Option<Expr>) -> Vec<String> {
        self.try_read(filter).await.unwrap()
    }

    /// The number of files that a filter leaves, after its rows were found to be right.
    async fn files_for(&self, filter: Expr, expected: &[&str]) -> u64 {
        let before = self.meter.counts().files;
        assert_eq!(self.read(Some(filter)).await, expected);
        self.meter.counts().files - before
    }
}

fn of_json(schema: &SchemaRef, json: &str) -> RecordBatch {
    ReaderBuilder::new(Arc::clone(schema)).build(json.as_bytes()).unwrap().next().unwrap().unwrap()
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let cell = |column: &arrow::array::ArrayRef, row| match column.is_null(row) {
        true => "-".to_owned(),
        false => array_value_to_string(column, row).unwrap(),
    };
    let row = |row| batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}

/// A table of `id int, name string`, without partitions.
async fn world(version: FormatVersion) -> World {
    let columns = vec![field(1, "id", PrimitiveType::Int), field(2, "name", PrimitiveType::String)];
    World::new(schema(columns), Spec::unpartition_spec(), version).await
}

fn bounds(file: &mut DataFileBuilder, column: i32, of: [Datum; 2]) -> &mut DataFileBuilder {
    let [low, high] = of;
    file.lower_bounds([(column, low)].into()).upper_bounds([(column, high)].into())
}

const ABC: &str = r#"{"id":1,"name":"a"}
{"id":2,"name":"b"}
{"id":null,"name":"c"}
{"id":4,"name":null}"#;

#[tokio::test]
async fn a_table_without_a_snapshot_is_empty() {
    let world = world(FormatVersion::V2).await;
    assert!(world.read(None).await.is_empty());
    assert_eq!(world.scan().unwrap().schema().field(0).metadata(), &HashMap::new());
}

#[tokio::test]
async fn bounds_skip_files() {
    let mut world = world(FormatVersion::V2).await;
    let mut files = Vec::new();
    for i in [1, 10, 20] {
        let rows = world.rows(&format!(r#"{{"id":{i},"name":"n{i}"}}"#));
        files.push(
            bounds(&mut world.file(&format!("{i}.parquet"), &rows), 1, [Datum::int(i), Datum::int(i)]).build().unwrap(),
        );
    }
    world.add(files).await;
    assert_eq!(world.files_for(col("id").eq(lit(10)), &["10|n10"]).await, 1);
    assert_eq!(world.files_for(col("id").gt(lit(9)), &["10|n10", "20|n20"]).await, 2);
    assert_eq!(world.files_for(col("id").in_list(vec![lit(1), lit(20)], false), &["1|n1", "20|n20"]).await, 2);
    assert_eq!(world.files_for(col("name").eq(lit("n1")), &["1|n1"]).await, 3);
    assert_eq!(world.files_for(col("id").eq(lit(15)), &[]).await, 0);
}

/// NaN is greater than all bounds, which exclude it.
#[tokio::test]
async fn files_with_nan_are_not_skipped() {
    let mut world =
        World::new(schema(vec![field(1, "x", PrimitiveType::Double)]), Spec::unpartition_spec(), FormatVersion::V2)
            .await;
    let values = arrow::array::Float64Array::from(vec![1.0, f64::NAN]);
    let columns = arrow_schema(world.table.metadata().current_schema()).unwrap();
    let rows = RecordBatch::try_new(columns, vec![Arc::new(values)]).unwrap();
    let file =
        bounds(&mut world.file("a.parquet", &rows), 1, [Datum::double(1.0), Datum::double(1.0)]).build().unwrap();
    world.add(vec![file]).await;
    assert_eq!(world.read(Some(col("x").gt(lit(5.0)))).await, ["NaN"]);
    assert_eq!(world.read(Some(col("x").not_eq(lit(1.0)))).await, ["NaN"]);
    assert_eq!(world.read(Some(col("x").eq(lit(f64::NAN)))).await, ["NaN"]);
    assert_eq!(world.files_for(col("x").eq(lit(7.0)), &[]).await, 0);
}

#[tokio::test]
async fn columns_are_those_of_the_table_now() {
    let mut world = world(FormatVersion::V2).await;
    let rows = world.rows(ABC);
    let file = bounds(&mut world.file("a.parquet", &rows), 1, [Datum::int(1), Datum::int(4)]).build().unwrap();
    world.add(vec![file]).await;
    // `id` becomes `number` and wider, `name` is dropped and added again.
    let columns = vec![field(3, "name", PrimitiveType::String), field(1, "number", PrimitiveType::Long)];
    world.evolve(schema(columns)).await;
    assert_eq!(world.read(None).await, ["-|-", "-|1", "-|2", "-|4"]);
    assert_eq!(world.read(Some(col("number").gt(lit(1_i64)))).await, ["-|2", "-|4"]);
    assert_eq!(world.read(Some(col("name").eq(lit("a")))).await, Vec::<String>::new());
    let rows = world.rows(r#"{"name":"new","number":5000000000}"#);
    let long = Datum::long(5_000_000_000_i64);
    let file = bounds(&mut world.file("b.parquet", &rows), 1, [long.clone(), long]).build().unwrap();
    world.add(vec![file]).await;
    assert_eq!(world.read(Some(col("number").gt(lit(1_i64)))).await, ["-|2", "-|4", "new|5000000000"]);
}

fn partitioned(by: &str, transform: Transform) -> UnboundPartitionSpec {
    UnboundPartitionSpec::builder().add_partition_field(2, by, transform).unwrap().build()
}

/// Files of migrated tables contain neither ids nor partition columns.
#[tokio::test]
async fn partition_columns_need_not_be_in_files() {
    let columns = vec![field(1, "id", PrimitiveType::Int), field(2, "name", PrimitiveType::String)];
    let mut world = World::new(schema(columns), partitioned("name", Transform::Identity), FormatVersion::V2).await;
    let stored: SchemaRef =
        Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new("id", DataType::Int32, true)]));
    let mut files = Vec::new();
    for (i, name) in [(1, Some("a")), (2, Some("b")), (3, None)] {
        let rows = of_json(&stored, &format!(r#"{{"id":{i}}}"#));
        let value = Struct::from_iter([name.map(Literal::string)]);
        files.push(world.file(&format!("{i}.parquet"), &rows).partition(value).build().unwrap());
    }
    world.add(files).await;
    assert_eq!(world.read(None).await, ["1|a", "2|b", "3|-"]);
    assert_eq!(world.files_for(col("name").eq(lit("b")), &["2|b"]).await, 1);
    assert_eq!(world.files_for(col("name").not_eq(lit("b")), &["1|a"]).await, 2);
    assert_eq!(world.files_for(col("name").is_null(), &["3|-"]).await, 1);
    // With another spec, what a file's partition means is in its manifest.
    let spec = UnboundPartitionSpec::builder().build();
    world.change(vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }]).await;
    let rows = world.rows(r#"{"id":4,"name":"b"}"#);
    let file = world.file("4.parquet", &rows).build().unwrap();
    world.add(vec![file]).await;
    assert_eq!(world.read(None).await, ["1|a", "2|b", "3|-", "4|b"]);
    assert_eq!(world.files_for(col("name").eq(lit("b")), &["2|b", "4|b"]).await, 2);
}

#[rstest]
#[case::bucket(Transform::Bucket(4))]
#[case::truncated(Transform::Truncate(1))]
#[tokio::test]
async fn transformed_partitions_skip_files(#[case] transform: Transform) {
    let columns = vec![field(1, "id", PrimitiveType::Int), field(2, "name", PrimitiveType::String)];
    let mut world = World::new(schema(columns), partitioned("part", transform), FormatVersion::V2).await;
    let mut files = Vec::new();
    for (i, name) in [(1, "ax"), (2, "bx"), (3, "cx")] {
        let rows = world.rows(&format!(r#"{{"id":{i},"name":"{name}"}}"#));
        let function = iceberg::transform::create_transform_function(&transform).unwrap();
        let value = function.transform_literal(&Datum::string(name)).unwrap().unwrap();
        let value = Struct::from_iter([Some(Literal::Primitive(value.literal().clone()))]);
        files.push(world.file(&format!("{i}.parquet"), &rows).partition(value).build().unwrap());
    }
    world.add(files).await;
    assert!(world.files_for(col("name").eq(lit("bx")), &["2|bx"]).await < 3);
    assert_eq!(
        world.files_for(col("name").gt_eq(lit("b")), &["2|bx", "3|cx"]).await,
        if transform == Transform::Truncate(1) { 2 } else { 3 }
    );
}

fn with_ids(fields: &[(i32, &str, DataType)]) -> SchemaRef {
    let field = |(id, name, of): &(i32, &str, DataType)| {
        let id = (parquet::arrow::PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        arrow::datatypes::Field::new(*name, of.clone(), true).with_metadata([id].into())
    };
    Arc::new(arrow::datatypes::Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

impl World {
    fn positions(&self, name: &str, of: &[(&str, i64)]) -> DataFile {
        let columns =
            with_ids(&[(2_147_483_546, "file_path", DataType::Utf8), (2_147_483_545, "pos", DataType::Int64)]);
        let row = |(path, pos): &(&str, i64)| format!(r#"{{"file_path":"{}","pos":{pos}}}"#, self.path(path));
        let rows = of_json(&columns, &of.iter().map(row).collect::<Vec<_>>().join("\n"));
        self.file(name, &rows).content(DataContentType::PositionDeletes).build().unwrap()
    }

    fn values(&self, name: &str, of: &[(i32, &str, DataType)], json: &str) -> DataFile {
        let ids = of.iter().map(|(id, ..)| *id).collect();
        let mut file = self.file(name, &of_json(&with_ids(of), json));
        file.content(DataContentType::EqualityDeletes).equality_ids(Some(ids)).build().unwrap()
    }
}

#[tokio::test]
async fn rows_at_deleted_positions_are_left_out() {
    let mut world = world(FormatVersion::V2).await;
    let rows = world.rows(ABC);
    let files = ["a.parquet", "b.parquet"].map(|name| world.file(name, &rows).build().unwrap());
    world.add(files.to_vec()).await;
    let some = world.positions("p1.parquet", &[("a.parquet", 0), ("a.parquet", 3), ("b.parquet", 1)]);
    let more = world.positions("p2.parquet", &[("a.parquet", 3), ("a.parquet", 1)]);
    world.add(vec![some, more]).await;
    assert_eq!(world.read(None).await, ["-|c", "-|c", "1|a", "4|-"]);
    assert_eq!(world.read(Some(col("id").eq(lit(1)))).await, ["1|a"]);
    assert_eq!(world.read(Some(col("name").is_null())).await, ["4|-"]);
    // Files that are added later are whole.
    let later = world.file("c.parquet", &rows).build().unwrap();
    world.add(vec![later]).await;
    assert_eq!(world.read(Some(col("id").eq(lit(1)))).await, ["1|a", "1|a"]);
    let counted = world.ctx.session().read_table(Arc::new(world.scan().unwrap())).unwrap().count().await.unwrap();
    assert_eq!(counted, 8);
}

/// Null equals null, and nothing else.
#[rstest]
#[case::one(&[(1, "id", DataType::Int32)], r#"{"id":1}"#, &["-|c", "2|b", "4|-"])]
#[case::null(&[(1, "id", DataType::Int32)], r#"{"id":null}"#, &["1|a", "2|b", "4|-"])]
#[case::two(&[(1, "id", DataType::Int32), (2, "name", DataType::Utf8)], r#"{"id":1,"name":"a"}
{"id":2,"name":"x"}
{"id":4,"name":null}"#, &["-|c", "2|b"])]
#[case::renamed_there(&[(2, "was", DataType::Utf8)], r#"{"was":"b"}"#, &["-|c", "1|a", "4|-"])]
#[tokio::test]
async fn rows_with_deleted_values_are_left_out(
    #[case] of: &[(i32, &str, DataType)],
    #[case] json: &str,
    #[case] expected: &[&str],
) {
    let mut world = world(FormatVersion::V2).await;
    let rows = world.rows(ABC);
    let file = world.file("a.parquet", &rows).build().unwrap();
    world.add(vec![file]).await;
    let deleted = world.values("e.parquet", of, json);
    world.add(vec![deleted]).await;
    assert_eq!(world.read(None).await, expected);
    // Columns that are compared need not be those that are read.
    let names =
        world.ctx.session().read_table(Arc::new(world.scan().unwrap())).unwrap().select(vec![col("name")]).unwrap();
    let names: usize = names.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(names, expected.len());
    // What is saved later is not deleted.
    let later = world.file("b.parquet", &rows).build().unwrap();
    world.add(vec![later]).await;
    assert_eq!(world.read(None).await.len(), expected.len() + 4);
}

#[tokio::test]
async fn deleted_values_are_compared_by_id_and_in_the_type_of_the_table() {
    let mut world = world(FormatVersion::V2).await;
    let rows = world.rows(ABC);
    let file = world.file("a.parquet", &rows).build().unwrap();
    world.add(vec![file]).await;
    let columns = vec![field(2, "id", PrimitiveType::String), field(1, "number", PrimitiveType::Long)];
    world.evolve(schema(columns)).await;
    let narrow = world.values("e1.parquet", &[(1, "id", DataType::Int32)], r#"{"id":1}"#);
    let wide = world.values("e2.parquet", &[(1, "number", DataType::Int64)], r#"{"number":2}"#);
    world.add(vec![narrow, wide]).await;
    assert_eq!(world.read(None).await, ["-|4", "c|-"]);
    let gone = world.values("e3.parquet", &[(9, "gone", DataType::Int64)], r#"{"gone":2}"#);
    world.add(vec![gone]).await;
    let error = world.try_read(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.to_string().contains("an equality delete compares a column"), "{error}");
}

/// The crate `iceberg` would not find the deletes of a file whose partition value is of another type.
#[tokio::test]
async fn deletes_in_partitions_whose_type_was_changed_are_refused() {
    let columns = |of| schema(vec![field(1, "x", PrimitiveType::Int), field(2, "id", of)]);
    let spec = partitioned("id", Transform::Identity);
    let mut world = World::new(columns(PrimitiveType::Int), spec, FormatVersion::V2).await;
    let rows = world.rows(r#"{"x":7,"id":1}"#);
    let partition = |value| Struct::from_iter([Some(value)]);
    let file = world.file("a.parquet", &rows).partition(partition(Literal::int(1))).build().unwrap();
    world.add(vec![file]).await;
    world.evolve(columns(PrimitiveType::Long)).await;
    assert_eq!(world.read(None).await, ["7|1"]);
    assert_eq!(world.read(Some(col("id").eq(lit(1_i64)))).await, ["7|1"]);
    let mut deletes = DataFileBuilder::default();
    deletes.clone_from(world.file("p.parquet", &rows).content(DataContentType::PositionDeletes));
    let deletes = deletes.partition(partition(Literal::long(1))).build().unwrap();
    world.add(vec![deletes]).await;
    let error = world.try_read(None).await.unwrap_err();
    assert!(error.to_string().contains("a partition column whose type was changed"), "{error}");
}

#[tokio::test]
async fn deletion_vectors_are_refused() {
    let mut world = world(FormatVersion::V3).await;
    let rows = world.rows(ABC);
    let file = world.file("a.parquet", &rows).first_row_id(Some(0)).build().unwrap();
    world.add(vec![file]).await;
    assert_eq!(world.read(None).await.len(), 4);
    let mut vector = world.file("vector", &rows);
    vector.content(DataContentType::PositionDeletes).file_format(DataFileFormat::Puffin);
    let vector = vector
        .referenced_data_file(Some(world.path("a.parquet")))
        .content_offset(Some(4))
        .content_size_in_bytes(Some(9));
    let vector = vector.build().unwrap();
    world.add(vec![vector]).await;
    let error = world.try_read(None).await.unwrap_err();
    let context = [error.get("table"), error.get("file")].map(|value| value.unwrap_or_default().to_owned());
    assert_eq!(context, ["lake.t".to_owned(), world.path("vector")], "{error}");
    assert!(error.to_string().contains("deletion vectors, which are not supported"), "{error}");
}

#[tokio::test]
async fn other_formats_are_refused() {
    let mut world = world(FormatVersion::V2).await;
    let rows = world.rows(ABC);
    let file = world.file("a.orc", &rows).file_format(DataFileFormat::Orc).build().unwrap();
    world.add(vec![file]).await;
    let error = world.try_read(None).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.t")), "{error}");
    assert!(error.to_string().contains("only Parquet is supported"), "{error}");
}

#[tokio::test]
async fn default_values_are_refused() {
    let default =
        NestedField::optional(3, "x", Type::Primitive(PrimitiveType::Int)).with_initial_default(Literal::int(7));
    let inner = StructType::new(vec![Arc::new(default)]);
    let columns = vec![Arc::new(NestedField::optional(1, "s", Type::Struct(inner)))];
    let world = World::new(schema(columns), Spec::unpartition_spec(), FormatVersion::V3).await;
    let error = world.scan().unwrap_err();
    assert_eq!((error.kind(), error.get("column")), (ErrorKind::Usage, Some("x")), "{error}");
}
