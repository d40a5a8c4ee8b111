//! Arguments: those that every job has, and errors that say what is expected.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, Args, Command, FromArgMatches, ValueEnum};
use hardtack_catalog::CatalogChoice;
use hardtack_core::audit::AuditOptions;
use hardtack_core::bookmarks::BookmarkOption;
use hardtack_core::location::without_credentials;
use hardtack_core::{Location, Run, RunId, Window};
use hardtack_state::{Invocation, refused_folder};

use crate::definition::JobDefinition;
use crate::invocation::invocation;
use crate::metrics::MetricsFormat;
use crate::notify::NotifyArgs;

/// The arguments of every job, in addition to its own.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Runtime options")]
pub struct RuntimeArgs {
    /// Print sources, sinks, schemas and plans; read no rows, write nothing, record nothing
    #[arg(long, env = "HARDTACK_DRY_RUN")]
    pub dry_run: bool,

    /// Print what the job is, reads and writes, as JSON; read no rows, write nothing, record nothing
    #[arg(long, env = "HARDTACK_DESCRIBE", conflicts_with = "dry_run")]
    pub describe: bool,

    /// Where runs and tables are recorded.
    #[command(flatten)]
    pub records: RecordArgs,

    /// Scope within which runs exclude one another, for example `2026-11-21`; with a window and without this option, each
    /// window has its own
    #[arg(long, env = "HARDTACK_SCOPE", default_value_t = Self::default().scope, value_name = "NAME", value_parser = scope)]
    pub scope: String,

    /// The span of time to process.
    #[command(flatten)]
    pub window: WindowArgs,

    /// Name of this run, for example `nightly-2026-11-21`; a name that was used before gets a number appended
    #[arg(long, env = "HARDTACK_RUN_ID", value_name = "NAME")]
    pub run_id: Option<RunId>,

    /// Number that the commit of this run must have, for `hardtack backfill`: if another run got it first, this one ends
    /// with exit code 4 before it reads
    #[arg(long, value_name = "N", hide = true)]
    pub claim: Option<u64>,

    /// What the run does with bookmarks.
    #[command(flatten)]
    pub bookmarks: BookmarkArgs,

    /// What audits do.
    #[command(flatten)]
    pub audits: AuditArgs,

    /// The resources of queries.
    #[command(flatten)]
    pub query: QueryArgs,

    /// Metrics on standard output: `emf` (CloudWatch's embedded metric format), `none`, or `auto` (`emf` in a job of AWS Batch)
    #[arg(long, value_enum, env = "HARDTACK_METRICS", default_value_t = Self::default().metrics, value_name = "FORMAT")]
    pub metrics: MetricsFormat,

    /// Namespace of the metrics in CloudWatch, for example `hardtack/prod`
    #[arg(long, env = "HARDTACK_METRICS_NAMESPACE", default_value_t = Self::default().metrics_namespace, value_name = "NAME", value_parser = namespace)]
    pub metrics_namespace: String,

    /// Whom to tell of failures.
    #[command(flatten)]
    pub notify: NotifyArgs,

    /// Log format on standard error: `pretty`, `json`, or `auto` (pretty on a terminal, JSON otherwise)
    #[arg(long, value_enum, env = "HARDTACK_LOG_FORMAT", default_value_t = Self::default().log_format, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Log filter, for example `info` or `warn,hardtack_runtime=debug`
    #[arg(long, env = "HARDTACK_LOG", default_value_t = Self::default().log, value_name = "FILTER", value_parser = filter)]
    pub log: String,

    /// Print the first rows of each sink to standard output, for example `20`
    #[arg(long, env = "HARDTACK_SHOW", default_value_t = Self::default().show, value_name = "ROWS", hide_default_value = true)]
    pub show: usize,

    /// Profile the saved columns: nulls, distinct values, minimum, maximum, longest text. The profile is printed at the
    /// end and stored in the run record, so do not use it for data that must not appear there
    #[arg(long, env = "HARDTACK_PROFILE")]
    pub profile: bool,

    /// Flush files on local disks before the commit; keep the state on a store that survives a power loss by itself
    #[arg(long, env = "HARDTACK_FSYNC")]
    pub fsync: bool,

