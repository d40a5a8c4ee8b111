//! JSON: rows of objects to batches.

pub(crate) mod decode;
mod fold;
mod rows;
mod shape;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use hardtack_core::{Error, Location, Result};

use crate::files::{Files, Format, Planned};
use crate::infer::infer_each;
use crate::input::{SourceFile, Step};
use crate::scan::{Batches, Origin, ReadRows, RowSource, Want};
use decode::{JsonCutter, can_decode};
use rows::RowScanner;
use shape::Shape;

/// The JSON format: see [`JsonFiles`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Json;

/// JSON files: one object after another, each a row, in any layout: one on a line (`.jsonl`, `.ndjson`), several on a
/// line, pretty-printed over lines, in a top-level array, or a mixture. Compressed files (`.gz`, `.zst`, `.bz2`, `.xz`)
/// are decompressed.
///
/// ```
/// use hardtack_sources::JsonFiles;
///
/// let books = JsonFiles::new("books", "s3://lake/sample_data/json/books");
/// assert_eq!(books, JsonFiles::new("books", "s3://lake/sample_data/json/books"));
/// assert_eq!(format!("{books:?}"), r#"JsonFiles { name: "books", location: "s3://lake/sample_data/json/books" }"#);
/// ```
///
/// # With a declared schema
/// The rows have exactly the declared columns, and what does not fit is refused with file, line, column and value.
/// * Names are matched exactly, case included. Fields that are not declared are ignored.
/// * A missing field is null. A null or missing field whose column allows no null is refused.
/// * Numbers and booleans in a text column become their text as it stands in the file (as in Spark).
/// * Numbers may be texts; they, dates, timestamps and times are read as the [crate](crate#how-a-text-becomes-a-value) says.
///   `1.5` in an integer column is refused, `1.0` is 1; a number in a date or timestamp column is refused, too. Binary
///   columns are read from hexadecimal text.
///
/// # Without
/// Every row of every file is looked at, and types are widened: null < boolean < text, null < integer < float < text.
/// Numbers are told by their digits, in whatever notation: `1E5`, `1.0` and `-0` are floats. Those that would lose
/// something are text, with all their digits: integers beyond 64 bits signed, `1e400`, `0.1000000000000000055`, and
/// integers beyond 2^53 beside a float. Dates and timestamps stay text. Structs merge field by field, lists by element;
/// fields that are null everywhere are text. A field that is an object or list in one place and something else in another
/// is refused, with both places.
pub type JsonFiles = Files<Json>;

#[async_trait]
impl Format for Json {
    const TYPE: &'static str = "JsonFiles";
    const SUFFIXES: &'static [&'static str] = &[".json", ".jsonl", ".ndjson"];
    const COMPRESSED: bool = true;
    const LINES: bool = true;

    fn check(&self, declared: &Schema) -> Result<()> {
        check(declared)
    }

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<SchemaRef> {
        Ok(Arc::new(look(files, None, concurrency).await?.0))
    }

    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>> {
        let rows = JsonObjects { caseless: false, lines: planned.lines };
        Ok(Arc::new(RowSource::new(Arc::new(rows), table, origin)))
    }
}

/// Refuses columns that JSON cannot hold.
pub(crate) fn check(schema: &Schema) -> Result<()> {
    can_decode(schema.fields()).map_err(|why| Error::usage(format!("JSON cannot be read into this schema: {why}")))
}

/// Reads the rows of JSON files.
#[derive(Debug)]
pub(crate) struct JsonObjects {
    /// Whether the case of names does not matter.
    pub(crate) caseless: bool,
    /// Whether the column [`LINE_COLUMN`](crate::LINE_COLUMN) is the line and no field.
    pub(crate) lines: bool,
}

#[async_trait]
impl ReadRows for JsonObjects {
    fn kind(&self) -> &'static str {
        "json"
    }

    async fn read(&self, file: SourceFile, want: Want) -> Result<Batches> {
        let cutter = JsonCutter::new(want.columns, want.batch_size).caseless(self.caseless).lines(self.lines);
        Ok(file.open_text().await?.batches(cutter, want.side_by_side))
    }
}

/// The columns of all files together, looking at no more than `sample` bytes of each, and the first file that has not one
/// object on each line.
pub(crate) async fn look(
    files: &[SourceFile],
    sample: Option<u64>,
    concurrency: usize,
) -> Result<(Schema, Option<Location>)> {
    let (mut all, mut scattered) = (Shape::default(), None);
    infer_each(
        files,
        concurrency,
        move |file| infer_file(file, sample),
        |file, (shape, by_line)| {
            if !by_line && scattered.is_none() {
                scattered = Some(file.location.clone());
            }
            all.merge(shape, &file.location.to_string()).map_err(|conflict| conflict.error())
        },
    )
    .await?;
    Ok((Schema::new(all.fields()), scattered))
}

/// The shape of the rows of one file, and whether each has a line of its own.
async fn infer_file(file: SourceFile, sample: Option<u64>) -> Result<(Shape, bool)> {
    let (mut shape, mut scanner) = (Shape::default(), RowScanner::default());
    let (mut by_line, mut looked_at) = (true, 0);
    let mut text = file.open_text().await?;
    text.next(|text, ended| {
        scanner.scan(text)?;
        let mut before = 0;
        for row in scanner.rows() {
            shape.observe(&text[row.clone()], row.start)?;
            // Between two rows there is a line's end, and within a row there is none.
            let ends = |part: &[u8]| memchr::memchr(b'\n', part).is_some();
            by_line &= (before == 0 || ends(&text[before..row.start])) && !ends(&text[row.clone()]);
            before = row.end;
        }
        if let Some(fault) = ended.then(|| scanner.end(text)).flatten() {
            return Err(fault);
        }
        let (used, rows) = (scanner.done(), scanner.rows().len());
        scanner.consume(used, rows);
        looked_at += used as u64;
        Ok(Step { used, made: sample.filter(|sample| looked_at >= *sample).map(|_| ()) })
    })
    .await?;
    Ok((shape, by_line))
}

impl shape::Conflict {
    fn error(self) -> Error {
        let Self { path, one: (one, this), other: (other, that) } = self;
        Error::refused(format!("`{path}` is {this} in {one} and {that} in {other}; declare a schema"))
            .with("column", path)
    }
}

/// What the rows of a text look like.
#[cfg(feature = "fuzzing")]
pub(crate) fn fields(text: &[u8]) -> std::result::Result<arrow::datatypes::Fields, crate::fault::Fault> {
    let (mut shape, mut scanner) = (Shape::default(), RowScanner::default());
    scanner.scan(text)?;
    scanner.rows().iter().try_for_each(|row| shape.observe(&text[row.clone()], row.start))?;
    scanner.end(text).map_or(Ok(shape.fields()), Err)
}
