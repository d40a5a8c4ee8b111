//! Reads files as they were listed. A file that is replaced, truncated or appended to before it was read to its end
//! contains other rows than the listing promised, or half of them, so reading it fails.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use hardtack_core::{Error, ErrorKind, Meter};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, coalesce_ranges,
};
use tokio::io::{AsyncRead, ReadBuf};
use url::Url;

/// The error for a file that is not as it was listed.
fn changed(what: &str) -> Error {
    Error::new(ErrorKind::Changed, format!("the file {what} since it was listed"))
        .hint("run again; writers should write new files, under a hidden name (`.new`) until they are complete")
}

/// Describes how the current version of a file differs from the one that was listed, if it does.
fn compare(listed: &ObjectMeta, size: u64, modified: impl Into<chrono::DateTime<chrono::Utc>>) -> Option<Error> {
    let bytes = |size: u64| format!("{size} bytes");
    if size != listed.size {
        return Some(changed("has changed").with("listed", bytes(listed.size)).with("now", bytes(size)));
    }
    (modified.into() != listed.last_modified).then(|| changed("has been rewritten"))
}

// --- stores --------------------------------------------------------------------------------------------------------

/// A store whose files are read in the version that was listed: object stores are asked for it (`If-Match`), and the
/// state of a local file is compared when it is opened and after it was read. Requested bytes are counted.
#[derive(Debug)]
pub(crate) struct ListedStore {
    inner: Arc<dyn ObjectStore>,
    /// Whether its files are local.
    local: bool,
    /// The files as they were listed.
    listed: Mutex<HashMap<Path, ObjectMeta>>,
    meter: Arc<Meter>,
}

impl ListedStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, url: &Url, meter: Arc<Meter>) -> Self {
        Self { inner, local: url.scheme() == "file", listed: Mutex::default(), meter }
    }

    /// Registers a file to be read as it was listed.
    pub(crate) fn expect(&self, listed: &ObjectMeta) {
        self.lock().insert(listed.location.clone(), listed.clone());
    }

    fn listed(&self, path: &Path) -> Option<ObjectMeta> {
        self.lock().get(path).cloned()
    }

    /// No operation can leave the map in an inconsistent state.
    fn lock(&self) -> MutexGuard<'_, HashMap<Path, ObjectMeta>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a file as it was listed, or fails.
    async fn read_listed(&self, listed: &ObjectMeta, options: GetOptions) -> Result<GetResult> {
        let options = GetOptions { if_match: listed.e_tag.clone(), ..options };
        let got = self.inner.get_opts(&listed.location, options).await.map_err(translate)?;
        // A listing of the file system may lack ETags.
        match compare(listed, got.meta.size, got.meta.last_modified).filter(|_| listed.e_tag.is_none()) {
            Some(error) => Err(carried(error)),
            None => Ok(got),
        }
    }

    /// Checks that a local file is unchanged after a read.
    async fn still(&self, listed: &ObjectMeta) -> Result<()> {
        if self.local {
            self.read_listed(listed, GetOptions::new().with_head(true)).await?;
        }
        Ok(())
    }

    async fn read(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(listed) = self.listed(path) else { return self.inner.get_opts(path, options).await };
        let in_part = options.range.is_some();
        let got = self.read_listed(&listed, options).await?;
        // A whole file is watched by its reader: see `Reading`.
        if !in_part || !matches!(got.payload, GetResultPayload::File(..)) {
            return Ok(got);
        }
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let bytes = got.bytes().await;
        self.still(&listed).await?;
        let payload = GetResultPayload::Stream(stream::iter([bytes]).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn read_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.listed(path) {
            None => self.inner.get_ranges(path, ranges).await,
            Some(listed) if self.local => {
                let got = self.inner.get_ranges(path, ranges).await;
                self.still(&listed).await?;
                got
            }
            // Like stores that have no better way.
            Some(_) => {
                let range =
                    |range| async { self.read(path, GetOptions::new().with_range(Some(range))).await?.bytes().await };
                coalesce_ranges(ranges, range, OBJECT_STORE_COALESCE_DEFAULT).await
            }
        }
    }
}

/// Translates a store's error about a changed file to ours.
fn translate(error: object_store::Error) -> object_store::Error {
    let changed = match &error {
        object_store::Error::Precondition { .. } => changed("has been rewritten"),
        object_store::Error::NotFound { .. } => changed("has gone"),
        _ => return error,
    };
    carried(changed.because(error))
}

