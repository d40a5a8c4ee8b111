//! CSV: records of fields to batches.

pub(crate) mod decode;
mod dialect;
mod ends;
mod infer;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use hardtack_core::{Error, Location, Result};

use crate::files::{Files, Format, Planned};
use crate::infer::infer_each;
use crate::input::SourceFile;
use crate::scan::{Batches, Origin, ReadRows, RowSource, Want};
use crate::text::can_parse;
use decode::{CsvCutter, Layout};
use infer::{Columns, Look};

pub(crate) use decode::Places;
pub(crate) use dialect::Dialect;

/// The CSV format: see [`CsvFiles`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Csv {
    dialect: Dialect,
}

/// CSV files: records of fields, with a header that names them. Compressed files (`.gz`, `.zst`, `.bz2`, `.xz`) are
/// decompressed.
///
/// ```
/// use hardtack_sources::CsvFiles;
///
/// let feed = CsvFiles::new("encounters", "s3://bucket/feed").with_delimiter(b';').with_null_text("NULL");
/// assert_eq!(
///     format!("{feed:?}"),
///     r#"CsvFiles { name: "encounters", location: "s3://bucket/feed", delimiter: ';', null_text: "NULL" }"#
/// );
/// ```
///
/// Lines end with `\n`, `\r\n` or `\r`; blank lines are skipped. A field in quotes may hold delimiters, line ends and,
/// written twice, quotes. An empty field is null; an empty field in quotes is an empty text. A quote within a field
/// that does not start with one is one of its characters. What is malformed (a record with too many or too few fields,
/// text after a closing quote, a quote that is never closed, text that is not UTF-8) is refused with file and line.
///
/// # With a declared schema
/// The rows have exactly the declared columns. They are found by their name in the header, in any order; where no name is
/// the same, one that differs in case only will do. A declared column that a file lacks is refused, what is not declared
/// is not even parsed. Values are parsed as the [crate](crate#how-a-text-becomes-a-value) says; what cannot be is refused
/// with file, line, column and value, and so is an empty field in a column that allows no null.
///
/// # Without
/// Every value of every file is looked at, and types are widened: null < boolean < text, null < integer < float < text,
/// null < date < timestamp < text. Timestamps have microseconds; those with an offset or a `Z` are in UTC, and a column
/// that mixes both is text. What could not be [written back](crate#how-a-text-becomes-a-value) is text, so that nothing is
/// lost: numbers with leading zeros, say, integers beyond 64 bits, or an integer beyond 2^53 beside a fraction.
/// Columns without any value are text. A column that some files lack is null there.
pub type CsvFiles = Files<Csv>;

impl Files<Csv> {
    /// The byte between fields, `,` unless told otherwise.
    #[must_use]
    pub fn with_delimiter(mut self, delimiter: u8) -> Self {
        self.format.dialect.delimiter = delimiter;
        self
    }

    /// The byte around fields that hold a delimiter or a line end, `"` unless told otherwise; `None` if there is no such
    /// byte.
    #[must_use]
    pub fn with_quote(mut self, quote: impl Into<Option<u8>>) -> Self {
        self.format.dialect.quote = quote.into();
        self
    }

    /// The byte that makes the next one, in a quoted field, just a character; unless told otherwise a quote is written
    /// twice.
    #[must_use]
    pub fn with_escape(mut self, escape: u8) -> Self {
        self.format.dialect.escape = Some(escape);
        self
    }

    /// The text that means null where it stands without quotes, `\N` say. An empty field of a text column is an empty
    /// text then.
    #[must_use]
    pub fn with_null_text(mut self, text: impl Into<String>) -> Self {
        self.format.dialect.null_text = Some(text.into());
        self
    }

    /// The files have no header: the fields are the declared columns in their order, or else `column_1`, `column_2` ...
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.format.dialect.header = false;
        self
    }
}

#[async_trait]
impl Format for Csv {
    const TYPE: &'static str = "CsvFiles";
    const SUFFIXES: &'static [&'static str] = &[".csv", ".tsv"];
    const COMPRESSED: bool = true;

    fn show(&self, f: &mut std::fmt::DebugStruct<'_, '_>) {
        let (mine, usual) = (&self.dialect, Dialect::default());
        if mine.delimiter != usual.delimiter {
            f.field("delimiter", &char::from(mine.delimiter));
        }
        if mine.quote != usual.quote {
            f.field("quote", &mine.quote.map(char::from));
        }
        if let Some(escape) = mine.escape {
            f.field("escape", &char::from(escape));
        }
        if let Some(text) = &mine.null_text {
            f.field("null_text", text);
        }
        if !mine.header {
            f.field("header", &false);
        }
    }

    fn check(&self, declared: &Schema) -> Result<()> {
        check(declared)
    }

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<SchemaRef> {
        let mut all = Columns::default();
        let dialect = Arc::new(self.dialect.clone());
        let look = |file: SourceFile| infer::infer_file(file, Arc::clone(&dialect), Look::default());
        infer_each(files, concurrency, look, |_, columns| {
            all.merge(columns);
            Ok(())
        })
        .await?;
        Ok(Arc::new(all.schema()))
    }

    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>> {
        let places = if planned.declared { Places::Required } else { Places::Named };
        Ok(read(self.dialect.clone(), places, table, origin))
    }
}

