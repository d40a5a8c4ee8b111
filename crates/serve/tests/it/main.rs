//! A server, and clients of it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests look at files, and stop where they fail; their modules are for themselves"
)]

mod access;
mod client;
mod limits;
mod psql;
mod served;
