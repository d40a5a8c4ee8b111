//! Reads the next small files of a scan while one is decoded. One by one, each would wait for its store, or wake a thread
//! of the blocking pool.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use hardtack_core::Result;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use tokio::sync::oneshot::Receiver;

use crate::listed::read_whole;
use crate::scan::Origin;

/// Files up to this size are read at once. Reading the footer, the indexes and the columns separately takes a request for
/// each.
pub(crate) const SMALL_FILE_BYTES: u64 = 512 << 10;

/// The limits of a batch of files that are read together.
const MAX_BATCH_FILES: usize = 16;
const MAX_BATCH_BYTES: u64 = 1 << 20;

/// The small files of a partition, in the order in which they will be opened.
#[derive(Debug)]
pub(super) struct SmallFiles {
    store: Arc<dyn ObjectStore>,
    origin: Origin,
    waiting: VecDeque<ObjectMeta>,
    /// Those whose reads have begun.
    reading: VecDeque<(Path, Receiver<Result<Bytes>>)>,
    /// How many to read next. It grows, because a query with a limit may need the first files only.
    next: usize,
}

impl SmallFiles {
    /// Of these files the small ones.
    pub(super) fn new<'a>(
        store: Arc<dyn ObjectStore>,
        origin: Origin,
        files: impl IntoIterator<Item = &'a PartitionedFile>,
    ) -> Self {
        let files = files.into_iter().map(|file| &file.object_meta);
        let waiting = files.filter(|meta| meta.size <= SMALL_FILE_BYTES).cloned().collect();
        Self { store, origin, waiting, reading: VecDeque::new(), next: 1 }
    }

    /// The content of a file, as soon as it is read; `None` if it is not small, or was requested before. The files before
    /// it are given up: they should have been requested, in order.
    pub(super) fn take(&mut self, file: &ObjectMeta) -> Option<Receiver<Result<Bytes>>> {
        if file.size > SMALL_FILE_BYTES {
            return None;
        }
        if let Some(at) = self.reading.iter().position(|(path, _)| *path == file.location) {
            self.reading.drain(..at);
            if self.reading.len() <= self.next / 2 {
                self.read_on();
            }
        } else {
            let at = self.waiting.iter().position(|waiting| waiting.location == file.location)?;
            if at > 0 {
                self.waiting.drain(..at);
                self.reading.clear();
                self.next = 1;
            }
            self.read_on();
        }
        self.reading.pop_front().map(|(_, content)| content)
    }

    /// Begins to read the next files.
    fn read_on(&mut self) {
        let mut bytes = 0;
        let fits = |file: &&ObjectMeta| {
            bytes += file.size;
            bytes <= MAX_BATCH_BYTES
        };
        let count = self.waiting.iter().take(self.next).take_while(fits).count();
        let files: Vec<_> = self.waiting.drain(..count).map(|meta| self.origin.file(&self.store, meta)).collect();
        if files.is_empty() {
            return;
        }
        self.next = MAX_BATCH_FILES.min(2 * self.next);
        let paths: Vec<_> = files.iter().map(|file| file.meta.location.clone()).collect();
        self.reading.extend(paths.into_iter().zip(read_whole(files)));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "makes files to read")]

    use std::time::Duration;

    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};
    use object_store::{ObjectStoreExt, PutPayload};
    use rstest::rstest;
    use url::Url;

    use super::*;

    /// Files with these sizes, whose names are their numbers.
    async fn files(sizes: impl IntoIterator<Item = u64>) -> (Arc<dyn ObjectStore>, Vec<PartitionedFile>) {
        let store = InMemory::new();
        let mut files = Vec::new();
        for (i, size) in sizes.into_iter().enumerate() {
            let path = Path::from(format!("{i:03}"));
            store.put(&path, PutPayload::from(vec![i as u8; size as usize])).await.unwrap();
            files.push(PartitionedFile::from(store.head(&path).await.unwrap()));
        }
        (Arc::new(store), files)
    }

    fn ahead(store: &Arc<dyn ObjectStore>, files: &[PartitionedFile]) -> SmallFiles {
        let store_url = Url::parse("memory:///").unwrap();
        let origin = Origin { store: store_url, meter: Arc::default(), target_partitions: 1 };
        SmallFiles::new(Arc::clone(store), origin, files)
    }

    /// How many files are read ahead, after each of the first that is taken.
    #[rstest]
    #[case::small(vec![10; 60], vec![0, 1, 4, 11, 10, 9, 8, 23, 22, 21, 20, 19])]
    #[case::few(vec![10; 4], vec![0, 1, 1, 0])]
    #[case::about_a_megabyte(vec![SMALL_FILE_BYTES; 9], vec![0, 1, 2, 3, 4, 3, 2, 1, 0])]
    #[tokio::test]
    async fn more_and_more_files_are_read_ahead(#[case] sizes: Vec<u64>, #[case] expected: Vec<usize>) {
        let (store, files) = files(sizes.clone()).await;
        let mut small = ahead(&store, &files);
        let mut counts = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let content = small.take(&file.object_meta).unwrap();
            counts.push(small.reading.len());
            assert_eq!(content.await.unwrap().unwrap(), vec![i as u8; sizes[i] as usize]);
        }
        assert_eq!(counts[..expected.len()], expected, "{counts:?}");
        assert_eq!(small.origin.meter.counts().bytes, sizes.iter().sum::<u64>(), "each is read once");
    }

    /// A file that is too large, that was taken, or that was skipped is for the reader to read.
    #[tokio::test]
    async fn files_that_are_skipped_are_not_waited_for() {
        let (store, files) = files([10, 10, SMALL_FILE_BYTES + 1, 10, 10, 10, 10, 10]).await;
        let mut small = ahead(&store, &files);
        for (i, expected) in [(0, true), (0, false), (2, false), (3, true), (1, false), (7, true), (6, false)] {
            let taken = small.take(&files[i].object_meta);
            assert_eq!(taken.is_some(), expected, "file {i}");
            if let Some(content) = taken {
                assert_eq!(content.await.unwrap().unwrap(), vec![i as u8; 10]);
            }
        }
        assert!(small.reading.is_empty() && small.waiting.is_empty());
    }

    /// What is wrong with a file is the concern of whoever opens it.
    #[tokio::test]
    async fn a_file_that_has_gone_stops_no_other() {
        let (store, files) = files([10; 4]).await;
        store.delete(&files[2].object_meta.location).await.unwrap();
        let mut small = ahead(&store, &files);
        for (i, file) in files.iter().enumerate() {
            let content = small.take(&file.object_meta).unwrap().await.unwrap();
            assert_eq!(content.is_err(), i == 2, "{content:?}");
        }
    }

    /// Reads that nobody waits for end, and local ones that have not begun do not begin.
    #[test]
    fn reads_stop_when_the_scan_ends() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "0123456789").unwrap();
        let local: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
        let endless = ThrottleConfig { wait_get_per_call: Duration::from_secs(3600), ..ThrottleConfig::default() };
        let endless: Arc<dyn ObjectStore> = Arc::new(ThrottledStore::new(InMemory::new(), endless));
        runtime.block_on(async {
            let meta = local.head(&Path::from_absolute_path(&path).unwrap()).await.unwrap();
            let (busy, until) = std::sync::mpsc::channel::<()>();
            let blocked = tokio::task::spawn_blocking(move || until.recv());
            for (store, url) in [(&local, "file:///"), (&endless, "memory:///")] {
                let origin = Origin { store: Url::parse(url).unwrap(), meter: Arc::default(), target_partitions: 1 };
                let mut small = SmallFiles::new(Arc::clone(store), origin, [&PartitionedFile::from(meta.clone())]);
                drop(small.take(&meta).unwrap());
            }
            drop(busy);
            blocked.await.unwrap().unwrap_err();
            while Arc::strong_count(&endless) + Arc::strong_count(&local) > 2 {
                tokio::task::yield_now().await;
            }
        });
    }
}
