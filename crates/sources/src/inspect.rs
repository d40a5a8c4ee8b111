//! Inspects unknown files: their kind, their dialect, their columns.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use hardtack_catalog::types::{Policy, Union};
use hardtack_core::guard::guarded;
use hardtack_core::{Error, ErrorKind, Location, Result, Store};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::avro::{self, Avro};
use crate::compression::Compression;
use crate::csv::{self, Csv, CsvHints};
use crate::files::Format;
use crate::folders::{FileFormat, FolderCsv};
use crate::hidden;
use crate::infer::look_at_each;
use crate::input::{SourceFile, Step};
use crate::json::{self, Json};
use crate::listing::folder_partition;
use crate::parquet::{self, Parquet};

/// The kind of a file, before its dialect is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A Parquet file.
    Parquet,
    /// JSON objects.
    Json,
    /// Delimited text.
    Csv,
    /// An Avro object container file.
    Avro,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "Parquet",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Avro => "Avro",
        })
    }
}

impl FileKind {
    /// Determines the kind by a file's suffix, if it is a known one. Texts may be compressed.
    ///
    /// ```
    /// use hardtack_sources::FileKind;
    ///
    /// assert_eq!(FileKind::of("a.JSONL.gz"), Some(FileKind::Json));
    /// assert_eq!(FileKind::of("part-00000"), None);
    /// ```
    pub fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let bare = Compression::suffixes().find_map(|suffix| name.strip_suffix(suffix));
        let is = |suffixes: &[&str], compressed: bool| {
            let ends = |name: &str| suffixes.iter().any(|suffix| name.ends_with(suffix));
            ends(&name) || (compressed && bare.is_some_and(ends))
        };
        [
            (Self::Parquet, is(Parquet::SUFFIXES, Parquet::COMPRESSED)),
            (Self::Json, is(Json::SUFFIXES, Json::COMPRESSED)),
            (Self::Csv, is(Csv::SUFFIXES, Csv::COMPRESSED)),
            (Self::Avro, is(Avro::SUFFIXES, Avro::COMPRESSED)),
        ]
        .into_iter()
        .find_map(|(kind, found)| found.then_some(kind))
    }

    /// Determines the kind by a file's first bytes, for names without a known suffix. Parquet, Avro and JSON have
    /// recognisable beginnings. Any text may be CSV, so none is taken for it.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn sniff(store: &Store, meta: &ObjectMeta) -> Result<Option<Self>> {
        let file = file(store, meta);
        match guarded(&file.location, Self::told_by(&file)).await {
            // The file does not match its suffix.
            Err(e) if e.kind() == ErrorKind::Refused => Ok(None),
            told => told,
        }
    }

    async fn told_by(file: &SourceFile) -> Result<Option<Self>> {
        let mut text = file.open_text().await?;
        let (compression, mut found) = (text.compression, None);
        let look = |text: &[u8], ended: bool| {
            let start = text.trim_ascii_start();
            if !ended && start.len() < 4 {
                return Ok(Step { used: 0, made: None });
            }
            found = match start {
                [b'P', b'A', b'R', b'1', ..] if compression.is_none() => Some(Self::Parquet),
                [b'O', b'b', b'j', 1, ..] if compression.is_none() => Some(Self::Avro),
                [b'{', rest @ ..] => matches!(rest.trim_ascii_start().first(), Some(b'"' | b'}')).then_some(Self::Json),
                _ => None,
            };
            Ok(Step { used: text.len(), made: Some(()) })
        };
        text.next(look).await?;
        Ok(found)
    }
}

/// Options of [`inspect`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InspectOptions {
    /// The dialect of CSV files, if known; otherwise it is detected.
    pub csv: Option<FolderCsv>,
    /// Otherwise, hints about it.
    pub csv_hints: CsvHints,
    /// How many bytes of each text file are examined (decompressed; all by default). A value after them may have
    /// another type, and is then refused when it is read.
    pub sample_bytes: Option<u64>,
    /// The names of the partition keys, in lower case. Columns named like one should have the value of the folder
    /// `key=value` around the file.
    pub keys: Vec<String>,
    /// How many files are examined concurrently.
    pub concurrency: usize,
    /// The types that columns (in lower case) must have, whatever is found. A file whose values can never have that
    /// type is left out. A JSON column that must be a text may contain lists and objects.
    pub types: Vec<(String, DataType)>,
    /// Whether the first files determine the columns, because they are known. Otherwise the majority does.
    pub first_counts: bool,
}

