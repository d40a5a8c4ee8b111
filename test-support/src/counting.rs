//! Stores that count the requests to them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use hardtack_core::store::StoreFactory;
use hardtack_core::{Location, Result, Store, Stores};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use url::Url;

/// The stores of `file:` and `memory:` locations, with the requests that read or list them.
///
/// ```
/// use std::sync::Arc;
///
/// use hardtack_core::JobContext;
/// use hardtack_test_support::CountingStores;
///
/// let stores = Arc::new(CountingStores::default());
/// let ctx = JobContext::builder("test").store_factory("memory", stores.clone()).build()?;
/// // ... read something ...
/// assert_eq!(stores.take(), []);
/// # let _ = ctx;
/// # Ok::<_, hardtack_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct CountingStores(Arc<Requests>);

impl CountingStores {
    /// The requests since the last call: `GET`, `HEAD` or `LIST`, and the path.
    pub fn take(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of requests of each kind since the last call.
    pub fn take_counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (kind, _) in self.take() {
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }
}

impl StoreFactory for CountingStores {
    fn open(&self, url: &Url) -> Result<Store> {
        let (plain, _) = Stores::new(false).open(&Location::from(url.as_str()))?;
        let objects = Arc::new(CountingStore { inner: plain.objects, requests: Arc::clone(&self.0) });
        Ok(Store { objects, ..plain })
    }
}

#[derive(Debug, Default)]
struct Requests(Mutex<Vec<(&'static str, String)>>);

impl Requests {
    fn add(&self, kind: &'static str, path: Option<&Path>) {
        let path = path.map(ToString::to_string).unwrap_or_default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((kind, path));
    }
}

#[derive(Debug)]
struct CountingStore {
    inner: Arc<dyn ObjectStore>,
    requests: Arc<Requests>,
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

type Stored<T> = object_store::Result<T>;

#[async_trait]
impl ObjectStore for CountingStore {
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Stored<GetResult> {
        self.requests.add(if options.head { "HEAD" } else { "GET" }, Some(path));
        self.inner.get_opts(path, options).await
    }

    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Stored<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Stored<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Stored<Path>>) -> BoxStream<'static, Stored<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Stored<ObjectMeta>> {
        self.requests.add("LIST", prefix);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Stored<ListResult> {
        self.requests.add("LIST", prefix);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Stored<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
