//! The records of pipelines: how far each job of an execution has come.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use hardtack_core::format::Format;
use hardtack_core::{Result, RunId};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::codec;
use crate::names::name;
use crate::store::StateStore;

const PIPELINE: Format = Format::new("record of a pipeline", 1);

/// How long an execution counts as alive after it has last said so. It does so several times within this time.
pub const ALIVE_FOR: TimeDelta = TimeDelta::minutes(2);

/// The record of an execution of a pipeline by `hardtack run`.
///
/// Its process replaces it as a whole at each transition, so a kill leaves the state before or after. Creating the
/// next number decides which of two processes continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineRecord {
    /// The number of the execution within its pipeline and scope, from 1.
    pub number: u64,
    /// The hash of the file, see [`PipelineRecord::hash`].
    pub file: String,
    /// The hash of the arguments that were given for all jobs.
    pub args: String,
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub pid: u32,
    /// When the execution began.
    pub started_at: DateTime<Utc>,
    /// When its process last said that it is alive.
    pub alive_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Its jobs, in the order of execution.
    pub jobs: Vec<PipelineJob>,
}

/// A job of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineJob {
    /// The name of the job.
    pub job: String,
    /// How far it has come.
    pub status: JobStatus,
    /// The ids of its runs, oldest first: one for each attempt.
    #[serde(default)]
    pub runs: Vec<RunId>,
    /// The number of the last commit in its scope before the first attempt: a run with a later one has done the work.
    /// `None` before the first attempt.
    pub after: Option<u64>,
    /// When the last attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Its exit code, as a shell shows it. `None` if it has not ended or was not needed.
    pub exit_code: Option<i32>,
    /// Why it did not succeed.
    pub error: Option<String>,
}

/// How far a job of an execution has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It has not begun.
    Waiting,
    /// Its run is active, or the pipeline was killed.
    Running,
    /// Its run was published.
    Succeeded,
    /// Its run failed.
    Failed,
    /// Its run was stopped by a signal.
    Stopped,
    /// It was not started, because a job that it comes after did not succeed, or the pipeline was stopped.
    Skipped,
}

impl JobStatus {
    /// The name under which it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running or killed",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Skipped => "skipped",
        }
    }
}

impl PipelineJob {
    /// A job that has not begun.
    pub fn waiting(job: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            status: JobStatus::Waiting,
            runs: Vec::new(),
            after: None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            error: None,
        }
    }

    /// The duration of its last attempt in seconds, if it has ended.
    pub fn seconds(&self) -> Option<f64> {
        self.started_at.zip(self.finished_at).map(|(start, end)| (end - start).as_seconds_f64())
    }
}

impl PipelineRecord {
    /// The hash of a text, to find out whether it has changed.
    pub fn hash(text: &str) -> String {
        format!("{:016x}", XxHash3_64::oneshot(text.as_bytes()))
    }

    /// Whether every job has succeeded.
    pub fn has_succeeded(&self) -> bool {
        self.jobs.iter().all(|job| job.status == JobStatus::Succeeded)
    }

    /// Whether its process has said recently that it is alive. A killed one counts as alive for [`ALIVE_FOR`].
    pub fn is_alive(&self, now: DateTime<Utc>) -> bool {
        self.finished_at.is_none() && self.alive_at + ALIVE_FOR > now
    }
}

/// The executions of a pipeline in a scope.
#[derive(Debug, Clone)]
pub struct Pipelines {
    state: Arc<dyn StateStore>,
    folder: String,
}

impl Pipelines {
    /// The executions of this pipeline in this scope.
    pub fn new(state: Arc<dyn StateStore>, pipeline: &str, scope: &str) -> Self {
        Self { state, folder: format!("{}/pipelines/{}", name(pipeline), name(scope)) }
    }

    fn key(&self, number: u64) -> String {
        format!("{}/{number:012}.json", self.folder)
    }

    /// The number of the newest execution; 0 if there is none.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn newest(&self) -> Result<u64> {
        let keys = self.state.list(&self.folder, None).await?;
        let number = |key: &String| key.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
        Ok(keys.iter().filter_map(number).max().unwrap_or(0))
    }

    /// The record of an execution.
    ///
    /// # Errors
    /// Errors of the store; [`Unexpected`](hardtack_core::ErrorKind::Unexpected) if the record does not parse.
    pub async fn get(&self, number: u64) -> Result<Option<PipelineRecord>> {
        let key = self.key(number);
        self.state.get(&key).await?.map(|bytes| decode(&key, &bytes)).transpose()
    }

    /// Begins an execution: creates its record, unless another process has taken its number. Returns whether it did.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn create(&self, record: &PipelineRecord) -> Result<bool> {
        let (key, value) = (self.key(record.number), codec::encode(PIPELINE, record)?);
        // A repeated request finds the record that the first one wrote.
        Ok(self.state.create(&key, value.clone()).await?
            || self.state.get(&key).await?.is_some_and(|found| found == value))
    }

    /// Replaces the record of an execution. Only the process that has created it does so.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn put(&self, record: &PipelineRecord) -> Result<()> {
        self.state.put(&self.key(record.number), codec::encode(PIPELINE, record)?).await
    }

    /// Whether another process has begun the execution after this one.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn has_next(&self, number: u64) -> Result<bool> {
        Ok(self.state.get(&self.key(number + 1)).await?.is_some())
    }
}

/// Decodes the record of an execution.
pub(crate) fn decode(key: &str, bytes: &[u8]) -> Result<PipelineRecord> {
    codec::decode(PIPELINE, key, bytes)
}
