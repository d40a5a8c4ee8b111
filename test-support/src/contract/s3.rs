//! What a job promises on S3: what it promises in a folder, and that requests may fail.

use hardtack_core::fault::{POINTS, UPLOAD_POINTS};

use super::{JobContract, is_committed, names};
use crate::containers::{Bucket, Fault, Proxy, S3, s3};
use crate::job::JobBinary;

/// All requests that write.
const WRITES: &str = "^(PUT|DELETE|POST) ";

impl JobContract {
    /// From S3 to S3 a job stores what it stores from folder to folder, and leaves no upload open.
    #[track_caller]
    pub fn what_is_on_s3_is_what_is_in_a_folder(&self, service: &S3) {
        let (bucket, expected) = (service.bucket(), self.expected());
        self.deliver_to(&bucket);
        let job = self.job_on(&bucket);
        for _ in 0..2 {
            job.run().assert_code(0);
            self.assert_complete_on(&bucket, &expected, "on S3");
        }
    }

    /// The job from `in` to `out` in a bucket, where its state is, too.
    pub(super) fn job_on(&self, bucket: &Bucket) -> JobBinary<'static> {
        let job = JobBinary::new(self.binary).envs(bucket.s3().env()).arg("--state").arg(bucket.at("state"));
        job.arg("--source").arg(bucket.at("in")).arg("--target").arg(bucket.at("out"))
    }

    fn deliver_to(&self, bucket: &Bucket) {
        self.delivered.iter().for_each(|(path, content)| bucket.write(&format!("in/{path}"), content));
    }

    /// The job in a bucket, after the first delivery; the second is there.
    #[track_caller]
    fn job_after_the_earlier_on(&self, bucket: &Bucket) -> JobBinary<'static> {
        let job = self.job_on(bucket);
        self.earlier.iter().for_each(|(path, content)| bucket.write(&format!("in/{path}"), content));
        job.run().assert_code(0);
        self.earlier.iter().for_each(|(path, _)| bucket.remove(&format!("in/{path}")));
        self.deliver_to(bucket);
        job
    }

    fn seen_on(&self, bucket: &Bucket) -> String {
        self.seen(&bucket.download())
    }

    #[track_caller]
    fn assert_complete_on(&self, bucket: &Bucket, expected: &(String, usize), when: &str) {
        self.assert_complete(&bucket.download(), expected, when);
        assert_eq!(bucket.open_uploads(), [""; 0], "{when}, an upload was left open");
    }

    // --- runs --------------------------------------------------------------------------------------------------------

    /// A second delivery replaces the first, and running again changes nothing.
    #[track_caller]
    pub fn runs_follow_one_another(&self, service: &S3) {
        let bucket = service.bucket();
        let job = self.job_after_the_earlier_on(&bucket);
        let expected = self.expected();
        for _ in 0..2 {
            job.run().assert_code(0);
            self.assert_complete_on(&bucket, &expected, "S3 and the file system differ");
        }
    }

    /// Killed at any fault point, before the commit nothing has changed, and the next run ends in the right state.
    #[track_caller]
    pub fn killed_at_any_step_on_s3_the_next_run_ends_in_the_right_state(&self, service: &S3) {
        let expected = self.expected();
        for point in POINTS.iter().chain(UPLOAD_POINTS) {
            let bucket = service.bucket();
            let job = self.job_after_the_earlier_on(&bucket);
            // A run that was killed before its commit has left something to discard.
            assert_eq!(job.failing_at("run.staged", "return(kill)").run().signal(), Some(9));
            let before = self.seen_on(&bucket);
            let killed = job.failing_at(point, "return(kill)").run();
            assert_eq!(killed.signal(), Some(9), "{point} was not reached\n{killed}");
            if !is_committed(point) {
                assert_eq!(self.seen_on(&bucket), before, "killed at {point}, something was visible");
            }
            job.run().assert_code(0);
            self.assert_complete_on(&bucket, &expected, &format!("killed at {point}"));
        }
    }

    /// Of two runs at once one publishes.
    #[track_caller]
    pub fn of_two_runs_at_once_one_publishes(&self, service: &S3) {
        let (bucket, expected) = (service.bucket(), self.expected());
        let job = self.job_after_the_earlier_on(&bucket);
        let mut first = job.failing_at("run.staged", "sleep(8000)").start();
        assert!(first.wait_until(|| bucket.open_uploads().len() == self.tables.len()));
        job.run().assert_code(0);
        first.wait().assert_code(4);
        self.assert_complete_on(&bucket, &expected, "after both");
    }

    /// A bucket that does not exist is named.
    #[track_caller]
    pub fn a_bucket_that_does_not_exist_is_named(&self, service: &S3) {
        let job = JobBinary::new(self.binary).envs(service.env()).args(["--source", "s3://no-such-bucket-anywhere/in"]);
        names(job.run().assert_code(1), &["no-such-bucket-anywhere"]);
    }

    // --- failures ----------------------------------------------------------------------------------------------------

    /// A connection breaks, at any write: the run continues, or fails and the next one completes the work.
    #[track_caller]
    pub fn a_connection_breaks_at_any_write(&self, fault: &Fault) {
        let world = World::new(self);
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
                    assert_eq!(self.seen_on(&world.bucket), world.expected.0, "{when}");
                }
                world.job.run().assert_code(0);
            }
            self.assert_complete_on(&world.bucket, &world.expected, &when);
            assert_eq!(world.proxy.injected(), n + 1, "{when}");
        }
    }

    /// S3 throttles repeatedly, at the start and while files are written: the run only takes longer.
    #[track_caller]
    pub fn bursts_of_slow_down_are_sat_out(&self) {
        let world = World::new(self);
        let bursts = [("", 5), (r"^POST .*\?uploads", 4), ("partNumber=", 4), ("/commits/", 4), (r"\?delete", 4)];
        for (requests, times) in bursts {
            world.proxy.inject(Fault::slow_down(), requests, times);
        }
        world.job.run().assert_code(0);
        assert_eq!(world.proxy.injected(), 21);
        self.assert_complete_on(&world.bucket, &world.expected, "after five bursts");
    }

    /// The store goes away at a request after some `passing` ones, for longer than a run waits: the run says so.
    #[track_caller]
    pub fn the_store_goes_away(&self, (request, passing, said): (&str, usize, &str)) {
        let world = World::new(self);
        let before = self.seen_on(&world.bucket);
        world.proxy.inject_after(passing, Fault::GoAway, request, 1);
        let failed = world.job.run();
        names(failed.assert_code(1), &[said]);
        if !said.contains("but not everything") {
            assert_eq!(self.seen_on(&world.bucket), before, "something is visible\n{failed}");
        }
        world.proxy.come_back();
        world.job.run().assert_code(0);
        self.assert_complete_on(&world.bucket, &world.expected, said);
    }
}

