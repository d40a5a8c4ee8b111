//! What a person does to a table.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use hardtack_catalog::{CatalogHandle, SchemaEvolution};
use hardtack_core::{ErrorKind, JobContext, Location, Result};
use hardtack_iceberg::{ExpireOptions, IcebergMaintenance, IcebergTable, PartitionField};
use hardtack_test_support::{CountingStores, rows};

use super::World;
use crate::world::lines;

impl World {
    /// The care for `lake.t`, so many days from now.
    async fn care_in(&self, days: i64) -> IcebergMaintenance {
        let now = Utc::now() + TimeDelta::days(days);
        IcebergMaintenance::open(&self.run().ctx, "lake", "t", now).await.unwrap()
    }

    async fn care(&self) -> IcebergMaintenance {
        self.care_in(0).await
    }
}

fn t() -> IcebergTable {
    IcebergTable::named("lake", "t")
}

#[tokio::test]
async fn a_version_gets_a_name() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let care = world.care().await;
    let id = care.tag("first", None).await.unwrap();
    world.save(&world.table(), &rows! { id; 2 }).await;
    assert_eq!(care.branch("again", Some("first")).await.unwrap(), id);
    assert_eq!(world.read(t().tag("first")).await.unwrap(), ["1"]);
    assert_eq!(world.read(t().branch("again")).await.unwrap(), ["1"]);
    assert_eq!(world.refs().await, ["again", "first", "main"]);
    // A tag may move, a branch is not moved.
    assert_ne!(care.tag("first", None).await.unwrap(), id);
    for error in [care.branch("again", None).await, care.tag("again", None).await, care.branch("first", None).await] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Usage);
    }
    // They would be read as something else.
    for name in ["123", "2026-11-29", "2026-11-29T12:00:00Z"] {
        assert_eq!(care.tag(name, None).await.unwrap_err().get("name"), Some(name));
    }
    let error = care.rollback("2026-11-29T12:00:00").await.unwrap_err();
    assert!(error.to_string().contains("a moment has a zone"), "{error}");
    assert_eq!(care.drop_ref("again").await.unwrap(), id);
    assert_eq!(world.refs().await, ["first", "main"]);
    assert_eq!(care.drop_ref("main").await.unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(care.drop_ref("nope").await.unwrap_err().kind(), ErrorKind::Usage);
}

