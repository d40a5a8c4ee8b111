//! Rules in Rust are those of DQDL.

use chrono::{NaiveDate, NaiveTime};
use hardtack_dqdl::build::*;
use hardtack_dqdl::{
    Aggregation, Analysis, Analyzer, Check, ColumnList, ColumnPairs, Condition, DateValue, Duration, Metric, Number,
    Pattern, ReferenceColumns, Rule, RuleSet, Size, SizeUnit, StringValue, abs, avg, index, last, max, median, min,
    parse, percentile, previous, std_dev, sum_of,
};
use rstest::rstest;

fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2024, 6, 30).unwrap()
}

#[rstest]
#[case(row_count().greater_than(avg(last(10)) * 0.8), "RowCount > avg(last(10)) * 0.8")]
#[case(row_count().between(min(last(3)) - 1, max(last(3)) + 1), "RowCount between min(last(3)) - 1 and max(last(3)) + 1")]
#[case(row_count().at_most(previous() + abs(median(last(5)) - sum_of(last(2))) / std_dev(last(4))),
    "RowCount <= last() + (abs(median(last(5)) - sum(last(2))) / std(last(4)))")]
#[case(row_count().less_than((previous() + 1) * index(last(3), 2)), "RowCount < (last() + 1) * index(last(3), 2)")]
#[case(row_count().less_than(percentile(last(3), 0.5)), "RowCount < percentile(last(3), 0.5)")]
#[case(column_count().not_equal(3), "ColumnCount != 3")]
#[case(column_count().is_in([3, 4]), "ColumnCount in [3, 4]")]
#[case(column_count().is_not_in([3]), "ColumnCount not in [3]")]
#[case(completeness("a").at_least(0.9).filter("b = \"x\""), r#"Completeness "a" >= 0.9 where "b = \"x\"""#)]
#[case(uniqueness(["a", "b"]).not_between(0.1, 0.2), r#"Uniqueness "a" "b" not between 0.1 and 0.2"#)]
#[case(duplicate_row_count([""; 0]).equal(0), "DuplicateRowCount = 0")]
#[case(column_correlation("a", "b").at_most(0.5), r#"ColumnCorrelation "a" "b" <= 0.5"#)]
#[case(kurtosis("a").less_than(3u64), r#"Kurtosis "a" < 3"#)]
#[case(is_complete("a").with_label("k", "v"), r#"IsComplete "a" labels = ["k" = "v"]"#)]
#[case(is_unique(["a"]).and(is_primary_key(["a", "b"])), r#"(IsUnique "a") and (IsPrimaryKey "a" "b")"#)]
#[case(is_complete("a").or(is_complete("b").and(column_exists("c"))),
    r#"(IsComplete "a") or ((IsComplete "b") and (ColumnExists "c"))"#)]
#[case(column_names_match_pattern(r#"\w+"?"#), r#"ColumnNamesMatchPattern "\w+\"?""#)]
#[case(column_data_type("a").is_in(["Date"]).with_tag("format", "MM-yyyy"),
    r#"ColumnDataType "a" in ["Date"] with format = "MM-yyyy""#)]
#[case(column_data_type("a").equal("Date"), r#"ColumnDataType "a" = "Date""#)]
#[case(column_data_type("a").not_equal("Date"), r#"ColumnDataType "a" != "Date""#)]
#[case(column_length("a").equal(4).with_threshold(Condition::greater_than(0.5)),
    r#"ColumnLength "a" = 4 with threshold > 0.5"#)]
#[case(column_values("a").between(0, 120), r#"ColumnValues "a" between 0 and 120"#)]
#[case(column_values("a").is_in([Some(1), None]), r#"ColumnValues "a" in [1, NULL]"#)]
#[case(column_values("a").is_not_in(["x", "y"]), r#"ColumnValues "a" not in ["x", "y"]"#)]
#[case(column_values("a").is_in(["x".into(), StringValue::Empty]), r#"ColumnValues "a" in ["x", EMPTY]"#)]
#[case(column_values("a").is_in(["2024-06-30", "2024-07-01"]), r#"ColumnValues "a" in ["2024-06-30", "2024-07-01"]"#)]
#[case(column_values("a").equal(None::<i32>), r#"ColumnValues "a" = NULL"#)]
#[case(column_values("a").not_equal("x"), r#"ColumnValues "a" != "x""#)]
#[case(column_values("a").at_least(day()), r#"ColumnValues "a" >= "2024-06-30""#)]
#[case(column_values("a").at_most(Duration::days(3).ago()), r#"ColumnValues "a" <= (now() - 3 days)"#)]
#[case(column_values("a").less_than(Duration::days(3).from_now()), r#"ColumnValues "a" < (now() + 3 days)"#)]
#[case(column_values("a").not_between(1, 2), r#"ColumnValues "a" not between 1 and 2"#)]
#[case(column_values("a").matches("[a-z]+"), r#"ColumnValues "a" matches "[a-z]+""#)]
#[case(column_values("a").not_matches("\\\""), r#"ColumnValues "a" not matches "\"""#)]
#[case(data_freshness("a").at_most(Duration::hours(24)), r#"DataFreshness "a" <= 24 hours"#)]
#[case(row_count_match("r").equal(1.0), r#"RowCountMatch "r" = 1"#)]
#[case(schema_match("r").equal(1), r#"SchemaMatch "r" = 1"#)]
#[case(referential_integrity(ColumnList::new(["a", "b"]), ReferenceColumns::new("r", ["c", "d"])).equal(1),
    r#"ReferentialIntegrity "a,b" "r.{c,d}" = 1"#)]
