//! A run, from its arguments to its exit code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use futures::FutureExt;
use hardtack_core::actions::Places;
use hardtack_core::audit::Audit;
use hardtack_core::bookmarks::Reprocess;
use hardtack_core::observe::Observer;
use hardtack_core::publish::{self, Publisher};
use hardtack_core::{
    Context, Error, ErrorKind, JobContext, Journal, Location, PublishAction, Result, Run, RunId, StagedSink, StagingIo,
    fault,
};
use hardtack_state::{
    Abandonment, Attempt, AttemptRecord, Begun, CommitRecord, ErrorRecord, Ledger, RunRecord, RunStatus,
};

use crate::args::{RuntimeArgs, parse};
use crate::definition::JobDefinition;
use crate::describe::{ArgumentDescription, DESCRIBE_ARGUMENTS, arguments};
use crate::ended::Ended;
use crate::environment::{cores, memory_limit, open_context, open_state};
use crate::outcome::{Outcome, panicked};
use crate::profile::Profiler;
use crate::progress::Bar;
use crate::recover::{RecoverOptions, SETTLE_TIMEOUT, clean_up, discard_attempt, recover, roll_forward};
use crate::refused;
use crate::show::FirstRows;
use crate::spill::{SpillFolder, SpillWatch};
use crate::stop::Stop;
use crate::{audit_only, dry_run, environment, logging, notify, otel, progress, summary};

/// A job: what a scheduler must know of it, and anything that it needs in addition to its `main`.
///
/// ```
/// use chrono::TimeDelta;
/// use hardtack_runtime::Job;
///
/// let job = Job::new("daily_sales")
///     .description("Sums up the sales of a day")
///     .owner("sales-data@example.com")
///     .schedule("cron(0 3 * * ? *)")
///     .timeout(TimeDelta::minutes(30))
///     .attempts(3)
///     .vcpus(1.0)
///     .memory_mib(2048);
/// assert!(job.definition().check().is_ok());
/// ```
///
/// `JOB --describe` prints it as JSON, together with what the job reads and writes, which a dry run finds out.
#[derive(Debug)]
pub struct Job {
    definition: JobDefinition,
    publishers: Vec<(String, Arc<dyn Publisher>)>,
    observers: Vec<Arc<dyn Observer>>,
}

impl Job {
    /// Creates a job; its commits and run records are kept under this name.
    pub fn new(name: impl Into<String>) -> Self {
        let definition = JobDefinition { name: name.into(), ..JobDefinition::default() };
        Self { definition, publishers: Vec::new(), observers: Vec::new() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.definition.name
    }

    /// What a scheduler must know.
    pub fn definition(&self) -> &JobDefinition {
        &self.definition
    }

    /// Says which version it is, for example that of its package.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.definition.version = Some(version.into()).filter(|version| !version.is_empty());
        self
    }

    /// Says of which revision of the sources it was built, if that is known: the hash of a commit.
    #[must_use]
    pub fn revision(mut self, revision: Option<&str>) -> Self {
        self.definition.revision = revision.filter(|revision| !revision.is_empty()).map(str::to_owned);
        self
    }

