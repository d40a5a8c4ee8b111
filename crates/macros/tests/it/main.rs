//! The compiler's errors for a wrong `schema!`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test accesses files and may panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

use rstest::rstest;

/// Compiles these columns; the error is rustc's message with its position.
fn compile(columns: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let rustc = |args: &[&str]| {
        let done =
            Command::new("rustc").args(["--edition", "2024"]).args(args).current_dir(dir.path()).output().unwrap();
        if done.status.success() { Ok(()) } else { Err(String::from_utf8(done.stderr).unwrap()) }
    };
    // The crate has no dependencies, so rustc can build it alone.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    rustc(&[
        "--crate-name",
        "hardtack_macros",
        "--crate-type",
        "proc-macro",
        "--extern",
        "proc_macro",
        source.to_str().unwrap(),
    ])
    .unwrap();
    // The same call as in the catalog's `schema!`.
    let program = format!(
        "macro_rules! schema {{ ($($columns:tt)*) => {{{{ hardtack_macros::check_schema!($($columns)*); }}}} }}\n\
         fn main() {{ schema! {{\n{columns}\n}} }}\n"
    );
    fs::write(dir.path().join("main.rs"), program).unwrap();
    rustc(&["-L", ".", "--extern", "hardtack_macros", "--emit", "metadata", "main.rs"])
}

#[test]
fn a_schema_that_is_right_compiles() {
    let columns = r#"
        id: bigint not null, price: decimal(10, 2), n: numeric, type: varchar(20), at: timestamp with local time zone,
        attributes: map<string, array<struct<a: int, b: array<double precision>>>> NOT NULL, "first name": string,
        first-name: long, none: struct<>,
    "#;
    compile(columns).unwrap();
}

/// The message and the position: the line of the schema, and the underlined part.
#[rstest]
#[case::typo("id: bigin", "expected a type, found `bigin`; did you mean `bigint`?", "bigin")]
#[case::of_arrow("id: Int64 not null", "expected a type, found `Int64`; that is `bigint` here", "Int64")]
#[case::of_sql("id: bigint,\nname: text", "expected a type, found `text`; that is `string` here", "text")]
#[case::deep(
    "tags: array<struct<id: map<string, strin>>>",
    "expected a type, found `strin`; did you mean `string`?",
    "strin"
)]
#[case::no_number("price: decimal(39, 2)", "expected a precision of 1 to 38, found `39`", "39")]
#[case::no_comma("id: bigint\nname: string", "expected `,`, found `name`", "name")]
#[case::twice("id: int, ID: int", "expected a new name, `ID` is already used", "ID")]
#[case::no_type("id: , name: string", "expected a type, found `,`", ",")]
#[case::at_the_end("id: array<int", "expected `>`, found the end", "int")]
fn a_schema_that_is_wrong_is_an_error_at_the_place(
    #[case] columns: &str,
    #[case] message: &str,
    #[case] underlined: &str,
) {
    let said = compile(columns).unwrap_err();
    assert!(said.starts_with(&format!("error: {message}\n")), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let marked = lines.iter().position(|line| line.contains('^')).unwrap();
    let mark = lines[marked];
    let (start, end) = (mark.find('^').unwrap(), mark.rfind('^').unwrap() + 1);
    assert_eq!(&lines[marked - 1][start..end], underlined, "{said}");
}
