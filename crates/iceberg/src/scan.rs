//! An Iceberg table as DataFusion scans it.

mod deletes;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DFResult, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use futures::TryStreamExt;
use hardtack_core::progress::Part;
use hardtack_core::{Error, Location, Meter, Result};
use hardtack_sources::{IdFile, NamedId, ScanById};
use iceberg::scan::FileScanTask;
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, DataFile, DataFileFormat, Literal, ManifestContentType, MappedField, NameMapping,
    NestedField, PartitionSpec, PrimitiveLiteral, Schema, SchemaRef as IcebergSchemaRef, SnapshotRef, Struct,
    Transform, Type,
};
use iceberg::table::Table;

use crate::catalog::Loaded;
use crate::error::failed;
use crate::filter::{Skipping, partitions_are_of_one_type};
use crate::schema::arrow_schema;
use deletes::Deletes;

/// The way out of features that are not supported.
const REWRITE: &str = "rewrite the table's data files, with `rewrite_data_files` of Spark for example";

/// A snapshot of an Iceberg table. Filters skip manifests and files by partition values and column bounds; of the files
/// that remain, plans read only the columns, row groups and pages that they need. Rows that were deleted (merge on read)
/// are left out.
#[derive(Clone)]
pub(crate) struct IcebergScan {
    table: Loaded,
    snapshot: Option<SnapshotRef>,
    schema: IcebergSchemaRef,
    scan: ScanById,
    skipping: Skipping,
    /// The files that are read, if not all, with the parts of a source that they are.
    only: Option<HashMap<String, Option<Part>>>,
}

impl fmt::Debug for IcebergScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.snapshot_id());
        f.debug_struct("IcebergScan").field("table", &self.table.qualified_name()).field("snapshot", &snapshot).finish()
    }
}

impl IcebergScan {
    /// Reads a snapshot, or no rows, with the columns of a schema. `meter` counts what is read.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if a column has a default value, or a type that Arrow lacks.
    pub(crate) fn new(
        table: Loaded,
        snapshot: Option<SnapshotRef>,
        schema: IcebergSchemaRef,
        meter: Arc<Meter>,
    ) -> Result<Self> {
        let named = |error: Error| error.with("table", table.qualified_name());
        if let Some(column) = with_default(schema.as_struct().fields().iter().map(AsRef::as_ref)) {
            // Files that lack the column would be read as null.
            let why = "a column with a default value for older rows (`initial-default`) is not supported";
            return Err(named(Error::usage(why).with("column", column)));
        }
        let arrow = arrow_schema(&schema).map_err(named)?;
        let mut scan = ScanById::new(&arrow, meter);
        let metadata = table.metadata();
        if let Some(mapping) = metadata.properties().get(DEFAULT_SCHEMA_NAME_MAPPING) {
            let mapping: NameMapping = serde_json::from_str(mapping).map_err(|e| {
                let why = format!("the property `{DEFAULT_SCHEMA_NAME_MAPPING}` is not a name mapping");
                named(Error::usage(why).because(e))
            })?;
            scan = scan.with_names(mapping.fields().iter().map(known_names).collect());
        }
        let skipping = match &snapshot {
            Some(snapshot) => {
                let stored = snapshot.schema(metadata).map_err(|e| named(failed(e)))?;
                Skipping::new(metadata, &stored, &schema)
            }
            None => Skipping::default(),
        };
        Ok(Self { table, snapshot, schema, scan, skipping, only: None })
    }

    /// The same with these data files only, by their paths. Each may be a part of a source.
    pub(crate) fn only(self, files: HashMap<String, Option<Part>>) -> Self {
        Self { only: Some(files), ..self }
    }

    /// The paths of all data files, and their sizes.
    pub(crate) async fn files(&self) -> Result<BTreeMap<String, u64>> {
        let Some(snapshot) = &self.snapshot else { return Ok(BTreeMap::new()) };
        let tasks = self.tasks(&self.table.as_table()?, snapshot, &[]).await?;
        Ok(tasks.into_iter().map(|task| (task.data_file_path, task.file_size_in_bytes)).collect())
    }

