//! Compaction leaves rows as they are, whatever others do meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use hardtack_catalog::{Catalog, SchemaEvolution};
use hardtack_core::{ErrorKind, Result, Sink};
use hardtack_iceberg::{CompactOptions, Compacted, IcebergMaintenance, IcebergTable, PartitionField};
use hardtack_test_support::{Frame, json, rows};
use iceberg::TableUpdate;
use iceberg::spec::{
    DataContentType, NestedField, Schema, SnapshotReference, SnapshotRetention, Transform, UnboundPartitionSpec,
};
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use super::World;
use crate::foreign::Deletes;
use crate::interposed::Interposed;

const ALL: CompactOptions = CompactOptions { branch: None, min_input_files: 5, all: true, sort_by: None };

fn t() -> IcebergTable {
    IcebergTable::named("lake", "t")
}

impl World {
    async fn try_compact(&self, options: &CompactOptions, catalog: Arc<dyn Catalog>) -> Result<Compacted> {
        let run = self.run_with(catalog);
        let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await?;
        care.compact(&run.ctx, options).await
    }

    async fn compact(&self, options: &CompactOptions) -> Compacted {
        self.try_compact(options, Arc::clone(&self.catalog)).await.unwrap()
    }

    fn by(&self, field: PartitionField) -> IcebergTable {
        t().create_if_missing(self.new_table().partition_by([field]))
    }
}

#[tokio::test]
async fn small_files_become_one_per_partition() {
    let world = World::new();
    let table = world.by(PartitionField::identity("day"));
    for id in 0..5 {
        world.save(&table, &rows! { id, day; id, "mon"; id, null }).await;
    }
    world.save(&table, &rows! { id, day; 9, "tue" }).await;
    let before = world.rows().await;
    let (metadata, files) = (world.metadata().await, world.dir.files("lake"));
    let run = world.run();
    let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap().dry_run(true);
    let dry = care.compact(&run.ctx, &CompactOptions::default()).await.unwrap();
    assert_eq!((dry.snapshot, dry.files, dry.new_files), (None, 10, 0));
    assert_eq!((world.metadata().await, world.dir.files("lake")), (metadata, files));
    let done = world.compact(&CompactOptions::default()).await;
    assert_eq!((done.files, done.bytes, done.new_files), (10, dry.bytes, 2));
    assert_eq!(world.metadata().await["current-snapshot-id"].as_i64(), done.snapshot);
    assert_eq!(world.rows().await, before);
    assert_snapshot!(world.history().await[0], @"replace: +2 -10 files, +10 -10 rows; 3 files, 11 rows");
    // Nothing is left to do, and what was is still there.
    assert_eq!(world.compact(&CompactOptions::default()).await, Compacted::default());
    let first = world.first_snapshot().await;
    assert_eq!(world.read(t().snapshot(first)).await.unwrap(), ["0 mon", "0 null"]);
}

#[tokio::test]
async fn what_is_worth_it_is_rewritten() {
    let world = World::new();
    for id in 0..4 {
        world.save(&world.table(), &rows! { id; id }).await;
    }
    assert_eq!(world.compact(&CompactOptions::default()).await, Compacted::default());
    let done = world.compact(&CompactOptions { min_input_files: 4, ..CompactOptions::default() }).await;
    assert_eq!((done.files, done.new_files), (4, 1));
    // One file does not become fewer.
    let one = CompactOptions { min_input_files: 1, ..CompactOptions::default() };
    assert_eq!(world.compact(&one).await, Compacted::default());
    assert_eq!(world.compact(&ALL).await.files, 1);
    assert_eq!(world.rows().await, ["0", "1", "2", "3"]);
    // Files of the target size stay.
    let large = t().create_if_missing(world.new_table());
    world
        .change(vec![TableUpdate::SetProperties {
            updates: [("write.target-file-size-bytes".to_owned(), "100".to_owned())].into(),
        }])
        .await;
    world.save(&large, &rows! { id; 4 }).await;
    assert_eq!(world.compact(&one).await, Compacted::default());
}

