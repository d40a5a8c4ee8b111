//! The binary of the job.

fn main() -> std::process::ExitCode {
    access_records::job().run(access_records::main)
}
