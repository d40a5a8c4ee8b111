//! Crawling tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::TimeDelta;
use datafusion::prelude::{DataFrame, cast, col};
use hardtack_catalog::{
    Catalog, CatalogExt, Column, Database, HiveType, NULL_PARTITION, Partition, Predicate, TableDescription,
    TableFormat, schema,
};
use hardtack_core::{ErrorKind, JobContext, Location, Sink};
use hardtack_sinks::ParquetDataset;
use hardtack_sources::ParquetFiles;
use hardtack_tables::{
    CrawlOptions, CrawlOutcome, CrawlReport, CrawledTable, Nanoseconds, Table, VacuumOptions, crawl, register_names,
    vacuum,
};
use hardtack_test_support::rows;
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use crate::faulty::FaultyCatalog;
use crate::files;
use crate::lake::{self, sales};
use crate::saving::day;
use crate::world::{World, cells, show};

/// The report of a crawl, in short.
pub(crate) fn said(report: &CrawlReport) -> String {
    let mut lines = Vec::new();
    for table in &report.tables {
        let CrawledTable { name, format, outcome, location, .. } = table;
        lines.push(format!("{outcome:?} {name} {format} {location}"));
        let typed = |c: &Column| format!("{} {}", c.name, c.data_type);
        lines.extend(table.columns_added.iter().map(|c| format!("  + {}", typed(c))));
        lines.extend(table.columns_retyped.iter().map(|c| format!("  ~ {} {} -> {}", c.name, c.from, c.to)));
        if *outcome == CrawlOutcome::Created {
            lines.extend(table.partition_keys.iter().map(|c| format!("  by {}", typed(c))));
        } else if table.statistics {
            lines.push("  statistics".to_owned());
        }
        let p = &table.partitions;
        for (what, names) in [("+", &p.added), ("~", &p.updated), ("missing", &p.missing), ("-", &p.dropped)] {
            lines.extend(names.iter().map(|name| format!("  {what} {name}")));
        }
        lines.extend(table.notes.iter().map(|note| format!("  note: {note}")));
    }
    let table = |table: &Option<String>| table.as_ref().map(|t| format!(" {t}")).unwrap_or_default();
    lines.extend(report.problems.iter().map(|p| format!("! {}{} {}", p.location, table(&p.table), p.message)));
    lines.join("\n")
}

pub(crate) async fn crawled(world: &World, location: &str) -> String {
    with(world, location, &CrawlOptions::default()).await
}

pub(crate) async fn with(world: &World, location: &str, options: &CrawlOptions) -> String {
    match crawl(&world.ctx, &Location::from(location), "lake", options).await {
        Ok(report) => said(&report),
        Err(error) => format!("{:?} {}", error.kind(), error),
    }
}

/// The contents of the catalog.
async fn everything(catalog: &dyn Catalog) -> (Vec<TableDescription>, BTreeMap<String, Vec<Partition>>) {
    let tables = catalog.list_tables("lake").await.unwrap_or_default();
    let mut partitions = BTreeMap::new();
    for table in &tables {
        partitions.insert(table.name.clone(), catalog.all_partitions(table, &Predicate::all()).await.unwrap());
    }
    (tables, partitions)
}

/// Checks that a second crawl changes nothing.
pub(crate) async fn settled(world: &World, location: &str) {
    let before = everything(world.catalog.as_ref()).await;
    let report = crawl(&world.ctx, &Location::from(location), "lake", &CrawlOptions::default()).await.unwrap();
    assert!(report.is_unchanged(), "{}", said(&report));
    assert_eq!(everything(world.catalog.as_ref()).await, before);
}

pub(crate) fn parquet(schema: &SchemaRef, json: &str) -> Vec<u8> {
    files::parquet(&files::rows(schema, json))
}

pub(crate) async fn sql(ctx: &JobContext, query: &str) -> DataFrame {
    register_names(ctx).unwrap();
    ctx.session().sql(query).await.unwrap()
}

