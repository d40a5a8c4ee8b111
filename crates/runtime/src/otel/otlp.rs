//! Sends traces and metrics by OTLP over HTTP.

use std::sync::Arc;
use std::time::Duration;

use hardtack_core::location::without_credentials;
use hardtack_core::{Error, Result};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SpanExporter as _;

use super::http::Client;
use super::{Wanted, environment, gauges, spans};
use crate::definition::JobDefinition;
use crate::ended::{Ended, Series};

const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

pub(super) async fn send(run: &Ended<'_>, wanted: Wanted) {
    let (series, resource) = (run.series(), resource(run.job));
    let client = match Client::new() {
        Ok(client) => client,
        Err(e) => return warn(Err(Error::unexpected("there is no HTTP client").because(e)), Ok(())),
    };
    let traces = async {
        match wanted.traces {
            Some(limit) => send_traces(client.another(), limit, run, &series, &resource).await,
            None => Ok(()),
        }
    };
    let metrics = async {
        match wanted.metrics {
            Some(limit) => send_metrics(client.another(), limit, &run.job.name, &series, &resource).await,
            None => Ok(()),
        }
    };
    let (traces, metrics) = tokio::join!(traces, metrics);
    warn(traces, metrics);
}

/// Tells once what could not be sent: mostly neither, for one reason.
fn warn(traces: Result<()>, metrics: Result<()>) {
    let [traces, metrics] = [traces, metrics].map(|sent| sent.err().map(|error| error.chain()));
    match (traces, metrics) {
        (None, None) => {}
        (Some(both), Some(other)) if both == other => {
            tracing::warn!("OpenTelemetry: traces and metrics could not be sent: {both}");
        }
        (Some(traces), None) => tracing::warn!("OpenTelemetry: traces could not be sent: {traces}"),
        (None, Some(metrics)) => tracing::warn!("OpenTelemetry: metrics could not be sent: {metrics}"),
        (Some(traces), Some(metrics)) => {
            tracing::warn!("OpenTelemetry: traces could not be sent: {traces}; nor could metrics: {metrics}");
        }
    }
}

async fn send_traces(
    client: Client,
    limit: Duration,
    run: &Ended<'_>,
    series: &[Series<'_>],
    resource: &Resource,
) -> Result<()> {
    let spans = spans::of(run, series, &spans::parent(environment));
    // The parent, or a sampler, may not want them.
    if spans.is_empty() {
        return Ok(());
    }
    let client = Arc::new(client);
    let exporter = SpanExporter::builder().with_http().with_shared_http_client(client.clone()).with_timeout(limit);
    let mut exporter = exporter.build().map_err(misconfigured)?;
    exporter.set_resource(resource);
    within(limit, &client, exporter.export(spans)).await
}

async fn send_metrics(
    client: Client,
    limit: Duration,
    job: &str,
    series: &[Series<'_>],
    resource: &Resource,
) -> Result<()> {
    let collected = gauges::of(job, series, resource.clone());
    let metrics = collected.map_err(|e| Error::unexpected("the metrics cannot be collected").because(e))?;
    let client = Arc::new(client);
    let exporter = MetricExporter::builder().with_http().with_shared_http_client(client.clone()).with_timeout(limit);
    let exporter = exporter.build().map_err(misconfigured)?;
    within(limit, &client, exporter.export(&metrics)).await
}

/// The error of an exporter quotes the variable that is wrong.
fn misconfigured(error: ExporterBuildError) -> Error {
    let error = error.to_string();
    Error::usage("a variable of the environment is wrong").because(without_credentials(&error).into_owned())
}

/// Sends a request within this time: the SDK's own limit does not end one that is under way.
async fn within(limit: Duration, client: &Client, export: impl Future<Output = OTelSdkResult>) -> Result<()> {
    let hint = "it must take OTLP over HTTP with protobuf, usually at port 4318";
    let refused = || Error::unavailable("the endpoint has not accepted them").hint(hint);
    match tokio::time::timeout(limit, export).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(match client.take_cause() {
            Some(cause) => refused().because(cause),
            None => refused().because(e),
        }),
        Err(_) => Err(Error::unavailable(format!("the endpoint has not answered within {} ms", limit.as_millis()))),
    }
}

/// What has produced the signals: the job, unless the environment has another name for it.
fn resource(job: &JobDefinition) -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name(job.name.clone())
        .with_attributes(job.version.iter().map(|version| KeyValue::new("service.version", version.clone())))
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    let resource = match environment(SERVICE_NAME).filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name),
        None => resource,
    };
    resource.build()
}

/// What says that these signals are ours.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("hardtack").with_version(env!("CARGO_PKG_VERSION")).build()
}
