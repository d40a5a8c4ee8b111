//! Every form of every rule, as it is printed.

use hardtack_dqdl::{Rule, RuleSet, parse};
use rstest::rstest;

/// A rule prints as `expected`, which is canonical: it parses to the same tree.
#[track_caller]
fn check(written: &str, expected: &str) {
    let rule: Rule = written.parse().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(rule.to_string(), expected);
    assert_eq!(expected.parse::<Rule>().unwrap(), rule);
    let set = parse(&format!("Rules = [ {written}\n]")).unwrap();
    assert_eq!(set.rules, [rule]);
}

#[rstest]
#[case("RowCount = 250")]
#[case("RowCount != 250")]
#[case("RowCount = -5")]
#[case("RowCount > 0 where \"country = 'CH'\"")]
#[case("RowCount between 0.9 * avg(last(7)) and 1.1 * avg(last(7))")]
#[case("RowCount not between 10 and 20")]
#[case("RowCount in [10, 20, 30]")]
#[case("RowCount not in [10, 20]")]
#[case("RowCountMatch \"orders_copy\" >= 0.95")]
#[case("ColumnCount <= 12")]
#[case("Completeness \"e mail\" > 0.999")]
#[case("Completeness \"e mail\" between -0.5 and 0.75 where \"id > 7\"")]
#[case("IsComplete \"id\"")]
#[case("IsComplete \"id\" where \"day > '2024-01-01'\"")]
#[case("IsUnique \"id\"")]
#[case("IsUnique \"shop\" \"order\"")]
#[case("IsPrimaryKey \"shop\" \"order\" \"line\"")]
#[case("Uniqueness \"id\" > 0.99")]
#[case("Uniqueness \"shop\" \"order\" = 1")]
#[case("UniqueValueRatio \"name.first\" < 0.5")]
#[case("DistinctValuesCount \"country\" between min(last(10)) - 1 and max(last(10)) + 1")]
#[case("Mean \"price\" between 10 and 20")]
#[case("Sum \"price\" > 0.00000000000000000000000000000000000001")]
#[case("StandardDeviation \"price\" <= 10.0")]
#[case("Variance \"price\" <= 100.50")]
#[case("Entropy \"country\" > 1")]
#[case("ColumnCorrelation \"height\" \"weight\" between -0.2 and 0.8")]
#[case("ZerosCount \"price\" < 5")]
#[case("DuplicateRowCount = 0")]
#[case("DuplicateRowCount \"a\" \"b\" = 0 where \"a > 1\"")]
#[case("Range \"price\" < 100")]
#[case("InterquartileRange \"price\" < 50")]
#[case("Skewness \"price\" between -1 and 1")]
#[case("Kurtosis \"price\" < 3")]
#[case("ColumnExists \"id\"")]
#[case("ColumnNamesMatchPattern \"[a-z]+_\\d{2}\"")]
#[case("ColumnDataType \"born\" = \"Date\"")]
#[case("ColumnDataType \"born\" != \"Date\"")]
#[case("ColumnDataType \"born\" in [\"Date\", \"Timestamp\"] where \"id > 7\" with threshold > 0.9")]
#[case("ColumnDataType \"born\" = \"Date\" with format = \"dd-MM-yyyy\"")]
#[case("ColumnLength \"zip\" = 4")]
#[case("ColumnLength \"zip\" between 3 and 6 with threshold >= 0.9")]
#[case("ColumnValues \"age\" between 0 and 120")]
#[case("ColumnValues \"age\" in [1, 2, NULL]")]
#[case("ColumnValues \"age\" not in [1, 2, NULL]")]
#[case("ColumnValues \"age\" > 0.4 with threshold not between 0.4 and 0.8")]
#[case("ColumnValues \"code\" in [\"a\", \"b\", EMPTY, NULL, WHITESPACES_ONLY] with ignoreCase = \"true\"")]
#[case("ColumnValues \"code\" = NULL")]
#[case("ColumnValues \"code\" != EMPTY")]
#[case("ColumnValues \"code\" != WHITESPACES_ONLY")]
#[case("ColumnValues \"code\" in [NULL]")]
#[case("ColumnValues \"code\" matches \"[A-Z]{2}\\\"?\\s\\\\\" with threshold > 0.98")]
#[case("ColumnValues \"code\" not matches \"^x\"")]
#[case("ColumnValues \"code\" = \"say \\\"hi\\\" \\\\ there\"")]
#[case("ColumnValues \"code\" in [\"a,,b\", \"[c]\", \"IsComplete \\\"d\\\"\"]")]
#[case("ColumnValues \"day\" between \"2024-06-01\" and \"2024-06-30\"")]
#[case("ColumnValues \"day\" in [now(), (now() - 4 days), \"2024-01-01\", NULL]")]
#[case("ColumnValues \"day\" >= now()")]
#[case("ColumnValues \"day\" not between (now() - 3 hours) and (now() + 14 minutes)")]
#[case("ColumnValues \"time\" between \"09:00\" and \"21:50\"")]
#[case("DataFreshness \"ordered\" <= 24 hours")]
#[case("DataFreshness \"ordered\" between 2 days and 4 days where \"id > 7\"")]
#[case("DataFreshness \"ordered\" in [90 minutes, 2 hours]")]
#[case("ReferentialIntegrity \"city\" \"places.city\" = 1.0")]
#[case("ReferentialIntegrity \"city,state\" \"places.{city,state}\" between 0.4 and 0.6")]
#[case("DatasetMatch \"copy\" \"id\" >= 0.99")]
#[case("DatasetMatch \"copy\" \"id->key,day\" \"name->full_name\" between 0.4 and 0.8")]
#[case("SchemaMatch \"copy\" = 1.0")]
#[case("AggregateMatch \"sum(price)\" \"sum(copy.price)\" >= 0.95")]
#[case("AggregateMatch \"AVG(price)\" \"avg(db.copy.price)\" between 0.8 and 0.9")]
#[case("CustomSql \"select count(*) from primary\" > 0")]
#[case("CustomSql \"select id from primary\"")]
#[case("CustomSql \"select id from primary\" with threshold > 0.5")]
#[case("DetectAnomalies of RowCount")]
#[case("DetectAnomalies of Completeness \"id\"")]
#[case("DetectAnomalies of ColumnCorrelation \"a\" \"b\"")]
#[case("DetectAnomalies of ColumnLength \"a\"")]
#[case("FileFreshness \"s3://lake/in/\" > (now() - 24 hours)")]
#[case("FileFreshness > \"21:45\" with timeZone = \"Europe/Zurich\" with recentFiles = \"1\"")]
#[case("FileFreshness \"s3://lake/in/\" between \"2024-01-01\" and (now() + 10 minutes) with threshold > 0.1")]
#[case("FileMatch \"s3://lake/a\" in [\"3ee0\", \"77aa\"] with hashAlgorithm = \"MD5\"")]
#[case("FileMatch in [\"3ee0\"] with dataFrame = \"true\"")]
#[case("FileMatch \"s3://lake/a\" \"s3://lake/b\"")]
#[case("FileUniqueness \"s3://lake/a\" >= 0.9")]
#[case("FileUniqueness > 0.5")]
#[case("FileSize \"s3://lake/a\" between 1 B and 1 GB")]
#[case("FileSize not in [500 KB, 150 TB]")]
#[case("FileSize < 5 MB labels = [\"team\" = \"lake\", \"level\" = \"1\"] with threshold > 0.5")]
#[case("(RowCount > 0) or (IsComplete \"a\") or (IsUnique \"b\")")]
#[case("(RowCount > 0) or ((IsComplete \"a\") and (IsUnique \"b\"))")]
#[case("((RowCount > 0) and (IsComplete \"b\")) or ((IsComplete \"a\") and (IsUnique \"a\"))")]
#[case("((IsComplete \"a\") and (IsComplete \"b\")) and (IsComplete \"c\")")]
#[case("((IsComplete \"a\") and (IsComplete \"b\")) labels = [\"id\" = \"7\"]")]
#[case("(RowCount > 0) or ((IsComplete \"a\") and (IsComplete \"b\")) labels = [\"id\" = \"7\"]")]
#[case("ColumnCount = abs(last() - median(last(3))) / index(last(3), 2) + percentile(last(20), 0.95)")]
fn canonical_rules_print_as_they_are(#[case] rule: &str) {
    check(rule, rule);
}

