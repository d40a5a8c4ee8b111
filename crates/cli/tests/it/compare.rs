//! `hardtack compare`.

use std::fs;

use insta::assert_snapshot;
use rstest::rstest;

/// A folder with these versions of people, a JSON file each.
fn people(versions: &[(&str, &[&str])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, lines) in versions {
        fs::write(folder.path().join(format!("{name}.jsonl")), lines.join("\n")).unwrap();
    }
    folder
}

const BEFORE: &[&str] = &[
    r#"{"id": 1, "name": "Ann", "tags": ["a"], "loaded": 1}"#,
    r#"{"id": 2, "name": "Ben", "tags": [], "loaded": 1}"#,
    r#"{"id": 3, "name": null, "tags": null, "loaded": 1}"#,
];

#[test]
fn the_same_rows_are_the_same() {
    let backwards: Vec<&str> = BEFORE.iter().copied().rev().collect();
    let folder = people(&[("blue", BEFORE), ("green", &backwards)]);
    let (code, text) = crate::hardtack(folder.path(), &["compare", "blue.jsonl", "green.jsonl", "--key", "id"]);
    assert_eq!(code, Some(0));
    assert_snapshot!(text, @"
    blue.jsonl: 3 rows
    green.jsonl: 3 rows
    the rows are the same
    ");
}

const AFTER: &[&str] = &[
    r#"{"id": 1, "name": "Anne", "tags": ["a", "b"], "loaded": 2}"#,
    r#"{"id": 3, "name": null, "tags": null, "loaded": 2}"#,
    r#"{"id": 4, "name": "Dora", "tags": [], "loaded": 2}"#,
];

#[rstest]
#[case::all(&[])]
#[case::some_columns_may_differ(&["--ignore", "loaded,tags"])]
#[case::few_examples(&["--examples", "1"])]
#[case::as_json(&["--json", "--ignore", "loaded"])]
fn what_differs_is_counted_and_shown(#[case] more: &[&str]) {
    let folder = people(&[("blue", BEFORE), ("green", AFTER)]);
    let args: Vec<&str> =
        ["compare", "blue.jsonl", "green.jsonl", "--key", "id"].into_iter().chain(more.iter().copied()).collect();
    let (code, text) = crate::hardtack(folder.path(), &args);
    assert_eq!(code, Some(3), "{text}");
    assert_snapshot!(format!("differs{}", more.join(" ").replace([' ', ',', '-'], "_")), text);
}

#[test]
fn columns_of_one_side_and_types_are_told() {
    let folder = people(&[("blue", BEFORE), ("green", &[r#"{"id": "1", "name": "Ann", "age": 7}"#])]);
    let (code, text) = crate::hardtack(folder.path(), &["compare", "blue.jsonl", "green.jsonl", "--key", "name"]);
    assert_eq!(code, Some(3), "{text}");
    assert_snapshot!(text);
}

#[rstest]
#[case::key_twice(&["--key", "tags"], 3, "several rows have the same key (key: tags = []")]
#[case::unknown_key(&["--key", "idd"], 2, "the data has no such column (column: idd, data: blue.jsonl")]
#[case::no_key(&[], 2, "--key <COLUMN>")]
fn a_key_tells_rows_apart(#[case] more: &[&str], #[case] code: i32, #[case] said: &str) {
    let again: Vec<&str> = BEFORE.iter().copied().chain([r#"{"id": 9, "tags": []}"#]).collect();
    let folder = people(&[("blue", &again), ("green", AFTER)]);
    let args: Vec<&str> = ["compare", "blue.jsonl", "green.jsonl"].into_iter().chain(more.iter().copied()).collect();
    let (found, text) = crate::hardtack(folder.path(), &args);
    assert!(found == Some(code) && text.contains(said), "{found:?} {text}");
}

#[test]
fn data_without_rows_is_compared() {
    let folder = people(&[("blue", BEFORE)]);
    let (code, text) = crate::hardtack(folder.path(), &["compare", "blue.jsonl", "nothing.jsonl", "--key", "id"]);
    assert!(code == Some(1) && text.contains("nothing.jsonl"), "{code:?} {text}");
}
