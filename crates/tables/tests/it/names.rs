//! Tables by name in SQL.

use hardtack_catalog::{Column, Table as Description, TableFormat};
use hardtack_tables::register_names;

use crate::world::{World, show};

/// Two tables with names, of which one has rows.
async fn library() -> World {
    let world = World::new();
    let table = |name: &str| {
        Description::new("lake", name, &TableFormat::Json, format!("memory:/lake/{name}"))
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
    insta::assert_snapshot!(sql(&world, "select name from Lake.Books where id = 2").await, @"");
    insta::assert_snapshot!(world.asked(), @"");
    insta::assert_snapshot!(sql(&world, "
        with twice as (select * from lake.books union all select * from datafusion.lake.books)
        select t.name, count(*) n from twice t left join lake.authors a on a.id = t.id and a.year = 1 group by t.name
    ").await, @"");
    insta::assert_snapshot!(world.asked(), @"");
    insta::assert_snapshot!(sql(&world, "select * from lake.bookz").await, @"");
    insta::assert_snapshot!(sql(&world, "select * from lake.books.x").await, @"");
}

#[tokio::test]
async fn what_there_is_is_listed_when_somebody_asks() {
    let world = library().await;
    insta::assert_snapshot!(sql(&world, "show tables").await, @"");
    insta::assert_snapshot!(world.asked(), @"");
    insta::assert_snapshot!(sql(&world, "
        select column_name, data_type from information_schema.columns where table_name = 'authors'
    ").await, @"");
    insta::assert_snapshot!(sql(&world, "describe lake.authors").await, @"");
    insta::assert_snapshot!(sql(&world, "show columns from lake.authors").await, @"");
    insta::assert_snapshot!(sql(&world, "select * from information_schema.schemata").await, @"");
    insta::assert_snapshot!(sql(&world, "show datafusion.execution.time_zone").await, @"");
    // A table that nobody can read is still listed.
    let odd = Description::new("lake", "odd", &TableFormat::Json, "memory:/odd")
        .with_columns([Column::foreign("either", "uniontype<int,string>")]);
    world.create(&odd).await;
    insta::assert_snapshot!(sql(&world, "
        select table_name from information_schema.tables where table_schema = 'lake'
    ").await, @"");
    insta::assert_snapshot!(sql(&world, "select * from lake.odd").await, @"");
}

#[tokio::test]
async fn the_session_keeps_its_own_names() {
    let world = library().await;
    sql(&world, "create table mine as select * from lake.books where id = 1").await;
    insta::assert_snapshot!(sql(&world, "select m.name from mine m join lake.books b on b.id = m.id").await, @"");
    insta::assert_snapshot!(sql(&world, "
        select table_schema, table_name from information_schema.tables where table_schema <> 'information_schema'
    ").await, @"");
    insta::assert_snapshot!(sql(&world, "create table lake.mine as select 1").await, @"");
    insta::assert_snapshot!(sql(&world, "create view lake.mine as select 1").await, @"");
    insta::assert_snapshot!(sql(&world, "drop table lake.books").await, @"");
    insta::assert_snapshot!(sql(&world, "insert into lake.books values (3, 'Dune')").await, @"");
}

#[tokio::test]
async fn without_a_catalog_there_are_no_names() {
    let ctx = hardtack_core::JobContext::builder("job").build().unwrap();
    insta::assert_snapshot!(register_names(&ctx).unwrap_err(), @"");
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
