//! What readers see while runs stage, publish, meet one another, and fail.

use std::sync::Arc;

use hardtack_core::ErrorKind;
use hardtack_iceberg::{IcebergTable, PartitionField};
use hardtack_test_support::{Frame, rows};
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use super::World;

#[tokio::test]
async fn what_is_staged_is_on_a_branch_and_nowhere_else() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (run, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    assert_eq!(world.rows().await, ["1"]);
    let branch = format!("hardtack_{}", run.ctx.run().version());
    assert_eq!(world.refs().await, [branch.as_str(), "main"]);
    assert_eq!(world.read(IcebergTable::named("lake", "t").branch(&branch)).await.unwrap(), ["1", "2"]);
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1", "2"]);
    assert_eq!(world.refs().await, ["main"]);
}

/// Also a second and a third time, and by another process.
#[rstest]
#[case::first(false)]
#[case::not_first(true)]
#[tokio::test]
async fn publishing_is_idempotent(#[case] others: bool) {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (run, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    if others {
        world.save(&world.table(), &rows! { id; 3 }).await;
    }
    for _ in 0..3 {
        run.ctx.publish(&staged.publish).await.unwrap();
        world.run().ctx.publish(&staged.publish).await.unwrap();
    }
    world.save(&world.table(), &rows! { id; 4 }).await;
    run.ctx.publish(&staged.publish).await.unwrap();
    let expected: &[&str] = if others { &["1", "2", "3", "4"] } else { &["1", "2", "4"] };
    assert_eq!(world.rows().await, expected);
    assert_eq!(world.refs().await, ["main"]);
    assert_eq!(world.history().await.len(), expected.len());
}

#[tokio::test]
async fn appended_rows_are_added_to_what_others_have_done() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (run, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    world.save(&world.table().overwrite(), &rows! { id; 3 }).await;
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["2", "3"]);
    // What was staged on the old head is not needed any more.
    assert_eq!(world.metadata().await["snapshots"].as_array().unwrap().len(), 3);
    assert_snapshot!(world.history().await.join("\n"), @"
    append: +1 -0 files, +1 -0 rows; 2 files, 2 rows
    overwrite: +1 -1 files, +1 -1 rows; 1 files, 1 rows
    append: +1 -0 files, +1 -0 rows; 1 files, 1 rows
    ");
}

/// Each save has three rows with the number of its run.
#[rstest]
#[case::append(false)]
#[case::overwrite(true)]
#[tokio::test]
async fn readers_beside_concurrent_runs_see_whole_saves(#[case] replaces: bool) {
    const SAVES: i64 = 4;
    let world = World::new();
    let table = if replaces { world.table().overwrite() } else { world.table() };
    world.save(&table, &rows! { id; 0; 0; 0 }).await;
    let writer = async |nr: i64| {
        for id in (1..=SAVES).map(|save| 10 * nr + save) {
            world.save(&table, &rows! { id; id; id; id }).await;
        }
    };
    let writing = futures::future::join3(writer(1), writer(2), writer(3));
    let mut seen: Vec<String> = Vec::new();
    let mut versions = 0;
    let mut look = async || {
        let rows = world.rows().await;
        assert!(rows.chunks(3).all(|save| save.len() == 3 && save.iter().all(|id| *id == save[0])), "{rows:?}");
        match replaces {
            true => assert_eq!(rows.len(), 3, "{rows:?}"),
            false => assert!(seen.iter().all(|id| rows.contains(id)), "{seen:?} {rows:?}"),
        }
        versions += usize::from(rows != seen);
        seen = rows;
    };
    let reading = async {
        loop {
            look().await;
        }
    };
    tokio::select! { _ = writing => {}, () = reading => {} }
    look().await;
    assert!(versions > 2, "the reader has seen {versions} versions");
    assert_eq!(world.history().await.len() as i64, 1 + 3 * SAVES);
    assert_eq!(world.refs().await, ["main"]);
}

#[tokio::test]
async fn of_two_that_replace_a_partition_the_last_one_wins() {
    let world = World::new();
    let table = IcebergTable::named("lake", "t")
        .create_if_missing(world.new_table().partition_by([PartitionField::identity("day")]));
    world.save(&table, &rows! { id, day; 1, "mon"; 2, "tue" }).await;
    let table = table.overwrite_partitions();
    let (run, staged) = world.stage(&table, &rows! { id, day; 3, "mon" }).await.unwrap();
    world.save(&table, &rows! { id, day; 4, "mon"; 5, "wed" }).await;
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["2 tue", "3 mon", "5 wed"]);
}

#[tokio::test]
async fn a_discarded_run_leaves_no_trace() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let files = |world: &World| {
        let mut files = world.dir.files("lake/t/data");
        files.extend(world.dir.files("lake/t/metadata").into_iter().filter(|file| file.ends_with(".avro")));
        files
    };
    let before = files(&world);
    let (run, _) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    assert_eq!(files(&world).len(), before.len() + 3);
    for _ in 0..2 {
        run.discard().await.unwrap();
        assert_eq!((files(&world), world.refs().await), (before.clone(), vec!["main".to_owned()]));
        assert_eq!(world.metadata().await["snapshots"].as_array().unwrap().len(), 1);
        assert_eq!(world.rows().await, ["1"]);
    }
}

