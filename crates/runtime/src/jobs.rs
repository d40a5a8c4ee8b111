//! Several jobs in one binary.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hardtack_core::{Context, Error, Result, nearest};

use crate::definition::JobDefinition;
use crate::lifecycle::Job;

/// Several jobs in one binary, for teams that ship one artefact and one image for all of them.
///
/// ```
/// # mod sales {
/// #     #[derive(Debug, clap::Args)] pub struct Args {}
/// #     pub async fn main(_: &hardtack_core::Context<Args>) -> hardtack_core::Result<()> { Ok(()) }
/// #     pub fn job() -> hardtack_runtime::Job { hardtack_runtime::Job::new("sales") }
/// # }
/// # mod stock {
/// #     #[derive(Debug, clap::Args)] pub struct Args {}
/// #     pub async fn main(_: &hardtack_core::Context<Args>) -> hardtack_core::Result<()> { Ok(()) }
/// #     pub fn job() -> hardtack_runtime::Job { hardtack_runtime::Job::new("stock") }
/// # }
/// use hardtack_runtime::Jobs;
///
/// fn jobs() -> Jobs {
///     Jobs::new().with(sales::job(), sales::main).with(stock::job(), stock::main)
/// }
///
/// // In `main.rs`: fn main() -> std::process::ExitCode { jobs().run() }
/// assert_eq!(jobs().names(), ["sales", "stock"]);
/// ```
///
/// `jobs run sales --target s3://lake` is what `sales --target s3://lake` is as a binary of its own: with the same exit
/// codes, state and records. So is the binary under the name of a job, as a link to it. `jobs list` prints what there is.
#[derive(Default)]
pub struct Jobs {
    entries: Vec<Entry>,
}

struct Entry {
    job: Job,
    run: Box<dyn FnOnce(Job, Vec<OsString>) -> ExitCode>,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jobs").field(&self.names()).finish()
    }
}

/// Runs one of these jobs
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job; what follows its name are its arguments
    Run {
        /// The job's name, as `list` prints it
        job: String,
        /// The job's arguments; `--help` prints them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// List the jobs
    List {
        /// Print a line of JSON for each: what it says of itself
        #[arg(long)]
        json: bool,
    },
}

impl Jobs {
    /// No jobs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job and its `main`.
    #[must_use]
    pub fn with<A: Args>(mut self, job: Job, main: impl AsyncFnOnce(&Context<A>) -> Result<()> + 'static) -> Self {
        let run = Box::new(move |job: Job, args: Vec<OsString>| job.run_from(args, main));
        self.entries.push(Entry { job, run });
        self
    }

