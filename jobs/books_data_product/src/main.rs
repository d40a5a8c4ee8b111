//! The job as a binary.

fn main() -> std::process::ExitCode {
    books_data_product::job().run(books_data_product::main)
}
