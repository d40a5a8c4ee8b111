//! The binary of the job.

fn main() -> std::process::ExitCode {
    hardtack::run(env!("CARGO_PKG_NAME"), access_records::main)
}
