//! Limits that are said, and time in proportion to the text.

use std::time::{Duration, Instant};

use hardtack_dqdl::{Rule, parse};
use rstest::rstest;

#[rstest]
#[case("(", "IsComplete a", ")")]
#[case("RowCount > (", "1", ")")]
#[case("(", "RowCount > 1 and RowCount > 2", ")")]
fn nesting_has_a_limit(#[case] open: &str, #[case] inner: &str, #[case] close: &str) {
    let (before, paren) = open.split_at(open.len() - 1);
    let nested = |depth: usize| format!("{before}{}{inner}{}", paren.repeat(depth), close.repeat(depth));
    assert!(nested(64).parse::<Rule>().is_ok());
    let message = "parentheses are nested more than 64 levels deep";
    assert_eq!(nested(65).parse::<Rule>().unwrap_err().message(), message);
    assert_eq!(nested(1_000_000).parse::<Rule>().unwrap_err().message(), message);
    let functions = format!("RowCount > {}1{}", "abs(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(functions.parse::<Rule>().unwrap_err().message(), message);
}

#[rstest]
#[case(10, true)]
#[case(11, false)]
fn labels_have_a_limit(#[case] count: usize, #[case] is_right: bool) {
    let labels =
        |from: usize, to: usize| (from..to).map(|i| format!("\"k{i}\" = \"v\"")).collect::<Vec<_>>().join(", ");
    assert_eq!(format!("RowCount > 1 labels = [{}]", labels(0, count)).parse::<Rule>().is_ok(), is_right);
    let set = format!("DefaultLabels = [{}] Rules = [ RowCount > 1 labels = [{}] ]", labels(0, 5), labels(5, count));
    assert_eq!(parse(&set).is_ok(), is_right);
    let replaced = format!("DefaultLabels = [{}] Rules = [ RowCount > 1 labels = [{}] ]", labels(0, 5), labels(0, 10));
    assert!(parse(&replaced).is_ok());
}

#[rstest]
#[case(128, 256, true)]
#[case(129, 256, false)]
#[case(128, 257, false)]
fn texts_of_labels_have_limits(#[case] key: usize, #[case] value: usize, #[case] is_right: bool) {
    let rule = format!("RowCount > 1 labels = [\"{}\" = \"{}\"]", "ä".repeat(key), "é".repeat(value));
    assert_eq!(rule.parse::<Rule>().is_ok(), is_right);
}

#[test]
fn patterns_and_tags_have_limits() {
    let pattern = |bytes: usize| format!("ColumnValues a matches \"{}\"", "a".repeat(bytes)).parse::<Rule>().is_ok();
    assert!(pattern(10_000) && !pattern(10_001));
    let tags = |count: usize| {
        let tags: String = (0..count).map(|i| format!(" with t{i} = 1")).collect();
        format!("RowCount > 1{tags}").parse::<Rule>().is_ok()
    };
    assert!(tags(32) && !tags(33));
}

const BYTES: usize = 1 << 20;

fn repeated(before: &str, item: impl Fn(usize) -> String, after: &str) -> String {
    let mut text = before.to_owned();
    for i in 0.. {
        if text.len() + after.len() >= BYTES {
            break;
        }
        text.push_str(&item(i));
    }
    text + after
}

/// A megabyte of what might take more than its share. An unoptimised build takes well under a second for each on the
/// slowest machine that we have; what grows with the square of the text takes minutes.
#[rstest]
#[case::rules(repeated("Rules = [ ", |i| format!("IsComplete \"c{i}\", "), "RowCount > 1 ]"))]
#[case::lines(repeated("Rules = [ ", |i| format!("\n IsComplete \"c{i}\", "), "RowCount > 1 ]"))]
#[case::parts(repeated("Rules = [ ", |i| format!("(IsComplete \"c{i}\") and "), "RowCount > 1 ]"))]
#[case::parameters(repeated("Rules = [ IsUnique", |_| " a".into(), " ]"))]
#[case::connected(repeated("Rules = [ IsUnique a", |_| " and a".into(), " ]"))]
#[case::a_list(repeated("Rules = [ ColumnValues a in [", |i| format!("{i}, "), "1] ]"))]
#[case::a_sum(repeated("Rules = [ RowCount > 1", |_| "+1".into(), " ]"))]
#[case::a_text(repeated("Rules = [ CustomSql \"", |_| "\\\"\\\\x\\y".into(), "\" ]"))]
#[case::comments(repeated("", |_| "#\n".into(), "Rules = [ RowCount > 1 ]"))]
#[case::variables(repeated("", |i| format!("v{i} = \"a\" "), "Rules = [ IsComplete $v1 ]"))]
#[case::uses_of_a_long_variable(repeated(
    &format!("l = [{}\"a\"] t = \"{}\" Rules = [ ", "\"a\", ".repeat(BYTES / 20), "a".repeat(BYTES / 4)),
    |_| "ColumnValues c in $l, IsComplete $t, ".into(),
    "RowCount > 1 ]",
))]
#[case::patterns(repeated("Rules = [ ", |_| "ColumnValues c matches \"[a-z]+@\\w{2,5}\", ".into(), "RowCount > 1 ]"))]
#[case::digits(repeated("Rules = [ RowCount > 1", |_| "1".into(), " ]"))]
fn a_megabyte_is_read_and_printed_in_a_moment(#[case] text: String) {
    let start = Instant::now();
    let set = parse(&text).unwrap();
    let printed = set.to_string();
    let taken = start.elapsed();
    assert!(printed.len() < 2 * BYTES, "{} bytes", printed.len());
    assert!(taken < Duration::from_secs(20), "{taken:?}");
}

/// The same for what is wrong.
#[rstest]
#[case::open(repeated("Rules = [ ", |_| "(".into(), ""))]
#[case::unclosed(repeated("Rules = [ \"", |_| "\\\"".into(), ""))]
#[case::an_unknown_type(repeated("Rules = [ ", |_| "a".into(), " ]"))]
#[case::an_unknown_variable(repeated("", |i| format!("v{i} = \"a\" "), &format!("Rules = [ IsComplete ${} ]", "v".repeat(64))))]
#[case::an_error_at_the_end(repeated("Rules = [ ", |i| format!("IsComplete \"c{i}\", "), " ]"))]
#[case::strange(repeated("", |_| "ä".into(), ""))]
fn a_megabyte_is_refused_in_a_moment(#[case] text: String) {
    let start = Instant::now();
    let error = parse(&text).unwrap_err();
    let taken = start.elapsed();
    assert!(error.to_string().len() < 1000);
    assert!(taken < Duration::from_secs(20), "{taken:?}");
}
