//! The endpoint of a service, and plain signed HTTP requests to it.

use std::env;
use std::panic::resume_unwind;
use std::sync::{Arc, LazyLock};
use std::thread::{self, panicking};

use futures::TryStreamExt;
use object_store::HeaderValue;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::shared::{self, Image};

/// The runtime of this module: a test may or may not have one of its own, and clients must outlive it.
pub(super) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be started")
});

/// Runs a future from a synchronous or asynchronous test, or from a destructor.
pub(super) fn wait<T: Send>(work: impl Future<Output = T> + Send) -> T {
    thread::scope(|scope| scope.spawn(|| RUNTIME.block_on(work)).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// A name that no other test uses.
pub(super) fn unique_name(separator: char) -> String {
    format!("hardtack{separator}test{separator}{}", Uuid::new_v4().simple())
}

#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) endpoint: String,
    pub(super) region: String,
    pub(super) credential: Arc<AwsCredential>,
}

impl Service {
    /// The service at the endpoint in the environment, or else in a container.
    pub(super) fn get(variable: &str, image: &Image) -> Self {
        let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = given(variable);
        // Keys of a real account must not reach a container.
        let setting = |name: &str, default: &str| match &endpoint {
            Some(_) => given(name).unwrap_or_else(|| default.to_owned()),
            None => default.to_owned(),
        };
        let credential = AwsCredential {
            key_id: setting("AWS_ACCESS_KEY_ID", "test"),
            secret_key: setting("AWS_SECRET_ACCESS_KEY", "test"),
            token: None,
        };
        let region = setting("AWS_REGION", "us-east-1");
        let endpoint = endpoint.unwrap_or_else(|| {
            shared::endpoint(image).unwrap_or_else(|e| {
                panic!(
                    "{image} cannot be started: {e}. Is Docker running? `.ci/docker` installs and starts it on \
                        Debian; with {variable}=http://HOST:PORT this test needs none"
                )
            })
        });
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), region, credential: Arc::new(credential) }
    }

    pub(super) fn env(&self, endpoint: &'static str) -> Vec<(&'static str, String)> {
        vec![
            (endpoint, self.endpoint.clone()),
            ("AWS_REGION", self.region.clone()),
            ("AWS_ACCESS_KEY_ID", self.credential.key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.credential.secret_key.clone()),
        ]
    }

    /// Sends a signed request and returns the body of the response.
    pub(super) fn request(&self, request: Request<'_>) -> Result<String, String> {
        static CLIENT: LazyLock<HttpClient> = LazyLock::new(|| {
            let options = ClientOptions::new().with_allow_http(true);
            ReqwestConnector::default().connect(&options).expect("an HTTP client can be made")
        });
        let Request { service, method, target, headers, body } = request;
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = format!("{}{target}", self.endpoint).parse().map_err(|e| format!("{e}"))?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
        }
        AwsAuthorizer::new(&self.credential, service, &self.region).authorize(&mut request, None);
        let (status, body) = wait(async {
            let answer = CLIENT.execute(request).await?;
            let status = answer.status();
            let parts: Vec<_> = answer.into_body().bytes_stream().try_collect().await?;
            Ok((status, String::from_utf8_lossy(&parts.concat()).into_owned()))
        })
        .map_err(|e: HttpError| e.to_string())?;
        if status.is_success() { Ok(body) } else { Err(format!("{status} {body}")) }
    }
}

/// Handles an error in a destructor: fails the test, unless it has already failed.
#[track_caller]
#[expect(clippy::print_stderr, reason = "libtest shows it beside the panic, which must stay the only one")]
pub(super) fn at_the_end<T>(removed: Result<T, String>) {
    match removed {
        Ok(_) => {}
        Err(e) if panicking() => eprintln!("left behind: {e}"),
        Err(e) => panic!("left behind: {e}"),
    }
}

pub(super) struct Request<'a> {
    /// The AWS service, for example `s3`.
    pub(super) service: &'a str,
    pub(super) method: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: Vec<u8>,
}