/// Wraps our error in a store's.
fn carried(error: Error) -> object_store::Error {
    object_store::Error::Generic { store: "listed files", source: error.into() }
}

impl fmt::Display for ListedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for ListedStore {
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let got = self.read(path, options).await?;
        if !head {
            self.meter.add_bytes(got.range.end - got.range.start);
        }
        Ok(got)
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let got = self.read_ranges(path, ranges).await?;
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

// --- bytes ---------------------------------------------------------------------------------------------------------

/// Reads a whole file in order, counts the bytes, and compares the file with the listing at its end.
#[derive(Debug)]
pub(crate) struct Reading<R> {
    inner: R,
    read: u64,
    listed: ObjectMeta,
    /// The path of a local file.
    path: Option<PathBuf>,
    meter: Arc<Meter>,
}

impl<R> Reading<R> {
    pub(crate) fn new(inner: R, listed: ObjectMeta, path: Option<PathBuf>, meter: Arc<Meter>) -> Self {
        Self { inner, read: 0, listed, path, meter }
    }

    /// The same file through another reader at the same position.
    pub(crate) fn map<S>(self, through: impl FnOnce(R) -> S) -> Reading<S> {
        let Self { inner, read, listed, path, meter } = self;
        Reading { inner: through(inner), read, listed, path, meter }
    }

    fn add(&mut self, read: usize) {
        self.read += read as u64;
        self.meter.add_bytes(read as u64);
    }

