//! The process of a job for one window.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use hardtack_core::{Error, Result, RunId, Window};
use hardtack_runtime::RecordArgs;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// The command line of a job for its windows.
#[derive(Debug)]
pub(crate) struct JobCommand<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) args: &'a [String],
    pub(crate) records: &'a RecordArgs,
}

impl JobCommand<'_> {
    /// The command for a window. Arguments win over the environment, so nothing that is set there interferes.
    fn of(&self, window: Window, run: &RunId, claim: Option<u64>) -> Command {
        let mut command = Command::new(self.binary);
        let bound = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        command
            .args(["--window-start", &bound(window.start()), "--window-end", &bound(window.end())])
            .args(["--scope", &window.scope(), "--run-id", run.as_str()])
            .args(claim.iter().flat_map(|claim| ["--claim".to_owned(), claim.to_string()]))
            .args(["--state", self.records.state.as_str()])
            .args(["--catalog", &self.records.catalog.to_string()])
            .args(self.args)
            .stdin(Stdio::null());
        command
    }

    /// Runs the job for a window. It can commit only under the number that it claims, if it is given one. Its output is
    /// appended to a log if one is given, and passed through otherwise. Forwards a stop to it.
    ///
    /// # Errors
    /// Usage if the process cannot be started or the log cannot be written.
    pub(crate) async fn run(
        &self,
        window: Window,
        run: &RunId,
        claim: Option<u64>,
        log: Option<&mut Log>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<ExitStatus> {
        let mut command = self.of(window, run, claim);
        if let Some(log) = log {
            let (out, err) = log.begin(run)?;
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

/// The log of a window: the output of all its runs.
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
    fn begin(&mut self, run: &RunId) -> Result<(File, File)> {
        let opened = || {
            self.path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            writeln!(file, "--- run {run}")?;
            let end = file.metadata()?.len();
            Ok((end, file.try_clone()?, file))
        };
        let (start, out, err) = opened().map_err(|e: io::Error| {
            Error::usage("the log of a window cannot be written")
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
    #[case::json("x\n{\"level\":\"ERROR\",\"message\":\"no file\"}\n", Some("no file"))]
    #[case::pretty("x\njob failed: no file\n(exit code 1: not found)\n", Some("job failed: no file"))]
    #[case::usage("error: `x` is not a date\n\nUsage: job\n", Some("error: `x` is not a date"))]
    #[case::other("one\n two \n\n", Some("two"))]
    #[case::nothing("", None)]
    fn the_line_that_says_why(#[case] output: &str, #[case] said: Option<&str>) {
        assert_eq!(error_in(output).as_deref(), said);
    }
}
