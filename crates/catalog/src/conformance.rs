//! The conformance suite that every [`Catalog`] has to pass.
//!
//! Each check is a function that panics if the catalog breaks the contract. It works in databases of its own, whose
//! names start with a prefix that the caller makes unique, so that checks can run concurrently and against a shared
//! service. [`Check::run`] removes the databases at the end, even after a panic.
//!
//! [`conformance_tests!`](crate::conformance_tests) makes one test of each check:
//!
//! ```
//! use hardtack_catalog::conformance::Check;
//! use hardtack_catalog::{EmbeddedCatalog, conformance_tests};
//!
//! async fn on_sqlite(check: Check) {
//!     check.run(&EmbeddedCatalog::in_memory(), "test").await;
//! }
//!
//! conformance_tests!(on_sqlite);
//! ```
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a check panics if the contract is broken")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;

use futures::future::{BoxFuture, FutureExt, join, join_all};
use futures::{StreamExt, TryStreamExt};
use hardtack_core::{Error, ErrorKind, Result};

use crate::{
    Catalog, CatalogExt, Column, Comparison, Conflict, CsvFormat, Database, NULL_PARTITION, Partition, Predicate,
    TableDescription, TableFormat, schema_from_catalog,
};

/// One check of the suite.
#[derive(Clone, Copy)]
pub struct Check {
    /// The name of the check, which says what holds.
    pub name: &'static str,
    body: for<'a> fn(&'a dyn Catalog, &'a str) -> BoxFuture<'a, ()>,
}

impl Check {
    /// Finds the check of this name.
    ///
    /// # Panics
    /// If there is no such check.
    pub fn named(name: &str) -> Self {
        *CHECKS.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("there is no check `{name}`"))
    }

    /// Runs the check in databases whose names start with `prefix`, then removes them.
    ///
    /// # Panics
    /// If the catalog does not do what it should.
    pub async fn run(&self, catalog: &dyn Catalog, prefix: &str) {
        let outcome = AssertUnwindSafe((self.body)(catalog, prefix)).catch_unwind().await;
        let removed = remove(catalog, prefix).await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        removed.unwrap();
    }
}

impl Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

async fn remove(catalog: &dyn Catalog, prefix: &str) -> Result<()> {
    for database in catalog.list_databases().await?.iter().filter(|d| d.name.starts_with(&prefix.to_lowercase())) {
        for table in catalog.list_tables(&database.name).await? {
            catalog.drop_table(&database.name, &table.name).await?;
        }
        catalog.drop_database(&database.name).await?;
    }
    Ok(())
}

/// Calls a macro with the names of all checks.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_catalog_check {
    ($callback:path $(, $argument:tt)*) => {
        $callback! {
            [$($argument)*]
            databases_come_back_as_they_were_written
            databases_have_names
            tables_come_back_as_they_were_written
            every_type_of_column_comes_back
            formats_come_back
            partitions_come_back_as_they_were_written
            names_are_caseless
            what_is_not_there_is_not_found
            what_is_there_is_not_created_again
            what_glue_would_not_take_is_refused
            lists_are_sorted_and_complete
            a_database_with_tables_is_not_dropped
            a_dropped_table_takes_its_partitions_along
            of_two_writers_of_a_table_one_loses
            of_many_writers_at_once_every_change_counts
            of_many_creators_one_wins
            a_table_that_was_created_anew_is_another_table
            partition_keys_stay
            partitions_in_any_number
            adding_again_changes_nothing
            a_batch_does_what_can_be_done
            missing_partitions_are_not_updated
            partitions_are_put
            odd_values_come_back
            values_that_do_not_fit_are_refused
            predicates_compare_as_the_keys_type
            predicates_that_cannot_be_evaluated_are_refused
            lists_come_in_pages
            iceberg_tables_have_names
            iceberg_tables_are_listed
            of_many_creators_of_an_iceberg_table_one_wins
            iceberg_tables_are_pointers
            iceberg_tables_are_in_one_namespace_with_all_others
            of_two_commits_to_an_iceberg_table_one_loses
            of_many_commits_to_an_iceberg_table_none_is_lost
            an_iceberg_table_stays_one
            a_table_of_files_becomes_an_iceberg_table
            an_iceberg_table_has_no_partitions
            swapped_tables_are_each_other
            swapped_iceberg_tables_are_each_other
            swapped_tables_take_their_partitions_along
            an_iceberg_table_is_swapped_with_one_of_files
            what_cannot_be_swapped_is_refused
            of_a_swap_and_a_commit_at_once_one_loses
        }
    };
}

