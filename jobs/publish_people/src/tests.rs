use hardtack_test_support::{Frame, TempLake, TestContext, assert_fails, assert_frame, assert_passes, load, rows};
use rstest::rstest;

use super::*;

fn args() -> Args {
    Args { source: "s3://in".into(), target: TargetArgs::from("s3://out").in_database("lake".parse().unwrap()) }
}

#[test]
fn people_are_lines_of_json() {
    let expected = JsonFiles::new("people", "s3://in/people");
    let schema = schema! { id: bigint, name: string, age: int };
    assert_eq!(people(&args()), Dataset::new(expected.with_schema(schema), None));
}

#[test]
fn the_table_is_appended_to() {
    let new = NewIcebergTable::at("s3://out/people").with_schema(schema! { id: bigint, name: string, age: int });
    assert_eq!(published(&args()), IcebergTable::named("lake", "people").create_if_missing(new).append());
}

#[tokio::test]
async fn those_over_25_are_published() {
    let people = rows! {
        id, name,  age: Int32;
        1,  "Ann", 26;
        2,  "Bob", 25;
        3,  "Cy",  null;
    };
    let test = TestContext::new(args()).given("people", people);

    main(test.ctx()).await.unwrap();

    assert_frame(test.saved("lake.people"), rows! { id, name, age: Int32; 1, "Ann", 26 });
    assert_eq!(test.calls(), ["load people", "save lake.people"]);
    assert_eq!(test.sink("lake.people"), format!("{:?}", published(test.args()).audited(rules())));
}

#[rstest]
#[case::nobody(rows! { id: Int64, name: Utf8, age: Int32; }, &["RowCount"])]
#[case::twice(rows! { id, name, age: Int32; 1, "Ann", 26; 1, "Bob", 27 }, &["IsPrimaryKey"])]
#[case::no_id(rows! { id, name, age: Int32; 1, "Ann", 26; null, "Bob", 27 }, &["IsPrimaryKey"])]
#[case::no_name(rows! { id, name, age: Int32; 1, "Ann", 26; 2, null, 27 }, &["IsComplete"])]
fn what_breaks_a_rule(#[case] rows: Frame, #[case] failing: &[&str]) {
    match failing {
        ["RowCount"] => assert_fails!(rules(), rows, ["RowCount"]),
        ["IsPrimaryKey"] => assert_fails!(rules(), rows, ["IsPrimaryKey"]),
        _ => assert_fails!(rules(), rows, ["IsComplete"]),
    }
}

#[test]
fn good_people_pass() {
    assert_passes!(rules(), rows! { id, name, age: Int32; 1, "Ann", 26; 2, "Bob", 99 });
}

#[tokio::test]
async fn the_contract_with_the_deliverer() {
    let lake = TempLake::new();
    lake.write("people/a.jsonl", "{\"id\": 1, \"age\": \"old\"}\n");
    let error = load(people(&Args { source: lake.location().into(), ..args() })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.chain().contains("a.jsonl") && error.chain().contains("age"), "{error:?}");
}
