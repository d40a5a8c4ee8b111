//! Care for a table, by a person: branches, tags, publishing what was refused, going back, expiry, orphans.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_catalog::CatalogOf;
use hardtack_core::{Environment, Error, ErrorKind, Location, Result, Stores};
use iceberg::spec::{MAIN_BRANCH, SnapshotRef, SnapshotReference, SnapshotRetention};
use iceberg::{TableRequirement, TableUpdate};

use crate::catalog::{Attempts, Change, IcebergCatalog, Loaded, Pointers};
use crate::error::failed;
use crate::evolution::{self, Published};
use crate::inspect;
use crate::sink::{BASE_SCHEMA, MODE, STAGED, catalog_of};
use crate::snapshot::{Draft, Mode, ancestors, is_ancestor, manifests_of, redraft};
use crate::version::{Ref, Version, move_main, refs};

/// How many files are read or removed concurrently.
const CONCURRENCY: usize = 32;

/// The property of a snapshot with the person who has published it, and why.
const PUBLISHED_BY: &str = "hardtack.published-by";
const REASON: &str = "hardtack.reason";

/// An Iceberg table that a person takes care of. Each change is one commit; with [`dry_run`](Self::dry_run) none is made.
///
/// ```no_run
/// # async fn example(ctx: &hardtack_core::JobContext) -> hardtack_core::Result<()> {
/// use hardtack_iceberg::{ExpireOptions, IcebergMaintenance};
///
/// let people = IcebergMaintenance::open(ctx, "lake", "people", ctx.now()).await?;
/// people.tag("end_of_2026", None).await?;
/// people.expire(ExpireOptions { retain_last: Some(10), ..Default::default() }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct IcebergMaintenance {
    catalog: Pointers,
    stores: Arc<Stores>,
    database: String,
    table: String,
    now: DateTime<Utc>,
    dry_run: bool,
}

/// What expiry has removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Snapshots.
    pub snapshots: Vec<i64>,
    /// Branches and tags that were older than they may get.
    pub refs: Vec<String>,
    /// Files that only those snapshots needed.
    pub files: Vec<Location>,
}

/// How expiry decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpireOptions {
    /// Expires snapshots that are older, unless the branch has a limit of its own; by default the table's property
    /// `history.expire.max-snapshot-age-ms`, or five days.
    pub older_than: Option<TimeDelta>,
    /// Keeps at least so many snapshots of each branch that has no number of its own; by default the table's property
    /// `history.expire.min-snapshots-to-keep`, or 1.
    pub retain_last: Option<usize>,
}

impl IcebergMaintenance {
    /// The table of this name in the run's catalog.
    ///
    /// # Errors
    /// [`NotFound`](hardtack_core::ErrorKind::NotFound) if there is none, [`Usage`](hardtack_core::ErrorKind::Usage) if it
    /// is not an Iceberg table.
    pub async fn open(env: &Environment, database: &str, table: &str, now: DateTime<Utc>) -> Result<Self> {
        env.catalog_handle()?;
        let catalog = catalog_of(env).await?;
        let loaded = catalog.load(database, table).await?;
        let (database, table) = (loaded.database().to_owned(), loaded.name().to_owned());
        Ok(Self { catalog, stores: env.shared_stores(), database, table, now, dry_run: false })
    }

