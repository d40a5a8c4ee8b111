//! Swaps in a catalog without transactions, stopped and disturbed at every step.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use hardtack_core::fault::SWAP_POINTS;
use rstest::rstest;

use super::*;
use crate::catalog::PartitionPages;
use crate::conflict;
use crate::predicate::Predicate;
use crate::table::{Column, Database, Partition};
use crate::{TableFormat, name};

// --- a catalog without transactions --------------------------------------------------------------------------------

type Names = (String, String);

/// What others do.
type Meanwhile = Box<dyn FnOnce(&mut State) + Send>;

/// A catalog that updates one table at a time, and keeps the parameters of Iceberg tables, as Glue does.
#[derive(Default)]
struct Plain(Mutex<State>);

#[derive(Default)]
struct State {
    databases: BTreeMap<String, Database>,
    tables: BTreeMap<Names, TableDescription>,
    partitions: BTreeMap<Names, Vec<Partition>>,
    versions: u32,
    /// How many updates there were, and how many are made before all others fail.
    updates: usize,
    crash_after: Option<usize>,
    /// The update whose answer is lost.
    lost: Option<usize>,
    /// Comes before the update of this number.
    meanwhile: Option<(usize, Meanwhile)>,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

fn names(database: &str, table: &str) -> Names {
    (name::folded(database), name::folded(table))
}

fn names_of(table: &TableDescription) -> Names {
    names(&table.database, &table.name)
}

impl State {
    fn table(&self, names: &Names) -> Result<&TableDescription> {
        self.tables.get(names).ok_or_else(|| conflict::no_table(&format!("{}.{}", names.0, names.1)))
    }

    /// Replaces a table, whoever does it.
    fn put(&mut self, table: TableDescription) {
        self.updates += 1;
        self.versions += 1;
        let version = Some(self.versions.to_string());
        self.tables.insert(names_of(&table), TableDescription { version, ..table });
    }

    /// A commit to an Iceberg table, or a change of one of files, by a client that does not look at the mark.
    fn commit(&mut self, table: &str, number: usize) {
        let table = self.table(&named(table)).unwrap().clone();
        self.put(committed(table, number));
    }

    /// The same by one of ours.
    fn commit_of_ours(&mut self, table: &str, number: usize) -> Result<()> {
        let now = self.table(&named(table))?;
        let next = committed(now.clone(), number);
        next.check_update(now)?;
        self.put(next);
        Ok(())
    }
}

fn committed(table: TableDescription, number: usize) -> TableDescription {
    match table.metadata_location().and_then(|metadata| metadata.rsplit_once('/')) {
        Some((folder, _)) => {
            let metadata = format!("{folder}/{number}.json");
            table.with_metadata_location(metadata)
        }
        None => table.with_parameter("number", number.to_string()),
    }
}

impl Plain {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Catalog for Plain {
    async fn create_database(&self, database: &Database) -> Result<()> {
        let database = database.checked()?;
        self.state().databases.insert(database.name.clone(), database);
        Ok(())
    }

    async fn get_database(&self, name: &str) -> Result<Database> {
        let name = name::folded(name);
        self.state().databases.get(&name).cloned().ok_or_else(|| conflict::no_database(&name))
    }

    async fn list_databases(&self) -> Result<Vec<Database>> {
        Ok(self.state().databases.values().cloned().collect())
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        self.state().databases.remove(name);
        Ok(())
    }

    async fn create_table(&self, table: &TableDescription) -> Result<()> {
        self.state().put(table.checked()?);
        Ok(())
    }

    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription> {
        self.state().table(&names(database, name)).cloned()
    }

    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>> {
        Ok(self.state().tables.values().filter(|table| table.database == database).cloned().collect())
    }

    async fn update_table(&self, table: &TableDescription) -> Result<()> {
        let table = table.checked_content()?;
        let mut state = self.state();
        let number = state.updates;
        if let Some((_, meanwhile)) = state.meanwhile.take_if(|(at, _)| *at == number) {
            meanwhile(&mut state);
        }
        if state.crash_after == Some(number) {
            return Err(Error::unavailable("a test has crashed"));
        }
        table.check_update(state.table(&names_of(&table))?)?;
        state.put(table);
        match state.lost == Some(number) {
            true => Err(Conflict::ConcurrentModification.error("a repeated request has met its own change")),
            false => Ok(()),
        }
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<()> {
        self.state().tables.remove(&names(database, name));
        Ok(())
    }

    async fn get_partitions(&self, table: &TableDescription, _: &[Vec<String>]) -> Result<Vec<Partition>> {
        Ok(self.state().partitions.get(&names_of(table)).cloned().unwrap_or_default())
    }

    fn list_partitions(&self, table: &TableDescription, _: &Predicate) -> PartitionPages {
        let all = self.state().partitions.get(&names_of(table)).cloned().unwrap_or_default();
        futures::stream::iter([Ok(all)]).boxed()
    }

    async fn add_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.state().partitions.insert(names_of(table), partitions.to_vec());
        Ok(())
    }

