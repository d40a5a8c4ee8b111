//! What an archive says of the build of its binary.

use hardtack_core::format::Format;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const BUILD_RECORD: Format = Format::new("build record", 1);

/// What is known about the build of a binary: `build.json` in its archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuildRecord {
    /// The name of the job.
    pub name: String,
    /// The version of its package.
    pub version: String,
    /// The target triple.
    pub target: String,
    /// The profile of the build; none if the binary existed already.
    pub profile: Option<String>,
    /// The git revision; none without a repository.
    pub revision: Option<String>,
    /// Whether the work tree had changes that were not committed.
    pub dirty: bool,
    /// The time of the commit.
    pub time: String,
    /// The compiler; of a binary that existed already, what it says itself.
    pub rustc: Option<String>,
    /// The version of hardtack.
    pub hardtack: Option<String>,
    /// The version of DataFusion.
    pub datafusion: Option<String>,
    /// The jobs that were built together. Cargo unites their features, so another selection may be another binary.
    pub built_with: Vec<String>,
}

impl BuildRecord {
    /// `NAME-VERSION`
    pub(crate) fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// `NAME-VERSION-TRIPLE`
    pub(crate) fn stem(&self) -> String {
        format!("{}-{}", self.folder(), self.target)
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        pretty(&BUILD_RECORD.versioned(self))
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        BUILD_RECORD.check(json)?;
        serde_json::from_slice(json).map_err(|e| Error::refused("the build record does not parse").because(e))
    }
}

/// JSON for people, with a line break at the end.
pub(crate) fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut json =
        serde_json::to_vec_pretty(value).map_err(|e| Error::unexpected("a record has no JSON").because(e))?;
    json.push(b'\n');
    Ok(json)
}
