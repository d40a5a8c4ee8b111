//! Requests to a REST catalog: authentication or signatures, retries, answers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use hardtack_core::{Error, ErrorKind, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

use crate::RestAddress;
use crate::http::{self, Answer};
use crate::signing::Signer;

/// How a client of an Iceberg REST catalog proves who it is. Never shown.
#[derive(Clone, Default)]
pub enum RestCredentials {
    /// The server asks for nothing.
    #[default]
    None,
    /// A bearer token.
    Token(String),
    /// OAuth2 client credentials, for which the client gets a token.
    Client {
        /// The id of the client; some servers know clients by the secret alone.
        id: Option<String>,
        /// Its secret.
        secret: String,
        /// What the token is for.
        scope: String,
        /// Where the token comes from, if not from `/v1/oauth/tokens` of the catalog.
        server: Option<String>,
    },
    /// AWS's Signature Version 4, with the credentials that the environment has for the AWS CLI. (Needs the feature `aws`.)
    SigV4 {
        /// The service as signatures name it, such as `s3tables`.
        service: String,
        /// Its region, if not the one that the environment has.
        region: Option<String>,
    },
}

impl fmt::Debug for RestCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token",
            Self::Client { .. } => "Client",
            Self::SigV4 { .. } => "SigV4",
        })
    }
}

/// The names of the variables with credentials, as of Iceberg's properties `token`, `credential`, `scope` and
/// `oauth2-server-uri`.
const TOKEN: &str = "HARDTACK_CATALOG_TOKEN";
const CREDENTIAL: &str = "HARDTACK_CATALOG_CREDENTIAL";
const SCOPE: &str = "HARDTACK_CATALOG_SCOPE";
const SERVER: &str = "HARDTACK_CATALOG_OAUTH2_SERVER_URI";
/// The name of the variable with the service that requests are signed for, as of Iceberg's property `rest.signing-name`.
const SIGV4: &str = "HARDTACK_CATALOG_SIGV4";

/// The services of AWS that are Iceberg REST catalogs, as their hosts and signatures name them.
const SERVICES: [&str; 2] = ["glue", "s3tables"];
/// How the names of AWS's hosts end.
const DOMAINS: [&str; 3] = ["amazonaws.com", "amazonaws.com.cn", "api.aws"];

impl RestCredentials {
    /// Those that these variables have.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if a token and a credential are given, or one of them and a service to sign for.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| variable(name).filter(|text| !text.is_empty());
        let both =
            |a: &str, b: &str| Err(Error::usage(format!("`{a}` and `{b}` are both set")).hint("set one of the two"));
        match (variable(TOKEN), variable(CREDENTIAL), variable(SIGV4)) {
            (Some(_), Some(_), _) => both(TOKEN, CREDENTIAL),
            (Some(_), _, Some(_)) => both(TOKEN, SIGV4),
            (_, Some(_), Some(_)) => both(CREDENTIAL, SIGV4),
            (Some(token), None, None) => Ok(Self::Token(token)),
            (None, Some(credential), None) => {
                let (id, secret) = match credential.split_once(':') {
                    Some((id, secret)) => (Some(id.to_owned()), secret.to_owned()),
                    None => (None, credential),
                };
                let scope = variable(SCOPE).unwrap_or_else(|| "catalog".to_owned());
                Ok(Self::Client { id, secret, scope, server: variable(SERVER) })
            }
            (None, None, Some(service)) => Ok(Self::SigV4 { service, region: None }),
            (None, None, None) => Ok(Self::None),
        }
    }

    /// These, or signatures if there are none and the address is one of AWS.
    pub(super) fn for_address(self, address: &RestAddress) -> Self {
        let Self::None = self else { return self };
        let url = Url::parse(address.uri()).ok();
        match url.as_ref().and_then(|url| of_aws(url.host_str()?)) {
            Some((service, region)) => Self::SigV4 { service: service.to_owned(), region: Some(region.to_owned()) },
            None => Self::None,
        }
    }

    /// A text of others without the secrets.
    fn redacted(&self, text: &str) -> String {
        match self {
            Self::Token(secret) | Self::Client { secret, .. } => without(secret, text),
            Self::None | Self::SigV4 { .. } => text.to_owned(),
        }
    }
}

/// A text without a secret.
fn without(secret: &str, text: &str) -> String {
    if secret.is_empty() { text.to_owned() } else { text.replace(secret, "(redacted)") }
}

/// The service and the region of a host such as `s3tables.eu-central-1.amazonaws.com`.
fn of_aws(host: &str) -> Option<(&str, &str)> {
    let (service, rest) = host.split_once('.')?;
    let (region, domain) = rest.split_once('.')?;
    let service = service.strip_suffix("-fips").unwrap_or(service);
    (SERVICES.contains(&service) && DOMAINS.contains(&domain)).then_some((service, region))
}

