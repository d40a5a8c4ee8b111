//! The binary from end to end.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod catalog;
mod s3;

use hardtack_test_support::{Finished, JobBinary, assert_frame, rows};
use insta::assert_snapshot;
use rstest::rstest;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/lake");

const BOOKS: &str = r#"
{"title": "Dune", "publish_date": "1965-08-01", "author": "Frank Herbert"}
{"title": "Beowulf", "publish_date": null, "author": null}
"#;

fn job() -> JobBinary<'static> {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_raw_books"));
    job.dir().write("in/sample_data/json/books/books.jsonl", BOOKS);
    job
}

#[test]
fn loads_the_fixtures_without_any_argument() {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_raw_books"));
    job.dir().copy("fixtures/lake", FIXTURES);
    job.run().assert_code(0);
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

#[rstest]
#[case::plain("out")]
#[case::deep("a/b/c")]
#[case::spaces("my lake")]
#[case::unicode("Bücher/書")]
#[case::percent("100%/x%20y")]
#[case::like_a_partition("day=1")]
fn running_again_ends_in_the_same_state(#[case] target: &str) {
    let job = job().args(["--source", "in", "--target", target]);
    for _ in 0..2 {
        job.run().assert_code(0);
        let table = format!("{target}/raw/books");
        assert_frame(
            job.dir().read_parquet(&table),
            rows! {
                title,     publish_date: Date32, author_name;
                "Dune",    "1965-08-01",         "Frank Herbert";
                "Beowulf", null,                 null;
            },
        );
        assert_eq!(job.dir().files(&table).len(), 1);
        assert_eq!(job.dir().hidden_files(&table), [""; 0]);
    }
}

#[test]
fn arguments_come_from_the_environment_too() {
    let job = job().env("SOURCE", "in").env("TARGET", "from-env");
    job.run().assert_code(0);
    assert_eq!(job.dir().read_parquet("from-env/raw/books").num_rows(), 2);
}

/// What a run says when it fails, by exit code.
#[rstest]
#[case::bad_location(2, &["--source", "ftp://host/lake"], &["--source", "ftp://host/lake", "s3://my-bucket"])]
#[case::unknown_argument(2, &["--sauce", "in"], &["--sauce"])]
#[case::missing_folder(1, &["--source", "nowhere"], &["nowhere/sample_data/json/books"])]
#[case::empty_folder(1, &["--source", "empty"], &["empty/sample_data/json/books"])]
#[case::malformed_line(3, &["--source", "bad"], &["bad.jsonl", "line: 2"])]
#[case::broken_contract(3, &["--source", "odd"], &["odd.jsonl", "line: 2", "publish_date", "long ago"])]
fn what_goes_wrong_is_named_and_nothing_is_published(#[case] code: i32, #[case] args: &[&str], #[case] named: &[&str]) {
    let job = job();
    job.dir().write("empty/sample_data/json/books/.hidden", "");
    job.dir().write("bad/sample_data/json/books/bad.jsonl", "{\"title\": \"Dune\"}\n{\"title\": Emma}\n");
    let odd = "{\"title\": \"Dune\"}\n{\"title\": \"Emma\", \"publish_date\": \"long ago\"}\n";
    job.dir().write("odd/sample_data/json/books/odd.jsonl", odd);
    job.again().args(["--source", "in", "--target", "out"]).run().assert_code(0);
    let before = job.dir().files("out");

    let finished = job.again().args(args).args(["--target", "out"]).run();

    finished.assert_code(code);
    for part in named {
        assert!(finished.stderr.contains(part), "`{part}` should be named\n{finished}");
    }
    assert_eq!(job.dir().files("out"), before);
    assert_eq!(job.dir().hidden_files("out"), [""; 0]);
}

/// Every line that a run wrote to standard error: one JSON object each.
fn lines_of_json(finished: &Finished) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("`{line}` is no JSON: {e}"));
    finished.stderr.lines().map(parse).collect()
}

/// Off a terminal, machines read what a run says, without being asked to: logs with a level and a message, and at the
/// end one line, with the record of the run or what went wrong.
#[test]
fn a_run_speaks_json_off_a_terminal() {
    let job = job().args(["--target", "out", "--log", "debug"]);

    let mut lines = lines_of_json(job.again().args(["--source", "in"]).run().assert_code(0));
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

    let mut failed = lines_of_json(job.again().args(["--source", "nowhere"]).run().assert_code(1));
    let error = failed.pop().unwrap();
    assert_snapshot!(serde_json::to_string_pretty(&error).unwrap(), @r#"
    {
      "level": "ERROR",
      "job": "raw_books",
      "message": "no file to read: looked for `*.json`, `*.jsonl`, `*.ndjson` (or compressed); use `or_empty` if that is acceptable (location: nowhere/sample_data/json/books, source: books)",
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

/// For people: a line per source and sink, and how it ended.
#[test]
fn a_run_ends_with_a_summary_for_people() {
    let job = job().args(["--target", "out", "--log-format", "pretty"]);
    insta::with_settings!({filters => vec![
        (r"/\S*/\.tmp\w{6}\b", "[dir]"),
        (r"\d+\.\d\d s", "[seconds]"),
        (r"\d{8}T\d{6}Z-[0-9a-f]{8}", "[run]"),
        (r"[\d.]+ (Ki)?B\b", "[bytes]"),
    ]}, {
        assert_snapshot!(job.again().args(["--source", "in"]).run().stderr, @"
        read   books: 1 file, 2 rows, [bytes]
        wrote  raw_books: 1 file, 2 rows, [bytes] to out/raw/books
        raw_books succeeded in [seconds] (run [run], commit 1)
        ");
        assert_snapshot!(job.again().args(["--source", "nowhere"]).run().stderr, @"
        raw_books failed: no file to read: looked for `*.json`, `*.jsonl`, `*.ndjson` (or compressed); use `or_empty` if that is acceptable (location: nowhere/sample_data/json/books, source: books)
        (exit code 1: not found)
        ");
    });
}
