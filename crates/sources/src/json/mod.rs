//! JSON: rows of objects to batches.

pub(crate) mod decode;
mod fold;
mod keys;
mod pairs;
mod rows;
mod shape;

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use async_trait::async_trait;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use hardtack_core::{Error, Location, Result};

use crate::files::{Files, Format, Inferred, Planned};
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
/// line, pretty-printed over lines, in a top-level array, or a mixture. Compressed files (gzip, zstd, bzip2, xz) are
/// decompressed; their first bytes tell that. A file of 0 bytes has no rows. A key that an object has twice is refused, at any
/// depth, also where nobody reads it: nobody knows which value is meant, and Athena refuses such a row, too.
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
/// is refused, with both places. Names that differ in case only are one column, with the name that was first seen, unless
/// an object has both: then case counts in all files.
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

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<Inferred> {
        let looked = look(files, None, concurrency).await?;
        let schema = Arc::new(Schema::new(looked.shape.fields()));
        Ok(Inferred { schema, caseless: looked.caseless })
    }

    async fn column(&self, file: SourceFile, column: &Field) -> Result<Batches> {
        JsonObjects { caseless: true, lines: false }.read(file, Want::column(column.clone())).await
    }

    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>> {
        let rows = JsonObjects { caseless: planned.caseless, lines: planned.lines };
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

/// What JSON files look like.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    shape: Shape,
    /// Whether names that differ in case only are one column.
    caseless: bool,
    /// The first file with an object that has two names which differ in case only, and the two.
    pub(crate) two_spellings: Option<(Location, String, String)>,
    pub(crate) notes: Vec<String>,
}

impl Looked {
    pub(crate) fn schema(&self) -> Schema {
        Schema::new(self.shape.fields())
    }
}

/// Looks at all files, at no more than `sample` bytes of each. Names that differ in case only are one column, unless an
/// object has both.
pub(crate) async fn look(files: &[SourceFile], sample: Option<u64>, concurrency: usize) -> Result<Looked> {
    let (mut all, mut scattered, mut misnamed, mut two_spellings) = (Shape::default(), None, None, None);
    infer_each(
        files,
        concurrency,
        move |file| infer_file(file, sample),
        |file, found| {
            if !found.by_line && scattered.is_none() {
                scattered = Some(file.location.clone());
            }
            if misnamed.is_none() {
                misnamed = found.misnamed;
            }
            if two_spellings.is_none() {
                let of = |(one, two): (&str, &str)| (file.location.clone(), one.to_owned(), two.to_owned());
                two_spellings = found.shape.in_two_spellings().map(of);
            }
            all.merge(found.shape, &file.location.to_string()).map_err(|conflict| conflict.error())
        },
    )
    .await?;
    let caseless = two_spellings.is_none() && all.is_spelled_differently();
    let shape = if caseless { all.united("").map_err(|conflict| conflict.error())? } else { all };
    let scattered = scattered.map(|file| {
        format!("{file} has not one object on each line, which is what Athena and Hive want; it is read here")
    });
    Ok(Looked { shape, caseless, two_spellings, notes: scattered.into_iter().chain(misnamed).collect() })
}

/// What one file looks like.
struct FileLooked {
    shape: Shape,
    /// Whether each row has a line of its own.
    by_line: bool,
    /// What may be said of how it is compressed.
    misnamed: Option<String>,
}

async fn infer_file(file: SourceFile, sample: Option<u64>) -> Result<FileLooked> {
    let (mut shape, mut scanner) = (Shape::default(), RowScanner::default());
    let (mut by_line, mut looked_at) = (true, 0);
    let mut text = file.open_text().await?;
    let misnamed = text.misnamed();
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
    Ok(FileLooked { shape, by_line, misnamed })
}

impl shape::Conflict {
    fn error(self) -> Error {
        let Self { path, one: (one, this), other: (other, that) } = self;
        Error::refused(format!("`{path}` is {this} in {one} and {that} in {other}"))
            .with("column", path)
            .with("way out", format!("{}, or leave one of the files out (`crawl --exclude`)", shape::WITHOUT))
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
