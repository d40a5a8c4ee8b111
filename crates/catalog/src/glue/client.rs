//! Requests to Glue: endpoints, signatures, retries, answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::service_config::ServiceConfigKey;
use backon::{BackoffBuilder, ExponentialBuilder};
use hardtack_core::{Error, Result};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use crate::http;
use crate::signing::{self, Signer};

use super::failure::Failure;

/// As signatures name it.
const SERVICE: &str = "glue";

/// The number of attempts per request.
pub(super) const ATTEMPTS: usize = 8;
/// The pause after the first attempt, at least.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause. (Jitter at most doubles that of the backoff.)
const MAX_PAUSE: Duration = Duration::from_secs(20);

const JSON: &str = "application/x-amz-json-1.1";

/// How often a request is repeated, and how soon.
#[derive(Debug, Clone, Copy)]
struct Retries {
    attempts: usize,
    first_pause: Duration,
}

impl Retries {
    fn pauses(self) -> impl Iterator<Item = Duration> {
        ExponentialBuilder::new()
            .with_min_delay(self.first_pause)
            .with_max_delay(MAX_PAUSE / 2)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
            .build()
    }
}

/// A client of Glue's API, which is JSON 1.1 over signed HTTP.
#[derive(Clone)]
pub(super) struct Client {
    shared: Arc<Shared>,
    retries: Retries,
}

struct Shared {
    endpoint: String,
    signer: Signer,
    /// Made with the first request: the certificates of the system are read, which can fail.
    http: OnceCell<(reqwest::Client, Url)>,
}

/// Without secrets: an endpoint may contain a password, although it is refused.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shared.signer.region())
    }
}

impl Client {
    /// The client that the environment configures, as it does for the AWS CLI.
    pub(super) async fn configured() -> Result<Self> {
        let config = signing::configuration().await;
        let signer = Signer::of(&config, SERVICE, None)?;
        Ok(Self::new(endpoint(&config, signer.region())?, signer))
    }

    /// The client of a service that is compatible with Glue.
    pub(super) fn at(endpoint: &str, region: &str, (id, secret): (&str, &str)) -> Self {
        let provider = SharedCredentialsProvider::new(Credentials::new(id, secret, None, None, "given"));
        Self::new(endpoint.to_owned(), Signer::new(SERVICE, region.to_owned(), provider))
    }

    fn new(endpoint: String, signer: Signer) -> Self {
        Self {
            shared: Arc::new(Shared { endpoint, signer, http: OnceCell::new() }),
            retries: Retries { attempts: ATTEMPTS, first_pause: FIRST_PAUSE },
        }
    }

    pub(super) fn with_retries(self, attempts: usize, first_pause: Duration) -> Self {
        Self { retries: Retries { attempts, first_pause }, ..self }
    }

    /// Calls an operation, such as `GetTable`.
    pub(super) async fn call<A: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        arguments: &A,
    ) -> Result<R, Failure> {
        let body = serde_json::to_vec(arguments)
            .map_err(|e| Error::unexpected("a request to Glue cannot be written").because(e))?;
        let answer = self.answer(operation, &body).await?;
        // Operations without a result may answer nothing.
        let answer = if answer.is_empty() { b"{}" } else { answer.as_slice() };
        serde_json::from_slice(answer).map_err(|e| {
            Error::unexpected("the answer of Glue does not parse").with("operation", operation).because(e).into()
        })
    }

    /// Sends a request until it is answered, with pauses; with new credentials if Glue finds them expired. All operations
    /// are repeated, whatever has become of the request, as AWS's own SDKs do.
    async fn answer(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let (client, url) = self.shared.http().await?;
        let mut pauses = self.retries.pauses();
        let mut renewed = false;
        loop {
            let mut request = Shared::request(url, operation, body)?;
            let signed = self.shared.signer.sign(&mut request).await?;
            let (failure, asked) = match http::exchange(client, request).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer.body),
                Ok(answer) => (Failure::of(&answer).without(signed.session_token()), asked_pause(&answer.headers)),
                Err(error) => (Failure::in_transit(url.host_str().unwrap_or_default(), error), None),
            };
            if failure.is_about_expiry() && !renewed {
                renewed = true;
                self.shared.signer.give_up(&signed).await;
                continue;
            }
            if !failure.passes() {
                return Err(failure);
            }
            let Some(pause) = pauses.next() else { return Err(failure) };
            tracing::debug!(operation, reason = failure.to_string(), "a request to Glue is repeated");
            tokio::time::sleep(asked.unwrap_or(pause)).await;
        }
    }
}

impl Shared {
    async fn http(&self) -> Result<&(reqwest::Client, Url)> {
        self.http.get_or_try_init(|| async { Ok((http::client()?, address(&self.endpoint)?)) }).await
    }

