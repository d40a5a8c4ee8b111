//! Compares two results: they are equal if they have the same partitions, each with the same rows in any order, in one
//! file.
//!
//! A result is read once, a batch at a time. Each row is encoded as bytes (Arrow's row format, which is injective), the
//! bytes are hashed (128-bit XXH3), and a partition is represented by the number of its rows and the sum of their
//! hashes: a sum does not depend on the order, and counts a row as often as it occurs. So a result of any size is
//! compared in the memory of one batch per thread and one sum per partition.
//!
//! Engines may choose the width of a number, the unit of an instant, the encoding of a string and whether an instant is
//! marked as UTC, so values are normalised first. A number in place of an instant is a difference.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use hardtack_core::{Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use twox_hash::XxHash3_128;

use crate::files;

/// The number of differences, and of rows of each side, that are shown.
const SHOWN: usize = 3;

/// A digest of a result for comparison.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Digest {
    /// Columns by name, with their normalised type.
    pub columns: BTreeMap<String, String>,
    /// The columns that are compared; empty for all.
    pub only: &'static [&'static str],
    /// Partitions by name: `year=2023/month=1/day=31`, or an empty name.
    pub partitions: BTreeMap<String, Partition>,
}

/// A digest of one partition.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Partition {
    /// Its files, sorted.
    pub files: Vec<PathBuf>,
    /// The number of its rows.
    pub rows: u64,
    /// The sum of the hashes of its rows.
    pub hash: u128,
}

impl Digest {
    /// Reads these columns of a result (all if none is named) with this many threads.
    ///
    /// # Errors
    /// `Refused` if a file is not Parquet, does not have the columns of the others or has values that cannot be
    /// normalised; `Unexpected` if one cannot be read.
    pub fn of(folder: &Path, only: &'static [&'static str], threads: usize) -> Result<Self> {
        let files = files::list(folder)?;
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Ok(Self { only, ..Self::default() })));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let read = read(folder, file, only);
                        let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        let added =
                            read.and_then(|read| found.as_mut().map_or(Ok(()), |digest| digest.add(read, file)));
                        if let Err(error) = added {
                            next.store(files.len(), Ordering::Relaxed);
                            *found = Err(error);
                        }
                    }
                });
            }
        });
        let mut digest = found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())?;
        digest.partitions.values_mut().for_each(|partition| partition.files.sort());
        Ok(digest)
    }

    /// The same rows and files as one partition: for results whose folders are not their partitions.
    pub fn whole(mut self) -> Self {
        let mut whole = Partition::default();
        for partition in std::mem::take(&mut self.partitions).into_values() {
            whole.files.extend(partition.files);
            whole.rows += partition.rows;
            whole.hash = whole.hash.wrapping_add(partition.hash);
        }
        self.partitions = BTreeMap::from([(String::new(), whole)]);
        self
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.partitions.values().map(|partition| partition.rows).sum()
    }

    /// All files.
    pub fn files(&self) -> u64 {
        self.partitions.values().map(|partition| partition.files.len() as u64).sum()
    }

    /// Adds what was read from one file.
    fn add(&mut self, (name, columns, rows, hash): Read, file: &Path) -> Result<()> {
        if self.partitions.is_empty() {
            self.columns = columns;
        } else if self.columns != columns {
            let differences = differing_columns(&self.columns, &columns).join("; ");
            return Err(Error::refused(format!("a file has other columns than the others: {differences}"))
                .with("file", file.display()));
        }
        let partition = self.partitions.entry(name).or_default();
        partition.files.push(file.to_owned());
        partition.rows += rows;
        partition.hash = partition.hash.wrapping_add(hash);
        Ok(())
    }

    /// The faults of this result by itself: partitions with more than one file.
    pub fn flaws(&self) -> Vec<String> {
        let split = self.partitions.iter().filter(|(_, partition)| partition.files.len() != 1);
        limited(
            split.map(|(name, partition)| format!("{}: {} files instead of one", shown(name), partition.files.len())),
        )
    }

    /// The files whose rows are not in the order of these columns.
    ///
    /// # Errors
    /// As for [`Digest::of`].
    pub fn unsorted(&self, columns: &[&str]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for file in self.partitions.values().flat_map(|partition| &partition.files) {
            let (mut converter, mut last, mut is_sorted) = (None, None, true);
            each_batch(file, columns, |batch, _| {
                let keys: Vec<ArrayRef> =
                    columns.iter().filter_map(|name| batch.column_by_name(name).map(Arc::clone)).collect();
                let fields = || keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
                if converter.is_none() {
                    converter = RowConverter::new(fields()).ok();
                }
                let rows = converter.as_ref().and_then(|converter| converter.convert_columns(&keys).ok());
                for row in rows.iter().flatten() {
                    is_sorted &= last.as_ref().is_none_or(|last: &OwnedRow| last.row() <= row);
                    last = Some(row.owned());
                }
            })?;
            if !is_sorted {
                found.push(format!("{}: not sorted by {}", file.display(), columns.join(", ")));
            }
        }
        Ok(limited(found.into_iter()))
    }

    /// The differences from another result; empty if there are none. `names` says whose results they are. Differing
    /// rows are read from the files, so these must still exist.
    ///
    /// # Errors
    /// As for [`Digest::of`].
    pub fn differences(&self, other: &Self, names: [&str; 2]) -> Result<Vec<String>> {
        // A file without rows and no file count as equal.
        match (self.rows(), other.rows()) {
            (0, 0) => return Ok(Vec::new()),
            (ours, theirs) if ours.min(theirs) == 0 => return Ok(vec![format!("{ours} rows and {theirs} rows")]),
            _ => {}
        }
        if self.columns != other.columns {
            return Ok(differing_columns(&self.columns, &other.columns));
        }
        let nothing = Partition::default();
        let mut found = Vec::new();
        let all =
            self.partitions.keys().chain(other.partitions.keys().filter(|name| !self.partitions.contains_key(*name)));
        for name in all {
            let ours = self.partitions.get(name).unwrap_or(&nothing);
            let theirs = other.partitions.get(name).unwrap_or(&nothing);
            if (ours.rows, ours.hash) == (theirs.rows, theirs.hash) {
                continue;
            }
            let mut difference = vec![format!("{}: {} rows and {} rows", shown(name), ours.rows, theirs.rows)];
            if found.len() < SHOWN {
                difference.extend(differing_rows([&ours.files, &theirs.files], self.only, names)?);
            }
            found.push(difference.join("\n      "));
        }
        Ok(limited(found.into_iter()))
    }
}

