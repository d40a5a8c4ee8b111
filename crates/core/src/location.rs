//! Locations of data: a folder or a file, on a file system, in S3 or in memory.

use std::borrow::Cow;
use std::fmt;
use std::path::{Component, PathBuf};
use std::str::FromStr;

use object_store::path::Path;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Error, Result};

/// A file or folder, named by a URL (`s3://bucket/key`, `file:///data`, `memory:/x`) or by a path of this machine, absolute
/// or relative to the working directory.
///
/// It is a value: it compares, hashes and prints exactly as given, and touches nothing until it is used. Any text is
/// accepted; [`Location::parse`] (used for arguments) checks whether it is valid, and so does every use.
///
/// ```
/// use hardtack_core::Location;
///
/// let lake = Location::from("s3://lake/");
/// assert_eq!(lake.join("raw/books"), Location::from("s3://lake/raw/books"));
/// // `..` never leads out of what was joined to, as with URLs:
/// assert_eq!(lake.join("../../etc/passwd").to_string(), "s3://lake/etc/passwd");
/// assert!(Location::parse("ftp://host/x").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Location(String);

/// A resolved [`Location`]: the store and the path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The store's root, as DataFusion registers it: `file:///`, `s3://bucket/`, `memory:///`.
    pub store: Url,
    /// The path inside the store.
    pub path: Path,
    /// Whether the location was given with a trailing slash, which means a folder.
    pub folder: bool,
}

impl Location {
    /// Checks that `text` names something in a supported store.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) with an example.
    pub fn parse(text: &str) -> Result<Self> {
        let location = Self(text.to_owned());
        location.resolve()?;
        Ok(location)
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The location of `relative` below this one. `.` and empty segments are dropped, and `..` only climbs within
    /// `relative`: as with URLs, a join never escapes.
    #[must_use]
    pub fn join(&self, relative: impl AsRef<str>) -> Self {
        let mut inside: Vec<&str> = Vec::new();
        for segment in relative.as_ref().split('/') {
            match segment {
                "" | "." => {}
                ".." => {
                    inside.pop();
                }
                name => inside.push(name),
            }
        }
        let mut text = self.0.trim_end_matches('/').to_owned();
        if inside.is_empty() {
            // A root keeps its slashes.
            return if text.is_empty() || text.ends_with(':') { self.clone() } else { Self(text) };
        }
        let encode = self.scheme() == Some("file");
        for segment in inside {
            if !text.is_empty() || self.0.starts_with('/') {
                text.push('/');
            }
            // Only file URLs are percent-encoded; S3 keys and paths are taken verbatim.
            if encode {
                text.push_str(&encode_segment(segment));
            } else {
                text.push_str(segment);
            }
        }
        Self(text)
    }

    /// [`Location::join`] for untrusted names: refuses those that are absolute or climb.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if `relative` starts with `/` or has a segment `..`.
    pub fn try_join(&self, relative: impl AsRef<str>) -> Result<Self> {
        let relative = relative.as_ref();
        if relative.starts_with('/') || relative.split('/').any(|s| s == "..") {
            return Err(Error::usage(format!("`{relative}` is outside of `{self}`; expected a path below it")));
        }
        Ok(self.join(relative))
    }

    /// The scheme, if this is a URL: `s3`, `file` or `memory` (`s3a` and `s3n` count as `s3`).
    pub fn scheme(&self) -> Option<&str> {
        let (scheme, rest) = self.0.split_once(':')?;
        let plain = scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
        // `a:b` may be a file name; a URL has a slash after the colon, or is one of ours.
        if !plain || !(rest.starts_with('/') || matches!(scheme, "memory" | "file")) {
            return None;
        }
        Some(if matches!(scheme, "s3a" | "s3n") { "s3" } else { scheme })
    }

    /// Resolves the location to a store and a path.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for an unknown scheme, a missing bucket, or a path that no store
    /// can hold (empty segments, control characters).
    pub fn resolve(&self) -> Result<Resolved> {
        let text = self.0.as_str();
        let folder = text.ends_with('/');
        let invalid = |why: &str| Error::usage(format!("`{self}` is not a location: {why}; {EXAMPLE}"));
        if credentials(text).is_some() {
            return Err(invalid(
                "it contains a password, which would appear in logs and records; S3 keys come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or from the machine's role",
            ));
        }
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let key = |key: &str| Path::parse(key.trim_matches('/')).map_err(|e| invalid(&e.to_string()));
        let url = |text: &str| Url::parse(text).map_err(|e| invalid(&e.to_string()));
        let after_scheme = || text.split_once(':').map_or("", |(_, rest)| rest);
        match self.scheme() {
            Some("s3") => {
                let rest = after_scheme().strip_prefix("//").ok_or_else(|| invalid("a bucket is missing"))?;
                let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(invalid("a bucket is missing"));
                }
                Ok(Resolved { store: url(&format!("s3://{bucket}/"))?, path: key(path)?, folder })
            }
            Some("memory") => Ok(Resolved { store: url("memory:///")?, path: key(after_scheme())?, folder }),
            Some("file") => {
                let path = url(text)?.to_file_path().map_err(|()| invalid("it names another host"))?;
                self.resolve_path(path, folder)
            }
            Some(other) => Err(invalid(&format!("the scheme `{other}` is unknown"))),
            None => self.resolve_path(PathBuf::from(text), folder),
        }
    }

