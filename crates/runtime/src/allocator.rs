//! The allocator of the process.
//!
//! Small files and batches cause thousands of allocations of all sizes. With glibc's allocator these took an eighth of
//! the CPU time of jobs that write many files. See the chapter on performance in the guide.

use libmimalloc_sys::{mi_option_eager_commit_delay, mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2, which the crate does not name. It follows this one in `mimalloc.h`.
const PURGE_DELAY: mi_option_t = mi_option_eager_commit_delay + 1;

/// How long freed memory is kept before the system gets it back. By default that is 10 ms, and the system clears what the
/// process asks for again: that took up to 40 % of the CPU time of a job. Generation 3 of mimalloc has this value, too.
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

    /// The value before is the default of this option, and of no other next to it.
    #[test]
    #[expect(unsafe_code, reason = "see above")]
    fn the_option_is_the_delay_of_purges() {
        // SAFETY: the function checks the number of the option, and reads an integer.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        let before = get();
        keep_freed_memory();
        assert_eq!((before, get()), (10, 1000));
    }
}
