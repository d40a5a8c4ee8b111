//! The job as a binary.

fn main() -> std::process::ExitCode {
    raw_books::job().run(raw_books::main)
}
