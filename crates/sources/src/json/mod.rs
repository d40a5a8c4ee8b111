//! JSON: rows of objects to batches.

pub(crate) mod decode;
mod fold;
mod keys;
mod pairs;
mod rows;
mod shape;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use hardtack_core::{Error, Location, Result, nearest};

use crate::files::{Files, Format, Inferred, Planned};
use crate::infer::infer_each;
use crate::input::{SourceFile, Step};
use crate::scan::{Batches, Origin, ReadRows, RowSource, Want};
use decode::{JsonCutter, can_decode};
use rows::RowScanner;
use shape::{Shape, Told};

/// The JSON format: see [`JsonFiles`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Json {
    /// The columns that take lists and objects as their JSON.
    texts: Vec<String>,
}

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
/// * Numbers and booleans in a text column become their text as it stands in the file (as in Spark). Lists and objects do
///   so [on request](Files::with_json_text), and are refused otherwise.
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
/// is refused, with both places; [`with_json_text`](Files::with_json_text) reads it. Names that differ in case only are one
/// column, with the name that was first seen, unless an object has both: then case counts in all files.
pub type JsonFiles = Files<Json>;

impl Files<Json> {
    /// Reads lists and objects of these columns as texts: their JSON, as it stands in the file. Numbers, booleans and texts
    /// are what they are in any column of texts. That is a way to read a field that is an object in one row and a text in
    /// another. The columns are those of rows, and not of objects in them; a declared schema has them as texts.
    ///
    /// Loading is an error ([`Usage`](hardtack_core::ErrorKind::Usage)) if there is no such column, or if it is declared as
    /// something else.
    ///
    /// ```
    /// use hardtack_sources::JsonFiles;
    ///
    /// let events = JsonFiles::new("events", "s3://lake/events").with_json_text(["payload"]);
    /// assert_eq!(format!("{events:?}"), r#"JsonFiles { name: "events", location: "s3://lake/events", json_text: ["payload"] }"#);
    /// ```
    #[must_use]
    pub fn with_json_text<N: Into<String>>(mut self, columns: impl IntoIterator<Item = N>) -> Self {
        self.format.texts.extend(columns.into_iter().map(Into::into));
        self
    }
}

#[async_trait]
impl Format for Json {
    const TYPE: &'static str = "JsonFiles";
    const SUFFIXES: &'static [&'static str] = &[".json", ".jsonl", ".ndjson"];
    const COMPRESSED: bool = true;
    const LINES: bool = true;

    fn show(&self, f: &mut std::fmt::DebugStruct<'_, '_>) {
        if !self.texts.is_empty() {
            f.field("json_text", &self.texts);
        }
    }

    fn check(&self, declared: &Schema) -> Result<()> {
        self.check_texts("the declared schema has", declared, false)?;
        check(declared)
    }

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<Inferred> {
        let told = self.texts.iter().map(|name| (name.clone(), DataType::Utf8)).collect::<Vec<_>>();
        let looked = look(files, None, &told, concurrency).await?;
        let schema = Schema::new(looked.shape.fields());
        self.check_texts("the files have", &schema, looked.caseless)?;
        let schema = Arc::new(schema);
        Ok(Inferred { schema, caseless: looked.caseless })
    }

    async fn column(&self, file: SourceFile, column: &Field) -> Result<Batches> {
        JsonObjects { caseless: true, ..JsonObjects::default() }.read(file, Want::column(column.clone())).await
    }

    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>> {
        let texts = self.texts.as_slice().into();
        let rows = JsonObjects { caseless: planned.caseless, lines: planned.lines, texts };
        Ok(Arc::new(RowSource::new(Arc::new(rows), table, origin)))
    }
}

impl Json {
    /// Refuses columns that are to hold JSON and cannot.
    fn check_texts(&self, who_has: &str, schema: &Schema, caseless: bool) -> Result<()> {
        for name in &self.texts {
            let is_it = |other: &String| other == name || (caseless && other.to_lowercase() == name.to_lowercase());
            let Some(field) = schema.fields().iter().find(|field| is_it(field.name())) else {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let near = nearest(name, names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                return Err(Error::usage(format!("`with_json_text`: {who_has} no column `{name}`{near}")));
            };
            if !field.data_type().is_string() {
                let why = format!("`with_json_text`: `{name}` is declared {}; declare it a string", field.data_type());
                return Err(Error::usage(why).with("column", name));
            }
        }
        Ok(())
    }
}

/// Refuses columns that JSON cannot hold.
pub(crate) fn check(schema: &Schema) -> Result<()> {
    can_decode(schema.fields()).map_err(|why| Error::usage(format!("JSON cannot be read into this schema: {why}")))
}

/// Reads the rows of JSON files.
#[derive(Debug, Default)]
pub(crate) struct JsonObjects {
    /// Whether the case of names does not matter.
    pub(crate) caseless: bool,
    /// Whether the column [`LINE_COLUMN`](crate::LINE_COLUMN) is the line and no field.
    pub(crate) lines: bool,
    /// The columns that take lists and objects as their JSON.
    pub(crate) texts: Arc<[String]>,
}

#[async_trait]
impl ReadRows for JsonObjects {
    fn kind(&self) -> &'static str {
        "json"
    }

    async fn read(&self, file: SourceFile, want: Want) -> Result<Batches> {
        let cutter = JsonCutter::new(want.columns, want.batch_size);
        let cutter = cutter.caseless(self.caseless).lines(self.lines).json_text(&self.texts);
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
/// object has both. Columns whose type is told to be a text may hold anything, and those without a value have the type that is
/// told.
pub(crate) async fn look(
    files: &[SourceFile],
    sample: Option<u64>,
    told: &[(String, DataType)],
    concurrency: usize,
) -> Result<Looked> {
    let told: Told = told.iter().map(|(name, of)| (name.to_lowercase(), of.clone())).collect();
    let (mut all, mut scattered, mut misnamed, mut two_spellings) = (Shape::told(&told), None, None, None);
    infer_each(
        files,
        concurrency,
        move |file| infer_file(file, sample, Arc::clone(&told)),
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

async fn infer_file(file: SourceFile, sample: Option<u64>, told: Told) -> Result<FileLooked> {
    let (mut shape, mut scanner) = (Shape::told(&told), RowScanner::default());
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
            .hint(shape::way_out(&path))
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