/// Calls a macro with the names of the checks that concern databases and Iceberg tables alone.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_iceberg_catalog_check {
    ($callback:path $(, $argument:tt)*) => {
        $callback! {
            [$($argument)*]
            databases_come_back_as_they_were_written
            databases_have_names
            iceberg_tables_have_names
            iceberg_tables_are_listed
            of_many_creators_of_an_iceberg_table_one_wins
            an_iceberg_table_has_no_partitions
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_test_functions {
    ([$run:tt $attributes:tt] $($name:ident)*) => {
        $($crate::conformance_test_functions! { one $run $attributes $name })*
    };
    (one $run:tt [$($attribute:meta),*] $name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $(#[$attribute])*
            async fn $name() {
                $run($crate::conformance::Check::named(stringify!($name))).await;
            }
    };
}

/// Generates one `#[tokio::test]` per check of the [suite](crate::conformance), which calls the named async function
/// with the [`Check`](crate::conformance::Check). The calling crate needs tokio with `macros` and `rt-multi-thread`.
/// Attributes may follow, for example `ignore` if a test needs something that is not always available:
/// `conformance_tests!(on_aws, ignore = "needs an account")`.
#[macro_export]
macro_rules! conformance_tests {
    ($run:ident $(, $attribute:meta)*) => {
        $crate::for_each_catalog_check!($crate::conformance_test_functions, $run, [$($attribute),*]);
    };
}

/// The same for a catalog that has Iceberg tables only, and whose [server](Catalog::iceberg_server) changes them: one
/// test per check of the part of the suite that concerns such tables.
#[macro_export]
macro_rules! iceberg_conformance_tests {
    ($run:ident $(, $attribute:meta)*) => {
        $crate::for_each_iceberg_catalog_check!($crate::conformance_test_functions, $run, [$($attribute),*]);
    };
}

macro_rules! list {
    ([] $($name:ident)*) => {
        /// All checks.
        pub const CHECKS: &[Check] =
            &[$(Check { name: stringify!($name), body: |catalog, prefix| $name(catalog, prefix).boxed() }),*];
    };
}
for_each_catalog_check!(list);

// --- helpers -------------------------------------------------------------------------------------------------------

fn column(name: &str, data_type: &str) -> Column {
    Column::foreign(name, data_type)
}

fn strings<const N: usize>(values: [&str; N]) -> Vec<String> {
    values.map(str::to_owned).to_vec()
}

/// A table `<prefix>.sales` with keys `year: int` and `city: string`.
fn sales(prefix: &str) -> TableDescription {
    TableDescription::new(prefix, "sales", &TableFormat::Parquet, "s3://lake/sales")
        .with_columns([column("id", "bigint"), column("amount", "decimal(10,2)")])
        .with_partition_keys([column("year", "int"), column("city", "string")])
}

async fn database(catalog: &dyn Catalog, name: &str) {
    catalog.create_database(&Database::new(name)).await.unwrap();
}

/// Creates a table and its database, and reads it.
async fn created(catalog: &dyn Catalog, table: &TableDescription) -> TableDescription {
    catalog.ensure_database(&Database::new(&table.database)).await.unwrap();
    catalog.create_table(table).await.unwrap();
    catalog.get_table(&table.database, &table.name).await.unwrap()
}

fn partition(table: &TableDescription, year: usize, city: &str) -> Partition {
    table.partition([year.to_string(), city.to_owned()], format!("s3://lake/sales/{year}/{city}"))
}

async fn all(catalog: &dyn Catalog, table: &TableDescription) -> Vec<Partition> {
    catalog.all_partitions(table, &Predicate::all()).await.unwrap()
}

async fn years(catalog: &dyn Catalog, table: &TableDescription, predicate: Predicate) -> Vec<usize> {
    let found =
        catalog.all_partitions(table, &predicate).await.unwrap_or_else(|e| panic!("{predicate}: {}", e.chain()));
    let mut years: Vec<usize> = found.iter().map(|p| p.values[0].parse().unwrap()).collect();
    years.sort_unstable();
    years
}

#[track_caller]
fn assert_kind<T: Debug>(result: Result<T>, kind: ErrorKind, named: &[&str]) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    for name in named {
        assert!(error.chain().contains(name), "`{name}` is not named in: {}", error.chain());
    }
    error
}

#[track_caller]
fn assert_conflict<T: Debug>(result: Result<T>, conflict: Conflict, named: &[&str]) {
    let error = assert_kind(result, ErrorKind::Conflict, named);
    assert_eq!(Conflict::of(&error), Some(conflict), "{error:?}");
}

// --- round trips ---------------------------------------------------------------------------------------------------

async fn databases_come_back_as_they_were_written(catalog: &dyn Catalog, prefix: &str) {
    let mut lake = Database::new(prefix);
    lake.description = Some("Ein See, zwei Zeilen:\n湖 'quoted' \\ 100 %".to_owned());
    lake.location = Some("s3://lake/ein see=%2F/".into());
    lake.parameters = [("owner".to_owned(), "Zoë".to_owned()), ("empty".to_owned(), String::new())].into();
    catalog.create_database(&lake).await.unwrap();
    assert_eq!(catalog.get_database(prefix).await.unwrap(), lake);

    let bare = Database::new(format!("{prefix}_bare"));
    catalog.create_database(&bare).await.unwrap();
    assert_eq!(catalog.get_database(&bare.name).await.unwrap(), bare);
}

async fn databases_have_names(catalog: &dyn Catalog, prefix: &str) {
    let missing = ErrorKind::NotFound;
    assert_kind(catalog.get_database(prefix).await, missing, &[prefix]);
    assert_kind(catalog.drop_database(prefix).await, missing, &[prefix]);
    assert_kind(catalog.list_tables(prefix).await, missing, &[prefix]);
    assert_kind(catalog.create_database(&Database::new("no name")).await, ErrorKind::Usage, &["no name"]);

    let upper = prefix.to_uppercase();
    database(catalog, &upper).await;
    assert_eq!(catalog.get_database(&upper).await.unwrap().name, prefix.to_lowercase());
    assert_eq!(catalog.get_database(prefix).await.unwrap(), catalog.get_database(&upper).await.unwrap());
    assert_conflict(catalog.create_database(&Database::new(prefix)).await, Conflict::AlreadyExists, &[prefix]);
    assert!(!catalog.ensure_database(&Database::new(&upper)).await.unwrap());
    for database in ["c", "a", "b"] {
        self::database(catalog, &format!("{prefix}_{database}")).await;
    }
    let names = catalog.list_databases().await.unwrap().into_iter().map(|d| d.name);
    let names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    assert_eq!(names, ["", "_a", "_b", "_c"].map(|rest| format!("{prefix}{rest}")));
    catalog.drop_database(&upper).await.unwrap();
    assert_kind(catalog.get_database(prefix).await, missing, &[prefix]);
}

async fn tables_come_back_as_they_were_written(catalog: &dyn Catalog, prefix: &str) {
    database(catalog, prefix).await;
    let mut table =
        sales(prefix).with_description("What was sold,\nand wo: München").with_parameter("recordCount", "7");
    table.storage.columns[0].comment = Some("key; \"quoted\", ключ".to_owned());
    table.partition_keys[0].comment = Some("of the sale".to_owned());
    table.storage.parameters = [("compressionType".to_owned(), "none".to_owned())].into();
    catalog.create_table(&table).await.unwrap();
    let mut found = catalog.get_table(prefix, "sales").await.unwrap();
    assert!(found.version.take().is_some(), "a table that was read has a version");
    assert_eq!(found, table);

    // An update replaces everything but the names of the keys.
    let mut next = catalog.get_table(prefix, "sales").await.unwrap();
    next.storage.columns.push(column("sold_at", "timestamp"));
    next.storage.columns[0].comment = None;
    next.storage.location = Some("s3://lake/sales/v2".into());
    next.description = None;
    next.parameters.remove("recordCount");
    TableFormat::Json.describe(&mut next.storage, &mut next.parameters);
    catalog.update_table(&next).await.unwrap();
    let mut found = catalog.get_table(prefix, "sales").await.unwrap();
    assert_ne!(found.version, next.version);
    (found.version, next.version) = (None, None);
    assert_eq!(found, next);
}

async fn every_type_of_column_comes_back(catalog: &dyn Catalog, prefix: &str) {
    let types = [
        "boolean",
        "tinyint",
        "smallint",
        "int",
        "bigint",
        "float",
        "double",
        "decimal(38,0)",
        "decimal(5,5)",
        "string",
        "char(3)",
        "varchar(65535)",
        "binary",
        "date",
        "timestamp",
        "array<array<decimal(10,2)>>",
        "map<string,struct<a:int,b:array<date>>>",
        "struct<`the name`:varchar(20),größe:double,inner:struct<x:tinyint>>",
    ];
    let mut columns: Vec<Column> =
        types.iter().enumerate().map(|(i, data_type)| column(&format!("c{i}"), data_type)).collect();
    // Types that our catalogs never write must survive, too.
    columns.push(column("foreign", "uniontype<int,string>"));
    columns.push(column("größe", "double"));
    columns.push(column("two words", "string"));
    let table =
        created(catalog, &TableDescription { storage: sales(prefix).storage, ..sales(prefix) }.with_columns(columns))
            .await;
    assert_eq!(table.storage.columns.iter().take(types.len()).map(|c| &c.data_type).collect::<Vec<_>>(), types);
    assert_eq!(
        table.storage.columns[types.len()..].iter().map(|c| &c.name).collect::<Vec<_>>(),
        ["foreign", "größe", "two words"]
    );
    let error = assert_kind(schema_from_catalog(&table), ErrorKind::Usage, &["foreign", &table.qualified_name()]);
    assert!(error.chain().contains("uniontype"), "{}", error.chain());

    let mut known = table.clone();
    known.storage.columns.retain(|c| c.name != "foreign");
    catalog.update_table(&known).await.unwrap();
    let read = catalog.get_table(prefix, "sales").await.unwrap();
    let schema = schema_from_catalog(&read).unwrap();
    assert_eq!(schema, schema_from_catalog(&known).unwrap());
    assert_eq!(schema.fields().len(), types.len() + 2 + 2, "the partition keys come after the columns");
}

async fn formats_come_back(catalog: &dyn Catalog, prefix: &str) {
    let plain =
        CsvFormat { delimiter: b'\t', quote: None, escape: Some(b'\\'), header_lines: 0, ..CsvFormat::default() };
    let formats =
        [TableFormat::Parquet, TableFormat::Json, TableFormat::Avro, TableFormat::csv(), TableFormat::Csv(plain)];
    for (i, format) in formats.into_iter().enumerate() {
        let table =
            TableDescription::new(prefix, format!("t{i}"), &format, "s3://lake/t").with_columns([column("a", "int")]);
        let found = created(catalog, &table).await;
        assert_eq!(found.format().unwrap(), format);
        assert_eq!(found.parameters["classification"], format.classification());
        assert_eq!(found.parameters["EXTERNAL"], "TRUE");
        assert_eq!(found.table_type.as_deref(), Some(TableDescription::EXTERNAL));
    }
}

async fn partitions_come_back_as_they_were_written(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    let mut old = partition(&table, 2020, "Köln").with_parameter("recordCount", "12");
    // A partition may be older than its table.
    old.storage.columns.truncate(1);
    old.storage.columns[0].comment = Some("of then".to_owned());
    TableFormat::csv().describe(&mut old.storage, &mut old.parameters);
    let new = partition(&table, 2021, "Köln");
    catalog.add_partitions(&table, &[old.clone(), new.clone()]).await.unwrap();
    assert_eq!(all(catalog, &table).await, [old.clone(), new.clone()]);
    assert_eq!(table.format_of(&old).unwrap(), TableFormat::csv());

    let wanted = [old.values.clone(), strings(["1999", "Köln"])];
    assert_eq!(catalog.get_partitions(&table, &wanted).await.unwrap(), [old.clone()]);
    assert_eq!(catalog.get_partitions(&table, &[]).await.unwrap(), []);

    let mut moved = old;
    moved.storage.location = Some("s3://lake/sales/fresh".into());
    moved.parameters.insert("recordCount".to_owned(), "13".to_owned());
    catalog.update_partitions(&table, std::slice::from_ref(&moved)).await.unwrap();
    assert_eq!(all(catalog, &table).await, [moved, new]);
}

async fn names_are_caseless(catalog: &dyn Catalog, prefix: &str) {
    let upper = prefix.to_uppercase();
    database(catalog, &upper).await;
    let mut given = sales(&upper);
    given.name = "SALES".to_owned();
    given.storage.columns[0].name = "Id".to_owned();
    given.partition_keys[0].name = "Year".to_owned();
    catalog.create_table(&given).await.unwrap();
    let found = catalog.get_table(&upper, "Sales").await.unwrap();
    assert_eq!(found.qualified_name(), format!("{}.sales", prefix.to_lowercase()));
    assert_eq!((&*found.storage.columns[0].name, &*found.partition_keys[0].name), ("id", "year"));
    assert_eq!(catalog.get_table(prefix, "sales").await.unwrap(), found);
    assert_eq!(catalog.get_database(&upper).await.unwrap().name, prefix.to_lowercase());
    assert_conflict(catalog.create_table(&sales(prefix)).await, Conflict::AlreadyExists, &["sales"]);

    // The same with the table as the job declared it.
    catalog.add_partitions(&given, &[partition(&given, 2020, "x")]).await.unwrap();
    assert_eq!(years(catalog, &given, Predicate::all().and("YEAR", Comparison::Eq, 2020)).await, [2020]);
    catalog.drop_table(&upper, "SALES").await.unwrap();
    catalog.drop_database(&upper).await.unwrap();
}

// --- what is there and what is not ---------------------------------------------------------------------------------

async fn what_is_not_there_is_not_found(catalog: &dyn Catalog, prefix: &str) {
    let missing = ErrorKind::NotFound;
    let table = TableDescription { version: Some("1".to_owned()), ..sales(prefix) };
    let name = table.qualified_name();
    assert_kind(catalog.get_database(prefix).await, missing, &[prefix]);
    assert_kind(catalog.drop_database(prefix).await, missing, &[prefix]);
    assert_kind(catalog.list_tables(prefix).await, missing, &[prefix]);
    assert_kind(catalog.create_table(&table).await, missing, &[prefix]);
    assert_kind(catalog.get_table(prefix, "sales").await, missing, &[prefix]);
    database(catalog, prefix).await;
    assert_kind(catalog.get_table(prefix, "sales").await, missing, &[&name]);
    assert_kind(catalog.drop_table(prefix, "sales").await, missing, &[&name]);
    assert_kind(catalog.update_table(&table).await, missing, &[&name]);
    let some = partition(&table, 2020, "x");
    assert_kind(catalog.get_partitions(&table, std::slice::from_ref(&some.values)).await, missing, &[&name]);
    assert_kind(catalog.all_partitions(&table, &Predicate::all()).await, missing, &[&name]);
    assert_kind(catalog.add_partitions(&table, std::slice::from_ref(&some)).await, missing, &[&name]);
    assert_kind(catalog.update_partitions(&table, std::slice::from_ref(&some)).await, missing, &[&name]);
    assert_kind(catalog.drop_partitions(&table, &[some.values]).await, missing, &[&name]);
}

async fn what_is_there_is_not_created_again(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    let exists = Conflict::AlreadyExists;
    assert_conflict(catalog.create_database(&Database::new(prefix)).await, exists, &[prefix]);
    let other = sales(prefix).with_description("another");
    assert_conflict(catalog.create_table(&other).await, exists, &[&table.qualified_name()]);
    assert!(!catalog.ensure_database(&Database::new(prefix)).await.unwrap());
    assert!(!catalog.ensure_table(&other).await.unwrap());
    assert_eq!(catalog.get_table(prefix, "sales").await.unwrap(), table, "it is as it was");
}

async fn what_glue_would_not_take_is_refused(catalog: &dyn Catalog, prefix: &str) {
    database(catalog, prefix).await;
    let refused = |change: fn(&mut TableDescription)| {
        let mut table = sales(prefix);
        change(&mut table);
        async move { assert_kind(catalog.create_table(&table).await, ErrorKind::Usage, &[]) }
    };
    refused(|t| t.name = "a/b".to_owned()).await;
    refused(|t| t.name = String::new()).await;
    refused(|t| t.name = "x".repeat(256)).await;
    refused(|t| t.storage.columns[1].name = "ID".to_owned()).await;
    refused(|t| t.partition_keys[0].name = "id".to_owned()).await;
    refused(|t| t.partition_keys[0].data_type = "array<int>".to_owned()).await;
    refused(|t| t.storage.columns[0].comment = Some("x".repeat(256))).await;
    refused(|t| t.storage.columns[0].comment = Some("two\nlines".to_owned())).await;
    refused(|t| t.description = Some("x".repeat(2049))).await;
    assert_kind(catalog.create_database(&Database::new("no name")).await, ErrorKind::Usage, &["no name"]);
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), []);
}

