//! The embedded catalog: the suite, and what its file promises.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use hardtack_catalog::conformance::Check;
use hardtack_catalog::{
    Catalog, CatalogExt, Column, Conflict, CountingCatalog, Database, EmbeddedCatalog, Predicate, Requests,
    TableDescription, TableFormat, conformance_tests,
};
use hardtack_core::ErrorKind;
use rusqlite::Connection;

/// A file that is removed at the end.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("st ate/catalog.sqlite")
    }

    fn open(&self) -> EmbeddedCatalog {
        EmbeddedCatalog::new(self.path())
    }
}

async fn in_a_file(check: Check) {
    let file = File::new();
    check.run(&file.open(), "suite").await;
}

conformance_tests!(in_a_file);

mod in_memory {
    use super::*;

    async fn in_memory(check: Check) {
        check.run(&EmbeddedCatalog::in_memory(), "suite").await;
    }

    conformance_tests!(in_memory);
}

fn numbers(name: &str) -> TableDescription {
    TableDescription::new("lake", name, &TableFormat::Parquet, "s3://lake/numbers")
        .with_columns([Column::foreign("id", "bigint")])
        .with_partition_keys([Column::foreign("n", "int")])
}

#[tokio::test]
async fn reading_leaves_no_file_and_writing_makes_one() {
    let file = File::new();
    let catalog = file.open();
    assert_eq!(catalog.list_databases().await.unwrap(), []);
    assert_eq!(catalog.get_table("lake", "x").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!file.path().exists() && !file.path().parent().unwrap().exists());
    catalog.create_database(&Database::new("lake")).await.unwrap();
    assert!(file.path().exists());
    // A catalog that was opened before the file existed sees what another one has written since.
    let (late, other) = (file.open(), file.open());
    assert_eq!(late.list_databases().await.unwrap().len(), 1);
    other.create_database(&Database::new("sea")).await.unwrap();
    assert_eq!(late.list_databases().await.unwrap().len(), 2);
    // Between two transactions there is one file and nothing beside it.
    let beside = std::fs::read_dir(file.path().parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1);
}

#[tokio::test]
async fn files_of_others_are_refused() {
    let file = File::new();
    std::fs::create_dir_all(file.path().parent().unwrap()).unwrap();
    let refused = async |path: &Path| {
        let error = EmbeddedCatalog::new(path).list_databases().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error:?}");
        error.chain().replace(&path.display().to_string(), "<file>")
    };
    std::fs::write(file.path(), "this is a text, and long enough to be told from an empty file".repeat(100)).unwrap();
    insta::assert_snapshot!(refused(&file.path()).await, @"this file is not a catalog; name another one with `--catalog embedded:PATH` (catalog: <file>): file is not a database: Error code 26: file is not a database");

    let foreign = file.path().with_file_name("foreign.sqlite");
    Connection::open(&foreign).unwrap().execute_batch("create table t (a); pragma user_version = 1").unwrap();
    insta::assert_snapshot!(refused(&foreign).await, @"this SQLite file is not a catalog; name another one with `--catalog embedded:PATH` (catalog: <file>)");

    let newer = file.path().with_file_name("newer.sqlite");
    EmbeddedCatalog::new(&newer).create_database(&Database::new("lake")).await.unwrap();
    Connection::open(&newer).unwrap().execute_batch("pragma user_version = 99").unwrap();
    insta::assert_snapshot!(refused(&newer).await, @"a newer hardtack has written this catalog; update this one (version of the catalog: 99, version known: 2, catalog: <file>)");

    insta::assert_snapshot!(refused(file.path().parent().unwrap()).await, @"the catalog cannot be opened for writing; check the path and its permissions (catalog: <file>): unable to open database file: <file>: Error code 14: unable to open database file");
}

#[tokio::test]
async fn a_predicate_reads_the_pages_and_hands_over_what_is_wanted() {
    let catalog = EmbeddedCatalog::in_memory();
    catalog.create_database(&Database::new("lake")).await.unwrap();
    let table = numbers("numbers");
    catalog.create_table(&table).await.unwrap();
    let partitions: Vec<_> = (0..2500).map(|n| table.partition([n.to_string()], format!("s3://lake/{n}"))).collect();
    catalog.add_partitions(&table, &partitions).await.unwrap();
    let counting = CountingCatalog::new(Arc::new(catalog));
    let wanted = Predicate::all().and_in("n", [7, 1999]);
    let pages: Vec<_> = counting.list_partitions(&table, &wanted).try_collect().await.unwrap();
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), 2);
    let counted = counting.take();
    assert_eq!(counted.keys().copied().collect::<Vec<_>>(), ["list_partitions"]);
    assert_eq!(counted["list_partitions"], Requests { calls: 3, items: 2 });
    assert!(counting.take().is_empty());
}

// --- many processes ------------------------------------------------------------------------------------------------

