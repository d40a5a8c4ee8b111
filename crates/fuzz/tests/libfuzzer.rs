//! A short run of each target under libFuzzer, from the committed corpus. `.ci/fuzz` builds the targets with coverage
//! instrumentation.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]

use std::env::{self, VarError};
use std::fs;
use std::process::Command;

use rstest::rstest;

/// The seconds per target in a nightly run; none by day.
fn seconds() -> Option<u32> {
    match env::var("HARDTACK_FUZZ_SECONDS") {
        Ok(seconds) => Some(seconds.parse().unwrap()),
        Err(VarError::NotPresent) => None,
        Err(e) => panic!("HARDTACK_FUZZ_SECONDS: {e}"),
    }
}

#[rstest]
#[case::csv("csv", env!("CARGO_BIN_EXE_fuzz_csv"))]
#[case::json("json", env!("CARGO_BIN_EXE_fuzz_json"))]
#[case::text("text", env!("CARGO_BIN_EXE_fuzz_text"))]
#[case::hive("hive", env!("CARGO_BIN_EXE_fuzz_hive"))]
#[case::folder("folder", env!("CARGO_BIN_EXE_fuzz_folder"))]
#[case::dqdl("dqdl", env!("CARGO_BIN_EXE_fuzz_dqdl"))]
fn no_input_makes_a_decoder_wrong(#[case] target: &str, #[case] program: &str) {
    let found = format!("{}/fuzz/{target}", env!("CARGO_TARGET_TMPDIR"));
    let corpus = format!("{}/corpus/fuzz_{target}", env!("CARGO_MANIFEST_DIR"));
    // By day the inputs are deterministic, from the committed corpus only, so that a failure can be reproduced and other
    // changes do not trip over it. libFuzzer writes addresses that it has seen into inputs, so they must not be random
    // either. A night has a random seed, which is what 0 means, and continues from the findings of earlier nights.
    let (mut command, limits) = match seconds() {
        Some(seconds) => (Command::new(program), [format!("-max_total_time={seconds}"), "-seed=0".to_owned()]),
        None => {
            if fs::exists(&found).unwrap() {
                fs::remove_dir_all(&found).unwrap();
            }
            let mut command = Command::new("setarch");
            command.args(["--addr-no-randomize", program]);
            (command, ["-runs=15000".to_owned(), "-seed=1".to_owned()])
        }
    };
    let done = command
        .args(["-timeout=10", "-create_missing_dirs=1", "-print_final_stats=1", "-max_len=512"])
        .args(limits)
        .arg(format!("-artifact_prefix={found}/"))
        // Findings go to the first folder.
        .args([&found, &corpus])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let stats: Vec<&str> =
        said.lines().filter(|line| line.starts_with("stat::number_of") || line.contains("DONE")).collect();
    println!("{target}: {}", stats.join(" "));
    assert!(done.status.success(), "{target}: {}", without_progress(&said));
    // A build without coverage would also run, but find nothing.
    assert!(said.contains("inline 8-bit counters"), "{said}");
}

/// What libFuzzer printed, without its line per new input: these are many, and logs are cut in the middle, where the
/// panic and the input that caused it are.
fn without_progress(said: &str) -> String {
    let progress = |line: &&str| line.starts_with('#') || line.contains("NEW_FUNC");
    said.lines().filter(|line| !progress(line)).collect::<Vec<_>>().join("\n")
}
