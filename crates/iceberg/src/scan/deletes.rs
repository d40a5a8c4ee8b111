//! Reads files of which rows were deleted since they were written (merge on read).
//!
//! The reader of the crate `iceberg` is not used: it deletes rows that are null where an equality delete has a value.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::Session;
use datafusion::common::Result as DFResult;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use hardtack_core::{Error, Location, Meter, Result};
use hardtack_sources::{IdFile, ScanById};
use iceberg::scan::{FileScanTask, FileScanTaskDeleteFile};
use iceberg::spec::{DataContentType, DataFileFormat, ManifestContentType, Schema as IcebergSchema, SnapshotRef};
use iceberg::table::Table;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use tokio::sync::OnceCell;

use super::{REWRITE, position};
use crate::catalog::Loaded;
use crate::error::failed;
use crate::schema::arrow_schema;

/// The field ids that Iceberg reserves for the columns of files with positions.
const FILE_PATH: i32 = 2_147_483_546;
const POS: i32 = 2_147_483_545;

/// Plans to read files of which rows were deleted.
pub(super) struct Deletes<'a> {
    table: &'a Loaded,
    schema: &'a IcebergSchema,
    scan: &'a ScanById,
}

impl<'a> Deletes<'a> {
    pub(super) fn new(table: &'a Loaded, schema: &'a IcebergSchema, scan: &'a ScanById) -> Self {
        Self { table, schema, scan }
    }

    /// Refuses deletes that cannot be applied. The crate `iceberg` takes deletion vectors for files with positions.
    pub(super) async fn check(
        &self,
        table: &Table,
        snapshot: &SnapshotRef,
        files: &[(IdFile, FileScanTask)],
    ) -> Result<()> {
        let used: HashSet<&str> =
            files.iter().flat_map(|(_, task)| &task.deletes).map(|file| file.file_path.as_str()).collect();
        let list = table.manifest_list_reader(snapshot).load().await.map_err(failed)?;
        for manifest in list.entries().iter().filter(|file| file.content == ManifestContentType::Deletes) {
            let manifest = manifest.load_manifest(self.table.file_io()).await.map_err(failed)?;
            for entry in manifest.entries().iter().filter(|entry| used.contains(entry.file_path())) {
                let why = match entry.file_format() {
                    DataFileFormat::Parquet => continue,
                    DataFileFormat::Puffin => "the table has deletion vectors, which are not supported".to_owned(),
                    format => format!("a file of deletes is in the format {format}; only Parquet is supported"),
                };
                return Err(Error::usage(why)
                    .with("table", self.table.qualified_name())
                    .with("file", Location::from(entry.file_path()))
                    .hint(REWRITE));
            }
        }
        Ok(())
    }

    /// The plan that reads these columns of the files' rows that are left.
    pub(super) async fn plan(
        &self,
        files: Vec<(IdFile, FileScanTask)>,
        columns: &[usize],
        session: &dyn Session,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let paths: Arc<HashSet<String>> = Arc::new(files.iter().map(|(_, task)| task.data_file_path.clone()).collect());
        let mut positions = HashMap::new();
        let mut values = HashMap::new();
        let mut left = Vec::new();
        for (file, task) in files {
            // The wanted columns, then those that are compared with deleted rows.
            let mut read = columns.to_vec();
            let mut rows = Left::default();
            for delete in &task.deletes {
                let path = delete.file_path.clone();
                match delete.file_type {
                    DataContentType::EqualityDeletes => {
                        let ids = delete.equality_ids.clone().unwrap_or_default();
                        let keys = self.keys(delete, &ids)?;
                        let places = keys.iter().map(|key| place(&mut read, *key)).collect();
                        if !values.contains_key(&path) {
                            values.insert(path.clone(), Arc::new(self.values(delete, &keys, session).await?));
                        }
                        rows.values.extend(values.get(&path).map(|values| (places, Arc::clone(values))));
                    }
                    _ => {
                        if !positions.contains_key(&path) {
                            let found = self.positions(delete, Arc::clone(&paths), session).await?;
                            positions.insert(path.clone(), Arc::new(found));
                        }
                        rows.positions.extend(positions.get(&path).cloned());
                    }
                }
            }
            rows.path = task.data_file_path;
            rows.plan = Some(self.scan.plan(vec![file], Some(&read), None, session).await?);
            left.push(Arc::new(rows));
        }
        let schema = Arc::new(self.scan.schema().project(columns)?);
        Ok(Arc::new(LeftExec::new(left, schema, session.config().target_partitions())))
    }

