//! Copy on write: reading and replacing the partitions in which something changes.

use std::collections::BTreeSet;

use hardtack_core::{ErrorKind, Sink};
use hardtack_iceberg::{IcebergTable, PartitionField};
use hardtack_test_support::{Frame, rows};
use proptest::prelude::*;

use super::World;
use crate::world::OneRun;

/// The table, partitioned by `day`.
fn by_day(world: &World) -> IcebergTable {
    let new = world.new_table().with_schema(hardtack_catalog::schema! { id: bigint, day: bigint });
    IcebergTable::named("lake", "t").create_if_missing(new.partition_by([PartitionField::identity("day")]))
}

fn frame(rows: &[(i64, i64)]) -> Frame {
    let text: String = rows.iter().map(|(id, day)| format!("{{\"id\": {id}, \"day\": {day}}}\n")).collect();
    Frame::from_json_lines_as(&hardtack_catalog::schema! { id: bigint, day: bigint }, &text)
}

fn texts(rows: &[(i64, i64)]) -> Vec<String> {
    let mut texts: Vec<String> = rows.iter().map(|(id, day)| format!("{id} {day}")).collect();
    texts.sort();
    texts
}

/// The table as a run reads and replaces it that changes these rows.
async fn touched(world: &World, table: &IcebergTable, changes: &Frame) -> (OneRun, IcebergTable) {
    let run = world.run();
    let touched = table.touched(&run.ctx, &changes.to_df(run.ctx.session())).await.unwrap();
    (run, table.clone().only(touched))
}

/// The names of the live files, by the metadata.
async fn files(world: &World) -> BTreeSet<String> {
    let care =
        hardtack_iceberg::IcebergMaintenance::open(&world.run().ctx, "lake", "t", chrono::Utc::now()).await.unwrap();
    let files = care.metadata("files").await.unwrap();
    let paths = files.column_by_name("file_path").unwrap();
    let shown = arrow::util::display::ArrayFormatter::try_new(paths.as_ref(), &Default::default()).unwrap();
    (0..files.num_rows()).map(|row| shown.value(row).to_string()).collect()
}

#[tokio::test]
async fn only_what_is_touched_is_read_and_written() {
    let world = World::new();
    let table = by_day(&world);
    world.save(&table, &frame(&[(1, 1), (2, 2), (3, 3)])).await;
    world.save(&table, &frame(&[(4, 1)])).await;
    let before = files(&world).await;

    let (run, days) = touched(&world, &table, &frame(&[(5, 1), (9, 4)])).await;
    assert_eq!(world.read(days.clone()).await.unwrap(), texts(&[(1, 1), (4, 1)]));
    // Rows of the first day are replaced by one, and a fourth day is new.
    let staged = days.stage(&run.ctx.staging("out"), frame(&[(5, 1), (9, 4)]).to_df(run.ctx.session())).await.unwrap();
    run.ctx.audit().await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, texts(&[(2, 2), (3, 3), (5, 1), (9, 4)]));
    let after = files(&world).await;
    assert_eq!((before.len(), after.len(), before.intersection(&after).count()), (4, 4, 2));
    assert_eq!(world.history().await[0], "overwrite: +2 -2 files, +2 -2 rows; 4 files, 4 rows");

    // A day whose rows are all gone.
    let (run, days) = touched(&world, &table, &frame(&[(2, 2)])).await;
    let staged = days.stage(&run.ctx.staging("out"), frame(&[]).to_df(run.ctx.session())).await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, texts(&[(3, 3), (5, 1), (9, 4)]));
    assert_eq!(world.history().await[0], "delete: +0 -1 files, +0 -1 rows; 3 files, 3 rows");
}

#[tokio::test]
async fn nulls_and_the_first_run() {
    let world = World::new();
    let table = by_day(&world);
    let null = Frame::from_json_lines_as(
        &hardtack_catalog::schema! { id: bigint, day: bigint },
        "{\"id\": 1, \"day\": null}\n{\"id\": 2, \"day\": 2}\n",
    );
    let (run, days) = touched(&world, &table, &null).await;
    assert_eq!(world.read(days.clone()).await.unwrap(), [""; 0]);
    let staged = days.stage(&run.ctx.staging("out"), null.to_df(run.ctx.session())).await.unwrap();
    run.ctx.audit().await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    let only_null = Frame::from_json_lines_as(
        &hardtack_catalog::schema! { id: bigint, day: bigint },
        "{\"id\": 7, \"day\": null}\n",
    );
    let (_, days) = touched(&world, &table, &only_null).await;
    assert_eq!(world.read(days).await.unwrap(), ["1 null"]);
    let error = table.touched(&world.run().ctx, &rows! { id; 1 }.to_df(world.run().ctx.session())).await.unwrap_err();
    assert_eq!((error.kind(), error.get("column")), (ErrorKind::Usage, Some("day")));
}

