//! The language as its users see it: what parses, what does not and how it is said, and laws of parser and printer.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]

mod builder;
mod invalid;
mod laws;
mod limits;
mod meaning;
mod tokens;
mod valid;
