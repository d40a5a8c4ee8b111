//! `hardtack run`: the jobs of a pipeline in order, on one machine.

mod file;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hardtack_core::format::NewerFormat;
use hardtack_core::{Error, ErrorKind, Result, Run, RunId, Window};
use hardtack_runtime::{RuntimeArgs, Stop, WindowArgs, open_context, open_state};
use hardtack_state::{
    ALIVE_FOR, JobStatus, Ledger, PipelineJob, PipelineRecord, Pipelines, RunRecord, StateStore, check_scope,
};
use tokio::sync::watch;

use self::file::{Job, Pipeline};
use crate::bookmark::time;
use crate::draw::{count, draw_to_terminal};
use crate::process::{JobCommand, Log, RunOptions, exists, exit_code, own_option};
use crate::recover::host;
use crate::runs::rows;
use crate::standing::{Standing, standing};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// File of the pipeline, for example `nightly.toml`
    #[arg(value_name = "PIPELINE")]
    file: PathBuf,
    /// Jobs to run concurrently if none waits for the other, for example `4`
    #[arg(long, value_name = "N", default_value = "1")]
    parallel: NonZeroUsize,
    /// Run only the jobs that have not succeeded in the last execution
    #[arg(long)]
    resume: bool,
    /// Resume although the file or the arguments have changed since the last execution
    #[arg(long, requires = "resume")]
    accept_changes: bool,
    /// Folder of the binaries that the file gives without a folder, for example `target/release` [default: those of `PATH`]
    #[arg(long, value_name = "FOLDER")]
    bin_dir: Option<PathBuf>,
    /// Scope of all runs, for example `2026-11-21`; with a window and without this option, each window has its own
    #[arg(long, env = "HARDTACK_SCOPE", value_name = "NAME", value_parser = parse_scope)]
    scope: Option<String>,
    #[command(flatten)]
    window: WindowArgs,
    /// Folder for the output of the jobs, a file for each; `-` passes the output through
    #[arg(long, value_name = "FOLDER", default_value = "pipeline-logs")]
    logs: PathBuf,
    /// List the jobs in order, and whether they would run; run nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON line for each job at the end
    #[arg(long)]
    json: bool,
    /// Arguments for all jobs, after `--`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

fn parse_scope(text: &str) -> Result<String, String> {
    check_scope(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

/// How often an execution says that it is alive, and looks whether another has taken over.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Runs the pipeline; returns its summary and exit code.
pub(crate) async fn run(options: RuntimeArgs, args: RunArgs) -> Result<(String, ExitCode)> {
    if let Some(arg) = own_option(&args.args) {
        return Err(Error::usage(format!("`hardtack run` sets `{arg}` for each job itself"))
            .hint("give it before `--`; each run has an id of its own"));
    }
    let text = read(&args.file)?;
    let pipeline = Pipeline::parse(&args.file, &text)?;
    let window = args.window.window()?;
    let scope = args.scope.clone().or(window.map(Window::scope)).unwrap_or_else(|| Run::WHOLE_JOB.to_owned());
    let ctx = open_context("hardtack", &options)?;
    let state = open_state(ctx.stores(), &options.records.state)?;
    let records = Pipelines::new(Arc::clone(&state), &pipeline.name, &scope);
    let execution = Execution { args: &args, options: &options, pipeline: &pipeline, scope, window, state, records };
    let last = execution.last().await?;
    let record = execution.next(&last, &text)?;
    if args.dry_run {
        return Ok((execution.plan(&record), ExitCode::SUCCESS));
    }
    execution.check_binaries()?;
    execution.check_alone(&last)?;
    if record.has_succeeded() {
        let text = format!("nothing to do: every job has succeeded ({})\n", count(record.jobs.len(), "job"));
        return Ok((text, ExitCode::SUCCESS));
    }
    if !execution.records.create(&record).await? {
        return Err(execution.not_alone("another process has begun to run this pipeline"));
    }
    execution.all(record).await
}

#[expect(clippy::disallowed_methods, reason = "a file of this machine, and no data")]
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let error = Error::usage("the pipeline cannot be read").with("file", path.display()).because(e);
        error.hint("name a file, for example `nightly.toml`")
    })
}

/// The newest execution: its number, and its record if that can be read.
struct Last {
    number: u64,
    record: Option<PipelineRecord>,
}

