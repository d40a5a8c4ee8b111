//! Serving drivers.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use hardtack_catalog::Catalog;
use insta::assert_snapshot;
use rust_decimal::Decimal;
use tokio_postgres::Client;
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};

use crate::served::{Served, said, texts};

#[tokio::test]
async fn queries_have_answers() {
    let served = Served::new().await;
    let client = served.client().await;
    assert_snapshot!(texts(&client, "select year, title, pages from lake.books order by title").await, @"
    1815 | Emma | 474
    1922 | Jacob's Room | null
    1922 | Ulysses | 730
    ");
    // Tables of the connected database need no qualifier.
    assert_snapshot!(texts(&client, "select count(*) from books where year > 1900").await, @"2");
    assert_snapshot!(texts(&client, "select 1; select 'a' as b; ").await, @"
    1
    a
    ");
    assert_snapshot!(texts(&client, "").await, @"");
    assert_snapshot!(texts(&client, "begin; select count(*) from books; commit").await, @"3");
    let plan = texts(&client, "explain select title from books where year = 1815").await;
    assert!(plan.contains("year=1815/a.jsonl") && !plan.contains("year=1922"), "{plan}");
    assert_snapshot!(texts(&client, "select * from generate_series(1, 2)").await, @"
    1
    2
    ");
}

#[tokio::test]
async fn every_type_comes_as_text() {
    let served = Served::new().await;
    assert_snapshot!(texts(&served.client().await, "select * from lake.all").await, @"7 | 9000000000 | 0.5 | 12.30 | Müller 'x' | 2024-02-29 | 2024-02-29 10:30:00.123456 | 2024-02-29 08:30:00.000000+00 | t | null | {1,NULL,3}");
}

#[tokio::test]
async fn every_type_comes_prepared_and_binary() {
    let served = Served::new().await;
    let client = served.client().await;
    let statement = client
        .prepare("select i, l, d, t, day, ts, tz, b, none, list, dec from lake.all where i = $1 and t like $2")
        .await
        .unwrap();
    let types: Vec<String> = statement.columns().iter().map(|c| format!("{} {}", c.name(), c.type_())).collect();
    assert_snapshot!(types.join(", "), @"i int4, l int8, d float8, t text, day date, ts timestamp, tz timestamptz, b bool, none text, list _int8, dec numeric");
    for _ in 0..2 {
        let rows = client.query(&statement, &[&7_i32, &"M%"]).await.unwrap();
        let row = &rows[0];
        assert_eq!((row.get::<_, i32>(0), row.get::<_, i64>(1), row.get::<_, f64>(2)), (7, 9_000_000_000, 0.5));
        assert_eq!(row.get::<_, &str>(3), "Müller 'x'");
        assert_eq!(row.get::<_, NaiveDate>(4), "2024-02-29".parse::<NaiveDate>().unwrap());
        assert_eq!(row.get::<_, NaiveDateTime>(5), "2024-02-29T10:30:00.123456".parse::<NaiveDateTime>().unwrap());
        assert_eq!(row.get::<_, DateTime<Utc>>(6), "2024-02-29T08:30:00Z".parse::<DateTime<Utc>>().unwrap());
        assert_eq!((row.get::<_, bool>(7), row.get::<_, Option<&str>>(8)), (true, None));
        assert_eq!(row.get::<_, Vec<Option<i64>>>(9), [Some(1), None, Some(3)]);
    }
    assert!(client.query(&statement, &[&8_i32, &"M%"]).await.unwrap().is_empty());
}

/// As drivers send them: in order even if there are more than nine, and exact to the last digit.
#[tokio::test]
async fn parameters_are_what_was_sent() {
    let served = Served::new().await;
    let client = served.client().await;
    let statement =
        "select $1::int, $2::text, $3::int, $4::int, $5::int, $6::int, $7::int, $8::int, $9::int, $10::text, $11::date";
    let (ten, day) = ("ten", "2024-02-29".parse::<NaiveDate>().unwrap());
    let row = client.query_one(statement, &[&1, &"two", &3, &4, &5, &6, &7, &8, &9, &ten, &day]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1), row.get::<_, i32>(2)), (1, "two", 3));
    assert_eq!((row.get::<_, &str>(9), row.get::<_, NaiveDate>(10)), (ten, day));

    for number in ["12.34", "-12.34", "0.001", "-0.5", "1.50", "0", "123456789012345678901234.5", "100"] {
        let number: Decimal = number.parse().unwrap();
        let row =
            client.query_one("select $1::decimal(38, 4), dec < $1, $2::text from lake.all", &[&number, &"x"]).await;
        let row = row.unwrap_or_else(|e| panic!("{number}: {}", said(&e)));
        assert_eq!(row.get::<_, Decimal>(0), number);
        assert_eq!(row.get::<_, bool>(1), "12.30".parse::<Decimal>().unwrap() < number, "{number}");
    }
    let time = "10:30:00.123456".parse::<NaiveTime>().unwrap();
    let text = "select $1::time, $2::time, coalesce($3, 'x')";
    let row = client.query_one(text, &[&time, &None::<NaiveTime>, &None::<&str>]).await;
    let row = row.unwrap_or_else(|e| panic!("{}", said(&e)));
    assert_eq!(
        (row.get::<_, NaiveTime>(0), row.get::<_, Option<NaiveTime>>(1), row.get::<_, &str>(2)),
        (time, None, "x")
    );
    let long = texts(&client, "select '79228162514264337593543950335'::decimal(38, 4)").await;
    assert!(long.starts_with("22003"), "{long}");
    let none = client.query_one("select $1::decimal(10, 2)", &[&None::<Decimal>]).await.unwrap();
    assert_eq!(none.get::<_, Option<Decimal>>(0), None);
}

/// Selects a parameter with nothing but its type.
async fn back<T>(client: &Client, of: Type, value: T)
where
    T: ToSql + FromSqlOwned + PartialEq + std::fmt::Debug + Sync,
{
    let statement = client.prepare_typed("select $1, $1", std::slice::from_ref(&of)).await;
    let statement = statement.unwrap_or_else(|e| panic!("{of}: {}", said(&e)));
    assert_eq!((statement.params(), statement.columns()[0].type_()), (&[of.clone()][..], &of));
    for _ in 0..2 {
        let row = client.query_one(&statement, &[&value]).await.unwrap_or_else(|e| panic!("{of}: {}", said(&e)));
        assert_eq!(row.get::<_, T>(0), value, "{of}");
        assert_eq!(row.get::<_, T>(1), value, "{of}");
    }
    let row = client.query_one(&statement, &[&None::<T>]).await.unwrap_or_else(|e| panic!("{of}: {}", said(&e)));
    assert_eq!(row.get::<_, Option<T>>(0), None, "{of}");
}

#[tokio::test]
async fn parameters_come_back_as_values_of_the_types_that_they_were_declared_with() {
    let served = Served::new().await;
    let client = served.client().await;
    back(&client, Type::BOOL, true).await;
    back(&client, Type::INT2, 7_i16).await;
    back(&client, Type::INT4, -7_i32).await;
    back(&client, Type::INT8, 9_000_000_000_i64).await;
    back(&client, Type::FLOAT4, 0.25_f32).await;
    back(&client, Type::FLOAT8, 0.5_f64).await;
    back(&client, Type::NUMERIC, "12.340".parse::<Decimal>().unwrap()).await;
    back(&client, Type::TEXT, "Müller".to_owned()).await;
    back(&client, Type::BYTEA, vec![0_u8, 255]).await;
    back(&client, Type::DATE, "2024-02-29".parse::<NaiveDate>().unwrap()).await;
    back(&client, Type::TIME, "10:30:00.123456".parse::<NaiveTime>().unwrap()).await;
    back(&client, Type::TIMESTAMP, "2024-02-29T10:30:00.123456".parse::<NaiveDateTime>().unwrap()).await;
    back(&client, Type::TIMESTAMPTZ, "2024-02-29T08:30:00Z".parse::<DateTime<Utc>>().unwrap()).await;
    back(&client, Type::INT8_ARRAY, vec![Some(1_i64), None]).await;
    back(&client, Type::TEXT_ARRAY, vec!["a".to_owned()]).await;
    // Without a type, it is a text.
    let statement = client.prepare("select $1").await.unwrap();
    assert_eq!((statement.params(), statement.columns()[0].type_()), (&[Type::TEXT][..], &Type::TEXT));
    assert_eq!(client.query_one(&statement, &[&"x"]).await.unwrap().get::<_, &str>(0), "x");
    // In a comparison, the declared type is cast to the other one.
    let statement = client.prepare_typed("select title from books where pages = $1", &[Type::INT8]).await.unwrap();
    assert_eq!(client.query_one(&statement, &[&474_i64]).await.unwrap().get::<_, &str>(0), "Emma");
}

/// The queries of Java drivers for keys and indexes: there are none.
#[tokio::test]
async fn keys_and_indexes_can_be_asked_for() {
    let served = Served::new().await;
    let client = served.client().await;
    for query in [
        "select ct.relname, (information_schema._pg_expandarray(i.indkey)).n as key_seq,
            information_schema._pg_expandarray(i.indkey) as keys, a.attnum
            from pg_catalog.pg_class ct join pg_catalog.pg_attribute a on ct.oid = a.attrelid
            join pg_catalog.pg_index i on a.attrelid = i.indrelid where i.indisprimary",
        "select trim(both '\"' from pg_catalog.pg_get_indexdef(i.indexrelid, 1, false)) as column_name,
            pg_catalog.pg_get_expr(i.indpred, i.indrelid) from pg_catalog.pg_index i
            join pg_catalog.pg_class c on c.oid = i.indrelid where c.relname = 'books'",
        "select a.attname from pg_catalog.pg_attribute a join
            (select i.indrelid, information_schema._pg_expandarray(i.indkey) as keys from pg_catalog.pg_index i) i
            on a.attnum = (i.keys).x and a.attrelid = i.indrelid",
    ] {
        assert_eq!(texts(&client, query).await, "", "{query}");
    }
    let fields = "select (s).name, (t.s).\"B\" + abs(t.n) + $1 from (select named_struct('name', 'x', 'B', 2) as s, 0 as n) as t";
    let row = client.query_one(fields, &[&40_i64]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("x", 42));
    let setting = "select setting from pg_catalog.pg_settings where name = 'max_index_keys'";
    assert_snapshot!(texts(&client, setting).await, @"32");
}

/// A cursor, which drivers use if the fetch size is set.
#[tokio::test]
async fn rows_are_fetched_some_at_a_time() {
    let served = Served::new().await;
    let mut client = served.client().await;
    let transaction = client.transaction().await.unwrap();
    let all = transaction.bind("select value from generate_series(1, 5000)", &[]).await.unwrap();
    let other = transaction.bind("select title from books order by title", &[]).await.unwrap();
    let mut fetched = Vec::new();
    for most in [4, 1999, 5000] {
        let rows = transaction.query_portal(&all, most).await.unwrap();
        fetched.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        let titles = transaction.query_portal(&other, 1).await.unwrap();
        assert_eq!(titles.len(), 1);
    }
    assert_eq!(fetched, (1..=5000).collect::<Vec<_>>());
    transaction.commit().await.unwrap();
    let next = client.transaction().await.unwrap();
    let gone = said(&next.query_portal(&other, 1).await.unwrap_err());
    assert!(gone.starts_with("26000 Portal not found"), "{gone}");
    next.rollback().await.unwrap();
    assert_eq!(texts(&client, "select 1").await, "1");
}

#[tokio::test]
async fn tables_are_read_and_nothing_else() {
    let served = Served::new().await;
    let client = served.client().await;
    for statement in [
        "insert into lake.books values ('x', 1, 2000)",
        "update lake.books set pages = 1",
        "delete from lake.books",
        "create table x as select 1",
        "create view x as select 1",
        "select 1 as a into x",
        "with a as (select 1 as b) select * into y from a",
        "drop table lake.books",
        "copy lake.books to '/tmp/x.csv'",
        "copy (select 1) to stdout",
        "explain analyze insert into lake.books values ('x', 1, 2000)",
        "truncate table lake.books",
        "grant select on lake.books to x",
    ] {
        let (simple, prepared) =
            (texts(&client, statement).await, client.prepare(statement).await.err().map(|e| said(&e)));
        assert!(simple.starts_with("25006 cannot execute "), "{statement}: {simple}");
        assert_eq!(prepared, Some(simple), "{statement}");
    }
    assert_snapshot!(texts(&client, "insert into lake.books values ('x', 1, 2000)").await, @"25006 cannot execute INSERT in a read-only transaction: tables are read-only here");
    for set in ["set datafusion.runtime.memory_limit = '8G'", "set \"DataFusion.runtime.memory_limit\" to '8G'"] {
        let denied = "42501 permission denied to set parameter \"datafusion.runtime.memory_limit\"";
        assert_eq!(texts(&client, set).await, denied, "{set}");
        assert_eq!(client.prepare(set).await.err().map(|e| said(&e)).as_deref(), Some(denied), "{set}");
        assert_eq!(texts(&client, &format!("select 1; {set}")).await, denied, "{set}");
    }
    assert_snapshot!(texts(&client, "explain set datafusion.runtime.memory_limit = '8G'").await, @"25006 cannot execute EXPLAIN SET in a read-only transaction: tables are read-only here");
    // The connection is still usable.
    assert_snapshot!(texts(&client, "set extra_float_digits = 3; discard all; reset all; select 1").await, @"1");
}

#[tokio::test]
async fn errors_have_codes() {
    let served = Served::new().await;
    let client = served.client().await;
    assert_snapshot!(texts(&client, "selec 1").await, @"42601 invalid SQL: `selec` was found, but an SQL statement was expected");
    assert_snapshot!(texts(&client, "select nope from lake.books").await, @"42703 there is no column `nope` (columns: lake.books.title, lake.books.pages, lake.books.year)");
    assert_snapshot!(texts(&client, "select * from lake.bikes").await, @"42P01 there is no table `lake.bikes` in the catalog; create it, or check the name (tables: all, books)");
    assert_snapshot!(texts(&client, "select * from pond.fish").await, @"42P01 there is no table `pond.fish` in the catalog; create it, or check the name (databases: lake)");
    assert_snapshot!(texts(&client, "select title + 1 from lake.books").await, @"42804 this operation is not defined for these types (types: string + bigint, hint: cast one side to the type of the other)");
    assert_snapshot!(texts(&client, "select lenght(title) from lake.books").await, @"42883 there is no function `lenght`; did you mean `length`?");
    assert_snapshot!(texts(&client, "select i / 0 from lake.all").await, @"22012 a number was divided by zero (hint: `x / nullif(y, 0)` is null where `y` is zero)");
    assert_snapshot!(texts(&client, "select cast(title as int) from lake.books where title = 'Emma'").await, @"22P02 a text cannot be cast to the type (value: Emma, type: int, hint: `try_cast` returns null if a value does not fit)");
    served.lake.write("books/year=1815/b.jsonl", r#"{"pages": "many"}"#);
    let refused = texts(&client, "select sum(pages) from lake.books").await;
    assert!(refused.starts_with("22000 ") && refused.contains("b.jsonl") && refused.contains("many"), "{refused}");
    assert_snapshot!(texts(&client, "select 1").await, @"1");
}

#[tokio::test]
async fn clients_see_a_table_that_was_rebuilt_meanwhile() {
    let served = Served::new().await;
    let (one, other) = (served.client().await, served.client().await);
    let query = "select title from lake.books where year = 1815";
    assert_eq!(tokio::join!(texts(&one, query), texts(&other, query)), ("Emma".to_owned(), "Emma".to_owned()));
    let prepared = one.prepare(query).await.unwrap();
    served.lake.write("books/_versions/1/year=1815/a.jsonl", r#"{"title": "Emma, revised"}"#);
    let books = served.catalog.get_table("lake", "books").await.unwrap();
    let revised = books.partition(["1815"], served.lake.at("books/_versions/1/year=1815"));
    served.catalog.update_partitions(&books, &[revised]).await.unwrap();
    assert_eq!(texts(&one, query).await, "Emma, revised");
    assert_eq!(one.query(&prepared, &[]).await.unwrap()[0].get::<_, &str>(0), "Emma, revised");
    assert_eq!(texts(&other, query).await, "Emma, revised");
}

#[tokio::test]
async fn many_queries_run_side_by_side() {
    let served = Served::new().await;
    let clients = futures::future::join_all((0..8).map(|_| served.client())).await;
    let counts = clients.iter().map(|client| texts(client, "select count(*) from lake.books"));
    assert_eq!(futures::future::join_all(counts).await, vec!["3"; 8]);
}

#[tokio::test]
async fn clients_find_what_there_is() {
    let served = Served::new().await;
    let client = served.client().await;
    let tables =
        "select table_schema, table_name from information_schema.tables where table_schema = 'lake' order by 2";
    assert_snapshot!(texts(&client, tables).await, @"
    lake | all
    lake | books
    ");
    let shown = texts(&client, "show tables").await;
    assert!(shown.contains("hardtack | lake | books | BASE TABLE"), "{shown}");
    assert_snapshot!(texts(&client, "select current_database(), current_schema()").await, @"hardtack | lake");
    let columns = "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a
        join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'lake' and c.relname = 'books' and a.attnum > 0 order by a.attnum";
    assert_snapshot!(texts(&client, columns).await, @"
    title | text
    pages | integer
    year | integer
    ");
}

/// The queries of DBeaver when it connects.
#[tokio::test]
async fn dbeaver_starts() {
    let served = Served::new().await;
    let client = served.client().await;
    for query in [
        "SET extra_float_digits = 3",
        "SET application_name = 'PostgreSQL JDBC Driver'",
        "SELECT current_schema(),session_user",
        "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass",
        "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname='lake'",
        "select string_agg(word, ',') from pg_catalog.pg_get_keywords() where word <> ALL ('{a,abs,absolute}'::text[])",
        "SELECT version()",
        "SHOW search_path",
        "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE 1 = 1 AND datallowconn AND NOT datistemplate OR db.datname ='lake' ORDER BY db.datname",
        "SELECT typcategory FROM pg_catalog.pg_type WHERE 1<>1 LIMIT 1",
        "SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')",
    ] {
        if let Err(error) = client.simple_query(query).await {
            panic!("{query}: {}", said(&error));
        }
    }
}
