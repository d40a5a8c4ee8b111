//! Files of which nothing is known yet: what they are, how they are written, what columns they have.

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

/// What kind of file a file is, before anything is known of how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A Parquet file.
    Parquet,
    /// JSON objects.
    Json,
    /// Text in fields.
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
    /// What the suffix of a file's name says, if it says something. Texts may be compressed.
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

    /// What the first bytes of a file say, for names that say nothing: Parquet, Avro and JSON begin in a way of their own.
    /// Any text may be CSV, so none is taken for it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sniff(store: &Store, meta: &ObjectMeta) -> Result<Option<Self>> {
        let file = file(store, meta);
        match guarded(&file.location, Self::told_by(&file)).await {
            // Not what its suffix says.
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

/// How [`inspect`] looks at files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InspectOptions {
    /// How CSV files are written, if that is known; otherwise it is found out.
    pub csv: Option<FolderCsv>,
    /// Otherwise what is known of that.
    pub csv_hints: CsvHints,
    /// How many bytes of each text file are looked at (decompressed; all by default). A value further down may be of
    /// another type, and is refused then when it is read.
    pub sample_bytes: Option<u64>,
    /// The names of the partition keys, in lower case: values of columns that are named like one should be those of the
    /// folders `key=value` that the files are in.
    pub keys: Vec<String>,
    /// How many files are looked at side by side.
    pub concurrency: usize,
    /// The types that columns (in lower case) are to have, whatever is found. A file whose values can never be of that type
    /// is left out. A column of JSON that is to be a text may hold lists and objects.
    pub types: Vec<(String, DataType)>,
    /// Whether the first files say what the columns are, because they were read before. Otherwise most of them do.
    pub first_counts: bool,
}

/// What [`inspect`] has found.
#[derive(Debug)]
pub struct Inspected {
    /// How the files are written. A CSV file in which nothing is quoted has no quotes.
    pub format: FileFormat,
    /// The columns of all files together, with names in lower case, and of typed files with the
    /// [types](InspectOptions::types) that were asked for. A column of a CSV file may be null if it has no value in some row
    /// (which is not known of texts).
    pub schema: SchemaRef,
    /// How many rows each file has, if its kind tells that without reading them: Parquet.
    pub rows: Option<Vec<u64>>,
    /// What others may stumble over.
    pub notes: Vec<String>,
    /// Files whose columns are not among these, and why.
    pub unfit: Vec<(Location, Error)>,
    /// Columns that are named like a partition key and have other values, with one of them.
    pub hidden: Vec<String>,
}

/// Looks at files of one kind and one store and says how they are written and what columns they have together: the
/// building block of crawlers. Of Parquet and Avro files the footers and headers are read, of text files every value, or a
/// sample.
///
/// A file that cannot be read, or of which no common type holds the values of a column, is [left out](Inspected::unfit), so
/// that it does not hold up the others.
///
/// # Errors
/// [`Refused`](hardtack_core::ErrorKind::Refused) if that is so for all files, or for many text files, with a file (and the
/// column and another file where types have nothing in common), and for files that are written in two ways.
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

/// What is to be said of columns that are named like a partition key, and have other values.
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
            // Columns of CSV are found by their places, so that there can be none of that name.
            FileKind::Csv => None,
        };
        hidden.extend(first.map(|hidden| hidden.to_string()));
    }
    Ok(hidden)
}

/// What the folder `key=value` that a file is in says.
fn folder_value(file: &SourceFile, key: &str) -> Option<String> {
    let mut folders: Vec<_> = file.meta.location.parts().collect();
    folders.pop();
    let mut said = folders.iter().filter_map(|folder| folder_partition(folder.as_ref()));
    said.rfind(|(name, _)| name.to_lowercase() == key).and_then(|(_, value)| value)
}

/// What is said where the types of files have nothing in common.
const REWRITE: &str = "rewrite one of them by a job, or say the type that the column is to have, as in `hardtack crawl --type x=string` (a string takes the values of both)";

/// The same for lists and structs, which no other type takes.
const REWRITE_NESTED: &str = "rewrite one of them by a job, or leave the file out: `hardtack crawl --exclude`";

/// Refuses a file whose values can never be of the types that its columns are to have.
fn check_wanted(found: &Schema, wanted: &[(String, DataType)], kind: FileKind, file: &Location) -> Result<()> {
    // A text may be a value of any type that is no list of others.
    let is_text = matches!(kind, FileKind::Csv | FileKind::Json);
    let may_be = |from: &DataType, to: &DataType| match is_text {
        true => !from.is_nested() && !to.is_nested(),
        false => Policy::Read.fit(from, to).is_some(),
    };
    for field in found.fields() {
        let Some((name, to)) = wanted.iter().find(|(name, _)| name == field.name()) else { continue };
        let from = field.data_type();
        if from != to && !from.is_null() && !may_be(from, to) {
            let way_out = "say another type for the column, or leave the file out: `--exclude`";
            return Err(Error::refused(format!("`{name}` holds {from}, which is never a value of {to}"))
                .with("file", file)
                .with("column", name)
                .hint(way_out));
        }
    }
    Ok(())
}

/// Columns with the types that they are to have.
fn as_wanted(found: &Schema, wanted: &[(String, DataType)]) -> Schema {
    let of_wanted = |field: &FieldRef| match wanted.iter().find(|(name, _)| name == field.name()) {
        Some((_, to)) => Arc::new(field.as_ref().clone().with_data_type(to.clone())),
        None => Arc::clone(field),
    };
    Schema::new(found.fields().iter().map(of_wanted).collect::<Fields>())
}

/// The columns of a file, and how many rows it has, if it tells.
type Header = (SourceFile, Arc<Schema>, Option<u64>);

async fn inspect_typed(files: &[SourceFile], kind: FileKind, options: &InspectOptions) -> Result<Inspected> {
    // Footers are waited for, not worked on.
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
    // The first file need not be one of the many.
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

/// The columns of files, as far as their types have something in common, and the files of which that is not so.
fn united<'a>(headers: impl Iterator<Item = &'a Header>) -> (Union, Vec<(Location, Error)>) {
    let (mut union, mut misfits) =
        (Union::new(Policy::Infer, REWRITE).with_way_out_if_nested(REWRITE_NESTED), Vec::new());
    for (file, schema, _) in headers {
        if let Err(e) = union.add(schema, &file.location) {
            misfits.push((file.location.clone(), e));
        }
    }
    (union, misfits)
}

/// So many text files are left out; each of them means that the others are read once more.
const TEXTS_LEFT_OUT: usize = 16;

async fn inspect_texts(mut files: Vec<SourceFile>, kind: FileKind, options: &InspectOptions) -> Result<Inspected> {
    let mut unfit: Vec<(Location, Error)> = Vec::new();
    loop {
        let error = match texts(&files, kind, options).await {
            Ok(found) => return Ok(Inspected { unfit, ..found }),
            Err(e) => e,
        };
        let place = error.get("file").and_then(|bad| files.iter().position(|file| file.location.as_str() == bad));
        match place {
            Some(place) if error.kind() == ErrorKind::Refused && files.len() > 1 && unfit.len() < TEXTS_LEFT_OUT => {
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
    // Several columns of texts may be one in lower case.
    let schema = match files.first() {
        Some(file) => {
            let folded = folded(&schema, &file.location)?;
            // Whether the texts are values of these types is for those who read them.
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

/// With names in lower case, also inside of structs.
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