    /// How this process was started, for the run's record.
    #[arg(skip)]
    pub invocation: Option<Invocation>,
}

impl Default for RuntimeArgs {
    /// The options of an empty command line. All defaults are stated here and in the groups.
    fn default() -> Self {
        Self {
            dry_run: false,
            describe: false,
            records: RecordArgs::default(),
            scope: Run::WHOLE_JOB.to_owned(),
            window: WindowArgs::default(),
            run_id: None,
            claim: None,
            bookmarks: BookmarkArgs::default(),
            audits: AuditArgs::default(),
            query: QueryArgs::default(),
            metrics: MetricsFormat::Auto,
            metrics_namespace: "hardtack".to_owned(),
            notify: NotifyArgs::default(),
            log_format: LogFormat::Auto,
            log: "warn".to_owned(),
            show: 0,
            profile: false,
            fsync: false,
            invocation: None,
        }
    }
}

impl RuntimeArgs {
    /// The options of an empty command line, with the state at this location.
    pub fn with_state(state: Location) -> Self {
        Self { records: RecordArgs { state, ..RecordArgs::default() }, ..Self::default() }
    }
}

/// What audits do with the rows that they judge.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// Run sources, transforms and audits; write nothing, record nothing
    #[arg(long, env = "HARDTACK_AUDIT_ONLY", conflicts_with = "dry_run")]
    pub audit_only: bool,

    /// When an audit fails: `keep` the refused rows in the state location, as Parquet, or `drop` them with everything that
    /// the run has staged
    #[arg(long, value_enum, env = "HARDTACK_ON_AUDIT_FAILURE", default_value_t = OnAuditFailure::Keep, value_name = "ACTION")]
    pub on_audit_failure: OnAuditFailure,

    /// How long refused rows are kept, for example `30d`; the next successful run of the scope removes them, too
    #[arg(long, env = "HARDTACK_KEEP_REFUSED_FOR", default_value = "7d", value_name = "TIME", value_parser = parse_duration)]
    pub keep_refused_for: TimeDelta,

    /// Folder in which rows are set aside that fail a rule, if the rules allow a share of bad rows: `--quarantine`. A job
    /// may have this argument itself, for records that it cannot read; then both go there.
    #[arg(skip)]
    pub quarantine: Option<Location>,
}

impl Default for AuditArgs {
    fn default() -> Self {
        Self {
            audit_only: false,
            on_audit_failure: OnAuditFailure::Keep,
            keep_refused_for: TimeDelta::days(7),
            quarantine: None,
        }
    }
}

impl AuditArgs {
    const QUARANTINE: &str = "quarantine";

    /// The argument `--quarantine`.
    fn quarantine_arg() -> Arg {
        Arg::new(Self::QUARANTINE)
            .long(Self::QUARANTINE)
            .env("QUARANTINE")
            .value_name("LOCATION")
            .value_parser(clap::value_parser!(Location))
            .help_heading("Runtime options")
            .help(
                "Folder in which rows are set aside that fail a rule, if the rules allow a share of bad rows; without it they \
                 are published",
            )
    }

    pub(crate) fn options(&self, state: &Location, run: &Run) -> AuditOptions {
        let keeps = self.on_audit_failure == OnAuditFailure::Keep;
        let keep = || refused_folder(state, &run.job, Some(&run.scope)).join(run.id.as_str());
        AuditOptions { quarantine: self.quarantine.clone(), keep: keeps.then(keep) }
    }
}

/// What happens to refused rows when an audit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnAuditFailure {
    /// They can be read as Parquet in the state location.
    Keep,
    /// They are discarded.
    Drop,
}

