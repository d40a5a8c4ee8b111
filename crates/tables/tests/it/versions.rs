//! The files that rebuilt partitions leave behind, and their removal.

use chrono::TimeDelta;
use hardtack_core::actions::Check;
use hardtack_core::publish::verify;
use hardtack_core::{ErrorKind, PublishAction, Sink};
use hardtack_tables::{Table, VacuumOptions, Vacuumed, vacuum};
use hardtack_test_support::rows;

use crate::faulty::FaultyCatalog;
use crate::lake::{World, sales};
use crate::saving::day;

async fn vacuumed(world: &World, options: &VacuumOptions) -> Vec<String> {
    let Vacuumed { files } = vacuum(&world.run(), &sales(), options).await.unwrap();
    let root = world.dir.at("lake/sales").to_string();
    files.iter().map(|file| file.to_string().replace(&root, "")).collect()
}

fn at_once() -> VacuumOptions {
    VacuumOptions { grace_period: TimeDelta::zero(), ..VacuumOptions::default() }
}

#[tokio::test]
async fn superseded_files_stay_for_the_grace_period_and_a_later_run_removes_them() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue" }).await;
    for id in [3, 4] {
        world.save(sales().overwrite_partitions(), day("mon", &[id])).await;
    }
    let all = || world.files("lake").len() + world.versions("sales").len();
    assert_eq!(all(), 2 + 2 + 2, "two appended files, two versions, two records");
    world.advance(TimeDelta::minutes(59));
    world.save(sales(), day("tue", &[5])).await;
    assert_eq!(all(), 7);
    world.advance(TimeDelta::minutes(2));
    world.save(sales(), day("tue", &[6])).await;
    assert_eq!(all(), 8 - 4, "the file of the first run, a version and both records are gone");
    assert_eq!(world.rows("sales").await, ["day=mon id=4", "day=tue id=2", "day=tue id=5", "day=tue id=6"]);
    let versions = std::fs::read_dir(world.dir.path().join("lake/sales/_versions")).unwrap().count();
    assert_eq!(versions, 1, "no empty folders are left");
}

#[tokio::test]
async fn the_grace_period_of_the_table_that_saves_counts() {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    world.save(sales().overwrite_partitions(), day("mon", &[2])).await;
    world.advance(TimeDelta::minutes(10));
    world.save(sales().grace_period(TimeDelta::days(1)), day("tue", &[3])).await;
    assert_eq!(world.versions("sales").len(), 2);
    world.save(sales().grace_period(TimeDelta::minutes(5)), day("tue", &[3])).await;
    assert_eq!(world.versions("sales").len(), 1);
}

#[tokio::test]
async fn vacuum_removes_what_was_superseded_and_nothing_else() {
    for keys in ["day: string", ""] {
        let world = World::with_sales("id: bigint", keys).await;
        let frame = |id: i64| {
            if keys.is_empty() {
                rows! { id; id }
            } else {
                day("mon", &[id])
            }
        };
        world.save(sales(), frame(1)).await;
        let folder = if keys.is_empty() { "lake/sales" } else { "lake/sales/day=mon" };
        let old = world.files(folder);
        for id in [2, 3] {
            world.save(sales().overwrite_partitions(), frame(id)).await;
        }
        // Not ours: it came after the partition had moved.
        let foreign =
            [format!("{folder}/foreign.parquet"), format!("{folder}/_SUCCESS"), "lake/sales/_other/x".to_owned()];
        foreign.iter().for_each(|file| world.dir.write(file, "x"));
        assert_eq!(vacuumed(&world, &VacuumOptions::default()).await, [""; 0]);
        let would = vacuumed(&world, &VacuumOptions { dry_run: true, ..at_once() }).await;
        assert_eq!((would.len(), world.files(folder).len()), (2, old.len() + 1));
        assert_eq!(vacuumed(&world, &at_once()).await, would);
        assert_eq!(world.files(folder), [foreign[0].as_str()]);
        assert!(foreign.iter().all(|file| world.dir.path().join(file).exists()));
        assert_eq!(world.versions("sales").len(), 1);
        assert_eq!(world.rows("sales").await.len(), 1);
        assert_eq!(vacuumed(&world, &at_once()).await, [""; 0]);
    }
}

