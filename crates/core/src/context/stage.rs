//! A sink's view of the run.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use datafusion::prelude::DataFrame;
use object_store::path::Path;
use twox_hash::XxHash3_64;

use super::{Environment, JobContext};
use crate::actions::{Journal, PublishAction};
use crate::meter::Meter;
use crate::observe::{ObserveExec, Observer};
use crate::publish::Publishers;
use crate::run::Run;
use crate::staging::StagedFile;
use crate::store::Store;
use crate::{Location, Result};

/// What a [`Sink`](crate::Sink) sees while it stages: the [`Environment`], its counters, the journal, and how files are
/// staged. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StageContext {
    job: JobContext,
    sink: Arc<str>,
    observers: Vec<Arc<dyn Observer>>,
}

impl StageContext {
    pub(super) fn new(job: JobContext, sink: &str) -> Self {
        Self { job, sink: sink.into(), observers: Vec::new() }
    }

    /// The same, with an observer of this sink's rows only: for sinks that wrap another one, to see or hold back what it
    /// writes. It sees rows before the observers of the run do. Its [verdict](Observer::verdict) is not asked for.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// The run, for a sink that does more than to write: an audit reports to it, for example.
    pub fn job(&self) -> &JobContext {
        &self.job
    }

    /// The name of the sink.
    pub fn sink(&self) -> &str {
        &self.sink
    }

    /// Which run this is.
    pub fn run(&self) -> &Run {
        self.job.run()
    }

    /// The present moment, from the run's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.job.now()
    }

    /// The counters of the sink. Its rows are counted by [`observe`](Self::observe) and [`execute`](Self::execute).
    pub fn meter(&self) -> Arc<Meter> {
        self.job.meters().sink(&self.sink)
    }

    /// The publishers of foreign sinks, to which a sink can add its own.
    pub fn publishers(&self) -> &Publishers {
        self.job.publishers()
    }

    /// Where the sink notes what it is about to leave behind.
    pub fn journal(&self) -> &dyn Journal {
        self.job.journal()
    }

    /// Executes a plan as one stream whose rows are counted and shown to the run's observers: for sinks that write one
    /// file. The rows must be those that are written, coerced to the sink's schema.
    ///
    /// # Errors
    /// Those of planning.
    pub async fn execute(&self, rows: DataFrame) -> Result<SendableRecordBatchStream> {
        let task = Arc::new(rows.task_ctx());
        let plan = rows.create_physical_plan().await?;
        Ok(execute_stream(self.observe(plan), task)?)
    }

    /// Wraps a plan so that its rows are counted and shown to the run's observers: for sinks that execute a plan of
    /// their own. It belongs directly below the operator that writes.
    pub fn observe(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let observers = self.observers.iter().chain(self.job.observers()).cloned().collect();
        ObserveExec::wrap(&self.sink, self.meter(), observers, plan)
    }

    /// Creates a file that appears at `target` once the run is published. `root` is the sink's own folder, at or above
    /// `target`. A cancelled call loses nothing: the file is created and noted in the journal.
    ///
    /// # Errors
    /// Those of the store; [`Stopped`](crate::ErrorKind::Stopped) after [`JobContext::end_staging`].
    pub async fn stage_file(&self, root: &Location, target: &Location) -> Result<Box<dyn StagedFile>> {
        let (store, root_path) = self.declare(root)?;
        let (ctx, target_path) = (self.clone(), target.resolve()?.path);
        let create = async move { store.staging.create(ctx.journal(), ctx.run(), &root_path, &target_path).await };
        self.job.work(create).await.map_err(|e| e.with("target", target))
    }

    /// Stages whole files in one batch, and returns their publish actions in order: [`stage_file`](Self::stage_file)
    /// for many small files. Uploads to an object store run concurrently; a file system writes one file after the
    /// other.
    ///
    /// # Errors
    /// Those of [`stage_file`](Self::stage_file).
    pub async fn stage_files(&self, root: &Location, files: Vec<(Location, Bytes)>) -> Result<Vec<PublishAction>> {
        let (store, root_path) = self.declare(root)?;
        let ctx = self.clone();
        let put = async move { store.staging.put(ctx.journal(), ctx.run(), &root_path, files).await };
        self.job.work(put).await
    }

    /// Opens and records a sink's own folder.
    fn declare(&self, root: &Location) -> Result<(Store, Path)> {
        let (store, path) = self.stores().open(root)?;
        self.job.declare(Location::of(&store.url, &path));
        Ok((store, path))
    }

    /// Writes files directly to places where no reader looks: into folders that nothing points to yet, noted as
    /// [`DiscardAction::Folder`](crate::actions::DiscardAction::Folder). Returns their
    /// [hashes](crate::staging::content_hash), in order. They are written as those of [`stage_files`](Self::stage_files).
    ///
    /// # Errors
    /// Those of [`stage_file`](Self::stage_file).
    pub async fn put_unseen(&self, files: Vec<(Location, Bytes)>) -> Result<Vec<u64>> {
        // Partitions of a table can be in other stores than the table.
        let mut batches: Vec<(Store, Vec<(Path, Bytes)>)> = Vec::new();
        let mut contents = Vec::with_capacity(files.len());
        for (target, bytes) in files {
            let (store, path) = self.stores().open(&target)?;
            contents.push(bytes.clone());
            match batches.iter_mut().find(|(other, _)| other.url == store.url) {
                Some((_, batch)) => batch.push((path, bytes)),
                None => batches.push((store, vec![(path, bytes)])),
            }
        }
        let put = async move {
            let hashes = contents.iter().map(|bytes| XxHash3_64::oneshot(bytes)).collect();
            for (store, batch) in batches {
                store.staging.put_unseen(batch).await?;
            }
            Ok(hashes)
        };
        self.job.work(put).await
    }

    /// Finishes a file of [`stage_file`](Self::stage_file) and publishes it at once: [`put_unseen`](Self::put_unseen)
    /// for a large file. Returns the executed action.
    ///
    /// # Errors
    /// Those of [`stage_file`](Self::stage_file).
    pub async fn finish_unseen(&self, file: Box<dyn StagedFile>, target: &Location) -> Result<PublishAction> {
        let (store, _) = self.stores().open(target)?;
        let finish = async move {
            let action = file.finish().await?;
            store.staging.publish(&action).await.map(|()| action)
        };
        self.job.work(finish).await.map_err(|e| e.with("target", target))
    }
}

impl Deref for StageContext {
    type Target = Environment;
    fn deref(&self) -> &Environment {
        &self.job
    }
}
