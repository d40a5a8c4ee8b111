//! Folders of Parquet files.

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, cast, ident};
use datafusion::prelude::DataFrame;
use futures::{StreamExt, TryStreamExt};
use hardtack_core::meter::Meter;
use hardtack_core::staging::StagedFile;
use hardtack_core::{Error, JobContext, Location, PublishAction, Report, Result, ShowFields, Sink, Staged};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::partition::Partitioner;

/// How the pages of a Parquet file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard of a level from 1 to 22 (3 is the default of this framework): smaller.
    Zstd(i32),
    /// Snappy: faster, and what Spark writes.
    Snappy,
    /// None.
    Uncompressed,
}

const TARGET_FILE_BYTES: u64 = 512 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    Overwrite,
}

/// A folder of Parquet files, partitioned Hive-style if wanted.
///
/// It writes one file per partition value (or one in all), split only at a target size, whatever the number of cores, and
/// no file for no rows. File names carry the run's id. Rows come sorted by the partition columns; sorting spills, and one
/// file is open at a time, so memory does not grow with the number of partitions.
///
/// ```
/// use hardtack_sinks::{Compression, ParquetDataset};
///
/// let dataset = ParquetDataset::new("sales", "s3://lake/sales")
///     .overwrite()
///     .partition_by(["year", "month"])
///     .with_compression(Compression::Snappy);
/// assert_ne!(dataset, ParquetDataset::new("sales", "s3://lake/sales"));
/// ```
#[derive(Clone, PartialEq)]
pub struct ParquetDataset {
    name: String,
    location: Location,
    mode: Mode,
    partition_by: Vec<String>,
    schema: Option<SchemaRef>,
    compression: Compression,
    target_file_bytes: u64,
}

impl ParquetDataset {
    /// A dataset in the folder `location`, to which rows are appended.
    pub fn new(name: impl Into<String>, location: impl Into<Location>) -> Self {
        Self {
            name: name.into(),
            location: location.into(),
            mode: Mode::Append,
            partition_by: Vec::new(),
            schema: None,
            compression: Compression::Zstd(3),
            target_file_bytes: TARGET_FILE_BYTES,
        }
    }

    /// Replaces what is in the folder: the `.parquet` files that are there when staging begins are deleted after the new
    /// ones have appeared. Hidden files (beginning with `.` or `_`) and other files stay.
    ///
    /// It is the whole folder that is replaced: runs of different scopes, which go on side by side, need folders of their own.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.mode = Mode::Overwrite;
        self
    }

    /// Writes a folder `column=value` for each value of these columns, in this order; the columns are left out of the files.
    #[must_use]
    pub fn partition_by<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.partition_by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Declares the schema of the dataset, partition columns included: rows are coerced to it, and what does not fit is
    /// refused.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<SchemaRef>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Chooses the compression (zstd of level 3 by default).
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The size in bytes at which a file is closed and another begun (512 MiB by default).
    #[must_use]
    pub fn with_target_file_bytes(mut self, bytes: u64) -> Self {
        self.target_file_bytes = bytes.max(1);
        self
    }

    /// The objects that an overwrite supersedes, as they are now.
    async fn superseded(&self, ctx: &JobContext) -> Result<Vec<PublishAction>> {
        if self.mode == Mode::Append {
            return Ok(Vec::new());
        }
        let (store, root) = ctx.stores().open(&self.location)?;
        let inside = |path: &object_store::path::Path| {
            let mut parts: Vec<_> = path.prefix_match(&root)?.collect();
            let hidden = parts.iter().any(|p| p.as_ref().starts_with('.') || p.as_ref().starts_with('_'));
            let parquet = parts.pop().is_some_and(|name| name.as_ref().ends_with(".parquet"));
            (parquet && !hidden).then(|| PublishAction::Delete { location: Location::of(&store.url, path) })
        };
        let listed: Vec<_> = store.objects.list(Some(&root)).try_collect().await?;
        Ok(listed.iter().filter_map(|meta| inside(&meta.location)).collect())
    }

    fn properties(&self, ctx: &JobContext) -> Result<WriterProperties> {
        let codec = match self.compression {
            Compression::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(level).map_err(|e| {
                Error::usage(format!("{level} is not a zstd level; wanted is one from 1 to 22")).because(e)
            })?),
            Compression::Snappy => Codec::SNAPPY,
            Compression::Uncompressed => Codec::UNCOMPRESSED,
        };
        let about = |key: &str, value: &str| KeyValue::new(key.to_owned(), value.to_owned());
        Ok(WriterProperties::builder()
            .set_compression(codec)
            .set_created_by(format!("hardtack {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(vec![
                about("hardtack.job", &ctx.run().job),
                about("hardtack.run", ctx.run().id.as_str()),
            ]))
            .build())
    }
}

impl std::fmt::Debug for ParquetDataset {
    /// What was chosen; what is as usual is left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("ParquetDataset");
        f.field("name", &self.name).field("location", &self.location.as_str()).field("mode", &self.mode);
        if let Some(schema) = &self.schema {
            f.field("schema", &ShowFields(schema.fields()));
        }
        if !self.partition_by.is_empty() {
            f.field("partition_by", &self.partition_by);
        }
        f.field("compression", &self.compression);
        if self.target_file_bytes != TARGET_FILE_BYTES {
            f.field("target_file_bytes", &self.target_file_bytes);
        }
        f.finish()
    }
}

