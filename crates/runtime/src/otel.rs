//! A run as a trace and as metrics of OpenTelemetry, if the environment names an endpoint for them.
//!
//! The record of a run says all that is sent, so nothing is measured for it. All is sent at the end of a run, in one request
//! for each signal and from the runtime of the job: there is no thread that could outlive it.

#[cfg(feature = "otel")]
mod gauges;
#[cfg(feature = "otel")]
mod http;
#[cfg(feature = "otel")]
mod otlp;
#[cfg(feature = "otel")]
mod spans;

use std::time::Duration;

use crate::ended::Ended;

/// How long sending may take at most, whatever the environment says: a job is over, and its container costs money.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A signal that the environment wants to be sent, and how long that may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    traces: Option<Duration>,
    metrics: Option<Duration>,
}

impl Wanted {
    /// What [these variables](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/) say. The SDK
    /// would send to `localhost` without an endpoint.
    fn by(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let signal = |name: &str| {
            let of_otlp = |what: &str| {
                variable(&format!("OTEL_EXPORTER_OTLP_{name}_{what}"))
                    .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{what}")))
            };
            let exporter = variable(&format!("OTEL_{name}_EXPORTER"));
            let is_wanted = !is_off && exporter.is_none_or(|exporter| exporter != "none");
            of_otlp("ENDPOINT").filter(|_| is_wanted)?;
            let limit = of_otlp("TIMEOUT").and_then(|text| text.parse().ok()).filter(|millis| *millis > 0);
            Some(limit.map_or(TIMEOUT, Duration::from_millis).min(TIMEOUT))
        };
        Self { traces: signal("TRACES"), metrics: signal("METRICS") }
    }
}

/// The value of a variable of the environment.
fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "these variables are the same for all programs on a machine")]
    std::env::var(name).ok()
}

/// Sends the trace and the metrics of a run. What cannot be sent is a warning.
pub(crate) async fn send(run: &Ended<'_>) {
    let wanted = Wanted::by(environment);
    if wanted.traces.is_none() && wanted.metrics.is_none() {
        return;
    }
    #[cfg(feature = "otel")]
    otlp::send(run, wanted).await;
    #[cfg(not(feature = "otel"))]
    tracing::debug!(
        job = run.job.name,
        "no traces and metrics are sent: this job is built without the feature `otel` of `hardtack`"
    );
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    #[rstest]
    #[case::nothing(&[], None, None)]
    #[case::empty(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None, None)]
    #[case::both(&[ENDPOINT], Some(5000), Some(5000))]
    #[case::traces(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector/v1/traces")], Some(5000), None)]
    #[case::metrics(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://collector/v1/metrics")], None, Some(5000))]
    #[case::disabled(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")], None, None)]
    #[case::not_disabled(&[ENDPOINT, ("OTEL_SDK_DISABLED", "false")], Some(5000), Some(5000))]
    #[case::no_traces(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")], None, Some(5000))]
    #[case::no_metrics(&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "none")], Some(5000), None)]
    #[case::less_time(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "300")], Some(300), Some(300))]
    #[case::less_for_traces(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "300")], Some(300), Some(5000))]
    #[case::too_much(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")], Some(5000), Some(5000))]
    #[case::no_time(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "0")], Some(5000), Some(5000))]
    fn the_environment_decides(
        #[case] env: &[(&str, &str)],
        #[case] traces: Option<u64>,
        #[case] metrics: Option<u64>,
    ) {
        let variable = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let wanted = Wanted { traces: traces.map(Duration::from_millis), metrics: metrics.map(Duration::from_millis) };
        assert_eq!(Wanted::by(variable), wanted);
    }
}
