//! What images are based on.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::layer::{self, Blob, Builder, Layer, path_of};
use crate::checksum::Hashing;
use crate::command::io_error;
use crate::elf::Elf;
use crate::{Error, Result};

/// The layers of another image.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) layers: Vec<Layer>,
    /// Its variables, as `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    /// The paths in it, without a slash at the start.
    files: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Config {
    architecture: String,
    config: Option<Settings>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct Settings {
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

impl Base {
    /// Opens a tar of an OCI image layout, or a folder with a root file system. Its blobs go to the staging folder.
    ///
    /// # Errors
    /// Usage if it is neither, or is for another processor; refused if a blob is not what its name says.
    pub(crate) fn open(path: &Path, staging: &Path, architecture: &str, time: u64) -> Result<Self> {
        let opened = if path.is_dir() {
            Self::of_folder(path, staging, time)
        } else {
            Self::of_tar(path, staging, architecture)
        };
        opened.map_err(|e| if e.get("base").is_some() { e } else { e.with("base", path.display()) })
    }

    /// Whether it has this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains(path)
    }

    /// Fails if it lacks a library that a binary needs.
    pub(crate) fn check_libraries(&self, elf: &Elf) -> Result<()> {
        let has =
            |name: &str| self.files.iter().any(|path| path.strip_suffix(name).is_some_and(|rest| rest.ends_with('/')));
        let missing: Vec<&str> = elf.needs().filter(|name| !has(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::not_found("libraries that the binary needs are not in the base of the image")
            .with("libraries", missing.join(", "))
            .hint("give a base with a C library and libgcc, for example `gcr.io/distroless/cc-debian12`"))
    }

    fn of_folder(root: &Path, staging: &Path, time: u64) -> Result<Self> {
        if root.join("oci-layout").exists() {
            return Err(Error::usage("this folder is an image, and not a root file system")
                .with("base", root.display())
                .hint("make a tar of it: `tar -cf base.tar -C FOLDER .`"));
        }
        let mut builder = Builder::new("the base", staging, time)?;
        let mut files = BTreeSet::new();
        append(root, "", &mut builder, &mut files)?;
        Ok(Self { layers: vec![builder.finish()?], env: Vec::new(), files })
    }

    fn of_tar(path: &Path, staging: &Path, architecture: &str) -> Result<Self> {
        let index = unpack(path, staging)?.ok_or_else(|| {
            Error::usage("this is not the tar of an OCI image layout")
                .hint("copy an image to one: `skopeo copy docker://IMAGE oci-archive:base.tar`")
        })?;
        let mut index: Index = parse(&index)?;
        // An index may list an index for each platform.
        let manifest = loop {
            let matches = |of: &Descriptor| {
                of.platform.as_ref().is_none_or(|p| p.architecture == architecture && p.os == "linux")
            };
            let found = index.manifests.into_iter().find(matches).ok_or_else(|| other_processor(architecture))?;
            let text = read(&found, staging)?;
            if !found.media_type.contains("index") && !found.media_type.contains("manifest.list") {
                break parse::<Manifest>(&text)?;
            }
            index = parse(&text)?;
        };
        let config: Config = parse(&read(&manifest.config, staging)?)?;
        if config.architecture != architecture {
            return Err(other_processor(architecture));
        }
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Error::refused("the image's manifest and its configuration have different layers"));
        }
        let mut files = BTreeSet::new();
        let mut layers = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let path = path_of(staging, hex(&descriptor.digest)?);
            let mut seen = || {
                let (media_type, mut tar) = layer::open(&path)?;
                look(&mut tar, &mut files)?;
                Ok((media_type, fs::metadata(&path)?.len()))
            };
            let (media_type, size) = seen().map_err(|e: io::Error| io_error(e, "a layer cannot be read", &path))?;
            let blob = Blob::new(media_type, hex(&descriptor.digest)?.to_owned(), size, staging);
            layers.push(Layer { blob, diff_id: hex(diff_id)?.to_owned(), what: "the base".to_owned() });
        }
        Ok(Self { layers, env: config.config.and_then(|config| config.env).unwrap_or_default(), files })
    }
}

fn other_processor(architecture: &str) -> Error {
    Error::usage(format!("the image has nothing for `{architecture}`")).hint("give a base for the target")
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|e| Error::refused("a document of the image does not parse").because(e))
}

/// The digits of a digest. They become a part of a path, so nothing else passes.
fn hex(digest: &str) -> Result<&str> {
    let digits =
        digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    digits.ok_or_else(|| Error::refused("the image has a digest that is not a SHA-256").with("digest", digest))
}

fn read(descriptor: &Descriptor, staging: &Path) -> Result<Vec<u8>> {
    let path = path_of(staging, hex(&descriptor.digest)?);
    fs::read(&path).map_err(|e| Error::refused("the image lacks a blob").with("digest", &descriptor.digest).because(e))
}

