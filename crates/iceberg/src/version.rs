//! Versions of a table: which of its snapshots is read.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use hardtack_core::{Error, Result, moment, nearest};
use iceberg::spec::{MAIN_BRANCH, Snapshot, SnapshotRef, SnapshotReference, SnapshotRetention};
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;

use crate::IcebergTable;
use crate::catalog::{Change, Loaded};

/// Which snapshot of a table is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Version {
    /// What `main` has.
    #[default]
    Current,
    /// The snapshot of this id.
    Snapshot(i64),
    /// The head of a branch, or a tag.
    Ref(String),
    /// What `main` had at this moment.
    AsOf(DateTime<Utc>),
}

/// Which rows are read.
impl IcebergTable {
    /// Reads the snapshot of this id.
    #[must_use]
    pub fn snapshot(mut self, id: i64) -> Self {
        self.version = Version::Snapshot(id);
        self
    }

    /// Reads the head of a branch, for example one that an audit has refused.
    #[must_use]
    pub fn branch(mut self, name: impl Into<String>) -> Self {
        self.version = Version::Ref(name.into());
        self
    }

    /// Reads the snapshot that has this tag.
    #[must_use]
    pub fn tag(self, name: impl Into<String>) -> Self {
        self.branch(name)
    }

    /// Reads what was published at this moment.
    #[must_use]
    pub fn as_of(mut self, moment: DateTime<Utc>) -> Self {
        self.version = Version::AsOf(moment);
        self
    }
}

impl Version {
    /// The version that a text names: the id of a snapshot, a moment (`2026-11-29T12:00:00Z`, or a date: its beginning in
    /// UTC), or else a branch or tag.
    pub(crate) fn named(text: &str) -> Self {
        if let Ok(id) = text.parse() {
            return Self::Snapshot(id);
        }
        match moment(text) {
            Ok(moment) => Self::AsOf(moment),
            Err(_) => Self::Ref(text.to_owned()),
        }
    }

    /// The snapshot; `None` for the current one of a table without any.
    ///
    /// # Errors
    /// Usage if there is no such version, with those that there are.
    pub(crate) fn of(&self, table: &Loaded) -> Result<Option<SnapshotRef>> {
        let metadata = table.metadata();
        let found = match self {
            Self::Current => return Ok(metadata.snapshot_for_ref(MAIN_BRANCH).cloned()),
            Self::Snapshot(id) => metadata.snapshot_by_id(*id),
            Self::Ref(name) => metadata.snapshot_for_ref(name),
            // Only moves of `main` are in the log, with the time at which they happened.
            Self::AsOf(moment) => {
                let before = |time: i64| time <= moment.timestamp_millis();
                let entry = metadata.history().iter().rev().find(|entry| before(entry.timestamp_ms()));
                entry.and_then(|entry| metadata.snapshot_by_id(entry.snapshot_id))
            }
        };
        found.cloned().map(Some).ok_or_else(|| self.missing(table))
    }

    fn missing(&self, table: &Loaded) -> Error {
        let metadata = table.metadata();
        let error = match self {
            Self::Current => Error::unexpected("the table has no current snapshot"),
            Self::Snapshot(id) => Error::usage("the table has no snapshot of this id").with("snapshot", id),
            Self::Ref(name) => {
                let names: Vec<String> = refs(table).unwrap_or_default().into_iter().map(|r| r.name).collect();
                let error = Error::usage("the table has no branch or tag of this name").with("name", name);
                let is_like_a_moment =
                    name.get(..10).is_some_and(|day| NaiveDate::parse_from_str(day, "%Y-%m-%d").is_ok());
                match nearest(name, names.iter().map(String::as_str)) {
                    Some(near) => error.with("did you mean", near),
                    None if is_like_a_moment => {
                        return error
                            .with("table", table.qualified_name())
                            .hint("a moment has a zone: `2026-11-29T12:00:00Z`, or `...+01:00`");
                    }
                    None => error.with("branches and tags", names.join(", ")),
                }
            }
            Self::AsOf(moment) => {
                let error = Error::usage("nothing was published at this moment, or it has expired")
                    .with("moment", moment.to_rfc3339());
                match metadata.history().first().and_then(|entry| DateTime::from_timestamp_millis(entry.timestamp_ms()))
                {
                    Some(first) => error.with("first published", first.to_rfc3339()),
                    None => error,
                }
            }
        };
        error.with("table", table.qualified_name()).hint("`hardtack iceberg snapshots` and `refs` list what there is")
    }
}

/// A branch or a tag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ref {
    pub(crate) name: String,
    pub(crate) reference: SnapshotReference,
}

/// The branches and tags of a table, by name, `main` first.
pub(crate) fn refs(table: &Loaded) -> Result<Vec<Ref>> {
    // The crate does not list them.
    let unreadable = |e: serde_json::Error| Error::unexpected("the metadata does not parse").because(e);
    let metadata = serde_json::to_value(table.metadata().as_ref()).map_err(unreadable)?;
    let all = metadata.get("refs").cloned().unwrap_or_default();
    let all: BTreeMap<String, SnapshotReference> = Option::deserialize(all).map_err(unreadable)?.unwrap_or_default();
    let mut refs: Vec<Ref> = all.into_iter().map(|(name, reference)| Ref { name, reference }).collect();
    refs.sort_by_key(|r| (r.name != MAIN_BRANCH, r.name.clone()));
    Ok(refs)
}

/// The update by which `main` has this snapshot. How long it keeps earlier ones stays as it is.
pub(crate) fn move_main(table: &Loaded, snapshot: i64) -> Result<TableUpdate> {
    move_branch(table, MAIN_BRANCH, snapshot)
}

/// The update by which a branch has this snapshot. How long it keeps earlier ones stays as it is.
pub(crate) fn move_branch(table: &Loaded, branch: &str, snapshot: i64) -> Result<TableUpdate> {
    let there = refs(table)?.into_iter().find(|r| r.name == branch);
    let retention = there.map_or_else(|| SnapshotRetention::branch(None, None, None), |r| r.reference.retention);
    let reference = SnapshotReference::new(snapshot, retention);
    Ok(TableUpdate::SetSnapshotRef { ref_name: branch.to_owned(), reference })
}

impl Change {
    /// Adds a snapshot to a branch whose head and schema are still these.
    pub(crate) fn on_branch(table: &Loaded, branch: &str, head: &SnapshotRef, snapshot: Snapshot) -> Result<Self> {
        let metadata = table.metadata();
        let moved = move_branch(table, branch, snapshot.snapshot_id())?;
        Ok(Self {
            requirements: vec![
                TableRequirement::UuidMatch { uuid: metadata.uuid() },
                TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
                TableRequirement::RefSnapshotIdMatch {
                    r#ref: branch.to_owned(),
                    snapshot_id: Some(head.snapshot_id()),
                },
            ],
            updates: vec![TableUpdate::AddSnapshot { snapshot }, moved],
        })
    }
}
