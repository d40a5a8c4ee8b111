//! A lake in a temporary folder, and sources and sinks outside a job.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::LineDelimitedWriter;
use hardtack_core::{JobContext, Location, Report, Result, Sink, Source};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use percent_encoding::percent_decode_str;
use tempfile::TempDir;

use crate::frame::Frame;

/// A folder that is removed when this value is dropped, in which component tests let sources read and sinks write real
/// files.
///
/// Paths are relative and use `/`. All methods panic if a file cannot be read or written.
///
/// ```
/// use hardtack_test_support::{TempLake, assert_frame, rows};
///
/// let lake = TempLake::new();
/// lake.write("in/books.jsonl", r#"{"title": "Dune"}"#);
/// lake.write_parquet("out/day=2026-11-21/a.parquet", rows! { title; "Dune" });
///
/// assert_eq!(lake.files(""), ["in/books.jsonl", "out/day=2026-11-21/a.parquet"]);
/// assert_frame(lake.read_parquet("out"), rows! { title, day; "Dune", "2026-11-21" });
/// assert_eq!(lake.at("in"), lake.location().join("in"));
/// ```
#[derive(Debug)]
pub struct TempLake(TempDir);

impl Default for TempLake {
    fn default() -> Self {
        Self::new()
    }
}

impl TempLake {
    /// Creates an empty folder.
    #[track_caller]
    pub fn new() -> Self {
        Self(TempDir::with_prefix(".tmp").expect("a temporary folder can be made"))
    }

    /// Creates an empty folder in memory if possible (`/dev/shm`): some disks take a minute to remove ten thousand
    /// files.
    #[track_caller]
    pub fn in_memory() -> Self {
        TempDir::with_prefix_in(".tmp", "/dev/shm").map_or_else(|_| Self::new(), Self)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The folder as a location.
    pub fn location(&self) -> Location {
        Location::from(self.path())
    }

    /// The location of a file or folder in it.
    pub fn at(&self, path: &str) -> Location {
        self.location().join(path)
    }

    #[track_caller]
    fn create(&self, path: &str) -> fs::File {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder can be made");
        fs::File::create(&path).unwrap_or_else(|e| panic!("{} cannot be written: {e}", path.display()))
    }

    /// Writes a file.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        std::io::Write::write_all(&mut self.create(path), content.as_ref()).expect("a file can be written");
    }

    /// Copies a file, or a folder with its content, from outside, such as a project's fixtures.
    #[track_caller]
    pub fn copy(&self, path: &str, from: impl AsRef<Path>) {
        let from = from.as_ref();
        let mut found = Vec::new();
        if from.is_dir() {
            walk(from, &mut found)
        } else {
            found.push(from.to_owned())
        }
        assert!(!found.is_empty(), "there is no file in {}", from.display());
        for file in found {
            let inside = file.strip_prefix(from).unwrap_or(&file).to_string_lossy();
            let content = fs::read(&file).unwrap_or_else(|e| panic!("{} cannot be read: {e}", file.display()));
            self.write(format!("{path}/{inside}").trim_end_matches('/'), content);
        }
    }

    /// Writes rows as newline-delimited JSON. Nulls are omitted.
    #[track_caller]
    pub fn write_json_lines(&self, path: &str, rows: impl Into<Frame>) {
        let mut writer = LineDelimitedWriter::new(self.create(path));
        writer.write(&rows.into().to_batch()).and_then(|()| writer.finish()).expect("the rows can be said in JSON");
    }

    /// Writes rows as CSV with a header. Nulls are empty.
    #[track_caller]
    pub fn write_csv(&self, path: &str, rows: impl Into<Frame>) {
        csv::Writer::new(self.create(path)).write(&rows.into().to_batch()).expect("the rows can be said in CSV");
    }

    /// Writes rows as Parquet.
    #[track_caller]
    pub fn write_parquet(&self, path: &str, rows: impl Into<Frame>) {
        let batch = rows.into().to_batch();
        let mut writer = ArrowWriter::try_new(self.create(path), batch.schema(), None).expect("a schema for Parquet");
        writer.write(&batch).expect("the rows can be written");
        writer.close().expect("the file can be closed");
    }

    /// The sorted files below a folder (`""` means all files) that a reader sees: none that are hidden or in a hidden
    /// folder.
    pub fn files(&self, folder: &str) -> Vec<String> {
        self.all_files(folder).into_iter().filter(|path| !is_hidden(path)).collect()
    }

    /// The files that are hidden or in a hidden folder: staged files, state.
    pub fn hidden_files(&self, folder: &str) -> Vec<String> {
        self.all_files(folder).into_iter().filter(|path| is_hidden(path)).collect()
    }

