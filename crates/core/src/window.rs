//! The span of time that a run processes.

use std::fmt;

use chrono::{DateTime, Datelike, Months, NaiveDate, SecondsFormat, TimeDelta, Timelike, Utc};
use datafusion::common::ScalarValue;
use datafusion::prelude::{Expr, lit};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The span of time that a run processes: from its start up to, but not including, its end, in UTC. Windows that follow
/// one another share a bound, so each moment is in exactly one of them.
///
/// Given as `--window-start` and `--window-end`, by hand or by `hardtack backfill`; jobs find it as
/// [`Context::window`](crate::Context::window).
///
/// ```
/// use hardtack_core::{Window, moment};
///
/// let day = Window::new(moment("2024-01-31")?, moment("2024-02-01")?)?;
/// assert!(day.contains(moment("2024-01-31T23:59:59Z")?));
/// assert!(!day.contains(day.end()));
/// assert_eq!(day.scope(), "2024-01-31");
/// assert_eq!(day.to_string(), "2024-01-31 to 2024-02-01");
/// # Ok::<(), hardtack_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Window {
    /// Creates the window from `start` up to, but not including, `end`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it does not start before it ends, or has a bound that is finer than a
    /// microsecond.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self> {
        if start >= end {
            return Err(Error::usage("a window must start before it ends")
                .with("start", short(start))
                .with("end", short(end))
                .hint("its end is not part of it: the window of one day ends on the next"));
        }
        match [start, end].into_iter().find(|bound| bound.nanosecond() % 1000 != 0) {
            Some(bound) => Err(Error::usage("the bound of a window is at most as fine as a microsecond")
                .with("bound", bound.to_rfc3339_opts(SecondsFormat::AutoSi, true))),
            None => Ok(Self { start, end }),
        }
    }

    /// Its first moment.
    pub fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// The first moment after it.
    pub fn end(self) -> DateTime<Utc> {
        self.end
    }

    /// Whether a moment is in it.
    pub fn contains(self, moment: DateTime<Utc>) -> bool {
        self.start <= moment && moment < self.end
    }

    /// The condition that a column of timestamps or dates lies in it; a timestamp without a time zone counts as UTC.
    ///
    /// ```
    /// use datafusion::prelude::col;
    /// use hardtack_core::{Context, Result};
    /// # use datafusion::prelude::DataFrame;
    ///
    /// /// The rows of the run's window; all of them if it has none.
    /// fn due(ctx: &Context<()>, events: DataFrame) -> Result<DataFrame> {
    ///     match ctx.window() {
    ///         Some(window) => Ok(events.filter(window.filter(col("created_at")))?),
    ///         None => Ok(events),
    ///     }
    /// }
    /// ```
    pub fn filter(self, column: Expr) -> Expr {
        let bound = |at: DateTime<Utc>| {
            lit(ScalarValue::TimestampMicrosecond(Some(at.timestamp_micros()), Some("+00:00".into())))
        };
        column.clone().gt_eq(bound(self.start)).and(column.lt(bound(self.end)))
    }

    /// The scope of its runs if none is given: `2024-01` for a month, `2024-01-31` for a day, `2024-01-31T05` for an hour,
    /// and its bounds for anything else. Different windows have different scopes, so they commit independently.
    pub fn scope(self) -> String {
        let Self { start, end } = self;
        let is_day = start.time() == chrono::NaiveTime::MIN;
        let is_hour = start.minute() == 0 && start.second() == 0 && start.nanosecond() == 0;
        match end - start {
            _ if is_day && start.day() == 1 && start.checked_add_months(Months::new(1)) == Some(end) => {
                start.format("%Y-%m").to_string()
            }
            span if is_day && span == TimeDelta::days(1) => start.format("%Y-%m-%d").to_string(),
            span if is_hour && span == TimeDelta::hours(1) => start.format("%Y-%m-%dT%H").to_string(),
            _ => format!("{}_{}", compact(start), compact(end)),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", short(self.start), short(self.end))
    }
}

/// A date for midnight, and RFC 3339 for any other moment.
fn short(at: DateTime<Utc>) -> String {
    match at.time() == chrono::NaiveTime::MIN {
        true => at.format("%Y-%m-%d").to_string(),
        false => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    }
}

/// The same without characters that the name of a folder would have to encode.
fn compact(at: DateTime<Utc>) -> String {
    short(at).replace(':', "").trim_end_matches('Z').to_owned()
}

