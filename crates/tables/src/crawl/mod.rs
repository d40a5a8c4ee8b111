//! Tables from files: finds data sets and registers them.

mod describe;
mod naming;
mod report;
mod tree;
mod update;

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::Schema;
use hardtack_catalog::{Catalog, CatalogExt, CatalogOf, Column, Database, Partition, Table as Description};
use hardtack_core::{Error, ErrorKind, JobContext, Location, Result, Store};
use hardtack_sources::{FileFormat, InspectOptions, Inspected, folder_partition, inspect};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::evolution;
use crate::format::file_format;
use crate::place::base_of;
use crate::publisher::amend;
use crate::steps::has_runs;
use describe::Statistics;
use tree::{DataSet, Listed, Part};
use update::Compared;

pub use report::{CrawlOutcome, CrawlProblem, CrawlReport, CrawledPartitions, CrawledTable, WidenedColumn};

/// How [`crawl`] goes about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrawlOptions {
    /// What the names of new tables begin with.
    pub table_prefix: String,
    /// Drop partitions of whose files none is left, instead of only naming them.
    pub delete_missing: bool,
    /// Only say what would change.
    pub dry_run: bool,
    /// Whether the first line of the CSV files of new tables names the columns; otherwise it is found out.
    pub csv_header: Option<bool>,
    /// How many bytes of each CSV or JSON file are looked at (decompressed; all by default). A value further down may be of
    /// another type, and is refused then by those who read it.
    pub sample_bytes: Option<u64>,
}

/// Finds the data sets below a location and registers them as tables of a database, or brings the tables that are there
/// up to date: what crawlers of AWS Glue do. A second crawl changes nothing.
///
/// # What is a table
/// The topmost folder that holds data files, or folders `key=value`, is a table; `location` itself may be one. Its files
/// are those below it, but for what is hidden (by a leading `_` or `.`) or empty. They are of one format: Parquet, JSON, CSV
/// or Avro, by their suffixes, or by their first bytes if they have none. Folders of several formats are
/// [problems](CrawlReport::problems) and left alone, as are tables of Delta Lake, Hudi and Iceberg.
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
/// `date` or `string`.
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
    let listed = Listed::list(&store, &root).await?;
    let (sets, problems) = listed.data_sets(&known.folders());
    let mut crawl = Crawl {
        ctx,
        catalog: catalog.as_ref(),
        store: &store,
        database,
        options,
        has_database,
        report: CrawlReport { tables: Vec::new(), problems },
    };
    crawl.all(&root, &known, sets).await?;
    let mut report = crawl.report;
    report.tables.sort_by(|a, b| (&a.location, &a.name).cmp(&(&b.location, &b.name)));
    report.problems.sort_by(|a, b| (&a.location, &a.message).cmp(&(&b.location, &b.message)));
    if report.tables.is_empty() && report.problems.is_empty() {
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

    fn folders(&self) -> BTreeSet<Path> {
        self.by_folder.keys().cloned().collect()
    }

    /// Partitions are not to become tables.
    fn check(&self, location: &Location, root: &Path) -> Result<()> {
        let above = self.by_folder.iter().find(|(folder, _)| *folder != root && root.prefix_matches(folder));
        if let Some((folder, tables)) = above {
            let name = tables.first().map(|table| table.qualified_name()).unwrap_or_default();
            return Err(Error::usage(format!("this folder is inside of the table `{name}`; crawl the table's folder"))
                .with("location", location)
                .with("folder of the table", folder));
        }
        let is_partition = |part: &str| folder_partition(part).is_some();
        match root.parts().find(|part| is_partition(part.as_ref())) {
            Some(part) if !self.by_folder.contains_key(root) => {
                let why = format!("`{}` is a partition of a table; crawl the folder above", part.as_ref());
                Err(Error::usage(why).with("location", location))
            }
            _ => Ok(()),
        }
    }
}

pub(super) struct Crawl<'a> {
    pub(super) ctx: &'a JobContext,
    pub(super) catalog: &'a dyn Catalog,
    store: &'a Store,
    database: String,
    options: &'a CrawlOptions,
    has_database: bool,
    report: CrawlReport,
}

