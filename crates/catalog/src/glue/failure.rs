//! Glue's errors.

use std::fmt;

use hardtack_core::{Error, ErrorKind};
use serde_json::Value;

use crate::conflict::{self, Conflict};
use crate::http::Answer;

use super::wire::ErrorDetail;

/// A request that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Glue refuses it, or a part of it.
    Refused {
        /// Glue's error code; empty if the answer has none.
        code: String,
        text: String,
        status: u16,
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
    /// The failure that an answer tells of.
    pub(super) fn of(answer: &Answer) -> Self {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let member = |names: &[&str]| names.iter().find_map(|name| body.get(name)?.as_str()).unwrap_or_default();
        let header = answer.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        let status = answer.status.as_u16();
        let code = plain(header.unwrap_or_else(|| member(&["__type", "code"]))).to_owned();
        let text = match member(&["message", "Message", "errorMessage"]) {
            // A proxy's page, for example.
            "" if code.is_empty() => format!("the answer has the status {status} and no error code"),
            text => text.to_owned(),
        };
        Self::Refused { code, text, status }
    }

    /// The error of one partition in a batch.
    pub(super) fn of_detail(detail: ErrorDetail) -> Self {
        Self::Refused { code: detail.error_code, text: detail.error_message, status: 200 }
    }

    /// The failure to send a request to this server, or to receive its answer.
    pub(super) fn in_transit(server: &str, error: reqwest::Error) -> Self {
        Self::Other(Error::unavailable(FAILED).with("server", server).because(error.without_url()))
    }

    /// Without a secret that Glue repeats: it shows what it has expected to be signed.
    pub(super) fn without(self, secret: &str) -> Self {
        match self {
            Self::Refused { code, text, status } if !secret.is_empty() => {
                Self::Refused { code, text: text.replace(secret, "(redacted)"), status }
            }
            failure => failure,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Other(_) => "",
        }
    }

    pub(super) fn conflict(&self) -> Option<Conflict> {
        match self.code() {
            "AlreadyExistsException" => Some(Conflict::AlreadyExists),
            "ConcurrentModificationException" | "VersionMismatchException" => Some(Conflict::ConcurrentModification),
            _ => None,
        }
    }

    pub(super) fn kind(&self) -> ErrorKind {
        let (code, status) = match self {
            Self::Refused { code, status, .. } => (code.as_str(), *status),
            Self::Other(error) => return error.kind(),
        };
        match code {
            "EntityNotFoundException" => ErrorKind::NotFound,
            "AlreadyExistsException" | "ConcurrentModificationException" | "VersionMismatchException" => {
                ErrorKind::Conflict
            }
            "InvalidInputException"
            | "InvalidStateException"
            | "ValidationException"
            | "GlueEncryptionException"
            | "ResourceNumberLimitExceededException"
            | "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | EXPIRED
            | "MissingAuthenticationTokenException" => ErrorKind::Usage,
            code if status >= 500 || REPEATED.contains(&code) || TRANSIENT.contains(&code) => ErrorKind::Unavailable,
            _ => ErrorKind::Unexpected,
        }
    }

    /// Whether Glue rejected the input.
    pub(super) fn is_about_input(&self) -> bool {
        matches!(self.code(), "InvalidInputException" | "InvalidStateException" | "ValidationException")
    }

    /// Whether the credentials have expired.
    pub(super) fn is_about_expiry(&self) -> bool {
        self.code() == EXPIRED
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Refused { code, status, .. } => {
                REPEATED.contains(&code.as_str()) || matches!(status, 500 | 502 | 503 | 504)
            }
            Self::Other(error) => error.kind() == ErrorKind::Unavailable,
        }
    }

    /// The error as all catalogs report it for a database.
    pub(super) fn of_database(self, name: &str) -> Error {
        match self.kind() {
            ErrorKind::NotFound => conflict::no_database(name).because(Error::from(self)),
            ErrorKind::Conflict if self.conflict() == Some(Conflict::AlreadyExists) => {
                conflict::database_exists(name).because(Error::from(self))
            }
            _ => Error::from(self).with("database", name),
        }
    }

    /// The error as all catalogs report it for a table that should exist.
    pub(super) fn of_table(self, database: &str, name: &str) -> Error {
        let table = format!("{database}.{name}");
        match self {
            Self::Other(error) if error.get("table").is_some() => error,
            failure if failure.kind() == ErrorKind::NotFound => {
                conflict::no_table(&table).because(Error::from(failure))
            }
            failure => Error::from(failure).with("table", table),
        }
    }

    /// The error as all catalogs report it for a table that should not exist.
    pub(super) fn of_new_table(self, database: &str, name: &str) -> Error {
        let table = format!("{database}.{name}");
        match self.kind() {
            ErrorKind::NotFound => conflict::no_database(database).with("table", table).because(Error::from(self)),
            ErrorKind::Conflict if self.conflict() == Some(Conflict::AlreadyExists) => {
                conflict::table_exists(&table).because(Error::from(self))
            }
            _ => Error::from(self).with("table", table),
        }
    }
}

