//! What a job sees of the run it is part of.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use object_store::path::Path;
use twox_hash::XxHash3_64;

use crate::clock::{Clock, SystemClock};
use crate::io::{Io, Sink, Source, StagingIo};
use crate::meter::Meters;
use crate::publish::{Journal, MemoryJournal, PublishAction, Publishers, publish};
use crate::query_error::SpillFull;
use crate::run::{Run, RunId};
use crate::staging::StagedFile;
use crate::store::{Store, StoreFactory, Stores};
use crate::under_way::UnderWay;
use crate::{Error, Location, Result, sql};

/// A run as its job sees it, without the job's arguments: the session, the stores, the clock, and `load` and `save`.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobContext(Arc<Inner>);

const SPILL_FOLDER: &str = "folder";

type Extensions = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

struct Inner {
    run: Run,
    session: SessionContext,
    stores: Arc<Stores>,
    publishers: Publishers,
    io: Arc<dyn Io>,
    journal: Arc<dyn Journal>,
    under_way: UnderWay,
    clock: Arc<dyn Clock>,
    meters: Meters,
    extensions: Extensions,
    bookmarks: BTreeMap<String, serde_json::Value>,
    advanced: Mutex<BTreeMap<String, serde_json::Value>>,
    /// The folders in which files were staged.
    roots: Mutex<BTreeSet<Location>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobContext").field("run", &self.run).field("io", &self.io).finish_non_exhaustive()
    }
}

impl JobContext {
    /// A context for the job of this name, to be completed by the builder.
    pub fn builder(job: impl Into<String>) -> JobContextBuilder {
        JobContextBuilder::new(job.into())
    }

    /// Loads a source: the rows as a plan that reads when it is executed.
    ///
    /// # Errors
    /// Those of the source, which see; the source's name is added.
    pub async fn load(&self, source: impl Source) -> Result<DataFrame> {
        self.0.io.load(self, &source).await
    }

    /// Saves rows to a sink. They are staged now and become visible when the whole run is published.
    ///
    /// # Errors
    /// Those of the sink and of the plan; the sink's name is added.
    pub async fn save(&self, sink: impl Sink, rows: DataFrame) -> Result<()> {
        self.0.io.save(self, &sink, rows).await
    }

    /// Which run this is.
    pub fn run(&self) -> &Run {
        &self.0.run
    }

    /// The DataFusion session, for authors who prefer SQL: `ctx.session().sql("select ...")`.
    pub fn session(&self) -> &SessionContext {
        &self.0.session
    }

    /// An error of the session's queries with what only the context knows: the folder of a spill disk that is full.
    pub fn explain(&self, error: Error) -> Error {
        if error.detail::<SpillFull>().is_none() || error.get(SPILL_FOLDER).is_some() {
            return error;
        }
        let folders = self.session().runtime_env().disk_manager.temp_dir_paths();
        let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        if folders.is_empty() { error } else { error.with(SPILL_FOLDER, folders.join(", ")) }
    }

    /// The present moment, from the run's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    /// The object stores, for authors of sources and sinks.
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// The object stores, for what outlives a call: a publisher, say, which must not hold the context that holds it.
    pub fn shared_stores(&self) -> Arc<Stores> {
        Arc::clone(&self.0.stores)
    }

    /// Counters of what is read and written, for authors of sources and sinks.
    pub fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// The publishers of foreign sinks.
    pub fn publishers(&self) -> &Publishers {
        &self.0.publishers
    }

