//! The `hardtack-bench` command.

#[expect(clippy::disallowed_methods, reason = "this is where the command line comes in")]
fn main() -> std::process::ExitCode {
    hardtack_bench::main(std::env::args_os())
}