async fn lists_are_sorted_and_complete(catalog: &dyn Catalog, prefix: &str) {
    for database in ["c", "a", "b"] {
        self::database(catalog, &format!("{prefix}_{database}")).await;
    }
    let names = catalog.list_databases().await.unwrap().into_iter().map(|d| d.name);
    let names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    assert_eq!(names, ["a", "b", "c"].map(|name| format!("{prefix}_{name}")));

    let database = format!("{prefix}_a");
    assert_eq!(catalog.list_tables(&database).await.unwrap(), []);
    let mut tables = Vec::new();
    for i in (0..120).rev() {
        let table = TableDescription { name: format!("t{i:03}"), ..sales(&database) };
        catalog.create_table(&table).await.unwrap();
        tables.push(table.name);
    }
    tables.reverse();
    let listed = catalog.list_tables(&database).await.unwrap();
    assert_eq!(listed.iter().map(|t| t.name.clone()).collect::<Vec<_>>(), tables);
    assert_eq!(listed[7], catalog.get_table(&database, "t007").await.unwrap());
}

async fn a_database_with_tables_is_not_dropped(catalog: &dyn Catalog, prefix: &str) {
    created(catalog, &sales(prefix)).await;
    assert_kind(catalog.drop_database(prefix).await, ErrorKind::Usage, &[prefix]);
    catalog.drop_table(prefix, "sales").await.unwrap();
    catalog.drop_database(prefix).await.unwrap();
    assert_kind(catalog.get_database(prefix).await, ErrorKind::NotFound, &[prefix]);
}

async fn a_dropped_table_takes_its_partitions_along(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    catalog.add_partitions(&table, &[partition(&table, 2020, "x")]).await.unwrap();
    catalog.drop_table(prefix, "sales").await.unwrap();
    let anew = created(catalog, &sales(prefix)).await;
    assert_eq!(all(catalog, &anew).await, []);
}

// --- versions ------------------------------------------------------------------------------------------------------

async fn of_two_writers_of_a_table_one_loses(catalog: &dyn Catalog, prefix: &str) {
    let read = created(catalog, &sales(prefix)).await;
    let one = read.clone().with_parameter("writer", "one");
    let two = read.clone().with_parameter("writer", "two");
    catalog.update_table(&one).await.unwrap();
    let lost = Conflict::ConcurrentModification;
    assert_conflict(catalog.update_table(&two).await, lost, &[&read.qualified_name()]);
    let now = catalog.get_table(prefix, "sales").await.unwrap();
    assert_eq!(now.parameters["writer"], "one");
    catalog.update_table(&now.with_parameter("writer", "two")).await.unwrap();
    assert_eq!(catalog.get_table(prefix, "sales").await.unwrap().parameters["writer"], "two");

    let unread = sales(prefix);
    assert_kind(catalog.update_table(&unread).await, ErrorKind::Usage, &[&unread.qualified_name()]);
}