/// Tells this test binary, started again as a child, which file to write.
const CHILD: &str = "HARDTACK_TEST_CATALOG_FILE";

/// Starts this test binary again, with `child_that_writes` only.
fn child(path: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::child_that_writes", "--ignored", "--nocapture"])
        .env(CHILD, format!("{}\n{name}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test, but the children's work. Each round adds a pair of partitions in one call and counts it in the table,
/// then drops the pair of an earlier round. A child that is killed has done each of these steps entirely or not at all.
#[tokio::test]
#[ignore = "started by the tests that kill it"]
async fn child_that_writes() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (path, name) = task.split_once('\n').unwrap();
    let catalog = EmbeddedCatalog::new(path);
    catalog.ensure_database(&Database::new("lake")).await.unwrap();
    catalog.ensure_table(&numbers(name).with_parameter("rounds", "0")).await.unwrap();
    catalog.ensure_table(&numbers("shared").with_parameter("rounds", "0")).await.unwrap();
    println!("ready");
    let table = catalog.get_table("lake", name).await.unwrap();
    let pair = |round: i32| [2 * round, 2 * round + 1].map(|n| n.to_string());
    let start: i32 = table.parameters["rounds"].parse().unwrap();
    for round in start.. {
        let added = pair(round).map(|n| table.partition([&n], format!("s3://lake/{n}")));
        catalog.add_partitions(&table, &added).await.unwrap();
        if round >= 20 {
            catalog.drop_partitions(&table, &pair(round - 20).map(|n| vec![n])).await.unwrap();
        }
        let table = catalog.get_table("lake", name).await.unwrap();
        catalog.update_table(&table.with_parameter("rounds", (round + 1).to_string())).await.unwrap();
        increment(&catalog, "shared").await;
    }
}

/// Increments the parameter `rounds` of a table, which others increment, too.
async fn increment(catalog: &dyn Catalog, table: &str) {
    loop {
        let table = catalog.get_table("lake", table).await.unwrap();
        let rounds: u64 = table.parameters["rounds"].parse().unwrap();
        match catalog.update_table(&table.with_parameter("rounds", (rounds + 1).to_string())).await {
            Ok(()) => return,
            Err(e) => assert_eq!(Conflict::of(&e), Some(Conflict::ConcurrentModification), "{e:?}"),
        }
    }
}

/// Waits until a child has a table to write to.
fn wait_until_ready(child: &mut Child) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")), "the child ended too early");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_leave_a_catalog_that_holds() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let file = File::new();
    let path = file.path();
    let mut last = [0; NAMES.len()];
    for generation in 0..5u64 {
        let mut children = NAMES.map(|name| child(&path, name));
        children.iter_mut().for_each(wait_until_ready);
        // Readers wait for writers and never fail.
        let reader = file.open();
        tokio::time::sleep(Duration::from_millis(120 + 35 * generation)).await;
        reader.list_tables("lake").await.unwrap();
        for child in &mut children {
            assert!(child.try_wait().unwrap().is_none(), "a child failed");
            child.kill().unwrap();
            child.wait().unwrap();
        }

        let connection = Connection::open(&path).unwrap();
        let check = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, String>(0));
        assert_eq!(check("pragma integrity_check").unwrap(), "ok");
        assert!(check("pragma foreign_key_check").is_err(), "no row points to nothing");
        drop(connection);

        let catalog = file.open();
        let mut total = 0;
        for (name, last) in NAMES.iter().zip(&mut last) {
            let table = catalog.get_table("lake", name).await.unwrap();
            let rounds: i32 = table.parameters["rounds"].parse().unwrap();
            assert!(rounds >= *last, "{name}: what was done is undone");
            *last = rounds;
            total += rounds;
            let found = catalog.all_partitions(&table, &Predicate::all()).await.unwrap();
            let mut found: Vec<i32> = found.iter().map(|p| p.values[0].parse().unwrap()).collect();
            found.sort_unstable();
            // Pairs are complete. The last may have been added but not counted, the first dropped but not counted.
            let counted = |first: i32, last: i32| (2 * first..2 * last).collect::<Vec<_>>();
            let oldest = (rounds - 20).max(0);
            let dropped = (rounds - 19).max(0);
            let states = [counted(oldest, rounds), counted(oldest, rounds + 1), counted(dropped, rounds + 1)];
            assert!(states.contains(&found), "{name} after {rounds} rounds: {found:?}");
        }
        let shared: i32 = catalog.get_table("lake", "shared").await.unwrap().parameters["rounds"].parse().unwrap();
        // A child may be killed between its two counts.
        let killed = 3 * (i32::try_from(generation).unwrap() + 1);
        assert!(shared <= total && shared >= total - killed, "{shared} of {total}: an update was lost");
    }
    assert!(last.iter().all(|rounds| *rounds > 0), "a child got no turn: {last:?}");
}