    /// A request without a signature.
    fn request(url: &Url, operation: &str, body: &[u8]) -> Result<Request> {
        let target = HeaderValue::from_str(&format!("AWSGlue.{operation}"))
            .map_err(|e| Error::unexpected("this is not an operation of Glue").with("name", operation).because(e))?;
        let mut request = Request::new(Method::POST, url.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        request.headers_mut().insert("x-amz-target", target);
        *request.body_mut() = Some(body.to_vec().into());
        Ok(request)
    }
}

/// A pause that Glue asks for, in milliseconds.
fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = headers.get("x-amz-retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds).min(MAX_PAUSE))
}

// --- endpoints -----------------------------------------------------------------------------------------------------

/// The domains of regions whose names start so: usual ones, and those of endpoints that also have IPv6 addresses.
const DOMAINS: [(&str, &str, &str); 7] = [
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("", "amazonaws.com", "api.aws"),
];

/// The endpoint that the configuration names, or that of the region.
fn endpoint(config: &SdkConfig, region: &str) -> Result<String> {
    let (fips, dual_stack) = (config.use_fips().unwrap_or_default(), config.use_dual_stack().unwrap_or_default());
    match configured_endpoint(config) {
        // It would silently not be what was asked for.
        Some(_) if fips || dual_stack => {
            Err(Error::usage("an endpoint of Glue cannot be given together with FIPS or dual-stack endpoints")
                .hint("unset `AWS_USE_FIPS_ENDPOINT` and `AWS_USE_DUALSTACK_ENDPOINT`, or the endpoint"))
        }
        Some(endpoint) => Ok(endpoint),
        None => Ok(format!("https://{}", host(region, fips, dual_stack))),
    }
}

/// The endpoint for Glue (`AWS_ENDPOINT_URL_GLUE`, or of the profile's services), or the one for all services.
fn configured_endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("Glue").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_glue = config.service_config().and_then(|service| service.load_config(key.ok()?));
    of_glue.or_else(|| config.endpoint_url().map(str::to_owned))
}

/// The URL of an endpoint.
fn address(endpoint: &str) -> Result<Url> {
    const HINT: &str = "see `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_GLUE`";
    let url =
        Url::parse(endpoint).map_err(|e| Error::usage("the endpoint of Glue is not a URL").hint(HINT).because(e))?;
    match url.username().is_empty() && url.password().is_none() {
        true => Ok(url),
        false => Err(Error::usage("the endpoint of Glue contains a password, which would appear in logs").hint(HINT)),
    }
}

fn host(region: &str, fips: bool, dual_stack: bool) -> String {
    let domains = DOMAINS.iter().find(|(prefix, ..)| region.starts_with(prefix));
    let domain = domains.map_or("", |(_, usual, dual)| if dual_stack { dual } else { usual });
    format!("glue{}.{region}.{domain}", if fips { "-fips" } else { "" })
}

#[cfg(test)]
mod tests {
    use hardtack_core::ErrorKind;
    use rstest::rstest;

    use super::*;

    /// As the rules of AWS's own SDKs have them.
    #[rstest]
    #[case("eu-central-1", false, false, "glue.eu-central-1.amazonaws.com")]
    #[case("us-east-1", true, false, "glue-fips.us-east-1.amazonaws.com")]
    #[case("us-east-1", false, true, "glue.us-east-1.api.aws")]
    #[case("us-gov-west-1", true, true, "glue-fips.us-gov-west-1.api.aws")]
    #[case("cn-north-1", false, false, "glue.cn-north-1.amazonaws.com.cn")]
    #[case("cn-north-1", false, true, "glue.cn-north-1.api.amazonwebservices.com.cn")]
    #[case("us-iso-east-1", false, false, "glue.us-iso-east-1.c2s.ic.gov")]
    #[case("us-isob-east-1", true, false, "glue-fips.us-isob-east-1.sc2s.sgov.gov")]
    fn a_region_has_its_host(#[case] region: &str, #[case] fips: bool, #[case] dual: bool, #[case] expected: &str) {
        assert_eq!(host(region, fips, dual), expected);
    }

    #[rstest]
    #[case("glue.local", "the endpoint of Glue is not a URL")]
    #[case("https://user:hidden@glue.local", "the endpoint of Glue contains a password, which would appear in logs")]
    #[tokio::test]
    async fn an_endpoint_that_cannot_be_used_is_refused_and_not_printed(#[case] endpoint: &str, #[case] message: &str) {
        let client = Client::at(endpoint, "eu-central-1", ("AKID", "hunter2"));
        let error = Error::from(client.call::<_, ()>("GetTable", &()).await.unwrap_err());
        assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, message));
        let shown = format!("{client:?} {error:?}");
        assert!(!shown.contains("hidden") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<Duration> = Retries { attempts: 8, first_pause: FIRST_PAUSE }.pauses().collect();
        assert_eq!(pauses.len(), 7);
        assert!(pauses[0] >= FIRST_PAUSE && pauses[0] <= 2 * FIRST_PAUSE, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= MAX_PAUSE), "{pauses:?}");
        assert!(pauses[6] >= MAX_PAUSE / 2, "{pauses:?}");
    }
}