async fn of_many_writers_at_once_every_change_counts(catalog: &dyn Catalog, prefix: &str) {
    created(catalog, &sales(prefix).with_parameter("n", "0")).await;
    const WRITERS: usize = 8;
    let increment = |_| async {
        loop {
            let table = catalog.get_table(prefix, "sales").await.unwrap();
            let n: usize = table.parameters["n"].parse().unwrap();
            match catalog.update_table(&table.with_parameter("n", (n + 1).to_string())).await {
                Ok(()) => break,
                Err(e) => assert_eq!(Conflict::of(&e), Some(Conflict::ConcurrentModification), "{e:?}"),
            }
        }
    };
    join_all((0..WRITERS).map(increment)).await;
    assert_eq!(catalog.get_table(prefix, "sales").await.unwrap().parameters["n"], WRITERS.to_string());
}

async fn of_many_creators_one_wins(catalog: &dyn Catalog, prefix: &str) {
    let lake = Database::new(prefix);
    let won = join_all((0..8).map(|_| catalog.ensure_database(&lake))).await;
    assert_eq!(won.into_iter().filter(|w| *w.as_ref().unwrap()).count(), 1);
    let tables: Vec<TableDescription> =
        (0..8).map(|i| sales(prefix).with_parameter("creator", i.to_string())).collect();
    let won = join_all(tables.iter().map(|table| catalog.ensure_table(table))).await;
    let winners: Vec<usize> = won.iter().enumerate().filter(|(_, w)| *w.as_ref().unwrap()).map(|(i, _)| i).collect();
    assert_eq!(winners.len(), 1);
    let table = catalog.get_table(prefix, "sales").await.unwrap();
    assert_eq!(table.parameters["creator"], winners[0].to_string());
    let added = join_all((0..8).map(|i| {
        let theirs = partition(&table, 2020, "x").with_parameter("creator", i.to_string());
        let table = &table;
        async move { catalog.add_partitions(table, &[theirs]).await }
    }))
    .await;
    assert_eq!(added.iter().filter(|a| a.is_ok()).count(), 1);
    for lost in added.into_iter().filter(Result::is_err) {
        assert_conflict(lost, Conflict::AlreadyExists, &["year=2020/city=x"]);
    }
}

async fn a_table_that_was_created_anew_is_another_table(catalog: &dyn Catalog, prefix: &str) {
    let old = created(catalog, &sales(prefix)).await;
    catalog.drop_table(prefix, "sales").await.unwrap();
    created(catalog, &sales(prefix).with_description("anew")).await;
    let late = old.with_description("late");
    assert_conflict(catalog.update_table(&late).await, Conflict::ConcurrentModification, &["sales"]);
}

async fn partition_keys_stay(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    let other = table.clone().with_partition_keys([column("month", "int")]);
    assert_kind(catalog.update_table(&other).await, ErrorKind::Usage, &[&table.qualified_name(), "month"]);
    let mut commented = table;
    commented.partition_keys[0].comment = Some("of the sale".to_owned());
    catalog.update_table(&commented).await.unwrap();
    let now = catalog.get_table(prefix, "sales").await.unwrap();
    assert_eq!(now.partition_keys, commented.partition_keys);
}

// --- batches -------------------------------------------------------------------------------------------------------

async fn partitions_in_any_number(catalog: &dyn Catalog, prefix: &str) {
    const MANY: usize = 250;
    let table = created(catalog, &sales(prefix)).await;
    let partitions: Vec<Partition> = (0..MANY).map(|i| partition(&table, 1000 + i, "x")).collect();
    let values: Vec<Vec<String>> = partitions.iter().map(|p| p.values.clone()).collect();
    catalog.add_partitions(&table, &partitions).await.unwrap();
    assert_eq!(all(catalog, &table).await, partitions);
    let mut found = catalog.get_partitions(&table, &values).await.unwrap();
    found.sort_by(|a, b| a.values.cmp(&b.values));
    assert_eq!(found, partitions);

    let moved = |p: &Partition| p.clone().with_parameter("rebuilt", "yes");
    let rebuilt: Vec<Partition> = partitions.iter().map(moved).collect();
    catalog.update_partitions(&table, &rebuilt).await.unwrap();
    assert_eq!(all(catalog, &table).await, rebuilt);

    catalog.drop_partitions(&table, &values[..MANY - 1]).await.unwrap();
    assert_eq!(all(catalog, &table).await, rebuilt[MANY - 1..]);
    // Missing partitions are ignored.
    catalog.drop_partitions(&table, &values).await.unwrap();
    assert_eq!(all(catalog, &table).await, []);

    let twice = [partitions[0].clone(), partitions[1].clone(), partitions[0].clone()];
    let name = table.qualified_name();
    assert_kind(catalog.add_partitions(&table, &twice).await, ErrorKind::Usage, &[&name, "year=1000/city=x"]);
    assert_kind(catalog.update_partitions(&table, &twice).await, ErrorKind::Usage, &[&name, "year=1000/city=x"]);
    for nothing in [catalog.add_partitions(&table, &[]).await, catalog.update_partitions(&table, &[]).await] {
        nothing.unwrap();
    }
    catalog.drop_partitions(&table, &[]).await.unwrap();
}

async fn adding_again_changes_nothing(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    let both = [partition(&table, 2020, "x"), partition(&table, 2021, "x")];
    catalog.add_partitions(&table, &both[..1]).await.unwrap();
    catalog.add_partitions(&table, &both).await.unwrap();
    catalog.add_partitions(&table, &both).await.unwrap();
    assert_eq!(all(catalog, &table).await, both);
}

async fn a_batch_does_what_can_be_done(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    let there: Vec<Partition> = (0..7).map(|i| partition(&table, 2000 + 10 * i, "x")).collect();
    catalog.add_partitions(&table, &there).await.unwrap();
    let wanted: Vec<Partition> =
        (0..120).map(|i| partition(&table, 2000 + i, "x").with_parameter("other", "yes")).collect();
    let result = catalog.add_partitions(&table, &wanted).await;
    let name = table.qualified_name();
    assert_conflict(result, Conflict::AlreadyExists, &[&name, "7 of 120", "year=2000/city=x"]);
    let found = all(catalog, &table).await;
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        let kept = there.iter().find(|p| p.values == wanted.values);
        assert_eq!(found, kept.unwrap_or(wanted));
    }
}

async fn missing_partitions_are_not_updated(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    catalog.add_partitions(&table, &[partition(&table, 2020, "x")]).await.unwrap();
    let changed = |year| partition(&table, year, "x").with_parameter("rebuilt", "yes");
    let result = catalog.update_partitions(&table, &[changed(2019), changed(2020)]).await;
    assert_kind(result, ErrorKind::NotFound, &[&table.qualified_name(), "1 of 2", "year=2019/city=x"]);
    assert_eq!(all(catalog, &table).await, [changed(2020)]);
}

async fn partitions_are_put(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    catalog.add_partitions(&table, &[partition(&table, 2019, "x"), partition(&table, 2020, "x")]).await.unwrap();
    let wanted = [partition(&table, 2020, "x").with_parameter("rebuilt", "yes"), partition(&table, 2021, "x")];
    let added = catalog.put_partitions(&table, &wanted).await.unwrap();
    assert_eq!(added, [wanted[1].values.clone()]);
    let [one, two] = wanted.clone();
    assert_eq!(all(catalog, &table).await, [partition(&table, 2019, "x"), one, two]);
    assert_eq!(catalog.put_partitions(&table, &wanted).await.unwrap(), Vec::<Vec<String>>::new());
}

// --- values and predicates -----------------------------------------------------------------------------------------

const ODD: [&str; 14] = [
    "a b",
    "a=b",
    "100%",
    "%2F",
    "a/b",
    "it's",
    "''",
    "\"quoted\"",
    "back\\slash",
    "Köln",
    "東京 🗼",
    "a,b",
    "-1",
    NULL_PARTITION,
];