/// A table without partitions is touched as a whole, or not at all.
#[tokio::test]
async fn a_table_without_partitions() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1; 2 }).await;
    let (run, nothing) =
        touched(&world, &world.table(), &Frame::from_json_lines_as(&hardtack_catalog::schema! { id: int }, "")).await;
    let rows = rows! { id; 3 }.to_df(run.ctx.session());
    let error = nothing.stage(&run.ctx.staging("out"), rows).await.unwrap_err();
    assert_eq!((error.kind(), error.get("rows")), (ErrorKind::Usage, Some("1")), "what is there was not read");
    run.discard().await.unwrap();
    let (run, all) = touched(&world, &world.table(), &rows! { id; 9 }).await;
    assert_eq!(world.read(all.clone()).await.unwrap(), ["1", "2"]);
    let staged = all.stage(&run.ctx.staging("out"), rows! { id; 4 }.to_df(run.ctx.session())).await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["4"]);
}

#[tokio::test]
async fn others_may_change_what_is_not_touched() {
    let world = World::new();
    let table = by_day(&world);
    world.save(&table, &frame(&[(1, 1), (2, 2)])).await;
    let (run, days) = touched(&world, &table, &frame(&[(1, 1)])).await;
    world.save(&table, &frame(&[(3, 2)])).await;
    // What is read is of the moment at which it was determined.
    assert_eq!(world.read(days.clone()).await.unwrap(), texts(&[(1, 1)]));
    let staged = days.stage(&run.ctx.staging("out"), frame(&[(10, 1)]).to_df(run.ctx.session())).await.unwrap();
    run.ctx.audit().await.unwrap();
    // Others commit after the decision, too.
    world.save(&table, &frame(&[(4, 3)])).await;
    run.ctx.publish(&staged.publish).await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, texts(&[(10, 1), (2, 2), (3, 2), (4, 3)]));
}

#[tokio::test]
async fn a_run_fails_if_others_have_changed_what_it_replaces() {
    let world = World::new();
    let table = by_day(&world);
    world.save(&table, &frame(&[(1, 1)])).await;
    for (early, day) in [(true, 1), (false, 1), (true, 2)] {
        let (run, days) = touched(&world, &table, &frame(&[(1, day)])).await;
        let rows = frame(&[(10, day)]);
        if early {
            world.save(&table, &frame(&[(3, day)])).await;
        }
        days.stage(&run.ctx.staging("out"), rows.to_df(run.ctx.session())).await.unwrap();
        if !early {
            world.save(&table, &frame(&[(3, day)])).await;
        }
        let error = run.ctx.audit().await.unwrap_err();
        assert_eq!((error.kind(), error.get("table")), (ErrorKind::Conflict, Some("lake.t")), "{early} {day}");
        run.discard().await.unwrap();
        assert_eq!(world.refs().await, ["main"]);
    }
}

/// The types of partitions may become wider with the rows that are merged.
#[tokio::test]
async fn partitions_are_found_when_their_type_widens() {
    let world = World::new();
    let new = world.new_table().with_schema(hardtack_catalog::schema! { id: bigint, day: int });
    let table = IcebergTable::named("lake", "t")
        .create_if_missing(new.partition_by([PartitionField::identity("day")]))
        .schema_evolution(hardtack_catalog::SchemaEvolution::WidenTypes);
    let narrow = hardtack_catalog::schema! { id: bigint, day: int };
    world.save(&table, &Frame::from_json_lines_as(&narrow, "{\"id\": 1, \"day\": 5}\n{\"id\": 2, \"day\": 6}\n")).await;
    // The rows are wider than the table.
    let (run, days) = touched(&world, &table, &frame(&[(1, 5)])).await;
    assert_eq!(world.read(days.clone()).await.unwrap(), ["1 5"]);
    let staged = days.stage(&run.ctx.staging("out"), frame(&[(10, 5)]).to_df(run.ctx.session())).await.unwrap();
    run.ctx.audit().await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["10 5", "2 6"]);
}

