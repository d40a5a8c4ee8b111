//! Manifests of many small commits become few, so that planning a scan does not take longer with each commit.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;
use hardtack_core::Result;
use iceberg::spec::{ManifestContentType, ManifestFile};

use super::{Draft, contents, entries_of, existing_entry, is_known, spec};
use crate::catalog::Loaded;
use crate::error::failed;

/// Whether commits merge manifests, by Iceberg's property `commit.manifest-merge.enabled`.
const ENABLED: &str = "commit.manifest-merge.enabled";
/// From how many on.
const MIN_COUNT: &str = "commit.manifest.min-count-to-merge";
const MIN_COUNT_DEFAULT: usize = 100;
/// The property with the size of manifests, and its default.
pub(crate) const TARGET: &str = "commit.manifest.target-size-bytes";
pub(crate) const TARGET_BYTES: u64 = 8 << 20;

/// When and how manifests are merged.
struct Rule {
    min_count: usize,
    target_bytes: u64,
}

impl Rule {
    /// That of a table; `None` if it wants none. A commit after the decision must not fail, so a value that does not parse
    /// counts as the default.
    fn of(properties: &HashMap<String, String>) -> Option<Self> {
        fn parsed<T: std::str::FromStr>(properties: &HashMap<String, String>, key: &str) -> Option<T> {
            properties.get(key)?.parse().ok()
        }
        parsed(properties, ENABLED).unwrap_or(true).then(|| Self {
            min_count: parsed(properties, MIN_COUNT).unwrap_or(MIN_COUNT_DEFAULT).max(2),
            target_bytes: parsed(properties, TARGET).unwrap_or(TARGET_BYTES),
        })
    }

    /// A larger one stays: it would be written again with each merge, and gain nothing.
    fn is_small(&self, file: &ManifestFile) -> bool {
        size(file) < self.target_bytes / 2
    }

    /// Manifests that together have the target size, as far as there are so many.
    fn bins(&self, files: Vec<ManifestFile>) -> Vec<Vec<ManifestFile>> {
        let mut bins: Vec<Vec<ManifestFile>> = Vec::new();
        let mut bytes = 0;
        for file in files {
            bytes += size(&file);
            match bins.last_mut() {
                Some(bin) if bytes <= self.target_bytes => bin.push(file),
                _ => {
                    bytes = size(&file);
                    bins.push(vec![file]);
                }
            }
        }
        bins
    }
}

fn size(file: &ManifestFile) -> u64 {
    u64::try_from(file.manifest_length).unwrap_or_default()
}

impl Draft {
    /// These manifests of earlier snapshots, with the small ones merged if there are many: those of each partition spec, data
    /// and deletes apart. Manifests of this snapshot stay, with what they say about it.
    pub(super) async fn merged(&mut self, loaded: &Loaded, manifests: Vec<ManifestFile>) -> Result<Vec<ManifestFile>> {
        let Some(rule) = Rule::of(loaded.metadata().properties()) else { return Ok(manifests) };
        let mut merged = Vec::new();
        let mut small: BTreeMap<(i32, bool), Vec<ManifestFile>> = BTreeMap::new();
        for file in manifests {
            let is_own = file.added_snapshot_id == self.id;
            match !is_own && rule.is_small(&file) && is_known(spec(loaded, file.partition_spec_id)?, &self.schema) {
                true => small
                    .entry((file.partition_spec_id, file.content == ManifestContentType::Data))
                    .or_default()
                    .push(file),
                false => merged.push(file),
            }
        }
        for files in small.into_values() {
            if files.len() < rule.min_count {
                merged.extend(files);
                continue;
            }
            for bin in rule.bins(files) {
                merged.extend(self.merge(loaded, bin).await?);
            }
        }
        Ok(merged)
    }

    /// One manifest with the live entries of all, which are of one spec and kind.
    async fn merge(&mut self, loaded: &Loaded, files: Vec<ManifestFile>) -> Result<Vec<ManifestFile>> {
        let [first, _, ..] = files.as_slice() else { return Ok(files) };
        let spec = spec(loaded, first.partition_spec_id)?;
        let schema = self.schema.clone();
        let mut writer = self.writer(loaded, first.content, spec, &schema)?;
        let mut is_empty = true;
        let mut loading = contents(loaded, files);
        while let Some((file, manifest)) = loading.try_next().await? {
            for (entry, data) in entries_of(spec, &schema, &file, &manifest)? {
                let (snapshot, sequence, inherited) =
                    existing_entry(&entry).map_err(|e| e.with("manifest", &file.manifest_path))?;
                writer.add_existing_file(data, snapshot, sequence, inherited).map_err(failed)?;
                is_empty = false;
            }
        }
        let written = writer.write_manifest_file().await.map_err(failed)?;
        Ok(if is_empty { Vec::new() } else { vec![written] })
    }
}
