//! Tests of the test support: above all, its messages when a test fails.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "a test looks at files and processes and stops where it fails"
)]

mod cells;
mod containers;
mod context;
mod doubles;
mod frames;
mod job;
mod lake;
mod matching;
mod proxy;
mod snapshots;

/// The message of a panic, without the backtrace on the terminal.
fn panic_of(f: impl FnOnce()) -> String {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    let panic = result.expect_err("it should have panicked");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}
