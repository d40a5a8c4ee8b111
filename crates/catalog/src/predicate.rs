//! Predicates that select partitions.

use std::cmp::Ordering;
use std::fmt;

use hardtack_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::hive_type::HiveType;
use crate::name;
use crate::table::TableDescription;
use crate::value::PartitionValue;

/// A conjunction of comparisons between partition keys and literals: small enough for every catalog to evaluate.
///
/// Values compare as their key's type, so `9` precedes `10` for an integer. As in SQL, nothing compares with null: a
/// partition whose value is null is selected only if no comparison names its key.
///
/// ```
/// use hardtack_catalog::{Comparison, Predicate};
///
/// let recent = Predicate::all().and("year", Comparison::GtEq, 2020).and_in("city", ["Berlin", "Köln"]);
/// assert_eq!(recent.to_string(), "year >= 2020 and city in (Berlin, Köln)");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicate {
    terms: Vec<Term>,
}

/// One comparison of a [`Predicate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Term {
    pub(crate) key: String,
    pub(crate) comparison: Comparison,
    /// A single one, except for [`Comparison::In`].
    pub(crate) literals: Vec<String>,
}

/// How a partition key is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `!=`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
    /// `in (...)`: equal to one of the literals
    In,
}

impl Comparison {
    fn holds(self, value: &PartitionValue, literals: &[PartitionValue]) -> bool {
        literals.iter().any(|literal| {
            value.compare(literal).is_some_and(|order| match self {
                Self::Eq | Self::In => order == Ordering::Equal,
                Self::NotEq => order != Ordering::Equal,
                Self::Lt => order == Ordering::Less,
                Self::LtEq => order != Ordering::Greater,
                Self::Gt => order == Ordering::Greater,
                Self::GtEq => order != Ordering::Less,
            })
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "=",
            Self::NotEq => "!=",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
            Self::In => "in",
        })
    }
}

impl Predicate {
    /// Every partition.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether every partition is selected.
    pub fn is_all(&self) -> bool {
        self.terms.is_empty()
    }

    /// Keeps the partitions whose `key` compares like this with `literal`, which is written like a partition value:
    /// `2026`, `2026-07-01`.
    #[must_use]
    pub fn and(mut self, key: impl Into<String>, comparison: Comparison, literal: impl ToString) -> Self {
        self.terms.push(Term { key: key.into(), comparison, literals: vec![literal.to_string()] });
        self
    }

    /// Keeps the partitions whose `key` is one of `literals`.
    #[must_use]
    pub fn and_in<L: ToString>(mut self, key: impl Into<String>, literals: impl IntoIterator<Item = L>) -> Self {
        let literals = literals.into_iter().map(|l| l.to_string()).collect();
        self.terms.push(Term { key: key.into(), comparison: Comparison::In, literals });
        self
    }

    /// Parses the literals as the types of the table's keys.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a column that is not a partition key, or a literal that does not
    /// have its key's type.
    pub fn bind(&self, table: &TableDescription) -> Result<BoundPredicate> {
        let bind = |term: &Term| {
            let key = name::folded(&term.key);
            let position = table.partition_keys.iter().position(|k| name::folded(&k.name) == key).ok_or_else(|| {
                let keys: Vec<&str> = table.partition_keys.iter().map(|k| k.name.as_str()).collect();
                let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
                Error::usage(format!("`{key}` is not a partition key")).with("partition keys", keys)
            })?;
            let column = &table.partition_keys[position];
            let data_type = column.hive_type()?;
            let literals = term.literals.iter().map(|l| PartitionValue::parse_as(&data_type, column, l));
            let literals = literals.collect::<Result<_>>()?;
            Ok(BoundTerm { position, data_type, term: Term { key, ..term.clone() }, literals })
        };
        let terms = self.terms.iter().map(bind).collect::<Result<_>>();
        let terms = terms.map_err(|e| e.with("predicate", self).with("table", table.qualified_name()))?;
        Ok(BoundPredicate { terms, table: table.clone() })
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Term { key, comparison, literals }) in self.terms.iter().enumerate() {
            write!(f, "{}{key} {comparison} ", if i == 0 { "" } else { " and " })?;
            match comparison {
                Comparison::In => write!(f, "({})", literals.join(", "))?,
                _ => f.write_str(&literals.join(", "))?,
            }
        }
        Ok(())
    }
}

/// A [`Predicate`] on the partitions of one table.
#[derive(Debug, Clone)]
pub struct BoundPredicate {
    terms: Vec<BoundTerm>,
    table: TableDescription,
}

#[derive(Debug, Clone)]
pub(crate) struct BoundTerm {
    position: usize,
    pub(crate) data_type: HiveType,
    pub(crate) term: Term,
    literals: Vec<PartitionValue>,
}

#[cfg(feature = "aws")]
impl BoundTerm {
    /// The indexes of the least and the greatest literal.
    pub(crate) fn range(&self) -> Option<(usize, usize)> {
        let compare = |a: &&PartitionValue, b: &&PartitionValue| a.compare(b).unwrap_or(Ordering::Equal);
        let least = self.literals.iter().min_by(compare)?;
        let greatest = self.literals.iter().max_by(compare)?;
        let position = |wanted| self.literals.iter().position(|literal| literal == wanted);
        Some((position(least)?, position(greatest)?))
    }
}

