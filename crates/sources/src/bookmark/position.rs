//! The positions of file sources, as they are stored.

use chrono::{DateTime, TimeDelta, Utc};
use hardtack_core::format::Format;
use hardtack_core::{Error, Result};
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Bookmark;
use super::digests::Digests;

const FORMAT: Format = Format::new("bookmark", 1);

pub(super) const BY_MODIFICATION_TIME: &str = "modification_time";
pub(super) const BY_PATH: &str = "path";

/// How far a source was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The absolute location of the source.
    pub(super) location: String,
    #[serde(flatten)]
    pub(super) mark: Mark,
}

/// Which files were read. The names are those of the strategies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub(super) enum Mark {
    ModificationTime {
        /// All files up to this moment.
        through: DateTime<Utc>,
        /// The newest file, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<DateTime<Utc>>,
        /// And these after it.
        #[serde(default)]
        seen: Digests,
    },
    Path {
        /// All files whose paths below the location are not after this one.
        through: String,
        /// The last file, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<String>,
        /// And these after it.
        #[serde(default)]
        seen: Digests,
    },
}

impl Position {
    /// # Errors
    /// `Refused` if the value is not a position.
    pub(super) fn read(value: &Value) -> Result<Self> {
        let example = r#"expected a position such as `{"format": 1, "location": "s3://lake/landing", "by": "modification_time", "through": "2026-11-28T17:00:00Z"}`; `hardtack bookmark` can set it"#;
        let refused = || Error::refused("the bookmark is not the position of a file source").hint(example);
        if FORMAT.check_value(value).map_err(|e| if value.is_object() { e } else { refused() })? == 0 {
            return Err(refused());
        }
        serde_json::from_value(value.clone()).map_err(|e| refused().because(e))
    }

    pub(super) fn write(&self) -> Result<Value> {
        serde_json::to_value(FORMAT.versioned(self))
            .map_err(|e| Error::unexpected("a bookmark cannot be written").because(e))
    }

    pub(super) fn fits(&self, place: &str, bookmark: Bookmark) -> bool {
        self.location == place && self.mark.name() == bookmark.name()
    }

    /// The error for a position that does not fit.
    pub(super) fn moved(&self, place: &str, bookmark: Bookmark) -> Error {
        let error = match self.location == place {
            true => Error::usage("the bookmark of this source is of another strategy")
                .with("bookmark", format!("by {}", self.mark.name()))
                .with("source reads", format!("by {}", bookmark.name())),
            false => Error::usage("the bookmark of this source is of another location")
                .with("bookmark", &self.location)
                .with("source reads", place),
        };
        error.hint(
            "give the new source a new name; or start it from its beginning with `--job-bookmark-reset-moved`, or set its \
             position with `hardtack bookmark set`",
        )
    }
}

impl Mark {
    fn name(&self) -> &'static str {
        match self {
            Self::ModificationTime { .. } => BY_MODIFICATION_TIME,
            Self::Path { .. } => BY_PATH,
        }
    }

    /// Whether a file with this path below the location was read.
    pub(super) fn has(&self, key: &str, meta: &ObjectMeta) -> bool {
        match self {
            Self::ModificationTime { through, seen, .. } => meta.last_modified <= *through || seen.has(key, meta),
            Self::Path { through, seen, .. } => key <= through.as_str() || seen.has(key, meta),
        }
    }

    /// After all of these files are read, which are all of the source.
    pub(super) fn by_modification_time(
        before: Option<&Self>,
        listed: &[(String, ObjectMeta)],
        look_back: TimeDelta,
        now: DateTime<Utc>,
    ) -> Self {
        let (old, latest) = match before {
            Some(Self::ModificationTime { through, newest, .. }) => (*through, *newest),
            _ => (DateTime::<Utc>::MIN_UTC, None),
        };
        let newest = listed.iter().map(|(_, meta)| meta.last_modified).max().max(latest);
        // Neither a clock that is ahead of ours nor ours ahead of the store's may close what is still open.
        let settled = newest.and_then(|newest| newest.min(now).checked_sub_signed(look_back));
        let through = settled.map_or(old, |settled| settled.max(old));
        let open = listed.iter().filter(|(_, meta)| meta.last_modified > through);
        Self::ModificationTime { through, newest, seen: Digests::of(open) }
    }

    /// After all of these files are read, which are all after the last position.
    pub(super) fn by_path(before: Option<&Self>, listed: &[(String, ObjectMeta)], open_folders: usize) -> Self {
        let (old, latest) = match before {
            Some(Self::Path { through, newest, .. }) => (through.as_str(), newest.clone()),
            _ => ("", None),
        };
        let mut folders: Vec<&str> = listed.iter().map(|(key, _)| folder(key)).collect();
        folders.sort_unstable();
        folders.dedup();
        let oldest_open = folders.get(folders.len().saturating_sub(open_folders)).copied().unwrap_or_default();
        let through = oldest_open.max(old).to_owned();
        let open = listed.iter().filter(|(key, _)| *key > through);
        let seen = Digests::of(open);
        let newest = listed.iter().map(|(key, _)| key).max().cloned().max(latest);
        Self::Path { through, newest, seen }
    }
}

/// The folder of a path.
fn folder(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}
