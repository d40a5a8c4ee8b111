//! Which catalog a run uses.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hardtack_core::{Error, Location, Result};

use crate::RestAddress;
use crate::catalog::Catalog;

/// A catalog as given in an argument: `embedded`, `embedded:PATH`, `glue`, `glue:CATALOG_ID` or `rest:URL`.
///
/// ```
/// use hardtack_catalog::CatalogChoice;
///
/// assert_eq!("glue:123456789012".parse::<CatalogChoice>()?, CatalogChoice::Glue(Some("123456789012".into())));
/// assert_eq!(CatalogChoice::default().to_string(), "embedded");
/// # Ok::<_, hardtack_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogChoice {
    /// One SQLite file; `catalog.sqlite` at the state location if none is named.
    Embedded(Option<Location>),
    /// The AWS Glue Data Catalog of this account, or the one with this id (another account's number).
    Glue(Option<String>),
    /// The Iceberg REST catalog at this address.
    Rest(RestAddress),
}

impl Default for CatalogChoice {
    fn default() -> Self {
        Self::Embedded(None)
    }
}

/// The name of the embedded catalog's file at the state location.
const FILE: &str = "catalog.sqlite";

impl CatalogChoice {
    /// Opens the catalog lazily: nothing is read, written or requested before its first use.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if an embedded catalog's location is not on a file system, a region
    /// is missing, the credentials for a REST catalog are ambiguous, or this binary was built without support for the
    /// catalog.
    pub async fn open(&self, state: &Location) -> Result<Arc<dyn Catalog>> {
        match self {
            Self::Embedded(path) => open_embedded(path.as_ref().unwrap_or(&state.join(FILE))),
            Self::Glue(id) => open_glue(id.as_deref()).await,
            Self::Rest(address) => open_rest(address),
        }
    }
}

#[cfg(feature = "embedded")]
fn open_embedded(location: &Location) -> Result<Arc<dyn Catalog>> {
    Ok(Arc::new(crate::EmbeddedCatalog::open(location)?))
}

#[cfg(not(feature = "embedded"))]
fn open_embedded(_: &Location) -> Result<Arc<dyn Catalog>> {
    Err(built_without("embedded"))
}

#[cfg(feature = "aws")]
async fn open_glue(id: Option<&str>) -> Result<Arc<dyn Catalog>> {
    Ok(Arc::new(crate::GlueCatalog::open(id).await?))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "with the feature `aws` it awaits the configuration")]
async fn open_glue(_: Option<&str>) -> Result<Arc<dyn Catalog>> {
    Err(built_without("aws"))
}

#[cfg(feature = "rest")]
fn open_rest(address: &RestAddress) -> Result<Arc<dyn Catalog>> {
    Ok(Arc::new(crate::RestCatalog::open(address.clone())?))
}

#[cfg(not(feature = "rest"))]
fn open_rest(_: &RestAddress) -> Result<Arc<dyn Catalog>> {
    Err(built_without("iceberg"))
}

#[cfg(not(all(feature = "embedded", feature = "aws", feature = "rest")))]
pub(crate) fn built_without(feature: &str) -> Error {
    Error::usage("this binary was built without support for this catalog")
        .hint(format!("enable the feature `{feature}` of the hardtack crate"))
}

impl FromStr for CatalogChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::usage(format!(
                "`{text}` is not a catalog: {why}; expected `embedded`, `embedded:PATH`, `glue`, `glue:CATALOG_ID` or \
                 `rest:URL`"
            ))
        };
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        if rest == Some("") {
            return Err(invalid("nothing follows the colon"));
        }
        match kind {
            "embedded" => Ok(Self::Embedded(rest.map(Location::parse).transpose()?)),
            "glue" => Ok(Self::Glue(rest.map(str::to_owned))),
            "rest" => Ok(Self::Rest(rest.ok_or_else(|| invalid("the address is missing"))?.parse()?)),
            _ => Err(invalid(&format!("there is no kind `{kind}`"))),
        }
    }
}

impl fmt::Display for CatalogChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(None) => f.write_str("embedded"),
            Self::Embedded(Some(path)) => write!(f, "embedded:{path}"),
            Self::Glue(None) => f.write_str("glue"),
            Self::Glue(Some(id)) => write!(f, "glue:{id}"),
            Self::Rest(address) => write!(f, "rest:{address}"),
        }
    }
}

