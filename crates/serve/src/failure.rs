//! Errors in PostgreSQL's form: each with an SQLSTATE.

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

/// An error of planning, which is [`translated`] when it is sent.
pub(crate) fn unplanned(failed: DataFusionError) -> PgWireError {
    PgWireError::ApiError(Box::new(failed))
}

/// Translates an error of a statement, a table or a store to one with the matching SQLSTATE.
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
        Err(source) => match source.downcast::<ParserError>() {
            Ok(failed) => {
                let (code, message) = of_query(DataFusionError::SQL(failed, None));
                error(code, message)
            }
            Err(source) => error("XX000", source.to_string()),
        },
    }
}

fn of_query(failed: DataFusionError) -> (&'static str, String) {
    let in_data = matches!(failed.find_root(), DataFusionError::Execution(_) | DataFusionError::ArrowError(..));
    let own = Error::from(failed);
    let code = own.get_sqlstate().unwrap_or(match own.kind() {
        ErrorKind::NotFound => "42P01",
        ErrorKind::Refused => "22000",
        ErrorKind::Usage => "42000",
        ErrorKind::Unavailable | ErrorKind::Changed => "58030",
        _ if in_data => "22000",
        _ => "XX000",
    });
    if code == "53200" {
        let message = "the query needs more memory than it may have; ask for less at once, or raise --memory-limit";
        return (code, format!("{message}: {}", own.chain()));
    }
    (code, own.chain())
}
