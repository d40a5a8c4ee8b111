//! Encodes Parquet files into memory.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use hardtack_core::{Error, Result};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::TypePtr;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::written::ColumnMetrics;

/// Encodes the row groups of a file into memory.
pub(crate) struct FileEncoder {
    writer: SerializedFileWriter<Vec<u8>>,
    writers: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    row_group: RowGroup,
    /// The number of row groups before it, and of their rows.
    row_groups: usize,
    rows: u64,
    /// The ratio of encoded size to size in memory, so far.
    shrinks_to: f64,
}

/// The row group that is being encoded, piece by piece. Memory holds what is encoded of it, the piece that is being
/// encoded, and the next one.
#[derive(Default)]
struct RowGroup {
    rows: usize,
    /// The size of its rows in memory.
    bytes: usize,
    /// Its columns, unless a piece is being encoded.
    columns: Option<Vec<ArrowColumnWriter>>,
    /// The piece that is being encoded.
    piece: Option<Piece>,
    /// The memory that its columns take at least, as far as they are encoded.
    held_bytes: usize,
}

/// A piece of a row group that is being encoded.
struct Piece {
    task: SpawnedTask<Result<Vec<Encoded>>>,
    /// The size of its rows in memory.
    bytes: usize,
    /// Whether the row group ends with it.
    last: bool,
}

impl FileEncoder {
    pub(crate) fn new(schema: SchemaRef, parquet_schema: &TypePtr, properties: &WriterPropertiesPtr) -> Result<Self> {
        let writer = SerializedFileWriter::new(Vec::new(), Arc::clone(parquet_schema), Arc::clone(properties))
            .map_err(parquet_error)?;
        let writers = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema));
        let row_group = RowGroup::default();
        Ok(Self { writer, writers, schema, row_group, row_groups: 0, rows: 0, shrinks_to: 1.0 })
    }

    /// The number of rows in the row groups that have ended.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Encodes a row group in place.
    pub(crate) fn encode_in_place(&mut self, batches: &[RecordBatch]) -> Result<()> {
        let columns = self.writers.create_column_writers(self.row_groups).map_err(parquet_error)?;
        let piece = leaves(&self.schema, batches, columns.len()).map_err(parquet_error)?;
        let encode = |(column, rows): (_, Vec<_>)| write(column, &rows)?.close();
        let columns = columns.into_iter().zip(piece).map(encode).collect::<Result<_, _>>();
        self.row_group.rows = batches.iter().map(RecordBatch::num_rows).sum();
        self.append(columns.map_err(parquet_error)?)
    }

    /// The number of rows in the row group that the next ones will be in, and their size in memory.
    pub(crate) fn in_row_group(&self) -> (usize, usize) {
        match &self.row_group {
            RowGroup { piece: Some(Piece { last: true, .. }), .. } => (0, 0),
            RowGroup { rows, bytes, .. } => (*rows, *bytes),
        }
    }

    /// The memory that the row group takes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.row_group.held_bytes + self.row_group.piece.as_ref().map_or(0, |piece| piece.bytes)
    }

    /// A file has room for its first row group, whatever its size.
    pub(crate) fn has_room_for(&self, bytes: usize, target: u64) -> bool {
        let more = (self.row_group.bytes + bytes) as f64 * self.shrinks_to;
        self.row_groups == 0 || self.writer.bytes_written() as f64 + more <= target as f64
    }

    /// Begins to encode a piece of the row group.
    pub(crate) async fn encode(
        &mut self,
        encoders: &Arc<Semaphore>,
        batches: Vec<RecordBatch>,
        bytes: usize,
        last: bool,
    ) -> Result<()> {
        let group = &mut self.row_group;
        let columns = match group.columns.take() {
            Some(columns) => columns,
            None => self.writers.create_column_writers(self.row_groups).map_err(parquet_error)?,
        };
        group.rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        group.bytes += bytes;
        let permit = Arc::clone(encoders).acquire_owned().await.map_err(given_up)?;
        let more = std::iter::from_fn(|| Arc::clone(encoders).try_acquire_owned().ok());
        let permits: Vec<_> = std::iter::once(permit).chain(more.take(columns.len().saturating_sub(1))).collect();
        let schema = Arc::clone(&self.schema);
        let task = SpawnedTask::spawn(async move {
            let piece = leaves(&schema, &batches, columns.len()).map_err(parquet_error)?;
            drop(batches);
            encode_piece(columns, piece, last, permits).await
        });
        group.piece = Some(Piece { task, bytes, last });
        Ok(())
    }

    /// Waits for the piece that is being encoded. If it was the last one, the row group is appended to the file.
    pub(crate) async fn join(&mut self) -> Result<()> {
        let Some(Piece { task, last, .. }) = self.row_group.piece.take() else { return Ok(()) };
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for column in task.join_unwind().await.map_err(given_up)?? {
            match column {
                Encoded::Open(column) => open.push(column),
                Encoded::Closed(column) => closed.push(column),
            }
        }
        if !last {
            let group = &mut self.row_group;
            // The first leaves out pages that wait for a dictionary, and the second what is not in a page yet.
            let held = |column: &ArrowColumnWriter| column.memory_size().max(column.get_estimated_total_bytes());
            group.held_bytes = open.iter().map(held).sum();
            group.columns = Some(open);
            return Ok(());
        }
        self.append(closed)
    }

    /// Ends the row group, if it has rows.
    pub(crate) async fn end_row_group(&mut self) -> Result<()> {
        self.join().await?;
        let Some(columns) = self.row_group.columns.take() else { return Ok(()) };
        let columns = columns.into_iter().map(ArrowColumnWriter::close).collect::<Result<_, _>>();
        self.append(columns.map_err(parquet_error)?)
    }

    /// Adds the row group, which has ended, to the file.
    fn append(&mut self, columns: Vec<ArrowColumnChunk>) -> Result<()> {
        let RowGroup { rows, bytes, .. } = std::mem::take(&mut self.row_group);
        let before = self.writer.bytes_written();
        let append = || {
            let mut row_group = self.writer.next_row_group()?;
            for column in columns {
                column.append_to_row_group(&mut row_group)?;
            }
            row_group.close().map(|_| ())
        };
        append().map_err(parquet_error)?;
        let ratio = (self.writer.bytes_written() - before) as f64 / bytes.max(1) as f64;
        self.shrinks_to = if self.shrinks_to == 1.0 { ratio } else { self.shrinks_to.max(ratio) };
        self.row_groups += 1;
        self.rows += rows as u64;
        Ok(())
    }

    /// Adds an entry to the metadata of the footer.
    pub(crate) fn note(&mut self, key: &str, value: impl fmt::Display) {
        self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value.to_string()));
    }

    /// What has been encoded and not been taken yet.
    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::take(self.writer.inner_mut()).into()
    }

    /// The rest of the file, and the column metrics of its footer.
    pub(crate) fn finish(&mut self) -> Result<(Bytes, Vec<ColumnMetrics>)> {
        let footer = self.writer.finish().map_err(parquet_error)?;
        Ok((self.take(), ColumnMetrics::of(&footer)))
    }
}