#[cfg(feature = "clap")]
impl clap::builder::ValueParserFactory for CatalogChoice {
    type Parser = clap::builder::ValueParser;
    fn value_parser() -> Self::Parser {
        clap::builder::ValueParser::new(|text: &str| text.parse::<Self>())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("embedded", CatalogChoice::Embedded(None))]
    #[case("embedded:data/catalog.sqlite", CatalogChoice::Embedded(Some("data/catalog.sqlite".into())))]
    #[case("embedded:file:///data/c", CatalogChoice::Embedded(Some("file:///data/c".into())))]
    #[case("glue", CatalogChoice::Glue(None))]
    #[case("glue:123456789012", CatalogChoice::Glue(Some("123456789012".into())))]
    #[case("rest:http://localhost:8181", CatalogChoice::Rest("http://localhost:8181/".parse().unwrap()))]
    #[case("rest:https://host/a?warehouse=b%2Fc+d", CatalogChoice::Rest("https://host/a/?warehouse=b/c%20d".parse().unwrap()))]
    fn parses_and_prints(#[case] text: &str, #[case] choice: CatalogChoice) {
        assert_eq!(text.parse::<CatalogChoice>().unwrap(), choice);
        assert_eq!(choice.to_string(), text);
    }

    #[test]
    fn refuses() {
        let refuse = |text: &str| text.parse::<CatalogChoice>().unwrap_err();
        insta::assert_snapshot!(refuse("hive"), @"`hive` is not a catalog: there is no kind `hive`; expected `embedded`, `embedded:PATH`, `glue`, `glue:CATALOG_ID` or `rest:URL`");
        insta::assert_snapshot!(refuse("embedded:"), @"`embedded:` is not a catalog: nothing follows the colon; expected `embedded`, `embedded:PATH`, `glue`, `glue:CATALOG_ID` or `rest:URL`");
        insta::assert_snapshot!(refuse("rest"), @"`rest` is not a catalog: the address is missing; expected `embedded`, `embedded:PATH`, `glue`, `glue:CATALOG_ID` or `rest:URL`");
        for address in ["lake.example.com", "ftp://host", "https://"] {
            insta::allow_duplicates! { insta::assert_snapshot!(refuse(&format!("rest:{address}")), @"expected the address of an Iceberg REST catalog such as `rest:https://host/path?warehouse=NAME`"); }
        }
        let secret = refuse("rest:https://me:hunter2@host/path");
        assert!(!format!("{secret:?}").contains("hunter2"));
        insta::assert_snapshot!(secret, @"the address of a catalog contains a name or a password, which would appear in logs (hint: put them into `HARDTACK_CATALOG_CREDENTIAL`, or a token into `HARDTACK_CATALOG_TOKEN`)");
        insta::assert_snapshot!(refuse("rest:https://host/path?prefix=x"), @"the address of a catalog has one parameter, `warehouse` (parameter: prefix)");
        insta::assert_snapshot!(refuse("rest:https://host/path?warehouse="), @"the address of a catalog has one parameter, `warehouse` (parameter: warehouse)");
        insta::assert_snapshot!(refuse("rest:https://host/path#x"), @"the address of a catalog has no part after `#` (hint: write `%23` in a name)");
        insta::assert_snapshot!(refuse("embedded:ftp://x"), @"`ftp://x` is not a location: the scheme `ftp` is unknown; expected a URL or path such as `s3://my-bucket/lake`, `file:///data/lake` or `fixtures/lake`");
    }

    #[cfg(feature = "embedded")]
    #[tokio::test]
    async fn the_embedded_catalog_is_at_the_state_location() {
        let show = |choice: CatalogChoice, state: &'static str| async move {
            match choice.open(&Location::from(state)).await {
                Ok(catalog) => format!("{catalog:?}"),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(
            show(CatalogChoice::default(), "/data/.hardtack").await,
            r#"EmbeddedCatalog(File("/data/.hardtack/catalog.sqlite"))"#
        );
        assert_eq!(
            show(CatalogChoice::Embedded(Some("/x/a b.db".into())), "s3://b/state").await,
            r#"EmbeddedCatalog(File("/x/a b.db"))"#
        );
        assert_eq!(show(CatalogChoice::default(), "memory:/state").await, "EmbeddedCatalog(Memory)");
        insta::assert_snapshot!(show(CatalogChoice::default(), "s3://bucket/state").await, @"an embedded catalog is a file on a disk, but `s3://bucket/state/catalog.sqlite` is not; use `--catalog embedded:PATH` or `--catalog glue`");
    }
}
