//! The files that rebuilt partitions leave behind: kept for a grace period, then removed.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use hardtack_catalog::{Catalog, CatalogOf, Partition, Predicate, TableDescription};
use hardtack_core::format::Format;
use hardtack_core::staging::VERSIONS;
use hardtack_core::{Error, JobContext, Location, Result, Stores, fault};
use hardtack_sources::FileFilter;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::Table;
use crate::place::{base_of, check_not_iceberg, delete, is_same, is_visible, open, wanted_files};
use crate::steps::{Counted, Payload, Slot, Superseded};

/// How long superseded files stay by default.
pub(crate) const GRACE_PERIOD: TimeDelta = TimeDelta::hours(1);

/// The minimum age of orphaned files: the run that wrote them may be about to commit.
const ORPHAN_AGE: TimeDelta = TimeDelta::hours(24);

/// Much longer than a run takes from recording what it supersedes to pointing elsewhere.
const RECENTLY: TimeDelta = TimeDelta::minutes(5);

/// How many folders are listed concurrently.
const CONCURRENCY: usize = 32;

/// Format 0 was written before formats had numbers.
const RECORD: Format = Format::new("record of what is superseded", 1);

/// A record of what a run has superseded: written before the catalog points elsewhere, removed with the files. It lies
/// in the folder of versions, where no reader looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    database: String,
    table: String,
    run: String,
    token: String,
    partitions: Vec<Replaced>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Replaced {
    #[serde(flatten)]
    superseded: Superseded,
    /// The partition's new target, unless it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Target>,
}

/// The new location of a partition, and its contents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) location: Location,
    #[serde(flatten)]
    pub(crate) counted: Counted,
}

const SUPERSEDED: &str = ".superseded.";

impl Record {
    pub(crate) fn new<'s>(run: &Payload, superseded: impl Iterator<Item = (&'s Superseded, Option<&'s Slot>)>) -> Self {
        let target = |slot: &Slot| Target { location: slot.location.clone(), counted: slot.counted };
        let partitions = superseded.map(|(s, to)| Replaced { superseded: s.clone(), to: to.map(target) }).collect();
        Self {
            database: run.database.clone(),
            table: run.table.clone(),
            run: run.run.clone(),
            token: run.token.clone(),
            partitions,
        }
    }

    /// The token of the run that wrote it.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The new target of a partition that was at `from`.
    pub(crate) fn target(&self, values: &[String], from: &Location) -> Option<&Target> {
        let replaced = self.partitions.iter().find(|r| r.superseded.values == values)?;
        replaced.to.as_ref().filter(|_| is_same(&replaced.superseded.location, from))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    pub(crate) async fn write(&self, stores: &Stores, base: &Location, run: &str, chunk: usize) -> Result<()> {
        let location = base.join(VERSIONS).join(format!("{run}{SUPERSEDED}{chunk}.json"));
        let text = self.encode()?;
        let (store, path) = open(stores, &location)?;
        store.objects.put(&path, text.into()).await.map_err(|e| Error::from(e).with("file", location))?;
        Ok(())
    }

    fn encode(&self) -> Result<Bytes> {
        let text = serde_json::to_vec(&RECORD.versioned(self));
        text.map(Bytes::from)
            .map_err(|e| Error::unexpected("a record of what is superseded cannot be written").because(e))
    }

    /// Decodes the output of [`Record::encode`], or of an earlier version.
    fn decode(bytes: &[u8]) -> Result<Self> {
        RECORD.check(bytes)?;
        serde_json::from_slice(bytes)
            .map_err(|e| Error::unexpected("a record of what is superseded does not parse").because(e))
    }

    /// Reads the record at a location, unless it is gone.
    async fn read(stores: &Stores, location: &Location) -> Result<Option<Self>> {
        let (store, path) = open(stores, location)?;
        let bytes = match store.objects.get(&path).await {
            Ok(found) => found.bytes().await,
            Err(e) => Err(e),
        };
        match bytes {
            Ok(bytes) => Self::decode(&bytes).map(Some).map_err(|e| e.with("file", location)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::from(e).with("file", location)),
        }
    }
}

