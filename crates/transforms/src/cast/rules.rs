//! Type-level reasons why a column cannot get its declared type.

use datafusion::arrow::datatypes::{DataType, Field};
use hardtack_catalog::types::{Policy, entry, plain};
use hardtack_core::Error;

use crate::columns::type_name;

/// Why a column can never get its declared type; known before any row flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A column or field is declared but missing.
    Missing(String),
    /// A field exists but is not declared, where that matters.
    Undeclared(String),
    /// There is no cast from one type to the other.
    Cast { column: String, from: DataType, to: DataType },
}

impl Problem {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Missing(column) => Error::refused("a declared field is missing").with("column", column),
            Self::Undeclared(column) => {
                Error::refused("a field is not declared and would be lost").with("column", column)
            }
            Self::Cast { column, from, to } => {
                let hint = match (&from, &to) {
                    (f, DataType::Timestamp(..)) if f.is_numeric() => {
                        "; choose its unit, for example with to_timestamp_millis"
                    }
                    (f, DataType::Date32 | DataType::Date64) if f.is_numeric() => "; state how it counts days",
                    (DataType::Timestamp(..), t) if t.is_numeric() => "; choose the unit, for example with date_part",
                    _ => "",
                };
                Error::refused(format!("a column cannot become the declared type{hint}"))
                    .with("column", column)
                    .with("type", type_name(&from))
                    .with("declared", type_name(&to))
            }
        }
    }
}

/// What happens to fields of structs that only one side has. Columns are up to the caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) fill_missing: bool,
    pub(crate) drop_undeclared: bool,
}

impl Fields {
    /// The declared fields, null where they are missing.
    pub(crate) const DECLARED: Self = Self { fill_missing: true, drop_undeclared: true };
}

/// Checks whether values of `from` may fit `to`.
pub(super) fn check(
    policy: Policy,
    from: &DataType,
    to: &DataType,
    column: &str,
    fields: Fields,
    problems: &mut Vec<Problem>,
) {
    use DataType::*;
    let mut inside = |from: &Field, to: &Field, path: String| {
        check(policy, from.data_type(), to.data_type(), &path, fields, problems);
    };
    match (plain(from), to) {
        (from, to) if from == to => {}
        (Struct(from), Struct(to)) => {
            let mut missing = Vec::new();
            for field in to {
                let path = format!("{column}.{}", field.name());
                match from.iter().find(|f| f.name() == field.name()) {
                    Some(f) => inside(f, field, path),
                    None if fields.fill_missing && field.is_nullable() => {}
                    None => missing.push(Problem::Missing(path)),
                }
            }
            problems.extend(missing);
            let undeclared = from.iter().filter(|f| !to.iter().any(|t| t.name() == f.name()));
            if !fields.drop_undeclared {
                problems.extend(undeclared.map(|f| Problem::Undeclared(format!("{column}.{}", f.name()))));
            }
        }
        (FixedSizeList(from, n), FixedSizeList(to, m)) if n == m => inside(from, to, format!("{column}[]")),
        (
            List(from) | LargeList(from) | FixedSizeList(from, _) | ListView(from) | LargeListView(from),
            List(to) | LargeList(to),
        ) => inside(from, to, format!("{column}[]")),
        (Map(from, _), Map(to, _)) => match (entry(from), entry(to)) {
            (Some(from), Some(to)) => {
                inside(&from[0], &to[0], format!("{column}[key]"));
                inside(&from[1], &to[1], format!("{column}[value]"));
            }
            _ => problems.push(Problem::Cast {
                column: column.to_owned(),
                from: Map(from.clone(), false),
                to: to.data_type().clone(),
            }),
        },
        (from, to) if policy.fit(from, to).is_some() => {}
        (from, to) => problems.push(Problem::Cast { column: column.to_owned(), from: from.clone(), to: to.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use hardtack_catalog::HiveType;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "bigint",
        "timestamp",
        "a column cannot become the declared type; choose its unit, for example with to_timestamp_millis"
    )]
    #[case("double", "date", "a column cannot become the declared type; state how it counts days")]
    #[case(
        "timestamp",
        "bigint",
        "a column cannot become the declared type; choose the unit, for example with date_part"
    )]
    #[case("array<int>", "timestamp", "a column cannot become the declared type")]
    #[case("array<int>", "date", "a column cannot become the declared type")]
    #[case("timestamp", "array<int>", "a column cannot become the declared type")]
    #[case("struct<x:int>", "string", "a column cannot become the declared type")]
    #[case("array<struct<x:date>>", "array<struct<x:int>>", "a column cannot become the declared type")]
    #[case("boolean", "double", "a column cannot become the declared type")]
    fn what_has_no_one_meaning_is_refused_at_once(#[case] from: &str, #[case] to: &str, #[case] message: &str) {
        let data_type = |hive: &str| DataType::from(&hive.parse::<HiveType>().unwrap());
        let fields = Fields { fill_missing: false, drop_undeclared: true };
        let mut problems = Vec::new();
        check(Policy::Coerce, &data_type(from), &data_type(to), "c", fields, &mut problems);
        assert_eq!(problems.swap_remove(0).into_error().message(), message);
    }
}
