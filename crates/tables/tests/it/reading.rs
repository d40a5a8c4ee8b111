//! Tables as sources.

use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::prelude::{Expr, col, in_list, lit};
use hardtack_catalog::{
    self as catalog, Catalog, Column, CsvFormat, NULL_PARTITION, StorageDescriptor, TableFormat, schema,
};
use hardtack_core::{ErrorKind, Location, Source};
use hardtack_tables::Table;
use insta::assert_snapshot;
use rstest::rstest;

use crate::files::{avro, int96, parquet, rows};
use crate::world::{World, cells, show};

const HERE: &str = "memory:/lake/books";

/// `lake.books`, by year.
fn books(format: &TableFormat) -> catalog::TableDescription {
    table(format, &[("title", "string"), ("pages", "int")]).with_partition_keys([Column::foreign("year", "int")])
}

fn table(format: &TableFormat, columns: &[(&str, &str)]) -> catalog::TableDescription {
    let columns = columns.iter().map(|(name, of)| Column::foreign(*name, *of));
    catalog::TableDescription::new("lake", "books", format, HERE).with_columns(columns)
}

/// The same under another name.
fn named(name: &str, mut table: catalog::TableDescription) -> catalog::TableDescription {
    name.clone_into(&mut table.name);
    table
}

fn two_books() -> Vec<u8> {
    let json = r#"{"title": "Emma", "pages": 400} {"title": "Ulysses", "pages": 700}"#;
    parquet(&rows(&schema! { title: string, pages: int }, json))
}

// --- pruning -------------------------------------------------------------------------------------------------------

/// A thousand partitions, of which two have a file.
async fn a_thousand_years() -> World {
    let (world, books) = (World::new(), books(&TableFormat::Parquet));
    world.create(&books).await;
    let years: Vec<String> = (1000..2000).map(|year| year.to_string()).collect();
    world.partitions(&books, &years.iter().map(|year| [year.as_str()]).collect::<Vec<_>>()).await;
    for year in ["1987", "1988"] {
        world.put(format!("{HERE}/year={year}/part-0"), two_books()).await;
    }
    world.asked();
    world
}

