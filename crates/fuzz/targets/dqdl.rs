//! `cargo fuzz run -s none --features libfuzzer fuzz_dqdl`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hardtack_fuzz::targets::dqdl(data));
