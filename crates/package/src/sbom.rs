//! The bill of materials of a binary: CycloneDX 1.5, as JSON.
//!
//! It lists the crates that the binary is linked from. Procedural macros, build scripts and what only tests need are
//! not in it. It has no serial number, which would be random, so that two builds are equal.

use serde::{Deserialize, Serialize};

use hardtack_core::location::without_credentials;

use crate::Result;
use crate::graph::Graph;
use crate::record::{BuildRecord, pretty};
use crate::workspace::{Job, Package};

/// A bill of materials.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bom {
    #[serde(rename = "bomFormat")]
    pub(crate) bom_format: String,
    pub(crate) spec_version: String,
    version: u32,
    pub(crate) metadata: Metadata,
    pub(crate) components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Metadata {
    timestamp: String,
    tools: Tools,
    pub(crate) component: Component,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Component {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hash {
    alg: String,
    content: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct License {
    expression: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    of: String,
    depends_on: Vec<String>,
}

/// The bill of materials of a job's binary.
pub(crate) fn render(record: &BuildRecord, job: &Job, graph: &Graph<'_>) -> Result<Vec<u8>> {
    let root = Component { kind: "application".to_owned(), name: job.name.clone(), ..component(&job.package, graph) };
    let mut components: Vec<Component> = graph.packages().map(|(package, _)| component(package, graph)).collect();
    components.sort_by(|a, b| a.bom_ref.cmp(&b.bom_ref));
    let edges = graph.packages().map(|(package, needs)| dependency(package, &needs));
    let mut dependencies: Vec<Dependency> = edges.collect();
    dependencies.sort_by(|a, b| a.of.cmp(&b.of));
    dependencies.insert(0, dependency(&job.package, &graph.of_root()));
    let tool = Component {
        kind: "application".to_owned(),
        bom_ref: None,
        name: "hardtack package".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: None,
        hashes: Vec::new(),
        licenses: Vec::new(),
        purl: None,
    };
    pretty(&Bom {
        bom_format: "CycloneDX".to_owned(),
        spec_version: "1.5".to_owned(),
        version: 1,
        metadata: Metadata { timestamp: record.time.clone(), tools: Tools { components: vec![tool] }, component: root },
        components,
        dependencies,
    })
}

fn component(package: &Package, graph: &Graph<'_>) -> Component {
    let checksum = graph.checksum(package);
    Component {
        kind: "library".to_owned(),
        bom_ref: Some(reference(package)),
        name: package.name.clone(),
        version: package.version.clone(),
        description: package.description.as_deref().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")),
        hashes: checksum.map(|sum| Hash { alg: "SHA-256".to_owned(), content: sum.to_owned() }).into_iter().collect(),
        licenses: package.license.as_deref().map(|text| License { expression: licence(text) }).into_iter().collect(),
        purl: purl(package),
    }
}

fn dependency(package: &Package, needs: &[&Package]) -> Dependency {
    let mut depends_on: Vec<String> = needs.iter().map(|package| reference(package)).collect();
    depends_on.sort();
    Dependency { of: reference(package), depends_on }
}

/// The name of a package within the document. It does not say where the workspace is on this machine.
fn reference(package: &Package) -> String {
    let source = package.source.as_deref().map_or("path".into(), without_credentials);
    format!("{source}#{}@{}", package.name, package.version)
}

/// The package's URL. A crate of the workspace has none: a crate of that name in the registry would be another one.
fn purl(package: &Package) -> Option<String> {
    let source = package.source.as_deref()?;
    let url = format!("pkg:cargo/{}@{}", package.name, encoded(&package.version));
    let source = without_credentials(source);
    Some(match source.split_once('+') {
        Some((_, "https://github.com/rust-lang/crates.io-index")) => url,
        Some(("git", _)) => format!("{url}?vcs_url={}", encoded(&source)),
        Some((_, registry)) => format!("{url}?repository_url={}", encoded(registry)),
        None => url,
    })
}

/// A value of a package's URL: all but unreserved characters are escaped.
fn encoded(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

/// A licence as an SPDX expression: old manifests separate alternatives by a slash.
fn licence(text: &str) -> String {
    text.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::crates_io(Some("registry+https://github.com/rust-lang/crates.io-index"), Some("pkg:cargo/a@1.0.0%2Bb"))]
    #[case::other_registry(
        Some("sparse+https://me:key@x.example/index/"),
        Some("pkg:cargo/a@1.0.0%2Bb?repository_url=https://%2A%2A%2A@x.example/index/")
    )]
    #[case::git(
        Some("git+https://x.example/a?rev=1#1f"),
        Some("pkg:cargo/a@1.0.0%2Bb?vcs_url=git%2Bhttps://x.example/a%3Frev%3D1%231f")
    )]
    #[case::path(None, None)]
    fn a_package_is_named_by_its_source(#[case] source: Option<&str>, #[case] wanted: Option<&str>) {
        let package: Package = serde_json::from_value(serde_json::json!({
            "id": "a", "name": "a", "version": "1.0.0+b", "source": source, "manifest_path": "/x/a/Cargo.toml",
            "dependencies": [], "targets": [],
        }))
        .unwrap();
        assert_eq!(purl(&package).map(|url| url.replace("%40", "@")).as_deref(), wanted);
        assert!(!reference(&package).contains("key"));
    }

    #[rstest]
    #[case("MIT/Apache-2.0", "MIT OR Apache-2.0")]
    #[case("MIT / Apache-2.0", "MIT OR Apache-2.0")]
    #[case("(MIT OR Apache-2.0) AND Unicode-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0")]
    fn a_licence_is_an_expression(#[case] text: &str, #[case] wanted: &str) {
        assert_eq!(licence(text), wanted);
    }
}
