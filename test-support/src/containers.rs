//! Real services for tests: S3 and related services in LocalStack, the Glue Data Catalog in moto, each in a container.
//!
//! A test gets a [`bucket`](S3::bucket) or a [`database`](Glue::database) of its own, which is removed when the test
//! ends, even if it panics:
//!
//! ```no_run
//! use hardtack_test_support::{JobBinary, containers};
//!
//! #[test]
//! #[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
//! fn books_go_from_s3_to_s3() {
//!     let bucket = containers::s3().bucket();
//!     bucket.write("in/books.jsonl", r#"{"title": "Dune"}"#);
//!     // In a test: JobBinary::new(env!("CARGO_BIN_EXE_raw_books"))
//!     let job = JobBinary::new("target/debug/raw_books").envs(bucket.s3().env());
//!     job.arg("--source").arg(bucket.at("in")).arg("--target").arg(bucket.at("out")).run().assert_code(0);
//!     assert_eq!(bucket.download().read_parquet("out").num_rows(), 1);
//!     assert_eq!(bucket.open_uploads(), [""; 0]);
//! }
//! ```
//!
//! **Such tests are `#[ignore]`d**, so that the default test run needs no Docker, and reports how many it skipped, and
//! why. `cargo test --workspace --tests -- --ignored` runs them; they fail if there is neither Docker nor an endpoint.
//!
//! **One container of each service serves a whole test run**, that is, all processes that one `cargo` starts. The first
//! test that needs a service starts it on a free port of the loopback interface; the others find it. A small process
//! waits until that `cargo` has ended, in whatever way, and removes the containers. See `containers/shared.rs`.
//!
//! **Services that are already running** are used instead of containers if the environment names them:
//!
//! | variable | what answers there |
//! | --- | --- |
//! | `HARDTACK_TEST_S3_ENDPOINT` | S3, for example `http://127.0.0.1:9000` |
//! | `HARDTACK_TEST_GLUE_ENDPOINT` | Glue, as moto speaks it |
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION` | how to sign there (by default `test`, `test`, `us-east-1`) |
//!
//! There, the leftovers of an interrupted test stay; their names begin with `hardtack-test-`.

mod bucket;
mod database;
mod proxy;
mod service;
mod shared;

use std::sync::{Arc, LazyLock};

use hardtack_core::staging::MultipartStaging;
use hardtack_core::store::StoreFactory;
use hardtack_core::{Result, Store};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use url::Url;

pub use bucket::Bucket;
pub use database::Database;
pub use proxy::{Fault, Proxy, Recorded};
use service::Service;
use shared::Image;

const LOCALSTACK: Image = Image {
    name: "localstack/localstack",
    tag: "4.14.0",
    port: 4566,
    ready: "Ready.",
    env: &[
        ("SERVICES", "s3,kms,sts,ssm,secretsmanager,sqs"),
        // Keeps the public image from accessing the internet.
        ("DISABLE_EVENTS", "1"),
        ("SKIP_SSL_CERT_DOWNLOAD", "1"),
    ],
};

const MOTO: Image = Image { name: "motoserver/moto", tag: "5.2.5", port: 5000, ready: "Running on", env: &[] };

/// S3 and the other services of LocalStack: KMS, STS, SSM, Secrets Manager, SQS.
///
/// # Panics
/// If there is neither `HARDTACK_TEST_S3_ENDPOINT` nor Docker.
pub fn s3() -> S3 {
    static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::get("HARDTACK_TEST_S3_ENDPOINT", &LOCALSTACK));
    S3(SERVICE.clone())
}

/// S3 as moto implements it. It differs from LocalStack where AWS is undocumented or has changed: completing an upload
/// twice succeeds, and checksums are not verified.
///
/// # Panics
/// If there is neither `HARDTACK_TEST_S3_ENDPOINT` nor Docker.
pub fn s3_of_moto() -> S3 {
    static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::get("HARDTACK_TEST_S3_ENDPOINT", &MOTO));
    S3(SERVICE.clone())
}

/// The Glue Data Catalog, as moto implements it.
///
/// # Panics
/// If there is neither `HARDTACK_TEST_GLUE_ENDPOINT` nor Docker.
pub fn glue() -> Glue {
    static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::get("HARDTACK_TEST_GLUE_ENDPOINT", &MOTO));
    Glue(SERVICE.clone())
}

/// An S3-compatible service. As a [`StoreFactory`] it gives a context of this process access to it:
/// `JobContext::builder("job").store_factory("s3", Arc::new(containers::s3()))`.
#[derive(Debug, Clone)]
pub struct S3(Service);

impl S3 {
    /// Its endpoint, for example `http://127.0.0.1:32768`.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// The environment variables with which a job accesses it instead of AWS: endpoint, keys, region.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        self.0.env("AWS_ENDPOINT_URL")
    }

    /// Creates a bucket, which is removed when the value is dropped.
    #[track_caller]
    pub fn bucket(&self) -> Bucket {
        Bucket::new(self.clone())
    }

    /// The same service, accessed through a proxy.
    #[must_use]
    pub fn through(&self, proxy: &Proxy) -> Self {
        Self(Service { endpoint: proxy.endpoint(), ..self.0.clone() })
    }

    fn store(&self, bucket: &str) -> object_store::Result<AmazonS3> {
        AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_endpoint(&self.0.endpoint)
            .with_allow_http(true)
            .with_region(&self.0.region)
            .with_access_key_id(&self.0.credential.key_id)
            .with_secret_access_key(&self.0.credential.secret_key)
            .build()
    }
}

impl StoreFactory for S3 {
    fn open(&self, url: &Url) -> Result<Store> {
        let s3 = Arc::new(self.store(url.host_str().unwrap_or_default())?);
        let staging = MultipartStaging::new(url.clone(), s3.clone(), s3.clone());
        Ok(Store { url: url.clone(), objects: s3, staging: Arc::new(staging) })
    }
}

/// A service with the API of the Glue Data Catalog.
#[derive(Debug, Clone)]
pub struct Glue(Service);

impl Glue {
    /// Its endpoint, for example `http://127.0.0.1:32769`.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// The environment variables with which a job accesses it: endpoint, keys, region. Can be combined with those of an
    /// [`S3`].
    pub fn env(&self) -> Vec<(&'static str, String)> {
        self.0.env("AWS_ENDPOINT_URL_GLUE")
    }

    /// The region that requests are signed for.
    pub fn region(&self) -> &str {
        &self.0.region
    }

    /// The id and the secret of the key that requests are signed with.
    pub fn keys(&self) -> (&str, &str) {
        (&self.0.credential.key_id, &self.0.credential.secret_key)
    }

    /// Creates a database, which is removed with all its tables when the value is dropped.
    #[track_caller]
    pub fn database(&self) -> Database {
        Database::new(self.clone())
    }

    /// The same service, accessed through a proxy.
    #[must_use]
    pub fn through(&self, proxy: &Proxy) -> Self {
        Self(Service { endpoint: proxy.endpoint(), ..self.0.clone() })
    }
}