    /// Says what it does, in a sentence.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.definition.description = Some(description.into()).filter(|description| !description.is_empty());
        self
    }

    /// Says whom to ask, and to tell of failures: a team, or an address.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.definition.owner = Some(owner.into());
        self
    }

    /// Tags what is created for it, for example by `domain`.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.definition.tags.insert(key.into(), value.into());
        self
    }

    /// Says when it runs, as EventBridge does: `cron(0 3 * * ? *)`, in UTC, or `rate(1 hour)`. A schedule that does not
    /// parse is an error of every start.
    #[must_use]
    pub fn schedule(mut self, expression: impl Into<String>) -> Self {
        self.definition.schedule = Some(expression.into());
        self
    }

    /// Says after which time a run is ended: at least a minute.
    #[must_use]
    pub fn timeout(mut self, after: TimeDelta) -> Self {
        self.definition.timeout_seconds = Some(u64::try_from(after.num_seconds()).unwrap_or_default());
        self
    }

    /// Says how often a run is started in all (1 to 10) if it fails for a reason that may pass.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.definition.attempts = Some(attempts);
        self
    }

    /// Says how many processors it needs. AWS Fargate has 0.25, 0.5, 1, 2, 4, 8 and 16.
    #[must_use]
    pub fn vcpus(mut self, vcpus: f64) -> Self {
        self.definition.vcpus = Some(vcpus);
        self
    }

    /// Says how much memory it needs, in MiB.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.definition.memory_mib = Some(mib);
        self
    }

    /// Adds the publisher of a sink from outside this framework, so that a killed run of this job can be recovered.
    #[must_use]
    pub fn with_publisher(mut self, name: impl Into<String>, publisher: Arc<dyn Publisher>) -> Self {
        self.publishers.push((name.into(), publisher));
        self
    }

    /// Adds an observer of all rows that are staged, whose verdict after the end of `main` decides whether the run
    /// commits.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Runs the job with the arguments of this process, and returns the exit code of the process.
    pub fn run<A: Args>(self, main: impl AsyncFnOnce(&Context<A>) -> Result<()>) -> ExitCode {
        #[expect(clippy::disallowed_methods, reason = "this is where the command line comes in")]
        let command_line = std::env::args_os();
        self.run_from(command_line, main)
    }

    /// The same with this command line, whose first argument is the program.
    pub fn run_from<A: Args>(
        self,
        command_line: impl IntoIterator<Item = OsString>,
        main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
    ) -> ExitCode {
        let command_line: Vec<OsString> = command_line.into_iter().collect();
        let described = arguments::<A>();
        if matches!(command_line.as_slice(), [_, only] if only == DESCRIBE_ARGUMENTS) {
            let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string(&described).unwrap_or_default());
            return ExitCode::SUCCESS;
        }
        let (args, options) = match parse::<A>(&self.definition, command_line) {
            Ok(parsed) => parsed,
            Err(usage) => {
                usage.print();
                return ExitCode::from(usage.exit_code());
            }
        };
        self.start(args, described, &options, main)
    }

    /// Runs the job with parsed arguments, and returns the exit code of the process.
    pub fn run_with<A>(
        self,
        args: A,
        options: &RuntimeArgs,
        main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
    ) -> ExitCode {
        self.start(args, Vec::new(), options, main)
    }

    /// `described` is what the arguments are.
    fn start<A>(
        self,
        args: A,
        described: Vec<ArgumentDescription>,
        options: &RuntimeArgs,
        main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
    ) -> ExitCode {
        fault::arm_from_environment();
        let bars = logging::init(options.log_format, &options.log);
        let threads = options.query.threads.unwrap_or_else(cores);
        let tokio = match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
            Ok(tokio) => tokio,
            Err(e) => {
                summary::failed(
                    self.name(),
                    &Error::unexpected("threads could not be started").because(e),
                    options.log_format,
                );
                return ExitCode::FAILURE;
            }
        };
        let outcome = tokio.block_on(async {
            self.definition.check()?;
            if options.dry_run {
                dry_run::dry_run(self.name(), args, options, main).await
            } else if options.describe {
                let description = dry_run::describe(&self.definition, args, described, options, main).await?;
                let _ = writeln!(std::io::stdout(), "{}", description.to_json()?);
                Ok(())
            } else if options.audits.audit_only {
                audit_only::audit_only(&self, args, options, main).await
            } else {
                let started_at = Utc::now();
                let done = execute(&self, args, options, main, &bars).await;
                tell(options, &Ended::now(&self.definition, started_at, &done)).await;
                done.map(|outcome| summary::succeeded(&outcome, options.log_format))
            }
        });
        // Do not wait for work that is no longer needed.
        tokio.shutdown_background();
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                summary::failed(self.name(), &error, options.log_format);
                ExitCode::from(error.kind().exit_code())
            }
        }
    }
}

/// Tells of the end of a run whoever wants to know. It is recorded already, and nothing here changes its exit code.
async fn tell(options: &RuntimeArgs, run: &Ended<'_>) {
    options.metrics.print(&options.metrics_namespace, run);
    tokio::join!(otel::send(run), async {
        if let Some(error) = run.error {
            notify::failed(&run.job.name, options, error).await;
        }
    });
}

/// Runs the job `name` with the arguments of this process, and returns the exit code of the process. A job's `main.rs`
/// does nothing else.
///
/// ```no_run
/// # use hardtack_core::{Context, Result};
/// # #[derive(Debug, clap::Args)] pub struct Args {}
/// # pub async fn job(_: &Context<Args>) -> Result<()> { Ok(()) }
/// fn main() -> std::process::ExitCode {
///     hardtack_runtime::run(env!("CARGO_PKG_NAME"), job)
/// }
/// ```
pub fn run<A: Args>(name: &'static str, main: impl AsyncFnOnce(&Context<A>) -> Result<()>) -> ExitCode {
    Job::new(name).run(main)
}