/// An execution of a pipeline.
struct Execution<'a> {
    args: &'a RunArgs,
    options: &'a RuntimeArgs,
    pipeline: &'a Pipeline,
    scope: String,
    window: Option<Window>,
    state: Arc<dyn StateStore>,
    records: Pipelines,
}

/// A run of a job, from its start to its end.
struct Started {
    /// The number of the job.
    at: usize,
    run: RunId,
    claim: Option<u64>,
    /// The number of the last commit before the first attempt.
    after: u64,
}

/// How a run has ended.
struct Ended {
    at: usize,
    status: JobStatus,
    exit_code: Option<i32>,
    error: Option<String>,
}

impl Execution<'_> {
    /// The last execution. A record that is damaged is no obstacle to starting over.
    async fn last(&self) -> Result<Last> {
        let number = self.records.newest().await?;
        match self.records.get(number).await {
            Ok(record) => Ok(Last { number, record }),
            Err(error) if error.kind() == ErrorKind::Unavailable || error.detail::<NewerFormat>().is_some() => {
                Err(error)
            }
            Err(error) if self.args.resume => Err(error.hint("without `--resume` the pipeline starts over")),
            Err(error) => {
                say(&format!("the last execution cannot be read: {}", error.chain()));
                Ok(Last { number, record: None })
            }
        }
    }

    /// The record with which this execution begins.
    fn next(&self, last: &Last, text: &str) -> Result<PipelineRecord> {
        let now = Utc::now();
        let (file, args) = (PipelineRecord::hash(text), PipelineRecord::hash(&self.args.args.join("\0")));
        let before = last.record.as_ref().filter(|_| self.args.resume);
        if let Some(before) = before.filter(|_| !self.args.accept_changes) {
            let changed = [("the file of the pipeline", before.file != file), ("the arguments", before.args != args)];
            if let Some((what, _)) = changed.into_iter().find(|(_, has_changed)| *has_changed) {
                let verb = if what.ends_with('s') { "have" } else { "has" };
                return Err(Error::usage(format!("{what} {verb} changed since the last execution"))
                    .with("pipeline", &self.pipeline.name)
                    .with("began", time(before.started_at))
                    .hint("add `--accept-changes` to resume nevertheless, or start over without `--resume`"));
            }
        }
        let job = |job: &Job| {
            let found = before.and_then(|before| before.jobs.iter().find(|found| found.job == job.name));
            match found {
                None => PipelineJob::waiting(&job.name),
                Some(found) if found.status == JobStatus::Succeeded => found.clone(),
                Some(found) => {
                    let (runs, after) = (found.runs.clone(), found.after);
                    PipelineJob { runs, after, ..PipelineJob::waiting(&job.name) }
                }
            }
        };
        Ok(PipelineRecord {
            number: last.number + 1,
            file,
            args,
            host: host(),
            pid: std::process::id(),
            started_at: now,
            alive_at: now,
            finished_at: None,
            jobs: self.pipeline.jobs.iter().map(job).collect(),
        })
    }

    /// Lists the jobs.
    fn plan(&self, record: &PipelineRecord) -> String {
        let row = |(job, found): (&Job, &PipelineJob)| {
            let after: Vec<&str> = job.after.iter().map(|before| self.pipeline.jobs[*before].name.as_str()).collect();
            let runs = if found.status == JobStatus::Succeeded { "no" } else { "yes" };
            let binary = self.binary(job).display().to_string();
            vec![job.name.clone(), after.join(", "), binary, runs.to_owned()]
        };
        let rows: Vec<_> = self.pipeline.jobs.iter().zip(&record.jobs).map(row).collect();
        let columns = ["job", "after", "binary", "would run"].map(|column| (column, false));
        format!("dry run: nothing is run\n{}", draw_to_terminal(&columns, &rows))
    }

    /// The path of a binary; a name without a folder is looked up in `PATH`.
    fn binary(&self, job: &Job) -> PathBuf {
        match &self.args.bin_dir {
            Some(folder) if job.binary.components().count() == 1 => folder.join(&job.binary),
            _ => job.binary.clone(),
        }
    }

    /// Fails if a binary is not there: its job would fail hours later.
    fn check_binaries(&self) -> Result<()> {
        #[expect(clippy::disallowed_methods, reason = "a file of this machine, and no data")]
        let is_file = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.is_file());
        let is_missing = |(_, path): &(&Job, PathBuf)| path.components().count() > 1 && !is_file(path);
        match self.pipeline.jobs.iter().map(|job| (job, self.binary(job))).find(is_missing) {
            None => Ok(()),
            Some((job, binary)) => Err(Error::usage("there is no binary of this job")
                .with("job", &job.name)
                .with("binary", binary.display())
                .hint("build it, or name the folder of the binaries with `--bin-dir`")),
        }
    }

    /// Fails if the last execution is alive. This is politeness: two that run at once, because nobody knows of the other
    /// in time, harm nobody. The one with the higher number goes on.
    fn check_alone(&self, last: &Last) -> Result<()> {
        let Some(before) = last.record.as_ref().filter(|before| before.finished_at.is_none()) else { return Ok(()) };
        let has_died = before.host == host() && (before.pid == std::process::id() || !exists(before.pid));
        if before.is_alive(Utc::now()) && !has_died {
            return Err(self
                .not_alone("the pipeline is being run")
                .with("host", &before.host)
                .with("process", before.pid)
                .with("began", time(before.started_at))
                .hint(format!(
                    "wait until it has ended; if it was killed, it counts as ended from {} on",
                    time(before.alive_at + ALIVE_FOR)
                )));
        }
        if !self.args.resume {
            say("the last execution was killed, and the pipeline starts over; `--resume` continues one");
        }
        Ok(())
    }

    fn not_alone(&self, message: &str) -> Error {
        Error::conflict(message).with("pipeline", &self.pipeline.name).with("scope", &self.scope)
    }

    /// Writes the record: one write for each transition, so it is never half-way.
    async fn save(&self, record: &mut PipelineRecord) -> Result<()> {
        if self.records.has_next(record.number).await? {
            return Err(self.not_alone("another process has taken over this pipeline"));
        }
        record.alive_at = Utc::now();
        self.records.put(record).await
    }

    /// Runs all jobs, some of them concurrently, until a signal stops it.
    async fn all(&self, mut record: PipelineRecord) -> Result<(String, ExitCode)> {
        let mut signals = Stop::listen()?;
        let (stop, stopped) = watch::channel(false);
        let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        let (mut active, mut failure) = (FuturesUnordered::new(), None);
        loop {
            while active.len() < self.args.parallel.get() && !*stop.borrow() {
                let Some(at) = self.ready(&record) else { break };
                match self.begin(at, &mut record).await {
                    Ok(Some(started)) => active.push(self.job(started, stopped.clone())),
                    Ok(None) => {}
                    Err(error) => {
                        failure.get_or_insert(error);
                        stop.send_replace(true);
                    }
                }
            }
            if active.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                done = active.next() => if let Some(ended) = done {
                    let saved = self.end(ended, &mut record).await;
                    if let Err(error) = saved {
                        failure.get_or_insert(error);
                        stop.send_replace(true);
                    }
                },
                () = signals.wait(), if !*stop.borrow() => {
                    say("stopping: running jobs are told to stop, and no other is started");
                    stop.send_replace(true);
                }
                _ = heartbeat.tick() => match self.save(&mut record).await {
                    Err(error) if error.is_retryable() && error.kind() != ErrorKind::Conflict => {
                        say(&format!("the state cannot be written: {}", error.chain()));
                    }
                    Err(error) => {
                        failure.get_or_insert(error);
                        stop.send_replace(true);
                    }
                    Ok(()) => {}
                }
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        for job in record.jobs.iter_mut().filter(|job| job.status == JobStatus::Waiting) {
            job.status = JobStatus::Skipped;
        }
        record.finished_at = Some(Utc::now());
        self.save(&mut record).await?;
        self.summary(&record, *stop.borrow()).await
    }

    /// The next job that can be started.
    fn ready(&self, record: &PipelineRecord) -> Option<usize> {
        let has = |at: usize, status| record.jobs[at].status == status;
        let is_ready = |at: &usize| {
            let before = &self.pipeline.jobs[*at].after;
            has(*at, JobStatus::Waiting) && before.iter().all(|before| has(*before, JobStatus::Succeeded))
        };
        (0..record.jobs.len()).find(is_ready)
    }

    /// Prepares the run of a job; `None` if its work is done already, or cannot be begun.
    async fn begin(&self, at: usize, record: &mut PipelineRecord) -> Result<Option<Started>> {
        let ledger = self.ledger(at);
        let job = &mut record.jobs[at];
        job.started_at = Some(Utc::now());
        let begun = match job.after {
            // Asked before anything is started: a commit after this one is of a later run.
            None => ledger.newest().await.map(|newest| (newest, None)),
            Some(after) => match standing(self.options, &ledger, after).await {
                // A run that nobody waited for has done it, or a person who ran the job again.
                Ok(Standing::Done) => {
                    job.status = JobStatus::Succeeded;
                    job.finished_at = Some(Utc::now());
                    say(&format!("{}: a run has committed meanwhile", job.job));
                    self.save(record).await?;
                    return Ok(None);
                }
                // If a run that nobody waits for commits now, this one cannot.
                Ok(Standing::Open(next)) => Ok((after, Some(next))),
                Err(error) => Err(error),
            },
        };
        let (after, claim) = match begun {
            Ok(begun) => begun,
            // Other jobs may fare better.
            Err(error) => {
                let ended = Ended { at, status: JobStatus::Failed, exit_code: None, error: Some(error.chain()) };
                self.end(ended, record).await?;
                return Ok(None);
            }
        };
        let run = RunId::generate(Utc::now());
        job.status = JobStatus::Running;
        job.after = Some(after);
        job.runs.push(run.clone());
        say(&format!("{} begins (run {run})", job.job));
        // Written before the process starts: should this one be killed, the next one asks the ledger.
        self.save(record).await?;
        Ok(Some(Started { at, run, claim, after }))
    }

    /// Runs a job.
    async fn job(&self, started: Started, mut stop: watch::Receiver<bool>) -> Ended {
        let Started { at, run, claim, after } = started;
        let job = &self.pipeline.jobs[at];
        let mut log = self.log(job);
        let (binary, args) = (self.binary(job), [&job.args[..], &self.args.args].concat());
        let command = JobCommand { binary: &binary, directory: None, args: &args, records: &self.options.records };
        let options = RunOptions { scope: &self.scope, window: self.window, run: Some(&run), claim };
        let (status, exit_code, error) = match command.run(options, log.as_mut(), &mut stop).await {
            Ok(status) => {
                let code = exit_code(status);
                let (status, error) = self.outcome(at, &run, after, code, log.as_ref()).await;
                (status, Some(code), error)
            }
            Err(error) => (JobStatus::Failed, Some(error.kind().exit_code().into()), Some(error.chain())),
        };
        Ended { at, status, exit_code, error }
    }

    /// How a run has ended, and why it did not succeed. The commit decides, not the exit code: a run may be killed after
    /// its commit, or lose to an earlier one that a killed pipeline has left behind.
    async fn outcome(
        &self,
        at: usize,
        run: &RunId,
        after: u64,
        code: i32,
        log: Option<&Log>,
    ) -> (JobStatus, Option<String>) {
        let status =
            if code == i32::from(ErrorKind::Stopped.exit_code()) { JobStatus::Stopped } else { JobStatus::Failed };
        let ledger = self.ledger(at);
        // A run that was refused has not committed; whatever else has, this has to be looked at.
        let is_refused = [ErrorKind::Usage, ErrorKind::Refused].map(|kind| i32::from(kind.exit_code())).contains(&code);
        let standing = if is_refused { Ok(Standing::Open(0)) } else { standing(self.options, &ledger, after).await };
        match standing {
            Ok(Standing::Done) => (JobStatus::Succeeded, None),
            Err(error) => (status, Some(error.chain())),
            Ok(Standing::Open(_)) if code == 0 => {
                let name = &self.pipeline.jobs[at].name;
                let error = Error::unexpected(format!("the run ended well, but has no commit of the job `{name}`"))
                    .hint("call the job by the name that its binary gives it; a dry run commits nothing");
                (status, Some(error.to_string()))
            }
            Ok(Standing::Open(_)) => match log {
                Some(log) => (status, log.error()),
                None => {
                    let found = ledger.get_run(run).await.ok().flatten();
                    (status, found.and_then(|run| run.error).map(|error| error.message))
                }
            },
        }
    }

    /// Records how a run has ended.
    async fn end(&self, ended: Ended, record: &mut PipelineRecord) -> Result<()> {
        let Ended { at, status, exit_code, error } = ended;
        let job = &mut record.jobs[at];
        (job.status, job.exit_code, job.error, job.finished_at) = (status, exit_code, error, Some(Utc::now()));
        let is_good = status == JobStatus::Succeeded;
        let code = exit_code.filter(|_| !is_good).map(|code| format!(" with exit code {code}")).unwrap_or_default();
        let error = job.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let log = self.log(&self.pipeline.jobs[at]).filter(|_| !is_good && exit_code.is_some());
        let log = log.map(|log| format!(" ({})", log.path().display())).unwrap_or_default();
        let seconds = job.seconds().unwrap_or_default();
        say(&format!("{} {}{code} in {seconds:.1} s{error}{log}", job.job, status.name()));
        self.save(record).await
    }

    fn ledger(&self, at: usize) -> Ledger {
        Ledger::new(Arc::clone(&self.state), &self.pipeline.jobs[at].name, &self.scope)
    }

    /// The log of a job, unless its output is passed through.
    fn log(&self, job: &Job) -> Option<Log> {
        if self.args.logs.as_os_str() == "-" {
            return None;
        }
        let mut folder = self.args.logs.join(&self.pipeline.name);
        if self.scope != Run::WHOLE_JOB {
            folder.push(self.scope.replace('/', "_"));
        }
        Some(Log::new(folder.join(format!("{}.log", job.name))))
    }

    async fn summary(&self, record: &PipelineRecord, is_stopped: bool) -> Result<(String, ExitCode)> {
        let mut runs: Vec<Option<RunRecord>> = Vec::new();
        for (at, job) in record.jobs.iter().enumerate() {
            runs.push(match job.runs.last() {
                // No decision depends on it.
                Some(run) => self.ledger(at).get_run(run).await.ok().flatten(),
                None => None,
            });
        }
        let bad = record.jobs.iter().find(|job| matches!(job.status, JobStatus::Failed | JobStatus::Stopped));
        let code = match bad {
            _ if is_stopped => ErrorKind::Stopped.exit_code(),
            None => 0,
            Some(job) => job.exit_code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code > 0).unwrap_or(1),
        };
        let all = record.jobs.iter().zip(&runs);
        let text = match self.args.json {
            true => all.map(|(job, run)| json_line(job, run.as_ref())).collect::<Result<String>>()?,
            false => table(all) + &totals(record),
        };
        Ok((text, ExitCode::from(code)))
    }
}

