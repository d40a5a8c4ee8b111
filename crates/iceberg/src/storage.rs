//! The files of Iceberg tables in the stores of the run, so that credentials, retries and test doubles are the same for
//! every kind of table.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use hardtack_core::{Error, Location, Store, Stores};
use iceberg::Result;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig,
    StorageFactory,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::carried;

/// The files in these stores.
pub(crate) fn file_io(stores: Arc<Stores>) -> FileIO {
    FileIOBuilder::new(Arc::new(StoresFactory(OfThisProcess(stores)))).build()
}

/// Stores belong to the process that opened them. The traits of `iceberg` demand that they can be sent to another one,
/// which nothing in this crate does.
#[derive(Debug, Clone)]
struct OfThisProcess(Arc<Stores>);

const NOT_SENT: &str = "the stores of a run cannot be sent to another process";

impl Serialize for OfThisProcess {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(NOT_SENT))
    }
}

impl<'de> Deserialize<'de> for OfThisProcess {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        Err(serde::de::Error::custom(NOT_SENT))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoresFactory(OfThisProcess);

#[typetag::serde(name = "hardtack_stores_factory")]
impl StorageFactory for StoresFactory {
    fn build(&self, _: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(StoresStorage(self.0.clone())))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoresStorage(OfThisProcess);

impl StoresStorage {
    fn open(&self, path: &str) -> Result<(Store, Path)> {
        self.0.0.open(&Location::from(path)).map_err(carried)
    }
}

/// An error of a store, with the file.
fn at(path: &str) -> impl FnOnce(object_store::Error) -> iceberg::Error {
    move |e| carried(Error::from(e).with("file", path))
}

/// What others have deleted meanwhile is gone, too.
fn gone<T>(deleted: object_store::Result<T>) -> object_store::Result<()> {
    match deleted {
        Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(e) => Err(e),
    }
}

#[async_trait]
#[typetag::serde(name = "hardtack_stores")]
impl Storage for StoresStorage {
    async fn exists(&self, path: &str) -> Result<bool> {
        self.0.0.exists(&Location::from(path)).await.map_err(carried)
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        let (store, key) = self.open(path)?;
        let meta = store.objects.head(&key).await.map_err(at(path))?;
        Ok(FileMetadata { size: meta.size })
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        let (store, key) = self.open(path)?;
        let read = async { store.objects.get(&key).await?.bytes().await };
        read.await.map_err(at(path))
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        let (store, key) = self.open(path)?;
        Ok(Box::new(Reader { objects: store.objects, key, path: path.to_owned() }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        let (store, key) = self.open(path)?;
        // Flushed to the disk if the run asks for that.
        store.staging.put_unseen(vec![(key, bytes)]).await.map_err(carried)
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        Ok(Box::new(Writer { storage: self.clone(), path: path.to_owned(), held: BytesMut::new() }))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let (store, key) = self.open(path)?;
        gone(store.objects.delete(&key).await).map_err(at(path))
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        let (store, key) = self.open(path)?;
        let found = store.objects.list(Some(&key)).map_ok(|meta| meta.location).boxed();
        let mut deleted = store.objects.delete_stream(found);
        while let Some(deleted) = deleted.next().await {
            gone(deleted).map_err(at(path))?;
        }
        store.staging.prune(&key).await.map_err(carried)
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> Result<()> {
        while let Some(path) = paths.next().await {
            self.delete(&path).await?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct Reader {
    objects: Arc<dyn ObjectStore>,
    key: Path,
    path: String,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.objects.get_range(&self.key, range).await.map_err(at(&self.path))
    }
}

/// Holds what is written and puts it at once: manifests are small, and a file that is there is whole.
struct Writer {
    storage: StoresStorage,
    path: String,
    held: BytesMut,
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.held.extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.held).freeze();
        self.storage.write(&self.path, bytes).await
    }
}
