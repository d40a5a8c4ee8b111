//! An object store that counts what is read through it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use hardtack_core::Meter;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// Counts the bytes that are asked for.
#[derive(Debug)]
pub(crate) struct MeteredStore {
    inner: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
}

impl MeteredStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let got = self.inner.get_opts(path, options).await?;
        if !head {
            self.meter.add_bytes(got.range.end - got.range.start);
        }
        Ok(got)
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let got = self.inner.get_ranges(path, ranges).await?;
        self.meter.add_bytes(got.iter().map(|bytes| bytes.len() as u64).sum());
        Ok(got)
    }

    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, TryStreamExt, stream};
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    /// What DataFusion's readers do not ask for today, they may tomorrow.
    #[tokio::test]
    async fn it_does_what_the_store_inside_does_and_counts_what_is_read() {
        let (inner, meter) = (Arc::new(InMemory::new()), Arc::<Meter>::default());
        let store = MeteredStore::new(Arc::clone(&inner) as Arc<dyn ObjectStore>, Arc::clone(&meter));
        let [a, b, c] = ["in/a", "in/below/b", "c"].map(Path::from);
        let names = |found: Vec<ObjectMeta>| found.into_iter().map(|meta| meta.location).collect::<Vec<_>>();

        store.put(&a, "0123456789".into()).await.unwrap();
        let mut upload = store.put_multipart(&b).await.unwrap();
        upload.put_part("parts".into()).await.unwrap();
        upload.complete().await.unwrap();
        store.copy(&a, &c).await.unwrap();
        for (path, content) in [(&a, "0123456789"), (&b, "parts"), (&c, "0123456789")] {
            assert_eq!(inner.get(path).await.unwrap().bytes().await.unwrap(), content);
        }
        let folder = Path::from("in");
        let mut listed = names(store.list(Some(&folder)).try_collect().await.unwrap());
        listed.sort();
        assert_eq!(listed, [a.clone(), b.clone()]);
        assert_eq!(names(store.list_with_delimiter(Some(&folder)).await.unwrap().objects), std::slice::from_ref(&a));
        assert_eq!(store.to_string(), inner.to_string());
        assert_eq!(store.head(&a).await.unwrap().size, 10);
        assert_eq!(meter.counts().bytes, 0, "nothing was read so far");

        assert_eq!(store.get(&a).await.unwrap().bytes().await.unwrap(), "0123456789");
        assert_eq!(meter.counts().bytes, 10);
        assert_eq!(store.get_range(&a, 3..7).await.unwrap(), "3456");
        assert_eq!(meter.counts().bytes, 14);
        assert_eq!(store.get_ranges(&a, &[0..1, 8..10]).await.unwrap(), ["0", "89"]);
        assert_eq!(meter.counts().bytes, 17);

        let gone: Vec<Path> = store.delete_stream(stream::iter([Ok(a.clone())]).boxed()).try_collect().await.unwrap();
        assert_eq!(gone, std::slice::from_ref(&a));
        assert!(inner.head(&a).await.is_err());
    }
}
