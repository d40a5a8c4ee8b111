//! The process of a job.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use chrono::SecondsFormat;
use hardtack_core::{Error, Result, RunId, Window};
use hardtack_runtime::RecordArgs;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// The command line of a job.
#[derive(Debug)]
pub(crate) struct JobCommand<'a> {
    /// The path of the binary; a name without a folder is looked up in `PATH`.
    pub(crate) binary: &'a Path,
    /// The folder in which it runs, if not in that of this process.
    pub(crate) directory: Option<&'a Path>,
    pub(crate) args: &'a [String],
    pub(crate) records: &'a RecordArgs,
}

/// What a command tells a run of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunOptions<'a> {
    pub(crate) scope: &'a str,
    pub(crate) window: Option<Window>,
    /// Its id, unless it chooses one itself.
    pub(crate) run: Option<&'a RunId>,
    /// The only number under which it can commit, if it is given one.
    pub(crate) claim: Option<u64>,
}

/// The options of jobs that commands set themselves.
pub(crate) const OWN_OPTIONS: [&str; 7] =
    ["--window-start", "--window-end", "--scope", "--run-id", "--claim", "--state", "--catalog"];

/// The first of these arguments that would contradict those that a command adds.
pub(crate) fn own_option(args: &[String]) -> Option<&String> {
    args.iter().find(|arg| OWN_OPTIONS.contains(&arg.split('=').next().unwrap_or_default()))
}

impl JobCommand<'_> {
    /// The arguments for a run. Arguments win over the environment, so nothing that is set there interferes. They follow
    /// those of the job, which may choose one of several jobs in a binary; but what is behind `--` stays last.
    pub(crate) fn arguments(&self, options: RunOptions<'_>) -> Vec<String> {
        let bound = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let mut own = Vec::new();
        let mut add = |name: &str, value: String| own.extend([name.to_owned(), value]);
        if let Some(window) = options.window {
            add("--window-start", bound(window.start()));
            add("--window-end", bound(window.end()));
        }
        add("--scope", options.scope.to_owned());
        if let Some(run) = options.run {
            add("--run-id", run.to_string());
        }
        if let Some(claim) = options.claim {
            add("--claim", claim.to_string());
        }
        add("--state", self.records.state.as_str().to_owned());
        add("--catalog", self.records.catalog.to_string());
        let end = self.args.iter().position(|arg| arg == "--").unwrap_or(self.args.len());
        let (named, plain) = self.args.split_at(end);
        [named, &own, plain].concat()
    }

    /// Runs the job. Its output is appended to a log if one is given, and passed through otherwise. Forwards a stop to it.
    ///
    /// # Errors
    /// Usage if the process cannot be started or the log cannot be written.
    pub(crate) async fn run(
        &self,
        options: RunOptions<'_>,
        log: Option<&mut Log>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<ExitStatus> {
        let mut command = Command::new(self.binary);
        command.args(self.arguments(options)).stdin(Stdio::null());
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        if let Some(log) = log {
            let (out, err) = log.begin(options.run)?;
            command.stdout(out).stderr(err);
        }
        let child = command.spawn().map_err(|e| {
            Error::usage("the job cannot be started")
                .with("binary", self.binary.display())
                .hint("give the path of a job's binary, for example `target/release/books_data_product`")
                .because(e)
        })?;
        wait(child, stop).await.map_err(|e| Error::unexpected("the job cannot be waited for").because(e))
    }
}

/// Waits for a process, and stops it when told to.
async fn wait(mut child: Child, stop: &mut watch::Receiver<bool>) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        _ = stop.wait_for(|stops| *stops) => {}
    }
    // It has not been waited for, so the id is still its own.
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        kill_process(pid, Signal::TERM)?;
    }
    child.wait().await
}

/// The exit code as a shell shows it.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// A word as a shell takes it.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Whether a process with this id exists on this machine.
pub(crate) fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // It may belong to somebody else.
    pid.is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// The log of a job or window: the output of all its runs.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    /// Where the output of the last run begins.
    start: u64,
}

impl Log {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, start: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins the output of a run.
    #[expect(clippy::disallowed_methods, reason = "the output of a process goes to a local file")]
    fn begin(&mut self, run: Option<&RunId>) -> Result<(File, File)> {
        let opened = || {
            self.path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            if let Some(run) = run {
                writeln!(file, "--- run {run}")?;
            }
            let end = file.metadata()?.len();
            Ok((end, file.try_clone()?, file))
        };
        let (start, out, err) = opened().map_err(|e: io::Error| {
            Error::usage("the log of a job cannot be written")
                .with("file", self.path.display())
                .hint("name a folder with `--logs`")
                .because(e)
        })?;
        self.start = start;
        Ok((out, err))
    }

    /// The line of the last run's output that says why it failed.
    pub(crate) fn error(&self) -> Option<String> {
        error_in(&self.tail().ok()?)
    }

    #[expect(clippy::disallowed_methods, reason = "the output of a process goes to a local file")]
    fn tail(&self) -> io::Result<String> {
        const TAIL_BYTES: u64 = 64 << 10;
        let mut file = File::open(&self.path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.start.max(end.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The last line that reports an error: the message of a JSON line, a usage error, or else the last line.
fn error_in(output: &str) -> Option<String> {
    let lines = || output.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let json = lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["level"] == "ERROR").then(|| line["message"].as_str().map(str::to_owned))?
    });
    let usage = || lines().find(|line| line.starts_with("error: ")).map(str::to_owned);
    let last = || lines().find(|line| !line.starts_with("(exit code ")).map(str::to_owned);
    json.or_else(usage).or_else(last)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing(&[], "--scope s --state .hardtack --catalog embedded")]
    #[case::after_those_of_the_job(&["run", "a", "--x"], "run a --x --scope s --state .hardtack --catalog embedded")]
    #[case::before_plain_ones(&["--x", "--", "-y"], "--x --scope s --state .hardtack --catalog embedded -- -y")]
    fn a_command_adds_its_arguments(#[case] args: &[&str], #[case] all: &str) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let records = RecordArgs::default();
        let command = JobCommand { binary: Path::new("job"), directory: None, args: &args, records: &records };
        let options = RunOptions { scope: "s", window: None, run: None, claim: None };
        assert_eq!(command.arguments(options).join(" "), all);
    }

    #[rstest]
    #[case("--target=s3://b/x", "--target=s3://b/x")]
    #[case("", "''")]
    #[case("a b", "'a b'")]
    #[case("it's", r"'it'\''s'")]
    fn words_are_quoted(#[case] word: &str, #[case] quoted: &str) {
        assert_eq!(shell_word(word), quoted);
    }

    #[test]
    fn this_process_exists() {
        assert!(exists(std::process::id()));
        assert!(!exists(0) && !exists(u32::MAX));
    }

    #[rstest]
    #[case::json("x\n{\"level\":\"ERROR\",\"message\":\"no file\"}\n", Some("no file"))]
    #[case::pretty("x\njob failed: no file\n(exit code 1: not found)\n", Some("job failed: no file"))]
    #[case::usage("error: `x` is not a date\n\nUsage: job\n", Some("error: `x` is not a date"))]
    #[case::other("one\n two \n\n", Some("two"))]
    #[case::nothing("", None)]
    fn the_line_that_says_why(#[case] output: &str, #[case] said: Option<&str>) {
        assert_eq!(error_in(output).as_deref(), said);
    }
}