async fn odd_values_come_back(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    let partitions: Vec<Partition> = ODD.iter().map(|city| partition(&table, 2020, city)).collect();
    catalog.add_partitions(&table, &partitions).await.unwrap();
    let cities: BTreeSet<String> = all(catalog, &table).await.into_iter().map(|p| p.values[1].clone()).collect();
    assert_eq!(cities, ODD.iter().map(|c| (*c).to_owned()).collect());
    for (city, partition) in ODD.iter().zip(&partitions) {
        let got = catalog.get_partitions(&table, &[strings(["2020", city])]).await.unwrap();
        assert_eq!(got, std::slice::from_ref(partition), "{city}");
        let selected = Predicate::all().and("city", Comparison::Eq, city);
        let found = catalog.all_partitions(&table, &selected).await.unwrap_or_else(|e| panic!("{city}: {}", e.chain()));
        // Nothing equals null.
        let expected = if *city == NULL_PARTITION { &[] } else { std::slice::from_ref(partition) };
        assert_eq!(found, expected, "{city}");
    }
    let in_all = catalog.all_partitions(&table, &Predicate::all().and_in("city", ODD)).await.unwrap();
    assert_eq!(in_all.len(), ODD.len() - 1);
    catalog.drop_partitions(&table, &[strings(["2020", "a/b"]), strings(["2020", NULL_PARTITION])]).await.unwrap();
    assert_eq!(all(catalog, &table).await.len(), ODD.len() - 2);
}

async fn values_that_do_not_fit_are_refused(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    for values in [vec!["2020"], vec!["2020", "x", "y"], vec!["x", "x"], vec!["2020", ""]] {
        let odd = table.partition(values, "s3://lake/x");
        let name = table.qualified_name();
        let error = assert_kind(catalog.add_partitions(&table, &[odd]).await, ErrorKind::Usage, &[&name]);
        assert!(error.get("partition").is_some(), "{error}");
    }
    assert_eq!(all(catalog, &table).await, []);
}

async fn predicates_compare_as_the_keys_type(catalog: &dyn Catalog, prefix: &str) {
    use Comparison::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let keys = [column("n", "int"), column("city", "string"), column("day", "date"), column("price", "decimal(10,2)")];
    let table = created(catalog, &sales(prefix).with_partition_keys(keys)).await;
    // 9 precedes 10 as a number and follows it as a text.
    let rows = [
        ["9", "9", "2026-06-30", "9.50"],
        ["10", "10", "2026-07-01", "10.25"],
        ["11", "Zürich", "2026-07-02", "100"],
        ["12", "ab's", NULL_PARTITION, "-1.00"],
        ["13", NULL_PARTITION, "2027-01-01", NULL_PARTITION],
    ];
    let partitions = rows.map(|row| table.partition(row, format!("s3://lake/sales/{}", row[0])));
    catalog.add_partitions(&table, &partitions).await.unwrap();
    let all = Predicate::all;
    let cases: &[(Predicate, &[usize])] = &[
        (all(), &[9, 10, 11, 12, 13]),
        (all().and("n", Eq, 9), &[9]),
        (all().and("n", Eq, "09"), &[9]),
        (all().and("n", NotEq, 9), &[10, 11, 12, 13]),
        (all().and("n", Lt, 10), &[9]),
        (all().and("n", LtEq, 10), &[9, 10]),
        (all().and("n", Gt, 9), &[10, 11, 12, 13]),
        (all().and("n", GtEq, 12), &[12, 13]),
        (all().and_in("n", [9, 13, 99]), &[9, 13]),
        (all().and_in("n", [0; 0]), &[]),
        (all().and("n", Gt, 9).and("n", Lt, 12).and("n", NotEq, 10), &[11]),
        (all().and("city", Lt, "9"), &[10]),
        (all().and("city", GtEq, "9").and("city", Lt, "a"), &[9, 11]),
        (all().and("city", Eq, "ab's"), &[12]),
        (all().and("city", NotEq, "9"), &[10, 11, 12]),
        (all().and_in("city", ["Zürich", "ab's", "x"]), &[11, 12]),
        (all().and("day", Eq, "2026-07-01"), &[10]),
        (all().and("day", Lt, "2026-07-01"), &[9]),
        (all().and("day", GtEq, "2026-07-01"), &[10, 11, 13]),
        (all().and("day", NotEq, "2026-07-01"), &[9, 11, 13]),
        (all().and_in("day", ["2026-07-01", "2027-01-01"]), &[10, 13]),
        (all().and("price", Gt, "9.5"), &[10, 11]),
        (all().and("price", Eq, "9.5"), &[9]),
        (all().and("price", LtEq, 0), &[12]),
        (all().and("city", GtEq, "9").and("day", LtEq, "2026-07-02").and("n", Gt, 9), &[11]),
        (all().and_in("n", 0..2000), &[9, 10, 11, 12, 13]),
    ];
    for (predicate, expected) in cases {
        let found = years(catalog, &table, predicate.clone()).await;
        assert_eq!(found, *expected, "{}", predicate.to_string().chars().take(100).collect::<String>());
    }
}

async fn predicates_that_cannot_be_evaluated_are_refused(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &sales(prefix)).await;
    for predicate in
        [Predicate::all().and("amount", Comparison::Eq, 1), Predicate::all().and("year", Comparison::Gt, "x' or 1=1")]
    {
        let result = catalog.all_partitions(&table, &predicate).await;
        assert_kind(result, ErrorKind::Usage, &[&table.qualified_name(), "predicate"]);
    }
}

async fn lists_come_in_pages(catalog: &dyn Catalog, prefix: &str) {
    const MANY: usize = 1100;
    let table = created(catalog, &sales(prefix)).await;
    let partitions: Vec<Partition> = (0..MANY).map(|i| partition(&table, 1000 + i, "x")).collect();
    catalog.add_partitions(&table, &partitions).await.unwrap();
    let pages: Vec<Vec<Partition>> = catalog.list_partitions(&table, &Predicate::all()).try_collect().await.unwrap();
    assert!(pages.len() > 1, "{MANY} partitions came in one page");
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), MANY);
    // A caller may stop early, and a list can be read while partitions are added and dropped.
    let mut pages = catalog.list_partitions(&table, &Predicate::all());
    let first = pages.next().await.unwrap().unwrap();
    catalog.drop_partitions(&table, &[first[0].values.clone()]).await.unwrap();
    let rest: Vec<Partition> = pages.try_concat().await.unwrap();
    let seen: BTreeSet<&Vec<String>> = first.iter().chain(&rest).map(|p| &p.values).collect();
    assert_eq!(seen.len(), MANY);
}

// --- Iceberg -------------------------------------------------------------------------------------------------------

fn metadata(number: usize) -> String {
    format!("s3://lake/books/metadata/{number:05}-8d2f.metadata.json")
}

fn iceberg(prefix: &str) -> TableDescription {
    TableDescription::iceberg(prefix, "books", metadata(0))
}

async fn iceberg_tables_have_names(catalog: &dyn Catalog, prefix: &str) {
    let name = iceberg(prefix).qualified_name().to_lowercase();
    assert_kind(catalog.create_table(&iceberg(prefix)).await, ErrorKind::NotFound, &[prefix]);
    assert_kind(catalog.get_table(prefix, "books").await, ErrorKind::NotFound, &[prefix]);
    database(catalog, prefix).await;
    assert_kind(catalog.get_table(prefix, "books").await, ErrorKind::NotFound, &[&name]);
    assert_kind(catalog.drop_table(prefix, "books").await, ErrorKind::NotFound, &[&name]);
    let mut given = iceberg(&prefix.to_uppercase());
    given.name = "Books".to_owned();
    catalog.create_table(&given).await.unwrap();
    let read = catalog.get_table(prefix, "books").await.unwrap();
    assert!(read.version.is_some(), "a table that was read has a version");
    assert_eq!(TableDescription { version: None, ..read.clone() }, iceberg(prefix));
    assert_eq!(catalog.get_table(&prefix.to_uppercase(), "BOOKS").await.unwrap(), read);
    assert_conflict(catalog.create_table(&iceberg(prefix)).await, Conflict::AlreadyExists, &[&name]);
    assert!(!catalog.ensure_table(&given).await.unwrap());
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), [read], "it is as it was");

    assert_kind(catalog.drop_database(prefix).await, ErrorKind::Usage, &[prefix]);
    catalog.drop_table(prefix, "Books").await.unwrap();
    assert_kind(catalog.get_table(prefix, "books").await, ErrorKind::NotFound, &[&name]);
    assert_kind(catalog.drop_table(prefix, "books").await, ErrorKind::NotFound, &[&name]);
    created(catalog, &iceberg(prefix)).await;
    let unread = iceberg(prefix);
    assert_kind(catalog.update_table(&unread).await, ErrorKind::Usage, &[&name]);
}

