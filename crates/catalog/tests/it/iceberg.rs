//! Iceberg tables of the embedded catalog: what PyIceberg's SQL catalog writes is found, and the reverse.

use std::path::PathBuf;

use hardtack_catalog::{
    Catalog, CatalogExt, Column, Conflict, Database, EmbeddedCatalog, Predicate, TableDescription, TableFormat,
};
use hardtack_core::{ErrorKind, Result};
use rstest::rstest;
use rusqlite::{Connection, params};

/// What hardtack 0.1 wrote: the version before there were Iceberg tables.
const VERSION_1: &str = r#"
    create table databases (
        name text primary key,
        description text not null
    ) strict, without rowid;
    create table tables (
        id integer primary key autoincrement,
        database text not null references databases (name),
        name text not null,
        version integer not null,
        description text not null,
        unique (database, name)
    ) strict;
    create table partitions (
        table_id integer not null references tables (id) on delete cascade,
        partition_values text not null,
        description text not null,
        primary key (table_id, partition_values)
    ) strict, without rowid;
    pragma application_id = 1751413867;
    pragma user_version = 1;
    insert into databases values
        ('lake', '{"name":"lake","description":"of fish","location":"s3://lake","parameters":{"owner":"Zoë"}}'),
        ('sea', '{"name":"sea"}');
    insert into tables values (7, 'lake', 'numbers', 3,
        '{"database":"lake","name":"numbers","storage":{"columns":[{"name":"id","type":"bigint"}],"location":"s3://lake/numbers"},"partition_keys":[{"name":"n","type":"int"}],"parameters":{"EXTERNAL":"TRUE"},"table_type":"EXTERNAL_TABLE"}');
    insert into partitions values (7, '["1"]',
        '{"values":["1"],"storage":{"columns":[{"name":"id","type":"bigint"}],"location":"s3://lake/numbers/n=1"}}');
"#;

/// What PyIceberg 0.12 creates.
const PYICEBERG: &str = "
    CREATE TABLE iceberg_tables (
        catalog_name VARCHAR(255) NOT NULL,
        table_namespace VARCHAR(255) NOT NULL,
        table_name VARCHAR(255) NOT NULL,
        metadata_location VARCHAR(1000),
        previous_metadata_location VARCHAR(1000),
        iceberg_type VARCHAR(5),
        PRIMARY KEY (catalog_name, table_namespace, table_name)
    );
    CREATE TABLE iceberg_namespace_properties (
        catalog_name VARCHAR(255) NOT NULL,
        namespace VARCHAR(255) NOT NULL,
        property_key VARCHAR(255) NOT NULL,
        property_value VARCHAR(1000) NOT NULL,
        PRIMARY KEY (catalog_name, namespace, property_key)
    );
";

/// A catalog's file, and a connection to it as PyIceberg has one.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    /// A file that these statements create.
    fn of(statements: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.sql().execute_batch(statements).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("catalog.sqlite")
    }

    fn open(&self) -> EmbeddedCatalog {
        EmbeddedCatalog::new(self.path())
    }

    fn sql(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
        connection
    }

    /// Creates a namespace as PyIceberg does.
    fn namespace(&self, name: &str) {
        let insert = "insert into iceberg_namespace_properties values ('hardtack', ?1, 'exists', 'true')";
        self.sql().execute(insert, [name]).unwrap();
    }

    /// Creates a table as PyIceberg does.
    fn table(&self, namespace: &str, name: &str, location: Option<&str>) {
        self.row("hardtack", namespace, name, location, Some("TABLE"));
    }

    fn row(&self, catalog: &str, namespace: &str, name: &str, location: Option<&str>, kind: Option<&str>) {
        let insert = "insert into iceberg_tables values (?1, ?2, ?3, ?4, null, ?5)";
        self.sql().execute(insert, params![catalog, namespace, name, location, kind]).unwrap();
    }

    /// The rows of a query, a line each.
    fn rows(&self, query: &str) -> Vec<String> {
        let connection = self.sql();
        let mut query = connection.prepare(query).unwrap();
        let width = query.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let values = (0..width).map(|i| row.get::<_, Option<String>>(i).map(|text| text.unwrap_or_default()));
            Ok(values.collect::<Result<Vec<_>, _>>()?.join("|"))
        };
        query.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn header(&self) -> (i32, i32) {
        let get = |name| self.sql().pragma_query_value(None, name, |row| row.get(0)).unwrap();
        (get("application_id"), get("user_version"))
    }
}