impl Crawl<'_> {
    async fn all(&mut self, root: &Path, known: &Known<'_>, sets: Vec<DataSet>) -> Result<()> {
        let mut rest: BTreeMap<&Path, &Vec<&Description>> =
            known.by_folder.iter().filter(|(folder, _)| folder.prefix_matches(root)).collect();
        for problem in &self.report.problems {
            if let Ok(at) = problem.location.resolve() {
                rest.remove(&at.path);
            }
        }
        let (existing, new): (Vec<DataSet>, Vec<DataSet>) =
            sets.into_iter().partition(|set| known.by_folder.contains_key(&set.path));
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for set in &existing {
            let Some(tables) = rest.remove(&set.path) else { continue };
            let table = self.choose(set, tables);
            taken.insert(table.name.clone());
            let done = self.update(table, set).await;
            self.take(&set.location, Some(table.qualified_name()), done)?;
        }
        for (folder, tables) in rest {
            let location = Location::of(&self.store.url, folder);
            for table in tables {
                let done = self.without_files(table, &location).await;
                self.take(&location, Some(table.qualified_name()), done)?;
            }
        }
        for set in &new {
            let done = self.create(set, known, &mut taken).await;
            self.take(&set.location, None, done)?;
        }
        Ok(())
    }

    /// Of several tables in one folder the one that has its name, or else the first.
    fn choose<'t>(&mut self, set: &DataSet, tables: &[&'t Description]) -> &'t Description {
        let own = self.name(set, &BTreeSet::new());
        let chosen = tables.iter().find(|table| table.name == own).copied().unwrap_or(tables[0]);
        for other in tables.iter().filter(|table| table.name != chosen.name) {
            let message = format!("this is the folder of `{}`, too; that table is left alone", chosen.qualified_name());
            self.problem(&set.location, Some(other.qualified_name()), message);
        }
        chosen
    }

    fn problem(&mut self, location: &Location, table: Option<String>, message: String) {
        self.report.problems.push(CrawlProblem { location: location.clone(), table, message });
    }

    /// Takes in what has become of a table. What is wrong with its files or its description is a problem of its own.
    fn take(&mut self, location: &Location, table: Option<String>, done: Result<Option<CrawledTable>>) -> Result<()> {
        match done {
            Ok(done) => self.report.tables.extend(done),
            Err(e) if matches!(e.kind(), ErrorKind::Refused | ErrorKind::Usage | ErrorKind::Conflict) => {
                self.problem(location, table, e.chain());
            }
            Err(e) => return Err(e.with("folder", location)),
        }
        Ok(())
    }

    fn name(&self, set: &DataSet, taken: &BTreeSet<String>) -> String {
        let mut folders: Vec<String> = set.path.parts().map(|part| part.as_ref().to_owned()).collect();
        folders.reverse();
        folders.extend(self.store.url.host_str().map(str::to_owned));
        naming::free(&self.options.table_prefix, &folders.iter().map(String::as_str).collect::<Vec<_>>(), taken)
    }

    async fn inspect(&self, set: &DataSet, files: &[ObjectMeta], known: Option<&FileFormat>) -> Result<Inspected> {
        let csv = match known {
            Some(FileFormat::Csv(csv)) => Some(csv.clone()),
            _ => None,
        };
        let options = InspectOptions {
            csv,
            csv_header: self.options.csv_header,
            sample_bytes: self.options.sample_bytes,
            concurrency: self.ctx.session().state().config().target_partitions(),
        };
        inspect(self.store, files, set.kind, &options).await
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
        let mut notes = Vec::new();
        if name != own {
            notes.push(format!("another folder is the table `{own}`, so this one has the name of a folder above, too"));
        }
        if known.names.contains(&name) {
            let why = format!("there is a table `{}.{name}` already, with another folder", self.database);
            return Err(Error::conflict(why).with("way out", "rename the folder, or say --table-prefix"));
        }
        let files: Vec<ObjectMeta> = set.parts.values().flat_map(|part| part.files.clone()).collect();
        let found = self.inspect(set, &files, None).await?;
        let mut table = describe::table(&self.database, &name, set, &found.format);
        let (schema, left_out) = describe::columns(&found.schema, &found.format, &set.keys).map_err(Error::refused)?;
        update::evolve(&mut table, &schema, &found.format)?;
        let mut partitions = Vec::new();
        let (counted, all) = count(set.parts.values(), &found);
        all.write(&mut table.parameters);
        for ((values, part), statistics) in set.parts.iter().zip(counted).filter(|_| !set.keys.is_empty()) {
            partitions.push(partition(&table, values, part, Some(statistics)));
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
        notes.extend(found.notes);
        for message in left_out {
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
        let format = file_format(table, None)?;
        if !update::is_of(&table.format()?, set) {
            let declared = table.format()?.classification();
            return Err(Error::refused(format!("the table is declared as {declared}, but its files are {}", set.kind)));
        }
        let mut report = reported(table, &set.location);
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
            return Err(
                Error::refused(why).with("way out", "partition keys cannot be changed; drop the table, and crawl")
            );
        }
        let registered = update::registered(self.catalog, table).await?;
        let compared = match keys.is_empty() {
            false => update::compare(table, &base_of(table)?, registered, &set.parts)?,
            true => Compared::default(),
        };
        let parts: Vec<&Part> =
            if keys.is_empty() { set.parts.values().collect() } else { compared.folders().collect() };
        let files: Vec<ObjectMeta> = parts.iter().flat_map(|part| part.files.clone()).collect();
        let mut table = table.clone();
        // Jobs count what they save.
        let counts = !has_runs(&table.parameters);
        let mut statistics = Vec::new();
        if !files.is_empty() {
            let found = self.inspect(set, &files, Some(&format)).await?;
            let schema = self.columns(&table, set, &found, &format)?;
            (report.columns_added, report.columns_widened) = update::evolve(&mut table, &schema, &format)?;
            for message in update::misfits(&table, &schema, &format) {
                self.problem(&set.location, Some(table.qualified_name()), message);
            }
            let (each, all) = count(parts.iter().copied(), &found);
            statistics = each;
            if counts && compared.elsewhere == 0 {
                report.statistics = all.write(&mut table.parameters);
            }
            report.notes = found.notes;
        }
        for message in &compared.unfit {
            self.problem(&set.location, Some(table.qualified_name()), message.clone());
        }
        self.partitions(&mut table, compared, statistics.into_iter(), counts, &mut report).await?;
        Ok(Some(report))
    }

    /// The columns that were found in the files of a table that is there.
    fn columns(
        &mut self,
        table: &Description,
        set: &DataSet,
        found: &Inspected,
        format: &FileFormat,
    ) -> Result<Schema> {
        let (schema, left_out) = describe::columns(&found.schema, format, &set.keys).map_err(Error::refused)?;
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
        let registered = update::registered(self.catalog, table).await?;
        let nothing = BTreeMap::new();
        let compared = update::compare(table, &base_of(table)?, registered, &nothing)?;
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
        let new: Vec<Partition> =
            compared.new.iter().map(|(values, part)| partition(table, values, part, counted())).collect();
        let mut changed = Vec::new();
        for (before, part) in compared.there {
            let statistics = counted().filter(|_| !has_runs(&before.parameters));
            match update::refreshed(table, &before, part, statistics) {
                Some(after) => changed.push((before, after)),
                None => report.partitions.unchanged += 1,
            }
        }
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
            report.columns_added.iter().any(|c| is(&c.name)) || report.columns_widened.iter().any(|c| is(&c.name))
        };
        let columns: Vec<Column> = table.storage.columns.iter().filter(is_changed).cloned().collect();
        let described = !columns.is_empty() || report.statistics;
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
            if evolution::apply(&mut grown, columns).is_ok() {
                *table = grown;
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

/// The statistics of each folder, and of all together.
fn count<'p>(parts: impl Iterator<Item = &'p Part>, found: &Inspected) -> (Vec<Statistics>, Statistics) {
    let mut rows = found.rows.as_deref();
    let mut each = Vec::new();
    for part in parts {
        let own = rows.map(|all| all.split_at(part.files.len()));
        rows = own.map(|(_, rest)| rest);
        each.push(Statistics::of(&part.files, own.map(|(own, _)| own)));
    }
    let all = each.iter().copied().reduce(Statistics::add).unwrap_or_default();
    (each, all)
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
        columns_widened: Vec::new(),
        statistics: false,
        partition_keys: table.partition_keys.clone(),
        partitions: CrawledPartitions::default(),
        notes: Vec::new(),
    }
}
