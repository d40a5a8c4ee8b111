//! A source's view of the run.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Environment, JobContext};
use crate::bookmarks::{Advance, End, Known};
use crate::meter::Meter;
use crate::run::Run;
use crate::{Error, Result, Window};

/// What a [`Source`](crate::Source) sees while it is loaded: the [`Environment`], its counters, and how far it had read.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct LoadContext {
    job: JobContext,
    source: Arc<str>,
}

impl LoadContext {
    pub(super) fn new(job: JobContext, source: &str) -> Self {
        Self { job, source: source.into() }
    }

    /// The name of the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The run, for a source that does more than to read: an audit reports to it, for example.
    pub fn job(&self) -> &JobContext {
        &self.job
    }

    /// Which run this is.
    pub fn run(&self) -> &Run {
        self.job.run()
    }

    /// The span of time that the run processes; see [`Context::window`](crate::Context::window).
    pub fn window(&self) -> Option<Window> {
        self.job.window()
    }

    /// The present moment, from the run's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.job.now()
    }

    /// The counters of the source.
    pub fn meter(&self) -> Arc<Meter> {
        self.job.meters().source(&self.source)
    }

    /// The position after which the source is read, usually that of the last published run of this job and scope; none
    /// for its beginning.
    pub fn bookmark(&self) -> Option<&serde_json::Value> {
        self.job.bookmarks().start(&self.source)
    }

    /// Where the source ends. Only a run that reads again what an earlier one has read ends before the newest data.
    pub fn bookmark_end(&self) -> End<'_> {
        self.job.bookmarks().end(&self.source)
    }

    /// Whether the source starts from its beginning if the bookmark is of another location. Otherwise it refuses.
    pub fn resets_moved_bookmark(&self) -> bool {
        self.job.bookmarks().reset_moved
    }

    /// Advances the source's position, whether or not its rows are read. It is committed with the rows of this run, or
    /// not at all.
    pub fn advance_bookmark(&self, position: serde_json::Value) {
        self.job.add_move(&self.source, Arc::new(Known(position)));
    }

    /// Advances the source's position if the run reads the source to its end: `advance` is asked when `main` has ended.
    /// It is committed with the rows of this run, or not at all.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the source was loaded before: the second time it may find more, so neither
    /// position would be right for both.
    pub fn advance_bookmark_when_read(&self, advance: Arc<dyn Advance>) -> Result<()> {
        if self.job.add_move(&self.source, advance) {
            return Ok(());
        }
        Err(Error::usage("a source with a bookmark is loaded once in a run; load it once and clone the frame"))
    }
}

impl Deref for LoadContext {
    type Target = Environment;
    fn deref(&self) -> &Environment {
        &self.job
    }
}