    #[expect(clippy::disallowed_methods, reason = "only the file system knows the state of a local file")]
    fn ended(&self) -> io::Result<()> {
        let now = match self.path.as_ref().map(std::fs::metadata) {
            // A pipe, for example, has no size.
            Some(Ok(now)) if !now.is_file() => return Ok(()),
            Some(Ok(now)) => compare(&self.listed, now.len(), now.modified()?),
            Some(Err(e)) if e.kind() == io::ErrorKind::NotFound => Some(changed("has gone")),
            Some(Err(e)) => return Err(e),
            None => None,
        };
        let error = now.or_else(|| compare(&self.listed, self.read, self.listed.last_modified));
        error.map_or(Ok(()), |error| Err(io::Error::other(error)))
    }
}

impl io::Read for Reading<File> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.add(read);
        if read == 0 && !buffer.is_empty() {
            self.ended()?;
        }
        Ok(read)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Reading<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (room, filled) = (buffer.remaining(), buffer.filled().len());
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - filled;
        self.add(read);
        if read == 0 && room > 0 {
            self.ended()?;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::disallowed_methods, reason = "changes files while they are being read")]

    use std::io::Read;
    use std::path::Path as FsPath;

    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;
    use rstest::rstest;

    use super::*;

    /// A new file in a folder, as it is listed now, and the meter of its reads.
    pub(crate) fn file(folder: &FsPath, content: &[u8]) -> (Reading<File>, Arc<Meter>) {
        std::fs::write(folder.join("file"), content).unwrap();
        open(folder)
    }

    fn open(folder: &FsPath) -> (Reading<File>, Arc<Meter>) {
        let path = folder.join("file");
        let now = std::fs::metadata(&path).unwrap();
        let listed = ObjectMeta {
            location: "file".into(),
            last_modified: now.modified().unwrap().into(),
            size: now.len(),
            e_tag: None,
            version: None,
        };
        let meter = Arc::<Meter>::default();
        (Reading::new(File::open(&path).unwrap(), listed, Some(path), Arc::clone(&meter)), meter)
    }

    /// Changes of a file with the text `abcdef`.
    #[derive(Debug, Clone, Copy)]
    enum Done {
        Nothing,
        CutShort,
        WrittenOn,
        /// Other bytes of the same number.
        WrittenOver,
        /// Another file of the same size was moved there.
        Replaced,
        Removed,
    }

    impl Done {
        fn to(self, file: &FsPath) {
            // The clocks of file systems tick every few milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(20));
            let other = file.with_file_name("other");
            match self {
                Self::Nothing => {}
                Self::CutShort => std::fs::write(file, "abc").unwrap(),
                Self::WrittenOn => std::fs::write(file, "abcdefghi").unwrap(),
                Self::WrittenOver => std::fs::write(file, "ABCDEF").unwrap(),
                Self::Replaced => {
                    std::fs::write(&other, "ABCDEF").unwrap();
                    std::fs::rename(&other, file).unwrap();
                }
                Self::Removed => std::fs::remove_file(file).unwrap(),
            }
        }
    }

    const CHANGED: &str = "the file has changed since it was listed";
    const WRITTEN: &str = "the file has been rewritten since it was listed";
    const GONE: &str = "the file has gone since it was listed";

    fn told_of<T: fmt::Debug>(result: std::result::Result<T, impl std::error::Error + 'static>) -> Option<String> {
        let error = Error::carried_by(&result.err()?).expect("an error of ours");
        assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Changed, 1));
        Some(error.message().to_owned())
    }

    /// A file is changed while it is being read.
    #[rstest]
    #[case(Done::Nothing, None)]
    #[case(Done::CutShort, Some(CHANGED))]
    #[case(Done::WrittenOn, Some(CHANGED))]
    #[case(Done::WrittenOver, Some(WRITTEN))]
    #[case(Done::Replaced, Some(WRITTEN))]
    #[case(Done::Removed, Some(GONE))]
    #[tokio::test]
    async fn a_file_that_changes_while_it_is_read_is_refused_at_its_end(
        #[case] done: Done,
        #[case] expected: Option<&str>,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (mut reading, meter) = file(folder.path(), b"abcdef");
        let (other, _) = open(folder.path());
        let mut other = other.map(tokio::fs::File::from_std);
        let mut buffer = [0; 2];
        reading.read_exact(&mut buffer).unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut other, &mut buffer).await.unwrap();
        done.to(&path);
        assert_eq!(told_of(reading.read_to_end(&mut Vec::new())).as_deref(), expected);
        assert_eq!(
            told_of(tokio::io::AsyncReadExt::read_to_end(&mut other, &mut Vec::new()).await).as_deref(),
            expected
        );
        assert!(meter.counts().bytes >= 3, "{:?}", meter.counts());
    }

    /// A stream from the network can only be checked by its size.
    #[rstest]
    #[case("abcdef", None)]
    #[case("abc", Some(CHANGED))]
    #[case("abcdefghi", Some(CHANGED))]
    #[tokio::test]
    async fn a_stream_has_as_many_bytes_as_were_listed(#[case] text: &str, #[case] expected: Option<&str>) {
        let store = InMemory::new();
        store.put(&"file".into(), "abcdef".into()).await.unwrap();
        let listed = store.head(&"file".into()).await.unwrap();
        let mut reading = Reading::new(text.as_bytes(), listed, None, Arc::default());
        let read = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut Vec::new()).await;
        assert_eq!(told_of(read).as_deref(), expected);
    }

    /// A file is changed before it is read, by every kind of request.
    #[rstest]
    #[case(Done::Nothing, None)]
    #[case(Done::CutShort, Some(WRITTEN))]
    #[case(Done::WrittenOn, Some(WRITTEN))]
    #[case(Done::WrittenOver, Some(WRITTEN))]
    #[case(Done::Replaced, Some(WRITTEN))]
    #[case(Done::Removed, Some(GONE))]
    #[tokio::test]
    async fn a_local_file_is_read_as_it_was_listed(
        #[case] done: Done,
        #[case] expected: Option<&str>,
        #[values(true, false)] with_e_tag: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "abcdef").unwrap();
        let inner = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        let path = Path::from("file");
        let store = ListedStore::new(
            Arc::clone(&inner) as Arc<dyn ObjectStore>,
            &Url::parse("file:///").unwrap(),
            Arc::default(),
        );
        let listed = inner.head(&path).await.unwrap();
        store.expect(&ObjectMeta { e_tag: listed.e_tag.clone().filter(|_| with_e_tag), ..listed });
        done.to(&folder.path().join("file"));
        // Without an ETag, only size and time show a change.
        let longer_or_shorter = !with_e_tag && matches!(done, Done::CutShort | Done::WrittenOn);
        let expected = if longer_or_shorter { Some(CHANGED) } else { expected };
        assert_eq!(told_of(store.get(&path).await).as_deref(), expected);
        assert_eq!(told_of(store.get_range(&path, 1..3).await).as_deref(), expected);
        // Missing ranges are detected from the current file.
        assert_eq!(told_of(store.get_ranges(&path, &[0..1, 2..3]).await).as_deref(), expected);
        assert_eq!(told_of(store.head(&path).await).as_deref(), expected);
    }

    #[tokio::test]
    async fn an_object_is_read_as_it_was_listed() {
        let inner = Arc::new(InMemory::new());
        let [path, other] = ["file", "other"].map(Path::from);
        inner.put(&path, "abcdef".into()).await.unwrap();
        let store = ListedStore::new(
            Arc::clone(&inner) as Arc<dyn ObjectStore>,
            &Url::parse("memory:///").unwrap(),
            Arc::default(),
        );
        store.expect(&inner.head(&path).await.unwrap());
        assert_eq!(store.get_ranges(&path, &[0..1, 2..3]).await.unwrap(), ["a", "c"]);
        inner.put(&path, "ABCDEF".into()).await.unwrap();
        inner.put(&other, "other".into()).await.unwrap();
        assert_eq!(told_of(store.get(&path).await).as_deref(), Some(WRITTEN));
        assert_eq!(told_of(store.get_range(&path, 1..3).await).as_deref(), Some(WRITTEN));
        assert_eq!(told_of(store.get_ranges(&path, &[0..1, 2..3]).await).as_deref(), Some(WRITTEN));
        inner.delete(&path).await.unwrap();
        assert_eq!(told_of(store.get(&path).await).as_deref(), Some(GONE));

        // Nothing is known about other files.
        assert_eq!(store.get(&other).await.unwrap().bytes().await.unwrap(), "other");
        assert_eq!(store.get_range(&other, 0..1).await.unwrap(), "o");
    }

    /// Also the requests that readers do not make today.
    #[tokio::test]
    async fn it_does_what_the_store_inside_does_and_counts_what_is_read() {
        let (inner, meter) = (Arc::new(InMemory::new()), Arc::<Meter>::default());
        let url = Url::parse("memory:///").unwrap();
        let store = ListedStore::new(Arc::clone(&inner) as Arc<dyn ObjectStore>, &url, Arc::clone(&meter));
        let [a, b, c] = ["in/a", "in/below/b", "c"].map(Path::from);
        store.put(&a, "0123456789".into()).await.unwrap();
        let mut upload = store.put_multipart(&b).await.unwrap();
        upload.put_part("parts".into()).await.unwrap();
        upload.complete().await.unwrap();
        store.copy(&a, &c).await.unwrap();
        for (path, content) in [(&a, "0123456789"), (&b, "parts"), (&c, "0123456789")] {
            assert_eq!(inner.get(path).await.unwrap().bytes().await.unwrap(), content);
        }
        let folder = Path::from("in");
        let names = |found: Vec<ObjectMeta>| found.into_iter().map(|meta| meta.location).collect::<Vec<_>>();
        let mut listed = names(store.list(Some(&folder)).try_collect().await.unwrap());
        listed.sort();
        assert_eq!(listed, [a.clone(), b.clone()]);
        assert_eq!(names(store.list_with_delimiter(Some(&folder)).await.unwrap().objects), std::slice::from_ref(&a));
        assert_eq!(store.to_string(), inner.to_string());
        assert_eq!(store.head(&a).await.unwrap().size, 10);
        assert_eq!(meter.counts().bytes, 0, "nothing was read so far");

        // It counts the same, whether a file is registered or not.
        for _ in 0..2 {
            let before = meter.counts().bytes;
            let read = || meter.counts().bytes - before;
            assert_eq!(store.get(&a).await.unwrap().bytes().await.unwrap(), "0123456789");
            assert_eq!(read(), 10);
            assert_eq!(store.get_range(&a, 3..7).await.unwrap(), "3456");
            assert_eq!(read(), 14);
            assert_eq!(store.get_ranges(&a, &[0..1, 8..10]).await.unwrap(), ["0", "89"]);
            assert_eq!(read(), 17);
            store.expect(&inner.head(&a).await.unwrap());
        }

        let gone: Vec<Path> = store.delete_stream(stream::iter([Ok(a.clone())]).boxed()).try_collect().await.unwrap();
        assert_eq!(gone, std::slice::from_ref(&a));
        assert!(inner.head(&a).await.is_err());
    }
}
