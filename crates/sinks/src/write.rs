//! The operator that writes a partitioned dataset: it encodes rows, and stages files while it encodes the next ones.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result as DFResult};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortRequirement,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};
use futures::StreamExt;
use hardtack_core::meter::Meter;
use hardtack_core::staging::StagedFile;
use hardtack_core::{Error, Location, Result, StageContext};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::TypePtr;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::layout::{FEW_ROWS, Layout, Properties};
use crate::partition::Partitioner;
use crate::placement::{Folder, Placement, Visibility};
use crate::written::{self, ColumnMetrics, WrittenFile};

/// The specification of a write: a value, so that a plan with a write can be compared and sent to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WriteSpec {
    /// The name of the sink.
    pub(crate) sink: String,
    pub(crate) partition_by: Vec<String>,
    pub(crate) keep_partition_columns: bool,
    pub(crate) layout: Layout,
    pub(crate) target_file_bytes: u64,
    /// The prefix of its file names; two writes of one run to one folder have different ones.
    pub(crate) prefix: String,
    /// [`Placement::describe`].
    pub(crate) placement: serde_json::Value,
}

/// A write in a run: the state that its streams share.
pub(crate) struct Write {
    pub(crate) spec: WriteSpec,
    pub(crate) ctx: StageContext,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) partitioner: Partitioner,
    /// The columns of a file.
    pub(crate) schema: SchemaRef,
    pub(crate) parquet_schema: TypePtr,
    pub(crate) properties: Properties,
    pub(crate) sort_by: Vec<(usize, SortOptions)>,
    pub(crate) meter: Arc<Meter>,
    /// Limits the row groups that are encoded in parallel with the streams.
    pub(crate) encoders: Arc<Semaphore>,
    /// Limits the uploads in progress.
    pub(crate) uploads: Arc<Semaphore>,
}

/// Files and what is in them.
type Contents = Vec<(Location, Bytes)>;

impl Write {
    async fn folder(&self, target: &Target) -> Result<Folder> {
        self.placement.folder(&target.values, &self.partitioner.folder(&target.values)).await
    }

    /// Writes files whose content is in memory.
    async fn put(&self, files: Vec<SmallFile>) -> Result<Vec<WrittenFile>> {
        let mut staged: Vec<(Location, Contents, Vec<WrittenFile>)> = Vec::new();
        let mut unseen = Vec::new();
        for SmallFile { target, rows, bytes, columns } in files {
            let folder = self.folder(&target).await?;
            let location = folder.location.join(&target.name);
            let size = bytes.len() as u64;
            let (values, at) = (target.values, location.clone());
            let file = WrittenFile { values, location: at, rows, bytes: size, xxh3: None, publish: None, columns };
            match folder.visibility {
                Visibility::Unseen => unseen.push(async move {
                    let xxh3 = Some(self.ctx.put_unseen(&location, bytes).await?);
                    Ok::<_, Error>(WrittenFile { xxh3, ..file })
                }),
                Visibility::Staged(root) => match staged.last_mut().filter(|(last, ..)| *last == root) {
                    Some((_, contents, files)) => {
                        contents.push((location, bytes));
                        files.push(file);
                    }
                    None => staged.push((root, vec![(location, bytes)], vec![file])),
                },
            }
        }
        let mut written = futures::future::try_join_all(unseen).await?;
        for (root, contents, files) in staged {
            let actions = self.ctx.stage_files(&root, contents).await?;
            for (file, action) in files.into_iter().zip(actions) {
                written.push(WrittenFile { xxh3: action.content_hash(), publish: Some(action), ..file });
            }
        }
        Ok(written)
    }
}

/// A file of one row group, encoded.
struct SmallFile {
    target: Target,
    rows: u64,
    bytes: Bytes,
    columns: Vec<ColumnMetrics>,
}

/// A file to be written: its partition, and its name, which is unique across all runs.
struct Target {
    values: Vec<String>,
    name: String,
}

/// Rows in memory become a row group when they reach this size; larger row groups would help readers little.
pub(crate) const ROW_GROUP_BYTES: usize = 128 << 20;
/// The number of files of a write that are staged concurrently; requests to an object store have high latency.
pub(crate) const UPLOADS: usize = 64;
/// Small files are handed over in batches: a hand-over costs as much as writing one file to a local disk.
const BATCH_FILES: usize = 16;
const BATCH_BYTES: usize = 4 << 20;
/// The footer key of a file that was closed because another row group would not have fitted; its value is the target
/// size in bytes. The rows that follow are in another file, and merging the two would gain nothing.
pub(crate) const FULL_AT: &str = "hardtack.full_at";

