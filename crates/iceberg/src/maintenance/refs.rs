//! Branches and tags: named, published, dropped; `main` goes back.

use std::collections::HashMap;

use hardtack_core::{Error, ErrorKind, Result};
use iceberg::spec::{MAIN_BRANCH, SnapshotRef, SnapshotReference, SnapshotRetention};
use iceberg::{TableRequirement, TableUpdate};

use super::IcebergMaintenance;
use crate::catalog::Loaded;
use crate::evolution::{self, Published};
use crate::sink::{BASE_SCHEMA, MODE, STAGED};
use crate::snapshot::{Draft, Mode, ancestors, is_ancestor, redraft};
use crate::version::{Ref, Version, move_main, refs};

/// The property of a snapshot with the person who has published it, and why.
const PUBLISHED_BY: &str = "hardtack.published-by";
const REASON: &str = "hardtack.reason";

impl IcebergMaintenance {
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
        if !matches!(Version::named(name), Version::Ref(_)) {
            return Err(Error::usage(
                "a branch or tag of this name could not be read: it is that of a snapshot or a moment",
            )
            .with("name", name)
            .hint("put a letter first: `v1`, `end-of-2026`"));
        }
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
            // The snapshot of one run has what it was staged on; if `main` was taken back from there, that must not come again.
            let of_run = staged.summary().additional_properties.contains_key(MODE);
            let fast = main.is_none_or(|main| match of_run {
                true => staged.parent_snapshot_id() == Some(main.snapshot_id()),
                false => is_ancestor(table, main.snapshot_id(), head),
            });
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
                let draft = redraft(table, staged, mode, (schema, schema_id)).await?;
                let base = staged.parent_snapshot_id();
                if mode == Mode::OverwriteTouched && !draft.replaced().are_same(table, base, main).await? {
                    return Err(Error::conflict(
                        "others have changed partitions that this branch replaces: it was merged with earlier rows",
                    )
                    .with("table", name)
                    .with("branch", branch)
                    .hint("run the job again, and drop the branch"));
                }
                (draft, main)
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
                Error::usage("`main` can only go back to a snapshot on which its current one is based")
                    .with("table", table.qualified_name())
                    .hint("those follow from `parent_id` in `hardtack iceberg snapshots`; to undo a rollback, begin a branch at \
                           the snapshot and publish that")
            })?;
            let requirement =
                TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.to_owned(), snapshot_id: Some(before) };
            let update = move_main(table, id)?;
            if self.commit(&mut attempts, vec![requirement], vec![update]).await? {
                return Ok(id);
            }
        }
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

/// The branch or tag of this name.
///
/// # Errors
/// Usage if there is none.
pub(super) fn existing(table: &Loaded, name: &str) -> Result<Ref> {
    match refs(table)?.into_iter().find(|r| r.name == name) {
        Some(found) => Ok(found),
        // The error names those that there are.
        None => {
            Version::Ref(name.to_owned()).of(table)?;
            Err(Error::unexpected("a branch or tag has no snapshot").with("name", name))
        }
    }
}

/// The head of a branch; `None` for `main` of a table without a snapshot.
pub(super) fn head(table: &Loaded, branch: &str) -> Result<Option<SnapshotRef>> {
    if branch == MAIN_BRANCH {
        return Ok(table.metadata().snapshot_for_ref(MAIN_BRANCH).cloned());
    }
    if !existing(table, branch)?.reference.is_branch() {
        return Err(Error::usage("a tag has no files of its own: it names what was")
            .with("table", table.qualified_name())
            .with("name", branch));
    }
    Ok(table.metadata().snapshot_for_ref(branch).cloned())
}
