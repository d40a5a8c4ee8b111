//! What a process may take, whatever its queries do.
//!
//! A query's pool counts what operators say that they hold. What they do not say, a worker's process is held to from the
//! outside: its server looks at what it has, and the system refuses a single allocation that could never be had.

use hardtack_core::{Error, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beside the memory limit: rows on their way between operators, the catalog, code, what the allocator keeps.
const ALLOWANCE: u64 = 1 << 30;

/// Beside that, addresses: stacks of threads and what the allocator reserves, little of which is ever touched.
const ADDRESSES: u64 = 4 << 30;

/// What a worker may have in memory whose queries may hold so much.
pub(crate) fn most(memory_limit: usize) -> u64 {
    ALLOWANCE.saturating_add(memory_limit as u64)
}

/// What a process has in memory that no file holds, where that can be told.
pub(crate) fn held_by(pid: u32) -> Option<u64> {
    status(&pid.to_string(), "RssAnon:")
}

/// Has the system refuse to this process addresses beyond what it may have in memory. An allocation that is refused ends it.
pub(crate) fn confine(memory_limit: usize) -> Result<()> {
    // Elsewhere than on Linux nobody holds a process to it.
    let Some(now) = status("self", "VmSize:") else { return Ok(()) };
    let wanted = now.saturating_add(most(memory_limit)).saturating_add(ADDRESSES);
    let Rlimit { current, maximum } = getrlimit(Resource::As);
    let current = current.map_or(wanted, |current| current.min(wanted));
    setrlimit(Resource::As, Rlimit { current: Some(current), maximum })
        .map_err(|e| Error::unexpected("the address space could not be limited").because(e))
}

/// A size from what the system says of a process.
fn status(process: &str, field: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "it is about processes of this machine, and no data")]
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_holds_is_seen() {
        let held = || held_by(std::process::id()).unwrap();
        let before = held();
        let block = vec![1_u8; 64 << 20];
        let with = held();
        assert!(with >= before + (60 << 20), "{before} {with} {}", block[1]);
        assert_eq!(held_by(u32::MAX), None);
    }
}