/// The result of [`inspect`].
#[derive(Debug)]
pub struct Inspected {
    /// The format of the files. If nothing in CSV files is quoted, they have no quotes.
    pub format: FileFormat,
    /// The united columns of all files, with names in lower case, and for typed files with the requested
    /// [types](InspectOptions::types). A column of CSV files is nullable if it lacks a value in some row (unknown for
    /// texts).
    pub schema: SchemaRef,
    /// The number of rows of each file, if it is known without reading them: for Parquet.
    pub rows: Option<Vec<u64>>,
    /// Notes on decisions and possible surprises.
    pub notes: Vec<String>,
    /// Files that do not fit, and why.
    pub unfit: Vec<(Location, Error)>,
    /// Columns that are named like a partition key and contradict it, with an example.
    pub hidden: Vec<String>,
}

/// Examines files of one kind in one store, and determines their dialect and their united columns: the building block
/// of crawlers. For Parquet and Avro files the footers and headers are read, for text files every value, or a sample.
///
/// A file that cannot be read, or whose columns have no common type with the others, is [left out](Inspected::unfit),
/// so that it does not block the others.
///
/// # Errors
/// [`Refused`](hardtack_core::ErrorKind::Refused) if this applies to all files, or to many text files; the error names
/// a file (and the column and another file where types have nothing in common). Also for files with different dialects.
pub async fn inspect(
    store: &Store,
    files: &[ObjectMeta],
    kind: FileKind,
    options: &InspectOptions,
) -> Result<Inspected> {
    let files: Vec<SourceFile> = files.iter().map(|meta| file(store, meta)).collect();
    let found = match kind {
        FileKind::Parquet | FileKind::Avro => inspect_typed(&files, kind, options).await?,
        FileKind::Json | FileKind::Csv => inspect_texts(files.clone(), kind, options).await?,
    };
    let hidden = hidden_columns(&files, kind, options, &found).await?;
    Ok(Inspected { hidden, ..found })
}

/// The notes on columns that are named like a partition key and contradict it.
async fn hidden_columns(
    files: &[SourceFile],
    kind: FileKind,
    options: &InspectOptions,
    found: &Inspected,
) -> Result<Vec<String>> {
    let mut hidden = Vec::new();
    let fits = |file: &&SourceFile| !found.unfit.iter().any(|(unfit, _)| *unfit == file.location);
    for column in found.schema.fields().iter().filter(|field| options.keys.contains(field.name())) {
        let files =
            || files.iter().filter(fits).map(|file| (file.clone(), folder_value(file, column.name()))).collect();
        let concurrency = options.concurrency;
        let first = match kind {
            FileKind::Parquet => hidden::hidden(&Parquet, files(), column, concurrency).await?,
            FileKind::Avro => hidden::hidden(&Avro, files(), column, concurrency).await?,
            FileKind::Json => hidden::hidden(&Json::default(), files(), column, concurrency).await?,
            // CSV columns are read by position, so there is none of that name.
            FileKind::Csv => None,
        };
        hidden.extend(first.map(|hidden| hidden.to_string()));
    }
    Ok(hidden)
}

/// The value of the folder `key=value` around a file.
fn folder_value(file: &SourceFile, key: &str) -> Option<String> {
    let mut folders: Vec<_> = file.meta.location.parts().collect();
    folders.pop();
    let mut said = folders.iter().filter_map(|folder| folder_partition(folder.as_ref()));
    said.rfind(|(name, _)| name.to_lowercase() == key).and_then(|(_, value)| value)
}

/// The hint if the types of files have nothing in common.
const REWRITE: &str = "rewrite one of them with a job, or set the type of the column, as in `hardtack crawl --type x=string` (a string holds the values of both)";

/// The same for lists and structs, which no other type can hold.
const REWRITE_NESTED: &str = "rewrite one of them with a job, or leave the file out: `hardtack crawl --exclude`";

/// Refuses a file whose values can never have the requested types.
fn check_wanted(found: &Schema, wanted: &[(String, DataType)], kind: FileKind, file: &Location) -> Result<()> {
    // A text may be a value of any type that is not nested.
    let is_text = matches!(kind, FileKind::Csv | FileKind::Json);
    let may_be = |from: &DataType, to: &DataType| match is_text {
        true => !from.is_nested() && !to.is_nested(),
        false => Policy::Read.fit(from, to).is_some(),
    };
    for field in found.fields() {
        let Some((name, to)) = wanted.iter().find(|(name, _)| name == field.name()) else { continue };
        let from = field.data_type();
        if from != to && !from.is_null() && !may_be(from, to) {
            let hint = "say another type for the column, or leave the file out: `--exclude`";
            return Err(Error::refused(format!("`{name}` holds {from}, which is never a value of {to}"))
                .with("file", file)
                .with("column", name)
                .hint(hint));
        }
    }
    Ok(())
}

