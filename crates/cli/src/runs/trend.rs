//! How the duration and the rows of a job's runs have moved.

use hardtack_core::{Error, Result};
use hardtack_state::{RunRecord, RunStatus};
use serde_json::{Value, json};

use super::select::Select;
use super::{rows, seconds, status_name};
use crate::bookmark::{json_line, time};
use crate::draw::draw_to_terminal;

/// The number of earlier runs that a run is compared with, at most and at least.
const MOST: usize = 30;
const FEWEST: usize = 5;
/// What is off by more than this many median absolute deviations, and by more than this share, is unusual.
const DEVIATIONS: f64 = 3.0;
const SHARE: f64 = 0.2;
/// Shorter differences of durations say nothing.
const LEAST_SECONDS: f64 = 1.0;

const MEASURES: [&str; 3] = ["seconds", "read", "written"];

/// The usual value of a measure: the median of earlier runs, and how far they are from it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Usual {
    median: f64,
    deviation: f64,
}

impl Usual {
    /// Of these values; `None` if there are too few.
    fn of(values: &[f64]) -> Option<Self> {
        if values.len() < FEWEST {
            return None;
        }
        let center = median(values);
        let distances: Vec<f64> = values.iter().map(|value| (value - center).abs()).collect();
        Some(Self { median: center, deviation: median(&distances) })
    }

    /// Whether a value is unusual. Differences up to `least` are not.
    fn excludes(self, value: f64, least: f64) -> bool {
        let difference = (value - self.median).abs();
        difference > least && difference > DEVIATIONS * self.deviation && difference > SHARE * self.median
    }

    /// How much a value is off, in percent; `None` if it would be infinite.
    fn percent(self, value: f64) -> Option<f64> {
        (self.median > 0.0).then(|| ((value / self.median - 1.0) * 100.0).round())
    }
}

/// The median of some values.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// A run with what was usual before it.
struct Measured<'a> {
    record: &'a RunRecord,
    values: [Option<f64>; 3],
    usual: [Option<Usual>; 3],
}

impl<'a> Measured<'a> {
    fn of(record: &'a RunRecord, before: &[[Option<f64>; 3]]) -> Self {
        let newest = &before[before.len().saturating_sub(MOST)..];
        let of = |i: usize| Usual::of(&newest.iter().filter_map(|values| values[i]).collect::<Vec<_>>());
        Self { record, values: values(record), usual: [of(0), of(1), of(2)] }
    }

    /// The measures that are unusual. What a run that failed has done is not judged.
    fn unusual(&self) -> Vec<&'static str> {
        let judged = self.record.status == RunStatus::Succeeded;
        let is_unusual = |i: &usize| {
            let least = if *i == 0 { LEAST_SECONDS } else { 0.0 };
            self.values[*i].zip(self.usual[*i]).is_some_and(|(value, usual)| usual.excludes(value, least))
        };
        (0..MEASURES.len()).filter(|_| judged).filter(is_unusual).map(|i| MEASURES[i]).collect()
    }

    /// A value, and how much it is off the usual one.
    fn cell(&self, i: usize) -> String {
        let Some(value) = self.values[i] else { return String::new() };
        let text = if i == 0 { format!("{value:.1}") } else { format!("{value}") };
        let off = self.usual[i].filter(|_| self.record.status == RunStatus::Succeeded);
        match off.and_then(|usual| usual.percent(value)) {
            Some(0.0) => format!("{text} (=)"),
            Some(percent) => format!("{text} ({percent:+} %)"),
            None => text,
        }
    }

    fn row(&self) -> Vec<String> {
        let run = &self.record.run;
        let start = [time(run.started_at), run.id.to_string(), run.scope.clone()];
        let status = status_name(self.record.status).to_owned();
        let cells = (0..MEASURES.len()).map(|i| self.cell(i));
        start.into_iter().chain([status]).chain(cells).chain([self.unusual().join(", ")]).collect()
    }

    fn json(&self) -> Value {
        let run = &self.record.run;
        let number = |i: usize| match self.values[i] {
            // Counts are integers.
            Some(value) if i > 0 => json!(value as u64),
            value => json!(value),
        };
        let usual = |i: usize| self.usual[i].map(|usual| usual.median);
        json!({
            "run": run.id, "job": run.job, "scope": run.scope, "started_at": run.started_at, "status": self.record.status,
            "seconds": number(0), "read": number(1), "written": number(2),
            "usual": {"seconds": usual(0), "read": usual(1), "written": usual(2)},
            "unusual": self.unusual(),
        })
    }
}

