//! Generated files, read by our readers and by naive ones.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests stop where they fail, and say what they have tried; their modules are for themselves"
)]

mod crawled;
mod csv;
mod decoders;
mod files;
mod json;
mod texts;
mod trial;
mod typed;