/// The longest pause that a server can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The pauses before a request is repeated.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(6)
        .with_jitter()
        .build()
}

/// A request that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refuses it.
    Status {
        status: StatusCode,
        /// What the server says about it.
        message: String,
        /// It was to delete something, and an earlier attempt may have done that.
        repeated: bool,
    },
    /// No request was sent, or the answer was lost: the error says which.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Failure {
    pub(super) fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Status { status, .. } if *status == wanted)
    }

    /// Whether what was to be deleted is gone, and an earlier attempt of the same request may have deleted it.
    pub(super) fn is_gone_after_repetition(&self) -> bool {
        matches!(self, Self::Status { status, repeated: true, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// The error of a request about this object.
    pub(super) fn error(self, what: &'static str, name: impl fmt::Display) -> Error {
        match self {
            Self::Other(error) if error.get(what).is_some() => error,
            Self::Other(error) => error.with(what, name),
            Self::Status { status, message, .. } => refused(status, message).with(what, name),
        }
    }
}

/// The error for a status.
fn refused(status: StatusCode, message: String) -> Error {
    let error = match status {
        StatusCode::UNAUTHORIZED => Error::usage("the catalog's server does not accept the credentials").hint(format!(
            "set `{TOKEN}`, or `{CREDENTIAL}` to `CLIENT_ID:CLIENT_SECRET`, or `{SIGV4}` to the service of AWS"
        )),
        // As AWS answers requests without a signature.
        StatusCode::FORBIDDEN if message.contains("Missing Authentication Token") => {
            Error::usage("the catalog's server wants signed requests")
                .hint(format!("set `{SIGV4}` to the service that they are for, such as `execute-api`"))
        }
        StatusCode::FORBIDDEN => Error::usage("the catalog's server does not permit this"),
        StatusCode::NOT_FOUND => Error::not_found("the catalog's server does not have this"),
        StatusCode::CONFLICT => Error::conflict("the catalog's server reports a conflict"),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Error::unavailable("the catalog's server has too much to do")
        }
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            Error::unavailable("the catalog's server has failed")
        }
        _ => Error::usage("the catalog's server refuses the request"),
    };
    let error = error.with("status", status.as_u16());
    if message.is_empty() { error } else { error.with("answer", message) }
}

/// Which requests may be executed twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Repeated whatever has become of it.
    Always,
    /// Repeated only if it was certainly not executed.
    Unexecuted,
}

/// An error of the catalog's server.
#[derive(Debug, Default, Deserialize)]
struct ErrorAnswer {
    error: Option<ErrorBody>,
    /// Of an OAuth2 server.
    error_description: Option<String>,
    /// Of AWS's gateways.
    #[serde(alias = "Message")]
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ErrorBody {
    Model { message: Option<String> },
    Code(String),
}

#[derive(Debug, Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    defaults: BTreeMap<String, String>,
    #[serde(default)]
    overrides: BTreeMap<String, String>,
}

pub(super) struct Client {
    http: reqwest::Client,
    pub(super) address: RestAddress,
    credentials: RestCredentials,
    /// That was issued for client credentials.
    token: Mutex<Option<String>>,
    /// Of requests that are signed.
    signer: OnceCell<Signer>,
    /// What precedes `/namespaces`, as the server's configuration has it.
    root: OnceCell<String>,
}

/// What needs no escape in a part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A part of a path.
pub(super) fn part(name: &str) -> String {
    utf8_percent_encode(name, PART).to_string()
}

impl Client {
    pub(super) fn new(address: RestAddress, credentials: RestCredentials) -> Result<Self> {
        let (token, signer, root) = (Mutex::default(), OnceCell::new(), OnceCell::new());
        Ok(Self { http: http::client()?, address, credentials, token, signer, root })
    }

