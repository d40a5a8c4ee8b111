//! Crawling: finds data sets in files and registers them as tables.

mod alike;
mod describe;
mod naming;
mod report;
mod search;
mod tree;
mod update;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields, Schema};
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_catalog::{Catalog, CatalogExt, CatalogOf, Column, Database, HiveType, Partition, TableDescription};
use hardtack_core::staging::VERSIONS;
use hardtack_core::{Error, ErrorKind, JobContext, Location, Result, Store, nearest};
use hardtack_sources::{CsvHints, FileFormat, FileKind, Globs, InspectOptions, Inspected, folder_partition, inspect};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::evolution::{self, same_name};
use crate::format::{NANOSECONDS, TRUNCATE, file_format};
use crate::place::base_of;
use crate::publisher::amend;
use crate::selection::{self, EXCLUDE, FILES, PLAIN_KEYS, TYPES};
use crate::steps::has_runs;
use alike::{Signature, is_value};
use describe::Statistics;
use search::{KnownFolder, KnownFolders, KnownTable, LayoutOptions, Samples, Search};
use tree::{DataSet, Listed, Owner, Part};
use update::Compared;

pub use report::{CrawlOutcome, CrawlProblem, CrawlReport, CrawledPartitions, CrawledTable, RetypedColumn};

/// Options of [`crawl`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrawlOptions {
    /// The prefix of the names of new tables.
    pub table_prefix: String,
    /// Drop partitions whose files are all gone, instead of only naming them.
    pub delete_missing: bool,
    /// Only report what would change.
    pub dry_run: bool,
    /// What is known about the dialect of the CSV files of new tables; the rest is detected. Existing tables have their
    /// dialect.
    pub csv: CsvHints,
    /// How many bytes of each CSV or JSON file are examined (decompressed; all by default). A value after them may have
    /// another type, and is then refused when it is read.
    pub sample_bytes: Option<u64>,
    /// The names of the partition keys of new tables whose folders are bare values (`2023/11/` and not
    /// `year=2023/month=11/`), from the outermost: `year`, `month`. Keys without a name are called `partition_0`,
    /// `partition_1` ...
    pub partition_names: Vec<String>,
    /// The level of new tables: 1 is the crawled folder, 2 the folders in it. Every folder at this level is a table,
    /// and the folders below are its partitions. If none is given, it is detected.
    pub table_level: Option<usize>,
    /// Patterns of files and folders to leave out, as paths below the crawled folder: `**/*.tmp`.
    pub exclude: Vec<String>,
    /// How to declare timestamps that files store in nanoseconds; a table's `timestamp` has microseconds.
    pub nanoseconds: Nanoseconds,
    /// The types of columns by name, which are then not inferred: for example where the types of files have nothing in
    /// common. They apply to new and existing tables, and later crawls keep them. A value that does not fit its type is
    /// refused when it is read.
    pub types: BTreeMap<String, HiveType>,
}

/// How a [`crawl`] declares timestamps in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Nanoseconds {
    /// The column is a `timestamp`, and values finer than microseconds are refused when they are read. The report names
    /// the columns that may have some.
    #[default]
    Exact,
    /// The column is a `string`, so nothing is lost; an existing `timestamp` column is changed.
    Text,
    /// The column is a `timestamp`, and values are rounded down to microseconds when they are read, because a parameter
    /// of the table says so.
    Truncate,
}

