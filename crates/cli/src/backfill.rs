//! `hardtack backfill`: a job, once per window of a span of time.

mod windows;

use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hardtack_core::{Error, ErrorKind, Result, RunId, Window};
use hardtack_runtime::{RuntimeArgs, Stop, open_context, open_state, parse_moment};
use hardtack_state::{Backfill, Ledger, StateStore, WindowRecord, WindowStatus};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

pub(crate) use self::windows::parse_end;
use self::windows::{By, windows};
use crate::draw::{count, draw_to_terminal};
use crate::process::{JobCommand, Log, RunOptions, exit_code, own_option};
use crate::standing::{Standing, standing};

#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// Binary of the job, for example `target/release/books_data_product`
    #[arg(value_name = "JOB_BINARY")]
    binary: PathBuf,
    /// Start of the first window, for example `2024-01-01` (midnight in UTC) or `2024-01-01T05:00:00Z`
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    from: DateTime<Utc>,
    /// Last date, which is included, for example `2024-03-31`; or a time, which is not, for example `2024-04-01T00:00:00Z`
    #[arg(long, value_name = "MOMENT", value_parser = parse_end)]
    to: DateTime<Utc>,
    /// Length of a window
    #[arg(long, value_enum, value_name = "UNIT")]
    by: By,
    /// Windows to run concurrently, for example `4`
    #[arg(long, value_name = "N", default_value = "1")]
    parallel: NonZeroUsize,
    /// Run only the windows that have failed
    #[arg(long, conflicts_with = "resume")]
    failed_only: bool,
    /// Run only the windows that have not succeeded yet
    #[arg(long)]
    resume: bool,
    /// Run only the window with this number, from 0; in an AWS Batch array job each child has one
    #[arg(long, env = "AWS_BATCH_JOB_ARRAY_INDEX", value_name = "N")]
    index: Option<usize>,
    /// List the windows, with their numbers and whether they would run; run nothing
    #[arg(long)]
    dry_run: bool,
    /// Folder for the output of the runs, a file per window
    #[arg(long, value_name = "FOLDER", default_value = "backfill-logs")]
    logs: PathBuf,
    /// Name of the job, if it is not that of the binary, for example `books_data_product`
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Print the record of each window as JSON lines at the end
    #[arg(long)]
    json: bool,
    /// Arguments of the job, after `--`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl BackfillArgs {
    /// Fails if the job's arguments would contradict those that the command adds.
    fn check(&self) -> Result<()> {
        match own_option(&self.args) {
            Some(arg) => Err(Error::usage(format!("`hardtack backfill` sets `{arg}` for each window itself"))
                .hint("leave it out behind `--`; give `--state` and `--catalog` before it")),
            None => Ok(()),
        }
    }

    fn job(&self) -> Result<String> {
        let name = || self.binary.file_name()?.to_str().map(str::to_owned);
        let job = self.job.clone().or_else(name);
        job.ok_or_else(|| Error::usage("the binary has no name; give the job's with `--job`"))
    }

    /// Whether a window with this record is to be run. One whose record cannot be read is, and says so.
    fn wants(&self, found: &Found) -> bool {
        match found {
            Err(_) => true,
            Ok(record) if self.failed_only => {
                record.as_ref().is_some_and(|record| record.status == WindowStatus::Failed)
            }
            Ok(_) if self.resume => !is_done(found),
            Ok(_) => true,
        }
    }

    /// Whether an earlier run of a window counts.
    fn continues(&self) -> bool {
        self.resume || self.failed_only
    }
}