/// Unpacks the blobs of a tar, each checked by its name, and returns its index; none if it has none.
fn unpack(path: &Path, staging: &Path) -> Result<Option<Vec<u8>>> {
    let unreadable = |e| io_error(e, "the base cannot be read", path);
    let mut index = None;
    let mut tar = tar::Archive::new(BufReader::new(File::open(path).map_err(unreadable)?));
    for entry in tar.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        if name == "index.json" {
            let mut text = Vec::new();
            entry.read_to_end(&mut text).map_err(unreadable)?;
            index = Some(text);
        } else if let Some(digits) = name.strip_prefix("blobs/sha256/") {
            let wanted = hex(&format!("sha256:{digits}"))?.to_owned();
            let to = path_of(staging, &wanted);
            let mut hashing = Hashing::new(&mut entry);
            let copied = File::create(&to).and_then(|mut out| io::copy(&mut hashing, &mut out));
            copied.map_err(|e| io_error(e, "a blob of the base cannot be copied", &to))?;
            let (_, (_, found)) = hashing.finish();
            if found != wanted {
                return Err(Error::refused("a blob is not what its name says")
                    .with("expected", wanted)
                    .with("found", found));
            }
        }
    }
    Ok(index)
}

/// A path without `./`, and without slashes at its ends.
fn normal(path: &str) -> String {
    path.trim_start_matches("./").trim_matches('/').to_owned()
}

/// Applies the files of a layer to those below it. A name that begins with `.wh.` removes one from the layers below.
fn look(tar: &mut dyn Read, files: &mut BTreeSet<String>) -> io::Result<()> {
    let mut added = Vec::new();
    for entry in tar::Archive::new(tar).entries()? {
        let path = normal(&String::from_utf8_lossy(&entry?.path_bytes()));
        let (folder, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(folder, name)| (folder, name));
        let below = |gone: String| move |path: &String| !path.starts_with(&format!("{gone}/"));
        match name.strip_prefix(".wh.") {
            None => added.push(path),
            Some(".wh..opq") => files.retain(below(folder.to_owned())),
            Some(name) => {
                let gone = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                files.remove(&gone);
                files.retain(below(gone));
            }
        }
    }
    files.extend(added);
    Ok(())
}

/// Appends the contents of a folder of a root file system, sorted. Everything belongs to root.
fn append(root: &Path, folder: &str, builder: &mut Builder<'_>, files: &mut BTreeSet<String>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let here = root.join(folder);
    let unreadable = |e| io_error(e, "the base cannot be read", &here);
    let entries = fs::read_dir(&here).map_err(unreadable)?.collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let from = root.join(&path);
        let unreadable = |e| io_error(e, "the base cannot be read", &from);
        let metadata = fs::symlink_metadata(&from).map_err(unreadable)?;
        let (kind, mode) = (metadata.file_type(), metadata.permissions().mode() & 0o7777);
        if kind.is_dir() {
            builder.folder(&path, mode)?;
            append(root, &path, builder, files)?;
        } else if kind.is_symlink() {
            builder.link(&path, &fs::read_link(&from).map_err(unreadable)?)?;
        } else if kind.is_file() {
            builder.file(&path, mode, &fs::read(&from).map_err(unreadable)?)?;
        } else {
            // Devices and sockets: the engine provides those that a container has.
            continue;
        }
        files.insert(path);
    }
    Ok(())
}

/// Checks a tar with an image: its blobs, and that its documents name what is there.
///
/// # Errors
/// Refused.
pub(crate) fn check(path: &Path, staging: &Path) -> Result<()> {
    let index = unpack(path, staging)?.ok_or_else(|| Error::refused("the image has no index"))?;
    let index: Index = parse(&index)?;
    for found in &index.manifests {
        let manifest: Manifest = parse(&read(found, staging)?)?;
        let config: Config = parse(&read(&manifest.config, staging)?)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Error::refused("the image's manifest and its configuration have different layers"));
        }
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let blob = path_of(staging, hex(&descriptor.digest)?);
            let mut hashing = Hashing::new(io::sink());
            layer::open(&blob)
                .and_then(|(_, mut tar)| io::copy(&mut tar, &mut hashing))
                .map_err(|e| Error::refused("a layer cannot be read").with("digest", &descriptor.digest).because(e))?;
            let (_, (_, found)) = hashing.finish();
            if found != hex(diff_id)? {
                return Err(Error::refused("a layer is not what the configuration says")
                    .with("expected", diff_id)
                    .with("found", found));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Tar;

    fn layer(paths: &[&str]) -> Vec<u8> {
        let mut tar = Tar::new(Vec::new(), 0);
        for path in paths {
            tar.file(path, 0o644, b"").unwrap();
        }
        tar.finish().unwrap()
    }

    #[test]
    fn an_upper_layer_removes_files_of_lower_ones() {
        let mut files = BTreeSet::new();
        let mut see = |paths: &[&str]| {
            look(&mut layer(paths).as_slice(), &mut files).unwrap();
            files.iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(see(&["etc/a", "etc/b/c", "tmp/x", "tmpfile"]), ["etc/a", "etc/b/c", "tmp/x", "tmpfile"]);
        assert_eq!(see(&["etc/.wh.b", "tmp/.wh..wh..opq", "tmp/y"]), ["etc/a", "tmp/y", "tmpfile"]);
        assert_eq!(see(&[".wh.tmpfile"]), ["etc/a", "tmp/y"]);
    }

    #[test]
    fn a_digest_cannot_lead_out_of_the_folder() {
        let traversal = format!("sha256:../{}", "0".repeat(61));
        for digest in ["sha512:00", "sha256:00", &traversal] {
            assert!(hex(digest).is_err(), "{digest}");
        }
        assert!(hex(&format!("sha256:{}", "a".repeat(64))).is_ok());
    }
}
