//! Tables on real files and an embedded catalog.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests look at files, and stop where they fail"
)]

mod crashes;
mod evolution;
mod faulty;
mod publishing;
mod purging;
mod saving;
mod versions;
mod world;
