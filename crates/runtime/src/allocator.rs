//! The allocator of the process.
//!
//! Small files and batches cause thousands of allocations of all sizes. With glibc's allocator these took an eighth of
//! the CPU time of jobs that write many files. See the chapter on performance in the guide.

use libmimalloc_sys::{mi_option_eager_commit_delay, mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2, which the crate does not name. It follows this one in `mimalloc.h`.
const PURGE_DELAY: mi_option_t = mi_option_eager_commit_delay + 1;

/// How long freed memory is kept before the system gets it back, in milliseconds. By default that is 10, and the system
/// clears what the process asks for again. Most jobs take 0.8 to 0.95 of the time with this, and 2 to 15 % more memory: see
/// the guide. It is the default of generation 3 of mimalloc.
const PURGE_DELAY_MS: std::ffi::c_long = 1000;

/// Sets how long freed memory is kept, unless the environment does (`MIMALLOC_PURGE_DELAY`).
#[expect(unsafe_code, reason = "mimalloc has no other way to set an option from within the process")]
pub(crate) fn keep_freed_memory() {
    // SAFETY: the function checks the number of the option, and sets an integer.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    const VARIABLE: &str = "MIMALLOC_PURGE_DELAY";

    /// The value before is the default of this option, and of no other next to it; or what the environment says.
    #[test]
    #[expect(unsafe_code, reason = "see above")]
    #[expect(clippy::disallowed_methods, reason = "the allocator reads the environment, so its test has to")]
    fn the_option_is_the_delay_of_purges() {
        // SAFETY: the function checks the number of the option, and reads an integer.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        let set = std::env::var(VARIABLE).ok().map(|delay| delay.parse().unwrap());
        let before = get();
        keep_freed_memory();
        assert_eq!((before, get()), (set.unwrap_or(10), set.unwrap_or(1000)));
    }

    /// The allocator reads the environment when a process starts, so this needs another one.
    #[test]
    fn the_environment_wins() {
        let tests = std::env::current_exe().unwrap();
        let other = "allocator::tests::the_option_is_the_delay_of_purges";
        let run = std::process::Command::new(tests).args(["--exact", other]).env(VARIABLE, "7").output().unwrap();
        let printed = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && printed.contains("1 passed"), "{printed}");
    }
}
