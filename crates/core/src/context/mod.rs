//! The views of a run for its job, sources and sinks, and the whole of it for the runtime.

mod builder;
mod environment;
mod load;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::prelude::{DataFrame, SessionContext};

pub use self::builder::JobContextBuilder;
pub use self::environment::Environment;
pub use self::load::LoadContext;
pub use self::stage::StageContext;
use crate::actions::{Journal, PublishAction};
use crate::audit::{Audit, AuditOptions, History, PendingAudit};
use crate::bookmarks::{Advance, Advanced, Bookmarks, Moves, Positions};
use crate::clock::Clock;
use crate::io::{Io, Sink, Source};
use crate::observe::Observer;
use crate::persist::Budget;
use crate::publish::{Publishers, publish};
use crate::run::Run;
use crate::under_way::UnderWay;
use crate::{Location, Result, Window, persist};

/// What a job's `main` sees of its run: its arguments, the session, the clock, `load`, `save` and `persist`. Cheap to clone
/// if the arguments are.
#[derive(Debug, Clone)]
pub struct Context<A> {
    args: A,
    job: JobContext,
}

impl<A> Context<A> {
    /// The context of a run of the job with these arguments.
    pub fn new(args: A, job: JobContext) -> Self {
        Self { args, job }
    }

    /// The job's arguments.
    pub fn args(&self) -> &A {
        &self.args
    }

    /// Which run this is.
    pub fn run(&self) -> &Run {
        self.job.run()
    }

    /// The span of time that this run processes, if it was given one (`--window-start`, `--window-end`): by a person, a
    /// scheduler, or `hardtack backfill`. A run that was given one and never asks for it is refused.
    ///
    /// ```
    /// # use hardtack_core::{Context, Error, Location, Result};
    /// # struct Args { source: Location }
    /// /// The folder of the day that the run processes.
    /// fn landed(ctx: &Context<Args>) -> Result<Location> {
    ///     let window = ctx.window().ok_or_else(|| Error::usage("give `--window-start` and `--window-end`"))?;
    ///     Ok(ctx.args().source.join(&window.start().format("%Y/%m/%d").to_string()))
    /// }
    /// ```
    pub fn window(&self) -> Option<Window> {
        self.job.window()
    }

    /// The present moment, from the run's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.job.now()
    }

    /// The DataFusion session, for authors who prefer SQL: `ctx.session().sql("select ...")`.
    pub fn session(&self) -> &SessionContext {
        self.job.session()
    }

    /// The session, the stores and their extensions: for libraries that offer functions to jobs.
    pub fn environment(&self) -> &Environment {
        &self.job
    }

    /// Loads a source: its rows as a plan that reads when it is executed.
    ///
    /// # Errors
    /// The source's error (see [`Source::load`]), with the source's name; [`Usage`](crate::ErrorKind::Usage) if another
    /// source of the job has the same name.
    pub async fn load(&self, source: impl Source) -> Result<DataFrame> {
        self.job.load(source).await
    }

    /// Saves rows to a sink. They are staged now and become visible when the whole run is published.
    ///
    /// # Errors
    /// The error of the sink (see [`Sink::stage`]) or of the plan, with the sink's name;
    /// [`Usage`](crate::ErrorKind::Usage) if another sink of the job has the same name.
    pub async fn save(&self, sink: impl Sink, rows: DataFrame) -> Result<()> {
        self.job.save(sink, rows).await
    }

    /// The same rows, computed at most once, however many plans use them. Use it for rows from which several sinks are
    /// saved: without it, each `save` reads the sources and computes the rows again.
    ///
    /// Nothing is executed now. The first plan that needs the rows executes them; they are held in memory, within the run's
    /// memory limit, and beyond it on disk in the spill folder, until nobody uses them any more.
    ///
    /// ```
    /// # use datafusion::prelude::*;
    /// # use hardtack_core::{Context, JobContext, Result, Sink};
    /// # async fn split(ctx: &Context<()>, readings: DataFrame, good: impl Sink, bad: impl Sink) -> Result<()> {
    /// let readings = ctx.persist(readings).await?;
    /// ctx.save(good, readings.clone().filter(col("celsius").is_not_null())?).await?;
    /// ctx.save(bad, readings.filter(col("celsius").is_null())?).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of planning. Errors of execution come from whoever executes a plan of these rows.
    pub async fn persist(&self, rows: DataFrame) -> Result<DataFrame> {
        self.job.persist(rows).await
    }
}

/// A run from the runtime's point of view: everything that [`Context`], [`LoadContext`] and [`StageContext`] offer, and
/// publication. Tests of sources and sinks make one, too. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobContext(Arc<Inner>);