    /// The columns.
    pub(crate) fn columns(&self) -> &IcebergSchemaRef {
        &self.schema
    }

    /// How files are read.
    pub(crate) fn by_id(&self) -> &ScanById {
        &self.scan
    }

    /// A data file of this partition spec, all of whose rows are read.
    ///
    /// # Errors
    /// Usage if it is not a Parquet file.
    pub(crate) fn whole(&self, file: &DataFile, spec: i32) -> Result<IdFile> {
        check_format(file.file_format(), file.file_path())?;
        let whole = IdFile::new(Location::from(file.file_path()), file.file_size_in_bytes());
        Ok(IdFile { constants: self.constants(Some(spec), Some(file.partition())), ..whole })
    }

    /// The data files of the snapshot that have deletes.
    pub(crate) async fn with_deletes(&self) -> Result<HashSet<String>> {
        let Some(snapshot) = &self.snapshot else { return Ok(HashSet::new()) };
        let tasks = self.tasks(&self.table.as_table()?, snapshot, &[]).await?;
        Ok(tasks.into_iter().filter(|task| !task.deletes.is_empty()).map(|task| task.data_file_path).collect())
    }

    /// The files that may contain rows for these filters, in a stable order.
    async fn tasks(&self, table: &Table, snapshot: &SnapshotRef, filters: &[Expr]) -> Result<Vec<FileScanTask>> {
        let mut scan = table.scan().snapshot_id(snapshot.snapshot_id()).select_all();
        if let Some(predicate) = self.skipping.predicate(filters) {
            tracing::debug!(table = self.table.qualified_name(), %predicate, "planning files");
            scan = scan.with_filter(predicate);
        }
        let tasks = scan.build().map_err(failed)?.plan_files().await.map_err(failed)?;
        let mut tasks: Vec<_> = tasks.try_collect().await.map_err(failed)?;
        tasks.sort_by(|a, b| a.data_file_path.cmp(&b.data_file_path));
        if let Some(only) = &self.only {
            tasks.retain(|task| only.contains_key(&task.data_file_path));
            let read: HashSet<&str> = tasks.iter().map(|task| task.data_file_path.as_str()).collect();
            let parts = |is_read: bool| {
                let wanted = |(path, _): &(&String, &Option<Part>)| read.contains(path.as_str()) == is_read;
                only.iter().filter(wanted).filter_map(|(_, part)| part.as_ref()).collect::<Vec<_>>()
            };
            Part::select(parts(true), parts(false));
        }
        tasks.iter().try_for_each(|task| check_format(task.data_file_format, &task.data_file_path))?;
        Ok(tasks)
    }

    /// Refuses tables whose deletes would not be found.
    async fn check_partitions(&self, table: &Table, snapshot: &SnapshotRef) -> Result<()> {
        if partitions_are_of_one_type(self.table.metadata(), &self.schema) {
            return Ok(());
        }
        let list = table.manifest_list_reader(snapshot).load().await.map_err(failed)?;
        match list.entries().iter().any(|file| file.content == ManifestContentType::Deletes) {
            true => Err(Error::usage("the table has deleted rows, and a partition column whose type was changed")
                .with("table", self.table.qualified_name())
                .hint(REWRITE)),
            false => Ok(()),
        }
    }

