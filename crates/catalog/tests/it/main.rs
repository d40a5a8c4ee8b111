//! Runs the shared conformance suite on each catalog, and tests what is specific to it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test accesses files and may panic")]
#![allow(clippy::disallowed_macros, reason = "children of a test talk to it through their standard output")]

mod embedded;
#[cfg(feature = "aws")]
mod glue;
mod iceberg;
mod rest;
#[cfg(feature = "aws")]
mod server;