/// What a run does with the bookmarks of its sources. The names are those of AWS Glue.
#[derive(Debug, Clone, Default, Args)]
pub struct BookmarkArgs {
    /// Bookmarks: `job-bookmark-enable` (read what is new, and remember it), `job-bookmark-pause` (read what is new, and do
    /// not remember it) or `job-bookmark-disable` (read everything, and do not remember it)
    #[arg(
        long,
        value_enum,
        env = "HARDTACK_JOB_BOOKMARK_OPTION",
        default_value_t = BookmarkChoice::default(),
        value_name = "OPTION",
        hide_possible_values = true
    )]
    pub job_bookmark_option: BookmarkChoice,

    /// Read again what the runs after this one have read, up to `--job-bookmark-to`, and leave the bookmarks where they are;
    /// for example `20261128T170000Z-1a2b3c4d`
    #[arg(long, env = "HARDTACK_JOB_BOOKMARK_FROM", value_name = "RUN_ID")]
    pub job_bookmark_from: Option<RunId>,

    /// Read again what this run and the runs before it have read, after `--job-bookmark-from` if that is given, and leave
    /// the bookmarks where they are; for example `20261128T180000Z-5e6f7a8b`
    #[arg(long, env = "HARDTACK_JOB_BOOKMARK_TO", value_name = "RUN_ID")]
    pub job_bookmark_to: Option<RunId>,

    /// Start a source from its beginning if its bookmark is of another location; without this, the run is refused. For
    /// example after `--source` has changed
    #[arg(long, env = "HARDTACK_JOB_BOOKMARK_RESET_MOVED")]
    pub job_bookmark_reset_moved: bool,
}

/// The values of `--job-bookmark-option`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum BookmarkChoice {
    /// Reads what is new, and remembers it.
    #[default]
    JobBookmarkEnable,
    /// Reads what is new, and does not remember it.
    JobBookmarkPause,
    /// Reads everything, and does not remember it.
    JobBookmarkDisable,
}

impl From<BookmarkChoice> for BookmarkOption {
    fn from(choice: BookmarkChoice) -> Self {
        match choice {
            BookmarkChoice::JobBookmarkEnable => Self::Enable,
            BookmarkChoice::JobBookmarkPause => Self::Pause,
            BookmarkChoice::JobBookmarkDisable => Self::Disable,
        }
    }
}

/// Where runs and tables are recorded: options of jobs and of all commands.
#[derive(Debug, Clone, Args)]
pub struct RecordArgs {
    /// Where commits, bookmarks and run records are kept, for example `s3://my-bucket/state` or `.hardtack`
    #[arg(long, global = true, env = "HARDTACK_STATE", default_value_t = Self::default().state, value_name = "LOCATION")]
    pub state: Location,

    /// Catalog of the tables: `embedded` (a file at the state location) or `embedded:PATH`, `glue` or
    /// `glue:123456789012` (the AWS Glue Data Catalog), or `rest:https://host/path?warehouse=NAME` (an Iceberg REST
    /// catalog)
    #[arg(
        long,
        global = true,
        env = "HARDTACK_CATALOG",
        default_value_t = Self::default().catalog,
        value_name = "CATALOG"
    )]
    pub catalog: CatalogChoice,
}

impl Default for RecordArgs {
    fn default() -> Self {
        Self { state: Location::from(".hardtack"), catalog: CatalogChoice::default() }
    }
}

/// The resources of queries: options of jobs and of commands that run queries.
#[derive(Debug, Clone, Default, Args)]
pub struct QueryArgs {
    /// Memory that queries may hold before they spill, for example `2GiB` or `500MB` [default: 70 % of the machine or cgroup]
    #[arg(long, env = "HARDTACK_MEMORY_LIMIT", value_name = "SIZE", value_parser = parse_bytes)]
    pub memory_limit: Option<usize>,

    /// Threads, for example `4` [default: one per core]
    #[arg(long, env = "HARDTACK_THREADS", value_name = "N", value_parser = parse_threads)]
    pub threads: Option<usize>,

    /// Folder that queries spill to, for example `/scratch` [default: the system's temporary folder]
    #[arg(long, env = "HARDTACK_SPILL_DIR", value_name = "FOLDER")]
    pub spill_dir: Option<PathBuf>,
}

/// The span of time that a run processes: both bounds or neither.
#[derive(Debug, Clone, Default, Args)]
pub struct WindowArgs {
    /// First moment of the window to process, for example `2024-01-31` (midnight in UTC) or `2024-01-31T05:00:00Z`
    #[arg(long, env = "HARDTACK_WINDOW_START", value_name = "MOMENT", value_parser = parse_moment, requires = "window_end")]
    pub window_start: Option<DateTime<Utc>>,

