//! Expiry, and orphans.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::{Error, Location, Result};
use iceberg::TableUpdate;
use iceberg::spec::{MAIN_BRANCH, ManifestFile, SnapshotRef, SnapshotRetention};

use super::{CONCURRENCY, IcebergMaintenance};
use crate::catalog::{Loaded, metadata_folder};
use crate::error::failed;
use crate::snapshot::{ancestors, contents, manifests_of};
use crate::version::{Ref, refs};

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
        // In a dry run nothing has gone.
        let stay: Vec<&SnapshotRef> =
            after.metadata().snapshots().filter(|s| !expired.snapshots.contains(&s.snapshot_id())).collect();
        let (mut went, kept) = (Manifests::of(&last, &gone).await?, Manifests::of(&after, &stay).await?);
        // What a manifest that stays has is needed in any case.
        went.files.retain(|path, _| !kept.files.contains_key(path));
        let (mut files, needed) = (went.reachable(&last).await?, kept.reachable(&after).await?);
        files.retain(|file| !needed.contains(file));
        let files: BTreeSet<String> = files.into_iter().collect();
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

    /// Removes files in the table's folders of data and metadata that no snapshot refers to, if they are older than
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
        for folder in [table.location().join("data"), Location::from(metadata_folder(table.metadata()))] {
            let (store, path) = self.stores.open(&folder)?;
            let listed: Vec<_> = store.objects.list(Some(&path)).try_collect().await.map_err(Error::from)?;
            let old = listed.into_iter().filter(|meta| self.now - meta.last_modified > older_than);
            found.extend(old.map(|meta| Location::of(&store.url, &meta.location)));
        }
        let table = self.load().await?;
        let all: Vec<&SnapshotRef> = table.metadata().snapshots().collect();
        let mut needed = Manifests::of(&table, &all).await?.reachable(&table).await?;
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

/// A location as [`Location::absolute`] writes it, whatever the scheme of another tool.
fn absolute(file: &str) -> String {
    let location = Location::from(file);
    location.absolute().unwrap_or(location).to_string()
}

/// The manifest lists of snapshots, and the manifests in them. Snapshots have most manifests in common, so each is read once.
struct Manifests {
    lists: HashSet<String>,
    /// By path.
    files: HashMap<String, ManifestFile>,
}

impl Manifests {
    async fn of(table: &Loaded, snapshots: &[&SnapshotRef]) -> Result<Self> {
        let lists = snapshots.iter().map(|snapshot| absolute(snapshot.manifest_list())).collect();
        let read = snapshots.iter().map(|snapshot| manifests_of(table, snapshot));
        let read: Vec<_> = stream::iter(read).buffer_unordered(CONCURRENCY).try_collect().await?;
        let files = read.into_iter().flatten().map(|manifest| (manifest.manifest_path.clone(), manifest)).collect();
        Ok(Self { lists, files })
    }

    /// These files, and those that are alive in the manifests.
    async fn reachable(self, table: &Loaded) -> Result<HashSet<String>> {
        let mut files = self.lists;
        let mut loading = contents(table, self.files.into_values().collect());
        while let Some((file, manifest)) = loading.try_next().await? {
            files.insert(absolute(&file.manifest_path));
            files.extend(manifest.entries().iter().filter(|e| e.is_alive()).map(|entry| absolute(entry.file_path())));
        }
        Ok(files)
    }
}
