//! Folders that are crawled, and their tables in SQL.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hardtack_catalog::{CatalogHandle, EmbeddedCatalog};
use hardtack_core::{Error, JobContext, Location};
use hardtack_fuzz::csv::{Rules, records};
use hardtack_fuzz::json::Json;
use hardtack_fuzz::meaning::{Written, row_keeps};
use hardtack_fuzz::value::Value;
use hardtack_tables::{CrawlOptions, CrawlReport, crawl, register_names};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::files::{FOLDER, File, put};
use crate::texts::{odd, text, theme};
use crate::trial::{Outcome, WrittenRow, is_refusal, same_rows, same_rows_by, try_cases, within_time};
use crate::{csv, json, typed};

/// The values of the partition columns of a file.
type Keys = Vec<(String, Option<String>)>;

/// Folders with values mostly of one kind, one per file.
fn folders() -> impl Strategy<Value = Vec<Keys>> {
    let key = (select(&["year", "day", "k", "Region", "a"][..]), theme());
    vec(key, 0..3).prop_flat_map(|mut keys| {
        let mut seen: Vec<&str> = Vec::new();
        keys.retain(|(name, _)| {
            let new = !seen.contains(name);
            seen.push(name);
            new
        });
        let value = |theme| prop_oneof![8 => text(theme).prop_map(Some), 1 => odd().prop_map(Some), 1 => Just(None)];
        let folder: Vec<_> = keys.iter().map(|(_, theme)| value(*theme)).collect();
        vec(folder, 3).prop_map(move |folders| {
            let named =
                |values: Vec<Option<String>>| keys.iter().map(|(name, _)| (*name).to_owned()).zip(values).collect();
            folders.into_iter().map(named).collect()
        })
    })
}

/// Escapes like Hive.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        c if c.is_alphanumeric() || "-_. ,;+~$@()!&|<>".contains(c) => c.to_string(),
        c => c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect(),
    };
    text.chars().map(escape).collect()
}

fn folder(keys: &Keys) -> String {
    let part = |(name, value): &(String, Option<String>)| {
        let value = value.as_deref().filter(|value| !value.is_empty()).map(escaped);
        format!("{name}={}/", value.unwrap_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_owned()))
    };
    keys.iter().map(part).collect()
}

/// Puts each file into a folder of its own.
fn in_folders(files: Vec<File>, folders: &[Keys]) -> Vec<(File, Keys)> {
    let placed = |(file, keys): (File, &Keys)| (File { path: folder(keys) + &file.path, ..file }, keys.clone());
    files.into_iter().zip(folders.iter().cycle()).map(placed).collect()
}

fn with_keys(row: WrittenRow, keys: &Keys) -> WrittenRow {
    // Hive has one name for an empty text and null.
    let value = |value: &Option<String>| value.clone().filter(|v| !v.is_empty() && v != "__HIVE_DEFAULT_PARTITION__");
    let of_folder = keys.iter().map(|(name, v)| (name.clone(), value(v).map_or(Written::Missing, Written::Folder)));
    // A column named like a key, but without a value, hides nothing.
    let is_key = |name: &str| keys.iter().any(|(key, _)| key.to_lowercase() == name.to_lowercase());
    let is_null = |value: &Written| match value {
        Written::Json(json) => json.is_hollow(),
        value => matches!(value, Written::Missing | Written::Typed(Value::Null)),
    };
    let of_file = row.into_iter().filter(|(name, value)| !(is_key(name) && is_null(value)));
    of_file.chain(of_folder).collect()
}

fn context() -> JobContext {
    let catalog = CatalogHandle::new(Arc::new(EmbeddedCatalog::in_memory()));
    let ctx = JobContext::builder("fuzz").threads(1).extension(Arc::new(catalog)).build().unwrap();
    register_names(&ctx).unwrap();
    ctx
}

/// The notes and problems of a report.
fn said(report: &CrawlReport) -> String {
    let problems = report.problems.iter().map(|problem| problem.message.clone());
    let notes = report.tables.iter().flat_map(|table| table.notes.clone());
    problems.chain(notes).collect::<Vec<_>>().join("\n")
}

