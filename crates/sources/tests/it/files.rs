//! The common behaviour of all file sources.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{col, lit};
use hardtack_core::{ErrorKind, Source};
use hardtack_sources::{CsvFiles, JsonFiles};
use insta::assert_snapshot;
use rstest::rstest;
use tokio::io::AsyncWriteExt;

use crate::{collect, context, put, rows, schema, show, types, with_files};

const AT: &str = "memory:/data";

fn a() -> JsonFiles {
    JsonFiles::new("a", AT).with_schema(schema(&[("a", DataType::Int64)]))
}

/// Two members, as `cat a.gz b.gz` makes them.
pub(crate) fn gzip(text: &str) -> Vec<u8> {
    let half = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(i, _)| i);
    [&text[..half], &text[half..]].into_iter().flat_map(|part| compress(part, "gz")).collect()
}

fn compress(text: &str, with: &str) -> Vec<u8> {
    use async_compression::tokio::write::{BzEncoder, GzipEncoder, XzEncoder, ZstdEncoder};
    macro_rules! encode {
        ($encoder:ident) => {
            futures::executor::block_on(async {
                let mut encoder = $encoder::new(Vec::new());
                encoder.write_all(text.as_bytes()).await.unwrap();
                encoder.shutdown().await.unwrap();
                encoder.into_inner()
            })
        };
    }
    match with {
        "gz" => encode!(GzipEncoder),
        "zst" => encode!(ZstdEncoder),
        "bz2" => encode!(BzEncoder),
        _ => encode!(XzEncoder),
    }
}

#[rstest]
#[case("gz", "gzip")]
#[case("zst", "zstd")]
#[case("bz2", "bzip2")]
#[case("xz", "xz")]
#[tokio::test]
async fn compressed_files_are_read_to_their_last_member(#[case] suffix: &str, #[case] name: &str) {
    let path = format!("data/x.JSONL.{suffix}");
    let two = [compress("{\"a\":1}\n{\"a\"", suffix), compress(":2}", suffix)].concat();
    let ctx = with_files([(path.as_str(), two.clone())]).await;
    assert_eq!(collect(&ctx, a()).await.unwrap()[0].num_rows(), 2);
    assert_eq!(ctx.meters().source("a").counts().bytes, two.len() as u64);
    let ctx = with_files([(path.as_str(), two[..two.len() - 9].to_vec())]).await;
    let error = collect(&ctx, a()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().starts_with(&format!("the file is not whole and valid {name}")), "{error}");
}

