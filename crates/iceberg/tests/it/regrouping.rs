//! Manifests are rewritten, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hardtack_core::ErrorKind;
use hardtack_iceberg::{IcebergMaintenance, IcebergTable, PartitionField, RewrittenManifests};
use hardtack_test_support::rows;
use iceberg::TableUpdate;
use iceberg::spec::{DataContentType, ManifestContentType, UnboundPartitionSpec};
use insta::assert_snapshot;
use rstest::rstest;

use super::World;
use crate::foreign::Deletes;
use crate::interposed::Interposed;

fn t() -> IcebergTable {
    IcebergTable::named("lake", "t")
}

impl World {
    async fn regroup(&self) -> RewrittenManifests {
        let run = self.run();
        let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap();
        care.rewrite_manifests().await.unwrap()
    }

    /// What the entries of live data files say, by file: snapshot, sequence number, first row id.
    async fn entries(&self) -> BTreeMap<String, (Option<i64>, Option<i64>, Option<i64>, u64)> {
        let metadata = self.table_metadata().await;
        let list = metadata.current_snapshot().unwrap().manifest_list().to_owned();
        #[expect(clippy::disallowed_methods, reason = "as a foreign reader does")]
        let list = std::fs::read(list).unwrap();
        let list = iceberg::spec::ManifestList::parse_with_version(&list, metadata.format_version()).unwrap();
        let mut all = BTreeMap::new();
        for (file, (_, manifest)) in list.entries().iter().zip(self.manifests().await) {
            let mut next = file.first_row_id.map(|id| id as i64);
            for entry in manifest.entries() {
                let data = entry.data_file();
                let row_id = data.first_row_id().or_else(|| {
                    let own = next;
                    next = next.map(|next| next + data.record_count() as i64);
                    own
                });
                if entry.is_alive() && data.content_type() == DataContentType::Data {
                    let of = (entry.snapshot_id(), entry.sequence_number(), row_id, data.record_count());
                    all.insert(data.file_path().to_owned(), of);
                }
            }
        }
        all
    }

    /// The values of the first partition field in each manifest of live data files.
    async fn partitions(&self) -> Vec<BTreeSet<String>> {
        let manifests = self.manifests().await.into_iter();
        let of_data = manifests.filter(|(_, manifest)| manifest.metadata().content() == &ManifestContentType::Data);
        let values = of_data.map(|(_, manifest)| {
            let live = manifest.entries().iter().filter(|entry| entry.is_alive());
            live.map(|entry| format!("{:?}", entry.data_file().partition())).collect::<BTreeSet<_>>()
        });
        values.collect()
    }

    async fn manifests_of_bytes(&self, bytes: u64) {
        self.set("commit.manifest.target-size-bytes", &bytes.to_string()).await;
    }

    /// Sets a property of the table.
    async fn set(&self, key: &str, value: &str) {
        let updates = [(key.to_owned(), value.to_owned())].into();
        self.change(vec![TableUpdate::SetProperties { updates }]).await;
    }
}

#[rstest]
#[tokio::test]
async fn entries_are_regrouped_as_they_are(#[values(2, 3)] version: u8) {
    let world = World::new();
    let new = world.new_table().partition_by([PartitionField::identity("day")]).with_format_version(version);
    let table = t().create_if_missing(new);
    for id in 0..4 {
        world.save(&table, &rows! { id, day; id, "mon"; id, "tue"; id, null }).await;
    }
    world.save(&table.clone().overwrite_partitions(), &rows! { id, day; 9, "tue" }).await;
    if version == 2 {
        world.delete_rows(&[2], Deletes::Positions).await;
    }
    let (before, rows) = (world.entries().await, world.rows().await);
    let (metadata, files) = (world.metadata().await, world.dir.files("lake"));
    let run = world.run();
    let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap().dry_run(true);
    let dry = care.rewrite_manifests().await.unwrap();
    assert_eq!((dry.snapshot, dry.manifests, dry.new_manifests, dry.files), (None, 5, 1, 9));
    assert_eq!((world.metadata().await, world.dir.files("lake")), (metadata, files));
    let done = world.regroup().await;
    assert_eq!(world.metadata().await["current-snapshot-id"].as_i64(), done.snapshot);
    assert_eq!((world.entries().await, world.rows().await), (before, rows.clone()));
    assert_eq!(world.partitions().await.len(), 1);
    let counts = if version == 2 { "0 files, 0 rows" } else { "9 files, 9 rows" };
    let history = &world.history().await[0];
    assert!(history.starts_with("replace: +0 -0 files, +0 -0 rows"), "{history}");
    assert!(version == 2 || history.ends_with(counts), "{history}");
    assert_eq!(world.regroup().await, RewrittenManifests::default());
    // What comes later is as ever.
    world.save(&table.overwrite_partitions(), &rows! { id, day; 10, "mon" }).await;
    let mut expected: Vec<String> = rows.into_iter().filter(|row| !row.ends_with("mon")).collect();
    expected.push("10 mon".to_owned());
    expected.sort();
    assert_eq!(world.rows().await, expected);
}

