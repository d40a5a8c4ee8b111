//! The operator that writes a partitioned dataset: it encodes rows, and stages files while it encodes the next ones.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
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
use hardtack_core::{Location, Result, StageContext};
use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::TypePtr;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::encode::{FileEncoder, given_up};
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
    pub(crate) omitted: Vec<String>,
    pub(crate) layout: Layout,
    pub(crate) target_file_bytes: u64,
    /// The prefix of its file names; two writes of one run to one folder have different ones.
    pub(crate) prefix: String,
    /// [`Placement::describe`].
    pub(crate) placement: serde_json::Value,
    /// See `ParquetDataset::with_field_ids`.
    pub(crate) field_ids: Vec<i32>,
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
    /// Limits the tasks that encode in parallel with the streams.
    pub(crate) encoders: Arc<Semaphore>,
    /// Limits the uploads in progress.
    pub(crate) uploads: Arc<Semaphore>,
}

/// Files and what is in them.
type Contents = Vec<(Location, Bytes)>;

impl Write {
    fn encoder(&self, properties: &WriterPropertiesPtr) -> Result<FileEncoder> {
        FileEncoder::new(Arc::clone(&self.schema), &self.parquet_schema, properties)
    }

    async fn folder(&self, target: &Target) -> Result<Folder> {
        self.placement.folder(&target.values, &self.partitioner.folder(&target.values)).await
    }

    /// Writes files whose content is in memory.
    async fn put(&self, files: Vec<SmallFile>) -> Result<Vec<WrittenFile>> {
        let mut staged: Vec<(Location, Contents, Vec<WrittenFile>)> = Vec::new();
        let (mut unseen, mut unseen_files) = (Contents::new(), Vec::new());
        for SmallFile { target, rows, bytes, columns } in files {
            let folder = self.folder(&target).await?;
            let location = folder.location.join(&target.name);
            let size = bytes.len() as u64;
            let (values, at) = (target.values, location.clone());
            let file = WrittenFile { values, location: at, rows, bytes: size, xxh3: None, publish: None, columns };
            match folder.visibility {
                Visibility::Unseen => {
                    unseen.push((location, bytes));
                    unseen_files.push(file);
                }
                Visibility::Staged(root) => match staged.last_mut().filter(|(last, ..)| *last == root) {
                    Some((_, contents, files)) => {
                        contents.push((location, bytes));
                        files.push(file);
                    }
                    None => staged.push((root, vec![(location, bytes)], vec![file])),
                },
            }
        }
        let hashes = self.ctx.put_unseen(unseen).await?;
        let hashed = |(file, xxh3)| WrittenFile { xxh3: Some(xxh3), ..file };
        let mut written: Vec<_> = unseen_files.into_iter().zip(hashes).map(hashed).collect();
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

/// Rows become a row group when they reach this size in memory; larger row groups would help readers little.
pub(crate) const ROW_GROUP_BYTES: usize = 128 << 20;
/// Rows are encoded in pieces of this size, which stay in the caches of a core, and so do the buffers of the next ones.
const PIECE_BYTES: usize = 4 << 20;
/// A smaller partition becomes a file of one row group, encoded by its stream.
const SMALL_FILE_BYTES: usize = 16 << 20;
/// The number of files of a write that are staged concurrently; requests to an object store have high latency.
pub(crate) const UPLOADS: usize = 64;
/// Small files are handed over in batches: a hand-over costs as much as writing one file to a local disk.
const BATCH_FILES: usize = 16;
const BATCH_BYTES: usize = 4 << 20;
/// The footer key of a file that was closed because its next rows would not have fitted; its value is the target
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
    /// The rows of the next piece.
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    /// The file of the partition, once a piece of it was handed over.
    file: Option<OpenFile>,
    /// Small files that are to be staged as one batch, and their size.
    small: Vec<SmallFile>,
    small_bytes: usize,
    /// Files that are being staged.
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
        let full_rows = self.write.spec.layout.row_group_rows;
        let mut rest = (rows.num_rows() > 0).then_some(rows);
        while let Some(rows) = rest.take() {
            // The rows of a slice share its buffers; only their part of them counts.
            let row_bytes = (row_bytes(&rows)?).max(1);
            // Of the row group, without the piece.
            let (group_rows, group_bytes) = self.file.as_ref().map_or((0, 0), |file| file.encoder.in_row_group());
            let room = full.saturating_sub(group_bytes + self.bytes) / row_bytes;
            let room = room.clamp(1, full_rows - group_rows - self.rows);
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
            let held = self.file.as_ref().map_or(0, |file| file.encoder.held_bytes());
            let short = self.memory.try_resize(self.small_bytes + self.bytes + held).is_err();
            let is_full = group_rows + self.rows >= full_rows || group_bytes + self.bytes >= full;
            let last = is_full || (short && group_rows + self.rows >= FEW_ROWS);
            let enough = if self.file.is_some() { PIECE_BYTES } else { SMALL_FILE_BYTES };
            if last || self.bytes >= enough {
                self.encode_piece(last).await?;
            }
        }
        Ok(())
    }

