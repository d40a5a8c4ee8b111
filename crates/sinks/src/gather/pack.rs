//! Holds repeated texts once.
//!
//! All rows are held until the last one has arrived. Most text columns of real feeds repeat (names of units, codes and
//! their descriptions, ids of a parent row), so they take a fraction of the memory if each text is stored once and rows
//! have its number. Compact rows are also faster to assemble, because that is bound by memory access: a row is moved by
//! copying numbers, and its texts are read only when they are encoded.

use std::sync::Arc;

use ahash::RandomState;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray, UInt32Array, UInt64Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, UInt32Type};
use datafusion::common::Result;
use hashbrown::HashTable;

/// A batch is not packed if more than one row in this many has a new text.
const WORTH_IT: usize = 4;
/// The number of rows that are examined before a batch is given up.
const SAMPLE: usize = 512;
/// The number of batches for which a column is not tried again after it was given up.
const PATIENCE: u32 = 32;

/// The type of packed texts.
pub(super) fn packed_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

/// The hash of a text; rows are compared by it as well.
pub(super) fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// Numbers the texts of one column, batch by batch.
pub(super) struct Packer {
    numbers: HashTable<u32>,
    hasher: RandomState,
    bytes: Vec<u8>,
    /// The offsets of the texts: the start of the first, then the end of each.
    ends: Vec<i32>,
    hashes: Vec<u64>,
    /// The number of batches for which packing is not tried.
    wait: u32,
}

impl Default for Packer {
    fn default() -> Self {
        Self {
            numbers: HashTable::new(),
            hasher: hasher(),
            bytes: Vec::new(),
            ends: vec![0],
            hashes: Vec::new(),
            wait: 0,
        }
    }
}

impl Packer {
    /// The text numbers if the column has repeated texts, otherwise the column unchanged.
    pub(super) fn pack(&mut self, column: &ArrayRef) -> ArrayRef {
        let Some(texts) = column.as_string_opt::<i32>() else { return Arc::clone(column) };
        if self.wait > 0 {
            self.wait -= 1;
            return Arc::clone(column);
        }
        let before = self.hashes.len();
        match self.numbers_of(texts) {
            Some(numbers) => Arc::new(UInt32Array::new(numbers.into(), texts.nulls().cloned())),
            None => {
                self.forget_from(before);
                self.wait = PATIENCE;
                Arc::clone(column)
            }
        }
    }

    fn numbers_of(&mut self, texts: &StringArray) -> Option<Vec<u32>> {
        let before = self.hashes.len();
        let (data, offsets) = (texts.value_data(), texts.value_offsets());
        let mut numbers: Vec<u32> = Vec::with_capacity(texts.len());
        let mut last: Option<(&[u8], u32)> = None;
        for (row, bounds) in offsets.windows(2).enumerate() {
            // The text of a null does not matter.
            let text = &data[bounds[0] as usize..bounds[1] as usize];
            // Equal texts are often consecutive, such as the rows of one visit.
            if let Some((same, number)) = last
                && same == text
            {
                numbers.push(number);
                continue;
            }
            let number = self.number(text)?;
            if (self.hashes.len() - before) * WORTH_IT > row.max(SAMPLE) {
                return None;
            }
            numbers.push(number);
            last = Some((text, number));
        }
        Some(numbers)
    }

    fn number(&mut self, text: &[u8]) -> Option<u32> {
        let Self { numbers, hasher, bytes, ends, hashes, .. } = self;
        let hash = hasher.hash_one(text);
        let known = |n: u32| &bytes[ends[n as usize] as usize..ends[n as usize + 1] as usize];
        if let Some(number) = numbers.find(hash, |n| hashes[*n as usize] == hash && known(*n) == text) {
            return Some(*number);
        }
        let number = u32::try_from(hashes.len()).ok()?;
        let end = i32::try_from(bytes.len() + text.len()).ok()?;
        bytes.extend_from_slice(text);
        ends.push(end);
        hashes.push(hash);
        numbers.insert_unique(hash, number, |n| hashes[*n as usize]);
        Some(number)
    }

    /// Forgets all texts from this number on.
    fn forget_from(&mut self, number: usize) {
        for (n, hash) in self.hashes.iter().enumerate().skip(number) {
            if let Ok(entry) = self.numbers.find_entry(*hash, |found| *found as usize == n) {
                entry.remove();
            }
        }
        self.hashes.truncate(number);
        self.ends.truncate(number + 1);
        self.bytes.truncate(self.ends[number] as usize);
    }

