//! How sources and sinks come by the catalog of their run.

use std::sync::Arc;

use async_trait::async_trait;
use hardtack_core::{Error, JobContext, Location, Result};
use tokio::sync::OnceCell;

use crate::{Catalog, CatalogChoice};

/// The catalog of a run, opened when it is first asked for: a job that names no table needs none. It travels as an
/// [extension](hardtack_core::JobContextBuilder::extension) of the context.
///
/// ```
/// use std::sync::Arc;
/// use hardtack_catalog::{CatalogHandle, CatalogOf, EmbeddedCatalog};
/// use hardtack_core::JobContext;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> hardtack_core::Result<()> {
/// let catalog = CatalogHandle::new(Arc::new(EmbeddedCatalog::in_memory()));
/// let ctx = JobContext::builder("job").extension(Arc::new(catalog)).build()?;
/// assert!(ctx.catalog().await?.list_databases().await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CatalogHandle {
    identity: String,
    chosen: Option<(CatalogChoice, Location)>,
    open: OnceCell<Arc<dyn Catalog>>,
}

impl CatalogHandle {
    /// A catalog that is open already.
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { identity: format!("{catalog:?}"), chosen: None, open: OnceCell::new_with(Some(catalog)) }
    }

    /// A catalog to be opened; `state` is where an embedded one is by default.
    pub fn chosen(choice: CatalogChoice, state: Location) -> Self {
        let identity = match &choice {
            CatalogChoice::Embedded(None) => format!("{choice} at {state}"),
            _ => choice.to_string(),
        };
        Self { identity, chosen: Some((choice, state)), open: OnceCell::new() }
    }

    /// Which catalog this is, in words: what a commit record keeps, so that nobody publishes into another one.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The catalog.
    ///
    /// # Errors
    /// Those of [`CatalogChoice::open`].
    pub async fn open(&self) -> Result<Arc<dyn Catalog>> {
        let open = async || match &self.chosen {
            Some((choice, state)) => choice.open(state).await,
            None => Err(Error::unexpected("a catalog that was given is there from the start")),
        };
        self.open.get_or_try_init(open).await.map(Arc::clone)
    }
}

/// What has a catalog: [`JobContext`].
#[async_trait]
pub trait CatalogOf {
    /// The catalog of this run.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the context has none, or those of [`CatalogChoice::open`].
    async fn catalog(&self) -> Result<Arc<dyn Catalog>>;

    /// Its handle.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the context has none.
    fn catalog_handle(&self) -> Result<Arc<CatalogHandle>>;
}

#[async_trait]
impl CatalogOf for JobContext {
    async fn catalog(&self) -> Result<Arc<dyn Catalog>> {
        self.catalog_handle()?.open().await
    }

    fn catalog_handle(&self) -> Result<Arc<CatalogHandle>> {
        self.extension().ok_or_else(|| {
            Error::usage("a table is named, but this context has no catalog")
                .with("way out", "give it one: `.extension(Arc::new(CatalogHandle::new(catalog)))`")
        })
    }
}
