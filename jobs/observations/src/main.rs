//! The binary of the job.

fn main() -> std::process::ExitCode {
    observations::job().run(observations::main)
}
