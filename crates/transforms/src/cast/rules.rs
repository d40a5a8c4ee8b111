//! Which casts there are, and when they lose nothing.

use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use hardtack_core::Error;

use crate::columns::type_name;

/// When a value of one scalar type fits another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Always.
    Always,
    /// When it can be read.
    Readable,
    /// When casting it back gives the same value.
    RoundTrip,
    /// When it is not too large; a float is an approximation anyway and may be rounded.
    InRange,
}

/// `None` where nothing is sensible, or more than one thing: which unit has a number that should be a timestamp?
pub(super) fn rule(from: &DataType, to: &DataType) -> Option<Rule> {
    use DataType::*;
    let from = plain(from);
    Some(match (from, to) {
        (from, to) if from == to => Rule::Always,
        (Null, _) => Rule::Always,
        (from, to) if !can_cast_types(from, to) => return None,
        (from, to) if from.is_string() && (to.is_string() || to.is_binary()) => Rule::Always,
        (from, Boolean | Date32 | Date64 | Timestamp(..) | Time32(_) | Time64(_)) if from.is_string() => Rule::Readable,
        (from, to) if from.is_string() && to.is_numeric() => Rule::Readable,
        (from, to) if from.is_binary() && to.is_binary() => match to {
            FixedSizeBinary(_) => Rule::Readable,
            _ => Rule::Always,
        },
        (from, to) if from.is_binary() && to.is_string() => Rule::Readable,
        (Boolean | Date32 | Date64 | Timestamp(..) | Time32(_) | Time64(_), to) if to.is_string() => Rule::Always,
        (from, to) if from.is_numeric() && to.is_string() => Rule::Always,
        (Boolean, to) if to.is_integer() => Rule::Always,
        (from, Boolean) if from.is_integer() => Rule::RoundTrip,
        (from, to) if from.is_numeric() && to.is_numeric() => match (from, to) {
            _ if widens(from, to) => Rule::Always,
            _ if from.is_floating() && to.is_floating() => Rule::InRange,
            _ => Rule::RoundTrip,
        },
        (Date32, Date64) => Rule::Always,
        (Date64, Date32) => Rule::RoundTrip,
        (Date32 | Date64, Timestamp(..)) | (Timestamp(..), Date32 | Date64) => Rule::RoundTrip,
        // Arrow takes a timestamp without zone as the time on the wall of the target's zone; here it is in UTC.
        (Timestamp(a, zone), Timestamp(b, to)) if a == b && (zone.is_some() || to.as_deref().is_none_or(is_utc)) => {
            Rule::Always
        }
        (Timestamp(..), Timestamp(..)) | (Time32(_) | Time64(_), Time32(_) | Time64(_)) => Rule::RoundTrip,
        _ => return None,
    })
}

/// Whether values of two types can be compared without changing any.
pub(crate) fn comparable(a: &DataType, b: &DataType) -> bool {
    let (a, b) = (plain(a), plain(b));
    let both = |test: fn(&DataType) -> bool| test(a) && test(b);
    a == b
        || both(DataType::is_string)
        || both(DataType::is_binary)
        || both(|t| matches!(t, DataType::Timestamp(..)))
        || both(DataType::is_numeric) && (widens(a, b) || widens(b, a))
}

/// The type of the values, however they are encoded.
pub(crate) fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        DataType::RunEndEncoded(_, values) => values.data_type(),
        other => other,
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z")
}

/// Whether every number of one type is a number of the other.
fn widens(from: &DataType, to: &DataType) -> bool {
    let bits = |t: &DataType| t.primitive_width().map_or(0, |bytes| bytes * 8);
    let (from_bits, to_bits) = (bits(from), bits(to));
    match (from, to, decimal(from), decimal(to)) {
        (_, _, Some((p, s)), Some((precision, scale))) => {
            scale >= s && i16::from(precision) - i16::from(scale) >= i16::from(p) - i16::from(s)
        }
        (_, _, None, Some((precision, scale))) if from.is_integer() => {
            let digits = match from_bits {
                8 => 3,
                16 => 5,
                32 => 10,
                _ if from.is_signed_integer() => 19,
                _ => 20,
            };
            scale >= 0 && digits + i16::from(scale) <= i16::from(precision)
        }
        (_, _, None, None) if from.is_integer() && to.is_integer() => {
            match (from.is_signed_integer(), to.is_signed_integer()) {
                (true, false) => false,
                (false, true) => from_bits < to_bits,
                _ => from_bits <= to_bits,
            }
        }
        // A float of 16, 32, 64 bits counts without gaps to 2^11, 2^24, 2^53.
        (_, _, None, None) if from.is_integer() => from_bits < to_bits,
        (_, _, None, None) => from_bits <= to_bits,
        _ => false,
    }
}

