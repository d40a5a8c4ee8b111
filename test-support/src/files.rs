//! Files with times, in memory, under any URL.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::executor::block_on;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use hardtack_core::staging::MultipartStaging;
use hardtack_core::store::{Store, StoreFactory};
use hardtack_core::{Location, Result};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use url::Url;

/// The files of a test, by location: their contents and times.
#[derive(Debug, Clone, Default)]
pub(crate) struct GivenFiles(Arc<Mutex<Files>>);

type Files = BTreeMap<String, (Bytes, DateTime<Utc>)>;

impl GivenFiles {
    /// Adds or replaces a file.
    pub(crate) fn add(&self, location: &Location, content: Bytes, time: DateTime<Utc>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(location.as_str().to_owned(), (content, time));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The schemes of their locations.
    pub(crate) fn schemes(&self) -> BTreeSet<String> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.keys().filter_map(|location| Some(Location::from(location.as_str()).scheme()?.to_owned())).collect()
    }
}

impl StoreFactory for GivenFiles {
    fn open(&self, url: &Url) -> Result<Store> {
        let (objects, mut versions) = (Arc::new(InMemory::new()), BTreeMap::new());
        for (location, (content, time)) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let resolved = Location::from(location.as_str()).resolve()?;
            if resolved.store == *url {
                let put = objects.put_opts(&resolved.path, content.clone().into(), PutOptions::default());
                // In memory, it is done at once.
                block_on(put)?;
                let e_tag = format!("{:?}-{content:?}", time.timestamp_nanos_opt());
                versions.insert(resolved.path, Version { time: *time, e_tag });
            }
        }
        let staging = MultipartStaging::new(url.clone(), objects.clone(), objects.clone()).with_concurrency(1);
        Ok(Store {
            url: url.clone(),
            objects: Arc::new(Versioned { objects, versions: Arc::new(versions) }),
            staging: Arc::new(staging),
        })
    }
}

/// What a store says of an object.
#[derive(Debug)]
struct Version {
    time: DateTime<Utc>,
    /// The same in the next run's store.
    e_tag: String,
}

type Versions = BTreeMap<Path, Version>;

fn versioned(versions: &Versions, meta: ObjectMeta) -> ObjectMeta {
    match versions.get(&meta.location) {
        Some(Version { time, e_tag }) => ObjectMeta { last_modified: *time, e_tag: Some(e_tag.clone()), ..meta },
        None => meta,
    }
}

/// Objects with times and ETags of their own.
#[derive(Debug)]
struct Versioned {
    objects: Arc<InMemory>,
    versions: Arc<Versions>,
}

impl fmt::Display for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("files of a test")
    }
}

#[async_trait]
impl ObjectStore for Versioned {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.objects.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(at, options).await
    }

    /// The files do not change during a run, so a reader that asks for a version has that of the listing.
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let got = self.objects.get_opts(at, GetOptions { if_match: None, ..options }).await?;
        Ok(GetResult { meta: versioned(&self.versions, got.meta.clone()), ..got })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let versions = Arc::clone(&self.versions);
        self.objects.list(prefix).map_ok(move |meta| versioned(&versions, meta)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let listed = self.objects.list_with_delimiter(prefix).await?;
        let objects = listed.objects.into_iter().map(|meta| versioned(&self.versions, meta)).collect();
        Ok(ListResult { objects, ..listed })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
