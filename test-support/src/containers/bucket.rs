//! Buckets for tests.

use std::fs;
use std::path::Path as FilePath;

use futures::TryStreamExt;
use hardtack_core::Location;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Deserialize;

use super::S3;
use super::service::{Request, at_the_end, unique_name, wait};
use crate::frame::Frame;
use crate::lake::TempLake;

/// A bucket that is removed with all its objects when this value is dropped. It is used like a [`TempLake`], and can be
/// downloaded as one.
///
/// Paths are keys. All methods may be called from any test, asynchronous or not, and panic if S3 does not respond.
#[derive(Debug)]
pub struct Bucket {
    s3: S3,
    name: String,
    store: AmazonS3,
}

/// The response to a request for uploads.
#[derive(Debug, Deserialize)]
struct Uploads {
    #[serde(default, rename = "Upload")]
    uploads: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
}

impl Bucket {
    #[track_caller]
    pub(super) fn new(s3: S3) -> Self {
        let name = unique_name('-');
        let store = s3.store(&name).expect("an endpoint is a URL");
        let bucket = Self { s3, name, store };
        bucket.request("PUT", "").unwrap_or_else(|e| panic!("the bucket cannot be created: {e}"));
        bucket
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its service, for its [`env`](S3::env) and its [`endpoint`](S3::endpoint).
    pub fn s3(&self) -> &S3 {
        &self.s3
    }

    /// The bucket as a location: `s3://NAME`.
    pub fn location(&self) -> Location {
        format!("s3://{}", self.name).into()
    }

    /// The bucket as an object store, for operations that this type does not have: multipart uploads, conditional
    /// writes.
    pub fn store(&self) -> &AmazonS3 {
        &self.store
    }

    /// The location of an object or folder in it.
    pub fn at(&self, path: &str) -> Location {
        self.location().join(path)
    }

    /// Writes an object.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let content = content.as_ref().to_vec();
        wait(self.store.put(&key(path), content.into())).unwrap_or_else(|e| panic!("{path} cannot be written: {e}"));
    }

    /// Uploads a file, or a folder with its content, such as a project's fixtures.
    #[track_caller]
    pub fn copy(&self, path: &str, from: impl AsRef<FilePath>) {
        let lake = TempLake::new();
        lake.copy(path, from);
        for file in lake.files(path) {
            self.write(&file, fs::read(lake.path().join(&file)).expect("a file that was just written"));
        }
    }

    /// The bytes of an object.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        let read = wait(async { self.store.get(&key(path)).await?.bytes().await });
        read.unwrap_or_else(|e| panic!("{path} cannot be read: {e}")).to_vec()
    }

    /// Removes an object.
    #[track_caller]
    pub fn remove(&self, path: &str) {
        wait(self.store.delete(&key(path))).unwrap_or_else(|e| panic!("{path} cannot be removed: {e}"));
    }

    /// The sorted keys of all objects below a folder (`""` means all objects).
    #[track_caller]
    pub fn files(&self, folder: &str) -> Vec<String> {
        let prefix = key(folder);
        let found = wait(self.store.list(Some(&prefix)).map_ok(|meta| meta.location.to_string()).try_collect());
        let mut files: Vec<_> = found.unwrap_or_else(|e| panic!("{} cannot be listed: {e}", self.at(folder)));
        files.sort();
        files
    }

    /// The keys of all multipart uploads that were begun and neither completed nor aborted: staged files, or leftovers.
    #[track_caller]
    pub fn open_uploads(&self) -> Vec<String> {
        let answer = self.request("GET", "?uploads").unwrap_or_else(|e| panic!("uploads cannot be listed: {e}"));
        let parsed: Result<Uploads, _> = quick_xml::de::from_str(&answer);
        let uploads = parsed.unwrap_or_else(|e| panic!("{answer} is not a list of uploads: {e}")).uploads;
        uploads.into_iter().map(|upload| upload.key).collect()
    }

    /// Downloads all objects to a folder.
    #[track_caller]
    pub fn download(&self) -> TempLake {
        let lake = TempLake::new();
        for file in self.files("") {
            lake.write(&file, self.read(&file));
        }
        lake
    }

    /// All rows of the Parquet files at a location in the bucket, as [`TempLake::read_parquet`] reads them.
    ///
    /// # Panics
    /// If the location is not in this bucket, or a file cannot be read.
    #[track_caller]
    pub fn read_parquet(&self, location: &Location) -> Frame {
        let prefix = format!("{}/", self.location());
        let key = location.as_str().strip_prefix(&prefix);
        self.download().read_parquet(key.unwrap_or_else(|| panic!("{location} is not in {prefix}")))
    }

    fn request(&self, method: &str, query: &str) -> Result<String, String> {
        let target = format!("/{}{query}", self.name);
        let request = Request { service: "s3", method, target: &target, headers: &[], body: Vec::new() };
        self.s3.0.request(request).map_err(|e| format!("{method} {target}: {e}"))
    }
}

/// Parsed unchanged: other tools write keys that this one would not.
#[track_caller]
fn key(path: &str) -> Path {
    Path::parse(path).unwrap_or_else(|e| panic!("`{path}` is not a key: {e}"))
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let keys = self.store.list(None).map_ok(|meta| meta.location);
        let emptied: Result<Vec<_>, _> = wait(self.store.delete_stream(Box::pin(keys)).try_collect());
        let removed = emptied.map_err(|e| e.to_string()).and_then(|_| self.request("DELETE", ""));
        at_the_end(removed);
    }
}
