//! Dialects of text files: what is read with options, and what is refused with a hint.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use hardtack_sources::{AvroFiles, CsvFiles, JsonFiles, ParquetFiles};
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use crate::files::gzip;
use crate::{collect, schema, show, types, with_files};

const AT: &str = "memory:/data";

fn csv() -> CsvFiles {
    CsvFiles::new("a", AT)
}

fn declared() -> CsvFiles {
    csv().with_schema(schema(&[("id", DataType::Int64), ("name", DataType::Utf8)]))
}

/// The values of the rows, `~` for null.
async fn values(ctx: &hardtack_core::JobContext, source: impl hardtack_core::Source) -> String {
    let shown = show(ctx, source).await;
    if !shown.starts_with('+') {
        return shown;
    }
    let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|').map(|cell| if cell.trim().is_empty() { "~" } else { cell.trim() });
        cells.collect::<Vec<_>>().join("|")
    };
    rows.map(cells).collect::<Vec<_>>().join(" ")
}

const BOM: &str = "\u{feff}";

#[tokio::test]
async fn skipped_lines_comments_and_escapes_are_options() {
    let text = "Report of May\n\"2024\n# made by hand\nid;name\n1;\"say \\\"hi\\\"\"\n#2;\"x\n3;\"#3\"\n";
    let ctx = with_files([("data/a.csv", text)]).await;
    let source = csv().with_skip_lines(2).with_comment(b'#').with_delimiter(b';').with_escape(b'\\');
    assert_eq!(values(&ctx, source.clone()).await, r#"1|say "hi" 3|#3"#);
    assert_snapshot!(format!("{source:?}"), @r#"CsvFiles { name: "a", location: "memory:/data", delimiter: ';', escape: '\\', skip_lines: 2, comment: '#' }"#);
    let wrong = csv().with_comment(b',');
    assert_snapshot!(show(&ctx, wrong.clone()).await, @"usage: `,` cannot be both the delimiter and the comment of a CSV file");
    assert_snapshot!(show(&ctx, wrong.with_schema(schema(&[("a", DataType::Utf8)]))).await, @"usage: `,` cannot be both the delimiter and the comment of a CSV file");
}

#[tokio::test]
async fn what_is_refused_has_a_hint() {
    let texts = [
        "id,name\n1,\"say \\\"hi\\\"\"\n",
        "id,name\n1,\"5\" pipe\n",
        "id,name\n1,\"5\n",
        "Report of May\n\nid,name\n1,x\n",
        "id;name\n1;x\n",
        "id;price\n1;1,5\n2;2,5\n",
        "id,name\n1,x\nid,name\n2,y\n",
        "id,id\n1,x\n",
        "id,name\n1,x\n# two, more, of\n2,y\n",
        "",
    ];
    let mut told = Vec::new();
    for text in texts {
        let ctx = with_files([("data/a.csv", text)]).await;
        told.push(show(&ctx, csv()).await);
    }
    assert_snapshot!(told.join("\n"), @r#"
    refused: text follows a closing quote; a quote within a quoted field must be doubled (file: memory:/data/a.csv, line: 2, value: "say \"hi\"", hint: if `\` escapes: `with_escape(b'\\')`, `crawl --csv-escape '\'`)
    refused: text follows a closing quote; a quote within a quoted field must be doubled (file: memory:/data/a.csv, line: 2, value: "5" pipe, hint: if quotes are just characters: `with_quote(None)`, `crawl --csv-quote none`)
    refused: a quote is not closed (file: memory:/data/a.csv, line: 2, value: "5, hint: if quotes are just characters: `with_quote(None)`, `crawl --csv-quote none`)
    refused: the record has 2 fields where 1 are expected (file: memory:/data/a.csv, line: 3, value: id,name, hint: if the first line is neither header nor row: `with_skip_lines(1)`, `crawl --csv-skip-lines 1`)
    refused: the fields of this file seem to be separated by `;`, not by `,` (file: memory:/data/a.csv, line: 1, hint: if this applies to all files: `with_delimiter(b';')`, `crawl --csv-delimiter ';'`; otherwise rewrite the file, or move it to a folder of its own)
    refused: the fields of this file seem to be separated by `;`, not by `,` (file: memory:/data/a.csv, line: 1, hint: if this applies to all files: `with_delimiter(b';')`, `crawl --csv-delimiter ';'`; otherwise rewrite the file, or move it to a folder of its own)
    refused: the record repeats the header, as in concatenated files (file: memory:/data/a.csv, line: 3, value: id,name, hint: remove the line, or read every header as a row: `without_header()`, `crawl --csv-header absent`)
    refused: the header names `id` more than once (file: memory:/data/a.csv, line: 1, column: id, hint: rename one; if the line is a row: `without_header()`, `crawl --csv-header absent`; if it is neither: `with_skip_lines(1)`, `crawl --csv-skip-lines 1`)
    refused: the record has 3 fields where 2 are expected (file: memory:/data/a.csv, line: 3, value: # two, more, of, hint: if lines that begin with `#` are comments: `with_comment(b'#')`, `crawl --csv-comment '#'`)
    refused: the file is empty: it does not even have a header (file: memory:/data/a.csv, hint: declare a schema and use `or_empty()` if such a file has no rows)
    "#);
    // With a declared schema, too.
    let ctx = with_files([("data/a.csv", "id,name\n1,x\nid,name\n2,y\n")]).await;
    assert_snapshot!(show(&ctx, csv().with_schema(schema(&[("name", DataType::Utf8)]))).await, @"refused: the record repeats the header, as in concatenated files (file: memory:/data/a.csv, line: 3, value: id,name, hint: remove the line, or read every header as a row: `without_header()`, `crawl --csv-header absent`)");
}

/// Both with a declared schema and without.
#[rstest]
#[case::joined("id,name\r\n1,x\r\n\u{feff}id,name\r\n2,y\r\n", "1|x 2|y")]
#[case::joined_rows("id,name\n1,x\n\u{feff}2,y\n", "1|x 2|y")]
#[case::mixed_line_ends("id,name\r1,x\r\n2,y\n3,\"z\"\r", "1|x 2|y 3|z")]
#[case::quoted_names("\"id\",\"name\"\n1,x\n", "1|x")]
#[case::quotes_inside("id,name\n1,5\" pipe\n2,a\"b\"c\n", "1|5\" pipe 2|a\"b\"c")]
#[case::blanks_around_quotes("id,name\n1, \"x\" \n", "1|\"x\"")]
#[case::zeros("id,name\n1,a\u{0}b\n", "1|a\u{0}b")]
#[case::header_only("id,name\n", "")]
#[case::no_last_line_end("id,name\n1,x", "1|x")]
#[tokio::test]
async fn what_others_write_is_read(#[case] text: &str, #[case] rows: &str) {
    let ctx = with_files([("data/a.csv", text.to_owned())]).await;
    for found in [values(&ctx, declared()).await, values(&ctx, csv()).await] {
        assert_eq!(found, rows);
    }
}

/// However the text is split into files.
#[rstest]
#[case::text("a.csv", |text: &[u8]| text.to_vec())]
#[case::named_otherwise("a.csv", gzip_of)]
#[case::padded("a.csv.gz", |text: &[u8]| [gzip_of(text), vec![0; 1000]].concat())]
#[case::padded_and_named_otherwise("a.csv", |text: &[u8]| [gzip_of(text), vec![0; 100_000]].concat())]
#[case::joined_with_marks("a.csv.gz", |text: &[u8]| {
    let (header, rows) = text.split_at(8);
    let with_mark = |part: &[u8]| gzip_of(&[BOM.as_bytes(), part].concat());
    [with_mark(header), with_mark(rows), vec![0; 9]].concat()
})]
#[tokio::test]
async fn compression_is_told_by_the_first_bytes(#[case] name: &str, #[case] written: fn(&[u8]) -> Vec<u8>) {
    let path = format!("data/{name}");
    let ctx = with_files([(path.as_str(), written(b"id,name\n1,x\n2,\n"))]).await;
    assert_eq!(values(&ctx, declared()).await, "1|x 2|~");
    assert_eq!(values(&ctx, csv()).await, "1|x 2|~");
}

fn gzip_of(text: &[u8]) -> Vec<u8> {
    gzip(std::str::from_utf8(text).unwrap())
}

#[tokio::test]
async fn what_is_no_utf8_text_is_refused() {
    let utf16 =
        |mark: &str| format!("{mark}id,name\n1,x\n").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let mut told = Vec::new();
    for bytes in [utf16(BOM), utf16(""), gzip_of(b"id,name\n")[..9].to_vec()] {
        let ctx = with_files([("data/a.csv", bytes.clone()), ("data/b.json", bytes)]).await;
        told.push(show(&ctx, declared()).await);
        told.push(show(&ctx, csv()).await);
        told.push(show(&ctx, JsonFiles::new("a", AT)).await);
    }
    let ctx = with_files([("data/a.csv.gz", "id,name\n1,x\n")]).await;
    told.push(show(&ctx, csv()).await);
    assert_snapshot!(told.join("\n"), @"
    refused: this is UTF-16, and texts are read as UTF-8 (file: memory:/data/a.csv, line: 1, hint: convert the file: `iconv -f UTF-16 -t UTF-8`)
    refused: this is UTF-16, and texts are read as UTF-8 (file: memory:/data/a.csv, line: 1, hint: convert the file: `iconv -f UTF-16 -t UTF-8`)
    refused: this is UTF-16, and texts are read as UTF-8 (file: memory:/data/b.json, line: 1, hint: convert the file: `iconv -f UTF-16 -t UTF-8`)
    refused: this is UTF-16, and texts are read as UTF-8 (file: memory:/data/a.csv, line: 1, hint: convert the file: `iconv -f UTF-16 -t UTF-8`)
    refused: this is UTF-16, and texts are read as UTF-8 (file: memory:/data/a.csv, line: 1, hint: convert the file: `iconv -f UTF-16 -t UTF-8`)
    refused: this is UTF-16, and texts are read as UTF-8 (file: memory:/data/b.json, line: 1, hint: convert the file: `iconv -f UTF-16 -t UTF-8`)
    refused: the file is not whole and valid gzip (file: memory:/data/a.csv): unexpected end of file
    refused: the file is not whole and valid gzip (file: memory:/data/a.csv): unexpected end of file
    refused: the file is not whole and valid gzip (file: memory:/data/b.json): unexpected end of file
    refused: the file is not whole and valid gzip (file: memory:/data/a.csv.gz, hint: if it is not compressed, give it a name without `.gz`): Invalid gzip header
    ");
}

#[tokio::test]
async fn an_empty_file_lost_its_header_unless_it_may_be_empty() {
    for text in ["", BOM, "\n\n"] {
        let ctx = with_files([("data/a.csv", text), ("data/b.csv", "id,name\n1,x\n")]).await;
        let told = show(&ctx, declared()).await;
        assert!(
            told.starts_with("refused: the file is empty: it does not even have a header (file: memory:/data/a.csv"),
            "{told}"
        );
        assert!(show(&ctx, csv()).await.starts_with("refused: the file is empty"));
        assert_eq!(values(&ctx, declared().or_empty()).await, "1|x");
        // If there is no header, none can be lost.
        let ctx = with_files([("data/a.csv", text), ("data/b.csv", "1,x\n")]).await;
        assert_eq!(values(&ctx, declared().without_header()).await, "1|x");
        assert_eq!(values(&ctx, csv().without_header()).await, "1|x");
        // And JSON has none.
        let ctx = with_files([("data/a.jsonl", text), ("data/b.jsonl", "{\"id\":1}")]).await;
        assert_eq!(values(&ctx, JsonFiles::new("a", AT)).await, "1");
    }
    let ctx = with_files([("data/a.csv", "")]).await;
    let rows = ctx.load(declared().or_empty()).await.unwrap();
    assert_eq!(rows.count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_delimiter_that_differs_between_files_is_refused() {
    let ctx = with_files([("data/a.csv", "id,name\n1,x\n"), ("data/b.csv", "id;name\n1;x\n")]).await;
    assert_snapshot!(show(&ctx, csv()).await, @"refused: the fields of this file seem to be separated by `;`, not by `,` (file: memory:/data/b.csv, line: 1, hint: if this applies to all files: `with_delimiter(b';')`, `crawl --csv-delimiter ';'`; otherwise rewrite the file, or move it to a folder of its own)");
    // A stated option is not questioned.
    assert_eq!(types(&ctx, csv().with_delimiter(b',')).await, "id: Int64, name: Utf8, id;name: Utf8");
}

#[tokio::test]
async fn a_key_that_is_there_twice_is_refused_wherever_it_is() {
    let rows = [
        r#"{"a":100,"a":200}"#,
        r#"{"a":1,"b":{"c":[{"d":1},{"d":2,"d":3}]}}"#,
        r#"{"a":1,"ignored":{"x":1,"x":1}}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"a":"x","b":2} {"a":1,"a":2}"#,
    ];
    let mut told = Vec::new();
    let source = || JsonFiles::new("a", AT);
    for row in rows {
        let ctx = with_files([("data/a.json", format!("{{\"a\":0}}\n{{\"a\":1,\"A\":2}}\n{row}\n"))]).await;
        told.push(show(&ctx, source()).await);
        told.push(show(&ctx, source().with_schema(schema(&[("a", DataType::Int64)]))).await);
    }
    assert_snapshot!(told.join("\n"), @r#"
    refused: an object has `a` twice (file: memory:/data/a.json, line: 3, column: a, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `a` twice (file: memory:/data/a.json, line: 3, column: a, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `d` twice (file: memory:/data/a.json, line: 3, column: b.c.d, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `d` twice (file: memory:/data/a.json, line: 3, column: b.c.d, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `x` twice (file: memory:/data/a.json, line: 3, column: ignored.x, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `x` twice (file: memory:/data/a.json, line: 3, column: ignored.x, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `a` twice (file: memory:/data/a.json, line: 3, column: a, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `a` twice (file: memory:/data/a.json, line: 3, column: a, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `a` twice (file: memory:/data/a.json, line: 3, column: a, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: `x` is not an Int64 (file: memory:/data/a.json, line: 3, column: a, value: "x")
    "#);
}

#[tokio::test]
async fn names_that_differ_in_case_only_are_one_column() {
    let files = [
        ("data/a.jsonl", "{\"OrderId\":1,\"By\":{\"Name\":\"x\"}}\n"),
        ("data/b.jsonl", "{\"orderId\":2,\"by\":{\"name\":\"y\"}}\n{\"ORDERID\":3,\"l\":[{\"N\":1},{\"n\":2}]}\n"),
    ];
    let json = || JsonFiles::new("a", AT);
    let ctx = with_files(files).await;
    assert_eq!(types(&ctx, json()).await, r#"OrderId: Int64, By: Struct("Name": Utf8), l: List(Struct("N": Int64))"#);
    assert_eq!(values(&ctx, json()).await, "1|{Name: x}|~ 2|{Name: y}|~ 3|~|[{N: 1}, {N: 2}]");
    // An object that has both makes them two columns.
    crate::put(&ctx, "data/c.jsonl", "{\"OrderId\":4,\"orderId\":5}").await;
    assert_eq!(
        values(&ctx, json()).await,
        "1|{Name: x}|~|~|~|~ ~|~|2|{name: y}|~|~ ~|~|~|~|3|[{N: 1, n: }, {N: , n: 2}] 4|~|5|~|~|~"
    );
    // In CSV, it is a file that has both.
    let files = [("data/a.csv", "OrderId,x\n1,2\n"), ("data/b.csv", "x,orderId\n3,4\n")];
    let ctx = with_files(files).await;
    assert_eq!(types(&ctx, csv()).await, "OrderId: Int64, x: Int64");
    assert_eq!(values(&ctx, csv()).await, "1|2 4|3");
    crate::put(&ctx, "data/c.csv", "orderId,OrderId\n5,6\n").await;
    assert_eq!(types(&ctx, csv()).await, "OrderId: Int64, x: Int64, orderId: Int64");
    assert_eq!(values(&ctx, csv()).await, "1|2|~ ~|3|4 6|~|5");
}

#[tokio::test]
async fn a_folder_says_what_its_files_say_or_is_refused() {
    let json = || JsonFiles::new("a", AT).with_hive_partitions();
    let ctx = with_files([("data/region=eu/a.jsonl", "{\"id\":1,\"region\":\"eu\"}\n{\"id\":2}\n")]).await;
    assert_eq!(values(&ctx, json()).await, "1|eu 2|eu");
    crate::put(&ctx, "data/region=us/b.jsonl", "{\"id\":1,\"region\":\"us-west-1\"}").await;
    assert_snapshot!(show(&ctx, json()).await, @"refused: `region` is `us-west-1` in memory:/data/region=us/b.jsonl and `us` in the name of its folder (file: memory:/data/region=us/b.jsonl, column: region, hint: leave out partition columns to have the value of the file, or declare a schema to have that of the folder)");
    // A declared schema decides.
    let declared = json().with_schema(schema(&[("id", DataType::Int64), ("region", DataType::Utf8)]));
    assert_eq!(values(&ctx, declared).await, "1|eu 2|eu 1|us");
    assert_eq!(values(&ctx, JsonFiles::new("a", AT)).await, "1|eu 2|~ 1|us-west-1");

    let ctx = with_files([("data/day=2023-08-28/a.csv", "id,day\n1,2023-08-28\n2,\n3,2023-08-29\n")]).await;
    assert_snapshot!(show(&ctx, csv().with_hive_partitions()).await, @"refused: `day` is `2023-08-29` in memory:/data/day=2023-08-28/a.csv and `2023-08-28` in the name of its folder (file: memory:/data/day=2023-08-28/a.csv, column: day, hint: leave out partition columns to have the value of the file, or declare a schema to have that of the folder)");
    assert_snapshot!(show(&ctx, csv().with_partition_columns([("day", DataType::Date32)])).await, @"refused: `day` is `2023-08-29` in memory:/data/day=2023-08-28/a.csv and `2023-08-28` in the name of its folder (file: memory:/data/day=2023-08-28/a.csv, column: day, hint: leave out partition columns to have the value of the file, or declare a schema to have that of the folder)");
}

#[tokio::test]
async fn folders_of_typed_files_say_what_they_say_or_are_refused() {
    let batch = |hour: i64| {
        let at = 1_693_180_800_000_000 + hour * 3_600_000_000;
        let (ids, days) = (Int64Array::from(vec![1]), TimestampMicrosecondArray::from(vec![at]));
        RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("day", Arc::new(days))]).unwrap()
    };
    let mut told = Vec::new();
    for hour in [0, 10] {
        let files = [
            ("data/day=2023-08-28/a.parquet", crate::parquet::parquet(&batch(hour))),
            ("data/day=2023-08-28/a.avro", crate::avro::avro(&batch(hour))),
        ];
        let ctx = with_files(files).await;
        told.push(values(&ctx, ParquetFiles::new("a", AT).with_hive_partitions()).await);
        told.push(values(&ctx, AvroFiles::new("a", AT).with_hive_partitions()).await);
    }
    assert_snapshot!(told.join("\n"), @"
    1|2023-08-28T00:00:00
    1|2023-08-28T00:00:00
    refused: `day` is `2023-08-28T10:00:00` in memory:/data/day=2023-08-28/a.parquet and `2023-08-28` in the name of its folder (file: memory:/data/day=2023-08-28/a.parquet, column: day, hint: leave out partition columns to have the value of the file, or declare a schema to have that of the folder)
    refused: `day` is `2023-08-28T10:00:00` in memory:/data/day=2023-08-28/a.avro and `2023-08-28` in the name of its folder (file: memory:/data/day=2023-08-28/a.avro, column: day, hint: leave out partition columns to have the value of the file, or declare a schema to have that of the folder)
    ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever dialect is detected, the values are those that were written, or the file is refused.
    #[test]
    fn rows_come_back_from_every_dialect(
        rows in prop::collection::vec(prop::collection::vec("[a-c1\\\\#;, \"\n]{0,6}", 3), 1..9),
        delimiter in prop::sample::select(vec![b',', b';', b'\t', b'|']),
        escape in prop::option::of(Just(b'\\')),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        before in prop::sample::select(vec!["", "\u{feff}", "# x\n# y\n", "a title\n"]),
        joint in any::<bool>(),
    ) {
        let quoted = |field: &String| {
            let inside: String = field
                .chars()
                .flat_map(|c| match (c, escape) {
                    ('"', None) => vec!['"', '"'],
                    ('"' | '\\', Some(_)) => vec!['\\', c],
                    _ => vec![c],
                })
                .collect();
            format!("\"{inside}\"")
        };
        let line = |fields: Vec<String>| fields.join(&char::from(delimiter).to_string()) + end;
        let mut text = before.replace('\n', end) + &line(vec!["x".into(), "y".into(), "z".into()]);
        for (i, row) in rows.iter().enumerate() {
            if joint && i == 1 {
                text += BOM;
            }
            text += &line(row.iter().map(quoted).collect());
        }
        let mut source = csv().with_delimiter(delimiter);
        source = match before.lines().count() {
            _ if before == BOM => source,
            0 => source,
            lines => source.with_skip_lines(lines as u32),
        };
        if let Some(escape) = escape {
            source = source.with_escape(escape);
        }
        let columns = ["x", "y", "z"].map(|name| (name, DataType::Utf8));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let back = runtime.block_on(async {
            let ctx = with_files([("data/a.csv", text)]).await;
            collect(&ctx, source.with_schema(schema(&columns))).await.unwrap()
        });
        let wanted: Vec<Vec<String>> = rows;
        let mut found = Vec::new();
        for batch in &back {
            use arrow::array::{Array, AsArray};
            for row in 0..batch.num_rows() {
                let cell = |column: &arrow::array::ArrayRef| {
                    assert!(column.is_valid(row));
                    column.as_string::<i32>().value(row).to_owned()
                };
                found.push(batch.columns().iter().map(cell).collect::<Vec<_>>());
            }
        }
        prop_assert_eq!(found, wanted);
    }
}

#[tokio::test]
async fn who_asks_for_the_columns_is_told_what_is_wrong() {
    use hardtack_core::Source;
    let mut told = Vec::new();
    for text in [&b"id,name\n1,x\nid,name\n2,y\n"[..], b"id,name\n1,x\n2,\xff\n3,y\n"] {
        let ctx = with_files([("data/a.csv", text.to_vec())]).await;
        let error = csv().schema(&ctx.loading("a")).await.unwrap_err();
        told.push(format!("{}: {}", error.kind().name(), error.chain()));
    }
    assert_snapshot!(told.join("\n"), @"
    refused: the record repeats the header, as in concatenated files (file: memory:/data/a.csv, line: 3, value: id,name, hint: remove the line, or read every header as a row: `without_header()`, `crawl --csv-header absent`)
    refused: this is not UTF-8 text; convert the file (file: memory:/data/a.csv, line: 3)
    ");
}

/// The first 64 KiB determine a file's delimiter.
#[tokio::test]
async fn a_file_is_separated_as_its_first_records_are() {
    let (wide, row) = ("x".repeat(2000), |name: &str, end: &str| format!("{name};{}{end}\n", "x".repeat(2000)));
    let text = row("a", "").repeat(40) + &row(&wide, ";y").repeat(40);
    let ctx = with_files([("data/a.csv", text)]).await;
    let told = show(&ctx, csv()).await;
    assert!(
        told.starts_with("refused: the fields of this file seem to be separated by `;`, not by `,`"),
        "{told:.200}"
    );
}

/// A single field may happen to equal its column's name.
#[tokio::test]
async fn a_value_of_a_single_column_may_be_its_name() {
    let ctx = with_files([("data/a.csv", "name\nx\nname\n")]).await;
    assert_eq!(values(&ctx, csv()).await, "x name");
    assert_eq!(values(&ctx, csv().with_schema(schema(&[("name", DataType::Utf8)]))).await, "x name");
}

#[tokio::test]
async fn a_file_without_a_header_lacks_the_declared_columns() {
    let ctx = with_files([("data/a.csv", "1,x\n2,y\n")]).await;
    assert_snapshot!(show(&ctx, declared()).await, @"refused: the file has no column `id`; its header is `1, x` (file: memory:/data/a.csv, line: 1, column: id)");
}

#[tokio::test]
async fn no_batch_has_more_rows_than_were_asked_for() {
    let csv_text = format!("id,name\n{}", "1,x\n".repeat(20_000));
    let json_text = "{\"id\":1}\n".repeat(20_000);
    let ctx = with_files([("data/a.csv", csv_text), ("data/a.json", json_text)]).await;
    for batches in [collect(&ctx, csv()).await.unwrap(), collect(&ctx, JsonFiles::new("a", AT)).await.unwrap()] {
        let rows: Vec<usize> = batches.iter().map(|batch| batch.num_rows()).collect();
        assert_eq!(rows, [8192, 8192, 20_000 - 2 * 8192]);
    }
}
