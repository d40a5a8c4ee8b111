//! The names, comments and parameters that Glue accepts. The embedded catalog accepts no others, so that a job that
//! works on a laptop works in AWS.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use hardtack_core::{Error, Location, Result};

const MAX_NAME: usize = 255;
const MAX_COMMENT: usize = 255;
const MAX_DESCRIPTION: usize = 2048;
const MAX_LOCATION: usize = 2056;
const MAX_VALUE: usize = 512_000;

/// The name of a database or table in lower case. Glue would accept almost anything, but only words need no quotes in
/// SQL and in paths.
pub(crate) fn checked(what: &str, name: &str) -> Result<String> {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || !name.chars().all(word) {
        return Err(Error::usage(format!(
            "`{name}` is not a valid name for a {what}; use letters, digits, `_` and `-`"
        )));
    }
    limited(&format!("the name of a {what}"), name, MAX_NAME)?;
    Ok(folded(name))
}

/// The name of a database, as an argument of jobs. Names are case-insensitive.
///
/// ```
/// use hardtack_catalog::DatabaseName;
///
/// let database: DatabaseName = "Glue_Reference".parse()?;
/// assert_eq!(database.as_str(), "glue_reference");
/// assert!("s3://lake/books".parse::<DatabaseName>().is_err());
/// # Ok::<_, hardtack_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseName(String);

impl DatabaseName {
    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DatabaseName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = checked("database", text).map_err(|e| match text {
            _ if text.contains(['/', '\\', ':']) => e.hint("this is a location; name a database of the catalog"),
            _ if text.contains('.') => e.hint("name only the database; the job knows its tables"),
            _ => e,
        })?;
        Ok(Self(name))
    }
}

/// The name of a column in lower case. Crawlers find names of all sorts.
pub(crate) fn column(name: &str) -> Result<String> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(Error::usage(format!("`{}` is not a valid name for a column", name.escape_debug())));
    }
    limited("the name of a column", name, MAX_NAME)?;
    Ok(folded(name))
}

/// Names are case-insensitive and stored in lower case.
pub(crate) fn folded(name: &str) -> String {
    name.to_lowercase()
}

pub(crate) fn comment(text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Error::usage("a column's comment is one line; put the rest into the table's description"));
    }
    limited("a column's comment", text, MAX_COMMENT)?;
    Ok(Some(text.to_owned()))
}

pub(crate) fn description(text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    limited("a description", text, MAX_DESCRIPTION)?;
    Ok(Some(text.to_owned()))
}

pub(crate) fn location(location: &Location) -> Result<()> {
    limited("a location", location.as_str(), MAX_LOCATION)
}

pub(crate) fn parameters(parameters: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in parameters {
        if key.is_empty() {
            return Err(Error::usage("a parameter needs a name"));
        }
        limited("the name of a parameter", key, MAX_NAME)?;
        limited("the value of a parameter", value, MAX_VALUE).map_err(|e| e.with("parameter", key))?;
    }
    Ok(())
}

fn limited(what: &str, text: &str, bytes: usize) -> Result<()> {
    if text.len() <= bytes {
        return Ok(());
    }
    let start: String = text.chars().take(40).collect();
    Err(Error::usage(format!("{what} may have {bytes} bytes, but `{start}...` has {}", text.len())))
}

/// The name of a partition, which is also its folder: `year=2026/title=a%2Fb`. Escapes what Hive, Spark and Athena
/// escape and nothing else. Null is passed as [`NULL_PARTITION`](crate::NULL_PARTITION).
pub fn partition_name<'a>(
    keys: impl IntoIterator<Item = &'a str>,
    values: impl IntoIterator<Item = &'a String>,
) -> String {
    let parts = keys.into_iter().zip(values).map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
    parts.collect::<Vec<_>>().join("/")
}

/// Hive's list (`FileUtils.escapePathName`), which Spark and Athena use as well.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        let special = matches!(c, '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^');
        if special || c.is_ascii_control() {
            escaped.push_str(&format!("%{:02X}", c as u32));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Books", "books")]
    #[case("raw-books_2", "raw-books_2")]
    #[case("BÜCHER", "bücher")]
    fn names_fold_to_lower_case(#[case] given: &str, #[case] folded: &str) {
        assert_eq!(checked("table", given).unwrap(), folded);
    }

    #[rstest]
    #[case("")]
    #[case("a.b")]
    #[case("a b")]
    #[case("a/b")]
    #[case("a\nb")]
    #[case("x`y")]
    fn what_is_no_word_is_refused(#[case] given: &str) {
        let error = checked("table", given).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`{given}` is not a valid name for a table; use letters, digits, `_` and `-`")
        );
    }

    #[rstest]
    #[case("Raw", "raw")]
    #[case("", "`` is not a valid name for a database; use letters, digits, `_` and `-`")]
    #[case("my lake", "`my lake` is not a valid name for a database; use letters, digits, `_` and `-`")]
    #[case(
        "s3://lake",
        "`s3://lake` is not a valid name for a database; use letters, digits, `_` and `-` (hint: this is a location; name a database of the catalog)"
    )]
    #[case(
        "target/lake",
        "`target/lake` is not a valid name for a database; use letters, digits, `_` and `-` (hint: this is a location; name a database of the catalog)"
    )]
    #[case(
        "raw.books",
        "`raw.books` is not a valid name for a database; use letters, digits, `_` and `-` (hint: name only the database; the job knows its tables)"
    )]
    fn arguments_name_databases(#[case] given: &str, #[case] expected: &str) {
        let found = given.parse::<DatabaseName>();
        assert_eq!(found.map_or_else(|e| e.to_string(), |name| name.to_string()), expected);
    }

    #[test]
    fn limits_are_those_of_glue() {
        assert!(checked("table", &"x".repeat(255)).is_ok());
        let error = checked("table", &"ä".repeat(128)).unwrap_err();
        insta::assert_snapshot!(error, @"the name of a table may have 255 bytes, but `ääääääääääääääääääääääääääääääääääääääää...` has 256");
        insta::assert_snapshot!(comment(Some("two\nlines")).unwrap_err(), @"a column's comment is one line; put the rest into the table's description");
        insta::assert_snapshot!(column(" ").unwrap_err(), @"` ` is not a valid name for a column");
        let parameter = BTreeMap::from([("k".to_owned(), "v".repeat(512_001))]);
        insta::assert_snapshot!(parameters(&parameter).unwrap_err(), @"the value of a parameter may have 512000 bytes, but `vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv...` has 512001 (parameter: k)");
        assert_eq!(comment(Some("")).unwrap(), None);
    }

    #[rstest]
    #[case("plain", "plain")]
    #[case("a/b=c", "a%2Fb%3Dc")]
    #[case("100% {x}", "100%25 %7Bx}")]
    #[case("München 東京", "München 東京")]
    #[case("tab\there", "tab%09here")]
    #[case("'\"\\^[]#*?:", "%27%22%5C%5E%5B%5D%23%2A%3F%3A")]
    fn folders_are_escaped_as_hive_does(#[case] value: &str, #[case] folder: &str) {
        assert_eq!(partition_name(["a=b"], &[value.to_owned()]), format!("a%3Db={folder}"));
    }
}
