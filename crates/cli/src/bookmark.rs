//! `hardtack bookmark`: shows and moves how far the sources of a job have read.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use hardtack_core::bookmarks::Positions;
use hardtack_core::{Error, JobContext, Result, Run, RunId};
use hardtack_runtime::{
    RecoverOptions, RuntimeArgs, change_bookmarks, open_context, open_state, parse_moment, recover,
};
use hardtack_state::{BookmarkEntry, Change, Ledger, Move, StateStore, moves};
use serde_json::{Value, json};

use crate::draw::draw_to_terminal;
use crate::recover::{host, user};

#[derive(Debug, Args)]
pub(crate) struct BookmarkArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how far each source has read
    Show {
        #[command(flatten)]
        of: Of,
    },
    /// List the commits that moved a position, oldest first: the number, the run, when, who, from where to where
    History {
        #[command(flatten)]
        of: Of,
    },
    /// Set the position of a source
    Set {
        #[command(flatten)]
        of: Of,
        /// The position as JSON: the field `position` of what `hardtack bookmark show --json` prints, for example
        /// `{"format":1,"location":"s3://lake/clicks","by":"path","through":"2026/11/21"}`; `@FILE` reads a file, `-` standard
        /// input
        #[arg(value_name = "POSITION")]
        position: String,
        /// Allow a job, scope or source that has no position yet
        #[arg(long)]
        create: bool,
        #[command(flatten)]
        how: How,
    },
    /// Restore the positions as they were after a run or at a time; this also undoes a change
    Rewind {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        to: Back,
        #[command(flatten)]
        how: How,
    },
    /// Remove the positions: the next run reads everything
    Reset {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Debug, Args)]
