//! The job as a binary.

fn main() -> std::process::ExitCode {
    publish_people::job().run(publish_people::main)
}
