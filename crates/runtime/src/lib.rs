//! The lifecycle of a hardtack run.
//!
//! parse arguments → open the context → roll forward or discard the leftovers of earlier runs → run record `running` →
//! `main(ctx)` → commit record → publish → run record `succeeded`. On a failure, a panic or SIGTERM before the commit
//! record, everything staged is discarded.
//!
//! A job binary only calls [`run`]; `hardtack recover` and the start of every run call [`recover()`].

mod abandon;
#[cfg(feature = "mimalloc")]
mod allocator;
mod args;
mod audit_only;
mod batch;
mod bookmarks;
mod definition;
mod describe;
mod dry_run;
mod ended;
mod environment;
mod fsck;
mod invocation;
mod jobs;
mod lifecycle;
mod logging;
mod metrics;
mod notify;
mod otel;
mod outcome;
mod profile;
mod progress;
mod recover;
mod refused;
mod reprocess;
#[cfg(feature = "aws")]
mod s3;
mod show;
mod spill;
mod stop;
mod summary;

pub use abandon::{Unpublished, abandon};
pub use args::{
    AuditArgs, BookmarkArgs, BookmarkChoice, LogFormat, OnAuditFailure, QueryArgs, RecordArgs, RuntimeArgs, UsageError,
    WindowArgs, parse, parse_bytes, parse_duration, parse_moment, parse_size, parse_threads, usage_without_credentials,
};
pub use bookmarks::change_bookmarks;
pub use definition::JobDefinition;
pub use describe::{
    ArgumentDescription, ColumnDescription, DESCRIBE_ARGUMENTS, JobDescription, SinkDescription, SourceDescription,
};
pub use environment::{open_context, open_state};
pub use fsck::{Finding, FindingKind, Remedy, fsck};
pub use jobs::Jobs;
pub use lifecycle::{Job, execute, run};
pub use logging::init as init_logging;
pub use metrics::MetricsFormat;
pub use notify::NotifyArgs;
pub use outcome::Outcome;
pub use progress::Bars;
pub use recover::{RecoverOptions, Recovered, recover};
pub use stop::Stop;
pub use summary::audit as audit_text;

/// The fault points that a test build can arm; see [`hardtack_core::fault`].
pub use hardtack_core::fault::{POINTS as FAULT_POINTS, UPLOAD_POINTS as UPLOAD_FAULT_POINTS};
