//! All jobs of this workspace in one binary: `jobs run NAME ...`.

fn main() -> std::process::ExitCode {
    hardtack::Jobs::new()
        .with(access_records::job(), access_records::main)
        .with(books_data_product::job(), books_data_product::main)
        .with(customer_events::job(), customer_events::main)
        .with(encounters_for_symptom::job(), encounters_for_symptom::main)
        .with(observations::job(), observations::main)
        .with(policy_snapshots::job(), policy_snapshots::main)
        .with(publish_people::job(), publish_people::main)
        .with(raw_books::job(), raw_books::main)
        .with(sinusitis_study::job(), sinusitis_study::main)
        .run()
}
