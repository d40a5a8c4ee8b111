//! The same on S3: a bucket per test, in whatever answers at `HARDTACK_TEST_S3_ENDPOINT` (moto, LocalStack, MinIO).
//!
//! Without it these tests are left out and say so; `.ci/run` starts moto.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use hardtack_test_support::{JobBinary, TempLake};

use crate::runs::reference;
use crate::{EVENING, MORNING};

/// A bucket of its own, reached without a client library: what is checked is not checked through our own code.
struct Bucket {
    host: String,
    name: String,
}

impl Bucket {
    fn new() -> Option<Self> {
        let Ok(endpoint) = std::env::var("HARDTACK_TEST_S3_ENDPOINT") else {
            println!("left out: set HARDTACK_TEST_S3_ENDPOINT=http://127.0.0.1:PORT to run this test against S3");
            return None;
        };
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let host = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let name = format!("hardtack-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let bucket = Self { host, name };
        assert_eq!(bucket.request("PUT", "", b"").0, 200);
        Some(bucket)
    }

    fn request(&self, method: &str, key: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let (host, name, length) = (&self.host, &self.name, body.len());
        write!(
            stream,
            "{method} /{name}/{key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer.split_off(end))
    }

    fn put(&self, key: &str, text: &str) {
        assert_eq!(self.request("PUT", key, text.as_bytes()).0, 200);
    }

    fn tags(&self, query: &str, tag: &str) -> Vec<String> {
        let (status, body) = self.request("GET", query, b"");
        assert_eq!(status, 200);
        let text = String::from_utf8(body).unwrap();
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        text.split(&open).skip(1).map(|part| part.split(&close).next().unwrap().to_owned()).collect()
    }

    /// The keys of all objects below a prefix.
    fn keys(&self, prefix: &str) -> Vec<String> {
        self.tags(&format!("?list-type=2&prefix={prefix}"), "Key")
    }

    /// Multipart uploads that have been begun and neither completed nor aborted.
    fn open_uploads(&self) -> usize {
        self.tags("?uploads", "UploadId").len()
    }

    /// Both tables as a reader sees them.
    fn state(&self) -> String {
        let lake = TempLake::new();
        for key in self.keys("out/") {
            lake.write(&key, self.request("GET", &key, b"").1);
        }
        crate::state(&lake)
    }

    fn job(&self) -> JobBinary<'static> {
        self.job_reading(&format!("s3://{}/in", self.name))
    }

    fn job_reading(&self, source: &str) -> JobBinary<'static> {
        let at = |path: &str| format!("s3://{}/{path}", self.name);
        JobBinary::new(env!("CARGO_BIN_EXE_customer_events"))
            .args(["--source", source, "--target", &at("out"), "--state", &at("state")])
            .args(["--keep-deletes-days", "36500", "--log-format", "pretty"])
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.host))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
    }

    fn after_the_morning(&self) -> JobBinary<'static> {
        let job = self.job();
        self.put("in/customer_events/morning.jsonl", MORNING);
        job.run().assert_code(0);
        self.put("in/customer_events/evening.jsonl", EVENING);
        job
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for key in self.keys("") {
            self.request("DELETE", &key, b"");
        }
        self.request("DELETE", "", b"");
    }
}

#[test]
fn runs_follow_one_another() {
    let Some(bucket) = Bucket::new() else { return };
    let job = bucket.after_the_morning();
    job.run().assert_code(0);
    let wanted = crate::state(reference().dir());
    assert_eq!(bucket.state(), wanted, "S3 and the file system differ");
    job.run().assert_code(0);
    assert_eq!(bucket.state(), wanted);
    assert_eq!((bucket.keys("out/").len(), bucket.open_uploads()), (2, 0));
}

#[test]
fn killed_at_any_step_the_next_run_ends_in_the_right_state() {
    let Some(bucket) = Bucket::new() else { return };
    drop(bucket);
    let wanted = crate::state(reference().dir());
    for point in hardtack::runtime::FAULT_POINTS {
        let Some(bucket) = Bucket::new() else { return };
        let job = bucket.after_the_morning();
        assert_eq!(job.failing_at("run.staged", "return(kill)").run().signal(), Some(9));
        let before = bucket.state();
        let killed = job.failing_at(point, "return(kill)").run();
        assert_eq!(killed.signal(), Some(9), "{point} was not reached\n{killed}");
        if !crate::crashes::committed(point) {
            assert_eq!(bucket.state(), before, "killed at {point}, something was visible");
        }
        job.run().assert_code(0);
        assert_eq!(bucket.state(), wanted, "killed at {point}, the next run did not end in the right state");
        assert_eq!(bucket.keys("out/").len(), 2, "killed at {point}");
        assert_eq!(bucket.open_uploads(), 0, "killed at {point}, an upload was left open");
    }
}

#[test]
fn of_two_runs_at_once_one_publishes() {
    let Some(bucket) = Bucket::new() else { return };
    let job = bucket.after_the_morning();
    let mut first = job.failing_at("run.staged", "sleep(8000)").start();
    assert!(first.wait_until(|| bucket.open_uploads() == 2));
    job.run().assert_code(0);
    let published = bucket.state();
    first.wait().assert_code(4);
    assert_eq!((bucket.state(), bucket.open_uploads()), (published, 0));
}

#[test]
fn a_store_that_does_not_answer_is_named() {
    let Some(bucket) = Bucket::new() else { return };
    let failed = bucket.job_reading("s3://no-such-bucket-anywhere/in").run();
    assert_eq!(failed.code(), Some(1), "{failed}");
    assert!(failed.stderr.contains("no-such-bucket-anywhere"), "{failed}");
}
