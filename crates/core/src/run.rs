//! The identity of a run.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Window};

/// The id of a run. It becomes part of file names, so it consists of at most 64 letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// Generates an id: the time, then eight random digits, so that ids sort by time.
    pub fn generate(now: DateTime<Utc>) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self(format!("{}-{}", now.format("%Y%m%dT%H%M%SZ"), &random[..8]))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for characters that could not be part of a file name.
    fn from_str(text: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > 64 || text.starts_with('.') || !text.chars().all(fits) {
            return Err(Error::usage(format!(
                "`{text}` is not a run id: expected 1 to 64 letters, digits, `-`, `_` or `.`, such as `nightly-2026-11-21`"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RunId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One run of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The run's id.
    pub id: RunId,
    /// The job's name.
    pub job: String,
    /// Runs of one job exclude one another within a scope; runs of different scopes (for example windows of a backfill)
    /// run concurrently. The default is [`Run::WHOLE_JOB`].
    pub scope: String,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// Eight random digits, part of every file name: an id chosen by a user is only unique within one state location.
    #[serde(default)]
    pub token: String,
    /// The span of time that it processes, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

impl Run {
    /// The default scope.
    pub const WHOLE_JOB: &'static str = "default";

    /// The part of names that only this run's files have, and the name of the folder that only it writes to (in
    /// [`VERSIONS`](crate::staging::VERSIONS)).
    pub fn version(&self) -> String {
        format!("{}-{}", self.id, self.token)
    }

    /// A token for a new run.
    pub fn new_token() -> String {
        uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_files() {
        let id = RunId::generate(DateTime::UNIX_EPOCH);
        assert!(id.as_str().starts_with("19700101T000000Z-"));
        assert_eq!(id.as_str().parse::<RunId>().unwrap(), id);
        for bad in ["", "a/b", "..", ".x", "a b", "ü", &"x".repeat(65)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
