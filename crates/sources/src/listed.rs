//! Reads files as they were listed. A file that is replaced, truncated or appended to before it was read to its end
//! contains other rows than the listing promised, or half of them, so reading it fails.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::pin::Pin;
use std::slice;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::common::runtime::SpawnedTask;
use hardtack_core::{Error, ErrorKind, Meter, Result};
use object_store::local::LocalFileSystem;
use object_store::{GetOptions, GetResult, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, coalesce_ranges};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot::{self, Receiver};

use crate::input::SourceFile;

/// The error for a file that is not as it was listed.
fn changed(what: &str) -> Error {
    Error::new(ErrorKind::Changed, format!("the file {what} since it was listed"))
        .hint("run again; writers should write new files, under a hidden name (`.new`) until they are complete")
}

/// The time of a file whose size is known from elsewhere than a listing. Only its size is compared.
pub(crate) const UNKNOWN_TIME: DateTime<Utc> = DateTime::<Utc>::MIN_UTC;

/// Describes how the current version of a file differs from the one that was listed, if it does.
fn compare(listed: &ObjectMeta, size: u64, modified: impl Into<DateTime<Utc>>) -> Option<Error> {
    let bytes = |size: u64| format!("{size} bytes");
    if size != listed.size {
        return Some(changed("has changed").with("listed", bytes(listed.size)).with("now", bytes(size)));
    }
    let is_known = listed.last_modified != UNKNOWN_TIME;
    (is_known && modified.into() != listed.last_modified).then(|| changed("has been rewritten"))
}

impl SourceFile {
    /// Opens the file, or a part of it, in the version that was listed: object stores are asked for it (`If-Match`),
    /// and size and time of a local file are compared. A local file can still change while it is read, so its reader
    /// [compares it again](differs) afterwards.
    pub(crate) async fn get(&self, range: Option<Range<u64>>) -> Result<GetResult> {
        let options = GetOptions { if_match: self.meta.e_tag.clone(), ..GetOptions::new().with_range(range) };
        let got = self.store.get_opts(&self.meta.location, options).await.map_err(|e| self.unread(e))?;
        // A listing of the file system may lack ETags.
        match compare(&self.meta, got.meta.size, got.meta.last_modified).filter(|_| self.meta.e_tag.is_none()) {
            Some(error) => Err(error.with("file", &self.location)),
            None => Ok(got),
        }
    }

    /// Reads parts of the file in the version that was listed, and counts their bytes.
    pub(crate) async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(path) = self.local_path()? {
            // One task; the store would open the file in one and read it in another.
            let (file, parts) = (self.clone(), allocate_parts(ranges)?);
            let read = SpawnedTask::spawn_blocking(move || file.local_ranges(&path, parts));
            return read.join_unwind().await.map_err(|e| self.error(io::Error::other(e), None))?;
        }
        let read = |range| async {
            let got = self.get(Some(range)).await?;
            got.bytes().await.map_err(|e| self.unread(e))
        };
        let parts = coalesce_ranges(ranges, read, OBJECT_STORE_COALESCE_DEFAULT).await?;
        self.count(&parts);
        Ok(parts)
    }

    /// The same for a local file, on a thread that may block.
    fn local_ranges(&self, path: &FsPath, parts: Vec<Part>) -> Result<Vec<Bytes>> {
        let parts = open(path).and_then(|file| read_parts(file, path, &self.meta, parts));
        let parts = parts.map_err(|e| self.error(e, None))?;
        self.count(&parts);
        Ok(parts)
    }

    fn count(&self, parts: &[Bytes]) {
        self.meter.add_bytes(parts.iter().map(|part| part.len() as u64).sum());
    }

    /// The path, if the file is in the file system.
    fn local_path(&self) -> Result<Option<PathBuf>> {
        static FILES: LazyLock<LocalFileSystem> = LazyLock::new(LocalFileSystem::new);
        let local = self.location.scheme().is_none_or(|scheme| scheme == "file");
        let path = local.then(|| FILES.path_to_filesystem(&self.meta.location));
        path.transpose().map_err(|e| Error::from(e).with("file", &self.location))
    }

    /// The error of a store, which may mean that the file has changed.
    fn unread(&self, error: object_store::Error) -> Error {
        let error = match &error {
            object_store::Error::Precondition { .. } => changed("has been rewritten").because(error),
            object_store::Error::NotFound { .. } => changed("has gone").because(error),
            _ => Error::from(error),
        };
        error.with("file", &self.location)
    }
}

