//! How a job ends: with a published run, an error, or a panic.

use std::any::Any;

use hardtack_core::guard::panic_text;
use hardtack_core::{Error, StagedSink};
use hardtack_state::RunRecord;

/// A published run.
#[derive(Debug)]
pub struct Outcome {
    /// Its record.
    pub record: RunRecord,
    /// The data that its sinks staged.
    pub sinks: Vec<StagedSink>,
    /// The first rows of each sink as text, if requested.
    pub shown: Vec<(String, String)>,
}

pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    Error::unexpected(format!("the job panicked: {}", panic_text(panic).unwrap_or("no message")))
}
