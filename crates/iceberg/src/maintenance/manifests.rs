//! Manifests: those of many commits become few, with the files of a partition together.

use hardtack_core::{Error, ErrorKind, Result};
use iceberg::spec::MAIN_BRANCH;

use super::IcebergMaintenance;
use crate::catalog::{Change, Loaded};
use crate::sink::engine;
use crate::snapshot::{Draft, Regrouping, TARGET, TARGET_BYTES};

/// How manifests were rewritten, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RewrittenManifests {
    /// The snapshot that was committed; `None` if there was nothing to do, or in a dry run.
    pub snapshot: Option<i64>,
    /// Manifests that were replaced.
    pub manifests: usize,
    /// By so many.
    pub new_manifests: usize,
    /// The number of their files.
    pub files: usize,
}

impl IcebergMaintenance {
    /// Rewrites the manifests of data files of `main`, so that the files of a partition are together, in manifests of about
    /// `commit.manifest.target-size-bytes`: then queries read fewer of them. Files stay as they are, and so do manifests of
    /// deletes. What others commit meanwhile is regrouped, too.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) for a property of the table that is not a size; [`Conflict`](ErrorKind::Conflict) if
    /// others commit all the time. Those of reading and writing metadata.
    pub async fn rewrite_manifests(&self) -> Result<RewrittenManifests> {
        let mut attempts = self.attempts().await?;
        loop {
            let table = attempts.table().clone();
            let Some(head) = table.metadata().snapshot_for_ref(MAIN_BRANCH).cloned() else {
                return Ok(RewrittenManifests::default());
            };
            let Some(plan) = Regrouping::plan(&table, &head, target_bytes(&table)?).await? else {
                return Ok(RewrittenManifests::default());
            };
            let mut done = RewrittenManifests {
                snapshot: None,
                manifests: plan.replaced,
                new_manifests: plan.groups.len(),
                files: plan.groups.iter().map(|(_, entries)| entries.len()).sum(),
            };
            if self.dry_run {
                return Ok(done);
            }
            let mut draft = Draft::regrouping(&table, engine().into());
            let snapshot = draft.regroup(&table, &head, plan, self.now.timestamp_millis()).await?;
            done.snapshot = Some(snapshot.snapshot_id());
            match attempts.commit(Change::on_branch(&table, MAIN_BRANCH, &head, snapshot)?).await {
                Ok(Some(_)) => return Ok(done),
                // Written for a head that is none any more.
                Ok(None) => draft.discard(&table).await?,
                Err(e) => {
                    // After any other error the commit may have happened.
                    if e.kind() == ErrorKind::Conflict {
                        draft.discard(&table).await?;
                    }
                    return Err(e);
                }
            }
        }
    }
}

fn target_bytes(table: &Loaded) -> Result<u64> {
    match table.metadata().properties().get(TARGET) {
        Some(text) => text.parse().map_err(|_| {
            Error::usage(format!("the table's property `{TARGET}` is `{text}`, which is not a number"))
                .with("table", table.qualified_name())
        }),
        None => Ok(TARGET_BYTES),
    }
}
