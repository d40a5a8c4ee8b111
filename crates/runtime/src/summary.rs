//! What a run says when it ends: a line per source and sink.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::prelude::DataFrame;
use hardtack_core::{Counts, Error, Io, JobContext, Result, Sink, Source, StagedSink, StagingIo};
use indicatif::{HumanBytes, HumanCount};

use crate::args::LogFormat;
use crate::lifecycle::Outcome;

/// The `Io` of a real run that also keeps the first rows of each sink, to print them.
#[derive(Debug, Default)]
pub(crate) struct ShowingIo {
    inner: StagingIo,
    rows: usize,
    shown: Mutex<Vec<(String, String)>>,
}

impl ShowingIo {
    pub(crate) fn new(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }

    pub(crate) fn staging(&self) -> Vec<StagedSink> {
        self.inner.staged()
    }

    pub(crate) fn shown(&self) -> Vec<(String, String)> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Io for ShowingIo {
    async fn load(&self, ctx: &JobContext, source: &dyn Source) -> Result<DataFrame> {
        self.inner.load(ctx, source).await
    }

    async fn save(&self, ctx: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()> {
        let first = (self.rows > 0).then(|| rows.clone());
        self.inner.save(ctx, sink, rows).await?;
        // The plan runs once more, up to the wanted rows; nothing was published yet, so it reads what it read before.
        if let Some(first) = first {
            let counted = ctx.meters().sources();
            let text = first.limit(0, Some(self.rows))?.to_string().await?;
            ctx.meters().reset_sources(&counted);
            self.shown.lock().unwrap_or_else(PoisonError::into_inner).push((sink.name().to_owned(), text));
        }
        Ok(())
    }
}

fn line(counts: &Counts) -> String {
    let files = if counts.files == 1 { "1 file".to_owned() } else { format!("{} files", HumanCount(counts.files)) };
    let rows = if counts.rows == 1 { "1 row".to_owned() } else { format!("{} rows", HumanCount(counts.rows)) };
    format!("{files}, {rows}, {}", HumanBytes(counts.bytes))
}

/// Says what was read, written and where.
pub(crate) fn succeeded(outcome: &Outcome, format: LogFormat) {
    for (name, text) in &outcome.shown {
        let _ = writeln!(std::io::stdout(), "{name}\n{text}");
    }
    let record = &outcome.record;
    let place = |sink: &str| {
        let staged = outcome.sinks.iter().find(|s| s.name == sink);
        staged.and_then(|s| s.location.as_ref()).map(ToString::to_string).unwrap_or_default()
    };
    if !format.is_pretty() {
        let mut json = serde_json::json!({"level": "INFO", "job": record.run.job, "message": "the run succeeded"});
        if let (Some(line), Ok(serde_json::Value::Object(record))) =
            (json.as_object_mut(), serde_json::to_value(record))
        {
            line.extend(record);
        }
        for sink in &outcome.sinks {
            let counts = json.get_mut("sinks").and_then(|sinks| sinks.get_mut(&sink.name));
            if let (Some(serde_json::Value::Object(counts)), Some(location)) = (counts, &sink.location) {
                counts.insert("location".to_owned(), location.to_string().into());
            }
        }
        let _ = writeln!(std::io::stderr(), "{json}");
        return;
    }
    let mut text = String::new();
    for (name, counts) in &record.sources {
        text.push_str(&format!("read   {name}: {}\n", line(counts)));
    }
    for (name, counts) in &record.sinks {
        let to = Some(place(name)).filter(|p| !p.is_empty()).map(|p| format!(" to {p}")).unwrap_or_default();
        text.push_str(&format!("wrote  {name}: {}{to}\n", line(counts)));
    }
    let seconds = record.finished_at.map_or(0.0, |end| (end - record.run.started_at).as_seconds_f64());
    text.push_str(&format!(
        "{} succeeded in {seconds:.2} s (run {}, commit {})\n",
        record.run.job,
        record.run.id,
        record.commit.unwrap_or_default()
    ));
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Says why the run failed, in one line.
pub(crate) fn failed(job: &str, error: &Error, format: LogFormat) {
    let code = error.kind().exit_code();
    if format.is_pretty() {
        let _ =
            writeln!(std::io::stderr(), "{job} failed: {}\n(exit code {code}: {})", error.chain(), error.kind().name());
        return;
    }
    let json = serde_json::json!({
        "level": "ERROR", "job": job, "message": error.chain(), "kind": error.kind().name(), "exit_code": code,
    });
    let _ = writeln!(std::io::stderr(), "{json}");
}