    /// The columns by which an equality delete compares rows.
    fn keys(&self, delete: &FileScanTaskDeleteFile, ids: &[i32]) -> Result<Vec<usize>> {
        let refuse = |why: &str| {
            Error::usage(why)
                .with("table", self.table.qualified_name())
                .with("file", Location::from(delete.file_path.as_str()))
                .hint(REWRITE)
        };
        if ids.is_empty() {
            return Err(refuse("an equality delete names no columns"));
        }
        let keys = ids.iter().map(|id| position(self.schema, *id)).collect::<Option<Vec<_>>>();
        keys.ok_or_else(|| refuse("an equality delete compares a column that the table no longer has, or a nested one"))
    }

    async fn values(&self, delete: &FileScanTaskDeleteFile, keys: &[usize], session: &dyn Session) -> DFResult<Values> {
        let all = arrow_schema(self.schema)?;
        // What is deleted may be null, whatever the column is.
        let nullable = |key: &usize| all.field(*key).clone().with_nullable(true);
        let schema = Arc::new(Schema::new(keys.iter().map(nullable).collect::<Vec<_>>()));
        let of = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let plan = read(&schema, delete, session).await?;
        Ok(Values { plan, rows: RowConverter::new(of)?, known: OnceCell::new() })
    }

    async fn positions(
        &self,
        delete: &FileScanTaskDeleteFile,
        of: Arc<HashSet<String>>,
        session: &dyn Session,
    ) -> DFResult<Positions> {
        let field = |id: i32, name: &str, of: DataType| {
            let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
            Field::new(name, of, false).with_metadata([id].into())
        };
        let columns = vec![field(FILE_PATH, "file_path", DataType::Utf8), field(POS, "pos", DataType::Int64)];
        let plan = read(&Arc::new(Schema::new(columns)), delete, session).await?;
        Ok(Positions { plan, of, known: OnceCell::new() })
    }
}

/// The place of a column among those that are read.
fn place(read: &mut Vec<usize>, column: usize) -> usize {
    read.iter().position(|other| *other == column).unwrap_or_else(|| {
        read.push(column);
        read.len() - 1
    })
}

/// Reads a file of deletes. Its rows are no rows of the table, so they are not counted.
async fn read(
    schema: &SchemaRef,
    delete: &FileScanTaskDeleteFile,
    session: &dyn Session,
) -> DFResult<Arc<dyn ExecutionPlan>> {
    let file = IdFile::new(Location::from(delete.file_path.as_str()), delete.file_size_in_bytes);
    ScanById::new(schema, Arc::<Meter>::default()).plan(vec![file], None, None, session).await
}

/// A file of positions, which is read once.
struct Positions {
    plan: Arc<dyn ExecutionPlan>,
    /// The files that are read.
    of: Arc<HashSet<String>>,
    known: OnceCell<HashMap<String, Vec<i64>>>,
}

impl Positions {
    async fn known(&self, context: &Arc<TaskContext>) -> DFResult<&HashMap<String, Vec<i64>>> {
        let load = || async {
            let mut batches = self.plan.execute(0, Arc::clone(context))?;
            let mut known: HashMap<String, Vec<i64>> = HashMap::new();
            while let Some(batch) = batches.try_next().await? {
                let (paths, positions) = (batch.column(0).as_string::<i32>(), batch.column(1));
                let positions = positions.as_primitive::<Int64Type>().values();
                for (path, position) in paths.iter().flatten().zip(positions) {
                    if let Some(known) = known.get_mut(path) {
                        known.push(*position);
                    } else if self.of.contains(path) {
                        known.insert(path.to_owned(), vec![*position]);
                    }
                }
            }
            Ok(known)
        };
        self.known.get_or_try_init(load).await
    }
}

/// A file of deleted values, which is read once.
struct Values {
    plan: Arc<dyn ExecutionPlan>,
    rows: RowConverter,
    known: OnceCell<HashSet<Box<[u8]>>>,
}

impl Values {
    async fn known(&self, context: &Arc<TaskContext>) -> DFResult<&HashSet<Box<[u8]>>> {
        let load = || async {
            let mut batches = self.plan.execute(0, Arc::clone(context))?;
            let mut known = HashSet::new();
            while let Some(batch) = batches.try_next().await? {
                let rows = self.rows.convert_columns(batch.columns())?;
                known.extend(rows.iter().map(|row| Box::<[u8]>::from(row.as_ref())));
            }
            Ok::<_, DataFusionError>(known)
        };
        self.known.get_or_try_init(load).await
    }
}

