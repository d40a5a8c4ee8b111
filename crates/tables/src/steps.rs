//! The steps of a commit that concern a table, which the publisher executes.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};

use hardtack_catalog::{Column, TableDescription};
use hardtack_core::format::Format;
use hardtack_core::{Error, Location, Result};
use hardtack_sinks::WrittenFile;
use serde::{Deserialize, Serialize};

/// Steps of the publisher. Format 0 was written before formats had numbers.
const STEP: Format = Format::new("step of a table", 1);

/// One step of a run for one table, as recorded in its commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// The catalog that the run used: it must not be published into another.
    pub(crate) catalog: String,
    pub(crate) database: String,
    pub(crate) table: String,
    /// The table's base folder.
    pub(crate) base: Location,
    /// The name of the folder that only this run writes to.
    pub(crate) run: String,
    /// The run's token, by which the catalog remembers its changes.
    pub(crate) token: String,
    #[serde(flatten)]
    pub(crate) step: Step,
}

/// A step. Each may be executed again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum Step {
    /// Creates the table or updates its columns, and sums up its partitions if it has no counts: before the first
    /// partition changes, so that later additions are counted once.
    Describe { create: Option<Box<TableDescription>>, columns: Vec<Column> },
    /// Registers partitions with additional files.
    Append { partitions: Vec<Slot> },
    /// Points partitions to other files.
    Rebuild { chunk: usize, partitions: Vec<Rebuilt> },
    /// Drops partitions that got no new rows.
    Drop { chunk: usize, partitions: Vec<Superseded> },
    /// Counts the rows of the table.
    Count { change: CountChange },
    /// Removes the superseded files that this record names.
    Remove { record: Location },
}

/// The files that a run has written to one partition. (A table without partition keys is one partition without values.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot {
    pub(crate) values: Vec<String>,
    /// Their folder.
    pub(crate) location: Location,
    /// Their names.
    pub(crate) files: Vec<String>,
    /// The hashes of their contents, in the same order. (Earlier versions did not record them.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hashes: Vec<Option<u64>>,
    #[serde(flatten)]
    pub(crate) counted: Counted,
}

impl Slot {
    pub(crate) fn new(values: Vec<String>, location: Location) -> Self {
        Self { values, location, files: Vec::new(), hashes: Vec::new(), counted: Counted::default() }
    }

    /// Adds a file; files are sorted by name.
    pub(crate) fn add(&mut self, file: &WrittenFile, name: String) {
        let at = self.files.partition_point(|other| *other < name);
        self.files.insert(at, name);
        self.hashes.insert(at, file.xxh3);
        self.counted = self.counted + Counted { rows: file.rows.cast_signed(), bytes: file.bytes.cast_signed() };
    }
}

/// A partition with new files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rebuilt {
    #[serde(flatten)]
    pub(crate) slot: Slot,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) superseded: Option<Superseded>,
}

/// A partition's former location, and its files there as listed while the run staged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Superseded {
    pub(crate) values: Vec<String>,
    pub(crate) location: Location,
    /// Relative to the location.
    pub(crate) files: Vec<String>,
}

/// How the table's counts change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CountChange {
    /// The total is this.
    Set(Counted),
    /// This is added (or subtracted, if negative).
    Add(Counted),
    /// The total is unknown; the next run sums up the partitions.
    Unknown,
}

/// Rows and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) rows: i64,
    pub(crate) bytes: i64,
}

const RECORD_COUNT: &str = "recordCount";
const TOTAL_SIZE: &str = "totalSize";

impl Counted {
    /// Reads the counts from parameters, if they are there.
    pub(crate) fn of(parameters: &BTreeMap<String, String>) -> Option<Self> {
        let number = |key: &str| parameters.get(key)?.parse().ok();
        Some(Self { rows: number(RECORD_COUNT)?, bytes: number(TOTAL_SIZE)? })
    }

    pub(crate) fn write(self, parameters: &mut BTreeMap<String, String>) {
        parameters.insert(RECORD_COUNT.to_owned(), self.rows.max(0).to_string());
        parameters.insert(TOTAL_SIZE.to_owned(), self.bytes.max(0).to_string());
    }

    /// Removes counts that are no longer known.
    pub(crate) fn forget(parameters: &mut BTreeMap<String, String>) {
        parameters.remove(RECORD_COUNT);
        parameters.remove(TOTAL_SIZE);
    }
}

impl Add for Counted {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }
}

impl Sub for Counted {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { rows: self.rows - other.rows, bytes: self.bytes - other.bytes }
    }
}