/// Refuses columns that a text cannot hold.
pub(crate) fn check(schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|f| !can_parse(f.data_type())) {
        None => Ok(()),
        Some(field) => Err(Error::usage(format!("a CSV file cannot hold {}", crate::fault::a(field.data_type())))
            .with("column", field.name())),
    }
}

/// What reads files of this dialect.
pub(crate) fn read(dialect: Dialect, places: Places, table: TableSchema, origin: Origin) -> Arc<dyn FileSource> {
    let rows = CsvRows { dialect: Arc::new(dialect), all: Arc::clone(table.file_schema()), places };
    Arc::new(RowSource::new(Arc::new(rows), table, origin))
}

/// What is known of CSV files beforehand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// How they are written, but for the header.
    pub(crate) dialect: Option<Dialect>,
    /// Whether the first line names the columns.
    pub(crate) header: Option<bool>,
    /// Not further into a file than so many bytes.
    pub(crate) sample: Option<u64>,
}

/// What CSV files look like.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) dialect: Dialect,
    /// A column that may be null has no value in some row (texts are not looked at).
    pub(crate) schema: Schema,
    pub(crate) notes: Vec<String>,
    /// Whether a field is in quotes.
    pub(crate) quoted: bool,
}

/// Looks at all files to find out how they are written and what columns they have.
pub(crate) async fn look(files: &[SourceFile], known: &Known, concurrency: usize) -> Result<Looked> {
    let mut dialect = known.dialect.clone().unwrap_or_default();
    if let (None, Some(file)) = (&known.dialect, files.first()) {
        dialect.delimiter = infer::delimiter(file).await?;
    }
    let undecided = Arc::new(Dialect { header: false, ..dialect.clone() });
    let how = Look { undecided: true, sample: known.sample };
    let mut found: Vec<(Location, Columns)> = Vec::new();
    let look = |file: SourceFile| infer::infer_file(file, Arc::clone(&undecided), how);
    infer_each(files, concurrency, look, |file, columns| {
        found.push((file.location.clone(), columns));
        Ok(())
    })
    .await?;
    let (header, mut notes) = header(&found, known.header)?;
    let (mut all, mut misplaced) = (Columns::default(), None);
    for (file, columns) in found {
        let columns = columns.decided(header).map_err(|name| {
            Error::refused(format!("the header names `{name}` more than once")).with("file", &file).with("column", name)
        })?;
        let names: Vec<String> = columns.names().map(str::to_owned).collect();
        all.merge(columns);
        if misplaced.is_none() && !names.iter().eq(all.names().take(names.len())) {
            misplaced = Some(file);
        }
    }
    if let Some(file) = misplaced {
        let why = "are in other places than in the files before it: they are found by their names here, but Hive and Athena read them by place";
        notes.push(format!("the columns of {file} {why}"));
    }
    Ok(Looked { dialect: Dialect { header, ..dialect }, schema: all.strict_schema(), quoted: all.quoted, notes })
}

/// Whether the files have a header, and what is to be said about that.
fn header(found: &[(Location, Columns)], known: Option<bool>) -> Result<(bool, Vec<String>)> {
    if let Some(header) = known {
        return Ok((header, Vec::new()));
    }
    let told =
        |header: bool| found.iter().find(|(_, columns)| columns.has_header() == Some(header)).map(|(file, _)| file);
    match (told(true), told(false)) {
        (Some(with), Some(without)) => {
            let why =
                format!("{with} seems to have a header, and {without} none; say which: --csv-header present or absent");
            Err(Error::refused(why))
        }
        (Some(_), None) => Ok((true, Vec::new())),
        (None, Some(_)) => Ok((false, Vec::new())),
        (None, None) => {
            let note =
                "all values are texts, so the first line is taken for a header; say --csv-header absent if it is a row";
            Ok((true, vec![note.to_owned()]))
        }
    }
}

#[derive(Debug)]
struct CsvRows {
    dialect: Arc<Dialect>,
    /// The columns of the files, which give the fields their names where there is no header.
    all: SchemaRef,
    places: Places,
}

#[async_trait]
impl ReadRows for CsvRows {
    fn kind(&self) -> &'static str {
        "csv"
    }

    /// Texts of rows that are dropped need not be made.
    fn can_filter(&self) -> bool {
        true
    }

    async fn read(&self, file: SourceFile, want: Want) -> Result<Batches> {
        let (wanted, filter) = (want.columns, want.filter);
        let layout = Layout { wanted, filter, all: Arc::clone(&self.all), places: self.places };
        let cutter = CsvCutter::new(Arc::clone(&self.dialect), layout, want.batch_size);
        Ok(file.open_text().await?.batches(cutter, want.side_by_side))
    }
}
