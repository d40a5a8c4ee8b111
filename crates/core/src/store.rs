//! Object stores by location, opened on first use.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use crate::staging::{LocalStaging, MultipartStaging, Staging};
use crate::{Error, Location, Result};

/// An open store: where objects are read and deleted, and how new ones are staged.
#[derive(Debug, Clone)]
pub struct Store {
    /// The store's root: `file:///`, `s3://bucket/`, `memory:///`.
    pub url: Url,
    /// Reading, listing, deleting, conditional puts.
    pub objects: Arc<dyn ObjectStore>,
    /// Writing files that nobody sees before they are published.
    pub staging: Arc<dyn Staging>,
}

/// Opens the stores of one URL scheme. Implement it to bring a store that this framework does not know.
pub trait StoreFactory: Debug + Send + Sync {
    /// Opens the store at `url`, which has no path.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a configuration that cannot work.
    fn open(&self, url: &Url) -> Result<Store>;
}

/// The stores of one session. Every store that is opened is registered with DataFusion too.
#[derive(Debug)]
pub struct Stores {
    env: Arc<RuntimeEnv>,
    factories: HashMap<String, Arc<dyn StoreFactory>>,
    open: Mutex<HashMap<Url, Store>>,
}

impl Stores {
    /// Stores for `file:` and `memory:` locations, registered with `env`. `fsync` makes local files survive a power loss.
    pub fn new(env: Arc<RuntimeEnv>, fsync: bool) -> Self {
        let mut factories: HashMap<String, Arc<dyn StoreFactory>> = HashMap::new();
        factories.insert("file".to_owned(), Arc::new(LocalStores { fsync }));
        factories.insert("memory".to_owned(), Arc::new(MemoryStores));
        Self { env, factories, open: Mutex::default() }
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
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(&resolved.store) {
            return Ok((store.clone(), resolved.path));
        }
        let scheme = resolved.store.scheme();
        let factory = self.factories.get(scheme).ok_or_else(|| {
            Error::usage(format!("this binary was built without support for `{scheme}:` locations"))
                .with("location", location)
                .with("way out", "enable the feature `aws` of the hardtack crate")
        })?;
        let store = factory.open(&resolved.store).map_err(|e| e.with("location", location))?;
        self.env.register_object_store(&resolved.store, Arc::clone(&store.objects));
        open.insert(resolved.store, store.clone());
        Ok((store, resolved.path))
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
        // `InMemory::put_part` loses parts that arrive out of order, so they go one at a time.
        let staging = MultipartStaging::new(url.clone(), objects.clone(), objects.clone()).with_concurrency(1);
        Ok(Store { url: url.clone(), objects, staging: Arc::new(staging) })
    }
}
