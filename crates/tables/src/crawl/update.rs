//! Updates of existing tables by a crawl.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::datatypes::{DataType, Field, Fields, Schema};
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_catalog::types::Policy;
use hardtack_catalog::{
    Catalog, CatalogExt, Column, HiveType, Partition, Predicate, SchemaEvolution, TableDescription, TableFormat,
};
use hardtack_core::staging::VERSIONS;
use hardtack_core::{Error, Location, Result};
use hardtack_sources::{CsvHints, FileFormat, FileKind, FolderCsv};
use object_store::path::Path;

use super::Crawl;
use super::describe::Statistics;
use super::report::{CrawledTable, RetypedColumn};
use super::tree::{DataSet, Part};
use crate::evolution::{self, same_name};
use crate::place::{base_of, is_same, is_visible, wanted_files};
use crate::publisher::repoint_undone;
use crate::selection;
use crate::steps::Counted;

/// How many folders are listed concurrently.
const CONCURRENCY: usize = 32;

/// The kind of a format's files, if a crawl supports it.
pub(super) fn kind_of(format: &TableFormat) -> Option<FileKind> {
    match format {
        TableFormat::Parquet => Some(FileKind::Parquet),
        TableFormat::Json => Some(FileKind::Json),
        TableFormat::Csv(_) => Some(FileKind::Csv),
        TableFormat::Avro => Some(FileKind::Avro),
        _ => None,
    }
}

/// Whether the files have the format that the table declares.
pub(super) fn is_of(declared: &TableFormat, set: &DataSet) -> bool {
    kind_of(declared) == Some(set.kind)
}

// --- columns -------------------------------------------------------------------------------------------------------

/// Gives the table the columns that were found, as far as it may change; returns those that were added and those that
/// became wider.
pub(super) fn evolve(
    table: &mut TableDescription,
    found: &Schema,
    format: &FileFormat,
) -> Result<(Vec<Column>, Vec<RetypedColumn>)> {
    let before: HashMap<String, String> =
        table.storage.columns.iter().map(|c| (c.name.clone(), c.data_type.clone())).collect();
    // A type inferred from texts is as wide as possible; the declared type says more.
    let how = if is_text(format) { SchemaEvolution::AddColumns } else { SchemaEvolution::WidenTypes };
    let (mut added, mut widened) = (Vec::new(), Vec::new());
    for column in evolution::evolve(table, found, how)? {
        match before.get(&column.name) {
            None => added.push(column),
            Some(from) => {
                widened.push(RetypedColumn { name: column.name, from: from.clone(), to: column.data_type });
            }
        }
    }
    Ok((added, widened))
}

/// Gives these columns the types that were found, whatever they were; returns those that changed.
pub(super) fn retype(table: &mut TableDescription, found: &Schema, columns: &[&str]) -> Result<Vec<RetypedColumn>> {
    let mut changed = Vec::new();
    for field in found.fields().iter().filter(|field| columns.contains(&field.name().as_str())) {
        let to = HiveType::of(field)?.to_string();
        let is_it = |column: &&mut Column| same_name(&column.name, field.name()) && column.data_type != to;
        if let Some(column) = table.storage.columns.iter_mut().find(is_it) {
            let from = std::mem::replace(&mut column.data_type, to.clone());
            changed.push(RetypedColumn { name: column.name.clone(), from, to });
        }
    }
    Ok(changed)
}

/// Gives columns these types, where the change is permitted.
pub(super) fn retype_as(table: &mut TableDescription, wanted: &[Column], may: impl Fn(&Column) -> bool) {
    for wanted in wanted {
        let is_it = |column: &&mut Column| same_name(&column.name, &wanted.name) && may(column);
        if let Some(column) = table.storage.columns.iter_mut().find(is_it) {
            column.data_type.clone_from(&wanted.data_type);
        }
    }
}

/// Whether a table's dialect agrees with these hints, as far as they are given.
pub(super) fn is_written_like(csv: &FolderCsv, hints: &CsvHints) -> bool {
    let has_header = csv.header_lines > csv.skip_lines;
    hints.delimiter.is_none_or(|delimiter| delimiter == csv.delimiter)
        && hints.quote.is_none_or(|quote| quote == csv.quote)
        && hints.escape.is_none_or(|escape| Some(escape) == csv.escape)
        && hints.comment.is_none_or(|comment| Some(comment) == csv.comment)
        && hints.skip_lines.is_none_or(|lines| lines == csv.skip_lines)
        && hints.header.is_none_or(|header| header == has_header)
}

fn is_text(format: &FileFormat) -> bool {
    matches!(format, FileFormat::Json | FileFormat::Csv(_))
}

