use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt16Array,
};
use arrow::datatypes::Int8Type;
use insta::assert_snapshot;
use parquet::arrow::ArrowWriter;
use rstest::rstest;
use tempfile::TempDir;

use super::*;

/// A file and its rows.
type Rows = (&'static str, Vec<(i64, Option<&'static str>)>);

/// A result with these files of two columns.
fn result(files: &[Rows]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, rows) in files {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id)));
        let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|(_, name)| *name)));
        write(&folder.path().join(name), vec![("id", ids), ("name", names)]);
    }
    folder
}

fn write(file: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(file).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn differences(ours: &TempDir, theirs: &TempDir) -> String {
    let [ours, theirs] = [ours, theirs].map(|folder| Digest::of(folder.path(), &[], 2).unwrap());
    ours.differences(&theirs, ["ours", "theirs"]).unwrap().join("\n")
}

const FIRST: &str = "year=2023/month=1/day=1/a.parquet";
const SECOND: &str = "year=2023/month=1/day=2/a.parquet";

fn third() -> Rows {
    (SECOND, vec![(3, Some("c"))])
}

/// Four rows of two days, two of them equal.
fn expected() -> TempDir {
    result(&[(FIRST, vec![(1, Some("a")), (2, None), (2, None)]), (SECOND, vec![(3, Some("c"))])])
}

#[test]
fn files_may_be_sorted() {
    let first = (FIRST, vec![(1, Some("b")), (1, Some("c")), (2, Some("a"))]);
    let folder = result(&[first, (SECOND, vec![(2, Some("a")), (1, Some("b"))])]);
    let digest = Digest::of(folder.path(), &[], 2).unwrap();
    assert_eq!(digest.unsorted(&["id"]).unwrap().len(), 1);
    assert_eq!(digest.unsorted(&["name"]).unwrap().len(), 1);
    assert_eq!(digest.unsorted(&["id", "name"]).unwrap().len(), 1);
    assert_eq!(digest.unsorted(&["name", "id"]).unwrap().len(), 1);
    let shown = digest.unsorted(&["id", "name"]).unwrap().join("\n");
    assert!(shown.contains(SECOND) && shown.ends_with(": not sorted by id, name"), "{shown}");
}

#[test]
fn order_and_names_of_files_do_not_matter() {
    let other = "year=2023/month=01/day=01/part-00000.snappy.parquet";
    let theirs = result(&[(other, vec![(2, None), (1, Some("a")), (2, None)]), (SECOND, vec![(3, Some("c"))])]);
    std::fs::write(theirs.path().join("_SUCCESS"), "").unwrap();
    std::fs::write(theirs.path().join(".a.crc"), "").unwrap();
    assert_eq!(differences(&expected(), &theirs), "");

    let digest = Digest::of(theirs.path(), &[], 2).unwrap();
    assert_eq!((digest.rows(), digest.files(), digest.flaws()), (4, 2, vec![]));
}

#[rstest]
#[case::a_changed_value(vec![(FIRST, vec![(1, Some("b")), (2, None), (2, None)]), third()])]
#[case::empty_is_not_null(vec![(FIRST, vec![(1, Some("a")), (2, Some("")), (2, None)]), third()])]
#[case::a_row_too_few(vec![(FIRST, vec![(1, Some("a")), (2, None)]), third()])]
#[case::a_row_too_many(vec![(FIRST, vec![(1, Some("a")), (2, None), (2, None), (2, None)]), third()])]
#[case::another_row_is_there_twice(vec![(FIRST, vec![(1, Some("a")), (1, Some("a")), (2, None)]), third()])]
#[case::another_pair(vec![(FIRST, vec![(1, Some("a")), (4, None), (4, None)]), third()])]
#[case::days_swapped(vec![(SECOND, vec![(1, Some("a")), (2, None), (2, None)]), (FIRST, vec![(3, Some("c"))])])]
#[case::a_partition_too_few(vec![(FIRST, vec![(1, Some("a")), (2, None), (2, None)])])]
#[case::nothing_at_all(vec![])]
fn a_difference_is_found_from_both_sides(#[case] theirs: Vec<Rows>) {
    let theirs = result(&theirs);
    assert_ne!(differences(&expected(), &theirs), "");
    assert_ne!(differences(&theirs, &expected()), "");
}

#[test]
fn a_difference_is_shown_with_rows() {
    let theirs = result(&[(FIRST, vec![(1, Some("b")), (2, None)])]);
    assert_snapshot!(differences(&expected(), &theirs), @"
    year=2023/month=1/day=1: 3 rows and 2 rows
          only ours: id=1 name=a
          only ours: id=2 name=null
          only theirs: id=1 name=b
    year=2023/month=1/day=2: 1 rows and 0 rows
          only ours: id=3 name=c
    ");
}

#[test]
fn no_more_is_shown_than_a_person_reads() {
    let days = ["day=1/a", "day=2/a", "day=3/a", "day=4/a", "day=5/a"];
    let rows = |count| days.map(|day| (day, (0..count).map(|id| (id, None)).collect()));
    assert_snapshot!(differences(&result(&rows(9)), &result(&rows(1))), @"
    day=1: 9 rows and 1 rows
          only ours: id=1 name=null
          only ours: id=2 name=null
          only ours: id=3 name=null
    day=2: 9 rows and 1 rows
          only ours: id=1 name=null
          only ours: id=2 name=null
          only ours: id=3 name=null
    day=3: 9 rows and 1 rows
          only ours: id=1 name=null
          only ours: id=2 name=null
          only ours: id=3 name=null
    and 2 more
    ");
}

#[rstest]
#[case::width(Int64Array::from(vec![7, 8]), Int32Array::from(vec![7, 8]), true)]
#[case::sign(Int64Array::from(vec![7, 8]), UInt16Array::from(vec![7, 8]), true)]
#[case::view(StringArray::from(vec!["a", "b"]), StringViewArray::from(vec!["a", "b"]), true)]
#[case::dictionary(StringArray::from(vec!["a", "b"]), DictionaryArray::<Int8Type>::from_iter(["a", "b"]), true)]
#[case::unit(TimestampMicrosecondArray::from(vec![7000, 8000]), TimestampMillisecondArray::from(vec![7, 8]), true)]
#[case::utc(
    TimestampMicrosecondArray::from(vec![7, 8]),
    TimestampMicrosecondArray::from(vec![7, 8]).with_timezone("UTC"),
    true
)]
#[case::a_microsecond(
    TimestampMicrosecondArray::from(vec![7, 8]),
    TimestampMicrosecondArray::from(vec![7, 9]),
    false
)]
#[case::a_number_for_a_time(TimestampMicrosecondArray::from(vec![7, 8]), Int64Array::from(vec![7, 8]), false)]
#[case::a_number_for_a_date(Date32Array::from(vec![7, 8]), Int32Array::from(vec![7, 8]), false)]
#[case::a_text_for_a_number(Int64Array::from(vec![7, 8]), StringArray::from(vec!["7", "8"]), false)]
#[case::a_fraction_for_a_number(Int64Array::from(vec![7, 8]), Float64Array::from(vec![7.0, 8.0]), false)]
#[case::the_last_digit(Float64Array::from(vec![0.3, 1.0]), Float64Array::from(vec![0.1 + 0.2, 1.0]), false)]
fn types_are_compared_by_meaning(
    #[case] ours: impl arrow::array::Array + 'static,
    #[case] theirs: impl arrow::array::Array + 'static,
    #[case] same: bool,
) {
    let [ours, theirs] = [Arc::new(ours) as ArrayRef, Arc::new(theirs)].map(|column| {
        let folder = TempDir::new().unwrap();
        write(&folder.path().join("a.parquet"), vec![("x", column)]);
        folder
    });
    let found = differences(&ours, &theirs);
    assert_eq!(found.is_empty(), same, "{found}");
}

