//! Blobs of an image, and layers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::Result;
use crate::archive::Tar;
use crate::checksum::{Hashing, sha256};
use crate::command::io_error;

pub(super) const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A document or a layer: a file that is named by its hash.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    media_type: &'static str,
    sha256: String,
    pub(crate) size: u64,
    /// Where it is until it gets into the image.
    pub(crate) path: PathBuf,
}

impl Blob {
    pub(super) fn new(media_type: &'static str, sha256: String, size: u64, folder: &Path) -> Self {
        let path = path_of(folder, &sha256);
        Self { media_type, sha256, size, path }
    }

    pub(super) fn of_bytes(media_type: &'static str, bytes: &[u8], folder: &Path) -> Result<Self> {
        let blob = Self::new(media_type, sha256(bytes), bytes.len() as u64, folder);
        fs::write(&blob.path, bytes).map_err(|e| io_error(e, "the image cannot be written", &blob.path))?;
        Ok(blob)
    }

    /// Its name in the image.
    pub(super) fn name(&self) -> String {
        format!("blobs/sha256/{}", self.sha256)
    }

    pub(super) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": format!("sha256:{}", self.sha256), "size": self.size})
    }
}

/// Where a blob is in the staging folder.
pub(super) fn path_of(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(format!("blob-{sha256}"))
}

/// A layer of an image.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) blob: Blob,
    /// The SHA-256 of the tar without compression.
    pub(crate) diff_id: String,
    /// What it has, for the image's history.
    pub(crate) what: String,
}

type Out = Hashing<GzEncoder<Hashing<BufWriter<NamedTempFile>>>>;

/// Writes a layer.
pub(crate) struct Builder<'a> {
    tar: Tar<Out>,
    /// The folders that it has.
    folders: BTreeSet<String>,
    folder: &'a Path,
    what: &'static str,
}

impl<'a> Builder<'a> {
    pub(super) fn new(what: &'static str, folder: &'a Path, time: u64) -> Result<Self> {
        let file = NamedTempFile::new_in(folder).map_err(|e| io_error(e, "the image cannot be written", folder))?;
        // Its header has neither a name nor a time.
        let gzip = GzEncoder::new(Hashing::new(BufWriter::new(file)), Compression::default());
        Ok(Self { tar: Tar::new(Hashing::new(gzip), time), folders: BTreeSet::new(), folder, what })
    }

    /// Appends a file, and the folders above it.
    pub(super) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        self.write(|tar| tar.file(path, mode, bytes))
    }

    pub(super) fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.parents(path)?;
        self.folders.insert(path.to_owned());
        self.write(|tar| tar.folder(path, mode, 0))
    }

    pub(super) fn link(&mut self, path: &str, target: &Path) -> Result<()> {
        self.write(|tar| tar.link(path, target))
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            if self.folders.insert(path[..end].to_owned()) {
                self.write(|tar| tar.folder(&path[..end], 0o755, 0))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, write: impl FnOnce(&mut Tar<Out>) -> io::Result<()>) -> Result<()> {
        write(&mut self.tar).map_err(|e| io_error(e, "the image cannot be written", self.folder))
    }

    pub(super) fn finish(self) -> Result<Layer> {
        let Self { tar, folder, what, .. } = self;
        let written = || {
            let (gzip, (_, diff_id)) = tar.finish()?.finish();
            let (mut out, (size, sha256)) = gzip.finish()?.finish();
            out.flush()?;
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            let blob = Blob::new(GZIP_LAYER, sha256, size, folder);
            file.persist(&blob.path)?;
            Ok(Layer { blob, diff_id, what: what.to_owned() })
        };
        written().map_err(|e: io::Error| io_error(e, "the image cannot be written", folder))
    }
}

/// Opens the tar of a layer, however it is compressed.
pub(crate) fn open(path: &Path) -> io::Result<(&'static str, Box<dyn io::Read>)> {
    let mut magic = [0; 4];
    let mut file = File::open(path)?;
    let read = io::Read::read(&mut file, &mut magic)?;
    let file = io::BufReader::new(File::open(path)?);
    Ok(match magic[..read] {
        [0x1f, 0x8b, ..] => (GZIP_LAYER, Box::new(flate2::bufread::MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            ("application/vnd.oci.image.layer.v1.tar+zstd", Box::new(zstd::stream::read::Decoder::with_buffer(file)?))
        }
        _ => ("application/vnd.oci.image.layer.v1.tar", Box::new(file)),
    })
}