    async fn update_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.add_partitions(table, partitions).await
    }

    async fn drop_partitions(&self, table: &TableDescription, _: &[Vec<String>]) -> Result<()> {
        self.state().partitions.remove(&names_of(table));
        Ok(())
    }
}

#[cfg(feature = "conformance")]
#[rstest]
#[tokio::test]
async fn the_checks_of_swaps_hold(
    #[values(
        "swapped_tables_are_each_other",
        "swapped_iceberg_tables_are_each_other",
        "swapped_tables_take_their_partitions_along",
        "an_iceberg_table_is_swapped_with_one_of_files",
        "what_cannot_be_swapped_is_refused",
        "of_a_swap_and_a_commit_at_once_one_loses"
    )]
    check: &str,
) {
    crate::conformance::Check::named(check).run(&Plain::default(), "suite").await;
}

// --- two tables ----------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy)]
enum Kind {
    Files,
    Iceberg,
}

/// The table `lake.t` is blue, and `green.t` is green.
fn named(table: &str) -> Names {
    names(table, "t")
}

fn blue_and_green(kind: Kind) -> Plain {
    let plain = Plain::default();
    for database in ["lake", "green"] {
        let table = match kind {
            Kind::Iceberg => TableDescription::iceberg(database, "t", format!("s3://{database}/t/metadata/1.json")),
            Kind::Files => TableDescription::new(database, "t", &TableFormat::Parquet, format!("s3://{database}/t"))
                .with_columns([Column::foreign(format!("c_{database}"), "int")])
                .with_parameter("number", "1"),
        };
        plain.state().put(table);
    }
    plain.state().updates = 0;
    plain
}

/// Which table it is, and the number of its last change.
fn shown_content(table: &TableDescription) -> String {
    let place = place(table).unwrap();
    let of = if place.as_str().starts_with("s3://lake/") { "blue" } else { "green" };
    let number = match table.metadata_location() {
        Some(metadata) => metadata.trim_end_matches(".json").rsplit('/').next().unwrap().to_owned(),
        None => {
            // All of it is of the same table.
            let column = if of == "blue" { "c_lake" } else { "c_green" };
            assert_eq!(table.storage.columns[0].name, column);
            table.parameters["number"].clone()
        }
    };
    format!("{of} {number}")
}

/// What both names mean, and what else is on record.
fn shown(plain: &Plain) -> String {
    let state = plain.state();
    let mut text = Vec::new();
    for name in ["lake", "green"] {
        let table = state.table(&named(name)).unwrap();
        text.push(format!("{name}: {}", shown_content(table)));
        if let Some(mark) = Mark::of(table).unwrap() {
            text.push(format!("which was {}", shown_content(&mark.had)));
        }
    }
    text.join(", ")
}

const BEFORE: &str = "lake: blue 1, green: green 1";
const BEGUN: &str = "lake: blue 1, green: blue 1, which was green 1";
const EXCHANGED: &str = "lake: green 1, green: blue 1, which was green 1";
const AFTER: &str = "lake: green 1, green: blue 1";

/// Reads both tables and swaps them.
async fn swap(plain: &Plain) -> Result<()> {
    let (lake, green) = (plain.get_table("lake", "t").await?, plain.get_table("green", "t").await?);
    plain.swap_tables(&lake, &green).await
}

// --- crashes -------------------------------------------------------------------------------------------------------

#[rstest]
#[tokio::test]
async fn wherever_it_stops_nothing_is_lost_and_the_same_swap_finishes(
    #[values(Kind::Files, Kind::Iceberg)] kind: Kind,
    #[values((0, BEFORE), (1, BEGUN), (2, EXCHANGED))] (updates, left): (usize, &str),
) {
    let plain = blue_and_green(kind);
    plain.state().crash_after = Some(updates);
    let error = swap(&plain).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.get_hint(), Some("`hardtack swap lake.t green.t` finishes what has begun"));
    assert_eq!(shown(&plain), left);
    plain.state().crash_after = None;
    swap(&plain).await.unwrap();
    assert_eq!(shown(&plain), AFTER);
    swap(&plain).await.unwrap();
    assert_eq!(shown(&plain), BEFORE);
}

