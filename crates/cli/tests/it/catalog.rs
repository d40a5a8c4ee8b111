//! `tables`, `describe` and `sql` on a catalog with some tables.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use hardtack_catalog::{Catalog, CatalogExt, Column, Database, EmbeddedCatalog, TableDescription, TableFormat};
use hardtack_core::Location;

/// A folder with a lake, and the state with its catalog.
struct Lake {
    folder: tempfile::TempDir,
}

/// What a command printed.
struct Printed {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Lake {
    async fn new() -> Self {
        let lake = Self { folder: tempfile::tempdir().unwrap() };
        lake.put("lake/authors/a.json", r#"{"id": 1, "name": "Jane Austen"} {"id": 2, "name": "James Joyce"}"#);
        for (year, book) in
            [(1815, r#"{"title": "Emma", "author": 1, "pages": 474}"#), (1922, r#"{"title": "Ulysses"}"#)]
        {
            lake.put(&format!("lake/books/year={year}/a.json"), book);
        }
        let catalog = EmbeddedCatalog::open(&lake.at("state/catalog.sqlite")).unwrap();
        catalog.ensure_database(&Database::new("lake")).await.unwrap();
        let authors = TableDescription::new("lake", "authors", &TableFormat::Json, "lake/authors")
            .with_columns([Column::foreign("id", "int"), Column::foreign("name", "string")]);
        let title = Column::foreign("title", "string").with_comment("of the first edition");
        let books = TableDescription::new("lake", "books", &TableFormat::Json, "lake/books")
            .with_description("Books worth reading")
            .with_columns([title, Column::foreign("author", "int"), Column::foreign("pages", "bigint")])
            .with_partition_keys([Column::foreign("year", "int")])
            .with_parameter("owner", "library");
        catalog.create_table(&authors).await.unwrap();
        catalog.create_table(&books).await.unwrap();
        let partitions = ["1815", "1922"].map(|year| books.partition([year], format!("lake/books/year={year}")));
        catalog.add_partitions(&books, &partitions).await.unwrap();
        lake
    }

    fn at(&self, path: &str) -> Location {
        Location::from(self.folder.path()).join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(path)).unwrap()
    }

    fn hardtack(&self, args: &[&str]) -> Printed {
        run(self.folder.path(), args, "")
    }

    fn sql(&self, query: &str) -> String {
        let printed = self.hardtack(&["sql", "-c", query]);
        assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
        printed.out
    }
}

fn run(folder: &Path, args: &[&str], input: &str) -> Printed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardtack"));
    let command = command.args(args).current_dir(folder).env_clear().env("HARDTACK_STATE", "state");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A command that does not read its input may have exited.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Printed { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_listed() {
    let lake = Lake::new().await;
    insta::assert_snapshot!(lake.hardtack(&["tables"]).out, @"
        table     | format | partitioned by |   location
    --------------+--------+----------------+--------------
     lake.authors | json   |                | lake/authors
     lake.books   | json   | year           | lake/books
    ");
    insta::assert_snapshot!(lake.hardtack(&["tables", "LAKE", "--json"]).out, @r#"
    {"database":"lake","name":"authors","description":null,"format":"json","location":"lake/authors","columns":[{"name":"id","type":"int"},{"name":"name","type":"string"}],"partition_keys":[],"parameters":{"EXTERNAL":"TRUE","classification":"json"}}
    {"database":"lake","name":"books","description":"Books worth reading","format":"json","location":"lake/books","columns":[{"name":"title","type":"string","comment":"of the first edition"},{"name":"author","type":"int"},{"name":"pages","type":"bigint"}],"partition_keys":[{"name":"year","type":"int"}],"parameters":{"EXTERNAL":"TRUE","classification":"json","owner":"library"}}
    "#);
    let unknown = lake.hardtack(&["tables", "pond"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(1), ""));
    insta::assert_snapshot!(unknown.err, @"hardtack: there is no database `pond` in the catalog; create it, or check the name");
    insta::assert_snapshot!(lake.hardtack(&["tables", "--catalog", "embedded:elsewhere.sqlite"]).out, @"no tables; `hardtack crawl LOCATION --database DB` finds some");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_described() {
    let lake = Lake::new().await;
    insta::assert_snapshot!(lake.hardtack(&["describe", "lake.books"]).out, @"
    lake.books
    Books worth reading

    format    json
    location  lake/books

     column |  type  |       comment
    --------+--------+----------------------
     title  | string | of the first edition
     author | int    |
     pages  | bigint |

     partition key | type | comment
    ---------------+------+---------
     year          | int  |
    (2 partitions)

       parameter    |  value
    ----------------+---------
     EXTERNAL       | TRUE
     classification | json
     owner          | library
    ");
    insta::assert_snapshot!(lake.hardtack(&["describe", "lake.books", "--json"]).out, @r#"{"database":"lake","name":"books","description":"Books worth reading","format":"json","location":"lake/books","columns":[{"name":"title","type":"string","comment":"of the first edition"},{"name":"author","type":"int"},{"name":"pages","type":"bigint"}],"partition_keys":[{"name":"year","type":"int"}],"parameters":{"EXTERNAL":"TRUE","classification":"json","owner":"library"},"partitions":2}"#);
    insta::assert_snapshot!(lake.hardtack(&["describe", "lake.authors"]).out, @"
    lake.authors

    format    json
    location  lake/authors

     column |  type  | comment
    --------+--------+---------
     id     | int    |
     name   | string |

       parameter    | value
    ----------------+-------
     EXTERNAL       | TRUE
     classification | json
    ");
    assert_eq!(lake.hardtack(&["describe", "books"]).code, Some(2));
    assert_eq!(lake.hardtack(&["describe", "lake.bikes"]).code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_drawn() {
    let lake = Lake::new().await;
    let join = "select title, name, pages, year from lake.books b join lake.authors a on a.id = b.author;
        select year, count(*) as n from lake.books where year > 1900 group by year";
    insta::assert_snapshot!(lake.sql(join), @"
     title |    name     | pages | year
    -------+-------------+-------+------
     Emma  | Jane Austen |   474 | 1815
    (1 row)
     year | n
    ------+---
     1922 | 1
    (1 row)
    ");
    insta::assert_snapshot!(lake.sql("select title from lake.books where year = 2000"), @"
     title
    -------
    (0 rows)
    ");
    insta::assert_snapshot!(lake.sql("show tables"), @"
     table_catalog |    table_schema    | table_name  | table_type
    ---------------+--------------------+-------------+------------
     datafusion    | hardtack           | verdicts    | VIEW
     datafusion    | lake               | authors     | BASE TABLE
     datafusion    | lake               | books       | BASE TABLE
     datafusion    | information_schema | tables      | VIEW
     datafusion    | information_schema | views       | VIEW
     datafusion    | information_schema | columns     | VIEW
     datafusion    | information_schema | df_settings | VIEW
     datafusion    | information_schema | schemata    | VIEW
     datafusion    | information_schema | routines    | VIEW
     datafusion    | information_schema | parameters  | VIEW
    (10 rows)
    ");
    let explained = lake.sql("explain select title from lake.books where year = 1815");
    let folder = lake.folder.path().display().to_string();
    insta::assert_snapshot!(explained.replace(folder.trim_start_matches('/'), "DIR"), @"
    logical_plan
    TableScan: lake.books projection=[title], full_filters=[lake.books.year = Int32(1815)]

    physical_plan
    DataSourceExec: file_groups={1 group: [[DIR/lake/books/year=1815/a.json]]}, projection=[title], file_type=json
    ");
    let analyzed = lake.sql("explain analyze select title from lake.books where year = 1815");
    assert!(analyzed.contains("output_rows=1"), "{analyzed}");
    insta::assert_snapshot!(lake.sql("show columns from lake.authors"), @"
     table_catalog | table_schema | table_name | column_name | data_type | is_nullable
    ---------------+--------------+------------+-------------+-----------+-------------
     datafusion    | lake         | authors    | id          | Int32     | YES
     datafusion    | lake         | authors    | name        | Utf8      | YES
    (2 rows)
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_other_formats() {
    let lake = Lake::new().await;
    let query = "select title, pages, {y: year} as published from lake.books order by title";
    let of = |format: &str, query: &str| lake.hardtack(&["sql", "--format", format, "-c", query]);
    insta::assert_snapshot!(of("json", query).out, @r#"
    {"title":"Emma","pages":474,"published":{"y":1815}}
    {"title":"Ulysses","pages":null,"published":{"y":1922}}
    "#);
    let plain = "select title, pages from lake.books order by title";
    insta::assert_snapshot!(of("csv", plain).out, @"
    title,pages
    Emma,474
    Ulysses,
    ");
    insta::assert_snapshot!(of("csv", "select 1 as a where false").out, @"a");
    insta::assert_snapshot!(of("csv", query).err, @r#"hardtack: these rows cannot be written as CSV; use JSON: Csv error: Nested type Struct("y": Int32) is not supported in CSV"#);
    assert_eq!(of("csv", query).code, Some(2));
    insta::assert_snapshot!(of("parquet", query).err, @"hardtack: Parquet cannot be printed; name a file: `--output FILE`");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_to_files() {
    let lake = Lake::new().await;
    let to = |file: &str, query: &str| lake.hardtack(&["sql", "--output", file, "-c", query]);
    let query = "create view old as select title, year from lake.books where year < 1900; select * from old";
    for (file, text) in
        [("out/old.csv", "title,year\nEmma,1815\n"), ("old.jsonl", "{\"title\":\"Emma\",\"year\":1815}\n")]
    {
        let printed = to(file, query);
        assert_eq!((printed.code, printed.out.as_str(), printed.err.as_str()), (Some(0), "", ""));
        assert_eq!(lake.read(file), text);
    }
    assert_eq!(to("old.parquet", query).code, Some(0));
    assert_eq!(to("none.parquet", "select title from lake.books where year = 0").code, Some(0));
    lake.sql("select 1");
    let back = "create external table t stored as parquet location 'old.parquet'; select * from t";
    insta::assert_snapshot!(lake.sql(back), @"
     title | year
    -------+------
     Emma  | 1815
    (1 row)
    ");
    let back = "create external table t stored as parquet location 'none.parquet'; select * from t";
    insta::assert_snapshot!(lake.sql(back), @"
     title
    -------
    (0 rows)
    ");
    // What DataFusion executes only at the root of a plan.
    let others = ["explain select 1", "explain analyze select 1", "describe lake.books", "show tables"];
    for (i, query) in others.into_iter().enumerate() {
        for suffix in ["parquet", "csv", "jsonl"] {
            let done = to(&format!("other-{i}.{suffix}"), query);
            assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{query}");
            assert!(lake.folder.path().join(format!("other-{i}.{suffix}")).exists(), "{query}");
        }
    }
    let back = "create external table t stored as parquet location 'other-2.parquet'; select column_name from t";
    insta::assert_snapshot!(lake.sql(back), @"
     column_name
    -------------
     title
     author
     pages
     year
    (4 rows)
    ");
    insta::assert_snapshot!(to("old.xls", query).err, @"hardtack: the suffix of the output does not imply a format; add `--format`, for example `--format csv` (output: old.xls)");
    insta::assert_snapshot!(to("two.csv", "select 1; select 2").err, @"hardtack: expected one query, whose rows are written to the file, but there are several (output: two.csv)");
    insta::assert_snapshot!(to("none.csv", "").err, @"hardtack: expected one query, whose rows are written to the file (output: none.csv)");
    assert!(!lake.folder.path().join("two.csv").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_come_from_files_and_standard_input() {
    let lake = Lake::new().await;
    lake.put(
        "count.sql",
        "-- both\nselect count(*) as books from lake.books;\nselect count(*) as authors from lake.authors;",
    );
    let printed =
        lake.hardtack(&["sql", "-f", "count.sql", "--format", "csv", "--memory-limit", "100MB", "--threads", "1"]);
    insta::assert_snapshot!(printed.out, @"
    books
    2
    authors
    2
    ");
    let printed = run(lake.folder.path(), &["sql", "--format", "csv"], "select 1 as one;\nselect 'ä;' as two");
    insta::assert_snapshot!(printed.out, @"
    one
    1
    two
    ä;
    ");
    let printed = lake.hardtack(&["sql", "-f", "nope.sql"]);
    assert_eq!(printed.code, Some(2));
    assert_eq!(run(lake.folder.path(), &["sql"], "").out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_planned_is_a_usage_error() {
    let lake = Lake::new().await;
    let refused = |query: &str| {
        let printed = lake.hardtack(&["sql", "-c", query]);
        assert_eq!((printed.code, printed.out.as_str()), (Some(2), ""), "{query}: {}", printed.err);
        printed.err
    };
    insta::assert_snapshot!(refused("selec 1"), @"hardtack: invalid SQL: `selec` was found, but an SQL statement was expected (at: line 1, column 1)");
    insta::assert_snapshot!(refused("select nope from lake.authors"), @"hardtack: there is no column `nope` (columns: lake.authors.id, lake.authors.name)");
    insta::assert_snapshot!(refused("select * from lake.bikes"), @"hardtack: there is no table `lake.bikes` in the catalog; create it, or check the name (tables: authors, books)");
    insta::assert_snapshot!(refused("select * from pond.fish"), @"hardtack: there is no table `pond.fish` in the catalog; create it, or check the name (databases: lake)");
    insta::assert_snapshot!(refused("select * from books"), @"hardtack: there is no table `books` (hint: a table of the catalog is named with its database, as in `lake.books`; `show tables` lists them)");
    insta::assert_snapshot!(refused("select name + interval '1 day' from lake.authors"), @"hardtack: this operation is not defined for these types (types: string + interval, hint: cast one side to the type of the other)");
    insta::assert_snapshot!(refused("insert into lake.authors values (3, 'x')"), @"hardtack: SQL only reads; tables are written by jobs: `ctx.save(table, rows)`");
    insta::assert_snapshot!(refused("copy (select 1) to 'x.csv'"), @"hardtack: `COPY` is not supported; `--output FILE` writes the rows of a query to a file");
    insta::assert_snapshot!(refused("drop table lake.authors"), @"hardtack: `lake.authors` is in the catalog, which is read-only in SQL (hint: a name without a database is valid until this session ends)");
    insta::assert_snapshot!(refused("create table lake.new as select 1 as a"), @"hardtack: `lake.new` is in the catalog, which is read-only in SQL (hint: a name without a database is valid until this session ends)");
    insta::assert_snapshot!(refused("create view lake.new as select 1 as a"), @"hardtack: `lake.new` is in the catalog, which is read-only in SQL (hint: a name without a database is valid until this session ends)");
    insta::assert_snapshot!(refused("create external table lake.new stored as csv location 'x.csv'"), @"hardtack: `lake.new` is in the catalog, which is read-only in SQL (hint: a name without a database is valid until this session ends)");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_does_not_fit_is_refused_data() {
    let lake = Lake::new().await;
    lake.put("lake/authors/b.json", r#"{"id": "x"}"#);
    let printed = lake.hardtack(&["sql", "-c", "select sum(id) from lake.authors"]);
    assert_eq!(printed.code, Some(3), "{}", printed.err);
    assert!(printed.err.contains("lake/authors/b.json"), "{}", printed.err);
    for (query, told) in [
        ("select cast(name as int) from lake.authors where id = 1", "a text cannot be cast to the type (value: "),
        ("select 1 / (id - id) from lake.authors where id = 1", "a number was divided by zero (hint: "),
        ("select to_date(name) from lake.authors where id = 1", "a text is not a date"),
    ] {
        std::fs::remove_file(lake.folder.path().join("lake/authors/b.json")).ok();
        let printed = lake.hardtack(&["sql", "-c", query]);
        assert_eq!(printed.code, Some(3), "{query}: {}", printed.err);
        assert!(printed.err.contains(told), "{query}: {}", printed.err);
    }
}
