//! The JSON documents.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hardtack_core::audit::{Audit, History};
use hardtack_core::format::Format;
use hardtack_core::{Counts, DiscardAction, Error, ErrorKind, Location, PublishAction, Result, Run, RunId};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::names::name;

// Format 0 of each was written before formats had numbers.
const COMMIT: Format = Format::new("commit record", 1);
const ATTEMPT: Format = Format::new("record of an attempt", 1);
const SETTLEMENT: Format = Format::new("record of a settled commit", 1);
const JOURNAL: Format = Format::new("journal entry", 1);
const RUN: Format = Format::new("run record", 1);

/// The commit of a run: everything needed to publish it. The run that creates the record with the next number has
/// committed; any process that finds the record can complete the publication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The number of this commit within its job and scope, from 1.
    pub sequence: u64,
    /// The run that committed.
    pub run: Run,
    /// When.
    pub committed_at: DateTime<Utc>,
    /// The publish actions, by sink name.
    pub publish: BTreeMap<String, Vec<PublishAction>>,
    /// The position of each source once this commit is published.
    #[serde(default)]
    pub bookmarks: BTreeMap<String, serde_json::Value>,
    /// The absolute locations of the files and folders that the run's sinks have declared as theirs: no action touches
    /// anything else. Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Vec<Location>>,
    /// The numbers that audits have measured, once this commit is published: those of this run and of earlier ones.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub metrics: History,
    /// Who has changed the bookmarks by it, if it is not the commit of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

impl CommitRecord {
    /// Creates the commit of a run that publishes nothing.
    pub fn new(sequence: u64, run: Run, committed_at: DateTime<Utc>) -> Self {
        let (publish, bookmarks) = (BTreeMap::new(), BTreeMap::new());
        Self {
            sequence,
            run,
            committed_at,
            publish,
            bookmarks,
            places: None,
            metrics: History::default(),
            change: None,
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        codec::seal(COMMIT, self)
    }

    /// Decodes the output of [`CommitRecord::encode`], or of an earlier version. The first versions wrote neither hash
    /// nor places.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let (record, is_sealed) = codec::unseal::<Self>(COMMIT, bytes)?;
        if !is_sealed && record.places.is_some() {
            return Err(codec::without_seal(COMMIT));
        }
        Ok(record)
    }

    /// The publish actions of all sinks.
    pub fn actions(&self) -> Vec<PublishAction> {
        self.publish.values().flatten().cloned().collect()
    }
}

/// The number that a run will try to take. Once another run has taken that number, this run can never commit, and what
/// it staged may be discarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The run.
    pub run: Run,
    /// The number that it claims.
    pub claims: u64,
    /// When others discarded what it had staged, because it can never commit. It may still be alive; see
    /// [`AFTERLIFE`](crate::AFTERLIFE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<DateTime<Utc>>,
}

impl AttemptRecord {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        codec::seal(ATTEMPT, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(codec::unseal::<Self>(ATTEMPT, bytes)?.0)
    }
}

/// How a commit was settled: the next run builds on it, and nothing of it is published any more. Creating the record
/// settles the commit, so either the process that publishes or the person who abandons comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Settlement {
    /// All its actions have been executed.
    Published {
        /// The run that executed the last one.
        by: RunId,
    },
    /// A person has abandoned it.
    Abandoned(Abandonment),
}

/// Who has abandoned a commit, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandonment {
    /// The login name of the person.
    pub user: String,
    /// The machine.
    pub host: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl fmt::Display for Abandonment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} on {} at {}", self.user, self.host, self.at.format("%Y-%m-%dT%H:%M:%SZ"))
    }
}

impl Abandonment {
    /// The error for a process that is publishing the commit or should publish it. It carries the abandonment as a
    /// [detail](Error::with_detail).
    pub fn error(&self) -> Error {
        Error::new(ErrorKind::Lost, format!("the commit was abandoned {self}; its unpublished files never appear"))
            .with_detail(self.clone())
            .hint("run the job again: it starts from the last commit that was published")
    }
}

impl Settlement {
    /// Checks that the commit of this number is published.
    ///
    /// # Errors
    /// [`Abandonment::error`] if it was abandoned.
    pub fn published(self, sequence: u64) -> Result<()> {
        match self {
            Self::Published { .. } => Ok(()),
            Self::Abandoned(abandonment) => Err(abandonment.error().with("commit", sequence)),
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        codec::seal(SETTLEMENT, self)
    }

    /// Decodes the output of [`Settlement::encode`]. Format 0 was only the id of the publishing run, as a JSON string.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        match serde_json::from_slice(bytes) {
            Ok(by) => Ok(Self::Published { by }),
            Err(_) => Ok(codec::unseal(SETTLEMENT, bytes)?.0),
        }
    }
}

