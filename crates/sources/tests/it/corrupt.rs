//! JSON records that cannot be read, as rows.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::logical_expr::col;
use hardtack_core::{ErrorKind, JobContext, Source};
use hardtack_sources::JsonFiles;
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use crate::{collect, context, put, schema, show, with_files};

const AT: &str = "memory:/data";

fn calls() -> JsonFiles {
    let inner = DataType::Struct(vec![Field::new("x", DataType::Int64, false)].into());
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("in", inner, true),
    ];
    JsonFiles::new("calls", AT).with_schema(Arc::new(Schema::new(fields))).with_corrupt_records("_corrupt")
}

/// The ids of the rows, and of those that could not be read offset, reason and text.
#[derive(Debug, Default, PartialEq)]
struct Found {
    ids: Vec<i64>,
    corrupt: Vec<(i64, String, String)>,
}

impl Found {
    fn of(batches: &[RecordBatch]) -> Self {
        let mut found = Self::default();
        for batch in batches {
            let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>();
            let corrupt = batch.column_by_name("_corrupt").unwrap().as_struct();
            let texts = |part| corrupt.column_by_name(part).unwrap().as_string::<i32>();
            let offsets = corrupt.column_by_name("offset").unwrap().as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                if corrupt.is_null(row) {
                    found.ids.push(ids.value(row));
                    continue;
                }
                assert!(batch.columns()[..3].iter().all(|column| column.is_null(row)), "{batch:?}");
                assert!(texts("file").value(row).starts_with("memory:/data/"));
                let (reason, text) = (texts("reason").value(row), texts("text").value(row));
                found.corrupt.push((offsets.value(row), reason.to_owned(), text.to_owned()));
            }
        }
        found
    }
}

