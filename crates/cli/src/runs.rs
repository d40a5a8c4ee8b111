//! `hardtack runs`: what has run, and how it ended.

mod select;
mod trend;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use clap::{Args, Subcommand};
use hardtack_core::{Counts, Error, Result, RunId};
use hardtack_runtime::{RuntimeArgs, audit_text, open_context, open_state, parse_duration};
use hardtack_state::{Invocation, Ledger, RunRecord, RunStatus, StateStore, moves};

use self::select::Select;
use self::trend::trend;
use self::watch::Watch;
use crate::bookmark::{check_job, describe, list, time};
use crate::draw::{count, draw_to_terminal};
use crate::process::shell_word;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// The job, for example `books_data_product` [default: all]
    job: Option<String>,
    #[command(flatten)]
    select: Select,
    /// Show runs as they begin and end, until Ctrl-C: draws the table again and again on a terminal, and otherwise prints a
    /// line for each run and each change of its status
    #[arg(long)]
    watch: bool,
    /// Time between two looks, for example `10s`
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_interval, requires = "watch")]
    interval: Duration,
    /// Print the whole records as JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a run: sources, sinks, positions, the error and its causes
    Show {
        /// The run's id, for example `20261121T040000Z-1f0c9a3e`
        run: RunId,
        /// Only the run of this job; ids that people choose may occur in several [default: all]
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// Print the whole record as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how the duration and the rows of a job have moved, and mark what is unusual
    ///
    /// Each run is compared with the median of the up to 30 successful runs before it, from 5 on. A successful run is
    /// unusual if it is off by more than 3 times their median absolute deviation, and by more than 20 %, and its duration
    /// also by more than a second.
    Trend {
        /// The job, for example `books_data_product`
        job: String,
        #[command(flatten)]
        select: Select,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
}

/// Parses the time between two looks.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?.to_std().map_err(|e| e.to_string())?;
    match interval.is_zero() {
        true => Err("expected a time from `1ms`, for example `10s`".to_owned()),
        false => Ok(interval),
    }
}

/// Executes the command; returns its output.
pub(crate) async fn run(options: &RuntimeArgs, args: RunsArgs) -> Result<String> {
    let ctx = open_context("hardtack", options)?;
    let state = open_state(ctx.stores(), &options.records.state)?;
    match args.command {
        Some(Command::Show { run, job, json }) => show(&state, options, &run, job.as_deref(), json).await,
        Some(Command::Trend { job, select, json }) => {
            select.check()?;
            check_job(&state, options, &job).await?;
            trend(&Ledger::runs(&state, &job).await?, &select, json)
        }
        None => list_runs(&state, options, &args).await,
    }
}

async fn list_runs(state: &Arc<dyn StateStore>, options: &RuntimeArgs, args: &RunsArgs) -> Result<String> {
    args.select.check()?;
    if let Some(job) = &args.job {
        check_job(state, options, job).await?;
    }
    if args.watch {
        let (job, select) = (args.job.as_deref(), &args.select);
        let watch = Watch { state, job, select, interval: args.interval, json: args.json };
        return watch.run().await.map(|()| String::new());
    }
    let all = match &args.job {
        Some(job) => Ledger::runs(state, job).await?,
        None => all_runs(state).await?,
    };
    let wanted: Vec<&RunRecord> = all.iter().filter(|record| args.select.wants(record)).collect();
    let wanted = args.select.last(&wanted);
    if args.json {
        return wanted.iter().map(|record| as_json(record)).collect();
    }
    if wanted.is_empty() {
        let which = if all.is_empty() { "runs" } else { "such runs" };
        return Ok(format!("there are no {which} in the state at {}\n", options.records.state));
    }
    Ok(table(wanted))
}

/// A line for each of these runs.
fn table(runs: &[&RunRecord]) -> String {
    let columns = ["started", "run", "job", "scope", "status", "read", "written", "seconds", "commit", "remark"];
    let is_number = |column| matches!(column, "read" | "written" | "seconds" | "commit");
    let rows: Vec<_> = runs.iter().map(|record| row(record)).collect();
    draw_to_terminal(&columns.map(|column| (column, is_number(column))), &rows)
}

/// The runs of all jobs, oldest first.
pub(crate) async fn all_runs(state: &Arc<dyn StateStore>) -> Result<Vec<RunRecord>> {
    let mut runs = Vec::new();
    for job in Ledger::jobs(state).await? {
        runs.extend(Ledger::runs(state, &job).await?);
    }
    runs.sort_by_key(|record| record.run.started_at);
    Ok(runs)
}