/// A change that a person has made to the bookmarks of a job and scope. It is a commit without publish actions, so it
/// cannot race with a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The login name of the person.
    pub user: String,
    /// The machine.
    pub host: String,
    /// What the person did, for example `reset`.
    pub command: String,
    /// Why, if the person said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}@{}", self.command, self.user, self.host)?;
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

/// An entry of a run's journal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    discard: Vec<DiscardAction>,
}

impl JournalEntry {
    pub(crate) fn encode(discard: &[DiscardAction]) -> Result<Bytes> {
        codec::encode(JOURNAL, &Self { discard: discard.to_vec() })
    }

    /// Decodes the output of [`JournalEntry::encode`]. Format 0 was only the list.
    pub(crate) fn decode(key: &str, bytes: &[u8]) -> Result<Vec<DiscardAction>> {
        match serde_json::from_slice(bytes) {
            Ok(discard) => Ok(discard),
            Err(_) => Ok(codec::decode::<Self>(JOURNAL, key, bytes)?.discard),
        }
    }
}

/// The status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It is running, or it was killed and no other run has followed.
    Running,
    /// It was published.
    Succeeded,
    /// It failed; nothing was published, unless the record has a commit.
    Failed,
    /// It was stopped by a signal; nothing was published.
    Stopped,
    /// Another run of its scope committed first; nothing was published.
    Superseded,
    /// It had committed, and a person has abandoned the commit; files that were unpublished by then never appear.
    Abandoned,
    /// It did not record its end, and another run of its scope has committed since; nothing was published. (If it is
    /// alive after all, it records its own end.)
    Killed,
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

/// The profile of a saved column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// The column.
    pub name: String,
    /// Its Arrow type.
    pub data_type: String,
    /// The number of nulls.
    pub nulls: u64,
    /// The number of distinct values, estimated to within about two percent.
    pub distinct: u64,
    /// The minimum as text, if the type is ordered and there is a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// The maximum, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// The length of the longest text in characters, for text columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest: Option<u64>,
}

/// The record of a run, for people and monitoring. No decision depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub run: Run,
    /// Its status.
    pub status: RunStatus,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The number of its commit, if it has committed.
    pub commit: Option<u64>,
    /// The rows and bytes read from each source.
    pub sources: BTreeMap<String, Counts>,
    /// The rows and bytes written to each sink.
    pub sinks: BTreeMap<String, Counts>,
    /// The most bytes that its queries have spilled to disk at a time, as sampled; absent if none were seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spilled_bytes: Option<u64>,
    /// The column profiles of each sink, if profiling was on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub profiles: BTreeMap<String, Vec<ColumnProfile>>,
    /// The audits of its sources and sinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<Audit>,
    /// The bookmarks at its start.
    pub bookmarks_from: BTreeMap<String, serde_json::Value>,
    /// The bookmarks at its end, if it was published.
    pub bookmarks_to: BTreeMap<String, serde_json::Value>,
    /// The sources whose bookmarks stayed although they were loaded, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bookmarks_held: BTreeMap<String, String>,
    /// Why it failed.
    pub error: Option<ErrorRecord>,
    /// Who has changed the bookmarks by it, if it is not a run of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// How it was started, if a command line started it. Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<Invocation>,
}

/// How a run was started, so that `hardtack rerun` can start it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The path of the binary.
    pub binary: String,
    /// The folder in which it ran: relative locations are relative to it.
    pub directory: String,
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub pid: u32,
    /// The words of each argument that was given on the command line or in the environment: `--name=value`, `--name`, or
    /// the value alone if it has no name. Without those of the run itself: state, catalog, scope, window, id.
    pub args: Vec<Vec<String>>,
    /// The arguments that were given and are not recorded, because they are secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<WithheldArg>,
}

/// An argument whose value is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldArg {
    /// Its name as on the command line: `--api-key`.
    pub name: String,
    /// The environment variable that gives it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

impl RunRecord {
    /// The initial record of a run.
    pub fn begin(run: Run) -> Self {
        Self {
            run,
            status: RunStatus::Running,
            finished_at: None,
            commit: None,
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            spilled_bytes: None,
            profiles: BTreeMap::new(),
            audits: Vec::new(),
            bookmarks_from: BTreeMap::new(),
            bookmarks_to: BTreeMap::new(),
            bookmarks_held: BTreeMap::new(),
            error: None,
            change: None,
            invocation: None,
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        codec::encode(RUN, self)
    }

    pub(crate) fn decode(key: &str, bytes: &[u8]) -> Result<Self> {
        codec::decode(RUN, key, bytes)
    }

    /// The key of the record of a run.
    pub(crate) fn key(job: &str, run: &RunId) -> String {
        format!("{}/runs/{run}.json", name(job))
    }
}
