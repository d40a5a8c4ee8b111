//! Builds binaries that are the same in whatever folder they are built.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::command::{cannot_start, output};
use crate::workspace::{Job, Workspace};
use crate::{Error, Result};

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// The compiler of a workspace.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// `rustc 1.95.0 (59807616e 2026-04-14)`
    pub(crate) version: String,
    /// The target triple of this machine.
    pub(crate) host: String,
    commit: Option<String>,
    sysroot: PathBuf,
}

impl Compiler {
    /// Asks the compiler that is used in a folder.
    pub(crate) fn find(folder: &Path) -> Result<Self> {
        let ask = |args: &[&str]| {
            output(Command::new("rustc").args(args).current_dir(folder), "the compiler does not say what it is")
                .map_err(|e| e.with("folder", folder.display()))
        };
        let told = ask(&["-vV"])?;
        let field =
            |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        Ok(Self {
            version: told.lines().next().unwrap_or_default().to_owned(),
            host: field("host:").ok_or_else(|| Error::unexpected("the compiler does not name its host"))?,
            commit: field("commit-hash:").filter(|commit| commit != "unknown"),
            sysroot: PathBuf::from(ask(&["--print", "sysroot"])?.trim()),
        })
    }
}

/// A folder of this machine, and the name that binaries show instead.
pub(crate) type Remap = (PathBuf, String);

/// The folders of this machine whose names the compiler would put into binaries. Of several that match the last counts,
/// so inner folders come after outer ones.
pub(crate) fn remaps(workspace: &Workspace, compiler: &Compiler, build_folder: &Path) -> Vec<Remap> {
    let mut found: BTreeSet<Remap> = BTreeSet::new();
    let mut add = |from: &Path, to: String| {
        if let Ok(real) = std::path::absolute(from) {
            found.insert((real, to.clone()));
        }
        if let Ok(real) = std::fs::canonicalize(from) {
            found.insert((real, to));
        }
    };
    // The compiler itself shows its sources this way, unless the component `rust-src` is installed.
    let std = compiler.sysroot.join("lib/rustlib/src/rust");
    add(&std, compiler.commit.as_ref().map_or("/rustc".to_owned(), |commit| format!("/rustc/{commit}")));
    for package in &workspace.packages {
        let folder = package.folder();
        if let Some(home) = cargo_home(folder) {
            add(home, "/cargo".to_owned());
        } else if !folder.starts_with(&workspace.root) {
            add(folder, format!("/path/{}-{}", package.name, package.version));
        }
    }
    add(&workspace.root, ".".to_owned());
    add(build_folder, "./target".to_owned());
    let mut found: Vec<Remap> = found.into_iter().collect();
    found.sort_by_key(|(from, _)| from.as_os_str().len());
    found
}

/// The home of cargo, given the folder of a package that it has downloaded.
fn cargo_home(folder: &Path) -> Option<&Path> {
    let home = |parent: &&Path| parent.ends_with("registry/src") || parent.ends_with("git/checkouts");
    folder.ancestors().find(home)?.ancestors().nth(2)
}

/// A build of jobs.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) jobs: &'a [&'a Job],
    pub(crate) profile: &'a str,
    pub(crate) target: Option<&'a str>,
    pub(crate) folder: &'a Path,
    pub(crate) revision: Option<String>,
    pub(crate) time: u64,
    pub(crate) remaps: Vec<Remap>,
}

/// What cargo says of a file that it has built.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    target: Option<Built>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Built {
    name: String,
    kind: Vec<String>,
}