/// Executes a run: recovers earlier runs, calls `main`, audits, commits, publishes.
///
/// # Errors
/// The failure of the run. Unless the error says that the run had committed, none of its output is visible.
pub async fn execute<A>(
    job: &Job,
    args: A,
    options: &RuntimeArgs,
    main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
    bars: &progress::Bars,
) -> Result<Outcome> {
    let mut stop = Stop::listen()?;
    let base = open_context(job.name(), options)?;
    SpillFolder::of(&options.query).check(memory_limit(&options.query));
    register(&base, job);
    let state = open_state(base.stores(), &options.records.state)?;
    let ledger = Ledger::new(state, job.name(), &options.scope).invoked_by(options.invocation.clone());
    recover(&base, &ledger, RecoverOptions::default()).await?;

    let again = options.bookmarks.reprocess(&ledger).await?;
    let attempt = begin(&base, &ledger, options.run_id.as_ref()).await?;
    let run = Running::new(job, options, &base, ledger, attempt, again, bars)?;
    let staged = match run.check_claim(options.claim) {
        Ok(()) => run.stage(args, main, &mut stop).await,
        Err(error) => Err(error),
    };
    match staged {
        Err(error) => Err(run.discard(error).await),
        Ok(commit) => match decide(&run.ledger, &commit).await {
            Decision::Committed => run.publish(commit).await,
            Decision::Lost(error) => Err(run.discard(error).await),
            Decision::Unknown(error) => Err(run.leave(error).await),
        },
    }
}

/// A run, from its attempt to its end.
struct Running {
    ledger: Ledger,
    attempt: Attempt,
    ctx: JobContext,
    io: Arc<StagingIo>,
    shown: Option<Arc<FirstRows>>,
    profiler: Option<Arc<Profiler>>,
    bar: Bar,
    spill: SpillWatch,
    /// Where refused rows are, and how long they stay.
    refused: (Location, TimeDelta),
}

impl Running {
    fn new(
        job: &Job,
        options: &RuntimeArgs,
        base: &JobContext,
        ledger: Ledger,
        attempt: Attempt,
        again: Option<Reprocess>,
        bars: &progress::Bars,
    ) -> Result<Self> {
        let io = Arc::new(StagingIo::default());
        let shown = (options.show > 0).then(|| Arc::new(FirstRows::new(options.show)));
        let profiler = options.profile.then(Arc::<Profiler>::default);
        let mut builder = JobContext::builder(job.name())
            .share(base)
            .run(attempt.record.run.clone())
            .io(io.clone())
            .journal(attempt.journal.clone())
            .bookmarks(options.bookmarks.bookmarks(attempt.bookmarks.clone(), again))
            .history(attempt.metrics.clone())
            .audit_options(options.audits.options(&options.records.state, &attempt.record.run));
        let shows = shown.iter().map(|shown| Arc::clone(shown) as Arc<dyn Observer>);
        let profiles = profiler.iter().map(|profiler| Arc::clone(profiler) as Arc<dyn Observer>);
        for observer in job.observers.iter().cloned().chain(shows).chain(profiles) {
            builder = builder.observer(observer);
        }
        let ctx = builder.build()?;
        register(&ctx, job);
        let bar = bars.start(&ctx);
        let spill = SpillFolder::of(&options.query).watch(&ctx);
        let refused = (options.records.state.clone(), options.audits.keep_refused_for);
        Ok(Self { ledger, attempt, ctx, io, shown, profiler, bar, spill, refused })
    }

    /// Fails if the run cannot commit under the number that it was told to.
    fn check_claim(&self, claim: Option<u64>) -> Result<()> {
        let claims = self.attempt.record.claims;
        match claim.filter(|claim| *claim != claims) {
            None => Ok(()),
            Some(claim) => {
                Err(Error::conflict(format!("this run was to be commit {claim} of its scope, but would be {claims}"))
                    .hint("another run got there first; `hardtack runs` lists them"))
            }
        }
    }