impl BoundPredicate {
    /// Whether the partition with these values is selected.
    ///
    /// # Errors
    /// [`Refused`](hardtack_core::ErrorKind::Refused) if a compared value does not have its key's type. Ignoring it
    /// would silently lose rows.
    pub fn matches(&self, values: &[String]) -> Result<bool> {
        for BoundTerm { position, data_type, term, literals } in &self.terms {
            let text = values.get(*position).map_or("", String::as_str);
            let value =
                PartitionValue::parse_as(data_type, &self.table.partition_keys[*position], text).map_err(|e| {
                    Error::refused(
                        "the catalog has a partition whose value does not have its key's type; drop or repair it",
                    )
                    .with("table", self.table.qualified_name())
                    .with("partition", self.table.partition_name(values))
                    .because(e)
                })?;
            if !term.comparison.holds(&value, literals) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[cfg(feature = "aws")]
    pub(crate) fn terms(&self) -> &[BoundTerm] {
        &self.terms
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{Column, NULL_PARTITION, TableFormat};

    fn table() -> TableDescription {
        TableDescription::new("lake", "sales", &TableFormat::Parquet, "s3://lake/sales").with_partition_keys([
            Column::foreign("Year", "int"),
            Column::foreign("city", "string"),
            Column::foreign("day", "date"),
        ])
    }

    #[rstest]
    #[case(Predicate::all(), true)]
    #[case(Predicate::all().and("year", Comparison::Eq, 9), true)]
    #[case(Predicate::all().and("YEAR", Comparison::Lt, 10), true)]
    #[case(Predicate::all().and("year", Comparison::NotEq, "009"), false)]
    #[case(Predicate::all().and("year", Comparison::GtEq, 9).and("city", Comparison::Gt, "Z"), false)]
    #[case(Predicate::all().and_in("city", ["Köln", "Bonn"]), true)]
    #[case(Predicate::all().and_in("city", [""; 0]), false)]
    #[case(Predicate::all().and("day", Comparison::Eq, "2026-07-01"), false)]
    #[case(Predicate::all().and("day", Comparison::NotEq, "2026-07-01"), false)]
    #[case(Predicate::all().and("city", Comparison::Eq, NULL_PARTITION), false)]
    fn selects(#[case] predicate: Predicate, #[case] expected: bool) {
        let values = ["9", "Köln", NULL_PARTITION].map(str::to_owned);
        assert_eq!(predicate.bind(&table()).unwrap().matches(&values).unwrap(), expected, "{predicate}");
    }

    /// The partition is year 9, city Köln.
    #[rstest]
    #[case(Comparison::Eq, "=", [false, true, false])]
    #[case(Comparison::NotEq, "!=", [true, false, true])]
    #[case(Comparison::Lt, "<", [false, false, true])]
    #[case(Comparison::LtEq, "<=", [false, true, true])]
    #[case(Comparison::Gt, ">", [true, false, false])]
    #[case(Comparison::GtEq, ">=", [true, true, false])]
    #[case(Comparison::In, "in", [false, true, false])]
    fn values_compare_as_the_sign_says(#[case] is: Comparison, #[case] sign: &str, #[case] expected: [bool; 3]) {
        assert_eq!(is.to_string(), sign);
        let values = ["9", "Köln", NULL_PARTITION].map(str::to_owned);
        for (key, literals) in [("year", ["8", "9", "10"]), ("city", ["Bonn", "Köln", "Ulm"])] {
            let holds = literals.map(|literal| {
                Predicate::all().and(key, is, literal).bind(&table()).unwrap().matches(&values).unwrap()
            });
            assert_eq!(holds, expected, "{key} {sign}");
        }
    }

    #[test]
    fn it_is_printed_as_in_sql_and_without_terms_it_is_all() {
        assert!(Predicate::all().is_all());
        assert!(!Predicate::all().and("year", Comparison::Eq, 9).is_all());
        assert_eq!(Predicate::all().to_string(), "");
        let both = Predicate::all().and_in("city", ["Bonn", "Köln"]).and("year", Comparison::Gt, 9);
        assert_eq!(both.to_string(), "city in (Bonn, Köln) and year > 9");
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let bind = |p: Predicate| p.bind(&table());
        insta::assert_snapshot!(bind(Predicate::all().and("title", Comparison::Eq, "x")).unwrap_err(), @"`title` is not a partition key (partition keys: Year, city, day, predicate: title = x, table: lake.sales)");
        let unpartitioned = Predicate::all().and("year", Comparison::Eq, 1);
        let unpartitioned =
            unpartitioned.bind(&TableDescription::new("lake", "all", &TableFormat::Parquet, "s3://lake/all"));
        insta::assert_snapshot!(unpartitioned.unwrap_err(), @"`year` is not a partition key (partition keys: none, predicate: year = 1, table: lake.all)");
        insta::assert_snapshot!(bind(Predicate::all().and("year", Comparison::Gt, "x")).unwrap_err(), @"`x` is not a value of the type int (partition key: Year, predicate: year > x, table: lake.sales)");
        let years = bind(Predicate::all().and("year", Comparison::Gt, 5)).unwrap();
        let values = ["unknown", "Köln", "2026-07-01"].map(str::to_owned);
        insta::assert_snapshot!(years.matches(&values).unwrap_err().chain(), @"the catalog has a partition whose value does not have its key's type; drop or repair it (table: lake.sales, partition: Year=unknown/city=Köln/day=2026-07-01): `unknown` is not a value of the type int (partition key: Year)");
    }
}
