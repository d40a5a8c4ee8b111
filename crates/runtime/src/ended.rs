//! A run that has ended, and its numbers, whoever they are told.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hardtack_core::audit::{self, Audit};
use hardtack_core::{Counts, Error, Result};
use hardtack_state::{RunRecord, RunStatus};
use serde_json::{Value, json};

use crate::batch::BatchJob;
use crate::definition::JobDefinition;
use crate::outcome::Outcome;

/// A run that has ended, well or not.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) job: &'a JobDefinition,
    /// When the process started it, which is before it began.
    #[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "only a trace has a span of a run that never began"))]
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) at: DateTime<Utc>,
    /// Missing if it never began.
    pub(crate) record: Option<&'a RunRecord>,
    pub(crate) error: Option<&'a Error>,
    pub(crate) batch: Option<BatchJob>,
}

impl<'a> Ended<'a> {
    /// A run that has just ended with `done`.
    pub(crate) fn now(job: &'a JobDefinition, started_at: DateTime<Utc>, done: &'a Result<Outcome>) -> Self {
        let (record, error) = match done {
            Ok(outcome) => (Some(&outcome.record), None),
            Err(error) => (error.detail(), Some(error)),
        };
        Self { job, started_at, at: Utc::now(), record, error, batch: BatchJob::from_env() }
    }

    /// The numbers of the run, then those of each source and sink.
    pub(crate) fn series(&self) -> Vec<Series<'a>> {
        let Some(record) = self.record else {
            let mut series = Series::of(Subject::Run);
            series.count(Number::Succeeded, 0).count(Number::Failed, 1);
            return vec![series];
        };
        let mut all = vec![of_run(record)];
        for (name, counts) in &record.sources {
            let mut series = Series::of(Subject::Source(name));
            series.counts(counts);
            if let Some(lag) = self.bookmark_lag(record, name) {
                series.seconds(Number::BookmarkLag, lag);
            }
            all.push(series);
        }
        for (name, counts) in &record.sinks {
            let mut series = Series::of(Subject::Sink(name));
            series.counts(counts);
            if let Some(audit) = record.audits.iter().find(|audit| audit.subject == *name) {
                series.verdicts(std::slice::from_ref(audit));
            }
            all.push(series);
        }
        for series in &mut all {
            series.properties.extend(self.origin(record));
        }
        all
    }

    /// Which run it was, in which job of Batch.
    fn origin(&self, record: &RunRecord) -> Vec<(&'static str, Value)> {
        let mut origin = vec![("run", json!(record.run.id.to_string()))];
        if let Some(batch) = &self.batch {
            origin.extend([("batch_job", json!(batch.id)), ("batch_attempt", json!(batch.attempt))]);
            if let Some((index, size)) = batch.array {
                origin.extend([("array_index", json!(index)), ("array_size", json!(size))]);
            }
        }
        origin
    }

    /// How far the bookmark of a source was behind at the end of the run, if it is a time.
    fn bookmark_lag(&self, record: &RunRecord, source: &str) -> Option<f64> {
        let position = record.bookmarks_to.get(source)?;
        let through = DateTime::parse_from_rfc3339(position.get("through")?.as_str()?).ok()?;
        Some((record.finished_at.unwrap_or(self.at) - through.to_utc()).as_seconds_f64().max(0.0))
    }
}

fn of_run(record: &RunRecord) -> Series<'_> {
    let succeeded = record.status == RunStatus::Succeeded;
    let mut series = Series::of(Subject::Run);
    series.count(Number::Succeeded, u64::from(succeeded)).count(Number::Failed, u64::from(!succeeded));
    if let Some(end) = record.finished_at {
        series.seconds(Number::Duration, (end - record.run.started_at).as_seconds_f64());
    }
    let sum = |counts: &BTreeMap<String, Counts>, of: fn(&Counts) -> u64| counts.values().map(of).sum::<u64>();
    series
        .count(Number::RowsRead, sum(&record.sources, |counts| counts.rows))
        .count(Number::BytesRead, sum(&record.sources, |counts| counts.bytes))
        .count(Number::RowsWritten, sum(&record.sinks, |counts| counts.rows))
        .count(Number::BytesWritten, sum(&record.sinks, |counts| counts.bytes))
        .count(Number::FilesWritten, sum(&record.sinks, |counts| counts.files));
    if let Some(bytes) = record.spilled_bytes {
        series.count(Number::BytesSpilled, bytes);
    }
    if !record.audits.is_empty() {
        series.verdicts(&record.audits);
    }
    series.properties.extend([("scope", json!(record.run.scope)), ("status", json!(record.status))]);
    if let Some(error) = &record.error {
        series.properties.push(("error", json!(error.message)));
    }
    series
}

