//! Tables from files: finds data sets and registers them.

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
use hardtack_catalog::{Catalog, CatalogExt, CatalogOf, Column, Database, HiveType, Partition, Table as Description};
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
use search::{KnownFolder, KnownFolders, KnownTable, Looks, Search, Wishes};
use tree::{DataSet, Listed, Owner, Part};
use update::Compared;

pub use report::{CrawlOutcome, CrawlProblem, CrawlReport, CrawledPartitions, CrawledTable, RetypedColumn};

/// How [`crawl`] goes about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrawlOptions {
    /// What the names of new tables begin with.
    pub table_prefix: String,
    /// Drop partitions of whose files none is left, instead of only naming them.
    pub delete_missing: bool,
    /// Only say what would change.
    pub dry_run: bool,
    /// What is known of how the CSV files of new tables are written; the rest is found out. Tables that are there know it.
    pub csv: CsvHints,
    /// How many bytes of each CSV or JSON file are looked at (decompressed; all by default). A value further down may be of
    /// another type, and is refused then by those who read it.
    pub sample_bytes: Option<u64>,
    /// What the partition keys of new tables are called whose folders say the value only (`2023/11/` and not
    /// `year=2023/month=11/`), from the outermost: `year`, `month`. Those without a name are `partition_0`, `partition_1` ...
    pub partition_names: Vec<String>,
    /// How deep new tables are: 1 is the folder that is crawled, 2 the folders in it. Every folder there is a table, and
    /// what is below are its partitions. Otherwise it is found out.
    pub table_level: Option<usize>,
    /// Patterns of files and folders that are left out, as paths below the folder that is crawled: `**/*.tmp`.
    pub exclude: Vec<String>,
    /// What becomes of timestamps that files store in nanoseconds; a table's `timestamp` has microseconds.
    pub nanoseconds: Nanoseconds,
    /// The types of columns, by name, which are then not found out: where the types of files have nothing in common, for
    /// example. They hold for new tables and for tables that exist, and later crawls keep them. A value that is not of its
    /// type is refused when it is read.
    pub types: BTreeMap<String, HiveType>,
}

/// What a [`crawl`] does about timestamps in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Nanoseconds {
    /// The column is a `timestamp`, and values that are finer than microseconds are refused when they are read. Columns that
    /// may have some are named.
    #[default]
    Exact,
    /// The column is a `string`, so that nothing is lost; a column that is a `timestamp` becomes one.
    Text,
    /// The column is a `timestamp`, and values are rounded down to microseconds when they are read: a parameter of the table,
    /// which says so.
    Truncate,
}

/// Finds the data sets below a location and registers them as tables of a database, or brings the tables that are there
/// up to date: what crawlers of AWS Glue do. A second crawl changes nothing.
///
/// # What is a table
/// A folder that holds data files, or folders that are partitions; `location` itself may be one. Its files are those below
/// it, but for what is hidden (by a leading `_` or `.`), empty, or [left out](CrawlOptions::exclude). They are of one
/// format: Parquet, JSON, CSV or Avro, by their suffixes, or by their first bytes if they have none. Folders of several
/// formats are [problems](CrawlReport::problems) and left alone, as are tables of Delta Lake, Hudi and Iceberg.
///
/// Partitions are folders `key=value`; folders that are called by numbers or dates, with files of like columns; and folders
/// that are called by words, if seven in ten of their columns are the same. Files right in one folder that share few columns are
/// tables of their own, each with the patterns of its files. Tables that exist keep their keys and files. The
/// [notes](CrawledTable::notes) of a new table say why it is one.
///
/// The table of the catalog whose folder it is, is *the* table, whatever its name. Otherwise a table is created, with the
/// folder's name in small letters, digits and `_`. A table of that name with another folder is a problem, and never
/// touched; of two new folders of one name the second gets the name of the folder above it, too.
///
/// # Columns
/// They are those of all files together, with types that hold the values of all: of Parquet and Avro the footers and
/// headers are read, of CSV and JSON every value, or a [sample](CrawlOptions::sample_bytes). Types that have nothing
/// in common are a problem, which names the column and both files. Types are those that Athena can read: timestamps in
/// CSV are texts, and so are columns of quoted CSV files with dates or empty fields. Partition keys are `int`, `bigint`,
/// `date` or `string`. Names that differ in case only are one column. Columns that are named like a partition key are left
/// out: the folder says the same; where it does not, that is a problem, which names a value and its file.
///
/// How CSV files are written is found out, as far as it was not [said](CrawlOptions::csv): what was chosen where there was a
/// choice is a [note](CrawledTable::notes), and what cannot be read a problem with the option that is the way out. It is kept
/// in the table's description.
///
/// A table that exists only gets more columns, and wider types as far as
/// [`SchemaEvolution::WidenTypes`](crate::SchemaEvolution::WidenTypes) goes for Parquet and Avro; what was declared
/// for texts stays. Comments, parameters and SerDe stay.
///
/// # Partitions
/// New ones are added. Those without files are named, and dropped if that is [wanted](CrawlOptions::delete_missing). Those
/// that point elsewhere (into a version that a job has written with `overwrite_partitions`, say) are left alone.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a location that is a file or a folder inside of a table, and those of
/// the catalog and the stores. What is wrong with one table is a problem of the report, and the others go on.
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
    let wishes =
        Wishes { partition_names: &options.partition_names, table_level: options.table_level, exclude: &exclude };
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
    let mut search = Search::new(&listed, &folders, wishes);
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

