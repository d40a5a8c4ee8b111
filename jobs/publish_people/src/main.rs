//! The job as a binary.

fn main() -> std::process::ExitCode {
    hardtack::run(env!("CARGO_PKG_NAME"), publish_people::main)
}
