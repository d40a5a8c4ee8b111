//! A run is told to OpenTelemetry, by its protocol.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hardtack_test_support::{Finished, JobBinary};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use prost::Message;
use rstest::rstest;

use crate::jobs;

/// How a collector answers.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Status(&'static str),
    Never,
}

/// A request, with the names of its headers in lower case.
#[derive(Debug)]
struct Request {
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// What takes traces and metrics, on a free port. It ends with the tests.
struct Collector {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Collector {
    fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let taken = Arc::clone(&requests);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let taken = Arc::clone(&taken);
                std::thread::spawn(move || serve(client.unwrap(), answer, &taken));
            }
        });
        Self { endpoint, requests }
    }

    /// The requests to a path.
    fn taken(&self, path: &str) -> Vec<Vec<u8>> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.path == path).map(|request| request.body.clone()).collect()
    }

    fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.requests.lock().unwrap().iter().map(|request| request.path.clone()).collect();
        paths.sort();
        paths
    }

    /// The resource and the spans of the one request that has spans.
    fn spans(&self) -> (Attributes, Vec<Span>) {
        let [body] = &self.taken("/v1/traces")[..] else { panic!("one request: {:?}", self.paths()) };
        let mut request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let resource = request.resource_spans.remove(0);
        let [scope] = &resource.scope_spans[..] else { panic!("one scope: {resource:?}") };
        assert_eq!(scope.scope.as_ref().unwrap().name, "hardtack");
        (attributes(&resource.resource.unwrap().attributes), scope.spans.clone())
    }

    /// The resource and the points of the one request that has metrics: name, unit, attributes and value.
    fn points(&self) -> (Attributes, Vec<String>) {
        let [body] = &self.taken("/v1/metrics")[..] else { panic!("one request: {:?}", self.paths()) };
        let mut request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
        let resource = request.resource_metrics.remove(0);
        let mut points = Vec::new();
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Some(Data::Gauge(gauge)) = &metric.data else { panic!("a gauge: {metric:?}") };
            for point in &gauge.data_points {
                let value = match point.value.unwrap() {
                    number_data_point::Value::AsInt(value) => value.to_string(),
                    number_data_point::Value::AsDouble(value) if value > 0.0 => "some".to_owned(),
                    number_data_point::Value::AsDouble(value) => value.to_string(),
                };
                let of = attributes(&point.attributes);
                let of: Vec<String> = of.iter().map(|(name, value)| format!("{name}={value}")).collect();
                points.push(format!("{} {} {} {value}", metric.name, metric.unit, of.join(",")));
            }
        }
        points.sort();
        (attributes(&resource.resource.unwrap().attributes), points)
    }
}

/// Takes requests until the connection is closed.
fn serve(client: TcpStream, answer: Answer, taken: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        taken.lock().unwrap().push(request);
        match answer {
            Answer::Status(status) => {
                let mut client = &client;
                write!(client, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
            Answer::Never => std::thread::sleep(Duration::from_secs(600)),
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
    let headers = lines[1..].iter().map(|line| line.split_once(": ").unwrap());
    let headers: HashMap<_, _> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Some(Request { path, headers, body })
}

type Attributes = BTreeMap<String, String>;

fn attributes(of: &[KeyValue]) -> Attributes {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    of.iter().map(|one| (one.key.clone(), text(one.value.as_ref().unwrap().value.as_ref().unwrap()))).collect()
}

fn books() -> JobBinary<'static> {
    let job = jobs().args(["run", "books_data_product"]).time_limit(Duration::from_secs(60));
    job.dir().copy("fixtures/lake", "../../fixtures/lake");
    job
}

fn run(job: JobBinary<'_>, endpoint: &str, env: &[(&str, &str)]) -> Finished {
    job.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).envs(env.iter().copied()).run()
}

const OK: Answer = Answer::Status("200 OK");

#[test]
fn a_run_is_a_trace() {
    let collector = Collector::new(OK);
    let batch = [("AWS_BATCH_JOB_ID", "4711"), ("AWS_BATCH_JOB_ATTEMPT", "2")];
    run(books().args(["--run-id", "nightly"]), &collector.endpoint, &batch).assert_code(0);
    assert_eq!(collector.paths(), ["/v1/metrics", "/v1/traces"]);
    let (resource, mut spans) = collector.spans();
    assert_eq!((&*resource["service.name"], &*resource["telemetry.sdk.language"]), ("books_data_product", "rust"));
    assert!(resource.contains_key("service.version"), "{resource:?}");

    spans.sort_by_key(|span| span.name.clone());
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["read authors", "read books", "run books_data_product", "write books"]);
    let root = spans.remove(2);
    assert!(root.parent_span_id.is_empty() && root.trace_id.len() == 16, "{root:?}");
    assert_eq!(root.status.as_ref().unwrap().code(), StatusCode::Ok);
    assert!(root.start_time_unix_nano < root.end_time_unix_nano, "{root:?}");
    let of = attributes(&root.attributes);
    for (name, value) in [
        ("job", "books_data_product"),
        ("run_id", "nightly"),
        ("scope", "default"),
        ("status", "succeeded"),
        ("exit_code", "0"),
        ("batch_job", "4711"),
        ("batch_attempt", "2"),
    ] {
        assert_eq!(of[&format!("hardtack.{name}")], value, "{name}");
    }
    for (span, rows) in spans.iter().zip(["4", "6", "6"]) {
        assert_eq!((&span.trace_id, &span.parent_span_id), (&root.trace_id, &root.span_id), "{span:?}");
        assert!(span.start_time_unix_nano == root.start_time_unix_nano, "{span:?}");
        let of = attributes(&span.attributes);
        assert_eq!((&*of["hardtack.rows"], &*of["hardtack.files"]), (rows, "1"), "{span:?}");
        let seconds: f64 = of["hardtack.seconds"].parse().unwrap();
        let lasted = (span.end_time_unix_nano - span.start_time_unix_nano) as f64 / 1e9;
        assert!((seconds - lasted).abs() < 1e-6, "{span:?}");
    }
}

