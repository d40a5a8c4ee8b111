//! The history of bookmarks: they are part of commits.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use hardtack_core::{Result, Run, RunId};

use crate::ledger::{CONCURRENCY, Ledger};
use crate::records::{Change, CommitRecord, Settlement};

/// The positions of all sources of a job and scope after a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Positions {
    /// The number of the commit.
    pub sequence: u64,
    /// The run that committed.
    pub run: Run,
    /// When.
    pub committed_at: DateTime<Utc>,
    /// Who has changed the positions, unless it was the commit of a job.
    pub change: Option<Change>,
    /// Whether the commit is published. Until then no run builds on it.
    pub is_published: bool,
    /// The positions by the names of the sources.
    pub bookmarks: BTreeMap<String, serde_json::Value>,
}

/// A position that a commit has moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// The source.
    pub source: String,
    /// The position before; `None` if there was none.
    pub from: Option<serde_json::Value>,
    /// The position after; `None` if it was removed.
    pub to: Option<serde_json::Value>,
}

impl Positions {
    fn of(commit: CommitRecord, is_published: bool) -> Self {
        let CommitRecord { sequence, run, committed_at, bookmarks, change, .. } = commit;
        Self { sequence, run, committed_at, change, is_published, bookmarks }
    }
}

/// The positions that differ, by the names of the sources.
pub fn moves(before: &BTreeMap<String, serde_json::Value>, after: &BTreeMap<String, serde_json::Value>) -> Vec<Move> {
    let sources: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let moved = sources.into_iter().filter(|source| before.get(*source) != after.get(*source));
    moved
        .map(|source| Move {
            source: source.clone(),
            from: before.get(source).cloned(),
            to: after.get(source).cloned(),
        })
        .collect()
}

impl Ledger {
    /// The positions after each commit that was not abandoned, oldest first.
    ///
    /// # Errors
    /// Errors of the store; [`Unexpected`](hardtack_core::ErrorKind::Unexpected) for a damaged record.
    pub async fn positions(&self) -> Result<Vec<Positions>> {
        let commits = futures::stream::iter(self.numbers("commits", 0).await?);
        commits
            .map(|sequence| self.positions_after(sequence))
            .buffered(CONCURRENCY)
            .try_filter_map(|positions| async { Ok(positions) })
            .try_collect()
            .await
    }

    /// The positions from which the next run starts once all commits are published: those after the newest commit that
    /// was not abandoned. `None` if there is no commit.
    ///
    /// # Errors
    /// Those of [`Ledger::positions`].
    pub async fn newest_positions(&self) -> Result<Option<Positions>> {
        for sequence in (1..=self.newest().await?).rev() {
            if let Some(positions) = self.positions_after(sequence).await? {
                return Ok(Some(positions));
            }
        }
        Ok(None)
    }

    /// The bookmarks after this run or, if it was not published, after the last commit before it that was; and the number
    /// of that commit, 0 if there is none. `None` if this job and scope never had the run.
    ///
    /// # Errors
    /// Those of [`Ledger::positions`].
    pub async fn bookmarks_until(&self, run: &RunId) -> Result<Option<(BTreeMap<String, serde_json::Value>, u64)>> {
        let mut all = self.positions().await?;
        all.retain(|positions| positions.is_published);
        let end = match all.iter().position(|positions| positions.run.id == *run) {
            Some(at) => at + 1,
            None => match self.get_run(run).await? {
                Some(record) if record.run.scope == self.scope() => {
                    all.partition_point(|positions| positions.committed_at <= record.run.started_at)
                }
                _ => return Ok(None),
            },
        };
        all.truncate(end);
        Ok(Some(all.pop().map_or_else(Default::default, |positions| (positions.bookmarks, positions.sequence))))
    }

    async fn positions_after(&self, sequence: u64) -> Result<Option<Positions>> {
        let is_published = match self.settlement(sequence).await? {
            Some(Settlement::Abandoned(_)) => return Ok(None),
            settlement => settlement.is_some(),
        };
        Ok(self.get(sequence).await?.map(|commit| Positions::of(commit, is_published)))
    }
}