pub(super) fn decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => Some((*p, *s)),
        _ => None,
    }
}

/// What keeps a column from ever becoming what is declared; known before any row flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A column or field is declared and not there.
    Missing(String),
    /// A field is there and not declared, where that matters.
    Undeclared(String),
    /// No cast leads from the one type to the other.
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
                        "; say which unit it has, with to_timestamp_millis say"
                    }
                    (f, DataType::Date32 | DataType::Date64) if f.is_numeric() => "; say how it counts the days",
                    (DataType::Timestamp(..), t) if t.is_numeric() => "; say which unit is wanted, with date_part say",
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

/// What happens to fields of structs that only one side has. Columns are their callers' business.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) fill_missing: bool,
    pub(crate) drop_undeclared: bool,
}

/// Finds out whether values of `from` may fit `to`.
pub(super) fn check(from: &DataType, to: &DataType, column: &str, policy: Policy, problems: &mut Vec<Problem>) {
    use DataType::*;
    match (plain(from), to) {
        (from, to) if from == to => {}
        (Struct(from), Struct(to)) => {
            for field in to {
                let path = format!("{column}.{}", field.name());
                match from.iter().find(|f| f.name() == field.name()) {
                    Some(f) => check(f.data_type(), field.data_type(), &path, policy, problems),
                    None if policy.fill_missing && field.is_nullable() => {}
                    None => problems.push(Problem::Missing(path)),
                }
            }
            let undeclared = from.iter().filter(|f| !to.iter().any(|t| t.name() == f.name()));
            if !policy.drop_undeclared {
                problems.extend(undeclared.map(|f| Problem::Undeclared(format!("{column}.{}", f.name()))));
            }
        }
        (
            List(from) | LargeList(from) | FixedSizeList(from, _) | ListView(from) | LargeListView(from),
            List(to) | LargeList(to),
        ) => check(from.data_type(), to.data_type(), &format!("{column}[]"), policy, problems),
        (Map(from, _), Map(to, _)) => match (entry(from), entry(to)) {
            (Some(from), Some(to)) => {
                check(from[0].data_type(), to[0].data_type(), &format!("{column}[key]"), policy, problems);
                check(from[1].data_type(), to[1].data_type(), &format!("{column}[value]"), policy, problems);
            }
            _ => problems.push(Problem::Cast {
                column: column.to_owned(),
                from: Map(from.clone(), false),
                to: to.data_type().clone(),
            }),
        },
        (from, to) if rule(from, to).is_some() => {}
        (from, to) => problems.push(Problem::Cast { column: column.to_owned(), from: from.clone(), to: to.clone() }),
    }
}

pub(super) fn entry(entries: &Field) -> Option<&Fields> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some(fields),
        _ => None,
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
        "a column cannot become the declared type; say which unit it has, with to_timestamp_millis say"
    )]
    #[case("double", "date", "a column cannot become the declared type; say how it counts the days")]
    #[case(
        "timestamp",
        "bigint",
        "a column cannot become the declared type; say which unit is wanted, with date_part say"
    )]
    #[case("struct<x:int>", "string", "a column cannot become the declared type")]
    #[case("array<struct<x:date>>", "array<struct<x:int>>", "a column cannot become the declared type")]
    #[case("boolean", "double", "a column cannot become the declared type")]
    fn what_has_no_one_meaning_is_refused_at_once(#[case] from: &str, #[case] to: &str, #[case] message: &str) {
        let data_type = |hive: &str| DataType::from(&hive.parse::<HiveType>().unwrap());
        let policy = Policy { fill_missing: false, drop_undeclared: true };
        let mut problems = Vec::new();
        check(&data_type(from), &data_type(to), "c", policy, &mut problems);
        assert_eq!(problems.swap_remove(0).into_error().message(), message);
    }
}
