//! The one error type of the framework.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::Field;
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use crate::audit::{REDACTED, is_sensitive};
use crate::query_error;

/// The result type of this framework.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, by how a caller or an operator reacts to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or a configuration that cannot work; trying again will not help.
    Usage,
    /// Something that was named does not exist, for example a folder without files.
    NotFound,
    /// Data that a contract, schema or audit refuses.
    Refused,
    /// Another run of the same job and scope got there first.
    Conflict,
    /// The run was told to stop (SIGTERM, Ctrl-C).
    Stopped,
    /// A file has changed since it was listed: it was replaced, truncated, appended to or removed before it was read.
    Changed,
    /// A store or service failed; a retry may help.
    Unavailable,
    /// Files that a run staged and committed are gone, so its commit cannot be completed as recorded.
    Lost,
    /// Anything else: a bug, memory that ran out.
    Unexpected,
}

impl ErrorKind {
    /// The exit code of a job that ends with this kind of error.
    ///
    /// | code | meaning | AWS Batch |
    /// | --- | --- | --- |
    /// | 1 | failed; a retry may help | retry |
    /// | 2 | bad usage or configuration | stop |
    /// | 3 | data refused | stop |
    /// | 4 | another run got there first | retry |
    /// | 143 | told to stop | retry |
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NotFound | Self::Changed | Self::Unavailable | Self::Lost | Self::Unexpected => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Conflict => 4,
            Self::Stopped => 143,
        }
    }

    /// The name under which logs and run records show this kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not found",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Stopped => "stopped",
            Self::Changed => "changed",
            Self::Unavailable => "unavailable",
            Self::Lost => "lost",
            Self::Unexpected => "unexpected",
        }
    }
}

/// An error: its [kind](ErrorKind), one sentence, context as name/value pairs, a hint, and the cause.
///
/// `Display` is one line without the causes; [`Error::chain`] is one line with them; `Debug` shows everything. All of
/// these are for people. Code decides by the kind and by [details](Error::with_detail), never by text.
///
/// ```
/// use hardtack_core::{Error, ErrorKind};
///
/// let error = Error::refused("`abc` is not an Int64").with("line", 7).hint("declare the column as Utf8");
/// assert_eq!(error.kind(), ErrorKind::Refused);
/// assert_eq!(error.to_string(), "`abc` is not an Int64 (line: 7, hint: declare the column as Utf8)");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    details: Vec<Arc<dyn Any + Send + Sync>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    sqlstate: Option<&'static str>,
}

