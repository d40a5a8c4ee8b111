//! A server, and clients of it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests access files and may panic; their modules are private"
)]

mod access;
mod client;
mod limits;
mod psql;
mod served;
