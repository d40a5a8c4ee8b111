//! Folders whose columns are given.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::common::{ScalarValue, record_batch};
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{Expr, col, lit};
use hardtack_core::store::StoreFactory;
use hardtack_core::{JobContext, Location, Meter, Store, Stores};
use hardtack_sources::{FileFilter, FileFormat, Folder, FolderCsv, FolderScan, Globs};
use insta::assert_snapshot;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use rstest::rstest;

use crate::avro::avro;
use crate::files::write;
use crate::parquet::parquet;
use crate::{context, put, schema, with_files};

fn csv(header_lines: u32) -> FileFormat {
    let (delimiter, quote) = (b',', Some(b'"'));
    FileFormat::Csv(FolderCsv {
        delimiter,
        quote,
        escape: None,
        null_text: None,
        comment: None,
        header_lines,
        skip_lines: 0,
    })
}

fn folder(path: &str, format: FileFormat, year: i32) -> Folder {
    let location = format!("memory:/{path}").as_str().into();
    Folder { location, format, values: vec![ScalarValue::from(year)], wanted: FileFilter::default() }
}

/// A scan of ids and names, in folders by year.
fn scan() -> (FolderScan, Arc<Meter>) {
    let meter = Arc::<Meter>::default();
    let columns = schema(&[("id", DataType::Int64), ("name", DataType::Utf8), ("year", DataType::Int32)]);
    (FolderScan::new(&columns, 1, Arc::clone(&meter)), meter)
}

/// The plan in short, and its rows; or the error.
async fn read(ctx: &JobContext, scan: &FolderScan, folders: Vec<Folder>, columns: Option<&Vec<usize>>) -> String {
    limited(ctx, scan, folders, columns, None).await
}

async fn limited(
    ctx: &JobContext,
    scan: &FolderScan,
    folders: Vec<Folder>,
    columns: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> String {
    let planned = scan.plan(folders, columns, limit, &ctx.session().state()).await;
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => return hardtack_core::Error::from(error).to_string(),
    };
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    let names: Vec<_> = shown
        .split_whitespace()
        .filter(|word| ["Exec", "limit=", "file_type="].iter().any(|part| word.contains(part)))
        .collect();
    match collect(Arc::clone(&plan), ctx.session().task_ctx()).await {
        Ok(rows) => {
            let rows = pretty_format_batches_with_schema(plan.schema(), &rows).unwrap().to_string();
            let mut rows: Vec<&str> = rows.lines().collect();
            // Partitions arrive in the order of completion.
            let last = rows.len() - 1;
            rows[last.min(3)..last].sort_unstable();
            format!("{}\n{}", names.join(" ").replace([':', ','], ""), rows.join("\n"))
        }
        Err(error) => hardtack_core::Error::from(error).to_string(),
    }
}

/// Stores whose listings take a while.
#[derive(Debug)]
struct SlowListings;

impl StoreFactory for SlowListings {
    fn open(&self, url: &url::Url) -> hardtack_core::Result<Store> {
        let (plain, _) = Stores::new(false).open(&Location::from(url.as_str()))?;
        let slow = ThrottleConfig { wait_list_per_call: SLOW, ..ThrottleConfig::default() };
        Ok(Store { objects: Arc::new(ThrottledStore::new(plain.objects, slow)), ..plain })
    }
}

const SLOW: Duration = Duration::from_millis(100);

/// Requests to a store wait together. Local folders would need a thread each, and threads take memory, so only some do.
#[rstest]
#[case::store("memory:/", 1..8)]
#[case::local("file:///no/such/folder/", 8..100)]
#[tokio::test]
async fn many_folders_are_listed_at_once_and_fewer_local_ones(#[case] root: &str, #[case] waits: Range<u32>) {
    let builder = JobContext::builder("test").store_factory("memory", Arc::new(SlowListings));
    let ctx = builder.store_factory("file", Arc::new(SlowListings)).build().unwrap();
    let folders = (0..64).map(|i| Folder { location: format!("{root}{i}").as_str().into(), ..folder("", csv(1), i) });
    let start = Instant::now();
    scan().0.plan(folders.collect(), None, None, &ctx.session().state()).await.unwrap();
    let took = start.elapsed();
    assert!(waits.start * SLOW <= took && took < waits.end * SLOW, "{took:?}");
}