/// Whoever finishes it may name the tables in the other order.
#[rstest]
#[tokio::test]
async fn it_is_finished_in_any_order(#[values(1, 2)] updates: usize) {
    let plain = blue_and_green(Kind::Iceberg);
    plain.state().crash_after = Some(updates);
    swap(&plain).await.unwrap_err();
    plain.state().crash_after = None;
    let (lake, green) = (plain.get_table("lake", "t").await.unwrap(), plain.get_table("green", "t").await.unwrap());
    plain.swap_tables(&green, &lake).await.unwrap();
    assert_eq!(shown(&plain), AFTER);
}

#[rstest]
#[tokio::test]
async fn an_answer_that_is_lost_changes_nothing(#[values(0, 1, 2)] lost: usize) {
    let plain = blue_and_green(Kind::Iceberg);
    plain.state().lost = Some(lost);
    swap(&plain).await.unwrap();
    assert_eq!(shown(&plain), AFTER);
}

/// Tells this test binary, started again as a child, that it is one.
const CHILD: &str = "HARDTACK_TEST_SWAP";

/// Not a test, but the children's work: stops once at a fault point, and goes on.
#[tokio::test]
#[ignore = "it is the process that the test below starts"]
#[expect(clippy::disallowed_methods, reason = "the parent says by a variable that it is a child")]
async fn child_that_stops_at_a_fault_point() {
    let Ok(point) = std::env::var(CHILD) else { return };
    fault::arm_from_environment();
    let plain = blue_and_green(Kind::Files);
    let error = swap(&plain).await.unwrap_err();
    assert_eq!((error.kind(), error.get("point")), (ErrorKind::Unavailable, Some(&*point)));
    assert_eq!(shown(&plain), if point == SWAP_POINTS[0] { BEGUN } else { EXCHANGED });
    swap(&plain).await.unwrap();
    assert_eq!(shown(&plain), AFTER);
}

#[test]
fn stopped_at_any_fault_point_it_goes_on() {
    for point in SWAP_POINTS {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "swap::tests::child_that_stops_at_a_fault_point", "--ignored", "--nocapture"])
            .env(CHILD, point)
            .env("FAILPOINTS", format!("{point}=1*return(error)"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{point}: {said}");
    }
}

// --- others --------------------------------------------------------------------------------------------------------

/// Others commit after a crash; then the same swap again.
#[rstest]
// Readers and writers of `lake` go on with blue, and do not notice.
#[case(1, &["lake"], Ok("lake: green 1, green: blue 2"))]
// A client that does not look at the mark has changed blue under the other name.
#[case(1, &["green"], Ok("lake: green 1, green: blue 2"))]
#[case(1, &["lake", "green"], Err("lake: blue 2, green: blue 3, which was green 1"))]
#[case(2, &["lake"], Ok("lake: green 2, green: blue 1"))]
#[case(2, &["green"], Ok("lake: green 1, green: blue 2"))]
#[case(2, &["lake", "green"], Ok("lake: green 2, green: blue 3"))]
#[tokio::test]
async fn what_others_commit_after_a_crash_stays(
    #[values(Kind::Files, Kind::Iceberg)] kind: Kind,
    #[case] updates: usize,
    #[case] commits: &[&str],
    #[case] expected: std::result::Result<&str, &str>,
) {
    let plain = blue_and_green(kind);
    plain.state().crash_after = Some(updates);
    swap(&plain).await.unwrap_err();
    plain.state().crash_after = None;
    for (n, table) in commits.iter().enumerate() {
        plain.state().commit(table, n + 2);
    }
    let done = swap(&plain).await;
    assert_eq!((done.is_ok(), &*shown(&plain)), (expected.is_ok(), expected.unwrap_or_else(|left| left)));
    if let Err(e) = done {
        assert_eq!(e.kind(), ErrorKind::Conflict);
        insta::allow_duplicates!(
            insta::assert_snapshot!(e, @"others have changed both tables since a swap of them has begun (table: green.t, with: lake.t, hint: the parameter `hardtack.swap` of `green.t` says what both were; decide which changes stay, update the tables by hand, and remove it)")
        );
    }
}

