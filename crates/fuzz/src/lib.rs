//! Readers are never silently wrong: every value that they give back means exactly what the file has, every row is there, or
//! the whole is refused. This crate holds them to it.
//!
//! * Its tests generate files (CSV, JSON, Parquet, Avro, folders with partitions) and hold what `CsvFiles` and the others,
//!   and `crawl` with SQL, make of them against naive readers, which are here: [`csv`] and [`json`] go through a text
//!   character by character, and [`meaning`] says with exact numbers whether a value is what was written.
//! * [`targets`] do the same with any bytes for the decoders written by hand. The tests try what becomes of the corpus when it
//!   is cut up and joined; with the feature `libfuzzer` they are programs, which `.ci/fuzz` runs.
//!
//! `cargo test -p hardtack-fuzz` tries the same few thousand cases each time. More, and others each time:
//! `PROPTEST_CASES=25600 cargo test -p hardtack-fuzz` (a hundred times as many). A failure shows the smallest files that fail,
//! and the seed.

pub mod csv;
pub mod exact;
pub mod json;
pub mod meaning;
pub mod targets;
pub mod time;
pub mod value;
