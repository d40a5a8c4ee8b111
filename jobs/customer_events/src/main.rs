//! The binary of the job.

fn main() -> std::process::ExitCode {
    customer_events::job().run(customer_events::main)
}
