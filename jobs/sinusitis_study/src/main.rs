//! The binary of the job.

fn main() -> std::process::ExitCode {
    sinusitis_study::job().run(sinusitis_study::main)
}