impl std::iter::Sum for Counted {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// The parameter with the last runs that changed a partition or table, so that a run that is published again after a
/// crash does not undo later runs.
const RUNS: &str = "hardtack.runs";
/// The number of runs to remember.
const MAX_RUNS: usize = 32;

/// Whether this run has already changed it.
pub(crate) fn has_run(parameters: &BTreeMap<String, String>, token: &str) -> bool {
    parameters.get(RUNS).is_some_and(|runs| runs.split(' ').any(|run| run == token))
}

/// Whether any run has changed it, and so maintains its counts.
pub(crate) fn has_runs(parameters: &BTreeMap<String, String>) -> bool {
    parameters.contains_key(RUNS)
}

/// Records that a run changes it.
pub(crate) fn note_run(parameters: &mut BTreeMap<String, String>, token: &str) {
    let runs = parameters.entry(RUNS.to_owned()).or_default();
    let before = runs.split(' ').filter(|run| !run.is_empty());
    let all: Vec<&str> = before.chain([token]).collect();
    *runs = all[all.len().saturating_sub(MAX_RUNS)..].join(" ");
}

/// Removes the record that a run has changed it.
pub(crate) fn forget_run(parameters: &mut BTreeMap<String, String>, token: &str) {
    if let Some(runs) = parameters.get_mut(RUNS) {
        *runs = runs.split(' ').filter(|run| *run != token).collect::<Vec<_>>().join(" ");
    }
}

impl Payload {
    pub(crate) fn qualified_name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    pub(crate) fn to_json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(STEP.versioned(self))
            .map_err(|e| Error::unexpected("a step of a table cannot be written").because(e))
    }

    /// Parses the output of [`Payload::to_json`], or of an earlier version.
    pub(crate) fn parse(payload: &serde_json::Value) -> Result<Self> {
        STEP.check_value(payload)?;
        Self::deserialize(payload).map_err(|e| Error::unexpected("a step of a table does not parse").because(e))
    }

    /// Describes the step, for a person who decides whether to abandon it.
    pub(crate) fn describe(&self) -> String {
        let table = self.qualified_name();
        match &self.step {
            Step::Describe { create: Some(_), .. } => format!("the table {table} is not created"),
            Step::Describe { create: None, .. } => format!("the table {table} does not get its new columns"),
            Step::Append { partitions } => {
                format!("partitions of the table {table} that do not count the new rows: {}", partitions.len())
            }
            Step::Rebuild { partitions, .. } if partitions.iter().all(|rebuilt| rebuilt.slot.values.is_empty()) => {
                format!("the table {table} does not point to the new files")
            }
            Step::Rebuild { partitions, .. } => {
                format!("partitions of the table {table} that do not point to the new files: {}", partitions.len())
            }
            Step::Drop { partitions, .. } => {
                format!("partitions of the table {table} that are not dropped: {}", partitions.len())
            }
            Step::Count { .. } => format!("the table {table} does not count the new rows"),
            Step::Remove { record } => format!("superseded files of the table {table} stay, see {record}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use hardtack_core::ErrorKind;
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    /// A step as written by some version. These files are never edited.
    macro_rules! golden {
        ($format:literal, $step:literal) => {
            include_str!(concat!("../tests/golden/format-", $format, "/step.", $step, ".json"))
        };
    }

    #[rstest]
    #[case::describe("describe", golden!("0", "describe"), golden!("1", "describe"))]
    #[case::append("append", golden!("0", "append"), golden!("1", "append"))]
    #[case::rebuild("rebuild", golden!("0", "rebuild"), golden!("1", "rebuild"))]
    #[case::drop("drop", golden!("0", "drop"), golden!("1", "drop"))]
    #[case::count("count", golden!("0", "count"), golden!("1", "count"))]
    #[case::remove("remove", golden!("0", "remove"), golden!("1", "remove"))]
    fn what_earlier_versions_wrote_is_read(#[case] name: &str, #[case] old: &str, #[case] new: &str) {
        let (old, new): (Value, Value) = (serde_json::from_str(old).unwrap(), serde_json::from_str(new).unwrap());
        assert_eq!((&old["step"], &old["format"], &new["format"]), (&Value::from(name), &Value::Null, &Value::from(1)));
        let step = Payload::parse(&old).unwrap();
        assert_eq!(step, Payload::parse(&new).unwrap());
        // All of it was parsed.
        assert_eq!((serde_json::to_value(&step).unwrap(), step.to_json().unwrap()), (old, new));
        assert!(step.describe().contains(&step.qualified_name()), "{}", step.describe());
    }

    #[test]
    fn what_a_newer_version_has_written_is_refused() {
        let error = Payload::parse(&serde_json::json!({"format": 2, "step": "teleport"})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        insta::assert_snapshot!(error, @"a step of a table has format 2, and this version reads formats up to 1 (hint: upgrade hardtack: a newer version has written the record)");
    }
}