#[test]
fn a_run_has_metrics() {
    let collector = Collector::new(OK);
    run(books(), &collector.endpoint, &[]).assert_code(0);
    let (resource, points) = collector.points();
    assert_eq!(resource["service.name"], "books_data_product");
    let is_size = |point: &&String| point.starts_with("hardtack.bytes.");
    let sizes: Vec<&String> = points.iter().filter(is_size).collect();
    assert_eq!(sizes.len(), 3, "{points:?}");
    assert!(sizes.iter().all(|point| point.contains(" By ") && !point.ends_with(" 0")), "{points:?}");
    let others: Vec<&str> = points.iter().filter(|point| !is_size(point)).map(|point| &**point).collect();
    assert_eq!(
        others,
        [
            "hardtack.files.read {file} hardtack.job=books_data_product,hardtack.source=authors 1",
            "hardtack.files.read {file} hardtack.job=books_data_product,hardtack.source=books 1",
            "hardtack.files.written {file} hardtack.job=books_data_product,hardtack.sink=books 1",
            "hardtack.rows.quarantined {row} hardtack.job=books_data_product 0",
            "hardtack.rows.read {row} hardtack.job=books_data_product,hardtack.source=authors 4",
            "hardtack.rows.read {row} hardtack.job=books_data_product,hardtack.source=books 6",
            "hardtack.rows.written {row} hardtack.job=books_data_product,hardtack.sink=books 6",
            "hardtack.rules.failed {rule} hardtack.job=books_data_product 0",
            "hardtack.rules.passed {rule} hardtack.job=books_data_product 5",
            "hardtack.run.duration s hardtack.job=books_data_product some",
            "hardtack.run.failed {run} hardtack.job=books_data_product 0",
            "hardtack.run.succeeded {run} hardtack.job=books_data_product 1",
            "hardtack.sink.duration s hardtack.job=books_data_product,hardtack.sink=books some",
            "hardtack.source.duration s hardtack.job=books_data_product,hardtack.source=authors some",
            "hardtack.source.duration s hardtack.job=books_data_product,hardtack.source=books some",
        ]
    );
}

#[test]
fn a_run_that_fails_is_a_span_with_an_error() {
    let collector = Collector::new(OK);
    run(books().args(["--source", "nowhere"]), &collector.endpoint, &[]).assert_code(1);
    let (_, spans) = collector.spans();
    let root = spans.iter().find(|span| span.name == "run books_data_product").unwrap();
    let status = root.status.as_ref().unwrap();
    assert_eq!(status.code(), StatusCode::Error);
    assert!(status.message.contains("nowhere"), "{status:?}");
    let of = attributes(&root.attributes);
    assert_eq!((&*of["hardtack.status"], &*of["hardtack.exit_code"]), ("failed", "1"));
    let (_, points) = collector.points();
    assert!(points.contains(&"hardtack.run.failed {run} hardtack.job=books_data_product 1".to_owned()), "{points:?}");
}

