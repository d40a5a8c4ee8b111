//! The same on S3.

use hardtack::runtime::{FAULT_POINTS, UPLOAD_FAULT_POINTS};
use hardtack_test_support::JobBinary;
use hardtack_test_support::containers::{Bucket, S3, s3, s3_of_moto};
use rstest::rstest;

use crate::runs::reference;
use crate::{EVENING, MORNING, job_between};

/// Both tables as a reader sees them.
pub(crate) fn state(bucket: &Bucket) -> String {
    crate::state(&bucket.download())
}

fn job_reading(bucket: &Bucket, source: &str) -> JobBinary<'static> {
    let job = job_between(source, bucket.at("out").as_str()).envs(bucket.s3().env());
    job.arg("--state").arg(bucket.at("state"))
}

/// The job in a bucket, which has processed the morning's events; the evening's are ready to be read.
pub(crate) fn after_the_morning(bucket: &Bucket) -> JobBinary<'static> {
    let job = job_reading(bucket, &bucket.at("in").to_string());
    bucket.write("in/customer_events/morning.jsonl", MORNING);
    job.run().assert_code(0);
    bucket.write("in/customer_events/evening.jsonl", EVENING);
    job
}

#[rstest]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn runs_follow_one_another(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    let bucket = service().bucket();
    let job = after_the_morning(&bucket);
    let wanted = crate::state(reference().dir());
    for _ in 0..2 {
        job.run().assert_code(0);
        assert_eq!(state(&bucket), wanted, "S3 and the file system differ");
    }
    assert_eq!((bucket.files("out").len(), bucket.open_uploads()), (2, vec![]));
}

#[rstest]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn killed_at_any_step_the_next_run_ends_in_the_right_state(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    let wanted = crate::state(reference().dir());
    for point in FAULT_POINTS.iter().chain(UPLOAD_FAULT_POINTS) {
        let bucket = service().bucket();
        let job = after_the_morning(&bucket);
        // A run that was killed before its commit has left something to discard.
        assert_eq!(job.failing_at("run.staged", "return(kill)").run().signal(), Some(9));
        let before = state(&bucket);
        let killed = job.failing_at(point, "return(kill)").run();
        assert_eq!(killed.signal(), Some(9), "{point} was not reached\n{killed}");
        if !crate::crashes::committed(point) {
            assert_eq!(state(&bucket), before, "killed at {point}, something was visible");
        }
        job.run().assert_code(0);
        assert_eq!(state(&bucket), wanted, "killed at {point}, the next run did not end in the right state");
        assert_eq!(bucket.files("out").len(), 2, "killed at {point}");
        assert_eq!(bucket.open_uploads(), [""; 0], "killed at {point}, an upload was left open");
    }
}

#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn of_two_runs_at_once_one_publishes() {
    let bucket = s3().bucket();
    let job = after_the_morning(&bucket);
    let mut first = job.failing_at("run.staged", "sleep(8000)").start();
    assert!(first.wait_until(|| bucket.open_uploads().len() == 2));
    job.run().assert_code(0);
    let published = state(&bucket);
    first.wait().assert_code(4);
    assert_eq!((state(&bucket), bucket.open_uploads()), (published, vec![]));
}

#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn a_bucket_that_does_not_exist_is_named() {
    let bucket = s3().bucket();
    let failed = job_reading(&bucket, "s3://no-such-bucket-anywhere/in").run();
    failed.assert_code(1);
    assert!(failed.stderr.contains("no-such-bucket-anywhere"), "{failed}");
}