    /// The partition spec of each task. The crate `iceberg` does not say it; if the table has several, they are read from
    /// the manifests.
    async fn specs(&self, table: &Table, snapshot: &SnapshotRef, tasks: &[FileScanTask]) -> Result<Vec<Option<i32>>> {
        let metadata = self.table.metadata();
        let mut specs = metadata.partition_specs_iter();
        let is_identity = |spec: &PartitionSpec| spec.fields().iter().any(|f| f.transform == Transform::Identity);
        if !specs.any(|spec| is_identity(spec)) {
            return Ok(vec![None; tasks.len()]);
        }
        if metadata.partition_specs_iter().len() == 1 {
            let spec = metadata.default_partition_spec_id();
            return Ok(vec![Some(spec); tasks.len()]);
        }
        let list = table.manifest_list_reader(snapshot).load().await.map_err(failed)?;
        let mut known = HashMap::new();
        for file in list.entries().iter().filter(|file| file.content == ManifestContentType::Data) {
            let manifest = file.load_manifest(self.table.file_io()).await.map_err(failed)?;
            let paths = manifest.entries().iter().map(|entry| entry.file_path().to_owned());
            known.extend(paths.map(|path| (path, file.partition_spec_id)));
        }
        Ok(tasks.iter().map(|task| known.get(&task.data_file_path).copied()).collect())
    }

    /// The columns that are constant in a file: those by which it is partitioned. Files of migrated tables do not contain
    /// them.
    fn constants(&self, spec: Option<i32>, partition: Option<&Struct>) -> Vec<(usize, ScalarValue)> {
        let spec = spec.and_then(|id| self.table.metadata().partition_spec_by_id(id));
        let (Some(spec), Some(values)) = (spec, partition) else { return Vec::new() };
        let columns = self.schema.as_struct().fields();
        let identities = spec.fields().iter().zip(values.fields()).filter(|(f, _)| f.transform == Transform::Identity);
        let mut constants: Vec<_> = identities
            .filter_map(|(field, value)| {
                let column = columns.iter().position(|column| column.id == field.source_id)?;
                Some((column, scalar(value.as_ref(), self.scan.schema().field(column).data_type())?))
            })
            .collect();
        constants.sort_by_key(|(column, _)| *column);
        constants.dedup_by_key(|(column, _)| *column);
        constants
    }

    async fn plan(
        &self,
        snapshot: &SnapshotRef,
        columns: &Vec<usize>,
        filters: &[Expr],
        limit: Option<usize>,
        session: &dyn Session,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let table = self.table.as_table()?;
        self.check_partitions(&table, snapshot).await?;
        let tasks = self.tasks(&table, snapshot, filters).await?;
        let specs = self.specs(&table, snapshot, &tasks).await?;
        let files = tasks.into_iter().zip(specs).map(|(task, spec)| {
            let constants = self.constants(spec, task.partition.as_ref());
            let (location, bytes) = (Location::from(task.data_file_path.as_str()), task.file_size_in_bytes);
            let part = self.only.as_ref().and_then(|only| only.get(&task.data_file_path)?.clone());
            (IdFile { location, bytes, constants, part }, task)
        });
        let (whole, deleted): (Vec<_>, Vec<_>) = files.partition(|(_, task)| task.deletes.is_empty());
        let mut plans = Vec::new();
        if !whole.is_empty() || deleted.is_empty() {
            let whole = whole.into_iter().map(|(file, _)| file).collect();
            plans.push(self.scan.plan(whole, Some(columns), limit, session).await?);
        }
        if !deleted.is_empty() {
            let deletes = Deletes::new(&self.table, &self.schema, &self.scan);
            deletes.check(&table, snapshot, &deleted).await?;
            plans.push(deletes.plan(deleted, columns, session).await?);
        }
        if plans.len() > 1 { UnionExec::try_new(plans) } else { Ok(plans.swap_remove(0)) }
    }
}

#[async_trait]
impl TableProvider for IcebergScan {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.scan.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Files are skipped by what can be expressed for Iceberg. Parquet gets its filters from the physical plan, where they
    /// are pushed down as well.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.skipping.predicate(&[(*filter).clone()]) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        columns: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let columns = columns.cloned().unwrap_or_else(|| (0..self.schema().fields().len()).collect());
        match &self.snapshot {
            None => Ok(Arc::new(EmptyExec::new(Arc::new(self.schema().project(&columns)?)))),
            Some(snapshot) => self.plan(snapshot, &columns, filters, limit, session).await.map_err(|e| {
                let error = Error::from(e);
                let named = error.get("table").is_some();
                if named { error.into() } else { error.with("table", self.table.qualified_name()).into() }
            }),
        }
    }
}

