//! What each type of rule means.

use hardtack_quality::Outcome;
use rstest::rstest;

use crate::{PEOPLE, audit, passes, verdict};

/// Each rule, and whether [`PEOPLE`] meet it.
#[rstest]
#[case::row_count("RowCount = 4", true)]
#[case::row_count_between_excludes_its_bounds("RowCount between 4 and 9", false)]
#[case::row_count_not_between_includes_them("RowCount not between 4 and 9", true)]
#[case::row_count_where(r#"RowCount = 2 where "country = 'CH'""#, true)]
#[case::row_count_where_null_is_out(r#"RowCount = 1 where "country <> 'CH'""#, true)]
#[case::column_count("ColumnCount = 8", true)]
#[case::column_exists(r#"ColumnExists "age""#, true)]
#[case::column_exists_is_exact(r#"ColumnExists "Age""#, false)]
#[case::names(r#"ColumnNamesMatchPattern "[a-z]+""#, true)]
#[case::names_match_in_part(r#"ColumnNamesMatchPattern "e""#, false)]
#[case::complete(r#"IsComplete "id""#, true)]
#[case::complete_not(r#"IsComplete "age""#, false)]
#[case::complete_where(r#"IsComplete "age" where "id < 3""#, true)]
#[case::completeness(r#"Completeness "age" = 0.75"#, true)]
#[case::completeness_counts_empty_texts(r#"Completeness "name" = 1.0"#, true)]
#[case::unique(r#"IsUnique "name""#, true)]
#[case::unique_not(r#"IsUnique "id""#, false)]
#[case::unique_ignores_nulls(r#"IsUnique "age""#, true)]
#[case::unique_together(r#"IsUnique "id" "name""#, true)]
#[case::unique_where(r#"IsUnique "id" where "age is not null""#, true)]
#[case::primary_key_not_unique(r#"IsPrimaryKey "id""#, false)]
#[case::primary_key_with_null(r#"IsPrimaryKey "age""#, false)]
#[case::primary_key(r#"IsPrimaryKey "name""#, true)]
#[case::primary_key_each_complete(r#"IsPrimaryKey "name" "age""#, false)]
#[case::uniqueness(r#"Uniqueness "id" = 0.5"#, true)]
#[case::uniqueness_without_nulls(r#"Uniqueness "age" = 1.0"#, true)]
#[case::unique_value_ratio(r#"UniqueValueRatio "country" = 0.5"#, true)]
#[case::distinct_counts_null(r#"DistinctValuesCount "country" = 3"#, true)]
#[case::distinct(r#"DistinctValuesCount "id" = 3"#, true)]
#[case::entropy(r#"Entropy "good" between 0.636 and 0.637"#, true)]
#[case::mean(r#"Mean "score" = 1.0"#, true)]
#[case::mean_ignores_nulls(r#"Mean "age" between 50.6 and 50.7"#, true)]
#[case::mean_of_texts(r#"Mean "name" > 0"#, false)]
#[case::sum(r#"Sum "age" = 152"#, true)]
#[case::sum_of_decimals(r#"Sum "score" = 4"#, true)]
#[case::deviation(r#"StandardDeviation "id" between 0.82 and 0.83"#, true)]
#[case::variance(r#"Variance "id" = 0.6875"#, true)]
#[case::correlation(r#"ColumnCorrelation "id" "id" > 0.999"#, true)]
#[case::zeros(r#"ZerosCount "score" = 1"#, true)]
#[case::duplicates(r#"DuplicateRowCount = 0"#, true)]
#[case::duplicates_of_a_column(r#"DuplicateRowCount "id" = 2"#, true)]
#[case::range(r#"Range "age" = 82"#, true)]
#[case::quartiles(r#"InterquartileRange "id" = 1.25"#, true)]
#[case::skewness(r#"Skewness "score" between -0.5 and 0.5"#, true)]
#[case::kurtosis(r#"Kurtosis "score" between -1.5 and -1"#, true)]
#[case::values_above(r#"ColumnValues "id" > 0"#, true)]
#[case::values_above_not(r#"ColumnValues "score" >= 0"#, false)]
#[case::values_null_fails(r#"ColumnValues "age" > 0"#, false)]
#[case::values_threshold(r#"ColumnValues "age" > 20 with threshold >= 0.5"#, true)]
#[case::values_threshold_counts_nulls(r#"ColumnValues "age" > 20 with threshold > 0.5"#, false)]
#[case::values_between(r#"ColumnValues "id" between 0 and 4"#, true)]
#[case::values_between_bounds(r#"ColumnValues "id" between 1 and 4"#, false)]
#[case::values_not_equal_passes_null(r#"ColumnValues "age" != 5"#, true)]
#[case::values_not_between_fails_null(r#"ColumnValues "age" not between 1 and 9"#, false)]
#[case::values_in(r#"ColumnValues "id" in [1, 2, 3]"#, true)]
#[case::values_in_null(r#"ColumnValues "age" in [36, 17, 99, NULL]"#, true)]
#[case::values_in_without_null(r#"ColumnValues "age" in [36, 17, 99]"#, false)]
#[case::values_not_in_passes_null(r#"ColumnValues "age" not in [1, 2]"#, true)]
#[case::values_not_in_null(r#"ColumnValues "age" not in [1, NULL]"#, false)]
#[case::values_is_null(r#"ColumnValues "age" = NULL"#, false)]
#[case::values_is_null_where(r#"ColumnValues "age" = NULL where "name = ''""#, true)]
#[case::values_is_not_null(r#"ColumnValues "id" != NULL"#, true)]
#[case::values_texts(r#"ColumnValues "country" in ["CH", "DE", NULL]"#, true)]
#[case::values_texts_case(r#"ColumnValues "country" in ["ch", "de", NULL]"#, false)]
#[case::values_ignore_case(r#"ColumnValues "country" in ["ch", "de", NULL] with ignoreCase = "true""#, true)]
#[case::values_empty(r#"ColumnValues "name" in ["Ada", "Bob", EMPTY, WHITESPACES_ONLY]"#, true)]
#[case::values_empty_is_not_blank(r#"ColumnValues "name" in ["Ada", "Bob", EMPTY]"#, false)]
#[case::values_not_empty(r#"ColumnValues "name" != EMPTY"#, false)]
#[case::values_match_as_a_whole(r#"ColumnValues "name" matches "A|B" where "id < 3""#, false)]
#[case::values_match(r#"ColumnValues "name" matches "[A-Z][a-z]+" where "id < 3""#, true)]
#[case::values_not_match(r#"ColumnValues "name" not matches "[0-9]+""#, true)]
#[case::values_match_null_fails(r#"ColumnValues "country" matches ".*""#, false)]
#[case::values_bool(r#"ColumnValues "good" in ["true", "false", NULL]"#, true)]
#[case::values_dates(r#"ColumnValues "day" > "2026-09-30" where "day is not null""#, true)]
#[case::values_dates_null_fails(r#"ColumnValues "day" > "2026-09-30""#, false)]
#[case::values_now(r#"ColumnValues "day" <= now() where "day is not null""#, true)]
#[case::values_days_ago(r#"ColumnValues "day" > (now() - 10 days) where "id = 2""#, true)]
#[case::values_days_ago_not(r#"ColumnValues "day" > (now() - 9 days) where "id = 2""#, false)]
#[case::values_times_by_day(r#"ColumnValues "seen" = "2026-11-28" where "id < 3""#, true)]
#[case::values_times_by_moment(r#"ColumnValues "seen" > (now() - 3 hours) where "id = 2""#, true)]
#[case::values_times_by_moment_not(r#"ColumnValues "seen" > (now() - 3 hours) where "id = 1""#, false)]
#[case::fresh(r#"DataFreshness "seen" <= 14 hours where "id < 3""#, true)]
#[case::fresh_null_fails(r#"DataFreshness "seen" <= 90 days"#, false)]
#[case::fresh_dates(r#"DataFreshness "day" < 10 days where "id = 2""#, true)]
#[case::fresh_dates_not(r#"DataFreshness "day" < 9 days where "id = 2""#, false)]
#[case::length(r#"ColumnLength "name" <= 3"#, true)]
#[case::length_of_null_is_0(r#"ColumnLength "country" in [0, 2]"#, true)]
#[case::length_not_2(r#"ColumnLength "country" != 2"#, false)]
#[case::types(r#"ColumnDataType "id" = "Integer""#, true)]
#[case::types_null_has_none(r#"ColumnDataType "age" = "Integer""#, false)]
#[case::types_share(r#"ColumnDataType "age" = "Integer" with threshold > 0.7"#, true)]
#[case::types_text(r#"ColumnDataType "name" != "Integer""#, true)]
#[case::types_unknown(r#"ColumnDataType "name" = "Whole""#, false)]
#[case::and(r#"(IsComplete "id") and (RowCount > 3)"#, true)]
#[case::and_not(r#"(IsComplete "id") and (RowCount > 4)"#, false)]
#[case::or(r#"(IsComplete "age") or (RowCount > 3)"#, true)]
#[case::or_by_data_set(r#"(ColumnValues "age" > 20) or (ColumnValues "id" >= 2)"#, false)]
#[case::nested(r#"(RowCount = 9) or ((IsComplete "id") and (IsUnique "name"))"#, true)]
#[case::sql(r#"CustomSql "select count(*) from primary where age > 20" = 2"#, true)]
#[case::sql_over_two_scans(r#"CustomSql "select count(*) from primary a join primary b on a.id = b.id" = 6"#, true)]
#[case::sql_by_row(r#"CustomSql "select id from primary where id > 0""#, true)]
#[case::sql_by_row_not(r#"CustomSql "select id from primary where age > 0""#, true)]
#[case::sql_by_row_all_alike_pass(r#"CustomSql "select id, name from primary where age > 0""#, false)]
#[case::sql_by_row_share(r#"CustomSql "select id, name from primary where age > 0" with threshold > 0.7"#, true)]
#[case::sql_by_row_of_nothing(r#"CustomSql "select id from primary where id > 9""#, false)]
#[case::sql_without_the_rows(r#"CustomSql "select 7" = 7"#, true)]
#[case::sql_spark_names(r#"CustomSql "select max(AGE) from primary" = 99"#, true)]
#[case::column_in_any_case(r#"IsComplete "ID""#, true)]
#[case::where_in_any_case(r#"RowCount = 2 where "Country = 'CH'""#, true)]
#[tokio::test]
async fn a_rule_means(#[case] rule: &str, #[case] expected: bool) {
    let verdict = verdict(rule, PEOPLE).await;
    assert_eq!(passes(&verdict), expected, "{verdict:#?}");
}