/// The header of a file that hardtack has written.
const HEADER: (i32, i32) = (0x6864_746b, 2);

fn metadata(number: u64) -> String {
    format!("s3://lake/books/metadata/{number:05}.metadata.json")
}

fn numbers(database: &str) -> TableDescription {
    TableDescription::new(database, "numbers", &TableFormat::Parquet, "s3://lake/numbers")
        .with_columns([Column::foreign("id", "bigint")])
}

async fn databases(catalog: &dyn Catalog) -> Vec<String> {
    catalog.list_databases().await.unwrap().into_iter().map(|database| database.name).collect()
}

async fn tables(catalog: &dyn Catalog, database: &str) -> Vec<String> {
    catalog.list_tables(database).await.unwrap().into_iter().map(|table| table.name).collect()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error:?}");
    error.chain()
}

#[tokio::test]
async fn what_is_written_is_as_pyiceberg_writes_it() {
    let file = File::of("");
    let catalog = file.open();
    let mut lake = Database::new("Lake");
    lake.location = Some("s3://lake".into());
    lake.description = Some("of fish".to_owned());
    lake.parameters = [("owner".to_owned(), "Zoë".to_owned())].into();
    catalog.create_database(&lake).await.unwrap();
    catalog.create_database(&Database::new("sea")).await.unwrap();
    let namespaces = "select * from iceberg_namespace_properties order by 1, 2, 3";
    let of_lake = ["hardtack|lake|comment|of fish", "hardtack|lake|location|s3://lake", "hardtack|lake|owner|Zoë"];
    let of_sea = "hardtack|sea|exists|true";
    assert_eq!(file.rows(namespaces), [&of_lake[..], &[of_sea]].concat());

    let tables = "select * from iceberg_tables";
    catalog.create_table(&TableDescription::iceberg("Lake", "Books", metadata(0))).await.unwrap();
    assert_eq!(file.rows(tables), [format!("hardtack|lake|books|{}||TABLE", metadata(0))]);
    let read = catalog.get_table("lake", "books").await.unwrap();
    assert_eq!(read.version.as_deref(), Some(&*metadata(0)));
    // The catalog sets the previous location, whatever the caller knows about it.
    let committed = read.clone().with_parameter(TableDescription::METADATA_LOCATION, metadata(1));
    catalog.update_table(&committed).await.unwrap();
    let committed = format!("hardtack|lake|books|{}|{}|TABLE", metadata(1), metadata(0));
    assert_eq!(file.rows(tables), [&*committed]);
    // An update that changes nothing does not make a table its own predecessor.
    let read = catalog.get_table("lake", "books").await.unwrap();
    catalog.update_table(&read.with_parameter("recordCount", "7")).await.unwrap();
    assert_eq!(file.rows(tables), [committed]);

    catalog.drop_table("lake", "books").await.unwrap();
    catalog.drop_database("lake").await.unwrap();
    assert_eq!(file.rows(tables), [""; 0]);
    assert_eq!(file.rows(namespaces), [of_sea]);
}