/// Writes its input, which must be partitioned and sorted by the partition columns, to files, with one file open per
/// stream. Its output is one row per file ([`written::REPORT`]).
pub(crate) struct ParquetWriteExec {
    input: Arc<dyn ExecutionPlan>,
    write: Arc<Write>,
    properties: Arc<PlanProperties>,
}

impl ParquetWriteExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, write: Arc<Write>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&written::REPORT)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, write, properties: properties.into() }
    }

    fn column(&self, index: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(self.input.schema().field(index).name(), index))
    }
}

/// The order and distribution that a write requires of its rows.
pub(crate) fn required(schema: &SchemaRef, keys: &[usize], sort_by: &[(usize, SortOptions)]) -> Option<LexRequirement> {
    let column = |i: usize| Arc::new(Column::new(schema.field(i).name(), i)) as Arc<dyn PhysicalExpr>;
    let keys = keys.iter().map(|k| (*k, SortOptions::new(false, true)));
    let by = keys.chain(sort_by.iter().copied());
    LexRequirement::new(by.map(|(i, options)| PhysicalSortRequirement::new(column(i), Some(options))))
}

impl fmt::Debug for ParquetWriteExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetWriteExec").field("spec", &self.write.spec).finish_non_exhaustive()
    }
}

impl DisplayAs for ParquetWriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParquetWriteExec: partition_by=[{}]", self.write.partitioner.names().join(", "))
    }
}

impl ExecutionPlan for ParquetWriteExec {
    fn name(&self) -> &'static str {
        "ParquetWriteExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let keys: Vec<_> = self.write.partitioner.columns().iter().map(|k| self.column(*k)).collect();
        vec![if keys.is_empty() { Distribution::SinglePartition } else { Distribution::HashPartitioned(keys) }]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let by = required(&self.input.schema(), self.write.partitioner.columns(), &self.write.sort_by);
        vec![by.map(OrderingRequirements::new)]
    }

    /// Otherwise the optimiser would split a scan of one file among streams without exchanging its rows.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![!self.write.partitioner.columns().is_empty()]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), Arc::clone(&self.write))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DFResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, Arc::clone(&context))?;
        let memory = MemoryConsumer::new(format!("ParquetWrite[{partition}]")).register(context.memory_pool());
        let stream = WriteStream {
            write: Arc::clone(&self.write),
            memory,
            values: None,
            serial: 0,
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            file: None,
            small: Vec::new(),
            small_bytes: 0,
            staging: JoinSet::new(),
            written: Vec::new(),
        };
        let report = async move {
            let files = stream.run(rows).await?;
            written::encode(&files).map_err(DataFusionError::from)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::once(report))))
    }
}

/// One stream, whose rows arrive partition by partition.
struct WriteStream {
    write: Arc<Write>,
    memory: MemoryReservation,
    /// The current partition, and the number of its files so far.
    values: Option<Vec<String>>,
    serial: u32,
    /// The rows of the next row group.
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    /// The file of the partition, if it has a row group.
    file: Option<OpenFile>,
    /// Small files that are to be staged as one batch, and their size.
    small: Vec<SmallFile>,
    small_bytes: usize,
    /// Small files that are being staged.
    staging: JoinSet<Result<Vec<WrittenFile>>>,
    written: Vec<WrittenFile>,
}

impl WriteStream {
    async fn run(mut self, mut rows: SendableRecordBatchStream) -> Result<Vec<WrittenFile>> {
        while let Some(batch) = rows.next().await.transpose()? {
            for (values, range) in self.write.partitioner.split(&batch)? {
                if self.values.as_ref() != Some(&values) {
                    self.end_partition().await?;
                    self.values = Some(values);
                }
                let rows = self.write.partitioner.rows(&batch, &range)?;
                self.add(rows).await?;
            }
        }
        self.end_partition().await?;
        self.stage_small_files().await?;
        while let Some(files) = self.staging.join_next().await {
            self.written.extend(files.map_err(given_up)??);
        }
        Ok(self.written)
    }

