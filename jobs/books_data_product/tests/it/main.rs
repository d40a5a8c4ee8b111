//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod catalog;
mod s3;

use hardtack_test_support::{JobBinary, TempLake, assert_frame, assert_frame_snapshot, rows};
use rstest::rstest;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/lake");

fn job() -> JobBinary<'static> {
    JobBinary::new(env!("CARGO_BIN_EXE_books_data_product"))
}

fn write_lake(dir: &TempLake, lake: &str, books: &str, authors: &str) {
    dir.write(&format!("{lake}/sample_data/json/books/books.jsonl"), books);
    dir.write(&format!("{lake}/sample_data/json/authors/authors.jsonl"), authors);
}

const BOOK: &str = r#"{"title": "Dune", "publish_date": "1965-08-01", "author": "Frank Herbert"}"#;
const AUTHOR: &str = r#"{"name": "Frank Herbert", "id": 7, "birth_date": "1920-10-08"}"#;

#[test]
fn joins_the_fixtures_without_any_argument() {
    let job = job();
    job.dir().copy("fixtures/lake", FIXTURES);
    job.run().assert_code(0);
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

#[rstest]
#[case::plain("out")]
#[case::absolute_with_slash("ABSOLUTE/")]
#[case::spaces("my lake")]
#[case::unicode("Bücher/書")]
#[case::percent("100%/x%20y")]
fn running_again_ends_in_the_same_state(#[case] target: &str) {
    let job = job();
    write_lake(job.dir(), "in", BOOK, AUTHOR);
    let absolute = job.dir().path().to_string_lossy().into_owned();
    let job = job.args(["--source", "in", "--target", &target.replace("ABSOLUTE", &absolute)]);
    let table = format!("{}/books", target.replace("ABSOLUTE/", "."));
    for _ in 0..2 {
        job.run().assert_code(0);
        assert_frame(
            job.dir().read_parquet(&table),
            rows! {
                title,  publish_date: Date32, author_name,     author_birth_date: Date32, author_id;
                "Dune", "1965-08-01",         "Frank Herbert", "1920-10-08",              7;
            },
        );
    }
}

#[test]
fn what_was_delivered_last_is_what_is_there() {
    let job = job().args(["--source", "in", "--target", "out"]);
    write_lake(job.dir(), "in", BOOK, AUTHOR);
    job.run().assert_code(0);
    write_lake(job.dir(), "in", r#"{"title": "Emma"}"#, AUTHOR);
    job.run().assert_code(0);
    assert_frame(job.dir().read_parquet("out/books"), rows! { title; "Emma" }.ignoring_other_columns());
    assert_eq!(job.dir().files("out").len(), 1);
}

/// A run that fails says what is wrong, and what was there stays.
#[rstest]
#[case::no_books_folder(1, "", AUTHOR, &["sample_data/json/books"])]
#[case::no_authors_folder(1, BOOK, "", &["sample_data/json/authors"])]
#[case::malformed_line(3, "{\"title\": \"Dune\"}\n{\"tit", AUTHOR, &["books.jsonl", "line: 2"])]
#[case::malformed_author(3, BOOK, "[1,", &["authors.jsonl", "line: 1"])]
#[case::id_that_is_none(3, BOOK, r#"{"name": "Ann", "id": 1.5}"#, &["authors.jsonl", "line: 1", "id", "1.5"])]
fn what_is_wrong_is_named_and_nothing_is_published(
    #[case] code: i32,
    #[case] books: &str,
    #[case] authors: &str,
    #[case] named: &[&str],
) {
    let job = job();
    write_lake(job.dir(), "good", BOOK, AUTHOR);
    write_lake(job.dir(), "bad", books, authors);
    for (path, text) in [("books/books.jsonl", books), ("authors/authors.jsonl", authors)] {
        if text.is_empty() {
            job.dir().remove(&format!("bad/sample_data/json/{path}"));
        }
    }
    let job = job.args(["--target", "out"]);
    job.again().args(["--source", "good"]).run().assert_code(0);
    let before = job.dir().files("out");

    let finished = job.again().args(["--source", "bad"]).run();

    finished.assert_code(code);
    for part in named {
        assert!(finished.stderr.contains(part), "`{part}` should be named\n{finished}");
    }
    assert_eq!(job.dir().files("out"), before);
    assert_eq!(job.dir().hidden_files("out"), [""; 0]);
}

#[rstest]
#[case::unknown(&["--sauce", "in"], "--sauce")]
#[case::malformed(&["--target", "ftp://host/lake"], "s3://my-bucket")]
#[case::location_for_a_database(&["--target-database", "s3://lake/books"], "--target-database")]
#[case::table_for_a_database(&["--source-database", "raw.books"], "name only the database")]
#[case::no_database(&["--source-database", ""], "--source-database")]
#[case::without_a_value(&["--source"], "--source")]
fn bad_usage_ends_with_code_2(#[case] args: &[&str], #[case] named: &str) {
    let finished = job().args(args).run();
    finished.assert_code(2);
    assert!(finished.stderr.contains(named), "`{named}` should be named\n{finished}");
}

#[test]
fn a_dry_run_touches_nothing_and_says_what_is_not_there() {
    let job = job().args(["--source", "in", "--target", "out", "--dry-run"]);
    let run = job.run();
    run.assert_code(1);
    assert!(run.stderr.contains("no file to read"), "{run}");
    assert_eq!((job.dir().files(""), job.dir().hidden_files("")), (vec![], vec![]));
    write_lake(job.dir(), "in", BOOK, AUTHOR);
    let there = job.dir().files("");
    job.run().assert_code(0);
    assert_eq!((job.dir().files(""), job.dir().hidden_files("")), (there, vec![]));
}

#[test]
fn a_killed_run_publishes_nothing_and_the_next_one_all() {
    let job = job().args(["--source", "in", "--target", "out"]);
    write_lake(job.dir(), "in", BOOK, AUTHOR);
    let killed = job.failing_at("state.commit.before", "return(kill)").run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    assert_eq!(job.dir().files("out"), [""; 0]);
    job.run().assert_code(0);
    assert_eq!((job.dir().files("out").len(), job.dir().hidden_files("out")), (1, vec![]));
}