async fn iceberg_tables_are_listed(catalog: &dyn Catalog, prefix: &str) {
    database(catalog, prefix).await;
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), []);
    let mut tables = Vec::new();
    for i in (0..30).rev() {
        let table = TableDescription { name: format!("t{i:02}"), ..iceberg(prefix) };
        catalog.create_table(&table).await.unwrap();
        tables.push(table.name);
    }
    tables.reverse();
    let listed = catalog.list_tables(prefix).await.unwrap();
    assert_eq!(listed.iter().map(|t| t.name.clone()).collect::<Vec<_>>(), tables);
    assert_eq!(listed[7], catalog.get_table(prefix, "t07").await.unwrap());
}

async fn of_many_creators_of_an_iceberg_table_one_wins(catalog: &dyn Catalog, prefix: &str) {
    let lake = Database::new(prefix);
    let won = join_all((0..8).map(|_| catalog.ensure_database(&lake))).await;
    assert_eq!(won.into_iter().filter(|w| *w.as_ref().unwrap()).count(), 1);
    let tables: Vec<TableDescription> =
        (0..8).map(|i| TableDescription::iceberg(prefix, "books", metadata(i))).collect();
    let won = join_all(tables.iter().map(|table| catalog.ensure_table(table))).await;
    let winners: Vec<usize> = won.iter().enumerate().filter(|(_, w)| *w.as_ref().unwrap()).map(|(i, _)| i).collect();
    assert_eq!(winners.len(), 1);
    let table = catalog.get_table(prefix, "books").await.unwrap();
    assert_eq!(table.metadata_location(), Some(&*metadata(winners[0])));
}

async fn iceberg_tables_are_pointers(catalog: &dyn Catalog, prefix: &str) {
    let read = created(catalog, &iceberg(prefix)).await;
    assert!(read.version.is_some(), "a table that was read has a version");
    assert_eq!(TableDescription { version: None, ..read.clone() }, iceberg(prefix));
    assert!(read.is_iceberg());
    assert_eq!(read.metadata_location(), Some(&*metadata(0)));
    assert_eq!(read.previous_metadata_location(), None);
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), std::slice::from_ref(&read));

    catalog.update_table(&read.with_metadata_location(metadata(1))).await.unwrap();
    let committed = catalog.get_table(prefix, "books").await.unwrap();
    assert_eq!(committed.metadata_location(), Some(&*metadata(1)));
    assert_eq!(committed.previous_metadata_location(), Some(&*metadata(0)));
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), [committed]);

    // A table that begins with a history, as one that was dropped and is registered again.
    let old = TableDescription::iceberg(prefix, "old", metadata(6)).with_metadata_location(metadata(7));
    let read = created(catalog, &old).await;
    assert_eq!(TableDescription { version: None, ..read }, old);
}

async fn iceberg_tables_are_in_one_namespace_with_all_others(catalog: &dyn Catalog, prefix: &str) {
    assert_kind(catalog.create_table(&iceberg(prefix)).await, ErrorKind::NotFound, &[prefix]);
    let files = created(catalog, &sales(prefix)).await;
    let mut given = iceberg(&prefix.to_uppercase());
    given.name = "Books".to_owned();
    catalog.create_table(&given).await.unwrap();
    let read = catalog.get_table(prefix, "books").await.unwrap();
    assert_eq!(read.qualified_name(), format!("{prefix}.books").to_lowercase());
    assert_eq!(catalog.get_table(&prefix.to_uppercase(), "BOOKS").await.unwrap(), read);
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), [read.clone(), files.clone()]);

    let named = |table: TableDescription, name: &str| TableDescription { name: name.to_owned(), ..table };
    for taken in [iceberg(prefix), named(iceberg(prefix), "SALES"), named(sales(prefix), "BOOKS")] {
        let name = format!("{prefix}.{}", taken.name).to_lowercase();
        assert_conflict(catalog.create_table(&taken).await, Conflict::AlreadyExists, &[&name]);
        assert!(!catalog.ensure_table(&taken).await.unwrap());
    }
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), [read, files], "they are as they were");

    catalog.drop_table(prefix, "sales").await.unwrap();
    assert_kind(catalog.drop_database(prefix).await, ErrorKind::Usage, &[prefix]);
    catalog.drop_table(prefix, "Books").await.unwrap();
    let name = iceberg(prefix).qualified_name().to_lowercase();
    assert_kind(catalog.get_table(prefix, "books").await, ErrorKind::NotFound, &[&name]);
    assert_kind(catalog.drop_table(prefix, "books").await, ErrorKind::NotFound, &[&name]);
    // The name is free again, also for a table of another kind.
    created(catalog, &named(sales(prefix), "books")).await;
    catalog.drop_table(prefix, "books").await.unwrap();
    catalog.drop_database(prefix).await.unwrap();
    assert_kind(catalog.get_database(prefix).await, ErrorKind::NotFound, &[prefix]);
}

async fn of_two_commits_to_an_iceberg_table_one_loses(catalog: &dyn Catalog, prefix: &str) {
    let read = created(catalog, &iceberg(prefix)).await;
    let lost = Conflict::ConcurrentModification;
    catalog.update_table(&read.clone().with_metadata_location(metadata(1))).await.unwrap();
    let late = read.clone().with_metadata_location(metadata(2));
    assert_conflict(catalog.update_table(&late).await, lost, &[&read.qualified_name()]);
    let now = catalog.get_table(prefix, "books").await.unwrap();
    assert_eq!(now.metadata_location(), Some(&*metadata(1)));
    catalog.update_table(&now.with_metadata_location(metadata(2))).await.unwrap();
    let now = catalog.get_table(prefix, "books").await.unwrap();
    assert_eq!(now.previous_metadata_location(), Some(&*metadata(1)));

    // A table that was dropped and created anew is another one.
    catalog.drop_table(prefix, "books").await.unwrap();
    created(catalog, &TableDescription::iceberg(prefix, "books", metadata(3))).await;
    assert_conflict(catalog.update_table(&now.with_metadata_location(metadata(4))).await, lost, &["books"]);
    let unread = iceberg(prefix);
    assert_kind(catalog.update_table(&unread).await, ErrorKind::Usage, &[&unread.qualified_name()]);
}

async fn of_many_commits_to_an_iceberg_table_none_is_lost(catalog: &dyn Catalog, prefix: &str) {
    created(catalog, &iceberg(prefix)).await;
    const WRITERS: usize = 8;
    let commit = |_| async {
        loop {
            let table = catalog.get_table(prefix, "books").await.unwrap();
            let n = (0..WRITERS).find(|n| table.metadata_location() == Some(&*metadata(*n))).unwrap();
            match catalog.update_table(&table.with_metadata_location(metadata(n + 1))).await {
                Ok(()) => break,
                Err(e) => assert_eq!(Conflict::of(&e), Some(Conflict::ConcurrentModification), "{e:?}"),
            }
        }
    };
    join_all((0..WRITERS).map(commit)).await;
    let now = catalog.get_table(prefix, "books").await.unwrap();
    assert_eq!(now.metadata_location(), Some(&*metadata(WRITERS)));
    assert_eq!(now.previous_metadata_location(), Some(&*metadata(WRITERS - 1)));
}

