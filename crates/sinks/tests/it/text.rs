//! CSV files and JSON lines.

use std::path::Path;

use hardtack_core::{Location, Sink};
use hardtack_sinks::{CsvFile, JsonLines};
use rstest::rstest;

use crate::{context, files, save, sql};

const ROWS: &str = "select * from (values
    (1, 'plain', 1.5, date '2026-01-31'),
    (2, 'quote \" comma , line\nbreak', null, null),
    (3, '', -0.0, date '1969-12-31')) as t(n, text, x, day) order by n";

fn content(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[tokio::test]
async fn csv() {
    let folder = tempfile::tempdir().unwrap();
    let root = Location::from(folder.path());
    save(&context("r"), &CsvFile::new("a", root.join("a.csv")), ROWS).await;
    insta::assert_snapshot!(content(folder.path(), "a.csv"), @r#"
    n,text,x,day
    1,plain,1.5,2026-01-31
    2,"quote "" comma , line
    break",,
    3,,-0.0,1969-12-31
    "#);
    let other = CsvFile::new("b", root.join("b.csv")).with_delimiter(b';').without_header().with_null_text("NULL");
    save(&context("r"), &other, ROWS).await;
    insta::assert_snapshot!(content(folder.path(), "b.csv"), @r#"
    1;plain;1.5;2026-01-31
    2;"quote "" comma , line
    break";NULL;NULL
    3;;-0.0;1969-12-31
    "#);
    save(&context("r"), &CsvFile::new("c", root.join("c.csv")), "select 1 as n where false").await;
    assert_eq!(content(folder.path(), "c.csv"), "n\n", "a header without rows");
}

#[tokio::test]
async fn json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let sink = JsonLines::new("a", Location::from(folder.path()).join("a.jsonl"));
    save(&context("r"), &sink, ROWS).await;
    insta::assert_snapshot!(content(folder.path(), "a.jsonl"), @r#"
    {"n":1,"text":"plain","x":1.5,"day":"2026-01-31"}
    {"n":2,"text":"quote \" comma , line\nbreak","x":null,"day":null}
    {"n":3,"text":"","x":-0.0,"day":"1969-12-31"}
    "#);
    // A run replaces the file.
    save(&context("r2"), &sink, "select struct(1 as a, [1, 2] as b) as s").await;
    insta::assert_snapshot!(content(folder.path(), "a.jsonl"), @r#"{"s":{"a":1,"b":[1,2]}}"#);
    assert_eq!(files(folder.path()), ["a.jsonl"]);
}

#[rstest]
#[case("a.csv.gz", &[0x1f, 0x8b])]
#[case("a.csv.zst", &[0x28, 0xb5, 0x2f, 0xfd])]
#[case("a.csv.bz2", b"BZh")]
#[case("a.csv.xz", &[0xfd, b'7', b'z'])]
#[tokio::test]
async fn compressed_by_suffix(#[case] name: &str, #[case] magic: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let ctx = context("r");
    save(
        &ctx,
        &CsvFile::new("a", Location::from(&path)),
        "select value as n from generate_series(1, 10000) order by 1",
    )
    .await;
    assert!(std::fs::read(&path).unwrap().starts_with(magic));
    let options = datafusion::prelude::CsvReadOptions::new()
        .file_extension(name)
        .file_compression_type(name.rsplit('.').next().unwrap().parse().unwrap());
    let rows = ctx.session().read_csv(path.to_str().unwrap(), options).await.unwrap();
    assert_eq!(rows.count().await.unwrap(), 10_000);
}

#[tokio::test]
async fn what_a_file_cannot_be() {
    let ctx = context("r");
    let rows = sql(&ctx, "select 1 as n, [1] as list").await;
    let error = CsvFile::new("a", "memory:/a.csv").stage(&ctx.staging("out"), rows.clone()).await.unwrap_err();
    insta::assert_snapshot!(error, @"CSV does not support the column `list` (type: List(Int64), hint: flatten it, or write JSON lines or Parquet)");
    let error = JsonLines::new("a", "memory:/folder/").stage(&ctx.staging("out"), rows).await.unwrap_err();
    insta::assert_snapshot!(error, @"`memory:/folder/` is a folder; name the file, such as `memory:/folder/rows.csv`");
}

const MOMENTS: &str = "select arrow_cast(9223372036854775807, 'Timestamp(Microsecond, None)') as at";

/// JSON has no numbers for these, and null would be a different value.
#[tokio::test]
async fn floats_that_are_no_numbers_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::from(folder.path()).join("a.jsonl");
    let rows = "select column1 as n, column2 as x, cast(column2 as float) as y, [column2] as l from (values \
                (1, double 'NaN'), (2, double 'Infinity'), (3, double '-Infinity'), (4, 0.1), (5, null)) order by 1";
    save(&context("r"), &JsonLines::new("a", location.clone()), rows).await;
    insta::assert_snapshot!(content(folder.path(), "a.jsonl"), @r#"
    {"n":1,"x":"NaN","y":"NaN","l":["NaN"]}
    {"n":2,"x":"Infinity","y":"Infinity","l":["Infinity"]}
    {"n":3,"x":"-Infinity","y":"-Infinity","l":["-Infinity"]}
    {"n":4,"x":0.1,"y":0.1,"l":[0.1]}
    {"n":5,"x":null,"y":null,"l":[null]}
    "#);
    let schema = hardtack_catalog::schema! { n: bigint, x: double, y: float, l: array<double> };
    let ctx = context("r2");
    let source = hardtack_sources::JsonFiles::new("a", location).with_schema(schema);
    let read = ctx.load(source).await.unwrap();
    let read = read.sort_by(vec![datafusion::prelude::col("n")]).unwrap().collect().await.unwrap();
    insta::assert_snapshot!(datafusion::arrow::util::pretty::pretty_format_batches(&read).unwrap(), @"
    +---+------+------+--------+
    | n | x    | y    | l      |
    +---+------+------+--------+
    | 1 | NaN  | NaN  | [NaN]  |
    | 2 | inf  | inf  | [inf]  |
    | 3 | -inf | -inf | [-inf] |
    | 4 | 0.1  | 0.1  | [0.1]  |
    | 5 |      |      | []     |
    +---+------+------+--------+
    ");
}

#[rstest]
#[case("a.jsonl", MOMENTS)]
#[case("a.csv", MOMENTS)]
#[case("a.csv", "select arrow_cast(arrow_cast(-2147483648, 'Int32'), 'Date32') as at")]
#[case("a.jsonl", "select [struct(arrow_cast(arrow_cast(2147483647, 'Int32'), 'Date32') as day)] as at")]
#[tokio::test]
async fn moments_beyond_the_calendar_are_refused(#[case] name: &str, #[case] rows: &str) {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::from(folder.path()).join(name);
    let sink: Box<dyn Sink> = match name {
        "a.csv" => Box::new(CsvFile::new("a", location)),
        _ => Box::new(JsonLines::new("a", location)),
    };
    let ctx = context("r");
    let rows = ctx.session().sql(rows).await.unwrap();
    let error = sink.stage(&ctx.staging("out"), rows).await.unwrap_err();
    assert_eq!((error.kind(), error.get("column")), (hardtack_core::ErrorKind::Refused, Some("at")), "{error}");
}