struct Of {
    /// The job, for example `access_records`
    job: String,
    /// Only this scope, for example `2026-11-21` [default: all to look at, `default` to change]
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
    /// Only this source, for example `events` [default: all]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Back {
    /// To the positions after this run, for example `20261121T040000Z-1f0c9a3e`
    #[arg(long, value_name = "RUN")]
    to_run: Option<RunId>,
    /// To the positions after the last commit until this moment, for example `2026-11-21` or `2026-11-21T04:00:00Z`
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    to_time: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
struct How {
    /// Change without confirmation
    #[arg(long)]
    yes: bool,
    /// The reason, which is recorded, for example `vendor delivered 2026-11-20 again`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Executes the command; returns its output and exit code.
pub(crate) async fn run(options: RuntimeArgs, args: BookmarkArgs) -> Result<(String, ExitCode)> {
    match args.command {
        Command::Show { of } => Ok((show(&options, &of).await?, ExitCode::SUCCESS)),
        Command::History { of } => Ok((history(&options, &of).await?, ExitCode::SUCCESS)),
        Command::Set { of, position, create, how } => {
            let Some(source) = of.source.clone() else {
                return Err(Error::usage("name the source whose position is set: `--source NAME`"));
            };
            let target = Target::Set { source, position: read_position(&position)?, create };
            change(options, &of, target, how).await
        }
        Command::Rewind { of, to, how } => match to {
            Back { to_run: Some(run), .. } => change(options, &of, Target::AfterRun(run), how).await,
            Back { to_time: Some(moment), .. } => change(options, &of, Target::At(moment), how).await,
            Back { .. } => Err(Error::usage("name what to go back to: `--to-run RUN` or `--to-time MOMENT`")),
        },
        Command::Reset { of, how } => change(options, &of, Target::Nothing, how).await,
    }
}

async fn show(options: &RuntimeArgs, of: &Of) -> Result<String> {
    let (mut rows, mut lines, mut known) = (Vec::new(), String::new(), BTreeSet::new());
    for ledger in ledgers(options, of).await? {
        let Some(at) = ledger.newest_bookmarks().await? else { continue };
        known.extend(at.bookmarks.keys().cloned());
        for (source, position) in at.bookmarks.iter().filter(|(source, _)| of.is_source(source)) {
            let status = if at.is_published { "" } else { " (not published yet)" };
            rows.push(vec![
                ledger.scope().to_owned(),
                source.clone(),
                describe(position),
                format!("{}{status}", at.sequence),
                at.run.id.to_string(),
                time(at.committed_at),
            ]);
            lines += &json_line(&json!({
                "job": of.job, "scope": ledger.scope(), "source": source, "position": position,
                "commit": at.sequence, "published": at.is_published, "run": at.run.id, "committed_at": at.committed_at,
            }));
        }
    }
    of.check_source(&known)?;
    Ok(match (of.json, rows.is_empty()) {
        (true, _) => lines,
        (false, true) => format!("no source of `{}` has a position\n", of.job),
        (false, false) => {
            let columns = ["scope", "source", "position", "after commit", "of run", "at"];
            draw_to_terminal(&columns.map(|column| (column, false)), &rows)
        }
    })
}

async fn history(options: &RuntimeArgs, of: &Of) -> Result<String> {
    let (mut rows, mut lines, mut known) = (Vec::new(), String::new(), BTreeSet::new());
    for ledger in ledgers(options, of).await? {
        for (at, moved) in moved(&ledger.bookmark_history().await?) {
            known.insert(moved.source.clone());
            if !of.is_source(&moved.source) {
                continue;
            }
            rows.push(vec![
                ledger.scope().to_owned(),
                at.sequence.to_string(),
                at.run.id.to_string(),
                time(at.committed_at),
                at.change.as_ref().map_or_else(|| "the job".to_owned(), ToString::to_string),
                moved.source.clone(),
                moved.to.as_ref().map_or_else(|| "removed".to_owned(), describe),
            ]);
            lines += &json_line(&json!({
                "job": of.job, "scope": ledger.scope(), "commit": at.sequence, "run": at.run.id,
                "committed_at": at.committed_at, "change": at.change, "source": moved.source,
                "from": moved.from, "to": moved.to,
            }));
        }
    }
    of.check_source(&known)?;
    Ok(match (of.json, rows.is_empty()) {
        (true, _) => lines,
        (false, true) => format!("no source of `{}` has ever had a position\n", of.job),
        (false, false) => {
            let columns = ["scope", "commit", "run", "at", "by", "source", "position"];
            draw_to_terminal(&columns.map(|column| (column, column == "commit")), &rows)
        }
    })
}

/// What each commit has moved.
fn moved(history: &[BookmarkEntry]) -> Vec<(&BookmarkEntry, Move)> {
    let mut before = &Positions::new();
    let mut all = Vec::new();
    for at in history {
        all.extend(moves(before, &at.bookmarks).into_iter().map(|moved| (at, moved)));
        before = &at.bookmarks;
    }
    all
}

/// The positions that a change aims at.
#[derive(Debug)]
enum Target {
    Set { source: String, position: Value, create: bool },
    AfterRun(RunId),
    At(DateTime<Utc>),
    Nothing,
}

impl Target {
    fn creates(&self) -> bool {
        matches!(self, Self::Set { create: true, .. })
    }