#[rstest]
// Words without quotes, with points and connectors
#[case("Completeness of order.id between 0.5 and 0.8", "Completeness \"order.id\" between 0.5 and 0.8")]
#[case("ColumnCorrelation of a and \"b c\" > 0", "ColumnCorrelation \"a\" \"b c\" > 0")]
#[case("ColumnCorrelation OF a AND b > 0", "ColumnCorrelation \"a\" \"b\" > 0")]
#[case("IsPrimaryKey a \"b c\"", "IsPrimaryKey \"a\" \"b c\"")]
#[case("IsUnique a and b", "IsUnique \"a\" \"b\"")]
#[case("IsComplete 2nd", "IsComplete \"2nd\"")]
#[case("IsComplete IN", "IsComplete \"IN\"")]
#[case("IsUnique a Empty Labels", "IsUnique \"a\" \"Empty\" \"Labels\"")]
#[case("IsComplete labels", "IsComplete \"labels\"")]
#[case("DetectAnomalies of ColumnCorrelation of \"a\" and \"b\"", "DetectAnomalies of ColumnCorrelation \"a\" \"b\"")]
#[case("DetectAnomalies \"RowCount\"", "DetectAnomalies of RowCount")]
// `and` joins rules where it joins no parameters
#[case("IsComplete a and IsUnique b", "(IsComplete \"a\") and (IsUnique \"b\")")]
#[case("IsUnique a and IsComplete b", "(IsUnique \"a\") and (IsComplete \"b\")")]
#[case("RowCount > 1 AND IsComplete a OR IsUnique b", "((RowCount > 1) and (IsComplete \"a\")) or (IsUnique \"b\")")]
#[case("RowCount between 1 and 2 and IsComplete a", "(RowCount between 1 and 2) and (IsComplete \"a\")")]
#[case(
    "IsComplete a or IsComplete b and IsComplete c",
    "(IsComplete \"a\") or ((IsComplete \"b\") and (IsComplete \"c\"))"
)]
#[case("FileSize > 5 and RowCount > 1", "(FileSize > 5 B) and (RowCount > 1)")]
#[case("(((IsComplete a)))", "IsComplete \"a\"")]
#[case("(IsComplete a) labels=[\"k\"=\"v\"]", "IsComplete \"a\" labels = [\"k\" = \"v\"]")]
#[case(
    "(IsComplete a labels=[\"k\"=\"v\"] and IsComplete b) labels=[\"l\"=\"w\"]",
    "((IsComplete \"a\" labels = [\"k\" = \"v\"]) and (IsComplete \"b\")) labels = [\"l\" = \"w\"]"
)]
// Numbers: no precedence, signs, spaces
#[case("RowCount > (0.9 * average(last(10)))", "RowCount > 0.9 * avg(last(10))")]
#[case("RowCount > 1 + 2 * 3", "RowCount > 1 + 2 * 3")]
#[case("RowCount > 1 + (2 * 3)", "RowCount > 1 + (2 * 3)")]
#[case("RowCount > (1 + 2) * 3", "RowCount > (1 + 2) * 3")]
#[case("RowCount > 5 -1", "RowCount > 5 - 1")]
#[case("RowCount > 5 - - 1", "RowCount > 5 - -1")]
#[case("RowCount > last(1)", "RowCount > last()")]
#[case("RowCount > avg(last())", "RowCount > avg(last(1))")]
#[case("RowCount ! = 1", "RowCount != 1")]
#[case("RowCount>=007.50", "RowCount >= 007.50")]
// Keywords in both cases
#[case(
    "ColumnValues a in [\"x\", null, empty, whitespaces_only]",
    "ColumnValues \"a\" in [\"x\", NULL, EMPTY, WHITESPACES_ONLY]"
)]
#[case("ColumnValues a between 1 AND 2", "ColumnValues \"a\" between 1 and 2")]
#[case("ColumnValues a in [NULL, 1]", "ColumnValues \"a\" in [1, NULL]")]
// Dates and times
#[case("ColumnValues a > \"9:30 PM\"", "ColumnValues \"a\" > \"21:30\"")]
#[case("ColumnValues a > \"07:30 AM\"", "ColumnValues \"a\" > \"07:30\"")]
#[case("ColumnValues a > \"12:05 AM\"", "ColumnValues \"a\" > \"00:05\"")]
#[case("ColumnValues a > (now() -1 days)", "ColumnValues \"a\" > (now() - 1 days)")]
#[case("ColumnValues a in [\"2024-01-01\", \"never\"]", "ColumnValues \"a\" in [\"2024-01-01\", \"never\"]")]
#[case("IsComplete \"2024-01-01\"", "IsComplete \"2024-01-01\"")]
// Options in any order, numbers as tags
#[case("FileFreshness > \"9:30 AM\" with recentFiles = 1", "FileFreshness > \"09:30\" with recentFiles = \"1\"")]
#[case(
    "ColumnValues a > 1 with threshold > 0.9 labels = [\"k\"=\"v\"] where \"b\"",
    "ColumnValues \"a\" > 1 where \"b\" labels = [\"k\" = \"v\"] with threshold > 0.9"
)]
#[case("ColumnValues a > 1 with Threshold > 0.9", "ColumnValues \"a\" > 1 with threshold > 0.9")]
#[case("FileSize > 5 with from = \"2024-01-01\"", "FileSize > 5 B with from = \"2024-01-01\"")]
// Escapes: of texts, and of patterns, which keep theirs
#[case(r#"ColumnValues a = "C:\temp""#, r#"ColumnValues "a" = "C:\\temp""#)]
#[case(r#"ColumnValues a matches "\\\"\.""#, r#"ColumnValues "a" matches "\\\"\.""#)]
// White space
#[case("\tIsComplete\r\n# why\n a # the end", "IsComplete \"a\"")]
fn other_forms_mean_the_same(#[case] written: &str, #[case] expected: &str) {
    check(written, expected);
}