    /// First moment after the window, for example `2024-02-01`
    #[arg(long, env = "HARDTACK_WINDOW_END", value_name = "MOMENT", value_parser = parse_moment, requires = "window_start")]
    pub window_end: Option<DateTime<Utc>>,
}

impl WindowArgs {
    /// The window, if there is one.
    ///
    /// # Errors
    /// Those of [`Window::new`].
    pub fn window(&self) -> hardtack_core::Result<Option<Window>> {
        let window = self.window_start.zip(self.window_end).map(|(start, end)| Window::new(start, end));
        window.transpose().map_err(|e| e.with("arguments", "--window-start, --window-end"))
    }
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

fn scope(text: &str) -> Result<String, String> {
    hardtack_state::check_scope(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

fn filter(text: &str) -> Result<String, String> {
    let wanted = "expected a filter such as `info` or `warn,hardtack_runtime=debug`";
    tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|e| format!("{e}; {wanted}"))
}

/// Parses a moment such as `2024-01-31` for `--window-start`: a clap value parser.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_moment(text: &str) -> Result<DateTime<Utc>, String> {
    hardtack_core::moment(text).map_err(|e| e.to_string())
}

/// Parses a namespace of CloudWatch.
fn namespace(text: &str) -> Result<String, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-/#: ".contains(c);
    match (1..=255).contains(&text.len()) && text.chars().all(is_fine) && !text.trim().is_empty() {
        true => Ok(text.to_owned()),
        false => Err("expected up to 255 letters, digits and any of `._-/#:`".to_owned()),
    }
}

/// Parses a number of threads for `--threads`: a clap value parser.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("expected a number from 1, for example `4`".to_owned()),
    }
}

/// Parses an amount of memory such as `2GiB` for `--memory-limit`: a clap value parser.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    // With less, DataFusion cannot even sort a batch.
    let enough = size(text).filter(|bytes| *bytes >= 32 << 20).and_then(|bytes| usize::try_from(bytes).ok());
    enough.ok_or_else(|| "expected a size such as `2GiB`, `500MB` or `1000000`, at least 32MiB".to_owned())
}

/// Parses a file size such as `512MiB`: a clap value parser.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let size = size(text).filter(|bytes| *bytes > 0);
    size.ok_or_else(|| "expected a size such as `512MiB`, `100MB` or `1000000`".to_owned())
}

/// Parses a human-readable size in bytes; `None` if the text is not a size, or is an exbibyte or more. Units are
/// case-insensitive; `k`, `M`, `G` and `T` are powers of 1000, and with `iB` powers of 1024.
fn size(text: &str) -> Option<u64> {
    text.parse().ok().map(|ByteSize(bytes)| bytes).filter(|bytes| *bytes < 1 << 60)
}

/// Parses a duration such as `90m` for `--grace`: a clap value parser. A number without a unit is refused as ambiguous,
/// except `0`.
///
/// ```
/// use chrono::TimeDelta;
/// use hardtack_runtime::parse_duration;
///
/// assert_eq!(parse_duration("90m"), Ok(TimeDelta::minutes(90)));
/// assert_eq!(parse_duration("1h 30m"), Ok(TimeDelta::minutes(90)));
/// assert!(parse_duration("90").is_err());
/// ```
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_duration(text: &str) -> Result<TimeDelta, String> {
    let duration = humantime::parse_duration(text).ok().and_then(|duration| TimeDelta::from_std(duration).ok());
    duration.ok_or_else(|| "expected a time such as `90m`, `1h 30m`, `30d` or `0s`".to_owned())
}

