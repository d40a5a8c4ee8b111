//! Tables by name, over real files and catalogs.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    unreachable_pub,
    reason = "tests access files and may panic; their modules are private"
)]

mod bookmarks;
mod crashes;
mod crawling;
mod dataset;
mod datasets;
mod dialects;
mod evolution;
mod faulty;
mod files;
mod glue;
#[cfg(feature = "iceberg")]
mod iceberg;
mod lake;
mod laws;
#[cfg(feature = "iceberg")]
mod migrating;
mod names;
mod publishing;
mod purging;
mod reading;
mod saving;
mod versions;
mod world;