#[tokio::test]
async fn a_table_without_rows_is_compact() {
    let world = World::new();
    world.save(&world.table(), &rows! { id: Int64; }).await;
    assert_eq!(world.compact(&ALL).await, Compacted::default());
    world.save(&world.table().append(), &rows! { id; 1 }).await;
    world.delete_rows(&[1], Deletes::Positions).await;
    let done = world.compact(&CompactOptions::default()).await;
    assert_eq!((done.files, done.delete_files, done.new_files), (1, 1, 0));
    assert_eq!(world.rows().await, [""; 0]);
    assert_snapshot!(world.history().await[0], @"replace: +0 -1 files, +0 -1 rows; 0 files, 0 rows");
}

#[rstest]
#[case(Deletes::Positions)]
#[case(Deletes::Values)]
#[tokio::test]
async fn deleted_rows_are_gone_with_their_deletes(#[case] how: Deletes) {
    let world = World::new();
    let table = world.by(PartitionField::identity("day"));
    world.save(&table, &rows! { id, day; 1, "mon"; 2, "mon"; 3, "tue"; 4, "wed" }).await;
    world.delete_rows(&[2, 3], how).await;
    assert_eq!(world.rows().await, ["1 mon", "4 wed"]);
    let done = world.compact(&CompactOptions::default()).await;
    assert_eq!((done.files, done.delete_files, done.new_files), (2, 2, 1));
    assert_eq!(world.rows().await, ["1 mon", "4 wed"]);
    for content in [DataContentType::PositionDeletes, DataContentType::EqualityDeletes] {
        assert_eq!(world.live(content).await.len(), 0);
    }
    assert_eq!(world.live(DataContentType::Data).await.len(), 2);
    // Deleted afterwards, and compacted again.
    world.delete_rows(&[1], how).await;
    assert_eq!(world.rows().await, ["4 wed"]);
    world.compact(&CompactOptions::default()).await;
    assert_eq!(world.rows().await, ["4 wed"]);
}

#[tokio::test]
async fn rows_are_sorted_within_files() {
    let world = World::new();
    let table = t().create_if_missing(world.new_table().sorted_by(["id"]));
    for id in [3, 1, 2] {
        world.save(&table, &rows! { id, name; id, format!("{}", 9 - id) }).await;
    }
    let first = async |world: &World| {
        let run = world.run();
        let rows = run.ctx.load(t()).await.unwrap().collect().await.unwrap();
        rows.iter().flat_map(crate::world::lines).collect::<Vec<_>>()
    };
    world.compact(&ALL).await;
    assert_eq!(first(&world).await, ["1 8", "2 7", "3 6"]);
    world.compact(&CompactOptions { sort_by: Some(vec!["name".into()]), ..ALL }).await;
    assert_eq!(first(&world).await, ["3 6", "2 7", "1 8"]);
    let (metadata, files) = (world.metadata().await, world.dir.files("lake"));
    let wrong = CompactOptions { sort_by: Some(vec!["nam".into()]), ..ALL };
    let error = world.try_compact(&wrong, Arc::clone(&world.catalog)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert_eq!((world.metadata().await, world.dir.files("lake")), (metadata, files));
}

/// Adds a schema or spec, and makes it that of the table.
async fn respec(world: &World, by: Option<(i32, &str, Transform)>) {
    let mut spec = UnboundPartitionSpec::builder();
    if let Some((id, name, transform)) = by {
        spec = spec.add_partition_field(id, name, transform).unwrap();
    }
    let spec = TableUpdate::AddSpec { spec: spec.build() };
    world.change(vec![spec, TableUpdate::SetDefaultSpec { spec_id: -1 }]).await;
}

#[tokio::test]
async fn files_of_earlier_specs_move_to_the_current_one() {
    let world = World::new();
    world.save(&world.table(), &rows! { id, day; 1, "mon"; 2, "tue" }).await;
    respec(&world, Some((2, "day", Transform::Identity))).await;
    world.save(&t(), &rows! { id, day; 3, "mon" }).await;
    let done = world.compact(&CompactOptions::default()).await;
    assert_eq!((done.files, done.new_files), (1, 2));
    assert_eq!(world.rows().await, ["1 mon", "2 tue", "3 mon"]);
    world.save(&t().overwrite_partitions(), &rows! { id, day; 4, "mon" }).await;
    assert_eq!(world.rows().await, ["2 tue", "4 mon"]);
}

/// What it replaces is found by the spec that it was staged with.
#[tokio::test]
async fn files_of_an_earlier_spec_wait_for_a_run_that_replaces_its_partitions() {
    let world = World::new();
    let table = world.by(PartitionField::identity("day"));
    world.save(&table, &rows! { id, day; 1, "mon"; 2, "tue" }).await;
    let (run, staged) = world.stage(&table.clone().overwrite_partitions(), &rows! { id, day; 3, "mon" }).await.unwrap();
    respec(&world, None).await;
    assert_eq!(world.compact(&ALL).await, Compacted::default());
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["2 tue", "3 mon"]);
    assert_eq!(world.compact(&ALL).await.new_files, 1);
    assert_eq!(world.rows().await, ["2 tue", "3 mon"]);
}

