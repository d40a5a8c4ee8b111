//! The `hardtack` command.

#[expect(clippy::disallowed_methods, reason = "this is where the command line comes in")]
fn main() -> std::process::ExitCode {
    hardtack_cli::main(std::env::args_os())
}
