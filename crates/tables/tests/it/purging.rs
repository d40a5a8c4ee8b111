//! Purging old files.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::TimeDelta;
use hardtack_tables::{Purged, purge};
use hardtack_test_support::rows;
use rstest::rstest;

use crate::faulty::FaultyCatalog;
use crate::lake::{World, sales};
use crate::saving::day;

/// Makes the existing files this old.
fn age(world: &World, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
    for file in world.files("lake") {
        let file = std::fs::File::options().append(true).open(world.dir.path().join(file)).unwrap();
        if file.metadata().unwrap().modified().unwrap().elapsed().unwrap() < Duration::from_secs(3600) {
            file.set_modified(then).unwrap();
        }
    }
}

#[tokio::test]
async fn old_files_go_and_partitions_of_which_nothing_is_left() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue" }).await;
    age(&world, 31);
    world.save(sales(), day("tue", &[3])).await;
    age(&world, 29);
    world.save(sales(), day("wed", &[4])).await;
    let month = TimeDelta::days(30);

    let would = purge(&world.run(), &sales(), month, true).await.unwrap();
    assert_eq!((would.files.len(), would.partitions.as_slice()), (2, &["day=mon".to_owned()][..]));
    assert_eq!(world.rows("sales").await.len(), 4);

    assert_eq!(purge(&world.run(), &sales(), month, false).await.unwrap(), would);
    assert_eq!(world.rows("sales").await, ["day=tue id=3", "day=wed id=4"]);
    assert_eq!(world.partitions("sales").await.len(), 2);
    assert_eq!(world.files("lake").len(), 2);
    // Nobody has counted the removed rows.
    insta::assert_debug_snapshot!(world.counts("sales").await, @r#"
    {
        "all": "?, no totalSize",
        "day=tue": "?, no totalSize",
        "day=wed": "1",
    }
    "#);
    assert_eq!(purge(&world.run(), &sales(), month, false).await.unwrap(), Purged::default());
}

/// A run that rebuilds a partition during a purge wins, whether all of its files are too old or only one.
#[rstest]
#[tokio::test]
async fn a_rebuild_meanwhile_is_not_undone(#[values(false, true)] has_young_files: bool) {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    age(&world, 31);
    if has_young_files {
        world.save(sales(), day("mon", &[2])).await;
    }
    let (other, rebuilt) = world.stage(sales().overwrite_partitions(), day("mon", &[3])).await.unwrap();
    let meanwhile = Box::new(move || {
        let published = other.publish(&rebuilt.publish);
        tokio::runtime::Runtime::new().unwrap().block_on(published).unwrap();
    });
    let catalog = Arc::clone(&world.catalog);
    let catalog = match has_young_files {
        true => FaultyCatalog::interrupted(catalog, meanwhile),
        false => FaultyCatalog::interrupted_before_reading(catalog, meanwhile),
    };
    let purged = purge(&world.run_on(catalog), &sales(), TimeDelta::days(30), false).await.unwrap();
    assert!(purged.partitions.is_empty());
    assert_eq!(world.rows("sales").await, ["day=mon id=3"]);
    assert_eq!(world.counts("sales").await["day=mon"], "1");
}

#[tokio::test]
async fn hidden_files_and_versions_are_left_to_vacuum() {
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
        world.save(sales().overwrite_partitions(), frame(2)).await;
        world.dir.write("lake/sales/_other/x", "x");
        world.advance(TimeDelta::days(31));
        let purged = purge(&world.run(), &sales(), TimeDelta::days(30), false).await.unwrap();
        assert_eq!(purged.files.len(), 1, "the file that the catalog points to");
        assert!(world.rows("sales").await.is_empty());
        assert_eq!(world.files("lake").len(), 1, "the first file, which was superseded");
        assert!(world.dir.path().join("lake/sales/_other/x").exists());
    }
}