    /// What the person did, for the record.
    fn command(&self) -> String {
        match self {
            Self::Set { .. } => "set".to_owned(),
            Self::AfterRun(run) => format!("rewind --to-run {run}"),
            Self::At(moment) => format!("rewind --to-time {}", moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            Self::Nothing => "reset".to_owned(),
        }
    }

    fn mention_create(&self, error: Error) -> Error {
        match (self, error.get_hint().map(str::to_owned)) {
            (Self::Set { .. }, Some(hint)) => {
                error.hint(format!("{hint}; `--create` sets the first position of a source"))
            }
            _ => error,
        }
    }

    /// The bookmarks after the change.
    fn bookmarks(&self, of: &Of, history: &[BookmarkEntry]) -> Result<Positions> {
        let mut after = history.last().map(|at| at.bookmarks.clone()).unwrap_or_default();
        if !self.creates() {
            let known = history.iter().flat_map(|at| at.bookmarks.keys().cloned()).collect();
            of.check_source(&known).map_err(|e| self.mention_create(e))?;
        }
        let wanted = match self {
            Self::Set { source, position, .. } => {
                after.insert(source.clone(), position.clone());
                return Ok(after);
            }
            Self::Nothing => Positions::new(),
            Self::AfterRun(run) => after_run(run, history)?.bookmarks.clone(),
            Self::At(moment) => at_time(*moment, history)?.bookmarks.clone(),
        };
        after.retain(|source, _| !of.is_source(source));
        after.extend(wanted.into_iter().filter(|(source, _)| of.is_source(source)));
        Ok(after)
    }
}

fn after_run<'a>(run: &RunId, history: &'a [BookmarkEntry]) -> Result<&'a BookmarkEntry> {
    history.iter().find(|at| at.run.id == *run).ok_or_else(|| {
        // Those that somebody may want are the last ones.
        let newest = history.iter().rev().take(10).map(|at| &at.run.id);
        Error::not_found(format!("no commit of this scope is of run `{run}`; a run that failed has none"))
            .hint(format!("the newest runs with a commit are {}", list(newest)))
    })
}

fn at_time(moment: DateTime<Utc>, history: &[BookmarkEntry]) -> Result<&BookmarkEntry> {
    history.iter().rev().find(|at| at.committed_at <= moment).ok_or_else(|| {
        let error = Error::not_found(format!("there was no commit until {}", time(moment)));
        match history.first() {
            Some(first) => error.with("first commit", time(first.committed_at)),
            None => error,
        }
        .hint("`hardtack bookmark reset` removes the positions")
    })
}

/// Shows the change, asks for confirmation, and commits it.
async fn change(options: RuntimeArgs, of: &Of, target: Target, how: How) -> Result<(String, ExitCode)> {
    let scope = of.scope.clone().unwrap_or_else(|| Run::WHOLE_JOB.to_owned());
    hardtack_state::check_scope(&scope)?;
    let options = RuntimeArgs { scope, ..options };
    let ctx = open_context(&of.job, &options)?;
    let ledger = ledger_to_change(&ctx, &options, of, &target).await?;
    recover(&ctx, &ledger, RecoverOptions::default()).await?;
    let history = ledger.bookmark_history().await?;
    let before = history.last().map(|at| at.bookmarks.clone()).unwrap_or_default();
    let after = target.bookmarks(of, &history)?;
    let moved = moves(&before, &after);
    if moved.is_empty() {
        let text = format!("{} ({}): the positions are already so; nothing is changed\n", of.job, options.scope);
        return Ok((text, ExitCode::SUCCESS));
    }
    let _ = write!(io::stderr(), "{} ({}):\n{}", of.job, options.scope, as_table(&moved));
    if !how.yes && !is_agreed(&target)? {
        return Ok(("nothing is changed\n".to_owned(), ExitCode::FAILURE));
    }
    let change = Change { user: user(), host: host(), command: target.command(), reason: how.reason };
    let record = change_bookmarks(&ctx, &ledger, &change, &before, after).await?;
    if of.json {
        return Ok((crate::runs::as_json(&record)?, ExitCode::SUCCESS));
    }
    let at = format!("{} --scope {}", of.job, options.scope);
    let undo = match history.last() {
        Some(last) => format!("rewind {at} --to-run {}", last.run.id),
        None => format!("reset {at}"),
    };
    let text = format!(
        "{} ({}): moved by commit {} (run {})\nto undo it: hardtack bookmark {undo}\n",
        of.job,
        options.scope,
        record.commit.unwrap_or_default(),
        record.run.id
    );
    Ok((text, ExitCode::SUCCESS))
}

fn is_agreed(target: &Target) -> Result<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Error::usage("moving positions requires confirmation, but there is no terminal")
            .with("command", target.command())
            .hint("review the change above, and add `--yes`"));
    }
    Ok(is_confirmed(&mut io::stdin().lock(), &mut io::stderr()))
}

