//! A short run of each target under libFuzzer, from the corpus that is committed. `.ci/fuzz` builds the targets with what
//! tells libFuzzer which code an input reaches.

use std::process::Command;

use rstest::rstest;

/// A second or two finds what is easily found; nights are for the rest.
const SECONDS: u32 = 6;

#[rstest]
#[case::csv("csv", env!("CARGO_BIN_EXE_fuzz_csv"))]
#[case::json("json", env!("CARGO_BIN_EXE_fuzz_json"))]
#[case::text("text", env!("CARGO_BIN_EXE_fuzz_text"))]
#[case::hive("hive", env!("CARGO_BIN_EXE_fuzz_hive"))]
#[case::folder("folder", env!("CARGO_BIN_EXE_fuzz_folder"))]
fn no_input_makes_a_decoder_wrong(#[case] target: &str, #[case] program: &str) {
    let found = format!("{}/fuzz/{target}", env!("CARGO_TARGET_TMPDIR"));
    let corpus = format!("{}/corpus/fuzz_{target}", env!("CARGO_MANIFEST_DIR"));
    let done = Command::new(program)
        .args(["-seed=1", "-timeout=10", "-create_missing_dirs=1", "-print_final_stats=1", "-max_len=512"])
        .arg(format!("-max_total_time={SECONDS}"))
        .arg(format!("-artifact_prefix={found}/"))
        // What is found goes to the first folder.
        .args([&found, &corpus])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let stats: Vec<&str> =
        said.lines().filter(|line| line.starts_with("stat::number_of") || line.contains("DONE")).collect();
    println!("{target}: {}", stats.join(" "));
    assert!(done.status.success(), "{target}: {said}");
    // A build without coverage would run, too, and find nothing.
    assert!(said.contains("inline 8-bit counters"), "{said}");
}