/// An error code without its namespace and the address that may follow it: `com.amazonaws.glue#Code:http://...`.
fn plain(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default()
}

const FAILED: &str = "Glue failed, even after retries; try again later";

const EXPIRED: &str = "ExpiredTokenException";

/// The errors after which a request is repeated, as AWS's own SDKs have them: throttling, and time-outs while it was
/// received.
const REPEATED: [&str; 16] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "RequestThrottled",
    "SlowDown",
    "PriorRequestNotComplete",
    "EC2ThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
];

/// Other transient errors, after which the whole run may be repeated.
const TRANSIENT: [&str; 5] = [
    "InternalServiceException",
    "OperationTimeoutException",
    "ResourceNotReadyException",
    "FederationSourceRetryableException",
    "ServiceUnavailable",
];

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(error) => f.write_str(&error.chain()),
            Self::Refused { code, text, .. } => match (code.as_str(), text.as_str()) {
                ("", text) => f.write_str(text),
                (code, "") => f.write_str(code),
                (code, text) => write!(f, "{code}: {text}"),
            },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        if let Failure::Other(error) = failure {
            return error;
        }
        let kind = failure.kind();
        let message = match (kind, failure.code()) {
            (ErrorKind::NotFound, _) => "Glue cannot find it",
            (_, "AlreadyExistsException") => "it already exists with different content; update it instead",
            (ErrorKind::Conflict, _) => {
                "another writer changed it at the same time; read it again and repeat the change"
            }
            (_, "ResourceNumberLimitExceededException") => "a quota of Glue is exhausted; ask AWS to raise it",
            (_, "GlueEncryptionException") => "Glue cannot use the key that encrypts the catalog; check its policy",
            (ErrorKind::Usage, _) if failure.is_about_input() => "Glue rejected the input",
            (ErrorKind::Usage, _) => "Glue denies access to this caller; check credentials and permissions",
            (ErrorKind::Unavailable, _) => FAILED,
            _ => "Glue failed",
        };
        let error = failure.conflict().map_or_else(|| Self::new(kind, message), |conflict| conflict.error(message));
        error.because(failure.to_string())
    }
}

/// The error for a response that lacks a required part.
pub(super) fn unanswered(what: &str) -> Error {
    Error::unavailable(format!("Glue answered without {what}; try again later"))
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use reqwest::header::{HeaderMap, HeaderValue};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("EntityNotFoundException", 400, ErrorKind::NotFound)]
    #[case("AlreadyExistsException", 400, ErrorKind::Conflict)]
    #[case("ConcurrentModificationException", 400, ErrorKind::Conflict)]
    #[case("InvalidInputException", 400, ErrorKind::Usage)]
    #[case("AccessDeniedException", 400, ErrorKind::Usage)]
    #[case("ThrottlingException", 400, ErrorKind::Unavailable)]
    #[case("InternalServiceException", 500, ErrorKind::Unavailable)]
    #[case("OperationTimeoutException", 400, ErrorKind::Unavailable)]
    #[case("SomethingNew", 503, ErrorKind::Unavailable)]
    #[case("SomethingNew", 400, ErrorKind::Unexpected)]
    #[case("", 502, ErrorKind::Unavailable)]
    #[case("", 404, ErrorKind::Unexpected)]
    fn codes_become_kinds(#[case] code: &str, #[case] status: u16, #[case] kind: ErrorKind) {
        let failure = Failure::Refused { code: code.to_owned(), text: "why".to_owned(), status };
        let error = failure.of_table("lake", "books");
        assert_eq!(error.kind(), kind);
        assert!(error.chain().contains("why") && error.chain().contains("lake.books"), "{}", error.chain());
    }

    #[rstest]
    #[case::plain(None, r#"{"__type": "Code", "message": "why"}"#, "Code: why")]
    #[case::namespace(None, r#"{"__type": "com.amazonaws.glue#Code", "Message": "why"}"#, "Code: why")]
    #[case::address(None, r#"{"__type": "a#Code:http://b/#c", "message": null}"#, "Code")]
    #[case::header(Some("Code:http://b/"), r#"{"__type": "Other", "message": "why", "Message": "x"}"#, "Code: why")]
    #[case::header_alone(Some("Code"), "", "Code")]
    #[case::page(None, "<html>", "the answer has the status 400 and no error code")]
    #[case::json(None, "[1]", "the answer has the status 400 and no error code")]
    #[case::no_code(None, r#"{"message": "Forbidden"}"#, "Forbidden")]
    fn a_failure_is_in_the_header_or_the_body(#[case] header: Option<&str>, #[case] body: &str, #[case] shown: &str) {
        let header = header.map(|code| ("x-amzn-ErrorType".parse().unwrap(), HeaderValue::from_str(code).unwrap()));
        let headers: HeaderMap = header.into_iter().collect();
        let answer = Answer { status: StatusCode::BAD_REQUEST, headers, body: body.as_bytes().to_vec() };
        assert_eq!(Failure::of(&answer).to_string(), shown);
    }
}
