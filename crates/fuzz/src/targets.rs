//! Fuzz targets: each passes arbitrary bytes to a decoder, and panics if the result differs from a naive reader's.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use hardtack_catalog::{Column, Comparison, HiveType, Predicate, TableDescription, TableFormat, schema_of};
use hardtack_sources::{FolderCsv, folder_partition, fuzzing, partition_type, partition_value};

use crate::csv::{self, Cell, Rules};
use crate::exact::Exact;
use crate::json::{self, Json};
use crate::meaning::{Meaning, Written, declared, keeps, row_keeps};
use crate::value::{Value, value};

/// The rows of batches, with the names of their columns.
pub fn rows(batches: &[RecordBatch]) -> Vec<Vec<(String, Value)>> {
    let row = |batch: &RecordBatch, row| {
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        columns.map(|(field, column)| (field.name().clone(), value(column, row))).collect()
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |i| row(batch, i))).collect()
}

/// The first bytes select how the rest is read.
fn choices<const N: usize>(data: &[u8]) -> Option<([u8; N], &[u8])> {
    let (first, rest) = data.split_first_chunk::<N>()?;
    Some((*first, rest))
}

fn texts(width: usize) -> SchemaRef {
    let field = |i| Field::new(format!("column_{i}"), DataType::Utf8, true);
    Arc::new(Schema::new((1..=width).map(field).collect::<Fields>()))
}

/// CSV: records and fields, for pieces of any size. The first byte selects the dialect, the second the size of a piece.
///
/// # Panics
/// If the decoder is wrong.
pub fn csv(data: &[u8]) {
    let Some(([dialect, piece], text)) = choices(data) else { return };
    let delimiter = [b',', b';', b'\t', b'|'][usize::from(dialect & 3)];
    let quote = (dialect & 4 == 0).then_some(b'"');
    let escape = (dialect & 8 != 0).then_some(b'\\');
    let (null_text, comment) = (None, None);
    let how = FolderCsv { delimiter, quote, escape, null_text, comment, header_lines: 0, skip_lines: 0 };
    let rules = Rules { delimiter: delimiter.into(), quote: quote.map(char::from), escape: escape.map(char::from) };
    let naive = std::str::from_utf8(text).map_err(|e| e.to_string()).and_then(|text| csv::records(text, rules));
    let width = naive.as_ref().ok().and_then(|records| records.first()).map_or(1, Vec::len);
    let given = fuzzing::csv(text, usize::from(piece) + 1, &how, &texts(width));
    match (naive, given) {
        (Ok(records), Ok(batches)) => {
            let cell = |cell: &Cell| (cell.quoted || !cell.text.is_empty()).then(|| cell.text.clone());
            let wanted: Vec<Vec<Option<String>>> = records.iter().map(|r| r.iter().map(cell).collect()).collect();
            let text = |value: Value| if let Value::Text(text) = value { Some(text) } else { None };
            let given = rows(&batches).into_iter().map(|row| row.into_iter().map(|(_, value)| text(value)).collect());
            assert_eq!(given.collect::<Vec<Vec<_>>>(), wanted);
        }
        (Ok(records), Err(why)) => {
            assert!(records.iter().any(|record| record.len() != width), "refused without need: {why}");
        }
        (Err(why), Ok(batches)) => panic!("not refused ({why}): {:?}", rows(&batches)),
        (Err(_), Err(_)) => {}
    }
}

/// JSON: inference, and reading with the inferred schema, for pieces of any size. The first byte selects the size of a
/// piece.
///
/// # Panics
/// If the decoder is wrong.
pub fn json(data: &[u8]) {
    let Some(([piece], text)) = choices(data) else { return };
    let piece = usize::from(piece) + 1;
    let naive = std::str::from_utf8(text).map_err(|e| e.to_string()).and_then(json::rows);
    let Ok(schema) = fuzzing::json_schema(text) else { return };
    let rows_wanted = match naive {
        Ok(rows) => rows,
        Err(why) => {
            // The schema may be inferred from an invalid text; reading its rows must fail.
            assert!(fuzzing::json(text, piece, &schema, false).is_err(), "not refused ({why}): {schema}");
            return;
        }
    };
    // Case-insensitive reading must not panic.
    let _ = fuzzing::json(text, piece, &schema, true);
    let batches = match fuzzing::json(text, piece, &schema, false) {
        Ok(batches) => batches,
        Err(why) => {
            let doubtful = rows_wanted.iter().any(|row| row.has_key_twice() || row.depth() > 60);
            assert!(doubtful, "what was inferred ({schema}) is refused: {why}");
            return;
        }
    };
    let given = rows(&batches);
    assert_eq!(given.len(), rows_wanted.len(), "another number of rows");
    for (wanted, given) in rows_wanted.iter().zip(&given) {
        let Json::Object(fields) = wanted else { panic!("a row that is no object: {wanted:?}") };
        let fields: Vec<_> = fields.iter().map(|(key, value)| (key.clone(), Written::Json(value.clone()))).collect();
        assert!(row_keeps(&fields, given), "{wanted:?} became {given:?}");
    }
    json_as_text(text, piece, &schema, &rows_wanted);
}