    /// Adds rows to the partition, row group by row group.
    async fn add(&mut self, rows: RecordBatch) -> Result<()> {
        let full = ROW_GROUP_BYTES.min(usize::try_from(self.write.spec.target_file_bytes).unwrap_or(usize::MAX));
        let mut rest = (rows.num_rows() > 0).then_some(rows);
        while let Some(rows) = rest.take() {
            // The rows of a slice share its buffers; only their part of them counts.
            let row_bytes = (row_bytes(&rows)?).max(1);
            let room = ((full.saturating_sub(self.bytes)) / row_bytes)
                .clamp(1, self.write.spec.layout.row_group_rows - self.rows);
            // There may be thousands of small files, and slicing many columns costs as much as encoding some rows.
            let taken = if room < rows.num_rows() {
                rest = Some(rows.slice(room, rows.num_rows() - room));
                rows.slice(0, room)
            } else {
                rows
            };
            self.rows += taken.num_rows();
            self.bytes += taken.num_rows() * row_bytes;
            self.batches.push(taken);
            let room = self.memory.try_resize(self.small_bytes + self.bytes).is_ok();
            if self.rows >= self.write.spec.layout.row_group_rows
                || self.bytes >= full
                || (!room && self.rows >= FEW_ROWS)
            {
                self.end_row_group().await?;
            }
        }
        Ok(())
    }

    /// Hands the row group to an encoder and continues.
    async fn end_row_group(&mut self) -> Result<()> {
        let (batches, bytes) = (std::mem::take(&mut self.batches), std::mem::take(&mut self.bytes));
        self.rows = 0;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open().await?,
        };
        // The size of a row group in the file is known once it is encoded; until then, assume the largest likely size.
        if !file.has_room_for(bytes, self.write.spec.target_file_bytes) {
            file.append_encoded(&self.write, 0).await?;
            if !file.has_room_for(bytes, self.write.spec.target_file_bytes) {
                file.encoder.note(FULL_AT, self.write.spec.target_file_bytes);
                self.written.push(file.close(&self.write).await?);
                file = self.open().await?;
            }
        }
        let permit = Arc::clone(&self.write.encoders).acquire_owned().await.map_err(given_up)?;
        // The memory stays reserved until the row group is encoded.
        let memory = self.memory.split(self.memory.size().saturating_sub(self.small_bytes));
        file.encode(&self.write, batches, bytes, memory, permit)?;
        file.append_encoded(&self.write, self.write.encoders.available_permits().max(1)).await?;
        self.file = Some(file);
        Ok(())
    }

    async fn end_partition(&mut self) -> Result<()> {
        if self.file.is_none() && self.rows > 0 {
            self.small_file().await?;
        } else if self.rows > 0 {
            self.end_row_group().await?;
        }
        if let Some(mut file) = self.file.take() {
            file.append_encoded(&self.write, 0).await?;
            self.written.push(file.close(&self.write).await?);
        }
        self.serial = 0;
        Ok(())
    }

    /// Encodes a file of one row group in place and stages it in the background, batched with others.
    async fn small_file(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let mut file = FileEncoder::new(&self.write, self.write.properties.of(rows))?;
        file.append(encode(&file.row_groups, 0, &self.write.schema, &batches)?)?;
        let (bytes, columns) = file.finish()?;
        self.small_bytes += bytes.len();
        self.memory.resize(self.small_bytes);
        let target = self.target();
        self.small.push(SmallFile { target, rows: rows as u64, bytes, columns });
        if self.small.len() >= BATCH_FILES || self.small_bytes >= BATCH_BYTES {
            self.stage_small_files().await?;
        }
        Ok(())
    }

    async fn stage_small_files(&mut self) -> Result<()> {
        while let Some(files) = self.staging.try_join_next() {
            self.written.extend(files.map_err(given_up)??);
        }
        if self.small.is_empty() {
            return Ok(());
        }
        let (files, bytes) = (std::mem::take(&mut self.small), std::mem::take(&mut self.small_bytes));
        let permits = Arc::clone(&self.write.uploads).acquire_many_owned(files.len() as u32);
        let permits = permits.await.map_err(given_up)?;
        let memory = self.memory.split(bytes);
        let write = Arc::clone(&self.write);
        self.staging.spawn(async move {
            let (_permits, _memory) = (permits, memory);
            write.meter.add_bytes(bytes as u64);
            write.meter.add_files(files.len() as u64);
            write.put(files).await
        });
        Ok(())
    }

    /// The next file of the partition.
    fn target(&mut self) -> Target {
        let name = crate::file_name(&self.write.ctx, &self.write.spec.prefix, self.serial.into(), ".parquet");
        self.serial += 1;
        Target { values: self.values.clone().unwrap_or_default(), name }
    }

    async fn open(&mut self) -> Result<OpenFile> {
        let target = self.target();
        let _permit = self.write.uploads.acquire().await.map_err(given_up)?;
        let folder = self.write.folder(&target).await?;
        let location = folder.location.join(&target.name);
        // A large file is always staged, because it is uploaded in parts; in an unseen folder it is published
        // immediately.
        let (root, unseen) = match folder.visibility {
            Visibility::Staged(root) => (root, false),
            Visibility::Unseen => (folder.location, true),
        };
        let staged = self.write.ctx.stage_file(&root, &location).await?;
        self.write.meter.add_files(1);
        let encoder = FileEncoder::new(&self.write, &self.write.properties.large)?;
        Ok(OpenFile {
            staged,
            location,
            values: target.values,
            unseen,
            rows: 0,
            bytes: 0,
            encoder,
            encoding: VecDeque::new(),
            waiting_bytes: 0,
            row_groups: 0,
            shrinks_to: 1.0,
        })
    }
}

