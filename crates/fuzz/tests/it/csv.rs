//! CSV files.

use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema};
use hardtack_fuzz::csv::{Cell, Rules, records};
use hardtack_fuzz::meaning::{Meaning, Written, declared};
use hardtack_fuzz::targets::{rows, scalar_types};
use hardtack_sources::CsvFiles;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::files::{FOLDER, File, put};
use crate::texts::{Theme, distinct, name, text, theme};
use crate::trial::{
    GivenRow, Outcome, WrittenRow, context, is_refusal, read, same_rows, same_rows_by, try_cases, within_time,
};

/// The dialect of a set of files.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub delimiter: char,
    quotes: Quotes,
    line_end: &'static str,
    bom: bool,
    blank_lines: bool,
    ends_with_line_end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Quotes {
    WhereNeeded,
    Everywhere,
    Texts,
}

pub fn style() -> impl Strategy<Value = Style> {
    let delimiters = prop_oneof![4 => Just(','), 1 => Just(';'), 1 => Just('\t'), 1 => Just('|')];
    let quotes = prop_oneof![4 => Just(Quotes::WhereNeeded), 1 => Just(Quotes::Everywhere), 1 => Just(Quotes::Texts)];
    let line_end = prop_oneof![4 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r")];
    (delimiters, quotes, line_end, prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.8))
        .prop_map(|(delimiter, quotes, line_end, bom, blank_lines, ends_with_line_end)| Style {
            delimiter,
            quotes,
            line_end,
            bom,
            blank_lines,
            ends_with_line_end,
        })
}