/// Runs the backfill; returns its summary and exit code.
pub(crate) async fn run(options: RuntimeArgs, args: BackfillArgs) -> Result<(String, ExitCode)> {
    args.check()?;
    let mut windows = windows(args.from, args.to, args.by)?;
    let mut first = 0;
    if let Some(index) = args.index {
        if index >= windows.len() {
            return Err(Error::usage(format!("there is no window {index}"))
                .with("windows", windows.len())
                .hint(format!("the last is {}; make the array as large as there are windows", windows.len() - 1)));
        }
        windows = vec![windows[index]];
        first = index;
    }
    let ctx = open_context("hardtack", &options)?;
    let state = open_state(ctx.stores(), &options.records.state)?;
    let job = args.job()?;
    let records = Backfill::new(Arc::clone(&state), &job);
    let before = records.get_all(&windows).await;
    let all: Vec<_> = windows.into_iter().zip(before).collect();
    if args.dry_run {
        return Ok((plan(&args, &all, first), ExitCode::SUCCESS));
    }
    let runs = Runs { args: &args, options: &options, state, job, records };
    let total = all.len();
    let wanted: Vec<_> = all.into_iter().filter(|(_, found)| args.wants(found)).collect();
    let skipped = total - wanted.len();
    if wanted.is_empty() {
        let what = if args.failed_only { "no window has failed" } else { "every window has succeeded" };
        return Ok((format!("nothing to do: {what} ({})\n", count(total, "window")), ExitCode::SUCCESS));
    }
    runs.all(wanted, skipped).await
}

/// Lists the windows.
fn plan(args: &BackfillArgs, all: &[(Window, Found)], first: usize) -> String {
    let row = |(n, (window, found)): (usize, &(Window, Found))| {
        let status = match found {
            Ok(record) => record.as_ref().map_or("never run", |record| record.status.name()),
            Err(_) => "record cannot be read",
        };
        let runs = if args.wants(found) { "yes" } else { "no" };
        vec![(first + n).to_string(), window.scope(), window.to_string(), status.to_owned(), runs.to_owned()]
    };
    let columns = [("number", true), ("scope", false), ("window", false), ("status", false), ("would run", false)];
    let rows: Vec<_> = all.iter().enumerate().map(row).collect();
    format!("dry run: nothing is run\n{}", draw_to_terminal(&columns, &rows))
}

/// What there is on record about a window.
type Found = Result<Option<WindowRecord>>;

/// The runs of a backfill.
struct Runs<'a> {
    args: &'a BackfillArgs,
    options: &'a RuntimeArgs,
    state: Arc<dyn StateStore>,
    job: String,
    records: Backfill,
}