/// Lists the files of partitions that are going to be superseded.
pub(crate) async fn list_superseded(
    stores: &Stores,
    wanted: &FileFilter,
    partitions: &[Partition],
) -> Result<HashMap<Vec<String>, Superseded>> {
    let placed = partitions.iter().filter_map(|p| Some((p.values.clone(), p.storage.location.clone()?)));
    let listed = futures::stream::iter(placed.collect::<Vec<_>>()).map(|(values, location)| async move {
        let (_, root) = open(stores, &location)?;
        let files = wanted_files(stores, &location, wanted).await?;
        let relative = |meta: &ObjectMeta| {
            let parts: Vec<_> = meta.location.prefix_match(&root)?.map(|p| p.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        let files = files.iter().filter_map(relative).collect();
        Ok::<_, Error>((values.clone(), Superseded { values, location, files }))
    });
    listed.buffer_unordered(CONCURRENCY).try_collect().await
}

fn is_record(name: &str) -> bool {
    name.contains(SUPERSEDED) && name.ends_with(".json")
}

/// Checks that a record that a commit asks to remove belongs to this table.
pub(crate) fn check_record(record: &Location, base: &Location) -> Result<()> {
    let is_ours = |name: &str| is_record(name) && base.join(VERSIONS).contains(record);
    match record.resolve()?.path.filename().is_some_and(is_ours) {
        true => Ok(()),
        false => Err(Error::unexpected("a commit asks to remove files that no record of its table names")
            .with("record", record)
            .with("location of the table", base)),
    }
}

/// The records of what was superseded longer ago than the grace period.
pub(crate) async fn expired(
    stores: &Stores,
    base: &Location,
    grace: TimeDelta,
    now: DateTime<Utc>,
) -> Result<Vec<Location>> {
    let (store, path) = open(stores, &base.join(VERSIONS))?;
    let listed = store.objects.list_with_delimiter(Some(&path)).await?;
    let is_old =
        |meta: &&ObjectMeta| meta.location.filename().is_some_and(is_record) && meta.last_modified + grace <= now;
    let mut expired: Vec<Location> =
        listed.objects.iter().filter(is_old).map(|meta| Location::of(&store.url, &meta.location)).collect();
    expired.sort();
    Ok(expired)
}

/// The records of the last minutes, by the store's clock.
pub(crate) async fn recent(stores: &Stores, base: &Location) -> Result<Vec<Record>> {
    let (store, path) = open(stores, &base.join(VERSIONS))?;
    let mut listed = store.objects.list_with_delimiter(Some(&path)).await?.objects;
    listed.retain(|meta| meta.location.filename().is_some_and(is_record));
    let Some(newest) = listed.iter().map(|meta| meta.last_modified).max() else { return Ok(Vec::new()) };
    let mut records = Vec::new();
    for meta in listed.iter().filter(|meta| meta.last_modified + RECENTLY >= newest) {
        records.extend(Record::read(stores, &Location::of(&store.url, &meta.location)).await?);
    }
    Ok(records)
}

/// Removes the files that a record of a table names, and the record. Files that readers of the catalog see are kept (the
/// run may have died between the record and the update of the catalog), and the record with them. Returns what was removed.
///
/// The table is that in whose folder the record is. It may have had another name when the record was written, which may be
/// that of another table now.
pub(crate) async fn remove(
    catalog: &dyn Catalog,
    stores: &Stores,
    table: &TableDescription,
    location: &Location,
    dry_run: bool,
) -> Result<Vec<Location>> {
    let Some(record) = Record::read(stores, location).await? else { return Ok(Vec::new()) };
    let values: Vec<Vec<String>> = record.partitions.iter().map(|r| r.superseded.values.clone()).collect();
    let present = present(catalog, table, &values).await?;
    let (mut removed, mut kept, mut versions) = (Vec::new(), false, BTreeSet::new());
    for Replaced { superseded, .. } in &record.partitions {
        let (store, folder) = open(stores, &superseded.location)?;
        let now = present.get(&superseded.values).map(|l| open(stores, l)).transpose()?;
        let is_seen = |path: &Path| now.as_ref().is_some_and(|(s, now)| s.url == store.url && is_visible(path, now));
        kept |= is_seen(&folder);
        let paths = superseded.files.iter().map(|file| in_folder(&folder, file));
        let mut paths = paths.collect::<Result<Vec<Path>>>()?;
        paths.retain(|path| !is_seen(path));
        removed.extend(paths.iter().map(|path| Location::of(&store.url, path)));
        if !dry_run {
            delete(&store, paths).await?;
            versions.extend(version_of(&folder).map(|version| Location::of(&store.url, &version)));
        }
    }
    if dry_run {
        return Ok(removed);
    }
    fault::hit("table.remove.between")?;
    for version in versions {
        let (store, path) = open(stores, &version)?;
        store.staging.prune(&path).await?;
    }
    if !kept {
        let (store, path) = open(stores, location)?;
        delete(&store, vec![path]).await?;
    }
    Ok(removed)
}

/// The version's folder around a folder. Only there are empty folders removed: elsewhere somebody may be about to write
/// into one.
fn version_of(folder: &Path) -> Option<Path> {
    let parts: Vec<_> = folder.parts().collect();
    let at = parts.iter().rposition(|part| part.as_ref() == VERSIONS)?;
    (at + 1 < parts.len()).then(|| parts[..at + 2].iter().cloned().collect())
}

/// The path as it was listed: escapes in it are not escaped again.
fn in_folder(folder: &Path, relative: &str) -> Result<Path> {
    Path::parse(format!("{folder}/{relative}")).map_err(|e| Error::from(object_store::Error::from(e)))
}

/// The current locations of these partitions. (A table without keys is one partition without values.)
async fn present(
    catalog: &dyn Catalog,
    table: &TableDescription,
    values: &[Vec<String>],
) -> Result<HashMap<Vec<String>, Location>> {
    if table.partition_keys.is_empty() {
        return Ok(HashMap::from([(Vec::new(), table.location()?.clone())]));
    }
    let found = catalog.get_partitions(table, values).await?;
    Ok(found.into_iter().filter_map(|p| Some((p.values, p.storage.location?))).collect())
}

/// Options of [`vacuum`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VacuumOptions {
    /// How long superseded files stay (one hour by default): as long as the longest query that may still read them.
    pub grace_period: TimeDelta,
    /// Only report what would be removed.
    pub dry_run: bool,
    /// Runs, by [`Run::version`](hardtack_core::Run::version), that have not ended: their files stay, however old.
    /// Other orphaned files are removed after a day; a run that wakes up after that notices it before it points to
    /// them.
    pub unfinished: HashSet<String>,
}

impl Default for VacuumOptions {
    fn default() -> Self {
        Self { grace_period: GRACE_PERIOD, dry_run: false, unfinished: HashSet::new() }
    }
}

/// What [`vacuum`] has removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// The files, sorted.
    pub files: Vec<Location>,
}

