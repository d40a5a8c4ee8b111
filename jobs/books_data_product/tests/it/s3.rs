//! From S3 to S3.

use hardtack_test_support::containers::{S3, s3, s3_of_moto};
use hardtack_test_support::{JobBinary, table};
use rstest::rstest;

use crate::FIXTURES;

#[rstest]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn what_is_on_s3_is_what_is_in_a_folder(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_books_data_product"));
    job.dir().copy("fixtures/lake", FIXTURES);
    job.run().assert_code(0);
    let wanted = table(job.dir().read_parquet("target/lake/books"));

    let bucket = service().bucket();
    bucket.copy("in", FIXTURES);
    let lake = [bucket.at("in"), bucket.at("out")].map(|location| location.to_string());
    let job = job.again().args(["--source", &lake[0], "--target", &lake[1]]).envs(bucket.s3().env());
    for _ in 0..2 {
        job.run().assert_code(0);
        assert_eq!(table(bucket.download().read_parquet("out/books")), wanted);
        assert_eq!(bucket.files("out").iter().filter(|file| file.ends_with(".parquet")).count(), 1);
        assert_eq!(bucket.open_uploads(), [""; 0]);
    }
}