/// A delivery as one file, plain or compressed, or as a folder of files.
#[rstest]
#[case::file(&["data.json"], "1")]
#[case::other_suffix_and_case(&["data.NDJSON"], "1")]
#[case::compressed(&["data.jsonl.GZ"], "1")]
#[case::folder(&["data/a.json", "data/deep/b.json.gz"], "2")]
#[case::file_beside_a_folder_of_others(&["data.json", "data/part-0.parquet", "data/.x.json.staged"], "1")]
#[case::named_alike(&["data_2.json", "data.old.json", "Data.json", "data.csv", "dat.json", "data.json", "x/data.json"], "1")]
#[case::two_files(&["data.json.gz", "data.json"], "usage: there are both `memory:/in/data.json` and `memory:/in/data.json.gz`, but expected one file or one folder; remove what is not meant, or name a file with its suffix (location: memory:/in/data)")]
#[case::file_and_folder(&["data/b.json", "data.json", "data/a.json"], "usage: there are both `memory:/in/data.json` and `memory:/in/data/a.json`, but expected one file or one folder; remove what is not meant, or name a file with its suffix (location: memory:/in/data)")]
#[case::neither(&["data/notes.txt", "data", "other.json"], "not found: no file to read: looked for a file `data.json`, `data.jsonl`, `data.ndjson` (or compressed), and for `*.json`, `*.jsonl`, `*.ndjson` (or compressed) in a folder `data`; use `or_empty` if that is acceptable (location: memory:/in/data, passed over: 1 file of another name (`notes.txt`))")]
#[tokio::test]
async fn a_name_stands_for_a_file_or_a_folder(#[case] files: &[&str], #[case] expected: &str) {
    let content = |path: &str| {
        let text = "{\"a\":1}\n";
        if path.to_ascii_lowercase().ends_with(".gz") { gzip(text) } else { text.into() }
    };
    let ctx = context(1);
    for path in files {
        put(&ctx, &format!("in/{path}"), content(path)).await;
    }
    let source = JsonFiles::new("a", "memory:/in/data").with_schema(schema(&[("a", DataType::Int64)])).file_or_folder();
    let found = match collect(&ctx, source).await {
        Ok(batches) => batches.iter().map(|b| b.num_rows()).sum::<usize>().to_string(),
        Err(error) => format!("{}: {error}", error.kind().name()),
    };
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_name_for_a_file_or_a_folder_on_a_local_disk() {
    let folder = tempfile::tempdir().unwrap();
    let source = |path: &str| {
        let files = JsonFiles::new("a", format!("{}/{path}", folder.path().display()));
        files.with_schema(schema(&[("a", DataType::Int64)])).file_or_folder()
    };
    let ctx = context(1);
    assert_eq!(collect(&ctx, source("no/such/data")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(collect(&ctx, source("no/such/data").or_empty()).await.unwrap().iter().all(|b| b.num_rows() == 0));
    #[expect(clippy::disallowed_methods, reason = "the test makes its own files")]
    std::fs::write(folder.path().join("data.json"), "{\"a\":1}").unwrap();
    for path in ["data", "data/"] {
        assert_eq!(collect(&ctx, source(path)).await.unwrap()[0].num_rows(), 1, "{path}");
    }
}

#[tokio::test]
async fn folders_are_searched_for_the_usual_names() {
    let files = [
        ("data/b.json", "{\"a\":2}"),
        ("data/a.ndjson", "{\"a\":1}"),
        ("data/sub/deep/c.JSON", "{\"a\":3}"),
        ("data/_SUCCESS", "x"),
        ("data/.d.json.run.staged", "x"),
        ("data/.hidden/e.json", "x"),
        ("data/_tmp/f.json", "x"),
        ("data/notes.txt", "x"),
        ("data2/g.json", "x"),
    ];
    let ctx = with_files(files).await;
    assert_snapshot!(show(&ctx, a()).await, @"
    +---+
    | a |
    +---+
    | 1 |
    | 2 |
    | 3 |
    +---+
    ");
    assert_snapshot!(show(&ctx, a().non_recursive()).await, @"
    +---+
    | a |
    +---+
    | 1 |
    | 2 |
    +---+
    ");
    assert_snapshot!(show(&ctx, a().with_glob("*.ndjson")).await, @"
    +---+
    | a |
    +---+
    | 1 |
    +---+
    ");
    assert_snapshot!(show(&ctx, a().with_glob("**/deep/*")).await, @"
    +---+
    | a |
    +---+
    | 3 |
    +---+
    ");
    assert_snapshot!(show(&ctx, a().with_glob("[")).await, @"usage: `[` is not a glob such as `**/*.json.gz`: invalid range pattern (location: memory:/data)");
    assert_snapshot!(show(&ctx, a().with_glob("**/*.json.gz")).await, @"not found: no file to read: looked for `**/*.json.gz`; use `or_empty` if that is acceptable (location: memory:/data, passed over: 4 files of another name (`a.ndjson`) and 4 files hidden by a leading `.` or `_`)");
    // An explicitly named file is read, whatever its name.
    put(&ctx, "data/.odd", "{\"a\":9}").await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", "memory:/data/.odd")).await, @"
    +---+
    | a |
    +---+
    | 9 |
    +---+
    ");
}

#[tokio::test]
async fn nothing_to_read_is_an_error_or_no_rows() {
    let ctx = with_files([("data/a.csv", "x"), ("data/_x", "x"), ("data/.y", "y")]).await;
    assert_snapshot!(show(&ctx, a()).await, @"not found: no file to read: looked for `*.json`, `*.jsonl`, `*.ndjson` (or compressed); use `or_empty` if that is acceptable (location: memory:/data, passed over: 1 file of another name (`a.csv`) and 2 files hidden by a leading `.` or `_`)");
    let hidden = with_files([("data/.y", "y")]).await;
    assert_snapshot!(show(&hidden, a()).await, @"not found: no file to read: looked for `*.json`, `*.jsonl`, `*.ndjson` (or compressed); use `or_empty` if that is acceptable (location: memory:/data, passed over: 1 file hidden by a leading `.` or `_`)");
    assert_snapshot!(show(&ctx, JsonFiles::new("a", "memory:/nowhere")).await, @"not found: no file to read: looked for `*.json`, `*.jsonl`, `*.ndjson` (or compressed); use `or_empty` if that is acceptable (location: memory:/nowhere)");
    assert_snapshot!(show(&ctx, a().or_empty()).await, @"
    +---+
    | a |
    +---+
    +---+
    ");
    assert_snapshot!(show(&ctx, JsonFiles::new("a", "memory:/nowhere").or_empty()).await, @"usage: `or_empty` needs the columns of a source without rows; declare them with `with_schema`");
    assert_eq!(a().or_empty().load(&ctx.loading("a")).await.unwrap().count().await.unwrap(), 0);
    let blank = with_files([("data/a.json", "{}\n"), ("data/b.json", "")]).await;
    assert_snapshot!(show(&blank, JsonFiles::new("a", AT)).await, @"refused: the files have no columns; declare a schema if that is intended (location: memory:/data)");
    assert_eq!(collect(&blank, a()).await.unwrap()[0].num_rows(), 1);
    // A folder on the file system too.
    let folder = tempfile::tempdir().unwrap();
    let missing =
        JsonFiles::new("a", &folder.path().join("no such folder")).with_schema(schema(&[("a", DataType::Utf8)]));
    assert_eq!(collect(&ctx, missing.clone()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let flat = collect(&ctx, missing.clone().non_recursive()).await.unwrap_err();
    assert_eq!(flat.kind(), ErrorKind::NotFound);
    assert!(flat.to_string().starts_with("no file to read"), "{flat}");
    assert_snapshot!(show(&ctx, missing.or_empty()).await, @"
    +---+
    | a |
    +---+
    +---+
    ");
}

#[tokio::test]
async fn odd_names_work_on_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let odd = "x%3Ay=a b%2Fc/ü #1%20=?";
    #[expect(clippy::disallowed_methods, reason = "the test makes its own files")]
    for name in ["a b.json", "ü%20é.json", "#1.json", "a=b&c?.json", "100%.json"] {
        std::fs::create_dir_all(folder.path().join(odd)).unwrap();
        std::fs::write(folder.path().join(odd).join(name), "{\"a\":1}\n").unwrap();
    }
    let ctx = context(2);
    let source = JsonFiles::new("a", folder.path()).with_hive_partitions();
    let found = collect(&ctx, source).await.unwrap();
    assert_eq!(found.iter().map(|b| b.num_rows()).sum::<usize>(), 5);
    assert_snapshot!(pretty_format_batches(&found[..1]).unwrap(), @"
    +---+-------+-------+
    | a | x:y   | ü #1  |
    +---+-------+-------+
    | 1 | a b/c | ?     |
    +---+-------+-------+
    ");
    let file = format!("{}/{odd}/100%.json", folder.path().display());
    assert_eq!(collect(&ctx, JsonFiles::new("one", file)).await.unwrap()[0].num_rows(), 1);
}

const PARTITIONED: [(&str, &str); 4] = [
    ("data/year=2019/day=2019-12-31/k=x/a.json", "{\"a\":1}"),
    ("data/year=2020/day=2020-01-01/k=y%2Fz/b.json", "{\"a\":2}"),
    ("data/year=2020/day=2020-01-02/k=__HIVE_DEFAULT_PARTITION__/c.json", "{\"a\":3,\"year\":7}"),
    ("data/year=2020/day=2020-01-02/k=7/_d=/d.json", "{\"a\":4}"),
];

#[tokio::test]
async fn partition_columns_come_from_folders() {
    let ctx = with_files(PARTITIONED).await;
    let hive = JsonFiles::new("a", AT).with_hive_partitions();
    let files = PARTITIONED[..3].iter().copied();
    let three = with_files(files).await;
    assert_snapshot!(show(&three, hive.clone()).await, @"refused: `year` is `7` in memory:/data/year=2020/day=2020-01-02/k=__HIVE_DEFAULT_PARTITION__/c.json and `2020` in the name of its folder (file: memory:/data/year=2020/day=2020-01-02/k=__HIVE_DEFAULT_PARTITION__/c.json, column: year, hint: leave out partition columns to have the value of the file, or declare a schema to have that of the folder)");
    put(&three, PARTITIONED[2].0, "{\"a\":3,\"year\":2020}").await;
    assert_snapshot!(types(&three, hive.clone()).await, @"a: Int64, year: Int64, day: Date32, k: Utf8");
    let (promised, batches) = rows(&three, hive.clone()).await.unwrap();
    assert!(batches.iter().all(|b| b.schema() == promised));
    assert_snapshot!(show(&three, hive).await, @"
    +---+------+------------+-----+
    | a | year | day        | k   |
    +---+------+------------+-----+
    | 1 | 2019 | 2019-12-31 | x   |
    | 2 | 2020 | 2020-01-01 | y/z |
    | 3 | 2020 | 2020-01-02 |     |
    +---+------+------------+-----+
    ");
    // A declared schema determines which, where, and of what type.
    let declared = a().with_schema(schema(&[("year", DataType::Utf8), ("a", DataType::Int64), ("k", DataType::Utf8)]));
    assert_snapshot!(show(&ctx, declared.clone().with_hive_partitions()).await, @"
    +------+---+-----+
    | year | a | k   |
    +------+---+-----+
    | 2019 | 1 | x   |
    | 2020 | 2 | y/z |
    | 2020 | 4 | 7   |
    | 2020 | 3 |     |
    +------+---+-----+
    ");
    assert_snapshot!(show(&three, declared).await, @"
    +------+---+---+
    | year | a | k |
    +------+---+---+
    |      | 1 |   |
    |      | 2 |   |
    | 2020 | 3 |   |
    +------+---+---+
    ");
    let columns = a().with_partition_columns([("day", DataType::Date32)]);
    assert_snapshot!(show(&three, columns).await, @"
    +---+------------+
    | a | day        |
    +---+------------+
    | 1 | 2019-12-31 |
    | 2 | 2020-01-01 |
    | 3 | 2020-01-02 |
    +---+------------+
    ");
    let wrong = a().with_partition_columns([("k", DataType::Int64)]);
    assert_snapshot!(show(&three, wrong).await, @r#"refused: `x` is not an Int64 (column: k, value: "x", file: memory:/data/year=2019/day=2019-12-31/k=x/a.json)"#);
    let missing = a().with_partition_columns([("month", DataType::Int64)]);
    assert_snapshot!(show(&three, missing).await, @"refused: the file is in no folder `month=...`, as its partition column requires (file: memory:/data/year=2019/day=2019-12-31/k=x/a.json, column: month)");
}

#[tokio::test]
async fn filters_on_partition_columns_leave_out_files() {
    let ctx = with_files(PARTITIONED[..3].iter().copied()).await;
    // Skipped files may even be broken.
    put(&ctx, "data/year=1999/day=1999-01-01/k=x/broken.json", "?").await;
    let source = a().with_partition_columns([("year", DataType::Int32), ("k", DataType::Utf8)]);
    let frame = ctx.load(source.clone()).await.unwrap();
    let filtered = frame.filter(col("year").gt(lit(2019)).and(col("a").gt(lit(1)))).unwrap();
    let plan = filtered.clone().create_physical_plan().await.unwrap();
    let plan = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    assert_snapshot!(plan, @"
    FilterExec: a@0 > 1
      DataSourceExec: file_groups={1 group: [[data/year=2020/day=2020-01-01/k=y%2Fz/b.json, data/year=2020/day=2020-01-02/k=__HIVE_DEFAULT_PARTITION__/c.json]]}, projection=[a, year, k], file_type=json
    ");
    assert_snapshot!(pretty_format_batches(&filtered.collect().await.unwrap()).unwrap(), @"
    +---+------+-----+
    | a | year | k   |
    +---+------+-----+
    | 2 | 2020 | y/z |
    | 3 | 2020 |     |
    +---+------+-----+
    ");
    let frame = ctx.load(source).await.unwrap();
    let none = frame.clone().filter(col("year").eq(lit(5))).unwrap();
    assert_eq!(none.count().await.unwrap(), 0);
    // Null is neither equal nor unequal to anything.
    let others = frame.clone().filter(col("k").not_eq(lit("x"))).unwrap();
    assert_eq!(others.count().await.unwrap(), 1);
    let nulls = frame.filter(col("a.k").is_null()).unwrap().select_columns(&["k", "a"]).unwrap();
    assert_snapshot!(pretty_format_batches(&nulls.collect().await.unwrap()).unwrap(), @"
    +---+---+
    | k | a |
    +---+---+
    |   | 3 |
    +---+---+
    ");
}

#[tokio::test]
async fn limits_stop_reading() {
    let ctx = with_files([("data/a.json", "{\"a\":1}{\"a\":2}"), ("data/b.json", "?")]).await;
    let two = ctx.load(a()).await.unwrap().limit(0, Some(2)).unwrap();
    assert_eq!(two.collect().await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>(), 2);
}

#[rstest]
#[tokio::test]
async fn the_number_of_partitions_does_not_change_the_rows(#[values(1, 2, 8)] threads: usize) {
    let ctx = context(threads);
    for i in 0..200 {
        let rows: String = (0..i % 7).map(|j| format!("{},r{j}\n", i * 10 + j)).collect();
        put(&ctx, &format!("data/d={}/{i:03}.csv", i % 3), format!("id,text\n{rows}")).await;
    }
    let source = CsvFiles::new("many", AT).with_hive_partitions();
    let frame = ctx.load(source).await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    assert_eq!(plan.properties().output_partitioning().partition_count(), threads);
    let sums = frame
        .aggregate(
            vec![col("d")],
            vec![
                datafusion::functions_aggregate::expr_fn::count(col("text")).alias("rows"),
                datafusion::functions_aggregate::expr_fn::sum(col("id")).alias("ids"),
            ],
        )
        .unwrap()
        .sort_by(vec![col("d")])
        .unwrap();
    let sums = pretty_format_batches(&sums.collect().await.unwrap()).unwrap().to_string();
    insta::allow_duplicates! { assert_snapshot!(sums, @"
    +---+------+--------+
    | d | rows | ids    |
    +---+------+--------+
    | 0 | 200  | 199414 |
    | 1 | 197  | 197354 |
    | 2 | 197  | 197256 |
    +---+------+--------+
    ") };
    let counts = ctx.meters().source("many").counts();
    assert_eq!((counts.files, counts.rows), (200, 594));
    assert_eq!(counts.bytes, ctx.meters().source("many").expected_bytes());
}

/// A file of many blocks, with line ends within quotes.
fn large(rows: usize) -> String {
    let row = |i: usize| format!("{i},\"text\n{i}\"\n");
    std::iter::once("id,text\n".to_owned()).chain((0..rows).map(row)).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn all_cores_work_on_one_file(#[values(1, 2, 8)] threads: usize) {
    let ctx = context(threads);
    let text = large(30_000);
    put(&ctx, "data/a.csv", text.clone()).await;
    let source = CsvFiles::new("a", AT).with_schema(schema(&[("id", DataType::Int64), ("text", DataType::Utf8)]));
    let batches = collect(&ctx, source.clone()).await.unwrap();
    let ids = batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec());
    assert!(ids.eq(0..30_000), "every row once, and in order");
    assert!(batches.iter().all(|b| b.num_rows() <= 8192));
    put(&ctx, "data/a.csv", text.replace("\n25000,", "\n25OOO,")).await;
    let error = collect(&ctx, source).await.unwrap_err();
    assert_eq!((error.get("line"), error.get("value")), (Some("50002"), Some("\"25OOO\"")));
}

#[tokio::test]
async fn rows_that_never_end_are_refused_where_they_start() {
    let mut text = large(10).into_bytes();
    text.extend_from_slice(b"7,\"");
    text.resize(70 << 20, b'x');
    let ctx = with_files([("data/a.csv", text)]).await;
    let source = CsvFiles::new("a", AT).with_schema(schema(&[("id", DataType::Int64)]));
    assert_snapshot!(show(&ctx, source).await, @"refused: a row is longer than 64 MiB; a bracket or quote may not be closed (file: memory:/data/a.csv, line: 22)");
}

#[tokio::test]
async fn a_declared_schema_needs_no_files() {
    let ctx = context(1);
    let source = a().with_partition_columns([("year", DataType::Int32)]);
    let names = |s: arrow::datatypes::SchemaRef| s.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(source.schema(&ctx.loading("a")).await.unwrap()), ["a", "year"]);
    assert_eq!(names(a().with_hive_partitions().schema(&ctx.loading("a")).await.unwrap()), ["a"]);
    let twice = JsonFiles::new("a", AT).with_schema(schema(&[("a", DataType::Int64), ("a", DataType::Utf8)]));
    assert_snapshot!(show(&ctx, twice).await, @"usage: the declared schema has two columns of one name");
}

#[tokio::test]
async fn sources_with_columns_of_one_name_can_be_joined() {
    let ctx = with_files([("data/a.json", "{\"id\":1,\"x\":\"l\"}"), ("r/a.json", "{\"id\":1,\"x\":\"r\"}")]).await;
    let left = ctx.load(JsonFiles::new("left", AT)).await.unwrap();
    let right = ctx.load(JsonFiles::new("right", "memory:/r")).await.unwrap();
    let joined = left.join(right, datafusion::common::JoinType::Inner, &["id"], &["id"], None).unwrap();
    let joined = joined.select(vec![col("left.x").alias("l"), col("right.x").alias("r")]).unwrap();
    assert_snapshot!(pretty_format_batches(&joined.collect().await.unwrap()).unwrap(), @"
    +---+---+
    | l | r |
    +---+---+
    | l | r |
    +---+---+
    ");
}

#[tokio::test]
async fn values_print_and_compare() {
    let source = a()
        .with_glob("*.json")
        .non_recursive()
        .with_partition_columns([("year", DataType::Int32)])
        .or_empty()
        .with_schema(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
    assert_snapshot!(format!("{source:?}"), @r#"JsonFiles { name: "a", location: "memory:/data", schema: [a: Int64 not null], glob: "*.json", recursive: false, partitions: [year: Int32], or_empty: true }"#);
    assert_ne!(source, a());
    assert_eq!(source, source.clone());
    let csv = CsvFiles::new("c", AT).with_delimiter(b';').with_quote(b'\'').with_escape(b'\\').with_null_text("-");
    assert_snapshot!(format!("{:?}", csv.without_header()), @r#"CsvFiles { name: "c", location: "memory:/data", delimiter: ';', quote: Some('\''), escape: '\\', null_text: "-", header: false }"#);
    assert_snapshot!(format!("{:?}", CsvFiles::new("c", AT)), @r#"CsvFiles { name: "c", location: "memory:/data" }"#);
}

/// As listed in the documentation of the crate; Arrow would also accept `on`, `tr` and `ye`.
#[tokio::test]
async fn booleans_are_these_words() {
    let source = || CsvFiles::new("a", AT).with_schema(schema(&[("b", DataType::Boolean)]));
    let ctx = with_files([("data/a.csv", "b\ntrue\nT\nyes\nY\n1\nfalse\nf\nNO\nn\n0\n")]).await;
    let rows = collect(&ctx, source()).await.unwrap();
    let values: Vec<_> = rows[0].column(0).as_boolean().iter().map(|value| value.unwrap()).collect();
    assert_eq!(values, [[true; 5], [false; 5]].concat());
    for word in ["on", "off", "tr", "ye", "2", "-1"] {
        let ctx = with_files([("data/a.csv", format!("b\n{word}\n"))]).await;
        assert_eq!(collect(&ctx, source()).await.unwrap_err().kind(), ErrorKind::Refused, "{word}");
    }
}

#[tokio::test]
async fn lists_of_every_layout_are_declared_types() {
    let columns = [
        ("l", DataType::new_list(DataType::Int64, true)),
        ("ll", DataType::new_large_list(DataType::Int64, true)),
        ("f", DataType::new_fixed_size_list(DataType::Int64, 2, true)),
    ];
    let ctx = with_files([("data/a.json", r#"{"l":[1,null],"ll":[2],"f":[3,4]}{}"#)]).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT).with_schema(schema(&columns))).await, @"
    +-------+-----+--------+
    | l     | ll  | f      |
    +-------+-----+--------+
    | [1, ] | [2] | [3, 4] |
    |       |     |        |
    +-------+-----+--------+
    ");
}

#[test]
fn a_source_says_what_it_was_told() {
    let undeclared = JsonFiles::new("a", AT);
    assert_eq!((undeclared.declared_schema(), undeclared.is_or_empty()), (None, false));
    let declared = a().or_empty();
    assert_eq!(declared.declared_schema(), Some(schema(&[("a", DataType::Int64)])));
    assert!(declared.is_or_empty());
    assert_eq!((declared.name(), declared.location()), ("a", Some(AT.into())));
}

#[rstest]
#[case(&["1", "-20", "9223372036854775807"], DataType::Int64)]
#[case(&["2024-01-31", "1969-12-31"], DataType::Date32)]
#[case(&["1", "2024-01-31"], DataType::Utf8)]
#[case(&["1", "x"], DataType::Utf8)]
#[case(&["9223372036854775808"], DataType::Utf8)]
#[case(&["2024-02-30"], DataType::Utf8)]
#[case(&["2024-01-31 00:00:00"], DataType::Utf8)]
#[case(&["1.5"], DataType::Utf8)]
#[case(&["1e3"], DataType::Utf8)]
#[case(&[" 1"], DataType::Utf8)]
#[case(&[], DataType::Utf8)]
fn partition_columns_are_of_the_type_of_all_values(#[case] values: &[&str], #[case] expected: DataType) {
    assert_eq!(hardtack_sources::partition_type(values.iter().copied()), expected);
}

/// Columns of a row's origin are not those of folders with the same names.
#[tokio::test]
async fn folders_may_be_named_like_the_columns_of_origin() {
    let ctx = with_files([("data/_file=1/_line=2/k=3/a.json", "{\"a\":1}\n{\"a\":2}")]).await;
    let hive = JsonFiles::new("a", AT).with_hive_partitions();
    assert_snapshot!(show(&ctx, hive.clone()).await, @"
    +---+-------+-------+---+
    | a | _file | _line | k |
    +---+-------+-------+---+
    | 1 | 1     | 2     | 3 |
    | 2 | 1     | 2     | 3 |
    +---+-------+-------+---+
    ");
    assert_snapshot!(show(&ctx, hive.with_origin()).await, @"
    +---+-----------------------------------------+-------+---+
    | a | _file                                   | _line | k |
    +---+-----------------------------------------+-------+---+
    | 1 | memory:/data/_file=1/_line=2/k=3/a.json | 1     | 3 |
    | 2 | memory:/data/_file=1/_line=2/k=3/a.json | 2     | 3 |
    +---+-----------------------------------------+-------+---+
    ");
    let declared = a().with_hive_partitions().with_origin();
    assert_snapshot!(types(&ctx, declared.clone()).await, @"a: Int64, _file: Utf8, _line: Int64");
    assert_eq!(collect(&ctx, declared).await.unwrap()[0].num_columns(), 3);
}

#[tokio::test]
async fn a_column_that_is_named_like_a_line_is_what_the_file_says() {
    let ctx = with_files([("data/a.json", "{\"_line\":7,\"_file\":\"x\"}")]).await;
    let found = pretty_format_batches(&collect(&ctx, JsonFiles::new("a", AT)).await.unwrap()).unwrap();
    assert_snapshot!(found, @"
    +-------+-------+
    | _line | _file |
    +-------+-------+
    | 7     | x     |
    +-------+-------+
    ");
}

/// Files that are read to check them against their folders are read again for their rows.
#[tokio::test]
async fn only_what_is_read_for_rows_is_counted() {
    let text = "{\"a\":1,\"k\":3}\n";
    let ctx = with_files([("data/k=3/a.json", text)]).await;
    collect(&ctx, JsonFiles::new("a", AT).with_hive_partitions()).await.unwrap();
    assert_eq!(ctx.meters().source("a").counts().bytes, text.len() as u64);
}

/// A file and a folder may have the same name.
#[tokio::test]
async fn a_slash_says_that_a_folder_is_meant() {
    let ctx = with_files([("data", "{\"a\":1}"), ("data/a.json", "{\"a\":2}"), ("data/b/c.json", "{\"a\":3}")]).await;
    let ids = async |source: JsonFiles| {
        let batches = collect(&ctx, source).await.unwrap();
        batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect::<Vec<_>>()
    };
    let at = |location: &str| JsonFiles::new("a", location).with_schema(schema(&[("a", DataType::Int64)]));
    assert_eq!(ids(at("memory:/data")).await, [1]);
    assert_eq!(ids(at("memory:/data/")).await, [2, 3]);
    assert_eq!(ids(at("memory:/data/").with_glob("*.json")).await, [2]);
    assert_eq!(ids(at("memory:/data/").with_glob("*/*.json")).await, [3]);
    assert_eq!(ids(at("memory:/data/").with_glob("**/*.json")).await, [2, 3]);
}

/// Writes a file whose name need not be UTF-8.
#[expect(clippy::disallowed_methods, reason = "tests make their own files")]
pub(crate) fn write(folder: &std::path::Path, name: &[u8], content: &str) {
    let path = folder.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A folder that cannot be listed may contain rows, unless it is hidden.
#[tokio::test]
async fn what_cannot_be_listed_is_refused_unless_it_is_hidden() {
    let folder = tempfile::tempdir().unwrap();
    for name in [&b"a.json"[..], b"_tmp/\xFF.json", b".\xFF.json"] {
        write(folder.path(), name, "{\"a\":1}");
    }
    let ctx = context(1);
    let source = || JsonFiles::new("a", folder.path());
    assert_eq!(collect(&ctx, source()).await.unwrap()[0].num_rows(), 1);
    write(folder.path(), b"b/\xFF.json", "{\"a\":1}");
    let refused = collect(&ctx, source()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(refused.message(), "the name is not UTF-8, so the file cannot be addressed");
}

/// A part of a text may start within a quoted line. Batches have the session's size.
#[tokio::test]
async fn texts_are_read_whole_and_in_batches() {
    let ctx = context(4);
    put(&ctx, "data/a.csv", large(1000)).await;
    for option in ["optimizer.repartition_file_min_size = 0", "execution.batch_size = 10"] {
        ctx.session().sql(&format!("set datafusion.{option}")).await.unwrap();
    }
    let source = CsvFiles::new("a", AT);
    let batches = collect(&ctx, source.clone()).await.unwrap();
    assert!(batches.iter().all(|batch| batch.num_rows() <= 10));
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1000);
    let sum = datafusion::functions_aggregate::expr_fn::sum(col("id"));
    let sum = ctx.load(source).await.unwrap().aggregate(vec![], vec![sum.alias("ids")]).unwrap();
    assert_snapshot!(pretty_format_batches(&sum.collect().await.unwrap()).unwrap(), @"
    +--------+
    | ids    |
    +--------+
    | 499500 |
    +--------+
    ");
}

#[tokio::test]
async fn filters_may_be_about_columns_of_files_and_of_folders() {
    let ctx = with_files([("data/d=1/a.csv", "id\n1\n2\n"), ("data/d=2/a.csv", "id\n1\n2\n3\n")]).await;
    let frame = ctx.load(CsvFiles::new("a", AT).with_hive_partitions()).await.unwrap();
    let more = frame.clone().filter(col("id").gt(col("d"))).unwrap().sort_by(vec![col("d")]).unwrap();
    assert_snapshot!(pretty_format_batches(&more.collect().await.unwrap()).unwrap(), @"
    +----+---+
    | id | d |
    +----+---+
    | 2  | 1 |
    | 3  | 2 |
    +----+---+
    ");
    // The rest of the plan knows the filter's result.
    let one = frame.filter(col("id").eq(lit(2_i64))).unwrap().sort_by(vec![col("id")]).unwrap();
    let plan = one.clone().create_physical_plan().await.unwrap();
    let plan = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    assert!(!plan.contains("SortExec") && !plan.contains("FilterExec"), "{plan}");
    assert_eq!(one.count().await.unwrap(), 2);
}

/// The metrics of an executed plan.
#[tokio::test]
async fn plans_know_how_many_rows_were_read() {
    let batch = datafusion::common::record_batch!(("id", Int32, vec![1, 2, 3])).unwrap();
    let ctx =
        with_files([("p/a.parquet", crate::parquet::parquet(&batch)), ("c/a.csv", b"id\n1\n2\n3\n".to_vec())]).await;
    let csv = ctx.load(CsvFiles::new("c", "memory:/c")).await.unwrap();
    let parquet = ctx.load(hardtack_sources::ParquetFiles::new("p", "memory:/p")).await.unwrap();
    for frame in [csv, parquet] {
        let plan = frame.create_physical_plan().await.unwrap();
        datafusion::physical_plan::collect(std::sync::Arc::clone(&plan), ctx.session().task_ctx()).await.unwrap();
        assert_eq!(plan.metrics().and_then(|metrics| metrics.output_rows()), Some(3));
        let names: Vec<_> = plan.metrics().unwrap().iter().map(|m| m.value().name().to_owned()).collect();
        assert!(names.iter().any(|name| name == "time_elapsed_scanning_total"), "{names:?}");
    }
}