/// Files are read batch by batch.
#[test]
fn a_long_file_is_compared_to_its_ends() {
    let rows = |first, last| {
        let mut ids: Vec<_> = (0..5_000).map(|id| (id, None)).collect();
        (ids[0].0, ids[4_999].0) = (first, last);
        result(&[("a.parquet", ids)])
    };
    assert_eq!(differences(&rows(0, 4_999), &rows(4_999, 0)), "");
    for other in [rows(-1, 4_999), rows(0, -1)] {
        assert!(differences(&rows(0, 4_999), &other).contains("only theirs: id=-1"));
    }
}

#[test]
fn columns_are_compared_by_name() {
    let [ours, theirs] = [["a", "b"], ["b", "a"]].map(|[first, second]| {
        let folder = TempDir::new().unwrap();
        let column = |n: i64| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
        let value = |name: &str| if name == "a" { column(1) } else { column(2) };
        write(&folder.path().join("a.parquet"), vec![(first, value(first)), (second, value(second))]);
        folder
    });
    assert_eq!(differences(&ours, &theirs), "");

    let more = TempDir::new().unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    write(&more.path().join("a.parquet"), vec![("a", column.clone()), ("b", column.clone()), ("c", column)]);
    assert_eq!(differences(&ours, &more), "column c: nothing and Int64");
}

