//! Measures a process by the operating system's accounting.
//!
//! A process inherits the peak memory of its parent, at least until it calls `exec`. So this command, which may hold a
//! lot, starts a small copy of itself that starts and measures the process.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hardtack_core::{Error, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use crate::files;

/// The resources of a process, including its children.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds from start to end.
    pub wall: f64,
    /// Processor seconds, of the process and of the system on its behalf.
    pub cpu: f64,
    /// The peak resident memory, in bytes.
    pub peak: u64,
}

/// The report of the small copy.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    usage: Usage,
    /// How the process failed, if it did.
    failure: Option<String>,
}

/// Environment variables that would influence a job.
const NOT_INHERITED: [&str; 9] = [
    "HARDTACK_DRY_RUN",
    "HARDTACK_FSYNC",
    "HARDTACK_MEMORY_LIMIT",
    "HARDTACK_RUN_ID",
    "HARDTACK_SCOPE",
    "HARDTACK_SPILL_DIR",
    "HARDTACK_STATE",
    "HARDTACK_THREADS",
    "POLARS_MAX_THREADS",
];

/// Runs a program, which ends with this exit code, through a small copy of this command, with its output in the file `log`.
///
/// # Errors
/// `Unexpected` if the program cannot be started or ends otherwise; the error has the end of its output.
pub(crate) fn measure(program: &[OsString], log: &Path, code: i32) -> Result<Usage> {
    let this = std::env::current_exe().map_err(files::failed("this command does not find itself", Path::new("?")))?;
    let mut command = Command::new(&this);
    command
        .arg("measure")
        .arg(log)
        .arg(format!("--code={code}"))
        .arg("--")
        .args(program)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    // Otherwise compiled Python would be left beside the scripts.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    let output = command.output().map_err(files::failed("cannot start", &this))?;
    let report: Report = serde_json::from_slice(&output.stdout)
        .map_err(|e| Error::unexpected("a process could not be measured").with("program", shown(program)).because(e))?;
    match report.failure {
        None => Ok(report.usage),
        Some(failure) => Err(Error::unexpected(failure)
            .with("program", shown(program))
            .with("it said", last_lines(&files::read(log).unwrap_or_default()))),
    }
}

/// The work of the small copy: prints a [`Report`] as JSON.
pub(crate) fn measure_here(program: &[OsString], log: &Path, code: i32) -> Result<String> {
    let file = File::create(log).map_err(files::failed("cannot create a file", log))?;
    let same = file.try_clone().map_err(files::failed("cannot create a file", log))?;
    let (name, args) = program.split_first().ok_or_else(|| Error::usage("there is no program to measure"))?;
    let start = Instant::now();
    let status = Command::new(name).args(args).stdin(Stdio::null()).stdout(file).stderr(same).status();
    let wall = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| Error::unexpected("no usage").because(e))?;
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    // macOS counts bytes, the others kilobytes.
    let peak = usage.max_rss() as u64 * if cfg!(target_os = "macos") { 1 } else { 1024 };
    let failure = match status {
        Ok(status) if status.code() == Some(code) => None,
        Ok(status) => Some(format!("the program failed: {status}")),
        Err(e) => Some(format!("the program cannot be started: {e}")),
    };
    serde_json::to_string(&Report { usage: Usage { wall, cpu, peak }, failure })
        .map_err(|e| Error::unexpected("a report cannot be written").because(e))
}

fn seconds(time: TimeVal) -> f64 {
    (Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)).as_secs_f64()
}

fn shown(program: &[OsString]) -> String {
    program.iter().map(|part| part.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// The end of a log, where errors are.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join("\n  ")
}

/// Runs a program without measuring it, and returns its output.
pub(crate) fn ask(program: &OsStr, args: &[&OsStr]) -> Result<String, String> {
    match Command::new(program).args(args).stdin(Stdio::null()).output() {
        Err(e) => Err(format!("{}: {e}", program.display())),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned()),
    }
}