fn row(record: &RunRecord) -> Vec<String> {
    let error = record.error.as_ref().map(|e| e.message.clone());
    let change = record.change.as_ref().map(|change| format!("bookmark {change}"));
    vec![
        time(record.run.started_at),
        record.run.id.to_string(),
        record.run.job.clone(),
        record.run.scope.clone(),
        status_name(record.status).to_owned(),
        rows(&record.sources).to_string(),
        rows(&record.sinks).to_string(),
        duration(record),
        record.commit.map(|commit| commit.to_string()).unwrap_or_default(),
        error.or(change).unwrap_or_default(),
    ]
}

pub(crate) fn status_name(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running or killed",
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Stopped => "stopped",
        RunStatus::Superseded => "superseded",
        RunStatus::Killed => "killed",
        RunStatus::Abandoned => "abandoned",
    }
}

/// The number of rows in all.
pub(crate) fn rows(counts: &BTreeMap<String, Counts>) -> u64 {
    counts.values().map(|counts| counts.rows).sum()
}

/// The duration of a run in seconds, if it has ended.
fn seconds(record: &RunRecord) -> Option<f64> {
    record.finished_at.map(|end| (end - record.run.started_at).as_seconds_f64())
}

/// The duration of a run, or how long it has been running (unless it was killed): `12.3+`.
fn duration(record: &RunRecord) -> String {
    match seconds(record) {
        Some(seconds) => format!("{seconds:.1}"),
        None => {
            let elapsed = (Utc::now() - record.run.started_at).max(TimeDelta::zero());
            format!("{:.1}+", elapsed.as_seconds_f64())
        }
    }
}

pub(crate) fn as_json(run: &RunRecord) -> Result<String> {
    let json = serde_json::to_string(run).map_err(|e| Error::unexpected("a record cannot be printed").because(e))?;
    Ok(json + "\n")
}

async fn show(
    state: &Arc<dyn StateStore>,
    options: &RuntimeArgs,
    id: &RunId,
    job: Option<&str>,
    json: bool,
) -> Result<String> {
    let found = find(state, options, id, job).await?;
    let texts = found.iter().map(|record| if json { as_json(record) } else { Ok(as_text(record)) });
    Ok(texts.collect::<Result<Vec<_>>>()?.join(if json { "" } else { "\n" }))
}

/// The runs with this id, of a job or of all: at least one.
pub(crate) async fn find(
    state: &Arc<dyn StateStore>,
    options: &RuntimeArgs,
    id: &RunId,
    job: Option<&str>,
) -> Result<Vec<RunRecord>> {
    let jobs = match job {
        Some(job) => {
            check_job(state, options, job).await?;
            [job.to_owned()].into()
        }
        None => Ledger::jobs(state).await?,
    };
    let mut found = Vec::new();
    for job in &jobs {
        // The record of a run does not depend on its scope.
        found.extend(Ledger::new(Arc::clone(state), job, "").get_run(id).await?);
    }
    match found.is_empty() {
        true => Err(unknown(state, options, id, job).await?),
        false => Ok(found),
    }
}

async fn unknown(state: &Arc<dyn StateStore>, options: &RuntimeArgs, id: &RunId, job: Option<&str>) -> Result<Error> {
    let runs = match job {
        Some(job) => Ledger::runs(state, job).await?,
        None => all_runs(state).await?,
    };
    let newest: Vec<&RunId> = runs.iter().rev().take(5).map(|record| &record.run.id).collect();
    let error = Error::not_found(format!("no run `{id}` is on record")).with("state", &options.records.state);
    Ok(match newest.is_empty() {
        true => error.hint("there are no runs in this state; name another with `--state`"),
        false => error.hint(format!("the newest runs are {}; `hardtack runs` lists them all", list(newest))),
    })
}