/// A table before it is written.
#[derive(Debug, Clone)]
pub struct Plain {
    pub header: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

/// Columns by name and theme.
pub fn columns() -> impl Strategy<Value = Vec<(String, Theme)>> {
    vec((name(), theme()), 1..5).prop_map(distinct)
}

/// A table with these columns, in any order, and sometimes not all of them.
fn plain(columns: &[(String, Theme)], sometimes: u32) -> impl Strategy<Value = Plain> + use<> {
    let some = prop::sample::subsequence(columns.to_vec(), columns.len().div_ceil(2)..=columns.len());
    let some = prop_oneof![10 - sometimes => Just(columns.to_vec()), sometimes => some].prop_shuffle();
    some.prop_flat_map(|columns| {
        let header: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        let row: Vec<_> = columns.iter().map(|(_, theme)| prop::option::weighted(0.9, text(*theme))).collect();
        vec(row, 0..6).prop_map(move |rows| Plain { header: header.clone(), rows })
    })
}

/// Several tables of the same columns.
pub fn tables() -> impl Strategy<Value = (Style, Vec<Plain>)> {
    columns().prop_flat_map(|columns| (style(), vec(plain(&columns, 3), 1..4)))
}

/// The bytes of a file.
pub fn write(style: Style, header: Option<&[String]>, rows: &[Vec<Option<String>>]) -> Vec<u8> {
    let field = |field: &Option<String>| match field {
        None => String::new(),
        Some(text) => {
            let needed = text.is_empty() || text.contains([style.delimiter, '"', '\n', '\r']);
            let is_text = text.chars().any(|c| c.is_alphabetic());
            let quoted = needed || style.quotes == Quotes::Everywhere || (style.quotes == Quotes::Texts && is_text);
            if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
        }
    };
    let header: Option<Vec<Option<String>>> = header.map(|names| names.iter().cloned().map(Some).collect());
    let lines = header.iter().chain(rows);
    let mut text = String::from(if style.bom { "\u{feff}" } else { "" });
    for (i, line) in lines.enumerate() {
        if i > 0 {
            text.push_str(style.line_end);
            text.push_str(if style.blank_lines { style.line_end } else { "" });
        }
        text.push_str(&line.iter().map(field).collect::<Vec<_>>().join(&style.delimiter.to_string()));
    }
    text.push_str(if style.ends_with_line_end { style.line_end } else { "" });
    text.into_bytes()
}

fn files(style: Style, tables: &[Plain]) -> Vec<File> {
    let file = |(i, table): (usize, &Plain)| File {
        path: format!("{i}.csv"),
        bytes: write(style, Some(&table.header), &table.rows),
    };
    tables.iter().enumerate().map(file).collect()
}

/// The rows of files with headers, by a naive reader; none if it refuses them.
pub fn naive(files: &[File], delimiter: char) -> Option<Vec<WrittenRow>> {
    let rules = Rules { delimiter, quote: Some('"'), escape: None };
    let mut rows = Vec::new();
    for file in files {
        let mut records = records(std::str::from_utf8(&file.bytes).ok()?, rules).ok()?.into_iter();
        let Some(header) = records.next() else { continue };
        let name = |(i, cell): (usize, &Cell)| match cell.text.trim() {
            "" => format!("column_{}", i + 1),
            name => name.to_owned(),
        };
        let names: Vec<String> = header.iter().enumerate().map(name).collect();
        for record in records {
            if record.len() != names.len() {
                return None;
            }
            rows.push(names.iter().cloned().zip(record.into_iter().map(written)).collect());
        }
    }
    Some(rows)
}

/// A cell; missing if it is empty and unquoted.
pub fn written(cell: Cell) -> Written {
    match cell {
        Cell { text, quoted: false } if text.is_empty() => Written::Missing,
        Cell { text, quoted } => Written::Field { text, quoted },
    }
}

fn source(style: Style) -> CsvFiles {
    CsvFiles::new("t", FOLDER).with_delimiter(u8::try_from(style.delimiter).unwrap())
}

#[test]
fn what_is_inferred_keeps_every_value() {
    let cases = tables().prop_map(|(style, tables)| (style, files(style, &tables)));
    try_cases("CSV, inferred", 256, 90, cases, |(style, files)| {
        let wanted = naive(files, style.delimiter).ok_or("the generator writes what cannot be read")?;
        within_time(async {
            let ctx = context();
            put(&ctx, files).await;
            match read(&ctx, source(*style)).await {
                Ok(batches) => same_rows(&wanted, &batches).map(|()| Outcome::Read),
                // Well-formed files may only be refused for this reason.
                Err(e) if e.message().contains("have no columns") => Ok(Outcome::Refused),
                Err(e) => Err(format!("refused without need: {}", e.chain())),
            }
        })?
    });
}

#[test]
fn what_is_declared_is_what_is_written() {
    let cases = columns().prop_flat_map(|columns| {
        let types: Vec<_> =
            columns.iter().map(|(_, theme)| (declared_type(*theme), prop::bool::weighted(0.9))).collect();
        (Just(columns.clone()), types, style(), vec(plain(&columns, 1), 1..3))
    });
    let cases = cases.prop_map(|(columns, types, style, tables)| {
        let field = |((name, _), (of, nullable)): (&(String, Theme), _)| Field::new(name, of, nullable);
        let schema = Schema::new(columns.iter().zip(types).map(field).collect::<Fields>());
        (style, schema, files(style, &tables))
    });
    try_cases("CSV, declared", 384, 15, cases, |(style, schema, files)| {
        let lacks = |file: &File| {
            let rows = records(
                std::str::from_utf8(&file.bytes).unwrap(),
                Rules { delimiter: style.delimiter, quote: Some('"'), escape: None },
            );
            rows.unwrap().first().is_some_and(|header| {
                schema.fields().iter().any(|f| !header.iter().any(|cell| cell.text.trim() == f.name()))
            })
        };
        let rows_wanted = naive(files, style.delimiter).ok_or("the generator writes what cannot be read")?;
        let meanings: Vec<Vec<Meaning>> = rows_wanted.iter().map(|row| meanings(row, schema)).collect();
        let lacking = files.iter().any(lacks);
        within_time(async {
            let ctx = context();
            put(&ctx, files).await;
            let given = read(&ctx, source(*style).with_schema(Arc::new(schema.clone()))).await;
            judge(&meanings, lacking, given.map(|batches| rows(&batches)))
        })?
    });
}

/// The meanings of a row under the columns of a schema.
pub fn meanings(row: &WrittenRow, schema: &Schema) -> Vec<Meaning> {
    let of = |field: &Arc<Field>| {
        let written =
            row.iter().find(|(name, _)| name == field.name()).map_or(Written::Missing, |(_, value)| value.clone());
        declared(&written, field)
    };
    schema.fields().iter().map(of).collect()
}

/// Judges a result or refusal by the meanings.
pub fn judge(
    meanings: &[Vec<Meaning>],
    lacking: bool,
    given: hardtack_core::Result<Vec<GivenRow>>,
) -> Result<Outcome, String> {
    let all = || meanings.iter().flatten();
    match given {
        Err(e) => {
            is_refusal(&e)?;
            let needed = lacking || all().any(|meaning| !matches!(meaning, Meaning::Exactly(_)));
            if needed { Ok(Outcome::Refused) } else { Err(format!("refused without need: {}", e.chain())) }
        }
        Ok(_) if lacking => Err("a column that is not there is not refused".to_owned()),
        Ok(given) => {
            let allows =
                |meanings: &Vec<Meaning>, given: &GivenRow| meanings.iter().zip(given).all(|(m, (_, v))| m.allows(v));
            same_rows_by(meanings, &given, allows).map(|()| Outcome::Read)
        }
    }
}

/// A type that most values of a theme have, or any.
pub fn declared_type(theme: Theme) -> impl Strategy<Value = arrow::datatypes::DataType> {
    use arrow::datatypes::{DataType as D, TimeUnit};
    let own = match theme {
        Theme::Ints => vec![D::Int32, D::Int64, D::Float64, D::Decimal128(9, 2)],
        Theme::LargeInts => vec![D::Int64, D::Decimal128(38, 10)],
        Theme::Floats => vec![D::Float64, D::Float32, D::Utf8],
        Theme::Decimals => vec![D::Decimal128(9, 2), D::Float64, D::Decimal128(38, 10)],
        Theme::Bools => vec![D::Boolean],
        Theme::Dates => vec![D::Date32, D::Timestamp(TimeUnit::Microsecond, None)],
        Theme::Times => {
            vec![D::Timestamp(TimeUnit::Microsecond, None), D::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))]
        }
        Theme::Texts | Theme::Anything => vec![D::Utf8],
    };
    prop_oneof![6 => select(own), 1 => select(scalar_types())]
}

