//! The trace of a run: a span for it, and below that one for each source and sink.
//!
//! A record has no times of sources and sinks, so their spans start with the run and last as long as was spent in loading or
//! staging.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, SpanBuilder, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};

use super::otlp::scope;
use crate::ended::{Ended, Number, Series, Subject};

/// The span that started this process, if `TRACEPARENT` names one, as
/// [W3C](https://www.w3.org/TR/trace-context/) writes it.
pub(super) fn parent(variable: impl Fn(&str) -> Option<String>) -> Context {
    let carried = ["traceparent", "tracestate"].into_iter();
    let carried: HashMap<String, String> =
        carried.filter_map(|name| Some((name.to_owned(), variable(&name.to_uppercase())?))).collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carried)
}

/// The spans of a run; none if its parent, or the sampler of the environment, does not want any.
pub(super) fn of(run: &Ended<'_>, series: &[Series<'_>], parent: &Context) -> Vec<SpanData> {
    let ended = Collected::default();
    let tracer = SdkTracerProvider::builder().with_span_processor(ended.clone()).build().tracer_with_scope(scope());
    let (start, end) = bounds(run);
    let root = SpanBuilder::from_name(format!("run {}", run.job.name)).with_start_time(start);
    let mut root = tracer.build_with_context(root.with_attributes(attributes(run, series)), parent);
    root.set_status(match run.error {
        Some(error) => Status::error(error.chain()),
        None => Status::Ok,
    });
    let within = parent.with_span(root);
    for series in series {
        let name = match series.subject {
            Subject::Run => continue,
            Subject::Source(name) => format!("read {name}"),
            Subject::Sink(name) => format!("write {name}"),
        };
        let span = SpanBuilder::from_name(name).with_start_time(start).with_attributes(numbers(series));
        tracer.build_with_context(span, &within).end_with_timestamp(start + lasted(series));
    }
    within.span().end_with_timestamp(end);
    ended.take()
}

fn bounds(run: &Ended<'_>) -> (SystemTime, SystemTime) {
    let start: DateTime<Utc> = run.record.map_or(run.started_at, |record| record.run.started_at);
    let end = run.record.and_then(|record| record.finished_at).unwrap_or(run.at);
    (start.into(), end.into())
}

/// How long a source or a sink has taken.
fn lasted(series: &Series<'_>) -> Duration {
    let seconds = series.numbers.iter().find(|(number, _)| *number == Number::Duration);
    let seconds = seconds.and_then(|(_, value)| value.as_f64());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

/// What is known of a run, and its numbers.
fn attributes(run: &Ended<'_>, series: &[Series<'_>]) -> Vec<KeyValue> {
    let code = run.error.map_or(0, |error| error.kind().exit_code());
    let mut all =
        vec![KeyValue::new("hardtack.job", run.job.name.clone()), KeyValue::new("hardtack.exit_code", i64::from(code))];
    if run.record.is_none() {
        all.push(KeyValue::new("hardtack.status", "failed"));
    }
    for series in series.iter().filter(|series| series.subject == Subject::Run) {
        let properties = series.properties.iter().filter_map(|(name, value)| match *name {
            // It is the status of the span.
            "error" => None,
            "run" => Some(attribute("run_id", value)),
            name => Some(attribute(name, value)),
        });
        all.extend(properties.chain(numbers(series)));
    }
    all
}

fn numbers(series: &Series<'_>) -> Vec<KeyValue> {
    series.numbers.iter().filter_map(|(number, value)| Some(attribute(named(*number)?, value))).collect()
}