/// The rows of a file that are left.
#[derive(Clone, Default)]
struct Left {
    path: String,
    /// Reads all rows of the file, in order.
    plan: Option<Arc<dyn ExecutionPlan>>,
    positions: Vec<Arc<Positions>>,
    /// With the places of the compared columns.
    values: Vec<(Vec<usize>, Arc<Values>)>,
}

impl Left {
    async fn read(
        self: Arc<Self>,
        columns: usize,
        context: Arc<TaskContext>,
    ) -> DFResult<BoxStream<'static, DFResult<RecordBatch>>> {
        let Some(plan) = &self.plan else { return Ok(stream::empty().boxed()) };
        let mut gone: Vec<i64> = Vec::new();
        for positions in &self.positions {
            gone.extend(positions.known(&context).await?.get(&self.path).into_iter().flatten());
        }
        gone.sort_unstable();
        for (_, values) in &self.values {
            values.known(&context).await?;
        }
        let batches = plan.execute(0, context)?;
        let (mut start, wanted) = (0, (0..columns).collect::<Vec<_>>());
        let rest = batches.map(move |batch| {
            let batch = batch?;
            let rows = start..start + batch.num_rows() as i64;
            start = rows.end;
            let first = gone.partition_point(|position| *position < rows.start);
            let mut keep = vec![true; batch.num_rows()];
            for position in gone[first..].iter().take_while(|position| **position < rows.end) {
                keep[(position - rows.start) as usize] = false;
            }
            for (places, values) in &self.values {
                let Some(known) = values.known.get().filter(|known| !known.is_empty()) else { continue };
                let compared: Vec<ArrayRef> = places.iter().map(|place| Arc::clone(batch.column(*place))).collect();
                let compared = values.rows.convert_columns(&compared)?;
                for (keep, row) in keep.iter_mut().zip(compared.iter()) {
                    *keep &= !known.contains(row.as_ref());
                }
            }
            Ok(filter_record_batch(&batch.project(&wanted)?, &BooleanArray::from(keep))?)
        });
        Ok(rest.boxed())
    }
}

/// Reads files of which rows were deleted. The scans within are no children, because no rule of an optimiser may filter or
/// split them: positions count all rows of a file.
struct LeftExec {
    parts: Vec<Vec<Arc<Left>>>,
    files: usize,
    properties: Arc<PlanProperties>,
}

impl LeftExec {
    fn new(files: Vec<Arc<Left>>, schema: SchemaRef, partitions: usize) -> Self {
        let count = files.len();
        let size = count.div_ceil(partitions.max(1)).max(1);
        let parts: Vec<Vec<_>> = files.chunks(size).map(<[_]>::to_vec).collect();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { parts, files: count, properties: properties.into() }
    }
}

impl fmt::Debug for LeftExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeftExec").field("files", &self.files).finish_non_exhaustive()
    }
}

impl DisplayAs for LeftExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IcebergDeletesExec: files={}", self.files)
    }
}

impl ExecutionPlan for LeftExec {
    fn name(&self) -> &'static str {
        "IcebergDeletesExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// Those that read the files. Rules that look for scans find them there.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.parts.iter().flatten().filter_map(|left| left.plan.as_ref()).collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
    }

    fn with_new_children(self: Arc<Self>, plans: Vec<Arc<dyn ExecutionPlan>>) -> DFResult<Arc<dyn ExecutionPlan>> {
        let mut plans = plans.into_iter();
        let mut with_plan = |left: &Arc<Left>| match left.plan {
            Some(_) => Arc::new(Left { plan: plans.next(), ..left.as_ref().clone() }),
            None => Arc::clone(left),
        };
        let parts = self.parts.iter().map(|part| part.iter().map(&mut with_plan).collect()).collect();
        Ok(Arc::new(Self { parts, files: self.files, properties: Arc::clone(&self.properties) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DFResult<SendableRecordBatchStream> {
        let files = self.parts.get(partition).cloned().unwrap_or_default();
        let columns = self.schema().fields().len();
        let rows = stream::iter(files).then(move |file| file.read(columns, Arc::clone(&context))).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
