//! Tables by name in SQL.

use hardtack_catalog::{Column, Table as Description, TableFormat};
use hardtack_tables::register_names;

use crate::world::{World, show};

#[tokio::test]
async fn sql_knows_the_tables_of_the_catalog() {
    let world = World::new();
    let table = |name: &str| {
        Description::new("lake", name, &TableFormat::Json, format!("memory:/lake/{name}"))
            .with_columns([Column::foreign("id", "bigint"), Column::foreign("name", "string")])
    };
    world.create(&table("books")).await;
    world.create(&table("authors")).await;
    world.put("memory:/lake/books/a", r#"{"id": 1, "name": "Emma"} {"id": 2, "name": "Ulysses"}"#).await;
    world.asked();
    register_names(&world.ctx).unwrap();
    register_names(&world.ctx).unwrap();
    insta::assert_snapshot!(world.asked(), @"");
    let rows = world.ctx.session().sql("select name from Lake.Books where id = 2").await.unwrap();
    insta::assert_snapshot!(show(rows).await, @"
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
    let rows = world.ctx.session().sql("show tables").await.unwrap();
    insta::assert_snapshot!(show(rows).await, @"
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
}
