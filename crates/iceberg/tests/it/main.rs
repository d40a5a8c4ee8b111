//! Iceberg tables in a temporary folder, with an embedded catalog and with a REST catalog.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod altering;
mod changes;
mod compacting;
mod creating;
mod deleted;
mod evolving;
mod foreign;
mod interop;
mod interposed;
mod maintenance;
mod merging;
mod publishing;
mod regrouping;
mod rest;
mod saving;
mod sorting;
mod swapping;
mod world;

/// With the embedded catalog; `rest` has the same tests with another one.
type World = world::World<world::Embedded>;
