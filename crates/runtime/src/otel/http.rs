//! The client that requests are sent by.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::redirect::Policy;

/// The client of this crate's other requests: those that `opentelemetry-http` has are of another version of `reqwest`.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    /// Why the last request has failed, which the exporter leaves out of its error.
    cause: Mutex<Option<reqwest::Error>>,
}

impl Client {
    pub(super) fn new() -> reqwest::Result<Self> {
        // A redirect would take the headers elsewhere, and they have keys.
        let http = reqwest::Client::builder().redirect(Policy::none()).build()?;
        Ok(Self { http, cause: Mutex::default() })
    }

    /// Another one, for a concurrent request.
    pub(super) fn another(&self) -> Self {
        Self { http: self.http.clone(), cause: Mutex::default() }
    }

    pub(super) fn take_cause(&self) -> Option<reqwest::Error> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn exchange(&self, request: Request<Bytes>) -> reqwest::Result<Response<Bytes>> {
        let answer = self.http.execute(request.try_into()?).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(answer.bytes().await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.exchange(request).await.map_err(|error| {
            *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.without_url());
            "the request has failed".into()
        })
    }
}
