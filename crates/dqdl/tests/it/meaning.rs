//! What trees say: what printing alone would not show.

use hardtack_dqdl::{
    AggregationFunction, Analysis, Check, CompositeEvaluation, Condition, DateValue, Decimal, Duration, Metric, Number,
    Operator, Rule, StringCondition, StringValue, ValueCondition, parse,
};
use rstest::rstest;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn values(text: &str) -> ValueCondition {
    match rule(&format!("ColumnValues c {text}")).check {
        Check::ColumnValues { condition, .. } => condition,
        other => panic!("{other}"),
    }
}

#[test]
fn arithmetic_is_a_list_of_steps_from_left_to_right() {
    let Check::Metric {
        metric: Metric::RowCount,
        condition: Condition::GreaterThan(Number::Arithmetic { first, rest }),
    } = rule("RowCount > 1 + 2 * 3").check
    else {
        panic!()
    };
    assert_eq!((*first, rest), (1.into(), vec![(Operator::Add, 2.into()), (Operator::Multiply, 3.into())]));
}

#[test]
fn operands_decide_the_type_of_a_condition() {
    let is_number = |text| matches!(values(text), ValueCondition::Numbers { .. });
    let is_date = |text| matches!(values(text), ValueCondition::Dates { .. });
    let is_string = |text| matches!(values(text), ValueCondition::Strings(_));
    assert!(is_number("> 3") && is_number("in [NULL, 3]") && is_number("= (1)"));
    assert!(
        is_date("> now()")
            && is_date("= \"2024-02-29\"")
            && is_date("in [\"10:00\", NULL]")
            && is_date("= \"1:00 PM\"")
    );
    assert!(
        is_string("= \"a\"")
            && is_string("= NULL")
            && is_string("in [NULL, EMPTY]")
            && is_string("in [\"2024-01-01\", EMPTY]")
    );
    assert!(is_string("in [\"2024-1-1\"]") && is_string("matches \"2024-01-01\""));
    let set = parse("d = [\"2024-01-01\"] Rules = [ ColumnValues c in $d ]").unwrap();
    assert!(matches!(&set.rules[0].check, Check::ColumnValues { condition: ValueCondition::Strings(_), .. }));
}

#[test]
fn null_in_a_list_of_numbers_is_a_flag() {
    assert_eq!(
        values("not in [1, NULL]"),
        ValueCondition::Numbers { condition: Condition::is_not_in([1]), null: true }
    );
    assert_eq!(values("in [1]"), ValueCondition::Numbers { condition: Condition::is_in([1]), null: false });
}

#[rstest]
#[case("0.90", Some((90, 2)), 0.9)]
#[case("-12", Some((-12, 0)), -12.0)]
#[case("-0.05", Some((-5, 2)), -0.05)]
#[case("00000000000000000000000000000000000000000000000.5", Some((5, 1)), 0.5)]
#[case("999999999999999999999999999999999999999.9", None, 1e39)]
fn decimals_are_exact(#[case] text: &str, #[case] parts: Option<(i128, u32)>, #[case] double: f64) {
    let decimal: Decimal = text.parse().unwrap();
    assert_eq!((decimal.as_str(), decimal.parts(), decimal.to_f64()), (text, parts, double));
}

#[rstest]
#[case("")]
#[case("-")]
#[case("1.")]
#[case(".5")]
#[case("1e5")]
#[case("+1")]
#[case("1.2.3")]
#[case("٣")]
fn what_is_no_decimal_is_refused(#[case] text: &str) {
    assert!(text.parse::<Decimal>().is_err());
}

#[test]
fn floats_become_their_shortest_decimals() {
    assert_eq!(
        [Decimal::from(0.1), 1.0.into(), 1e21.into(), (-0.5).into()].map(|d| d.to_string()),
        ["0.1", "1", "1000000000000000000000", "-0.5"]
    );
}