/// The columns with the requested types.
fn as_wanted(found: &Schema, wanted: &[(String, DataType)]) -> Schema {
    let of_wanted = |field: &FieldRef| match wanted.iter().find(|(name, _)| name == field.name()) {
        Some((_, to)) => Arc::new(field.as_ref().clone().with_data_type(to.clone())),
        None => Arc::clone(field),
    };
    Schema::new(found.fields().iter().map(of_wanted).collect::<Fields>())
}

/// A file, its columns, and its number of rows, if known.
type Header = (SourceFile, Arc<Schema>, Option<u64>);

async fn inspect_typed(files: &[SourceFile], kind: FileKind, options: &InspectOptions) -> Result<Inspected> {
    // Reading footers is I/O-bound.
    let concurrency = options.concurrency.max(16);
    let mut unfit: Vec<(Location, Error)> = Vec::new();
    let mut headers: Vec<Header> = Vec::new();
    let mut take = |file: &SourceFile, found: Result<(Schema, Option<u64>)>| {
        let folded = found.and_then(|(schema, rows)| Ok((folded(&schema, &file.location)?, rows)));
        let wanted = folded.and_then(|(schema, rows)| {
            check_wanted(&schema, &options.types, kind, &file.location)?;
            Ok((as_wanted(&schema, &options.types), rows))
        });
        match wanted {
            Ok((schema, rows)) => {
                // Most files of a data set have the same columns.
                let same = headers.last().map(|(_, last, _)| last).filter(|last| ***last == schema);
                let schema = same.map_or_else(|| Arc::new(schema), Arc::clone);
                headers.push((file.clone(), schema, rows));
            }
            Err(e) if e.kind() == ErrorKind::Refused => unfit.push((file.location.clone(), e)),
            Err(e) => return Err(e),
        }
        Ok(())
    };
    match kind {
        FileKind::Parquet => {
            let look = |file| async move { parquet::footer(file).await.map(|(schema, rows)| (schema, Some(rows))) };
            look_at_each(files, concurrency, look, &mut take).await?;
        }
        _ => {
            let look = |file| async move { avro::header(file).await.map(|schema| (schema.as_ref().clone(), None)) };
            look_at_each(files, concurrency, look, &mut take).await?;
        }
    }
    let (mut union, mut misfits) = united(headers.iter());
    // The first file need not belong to the majority.
    if !options.first_counts && !misfits.is_empty() {
        let is_misfit = |header: &&Header| misfits.iter().any(|(file, _)| *file == header.0.location);
        let (others, most): (Vec<&Header>, Vec<&Header>) = headers.iter().partition(|header| !is_misfit(header));
        let (other_union, fewer) = united(most.into_iter().chain(others));
        if fewer.len() < misfits.len() {
            (union, misfits) = (other_union, fewer);
        }
    }
    unfit.extend(misfits);
    if !unfit.is_empty() && unfit.len() == files.len() {
        return Err(unfit.swap_remove(0).1);
    }
    let counted: HashMap<&Path, u64> =
        headers.iter().filter_map(|(file, _, rows)| Some((&file.meta.location, (*rows)?))).collect();
    let rows = files.iter().map(|file| counted.get(&file.meta.location).copied().unwrap_or_default()).collect();
    let format = if kind == FileKind::Parquet { FileFormat::Parquet } else { FileFormat::Avro };
    let rows = (kind == FileKind::Parquet).then_some(rows);
    Ok(Inspected { format, schema: Arc::new(union.schema()), rows, notes: Vec::new(), unfit, hidden: Vec::new() })
}

/// The united columns of those files whose types are compatible, and the other files.
fn united<'a>(headers: impl Iterator<Item = &'a Header>) -> (Union, Vec<(Location, Error)>) {
    let (mut union, mut misfits) = (Union::new(Policy::Infer, REWRITE).with_hint_if_nested(REWRITE_NESTED), Vec::new());
    for (file, schema, _) in headers {
        if let Err(e) = union.add(schema, &file.location) {
            misfits.push((file.location.clone(), e));
        }
    }
    (union, misfits)
}

/// The maximum number of text files left out; after each, the others are read again.
const MAX_TEXTS_LEFT_OUT: usize = 16;

