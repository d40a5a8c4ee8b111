//! Object stores by location, opened on first use.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use crate::staging::{LocalStaging, MultipartStaging, Staging};
use crate::{Error, Location, Result};

/// An open store: reads, deletes and stages objects.
#[derive(Debug, Clone)]
pub struct Store {
    /// The store's root: `file:///`, `s3://bucket/`, `memory:///`.
    pub url: Url,
    /// Reading, listing, deleting, conditional puts.
    pub objects: Arc<dyn ObjectStore>,
    /// Stages files that are invisible until they are published.
    pub staging: Arc<dyn Staging>,
}

/// Opens the stores of one URL scheme. Implement it to add another kind of store.
pub trait StoreFactory: Debug + Send + Sync {
    /// Opens the store at `url`, which has no path.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a configuration that cannot work.
    fn open(&self, url: &Url) -> Result<Store>;
}

/// The stores of one session. It is also the session's registry, so that SQL (`create external table ... location
/// 's3://...'`) finds the same stores.
#[derive(Debug)]
pub struct Stores {
    factories: HashMap<String, Arc<dyn StoreFactory>>,
    open: Mutex<HashMap<Url, Store>>,
    /// The stores that were registered with the session directly.
    registered: DefaultObjectStoreRegistry,
}

impl Stores {
    /// Stores for `file:` and `memory:` locations. With `fsync`, staged local files are flushed to the disk.
    pub fn new(fsync: bool) -> Self {
        let mut factories: HashMap<String, Arc<dyn StoreFactory>> = HashMap::new();
        factories.insert("file".to_owned(), Arc::new(LocalStores { fsync }));
        factories.insert("memory".to_owned(), Arc::new(MemoryStores));
        Self { factories, open: Mutex::default(), registered: DefaultObjectStoreRegistry::new() }
    }

    /// Adds or replaces the factory for a URL scheme.
    #[must_use]
    pub fn with_factory(mut self, scheme: &str, factory: Arc<dyn StoreFactory>) -> Self {
        self.factories.insert(scheme.to_owned(), factory);
        self
    }

    /// The store of `location`, and the path in it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a location that does not parse or has no factory.
    pub fn open(&self, location: &Location) -> Result<(Store, Path)> {
        let resolved = location.resolve()?;
        let store = self.open_root(&resolved.store).map_err(|e| e.with("location", location))?;
        Ok((store, resolved.path))
    }

    fn open_root(&self, root: &Url) -> Result<Store> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(root) {
            return Ok(store.clone());
        }
        let scheme = root.scheme();
        let factory = self.factories.get(scheme).ok_or_else(|| {
            Error::usage(format!("this binary was built without support for `{scheme}:` locations"))
                .hint("enable the feature `aws` of the hardtack crate")
        })?;
        let store = factory.open(root)?;
        open.insert(root.clone(), store.clone());
        Ok(store)
    }

    /// Whether `location` names an existing object (not a folder).
    ///
    /// # Errors
    /// Those of [`Stores::open`] and of the store.
    pub async fn exists(&self, location: &Location) -> Result<bool> {
        let (store, path) = self.open(location)?;
        match store.objects.head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(Error::from(e).with("location", location)),
        }
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.registered.register_store(url, store)
    }

    /// The store from a factory, or else one that was registered directly.
    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        match Location::from(url.as_str()).resolve().and_then(|resolved| self.open_root(&resolved.store)) {
            Ok(store) => Ok(store.objects),
            Err(error) => self.registered.get_store(url).map_err(|_| error.into()),
        }
    }
}

#[derive(Debug)]
struct LocalStores {
    fsync: bool,
}

impl StoreFactory for LocalStores {
    fn open(&self, url: &Url) -> Result<Store> {
        let objects = Arc::new(LocalFileSystem::new());
        let staging = Arc::new(LocalStaging::new(Arc::clone(&objects), self.fsync));
        Ok(Store { url: url.clone(), objects, staging })
    }
}

#[derive(Debug)]
struct MemoryStores;

impl StoreFactory for MemoryStores {
    fn open(&self, url: &Url) -> Result<Store> {
        let objects = Arc::new(InMemory::new());
        // `InMemory::put_part` loses parts that arrive out of order, so they are sent one at a time.
        let staging = MultipartStaging::new(url.clone(), objects.clone(), objects.clone()).with_concurrency(1);
        Ok(Store { url: url.clone(), objects, staging: Arc::new(staging) })
    }
}