impl Runs<'_> {
    /// Runs all windows, some of them concurrently, until a signal stops it.
    async fn all(&self, windows: Vec<(Window, Found)>, skipped: usize) -> Result<(String, ExitCode)> {
        let mut signals = Stop::listen()?;
        let (stop, stopped) = watch::channel(false);
        let mut progress = Progress::new(windows.len(), self.args.index.is_some());
        let again = windows.iter().filter(|(_, found)| is_done(found)).count();
        if again > 0 {
            progress.say(&format!(
                "{} succeeded before and {} run again",
                count(again, "window"),
                if again == 1 { "is" } else { "are" }
            ));
        }
        let (total, mut waiting) = (windows.len(), windows.into_iter());
        let (mut active, mut ended, mut failure) = (FuturesUnordered::new(), Vec::new(), None);
        loop {
            while active.len() < self.args.parallel.get() && !*stop.borrow() {
                let Some((window, _)) = waiting.next() else { break };
                active.push(self.window(window, stopped.clone()));
            }
            if active.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                done = active.next() => match done {
                    Some(Ok(record)) => {
                        progress.ended(&record, self.args.index.is_none().then(|| self.log(&record)));
                        ended.push(record);
                    }
                    // The state is gone, or the binary: no other window would fare better.
                    Some(Err(error)) => {
                        failure.get_or_insert(error);
                        stop.send_replace(true);
                    }
                    None => {}
                },
                () = signals.wait(), if !*stop.borrow() => {
                    progress.say("stopping: running windows are told to stop, and no other is started");
                    stop.send_replace(true);
                }
            }
        }
        progress.end();
        match failure {
            Some(error) => Err(error),
            None => self.summary(ended, Totals { total, skipped, is_stopped: *stop.borrow() }),
        }
    }

    /// Runs a window, unless it is processed already.
    async fn window(&self, window: Window, mut stop: watch::Receiver<bool>) -> Result<WindowRecord> {
        let now = Utc::now();
        let mut record = WindowRecord {
            window,
            scope: window.scope(),
            status: WindowStatus::Running,
            runs: Vec::new(),
            after: 0,
            started_at: now,
            finished_at: None,
            exit_code: None,
            error: None,
        };
        // The claim is what makes it safe to run a window: if a run that nobody waits for commits now, this one cannot.
        let claim = match self.standing_of(&mut record).await {
            Ok(Standing::Done) => {
                record.status = WindowStatus::Succeeded;
                record.finished_at = Some(now);
                self.records.put(&record).await?;
                return Ok(record);
            }
            Ok(Standing::Open(next)) => self.args.continues().then_some(next),
            // Other windows may fare better. What is on record stays as it is.
            Err(error) => {
                record.status = WindowStatus::Failed;
                record.error = Some(error.chain());
                record.finished_at = Some(now);
                return Ok(record);
            }
        };
        let run = RunId::generate(now);
        record.runs.push(run.clone());
        // Written before the process starts: should this one be killed, the next one finds the run.
        self.records.put(&record).await?;
        let mut log = self.log(&record);
        let passes_through = self.args.index.is_some();
        let (args, records) = (&self.args.args, &self.options.records);
        let command = JobCommand { binary: &self.args.binary, directory: None, args, records };
        let options = RunOptions { scope: &record.scope, window: Some(window), run: Some(&run), claim };
        let status = command.run(options, (!passes_through).then_some(&mut log), &mut stop).await;
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                record.status = WindowStatus::Failed;
                record.error = Some(error.chain());
                record.finished_at = Some(Utc::now());
                self.records.put(&record).await?;
                return Err(error);
            }
        };
        record.finished_at = Some(Utc::now());
        record.exit_code = Some(exit_code(status));
        let log = (!passes_through).then_some(log);
        (record.status, record.error) = self.outcome(&record, &run, log.as_ref()).await?;
        self.records.put(&record).await?;
        Ok(record)
    }

    /// How a run has ended, and why it did not succeed. The commit decides, not the exit code: a run may be killed after
    /// its commit, or lose to an earlier run of this window that a killed backfill has left behind.
    async fn outcome(
        &self,
        record: &WindowRecord,
        run: &RunId,
        log: Option<&Log>,
    ) -> Result<(WindowStatus, Option<String>)> {
        let status = match record.exit_code {
            Some(143) => WindowStatus::Stopped,
            _ => WindowStatus::Failed,
        };
        match self.standing(record).await {
            Ok(Standing::Done) => Ok((WindowStatus::Succeeded, None)),
            Err(error) => Ok((status, Some(error.chain()))),
            Ok(Standing::Open(_)) if record.exit_code == Some(0) => {
                Ok((status, Some(self.without_commit().to_string())))
            }
            Ok(Standing::Open(_)) => match log {
                Some(log) => Ok((status, log.error())),
                None => {
                    let found = self.ledger(record).get_run(run).await?;
                    Ok((status, found.and_then(|run| run.error).map(|error| error.message)))
                }
            },
        }
    }

    fn without_commit(&self) -> Error {
        Error::unexpected(format!("the run ended well, but has no commit of the job `{}`", self.job))
            .hint("name the job with `--job` if it is not called like its binary; a dry run commits nothing")
    }

    /// How a window stands before it is run; completes its new record from the one that it has.
    async fn standing_of(&self, record: &mut WindowRecord) -> Result<Standing> {
        // Asked before the record is read: a window without one has no attempt that began before this commit.
        record.after = self.ledger(record).newest().await?;
        // Others may have run it since the backfill began. A window that is to be processed anew has not succeeded
        // because it once has.
        let before = if self.args.continues() { self.records.get(record.window).await? } else { None };
        let Some(before) = before else { return Ok(Standing::Open(record.after + 1)) };
        (record.runs, record.after) = (before.runs, before.after);
        self.standing(record).await
    }

    async fn standing(&self, record: &WindowRecord) -> Result<Standing> {
        standing(self.options, &self.ledger(record), record.after).await
    }

    fn ledger(&self, record: &WindowRecord) -> Ledger {
        Ledger::new(Arc::clone(&self.state), &self.job, &record.scope)
    }

    fn log(&self, record: &WindowRecord) -> Log {
        Log::new(self.args.logs.join(&self.job).join(format!("{}.log", record.scope)))
    }

    fn summary(&self, mut ended: Vec<WindowRecord>, totals: Totals) -> Result<(String, ExitCode)> {
        ended.sort_by_key(|record| record.window);
        let code = match &ended[..] {
            // A child of an array job ends as its run does, so that Batch can decide about a retry.
            [record] if self.args.index.is_some() && record.status != WindowStatus::Succeeded => {
                record.exit_code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code > 0).unwrap_or(1)
            }
            _ if totals.is_stopped => ErrorKind::Stopped.exit_code(),
            _ => u8::from(ended.iter().any(|record| record.status != WindowStatus::Succeeded)),
        };
        let text = match self.args.json {
            true => ended.iter().map(json_line).collect::<Result<String>>()?,
            false => self.as_text(&ended, &totals),
        };
        Ok((text, ExitCode::from(code)))
    }

    /// A table of what did not succeed, and the totals.
    fn as_text(&self, ended: &[WindowRecord], totals: &Totals) -> String {
        let of = |status| ended.iter().filter(|record| record.status == status).count();
        let bad: Vec<_> = ended.iter().filter(|record| record.status != WindowStatus::Succeeded).collect();
        let row = |record: &&WindowRecord| {
            vec![
                record.scope.clone(),
                record.status.name().to_owned(),
                record.exit_code.map(|code| code.to_string()).unwrap_or_default(),
                record.runs.len().to_string(),
                record.error.clone().unwrap_or_default(),
            ]
        };
        let mut text = String::new();
        if !bad.is_empty() {
            let columns =
                [("window", false), ("status", false), ("exit code", true), ("attempts", true), ("error", false)];
            text += &draw_to_terminal(&columns, &bad.iter().map(row).collect::<Vec<_>>());
        }
        text +=
            &format!("{}: {} succeeded", count(totals.total + totals.skipped, "window"), of(WindowStatus::Succeeded));
        let not_started = totals.total - ended.len();
        let others = [
            ("failed", of(WindowStatus::Failed)),
            ("stopped", of(WindowStatus::Stopped)),
            ("not started", not_started),
            ("skipped", totals.skipped),
        ];
        for (name, n) in others.into_iter().filter(|(_, n)| *n > 0) {
            text += &format!(", {n} {name}");
        }
        text.push('\n');
        if not_started > 0 || of(WindowStatus::Stopped) > 0 {
            text += "`--resume` continues with the windows that have not succeeded\n";
        } else if !bad.is_empty() && self.args.index.is_none() {
            text += "`--failed-only` runs those that failed again; their logs are in ";
            text += &format!("{}\n", self.args.logs.join(&self.job).display());
        }
        text
    }
}

