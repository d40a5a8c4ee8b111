//! Publishing twice, partially, late, and concurrently.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hardtack_catalog::{Catalog, EmbeddedCatalog};
use hardtack_core::{ErrorKind, JobContext, Sink};
use hardtack_tables::{SchemaEvolution, Table};
use hardtack_test_support::{Frame, rows};
use rstest::rstest;

use crate::faulty::FaultyCatalog;
use crate::lake::{World, load, sales};
use crate::saving::day;

/// What readers see, and the catalog's counts.
async fn state(world: &World) -> String {
    let counts: Vec<String> = world.counts("sales").await.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
    format!("{}\n{}", world.rows("sales").await.join("\n"), counts.join("\n"))
}

fn cases() -> Vec<(Table, &'static str, Frame)> {
    let keyed = || rows! { id, day; 10, "mon"; 11, "mon"; 12, "wed" };
    let wide = || rows! { id, day, name; 10, "mon", "x"; 12, "wed", "y" };
    vec![
        (sales(), "day: string", keyed()),
        (sales().overwrite_partitions(), "day: string", keyed()),
        (sales().overwrite(), "day: string", keyed()),
        (sales().schema_evolution(SchemaEvolution::AddColumns), "day: string", wide()),
        (sales(), "", rows! { id; 10; 11 }),
        (sales().overwrite(), "", rows! { id; 10; 11 }),
    ]
}

/// A table with rows of two runs, the second of which has replaced something.
async fn used(keys: &str) -> World {
    let world = World::with_sales("id: bigint", keys).await;
    if keys.is_empty() {
        world.save(sales(), rows! { id; 1 }).await;
        world.save(sales().overwrite(), rows! { id; 2 }).await;
    } else {
        world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue" }).await;
        world.save(sales().overwrite_partitions(), day("mon", &[3])).await;
    }
    world
}

#[tokio::test]
async fn each_action_may_be_executed_again_also_later() {
    for (table, keys, rows) in cases() {
        let world = used(keys).await;
        // The grace period is over, so the run removes something, too.
        world.advance(chrono::TimeDelta::hours(2));
        let (ctx, staged) = world.stage(table.clone(), rows).await.unwrap();
        ctx.publish(&staged.publish).await.unwrap();
        let after = state(&world).await;
        for action in &staged.publish {
            ctx.publish(std::slice::from_ref(action)).await.unwrap();
        }
        ctx.publish(&staged.publish).await.unwrap();
        assert_eq!(state(&world).await, after, "{table:?}");

        // Another run comes before the first is published again: the other's result stays.
        let replaced = if keys.is_empty() {
            rows! { id; 77 }
        } else {
            rows! { id, day, name; 77, "mon", "z" }
        };
        world.save(sales().overwrite_partitions().schema_evolution(SchemaEvolution::AddColumns), replaced).await;
        let after = state(&world).await;
        ctx.publish(&staged.publish).await.unwrap();
        assert_eq!(state(&world).await, after, "{table:?}");
    }
}

/// Every change of the catalog fails once, before or after it is made.
#[rstest]
#[tokio::test]
async fn whatever_fails_readers_are_right_and_the_next_attempt_heals(#[values(false, true)] made: bool) {
    for (table, keys, rows) in cases() {
        let mut steps = 0;
        for fails_at in 0.. {
            let world = used(keys).await;
            let before = world.rows("sales").await;
            let faulty = FaultyCatalog::new(Arc::clone(&world.catalog), fails_at, made);
            let ctx = world.run_on(faulty.clone());
            let staged = table.stage(&ctx.staging("out"), rows.to_df(ctx.session())).await.unwrap();
            let published = ctx.publish(&staged.publish).await;
            if !faulty.has_failed() {
                published.unwrap();
                break;
            }
            steps += 1;
            assert_eq!(published.unwrap_err().kind(), ErrorKind::Unavailable);
            check_partitions(&table, &before, &world.rows("sales").await);
            let again = world.run_on(FaultyCatalog::new(Arc::clone(&world.catalog), usize::MAX, made));
            again.publish(&staged.publish).await.unwrap();
            let reference = used(keys).await;
            reference.save(table.clone(), rows.clone()).await;
            assert_eq!(state(&world).await, state(&reference).await, "{table:?}, change {fails_at}");
        }
        assert!(steps > 0);
    }
}

/// Each partition has its old rows or its new ones; when rows are appended the old ones are there in any case.
fn check_partitions(table: &Table, before: &[String], now: &[String]) {
    let of = |rows: &[String], day: &str| -> Vec<String> {
        rows.iter()
            .filter(|row| row.contains(day))
            .map(|row| row.split(' ').filter(|c| !c.starts_with("name=")).collect::<Vec<_>>().join(" "))
            .collect()
    };
    for day in ["day=mon", "day=tue", "day=wed", "id="] {
        let (old, now) = (of(before, day), of(now, day));
        let new: Vec<String> = now.iter().filter(|row| !old.contains(row)).cloned().collect();
        if format!("{table:?}").contains("Overwrite") && day != "id=" {
            assert!(new.is_empty() || new.len() == now.len(), "{table:?}: old and new rows in {day}: {now:?}");
        }
        if !format!("{table:?}").contains("Overwrite") {
            assert!(old.iter().all(|row| now.contains(row)), "{table:?}: rows of {day} are gone: {now:?}");
        }
    }
}

