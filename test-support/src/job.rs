//! Runs the built binary of a job.

use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::lake::TempLake;

/// The built binary of a job, with its own working directory and a clean environment, to be run once or several times.
///
/// ```no_run
/// use hardtack_test_support::JobBinary;
///
/// // In a test: JobBinary::new(env!("CARGO_BIN_EXE_books_data_product"))
/// let job = JobBinary::new("target/debug/books_data_product").args(["--source", "in", "--target", "out"]);
/// job.dir().write("in/books.jsonl", r#"{"title": "Dune"}"#);
///
/// // It dies just before the commit: nothing is to be seen.
/// let killed = job.failing_at("state.commit.before", "return(kill)").run();
/// assert_eq!(killed.signal(), Some(9));
/// assert!(job.dir().files("out").is_empty());
///
/// // The next run does it all.
/// job.run().assert_code(0);
/// assert_eq!(job.dir().read_parquet("out").num_rows(), 1);
/// ```
#[derive(Debug)]
pub struct JobBinary<'a> {
    binary: PathBuf,
    dir: Dir<'a>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    limit: Duration,
    file_limit: Option<u64>,
}

#[derive(Debug)]
enum Dir<'a> {
    Own(TempLake),
    Of(&'a TempLake),
}

impl JobBinary<'_> {
    /// The binary at this path: `env!("CARGO_BIN_EXE_<job>")`.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let limit = Duration::from_secs(120);
        Self {
            binary: binary.into(),
            dir: Dir::Own(TempLake::new()),
            args: Vec::new(),
            env: Vec::new(),
            limit,
            file_limit: None,
        }
    }

    /// The working directory. It persists between runs, and so does the state of the job.
    pub fn dir(&self) -> &TempLake {
        match &self.dir {
            Dir::Own(lake) => lake,
            Dir::Of(lake) => lake,
        }
    }

    /// Uses an in-memory working directory, see [`TempLake::in_memory`].
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.dir = Dir::Own(TempLake::in_memory());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(self, arg: impl fmt::Display) -> Self {
        self.args([arg])
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.to_string()));
        self
    }

    /// Sets an environment variable. None are inherited.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets environment variables, such as those of a service.
    #[must_use]
    pub fn envs(mut self, env: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        self.env.extend(env.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Sets how long a run may take before it is killed and the test fails (two minutes by default).
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Limits the size of its files to this many blocks of 512 bytes: simulates a full disk without special privileges.
    /// (A write fails with an error, as on a full disk; the accompanying signal is ignored.)
    #[must_use]
    pub fn with_file_limit(mut self, blocks: u64) -> Self {
        self.file_limit = Some(blocks);
        self
    }

    /// The same job in the same working directory, to be run with other arguments or under other conditions.
    #[must_use]
    pub fn again(&self) -> JobBinary<'_> {
        JobBinary {
            binary: self.binary.clone(),
            dir: Dir::Of(self.dir()),
            args: self.args.clone(),
            env: self.env.clone(),
            limit: self.limit,
            file_limit: self.file_limit,
        }
    }

    /// The same job in the same working directory, with an armed fault point: `point` is one of
    /// [`all_points`](hardtack_core::fault::all_points), and `action` an action of the `fail` crate: `return(kill)`
    /// (the process kills itself), `return(error)`, `sleep(500)`, `2*off->return(kill)`.
    ///
    /// # Panics
    /// If there is no such point.
    #[must_use]
    #[track_caller]
    pub fn failing_at(&self, point: &str, action: &str) -> JobBinary<'_> {
        let points: Vec<_> = hardtack_core::fault::all_points().collect();
        assert!(points.contains(&point), "`{point}` is not a fault point; expected one of {}", points.join(", "));
        self.again().env("FAILPOINTS", format!("{point}={action}"))
    }

    /// Runs it to completion.
    ///
    /// # Panics
    /// If it cannot be started, or takes longer than the time limit.
    #[track_caller]
    pub fn run(&self) -> Finished {
        self.start().wait()
    }

    /// Starts it, to wait for it or send it signals.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start(&self) -> Running {
        let binary = absolute(&self.binary);
        let mut command = match self.file_limit {
            None => Command::new(binary),
            Some(blocks) => {
                let mut shell = Command::new("/bin/sh");
                let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
                shell.arg("-c").arg(script).arg(binary);
                shell
            }
        };
        command.args(&self.args).current_dir(self.dir().path()).env_clear().envs(self.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) => panic!("{} cannot be started: {e}", self.binary.display()),
        };
        Running {
            stdout: child.stdout.take().map(read_all),
            stderr: child.stderr.take().map(read_all),
            child,
            started: Instant::now(),
            limit: self.limit,
        }
    }
}

/// The path for a process in another folder. Links stay: their name may say which job the binary is.
fn absolute(binary: &Path) -> PathBuf {
    match binary.exists() {
        true => std::path::absolute(binary).expect("the path of a file"),
        false => binary.to_owned(),
    }
}

/// Reads a pipe in the background, so that it never fills up and blocks the process.
fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A running job. It is killed if the test ends first.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    started: Instant,
    limit: Duration,
}

impl Running {
    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until `condition` holds (for example, until staged files exist) or the process has ended; returns whether
    /// it holds.
    pub fn wait_until(&mut self, condition: impl Fn() -> bool) -> bool {
        while !condition() {
            if !self.is_running() || self.started.elapsed() > self.limit {
                return condition();
            }
            sleep(Duration::from_millis(5));
        }
        true
    }

    /// Tells it to stop (SIGTERM), as AWS Batch and Kubernetes do.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Interrupts it (SIGINT), as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Pauses it (SIGSTOP), like a sleeping laptop or a suspended machine.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes it (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("the id of a process");
        // It has not been waited for, so the id is still its own; if it has ended, the signal has no effect.
        let _ = kill_process(pid, signal);
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it takes longer than the time limit.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        while self.is_running() {
            if self.started.elapsed() > self.limit {
                self.kill();
                let limit = self.limit;
                panic!("the job did not end within {limit:?} and was killed\n{}", self.collect());
            }
            sleep(Duration::from_millis(2));
        }
        self.collect()
    }

    fn collect(mut self) -> Finished {
        let text = |pipe: Option<JoinHandle<String>>| pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default();
        let status = self.child.wait().expect("a child can be waited for");
        Finished {
            status,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            seconds: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The exit status and output of a job.
#[derive(Debug, Clone)]
pub struct Finished {
    status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its log (standard error).
    pub stderr: String,
    /// Its duration.
    pub seconds: Duration,
}

impl Finished {
    /// The exit code, unless a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The number of the signal that ended it, if one did; 9 for SIGKILL.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Fails the test, with the job's whole output, unless it ended with this code.
    ///
    /// # Panics
    /// If so.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert!(self.code() == Some(code), "expected exit code {code}\n{self}");
        self
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout.trim_end(), self.stderr.trim_end())
    }
}
