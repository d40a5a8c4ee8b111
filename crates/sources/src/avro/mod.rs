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

use self::blocks::{Blocks, Wrong};
use crate::convert::{check, convert_column, whole_microseconds};
use crate::files::{Files, Format, Inferred, Planned};
use crate::infer::{DECLARE, DECLARE_NESTED, infer_each};
use crate::input::{Bytes, SourceFile};
use crate::scan::{Batches, Origin, ReadRows, RowSource, Want, in_file};
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
/// the header of every file is looked at, and files are united by the names of their columns.
pub type AvroFiles = Files<Avro>;

#[async_trait]
impl Format for Avro {
    const TYPE: &'static str = "AvroFiles";
    const SUFFIXES: &'static [&'static str] = &[".avro"];

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<Inferred> {
        let mut union = Union::new(Policy::Infer, DECLARE).with_way_out_if_nested(DECLARE_NESTED);
        infer_each(files, concurrency.max(16), header, |file, schema| union.add(&schema, &file.location)).await?;
        Ok(Arc::new(union.schema()).into())
    }

    async fn column(&self, file: SourceFile, column: &Field) -> Result<Batches> {
        AvroRows { caseless: true, truncates: false }.read(file, Want::column(column.clone())).await
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
    /// Whether the case of names does not matter.
    pub(crate) caseless: bool,
    /// Whether timestamps in nanoseconds are rounded down to microseconds first.
    pub(crate) truncates: bool,
}

#[async_trait]
impl ReadRows for AvroRows {
    fn kind(&self) -> &'static str {
        "avro"
    }

    async fn read(&self, file: SourceFile, want: Want) -> Result<Batches> {
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
    /// The columns that the file has.
    schema: SchemaRef,
    rows: Blocks<BufReader<Replay>>,
}

/// What was read for the header, and the rest.
type Replay = std::io::Chain<Cursor<Vec<u8>>, SyncIoBridge<Bytes>>;

/// How much of a file is asked for at once.
const READ_BYTES: usize = 256 << 10;

/// Keeps what is read.
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
        let opened = opened.join_unwind().await.map_err(|e| Error::unexpected("reading a file died").because(e))?;
        opened.map_err(|(why, way_out)| {
            let error = Error::refused(why).with("file", &file.location);
            way_out.into_iter().fold(error, |error, way_out| error.hint(way_out))
        })
    }

    fn read(self, file: SourceFile, want: Want, spelling: Spelling, truncates: bool) -> Result<Batches> {
        let Want { columns: wanted, batch_size, .. } = want;
        for field in wanted.fields() {
            let checked = spelling.check(field.name()).and_then(|()| check(field.name(), &spelling.schema, &wanted));
            checked.map_err(|e| e.with("file", &file.location))?;
        }
        let stored = spelling.schema.fields().iter().enumerate();
        let mut projection: Vec<usize> =
            stored.filter(|(_, f)| wanted.field_with_name(f.name()).is_ok()).map(|(i, _)| i).collect();
        if projection.is_empty() {
            // Rows are counted by some column.
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

/// The batches of a file, which are decoded on a thread that may block, two ahead at most.
fn ahead(mut rows: Blocks<BufReader<Replay>>, batch_size: usize) -> impl Stream<Item = Result<RecordBatch, Wrong>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    // Sending fails when the plan has all the rows it wants; then nobody is there to tell.
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
        // Whoever decoded has ended: as it should, or in a panic, which is not the end of the file.
        decoding.take()?.join_unwind().await.ok()?;
        None
    })
}

/// Sends the rows of all blocks in batches of this many, until nobody takes one.
fn batches<R: BufRead, E>(
    rows: &mut Blocks<R>,
    batch_size: usize,
    send: impl Fn(RecordBatch) -> Result<(), E>,
) -> Result<(), Wrong> {
    let mut coalescer: Option<BatchCoalescer> = None;
    for batch in rows {
        let batch = batch?;
        let coalescer = coalescer.get_or_insert_with(|| BatchCoalescer::new(batch.schema(), batch_size));
        coalescer.push_batch(batch).map_err(Wrong::Rows)?;
        while let Some(full) = coalescer.next_completed_batch() {
            if send(full).is_err() {
                return Ok(());
            }
        }
    }
    let Some(mut coalescer) = coalescer else { return Ok(()) };
    coalescer.finish_buffered_batch().map_err(Wrong::Rows)?;
    while let Some(last) = coalescer.next_completed_batch() {
        if send(last).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What is wrong with a block of a file, as it is told.
fn refused(wrong: Wrong, file: &SourceFile) -> Error {
    match wrong {
        Wrong::Block(why) => undecodable(why).with("file", &file.location),
        Wrong::Rows(e) => Error::from(in_file(undecodable(e).into(), &file.location)),
        Wrong::Io(e) => file.error(e, None),
    }
}

/// What can be done about a schema that the reader does not know.
const UNSUPPORTED: &str = "have the file written without such a type, for example with a string in place of a union of \
                           several types; or leave it out: `with_glob`, `crawl --exclude`";

/// The columns that are wanted, as they are wanted.
fn converted(batch: &RecordBatch, wanted: &SchemaRef, truncates: bool) -> Result<RecordBatch> {
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) if truncates => convert_column(&whole_microseconds(column)?, field),
        Some(column) => convert_column(column, field),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = wanted.fields().iter().map(column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    // What is null although it must not be is found, and told, by who asks for the batch.
    let nullable = wanted.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable)), columns, &options)?)
}

fn undecodable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::refused("the file is not whole and valid Avro").because(error)
}

/// The reader makes 16 bytes of a text that is declared a UUID. A logical type that nobody knows leaves a text as it is.
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