/// The columns of CSV files under the table's names: they are read by position, so a header may use other names.
pub(super) fn by_place(table: &TableDescription, found: Schema) -> Schema {
    let declared = &table.storage.columns;
    let is_found = |name: &str| found.fields().iter().any(|f| same_name(f.name(), name));
    let is_declared = |name: &str| declared.iter().any(|c| same_name(&c.name, name));
    let renamed = found.fields().iter().enumerate().map(|(i, field)| match declared.get(i) {
        Some(column) if !is_declared(field.name()) && !is_found(&column.name) => {
            Field::new(column.name.clone(), field.data_type().clone(), field.is_nullable())
        }
        _ => field.as_ref().clone(),
    });
    Schema::new(renamed.collect::<Fields>())
}

/// Notes on columns that are not declared as texts but whose files have texts, by inference. Whether they can be
/// converted only shows when they are read. In JSON, inference never takes a text for a date.
pub(super) fn texts(table: &TableDescription, found: &Schema, format: &FileFormat) -> Vec<String> {
    let of_column = |column: &Column| {
        let is_text = found.fields().iter().any(|f| same_name(f.name(), &column.name) && f.data_type().is_string());
        let declared = column.hive_type().ok().map(|of| DataType::from(&of))?;
        let is_told = match format {
            FileFormat::Csv(_) => !declared.is_string() && !declared.is_binary(),
            _ => declared.is_numeric() || declared == DataType::Boolean,
        };
        (is_text && is_told).then(|| {
            let (name, of) = (&column.name, &column.data_type);
            format!(
                "`{name}` is declared {of}, but the files have texts: values of another type are refused when they are read; `--type \
                 {name}=string` accepts all"
            )
        })
    };
    table.storage.columns.iter().filter(|_| is_text(format)).filter_map(of_column).collect()
}

/// The columns whose files have values that the table's type cannot hold.
pub(super) fn misfits(table: &TableDescription, found: &Schema, format: &FileFormat) -> Vec<String> {
    let mut misfits = Vec::new();
    for field in found.fields() {
        let declared = table.storage.columns.iter().find(|column| same_name(&column.name, field.name()));
        let (Some(column), Ok(found)) = (declared, HiveType::of(field)) else { continue };
        let fits = column.hive_type().is_ok_and(|declared| fits(&declared, &found, is_text(format)));
        if !fits {
            let (name, declared) = (&column.name, &column.data_type);
            misfits.push(format!("the column `{name}` is declared {declared}, but the files hold {found}"));
        }
    }
    misfits
}

/// Whether the values that were found can be read as declared, as far as types tell.
fn fits(declared: &HiveType, found: &HiveType, text: bool) -> bool {
    use HiveType as H;
    let nested = |t: &H| matches!(t, H::Struct(_) | H::Array(_) | H::Map(..));
    match (declared, found) {
        (H::Struct(declared), H::Struct(found)) => declared.iter().all(|d| {
            let found = found.iter().find(|f| same_name(&f.name, &d.name));
            found.is_none_or(|f| fits(&d.data_type, &f.data_type, text))
        }),
        (H::Array(declared), H::Array(found)) => fits(declared, found, text),
        (H::Map(k, v), H::Map(l, w)) => fits(k, l, text) && fits(v, w, text),
        // Objects of JSON may be declared as maps.
        (H::Map(_, value), H::Struct(found)) => text && found.iter().all(|f| fits(value, &f.data_type, text)),
        (a, b) if nested(a) || nested(b) => false,
        (declared, found) if declared == found => true,
        // The texts decide, when they are read: a text may be a decimal or a date.
        (_, H::String) if text => true,
        (H::Date | H::Timestamp | H::TimestampLocalTz | H::Binary | H::Decimal(..), _) if text => true,
        (declared, found) => {
            let (found, to) = (DataType::from(found), DataType::from(declared));
            let fits = if text { Policy::Read.fit(&found, &to) } else { Policy::Infer.fit(&found, &to) };
            // Everything can be read as text, and numbers are checked when they are read: a double takes those that it
            // holds, a varchar takes short integers.
            fits.is_some()
                || to.is_string()
                || to.is_floating() && found.is_numeric()
                || text && to.is_integer() && found.is_integer()
        }
    }
}

// --- partitions ----------------------------------------------------------------------------------------------------

