//! Creates contexts and state from options.

use std::sync::Arc;

use hardtack_catalog::CatalogHandle;
use hardtack_core::{ErrorKind, JobContext, Location, Result, Stores};
use hardtack_state::{ObjectState, StateStore};

use crate::args::{QueryArgs, RuntimeArgs};

/// Opens a context with the limits and stores of the options. Runs derive theirs from it.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) if the spill directory cannot be used, or the environment names an endpoint with a password.
pub fn open_context(job: &str, options: &RuntimeArgs) -> Result<JobContext> {
    #[cfg(feature = "mimalloc")]
    crate::allocator::keep_freed_memory();
    let threads = options.query.threads.unwrap_or_else(cores);
    let mut builder = JobContext::builder(job)
        .scope(&options.scope)
        .window(options.window.window()?)
        .memory_limit(memory_limit(&options.query))
        .threads(threads)
        .fsync(options.fsync)
        .extension(Arc::new(CatalogHandle::chosen(options.records.catalog.clone(), options.records.state.clone())));
    if let Some(folder) = &options.query.spill_dir {
        builder = builder.spill_dir(folder.clone());
    }
    #[cfg(feature = "aws")]
    {
        builder = builder.store_factory("s3", Arc::new(crate::s3::S3Stores::from_env()?));
    }
    let ctx = builder.build().map_err(|e| match &options.query.spill_dir {
        Some(_) if e.kind() == ErrorKind::Usage => e.with("argument", "--spill-dir"),
        _ => e,
    })?;
    register(&ctx);
    Ok(ctx)
}

/// Registers the executors of the publish actions of this framework's own sinks.
pub(crate) fn register(ctx: &JobContext) {
    hardtack_sinks::register(ctx.publishers());
    hardtack_tables::register(ctx);
}

/// Opens the state at a location.
///
/// # Errors
/// Those of [`Stores::open`].
pub fn open_state(stores: &Stores, location: &Location) -> Result<Arc<dyn StateStore>> {
    Ok(Arc::new(ObjectState::open(stores, location)?))
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The memory that queries may hold, in bytes.
pub(crate) fn memory_limit(options: &QueryArgs) -> usize {
    options.memory_limit.unwrap_or_else(default_memory)
}

/// The default memory limit of queries, in bytes.
fn default_memory() -> usize {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    share_of(system.total_memory(), system.cgroup_limits().map(|c| c.total_memory))
}

/// 70 % of the memory that this process may use: of the cgroup's limit in a container, of the machine's memory
/// otherwise. The rest is for memory that no query accounts for. A limit of zero means no limit.
fn share_of(total: u64, cgroup: Option<u64>) -> usize {
    let limit = cgroup.filter(|bytes| *bytes > 0).map_or(total, |limit| limit.min(total));
    usize::try_from(limit / 10 * 7).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::share_of;

    #[rstest]
    #[case::machine(1000, None, 700)]
    #[case::container(1000, Some(100), 70)]
    #[case::container_without_a_limit(1000, Some(u64::MAX), 700)]
    #[case::limit_that_is_none(1000, Some(0), 700)]
    #[case::does_not_overflow(u64::MAX, None, usize::MAX / 10 * 7)]
    fn queries_get_a_share_of_what_there_is(#[case] total: u64, #[case] cgroup: Option<u64>, #[case] expected: usize) {
        assert_eq!(share_of(total, cgroup), expected);
    }
}