    /// Fetches JSON at a path below the root, such as `namespaces`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        let answer = self.send(Method::GET, path, query, None).await?;
        Ok(parse(&answer)?)
    }

    /// Creates or commits: not repeated if it may have been executed.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Vec<u8>, Failure> {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<(), Failure> {
        self.send(Method::DELETE, path, query, None).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Vec<u8>, Failure> {
        let root = self.root.get_or_try_init(|| self.configured()).await?;
        self.authorized(method, url(&format!("{root}/{path}"), query)?, body).await
    }

    /// Reads the configuration: what precedes `/namespaces` in paths.
    async fn configured(&self) -> Result<String> {
        let uri = self.address.uri();
        let query: Vec<(&str, &str)> = self.address.warehouse().map(|name| ("warehouse", name)).into_iter().collect();
        let answer = self.authorized(Method::GET, url(&format!("{uri}/v1/config"), &query)?, None).await;
        let answer = answer.map_err(|failure| {
            let missing = failure.is(StatusCode::NOT_FOUND);
            let error = failure.error("catalog", &self.address);
            match missing {
                true => Error::usage("there is no Iceberg REST catalog at this address, or no such warehouse")
                    .with("catalog", &self.address)
                    .because(error),
                false => error,
            }
        })?;
        let config: Config = parse(&answer)?;
        let property = |key: &str| config.overrides.get(key).or_else(|| config.defaults.get(key)).map(String::as_str);
        let uri = match config.overrides.get("uri") {
            // Credentials are for the server that the caller has named.
            Some(other) if url(other, &[])?.origin() != url(uri, &[])?.origin() => {
                return Err(Error::usage("the catalog's server refers to another one")
                    .with("catalog", &self.address)
                    .with("other", other)
                    .hint("name that one, if you trust it with the credentials"));
            }
            Some(other) => other.trim_end_matches('/'),
            None => uri,
        };
        Ok(match property("prefix").map(|prefix| prefix.trim_matches('/')).filter(|prefix| !prefix.is_empty()) {
            Some(prefix) => format!("{uri}/v1/{prefix}"),
            None => format!("{uri}/v1"),
        })
    }

    /// Sends a request with credentials; with new ones if the server does not accept a token any more.
    async fn authorized(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Vec<u8>, Failure> {
        let repeat = if method == Method::POST { Repeat::Unexecuted } else { Repeat::Always };
        let body = body.map(ToString::to_string);
        let mut renewed = false;
        loop {
            let token = self.bearer().await?;
            let mut request = Request::new(method.clone(), url.clone());
            if let Some(token) = &token {
                request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
            }
            if let Some(body) = &body {
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                *request.body_mut() = Some(body.clone().into());
            }
            match self.repeated(request, repeat).await {
                Err(failure)
                    if !renewed
                        && matches!(self.credentials, RestCredentials::Client { .. })
                        && failure.is(StatusCode::UNAUTHORIZED) =>
                {
                    renewed = true;
                    // Unless somebody else has renewed it meanwhile.
                    let mut held = self.token.lock().await;
                    if *held == token {
                        *held = None;
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// The token to send.
    async fn bearer(&self) -> Result<Option<String>> {
        let (id, secret, scope, server) = match &self.credentials {
            RestCredentials::None | RestCredentials::SigV4 { .. } => return Ok(None),
            RestCredentials::Token(token) => return Ok(Some(token.clone())),
            RestCredentials::Client { id, secret, scope, server } => (id, secret, scope, server),
        };
        let mut held = self.token.lock().await;
        if held.is_none() {
            let server = server.clone().unwrap_or_else(|| format!("{}/v1/oauth/tokens", self.address.uri()));
            let mut request = Request::new(Method::POST, url(&server, &[])?);
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(CONTENT_TYPE, form_type);
            *request.body_mut() = Some(form(id.as_deref(), secret, scope).into());
            // One token more does no harm.
            let answer = self.repeated(request, Repeat::Always).await.map_err(|failure| match failure {
                Failure::Status { status: StatusCode::BAD_REQUEST, message, .. } => {
                    refused(StatusCode::UNAUTHORIZED, message).with("server", server)
                }
                failure => failure.error("server", server),
            })?;
            *held = Some(parse::<Token>(&answer)?.access_token);
        }
        Ok(held.clone())
    }

    /// Sends a request until it is answered, with pauses.
    async fn repeated(&self, request: Request, repeat: Repeat) -> Result<Vec<u8>, Failure> {
        let mut pauses = pauses();
        let (mut repeated, mut renewed) = (false, false);
        loop {
            let mut attempt = request.try_clone().ok_or_else(|| Error::unexpected("a request cannot be repeated"))?;
            let signer = self.signer().await?;
            let signed = match signer {
                Some(signer) => Some((signer, signer.sign(&mut attempt).await?)),
                None => None,
            };
            let (executed, asked, failure) = match http::exchange(&self.http, attempt).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer.body),
                Ok(Answer { status, headers, body }) => {
                    let message = message(&body);
                    if let (Some((signer, signed)), false) = (&signed, renewed)
                        && is_about_expiry(status, &message)
                    {
                        renewed = true;
                        signer.give_up(signed).await;
                        continue;
                    }
                    let passing = match status {
                        StatusCode::TOO_MANY_REQUESTS => true,
                        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                            repeat == Repeat::Always
                        }
                        _ => false,
                    };
                    let token = signed.as_ref().map_or("", |(_, signed)| signed.session_token());
                    let message = without(token, &self.credentials.redacted(&message));
                    let failure = Failure::Status { status, message, repeated };
                    if !passing {
                        return Err(failure);
                    }
                    (status != StatusCode::TOO_MANY_REQUESTS, asked_pause(headers.get(RETRY_AFTER)), failure)
                }
                Err(e) => {
                    let executed = !e.is_connect();
                    let error = self.unanswered(e);
                    if executed && repeat == Repeat::Unexecuted {
                        return Err(error.into());
                    }
                    (executed, None, error.into())
                }
            };
            let Some(pause) = pauses.next() else { return Err(failure) };
            tracing::debug!(url = %request.url(), ?failure, "a request to the catalog is repeated");
            repeated |= executed && request.method() == Method::DELETE;
            tokio::time::sleep(asked.unwrap_or(pause).max(pause)).await;
        }
    }

    /// Who signs requests, if they are to be signed.
    async fn signer(&self) -> Result<Option<&Signer>> {
        let RestCredentials::SigV4 { service, region } = &self.credentials else { return Ok(None) };
        self.signer.get_or_try_init(|| Signer::configured(service, region.as_deref())).await.map(Some)
    }

    fn unanswered(&self, error: reqwest::Error) -> Error {
        let message = match error.is_connect() {
            true => "the catalog's server cannot be reached",
            false => "the catalog's server has not answered",
        };
        Error::unavailable(message).with("catalog", &self.address).because(error.without_url())
    }
}

/// Whether AWS says that credentials have expired.
fn is_about_expiry(status: StatusCode, message: &str) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST)
        && message.contains("expired")
}