async fn an_iceberg_table_stays_one(catalog: &dyn Catalog, prefix: &str) {
    let read = created(catalog, &iceberg(prefix)).await;
    let files = created(catalog, &sales(prefix)).await;
    let without = |key: &str| {
        let mut table = read.clone();
        table.parameters.remove(key);
        table
    };
    let name = read.qualified_name();
    assert_kind(catalog.update_table(&without("table_type")).await, ErrorKind::Usage, &[&name, "Iceberg"]);
    let pointer = TableDescription::METADATA_LOCATION;
    assert_kind(catalog.update_table(&without(pointer)).await, ErrorKind::Usage, &[&name, pointer]);
    let turned = TableDescription { parameters: read.parameters.clone(), ..files.clone() };
    let name = files.qualified_name();
    assert_kind(catalog.update_table(&turned).await, ErrorKind::Usage, &[&name, "Iceberg", "partition keys"]);
    let nowhere = TableDescription::iceberg(prefix, "nowhere", "");
    assert_kind(catalog.create_table(&nowhere).await, ErrorKind::Usage, &[&nowhere.qualified_name(), pointer]);
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), [read, files], "they are as they were");
}

async fn a_table_of_files_becomes_an_iceberg_table(catalog: &dyn Catalog, prefix: &str) {
    let files = created(catalog, &sales(prefix)).await;
    let partition = files.partition(["2020", "1"], "s3://lake/sales/2020/1");
    catalog.add_partitions(&files, std::slice::from_ref(&partition)).await.unwrap();
    let turned = TableDescription {
        version: files.version.clone(),
        ..TableDescription::iceberg(prefix, &files.name, metadata(0))
    };
    // Somebody else was faster.
    let mut changed = files.clone();
    changed.description = Some("changed".to_owned());
    catalog.update_table(&changed).await.unwrap();
    let lost = Conflict::ConcurrentModification;
    assert_conflict(catalog.update_table(&turned).await, lost, &[&files.qualified_name()]);
    let files = catalog.get_table(prefix, &files.name).await.unwrap();
    assert_eq!(all(catalog, &files).await, [partition], "nothing has changed");

    let turned = TableDescription { version: files.version.clone(), ..turned };
    catalog.update_table(&turned).await.unwrap();
    let read = catalog.get_table(prefix, &files.name).await.unwrap();
    assert!(read.is_iceberg());
    assert_eq!(
        TableDescription { version: None, ..read.clone() },
        TableDescription { version: None, ..turned.clone() }
    );
    assert_eq!(catalog.list_tables(prefix).await.unwrap(), std::slice::from_ref(&read));
    assert_eq!(all(catalog, &read).await, []);
    // Who has read it as a table of files is late.
    assert_conflict(catalog.update_table(&turned).await, lost, &[&files.qualified_name()]);
    let mut late = files.clone();
    late.description = None;
    assert!(catalog.update_table(&late).await.is_err());
    assert!(catalog.add_partitions(&files, &[files.partition(["2021", "1"], "s3://lake/x")]).await.is_err());
    catalog.update_table(&read.with_metadata_location(metadata(1))).await.unwrap();
    // Partitions do not come back with another table of this name.
    catalog.drop_table(prefix, &files.name).await.unwrap();
    let files = created(catalog, &sales(prefix)).await;
    assert_eq!(all(catalog, &files).await, []);
}

async fn an_iceberg_table_has_no_partitions(catalog: &dyn Catalog, prefix: &str) {
    let table = created(catalog, &iceberg(prefix)).await;
    let name = table.qualified_name();
    let values = [strings(["2020"])];
    assert_eq!(all(catalog, &table).await, []);
    assert_eq!(catalog.get_partitions(&table, &values).await.unwrap(), []);
    let some = [table.partition(["2020"], "s3://lake/books/2020")];
    assert_kind(catalog.add_partitions(&table, &some).await, ErrorKind::Usage, &[&name, "Iceberg"]);
    assert_kind(catalog.update_partitions(&table, &some).await, ErrorKind::Usage, &[&name, "Iceberg"]);
    assert_kind(catalog.drop_partitions(&table, &values).await, ErrorKind::Usage, &[&name, "Iceberg"]);
    assert_kind(catalog.put_partitions(&table, &some).await, ErrorKind::Usage, &[&name, "Iceberg"]);
}

// --- swaps ---------------------------------------------------------------------------------------------------------

/// A table `<prefix>.customers`, and one `<prefix>_green.customers` in which everything is different.
async fn blue_and_green(catalog: &dyn Catalog, prefix: &str) -> (TableDescription, TableDescription) {
    let blue = TableDescription::new(prefix, "customers", &TableFormat::Parquet, "s3://lake/customers")
        .with_columns([column("id", "bigint").with_comment("key"), column("name", "string")])
        .with_description("Who buys")
        .with_parameter("recordCount", "7");
    let green = TableDescription::new(green(prefix), "customers", &TableFormat::csv(), "s3://green/customers")
        .with_columns([column("id", "int"), column("email", "string")])
        .with_parameter("owner", "Zoë");
    (created(catalog, &blue).await, created(catalog, &green).await)
}

fn green(prefix: &str) -> String {
    format!("{prefix}_green")
}

/// The metadata of an Iceberg table in the database of this name.
fn metadata_of(database: &str, number: usize) -> String {
    format!("s3://{database}/people/metadata/{number:05}.metadata.json")
}

/// The same as Iceberg tables, each of which was committed to.
async fn iceberg_blue_and_green(catalog: &dyn Catalog, prefix: &str) -> (TableDescription, TableDescription) {
    (people(catalog, prefix).await, people(catalog, &green(prefix)).await)
}

/// An Iceberg table `<database>.people` after its first commit.
async fn people(catalog: &dyn Catalog, database: &str) -> TableDescription {
    let table = created(catalog, &TableDescription::iceberg(database, "people", metadata_of(database, 0))).await;
    catalog.update_table(&table.clone().with_metadata_location(metadata_of(database, 1))).await.unwrap();
    read(catalog, &table).await
}

async fn read(catalog: &dyn Catalog, names: &TableDescription) -> TableDescription {
    catalog.get_table(&names.database, &names.name).await.unwrap()
}

/// What a table is, under the names of another one.
fn under(names: &TableDescription, table: &TableDescription) -> TableDescription {
    let (database, name) = (names.database.clone(), names.name.clone());
    TableDescription { database, name, version: None, ..table.clone() }
}

/// Checks what is under the names of two tables.
async fn assert_are(catalog: &dyn Catalog, names: [&TableDescription; 2], tables: [&TableDescription; 2]) {
    for (names, table) in names.into_iter().zip(tables) {
        let wanted = under(names, table);
        assert_eq!(under(names, &read(catalog, names).await), wanted);
        let mut listed = catalog.list_tables(&names.database).await.unwrap();
        listed.retain(|table| table.name == names.name);
        assert_eq!(listed.iter().map(|table| under(names, table)).collect::<Vec<_>>(), [wanted]);
    }
}

async fn swapped_tables_are_each_other(catalog: &dyn Catalog, prefix: &str) {
    let (a, b) = blue_and_green(catalog, prefix).await;
    catalog.swap_tables(&a, &b).await.unwrap();
    assert_are(catalog, [&a, &b], [&b, &a]).await;
    // Who has read one of them before is late.
    let lost = Conflict::ConcurrentModification;
    for table in [&a, &b] {
        let late = table.clone().with_parameter("late", "yes");
        assert_conflict(catalog.update_table(&late).await, lost, &[&table.qualified_name()]);
    }
    assert_conflict(catalog.swap_tables(&a, &b).await, lost, &["customers"]);
    assert_are(catalog, [&a, &b], [&b, &a]).await;
    // The same again is the way back, in any order, and changes go with the tables.
    let (now, other) = (read(catalog, &a).await, read(catalog, &b).await);
    catalog.update_table(&now.clone().with_parameter("fixed", "yes")).await.unwrap();
    assert_conflict(catalog.swap_tables(&other, &now).await, lost, &["customers"]);
    let now = read(catalog, &a).await;
    catalog.swap_tables(&other, &now).await.unwrap();
    assert_are(catalog, [&a, &b], [&a, &b.clone().with_parameter("fixed", "yes")]).await;
    for table in [&a, &b] {
        let again = read(catalog, table).await.with_parameter("again", "yes");
        catalog.update_table(&again).await.unwrap();
    }
}

