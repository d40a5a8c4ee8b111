//! Where an Iceberg REST catalog is.

use std::fmt;
use std::str::FromStr;

use hardtack_core::{Error, Result};
use url::Url;

/// The address of an Iceberg REST catalog, and the name of a warehouse if the server has several.
///
/// ```
/// use hardtack_catalog::RestAddress;
///
/// let address: RestAddress = "https://lake.example.com/iceberg?warehouse=sales".parse()?;
/// assert_eq!(address.uri(), "https://lake.example.com/iceberg");
/// assert_eq!(address.warehouse(), Some("sales"));
/// # Ok::<_, hardtack_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestAddress {
    uri: String,
    warehouse: Option<String>,
}

impl RestAddress {
    /// The address without a slash at its end. `/v1/config` follows it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The warehouse.
    pub fn warehouse(&self) -> Option<&str> {
        self.warehouse.as_deref()
    }
}

impl FromStr for RestAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        // Not shown: it may contain a password.
        let mut url = url.ok_or_else(|| {
            Error::usage(
                "expected the address of an Iceberg REST catalog such as `rest:https://host/path?warehouse=NAME`",
            )
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::usage(
                "the address of a catalog contains a name or a password, which would appear in logs",
            )
            .hint("put them into `HARDTACK_CATALOG_CREDENTIAL`, or a token into `HARDTACK_CATALOG_TOKEN`"));
        }
        let mut warehouse = None;
        for (key, value) in url.query_pairs() {
            if key != "warehouse" || warehouse.is_some() || value.is_empty() {
                return Err(
                    Error::usage("the address of a catalog has one parameter, `warehouse`").with("parameter", key)
                );
            }
            warehouse = Some(value.into_owned());
        }
        if url.fragment().is_some() {
            return Err(Error::usage("the address of a catalog has no part after `#`").hint("write `%23` in a name"));
        }
        url.set_query(None);
        Ok(Self { uri: url.as_str().trim_end_matches('/').to_owned(), warehouse })
    }
}

impl fmt::Display for RestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)?;
        let Some(warehouse) = &self.warehouse else { return Ok(()) };
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("warehouse", warehouse).finish();
        write!(f, "?{query}")
    }
}