pub(crate) fn given_up(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unexpected("encoding or staging was abandoned").because(error)
}

/// The size of a row, counting only its own memory.
fn row_bytes(rows: &RecordBatch) -> Result<usize> {
    if rows.num_rows() == 0 {
        return Ok(0);
    }
    let mut bytes = 0;
    for column in rows.columns() {
        bytes += match column.data_type() {
            DataType::Utf8View | DataType::BinaryView => get_view_size(column),
            DataType::Dictionary(..) => get_dictionary_size(column)?,
            _ => column.to_data().get_slice_memory_size()?,
        };
    }
    Ok(bytes / rows.num_rows())
}

/// The size of the values if each row had its own copy of average size; all rows share one dictionary.
fn get_dictionary_size(column: &ArrayRef) -> Result<usize> {
    let Some(dictionary) = column.as_any_dictionary_opt() else { return Ok(0) };
    let values = dictionary.values();
    let average = values.to_data().get_slice_memory_size()? / values.len().max(1);
    Ok(column.len() * (average + 4))
}

fn get_view_size(column: &ArrayRef) -> usize {
    let long = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        _ => column.as_binary_view().total_buffer_bytes_used(),
    };
    long + column.len() * 16
}

/// Encodes the row groups of one file into memory.
struct FileEncoder {
    writer: SerializedFileWriter<Vec<u8>>,
    row_groups: Arc<ArrowRowGroupWriterFactory>,
}

impl FileEncoder {
    fn new(write: &Write, properties: &WriterPropertiesPtr) -> Result<Self> {
        let writer = SerializedFileWriter::new(Vec::new(), Arc::clone(&write.parquet_schema), Arc::clone(properties))
            .map_err(parquet_error)?;
        let row_groups = Arc::new(ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&write.schema)));
        Ok(Self { writer, row_groups })
    }

    fn append(&mut self, columns: Vec<ArrowColumnChunk>) -> Result<()> {
        let append = || {
            let mut row_group = self.writer.next_row_group()?;
            for column in columns {
                column.append_to_row_group(&mut row_group)?;
            }
            row_group.close().map(|_| ())
        };
        append().map_err(parquet_error)
    }

    fn note(&mut self, key: &str, value: impl fmt::Display) {
        self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value.to_string()));
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(self.writer.inner_mut()).into()
    }

    /// The rest of the file, and the column metrics of its footer.
    fn finish(&mut self) -> Result<(Bytes, Vec<ColumnMetrics>)> {
        let footer = self.writer.finish().map_err(parquet_error)?;
        Ok((self.take(), ColumnMetrics::of(&footer)))
    }
}

