//! What hardtack remembers between runs: commit records, bookmarks, attempts, run records.
//!
//! Everything lives below one location (`.hardtack/` by default), as small JSON objects:
//!
//! ```text
//! <state>/<job>/runs/<run>.json                   run records
//! <state>/<job>/scopes/<scope>/head.json          a number: all commits up to it are published
//! <state>/<job>/scopes/<scope>/commits/<n>.json   commit records; creating one is the commit
//! <state>/<job>/scopes/<scope>/published/<n>.json the commit's actions have all been executed
//! <state>/<job>/scopes/<scope>/attempts/<run>.json        which number a run claims, and when it was found to have lost
//! <state>/<job>/scopes/<scope>/attempts/<run>/<k>.json    what it has staged, to discard it should it die
//! ```
//!
//! [`Ledger`] is the protocol over these objects, [`StateStore`] the small port that it needs from a store.

mod check;
mod ledger;
mod records;
mod store;

pub use check::{BrokenObject, ObjectKind, broken_objects};
pub use ledger::{AFTERLIFE, Attempt, Begun, Finished, Ledger, LedgerJournal, check_scope};
pub use records::{AttemptRecord, ColumnProfile, CommitRecord, ErrorRecord, RunRecord, RunStatus};
#[cfg(any(test, feature = "mock"))]
pub use store::MockStateStore;
pub use store::{ObjectState, StateStore};