/// The tables of the database that are in the store that is crawled, by their folders.
struct Known<'a> {
    by_folder: BTreeMap<Path, Vec<&'a Description>>,
    names: BTreeSet<String>,
}

impl<'a> Known<'a> {
    fn of(tables: &'a [Description], store: &Store) -> Self {
        let mut by_folder: BTreeMap<Path, Vec<&Description>> = BTreeMap::new();
        for table in tables {
            // Views have no folder, and there may be stores that are not known here.
            let Some(base) = base_of(table).ok().and_then(|base| base.resolve().ok()) else { continue };
            if base.store == store.url {
                by_folder.entry(base.path).or_default().push(table);
            }
        }
        Self { by_folder, names: tables.iter().map(|table| table.name.clone()).collect() }
    }

    /// Partitions are not to become tables.
    fn check(&self, location: &Location, root: &Path) -> Result<()> {
        let inside = |folder: &Path| folder != root && root.prefix_matches(folder);
        // A table of some files of a folder has no folders.
        let whole = |tables: &[&Description]| tables.iter().any(|table| !selection::is_part(table));
        let mut above = self.by_folder.iter().filter(|(folder, tables)| inside(folder) && whole(tables));
        if self.by_folder.contains_key(root) {
            return Ok(());
        }
        if let Some((folder, tables)) = above.next() {
            let name = tables.first().map(|table| table.qualified_name()).unwrap_or_default();
            return Err(Error::usage(format!("this folder is inside of the table `{name}`; crawl the table's folder"))
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

/// Names for partition keys are names of columns, each there once.
fn check_names(names: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !legal || !seen.insert(name.to_lowercase()) {
            let why = if legal { "is there twice" } else { "is no name for a partition key" };
            let wanted = "wanted are names of letters, digits and `_`, such as `year,month,day`";
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
    /// The partitions of tables that were asked for them already.
    registered: HashMap<String, Vec<Partition>>,
    listed: &'a Listed<'a>,
    /// The names of the columns that tables have.
    columns: BTreeSet<String>,
    /// Whether there is a table whose files could not be looked at.
    left_out: bool,
    report: CrawlReport,
}

/// So much of a file is looked at to find out whether it belongs to others.
const HEAD_BYTES: u64 = 64 << 10;
/// How many files are looked at at once.
const AT_ONCE: usize = 16;

impl Crawl<'_> {
    // --- what is known, and what has to be ---------------------------------------------------------------------------

    /// What the catalog says of the tables whose folders are below the one that is crawled.
    async fn known(&mut self, root: &Path, known: &Known<'_>) -> Result<KnownFolders> {
        let mut folders = KnownFolders::new();
        for (folder, tables) in known.by_folder.iter().filter(|(folder, _)| folder.prefix_matches(root)) {
            let (some, whole): (Vec<&Description>, Vec<&Description>) =
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

    /// Whether a table here has been rebuilt by a job: then its files are where no crawl looks, and it is as it should be.
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

    async fn known_table(&mut self, table: &Description) -> Result<KnownTable> {
        let plain = selection::listed(table, PLAIN_KEYS)?;
        let keys: Vec<String> = table.partition_keys.iter().map(|key| key.name.to_lowercase()).collect();
        let registered = match keys.is_empty() || table.format().is_err() {
            true => Vec::new(),
            false => update::registered(self.catalog, table).await?,
        };
        // The folders of partitions, as far as they are where the table's are by custom.
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
            wanted: selection::wanted(table)?,
            keys,
        };
        if !known.keys.is_empty() {
            self.registered.insert(table.name.clone(), registered);
        }
        Ok(known)
    }

    /// The partitions of a table that the catalog has.
    async fn registered(&mut self, table: &Description) -> Result<Vec<Partition>> {
        match self.registered.remove(&table.name) {
            Some(partitions) => Ok(partitions),
            None => update::registered(self.catalog, table).await,
        }
    }

    /// The columns of files, as far as their beginnings tell. What cannot be read is told by those who read all of it.
    ///
    /// A file without the header of the others, or with another delimiter, is one of theirs, and a problem. So what is evident
    /// of a file counts here, whatever was said of all.
    async fn look(&self, files: Vec<(&ObjectMeta, FileKind)>) -> Result<Looks> {
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
                // Where there was a choice, there is a note.
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
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    async fn all(&mut self, root: &Path, known: &Known<'_>, sets: Vec<DataSet>) -> Result<()> {
        let below = known.by_folder.iter().filter(|(folder, _)| folder.prefix_matches(root));
        let mut rest: BTreeMap<&str, (&Path, &Description)> =
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

    /// Of several tables that have all files of a folder the one that has its name, or else the first.
    fn chosen<'t>(&self, folder: &Path, tables: &[&'t Description]) -> Option<&'t Description> {
        let whole = || tables.iter().copied().filter(|table| !selection::is_part(table));
        let own = self.free_name(folder, None, &BTreeSet::new());
        whole().find(|table| table.name == own).or_else(|| whole().next())
    }

    /// The table whose folder it is; others of which that is so, too, are a problem.
    fn choose<'t>(&mut self, set: &DataSet, tables: &[&'t Description]) -> Option<&'t Description> {
        let chosen = self.chosen(&set.path, tables)?;
        for other in tables.iter().filter(|table| table.name != chosen.name && !selection::is_part(table)) {
            let message = format!("this is the folder of `{}`, too; that table is left alone", chosen.qualified_name());
            self.problem(&set.location, Some(other.qualified_name()), message);
        }
        Some(chosen)
    }

    fn problem(&mut self, location: &Location, table: Option<String>, message: String) {
        self.report.problems.push(CrawlProblem { location: location.clone(), table, message });
    }

    /// Takes in what has become of a table. What is wrong with its files or its description is a problem of its own.
    fn take(&mut self, location: &Location, table: Option<String>, done: Result<Option<CrawledTable>>) -> Result<()> {
        match done {
            Ok(done) => self.report.tables.extend(done),
            Err(e) if is_of_one(&e) || e.kind() == ErrorKind::Conflict => {
                self.problem(location, table, told(&e));
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

    /// Looks at the files of folders, of those that were known before first. Folders with files that do not fit the others
    /// are problems.
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
                // Of one folder, a part is not a table.
                None => return Err(error),
            }
        }
        Ok(Found { all: found, unfit })
    }

    /// Names the folders that do not fit.
    fn name_unfit(&mut self, table: &str, parts: &[&Part], found: &Found) {
        for part in parts {
            let Some(errors) = found.unfit_in(part) else { continue };
            let mut message = told(&errors[0]);
            if errors.len() > 1 {
                message = format!("{message}; and so {} more files", errors.len() - 1);
            }
            self.problem(&part.location, Some(table.to_owned()), message);
        }
    }

    // --- types that are said ---------------------------------------------------------------------------------------

    /// The types of columns that are said, by the options or before.
    fn types(&self, table: Option<&Description>) -> Result<Vec<(String, DataType)>> {
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

    /// Those of these columns whose types the options say.
    fn said(&self, schema: &Schema) -> Vec<String> {
        schema.fields().iter().map(|field| field.name()).filter(|name| self.is_said(name)).cloned().collect()
    }

    /// Types are said of columns that some table has.
    fn check_types(&mut self, location: &Location) {
        // Of a table that could not be looked at nobody knows the columns.
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
            notes.push(format!("another folder is the table `{own}`, so this one has the name of a folder above, too"));
        }
        if known.names.contains(&name) {
            let why = format!("there is a table `{}.{name}` already, with another folder", self.database);
            let what = if set.name.is_some() { "files" } else { "folder" };
            return Err(Error::conflict(why).hint(format!("rename the {what}, or say --table-prefix")));
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

    // --- tables that are there -------------------------------------------------------------------------------------

    async fn update(&mut self, table: &Description, set: &DataSet) -> Result<Option<CrawledTable>> {
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
                "a table keeps how its files are read; to have them read as --csv-... says, drop it (`hardtack drop {}`) and crawl",
                table.qualified_name()
            ));
        }
        if update::is_version(table)? {
            let note = "a job replaces the rows of this table as a whole; what it reads is not what is in its folder";
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
        // Jobs count what they save.
        let counts = !has_runs(&table.parameters);
        let mut statistics = Vec::new();
        if parts.iter().any(|part| !part.files.is_empty()) {
            let types = self.types(Some(&table))?;
            let found = self.inspect(set, &parts, Some(&format), &types).await?;
            if !self.options.types.is_empty()
                && let Some(errors) = found.unfit.values().next()
            {
                // What could be read before would not be any more.
                let message = told(&errors[0]);
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

    /// Says which columns may have values that are finer than the table's, or has them rounded.
    fn nanoseconds(&self, table: &mut Description, found: &Schema) -> Option<String> {
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

    /// The columns that were found in the files of a table that is there.
    fn columns(
        &mut self,
        table: &Description,
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

    /// A table of whose files none was found.
    async fn without_files(&mut self, table: &Description, location: &Location) -> Result<Option<CrawledTable>> {
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

    /// Brings the table and its partitions up to date.
    async fn partitions(
        &mut self,
        table: &mut Description,
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

    /// Gives the table in the catalog the columns and counts of this one; others may have changed it meanwhile.
    async fn describe(&self, wanted: &Description, columns: &[Column], counts: bool) -> Result<()> {
        amend(self.catalog, &wanted.database, &wanted.name, |table| {
            // What has become something else since is for the next crawl.
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

/// Columns with the types that are said.
fn as_said(schema: Schema, types: &[(String, DataType)]) -> Schema {
    let of = |field: &FieldRef| match types.iter().find(|(name, _)| same_name(name, field.name())) {
        Some((_, said)) => Arc::new(field.as_ref().clone().with_data_type(said.clone())),
        None => Arc::clone(field),
    };
    Schema::new(schema.fields().iter().map(of).collect::<Fields>())
}

/// An error of files with a way out that a crawl has.
fn told(error: &Error) -> String {
    let text = error.chain();
    match error.get("file") {
        Some(_) if error.get_hint().is_none() => format!("{text}; mend the file, or leave it out by --exclude"),
        _ => text,
    }
}

/// What is said of a column whose values are hidden by those of a partition key.
fn hidden(message: String) -> String {
    format!("{message}, which is the value that the table has; give the key another name in the folders to have both")
}

/// The columns of a file, for comparison with those of others. Without a header only their number and types tell.
fn signature(found: &Inspected) -> Signature {
    let fields = found.schema.fields();
    match &found.format {
        FileFormat::Csv(csv) if csv.header_lines == 0 => {
            Signature::nameless(fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())))
        }
        _ => Signature::of(fields.iter().map(|field| field.name().to_lowercase())),
    }
}

/// Whether something is wrong with one file or one table only.
fn is_of_one(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Refused | ErrorKind::Usage | ErrorKind::NotFound | ErrorKind::Changed)
}

/// What was found in the files of folders.
struct Found {
    all: Inspected,
    /// What is wrong with files of folders that do not fit the others.
    unfit: BTreeMap<Path, Vec<Error>>,
}

impl Found {
    fn unfit_in(&self, part: &Part) -> Option<&Vec<Error>> {
        // Most crawls find nothing wrong.
        if self.unfit.is_empty() { None } else { self.unfit.get(&part.location.resolve().ok()?.path) }
    }

    /// The statistics of each folder, and of all that fit together.
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

fn partition(table: &Description, values: &[String], part: &Part, statistics: Option<Statistics>) -> Partition {
    let mut partition = table.partition(values.to_vec(), part.location.clone());
    if let Some(statistics) = statistics {
        statistics.write(&mut partition.parameters);
    }
    partition
}

fn reported(table: &Description, location: &Location) -> CrawledTable {
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
