//! Generated files, read by our readers and by naive ones.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests may panic and print; their modules are private"
)]

mod crawled;
mod csv;
mod decoders;
mod files;
mod json;
mod texts;
mod trial;
mod typed;
