//! What came and went between two snapshots, and bookmarks.

use hardtack_core::bookmarks::{BookmarkOption, Bookmarks, Positions, Reprocess};
use hardtack_core::{ErrorKind, JobContext, Result};
use hardtack_iceberg::{ExpireOptions, IcebergMaintenance, IcebergTable, PartitionField};
use hardtack_test_support::{Frame, rows};
use proptest::prelude::*;

use super::World;
use crate::world::lines;

fn t() -> IcebergTable {
    IcebergTable::named("lake", "t")
}

/// The id of the current snapshot.
async fn head(world: &World) -> i64 {
    world.metadata().await["current-snapshot-id"].as_i64().unwrap()
}

#[tokio::test]
async fn what_was_appended_since_is_read() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let first = head(&world).await;
    world.save(&t(), &rows! { id; 2 }).await;
    let second = head(&world).await;
    world.save(&t(), &rows! { id; 3 }).await;
    assert_eq!(world.read(t().after_snapshot(first)).await.unwrap(), ["2", "3"]);
    assert_eq!(world.read(t().after_snapshot(first).snapshot(second)).await.unwrap(), ["2"]);
    assert_eq!(world.read(t().after_snapshot(second).snapshot(second)).await.unwrap(), [""; 0]);
    assert_eq!(world.read(t().after_snapshot(second).with_changes()).await.unwrap(), ["3 insert"]);
    assert_eq!(world.read(t().with_changes()).await.unwrap(), ["1 insert", "2 insert", "3 insert"]);
    let backwards = world.read(t().after_snapshot(second).snapshot(first)).await.unwrap_err();
    insta::assert_snapshot!(said(&backwards, &[first, second]), @"Usage: the version that is read does not come after this snapshot: the table was rolled back, or it is another branch (table: lake.t, snapshot: <1>, version: <0>, source: lake.t, hint: read everything (with a bookmark: `--job-bookmark-option job-bookmark-disable`), and set where to go on with `hardtack bookmark set`)");
}

/// With names in place of ids.
fn said(error: &hardtack_core::Error, ids: &[i64]) -> String {
    let mut text = format!("{:?}: {error}", error.kind());
    for (index, id) in ids.iter().enumerate() {
        text = text.replace(&id.to_string(), &format!("<{index}>"));
    }
    text
}

#[tokio::test]
async fn rows_that_were_removed_are_asked_for() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let first = head(&world).await;
    world.save(&t().overwrite(), &rows! { id; 2 }).await;
    assert_eq!(world.read(t().after_snapshot(first).with_changes()).await.unwrap(), ["1 delete", "2 insert"]);
    let error = world.read(t().after_snapshot(first)).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Refused, Some("lake.t")));
    assert!(error.to_string().contains(".with_changes()"), "{error}");
}

#[tokio::test]
async fn columns_are_those_of_the_version() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let first = head(&world).await;
    world.save(&t(), &rows! { id; 2 }).await;
    let second = head(&world).await;
    let growing = t().schema_evolution(hardtack_catalog::SchemaEvolution::AddColumns);
    world.save(&growing.overwrite(), &rows! { id, extra; 3, "x" }).await;
    let changes = world.read(t().after_snapshot(first).with_changes()).await.unwrap();
    assert_eq!(changes, ["1 null delete", "3 x insert"], "what came and went is neither");
    assert_eq!(world.read(t().after_snapshot(first).snapshot(second)).await.unwrap(), ["2"]);
}

#[tokio::test]
async fn a_column_of_that_name_is_not_mistaken() {
    let world = World::new();
    world.save(&world.table(), &rows! { id, _change_type; 1, "x" }).await;
    let error = world.read(t().with_changes()).await.unwrap_err();
    assert_eq!((error.kind(), error.get("column")), (ErrorKind::Usage, Some("_change_type")));
}

// --- bookmarks -----------------------------------------------------------------------------------------------------

/// What a run reads that begins with these bookmarks, and those that it leaves.
async fn run(world: &World, bookmarks: impl Into<Bookmarks>, source: IcebergTable) -> Result<(String, Positions)> {
    let ctx = JobContext::builder("job").share(&world.run().ctx).bookmarks(bookmarks).build().unwrap();
    let rows = ctx.load(source).await?.collect().await?;
    let mut rows: Vec<String> = rows.iter().flat_map(lines).collect();
    rows.sort();
    Ok((rows.join(";"), ctx.bookmarks_after()))
}

