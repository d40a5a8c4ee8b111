//! Tells people of a run that has failed: by a command, or by a webhook.

use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use hardtack_core::{Error, Result};
use hardtack_state::RunRecord;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use url::Url;

use crate::args::RuntimeArgs;
use crate::batch::BatchJob;

/// How long a notification may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Whom to tell of failures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct NotifyArgs {
    /// Program to start if the run fails, with arguments; it gets what has happened as JSON on its standard input. Words are
    /// separated by spaces, and no shell interprets them. For example `/usr/local/bin/page --team sales`
    #[arg(long, env = "HARDTACK_ON_FAILURE_COMMAND", value_name = "COMMAND")]
    pub on_failure_command: Option<String>,

    /// Address to which what has happened is posted as JSON if the run fails; its `text` is what Slack and its like show. For
    /// example `https://hooks.example.com/services/T0/B0`
    #[arg(long, env = "HARDTACK_ON_FAILURE_URL", value_name = "URL", value_parser = webhook, hide_env_values = true)]
    pub on_failure_url: Option<Url>,
}

/// Parses the address of a webhook.
fn webhook(text: &str) -> Result<Url, String> {
    let wrong = || "expected an address such as `https://hooks.example.com/services/T0/B0`".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    match cfg!(feature = "aws") {
        true => Ok(url),
        false => Err("this job is built without HTTP: it needs the feature `aws` of `hardtack`".to_owned()),
    }
}

/// Tells of a run that has failed. That nobody could be told is a warning: the run's exit code stays.
pub(crate) async fn failed(job: &str, options: &RuntimeArgs, error: &Error) {
    let NotifyArgs { on_failure_command, on_failure_url } = &options.notify;
    if on_failure_command.is_none() && on_failure_url.is_none() {
        return;
    }
    let message = message(job, options, error);
    if let Some(command) = on_failure_command
        && let Err(e) = within(run(command, &message)).await
    {
        tracing::warn!(command, "the command that tells of a failure has failed: {}", e.chain());
    }
    if let Some(url) = on_failure_url
        && let Err(e) = within(post(url, &message)).await
    {
        // The path of such an address is often a secret.
        let host = url.host_str().unwrap_or_default();
        tracing::warn!(host, "the webhook that tells of a failure has failed: {}", e.chain());
    }
}

async fn within(work: impl Future<Output = Result<()>>) -> Result<()> {
    let late = |_| Error::unavailable(format!("it took more than {} s", TIMEOUT.as_secs()));
    tokio::time::timeout(TIMEOUT, work).await.map_err(late)?
}

/// What has happened, and how to look deeper.
fn message(job: &str, options: &RuntimeArgs, error: &Error) -> Value {
    let record = error.detail::<RunRecord>();
    let (state, code) = (&options.records.state, error.kind().exit_code());
    let look = match record {
        Some(record) => format!("hardtack --state {state} runs show {} --job {job}", record.run.id),
        None => format!("hardtack --state {state} runs {job}"),
    };
    let batch = BatchJob::from_env();
    json!({
        "text": format!("{job} failed with exit code {code}: {}\nTo look deeper: {look}", error.chain()),
        "job": job,
        "run": record.map(|record| record.run.id.to_string()),
        "scope": record.map_or(&options.scope, |record| &record.run.scope),
        "started_at": record.map(|record| record.run.started_at),
        "kind": error.kind().name(),
        "exit_code": code,
        "error": error.chain(),
        "batch_job": batch.as_ref().map(|batch| &batch.id),
        "attempt": batch.as_ref().map(|batch| batch.attempt),
        "look": look,
    })
}

async fn run(command: &str, message: &Value) -> Result<()> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| Error::usage("the command is empty"))?;
    let child =
        Command::new(program).args(words).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn();
    let mut child = child.map_err(|e| Error::usage("it cannot be started").with("program", program).because(e))?;
    if let Some(mut input) = child.stdin.take() {
        // It need not read all.
        let _ = input.write_all(format!("{message}\n").as_bytes()).await;
    }
    let status = child.wait().await.map_err(|e| Error::unexpected("it was lost").because(e))?;
    if status.success() { Ok(()) } else { Err(Error::unexpected(format!("it ended with {status}"))) }
}

