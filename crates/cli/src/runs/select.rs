//! Which runs to show.

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use hardtack_core::{Error, Result};
use hardtack_runtime::{parse_duration, parse_moment};
use hardtack_state::{RunRecord, RunStatus};

use crate::backfill::parse_end;

#[derive(Debug, Default, Args)]
pub(crate) struct Select {
    /// Only runs with this status, for example `failed`; several are separated by commas [default: all]
    #[arg(long, value_enum, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<Status>,
    /// Only runs that started then or later: `2026-11-21` (midnight in UTC), `2026-11-21T04:00:00Z`, or `7d` for the last
    /// seven days
    #[arg(long, value_name = "MOMENT", value_parser = parse_since)]
    since: Option<DateTime<Utc>>,
    /// Only runs that started before: `2026-11-21` (which is included), `2026-11-21T04:00:00Z`, or `1h` ago
    #[arg(long, value_name = "MOMENT", value_parser = parse_until)]
    until: Option<DateTime<Utc>>,
    /// Only runs of this scope, for example `2026-11-21` [default: all]
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
    /// Only the newest of these runs, for example `20` [default: all]
    #[arg(long, value_name = "N")]
    last: Option<usize>,
}

/// The statuses of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Running,
    Succeeded,
    Failed,
    Stopped,
    Superseded,
    Killed,
    Abandoned,
}

impl From<RunStatus> for Status {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Running => Self::Running,
            RunStatus::Succeeded => Self::Succeeded,
            RunStatus::Failed => Self::Failed,
            RunStatus::Stopped => Self::Stopped,
            RunStatus::Superseded => Self::Superseded,
            RunStatus::Killed => Self::Killed,
            RunStatus::Abandoned => Self::Abandoned,
        }
    }
}

impl Select {
    /// Fails if no run could be selected.
    pub(crate) fn check(&self) -> Result<()> {
        match self.since.zip(self.until) {
            Some((since, until)) if since >= until => {
                Err(Error::usage("no run can be both: `--since` is after `--until`")
                    .hint("the time before now comes first, for example `--since 7d --until 1d`"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a run is of the scope.
    pub(crate) fn is_in_scope(&self, record: &RunRecord) -> bool {
        self.scope.as_ref().is_none_or(|scope| *scope == record.run.scope)
    }

    /// Whether a run is shown, if it is new enough for `--last`.
    pub(crate) fn wants(&self, record: &RunRecord) -> bool {
        let at = record.run.started_at;
        self.is_in_scope(record)
            && (self.status.is_empty() || self.status.contains(&record.status.into()))
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }

    /// The last of these runs, which are ordered by time.
    pub(crate) fn last<'a, T>(&self, runs: &'a [T]) -> &'a [T] {
        &runs[self.last.map_or(0, |last| runs.len().saturating_sub(last))..]
    }
}

fn parse_since(text: &str) -> Result<DateTime<Utc>, String> {
    moment_or_ago(text, parse_moment, Utc::now())
}

fn parse_until(text: &str) -> Result<DateTime<Utc>, String> {
    moment_or_ago(text, parse_end, Utc::now())
}

/// Parses a moment, or a time before now.
fn moment_or_ago(
    text: &str,
    moment: fn(&str) -> Result<DateTime<Utc>, String>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, String> {
    let ago = || now.checked_sub_signed(parse_duration(text).ok()?);
    moment(text).ok().or_else(ago).ok_or_else(|| {
        "expected a date or time such as `2026-11-21` or `2026-11-21T04:00:00Z`, or a time before now such as `7d`"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use hardtack_core::{JobContext, Run, moment};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::date("2026-11-21", Some("2026-11-21T00:00:00Z"), Some("2026-11-22T00:00:00Z"))]
    #[case::time("2026-11-21T04:00:00Z", Some("2026-11-21T04:00:00Z"), Some("2026-11-21T04:00:00Z"))]
    #[case::days("7d", Some("2026-11-23T12:00:00Z"), Some("2026-11-23T12:00:00Z"))]
    #[case::hours_and_minutes("1h 30m", Some("2026-11-30T10:30:00Z"), Some("2026-11-30T10:30:00Z"))]
    #[case::now("0s", Some("2026-11-30T12:00:00Z"), Some("2026-11-30T12:00:00Z"))]
    #[case::no_unit("7", None, None)]
    #[case::word("yesterday", None, None)]
    #[case::before_time_began("19999999w", None, None)]
    fn moments_and_times_before_now(#[case] text: &str, #[case] since: Option<&str>, #[case] until: Option<&str>) {
        let now = moment("2026-11-30T12:00:00Z").unwrap();
        let wanted = |text: Option<&str>| text.map(|text| moment(text).unwrap());
        assert_eq!(moment_or_ago(text, parse_moment, now).ok(), wanted(since));
        assert_eq!(moment_or_ago(text, parse_end, now).ok(), wanted(until));
    }

    #[rstest]
    #[case::all(Select::default(), true)]
    #[case::status(Select { status: vec![Status::Stopped, Status::Failed], ..Select::default() }, true)]
    #[case::other_status(Select { status: vec![Status::Succeeded], ..Select::default() }, false)]
    #[case::scope(Select { scope: Some("s".into()), ..Select::default() }, true)]
    #[case::other_scope(Select { scope: Some("t".into()), ..Select::default() }, false)]
    #[case::since_then(Select { since: moment("2026-11-21").ok(), ..Select::default() }, true)]
    #[case::since_later(Select { since: moment("2026-11-22").ok(), ..Select::default() }, false)]
    #[case::until_then(Select { until: moment("2026-11-21").ok(), ..Select::default() }, false)]
    #[case::until_later(Select { until: moment("2026-11-22").ok(), ..Select::default() }, true)]
    fn filters_hold_together(#[case] select: Select, #[case] wants: bool) {
        let run = JobContext::builder("job").build().unwrap().run().clone();
        let run = Run { scope: "s".to_owned(), started_at: moment("2026-11-21").unwrap(), ..run };
        let record = RunRecord { status: RunStatus::Failed, ..RunRecord::begin(run) };
        assert_eq!(select.wants(&record), wants);
    }
}
