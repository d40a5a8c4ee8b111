//! Files that may be a table.

use std::fs::File;

use hardtack_catalog::{Column, DatabaseName, TableDescription, TableFormat, schema};
use hardtack_core::{ErrorKind, Location, Sink, Source};
use hardtack_sinks::{Compression, ParquetDataset, PartitionValues};
use hardtack_sources::{JsonFiles, ParquetFiles};
use hardtack_tables::{Dataset, SchemaEvolution, Table};
use hardtack_test_support::{Frame, rows, table};
use insta::assert_snapshot;
use parquet::basic::Compression as Codec;
use parquet::file::reader::{FileReader, SerializedFileReader};
use rstest::rstest;

use crate::lake::World;

fn lake() -> DatabaseName {
    "lake".parse().unwrap()
}

/// What a job declares.
fn books(files: &str, database: Option<&DatabaseName>) -> Dataset<JsonFiles> {
    let schema = schema! { title: string not null, published: date, pages: int };
    Dataset::new(JsonFiles::new("books", files).with_schema(schema), database)
}

/// What a job writes: by year.
fn shelf(files: impl Into<Location>, database: Option<&DatabaseName>) -> Dataset<ParquetDataset> {
    let schema = schema! { title: string not null, pages: int, year: int };
    let files = ParquetDataset::new("shelf", files).with_schema(schema).partition_by(["year"]).overwrite();
    Dataset::new(files.with_compression(Compression::Snappy), database)
}

fn two_books() -> Frame {
    rows! { title, pages, year; "Emma", 400, 1815; "Dune", null, 1965 }
}

/// The table `lake.books` of files in `delivered/`.
async fn delivered(columns: &[(&str, &str)], lines: &str) -> World {
    let world = World::new().await;
    world.dir.write("delivered/books.jsonl", lines);
    let columns = columns.iter().map(|(name, of)| Column::foreign(*name, *of));
    let table = TableDescription::new("lake", "books", &TableFormat::Json, world.dir.at("delivered"));
    world.catalog.create_table(&table.with_columns(columns)).await.unwrap();
    world
}

/// The rows, or what is wrong.
async fn loaded<S: Source>(world: &World, source: S) -> String {
    let rows = match world.run().load(source).await {
        Ok(rows) => Frame::collect(rows).await,
        Err(e) => Err(e),
    };
    rows.map_or_else(|e| e.chain().replace(world.dir.location().as_str(), "DIR"), table)
}

async fn saved(world: &World, sink: &Dataset<ParquetDataset>, rows: Frame) -> Result<(), String> {
    let ctx = world.run();
    let staged = sink.stage(&ctx.staging("out"), rows.to_df(ctx.session())).await.map_err(|e| e.chain())?;
    ctx.publish(&staged.publish).await.map_err(|e| e.chain())
}

