//! Everything that the test of a hardtack job needs.
#![allow(
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "this crate is the part of a test that looks at files and processes, and panicking is how it speaks"
)]

mod context;
mod doubles;
mod frame;
mod job;
mod lake;
mod matching;
mod snapshot;
mod value;

pub use arrow::datatypes::DataType;
pub use context::{Call, Given, TestContext};
pub use doubles::*;
pub use frame::{Cell, Frame, frame_of, null, types};
#[doc(no_inline)]
pub use insta;
pub use job::{Finished, JobBinary, Running};
pub use lake::{TempLake, load, save};
pub use matching::{Expected, Mismatch, assert_frame, frame_that};
#[doc(no_inline)]
pub use serde_json::json;
pub use snapshot::{logical_plan, optimized_plan, physical_plan, table};
