//! The records of backfills: how far each window has come.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use hardtack_core::format::Format;
use hardtack_core::{Result, RunId, Window};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::ledger::CONCURRENCY;
use crate::names::name;
use crate::store::StateStore;

const WINDOW: Format = Format::new("record of a backfill", 1);

/// The record of a window that `hardtack backfill` has run a job for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRecord {
    /// The window.
    pub window: Window,
    /// The scope of its runs.
    pub scope: String,
    /// How far it has come.
    pub status: WindowStatus,
    /// The ids of its runs, oldest first: one for each attempt.
    pub runs: Vec<RunId>,
    /// The number of the last commit in its scope before the first attempt. A run with a later one has processed it.
    #[serde(default)]
    pub after: u64,
    /// When the last attempt began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Its exit code, as a shell shows it: 128 and the number of the signal if one killed it. `None` if it is running or
    /// was not needed.
    pub exit_code: Option<i32>,
    /// The last line of its log if it failed.
    pub error: Option<String>,
}

/// How far a window has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowStatus {
    /// Its run is active, or the backfill was killed.
    Running,
    /// Its run was published.
    Succeeded,
    /// Its run failed.
    Failed,
    /// Its run was stopped by a signal.
    Stopped,
}

impl WindowStatus {
    /// The name under which it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running or killed",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl WindowRecord {
    /// Its duration in seconds, if it has ended.
    pub fn seconds(&self) -> Option<f64> {
        self.finished_at.map(|end| (end - self.started_at).as_seconds_f64())
    }
}

/// The records of the backfills of a job. A window has one record, whichever backfill ran it.
#[derive(Debug, Clone)]
pub struct Backfill {
    state: Arc<dyn StateStore>,
    job: String,
}

impl Backfill {
    /// The backfills of this job.
    pub fn new(state: Arc<dyn StateStore>, job: impl Into<String>) -> Self {
        Self { state, job: job.into() }
    }

    fn key(&self, window: Window) -> String {
        format!("{}/backfills/{}.json", name(&self.job), name(&window.scope()))
    }

    /// The record of a window.
    ///
    /// # Errors
    /// Errors of the store; [`Unexpected`](hardtack_core::ErrorKind::Unexpected) if the record does not parse.
    pub async fn get(&self, window: Window) -> Result<Option<WindowRecord>> {
        let key = self.key(window);
        self.state.get(&key).await?.map(|bytes| decode(&key, &bytes)).transpose()
    }

    /// The records of these windows, in the same order; for each the error of [`Backfill::get`] if it cannot be read.
    pub async fn get_all(&self, windows: &[Window]) -> Vec<Result<Option<WindowRecord>>> {
        futures::stream::iter(windows).map(|window| self.get(*window)).buffered(CONCURRENCY).collect().await
    }

    /// Writes the record of a window.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn put(&self, record: &WindowRecord) -> Result<()> {
        self.state.put(&self.key(record.window), codec::encode(WINDOW, record)?).await
    }
}

/// Decodes the record of a window.
pub(crate) fn decode(key: &str, bytes: &[u8]) -> Result<WindowRecord> {
    codec::decode(WINDOW, key, bytes)
}
