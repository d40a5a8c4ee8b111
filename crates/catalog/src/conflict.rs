//! The errors of catalogs, shared by all implementations.

use std::fmt;

use hardtack_core::{Error, ErrorKind};

/// The two causes of an error of the kind [`Conflict`](ErrorKind::Conflict).
///
/// ```
/// use hardtack_catalog::Conflict;
///
/// let error = Conflict::AlreadyExists.error("there is a table `lake.books` already");
/// assert_eq!(Conflict::of(&error), Some(Conflict::AlreadyExists));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The object to create exists.
    AlreadyExists,
    /// The object to update has changed since it was read: read it again and repeat the change.
    ConcurrentModification,
}

impl Conflict {
    /// The conflict that an error reports, if it reports one.
    pub fn of(error: &Error) -> Option<Self> {
        error.detail().copied()
    }

    /// An error that reports this conflict.
    pub fn error(self, message: impl Into<String>) -> Error {
        Error::conflict(message).with("conflict", self).with_detail(self)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyExists => "already exists",
            Self::ConcurrentModification => "concurrent modification",
        })
    }
}

pub(crate) fn no_database(name: &str) -> Error {
    Error::not_found(format!("there is no database `{name}` in the catalog; create it, or check the name"))
}

pub(crate) fn no_table(name: &str) -> Error {
    Error::not_found(format!("there is no table `{name}` in the catalog; create it, or check the name"))
}

pub(crate) fn database_exists(name: &str) -> Error {
    Conflict::AlreadyExists.error(format!("there is a database `{name}` already"))
}

pub(crate) fn table_exists(name: &str) -> Error {
    Conflict::AlreadyExists.error(format!("there is a table `{name}` already; update it, or drop it first"))
}

pub(crate) fn database_in_use(name: &str) -> Error {
    Error::usage(format!("the database `{name}` has tables; drop them first"))
}

pub(crate) fn no_partitions(name: &str) -> Error {
    Error::usage(format!(
        "`{name}` is an Iceberg table, whose partitions are in its metadata and not in the catalog; write to the table \
         with a library for Iceberg"
    ))
}

pub(crate) fn table_changed(name: &str, expected: &str, found: Option<&str>) -> Error {
    let error = Conflict::ConcurrentModification
        .error(format!("the table `{name}` was changed since it was read; read it again and repeat the change"))
        .with("version read", expected);
    match found {
        Some(found) => error.with("version now", found),
        None => error,
    }
}

/// The failed items of a batch; the rest of the batch was done.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<(String, Error)>);

/// How many failed items an error names.
const MAX_NAMED: usize = 5;

impl Failures {
    pub(crate) fn add(&mut self, partition: String, error: Error) {
        self.0.push((partition, error));
    }

    /// # Errors
    /// If anything failed: with the kind of the first failure, except that retryable failures come first.
    pub(crate) fn into_result(self, verb: &str, table: &str, total: usize) -> Result<(), Error> {
        let count = self.0.len();
        let Some(first) = self.0.iter().position(|(_, e)| e.kind() == ErrorKind::Unavailable).or(match count {
            0 => None,
            _ => Some(0),
        }) else {
            return Ok(());
        };
        let mut names: Vec<&str> = self.0.iter().take(MAX_NAMED).map(|(name, _)| name.as_str()).collect();
        let more = format!("{} more", count.saturating_sub(MAX_NAMED));
        if count > MAX_NAMED {
            names.push(&more);
        }
        let names = names.join(", ");
        let cause = self.0.into_iter().nth(first).map(|(name, error)| error.with("partition", name));
        let message = format!("{count} of {total} partitions of `{table}` could not be {verb}; the others were");
        let kind = cause.as_ref().map_or(ErrorKind::Unexpected, Error::kind);
        let mut error = Error::new(kind, message).with("partitions", names);
        if let Some(cause) = cause {
            if let Some(conflict) = Conflict::of(&cause) {
                error = error.with("conflict", conflict).with_detail(conflict);
            }
            error = error.because(cause);
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_told_apart() {
        for conflict in [Conflict::AlreadyExists, Conflict::ConcurrentModification] {
            assert_eq!(Conflict::of(&conflict.error("x")), Some(conflict));
        }
        assert_eq!(Conflict::of(&Error::conflict("another run got there first")), None);
        assert_eq!(Conflict::of(&Error::usage("x").with("conflict", "already exists")), None);
    }

    #[test]
    fn a_batch_says_what_failed_and_why() {
        let mut failures = Failures::default();
        for year in 2000..2007 {
            failures.add(format!("year={year}"), Conflict::AlreadyExists.error("it is there"));
        }
        let error = failures.into_result("added", "lake.books", 250).unwrap_err();
        assert_eq!(Conflict::of(&error), Some(Conflict::AlreadyExists));
        insta::assert_snapshot!(error.chain(), @"7 of 250 partitions of `lake.books` could not be added; the others were (partitions: year=2000, year=2001, year=2002, year=2003, year=2004, 2 more, conflict: already exists): it is there (conflict: already exists, partition: year=2000)");

        let mut mixed = Failures::default();
        mixed.add("year=1".to_owned(), Error::not_found("gone"));
        mixed.add("year=2".to_owned(), Error::unavailable("slow down"));
        assert_eq!(mixed.into_result("updated", "t", 2).unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(Failures::default().into_result("updated", "t", 2).is_ok());
    }
}