#[case(dataset_match("r", ColumnPairs::new([("a", "b"), ("c", "c")]), None).equal(1), r#"DatasetMatch "r" "a->b,c" = 1"#)]
#[case(aggregate_match(Aggregation::sum(None, "a"), Aggregation::avg(Some("r"), "a")).equal(1),
    r#"AggregateMatch "sum(a)" "avg(r.a)" = 1"#)]
#[case(custom_sql("select 1").equal(1), r#"CustomSql "select 1" = 1"#)]
#[case(custom_sql_rows("select a from primary"), r#"CustomSql "select a from primary""#)]
#[case(detect_anomalies(Metric::RowCount), "DetectAnomalies of RowCount")]
#[case(file_freshness(None).greater_than(NaiveTime::from_hms_opt(9, 5, 0).unwrap()), r#"FileFreshness > "09:05""#)]
#[case(file_uniqueness(Some("p")).greater_than(0.5), r#"FileUniqueness "p" > 0.5"#)]
#[case(file_size(None).less_than(Size::new(2, SizeUnit::GB)), "FileSize < 2 GB")]
#[case(file_checksums(None).is_in(["3e"]), r#"FileMatch in ["3e"]"#)]
#[case(file_match("p", "q"), r#"FileMatch "p" "q""#)]
fn a_built_rule_is_the_written_one(#[case] built: Rule, #[case] written: &str) {
    assert_eq!(built.to_string(), written);
    assert_eq!(built, written.parse().unwrap());
    RuleSet::new([built]).check().unwrap();
}

#[test]
fn a_built_set_is_the_written_one() {
    let set = RuleSet::new([is_complete("a")])
        .with_data_sources("orders", ["copy"])
        .with_default_label("team", "lake")
        .with_analyzers([Analysis::from(Metric::RowCount), Analysis::AllStatistics { column: None }]);
    let written = r#"DataSources = { "Primary": "orders", "AdditionalDataSources": ["copy"] }
        DefaultLabels = ["team" = "lake"] Rules = [ IsComplete a ] Analyzers = [ RowCount, AllStatistics of AllColumns ]"#;
    assert_eq!(set, parse(written).unwrap());
    set.check().unwrap();
}

#[rstest]
#[case::nothing(RuleSet::default())]
#[case::no_column(RuleSet::new([is_unique([""; 0])]))]
#[case::an_empty_list(RuleSet::new([row_count().is_in([0; 0])]))]
#[case::one_part(RuleSet::new([all_of([is_complete("a")])]))]
#[case::no_parts(RuleSet::new([any_of([])]))]
#[case::not_a_number(RuleSet::new([row_count().equal(f64::NAN)]))]
#[case::a_time_to_the_second(RuleSet::new([file_freshness(None).equal(NaiveTime::from_hms_opt(9, 5, 1).unwrap())]))]
#[case::a_date_in_a_far_future(RuleSet::new([column_values("a").equal(NaiveDate::from_ymd_opt(12345, 1, 1).unwrap())]))]
#[case::a_time_that_is_none(RuleSet::new([column_values("a").equal("25:00")]))]
#[case::a_comma_in_a_name(RuleSet::new([referential_integrity(ColumnList::new([","]), ReferenceColumns::new("r", ["c"])).equal(1)]))]
#[case::a_bad_pattern(RuleSet::new([column_values("a").matches("(")]))]
#[case::a_lone_backslash(RuleSet::new([column_values("a").matches("\\")]))]
#[case::a_threshold_too_many(RuleSet::new([is_complete("a").with_threshold(Condition::at_least(1))]))]
#[case::a_filter_too_many(RuleSet::new([column_exists("a").filter("x")]))]
#[case::a_filter_of_a_composite(RuleSet::new([is_complete("a").and(is_complete("b")).filter("x")]))]
#[case::an_empty_filter(RuleSet::new([is_complete("a").filter("")]))]
#[case::a_tag_with_a_space(RuleSet::new([is_complete("a").with_tag("a b", 1)]))]
#[case::an_empty_label(RuleSet::new([is_complete("a").with_label("", "v")]))]
#[case::no_run(RuleSet::new([row_count().equal(avg(last(0)))]))]
#[case::a_run_too_far(RuleSet::new([row_count().equal(index(last(3), 3))]))]
#[case::not_a_fraction(RuleSet::new([row_count().equal(percentile(last(3), 95.0))]))]
#[case::null_without_a_list(RuleSet::new([Rule::new(Check::ColumnValues {
    column: "a".into(),
    condition: hardtack_dqdl::ValueCondition::Numbers { condition: Condition::Equal(Number::from(1)), null: true },
})]))]
#[case::statistics_as_an_anomaly(RuleSet::new([detect_anomalies(Analysis::AllStatistics { column: None })]))]
fn what_dqdl_cannot_say_is_refused(#[case] set: RuleSet) {
    let error = set.check().unwrap_err();
    assert!(error.line() >= 1, "{error}");
}

#[test]
fn analyzers_and_dates_convert() {
    assert_eq!(Analyzer::from(Metric::ColumnCount).to_string(), "ColumnCount");
    assert_eq!(DateValue::from(day()).to_string(), "\"2024-06-30\"");
    assert_eq!(Pattern::new(r#"a\\"b"#), Pattern::new(r#"a\\\"b"#));
}

#[test]
fn what_means_something_else_is_refused_at_its_rule() {
    let late = file_freshness(None).equal(NaiveTime::from_hms_opt(9, 5, 1).unwrap());
    let error = RuleSet::new([is_complete("a"), late]).check().unwrap_err();
    assert_eq!((error.line(), error.excerpt().trim()), (3, "FileFreshness = \"09:05\""), "{error}");
}
