//! The CSV format.

pub(crate) mod decode;
mod dialect;
mod ends;
mod header;
mod infer;
mod sniff;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use hardtack_core::{Error, Location, Result};

use crate::fault::MayBeEscaped;
use crate::files::{Files, Format, Inferred, Planned};
use crate::infer::infer_each;
use crate::input::SourceFile;
use crate::scan::{Batches, Origin, ReadRequest, ReadRows, RowSource};
use crate::text::can_parse;
use decode::{CsvCutter, HEADER_SKIPPED, Layout};
use dialect::hint;
use header::{Known as KnownHeader, header};
use infer::{Columns, InferOptions};

pub(crate) use decode::Places;
pub(crate) use dialect::Dialect;
pub use sniff::CsvHints;

/// The CSV format: see [`CsvFiles`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Csv {
    dialect: Dialect,
    /// Whether the delimiter was stated.
    delimiter_told: bool,
}

/// CSV files: records of fields, with a header that names them. Compressed files (gzip, zstd, bzip2, xz) are recognised
/// by their first bytes and decompressed.
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
/// Lines end with `\n`, `\r\n` or `\r`; blank lines are skipped. A quoted field may contain delimiters, line ends and
/// doubled quotes. An empty field is null; an empty quoted field is an empty text. A quote within an unquoted field is
/// a literal character. Malformed input (a record with too many or too few fields, text after a closing quote, a quote
/// that is never closed, text that is not UTF-8) is refused with file and line. So is a record that repeats the header,
/// as in concatenated files, and a file without even a header, which is more likely truncated than written without
/// rows; [`or_empty`](Files::or_empty) accepts it as having no rows. A byte order mark at the start of a record is
/// skipped.
///
/// # With a declared schema
/// The rows have exactly the declared columns. They are found by name in the header, in any order; if there is no exact
/// match, a name that differs only in case matches. A missing declared column is refused; undeclared columns are not
/// even parsed. Values are parsed as the [crate](crate#how-a-text-becomes-a-value) says; those that do not parse are
/// refused with file, line, column and value, and so is an empty field in a column that is not nullable.
///
/// # Without
/// Every value of every file is examined, and types are widened: null < boolean < text, null < integer < float < text,
/// null < date < timestamp < text. Timestamps have microseconds; those with an offset or a `Z` are in UTC, and a column
/// that mixes both is text. Values that could not be [written back](crate#how-a-text-becomes-a-value) make a column
/// text, so that nothing is lost: for example numbers with leading zeros, integers beyond 64 bits, or an integer beyond
/// 2^53 beside a fraction. Columns without any value are text. A column that some files lack is null there. Names that
/// differ only in case are one column, under the first spelling, unless one file has both: then case counts in all
/// files. A file with another delimiter than the others, or than declared, is refused.
pub type CsvFiles = Files<Csv>;

impl Files<Csv> {
    /// Sets the byte between fields (`,` by default).
    #[must_use]
    pub fn with_delimiter(mut self, delimiter: u8) -> Self {
        self.format.dialect.delimiter = delimiter;
        self.format.delimiter_told = true;
        self
    }

    /// Sets the byte around fields that contain a delimiter or a line end (`"` by default); `None` if nothing is
    /// quoted.
    #[must_use]
    pub fn with_quote(mut self, quote: impl Into<Option<u8>>) -> Self {
        self.format.dialect.quote = quote.into();
        self
    }

    /// Sets the escape character, which makes the next byte in a quoted field literal. By default, quotes are doubled.
    #[must_use]
    pub fn with_escape(mut self, escape: u8) -> Self {
        self.format.dialect.escape = Some(escape);
        self
    }

    /// Sets the unquoted text that means null, such as `\N`. An empty field of a text column is then an empty text.
    #[must_use]
    pub fn with_null_text(mut self, text: impl Into<String>) -> Self {
        self.format.dialect.null_text = Some(text.into());
        self
    }

    /// Skips this many lines at the start of each file, before the header: a title, the date of an export.
    #[must_use]
    pub fn with_skip_lines(mut self, lines: u32) -> Self {
        self.format.dialect.skipped = lines;
        self
    }

