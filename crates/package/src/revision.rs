//! The git revision of a work tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{DateTime, SecondsFormat};

use crate::{Error, Result};

/// What git says of a work tree.
#[derive(Debug, Default)]
pub(crate) struct Revision {
    /// The hash of the commit.
    pub(crate) id: Option<String>,
    /// Whether files differ from those of the commit, or are not in it and are not ignored.
    pub(crate) dirty: bool,
    /// The time of the commit, in seconds since 1970.
    pub(crate) time: Option<u64>,
}

impl Revision {
    /// Asks git. Without a repository there is no revision, which is a warning. Files in these folders are generated,
    /// and do not make the work tree dirty.
    pub(crate) fn find(root: &Path, generated: &[&PathBuf], warnings: &mut Vec<String>) -> Result<Self> {
        let head = match git(root, &["log", "-1", "--format=%H %ct"]) {
            Ok(head) => head,
            Err(why) => {
                warnings.push(format!("there is no git revision: {}", why.lines().next().unwrap_or("git has failed")));
                return Ok(Self::default());
            }
        };
        let (id, time) = head.trim().split_once(' ').unwrap_or_default();
        let mut status = vec!["status", "--porcelain", "--untracked-files=all", "--", "."];
        // The folder for the artefacts is a real path, and that of the workspace may not be.
        let real = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let below = |folder: &&PathBuf| {
            let path = folder.strip_prefix(root).or_else(|_| folder.strip_prefix(&real)).ok()?;
            path.to_str().filter(|path| !path.is_empty()).map(|path| format!(":(exclude,literal){path}"))
        };
        let excluded: Vec<String> = generated.iter().filter_map(below).collect();
        status.extend(excluded.iter().map(String::as_str));
        let changed =
            git(root, &status).map_err(|why| Error::unexpected("git cannot compare the work tree").because(why))?;
        Ok(Self { id: Some(id.to_owned()), dirty: !changed.trim().is_empty(), time: time.parse().ok() })
    }

    /// The revision as binaries print it.
    pub(crate) fn name(&self) -> Option<String> {
        let id = self.id.as_ref()?;
        Some(if self.dirty { format!("{id}-dirty") } else { id.clone() })
    }
}

/// Runs git and returns its output, or what it says if it fails.
fn git(root: &Path, args: &[&str]) -> Result<String, String> {
    // Refreshing the index would write to a repository that may be read-only.
    let done = Command::new("git")
        .arg("--no-optional-locks")
        .args(args)
        .current_dir(root)
        .output()
        .map_err(|e| format!("git cannot be started: {e}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
    }
}

/// A time as records show it.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}
