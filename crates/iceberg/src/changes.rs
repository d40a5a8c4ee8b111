//! What has changed between two snapshots: the rows of files that came, and of those that went.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Result as DFResult, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{
    ColumnarValue, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::prelude::{DataFrame, Expr};
use futures::TryStreamExt;
use hardtack_core::bookmarks::{Advance, Advanced, End};
use hardtack_core::format::Format;
use hardtack_core::progress::{Part, Progress};
use hardtack_core::{Error, LoadContext, Result};
use hardtack_sources::IdFile;
use iceberg::spec::{DataFile, ManifestContentType, ManifestStatus, Operation, SnapshotRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::IcebergTable;
use crate::catalog::Loaded;
use crate::scan::IcebergScan;
use crate::snapshot::{ancestors, contents, manifests_of};
use crate::version::Version;

/// The column of [`IcebergTable::with_changes`] that says what has happened to a row: `insert` or `delete`.
pub const CHANGE_TYPE: &str = "_change_type";

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Since {
    /// With the first row.
    #[default]
    Beginning,
    /// After a snapshot.
    Snapshot(i64),
    /// After what the last run has read.
    Bookmark,
}

/// What is read of a table.
impl IcebergTable {
    /// Reads only the rows that were added after this snapshot, up to the version that is read: in files that came since.
    /// That a table was compacted meanwhile makes no difference.
    ///
    /// Rows that were removed since are an error, unless the job [asks for them](Self::with_changes).
    #[must_use]
    pub fn after_snapshot(mut self, id: i64) -> Self {
        self.since = Since::Snapshot(id);
        self
    }

    /// Reads only the rows that were added after what the last run of the job (and scope) has read; the first run reads all.
    /// The bookmark is the id of a snapshot, so a run reads the metadata of what is new, and not of the whole table.
    ///
    /// Rows that were removed since are an error, unless the job [asks for them](Self::with_changes).
    ///
    /// ```
    /// use hardtack_iceberg::IcebergTable;
    ///
    /// let orders = IcebergTable::named("lake", "orders").bookmarked();
    /// assert!(format!("{orders:?}").contains("since: Bookmark"));
    /// ```
    #[must_use]
    pub fn bookmarked(mut self) -> Self {
        self.since = Since::Bookmark;
        self
    }

    /// Reads rows that were removed as well, and adds the column `_change_type`: `insert` or `delete`.
    ///
    /// The rows before, with what is inserted and without what is deleted, are the rows after. A row of a file that was
    /// replaced is deleted and inserted, even if it is the same in the new file.
    #[must_use]
    pub fn with_changes(mut self) -> Self {
        self.changes = true;
        self
    }
}

/// The files that came and went between two snapshots.
#[derive(Debug, Default)]
struct Delta {
    /// Each with its partition spec, by path.
    added: BTreeMap<String, (DataFile, i32)>,
    /// The snapshots that had them last, by path.
    removed: BTreeMap<String, i64>,
}

impl Delta {
    /// The files between a snapshot and a later one, without those that compaction has replaced: it changes no rows.
    ///
    /// # Errors
    /// Usage if the first snapshot is no ancestor of the last one; Refused if rows of files that stay were deleted.
    async fn between(table: &Loaded, after: i64, to: &SnapshotRef) -> Result<Self> {
        let mut steps = Vec::new();
        let mut parent = Some(to.snapshot_id());
        for snapshot in ancestors(table, to.snapshot_id()).take_while(|s| s.snapshot_id() != after) {
            parent = snapshot.parent_snapshot_id();
            steps.push(snapshot);
        }
        // It may have expired itself.
        if parent != Some(after) {
            return Err(unconnected(table, after, to));
        }
        let mut delta = Self::default();
        for snapshot in steps.into_iter().rev().filter(|s| s.summary().operation != Operation::Replace) {
            delta.step(table, snapshot).await?;
        }
        Ok(delta)
    }

    async fn step(&mut self, table: &Loaded, snapshot: &SnapshotRef) -> Result<()> {
        let id = snapshot.snapshot_id();
        let mut own = manifests_of(table, snapshot).await?;
        own.retain(|file| file.added_snapshot_id == id);
        let mut loading = contents(table, own);
        while let Some((file, manifest)) = loading.try_next().await? {
            for entry in manifest.entries().iter().filter(|entry| entry.snapshot_id() == Some(id)) {
                let path = entry.file_path();
                match (entry.status(), file.content) {
                    (ManifestStatus::Existing, _) | (ManifestStatus::Deleted, ManifestContentType::Deletes) => {}
                    (ManifestStatus::Added, ManifestContentType::Deletes) => {
                        return Err(Error::refused("rows of files that stay were deleted (merge on read)")
                            .with("table", table.qualified_name())
                            .with("snapshot", id)
                            .hint("the metadata does not say which rows they are; read the whole table, or let the other engine rewrite the files (`write.delete.mode` = `copy-on-write`)"));
                    }
                    (ManifestStatus::Added, ManifestContentType::Data) => {
                        if self.removed.remove(path).is_none() {
                            self.added.insert(path.to_owned(), (entry.data_file().clone(), file.partition_spec_id));
                        }
                    }
                    (ManifestStatus::Deleted, ManifestContentType::Data) => {
                        if let (None, Some(parent)) = (self.added.remove(path), snapshot.parent_snapshot_id()) {
                            self.removed.insert(path.to_owned(), parent);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn unconnected(table: &Loaded, after: i64, to: &SnapshotRef) -> Error {
    let why = match table.metadata().snapshot_by_id(after) {
        Some(_) => {
            "the version that is read does not come after this snapshot: the table was rolled back, or it is another branch"
        }
        None => "what came after this snapshot is unknown: snapshots since then have expired",
    };
    Error::usage(why)
        .with("table", table.qualified_name())
        .with("snapshot", after)
        .with("version", to.snapshot_id())
        .hint("read everything (with a bookmark: `--job-bookmark-option job-bookmark-disable`), and set where to go on with `hardtack bookmark set`")
}

// --- reading -------------------------------------------------------------------------------------------------------

impl IcebergTable {
    /// The rows that have changed since this.
    pub(crate) async fn changed_rows(&self, ctx: &LoadContext, table: Loaded) -> Result<DataFrame> {
        let (after, to) = self.range(ctx, &table)?;
        let schema = self.version.schema(&table)?;
        if self.changes && schema.field_by_name(CHANGE_TYPE).is_some() {
            return Err(Error::usage("the table has a column of its own with the name that says what has changed")
                .with("table", table.qualified_name())
                .with("column", CHANGE_TYPE)
                .hint("rename it, or read without `.with_changes()`"));
        }
        // With the columns of the version, whatever is read.
        let current = IcebergScan::new(table.clone(), to.clone(), Arc::clone(&schema), ctx.meter())?;
        let mut changes = Vec::new();
        match (&to, after) {
            (None, _) => {}
            (Some(to), Some(after)) if after == to.snapshot_id() => drop(self.follow(ctx, &table, to, [])?),
            // Not by its history, which may have expired.
            (Some(to), None) => {
                let files = current.files().await?;
                let parts = self.follow(ctx, &table, to, files.values().copied())?;
                let parts = files.into_keys().zip(parts).collect();
                changes.push((INSERT, Arc::new(current.clone().only(parts)) as Arc<dyn TableProvider>));
            }
            (Some(to), Some(after)) => {
                let delta = Delta::between(&table, after, to).await?;
                if let (false, Some((file, _))) = (self.changes, delta.removed.first_key_value()) {
                    return Err(Error::refused("rows were removed since the last ones that were read")
                        .with("table", table.qualified_name())
                        .with("file", file)
                        .hint("`.with_changes()` reads them, in the column `_change_type`"));
                }
                changes = self.delta(ctx, &table, &current, to, delta).await?;
            }
        }
        if changes.is_empty() {
            changes.push((INSERT, Arc::new(current.only(HashMap::new()))));
        }
        let name = TableReference::partial(self.database(), self.table());
        let mut all: Option<LogicalPlanBuilder> = None;
        for (change, rows) in changes {
            let plan = LogicalPlanBuilder::scan(name.clone(), provider_as_source(rows), None)?;
            let plan = match self.changes {
                true => {
                    let columns = plan.schema().columns().into_iter().map(Expr::Column);
                    let columns: Vec<Expr> = columns.chain([change_type(change)]).collect();
                    plan.project(columns)?.alias(name.clone())?
                }
                false => plan,
            };
            all = Some(match all {
                Some(all) => all.union(plan.build()?)?,
                None => plan,
            });
        }
        let all = all.ok_or_else(|| Error::unexpected("there is no plan"))?;
        Ok(DataFrame::new(ctx.session().state(), all.build()?))
    }

    /// What is read: after a snapshot, up to another one.
    fn range(&self, ctx: &LoadContext, table: &Loaded) -> Result<(Option<i64>, Option<SnapshotRef>)> {
        let to = self.version.of(table)?;
        let bookmark = match self.since {
            Since::Beginning => return Ok((None, to)),
            Since::Snapshot(id) => return Ok((Some(id), to)),
            Since::Bookmark => ctx.bookmark(),
        };
        if !matches!(self.version, Version::Current | Version::Ref(_)) {
            return Err(Error::usage("a snapshot or moment does not move, so it has no bookmark")
                .with("table", table.qualified_name())
                .hint("read the table, or a branch of it"));
        }
        let position = |value: &Value| Position::read(value)?.of(table, ctx.resets_moved_bookmark());
        let after = bookmark.map(position).transpose()?.flatten();
        let to = match ctx.bookmark_end() {
            End::Open => to,
            End::Nothing => None,
            End::At(until) => match position(until)? {
                Some(id) => Version::Snapshot(id).of(table)?,
                None => None,
            },
        };
        Ok((after, to))
    }

    /// Scans of the files that came and went.
    async fn delta(
        &self,
        ctx: &LoadContext,
        table: &Loaded,
        current: &IcebergScan,
        to: &SnapshotRef,
        delta: Delta,
    ) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>> {
        let mut scans: Vec<(&'static str, Arc<dyn TableProvider>)> = Vec::new();
        let mut removed: BTreeMap<i64, HashSet<String>> = BTreeMap::new();
        for (path, snapshot) in delta.removed {
            removed.entry(snapshot).or_default().insert(path);
        }
        let mut before = Vec::new();
        for (snapshot, paths) in removed {
            // As they were read then, without rows that had been deleted before.
            let there = table.metadata().snapshot_by_id(snapshot).cloned();
            let snapshot = Some(there.ok_or_else(|| unconnected(table, snapshot, to))?);
            let scan = IcebergScan::new(table.clone(), snapshot, Arc::clone(current.columns()), ctx.meter())?;
            let sizes = scan.files().await?.into_iter().filter(|(path, _)| paths.contains(path));
            before.push((scan, sizes.collect::<BTreeMap<String, u64>>()));
        }
        let sizes = delta.added.values().map(|(file, _)| file.file_size_in_bytes());
        let sizes: Vec<u64> = sizes.chain(before.iter().flat_map(|(_, files)| files.values().copied())).collect();
        let mut parts = self.follow(ctx, table, to, sizes)?.into_iter();
        let added = delta.added.into_values().map(|(file, spec)| {
            let mut read = current.whole(&file, spec)?;
            read.part = parts.next().flatten();
            Ok(read)
        });
        let added: Vec<IdFile> = added.collect::<Result<_>>()?;
        if !added.is_empty() {
            scans.push((INSERT, current.by_id().clone().table(added)));
        }
        for (scan, files) in before {
            let files = files.into_keys().map(|path| (path, parts.next().flatten())).collect();
            scans.push((DELETE, Arc::new(scan.only(files))));
        }
        Ok(scans)
    }

    /// Moves the bookmark to a snapshot if files of these sizes are read. Each gets its part, if there is a bookmark.
    fn follow(
        &self,
        ctx: &LoadContext,
        table: &Loaded,
        to: &SnapshotRef,
        sizes: impl IntoIterator<Item = u64>,
    ) -> Result<Vec<Option<Part>>> {
        let sizes: Vec<u64> = sizes.into_iter().collect();
        if self.since != Since::Bookmark {
            return Ok(vec![None; sizes.len()]);
        }
        let position = Position::at(table, to).write()?;
        let progress = Progress::new(sizes);
        let parts = progress.parts().into_iter().map(Some).collect();
        ctx.advance_bookmark_when_read(Arc::new(Reading { position, progress }))?;
        Ok(parts)
    }
}

/// The column that says what has happened to a row: not a constant to the optimizer, which would leave out what a filter on
/// it excludes, so that the run would not have read all and the bookmark would stay.
fn change_type(change: &'static str) -> Expr {
    let signature = Signature::nullary(Volatility::Volatile);
    ScalarUDF::new_from_impl(ChangeType { change, signature }).call(vec![]).alias(CHANGE_TYPE)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ChangeType {
    change: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for ChangeType {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "iceberg_change_type"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DFResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DFResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DFResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::from(self.change)))
    }
}

const INSERT: &str = "insert";
const DELETE: &str = "delete";

// --- bookmarks -----------------------------------------------------------------------------------------------------

const FORMAT: Format = Format::new("bookmark", 1);

/// The snapshot up to which a table was read, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Position {
    /// The table, for people.
    location: String,
    by: By,
    /// The id of the snapshot: a text, because JSON has no numbers of 64 bits.
    through: String,
    /// The table's id; without one, any table of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<Uuid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Snapshot,
}

impl Position {
    fn at(table: &Loaded, snapshot: &SnapshotRef) -> Self {
        Self {
            location: table.qualified_name(),
            by: By::Snapshot,
            through: snapshot.snapshot_id().to_string(),
            table: Some(table.metadata().uuid()),
        }
    }

    /// # Errors
    /// Refused if the value is not a position.
    fn read(value: &Value) -> Result<Self> {
        let example = r#"expected a position such as `{"format": 1, "location": "lake.orders", "by": "snapshot", "through": "5781947118336215154"}`; `hardtack bookmark` can set it"#;
        let refused = || Error::refused("the bookmark is not the position of an Iceberg table").hint(example);
        if FORMAT.check_value(value).map_err(|e| if value.is_object() { e } else { refused() })? == 0 {
            return Err(refused());
        }
        serde_json::from_value(value.clone()).map_err(|e| refused().because(e))
    }

    fn write(&self) -> Result<Value> {
        serde_json::to_value(FORMAT.versioned(self))
            .map_err(|e| Error::unexpected("a bookmark cannot be written").because(e))
    }

    /// The snapshot; none if it is of another table, and the bookmark begins again then.
    fn of(self, table: &Loaded, reset_moved: bool) -> Result<Option<i64>> {
        let hint = "start it from its beginning with `--job-bookmark-reset-moved`, or set its position with `hardtack bookmark set`";
        let same_name = self.location == table.qualified_name();
        if !same_name || self.table.is_some_and(|id| id != table.metadata().uuid()) {
            if reset_moved {
                return Ok(None);
            }
            let why = match same_name {
                true => "the bookmark of this source is of an earlier table of this name, which was dropped",
                false => "the bookmark of this source is of another table",
            };
            return Err(Error::usage(why)
                .with("bookmark", self.location)
                .with("source reads", table.qualified_name())
                .hint(hint));
        }
        let id = self.through.parse().map_err(|_| {
            Error::refused("the bookmark does not name a snapshot").with("through", &self.through).hint(hint)
        })?;
        Ok(Some(id))
    }
}

/// A table that is being read.
#[derive(Debug)]
struct Reading {
    position: Value,
    progress: Arc<Progress>,
}

impl Advance for Reading {
    fn advance(&self) -> Advanced {
        match self.progress.done() {
            (done, all) if done == all => Advanced::To(self.position.clone()),
            (done, all) => Advanced::Held(format!("only {done} of {all} files were read to their ends")),
        }
    }
}