/// Begins to read small files of one store, whole: objects concurrently; local files one after the other, so that a
/// thread of the blocking pool is woken only once. Dropping a receiver stops the read of its file.
pub(crate) fn read_whole(files: Vec<SourceFile>) -> Vec<Receiver<Result<Bytes>>> {
    let whole = |file: &SourceFile| 0..file.meta.size;
    let only = |parts: Vec<Bytes>| parts.into_iter().next().unwrap_or_default();
    let (to, from): (Vec<_>, Vec<_>) = files.iter().map(|_| oneshot::channel()).unzip();
    let paths = files.iter().map(|file| file.local_path().ok().flatten()).collect::<Option<Vec<_>>>();
    let files = files.into_iter().zip(to);
    match paths {
        Some(paths) => {
            let parts = files.map(|(file, to)| (allocate_parts(&[whole(&file)]), file, to)).collect::<Vec<_>>();
            drop(tokio::task::spawn_blocking(move || {
                for ((parts, file, to), path) in parts.into_iter().zip(paths).filter(|((.., to), _)| !to.is_closed()) {
                    to.send(parts.and_then(|parts| file.local_ranges(&path, parts)).map(only)).ok();
                }
            }));
        }
        None => files.for_each(|(file, mut to)| {
            tokio::spawn(async move {
                let whole = whole(&file);
                let read = tokio::select! {
                    read = file.ranges(slice::from_ref(&whole)) => read,
                    () = to.closed() => return,
                };
                to.send(read.map(only)).ok();
            });
        }),
    }
    from
}

/// Opens a local file.
#[expect(clippy::disallowed_methods, reason = "called where blocking is allowed")]
fn open(path: &FsPath) -> io::Result<File> {
    File::open(path).map_err(|e| match e.kind() {
        kind if is_gone(kind) => io::Error::other(changed("has gone").because(e)),
        _ => e,
    })
}

/// A part of a file: where it begins, its size, and memory for it.
type Part = (u64, usize, Vec<u8>);

/// Parts up to this size are allocated by whoever asks for them, because memory that is freed by another thread than the one
/// that allocated it is not used again soon. Clearing larger parts would hold up the caller.
const MAX_PREPARED_BYTES: usize = 512 << 10;

/// Memory for parts of a file.
fn allocate_parts(ranges: &[Range<u64>]) -> Result<Vec<Part>> {
    let allocate = |range: &Range<u64>| {
        let bytes = usize::try_from(range.end - range.start);
        let bytes = bytes.map_err(|e| Error::unexpected("a part of a file is too large").because(e))?;
        Ok((range.start, bytes, vec![0; if bytes > MAX_PREPARED_BYTES { 0 } else { bytes }]))
    };
    ranges.iter().map(allocate).collect()
}

/// Reads parts of a local file, which afterwards must still be the one that was listed.
fn read_parts(mut file: File, path: &FsPath, listed: &ObjectMeta, parts: Vec<Part>) -> io::Result<Vec<Bytes>> {
    let read = |(start, bytes, mut part): Part| {
        part.resize(bytes, 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut part)?;
        Ok(Bytes::from(part))
    };
    let parts = parts.into_iter().map(read).collect();
    match differs(listed, &now(path)?)? {
        Some(error) => Err(io::Error::other(error)),
        None => parts,
    }
}

/// The state of a local file; `None` if there is no such file any more.
#[expect(clippy::disallowed_methods, reason = "only the file system knows the state of a local file")]
fn now(path: &FsPath) -> io::Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Err(e) if is_gone(e.kind()) => Ok(None),
        now => now.map(Some),
    }
}