/// A catalog has lower-case names only.
#[tokio::test]
async fn folders_of_all_formats_are_read_together_in_any_case() {
    let batch = record_batch!(("NAME", Utf8, vec!["p"]), ("Id", Int32, vec![2])).unwrap();
    let ctx = with_files([
        ("t/1/whatever", br#"{"ID": 1, "Name": "j"}"#.to_vec()),
        ("t/2/whatever", parquet(&batch)),
        ("t/3/whatever", avro(&batch)),
        ("t/4/b", b"Name,ID\nd,5".to_vec()),
        ("t/4/a", b"ID,Name\n4,c".to_vec()),
        ("t/4/_hidden", b"x".to_vec()),
        ("t/4/empty", Vec::new()),
        ("t/5/more", br#"{"id": 6}"#.to_vec()),
    ])
    .await;
    let folders = || {
        vec![
            folder("t/1", FileFormat::Json, 2001),
            folder("t/2", FileFormat::Parquet, 2002),
            folder("t/3/", FileFormat::Avro, 2003),
            folder("t/4", csv(1), 2004),
            folder("t/5", FileFormat::Json, 2005),
            folder("t/nowhere", FileFormat::Parquet, 2006),
        ]
    };
    let (scan, meter) = scan();
    assert_snapshot!(read(&ctx, &scan, folders(), None).await, @"
    UnionExec DataSourceExec file_type=json DataSourceExec file_type=parquet DataSourceExec file_type=avro DataSourceExec file_type=csv
    +----+------+------+
    | id | name | year |
    +----+------+------+
    | 1  | j    | 2001 |
    | 2  | p    | 2002 |
    | 2  | p    | 2003 |
    | 4  | c    | 2004 |
    | 5  | d    | 2004 |
    | 6  |      | 2005 |
    +----+------+------+
    ");
    let counts = meter.counts();
    assert_eq!((counts.files, counts.rows), (6, 6));
    let bytes = 22 + 9 + 11 + 11 + (parquet(&batch).len() + avro(&batch).len()) as u64;
    assert_eq!(meter.expected_bytes(), bytes);
    assert_snapshot!(read(&ctx, &scan, folders(), Some(&vec![2, 0])).await, @"
    UnionExec DataSourceExec file_type=json DataSourceExec file_type=parquet DataSourceExec file_type=avro DataSourceExec file_type=csv
    +------+----+
    | year | id |
    +------+----+
    | 2001 | 1  |
    | 2002 | 2  |
    | 2003 | 2  |
    | 2004 | 4  |
    | 2004 | 5  |
    | 2005 | 6  |
    +------+----+
    ");
}

#[tokio::test]
async fn one_format_needs_no_union_and_nothing_no_files() {
    let ctx = with_files([("t/a", r#"{"id": 1}{"id": 2}"#), ("t/b", "?")]).await;
    let (scan, _) = scan();
    let json = || vec![folder("t", FileFormat::Json, 1)];
    assert_snapshot!(limited(&ctx, &scan, json(), Some(&vec![0]), Some(2)).await, @"
    DataSourceExec limit=2 file_type=json
    +----+
    | id |
    +----+
    | 1  |
    | 2  |
    +----+
    ");
    let none = vec![folder("elsewhere", FileFormat::Json, 1)];
    assert_snapshot!(read(&ctx, &scan, none, Some(&vec![2, 1])).await, @"
    EmptyExec
    +------+------+
    | year | name |
    +------+------+
    +------+------+
    ");
    assert_snapshot!(read(&ctx, &scan, json(), None).await, @"a row of JSON must be an object (file: memory:/t/b, line: 1, value: ?)");
}

/// A single line at the start may be the header; among several it is unknown which. Columns are read by position unless
/// the header has them elsewhere; a file may be older than the last columns, or newer than the schema.
#[rstest]
#[case::no_header(0, "1,a\n2,b", "1: a | 2: b")]
#[case::blank_lines(0, "\n\n1,a\n", "1: a")]
#[case::narrow(0, "1\n2", "1:  | 2: ")]
#[case::wide(0, "1,a,x\n2,b,y", "1: a | 2: b")]
#[case::nothing(0, "\n", "")]
#[case::one_line(1, "id,name\n1,a", "1: a")]
#[case::other_places(1, "NAME,id\na,1\nb,2", "1: a | 2: b")]
#[case::other_names(1, "x,y\n1,a", "1: a")]
#[case::one_of_them_elsewhere(1, "name,x\na,1", ": a")]
#[case::narrow_with_header(1, "ID\n1", "1: ")]
#[case::two_lines(2, "name,id\n9,z\n1,a\n2,b", "1: a | 2: b")]
#[case::two_lines_with_a_mark(2, "\u{feff}name,id\n9,z\n1,a\n2,b", "1: a | 2: b")]
#[case::two_lines_and_no_more(2, "name,id\n9,z", "")]
#[tokio::test]
async fn csv_columns_are_found_by_place_or_header(
    #[case] header_lines: u32,
    #[case] text: &'static str,
    #[case] rows: &str,
) {
    let ctx = with_files([("t/a", text)]).await;
    let (scan, _) = scan();
    let shown = read(&ctx, &scan, vec![folder("t", csv(header_lines), 1)], Some(&vec![0, 1])).await;
    let shown: Vec<_> = shown
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| ")?.strip_suffix('|')?.split('|').map(str::trim)))
        .skip(1)
        .map(|cells| cells.collect::<Vec<_>>().join(": "))
        .collect();
    assert_eq!(shown.join(" | "), rows);
}

/// Fields of structs match in any case, too, and only requested columns are converted.
#[tokio::test]
async fn fields_of_structs_are_read_in_any_case_and_found_by_filters() {
    let of = |name: &str, of: DataType| DataType::Struct(vec![Field::new(name, of, true)].into());
    let json = |text: &str, t: DataType| {
        let columns = Arc::new(Schema::new(vec![Field::new("S", t, true)]));
        arrow::json::ReaderBuilder::new(columns).build(text.as_bytes()).unwrap().next().unwrap().unwrap()
    };
    let list = |of: DataType| DataType::new_list(of, true);
    let rows = json(r#"{"S":[{"X":1}, null]}"#, list(of("X", DataType::Int32)));
    let ctx = with_files([
        ("p/a", parquet(&rows)),
        ("p/b", parquet(&json(r#"{"S":[{"x":2}]}"#, list(of("x", DataType::Int64))))),
        ("a/a", avro(&rows)),
        ("j/a", br#"{"S":[{"X":1}, null]}"#.to_vec()),
    ])
    .await;
    let scan = FolderScan::new(&schema(&[("s", list(of("x", DataType::Int64)))]), 0, Arc::default());
    for (path, format, expected) in [
        ("p", FileFormat::Parquet, "[{x: 1}, ] [{x: 2}]"),
        ("a", FileFormat::Avro, "[{x: 1}, ]"),
        ("j", FileFormat::Json, "[{x: 1}, ]"),
    ] {
        let folder = Folder { values: vec![], ..folder(path, format, 0) };
        let shown = read(&ctx, &scan, vec![folder], None).await;
        let rows: Vec<_> = shown.lines().filter(|l| l.contains('[')).map(|l| l.trim_matches(['|', ' '])).collect();
        assert_eq!(rows.join(" "), expected, "{shown}");
    }
}

#[tokio::test]
async fn columns_that_a_format_cannot_hold_are_refused_if_they_are_wanted() {
    let ctx = with_files([("c/a", "1,x"), ("j/a", "{}")]).await;
    let fields =
        vec![Field::new("id", DataType::Int64, true), Field::new("l", DataType::new_list(DataType::Int64, true), true)];
    let scan = FolderScan::new(&Schema::new(fields), 0, Arc::default());
    let folder = |path, format| vec![Folder { values: vec![], ..folder(path, format, 0) }];
    assert_snapshot!(read(&ctx, &scan, folder("c", csv(0)), Some(&vec![0, 1])).await, @"a CSV file cannot hold a List(Int64) (column: l)");
    assert!(read(&ctx, &scan, folder("c", csv(0)), Some(&vec![0])).await.starts_with("DataSourceExec"));
    assert!(read(&ctx, &scan, folder("j", FileFormat::Json), Some(&vec![1])).await.starts_with("DataSourceExec"));
}

#[tokio::test]
async fn filters_on_partition_columns_are_answered_without_files() {
    let ctx = context(1);
    let (scan, _) = scan();
    assert_eq!(scan.schema().fields().len(), 3);
    assert_eq!(scan.partition_columns().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["year"]);
    let about = |filter: Expr| scan.is_about_partitions(&filter);
    assert!(about(col("year").gt(lit(2001))));
    assert!(!about(col("year").gt(col("id"))), "the other column is in the files");
    assert!(!about(lit(true)), "it asks for nothing");
    let random = datafusion::functions::math::expr_fn::random();
    assert!(!about(col("year").gt(random)), "it says something else each time");

    let years = [Some(2001), Some(2002), None, Some(2003)].map(|year| [ScalarValue::Int32(year)]);
    let years: Vec<&[ScalarValue]> = years.iter().map(|values| values.as_slice()).collect();
    let state = ctx.session().state();
    let select = |filters: &[Expr]| scan.select(&years, filters, &state).unwrap();
    assert_eq!(select(&[]), [true; 4]);
    assert_eq!(select(&[col("year").gt(lit(2001))]), [false, true, false, true]);
    assert_eq!(select(&[col("year").gt(lit(2001)), col("t.year").lt(lit(2003))]), [false, true, false, false]);
    assert_eq!(scan.select(&[], &[col("year").gt(lit(2001))], &state).unwrap(), [false; 0]);
}

#[tokio::test]
async fn folders_of_two_stores_are_read_together() {
    let folder_of_disk = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test makes its own files")]
    std::fs::write(folder_of_disk.path().join("a"), r#"{"id": 2}"#).unwrap();
    let ctx = context(1);
    put(&ctx, "t/a", r#"{"id": 1}"#).await;
    let (scan, _) = scan();
    let on_disk = Folder { location: folder_of_disk.path().into(), ..folder("", FileFormat::Json, 2) };
    let folders = vec![folder("t", FileFormat::Json, 1), on_disk];
    assert_snapshot!(read(&ctx, &scan, folders, Some(&vec![0, 2])).await, @"
    UnionExec DataSourceExec file_type=json DataSourceExec file_type=json
    +----+------+
    | id | year |
    +----+------+
    | 1  | 1    |
    | 2  | 2    |
    +----+------+
    ");
    let unknown = Folder { location: "s3://bucket/t".into(), ..folder("", FileFormat::Json, 2) };
    let refused = read(&ctx, &scan, vec![unknown], None).await;
    assert!(refused.contains("location: s3://bucket/t"), "{refused}");
}

/// Columns are read by position if the header has none of them.
#[tokio::test]
async fn a_row_that_stands_where_a_header_should_is_refused() {
    let (scan, _) = scan();
    let mut told = Vec::new();
    for text in ["1,x\n2,y\n", "1,name\n2,y\n", "key,label\n2,y\n", "id,name\n2,y\n"] {
        let ctx = with_files([("t/a", text)]).await;
        told.push(read(&ctx, &scan, vec![folder("t", csv(1), 2001)], None).await);
    }
    assert_snapshot!(told.join("\n"), @"
    the first record, `1,x`, is not a header, as the table says, but a row (file: memory:/t/a, line: 1, hint: give the file the header that the others have; if no file has one, set `skip.header.line.count` of the table to 0)
    DataSourceExec file_type=csv
    +----+------+------+
    | id | name | year |
    +----+------+------+
    | 2  | y    | 2001 |
    +----+------+------+
    DataSourceExec file_type=csv
    +----+------+------+
    | id | name | year |
    +----+------+------+
    | 2  | y    | 2001 |
    +----+------+------+
    DataSourceExec file_type=csv
    +----+------+------+
    | id | name | year |
    +----+------+------+
    | 2  | y    | 2001 |
    +----+------+------+
    ");
}

#[rstest]
#[case::all(&[], &[], "12345")]
#[case::only(&["*.json"], &[], "13")]
#[case::except(&[], &["*.json", "below"], "24")]
#[case::both(&["**.json"], &["below/**"], "13")]
#[case::none(&["*.csv"], &[], "")]
#[tokio::test]
async fn only_files_that_are_meant_are_read(#[case] only: &[&str], #[case] except: &[&str], #[case] ids: &str) {
    let names = ["1.json", "2.txt", "3.json", "4", "below/5.json"];
    let content = |name: &str| format!("{{\"id\": {}}}", name.chars().find(char::is_ascii_digit).unwrap());
    let ctx = context(1);
    for name in names {
        put(&ctx, &format!("t/{name}"), content(name)).await;
    }
    let wanted = FileFilter { only: Globs::parse(only).unwrap(), except: Globs::parse(except).unwrap() };
    let (scan, _) = scan();
    let folder = Folder { wanted, ..folder("t", FileFormat::Json, 1) };
    let shown = read(&ctx, &scan, vec![folder], Some(&vec![0])).await;
    let found: String = shown.lines().skip(4).flat_map(str::chars).filter(char::is_ascii_digit).collect();
    assert_eq!(found, ids, "{shown}");
}

/// A folder that cannot be listed may contain rows, unless it is hidden or excluded.
#[tokio::test]
async fn what_cannot_be_listed_is_refused_unless_nobody_wants_it() {
    let disk = tempfile::tempdir().unwrap();
    for name in [&b"a"[..], b"b/a", b".\xFF", b"_tmp/\xFF", b"\xFF.tmp", b"b/\xFF.tmp"] {
        write(disk.path(), name, r#"{"id": 1}"#);
    }
    let ctx = context(1);
    let (scan, _) = scan();
    let folders = || {
        let wanted = FileFilter { only: Globs::default(), except: Globs::parse(["**.tmp"]).unwrap() };
        vec![Folder { location: disk.path().into(), wanted, ..folder("", FileFormat::Json, 2) }]
    };
    assert_snapshot!(read(&ctx, &scan, folders(), Some(&vec![0])).await, @"
    DataSourceExec file_type=json
    +----+
    | id |
    +----+
    | 1  |
    | 1  |
    +----+
    ");
    write(disk.path(), b"b/\xFF", r#"{"id": 1}"#);
    let refused = read(&ctx, &scan, folders(), Some(&vec![0])).await;
    assert!(refused.starts_with("the name is not UTF-8, so the file cannot be addressed (file: "), "{refused}");
}

/// Tables have microseconds.
#[rstest]
#[case(FileFormat::Parquet)]
#[case(FileFormat::Avro)]
#[tokio::test]
async fn what_is_finer_than_a_microsecond_is_refused_or_rounded_down(#[case] format: FileFormat) {
    let at = |unit| DataType::Timestamp(unit, None);
    let fine = crate::parquet::batch(r#"{"at": "2024-01-31T10:00:00.123456789"}"#, &[("at", at(TimeUnit::Nanosecond))]);
    let bytes = if format == FileFormat::Avro { avro(&fine) } else { parquet(&fine) };
    let ctx = with_files([("t/a", bytes)]).await;
    let scan = || FolderScan::new(&schema(&[("at", at(TimeUnit::Microsecond))]), 0, Arc::default());
    let folders = || vec![Folder { values: vec![], ..folder("t", format.clone(), 0) }];
    let refused = read(&ctx, &scan(), folders(), None).await;
    assert!(refused.contains("a value does not fit the declared type without loss (column: at"), "{refused}");
    let rounded = read(&ctx, &scan().with_truncated_timestamps(true), folders(), None).await;
    assert!(rounded.contains("| 2024-01-31T10:00:00.123456 |"), "{rounded}");
}