    fn resolve_path(&self, path: PathBuf, folder: bool) -> Result<Resolved> {
        let invalid = |e: &dyn fmt::Display| Error::usage(format!("`{self}` is not a location: {e}; {EXAMPLE}"));
        let absolute = without_dots(std::path::absolute(&path).map_err(|e| invalid(&e))?);
        let path = Path::from_absolute_path(&absolute).map_err(|e| invalid(&e))?;
        let store = Url::parse("file:///").map_err(|e| invalid(&e))?;
        Ok(Resolved { store, path, folder })
    }

    /// The same place as an absolute location, independent of the working directory.
    ///
    /// # Errors
    /// Those of [`Location::resolve`].
    pub fn absolute(&self) -> Result<Self> {
        let resolved = self.resolve()?;
        Ok(Self::of(&resolved.store, &resolved.path))
    }

    /// Whether `inner` is at or below this place.
    ///
    /// ```
    /// use hardtack_core::Location;
    ///
    /// let lake = Location::from("s3://lake/books");
    /// assert!(lake.contains(&"s3://lake/books/a.parquet".into()) && lake.contains(&lake));
    /// assert!(!lake.contains(&"s3://lake/books2/a.parquet".into()));
    /// ```
    pub fn contains(&self, inner: &Self) -> bool {
        match (self.resolve(), inner.resolve()) {
            (Ok(outer), Ok(inner)) => outer.store == inner.store && inner.path.prefix_matches(&outer.path),
            _ => false,
        }
    }

    /// The location of a path in a store: absolute, so that another process with another working directory finds it.
    pub fn of(store: &Url, path: &Path) -> Self {
        match store.scheme() {
            "file" => Self(format!("/{path}")),
            "memory" => Self(format!("memory:/{path}")),
            scheme => Self(format!("{scheme}://{}/{path}", store.host_str().unwrap_or_default())),
        }
    }
}

const EXAMPLE: &str = "expected a URL or path such as `s3://my-bucket/lake`, `file:///data/lake` or `fixtures/lake`";

/// Removes `..` from an absolute path. The part before it is resolved first, because `link/..` is the parent of the
/// link's target.
fn without_dots(path: PathBuf) -> PathBuf {
    if !path.components().any(|part| part == Component::ParentDir) {
        return path;
    }
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                #[expect(clippy::disallowed_methods, reason = "symbolic links decide what `..` means")]
                if let Ok(real) = std::fs::canonicalize(&clean) {
                    clean = real;
                }
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

fn encode_segment(segment: &str) -> String {
    // The url crate encodes a pushed segment, percent signs included.
    let mut url = match Url::parse("file:///") {
        Ok(url) => url,
        Err(_) => return segment.to_owned(),
    };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push(segment);
    }
    url.path().trim_start_matches('/').to_owned()
}

/// The range of a URL's credentials, before the host: a name, or a key and a secret.
fn credentials(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.find("://")? + "://".len();
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |end| start + end);
    let at = text[start..end].rfind('@')?;
    Some(start..start + at)
}

