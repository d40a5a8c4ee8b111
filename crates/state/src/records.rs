//! The JSON documents.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hardtack_core::{Counts, Error, PublishAction, Run, RunId};
use serde::{Deserialize, Serialize};

/// The commit of a run: everything that it takes to publish it. Whoever creates the record with the next number has
/// committed; whoever finds it can finish the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The number of this commit within its job and scope, from 1.
    pub sequence: u64,
    /// The run that committed.
    pub run: Run,
    /// When.
    pub committed_at: DateTime<Utc>,
    /// The publish actions of each sink, by its name.
    pub publish: BTreeMap<String, Vec<PublishAction>>,
    /// How far each source has been read once this commit is published.
    #[serde(default)]
    pub bookmarks: BTreeMap<String, serde_json::Value>,
}

impl CommitRecord {
    /// The publish actions of all sinks.
    pub fn actions(&self) -> Vec<PublishAction> {
        self.publish.values().flatten().cloned().collect()
    }
}

/// Which number a run will try to take. What the run staged may be discarded once another run has taken that number,
/// because from then on it can never commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The run.
    pub run: Run,
    /// The number that it claims.
    pub claims: u64,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It runs, or was killed.
    Running,
    /// It was published.
    Succeeded,
    /// It failed; nothing of it was published, unless the record has a commit.
    Failed,
    /// It was told to stop; nothing of it was published.
    Stopped,
    /// Another run of its scope got there first; nothing of it was published.
    Superseded,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The kind of error.
    pub kind: String,
    /// The error and its causes, in one line.
    pub message: String,
}

impl From<&Error> for ErrorRecord {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind().name().to_owned(), message: error.chain() }
    }
}

/// What is kept about a run, for people and monitoring. It decides nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub run: Run,
    /// How it stands.
    pub status: RunStatus,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The number of its commit, if it got that far.
    pub commit: Option<u64>,
    /// What each source has read.
    pub sources: BTreeMap<String, Counts>,
    /// What each sink has written.
    pub sinks: BTreeMap<String, Counts>,
    /// The bookmarks it started from.
    pub bookmarks_from: BTreeMap<String, serde_json::Value>,
    /// The bookmarks it left, if it was published.
    pub bookmarks_to: BTreeMap<String, serde_json::Value>,
    /// Why it failed.
    pub error: Option<ErrorRecord>,
}

impl RunRecord {
    /// The record of a run that begins.
    pub fn begin(run: Run) -> Self {
        Self {
            run,
            status: RunStatus::Running,
            finished_at: None,
            commit: None,
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            bookmarks_from: BTreeMap::new(),
            bookmarks_to: BTreeMap::new(),
            error: None,
        }
    }

    /// The key of the record of a run.
    pub(crate) fn key(job: &str, run: &RunId) -> String {
        format!("{}/runs/{run}.json", crate::ledger::name(job))
    }
}