fn values(record: &RunRecord) -> [Option<f64>; 3] {
    let has_ended = record.finished_at.is_some();
    let rows = |counts| has_ended.then(|| rows(counts) as f64);
    [seconds(record), rows(&record.sources), rows(&record.sinks)]
}

/// Shows the runs of a job, oldest first, each beside what was usual before it.
pub(super) fn trend(records: &[RunRecord], select: &Select, json: bool) -> Result<String> {
    let (mut before, mut shown) = (Vec::new(), Vec::new());
    // A change of bookmarks is not a run of the job.
    for record in records.iter().filter(|record| record.change.is_none() && select.is_in_scope(record)) {
        if select.wants(record) {
            shown.push(Measured::of(record, &before));
        }
        if record.status == RunStatus::Succeeded {
            before.push(values(record));
        }
    }
    let shown = select.last(&shown);
    if json {
        return Ok(shown.iter().map(|measured| json_line(&measured.json())).collect());
    }
    if shown.is_empty() {
        return Err(Error::not_found("no run of this job is selected").hint("`hardtack runs` lists all"));
    }
    let columns = ["started", "run", "scope", "status", "seconds", "read", "written", "unusual"];
    let columns = columns.map(|column| (column, MEASURES.contains(&column)));
    let table = draw_to_terminal(&columns, &shown.iter().map(Measured::row).collect::<Vec<_>>());
    Ok(format!(
        "{table}in brackets: the difference from the median of up to {MOST} successful runs before, if there are {FEWEST}\n\
         unusual: by more than {DEVIATIONS} median absolute deviations and more than {} %, seconds also by more than \
         {LEAST_SECONDS} s\n",
        SHARE * 100.0
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::odd(&[3.0, 1.0, 2.0], 2.0)]
    #[case::even(&[4.0, 1.0, 3.0, 2.0], 2.5)]
    #[case::one(&[7.0], 7.0)]
    fn medians(#[case] values: &[f64], #[case] wanted: f64) {
        assert_eq!(median(values), wanted);
    }

    #[rstest]
    #[case::the_same(&[100.0; 5], 100.0, 0.0, false)]
    #[case::a_fifth_is_usual(&[100.0; 5], 120.0, 0.0, false)]
    #[case::more_than_a_fifth(&[100.0; 5], 121.0, 0.0, true)]
    #[case::less(&[100.0; 5], 79.0, 0.0, true)]
    #[case::they_vary(&[50.0, 75.0, 100.0, 125.0, 150.0], 170.0, 0.0, false)]
    #[case::more_than_they_vary(&[50.0, 75.0, 100.0, 125.0, 150.0], 180.0, 0.0, true)]
    #[case::one_outlier_changes_nothing(&[100.0, 100.0, 100.0, 100.0, 9000.0], 130.0, 0.0, true)]
    #[case::nothing_is_usual(&[0.0; 5], 0.0, 0.0, false)]
    #[case::something_where_nothing_is_usual(&[0.0; 5], 1.0, 0.0, true)]
    #[case::nothing_where_something_is_usual(&[10.0; 5], 0.0, 0.0, true)]
    #[case::short_runs(&[0.1; 5], 0.9, 1.0, false)]
    #[case::too_few(&[100.0; 4], 900.0, 0.0, false)]
    fn what_is_unusual(#[case] before: &[f64], #[case] value: f64, #[case] least: f64, #[case] unusual: bool) {
        assert_eq!(Usual::of(before).is_some_and(|usual| usual.excludes(value, least)), unusual);
    }
}
