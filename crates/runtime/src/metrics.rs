//! The numbers of a run in CloudWatch's embedded metric format, for which no agent is needed: CloudWatch Logs makes metrics
//! of such lines. See [the specification](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).

use std::collections::BTreeMap;
use std::io::Write as _;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use hardtack_core::Counts;
use hardtack_core::audit::{self, Audit};
use hardtack_state::{RunRecord, RunStatus};
use serde_json::{Map, Value, json};

use crate::batch::BatchJob;

/// The longest value of a dimension.
const DIMENSION_CHARS: usize = 1024;

/// Which metrics a run prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum MetricsFormat {
    /// `emf` in a job of AWS Batch, `none` otherwise.
    #[default]
    Auto,
    /// CloudWatch's embedded metric format, as lines on standard output.
    Emf,
    /// None.
    None,
}

/// Where the numbers of a run go.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    namespace: String,
    batch: Option<BatchJob>,
    is_on: bool,
}

impl Metrics {
    pub(crate) fn new(format: MetricsFormat, namespace: &str) -> Self {
        let batch = BatchJob::from_env();
        let is_on = match format {
            MetricsFormat::Auto => batch.is_some(),
            MetricsFormat::Emf => true,
            MetricsFormat::None => false,
        };
        Self { namespace: namespace.to_owned(), batch, is_on }
    }

    /// Prints the numbers of a run that has ended; `record` is missing if it never began.
    pub(crate) fn print(&self, job: &str, record: Option<&RunRecord>, now: DateTime<Utc>) {
        if !self.is_on {
            return;
        }
        let text: String = self.lines(job, record, now).iter().map(|line| format!("{line}\n")).collect();
        let _ = std::io::stdout().write_all(text.as_bytes());
    }

    /// A line for the job, and one for each source and sink.
    fn lines(&self, job: &str, record: Option<&RunRecord>, now: DateTime<Utc>) -> Vec<Value> {
        let Some(record) = record else {
            let mut line = Line::new(&[("Job", job)]);
            line.count("Succeeded", 0).count("Failed", 1);
            return vec![line.finish(&self.namespace, now)];
        };
        let mut lines = Vec::new();
        let mut add = |mut line: Line| {
            line.property("run", json!(record.run.id.to_string()));
            if let Some(batch) = &self.batch {
                line.property("batch_job", json!(batch.id)).property("batch_attempt", json!(batch.attempt));
                if let Some((index, size)) = batch.array {
                    line.property("array_index", json!(index)).property("array_size", json!(size));
                }
            }
            lines.push(line.finish(&self.namespace, now));
        };
        add(of_run(record));
        for (name, counts) in &record.sources {
            let mut line = Line::new(&[("Job", job), ("Source", name)]);
            line.counts(counts);
            if let Some(lag) = bookmark_lag(record, name, now) {
                line.metric("BookmarkLag", "Seconds", json!(lag));
            }
            add(line);
        }
        for (name, counts) in &record.sinks {
            let mut line = Line::new(&[("Job", job), ("Sink", name)]);
            line.counts(counts);
            if let Some(audit) = record.audits.iter().find(|audit| audit.subject == *name) {
                line.verdicts(std::slice::from_ref(audit));
            }
            add(line);
        }
        lines
    }
}

fn of_run(record: &RunRecord) -> Line {
    let succeeded = record.status == RunStatus::Succeeded;
    let mut line = Line::new(&[("Job", &record.run.job)]);
    line.count("Succeeded", u64::from(succeeded)).count("Failed", u64::from(!succeeded));
    if let Some(end) = record.finished_at {
        line.metric("Duration", "Seconds", json!((end - record.run.started_at).as_seconds_f64()));
    }
    let sum = |counts: &BTreeMap<String, Counts>, of: fn(&Counts) -> u64| counts.values().map(of).sum::<u64>();
    line.count("RowsRead", sum(&record.sources, |counts| counts.rows))
        .bytes("BytesRead", sum(&record.sources, |counts| counts.bytes))
        .count("RowsWritten", sum(&record.sinks, |counts| counts.rows))
        .bytes("BytesWritten", sum(&record.sinks, |counts| counts.bytes))
        .count("FilesWritten", sum(&record.sinks, |counts| counts.files));
    if !record.audits.is_empty() {
        line.verdicts(&record.audits);
    }
    line.property("scope", json!(record.run.scope)).property("status", json!(record.status));
    if let Some(error) = &record.error {
        line.property("error", json!(error.message));
    }
    line
}

