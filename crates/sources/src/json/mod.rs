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
use hardtack_core::{Error, Result};

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
/// * Numbers and booleans in a text column become their text as it stands in the file (as in Spark). Texts in a number
///   column are parsed. `1.5` in an integer column is refused, `1.0` is 1.
/// * Dates, timestamps, decimals and times are parsed from texts as the [crate](crate#how-a-text-becomes-a-value) says.
///   Binary columns are read from hexadecimal text.
///
/// # Without
/// Every row of every file is looked at, and types are widened: null < boolean < text, null < integer < float < text.
/// Integers beyond 64 bits signed are text, so that nothing is lost; dates and timestamps stay text. Structs merge field
/// by field, lists by element; fields that are null everywhere are text. A field that is an object or list in one place
/// and something else in another is refused, with both places.
pub type JsonFiles = Files<Json>;

#[async_trait]
impl Format for Json {
    const TYPE: &'static str = "JsonFiles";
    const SUFFIXES: &'static [&'static str] = &[".json", ".jsonl", ".ndjson"];
    const COMPRESSED: bool = true;

    fn check(&self, declared: &Schema) -> Result<()> {
        check(declared)
    }

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<SchemaRef> {
        let mut all = Shape::default();
        infer_each(files, concurrency, infer_file, |file, shape| {
            all.merge(shape, &file.location.to_string()).map_err(|conflict| conflict.error())
        })
        .await?;
        Ok(Arc::new(Schema::new(all.fields())))
    }

    fn plan(&self, table: TableSchema, origin: Origin, _planned: &Planned) -> Result<Arc<dyn FileSource>> {
        Ok(Arc::new(RowSource::new(Arc::new(JsonObjects { caseless: false }), table, origin)))
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
}

#[async_trait]
impl ReadRows for JsonObjects {
    fn kind(&self) -> &'static str {
        "json"
    }

    async fn read(&self, file: SourceFile, want: Want) -> Result<Batches> {
        let cutter = JsonCutter::new(want.columns, want.batch_size).caseless(self.caseless);
        Ok(file.open_text().await?.batches(cutter, want.side_by_side))
    }
}

/// The shape of all rows of one file.
async fn infer_file(file: SourceFile) -> Result<Shape> {
    let (mut shape, mut scanner) = (Shape::default(), RowScanner::default());
    let mut text = file.open_text().await?;
    text.next(|text, ended| {
        scanner.scan(text)?;
        for row in scanner.rows() {
            shape.observe(&text[row.clone()], row.start)?;
        }
        if let Some(fault) = ended.then(|| scanner.end(text)).flatten() {
            return Err(fault);
        }
        let (used, rows) = (scanner.done(), scanner.rows().len());
        scanner.consume(used, rows);
        Ok(Step::<()> { used, made: None })
    })
    .await?;
    Ok(shape)
}

impl shape::Conflict {
    fn error(self) -> Error {
        let Self { path, one: (one, this), other: (other, that) } = self;
        Error::refused(format!("`{path}` is {this} in {one} and {that} in {other}; declare a schema"))
            .with("column", path)
    }
}