/// The fields of rows, read as texts.
fn json_as_text(text: &[u8], piece: usize, schema: &SchemaRef, rows_wanted: &[Json]) {
    let fields = schema.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true));
    let texts = Schema::new(fields.collect::<Fields>()).into();
    let batches = fuzzing::json_as_text(text, piece, &texts).expect("what can be read can be read as texts");
    for (wanted, given) in rows_wanted.iter().zip(rows(&batches)) {
        let Json::Object(wanted) = wanted else { continue };
        for (name, given) in given {
            let wanted = wanted.iter().find(|(key, _)| *key == name).map_or(&Json::Null, |(_, value)| value);
            let is_same = match (wanted, &given) {
                (Json::Null, Value::Null) => true,
                (Json::Bool(wanted), Value::Text(given)) => wanted.to_string() == *given,
                (Json::Number(wanted) | Json::Text(wanted), Value::Text(given)) => wanted == given,
                (wanted, Value::Text(given)) => {
                    let row = json::rows(&format!("{{\"v\":{given}}}"));
                    row == Ok(vec![Json::Object(vec![("v".to_owned(), wanted.clone())])])
                }
                _ => false,
            };
            assert!(is_same, "{wanted:?} became the text {given:?}");
        }
    }
}

/// The types that texts are parsed as.
pub fn scalar_types() -> Vec<DataType> {
    vec![
        DataType::Utf8,
        DataType::Boolean,
        DataType::Int8,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(9, 2),
        DataType::Decimal128(38, 0),
        DataType::Decimal128(38, 10),
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
    ]
}

/// Texts as values of a declared type. The first byte selects the type.
///
/// # Panics
/// If the decoder is wrong.
pub fn text(data: &[u8]) {
    let Some(([choice], text)) = choices(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let types = scalar_types();
    let to = &types[usize::from(choice) % types.len()];
    let meaning = declared(&Written::Field { text: text.to_owned(), quoted: true }, &Field::new("x", to.clone(), true));
    match (fuzzing::parse(text, to), meaning) {
        (Some(array), meaning) => {
            let given = value(&array, 0);
            assert!(meaning.allows(&given), "{text:?} as {to} is {given:?}, not {meaning:?}");
        }
        (None, Meaning::Exactly(value)) => panic!("{text:?} as {to} is refused, not {value:?}"),
        (None, _) => {}
    }
}

/// Types as Hive writes them, and predicates on partition keys.
///
/// # Panics
/// If the parser is wrong.
pub fn hive(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = schema_of(&[("x", text)]);
    if let Ok(parsed) = text.parse::<HiveType>() {
        let printed = parsed.to_string();
        assert_eq!(printed.parse::<HiveType>().ok(), Some(parsed), "{text:?} is printed as {printed:?}");
    }
    let mut lines = text.lines();
    let (Some(of), Some(one), Some(other)) = (lines.next(), lines.next(), lines.next()) else { return };
    let Ok(of) = of.parse::<HiveType>() else { return };
    let table = TableDescription::new("d", "t", &TableFormat::Parquet, "memory:/t")
        .with_partition_keys([Column::new("k", &of)]);
    let equal = |literal: &str, stored: &str| {
        let bound = Predicate::all().and("k", Comparison::Eq, literal).bind(&table).ok()?;
        bound.matches(&[stored.to_owned()]).ok()
    };
    let found = equal(one, other);
    assert_eq!(found, equal(other, one), "{one:?} = {other:?} depends on the order");
    let exact =
        matches!(of, HiveType::TinyInt | HiveType::SmallInt | HiveType::Int | HiveType::BigInt | HiveType::Decimal(..));
    if let (Some(found), Some(one), Some(other), true) = (found, Exact::parse(one), Exact::parse(other), exact) {
        assert_eq!(found, one.equals(&other), "{one:?} = {other:?} as {of}");
    }
}

/// Folder names: their key, their type and their value.
///
/// # Panics
/// If the decoder is wrong.
pub fn folder(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let folders: Vec<&str> = text.lines().collect();
    let values: Vec<Option<String>> =
        folders.iter().filter_map(|folder| folder_partition(folder)).map(|(_, v)| v).collect();
    let of = partition_type(values.iter().filter_map(|value| value.as_deref()));
    let column = Field::new("k", of.clone(), true);
    for written in &values {
        let scalar = match partition_value(&column, written.as_deref()) {
            Ok(scalar) => scalar,
            Err(e) => panic!("{written:?} is no {of}, which was inferred: {e}"),
        };
        let array: ArrayRef = scalar.to_array().unwrap_or_else(|e| panic!("{e}"));
        let given = value(&array, 0);
        let written = written.clone().map_or(Written::Missing, Written::Folder);
        assert!(keeps(&written, &given), "{written:?} became {given:?}");
    }
}

/// Rules of data quality: what parses is printed as what parses to the same.
///
/// # Panics
/// If parser or printer are wrong.
pub fn dqdl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match hardtack_dqdl::parse(text) {
        Ok(set) => {
            let printed = set.to_string();
            match hardtack_dqdl::parse(&printed) {
                Ok(again) => assert_eq!(again, set, "{text:?} is printed as {printed:?}"),
                Err(e) => panic!("{text:?} is printed as {printed:?}: {e}"),
            }
        }
        Err(e) => assert!(e.line() > 0 && e.column() > 0 && !e.to_string().is_empty(), "{text:?}: {e}"),
    }
}
