//! What is refused, and how it is said. The page of errors is in `snapshots`: read it as a user would.

use std::fmt::Write;

use hardtack_dqdl::{RuleSet, parse};
use rstest::rstest;

/// Rules.
const RULES: &[&str] = &[
    // Names
    "IsComplet \"id\"",
    "iscomplete \"id\"",
    "JobStatus = \"SUCCEEDED\"",
    "11ColumnValues \"a\" > 1",
    "\"IsComplete\" \"id\"",
    // Keywords
    "RowCount BETWEEN 1 and 2",
    "ColumnValues \"a\" IN [1]",
    "ColumnValues \"a\" Not in [1]",
    "IsComplete \"a\" And IsComplete \"b\"",
    "RowCount between 1 And 2",
    "ColumnValues \"a\" = Null",
    "RowCount > 1 WHERE \"a\"",
    // What is open
    "IsComplete \"id",
    "((RowCount > 0) and IsComplete",
    "ColumnValues \"a\" in [1, 2",
    "RowCount > (1 + 2",
    // Parameters
    "IsComplete",
    "IsComplete \"a\" \"b\"",
    "RowCount \"a\" > 1",
    "ColumnCorrelation \"a\" > 0.5",
    "DatasetMatch \"r\" > 0.9",
    "ReferentialIntegrity \"a\" \"reference\" > 0.9",
    "ReferentialIntegrity \"a\" \"reference.{b,c}\" > 0.9",
    "AggregateMatch \"sum(a)\" \"max(r.a)\" > 0.9",
    "DatasetMatch \"r\" \"a->\" > 0.9",
    "FileMatch a b c",
    "IsComplete 12",
    "IsComplete of",
    "DetectAnomalies \"id\"",
    "DetectAnomalies \"Completeness\"",
    "DetectAnomalies \"SchemaMatch\" \"r\"",
    // Conditions
    "Completeness \"a\"",
    "IsComplete \"a\" > 0.9",
    "RowCount 100",
    "RowCount >",
    "RowCount = \"100\"",
    "RowCount = NULL",
    "RowCount matches \"1\"",
    "RowCount not 5",
    "RowCount between 1",
    "ColumnValues \"a\" in []",
    "ColumnValues \"a\" in [1, ]",
    "ColumnValues \"a\" in [1, \"b\"]",
    "ColumnValues \"a\" in [now(), \"b\"]",
    "ColumnValues \"a\" > \"b\"",
    "ColumnValues \"a\" > NULL",
    "ColumnValues \"a\" matches",
    "ColumnValues \"a\" matches \"(\"",
    "ColumnValues \"a\" matches \"(?<!x)y\"",
    "ColumnDataType \"a\" > \"Date\"",
    "FileMatch \"a\" \"b\" in [\"c\"]",
    // Numbers and functions
    "RowCount > 1 +",
    "RowCount > - a",
    "RowCount > 1.2.3",
    "RowCount > last(5)",
    "RowCount > avg(5)",
    "RowCount > avg(std(last(5)))",
    "RowCount > mode(last(5))",
    "RowCount > last(0)",
    "RowCount > last(99999999999)",
    "RowCount > index(last(3), 3)",
    "RowCount > percentile(last(3), 95)",
    // Dates, durations and sizes
    "ColumnValues \"a\" > \"2023-02-29\"",
    "ColumnValues \"a\" > \"25:30\"",
    "FileFreshness > \"13:50 PM\"",
    "FileFreshness > 9:30",
    "FileFreshness > now() - 3 days",
    "FileFreshness > (now() 3 days)",
    "FileFreshness > (now() - 3 weeks)",
    "FileFreshness > NULL",
    "DataFreshness \"a\" <= 3",
    "DataFreshness \"a\" <= 3days",
    "DataFreshness \"a\" between 2 and 4 days",
    "FileSize > 1 ZB",
    "FileSize > 1.5 GB",
    "FileSize > 99999999999 GB",
    // Options
    "Completeness \"a\" > 0.4 with threshold > 0.4",
    "ColumnValues \"a\" > 1 with threshold > 0.4 with threshold > 0.5",
    "ColumnValues \"a\" > 1 with threshold",
    "ColumnValues \"a\" > 1 with threshold = \"0.5\"",
    "FileSize > 1 KB with tag in [\"a\"]",
    "FileSize > 1 KB with tag != \"a\"",
    "FileSize > 1 KB with \"tag\" = \"a\"",
    "FileSize > 1 KB with a = 1 with a = 2",
    "ColumnExists \"a\" where \"b\"",
    "RowCount > 1 where \"\"",
    "RowCount > 1 where \"a\" where \"b\"",
    "(RowCount > 1) where \"a\"",
    "RowCount > 1 labels = []",
    "RowCount > 1 labels = [\"a\" = \"\"]",
    "RowCount > 1 labels = [\"a\" = \"b\", \"a\" = \"c\"]",
    "(RowCount > 1 labels = [\"a\" = \"b\"]) labels = [\"a\" = \"b\"]",
    // Characters
    "IsComplete 'a'",
    "IsComplete “a”",
    "IsComplete näme",
    "IsComplete\u{a0}\"a\"",
    "IsComplete order-id",
];

