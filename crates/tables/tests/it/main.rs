//! Tables by name, over real files and catalogs.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test stops where it fails; its modules are for itself")]

mod files;
mod laws;
mod names;
mod reading;
mod world;
