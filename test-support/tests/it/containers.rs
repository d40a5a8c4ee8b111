//! Container test support: buckets, databases, and that nothing is left of them.

use std::env::current_exe;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::panic::catch_unwind;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hardtack_core::{JobContext, Location};
use hardtack_test_support::containers::{Bucket, S3, glue, s3, s3_of_moto};
use hardtack_test_support::{TempLake, assert_frame, json, rows};
use rstest::rstest;

use crate::panic_of;

/// Uses the client of jobs.
async fn exists(s3: S3, object: &Location) -> Result<bool, String> {
    let ctx = JobContext::builder("job").store_factory("s3", std::sync::Arc::new(s3)).build().unwrap();
    ctx.stores().exists(object).await.map_err(|e| format!("{e:?}"))
}

/// Sends a request without any client library.
fn request(endpoint: &str, line: &str, headers: &str, body: &str) -> String {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head =
        format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}");
    write!(stream, "{head}\r\n{body}").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn upload_left_open(bucket: &Bucket) {
    let answer = request(bucket.s3().endpoint(), &format!("POST /{}/a%20%26/b?uploads", bucket.name()), "", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[rstest]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
#[tokio::test]
async fn a_bucket_is_a_lake_and_goes_with_its_value(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    let bucket = service().bucket();
    let local = TempLake::new();
    local.write_parquet("t/c=a%20b/1.parquet", rows! { n; 1 });
    bucket.copy("out", local.path());
    bucket.write("out/ü &+%20.json", "{}");
    assert_eq!(bucket.files(""), ["out/t/c=a%20b/1.parquet", "out/ü &+%20.json"]);
    assert_eq!(bucket.files("out/t"), ["out/t/c=a%20b/1.parquet"]);
    assert_eq!(bucket.read("out/ü &+%20.json"), b"{}");
    assert_frame(bucket.download().read_parquet("out/t"), rows! { n, c; 1, "a b" });
    bucket.remove("out/ü &+%20.json");

    assert_eq!(bucket.open_uploads(), [""; 0]);
    upload_left_open(&bucket);
    assert_eq!(bucket.open_uploads(), ["a &/b"]);

    let object = bucket.at("out/t/c=a%20b/1.parquet");
    assert_eq!(exists(service(), &object).await, Ok(true));
    assert!(panic_of(|| drop(bucket.read("none"))).starts_with("none cannot be read: "));
    drop(bucket);
    assert_eq!(exists(service(), &object).await, Ok(false));
    let listed = panic_of(|| drop(service().bucket().files("../x")));
    assert!(listed.contains("is not a key"), "{listed}");
}

#[rstest]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn a_test_that_panics_leaves_nothing(#[values(s3, s3_of_moto)] service: fn() -> S3) {
    let mut name = String::new();
    let text = panic_of(|| {
        let bucket = service().bucket();
        bucket.write("a", "");
        upload_left_open(&bucket);
        name = bucket.name().to_owned();
        panic!("the test fails");
    });
    assert_eq!(text, "the test fails");
    let answer = request(service().endpoint(), &format!("GET /{name}"), "", "");
    assert!(answer.contains("NoSuchBucket"), "{answer}");
}

#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn a_database_goes_with_its_value() {
    let database = glue().database();
    let table = json!({ "DatabaseName": database.name(), "TableInput": { "Name": "books" } });
    database.call("CreateTable", &table);
    let tables = |name: &str| database.call("GetTables", &json!({ "DatabaseName": name }))["TableList"].clone();
    assert_eq!(tables(database.name())[0]["Name"], "books");

    let other = glue().database();
    let name = other.name().to_owned();
    other.call("CreateTable", &json!({ "DatabaseName": name, "TableInput": { "Name": "books" } }));
    assert!(catch_unwind(move || panic!("with {}", other.name())).is_err());
    let gone = panic_of(|| drop(tables(&name)));
    assert!(gone.contains("EntityNotFoundException"), "{gone}");
}

#[rstest]
#[case("kms", "application/x-amz-json-1.1", "TrentService.ListKeys", "{}")]
#[case("ssm", "application/x-amz-json-1.1", "AmazonSSM.DescribeParameters", "{}")]
#[case("secretsmanager", "application/x-amz-json-1.1", "secretsmanager.ListSecrets", "{}")]
#[case("sqs", "application/x-amz-json-1.0", "AmazonSQS.ListQueues", "{}")]
#[case("sts", "application/x-www-form-urlencoded", "", "Action=GetCallerIdentity&Version=2011-06-15")]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn the_neighbours_of_s3_answer(
    #[case] service: &str,
    #[case] format: &str,
    #[case] operation: &str,
    #[case] body: &str,
) {
    let scope = format!("Credential=test/20261121/us-east-1/{service}/aws4_request");
    let signed = format!("Authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0");
    let headers = format!("{signed}\r\nContent-Type: {format}\r\nX-Amz-Target: {operation}\r\n");
    let answer = request(s3().endpoint(), "POST /", &headers, body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Run several times concurrently by the test below: a test of a test run.
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn asks_for_moto() {
    println!("moto is at {}", glue().endpoint());
}

/// A program called `cargo...` that runs three tests concurrently and then waits; and the endpoints of moto that they
/// found.
fn test_run() -> (Child, Vec<String>) {
    let folder = TempLake::new();
    let cargo = folder.path().join("cargo-of-a-test");
    symlink("/bin/sh", &cargo).unwrap();
    let script =
        "for i in 1 2 3; do \"$0\" --exact containers::asks_for_moto --ignored --nocapture & done; wait; read x";
    let mut run = Command::new(cargo);
    run.args(["-c", script, current_exe().unwrap().to_str().unwrap()]).env_remove("HARDTACK_TEST_GLUE_ENDPOINT");
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(run.stdout.take().unwrap());
    let lines = stdout.by_ref().lines().map(Result::unwrap);
    let found = lines.filter_map(|line| Some(line.split_once("moto is at http://")?.1.to_owned())).take(3).collect();
    run.stdout = Some(stdout.into_inner());
    (run, found)
}

/// Needs Docker even if the environment names a running Glue, because it tests containers.
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn processes_share_a_container_which_goes_when_their_run_is_killed() {
    let (mut run, found) = test_run();
    let (mut other_run, other_found) = test_run();
    assert_eq!((found.len(), other_found.len()), (3, 3));
    assert!(found.iter().all(|address| *address == found[0]), "{found:?}");
    assert!(!other_found.contains(&found[0]), "two runs share a container");
    assert!(TcpStream::connect(&found[0]).is_ok());

    let noted = std::env::temp_dir().join(format!("hardtack-test-run-{}", run.id()));
    assert!(noted.exists());
    run.kill().unwrap();
    run.wait().unwrap();
    let killed = Instant::now();
    while noted.exists() {
        assert!(killed.elapsed() < Duration::from_secs(20), "the reaper does not come");
        sleep(Duration::from_millis(100));
    }
    assert!(TcpStream::connect(&found[0]).is_err(), "the container is still there");
    assert!(TcpStream::connect(&other_found[0]).is_ok(), "the container of another run went, too");
    other_run.kill().unwrap();
    other_run.wait().unwrap();
}
