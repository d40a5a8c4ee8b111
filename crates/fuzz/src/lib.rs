//! Checks that readers are never silently wrong: every value that they return means exactly what the file has, every
//! row is there, or the whole is refused.
//!
//! * Its tests generate files (CSV, JSON, Parquet, Avro, folders with partitions) and compare the results of `CsvFiles`
//!   and its siblings, and of `crawl` with SQL, with those of the naive readers here: [`csv`] and [`json`] read a text
//!   character by character, and [`meaning`] decides with exact numbers whether a value is what was written.
//! * [`targets`] do the same with arbitrary bytes for the hand-written decoders. The tests cut up and join the corpus;
//!   with the feature `libfuzzer` they are programs, which `.ci/fuzz` runs.
//!
//! `cargo test -p hardtack-fuzz` tries a few thousand cases with a fixed seed. `PROPTEST_CASES=25600 cargo test -p
//! hardtack-fuzz` tries a hundred times as many, different ones each time. A failure shows the smallest files that
//! fail, and the seed.

pub mod csv;
pub mod exact;
pub mod json;
pub mod meaning;
pub mod targets;
pub mod time;
pub mod value;
