//! The job as a binary.

fn main() -> std::process::ExitCode {
    hardtack::run(env!("CARGO_PKG_NAME"), books_data_product::main)
}