async fn inspect_texts(mut files: Vec<SourceFile>, kind: FileKind, options: &InspectOptions) -> Result<Inspected> {
    let mut unfit: Vec<(Location, Error)> = Vec::new();
    loop {
        let error = match texts(&files, kind, options).await {
            Ok(found) => return Ok(Inspected { unfit, ..found }),
            Err(e) => e,
        };
        let place = error.get("file").and_then(|bad| files.iter().position(|file| file.location.as_str() == bad));
        match place {
            Some(place)
                if error.kind() == ErrorKind::Refused && files.len() > 1 && unfit.len() < MAX_TEXTS_LEFT_OUT =>
            {
                unfit.push((files.remove(place).location, error));
            }
            _ => return Err(unfit.into_iter().next().map_or(error, |(_, first)| first)),
        }
    }
}

async fn texts(files: &[SourceFile], kind: FileKind, options: &InspectOptions) -> Result<Inspected> {
    let concurrency = options.concurrency.max(1);
    let mut notes = Vec::new();
    let (format, schema) = match kind {
        FileKind::Csv => {
            let known = options.csv.as_ref().map(FolderCsv::dialect);
            let known = csv::Known { dialect: known, hints: options.csv_hints, sample: options.sample_bytes };
            let looked = csv::look(files, &known, concurrency).await?;
            notes.extend(looked.notes);
            let format = FileFormat::Csv(options.csv.clone().unwrap_or(FolderCsv {
                delimiter: looked.dialect.delimiter,
                quote: looked.dialect.quote.filter(|_| looked.quoted),
                escape: looked.dialect.escape,
                null_text: looked.dialect.null_text,
                comment: looked.dialect.comment,
                header_lines: looked.dialect.skipped + u32::from(looked.dialect.header),
                skip_lines: looked.dialect.skipped,
            }));
            (format, looked.schema)
        }
        _ => {
            let looked = json::look(files, options.sample_bytes, &options.types, concurrency).await?;
            if let Some((file, one, other)) = &looked.two_spellings {
                return Err(in_two_spellings(one, other, file));
            }
            let schema = looked.schema();
            notes.extend(looked.notes);
            (FileFormat::Json, schema)
        }
    };
    // Several columns of a text file may be one in lower case.
    let schema = match files.first() {
        Some(file) => {
            let folded = folded(&schema, &file.location)?;
            // Whether the texts are values of these types only shows when they are read.
            check_wanted(&folded, &options.types, kind, &file.location)?;
            folded
        }
        None => schema,
    };
    Ok(Inspected { format, schema: Arc::new(schema), rows: None, notes, unfit: Vec::new(), hidden: Vec::new() })
}

fn file(store: &Store, meta: &ObjectMeta) -> SourceFile {
    let location = Location::of(&store.url, &meta.location);
    SourceFile { store: Arc::clone(&store.objects), meta: meta.clone(), location, meter: Arc::default() }
}

/// The schema with names in lower case, within structs as well.
fn folded(schema: &Schema, file: &Location) -> Result<Schema> {
    let folded = folded_fields(schema.fields());
    Ok(Schema::new(folded.map_err(|(one, other)| in_two_spellings(&one, &other, file))?))
}

fn in_two_spellings(one: &str, other: &str, file: &Location) -> Error {
    Error::refused(format!("`{one}` and `{other}` differ in case only, and a table knows no case; rename one"))
        .with("file", file)
        .with("column", one)
}

fn folded_fields(fields: &Fields) -> Result<Fields, (String, String)> {
    let mut seen: HashMap<String, String> = HashMap::new();
    let fold = |field: &FieldRef| {
        let name = field.name().to_lowercase();
        if let Some(other) = seen.insert(name.clone(), field.name().clone()) {
            return Err((other, field.name().clone()));
        }
        let folded = Field::new(name, folded_type(field.data_type())?, field.is_nullable());
        Ok(folded.with_metadata(field.metadata().clone()))
    };
    fields.iter().map(fold).collect()
}

fn folded_type(of: &DataType) -> Result<DataType, (String, String)> {
    let item = |field: &FieldRef| {
        let of = folded_type(field.data_type())?;
        Ok::<_, (String, String)>(Arc::new(field.as_ref().clone().with_data_type(of)))
    };
    Ok(match of {
        DataType::Struct(fields) => DataType::Struct(folded_fields(fields)?),
        DataType::List(of) => DataType::List(item(of)?),
        DataType::LargeList(of) => DataType::LargeList(item(of)?),
        DataType::FixedSizeList(of, n) => DataType::FixedSizeList(item(of)?, *n),
        DataType::ListView(of) => DataType::ListView(item(of)?),
        DataType::LargeListView(of) => DataType::LargeListView(item(of)?),
        DataType::Map(entries, sorted) => DataType::Map(item(entries)?, *sorted),
        other => other.clone(),
    })
}