    /// What was given to [`JobContextBuilder::extension`] of this type: how sources and sinks that need more than stores
    /// (a catalog, a client) come by it.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let found = self.0.extensions.get(&TypeId::of::<T>())?;
        Arc::downcast(Arc::clone(found)).ok()
    }

    /// Where a sink notes what it is about to leave behind.
    pub fn journal(&self) -> &dyn Journal {
        self.0.journal.as_ref()
    }

    /// Begins a file that appears at `target` once the run is published. `root` is the sink's own folder, at or above
    /// `target`. Whoever stops waiting for it leaves nothing behind: it comes to its end, and is noted.
    ///
    /// # Errors
    /// Those of the store; [`Stopped`](crate::ErrorKind::Stopped) after [`JobContext::end_staging`].
    pub async fn stage_file(&self, root: &Location, target: &Location) -> Result<Box<dyn StagedFile>> {
        let (store, root_path) = self.declare(root)?;
        let (ctx, target_path) = (self.clone(), target.resolve()?.path);
        let create = async move { store.staging.create(ctx.journal(), ctx.run(), &root_path, &target_path).await };
        self.0.under_way.work(create).await.map_err(|e| e.with("target", target))
    }

    /// Stages whole files at once, and says in their order what publishes them: [`JobContext::stage_file`] for files that
    /// are small and many. An object store is sent all at the same time; a file system writes one after the other.
    ///
    /// # Errors
    /// Those of [`JobContext::stage_file`].
    pub async fn stage_files(
        &self,
        root: &Location,
        files: Vec<(Location, bytes::Bytes)>,
    ) -> Result<Vec<PublishAction>> {
        let (store, root_path) = self.declare(root)?;
        let ctx = self.clone();
        let put = async move { store.staging.put(ctx.journal(), ctx.run(), &root_path, files).await };
        self.0.under_way.work(put).await
    }

    /// Opens a sink's own folder, and keeps in mind that it is one.
    fn declare(&self, root: &Location) -> Result<(Store, Path)> {
        let (store, path) = self.stores().open(root)?;
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner).insert(Location::of(&store.url, &path));
        Ok((store, path))
    }

    /// The folders that sinks have staged files for, absolute: each the `root` of a [`JobContext::stage_file`].
    pub fn staging_roots(&self) -> BTreeSet<Location> {
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a file at once where nobody looks, without staging it: into a folder that nothing points to yet, noted as
    /// [`DiscardAction::Folder`](crate::publish::DiscardAction::Folder). Returns its [hash](crate::staging::content_hash).
    ///
    /// # Errors
    /// Those of [`JobContext::stage_file`].
    pub async fn put_unseen(&self, target: &Location, bytes: bytes::Bytes) -> Result<u64> {
        let (store, path) = self.stores().open(target)?;
        let put = async move {
            let hash = XxHash3_64::oneshot(&bytes);
            store.staging.put_unseen(&path, bytes).await.map(|()| hash)
        };
        self.0.under_way.work(put).await.map_err(|e| e.with("target", target))
    }

    /// Ends a file that was begun by [`JobContext::stage_file`] and lets it appear at once: [`JobContext::put_unseen`] for
    /// files that are large. What it returns made the file appear.
    ///
    /// # Errors
    /// Those of [`JobContext::stage_file`].
    pub async fn finish_unseen(&self, file: Box<dyn StagedFile>, target: &Location) -> Result<PublishAction> {
        let (store, _) = self.stores().open(target)?;
        let finish = async move {
            let action = file.finish().await?;
            store.staging.publish(&action).await.map(|()| action)
        };
        self.0.under_way.work(finish).await.map_err(|e| e.with("target", target))
    }

    /// Lets no more files be begun and waits for those that are being begun now, also where nobody else does any more. Only
    /// then has all been noted that has to be discarded; the runtime calls it when a job's `main` has ended or is told to.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if that takes longer than `within`.
    pub async fn end_staging(&self, within: Duration) -> Result<()> {
        self.0.under_way.end(within).await
    }

    /// Executes publish actions now, outside of a run; for tests of sinks.
    ///
    /// # Errors
    /// The first action that fails.
    pub async fn publish(&self, actions: &[PublishAction]) -> Result<()> {
        publish(self.stores(), self.publishers(), actions, &|_| {}).await
    }

    /// How far the source `name` had read when the last run of this job and scope was published.
    pub fn bookmark(&self, name: &str) -> Option<&serde_json::Value> {
        self.0.bookmarks.get(name)
    }

    /// Sets how far the source `name` has read. It is committed with the rows of this run, or not at all.
    pub fn advance_bookmark(&self, name: impl Into<String>, position: serde_json::Value) {
        self.0.advanced.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), position);
    }

    /// All bookmarks as they will be after this run.
    pub fn bookmarks_after(&self) -> BTreeMap<String, serde_json::Value> {
        let mut all = self.0.bookmarks.clone();
        all.extend(self.0.advanced.lock().unwrap_or_else(PoisonError::into_inner).clone());
        all
    }
}

/// A [`JobContext`] with the job's arguments, to which it dereferences.
#[derive(Debug, Clone)]
pub struct Context<A> {
    args: A,
    job: JobContext,
}

impl<A> Context<A> {
    /// Puts arguments and context together.
    pub fn new(args: A, job: JobContext) -> Self {
        Self { args, job }
    }

    /// The job's arguments.
    pub fn args(&self) -> &A {
        &self.args
    }

    /// The context without the arguments.
    pub fn job(&self) -> &JobContext {
        &self.job
    }
}

impl<A> Deref for Context<A> {
    type Target = JobContext;
    fn deref(&self) -> &JobContext {
        &self.job
    }
}