    /// The names of the jobs, in the order in which they were added.
    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.job.name()).collect()
    }

    /// Runs what the command line of this process says, and returns the exit code of the process: that of the job, or 2 if
    /// the command line does not parse.
    pub fn run(self) -> ExitCode {
        #[expect(clippy::disallowed_methods, reason = "this is where the command line comes in")]
        let args = std::env::args_os();
        self.run_from(args)
    }

    /// The same with this command line, whose first argument is the program.
    pub fn run_from(self, args: impl IntoIterator<Item = OsString>) -> ExitCode {
        let args: Vec<OsString> = args.into_iter().collect();
        if let Err(e) = self.check() {
            return usage(&e);
        }
        let program = args.first().and_then(|program| Path::new(program).file_stem()?.to_str());
        if let Some(name) = program.filter(|name| self.names().contains(name)).map(str::to_owned) {
            return self.run_job(&name, args.into_iter().skip(1).collect());
        }
        match Cli::try_parse_from(args) {
            Ok(Cli { command: Command::Run { job, args } }) => self.run_job(&job, args),
            Ok(Cli { command: Command::List { json } }) => self.list(json),
            Err(e) => {
                let e = crate::usage_without_credentials(e);
                let _ = e.print();
                ExitCode::from(if e.use_stderr() { 2 } else { 0 })
            }
        }
    }

    fn check(&self) -> Result<()> {
        let mut seen = HashSet::new();
        match self.names().into_iter().find(|name| !seen.insert(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::usage("two jobs have the same name")
                .with("job", name)
                .hint("their commits and run records would be kept in one place: give each a name of its own")),
        }
    }

    fn run_job(self, name: &str, args: Vec<OsString>) -> ExitCode {
        let unknown = || {
            let error = Error::usage("there is no job of this name").with("job", name);
            match nearest(name, self.names()) {
                Some(near) => error.with("did you mean", near),
                None => error.with("jobs", self.names().join(", ")),
            }
        };
        let Some(at) = self.entries.iter().position(|entry| entry.job.name() == name) else {
            return usage(&unknown());
        };
        let Some(Entry { job, run }) = self.entries.into_iter().nth(at) else { return ExitCode::FAILURE };
        run(job, std::iter::once(OsString::from(name)).chain(args).collect())
    }

    fn list(&self, json: bool) -> ExitCode {
        let width = self.names().iter().map(|name| name.len()).max().unwrap_or_default();
        let line = |job: &JobDefinition| match json {
            true => serde_json::to_string(job).unwrap_or_default(),
            false => format!("{:width$}  {}", job.name, job.description.as_deref().unwrap_or_default()),
        };
        let text: String =
            self.entries.iter().map(|entry| format!("{}\n", line(entry.job.definition()).trim_end())).collect();
        let _ = std::io::stdout().write_all(text.as_bytes());
        ExitCode::SUCCESS
    }
}

fn usage(error: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {}", error.chain());
    ExitCode::from(error.kind().exit_code())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hardtack_core::ErrorKind;
    use rstest::rstest;

    use super::*;

    #[derive(Debug, clap::Args)]
    struct None {}

    #[derive(Debug, clap::Args)]
    struct Times {
        #[arg(long)]
        times: usize,
    }

    static CALLS: AtomicUsize = AtomicUsize::new(0);

    async fn refuse(_: &Context<None>) -> Result<()> {
        Err(Error::new(ErrorKind::Refused, "no"))
    }

    async fn count(ctx: &Context<Times>) -> Result<()> {
        CALLS.fetch_add(ctx.args().times, Ordering::SeqCst);
        Ok(())
    }

    fn code(args: &[&str]) -> u8 {
        let jobs = Jobs::new().with(Job::new("count"), count).with(Job::new("refuse"), refuse);
        let state = ["--state", "memory:/jobs"];
        let is_run = args.get(1) == Some(&"run") || args[0].ends_with("count");
        let all = args.iter().chain(if is_run { &state[..] } else { &[] });
        let done = jobs.run_from(all.map(OsString::from));
        (0..=255).find(|code| ExitCode::from(*code) == done).unwrap()
    }

    #[rstest]
    #[case::refused(&["jobs", "run", "refuse"], 3)]
    #[case::unknown(&["jobs", "run", "cuont"], 2)]
    #[case::argument_missing(&["jobs", "run", "count"], 2)]
    #[case::help_of_a_job(&["jobs", "run", "count", "--help"], 0)]
    #[case::list(&["jobs", "list", "--json"], 0)]
    #[case::nothing(&["jobs"], 2)]
    fn the_exit_code_is_that_of_the_job(#[case] args: &[&str], #[case] expected: u8) {
        assert_eq!(code(args), expected);
    }

    #[test]
    fn a_job_gets_its_arguments_under_its_own_name_too() {
        assert_eq!(code(&["jobs", "run", "count", "--times", "2"]), 0);
        assert_eq!(code(&["/usr/bin/count", "--times", "3"]), 0);
        assert_eq!(CALLS.load(Ordering::SeqCst), 5);
    }

    #[test]
    fn two_jobs_of_one_name_are_refused() {
        let jobs = Jobs::new().with(Job::new("a"), refuse).with(Job::new("a"), refuse);
        assert!(jobs.check().unwrap_err().to_string().contains("two jobs have the same name"));
    }
}