/// Finds the data sets below a location and registers them as tables of a database, or updates existing tables, like a
/// crawler of AWS Glue. A second crawl changes nothing.
///
/// # What is a table
/// A folder with data files, or with folders that are partitions; `location` itself may be one. It has all files below
/// it, except those that are hidden (by a leading `_` or `.`), empty, or [left out](CrawlOptions::exclude). They have
/// one format: Parquet, JSON, CSV or Avro, by their suffixes, or by their first bytes if they have none. Folders with
/// several formats are [problems](CrawlReport::problems) and left alone, and so are tables of Delta Lake, Hudi and
/// Iceberg.
///
/// Partitions are folders `key=value`; folders named by numbers or dates, with files that have similar columns; and
/// folders named by words, if seven in ten of their columns are the same. Files directly in one folder that share few
/// columns are tables of their own, each with the patterns of its files. Existing tables keep their keys and files. The
/// [notes](CrawledTable::notes) of a new table say why it is one.
///
/// If the catalog has a table with this folder as its location, that is *the* table, whatever its name. Otherwise a
/// table is created, named after the folder in lower case, digits and `_`. A table of that name with another folder is
/// a problem, and never touched; if two new folders have the same name, the second is prefixed with the name of its
/// parent.
///
/// # Columns
/// A table has the columns of all its files, with types that hold the values of all: for Parquet and Avro the footers
/// and headers are read, for CSV and JSON every value, or a [sample](CrawlOptions::sample_bytes). Types that have
/// nothing in common are a problem that names the column and both files. Types are limited to those that Athena can
/// read: timestamps in CSV are texts, and so are columns of quoted CSV files with dates or empty fields. Partition keys
/// are `int`, `bigint`, `date` or `string`. Names that differ only in case are one column. Columns named like a
/// partition key are left out, because the folder has the same value; where it has not, that is a problem that names a
/// value and its file.
///
/// The dialect of CSV files is detected, except for the parts that are [given](CrawlOptions::csv). Where there was a
/// choice, a [note](CrawledTable::notes) says what was chosen; a file that cannot be read is a problem that names the
/// option to use. The dialect is stored in the table's description.
///
/// An existing table only gets more columns, and for Parquet and Avro wider types by the rules of
/// [`SchemaEvolution::WidenTypes`](crate::SchemaEvolution::WidenTypes); types declared for texts stay. Comments,
/// parameters and SerDe stay.
///
/// # Partitions
/// New ones are added. Those without files are named, and dropped [on request](CrawlOptions::delete_missing). Those
/// that point elsewhere (for example into a version that a job has written with `overwrite_partitions`) are left alone.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a location that is a file or a folder within a table; also errors of
/// the catalog and the stores. An error in one table is a problem of the report, and the other tables proceed.
pub async fn crawl(
    ctx: &JobContext,
    location: &Location,
    database: &str,
    options: &CrawlOptions,
) -> Result<CrawlReport> {
    let catalog = ctx.catalog().await?;
    let database = Database::new(database).checked()?.name;
    let (store, root) = ctx.stores().open(location)?;
    let (tables, has_database) = match catalog.list_tables(&database).await {
        Ok(tables) => (tables, true),
        Err(e) if e.kind() == ErrorKind::NotFound => (Vec::new(), false),
        Err(e) => return Err(e),
    };
    let known = Known::of(&tables, &store);
    known.check(location, &root)?;
    if !location.resolve()?.folder && !root.as_ref().is_empty() && ctx.stores().exists(location).await? {
        return Err(Error::usage("this is a file, and tables are folders; crawl the folder that it is in")
            .with("location", location));
    }
    let exclude = Globs::parse(&options.exclude)?;
    check_names(&options.partition_names)?;
    if options.table_level == Some(0) {
        return Err(Error::usage(
            "there is no --table-level 0; 1 is the folder that is crawled, 2 are the folders in it",
        ));
    }
    let layout = LayoutOptions {
        partition_names: &options.partition_names,
        table_level: options.table_level,
        exclude: &exclude,
    };
    let mut listed = Listed::list(&store, &root, &exclude).await?;
    let problems = std::mem::take(&mut listed.problems);
    let mut crawl = Crawl {
        ctx,
        catalog: catalog.as_ref(),
        store: &store,
        database,
        options,
        has_database,
        registered: HashMap::new(),
        listed: &listed,
        columns: BTreeSet::new(),
        left_out: false,
        report: CrawlReport { tables: Vec::new(), problems },
    };
    let folders = crawl.known(&root, &known).await?;
    let mut search = Search::new(&listed, &folders, layout);
    let looks = crawl.look(search.undecided()).await?;
    search.decide(looks);
    let (sets, mut problems) = (search.found, search.problems);
    for problem in &mut problems {
        problem.table = problem.table.take().map(|table| format!("{}.{table}", crawl.database));
    }
    crawl.report.problems.extend(problems);
    let has_versions = crawl.has_versions(&root, &known);
    crawl.all(&root, &known, sets).await?;
    crawl.check_types(location);
    let mut report = crawl.report;
    report.tables.sort_by(|a, b| (&a.location, &a.name).cmp(&(&b.location, &b.name)));
    report.problems.sort_by(|a, b| (&a.location, &a.message).cmp(&(&b.location, &b.message)));
    if report.tables.is_empty() && report.problems.is_empty() && !has_versions {
        let message = "no file here is Parquet, JSON, CSV or Avro".to_owned();
        report.problems.push(CrawlProblem { location: location.clone(), table: None, message });
    }
    Ok(report)
}

/// The tables of the database in the crawled store, by their folders.
struct Known<'a> {
    by_folder: BTreeMap<Path, Vec<&'a TableDescription>>,
    names: BTreeSet<String>,
}

impl<'a> Known<'a> {
    fn of(tables: &'a [TableDescription], store: &Store) -> Self {
        let mut by_folder: BTreeMap<Path, Vec<&TableDescription>> = BTreeMap::new();
        for table in tables {
            // Views have no folder, and some stores may not be configured here.
            let Some(base) = base_of(table).ok().and_then(|base| base.resolve().ok()) else { continue };
            if base.store == store.url {
                by_folder.entry(base.path).or_default().push(table);
            }
        }
        Self { by_folder, names: tables.iter().map(|table| table.name.clone()).collect() }
    }

    /// Partitions must not become tables.
    fn check(&self, location: &Location, root: &Path) -> Result<()> {
        let inside = |folder: &Path| folder != root && root.prefix_matches(folder);
        // A table of some files of a folder has no subfolders.
        let whole = |tables: &[&TableDescription]| tables.iter().any(|table| !selection::is_part(table));
        let mut above = self.by_folder.iter().filter(|(folder, tables)| inside(folder) && whole(tables));
        if self.by_folder.contains_key(root) {
            return Ok(());
        }
        if let Some((folder, tables)) = above.next() {
            let name = tables.first().map(|table| table.qualified_name()).unwrap_or_default();
            return Err(Error::usage(format!("this folder is inside the table `{name}`; crawl the table's folder"))
                .with("location", location)
                .with("folder of the table", folder));
        }
        let is_partition = |part: &str| folder_partition(part).is_some();
        match root.parts().find(|part| is_partition(part.as_ref())) {
            Some(part) => {
                let why = format!("`{}` is a partition of a table; crawl the folder above", part.as_ref());
                Err(Error::usage(why).with("location", location))
            }
            None => Ok(()),
        }
    }
}

/// Checks that the names of partition keys are valid and distinct column names.
fn check_names(names: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !legal || !seen.insert(name.to_lowercase()) {
            let why = if legal { "occurs twice" } else { "is not a valid name for a partition key" };
            let wanted = "expected names of letters, digits and `_`, such as `year,month,day`";
            return Err(Error::usage(format!("`{name}` {why}; {wanted}")).with("argument", "--partition-names"));
        }
    }
    Ok(())
}