/// Parses a job's command line: its own arguments and the [`RuntimeArgs`].
///
/// # Errors
/// A [`UsageError`] to print, also for `--help`.
pub fn parse<A: Args>(
    job: &JobDefinition,
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<(A, RuntimeArgs), UsageError> {
    let command = Command::new(job.name.clone()).bin_name(&job.name);
    let command = match job.long_version() {
        Some(version) => command.version(version),
        None => command,
    };
    // The command keeps the job's own description.
    let command = A::augment_args(command);
    let (about, long_about) = (command.get_about().cloned(), command.get_long_about().cloned());
    let command =
        RuntimeArgs::augment_args(command).about(Resettable::from(about)).long_about(Resettable::from(long_about));
    // A job may have this argument itself.
    let is_there = command.get_arguments().any(|arg| arg.get_id() == AuditArgs::QUARANTINE);
    let command = if is_there { command } else { command.arg(AuditArgs::quarantine_arg()) };
    // Before all values are hidden: that marks those which are secret.
    let declared = command.clone();
    let command = command.mut_args(|arg| arg.hide_env_values(true));
    let fail = |error: clap::Error, command: &Command| UsageError::new(error, command);
    let matches = command.clone().try_get_matches_from(args).map_err(|e| fail(e, &command))?;
    let own = A::from_arg_matches(&matches).map_err(|e| fail(e, &command))?;
    let mut runtime = RuntimeArgs::from_arg_matches(&matches).map_err(|e| fail(e, &command))?;
    runtime.invocation = Some(invocation(&declared, &matches));
    runtime.audits.quarantine = matches.try_get_one::<Location>(AuditArgs::QUARANTINE).ok().flatten().cloned();
    let window =
        runtime.window.window().map_err(|e| fail(command.clone().error(ErrorKind::ValueValidation, e), &command))?;
    if let (Some(window), Some(ValueSource::DefaultValue)) = (window, matches.value_source("scope")) {
        runtime.scope = window.scope();
    }
    Ok((own, runtime))
}

/// A command line that does not parse, or a request for help.
#[derive(Debug)]
pub struct UsageError {
    error: clap::Error,
    wanted: Vec<String>,
}

/// Removes credentials in arguments from an error of a command line: it is printed, and logs are kept.
pub fn usage_without_credentials(mut error: clap::Error) -> clap::Error {
    let hidden: Vec<_> = error.context().filter_map(|(kind, value)| Some((kind, shown(value)?))).collect();
    for (kind, value) in hidden {
        error.insert(kind, value);
    }
    error
}

/// A printable form of a value, if it must not be printed unchanged.
fn shown(value: &ContextValue) -> Option<ContextValue> {
    match value {
        ContextValue::String(text) => match without_credentials(text) {
            Cow::Owned(text) => Some(ContextValue::String(text)),
            Cow::Borrowed(_) => None,
        },
        ContextValue::Strings(texts) => {
            let texts = texts.iter().map(|text| without_credentials(text).into_owned());
            Some(ContextValue::Strings(texts.collect()))
        }
        _ => None,
    }
}

impl UsageError {
    fn new(error: clap::Error, command: &Command) -> Self {
        let error = usage_without_credentials(error);
        let wanted = match error.kind() {
            ErrorKind::MissingRequiredArgument | ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
                wanted(&error, command)
            }
            _ => Vec::new(),
        };
        Self { error, wanted }
    }

    /// 0 for a request for help, 2 otherwise.
    pub fn exit_code(&self) -> u8 {
        if self.error.use_stderr() { hardtack_core::ErrorKind::Usage.exit_code() } else { 0 }
    }

    /// Prints help to standard output and errors to standard error.
    pub fn print(&self) {
        let _ = self.error.print();
        for line in &self.wanted {
            #[expect(clippy::print_stderr, clippy::disallowed_macros, reason = "before logging starts")]
            {
                eprintln!("{line}");
            }
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        self.wanted.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The values that the arguments in an error expect, quoted from their help (which has an example), and where else they
/// can be set.
fn wanted(error: &clap::Error, command: &Command) -> Vec<String> {
    let named: Vec<String> = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => vec![name.clone()],
        Some(ContextValue::Strings(names)) => names.clone(),
        _ => Vec::new(),
    };
    let mut lines = vec![String::new(), "Expected:".to_owned()];
    let mut command = command.clone();
    command.build();
    for arg in command.get_arguments() {
        let shown = arg.to_string();
        if named.iter().any(|name| name.split(' ').next() == shown.split(' ').next()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let env = arg.get_env().map(|e| format!(" [env: {}]", e.to_string_lossy())).unwrap_or_default();
            lines.push(format!("  {shown}  {help}{env}"));
        }
    }
    if lines.len() > 2 { lines } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2GiB", Some(2 << 30))]
    #[case("500MB", Some(500_000_000))]
    #[case("1.5 gib", Some(1_610_612_736))]
    #[case("100000000", Some(100_000_000))]
    #[case("1MB", None)]
    #[case("lots", None)]
    #[case("2 parsecs", None)]
    #[case("-1GB", None)]
    #[case("99999999999TB", None)]
    #[case("64MiB", Some(64 << 20))]
    #[case("64 m", Some(64_000_000))]
    #[case("0.5gb", Some(500_000_000))]
    #[case("1TiB", Some(1 << 40))]
    #[case("33554432b", Some(32 << 20))]
    #[case("", None)]
    #[case("GB", None)]
    fn sizes(#[case] text: &str, #[case] wanted: Option<usize>) {
        assert_eq!(parse_bytes(text).ok(), wanted);
    }

    #[rstest]
    #[case("90m", 5400)]
    #[case("1h", 3600)]
    #[case("1h30m", 5400)]
    #[case("30d", 2_592_000)]
    #[case("2w", 1_209_600)]
    #[case("0s", 0)]
    fn times(#[case] text: &str, #[case] seconds: i64) {
        assert_eq!(parse_duration(text), Ok(TimeDelta::seconds(seconds)));
    }

    #[rstest]
    fn a_time_has_a_unit_and_an_end(#[values("", "1", "h", "-1h", "1 parsec", "9999999999999999d", "ä")] text: &str) {
        assert_eq!(parse_duration(text).unwrap_err(), "expected a time such as `90m`, `1h 30m`, `30d` or `0s`");
    }

    /// A job's own arguments.
    #[derive(Debug, Args)]
    struct Own {
        /// Lake root, for example `s3://my-bucket`
        #[arg(long, env = "HARDTACK_TEST_SOURCE")]
        source: Location,
        /// Days to keep, for example `30`
        #[arg(long, default_value = "7")]
        keep_days: u32,
    }

    fn books() -> JobDefinition {
        JobDefinition { name: "books".to_owned(), ..JobDefinition::default() }
    }

    fn message(args: &[&str]) -> String {
        let error = parse::<Own>(&books(), std::iter::once("books").chain(args.iter().copied())).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn both_groups_of_arguments_are_parsed() {
        let (own, runtime) = parse::<Own>(&books(), ["books", "--source", "s3://b", "--threads", "3"]).unwrap();
        assert_eq!((own.source.as_str(), own.keep_days, runtime.query.threads), ("s3://b", 7, Some(3)));
        assert_eq!(runtime.records.state, Location::from(".hardtack"));
    }

    #[test]
    fn every_option_can_come_from_the_environment() {
        let command = RuntimeArgs::augment_args(Command::new("job"));
        // What help does not show is passed from process to process.
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(arg.get_env().is_some(), "{arg}");
            let flag = !arg.get_action().takes_values();
            let help = arg.get_help().unwrap().to_string();
            assert!(flag || help.contains('`'), "{arg} has no example");
        }
    }

    #[test]
    fn a_missing_argument_is_named_with_an_example() {
        // Values from the environment are part of clap's usage line, and cargo sets some of them.
        let message = message(&[]).lines().filter(|line| !line.starts_with("Usage:")).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(message, @"
        error: the following required arguments were not provided:
          --source <SOURCE>


        For more information, try '--help'.

        Expected:
          --source <SOURCE>  Lake root, for example `s3://my-bucket` [env: HARDTACK_TEST_SOURCE]
        ");
    }

    #[test]
    fn a_password_in_an_argument_is_refused_and_not_printed() {
        let message = message(&["--source", "s3://AKIA:secret@bucket/lake"]);
        assert!(!message.contains("secret") && !message.contains("AKIA"), "{message}");
        insta::assert_snapshot!(message.lines().next().unwrap(), @"error: invalid value 's3://***@bucket/lake' for '--source <SOURCE>': `s3://***@bucket/lake` is not a location: it contains a password, which would appear in logs and records; S3 keys come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or from the machine's role; expected a URL or path such as `s3://my-bucket/lake`, `file:///data/lake` or `fixtures/lake`");
    }

    #[test]
    fn a_scope_is_the_name_of_a_folder() {
        let long = "x".repeat(260);
        let message = message(&["--source", "x", "--scope", &long]);
        assert!(
            message.contains(
                "for '--scope <NAME>': a scope becomes the name of a folder, which can have at most 255 bytes"
            ),
            "{message}"
        );
    }

    #[rstest]
    #[case::own(&[], "2024-01-31")]
    #[case::given(&["--scope", "s"], "s")]
    #[case::given_as_the_default(&["--scope", "default"], "default")]
    fn a_window_has_a_scope_of_its_own_unless_one_is_given(#[case] more: &[&str], #[case] scope: &str) {
        let day = ["books", "--source", "x", "--window-start", "2024-01-31", "--window-end", "2024-02-01"];
        let (_, runtime) = parse::<Own>(&books(), day.iter().chain(more)).unwrap();
        assert_eq!(runtime.scope, scope);
        assert_eq!(runtime.window.window().unwrap().unwrap().to_string(), "2024-01-31 to 2024-02-01");
    }

    #[test]
    fn half_a_window_is_refused() {
        let message = message(&["--source", "x", "--window-start", "2024-01-31"]);
        assert!(message.contains("not provided:\n  --window-end <MOMENT>"), "{message}");
    }

    #[test]
    fn a_window_that_ends_before_it_starts_is_refused() {
        let bounds = ["--window-start", "2024-02-01", "--window-end", "2024-01-31T23:00:00Z"];
        insta::assert_snapshot!(message(&[&["--source", "x"], &bounds[..]].concat()).lines().next().unwrap(), @"error: a window must start before it ends (start: 2024-02-01, end: 2024-01-31T23:00:00Z, arguments: --window-start, --window-end, hint: its end is not part of it: the window of one day ends on the next)");
    }

    #[test]
    fn a_malformed_argument_is_named_with_what_was_given() {
        insta::assert_snapshot!(message(&["--source", "ftp://x"]), @"
        error: invalid value 'ftp://x' for '--source <SOURCE>': `ftp://x` is not a location: the scheme `ftp` is unknown; expected a URL or path such as `s3://my-bucket/lake`, `file:///data/lake` or `fixtures/lake`

        For more information, try '--help'.

        Expected:
          --source <SOURCE>  Lake root, for example `s3://my-bucket` [env: HARDTACK_TEST_SOURCE]
        ");
        insta::assert_snapshot!(message(&["--source", "x", "--keep-days", "many"]), @"
        error: invalid value 'many' for '--keep-days <KEEP_DAYS>': invalid digit found in string

        For more information, try '--help'.

        Expected:
          --keep-days <KEEP_DAYS>  Days to keep, for example `30`
        ");
        insta::assert_snapshot!(message(&["--source", "x", "--memory-limit", "lots"]), @"
        error: invalid value 'lots' for '--memory-limit <SIZE>': expected a size such as `2GiB`, `500MB` or `1000000`, at least 32MiB

        For more information, try '--help'.

        Expected:
          --memory-limit <SIZE>  Memory that queries may hold before they spill, for example `2GiB` or `500MB` [default: 70 % of the machine or cgroup] [env: HARDTACK_MEMORY_LIMIT]
        ");
        insta::assert_snapshot!(message(&["--source", "x", "--run-id", "a/b"]), @"
        error: invalid value 'a/b' for '--run-id <NAME>': `a/b` is not a run id: expected 1 to 64 letters, digits, `-`, `_` or `.`, such as `nightly-2026-11-21`

        For more information, try '--help'.

        Expected:
          --run-id <NAME>  Name of this run, for example `nightly-2026-11-21`; a name that was used before gets a number appended [env: HARDTACK_RUN_ID]
        ");
    }
}