/// Others commit before the update of this number.
#[rstest]
// The first update fails, or the second one does, and the first is taken back.
#[case(0, &["green"], Err("lake: blue 1, green: green 2"))]
#[case(0, &["lake"], Err("lake: blue 2, green: green 1"))]
#[case(1, &["lake"], Err("lake: blue 2, green: green 1"))]
// By clients that do not look at the mark.
#[case(1, &["green"], Ok("lake: green 1, green: blue 2"))]
#[case(1, &["lake", "green"], Err("lake: blue 2, green: blue 3, which was green 1"))]
// Once both are swapped, commits are to what the names mean then.
#[case(2, &["lake"], Ok("lake: green 2, green: blue 1"))]
#[case(2, &["green"], Ok("lake: green 1, green: blue 2"))]
#[tokio::test]
async fn what_others_commit_meanwhile_stays(
    #[values(Kind::Files, Kind::Iceberg)] kind: Kind,
    #[case] before: usize,
    #[case] commits: &'static [&'static str],
    #[case] expected: std::result::Result<&str, &str>,
) {
    let plain = blue_and_green(kind);
    let meanwhile = move |state: &mut State| {
        for (n, table) in commits.iter().enumerate() {
            state.commit(table, n + 2);
        }
    };
    plain.state().meanwhile = Some((before, Box::new(meanwhile)));
    let done = swap(&plain).await;
    assert_eq!((done.is_ok(), &*shown(&plain)), (expected.is_ok(), expected.unwrap_or_else(|left| left)));
    if let Err(e) = done {
        assert_eq!(Conflict::of(&e), Some(Conflict::ConcurrentModification), "{e:?}");
    }
}

#[rstest]
#[tokio::test]
async fn our_own_clients_do_not_change_a_table_under_two_names(#[values(1, 2)] updates: usize) {
    let plain = blue_and_green(Kind::Iceberg);
    plain.state().crash_after = Some(updates);
    swap(&plain).await.unwrap_err();
    plain.state().crash_after = None;
    let error = plain.state().commit_of_ours("green", 2).unwrap_err();
    assert_eq!(Conflict::of(&error), Some(Conflict::ConcurrentModification));
    insta::allow_duplicates!(
        insta::assert_snapshot!(error, @"a swap of the table has begun, and not ended (conflict: concurrent modification, table: green.t, with: lake.t, hint: `hardtack swap lake.t green.t` finishes it)")
    );
    plain.state().commit_of_ours("lake", 2).unwrap();
    swap(&plain).await.unwrap();
    plain.state().commit_of_ours("green", 3).unwrap();
}

#[tokio::test]
async fn a_table_whose_swap_has_not_ended_does_not_become_an_iceberg_table() {
    let plain = blue_and_green(Kind::Files);
    plain.state().crash_after = Some(1);
    swap(&plain).await.unwrap_err();
    plain.state().crash_after = None;
    let green = plain.get_table("green", "t").await.unwrap();
    let turned = TableDescription::iceberg("green", "t", "s3://lake/t/metadata/0.json");
    let error = plain.update_table(&TableDescription { version: green.version, ..turned }).await.unwrap_err();
    assert_eq!(Conflict::of(&error), Some(Conflict::ConcurrentModification));
    assert_eq!(shown(&plain), BEGUN);
}

/// A swap with the names in the other order has begun in between, and was killed.
#[tokio::test]
async fn two_swaps_at_once_are_one() {
    let plain = blue_and_green(Kind::Iceberg);
    let (lake, green) = (plain.get_table("lake", "t").await.unwrap(), plain.get_table("green", "t").await.unwrap());
    plain.state().crash_after = Some(1);
    plain.swap_tables(&green, &lake).await.unwrap_err();
    plain.state().crash_after = None;
    assert_eq!(shown(&plain), "lake: green 1, which was blue 1, green: green 1");
    plain.swap_tables(&lake, &green).await.unwrap();
    assert_eq!(shown(&plain), "lake: green 1, which was blue 1, green: blue 1");
    swap(&plain).await.unwrap();
    assert_eq!(shown(&plain), AFTER);

    // Or both were killed.
    let plain = blue_and_green(Kind::Iceberg);
    let (lake, green) = (plain.get_table("lake", "t").await.unwrap(), plain.get_table("green", "t").await.unwrap());
    for (updates, a, b) in [(1, &lake, &green), (2, &green, &lake)] {
        plain.state().crash_after = Some(updates);
        plain.swap_tables(a, b).await.unwrap_err();
    }
    plain.state().crash_after = None;
    assert_eq!(shown(&plain), "lake: green 1, which was blue 1, green: blue 1, which was green 1");
    swap(&plain).await.unwrap();
    assert_eq!(shown(&plain), AFTER);
}

