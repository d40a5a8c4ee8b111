//! The summary at the end of a run: a line per source and sink.

use std::io::Write;

use hardtack_core::audit::{self, Audit, Verdict};
use hardtack_core::{Counts, Error};
use hardtack_state::ColumnProfile;
use indicatif::{HumanBytes, HumanCount};

use crate::args::LogFormat;
use crate::outcome::Outcome;

fn line(counts: &Counts) -> String {
    let files = if counts.files == 1 { "1 file".to_owned() } else { format!("{} files", HumanCount(counts.files)) };
    let rows = if counts.rows == 1 { "1 row".to_owned() } else { format!("{} rows", HumanCount(counts.rows)) };
    format!("{files}, {rows}, {}", HumanBytes(counts.bytes))
}

/// The column profiles of a sink, as a table.
fn profile(sink: &str, columns: &[ColumnProfile]) -> String {
    let header = ["column", "type", "nulls", "distinct", "min", "max", "longest"].map(str::to_owned);
    let row = |column: &ColumnProfile| {
        let optional = |text: &Option<String>| text.as_deref().map(short).unwrap_or_default();
        [
            column.name.clone(),
            column.data_type.clone(),
            column.nulls.to_string(),
            column.distinct.to_string(),
            optional(&column.min),
            optional(&column.max),
            column.longest.map(|longest| longest.to_string()).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(columns.iter().map(row)).collect();
    format!("profile {sink}\n{}", table(&rows))
}

/// The verdicts of an audit, as a table for people.
pub fn audit(audit: &Audit) -> String {
    let passed = audit.verdicts.iter().filter(|verdict| verdict.outcome == audit::Outcome::Passed).count();
    let rows = if audit.rows == 1 { "1 row".to_owned() } else { format!("{} rows", HumanCount(audit.rows)) };
    let mut text = format!("audit  {}: {rows}, {passed} of {} rules passed", audit.subject, audit.verdicts.len());
    if let Some(aside) = audit.quarantined.filter(|aside| *aside > 0) {
        text.push_str(&format!(", {} set aside", HumanCount(aside)));
    }
    text.push('\n');
    let header = ["", "outcome", "rule", "actual", "expected"].map(str::to_owned);
    let row = |verdict: &Verdict| {
        let outcome = match (verdict.outcome, verdict.severity) {
            (audit::Outcome::Passed, _) => "passed",
            (_, audit::Severity::Warn) => "warning",
            (audit::Outcome::Failed, _) => "FAILED",
            (audit::Outcome::Error, _) => "ERROR",
        };
        let mut actual: Vec<String> = verdict.reason.iter().chain(&verdict.actual).cloned().collect();
        if verdict.outcome != audit::Outcome::Passed && !verdict.examples.is_empty() {
            actual.push(format!("such as {}", verdict.examples.join(", ")));
        }
        let expected = verdict.expected.clone().unwrap_or_default();
        [verdict.number.to_string(), outcome.to_owned(), verdict.rule.clone(), actual.join("; "), expected]
    };
    let rows: Vec<_> = std::iter::once(header).chain(audit.verdicts.iter().map(row)).collect();
    text.push_str(&table(&rows));
    if let Some(kept) = &audit.kept {
        text.push_str(&format!("refused rows: {kept}\n"));
    }
    text
}

/// Rows with columns below each other.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
        text.push('\n');
    }
    text
}

/// Shortens a value to fit into a line.
fn short(value: &str) -> String {
    const MOST: usize = 40;
    let value = value.escape_debug().to_string();
    if value.chars().count() <= MOST { value } else { value.chars().take(MOST - 1).chain(['…']).collect() }
}

/// Reports what was read and written, and where.
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
            // Of use on record only.
            line.remove("invocation");
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
    if let Some(bytes) = record.spilled_bytes {
        text.push_str(&format!("spilled {} at most\n", HumanBytes(bytes)));
    }
    record.audits.iter().for_each(|one| text.push_str(&audit(one)));
    for (sink, columns) in &record.profiles {
        text.push_str(&profile(sink, columns));
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

/// Reports the failure of a run in one line.
pub(crate) fn failed(job: &str, error: &Error, format: LogFormat) {
    let code = error.kind().exit_code();
    let audits = error.detail::<Vec<Audit>>().map_or(&[][..], Vec::as_slice);
    if format.is_pretty() {
        let tables: String = audits.iter().map(audit).collect();
        let _ = std::io::stderr().write_all(tables.as_bytes());
        let _ =
            writeln!(std::io::stderr(), "{job} failed: {}\n(exit code {code}: {})", error.chain(), error.kind().name());
        return;
    }
    let mut json = serde_json::json!({
        "level": "ERROR", "job": job, "message": error.chain(), "kind": error.kind().name(), "exit_code": code,
    });
    if let (false, Some(line), Ok(audits)) = (audits.is_empty(), json.as_object_mut(), serde_json::to_value(audits)) {
        line.insert("audits".to_owned(), audits);
    }
    let _ = writeln!(std::io::stderr(), "{json}");
}