    /// Skips lines that begin with this byte, wherever they are. A field that begins with it needs quotes.
    #[must_use]
    pub fn with_comment(mut self, comment: u8) -> Self {
        self.format.dialect.comment = Some(comment);
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
        if self.delimiter_told {
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
        if mine.skipped > 0 {
            f.field("skip_lines", &mine.skipped);
        }
        if let Some(comment) = mine.comment {
            f.field("comment", &char::from(comment));
        }
        if !mine.header {
            f.field("header", &false);
        }
    }

    fn check(&self, declared: &Schema) -> Result<()> {
        self.dialect.check()?;
        check(declared)
    }

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<Inferred> {
        self.dialect.check()?;
        let mut all = Columns::default();
        let dialect = Arc::new(self.dialect.clone());
        let how = InferOptions { hints: (!self.delimiter_told).then(CsvHints::default), ..InferOptions::default() };
        let look = |file: SourceFile| infer::infer_file(file, Arc::clone(&dialect), how);
        infer_each(files, concurrency, look, |file, columns| match columns {
            Some(columns) => {
                all.merge(columns);
                Ok(())
            }
            None if self.dialect.header => Err(infer::no_header(file)),
            None => Ok(()),
        })
        .await?;
        Ok(Arc::new(all.schema()).into())
    }

    async fn column(&self, file: SourceFile, column: &Field) -> Result<Batches> {
        let want = ReadRequest::column(Field::new(column.name(), DataType::Utf8, true));
        let table = TableSchema::new(Arc::clone(&want.columns), Vec::new());
        CsvRows::new(self.dialect.clone(), Places::Named, &table).read(file, want).await
    }

    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>> {
        let places = if planned.declared { Places::Required } else { Places::Named };
        let rows = CsvRows::new(self.dialect.clone(), places, &table);
        Ok(Arc::new(RowSource::new(Arc::new(CsvRows { or_empty: planned.or_empty, ..rows }), table, origin)))
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

/// The reader of files of this dialect.
pub(crate) fn read(dialect: Dialect, places: Places, table: TableSchema, origin: Origin) -> Arc<dyn FileSource> {
    let rows = CsvRows::new(dialect, places, &table);
    Arc::new(RowSource::new(Arc::new(rows), table, origin))
}

/// Prior knowledge about CSV files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The dialect of the table's files.
    pub(crate) dialect: Option<Dialect>,
    /// Otherwise, hints about it.
    pub(crate) hints: CsvHints,
    /// The number of bytes per file to examine.
    pub(crate) sample: Option<u64>,
}

/// What was found out about CSV files.
#[derive(Debug)]
pub(crate) struct CsvProperties {
    pub(crate) dialect: Dialect,
    /// The schema. A nullable column has no value in some row (texts are not checked).
    pub(crate) schema: Schema,
    pub(crate) notes: Vec<String>,
    /// Whether a field is quoted, or it was stated that some are.
    pub(crate) quoted: bool,
}

/// Examines all files to determine their dialect and columns.
pub(crate) async fn look(files: &[SourceFile], known: &Known, concurrency: usize) -> Result<CsvProperties> {
    let mut notes = Vec::new();
    let mut dialect = known.dialect.clone().unwrap_or_default();
    if let (None, Some(file)) = (&known.dialect, files.first()) {
        known.hints.dialect().check()?;
        let sniffed = sniff::sniff(file, known.hints).await?;
        notes.extend(sniffed.notes(&file.location));
        dialect = sniffed.dialect;
    }
    let mut found = look_as(files, &dialect, known, concurrency).await;
    // Files that cannot be read otherwise may be readable with escapes. If they can be read without, escapes are not
    // assumed: a text may end with a backslash.
    let may_escape = known.dialect.is_none() && dialect.escape.is_none() && dialect.quote.is_some();
    if let Err(error) = &found
        && may_escape
        && error.detail::<MayBeEscaped>().is_some()
    {
        let escaped = Dialect { escape: Some(b'\\'), ..dialect.clone() };
        if let Ok(again) = look_as(files, &escaped, known, concurrency).await {
            (found, dialect) = (Ok(again), escaped);
        }
    }
    let (found, empty): (Vec<_>, Vec<_>) = found?.into_iter().partition(|(_, columns)| columns.is_some());
    let found: Vec<(Location, Columns)> =
        found.into_iter().filter_map(|(file, columns)| Some((file, columns?))).collect();
    if let Some((file, _)) = empty.first() {
        notes.push(format!("{file} has neither a header nor rows"));
    }
    if found.iter().any(|(_, columns)| columns.width() > 1)
        && let Some((file, other)) = found.iter().find_map(|(file, columns)| Some((file, columns.other_delimiter?)))
    {
        let fault = infer::separated(other, dialect.delimiter);
        let hint = fault.hint.unwrap_or_default();
        return Err(Error::refused(fault.message).with("file", file).hint(hint));
    }
    // A file with fewer lines before the header than others would lose it.
    let is_first = |line: &Vec<String>| found.iter().any(|(_, columns)| same_names(&columns.first, line));
    let lost = |columns: &Columns| {
        let is_own = |line: &Vec<String>| same_names(&columns.first, line);
        columns.skipped.iter().any(|line| is_first(line) && !is_own(line))
    };
    if let Some((file, _)) = found.iter().find(|(_, columns)| lost(columns)) {
        return Err(Error::refused(HEADER_SKIPPED).with("file", file).hint(hint::SKIPPED));
    }
    notes.extend(found.iter().find_map(|(_, columns)| columns.note.clone()));
    let told = match (&known.dialect, known.hints.header) {
        (Some(dialect), _) => Some(KnownHeader { header: dialect.header, by_table: true }),
        (None, header) => header.map(|header| KnownHeader { header, by_table: false }),
    };
    let (header, doubts) = header(&found, told, dialect.delimiter)?;
    notes.extend(doubts);
    let (mut all, mut misplaced) = (Columns::default(), None);
    for (file, columns) in found {
        if let Some(line) = columns.repeated.filter(|_| header) {
            let why = "the record repeats the header, as in concatenated files";
            let error = Error::refused(why).with("file", &file).with("line", line);
            return Err(error.hint(hint::REPEATED));
        }
        let columns = columns.decided(header).map_err(|name| {
            let error = Error::refused(format!("the header names `{name}` more than once")).with("file", &file);
            error.with("column", name).hint(hint::NAMES)
        })?;
        let names: Vec<String> = columns.names().map(str::to_lowercase).collect();
        all.merge(columns);
        if misplaced.is_none()
            && !names.iter().map(String::as_str).eq(all.names().map(str::to_lowercase).take(names.len()))
        {
            misplaced = Some(file);
        }
    }
    if let Some(file) = misplaced {
        let why = "are in other positions than in the files before it: they are matched by name here, but Hive and Athena read them by position";
        notes.push(format!("the columns of {file} {why}"));
    }
    if dialect.comment.is_some() {
        notes.push("comment lines are skipped here, but Hive and Athena take them for rows".to_owned());
    }
    let quoted = all.quoted || known.hints.quote.is_some() || dialect.escape.is_some();
    Ok(CsvProperties { dialect: Dialect { header, ..dialect }, schema: all.strict_schema(), quoted, notes })
}

fn same_names(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.trim().to_lowercase() == b.trim().to_lowercase())
}

/// The columns of each file under this dialect; a file without records has none.
async fn look_as(
    files: &[SourceFile],
    dialect: &Dialect,
    known: &Known,
    concurrency: usize,
) -> Result<Vec<(Location, Option<Columns>)>> {
    let undecided = Arc::new(Dialect { header: false, ..dialect.clone() });
    // Stated options apply to all files that can be read with them, and are no reason to misread others.
    let hints = Some(CsvHints { delimiter: None, ..known.hints });
    let told = known.dialect.is_some() || known.hints.delimiter.is_some();
    let how = InferOptions { undecided: true, sample: known.sample, hints, told };
    let mut found = Vec::new();
    let look = |file: SourceFile| infer::infer_file(file, Arc::clone(&undecided), how);
    infer_each(files, concurrency, look, |file, columns| {
        found.push((file.location.clone(), columns));
        Ok(())
    })
    .await?;
    Ok(found)
}

#[derive(Debug)]
struct CsvRows {
    dialect: Arc<Dialect>,
    /// The columns of the files, which give the fields their names where there is no header.
    all: SchemaRef,
    places: Places,
    /// Whether a file without a header has no rows.
    or_empty: bool,
}

impl CsvRows {
    fn new(dialect: Dialect, places: Places, table: &TableSchema) -> Self {
        Self { dialect: Arc::new(dialect), all: Arc::clone(table.file_schema()), places, or_empty: false }
    }
}

#[async_trait]
impl ReadRows for CsvRows {
    fn kind(&self) -> &'static str {
        "csv"
    }

    /// Texts of dropped rows need not be built.
    fn can_filter(&self) -> bool {
        true
    }

    async fn read(&self, file: SourceFile, want: ReadRequest) -> Result<Batches> {
        let (wanted, filter) = (want.columns, want.filter);
        let (all, or_empty) = (Arc::clone(&self.all), self.or_empty);
        let layout = Layout { wanted, filter, all, places: self.places, or_empty };
        let cutter = CsvCutter::new(Arc::clone(&self.dialect), layout, want.batch_size);
        Ok(file.open_text().await?.batches(cutter, want.parallelism))
    }
}