/// The name of a number as an attribute; none if a span, or those below it, have it otherwise.
fn named(number: Number) -> Option<&'static str> {
    match number {
        Number::Rows => Some("rows"),
        Number::Bytes => Some("bytes"),
        Number::Files => Some("files"),
        Number::Duration => Some("seconds"),
        Number::BookmarkLag => Some("bookmark_lag"),
        Number::BytesSpilled => Some("spilled_bytes"),
        Number::RulesPassed => Some("rules_passed"),
        Number::RulesFailed => Some("rules_failed"),
        Number::RowsQuarantined => Some("rows_quarantined"),
        Number::Succeeded
        | Number::Failed
        | Number::RowsRead
        | Number::BytesRead
        | Number::RowsWritten
        | Number::BytesWritten
        | Number::FilesWritten => None,
    }
}

fn attribute(name: &str, value: &serde_json::Value) -> KeyValue {
    let value: Value = match value {
        serde_json::Value::String(text) => text.clone().into(),
        value => match (value.as_i64(), value.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(number)) => number.into(),
            (None, None) => value.to_string().into(),
        },
    };
    KeyValue::new(format!("hardtack.{name}"), value)
}

/// Keeps spans that have ended. The SDK's processors would send them from a thread of their own, or block this one.
#[derive(Debug, Clone, Default)]
struct Collected(Arc<Mutex<Vec<SpanData>>>);

impl Collected {
    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SpanProcessor for Collected {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hardtack_core::Error;
    use hardtack_state::RunStatus;
    use insta::assert_snapshot;

    use super::*;
    use crate::ended::tests::{at, ended, job, record};

    /// A line for each span: its name, how many seconds after the start of the run it starts and ends, its status, and its
    /// attributes.
    fn text(run: &Ended<'_>) -> String {
        let seconds = |time: SystemTime| time.duration_since(at(0).into()).unwrap().as_secs_f64();
        let mut lines: Vec<String> = of(run, &run.series(), &Context::new())
            .iter()
            .map(|span| {
                let of: Vec<String> = span.attributes.iter().map(|one| format!("{}={}", one.key, one.value)).collect();
                let (start, end) = (seconds(span.start_time), seconds(span.end_time));
                format!("{} {start} to {end} {:?}\n  {}\n", span.name, span.status, of.join("\n  "))
            })
            .collect();
        lines.sort();
        lines.concat()
    }

    #[test]
    fn a_run_is_a_span_with_one_for_each_source_and_sink() {
        assert_snapshot!(text(&ended(&job(), Some(&record()), at(91))), @"
        read orders 0 to 0.5 Unset
          hardtack.rows=1000
          hardtack.bytes=10000
          hardtack.files=1
          hardtack.seconds=0.5
          hardtack.bookmark_lag=120
        run sales 0 to 90 Ok
          hardtack.job=sales
          hardtack.exit_code=0
          hardtack.scope=default
          hardtack.status=succeeded
          hardtack.run_id=nightly
          hardtack.batch_job=4711
          hardtack.batch_attempt=2
          hardtack.array_index=3
          hardtack.array_size=10
          hardtack.seconds=90
        write sums 0 to 0.5 Unset
          hardtack.rows=10
          hardtack.bytes=100
          hardtack.files=1
          hardtack.seconds=0.5
        ");
    }

    #[test]
    fn a_run_that_failed_says_why() {
        let error = Error::refused("a rule has failed").with("rule", "RowCount > 0");
        let (job, mut record) = (job(), record());
        record.status = RunStatus::Failed;
        record.sources.clear();
        record.sinks.clear();
        let run = Ended { error: Some(&error), batch: None, ..ended(&job, Some(&record), at(91)) };
        assert_snapshot!(text(&run), @r#"
        run sales 0 to 90 Error { description: "a rule has failed (rule: RowCount > 0)" }
          hardtack.job=sales
          hardtack.exit_code=3
          hardtack.scope=default
          hardtack.status=failed
          hardtack.run_id=nightly
          hardtack.seconds=90
        "#);
        let never = Ended { record: None, batch: None, ..run };
        assert_snapshot!(text(&never), @r#"
        run sales 0 to 91 Error { description: "a rule has failed (rule: RowCount > 0)" }
          hardtack.job=sales
          hardtack.exit_code=3
          hardtack.status=failed
        "#);
    }
}