/// Documents.
const DOCUMENTS: &[&str] = &[
    // Variables
    "Rules = [ CustomSql $sql ]",
    "query = \"a\" Rules = [ CustomSql $qeury ]",
    "n = 100 Rules = [ RowCount > 100 ]",
    "a b = \"c\" Rules = [ RowCount > 1 ]",
    "_a = \"b\"",
    "a = \"b\" a = \"c\"",
    "a = $b",
    "a = [\"b\"] Rules = [ CustomSql $a ]",
    "a = NULL Rules = [ IsComplete $a ]",
    "a = \"1\" Rules = [ RowCount > $a ]",
    "a = \"1\" Rules = [ ColumnValues \"b\" matches $a ]",
    "a = \"1\" Rules = [ ColumnNamesMatchPattern $a ]",
    // Documents
    "Rules = [ (IsComplete \"id\" and (IsUnique \"id\") ]",
    "Rules = [ IsComplete \"id\"",
    "Rules = [ IsComplete \"id\", IsUnique \"id ]",
    "Rules11 = [ RowCount > 0 ]",
    "rules = [ RowCount > 0 ]",
    "",
    "Rules = []",
    "Rules = [] Analyzers = []",
    "Metadata = {}",
    "Metadata = { \"Name\": \"a\" }",
    "Metadata = { \"Version\": [\"1\"] }",
    "DataSources = { \"Primary\": \"a\", \"Primary\": \"b\" }",
    "Rules = [ RowCount > 1 ] Rules = [ RowCount > 1 ]",
    "Rules = { RowCount > 1 }",
    "Rules = [ RowCount > 1, ]",
    "Rules = [ RowCount > 1 IsComplete \"a\" ]",
    "Rules = [ RowCount > 1 ] ]",
    "Rules [ RowCount > 1 ]",
    "Rules = [ AllStatistics \"a\" ]",
    "Analyzers = [ IsComplete \"a\" ]",
    "Analyzers = [ RowCount > 1 ]",
    "Analyzers = [ Completeness ]",
    "# ä\n\tRules = [\n\t\tIsComplete \"ä\",   IsComplet \"b\"\n\t]",
];

#[test]
fn errors_say_where_and_what_to_do() {
    let mut page = String::new();
    let rules = RULES.iter().map(|rule| format!("Rules = [ {rule}\n]"));
    for text in rules.chain(DOCUMENTS.iter().map(|&document| document.to_owned())) {
        match parse(&text) {
            Ok(set) => panic!("{text} is taken for {set}"),
            Err(error) => writeln!(page, "{error}\n").unwrap(),
        }
    }
    insta::assert_snapshot!(page);
}

#[rstest]
#[case("Rules = [ RowCount > ( ]", 1, 24, Some("a number"))]
#[case("Rules = [\n  IsComplete \"ä\"\n  IsComplete ]", 3, 3, Some("`,` or `]`"))]
#[case("Rules = [\r\n  # ä\r\n  \"x\" ]", 3, 3, Some("a rule such as `IsComplete \"id\"`"))]
#[case("Rules = [ IsComplete \"ää\" \"b\" ]", 1, 27, None)]
fn errors_have_parts(#[case] text: &str, #[case] line: u32, #[case] column: u32, #[case] expected: Option<&str>) {
    let error = text.parse::<RuleSet>().unwrap_err();
    assert_eq!((error.line(), error.column(), error.expected()), (line, column, expected), "{error}");
    assert!(error.to_string().contains(error.message()) && error.to_string().contains(error.excerpt()));
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let text = format!("Rules = [ {} RowCount ! 1, {} ]", "RowCount > 1, ".repeat(1000), "RowCount > 1, ".repeat(1000));
    let error = parse(&text).unwrap_err();
    let shown = error.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    let mark = lines[2].find('^').unwrap();
    assert_eq!((error.column(), &lines[1][mark..mark + 4]), (14_023, "1, R"), "{shown}");
    assert!(lines.iter().all(|line| line.len() < 200), "{shown}");
}

#[test]
fn a_text_after_a_rule_is_refused() {
    let error = "RowCount > 1, RowCount > 2".parse::<hardtack_dqdl::Rule>().unwrap_err();
    assert_eq!(error.message(), "expected the end of the rule, found `,`");
}

#[rstest]
#[case::an_empty_name("Rules = [ ReferentialIntegrity \"a,\" \"r.{a,b}\" > 0 ]")]
#[case::an_empty_name_of_a_reference("Rules = [ ReferentialIntegrity \"a,b\" \"r.{a,}\" > 0 ]")]
#[case::an_empty_pair("Rules = [ DatasetMatch r \"a,\" > 0 ]")]
#[case::a_pair_of_three("Rules = [ DatasetMatch r \"b,a->b->c\" > 0 ]")]
#[case::digits_as_a_variable("12 = \"a\" Rules = [ RowCount > 0 ]")]
#[case::a_variable_with_a_point_first(".a = \"a\" Rules = [ RowCount > 0 ]")]
#[case::a_connector_without_a_parameter("Rules = [ IsUnique a of > 1 ]")]
fn parts_of_texts_and_names_are_checked(#[case] text: &str) {
    assert!(parse(text).is_err(), "{text}");
}