async fn all_rows(ctx: &JobContext, report: &CrawlReport) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    for table in &report.tables {
        let (database, name) = table.name.split_once('.').unwrap();
        let rows = ctx.session().sql(&format!("select * from \"{database}\".\"{name}\"")).await?;
        batches.extend(rows.collect().await?);
    }
    Ok(batches)
}

/// The rows without the columns that the report mentions.
fn without(rows: &[WrittenRow], said: &str) -> Vec<WrittenRow> {
    let named = |name: &str| said.to_lowercase().contains(&format!("`{}`", name.to_lowercase()));
    rows.iter().map(|row| row.iter().filter(|(name, _)| !named(name)).cloned().collect()).collect()
}

/// Crawls, and compares all rows of all tables with what was written: as intended, or, if the report has notes, under a
/// plausible interpretation.
fn check(
    files: &[(File, Keys)],
    meant: &[Vec<WrittenRow>],
    taken: impl Fn() -> Vec<Vec<WrittenRow>>,
) -> Result<Outcome, String> {
    within_time(async {
        let ctx = context();
        put(&ctx, &files.iter().map(|(file, _)| file.clone()).collect::<Vec<_>>()).await;
        let report = match crawl(&ctx, &Location::from(FOLDER), "lake", &CrawlOptions::default()).await {
            Ok(report) => report,
            Err(e) => return Err(format!("crawl failed: {e:?}")),
        };
        let said = said(&report);
        if report.tables.is_empty() {
            return if report.problems.is_empty() {
                Err("no table and no problem".to_owned())
            } else {
                Ok(Outcome::Refused)
            };
        }
        let batches = match all_rows(&ctx, &report).await {
            Ok(batches) => batches,
            Err(e) if said.is_empty() => {
                return Err(format!("a query fails after a crawl without problems: {e:?}\n{report:?}"));
            }
            Err(e) => return is_refusal(&e).map(|()| Outcome::Refused),
        };
        let Err(why) = same_rows(&meant.concat(), &batches) else { return Ok(Outcome::Read) };
        if said.is_empty() {
            return Err(format!("{why}\n{report:?}"));
        }
        let mut others = taken();
        others.push(meant.concat());
        // A partition that does not fit is named, and does not block the others.
        let is_left_out = |file: &File| {
            let location = format!("{FOLDER}/{}", file.path);
            let places = report.problems.iter().map(|problem| problem.location.to_string()).filter(|at| at != FOLDER);
            places.into_iter().any(|at| location.starts_with(&format!("{at}/")))
        };
        let kept = files.iter().zip(meant).filter(|((file, _), _)| !is_left_out(file));
        others.push(kept.flat_map(|(_, rows)| rows.clone()).collect());
        let is = |rows: &Vec<WrittenRow>| same_rows_named(rows, &batches, &said);
        if others.iter().any(is) { Ok(Outcome::Refused) } else { Err(format!("{why}\n{report:?}")) }
    })?
}

/// Whether rows are the same except for the columns that the report mentions.
fn same_rows_named(rows: &[WrittenRow], batches: &[RecordBatch], said: &str) -> bool {
    let named = |name: &str| said.to_lowercase().contains(&format!("`{}`", name.to_lowercase()));
    let given: Vec<_> = hardtack_fuzz::targets::rows(batches)
        .into_iter()
        .map(|row| row.into_iter().filter(|(name, _)| !named(name)).collect::<Vec<_>>())
        .collect();
    let keeps = |written: &WrittenRow, given: &Vec<_>| row_keeps(written, given);
    same_rows_by(&without(rows, said), &given, keeps).is_ok()
}

/// All interpretations of CSV files: with each delimiter, with and without a header.
fn taken(files: &[(File, Keys)]) -> Vec<Vec<WrittenRow>> {
    let mut all = Vec::new();
    for delimiter in [',', ';', '\t', '|', '\u{1}'] {
        for header in [true, false] {
            let rows: Option<Vec<Vec<WrittenRow>>> =
                files.iter().map(|(file, keys)| rows_of(file, keys, delimiter, header)).collect();
            all.extend(rows.map(|rows| rows.concat()));
        }
    }
    all
}