async fn swapped_iceberg_tables_are_each_other(catalog: &dyn Catalog, prefix: &str) {
    let (a, b) = iceberg_blue_and_green(catalog, prefix).await;
    catalog.swap_tables(&a, &b).await.unwrap();
    assert_are(catalog, [&a, &b], [&b, &a]).await;
    let late = a.clone().with_metadata_location(metadata_of(prefix, 2));
    assert_conflict(catalog.update_table(&late).await, Conflict::ConcurrentModification, &[&a.qualified_name()]);
    // Each goes on from where it was, under its new name.
    let next = read(catalog, &a).await.with_metadata_location(metadata_of(&green(prefix), 2));
    catalog.update_table(&next).await.unwrap();
    assert_are(catalog, [&a, &b], [&next, &a]).await;
    assert_eq!(next.previous_metadata_location(), Some(&*metadata_of(&green(prefix), 1)));
    catalog.swap_tables(&read(catalog, &a).await, &read(catalog, &b).await).await.unwrap();
    assert_are(catalog, [&a, &b], [&a, &next]).await;
}

/// Whether a catalog swaps these; if not, checks that it refuses to, and changes nothing.
async fn swaps(catalog: &dyn Catalog, a: &TableDescription, b: &TableDescription) -> bool {
    if catalog.check_swap(a, b).is_ok() {
        return true;
    }
    let names = [&*a.qualified_name(), &*b.qualified_name()];
    for refused in [catalog.check_swap(a, b), catalog.swap_tables(a, b).await] {
        let error = assert_kind(refused, ErrorKind::Usage, &names);
        assert!(error.get_hint().is_some(), "{error}");
    }
    assert_are(catalog, [a, b], [a, b]).await;
    false
}

async fn swapped_tables_take_their_partitions_along(catalog: &dyn Catalog, prefix: &str) {
    let a = created(catalog, &sales(prefix)).await;
    let other = TableDescription { database: green(prefix), ..sales(prefix) };
    let other = TableDescription { storage: other.partition([""; 0], "s3://green/sales").storage, ..other };
    let b = created(catalog, &other).await;
    let of = |table: &TableDescription, years: &[usize]| -> Vec<Partition> {
        years.iter().map(|year| partition(table, *year, &table.database)).collect()
    };
    let (blue, green) = (of(&a, &[2020, 2021]), of(&b, &[2021, 2022, 2023]));
    catalog.add_partitions(&a, &blue).await.unwrap();
    catalog.add_partitions(&b, &green).await.unwrap();
    if !swaps(catalog, &a, &b).await {
        assert_eq!((all(catalog, &a).await, all(catalog, &b).await), (blue, green));
        return;
    }
    catalog.swap_tables(&a, &b).await.unwrap();
    assert_are(catalog, [&a, &b], [&b, &a]).await;
    let (now_a, now_b) = (read(catalog, &a).await, read(catalog, &b).await);
    assert_eq!((all(catalog, &now_a).await, all(catalog, &now_b).await), (green.clone(), blue.clone()));
    // Who has read the description before finds the partitions of that, and no mixture.
    assert_eq!((all(catalog, &a).await, all(catalog, &b).await), (blue.clone(), green));
    let values: Vec<Vec<String>> = blue.iter().map(|p| p.values.clone()).collect();
    assert_eq!(catalog.get_partitions(&a, &values).await.unwrap().len(), 2);
    assert_eq!(catalog.get_partitions(&now_a, &values).await.unwrap(), []);
    // The same for who writes.
    catalog.add_partitions(&a, &of(&a, &[2030])).await.unwrap();
    catalog.drop_partitions(&a, &values[..1]).await.unwrap();
    let left = [&blue[1..], &of(&a, &[2030])].concat();
    assert_eq!(all(catalog, &now_b).await, left);
    assert_eq!(all(catalog, &now_a).await.len(), 3);
    catalog.swap_tables(&now_a, &now_b).await.unwrap();
    assert_eq!(all(catalog, &read(catalog, &a).await).await, left);
    catalog.drop_table(prefix, "sales").await.unwrap();
    assert_eq!(all(catalog, &read(catalog, &b).await).await.len(), 3);
}

async fn an_iceberg_table_is_swapped_with_one_of_files(catalog: &dyn Catalog, prefix: &str) {
    let files = created(catalog, &sales(prefix)).await;
    let partitions = [partition(&files, 2020, "x")];
    catalog.add_partitions(&files, &partitions).await.unwrap();
    let iceberg = people(catalog, &green(prefix)).await;
    if !swaps(catalog, &files, &iceberg).await {
        return;
    }
    for (a, b) in [(&files, &iceberg), (&iceberg, &files)] {
        catalog.swap_tables(&read(catalog, a).await, &read(catalog, b).await).await.unwrap();
        let swapped = a == &files;
        assert_are(catalog, [&files, &iceberg], if swapped { [&iceberg, &files] } else { [&files, &iceberg] }).await;
        assert_eq!(all(catalog, &files).await, partitions, "as it was read");
        let now = read(catalog, if swapped { &iceberg } else { &files }).await;
        assert_eq!(all(catalog, &now).await, partitions);
        let now = read(catalog, if swapped { &files } else { &iceberg }).await;
        assert!(now.is_iceberg() && all(catalog, &now).await.is_empty());
    }
    catalog.update_table(&read(catalog, &iceberg).await.with_metadata_location(metadata_of(prefix, 9))).await.unwrap();
}

async fn what_cannot_be_swapped_is_refused(catalog: &dyn Catalog, prefix: &str) {
    let (a, b) = blue_and_green(catalog, prefix).await;
    let itself = TableDescription { name: "Customers".to_owned(), ..a.clone() };
    let mut view =
        TableDescription { name: "view".to_owned(), table_type: Some("VIRTUAL_VIEW".to_owned()), ..a.clone() };
    view.storage.location = None;
    for (one, other) in [(&a, &itself), (&a, &view), (&view, &b)] {
        assert_kind(catalog.check_swap(one, other), ErrorKind::Usage, &[prefix]);
        assert_kind(catalog.swap_tables(one, other).await, ErrorKind::Usage, &[prefix]);
    }
    let unread = TableDescription { version: None, ..b.clone() };
    assert_kind(catalog.swap_tables(&a, &unread).await, ErrorKind::Usage, &[&b.qualified_name()]);
    assert_kind(catalog.swap_tables(&unread, &a).await, ErrorKind::Usage, &[&b.qualified_name()]);
    assert_are(catalog, [&a, &b], [&a, &b]).await;
    // One of them is dropped meanwhile.
    catalog.drop_table(&b.database, &b.name).await.unwrap();
    let a = read(catalog, &a).await;
    assert_kind(catalog.swap_tables(&a, &b).await, ErrorKind::NotFound, &[&b.qualified_name()]);
    assert_kind(catalog.swap_tables(&b, &a).await, ErrorKind::NotFound, &[&b.qualified_name()]);
    assert_eq!(under(&a, &read(catalog, &a).await), under(&a, &a));
}

async fn of_a_swap_and_a_commit_at_once_one_loses(catalog: &dyn Catalog, prefix: &str) {
    let (a, b) = iceberg_blue_and_green(catalog, prefix).await;
    for round in 2..10 {
        let before = [read(catalog, &a).await, read(catalog, &b).await];
        let target = &before[round % 2];
        // Its folder says which of the two it is.
        let folder = target.metadata_location().unwrap().rsplit_once('/').unwrap().0;
        let committed = target.clone().with_metadata_location(format!("{folder}/{round:05}.metadata.json"));
        let (swap, update) = (catalog.swap_tables(&before[0], &before[1]), catalog.update_table(&committed));
        let (swapped, updated) = join(swap, update).await;
        let mut after = before.clone();
        match (&swapped, &updated) {
            (Ok(()), Err(_)) => after.reverse(),
            (Err(_), Ok(())) => after[round % 2] = committed,
            _ => panic!("either one wins, but: {swapped:?}, {updated:?}"),
        }
        assert_conflict(swapped.and(updated), Conflict::ConcurrentModification, &["people"]);
        assert_are(catalog, [&a, &b], [&after[0], &after[1]]).await;
    }
}