#[tokio::test]
async fn a_branch_is_compacted_alone() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (run, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    let branch = format!("hardtack_{}", run.ctx.run().version());
    let main = world.metadata().await["refs"]["main"].clone();
    let run = world.run();
    let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap();
    care.branch("try", Some(&branch)).await.unwrap();
    let done = care.compact(&run.ctx, &CompactOptions { branch: Some("try".to_owned()), ..ALL }).await.unwrap();
    assert_eq!((done.files, done.new_files), (2, 1));
    assert_eq!(world.metadata().await["refs"]["main"], main);
    assert_eq!(world.read(t().branch("try")).await.unwrap(), ["1", "2"]);
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1", "2"]);
    care.tag("done", None).await.unwrap();
    for (name, why) in [("done", "a tag has no files of its own"), ("nope", "no branch or tag of this name")] {
        let options = CompactOptions { branch: Some(name.to_owned()), ..ALL };
        let error = care.compact(&run.ctx, &options).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn rows_with_ids_are_left_alone() {
    let world = World::new();
    let table = t().create_if_missing(world.new_table().with_format_version(3));
    world.save(&table, &rows! { id; 1 }).await;
    let error = world.try_compact(&ALL, Arc::clone(&world.catalog)).await.unwrap_err();
    assert_snapshot!(error, @"tables of format version 3 cannot be compacted: their rows have ids, which would be lost (table: lake.t, hint: `rewrite_data_files` of Spark keeps them)");
}

// --- others ----------------------------------------------------------------------------------------------------------

/// What others do between the moment when a compaction has written its files and its commit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Others {
    Append,
    DeleteValues,
    DeletePositions,
    DeletePositionsElsewhere,
    OverwritePartition,
    OverwriteElsewhere,
    Overwrite,
    Rename,
    Compact,
    Roll,
}

#[rstest]
#[case::append(Others::Append, true, &["1 mon", "2 mon", "3 tue", "4 tue", "9 mon"])]
#[case::delete_values(Others::DeleteValues, true, &["1 mon", "3 tue", "4 tue"])]
#[case::delete_positions(Others::DeletePositions, false, &["1 mon", "3 tue", "4 tue"])]
#[case::delete_elsewhere(Others::DeletePositionsElsewhere, true, &["1 mon", "2 mon", "4 tue"])]
#[case::overwrite_partition(Others::OverwritePartition, false, &["3 tue", "4 tue", "9 mon"])]
#[case::overwrite_elsewhere(Others::OverwriteElsewhere, true, &["1 mon", "2 mon", "9 tue"])]
#[case::overwrite(Others::Overwrite, false, &["9 mon"])]
#[case::rename(Others::Rename, false, &["1 mon", "2 mon", "3 tue", "4 tue"])]
#[case::compact(Others::Compact, false, &["1 mon", "2 mon", "3 tue", "4 tue"])]
#[case::roll(Others::Roll, false, &["1 mon", "3 tue", "4 tue"])]
#[tokio::test]
async fn what_others_do_meanwhile_stays(#[case] others: Others, #[case] is_done: bool, #[case] expected: &[&str]) {
    let world = Arc::new(World::new());
    let table = world.by(PartitionField::identity("day"));
    // One file of `tue`, two of `mon`.
    world.save(&table, &rows! { id, day; 1, "mon"; 3, "tue"; 4, "tue" }).await;
    world.save(&table, &rows! { id, day; 2, "mon" }).await;
    let there = Arc::clone(&world);
    let doing = Box::pin(async move {
        match others {
            Others::Append => there.save(&table, &rows! { id, day; 9, "mon" }).await,
            Others::DeleteValues => there.delete_rows(&[2], Deletes::Values).await,
            Others::DeletePositions => there.delete_rows(&[2], Deletes::Positions).await,
            Others::DeletePositionsElsewhere => there.delete_rows(&[3], Deletes::Positions).await,
            Others::OverwritePartition => {
                there.save(&table.overwrite_partitions(), &rows! { id, day; 9, "mon" }).await;
            }
            Others::OverwriteElsewhere => {
                there.save(&table.overwrite_partitions(), &rows! { id, day; 9, "tue" }).await;
            }
            Others::Overwrite => there.save(&table.overwrite(), &rows! { id, day; 9, "mon" }).await,
            Others::Rename => {
                let current = there.table_metadata().await.current_schema().as_ref().clone();
                let fields = current.as_struct().fields().iter().map(|field| {
                    let mut field = field.as_ref().clone();
                    field.name = format!("{}_then", field.name);
                    Arc::new(field)
                });
                let schema = Schema::builder().with_fields(fields).build().unwrap();
                there
                    .change(vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }])
                    .await;
            }
            Others::Compact => {
                there.compact(&CompactOptions { min_input_files: 2, ..CompactOptions::default() }).await;
            }
            Others::Roll => {
                let run = there.run();
                let care = IcebergMaintenance::open(&run.ctx, "lake", "t", run.ctx.now()).await.unwrap();
                let first = there.first_snapshot().await;
                care.rollback(&first.to_string()).await.unwrap();
            }
        }
    });
    let files = |world: &World| world.dir.files("lake/t/data").into_iter().collect::<BTreeSet<_>>();
    let before = files(&world);
    let options = CompactOptions { min_input_files: 2, ..CompactOptions::default() };
    let done = world.try_compact(&options, Interposed::new(&world.catalog, doing)).await;
    if is_done {
        assert_eq!(done.unwrap().files, 2);
    } else {
        let error = done.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("lake.t"), "{error}");
        // Only files that the table has, or had.
        let more: Vec<String> = files(&world).difference(&before).cloned().collect();
        let mine = more.iter().filter(|file| file.contains("/compacted-")).count();
        assert_eq!(mine, usize::from(others == Others::Compact), "{more:?}");
    }
    assert_eq!(world.rows().await, expected);
    // It is as good as any table.
    world.compact(&ALL).await;
    assert_eq!(world.rows().await, expected);
}

