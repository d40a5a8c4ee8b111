//! Publishes what runs have staged: moves `main` to it, in one step.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_catalog::{CatalogHandle, CatalogOf};
use hardtack_core::format::Format;
use hardtack_core::publish::Publisher;
use hardtack_core::{Error, ErrorKind, JobContext, Location, Result, Stores, fault};
use iceberg::spec::{MAIN_BRANCH, ManifestFile, ManifestStatus, Operation, SnapshotRef};
use iceberg::{TableRequirement, TableUpdate};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::{Attempts, Change, IcebergCatalog, Loaded, tables_of};
use crate::error::failed;
use crate::evolution;
use crate::sink::{CREATED_BY, RUN, STAGED};
use crate::snapshot::{Mode, ancestors, manifests_of, redraft};
use crate::version::{Ref, move_main, refs};

/// The name under which [`register`] registers.
pub(crate) const PUBLISHER: &str = "iceberg";

/// The format of what is recorded.
const STEP: Format = Format::new("step of an Iceberg table", 1);

/// How many files are looked at concurrently.
const LOOKS: usize = 64;

/// Registers the publisher of Iceberg tables, if the context has a catalog. The runtime calls it before it recovers a
/// commit.
pub fn register(ctx: &JobContext) {
    if let Ok(catalog) = ctx.catalog_handle() {
        ctx.publishers().register(PUBLISHER, Arc::new(IcebergPublisher { catalog, stores: ctx.shared_stores() }));
    }
}

/// What a run has staged on a branch, as its commit records it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Publish {
    /// The identity of the catalog.
    pub(crate) catalog: String,
    pub(crate) database: String,
    pub(crate) table: String,
    /// The table's, which a table that is created later under the name does not have.
    pub(crate) uuid: Uuid,
    /// The run's version.
    pub(crate) run: String,
    pub(crate) branch: String,
    /// The snapshot on the branch.
    pub(crate) snapshot: i64,
    /// The head of `main` on which it was staged.
    pub(crate) base: Option<i64>,
    pub(crate) mode: Mode,
    /// The current schema then, and that of the snapshot.
    pub(crate) base_schema: i32,
    pub(crate) schema: i32,
    pub(crate) rows: u64,
}

/// How to discard what a run has staged for a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Discard {
    pub(crate) catalog: String,
    pub(crate) database: String,
    pub(crate) table: String,
    /// The run's version.
    pub(crate) run: String,
}