/// Removes the files of a table that rebuilt partitions have left behind, after the grace period: those that a later
/// run would remove, and orphans of dead runs. Files that the catalog points to stay, and so does every file outside
/// the table's `_versions` that no run has recorded as superseded.
///
/// ```
/// # use std::sync::Arc;
/// # use hardtack_catalog::{Catalog, CatalogHandle, Database, EmbeddedCatalog, TableFormat};
/// # use hardtack_core::JobContext;
/// use hardtack_tables::{Table, VacuumOptions, vacuum};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> hardtack_core::Result<()> {
/// # let catalog = EmbeddedCatalog::in_memory();
/// # catalog.create_database(&Database::new("lake")).await?;
/// # catalog.create_table(&hardtack_catalog::TableDescription::new("lake", "books", &TableFormat::Parquet, "memory:/books")).await?;
/// # let ctx = JobContext::builder("job").extension(Arc::new(CatalogHandle::new(Arc::new(catalog)))).build()?;
/// let left = vacuum(&ctx, &Table::named("lake", "books"), &VacuumOptions::default()).await?;
/// assert!(left.files.is_empty());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for an Iceberg table, and for one whose swap with another has not ended; errors of
/// the catalog and the store. Removals up to then are kept; vacuuming again continues.
pub async fn vacuum(ctx: &JobContext, table: &Table, options: &VacuumOptions) -> Result<Vacuumed> {
    let catalog = ctx.catalog().await?;
    let description = catalog.get_table(table.database(), table.table()).await?;
    check_not_iceberg(&description, "`hardtack iceberg expire` and `remove-orphans` remove files of Iceberg tables")?;
    // Until it ends, the other table has the same folder, and may have moved on in it.
    description.check_no_unfinished_swap()?;
    let base = base_of(&description)?;
    let mut files = Vec::new();
    for record in expired(ctx.stores(), &base, options.grace_period, ctx.now()).await? {
        files.extend(remove(catalog.as_ref(), ctx.stores(), &description, &record, options.dry_run).await?);
    }
    files.extend(remove_orphans(ctx, catalog.as_ref(), &description, &base, options).await?);
    files.sort();
    files.dedup();
    Ok(Vacuumed { files })
}

