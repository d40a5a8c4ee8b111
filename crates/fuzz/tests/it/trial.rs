//! Runs many cases, and judges the readers' results.

use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use hardtack_core::{Error, ErrorKind, JobContext, Result, Source};
use hardtack_fuzz::meaning::{Written, row_keeps};
use hardtack_fuzz::targets::rows;
use hardtack_fuzz::value::Value;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

/// A row as a file has it.
pub type WrittenRow = Vec<(String, Written)>;
/// A row as a reader returns it.
pub type GivenRow = Vec<(String, Value)>;

/// The outcome of a case without a fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// All rows were returned.
    Read,
    /// The whole was refused.
    Refused,
}

/// Runs this many cases, scaled by `PROPTEST_CASES` / 256. At least `readable` percent of them have to be read, so that a
/// reader cannot pass by refusing everything.
pub fn try_cases<S: Strategy>(
    name: &str,
    cases: u32,
    readable: u32,
    strategy: S,
    check: impl Fn(&S::Value) -> std::result::Result<Outcome, String>,
) where
    S::Value: Debug,
{
    let usual = Config::default();
    let long = usual.cases != 256;
    let seed = match usual.rng_seed {
        RngSeed::Fixed(seed) => seed,
        // The default run must not depend on luck.
        RngSeed::Random if !long => 1,
        RngSeed::Random => RandomState::new().build_hasher().finish(),
    };
    let cases = u32::try_from(u64::from(usual.cases) * u64::from(cases) / 256).unwrap().max(1);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: 20_000,
        max_shrink_iters: 4096,
        ..usual
    };
    let (read, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    let done = TestRunner::new(config).run(&strategy, |case| {
        match check(&case) {
            Ok(Outcome::Read) => read.fetch_add(1, Ordering::Relaxed),
            Ok(Outcome::Refused) => refused.fetch_add(1, Ordering::Relaxed),
            Err(why) => return Err(TestCaseError::fail(why)),
        };
        Ok(())
    });
    if let Err(failure) = done {
        panic!("{name}, PROPTEST_RNG_SEED={seed} PROPTEST_CASES={}: {failure}", usual.cases);
    }
    let (read, refused) = (read.into_inner(), refused.into_inner());
    println!("{name}: {cases} cases, {read} read, {refused} refused");
    assert!(read * 100 >= cases * readable, "{name}: too few cases are read: {read} of {cases}");
}

/// A context with its own memory store, whose plans have one partition.
pub fn context() -> JobContext {
    JobContext::builder("fuzz").threads(1).build().unwrap()
}

/// The result, if it arrives within ten seconds.
pub fn within_time<T>(work: impl Future<Output = T>) -> std::result::Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), work).await });
    runtime.shutdown_background();
    done.map_err(|_| "it hangs".to_owned())
}

/// All rows of a source.
pub async fn read(ctx: &JobContext, source: impl Source) -> Result<Vec<RecordBatch>> {
    Ok(source.load(&ctx.loading("a")).await?.collect().await?)
}

/// Checks that a refusal names its place.
pub fn is_refusal(error: &Error) -> std::result::Result<(), String> {
    let place = error.get("file").is_some() || error.get("location").is_some() || error.message().contains("memory:/");
    match error.kind() {
        ErrorKind::Refused if place => Ok(()),
        _ => Err(format!("this is no refusal that names a file: {error:?}")),
    }
}

/// Checks that each returned row means a written one, and that each written row was returned.
pub fn same_rows(written: &[WrittenRow], batches: &[RecordBatch]) -> std::result::Result<(), String> {
    same_rows_by(written, &rows(batches), |written, given| row_keeps(written, given))
}

/// [`same_rows`], with `keeps` as the comparison.
pub fn same_rows_by<W: Debug>(
    written: &[W],
    given: &[GivenRow],
    keeps: impl Fn(&W, &GivenRow) -> bool,
) -> std::result::Result<(), String> {
    let mut rest: Vec<&W> = written.iter().collect();
    for row in given {
        match rest.iter().position(|written| keeps(written, row)) {
            Some(at) => _ = rest.remove(at),
            None => return Err(format!("nobody wrote {row:?}; written was {rest:?}")),
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(format!("{} rows are lost: {rest:?}", rest.len())) }
}
