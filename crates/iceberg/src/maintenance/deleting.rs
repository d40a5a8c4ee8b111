//! Data files that go, with their rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hardtack_core::{Error, Location, Result, nearest};
use iceberg::spec::{DataContentType, MAIN_BRANCH, SnapshotRef};

use super::IcebergMaintenance;
use super::refs::head;
use crate::catalog::{Change, Loaded};
use crate::sink::engine;
use crate::snapshot::{Draft, Rewritten, live};

/// What a deletion of files has removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeletedFiles {
    /// Data files.
    pub files: usize,
    /// Their rows.
    pub rows: u64,
    /// The snapshot; none in a dry run.
    pub snapshot: Option<i64>,
}

impl IcebergMaintenance {
    /// Removes data files from a branch (`main` by default), with all of their rows: one that is damaged, or was added by
    /// mistake. Earlier snapshots have them still, and the files stay until those expire.
    ///
    /// The [metadata table](Self::metadata) `files` lists files.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the branch has no such data file, or there is no such branch; nothing is
    /// removed then.
    pub async fn delete_files(&self, branch: Option<&str>, files: &[Location]) -> Result<DeletedFiles> {
        let branch = branch.unwrap_or(MAIN_BRANCH);
        let wanted: BTreeSet<String> =
            files.iter().map(|file| Ok(file.absolute()?.to_string())).collect::<Result<_>>()?;
        let mut attempts = self.attempts().await?;
        loop {
            let table = attempts.table();
            let Some(head) = head(table, branch)? else {
                return Err(Error::usage("the table has no files").with("table", table.qualified_name()));
            };
            let found = chosen(table, &head, branch, &wanted).await?;
            let mut done = DeletedFiles { files: found.len(), rows: found.values().sum(), snapshot: None };
            if self.dry_run || found.is_empty() {
                return Ok(done);
            }
            let gone =
                Rewritten { files: found.into_keys().collect(), sequence: head.sequence_number(), same_rows: false };
            let mut draft = Draft::rewriting(table, gone, Vec::new(), HashMap::from(engine()));
            let snapshot = draft.produce(table, Some(&head), self.now.timestamp_millis()).await?;
            done.snapshot = Some(snapshot.snapshot_id());
            let change = Change::on_branch(table, branch, &head, snapshot)?;
            let table = table.clone();
            if attempts.commit(change).await?.is_some() {
                return Ok(done);
            }
            draft.discard(&table).await?;
        }
    }
}

/// The paths of these data files, as the table has them, and their rows.
async fn chosen(
    table: &Loaded,
    head: &SnapshotRef,
    branch: &str,
    wanted: &BTreeSet<String>,
) -> Result<BTreeMap<String, u64>> {
    let mut there = BTreeMap::new();
    for file in live(table, head, table.metadata().current_schema()).await? {
        if file.data.content_type() == DataContentType::Data {
            let path = file.data.file_path().to_owned();
            // Other tools write locations in other ways.
            let known = Location::from(path.as_str()).absolute().map_or_else(|_| path.clone(), |at| at.to_string());
            there.insert(known, (path, file.data.record_count()));
        }
    }
    let found = |file: &String| match there.get(file) {
        Some((path, rows)) => Ok((path.clone(), *rows)),
        None => {
            let error = Error::usage("the branch has no such data file")
                .with("file", file)
                .with("branch", branch)
                .with("table", table.qualified_name());
            Err(match nearest(file, there.keys().map(String::as_str)) {
                Some(near) => error.with("did you mean", near),
                None => error.hint("`select file_path from db.\"table$files\"` lists them"),
            })
        }
    };
    wanted.iter().map(found).collect()
}
