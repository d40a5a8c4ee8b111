//! Errors as PostgreSQL has them: each with an SQLSTATE.

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use hardtack_core::{Error, ErrorKind};

/// An error of a statement.
pub(crate) fn error(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.into())))
}

/// An error that ends the connection.
pub(crate) fn fatal(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.into())))
}

/// What is wrong in a statement, in the tables or with the stores, under the SQLSTATE that says so.
pub(crate) fn translated(failed: PgWireError) -> PgWireError {
    let source = match failed {
        PgWireError::ApiError(source) => source,
        other => return other,
    };
    match source.downcast::<DataFusionError>() {
        Ok(failed) => {
            let (code, message) = of_query(*failed);
            error(code, message)
        }
        Err(source) if source.is::<ParserError>() => error("42601", source.to_string()),
        Err(source) => error("XX000", source.to_string()),
    }
}

fn of_query(failed: DataFusionError) -> (&'static str, String) {
    use datafusion::common::SchemaError;
    let text = failed.strip_backtrace();
    let code = match failed.find_root() {
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::SQL(..) => "42601",
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { .. } => "42703",
            SchemaError::AmbiguousReference { .. } => "42702",
            _ => "42000",
        },
        DataFusionError::Plan(_) => "42000",
        DataFusionError::NotImplemented(_) => "0A000",
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => "22000",
        _ => "XX000",
    };
    if code == "53200" {
        let message = "the query needs more memory than it may have; ask for less at once, or raise --memory-limit";
        return (code, format!("{message}: {text}"));
    }
    match Error::from(failed) {
        own if own.kind() == ErrorKind::NotFound => ("42P01", own.chain()),
        own if own.kind() == ErrorKind::Refused => ("22000", own.chain()),
        own if own.kind() == ErrorKind::Usage => ("42000", own.chain()),
        own if own.kind() == ErrorKind::Unavailable => ("58030", own.chain()),
        _ => (code, text),
    }
}