/// The branch of a run whose rows a person wants after all.
#[tokio::test]
async fn a_branch_is_published_by_a_person() {
    for others in [false, true] {
        let world = World::new();
        world.save(&world.table(), &rows! { id; 1 }).await;
        let (run, _) = world.stage(&world.table(), &rows! { id; 2 }).await.unwrap();
        if others {
            world.save(&world.table(), &rows! { id; 3 }).await;
        }
        let branch = format!("hardtack_{}", run.ctx.run().version());
        let id = world.care().await.publish(&branch, "ann", "looks right").await.unwrap();
        let expected: &[&str] = if others { &["1", "2", "3"] } else { &["1", "2"] };
        assert_eq!(world.rows().await, expected);
        assert_eq!(world.refs().await, ["main"]);
        let metadata = world.metadata().await;
        assert_eq!(metadata["current-snapshot-id"].as_i64(), Some(id));
        let snapshots = metadata["snapshots"].as_array().unwrap();
        let snapshot = snapshots.iter().find(|s| s["snapshot-id"].as_i64() == Some(id)).unwrap();
        assert_eq!(snapshot["summary"]["hardtack.published-by"], "ann");
        assert_eq!(snapshot["summary"]["hardtack.reason"], "looks right");
        let error = world.care().await.publish(&branch, "ann", "again").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
}

/// With the columns that the run would have added.
#[tokio::test]
async fn a_branch_with_new_columns_is_published_by_a_person() {
    for others in ["nothing", "rows", "columns"] {
        let world = World::new();
        world.save(&world.table(), &rows! { id; 1 }).await;
        let growing = t().schema_evolution(SchemaEvolution::AddColumns);
        let (run, _) = world.stage(&growing, &rows! { id, extra; 2, "x" }).await.unwrap();
        match others {
            "rows" => world.save(&t(), &rows! { id; 3 }).await,
            "columns" => world.save(&growing, &rows! { id, other; 3, "y" }).await,
            _ => {}
        }
        let branch = format!("hardtack_{}", run.ctx.run().version());
        let id = world.care().await.publish(&branch, "ann", "looks right").await.unwrap();
        let expected: &[&str] = match others {
            "rows" => &["1 null", "2 x", "3 null"],
            "columns" => &["1 null null", "2 null x", "3 y null"],
            _ => &["1 null", "2 x"],
        };
        assert_eq!(world.rows().await, expected, "{others}");
        assert_eq!(world.read(t().snapshot(id)).await.unwrap(), expected, "{others}");
        let metadata = world.metadata().await;
        let snapshots = metadata["snapshots"].as_array().unwrap();
        let snapshot = snapshots.iter().find(|s| s["snapshot-id"].as_i64() == Some(id)).unwrap();
        assert_eq!(snapshot["schema-id"], metadata["current-schema-id"], "{others}");
        // Nobody has columns to come.
        assert!(metadata["properties"].get("hardtack.pending-schemas").is_none(), "{others}");
        match others {
            "columns" => world.save(&t(), &rows! { id, other, extra; 4, "y", "z" }).await,
            _ => world.save(&t(), &rows! { id, extra; 4, "z" }).await,
        }
        assert_eq!(world.rows().await.len(), expected.len() + 1);
    }
}

#[tokio::test]
async fn main_goes_back() {
    let world = World::new();
    let mut ids = Vec::new();
    for id in [1, 2, 3] {
        world.save(&world.table(), &rows! { id; id }).await;
        ids.push(world.metadata().await["current-snapshot-id"].as_i64().unwrap());
    }
    let care = world.care().await;
    assert_eq!(care.rollback(&ids[1].to_string()).await.unwrap(), ids[1]);
    assert_eq!(world.rows().await, ["1", "2"]);
    // Not forward again: that is no ancestor any more.
    assert_eq!(care.rollback(&ids[2].to_string()).await.unwrap_err().kind(), ErrorKind::Usage);
    world.save(&world.table(), &rows! { id; 4 }).await;
    assert_eq!(world.rows().await, ["1", "2", "4"]);
}

/// What was taken back does not come again with a run that began before.
#[tokio::test]
async fn a_run_in_progress_does_not_undo_a_rollback() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let first = world.metadata().await["current-snapshot-id"].as_i64().unwrap();
    world.save(&world.table(), &rows! { id; 2 }).await;
    let (run, staged) = world.stage(&world.table(), &rows! { id; 3 }).await.unwrap();
    let (kept, _) = world.stage(&world.table(), &rows! { id; 4 }).await.unwrap();
    let care = world.care().await;
    care.rollback(&first.to_string()).await.unwrap();
    run.ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.rows().await, ["1", "3"]);
    let branch = format!("hardtack_{}", kept.ctx.run().version());
    assert_eq!(care.publish(&branch, "ann", "fine").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.rows().await, ["1", "3"]);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    world.save(&world.table().overwrite(), &rows! { id; 2 }).await;
    let first = world.metadata().await["snapshots"][0]["snapshot-id"].as_i64().unwrap();
    let (before, files) = (world.metadata().await, world.dir.files("lake"));
    let care = world.care_in(30).await.dry_run(true);
    care.tag("x", None).await.unwrap();
    care.branch("y", None).await.unwrap();
    care.rollback(&first.to_string()).await.unwrap();
    let expired = care.expire(ExpireOptions::default()).await.unwrap();
    assert_eq!((expired.snapshots.len(), expired.files.is_empty()), (1, false));
    care.remove_orphans(TimeDelta::days(1), &HashSet::new()).await.unwrap();
    assert_eq!((world.metadata().await, world.dir.files("lake")), (before, files));
}

/// Whatever expires, what is named or staged can be read.
#[tokio::test]
async fn expiry_keeps_what_is_named() -> Result<()> {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    world.care().await.tag("first", None).await?;
    for id in [2, 3, 4] {
        world.save(&world.table().overwrite(), &rows! { id; id }).await;
    }
    let (run, staged) = world.stage(&world.table(), &rows! { id; 5 }).await?;
    let files = world.dir.files("lake/t/data").len();
    let nothing = world.care().await.expire(ExpireOptions::default()).await?;
    assert_eq!((nothing.snapshots.len(), nothing.files.len()), (0, 0));

    let expired = world.care_in(30).await.expire(ExpireOptions::default()).await?;
    assert_eq!(expired.snapshots.len(), 2);
    assert_eq!(world.dir.files("lake/t/data").len(), files - 2);
    assert_eq!(world.rows().await, ["4"]);
    assert_eq!(world.read(t().tag("first")).await?, ["1"]);
    run.ctx.publish(&staged.publish).await?;
    assert_eq!(world.rows().await, ["4", "5"]);
    let nothing = world.care_in(30).await.expire(ExpireOptions { older_than: None, retain_last: Some(9) }).await?;
    assert_eq!(nothing.snapshots.len(), 0);
    Ok(())
}

