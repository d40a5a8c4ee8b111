//! Errors of the crate `iceberg` as ours.

use hardtack_core::{Error, ErrorKind};

/// Our error for one of the crate `iceberg`. An error of a store that went through it comes out as it went in.
pub(crate) fn failed(error: iceberg::Error) -> Error {
    if let Some(own) = Error::carried_by(&error) {
        return own;
    }
    let kind = match error.kind() {
        iceberg::ErrorKind::FeatureUnsupported => ErrorKind::Usage,
        iceberg::ErrorKind::TableNotFound | iceberg::ErrorKind::NamespaceNotFound => ErrorKind::NotFound,
        iceberg::ErrorKind::CatalogCommitConflicts => ErrorKind::Conflict,
        _ => ErrorKind::Unexpected,
    };
    Error::new(kind, error.message().to_owned()).because(error)
}

/// An error of ours on its way through the crate `iceberg`.
pub(crate) fn carried(error: Error) -> iceberg::Error {
    iceberg::Error::new(iceberg::ErrorKind::Unexpected, error.to_string()).with_source(error)
}
