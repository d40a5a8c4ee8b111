//! Inspecting unknown files.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::record_batch;
use futures::TryStreamExt;
use hardtack_core::{ErrorKind, JobContext, Result};
use hardtack_sources::{CsvHints, FileFormat, FileKind, FolderCsv, InspectOptions, Inspected, inspect};
use insta::assert_snapshot;
use object_store::{ObjectMeta, ObjectStore};
use rstest::rstest;

use crate::avro::avro;
use crate::files::gzip;
use crate::parquet::{batch, from_json, parquet};
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
    assert_eq!(FileKind::sniff(&store, &files[0]).await.unwrap_err().kind(), ErrorKind::Changed);
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
        assert_eq!(notes, ["memory:/b does not have one object per line, as Athena and Hive require; it is read here"]);
    }
}

#[tokio::test]
async fn of_texts_a_sample_is_enough_if_one_is_asked_for() {
    let sample = InspectOptions { sample_bytes: Some(1), ..InspectOptions::default() };
    // More than a single read.
    let wide = "x".repeat(100_000);
    let json = format!("{}{{\"id\": \"x\"}}\n", format!("{{\"id\": 1, \"t\": \"{wide}\"}}\n").repeat(30));
    let csv = format!("id,n\n{}x,1\n", format!("1,{wide}\n").repeat(30));
    for (kind, text) in [(FileKind::Json, json), (FileKind::Csv, csv)] {
        let ctx = with_files([("a", text)]).await;
        let part = inspected(&ctx, kind, sample.clone()).await.unwrap();
        assert_eq!(part.schema.field(0).data_type(), &DataType::Int64, "{kind}");
        match inspected(&ctx, kind, InspectOptions::default()).await {
            Ok(all) => assert_eq!(all.schema.field(0).data_type(), &DataType::Utf8, "{kind}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Refused, "{kind}"),
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
    let (with, without) = ("a,b\n1,2\n", "1,2\n3,4\n");
    let text = told(InspectOptions::default(), &[without, with, with]).await;
    assert!(text.contains("memory:/f0 is left out: memory:/f1 seems to have a header, and this file none"), "{text}");
    let text = told(InspectOptions::default(), &[without, with, without]).await;
    assert!(text.contains("memory:/f1 is left out: this file seems to have a header, and memory:/f0 none"), "{text}");
    assert!(text.contains("hint: remove the header of the file, or read every first line as a row"), "{text}");
    assert!(text.contains("column_1: Int64 not null, column_2: Int64 not null"), "{text}");
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

/// The result for CSV files: their dialect, their columns, and the notes.
async fn told(options: InspectOptions, texts: &[&str]) -> String {
    let names: Vec<String> = (0..texts.len()).map(|i| format!("f{i}")).collect();
    let ctx = with_files(names.iter().map(String::as_str).zip(texts.iter().map(|text| (*text).to_owned()))).await;
    match inspected(&ctx, FileKind::Csv, options).await {
        Ok(found) => {
            let FileFormat::Csv(csv) = found.format else { unreachable!() };
            let show = |byte: Option<u8>| byte.map_or("none".to_owned(), |byte| char::from(byte).to_string());
            let written = format!("quote {}, escape {}", show(csv.quote), show(csv.escape));
            let unfit = found.unfit.iter().map(|(file, error)| format!("{file} is left out: {error}"));
            [written, columns(&found.schema)].into_iter().chain(found.notes).chain(unfit).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("{}: {error}", error.kind().name()),
    }
}

fn known() -> FolderCsv {
    FolderCsv {
        delimiter: b',',
        quote: Some(b'"'),
        escape: None,
        null_text: None,
        comment: None,
        header_lines: 0,
        skip_lines: 0,
    }
}

#[tokio::test]
async fn several_files_tell_whether_there_is_a_header() {
    let cases: [&[&str]; 8] = [
        // The same first line.
        &["first,last\nAnn,Lee\n", "first,last\nBob,Ray\n"],
        // Different ones.
        &["Ann,Lee\nCid,Kay\n", "Bob,Ray\nDan,Poe\n"],
        // A file that may have a different header.
        &["id,n\n1,2\n", "x,y\n"],
        &["id,n\n1,2\n", "ID,m\n"],
        &["id,n\n1,2\n", "x,y,z\n"],
        // Two headers without a common name.
        &["id,n\n1,2\n", "key,m\n3,4\n"],
        // Numbers that may be names.
        &["country,2019,2020\nDE,10,20\n"],
        &["red,small\nblue,large\nred,large\n"],
    ];
    let mut all = Vec::new();
    for texts in cases {
        all.push(told(InspectOptions::default(), texts).await);
    }
    assert_snapshot!(all.join("\n\n"), @"
    quote none, escape none
    first: Utf8 not null, last: Utf8 not null

    quote none, escape none
    column_1: Utf8 not null, column_2: Utf8 not null
    all values are texts, and files begin with different lines, so those are taken for rows; use --csv-header present if they are headers

    quote none, escape none
    id: Int64 not null, n: Int64 not null
    memory:/f1 is left out: memory:/f0 seems to have a header, and this file none (file: memory:/f1, hint: give the file the header of the others, or read every first line as a row: `crawl --csv-header absent`)

    quote none, escape none
    id: Int64 not null, n: Int64 not null, m: Utf8 not null
    the columns of memory:/f1 are in other positions than in the files before it: they are matched by name here, but Hive and Athena read them by position

    quote none, escape none
    id: Int64 not null, n: Int64 not null, x: Utf8 not null, y: Utf8 not null, z: Utf8 not null
    the columns of memory:/f1 are in other positions than in the files before it: they are matched by name here, but Hive and Athena read them by position

    quote none, escape none
    id: Int64 not null, n: Int64 not null, key: Int64 not null, m: Int64 not null
    the columns of memory:/f1 are in other positions than in the files before it: they are matched by name here, but Hive and Athena read them by position

    quote none, escape none
    country: Utf8 not null, 2019: Int64 not null, 2020: Int64 not null
    the first line, `country,2019,2020`, is taken for a header although it has numbers; use --csv-header absent if it is a row

    quote none, escape none
    column_1: Utf8 not null, column_2: Utf8 not null
    the first line, `red,small`, is taken for a row; use --csv-header present if it is a header
    ");
}

/// Fifty records after the first one are enough.
#[tokio::test]
async fn a_first_record_is_compared_with_some_of_the_others() {
    let rows = |many: usize| (0..many).map(|i| format!("a{i},b{i}\n")).collect::<String>();
    let (near, far) = (format!("name,of\n{}c,of\n", rows(49)), format!("name,of\n{}c,of\n", rows(50)));
    assert_snapshot!(told(InspectOptions::default(), &[&near]).await, @"
    quote none, escape none
    column_1: Utf8 not null, column_2: Utf8 not null
    the first line, `name,of`, is taken for a row; use --csv-header present if it is a header
    ");
    assert_snapshot!(told(InspectOptions::default(), &[&far]).await, @"
    quote none, escape none
    name: Utf8 not null, of: Utf8 not null
    all values are texts, so the first line is taken for a header; use --csv-header absent if it is a row
    ");
}

#[tokio::test]
async fn what_was_said_of_csv_files_counts_and_the_rest_is_found_out() {
    let hints = |csv_hints: CsvHints| InspectOptions { csv_hints, ..InspectOptions::default() };
    let by_table = || InspectOptions { csv: Some(known()), ..InspectOptions::default() };
    let mut all = Vec::new();
    // A value is missing in the second file.
    all.push(told(InspectOptions::default(), &["id,n\n1,2\n", "id,n\n2,\n"]).await);
    // A stated quote is kept, although nothing is quoted.
    all.push(told(hints(CsvHints { quote: Some(Some(b'\'')), ..CsvHints::default() }), &["a,n\nx,1\n"]).await);
    // Only the second file shows that backslashes escape.
    let escaped = ["id,t\n1,x\n", "id,t\n2,\"say \\\"hi\\\"\"\n"];
    all.push(told(InspectOptions::default(), &escaped).await);
    all.push(told(by_table(), &escaped).await);
    // A duplicate row, and a header.
    let again = ["1,x\n2,y\n1,x\n"];
    all.push(told(hints(CsvHints { header: Some(false), ..CsvHints::default() }), &again).await);
    all.push(told(hints(CsvHints { header: Some(true), ..CsvHints::default() }), &["id,t\n2,y\nid,t\n"]).await);
    // The stated option fits only some of the files, or none.
    let (with, without) = ("id,t\n2,y\n", "2,y\n3,z\n");
    all.push(told(hints(CsvHints { header: Some(true), ..CsvHints::default() }), &[with, without]).await);
    all.push(told(hints(CsvHints { header: Some(false), ..CsvHints::default() }), &[with, without]).await);
    all.push(told(hints(CsvHints { header: Some(true), ..CsvHints::default() }), &[without, without]).await);
    all.push(told(hints(CsvHints { delimiter: Some(b','), ..CsvHints::default() }), &[with, "id;t\n2;y\n"]).await);
    all.push(told(hints(CsvHints { delimiter: Some(b','), ..CsvHints::default() }), &["id;t\n2;y\n"]).await);
    // A table whose files have another delimiter.
    all.push(told(by_table(), &["1,2\n3,4\n", "5;6\n7;8\n"]).await);
    all.push(told(by_table(), &["x\ny\n", "5;6\n7;8\n"]).await);
    assert_snapshot!(all.join("\n\n"), @r#"
    quote none, escape none
    id: Int64 not null, n: Int64

    quote ', escape none
    a: Utf8 not null, n: Int64 not null

    quote ", escape \
    id: Int64 not null, t: Utf8 not null

    quote ", escape none
    column_1: Utf8 not null, column_2: Utf8 not null
    memory:/f0 seems to have a header; its first line, `id,t`, is taken for a row, as the table says
    memory:/f1 is left out: text follows a closing quote; a quote within a quoted field must be doubled (file: memory:/f1, line: 2, value: "say \"hi\"", hint: if `\` escapes: `with_escape(b'\\')`, `crawl --csv-escape '\'`)

    quote none, escape none
    column_1: Int64 not null, column_2: Utf8 not null

    refused: the record repeats the header, as in concatenated files (file: memory:/f0, line: 3, hint: remove the line, or read every header as a row: `without_header()`, `crawl --csv-header absent`)

    quote none, escape none
    id: Int64 not null, t: Utf8 not null
    memory:/f1 is left out: the first record, `2,y`, is not a header, as stated, but a row (file: memory:/f1, hint: give the file the header of the others, or read every first line as a row: `crawl --csv-header absent`)

    quote none, escape none
    column_1: Utf8 not null, column_2: Utf8 not null
    memory:/f0 seems to have a header; its first line, `id,t`, is taken for a row, as stated

    quote none, escape none
    2: Int64 not null, y: Utf8 not null

    quote none, escape none
    id: Int64 not null, t: Utf8 not null
    memory:/f1 is left out: the fields of this file seem to be separated by `;`, not by `,` (file: memory:/f1, hint: if this applies to all files: `with_delimiter(b';')`, `crawl --csv-delimiter ';'`; otherwise rewrite the file, or move it to a folder of its own)

    quote none, escape none
    id;t: Utf8 not null
    all values are texts, so the first line is taken for a header; use --csv-header absent if it is a row

    quote ", escape none
    column_1: Int64 not null, column_2: Int64 not null
    memory:/f1 is left out: the fields of this file seem to be separated by `;`, not by `,` (file: memory:/f1, hint: if this applies to all files: `with_delimiter(b';')`, `crawl --csv-delimiter ';'`; otherwise rewrite the file, or move it to a folder of its own)

    quote ", escape none
    column_1: Utf8 not null
    "#);
}

#[tokio::test]
async fn a_csv_file_that_is_compressed_and_not_named_so_is_noted() {
    let ctx = with_files([("a.csv", gzip("id,n\n1,2\n"))]).await;
    let found = inspected(&ctx, FileKind::Csv, InspectOptions::default()).await.unwrap();
    assert_snapshot!(found.notes.join("\n"), @"memory:/a.csv is gzip, which its name does not say: it is read here, but Hive and Athena go by the name");
}

/// The result in one line: columns, files that are left out and why, hidden columns; or the error.
fn outcome(found: Result<Inspected>) -> String {
    let found = match found {
        Ok(found) => found,
        Err(e) => return format!("{}: {}", e.kind().name(), e.message()),
    };
    let unfit = found.unfit.iter().map(|(file, why)| format!("not {file}: {}", why.message()));
    [columns(&found.schema)].into_iter().chain(unfit).chain(found.hidden).collect::<Vec<_>>().join("; ")
}

/// A file with these rows.
fn file(kind: FileKind, json: &str, columns: &[(&str, DataType)]) -> Vec<u8> {
    match kind {
        FileKind::Parquet => from_json(json, columns),
        FileKind::Avro => avro(&batch(json, columns)),
        FileKind::Json | FileKind::Csv => json.as_bytes().to_vec(),
    }
}

/// Each letter is a file: with integers, with texts, or without the column.
#[rstest]
#[case::most_are_as_the_first("iit", false, "v: Int64", "c")]
#[case::as_many_of_both("it", false, "v: Int64", "b")]
#[case::most_that_have_the_column("nnitt", false, "v: Utf8", "c")]
#[case::the_first_counts("itt", true, "v: Int64", "bc")]
#[case::most("itt", false, "v: Utf8", "a")]
#[case::none_is_another("ini", false, "v: Int64", "")]
#[tokio::test]
async fn files_that_differ_from_most_are_left_out(
    #[case] files: &str,
    #[case] first_counts: bool,
    #[case] column: &str,
    #[case] unfit: &str,
    #[values(FileKind::Parquet, FileKind::Avro)] kind: FileKind,
) {
    let content = |letter| match letter {
        'i' => file(kind, r#"{"v": 1}"#, &[("v", DataType::Int64)]),
        't' => file(kind, r#"{"v": "x"}"#, &[("v", DataType::Utf8)]),
        _ => file(kind, r#"{"w": 1}"#, &[("w", DataType::Int64)]),
    };
    let names: Vec<String> = ('a'..).take(files.len()).map(String::from).collect();
    let ctx = with_files(names.iter().map(String::as_str).zip(files.chars().map(content))).await;
    let options = InspectOptions { first_counts, ..InspectOptions::default() };
    let found = inspected(&ctx, kind, options).await.unwrap();
    let left_out: String = found.unfit.iter().map(|(file, _)| file.as_str().trim_start_matches("memory:/")).collect();
    assert!(columns(&found.schema).contains(column), "{}", columns(&found.schema));
    assert_eq!(left_out, unfit);
    assert_eq!(found.rows, (kind == FileKind::Parquet).then(|| vec![1; files.len()]));
}

#[rstest]
#[case(FileKind::Parquet, "PAR1 and nothing else", "Parquet error: Invalid Parquet file. Corrupt footer")]
#[case(FileKind::Avro, "Obj", "this is not an Avro file: EOF: Unexpected EOF")]
#[case(FileKind::Json, "?", "a row of JSON must be an object")]
#[tokio::test]
async fn a_file_that_cannot_be_read_is_left_out_unless_it_is_the_only_one(
    #[case] kind: FileKind,
    #[case] broken: &str,
    #[case] why: &str,
) {
    let fine = file(kind, r#"{"v": 1}"#, &[("v", DataType::Int64)]);
    let both = with_files([("a", broken.as_bytes().to_vec()), ("b", fine)]).await;
    let left_out = outcome(inspected(&both, kind, InspectOptions::default()).await);
    assert!(left_out.starts_with(&format!("v: Int64; not memory:/a: {why}")), "{left_out}");
    let one = with_files([("a", broken.as_bytes().to_vec())]).await;
    let refused = outcome(inspected(&one, kind, InspectOptions::default()).await);
    assert!(refused.starts_with(&format!("refused: {why}")), "{refused}");
    // It is unknown whether a missing file fits.
    let (store, mut files) = files(&both).await;
    files[0].location = "gone".into();
    let error = inspect(&store, &files, kind, &InspectOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
}

/// After each of them, the others are read again.
#[rstest]
#[case(1)]
#[case(16)]
#[case(17)]
#[tokio::test]
async fn not_too_many_texts_are_left_out(#[case] broken: usize) {
    let names: Vec<String> = (0..=broken).map(|i| format!("f{i:02}")).collect();
    let content = |i| if i == 0 { r#"{"v": 1}"# } else { "?" };
    let ctx = with_files(names.iter().enumerate().map(|(i, name)| (name.as_str(), content(i)))).await;
    match inspected(&ctx, FileKind::Json, InspectOptions::default()).await {
        Ok(found) => {
            assert_eq!(found.unfit.len(), broken);
            assert!(broken <= 16 && found.unfit.iter().all(|(file, _)| file.as_str() != "memory:/f00"));
        }
        Err(e) => assert_eq!((broken, e.get("file")), (17, Some("memory:/f01")), "the first that is broken"),
    }
}

#[rstest]
#[case::wider(FileKind::Parquet, "1", DataType::Int32, DataType::Int64, "v: Int64")]
#[case::read_from_text(FileKind::Parquet, "\"1\"", DataType::Utf8, DataType::Int64, "v: Int64")]
#[case::no_fraction_is_whole(
    FileKind::Parquet,
    "1.5",
    DataType::Float64,
    DataType::Int64,
    "refused: `v` holds Float64, which is never a value of Int64"
)]
#[case::the_same(FileKind::Avro, "1.5", DataType::Float64, DataType::Float64, "v: Float64")]
#[case::nothing_is_anything(FileKind::Parquet, "null", DataType::Null, list(DataType::Int64), "v: List(Int64)")]
#[case::a_text_is_anything(FileKind::Json, "1.5", DataType::Utf8, DataType::Date32, "v: Float64")]
#[case::a_text_is_no_list(
    FileKind::Json,
    "1",
    DataType::Utf8,
    list(DataType::Int64),
    "refused: `v` holds Int64, which is never a value of List(Int64)"
)]
#[case::a_list_is_a_text(FileKind::Json, "[1]", DataType::Utf8, DataType::Utf8, "v: Utf8")]
#[case::an_unknown_list_is_one(FileKind::Json, "null", DataType::Utf8, list(DataType::Int64), "v: List(Int64)")]
#[case::a_list_is_a_list(FileKind::Json, "[1]", DataType::Utf8, list(DataType::Int64), "v: List(Int64)")]
#[tokio::test]
async fn columns_have_the_types_that_are_asked_for(
    #[case] kind: FileKind,
    #[case] value: &str,
    #[case] stored: DataType,
    #[case] wanted: DataType,
    #[case] expected: &str,
) {
    let ctx = with_files([("a", file(kind, &format!("{{\"v\": {value}}}"), &[("v", stored)]))]).await;
    let types = vec![("w".to_owned(), DataType::Boolean), ("v".to_owned(), wanted)];
    let found = inspected(&ctx, kind, InspectOptions { types, ..InspectOptions::default() }).await;
    assert_eq!(outcome(found), expected);
}

fn list(of: DataType) -> DataType {
    DataType::new_list(of, true)
}

#[tokio::test]
async fn a_file_whose_values_are_never_of_the_type_that_is_asked_for_is_left_out() {
    let types = vec![("v".to_owned(), DataType::Int64)];
    let options = InspectOptions { types, ..InspectOptions::default() };
    let half = file(FileKind::Parquet, r#"{"v": 0.5}"#, &[("v", DataType::Float64)]);
    let text = file(FileKind::Parquet, r#"{"v": "1"}"#, &[("v", DataType::Utf8)]);
    let ctx = with_files([("a", half), ("b", text)]).await;
    assert_snapshot!(outcome(inspected(&ctx, FileKind::Parquet, options).await), @"v: Int64; not memory:/a: `v` holds Float64, which is never a value of Int64");
}

/// Each file has a region, and is in a folder that may have another.
#[rstest]
#[case::other(&[("region=eu/a", "eu"), ("region=eu/b", "us")], "`region` is `us` in memory:/region=eu/b and `eu` in the name of its folder")]
#[case::same(&[("region=eu/a", "eu"), ("region=us/b", "us")], "")]
#[case::innermost(&[("region=us/year=1/region=eu/a", "eu")], "")]
#[case::other_case(&[("Region=eu/a", "eu")], "")]
#[case::another_key(&[("country=eu/a", "eu")], "`region` is `eu` in memory:/country=eu/a and `null` in the name of its folder")]
#[case::a_file_is_no_folder(&[("region=eu", "eu")], "`region` is `eu` in memory:/region=eu and `null` in the name of its folder")]
#[tokio::test]
async fn columns_that_say_something_else_than_the_folder_are_told(
    #[case] files: &[(&str, &str)],
    #[case] hidden: &str,
    #[values(FileKind::Parquet, FileKind::Avro, FileKind::Json)] kind: FileKind,
) {
    let content = |region: &str| file(kind, &format!("{{\"Region\": \"{region}\"}}"), &[("Region", DataType::Utf8)]);
    let ctx = with_files(files.iter().map(|(name, region)| (*name, content(region)))).await;
    let keys = vec!["year".to_owned(), "region".to_owned()];
    let found = inspected(&ctx, kind, InspectOptions { keys, ..InspectOptions::default() }).await.unwrap();
    assert_eq!(found.hidden.join("; "), hidden);
    let found = inspected(&ctx, kind, InspectOptions::default()).await.unwrap();
    assert_eq!(found.hidden, [""; 0], "the column is no key");
}

#[tokio::test]
async fn of_files_that_are_left_out_nothing_is_hidden() {
    let number = file(FileKind::Parquet, r#"{"region": 7}"#, &[("region", DataType::Int64)]);
    let text =
        |region: &str| file(FileKind::Parquet, &format!("{{\"region\": {region:?}}}"), &[("region", DataType::Utf8)]);
    let files = [("region=us/a", number), ("region=eu/b", text("us")), ("region=eu/c", text("eu"))];
    let options = InspectOptions { keys: vec!["region".to_owned()], ..InspectOptions::default() };
    let found = inspected(&with_files(files).await, FileKind::Parquet, options).await.unwrap();
    assert_eq!(found.unfit.len(), 1);
    assert_eq!(found.hidden, ["`region` is `us` in memory:/region=eu/b and `eu` in the name of its folder"]);
}

#[rstest]
#[case("a.json", false, false)]
#[case("a.json.gz", true, false)]
#[case("a.json", true, true)]
#[case("a.json.zst", true, true)]
#[tokio::test]
async fn names_that_do_not_say_how_a_file_is_compressed_are_noted(
    #[case] name: &str,
    #[case] compressed: bool,
    #[case] noted: bool,
) {
    let text = "{\"a\": 1}\n";
    let ctx = with_files([(name, if compressed { gzip(text) } else { text.into() })]).await;
    let found = inspected(&ctx, FileKind::Json, InspectOptions::default()).await.unwrap();
    let note = "is gzip, which its name does not say: it is read here, but Hive and Athena go by the name";
    assert_eq!(found.notes, Vec::from_iter(noted.then(|| format!("memory:/{name} {note}"))));
}