#[test]
fn it_is_a_value_and_its_name_that_of_the_files() {
    let (files, named) = (books("s3://in/books", None), books("s3://in/books", Some(&lake())));
    assert_eq!(named, books("s3://in/books", Some(&lake())));
    assert_ne!(named, files);
    assert_eq!((files.name(), named.name()), ("books", "books"));
    assert_eq!((files.location(), named.location()), (Some("s3://in/books".into()), None));
    assert_eq!((files.table(), named.table().unwrap()), (None, &Table::named("lake", "books")));
    let plain = JsonFiles::new("books", "s3://in/books").with_schema(schema! { title: string });
    assert_eq!(format!("{:?}", Dataset::new(plain.clone(), None)), format!("{plain:?}"));
    assert_snapshot!(format!("{:?}", Dataset::new(plain, Some(&lake()))), @r#"Dataset { table: "lake.books", files: JsonFiles { name: "books", location: "s3://in/books", schema: [title: Utf8] } }"#);

    let (files, named) = (shelf("s3://out/shelf", None), shelf("s3://out/shelf", Some(&lake())));
    assert_eq!((Sink::name(&files), Sink::name(&named)), ("shelf", "shelf"));
    assert_eq!((Sink::location(&files), Sink::location(&named)), (Some("s3://out/shelf".into()), None));
    assert_snapshot!(format!("{named:?}"), @r#"Dataset { table: "lake.shelf", files: ParquetDataset { name: "shelf", location: "s3://out/shelf", mode: Overwrite, schema: [title: Utf8 not null, pages: Int32, year: Int32], partition_by: ["year"], compression: Snappy } }"#);
    assert_ne!(named.clone().when_table(Table::overwrite_partitions), named);
    assert_eq!(files.clone().when_table(Table::overwrite_partitions), files);
}

/// Options may be set on the files or on the dataset.
#[rstest]
#[case::files(None)]
#[case::table(Some(lake()))]
fn options_are_those_of_the_files(#[case] database: Option<DatabaseName>) {
    let database = database.as_ref();
    let schema = schema! { title: string, year: int };
    let files = ParquetFiles::new("x", "s3://in/x");
    let chosen =
        Dataset::new(files.clone(), database).with_schema(schema.clone()).or_empty().file_or_folder().with_origin();
    let before = files.with_schema(schema.clone()).or_empty().file_or_folder().with_origin();
    assert_eq!(chosen, Dataset::new(before, database));
    let files = ParquetDataset::new("x", "s3://out/x");
    let chosen = Dataset::new(files.clone(), database).overwrite().with_schema(schema.clone()).partition_by(["year"]);
    let before = files.overwrite().with_schema(schema).partition_by(["year"]).with_compression(Compression::Snappy);
    assert_eq!(chosen.with_compression(Compression::Snappy), Dataset::new(before, database));
}

#[test]
fn the_table_may_have_another_name() {
    let named = books("s3://in/books", Some(&lake())).table_named("Delivered_Books");
    assert_eq!(named.table().unwrap().qualified_name(), "lake.delivered_books");
    assert_eq!(Source::name(&named), "books");
    assert_eq!(named, books("s3://in/books", Some(&lake())).table_named("delivered_books"));
    assert_eq!(books("s3://in/books", None).table_named("x"), books("s3://in/books", None));
}

/// One value is read and written: the first run finds nothing, the next one finds what the previous one has saved.
#[rstest]
#[case::files(None)]
#[case::table(Some(lake()))]
#[tokio::test]
async fn what_was_saved_is_read(#[case] database: Option<DatabaseName>) {
    let world = World::new().await;
    let plain = ParquetDataset::new("plain", world.dir.at("plain")).with_schema(schema! { title: string, pages: int });
    let plain = Dataset::new(plain.overwrite(), database.as_ref());
    let by_year = shelf(world.dir.at("shelf"), database.as_ref());
    for dataset in [plain, by_year] {
        let rows = match Sink::name(&dataset) {
            "plain" => rows! { title, pages: Int32; "Emma", 400; "Dune", null },
            _ => two_books(),
        };
        assert!(loaded(&world, dataset.clone()).await.contains("there is no table `lake.") != database.is_none());
        let before = loaded(&world, dataset.clone().or_empty()).await;
        assert!(before.ends_with("(no rows)"), "{before}");
        for _ in 0..2 {
            saved(&world, &dataset, rows.clone()).await.unwrap();
            let conformed = dataset_rows(&world, &dataset, &rows).await;
            assert_eq!(loaded(&world, dataset.clone()).await, conformed);
            assert_eq!(loaded(&world, dataset.clone().or_empty()).await, conformed);
        }
    }
}

/// The rows as the dataset declares them.
async fn dataset_rows(world: &World, dataset: &Dataset<ParquetDataset>, rows: &Frame) -> String {
    let ctx = world.run();
    table(
        Frame::collect(Source::conform(dataset, &ctx.loading("a"), rows.to_df(ctx.session())).await.unwrap())
            .await
            .unwrap(),
    )
}

#[test]
fn it_prints_as_its_files_unless_it_is_more() {
    let shelf = ParquetDataset::new("shelf", "s3://out/shelf");
    assert_eq!(format!("{:?}", Dataset::new(shelf.clone(), None)), format!("{shelf:?}"));
    assert_snapshot!(format!("{:?}", Dataset::new(shelf, None).or_empty()), @r#"Dataset { files: ParquetDataset { name: "shelf", location: "s3://out/shelf", mode: Append, compression: Zstd(3) }, or_empty: true }"#);
}

/// The columns that are declared, in their order and types, whatever the table has.
#[tokio::test]
async fn rows_of_the_table_are_what_was_declared_of_the_files() {
    let columns = [("pages", "bigint"), ("more", "string"), ("Title", "string")];
    let lines = r#"{"title": "Emma", "pages": 400, "more": "x"}
{"Title": "Dune"}"#;
    let world = delivered(&columns, lines).await;
    assert_snapshot!(loaded(&world, books("nowhere", Some(&lake()))).await, @"
    title: Utf8 | published: Date32 | pages: Int32
    Dune        | null              | null
    Emma        | null              | 400
    ");
    // As they are without a declaration.
    let undeclared = Dataset::new(JsonFiles::new("books", "nowhere"), Some(&lake()));
    assert_eq!(undeclared.schema(&world.run().loading("books")).await.unwrap().fields().len(), 3);
    assert_snapshot!(loaded(&world, undeclared).await, @"
    pages: Int64 | more: Utf8 | title: Utf8
    null         | null       | Dune
    400          | x          | Emma
    ");
    // Files stay files, even if they are called like a table.
    assert_snapshot!(loaded(&world, books("lake.books", None)).await, @"no file to read: looked for `*.json`, `*.jsonl`, `*.ndjson` (or compressed); use `or_empty` if that is acceptable (location: lake.books, source: books)");
    assert_snapshot!(loaded(&world, books(world.dir.at("delivered").as_str(), None)).await, @"a value is missing where the schema requires one (file: DIR/delivered/books.jsonl, line: 2, column: title)");
}

#[rstest]
#[case::too_large(&[("title", "string"), ("pages", "bigint")], r#"{"title": "Emma", "pages": 5000000000}"#, "a value does not fit the declared type without loss (column: pages, value: 5000000000, type: bigint, declared: int)")]
#[case::null(&[("title", "string")], r#"{"title": null}"#, "a column that is declared not null is null (column: title)")]
#[case::a_column_that_must_be_there(&[("pages", "int")], r#"{"pages": 1}"#, "declared columns are missing (missing: title, columns: pages, table: lake.books, source: books)")]
#[case::no_date(&[("title", "string"), ("published", "string")], r#"{"title": "Emma", "published": "soon"}"#, "a value does not fit the declared type without loss (column: published, value: soon, type: string, declared: date)")]
#[tokio::test]
async fn what_does_not_fit_the_declaration_is_refused(
    #[case] columns: &[(&str, &str)],
    #[case] lines: &str,
    #[case] expected: &str,
) {
    let world = delivered(columns, lines).await;
    assert_eq!(loaded(&world, books("nowhere", Some(&lake()))).await, expected);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_an_error_that_says_the_hint_or_no_rows() {
    let world = World::new().await;
    assert_snapshot!(loaded(&world, books("in", Some(&lake()))).await, @"there is no table `lake.books` in the catalog; create it, or check the name (source: books, hint: `hardtack crawl LOCATION --database lake` makes tables of files; without a database the job reads the files themselves)");
    let error = Dataset::new(JsonFiles::new("books", "in"), Some(&lake()))
        .schema(&world.run().loading("books"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let last_time = ParquetFiles::new("shelf", "out").with_schema(schema! { title: string }).or_empty();
    assert_snapshot!(loaded(&world, Dataset::new(last_time, Some(&lake()))).await, @"
    title: Utf8
    (no rows)
    ");
}

#[tokio::test]
async fn what_is_read_and_written_is_counted_under_the_name_in_the_job() {
    let world = delivered(&[("title", "string")], r#"{"title": "Emma"}"#).await;
    let ctx = world.run();
    ctx.load(books("nowhere", Some(&lake()))).await.unwrap().collect().await.unwrap();
    let shelf = shelf(world.dir.at("shelf"), Some(&lake()));
    ctx.save(shelf, two_books().to_df(ctx.session())).await.unwrap();
    let rows = [ctx.meters().sources(), ctx.meters().sinks()].map(|all| {
        all.into_iter().map(|(name, counts)| format!("{name} {}", counts.rows)).collect::<Vec<_>>().join(", ")
    });
    assert_eq!(rows, ["books 1", "shelf 2"]);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_made_over_the_folder_of_the_files() {
    let world = World::new().await;
    let sink = shelf(world.dir.at("shelf"), Some(&lake()));
    for _ in 0..2 {
        saved(&world, &sink, two_books()).await.unwrap();
        assert_eq!(world.rows("shelf").await, ["year=1815 title=Emma pages=400", "year=1965 title=Dune pages=null"]);
    }
    let table = world.table("shelf").await;
    assert_eq!(table.storage.columns, crate::lake::columns_of("title: string, pages: int"));
    assert_eq!(table.partition_keys, crate::lake::columns_of("year: int"));
    assert_eq!((table.location().unwrap(), table.format().unwrap()), (&world.dir.at("shelf"), TableFormat::Parquet));
    // It replaces all of the table, as it replaces all files.
    saved(&world, &sink, rows! { title, pages, year; "Emma", 401, 1815 }).await.unwrap();
    assert_eq!(world.rows("shelf").await, ["year=1815 title=Emma pages=401"]);
    let sink = sink.when_table(Table::overwrite_partitions);
    saved(&world, &sink, rows! { title, pages, year; "Dune", 600, 1965 }).await.unwrap();
    assert_eq!(world.rows("shelf").await, ["year=1815 title=Emma pages=401", "year=1965 title=Dune pages=600"]);
    // They are laid out as the files were to be.
    for file in world.dir.files("shelf").iter().filter(|file| file.ends_with(".parquet")) {
        let file = SerializedFileReader::new(File::open(world.dir.path().join(file)).unwrap()).unwrap();
        assert_eq!(file.metadata().row_group(0).column(0).compression(), Codec::SNAPPY);
    }
}

#[tokio::test]
async fn a_table_that_is_there_keeps_its_keys_and_its_columns() {
    let world = World::new().await;
    let there = world.description("shelf", "pages: bigint, title: string, year: smallint", "");
    world.catalog.create_table(&there).await.unwrap();
    let sink = shelf(world.dir.at("lake/shelf"), Some(&lake()));
    for _ in 0..2 {
        saved(&world, &sink, two_books()).await.unwrap();
        assert_eq!(world.rows("shelf").await, ["pages=400 title=Emma year=1815", "pages=null title=Dune year=1965"]);
    }
    let table = world.table("shelf").await;
    assert_eq!((table.storage.columns, table.partition_keys), (there.storage.columns, vec![]));
}

/// The job says one place and the catalog another.
#[tokio::test]
async fn a_table_that_is_elsewhere_is_not_saved_to() {
    let world = World::new().await;
    saved(&world, &shelf(world.dir.at("shelf"), Some(&lake())), two_books()).await.unwrap();
    let (ctx, before) = (world.run(), (world.table("shelf").await, world.dir.files("")));
    let sink = shelf(world.dir.at("elsewhere/shelf"), Some(&lake()));
    let error = saved(&world, &sink, two_books()).await.unwrap_err().replace(world.dir.at("").as_str(), "DIR");
    assert_snapshot!(error, @"the table's location differs from the job's, and a table does not move (table: lake.shelf, location of the table: DIR/shelf, location in the job: DIR/elsewhere/shelf, hint: give the job the table's location (as its target), or save to another table)");
    // A dry run says so, too.
    let conformed = Sink::conform(&sink, &ctx.staging("out"), two_books().to_df(ctx.session())).await;
    assert_eq!(conformed.unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!((world.table("shelf").await, world.dir.files("")), before);
    // The same place in other words is the same place, also after the table has got a new version.
    let same = world.dir.at("").to_string().trim_end_matches('/').to_owned() + "/elsewhere/../shelf/";
    saved(&world, &shelf(same.as_str(), Some(&lake())), two_books()).await.unwrap();
}

#[tokio::test]
async fn what_a_table_would_refuse_is_refused_in_a_unit_test() {
    // Without a catalog: the table that would be made.
    let ctx = hardtack_core::JobContext::builder("job").build().unwrap();
    let conform = async |sink: &Dataset<ParquetDataset>, rows: Frame| match Sink::conform(
        sink,
        &ctx.staging("out"),
        rows.to_df(ctx.session()),
    )
    .await
    {
        Ok(rows) => Frame::collect(rows).await.map(|rows| rows.to_string()).map_err(|e| e.chain()),
        Err(e) => Err(e.chain()),
    };
    let sink = shelf("s3://out/shelf", Some(&lake()));
    assert_snapshot!(conform(&sink, two_books()).await.unwrap(), @"
    title: Utf8 | pages: Int32 | year: Int32
    Emma        | 400          | 1815
    Dune        | null         | 1965
    ");
    assert_snapshot!(conform(&sink, rows! { title: Utf8, pages, year; null, 1, 1815 }).await.unwrap_err(), @"a column that is declared not null is null (column: title)");
    let misspelt = Dataset::new(ParquetDataset::new("new", "s3://out/new").partition_by(["yeer"]), Some(&lake()));
    assert_snapshot!(conform(&misspelt, two_books()).await.unwrap_err(), @"the rows lack a partition column (column: yeer, table: lake.new)");
    let unsorted = Dataset::new(ParquetDataset::new("new", "s3://out/new").sorted_by(["titel"]), Some(&lake()));
    assert_snapshot!(conform(&unsorted, two_books()).await.unwrap_err(), @"the column `titel` of `sorted_by` is not among the columns title, pages, year");

    // With one: the table that is there.
    let world = World::new().await;
    world
        .catalog
        .create_table(&world.description("shelf", "title: string, pages: tinyint", "year: int"))
        .await
        .unwrap();
    let ctx = world.run();
    let sink = shelf(world.dir.at("lake/shelf"), Some(&lake()));
    let rows = Sink::conform(&sink, &ctx.staging("out"), two_books().to_df(ctx.session())).await.unwrap();
    let refused = Frame::collect(rows).await.unwrap_err();
    assert_snapshot!(refused.chain(), @"a value does not fit the declared type without loss (column: pages, value: 400, type: int, declared: tinyint)");
    assert_eq!(world.dir.files("lake"), [""; 0]);
}

#[tokio::test]
async fn what_a_table_does_not_take_is_refused_before_anything_is_written() {
    let world = World::new().await;
    world.catalog.create_table(&world.description("shelf", "title: string, pages: int", "year: int")).await.unwrap();
    let before = (world.dir.files(""), world.table("shelf").await);
    let sink = shelf(world.dir.at("lake/shelf"), Some(&lake()));
    let more = Dataset::new(ParquetDataset::new("shelf", world.dir.at("lake/shelf")).overwrite(), Some(&lake()));
    let four = rows! { title, pages, isbn, year; "Emma", 1, "x", 1815 };
    assert_snapshot!(saved(&world, &more, four.clone()).await.unwrap_err(), @"the table does not have these columns (table: lake.shelf, columns: isbn, hint: drop them before saving, or let the table grow: .schema_evolution(AddColumns))");
    assert_snapshot!(saved(&world, &sink, rows! { title, year; "Emma", 1815 }).await.unwrap_err(), @"declared columns are missing (missing: pages, columns: title, year)");
    let unkeyed = rows! { title, pages; "Emma", 1 };
    let by_year = Dataset::new(ParquetDataset::new("new", world.dir.at("new")).partition_by(["year"]), Some(&lake()));
    assert_snapshot!(saved(&world, &by_year, unkeyed).await.unwrap_err(), @"the rows lack a partition column (column: year, table: lake.new)");
    let untyped = rows! { title, at: Time64(Microsecond); "Emma", "10:00:00" };
    let new = Dataset::new(ParquetDataset::new("new", world.dir.at("new")), Some(&lake()));
    assert_snapshot!(saved(&world, &new, untyped).await.unwrap_err(), @"Hive has no type for Arrow's Time64(µs); cast it to one that Hive has, such as a string (field: at, table: lake.new)");
    assert_eq!((world.dir.files(""), world.table("shelf").await), before);
    // A null is found while rows are written, where nobody looks.
    assert_snapshot!(saved(&world, &sink, rows! { title: Utf8, pages, year; null, 1, 1815 }).await.unwrap_err(), @"a column that is declared not null is null (column: title)");
    assert_eq!((world.rows("shelf").await, world.table("shelf").await), (vec![], before.1));
    // The hint.
    let grown = more.when_table(|table| table.schema_evolution(SchemaEvolution::AddColumns));
    saved(&world, &grown, four).await.unwrap();
    assert_eq!(world.rows("shelf").await, ["year=1815 title=Emma pages=1 isbn=x"]);
}

/// With and without a catalog, the partitions of the rows and those that are named are replaced.
#[rstest]
#[case::files(None)]
#[case::table(Some(lake()))]
#[tokio::test]
async fn partitions_are_overwritten_as_files_and_as_a_table(#[case] database: Option<DatabaseName>) {
    let world = World::new().await;
    let shelf = shelf(world.dir.at("shelf"), database.as_ref()).overwrite_partitions();
    saved(&world, &shelf, rows! { title, pages, year; "Emma", 400, 1815; "Dune", null, 1965; "Kim", 1, 1901 })
        .await
        .unwrap();
    let again = shelf.also_overwriting([PartitionValues::of("year", 1815)]);
    saved(&world, &again, rows! { title, pages, year; "Dune", 600, 1965 }).await.unwrap();
    let rows = rows! { title, pages: Int32, year: Int32; "Dune", 600, 1965; "Kim", 1, 1901 };
    assert_eq!(loaded(&world, again).await, table(rows));
}
