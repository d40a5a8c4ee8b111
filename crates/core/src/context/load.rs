//! A source's view of the run.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Environment, JobContext};
use crate::meter::Meter;
use crate::run::Run;

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

    /// Which run this is.
    pub fn run(&self) -> &Run {
        self.job.run()
    }

    /// The present moment, from the run's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.job.now()
    }

    /// The counters of the source.
    pub fn meter(&self) -> Arc<Meter> {
        self.job.meters().source(&self.source)
    }

    /// The source's position as of the last published run of this job and scope.
    pub fn bookmark(&self) -> Option<&serde_json::Value> {
        self.job.bookmark(&self.source)
    }

    /// Advances the source's position. It is committed with the rows of this run, or not at all.
    pub fn advance_bookmark(&self, position: serde_json::Value) {
        self.job.advance_bookmark(&self.source, position);
    }
}

impl Deref for LoadContext {
    type Target = Environment;
    fn deref(&self) -> &Environment {
        &self.job
    }
}
