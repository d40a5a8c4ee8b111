use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, LargeStringArray, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use hardtack_test_support::{Expected, Frame, assert_frame, json, null, rows};
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use crate::panic_of;

fn books() -> Frame {
    rows! {
        id, title,      price: Float64, published: Date32;
        1,  "Catch 22", 7.25,           "1961-11-10";
        2,  "Dune",     9.5,            "1965-08-01";
        3,  "Emma",     null,           "1815-12-23";
    }
}

/// The rows of [`books`], each with a change.
fn changed() -> Frame {
    rows! {
        id, title,      price: Float64, published: Date32;
        2,  "Dune",     9.5,            "1965-08-01";
        1,  "Catch-22", 7.5,            "1961-11-10";
        4,  "Emma",     null,           "1815-12-23";
    }
}

#[track_caller]
fn mismatch(actual: impl Into<Frame>, expected: impl Into<Expected>) -> String {
    expected.into().check(&actual.into()).expect_err("they should differ").to_string()
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let shuffled = rows! {
        id, title,      price: Float64, published: Date32;
        3,  "Emma",     null,           "1815-12-23";
        1,  "Catch 22", 7.25,           "1961-11-10";
        2,  "Dune",     9.5,            "1965-08-01";
    };
    assert_frame(books(), &shuffled);
    assert_snapshot!(mismatch(books(), shuffled.ordered()), @r"
    the frame is not as expected
    the rows are in another order, first at row 1: expected (-), found (+)
        id | title    | price | published
      - 3  | Emma     | null  | 1815-12-23
      + 1  | Catch 22 | 7.25  | 1961-11-10
    ");
    assert_frame(books(), books().ordered());
}

#[test]
fn missing_and_unexpected_rows() {
    assert_snapshot!(mismatch(books(), changed()), @r"
    the frame is not as expected
    2 rows missing (-), 2 unexpected (+)
        id | title    | price | published
      - 1  | Catch-22 | 7.5   | 1961-11-10
      - 4  | Emma     | null  | 1815-12-23
      + 1  | Catch 22 | 7.25  | 1961-11-10
      + 3  | Emma     | null  | 1815-12-23
    ");
}

#[test]
fn rows_paired_by_a_key_show_their_changed_cells() {
    assert_snapshot!(mismatch(books(), changed().keyed_by(["id"])), @r"
    the frame is not as expected
    1 row missing (-), 1 unexpected (+)
        id | title | price | published
      - 4  | Emma  | null  | 1815-12-23
      + 3  | Emma  | null  | 1815-12-23
    1 row changed:
      id: 1
        title: expected Catch-22, found Catch 22
        price: expected 7.5, found 7.25
    ");
}

#[test]
fn a_key_of_several_columns_some_null() {
    let a = rows! { shop, id: Int64, price; "x", null, 1; "x", 2, 2; "y", 2, 3 };
    let b = rows! { shop, id: Int64, price; "x", null, 9; "x", 2, 8; "y", 2, 3 };
    assert_snapshot!(mismatch(a, b.keyed_by(["shop", "id"])), @r"
    the frame is not as expected
    2 rows changed:
      shop: x, id: null
        price: expected 9, found 1
      shop: x, id: 2
        price: expected 8, found 2
    ");
}

#[test]
fn a_key_that_is_no_column() {
    assert_snapshot!(mismatch(books(), books().keyed_by(["isbn"])), @r"
    the frame is not as expected
    rows cannot be paired by isbn: not all are comparable columns
    ");
}

#[test]
fn duplicates_count() {
    let once = rows! { id; 1; 2 };
    let twice = rows! { id; 1; 2; 1 };
    assert_snapshot!(mismatch(&once, &twice), @r"
    the frame is not as expected
    expected 3 rows, found 2
    1 row missing (-)
        id
      - 1
    ");
    assert_snapshot!(mismatch(&twice, &once), @r"
    the frame is not as expected
    expected 2 rows, found 3
    1 row unexpected (+)
        id
      + 1
    ");
    assert_snapshot!(mismatch(&once, twice.ignoring_other_rows()), @r"
    the frame is not as expected
    1 row missing (-)
        id
      - 1
    ");
}

#[test]
fn columns_come_first() {
    let expected =
        rows! { id: Utf8, name, price: Float64; "1", "Catch 22", 7.25; "2", "Dune", 10.0; "3", "Emma", null };
    assert_snapshot!(mismatch(books(), expected), @r"
    the frame is not as expected
    columns differ:
      retyped     id: expected Utf8, found Int64
      missing     name: Utf8
      unexpected  title: Utf8
      unexpected  published: Date32
    1 row missing (-), 1 unexpected (+)
        price
      - 10.0
      + 9.5
    ");
}

#[test]
fn columns_have_an_order_unless_others_may_be_there() {
    let swapped = rows! { title, id; "Catch 22", 1; "Dune", 2; "Emma", 3 };
    let straight = rows! { id, title; 1, "Catch 22"; 2, "Dune"; 3, "Emma" };
    assert_snapshot!(mismatch(&straight, &swapped), @r"
    the frame is not as expected
    columns differ:
      reordered   expected title, id, found id, title
    ");
    assert_frame(&straight, swapped.ignoring_other_columns());
    assert_frame(books(), swapped.ignoring_other_columns());
    assert_snapshot!(mismatch(books(), &straight), @r"
    the frame is not as expected
    columns differ:
      unexpected  price: Float64
      unexpected  published: Date32
    ");
}

#[test]
fn other_rows_may_be_ignored() {
    let some = rows! { id; 3; 1 };
    let all = rows! { id; 1; 2; 3 };
    assert_frame(&all, some.ignoring_other_rows());
    assert_frame(&all, rows! { id; 1; 3 }.ignoring_other_rows().ordered());
    assert_snapshot!(mismatch(&all, some.ignoring_other_rows().ordered()), @r"
    the frame is not as expected
    the rows are in another order, first at row 2: this one (-) is too early
        id
      - 1
    ");
    assert_snapshot!(mismatch(&all, rows! { id; 1; 4 }.ignoring_other_rows()), @r"
    the frame is not as expected
    1 row missing (-)
        id
      - 4
    ");
}

#[test]
fn floats_within_a_tolerance() {
    let found = rows! { id, x, nested; 1, 0.1 + 0.2, json!([1e9]); 2, f64::NAN, null };
    let close = rows! { id, x, nested; 2, f64::NAN, null; 1, 0.3, json!([1e9 + 0.1]) };
    assert_frame(&found, close.float_tolerance(1e-9));
    assert_snapshot!(mismatch(&found, &close), @r"
    the frame is not as expected
    1 row missing (-), 1 unexpected (+)
        id | x                   | nested
      - 1  | 0.3                 | [1000000000.1]
      + 1  | 0.30000000000000004 | [1000000000.0]
    ");
    let far = rows! { id, x, nested; 1, 0.31, json!([1e9 + 0.1]); 2, f64::NAN, null };
    assert_snapshot!(mismatch(&found, far.float_tolerance(1e-9).keyed_by(["id"])), @r"
    the frame is not as expected
    1 row changed:
      id: 1
        x: expected 0.31, found 0.30000000000000004
    ");
    // Infinity is only close to itself, and decimals are exact.
    mismatch(rows! { x; f64::INFINITY }, rows! { x; 1.0 }.float_tolerance(1e-3));
    mismatch(rows! { x: Decimal128(5, 2); "1.00" }, rows! { x: Decimal128(5, 2); "1.01" }.float_tolerance(0.1));
}

#[test]
fn how_arrow_stores_text_does_not_matter() {
    let plain = rows! { name; "a"; "b"; null };
    let texts = [Some("b"), Some("a"), None];
    let columns: [ArrayRef; 3] = [
        Arc::new(StringViewArray::from_iter(texts)),
        Arc::new(LargeStringArray::from_iter(texts)),
        Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for column in columns {
        let frame = Frame::from(RecordBatch::try_from_iter([("name", column)]).unwrap());
        assert_frame(&frame, &plain);
        mismatch(&frame, plain.exact_types());
    }
}

#[test]
fn exact_types_show_nullability_too() {
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8View, true)]);
    assert_snapshot!(mismatch(Frame::empty(schema), rows! { id: Int64, name: Utf8; }.exact_types()), @r"
    the frame is not as expected
    columns differ:
      retyped     id: expected nullable, found not null
      retyped     name: expected Utf8, found Utf8View
    ");
}

#[test]
fn types_with_sizes_are_told_apart() {
    let expected = rows! {
        a: Int64, b: Decimal128(10, 2), c: Timestamp(Microsecond, None), d: Timestamp(Second, Some("UTC".into())), e: List(Utf8), f: Struct([("x", Int64)]);
    };
    let actual = rows! {
        a: Int32, b: Decimal128(12, 2), c: Timestamp(Nanosecond, None), d: Timestamp(Second, Some("+00:00".into())), e: List(LargeUtf8), f: Struct([("y", Int64)]);
    };
    assert_snapshot!(mismatch(actual, expected), @r"
    the frame is not as expected
    columns differ:
      retyped     a: expected Int64, found Int32
      retyped     b: expected Decimal128(10, 2), found Decimal128(12, 2)
      retyped     c: expected Timestamp(µs), found Timestamp(ns)
      retyped     f: expected Struct(x: Int64), found Struct(y: Int64)
    ");
}

#[test]
fn a_column_of_nulls_fits_any_type() {
    assert_frame(rows! { id, at: Date32; 1, null }, rows! { id, at; 1, null });
    mismatch(rows! { at: Date32; "2026-11-21" }, rows! { at; null });
}

#[rstest]
#[case::null_is_not_its_text(rows! { x: Utf8; null }, rows! { x; "null" })]
#[case::null_is_not_empty(rows! { x: Utf8; null }, rows! { x; "" })]
#[case::spaces(rows! { x; "a" }, rows! { x; "a " })]
#[case::nested_text(rows! { x; ["a, b"] }, rows! { x; ["a", "b"] })]
#[case::null_struct(rows! { x: Struct([("a", Int64)]); null }, rows! { x: Struct([("a", Int64)]); json!({}) })]
#[case::empty_list(rows! { x: List(Int64); null }, rows! { x: List(Int64); json!([]) })]
#[case::row_count(rows! { x: Int64; }, rows! { x: Int64; null })]
fn tells_apart(#[case] a: Frame, #[case] b: Frame) {
    let text = mismatch(&a, &b);
    let shown: Vec<_> =
        text.lines().filter(|l| l.starts_with("  -") || l.starts_with("  +")).map(|l| l[4..].to_owned()).collect();
    assert!(shown.len() == 1 || shown[0] != shown[1], "the difference is to be seen:\n{text}");
    mismatch(b, a);
}

#[test]
fn maps_have_no_order() {
    let map = |value: serde_json::Value| rows! { m: Map(Utf8, Int64); value };
    assert_frame(map(json!({"a": 1, "b": 2})), map(json!({"b": 2, "a": 1})));
    mismatch(map(json!({"a": 1})), map(json!({"a": 2})));
}

#[test]
fn only_so_much_is_shown() {
    let frame = |from: i64| {
        let lines: String = (from..from + 30).map(|id| format!("{{\"id\": {id}, \"x\": {from}}}\n")).collect();
        Frame::from_json_lines(&lines)
    };
    let text = mismatch(frame(0), frame(100));
    assert_eq!(text.lines().filter(|l| l.starts_with("  -")).count(), 20);
    assert_snapshot!(text.lines().rev().take(2).collect::<Vec<_>>().join("\n"), @r"
    ... and 10 more unexpected
    ... and 10 more missing
    ");
    let text = mismatch(frame(0), frame(1).keyed_by(["id"]));
    assert_snapshot!(text.lines().rev().take(3).collect::<Vec<_>>().join("\n"), @r"
    ... and 9 more
      x: expected 1, found 0
    id: 20
    ");
}

#[test]
fn only_the_schema_or_the_number_of_rows() {
    let schema = books().schema();
    assert_frame(books(), Expected::schema(Arc::clone(&schema)));
    assert_frame(books(), Expected::row_count(3));
    assert_snapshot!(mismatch(books(), Expected::row_count(1)), @r"
    the frame is not as expected
    expected 1 row, found 3
    ");
    assert_snapshot!(mismatch(rows! { id: Int64, isbn; }, Expected::schema(schema)), @r"
    the frame is not as expected
    columns differ:
      missing     title: Utf8
      missing     price: Float64
      missing     published: Date32
      unexpected  isbn: Null
    ");
}

#[test]
fn the_assertion_fails_with_the_difference() {
    assert_snapshot!(panic_of(|| assert_frame(rows! { id; 1 }.df(), rows! { id; 2 })), @r"
    the frame is not as expected
    1 row missing (-), 1 unexpected (+)
        id
      - 2
      + 1
    ");
    let failing =
        rows! { id; 1 }.df().with_column("x", datafusion::prelude::lit(1) / datafusion::prelude::lit(0)).unwrap();
    let text = panic_of(|| assert_frame(failing, rows! { id; 2 }));
    assert!(text.starts_with("the plan failed: "), "{text}");
}

fn any_rows() -> impl Strategy<Value = Vec<(Option<i64>, Option<String>, f64)>> {
    let float = prop_oneof![Just(f64::NAN), Just(-0.0), Just(0.0), Just(1.5)];
    proptest::collection::vec((proptest::option::of(0..3i64), proptest::option::of("[ab|\"]{0,2}"), float), 0..6)
}

fn frame(rows: &[(Option<i64>, Option<String>, f64)]) -> Frame {
    use hardtack_test_support::Cell;
    let columns = vec![("id", Some(DataType::Int64)), ("name", Some(DataType::Utf8)), ("x", Some(DataType::Float64))];
    let cells = |(id, name, x): &(Option<i64>, Option<String>, f64)| {
        vec![Cell::from(*id), Cell::from(name.clone()), Cell::from(*x)]
    };
    hardtack_test_support::frame_of(columns, rows.iter().map(cells).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_frame_equals_itself_in_any_order_and_any_batches(rows in any_rows(), batches in 1..4usize) {
        let mut reversed = rows.clone();
        reversed.reverse();
        let reversed = frame(&reversed).in_batches(batches);
        prop_assert_eq!(Expected::from(frame(&rows)).check(&reversed), Ok(()));
        prop_assert_eq!(frame(&rows).keyed_by(["id"]).float_tolerance(1e-9).check(&reversed), Ok(()));
        prop_assert_eq!(frame(&rows).ordered().check(&frame(&rows)), Ok(()));
    }

    #[test]
    fn one_row_more_is_always_found(rows in any_rows(), more in 0..6usize) {
        prop_assume!(more < rows.len());
        let mut longer = rows.clone();
        longer.push(rows[more].clone());
        let (rows, longer) = (frame(&rows), frame(&longer));
        for (a, b) in [(&rows, &longer), (&longer, &rows)] {
            prop_assert!(Expected::from(a).check(b).is_err());
            prop_assert!(a.keyed_by(["id", "name"]).float_tolerance(1e-9).check(b).is_err());
        }
        prop_assert!(rows.ignoring_other_rows().check(&longer).is_ok());
        prop_assert!(longer.ignoring_other_rows().check(&rows).is_err());
    }
}

#[test]
fn a_null_cell_can_be_a_value() {
    let cells = [null, null];
    assert_frame(rows! { a; cells.clone() }, rows! { a; json!([null, null]) });
}