impl Publish {
    pub(crate) fn to_json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(STEP.versioned(self))
            .map_err(|e| Error::unexpected("a step of an Iceberg table cannot be written").because(e))
    }

    fn parse(payload: &serde_json::Value) -> Result<Self> {
        STEP.check_value(payload)?;
        Self::deserialize(payload)
            .map_err(|e| Error::unexpected("a step of an Iceberg table does not parse").because(e))
    }

    fn qualified_name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    /// Fails if `main` is not where it was when this was staged.
    ///
    /// # Errors
    /// Conflict.
    pub(crate) fn check_base(&self, table: &Loaded) -> Result<()> {
        let metadata = table.metadata();
        let now = metadata.snapshot_for_ref(MAIN_BRANCH).map(|snapshot| snapshot.snapshot_id());
        // A snapshot that only rewrites files has the rows of its parent.
        let mut same = now;
        while same != self.base
            && let Some(snapshot) = same.and_then(|id| metadata.snapshot_by_id(id))
            && snapshot.summary().operation == Operation::Replace
        {
            same = snapshot.parent_snapshot_id();
        }
        if same == self.base {
            return Ok(());
        }
        let show = |id: Option<i64>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        Err(Error::conflict("others have committed to the table since this run began to write, and it is strict")
            .with("table", self.qualified_name())
            .with("snapshot then", show(self.base))
            .with("snapshot now", show(now))
            .hint("run the job again"))
    }

    /// Whether a snapshot is what was staged, or was produced of it.
    fn is(&self, snapshot: &SnapshotRef) -> bool {
        let id = self.snapshot.to_string();
        let staged = || snapshot.summary().additional_properties.get(STAGED) == Some(&id);
        snapshot.snapshot_id() == self.snapshot || staged()
    }

    /// Whether `main` contains it.
    fn is_published(&self, table: &Loaded) -> bool {
        let head = table.metadata().snapshot_for_ref(MAIN_BRANCH);
        head.is_some_and(|head| ancestors(table, head.snapshot_id()).any(|snapshot| self.is(snapshot)))
    }

    /// What was staged, while it is not published.
    ///
    /// # Errors
    /// Lost if it is gone.
    fn staged<'t>(&self, table: &'t Loaded) -> Result<&'t SnapshotRef> {
        self.check_table(table)?;
        table.metadata().snapshot_by_id(self.snapshot).ok_or_else(|| {
            self.lost("the snapshot that the run has staged is gone")
                .with("snapshot", self.snapshot)
                .with("branch", &self.branch)
        })
    }

    fn check_table(&self, table: &Loaded) -> Result<()> {
        if table.metadata().uuid() == self.uuid {
            return Ok(());
        }
        let lost =
            self.lost("the table was dropped or swapped after the run had written to it, and another one has its name");
        Err(lost.hint(
            "if two tables were swapped, swap them back and run `hardtack recover`; or leave the rows out with `hardtack \
             recover --skip-missing`, and run the job again",
        ))
    }

    fn lost(&self, what: &str) -> Error {
        Error::new(ErrorKind::Lost, what)
            .with("table", self.qualified_name())
            .hint("`hardtack recover --skip-missing` leaves it out; then run the job again")
    }

    /// The change that publishes it on the table as it is, or nothing if that has happened.
    async fn change(&self, table: &Loaded) -> Result<Option<Change>> {
        self.check_table(table)?;
        let metadata = table.metadata();
        let is_there = metadata.snapshot_for_ref(&self.branch).is_some_and(|head| head.snapshot_id() == self.snapshot);
        let drop_branch = TableUpdate::RemoveSnapshotRef { ref_name: self.branch.clone() };
        if self.is_published(table) {
            return Ok(is_there.then(|| Change { requirements: Vec::new(), updates: vec![drop_branch] }));
        }
        let staged = match self.staged(table) {
            // Its snapshot has expired since, with later ones on top of it.
            Err(_) if self.has_files(table).await? => return Ok(None),
            staged => staged?,
        };
        let main = metadata.snapshot_for_ref(MAIN_BRANCH).map(|head| head.snapshot_id());
        let mut head = self.snapshot;
        let columns = evolution::published(metadata, self.base_schema, self.schema)?.ok_or_else(|| {
            self.lost("a schema that the run has added to the table is gone").with("schema", self.schema)
        })?;
        let mut updates = columns.updates;
        // A head from which `main` was taken back since must not come again with what was staged on it.
        if main.is_some_and(|main| staged.parent_snapshot_id() != Some(main)) {
            let schema = (&columns.schema, columns.schema_id);
            let mut draft = redraft(table, staged, self.mode, schema).await?;
            let now = chrono::Utc::now().timestamp_millis();
            let snapshot = draft.produce(table, metadata.snapshot_for_ref(MAIN_BRANCH), now).await?;
            head = snapshot.snapshot_id();
            updates.push(TableUpdate::AddSnapshot { snapshot });
        }
        updates.push(move_main(table, head)?);
        if is_there {
            updates.push(drop_branch);
        }
        if head != self.snapshot {
            updates.push(TableUpdate::RemoveSnapshots { snapshot_ids: vec![self.snapshot] });
        }
        let requirements = vec![
            TableRequirement::UuidMatch { uuid: self.uuid },
            TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.to_owned(), snapshot_id: main },
        ];
        Ok(Some(Change { requirements, updates }))
    }

    /// Whether `main` has files of the run.
    async fn has_files(&self, table: &Loaded) -> Result<bool> {
        let Some(main) = table.metadata().snapshot_for_ref(MAIN_BRANCH) else { return Ok(false) };
        let folder = data_folder(table, &self.run);
        for file in manifests_of(table, main).await? {
            if files_in(table, file, &folder).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks that the files of what was staged are there, each with its size.
    async fn verify(&self, table: &Loaded, stores: &Stores) -> Result<()> {
        self.check_table(table)?;
        if self.is_published(table) {
            return Ok(());
        }
        let staged = match self.staged(table) {
            Err(_) if self.has_files(table).await? => return Ok(()),
            staged => staged?,
        };
        for file in manifests_of(table, staged).await? {
            if file.added_snapshot_id != self.snapshot {
                continue;
            }
            let manifest = file.load_manifest(table.file_io()).await.map_err(failed)?;
            let mut added = Vec::new();
            for entry in manifest.entries() {
                // Those that it has of merged manifests were there before.
                if entry.status() == ManifestStatus::Added {
                    let (file, bytes) = (entry.data_file().file_path(), entry.data_file().file_size_in_bytes());
                    added.push(self.verify_file(stores, Location::from(file), bytes));
                }
            }
            stream::iter(added).buffer_unordered(LOOKS).try_collect::<()>().await?;
        }
        Ok(())
    }

    async fn verify_file(&self, stores: &Stores, file: Location, bytes: u64) -> Result<()> {
        let (store, path) = stores.open(&file)?;
        match store.objects.head(&path).await {
            Ok(meta) if meta.size == bytes => Ok(()),
            Ok(meta) => {
                let what = format!("a file that the run has written has {} bytes, and {bytes} were written", meta.size);
                Err(self.lost(&what).with("file", file))
            }
            Err(object_store::Error::NotFound { .. }) => {
                Err(self.lost("a file that the run has written is gone").with("file", file))
            }
            Err(e) => Err(Error::from(e).with("file", file)),
        }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.qualified_name();
        write!(f, "the table {table} does not get {} rows; they stay on the branch `{}`", self.rows, self.branch)
    }
}

impl Discard {
    pub(crate) fn to_json(&self) -> Result<String> {
        serde_json::to_string(&STEP.versioned(self))
            .map_err(|e| Error::unexpected("a note about an Iceberg table cannot be written").because(e))
    }

    fn parse(payload: &str) -> Result<Self> {
        let wrong = |e: serde_json::Error| Error::unexpected("a note about an Iceberg table does not parse").because(e);
        let value: serde_json::Value = serde_json::from_str(payload).map_err(wrong)?;
        STEP.check_value(&value)?;
        Self::deserialize(&value).map_err(wrong)
    }

    /// The run's branch; further ones have numbers after it.
    pub(crate) fn branch(&self) -> String {
        format!("{BRANCH}{}", self.run)
    }

    fn is_branch(&self, name: &str) -> bool {
        is_branch_of(name, &self.run)
    }

    /// The folder of the run's data files.
    pub(crate) fn data_folder(&self, table: &Loaded) -> Location {
        data_folder(table, &self.run)
    }

    /// Whether anything but the run's own branches refers to its files: a person has published them, or given them another
    /// name.
    async fn is_used(&self, table: &Loaded) -> Result<bool> {
        let own: HashSet<i64> = self.branches(table)?.iter().map(|branch| branch.reference.snapshot_id).collect();
        let others: Vec<i64> =
            refs(table)?.iter().filter(|r| !self.is_branch(&r.name)).map(|r| r.reference.snapshot_id).collect();
        let mut named = HashSet::new();
        for head in &others {
            named.extend(ancestors(table, *head).map(|snapshot| snapshot.snapshot_id()));
        }
        let is_ours = |s: &SnapshotRef| s.summary().additional_properties.get(RUN) == Some(&self.run);
        let is_other = |id: i64| !own.contains(&id) || named.contains(&id);
        if table.metadata().snapshots().any(|s| is_ours(s) && is_other(s.snapshot_id())) {
            return Ok(true);
        }
        // That snapshot may have expired, and the files be part of later ones.
        let folder = self.data_folder(table);
        let mut manifests: HashMap<String, ManifestFile> = HashMap::new();
        for snapshot in others.iter().filter_map(|head| table.metadata().snapshot_by_id(*head)) {
            let of_head = manifests_of(table, snapshot).await?.into_iter();
            manifests.extend(of_head.map(|file| (file.manifest_path.clone(), file)));
        }
        for file in manifests.into_values() {
            if files_in(table, file, &folder).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there are data files of the run.
    async fn has_written(&self, table: &Loaded, stores: &Stores) -> Result<bool> {
        let (store, path) = stores.open(&self.data_folder(table))?;
        Ok(store.objects.list(Some(&path)).try_next().await.map_err(Error::from)?.is_some())
    }

    fn branches(&self, table: &Loaded) -> Result<Vec<Ref>> {
        Ok(refs(table)?.into_iter().filter(|r| self.is_branch(&r.name)).collect())
    }

    /// Drops the run's branches with their snapshots, then its files, and the table if the run has created it and nobody
    /// else uses it.
    async fn discard(&self, catalog: &dyn IcebergCatalog, stores: &Stores) -> Result<()> {
        let Some(table) = catalog.find(&self.database, &self.table).await? else { return Ok(()) };
        fault::hit("iceberg.discard.before")?;
        let mut manifests = Vec::new();
        let mut attempts = Attempts::new(catalog, table);
        let table = loop {
            let table = attempts.table();
            // Nothing to be looked at: it was discarded before, as what has lost is again and again for a day.
            let nothing = self.branches(table)?.is_empty() && !self.has_written(table, stores).await?;
            if !nothing && self.is_used(table).await? {
                tracing::warn!(
                    table = table.qualified_name(),
                    run = self.run,
                    "files of a run that has failed are in use, and stay"
                );
                return Ok(());
            }
            let branches = self.branches(table)?;
            if branches.is_empty() {
                break table.clone();
            }
            let snapshots: Vec<i64> = branches.iter().map(|branch| branch.reference.snapshot_id).collect();
            manifests.clear();
            for id in &snapshots {
                let Some(snapshot) = table.metadata().snapshot_by_id(*id) else { continue };
                manifests.push(snapshot.manifest_list().to_owned());
                let own = manifests_of(table, snapshot).await?.into_iter().filter(|file| file.added_snapshot_id == *id);
                manifests.extend(own.map(|file| file.manifest_path));
            }
            let drop = branches.into_iter().map(|branch| TableUpdate::RemoveSnapshotRef { ref_name: branch.name });
            let updates = drop.chain([TableUpdate::RemoveSnapshots { snapshot_ids: snapshots }]).collect();
            if let Some(table) = attempts.commit(Change { requirements: Vec::new(), updates }).await? {
                break table;
            }
        };
        fault::hit("iceberg.discard.dropped")?;
        for file in manifests {
            table.file_io().delete(file.as_str()).await.map_err(failed)?;
        }
        // Only this run writes there.
        table.file_io().delete_prefix(self.data_folder(&table).as_str()).await.map_err(failed)?;
        let is_ours = table.metadata().properties().get(CREATED_BY) == Some(&self.run);
        if is_ours && table.metadata().snapshots().len() == 0 && catalog.drop_unchanged(&table).await? {
            // These and no others: the table may be created again at this moment.
            let earlier = table.metadata().metadata_log().iter().map(|entry| entry.metadata_file.as_str());
            for file in earlier.chain([table.metadata_location()]) {
                table.file_io().delete(file).await.map_err(failed)?;
            }
        }
        fault::hit("iceberg.discard.after")
    }
}

/// What the names of the branches of runs begin with.
const BRANCH: &str = "hardtack_";

/// Whether a branch is one of this run, by its [version](hardtack_core::Run::version).
pub(crate) fn is_branch_of(branch: &str, run: &str) -> bool {
    let number = branch.strip_prefix(BRANCH).and_then(|rest| rest.strip_prefix(run));
    number.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('_').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The folder of a run's data files.
fn data_folder(table: &Loaded, run: &str) -> Location {
    table.location().join("data").join(run)
}

/// Whether a manifest has live files in a folder of the table.
async fn files_in(table: &Loaded, file: ManifestFile, folder: &Location) -> Result<bool> {
    let manifest = file.load_manifest(table.file_io()).await.map_err(failed)?;
    let mut live = manifest.entries().iter().filter(|entry| entry.is_alive());
    Ok(live.any(|entry| folder.contains(&Location::from(entry.file_path()))))
}

impl Discard {
    /// The run's branches, and how to look at them.
    async fn kept(&self, catalog: &dyn IcebergCatalog) -> Result<Option<String>> {
        let Some(table) = catalog.find(&self.database, &self.table).await? else { return Ok(None) };
        let branches = self.branches(&table)?.into_iter().map(|r| {
            format!(
                "the branch `{branch}` of {table}; look at it with `select * from {database}.\"{name}@{branch}\"`, then \
                 `hardtack iceberg publish {table} --branch {branch} --reason WHY` or `drop-branch`",
                branch = r.name,
                table = table.qualified_name(),
                database = self.database,
                name = self.table,
            )
        });
        let branches: Vec<String> = branches.collect();
        Ok((!branches.is_empty()).then(|| branches.join("; ")))
    }
}

#[derive(Debug)]
struct IcebergPublisher {
    catalog: Arc<CatalogHandle>,
    stores: Arc<Stores>,
}

impl IcebergPublisher {
    /// Opens the catalog, if it is the one that the run used.
    async fn open(&self, used: &str, table: String) -> Result<Arc<dyn IcebergCatalog>> {
        if self.catalog.identity() != used {
            return Err(Error::usage("this run has saved to a table of another catalog")
                .with("table", table)
                .with("catalog of the run", used)
                .with("catalog here", self.catalog.identity())
                .hint("name the catalog of the run with --catalog"));
        }
        Ok(tables_of(self.catalog.open().await?, Arc::clone(&self.stores)))
    }
}

#[async_trait]
impl Publisher for IcebergPublisher {
    fn describe(&self, payload: &serde_json::Value) -> Option<String> {
        Some(Publish::parse(payload).ok()?.to_string())
    }

    async fn verify(&self, payload: &serde_json::Value) -> Result<()> {
        let step = Publish::parse(payload)?;
        let catalog = self.open(&step.catalog, step.qualified_name()).await?;
        let table = catalog.find(&step.database, &step.table).await?.ok_or_else(|| step.lost("the table is gone"))?;
        step.verify(&table, &self.stores).await
    }

    async fn publish(&self, payload: &serde_json::Value) -> Result<()> {
        let step = Publish::parse(payload)?;
        let catalog = self.open(&step.catalog, step.qualified_name()).await?;
        fault::hit("iceberg.publish.before")?;
        let table = catalog.load(&step.database, &step.table).await?;
        let named = |e: Error| if e.get("table").is_none() { e.with("table", step.qualified_name()) } else { e };
        let mut attempts = Attempts::new(catalog.as_ref(), table);
        while let Some(change) = step.change(attempts.table()).await.map_err(named)? {
            if attempts.commit(change).await.map_err(named)?.is_some() {
                break;
            }
        }
        fault::hit("iceberg.publish.after")
    }

    /// The branch of the run stays.
    async fn keep(&self, payload: &str) -> Result<Option<String>> {
        let step = Discard::parse(payload)?;
        let catalog = self.open(&step.catalog, format!("{}.{}", step.database, step.table)).await?;
        step.kept(catalog.as_ref()).await
    }

    async fn discard(&self, payload: &str) -> Result<()> {
        let step = Discard::parse(payload)?;
        let table = format!("{}.{}", step.database, step.table);
        let catalog = self.open(&step.catalog, table.clone()).await?;
        step.discard(catalog.as_ref(), &self.stores)
            .await
            .map_err(|e| if e.get("table").is_none() { e.with("table", table) } else { e })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn golden(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// Commits and notes outlive the version of hardtack that wrote them.
    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let publish = golden(include_str!("../tests/golden/format-1/publish.json"));
        let step = Publish::parse(&publish).unwrap();
        assert_eq!((step.mode, step.base, step.to_json().unwrap()), (Mode::OverwritePartitions, Some(42), publish));
        let discard = golden(include_str!("../tests/golden/format-1/discard.json"));
        let note = Discard::parse(&discard.to_string()).unwrap();
        assert_eq!(golden(&note.to_json().unwrap()), discard);
        assert!(note.is_branch(&step.branch));
    }

    #[test]
    fn what_a_newer_version_has_written_is_refused() {
        let newer = serde_json::json!({ "format": 2 });
        let step = Publish::parse(&newer).unwrap_err();
        let note = Discard::parse(&newer.to_string()).unwrap_err();
        assert_eq!(
            (step.kind(), note.kind(), note.to_string()),
            (ErrorKind::Usage, ErrorKind::Usage, step.to_string())
        );
        insta::assert_snapshot!(step, @"a step of an Iceberg table has format 2, and this version reads formats up to 1 (hint: upgrade hardtack: a newer version has written the record)");
    }
}
