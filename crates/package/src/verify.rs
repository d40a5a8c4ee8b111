//! Checks artefacts.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::archive::{BUILD_JSON, SBOM_JSON};
use crate::checksum::{Artefact, hash_file};
use crate::command::io_error;
use crate::image;
use crate::record::BuildRecord;
use crate::sbom::Bom;
use crate::{Error, Result};

/// An artefact that is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The file.
    pub artefact: Artefact,
    /// What an archive says of the build; none for an image.
    pub record: Option<BuildRecord>,
}

/// Checks an archive or an image: its checksum in the file of the same name with `.sha256`, its structure, and that its
/// documents parse and agree.
///
/// # Errors
/// Usage if one of the two files cannot be read; refused if anything differs.
pub fn verify(file: &Path) -> Result<Verified> {
    let (bytes, sha256) = hash_file(file)?;
    let artefact = Artefact { path: file.to_owned(), bytes, sha256 };
    let name = artefact.name();
    let sums = file.with_file_name(format!("{name}.sha256"));
    let sum = fs::read_to_string(&sums).map_err(|e| {
        io_error(e, "the checksum cannot be read", &sums).hint("keep the file with `.sha256` beside the artefact")
    })?;
    if sum != artefact.sum() {
        return Err(Error::refused("the file is not the one that its checksum is of")
            .with("file", file.display())
            .with("expected", sum.split_whitespace().next().unwrap_or_default())
            .with("found", &artefact.sha256)
            .hint("copy it again from where it was built"));
    }
    let record = if name.ends_with(".oci.tar") {
        let staging = tempfile::tempdir().map_err(|e| Error::unavailable("there is no temporary folder").because(e))?;
        image::check(file, staging.path()).map_err(|e| e.with("file", file.display()))?;
        None
    } else if name.ends_with(".tar.zst") {
        Some(archive(file).map_err(|e| e.with("file", file.display()))?)
    } else {
        return Err(Error::usage("this is neither an archive nor an image")
            .with("file", file.display())
            .hint("name a file that ends with `.tar.zst` or `.oci.tar`"));
    };
    Ok(Verified { artefact, record })
}

fn archive(file: &Path) -> Result<BuildRecord> {
    let damaged = |e: io::Error| Error::refused("the archive cannot be read").because(e);
    let reader = File::open(file).and_then(|file| zstd::stream::read::Decoder::with_buffer(BufReader::new(file)));
    let mut tar = tar::Archive::new(reader.map_err(damaged)?);
    let (mut record, mut sbom, mut executables, mut names) = (None, None, Vec::new(), Vec::new());
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = path.split_once('/').map_or("", |(_, name)| name).to_owned();
        let mut text = Vec::new();
        match name.as_str() {
            BUILD_JSON | SBOM_JSON => {
                entry.read_to_end(&mut text).map_err(damaged)?;
                *(if name == BUILD_JSON { &mut record } else { &mut sbom }) = Some(text);
            }
            _ if entry.header().entry_type().is_file() && entry.header().mode().map_err(damaged)? & 0o111 != 0 => {
                executables.push(name);
            }
            _ => {}
        }
        names.push(path);
    }
    // The checksum of the whole is behind the end of the tar.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(damaged)?;
    let lacks = |name: &str| Error::refused(format!("the archive lacks `{name}`"));
    let record = BuildRecord::parse(&record.ok_or_else(|| lacks(BUILD_JSON))?)?;
    let sbom: Bom = serde_json::from_slice(&sbom.ok_or_else(|| lacks(SBOM_JSON))?)
        .map_err(|e| Error::refused("the SBOM does not parse").because(e))?;
    let folder = format!("{}/", record.folder());
    if let Some(stray) = names.iter().find(|name| !name.starts_with(&folder)) {
        return Err(Error::refused("the archive has an entry outside of its folder").with("entry", stray));
    }
    if executables != [record.name.as_str()] {
        return Err(
            Error::refused("the archive must have one executable, the job's").with("found", executables.join(", "))
        );
    }
    let component = &sbom.metadata.component;
    if (&component.name, &component.version) != (&record.name, &record.version) {
        return Err(Error::refused("the SBOM is that of something else")
            .with("expected", record.folder())
            .with("found", format!("{}-{}", component.name, component.version)));
    }
    Ok(record)
}