/// A line for each job.
fn table<'a>(jobs: impl Iterator<Item = (&'a PipelineJob, &'a Option<RunRecord>)>) -> String {
    let row = |(job, run): (&PipelineJob, &Option<RunRecord>)| {
        let rows = |counts: fn(&RunRecord) -> u64| run.as_ref().map(|run| counts(run).to_string()).unwrap_or_default();
        vec![
            job.job.clone(),
            job.status.name().to_owned(),
            job.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            job.seconds().map(|seconds| format!("{seconds:.1}")).unwrap_or_default(),
            job.runs.last().map(ToString::to_string).unwrap_or_default(),
            rows(rows_read),
            rows(rows_written),
            job.error.clone().unwrap_or_default(),
        ]
    };
    let columns = ["job", "status", "exit code", "seconds", "run", "read", "written", "error"];
    let is_number = |column| matches!(column, "exit code" | "seconds" | "read" | "written");
    draw_to_terminal(&columns.map(|column| (column, is_number(column))), &jobs.map(row).collect::<Vec<_>>())
}

fn rows_read(run: &RunRecord) -> u64 {
    rows(&run.sources)
}

fn rows_written(run: &RunRecord) -> u64 {
    rows(&run.sinks)
}

/// How many jobs ended how, and what to do next.
fn totals(record: &PipelineRecord) -> String {
    let of = |status| record.jobs.iter().filter(|job| job.status == status).count();
    let mut text = format!("{}: {} succeeded", count(record.jobs.len(), "job"), of(JobStatus::Succeeded));
    for status in [JobStatus::Failed, JobStatus::Stopped, JobStatus::Skipped] {
        if of(status) > 0 {
            text += &format!(", {} {}", of(status), status.name());
        }
    }
    text.push('\n');
    if !record.has_succeeded() {
        text += "`--resume` runs those that have not succeeded\n";
    }
    text
}

fn json_line(job: &PipelineJob, run: Option<&RunRecord>) -> Result<String> {
    let mut json = serde_json::to_value(job).map_err(|e| Error::unexpected("a record cannot be printed").because(e))?;
    json["read"] = run.map(rows_read).into();
    json["written"] = run.map(rows_written).into();
    Ok(format!("{json}\n"))
}

/// Reports progress.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
