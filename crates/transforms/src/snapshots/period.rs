//! Days and months.

use chrono::{Datelike, Days, Months, NaiveDate};
use datafusion::arrow::datatypes::{DataType, Date32Type, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{cast, lit};
use datafusion::prelude::Expr;
use hardtack_core::sql::date_trunc;
use hardtack_core::{Error, Result};

use crate::columns::type_name;

/// The length of a snapshot's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

impl Period {
    /// The first day of the period of a date.
    pub(super) fn of(self, date: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => date,
            Self::Month => date.with_day(1).unwrap_or(date),
        }
    }

    /// The period after the one that begins with this date; none at the end of the calendar.
    pub(super) fn after(self, first: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Day => first.checked_add_days(Days::new(1)),
            Self::Month => first.checked_add_months(Months::new(1)),
        }
    }

    /// The first day of the period of a date or timestamp.
    pub(super) fn beginning(self, date: Expr, of: &DataType) -> Expr {
        let moment = match of {
            DataType::Date32 if self == Self::Day => return date,
            DataType::Date32 => cast(date, DataType::Timestamp(TimeUnit::Second, None)),
            _ => date,
        };
        let precision = match self {
            Self::Day => "day",
            Self::Month => "month",
        };
        cast(date_trunc(lit(precision), moment), DataType::Date32)
    }

    /// Checks that a column says which day it is, wherever it is read.
    pub(super) fn check(column: &str, data_type: &DataType) -> Result<()> {
        let is_utc = |zone: &str| matches!(zone, "UTC" | "Z" | "+00:00" | "Etc/UTC");
        match data_type {
            DataType::Date32 | DataType::Timestamp(_, None) => Ok(()),
            DataType::Timestamp(_, Some(zone)) if is_utc(zone) => Ok(()),
            other => {
                Err(Error::usage("the date of an event must be a date, or a timestamp without a time zone or in UTC")
                    .with("column", column)
                    .with("type", type_name(other))
                    .hint("cast it to a date first"))
            }
        }
    }
}

/// Consecutive periods.
pub(super) struct Periods {
    period: Period,
    next: Option<NaiveDate>,
    last: NaiveDate,
}

impl Periods {
    /// From the one that begins with `first` through the one that begins with `last`.
    pub(super) fn new(period: Period, first: NaiveDate, last: NaiveDate) -> Self {
        Self { period, next: Some(first), last }
    }
}

impl Iterator for Periods {
    type Item = NaiveDate;

    fn next(&mut self) -> Option<NaiveDate> {
        let next = self.next.filter(|next| *next <= self.last)?;
        self.next = self.period.after(next);
        Some(next)
    }
}

pub(super) fn scalar(date: NaiveDate) -> ScalarValue {
    ScalarValue::Date32(Some(Date32Type::from_naive_date(date)))
}

/// The date of this many days since 1970.
pub(super) fn date(days: i32) -> Result<NaiveDate> {
    let date = days.checked_add(EPOCH_FROM_CE).and_then(NaiveDate::from_num_days_from_ce_opt);
    date.ok_or_else(|| Error::refused("a date is beyond the calendar").with("days since 1970", days))
}

const EPOCH_FROM_CE: i32 = 719_163;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(date: &str) -> NaiveDate {
        date.parse().unwrap()
    }

    #[rstest]
    #[case(Period::Month, "2024-02-29", "2024-02-01", "2024-03-01")]
    #[case(Period::Month, "2023-12-31", "2023-12-01", "2024-01-01")]
    #[case(Period::Day, "2024-02-28", "2024-02-28", "2024-02-29")]
    fn periods_follow_one_another(#[case] period: Period, #[case] date: &str, #[case] first: &str, #[case] next: &str) {
        let (first, next) = (parse(first), parse(next));
        assert_eq!(period.of(parse(date)), first);
        assert_eq!(period.after(first), Some(next));
        assert_eq!(Periods::new(period, first, next).collect::<Vec<_>>(), [first, next]);
        assert_eq!(Periods::new(period, next, first).count(), 0);
    }

    #[test]
    fn the_calendar_ends() {
        assert_eq!(date(0).unwrap(), parse("1970-01-01"));
        assert_eq!(date(-1).unwrap(), parse("1969-12-31"));
        assert!(date(i32::MAX).is_err() && date(i32::MIN).is_err());
        assert_eq!(Periods::new(Period::Month, Period::Month.of(NaiveDate::MAX), NaiveDate::MAX).count(), 1);
    }
}
