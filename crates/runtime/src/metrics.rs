//! The numbers of a run in CloudWatch's embedded metric format, for which no agent is needed: CloudWatch Logs makes metrics
//! of such lines. See [the specification](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).

use std::io::Write as _;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::ended::{Ended, Number, Series, Subject};

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

impl MetricsFormat {
    /// Prints the numbers of a run, if that is wanted.
    pub(crate) fn print(self, namespace: &str, run: &Ended<'_>) {
        let is_on = match self {
            Self::Auto => run.batch.is_some(),
            Self::Emf => true,
            Self::None => false,
        };
        if is_on {
            let text: String = lines(namespace, run).iter().map(|line| format!("{line}\n")).collect();
            let _ = std::io::stdout().write_all(text.as_bytes());
        }
    }
}

/// A line for the job, and one for each source and sink.
fn lines(namespace: &str, run: &Ended<'_>) -> Vec<Value> {
    run.series().into_iter().map(|series| line(namespace, &run.job.name, series, run.at)).collect()
}

/// A line of the embedded metric format, which has one set of dimensions.
fn line(namespace: &str, job: &str, series: Series<'_>, now: DateTime<Utc>) -> Value {
    let mut dimensions = vec![("Job", job)];
    match series.subject {
        Subject::Run => {}
        Subject::Source(name) => dimensions.push(("Source", name)),
        Subject::Sink(name) => dimensions.push(("Sink", name)),
    }
    let (mut fields, mut metrics) = (Map::new(), Vec::new());
    for (name, value) in &dimensions {
        fields.insert((*name).to_owned(), dimension(value).into());
    }
    for (number, value) in series.numbers {
        let (name, unit) = named(number);
        metrics.push(json!({"Name": name, "Unit": unit}));
        fields.insert(name.to_owned(), value);
    }
    fields.extend(series.properties.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let directive = json!({"Namespace": namespace, "Dimensions": [names], "Metrics": metrics});
    let aws = json!({"Timestamp": now.timestamp_millis(), "CloudWatchMetrics": [directive]});
    let mut line = Map::from_iter([("_aws".to_owned(), aws)]);
    line.extend(fields);
    Value::Object(line)
}

/// The name and the unit of a number in CloudWatch.
fn named(number: Number) -> (&'static str, &'static str) {
    match number {
        Number::Succeeded => ("Succeeded", "Count"),
        Number::Failed => ("Failed", "Count"),
        Number::Duration => ("Duration", "Seconds"),
        Number::RowsRead => ("RowsRead", "Count"),
        Number::BytesRead => ("BytesRead", "Bytes"),
        Number::RowsWritten => ("RowsWritten", "Count"),
        Number::BytesWritten => ("BytesWritten", "Bytes"),
        Number::FilesWritten => ("FilesWritten", "Count"),
        Number::BytesSpilled => ("BytesSpilled", "Bytes"),
        Number::Rows => ("Rows", "Count"),
        Number::Bytes => ("Bytes", "Bytes"),
        Number::Files => ("Files", "Count"),
        Number::BookmarkLag => ("BookmarkLag", "Seconds"),
        Number::RulesPassed => ("RulesPassed", "Count"),
        Number::RulesFailed => ("RulesFailed", "Count"),
        Number::RowsQuarantined => ("RowsQuarantined", "Count"),
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
    use hardtack_core::Counts;
    use hardtack_state::RunRecord;
    use insta::assert_snapshot;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::ended::tests::{at, ended, job, record};

    fn told(record: Option<&RunRecord>, now: DateTime<Utc>) -> Vec<Value> {
        lines("hardtack", &ended(&job(), record, now))
    }

    fn text(lines: &[Value]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_run_is_a_line_per_job_source_and_sink() {
        assert_snapshot!(text(&told(Some(&record()), at(91))));
    }

    #[test]
    fn a_run_that_never_began_has_failed() {
        assert_snapshot!(text(&told(None, at(0))), @r#"{"_aws":{"Timestamp":1790000000000,"CloudWatchMetrics":[{"Namespace":"hardtack","Dimensions":[["Job"]],"Metrics":[{"Name":"Succeeded","Unit":"Count"},{"Name":"Failed","Unit":"Count"}]}]},"Job":"sales","Succeeded":0,"Failed":1}"#);
    }

    /// Most runs spill nothing, and have no metric of it.
    #[rstest]
    #[case::none(None)]
    #[case::some(Some(7 << 20))]
    fn what_was_spilled_is_told(#[case] spilled_bytes: Option<u64>) {
        let record = RunRecord { spilled_bytes, ..record() };
        let line = &told(Some(&record), at(0))[0];
        assert_eq!(line.get("BytesSpilled").and_then(Value::as_u64), spilled_bytes);
        assert_eq!(
            line["_aws"].to_string().contains(r#"{"Name":"BytesSpilled","Unit":"Bytes"}"#),
            spilled_bytes.is_some()
        );
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
            for line in told(Some(&record), at(0)) {
                prop_assert_eq!(check(&line), Ok(()));
            }
        }
    }
}
