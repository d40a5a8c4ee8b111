//! Translates filters of a query into catalog predicates.

use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use hardtack_catalog::{Comparison, NULL_PARTITION, Predicate, TableDescription};

/// The part of these filters, all on partition keys, that the catalog can evaluate. It may select more partitions than
/// the filters do, never fewer.
pub(crate) fn predicate(table: &TableDescription, filters: &[Expr]) -> Predicate {
    let terms = filters.iter().flat_map(split_conjunction);
    terms.fold(Predicate::all(), |predicate, term| {
        // DataFusion compares a literal that is not a partition value, such as a date after the year 9999.
        let understood = and(Predicate::all(), term).is_some_and(|alone| alone.bind(table).is_ok());
        if understood { and(predicate.clone(), term).unwrap_or(predicate) } else { predicate }
    })
}

/// The predicate with one more term, if it can be expressed.
fn and(predicate: Predicate, term: &Expr) -> Option<Predicate> {
    match term {
        // DataFusion simplifies short lists to `key = a or key = b`,
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            let (key, values) = any_of(term)?;
            Some(predicate.and_in(key, values))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (key, op, value) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(key), Expr::Literal(value, _)) => (key, *op, value),
                (Expr::Literal(value, _), Expr::Column(key)) => (key, op.swap()?, value),
                _ => return None,
            };
            Some(predicate.and(&key.name, comparison(op)?, text(value)?))
        }
        Expr::InList(_) => {
            let (key, values) = any_of(term)?;
            Some(predicate.and_in(key, values))
        }
        // and `flag = true` and `flag = false` to this.
        Expr::Column(flag) => Some(predicate.and(&flag.name, Comparison::Eq, true)),
        Expr::Not(flag) => match flag.as_ref() {
            Expr::Column(flag) => Some(predicate.and(&flag.name, Comparison::Eq, false)),
            _ => None,
        },
        _ => None,
    }
}

/// The key and the values, if the term compares one key with several values.
fn any_of(term: &Expr) -> Option<(&str, Vec<String>)> {
    let (key, values): (_, Vec<&Expr>) = match term {
        Expr::InList(InList { expr, list, negated: false }) => (expr.as_ref(), list.iter().collect()),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match left.as_ref() {
            Expr::Literal(..) => (right.as_ref(), vec![left.as_ref()]),
            _ => (left.as_ref(), vec![right.as_ref()]),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((key, mut values), (other, more)) = (any_of(left)?, any_of(right)?);
            values.extend(more);
            return (key == other).then_some((key, values));
        }
        _ => return None,
    };
    let Expr::Column(key) = key else { return None };
    let literal = |value: &Expr| match value {
        Expr::Literal(value, _) => text(value),
        _ => None,
    };
    Some((&key.name, values.into_iter().map(literal).collect::<Option<_>>()?))
}

fn comparison(op: Operator) -> Option<Comparison> {
    Some(match op {
        Operator::Eq => Comparison::Eq,
        Operator::NotEq => Comparison::NotEq,
        Operator::Lt => Comparison::Lt,
        Operator::LtEq => Comparison::LtEq,
        Operator::Gt => Comparison::Gt,
        Operator::GtEq => Comparison::GtEq,
        _ => return None,
    })
}

/// A literal in the notation of partition values. Floats are left out: their equality differs between text and number.
fn text(value: &ScalarValue) -> Option<String> {
    use ScalarValue as S;
    match value {
        S::Int8(Some(n)) => Some(n.to_string()),
        S::Int16(Some(n)) => Some(n.to_string()),
        S::Int32(Some(n)) => Some(n.to_string()),
        S::Int64(Some(n)) => Some(n.to_string()),
        S::Boolean(Some(b)) => Some(b.to_string()),
        // Partition values are never empty, and catalogs reject an empty literal. One that is written like null
        // compares with nothing there, but is an ordinary text here.
        S::Utf8(Some(s)) | S::Utf8View(Some(s)) | S::LargeUtf8(Some(s)) => {
            (!s.is_empty() && s != NULL_PARTITION).then(|| s.clone())
        }
        S::Date32(Some(_)) | S::Decimal128(Some(_), ..) | S::TimestampMicrosecond(Some(_), None) => {
            let text = array_value_to_string(&value.to_array().ok()?, 0).ok()?;
            // Years of more than four digits have a sign, which no catalog parses.
            (!text.starts_with('+')).then(|| text.replace('T', " "))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, in_list, lit, not};
    use hardtack_catalog::{Column, TableFormat};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(col("year").eq(lit(2020)), "year = 2020")]
    #[case(lit(2020_i64).lt(col("year")), "year > 2020")]
    #[case(col("year").gt_eq(lit(1)).and(col("city").not_eq(lit("Köln"))), "year >= 1 and city != Köln")]
    #[case(in_list(col("city"), vec![lit("a b"), lit("c")], false), "city in (a b, c)")]
    #[case(in_list(col("city"), vec![lit("a"), lit("c")], true), "")]
    #[case(in_list(col("city"), vec![lit("a"), lit("")], false), "")]
    #[case(col("day").lt_eq(lit(ScalarValue::Date32(Some(19_782)))), "day <= 2024-02-29")]
    #[case(col("day").lt(lit(ScalarValue::Date32(Some(9_999_999)))), "")]
    #[case(col("at").eq(lit(ScalarValue::TimestampMicrosecond(Some(500_000), None))), "at = 1970-01-01 00:00:00.500")]
    #[case(col("price").eq(lit(ScalarValue::Decimal128(Some(-150), 5, 2))), "price = -1.50")]
    #[case(col("flag").and(not(col("flag"))), "flag = true and flag = false")]
    #[case(col("rate").gt(lit(0.5)), "")]
    #[case(col("city").eq(lit(ScalarValue::Utf8(None))), "")]
    #[case(col("city").is_null(), "")]
    #[case(col("year").eq(lit(1)).or(lit(2).eq(col("year"))), "year in (1, 2)")]
    #[case(col("year").eq(lit(1)).or(in_list(col("year"), vec![lit(2)], false)), "year in (1, 2)")]
    #[case(col("year").eq(lit(1)).or(col("day").eq(lit(ScalarValue::Date32(Some(0))))), "")]
    #[case(col("year").eq(lit(1)).or(col("year").gt(lit(7))), "")]
    #[case((col("year") % lit(2)).eq(lit(0)).and(col("year").gt(lit(7))), "year > 7")]
    fn filters_become_predicates_as_far_as_these_go(#[case] filter: Expr, #[case] expected: &str) {
        let keys = [
            ("year", "int"),
            ("city", "string"),
            ("day", "date"),
            ("at", "timestamp"),
            ("price", "decimal(5,2)"),
            ("flag", "boolean"),
            ("rate", "double"),
        ];
        let table = TableDescription::new("lake", "t", &TableFormat::Json, "memory:/t")
            .with_partition_keys(keys.map(|(name, of)| Column::foreign(name, of)));
        assert_eq!(predicate(&table, &[filter]).to_string(), expected);
    }
}
