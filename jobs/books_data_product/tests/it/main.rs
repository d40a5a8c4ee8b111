//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod catalog;
mod quality;

use hardtack_test_support::containers::{S3, s3, s3_of_moto};
use hardtack_test_support::{JobContract, assert_frame, assert_frame_snapshot, job_contract, rows};
use rstest::rstest;

const BOOKS: &str = "sample_data/json/books/books.jsonl";
const AUTHORS: &str = "sample_data/json/authors/authors.jsonl";

const BOOK: &str = r#"{"title": "Dune", "publish_date": "1965-08-01", "author": "Frank Herbert"}"#;
const AUTHOR: &str = r#"{"name": "Frank Herbert", "id": 7, "birth_date": "1920-10-08"}"#;

fn contract() -> JobContract {
    JobContract::new(env!("CARGO_BIN_EXE_books_data_product"), "books")
        .earlier(BOOKS, r#"{"title": "Emma"}"#)
        .earlier(AUTHORS, AUTHOR)
        .delivered(BOOKS, BOOK)
        .delivered(AUTHORS, AUTHOR)
}

job_contract!(contract());

#[test]
fn joins_the_fixtures_without_any_argument() {
    let job = contract().job_after_the_fixtures("fixtures/lake");
    assert_frame_snapshot!(job.dir().read_parquet("target/lake/books"), @r"
    title: Utf8                     | publish_date: Date32 | author_name: Utf8 | author_birth_date: Date32 | author_id: Int64
    A Field Guide to Missing Trains | 2003-05-22           | Tobias Fenn       | 1968-11-02                | 2
    Letters from the Tidal Office   | 1902-12-01           | E. Harrow         | null                      | null
    Noches de papel                 | 2011-10-08           | Inés Okafor       | null                      | 3
    Salt and Timetables             | 1994-09-01           | Mara Quill        | 1951-06-30                | 1
    Songs of the Weir               | null                 | null              | null                      | null
    The Lighthouse Ledger           | 1987-03-14           | Mara Quill        | 1951-06-30                | 1
    ");
}

#[test]
fn a_book_has_its_author() {
    let job = contract().job_with_delivery();
    job.run().assert_code(0);
    assert_frame(
        job.dir().read_parquet("out/books"),
        rows! {
            title,  publish_date: Date32, author_name,     author_birth_date: Date32, author_id;
            "Dune", "1965-08-01",         "Frank Herbert", "1920-10-08",              7;
        },
    );
}

/// A failing run reports the error, and existing data stays.
#[rstest]
#[case::malformed_line(BOOKS, "{\"title\": \"Dune\"}\n{\"tit", &["books.jsonl", "line: 2"])]
#[case::malformed_author(AUTHORS, "[1,", &["authors.jsonl", "line: 1"])]
#[case::id_that_is_none(AUTHORS, r#"{"name": "Ann", "id": 1.5}"#, &["authors.jsonl", "line: 1", "id", "1.5"])]
fn what_is_wrong_is_named_and_nothing_is_published(#[case] path: &str, #[case] content: &str, #[case] named: &[&str]) {
    contract().refuses(path, content, 3, named);
}

#[rstest]
#[case::books(BOOKS, "sample_data/json/books")]
#[case::authors(AUTHORS, "sample_data/json/authors")]
fn a_folder_that_is_missing_is_named(#[case] path: &str, #[case] named: &str) {
    contract().misses(path, named);
}

#[rstest]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn what_is_on_s3_is_what_is_in_a_folder(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    contract().what_is_on_s3_is_what_is_in_a_folder(&service());
}