/// Names in another case are only found if one column can be meant.
#[rstest]
#[case::as_written(r#"RowCount = 1 where "\"Id\" = 2""#, Outcome::Passed)]
#[case::either(r#"RowCount = 1 where "iD = 2""#, Outcome::Error)]
#[tokio::test]
async fn of_two_columns_that_differ_in_case_none_is_taken(#[case] rule: &str, #[case] expected: Outcome) {
    let verdict = verdict(rule, r#"select 1 as "ID", 2 as "Id""#).await;
    assert_eq!(verdict.outcome, expected, "{verdict:#?}");
}

#[tokio::test]
async fn values_that_cannot_be_compared_are_no_key() {
    let verdict = verdict(r#"IsUnique "id" "m""#, "select 1 as id, map(['a'], [1]) as m").await;
    assert_eq!(verdict.outcome, Outcome::Error, "{verdict:#?}");
    let said = verdict.reason.unwrap();
    assert!(
        said.starts_with("the values of `m` are of the type Map(") && said.ends_with("cannot be compared"),
        "{said}"
    );
}

/// A rule that cannot be evaluated says why. The others are evaluated.
#[rstest]
#[case::no_column(r#"IsComplete "nane""#, "there is no column `nane`; did you mean `name`?")]
#[case::no_number(r#"Mean "name" > 0"#, "the values of `name` are of the type Utf8, and a sum needs numbers")]
#[case::no_date(r#"DataFreshness "id" < 3 days"#, "its values are of the type Int64, and the condition compares dates")]
#[case::no_text(r#"ColumnLength "id" < 3"#, "its values are of the type Int64, and only texts have a length")]
#[case::no_condition(r#"RowCount > 1 where "agee > 3""#, "the condition of its `where` cannot be read: ")]
#[case::no_truth(r#"RowCount > 1 where "age""#, "the condition of its `where` is of the type Int64")]
#[case::no_sum(r#"RowCount > 1 where "name + day > 2""#, "")]
#[case::no_cast(r#"ColumnDataType "good" = "Date""#, "it cannot be evaluated: ")]
#[case::no_value(r#"ColumnValues "id" = "x""#, "`x` is no value of the type Int64")]
#[case::no_data_set(r#"RowCountMatch "old" > 0.9"#, "there is no data set `old`; give it with `Rules::reference(")]
#[case::no_sql(r#"CustomSql "selct 1" = 1"#, "SQL statement")]
#[case::no_ddl(r#"CustomSql "create table t as select 1" = 1"#, "DDL not supported")]
#[case::two_columns(r#"CustomSql "select 1, 2" = 1"#, "the statement returned 2 columns, and one is expected")]
#[case::two_rows(r#"CustomSql "select id from primary" = 1"#, "the query returned several rows, and one is expected")]
#[case::foreign_column(r#"CustomSql "select 1 as x from primary""#, "the statement returned a column `x`")]
#[tokio::test]
async fn a_rule_that_cannot_be_evaluated_says_why(#[case] rule: &str, #[case] why: &str) {
    let audit = audit(&format!("{rule}, RowCount = 4"), PEOPLE).await;
    assert_eq!(audit.verdicts[0].outcome, Outcome::Error, "{audit:#?}");
    let said = audit.verdicts[0].reason.as_deref().unwrap();
    assert!(said.contains(why) && !said.is_empty(), "{said}");
    assert!(passes(&audit.verdicts[1]));
}