#[tokio::test]
async fn one_of_a_thousand_partitions_is_read_by_one_page_and_one_listing() {
    let world = a_thousand_years().await;
    let rows = world.load("lake.books").await.unwrap();
    assert_snapshot!(world.asked(), @"get_table 1 (1)");
    let rows = rows.filter(col("year").eq(lit(1987)).and(col("pages").gt(lit(500)))).unwrap();
    assert_snapshot!(show(rows).await, @"
    +---------+-------+------+
    | title   | pages | year |
    +---------+-------+------+
    | Ulysses | 700   | 1987 |
    +---------+-------+------+
    ");
    assert_snapshot!(world.asked(), @"
    list_partitions 2 (1)
    GET 1
    LIST 1
    ");
}

/// Filters that a catalog cannot express are evaluated on the values: partitions are fetched, but folders are not
/// listed.
#[rstest]
#[case::ranges(col("year").gt(lit(1986)).and(col("year").lt_eq(lit(1988))), 4, "list_partitions 2 (2), LIST 2")]
#[case::list(in_list(col("year"), vec![lit(1987), lit(1500)], false), 2, "list_partitions 2 (2), LIST 2")]
#[case::computed((col("year") % lit(500)).eq(lit(487)), 2, "list_partitions 2 (1000), LIST 2")]
#[case::either(col("year").eq(lit(1988)).or(col("year").lt(lit(1000))), 2, "list_partitions 2 (1000), LIST 1")]
#[case::both((col("year") % lit(2)).eq(lit(1)).and(col("year").gt_eq(lit(1998))), 0, "list_partitions 2 (2), LIST 1")]
#[case::none(col("year").is_null(), 0, "list_partitions 2 (1000)")]
#[case::with_columns(col("year").eq(lit(1987)).or(col("pages").lt(lit(500))), 3, "list_partitions 2 (1000), LIST 1000")]
#[tokio::test]
async fn only_folders_that_a_filter_leaves_are_listed(
    #[case] filter: Expr,
    #[case] expected: usize,
    #[case] asked: &str,
) {
    let world = a_thousand_years().await;
    let rows = world.load("lake.books").await.unwrap().filter(filter).unwrap();
    world.asked();
    assert_eq!(rows.count().await.unwrap(), expected);
    let lines = world.asked();
    let lines: Vec<&str> = lines.lines().filter(|line| !line.starts_with("GET")).collect();
    assert_eq!(lines.join(", "), asked);
}

#[tokio::test]
async fn a_question_about_partitions_only_reads_no_column() {
    let world = a_thousand_years().await;
    let years = world.load("lake.books").await.unwrap().filter(col("year").gt(lit(1980))).unwrap();
    assert_snapshot!(show(years.select_columns(&["year"]).unwrap().distinct().unwrap()).await, @"
    +------+
    | year |
    +------+
    | 1987 |
    | 1988 |
    +------+
    ");
    let counts = world.ctx.meters().source("lake.books").counts();
    assert_eq!((counts.files, counts.rows), (2, 4));
}

#[rstest]
#[case("string", &["a/b", "100%", "a b", "Köln", "x=y", "'\"", "NULL", NULL_PARTITION], "a/b|100%|a b|Köln|x=y|'\"|NULL|")]
#[case("int", &["007", "-1", NULL_PARTITION], "7|-1|")]
#[case("bigint", &["9007199254740993"], "9007199254740993")]
#[case("date", &["2024-02-29", NULL_PARTITION], "2024-02-29|")]
#[case("timestamp", &["2024-02-29 10:30:00", "2024-03-01"], "2024-02-29T10:30:00|2024-03-01T00:00:00")]
#[case("boolean", &["true", "false", NULL_PARTITION], "true|false|")]
#[case("decimal(5,2)", &["1.50", "-0.01", "7"], "1.50|-0.01|7.00")]
#[case("double", &["0.1", "1e300"], "0.1|1e300")]
#[case("varchar(3)", &["abc"], "abc")]
#[tokio::test]
async fn partition_values_are_read_as_their_keys_type(
    #[case] of: &str,
    #[case] values: &[&str],
    #[case] expected: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    let table = catalog::TableDescription::new("lake", "books", &TableFormat::Json, Location::from(folder.path()))
        .with_columns([Column::foreign("n", "int")])
        .with_partition_keys([Column::foreign("key", of)]);
    world.create(&table).await;
    world.partitions(&table, &values.iter().map(|value| [*value]).collect::<Vec<_>>()).await;
    for (i, value) in values.iter().enumerate() {
        let name = table.partition_name(&[(*value).to_owned()]);
        world.put(table.location().unwrap().join(name).join("rows"), format!("{{\"n\": {i}}}")).await;
    }
    let all = world.load("lake.books").await.unwrap();
    let sorted = all.clone().sort_by(vec![col("n")]).unwrap().select_columns(&["key"]).unwrap();
    assert_eq!(cells(sorted).await.replace(';', "|"), expected);
    // A filter on a value returns its row, whatever its notation.
    for batch in all.clone().collect().await.unwrap() {
        for row in 0..batch.num_rows() {
            let value = ScalarValue::try_from_array(batch.column(1), row).unwrap();
            let filter = if value.is_null() { col("key").is_null() } else { col("key").eq(lit(value)) };
            assert_eq!(all.clone().filter(filter.clone()).unwrap().count().await.unwrap(), 1, "{filter}");
        }
    }
}

#[tokio::test]
async fn a_partition_value_that_is_not_of_its_keys_type_is_named() {
    let (world, mut books) = (World::new(), books(&TableFormat::Parquet));
    world.create(&books).await;
    // Another tool may have changed the key's type meanwhile.
    books.partition_keys[0].data_type = "string".to_owned();
    let partition = books.partition(["unknown"], format!("{HERE}/year=unknown"));
    world.catalog.add_partitions(&books, &[partition]).await.unwrap();
    assert_snapshot!(show(world.load("lake.books").await.unwrap()).await, @r#"`unknown` is not an Int32 (column: year, value: "unknown", table: lake.books, partition: year=unknown)"#);
}

// --- formats -------------------------------------------------------------------------------------------------------

fn csv(quote: Option<u8>, escape: Option<u8>, header_lines: u32) -> TableFormat {
    TableFormat::Csv(CsvFormat { delimiter: b',', quote, escape, header_lines, ..CsvFormat::default() })
}

#[rstest]
#[case::parquet(TableFormat::Parquet, two_books())]
#[case::json(TableFormat::Json, r#"{"title": "Emma", "pages": 400}{"title": "Ulysses", "pages": "700"}"#)]
#[case::avro(TableFormat::Avro, avro(&rows(
    &schema! { title: string, pages: int },
    r#"{"title": "Emma", "pages": 400} {"title": "Ulysses", "pages": 700}"#
)))]
#[case::quoted(csv(Some(b'"'), None, 1), "title,pages\nEmma,\"400\"\n\"Ulysses\",700\n")]
#[case::plain(csv(None, None, 0), "Emma,400\r\nUlysses,700")]
#[tokio::test]
async fn every_format_is_read(#[case] format: TableFormat, #[case] file: impl Into<Vec<u8>>) {
    let (world, books) = (World::new(), books(&format));
    world.create(&books).await;
    world.partitions(&books, &[["1990"]]).await;
    world.put(format!("{HERE}/year=1990/000000_0"), file.into()).await;
    let shown = show(world.load("lake.books").await.unwrap()).await;
    insta::allow_duplicates! { assert_snapshot!(shown, @"
    +---------+-------+------+
    | title   | pages | year |
    +---------+-------+------+
    | Emma    | 400   | 1990 |
    | Ulysses | 700   | 1990 |
    +---------+-------+------+
    ") }
}

#[rstest]
#[case::as_hive_reads_it(csv(None, None, 0), "1,Emma,\n\\N,\\N,\\N\n", "1|Emma|;||")]
#[case::an_empty_text_is_no_null(csv(None, None, 0), "1,,Bath\n", "1||Bath")]
#[case::escapes(csv(None, Some(b'\\'), 0), "1,Emma\\, or more,a\\\\b\n", "1|Emma, or more|a\\b")]
#[case::quotes_twice_or_escaped(csv(Some(b'"'), Some(b'\\'), 0), r#"1,"say ""hi""","a\"b""#, r#"1|say "hi"|a"b"#)]
#[case::an_older_file(csv(None, None, 0), "1,Emma\n2,Ulysses\n", "1|Emma|;2|Ulysses|")]
#[case::a_newer_file(csv(None, None, 0), "1,Emma,Bath,more\n", "1|Emma|Bath")]
#[case::a_header_with_other_names(csv(Some(b'"'), None, 1), "ID,Book Title,city\n1,Emma,Bath\n", "1|Emma|Bath")]
#[case::a_header_in_another_order(csv(Some(b'"'), None, 1), "City,id\nBath,1\n", "1||Bath")]
#[case::lines_before(csv(None, None, 2), "a report\nid,title\n1,Emma,Bath\n", "1|Emma|Bath")]
#[case::nothing_but_a_header(csv(None, None, 1), "id,title,city\n", "")]
#[case::fewer_lines_than_are_skipped(csv(None, None, 3), "id,title,city", "")]
#[case::a_mark_of_utf8(csv(None, None, 0), "\u{feff}1,Emma,Bath\n", "1|Emma|Bath")]
#[case::ragged(
    csv(None, None, 0),
    "1,Emma,Bath\n2,Ulysses\n",
    "the record has 2 fields where 3 are expected (file: memory:/lake/books/data, line: 2, value: 2,Ulysses)"
)]
#[case::no_number(
    csv(None, None, 1),
    "id,title,city\nx,Emma,Bath\n",
    "`x` is not an Int32 (file: memory:/lake/books/data, line: 2, column: id, value: \"x\")"
)]
#[tokio::test]
async fn csv_is_read_by_place_unless_a_header_says_otherwise(
    #[case] format: TableFormat,
    #[case] file: &'static str,
    #[case] expected: &str,
) {
    let world = World::new();
    world.create(&table(&format, &[("id", "int"), ("title", "string"), ("city", "string")])).await;
    world.put(format!("{HERE}/data"), file).await;
    let found = cells(world.load("lake.books").await.unwrap()).await;
    assert_eq!(found, expected);
}