/// The rows have moved to another partition, of which later deletes would be.
#[tokio::test]
async fn deletes_of_a_partition_that_rows_leave_are_a_conflict() {
    let world = Arc::new(World::new());
    let table = world.by(PartitionField::identity("day"));
    world.save(&table, &rows! { id, day; 1, "mon"; 2, "mon" }).await;
    respec(&world, None).await;
    let there = Arc::clone(&world);
    let others = Box::pin(async move { there.delete_rows(&[2], Deletes::Values).await });
    let error = world.try_compact(&ALL, Interposed::new(&world.catalog, others)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.rows().await, ["1 mon"]);
    world.compact(&ALL).await;
    assert_eq!(world.rows().await, ["1 mon"]);
}

/// A run that has begun before the table was partitioned in another way stages its rows while files move to the new spec.
/// What it replaces must be found where it was.
#[tokio::test]
async fn a_run_that_replaces_partitions_of_an_earlier_spec_is_a_conflict() {
    let world = Arc::new(World::new());
    let table = world.by(PartitionField::identity("day"));
    world.save(&table, &rows! { id, day; 1, "mon"; 2, "tue" }).await;
    let (run, staged) = world.stage(&table.overwrite_partitions(), &rows! { id, day; 9, "mon" }).await.unwrap();
    let branch = format!("hardtack_{}", run.ctx.run().version());
    let reference = world.table_metadata().await.snapshot_for_ref(&branch).unwrap().snapshot_id();
    let reference = SnapshotReference::new(reference, SnapshotRetention::branch(None, None, None));
    world.change(vec![TableUpdate::RemoveSnapshotRef { ref_name: branch.clone() }]).await;
    respec(&world, None).await;
    let there = Arc::clone(&world);
    let others = Box::pin(async move {
        there.change(vec![TableUpdate::SetSnapshotRef { ref_name: branch, reference }]).await;
    });
    let error = world.try_compact(&ALL, Interposed::new(&world.catalog, others)).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Conflict, Some("lake.t")), "{error}");
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["2 tue", "9 mon"]);
    world.compact(&ALL).await;
    assert_eq!(world.rows().await, ["2 tue", "9 mon"]);
}

