//! Avro object container files.

use std::io::{BufReader, Cursor, Read};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_avro::reader::{ReaderBuilder, read_header_info};
use async_trait::async_trait;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use futures::{StreamExt, stream};
use hardtack_catalog::types::{Policy, Union};
use hardtack_core::{Error, Result};
use tokio_util::io::SyncIoBridge;

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
    /// The file from its start.
    bytes: Whole<Replay>,
}

/// What was read for the header, and the rest.
type Replay = std::io::Chain<Cursor<Vec<u8>>, SyncIoBridge<Bytes>>;

/// What every block of a file ends with.
type Marker = [u8; 16];

/// Refuses a file that does not end with its marker: the reader takes a block that is cut off for the end of the file.
struct Whole<R> {
    inner: R,
    marker: Marker,
    last: Marker,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && self.last != self.marker && !buffer.is_empty() {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ends inside of a block"));
        }
        let new = read.min(self.last.len());
        self.last.rotate_left(new);
        let kept = self.last.len() - new;
        self.last[kept..].copy_from_slice(&buffer[read - new..read]);
        Ok(read)
    }
}

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
        let opened = blocking(move || {
            let mut recording = Recording { inner: bytes, seen: Vec::new() };
            let info = read_header_info(BufReader::new(&mut recording))
                .map_err(|e| (format!("this is not an Avro file: {e}"), None))?;
            let marker = info.sync();
            let mut header = std::mem::take(&mut recording.seen);
            let length = usize::try_from(info.header_len()).map_or(header.len(), |length| length.min(header.len()));
            keep_uuids(&mut header[..length]);
            let reader = ReaderBuilder::new()
                .build(Cursor::new(&header))
                .map_err(|e| (format!("the schema of this Avro file is not supported: {e}"), Some(UNSUPPORTED)))?;
            let schema = reader.schema();
            let inner = Cursor::new(header).chain(recording.inner);
            Ok::<_, (String, Option<&str>)>(Self { schema, bytes: Whole { inner, marker, last: Marker::default() } })
        });
        let opened = opened.await?;
        opened.map_err(|(why, way_out)| {
            let error = Error::refused(why).with("file", &file.location);
            way_out.into_iter().fold(error, |error, way_out| error.with("way out", way_out))
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
        // The reader works on a thread that may block, two batches ahead at most.
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let location = file.location;
        let columns = projection.clone();
        tokio::task::spawn_blocking(move || {
            let builder = ReaderBuilder::new().with_batch_size(batch_size).with_projection(columns);
            let batches = builder.build(BufReader::with_capacity(256 << 10, self.bytes));
            // Sending fails when the plan has all the rows it wants; then nobody is there to tell.
            let _: Result<(), ()> = match batches {
                Ok(mut batches) => batches.try_for_each(|batch| sender.blocking_send(batch).map_err(drop)),
                Err(e) => sender.blocking_send(Err(e)).map_err(drop),
            };
        });
        let batches = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        let converted = batches.map(move |batch: Result<RecordBatch, ArrowError>| {
            let batch = batch.and_then(|batch| spelling.batch(&batch, &projection)).map_err(undecodable);
            let batch = batch.and_then(|batch| converted(&batch, &wanted, truncates));
            batch.map_err(|e| Error::from(in_file(e.into(), &location)))
        });
        Ok(converted.boxed())
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

fn undecodable(error: ArrowError) -> Error {
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::unexpected("reading a file died").because(e))
}