/// A change can be undone, so a `y` is enough.
fn is_confirmed(input: &mut impl BufRead, output: &mut impl Write) -> bool {
    let _ = write!(output, "Move these positions? [y/N] ").and_then(|()| output.flush());
    let mut answer = String::new();
    input.read_line(&mut answer).is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

fn as_table(moved: &[Move]) -> String {
    let text = |position: &Option<Value>| position.as_ref().map_or_else(|| "none".to_owned(), describe);
    let rows: Vec<_> = moved.iter().map(|m| vec![m.source.clone(), text(&m.from), text(&m.to)]).collect();
    draw_to_terminal(&["source", "from", "to"].map(|column| (column, false)), &rows)
}

impl Of {
    fn is_source(&self, name: &str) -> bool {
        self.source.as_ref().is_none_or(|source| source == name)
    }

    /// Fails if a source is named that is not among the known ones.
    fn check_source(&self, known: &BTreeSet<String>) -> Result<()> {
        match &self.source {
            Some(source) if !known.contains(source) => {
                Err(Error::not_found(format!("no source `{source}` of this job has a position"))
                    .with("job", &self.job)
                    .hint(match known.is_empty() {
                        true => "none of its sources has one".to_owned(),
                        false => format!("its sources with a position are {}", list(known)),
                    }))
            }
            _ => Ok(()),
        }
    }
}

/// The ledgers of the scopes to look at.
async fn ledgers(options: &RuntimeArgs, of: &Of) -> Result<Vec<Ledger>> {
    let ctx = open_context("hardtack", options)?;
    let state = open_state(ctx.stores(), &options.records.state)?;
    let all = Ledger::of_job(&state, &of.job).await?;
    check_job(&state, options, &of.job).await?;
    match &of.scope {
        None => Ok(all),
        Some(scope) => match all.iter().find(|ledger| ledger.scope() == scope) {
            Some(ledger) => Ok(vec![ledger.clone()]),
            None => Err(no_scope(scope, &all)),
        },
    }
}

/// The ledger to change, which must exist unless the change may create it.
async fn ledger_to_change(ctx: &JobContext, options: &RuntimeArgs, of: &Of, target: &Target) -> Result<Ledger> {
    let state = open_state(ctx.stores(), &options.records.state)?;
    let scope = &options.scope;
    let ledger = Ledger::new(Arc::clone(&state), &of.job, scope);
    if target.creates() {
        return Ok(ledger);
    }
    check_job(&state, options, &of.job).await?;
    let all = Ledger::of_job(&state, &of.job).await?;
    match all.iter().any(|other| other.scope() == scope) {
        true => Ok(ledger),
        false => Err(no_scope(scope, &all)),
    }
}

/// Fails if no job of this name has run.
pub(crate) async fn check_job(state: &Arc<dyn StateStore>, options: &RuntimeArgs, job: &str) -> Result<()> {
    let jobs = Ledger::jobs(state).await?;
    if jobs.contains(job) {
        return Ok(());
    }
    Err(Error::not_found(format!("no run of `{job}` is on record")).with("state", &options.records.state).hint(
        match jobs.is_empty() {
            true => "there are no runs in this state; name another with `--state`".to_owned(),
            false => format!("the jobs in this state are {}", list(&jobs)),
        },
    ))
}

fn no_scope(scope: &str, all: &[Ledger]) -> Error {
    let scopes: Vec<&str> = all.iter().map(Ledger::scope).collect();
    Error::not_found(format!("this job has no scope `{scope}`")).hint(match scopes.is_empty() {
        true => "it has none yet".to_owned(),
        false => format!("its scopes are {}", list(&scopes)),
    })
}

pub(crate) fn list(names: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

pub(crate) fn json_line(value: &Value) -> String {
    format!("{value}\n")
}

pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The longest text of a position; `--json` prints the whole.
const LONGEST: usize = 160;

/// A position in words: the fields that most positions have first, then the others as they are.
pub(crate) fn describe(position: &Value) -> String {
    let text = match position {
        Value::Object(fields) => describe_fields(fields),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn describe_fields(fields: &serde_json::Map<String, Value>) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words = Vec::new();
    for (name, before) in [("through", "through "), ("by", "by "), ("location", "in ")] {
        words
            .extend(fields.get(name).filter(|value| !value.is_null()).map(|value| format!("{before}{}", plain(value))));
    }
    // The digests of files that were read and may be listed again, 16 characters each.
    let seen = fields.get("seen").and_then(Value::as_str).map(|digests| digests.len() / 16);
    words.extend(seen.map(|seen| format!("{} remembered", crate::draw::count(seen, "file"))));
    let known = |name: &str| match name {
        "format" | "through" | "by" | "location" => true,
        "seen" => seen.is_some(),
        _ => false,
    };
    words
        .extend(fields.iter().filter(|(name, _)| !known(name)).map(|(name, value)| format!("{name}={}", plain(value))));
    if words.is_empty() { Value::Object(fields.clone()).to_string() } else { words.join(", ") }
}

/// Reads a position: JSON, or a file or standard input that contains it.
fn read_position(text: &str) -> Result<Value> {
    let (from, json) = match text.strip_prefix('@') {
        Some(file) => (file, read_file(file)?),
        None if text == "-" => ("standard input", io::read_to_string(io::stdin()).map_err(|e| unreadable(text, e))?),
        None => ("POSITION", text.to_owned()),
    };
    let position: Value = serde_json::from_str(&json).map_err(|e| {
        Error::usage("a position is JSON, for example `{\"format\":1,\"location\":\"s3://lake/clicks\",\"by\":\"path\",\"through\":\"2026/11/21\"}`")
            .with("argument", from)
            .hint("the field `position` of what `hardtack bookmark show --json` prints can be edited and set")
            .because(e)
    })?;
    if depth(&position) > MAX_DEPTH {
        let why =
            format!("a position is nested at most {MAX_DEPTH} levels deep; a record of it could not be read again");
        return Err(Error::usage(why).with("argument", from));
    }
    match position {
        Value::Null => Err(Error::usage("`null` is not a position").hint("`hardtack bookmark reset` removes one")),
        position => Ok(position),
    }
}

/// Records nest a position, and JSON is read to a depth of 128.
const MAX_DEPTH: usize = 64;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn read_file(file: &str) -> Result<String> {
    let mut text = String::new();
    #[expect(clippy::disallowed_methods, reason = "a file of the person at the keyboard")]
    let opened = std::fs::File::open(file);
    opened.and_then(|mut file| file.read_to_string(&mut text)).map_err(|e| unreadable(file, e))?;
    Ok(text)
}

fn unreadable(file: &str, error: io::Error) -> Error {
    Error::usage("the position cannot be read").with("file", file).because(error)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("y\n", true)]
    #[case(" YES \n", true)]
    #[case("n\n", false)]
    #[case("\n", false)]
    #[case("", false)]
    fn only_a_yes_confirms(#[case] answer: &str, #[case] confirms: bool) {
        let mut asked = Vec::new();
        assert_eq!(is_confirmed(&mut answer.as_bytes(), &mut asked), confirms);
        assert_eq!(asked, b"Move these positions? [y/N] ");
    }

    #[rstest]
    #[case::number("7", "7")]
    #[case::text(r#""a""#, r#""a""#)]
    #[case::empty("{}", "{}")]
    #[case::files(
        r#"{"format":1,"location":"s3://b/in","by":"modification_time","through":"2026-11-21T00:00:00Z","newest":"2026-11-21T00:30:00Z","seen":"LzFUhpT5LEN+1Hpr8mw990fNmAAImGwe"}"#,
        "through 2026-11-21T00:00:00Z, by modification_time, in s3://b/in, 2 files remembered, newest=2026-11-21T00:30:00Z"
    )]
    #[case::others(r#"{"offsets":{"0":5},"through":null}"#, r#"offsets={"0":5}"#)]
    #[case::seen_that_is_something_else(r#"{"seen":7}"#, "seen=7")]
    fn a_position_is_described(#[case] json: &str, #[case] text: &str) {
        assert_eq!(describe(&serde_json::from_str(json).unwrap()), text);
    }

    #[test]
    fn a_long_position_is_cut() {
        assert_eq!(describe(&Value::from("ä".repeat(200))).chars().count(), LONGEST + 1);
    }
}