/// Builds a [`JobContext`].
#[derive(Debug)]
pub struct JobContextBuilder {
    job: String,
    scope: String,
    run_id: Option<RunId>,
    run: Option<Run>,
    memory_limit: Option<usize>,
    threads: Option<usize>,
    spill_dir: Option<PathBuf>,
    fsync: bool,
    io: Arc<dyn Io>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    factories: Vec<(String, Arc<dyn StoreFactory>)>,
    bookmarks: BTreeMap<String, serde_json::Value>,
    extensions: Extensions,
    shared: Option<JobContext>,
}

impl JobContextBuilder {
    fn new(job: String) -> Self {
        Self {
            job,
            scope: Run::WHOLE_JOB.to_owned(),
            run_id: None,
            run: None,
            memory_limit: None,
            threads: None,
            spill_dir: None,
            fsync: false,
            io: Arc::new(StagingIo::default()),
            journal: Arc::new(MemoryJournal::default()),
            clock: Arc::new(SystemClock),
            factories: Vec::new(),
            bookmarks: BTreeMap::new(),
            extensions: Extensions::new(),
            shared: None,
        }
    }

    /// Takes over the session, the stores and the extensions of another context; limits and store factories set here then
    /// have no effect.
    #[must_use]
    pub fn share(mut self, other: &JobContext) -> Self {
        let own = std::mem::replace(&mut self.extensions, other.0.extensions.clone());
        self.extensions.extend(own);
        self.shared = Some(other.clone());
        self
    }

    /// The scope within which runs exclude one another ([`Run::WHOLE_JOB`] by default).
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// The run's id (generated by default).
    #[must_use]
    pub fn run_id(mut self, id: RunId) -> Self {
        self.run_id = Some(id);
        self
    }

    /// The whole identity of the run, instead of its parts.
    #[must_use]
    pub fn run(mut self, run: Run) -> Self {
        self.run = Some(run);
        self
    }

    /// The bytes that queries may hold in memory before they spill (unbounded by default).
    #[must_use]
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// How many partitions a plan has, and so how many cores it can use (all by default).
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Where queries spill (the system's temporary folder by default).
    #[must_use]
    pub fn spill_dir(mut self, folder: PathBuf) -> Self {
        self.spill_dir = Some(folder);
        self
    }

    /// Flush local files to the disk before the commit, so that they survive a power loss (off by default).
    #[must_use]
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.fsync = fsync;
        self
    }

    /// What `load` and `save` do ([`StagingIo`] by default).
    #[must_use]
    pub fn io(mut self, io: Arc<dyn Io>) -> Self {
        self.io = io;
        self
    }