    /// Finds out what would be done, and does nothing.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    async fn load(&self) -> Result<Loaded> {
        self.catalog.load(&self.database, &self.table).await
    }

    /// One of the [metadata tables](crate::opened): `snapshots`, `history`, `refs`, `manifests`, `files`, `partitions`.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for any other name.
    pub async fn metadata(&self, name: &str) -> Result<RecordBatch> {
        inspect::metadata(&self.load().await?, name).await
    }

    async fn attempts(&self) -> Result<Attempts<'_>> {
        Ok(Attempts::new(&self.catalog, self.load().await?))
    }

    /// Commits a change, unless this is a dry run. Says whether that is all.
    async fn commit(
        &self,
        attempts: &mut Attempts<'_>,
        requirements: Vec<TableRequirement>,
        updates: Vec<TableUpdate>,
    ) -> Result<bool> {
        Ok(self.dry_run || attempts.commit(Change { requirements, updates }).await?.is_some())
    }

    /// Gives a version the name of a new tag, or moves a tag to it. A version is the id of a snapshot, a moment, or a branch
    /// or tag; `None` is the current one.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if there is no such version, or the name is that of a branch.
    pub async fn tag(&self, name: &str, version: Option<&str>) -> Result<i64> {
        self.set_ref(name, version, SnapshotRetention::Tag { max_ref_age_ms: None }).await
    }

    /// Begins a new branch at a version.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag); a branch that is there is not moved.
    pub async fn branch(&self, name: &str, version: Option<&str>) -> Result<i64> {
        self.set_ref(name, version, SnapshotRetention::branch(None, None, None)).await
    }

    async fn set_ref(&self, name: &str, version: Option<&str>, retention: SnapshotRetention) -> Result<i64> {
        let version = version.map_or(Version::Current, Version::named);
        let is_tag = matches!(retention, SnapshotRetention::Tag { .. });
        let mut attempts = self.attempts().await?;
        loop {
            let table = attempts.table();
            let snapshot = version
                .of(table)?
                .ok_or_else(|| Error::usage("the table has no snapshot yet").with("table", table.qualified_name()))?;
            let there = refs(table)?.into_iter().find(|r| r.name == name);
            if let Some(there) = &there
                && (!is_tag || there.reference.is_branch())
            {
                return Err(Error::usage("the table has a branch or tag of this name")
                    .with("table", table.qualified_name())
                    .with("name", name)
                    .hint("choose another name, or drop it: `hardtack iceberg drop-branch`"));
            }
            let id = snapshot.snapshot_id();
            let before = there.map(|r| r.reference.snapshot_id);
            let requirement = TableRequirement::RefSnapshotIdMatch { r#ref: name.to_owned(), snapshot_id: before };
            let reference = SnapshotReference::new(id, retention.clone());
            let update = TableUpdate::SetSnapshotRef { ref_name: name.to_owned(), reference };
            if self.commit(&mut attempts, vec![requirement], vec![update]).await? {
                return Ok(id);
            }
        }
    }

    /// Drops a branch or tag. What only it has goes with the next [expiry](Self::expire).
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if there is none of this name, and for `main`.
    pub async fn drop_ref(&self, name: &str) -> Result<i64> {
        let mut attempts = self.attempts().await?;
        loop {
            let table = attempts.table();
            let there = existing(table, name)?;
            if name == MAIN_BRANCH {
                return Err(Error::usage("the branch `main` is the table; it cannot be dropped")
                    .with("table", table.qualified_name()));
            }
            let id = there.reference.snapshot_id;
            let requirement = TableRequirement::RefSnapshotIdMatch { r#ref: name.to_owned(), snapshot_id: Some(id) };
            let update = TableUpdate::RemoveSnapshotRef { ref_name: name.to_owned() };
            if self.commit(&mut attempts, vec![requirement], vec![update]).await? {
                return Ok(id);
            }
        }
    }

    /// Publishes a branch after a person has looked at it: `main` gets what the branch has more, as one more snapshot that
    /// says who has decided so, and why; the branch is dropped. Returns the snapshot's id.
    ///
    /// If others have committed to `main` since the branch began, a branch of one snapshot, such as a run leaves, is
    /// applied to what is there now; a longer one is a conflict.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if there is no such branch,
    /// [`Conflict`](hardtack_core::ErrorKind::Conflict) if it cannot be applied.
    pub async fn publish(&self, branch: &str, who: &str, why: &str) -> Result<i64> {
        let mut attempts = self.attempts().await?;
        loop {
            let table = attempts.table();
            let there = existing(table, branch)?;
            let name = table.qualified_name();
            if branch == MAIN_BRANCH || !there.reference.is_branch() {
                return Err(Error::usage("only a branch other than `main` can be published").with("table", name));
            }
            let (metadata, head) = (table.metadata(), there.reference.snapshot_id);
            let main = metadata.snapshot_for_ref(MAIN_BRANCH);
            let staged = metadata.snapshot_by_id(head);
            let staged =
                staged.ok_or_else(|| Error::unexpected("the branch has no snapshot").with("branch", branch))?;
            if main.is_some_and(|main| has(table, main.snapshot_id(), staged)) {
                return Err(Error::usage("`main` has what is on this branch")
                    .with("table", name)
                    .with("branch", branch)
                    .hint("drop it: `hardtack iceberg drop-branch`"));
            }
            let fast = main.is_none_or(|main| is_ancestor(table, main.snapshot_id(), head));
            let now = self.now.timestamp_millis();
            let mut remove = Vec::new();
            let columns = columns(table, staged)?;
            let (schema, schema_id) = (&columns.schema, columns.schema_id);
            let (mut draft, parent) = if fast {
                let spec = metadata.default_partition_spec_id();
                let draft = Draft::new(table, Mode::Append, spec, Vec::new(), HashMap::new());
                (draft.with_schema(schema, schema_id), Some(staged))
            } else {
                let forked = main.is_some_and(|main| {
                    let base = staged.parent_snapshot_id();
                    base.is_none_or(|base| is_ancestor(table, base, main.snapshot_id()))
                });
                let mode = staged.summary().additional_properties.get(MODE).and_then(|mode| Mode::parse(mode));
                let Some(mode) = mode.filter(|_| forked) else {
                    return Err(Error::conflict(
                        "others have committed to `main` since the branch began, and it is not of one run",
                    )
                    .with("table", name)
                    .with("branch", branch)
                    .hint("write its rows again, on the head of `main`"));
                };
                remove.push(TableUpdate::RemoveSnapshots { snapshot_ids: vec![head] });
                (redraft(table, staged, mode, (schema, schema_id)).await?, main)
            };
            draft.set(PUBLISHED_BY, who.to_owned());
            draft.set(REASON, why.to_owned());
            if self.dry_run {
                return Ok(draft.id);
            }
            let snapshot = draft.produce(table, parent, now).await?;
            let main = main.map(|main| main.snapshot_id());
            let moved = move_main(table, snapshot.snapshot_id())?;
            let mut updates = columns.updates;
            updates.extend([
                TableUpdate::AddSnapshot { snapshot },
                moved,
                TableUpdate::RemoveSnapshotRef { ref_name: branch.to_owned() },
            ]);
            updates.append(&mut remove);
            let requirements = vec![
                TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.to_owned(), snapshot_id: main },
                TableRequirement::RefSnapshotIdMatch { r#ref: branch.to_owned(), snapshot_id: Some(head) },
            ];
            let id = draft.id;
            if self.commit(&mut attempts, requirements, updates).await? {
                return Ok(id);
            }
        }
    }

    /// Moves `main` back to an earlier snapshot of its own. Later ones stay until they expire. Returns the snapshot's id.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if there is no such version, or it is not an ancestor of `main`.
    pub async fn rollback(&self, version: &str) -> Result<i64> {
        let version = Version::named(version);
        let mut attempts = self.attempts().await?;
        loop {
            let table = attempts.table();
            let main = existing(table, MAIN_BRANCH)?;
            let before = main.reference.snapshot_id;
            let target = version.of(table)?.map(|snapshot| snapshot.snapshot_id());
            let id = target.filter(|id| is_ancestor(table, *id, before)).ok_or_else(|| {
                Error::usage("`main` can only go back to a snapshot that it had")
                    .with("table", table.qualified_name())
                    .hint("`hardtack iceberg snapshots` lists them")
            })?;
            let requirement =
                TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.to_owned(), snapshot_id: Some(before) };
            let update = move_main(table, id)?;
            if self.commit(&mut attempts, vec![requirement], vec![update]).await? {
                return Ok(id);
            }
        }
    }

    /// Removes snapshots that no branch or tag needs any more, and the files that only they needed. The heads of all
    /// branches stay, those of runs in progress among them.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a property of the table that is not a number. If files could not be
    /// removed, they are [orphans](Self::remove_orphans).
    pub async fn expire(&self, options: ExpireOptions) -> Result<Expired> {
        let mut attempts = self.attempts().await?;
        let (last, mut expired) = loop {
            let table = attempts.table().clone();
            let expired = self.expirable(&table, options)?;
            if expired.snapshots.is_empty() && expired.refs.is_empty() {
                return Ok(expired);
            }
            let refs = expired.refs.iter().map(|name| TableUpdate::RemoveSnapshotRef { ref_name: name.clone() });
            let snapshots = TableUpdate::RemoveSnapshots { snapshot_ids: expired.snapshots.clone() };
            if self.commit(&mut attempts, Vec::new(), refs.chain([snapshots]).collect()).await? {
                break (table, expired);
            }
        };
        let after = self.load().await?;
        let gone: HashSet<i64> = expired.snapshots.iter().copied().collect();
        let gone: Vec<&SnapshotRef> =
            last.metadata().snapshots().filter(|snapshot| gone.contains(&snapshot.snapshot_id())).collect();
        let mut files = BTreeSet::new();
        for snapshot in &gone {
            files.extend(reachable(&last, &[snapshot]).await?);
        }
        // In a dry run nothing has gone.
        let stay: Vec<&SnapshotRef> =
            after.metadata().snapshots().filter(|s| gone.iter().all(|g| g.snapshot_id() != s.snapshot_id())).collect();
        let needed = reachable(&after, &stay).await?;
        files.retain(|file| !needed.contains(file));
        expired.files = files.into_iter().map(Location::from).collect();
        if !self.dry_run {
            self.remove(&after, &expired.files).await?;
        }
        Ok(expired)
    }

    fn expirable(&self, table: &Loaded, options: ExpireOptions) -> Result<Expired> {
        let number = |key: &str| match table.metadata().properties().get(key) {
            Some(text) => text.parse::<i64>().map(Some).map_err(|_| {
                Error::usage(format!("the table's property `{key}` is `{text}`, which is not a number"))
                    .with("table", table.qualified_name())
            }),
            None => Ok(None),
        };
        let days = TimeDelta::days(5).num_milliseconds();
        let age = match options.older_than {
            Some(age) => age.num_milliseconds(),
            None => number("history.expire.max-snapshot-age-ms")?.unwrap_or(days),
        };
        let keep = match options.retain_last {
            Some(count) => count,
            None => number("history.expire.min-snapshots-to-keep")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        };
        let ref_age = number("history.expire.max-ref-age-ms")?.unwrap_or(i64::MAX);
        let now = self.now.timestamp_millis();
        let (mut kept, mut gone) = (HashSet::new(), Vec::new());
        for Ref { name, reference } in refs(table)? {
            let head = table.metadata().snapshot_by_id(reference.snapshot_id);
            let old = |limit: Option<i64>| head.is_some_and(|s| now - s.timestamp_ms() > limit.unwrap_or(ref_age));
            match reference.retention {
                SnapshotRetention::Tag { max_ref_age_ms } | SnapshotRetention::Branch { max_ref_age_ms, .. }
                    if name != MAIN_BRANCH && old(max_ref_age_ms) =>
                {
                    gone.push(name);
                }
                SnapshotRetention::Tag { .. } => _ = kept.insert(reference.snapshot_id),
                SnapshotRetention::Branch { min_snapshots_to_keep, max_snapshot_age_ms, .. } => {
                    let keep = min_snapshots_to_keep.and_then(|n| usize::try_from(n).ok()).unwrap_or(keep).max(1);
                    let age = max_snapshot_age_ms.unwrap_or(age);
                    let young = |s: &SnapshotRef| now - s.timestamp_ms() <= age;
                    let of_branch = ancestors(table, reference.snapshot_id).enumerate();
                    kept.extend(of_branch.take_while(|(n, s)| *n < keep || young(s)).map(|(_, s)| s.snapshot_id()));
                }
            }
        }
        // What no branch has may be a commit in progress of another tool.
        let expires = |s: &&SnapshotRef| !kept.contains(&s.snapshot_id()) && now - s.timestamp_ms() > age;
        let mut snapshots: Vec<i64> = table.metadata().snapshots().filter(expires).map(|s| s.snapshot_id()).collect();
        snapshots.sort_unstable();
        Ok(Expired { snapshots, refs: gone, files: Vec::new() })
    }

    /// Removes files in the table's folders `data` and `metadata` that no snapshot refers to, if they are older than
    /// `older_than`: what runs that were killed have left, and expiry. A run writes files before it refers to them, so
    /// they must be older than the longest run. Data files of `unfinished` runs, by their [versions](hardtack_core::Run::version),
    /// stay in any case.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for less than a day.
    pub async fn remove_orphans(&self, older_than: TimeDelta, unfinished: &HashSet<String>) -> Result<Vec<Location>> {
        if older_than < TimeDelta::days(1) {
            return Err(Error::usage(
                "files of runs in progress would be lost: name a longer time than a run can take",
            )
            .with("older than", older_than)
            .hint("at least a day"));
        }
        // Listed first: what is referred to later was not there, or is referred to now.
        let table = self.load().await?;
        let mut found = Vec::new();
        for folder in ["data", "metadata"] {
            let (store, path) = self.stores.open(&table.location().join(folder))?;
            let listed: Vec<_> = store.objects.list(Some(&path)).try_collect().await.map_err(Error::from)?;
            let old = listed.into_iter().filter(|meta| self.now - meta.last_modified > older_than);
            found.extend(old.map(|meta| Location::of(&store.url, &meta.location)));
        }
        let table = self.load().await?;
        let all: Vec<&SnapshotRef> = table.metadata().snapshots().collect();
        let mut needed = reachable(&table, &all).await?;
        needed.insert(absolute(table.metadata_location()));
        needed.extend(table.metadata().metadata_log().iter().map(|entry| absolute(&entry.metadata_file)));
        needed.extend(table.metadata().statistics_iter().map(|file| absolute(&file.statistics_path)));
        needed.extend(table.metadata().partition_statistics_iter().map(|file| absolute(&file.statistics_path)));
        let data = table.location().join("data");
        let data: Vec<Location> = unfinished.iter().map(|run| data.join(run)).collect();
        found.retain(|file| !data.iter().any(|run| run.contains(file)));
        // Other tools write locations in other ways (through a link, or with `%` in a name), and names of files are unique:
        // what has the name of a file that is needed stays.
        let name = |file: &str| file.rsplit('/').next().unwrap_or_default().to_owned();
        let names: HashSet<String> = needed.iter().map(|file| name(file)).collect();
        found.retain(|file| !needed.contains(file.as_str()) && !names.contains(&name(file.as_str())));
        found.retain(|file| name(file.as_str()) != "version-hint.text");
        if !self.dry_run {
            self.remove(&table, &found).await?;
        }
        Ok(found)
    }

    async fn remove(&self, table: &Loaded, files: &[Location]) -> Result<()> {
        let remove =
            files.iter().map(|file| async move { table.file_io().delete(file.as_str()).await.map_err(failed) });
        stream::iter(remove).buffer_unordered(CONCURRENCY).try_collect().await
    }
}