#[rstest]
#[case("Rules = [ RowCount > 0 ]")]
#[case("Analyzers = [ RowCount, Completeness of \"a-b\", ColumnLength x, ColumnValues \"y\" ]")]
#[case("Rules = [] Analyzers = [ AllStatistics of AllColumns, AllStatistics \"AllColumns\", AllStatistics x ]")]
#[case("Metadata = { \"Version\": \"1.0\" } Rules = [ RowCount > 0 ] Analyzers = []")]
#[case("DataSources = { \"Primary\": \"orders\" } Rules = [ RowCount > 0 ]")]
#[case(
    "\u{feff}DataSources={\"AdditionalDataSources\":[\"a\",\"b\"]}Rules=[RowCount>0]Analyzers=[RowCount,Uniqueness a b]"
)]
#[case(
    "a = \"x\" b.c = [\"y\", NULL] 2d = EMPTY DefaultLabels = [\"k\" = \"v\"] Rules = [ IsComplete $a, \
        ColumnValues \"c\" in $b.c, ColumnValues c not in $2d, ColumnValues c in [$a, \"z\"], ColumnValues c = $a ]"
)]
fn documents_print_as_canonical_ones(#[case] written: &str) {
    let set: RuleSet = written.parse().unwrap_or_else(|e| panic!("{e}"));
    let printed = set.to_string();
    assert_eq!(printed, printed.trim());
    assert_eq!(parse(&printed).unwrap(), set, "{printed}");
    assert_eq!(parse(&printed).unwrap().to_string(), printed);
    set.check().unwrap();
}