/// How far the bookmark of a source was behind at the end of the run, if it is a time.
fn bookmark_lag(record: &RunRecord, source: &str, now: DateTime<Utc>) -> Option<f64> {
    let position = record.bookmarks_to.get(source)?;
    let through = DateTime::parse_from_rfc3339(position.get("through")?.as_str()?).ok()?;
    Some((record.finished_at.unwrap_or(now) - through.to_utc()).as_seconds_f64().max(0.0))
}

/// A line of the embedded metric format, which has one set of dimensions.
struct Line {
    dimensions: Vec<String>,
    metrics: Vec<Value>,
    fields: Map<String, Value>,
}

impl Line {
    fn new(dimensions: &[(&str, &str)]) -> Self {
        let mut line = Self { dimensions: Vec::new(), metrics: Vec::new(), fields: Map::new() };
        for (name, value) in dimensions {
            line.dimensions.push((*name).to_owned());
            line.fields.insert((*name).to_owned(), dimension(value).into());
        }
        line
    }

    fn metric(&mut self, name: &str, unit: &str, value: Value) -> &mut Self {
        self.metrics.push(json!({"Name": name, "Unit": unit}));
        self.fields.insert(name.to_owned(), value);
        self
    }

    fn count(&mut self, name: &str, value: u64) -> &mut Self {
        self.metric(name, "Count", value.into())
    }

    fn bytes(&mut self, name: &str, value: u64) -> &mut Self {
        self.metric(name, "Bytes", value.into())
    }

    fn counts(&mut self, counts: &Counts) -> &mut Self {
        self.count("Rows", counts.rows).bytes("Bytes", counts.bytes).count("Files", counts.files);
        self.metric("Duration", "Seconds", json!(counts.seconds))
    }

    fn verdicts(&mut self, audits: &[Audit]) -> &mut Self {
        let all = || audits.iter().flat_map(|audit| &audit.verdicts);
        let passed = all().filter(|verdict| verdict.outcome == audit::Outcome::Passed).count() as u64;
        let aside: u64 = audits.iter().filter_map(|audit| audit.quarantined).sum();
        self.count("RulesPassed", passed)
            .count("RulesFailed", all().count() as u64 - passed)
            .count("RowsQuarantined", aside)
    }

    /// Adds what is no metric, to be searched for.
    fn property(&mut self, name: &str, value: Value) -> &mut Self {
        self.fields.insert(name.to_owned(), value);
        self
    }

    fn finish(self, namespace: &str, now: DateTime<Utc>) -> Value {
        let directive = json!({"Namespace": namespace, "Dimensions": [self.dimensions], "Metrics": self.metrics});
        let aws = json!({"Timestamp": now.timestamp_millis(), "CloudWatchMetrics": [directive]});
        let mut line = Map::from_iter([("_aws".to_owned(), aws)]);
        line.extend(self.fields);
        Value::Object(line)
    }
}

