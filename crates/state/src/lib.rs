//! The state that hardtack keeps between runs: commit records, bookmarks, attempts, run records.
//!
//! Everything is below one location (`.hardtack/` by default), as small JSON objects:
//!
//! ```text
//! <state>/<job>/runs/<run>.json                   run records
//! <state>/<job>/backfills/<window>.json           how far `hardtack backfill` has come with a window
//! <state>/<pipeline>/pipelines/<scope>/<n>.json   executions of `hardtack run`: how far each job has come
//! <state>/<job>/refused/<scope>/<run>/<sink>/     rows that an audit has refused, as Parquet, for a while
//! <state>/<job>/scopes/<scope>/head.json          a number: all commits up to it are settled
//! <state>/<job>/scopes/<scope>/commits/<n>.json   commit records; creating one is the commit
//! <state>/<job>/scopes/<scope>/published/<n>.json the commit is settled: all its actions have been executed, or a person
//!                                                 has abandoned it
//! <state>/<job>/scopes/<scope>/attempts/<run>.json        which number a run claims, and when it was found to have lost
//! <state>/<job>/scopes/<scope>/attempts/<run>/<k>.json    what it has staged, to discard it should it die
//! ```
//!
//! Each of them, except `head.json`, which is only a verified hint, has the number of its format (see
//! [`hardtack_core::format`]). Commits, attempts and settlements are sealed: their last field is a hash of the
//! preceding text.
//!
//! [`Ledger`] implements the protocol over these objects; [`StateStore`] is the small port that it needs from a store.

mod backfill;
mod bookmarks;
mod check;
mod codec;
mod ledger;
mod names;
mod pipeline;
mod records;
mod store;

pub use backfill::{Backfill, WindowRecord, WindowStatus};
pub use bookmarks::{BookmarkEntry, Move, StartingPoint, moves};
pub use check::{BrokenObject, ObjectKind, broken_objects};
pub use ledger::{AFTERLIFE, Attempt, Begun, End, Finished, Ledger, LedgerJournal};
pub use names::{check_scope, refused_folder};
pub use pipeline::{ALIVE_FOR, JobStatus, PipelineJob, PipelineRecord, Pipelines};
pub use records::{
    Abandonment, AttemptRecord, Change, ColumnProfile, CommitRecord, ErrorRecord, Invocation, RunRecord, RunStatus,
    Settlement, WithheldArg,
};
#[cfg(any(test, feature = "mock"))]
pub use store::MockStateStore;
pub use store::{ObjectState, StateStore};
