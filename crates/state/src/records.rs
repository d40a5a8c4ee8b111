//! The JSON documents.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hardtack_core::{Counts, Error, Location, PublishAction, Result, Run, RunId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::ledger::encode;

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
    /// The files and folders that the run's sinks have declared as theirs, absolute: no action touches anything that is
    /// not one of them or below one. Records of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Vec<Location>>,
}

impl CommitRecord {
    /// The commit of a run that publishes nothing.
    pub fn new(sequence: u64, run: Run, committed_at: DateTime<Utc>) -> Self {
        let (publish, bookmarks) = (BTreeMap::new(), BTreeMap::new());
        Self { sequence, run, committed_at, publish, bookmarks, places: None }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        sealed(self)
    }

    /// What [`CommitRecord::encode`] made, or an earlier version, which wrote neither hash nor places.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let (record, is_sealed) = unsealed::<Self>("commit", bytes)?;
        if !is_sealed && record.places.is_some() {
            return Err(damaged("commit", "is not what was written: its hash is gone"));
        }
        Ok(record)
    }

    /// The publish actions of all sinks.
    pub fn actions(&self) -> Vec<PublishAction> {
        self.publish.values().flatten().cloned().collect()
    }
}

/// What is before the hash in a record's text, and after it.
const SEAL: (&str, &str) = (",\n  \"xxh3\": \"", "\"\n}");

/// A record as it is kept: JSON whose last field is a hash of the text without that field. What is done on the word of a
/// record (files are moved and deleted) cannot be undone, and a bit that was flipped may leave it well-formed.
fn sealed<T: Serialize>(record: &T) -> Result<Bytes> {
    let text = encode(record)?;
    let body = text.strip_suffix(b"\n}").unwrap_or(&text);
    let hash = format!("{:016x}", XxHash3_64::oneshot(&text));
    Ok(Bytes::from([body, SEAL.0.as_bytes(), hash.as_bytes(), SEAL.1.as_bytes()].concat()))
}

/// A record, and whether it had a hash; those of earlier versions do not.
fn unsealed<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<(T, bool)> {
    let text = std::str::from_utf8(bytes).map_err(|e| damaged(what, "is damaged").because(e))?;
    let seal = text.strip_suffix(SEAL.1).and_then(|text| text.rsplit_once(SEAL.0));
    let parsed = match seal {
        Some((body, hash)) => {
            let text = format!("{body}\n}}");
            if format!("{:016x}", XxHash3_64::oneshot(text.as_bytes())) != hash {
                return Err(damaged(what, "is not what was written: its hash is another"));
            }
            serde_json::from_str(&text)
        }
        None => serde_json::from_str(text),
    };
    let does_not_parse = "does not parse; it is damaged, or was written by a newer version";
    Ok((parsed.map_err(|e| damaged(what, does_not_parse).because(e))?, seal.is_some()))
}

fn damaged(what: &str, why: &str) -> Error {
    Error::unexpected(format!("a record of a {what} {why}; nothing is done on its word"))
        .with("way out", "restore it as it was written, from a version or a copy of the state location")
}

/// Which number a run will try to take. What the run staged may be discarded once another run has taken that number,
/// because from then on it can never commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The run.
    pub run: Run,
    /// The number that it claims.
    pub claims: u64,
    /// When others discarded what it had staged, because it can never commit. It may be alive; see
    /// [`AFTERLIFE`](crate::AFTERLIFE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<DateTime<Utc>>,
}

impl AttemptRecord {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        sealed(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(unsealed::<Self>("attempt", bytes)?.0)
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It runs, or was killed and no other run has come since.
    Running,
    /// It was published.
    Succeeded,
    /// It failed; nothing of it was published, unless the record has a commit.
    Failed,
    /// It was told to stop; nothing of it was published.
    Stopped,
    /// Another run of its scope got there first; nothing of it was published.
    Superseded,
    /// It did not say how it ended, and another run of its scope has committed since; nothing of it was published. (If it
    /// is alive after all, it says so itself in the end.)
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

/// What a saved column holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// The column.
    pub name: String,
    /// Its type, as Arrow names it.
    pub data_type: String,
    /// Rows without a value.
    pub nulls: u64,
    /// Different values, estimated (within about two percent).
    pub distinct: u64,
    /// The least value as text, of types that have an order and if there is a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// The greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// The characters of the longest text, for columns of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest: Option<u64>,
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
    /// What the columns of each sink hold, if the run was told to profile them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub profiles: BTreeMap<String, Vec<ColumnProfile>>,
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
            profiles: BTreeMap::new(),
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