/// Snapshots share manifests.
#[tokio::test]
async fn expiry_reads_each_manifest_once() {
    let world = World::new();
    for id in 0..6 {
        world.save(&world.table(), &rows! { id; id }).await;
    }
    let stores = Arc::new(CountingStores::default());
    let ctx = JobContext::builder("job")
        .extension(Arc::new(CatalogHandle::new(Arc::clone(&world.catalog))))
        .store_factory("file", Arc::clone(&stores) as _)
        .build()
        .unwrap();
    let care = IcebergMaintenance::open(&ctx, "lake", "t", Utc::now() + TimeDelta::days(30)).await.unwrap();
    stores.take();
    assert_eq!(care.expire(ExpireOptions::default()).await.unwrap().snapshots.len(), 5);
    let mut read: Vec<String> =
        stores.take().into_iter().filter(|(kind, _)| *kind == "GET").map(|(_, path)| path).collect();
    read.retain(|path| path.ends_with(".avro"));
    read.sort();
    let all = read.len();
    read.dedup();
    // Six lists of manifests, each with one manifest more.
    assert_eq!((all, read.len()), (12, 12), "{read:#?}");
}

#[tokio::test]
async fn orphans_are_what_nothing_refers_to() -> Result<()> {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (live, staged) = world.stage(&world.table(), &rows! { id; 2 }).await?;
    for orphan in
        ["data/left.parquet", "data/dead-run/left.parquet", "data/live-run/left.parquet", "metadata/left.avro"]
    {
        world.dir.write(&format!("lake/t/{orphan}"), "x");
    }
    assert_eq!(world.care().await.remove_orphans(TimeDelta::days(1), &HashSet::new()).await?, []);
    let unfinished = HashSet::from(["live-run".to_owned()]);
    let removed = world.care_in(3).await.remove_orphans(TimeDelta::days(1), &unfinished).await?;
    let mut names: Vec<&str> = removed.iter().map(|file| file.as_str().rsplit("lake/t/").next().unwrap()).collect();
    names.sort_unstable();
    // What was staged is referred to by its branch. Metadata of a lost race is an orphan, too; there is none here.
    assert_eq!(names, ["data/dead-run/left.parquet", "data/left.parquet", "metadata/left.avro"]);
    live.ctx.publish(&staged.publish).await?;
    assert_eq!(world.rows().await, ["1", "2"]);
    let error = world.care().await.remove_orphans(TimeDelta::hours(1), &HashSet::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    Ok(())
}

#[tokio::test]
async fn data_files_go_with_their_rows() {
    let world = World::new();
    for id in 1..=3 {
        world.save(&world.table(), &rows! { id; id }).await;
    }
    let care = world.care().await;
    let before = care.branch("try", None).await.unwrap();
    let files: Vec<Location> =
        lines(&care.metadata("files").await.unwrap().project(&[1]).unwrap()).into_iter().map(Location::from).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    let would = care.delete_files(None, &files[..2]).await.unwrap();
    assert_eq!((would.files, would.rows), (2, 2));
    assert!(would.snapshot.is_some());
    assert_eq!(world.rows().await.len(), 1);
    assert_eq!(world.read(t().branch("try")).await.unwrap(), ["1", "2", "3"]);
    assert_eq!(world.history().await[0], "delete: +0 -2 files, +0 -2 rows; 1 files, 1 rows");
    let gone = world.read(t().after_snapshot(before).with_changes()).await.unwrap();
    assert!(gone.len() == 2 && gone.iter().all(|row| row.ends_with("delete")), "{gone:?}");

    // They are not there twice; and none goes if one is unknown.
    let error = care.delete_files(None, &files).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.t")));
    assert_eq!(world.rows().await.len(), 1);
    let dry = world.care().await.dry_run(true);
    assert_eq!(dry.delete_files(Some("try"), &files).await.unwrap().rows, 3);
    assert_eq!(world.read(t().branch("try")).await.unwrap().len(), 3);
    assert_eq!(care.delete_files(Some("try"), &files).await.unwrap().rows, 3);
    assert_eq!(world.read(t().branch("try")).await.unwrap(), Vec::<String>::new());
    assert_eq!(care.delete_files(Some("nope"), &files).await.unwrap_err().kind(), ErrorKind::Usage);
}

/// Fields that were dropped from tables of format version 1 keep their places.
#[tokio::test]
async fn a_void_field_tells_no_rows_apart() {
    let world = World::new();
    let fields = [PartitionField::void("id"), PartitionField::identity("city")];
    assert_eq!(PartitionField::parse_list("void(id), city").unwrap(), fields);
    let table = world.table().create_if_missing(world.new_table().partition_by(fields));
    world.save(&table, &rows! { id, city; 1, "Ghent"; 2, "Ghent"; 3, "Bruges" }).await;
    assert_eq!(world.care().await.metadata("files").await.unwrap().num_rows(), 2);
    world.save(&table.clone().overwrite_partitions(), &rows! { id, city; 4, "Ghent" }).await;
    let mut rows = world.rows().await;
    rows.sort();
    assert_eq!(rows, ["3 Bruges", "4 Ghent"]);
}
