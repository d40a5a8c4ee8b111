//! How sources and sinks get the catalog of their run.

use std::sync::Arc;

use async_trait::async_trait;
use hardtack_core::{Environment, Error, Location, Result};
use tokio::sync::OnceCell;

use crate::{Catalog, CatalogChoice};

/// The catalog of a run, opened on first use: a job that names no table needs none. It is an
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
    /// A handle to an open catalog.
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { identity: format!("{catalog:?}"), chosen: None, open: OnceCell::new_with(Some(catalog)) }
    }

    /// A handle to a catalog that is opened on first use; `state` is the default location of an embedded one.
    pub fn chosen(choice: CatalogChoice, state: Location) -> Self {
        let identity = match &choice {
            CatalogChoice::Embedded(Some(path)) => CatalogChoice::Embedded(Some(absolute(path))).to_string(),
            _ => choice.to_string(),
        };
        Self { identity, chosen: Some((choice, state)), open: OnceCell::new() }
    }

    /// The identity of the catalog. A run that saves to tables stores it in its commit record, and a process that rolls
    /// that run forward refuses to do so with another catalog.
    ///
    /// The embedded catalog at the state location is just `embedded`, wherever that is: the record is at the same
    /// location and moves with it. One elsewhere is identified by its full path. `glue` and `glue:CATALOG_ID` are as
    /// given; the account and region of `glue` depend on the environment and are not part of the identity. A REST
    /// catalog is identified by its address and warehouse.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The catalog.
    ///
    /// # Errors
    /// As for [`CatalogChoice::open`].
    pub async fn open(&self) -> Result<Arc<dyn Catalog>> {
        let open = async || match &self.chosen {
            Some((choice, state)) => choice.open(state).await,
            None => Err(Error::unexpected("a catalog that was given is there from the start")),
        };
        self.open.get_or_try_init(open).await.map(Arc::clone)
    }
}

/// The same path from every working directory.
fn absolute(path: &Location) -> Location {
    path.resolve().map_or_else(|_| path.clone(), |resolved| Location::of(&resolved.store, &resolved.path))
}

/// Access to the run's catalog, for [`Environment`] and the contexts that dereference to it.
#[async_trait]
pub trait CatalogOf {
    /// The catalog of this run.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the context has none; also as for [`CatalogChoice::open`].
    async fn catalog(&self) -> Result<Arc<dyn Catalog>>;

    /// Its handle.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the context has none.
    fn catalog_handle(&self) -> Result<Arc<CatalogHandle>>;
}

#[async_trait]
impl CatalogOf for Environment {
    async fn catalog(&self) -> Result<Arc<dyn Catalog>> {
        self.catalog_handle()?.open().await
    }

    fn catalog_handle(&self) -> Result<Arc<CatalogHandle>> {
        self.extension().ok_or_else(|| {
            Error::usage("a table is named, but this context has no catalog")
                .hint("give it one: `.extension(Arc::new(CatalogHandle::new(catalog)))`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardtack_core::JobContext;

    fn context(handle: CatalogHandle) -> JobContext {
        JobContext::builder("job").extension(Arc::new(handle)).build().unwrap()
    }

    #[tokio::test]
    async fn a_chosen_catalog_is_opened_when_it_is_asked_for() {
        // An embedded catalog must be on a disk. That only matters once a job names a table.
        let handle = CatalogHandle::chosen(CatalogChoice::default(), "s3://bucket/state".into());
        let ctx = context(handle);
        assert_eq!(ctx.catalog_handle().unwrap().identity(), "embedded");
        let error = ctx.catalog().await.unwrap_err();
        assert_eq!(error.kind(), hardtack_core::ErrorKind::Usage);
        #[cfg(feature = "embedded")]
        insta::assert_snapshot!(error, @"an embedded catalog is a file on a disk, but `s3://bucket/state/catalog.sqlite` is not; use `--catalog embedded:PATH` or `--catalog glue`");
    }

    #[cfg(feature = "embedded")]
    #[tokio::test]
    async fn it_is_opened_once() {
        let ctx = context(CatalogHandle::chosen(CatalogChoice::default(), "memory:/state".into()));
        ctx.catalog().await.unwrap().create_database(&crate::Database::new("lake")).await.unwrap();
        assert_eq!(ctx.catalog().await.unwrap().list_databases().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_context_may_have_no_catalog() {
        let ctx = JobContext::builder("job").build().unwrap();
        let error = ctx.catalog().await.unwrap_err();
        assert_eq!(error.kind(), hardtack_core::ErrorKind::Usage);
        insta::assert_snapshot!(error, @"a table is named, but this context has no catalog (hint: give it one: `.extension(Arc::new(CatalogHandle::new(catalog)))`)");
    }

    #[test]
    fn catalogs_have_names() {
        let name = |choice: &str, state: &str| {
            CatalogHandle::chosen(choice.parse().unwrap(), state.into()).identity().to_owned()
        };
        // The state location may be spelt in several ways, and may move.
        assert_eq!((name("embedded", ".hardtack"), name("embedded", "/x")), ("embedded".into(), "embedded".into()));
        assert_eq!(name("embedded:/data/./catalog.sqlite", "/x"), "embedded:/data/catalog.sqlite");
        assert!(name("embedded:catalog.sqlite", "/x").starts_with("embedded:/"));
        assert_eq!((name("glue", "/x"), name("glue:12", "/x")), ("glue".into(), "glue:12".into()));
    }
}