/// A value as CloudWatch takes it for a dimension: printable ASCII, not empty, without a colon in front.
fn dimension(value: &str) -> String {
    let mut text = String::new();
    for c in value.trim().chars() {
        match c {
            ' '..='~' => text.push(c),
            other => text.extend(other.escape_unicode()),
        }
    }
    text.truncate(DIMENSION_CHARS);
    match text.as_str() {
        "" => "-".to_owned(),
        other if other.starts_with(':') => format!("-{}", &other[..other.len().min(DIMENSION_CHARS - 1)]),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use hardtack_core::{JobContext, Run};
    use insta::assert_snapshot;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn metrics() -> Metrics {
        let batch = BatchJob { id: "4711".into(), attempt: 2, array: Some((3, 10)) };
        Metrics { namespace: "hardtack".into(), batch: Some(batch), is_on: true }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn record() -> RunRecord {
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

    fn text(lines: &[Value]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_run_is_a_line_per_job_source_and_sink() {
        assert_snapshot!(text(&metrics().lines("sales", Some(&record()), at(91))));
    }

    #[test]
    fn a_run_that_never_began_has_failed() {
        assert_snapshot!(text(&metrics().lines("sales", None, at(0))), @r#"{"_aws":{"Timestamp":1790000000000,"CloudWatchMetrics":[{"Namespace":"hardtack","Dimensions":[["Job"]],"Metrics":[{"Name":"Succeeded","Unit":"Count"},{"Name":"Failed","Unit":"Count"}]}]},"Job":"sales","Succeeded":0,"Failed":1}"#);
    }

    #[rstest]
    #[case("sums", "sums")]
    #[case("", "-")]
    #[case(" ", "-")]
    #[case(":a", "-:a")]
    #[case("größe", r"gr\u{f6}\u{df}e")]
    #[case("a\nb", r"a\u{a}b")]
    fn names_are_dimensions(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(dimension(name), expected);
    }

    /// What the specification says of a line, and the limits of CloudWatch.
    fn check(line: &Value) -> Result<(), String> {
        let text = line.to_string();
        let ensure = |fine: bool, what: &str| if fine { Ok(()) } else { Err(format!("{what}: {text}")) };
        ensure(text.len() <= 256 << 10 && !text.contains('\n'), "a line of 256 KiB at most")?;
        let aws = &line["_aws"];
        ensure(aws["Timestamp"].is_u64(), "a time in milliseconds")?;
        for directive in aws["CloudWatchMetrics"].as_array().ok_or("directives")? {
            let namespace = directive["Namespace"].as_str().unwrap_or_default();
            ensure((1..=255).contains(&namespace.len()), "a namespace")?;
            let metrics = directive["Metrics"].as_array().ok_or("metrics")?;
            ensure((1..=100).contains(&metrics.len()), "up to 100 metrics")?;
            for metric in metrics {
                let unit = metric["Unit"].as_str().unwrap_or_default();
                ensure(["Count", "Bytes", "Seconds"].contains(&unit), "a unit of CloudWatch")?;
                let value = &line[metric["Name"].as_str().unwrap_or_default()];
                ensure(value.as_f64().is_some_and(f64::is_finite), "a metric is a number")?;
            }
            for set in directive["Dimensions"].as_array().ok_or("dimensions")? {
                let set = set.as_array().ok_or("a set of dimensions")?;
                ensure((1..=30).contains(&set.len()), "up to 30 dimensions")?;
                for name in set {
                    let value = line[name.as_str().unwrap_or_default()].as_str().unwrap_or_default();
                    let is_fine = (1..=1024).contains(&value.len()) && !value.starts_with(':');
                    ensure(is_fine && value.bytes().all(|b| (b' '..=b'~').contains(&b)), "the value of a dimension")?;
                }
            }
        }
        Ok(())
    }

    proptest! {
        /// Whatever names there are, CloudWatch takes the lines.
        #[test]
        fn lines_are_of_the_format(
            source in ".{0,2000}", sink in ".{0,2000}", rows in any::<u64>(), seconds in any::<f64>(),
        ) {
            let mut record = record();
            let counts = Counts { rows, bytes: 0, files: 0, seconds: if seconds.is_finite() { seconds } else { 0.0 } };
            record.sources = [(source, counts)].into();
            record.sinks = [(sink, counts)].into();
            for line in metrics().lines("sales", Some(&record), at(0)) {
                prop_assert_eq!(check(&line), Ok(()));
            }
        }
    }
}
