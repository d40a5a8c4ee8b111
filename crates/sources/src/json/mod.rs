//! The JSON format.

mod columns;
mod corrupt;
pub(crate) mod decode;
mod keys;
mod read;
mod rows;
mod shape;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use futures::StreamExt;
use hardtack_core::{Error, Location, Result, nearest};

use crate::files::{Files, Format, Inferred, Planned};
use crate::infer::infer_each;
use crate::input::{SourceFile, Step};
use crate::scan::{Batches, Origin, ReadRequest, ReadRows, RowSource};
use decode::{JsonCutter, Spare, can_decode};
use rows::RowScanner;
use shape::{GivenTypes, Shape};

/// The JSON format: see [`JsonFiles`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Json {
    /// The columns that take lists and objects as their JSON.
    texts: Vec<String>,
    /// The column that says what is wrong with a record.
    corrupt: Option<String>,
}

/// JSON files: one object per row, in any layout: one per line (`.jsonl`, `.ndjson`), several per line, pretty-printed
/// over several lines, in a top-level array, or a mixture. Compressed files (gzip, zstd, bzip2, xz) are recognised by
/// their first bytes and decompressed. A file of 0 bytes has no rows. A duplicate key in an object is refused, at any
/// depth and even if nobody reads it: it is ambiguous, and Athena refuses such a row, too.
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
/// The rows have exactly the declared columns, and a value that does not fit is refused with file, line, column and
/// value.
/// * Names are matched exactly, case included. Fields that are not declared are ignored.
/// * A missing field is null. A null or missing field is refused in a required column.
/// * Numbers and booleans in a text column become their text as written in the file (as in Spark). Lists and objects do
///   so [on request](Files::with_json_text), and are refused otherwise.
/// * Numbers may be texts; they, dates, timestamps and times are read as the [crate](crate#how-a-text-becomes-a-value) says.
///   `1.5` in an integer column is refused, `1.0` is 1; a number in a date or timestamp column is refused, too. Binary
///   columns are read from hexadecimal text.
///
/// # Without
/// Every row of every file is examined, and types are widened: null < boolean < text, null < integer < float < text.
/// Numbers are classified by value, in any notation: `1E5`, `1.0` and `-0` are floats. Those that would lose something
/// are text, with all their digits: integers beyond 64 bits signed, `1e400`, `0.1000000000000000055`, and integers
/// beyond 2^53 beside a float. Dates and timestamps stay text. Structs merge field by field, lists by element; fields
/// that are null everywhere are text. A field that is an object or list in one place and something else in another is
/// refused, with both places; [`with_json_text`](Files::with_json_text) reads it. Names that differ only in case are
/// one column, under the first spelling, unless an object has both: then case counts in all files.
pub type JsonFiles = Files<Json>;

impl Files<Json> {
    /// Reads lists and objects of these columns as texts: their JSON, verbatim. Numbers, booleans and texts are read as
    /// in any text column. This allows reading a field that is an object in one row and a text in another. The columns
    /// must be top-level, and texts in a declared schema.
    ///
    /// Loading fails ([`Usage`](hardtack_core::ErrorKind::Usage)) if there is no such column, or if it has another
    /// declared type.
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

impl Files<Json> {
    /// Appends a column for records that cannot be read, so that one of them does not end the run. It is null for all
    /// others. A record that is not JSON, or does not fit the declared schema, is a row that is null in all columns but
    /// this: a `struct<file: string, offset: bigint, reason: string, text: string>` with the file, the offset in bytes
    /// from the beginning of the (decompressed) file, what is wrong, and the record as it is written there. (Bytes that
    /// are not UTF-8 are replaced in `text`.) The declared columns are nullable.
    ///
    /// All declared columns of every record are read, whatever the plan needs, so that each plan finds the same records.
    ///
    /// After a syntax error, reading goes on at the next line that begins with `{`; all the text up to there is one
    /// record that cannot be read. In files with a record per line a damaged line therefore damages no other. Without
    /// line ends all the rest of the file is lost to it, and set aside in parts of about a megabyte.
    ///
    /// Whatever is wrong with a whole file still ends the run: a damaged compression, UTF-16, or a record of more than
    /// 64 MiB.
    ///
    /// Needs a declared schema, which must not have a column of this name.
    ///
    /// ```
    /// use hardtack_catalog::schema;
    /// use hardtack_sources::JsonFiles;
    ///
    /// let calls = JsonFiles::new("calls", "s3://lake/calls").with_schema(schema! { id: bigint not null });
    /// let calls = calls.with_corrupt_records("_corrupt");
    /// assert_eq!(calls.declared_schema().unwrap(), schema! {
    ///     id: bigint,
    ///     _corrupt: struct<file: string, offset: bigint, reason: string, text: string>,
    /// });
    /// ```
    #[must_use]
    pub fn with_corrupt_records(mut self, column: impl Into<String>) -> Self {
        self.format.corrupt = Some(column.into());
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
        if let Some(corrupt) = &self.corrupt {
            f.field("corrupt_records", corrupt);
        }
    }