fn as_text(record: &RunRecord) -> String {
    let run = &record.run;
    let finished = record.finished_at.zip(seconds(record)).map(|(at, s)| format!("{} ({s:.2} s)", time(at)));
    let lines = [
        ("run", Some(run.id.to_string())),
        ("job", Some(run.job.clone())),
        ("scope", Some(run.scope.clone())),
        ("window", run.window.map(|window| window.to_string())),
        ("status", Some(status_name(record.status).to_owned())),
        ("commit", record.commit.map(|commit| commit.to_string())),
        ("started", Some(time(run.started_at))),
        ("finished", finished),
        ("spilled", record.spilled_bytes.map(|bytes| format!("{bytes} bytes at most"))),
        ("change", record.change.as_ref().map(|change| format!("bookmark {change}"))),
        ("error", record.error.as_ref().map(|error| format!("{} ({})", error.message, error.kind))),
        ("command", record.invocation.as_ref().map(command_line)),
    ];
    let lines = lines.into_iter().filter_map(|(name, value)| Some(format!("{name:<9} {}\n", value?)));
    let mut text: String = lines.collect();
    text += &counts("source", &record.sources);
    text += &counts("sink", &record.sinks);
    text += &positions(record);
    for audit in &record.audits {
        text += &format!("\n{}", audit_text(audit));
    }
    let columns: usize = record.profiles.values().map(Vec::len).sum();
    if columns > 0 {
        text += &format!("\nprofiles of {}: see `--json`\n", count(columns, "column"));
    }
    text
}

/// The command line that started a run, without its secrets.
fn command_line(invocation: &Invocation) -> String {
    let secrets = invocation.withheld.iter().map(|arg| format!("{}=***", arg.name));
    let words: Vec<String> = invocation.args.iter().flatten().map(|word| shell_word(word)).chain(secrets).collect();
    format!("{} {}", shell_word(&invocation.binary), words.join(" ")).trim_end().to_owned()
}

fn counts(what: &str, counts: &BTreeMap<String, Counts>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let row = |(name, c): (&String, &Counts)| {
        vec![name.clone(), c.files.to_string(), c.rows.to_string(), c.bytes.to_string()]
    };
    let columns = [(what, false), ("files", true), ("rows", true), ("bytes", true)];
    format!("\n{}", draw_to_terminal(&columns, &counts.iter().map(row).collect::<Vec<_>>()))
}

/// The positions before and after the run.
fn positions(record: &RunRecord) -> String {
    let (from, to) = (&record.bookmarks_from, &record.bookmarks_to);
    let moved: Vec<_> = match record.status {
        RunStatus::Succeeded => moves(from, to),
        _ => Vec::new(),
    };
    let text = |position: &Option<serde_json::Value>| position.as_ref().map_or_else(|| "none".to_owned(), describe);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let held = &record.bookmarks_held;
    for source in from.keys().chain(held.keys().filter(|source| !from.contains_key(*source))) {
        if !moved.iter().any(|m| m.source == *source) {
            let why = held.get(source).map(|why| format!(": {why}")).unwrap_or_default();
            rows.push(vec![source.clone(), text(&from.get(source).cloned()), format!("unmoved{why}")]);
        }
    }
    rows.extend(moved.iter().map(|m| {
        let to = m.to.as_ref().map_or_else(|| "removed".to_owned(), describe);
        vec![m.source.clone(), text(&m.from), to]
    }));
    rows.sort();
    match rows.is_empty() {
        true => String::new(),
        false => format!("\n{}", draw_to_terminal(&["bookmark", "from", "to"].map(|c| (c, false)), &rows)),
    }
}

#[cfg(test)]
mod tests {
    use hardtack_core::JobContext;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_spilled_is_shown() {
        let ctx = JobContext::builder("job").build().unwrap();
        let record = RunRecord { spilled_bytes: Some(1_500), ..RunRecord::begin(ctx.run().clone()) };
        assert!(as_text(&record).contains("\nspilled   1500 bytes at most\n"), "{}", as_text(&record));
    }

    /// A reader of the record sees why a source is read again.
    #[test]
    fn a_bookmark_that_stays_is_shown_with_the_reason() {
        let ctx = JobContext::builder("job").build().unwrap();
        let mut record = RunRecord::begin(ctx.run().clone());
        record.status = RunStatus::Succeeded;
        record.bookmarks_from = [("a".to_owned(), json!(1)), ("b".to_owned(), json!(2))].into();
        record.bookmarks_to = [("a".to_owned(), json!(5)), ("b".to_owned(), json!(2))].into();
        record.bookmarks_held = [("b".to_owned(), "only 1 of 2 files were read to their ends".to_owned())].into();
        record.bookmarks_held.insert("c".to_owned(), "none of 1 file was read to its end".to_owned());
        insta::assert_snapshot!(positions(&record), @"

         bookmark | from |                         to
        ----------+------+----------------------------------------------------
         a        | 1    | 5
         b        | 2    | unmoved: only 1 of 2 files were read to their ends
         c        | none | unmoved: none of 1 file was read to its end
        ");
    }
}
