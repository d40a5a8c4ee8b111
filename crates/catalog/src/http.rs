//! HTTP, as the clients of catalogs use it.

use std::time::Duration;

use hardtack_core::{Error, Result};
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Request, StatusCode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time without a byte from the server.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A client that follows no redirection, which could lead credentials to another server.
pub(crate) fn client() -> Result<Client> {
    Client::builder()
        .user_agent(concat!("hardtack/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(|e| Error::unexpected("no HTTP client can be made").because(e))
}

/// An answer of any status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Sends a request and receives its answer. The body is part of it: what breaks there is lost.
pub(crate) async fn exchange(client: &Client, request: Request) -> Result<Answer, reqwest::Error> {
    let mut answer = client.execute(request).await?;
    let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
    Ok(Answer { status, headers, body: answer.bytes().await?.into() })
}