#[tokio::test]
async fn a_lake_becomes_a_database() {
    let world = World::new();
    let schema = schema! { id: bigint, name: string };
    world.put("memory:/lake/customers/a.parquet", parquet(&schema, r#"{"id": 1, "name": "x"} {"id": 2}"#)).await;
    for year in [2024, 2025] {
        let order = parquet(&schema! { id: int, price: decimal(8, 2) }, r#"{"id": 1, "price": 9.5}"#);
        world.put(format!("memory:/lake/shop/Orders v2/year={year}/day={year}-01-01/a.parquet"), order).await;
    }
    world
        .put("memory:/lake/books/a.jsonl", "{\"title\": \"Emma\", \"tags\": [\"a\"], \"by\": {\"name\": \"Jane\"}}\n")
        .await;
    world.put("memory:/lake/books/_SUCCESS", "x").await;
    world.put("memory:/lake/books/.a.jsonl.crc", "x").await;
    world.put("memory:/lake/books/empty.jsonl", "").await;
    world.put("memory:/lake/books/_tmp/x.parquet", "x").await;
    world.put("memory:/lake/feeds/csv/a.csv", "id,day,price\n1,2024-01-01,0.5\n2,,1\n").await;
    world.put("memory:/lake/feeds/README.md", "# Feeds").await;
    let events = files::avro(&files::rows(&schema! { id: bigint }, r#"{"id": 7}"#));
    world.put("memory:/lake/events/a.avro", events).await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Created lake.books json memory:/lake/books
      + title string
      + tags array<string>
      + by struct<name:string>
    Created lake.customers parquet memory:/lake/customers
      + id bigint
      + name string
    Created lake.events avro memory:/lake/events
      + id bigint
    Created lake.csv csv memory:/lake/feeds/csv
      + id bigint
      + day date
      + price double
    Created lake.orders_v2 parquet memory:/lake/shop/Orders v2
      + id int
      + price decimal(8,2)
      by year int
      by day date
      + year=2024/day=2024-01-01
      + year=2025/day=2025-01-01
    ");
    settled(&world, "memory:/lake").await;
    assert_snapshot!(show(sql(&world.ctx, "select * from lake.orders_v2").await).await, @"
    +----+-------+------+------------+
    | id | price | year | day        |
    +----+-------+------+------------+
    | 1  | 9.50  | 2024 | 2024-01-01 |
    | 1  | 9.50  | 2025 | 2025-01-01 |
    +----+-------+------+------------+
    ");
    assert_snapshot!(show(sql(&world.ctx, "select title, tags[1], by['name'] from lake.books").await).await, @"
    +-------+---------------------------+---------------------+
    | title | lake.books.tags[Int64(1)] | lake.books.by[name] |
    +-------+---------------------------+---------------------+
    | Emma  | a                         | Jane                |
    +-------+---------------------------+---------------------+
    ");
    assert_snapshot!(show(sql(&world.ctx, "select * from lake.csv").await).await, @"
    +----+------------+-------+
    | id | day        | price |
    +----+------------+-------+
    | 1  | 2024-01-01 | 0.5   |
    | 2  |            | 1.0   |
    +----+------------+-------+
    ");
    assert_snapshot!(show(sql(&world.ctx, "select id from lake.events union select id from lake.customers").await).await, @"
    +----+
    | id |
    +----+
    | 1  |
    | 2  |
    | 7  |
    +----+
    ");
    let parameters = |name: &str, parameters: &BTreeMap<String, String>| {
        let sizes = |(key, value): (&String, &String)| match key.as_str() {
            "sizeKey" | "totalSize" => format!("{key}: {}", value.parse::<u64>().unwrap() > 0),
            _ => format!("{key}: {value}"),
        };
        format!("{name} {}", parameters.iter().map(sizes).collect::<Vec<_>>().join(", "))
    };
    let (tables, partitions) = everything(world.catalog.as_ref()).await;
    let all: Vec<String> = tables.iter().map(|t| parameters(&t.name, &t.parameters)).collect();
    assert_snapshot!(all.join("\n"), @"
    books EXTERNAL: TRUE, classification: json, compressionType: none, objectCount: 1, sizeKey: true, totalSize: true, typeOfData: file
    csv EXTERNAL: TRUE, areColumnsQuoted: false, classification: csv, columnsOrdered: true, compressionType: none, delimiter: ,, objectCount: 1, sizeKey: true, skip.header.line.count: 1, totalSize: true, typeOfData: file
    customers EXTERNAL: TRUE, classification: parquet, compressionType: none, objectCount: 1, recordCount: 2, sizeKey: true, totalSize: true, typeOfData: file
    events EXTERNAL: TRUE, classification: avro, compressionType: none, objectCount: 1, sizeKey: true, totalSize: true, typeOfData: file
    orders_v2 EXTERNAL: TRUE, classification: parquet, compressionType: none, objectCount: 2, recordCount: 2, sizeKey: true, totalSize: true, typeOfData: file
    ");
    assert_snapshot!(parameters("", &partitions["orders_v2"][0].parameters), @" objectCount: 1, recordCount: 1, sizeKey: true, totalSize: true");
    assert_eq!(partitions["orders_v2"][0].storage.columns, tables[4].storage.columns);
}

/// The files of a table in some format, and the expected outcome.
#[rstest]
#[case::widened(&[("a.jsonl", r#"{"a": 1, "b": true}"#), ("b.jsonl", r#"{"a": 1.5, "c": "x"}"#), ("c.jsonl", r#"{"b": "y"}"#)], "a double, b string, c string")]
#[case::caseless(&[("a.jsonl", r#"{"Id": 1, "By": {"First": 1}}"#)], "id bigint, by struct<first:bigint>")]
#[case::two_cases(&[("a.jsonl", r#"{"Id": 1, "id": 2}"#)], "! `Id` and `id` differ in case only, and a table knows no case; rename one (file: memory:/t/a.jsonl, column: Id); repair the file, or leave it out with --exclude")]
#[case::conflict(&[("a.jsonl", r#"{"a": 1}"#), ("b.jsonl", r#"{"a": {"x": 1}}"#)], "! `a` is a number in memory:/t/a.jsonl and an object in memory:/t/b.jsonl (column: a, file: memory:/t/b.jsonl, hint: read `a` as JSON text: `with_json_text([\"a\"])`, `crawl --type a=string`; declare a schema without it; or leave files out: `crawl --exclude`)")]
#[case::conflict_in_a_file(&[("a.jsonl", "{\"a\": 1}\n{\"a\": [1]}")], "! `a` is a list here and a number in an earlier row (file: memory:/t/a.jsonl, line: 2, hint: read `a` as JSON text: `with_json_text([\"a\"])`, `crawl --type a=string`; declare a schema without it; or leave files out: `crawl --exclude`)")]
#[case::instants_are_texts(&[("a.jsonl", r#"{"at": "2024-01-01T10:00:00Z"}"#)], "at string")]
#[case::broken(&[("a.jsonl", "{\"a\": ")], "! ")]
#[case::csv(&[("a.csv", "a,b,c\n1,x,2024-01-01\n2,y,2024-01-02\n")], "a bigint, b string, c date; 1 line ','")]
#[case::csv_timestamp(&[("a.csv", "a,b\n1,2024-01-01 10:00:00\n")], "a bigint, b string; 1 line ','")]
#[case::csv_quoted(&[("a.csv", "a,b,c,d\n1,\"x,y\",2024-01-01,1\n2,y,2024-01-02,\n")], "a bigint, b string, c string, d string; 1 line ',' quoted")]
#[case::csv_without_header(&[("a.csv", "1,x\n2,y\n"), ("b.csv", "3,z\n")], "column_1 bigint, column_2 string; 0 lines ','")]
#[case::csv_first_line_is_text(&[("a.csv", "x,y\nz,w\n")], "x string, y string; 1 line ',' note: all values are texts, so the first line is taken for a header; use --csv-header absent if it is a row")]
#[case::csv_one_with_header(&[("a.csv", "a,b\n1,x\n"), ("b.csv", "1,x\n")], "! memory:/t/a.csv seems to have a header, and this file none (file: memory:/t/b.csv, hint: give the file the header of the others, or read every first line as a row: `crawl --csv-header absent`)")]
#[case::csv_semicolons(&[("a.csv", "a;b\n1;1,5\n2;2,5\n")], "a bigint, b string; 1 line ';'")]
#[case::tsv(&[("a.tsv", "a\tb\n1\tx,y\n")], "a bigint, b string; 1 line '\t'")]
#[case::csv_more_columns(&[("a.csv", "a,b\n1,2\n"), ("b.csv", "a,b,c\n1,2,3\n")], "a bigint, b bigint, c bigint; 1 line ','")]
#[case::csv_other_order(&[("a.csv", "a,b\n1,2\n"), ("b.csv", "b,a\n1,2\n")], "a bigint, b bigint; 1 line ',' note: the columns of memory:/t/b.csv are in other positions than in the files before it: they are matched by name here, but Hive and Athena read them by position")]
#[case::csv_twice(&[("a.csv", "a,a\n1,2\n")], "! the header names `a` more than once (file: memory:/t/a.csv, column: a, hint: rename one; if the line is a row: `without_header()`, `crawl --csv-header absent`; if it is neither: `with_skip_lines(1)`, `crawl --csv-skip-lines 1`)")]
#[case::csv_leading_zeros(&[("a.csv", "zip,n\n01234,1\n")], "zip string, n bigint; 1 line ','")]
#[case::sniffed(&[("part-0000", "{\"a\": 1}\n"), ("part-0001", "{\"a\": 2}\n")], "a bigint")]
#[case::pretty(&[("a.json", "[{\n\"a\": 1\n}]")], "a bigint note: memory:/t/a.json does not have one object per line, as Athena and Hive require; it is read here")]
#[case::two_formats(&[("a.jsonl", "{\"a\": 1}"), ("b.csv", "a\n1")], "! the files have several formats: 1 file of CSV (memory:/t/b.csv), 1 file of JSON (memory:/t/a.jsonl); move those of another format, hide them by a leading `_`, or leave them out with --exclude")]
#[case::stray(&[("a.jsonl", "{\"a\": 1}"), ("notes.txt", "see wiki")], "! the files have several formats: 1 file of JSON (memory:/t/a.jsonl), 1 file of no known format (memory:/t/notes.txt); move those of another format, hide them by a leading `_`, or leave them out with --exclude")]
#[case::keys_differ(&[("y=1/a.jsonl", "{\"a\": 1}"), ("m=1/a.jsonl", "{\"a\": 1}")], "! the partitions are not alike: memory:/t/m=1/a.jsonl is in m, memory:/t/y=1/a.jsonl in y; move one of them, or leave it out with --exclude")]
#[case::beside_partitions(&[("a.jsonl", "{\"a\": 1}"), ("y=1/a.jsonl", "{\"a\": 1}")], "! the partitions are not alike: memory:/t/a.jsonl is in no partition, memory:/t/y=1/a.jsonl in y; move one of them, or leave it out with --exclude")]
#[case::not_one_below_another(&[("y=1/x/m=1/a.jsonl", "{\"a\": 1}")], "a bigint by y int, partition_1 string, m int note: the folder `x`: between folders of partitions, so it is a partition, too; --partition-names names the keys of a new table")]
#[case::twice(&[("y=/a.jsonl", "{\"a\": 1}"), ("y=__HIVE_DEFAULT_PARTITION__/a.jsonl", "{\"a\": 1}")], "a bigint by y string! memory:/t/y= and memory:/t/y=__HIVE_DEFAULT_PARTITION__ are folders of the same partition, and the second is left alone; merge them, or leave one out with --exclude")]
#[case::escaped_twice(&[("y=a%3Db/a.jsonl", "{\"a\": 1}"), ("y=a=b/a.jsonl", "{\"a\": 1}"), ("y=c/a.jsonl", "{\"a\": 1}")], "a bigint by y string! memory:/t/y=a%3Db and memory:/t/y=a=b are folders of the same partition, and the second is left alone; merge them, or leave one out with --exclude")]
#[case::key_in_file(&[("y=1/a.jsonl", "{\"a\": 1, \"Y\": 1}")], "a bigint by y int")]
#[case::delta(&[("_delta_log/0.json", "{}"), ("a.parquet", "x")], "! this is a table of Delta Lake, which is not read as plain files")]
#[case::iceberg(&[("metadata/v1.metadata.json", "{}"), ("data/a.parquet", "x")], "! this is a table of Iceberg, which is not read as plain files")]
#[case::no_parquet(&[("a.parquet", "nope")], "! ")]
#[tokio::test]
async fn files_become_columns(#[case] files: &[(&str, &str)], #[case] expected: &str) {
    let world = World::new();
    for (name, text) in files {
        // Verbatim, because paths of stores are not escaped twice.
        world.put(format!("memory:/t/{name}"), (*text).to_owned()).await;
    }
    let report = crawl(&world.ctx, &Location::from("memory:/t"), "lake", &CrawlOptions::default()).await.unwrap();
    let mut found = match report.tables.first() {
        None => String::new(),
        Some(table) => {
            let typed = |columns: &[Column]| {
                columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect::<Vec<_>>().join(", ")
            };
            let by = if table.partition_keys.is_empty() {
                String::new()
            } else {
                format!(" by {}", typed(&table.partition_keys))
            };
            let description = world.catalog.get_table("lake", "t").await.unwrap();
            let dialect = match description.format().unwrap() {
                TableFormat::Csv(csv) => {
                    let lines = if csv.header_lines == 1 { "line" } else { "lines" };
                    let quoted = if csv.quote.is_some() { " quoted" } else { "" };
                    format!("; {} {lines} '{}'{quoted}", csv.header_lines, char::from(csv.delimiter))
                }
                _ => String::new(),
            };
            let notes: String = table.notes.iter().map(|note| format!(" note: {note}")).collect();
            format!("{}{by}{dialect}{notes}", typed(&table.columns_added))
        }
    };
    found.extend(report.problems.iter().map(|p| format!("! {}", p.message)));
    match expected {
        // Its reader decides how a broken file is reported, but the file is named.
        "! " => assert!(found.starts_with("! ") && found.contains(files[0].0), "{found}"),
        expected => assert_eq!(found, expected),
    }
    settled(&world, "memory:/t").await;
}

#[rstest]
#[case::numbers(&["1", "2", "-3"], "int")]
#[case::large(&["1", "3000000000"], "bigint")]
#[case::zeros(&["01", "12"], "string")]
#[case::dates(&["2024-01-01", "2024-02-29"], "date")]
#[case::nearly_dates(&["2024-01-01", "2024-02-30"], "string")]
#[case::null_and_numbers(&["1", NULL_PARTITION], "int")]
#[case::nulls(&[NULL_PARTITION], "string")]
#[case::escaped(&["a/b", "100%", "x=y", "Müller & Söhne", "東京 1", "a:b"], "string")]
#[tokio::test]
async fn partition_keys_have_the_type_of_their_values(#[case] values: &[&str], #[case] declared: &str) {
    let world = World::new();
    for value in values {
        let folder = hardtack_catalog::partition_name(["Key"], &[(*value).to_owned()]);
        world.put(format!("memory:/lake/t/{folder}/a.jsonl"), format!("{{\"was\": {value:?}}}")).await;
    }
    crawled(&world, "memory:/lake").await;
    let table = world.catalog.get_table("lake", "t").await.unwrap();
    assert_eq!((table.partition_keys[0].name.as_str(), table.partition_keys[0].data_type.as_str()), ("key", declared));
    let mut registered: Vec<String> = world
        .catalog
        .all_partitions(&table, &Predicate::all())
        .await
        .unwrap()
        .into_iter()
        .flat_map(|p| p.values)
        .collect();
    let mut wanted: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
    registered.sort();
    wanted.sort();
    assert_eq!(registered, wanted);
    if declared == "string" && values[0] != NULL_PARTITION {
        let same = cells(sql(&world.ctx, "select count(*) from lake.t where key = was").await).await;
        assert_eq!(same, values.len().to_string());
    }
    settled(&world, "memory:/lake").await;
}

#[tokio::test]
async fn parquet_types_widen_over_files_or_are_a_conflict() {
    let world = World::new();
    let instant = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), true),
        Field::new("time", DataType::Time64(TimeUnit::Microsecond), true),
    ]));
    world.put("memory:/lake/t/a.parquet", parquet(&instant, r#"{"id": 1, "at": "2024-01-01T10:00:00Z"}"#)).await;
    world.put("memory:/lake/t/b.parquet", parquet(&schema! { ID: bigint, x: float }, r#"{"ID": 2, "x": 0.5}"#)).await;
    world.put("memory:/lake/t/c.parquet", parquet(&schema! { x: int }, r#"{"x": 2}"#)).await;
    for (name, schema) in [("a", schema! { x: int }), ("b", schema! { x: string })] {
        world.put(format!("memory:/lake/u/{name}.parquet"), parquet(&schema, "{}")).await;
    }
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Created lake.t parquet memory:/lake/t
      + id bigint
      + at timestamp
      + x double
      note: files hold nanoseconds, and a timestamp has microseconds, so finer values are refused when they are read: at; crawl with --nanoseconds text to have texts, or --nanoseconds truncate to round down
    ! memory:/lake/t lake.t the column `time` is left out: Hive has no type for Arrow's Time64(µs); cast it to one that Hive has, such as a string
    ! memory:/lake/u `x` is Int32 in memory:/lake/u/a.parquet and Utf8 in memory:/lake/u/b.parquet, which have no type in common (column: x, hint: rewrite one of them with a job, or set the type of the column, as in `hardtack crawl --type x=string` (a string holds the values of both))
    ");
    settled(&world, "memory:/lake").await;
    assert_snapshot!(show(sql(&world.ctx, "select * from lake.t").await).await, @"
    +----+---------------------+-----+
    | id | at                  | x   |
    +----+---------------------+-----+
    |    |                     | 2.0 |
    | 1  | 2024-01-01T10:00:00 |     |
    | 2  |                     | 0.5 |
    +----+---------------------+-----+
    ");
}

#[tokio::test]
async fn one_bad_partition_does_not_hold_up_the_others() {
    let world = World::new();
    let put = |day: u8, file: Vec<u8>| world.put(format!("memory:/lake/t/day={day}/a.parquet"), file);
    put(1, parquet(&schema! { x: string }, r#"{"x": "odd"}"#)).await;
    put(2, parquet(&schema! { x: int }, r#"{"x": 2}"#)).await;
    put(3, parquet(&schema! { x: bigint }, r#"{"x": 3}"#)).await;
    put(4, b"PAR1 not really".to_vec()).await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Created lake.t parquet memory:/lake/t
      + x bigint
      by day int
      + day=2
      + day=3
    ! memory:/lake/t/day=1 lake.t `x` is Int64 in memory:/lake/t/day=3/a.parquet and Utf8 in memory:/lake/t/day=1/a.parquet, which have no type in common (column: x, hint: rewrite one of them with a job, or set the type of the column, as in `hardtack crawl --type x=string` (a string holds the values of both))
    ! memory:/lake/t/day=4 lake.t Parquet error: Invalid Parquet file. Corrupt footer (file: memory:/lake/t/day=4/a.parquet); repair the file, or leave it out with --exclude
    ");
    settled(&world, "memory:/lake").await;
    assert_eq!(cells(sql(&world.ctx, "select x from lake.t order by x").await).await, "2;3");
    // Registered partitions take precedence over new ones.
    for day in 5..9 {
        put(day, parquet(&schema! { x: string }, r#"{"x": "odd"}"#)).await;
    }
    put(9, parquet(&schema! { x: int }, r#"{"x": 9}"#)).await;
    let said = crawled(&world, "memory:/lake").await;
    assert!(said.contains("  + day=9\n") && !said.contains("+ day=5"), "{said}");
    assert_eq!(said.matches("! memory:/lake/t/day=").count(), 6, "{said}");
    assert_eq!(cells(sql(&world.ctx, "select x from lake.t order by x").await).await, "2;3;9");
}

#[tokio::test]
async fn one_bad_partition_of_texts_does_not_hold_up_the_others() {
    let world = World::new();
    for (day, text) in [(1, r#"{"x": 1}"#), (2, r#"{"x": {"y": 1}}"#), (3, r#"{"x": "#), (4, r#"{"x": 4}"#)] {
        world.put(format!("memory:/lake/t/day={day}/a.jsonl"), text.to_owned()).await;
    }
    let said = crawled(&world, "memory:/lake").await;
    assert!(said.contains("  + day=1\n  + day=4\n! memory:/lake/t/day=2 "), "{said}");
    assert!(said.contains("\n! memory:/lake/t/day=3 "), "{said}");
    assert_eq!(cells(sql(&world.ctx, "select x from lake.t order by x").await).await, "1;4");
}

/// Old and new writers of one data set: old and current Spark, and others.
#[tokio::test]
async fn partitions_of_old_and_new_writers_are_one_table() {
    let world = World::new();
    let stamp = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
    let floats = |n| DataType::new_fixed_size_list(DataType::Float32, n, true);
    let map = |value| {
        let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
    };
    let file = |columns: Vec<(&str, DataType)>, json: &str| {
        let fields = columns.into_iter().map(|(name, of)| Field::new(name, of, true)).collect::<Vec<_>>();
        parquet(&Arc::new(Schema::new(fields)), json)
    };
    let put = |p: u8, file: Vec<u8>| world.put(format!("memory:/lake/t/p={p}/a.parquet"), file);
    put(1, files::int96("at", 376_200, 37_800_000_000_000)).await;
    let utc = stamp(TimeUnit::Microsecond, Some("UTC"));
    let list = DataType::new_list(DataType::Int32, true);
    put(
        2,
        file(
            vec![("at", utc), ("l", list), ("m", map(DataType::Int32))],
            r#"{"at": "2024-01-01T10:00:00Z", "l": [1], "m": {"a": 1}}"#,
        ),
    )
    .await;
    let zero = stamp(TimeUnit::Millisecond, Some("+00:00"));
    let large = DataType::new_large_list(DataType::Int64, true);
    put(
        3,
        file(
            vec![("at", zero), ("l", large), ("m", map(DataType::Int64))],
            r#"{"at": "2024-01-02T10:00:00Z", "l": [2, null], "m": {"b": 5000000000}}"#,
        ),
    )
    .await;
    let pair = DataType::new_fixed_size_list(DataType::Int16, 2, true);
    put(4, file(vec![("l", pair), ("v", floats(2))], r#"{"l": [3, 4], "v": [0.5, 1]}"#)).await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Created lake.t parquet memory:/lake/t
      + at timestamp
      + l array<bigint>
      + m map<string,bigint>
      + v array<float>
      by p int
      + p=1
      + p=2
      + p=3
      + p=4
    ");
    settled(&world, "memory:/lake").await;
    assert_snapshot!(show(sql(&world.ctx, "select * from lake.t").await).await, @"
    +---------------------+--------+-----------------+------------+---+
    | at                  | l      | m               | v          | p |
    +---------------------+--------+-----------------+------------+---+
    |                     | [3, 4] |                 | [0.5, 1.0] | 4 |
    | 2024-01-01T10:00:00 | [1]    | {a: 1}          |            | 2 |
    | 2024-01-02T10:00:00 | [2, ]  | {b: 5000000000} |            | 3 |
    | 3000-01-01T10:30:00 |        |                 |            | 1 |
    +---------------------+--------+-----------------+------------+---+
    ");
    assert_eq!(cells(sql(&world.ctx, "select v[1] from lake.t where l[2] = 4").await).await, "0.5");
}

#[tokio::test]
async fn nanoseconds_are_said_and_can_be_read() {
    let world = World::new();
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let schema = Arc::new(Schema::new(vec![
        Field::new("at", nanos.clone(), true),
        Field::new("l", DataType::new_list(nanos, true), true),
    ]));
    let json = r#"{"at": "2024-02-29T10:30:00.000001999", "l": ["1969-12-31T23:59:59.999999999"]}"#;
    world.put("memory:/lake/t/p=1/a.parquet", parquet(&schema, json)).await;
    let said = crawled(&world, "memory:/lake").await;
    assert!(
        said.contains("note: files hold nanoseconds") && said.contains(": at, l; crawl with --nanoseconds text"),
        "{said}"
    );
    settled(&world, "memory:/lake").await;
    let refused = show(sql(&world.ctx, "select at from lake.t").await).await;
    assert!(
        refused.starts_with("a value does not fit the declared type without loss (column: at, value: 2024"),
        "{refused}"
    );

    let how = |nanoseconds| CrawlOptions { nanoseconds, ..CrawlOptions::default() };
    let said = with(&world, "memory:/lake", &how(Nanoseconds::Truncate)).await;
    assert_snapshot!(said, @"
    Updated lake.t parquet memory:/lake/t
      note: nanoseconds are rounded down to microseconds: at, l
    ");
    settled(&world, "memory:/lake").await;
    let rounded = "2024-02-29T10:30:00.000001|[1969-12-31T23:59:59.999999]";
    assert_eq!(cells(sql(&world.ctx, "select at, l from lake.t").await).await, rounded);
    let filtered = "select at, l from lake.t where at = timestamp '2024-02-29 10:30:00.000001'";
    assert_eq!(cells(sql(&world.ctx, filtered).await).await, rounded);

    let said = with(&world, "memory:/lake", &how(Nanoseconds::Text)).await;
    assert_snapshot!(said, @"
    Updated lake.t parquet memory:/lake/t
      ~ at timestamp -> string
      ~ l array<timestamp> -> array<string>
      ~ p=1
    ");
    settled(&world, "memory:/lake").await;
    let texts = "2024-02-29T10:30:00.000001999|[1969-12-31T23:59:59.999999999]";
    assert_eq!(cells(sql(&world.ctx, "select at, l from lake.t").await).await, texts);
}

#[tokio::test]
async fn copies_and_unfinished_files_are_named() {
    let world = World::new();
    world.put("memory:/lake/t/a.jsonl", r#"{"id": 1}"#).await;
    for copy in ["a.jsonl.bak", "a.jsonl~", "b.jsonl.TMP"] {
        world.put(format!("memory:/lake/t/{copy}"), r#"{"id": 1}"#).await;
    }
    let said = crawled(&world, "memory:/lake").await;
    for copy in ["/a.jsonl.bak `.bak` is", "/a.jsonl~ `~` is", "/b.jsonl.TMP `.tmp` is"] {
        assert!(said.contains(&format!("! memory:/lake/t{copy} a suffix of copies")), "{said}");
    }
    // Like Hive, Spark and Athena.
    assert_eq!(cells(sql(&world.ctx, "select count(*) from lake.t").await).await, "4");
    let exclude = ["**/*.bak", "**/*~", "**/*.TMP"].map(str::to_owned).to_vec();
    let said = with(&world, "memory:/lake", &CrawlOptions { exclude, ..CrawlOptions::default() }).await;
    assert!(!said.contains('!'), "{said}");
    assert_eq!(cells(sql(&world.ctx, "select count(*) from lake.t").await).await, "1");
}

/// And not about its parents as well.
#[tokio::test]
async fn what_is_wrong_with_a_folder_is_said_of_it_alone() {
    let world = World::new();
    for file in ["t/a=1/x.jsonl", "t/a=2/x.jsonl", "t/stray.jsonl", "u/x.jsonl"] {
        world.put(format!("memory:/lake/data/{file}"), r#"{"id": 1}"#).await;
    }
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Created lake.u json memory:/lake/data/u
      + id bigint
    ! memory:/lake/data/t the partitions are not alike: memory:/lake/data/t/stray.jsonl is in no partition, memory:/lake/data/t/a=1/x.jsonl in a; move one of them, or leave it out with --exclude
    ");
    let exclude = vec!["data/t/stray.jsonl".to_owned()];
    let said = with(&world, "memory:/lake", &CrawlOptions { exclude, ..CrawlOptions::default() }).await;
    assert!(!said.contains('!') && said.contains("Created lake.t"), "{said}");
}

#[tokio::test]
async fn a_new_folder_whose_number_is_written_otherwise_is_told() {
    let world = World::new();
    world.put("memory:/lake/t/p=1/q=x/a.jsonl", r#"{"id": 1}"#).await;
    crawled(&world, "memory:/lake").await;
    for folder in ["p=01/q=01", "p=002/q=x", "p=3/q=x"] {
        world.put(format!("memory:/lake/t/{folder}/a.jsonl"), r#"{"id": 2}"#).await;
    }
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Updated lake.t json memory:/lake/t
      statistics
      + p=002/q=x
      + p=01/q=01
      + p=3/q=x
      note: a folder has `002` for the key `p`, which is declared int: queries see 2; to keep the notation, drop the table (`hardtack drop lake.t`) and crawl, which makes the key a string
    ");
    settled(&world, "memory:/lake").await;
    assert_eq!(cells(sql(&world.ctx, "select q from lake.t where p = 1 and id = 2").await).await, "01");
}

#[tokio::test]
async fn a_type_that_is_said_stays() {
    let world = World::new();
    let put = |day: u8, file: Vec<u8>| world.put(format!("memory:/lake/t/day={day}/a.parquet"), file);
    put(1, parquet(&schema! { x: string, y: decimal(10,2) }, r#"{"x": "odd", "y": "1.50"}"#)).await;
    put(2, parquet(&schema! { x: int, y: int }, r#"{"x": 2, "y": 2}"#)).await;
    let types = |types: &[(&str, &str)]| {
        let types = types.iter().map(|(name, of)| ((*name).to_owned(), of.parse().unwrap())).collect();
        CrawlOptions { types, ..CrawlOptions::default() }
    };
    let wanted = types(&[("X", "string"), ("y", "decimal(20,1)")]);
    assert_snapshot!(with(&world, "memory:/lake", &wanted).await, @"
    Created lake.t parquet memory:/lake/t
      + x string
      + y decimal(20,1)
      by day int
      + day=1
      + day=2
    ");
    settled(&world, "memory:/lake").await;
    let rows = "select x, y from lake.t order by x";
    assert_eq!(cells(sql(&world.ctx, rows).await).await, "2|2.0;odd|1.5");
    // Later files are read in the same way.
    put(3, parquet(&schema! { x: boolean, y: int }, r#"{"x": true, "y": 3}"#)).await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Updated lake.t parquet memory:/lake/t
      statistics
      + day=3
    ");
    settled(&world, "memory:/lake").await;
    assert_eq!(cells(sql(&world.ctx, rows).await).await, "2|2.0;odd|1.5;true|3.0");
    // It can be set for existing tables.
    assert_snapshot!(with(&world, "memory:/lake", &types(&[("y", "string")])).await, @"
    Updated lake.t parquet memory:/lake/t
      ~ y decimal(20,1) -> string
      ~ day=1
      ~ day=2
      ~ day=3
    ");
    settled(&world, "memory:/lake").await;
    assert_eq!(cells(sql(&world.ctx, rows).await).await, "2|2;odd|1.50;true|3");
    // A type that no value of the files has, and a missing column.
    assert_snapshot!(with(&world, "memory:/lake", &types(&[("x", "date"), ("why", "int")])).await, @"
    Unchanged lake.t parquet memory:/lake/t
    ! memory:/lake --type: no table here has a column `why`
    ! memory:/lake/t lake.t `x` holds Int32, which is never a value of Date32 (file: memory:/lake/t/day=2/a.parquet, column: x, hint: say another type for the column, or leave the file out: `--exclude`)
    ");
    assert_eq!(cells(sql(&world.ctx, rows).await).await, "2|2;odd|1.50;true|3");
}

#[tokio::test]
async fn texts_are_declared_as_what_is_said() {
    let world = World::new();
    world.put("memory:/lake/t/a.csv", "id,price,note\n007,1.50,\"a, b\"\n8,,c\n").await;
    let types = [("id", "int"), ("price", "decimal(10,2)")].map(|(name, of)| (name.to_owned(), of.parse().unwrap()));
    let wanted = CrawlOptions { types: types.into(), ..CrawlOptions::default() };
    assert_snapshot!(with(&world, "memory:/lake", &wanted).await, @"
    Created lake.t csv memory:/lake/t
      + id int
      + price decimal(10,2)
      + note string
      note: `id` is declared int, but the files have texts: values of another type are refused when they are read; `--type id=string` accepts all
    ");
    settled(&world, "memory:/lake").await;
    assert_eq!(cells(sql(&world.ctx, "select id, price from lake.t order by id").await).await, "7|1.50;8|");
    world.put("memory:/lake/t/b.csv", "id,price,note\nnine,1.5,d\n").await;
    let refused = show(sql(&world.ctx, "select id from lake.t").await).await;
    assert!(refused.contains("b.csv"), "{refused}");
    // These are texts by inference.
    world.put("memory:/decimals/t.csv", "day;price\n31.12.2024;1,50\n01.01.2025;2,75\n").await;
    let types = [("day", "date"), ("price", "decimal(10,2)")].map(|(name, of)| (name.to_owned(), of.parse().unwrap()));
    let wanted = CrawlOptions { types: types.into(), ..CrawlOptions::default() };
    assert_snapshot!(with(&world, "memory:/decimals", &wanted).await, @"
    Created lake.decimals csv memory:/decimals
      + day date
      + price decimal(10,2)
      note: `day` is declared date, but the files have texts: values of another type are refused when they are read; `--type day=string` accepts all
      note: `price` is declared decimal(10,2), but the files have texts: values of another type are refused when they are read; `--type price=string` accepts all
      note: all values are texts, so the first line is taken for a header; use --csv-header absent if it is a row
    ");
    let refused = show(sql(&world.ctx, "select price from lake.decimals").await).await;
    assert!(refused.contains("line: 2, column: price, value: \"1,50\""), "{refused}");
    // No type is set for these, and texts may still be numbers.
    world.put("memory:/lake/u/k=1/a.jsonl", r#"{"id": 1}"#).await;
    crawled(&world, "memory:/lake").await;
    world.put("memory:/lake/u/k=2/a.jsonl", r#"{"id": "x"}"#).await;
    let note = "`id` is declared bigint, but the files have texts: values of another type are refused when they are read; `--type id=string` accepts all";
    let said = crawled(&world, "memory:/lake").await;
    assert!(said.contains(note), "{said}");
    let types = CrawlOptions { types: [("id".to_owned(), HiveType::String)].into(), ..CrawlOptions::default() };
    with(&world, "memory:/lake/u", &types).await;
    assert_eq!(cells(sql(&world.ctx, "select id from lake.u order by id").await).await, "1;x");
    settled(&world, "memory:/lake/u").await;
}

/// The hint for a column with objects in one place and texts in another, for new and existing tables.
#[tokio::test]
async fn objects_and_texts_are_one_column_if_it_is_said_to_be_a_string() {
    let world = World::new();
    world.put("memory:/t/a.jsonl", "{\"id\": 1, \"v\": {\"x\": 1}}\n{\"id\": 2, \"V\": \"text\"}").await;
    world.put("memory:/u/a.jsonl", "{\"id\": 1, \"v\": \"text\"}").await;
    let said = CrawlOptions { types: [("V".to_owned(), HiveType::String)].into(), ..CrawlOptions::default() };
    assert_snapshot!(with(&world, "memory:/t", &said).await, @"
    Created lake.t json memory:/t
      + id bigint
      + v string
    ");
    settled(&world, "memory:/t").await;
    assert_eq!(cells(sql(&world.ctx, "select * from lake.t order by id").await).await, "1|{\"x\": 1};2|text");
    // An existing table, for which nothing was set before.
    crawled(&world, "memory:/u").await;
    world.put("memory:/u/b.jsonl", "{\"id\": 2, \"v\": [1, {\"y\": 2}]}").await;
    let read = "select v from lake.u order by id";
    let refused = show(sql(&world.ctx, read).await).await;
    assert!(refused.contains("file: memory:/u/b.jsonl, line: 1, column: v"), "{refused}");
    assert!(crawled(&world, "memory:/u").await.contains("`crawl --type v=string`"));
    with(&world, "memory:/u", &said).await;
    assert_eq!(cells(sql(&world.ctx, read).await).await, "text;[1, {\"y\": 2}]");
    settled(&world, "memory:/u").await;
}

#[tokio::test]
async fn a_table_grows_with_its_files_and_keeps_what_was_said_of_it() {
    let world = World::new();
    let table = TableDescription::new("lake", "sold", &TableFormat::Parquet, "memory:/lake/sales/")
        .with_description("What was sold")
        .with_columns([
            Column::foreign("id", "int").with_comment("of the order"),
            Column::foreign("note", "varchar(20)"),
            Column::foreign("price", "int"),
        ])
        .with_partition_keys([Column::foreign("day", "string").with_comment("of the order")])
        .with_parameter("owner", "shop");
    world.create(&table).await;
    world.partitions(&table, &[["mon"]]).await;
    let old = schema! { id: int, note: string, price: int };
    let new = schema! { id: bigint, note: string, price: double, Pieces: int };
    world.put("memory:/lake/sales/day=mon/a.parquet", parquet(&old, r#"{"id": 1}"#)).await;
    world.put("memory:/lake/sales/day=tue/a.parquet", parquet(&new, r#"{"id": 2, "Pieces": 3}"#)).await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Updated lake.sold parquet memory:/lake/sales
      + pieces int
      ~ id int -> bigint
      statistics
      + day=tue
      ~ day=mon
    ! memory:/lake/sales lake.sold the column `price` is declared int, but the files hold double
    ");
    let found = world.catalog.get_table("lake", "sold").await.unwrap();
    assert_eq!(found.description, table.description);
    assert_eq!(found.storage.columns[0].comment, table.storage.columns[0].comment);
    assert_eq!(
        (found.storage.columns[1].data_type.as_str(), found.parameters["owner"].as_str()),
        ("varchar(20)", "shop")
    );
    assert_eq!(found.partition_keys, table.partition_keys);
    settled(&world, "memory:/lake").await;
    assert_snapshot!(cells(sql(&world.ctx, "select id, pieces, day from lake.sold order by id").await).await, @"1||mon;2|3|tue");
}

#[tokio::test]
async fn what_is_declared_of_texts_stays() {
    let world = World::new();
    let csv = TableDescription::new("lake", "csv", &TableFormat::csv(), "memory:/lake/csv")
        .with_columns([("number", "int"), ("day", "date"), ("n", "int")].map(|(n, t)| Column::foreign(n, t)));
    world.create(&csv).await;
    let json = TableDescription::new("lake", "json", &TableFormat::Json, "memory:/lake/json").with_columns(
        [("id", "string"), ("at", "timestamp"), ("by", "struct<name:string>")].map(|(n, t)| Column::foreign(n, t)),
    );
    world.create(&json).await;
    // The header uses another name for the first column.
    world.put("memory:/lake/csv/a.csv", "id,day,n,more\n1,2024-01-01,1.5,x\n").await;
    world
        .put("memory:/lake/json/a.jsonl", r#"{"id": 1, "at": "2024-01-01T00:00:00Z", "by": {"name": "x", "age": 1}}"#)
        .await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Updated lake.csv csv memory:/lake/csv
      + more string
      statistics
    Updated lake.json json memory:/lake/json
      ~ by struct<name:string> -> struct<name:string,age:bigint>
      statistics
    ! memory:/lake/csv lake.csv the column `n` is declared int, but the files hold double
    ");
    settled(&world, "memory:/lake").await;
}

#[tokio::test]
async fn a_name_is_never_taken_from_another_table() {
    let world = World::new();
    world.create(&TableDescription::new("lake", "books", &TableFormat::Json, "memory:/elsewhere/books")).await;
    for folder in ["books", "a/films", "b/films", "c/Films", "c/films"] {
        world.put(format!("memory:/lake/{folder}/a.jsonl"), r#"{"a": 1}"#).await;
    }
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Created lake.films json memory:/lake/a/films
      + a bigint
    Created lake.b_films json memory:/lake/b/films
      + a bigint
      note: another folder has the table `films`, so this one is prefixed with the name of its parent folder
    Created lake.c_films json memory:/lake/c/Films
      + a bigint
      note: another folder has the table `films`, so this one is prefixed with the name of its parent folder
    Created lake.lake_c_films json memory:/lake/c/films
      + a bigint
      note: another folder has the table `films`, so this one is prefixed with the name of its parent folder
    ! memory:/lake/books there is a table `lake.books` already, with another folder (hint: rename the folder, or use --table-prefix)
    ");
    settled(&world, "memory:/lake").await;
    let raw = CrawlOptions { table_prefix: "raw_".to_owned(), ..CrawlOptions::default() };
    assert_snapshot!(with(&world, "memory:/lake", &raw).await, @"
    Unchanged lake.films json memory:/lake/a/films
    Unchanged lake.b_films json memory:/lake/b/films
    Created lake.raw_books json memory:/lake/books
      + a bigint
    Unchanged lake.c_films json memory:/lake/c/Films
    Unchanged lake.lake_c_films json memory:/lake/c/films
    ");
    let books = world.catalog.get_table("lake", "books").await.unwrap();
    assert_eq!(books.location().unwrap().as_str(), "memory:/elsewhere/books");
}

#[tokio::test]
async fn nested_folders_and_stray_files() {
    let world = World::new();
    let json = r#"{"a": 1}"#;
    // Files deeper in a table belong to it, even if its own folder has none.
    world.put("memory:/lake/deep/a.jsonl", json).await;
    world.put("memory:/lake/deep/2024/01/a.jsonl", json).await;
    // A stray file does not hide the tables beside it.
    world.put("memory:/lake/shop/export.csv", "a,b\n1,2\n").await;
    world.put("memory:/lake/shop/orders/a.jsonl", json).await;
    world.put("memory:/lake/shop/items/k=1/a.jsonl", json).await;
    // A table may be registered above folders that would be tables of their own.
    world.create(&TableDescription::new("lake", "all", &TableFormat::Json, "memory:/lake/logs")).await;
    world.put("memory:/lake/logs/x/a.jsonl", json).await;
    world.put("memory:/lake/logs/y/a.jsonl", json).await;
    // And below.
    world.create(&TableDescription::new("lake", "inner", &TableFormat::Json, "memory:/lake/outer/inner")).await;
    world.put("memory:/lake/outer/a.jsonl", json).await;
    world.put("memory:/lake/outer/inner/a.jsonl", json).await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Created lake.deep json memory:/lake/deep
      + a bigint
    Updated lake.all json memory:/lake/logs
      + a bigint
      statistics
    Updated lake.inner json memory:/lake/outer/inner
      + a bigint
      statistics
    Created lake.items json memory:/lake/shop/items
      + a bigint
      by k int
      + k=1
    Created lake.orders json memory:/lake/shop/orders
      + a bigint
    ! memory:/lake/outer there are files here, but a folder below, memory:/lake/outer/inner, is a table already; move one of them
    ! memory:/lake/shop the files have several formats: 1 file of CSV (memory:/lake/shop/export.csv), 2 files of JSON (memory:/lake/shop/items/k=1/a.jsonl); move those of another format, hide them by a leading `_`, or leave them out with --exclude
    ");
    settled(&world, "memory:/lake").await;
    assert_snapshot!(crawled(&world, "memory:/lake/logs/x").await, @"Usage this folder is inside the table `lake.all`; crawl the table's folder (location: memory:/lake/logs/x, folder of the table: lake/logs)");
    assert_snapshot!(crawled(&world, "memory:/lake/shop/items/k=1").await, @"Usage this folder is inside the table `lake.items`; crawl the table's folder (location: memory:/lake/shop/items/k=1, folder of the table: lake/shop/items)");
    assert_snapshot!(crawled(&world, "memory:/other/y=1").await, @"Usage `y=1` is a partition of a table; crawl the folder above (location: memory:/other/y=1)");
    assert_snapshot!(crawled(&world, "memory:/lake/deep/a.jsonl").await, @"Usage this folder is inside the table `lake.deep`; crawl the table's folder (location: memory:/lake/deep/a.jsonl, folder of the table: lake/deep)");
    assert_snapshot!(crawled(&world, "memory:/nothing").await, @"! memory:/nothing no file here is Parquet, JSON, CSV or Avro");
    assert_snapshot!(crawled(&world, "memory:/lake/deep/").await, @"Unchanged lake.deep json memory:/lake/deep");
}

#[tokio::test]
async fn partitions_come_and_go() {
    let world = World::new();
    let put = |day: &str| world.put(format!("memory:/lake/t/day={day}/a.jsonl"), r#"{"a": 1}"#.to_owned());
    for day in ["mon", "tue", "wed"] {
        put(day).await;
    }
    crawled(&world, "memory:/lake").await;
    // Renamed, gone, new.
    let (store, root) = world.ctx.stores().open(&Location::from("memory:/lake/t")).unwrap();
    use object_store::ObjectStoreExt;
    for day in ["mon", "wed"] {
        store.objects.delete(&root.clone().join(format!("day={day}")).join("a.jsonl")).await.unwrap();
    }
    put("monday").await;
    let dry = CrawlOptions { dry_run: true, delete_missing: true, ..CrawlOptions::default() };
    let before = everything(world.catalog.as_ref()).await;
    assert_snapshot!(with(&world, "memory:/lake", &dry).await, @"
    Updated lake.t json memory:/lake/t
      statistics
      + day=monday
      - day=mon
      - day=wed
    ");
    assert_eq!(everything(world.catalog.as_ref()).await, before);
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Updated lake.t json memory:/lake/t
      statistics
      + day=monday
      missing day=mon
      missing day=wed
    ");
    settled(&world, "memory:/lake").await;
    let delete = CrawlOptions { delete_missing: true, ..CrawlOptions::default() };
    assert_snapshot!(with(&world, "memory:/lake", &delete).await, @"
    Updated lake.t json memory:/lake/t
      - day=mon
      - day=wed
    ");
    assert_snapshot!(cells(sql(&world.ctx, "select day from lake.t order by day").await).await, @"monday;tue");
    settled(&world, "memory:/lake").await;
    // All of them.
    for day in ["tue", "monday"] {
        store.objects.delete(&root.clone().join(format!("day={day}")).join("a.jsonl")).await.unwrap();
    }
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Unchanged lake.t json memory:/lake/t
      missing day=monday
      missing day=tue
      note: there is no file in its folder
    ");
    assert_snapshot!(with(&world, "memory:/lake", &delete).await, @"
    Updated lake.t json memory:/lake/t
      - day=monday
      - day=tue
      note: there is no file in its folder
    ");
}

#[tokio::test]
async fn partitions_that_point_elsewhere_and_values_that_do_not_fit_are_left_alone() {
    let world = World::new();
    let table = TableDescription::new("lake", "t", &TableFormat::Json, "memory:/lake/t")
        .with_columns([Column::foreign("a", "bigint")])
        .with_partition_keys([Column::foreign("year", "int")]);
    world.create(&table).await;
    let elsewhere =
        [table.partition(["2020"], "memory:/archive/2020"), table.partition(["2021"], "memory:/lake/t/old/2021")];
    world.catalog.add_partitions(&table, &elsewhere).await.unwrap();
    for year in ["2020", "2021", "2022", "soon"] {
        world.put(format!("memory:/lake/t/year={year}/a.jsonl"), r#"{"a": 1}"#).await;
    }
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Updated lake.t json memory:/lake/t
      + year=2022
      ~ year=2021
    ! memory:/lake/t lake.t memory:/lake/t/year=soon is not a partition of the table: `soon` is not a value of the type int
    ");
    settled(&world, "memory:/lake").await;
    let partitions = world.catalog.all_partitions(&table, &Predicate::all()).await.unwrap();
    let locations: Vec<&str> = partitions.iter().map(|p| p.storage.location.as_ref().unwrap().as_str()).collect();
    assert_eq!(locations, ["memory:/archive/2020", "memory:/lake/t/year=2021", "memory:/lake/t/year=2022"]);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::new();
    world.put("memory:/lake/t/k=1/a.jsonl", r#"{"a": 1}"#).await;
    let dry = CrawlOptions { dry_run: true, ..CrawlOptions::default() };
    let would = with(&world, "memory:/lake", &dry).await;
    assert_eq!(world.catalog.list_databases().await.unwrap(), []);
    assert_eq!(crawled(&world, "memory:/lake").await, would);
}

#[tokio::test]
async fn many_partitions_cost_few_requests() {
    let world = World::new();
    for i in 0..10_000 {
        world.put(format!("memory:/lake/t/k={i}/a.jsonl"), r#"{"a": 1}"#).await;
    }
    world.asked();
    crawled(&world, "memory:/lake").await;
    assert_snapshot!(world.asked(), @"
    add_partitions 1 (10000)
    create_database 1 (1)
    create_table 1 (1)
    get_database 1 (1)
    list_tables 1 (0)
    GET 10000
    HEAD 1
    LIST 1
    ");
    world.put("memory:/lake/t/k=10000/a.jsonl", r#"{"a": 1}"#).await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Updated lake.t json memory:/lake/t
      statistics
      + k=10000
    ");
    assert_snapshot!(world.asked(), @"
    add_partitions 1 (1)
    get_table 1 (1)
    list_partitions 11 (10000)
    list_tables 1 (1)
    update_table 1 (1)
    GET 10001
    HEAD 1
    LIST 1
    ");
}

// --- tables that jobs write ----------------------------------------------------------------------------------------

async fn crawled_lake(world: &lake::World) -> String {
    let report = crawl(&world.run(), &world.dir.at("lake"), "lake", &CrawlOptions::default()).await.unwrap();
    said(&report).replace(&world.dir.at("lake").to_string(), "")
}

#[tokio::test]
async fn what_jobs_have_replaced_stays_replaced() {
    let world = lake::World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue" }).await;
    world.save(sales().overwrite_partitions(), day("mon", &[3])).await;
    let before = everything(world.catalog.as_ref()).await;
    // The old file still exists, in the partition's default folder.
    assert_eq!(world.files("lake/sales/day=mon").len(), 1);
    assert_snapshot!(crawled_lake(&world).await, @"Unchanged lake.sales parquet /sales");
    assert_eq!(everything(world.catalog.as_ref()).await, before);
    let at_once = VacuumOptions { grace_period: TimeDelta::zero(), ..VacuumOptions::default() };
    vacuum(&world.run(), &sales(), &at_once).await.unwrap();
    assert_snapshot!(crawled_lake(&world).await, @"Unchanged lake.sales parquet /sales");
    assert_eq!(everything(world.catalog.as_ref()).await, before);
    // Everything is in versions now, and nothing is reported as missing.
    world.save(sales().overwrite(), rows! { id, day; 5, "mon"; 6, "tue" }).await;
    vacuum(&world.run(), &sales(), &at_once).await.unwrap();
    let delete = CrawlOptions { delete_missing: true, ..CrawlOptions::default() };
    let report = crawl(&world.run(), &world.dir.at("lake"), "lake", &delete).await.unwrap();
    assert!(report.is_unchanged() && report.problems.is_empty(), "{}", said(&report));
    assert_eq!(world.rows("sales").await, ["day=mon id=5", "day=tue id=6"]);
}

#[tokio::test]
async fn tables_that_jobs_replace_as_a_whole_are_left_alone() {
    let world = lake::World::with_sales("id: bigint", "").await;
    world.save(sales(), rows! { id; 1 }).await;
    world.save(sales().overwrite(), rows! { id; 2 }).await;
    let before = everything(world.catalog.as_ref()).await;
    assert_snapshot!(crawled_lake(&world).await, @"
    Unchanged lake.sales parquet /sales
      note: a job replaces this table as a whole; its rows are not those in its folder
    ");
    assert_eq!(everything(world.catalog.as_ref()).await, before);
    assert_eq!(world.rows("sales").await, ["id=2"]);
}

/// If only jobs that replace have ever written files, a crawl sees none, and that is as it should be.
#[tokio::test]
async fn a_lake_whose_only_table_is_replaced_by_jobs_has_no_problems() {
    for keys in ["", "day: string"] {
        let world = lake::World::with_sales("id: bigint", keys).await;
        let rows = if keys.is_empty() {
            rows! { id; 1 }
        } else {
            day("mon", &[1])
        };
        world.save(sales().overwrite(), rows).await;
        assert_eq!(world.files("lake"), [""; 0]);
        let before = everything(world.catalog.as_ref()).await;
        for folder in ["lake", "lake/sales"] {
            let report = crawl(&world.run(), &world.dir.at(folder), "lake", &CrawlOptions::default()).await.unwrap();
            assert!(report.is_unchanged() && report.problems.is_empty(), "{}", said(&report));
        }
        assert_eq!(everything(world.catalog.as_ref()).await, before);
    }
    // A completely empty lake is still reported.
    let nothing = crawled_lake(&lake::World::new().await).await;
    assert!(nothing.contains("no file here is Parquet, JSON, CSV or Avro"), "{nothing}");
}

#[tokio::test]
async fn counts_of_jobs_stay_right_beside_crawls() {
    let world = lake::World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon" }).await;
    crawled_lake(&world).await;
    world.save(sales(), rows! { id, day; 2, "mon"; 3, "tue" }).await;
    // Somebody else adds a partition without a row count.
    let from = world.files("lake/sales/day=tue").remove(0);
    let copy = world.dir.path().join("lake/sales/day=wed/b.parquet");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::fs::copy(world.dir.path().join(from), copy).unwrap();
    assert_snapshot!(crawled_lake(&world).await, @"
    Updated lake.sales parquet /sales
      + day=wed
    ");
    assert_snapshot!(crawled_lake(&world).await, @"Unchanged lake.sales parquet /sales");
    world.save(sales(), rows! { id, day; 4, "mon"; 5, "wed" }).await;
    let counts: Vec<String> =
        world.counts("sales").await.iter().map(|(name, count)| format!("{name} {count}")).collect();
    assert_snapshot!(counts.join("\n"), @"
    all ?, no totalSize
    day=mon 3
    day=tue 1
    day=wed ?, no totalSize
    ");
    assert_eq!(
        world.rows("sales").await,
        ["day=mon id=1", "day=mon id=2", "day=mon id=4", "day=tue id=3", "day=wed id=3", "day=wed id=5"]
    );
}

/// A committed run is published while a crawl updates the partitions that the run points elsewhere.
#[tokio::test]
async fn a_run_that_comes_at_the_same_time_comes_out_on_top() {
    let world = lake::World::new().await;
    let dataset = ParquetDataset::new("sales", world.dir.at("lake/sales")).partition_by(["day"]);
    let ctx = world.run();
    let rows = rows! { id, day; 1, "mon"; 2, "tue" };
    let staged = dataset.stage(&ctx.staging("out"), rows.to_df(ctx.session())).await.unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    crawled_lake(&world).await;
    // The counts are wrong, so a crawl updates the partitions.
    let table = world.table("sales").await;
    let mut partitions = world.partitions("sales").await;
    partitions.iter_mut().for_each(|p| _ = p.parameters.insert("recordCount".to_owned(), "77".to_owned()));
    world.catalog.update_partitions(&table, &partitions).await.unwrap();
    let (ctx, staged) = world.stage(sales().overwrite_partitions(), day("mon", &[3])).await.unwrap();
    let publish = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(ctx.publish(&staged.publish)).unwrap();
    };
    let interrupted = FaultyCatalog::interrupted(world.catalog.clone(), Box::new(publish));
    let report =
        crawl(&world.run_on(interrupted), &world.dir.at("lake"), "lake", &CrawlOptions::default()).await.unwrap();
    assert_eq!(report.tables[0].partitions.updated, ["day=mon", "day=tue"]);
    assert_eq!(world.rows("sales").await, ["day=mon id=3", "day=tue id=2"]);
}

// --- laws ----------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Files of our own writer read the same by name and directly, and a second crawl finds nothing to do.
    #[test]
    fn a_crawled_table_has_the_rows_of_its_files(
        rows in prop::collection::vec((any::<Option<i64>>(), "[a-z]{0,3}", prop::option::of("[ -~äß東]{1,6}"), 0..4_i64), 1..12),
        keys in prop::sample::subsequence(vec!["k", "y"], 0..=2),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let schema = schema! { n: bigint, s: string, k: string, y: bigint };
            let json = |(n, s, k, y): &(Option<i64>, String, Option<String>, i64)| serde_json::json!({"n": n, "s": s, "k": k, "y": y}).to_string();
            let batch = files::rows(&schema, &rows.iter().map(json).collect::<Vec<_>>().join(" "));
            let frame = world.ctx.session().read_batch(batch).unwrap();
            let staged = ParquetDataset::new("t", "memory:/lake/t").partition_by(keys).stage(&world.ctx.staging("out"), frame).await.unwrap();
            world.ctx.publish(&staged.publish).await.unwrap();
            let report = crawl(&world.ctx, &Location::from("memory:/lake"), "lake", &CrawlOptions::default()).await.unwrap();
            assert_eq!((report.tables.len(), report.problems.len()), (1, 0), "{}", said(&report));
            settled(&world, "memory:/lake").await;
            let columns = ["n", "s", "k", "y"];
            let texts = |rows: DataFrame| rows.select(columns.map(|c| cast(col(c), DataType::Utf8).alias(c))).unwrap();
            let direct = world.ctx.load(ParquetFiles::new("direct", "memory:/lake/t").with_hive_partitions()).await.unwrap();
            let named = world.ctx.load(Table::named("lake", "t")).await.unwrap();
            assert_eq!(show(texts(named)).await, show(texts(direct)).await);
            let counted = world.catalog.get_table("lake", "t").await.unwrap().parameters["recordCount"].clone();
            assert_eq!(counted, rows.len().to_string());
        });
    }
}

#[tokio::test]
async fn compressed_texts_are_tables_too() {
    let world = World::new();
    let csv = |rows: &str| files::gzip(&format!("id,price\n{rows}"));
    world.put("memory:/lake/books/a.jsonl.gz", files::gzip("{\"title\": \"Emma\"}\n{\"title\": \"Dune\"}\n")).await;
    world.put("memory:/lake/books/b.json.gz", files::gzip("{\"title\": \"Ada\", \"pages\": 5}\n")).await;
    world.put("memory:/lake/sales/day=2026-01-01/a.csv.gz", csv("1,0.5\n2,1\n")).await;
    world.put("memory:/lake/sales/day=2026-01-02/a.csv.gz", csv("3,2\n")).await;
    world.put("memory:/lake/sales/day=2026-01-02/b.csv", "id,price\n4,\n").await;
    assert_snapshot!(crawled(&world, "memory:/lake").await, @"
    Created lake.books json memory:/lake/books
      + title string
      + pages bigint
    Created lake.sales csv memory:/lake/sales
      + id bigint
      + price double
      by day date
      + day=2026-01-01
      + day=2026-01-02
    ");
    settled(&world, "memory:/lake").await;
    let compression = |name| {
        let catalog = Arc::clone(&world.catalog);
        async move { catalog.get_table("lake", name).await.unwrap().parameters["compressionType"].clone() }
    };
    assert_snapshot!([compression("books").await, compression("sales").await].join(", "), @"gzip, gzip");
    assert_snapshot!(cells(sql(&world.ctx, "select * from lake.books order by title").await).await, @"Ada|5;Dune|;Emma|");
    assert_snapshot!(cells(sql(&world.ctx, "select * from lake.sales order by id").await).await, @"1|0.5|2026-01-01;2|1.0|2026-01-01;3|2.0|2026-01-02;4||2026-01-02");
}

#[tokio::test]
async fn what_is_wrong_is_an_error_before_anything_is_done() {
    let world = World::new();
    world.catalog.ensure_database(&Database::new("lake")).await.unwrap();
    let error = crawl(&world.ctx, &Location::from("memory:/lake"), "a b", &CrawlOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_snapshot!(error, @"`a b` is not a valid name for a database; use letters, digits, `_` and `-`");
}
