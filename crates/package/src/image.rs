//! Container images as a tar that is both an OCI image layout and what `docker load` of old engines reads. No engine is
//! needed.

mod base;
mod layer;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use hardtack_core::location::without_credentials;
use serde_json::{Map, Value, json};

pub(crate) use self::base::{Base, check};
use self::layer::{Blob, Layer};
use crate::archive::Tar;
use crate::checksum::Artefact;
use crate::command::io_error;
use crate::elf::Elf;
use crate::record::BuildRecord;
use crate::workspace::Job;
use crate::{Error, Result, finished, revision};

/// The user and group of distroless images; nobody on a usual machine.
const NOBODY: u64 = 65_532;

/// Where the certificates of this machine are, and those of an image.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where images of other distributions have theirs.
const OTHER_CERTIFICATES: [&str; 3] = ["etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem", "etc/ssl/ca-bundle.pem"];

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The small files that C libraries look for.
const ACCOUNTS: [(&str, &str); 3] = [
    ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n"),
];

/// An image with a job.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) record: &'a BuildRecord,
    pub(crate) job: &'a Job,
    pub(crate) binary: &'a [u8],
    pub(crate) elf: &'a Elf,
    pub(crate) base: Option<&'a Base>,
    pub(crate) time: u64,
}

impl Image<'_> {
    /// Writes the image to a folder, which also gets its blobs.
    pub(crate) fn write(&self, folder: &Path) -> Result<Artefact> {
        let layers = self.layers(folder)?;
        let config = Blob::of_bytes(CONFIG, &bytes(&self.config(&layers))?, folder)?;
        let descriptors: Vec<Value> = layers.iter().map(|layer| layer.blob.descriptor()).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": descriptors,
        });
        let manifest = Blob::of_bytes(MANIFEST, &bytes(&manifest)?, folder)?;
        let (name, tag) = (self.record.name.to_lowercase(), self.record.version.replace('+', "_"));
        let mut entry = manifest.descriptor();
        entry["annotations"] = json!({
            "io.containerd.image.name": format!("docker.io/library/{name}:{tag}"),
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
        });
        let layers_of_docker: Vec<String> = layers.iter().map(|layer| layer.blob.name()).collect();
        let docker = json!([{
            "Config": config.name(), "RepoTags": [format!("{name}:{tag}")], "Layers": layers_of_docker,
        }]);

        let mut blobs: BTreeMap<String, Blob> =
            layers.into_iter().map(|layer| (layer.blob.name(), layer.blob)).collect();
        blobs.extend([config, manifest].map(|blob| (blob.name(), blob)));
        let path = folder.join(format!("{}.oci.tar", self.record.stem()));
        let (index, docker) = (bytes(&index)?, bytes(&docker)?);
        let written = || {
            let mut tar = Tar::new(BufWriter::new(File::create(&path)?), self.time);
            tar.folder("blobs", 0o755, 0)?;
            tar.folder("blobs/sha256", 0o755, 0)?;
            for (name, blob) in &blobs {
                tar.stream(name, 0o644, blob.size, File::open(&blob.path)?)?;
            }
            tar.file("index.json", 0o644, &index)?;
            tar.file("manifest.json", 0o644, &docker)?;
            tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            tar.finish()?.flush()
        };
        written().map_err(|e| io_error(e, "the image cannot be written", &path))?;
        finished(path)
    }

    /// The layers, from the one that changes least to the binary, so that jobs share all but the last.
    fn layers(&self, folder: &Path) -> Result<Vec<Layer>> {
        let mut layers = self.base.map(|base| base.layers.clone()).unwrap_or_default();
        let has = |path: &str| self.base.is_some_and(|base| base.has(path));
        let new = |what: &'static str| layer::Builder::new(what, folder, self.time);
        if self.adds_certificates() {
            let certificates = fs::read(CERTIFICATES).map_err(|e| {
                Error::not_found("this machine has no CA certificates")
                    .with("file", CERTIFICATES)
                    .hint("install the package `ca-certificates`, or give an image that has them with `--base`")
                    .because(e)
            })?;
            let mut layer = new("CA certificates")?;
            layer.file(CERTIFICATES, 0o644, &certificates)?;
            layers.push(layer.finish()?);
        }
        match self.base {
            None => {
                let libraries = self.elf.libraries()?;
                if !libraries.is_empty() {
                    let mut layer = new("libraries of the C runtime")?;
                    for library in &libraries {
                        layer.file(&library.path, 0o755, &library.bytes)?;
                    }
                    layers.push(layer.finish()?);
                }
            }
            // Libraries of two systems do not go together, so the base must have all of them.
            Some(base) => base.check_libraries(self.elf)?,
        }
        let accounts: Vec<_> = ACCOUNTS.iter().filter(|(path, _)| !has(path)).collect();
        if !accounts.is_empty() || !has("tmp") {
            let mut layer = new("accounts and /tmp")?;
            for (path, text) in accounts {
                layer.file(path, 0o644, text.as_bytes())?;
            }
            if !has("tmp") {
                layer.folder("tmp", 0o1777)?;
            }
            layers.push(layer.finish()?);
        }
        let mut layer = new("the job")?;
        layer.file(&self.entrypoint(), 0o755, self.binary)?;
        layers.push(layer.finish()?);
        Ok(layers)
    }

    fn entrypoint(&self) -> String {
        format!("/usr/local/bin/{}", self.record.name)
    }

    fn adds_certificates(&self) -> bool {
        let places = || OTHER_CERTIFICATES.into_iter().chain([CERTIFICATES.trim_start_matches('/')]);
        !self.base.is_some_and(|base| places().any(|path| base.has(path)))
    }

    fn config(&self, layers: &[Layer]) -> Value {
        let created = revision::rfc3339(self.time);
        let mut env = self.base.map(|base| base.env.clone()).unwrap_or_default();
        let mut set = |name: &str, value: &str| {
            if !env.iter().any(|variable| variable.split('=').next() == Some(name)) {
                env.push(format!("{name}={value}"));
            }
        };
        set("PATH", "/usr/local/bin:/usr/bin:/bin");
        if self.adds_certificates() {
            set("SSL_CERT_FILE", CERTIFICATES);
        }
        let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
        let history: Vec<Value> = layers
            .iter()
            .map(|layer| json!({"created": created, "created_by": format!("hardtack package: {}", layer.what)}))
            .collect();
        json!({
            "created": created,
            "architecture": architecture(&self.record.target),
            "os": "linux",
            "config": {
                "User": format!("{NOBODY}:{NOBODY}"),
                "Env": env,
                "Entrypoint": [self.entrypoint()],
                // The root of the file system, which the user cannot write to: a run that was given no place for its
                // state fails at once, and does not keep it where it ends with the container.
                "WorkingDir": "/",
                "Labels": self.labels(&created),
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        })
    }

    fn labels(&self, created: &str) -> Map<String, Value> {
        let package = &self.job.package;
        let source = package.repository.as_deref().map(without_credentials);
        // As in the binary: a hash alone would say that this is what the commit has.
        let revision = self.record.revision.as_ref();
        let revision = revision.map(|id| if self.record.dirty { format!("{id}-dirty") } else { id.clone() });
        let labels = [
            ("title", Some(self.record.name.as_str())),
            ("description", package.description.as_deref()),
            ("version", Some(&self.record.version)),
            ("revision", revision.as_deref()),
            ("created", Some(created)),
            ("licenses", package.license.as_deref()),
            ("source", source.as_deref()),
        ];
        let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value?)));
        labels.map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.into())).collect()
    }
}

/// The name of a target's processor in images.
pub(crate) fn architecture(target: &str) -> &str {
    match target.split('-').next().unwrap_or_default() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i586" => "386",
        "armv7" | "arm" => "arm",
        "powerpc64le" => "ppc64le",
        other => other,
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::unexpected("a document of the image has no JSON").because(e))
}