/// Encodes a row group, which is where writing Parquet spends its time.
fn encode(
    row_groups: &ArrowRowGroupWriterFactory,
    number: usize,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<Vec<ArrowColumnChunk>> {
    let encode = || {
        let mut columns = row_groups.create_column_writers(number)?;
        for batch in batches {
            let mut writers = columns.iter_mut();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                for (leaf, writer) in compute_leaves(field, column)?.iter().zip(&mut writers) {
                    writer.write(leaf)?;
                }
            }
        }
        columns.into_iter().map(|column| column.close()).collect::<Result<Vec<_>, ParquetError>>()
    };
    encode().map_err(parquet_error)
}

/// A row group that is being encoded, its size in memory, its number of rows.
type Encoding = (SpawnedTask<Result<Vec<ArrowColumnChunk>>>, usize, u64);

/// A file of several row groups, which are encoded in parallel and appended in order.
struct OpenFile {
    staged: Box<dyn StagedFile>,
    location: Location,
    values: Vec<String>,
    unseen: bool,
    /// Rows written so far.
    rows: u64,
    bytes: u64,
    encoder: FileEncoder,
    encoding: VecDeque<Encoding>,
    /// The memory of the row groups that are being encoded.
    waiting_bytes: usize,
    row_groups: usize,
    /// The ratio of encoded size to size in memory, so far.
    shrinks_to: f64,
}

impl OpenFile {
    /// An empty file has room for anything.
    fn has_room_for(&self, bytes: usize, target: u64) -> bool {
        let more = (self.waiting_bytes + bytes) as f64 * self.shrinks_to;
        self.row_groups == 0 || self.encoder.writer.bytes_written() as f64 + more <= target as f64
    }

    fn encode(
        &mut self,
        write: &Arc<Write>,
        batches: Vec<RecordBatch>,
        bytes: usize,
        memory: MemoryReservation,
        permit: OwnedSemaphorePermit,
    ) -> Result<()> {
        let (factory, schema, number) =
            (Arc::clone(&self.encoder.row_groups), Arc::clone(&write.schema), self.row_groups);
        let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
        let task = SpawnedTask::spawn(async move {
            let (_permit, _memory) = (permit, memory);
            encode(&factory, number, &schema, &batches)
        });
        self.row_groups += 1;
        self.waiting_bytes += bytes;
        self.encoding.push_back((task, bytes, rows));
        Ok(())
    }

    /// Appends encoded row groups until only `left` are pending.
    async fn append_encoded(&mut self, write: &Write, left: usize) -> Result<()> {
        while self.encoding.len() > left
            && let Some((task, bytes, rows)) = self.encoding.pop_front()
        {
            let before = self.encoder.writer.bytes_written();
            self.encoder.append(task.join_unwind().await.map_err(given_up)??)?;
            let encoded = self.encoder.writer.bytes_written() - before;
            self.waiting_bytes -= bytes;
            let ratio = encoded as f64 / bytes.max(1) as f64;
            self.shrinks_to = if self.shrinks_to == 1.0 { ratio } else { self.shrinks_to.max(ratio) };
            self.rows += rows;
            self.write_through(write).await?;
        }
        Ok(())
    }

    async fn write_through(&mut self, write: &Write) -> Result<()> {
        let bytes = self.encoder.take();
        self.pass_on(write, bytes).await
    }

    async fn pass_on(&mut self, write: &Write, bytes: Bytes) -> Result<()> {
        write.meter.add_bytes(bytes.len() as u64);
        self.bytes += bytes.len() as u64;
        self.staged.write(bytes).await
    }

    async fn close(mut self, write: &Write) -> Result<WrittenFile> {
        let (bytes, columns) = self.encoder.finish()?;
        self.pass_on(write, bytes).await?;
        let Self { staged, location, values, unseen, rows, bytes, .. } = self;
        let action = match unseen {
            true => write.ctx.finish_unseen(staged, &location).await?,
            false => staged.finish().await?,
        };
        let (xxh3, publish) = (action.content_hash(), (!unseen).then_some(action));
        Ok(WrittenFile { values, location, rows, bytes, xxh3, publish, columns })
    }
}

pub(crate) fn parquet_error(error: ParquetError) -> Error {
    match error {
        ParquetError::NYI(what) => Error::usage(format!("Parquet does not support this: {what}")),
        error => Error::unexpected("a Parquet file could not be encoded").because(error),
    }
}