#[tokio::test]
async fn files_of_a_partition_are_together() {
    let world = World::new();
    let table = t().create_if_missing(world.new_table().partition_by([PartitionField::identity("day")]));
    for id in 0..6 {
        world.save(&table, &rows! { id, day; id, "mon"; id, "tue"; id, "wed"; id, null }).await;
    }
    assert!(world.partitions().await.iter().all(|of| of.len() == 4));
    world.manifests_of_bytes(8 << 10).await;
    let done = world.regroup().await;
    let partitions = world.partitions().await;
    assert!(done.new_manifests > 1 && partitions.len() == done.new_manifests, "{partitions:?}");
    let spread: usize = partitions.iter().map(BTreeSet::len).sum();
    assert!(spread < 4 + partitions.len(), "{partitions:?}");
    assert_eq!(world.rows().await.len(), 24);
    assert_eq!(world.regroup().await, RewrittenManifests::default());
    world.manifests_of_bytes(8 << 20).await;
    assert_eq!(world.regroup().await.new_manifests, 1);
    // They are not split.
    world.manifests_of_bytes(1).await;
    assert_eq!(world.regroup().await, RewrittenManifests::default());
}

#[tokio::test]
async fn what_others_add_meanwhile_is_there() {
    let world = Arc::new(World::new());
    for id in 0..3 {
        world.save(&world.table(), &rows! { id; id }).await;
    }
    let there = Arc::clone(&world);
    let others = Box::pin(async move { there.save(&there.table(), &rows! { id; 9 }).await });
    let run = world.run_with(Interposed::new(&world.catalog, others));
    let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap();
    let done = care.rewrite_manifests().await.unwrap();
    assert_eq!((done.manifests, done.new_manifests, done.files), (4, 1, 4));
    assert_eq!(world.rows().await, ["0", "1", "2", "9"]);
    // What was written for the first attempt is gone.
    let lists = world.dir.files("lake/t/metadata").into_iter().filter(|file| file.contains("snap-")).count();
    assert_eq!(lists, world.metadata().await["snapshots"].as_array().unwrap().len());
}

#[tokio::test]
async fn a_table_without_snapshots_has_no_manifests() {
    let world = World::new();
    world.save(&world.table(), &rows! { id: Int64; }).await;
    assert_eq!(world.regroup().await, RewrittenManifests::default());
    world.set("commit.manifest.target-size-bytes", "8MB").await;
    world.save(&t(), &rows! { id; 1 }).await;
    let run = world.run();
    let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap();
    let error = care.rewrite_manifests().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_snapshot!(error, @"the table's property `commit.manifest.target-size-bytes` is `8MB`, which is not a number (table: lake.t)");
}

/// The table by whose commits this many manifests are merged.
fn merging(world: &World, count: &str) -> IcebergTable {
    let new = world.new_table().partition_by([PartitionField::identity("day")]);
    t().create_if_missing(new.with_property("commit.manifest.min-count-to-merge", count))
}

#[rstest]
#[tokio::test]
async fn many_small_manifests_become_few(#[values(2, 3)] version: u8) {
    let world = World::new();
    let new = world.new_table().partition_by([PartitionField::identity("day")]).with_format_version(version);
    let table = t().create_if_missing(new.with_property("commit.manifest.min-count-to-merge", "4"));
    let mut before = BTreeMap::new();
    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    for id in 0..12 {
        world.save(&table, &rows! { id, day; id, "mon" }).await;
        rows.push(format!("{id} mon"));
        rows.sort();
        assert_eq!(world.rows().await, rows);
        // Files that were there are what they were.
        let mut entries = world.entries().await;
        assert_eq!(entries.len(), id + 1);
        let now = entries.clone();
        entries.retain(|file, _| before.contains_key(file));
        assert_eq!(entries, before);
        before = now;
        counts.push(world.partitions().await.len());
    }
    assert_eq!(counts, [1, 2, 3, 4, 2, 3, 4, 2, 3, 4, 2, 3]);
    let history = world.history().await;
    assert!(history.iter().all(|step| step.starts_with("append: +1 -0 files")), "{history:?}");
    // What replaces partitions finds their files in merged manifests.
    world.save(&table.overwrite_partitions(), &rows! { id, day; 99, "mon" }).await;
    assert_eq!(world.rows().await, ["99 mon"]);
}

