//! The binary from end to end.

use hardtack_test_support::{JobBinary, assert_frame, rows};
use insta::assert_snapshot;
use rstest::rstest;

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
    job.dir().copy("fixtures/lake", concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/lake"));
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