impl Error {
    /// An error of the given kind. The message is one sentence without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            hint: None,
            details: Vec::new(),
            source: None,
            sqlstate: None,
        }))
    }

    /// A [`ErrorKind::Usage`] error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// A [`ErrorKind::NotFound`] error.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A [`ErrorKind::Refused`] error.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// A [`ErrorKind::Conflict`] error.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// A [`ErrorKind::Unavailable`] error.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// An [`ErrorKind::Unexpected`] error.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unexpected, message)
    }

    /// Adds context as a name/value pair: a file, a line, a column, a sink.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Sets what the reader can do about this error. A later hint replaces an earlier one, because callers know more.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The hint set by [`Error::hint`].
    pub fn get_hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Attaches a value for callers to decide by. It is not displayed, and it survives the propagation through a plan.
    ///
    /// ```
    /// use hardtack_core::Error;
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct Throttled;
    ///
    /// let error = Error::unavailable("too many requests").with_detail(Throttled);
    /// assert_eq!(error.detail::<Throttled>(), Some(&Throttled));
    /// ```
    #[must_use]
    pub fn with_detail(mut self, detail: impl Any + Send + Sync) -> Self {
        self.0.details.push(Arc::new(detail));
        self
    }

    /// The value of this type that [`Error::with_detail`] attached.
    pub fn detail<T: Any>(&self) -> Option<&T> {
        self.0.details.iter().find_map(|detail| detail.downcast_ref())
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets the SQLSTATE of an error of a query.
    #[must_use]
    pub(crate) fn sqlstate(mut self, state: &'static str) -> Self {
        self.0.sqlstate = Some(state);
        self
    }

    /// The SQLSTATE of a query's error for PostgreSQL clients, if there is one.
    pub fn get_sqlstate(&self) -> Option<&'static str> {
        self.0.sqlstate
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence, without context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The value that [`Error::with`] gave for this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// The error without the value that it names, if that is the value of a [sensitive](crate::audit::sensitive) column
    /// among these, or the text of a row that has one.
    ///
    /// ```
    /// use datafusion::arrow::datatypes::{DataType, Field, Schema};
    /// use hardtack_core::{Error, audit::sensitive};
    ///
    /// let schema = sensitive(Schema::new(vec![Field::new("age", DataType::Int64, true)]).into(), ["age"]);
    /// let error = Error::refused("`x` is not an Int64").with("column", "age").with("value", "x");
    /// assert_eq!(error.redacted(schema.fields()).to_string(), "(redacted) is not an Int64 (column: age, value: (redacted))");
    /// ```
    #[must_use]
    pub fn redacted<F: AsRef<Field>>(mut self, columns: &[F]) -> Self {
        // `a`, or a part of it: `a.b`, `a[]`
        let is_within = |path: &str, column: &str| {
            path.strip_prefix(column).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let path = self.get("column");
        let mut hidden = columns.iter().map(AsRef::as_ref).filter(|column| is_sensitive(column));
        if !hidden.any(|column| path.is_none_or(|path| is_within(path, column.name()))) {
            return self;
        }
        for (_, value) in self.0.context.iter_mut().filter(|(name, _)| *name == "value") {
            *value = REDACTED.to_owned();
        }
        // Sentences quote values by backticks, and values may contain some.
        let message = &self.0.message;
        if let (Some(start), Some(end)) = (message.find('`'), message.rfind('`')) {
            self.0.message = format!("{}{REDACTED}{}", &message[..start], &message[end + 1..]);
        }
        self
    }

    /// The context as displayed: the hint comes last.
    fn shown_context(&self) -> impl Iterator<Item = (&str, &str)> {
        let context = self.0.context.iter().map(|(name, value)| (*name, value.as_str()));
        context.chain(self.0.hint.as_deref().map(|hint| ("hint", hint)))
    }

    /// Our own error among the causes of another one (for example a source's error that came through a plan, a store or
    /// a reader), so that its kind survives.
    pub fn carried_by(error: &(dyn StdError + 'static)) -> Option<Self> {
        let own = find::<Self>(error)?;
        let mut copy = Self::new(own.0.kind, own.0.message.clone());
        copy.0.context.clone_from(&own.0.context);
        copy.0.hint.clone_from(&own.0.hint);
        copy.0.details.clone_from(&own.0.details);
        copy.0.sqlstate = own.0.sqlstate;
        Some(match own.source() {
            Some(cause) => copy.because(chain_text(cause)),
            None => copy,
        })
    }

    /// Whether the same run, started again, may succeed.
    pub fn is_retryable(&self) -> bool {
        !matches!(self.0.kind, ErrorKind::Usage | ErrorKind::Refused)
    }

    /// The error and all its causes in one line, most general first.
    pub fn chain(&self) -> String {
        self.with_causes(self.to_string())
    }

    /// Like [`Error::chain`], without the hint and these names of the context, for callers that display them
    /// separately.
    pub fn chain_without(&self, names: &[&str]) -> String {
        let context = self.0.context.iter().map(|(name, value)| (*name, value.as_str()));
        self.with_causes(self.line(context.filter(|(name, _)| !names.contains(name))))
    }

    /// The sentence, followed by this context.
    fn line<'a>(&self, context: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        let pairs: Vec<String> = context.map(|(name, value)| format!("{name}: {value}")).collect();
        if pairs.is_empty() { self.0.message.clone() } else { format!("{} ({})", self.0.message, pairs.join(", ")) }
    }

    fn with_causes(&self, mut text: String) -> String {
        let mut cause = self.source();
        while let Some(error) = cause {
            append_cause(&mut text, error);
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(self.shown_context()))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.name(), self.0.message)?;
        for (name, value) in self.shown_context() {
            write!(f, "\n  {name}: {value}")?;
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl From<DataFusionError> for Error {
    /// Unwraps our own error if DataFusion only carried it (for example of a source that refused a file during
    /// execution), so that its kind survives the way through a plan.
    fn from(error: DataFusionError) -> Self {
        if let Some(own) = Error::carried_by(&error) {
            return own;
        }
        if let Some(store) = find::<object_store::Error>(&error) {
            let (kind, message) = of_store(store);
            return Error::new(kind, message).because(error);
        }
        query_error::translate(error)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        DataFusionError::ArrowError(Box::new(error), None).into()
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        if let Some(own) = Error::carried_by(&error) {
            return own;
        }
        let (kind, message) = of_store(&error);
        Error::new(kind, message).because(error)
    }
}

/// Classifies a store's error. For a local store, the causes show whether a retry is pointless.
fn of_store(error: &object_store::Error) -> (ErrorKind, &'static str) {
    use std::io::ErrorKind as Io;
    match find::<std::io::Error>(error).map(std::io::Error::kind) {
        Some(Io::NotADirectory) => (ErrorKind::Usage, "expected a folder, but this is a file"),
        Some(Io::IsADirectory) => (ErrorKind::Usage, "expected a file, but this is a folder"),
        Some(Io::StorageFull) => (ErrorKind::Unavailable, "the disk is full"),
        _ => (store_kind(error), "reading or writing failed"),
    }
}

fn store_kind(error: &object_store::Error) -> ErrorKind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => ErrorKind::NotFound,
        E::InvalidPath { .. } | E::NotSupported { .. } | E::UnknownConfigurationKey { .. } => ErrorKind::Usage,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::Usage,
        _ => ErrorKind::Unavailable,
    }
}

fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        append_cause(&mut text, e);
        cause = e.source();
    }
    text
}