pub(super) struct Crawl<'a> {
    pub(super) ctx: &'a JobContext,
    pub(super) catalog: &'a dyn Catalog,
    store: &'a Store,
    database: String,
    options: &'a CrawlOptions,
    has_database: bool,
    /// The partitions of tables, as far as requested.
    registered: HashMap<String, Vec<Partition>>,
    listed: &'a Listed<'a>,
    /// The names of the columns that tables have.
    columns: BTreeSet<String>,
    /// Whether there is a table whose files could not be examined.
    left_out: bool,
    report: CrawlReport,
}

/// How much of a file is read to decide whether it belongs to others.
const HEAD_BYTES: u64 = 64 << 10;
/// How many files are examined concurrently.
const CONCURRENCY: usize = 16;

impl Crawl<'_> {
    // --- existing tables and samples -------------------------------------------------------------------------------

    /// The catalog's tables whose folders are below the crawled one.
    async fn known(&mut self, root: &Path, known: &Known<'_>) -> Result<KnownFolders> {
        let mut folders = KnownFolders::new();
        for (folder, tables) in known.by_folder.iter().filter(|(folder, _)| folder.prefix_matches(root)) {
            let (some, whole): (Vec<&TableDescription>, Vec<&TableDescription>) =
                tables.iter().partition(|table| selection::is_part(table));
            let mut found = KnownFolder::default();
            for table in some {
                found.some.push(self.known_table(table).await?);
            }
            if let Some(table) = self.chosen(folder, &whole) {
                found.whole = Some(self.known_table(table).await?);
            }
            folders.insert(folder.clone(), found);
        }
        Ok(folders)
    }

    /// Whether a job has rebuilt a table here: then its files are where no crawl looks, which is as it should be.
    fn has_versions(&self, root: &Path, known: &Known<'_>) -> bool {
        let is_version = |base: &Location, location: Option<&Location>| {
            location.is_some_and(|location| base.join(VERSIONS).contains(location))
        };
        let tables = known.by_folder.iter().filter(|(folder, _)| folder.prefix_matches(root)).flat_map(|(_, t)| t);
        tables.into_iter().any(|table| {
            let Ok(base) = base_of(table) else { return false };
            let mut partitions = self.registered.get(&table.name).into_iter().flatten();
            is_version(&base, table.storage.location.as_ref())
                || partitions.any(|partition| is_version(&base, partition.storage.location.as_ref()))
        })
    }

    async fn known_table(&mut self, table: &TableDescription) -> Result<KnownTable> {
        let plain = selection::listed(table, PLAIN_KEYS)?;
        let keys: Vec<String> = table.partition_keys.iter().map(|key| key.name.to_lowercase()).collect();
        let registered = match keys.is_empty() || table.format().is_err() {
            true => Vec::new(),
            false => update::registered(self.catalog, table).await?,
        };
        // The folders of partitions, as far as they are below the table's folder.
        let base = base_of(table)?.resolve()?.path;
        let folders = registered.iter().filter_map(|partition| {
            let at = partition.storage.location.as_ref()?.resolve().ok()?.path;
            let inside: Vec<String> = at.prefix_match(&base)?.map(|part| part.as_ref().to_owned()).collect();
            (inside.len() == keys.len() && !inside.iter().any(|name| crate::place::is_hidden(name)))
                .then_some((inside, partition))
        });
        let folders: Vec<(Vec<String>, &Partition)> = folders.collect();
        let is_plain = |i: usize| {
            let called = keys[i].strip_prefix("partition_").is_some_and(|n| n.parse::<u8>().is_ok());
            let is_value = |(inside, partition): &(Vec<String>, &Partition)| inside[i] == partition.values[i];
            called || plain.contains(&keys[i]) || folders.iter().any(is_value)
        };
        let has_values = |i: usize| {
            let mut names =
                folders.iter().map(|(inside, _)| &inside[i]).filter(|name| folder_partition(name).is_none()).peekable();
            names.peek().is_some() && names.all(|name| is_value(name))
        };
        let kind = table.format().ok().and_then(|format| update::kind_of(&format));
        let known = KnownTable {
            name: table.name.clone(),
            kind,
            plain: (0..keys.len()).map(is_plain).collect(),
            valued: (0..keys.len()).map(has_values).collect(),
            first: registered.iter().filter_map(|partition| partition.values.first().cloned()).collect(),
            columns: Signature::of(table.storage.columns.iter().map(|column| column.name.to_lowercase())),
            only: selection::listed(table, FILES)?,
            except: selection::listed(table, EXCLUDE)?,
            wanted: selection::file_filter(table)?,
            keys,
        };
        if !known.keys.is_empty() {
            self.registered.insert(table.name.clone(), registered);
        }
        Ok(known)
    }

    /// The registered partitions of a table.
    async fn registered(&mut self, table: &TableDescription) -> Result<Vec<Partition>> {
        match self.registered.remove(&table.name) {
            Some(partitions) => Ok(partitions),
            None => update::registered(self.catalog, table).await,
        }
    }

    /// The columns of files, from their beginnings. A file that cannot be read is reported when it is read as a whole.
    ///
    /// A file that lacks the others' header, or has another delimiter, belongs to them and is a problem. So what is
    /// evident from a file counts here, whatever the options say about all files.
    async fn look(&self, files: Vec<(&ObjectMeta, FileKind)>) -> Result<Samples> {
        let sample = self.options.sample_bytes.map_or(HEAD_BYTES, |bytes| bytes.min(HEAD_BYTES));
        let look_as = async |file: &ObjectMeta, kind: FileKind, csv_hints: CsvHints| {
            let options =
                InspectOptions { csv_hints, sample_bytes: Some(sample), concurrency: 1, ..InspectOptions::default() };
            inspect(self.store, std::slice::from_ref(file), kind, &options).await
        };
        let (said, look_as) = (self.options.csv, &look_as);
        let look = |(file, kind): (&ObjectMeta, FileKind)| {
            let file = file.clone();
            async move {
                let evident = CsvHints { header: None, ..said };
                let mut found = look_as(&file, kind, evident).await;
                if said.delimiter.is_some() && found.as_ref().is_ok_and(|found| found.schema.fields().len() == 1) {
                    found = look_as(&file, kind, CsvHints { delimiter: None, ..evident }).await;
                }
                // There is a note if there was a choice.
                if said.header.is_some() && found.as_ref().is_ok_and(|found| !found.notes.is_empty()) {
                    found = look_as(&file, kind, said).await;
                }
                match found {
                    Ok(found) => Ok(Some((file.location, signature(&found)))),
                    Err(e) if is_of_one(&e) => Ok(None),
                    Err(e) => Err(e),
                }
            }
        };
        stream::iter(files)
            .map(look)
            .buffer_unordered(CONCURRENCY)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    async fn all(&mut self, root: &Path, known: &Known<'_>, sets: Vec<DataSet>) -> Result<()> {
        let below = known.by_folder.iter().filter(|(folder, _)| folder.prefix_matches(root));
        let mut rest: BTreeMap<&str, (&Path, &TableDescription)> =
            below.flat_map(|(folder, tables)| tables.iter().map(move |t| (t.name.as_str(), (folder, *t)))).collect();
        for problem in &self.report.problems {
            let Ok(at) = problem.location.resolve() else { continue };
            rest.retain(|_, (folder, table)| {
                let is_of = problem.table.as_ref().is_none_or(|name| *name == table.qualified_name());
                **folder != at.path || !is_of
            });
        }
        let (mut new, mut taken) = (Vec::new(), BTreeSet::new());
        for set in sets {
            let tables = known.by_folder.get(&set.path).map(Vec::as_slice).unwrap_or_default();
            let table = match &set.owner {
                Owner::New => None,
                Owner::Folder => self.choose(&set, tables),
                Owner::Table(name) => tables.iter().copied().find(|table| table.name == *name),
            };
            let Some(table) = table else {
                new.push(set);
                continue;
            };
            rest.remove(table.name.as_str());
            taken.insert(table.name.clone());
            if set.owner == Owner::Folder {
                rest.retain(|_, (folder, other)| **folder != set.path || selection::is_part(other));
            }
            let done = self.update(table, &set).await;
            self.take(&set.location, Some(table.qualified_name()), done)?;
        }
        for (folder, table) in rest.into_values() {
            let location = Location::of(&self.store.url, folder);
            let done = self.without_files(table, &location).await;
            self.take(&location, Some(table.qualified_name()), done)?;
        }
        for set in &new {
            let done = self.create(set, known, &mut taken).await;
            self.take(&set.location, None, done)?;
        }
        Ok(())
    }

    /// Of several tables that have all files of a folder, the one with the folder's name, or else the first.
    fn chosen<'t>(&self, folder: &Path, tables: &[&'t TableDescription]) -> Option<&'t TableDescription> {
        let whole = || tables.iter().copied().filter(|table| !selection::is_part(table));
        let own = self.free_name(folder, None, &BTreeSet::new());
        whole().find(|table| table.name == own).or_else(|| whole().next())
    }

    /// The table with this folder; others with the same folder are a problem.
    fn choose<'t>(&mut self, set: &DataSet, tables: &[&'t TableDescription]) -> Option<&'t TableDescription> {
        let chosen = self.chosen(&set.path, tables)?;
        for other in tables.iter().filter(|table| table.name != chosen.name && !selection::is_part(table)) {
            let message = format!("`{}` has the same folder; that table is left alone", chosen.qualified_name());
            self.problem(&set.location, Some(other.qualified_name()), message);
        }
        Some(chosen)
    }

    fn problem(&mut self, location: &Location, table: Option<String>, message: String) {
        self.report.problems.push(CrawlProblem { location: location.clone(), table, message });
    }

    /// Records the outcome for a table. An error in its files or its description is a problem of this table only.
    fn take(&mut self, location: &Location, table: Option<String>, done: Result<Option<CrawledTable>>) -> Result<()> {
        match done {
            Ok(done) => self.report.tables.extend(done),
            Err(e) if is_of_one(&e) || e.kind() == ErrorKind::Conflict => {
                self.problem(location, table, error_text(&e));
                self.left_out = true;
            }
            Err(e) => return Err(e.with("folder", location)),
        }
        Ok(())
    }

    fn name(&self, set: &DataSet, taken: &BTreeSet<String>) -> String {
        self.free_name(&set.path, set.name.as_deref(), taken)
    }

    fn free_name(&self, path: &Path, name: Option<&str>, taken: &BTreeSet<String>) -> String {
        let mut folders: Vec<String> = path.parts().map(|part| part.as_ref().to_owned()).collect();
        folders.extend(name.map(str::to_owned));
        folders.reverse();
        folders.extend(self.store.url.host_str().map(str::to_owned));
        naming::free(&self.options.table_prefix, &folders.iter().map(String::as_str).collect::<Vec<_>>(), taken)
    }

    /// Examines the files of folders, the known ones first. Folders with files that do not fit the others are problems.
    async fn inspect(
        &self,
        set: &DataSet,
        parts: &[&Part],
        known: Option<&FileFormat>,
        types: &[(String, DataType)],
    ) -> Result<Found> {
        let csv = match known {
            Some(FileFormat::Csv(csv)) => Some(csv.clone()),
            _ => None,
        };
        let options = InspectOptions {
            csv,
            csv_hints: self.options.csv,
            sample_bytes: self.options.sample_bytes,
            keys: set.keys.clone(),
            types: types.to_vec(),
            concurrency: self.ctx.session().state().config().target_partitions(),
            first_counts: known.is_some(),
        };
        let files: Vec<ObjectMeta> = parts.iter().flat_map(|part| part.files.clone()).collect();
        let mut found = inspect(self.store, &files, set.kind, &options).await?;
        let mut unfit: BTreeMap<Path, Vec<Error>> = BTreeMap::new();
        for (file, error) in std::mem::take(&mut found.unfit) {
            let is_in = |part: &&&Part| {
                part.files.iter().any(|meta| Location::of(&self.store.url, &meta.location).as_str() == file.as_str())
            };
            match parts.iter().find(is_in).filter(|_| parts.len() > 1) {
                Some(part) => unfit.entry(part.location.resolve()?.path).or_default().push(error),
                // Part of a single folder is not a table.
                None => return Err(error),
            }
        }
        Ok(Found { all: found, unfit })
    }

    /// Names the folders that do not fit.
    fn name_unfit(&mut self, table: &str, parts: &[&Part], found: &Found) {
        for part in parts {
            let Some(errors) = found.unfit_in(part) else { continue };
            let mut message = error_text(&errors[0]);
            if errors.len() > 1 {
                message = format!("{message}; the same applies to {} more files", errors.len() - 1);
            }
            self.problem(&part.location, Some(table.to_owned()), message);
        }
    }

    // --- types set by the options ----------------------------------------------------------------------------------

    /// The types of columns that are set, by the options or earlier.
    fn types(&self, table: Option<&TableDescription>) -> Result<Vec<(String, DataType)>> {
        let mut types: BTreeMap<String, HiveType> = BTreeMap::new();
        if let Some(table) = table {
            for name in selection::listed(table, TYPES)? {
                if let Some(column) = table.storage.columns.iter().find(|column| same_name(&column.name, &name)) {
                    types.insert(name, column.hive_type()?);
                }
            }
        }
        types.extend(self.options.types.iter().map(|(name, of)| (name.to_lowercase(), of.clone())));
        Ok(types.into_iter().map(|(name, of)| (name, DataType::from(&of))).collect())
    }

    fn is_said(&self, column: &str) -> bool {
        self.options.types.keys().any(|name| same_name(name, column))
    }

    /// Those of these columns whose types the options set.
    fn said(&self, schema: &Schema) -> Vec<String> {
        schema.fields().iter().map(|field| field.name()).filter(|name| self.is_said(name)).cloned().collect()
    }

    /// Checks that every column whose type is set belongs to some table.
    fn check_types(&mut self, location: &Location) {
        // The columns of a table that could not be examined are unknown.
        if self.left_out {
            return;
        }
        let columns = || self.columns.iter().map(String::as_str);
        let unknown = self.options.types.keys().filter(|name| !columns().any(|column| same_name(column, name)));
        let say = |name: &String| match nearest(name, columns()) {
            Some(near) => format!("--type: no table here has a column `{name}`; did you mean `{near}`?"),
            None => format!("--type: no table here has a column `{name}`"),
        };
        let messages: Vec<String> = unknown.map(say).collect();
        for message in messages {
            self.problem(location, None, message);
        }
    }

    // --- new tables ------------------------------------------------------------------------------------------------

    async fn create(
        &mut self,
        set: &DataSet,
        known: &Known<'_>,
        taken: &mut BTreeSet<String>,
    ) -> Result<Option<CrawledTable>> {
        let own = self.name(set, &BTreeSet::new());
        let name = self.name(set, taken);
        let mut notes = set.notes.clone();
        if name != own {
            notes.push(format!(
                "another folder has the table `{own}`, so this one is prefixed with the name of its parent folder"
            ));
        }
        if known.names.contains(&name) {
            let why = format!("there is a table `{}.{name}` already, with another folder", self.database);
            let what = if set.name.is_some() { "files" } else { "folder" };
            return Err(Error::conflict(why).hint(format!("rename the {what}, or use --table-prefix")));
        }
        let parts: Vec<&Part> = set.parts.values().collect();
        let types = self.types(None)?;
        let found = self.inspect(set, &parts, None, &types).await?;
        let mut table = describe::table(&self.database, &name, set, &found.all.format);
        let (schema, left_out) =
            describe::columns(&found.all.schema, &found.all.format, &set.keys, self.options.nanoseconds)
                .map_err(Error::refused)?;
        let schema = as_said(schema, &types);
        update::evolve(&mut table, &schema, &found.all.format)?;
        selection::write(&mut table.parameters, TYPES, &self.said(&schema));
        self.columns.extend(table.storage.columns.iter().map(|column| column.name.clone()));
        notes.extend(self.nanoseconds(&mut table, &found.all.schema));
        notes.extend(update::texts(&table, &found.all.schema, &found.all.format));
        selection::write(&mut table.parameters, FILES, &set.only);
        selection::write(&mut table.parameters, EXCLUDE, &set.except);
        selection::write(&mut table.parameters, PLAIN_KEYS, &set.plain_keys());
        let mut partitions = Vec::new();
        let (counted, all) = found.count(parts.iter().copied());
        all.write(&mut table.parameters);
        for ((values, part), statistics) in set.parts.iter().zip(counted).filter(|_| !set.keys.is_empty()) {
            if found.unfit_in(part).is_none() {
                partitions.push(partition(&table, values, part, Some(statistics)));
            }
        }
        let table = table.checked()?;
        taken.insert(name);
        if !self.options.dry_run {
            if !self.has_database {
                self.catalog.ensure_database(&Database::new(&self.database)).await?;
                self.has_database = true;
            }
            self.catalog.create_table(&table).await?;
            if !partitions.is_empty() {
                self.catalog.add_partitions(&table, &partitions).await?;
            }
        }
        self.name_unfit(&table.qualified_name(), &parts, &found);
        notes.extend(found.all.notes);
        for message in left_out.into_iter().chain(found.all.hidden.into_iter().map(hidden)) {
            self.problem(&set.location, Some(table.qualified_name()), message);
        }
        let mut report = reported(&table, &set.location);
        report.outcome = CrawlOutcome::Created;
        report.columns_added.clone_from(&table.storage.columns);
        report.statistics = true;
        report.partitions.added = update::names(&table, partitions.iter().map(|p| &p.values));
        report.notes = notes;
        Ok(Some(report))
    }

    // --- updates ---------------------------------------------------------------------------------------------------

    async fn update(&mut self, table: &TableDescription, set: &DataSet) -> Result<Option<CrawledTable>> {
        self.columns.extend(table.storage.columns.iter().map(|column| column.name.clone()));
        let format = file_format(table, None)?;
        if !update::is_of(&table.format()?, set) {
            let declared = table.format()?.classification();
            return Err(Error::refused(format!("the table is declared as {declared}, but its files are {}", set.kind)));
        }
        let mut report = reported(table, &set.location);
        if let FileFormat::Csv(csv) = &format
            && !update::is_written_like(csv, &self.options.csv)
        {
            report.notes.push(format!(
                "a table keeps its dialect; to apply --csv-..., drop it (`hardtack drop {}`) and crawl",
                table.qualified_name()
            ));
        }
        if update::is_version(table)? {
            let note = "a job replaces this table as a whole; its rows are not those in its folder";
            report.notes.push(note.to_owned());
            return Ok(Some(report));
        }
        let keys: Vec<&str> = table.partition_keys.iter().map(|key| key.name.as_str()).collect();
        if !keys.iter().copied().eq(set.keys.iter().map(String::as_str)) {
            let show = |keys: &[&str]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
            let found: Vec<&str> = set.keys.iter().map(String::as_str).collect();
            let why = format!("the table is partitioned by {}, but its folders by {}", show(&keys), show(&found));
            return Err(Error::refused(why)
                .hint("partition keys cannot be changed; drop the table (`hardtack drop`), and crawl"));
        }
        let registered = self.registered(table).await?;
        let mut compared = match keys.is_empty() {
            false => update::compare(table, &base_of(table)?, registered, &set.parts)?,
            true => Compared::default(),
        };
        compared.spare(|folder| self.listed.is_blind_to(folder));
        let parts: Vec<&Part> =
            if keys.is_empty() { set.parts.values().collect() } else { compared.folders().collect() };
        let mut table = table.clone();
        let selected = selection::write(&mut table.parameters, FILES, &set.only)
            | selection::write(&mut table.parameters, EXCLUDE, &set.except);
        // Jobs count the rows that they save.
        let counts = !has_runs(&table.parameters);
        let mut statistics = Vec::new();
        if parts.iter().any(|part| !part.files.is_empty()) {
            let types = self.types(Some(&table))?;
            let found = self.inspect(set, &parts, Some(&format), &types).await?;
            if !self.options.types.is_empty()
                && let Some(errors) = found.unfit.values().next()
            {
                // Files that could be read before could not be read any more.
                let message = error_text(&errors[0]);
                self.problem(&set.location, Some(table.qualified_name()), message);
                return Ok(Some(report));
            }
            self.name_unfit(&table.qualified_name(), &parts, &found);
            let schema = as_said(self.columns(&table, set, &found.all, &format)?, &types);
            (report.columns_added, report.columns_retyped) = update::evolve(&mut table, &schema, &format)?;
            if self.options.nanoseconds == Nanoseconds::Text {
                let columns = describe::with_nanoseconds(&found.all.schema);
                report.columns_retyped.extend(update::retype(&mut table, &schema, &columns)?);
            }
            let said = self.said(&schema);
            self.columns.extend(said.iter().cloned());
            let columns: Vec<&str> = said.iter().map(String::as_str).collect();
            report.columns_retyped.extend(update::retype(&mut table, &schema, &columns)?);
            let all_said: BTreeSet<String> = selection::listed(&table, TYPES)?.into_iter().chain(said).collect();
            if selection::write(&mut table.parameters, TYPES, &Vec::from_iter(all_said)) {
                report.outcome = CrawlOutcome::Updated;
            }
            let how = table.parameters.get(NANOSECONDS).cloned();
            let note = self.nanoseconds(&mut table, &found.all.schema);
            if table.parameters.get(NANOSECONDS) != how.as_ref() {
                report.outcome = CrawlOutcome::Updated;
            }
            for message in update::misfits(&table, &schema, &format) {
                self.problem(&set.location, Some(table.qualified_name()), message);
            }
            let (each, all) = found.count(parts.iter().copied());
            let fitting = parts.iter().zip(each).filter(|(part, _)| found.unfit_in(part).is_none());
            statistics = fitting.map(|(_, statistics)| statistics).collect();
            compared.leave_out(|part| found.unfit_in(part).is_some());
            if counts && compared.elsewhere == 0 {
                report.statistics = all.write(&mut table.parameters);
            }
            report.notes.extend(found.all.notes);
            report.notes.extend(note);
            report.notes.extend(update::texts(&table, &found.all.schema, &format));
            for message in found.all.hidden {
                self.problem(&set.location, Some(table.qualified_name()), hidden(message));
            }
        }
        report.notes.extend(set.notes.iter().cloned());
        report.notes.append(&mut compared.notes);
        for message in &compared.unfit {
            self.problem(&set.location, Some(table.qualified_name()), message.clone());
        }
        if selected {
            report.outcome = CrawlOutcome::Updated;
            if !self.options.dry_run {
                let (only, except) = (&set.only, &set.except);
                amend(self.catalog, &table.database, &table.name, |table| {
                    selection::write(&mut table.parameters, FILES, only);
                    selection::write(&mut table.parameters, EXCLUDE, except);
                })
                .await?;
            }
        }
        self.partitions(&mut table, compared, statistics.into_iter(), counts, &mut report).await?;
        Ok(Some(report))
    }

    /// Notes the columns that may have values finer than the table's type, or has them rounded.
    fn nanoseconds(&self, table: &mut TableDescription, found: &Schema) -> Option<String> {
        if self.options.nanoseconds == Nanoseconds::Text {
            table.parameters.remove(NANOSECONDS);
        }
        let is_timestamp = |name: &&str| {
            let column = table.storage.columns.iter().find(|column| evolution::same_name(&column.name, name));
            column.is_some_and(|column| column.data_type.contains("timestamp"))
        };
        let columns: Vec<&str> = describe::with_nanoseconds(found).into_iter().filter(is_timestamp).collect();
        let columns = columns.join(", ");
        if columns.is_empty() {
            return None;
        }
        if self.options.nanoseconds == Nanoseconds::Truncate {
            table.parameters.insert(NANOSECONDS.to_owned(), TRUNCATE.to_owned());
        }
        if table.parameters.get(NANOSECONDS).is_some_and(|how| how == TRUNCATE) {
            return Some(format!("nanoseconds are rounded down to microseconds: {columns}"));
        }
        Some(format!(
            "files hold nanoseconds, and a timestamp has microseconds, so finer values are refused when they are read: \
             {columns}; crawl with --nanoseconds text to have texts, or --nanoseconds truncate to round down"
        ))
    }

    /// The columns that were found in the files of an existing table.
    fn columns(
        &mut self,
        table: &TableDescription,
        set: &DataSet,
        found: &Inspected,
        format: &FileFormat,
    ) -> Result<Schema> {
        let (schema, left_out) =
            describe::columns(&found.schema, format, &set.keys, self.options.nanoseconds).map_err(Error::refused)?;
        let schema = if matches!(format, FileFormat::Csv(_)) { update::by_place(table, schema) } else { schema };
        for message in left_out {
            let is_there = table.storage.columns.iter().any(|c| message.contains(&format!("`{}`", c.name)));
            if !is_there {
                self.problem(&set.location, Some(table.qualified_name()), message);
            }
        }
        Ok(schema)
    }

    /// Reports a table none of whose files was found.
    async fn without_files(&mut self, table: &TableDescription, location: &Location) -> Result<Option<CrawledTable>> {
        let mut report = reported(table, location);
        if table.format().is_err() || update::is_version(table)? {
            return Ok(None);
        }
        let registered = self.registered(table).await?;
        let nothing = BTreeMap::new();
        let mut compared = update::compare(table, &base_of(table)?, registered, &nothing)?;
        compared.spare(|folder| self.listed.is_blind_to(folder));
        if compared.elsewhere == 0 {
            report.notes.push("there is no file in its folder".to_owned());
        }
        self.partitions(&mut table.clone(), compared, std::iter::empty(), !has_runs(&table.parameters), &mut report)
            .await?;
        Ok(Some(report))
    }

    /// Updates the table and its partitions.
    async fn partitions(
        &mut self,
        table: &mut TableDescription,
        compared: Compared<'_>,
        mut statistics: impl Iterator<Item = Statistics>,
        counts: bool,
        report: &mut CrawledTable,
    ) -> Result<()> {
        let mut counted = || statistics.next().filter(|_| counts);
        let mut changed = Vec::new();
        for (before, part) in compared.there {
            let statistics = counted().filter(|_| !has_runs(&before.parameters));
            match update::refreshed(table, &before, part, statistics) {
                Some(after) => changed.push((before, after)),
                None => report.partitions.unchanged += 1,
            }
        }
        let new: Vec<Partition> =
            compared.new.iter().map(|(values, part)| partition(table, values, part, counted())).collect();
        report.partitions.unchanged += compared.elsewhere;
        report.partitions.added = update::names(table, new.iter().map(|p| &p.values));
        report.partitions.updated = update::names(table, changed.iter().map(|(p, _)| &p.values));
        let dry_run = self.options.dry_run;
        if !dry_run && !new.is_empty() {
            self.catalog.add_partitions(table, &new).await?;
        }
        if !dry_run {
            update::update(self, table, &changed).await?;
        }
        let mut missing = compared.missing;
        if self.options.delete_missing {
            let dropped = match dry_run {
                true => missing.clone(),
                false => update::drop_missing(self, table, &missing).await?,
            };
            missing.retain(|partition| !dropped.iter().any(|p| p.values == partition.values));
            report.partitions.dropped = update::names(table, dropped.iter().map(|p| &p.values));
        }
        report.partitions.missing = update::names(table, missing.iter().map(|p| &p.values));
        let forgotten = !counts && update::forget_counts(table, report);
        let is_changed = |column: &&Column| {
            let is = |name: &String| *name == column.name;
            report.columns_added.iter().any(|c| is(&c.name)) || report.columns_retyped.iter().any(|c| is(&c.name))
        };
        let columns: Vec<Column> = table.storage.columns.iter().filter(is_changed).cloned().collect();
        let described = !columns.is_empty() || report.statistics || report.outcome == CrawlOutcome::Updated;
        if (described || forgotten) && !dry_run {
            self.describe(table, &columns, report.statistics || forgotten).await?;
        }
        let p = &report.partitions;
        let moved = [&p.added, &p.updated, &p.dropped].iter().any(|names| !names.is_empty());
        if described || moved {
            report.outcome = CrawlOutcome::Updated;
        }
        Ok(())
    }

    /// Updates the columns and counts in the catalog to those of this table; others may have changed it meanwhile.
    async fn describe(&self, wanted: &TableDescription, columns: &[Column], counts: bool) -> Result<()> {
        amend(self.catalog, &wanted.database, &wanted.name, |table| {
            // If the table has changed incompatibly since, the next crawl deals with it.
            let mut grown = table.clone();
            let may = |column: &Column| {
                let is_timestamp = column.data_type.contains("timestamp");
                (self.options.nanoseconds == Nanoseconds::Text && is_timestamp) || self.is_said(&column.name)
            };
            update::retype_as(&mut grown, columns, may);
            if evolution::apply(&mut grown, columns).is_ok() {
                *table = grown;
            }
            if let Some(types) = wanted.parameters.get(TYPES) {
                table.parameters.insert(TYPES.to_owned(), types.clone());
            }
            match wanted.parameters.get(NANOSECONDS) {
                Some(how) => _ = table.parameters.insert(NANOSECONDS.to_owned(), how.clone()),
                None if self.options.nanoseconds == Nanoseconds::Text => _ = table.parameters.remove(NANOSECONDS),
                None => {}
            }
            for key in Statistics::PARAMETERS.into_iter().filter(|_| counts) {
                match wanted.parameters.get(key) {
                    Some(value) => _ = table.parameters.insert(key.to_owned(), value.clone()),
                    None => _ = table.parameters.remove(key),
                }
            }
        })
        .await
    }
}