// --- what is refused -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn what_cannot_be_swapped_in_steps_is_refused_by_name() {
    let plain = blue_and_green(Kind::Files);
    let (lake, green) = (plain.get_table("lake", "t").await.unwrap(), plain.get_table("green", "t").await.unwrap());
    let refused = |a: &TableDescription, b: &TableDescription| {
        let error = plain.check_swap(a, b).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        error.to_string()
    };
    insta::assert_snapshot!(refused(&lake, &lake), @"a table cannot be swapped with itself (table: lake.t)");
    let keyed = green.clone().with_partition_keys([Column::foreign("day", "date")]);
    insta::assert_snapshot!(refused(&lake, &keyed), @"this catalog cannot swap partitioned tables of files in one step (table: lake.t, with: green.t, hint: make both Iceberg tables (`hardtack iceberg migrate`), or let readers use a view that you change; the embedded catalog can swap them)");
    let iceberg = TableDescription::iceberg("green", "t", "s3://green/t/metadata/0.json");
    insta::assert_snapshot!(refused(&iceberg, &lake), @"this catalog cannot swap an Iceberg table with one of files in one step (table: green.t, with: lake.t, hint: make the other one an Iceberg table, too: `hardtack iceberg migrate`)");
    let mut there = green.clone();
    there.storage.location = Some("s3://lake/t/_versions/r1".into());
    insta::assert_snapshot!(refused(&lake, &there), @"this catalog cannot swap two tables of one folder (table: lake.t, with: green.t)");
    let view = TableDescription { table_type: Some("VIRTUAL_VIEW".to_owned()), ..green.clone() };
    insta::assert_snapshot!(refused(&lake, &view), @"only tables with rows of their own can be swapped (table: green.t, kind: VIRTUAL_VIEW, hint: let the view read another table)");

    // A third table comes in while a swap has not ended.
    plain.state().crash_after = Some(1);
    swap(&plain).await.unwrap_err();
    let green = plain.get_table("green", "t").await.unwrap();
    let third = TableDescription::new("red", "t", &TableFormat::Parquet, "s3://red/t");
    insta::assert_snapshot!(refused(&third, &green), @"a swap of the table has begun, and not ended (table: green.t, with: lake.t, hint: `hardtack swap lake.t green.t` finishes it)");
}

// --- marks ---------------------------------------------------------------------------------------------------------

#[rstest]
#[case("s3://lake/books", "s3://lake/books")]
#[case("s3://lake/books/", "s3://lake/books")]
#[case("s3://lake/books/_versions/r1-2", "s3://lake/books")]
fn a_table_is_told_by_its_folder(#[case] location: &str, #[case] expected: &str) {
    let table = TableDescription::new("lake", "books", &TableFormat::Parquet, location);
    assert_eq!(place(&table), Some(expected.into()));
}

#[test]
fn an_iceberg_table_is_told_by_the_folder_of_its_metadata() {
    let table = TableDescription::iceberg("lake", "books", "s3://lake/books/metadata/00000-a.metadata.json");
    let committed = table.clone().with_metadata_location("s3://lake/books/metadata/00001-b.metadata.json");
    assert_eq!(place(&table), Some("s3://lake/books/metadata".into()));
    assert_eq!(place(&table), place(&committed));
}

/// Marks outlive the version of hardtack that wrote them.
#[test]
fn what_earlier_versions_wrote_is_read() {
    let text = r#"{"format":1,"with":"lake.t","had":{"database":"","name":"","storage":{"columns":[]},"parameters":{"metadata_location":"s3://green/t/metadata/0.json","table_type":"ICEBERG"},"table_type":"EXTERNAL_TABLE"},"got":{"database":"","name":"","storage":{"columns":[]},"parameters":{"metadata_location":"s3://lake/t/metadata/0.json","table_type":"ICEBERG"},"table_type":"EXTERNAL_TABLE"}}"#;
    let was = TableDescription::iceberg("green", "t", "s3://green/t/metadata/0.json");
    let is = TableDescription::iceberg("green", "t", "s3://lake/t/metadata/0.json").with_parameter(MARK, text);
    let mark = Mark::of(&is).unwrap().unwrap();
    assert_eq!((&mark.had, &mark.got), (&content(&was), &content(&is)));
    assert_eq!(mark.to_json().unwrap(), text);
    assert_eq!(is.unfinished_swap().as_deref(), Some("lake.t"));
}

#[test]
fn what_a_newer_version_has_written_is_refused() {
    let newer = TableDescription::iceberg("green", "t", "s3://lake/t/metadata/0.json")
        .with_parameter(MARK, r#"{"format":2,"with":"lake.t"}"#);
    let error = Mark::of(&newer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(newer.unfinished_swap().as_deref(), Some("lake.t"));
}