/// Appends a cause, unless the text repeats it already, as many errors do.
fn append_cause(text: &mut String, cause: &dyn StdError) {
    let cause = cause.to_string();
    if !text.contains(&cause) {
        text.push_str(": ");
        text.push_str(&cause);
    }
}

/// Finds an error of type `T` among an error and its causes, looking through the wrappers that hide a cause from
/// [`StdError::source`].
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>() {
        return Some(found);
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        match error {
            DataFusionError::External(inner) => return find(inner.as_ref()),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => return find(inner.as_ref()),
            DataFusionError::Shared(inner) => return find(inner.as_ref()),
            DataFusionError::ArrowError(inner, _) => return find(inner.as_ref()),
            DataFusionError::ObjectStore(inner) => return find(inner.as_ref()),
            DataFusionError::Collection(all) => return all.iter().find_map(|e| find(e)),
            _ => {}
        }
    }
    if let Some(ArrowError::ExternalError(inner)) = error.downcast_ref::<ArrowError>() {
        return find(inner.as_ref());
    }
    // The inner error is not its source.
    if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        return find(inner);
    }
    error.source().and_then(find)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Schema};
    use object_store::ObjectStoreExt;
    use rstest::rstest;

    use super::*;
    use crate::audit::sensitive;

    #[test]
    fn our_error_survives_the_way_through_datafusion_and_arrow() {
        let own = Error::refused("no").hint("yes").with_detail(7_u8).with("file", "a.csv").because("bad byte");
        let wrapped = DataFusionError::ArrowError(
            Box::new(ArrowError::ExternalError(Box::new(DataFusionError::from(own)))),
            None,
        )
        .context("while reading");
        let back = Error::from(wrapped);
        assert_eq!(back.kind(), ErrorKind::Refused);
        assert_eq!(back.chain(), "no (file: a.csv, hint: yes): bad byte");
        assert_eq!((back.get_hint(), back.detail::<u8>(), back.detail::<i8>()), (Some("yes"), Some(&7), None));
    }

    #[rstest]
    #[case::of_it(Some("pin"), "(redacted) is not an Int64 (column: pin, value: (redacted))")]
    #[case::within_it(Some("pin.a[]"), "(redacted) is not an Int64 (column: pin.a[], value: (redacted))")]
    #[case::of_a_row(None, "(redacted) is not an Int64 (value: (redacted))")]
    #[case::of_another(Some("pin2"), "`x` is not `y` is not an Int64 (column: pin2, value: x` is not `y)")]
    fn what_is_sensitive_is_not_said(#[case] column: Option<&str>, #[case] shown: &str) {
        let columns: Vec<Field> = ["pin", "pin2"].map(|name| Field::new(name, DataType::Utf8, true)).into();
        let schema = sensitive(Schema::new(columns).into(), ["pin"]);
        let error = Error::refused("`x` is not `y` is not an Int64");
        let error = column.into_iter().fold(error, |error, column| error.with("column", column));
        let error = error.with("value", "x` is not `y");
        assert_eq!(error.redacted(schema.fields()).to_string(), shown);
        let header = Error::refused("the first record, `1,`x``, is not a header");
        assert_eq!(header.redacted(schema.fields()).to_string(), "the first record, (redacted), is not a header");
        let nothing: [Field; 0] = [];
        assert_eq!(Error::refused("`x` is not y").redacted(&nothing).to_string(), "`x` is not y");
    }

    #[tokio::test]
    async fn a_file_is_no_folder_and_a_folder_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        store.put(&"file".into(), "x".into()).await.unwrap();
        store.put(&"folder/file".into(), "x".into()).await.unwrap();
        let below = Error::from(store.put(&"file/below".into(), "x".into()).await.unwrap_err());
        assert_eq!((below.kind(), below.message()), (ErrorKind::Usage, "expected a folder, but this is a file"));
        let onto = Error::from(store.put(&"folder".into(), "x".into()).await.unwrap_err());
        assert_eq!((onto.kind(), onto.message()), (ErrorKind::Usage, "expected a file, but this is a folder"));
    }

    #[test]
    fn a_store_error_keeps_what_can_be_retried() {
        let timeout = object_store::Error::Generic { store: "S3", source: "timed out".into() };
        let error = Error::from(DataFusionError::ObjectStore(Box::new(timeout)));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_retryable());
        assert!(!Error::usage("x").is_retryable());
    }
}
