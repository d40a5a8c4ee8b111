use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use hardtack_sources::JsonFiles;
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{collect, schema, show, types, with_files};

const AT: &str = "memory:/data";

fn books() -> JsonFiles {
    let author = DataType::Struct(vec![Field::new("id", DataType::Int64, true)].into());
    JsonFiles::new("books", AT).with_schema(schema(&[
        ("title", DataType::Utf8),
        ("publish_date", DataType::Date32),
        ("author", author),
        ("tags", DataType::new_list(DataType::Utf8, true)),
    ]))
}

#[tokio::test]
async fn rows_have_the_declared_columns() {
    let text = r#"{"title":"A","publish_date":"2020-01-31","author":{"id":1,"x":2},"tags":["a",null],"isbn":7}
        {"title":12.50,"author":null}{"tags":[],"TITLE":"no"} {}"#;
    let ctx = with_files([("data/a.json", text)]).await;
    assert_snapshot!(show(&ctx, books()).await, @"");
}

#[rstest]
#[case::lines("{\"a\":1}\n{\"a\":2}\n")]
#[case::windows_lines("{\"a\":1}\r\n{\"a\":2}")]
#[case::one_line("{\"a\":1}{\"a\":2}")]
#[case::pretty("{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n")]
#[case::array("[{\"a\":1},\n{\"a\":2}]")]
#[case::mixed("\u{feff}[ {\"a\":1} ]\n\n{\"a\":2}\n[]")]
#[tokio::test]
async fn every_layout_is_read(#[case] text: &str) {
    let ctx = with_files([("data/a.json", text.to_owned())]).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT)).await, @"");
}

/// Bad rows on line 3 of a file.
#[rstest]
#[case::date(r#"{"publish_date":"31.1.2020"}"#)]
#[case::struct_(r#"{"author":"me"}"#)]
#[case::nested(r#"{"author":{"id":"abc"}}"#)]
#[case::fraction(r#"{"author":{"id":1.5}}"#)]
#[case::list(r#"{"tags":"a"}"#)]
#[case::item(r#"{"tags":["a",{"b":1}]}"#)]
#[case::syntax(r#"{"title": tru}"#)]
#[case::open(r#"{"title": "x"#)]
#[case::scalar("17")]
#[case::utf8("{\"title\": \"\u{1}\"}")]
#[tokio::test]
async fn what_does_not_fit_is_refused(#[case] row: &str) {
    let mut text =
        format!("{{\"title\":\"A\"}}\n{{\n{row}\n{{\"title\":\"B\"}}\n").replacen("{\n", "{}\n", 1).into_bytes();
    // A byte that is no UTF-8.
    text.iter_mut().filter(|b| **b == 1).for_each(|b| *b = 0xFF);
    let ctx = with_files([("data/a.json", text)]).await;
    insta::with_settings!({ snapshot_suffix => row.chars().filter(char::is_ascii_alphanumeric).collect::<String>() }, {
        assert_snapshot!(show(&ctx, books()).await);
    });
}

#[tokio::test]
async fn the_line_is_that_of_the_value_and_values_are_cut() {
    let long = "x".repeat(500);
    let text =
        format!("[\n  {{\"title\": \"A\"}},\n  {{\n    \"title\": \"B\",\n    \"publish_date\": \"{long}\"\n  }}\n]");
    let ctx = with_files([("data/a.json", text)]).await;
    assert_snapshot!(show(&ctx, books()).await, @"");
}

#[tokio::test]
async fn required_columns_need_values() {
    let inner = DataType::Struct(vec![Field::new("b", DataType::Int64, false)].into());
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("a", inner, true)];
    let source = JsonFiles::new("a", AT).with_schema(Schema::new(fields));
    let missing = with_files([("data/a.json", "{\"id\":1,\"a\":null}\n\n{\"a\":{\"b\":1}}")]).await;
    assert_snapshot!(show(&missing, source.clone()).await, @"");
    let null = with_files([("data/a.json", "{\"id\":1,\"a\":{\"b\":2}}\n{\"id\":2,\"a\":{\"b\":null}}")]).await;
    assert_snapshot!(show(&null, source).await, @"");
}

#[tokio::test]
async fn texts_become_declared_types() {
    let text =
        r#"{"d":"19.99","m":{"k":1},"t":"2024-01-31T10:00:00+02:00","n":1706695200000,"f":"0.5","b":true,"i":"7"}"#;
    let map = DataType::Map(
        Arc::new(Field::new_struct(
            "entries",
            vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)],
            false,
        )),
        false,
    );
    let columns = schema(&[
        ("d", DataType::Decimal128(9, 3)),
        ("m", map),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("n", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("f", DataType::Float32),
        ("b", DataType::Utf8View),
        ("i", DataType::UInt8),
    ]);
    let ctx = with_files([("data/a.json", text)]).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT).with_schema(columns)).await, @"");
}