/// Removes files of versions that are neither pointed to nor named in a record.
async fn remove_orphans(
    ctx: &JobContext,
    catalog: &dyn Catalog,
    table: &TableDescription,
    base: &Location,
    options: &VacuumOptions,
) -> Result<Vec<Location>> {
    let root = base.join(VERSIONS);
    let (store, path) = open(ctx.stores(), &root)?;
    let all: Vec<ObjectMeta> = store.objects.list(Some(&path)).try_collect().await?;
    let (mut kept, mut records) = (HashSet::new(), Vec::new());
    for meta in &all {
        if meta.location.filename().is_some_and(is_record)
            && meta.location.prefix_match(&path).is_some_and(|p| p.count() == 1)
        {
            records.push(Location::of(&store.url, &meta.location));
        }
    }
    for location in &records {
        // The files that a record names are removed with it, and its target may be pointed to at any moment.
        let Some(record) = Record::read(ctx.stores(), location).await? else { continue };
        for Replaced { superseded, to } in record.partitions {
            kept.insert(open(ctx.stores(), &superseded.location)?.1);
            kept.extend(to.map(|to| open(ctx.stores(), &to.location)).transpose()?.map(|(_, path)| path));
        }
    }
    // The files were listed earlier, so the partitions listed now include everything that points to them.
    let mut pages = catalog.list_partitions(table, &Predicate::all());
    kept.insert(open(ctx.stores(), table.location()?)?.1);
    while let Some(page) = pages.try_next().await? {
        for location in page.iter().filter_map(|partition| partition.storage.location.as_ref()) {
            kept.insert(open(ctx.stores(), location)?.1);
        }
    }
    let age = options.grace_period.max(ORPHAN_AGE);
    let is_orphan = |meta: &&ObjectMeta| {
        let Some(inside) = meta.location.prefix_match(&path) else { return false };
        let names: Vec<String> = inside.map(|part| part.as_ref().to_owned()).collect();
        let is_known = names.len() == 1 || options.unfinished.contains(&names[0]);
        !is_known && meta.last_modified + age <= ctx.now() && !ancestors(&meta.location).any(|f| kept.contains(&f))
    };
    let orphans: Vec<Path> = all.iter().filter(is_orphan).map(|meta| meta.location.clone()).collect();
    let versions: BTreeSet<Path> = orphans.iter().filter_map(version_of).collect();
    let files = orphans.iter().map(|path| Location::of(&store.url, path)).collect();
    if !options.dry_run {
        delete(&store, orphans).await?;
        for version in versions {
            store.staging.prune(&version).await?;
        }
    }
    Ok(files)
}

/// The folders around a file, up to the version's.
fn ancestors(file: &Path) -> impl Iterator<Item = Path> {
    let parts: Vec<_> = file.parts().collect();
    let at = parts.iter().rposition(|part| part.as_ref() == VERSIONS).unwrap_or(parts.len());
    (at + 1..parts.len()).rev().map(move |end| parts[..end].iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use hardtack_core::ErrorKind;

    use super::*;

    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let old = include_str!("../tests/golden/format-0/superseded.json");
        let new = include_str!("../tests/golden/format-1/superseded.json");
        let record = Record::decode(old.as_bytes()).unwrap();
        assert_eq!(record, Record::decode(new.as_bytes()).unwrap());
        assert_eq!(
            (serde_json::to_string(&record).unwrap().as_str(), record.encode().unwrap()),
            (old, Bytes::from(new))
        );
        let from = "/tmp/golden/tables/raw/books/_versions/r1-1a08e1e5".into();
        assert_eq!(record.target(&[], &from).unwrap().counted, Counted { rows: 6, bytes: 1123 });
    }

    #[test]
    fn what_a_newer_version_has_written_is_refused() {
        let error = Record::decode(br#"{"format": 2}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        insta::assert_snapshot!(error, @"a record of what is superseded has format 2, and this version reads formats up to 1 (hint: upgrade hardtack: a newer version has written the record)");
    }
}
