//! The port to the store that holds the state.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use hardtack_core::staging::Staging;
use hardtack_core::{Error, Location, Result, Stores};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

/// A store of small objects by key, with create-if-absent. Keys are paths of names separated by `/`; a name contains no
/// `/`.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait StateStore: Debug + Send + Sync {
    /// Writes `value` atomically if `key` does not exist; returns whether it was written.
    async fn create(&self, key: &str, value: Bytes) -> Result<bool>;

    /// Writes `value`, replacing any existing one.
    async fn put(&self, key: &str, value: Bytes) -> Result<()>;

    /// The value of `key`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// The keys below `prefix/` in order; only those after `after`, if given.
    async fn list<'a>(&self, prefix: &'a str, after: Option<&'a str>) -> Result<Vec<String>>;

    /// Removes `key`, if it exists.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Finds half-written files below `prefix/` that killed processes have left and nobody has modified since
    /// `_before`, on stores that have such files (file systems); removes them unless this is a dry run.
    async fn sweep_half_written(&self, _prefix: &str, _before: DateTime<Utc>, _dry_run: bool) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// State in a folder of an object store or file system.
#[derive(Debug)]
pub struct ObjectState {
    objects: Arc<dyn ObjectStore>,
    staging: Arc<dyn Staging>,
    root: Path,
    location: Location,
}

impl ObjectState {
    /// Opens the state below `location`.
    ///
    /// # Errors
    /// Those of [`Stores::open`].
    pub fn open(stores: &Stores, location: &Location) -> Result<Self> {
        let (store, root) = stores.open(location)?;
        Ok(Self { objects: store.objects, staging: store.staging, root, location: location.clone() })
    }

    fn path(&self, key: &str) -> Result<Path> {
        // Parsed, not encoded: the ledger has already encoded the names in a key.
        Path::parse(format!("{}/{key}", self.root).trim_matches('/')).map_err(|e| self.failed(key, e.into()))
    }

    fn failed(&self, key: &str, error: object_store::Error) -> Error {
        let kind = Error::from(error);
        Error::new(kind.kind(), "the state location failed")
            .with("state", &self.location)
            .with("object", key)
            .because(kind)
    }
}

#[async_trait]
impl StateStore for ObjectState {
    async fn create(&self, key: &str, value: Bytes) -> Result<bool> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(&self.path(key)?, PutPayload::from(value), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(e) => Err(self.failed(key, e)),
        }
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.objects.put(&self.path(key)?, PutPayload::from(value)).await.map_err(|e| self.failed(key, e))?;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.objects.get(&self.path(key)?).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(|e| self.failed(key, e))?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(key, e)),
        }
    }

    async fn list<'a>(&self, prefix: &'a str, after: Option<&'a str>) -> Result<Vec<String>> {
        let folder = self.path(prefix)?;
        let listed = match after {
            Some(after) => self.objects.list_with_offset(Some(&folder), &self.path(after)?),
            None => self.objects.list(Some(&folder)),
        };
        let found: Vec<_> = listed.try_collect().await.map_err(|e| self.failed(prefix, e))?;
        let mut keys: Vec<String> = found
            .iter()
            .filter_map(|meta| {
                let parts: Vec<_> = meta.location.prefix_match(&folder)?.map(|p| p.as_ref().to_owned()).collect();
                let below = parts.join("/");
                Some(if prefix.is_empty() { below } else { format!("{prefix}/{below}") })
            })
            .collect();
        keys.sort();
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self.objects.delete(&self.path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed(key, e)),
        }
    }

    async fn sweep_half_written(&self, prefix: &str, before: DateTime<Utc>, dry_run: bool) -> Result<Vec<String>> {
        let found = self.staging.sweep_half_written(&self.path(prefix)?, before, dry_run).await?;
        Ok(found.iter().map(ToString::to_string).collect())
    }
}