/// The digest of one file: its partition, columns, number of rows and sum of their hashes.
type Read = (String, BTreeMap<String, String>, u64, u128);

fn read(folder: &Path, file: &Path, only: &[&str]) -> Result<Read> {
    let (mut rows, mut hash) = (0, 0u128);
    let columns = each_batch(file, only, |_, hashes| {
        rows += hashes.len() as u64;
        hash = hashes.iter().fold(hash, |sum, hash| sum.wrapping_add(*hash));
    })?;
    Ok((partition_of(folder, file), columns, rows, hash))
}

/// The partition of a file: its folders, with numbers without leading zeros.
fn partition_of(folder: &Path, file: &Path) -> String {
    let parts = file.strip_prefix(folder).unwrap_or(file).parent().unwrap_or(Path::new("")).iter().map(|part| {
        let part = part.to_string_lossy();
        match part.split_once('=').map(|(name, value)| (name, value.parse::<i64>())) {
            Some((name, Ok(number))) => format!("{name}={number}"),
            _ => part.into_owned(),
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Passes each batch of a file to `take`, with normalised values and sorted columns (all if `only` names none), together with the hashes of its
/// rows. Returns the columns and their types.
fn each_batch(
    file: &Path,
    only: &[&str],
    mut take: impl FnMut(&RecordBatch, &[u128]),
) -> Result<BTreeMap<String, String>> {
    let refused = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::refused("a result cannot be read").with("file", file.display()).because(e)
    };
    let opened = File::open(file).map_err(files::failed("cannot open", file))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(|e: ParquetError| refused(e.into()))?;
    let mut names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    names.retain(|name| only.is_empty() || only.contains(&name.as_str()));
    names.sort();
    let types =
        names.iter().filter_map(|name| builder.schema().field_with_name(name).ok()).map(|f| form(f.data_type()));
    let types: Vec<DataType> = types.collect();
    let fields = types.iter().map(|t| SortField::new(t.clone())).collect();
    let converter = RowConverter::new(fields).map_err(|e| refused(e.into()))?;
    for batch in builder.build().map_err(|e| refused(e.into()))? {
        let batch = batch.and_then(|batch| in_form(&batch, &names, &types)).map_err(|e| refused(e.into()))?;
        let rows = converter.convert_columns(batch.columns()).map_err(|e| refused(e.into()))?;
        let hashes: Vec<u128> = rows.iter().map(|row| XxHash3_128::oneshot(row.as_ref())).collect();
        take(&batch, &hashes);
    }
    Ok(names.into_iter().zip(types.iter().map(DataType::to_string)).collect())
}

/// The normalised type for all types of the same values.
fn form(data_type: &DataType) -> DataType {
    match data_type {
        t if t.is_signed_integer() || matches!(t, DataType::UInt8 | DataType::UInt16 | DataType::UInt32) => {
            DataType::Int64
        }
        t if t.is_floating() => DataType::Float64,
        // The finest unit, so that nothing is lost.
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Date64 => DataType::Date32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => form(values),
        // Names of a list's elements and what may be null differ; fields of a struct are in the order of the data.
        DataType::List(element) | DataType::LargeList(element) | DataType::ListView(element) => {
            DataType::List(Arc::new(Field::new("item", form(element.data_type()), true)))
        }
        DataType::Struct(fields) => {
            let field = |field: &Arc<Field>| Field::new(field.name(), form(field.data_type()), true);
            DataType::Struct(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

fn in_form(batch: &RecordBatch, names: &[String], types: &[DataType]) -> Result<RecordBatch, ArrowError> {
    // A value that does not fit is an error, not a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = names.iter().zip(types).map(|(name, data_type)| -> Result<(&String, ArrayRef, bool), ArrowError> {
        let column = batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))?;
        Ok((name, cast_with_options(column, data_type, &options)?, true))
    });
    RecordBatch::try_from_iter_with_nullable(columns.collect::<Result<Vec<_>, _>>()?)
}

fn differing_columns(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> Vec<String> {
    let shown = |columns: &BTreeMap<String, String>, name| columns.get(name).cloned().unwrap_or("nothing".to_owned());
    let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
    let different = names.filter(|name| ours.get(*name) != theirs.get(*name));
    different.map(|name| format!("column {name}: {} and {}", shown(ours, name), shown(theirs, name))).collect()
}

/// Some rows that only one side has, or that occur more often on it.
fn differing_rows(sides: [&[PathBuf]; 2], only: &[&str], names: [&str; 2]) -> Result<Vec<String>> {
    let mut surplus: HashMap<u128, i64> = HashMap::new();
    for (side, step) in sides.into_iter().zip([1, -1]) {
        for file in side {
            each_batch(file, only, |_, hashes| {
                hashes.iter().for_each(|hash| *surplus.entry(*hash).or_default() += step)
            })?;
        }
    }
    let mut lines = Vec::new();
    for ((side, step), name) in sides.into_iter().zip([1, -1]).zip(names) {
        let mut left = SHOWN;
        for file in side {
            each_batch(file, only, |batch, hashes| {
                for (at, hash) in hashes.iter().enumerate() {
                    let Some(count) = surplus.get_mut(hash).filter(|count| **count * step > 0) else { continue };
                    // One of the equal rows is accounted for.
                    *count -= step;
                    if left > 0 {
                        left -= 1;
                        lines.push(format!("only {name}: {}", row(batch, at)));
                    }
                }
            })?;
        }
    }
    Ok(lines)
}

fn row(batch: &RecordBatch, at: usize) -> String {
    let cells = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let value = match column.is_null(at) {
                true => "null".to_owned(),
                false => array_value_to_string(column, at).unwrap_or_else(|e| e.to_string()),
            };
            format!("{}={value}", field.name())
        })
        .collect::<Vec<_>>();
    cells.join(" ")
}

fn shown(partition: &str) -> &str {
    if partition.is_empty() { "the whole" } else { partition }
}

/// The first ones, and how many more there are.
fn limited(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = all.collect();
    if all.len() > SHOWN {
        let more = all.split_off(SHOWN).len();
        all.push(format!("and {more} more"));
    }
    all
}

#[cfg(test)]
mod tests;
