//! Failures of S3: refused requests, connections broken at any step of a run, an unreachable store.

use hardtack_test_support::JobBinary;
use hardtack_test_support::containers::{Bucket, Fault, Proxy, s3};
use rstest::rstest;

use crate::runs::reference;
use crate::s3::{after_the_morning, state};

/// A bucket behind a proxy, and the job, which has processed the morning's events there without faults.
struct World {
    bucket: Bucket,
    proxy: Proxy,
    job: JobBinary<'static>,
    /// The state that a reader should see after the evening's events.
    wanted: String,
}

impl World {
    fn new() -> Self {
        let bucket = s3().bucket();
        let proxy = Proxy::to(bucket.s3().endpoint());
        let job = after_the_morning(&bucket).envs(bucket.s3().through(&proxy).env());
        Self { bucket, proxy, job, wanted: crate::state(reference().dir()) }
    }

    #[track_caller]
    fn check(&self, when: &str) {
        assert_eq!(state(&self.bucket), self.wanted, "{when}");
        assert_eq!(self.bucket.files("out").len(), 2, "{when}, not one file per table");
        assert_eq!(self.bucket.open_uploads(), [""; 0], "{when}, an upload was left open");
    }
}

/// All requests that write.
const WRITES: &str = "^(PUT|DELETE|POST) ";

/// Whichever request it is, the run continues, or fails and the next one completes the work.
#[rstest]
#[case::half_sent(Fault::CutRequest)]
#[case::done_but_not_answered(Fault::CutAnswer)]
#[case::half_answered(Fault::HalfAnswer)]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn a_connection_breaks_at_any_write(#[case] fault: Fault) {
    let world = World::new();
    world.job.run().assert_code(0);
    let writes = world.proxy.requests(WRITES).len();
    assert!(writes > 10, "{writes}");
    for n in 0..writes {
        world.proxy.inject_after(n, fault.clone(), WRITES, 1);
        let run = world.job.run();
        let when = format!("{fault:?} at write {n}\n{run}");
        if run.code() != Some(0) {
            run.assert_code(1);
            if !run.stderr.contains("the run has committed") {
                assert_eq!(state(&world.bucket), world.wanted, "{when}");
            }
            world.job.run().assert_code(0);
        }
        world.check(&when);
        assert_eq!(world.proxy.injected(), n + 1, "{when}");
    }
}

/// S3 throttles repeatedly, at the start and while files are written: the run only takes longer.
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn bursts_of_slow_down_are_sat_out() {
    let world = World::new();
    for (requests, times) in
        [("", 5), (r"^POST .*\?uploads", 4), ("partNumber=", 4), ("/commits/", 4), (r"\?delete", 4)]
    {
        world.proxy.inject(Fault::slow_down(), requests, times);
    }
    world.job.run().assert_code(0);
    assert_eq!(world.proxy.injected(), 21);
    world.check("after five bursts");
}

/// For longer than a run waits.
#[rstest]
#[case::one_upload_is_begun(r"^POST .*\?uploads", 1, "the object store denied access")]
#[case::one_upload_is_done("partNumber=", 1, "the object store denied access")]
#[case::it_commits("^PUT .*/commits/", 0, "did not confirm whether the run has committed")]
#[case::one_file_is_published(
    r"^POST .*\?uploadId=",
    1,
    "the run has committed, but not everything could be published"
)]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn the_store_goes_away_when(#[case] request: &str, #[case] passing: usize, #[case] said: &str) {
    let world = World::new();
    let before = state(&world.bucket);
    world.proxy.inject_after(passing, Fault::GoAway, request, 1);
    let failed = world.job.run();
    failed.assert_code(1);
    assert!(failed.stderr.contains(said), "{failed}");
    if !said.contains("but not everything") {
        assert_eq!(state(&world.bucket), before, "something is visible\n{failed}");
    }
    world.proxy.come_back();
    world.job.run().assert_code(0);
    world.check(said);
}
