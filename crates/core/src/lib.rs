//! The contracts of hardtack: what a job sees of the world, and what sources, sinks and stores have to guarantee.
//!
//! This crate knows no cloud and no file format. Adapters depend on it, never the other way round.
//!
//! * [`Context`]: what a job's `main` sees of its run; [`LoadContext`] and [`StageContext`] are for sources and sinks, and
//!   [`JobContext`] is the whole, for the runtime.
//! * [`Source`] and [`Sink`]: values that say where rows come from and go to.
//! * [`actions`] and [`publish`](mod@publish): a sink *stages* rows; the run then commits and executes
//!   [`PublishAction`]s. See [`staging`] for how files stay invisible until then.
//! * [`sql`]: the session in which queries run, with corrections of DataFusion.
//! * [`Location`], [`Run`], [`Error`], [`Clock`]: the vocabulary.

pub mod actions;
pub mod audit;
pub mod bookmarks;
pub mod clock;
mod context;
mod error;
pub mod fault;
pub mod format;
pub mod guard;
mod io;
pub mod listing;
pub mod location;
pub mod meter;
mod nearest;
pub mod observe;
pub mod operator;
mod persist;
pub mod progress;
pub mod publish;
mod query_error;
mod reads;
mod run;
mod show;
pub mod sql;
pub mod staging;
pub mod store;
pub mod text;
mod under_way;
pub mod watermark;
mod window;

pub use actions::{DiscardAction, Journal, PublishAction};
pub use clock::Clock;
pub use context::{Context, Environment, JobContext, JobContextBuilder, LoadContext, StageContext};
pub use error::{Error, ErrorKind, Result};
pub use io::{Io, NamedTable, Report, Sink, Source, Staged, StagedSink, StagingIo};
pub use location::{Location, Resolved};
pub use meter::{Counts, Meter, Meters};
pub use nearest::nearest;
pub use reads::Reads;
pub use run::{Run, RunId};
pub use show::ShowFields;
pub use store::{Store, Stores};
pub use window::{Window, moment};