fn rows_of(file: &File, keys: &Keys, delimiter: char, header: bool) -> Option<Vec<WrittenRow>> {
    let rows = if header {
        csv::naive(std::slice::from_ref(file), delimiter)?
    } else {
        let rules = Rules { delimiter, quote: Some('"'), escape: None };
        let records = records(std::str::from_utf8(&file.bytes).ok()?, rules).ok()?;
        let named = |(i, cell)| (format!("column_{}", i + 1), csv::written(cell));
        records.into_iter().map(|record| record.into_iter().enumerate().map(named).collect()).collect()
    };
    Some(rows.into_iter().map(|row| with_keys(row, keys)).collect())
}

/// The rows of each file in its folder.
fn rows_in(files: &[(File, Keys)], rows: impl Fn(&File) -> Option<Vec<WrittenRow>>) -> Option<Vec<Vec<WrittenRow>>> {
    let rows = files
        .iter()
        .map(|(file, keys)| Some(rows(file)?.into_iter().map(|row| with_keys(row, keys)).collect::<Vec<_>>()));
    rows.collect()
}

#[test]
fn csv_in_folders() {
    let cases = (csv::tables(), folders(), prop::bool::weighted(0.8));
    let cases = cases.prop_map(|((style, tables), folders, header)| {
        let file = |(i, table): (usize, &csv::Plain)| {
            let bytes = csv::write(style, header.then_some(&table.header[..]), &table.rows);
            File { path: format!("{i}.csv"), bytes }
        };
        (style.delimiter, header, in_folders(tables.iter().enumerate().map(file).collect(), &folders))
    });
    try_cases("CSV, crawled", 192, 30, cases, |(delimiter, header, files)| {
        // Empty files are ignored by everybody.
        let files: Vec<_> = files.iter().filter(|(file, _)| !file.bytes.is_empty()).cloned().collect();
        let rows =
            files.iter().map(|(file, keys)| rows_of(file, keys, *delimiter, *header)).collect::<Option<Vec<_>>>();
        let meant = rows.unwrap_or_else(|| vec![Vec::new(); files.len()]);
        if files.is_empty() {
            return Ok(Outcome::Refused);
        }
        check(&files, &meant, || taken(&files))
    });
}

#[test]
fn json_in_folders() {
    let cases = (json::sets(), folders()).prop_map(|(files, folders)| in_folders(files, &folders));
    try_cases("JSON, crawled", 128, 40, cases, |files| {
        let files: Vec<_> = files.iter().filter(|(file, _)| !file.bytes.is_empty()).cloned().collect();
        if files.is_empty() {
            return Ok(Outcome::Refused);
        }
        let rows = |file: &File| {
            let rows: Vec<Json> = json::naive(std::slice::from_ref(file))?;
            Some(rows.iter().map(json::fields_of).collect())
        };
        let meant = rows_in(&files, rows).ok_or("the generator writes what cannot be read")?;
        check(&files, &meant, Vec::new)
    });
}

fn typed_in_folders(kind: typed::Kind, tables: &[typed::Table], folders: &[Keys]) -> Result<Outcome, String> {
    let Some(files) = typed::files(kind, tables) else { return Ok(Outcome::Refused) };
    let files = in_folders(files, folders);
    let rows = tables.iter().zip(folders.iter().cycle());
    let rows = rows.map(|(table, keys)| {
        typed::written(std::slice::from_ref(table)).into_iter().map(|row| with_keys(row, keys)).collect::<Vec<_>>()
    });
    let meant: Vec<Vec<WrittenRow>> = rows.collect();
    check(&files, &meant, Vec::new)
}

#[test]
fn parquet_in_folders() {
    let cases = (typed::tables(typed::Kind::Parquet), folders());
    try_cases("Parquet, crawled", 128, 35, cases, |((_, tables), folders)| {
        typed_in_folders(typed::Kind::Parquet, tables, folders)
    });
}

#[test]
fn avro_in_folders() {
    let cases = (typed::tables(typed::Kind::Avro), folders());
    try_cases("Avro, crawled", 96, 35, cases, |((_, tables), folders)| {
        typed_in_folders(typed::Kind::Avro, tables, folders)
    });
}
