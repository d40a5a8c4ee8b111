//! Limits the memory of a process, whatever its queries do.
//!
//! A query's pool counts the memory that operators report. The rest is limited from outside: the server observes the
//! resident memory of a worker, and the system refuses a single allocation that exceeds the worker's address space.

use hardtack_core::{Error, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// In addition to the memory limit: rows in flight between operators, the catalog, code, the allocator's reserve.
const ALLOWANCE: u64 = 1 << 30;

/// In addition to that, address space: threads' stacks and the allocator's reservations, of which little is ever
/// touched.
const ADDRESSES: u64 = 4 << 30;

/// The resident memory that a worker with this memory limit may have.
pub(crate) fn most(memory_limit: usize) -> u64 {
    ALLOWANCE.saturating_add(memory_limit as u64)
}

/// The anonymous resident memory of a process, where it can be determined.
pub(crate) fn held_by(pid: u32) -> Option<u64> {
    status(&pid.to_string(), "RssAnon:")
}

/// Limits the address space of this process. An allocation that is refused ends it.
pub(crate) fn confine(memory_limit: usize) -> Result<()> {
    // This limit only exists on Linux.
    let Some(now) = status("self", "VmSize:") else { return Ok(()) };
    let wanted = now.saturating_add(most(memory_limit)).saturating_add(ADDRESSES);
    let Rlimit { current, maximum } = getrlimit(Resource::As);
    let current = current.map_or(wanted, |current| current.min(wanted));
    setrlimit(Resource::As, Rlimit { current: Some(current), maximum })
        .map_err(|e| Error::unexpected("the address space could not be limited").because(e))
}

/// A size from the status of a process in `/proc`.
fn status(process: &str, field: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "reads the status of local processes, not data")]
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// A process of its own: what this one holds changes with the tests that run beside this.
    #[test]
    fn what_a_process_holds_is_seen() {
        let mut shell = Command::new("sh")
            .args(["-c", "text=$(head -c 16777216 /dev/zero | tr '\\0' a); echo ${#text}; read wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut length = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut length).unwrap();
        let held = held_by(shell.id()).unwrap();
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(length, "16777216\n");
        assert!((16 << 20..256 << 20).contains(&held), "{held}");
        assert_eq!(held_by(u32::MAX), None);
    }
}
