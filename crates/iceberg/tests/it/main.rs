//! Iceberg tables in a temporary folder, with an embedded catalog.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod evolving;
mod interop;
mod maintenance;
mod publishing;
mod saving;
mod world;
