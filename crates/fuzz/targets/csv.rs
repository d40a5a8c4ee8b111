//! `cargo fuzz run -s none --features libfuzzer fuzz_csv`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hardtack_fuzz::targets::csv(data));
