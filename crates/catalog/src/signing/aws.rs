//! Signatures by AWS's own crate, with the credentials that the environment configures as for the AWS CLI.

use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SigningInstructions, SigningParams, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use hardtack_core::{Error, Result};
use reqwest::Request;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

/// The longest time that fetching credentials takes.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long credentials are in use that do not say when they expire.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long before their expiry credentials are fetched anew.
const EARLY: Duration = Duration::from_secs(10);

/// What the environment configures, as it does for the AWS CLI.
pub(crate) async fn configuration() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(HttpClientBuilder::new().tls_provider(Provider::rustls(CryptoMode::Ring)).build_https())
        // Retries are ours. Those of the environment would be read otherwise, and panic if they make no sense.
        .retry_config(RetryConfig::standard())
        .load()
        .await
}

/// Signs requests to a service of AWS, or to one that is compatible.
pub(crate) struct Signer {
    /// As signatures name it, such as `glue`.
    service: String,
    region: String,
    provider: SharedCredentialsProvider,
    held: Mutex<Option<Held>>,
}

/// Credentials in use.
struct Held {
    credentials: Credentials,
    until: SystemTime,
}

/// The credentials of a signature.
pub(crate) struct Signed(Credentials);

impl Signed {
    /// The session token, or nothing.
    pub(crate) fn session_token(&self) -> &str {
        self.0.session_token().unwrap_or_default()
    }
}

impl Signer {
    pub(crate) fn new(service: &str, region: String, provider: SharedCredentialsProvider) -> Self {
        Self { service: service.to_owned(), region, provider, held: Mutex::default() }
    }

    /// The signer that the environment configures; in this region, if one is given.
    ///
    /// # Errors
    /// Usage if a region or credentials are missing.
    #[cfg(feature = "rest")]
    pub(crate) async fn configured(service: &str, region: Option<&str>) -> Result<Self> {
        Self::of(&configuration().await, service, region)
    }

    /// The signer of what is configured; in this region, if one is given.
    ///
    /// # Errors
    /// Usage if a region or credentials are missing.
    pub(crate) fn of(config: &SdkConfig, service: &str, region: Option<&str>) -> Result<Self> {
        let configured = || config.region().map(ToString::to_string);
        let region = region.map(str::to_owned).or_else(configured).ok_or_else(unconfigured)?;
        Ok(Self::new(service, region, config.credentials_provider().ok_or_else(unconfigured)?))
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Adds the headers that sign a request as it is.
    pub(crate) async fn sign(&self, request: &mut Request) -> Result<Signed> {
        let credentials = self.credentials().await?;
        let signature = self.signature(request, &credentials);
        let signature = signature.map_err(|e| Error::unexpected("a request to AWS cannot be signed").because(e))?;
        let (headers, _) = signature.into_parts();
        for header in headers {
            // A session token can be any text.
            let mut value = HeaderValue::from_str(header.value()).map_err(|_| {
                Error::usage("the credentials have characters that no header can have").with("header", header.name())
            })?;
            value.set_sensitive(header.sensitive());
            request.headers_mut().insert(header.name(), value);
        }
        Ok(Signed(credentials))
    }

    /// The headers that sign a request.
    fn signature(
        &self,
        request: &Request,
        credentials: &Credentials,
    ) -> Result<SigningInstructions, Box<dyn std::error::Error + Send + Sync>> {
        let identity = credentials.clone().into();
        let parameters: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let mut headers = Vec::new();
        for (name, value) in request.headers() {
            headers.push((name.as_str(), value.to_str()?));
        }
        let body = SignableBody::Bytes(request.body().and_then(|body| body.as_bytes()).unwrap_or_default());
        let method = request.method().as_str();
        let request = SignableRequest::new(method, request.url().as_str(), headers.into_iter(), body)?;
        let (instructions, _) = sign(request, &parameters)?.into_parts();
        Ok(instructions)
    }

    async fn credentials(&self) -> Result<Credentials> {
        let mut held = self.held.lock().await;
        let now = SystemTime::now();
        if let Some(held) = held.as_ref().filter(|held| now < held.until) {
            return Ok(held.credentials.clone());
        }
        let credentials = self.fetch().await?;
        let until = credentials.expiry().and_then(|expiry| expiry.checked_sub(EARLY)).unwrap_or(now + LIFETIME);
        *held = Some(Held { credentials: credentials.clone(), until });
        Ok(credentials)
    }

    async fn fetch(&self) -> Result<Credentials> {
        match tokio::time::timeout(FETCH_TIMEOUT, self.provider.provide_credentials()).await {
            Ok(fetched) => fetched.map_err(|e| unconfigured().because(e)),
            // An instance goes on with those that it had: its metadata may be out of order for a while.
            Err(_) => self.provider.as_ref().fallback_on_interrupt().ok_or_else(|| {
                Error::unavailable("credentials for AWS cannot be fetched; try again later")
                    .because(format!("no answer within {} seconds", FETCH_TIMEOUT.as_secs()))
            }),
        }
    }

    /// Stops the use of these credentials, unless others are already in use.
    pub(crate) async fn give_up(&self, signed: &Signed) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.credentials == signed.0) {
            *held = None;
        }
    }
}

fn unconfigured() -> Error {
    Error::usage("AWS is not configured; set AWS_REGION and credentials as for the AWS CLI")
}