/// What others have staged in a table that a run has created is not dropped with it.
#[tokio::test]
async fn a_table_that_others_use_is_not_dropped_by_the_run_that_created_it() {
    let world = World::new();
    let (first, _) = world.stage(&world.table(), &rows! { id; 1 }).await.unwrap();
    let (second, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    first.discard().await.unwrap();
    second.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["2"]);
}

#[tokio::test]
async fn a_strict_run_fails_if_others_have_committed() {
    let world = World::new();
    world.save(&world.table().strict(), &rows! { id; 1 }).await;
    let table = world.table().strict();
    let (late, _) = world.stage(&table, &rows! { id; 2 }).await.unwrap();
    world.save(&world.table(), &rows! { id; 3 }).await;
    let error = late.ctx.audit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    late.discard().await.unwrap();
    let (run, staged) = world.stage(&table, &rows! { id; 4 }).await.unwrap();
    run.ctx.audit().await.unwrap();
    world.save(&world.table(), &rows! { id; 5 }).await;
    // After the decision nothing fails any more.
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1", "3", "4", "5"]);
}

#[tokio::test]
async fn a_run_may_save_twice() {
    let world = World::new();
    let run = world.run();
    use hardtack_core::Sink;
    let (a, b) = (rows! { id; 1 }, rows! { id; 2 });
    let mut actions = Vec::new();
    for rows in [a, b] {
        let staged = world.table().stage(&run.ctx.staging("out"), rows.to_df(run.ctx.session())).await.unwrap();
        actions.extend(staged.publish);
    }
    run.ctx.publish(&actions).await.unwrap();
    run.ctx.publish(&actions).await.unwrap();
    assert_eq!(world.rows().await, ["1", "2"]);
    assert_eq!(world.refs().await, ["main"]);
}

/// Only what was published can be travelled to.
#[tokio::test]
async fn time_travel_shows_what_was_published() {
    let world = World::new();
    let table = || IcebergTable::named("lake", "t");
    world.save(&world.table(), &rows! { id; 1 }).await;
    let one = chrono::Utc::now();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let (run, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    let still_one = chrono::Utc::now();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.read(table().as_of(one)).await.unwrap(), ["1"]);
    assert_eq!(world.read(table().as_of(still_one)).await.unwrap(), ["1"]);
    assert_eq!(world.read(table().as_of(chrono::Utc::now())).await.unwrap(), ["1", "2"]);
    let before = chrono::DateTime::UNIX_EPOCH;
    let error = world.read(table().as_of(before)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let error = world.read(table().branch("mai")).await.unwrap_err();
    assert_snapshot!(error, @"the table has no branch or tag of this name (name: mai, did you mean: main, table: lake.t, source: lake.t, hint: `hardtack iceberg snapshots` and `refs` list what there is)");
}

/// Eight at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_runs_lose_nothing() {
    let world = Arc::new(World::new());
    let runs = (0..8_i64).map(|n| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for k in 0..3 {
                world.save(&world.table(), &rows! { id; n * 10 + k }).await;
            }
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
    let mut expected: Vec<String> = (0..8).flat_map(|n| (0..3).map(move |k| (n * 10 + k).to_string())).collect();
    expected.sort();
    assert_eq!(world.rows().await, expected);
    assert_eq!(world.refs().await, ["main"]);
}

/// A step of one of several runs.
#[derive(Debug, Clone)]
enum Step {
    Stage { mode: u8, days: Vec<u8> },
    Publish(usize),
    Again(usize),
    Discard(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_u8, proptest::collection::vec(0..3_u8, 0..4)).prop_map(|(mode, days)| Step::Stage { mode, days }),
        3 => any::<usize>().prop_map(Step::Publish),
        1 => any::<usize>().prop_map(Step::Again),
        1 => any::<usize>().prop_map(Step::Discard),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the order in which runs stage, publish (again) and are discarded, the table is what they have done in the
    /// order in which they were published first.
    #[test]
    fn the_order_of_publishing_decides(steps in proptest::collection::vec(any_step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let new = world.new_table().with_schema(hardtack_catalog::schema! { id: bigint, day: bigint })
                .partition_by([PartitionField::identity("day")]);
            let table = IcebergTable::named("lake", "t").create_if_missing(new);
            let (mut open, mut done, mut model, mut next) = (Vec::new(), Vec::new(), Vec::<(i64, i64)>::new(), 0_i64);
            for step in steps {
                match step {
                    Step::Stage { mode, days } => {
                        let table = match mode {
                            0 => table.clone().append(),
                            1 => table.clone().overwrite_partitions(),
                            _ => table.clone().overwrite(),
                        };
                        let new: Vec<(i64, i64)> = days.iter().map(|day| { next += 1; (next, i64::from(*day)) }).collect();
                        let text: String = new.iter().map(|(id, day)| format!("{{\"id\": {id}, \"day\": {day}}}\n")).collect();
                        let schema = hardtack_catalog::schema! { id: bigint, day: bigint };
                        let frame = Frame::from_json_lines_as(&schema, &text);
                        let (run, staged) = world.stage(&table, &frame).await.unwrap();
                        open.push((run, staged, mode, new));
                    }
                    Step::Publish(n) if !open.is_empty() => {
                        let (run, staged, mode, new) = open.remove(n % open.len());
                        run.ctx.publish(&staged.publish).await.unwrap();
                        match mode {
                            0 => {}
                            1 => model.retain(|(_, day)| !new.iter().any(|(_, d)| d == day)),
                            _ => model.clear(),
                        }
                        model.extend(&new);
                        done.push((run, staged));
                    }
                    Step::Again(n) if !done.is_empty() => {
                        let (run, staged) = &done[n % done.len()];
                        run.ctx.publish(&staged.publish).await.unwrap();
                    }
                    Step::Discard(n) if !open.is_empty() => {
                        let (run, ..) = open.remove(n % open.len());
                        run.discard().await.unwrap();
                    }
                    _ => continue,
                }
                let mut expected: Vec<String> = model.iter().map(|(id, day)| format!("{id} {day}")).collect();
                expected.sort();
                let there = world.catalog.get_table("lake", "t").await.is_ok();
                prop_assert!(there || expected.is_empty());
                if there {
                    prop_assert_eq!(world.rows().await, expected);
                }
            }
            Ok(())
        })?;
    }
}

