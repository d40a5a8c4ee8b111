//! The metrics of a run.
//!
//! All are gauges, with one point per run. A counter adds up within a process, and the process of a run ends with it: to most
//! backends, counters of consecutive runs are one that never grows.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};
use serde_json::Value;

use super::otlp::scope;
use crate::ended::{Number, Series, Subject};

/// The metrics of a job's run.
pub(super) fn of(job: &str, series: &[Series<'_>], resource: Resource) -> Result<ResourceMetrics, OTelSdkError> {
    let reader = Reader::default();
    let provider = SdkMeterProvider::builder().with_reader(reader.clone()).with_resource(resource).build();
    let meter = provider.meter_with_scope(scope());
    for series in series {
        let attributes = attributes(job, series.subject);
        for (number, value) in &series.numbers {
            if let Some((name, unit)) = named(series.subject, *number) {
                record(&meter, name, unit, value, &attributes);
            }
        }
    }
    let mut all = ResourceMetrics::default();
    reader.collect(&mut all)?;
    Ok(all)
}

fn record(meter: &Meter, name: &'static str, unit: &'static str, value: &Value, attributes: &[KeyValue]) {
    match value.as_u64() {
        Some(value) => meter.u64_gauge(name).with_unit(unit).build().record(value, attributes),
        None => {
            let value = value.as_f64().unwrap_or_default();
            meter.f64_gauge(name).with_unit(unit).build().record(value, attributes);
        }
    }
}

/// What a metric is of. With a prefix, because `job` is something else to Prometheus.
fn attributes(job: &str, subject: Subject<'_>) -> Vec<KeyValue> {
    let mut all = vec![KeyValue::new("hardtack.job", job.to_owned())];
    match subject {
        Subject::Run => {}
        Subject::Source(name) => all.push(KeyValue::new("hardtack.source", name.to_owned())),
        Subject::Sink(name) => all.push(KeyValue::new("hardtack.sink", name.to_owned())),
    }
    all
}

/// The name and the unit of a metric; none if it adds up others, or is part of one: whoever adds up all points of a metric
/// must count nothing twice.
fn named(subject: Subject<'_>, number: Number) -> Option<(&'static str, &'static str)> {
    match (subject, number) {
        (Subject::Run, Number::Succeeded) => Some(("hardtack.run.succeeded", "{run}")),
        (Subject::Run, Number::Failed) => Some(("hardtack.run.failed", "{run}")),
        (Subject::Run, Number::Duration) => Some(("hardtack.run.duration", "s")),
        (Subject::Run, Number::BytesSpilled) => Some(("hardtack.bytes.spilled", "By")),
        // Sources have rules, too, and the run has those of all.
        (Subject::Run, Number::RulesPassed) => Some(("hardtack.rules.passed", "{rule}")),
        (Subject::Run, Number::RulesFailed) => Some(("hardtack.rules.failed", "{rule}")),
        (Subject::Run, Number::RowsQuarantined) => Some(("hardtack.rows.quarantined", "{row}")),
        (Subject::Source(_), Number::Rows) => Some(("hardtack.rows.read", "{row}")),
        (Subject::Source(_), Number::Bytes) => Some(("hardtack.bytes.read", "By")),
        (Subject::Source(_), Number::Files) => Some(("hardtack.files.read", "{file}")),
        (Subject::Source(_), Number::Duration) => Some(("hardtack.source.duration", "s")),
        (Subject::Source(_), Number::BookmarkLag) => Some(("hardtack.bookmark.lag", "s")),
        (Subject::Sink(_), Number::Rows) => Some(("hardtack.rows.written", "{row}")),
        (Subject::Sink(_), Number::Bytes) => Some(("hardtack.bytes.written", "By")),
        (Subject::Sink(_), Number::Files) => Some(("hardtack.files.written", "{file}")),
        (Subject::Sink(_), Number::Duration) => Some(("hardtack.sink.duration", "s")),
        _ => None,
    }
}

/// Reads the metrics once, here. The SDK's own readers send them from a thread that has no runtime for HTTP.
#[derive(Debug, Clone, Default)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, all: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(all)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