    /// Calls `main`, which stages; then the audits. Returns the commit.
    async fn stage<A>(
        &self,
        args: A,
        main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
        stop: &mut Stop,
    ) -> Result<CommitRecord> {
        fault::hit("run.started")?;
        let context = Context::new(args, self.ctx.clone());
        tokio::select! {
            biased;
            () = stop.wait() => Err(stopped()),
            lost = lost(&self.ledger, &self.attempt.record, CLAIM_CHECK_INTERVAL) => Err(lost),
            done = AssertUnwindSafe(main(&context)).catch_unwind() => done.unwrap_or_else(|p| Err(panicked(&*p))),
        }?;
        check_window(&self.ctx)?;
        // Staging that `main` has begun and abandoned is not part of the commit.
        self.ctx.end_staging(SETTLE_TIMEOUT).await?;
        self.attempt.journal.flush().await?;
        fault::hit("run.staged")?;
        // An audit may still read.
        tokio::select! {
            biased;
            () = stop.wait() => Err(stopped()),
            lost = lost(&self.ledger, &self.attempt.record, CLAIM_CHECK_INTERVAL) => Err(lost),
            judged = self.ctx.audit() => judged,
        }?;
        for (source, why) in self.ctx.bookmarks_held() {
            tracing::warn!(source, "the bookmark stays where it is: {why}");
        }
        commit_record(&self.ctx, &self.attempt, &self.io.staged())
    }

    /// Executes the publish actions, then cleans up.
    async fn publish(self, commit: CommitRecord) -> Result<Outcome> {
        self.bar.publishing(commit.actions().len());
        let options = RecoverOptions::default();
        let settled = roll_forward(&self.ctx, &self.ledger, &commit, options, &|_| self.bar.published()).await;
        let published = settled.and_then(|settlement| settlement.published(commit.sequence));
        self.bar.finish();
        let mut record = self.measured();
        record.commit = Some(commit.sequence);
        if let Err(error) = published {
            let error = match error.detail::<Abandonment>() {
                Some(_) => error,
                None => Error::new(error.kind(), "the run has committed, but not everything could be published")
                    .with("commit", commit.sequence)
                    .hint("the next run, or `hardtack recover`, continues from here")
                    .because(error),
            };
            return Err(end_failed(&self.ledger, &mut record, error).await);
        }
        record.status = RunStatus::Succeeded;
        record.finished_at = Some(self.ctx.now());
        record.bookmarks_to = commit.bookmarks;
        save_record(&self.ledger, &record).await;
        clean_up(&self.ctx, &self.ledger).await;
        self.remove_refused(true).await;
        // Rows that cannot be printed do not undo the run.
        let shown = self.shown.as_ref().map(|shown| shown.tables()).transpose().unwrap_or_else(|e| {
            tracing::warn!("the first rows could not be printed: {}", e.chain());
            None
        });
        let shown = shown.unwrap_or_default();
        Ok(Outcome { record, sinks: self.io.staged(), shown })
    }

    /// Removes refused rows of earlier runs.
    async fn remove_refused(&self, succeeded: bool) {
        let (state, keep_for) = &self.refused;
        refused::remove(&self.ctx, state, *keep_for, succeeded).await;
    }

    /// Discards everything staged; returns the failure of the run.
    async fn discard(self, error: Error) -> Error {
        self.bar.finish();
        self.ctx.forget_pending_audits();
        self.remove_refused(false).await;
        // A run that lost its number may fail with misleading errors, because the winner discards what it staged.
        let error = match self.ledger.check(&self.attempt.record).await {
            Err(conflict) if conflict.kind() == ErrorKind::Conflict => conflict,
            _ => self.spill.explain(error),
        };
        let is_refused = error.detail::<Vec<Audit>>().is_some();
        let kept = match is_refused && self.ctx.audit_options().keep.is_some() {
            true => publish::keep(self.ctx.publishers(), self.attempt.journal.noted().await).await,
            false => Vec::new(),
        };
        let (kept, places): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let error = places.into_iter().fold(error, |error, place| error.with("kept", place));
        // The attempt is removed last, so that an incomplete run record always has one.
        let error = end_failed(&self.ledger, &mut self.measured(), error).await;
        discard_attempt(&self.ctx, &self.ledger, &self.attempt.journal, &kept).await;
        error
    }

    /// Leaves everything staged in place, because the commit may exist or may still arrive. The next run will know.
    async fn leave(self, error: Error) -> Error {
        self.bar.finish();
        end_failed(&self.ledger, &mut self.measured(), error).await
    }