/// What numbers are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    Run,
    Source(&'a str),
    Sink(&'a str),
}

/// A number; each format has a name and a unit for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    Succeeded,
    Failed,
    Duration,
    RowsRead,
    BytesRead,
    RowsWritten,
    BytesWritten,
    FilesWritten,
    BytesSpilled,
    Rows,
    Bytes,
    Files,
    BookmarkLag,
    RulesPassed,
    RulesFailed,
    RowsQuarantined,
}

/// The numbers of a subject, in the order in which they are told.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    pub(crate) subject: Subject<'a>,
    /// A value is a whole number, or a float if it is a time.
    pub(crate) numbers: Vec<(Number, Value)>,
    /// What is no number, to be searched for.
    pub(crate) properties: Vec<(&'static str, Value)>,
}

impl<'a> Series<'a> {
    fn of(subject: Subject<'a>) -> Self {
        Self { subject, numbers: Vec::new(), properties: Vec::new() }
    }

    fn count(&mut self, number: Number, value: u64) -> &mut Self {
        self.numbers.push((number, value.into()));
        self
    }

    fn seconds(&mut self, number: Number, value: f64) -> &mut Self {
        self.numbers.push((number, json!(value)));
        self
    }

    fn counts(&mut self, counts: &Counts) -> &mut Self {
        self.count(Number::Rows, counts.rows).count(Number::Bytes, counts.bytes).count(Number::Files, counts.files);
        self.seconds(Number::Duration, counts.seconds)
    }

    fn verdicts(&mut self, audits: &[Audit]) -> &mut Self {
        let all = || audits.iter().flat_map(|audit| &audit.verdicts);
        let passed = all().filter(|verdict| verdict.outcome == audit::Outcome::Passed).count() as u64;
        let aside: u64 = audits.iter().filter_map(|audit| audit.quarantined).sum();
        self.count(Number::RulesPassed, passed)
            .count(Number::RulesFailed, all().count() as u64 - passed)
            .count(Number::RowsQuarantined, aside)
    }
}

/// The run `nightly` of the job `sales`, for the tests of what is told about it.
#[cfg(test)]
pub(crate) mod tests {
    use hardtack_core::{JobContext, Run};

    use super::*;

    pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    pub(crate) fn job() -> JobDefinition {
        JobDefinition { name: "sales".to_owned(), version: Some("1.2.0".to_owned()), ..JobDefinition::default() }
    }

    pub(crate) fn record() -> RunRecord {
        let ctx = JobContext::builder("sales").build().unwrap();
        let run = Run { id: "nightly".parse().unwrap(), started_at: at(0), ..ctx.run().clone() };
        let counts = |rows| Counts { files: 1, rows, bytes: rows * 10, seconds: 0.5 };
        let mut record = RunRecord::begin(run);
        record.status = RunStatus::Succeeded;
        record.finished_at = Some(at(90));
        record.sources.insert("orders".into(), counts(1000));
        record.sinks.insert("sums".into(), counts(10));
        record.bookmarks_to.insert("orders".into(), json!({"through": at(-30).to_rfc3339(), "by": "modified"}));
        record
    }

    /// The end of that run in a job of Batch.
    pub(crate) fn ended<'a>(job: &'a JobDefinition, record: Option<&'a RunRecord>, now: DateTime<Utc>) -> Ended<'a> {
        let batch = BatchJob { id: "4711".into(), attempt: 2, array: Some((3, 10)) };
        Ended { job, started_at: at(0), at: now, record, error: None, batch: Some(batch) }
    }
}