/// The run was killed after it had recorded what it supersedes, and before it pointed elsewhere.
#[tokio::test]
async fn what_is_not_superseded_yet_stays() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue" }).await;
    let faulty = FaultyCatalog::new(world.catalog.clone(), 0, false);
    let ctx = world.run_on(faulty);
    let rows = rows! { id, day; 3, "mon"; 4, "tue" };
    let staged = sales().overwrite_partitions().stage(&ctx.staging("out"), rows.to_df(ctx.session())).await.unwrap();
    ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!(world.versions("sales").len(), 3, "two files and a record");
    for days in [0, 2] {
        world.advance(TimeDelta::days(days));
        assert_eq!(vacuumed(&world, &at_once()).await, [""; 0]);
        world.save(sales().grace_period(TimeDelta::zero()), day("wed", &[5])).await;
        assert!(world.rows("sales").await.contains(&"day=mon id=1".to_owned()));
    }
    // It is rolled forward, and the superseded files are removed.
    let again = world.run_on(FaultyCatalog::new(world.catalog.clone(), usize::MAX, false));
    again.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows("sales").await[..2], ["day=mon id=3", "day=tue id=4"]);
    assert_eq!(vacuumed(&world, &at_once()).await.len(), 2);
    assert_eq!(world.rows("sales").await[..2], ["day=mon id=3", "day=tue id=4"]);
}