    /// Where sinks note what they leave behind (memory by default).
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = journal;
        self
    }

    /// The clock (the system's by default).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Adds a kind of object store.
    #[must_use]
    pub fn store_factory(mut self, scheme: impl Into<String>, factory: Arc<dyn StoreFactory>) -> Self {
        self.factories.push((scheme.into(), factory));
        self
    }

    /// Adds a value that sources and sinks find by its type, in place of any other of that type.
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(mut self, value: Arc<T>) -> Self {
        self.extensions.insert(TypeId::of::<T>(), value);
        self
    }

    /// The bookmarks of the last published run.
    #[must_use]
    pub fn bookmarks(mut self, bookmarks: BTreeMap<String, serde_json::Value>) -> Self {
        self.bookmarks = bookmarks;
        self
    }

    /// Builds the context.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the spill directory is not there and cannot be made, or cannot be written.
    pub fn build(self) -> Result<JobContext> {
        let started_at = self.clock.now();
        let (session, stores) = match &self.shared {
            Some(other) => (other.session().clone(), Arc::clone(&other.0.stores)),
            None => self.open_session()?,
        };
        let run = self.run.unwrap_or_else(|| Run {
            id: self.run_id.unwrap_or_else(|| RunId::generate(started_at)),
            job: self.job,
            scope: self.scope,
            started_at,
            token: Run::new_token(),
        });
        Ok(JobContext(Arc::new(Inner {
            run,
            session,
            stores,
            publishers: Publishers::default(),
            io: self.io,
            journal: self.journal,
            under_way: UnderWay::default(),
            clock: self.clock,
            meters: Meters::default(),
            extensions: self.extensions,
            bookmarks: self.bookmarks,
            advanced: Mutex::default(),
            roots: Mutex::default(),
        })))
    }

    fn open_session(&self) -> Result<(SessionContext, Arc<Stores>)> {
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            // Statistics of files are read when a plan needs them, not before.
            .with_collect_statistics(false)
            .set_str("datafusion.execution.time_zone", "+00:00");
        if let Some(threads) = self.threads {
            config = config.with_target_partitions(threads);
        }
        let mut env = RuntimeEnvBuilder::new();
        if let Some(bytes) = self.memory_limit {
            let top = std::num::NonZeroUsize::MIN.saturating_add(4);
            env = env.with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(bytes), top)));
        }
        if let Some(folder) = &self.spill_dir {
            env = env.with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![folder.clone()])),
            );
        }
        let mut stores = Stores::new(self.fsync);
        for (scheme, factory) in &self.factories {
            stores = stores.with_factory(scheme, Arc::clone(factory));
        }
        let stores = Arc::new(stores);
        let env = env.with_object_store_registry(stores.clone()).build_arc().map_err(|e| match &self.spill_dir {
            Some(folder) => Error::usage("queries cannot spill to this folder; name one that can be written")
                .with(SPILL_FOLDER, folder.display())
                .because(e),
            None => e.into(),
        })?;
        Ok((sql::session(config, env), stores))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use datafusion::prelude::CsvReadOptions;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use tokio::time::timeout;

    use super::*;
    use crate::ErrorKind;
    use crate::publish::DiscardAction;
    use crate::staging::Staging;

    /// A store that takes its time until a file is there; it counts them.
    #[derive(Debug, Clone, Default)]
    struct Slow(Arc<AtomicUsize>);

    impl Slow {
        async fn appear(&self) -> Result<()> {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    impl StoreFactory for Slow {
        fn open(&self, url: &url::Url) -> Result<Store> {
            Ok(Store { url: url.clone(), objects: Arc::new(InMemory::new()), staging: Arc::new(self.clone()) })
        }
    }

    #[async_trait]
    impl Staging for Slow {
        async fn create(&self, _: &dyn Journal, _: &Run, _: &Path, _: &Path) -> Result<Box<dyn StagedFile>> {
            Ok(Box::new(self.clone()))
        }
        async fn put_unseen(&self, _: &Path, _: Bytes) -> Result<()> {
            self.appear().await
        }
        async fn publish(&self, _: &PublishAction) -> Result<()> {
            self.appear().await
        }
        async fn discard(&self, _: &DiscardAction) -> Result<()> {
            Ok(())
        }
    }

    #[async_trait]
    impl StagedFile for Slow {
        async fn write(&mut self, _: Bytes) -> Result<()> {
            Ok(())
        }
        async fn finish(self: Box<Self>) -> Result<PublishAction> {
            Ok(PublishAction::Delete { location: "memory:/x".into() })
        }
    }

    #[tokio::test]
    async fn the_end_waits_for_files_that_appear_unseen() {
        let (slow, moment) = (Slow::default(), Duration::from_millis(1));
        let ctx = JobContext::builder("job").store_factory("memory", Arc::new(slow.clone())).build().unwrap();
        let target = Location::from("memory:/_versions/run/x");
        let file = ctx.stage_file(&target, &target).await.unwrap();
        assert!(timeout(moment, ctx.put_unseen(&target, "x".into())).await.is_err(), "it was dropped");
        assert!(timeout(moment, ctx.finish_unseen(file, &target)).await.is_err(), "it was dropped");
        ctx.end_staging(Duration::from_secs(10)).await.unwrap();
        assert_eq!(slow.0.load(Ordering::SeqCst), 2, "the end did not wait");
        assert_eq!(ctx.put_unseen(&target, "x".into()).await.unwrap_err().kind(), ErrorKind::Stopped);
    }

    #[test]
    fn extensions_are_found_by_type_and_shared() {
        let ctx =
            JobContext::builder("job").extension(Arc::new(7_i32)).extension(Arc::new("a".to_owned())).build().unwrap();
        let other = JobContext::builder("job").extension(Arc::new(8_i32)).share(&ctx).build().unwrap();
        assert_eq!((ctx.extension::<i32>(), other.extension::<i32>()), (Some(Arc::new(7)), Some(Arc::new(8))));
        assert_eq!((other.extension::<String>(), other.extension::<u8>()), (Some(Arc::new("a".to_owned())), None));
    }

    #[tokio::test]
    async fn sql_finds_the_stores_without_any_source_having_opened_them() {
        let ctx = JobContext::builder("job").build().unwrap();
        let other = JobContext::builder("job").share(&ctx).build().unwrap();
        let (store, path) = other.stores().open(&Location::from("memory:/x/a.csv")).unwrap();
        store.objects.put(&path, "n\n1\n2\n".into()).await.unwrap();
        let rows = ctx.session().read_csv("memory:///x/a.csv", CsvReadOptions::new()).await.unwrap();
        assert_eq!(rows.count().await.unwrap(), 2);

        let unknown = ctx.session().read_csv("s3://bucket/a.csv", CsvReadOptions::new()).await.unwrap_err();
        assert!(Error::from(unknown).chain().contains("built without support for `s3:`"));
    }
}