/// Reasons to refuse well-formed records that contradict each other.
const NO_TABLE: [&str; 7] = [
    "this is UTF-16",
    "more than once",
    "no columns",
    "the file is empty",
    "the record repeats the header",
    "seem to be separated by",
    "seems to have a header",
];

/// Texts of significant characters: both readers refuse, or both return the same.
#[test]
fn what_is_odd_is_refused_or_read_alike() {
    let text = vec(
        select(&["a", "1", "\"", "\"\"", ",", "\n", "\r", " ", "\u{fc}", "\u{feff}", "\0", "a,b\n", "x,y\r\n"][..]),
        0..14,
    );
    let cases = vec(text.prop_map(|parts| parts.concat().into_bytes()), 1..3);
    let cases = cases.prop_map(|texts| {
        let file = |(i, bytes)| File { path: format!("{i}.csv"), bytes };
        texts.into_iter().enumerate().map(file).collect::<Vec<_>>()
    });
    try_cases("CSV, odd", 384, 15, cases, |files| {
        let wanted = naive(files, ',');
        within_time(async {
            let ctx = context();
            put(&ctx, files).await;
            match (read(&ctx, CsvFiles::new("t", FOLDER)).await, wanted) {
                (Ok(batches), Some(wanted)) => same_rows(&wanted, &batches).map(|()| Outcome::Read),
                (Ok(batches), None) => Err(format!("not refused, but {:?}", rows(&batches))),
                (Err(e), None) => is_refusal(&e).map(|()| Outcome::Refused),
                (Err(e), Some(_)) if NO_TABLE.iter().any(|why| e.message().contains(why)) => Ok(Outcome::Refused),
                (Err(e), Some(wanted)) => Err(format!("refused without need ({}): {wanted:?}", e.chain())),
            }
        })?
    });
}
