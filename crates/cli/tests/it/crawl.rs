//! `crawl` on a lake of files.

use std::path::Path;
use std::process::Command;

fn put(folder: &Path, file: &str, text: &str) {
    let path = folder.join("lake").join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The exit code and the output, without the name of the temporary folder.
fn hardtack(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardtack"));
    let done = command.args(args).current_dir(folder).env_clear().env("HARDTACK_STATE", "state").output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
    let root = std::fs::canonicalize(folder).unwrap();
    let text = text.replace(&*root.to_string_lossy(), "").replace(&*folder.to_string_lossy(), "");
    format!("{} {text}", done.status.code().unwrap())
}

#[test]
fn files_become_tables() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path();
    for day in 1..=9 {
        put(lake, &format!("Orders/day=2026-07-0{day}/a.jsonl"), r#"{"id": 1, "price": 9.5}"#);
    }
    put(lake, "customers/a.csv", "id,name\n1,Jane\n");
    let crawl = ["crawl", "lake", "--database", "shop"];
    insta::assert_snapshot!(hardtack(lake, &[&crawl[..], &["--dry-run"]].concat()), @"
    0 created   shop.orders  json  /lake/Orders
        columns: id bigint, price double
        partitioned by: day date
        9 partitions added: day=2026-07-01, day=2026-07-02, day=2026-07-03, day=2026-07-04, day=2026-07-05, ...
    created   shop.customers  csv  /lake/customers
        columns: id bigint, name string
    2 tables: 2 would be created, 0 would be updated, 0 unchanged; 0 problems
    ");
    insta::assert_snapshot!(hardtack(lake, &["tables"]), @"0 no tables; `hardtack crawl LOCATION --database DB` finds some");
    insta::assert_snapshot!(hardtack(lake, &crawl), @"
    0 created   shop.orders  json  /lake/Orders
        columns: id bigint, price double
        partitioned by: day date
        9 partitions added: day=2026-07-01, day=2026-07-02, day=2026-07-03, day=2026-07-04, day=2026-07-05, ...
    created   shop.customers  csv  /lake/customers
        columns: id bigint, name string
    2 tables: 2 created, 0 updated, 0 unchanged; 0 problems
    ");
    insta::assert_snapshot!(hardtack(lake, &crawl), @"
    0 unchanged shop.orders  json  /lake/Orders
    unchanged shop.customers  csv  /lake/customers
    2 tables: 0 created, 0 updated, 2 unchanged; 0 problems
    ");
    insta::assert_snapshot!(hardtack(lake, &["sql", "-c", "select sum(price) as price from shop.orders where day > '2026-07-05'"]), @"
    0  price
    -------
      38.0
    (1 row)
    ");
    insta::assert_snapshot!(hardtack(lake, &["describe", "shop.customers"]), @"
    0 shop.customers

    format    csv
    location  /lake/customers

     column |  type  | comment
    --------+--------+---------
     id     | bigint |
     name   | string |

           parameter        | value
    ------------------------+-------
     EXTERNAL               | TRUE
     areColumnsQuoted       | false
     classification         | csv
     columnsOrdered         | true
     compressionType        | none
     delimiter              | ,
     objectCount            | 1
     sizeKey                | 15
     skip.header.line.count | 1
     totalSize              | 15
     typeOfData             | file
    ");

    // Later there are more files, some are missing, and one is unreadable.
    put(lake, "Orders/day=2026-07-10/a.jsonl", r#"{"id": 2, "price": 1, "note": "x"}"#);
    std::fs::remove_dir_all(lake.join("lake/Orders/day=2026-07-01")).unwrap();
    put(lake, "stock/a.csv", "id\n1\n");
    put(lake, "stock/notes.txt", "see wiki");
    insta::assert_snapshot!(hardtack(lake, &crawl), @"
    3 updated   shop.orders  json  /lake/Orders
        new columns: note string
        other statistics
        1 partition added: day=2026-07-10
        8 partitions updated: day=2026-07-02, day=2026-07-03, day=2026-07-04, day=2026-07-05, day=2026-07-06, ...
        1 partition without files: day=2026-07-01
    unchanged shop.customers  csv  /lake/customers
    problem at /lake/stock
        the files have several formats: 1 file of CSV (/lake/stock/a.csv), 1 file of no known format (/lake/stock/notes.txt); move those of another format, hide them by a leading `_`, or leave them out with --exclude
    2 tables: 0 created, 1 updated, 1 unchanged; 1 problem
    ");
    std::fs::remove_file(lake.join("lake/stock/notes.txt")).unwrap();
    let all = ["--delete-missing", "--table-prefix", "raw_", "--csv-header", "present", "--sample", "64MB"];
    insta::assert_snapshot!(hardtack(lake, &[&crawl[..], &all].concat()), @"
    0 updated   shop.orders  json  /lake/Orders
        1 partition dropped: day=2026-07-01
    unchanged shop.customers  csv  /lake/customers
    created   shop.raw_stock  csv  /lake/stock
        columns: id bigint
    3 tables: 1 created, 1 updated, 1 unchanged; 0 problems
    ");
}

#[test]
fn dialects_are_options() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.csv", "Report of May\n% by hand\nid\tsay\n1\tx\n2\ty\n");
    let crawl = ["crawl", "lake", "--database", "shop"];
    let said = hardtack(folder.path(), &crawl);
    assert!(said.contains("crawl --csv-skip-lines 2"), "{said}");
    put(folder.path(), "a.csv", "Report of May\n% by hand\nid\tsay\n1\t'^'hi^''\n2\t'\t'\n");
    let dialect = [
        "--csv-delimiter",
        "tab",
        "--csv-quote",
        "'",
        "--csv-escape",
        "^",
        "--csv-skip-lines",
        "1",
        "--csv-comment",
        "%",
        "--csv-header",
        "present",
    ];
    let said = hardtack(folder.path(), &[&crawl[..], &dialect].concat());
    assert!(said.starts_with("0 created") && said.contains("columns: id bigint, say string"), "{said}");
    let rows = hardtack(folder.path(), &["sql", "-c", "select say from shop.lake where id = 1"]);
    assert!(rows.contains("'hi'"), "{rows}");
    for wrong in
        [["--csv-delimiter", ";;"], ["--csv-quote", "ü"], ["--csv-skip-lines", "-1"], ["--csv-header", "maybe"]]
    {
        assert!(hardtack(folder.path(), &[&crawl[..], &wrong].concat()).starts_with("2 "), "{wrong:?}");
    }
}

#[test]
fn usage() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.csv", "id\n1\n");
    insta::assert_snapshot!(hardtack(folder.path(), &["crawl", "lake/a.csv", "--database", "shop"]), @"2 hardtack: this is a file, and tables are folders; crawl the folder that it is in (location: lake/a.csv)");
    insta::assert_snapshot!(hardtack(folder.path(), &["crawl", "nowhere", "--database", "shop"]), @"
    3 problem at nowhere
        no file here is Parquet, JSON, CSV or Avro
    0 tables: 0 created, 0 updated, 0 unchanged; 1 problem
    ");
    assert!(hardtack(folder.path(), &["crawl", "lake"]).starts_with("2 "));
}

/// Remedies that other messages name.
#[test]
fn a_table_is_forgotten_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("lake/t")).unwrap();
    std::fs::write(folder.path().join("lake/t/a.csv"), "id,price\n1,2\n").unwrap();
    let crawl = ["crawl", "lake", "--database", "shop"];
    assert!(hardtack(folder.path(), &[&crawl[..], &["--type", "price=decimal(5,1)"]].concat()).starts_with("0 "));
    let rows = ["sql", "-c", "select * from shop.t", "--format", "csv"];
    insta::assert_snapshot!(hardtack(folder.path(), &rows), @"
    0 id,price
    1,2.0
    ");
    let dropped = hardtack(folder.path(), &["drop", "shop.t", "--dry-run"]);
    assert!(dropped.starts_with("0 would drop shop.t; its files stay in "), "{dropped}");
    assert!(hardtack(folder.path(), &["drop", "shop.t"]).starts_with("0 dropped shop.t; "));
    insta::assert_snapshot!(hardtack(folder.path(), &["drop", "shop.t"]), @"1 hardtack: there is no table `shop.t` in the catalog; create it, or check the name");
    assert!(hardtack(folder.path(), &crawl).starts_with("0 "));
    insta::assert_snapshot!(hardtack(folder.path(), &rows), @"
    0 id,price
    1,2
    ");
    for wrong in ["price", "price=decimal(1", "=int"] {
        assert!(hardtack(folder.path(), &[&crawl[..], &["--type", wrong]].concat()).starts_with("2 "), "{wrong}");
    }
}
