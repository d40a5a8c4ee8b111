use hardtack_test_support::{TempLake, assert_frame, rows};
use insta::assert_snapshot;

use crate::panic_of;

#[test]
fn files_of_all_kinds() {
    let lake = TempLake::new();
    let frame = rows! { id, name, day: Date32; 1, "a,b", "2026-11-21"; 2, null, null };
    lake.write_json_lines("x.jsonl", &frame);
    lake.write_csv("sub/x.csv", &frame);
    lake.write_parquet("sub/x.parquet", &frame);
    lake.write(".hidden/x", "secret");
    lake.write("sub/.x.staged", b"\xff");
    assert_snapshot!(lake.read("x.jsonl"), @r#"
    {"id":1,"name":"a,b","day":"2026-11-21"}
    {"id":2}
    "#);
    assert_snapshot!(lake.read("sub/x.csv"), @r#"
    id,name,day
    1,"a,b",2026-11-21
    2,,
    "#);
    assert_eq!(lake.files(""), ["sub/x.csv", "sub/x.parquet", "x.jsonl"]);
    assert_eq!(lake.files("sub"), ["sub/x.csv", "sub/x.parquet"]);
    assert_eq!(lake.hidden_files(""), [".hidden/x", "sub/.x.staged"]);
    assert_frame(lake.read_parquet("sub"), frame.exact_types());
    assert_frame(lake.read_parquet("sub/x.parquet"), &frame);
    lake.remove("sub");
    assert_eq!(lake.files(""), ["x.jsonl"]);
    let path = lake.path().to_owned();
    drop(lake);
    assert!(!path.exists());
}

#[test]
fn fixtures_are_copied() {
    let (lake, other) = (TempLake::new(), TempLake::new());
    other.write("a/b/c.txt", "x");
    lake.copy("fixtures", other.path().join("a"));
    lake.copy("one.txt", other.path().join("a/b/c.txt"));
    assert_eq!(lake.files(""), ["fixtures/b/c.txt", "one.txt"]);
    assert!(panic_of(|| lake.copy("x", other.path().join("nowhere"))).contains("nowhere cannot be read"));
}

#[test]
fn partitions_are_columns() {
    let lake = TempLake::new();
    lake.write_parquet("t/a=x%2Fy/b=1/f.parquet", rows! { id; 1 });
    lake.write_parquet("t/a=__HIVE_DEFAULT_PARTITION__/b=2/f.parquet", rows! { id; 2 });
    assert_frame(lake.read_parquet("t"), rows! { id, a, b; 1, "x/y", "1"; 2, null, "2" });
}

#[test]
fn what_is_not_there_is_said() {
    let lake = TempLake::new();
    lake.write("t/notes.txt", "x");
    assert_snapshot!(panic_of(|| drop(lake.read_parquet("t"))), @r#"there is no Parquet file in `t`; the files are: ["t/notes.txt"]"#);
    assert!(lake.files("nowhere").is_empty());
}