fn check_format(format: DataFileFormat, path: &str) -> Result<()> {
    if format == DataFileFormat::Parquet {
        return Ok(());
    }
    let why = format!("a data file is in the format {format}; only Parquet is supported");
    Err(Error::usage(why).with("file", Location::from(path)).hint(REWRITE))
}

/// The first field with a default value for rows that were written before it was added.
fn with_default<'a>(fields: impl IntoIterator<Item = &'a NestedField>) -> Option<&'a str> {
    fields.into_iter().find_map(|field| match field.initial_default {
        Some(_) => Some(field.name.as_str()),
        None => match field.field_type.as_ref() {
            Type::Primitive(_) => None,
            Type::Struct(inner) => with_default(inner.fields().iter().map(AsRef::as_ref)),
            Type::List(list) => with_default([list.element_field.as_ref()]),
            Type::Map(map) => with_default([map.key_field.as_ref(), map.value_field.as_ref()]),
        },
    })
}

fn known_names(field: &MappedField) -> NamedId {
    NamedId {
        id: field.field_id(),
        names: field.names().to_vec(),
        fields: field.fields().iter().map(|field| known_names(field)).collect(),
    }
}

/// A partition value in the type of its column; none if it has another one, so that the file is asked.
fn scalar(value: Option<&Literal>, of: &DataType) -> Option<ScalarValue> {
    let Some(value) = value else { return ScalarValue::try_from(of).ok() };
    let Literal::Primitive(value) = value else { return None };
    Some(match (of, value) {
        (DataType::Boolean, PrimitiveLiteral::Boolean(value)) => ScalarValue::from(*value),
        (DataType::Int32, PrimitiveLiteral::Int(value)) => ScalarValue::from(*value),
        (DataType::Int64, PrimitiveLiteral::Int(value)) => ScalarValue::from(i64::from(*value)),
        (DataType::Int64, PrimitiveLiteral::Long(value)) => ScalarValue::from(*value),
        (DataType::Date32, PrimitiveLiteral::Int(days)) => ScalarValue::Date32(Some(*days)),
        (DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, zone), PrimitiveLiteral::Long(micros)) => {
            ScalarValue::TimestampMicrosecond(Some(*micros), zone.clone())
        }
        (DataType::Time64(arrow::datatypes::TimeUnit::Microsecond), PrimitiveLiteral::Long(micros)) => {
            ScalarValue::Time64Microsecond(Some(*micros))
        }
        (DataType::Float32, PrimitiveLiteral::Float(value)) => ScalarValue::from(value.0),
        (DataType::Float64, PrimitiveLiteral::Float(value)) => ScalarValue::from(f64::from(value.0)),
        (DataType::Float64, PrimitiveLiteral::Double(value)) => ScalarValue::from(value.0),
        (DataType::Utf8, PrimitiveLiteral::String(text)) => ScalarValue::from(text.as_str()),
        (DataType::Binary, PrimitiveLiteral::Binary(bytes)) => ScalarValue::Binary(Some(bytes.clone())),
        (DataType::FixedSizeBinary(size), PrimitiveLiteral::Binary(bytes)) => {
            ScalarValue::FixedSizeBinary(*size, Some(bytes.clone()))
        }
        (DataType::FixedSizeBinary(16), PrimitiveLiteral::UInt128(uuid)) => {
            ScalarValue::FixedSizeBinary(16, Some(uuid.to_be_bytes().to_vec()))
        }
        (DataType::Decimal128(precision, scale), PrimitiveLiteral::Int128(value)) => {
            ScalarValue::Decimal128(Some(*value), *precision, *scale)
        }
        _ => return None,
    })
}

/// The position of a column with this field id.
fn position(schema: &Schema, id: i32) -> Option<usize> {
    schema.as_struct().fields().iter().position(|field| field.id == id)
}