    fn all_files(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.path().join(folder), &mut found);
        let relative = |path: PathBuf| Some(path.strip_prefix(self.path()).ok()?.to_str()?.to_owned());
        let mut files: Vec<_> = found.into_iter().filter_map(relative).collect();
        files.sort();
        files
    }

    /// The text of a file.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_else(|e| panic!("{path} cannot be read: {e}"))
    }

    /// Removes a file, or a folder with its content.
    #[track_caller]
    pub fn remove(&self, path: &str) {
        let full = self.path().join(path);
        let removed = if full.is_dir() { fs::remove_dir_all(&full) } else { fs::remove_file(&full) };
        removed.unwrap_or_else(|e| panic!("{path} cannot be removed: {e}"));
    }

    /// All rows of the Parquet files below a folder, or of one file, as a reader sees them. `column=value` in the path
    /// becomes a text column.
    ///
    /// # Panics
    /// If there is no file, or the files have different schemas.
    #[track_caller]
    pub fn read_parquet(&self, path: &str) -> Frame {
        let full = self.path().join(path);
        let files = if full.is_file() { vec![path.to_owned()] } else { self.files(path) };
        let parquet: Vec<_> = files.iter().filter(|name| name.ends_with(".parquet")).collect();
        let batches: Vec<_> = parquet.iter().map(|name| read_parquet_file(self.path(), path, name)).collect();
        let Some(first) = batches.first() else {
            panic!("there is no Parquet file in `{path}`; the files are: {files:?}");
        };
        let all = concat_batches(&first.schema(), &batches);
        Frame::from(all.unwrap_or_else(|e| panic!("the Parquet files in `{path}` have different schemas: {e}")))
    }
}

fn is_hidden(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with('.'))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[track_caller]
fn read_parquet_file(root: &Path, folder: &str, name: &str) -> RecordBatch {
    let file = fs::File::open(root.join(name)).unwrap_or_else(|e| panic!("{name} cannot be read: {e}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap_or_else(|e| panic!("{name}: {e}"));
    // Metadata of writers is not part of the rows.
    let schema = Arc::new(Schema::new(builder.schema().fields().clone()));
    let reader = builder.build().unwrap_or_else(|e| panic!("{name}: {e}"));
    let batches: Vec<_> = reader.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{name}: {e}"));
    let batches: Vec<_> = batches.into_iter().map(|b| b.with_schema(Arc::clone(&schema)).expect("its own")).collect();
    let rows = concat_batches(&schema, &batches).expect("one file has one schema");
    let inside = name.strip_prefix(folder).unwrap_or(name);
    let partitions = inside.split('/').filter_map(|segment| segment.split_once('='));
    partitions.fold(rows, |rows, (column, value)| with_partition(&rows, column, value))
}

fn with_partition(rows: &RecordBatch, column: &str, value: &str) -> RecordBatch {
    let value = percent_decode_str(value).decode_utf8_lossy();
    let value = (value != "__HIVE_DEFAULT_PARTITION__").then_some(value);
    let values: StringArray = std::iter::repeat_n(value.as_deref(), rows.num_rows()).collect();
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(column, DataType::Utf8, true)));
    let columns: Vec<ArrayRef> = rows.columns().iter().cloned().chain([Arc::new(values) as ArrayRef]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("all columns have one length")
}

/// Loads a source outside a job, and reads its rows.
///
/// # Errors
/// Errors of the source, when it is loaded or read.
pub async fn load(source: impl Source) -> Result<Frame> {
    let ctx = JobContext::builder("test").threads(2).build()?;
    Frame::collect(ctx.load(source).await?).await
}

/// Saves rows to a sink outside a job, and publishes them; returns how much was written.
///
/// ```no_run
/// # use hardtack_core::Sink;
/// # async fn test(sink: impl Sink) -> hardtack_core::Result<()> {
/// use hardtack_test_support::{rows, save};
///
/// let report = save(sink, rows! { title; "Dune" }).await?;
/// assert_eq!((report.files, report.rows), (1, 1));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Errors of the sink, when it stages or is published.
pub async fn save(sink: impl Sink, rows: impl Into<Frame>) -> Result<Report> {
    let ctx = JobContext::builder("test").threads(2).build()?;
    let staged = sink.stage(&ctx.staging(sink.name()), rows.into().to_df(ctx.session())).await?;
    ctx.publish(&staged.publish).await?;
    Ok(staged.report)
}

/// Runs a future to completion, in a test that is not asynchronous, such as a property.
///
/// # Panics
/// If the future panics.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built").block_on(future)
}