    /// The run's record, with the counts so far.
    fn measured(&self) -> RunRecord {
        let mut record = self.ledger.new_record(self.attempt.record.run.clone());
        record.bookmarks_from.clone_from(&self.attempt.bookmarks);
        record.bookmarks_held = self.ctx.bookmarks_held();
        record.sources = self.ctx.meters().sources();
        record.sinks = self.ctx.meters().sinks();
        record.spilled_bytes = self.spill.most();
        record.audits = self.ctx.audits();
        match self.profiler.as_ref().map(|profiler| profiler.profiles()).transpose() {
            Ok(profiles) => record.profiles = profiles.unwrap_or_default(),
            Err(e) => tracing::warn!("the columns could not be profiled: {}", e.chain()),
        }
        record
    }
}

/// Fails if the run was given a window that nobody has asked for.
pub(crate) fn check_window(ctx: &JobContext) -> Result<()> {
    match ctx.ignores_window() {
        true => Err(Error::usage("the run was given a window, but the job never asks for it")
            .hint("the job has to read by `ctx.window()`; or leave out `--window-start` and `--window-end`")),
        false => Ok(()),
    }
}

/// Begins the run under a new name. A run that commits meanwhile is published first, by itself or by us.
pub(crate) async fn begin(base: &JobContext, ledger: &Ledger, wanted: Option<&RunId>) -> Result<Attempt> {
    let (mut number, mut commits) = (1, 0);
    while commits < 100 {
        let run = Run { id: run_id(base.run().started_at, wanted, number)?, ..base.run().clone() };
        match ledger.begin(&run).await? {
            Begun::Attempt(attempt) => return Ok(*attempt),
            Begun::Unpublished => {
                commits += 1;
                recover(base, ledger, RecoverOptions::default()).await?;
            }
            Begun::NameTaken if number < 10_000 => {
                tracing::info!(run = %run.id, "this run id was used before; appending a number");
                number += 1;
            }
            Begun::NameTaken => {
                return Err(Error::usage("this run id was used thousands of times; choose another with --run-id"));
            }
        }
    }
    Err(Error::conflict("other runs of this job and scope keep committing; let them finish"))
}

/// The id of a run, with a number appended if it was used before: file names contain it, so it must be new.
fn run_id(started_at: DateTime<Utc>, wanted: Option<&RunId>, number: u32) -> Result<RunId> {
    match (wanted, number) {
        (None, _) => Ok(RunId::generate(started_at)),
        (Some(id), 1) => Ok(id.clone()),
        // An id has 64 characters at most.
        (Some(id), n) => format!("{}.{n}", &id.as_str()[..id.as_str().len().min(58)]).parse(),
    }
}

/// The interval at which a run checks whether it can still commit.
const CLAIM_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Returns when another run has taken the number: from then on this run cannot commit.
async fn lost(ledger: &Ledger, attempt: &AttemptRecord, every: Duration) -> Error {
    loop {
        tokio::time::sleep(every).await;
        match ledger.check(attempt).await {
            Err(conflict) if conflict.kind() == ErrorKind::Conflict => return conflict,
            // Errors of the store are left to the operation that needs a response.
            _ => {}
        }
    }
}

pub(crate) enum Decision {
    Committed,
    /// Another run has the number.
    Lost(Error),
    /// The store did not say whether the record was written.
    Unknown(Error),
}

/// Commits, and returns the outcome.
pub(crate) async fn decide(ledger: &Ledger, commit: &CommitRecord) -> Decision {
    let error = match ledger.commit(commit).await {
        Ok(()) => return Decision::Committed,
        Err(error) if error.kind() == ErrorKind::Conflict => return Decision::Lost(error),
        Err(error) => error,
    };
    match ledger.get(commit.sequence).await {
        Ok(Some(taken)) if taken.run.id == commit.run.id => Decision::Committed,
        _ => Decision::Unknown(
            Error::new(error.kind(), "the state location did not confirm whether the run has committed")
                .hint("run the job again: it publishes this run if it has, and starts over if it has not")
                .because(error),
        ),
    }
}

fn register(ctx: &JobContext, job: &Job) {
    environment::register(ctx);
    for (name, publisher) in &job.publishers {
        ctx.publishers().register(name, Arc::clone(publisher));
    }
}

