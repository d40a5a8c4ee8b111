//! The binary of the job.

fn main() -> std::process::ExitCode {
    encounters_for_symptom::job().run(encounters_for_symptom::main)
}