/// The columns with the types that are set.
fn as_said(schema: Schema, types: &[(String, DataType)]) -> Schema {
    let of = |field: &FieldRef| match types.iter().find(|(name, _)| same_name(name, field.name())) {
        Some((_, said)) => Arc::new(field.as_ref().clone().with_data_type(said.clone())),
        None => Arc::clone(field),
    };
    Schema::new(schema.fields().iter().map(of).collect::<Fields>())
}

/// The text of a file error, with hints that apply to crawls.
fn error_text(error: &Error) -> String {
    let text = error.chain();
    match error.get("file") {
        Some(_) if error.get_hint().is_none() => format!("{text}; repair the file, or leave it out with --exclude"),
        _ => text,
    }
}

/// The hint for a column whose values are hidden by those of a partition key.
fn hidden(message: String) -> String {
    format!("{message}, which is the value that the table has; give the key another name in the folders to have both")
}

/// The columns of a file, for comparison with those of others. Without a header, they consist of number and types.
fn signature(found: &Inspected) -> Signature {
    let fields = found.schema.fields();
    match &found.format {
        FileFormat::Csv(csv) if csv.header_lines == 0 => {
            Signature::nameless(fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())))
        }
        _ => Signature::of(fields.iter().map(|field| field.name().to_lowercase())),
    }
}