async fn found(text: impl Into<bytes::Bytes>) -> Found {
    let ctx = with_files([("data/a.json", text)]).await;
    Found::of(&collect(&ctx, calls()).await.unwrap())
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_a_row_that_says_so() {
    let text = "{\"id\": 1, \"in\": {\"x\": 2}}\n{\"id\": \"z\"}\n{\"id\": 3, \"name\": \"n\"} {\"id\": 4, \"na";
    let ctx = with_files([("data/a.json", text)]).await;
    assert_snapshot!(show(&ctx, calls().with_origin()).await, @r#"
    +----+------+--------+--------------------------------------------------------------------------------------------------------------------+---------------------+-------+
    | id | name | in     | _corrupt                                                                                                           | _file               | _line |
    +----+------+--------+--------------------------------------------------------------------------------------------------------------------+---------------------+-------+
    | 1  |      | {x: 2} |                                                                                                                    | memory:/data/a.json | 1     |
    |    |      |        | {file: memory:/data/a.json, offset: 26, reason: `z` is not an Int64 (column: id), text: {"id": "z"}}               | memory:/data/a.json | 2     |
    | 3  | n    |        |                                                                                                                    | memory:/data/a.json | 3     |
    |    |      |        | {file: memory:/data/a.json, offset: 61, reason: this is not JSON: EOF while parsing a string, text: {"id": 4, "na} | memory:/data/a.json | 3     |
    +----+------+--------+--------------------------------------------------------------------------------------------------------------------+---------------------+-------+
    "#);
}

/// Each text has the records 1 and 9, and between them what cannot be read.
#[rstest]
#[case::other_type("{\"id\":\"x\"}", &[(9, "`x` is not an Int64 (column: id)", "{\"id\":\"x\"}")])]
#[case::missing_value("{}", &[(9, "a value is missing where the schema requires one (column: id)", "{}")])]
#[case::missing_in_a_struct("{\"id\":2,\"in\":{}}", &[(9, "a value is missing where the schema requires one (column: in.x)", "{\"id\":2,\"in\":{}}")])]
#[case::key_twice("{\"id\":2,\"id\":3}", &[(9, "an object has `id` twice (column: id)", "{\"id\":2,\"id\":3}")])]
#[case::no_value("{\"id\":}", &[(9, "this is not JSON: expected value", "{\"id\":}")])]
#[case::not_an_object("7", &[(9, "a row of JSON must be an object", "7")])]
#[case::two_lines("x\ny", &[(9, "a row of JSON must be an object", "x\ny")])]
#[case::open_quote("{\"id\":2,\"name\":\"x}", &[(9, "a line ends within a string", "{\"id\":2,\"name\":\"x}")])]
#[case::open_bracket("{\"id\":2", &[(9, "this is not JSON: expected `,` or `}`", "{\"id\":2")])]
#[case::other_bracket("{\"id\":2]", &[(9, "this is not JSON: expected `,` or `}`", "{\"id\":2]")])]
#[case::bracket_too_many("{\"id\":2}}", &[(17, "a row of JSON must be an object", "}")])]
#[case::end_only("2}", &[(9, "a row of JSON must be an object", "2}")])]
#[case::pretty("{\n  \"id\": z,\n  \"in\": [\n    {}\n  ]\n}", &[(9, "this is not JSON: expected value", "{\n  \"id\": z,\n  \"in\": [\n    {}\n  ]\n}")])]
// The second line ends the object that the first began.
#[case::wrong_in_pairs("{\"id\":2\n{\"id\":3}\n{\"id\":4}}", &[(9, "this is not JSON: expected `,` or `}`", "{\"id\":2"), (34, "a row of JSON must be an object", "}")])]
#[tokio::test]
async fn what_cannot_be_read_damages_no_other_line(#[case] wrong: &str, #[case] corrupt: &[(i64, &str, &str)]) {
    let text = format!("{{\"id\":1}}\n{wrong}\n{{\"id\":9}}\n");
    let Found { ids, corrupt: told } = found(text).await;
    assert_eq!((ids.first(), ids.last()), (Some(&1), Some(&9)), "{ids:?} {told:?}");
    let told: Vec<_> = told.iter().map(|(at, why, text)| (*at, why.as_str(), text.as_str())).collect();
    assert_eq!(told, corrupt);
}

#[tokio::test]
async fn without_line_ends_the_rest_of_the_file_is_set_aside() {
    let Found { ids, corrupt } = found("{\"id\":1}{\"id\":2}{\"id\":3,}{\"id\":[}{\"id\":5}").await;
    assert_eq!(ids, [1, 2]);
    let told: Vec<_> = corrupt.iter().map(|(at, _, text)| (*at, text.as_str())).collect();
    assert_eq!(told, [(16, "{\"id\":3,}"), (25, "{\"id\":[}{\"id\":5}")]);
}

#[tokio::test]
async fn an_array_goes_on_after_damage() {
    let text = "[{\"id\":1},\n{\"id\":2\"},\n{\"id\":3},\n{\"id\":4}\n]\n";
    let Found { ids, corrupt } = found(text).await;
    assert_eq!((ids, corrupt.len()), (vec![1, 3, 4], 1), "{corrupt:?}");
    let Found { ids, corrupt } = found("[{\"id\":1},\n{\"id\":2").await;
    assert_eq!((ids, corrupt.len()), (vec![1], 1), "{corrupt:?}");
    // A bracket too many is no array.
    let Found { ids, corrupt } = found("[{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n").await;
    let comma = (10, "a comma or the end of the array is missing".to_owned(), String::new());
    assert_eq!((ids, corrupt), (vec![1, 2, 3], vec![comma]));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_set_aside() {
    let Found { ids, corrupt } = found(b"{\"id\":1}\n{\"id\":2,\"name\":\"\xFF\"}\n{\"id\":3}\n".to_vec()).await;
    assert_eq!(ids, [1, 3]);
    let wanted = (9, "this is not UTF-8 text".to_owned(), "{\"id\":2,\"name\":\"\u{fffd}\"}".to_owned());
    assert_eq!(corrupt, [wanted]);
}

/// Whatever a plan needs of the records, the same ones cannot be read.
#[tokio::test]
async fn each_plan_finds_the_same_records() {
    let ctx = with_files([("data/a.json", "{\"id\":1}\n{\"id\":2,\"in\":7}\n{\"id\":\"x\"}\n")]).await;
    let rows = calls().load(&ctx.loading("calls")).await.unwrap();
    let corrupt = rows.clone().filter(col("_corrupt").is_not_null()).unwrap();
    let offsets = corrupt.select(vec![col("_corrupt")]).unwrap();
    assert_eq!(offsets.count().await.unwrap(), 2);
    let good = rows.filter(col("_corrupt").is_null()).unwrap().select(vec![col("name")]).unwrap();
    assert_eq!(good.count().await.unwrap(), 1);
}

#[tokio::test]
async fn the_columns_must_be_declared() {
    let ctx = with_files([("data/a.json", "{}")]).await;
    let undeclared = JsonFiles::new("calls", AT).with_corrupt_records("_corrupt");
    let error = collect(&ctx, undeclared).await.unwrap_err();
    assert_eq!((error.kind(), error.message().contains("with_schema")), (ErrorKind::Usage, true), "{error}");
    let twice = JsonFiles::new("calls", AT).with_schema(schema(&[("a", DataType::Utf8)])).with_corrupt_records("a");
    let error = collect(&ctx, twice).await.unwrap_err();
    assert_eq!((error.kind(), error.get("added by `with_corrupt_records`")), (ErrorKind::Usage, Some("a")), "{error}");
}

/// A long text is set aside in parts that are the text, and what follows it is read.
#[rstest]
#[case::one_line("ü".repeat(3 << 20))]
#[case::lines("x\n".repeat(3 << 20))]
#[case::open_objects("{\n".repeat(1_000))]
#[case::nested_and_closed("{\n".repeat(500) + &"}\n".repeat(500))]
#[tokio::test]
async fn a_long_damage_is_set_aside_in_parts(#[case] damage: String) {
    let text = format!("{{\"id\":1}}\n{damage}\n{{\"id\":2}}\n");
    let Found { ids, corrupt } = found(text.clone()).await;
    assert_eq!(ids, [1, 2]);
    let mut end = 0;
    for (at, _, part) in &corrupt {
        let at = *at as usize;
        assert_eq!(&text[at..at + part.len()], part);
        assert!(end <= at && part.len() < 2 << 20);
        // Nothing but blanks is left out.
        assert!(end == 0 || text[end..at].trim().is_empty());
        end = at + part.len();
    }
    assert!(text[end..].trim() == "{\"id\":2}", "{end}");
}

fn one_thread_and_many() -> [JobContext; 2] {
    [context(1), context(4)]
}

/// A record on its line, and the change of a byte in it, if there is one: where, and to what.
type Line = (String, Option<(prop::sample::Index, Option<char>)>);

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let damage = (
        any::<prop::sample::Index>(),
        prop::option::of(prop::sample::select("{}[]\",:\\x1 \n".chars().collect::<Vec<_>>())),
    );
    prop::collection::vec(("[a-c{}\\[\\]\",\\\\]{0,6}", prop::option::weighted(0.3, damage)), 0..40)
}

/// The ids of the objects of a text, in or outside of arrays.
fn ids_of(mut rest: &str, text: &str) -> Vec<i64> {
    let mut ids = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || "[],".contains(c));
        if rest.is_empty() {
            return ids;
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        let value = values.next().unwrap().unwrap_or_else(|e| panic!("`{rest}` of `{text}`: {e}"));
        ids.push(value["id"].as_i64().unwrap());
        rest = &rest[values.byte_offset()..];
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Lines that are not damaged are read, in order, and every byte of the others is in a row or set aside.
    #[test]
    fn damage_is_set_aside_and_nothing_else(lines in lines(), threads in 0_usize..2, crlf in any::<bool>()) {
        let (mut text, mut good) = (String::new(), Vec::new());
        for (n, (name, damage)) in lines.iter().enumerate() {
            // The change of a byte does not make it another line's.
            let id: i64 = format!("9{n:02}{n:02}{n:02}").parse().unwrap();
            let mut line = serde_json::json!({"id": id, "name": name, "in": {"x": 7}}).to_string();
            match damage {
                None => good.push(id),
                Some((at, with)) => {
                    let at = at.index(line.len());
                    match with {
                        Some(with) => line.insert(at, *with),
                        None => _ = line.remove(at),
                    }
                }
            }
            text += &line;
            text += if crlf { "\r\n" } else { "\n" };
        }
        let ctx = &one_thread_and_many()[threads];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(async {
            put(ctx, "data/a.json", text.clone()).await;
            Found::of(&collect(ctx, calls()).await.unwrap())
        });
        let undamaged: Vec<i64> = found.ids.iter().copied().filter(|id| good.contains(id)).collect();
        prop_assert_eq!(&undamaged, &good, "{}", text);
        // What is set aside is the text at its offset, in order, and no undamaged line.
        let (mut end, mut rest) = (0, String::new());
        for (at, _, part) in &found.corrupt {
            let at = *at as usize;
            prop_assert!(end <= at);
            prop_assert_eq!(&text[at..at + part.len()], part);
            rest += &text[end..at];
            end = at + part.len();
        }
        rest += &text[end..];
        // The rest of the text is the rows.
        prop_assert_eq!(ids_of(&rest, &text), found.ids);
    }

    /// Where nothing is wrong, the rows are those that are read without setting aside.
    #[test]
    fn undamaged_records_are_as_ever(records in prop::collection::vec((any::<i64>(), "[a-z\"\\\\ü]{0,5}"), 0..30), line_end in prop::sample::select(vec!["", "\n", "\n\n "])) {
        let line = |(id, name): &(i64, String)| serde_json::json!({"id": id, "name": name}).to_string() + line_end;
        let text: String = records.iter().map(line).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(found(text));
        prop_assert_eq!(found, Found { ids: records.iter().map(|(id, _)| *id).collect(), corrupt: Vec::new() });
    }
}
