use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::logical_expr::{col, lit};
use hardtack_core::Source;
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

/// As Python's `json.dumps` writes them: U+20BB7 is in Japanese names, U+1F600 is a face.
#[tokio::test]
async fn characters_of_all_planes_come_back() {
    let name = r#"{"name":"\ud842\udfb7\u91ce"}"#;
    let ctx = with_files([("data/a.json", name), ("data/b.json", r#"{"Name":"\ud83d\ude00"}"#)]).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("names", AT)).await, @"
    +------+
    | name |
    +------+
    | 𠮷野 |
    | 😀   |
    +------+
    ");
    let declared = JsonFiles::new("names", AT).with_schema(schema(&[("name", DataType::Utf8)]));
    let rows = collect(&ctx, declared).await.unwrap();
    assert_eq!(rows[0].column(0).as_string::<i32>().value(0), "\u{20bb7}\u{91ce}");
}

#[tokio::test]
async fn rows_have_the_declared_columns() {
    let text = r#"{"title":"A","publish_date":"2020-01-31","author":{"id":1,"x":2},"tags":["a",null],"isbn":7}
        {"title":12.50,"author":null}{"tags":[],"TITLE":"no"} {}"#;
    let ctx = with_files([("data/a.json", text)]).await;
    assert_snapshot!(show(&ctx, books()).await, @"
    +-------+--------------+---------+-------+
    | title | publish_date | author  | tags  |
    +-------+--------------+---------+-------+
    | A     | 2020-01-31   | {id: 1} | [a, ] |
    | 12.50 |              |         |       |
    |       |              |         | []    |
    |       |              |         |       |
    +-------+--------------+---------+-------+
    ");
}

/// Names that differ only in case are one column, unless an object has both; at any depth.
#[rstest]
#[case::one_spelling(r#"{"a":1} {"b":2}"#, "a: Int64, b: Int64")]
#[case::two_spellings(r#"{"a":1} {"A":2}"#, "a: Int64")]
#[case::both(r#"{"a":1,"A":2} {"a":3}"#, "a: Int64, A: Int64")]
#[case::both_later(r#"{"a":3} {"a":1,"A":2} {"A":4}"#, "a: Int64, A: Int64")]
#[case::inside(r#"{"o":{"a":1}} {"o":{"A":2}}"#, "o: Struct(\"a\": Int64)")]
#[case::both_inside(
    r#"{"o":{"a":1,"A":2},"b":1} {"B":3}"#,
    "o: Struct(\"a\": Int64, \"A\": Int64), b: Int64, B: Int64"
)]
#[case::in_a_list(r#"{"l":[[{"a":1},{"A":2}]]}"#, "l: List(List(Struct(\"a\": Int64)))")]
#[case::both_in_a_list(r#"{"l":[[{"a":1,"A":2}]]}"#, "l: List(List(Struct(\"a\": Int64, \"A\": Int64)))")]
#[tokio::test]
async fn spellings_of_a_name_are_one_column_unless_an_object_has_both(#[case] text: &str, #[case] wanted: &str) {
    let ctx = with_files([("data/a.json", text.to_owned())]).await;
    assert_eq!(types(&ctx, JsonFiles::new("a", AT)).await, wanted);
}

/// This letter is longer in lower case.
#[tokio::test]
async fn names_that_are_spelled_in_one_way_stay_as_they_are() {
    let ctx = with_files([("data/a.json", "{\"\u{23a}\":1}")]).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT)).await, @"
    +---+
    | Ⱥ |
    +---+
    | 1 |
    +---+
    ");
}