/// The files of a run that a person has published, or whose branch others use, are not its own any more.
#[rstest]
#[case::published(false)]
#[case::tagged(true)]
#[tokio::test]
async fn what_others_use_is_not_discarded(#[case] tagged: bool) {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (run, _) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    let branch = format!("hardtack_{}", run.ctx.run().version());
    let care = hardtack_iceberg::IcebergMaintenance::open(&run.ctx, "lake", "t", chrono::Utc::now()).await.unwrap();
    if tagged {
        care.tag("mine", Some(&branch)).await.unwrap();
    } else {
        care.publish(&branch, "ann", "fine").await.unwrap();
        // Again it is no news.
        care.branch("old", Some(&world.metadata().await["current-snapshot-id"].to_string())).await.unwrap();
        assert_eq!(care.publish("old", "ann", "fine").await.unwrap_err().kind(), ErrorKind::Usage);
    }
    for _ in 0..2 {
        run.discard().await.unwrap();
    }
    let seen = if tagged { IcebergTable::named("lake", "t").tag("mine") } else { IcebergTable::named("lake", "t") };
    assert_eq!(world.read(seen).await.unwrap(), ["1", "2"]);
}

/// A run may be killed between publication and its mark, and be recovered when its snapshot has expired.
#[tokio::test]
async fn what_was_published_and_has_expired_is_not_published_again() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (run, staged) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    world.save(&world.table(), &rows! { id; 3 }).await;
    let later = chrono::Utc::now() + chrono::TimeDelta::days(30);
    let care = hardtack_iceberg::IcebergMaintenance::open(&run.ctx, "lake", "t", later).await.unwrap();
    assert_eq!(care.expire(hardtack_iceberg::ExpireOptions::default()).await.unwrap().snapshots.len(), 2);
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1", "2", "3"]);
}

/// Row ids of format version 3 stay with their rows when others are replaced.
#[tokio::test]
async fn rows_that_stay_keep_their_ids() {
    let world = World::new();
    let new = world.new_table().partition_by([PartitionField::identity("day")]).with_format_version(3);
    let table = IcebergTable::named("lake", "t").create_if_missing(new);
    world.save(&table, &rows! { id, day; 1, "mon"; 2, "tue"; 3, "wed" }).await;
    world.save(&table.overwrite_partitions(), &rows! { id, day; 4, "tue" }).await;
    assert_eq!(world.rows().await, ["1 mon", "3 wed", "4 tue"]);
    let mut kept = Vec::new();
    for file in world.dir.files("lake/t/metadata").iter().filter(|file| file.contains("-m-")) {
        let manifest = world.dir.path().join(file);
        #[expect(clippy::disallowed_methods, reason = "as a foreign reader does")]
        let manifest = iceberg::spec::Manifest::parse_avro(&std::fs::read(manifest).unwrap()).unwrap();
        let there = manifest.entries().iter().filter(|e| e.status() == iceberg::spec::ManifestStatus::Existing);
        kept.extend(there.map(|entry| entry.data_file().first_row_id()));
    }
    kept.sort_unstable();
    // Two of the first three.
    assert!(kept.len() == 2 && kept.iter().all(|id| id.is_some_and(|id| (0..3).contains(&id))), "{kept:?}");
    assert_ne!(kept[0], kept[1]);
}