#[test]
fn a_whole_document_is_printed_in_sections() {
    let written = r#"
        Metadata = { "Version" : "1.0" }
        DataSources = { "Primary" : "orders", "AdditionalDataSources" : [ "customers", "copy" ] }
        # the countries that we deliver to
        countries = ["CH", "FR"]
        statement = "select count(*) from primary"
        DefaultLabels = [ "team" = "orders", "level" = "1" ]
        Rules = [
            IsComplete id, ColumnValues country in $countries labels = ["level" = "2"],
            CustomSql $statement > 0, (IsUnique id) or (RowCount < last())
        ]
        Analyzers = [ RowCount, AllStatistics of AllColumns ]"#;
    let set = parse(written).unwrap();
    insta::assert_snapshot!(set, @r#"
    Metadata = {
        "Version": "1.0"
    }

    DataSources = {
        "Primary": "orders",
        "AdditionalDataSources": ["customers", "copy"]
    }

    countries = ["CH", "FR"]
    statement = "select count(*) from primary"

    DefaultLabels = ["team" = "orders", "level" = "1"]

    Rules = [
        IsComplete "id",
        ColumnValues "country" in $countries labels = ["level" = "2"],
        CustomSql $statement > 0,
        (IsUnique "id") or (RowCount < last())
    ]

    Analyzers = [
        RowCount,
        AllStatistics of AllColumns
    ]
    "#);
    assert_eq!(parse(&set.to_string()).unwrap(), set);
}
