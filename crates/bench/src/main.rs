//! The `hardtack-bench` command.

#[expect(clippy::disallowed_methods, reason = "reads the command line")]
fn main() -> std::process::ExitCode {
    hardtack_bench::main(std::env::args_os())
}