/// What an OAuth2 server is asked for.
fn form(id: Option<&str>, secret: &str, scope: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(id) = id {
        form.append_pair("client_id", id);
    }
    form.append_pair("client_secret", secret).append_pair("scope", scope).finish()
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| {
        Error::usage("the token for the catalog has characters that no token has").hint(format!("see `{TOKEN}`"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn url(text: &str, query: &[(&str, &str)]) -> Result<Url> {
    let parsed = match query.is_empty() {
        true => Url::parse(text),
        false => Url::parse_with_params(text, query),
    };
    parsed.map_err(|e| Error::usage("this is not a URL").with("url", text).because(e))
}

/// A pause that the server asks for, in seconds. (A date is not looked at.)
fn asked_pause(header: Option<&HeaderValue>) -> Option<Duration> {
    let seconds: u64 = header?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}

/// What an answer says about a failure.
fn message(body: &[u8]) -> String {
    const MAX_CHARS: usize = 500;
    let answer: ErrorAnswer = serde_json::from_slice(body).unwrap_or_default();
    let message = match (answer.error, answer.error_description.or(answer.message)) {
        (Some(ErrorBody::Model { message: Some(message) }), _) | (_, Some(message)) => message,
        (Some(ErrorBody::Code(code)), None) => code,
        // A proxy's page, for example.
        _ => String::new(),
    };
    message.lines().next().unwrap_or_default().chars().take(MAX_CHARS).collect()
}

/// An answer that was expected.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| {
        Error::new(ErrorKind::Unexpected, "the answer of the catalog's server does not parse")
            .hint("is this the address of an Iceberg REST catalog?")
            .because(e)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://s3tables.eu-central-1.amazonaws.com/iceberg?warehouse=w", "s3tables eu-central-1")]
    #[case("https://glue.us-gov-west-1.amazonaws.com/iceberg", "glue us-gov-west-1")]
    #[case("https://glue-fips.us-east-1.amazonaws.com/iceberg", "glue us-east-1")]
    #[case("https://glue.cn-north-1.amazonaws.com.cn/iceberg", "glue cn-north-1")]
    #[case("https://glue.eu-central-1.api.aws/iceberg", "glue eu-central-1")]
    #[case("https://abc.execute-api.eu-central-1.amazonaws.com/iceberg", "none")]
    #[case("https://glue.eu-central-1.amazonaws.com.example.org/iceberg", "none")]
    #[case("https://lake.example.com/glue.eu-central-1.amazonaws.com", "none")]
    #[case("http://127.0.0.1:8181", "none")]
    fn requests_to_aws_are_signed(#[case] address: &str, #[case] expected: &str) {
        let address: RestAddress = address.parse().unwrap();
        let found = match RestCredentials::None.for_address(&address) {
            RestCredentials::SigV4 { service, region } => format!("{service} {}", region.unwrap_or_default()),
            _ => "none".to_owned(),
        };
        assert_eq!(found, expected);
        let token = RestCredentials::Token("t".to_owned()).for_address(&address);
        assert!(matches!(token, RestCredentials::Token(_)));
    }
}