/// The partitions of a table, compared with the folders that were found.
#[derive(Debug, Default)]
pub(super) struct Compared<'a> {
    /// Unregistered folders.
    pub(super) new: Vec<(Vec<String>, &'a Part)>,
    /// Registered folders, with their partitions.
    pub(super) there: Vec<(Partition, &'a Part)>,
    /// Partitions below the table's folder without files.
    pub(super) missing: Vec<Partition>,
    /// The number of partitions elsewhere, for example in a version that a run has written.
    pub(super) elsewhere: usize,
    /// Folders whose values do not have the keys' types.
    pub(super) unfit: Vec<String>,
    /// Notes on new folders whose values are not in the notation of the keys' types.
    pub(super) notes: Vec<String>,
}

impl<'a> Compared<'a> {
    /// Spares partitions in folders that could not be listed completely.
    pub(super) fn spare(&mut self, is_blind_to: impl Fn(&Path) -> bool) {
        let folder = |p: &Partition| p.storage.location.as_ref().and_then(|l| l.resolve().ok()).map(|r| r.path);
        let before = self.missing.len();
        self.missing.retain(|partition| !folder(partition).is_some_and(|folder| is_blind_to(&folder)));
        self.elsewhere += before - self.missing.len();
    }

    /// Registered folders come first: new ones have to fit them.
    pub(super) fn folders(&self) -> impl Iterator<Item = &'a Part> {
        self.there.iter().map(|(_, part)| *part).chain(self.new.iter().map(|(_, part)| *part))
    }

    /// Leaves out folders: new ones are not registered, registered ones stay unchanged.
    pub(super) fn leave_out(&mut self, is_unfit: impl Fn(&Part) -> bool) {
        self.new.retain(|(_, part)| !is_unfit(part));
        let before = self.there.len();
        self.there.retain(|(_, part)| !is_unfit(part));
        self.elsewhere += before - self.there.len();
    }
}

/// Compares the folders that were found with the registered partitions.
pub(super) fn compare<'a>(
    table: &TableDescription,
    base: &Location,
    registered: Vec<Partition>,
    parts: &'a BTreeMap<Vec<String>, Part>,
) -> Result<Compared<'a>> {
    let mut compared = Compared::default();
    let base = base.resolve()?;
    let mut filled: BTreeSet<Path> = BTreeSet::new();
    for file in parts.values().flat_map(|part| &part.files) {
        let mut folder: Vec<_> = file.location.parts().collect();
        while folder.pop().is_some() && filled.insert(folder.iter().cloned().collect()) {}
    }
    let mut seen = BTreeSet::new();
    for mut partition in registered {
        seen.insert(partition.values.clone());
        let default = base_location(table, &partition)?;
        let at = partition.storage.location.get_or_insert(default).resolve()?;
        let ours = at.store == base.store && is_visible(&at.path, &base.path);
        match parts.get(&partition.values) {
            Some(part) if is_same(&part.location, partition.storage.location.as_ref().unwrap_or(&part.location)) => {
                compared.there.push((partition, part));
            }
            // It was elsewhere before, and is here now.
            Some(part) if ours && !filled.contains(&at.path) => compared.there.push((partition, part)),
            None if ours && !filled.contains(&at.path) => compared.missing.push(partition),
            _ => compared.elsewhere += 1,
        }
    }
    for (values, part) in parts.iter().filter(|(values, _)| !seen.contains(*values)) {
        match table.check_values(values) {
            Ok(()) => compared.new.push((values.clone(), part)),
            Err(e) => {
                compared.unfit.push(format!("{} is not a partition of the table: {}", part.location, e.message()))
            }
        }
    }
    let keys = table.partition_keys.iter().enumerate();
    compared.notes = keys.filter_map(|(at, key)| rewritten(table, key, at, &compared.new)).collect();
    Ok(compared)
}

/// The note on an integer key, if a new folder's notation differs from a query's: `01` is 1.
fn rewritten(table: &TableDescription, key: &Column, at: usize, new: &[(Vec<String>, &Part)]) -> Option<String> {
    key.hive_type().ok().filter(|of| DataType::from(of).is_integer())?;
    let (value, read) = new.iter().find_map(|(values, _)| {
        let read = values[at].parse::<i64>().ok()?.to_string();
        (read != values[at]).then_some((&values[at], read))
    })?;
    let (name, of, table) = (&key.name, &key.data_type, table.qualified_name());
    Some(format!(
        "a folder has `{value}` for the key `{name}`, which is declared {of}: queries see {read}; to keep the notation, drop the table (`hardtack drop {table}`) and crawl, which makes the key a string"
    ))
}

fn base_location(table: &TableDescription, partition: &Partition) -> Result<Location> {
    Ok(table.location()?.join(table.partition_name(&partition.values)))
}

