use hardtack_test_support::{Frame, TempLake, TestContext, assert_frame, load, rows, save};
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
fn raw_books_replace_the_table() {
    let expected = ParquetDataset::new("raw_books", "s3://out/raw/books");
    let schema = schema! { title: string not null, publish_date: date, author_name: string };
    assert_eq!(raw_books(&args()), Dataset::new(expected.with_schema(schema), None).overwrite());
}

#[tokio::test]
async fn books_are_saved_in_our_words() {
    let books = rows! {
        title,      publish_date: Date32, author;
        "Catch 22", "1961-11-10",         "Joseph Heller";
        "Beowulf",  null,                 null;
    };
    let test = TestContext::new(args()).given("books", books);

    main(test.ctx()).await.unwrap();

    let expected = rows! {
        title,      publish_date: Date32, author_name;
        "Catch 22", "1961-11-10",         "Joseph Heller";
        "Beowulf",  null,                 null;
    };
    assert_frame(test.saved("raw_books"), expected.keyed_by(["title"]));
    assert_eq!(test.calls(), ["load books", "save raw_books"]);
    assert_eq!(test.sink("raw_books"), format!("{:?}", raw_books(test.args())));
}

#[tokio::test]
async fn nothing_is_saved_if_the_books_cannot_be_loaded() {
    let test = TestContext::new(args()).given("books", Error::not_found("there is no file"));
    assert_eq!(main(test.ctx()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(test.calls(), ["load books"]);
}

#[rstest]
#[case::a_book(r#"{"title": "Dune", "publish_date": "1965-08-01", "author": "Frank Herbert"}"#, Ok("Dune"))]
#[case::nothing_but_a_title(r#"{"title": "Dune"}"#, Ok("Dune"))]
#[case::more_than_we_want(r#"{"title": "Dune", "pages": 612}"#, Ok("Dune"))]
#[case::no_title(r#"{"author": "Frank Herbert"}"#, Err("title"))]
#[case::no_date(r#"{"title": "Dune", "publish_date": "long ago"}"#, Err("publish_date"))]
#[case::a_year(r#"{"title": "Dune", "publish_date": "1965"}"#, Err(r#"line: 1, column: publish_date, value: "1965")"#))]
#[case::a_number(r#"{"title": "Dune", "publish_date": 870314}"#, Err("line: 1, column: publish_date, value: 870314)"))]
#[case::a_month(r#"{"title": "Dune", "publish_date": "198703"}"#, Err("books.jsonl"))]
#[case::no_json("Dune", Err("line: 1"))]
#[tokio::test]
async fn the_contract_with_the_deliverer(#[case] line: &str, #[case] expected: Result<&str, &str>) {
    let lake = TempLake::new();
    lake.write("sample_data/json/books/books.jsonl", line);
    let source = books(&Args { source: lake.location().into(), ..args() });
    match (load(source).await, expected) {
        (Ok(found), Ok(title)) => assert_frame(found, rows! { title; title }.ignoring_other_columns()),
        (Err(error), Err(part)) => {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
            assert!(error.chain().contains(part), "{error:?}");
        }
        (found, expected) => panic!("expected {expected:?}, found {found:?}"),
    }
}

#[tokio::test]
async fn the_contract_with_the_readers() {
    let lake = TempLake::new();
    let sink = raw_books(&Args { target: lake.location().into(), ..args() });
    let text = |date: &str| rows! { title, publish_date, author_name, pages; "Dune", date, "Frank Herbert", 612 };

    let report = save(sink.clone(), text("1965-08-01")).await.unwrap();
    assert_eq!((report.files, report.rows), (1, 1));
    let expected = rows! { title, publish_date: Date32, author_name; "Dune", "1965-08-01", "Frank Herbert" };
    assert_frame(lake.read_parquet("raw/books"), &expected);

    let error = save(sink, text("long ago")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_frame(lake.read_parquet("raw/books"), &expected);
}

#[test]
fn the_plan_renames_and_does_nothing_else() {
    let books = rows! { title: Utf8, publish_date: Date32, author: Utf8; }.named("books");
    assert_snapshot!(hardtack_test_support::logical_plan(&in_our_words(books.df()).unwrap()), @r"
    Projection: books.title, books.publish_date, books.author AS author_name
      TableScan: books
    ");
    let empty: Frame = in_our_words(books.df()).unwrap().into();
    assert_eq!(empty.columns(), ["title", "publish_date", "author_name"]);
}