#[async_trait]
impl Sink for ParquetDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> Option<Location> {
        Some(self.location.clone())
    }

    async fn stage(&self, ctx: &JobContext, rows: DataFrame) -> Result<Staged> {
        let rows = readable_timestamps(crate::contract(rows, self.schema.as_ref())?)?;
        let schema: SchemaRef = rows.schema().as_arrow().clone().into();
        let partitioner = Partitioner::new(&schema, &self.partition_by)?;
        let properties = self.properties(ctx)?;
        let superseded = self.superseded(ctx).await?;
        let rows = match self.partition_by.as_slice() {
            [] => rows,
            columns => rows.sort(columns.iter().map(|c| ident(c).sort(true, true)).collect())?,
        };
        let mut writer = DatasetWriter {
            sink: self,
            ctx,
            properties,
            schema: partitioner.file_schema(&schema)?,
            meter: &ctx.meters().sink(&self.name),
            memory: MemoryConsumer::new(format!("ParquetDataset[{}]", self.name))
                .register(&ctx.session().runtime_env().memory_pool),
            open: None,
            staged: Staged { report: Report::default(), publish: superseded },
        };
        let mut batches = rows.execute_stream().await?;
        while let Some(batch) = batches.next().await.transpose()? {
            for (folder, range) in partitioner.split(&batch)? {
                let rows = partitioner.rows(&batch, &range)?;
                writer.write(&folder, &rows).await?;
            }
        }
        writer.finish().await
    }
}

/// Other engines read a timestamp in seconds as a bare integer, because Parquet has no such type; milliseconds it has.
fn readable_timestamps(rows: DataFrame) -> Result<DataFrame> {
    let schema = rows.schema().as_arrow();
    let in_seconds = |t: &DataType| matches!(t, DataType::Timestamp(TimeUnit::Second, _));
    if !schema.fields().iter().any(|f| in_seconds(f.data_type())) {
        return Ok(rows);
    }
    let columns: Vec<Expr> = schema
        .fields()
        .iter()
        .map(|f| match f.data_type() {
            DataType::Timestamp(TimeUnit::Second, zone) => {
                cast(ident(f.name()), DataType::Timestamp(TimeUnit::Millisecond, zone.clone())).alias(f.name())
            }
            _ => ident(f.name()),
        })
        .collect();
    Ok(rows.select(columns)?)
}

/// Writes sorted rows, one open file at a time.
struct DatasetWriter<'a> {
    sink: &'a ParquetDataset,
    ctx: &'a JobContext,
    properties: WriterProperties,
    schema: SchemaRef,
    meter: &'a Meter,
    memory: MemoryReservation,
    open: Option<OpenFile>,
    staged: Staged,
}

struct OpenFile {
    folder: String,
    file: Box<dyn StagedFile>,
    encoder: ArrowWriter<Vec<u8>>,
}

/// A batch is given to the encoder in slices of this many rows, so that a file ends near its target size.
const SLICE_ROWS: usize = 8192;

impl DatasetWriter<'_> {
    async fn write(&mut self, folder: &str, rows: &RecordBatch) -> Result<()> {
        if self.open.as_ref().is_some_and(|open| open.folder != folder) {
            self.close().await?;
        }
        for start in (0..rows.num_rows()).step_by(SLICE_ROWS) {
            let slice = rows.slice(start, SLICE_ROWS.min(rows.num_rows() - start));
            self.write_slice(folder, &slice).await?;
        }
        Ok(())
    }

    async fn write_slice(&mut self, folder: &str, rows: &RecordBatch) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open(folder).await?,
        };
        open.encoder.write(rows).map_err(parquet_error)?;
        // What the encoder holds counts against the memory limit; where there is no more, the row group ends here.
        if self.memory.try_resize(open.encoder.memory_size()).is_err() {
            open.encoder.flush().map_err(parquet_error)?;
            self.memory.resize(open.encoder.memory_size());
        }
        let encoded = std::mem::take(open.encoder.inner_mut());
        if !encoded.is_empty() {
            self.meter.add_bytes(encoded.len() as u64);
            open.file.write(Bytes::from(encoded)).await?;
        }
        self.staged.report.rows += rows.num_rows() as u64;
        self.meter.add_rows(rows.num_rows() as u64);
        let size = (open.encoder.bytes_written() + open.encoder.in_progress_size()) as u64;
        self.open = Some(open);
        if size >= self.sink.target_file_bytes {
            self.close().await?;
        }
        Ok(())
    }

    async fn open(&mut self, folder: &str) -> Result<OpenFile> {
        let root = &self.sink.location;
        let name = crate::part_name(self.ctx, self.staged.report.files, ".parquet");
        let file = self.ctx.stage_file(root, &root.join(folder).join(name)).await?;
        let encoder = ArrowWriter::try_new(Vec::new(), self.schema.clone(), Some(self.properties.clone()))
            .map_err(parquet_error)?;
        self.staged.report.files += 1;
        self.meter.add_files(1);
        Ok(OpenFile { folder: folder.to_owned(), file, encoder })
    }

    async fn close(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let rest = {
            open.encoder.finish().map_err(parquet_error)?;
            std::mem::take(open.encoder.inner_mut())
        };
        self.meter.add_bytes(rest.len() as u64);
        open.file.write(Bytes::from(rest)).await?;
        self.memory.free();
        let action = open.file.finish().await?;
        if let PublishAction::CompleteUpload { bytes, .. } | PublishAction::RenameFile { bytes, .. } = &action {
            self.staged.report.bytes += bytes;
        }
        self.staged.publish.push(action);
        Ok(())
    }

    async fn finish(mut self) -> Result<Staged> {
        self.close().await?;
        Ok(self.staged)
    }
}

fn parquet_error(error: ParquetError) -> Error {
    match error {
        ParquetError::NYI(what) => Error::usage(format!("Parquet cannot hold this: {what}")),
        error => Error::unexpected("a Parquet file could not be encoded").because(error),
    }
}
