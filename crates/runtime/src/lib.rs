//! The life of a hardtack run.
//!
//! parse arguments → open the context → roll forward or discard what an earlier run left → run record `running` →
//! `main(ctx)` → commit record → publish → run record `succeeded`. A failure, a panic or SIGTERM before the commit
//! record discards what was staged.
//!
//! [`run`] is all that a job binary calls; [`recover()`] is what `hardtack recover` and the start of every run do.

// Small files and batches are thousands of allocations of all sizes, which took the allocator of glibc an eighth of the
// processor time of jobs that write many. See the chapter on performance in the guide.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod abandon;
mod args;
mod dry_run;
mod environment;
mod fsck;
mod lifecycle;
mod logging;
mod profile;
mod progress;
mod recover;
#[cfg(feature = "aws")]
mod s3;
mod show;
mod summary;

pub use abandon::{Unpublished, abandon};
pub use args::{
    LogFormat, RuntimeArgs, UsageError, parse, parse_bytes, parse_duration, parse_size, parse_threads,
    usage_without_credentials,
};
pub use environment::{open_context, open_state};
pub use fsck::{Finding, FindingKind, Remedy, fsck};
pub use lifecycle::{Job, Outcome, execute, run};
pub use logging::init as init_logging;
pub use progress::Bars;
pub use recover::{RecoverOptions, Recovered, recover};

/// The fault points that a test build can arm; see [`hardtack_core::fault`].
pub use hardtack_core::fault::{POINTS as FAULT_POINTS, UPLOAD_POINTS as UPLOAD_FAULT_POINTS};
