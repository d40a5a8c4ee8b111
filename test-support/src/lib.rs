//! Test support for hardtack jobs: everything that their tests need, and nothing that their binaries need.
//!
//! | to test | use |
//! | --- | --- |
//! | `main`: given rows in, expected rows out, calls in order | [`TestContext`] |
//! | a pure function of `DataFrame`s | [`rows!`], [`Frame::df`], [`assert_frame`] |
//! | rows against a snapshot | [`assert_frame_snapshot!`] |
//! | data-quality rules | [`assert_passes!`], [`assert_fails!`] |
//! | a plan: what is pushed down, what is scanned twice | [`logical_plan`], [`optimized_plan`], [`physical_plan`] |
//! | a source or sink on real files | [`TempLake`], [`load`], [`save`] |
//! | the built binary: exit codes, signals, crashes | [`JobBinary`] |
//! | what every job promises: re-runs, kills, usage | [`JobContract`] with [`job_contract!`], [`csv_contract!`] ... |
//! | a job against a model of it, on random CSV | the module [`cells`] |
//! | S3 and the Glue Data Catalog, also when they fail | the module `containers`, with the feature of that name |
//! | an Iceberg REST catalog, also when its answers get lost | the module `iceberg_rest`, with the feature `iceberg-rest` |
//! | how many requests reading takes | [`CountingStores`] |
//! | what surrounds jobs, strictly | the doubles: [`MockIo`], [`MockSource`], [`MockSink`] ... |
//!
//! A source or sink is a value, so a test of it needs no support at all: `assert_eq!(books(&args),
//! JsonFiles::new(...))`.
//!
//! The feature `failpoints` enables the fault points of `hardtack-core`, so that [`JobBinary::failing_at`] can stop a
//! job at each of them. As a feature of a dev-dependency it is only enabled in test builds.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::missing_panics_doc,
    reason = "this crate is the part of a test that looks at files and processes, and panicking is how it speaks"
)]

mod audit;
pub mod cells;
#[cfg(feature = "containers")]
pub mod containers;
mod context;
mod contract;
mod counting;
mod doubles;
mod files;
mod frame;
#[cfg(feature = "iceberg-rest")]
pub mod iceberg_rest;
mod job;
mod lake;
mod matching;
mod snapshot;
mod value;

pub use arrow::datatypes::DataType;
#[doc(hidden)]
pub use audit::check_audit;
pub use context::{Call, Given, TestContext};
pub use contract::{Arrivals, JobContract, Operator, is_committed};
pub use counting::CountingStores;
pub use doubles::*;
pub use frame::{Cell, Frame, frame_of, null, types};
#[doc(no_inline)]
pub use insta;
pub use job::{Finished, JobBinary, Running};
pub use lake::{TempLake, block_on, load, save};
pub use matching::{Expected, Mismatch, assert_frame, frame_that};
#[doc(no_inline)]
pub use serde_json::json;
pub use snapshot::{logical_plan, optimized_plan, physical_plan, table};