/// A text without the credentials of a URL in it, so that an argument can be printed.
///
/// ```
/// use hardtack_core::location::without_credentials;
///
/// assert_eq!(without_credentials("s3://key:secret@bucket/x"), "s3://***@bucket/x");
/// assert_eq!(without_credentials("s3://bucket/a@b"), "s3://bucket/a@b");
/// ```
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    match credentials(text) {
        Some(secret) => format!("{}***{}", &text[..secret.start], &text[secret.end..]).into(),
        None => text.into(),
    }
}

/// As given, without credentials, which are not permitted anyway.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_credentials(&self.0))
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&without_credentials(&self.0)).finish()
    }
}

impl FromStr for Location {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Checks arguments. (By default, clap would use the infallible `From<&str>`.)
#[cfg(feature = "clap")]
impl clap::builder::ValueParserFactory for Location {
    type Parser = clap::builder::ValueParser;
    fn value_parser() -> Self::Parser {
        clap::builder::ValueParser::new(Self::parse)
    }
}

impl From<&str> for Location {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Location {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&std::path::Path> for Location {
    fn from(path: &std::path::Path) -> Self {
        Self(path.to_string_lossy().into_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Self {
        location.clone()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("s3://bucket/a/b", "s3://bucket/", "a/b")]
    #[case("s3://bucket", "s3://bucket/", "")]
    #[case("s3a://bucket/a b/ü=%2F/", "s3://bucket/", "a b/ü=%2F")]
    #[case("file:///data/a%20b", "file:///", "data/a b")]
    #[case("/data/a%20b/c=1", "file:///", "data/a%20b/c=1")]
    #[case("/data/x/../y/./z", "file:///", "data/y/z")]
    #[case("memory:/x/y", "memory:///", "x/y")]
    #[case("memory:///x", "memory:///", "x")]
    #[case("memory:x", "memory:///", "x")]
    fn resolves(#[case] given: &str, #[case] store: &str, #[case] path: &str) {
        let resolved = Location::parse(given).unwrap().resolve().unwrap();
        assert_eq!((resolved.store.as_str(), resolved.path.as_ref()), (store, path));
        assert_eq!(Location::from(given).to_string(), given);
        // The absolute form leads to the same place.
        let absolute = Location::of(&resolved.store, &resolved.path);
        assert_eq!(absolute.resolve().unwrap().path, resolved.path);
    }

    #[rstest]
    #[case("")]
    #[case("s3://")]
    #[case("s3:///key")]
    #[case("ftp://host/x")]
    #[case("file://host/x")]
    #[case("s3://b/a//b")]
    fn refuses(#[case] given: &str) {
        let error = Location::parse(given).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
        assert!(error.to_string().contains("such as `s3://my-bucket/lake`"), "{error}");
    }

    #[rstest]
    #[case("s3://key:secret@bucket/x", "s3://***@bucket/x")]
    #[case("s3a://secret@bucket", "s3a://***@bucket")]
    #[case("ftp://user:se@cret@host/x", "ftp://***@host/x")]
    #[case("file://user:secret@host/x", "file://***@host/x")]
    fn a_password_is_refused_and_not_printed(#[case] given: &str, #[case] shown: &str) {
        let location = Location::from(given);
        assert_eq!(location.to_string(), shown);
        let error = Location::parse(given).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
        for text in [format!("{error:?}"), error.chain(), format!("{location:?}")] {
            assert!(!text.contains("secret") && !text.contains("cret@"), "{text}");
        }
        // An object's key is not a host.
        assert!(Location::parse("s3://bucket/a:b@c").is_ok());
    }

    #[rstest]
    #[case("s3://b/", "x//./y", "s3://b/x/y")]
    #[case("s3://b", "../../x", "s3://b/x")]
    #[case("data", "a/../../x", "data/x")]
    #[case("/", "x", "/x")]
    #[case("/", "", "/")]
    #[case("data/", "", "data")]
    #[case("memory:", "x", "memory:/x")]
    #[case("memory:///", "x", "memory:/x")]
    #[case("file:///d", "a b%", "file:///d/a%20b%25")]
    fn joins(#[case] base: &str, #[case] relative: &str, #[case] joined: &str) {
        assert_eq!(Location::from(base).join(relative).as_str(), joined);
    }

    #[test]
    fn names_from_outside_cannot_climb() {
        let base = Location::from("lake");
        assert!(base.try_join("../x").is_err());
        assert!(base.try_join("/x").is_err());
        assert_eq!(base.try_join("x/y").unwrap().as_str(), "lake/x/y");
    }
}