/// A registered partition with the table's columns and these statistics; unchanged if it already has them.
pub(super) fn refreshed(
    table: &TableDescription,
    partition: &Partition,
    part: &Part,
    statistics: Option<Statistics>,
) -> Option<Partition> {
    let mut fresh = partition.clone();
    let columns = &table.storage.columns;
    // CSV columns are read by position, and the positions may have been different.
    let by_place = matches!(TableFormat::of(&partition.storage, &table.parameters), Ok(TableFormat::Csv(_)) | Err(_));
    if !by_place || columns.starts_with(&partition.storage.columns) {
        fresh.storage.columns.clone_from(columns);
    }
    let moved = fresh.storage.location.as_ref().is_some_and(|location| !is_same(location, &part.location));
    if moved {
        fresh.storage.location = Some(part.location.clone());
    }
    let counted = statistics.is_some_and(|statistics| statistics.write(&mut fresh.parameters));
    (counted || moved || fresh.storage.columns != partition.storage.columns).then_some(fresh)
}

/// Replaces partitions that have not changed since they were read. A run that points one elsewhere meanwhile wins.
pub(super) async fn update(
    crawl: &Crawl<'_>,
    table: &TableDescription,
    changes: &[(Partition, Partition)],
) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let values: Vec<Vec<String>> = changes.iter().map(|(before, _)| before.values.clone()).collect();
    let now = crawl.catalog.get_partitions(table, &values).await?;
    let now: HashMap<&[String], &Partition> = now.iter().map(|p| (p.values.as_slice(), p)).collect();
    let same = |a: &Partition, b: &Partition| match (&a.storage.location, &b.storage.location) {
        (Some(a), Some(b)) => is_same(a, b),
        (None, _) => true,
        _ => false,
    };
    let still = |(before, after): &(Partition, Partition)| {
        let unchanged = now.get(before.values.as_slice()).is_some_and(|now| same(now, before));
        unchanged.then(|| after.clone())
    };
    let wanted: Vec<Partition> = changes.iter().filter_map(still).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    crawl.catalog.update_partitions(table, &wanted).await?;
    repoint_undone(crawl.catalog, crawl.ctx.stores(), &base_of(table)?, table, &wanted, None).await?;
    Ok(())
}

/// Drops partitions that still have no files, since files may have appeared meanwhile; returns those that were dropped.
pub(super) async fn drop_missing(
    crawl: &Crawl<'_>,
    table: &TableDescription,
    missing: &[Partition],
) -> Result<Vec<Partition>> {
    let wanted = &selection::file_filter(table)?;
    let empty = stream::iter(missing.to_vec()).map(|partition| async move {
        let Some(location) = &partition.storage.location else { return Ok::<_, Error>(None) };
        let files = wanted_files(crawl.ctx.stores(), location, wanted).await?;
        Ok(files.iter().all(|meta| meta.size == 0).then_some(partition))
    });
    let empty: Vec<Partition> =
        empty.buffered(CONCURRENCY).try_filter_map(|found| async { Ok(found) }).try_collect().await?;
    let values: Vec<Vec<String>> = empty.iter().map(|p| p.values.clone()).collect();
    let now = crawl.catalog.get_partitions(table, &values).await?;
    let still = |p: &&Partition| {
        let now = now.iter().find(|n| n.values == p.values).and_then(|n| n.storage.location.as_ref());
        now.is_none_or(|now| p.storage.location.as_ref().is_some_and(|then| is_same(now, then)))
    };
    let gone: Vec<Partition> = empty.iter().filter(still).cloned().collect();
    let values: Vec<Vec<String>> = gone.iter().map(|p| p.values.clone()).collect();
    if !values.is_empty() {
        crawl.catalog.drop_partitions(table, &values).await?;
    }
    Ok(gone)
}

/// All partitions of a table.
pub(super) async fn registered(catalog: &dyn Catalog, table: &TableDescription) -> Result<Vec<Partition>> {
    if table.partition_keys.is_empty() {
        Ok(Vec::new())
    } else {
        catalog.all_partitions(table, &Predicate::all()).await
    }
}

/// Whether the table as a whole is in a version that a run has written.
pub(super) fn is_version(table: &TableDescription) -> Result<bool> {
    Ok(base_of(table)?.join(VERSIONS).contains(table.location()?))
}

/// The names of partitions.
pub(super) fn names<'p>(table: &TableDescription, values: impl IntoIterator<Item = &'p Vec<String>>) -> Vec<String> {
    let mut names: Vec<String> = values.into_iter().map(|values| table.partition_name(values)).collect();
    names.sort();
    names
}

/// Ignores counts that belong to the jobs that save to the table.
pub(super) fn forget_counts(table: &mut TableDescription, report: &CrawledTable) -> bool {
    let partitions = &report.partitions;
    let moved = !(partitions.added.is_empty() && partitions.dropped.is_empty());
    let known = Counted::of(&table.parameters).is_some();
    if moved && known {
        Counted::forget(&mut table.parameters);
    }
    moved && known
}