// --- files of others -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_file_of_version_1_is_migrated() {
    let file = File::of(VERSION_1);
    let catalog = file.open();
    assert_eq!(databases(&catalog).await, ["lake", "sea"]);
    assert_eq!(file.header(), HEADER);
    let lake = catalog.get_database("lake").await.unwrap();
    assert_eq!((lake.description.as_deref(), &*lake.parameters["owner"]), (Some("of fish"), "Zoë"));
    let table = catalog.get_table("lake", "numbers").await.unwrap();
    assert_eq!(table.version.as_deref(), Some("7.3"));
    assert_eq!(catalog.all_partitions(&table, &Predicate::all()).await.unwrap().len(), 1);
    catalog.update_table(&table).await.unwrap();
    assert_eq!(
        file.rows("select * from iceberg_namespace_properties order by 1, 2, 3"),
        [
            "hardtack|lake|comment|of fish",
            "hardtack|lake|location|s3://lake",
            "hardtack|lake|owner|Zoë",
            "hardtack|sea|exists|true"
        ]
    );

    catalog.create_table(&TableDescription::iceberg("lake", "books", metadata(0))).await.unwrap();
    for catalog in [catalog, file.open()] {
        assert_eq!(tables(&catalog, "lake").await, ["books", "numbers"]);
        assert_eq!(catalog.get_table("lake", "numbers").await.unwrap().version.as_deref(), Some("7.4"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_many_that_migrate_a_file_none_fails() {
    let file = File::of(VERSION_1);
    let readers = (0..8).map(|_| file.open()).map(|catalog| tokio::spawn(async move { databases(&catalog).await }));
    for reader in readers.collect::<Vec<_>>() {
        assert_eq!(reader.await.unwrap(), ["lake", "sea"]);
    }
    assert_eq!(file.header(), HEADER);
}

#[tokio::test]
async fn a_file_of_version_1_that_pyiceberg_has_opened_is_migrated() {
    let file = File::of(&[VERSION_1, PYICEBERG].concat());
    file.namespace("Lake");
    file.table("Lake", "books", Some(&metadata(0)));
    let catalog = file.open();
    assert_eq!(tables(&catalog, "lake").await, ["books", "numbers"]);
    assert_eq!(file.header(), HEADER);
    // The namespace is there and gets no second spelling.
    let namespaces = file.rows("select namespace, property_key from iceberg_namespace_properties order by 1, 2");
    assert_eq!(namespaces, ["Lake|exists", "sea|exists"]);
    assert_eq!(catalog.get_database("lake").await.unwrap().description.as_deref(), Some("of fish"));
    catalog.create_table(&TableDescription::iceberg("lake", "more", metadata(0))).await.unwrap();
    assert_eq!(file.rows("select table_namespace, table_name from iceberg_tables"), ["Lake|books", "Lake|more"]);
}

#[rstest]
#[case::of_now(PYICEBERG.to_owned())]
#[case::before_it_knew_views(PYICEBERG.replace("iceberg_type VARCHAR(5),", ""))]
#[tokio::test]
async fn a_file_that_pyiceberg_created_becomes_a_catalog(#[case] created: String) {
    let file = File::of(&created);
    let insert = "insert into iceberg_tables (catalog_name, table_namespace, table_name, metadata_location) values \
                  ('hardtack', 'lake', 'books', 's3://lake/1.json'), ('other', 'pond', 'newts', 's3://lake/2.json')";
    file.sql().execute_batch(insert).unwrap();
    file.namespace("empty");
    let catalog = file.open();
    assert_eq!(databases(&catalog).await, ["empty", "lake"]);
    assert_eq!(file.header(), HEADER);
    let read = catalog.get_table("lake", "books").await.unwrap();
    let mut expected = TableDescription::iceberg("lake", "books", "s3://lake/1.json");
    expected.version = Some("s3://lake/1.json".to_owned());
    assert_eq!(read, expected);
    catalog.update_table(&read.with_metadata_location("s3://lake/3.json")).await.unwrap();
    catalog.create_table(&TableDescription::iceberg("empty", "new", metadata(0))).await.unwrap();
    // As PyIceberg writes that was started before.
    file.sql().execute_batch(&insert.replace("books", "films").replace("newts", "toads")).unwrap();
    assert_eq!(tables(&catalog, "lake").await, ["books", "films"]);
    assert_eq!(tables(&catalog, "empty").await, ["new"]);
    assert_eq!(file.open().get_database("pond").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_file_with_other_tables_is_not_a_catalog() {
    let file = File::of(&[PYICEBERG, "create table t (a);"].concat());
    let error = refused(file.open().list_databases().await).replace(&file.path().display().to_string(), "<file>");
    insta::assert_snapshot!(error, @"this SQLite file is not a catalog; name another one with `--catalog embedded:PATH` (catalog: <file>)");
    assert_eq!(file.header(), (0, 0));
}

// --- namespaces ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_namespace_of_pyiceberg_is_a_database() {
    let file = File::of(PYICEBERG);
    file.sql()
        .execute_batch(
            "insert into iceberg_namespace_properties values
                ('hardtack', 'Lake', 'location', 's3://lake'), ('hardtack', 'Lake', 'comment', 'of fish'),
                ('hardtack', 'Lake', 'owner', 'Zoë'), ('hardtack', 'sea', 'exists', 'true'),
                ('other', 'pond', 'exists', 'true'), ('hardtack', 'lake.deep', 'exists', 'true')",
        )
        .unwrap();
    let catalog = file.open();
    assert_eq!(databases(&catalog).await, ["lake", "sea"]);
    let lake = catalog.get_database("LAKE").await.unwrap();
    assert_eq!((&*lake.name, lake.description.as_deref()), ("lake", Some("of fish")));
    assert_eq!(lake.location, Some("s3://lake".into()));
    assert_eq!(lake.parameters, [("owner".to_owned(), "Zoë".to_owned())].into());
    assert_eq!(catalog.get_database("sea").await.unwrap(), Database::new("sea"));

    let exists = catalog.create_database(&Database::new("lake")).await.unwrap_err();
    assert_eq!(Conflict::of(&exists), Some(Conflict::AlreadyExists));
    // Both kinds of tables can be created in it.
    catalog.create_table(&TableDescription::iceberg("lake", "books", metadata(0))).await.unwrap();
    assert_eq!(file.rows("select table_namespace, table_name from iceberg_tables"), ["Lake|books"]);
    catalog.create_table(&numbers("lake")).await.unwrap();
    assert_eq!(tables(&catalog, "lake").await, ["books", "numbers"]);
    assert_eq!(catalog.get_database("lake").await.unwrap(), lake);

    insta::assert_snapshot!(refused(catalog.drop_database("lake").await), @"the database `lake` has tables; drop them first");
    catalog.drop_table("lake", "numbers").await.unwrap();
    insta::assert_snapshot!(refused(catalog.drop_database("lake").await), @"the database `lake` has tables; drop them first");
    catalog.drop_table("lake", "books").await.unwrap();
    catalog.drop_database("Lake").await.unwrap();
    catalog.drop_database("sea").await.unwrap();
    assert_eq!(databases(&catalog).await, [""; 0]);
    let left = file.rows("select catalog_name, namespace from iceberg_namespace_properties order by 1, 2");
    assert_eq!(left, ["hardtack|lake.deep", "other|pond"]);
}

#[tokio::test]
async fn a_namespace_that_pyiceberg_has_dropped_remains_a_database() {
    let file = File::of("");
    let catalog = file.open();
    catalog.create_database(&Database::new("lake")).await.unwrap();
    catalog.create_table(&numbers("lake")).await.unwrap();
    file.sql().execute_batch("delete from iceberg_namespace_properties").unwrap();
    assert_eq!(databases(&catalog).await, ["lake"]);
    catalog.create_table(&TableDescription::iceberg("lake", "books", metadata(0))).await.unwrap();
    assert_eq!(tables(&catalog, "lake").await, ["books", "numbers"]);
}

// --- tables --------------------------------------------------------------------------------------------------------

#[rstest]
#[case("lake", "books")]
#[case("Lake", "BOOKS")]
#[case("LAKE", "bücher")]
#[case("Öl", "BÜCHER")]
#[case("lake", "two words.and a dot")]
#[tokio::test]
async fn a_table_of_pyiceberg_is_found_however_it_is_spelled(#[case] namespace: &str, #[case] name: &str) {
    let file = File::of(PYICEBERG);
    file.table(namespace, name, Some(&metadata(0)));
    let catalog = file.open();
    let (database, folded) = (namespace.to_lowercase(), name.to_lowercase());
    assert_eq!(databases(&catalog).await, [&*database]);
    assert_eq!(tables(&catalog, namespace).await, [&*folded]);
    let read = catalog.get_table(&database, &folded).await.unwrap();
    assert_eq!(catalog.get_table(namespace, name).await.unwrap(), read);
    assert_eq!(read.qualified_name(), format!("{database}.{folded}"));
    catalog.update_table(&read.clone().with_metadata_location(metadata(1))).await.unwrap();
    let row = format!("{namespace}|{name}|{}|{}", metadata(1), metadata(0));
    let rows = "select table_namespace, table_name, metadata_location, previous_metadata_location from iceberg_tables";
    assert_eq!(file.rows(rows), [row]);
    // Neither the one that was read before, nor what PyIceberg has committed since, is overwritten.
    file.sql().execute("update iceberg_tables set metadata_location = ?1", [metadata(2)]).unwrap();
    let late = catalog.update_table(&read.with_metadata_location(metadata(3))).await.unwrap_err();
    assert_eq!(Conflict::of(&late), Some(Conflict::ConcurrentModification));
    catalog.drop_table(&database, &folded).await.unwrap();
    assert_eq!(file.rows(rows), [""; 0]);
}

#[tokio::test]
async fn of_names_that_differ_in_case_the_one_in_lower_case_counts() {
    let file = File::of(PYICEBERG);
    for (number, (namespace, name)) in
        [("LAKE", "Books"), ("Lake", "books"), ("lake", "BOOKS"), ("lake", "books")].iter().enumerate()
    {
        file.table(namespace, name, Some(&metadata(number as u64)));
    }
    let catalog = file.open();
    assert_eq!(databases(&catalog).await, ["lake"]);
    for expected in [3, 2, 1, 0] {
        let found = catalog.list_tables("lake").await.unwrap();
        assert_eq!(found, [catalog.get_table("lake", "books").await.unwrap()]);
        assert_eq!(found[0].metadata_location(), Some(&*metadata(expected)));
        catalog.drop_table("lake", "books").await.unwrap();
    }
    assert_eq!(catalog.get_table("lake", "books").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_no_table_to_pyiceberg_is_none_here_but_has_its_name() {
    let file = File::of(PYICEBERG);
    file.row("hardtack", "lake", "a_view", Some(&metadata(0)), Some("VIEW"));
    file.row("hardtack", "lake", "old", Some(&metadata(1)), None);
    file.row("hardtack", "lake", "unfinished", None, Some("TABLE"));
    file.row("hardtack", "lake.deep", "inside", Some(&metadata(2)), Some("TABLE"));
    file.row("other", "lake", "foreign", Some(&metadata(3)), Some("TABLE"));
    let catalog = file.open();
    assert_eq!(databases(&catalog).await, ["lake"]);
    assert_eq!(tables(&catalog, "lake").await, ["old"]);
    for taken in ["A_View", "unfinished"] {
        assert_eq!(catalog.get_table("lake", taken).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!catalog.ensure_table(&TableDescription::iceberg("lake", taken, metadata(4))).await.unwrap());
    }
    assert!(catalog.ensure_table(&TableDescription::iceberg("lake", "foreign", metadata(4))).await.unwrap());
}

#[tokio::test]
async fn a_table_of_files_hides_one_that_pyiceberg_creates_later() {
    let file = File::of("");
    let catalog = file.open();
    catalog.create_database(&Database::new("lake")).await.unwrap();
    catalog.create_table(&numbers("lake")).await.unwrap();
    file.table("lake", "numbers", Some(&metadata(0)));
    assert!(!catalog.get_table("lake", "numbers").await.unwrap().is_iceberg());
    assert_eq!(tables(&catalog, "lake").await, ["numbers"]);
    catalog.drop_table("lake", "numbers").await.unwrap();
    assert!(catalog.get_table("lake", "numbers").await.unwrap().is_iceberg());
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let catalog = EmbeddedCatalog::in_memory();
    catalog.create_database(&Database::new("lake")).await.unwrap();
    catalog.create_table(&numbers("lake")).await.unwrap();
    catalog.create_table(&TableDescription::iceberg("lake", "books", "a.json")).await.unwrap();
    let books = catalog.get_table("lake", "books").await.unwrap();
    let files = catalog.get_table("lake", "numbers").await.unwrap();

    insta::assert_snapshot!(refused(catalog.create_table(&TableDescription::iceberg("lake", "x", "")).await), @"an Iceberg table needs the location of its metadata file; set the parameter `metadata_location` (table: lake.x)");
    insta::assert_snapshot!(books.location().unwrap_err(), @"this is a table of ICEBERG, which is not read as plain files (table: lake.books)");
    let (mut turned_books, mut turned_files) = (books.clone(), files.clone());
    std::mem::swap(&mut turned_books.parameters, &mut turned_files.parameters);
    turned_files.partition_keys = vec![Column::foreign("year", "int")];
    insta::assert_snapshot!(refused(catalog.update_table(&turned_books).await), @"`lake.books` is an Iceberg table, and an update cannot change that; create another table, or drop this one first");
    insta::assert_snapshot!(refused(catalog.update_table(&turned_files).await), @"`lake.numbers` becomes an Iceberg table, whose partition fields are in its metadata; leave out the partition keys");
    // Also if the caller declares the table and has not read it.
    let mut declared = files;
    (declared.name, declared.version) = ("books".to_owned(), None);
    insta::assert_snapshot!(refused(catalog.drop_partitions(&declared, &[]).await), @"`lake.books` is an Iceberg table, whose partitions are in its metadata and not in the catalog; write to the table with a library for Iceberg");
    assert_eq!(catalog.all_partitions(&declared, &Predicate::all()).await.unwrap(), []);
    assert_eq!(catalog.get_partitions(&declared, &[vec!["1".to_owned()]]).await.unwrap(), []);

    let taken = catalog.create_table(&TableDescription::iceberg("lake", "NUMBERS", "a.json")).await.unwrap_err();
    insta::assert_snapshot!(taken.chain(), @"there is a table `lake.numbers` already; update it, or drop it first (conflict: already exists)");
    catalog.update_table(&books.clone().with_metadata_location("b.json")).await.unwrap();
    let late = catalog.update_table(&books.with_metadata_location("c.json")).await.unwrap_err();
    insta::assert_snapshot!(late.chain(), @"the table `lake.books` was changed since it was read; read it again and repeat the change (conflict: concurrent modification, version read: a.json, version now: b.json)");
}

// --- many writers --------------------------------------------------------------------------------------------------

const WRITERS: u64 = 8;
const COMMITS: u64 = 25;

/// The number in a metadata file's name.
fn number(location: &str) -> u64 {
    location.trim_start_matches("s3://lake/books/metadata/").trim_end_matches(".metadata.json").parse().unwrap()
}

/// Commits once, as a writer that uses this catalog.
async fn commit(catalog: &dyn Catalog) -> bool {
    let table = catalog.get_table("lake", "books").await.unwrap();
    let next = number(table.metadata_location().unwrap()) + 1;
    match catalog.update_table(&table.with_metadata_location(metadata(next))).await {
        Ok(()) => true,
        Err(e) if Conflict::of(&e) == Some(Conflict::ConcurrentModification) => false,
        Err(e) => panic!("{e:?}"),
    }
}

/// Commits once, as PyIceberg does.
fn commit_by_sql(connection: &Connection) -> bool {
    let key = "catalog_name = 'hardtack' and table_namespace = 'lake' and table_name = 'books'";
    let query = format!("select metadata_location from iceberg_tables where {key}");
    let current: String = connection.query_row(&query, [], |row| row.get(0)).unwrap();
    let update = format!(
        "update iceberg_tables set metadata_location = ?1, previous_metadata_location = ?2 \
         where {key} and metadata_location = ?2"
    );
    connection.execute(&update, [metadata(number(&current) + 1), current]).unwrap() == 1
}

#[rstest]
#[case::through_this_catalog(0)]
#[case::half_of_them_as_pyiceberg(4)]
fn eight_threads_that_commit_lose_nothing(#[case] by_sql: u64) {
    let file = File::of("");
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime().block_on(async {
        let catalog = file.open();
        catalog.create_database(&Database::new("lake")).await.unwrap();
        catalog.create_table(&TableDescription::iceberg("lake", "books", metadata(0))).await.unwrap();
    });
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let file = &file;
            scope.spawn(move || {
                let (connection, catalog) = (file.sql(), file.open());
                let mut done = 0;
                while done < COMMITS {
                    let committed =
                        if writer < by_sql { commit_by_sql(&connection) } else { runtime().block_on(commit(&catalog)) };
                    done += u64::from(committed);
                }
            });
        }
    });
    let last = runtime().block_on(file.open().get_table("lake", "books")).unwrap();
    assert_eq!(last.metadata_location(), Some(&*metadata(WRITERS * COMMITS)));
    assert_eq!(last.previous_metadata_location(), Some(&*metadata(WRITERS * COMMITS - 1)));
}

#[tokio::test]
async fn swapped_tables_are_swapped_for_pyiceberg() {
    const ROWS: &str = "select table_namespace, table_name, metadata_location from iceberg_tables order by 1, 2";
    let file = File::of(PYICEBERG);
    // Their namespaces exist by them alone.
    file.table("Lake", "Books", Some("s3://lake/books/metadata/0.json"));
    file.table("green", "books", Some("s3://green/books/metadata/0.json"));
    let catalog = file.open();
    let swap = async |a: (&str, &str), b: (&str, &str)| {
        let (a, b) = (catalog.get_table(a.0, a.1).await.unwrap(), catalog.get_table(b.0, b.1).await.unwrap());
        catalog.swap_tables(&a, &b).await
    };
    swap(("lake", "books"), ("green", "books")).await.unwrap();
    assert_eq!(
        file.rows(ROWS),
        ["Lake|Books|s3://green/books/metadata/0.json", "green|books|s3://lake/books/metadata/0.json"]
    );

    // With one of files, of which PyIceberg does not know.
    catalog.create_database(&Database::new("sea")).await.unwrap();
    let fish = TableDescription::new("sea", "fish", &TableFormat::Parquet, "s3://sea/fish")
        .with_columns([Column::foreign("id", "bigint")]);
    catalog.create_table(&fish).await.unwrap();
    swap(("sea", "fish"), ("lake", "books")).await.unwrap();
    let after = ["green|books|s3://lake/books/metadata/0.json", "sea|fish|s3://green/books/metadata/0.json"];
    assert_eq!(file.rows(ROWS), after);
    let read = catalog.get_table("lake", "books").await.unwrap();
    assert_eq!(read.location().unwrap().as_str(), "s3://sea/fish");
    assert_eq!(catalog.list_tables("lake").await.unwrap(), [read]);

    // It has created one of the same name, which would come to light.
    file.table("lake", "books", Some("s3://hidden/metadata/0.json"));
    for (a, b) in [(("sea", "fish"), ("lake", "books")), (("lake", "books"), ("sea", "fish"))] {
        assert_eq!(Conflict::of(&swap(a, b).await.unwrap_err()), Some(Conflict::AlreadyExists));
    }
    assert_eq!(catalog.get_table("lake", "books").await.unwrap().location().unwrap().as_str(), "s3://sea/fish");
    assert!(catalog.get_table("sea", "fish").await.unwrap().is_iceberg());
}