/// A merge that is decided replaces what was compacted since, and is a conflict before.
#[rstest]
#[tokio::test]
async fn a_merge_and_a_compaction_lose_nothing(#[values(true, false)] is_decided: bool) {
    let world = World::new();
    let table = world.by(PartitionField::identity("day"));
    world.save(&table, &rows! { id, day; 1, "mon"; 3, "tue" }).await;
    world.save(&table, &rows! { id, day; 2, "mon" }).await;
    let run = world.run();
    let touched = table.touched(&run.ctx, &rows! { day; "mon" }.to_df(run.ctx.session())).await.unwrap();
    let rows = rows! { id, day; 9, "mon" }.to_df(run.ctx.session());
    let staged = table.only(touched).stage(&run.ctx.staging("out"), rows).await.unwrap();
    if is_decided {
        run.ctx.audit().await.unwrap();
    }
    world.compact(&ALL).await;
    if is_decided {
        run.ctx.publish(&staged.publish).await.unwrap();
        assert_eq!(world.rows().await, ["3 tue", "9 mon"]);
    } else {
        assert_eq!(run.ctx.audit().await.unwrap_err().kind(), ErrorKind::Conflict);
        run.discard().await.unwrap();
        assert_eq!(world.rows().await, ["1 mon", "2 mon", "3 tue"]);
    }
}

/// Decided, and published after a compaction.
#[rstest]
#[case::append(0, &["1 mon", "2 mon", "3 tue", "9 mon"])]
#[case::overwrite_partitions(1, &["3 tue", "9 mon"])]
#[case::overwrite(2, &["9 mon"])]
#[case::strict(3, &["3 tue", "9 mon"])]
#[tokio::test]
async fn a_run_that_is_decided_is_published(#[case] mode: u8, #[case] expected: &[&str]) {
    let world = World::new();
    let table = world.by(PartitionField::identity("day"));
    world.save(&table, &rows! { id, day; 1, "mon"; 3, "tue" }).await;
    world.save(&table, &rows! { id, day; 2, "mon" }).await;
    let saving = match mode {
        0 => table.append(),
        1 => table.overwrite_partitions(),
        2 => table.overwrite(),
        _ => table.overwrite_partitions().strict(),
    };
    let (run, staged) = world.stage(&saving, &rows! { id, day; 9, "mon" }).await.unwrap();
    assert_eq!(world.compact(&ALL).await.files, 3);
    // A compaction is no change of rows.
    run.ctx.audit().await.unwrap();
    for _ in 0..2 {
        run.ctx.publish(&staged.publish).await.unwrap();
        assert_eq!(world.rows().await, expected);
    }
    world.compact(&ALL).await;
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_runs_and_compactions_lose_nothing() {
    let world = Arc::new(World::new());
    let table = world.by(PartitionField::bucket(2, "id"));
    world.save(&table, &rows! { id; 1000 }).await;
    let runs = (0..3_i64).map(|n| {
        let (world, table) = (Arc::clone(&world), table.clone());
        tokio::spawn(async move {
            for k in 0..6 {
                world.save(&table, &rows! { id; n * 10 + k; n * 10 + k + 100 }).await;
            }
        })
    });
    let compactions = (0..2).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let mut done = 0;
            for _ in 0..6 {
                let options = CompactOptions { min_input_files: 2, ..CompactOptions::default() };
                match world.try_compact(&options, Arc::clone(&world.catalog)).await {
                    Ok(compacted) => done += usize::from(compacted.snapshot.is_some()),
                    // Of the other compaction.
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e}"),
                }
            }
            done
        })
    });
    let (runs, compactions): (Vec<_>, Vec<_>) = (runs.collect(), compactions.collect());
    for run in runs {
        run.await.unwrap();
    }
    let mut done = 0;
    for compaction in compactions {
        done += compaction.await.unwrap();
    }
    assert!(done > 0);
    let ids = (0..3).flat_map(|n| (0..6).flat_map(move |k| [n * 10 + k, n * 10 + k + 100])).chain([1000]);
    let mut expected: Vec<String> = ids.map(|id| id.to_string()).collect();
    expected.sort();
    assert_eq!(world.rows().await, expected);
    world.compact(&ALL).await;
    assert_eq!(world.rows().await, expected);
}

// --- any table -------------------------------------------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Step {
    Save(u8),
    Stage(u8),
    Publish,
    Overwrite(u8),
    Delete { positions: bool, which: Vec<proptest::sample::Index> },
    Add,
    Rename,
    Drop,
    Respec(u8),
    Compact { all: bool },
}