/// A run has staged on a head with many manifests; others have moved `main`, and merged them.
#[tokio::test]
async fn a_snapshot_with_merged_manifests_is_published_once() {
    let world = World::new();
    let table = merging(&world, "3");
    for id in 0..3 {
        world.save(&table, &rows! { id, day; id, "mon" }).await;
    }
    let (run, staged) = world.stage(&table, &rows! { id, day; 3, "tue" }).await.unwrap();
    let (later, replaced) =
        world.stage(&table.clone().overwrite_partitions(), &rows! { id, day; 4, "mon" }).await.unwrap();
    world.save(&table, &rows! { id, day; 5, "mon" }).await;
    for _ in 0..2 {
        run.ctx.publish(&staged.publish).await.unwrap();
        assert_eq!(world.rows().await, ["0 mon", "1 mon", "2 mon", "3 tue", "5 mon"]);
    }
    for _ in 0..2 {
        later.ctx.publish(&replaced.publish).await.unwrap();
        assert_eq!(world.rows().await, ["3 tue", "4 mon"]);
    }
    assert_eq!(world.refs().await, ["main"]);
}

/// What a run discards has merged manifests; those of others stay.
#[tokio::test]
async fn what_was_merged_for_a_run_that_failed_is_discarded() {
    let world = World::new();
    let table = merging(&world, "2");
    for id in 0..2 {
        world.save(&table, &rows! { id, day; id, "mon" }).await;
    }
    let files =
        |world: &World| world.dir.files("lake").into_iter().filter(|f| f.ends_with(".avro")).collect::<Vec<_>>();
    let before = files(&world);
    let (run, _) = world.stage(&table, &rows! { id, day; 3, "tue" }).await.unwrap();
    assert!(files(&world).len() == before.len() + 3, "a list, and manifests of new and of old files");
    run.discard().await.unwrap();
    assert_eq!(files(&world), before);
    assert_eq!(world.rows().await, ["0 mon", "1 mon"]);
}

#[rstest]
#[case::not_wanted("commit.manifest-merge.enabled", "false", 6)]
#[case::of_no_size("commit.manifest.target-size-bytes", "1", 6)]
// A commit after the decision does not fail because of it.
#[case::not_a_number("commit.manifest.target-size-bytes", "8MB", 3)]
#[tokio::test]
async fn a_table_says_whether_commits_merge(#[case] key: &str, #[case] value: &str, #[case] manifests: usize) {
    let world = World::new();
    let table = merging(&world, "4");
    world.save(&table, &rows! { id, day; 0, "mon" }).await;
    world.set(key, value).await;
    for id in 1..6 {
        world.save(&table, &rows! { id, day; id, "mon" }).await;
    }
    assert_eq!(world.partitions().await.len(), manifests);
    assert_eq!(world.rows().await.len(), 6);
}

/// Manifests of files of another partition spec stay apart, and so do those of deletes.
#[tokio::test]
async fn manifests_of_different_kinds_are_not_mixed() {
    let world = World::new();
    let table = merging(&world, "2");
    for id in 0..3 {
        world.save(&table, &rows! { id, day; id, "mon" }).await;
    }
    world.delete_rows(&[1], Deletes::Positions).await;
    let spec = UnboundPartitionSpec::builder().build();
    world.change(vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }]).await;
    for id in 3..6 {
        world.save(&t(), &rows! { id, day; id, "tue" }).await;
    }
    assert_eq!(world.rows().await, ["0 mon", "2 mon", "3 tue", "4 tue", "5 tue"]);
    let kinds: BTreeSet<(String, i32)> = world
        .manifests()
        .await
        .iter()
        .map(|(_, m)| (format!("{:?}", m.metadata().content()), m.metadata().partition_spec().spec_id()))
        .collect();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}
