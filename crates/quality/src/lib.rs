//! Data-quality rules: nothing bad is published.
//!
//! [`Rules`] are written in DQDL or built in Rust. [`WithRules::audited`] adds them to a sink: they are evaluated on the
//! rows that it writes, in the same pass, and their verdicts gate the commit of the whole run.
//!
//! # How rules are evaluated
//!
//! `compile` turns rules into measures, each of them measured once however many rules need it:
//!
//! * conditions that are counted and aggregates are evaluated on each batch on its way to the writer (`auditor`);
//! * keys are counted by their hashes (`keys`);
//! * what needs another data set is a query of its own (`query`, `others`), which gets its columns through a small channel
//!   (`flow`) and runs beside the writer in DataFusion's operators, which spill within the memory limit;
//! * rules on files read files (`files`).
//!
//! `judge` makes verdicts of what was measured.

mod audited;
mod auditor;
mod compile;
mod condition;
mod example;
mod files;
mod flow;
mod incoming;
mod judge;
mod keys;
mod measure;
mod others;
mod quarantine;
mod query;
mod recommend;
mod rules;

pub use hardtack_core::audit::{Audit, Outcome, Severity, Verdict};
pub use hardtack_dqdl as dqdl;

pub use self::audited::{Audited, WithRules};
pub use self::quarantine::FAILED_RULES;
pub use self::recommend::recommend;
pub use self::rules::Rules;