/// The rows of each leaf column.
fn leaves(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    count: usize,
) -> Result<Vec<Vec<ArrowLeafColumn>>, ParquetError> {
    let mut leaves: Vec<_> = (0..count).map(|_| Vec::with_capacity(batches.len())).collect();
    for batch in batches {
        let mut of_batch = leaves.iter_mut();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            for (leaf, rows) in compute_leaves(field, column)?.into_iter().zip(&mut of_batch) {
                rows.push(leaf);
            }
        }
    }
    Ok(leaves)
}

/// Encodes rows of a column, which is where writing Parquet spends its time.
fn write(mut column: ArrowColumnWriter, rows: &[ArrowLeafColumn]) -> Result<ArrowColumnWriter, ParquetError> {
    rows.iter().try_for_each(|leaf| column.write(leaf))?;
    Ok(column)
}

/// A column of a row group: before the last piece, and with it.
#[expect(clippy::large_enum_variant, reason = "there is one for each column and piece")]
enum Encoded {
    Open(ArrowColumnWriter),
    Closed(ArrowColumnChunk),
}

/// Encodes a piece of a row group, as many columns at a time as there are permits.
async fn encode_piece(
    columns: Vec<ArrowColumnWriter>,
    piece: Vec<Vec<ArrowLeafColumn>>,
    last: bool,
    permits: Vec<OwnedSemaphorePermit>,
) -> Result<Vec<Encoded>> {
    let waiting = Arc::new(Mutex::new(columns.into_iter().zip(piece).enumerate().rev().collect::<Vec<_>>()));
    let mut tasks = JoinSet::new();
    for permit in permits {
        let waiting = Arc::clone(&waiting);
        let next = move || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        tasks.spawn(async move {
            let _permit = permit;
            let mut encoded = Vec::new();
            while let Some((i, (column, rows))) = next() {
                let column = write(column, &rows)?;
                encoded.push((i, if last { Encoded::Closed(column.close()?) } else { Encoded::Open(column) }));
            }
            Ok(encoded)
        });
    }
    let mut encoded = Vec::new();
    while let Some(columns) = tasks.join_next().await {
        let columns = columns.map_err(|e| if e.is_panic() { resume_unwind(e.into_panic()) } else { given_up(e) });
        encoded.extend(columns?.map_err(parquet_error)?);
    }
    encoded.sort_unstable_by_key(|(i, _)| *i);
    Ok(encoded.into_iter().map(|(_, column)| column).collect())
}

pub(crate) fn parquet_error(error: ParquetError) -> Error {
    match error {
        ParquetError::NYI(what) => Error::usage(format!("Parquet does not support this: {what}")),
        error => Error::unexpected("a Parquet file could not be encoded").because(error),
    }
}

pub(crate) fn given_up(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unexpected("encoding or staging was abandoned").because(error)
}