impl<'a> Build<'a> {
    /// Builds, and returns the path of each job's binary. The compiler's messages go to standard error.
    ///
    /// # Errors
    /// Unexpected if cargo fails.
    pub(crate) fn run(&self) -> Result<Vec<(&'a Job, PathBuf)>> {
        let mut command = self.command();
        let mut child = command.spawn().map_err(|e| cannot_start(&command, e))?;
        let stdout = child.stdout.take().ok_or_else(|| Error::unexpected("cargo has no standard output"))?;
        let mut found: Vec<(&Job, PathBuf)> = Vec::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|e| Error::unexpected("the output of cargo cannot be read").because(e))?;
            // Build scripts and compilers may print something else.
            let Ok(Message { reason, package_id: Some(id), target: Some(target), executable: Some(path) }) =
                serde_json::from_str(&line)
            else {
                continue;
            };
            let is_it = |job: &&&Job| job.package.id == id && job.name == target.name;
            if reason == "compiler-artifact"
                && target.kind.iter().any(|kind| kind == "bin")
                && let Some(job) = self.jobs.iter().find(is_it)
            {
                found.push((*job, path));
            }
        }
        let status = child.wait().map_err(|e| Error::unexpected("cargo cannot be waited for").because(e))?;
        if !status.success() {
            return Err(Error::unexpected("cargo cannot build the jobs")
                .with("cargo", status)
                .hint("see what it says above"));
        }
        if let Some(job) = self.jobs.iter().find(|job| !found.iter().any(|(of, _)| of == *job)) {
            return Err(Error::unexpected(format!("cargo has built no binary of `{}`", job.name)));
        }
        Ok(found)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("cargo");
        command
            .args(["build", "--locked", "--message-format", "json-render-diagnostics", "--profile", self.profile])
            .arg("--target-dir")
            .arg(self.folder)
            .args(self.target.iter().flat_map(|target| ["--target", target]))
            .args(
                self.jobs
                    .iter()
                    .flat_map(|job| ["--package".to_owned(), job.package.spec(), "--bin".to_owned(), job.name.clone()]),
            )
            .current_dir(&self.workspace.root)
            .env("CARGO_INCREMENTAL", "0")
            .env("SOURCE_DATE_EPOCH", self.time.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        match &self.revision {
            Some(revision) => command.env("HARDTACK_REVISION", revision),
            None => command.env_remove("HARDTACK_REVISION"),
        };
        let [encoded, plain] = ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"].map(flags_of_environment);
        match extended(encoded, plain, &self.flags()) {
            Flags::Environment(flags) => command.env("CARGO_ENCODED_RUSTFLAGS", flags),
            Flags::Config(config) => command.args(["--config", &config]),
        };
        command
    }

    fn flags(&self) -> Vec<String> {
        self.remaps.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
    }
}

fn flags_of_environment(variable: &str) -> Option<String> {
    std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
}

/// How cargo is given flags for the compiler.
#[derive(Debug, PartialEq, Eq)]
enum Flags {
    /// In `CARGO_ENCODED_RUSTFLAGS`.
    Environment(String),
    /// As an argument of `--config`.
    Config(String),
}

/// Adds flags to those that the user has set. Cargo uses one source of flags only: the first of
/// `CARGO_ENCODED_RUSTFLAGS`, `RUSTFLAGS`, `target.*.rustflags` and `build.rustflags`. If none of the variables is set,
/// ours go to the last: cargo joins them with those of its configuration files, or else uses the user's
/// `target.*.rustflags` without ours. So no flag of the user is lost.
fn extended(encoded: Option<String>, plain: Option<String>, ours: &[String]) -> Flags {
    let theirs = match (encoded, plain) {
        (Some(encoded), _) if encoded.is_empty() => Vec::new(),
        (Some(encoded), _) => encoded.split(SEPARATOR).map(str::to_owned).collect(),
        (None, Some(plain)) => plain.split_whitespace().map(str::to_owned).collect(),
        // A JSON array of strings is one of TOML, too.
        (None, None) => return Flags::Config(format!("build.rustflags = {}", serde_json::json!(ours))),
    };
    Flags::Environment([&*theirs, ours].concat().join(SEPARATOR))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::encoded(Some("-C\x1fx y"), Some("-Z"), Flags::Environment("-C\x1fx y\x1f--ours".to_owned()))]
    #[case::nothing_encoded(Some(""), Some("-Z"), Flags::Environment("--ours".to_owned()))]
    #[case::plain(None, Some(" -C  x "), Flags::Environment("-C\x1fx\x1f--ours".to_owned()))]
    #[case::none(None, None, Flags::Config(r#"build.rustflags = ["--ours"]"#.to_owned()))]
    fn flags_of_the_user_are_kept(#[case] encoded: Option<&str>, #[case] plain: Option<&str>, #[case] wanted: Flags) {
        assert_eq!(extended(encoded.map(str::to_owned), plain.map(str::to_owned), &["--ours".to_owned()]), wanted);
    }

    #[rstest]
    #[case("/home/me/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tar-0.4.46", Some("/home/me/.cargo"))]
    #[case("/home/me/.cargo/git/checkouts/tar-0a1b/0a1b2c3/crates/tar", Some("/home/me/.cargo"))]
    #[case("/home/me/lake/vendor/tar", None)]
    fn the_home_of_cargo_is_found(#[case] folder: &str, #[case] home: Option<&str>) {
        assert_eq!(cargo_home(Path::new(folder)), home.map(Path::new));
    }
}
