use hardtack_test_support::{
    Frame, TempLake, TestContext, assert_frame, assert_frame_snapshot, load, optimized_plan, rows,
};
use insta::assert_snapshot;
use rstest::rstest;

use super::*;

fn args() -> Args {
    Args { source: "s3://in".into(), target: "s3://out".into() }
}

#[test]
fn books_come_from_the_sample_data() {
    let expected = JsonFiles::new("books", "s3://in/sample_data/json/books");
    let schema = schema! { title: string not null, publish_date: date, author: string };
    assert_eq!(books(&args()), Dataset::new(expected.with_schema(schema), None));
}

#[test]
fn authors_come_from_the_sample_data() {
    let expected = JsonFiles::new("authors", "s3://in/sample_data/json/authors");
    let schema = schema! { name: string not null, id: bigint not null, birth_date: date };
    assert_eq!(authors(&args()), Dataset::new(expected.with_schema(schema), None));
}

#[test]
fn the_data_product_is_replaced() {
    let expected = ParquetDataset::new("books", "s3://out/books");
    assert_eq!(data_product(&args()), Dataset::new(expected, None).overwrite());
}

#[tokio::test]
async fn joins_books_to_their_authors() {
    let books = rows! {
        title,        publish_date: Date32, author;
        "Catch 22",   "1961-11-10",         "Joseph Heller";
        "The Hobbit", "1937-09-21",         "J. R. R. Tolkien";
        "Beowulf",    null,                 null;
    };
    let authors = rows! {
        name,               id, birth_date: Date32;
        "Joseph Heller",    1,  "1923-05-01";
        "J. R. R. Tolkien", 2,  "1892-01-03";
        "Jane Austen",      3,  "1775-12-16";
    };
    let test = TestContext::new(args()).given("books", books).given("authors", authors);

    main(test.ctx()).await.unwrap();

    let expected = rows! {
        title,        publish_date: Date32, author_name,        author_birth_date: Date32, author_id;
        "Catch 22",   "1961-11-10",         "Joseph Heller",    "1923-05-01",              1;
        "The Hobbit", "1937-09-21",         "J. R. R. Tolkien", "1892-01-03",              2;
        "Beowulf",    null,                 null,               null,                      null;
    };
    assert_frame(test.saved("books"), expected.keyed_by(["title"]));
    assert_eq!(test.calls(), ["load books", "load authors", "save books"]);
}

#[tokio::test]
async fn the_data_product_is_where_readers_look() {
    let test = TestContext::new(args())
        .given("books", rows! { title: Utf8, publish_date: Date32, author: Utf8; })
        .given("authors", rows! { name: Utf8, id: Int64, birth_date: Date32; });
    main(test.ctx()).await.unwrap();
    assert_eq!(test.sink("books"), format!("{:?}", data_product(test.args()).audited(rules())));
    // Each source is read once, and only the join is between them and the sink.
    assert_snapshot!(optimized_plan(&test.saved_plan("books")).unwrap(), @r"
    Projection: books.title, books.publish_date, books.author AS author_name, authors.birth_date AS author_birth_date, authors.id AS author_id
      Left Join: books.author = authors.name
        TableScan: books projection=[title, publish_date, author]
        TableScan: authors projection=[name, id, birth_date]
    ");
}

#[rstest]
#[case::known("Ann", rows! { name, id; "Ann", 1 }, rows! { author_name, author_id; "Ann", 1 })]
#[case::unknown("Bob", rows! { name, id; "Ann", 1 }, rows! { author_name, author_id; "Bob", null })]
#[case::spelled_otherwise("ann", rows! { name, id; "Ann", 1 }, rows! { author_name, author_id; "ann", null })]
#[case::none(None, rows! { name, id; "Ann", 1; null, 2 }, rows! { author_name: Utf8, author_id; null, null })]
#[case::no_authors("Ann", rows! { name: Utf8, id: Int64; }, rows! { author_name, author_id; "Ann", null })]
#[case::two_of_one_name("Ann", rows! { name, id; "Ann", 1; "Ann", 2 }, rows! { author_name, author_id; "Ann", 1; "Ann", 2 })]
#[case::one_without_books("Ann", rows! { name, id; "Ann", 1; "Bob", 2 }, rows! { author_name, author_id; "Ann", 1 })]
fn a_book_gets_the_author_of_that_name(
    #[case] author: impl Into<Option<&'static str>>,
    #[case] authors: Frame,
    #[case] expected: Frame,
) {
    let books = rows! { title, publish_date: Date32, author: Utf8; "Dune", "1965-08-01", author.into() };
    let authors = authors.df().with_column("birth_date", cast(lit("1990-01-02"), DataType::Date32)).unwrap();
    let found = with_author(books.df(), authors).unwrap();
    assert_frame(found, expected.ignoring_other_columns());
}

#[test]
fn no_book_is_lost_and_none_is_merged() {
    let books = rows! {
        title,  publish_date: Date32, author;
        "Dune", null,                 "Ann";
        "Dune", null,                 "Ann";
        "Dune", null,                 "Bob";
    };
    let authors = rows! { name, id, birth_date: Date32; "Ann", 1, null };
    assert_frame_snapshot!(with_author(books.in_batches(3).df(), authors.df()).unwrap(), @r"
    title: Utf8 | publish_date: Date32 | author_name: Utf8 | author_birth_date: Date32 | author_id: Int64
    Dune        | null                 | Ann               | null                      | 1
    Dune        | null                 | Ann               | null                      | 1
    Dune        | null                 | Bob               | null                      | null
    ");
}

#[tokio::test]
async fn nothing_is_saved_if_the_authors_cannot_be_loaded() {
    let books = rows! { title, publish_date: Date32, author; "Dune", "1965-08-01", "Frank Herbert" };
    let test = TestContext::new(args()).given("books", books).given("authors", Error::not_found("there is no file"));
    assert_eq!(main(test.ctx()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(test.calls(), ["load books", "load authors"]);
}

#[rstest]
#[case::complete(r#"{"name": "Ann", "id": 1, "birth_date": "1990-01-02"}"#, None)]
#[case::born_on_an_unknown_day(r#"{"name": "Ann", "id": 1}"#, None)]
#[case::no_name(r#"{"id": 1}"#, Some("name"))]
#[case::no_id(r#"{"name": "Ann"}"#, Some("id"))]
#[case::a_text_for_an_id(r#"{"name": "Ann", "id": "one"}"#, Some("id"))]
#[case::no_such_day(r#"{"name": "Ann", "id": 1, "birth_date": "1990-02-30"}"#, Some("birth_date"))]
#[tokio::test]
async fn authors_keep_the_contract(#[case] line: &str, #[case] refused: Option<&str>) {
    let lake = TempLake::new();
    lake.write("sample_data/json/authors/authors.jsonl", line);
    let found = load(authors(&Args { source: lake.location().into(), ..args() })).await;
    match refused {
        None => assert_eq!(found.unwrap().num_rows(), 1),
        Some(column) => {
            let error = found.unwrap_err();
            assert_eq!((error.kind(), error.get("column")), (ErrorKind::Refused, Some(column)), "{error:?}");
        }
    }
}
