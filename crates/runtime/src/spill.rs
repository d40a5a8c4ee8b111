//! The disk space that queries spill to. A run that fills it fails, so it is looked at before the run and during it.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hardtack_core::{Error, JobContext};
use indicatif::HumanBytes;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::args::QueryArgs;
use crate::batch::BatchJob;

/// With less free space than this, a run that spills hardly comes far.
const LEAST_FREE_BYTES: u64 = 1 << 30;

/// Nor does it with less than this part of the memory limit: the first sort that exceeds its share writes all of it.
const LEAST_PART_OF_MEMORY: u64 = 4;

/// How often the space is looked at. What is needed for a shorter time may be missed.
const INTERVAL: Duration = Duration::from_millis(100);

/// The SQLSTATE of a query for which there was too little space.
const DISK_FULL: &str = "53100";

/// The folder that the queries of a run spill to.
#[derive(Debug)]
pub(crate) struct SpillFolder(PathBuf);

impl SpillFolder {
    pub(crate) fn of(options: &QueryArgs) -> Self {
        #[expect(clippy::disallowed_methods, reason = "DataFusion spills there without `--spill-dir`")]
        Self(options.spill_dir.clone().unwrap_or_else(std::env::temp_dir))
    }

    /// Warns if there is little space.
    pub(crate) fn check(&self, memory_limit: usize) {
        if let Some(free) = free(&self.0).filter(|free| is_short(*free, memory_limit)) {
            tracing::warn!(
                folder = %self.0.display(), free = %HumanBytes(free),
                "there is little disk space to spill to; {}", way_out(in_batch())
            );
        }
    }

    /// Watches the space until the returned value is dropped.
    pub(crate) fn watch(self, ctx: &JobContext) -> SpillWatch {
        let (ctx, folder) = (ctx.clone(), self.0);
        let seen = Arc::new(Seen { ctx, folder, spilled: AtomicU64::new(0), free: AtomicU64::new(u64::MAX) });
        let looking = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                looking.look();
            }
        });
        SpillWatch { seen, task }
    }
}

/// Watches the space while a run spills.
#[derive(Debug)]
pub(crate) struct SpillWatch {
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl SpillWatch {
    /// The most bytes that were spilled at a time; none if nothing was.
    pub(crate) fn most(&self) -> Option<u64> {
        Some(self.seen.spilled.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Adds to the failure of a run, if there was too little space, how much there was and what can be done.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if !is_disk_full(&error) {
            return error;
        }
        // By now a failed query has removed its files. So the least that was seen counts.
        self.seen.look_at_disk();
        let free = Some(self.seen.free.load(Ordering::Relaxed)).filter(|bytes| *bytes < u64::MAX);
        explained(error, &self.seen.folder, self.most(), free, in_batch())
    }
}

impl Drop for SpillWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was seen so far.
#[derive(Debug)]
struct Seen {
    ctx: JobContext,
    folder: PathBuf,
    spilled: AtomicU64,
    free: AtomicU64,
}

impl Seen {
    fn look(&self) {
        // Asked for each time: `set datafusion.runtime...` replaces the manager.
        let spilled = self.ctx.session().runtime_env().disk_manager.used_disk_space();
        if spilled > 0 {
            self.spilled.fetch_max(spilled, Ordering::Relaxed);
            self.look_at_disk();
        }
    }

    fn look_at_disk(&self) {
        if let Some(free) = free(&self.folder) {
            self.free.fetch_min(free, Ordering::Relaxed);
        }
    }
}

/// What this user can still write there; unknown if the system does not say.
fn free(folder: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(folder).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

fn is_short(free: u64, memory_limit: usize) -> bool {
    free < LEAST_FREE_BYTES.max(memory_limit as u64 / LEAST_PART_OF_MEMORY)
}

/// Whether this error, or one that caused it, says that there was too little space.
fn is_disk_full(error: &Error) -> bool {
    let causes = std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| (*error).source());
    causes.filter_map(|cause| cause.downcast_ref::<Error>()).any(|error| error.get_sqlstate() == Some(DISK_FULL))
}

fn explained(error: Error, folder: &Path, spilled: Option<u64>, free: Option<u64>, in_batch: bool) -> Error {
    let error = match error.get("folder") {
        Some(_) => error,
        None => error.with("folder", folder.display()),
    };
    let pairs = [("spilled", spilled), ("free", free)];
    let told = pairs.into_iter().filter_map(|(name, bytes)| Some((name, bytes?)));
    let error = told.fold(error, |error, (name, bytes)| error.with(name, HumanBytes(bytes)));
    // DataFusion has a limit of its own, and then another folder is of no use.
    if error.get("limit").is_some() { error } else { error.hint(way_out(in_batch)) }
}

fn in_batch() -> bool {
    BatchJob::from_env().is_some()
}

fn way_out(in_batch: bool) -> &'static str {
    match in_batch {
        true => {
            "`--spill-dir` sets a folder with more space; on Fargate, `disk-gib` of the job in hardtack.toml gives it up to \
             200 GiB"
        }
        false => "`--spill-dir` sets a folder with more space",
    }
}

#[cfg(test)]
mod tests {
    use datafusion::error::DataFusionError;
    use insta::assert_snapshot;
    use rstest::rstest;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[rstest]
    #[case::room(20 * GIB, 4, false)]
    #[case::less_than_a_gibibyte(GIB - 1, 1, true)]
    #[case::just_enough(GIB, 4, false)]
    #[case::much_memory(20 * GIB, 100, true)]
    #[case::much_of_both(25 * GIB, 100, false)]
    fn space_is_short_for_a_memory_limit(#[case] free: u64, #[case] memory_gib: usize, #[case] short: bool) {
        assert_eq!(is_short(free, memory_gib << 30), short);
    }

    fn full() -> Error {
        DataFusionError::IoError(std::io::ErrorKind::StorageFull.into()).into()
    }

    #[test]
    fn a_full_disk_is_told_with_the_way_out() {
        let told = |error: Error, in_batch| {
            explained(error, Path::new("/scratch"), Some(3 * GIB / 2), Some(4096), in_batch).to_string()
        };
        assert_snapshot!(told(full(), false), @"the spill disk is full (folder: /scratch, spilled: 1.50 GiB, free: 4.00 KiB, hint: `--spill-dir` sets a folder with more space)");
        assert_snapshot!(told(full().with("folder", "/tmp/.tmpX"), true), @"the spill disk is full (folder: /tmp/.tmpX, spilled: 1.50 GiB, free: 4.00 KiB, hint: `--spill-dir` sets a folder with more space; on Fargate, `disk-gib` of the job in hardtack.toml gives it up to 200 GiB)");
        let unknown = explained(full(), Path::new("/scratch"), None, None, false).to_string();
        assert_snapshot!(unknown, @"the spill disk is full (folder: /scratch, hint: `--spill-dir` sets a folder with more space)");
    }

    #[rstest]
    #[case::it(full(), true)]
    #[case::its_effect(Error::unexpected("the sums could not be made").because(full()), true)]
    #[case::memory(DataFusionError::ResourcesExhausted("memory".to_owned()).into(), false)]
    #[case::another(Error::unavailable("the disk is full"), false)]
    fn a_full_spill_disk_is_told_from_other_failures(#[case] error: Error, #[case] is_full: bool) {
        assert_eq!(is_disk_full(&error), is_full);
    }

    #[test]
    fn a_folder_has_free_space() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(folder.path()).is_some());
        assert_eq!(free(&folder.path().join("missing")), None);
    }
}