    fn corrupt_column(&self) -> Option<FieldRef> {
        self.corrupt.as_ref().map(|name| Arc::new(Field::new(name, corrupt::data_type(), true)))
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
        JsonObjects { caseless: true, ..JsonObjects::default() }.read(file, ReadRequest::column(column.clone())).await
    }

    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>> {
        let texts = self.texts.as_slice().into();
        let corrupt = self.corrupt.as_ref().map(|column| {
            let required = planned.required.as_slice().into();
            SetAside { column: column.as_str().into(), all: Arc::clone(table.file_schema()), required }
        });
        let (caseless, lines) = (planned.caseless, planned.lines);
        let rows = JsonObjects { caseless, lines, texts, corrupt, ..JsonObjects::default() };
        Ok(Arc::new(RowSource::new(Arc::new(rows), table, origin)))
    }
}

impl Json {
    /// Refuses columns that cannot take lists and objects as their JSON.
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
    /// Whether names match in any case.
    pub(crate) caseless: bool,
    /// Whether the column [`LINE_COLUMN`](crate::LINE_COLUMN) is the line and not a field.
    pub(crate) lines: bool,
    /// The columns that take lists and objects as their JSON.
    pub(crate) texts: Arc<[String]>,
    /// Where records go that cannot be read; otherwise one of them is an error.
    pub(crate) corrupt: Option<SetAside>,
    /// Shared by the blocks of all files.
    pub(crate) spare: Spare,
}

/// How records that cannot be read become rows.
#[derive(Debug)]
pub(crate) struct SetAside {
    /// The column that says what is wrong with them.
    column: Arc<str>,
    /// All columns of the files: what is wrong must not depend on which of them a plan needs.
    all: SchemaRef,
    /// Those in which a null is wrong.
    required: Arc<[String]>,
}

impl JsonObjects {
    fn cutter(&self, columns: SchemaRef, batch_size: usize) -> JsonCutter {
        JsonCutter::new(columns, batch_size).caseless(self.caseless).lines(self.lines).spare(&self.spare)
    }
}

#[async_trait]
impl ReadRows for JsonObjects {
    fn kind(&self) -> &'static str {
        "json"
    }

    async fn read(&self, file: SourceFile, want: ReadRequest) -> Result<Batches> {
        let Some(corrupt) = &self.corrupt else {
            let cutter = self.cutter(want.columns, want.batch_size).json_text(&self.texts);
            return Ok(file.open_text().await?.batches(cutter, want.parallelism));
        };
        let cutter = self.cutter(Arc::clone(&corrupt.all), want.batch_size);
        let cutter = cutter.setting_aside(corrupt, &file.location).json_text(&self.texts);
        let index = |field: &FieldRef| corrupt.all.index_of(field.name());
        let wanted: Vec<usize> = want.columns.fields().iter().map(index).collect::<std::result::Result<_, _>>()?;
        let batches = file.open_text().await?.batches(cutter, want.parallelism);
        Ok(batches.map(move |batch| Ok(batch?.project(&wanted)?)).boxed())
    }
}

/// What was found out about JSON files.
#[derive(Debug, Default)]
pub(crate) struct JsonProperties {
    shape: Shape,
    /// Whether names that differ only in case are one column.
    caseless: bool,
    /// The first file with an object that has two names that differ only in case, and the names.
    pub(crate) two_spellings: Option<(Location, String, String)>,
    pub(crate) notes: Vec<String>,
}

impl JsonProperties {
    pub(crate) fn schema(&self) -> Schema {
        Schema::new(self.shape.fields())
    }
}

/// Examines all files, at most `sample` bytes of each. Names that differ only in case are one column, unless an object
/// has both. Columns whose type is set to text may contain anything, and columns without a value have the type that is
/// set.
pub(crate) async fn look(
    files: &[SourceFile],
    sample: Option<u64>,
    told: &[(String, DataType)],
    concurrency: usize,
) -> Result<JsonProperties> {
    let told: GivenTypes = told.iter().map(|(name, of)| (name.to_lowercase(), of.clone())).collect();
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
    let scattered = scattered
        .map(|file| format!("{file} does not have one object per line, as Athena and Hive require; it is read here"));
    Ok(JsonProperties { shape, caseless, two_spellings, notes: scattered.into_iter().chain(misnamed).collect() })
}

/// What was found out about one file.
struct FileProperties {
    shape: Shape,
    /// Whether each row is on a line of its own.
    by_line: bool,
    /// A note on its compression.
    misnamed: Option<String>,
}

async fn infer_file(file: SourceFile, sample: Option<u64>, told: GivenTypes) -> Result<FileProperties> {
    let (mut shape, mut scanner) = (Shape::told(&told), RowScanner::default());
    let (mut by_line, mut looked_at) = (true, 0);
    let mut text = file.open_text().await?;
    let misnamed = text.misnamed();
    text.next(|text, ended| {
        scanner.scan(text)?;
        let mut before = 0;
        for row in scanner.rows() {
            shape.observe(&text[row.clone()], row.start)?;
            // There is a line end between two rows, and none within a row.
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
    Ok(FileProperties { shape, by_line, misnamed })
}

impl shape::Conflict {
    fn error(self) -> Error {
        let Self { path, one: (one, this), other: (other, that) } = self;
        Error::refused(format!("`{path}` is {this} in {one} and {that} in {other}"))
            .hint(shape::hint(&path))
            .with("column", path)
    }
}

/// Infers the fields of the rows of a text.
#[cfg(feature = "fuzzing")]
pub(crate) fn fields(text: &[u8]) -> std::result::Result<arrow::datatypes::Fields, crate::fault::Fault> {
    let (mut shape, mut scanner) = (Shape::default(), RowScanner::default());
    scanner.scan(text)?;
    scanner.rows().iter().try_for_each(|row| shape.observe(&text[row.clone()], row.start))?;
    scanner.end(text).map_or(Ok(shape.fields()), Err)
}