/// Whether a snapshot is, or is of, what was staged, or one of its ancestors is.
fn has(table: &Loaded, head: i64, staged: &SnapshotRef) -> bool {
    let property = |s: &SnapshotRef| s.summary().additional_properties.get(STAGED).cloned();
    let id = property(staged);
    ancestors(table, head).any(|s| s.snapshot_id() == staged.snapshot_id() || (id.is_some() && property(s) == id))
}

/// The columns that `main` has with a staged snapshot. Only a run adds them to the branch alone; of the branch of another
/// tool they are those of the table already.
fn columns(table: &Loaded, staged: &SnapshotRef) -> Result<Published> {
    let metadata = table.metadata();
    let ours = staged.schema_id().unwrap_or(metadata.current_schema_id());
    let base = staged.summary().additional_properties.get(BASE_SCHEMA).and_then(|id| id.parse().ok());
    evolution::published(metadata, base.unwrap_or(ours), ours)?.ok_or_else(|| {
        Error::new(ErrorKind::Lost, "a schema that the run has added to the table is gone")
            .with("table", table.qualified_name())
            .with("schema", ours)
            .hint("run the job again, and drop the branch")
    })
}

fn existing(table: &Loaded, name: &str) -> Result<Ref> {
    match refs(table)?.into_iter().find(|r| r.name == name) {
        Some(found) => Ok(found),
        // The error names those that there are.
        None => {
            Version::Ref(name.to_owned()).of(table)?;
            Err(Error::unexpected("a branch or tag has no snapshot").with("name", name))
        }
    }
}

/// A location as [`Location::absolute`] writes it, whatever the scheme of another tool.
fn absolute(file: &str) -> String {
    let location = Location::from(file);
    location.absolute().unwrap_or(location).to_string()
}

/// The files that these snapshots consist of.
async fn reachable(table: &Loaded, snapshots: &[&SnapshotRef]) -> Result<HashSet<String>> {
    let (mut files, mut manifests) = (HashSet::new(), HashMap::new());
    for snapshot in snapshots {
        files.insert(absolute(snapshot.manifest_list()));
        for manifest in manifests_of(table, snapshot).await? {
            manifests.insert(manifest.manifest_path.clone(), manifest);
        }
    }
    let loading = manifests.into_values().map(|file| async move {
        let manifest = file.load_manifest(table.file_io()).await.map_err(failed)?;
        Ok::<_, Error>((file.manifest_path, manifest))
    });
    let mut loading = stream::iter(loading).buffer_unordered(CONCURRENCY);
    while let Some((path, manifest)) = loading.try_next().await? {
        files.insert(absolute(&path));
        files.extend(manifest.entries().iter().filter(|e| e.is_alive()).map(|entry| absolute(entry.file_path())));
    }
    Ok(files)
}