#[tokio::test]
async fn a_run_reads_what_is_new() {
    let world = World::new();
    let declared = || {
        let new = world.new_table().with_schema(hardtack_catalog::schema! { id: bigint });
        t().create_if_missing(new).bookmarked()
    };
    let (rows, none) = run(&world, Positions::new(), declared()).await.unwrap();
    assert_eq!((rows.as_str(), none), ("", Positions::new()), "the table is not there");

    world.save(&world.table(), &rows! { id; 1 }).await;
    world.save(&t(), &rows! { id; 2 }).await;
    let (rows, first) = run(&world, Positions::new(), declared()).await.unwrap();
    assert_eq!(rows, "1;2");
    world.save(&t(), &rows! { id; 3 }).await;
    world.save(&t(), &rows! { id; 4 }).await;
    let (rows, second) = run(&world, first.clone(), t().bookmarked()).await.unwrap();
    assert_eq!(rows, "3;4");
    let (rows, same) = run(&world, second.clone(), t().bookmarked()).await.unwrap();
    assert_eq!((rows.as_str(), &same), ("", &second));

    // As people see it, and set it.
    let position = &second["lake.t"];
    assert_eq!(position["through"], head(&world).await.to_string());
    let mut by_hand = position.clone();
    by_hand.as_object_mut().unwrap().remove("table");
    let by_hand = Positions::from([("lake.t".to_owned(), by_hand)]);
    assert_eq!(run(&world, by_hand, t().bookmarked()).await.unwrap(), (String::new(), second.clone()));

    // What the second run has read, again; and what it would read without bookmarks.
    let again = Reprocess { after: first, until: Some(second.clone()) };
    let again = Bookmarks { again: Some(again), ..second.clone().into() };
    world.save(&t(), &rows! { id; 5 }).await;
    assert_eq!(run(&world, again, t().bookmarked()).await.unwrap().0, "3;4");
    let nothing = Reprocess { after: second.clone(), until: Some(Positions::new()) };
    let nothing = Bookmarks { again: Some(nothing), ..second.clone().into() };
    assert_eq!(run(&world, nothing, t().bookmarked()).await.unwrap().0, "");
    let disabled = Bookmarks { option: BookmarkOption::Disable, ..second.into() };
    assert_eq!(run(&world, disabled, t().bookmarked()).await.unwrap().0, "1;2;3;4;5");
}

#[tokio::test]
async fn the_bookmark_moves_if_all_is_read() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    world.save(&t(), &rows! { id; 2 }).await;
    let ctx = JobContext::builder("job").share(&world.run().ctx).build().unwrap();
    let rows = ctx.load(t().bookmarked()).await.unwrap();
    rows.clone().limit(0, Some(1)).unwrap().collect().await.unwrap();
    assert_eq!(ctx.bookmarks_after(), Positions::new());
    // A filter that excludes a file by its bounds wants none of its rows.
    let filtered = rows.filter(datafusion::prelude::col("id").eq(datafusion::prelude::lit(2_i64))).unwrap();
    assert_eq!(filtered.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    assert!(ctx.bookmarks_after().contains_key("lake.t"));
    // The next load may find more.
    assert_eq!(ctx.load(t().bookmarked()).await.unwrap_err().kind(), ErrorKind::Usage);
}

/// A filter on what has happened leaves files out of a plan, which counts as having read them.
#[tokio::test]
async fn a_filter_on_the_kind_of_change_does_not_hold_the_bookmark() {
    use datafusion::prelude::{col, lit};
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (_, first) = run(&world, Positions::new(), t().bookmarked()).await.unwrap();
    world.save(&t().overwrite(), &rows! { id; 2 }).await;
    for (kind, id) in [("insert", "2 insert"), ("delete", "1 delete")] {
        let ctx = JobContext::builder("job").share(&world.run().ctx).bookmarks(first.clone()).build().unwrap();
        let rows = ctx.load(t().bookmarked().with_changes()).await.unwrap();
        let rows = rows.filter(col("_change_type").eq(lit(kind))).unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().flat_map(lines).collect::<Vec<_>>(), [id]);
        assert_ne!(ctx.bookmarks_after(), first, "{kind}");
    }
}