/// Parses a moment: a date, which means its midnight in UTC, or a time in RFC 3339 with an offset.
///
/// ```
/// use hardtack_core::moment;
///
/// assert_eq!(moment("2024-01-31")?, moment("2024-01-31T01:00:00+01:00")?);
/// assert!(moment("31.1.2024").is_err());
/// # Ok::<(), hardtack_core::Error>(())
/// ```
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage) if it is neither, or not within the years 1 to 9999.
pub fn moment(text: &str) -> Result<DateTime<Utc>> {
    let midnight = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc();
    let parsed = match text.len() {
        10 => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(midnight),
        _ => DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()),
    };
    parsed.filter(|at| (1..=9999).contains(&at.year())).ok_or_else(|| {
        Error::usage(format!(
            "`{text}` is not a moment: expected a date such as `2024-01-31`, or a time such as `2024-01-31T05:00:00Z`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::JobContext;

    fn window(start: &str, end: &str) -> Window {
        Window::new(moment(start).unwrap(), moment(end).unwrap()).unwrap()
    }

    #[rstest]
    #[case("2024-02-01", "2024-03-01", "2024-02")]
    #[case("2024-02-29", "2024-03-01", "2024-02-29")]
    #[case("2024-12-31T23:00:00Z", "2025-01-01", "2024-12-31T23")]
    #[case("2024-02-01T00:00:00Z", "2024-02-01T01:00:00Z", "2024-02-01T00")]
    #[case("2024-02-01", "2024-02-08", "2024-02-01_2024-02-08")]
    #[case("2024-02-02", "2024-03-02", "2024-02-02_2024-03-02")]
    #[case("2024-02-01T00:30:00Z", "2024-02-01T01:30:00Z", "2024-02-01T003000_2024-02-01T013000")]
    #[case("2024-02-01T00:00:00.5Z", "2024-02-01T00:00:00.75Z", "2024-02-01T000000.500_2024-02-01T000000.750")]
    fn the_scope_of_a_window_is_the_name_of_a_folder(#[case] start: &str, #[case] end: &str, #[case] scope: &str) {
        assert_eq!(window(start, end).scope(), scope);
    }

    #[rstest]
    #[case("2024-01-02", "2024-01-02", "a window must start before it ends")]
    #[case("2024-01-03", "2024-01-02", "a window must start before it ends")]
    #[case("2024-01-02", "2024-01-02T00:00:00.0000001Z", "the bound of a window is at most as fine as a microsecond")]
    fn an_impossible_window_is_refused(#[case] start: &str, #[case] end: &str, #[case] message: &str) {
        let refused = Window::new(moment(start).unwrap(), moment(end).unwrap()).unwrap_err();
        assert_eq!(refused.message(), message);
    }

    #[rstest]
    fn what_is_not_a_moment_is_refused(
        #[values(
            "",
            "2024",
            "2024-1-1",
            "2024-02-30",
            "31.01.2024",
            "2024-01-31T05:00:00",
            "0000-01-01",
            "+12024-01-01"
        )]
        text: &str,
    ) {
        assert!(moment(text).unwrap_err().message().starts_with(&format!("`{text}` is not a moment")));
    }

    #[rstest]
    #[case::without_a_zone("timestamp")]
    #[case::with_a_zone("timestamptz")]
    #[case::date("date")]
    #[tokio::test]
    async fn a_filter_keeps_what_is_in_the_window(#[case] data_type: &str) {
        let ctx = JobContext::builder("job").build().unwrap();
        let days = "(values ('2023-12-31'), ('2024-01-01'), ('2024-01-02'), (null)) as t(day)";
        let rows = ctx.session().sql(&format!("select cast(day as {data_type}) as day from {days}")).await.unwrap();
        let kept = rows.filter(window("2024-01-01", "2024-01-02").filter(datafusion::prelude::col("day"))).unwrap();
        let text = kept.to_string().await.unwrap();
        assert_eq!((text.matches("| 20").count(), text.contains("| 2024-01-01")), (1, true), "{text}");
    }

    proptest! {
        #[test]
        fn different_windows_have_different_scopes(
            (a, b) in (bound(), bound()), (c, d) in (bound(), bound()),
        ) {
            let (Ok(one), Ok(other)) = (Window::new(a, b), Window::new(c, d)) else { return Ok(()) };
            prop_assert_eq!(one == other, one.scope() == other.scope());
        }

        #[test]
        fn a_window_comes_back_from_its_record(a in bound(), b in bound()) {
            let Ok(window) = Window::new(a, b) else { return Ok(()) };
            let json = serde_json::to_string(&window).unwrap();
            prop_assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), window);
        }
    }

    /// Bounds near one another and near borders, so that windows of all kinds occur.
    fn bound() -> impl Strategy<Value = DateTime<Utc>> {
        let spans = [1, 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000];
        (0_i64..70, prop::sample::select(spans.to_vec()))
            .prop_map(|(n, span)| moment("2024-01-01").unwrap() + TimeDelta::microseconds(n * span))
    }
}
