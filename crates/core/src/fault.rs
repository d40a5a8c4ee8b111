//! Fault points: steps at which a crash test stops a run.
//!
//! Without the feature `failpoints` (which jobs enable through a dev-dependency, so that only test builds have it) a
//! point does nothing. With it, the environment variable `FAILPOINTS` arms points in the syntax of the `fail` crate:
//!
//! * `state.commit.before=return(kill)`: the process sends itself SIGKILL there;
//! * `...=return(error)`: the step fails there with [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable);
//! * `...=sleep(500)`: the step takes its time; `3*off->return(kill)`: the fourth pass kills.

use crate::Result;

/// Every fault point of a run, in order. A crash test covers all of them.
pub const POINTS: &[&str] = &[
    "run.started",
    "stage.file.before",
    "stage.file.created",
    "stage.file.finished",
    "run.staged",
    "state.commit.before",
    "state.commit.after",
    "publish.file.before",
    "publish.file.after",
    "publish.delete.before",
    "publish.delete.after",
    "state.done.before",
    "state.done.after",
    "run.cleanup.before",
    "discard.before",
    "discard.after",
    "state.forget.between",
    "run.cleanup.after",
];

/// The additional fault points of a run with tables, while it publishes, in order.
pub const TABLE_POINTS: &[&str] = &[
    "table.describe.before",
    "table.describe.after",
    "table.record.before",
    "table.record.after",
    "table.point.after",
    "table.drop.after",
    "table.count.before",
    "table.count.after",
    "table.remove.before",
    "table.remove.between",
    "table.remove.after",
];

/// The additional fault points of a run that saves to Iceberg tables, in order, and of one that is discarded.
pub const ICEBERG_POINTS: &[&str] = &[
    "iceberg.create.before",
    "iceberg.create.after",
    "iceberg.manifest.after",
    "iceberg.list.after",
    "iceberg.metadata.before",
    "iceberg.metadata.after",
    "iceberg.swap.after",
    "iceberg.staged.after",
    "iceberg.publish.before",
    "iceberg.publish.after",
    "iceberg.discard.before",
    "iceberg.discard.dropped",
    "iceberg.discard.after",
];

/// The additional fault points of a run that stages multipart uploads: the upload exists, but has not been noted yet.
pub const UPLOAD_POINTS: &[&str] = &["stage.upload.begun"];

/// The fault points that `hardtack recover --abandon` passes, in order, before it discards the staged files.
pub const ABANDON_POINTS: &[&str] = &["state.abandon.before", "state.abandon.after"];

/// The fault points between the updates by which a catalog without transactions swaps two tables, in order.
pub const SWAP_POINTS: &[&str] = &["catalog.swap.begun", "catalog.swap.exchanged"];

/// All fault points.
pub fn all_points() -> impl Iterator<Item = &'static str> {
    [POINTS, TABLE_POINTS, ICEBERG_POINTS, UPLOAD_POINTS, ABANDON_POINTS, SWAP_POINTS].into_iter().flatten().copied()
}

/// Passes one of [`all_points`].
///
/// # Errors
/// The armed error; never without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_name: &'static str) -> Result<()> {
    Ok(())
}

/// Passes one of [`all_points`].
///
/// # Errors
/// The armed error; never without the feature `failpoints`.
#[cfg(feature = "failpoints")]
pub fn hit(name: &'static str) -> Result<()> {
    debug_assert!(all_points().any(|point| point == name), "unlisted fault point {name}");
    fail::fail_point!(name, |action| match action.as_deref() {
        Some("kill") => {
            let me = rustix::process::getpid();
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
            // SIGKILL cannot be caught, but it may arrive a moment later.
            loop {
                std::thread::park();
            }
        }
        _ => Err(crate::Error::unavailable("injected by a test").with("point", name)),
    });
    Ok(())
}

/// Arms the points that `FAILPOINTS` names, once in a process. The runtime calls it for each run; does nothing without the
/// feature `failpoints`.
pub fn arm_from_environment() {
    #[cfg(feature = "failpoints")]
    {
        // A scenario waits until the one before has ended, and this one ends with the process.
        static ARMED: std::sync::Once = std::sync::Once::new();
        ARMED.call_once(|| std::mem::forget(fail::FailScenario::setup()));
    }
}
