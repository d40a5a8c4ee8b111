//! Avro object container files.

mod blocks;

use std::io::{BufRead, BufReader, Cursor, Read};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_avro::reader::read_header_info;
use async_trait::async_trait;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use futures::{Stream, StreamExt, stream};
use hardtack_catalog::types::{Policy, Union};
use hardtack_core::{Error, Result};
use tokio_util::io::SyncIoBridge;

use self::blocks::{BlockError, Blocks};
use crate::convert::{check, convert_column, whole_microseconds};
use crate::files::{Files, Format, Inferred, Planned};
use crate::infer::{DECLARE, DECLARE_NESTED, infer_each};
use crate::input::{Bytes, SourceFile};
use crate::scan::{Batches, Origin, ReadRequest, ReadRows, RowSource, in_file};
use crate::spelling::Spelling;

/// The Avro format: see [`AvroFiles`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Avro;

/// Avro object container files (`.avro`), with any of Avro's codecs. Only the columns that a plan needs are decoded.
///
/// ```
/// use hardtack_sources::AvroFiles;
///
/// let events = AvroFiles::new("events", "s3://lake/events").with_glob("2024-*.avro");
/// ```
///
/// Schemas are declared or inferred, and columns converted, as for [`ParquetFiles`](crate::ParquetFiles): the schema in
/// the header of every file is read, and files are united by column name.
pub type AvroFiles = Files<Avro>;

#[async_trait]
impl Format for Avro {
    const TYPE: &'static str = "AvroFiles";
    const SUFFIXES: &'static [&'static str] = &[".avro"];

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<Inferred> {
        let mut union = Union::new(Policy::Infer, DECLARE).with_hint_if_nested(DECLARE_NESTED);
        infer_each(files, concurrency.max(16), header, |file, schema| union.add(&schema, &file.location)).await?;
        Ok(Arc::new(union.schema()).into())
    }

    async fn column(&self, file: SourceFile, column: &Field) -> Result<Batches> {
        AvroRows { caseless: true, truncates: false }.read(file, ReadRequest::column(column.clone())).await
    }

    fn plan(&self, table: TableSchema, origin: Origin, _planned: &Planned) -> Result<Arc<dyn FileSource>> {
        Ok(Arc::new(RowSource::new(Arc::new(AvroRows::default()), table, origin)))
    }
}

/// The columns of a file.
pub(crate) async fn header(file: SourceFile) -> Result<SchemaRef> {
    Ok(AvroFile::open(&file).await?.schema)
}

/// Reads the rows of Avro files.
#[derive(Debug, Default)]
pub(crate) struct AvroRows {
    /// Whether names match in any case.
    pub(crate) caseless: bool,
    /// Whether timestamps in nanoseconds are first rounded down to microseconds.
    pub(crate) truncates: bool,
}

#[async_trait]
impl ReadRows for AvroRows {
    fn kind(&self) -> &'static str {
        "avro"
    }

    async fn read(&self, file: SourceFile, want: ReadRequest) -> Result<Batches> {
        let opened = AvroFile::open(&file).await?;
        let spelling = match self.caseless {
            true => Spelling::new(&opened.schema, &want.columns),
            false => Spelling::stored(Arc::clone(&opened.schema)),
        };
        opened.read(file, want, spelling, self.truncates)
    }
}

/// A file whose header has been read.
struct AvroFile {
    /// The file's columns.
    schema: SchemaRef,
    rows: Blocks<BufReader<Replay>>,
}

/// The bytes that were read for the header, followed by the rest.
type Replay = std::io::Chain<Cursor<Vec<u8>>, SyncIoBridge<Bytes>>;

/// The size of a read request.
const READ_BYTES: usize = 256 << 10;

/// Records the bytes that are read.
struct Recording<R> {
    inner: R,
    seen: Vec<u8>,
}

impl<R: Read> Read for Recording<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

impl AvroFile {
    async fn open(file: &SourceFile) -> Result<Self> {
        let bytes = SyncIoBridge::new(file.open().await?);
        let opened = SpawnedTask::spawn_blocking(move || {
            let mut recording = Recording { inner: bytes, seen: Vec::new() };
            let info = read_header_info(BufReader::new(&mut recording))
                .map_err(|e| (format!("this is not an Avro file: {e}"), None))?;
            let unsupported =
                |e: ArrowError| (format!("the schema of this Avro file is not supported: {e}"), Some(UNSUPPORTED));
            let codec = info.compression().map_err(|e| unsupported(e.into()))?;
            let mut schema = info.writer_schema().map_err(|e| unsupported(e.into()))?.json_string.into_bytes();
            keep_uuids(&mut schema);
            let mut behind = Cursor::new(std::mem::take(&mut recording.seen));
            behind.set_position(info.header_len());
            let bytes = BufReader::with_capacity(READ_BYTES, behind.chain(recording.inner));
            let rows = Blocks::new(&schema, info.sync(), codec, bytes);
            Ok::<_, (String, Option<&str>)>(Self { schema: rows.schema().map_err(unsupported)?, rows })
        });
        let opened = opened
            .join_unwind()
            .await
            .map_err(|e| Error::unexpected("a task that reads a file panicked").because(e))?;
        opened.map_err(|(why, hint)| {
            let error = Error::refused(why).with("file", &file.location);
            hint.into_iter().fold(error, |error, hint| error.hint(hint))
        })
    }

