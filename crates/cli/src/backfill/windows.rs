//! The windows of a backfill.

use chrono::{DateTime, Datelike, Days, Months, NaiveTime, SecondsFormat, TimeDelta, Timelike, Utc};
use clap::ValueEnum;
use hardtack_core::{Error, Result, Window, moment};

/// The length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Hour,
    Day,
    Month,
}

/// The largest number of windows of a backfill: more than eleven years of hours. A larger one is a mistake in a date.
const MOST: usize = 100_000;

/// Parses the end of a backfill, which a date includes: the first moment after it. A time is that moment itself.
pub(crate) fn parse_end(text: &str) -> Result<DateTime<Utc>, String> {
    let end = moment(text).map_err(|e| e.to_string())?;
    match text.len() {
        10 => end.checked_add_days(Days::new(1)).ok_or_else(|| "expected a date before the last one".to_owned()),
        _ => Ok(end),
    }
}

/// The windows from `start` up to, but not including, `end`.
///
/// # Errors
/// Usage if there is none, if there are too many, or if a bound lies within a window: half a window would have the scope
/// of a whole one.
pub(crate) fn windows(start: DateTime<Utc>, end: DateTime<Utc>, by: By) -> Result<Vec<Window>> {
    if start >= end {
        return Err(Error::usage("there is no window: `--from` is after `--to`"));
    }
    by.check("--from", start)?;
    by.check("--to", end)?;
    let mut windows = Vec::new();
    let mut at = start;
    while at < end {
        let next = by.after(at);
        windows.push(Window::new(at, next)?);
        at = next;
        if windows.len() > MOST {
            return Err(Error::usage(format!("these are more than {MOST} windows"))
                .hint("check the years of `--from` and `--to`, or choose longer windows with `--by`"));
        }
    }
    Ok(windows)
}

impl By {
    /// Fails if a moment is within a window.
    fn check(self, argument: &'static str, at: DateTime<Utc>) -> Result<()> {
        let start = self.start(at);
        if start == at {
            return Ok(());
        }
        let (name, border) = match self {
            Self::Hour => ("an hour", "a full hour"),
            Self::Day => ("a day", "midnight in UTC"),
            Self::Month => ("a month", "the first of a month"),
        };
        // A date as the end includes that date.
        let shown = |at: DateTime<Utc>| match (argument, self) {
            ("--to", Self::Month) => (at - TimeDelta::days(1)).format("%Y-%m-%d").to_string(),
            (_, Self::Month) => at.format("%Y-%m-%d").to_string(),
            _ => at.to_rfc3339_opts(SecondsFormat::Secs, true),
        };
        let choices = format!("choose `{argument} {}` or `{argument} {}`", shown(start), shown(self.after(start)));
        Err(Error::usage(format!("`{argument}` is within {name}, but windows begin and end at {border}")).hint(choices))
    }

    /// The start of the window that contains this moment.
    fn start(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let midnight = at.date_naive().and_time(NaiveTime::MIN).and_utc();
        match self {
            Self::Hour => midnight + TimeDelta::hours(i64::from(at.hour())),
            Self::Day => midnight,
            Self::Month => midnight - TimeDelta::days(i64::from(at.day0())),
        }
    }

    /// The start of the next window.
    fn after(self, start: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Hour => start + TimeDelta::hours(1),
            Self::Day => start + TimeDelta::days(1),
            // Moments end with the year 9999, far from the last month that exists.
            Self::Month => start.checked_add_months(Months::new(1)).unwrap_or(start + TimeDelta::days(31)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn of(from: &str, to: &str, by: By) -> Result<Vec<Window>> {
        windows(moment(from).unwrap(), parse_end(to).unwrap(), by)
    }

    #[rstest]
    #[case::days("2024-01-01", "2024-03-31", By::Day, 91, "2024-01-01", "2024-03-31")]
    #[case::one_day("2024-02-29", "2024-02-29", By::Day, 1, "2024-02-29", "2024-02-29")]
    #[case::months("2024-01-01", "2024-03-31", By::Month, 3, "2024-01", "2024-03")]
    #[case::hours("2024-01-01", "2024-01-01", By::Hour, 24, "2024-01-01T00", "2024-01-01T23")]
    #[case::a_time_is_not_included(
        "2024-01-01T05:00:00Z",
        "2024-01-01T07:00:00Z",
        By::Hour,
        2,
        "2024-01-01T05",
        "2024-01-01T06"
    )]
    #[case::midnight_is_not_included("2024-01-01", "2024-01-03T00:00:00Z", By::Day, 2, "2024-01-01", "2024-01-02")]
    fn windows_cover_the_span(
        #[case] from: &str,
        #[case] to: &str,
        #[case] by: By,
        #[case] count: usize,
        #[case] first: &str,
        #[case] last: &str,
    ) {
        let windows = of(from, to, by).unwrap();
        assert_eq!((windows.len(), windows[0].scope().as_str()), (count, first));
        assert_eq!(windows.last().unwrap().scope(), last);
        assert!(windows.windows(2).all(|pair| pair[0].end() == pair[1].start()));
    }

    #[rstest]
    #[case("2024-01-02", "2024-01-01", By::Day, "there is no window: `--from` is after `--to`")]
    #[case("2024-01-15", "2024-03-31", By::Month, "choose `--from 2024-01-01` or `--from 2024-02-01`")]
    #[case("2024-01-01", "2024-03-15", By::Month, "choose `--to 2024-02-29` or `--to 2024-03-31`")]
    #[case(
        "2024-01-01T05:00:00Z",
        "2024-01-02",
        By::Day,
        "`--from` is within a day, but windows begin and end at midnight in UTC"
    )]
    #[case(
        "2024-01-01",
        "2024-01-02T05:30:00Z",
        By::Hour,
        "choose `--to 2024-01-02T05:00:00Z` or `--to 2024-01-02T06:00:00Z`"
    )]
    #[case("2004-01-01", "2024-01-01", By::Hour, "these are more than 100000 windows")]
    fn an_impossible_span_is_refused(#[case] from: &str, #[case] to: &str, #[case] by: By, #[case] said: &str) {
        let error = of(from, to, by).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