#[rstest]
#[case(&[r#"{"a":1}{"a":null}"#, r#"{"a":2.5}"#], "a: Float64")]
#[case(&[r#"{"a":true}"#, r#"{"a":1}"#], "a: Utf8")]
#[case(&[r#"{"a":9223372036854775808}"#], "a: Utf8")]
#[case(&[r#"{"a":"2020-01-01"}"#, r#"{"b":1}"#], "a: Utf8, b: Int64")]
#[case(&[r#"{"a":{"x":1}}"#, r#"{"a":{"y":true,"x":0.5}}"#], r#"a: Struct("x": Float64, "y": Boolean)"#)]
#[case(&[r#"{"a":[1]}"#, r#"{"a":[null,"x"]}{"a":null}"#], "a: List(Utf8)")]
#[case(&[r#"{"a":[{"x":1}]}"#, r#"{"a":[{"y":[]}]}"#], r#"a: List(Struct("x": Int64, "y": List(Utf8)))"#)]
#[case(&[r#"{"a":{},"b":null,"c":1}"#], "b: Utf8, c: Int64")]
#[tokio::test]
async fn types_are_found_in_every_file(#[case] files: &[&str], #[case] wanted: &str) {
    let paths: Vec<_> = (0..files.len()).map(|i| format!("data/{i}.json")).collect();
    let files = paths.iter().zip(files).map(|(path, text)| (path.as_str(), (*text).to_owned()));
    let ctx = with_files(files).await;
    assert_eq!(types(&ctx, JsonFiles::new("a", AT)).await, wanted);
    collect(&ctx, JsonFiles::new("a", AT)).await.unwrap();
}

#[tokio::test]
async fn types_that_do_not_go_together_name_both_places() {
    let files = [("data/a.json", "{\"x\":[{\"y\":1}]}"), ("data/b.json", "{\"x\":[{\"y\":{}}]}")];
    let ctx = with_files(files).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT)).await, @"");
    let ctx = with_files([("data/a.json", "{\"x\":{\"y\":1}}\n{\"x\":{\"y\":2}}\n{\"x\":3}")]).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT)).await, @"");
}

/// A row, as JSON has it and as the schema below does.
fn row() -> impl Strategy<Value = Value> {
    let text = prop::option::of("[a-zü\"\\\\\n\u{1f600}{}\\[\\],:]{0,8}");
    let number = prop::option::of(any::<i64>());
    let list = prop::option::of(prop::collection::vec(prop::option::of(any::<i32>()), 0..3));
    (text, number, list, any::<bool>()).prop_map(|(t, n, l, b)| json!({ "t": t, "o": { "n": n, "b": b }, "l": l }))
}

/// Rows in some layout.
fn lay_out(rows: &[Value], layouts: &[u8]) -> String {
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let pretty = serde_json::to_string_pretty(row).unwrap();
        match layouts[i % layouts.len()] % 5 {
            0 => text += &format!("{row}\n"),
            1 => text += &row.to_string(),
            2 => text += &format!("{pretty}\r\n"),
            3 => text += &format!("[{row}]"),
            _ => text += &format!(" [\n{pretty}\n,{{}}\n]\n"),
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rows_come_back_from_any_layout(
        rows in prop::collection::vec(row(), 0..30),
        layouts in prop::collection::vec(any::<u8>(), 1..5),
        compressed in any::<bool>(),
    ) {
        let text = lay_out(&rows, &layouts);
        let name = if compressed { "data/a.json.gz" } else { "data/a.json" };
        let bytes = if compressed { crate::files::gzip(&text) } else { text.into_bytes() };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let back = runtime.block_on(async {
            let ctx = with_files([(name, bytes)]).await;
            let object = vec![Field::new("n", DataType::Int64, true), Field::new("b", DataType::Boolean, true)];
            let columns = schema(&[
                ("t", DataType::Utf8),
                ("o", DataType::Struct(object.into())),
                ("l", DataType::new_list(DataType::Int32, true)),
            ]);
            collect(&ctx, JsonFiles::new("a", AT).with_schema(columns)).await.unwrap()
        });
        let mut writer = arrow::json::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow::json::writer::JsonArray>(Vec::new());
        back.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        let bytes = writer.into_inner();
        let back: Vec<Value> = if bytes.is_empty() { vec![] } else { serde_json::from_slice(&bytes).unwrap() };
        // The empty objects that a layout adds have no object inside.
        let back: Vec<_> = back.into_iter().filter(|row| !row["o"].is_null()).collect();
        prop_assert_eq!(back, rows);
    }
}