    /// Hands the piece to the encoders and continues. It may be the last one of its row group.
    async fn encode_piece(&mut self, mut last: bool) -> Result<()> {
        let (batches, bytes) = (std::mem::take(&mut self.batches), std::mem::take(&mut self.bytes));
        self.rows = 0;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open().await?,
        };
        file.encoder.join().await?;
        if !file.encoder.has_room_for(bytes, self.write.spec.target_file_bytes) {
            // In the next file, the piece begins a row group instead of ending one.
            last &= file.encoder.in_row_group() == (0, 0);
            file.encoder.note(FULL_AT, self.write.spec.target_file_bytes);
            self.end_file(file).await?;
            file = self.open().await?;
        }
        file.encoder.encode(&self.write.encoders, batches, bytes, last).await?;
        // While the piece is being encoded.
        file.write_through(&self.write).await?;
        self.file = Some(file);
        Ok(())
    }

    async fn end_partition(&mut self) -> Result<()> {
        if self.file.is_none() && self.rows > 0 {
            self.small_file().await?;
        } else if self.rows > 0 {
            self.encode_piece(true).await?;
        }
        if let Some(file) = self.file.take() {
            self.end_file(file).await?;
        }
        self.serial = 0;
        Ok(())
    }

    /// Ends a file in the background.
    async fn end_file(&mut self, file: OpenFile) -> Result<()> {
        let permit = Arc::clone(&self.write.uploads).acquire_owned().await.map_err(given_up)?;
        let memory = self.memory.split(self.memory.size().saturating_sub(self.small_bytes));
        let write = Arc::clone(&self.write);
        self.staging.spawn(async move {
            let (_permit, _memory) = (permit, memory);
            Ok(vec![file.close(&write).await?])
        });
        Ok(())
    }

    /// Encodes a file of one row group in place and stages it in the background, batched with others.
    async fn small_file(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let mut file = self.write.encoder(self.write.properties.of(rows))?;
        file.encode_in_place(&batches)?;
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
        let encoder = self.write.encoder(&self.write.properties.large)?;
        Ok(OpenFile { staged, location, values: target.values, unseen, bytes: 0, encoder })
    }
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

/// A file that is written piece by piece.
struct OpenFile {
    staged: Box<dyn StagedFile>,
    location: Location,
    values: Vec<String>,
    unseen: bool,
    /// The size so far.
    bytes: u64,
    encoder: FileEncoder,
}

impl OpenFile {
    /// Passes on what is complete.
    async fn write_through(&mut self, write: &Write) -> Result<()> {
        let bytes = self.encoder.take();
        if bytes.is_empty() { Ok(()) } else { self.pass_on(write, bytes).await }
    }

    async fn pass_on(&mut self, write: &Write, bytes: Bytes) -> Result<()> {
        write.meter.add_bytes(bytes.len() as u64);
        self.bytes += bytes.len() as u64;
        self.staged.write(bytes).await
    }

    async fn close(mut self, write: &Write) -> Result<WrittenFile> {
        self.encoder.end_row_group().await?;
        let (bytes, columns) = self.encoder.finish()?;
        self.pass_on(write, bytes).await?;
        let Self { staged, location, values, unseen, bytes, encoder } = self;
        let action = match unseen {
            true => write.ctx.finish_unseen(staged, &location).await?,
            false => staged.finish().await?,
        };
        let (xxh3, publish) = (action.content_hash(), (!unseen).then_some(action));
        Ok(WrittenFile { values, location, rows: encoder.rows(), bytes, xxh3, publish, columns })
    }
}