fn any_step() -> impl Strategy<Value = Step> {
    let which = proptest::collection::vec(any::<proptest::sample::Index>(), 1..4);
    prop_oneof![
        5 => (1..5_u8).prop_map(Step::Save),
        1 => (1..3_u8).prop_map(Step::Stage),
        1 => Just(Step::Publish),
        1 => (1..4_u8).prop_map(Step::Overwrite),
        4 => (any::<bool>(), which).prop_map(|(positions, which)| Step::Delete { positions, which }),
        1 => Just(Step::Add),
        1 => Just(Step::Rename),
        1 => Just(Step::Drop),
        1 => (0..4_u8).prop_map(Step::Respec),
        4 => any::<bool>().prop_map(|all| Step::Compact { all }),
    ]
}

/// A value of a type that differs from row to row, and is null now and then.
fn value(of: &DataType, n: i64) -> serde_json::Value {
    if n % 5 == 3 {
        return json!(null);
    }
    match of {
        DataType::Int32 | DataType::Int64 => json!(n % 3),
        DataType::Utf8 => json!(["", "a", "b c", "ü", "__HIVE_DEFAULT_PARTITION__", "="][(n % 6) as usize]),
        DataType::Float64 => json!(f64::from((n % 7) as i32) / 3.0 - 1.0),
        DataType::Date32 => json!(format!("1970-01-0{}", 1 + n % 9)),
        DataType::List(item) => json!((0..n % 4).map(|i| value(item.data_type(), n + i)).collect::<Vec<_>>()),
        DataType::Struct(fields) => fields
            .iter()
            .enumerate()
            .map(|(i, field)| (field.name().clone(), value(field.data_type(), n + i as i64)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        DataType::Map(..) => json!({"k": n, "l": null}),
        other => panic!("{other}"),
    }
}

/// Rows of these columns: with an id each, and a partition.
fn frame(columns: &SchemaRef, rows: &[(i64, i64)]) -> Frame {
    let line = |(id, p): &(i64, i64)| {
        let cell = |(i, field): (usize, &Arc<arrow::datatypes::Field>)| {
            let value = match field.name().as_str() {
                "id" => json!(id),
                "p" => json!((*p < 3).then_some(p)),
                _ => value(field.data_type(), id + 7 * i as i64),
            };
            (field.name().clone(), value)
        };
        let row: serde_json::Map<_, _> = columns.fields().iter().enumerate().map(cell).collect();
        serde_json::Value::from(row).to_string() + "\n"
    };
    Frame::from_json_lines_as(columns, &rows.iter().map(line).collect::<String>())
}

async fn columns(world: &World) -> SchemaRef {
    let run = world.run();
    Arc::new(run.ctx.load(t()).await.unwrap().schema().as_arrow().clone())
}

/// Changes the columns after the first two.
async fn change_columns(world: &World, change: impl Fn(&mut Vec<Arc<NestedField>>)) {
    let metadata = world.table_metadata().await;
    let mut fields = metadata.current_schema().as_struct().fields().to_vec();
    change(&mut fields);
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    if schema.as_struct() != metadata.current_schema().as_struct() {
        world.change(vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }]).await;
    }
}

