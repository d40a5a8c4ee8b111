//! Numbers the partition values that occur.

use std::hash::BuildHasher;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{partition, take};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Consecutive rows of a batch with the same key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    pub(super) key: u32,
    pub(super) batch: u32,
    pub(super) start: u32,
    pub(super) rows: u32,
}

/// Numbers keys in order of first appearance, and stores each as bytes that sort like the key.
pub(super) struct Keys {
    columns: Vec<usize>,
    converter: RowConverter,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub(super) fn new(fields: Vec<SortField>, columns: Vec<usize>) -> Result<Self> {
        Ok(Self {
            columns,
            converter: RowConverter::new(fields)?,
            numbers: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            bytes: Vec::new(),
            ends: Vec::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The key with this number.
    pub(super) fn get(&self, number: u32) -> &[u8] {
        bytes_of(&self.bytes, &self.ends, number)
    }

    /// The approximate memory in use.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8 + self.numbers.allocation_size()
    }

    /// Cuts a batch into runs of rows with one key. Data is mostly clustered (all observations of a visit have its
    /// date), so only the first row of a run is looked up.
    pub(super) fn slices(&mut self, batch: &RecordBatch, number: u32, into: &mut Vec<Slice>) -> Result<()> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| batch.column(*c).clone()).collect();
        let ranges = partition(&columns)?.ranges();
        let starts = UInt32Array::from_iter_values(ranges.iter().map(|r| r.start as u32));
        let firsts = columns.iter().map(|c| take(c, &starts, None)).collect::<Result<Vec<_>, _>>()?;
        let rows = self.converter.convert_columns(&firsts)?;
        for (range, row) in ranges.iter().zip(rows.iter()) {
            let key = self.number(row.as_ref());
            into.push(Slice { key, batch: number, start: range.start as u32, rows: range.len() as u32 });
        }
        Ok(())
    }

    fn number(&mut self, key: &[u8]) -> u32 {
        let Self { numbers, hasher, bytes, ends, .. } = self;
        let hash = hasher.hash_one(key);
        if let Some(found) = numbers.find(hash, |n| bytes_of(bytes, ends, *n) == key) {
            return *found;
        }
        let number = ends.len() as u32;
        bytes.extend_from_slice(key);
        ends.push(bytes.len());
        numbers.insert_unique(hash, number, |n| hasher.hash_one(bytes_of(bytes, ends, *n)));
        number
    }
}

fn bytes_of<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[start..ends[number]]
}
