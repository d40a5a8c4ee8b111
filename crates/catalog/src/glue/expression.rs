//! Predicates in the language of Glue's `GetPartitions`, a subset of SQL.

use crate::hive_type::HiveType;
use crate::predicate::{BoundPredicate, BoundTerm, Comparison};
use crate::table::NULL_PARTITION;

/// The longest expression that Glue accepts, in bytes.
const MAX_LENGTH: usize = 2048;

/// The part of a predicate that Glue can evaluate, if any. It selects a superset of what the predicate selects: the
/// caller has to filter the result.
pub(super) fn of(predicate: &BoundPredicate) -> Option<String> {
    let mut expression = String::new();
    for term in predicate.terms() {
        let Some(text) = comparison(term) else { continue };
        let and = if expression.is_empty() { "" } else { " AND " };
        if expression.len() + and.len() + text.len() <= MAX_LENGTH {
            expression.push_str(and);
            expression.push_str(&text);
        }
    }
    (!expression.is_empty()).then_some(expression)
}

fn comparison(bound: &BoundTerm) -> Option<String> {
    let name = bound.term.key.as_str();
    // Other names would need quotes, and Glue does not document how it parses them.
    if !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let literals: Vec<String> =
        bound.term.literals.iter().map(|text| literal(&bound.data_type, text)).collect::<Option<_>>()?;
    let operator = match bound.term.comparison {
        // Nearly all partitions differ from a given value, so it would not filter much.
        Comparison::NotEq => return None,
        Comparison::In => return one_of(name, bound, &literals),
        operator => operator,
    };
    Some(format!("({name} {operator} {})", literals.first()?))
}

/// A list that is too long for an expression becomes the range that it spans.
fn one_of(name: &str, bound: &BoundTerm, literals: &[String]) -> Option<String> {
    let list = format!("({name} IN ({}))", literals.join(", "));
    if literals.is_empty() || list.len() <= MAX_LENGTH / 2 {
        return (!literals.is_empty()).then_some(list);
    }
    let (least, greatest) = bound.range()?;
    Some(format!("({name} >= {} AND {name} <= {})", literals.get(least)?, literals.get(greatest)?))
}

/// A literal of the types that Glue compares as we do.
fn literal(data_type: &HiveType, text: &str) -> Option<String> {
    // Nothing compares with null, but Glue does not know that this is null.
    if text == NULL_PARTITION {
        return None;
    }
    match data_type {
        // They have been parsed, so they consist of digits and a sign.
        HiveType::TinyInt | HiveType::SmallInt | HiveType::Int | HiveType::BigInt => {
            text.parse::<i64>().ok().map(|number| number.to_string())
        }
        HiveType::Decimal(..) => Some(text.trim_start_matches('+').to_owned()),
        HiveType::Date => Some(format!("'{text}'")),
        // Whether a backslash escapes is not documented.
        HiveType::String if !text.contains('\\') => Some(format!("'{}'", text.replace('\'', "''"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::Comparison::{Eq, Gt, GtEq, Lt, NotEq};
    use crate::{Column, Predicate, TableDescription, TableFormat};

    fn expression(predicate: Predicate) -> Option<String> {
        let keys = [
            ("year", "int"),
            ("city", "string"),
            ("day", "date"),
            ("amount", "decimal(10,2)"),
            ("code", "varchar(3)"),
            ("at", "timestamp"),
            ("two words", "string"),
        ];
        let table = TableDescription::new("lake", "sales", &TableFormat::Parquet, "s3://lake/sales")
            .with_partition_keys(keys.map(|(name, data_type)| Column::foreign(name, data_type)));
        of(&predicate.bind(&table).unwrap())
    }

    #[rstest]
    #[case(Predicate::all(), None)]
    #[case(Predicate::all().and("Year", GtEq, "02020"), Some("(year >= 2020)"))]
    #[case(Predicate::all().and("year", NotEq, 2020), None)]
    #[case(Predicate::all().and("year", Gt, -1).and("city", Lt, "it's"), Some("(year > -1) AND (city < 'it''s')"))]
    #[case(Predicate::all().and("day", Eq, "2026-07-01"), Some("(day = '2026-07-01')"))]
    #[case(Predicate::all().and("amount", Eq, "+9.50"), Some("(amount = 9.50)"))]
    #[case(Predicate::all().and_in("city", ["Köln", "' OR 1=1"]), Some("(city IN ('Köln', ''' OR 1=1'))"))]
    #[case(Predicate::all().and_in("city", [""; 0]), None)]
    #[case(Predicate::all().and("city", Eq, "a\\b"), None)]
    #[case(Predicate::all().and("city", Eq, NULL_PARTITION), None)]
    #[case(Predicate::all().and("code", Eq, "x").and("at", Eq, "2026-07-01").and("two words", Eq, "x"), None)]
    #[case(Predicate::all().and("code", Eq, "x").and("year", Eq, 1), Some("(year = 1)"))]
    #[case(Predicate::all().and_in("year", (1..1000).rev()), Some("(year >= 1 AND year <= 999)"))]
    fn predicates_are_pushed_as_far_as_it_goes(#[case] predicate: Predicate, #[case] expected: Option<&str>) {
        assert_eq!(expression(predicate).as_deref(), expected);
    }

    #[test]
    fn an_expression_is_never_too_long() {
        let many = (0..100).fold(Predicate::all(), |all, i| all.and("city", GtEq, format!("{i:030}")));
        let length = expression(many).unwrap().len();
        assert!((MAX_LENGTH - 100..=MAX_LENGTH).contains(&length), "{length}");
        assert_eq!(expression(Predicate::all().and("city", Eq, "x".repeat(3000))), None);
    }
}
