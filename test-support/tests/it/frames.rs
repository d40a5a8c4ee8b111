use std::sync::Arc;

use arrow::array::{DictionaryArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use chrono::{DateTime, NaiveDate, Utc};
use hardtack_test_support::{Frame, assert_frame, json, rows};
use insta::assert_snapshot;
use rstest::rstest;

use crate::panic_of;

#[test]
fn a_typed_header_reads_text_as_its_type() {
    let frame = rows! {
        day: Date32,  at: Timestamp(Microsecond, None), utc: Timestamp(Millisecond, Some("+00:00".into())), price: Decimal128(10, 2), bytes: Binary, small: Int8, code: Dictionary(Box::new(Int32), Box::new(Utf8));
        "1961-11-10", "2026-11-21T04:05:06.5",          "2026-11-21T04:05:06Z",                            "9.99",                   "c0ffee",      -7,          "x";
        null,         null,                             null,                                              9.5,                      null,          null,        null;
    };
    assert_snapshot!(frame, @r#"
    day: Date32 | at: Timestamp(µs)       | utc: Timestamp(ms, "+00:00") | price: Decimal128(10, 2) | bytes: Binary | small: Int8 | code: Utf8
    1961-11-10  | 2026-11-21T04:05:06.500 | 2026-11-21T04:05:06Z         | 9.99                     | c0ffee        | -7          | x
    null        | null                    | null                         | 9.50                     | null          | null        | null
    "#);
    assert_eq!(frame.schema().field(6).data_type().to_string(), "Dictionary(Int32, Utf8)");
}

#[test]
fn without_a_type_the_values_tell() {
    let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
    let at: DateTime<Utc> = "2026-11-21T04:05:06Z".parse().unwrap();
    let frame = rows! {
        text, number, float, flag, list,       object,               nothing, day, at, "odd name", type;
        "a",  1,      1,     true, [1, 2],     json!({"x": 1}),      null,    day, at, Some("x"),  null;
        "",   -2,     0.5,   null, Vec::<i64>::new(), json!({"y": [true]}), null, null, null, None::<&str>, "t";
    };
    assert_snapshot!(frame, @r#"
    text: Utf8 | number: Int64 | float: Float64 | flag: Boolean | list: List(Int64) | object: Struct(x: Int64, y: List(Boolean)) | nothing: Null | day: Date32 | at: Timestamp(µs, "+00:00") | odd name: Utf8 | type: Utf8
    a          | 1             | 1.0            | true          | [1, 2]            | {x: 1, y: null}                            | null          | 2026-11-21  | 2026-11-21T04:05:06Z        | x              | null
    ""         | -2            | 0.5            | null          | []                | {x: null, y: [true]}                       | null          | null        | null                        | null           | t
    "#);
}

#[test]
fn lists_structs_and_maps_nest() {
    let frame = rows! {
        id, tags: List(Utf8),     person: Struct([("name", Utf8), ("born", Date32)]),          counts: Map(Utf8, Int64);
        1,  ["a", "b"],           json!({"name": "Ann", "born": "1990-01-02"}),                json!({"x": 1, "y": null});
        2,  json!(["a", null]),   json!({"name": null}),                                       json!({});
        3,  null,                 null,                                                        null;
    };
    assert_snapshot!(frame, @r#"
    id: Int64 | tags: List(Utf8) | person: Struct(name: Utf8, born: Date32) | counts: Map(Utf8, Int64)
    1         | ["a", "b"]       | {name: "Ann", born: 1990-01-02}          | {"x": 1, "y": null}
    2         | ["a", null]      | {name: null, born: null}                 | {}
    3         | null             | null                                     | null
    "#);
}

#[test]
fn floats_that_json_cannot_say() {
    let frame = rows! { x; f64::NAN; f64::INFINITY; f64::NEG_INFINITY; -0.0; 1e300; 0.1 };
    assert_snapshot!(frame, @r"
    x: Float64
    NaN
    inf
    -inf
    0.0
    1e300
    0.1
    ");
}

#[test]
fn expressions_are_cells_and_names_may_be_keywords() {
    let name = String::from("Ann");
    let frame = rows! { match, r#fn, "ü x"; name.clone(), 1 + 1, format!("{name}!") };
    assert_eq!(frame.columns(), ["match", "fn", "ü x"]);
    assert_frame(&frame, rows! { match, r#fn, "ü x"; "Ann", 2, "Ann!" });
}

#[test]
fn a_header_alone_is_a_frame_without_rows() {
    let frame = rows! { id: Int64, name; };
    assert_snapshot!(frame, @r"
    id: Int64 | name: Null
    (no rows)
    ");
    assert_eq!(Frame::from(frame.df()).num_rows(), 0);
}

#[test]
fn what_does_not_fit_is_named() {
    assert_snapshot!(panic_of(|| drop(rows! { id, day: Date32; 1, null; 2, "tomorrow"; 3, "1961-11-10" })), @r#"rows!: row 2, column `day`: "tomorrow" is not of type Date32"#);
    assert_snapshot!(panic_of(|| drop(rows! { id: Int8; 1; 1000 })), @"rows!: row 2, column `id`: 1000 is not of type Int8");
    assert_snapshot!(panic_of(|| drop(rows! { name: Utf8; 7 })), @"rows!: row 1, column `name`: 7 is not of type Utf8");
    assert_snapshot!(panic_of(|| drop(rows! { id, name; 1, "a"; 2 })), @"rows!: row 2 has 1 cells, but there are 2 columns");
    assert_snapshot!(panic_of(|| drop(rows! { mixed; 1; json!({"a": 1}) })), @"rows!: the cells of column `mixed` have no common type; declare one in the header: Json error: Expected object json type, found: Scalar({Int64})");
}

/// The cell, and what its type would turn it into.
#[rstest]
#[case::digit(|| rows! { a: Decimal128(10, 2); "1.234" }, r#"rows!: row 1, column `a`: "1.234" does not fit without loss into the type Decimal128(10, 2)"#)]
#[case::digit_of_a_number(|| rows! { a: Decimal128(10, 2); 1; 9.999 }, "rows!: row 2, column `a`: 9.999 does not fit without loss into the type Decimal128(10, 2)")]
#[case::exponent(|| rows! { a: Decimal128(10, 2); "1.239e0" }, r#"rows!: row 1, column `a`: "1.239e0" does not fit without loss into the type Decimal128(10, 2)"#)]
#[case::fraction(|| rows! { a: Int64; 1.5 }, "rows!: row 1, column `a`: 1.5 does not fit without loss into the type Int64")]
#[case::counted_too_far(|| rows! { a: Float64; 9007199254740993_i64 }, "rows!: row 1, column `a`: 9007199254740993 does not fit without loss into the type Float64")]
#[case::counted_too_far_undeclared(|| rows! { a; 9007199254740993_i64; 0.5 }, "rows!: row 1, column `a`: 9007199254740993 does not fit without loss into the type Float64")]
#[case::nanoseconds(|| rows! { a: Timestamp(Microsecond, None); "2026-11-21T04:05:06.1234567" }, r#"rows!: row 1, column `a`: "2026-11-21T04:05:06.1234567" does not fit without loss into the type Timestamp(µs)"#)]
#[case::seconds_only(|| rows! { a: Timestamp(Second, None); "2026-11-21T04:05:06.5" }, r#"rows!: row 1, column `a`: "2026-11-21T04:05:06.5" does not fit without loss into the type Timestamp(s)"#)]
#[case::number_for_a_date(|| rows! { a: Date32; 19611110 }, "rows!: row 1, column `a`: 19611110 does not fit without loss into the type Date32")]
#[case::number_for_a_time(|| rows! { a: Timestamp(Millisecond, None); 7 }, "rows!: row 1, column `a`: 7 does not fit without loss into the type Timestamp(ms)")]
#[case::deep(|| rows! { a: List(Decimal128(3, 1)); ["1.5", "1.55"] }, r#"rows!: row 1, column `a`: ["1.5","1.55"] does not fit without loss into the type List(Decimal128(3, 1))"#)]
#[case::field_of_a_map(|| rows! { a: Map(Utf8, Int8); json!({"x": 1.5}) }, r#"rows!: row 1, column `a`: {"x":1.5} does not fit without loss into the type Map("entries": non-null Struct("keys": non-null Utf8, "values": Int8), unsorted)"#)]
#[case::unknown_field(|| rows! { a: Struct([("city", Utf8)]); json!({"citty": "Ghent"}) }, r#"rows!: row 1, column `a`: {"citty":"Ghent"} does not fit without loss into the type Struct("city": Utf8)"#)]
fn what_would_be_lost_is_refused(#[case] make: fn() -> Frame, #[case] message: &str) {
    assert_eq!(panic_of(move || drop(make())), message);
}

#[test]
fn what_only_looks_different_is_kept() {
    let frame = rows! {
        d: Decimal128(10, 2), i: Int64, f: Float32, t: Timestamp(Millisecond, None);
        "1.500",              1.0,      0.1,        "2026-11-21T04:05:06.120000";
        "-0",                 -0.0,     16777216,   "2026-11-21T04:05:06Z";
        "12e-1",              "7",      f64::NAN,   "2026-11-21 04:05:06+02:00";
    };
    assert_snapshot!(frame, @"
    d: Decimal128(10, 2) | i: Int64 | f: Float32 | t: Timestamp(ms)
    1.50                 | 1        | 0.1        | 2026-11-21T04:05:06.120
    0.00                 | 0        | 16777216.0 | 2026-11-21T04:05:06
    1.20                 | 7        | NaN        | 2026-11-21T02:05:06
    ");
}

#[test]
fn json_lines_that_would_lose_something_are_refused() {
    let schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Decimal128(10, 2), true)]));
    let lines = "{\"price\": 1.5}\n{\"price\": \"9.999\"}";
    assert_snapshot!(panic_of(|| drop(Frame::from_json_lines_as(&schema, lines))), @r#"these JSON lines do not fit the schema without loss: {"price":"9.999"}"#);
}

#[test]
fn json_lines_with_and_without_a_schema() {
    let text = "{\"title\": \"Dune\", \"day\": \"1965-08-01\"}\n{\"title\": null, \"pages\": 612}";
    assert_snapshot!(Frame::from_json_lines(text), @r"
    title: Utf8 | day: Utf8  | pages: Int64
    Dune        | 1965-08-01 | null
    null        | null       | 612
    ");
    let schema = Arc::new(Schema::new(vec![
        Field::new("day", DataType::Date32, true),
        Field::new("title", DataType::Utf8, true),
        Field::new("pages", DataType::Int64, true),
    ]));
    assert_snapshot!(Frame::from_json_lines_as(&schema, text), @r"
    day: Date32 | title: Utf8 | pages: Int64
    1965-08-01  | Dune        | null
    null        | null        | 612
    ");
    assert_snapshot!(panic_of(|| drop(Frame::from_json_lines_as(&schema, r#"{"titel": "Dune"}"#))), @"these JSON lines do not fit the schema: Json error: column 'titel' missing from schema");
    assert_snapshot!(panic_of(|| drop(Frame::from_json_lines("{"))), @"these are not JSON lines: Json error: Not valid JSON: EOF while parsing an object at line 1 column 1");
}

#[test]
fn batches_become_partitions() {
    use datafusion::physical_plan::ExecutionPlanProperties;
    let frame = rows! { id; 1; 2; 3; 4; 5 };
    let plan = |frame: &Frame| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(frame.df().create_physical_plan()).unwrap()
    };
    assert_eq!(plan(&frame.in_batches(3)).output_partitioning().partition_count(), 3);
    assert_frame(frame.in_batches(3), &frame);
    assert_frame(frame.in_batches(9), &frame);
}

#[test]
fn a_batch_of_any_kind_is_a_frame() {
    let codes: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([
        ("code", Arc::new(codes) as _),
        ("x", Arc::new(Float64Array::from(vec![1.0, f64::NAN, -0.0])) as _),
    ]);
    assert_frame(batch.unwrap(), rows! { code, x; "a", 1; "b", f64::NAN; "a", 0.0 });
}

#[test]
fn a_frame_takes_the_schema_it_is_announced_with() {
    let batch = rows! { id; 1 }.to_batch();
    let strict = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    assert!(!Frame::try_new(strict, vec![batch.clone()]).unwrap().schema().field(0).is_nullable());
    let other = Arc::new(Schema::new(vec![Field::new("id", DataType::Time32(TimeUnit::Second), false)]));
    assert!(Frame::try_new(other, vec![batch]).is_err());
}
