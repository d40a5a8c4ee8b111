//! The jobs of a cargo workspace.
//!
//! These are the fields that we read of `cargo metadata`. The crate `cargo_metadata` would switch on a feature of
//! `serde_json`, so that DataFusion had to be built a second time.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hardtack_core::nearest;
use serde::Deserialize;

use crate::command::{io_error, output};
use crate::{Error, Jobs, Result};

/// A cargo workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of its manifest.
    pub(crate) root: PathBuf,
    /// The folder that cargo builds in by default.
    pub(crate) target_folder: PathBuf,
    /// All packages that it is built from.
    pub(crate) packages: Vec<Package>,
    /// Its jobs, by name.
    pub(crate) jobs: Vec<Job>,
    /// The checksums of packages in Cargo.lock, by name, version and source.
    checksums: HashMap<(String, String, String), String>,
}

/// A binary of the workspace that depends on hardtack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) package: Package,
}

/// A package, as `cargo metadata` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    /// `registry+…`, `git+…`; none for a path.
    pub(crate) source: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
    metadata: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Dependency {
    name: String,
    /// None for a normal one.
    kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Debug, Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

impl Package {
    /// The folder of its manifest.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// `NAME@VERSION`, by which cargo knows a member of a workspace.
    pub(crate) fn spec(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// The names of its binaries, if they are jobs.
    fn jobs(&self) -> impl Iterator<Item = &str> {
        let depends = self.dependencies.iter().any(|on| on.name == "hardtack" && on.kind.is_none());
        let wanted = self.metadata.as_ref().and_then(|metadata| metadata.pointer("/hardtack/package")?.as_bool());
        let binaries = self.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "bin"));
        binaries.filter(move |_| depends && wanted != Some(false)).map(|target| target.name.as_str())
    }
}

impl Workspace {
    /// Asks cargo for the workspace that a folder belongs to.
    ///
    /// # Errors
    /// Usage if there is none, or if its Cargo.lock is not up to date.
    pub(crate) fn find(folder: &Path, target: &str) -> Result<Self> {
        // What other platforms need may not be on this machine.
        let mut command = Command::new("cargo");
        command
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target])
            .current_dir(folder);
        let text = output(&mut command, "cargo finds no workspace that it can read").map_err(|e| {
            e.with("folder", folder.display())
                .hint("run this in the folder of a workspace with an up-to-date Cargo.lock")
        })?;
        let metadata: Metadata = serde_json::from_str(&text)
            .map_err(|e| Error::unexpected("the output of `cargo metadata` is not as expected").because(e))?;
        let members = metadata.packages.iter().filter(|package| metadata.workspace_members.contains(&package.id));
        let mut jobs: Vec<Job> = members
            .flat_map(|package| package.jobs().map(|name| Job { name: name.to_owned(), package: package.clone() }))
            .collect();
        jobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            checksums: checksums(&metadata.workspace_root.join("Cargo.lock"))?,
            root: metadata.workspace_root,
            target_folder: metadata.target_directory,
            packages: metadata.packages,
            jobs,
        })
    }

    /// The jobs that were asked for, by name.
    ///
    /// # Errors
    /// Usage if there are none, or none of a name.
    pub(crate) fn choose(&self, wanted: &Jobs) -> Result<Vec<&Job>> {
        let all: Vec<&str> = self.jobs.iter().map(|job| job.name.as_str()).collect();
        if all.is_empty() {
            return Err(Error::usage("no package of this workspace is a job")
                .with("workspace", self.root.display())
                .hint("a job is a binary whose package depends on `hardtack`"));
        }
        let list = || format!("the jobs are {}", all.join(", "));
        let names = match wanted {
            Jobs::All => return Ok(self.jobs.iter().collect()),
            Jobs::Named(names) if names.is_empty() => {
                return Err(Error::usage("no job is named").hint(format!("name one, or all with `--all`: {}", list())));
            }
            Jobs::Named(names) => names,
        };
        let mut chosen: Vec<&Job> = Vec::new();
        for name in names {
            let job = self.jobs.iter().find(|job| job.name == *name).ok_or_else(|| {
                let meant = nearest(name, all.iter().copied());
                let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
                Error::usage(format!("there is no job `{name}`")).hint(meant + &list())
            })?;
            if !chosen.contains(&job) {
                chosen.push(job);
            }
        }
        chosen.sort_by_key(|job| &job.name);
        Ok(chosen)
    }

    /// The SHA-256 that Cargo.lock has for a package.
    pub(crate) fn checksum(&self, package: &Package) -> Option<&str> {
        let key = (package.name.clone(), package.version.clone(), package.source.clone()?);
        self.checksums.get(&key).map(String::as_str)
    }
}

fn checksums(lock: &Path) -> Result<HashMap<(String, String, String), String>> {
    let text = fs::read_to_string(lock).map_err(|e| io_error(e, "the lock file cannot be read", lock))?;
    let parsed: Lock = toml::from_str(&text)
        .map_err(|e| Error::usage("the lock file does not parse").with("file", lock.display()).because(e))?;
    let known = parsed.package.into_iter();
    Ok(known.filter_map(|p| Some(((p.name, p.version, p.source?), p.checksum?))).collect())
}
