//! Snapshots of the same files in other manifests.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use hardtack_core::{Result, fault};
use iceberg::spec::{
    DataFile, Literal, ManifestContentType, ManifestEntryRef, ManifestFile, PrimitiveLiteral, SchemaRef, Snapshot,
    SnapshotRef, Struct,
};

use super::{Counts, Draft, Mode, Rewritten, contents, entries_of, existing_entry, is_known, manifests_of, spec};
use crate::catalog::Loaded;
use crate::error::failed;

/// How the data files of a snapshot would be distributed to manifests.
pub(crate) struct Regrouping {
    /// Manifests that stay: of deletes, and of specs whose columns were dropped.
    kept: Vec<ManifestFile>,
    /// The number of manifests that are replaced.
    pub(crate) replaced: usize,
    /// The entries of each new manifest, by spec.
    pub(crate) groups: Vec<(i32, Vec<(ManifestEntryRef, DataFile)>)>,
    schema: SchemaRef,
}

impl Regrouping {
    /// Puts the entries of a partition together, in manifests of about this size; `None` if they are so.
    pub(crate) async fn plan(loaded: &Loaded, parent: &SnapshotRef, target_bytes: u64) -> Result<Option<Self>> {
        let schema = Arc::clone(loaded.metadata().current_schema());
        let list = manifests_of(loaded, parent).await?;
        let mut kept = Vec::new();
        let mut of_data = Vec::new();
        for file in list {
            match file.content == ManifestContentType::Data && is_known(spec(loaded, file.partition_spec_id)?, &schema)
            {
                true => of_data.push(file),
                false => kept.push(file),
            }
        }
        let mut loading = contents(loaded, of_data);
        let mut specs: BTreeMap<i32, OfSpec> = BTreeMap::new();
        while let Some((file, manifest)) = loading.try_next().await? {
            let of_spec = specs.entry(file.partition_spec_id).or_default();
            let entries = entries_of(spec(loaded, file.partition_spec_id)?, &schema, &file, &manifest)?;
            of_spec.manifests += 1;
            of_spec.bytes += u64::try_from(file.manifest_length).unwrap_or_default();
            of_spec.of_bytes += manifest.entries().len() as u64;
            of_spec.spread += entries.iter().map(|(_, data)| data.partition()).collect::<HashSet<_>>().len();
            of_spec.entries.extend(entries);
        }
        let mut groups = Vec::new();
        let (mut replaced, mut is_grouped) = (0, true);
        for (spec_id, mut of_spec) in specs {
            let per_manifest = of_spec.per_manifest(target_bytes);
            let partitions = of_spec.entries.iter().map(|(_, data)| data.partition()).collect::<HashSet<_>>().len();
            let wanted = of_spec.entries.len().div_ceil(per_manifest);
            // How many are needed is an estimate. If entries are sorted by partition, each manifest but the first may begin
            // within a partition.
            is_grouped &= of_spec.manifests <= wanted + wanted.div_ceil(4);
            is_grouped &= of_spec.spread < partitions + of_spec.manifests.max(1);
            replaced += of_spec.manifests;
            of_spec.entries.sort_by(|(_, a), (_, b)| {
                compare(a.partition(), b.partition()).then_with(|| a.file_path().cmp(b.file_path()))
            });
            let mut entries = of_spec.entries.into_iter().peekable();
            while entries.peek().is_some() {
                groups.push((spec_id, entries.by_ref().take(per_manifest).collect()));
            }
        }
        Ok((!is_grouped).then_some(Self { kept, replaced, groups, schema }))
    }
}

/// The entries of a partition spec.
#[derive(Default)]
struct OfSpec {
    manifests: usize,
    /// The size of the manifests, and the number of all their entries.
    bytes: u64,
    of_bytes: u64,
    /// In how many manifests partitions are, over all partitions.
    spread: usize,
    entries: Vec<(ManifestEntryRef, DataFile)>,
}

impl OfSpec {
    fn per_manifest(&self, target_bytes: u64) -> usize {
        let entry = self.bytes / self.of_bytes.max(1);
        usize::try_from(target_bytes / entry.max(1)).unwrap_or(usize::MAX).max(1)
    }
}

fn compare(a: &Struct, b: &Struct) -> Ordering {
    fn plain(value: Option<&Literal>) -> Option<&PrimitiveLiteral> {
        match value? {
            Literal::Primitive(value) => Some(value),
            _ => None,
        }
    }
    let orders = a.iter().zip(b.iter()).map(|(a, b)| plain(a).partial_cmp(&plain(b)).unwrap_or(Ordering::Equal));
    orders.fold(Ordering::Equal, Ordering::then)
}

impl Draft {
    /// A draft of the same files in other manifests.
    pub(crate) fn regrouping(loaded: &Loaded, properties: HashMap<String, String>) -> Self {
        let spec_id = loaded.metadata().default_partition_spec_id();
        let draft = Self::new(loaded, Mode::Append, spec_id, Vec::new(), properties);
        Self { rewritten: Some(Rewritten { files: HashSet::new(), sequence: 0, same_rows: true }), ..draft }
    }

    /// Produces the snapshot on the parent of which the regrouping was planned.
    pub(crate) async fn regroup(
        &mut self,
        loaded: &Loaded,
        parent: &SnapshotRef,
        plan: Regrouping,
        now_ms: i64,
    ) -> Result<Snapshot> {
        self.schema_id = plan.schema.schema_id();
        self.schema = Arc::clone(&plan.schema);
        let entries: usize = plan.groups.iter().map(|(_, entries)| entries.len()).sum();
        let counts = [
            ("manifests-created", plan.groups.len()),
            ("manifests-kept", plan.kept.len()),
            ("manifests-replaced", plan.replaced),
            ("entries-processed", entries),
        ];
        counts.iter().for_each(|(key, count)| self.set(key, count.to_string()));
        let mut manifests = Vec::new();
        for (spec_id, entries) in plan.groups {
            let spec = spec(loaded, spec_id)?;
            let mut writer = self.writer(loaded, ManifestContentType::Data, spec, &plan.schema)?;
            for (entry, data) in entries {
                let (snapshot, sequence, inherited) = existing_entry(&entry)?;
                writer.add_existing_file(data, snapshot, sequence, inherited).map_err(failed)?;
            }
            manifests.push(writer.write_manifest_file().await.map_err(failed)?);
        }
        fault::hit("iceberg.manifest.after")?;
        manifests.extend(plan.kept);
        self.finish(loaded, Some(parent), manifests, &Counts::default(), now_ms).await
    }
}