    /// The hash of each text of a packed column.
    pub(super) fn hashes(&self, numbers: &UInt32Array) -> UInt64Array {
        // The number of a null is that of any text, or out of range.
        let hash = |number: &u32| self.hashes.get(*number as usize).copied().unwrap_or_default();
        UInt64Array::new(numbers.values().iter().map(hash).collect(), numbers.nulls().cloned())
    }

    /// The approximate memory in use.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + self.hashes.capacity() * 8 + self.numbers.allocation_size()
    }

    /// Takes all texts, in order of their numbers, and resets the packer.
    pub(super) fn take(&mut self) -> Result<ArrayRef> {
        let Self { bytes, ends, .. } = std::mem::replace(self, Self { wait: self.wait, ..Self::default() });
        Ok(Arc::new(StringArray::try_new(OffsetBuffer::new(ends.into()), bytes.into(), None)?))
    }
}

/// A packed column: numbers with their texts.
pub(super) fn with_texts(numbers: &UInt32Array, texts: &ArrayRef) -> Result<ArrayRef> {
    Ok(Arc::new(DictionaryArray::try_new(numbers.clone(), Arc::clone(texts))?))
}

/// Unpacked texts in packed form: each row has a text of its own.
pub(super) fn as_packed(texts: ArrayRef) -> Result<ArrayRef> {
    let numbers = UInt32Array::new((0..texts.len() as u32).collect(), texts.nulls().cloned());
    with_texts(&numbers, &texts)
}

/// A column of texts, packed or not.
pub(super) enum Texts<'a> {
    Plain(&'a StringArray),
    Packed(&'a UInt32Array, &'a StringArray),
}

impl<'a> Texts<'a> {
    /// The column, which must have text type.
    pub(super) fn of(column: &'a dyn Array) -> Self {
        match column.data_type() {
            DataType::Utf8 => Self::Plain(column.as_string()),
            _ => {
                let packed = column.as_dictionary::<UInt32Type>();
                Self::Packed(packed.keys(), packed.values().as_string())
            }
        }
    }

    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Plain(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::Packed(keys, texts) => keys.is_valid(row).then(|| texts.value(keys.value(row) as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::compute::cast;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_texts_are_the_same_texts(
            batches in prop::collection::vec(prop::collection::vec(prop::option::of("[aüb]{0,2}"), 1..400), 1..4),
            from in 0_usize..9,
        ) {
            let mut packer = Packer::default();
            let columns: Vec<ArrayRef> = batches.into_iter().map(|texts| {
                let column: ArrayRef = Arc::new(StringArray::from(texts));
                column.slice(from.min(column.len()), column.len() - from.min(column.len()))
            }).collect();
            let packed: Vec<ArrayRef> = columns.iter().map(|column| packer.pack(column)).collect();
            let hashes: Vec<_> = packed.iter().map(|p| packer.hashes(p.as_primitive())).collect();
            let all = packer.take().unwrap();
            for ((column, packed), hashes) in columns.iter().zip(&packed).zip(&hashes) {
                let packed = with_texts(packed.as_primitive(), &all).unwrap();
                prop_assert_eq!(&cast(&packed, &DataType::Utf8).unwrap(), column);
                let texts = Texts::of(packed.as_ref());
                for (row, text) in column.as_string::<i32>().iter().enumerate() {
                    prop_assert_eq!(texts.get(row), text);
                    let hash = text.map(|text| hasher().hash_one(text.as_bytes()));
                    prop_assert_eq!(hashes.is_valid(row).then(|| hashes.value(row)), hash);
                }
                prop_assert_eq!(&cast(&as_packed(Arc::clone(column)).unwrap(), &DataType::Utf8).unwrap(), column);
            }
        }
    }

    #[test]
    fn texts_that_do_not_repeat_stay_as_they_are_are_forgotten_and_tried_again_later() {
        let texts = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
        let known = texts(vec!["0".to_owned(); 2000]);
        let different = texts((0..2000).map(|i| i.to_string()).collect());
        let mut packer = Packer::default();
        let packed = |column: ArrayRef| column.data_type() != &DataType::Utf8;
        assert!(packed(packer.pack(&known)));
        assert!(!packed(packer.pack(&different)));
        assert_eq!((packer.hashes.len(), packer.numbers.len(), packer.bytes.len()), (1, 1, 1));
        for _ in 0..PATIENCE {
            assert!(!packed(packer.pack(&known)));
        }
        let again = packer.pack(&known);
        assert_eq!(again.as_primitive::<UInt32Type>().value(7), 0);
        assert_eq!(packer.take().unwrap().len(), 1);
        let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![1, 1]));
        assert_eq!(&packer.pack(&numbers), &numbers);
    }
}