#[tokio::test]
async fn rows_that_were_not_read_are_not_replaced() {
    let world = World::new();
    let table = by_day(&world);
    world.save(&table, &frame(&[(1, 1), (2, 2)])).await;
    let (run, days) = touched(&world, &table, &frame(&[(1, 1)])).await;
    // A row has moved to another day.
    let moved = frame(&[(1, 2)]).to_df(run.ctx.session());
    let error = days.stage(&run.ctx.staging("out"), moved).await.unwrap_err();
    assert_eq!((error.kind(), error.get("partition")), (ErrorKind::Usage, Some("day=2")));
    for odd in [days.clone().bookmarked(), days.clone().with_changes(), days.clone().branch("main")] {
        assert_eq!(world.read(odd).await.unwrap_err().kind(), ErrorKind::Usage);
    }
    // The last word counts.
    assert_eq!(days.clone().overwrite(), table.clone().overwrite());
}

/// A branch that was refused was merged with what was there then.
#[tokio::test]
async fn a_merge_that_is_out_of_date_is_not_published_by_a_person() {
    let world = World::new();
    let table = by_day(&world);
    world.save(&table, &frame(&[(1, 1), (2, 2)])).await;
    for (others, conflict) in [(2, false), (1, true)] {
        let (run, days) = touched(&world, &table, &frame(&[(1, 1)])).await;
        days.stage(&run.ctx.staging("out"), frame(&[(10, 1)]).to_df(run.ctx.session())).await.unwrap();
        world.save(&table, &frame(&[(3, others)])).await;
        let care = hardtack_iceberg::IcebergMaintenance::open(&run.ctx, "lake", "t", chrono::Utc::now()).await.unwrap();
        let published = care.publish(&format!("hardtack_{}", run.ctx.run().version()), "ann", "fine").await;
        assert_eq!(published.map_err(|e| e.kind()).err(), conflict.then_some(ErrorKind::Conflict));
    }
    assert_eq!(world.rows().await, texts(&[(10, 1), (3, 1), (2, 2), (3, 2)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Merging by partitions is merging: the last row of an id stays, and an id with a negative day is deleted. Ids keep
    /// their partition, as the ids of a bucket do.
    #[test]
    fn a_merge_of_what_is_touched_is_a_merge(batches in proptest::collection::vec(proptest::collection::vec((0..12_i64, any::<bool>()), 0..5), 1..5)) {
        use datafusion::prelude::*;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let schema = || hardtack_catalog::schema! { id: bigint, version: bigint };
            let new = world.new_table().with_schema(schema()).partition_by([PartitionField::bucket(4, "id")]);
            let table = IcebergTable::named("lake", "t").create_if_missing(new);
            let mut model = std::collections::BTreeMap::new();
            for (version, batch) in batches.into_iter().enumerate() {
                let mut changes = std::collections::BTreeMap::new();
                changes.extend(batch);
                let text: String = changes.keys().map(|id| format!("{{\"id\": {id}, \"version\": {version}}}\n")).collect();
                let run = world.run();
                let all = Frame::from_json_lines_as(&schema(), &text).to_df(run.ctx.session());
                let only = table.clone().only(table.touched(&run.ctx, &all).await.unwrap());
                let current = run.ctx.load(only.clone()).await.unwrap();
                let (current, changed) = (current.alias("current").unwrap(), all.alias("changed").unwrap());
                let kept = current.join(changed.clone(), JoinType::LeftAnti, &["id"], &["id"], None).unwrap();
                let alive: Vec<Expr> = changes.iter().filter(|(_, keep)| **keep).map(|(id, _)| lit(*id)).collect();
                let merged = kept.union(changed.filter(col("id").in_list(alive, false)).unwrap()).unwrap();
                let staged = only.stage(&run.ctx.staging("out"), merged).await.unwrap();
                run.ctx.audit().await.unwrap();
                run.ctx.publish(&staged.publish).await.unwrap();
                for (id, keep) in changes {
                    match keep {
                        true => drop(model.insert(id, version)),
                        false => drop(model.remove(&id)),
                    }
                }
                let mut expected: Vec<String> = model.iter().map(|(id, version)| format!("{id} {version}")).collect();
                expected.sort();
                assert_eq!(world.rows().await, expected);
            }
        });
    }
}