#[tokio::test]
async fn a_run_is_not_published_into_another_catalog() {
    let world = World::partitioned().await;
    let (_, staged) = world.stage(sales(), day("mon", &[1])).await.unwrap();
    let other: Arc<dyn Catalog> = Arc::new(EmbeddedCatalog::in_memory());
    let error = world.run_on(other).publish(&staged.publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let text = error.to_string().replace(&world.dir.path().display().to_string(), "DIR");
    insta::assert_snapshot!(text, @r#"this run has saved to a table of another catalog (table: lake.sales, catalog of the run: EmbeddedCatalog(File("DIR/catalog.db")), catalog here: EmbeddedCatalog(Memory), hint: name the catalog of the run with --catalog)"#);
    let nobody = JobContext::builder("job").build().unwrap();
    hardtack_tables::register(&nobody);
    assert_eq!(nobody.publish(&staged.publish).await.unwrap_err().kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn two_runs_that_replace_one_partition_leave_the_rows_of_one() {
    for keys in ["day: string", ""] {
        let world = World::with_sales("id: bigint", keys).await;
        let frame = |id: i64| {
            if keys.is_empty() {
                rows! { id; id }
            } else {
                day("mon", &[id])
            }
        };
        world.save(sales(), frame(0)).await;
        let mut staged = Vec::new();
        for id in 1..=8 {
            staged.push(world.stage(sales().overwrite_partitions(), frame(id)).await.unwrap());
        }
        let published = staged.iter().map(|(ctx, staged)| ctx.publish(&staged.publish));
        futures::future::try_join_all(published).await.unwrap();
        let rows = world.rows("sales").await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_ne!(rows, if keys.is_empty() { ["id=0"] } else { ["day=mon id=0"] });
        assert_eq!(world.counts("sales").await.values().last().unwrap(), "1");
    }
}

#[tokio::test]
async fn runs_that_write_different_partitions_do_not_meet() {
    let world = World::partitioned().await;
    let days: Vec<String> = (0..8).map(|n| format!("d{n}")).collect();
    for round in 0..2_i64 {
        let mut staged = Vec::new();
        for (n, name) in days.iter().enumerate() {
            let table = if n % 2 == 0 { sales() } else { sales().overwrite_partitions() };
            staged.push(world.stage(table, day(name, &[round])).await.unwrap());
        }
        let published = staged.iter().map(|(ctx, staged)| ctx.publish(&staged.publish));
        futures::future::try_join_all(published).await.unwrap();
    }
    let rows = world.rows("sales").await;
    assert_eq!(rows.len(), 4 * 2 + 4);
    assert_eq!(world.counts("sales").await["all"], "12");
}

/// Appended rows are not lost, whatever happens to the partition between staging and publishing.
#[rstest]
#[case::registered("day: string", true)]
#[case::new_partition("day: string", false)]
#[case::without_partitions("", true)]
#[tokio::test]
async fn rows_appended_to_a_partition_that_moves_follow(#[case] keys: &str, #[case] there: bool) {
    let world = World::with_sales("id: bigint", keys).await;
    let frame = |id: i64| {
        if keys.is_empty() {
            rows! { id; id }
        } else {
            day("mon", &[id])
        }
    };
    if there {
        world.save(sales(), frame(1)).await;
    }
    let (ctx, staged) = world.stage(sales(), frame(2)).await.unwrap();
    world.save(sales().overwrite_partitions(), frame(3)).await;
    for _ in 0..2 {
        ctx.publish(&staged.publish).await.unwrap();
        let rows = world.rows("sales").await;
        assert_eq!(rows.iter().map(|r| r.rsplit('=').next().unwrap()).collect::<Vec<_>>(), ["2", "3"]);
    }
    assert_eq!(world.counts("sales").await["all"], "2");
}

/// Catalogs have no conditional update of a partition: an append that changes the counts may undo a rebuild that has
/// come in between.
#[tokio::test]
async fn a_rebuild_that_an_append_has_undone_is_done_again() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue" }).await;
    let (other, rebuilt) =
        world.stage(sales().overwrite_partitions(), rows! { id, day; 3, "mon"; 4, "wed" }).await.unwrap();
    let meanwhile = Box::new(move || {
        let published = other.publish(&rebuilt.publish);
        tokio::runtime::Runtime::new().unwrap().block_on(published).unwrap();
    });
    let ctx = world.run_on(FaultyCatalog::interrupted(Arc::clone(&world.catalog), meanwhile));
    let staged =
        sales().stage(&ctx.staging("out"), rows! { id, day; 5, "mon"; 6, "tue" }.to_df(ctx.session())).await.unwrap();
    for _ in 0..2 {
        ctx.publish(&staged.publish).await.unwrap();
        let expected = ["day=mon id=3", "day=mon id=5", "day=tue id=2", "day=tue id=6", "day=wed id=4"];
        assert_eq!(world.rows("sales").await, expected);
    }
    let counts = world.counts("sales").await;
    assert_eq!((counts["day=mon"].as_str(), counts["day=tue"].as_str()), ("2", "2"));
}

#[tokio::test]
async fn many_appends_at_once_are_all_counted() {
    let world = World::partitioned().await;
    let mut staged = Vec::new();
    for id in 0..6 {
        staged.push(world.stage(sales(), day("mon", &[id])).await.unwrap());
    }
    let published = staged.iter().map(|(ctx, staged)| ctx.publish(&staged.publish));
    futures::future::try_join_all(published).await.unwrap();
    assert_eq!(world.rows("sales").await.len(), 6);
    assert_eq!(world.table("sales").await.parameters["recordCount"], "6");
}

/// A reader queries by name in a loop, like jobs and SQL, while a partition is rebuilt again and again and superseded
/// files are removed. It sees each partition whole, and misses no file.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reader_never_sees_half_a_partition() {
    let rebuilds = 1000_i64;
    // Much longer than a query takes, and not as long as all rebuilds.
    let saved = sales().overwrite_partitions().grace_period(chrono::TimeDelta::seconds(15));
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 0, "mon"; 0, "mon"; 0, "tue" }).await;
    let (ctx, stop) = (world.run(), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let reader = tokio::spawn(async move {
        let (mut reads, mut seen) = (0, BTreeSet::new());
        while !stopped.load(Ordering::Relaxed) {
            let rows = load(&ctx, sales()).await.unwrap();
            let (rebuilt, others): (Vec<String>, Vec<String>) = rows.into_iter().partition(|r| r.ends_with("day=mon"));
            assert_eq!(others, ["id=0 day=tue"]);
            assert!(rebuilt.len() == 2 && rebuilt[0] == rebuilt[1], "both rows are of one run: {rebuilt:?}");
            seen.extend(rebuilt);
            reads += 1;
        }
        (reads, seen.len())
    });
    for n in 1..=rebuilds {
        world.save(saved.clone(), day("mon", &[n, n])).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (reads, seen) = reader.await.unwrap();
    assert!(reads > 10 && seen > 5, "{reads} reads saw {seen} versions");
    assert_eq!(world.rows("sales").await[0], format!("day=mon id={rebuilds}"));
}

/// Tables are published to by name. The name is that of another table by now, which the run has not written to.
#[rstest]
#[tokio::test]
async fn a_run_is_not_published_to_a_table_that_was_swapped_for_its_own(#[values("day: string", "")] keys: &str) {
    let frame = |id: i64| {
        if keys.is_empty() {
            rows! { id; id }
        } else {
            day("mon", &[id])
        }
    };
    for table in [sales(), sales().overwrite_partitions(), sales().overwrite()] {
        let world = World::with_sales("id: bigint", keys).await;
        world.catalog.create_table(&world.description("green", "id: bigint", keys)).await.unwrap();
        world.save(sales(), frame(1)).await;
        world.save(Table::named("lake", "green"), frame(7)).await;
        let before = [world.rows("sales").await, world.rows("green").await];
        let (ctx, staged) = world.stage(table.clone(), frame(2)).await.unwrap();
        world.swap("sales", "green").await;
        let described = world.table("sales").await;
        let error = ctx.publish(&staged.publish).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        assert_eq!(error.message(), "the name is that of another table since the run wrote its files");
        assert_eq!((world.rows("sales").await, world.table("sales").await), (before[1].clone(), described));
        world.swap("sales", "green").await;
        ctx.publish(&staged.publish).await.unwrap();
        let reference = World::with_sales("id: bigint", keys).await;
        reference.save(sales(), frame(1)).await;
        reference.save(table, frame(2)).await;
        assert_eq!(state(&world).await, state(&reference).await);
        assert_eq!(world.rows("green").await, before[1]);
    }
}

/// The tables are swapped between the last look at the table and the change of its partitions.
#[tokio::test]
async fn partitions_of_a_table_do_not_get_into_the_one_that_was_swapped_for_it() {
    let world = World::partitioned().await;
    world.catalog.create_table(&world.description("green", "id: bigint", "day: string")).await.unwrap();
    world.save(sales(), day("mon", &[1])).await;
    world.save(Table::named("lake", "green"), day("mon", &[7])).await;
    let catalog = Arc::clone(&world.catalog);
    let swap = Box::new(move || {
        let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio.block_on(crate::lake::swap(catalog.as_ref(), "sales", "green"));
    });
    let interrupted = FaultyCatalog::interrupted(Arc::clone(&world.catalog), swap);
    let ctx = world.run_on(interrupted);
    let table = sales().overwrite_partitions();
    let staged = table.stage(&ctx.staging("out"), day("mon", &[2]).to_df(ctx.session())).await.unwrap();
    let error = ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    // As if it had been published before.
    assert_eq!(
        (world.rows("sales").await, world.rows("green").await),
        (vec!["day=mon id=7".to_owned()], vec!["day=mon id=2".to_owned()])
    );
}
