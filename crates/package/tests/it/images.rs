//! Images: what is in them, and what they are based on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use flate2::read::GzDecoder;
use hardtack_core::ErrorKind;
use hardtack_package::{Binary, Options, package, verify};
use serde_json::Value;

use crate::workspace::TestWorkspace;
use crate::{SAMPLE, entries, json, named, sample, with_filters};

/// An image as an engine reads it, layer by layer.
struct Image {
    files: BTreeMap<String, Vec<u8>>,
    manifest: Value,
    config: Value,
}

impl Image {
    fn open(path: &Path) -> Self {
        let listed = entries(File::open(path).unwrap());
        let names: Vec<&String> = listed.iter().map(|(name, ..)| name).collect();
        assert!(names.is_sorted(), "{names:?}");
        let files: BTreeMap<_, _> = listed.into_iter().map(|(name, _, bytes)| (name, bytes)).collect();
        assert_eq!(json(&files["oci-layout"]), serde_json::json!({"imageLayoutVersion": "1.0.0"}));
        let blob = |descriptor: &Value| {
            let name = format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
            assert_eq!(files[&name].len() as u64, descriptor["size"], "{name}");
            json(&files[&name])
        };
        let manifest = blob(&json(&files["index.json"])["manifests"][0]);
        let config = blob(&manifest["config"]);
        // What engines of old read names the same files.
        let docker = &json(&files["manifest.json"])[0];
        let path = |descriptor: &Value| format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
        assert_eq!(docker["Config"], path(&manifest["config"]));
        let layers: Vec<String> = manifest["layers"].as_array().unwrap().iter().map(path).collect();
        assert_eq!(docker["Layers"], serde_json::json!(layers));
        Self { files, manifest, config }
    }

    fn layers(&self) -> Vec<&str> {
        self.manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap()).collect()
    }

    /// The files of each layer.
    fn contents(&self) -> Vec<Vec<(String, String, Vec<u8>)>> {
        let names = self.layers().into_iter().map(|digest| format!("blobs/{}", digest.replace(':', "/")));
        names.map(|name| entries(GzDecoder::new(self.files[&name].as_slice()))).collect()
    }

    /// The paths, layer by layer.
    fn paths(&self) -> String {
        let layer =
            |files: Vec<(String, String, Vec<u8>)>| files.into_iter().map(|(_, line, _)| line).collect::<Vec<_>>();
        self.contents().into_iter().map(|files| layer(files).join("\n")).collect::<Vec<_>>().join("\n--\n")
    }
}

#[test]
fn an_image_has_what_the_binary_needs_and_nothing_else() {
    let image = Image::open(sample("count", ".oci.tar"));
    with_filters(|| insta::assert_snapshot!("files", image.paths()));
    let config = serde_json::json!({
        "architecture": image.config["architecture"], "os": image.config["os"], "config": image.config["config"],
    });
    with_filters(|| insta::assert_snapshot!("config", serde_json::to_string_pretty(&config).unwrap()));
}

#[test]
fn jobs_share_all_layers_but_the_last() {
    let [count, report] = ["count", "report"].map(|job| Image::open(sample(job, ".oci.tar")));
    let (count, report) = (count.layers(), report.layers());
    assert_eq!(count[..3], report[..3]);
    assert_ne!(count[3], report[3]);
}

#[test]
fn an_image_is_a_base() {
    let (workspace, _) = &*SAMPLE;
    let base = sample("report", ".oci.tar");
    let image = on_base(workspace, base, "on-image");
    assert_eq!(image.layers()[..4], Image::open(base).layers());
    // The base has all but the job.
    assert_eq!(image.layers().len(), 5);
    assert_eq!(image.config["config"]["Entrypoint"], serde_json::json!(["/usr/local/bin/count"]));
    assert_eq!(image.config["config"]["Env"], Image::open(base).config["config"]["Env"]);
}

#[test]
fn a_root_file_system_is_a_base() {
    let (workspace, _) = &*SAMPLE;
    let base = workspace.beside("base");
    let small = Image::open(sample("report", ".oci.tar"));
    for (path, _, bytes) in small.contents().remove(1).into_iter().filter(|(path, ..)| !path.ends_with('/')) {
        let to = base.join("usr").join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    std::os::unix::fs::symlink("usr/lib64", base.join("lib64")).unwrap();
    let image = on_base(workspace, &base, "on-folder");
    let paths = image.paths();
    assert!(paths.contains("/ld-linux"), "{paths}");
    assert!(paths.contains("0777 0:0 @1700000000 lib64\n"), "{paths}");
    assert!(paths.contains("etc/ssl/certs/ca-certificates.crt"), "{paths}");
}

#[test]
fn a_base_without_the_libraries_is_refused() {
    let (workspace, _) = &*SAMPLE;
    let options = Options {
        image: true,
        base: Some(workspace.beside("empty")),
        output: Some(workspace.beside("on-empty")),
        binaries: vec![Binary { job: None, path: built(workspace) }],
        ..workspace.options(named(&["count"]))
    };
    let error = package(&options).unwrap_err();
    let said = (error.kind(), error.message(), error.get("libraries"));
    let loader = if cfg!(target_arch = "x86_64") { "ld-linux-x86-64.so.2" } else { "ld-linux-aarch64.so.1" };
    let libraries = format!("{loader}, libgcc_s.so.1, libc.so.6");
    let message = "libraries that the binary needs are not in the base of the image";
    assert_eq!(said, (ErrorKind::NotFound, message, Some(&*libraries)));
    assert_eq!(fs::read_dir(workspace.beside("on-empty")).unwrap().count(), 0);
}

#[test]
fn a_base_that_is_not_an_image_is_refused() {
    let (workspace, _) = &*SAMPLE;
    let options = Options {
        image: true,
        base: Some(workspace.root.join("Cargo.toml")),
        binaries: vec![Binary { job: None, path: built(workspace) }],
        output: Some(workspace.beside("on-text")),
        ..workspace.options(named(&["count"]))
    };
    let error = package(&options).unwrap_err();
    assert_eq!(error.get("base"), workspace.root.join("Cargo.toml").to_str(), "{error:?}");
    let image = Options { base: Some(workspace.beside("layout")), ..options };
    fs::write(workspace.beside("layout").join("oci-layout"), "{}").unwrap();
    let error = package(&image).unwrap_err();
    assert_eq!(error.message(), "this folder is an image, and not a root file system");
}

/// The binary of `count` that the sample was built from.
fn built(workspace: &TestWorkspace) -> std::path::PathBuf {
    workspace.beside("build").join("release/count")
}

/// An image of `count` with a base.
fn on_base(workspace: &TestWorkspace, base: &Path, output: &str) -> Image {
    let options = Options {
        image: true,
        base: Some(base.to_owned()),
        output: Some(workspace.beside(output)),
        binaries: vec![Binary { job: None, path: built(workspace) }],
        ..workspace.options(named(&["count"]))
    };
    let packaged = package(&options).unwrap();
    let path = &packaged.artefacts[0].path;
    verify(path).unwrap();
    Image::open(path)
}