#[test]
fn parameters_with_a_syntax_have_parts() {
    let Check::ReferentialIntegrity { columns, reference, .. } =
        rule(r#"ReferentialIntegrity "a, b" "db.places.{c,d.e}" > 0"#).check
    else {
        panic!()
    };
    assert_eq!(columns.columns().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((reference.alias(), reference.columns().collect::<Vec<_>>()), ("db.places", vec!["c", "d.e"]));

    let Check::DatasetMatch { keys, columns: Some(columns), .. } = rule(r#"DatasetMatch "r" "a->b, c" "d" > 0"#).check
    else {
        panic!()
    };
    assert_eq!(keys.pairs().collect::<Vec<_>>(), [("a", "b"), ("c", "c")]);
    assert_eq!(columns.pairs().collect::<Vec<_>>(), [("d", "d")]);

    let Check::AggregateMatch { first, second, .. } = rule(r#"AggregateMatch "AVG(a)" "sum(db.r.b)" > 0"#).check else {
        panic!()
    };
    assert_eq!((first.function(), first.alias(), first.column()), (AggregationFunction::Avg, None, "a"));
    assert_eq!((second.function(), second.alias(), second.column()), (AggregationFunction::Sum, Some("db.r"), "b"));
}

#[test]
fn variables_are_resolved_and_remembered() {
    let set =
        parse("c = \"id\" l = [\"a\", NULL] Rules = [ IsComplete $c, ColumnValues x in $l, ColumnValues x = $c ]")
            .unwrap();
    let Check::IsComplete { column } = &set.rules[0].check else { panic!() };
    assert_eq!((column.as_str(), column.variable(), column.to_string().as_str()), ("id", Some("c"), "id"));
    let Check::ColumnValues { condition: ValueCondition::Strings(StringCondition::In(list)), .. } = &set.rules[1].check
    else {
        panic!()
    };
    assert_eq!((&**list, list.variable()), (&["a".into(), StringValue::Null][..], Some("l")));
    assert_ne!(set.rules[0], rule("IsComplete id"), "one prints as a variable");
}

#[test]
fn positions_are_those_of_rules_and_do_not_count_in_comparisons() {
    let set = parse("Rules = [ RowCount > 0,\n  \"ä\"\n").unwrap_err();
    assert_eq!((set.line(), set.column()), (2, 3));
    let text = "# ä\nRules = [ RowCount > 0,\n\n   (IsComplete a\r\n and IsComplete b), # é\n IsComplete \"é\", RowCount > 1 or RowCount > 2]\nAnalyzers=[RowCount]";
    let set = parse(text).unwrap();
    let at = |rule: &Rule| (rule.position.line, rule.position.column);
    assert_eq!(set.rules.iter().map(at).collect::<Vec<_>>(), [(2, 11), (4, 4), (6, 2), (6, 18)]);
    assert_eq!(set.rules[1].check.parts().iter().map(at).collect::<Vec<_>>(), [(4, 5), (5, 6)]);
    assert_eq!((set.analyzers[0].position.line, set.analyzers[0].position.column), (7, 12));
    assert_eq!(set, parse(&set.to_string()).unwrap());
}

#[test]
fn own_labels_replace_default_ones() {
    let set =
        parse(r#"DefaultLabels = ["a" = "1", "b" = "2"] Rules = [ RowCount > 0 labels = ["b" = "3"], RowCount > 1 ]"#)
            .unwrap();
    let labels = |i: usize| set.labels_of(&set.rules[i]).map(|label| format!("{label}")).collect::<Vec<_>>();
    assert_eq!(labels(0), ["\"a\" = \"1\"", "\"b\" = \"3\""]);
    assert_eq!(labels(1), ["\"a\" = \"1\"", "\"b\" = \"2\""]);
}

#[test]
fn a_time_of_the_past_is_before_now() {
    let Check::FileFreshness { condition, path: None } = rule("FileFreshness > (now() - 90 minutes)").check else {
        panic!()
    };
    assert_eq!(condition, Condition::GreaterThan(DateValue::Before(Duration::minutes(90))));
    assert_eq!(
        [Duration::minutes(90), Duration::hours(2), Duration::days(1)].map(Duration::seconds),
        [5400, 7200, 86400]
    );
}

#[rstest]
#[case("IsComplete a", true, true)]
#[case("(ColumnValues a > 1) or ((ColumnLength b > 1) and (CustomSql \"x\"))", true, true)]
#[case("(ColumnValues a > 1) or (RowCount > 0)", false, true)]
#[case("(ColumnValues a > 1) or (Completeness b > 0.5)", false, false)]
#[case("ColumnValues a > 1 with threshold > 0.5", true, false)]
#[case("(RowCount > 1) and (ColumnValues a > 1 with threshold > 0.5)", false, false)]
#[case("ReferentialIntegrity a r.a = 1", false, false)]
#[case("DatasetMatch r a = 1", false, false)]
#[case("Uniqueness a > 0.5", false, false)]
#[case("CustomSql \"x\" > 1", false, true)]
fn shares_are_not_judged_row_by_row(#[case] text: &str, #[case] is_row_level: bool, #[case] allows_rows: bool) {
    let rule = rule(text);
    assert_eq!((rule.is_row_level(), rule.allows(CompositeEvaluation::Row)), (is_row_level, allows_rows));
    assert!(rule.allows(CompositeEvaluation::Dataset));
}

#[rstest]
#[case("RowCount > 1 + 2", false)]
#[case("RowCount > 1 + abs(last())", true)]
#[case("ColumnValues a > 1 with threshold > avg(last(3))", true)]
#[case("(IsComplete a) or (RowCount in [1, max(last(3))])", true)]
fn dynamic_rules_depend_on_earlier_runs(#[case] text: &str, #[case] expected: bool) {
    assert_eq!(rule(text).is_dynamic(), expected);
    assert_eq!(parse(&format!("Rules = [{text}]")).unwrap().is_dynamic(), expected);
}

#[test]
fn tags_are_found_by_name() {
    let rule = rule("FileSize > 1 with recentFiles = 7 with uriRegex = \"a|b\"");
    assert_eq!((rule.tag("recentFiles"), rule.tag("uriRegex"), rule.tag("threshold")), (Some("7"), Some("a|b"), None));
}

#[test]
fn all_columns_is_a_word_and_no_name() {
    let set =
        parse(r#"Analyzers = [ AllStatistics of AllColumns, AllStatistics "AllColumns", AllStatistics x ]"#).unwrap();
    let columns: Vec<_> = set
        .analyzers
        .iter()
        .map(|analyzer| match &analyzer.analysis {
            Analysis::AllStatistics { column } => column.as_deref(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(columns, [None, Some("AllColumns"), Some("x")]);
}

#[test]
fn one_dynamic_rule_makes_a_set_dynamic() {
    assert!(parse("Rules = [ RowCount > 1, RowCount > last() ]").unwrap().is_dynamic());
    assert!(rule("RowCount > 1 + last() + 1").is_dynamic());
}
