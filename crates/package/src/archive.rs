//! Archives whose bytes depend on their contents only.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use crate::checksum::Artefact;
use crate::command::io_error;
use crate::record::BuildRecord;
use crate::{Result, finished};

/// Higher levels save little and take minutes for a large binary.
const ZSTD_LEVEL: i32 = 12;

/// Names of files that say under which terms others may use a binary.
const LICENCES: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];

/// Names in an archive.
pub(crate) const BUILD_JSON: &str = "build.json";
pub(crate) const SBOM_JSON: &str = "sbom.cdx.json";

/// What an archive contains.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) record: &'a BuildRecord,
    pub(crate) binary: &'a [u8],
    pub(crate) sbom: &'a [u8],
    /// Files by name.
    pub(crate) licences: &'a [(String, Vec<u8>)],
}

impl Contents<'_> {
    /// Writes the archive to a folder.
    pub(crate) fn write(&self, folder: &Path, time: u64) -> Result<Artefact> {
        let path = folder.join(format!("{}.tar.zst", self.record.stem()));
        let top = self.record.folder();
        let record = self.record.to_json()?;
        let mut files: Vec<(&str, u32, &[u8])> =
            vec![(&self.record.name, 0o755, self.binary), (BUILD_JSON, 0o644, &record), (SBOM_JSON, 0o644, self.sbom)];
        files.extend(self.licences.iter().map(|(name, text)| (name.as_str(), 0o644, text.as_slice())));
        files.sort_by_key(|(name, ..)| *name);
        let written = || {
            let out = BufWriter::new(File::create(&path)?);
            let mut zstd = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
            zstd.include_checksum(true)?;
            let mut tar = Tar::new(zstd, time);
            tar.folder(&top, 0o755, 0)?;
            for (name, mode, bytes) in files {
                tar.file(&format!("{top}/{name}"), mode, bytes)?;
            }
            tar.finish()?.finish()?.flush()
        };
        written().map_err(|e| io_error(e, "the archive cannot be written", &path))?;
        finished(path)
    }
}

/// The licences of a workspace.
pub(crate) fn licences(root: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut read = || {
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if LICENCES.iter().any(|prefix| name.starts_with(prefix)) && entry.path().is_file() {
                found.push((name, fs::read(entry.path())?));
            }
        }
        Ok(())
    };
    read().map_err(|e| io_error(e, "the licences cannot be read", root))?;
    found.sort();
    Ok(found)
}

/// Writes a tar whose entries say nothing about this machine or the time.
pub(crate) struct Tar<W: Write> {
    builder: Builder<W>,
    time: u64,
}

impl<W: Write> Tar<W> {
    pub(crate) fn new(out: W, time: u64) -> Self {
        Self { builder: Builder::new(out), time }
    }

    fn header(&self, kind: EntryType, mode: u32, owner: u64, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(size);
        header.set_mtime(self.time);
        header
    }

    pub(crate) fn folder(&mut self, path: &str, mode: u32, owner: u64) -> std::io::Result<()> {
        let mut header = self.header(EntryType::Directory, mode, owner, 0);
        self.builder.append_data(&mut header, format!("{path}/"), std::io::empty())
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
        self.stream(path, mode, bytes.len() as u64, bytes)
    }

    /// Appends a file of a size that is known.
    pub(crate) fn stream(&mut self, path: &str, mode: u32, size: u64, from: impl Read) -> std::io::Result<()> {
        let mut header = self.header(EntryType::Regular, mode, 0, size);
        self.builder.append_data(&mut header, path, from)
    }

    pub(crate) fn link(&mut self, path: &str, target: &Path) -> std::io::Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0, 0);
        self.builder.append_link(&mut header, path, target)
    }

    pub(crate) fn finish(self) -> std::io::Result<W> {
        self.builder.into_inner()
    }
}