async fn any_table(by: u8, steps: Vec<Step>) {
    let world = World::new();
    let columns_at_first = hardtack_catalog::schema! {
        id: bigint, p: bigint, name: string, place: struct<city: string, zip: int>, tags: array<string>, x: double,
        on: date, m: map<string, bigint>,
    };
    let fields = match by {
        0 => vec![],
        1 => vec![PartitionField::identity("p")],
        2 => vec![PartitionField::bucket(2, "id")],
        _ => vec![PartitionField::truncate(1, "name"), PartitionField::month("on")],
    };
    let new = world.new_table().with_schema(columns_at_first).partition_by(fields);
    let table = t().create_if_missing(new);
    let mut next = 0_i64;
    // The rows that are to be there, each an id and its partition.
    let mut model: Vec<(i64, i64)> = Vec::new();
    let mut staged = Vec::new();
    let mut one_spec = by < 2;
    let new_rows = |n: u8, next: &mut i64| -> Vec<(i64, i64)> {
        (0..n)
            .map(|_| {
                *next += 1;
                (*next, (*next * 5) % 4)
            })
            .collect()
    };
    let first = new_rows(3, &mut next);
    let columns_at_first = Arc::new(hardtack_catalog::schema! {
        id: bigint, p: bigint, name: string, place: struct<city: string, zip: int>, tags: array<string>, x: double,
        on: date, m: map<string, bigint>,
    });
    world.save(&table, &frame(&SchemaRef::from(columns_at_first.as_ref().clone()), &first)).await;
    model.extend(first);
    for step in steps {
        match step {
            Step::Save(n) => {
                let rows = new_rows(n, &mut next);
                world.save(&t(), &frame(&columns(&world).await, &rows)).await;
                model.extend(rows);
            }
            Step::Stage(n) => {
                let rows = new_rows(n, &mut next);
                let frame = frame(&columns(&world).await, &rows);
                staged.push((world.stage(&t(), &frame).await.unwrap(), rows));
            }
            Step::Publish => {
                let Some(((run, step), rows)) = staged.pop() else { continue };
                run.ctx.publish(&step.publish).await.unwrap();
                model.extend(rows);
            }
            Step::Overwrite(n) if one_spec => {
                let rows = new_rows(n, &mut next);
                world.save(&t().overwrite_partitions(), &frame(&columns(&world).await, &rows)).await;
                model.retain(|(_, p)| by == 1 && rows.iter().all(|(_, of_new)| of_new != p));
                model.extend(rows);
            }
            Step::Delete { positions, which } if !model.is_empty() => {
                let ids: BTreeSet<i64> = which.iter().map(|index| model[index.index(model.len())].0).collect();
                let ids: Vec<i64> = ids.into_iter().collect();
                let how = if positions { Deletes::Positions } else { Deletes::Values };
                world.delete_rows(&ids, how).await;
                model.retain(|(id, _)| !ids.contains(id));
            }
            Step::Add => {
                let now = columns(&world).await;
                let mut fields: Vec<_> = now.fields().to_vec();
                fields.push(Arc::new(arrow::datatypes::Field::new(format!("more_{next}"), DataType::Utf8, true)));
                let rows = new_rows(1, &mut next);
                let grown = Arc::new(arrow::datatypes::Schema::new(fields));
                let growing = t().schema_evolution(SchemaEvolution::AddColumns);
                world.save(&growing, &frame(&grown, &rows)).await;
                model.extend(rows);
            }
            Step::Rename => {
                change_columns(&world, |fields| {
                    let Some(last) = fields.last_mut().filter(|last| last.id > 2) else { return };
                    let mut field = last.as_ref().clone();
                    field.name = format!("renamed_{}", field.id);
                    *last = Arc::new(field);
                })
                .await;
            }
            Step::Drop => {
                // Not a column that partitions.
                change_columns(&world, |fields| {
                    let at = fields.iter().position(|field| ![1, 2, 3, 7].contains(&field.id));
                    if let Some(at) = at {
                        fields.remove(at);
                    }
                })
                .await;
            }
            Step::Respec(n) => {
                let by = match n {
                    0 => None,
                    1 => Some((2, "by_p", Transform::Identity)),
                    2 => Some((1, "by_id", Transform::Bucket(3))),
                    _ => Some((2, "by_p_bucket", Transform::Bucket(2))),
                };
                respec(&world, by).await;
                one_spec = false;
            }
            Step::Compact { all } => {
                let before = world.rows().await;
                let options = CompactOptions { all, min_input_files: 2, ..CompactOptions::default() };
                let done = world.compact(&options).await;
                assert_eq!(world.rows().await, before);
                if done.snapshot.is_some() {
                    let deletes = world.live(DataContentType::PositionDeletes).await.len()
                        + world.live(DataContentType::EqualityDeletes).await.len();
                    assert_eq!(deletes, 0);
                    let spec = world.table_metadata().await.default_partition_spec_id();
                    assert!(world.live(DataContentType::Data).await.iter().all(|(of, _)| *of == spec));
                }
            }
            Step::Overwrite(_) | Step::Delete { .. } => continue,
        }
        let ids = |lines: Vec<String>| -> BTreeSet<i64> {
            lines.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
        };
        let there = world.rows().await;
        assert_eq!(there.len(), model.len());
        assert_eq!(ids(there), model.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Whatever a table has gone through: its rows are the same before and after, and later changes find them.
    #[test]
    fn rows_stay_as_they_are(by in 0..4_u8, steps in proptest::collection::vec(any_step(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(any_table(by, steps));
    }
}
