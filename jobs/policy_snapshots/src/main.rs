//! The binary of the job.

fn main() -> std::process::ExitCode {
    policy_snapshots::job().run(policy_snapshots::main)
}