fn is_done(found: &Found) -> bool {
    matches!(found, Ok(Some(record)) if record.status == WindowStatus::Succeeded)
}

/// The numbers of windows, for the summary.
struct Totals {
    total: usize,
    skipped: usize,
    is_stopped: bool,
}

fn json_line(record: &WindowRecord) -> Result<String> {
    let json = serde_json::to_string(record).map_err(|e| Error::unexpected("a record cannot be printed").because(e))?;
    Ok(json + "\n")
}

/// Reports windows as they end: a bar on a terminal, lines otherwise.
struct Progress {
    bar: ProgressBar,
    total: usize,
    ended: usize,
    failed: usize,
}

impl Progress {
    fn new(total: usize, is_hidden: bool) -> Self {
        let bar = match std::io::stderr().is_terminal() && !is_hidden {
            true => ProgressBar::new(total as u64),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} windows, {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message("0 failed");
        Self { bar, total, ended: 0, failed: 0 }
    }

    fn ended(&mut self, record: &WindowRecord, log: Option<Log>) {
        self.ended += 1;
        let is_good = record.status == WindowStatus::Succeeded;
        self.failed += usize::from(!is_good);
        if self.bar.is_hidden() || !is_good {
            let seconds = record.seconds().unwrap_or_default();
            let code = record.exit_code.filter(|_| !is_good).map(|code| format!(" with exit code {code}"));
            let error = record.error.as_ref().map(|error| format!(": {error}"));
            let log = log.filter(|_| !is_good).map(|log| format!(" ({})", log.path().display()));
            self.say(&format!(
                "{} {}{} in {seconds:.1} s ({} of {}){}{}",
                record.scope,
                record.status.name(),
                code.unwrap_or_default(),
                self.ended,
                self.total,
                error.unwrap_or_default(),
                log.unwrap_or_default()
            ));
        }
        self.bar.set_message(format!("{} failed", self.failed));
        self.bar.inc(1);
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{line}");
        });
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