/// The run stays what it is, and ends; one warning says what was wrong.
#[rstest]
#[case::broken(Answer::Status("500 Internal Server Error"), &[], "HTTP export failed with status code: 500")]
#[case::overloaded(Answer::Status("503 Service Unavailable"), &[], "HTTP export failed with status code: 503")]
#[case::elsewhere(Answer::Status("302 Found"), &[], "HTTP export failed with status code: 302")]
#[case::silent(Answer::Never, &[], "the endpoint has not answered within 5000 ms")]
#[case::less_patient(Answer::Never, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "200")], "the endpoint has not answered within 200 ms")]
fn a_collector_that_fails_does_no_harm(
    #[case] answer: Answer,
    #[case] env: &[(&str, &str)],
    #[case] cause: &str,
    #[values("fixtures/lake", "nowhere")] source: &str,
) {
    let collector = Collector::new(answer);
    let run = run(books().args(["--source", source]), &collector.endpoint, env);
    run.assert_code(i32::from(source == "nowhere"));
    assert!(run.seconds < Duration::from_secs(30), "{run}");
    let warnings: Vec<&str> = run.stderr.lines().filter(|line| line.contains("OpenTelemetry")).collect();
    let [warning] = warnings[..] else { panic!("one warning: {run}") };
    assert!(warning.contains("WARN") && warning.contains("traces and metrics could not be sent: "), "{warning}");
    assert_eq!(warning.matches(cause).count(), 1, "{warning}");
}

/// Names of endpoints may have a password.
#[rstest]
#[case::nobody_listens("127.0.0.1:9", "Connection refused")]
#[case::no_address("127.0.0.1:9/ ", "OTEL_EXPORTER_OTLP_ENDPOINT: invalid endpoint 'http://***@127.0.0.1:9/ '")]
fn an_endpoint_that_is_wrong_is_told_with_the_cause(#[case] address: &str, #[case] cause: &str) {
    let run = run(books(), &format!("http://us:s3cret@{address}"), &[("OTEL_METRICS_EXPORTER", "none")]);
    run.assert_code(0);
    let told = |text: &str| run.stderr.contains(text);
    assert!(told("OpenTelemetry: traces could not be sent: ") && told(cause), "{run}");
    assert!(!told("metrics could not") && !told("s3cret"), "{run}");
}

#[rstest]
#[case::by_a_name(&[("OTEL_SERVICE_NAME", "books")], "books")]
#[case::by_an_attribute(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=shelf,team=data")], "shelf")]
#[case::by_both(&[("OTEL_SERVICE_NAME", "books"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shelf")], "books")]
fn the_environment_names_the_service(#[case] env: &[(&str, &str)], #[case] name: &str) {
    let collector = Collector::new(OK);
    run(books(), &collector.endpoint, env).assert_code(0);
    for resource in [collector.spans().0, collector.points().0] {
        assert_eq!(resource["service.name"], name);
        assert_eq!(resource.contains_key("team"), env[0].1.contains("team"), "{resource:?}");
    }
}

#[test]
fn headers_are_those_of_the_environment() {
    let collector = Collector::new(OK);
    run(books(), &collector.endpoint, &[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cr%20t,x-tenant=books")])
        .assert_code(0);
    for request in &*collector.requests.lock().unwrap() {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        assert_eq!((header("api-key"), header("x-tenant")), (Some("s3cr t"), Some("books")));
        assert_eq!(header("content-type"), Some("application/x-protobuf"));
    }
}

#[rstest]
#[case::a_trace(&[], "/v1/metrics /v1/traces")]
#[case::disabled(&[("OTEL_SDK_DISABLED", "true")], "")]
#[case::by_signal(&[("OTEL_TRACES_EXPORTER", "none")], "/v1/metrics")]
#[case::not_sampled(&[("OTEL_TRACES_SAMPLER", "always_off")], "/v1/metrics")]
#[case::of_a_parent_that_is_not(&[("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")], "/v1/metrics")]
#[case::no_run(&[("HARDTACK_DRY_RUN", "true")], "")]
fn the_environment_decides_what_is_sent(#[case] env: &[(&str, &str)], #[case] paths: &str) {
    let collector = Collector::new(OK);
    let run = run(books(), &collector.endpoint, env);
    run.assert_code(0);
    assert_eq!(collector.paths().join(" "), paths);
    assert!(!run.stderr.contains("OpenTelemetry"), "{run}");
}

/// An endpoint of a signal is used as it is.
#[test]
fn a_signal_may_have_an_endpoint_of_its_own() {
    let collector = Collector::new(OK);
    let endpoint = format!("{}/traces/of/us", collector.endpoint);
    books().env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint).run().assert_code(0);
    assert_eq!(collector.paths(), ["/traces/of/us"]);
}

#[rstest]
#[case::continued("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true)]
#[case::nonsense("00-0-0-01", false)]
fn the_trace_of_who_has_started_the_job_is_continued(#[case] parent: &str, #[case] continued: bool) {
    let collector = Collector::new(OK);
    run(books(), &collector.endpoint, &[("TRACEPARENT", parent)]).assert_code(0);
    let (_, spans) = collector.spans();
    let root = spans.iter().find(|span| span.name == "run books_data_product").unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&root.parent_span_id) == "b7ad6b7169203331", continued, "{root:?}");
    assert_eq!(root.parent_span_id.is_empty(), !continued, "{root:?}");
    for span in &spans {
        assert_eq!(hex(&span.trace_id) == "0af7651916cd43dd8448eb211c80319c", continued, "{span:?}");
    }
}