/// Whether an error concerns a single file or table.
fn is_of_one(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Refused | ErrorKind::Usage | ErrorKind::NotFound | ErrorKind::Changed)
}

/// The results of examining the files of folders.
struct Found {
    all: Inspected,
    /// The errors of folders whose files do not fit the others.
    unfit: BTreeMap<Path, Vec<Error>>,
}

impl Found {
    fn unfit_in(&self, part: &Part) -> Option<&Vec<Error>> {
        // Most crawls find no errors.
        if self.unfit.is_empty() { None } else { self.unfit.get(&part.location.resolve().ok()?.path) }
    }

    /// The statistics of each folder, and of all folders that fit.
    fn count<'p>(&self, parts: impl Iterator<Item = &'p Part>) -> (Vec<Statistics>, Statistics) {
        let mut rows = self.all.rows.as_deref();
        let (mut each, mut all) = (Vec::new(), None);
        for part in parts {
            let own = rows.map(|all| all.split_at(part.files.len()));
            rows = own.map(|(_, rest)| rest);
            let statistics = Statistics::of(&part.files, own.map(|(own, _)| own));
            if self.unfit_in(part).is_none() {
                all = Some(all.map_or(statistics, |all: Statistics| all.add(statistics)));
            }
            each.push(statistics);
        }
        (each, all.unwrap_or_default())
    }
}

fn partition(table: &TableDescription, values: &[String], part: &Part, statistics: Option<Statistics>) -> Partition {
    let mut partition = table.partition(values.to_vec(), part.location.clone());
    if let Some(statistics) = statistics {
        statistics.write(&mut partition.parameters);
    }
    partition
}

fn reported(table: &TableDescription, location: &Location) -> CrawledTable {
    CrawledTable {
        name: table.qualified_name(),
        location: location.clone(),
        format: table.format().map(|f| f.classification().to_owned()).unwrap_or_default(),
        outcome: CrawlOutcome::Unchanged,
        columns_added: Vec::new(),
        columns_retyped: Vec::new(),
        statistics: false,
        partition_keys: table.partition_keys.clone(),
        partitions: CrawledPartitions::default(),
        notes: Vec::new(),
    }
}