#[tokio::test]
async fn what_is_a_list_in_one_row_and_an_object_in_another_is_refused() {
    let mut told = Vec::new();
    for text in ["{\"a\":[1]}\n{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}\n{\"a\":[1]}", "{\"a\":1,\"a\":2}"] {
        let ctx = with_files([("data/a.json", text)]).await;
        told.push(show(&ctx, JsonFiles::new("a", AT)).await);
        told.push(show(&ctx, JsonFiles::new("a", AT).with_schema(schema(&[("b", DataType::Int64)]))).await);
    }
    assert_snapshot!(told.join("\n"), @r#"
    refused: `a` is an object here and a list in an earlier row (file: memory:/data/a.json, line: 2, hint: read `a` as JSON text: `with_json_text(["a"])`, `crawl --type a=string`; declare a schema without it; or leave files out: `crawl --exclude`)
    +---+
    | b |
    +---+
    |   |
    |   |
    +---+
    refused: `a` is a list here and an object in an earlier row (file: memory:/data/a.json, line: 2, hint: read `a` as JSON text: `with_json_text(["a"])`, `crawl --type a=string`; declare a schema without it; or leave files out: `crawl --exclude`)
    +---+
    | b |
    +---+
    |   |
    |   |
    +---+
    refused: an object has `a` twice (file: memory:/data/a.json, line: 1, column: a, hint: repair the file; `jq -c .` keeps the last of the two values)
    refused: an object has `a` twice (file: memory:/data/a.json, line: 1, column: a, hint: repair the file; `jq -c .` keeps the last of the two values)
    "#);
}

/// A value that is a list in one row and a text in another is read verbatim, with or without a schema.
#[tokio::test]
async fn lists_and_objects_can_be_read_as_their_json() {
    let text = [
        r#"{"id": 1, "v": {"a": [1, "\"x\\ud842\\udfb7"],  "A" : 1e5}, "w": {"v": "x"}}"#,
        "{\"v\": [\n  1.0 ], \"id\": 2}",
        r#"{"id": 3, "v": "text"} {"id": 4, "v": 1.50} {"id": 5, "v": null} {"id": 6}"#,
        r#"{"\u0076": {}, "id": 7, "w": {"v": "y"}}"#,
    ];
    let ctx = with_files([("data/a.json", text.join("\n"))]).await;
    let source = JsonFiles::new("a", AT).with_json_text(["v"]);
    assert_snapshot!(show(&ctx, source.clone()).await, @r#"
    +----+---------------------------------------------+--------+
    | id | v                                           | w      |
    +----+---------------------------------------------+--------+
    | 1  | {"a": [1, "\"x\\ud842\\udfb7"],  "A" : 1e5} | {v: x} |
    | 2  | [                                           |        |
    |    |   1.0 ]                                     |        |
    | 3  | text                                        |        |
    | 4  | 1.50                                        |        |
    | 5  |                                             |        |
    | 6  |                                             |        |
    | 7  | {}                                          | {v: y} |
    +----+---------------------------------------------+--------+
    "#);
    let declared = schema(&[("v", DataType::Utf8), ("id", DataType::Int32)]);
    let with_schema = source.clone().with_schema(declared).with_origin();
    assert_snapshot!(show(&ctx, with_schema).await, @r#"
    +---------------------------------------------+----+---------------------+-------+
    | v                                           | id | _file               | _line |
    +---------------------------------------------+----+---------------------+-------+
    | {"a": [1, "\"x\\ud842\\udfb7"],  "A" : 1e5} | 1  | memory:/data/a.json | 1     |
    | [                                           | 2  | memory:/data/a.json | 2     |
    |   1.0 ]                                     |    |                     |       |
    | text                                        | 3  | memory:/data/a.json | 4     |
    | 1.50                                        | 4  | memory:/data/a.json | 4     |
    |                                             | 5  | memory:/data/a.json | 4     |
    |                                             | 6  | memory:/data/a.json | 4     |
    | {}                                          | 7  | memory:/data/a.json | 5     |
    +---------------------------------------------+----+---------------------+-------+
    "#);
    // Only these columns, and only at the top level.
    let not_inside = JsonFiles::new("a", AT)
        .with_json_text(["w"])
        .with_schema(schema(&[("w", DataType::Utf8), ("v", DataType::Utf8)]));
    assert_snapshot!(show(&ctx, not_inside).await, @r#"refused: `{"a": [1, "\"x\\ud842\\udfb7"],  "A" : 1e5}` is not a Utf8 (file: memory:/data/a.json, line: 1, column: v, value: {"a": [1, "\"x\\ud842\\udfb7"],  "A" : 1e5}, hint: read `v` as JSON text: `with_json_text(["v"])`, `crawl --type v=string`; declare a schema without it; or leave files out: `crawl --exclude`)"#);
    // Other faults in such a row are still found.
    let wrong = source.with_schema(schema(&[("v", DataType::Utf8), ("id", DataType::Boolean)]));
    assert_snapshot!(show(&ctx, wrong).await, @"refused: `1` is not a Boolean (file: memory:/data/a.json, line: 1, column: id, value: 1)");
}

/// If case counts, it counts here, too.
#[tokio::test]
async fn columns_of_json_text_are_those_that_were_asked_for() {
    let ctx = with_files([("data/a.json", r#"{"v": {"x": 1}, "V": {"y": 2}}"#)]).await;
    let declared = schema(&[("v", DataType::Utf8), ("V", DataType::Utf8)]);
    let told = show(&ctx, JsonFiles::new("a", AT).with_json_text(["v"]).with_schema(declared)).await;
    assert!(told.contains("column: V, value: {\"y\": 2}, hint: read `V` as JSON text"), "{told}");
}

/// Spellings of a name are one column, whichever was requested.
#[tokio::test]
async fn columns_of_json_text_know_the_case_that_their_files_know() {
    let ctx = with_files([("data/a.json", r#"{"Data": {"X": 1}} {"data": [2]}"#)]).await;
    let one = show(&ctx, JsonFiles::new("a", AT).with_json_text(["Data"])).await;
    assert_snapshot!(one, @r#"
    +----------+
    | Data     |
    +----------+
    | {"X": 1} |
    | [2]      |
    +----------+
    "#);
    assert_eq!(show(&ctx, JsonFiles::new("a", AT).with_json_text(["data"])).await, one);
}

#[rstest]
#[case::misspelt("dta", None, "usage: `with_json_text`: the files have no column `dta`; did you mean `data`?")]
#[case::misspelt_declared(
    "dta",
    Some(DataType::Utf8),
    "usage: `with_json_text`: the declared schema has no column `dta`; did you mean `data`?"
)]
#[case::no_text(
    "data",
    Some(DataType::Int64),
    "usage: `with_json_text`: `data` is declared Int64; declare it a string (column: data)"
)]
#[tokio::test]
async fn columns_of_json_text_are_columns_and_texts(
    #[case] name: &str,
    #[case] declared: Option<DataType>,
    #[case] expected: &str,
) {
    let ctx = with_files([("data/a.json", r#"{"data": {"X": 1}}"#)]).await;
    let source = JsonFiles::new("a", AT).with_json_text([name]);
    let source = match declared {
        Some(of) => source.with_schema(schema(&[("data", of)])),
        None => source,
    };
    assert_eq!(show(&ctx, source).await, expected);
}

#[tokio::test]
async fn a_map_without_values_is_no_column_of_json() {
    let entries = DataType::Struct(vec![Field::new("key", DataType::Utf8, false)].into());
    let map = DataType::Map(Arc::new(Field::new("entries", entries, false)), false);
    let ctx = with_files([("data/a.json", "{}")]).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT).with_schema(schema(&[("m", map)]))).await, @r#"usage: JSON cannot be read into this schema: a map must have a key and a value, not Struct("key": non-null Utf8)"#);
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
    let shown = show(&ctx, JsonFiles::new("a", AT)).await;
    assert_eq!(shown.lines().filter(|line| line.starts_with("| ")).collect::<Vec<_>>(), ["| a |", "| 1 |", "| 2 |"]);
}

/// The origin of each row, including files of several blocks, compressed files, and rows of several lines.
#[tokio::test]
async fn rows_know_their_file_and_line() {
    let pretty = "\n{\n  \"a\": 1\n}\n\n{\"a\": 2} {\"a\": 3}\r\n{\"a\":\n4}";
    let ctx = with_files([("data/pretty.json", pretty), ("data/x/one.jsonl", "{\"a\":5,\"b\":1}\n{}")]).await;
    let declared = JsonFiles::new("a", AT).with_schema(schema(&[("a", DataType::Int64)]));
    let expected = "
    +---+--------------------------+-------+
    | a | _file                    | _line |
    +---+--------------------------+-------+
    | 1 | memory:/data/pretty.json | 2     |
    | 2 | memory:/data/pretty.json | 6     |
    | 3 | memory:/data/pretty.json | 6     |
    | 4 | memory:/data/pretty.json | 7     |
    | 5 | memory:/data/x/one.jsonl | 1     |
    |   | memory:/data/x/one.jsonl | 2     |
    +---+--------------------------+-------+";
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(show(&ctx, declared.clone().with_origin()).await, expected.join("\n"));
    assert_eq!(types(&ctx, declared.with_origin()).await, "a: Int64, _file: Utf8, _line: Int64");
    assert_eq!(
        types(&ctx, JsonFiles::new("b", AT).with_origin()).await,
        "a: Int64, b: Int64, _file: Utf8, _line: Int64"
    );

    // Columns are chosen, and files by their name.
    let rows = JsonFiles::new("c", AT).with_origin().load(&ctx.loading("c")).await.unwrap();
    let rows = rows.filter(col("_file").eq(lit("memory:/data/x/one.jsonl"))).unwrap();
    let rows = rows.select_columns(&["_line", "b"]).unwrap();
    assert_snapshot!(rows.clone().to_string().await.unwrap(), @"
    +-------+---+
    | _line | b |
    +-------+---+
    | 1     | 1 |
    | 2     |   |
    +-------+---+
    ");
    let plan = datafusion::physical_plan::displayable(rows.create_physical_plan().await.unwrap().as_ref())
        .indent(true)
        .to_string();
    assert!(!plan.contains("pretty.json"), "{plan}");
}

#[tokio::test]
async fn lines_are_counted_over_blocks() {
    let text: String = (1..=30_000).map(|i| format!("{{\"a\": {i}}}\n")).collect();
    let ctx = with_files([("data/a.json", text)]).await;
    let source = JsonFiles::new("a", AT).with_schema(schema(&[("a", DataType::Int64)])).with_origin();
    let rows = source.load(&ctx.loading("a")).await.unwrap().filter(col("a").not_eq(col("_line"))).unwrap();
    assert_eq!(rows.count().await.unwrap(), 0);
}

#[rstest]
#[case::declared(
    Some("_line"),
    "usage: the declared schema has two columns of one name (added by `with_origin`: _file, _line, source: a)"
)]
#[case::inferred(
    None,
    "refused: the files have a column with the name of one that `with_origin` adds (column: _line, location: memory:/data)"
)]
#[tokio::test]
async fn a_column_of_the_name_of_an_origin_is_told(#[case] declared: Option<&str>, #[case] message: &str) {
    let ctx = with_files([("data/a.json", r#"{"_line": 7}"#)]).await;
    let source = JsonFiles::new("a", AT).with_origin();
    let source = match declared {
        Some(name) => source.with_schema(schema(&[(name, DataType::Int64)])),
        None => source,
    };
    assert_eq!(show(&ctx, source).await, message.replace(", source: a", ""));
}

#[tokio::test]
async fn rows_that_stand_in_keep_the_contract() {
    let ctx = with_files([("x", "")]).await;
    let source = JsonFiles::new("a", AT).with_schema(schema(&[("a", DataType::Int8), ("b", DataType::Utf8)]));
    let given = async |query: &str| {
        let rows = source.conform(&ctx.loading("a"), ctx.session().sql(query).await.unwrap()).await?;
        Ok::<_, hardtack_core::Error>(rows.to_string().await?)
    };
    assert_snapshot!(given("select 7 as a").await.unwrap(), @"
    +---+---+
    | a | b |
    +---+---+
    | 7 |   |
    +---+---+
    ");
    let refused = given("select 700 as a").await.unwrap_err();
    assert_snapshot!(refused, @"a value does not fit the declared type without loss (column: a, value: 700, type: bigint, declared: tinyint)");
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let rows = [
        r#"{"publish_date":"31.1.2020"}"#,
        r#"{"author":"me"}"#,
        r#"{"author":{"id":"abc"}}"#,
        r#"{"author":{"id":1.5}}"#,
        r#"{"tags":"a"}"#,
        r#"{"tags":["a",{"b":1}]}"#,
        r#"{"title": tru}"#,
        r#"{"title": "x"#,
        r#"{"title": 1"#,
        "17",
        "{\"title\": \"\u{1}\"}",
    ];
    let mut errors = Vec::new();
    for row in rows {
        let mut text = format!("{{\"title\":\"A\"}}\n\n{row}\n{{\"title\":\"B\"}}\n").into_bytes();
        // A byte that is invalid in UTF-8.
        text.iter_mut().filter(|b| **b == 1).for_each(|b| *b = 0xFF);
        let ctx = with_files([("data/a.json", text)]).await;
        errors.push(show(&ctx, books()).await);
    }
    assert_snapshot!(errors.join("\n"), @r#"
    refused: `31.1.2020` is not a Date32 (file: memory:/data/a.json, line: 3, column: publish_date, value: "31.1.2020")
    refused: `me` is not an object (file: memory:/data/a.json, line: 3, column: author, value: "me")
    refused: `abc` is not an Int64 (file: memory:/data/a.json, line: 3, column: author.id, value: "abc")
    refused: `1.5` is not an Int64 (file: memory:/data/a.json, line: 3, column: author.id, value: 1.5)
    refused: `a` is not a list (file: memory:/data/a.json, line: 3, column: tags, value: "a")
    refused: `{"b":1}` is not a Utf8 (file: memory:/data/a.json, line: 3, column: tags[1], value: {"b":1}, hint: read `tags` as JSON text: `with_json_text(["tags"])`, `crawl --type tags=string`; declare a schema without it; or leave files out: `crawl --exclude`)
    refused: this is not JSON: expected ident (file: memory:/data/a.json, line: 3, value: {"title": tru})
    refused: a line ends within a string (file: memory:/data/a.json, line: 3, value: {"title": "x)
    refused: this is not JSON: expected `,` or `}` (file: memory:/data/a.json, line: 4, value: {"title":"B"})
    refused: a row of JSON must be an object (file: memory:/data/a.json, line: 3, value: 17)
    refused: this is not UTF-8 text (file: memory:/data/a.json, line: 3)
    "#);
}

#[tokio::test]
async fn the_line_is_that_of_the_value_and_values_are_cut() {
    let long = "x".repeat(500);
    let text =
        format!("[\n  {{\"title\": \"A\"}},\n  {{\n    \"title\": \"B\",\n    \"publish_date\": \"{long}\"\n  }}\n]");
    let ctx = with_files([("data/a.json", text)]).await;
    assert_snapshot!(show(&ctx, books()).await, @r#"refused: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...` is not a Date32 (file: memory:/data/a.json, line: 5, column: publish_date, value: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...)"#);
}

#[tokio::test]
async fn required_columns_need_values() {
    let inner = DataType::Struct(vec![Field::new("b", DataType::Int64, false)].into());
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("a", inner, true)];
    let source = JsonFiles::new("a", AT).with_schema(Schema::new(fields));
    let missing = with_files([("data/a.json", "{\"id\":1,\"a\":null}\n\n{\"a\":{\"b\":1}}")]).await;
    assert_snapshot!(show(&missing, source.clone()).await, @"refused: a value is missing where the schema requires one (file: memory:/data/a.json, line: 3, column: id)");
    let null = with_files([("data/a.json", "{\"id\":1,\"a\":{\"b\":2}}\n{\"id\":2,\"a\":{\"b\":null}}")]).await;
    assert_snapshot!(show(&null, source).await, @"refused: a value is missing where the schema requires one (file: memory:/data/a.json, line: 2, column: a.b)");
}

#[tokio::test]
async fn texts_become_declared_types() {
    let text = r#"{"d":"19.99","m":{"k":1},"t":"2024-01-31T10:00:00+02:00","n":"2024-01-31 10:00","f":"0.5","b":true,"i":"7"}"#;
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
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT).with_schema(columns)).await, @"
    +--------+--------+----------------------+---------------------+-----+------+---+
    | d      | m      | t                    | n                   | f   | b    | i |
    +--------+--------+----------------------+---------------------+-----+------+---+
    | 19.990 | {k: 1} | 2024-01-31T08:00:00Z | 2024-01-31T10:00:00 | 0.5 | true | 7 |
    +--------+--------+----------------------+---------------------+-----+------+---+
    ");
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
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT)).await, @r#"refused: `x[].y` is a number in memory:/data/a.json and an object in memory:/data/b.json (column: x[].y, file: memory:/data/b.json, hint: read `x` as JSON text: `with_json_text(["x"])`, `crawl --type x=string`; declare a schema without it; or leave files out: `crawl --exclude`)"#);
    let ctx = with_files([("data/a.json", "{\"x\":{\"y\":1}}\n{\"x\":{\"y\":2}}\n{\"x\":3}")]).await;
    assert_snapshot!(show(&ctx, JsonFiles::new("a", AT)).await, @r#"refused: `x` is a number here and an object in an earlier row (file: memory:/data/a.json, line: 3, hint: read `x` as JSON text: `with_json_text(["x"])`, `crawl --type x=string`; declare a schema without it; or leave files out: `crawl --exclude`)"#);
    // Which works.
    let others = JsonFiles::new("a", AT).with_schema(schema(&[("z", DataType::Utf8)]));
    assert_eq!(collect(&ctx, others).await.unwrap()[0].num_rows(), 3);
}

/// A row in JSON, with the schema below.
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
        // The empty objects that a layout adds have no nested object.
        let back: Vec<_> = back.into_iter().filter(|row| !row["o"].is_null()).collect();
        prop_assert_eq!(back, rows);
    }
}

/// JSON has values of this type, so nothing else is one; bytes are written in hexadecimal.
#[rstest]
#[case::boolean(DataType::Boolean, "true", "true")]
#[case::text(DataType::Boolean, "\"true\"", "refused")]
#[case::word(DataType::Boolean, "\"yes\"", "refused")]
#[case::number(DataType::Boolean, "1", "refused")]
#[case::bytes(DataType::Binary, "\"68690a\"", "68690a")]
#[case::large_bytes(DataType::LargeBinary, "\"68690a\"", "68690a")]
#[case::viewed_bytes(DataType::BinaryView, "\"68690a\"", "68690a")]
#[case::fixed_bytes(DataType::FixedSizeBinary(3), "\"68690a\"", "68690a")]
#[case::no_digits(DataType::Binary, "\"hi\"", "refused")]
#[tokio::test]
async fn booleans_and_bytes_are_as_json_has_them(#[case] of: DataType, #[case] value: &str, #[case] expected: &str) {
    let ctx = with_files([("data/a.json", format!("{{\"v\": {value}}}"))]).await;
    let shown = match collect(&ctx, JsonFiles::new("a", AT).with_schema(schema(&[("v", of)]))).await {
        Ok(rows) => arrow::util::display::array_value_to_string(rows[0].column(0), 0).unwrap(),
        Err(e) => e.kind().name().to_owned(),
    };
    assert_eq!(shown, expected);
}