#[tokio::test]
async fn another_text_may_stand_for_null() {
    let world = World::new();
    let mut books = table(&csv(None, None, 0), &[("title", "string"), ("pages", "int")]);
    books.storage.serde_parameters.insert("serialization.null.format".to_owned(), "n/a".to_owned());
    world.create(&books).await;
    world.put(format!("{HERE}/data"), "n/a,n/a\n\\N,1\n").await;
    assert_snapshot!(show(world.load("lake.books").await.unwrap()).await, @r"
    +-------+-------+
    | title | pages |
    +-------+-------+
    |       |       |
    | \N    | 1     |
    +-------+-------+
    ");
}

#[tokio::test]
async fn partitions_may_be_anywhere_and_of_another_format() {
    let (world, books) = (World::new(), books(&TableFormat::Parquet));
    let old = catalog::TableDescription::new("lake", "old", &csv(Some(b'"'), None, 1), "memory:/archive");
    world.create(&books).await;
    let mut partitions = vec![
        books.partition(["1990"], format!("{HERE}/year=1990")),
        books.partition(["1980"], "memory:/archive/eighties/"),
        books.partition(["1970"], "memory:/nowhere"),
    ];
    let StorageDescriptor { serde_library, serde_parameters, .. } = old.storage;
    partitions[1].storage.serde_library = serde_library;
    partitions[1].storage.serde_parameters = serde_parameters;
    partitions[1].parameters.insert("skip.header.line.count".to_owned(), "1".to_owned());
    world.catalog.add_partitions(&books, &partitions).await.unwrap();
    world.put(format!("{HERE}/year=1990/a.parquet"), two_books()).await;
    world.put("memory:/archive/eighties/a.csv", "title,pages\n\"It\",1138\n").await;
    // It is not registered.
    world.put(format!("{HERE}/year=1991/a.parquet"), two_books()).await;
    assert_snapshot!(show(world.load("lake.books").await.unwrap()).await, @"
    +---------+-------+------+
    | title   | pages | year |
    +---------+-------+------+
    | Emma    | 400   | 1990 |
    | It      | 1138  | 1980 |
    | Ulysses | 700   | 1990 |
    +---------+-------+------+
    ");
    let long = world.load("lake.books").await.unwrap().filter(col("pages").gt(lit(600))).unwrap();
    assert_snapshot!(show(long.select_columns(&["year", "title"]).unwrap()).await, @"
    +------+---------+
    | year | title   |
    +------+---------+
    | 1980 | It      |
    | 1990 | Ulysses |
    +------+---------+
    ");
}

// --- schema on read ------------------------------------------------------------------------------------------------

#[rstest]
#[case::parquet(TableFormat::Parquet)]
#[case::json(TableFormat::Json)]
#[case::avro(TableFormat::Avro)]
#[tokio::test]
async fn columns_are_found_in_any_case_and_may_be_missing(#[case] format: TableFormat) {
    let world = World::new();
    let author = "struct<Name:string,born:struct<in:int,at:string>>";
    let columns =
        [("id", "bigint"), ("author", author), ("tags", "array<struct<key:string,n:bigint>>"), ("new", "date")];
    world.create(&table(&format, &columns)).await;
    // Camel case, an unknown column, fields missing inside, and other types.
    let stored = schema! {
        Extra: string,
        Id: int,
        Author: struct<NAME: string, Born: struct<AT: string, unknown: int>>,
        TAGS: array<struct<Key: string, N: int>>
    };
    let json = r#"
        {"Extra": "x", "Id": 1, "Author": {"NAME": "Austen", "Born": {"AT": "Steventon"}}, "TAGS": [{"Key": "A", "N": 1}]}
        {"Id": 2, "Author": {"NAME": "Joyce"}, "TAGS": []}
        {"Id": 3}"#;
    let file = match format {
        TableFormat::Parquet => parquet(&rows(&stored, json)),
        TableFormat::Avro => avro(&rows(&stored, json)),
        _ => json.as_bytes().to_vec(),
    };
    world.put(format!("{HERE}/part-0"), file).await;
    let all = world.load("lake.books").await.unwrap();
    let some = all.clone().filter(col("id").gt(lit(1)).and(col("tags").is_not_null())).unwrap();
    let by_field = all.clone().filter(col("author").field("Name").eq(lit("Joyce"))).unwrap();
    let mut shown = vec![show(all).await];
    shown.push(show(some.select_columns(&["new", "id"]).unwrap()).await);
    shown.push(show(by_field.select_columns(&["id"]).unwrap()).await);
    insta::allow_duplicates! { assert_snapshot!(shown.join("\n"), @"
    +----+---------------------------------------------+------------------+-----+
    | id | author                                      | tags             | new |
    +----+---------------------------------------------+------------------+-----+
    | 1  | {Name: Austen, born: {in: , at: Steventon}} | [{key: A, n: 1}] |     |
    | 2  | {Name: Joyce, born: }                       | []               |     |
    | 3  |                                             |                  |     |
    +----+---------------------------------------------+------------------+-----+
    +-----+----+
    | new | id |
    +-----+----+
    |     | 2  |
    +-----+----+
    +----+
    | id |
    +----+
    | 2  |
    +----+
    ") }
}

#[rstest]
#[case::parquet(TableFormat::Parquet)]
#[case::json(TableFormat::Json)]
#[case::avro(TableFormat::Avro)]
#[tokio::test]
async fn the_keys_of_maps_are_data(#[case] format: TableFormat) {
    let world = World::new();
    world.create(&table(&format, &[("counts", "map<string,struct<n:int>>")])).await;
    let json = r#"{"Counts": {"Emma": {"N": 1}, "EMMA": {"N": 2}}}"#;
    let stored = schema! { Counts: map<string, struct<N: int>> };
    let file = match format {
        TableFormat::Parquet => parquet(&rows(&stored, json)),
        TableFormat::Avro => avro(&rows(&stored, json)),
        _ => json.as_bytes().to_vec(),
    };
    world.put(format!("{HERE}/part-0"), file).await;
    let shown = show(world.load("lake.books").await.unwrap()).await;
    insta::allow_duplicates! { assert_snapshot!(shown, @"
    +------------------------------+
    | counts                       |
    +------------------------------+
    | {Emma: {n: 1}, EMMA: {n: 2}} |
    +------------------------------+
    ") }
}

#[tokio::test]
async fn a_name_that_may_mean_two_columns_is_refused_if_it_is_wanted() {
    let stored = arrow::datatypes::Schema::new(vec![
        arrow::datatypes::Field::new("Id", arrow::datatypes::DataType::Int32, true),
        arrow::datatypes::Field::new("ID", arrow::datatypes::DataType::Int32, true),
        arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Int32, true),
    ]);
    let json = r#"{"Id": 1, "ID": 2, "n": 3}"#;
    let batch = rows(&std::sync::Arc::new(stored), json);
    for (format, file) in [
        (TableFormat::Parquet, parquet(&batch)),
        (TableFormat::Avro, avro(&batch)),
        (TableFormat::Json, json.as_bytes().to_vec()),
    ] {
        let world = World::new();
        world.create(&table(&format, &[("id", "int"), ("n", "int")])).await;
        world.put(format!("{HERE}/part-0"), file).await;
        let all = world.load("lake.books").await.unwrap();
        let shown = [show(all.clone()).await, show(all.select_columns(&["n"]).unwrap()).await].join("\n");
        match format {
            TableFormat::Json => assert_snapshot!(shown, @"
            an object has `id` twice, where case does not count (file: memory:/lake/books/part-0, line: 1, column: id)
            an object has `id` twice, where case does not count (file: memory:/lake/books/part-0, line: 1, column: id)
            "),
            _ => insta::allow_duplicates! { assert_snapshot!(shown, @"
            the file has `Id` and `ID`, and each matches `id` (column: id, file: memory:/lake/books/part-0)
            +---+
            | n |
            +---+
            | 3 |
            +---+
            ") },
        }
    }
}

#[rstest]
#[case::parquet(TableFormat::Parquet)]
#[case::avro(TableFormat::Avro)]
#[tokio::test]
async fn a_type_that_cannot_be_read_names_file_and_column(#[case] format: TableFormat) {
    let world = World::new();
    world.create(&table(&format, &[("title", "string"), ("pages", "int"), ("day", "date")])).await;
    let stored = schema! { title: string, pages: double, day: struct<y: int> };
    let batch = rows(&stored, r#"{"title": "Emma", "pages": 1.5, "day": {"y": 1}}"#);
    let file = if format == TableFormat::Avro { avro(&batch) } else { parquet(&batch) };
    world.put(format!("{HERE}/part-0"), file).await;
    let all = world.load("lake.books").await.unwrap();
    let filtered = all.clone().filter(col("pages").gt(lit(1))).unwrap();
    let mut shown = Vec::new();
    for (rows, column) in [(&all, "pages"), (&all, "day"), (&filtered, "title"), (&all, "title")] {
        shown.push(show(rows.clone().select_columns(&[column]).unwrap()).await);
    }
    insta::allow_duplicates! { assert_snapshot!(shown.join("\n"), @r#"
    the file stores a Float64, which is not always an Int32, as the schema requires (column: pages, file: memory:/lake/books/part-0)
    the file stores a Struct("y": Int32), which is not always a Date32, as the schema requires (column: day, file: memory:/lake/books/part-0)
    the file stores a Float64, which is not always an Int32, as the schema requires (column: pages, file: memory:/lake/books/part-0)
    +-------+
    | title |
    +-------+
    | Emma  |
    +-------+
    "#) }
}

#[tokio::test]
async fn nested_types_and_times_are_as_the_catalog_says() {
    let world = World::new();
    let columns = [
        ("price", "decimal(10,2)"),
        ("day", "date"),
        ("at", "timestamp"),
        ("instant", "timestamp with local time zone"),
        ("flag", "boolean"),
        ("code", "char(2)"),
        ("raw", "binary"),
        ("lists", "array<array<int>>"),
    ];
    world.create(&table(&TableFormat::Parquet, &columns)).await;
    // Files of an older job: narrower types, other units and encodings.
    let older = {
        use arrow::datatypes::{DataType as D, Field, Schema, TimeUnit};
        let field = |name: &str, of| Field::new(name, of, true);
        let list = D::new_list(D::new_list(D::Int16, true), true);
        std::sync::Arc::new(Schema::new(vec![
            field("lists", list),
            field("price", D::Decimal128(5, 1)),
            field("day", D::Date32),
            field("at", D::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))),
            field("instant", D::Timestamp(TimeUnit::Nanosecond, None)),
            field("flag", D::Boolean),
            field("code", D::LargeUtf8),
        ]))
    };
    let json = r#"{"price": 12.5, "day": "2024-02-29", "at": "2024-02-29T10:30:00.125Z", "instant": "2024-02-29T10:30:00",
                   "flag": true, "code": "DE", "lists": [[1, 2], [], null]}"#;
    world.put(format!("{HERE}/a.parquet"), parquet(&rows(&older, json))).await;
    world.put(format!("{HERE}/b.parquet"), int96("at", 376_200, 37_800_000_000_000)).await;
    let all = world.load("lake.books").await.unwrap();
    assert_snapshot!(show(all.clone()).await, @"
    +-------+------------+-------------------------+----------------------+------+------+-----+----------------+
    | price | day        | at                      | instant              | flag | code | raw | lists          |
    +-------+------------+-------------------------+----------------------+------+------+-----+----------------+
    |       |            | 3000-01-01T10:30:00     |                      |      |      |     |                |
    | 12.50 | 2024-02-29 | 2024-02-29T10:30:00.125 | 2024-02-29T10:30:00Z | true | DE   |     | [[1, 2], [], ] |
    +-------+------------+-------------------------+----------------------+------+------+-----+----------------+
    ");
    let types = all.schema().fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>();
    assert_snapshot!(types.join("\n"), @r#"
    price Decimal128(10, 2)
    day Date32
    at Timestamp(µs)
    instant Timestamp(µs, "UTC")
    flag Boolean
    code Utf8
    raw Binary
    lists List(List(Int32))
    "#);
    let at = all.filter(col("at").gt_eq(lit("2024-02-29 10:30:00.125"))).unwrap();
    assert_eq!(at.count().await.unwrap(), 2);
}

#[tokio::test]
async fn a_time_that_is_finer_than_its_column_is_refused_and_not_cut() {
    let world = World::new();
    world.create(&table(&TableFormat::Parquet, &[("at", "timestamp")])).await;
    let stored = {
        use arrow::datatypes::{DataType as D, Field, Schema, TimeUnit};
        std::sync::Arc::new(Schema::new(vec![Field::new("at", D::Timestamp(TimeUnit::Nanosecond, None), true)]))
    };
    let file =
        parquet(&rows(&stored, r#"{"at": "2024-02-29T10:30:00.000001"} {"at": "2024-02-29T10:30:00.000001001"}"#));
    world.put(format!("{HERE}/a.parquet"), file).await;
    let all = world.load("lake.books").await.unwrap();
    assert_snapshot!(show(all.clone()).await, @"a value does not fit the declared type without loss (column: at, value: 2024-02-29T10:30:00.000001001, type: Timestamp(ns), declared: Timestamp(µs), file: memory:/lake/books/a.parquet, hint: if a timestamp is too fine: `crawl --nanoseconds truncate` rounds it down, and `crawl --nanoseconds text` turns it into text, which a schema may also declare (`string`))");
    assert_snapshot!(show(all.filter(col("at").eq(lit("2024-02-29 10:30:00.000001"))).unwrap()).await, @"a value does not fit the declared type without loss (column: at, value: 2024-02-29T10:30:00.000001001, type: Timestamp(ns), declared: Timestamp(µs), file: memory:/lake/books/a.parquet, hint: if a timestamp is too fine: `crawl --nanoseconds truncate` rounds it down, and `crawl --nanoseconds text` turns it into text, which a schema may also declare (`string`))");
}

// --- what is there, and what is not --------------------------------------------------------------------------------

#[tokio::test]
async fn what_is_hidden_or_empty_is_not_read() {
    let (world, books) = (World::new(), table(&TableFormat::Parquet, &[("title", "string"), ("pages", "int")]));
    world.create(&books).await;
    world.put(format!("{HERE}/deep/er/file"), two_books()).await;
    for hidden in ["_SUCCESS", ".staged", "_versions/1/file.parquet", ".tmp/file", "deep/_tmp/file", "deep/.crc"] {
        world.put(format!("{HERE}/{hidden}"), "no parquet").await;
    }
    world.put(format!("{HERE}/deep_$folder$"), "").await;
    world.put("memory:/lake/books2/file", "of a neighbour").await;
    assert_eq!(world.load("lake.books").await.unwrap().count().await.unwrap(), 2);

    // A table may be in a folder that is hidden from other readers.
    let mut moved = world.catalog.get_table("lake", "books").await.unwrap();
    moved.storage.location = Some(format!("{HERE}/_versions/2").into());
    world.catalog.update_table(&moved).await.unwrap();
    world.put(format!("{HERE}/_versions/2/file"), two_books()).await;
    assert_eq!(world.load("lake.books").await.unwrap().count().await.unwrap(), 2);
}

#[tokio::test]
async fn tables_without_files_have_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    for location in ["memory:/nowhere".to_owned(), folder.path().join("nowhere").display().to_string()] {
        let world = World::new();
        let mut plain = table(&TableFormat::Parquet, &[("title", "string")]);
        plain.storage.location = Some(location.as_str().into());
        world.create(&plain).await;
        let keyed = named("keyed", plain).with_partition_keys([Column::foreign("k", "int")]);
        world.create(&keyed).await;
        let mut counts = Vec::new();
        counts.push(world.load("lake.books").await.unwrap().count().await.unwrap());
        counts.push(world.load("lake.keyed").await.unwrap().count().await.unwrap());
        world.partitions(&keyed, &[["1"]]).await;
        counts.push(world.load("lake.keyed").await.unwrap().count().await.unwrap());
        assert_eq!(counts, [0, 0, 0]);
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_an_error_or_empty() {
    let world = World::new();
    let error = world.load("lake.books").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_snapshot!(error.chain(), @"there is no table `lake.books` in the catalog; create it, or check the name (source: lake.books)");
    let books = Table::named("lake", "books").or_empty(schema! { title: string });
    assert_snapshot!(format!("{books:?}"), @r#"Table { name: "lake.books", or_empty: [title: Utf8] }"#);
    let titles = books.load(&world.ctx.loading("a")).await.unwrap();
    assert_eq!(
        (titles.schema().field_names(), titles.count().await.unwrap()),
        (vec!["lake.books.title".to_owned()], 0)
    );
    // Now it exists.
    world.create(&table(&TableFormat::Json, &[("id", "int")])).await;
    assert_eq!(books.load(&world.ctx.loading("a")).await.unwrap().schema().field_names(), ["lake.books.id"]);
}

#[tokio::test]
async fn a_dry_run_asks_for_the_description_only() {
    let world = a_thousand_years().await;
    let schema = Table::named("lake", "books").schema(&world.ctx.loading("a")).await.unwrap();
    assert_eq!(schema, catalog::schema_from_catalog(&books(&TableFormat::Parquet)).unwrap());
    assert_snapshot!(world.asked(), @"get_table 1 (1)");
}

#[tokio::test]
async fn what_is_no_table_of_files_says_so() {
    let world = World::new();
    let mut view = table(&TableFormat::Parquet, &[("title", "string")]);
    view.table_type = Some("VIRTUAL_VIEW".to_owned());
    view.storage.location = None;
    let iceberg = catalog::TableDescription::iceberg("lake", "iceberg", "memory:/nowhere/metadata/v1.metadata.json");
    let mut orc = named("orc", table(&TableFormat::Parquet, &[("title", "string")]))
        .with_partition_keys([Column::foreign("year", "int")]);
    orc.storage.serde_library = Some("org.apache.hadoop.hive.ql.io.orc.OrcSerde".to_owned());
    let union = named("union", table(&TableFormat::Parquet, &[("either", "uniontype<int,string>")]));
    let mut mapped = named("mapped", table(&TableFormat::Json, &[("ts", "string")]));
    mapped.storage.serde_parameters.insert("mapping.ts".to_owned(), "timestamp".to_owned());
    for table in [&view, &iceberg, &orc, &union, &mapped] {
        world.create(table).await;
    }
    let mut errors = Vec::new();
    // It is read as such, and by its metadata.
    let error = world.load("lake.iceberg").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("nowhere/metadata/v1.metadata.json"), "{error}");
    for name in ["books", "orc", "union", "mapped"] {
        errors.push(world.load(&format!("lake.{name}")).await.unwrap_err().to_string());
    }
    assert_snapshot!(errors.join("\n"), @"
    `lake.books` is a VIRTUAL_VIEW without a location, so there are no files (source: lake.books)
    the format of these files is not known; Parquet, JSON, CSV and Avro are (SerDe: org.apache.hadoop.hive.ql.io.orc.OrcSerde, table: lake.orc, source: lake.orc)
    expected a type, found `uniontype`, which neither Athena nor Spark reads; declare a struct with one field for each type (type: uniontype<int,string>, position: 1, column: either, table: lake.union, source: lake.union)
    `mapping.ts` gives a column of this table another name in its files, which is not supported (table: lake.mapped, source: lake.mapped)
    ");

    // A supported format need not support every type.
    world.create(&named("csv", table(&csv(None, None, 0), &[("id", "int"), ("tags", "array<int>")]))).await;
    world.put(format!("{HERE}/file"), "1,2").await;
    let all = world.load("lake.csv").await.unwrap();
    assert_snapshot!(show(all.clone()).await, @"a CSV file cannot hold a List(Int32) (column: tags)");
    assert_snapshot!(show(all.select_columns(&["id"]).unwrap()).await, @"
    +----+
    | id |
    +----+
    | 1  |
    +----+
    ");
}

#[tokio::test]
async fn tables_can_be_joined() {
    let (world, books) = (World::new(), books(&TableFormat::Parquet));
    world.create(&books).await;
    world.partitions(&books, &[["1990"], ["1991"]]).await;
    world.put(format!("{HERE}/year=1990/a"), two_books()).await;
    world.put(format!("{HERE}/year=1991/a"), two_books()).await;
    let prices = catalog::TableDescription::new("shop", "books", &TableFormat::Json, "memory:/prices")
        .with_columns([Column::foreign("title", "string"), Column::foreign("price", "decimal(5,2)")]);
    world.create(&prices).await;
    world.put("memory:/prices/a", r#"{"title": "Emma", "price": "9.90"}"#).await;
    let books = world.load("lake.books").await.unwrap();
    let prices = world.load("shop.books").await.unwrap();
    let joined = books.join(prices, datafusion::common::JoinType::Inner, &["title"], &["title"], None).unwrap();
    assert_snapshot!(show(joined).await, @"
    +-------+-------+------+-------+-------+
    | title | pages | year | title | price |
    +-------+-------+------+-------+-------+
    | Emma  | 400   | 1990 | Emma  | 9.90  |
    | Emma  | 400   | 1991 | Emma  | 9.90  |
    +-------+-------+------+-------+-------+
    ");
}
