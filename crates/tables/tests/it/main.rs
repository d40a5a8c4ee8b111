//! Tables on real files and an embedded catalog.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "tests look at files")]

mod crashes;
mod evolution;
mod faulty;
mod publishing;
mod purging;
mod saving;
mod versions;
mod world;