struct Inner {
    run: Run,
    environment: Environment,
    publishers: Publishers,
    io: Arc<dyn Io>,
    observers: Vec<Arc<dyn Observer>>,
    journal: Arc<dyn Journal>,
    under_way: Arc<UnderWay>,
    clock: Arc<dyn Clock>,
    bookmarks: Bookmarks,
    moves: Mutex<Moves>,
    /// The folders in which files were staged.
    roots: Mutex<BTreeSet<Location>>,
    persist_budget: Arc<Budget>,
    /// Whether anybody asked for the window.
    window_asked: AtomicBool,
    audits: Mutex<Vec<Audit>>,
    /// Audits that end with the run.
    pending: Mutex<Vec<Arc<dyn PendingAudit>>>,
    audit_options: AuditOptions,
    history: History,
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

    /// What [`Context::load`] does.
    ///
    /// # Errors
    /// Those of [`Context::load`].
    pub async fn load(&self, source: impl Source) -> Result<DataFrame> {
        self.0.io.load(self, &source).await
    }

    /// What [`Context::save`] does.
    ///
    /// # Errors
    /// Those of [`Context::save`].
    pub async fn save(&self, sink: impl Sink, rows: DataFrame) -> Result<()> {
        self.0.io.save(self, &sink, rows).await
    }

    /// What [`Context::persist`] does.
    ///
    /// # Errors
    /// Those of [`Context::persist`].
    pub async fn persist(&self, rows: DataFrame) -> Result<DataFrame> {
        self.0.io.persist(self, rows).await
    }

    /// The same rows, computed at most once; for an [`Io`] that does more when a job persists.
    ///
    /// # Errors
    /// Those of [`Context::persist`].
    pub fn persisted(&self, rows: DataFrame) -> Result<DataFrame> {
        persist::persist(rows, &self.0.persist_budget)
    }

    /// What the source of this name sees.
    pub fn loading(&self, source: &str) -> LoadContext {
        LoadContext::new(self.clone(), source)
    }

    /// What the sink of this name sees.
    pub fn staging(&self, sink: &str) -> StageContext {
        StageContext::new(self.clone(), sink)
    }

    /// Which run this is.
    pub fn run(&self) -> &Run {
        &self.0.run
    }

    /// What [`Context::window`] returns.
    pub fn window(&self) -> Option<Window> {
        self.0.window_asked.store(true, Ordering::Relaxed);
        self.run().window
    }

    /// Whether the run was given a window that neither the job nor any of its sources asked for. It would process the
    /// same rows in each window.
    pub fn ignores_window(&self) -> bool {
        self.run().window.is_some() && !self.0.window_asked.load(Ordering::Relaxed)
    }

    /// The present moment, from the run's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    /// Who looks at the rows on their way to the sinks.
    pub fn observers(&self) -> &[Arc<dyn Observer>] {
        &self.0.observers
    }

    /// The publishers of foreign sinks.
    pub fn publishers(&self) -> &Publishers {
        &self.0.publishers
    }

    /// The journal in which sinks note what to discard if the run dies.
    pub fn journal(&self) -> &dyn Journal {
        self.0.journal.as_ref()
    }

    /// What audits do with the rows that they refuse.
    pub fn audit_options(&self) -> &AuditOptions {
        &self.0.audit_options
    }

    /// Adds the audit of a source or sink, whose verdicts are for [`audit`](Self::audit) and the run record.
    pub fn add_audit(&self, audit: Audit) {
        self.0.audits.lock().unwrap_or_else(PoisonError::into_inner).push(audit);
    }

    /// The numbers that audits of the source or sink of this name have measured in earlier runs that were published, by
    /// metric, the newest first.
    pub fn earlier_metrics(&self, subject: &str) -> BTreeMap<String, Vec<f64>> {
        self.0.history.of(subject)
    }

    /// The numbers that audits have measured, those of this run included: what the next run knows of.
    pub fn history_after(&self) -> History {
        self.0.history.with(&self.audits())
    }

    /// Adds an audit that ends when `main` has ended.
    pub fn add_pending_audit(&self, audit: Arc<dyn PendingAudit>) {
        self.pending().push(audit);
    }

    /// Drops the audits that have not ended: those of a run that has failed. They hold its context, so it would stay.
    pub fn forget_pending_audits(&self) {
        self.pending().clear();
    }