#[tokio::test]
async fn files_of_a_run_that_died_go_after_a_day_unless_it_has_not_ended() {
    let world = World::partitioned().await;
    world.save(sales().overwrite_partitions(), day("mon", &[1])).await;
    let (dead, staged) =
        world.stage(sales().overwrite_partitions(), rows! { id, day; 2, "mon"; 3, "tue" }).await.unwrap();
    world.advance(TimeDelta::hours(23));
    assert_eq!(vacuumed(&world, &at_once()).await, [""; 0]);
    world.advance(TimeDelta::hours(2));
    let unfinished = VacuumOptions { unfinished: [dead.run().version()].into(), ..at_once() };
    assert_eq!(vacuumed(&world, &unfinished).await, [""; 0]);
    assert_eq!(vacuumed(&world, &at_once()).await.len(), 2);
    assert_eq!(world.rows("sales").await, ["day=mon id=1"]);

    // It wakes up, and does not point to missing files.
    let error = dead.publish(&staged.publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(world.rows("sales").await, ["day=mon id=1"]);
}

/// Folder names are escaped once, however often they pass between catalog and store.
#[tokio::test]
async fn partitions_of_odd_values_are_kept_and_go_like_others() {
    let world = World::partitioned().await;
    for id in [1, 2, 3] {
        world.save(sales().overwrite_partitions(), day("a/b=c% ~ü", &[id])).await;
    }
    assert_eq!(vacuumed(&world, &at_once()).await.len(), 2);
    world.advance(TimeDelta::days(2));
    assert_eq!(vacuumed(&world, &at_once()).await, [""; 0]);
    assert_eq!((world.rows("sales").await.len(), world.versions("sales").len()), (1, 1));
}

/// Two runs replaced the same version; the files of the first are in no record.
#[tokio::test]
async fn a_version_that_was_replaced_unseen_goes_after_a_day() {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    let (first, one) = world.stage(sales().overwrite_partitions(), day("mon", &[2])).await.unwrap();
    let (second, two) = world.stage(sales().overwrite_partitions(), day("mon", &[3])).await.unwrap();
    first.publish(&one.publish).await.unwrap();
    second.publish(&two.publish).await.unwrap();
    assert_eq!(vacuumed(&world, &at_once()).await.len(), 1, "the first file");
    world.advance(TimeDelta::days(2));
    assert_eq!(vacuumed(&world, &at_once()).await.len(), 1, "the second");
    assert_eq!(world.versions("sales").len(), 1);
    assert_eq!(world.rows("sales").await, ["day=mon id=3"]);
}

#[tokio::test]
async fn the_files_of_a_table_that_was_dropped_stay() {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    world.save(sales().overwrite_partitions(), day("mon", &[2])).await;
    world.catalog.drop_table("lake", "sales").await.unwrap();
    assert!(vacuum(&world.run(), &sales(), &at_once()).await.is_err());
    assert_eq!(world.versions("sales").len(), 2);
}

/// Another process finishes the run. If a file is not what was written, nothing of the commit is published; files that
/// have been pointed to before are not checked any more.
#[tokio::test]
async fn files_that_were_damaged_are_told_before_anything_is_published() {
    let world = World::with_sales("id: bigint", "day: string").await;
    world.save(sales(), day("mon", &[1])).await;
    let (ctx, staged) =
        world.stage(sales().overwrite_partitions(), rows! { id, day; 2, "mon"; 3, "tue" }).await.unwrap();
    let actions = staged.publish;
    let verified = async || verify(ctx.stores(), ctx.publishers(), &actions, Check::Content).await;
    verified().await.unwrap();
    let file = world.versions("sales").into_iter().find(|file| file.contains("day=tue")).unwrap();
    let path = world.dir.path().join(&file);
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (damaged, said) in [
        (Some(&whole[..0]), "is not what was written"),
        (Some(&flipped[..]), "is not what was written"),
        (None, "is gone"),
    ] {
        match damaged {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = verified().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert_eq!((error.get("table"), error.get("partition")), (Some("lake.sales"), Some("tue")), "{error}");
        assert!(error.message().contains(said), "{error}");
        assert_eq!(world.rows("sales").await, ["day=mon id=1"]);
    }
    // The size is checked before anything points to the file, even right after it was written.
    std::fs::write(&path, &whole[1..]).unwrap();
    let error = ctx.publish(&actions).await.unwrap_err();
    assert!(error.message().contains("bytes, and"), "{error}");
    std::fs::write(&path, &whole).unwrap();
    ctx.publish(&actions).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    verified().await.unwrap();
}

/// The record that a commit removes has been tampered with.
#[tokio::test]
async fn only_records_of_the_table_itself_are_followed() {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    world.save(sales().overwrite_partitions(), day("mon", &[2])).await;
    world.advance(TimeDelta::minutes(61));
    let (ctx, staged) = world.stage(sales(), day("tue", &[3])).await.unwrap();
    let text = serde_json::to_string(&staged.publish).unwrap();
    let elsewhere = text.replace("/lake/sales/_versions/", "/lake/other/_versions/");
    assert_ne!(text, elsewhere);
    let error = ctx.publish(&serde_json::from_str::<Vec<PublishAction>>(&elsewhere).unwrap()).await.unwrap_err();
    assert!(error.message().contains("no record of its table names"), "{error}");
    ctx.publish(&staged.publish).await.unwrap();
}

/// A run has died between its record and the update of the catalog: the files are still in use, under another name.
#[tokio::test]
async fn records_are_of_the_table_in_whose_folder_they_are() {
    for keys in ["day: string", ""] {
        let frame = |id: i64| {
            if keys.is_empty() {
                rows! { id; id }
            } else {
                day("mon", &[id])
            }
        };
        let world = World::with_sales("id: bigint", keys).await;
        world.catalog.create_table(&world.description("green", "id: bigint", keys)).await.unwrap();
        world.save(sales(), frame(1)).await;
        let (_, staged) = world.stage(sales().overwrite(), frame(2)).await.unwrap();
        // Of the changes of the catalog the first one fails, after the record was written.
        let faulty = FaultyCatalog::new(std::sync::Arc::clone(&world.catalog), 0, false);
        world.run_on(faulty).publish(&staged.publish).await.unwrap_err();
        let before = world.rows("sales").await;
        world.advance(TimeDelta::days(2));
        // A commit that is to remove what the record names.
        let (late, removing) = world.stage(sales(), frame(3)).await.unwrap();
        world.swap("sales", "green").await;
        for action in &removing.publish {
            let _ = late.publish(std::slice::from_ref(action)).await;
        }
        for name in ["green", "sales"] {
            vacuum(&world.run(), &Table::named("lake", name), &at_once()).await.unwrap();
        }
        let now = world.rows("green").await;
        assert!(before.iter().all(|row| now.contains(row)), "{before:?} {now:?}");
        assert!(vacuumed(&world, &at_once()).await.is_empty());
    }
}

#[tokio::test]
async fn files_stay_while_a_swap_has_not_ended() {
    let world = World::partitioned().await;
    let mark = r#"{"format":1,"with":"lake.green","had":{"database":"","name":"","storage":{}},"got":{"database":"","name":"","storage":{}}}"#;
    let marked = world.table("sales").await.with_parameter("hardtack.swap", mark);
    world.catalog.update_table(&marked).await.unwrap();
    let error = vacuum(&world.run(), &sales(), &at_once()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    insta::assert_snapshot!(error, @"a swap of the table has begun, and not ended (table: lake.sales, with: lake.green, hint: `hardtack swap lake.green lake.sales` finishes it)");
}
