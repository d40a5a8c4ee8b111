//! The `hardtack` command.

fn main() -> std::process::ExitCode {
    hardtack_cli::main(std::env::args_os())
}