#[cfg(feature = "aws")]
async fn post(url: &Url, message: &Value) -> Result<()> {
    let unavailable = |e: reqwest::Error| Error::unavailable("the address does not answer").because(e.without_url());
    let client = reqwest::Client::builder().build().map_err(unavailable)?;
    let request = client.post(url.clone()).header("content-type", "application/json").body(message.to_string());
    let answer = request.send().await.map_err(unavailable)?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(Error::unavailable(format!("it answered {status}"))),
    }
}

#[cfg(not(feature = "aws"))]
async fn post(_: &Url, _: &Value) -> Result<()> {
    Err(Error::usage("this job is built without HTTP"))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a script of the test reads and writes")]
mod tests {
    use hardtack_core::{JobContext, Location};
    use insta::assert_snapshot;
    use rstest::rstest;

    use super::*;

    fn options(notify: NotifyArgs) -> RuntimeArgs {
        RuntimeArgs { notify, ..RuntimeArgs::with_state(Location::from("s3://state/hardtack")) }
    }

    /// An error of the run `nightly`.
    fn refused() -> Error {
        let ctx = JobContext::builder("sales").build().unwrap();
        let run = hardtack_core::Run { id: "nightly".parse().unwrap(), ..ctx.run().clone() };
        let mut record = RunRecord::begin(run);
        record.run.started_at = "2026-11-30T04:00:00Z".parse().unwrap();
        Error::refused("a rule has failed").with("rule", "RowCount > 0").with_detail(record)
    }

    #[test]
    fn a_message_says_what_has_happened_and_how_to_look_deeper() {
        let message = message("sales", &options(NotifyArgs::default()), &refused());
        assert_snapshot!(serde_json::to_string_pretty(&message).unwrap());
        let early = super::message("sales", &options(NotifyArgs::default()), &Error::usage("no such state"));
        assert_eq!(
            (early["run"].is_null(), early["look"].as_str().unwrap()),
            (true, "hardtack --state s3://state/hardtack runs sales")
        );
    }

    /// A command gets the message; one that fails, or is not there, is no failure.
    #[rstest]
    #[case::works("", true)]
    #[case::fails("exit 1", true)]
    #[tokio::test]
    async fn a_command_is_told(#[case] then: &str, #[case] told: bool) {
        let folder = tempfile::tempdir().unwrap();
        let (script, out) = (folder.path().join("tell.sh"), folder.path().join("out"));
        tokio::fs::write(&script, format!("cat > {}\n{then}\n", out.display())).await.unwrap();
        let command = format!("sh {}", script.display());
        failed("sales", &options(NotifyArgs { on_failure_command: Some(command), on_failure_url: None }), &refused())
            .await;
        let text = tokio::fs::read_to_string(&out).await.unwrap();
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((message["run"].as_str() == Some("nightly"), message["exit_code"].as_u64()), (told, Some(3)));
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_named() {
        let error = run("/no/such/program --team sales", &Value::Null).await.unwrap_err();
        assert_eq!(error.get("program"), Some("/no/such/program"));
    }

    #[cfg(feature = "aws")]
    #[rstest]
    #[case::takes_it("200 OK", Ok(()))]
    #[case::refuses("403 Forbidden", Err("it answered 403 Forbidden"))]
    #[tokio::test]
    async fn a_webhook_is_told(#[case] status: &'static str, #[case] expected: Result<(), &'static str>) {
        use tokio::io::AsyncReadExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/services/T0", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            while !received.ends_with(b"}") {
                client.read_buf(&mut received).await.unwrap();
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            client.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(received).unwrap()
        });
        let done = post(&url, &json!({"text": "sales failed"})).await;
        let request = server.await.unwrap();
        assert!(
            request.starts_with("POST /services/T0 HTTP/1.1\r\n") && request.ends_with(r#"{"text":"sales failed"}"#)
        );
        assert_eq!(done.map_err(|e| e.message().to_owned()), expected.map_err(str::to_owned));
    }

    #[cfg(feature = "aws")]
    #[tokio::test]
    async fn an_address_that_does_not_answer_is_not_printed() {
        let url = "http://127.0.0.1:9/services/secret".parse().unwrap();
        let error = post(&url, &Value::Null).await.unwrap_err();
        assert!(!format!("{error:?} {}", error.chain()).contains("secret"), "{error:?}");
    }

    #[rstest]
    #[case("hooks.example.com")]
    #[case("ftp://hooks.example.com")]
    #[case("https://")]
    fn an_address_that_is_none_is_refused(#[case] text: &str) {
        assert!(webhook(text).unwrap_err().starts_with("expected an address"));
    }
}