/// Whether there is no such file, or its folder has become a file.
fn is_gone(error: io::ErrorKind) -> bool {
    matches!(error, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// How a local file differs from the one that was listed, if it does.
fn differs(listed: &ObjectMeta, now: &Option<Metadata>) -> io::Result<Option<Error>> {
    match now {
        Some(now) => Ok(compare(listed, now.len(), now.modified()?)),
        None => Ok(Some(changed("has gone"))),
    }
}

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

    fn ended(&self) -> io::Result<()> {
        let differs = match self.path.as_deref().map(now).transpose()? {
            // A pipe, for example, has no size.
            Some(Some(now)) if !now.is_file() => return Ok(()),
            Some(now) => differs(&self.listed, &now)?,
            None => None,
        };
        let error = differs.or_else(|| compare(&self.listed, self.read, self.listed.last_modified));
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

    use hardtack_core::Location;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};
    use rstest::rstest;
    use url::Url;

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
        /// Its folder has become a file.
        FolderReplaced,
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
                Self::FolderReplaced => {
                    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
                    std::fs::write(file.parent().unwrap(), "").unwrap();
                }
            }
        }
    }

    const CHANGED: &str = "the file has changed since it was listed";
    const WRITTEN: &str = "the file has been rewritten since it was listed";
    const GONE: &str = "the file has gone since it was listed";

    fn told_of<T>(result: std::result::Result<T, impl std::error::Error + 'static>) -> Option<String> {
        let error = Error::carried_by(&result.err()?).expect("an error of ours");
        assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Changed, 1));
        Some(error.message().to_owned())
    }

    /// A file is changed while it is being read, in order or in parts.
    #[rstest]
    #[case(Done::Nothing, None)]
    #[case(Done::CutShort, Some(CHANGED))]
    #[case(Done::WrittenOn, Some(CHANGED))]
    #[case(Done::WrittenOver, Some(WRITTEN))]
    #[case(Done::Replaced, Some(WRITTEN))]
    #[case(Done::Removed, Some(GONE))]
    #[case(Done::FolderReplaced, Some(GONE))]
    #[tokio::test]
    async fn a_file_that_changes_while_it_is_read_is_refused_at_its_end(
        #[case] done: Done,
        #[case] expected: Option<&str>,
    ) {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("file");
        let (mut reading, meter) = file(&folder, b"abcdef");
        let (in_parts, _) = open(&folder);
        let (other, _) = open(&folder);
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
        match read_parts(in_parts.inner, &path, &in_parts.listed, allocate_parts(&[4..6, 0..1]).unwrap()) {
            Ok(parts) if expected.is_none() => assert_eq!(parts, ["ef", "a"]),
            read => assert_eq!(told_of(read).as_deref(), expected),
        }
        // Whoever opens it only now may find none.
        assert_eq!(told_of(super::open(&path)).as_deref(), expected.filter(|why| *why == GONE));
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

    /// The file as it is now, as a listing says.
    async fn listed(store: impl ObjectStore, root: &str, path: &str) -> SourceFile {
        let path = Path::from_absolute_path(path).unwrap();
        let location = Location::of(&Url::parse(root).unwrap(), &path);
        let meta = store.head(&path).await.unwrap();
        SourceFile { store: Arc::new(store), meta, location, meter: Arc::default() }
    }

    /// A file is changed before it is read.
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
        let path = folder.path().join("file");
        std::fs::write(&path, "abcdef").unwrap();
        let mut file = listed(LocalFileSystem::new(), "file:///", path.to_str().unwrap()).await;
        file.meta.e_tag = file.meta.e_tag.filter(|_| with_e_tag);
        done.to(&path);
        // Without an ETag, size and time show a change.
        let longer_or_shorter = matches!(done, Done::CutShort | Done::WrittenOn);
        let without = if longer_or_shorter { Some(CHANGED) } else { expected };
        let expected = if with_e_tag { expected } else { without };
        assert_eq!(told_of(file.get(None).await).as_deref(), expected);
        assert_eq!(told_of(file.get(Some(1..3)).await).as_deref(), expected);
        assert_eq!(told_of(file.ranges(&[0..1, 2..3]).await).as_deref(), without);
    }

    #[tokio::test]
    async fn an_object_is_read_as_it_was_listed() {
        let inner = InMemory::new();
        let path = Path::from("file");
        inner.put(&path, "abcdef".into()).await.unwrap();
        let file = listed(inner, "memory:///", "/file").await;
        assert_eq!(file.ranges(&[0..1, 2..3]).await.unwrap(), ["a", "c"]);
        assert_eq!(file.meter.counts().bytes, 2);
        file.store.put(&path, "ABCDEF".into()).await.unwrap();
        assert_eq!(told_of(file.get(None).await).as_deref(), Some(WRITTEN));
        assert_eq!(told_of(file.get(Some(1..3)).await).as_deref(), Some(WRITTEN));
        assert_eq!(told_of(file.ranges(&[0..1, 2..3]).await).as_deref(), Some(WRITTEN));
        file.store.delete(&path).await.unwrap();
        assert_eq!(told_of(file.ranges(&[0..1, 2..3]).await).as_deref(), Some(GONE));
    }
}
