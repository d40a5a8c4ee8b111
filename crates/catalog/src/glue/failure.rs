//! Glue's errors.

use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_glue::config::http::HttpResponse;
use aws_sdk_glue::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_glue::types::ErrorDetail;
use hardtack_core::{Error, ErrorKind};

use crate::conflict::{self, Conflict};

/// An error from Glue, or in transit, by its code.
#[derive(Debug)]
pub(super) struct Failure {
    /// Glue's error code; empty if Glue did not answer.
    code: String,
    text: String,
    status: Option<u16>,
    /// Whether there are no usable credentials.
    no_credentials: bool,
    /// An error of our own to pass through.
    own: Option<Error>,
}

impl Failure {
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let meta = error.meta();
        let code = meta.code().unwrap_or_default().to_owned();
        let text = match meta.message() {
            Some(message) if !code.is_empty() => message.to_owned(),
            // No response, or none from Glue: the causes explain it.
            _ => DisplayErrorContext(&error).to_string(),
        };
        let no_credentials = causes(&error).any(|cause| cause.is::<CredentialsError>());
        Self { code, text, status, no_credentials, own: None }
    }

    /// The error of one partition in a batch.
    pub(super) fn of_detail(detail: Option<&ErrorDetail>) -> Self {
        let code = detail.and_then(ErrorDetail::error_code).unwrap_or_default().to_owned();
        let text = detail.and_then(ErrorDetail::error_message).unwrap_or_default().to_owned();
        Self { code, text, status: Some(200), no_credentials: false, own: None }
    }

    pub(super) fn own(error: Error) -> Self {
        Self { code: String::new(), text: String::new(), status: None, no_credentials: false, own: Some(error) }
    }

    pub(super) fn conflict(&self) -> Option<Conflict> {
        match self.code.as_str() {
            "AlreadyExistsException" => Some(Conflict::AlreadyExists),
            "ConcurrentModificationException" | "VersionMismatchException" => Some(Conflict::ConcurrentModification),
            _ => None,
        }
    }

    pub(super) fn kind(&self) -> ErrorKind {
        if let Some(own) = &self.own {
            return own.kind();
        }
        match self.code.as_str() {
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
            | "ExpiredTokenException"
            | "MissingAuthenticationTokenException" => ErrorKind::Usage,
            "" if self.no_credentials => ErrorKind::Usage,
            "" => ErrorKind::Unavailable,
            code if TRANSIENT.contains(&code) || self.status.is_some_and(|status| status >= 500) => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Unexpected,
        }
    }

    /// Whether Glue rejected the input.
    pub(super) fn is_about_input(&self) -> bool {
        matches!(self.code.as_str(), "InvalidInputException" | "InvalidStateException" | "ValidationException")
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
        match self.kind() {
            ErrorKind::NotFound => conflict::no_table(&table).because(Error::from(self)),
            _ if self.own.is_some() => Error::from(self),
            _ => Error::from(self).with("table", table),
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

/// Transient errors, which remain after the retries.
const TRANSIENT: [&str; 9] = [
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "InternalServiceException",
    "OperationTimeoutException",
    "ResourceNotReadyException",
    "FederationSourceRetryableException",
    "ServiceUnavailable",
];

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), self.text.as_str()) {
            ("", text) => f.write_str(text),
            (code, "") => f.write_str(code),
            (code, text) => write!(f, "{code}: {text}"),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        if let Some(own) = failure.own {
            return own;
        }
        let kind = failure.kind();
        let message = match (kind, failure.code.as_str()) {
            (ErrorKind::NotFound, _) => "Glue cannot find it",
            (_, "AlreadyExistsException") => "it already exists with different content; update it instead",
            (ErrorKind::Conflict, _) => {
                "another writer changed it at the same time; read it again and repeat the change"
            }
            (_, "ResourceNumberLimitExceededException") => "a quota of Glue is exhausted; ask AWS to raise it",
            (_, "GlueEncryptionException") => "Glue cannot use the key that encrypts the catalog; check its policy",
            (ErrorKind::Usage, "") => "Glue is not configured; set AWS_REGION and credentials as for the AWS CLI",
            (ErrorKind::Usage, _) if failure.is_about_input() => "Glue rejected the input",
            (ErrorKind::Usage, _) => "Glue denies access to this caller; check credentials and permissions",
            (ErrorKind::Unavailable, _) => "Glue failed, even after retries; try again later",
            _ => "Glue failed",
        };
        let error = failure.conflict().map_or_else(|| Self::new(kind, message), |conflict| conflict.error(message));
        error.because(failure.to_string())
    }
}

/// An error and its causes.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The error for a response that lacks a required part.
pub(super) fn unanswered(what: &str) -> Error {
    Error::unavailable(format!("Glue answered without {what}; try again later"))
}

#[cfg(test)]
mod tests {
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
    #[case("SomethingNew", 503, ErrorKind::Unavailable)]
    #[case("SomethingNew", 400, ErrorKind::Unexpected)]
    #[case("", 0, ErrorKind::Unavailable)]
    fn codes_become_kinds(#[case] code: &str, #[case] status: u16, #[case] kind: ErrorKind) {
        let failure = Failure {
            code: code.to_owned(),
            text: "why".to_owned(),
            status: Some(status),
            no_credentials: false,
            own: None,
        };
        let error = failure.of_table("lake", "books");
        assert_eq!(error.kind(), kind);
        assert!(error.chain().contains("why") && error.chain().contains("lake.books"), "{}", error.chain());
    }
}
