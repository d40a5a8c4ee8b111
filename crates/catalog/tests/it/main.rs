//! Catalogs against the suite that all of them share, and what is special to each.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test looks at files and stops where it fails")]

mod embedded;
#[cfg(feature = "aws")]
mod glue;
#[cfg(feature = "aws")]
mod server;