#[test]
fn a_second_file_of_a_partition_is_a_flaw() {
    let folder =
        result(&[(FIRST, vec![(1, None)]), (SECOND, vec![(2, None)]), ("year=2023/month=1/day=2/b.parquet", vec![])]);
    let digest = Digest::of(folder.path(), &[], 2).unwrap();
    assert_eq!(digest.flaws(), ["year=2023/month=1/day=2: 2 files instead of one"]);
    // The rows are the same nevertheless.
    let other = result(&[(FIRST, vec![(1, None)]), (SECOND, vec![(2, None)])]);
    assert_eq!(differences(&folder, &other), "");
}

#[test]
fn a_file_that_cannot_be_compared_is_an_error() {
    let folder = expected();
    let file = folder.path().join("year=2023/month=1/day=3/a.parquet");
    write(&file, vec![("id", Arc::new(StringArray::from(vec!["1"])))]);
    let error = Digest::of(folder.path(), &[], 1).unwrap_err();
    assert!(error.to_string().contains("column id: Int64 and Utf8; column name: Utf8 and nothing"), "{error}");

    std::fs::write(&file, "no Parquet").unwrap();
    let error = Digest::of(folder.path(), &[], 2).unwrap_err();
    assert!(error.chain().contains("day=3/a.parquet"), "{error:?}");
}

#[test]
fn only_the_named_columns_are_compared() {
    let [ours, theirs] = ["a", "b"].map(|name| result(&[("a.parquet", vec![(1, Some(name))])]));
    let [ours, theirs] = [&ours, &theirs].map(|folder| Digest::of(folder.path(), &["id"], 1).unwrap());
    assert_eq!(ours.differences(&theirs, ["ours", "theirs"]).unwrap(), Vec::<String>::new());
}

#[test]
fn the_whole_is_compared_without_folders() {
    let ours = result(&[("x/a.parquet", vec![(1, Some("a"))]), ("y/a.parquet", vec![(2, Some("b"))])]);
    let theirs = result(&[("z/a.parquet", vec![(2, Some("b")), (1, Some("a"))])]);
    let other = result(&[("z/a.parquet", vec![(2, Some("b")), (1, Some("c"))])]);
    let [ours, theirs, other] = [&ours, &theirs, &other].map(|f| Digest::of(f.path(), &[], 1).unwrap().whole());
    assert_eq!(ours.differences(&theirs, ["ours", "theirs"]).unwrap(), Vec::<String>::new());
    insta::assert_snapshot!(ours.differences(&other, ["ours", "theirs"]).unwrap().join("\n"), @r"
    the whole: 2 rows and 2 rows
          only ours: id=1 name=a
          only theirs: id=1 name=c
    ");
}
