//! Files of which nothing is known yet.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::record_batch;
use futures::TryStreamExt;
use hardtack_core::{JobContext, Result};
use hardtack_sources::{CsvHints, FileFormat, FileKind, FolderCsv, InspectOptions, Inspected, inspect};
use insta::assert_snapshot;
use object_store::{ObjectMeta, ObjectStore};
use rstest::rstest;

use crate::avro::avro;
use crate::files::gzip;
use crate::parquet::parquet;
use crate::with_files;

async fn files(ctx: &JobContext) -> (hardtack_core::Store, Vec<ObjectMeta>) {
    let (store, path) = ctx.stores().open(&"memory:/".into()).unwrap();
    let mut files: Vec<ObjectMeta> = store.objects.list(Some(&path)).try_collect().await.unwrap();
    files.sort_by(|a, b| a.location.cmp(&b.location));
    (store, files)
}

async fn inspected(ctx: &JobContext, kind: FileKind, options: InspectOptions) -> Result<Inspected> {
    let (store, files) = files(ctx).await;
    inspect(&store, &files, kind, &options).await
}

fn columns(schema: &Schema) -> String {
    let column = |f: &std::sync::Arc<Field>| {
        format!("{}: {}{}", f.name(), f.data_type(), if f.is_nullable() { "" } else { " not null" })
    };
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

#[rstest]
#[case("a.parquet", Some(FileKind::Parquet))]
#[case("a.PARQUET", Some(FileKind::Parquet))]
#[case("a.parquet.gz", None)]
#[case("a.avro", Some(FileKind::Avro))]
#[case("a.avro.gz", None)]
#[case("a.json", Some(FileKind::Json))]
#[case("a.NDJson.zst", Some(FileKind::Json))]
#[case("a.csv", Some(FileKind::Csv))]
#[case("a.csv.bz2", Some(FileKind::Csv))]
#[case("a.csv.bz2.old", None)]
#[case("csv", None)]
#[case("a.gz", None)]
fn names_say_what_files_are(#[case] name: &str, #[case] kind: Option<FileKind>) {
    assert_eq!(FileKind::of(name), kind);
}

#[test]
fn kinds_have_names() {
    let kinds = [FileKind::Parquet, FileKind::Json, FileKind::Csv, FileKind::Avro];
    assert_eq!(kinds.map(|kind| kind.to_string()), ["Parquet", "JSON", "CSV", "Avro"]);
}

#[rstest]
#[case("PAR1", "", Some(FileKind::Parquet))]
#[case("Obj\u{1}", "", Some(FileKind::Avro))]
#[case("Obj\u{2}", "", None)]
#[case("{\"a\": 1}", "", Some(FileKind::Json))]
#[case(" \n { \"a\": 1}", "", Some(FileKind::Json))]
#[case("{ }", "", Some(FileKind::Json))]
#[case("{}", "", Some(FileKind::Json))]
#[case("{", "", None)]
#[case("{a}", "", None)]
#[case("a,b\n1,2", "", None)]
#[case("", "", None)]
#[case("{\"a\": 1}", "x.gz", Some(FileKind::Json))]
#[case("PAR1", "x.gz", None)]
#[case("Obj\u{1}", "x.gz", None)]
#[tokio::test]
async fn first_bytes_say_what_files_are(#[case] text: &str, #[case] name: &str, #[case] kind: Option<FileKind>) {
    let name = if name.is_empty() { "x" } else { name };
    let content = if name.ends_with(".gz") { gzip(text) } else { text.into() };
    let ctx = with_files([(name, content)]).await;
    let (store, files) = files(&ctx).await;
    assert_eq!(FileKind::sniff(&store, &files[0]).await.unwrap(), kind);
}

#[tokio::test]
async fn a_suffix_that_lies_says_nothing_and_a_store_that_fails_does() {
    let ctx = with_files([("x.gz", "{\"a\": 1}")]).await;
    let (store, mut files) = files(&ctx).await;
    assert_eq!(FileKind::sniff(&store, &files[0]).await.unwrap(), None);
    files[0].location = "gone".into();
    assert_eq!(FileKind::sniff(&store, &files[0]).await.unwrap_err().kind(), hardtack_core::ErrorKind::NotFound);
}

#[tokio::test]
async fn footers_of_parquet_files_say_their_columns_and_rows() {
    let a = record_batch!(("ID", Int32, vec![1, 2]), ("Name", Utf8, vec!["a", "b"])).unwrap();
    let b = record_batch!(("Price", Float64, vec![0.5]), ("id", Int64, vec![5])).unwrap();
    let ctx = with_files([("a", parquet(&a)), ("b", parquet(&b))]).await;
    let found = inspected(&ctx, FileKind::Parquet, InspectOptions::default()).await.unwrap();
    assert_eq!(found.format, FileFormat::Parquet);
    assert_snapshot!(columns(&found.schema), @"id: Int64, name: Utf8, price: Float64");
    assert_eq!((found.rows, found.notes), (Some(vec![2, 1]), vec![]));
}

#[tokio::test]
async fn headers_of_avro_files_say_their_columns() {
    let a = record_batch!(("ID", Int32, vec![1, 2]), ("Name", Utf8, vec!["a", "b"])).unwrap();
    let b = record_batch!(("Price", Float64, vec![0.5]), ("id", Int64, vec![5])).unwrap();
    let ctx = with_files([("a", avro(&a)), ("b", avro(&b))]).await;
    let found = inspected(&ctx, FileKind::Avro, InspectOptions::default()).await.unwrap();
    assert_eq!((found.format, found.rows, found.notes), (FileFormat::Avro, None, vec![]));
    assert_snapshot!(columns(&found.schema), @"id: Int64, name: Utf8, price: Float64");
}

#[tokio::test]
async fn names_are_folded_at_any_depth() {
    let of = |name: &str| DataType::Struct(vec![Field::new(name, DataType::Int64, true)].into());
    let entry = Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", of("V"), true)]);
    let item = |of: DataType| std::sync::Arc::new(Field::new("item", of, true));
    let schema = Schema::new(vec![
        Field::new("S", of("A"), true),
        Field::new("L", DataType::List(item(of("B"))), true),
        Field::new("LL", DataType::LargeList(item(of("C"))), true),
        Field::new("F", DataType::FixedSizeList(item(of("D")), 2), true),
        Field::new("M", DataType::Map(Field::new("entries", DataType::Struct(entry), false).into(), false), true),
    ]);
    let ctx = with_files([("a", parquet(&arrow::array::RecordBatch::new_empty(schema.into())))]).await;
    let found = inspected(&ctx, FileKind::Parquet, InspectOptions::default()).await.unwrap();
    let text = columns(&found.schema);
    for name in ["s: Struct(\"a\": ", "l: List(Struct(\"b\": ", "Struct(\"c\": ", "Struct(\"d\": ", "Struct(\"v\": "] {
        assert!(text.contains(name), "{name} in {text}");
    }
    let inner = Fields::from(vec![Field::new("x", DataType::Int64, true), Field::new("X", DataType::Int64, true)]);
    let schema = Schema::new(vec![Field::new("s", DataType::Struct(inner), true)]);
    let ctx = with_files([("a", parquet(&arrow::array::RecordBatch::new_empty(schema.into())))]).await;
    let refused = inspected(&ctx, FileKind::Parquet, InspectOptions::default()).await.unwrap_err();
    assert_snapshot!(refused, @"`x` and `X` differ in case only, and a table knows no case; rename one (file: memory:/a, column: x)");
}

#[tokio::test]
async fn json_that_is_not_line_by_line_is_noted() {
    let one = ("a", "{\"Id\": 1}\n{\"Id\": 2}\n");
    let found = inspected(&with_files([one]).await, FileKind::Json, InspectOptions::default()).await.unwrap();
    assert_eq!((found.format, found.rows, found.notes), (FileFormat::Json, None, vec![]));
    assert_snapshot!(columns(&found.schema), @"id: Int64");
    for scattered in ["{\"Id\":\n1}", "{\"Id\":1}{\"Id\":2}", "{\"Id\":1}\n{\"Id\":2}{\"Id\":3}"] {
        let ctx = with_files([one, ("b", scattered), ("c", scattered)]).await;
        let notes = inspected(&ctx, FileKind::Json, InspectOptions::default()).await.unwrap().notes;
        assert_eq!(
            notes,
            ["memory:/b has not one object on each line, which is what Athena and Hive want; it is read here"]
        );
    }
}

#[tokio::test]
async fn of_texts_a_sample_is_enough_if_one_is_asked_for() {
    let sample = InspectOptions { sample_bytes: Some(1), ..InspectOptions::default() };
    // More than is read at once.
    let wide = "x".repeat(100_000);
    let json = format!("{}{{\"id\": \"x\"}}\n", format!("{{\"id\": 1, \"t\": \"{wide}\"}}\n").repeat(30));
    let csv = format!("id,n\n{}x,1\n", format!("1,{wide}\n").repeat(30));
    for (kind, text) in [(FileKind::Json, json), (FileKind::Csv, csv)] {
        let ctx = with_files([("a", text)]).await;
        let part = inspected(&ctx, kind, sample.clone()).await.unwrap();
        assert_eq!(part.schema.field(0).data_type(), &DataType::Int64, "{kind}");
        match inspected(&ctx, kind, InspectOptions::default()).await {
            Ok(all) => assert_eq!(all.schema.field(0).data_type(), &DataType::Utf8, "{kind}"),
            Err(e) => assert_eq!(e.kind(), hardtack_core::ErrorKind::Refused, "{kind}"),
        }
    }
}

#[tokio::test]
async fn how_csv_files_are_written_is_found_out_or_known() {
    let ctx = with_files([("a", "Id;Name\n1;x\n2;y\n")]).await;
    let found = inspected(&ctx, FileKind::Csv, InspectOptions::default()).await.unwrap();
    let FileFormat::Csv(csv) = found.format else { unreachable!() };
    assert_eq!((csv.delimiter, csv.quote, csv.header_lines), (b';', None, 1));
    let of: Vec<_> = found.schema.fields().iter().map(|f| (f.name().as_str(), f.data_type())).collect();
    assert_eq!(of, [("id", &DataType::Int64), ("name", &DataType::Utf8)]);
    assert_eq!(found.rows, None);
    let csv_hints = CsvHints { header: Some(false), ..CsvHints::default() };
    let header = InspectOptions { csv_hints, ..InspectOptions::default() };
    let found = inspected(&ctx, FileKind::Csv, header).await.unwrap();
    let FileFormat::Csv(csv) = found.format else { unreachable!() };
    assert_eq!((found.schema.fields().len(), csv.header_lines), (2, 0));

    let ctx = with_files([("a", "Id;Name\n1;\"x\"\n")]).await;
    let found = inspected(&ctx, FileKind::Csv, InspectOptions::default()).await.unwrap();
    let FileFormat::Csv(csv) = found.format else { unreachable!() };
    assert_eq!(csv.quote, Some(b'"'), "something is in quotes");
    let known = FolderCsv {
        delimiter: b',',
        quote: None,
        escape: None,
        null_text: None,
        comment: None,
        header_lines: 1,
        skip_lines: 0,
    };
    let options = InspectOptions { csv: Some(known.clone()), ..InspectOptions::default() };
    let found = inspected(&ctx, FileKind::Csv, options).await.unwrap();
    assert_eq!((found.format, found.schema.fields().len()), (FileFormat::Csv(known), 1));
}

#[rstest]
#[case::names_over_numbers(&["a,b\n1,2\n"], true, 0)]
#[case::numbers_only(&["1,2\n3,4\n"], false, 0)]
#[case::texts_only(&["a,b\nx,y\n"], true, 1)]
#[case::one_file_tells(&["a,b\nx,y\n", "a,b\nx,1\n"], true, 0)]
#[case::other_places(&["a,b\n1,2\n", "b,a\n3,4\n", "b,a\n3,4\n"], true, 1)]
#[case::more_columns(&["a,b\n1,2\n", "a,b,c\n3,4,5\n"], true, 0)]
#[tokio::test]
async fn headers_are_found_out(#[case] texts: &[&str], #[case] header: bool, #[case] notes: usize) {
    let names: Vec<String> = (0..texts.len()).map(|i| format!("f{i}")).collect();
    let contents = texts.iter().map(|text| (*text).to_owned());
    let ctx = with_files(names.iter().map(String::as_str).zip(contents)).await;
    let found = inspected(&ctx, FileKind::Csv, InspectOptions::default()).await.unwrap();
    let FileFormat::Csv(csv) = found.format else { unreachable!() };
    assert_eq!((csv.header_lines, found.notes.len()), (u32::from(header), notes), "{:?}", found.notes);
    assert_eq!(found.schema.field(0).name(), if header { "a" } else { "column_1" });
}

#[tokio::test]
async fn headers_that_contradict_are_refused() {
    let ctx = with_files([("f0", "a,b\n1,2\n"), ("f1", "1,2\n3,4\n")]).await;
    let refused = inspected(&ctx, FileKind::Csv, InspectOptions::default()).await.unwrap_err().to_string();
    assert!(refused.contains("memory:/f0") && refused.contains("memory:/f1"), "{refused}");
    let ctx = with_files([("f0", "a,a\n1,2\n")]).await;
    let refused = inspected(&ctx, FileKind::Csv, InspectOptions::default()).await.unwrap_err();
    assert_eq!((refused.get("file"), refused.get("column")), (Some("memory:/f0"), Some("a")), "{refused}");
}

#[rstest]
#[case("a|b\n1|2\n", b'|')]
#[case("a\tb\n1\t2\n", b'\t')]
#[case("a;b\n1,5;2,5\n", b';')]
#[case("a,b\nx;y,2\n", b',')]
#[case("a\n1\n", b',')]
#[tokio::test]
async fn delimiters_are_found_out(#[case] text: &'static str, #[case] delimiter: u8) {
    let ctx = with_files([("f", text)]).await;
    let found = inspected(&ctx, FileKind::Csv, InspectOptions::default()).await.unwrap();
    let FileFormat::Csv(csv) = found.format else { unreachable!() };
    assert_eq!(char::from(csv.delimiter), char::from(delimiter));
}
