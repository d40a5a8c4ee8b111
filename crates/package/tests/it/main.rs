//! Small workspaces, packaged: what is in the artefacts, that they are the same everywhere, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    unreachable_pub,
    reason = "a test makes and reads files, and stops where it fails"
)]

mod archives;
mod docker;
mod errors;
mod images;
mod workspace;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use hardtack_package::{Jobs, Options, Packaged, package};

use crate::workspace::TestWorkspace;

/// A workspace whose jobs are packaged together, with images; built once for all tests that only look at it.
static SAMPLE: LazyLock<(TestWorkspace, Packaged)> = LazyLock::new(|| {
    let workspace = TestWorkspace::new();
    let packaged = package(&Options { image: true, ..workspace.options(Jobs::All) }).unwrap();
    (workspace, packaged)
});

fn named(jobs: &[&str]) -> Jobs {
    Jobs::Named(jobs.iter().map(|job| (*job).to_owned()).collect())
}

/// The files of a folder, with their contents.
fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// The files of a tar, each with a line as `tar --list --verbose` prints, and its contents.
fn entries(tar: impl Read) -> Vec<(String, String, Vec<u8>)> {
    let mut tar = tar::Archive::new(tar);
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let owner = (header.username().unwrap().unwrap(), header.groupname().unwrap().unwrap());
        assert_eq!(owner, ("", ""), "{name}");
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let line = format!("{mode:04o} {uid}:{gid} @{} {name}", header.mtime().unwrap());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, line, bytes)
    });
    entries.collect()
}

fn archive(path: &Path) -> Vec<(String, String, Vec<u8>)> {
    entries(zstd::stream::read::Decoder::new(File::open(path).unwrap()).unwrap())
}

/// The path of an artefact of the sample: of a job, with this ending.
fn sample(job: &str, ending: &str) -> &'static Path {
    let (_, packaged) = &*SAMPLE;
    let mut named = packaged.artefacts.iter().map(|artefact| (artefact.name(), artefact.path.as_path()));
    named.find(|(name, _)| name.starts_with(job) && name.ends_with(ending)).unwrap().1
}

/// The target of the sample.
fn target() -> String {
    let name = sample("count", ".tar.zst").file_name().unwrap().to_str().unwrap();
    name.strip_prefix("count-1.2.3-").unwrap().strip_suffix(".tar.zst").unwrap().to_owned()
}

/// What differs between machines, and between versions of hardtack and of this workspace.
fn with_filters(check: impl FnOnce()) {
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let filters = [
        (r#""rustc 1\.[^"]+""#, r#""RUSTC""#),
        (&*target(), "TARGET"),
        ("ld-linux[a-z0-9_-]+", "ld-linux"),
        (r"\bamd64|arm64\b", "PROCESSOR"),
        (std::env::consts::ARCH, "ARCH"),
        (&*SAMPLE.0.head(), "REVISION"),
        (&*version, "\"version\": \"HARDTACK\""),
    ];
    insta::with_settings!({filters => filters}, { check() });
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}