/// Creates the commit of everything staged.
///
/// # Errors
/// Usage if two sinks write the same file, because one would silently replace the other; and if two replace the same
/// file, because rows that one of them keeps (a compaction does) would coexist with those of the other.
fn commit_record(ctx: &JobContext, attempt: &Attempt, staged: &[StagedSink]) -> Result<CommitRecord> {
    let (mut appearing, mut going) = (BTreeMap::new(), BTreeMap::new());
    for sink in staged {
        for action in &sink.staged.publish {
            let (what, files, location) = match action {
                PublishAction::CompleteUpload { location, .. } | PublishAction::RenameFile { to: location, .. } => {
                    ("write", &mut appearing, location)
                }
                PublishAction::Delete { location } => ("replace", &mut going, location),
                PublishAction::Foreign { .. } => continue,
            };
            let other: &str = files.insert(location, &*sink.name).unwrap_or(&sink.name);
            if other != sink.name {
                return Err(Error::usage(format!("the sinks `{other}` and `{}` {what} the same file", sink.name))
                    .with("file", location)
                    .hint("give each sink a location of its own"));
            }
        }
    }
    // One sink may supersede a file that another has just written.
    let kept = |action: &PublishAction| match action {
        PublishAction::Delete { location } => !appearing.contains_key(location),
        _ => true,
    };
    let publish = |s: &StagedSink| s.staged.publish.iter().filter(|a| kept(a)).cloned().collect();
    Ok(CommitRecord {
        publish: staged.iter().map(|s| (s.name.clone(), publish(s))).collect(),
        bookmarks: ctx.bookmarks_after(),
        metrics: ctx.history_after(),
        places: Some(places(ctx, staged)?),
        ..CommitRecord::new(attempt.record.claims, ctx.run().clone(), ctx.now())
    })
}

/// The places that the sinks have declared: the locations of their rows, and the folders for which they have staged
/// files.
///
/// # Errors
/// Usage if a sink would touch a file elsewhere: recovery would refuse that.
fn places(ctx: &JobContext, staged: &[StagedSink]) -> Result<Vec<Location>> {
    let mut declared = ctx.staging_roots();
    // A location need not be in a store; it may be that of a queue, for example.
    declared.extend(staged.iter().filter_map(|sink| sink.location.as_ref()?.absolute().ok()));
    let places = Places::new(&declared);
    for sink in staged {
        for action in &sink.staged.publish {
            places.check(action).map_err(|e| {
                Error::usage(format!("the sink `{}` touches a file outside the places that it declared", sink.name))
                    .hint("declare with `Sink::location` where it writes, or stage below the `root` of a `stage_file`")
                    .because(e)
            })?;
        }
    }
    Ok(places.outermost())
}

pub(crate) async fn end_failed(ledger: &Ledger, record: &mut RunRecord, error: Error) -> Error {
    record.status = match error.kind() {
        ErrorKind::Stopped => RunStatus::Stopped,
        ErrorKind::Conflict => RunStatus::Superseded,
        _ if error.detail::<Abandonment>().is_some() => RunStatus::Abandoned,
        _ => RunStatus::Failed,
    };
    record.finished_at = Some(chrono::Utc::now());
    record.error = Some(ErrorRecord::from(&error));
    save_record(ledger, record).await;
    error.with_detail(record.clone())
}

/// No decision depends on a run record, so a run does not fail because of it.
pub(crate) async fn save_record(ledger: &Ledger, record: &RunRecord) {
    if let Err(e) = ledger.put_run(record).await {
        tracing::warn!("the run record could not be written: {}", e.chain());
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Stopped, "stopped by a signal; staged files are discarded, nothing was published")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_finds_out_that_another_has_its_number() {
        let ctx = JobContext::builder("job").build().unwrap();
        let ledger = Ledger::new(open_state(ctx.stores(), &"memory:/state".into()).unwrap(), "job", "default");
        let attempt = begin(&ctx, &ledger, None).await.unwrap().record;
        let soon = Duration::from_millis(1);
        let no_news = tokio::time::timeout(soon * 50, lost(&ledger, &attempt, soon)).await;
        assert!(no_news.is_err(), "nobody has the number");
        let winner = Run { id: "winner".parse().unwrap(), ..ctx.run().clone() };
        ledger.commit(&CommitRecord::new(1, winner, ctx.now())).await.unwrap();
        let error = lost(&ledger, &attempt, soon).await;
        assert_eq!((error.kind(), error.get("other run")), (ErrorKind::Conflict, Some("winner")));
    }
}
