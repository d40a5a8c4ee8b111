//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod catalog;

use hardtack_test_support::containers::{S3, s3, s3_of_moto};
use hardtack_test_support::{Finished, JobContract, assert_frame, job_contract, rows};
use insta::assert_snapshot;
use rstest::rstest;

const PATH: &str = "sample_data/json/books/books.jsonl";
const BOOKS: &str = r#"
{"title": "Dune", "publish_date": "1965-08-01", "author": "Frank Herbert"}
{"title": "Beowulf", "publish_date": null, "author": null}
"#;

fn contract() -> JobContract {
    let emma = r#"{"title": "Emma"}"#;
    JobContract::new(env!("CARGO_BIN_EXE_raw_books"), "raw/books").earlier(PATH, emma).delivered(PATH, BOOKS)
}

job_contract!(contract());

#[test]
fn loads_the_fixtures_without_any_argument() {
    let job = contract().job_after_the_fixtures("fixtures/lake");
    assert_snapshot!(hardtack_test_support::table(job.dir().read_parquet("target/lake/raw/books")), @r"
    title: Utf8                     | publish_date: Date32 | author_name: Utf8
    A Field Guide to Missing Trains | 2003-05-22           | Tobias Fenn
    Letters from the Tidal Office   | 1902-12-01           | E. Harrow
    Noches de papel                 | 2011-10-08           | Inés Okafor
    Salt and Timetables             | 1994-09-01           | Mara Quill
    Songs of the Weir               | null                 | null
    The Lighthouse Ledger           | 1987-03-14           | Mara Quill
    ");
}

#[test]
fn the_table_is_one_file_with_all_books() {
    let job = contract().job_with_delivery();
    job.run().assert_code(0);
    assert_frame(
        job.dir().read_parquet("out/raw/books"),
        rows! {
            title,     publish_date: Date32, author_name;
            "Dune",    "1965-08-01",         "Frank Herbert";
            "Beowulf", null,                 null;
        },
    );
    assert_eq!(job.dir().files("out/raw/books").len(), 1);
}

/// The message of a run that refuses a file.
#[rstest]
#[case::malformed_line("{\"title\": \"Dune\"}\n{\"title\": Emma}\n", &[])]
#[case::broken_contract(
    "{\"title\": \"Dune\"}\n{\"title\": \"Emma\", \"publish_date\": \"long ago\"}\n",
    &["publish_date", "long ago"]
)]
fn what_goes_wrong_is_named_and_nothing_is_published(#[case] content: &str, #[case] named: &[&str]) {
    contract().refuses("sample_data/json/books/bad.jsonl", content, 3, &[&["bad.jsonl", "line: 2"], named].concat());
}

#[rstest]
#[case::missing_folder("")]
#[case::empty_folder("sample_data/json/books/books.jsonl")]
fn a_folder_without_files_is_named(#[case] removed: &str) {
    contract().delivered("sample_data/json/books/.hidden", "").misses(removed, "in/sample_data/json/books");
}

#[rstest]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn what_is_on_s3_is_what_is_in_a_folder(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    contract().what_is_on_s3_is_what_is_in_a_folder(&service());
}

/// The lines that a run wrote to standard error: one JSON object each.
fn lines_of_json(finished: &Finished) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("`{line}` is no JSON: {e}"));
    finished.stderr.lines().map(parse).collect()
}

/// Without a terminal, the output is for machines by default: logs with a level and a message, and at the end one line
/// with the run record or the error.
#[test]
fn a_run_speaks_json_off_a_terminal() {
    let job = contract().job_with_delivery().args(["--log", "debug"]);

    let mut lines = lines_of_json(job.run().assert_code(0));
    let record = lines.pop().unwrap();
    let keys: Vec<_> = record.keys().map(String::as_str).collect();
    assert_snapshot!(keys.join(" "), @"level job message run status finished_at commit sources sinks bookmarks_from bookmarks_to error");
    for (end, name, keys) in
        [("sources", "books", "files rows bytes seconds"), ("sinks", "raw_books", "files rows bytes seconds location")]
    {
        let counts = record[end][name].as_object().unwrap();
        assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>().join(" "), keys);
        assert_eq!((&counts["files"], &counts["rows"]), (&1.into(), &2.into()));
    }
    assert_eq!(record["sinks"]["raw_books"]["location"], "out/raw/books");
    assert_eq!((&record["status"], &record["commit"]), (&"succeeded".into(), &1.into()));
    assert!(!lines.is_empty(), "nothing was logged");

    job.dir().remove("in");
    let mut failed = lines_of_json(job.run().assert_code(1));
    let error = failed.pop().unwrap();
    assert_snapshot!(serde_json::to_string_pretty(&error).unwrap(), @r#"
    {
      "level": "ERROR",
      "job": "raw_books",
      "message": "no file to read: looked for `*.json`, `*.jsonl`, `*.ndjson` (or compressed); use `or_empty` if that is acceptable (location: in/sample_data/json/books, source: books)",
      "kind": "not found",
      "exit_code": 1
    }
    "#);
    for line in lines.iter().chain(&failed) {
        for key in ["timestamp", "level", "message", "target"] {
            assert!(line.contains_key(key), "`{key}` is missing: {line:?}");
        }
    }
}

/// For people: a line per source and sink, and the result.
#[test]
fn a_run_ends_with_a_summary_for_people() {
    let job = contract().job_with_delivery().args(["--log-format", "pretty"]);
    insta::with_settings!({filters => vec![
        (r"/\S*/\.tmp\w{6}\b", "[dir]"),
        (r"\d+\.\d\d s", "[seconds]"),
        (r"\d{8}T\d{6}Z-[0-9a-f]{8}", "[run]"),
        (r"[\d.]+ (Ki)?B\b", "[bytes]"),
    ]}, {
        assert_snapshot!(job.run().stderr, @"
        read   books: 1 file, 2 rows, [bytes]
        wrote  raw_books: 1 file, 2 rows, [bytes] to out/raw/books
        raw_books succeeded in [seconds] (run [run], commit 1)
        ");
        job.dir().remove("in");
        assert_snapshot!(job.run().stderr, @"
        raw_books failed: no file to read: looked for `*.json`, `*.jsonl`, `*.ndjson` (or compressed); use `or_empty` if that is acceptable (location: in/sample_data/json/books, source: books)
        (exit code 1: not found)
        ");
    });
}