#[tokio::test]
async fn a_bookmark_of_what_is_gone_is_refused() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let (_, first) = run(&world, Positions::new(), t().bookmarked()).await.unwrap();
    let ids = [head(&world).await];
    world.save(&t(), &rows! { id; 2 }).await;
    world.save(&t(), &rows! { id; 3 }).await;
    let later = chrono::Utc::now() + chrono::TimeDelta::days(30);
    let care = IcebergMaintenance::open(&world.run().ctx, "lake", "t", later).await.unwrap();
    // That snapshot may be gone, but not one that came after it.
    care.expire(ExpireOptions { retain_last: Some(2), ..ExpireOptions::default() }).await.unwrap();
    assert_eq!(run(&world, first.clone(), t().bookmarked()).await.unwrap().0, "2;3");
    care.expire(ExpireOptions { retain_last: Some(1), ..ExpireOptions::default() }).await.unwrap();
    let error = run(&world, first.clone(), t().bookmarked()).await.unwrap_err();
    insta::assert_snapshot!(said(&error, &[ids[0], head(&world).await]), @"Usage: what came after this snapshot is unknown: snapshots since then have expired (table: lake.t, snapshot: <0>, version: <1>, source: lake.t, hint: read everything (with a bookmark: `--job-bookmark-option job-bookmark-disable`), and set where to go on with `hardtack bookmark set`)");
    // The first run does not need a history.
    assert_eq!(run(&world, Positions::new(), t().bookmarked()).await.unwrap().0, "1;2;3");

    let other = World::new();
    other.save(&other.table(), &rows! { id; 1 }).await;
    let error = run(&other, first.clone(), t().bookmarked()).await.unwrap_err();
    insta::assert_snapshot!(said(&error, &[]), @"Usage: the bookmark of this source is of an earlier table of this name, which was dropped (bookmark: lake.t, source reads: lake.t, source: lake.t, hint: start it from its beginning with `--job-bookmark-reset-moved`, or set its position with `hardtack bookmark set`)");
    let reset = Bookmarks { reset_moved: true, ..first.into() };
    assert_eq!(run(&other, reset, t().bookmarked()).await.unwrap().0, "1");
    let odd = Positions::from([("lake.t".to_owned(), serde_json::json!({"format": 1, "by": "path"}))]);
    assert_eq!(run(&other, odd, t().bookmarked()).await.unwrap_err().kind(), ErrorKind::Refused);
    let fixed = run(&other, Positions::new(), t().bookmarked().snapshot(head(&other).await)).await.unwrap_err();
    assert_eq!(fixed.kind(), ErrorKind::Usage);
}

// --- the law -------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// The rows before, with those that are inserted and without those that are deleted, are the rows after.
    #[test]
    fn changes_lead_from_one_version_to_another(
        steps in proptest::collection::vec((0..3_u8, proptest::collection::vec(0..3_i64, 0..4)), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let new = world.new_table().with_schema(hardtack_catalog::schema! { id: bigint, day: bigint });
            // Each commit merges the manifests of earlier ones.
            let new = new.with_property("commit.manifest.min-count-to-merge", "2");
            let table = t().create_if_missing(new.partition_by([PartitionField::identity("day")]));
            let mut versions = Vec::new();
            let mut next = 0;
            for (mode, days) in steps {
                let table = match mode {
                    0 => table.clone().append(),
                    1 => table.clone().overwrite(),
                    _ => table.clone().overwrite_partitions(),
                };
                let mut text = String::new();
                for day in days {
                    next += 1;
                    text += &format!("{{\"id\": {next}, \"day\": {day}}}\n");
                }
                let schema = hardtack_catalog::schema! { id: bigint, day: bigint };
                world.save(&table, &Frame::from_json_lines_as(&schema, &text)).await;
                if let Some(id) = world.metadata().await["current-snapshot-id"].as_i64() {
                    versions.push((id, world.rows().await));
                }
            }
            for (i, (from, before)) in versions.iter().enumerate() {
                for (to, after) in &versions[i..] {
                    let mut rows = before.clone();
                    let changes = world.read(t().after_snapshot(*from).snapshot(*to).with_changes()).await.unwrap();
                    let (inserts, deletes): (Vec<&str>, Vec<&str>) =
                        changes.iter().map(String::as_str).partition(|row| row.ends_with(" insert"));
                    rows.extend(inserts.iter().map(|row| row.trim_end_matches(" insert").to_owned()));
                    for row in &deletes {
                        let row = row.trim_end_matches(" delete");
                        let at = rows.iter().position(|other| other == row).expect("a row that was there is deleted");
                        rows.remove(at);
                    }
                    rows.sort();
                    assert_eq!(&rows, after);
                    let added = world.read(t().after_snapshot(*from).snapshot(*to)).await;
                    match deletes.is_empty() {
                        true => assert_eq!(added.unwrap().len(), inserts.len()),
                        false => assert_eq!(added.unwrap_err().kind(), ErrorKind::Refused),
                    }
                }
            }
        });
    }
}
