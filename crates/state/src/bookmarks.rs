//! The history of bookmarks: they are part of commits.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use hardtack_core::audit::History;
use hardtack_core::bookmarks::Positions;
use hardtack_core::{Result, Run, RunId};

use crate::ledger::{CONCURRENCY, Ledger};
use crate::records::{Change, CommitRecord, Settlement};

/// An entry in the history of bookmarks: the positions of all sources of a job and scope after a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct BookmarkEntry {
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
    pub bookmarks: Positions,
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

impl BookmarkEntry {
    fn of(commit: CommitRecord, is_published: bool) -> Self {
        let CommitRecord { sequence, run, committed_at, bookmarks, change, .. } = commit;
        Self { sequence, run, committed_at, change, is_published, bookmarks }
    }
}

/// The positions that differ, by the names of the sources.
pub fn moves(before: &Positions, after: &Positions) -> Vec<Move> {
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

/// Where the next run of a job and scope starts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StartingPoint {
    /// The positions by the names of the sources.
    pub bookmarks: Positions,
    /// The numbers that audits have measured.
    pub metrics: History,
}

impl Ledger {
    /// Where the next run starts once all commits are published: after the newest commit that was not abandoned.
    ///
    /// # Errors
    /// Those of [`Ledger::bookmark_history`].
    pub async fn newest_position(&self) -> Result<StartingPoint> {
        let Some(newest) = self.newest_bookmarks().await? else { return Ok(StartingPoint::default()) };
        let commit = self.get(newest.sequence).await?;
        let metrics = commit.map(|commit| commit.metrics).unwrap_or_default();
        Ok(StartingPoint { bookmarks: newest.bookmarks, metrics })
    }

    /// The positions after each commit that was not abandoned, oldest first.
    ///
    /// # Errors
    /// Errors of the store; [`Unexpected`](hardtack_core::ErrorKind::Unexpected) for a damaged record.
    pub async fn bookmark_history(&self) -> Result<Vec<BookmarkEntry>> {
        self.bookmark_history_after(0).await
    }

    /// The same, of the commits after this number. Reads no others.
    ///
    /// # Errors
    /// Those of [`Ledger::bookmark_history`].
    pub async fn bookmark_history_after(&self, sequence: u64) -> Result<Vec<BookmarkEntry>> {
        let commits = futures::stream::iter(self.numbers("commits", sequence).await?);
        commits
            .map(|sequence| self.entry(sequence))
            .buffered(CONCURRENCY)
            .try_filter_map(|entry| async { Ok(entry) })
            .try_collect()
            .await
    }

    /// The positions from which the next run starts once all commits are published: those after the newest commit that
    /// was not abandoned. `None` if there is no commit.
    ///
    /// # Errors
    /// Those of [`Ledger::bookmark_history`].
    pub async fn newest_bookmarks(&self) -> Result<Option<BookmarkEntry>> {
        for sequence in (1..=self.newest().await?).rev() {
            if let Some(entry) = self.entry(sequence).await? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The bookmarks after this run or, if it was not published, after the last commit before it that was; and the number
    /// of that commit, 0 if there is none. `None` if this job and scope never had the run.
    ///
    /// # Errors
    /// Those of [`Ledger::bookmark_history`].
    pub async fn bookmarks_until(&self, run: &RunId) -> Result<Option<(Positions, u64)>> {
        let mut all = self.bookmark_history().await?;
        all.retain(|entry| entry.is_published);
        let end = match all.iter().position(|entry| entry.run.id == *run) {
            Some(at) => at + 1,
            None => match self.get_run(run).await? {
                Some(record) if record.run.scope == self.scope() => {
                    all.partition_point(|entry| entry.committed_at <= record.run.started_at)
                }
                _ => return Ok(None),
            },
        };
        all.truncate(end);
        Ok(Some(all.pop().map_or_else(Default::default, |entry| (entry.bookmarks, entry.sequence))))
    }

    async fn entry(&self, sequence: u64) -> Result<Option<BookmarkEntry>> {
        let is_published = match self.settlement(sequence).await? {
            Some(Settlement::Abandoned(_)) => return Ok(None),
            settlement => settlement.is_some(),
        };
        Ok(self.get(sequence).await?.map(|commit| BookmarkEntry::of(commit, is_published)))
    }
}
