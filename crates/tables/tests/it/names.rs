//! Tables by name in SQL.

use hardtack_catalog::{Column, TableDescription, TableFormat};
use hardtack_tables::register_names;

use crate::world::{World, show};

/// Two tables, one of them with rows.
async fn library() -> World {
    let world = World::new();
    let table = |name: &str| {
        TableDescription::new("lake", name, &TableFormat::Json, format!("memory:/lake/{name}"))
            .with_columns([Column::foreign("id", "bigint"), Column::foreign("name", "string")])
    };
    world.create(&table("books")).await;
    world.create(&table("authors").with_partition_keys([Column::foreign("year", "int")])).await;
    world.put("memory:/lake/books/a", r#"{"id": 1, "name": "Emma"} {"id": 2, "name": "Ulysses"}"#).await;
    world.asked();
    register_names(&world.ctx).unwrap();
    assert_eq!(world.asked(), "");
    world
}

async fn sql(world: &World, text: &str) -> String {
    match world.ctx.session().sql(text).await {
        Ok(rows) => show(rows).await,
        Err(error) => hardtack_core::Error::from(error).chain(),
    }
}

#[tokio::test]
async fn sql_asks_for_the_tables_that_it_names_and_no_others() {
    let world = library().await;
    register_names(&world.ctx).unwrap();
    insta::assert_snapshot!(sql(&world, "select name from Lake.Books where id = 2").await, @"
    +---------+
    | name    |
    +---------+
    | Ulysses |
    +---------+
    ");
    insta::assert_snapshot!(world.asked(), @"
    get_table 1 (1)
    GET 1
    LIST 1
    ");
    insta::assert_snapshot!(sql(&world, "
        with twice as (select * from lake.books union all select * from datafusion.lake.books)
        select t.name, count(*) n from twice t left join lake.authors a on a.id = t.id and a.year = 1 group by t.name
    ").await, @"
    +---------+---+
    | name    | n |
    +---------+---+
    | Emma    | 2 |
    | Ulysses | 2 |
    +---------+---+
    ");
    insta::assert_snapshot!(world.asked(), @"
    get_table 2 (2)
    list_partitions 1 (0)
    GET 2
    LIST 2
    ");
    insta::assert_snapshot!(sql(&world, "select * from lake.bookz").await, @"there is no table `lake.bookz` in the catalog; create it, or check the name (did you mean: lake.books)");
    insta::assert_snapshot!(sql(&world, "select * from lake.books.x").await, @"there is no table `lake.books.x` (hint: a table of the catalog is named with its database, as in `lake.books`; `show tables` lists them)");
}

#[tokio::test]
async fn what_there_is_is_listed_when_somebody_asks() {
    let world = library().await;
    insta::assert_snapshot!(sql(&world, "show tables").await, @"
    +---------------+--------------------+-------------+------------+
    | table_catalog | table_schema       | table_name  | table_type |
    +---------------+--------------------+-------------+------------+
    | datafusion    | information_schema | columns     | VIEW       |
    | datafusion    | information_schema | df_settings | VIEW       |
    | datafusion    | information_schema | parameters  | VIEW       |
    | datafusion    | information_schema | routines    | VIEW       |
    | datafusion    | information_schema | schemata    | VIEW       |
    | datafusion    | information_schema | tables      | VIEW       |
    | datafusion    | information_schema | views       | VIEW       |
    | datafusion    | lake               | authors     | BASE TABLE |
    | datafusion    | lake               | books       | BASE TABLE |
    +---------------+--------------------+-------------+------------+
    ");
    insta::assert_snapshot!(world.asked(), @"
    list_databases 1 (1)
    list_tables 1 (2)
    ");
    insta::assert_snapshot!(sql(&world, "
        select column_name, data_type from information_schema.columns where table_name = 'authors'
    ").await, @"
    +-------------+-----------+
    | column_name | data_type |
    +-------------+-----------+
    | id          | Int64     |
    | name        | Utf8      |
    | year        | Int32     |
    +-------------+-----------+
    ");
    insta::assert_snapshot!(sql(&world, "describe lake.authors").await, @"
    +-------------+-----------+-------------+
    | column_name | data_type | is_nullable |
    +-------------+-----------+-------------+
    | id          | Int64     | YES         |
    | name        | Utf8      | YES         |
    | year        | Int32     | YES         |
    +-------------+-----------+-------------+
    ");
    insta::assert_snapshot!(sql(&world, "show columns from lake.authors").await, @"
    +---------------+--------------+------------+-------------+-----------+-------------+
    | table_catalog | table_schema | table_name | column_name | data_type | is_nullable |
    +---------------+--------------+------------+-------------+-----------+-------------+
    | datafusion    | lake         | authors    | id          | Int64     | YES         |
    | datafusion    | lake         | authors    | name        | Utf8      | YES         |
    | datafusion    | lake         | authors    | year        | Int32     | YES         |
    +---------------+--------------+------------+-------------+-----------+-------------+
    ");
    insta::assert_snapshot!(sql(&world, "select * from information_schema.schemata").await, @"
    +--------------+-------------+--------------+-------------------------------+------------------------------+----------------------------+----------+
    | catalog_name | schema_name | schema_owner | default_character_set_catalog | default_character_set_schema | default_character_set_name | sql_path |
    +--------------+-------------+--------------+-------------------------------+------------------------------+----------------------------+----------+
    | datafusion   | lake        |              |                               |                              |                            |          |
    | datafusion   | public      |              |                               |                              |                            |          |
    +--------------+-------------+--------------+-------------------------------+------------------------------+----------------------------+----------+
    ");
    insta::assert_snapshot!(sql(&world, "show datafusion.execution.time_zone").await, @"
    +--------------------------------+--------+
    | name                           | value  |
    +--------------------------------+--------+
    | datafusion.execution.time_zone | +00:00 |
    +--------------------------------+--------+
    ");
    // An unreadable table is still listed.
    let odd = TableDescription::new("lake", "odd", &TableFormat::Json, "memory:/odd")
        .with_columns([Column::foreign("either", "uniontype<int,string>")]);
    world.create(&odd).await;
    insta::assert_snapshot!(sql(&world, "
        select table_name from information_schema.tables where table_schema = 'lake'
    ").await, @"
    +------------+
    | table_name |
    +------------+
    | authors    |
    | books      |
    | odd        |
    +------------+
    ");
    insta::assert_snapshot!(sql(&world, "select * from lake.odd").await, @"expected a type, found `uniontype`, which neither Athena nor Spark reads; declare a struct with one field for each type (type: uniontype<int,string>, position: 1, column: either, table: lake.odd)");
}

#[tokio::test]
async fn the_session_keeps_its_own_names() {
    let world = library().await;
    sql(&world, "create table mine as select * from lake.books where id = 1").await;
    insta::assert_snapshot!(sql(&world, "select m.name from mine m join lake.books b on b.id = m.id").await, @"
    +------+
    | name |
    +------+
    | Emma |
    +------+
    ");
    insta::assert_snapshot!(sql(&world, "
        select table_schema, table_name from information_schema.tables where table_schema <> 'information_schema'
    ").await, @"
    +--------------+------------+
    | table_schema | table_name |
    +--------------+------------+
    | lake         | authors    |
    | lake         | books      |
    | public       | mine       |
    +--------------+------------+
    ");
    insta::assert_snapshot!(sql(&world, "create view lake.mine as select 1").await, @"`lake.mine` is in the catalog, which is read-only in SQL (hint: save to it: `ctx.save(Table::named(database, table), rows)`)");
    // DataFusion looks up the name of a new table, and loses the reason why one cannot be dropped.
    insta::assert_snapshot!(sql(&world, "create table lake.mine as select 1").await, @"there is no table `lake.mine` in the catalog; create it, or check the name (tables: authors, books)");
    insta::assert_snapshot!(sql(&world, "drop table lake.books").await, @"the query failed: Execution error: Table 'lake.books' doesn't exist.");
    insta::assert_snapshot!(sql(&world, "insert into lake.books values (3, 'Dune')").await, @"`lake.books` is in the catalog, which is read-only in SQL (hint: save to it: `ctx.save(Table::named(database, table), rows)`)");
}

#[tokio::test]
async fn without_a_catalog_there_are_no_names() {
    let ctx = hardtack_core::JobContext::builder("job").build().unwrap();
    insta::assert_snapshot!(register_names(&ctx).unwrap_err(), @"a table is named, but this context has no catalog (hint: give it one: `.extension(Arc::new(CatalogHandle::new(catalog)))`)");
}

#[tokio::test]
async fn table_functions_are_no_tables() {
    let world = World::new();
    register_names(&world.ctx).unwrap();
    let rows = world.ctx.session().sql("select sum(value) from generate_series(1, 4)").await.unwrap();
    assert_eq!(crate::world::cells(rows).await, "10");
    let error = world.ctx.session().sql("select * from generate_serious").await.unwrap_err();
    assert!(error.to_string().contains("generate_serious"), "{error}");
}
