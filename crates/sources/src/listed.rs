//! Files are read as they were listed. One that is replaced, cut short or written on before it was read to its end holds
//! rows that nobody asked for, or half of those that somebody did: it ends whatever reads it.

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

/// What a file that is not as it was listed is refused with.
fn changed(what: &str) -> Error {
    Error::new(ErrorKind::Changed, format!("the file {what} since it was listed"))
        .hint("run again; whoever writes there should write a new file, under a hidden name (`.new`) until it is whole")
}

/// What is said of a file that is there under this version, if it is not the one that was listed.
fn compare(listed: &ObjectMeta, size: u64, modified: impl Into<chrono::DateTime<chrono::Utc>>) -> Option<Error> {
    let bytes = |size: u64| format!("{size} bytes");
    if size != listed.size {
        return Some(changed("has changed").with("listed", bytes(listed.size)).with("now", bytes(size)));
    }
    (modified.into() != listed.last_modified).then(|| changed("has been written again"))
}

// --- stores --------------------------------------------------------------------------------------------------------

/// A store whose files are read under the version that a listing has seen: object stores are asked for it (`If-Match`), and
/// the state of a local file is compared when it is opened and after it was read. What is asked for is counted.
#[derive(Debug)]
pub(crate) struct ListedStore {
    inner: Arc<dyn ObjectStore>,
    /// Whether its files are those of this machine.
    local: bool,
    /// The files of which it is known how they were listed.
    listed: Mutex<HashMap<Path, ObjectMeta>>,
    meter: Arc<Meter>,
}

impl ListedStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, url: &Url, meter: Arc<Meter>) -> Self {
        Self { inner, local: url.scheme() == "file", listed: Mutex::default(), meter }
    }

    /// From now on this file is read as it was listed.
    pub(crate) fn expect(&self, listed: &ObjectMeta) {
        self.lock().insert(listed.location.clone(), listed.clone());
    }

    fn listed(&self, path: &Path) -> Option<ObjectMeta> {
        self.lock().get(path).cloned()
    }

    /// Nothing is done to the map that could leave it in between.
    fn lock(&self) -> MutexGuard<'_, HashMap<Path, ObjectMeta>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was listed, or that it is there no more.
    async fn read_listed(&self, listed: &ObjectMeta, options: GetOptions) -> Result<GetResult> {
        let options = GetOptions { if_match: listed.e_tag.clone(), ..options };
        let got = self.inner.get_opts(&listed.location, options).await.map_err(told)?;
        // A listing of the file system need not know of ETags.
        match compare(listed, got.meta.size, got.meta.last_modified).filter(|_| listed.e_tag.is_none()) {
            Some(error) => Err(carried(error)),
            None => Ok(got),
        }
    }

    /// That a local file is, after something was read of it, what it was before.
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
        // A whole file is for who asked to be watched while it is read: see `Reading`.
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
            // As stores do it that have nothing better.
            Some(_) => {
                let range =
                    |range| async { self.read(path, GetOptions::new().with_range(Some(range))).await?.bytes().await };
                coalesce_ranges(ranges, range, OBJECT_STORE_COALESCE_DEFAULT).await
            }
        }
    }
}

/// What a store says of a file that is not as it was listed, as we say it.
fn told(error: object_store::Error) -> object_store::Error {
    let changed = match &error {
        object_store::Error::Precondition { .. } => changed("has been written again"),
        object_store::Error::NotFound { .. } => changed("has gone"),
        _ => return error,
    };
    carried(changed.because(error))
}

/// An error of ours as one of a store.
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

/// The bytes of a whole file, in order: counted, and at their end compared with what was listed.
#[derive(Debug)]
pub(crate) struct Reading<R> {
    inner: R,
    read: u64,
    listed: ObjectMeta,
    /// Where a local file is.
    path: Option<PathBuf>,
    meter: Arc<Meter>,
}

impl<R> Reading<R> {
    pub(crate) fn new(inner: R, listed: ObjectMeta, path: Option<PathBuf>, meter: Arc<Meter>) -> Self {
        Self { inner, read: 0, listed, path, meter }
    }

    /// The same file through another reader, which is at the same place.
    pub(crate) fn map<S>(self, through: impl FnOnce(R) -> S) -> Reading<S> {
        let Self { inner, read, listed, path, meter } = self;
        Reading { inner: through(inner), read, listed, path, meter }
    }

    fn add(&mut self, read: usize) {
        self.read += read as u64;
        self.meter.add_bytes(read as u64);
    }

    #[expect(clippy::disallowed_methods, reason = "what has become of a local file is for its file system to say")]
    fn ended(&self) -> io::Result<()> {
        let now = match self.path.as_ref().map(std::fs::metadata) {
            // What is no file, such as a pipe, has no size.
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
    #![expect(clippy::disallowed_methods, reason = "what others do to files while they are read")]

    use std::io::Read;
    use std::path::Path as FsPath;

    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;
    use rstest::rstest;

    use super::*;

    /// A new file of a folder, as it is listed now, and who counts what is read of it.
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

    /// What is done to a file that has the text `abcdef`.
    #[derive(Debug, Clone, Copy)]
    enum Done {
        Nothing,
        CutShort,
        WrittenOn,
        /// Other bytes, as many as before.
        WrittenOver,
        /// Another file, with as many bytes, was moved there.
        Replaced,
        Removed,
    }

    impl Done {
        fn to(self, file: &FsPath) {
            // Clocks of file systems move on every few milliseconds.
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
    const WRITTEN: &str = "the file has been written again since it was listed";
    const GONE: &str = "the file has gone since it was listed";

    fn told_of<T: fmt::Debug>(result: std::result::Result<T, impl std::error::Error + 'static>) -> Option<String> {
        let error = Error::carried_by(&result.err()?).expect("an error of ours");
        assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Changed, 1));
        Some(error.message().to_owned())
    }

    /// A file that is being read when something is done to it.
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

    /// What comes over the network has no more than its size to tell.
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

    /// A file that something is done to before it is read, in each way in which it can be asked for.
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
        // Without an ETag it can be told what is another.
        let longer_or_shorter = !with_e_tag && matches!(done, Done::CutShort | Done::WrittenOn);
        let expected = if longer_or_shorter { Some(CHANGED) } else { expected };
        assert_eq!(told_of(store.get(&path).await).as_deref(), expected);
        assert_eq!(told_of(store.get_range(&path, 1..3).await).as_deref(), expected);
        // Those that are not there any more are told by what is there now.
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

        // Of others nothing is known.
        assert_eq!(store.get(&other).await.unwrap().bytes().await.unwrap(), "other");
        assert_eq!(store.get_range(&other, 0..1).await.unwrap(), "o");
    }

    /// What readers do not ask for today, they may tomorrow.
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

        // It counts alike whether it is known how a file was listed.
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