    fn read(self, file: SourceFile, want: ReadRequest, spelling: Spelling, truncates: bool) -> Result<Batches> {
        let ReadRequest { columns: wanted, batch_size, .. } = want;
        for field in wanted.fields() {
            let checked = spelling.check(field.name()).and_then(|()| check(field.name(), &spelling.schema, &wanted));
            checked.map_err(|e| e.with("file", &file.location))?;
        }
        let stored = spelling.schema.fields().iter().enumerate();
        let mut projection: Vec<usize> =
            stored.filter(|(_, f)| wanted.field_with_name(f.name()).is_ok()).map(|(i, _)| i).collect();
        if projection.is_empty() {
            // Counting rows needs at least one column.
            projection.push(0);
        }
        let location = file.location.clone();
        let rows = self.rows.with_columns(projection.clone()).with_batch_size(batch_size);
        let batches = ahead(rows, batch_size).map(move |batch| batch.map_err(|wrong| refused(wrong, &file)));
        let converted = batches.map(move |batch| {
            let batch = spelling.batch(&batch?, &projection).map_err(undecodable);
            let batch = batch.and_then(|batch| converted(&batch, &wanted, truncates));
            batch.map_err(|e| Error::from(in_file(e.into(), &location)))
        });
        Ok(converted.boxed())
    }
}

/// The batches of a file, decoded on the blocking pool, at most two ahead.
fn ahead(
    mut rows: Blocks<BufReader<Replay>>,
    batch_size: usize,
) -> impl Stream<Item = Result<RecordBatch, BlockError>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    // Sending fails when the plan has enough rows; then nobody needs the error.
    let decoding = SpawnedTask::spawn_blocking(move || {
        match batches(&mut rows, batch_size, |batch| sender.blocking_send(Ok(batch))) {
            Ok(()) => {}
            Err(wrong) => drop(sender.blocking_send(Err(wrong))),
        }
    });
    stream::unfold((receiver, Some(decoding)), |(mut receiver, mut decoding)| async move {
        if let Some(batch) = receiver.recv().await {
            return Some((batch, (receiver, decoding)));
        }
        // The decoder has ended, normally or by a panic, which must not count as the end of the file.
        decoding.take()?.join_unwind().await.ok()?;
        None
    })
}

/// Sends the rows of all blocks in batches of this size, until the receiver is gone.
fn batches<R: BufRead, E>(
    rows: &mut Blocks<R>,
    batch_size: usize,
    send: impl Fn(RecordBatch) -> Result<(), E>,
) -> Result<(), BlockError> {
    let mut coalescer: Option<BatchCoalescer> = None;
    for batch in rows {
        let batch = batch?;
        let coalescer = coalescer.get_or_insert_with(|| BatchCoalescer::new(batch.schema(), batch_size));
        coalescer.push_batch(batch).map_err(BlockError::Rows)?;
        while let Some(full) = coalescer.next_completed_batch() {
            if send(full).is_err() {
                return Ok(());
            }
        }
    }
    let Some(mut coalescer) = coalescer else { return Ok(()) };
    coalescer.finish_buffered_batch().map_err(BlockError::Rows)?;
    while let Some(last) = coalescer.next_completed_batch() {
        if send(last).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The error for a fault in a block of a file.
fn refused(wrong: BlockError, file: &SourceFile) -> Error {
    match wrong {
        BlockError::Block(why) => undecodable(why).with("file", &file.location),
        BlockError::Rows(e) => Error::from(in_file(undecodable(e).into(), &file.location)),
        BlockError::Io(e) => file.error(e, None),
    }
}

/// The hint for a schema that the reader does not support.
const UNSUPPORTED: &str = "write the file without such a type, for example with a string instead of a union of several types; or leave it out: `with_glob`, `crawl --exclude`";

/// Converts the requested columns to the requested types.
fn converted(batch: &RecordBatch, wanted: &SchemaRef, truncates: bool) -> Result<RecordBatch> {
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) if truncates => convert_column(&whole_microseconds(column)?, field),
        Some(column) => convert_column(column, field),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = wanted.fields().iter().map(column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    // The caller detects and reports nulls in required columns.
    let nullable = wanted.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable)), columns, &options)?)
}

fn undecodable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::refused("the file is not whole and valid Avro").because(error)
}

/// The reader turns a text with the logical type UUID into 16 bytes. An unknown logical type leaves the text unchanged.
fn keep_uuids(header: &mut [u8]) {
    const KEY: &[u8] = br#""logicalType""#;
    const UUID: &[u8] = br#""uuid""#;
    let is_space = |b: &u8| b.is_ascii_whitespace() || *b == b':';
    let mut at = 0;
    while let Some(found) = header[at..].windows(KEY.len()).position(|window| window == KEY) {
        at += found + KEY.len();
        at += header[at..].iter().take_while(|b| is_space(b)).count();
        if header[at..].starts_with(UUID) {
            header[at..at + UUID.len()].copy_from_slice(br#""utf8""#);
        }
    }
}