/// A bucket behind a proxy, and the job, which has stored the first delivery there without faults.
struct World {
    bucket: Bucket,
    proxy: Proxy,
    job: JobBinary<'static>,
    /// What a reader should see after the second delivery.
    expected: (String, usize),
}

impl World {
    #[track_caller]
    fn new(contract: &JobContract) -> Self {
        let bucket = s3().bucket();
        let proxy = Proxy::to(bucket.s3().endpoint());
        let job = contract.job_after_the_earlier_on(&bucket).envs(bucket.s3().through(&proxy).env());
        Self { bucket, proxy, job, expected: contract.expected() }
    }
}

/// Tests that a job that replaces two tables, a file each, keeps its promises on S3, in LocalStack and moto; they are in
/// a module `s3_contract` and need Docker.
///
/// ```no_run
/// use hardtack_test_support::{JobContract, s3_contract};
///
/// fn contract() -> JobContract {
///     // In tests of a job: env!("CARGO_BIN_EXE_titles")
///     JobContract::new("target/debug/titles", "titles")
///         .and_table("refused")
///         .earlier("books/a.jsonl", r#"{"title": "Emma"}"#)
///         .delivered("books/a.jsonl", r#"{"title": "Dune"}"#)
/// }
///
/// s3_contract!(contract());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! s3_contract {
    ($contract:expr) => {
        $crate::s3_contract! { @tests $contract;
            runs_follow_one_another: runs_follow_one_another(&s3()),
            runs_follow_one_another_in_moto: runs_follow_one_another(&s3_of_moto()),
            killed_at_any_step: killed_at_any_step_on_s3_the_next_run_ends_in_the_right_state(&s3()),
            killed_at_any_step_in_moto:
                killed_at_any_step_on_s3_the_next_run_ends_in_the_right_state(&s3_of_moto()),
            of_two_runs_at_once_one_publishes: of_two_runs_at_once_one_publishes(&s3()),
            a_bucket_that_does_not_exist_is_named: a_bucket_that_does_not_exist_is_named(&s3()),
            a_write_is_half_sent: a_connection_breaks_at_any_write(&Fault::CutRequest),
            a_write_is_done_but_not_answered: a_connection_breaks_at_any_write(&Fault::CutAnswer),
            a_write_is_half_answered: a_connection_breaks_at_any_write(&Fault::HalfAnswer),
            bursts_of_slow_down_are_sat_out: bursts_of_slow_down_are_sat_out(),
            the_store_goes_away_when_one_upload_is_begun:
                the_store_goes_away((r"^POST .*\?uploads", 1, "reading or writing failed")),
            the_store_goes_away_when_one_upload_is_done:
                the_store_goes_away(("partNumber=", 1, "reading or writing failed")),
            the_store_goes_away_when_it_commits:
                the_store_goes_away(("^PUT .*/commits/", 0, "did not confirm whether the run has committed")),
            the_store_goes_away_when_one_file_is_published: the_store_goes_away((
                r"^POST .*\?uploadId=", 1, "the run has committed, but not everything could be published"
            )),
        }
    };
    (@tests $contract:expr; $($test:ident: $promise:ident($($argument:expr)?)),+ $(,)?) => {
        mod s3_contract {
            use super::*;
            use $crate::containers::{Fault, s3, s3_of_moto};

            $(
                #[test]
                #[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
                fn $test() {
                    $contract.$promise($($argument)?);
                }
            )+
        }
    };
}
