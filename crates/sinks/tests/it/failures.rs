//! A store that fails in the middle of a write.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use hardtack_core::actions::MemoryJournal;
use hardtack_core::publish::discard;
use hardtack_core::staging::MultipartStaging;
use hardtack_core::store::{Store, StoreFactory};
use hardtack_core::{ErrorKind, JobContext, Result, Sink};
use hardtack_sinks::ParquetDataset;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, PutPayload, PutResult};
use rstest::rstest;
use url::Url;

use crate::sql;

/// The calls that the store refuses, from some call on, as S3 does when it throttles or the network is down, or only
/// once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Refused {
    Creates,
    Parts,
    OnePart,
}

/// The in-memory store with delayed responses. It tracks which uploads are open.
struct Failing {
    store: Arc<InMemory>,
    refused: Refused,
    calls_left: AtomicIsize,
    open: Mutex<BTreeSet<(Path, MultipartId)>>,
    begun: AtomicUsize,
}

impl Failing {
    fn refuse(&self, asked: Refused) -> object_store::Result<()> {
        let one = self.refused == Refused::OnePart;
        if asked != if one { Refused::Parts } else { self.refused } {
            return Ok(());
        }
        let left = self.calls_left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 || (one && left < 0) {
            return Ok(());
        }
        Err(object_store::Error::Generic { store: "S3", source: "503 SlowDown".into() })
    }
}

impl Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

#[async_trait]
impl MultipartStore for Failing {
    /// The upload exists before the response, whether or not anybody still waits for it.
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.refuse(Refused::Creates)?;
        let id = self.store.create_multipart(path).await?;
        self.open.lock().unwrap().insert((path.clone(), id.clone()));
        let begun = self.begun.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1 + begun as u64 % 5)).await;
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        at: usize,
        data: PutPayload,
    ) -> object_store::Result<PartId> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.refuse(Refused::Parts)?;
        self.store.put_part(path, id, at, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        let done = self.store.complete_multipart(path, id, parts).await?;
        self.open.lock().unwrap().remove(&(path.clone(), id.clone()));
        Ok(done)
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        self.open.lock().unwrap().remove(&(path.clone(), id.clone()));
        self.store.abort_multipart(path, id).await
    }
}

#[derive(Debug)]
struct FailingStores(Arc<Failing>);

impl StoreFactory for FailingStores {
    fn open(&self, url: &Url) -> Result<Store> {
        let objects: Arc<dyn ObjectStore> = Arc::clone(&self.0.store) as _;
        let staging =
            MultipartStaging::new(url.clone(), Arc::clone(&objects), Arc::clone(&self.0) as _).with_concurrency(1);
        Ok(Store { url: url.clone(), objects, staging: Arc::new(staging) })
    }
}

impl Failing {
    /// A store that refuses these calls after `calls_left` of them.
    fn new(refused: Refused, calls_left: isize) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::new(InMemory::new()),
            refused,
            calls_left: calls_left.into(),
            open: Mutex::default(),
            begun: AtomicUsize::new(0),
        })
    }
}

/// A run that writes there, and its journal.
fn run_in(store: &Arc<Failing>) -> (JobContext, Arc<MemoryJournal>) {
    let journal = Arc::new(MemoryJournal::default());
    let ctx = JobContext::builder("job")
        .threads(4)
        .journal(journal.clone())
        .store_factory("memory", Arc::new(FailingStores(Arc::clone(store))));
    (ctx.build().unwrap(), journal)
}

/// Discards as the runtime does when a run has failed or is cancelled, and checks that nothing is left.
async fn assert_discarded(ctx: &JobContext, journal: &MemoryJournal, store: &Failing) {
    ctx.end_staging(Duration::from_secs(10)).await.unwrap();
    discard(ctx.stores(), ctx.publishers(), &journal.noted()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = store.begun.load(Ordering::SeqCst);
    assert_eq!(store.open.lock().unwrap().len(), 0, "of {begun} uploads these are still open");
    assert!(store.store.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty(), "something is visible");
}

const TWO_HUNDRED: &str = "select value as n, value % 200 as p from generate_series(1, 400)";

/// Whatever fails and when, the error names the place, and every upload that was begun can be discarded, including
/// those that other streams had in progress. Row groups of one row make files that are uploaded in several parts.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_write_has_begun_can_be_discarded(
    #[values(Refused::Creates, Refused::Parts, Refused::OnePart)] refused: Refused,
    #[values(0, 1, 70, 199)] calls_left: isize,
    #[values(1_000_000, 1)] row_group_rows: usize,
) {
    let store = Failing::new(refused, calls_left);
    let (ctx, journal) = run_in(&store);
    let dataset =
        ParquetDataset::new("out", "memory:/lake/out").partition_by(["p"]).with_row_group_rows(row_group_rows);

    let error = dataset.stage(&ctx.staging("out"), sql(&ctx, TWO_HUNDRED).await).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.chain();
    for part in ["memory:/lake/out/p=", "503 SlowDown"] {
        assert!(text.contains(part), "`{part}` should be named: {text}");
    }
    let begun = store.begun.load(Ordering::SeqCst);
    assert!(begun > 0 || calls_left == 0, "nothing was begun");
    assert_discarded(&ctx, &journal, &store).await;
}

/// A cancelled run drops its job's futures while many uploads are being created.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopped_write_has_begun_can_be_discarded(
    #[values(1, 100)] after: usize,
    #[values(1_000_000, 1)] row_group_rows: usize,
) {
    let store = Failing::new(Refused::Creates, isize::MAX);
    let (ctx, journal) = run_in(&store);
    let dataset =
        ParquetDataset::new("out", "memory:/lake/out").partition_by(["p"]).with_row_group_rows(row_group_rows);
    let rows = sql(&ctx, TWO_HUNDRED).await;

    let enough = async {
        while store.begun.load(Ordering::SeqCst) < after {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let staging = ctx.staging("out");
    tokio::select! {
        staged = dataset.stage(&staging, rows) => panic!("it was not stopped in the middle: {staged:?}"),
        () = enough => {}
    }

    assert_discarded(&ctx, &journal, &store).await;
    let begun = store.begun.load(Ordering::SeqCst);
    assert!((after..200).contains(&begun), "{begun} uploads were begun");
}