    fn pending(&self) -> MutexGuard<'_, Vec<Arc<dyn PendingAudit>>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The audits so far, in the order of completion.
    pub fn audits(&self) -> Vec<Audit> {
        self.0.audits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The audit between the end of `main` and the commit: judges by the [audits](Self::audits) of sources and sinks, and
    /// asks the observers and [`Io::audit`] for their verdicts.
    ///
    /// # Errors
    /// The first that stops the run. It carries all audits as a [detail](crate::Error::with_detail): a `Vec<Audit>`.
    pub async fn audit(&self) -> Result<()> {
        let pending = std::mem::take(&mut *self.pending());
        for audit in pending {
            if let Some(audit) = audit.end().await? {
                self.add_audit(audit);
            }
        }
        let mut refusals = self.audits().into_iter().filter_map(|audit| audit.refusal());
        if let Some(first) = refusals.next() {
            // Of several sinks, the first says why; the others come after it.
            let error = refusals.fold(first, |error, other| error.with("and", other));
            return Err(error.with_detail(self.audits()));
        }
        for observer in self.observers() {
            observer.verdict()?;
        }
        self.0.io.audit(self).await
    }

    /// Executes publish actions now, outside a run; for tests of sinks.
    ///
    /// # Errors
    /// The first action that fails.
    pub async fn publish(&self, actions: &[PublishAction]) -> Result<()> {
        publish(self.stores(), self.publishers(), actions, &|_| {}).await
    }

    /// Admits no more files, and waits for those that are being created, even if their callers were cancelled. Only
    /// then is everything noted that has to be discarded. The runtime calls it when `main` has ended or was stopped.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if that takes longer than `within`.
    pub async fn end_staging(&self, within: Duration) -> Result<()> {
        self.0.under_way.end(within).await
    }

    /// The absolute folders for which sinks have staged files: each is the `root` of a [`StageContext::stage_file`].
    pub fn staging_roots(&self) -> BTreeSet<Location> {
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bookmarks with which the run began, and what it does with them.
    pub fn bookmarks(&self) -> &Bookmarks {
        &self.0.bookmarks
    }

    /// All bookmarks as they will be after this run, if it is published.
    pub fn bookmarks_after(&self) -> Positions {
        let mut all = self.0.bookmarks.last.clone();
        if self.0.bookmarks.moves() {
            let moved = |(source, advanced): (&str, Advanced)| match advanced {
                Advanced::To(position) => Some((source.to_owned(), position)),
                Advanced::Same | Advanced::Held(_) => None,
            };
            all.extend(self.moves().iter().filter_map(moved));
        }
        all
    }

    /// The sources whose bookmarks stay although they were loaded, and why.
    pub fn bookmarks_held(&self) -> BTreeMap<String, String> {
        let held = |(source, advanced): (&str, Advanced)| match advanced {
            Advanced::Held(why) => Some((source.to_owned(), why)),
            Advanced::To(_) | Advanced::Same => None,
        };
        self.moves().iter().filter(|_| self.0.bookmarks.moves()).filter_map(held).collect()
    }

    fn moves(&self) -> MutexGuard<'_, Moves> {
        self.0.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns false if the source is there already.
    fn add_move(&self, source: &str, advance: Arc<dyn Advance>) -> bool {
        self.moves().add(source, advance)
    }

    fn declare(&self, root: Location) {
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner).insert(root);
    }

    /// Runs a piece of staging to completion; [`end_staging`](Self::end_staging) waits for it.
    async fn work<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.0.under_way.work(work).await
    }
}

impl Deref for JobContext {
    type Target = Environment;
    fn deref(&self) -> &Environment {
        &self.0.environment
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use bytes::Bytes;
    use datafusion::prelude::CsvReadOptions;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use tokio::time::timeout;

    use super::*;
    use crate::actions::DiscardAction;
    use crate::staging::{StagedFile, Staging};
    use crate::store::{Store, StoreFactory};
    use crate::{Error, ErrorKind};

    /// A slow store that counts the files it creates.
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
        async fn put_unseen(&self, _: Vec<(Path, Bytes)>) -> Result<()> {
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
        let file = ctx.staging("out").stage_file(&target, &target).await.unwrap();
        let files = || vec![(target.clone(), "x".into())];
        assert!(timeout(moment, ctx.staging("out").put_unseen(files())).await.is_err(), "it was dropped");
        assert!(timeout(moment, ctx.staging("out").finish_unseen(file, &target)).await.is_err(), "it was dropped");
        ctx.end_staging(Duration::from_secs(10)).await.unwrap();
        assert_eq!(slow.0.load(Ordering::SeqCst), 2, "the end did not wait");
        assert_eq!(ctx.staging("out").put_unseen(files()).await.unwrap_err().kind(), ErrorKind::Stopped);
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
