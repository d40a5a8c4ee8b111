//! Texts that repeat, held once per batch.
//!
//! All rows are held until the last one has come. Most text columns of real feeds repeat a few values (names of units,
//! codes and their descriptions, ids of a parent row), so a batch takes a fraction of the room when each text is there once
//! and rows have its number. What is compact is also faster to put together, since memory is what that waits for.

use std::hash::BuildHasher;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray, UInt16Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, UInt16Type};
use datafusion::common::Result;
use hashbrown::{DefaultHashBuilder, HashTable};

/// A column with more different values than a part of its rows is left as it is.
const WORTH_IT: usize = 4;
/// So many rows are looked at before a column is given up.
const SAMPLE: usize = 512;
/// A column that was given up is left alone for so many batches.
const PATIENCE: u32 = 32;

/// Packs one column, batch after batch.
#[derive(Default)]
pub(super) struct Packer {
    numbers: HashTable<u16>,
    hasher: DefaultHashBuilder,
    /// Batches for which not to try.
    wait: u32,
}

impl Packer {
    /// The column as a dictionary if it is made of texts that repeat, or else as it is.
    pub(super) fn pack(&mut self, column: &ArrayRef) -> Result<ArrayRef> {
        let Some(texts) = column.as_string_opt::<i32>() else { return Ok(Arc::clone(column)) };
        if self.wait > 0 {
            self.wait -= 1;
            return Ok(Arc::clone(column));
        }
        Ok(match self.dictionary(texts)? {
            Some(packed) => Arc::new(packed),
            None => {
                self.wait = PATIENCE;
                Arc::clone(column)
            }
        })
    }

    fn dictionary(&mut self, texts: &StringArray) -> Result<Option<DictionaryArray<UInt16Type>>> {
        let Self { numbers, hasher, .. } = self;
        numbers.clear();
        let (bytes, offsets) = (texts.value_data(), texts.value_offsets());
        let mut values: Vec<u8> = Vec::new();
        let mut ends: Vec<i32> = vec![0];
        let mut keys: Vec<u16> = Vec::with_capacity(texts.len());
        let value = |values: &[u8], ends: &[i32], n: u16| -> std::ops::Range<usize> {
            debug_assert!(values.len() == ends[ends.len() - 1] as usize);
            ends[n as usize] as usize..ends[n as usize + 1] as usize
        };
        let mut last: Option<(&[u8], u16)> = None;
        for (row, bounds) in offsets.windows(2).enumerate() {
            // What a null has for a text does not matter.
            let text = &bytes[bounds[0] as usize..bounds[1] as usize];
            // Rows of one visit, say, follow one another.
            if let Some((before, key)) = last
                && before == text
            {
                keys.push(key);
                continue;
            }
            let hash = hasher.hash_one(text);
            let found = numbers.find(hash, |n| &values[value(&values, &ends, *n)] == text);
            let key = match found {
                Some(key) => *key,
                None => {
                    let next = ends.len() - 1;
                    if next * WORTH_IT > row.max(SAMPLE) {
                        return Ok(None);
                    }
                    let Ok(key) = u16::try_from(next) else { return Ok(None) };
                    values.extend_from_slice(text);
                    ends.push(values.len() as i32);
                    numbers.insert_unique(hash, key, |n| hasher.hash_one(&values[value(&values, &ends, *n)]));
                    key
                }
            };
            keys.push(key);
            last = Some((text, key));
        }
        values.shrink_to_fit();
        ends.shrink_to_fit();
        let values = StringArray::try_new(OffsetBuffer::new(ends.into()), values.into(), None)?;
        let keys = UInt16Array::new(keys.into(), texts.nulls().cloned());
        Ok(Some(DictionaryArray::try_new(keys, Arc::new(values))?))
    }
}

/// A column of texts, packed or not.
pub(super) enum Texts<'a> {
    Plain(&'a StringArray),
    Packed(&'a UInt16Array, &'a StringArray),
}

impl<'a> Texts<'a> {
    /// A column of a schema that has texts there.
    pub(super) fn of(column: &'a dyn Array) -> Self {
        match column.data_type() {
            DataType::Utf8 => Self::Plain(column.as_string()),
            _ => {
                let packed = column.as_dictionary::<UInt16Type>();
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
            texts in prop::collection::vec(prop::option::of("[aüb]{0,2}"), 0..600),
            from in 0_usize..9,
        ) {
            let column: ArrayRef = Arc::new(StringArray::from(texts));
            let column = column.slice(from.min(column.len()), column.len() - from.min(column.len()));
            let packed = Packer::default().pack(&column).unwrap();
            prop_assert!(packed.data_type() != &DataType::Utf8);
            prop_assert_eq!(&cast(&packed, &DataType::Utf8).unwrap(), &column);
            let texts = Texts::of(packed.as_ref());
            for (row, text) in column.as_string::<i32>().iter().enumerate() {
                prop_assert_eq!(texts.get(row), text);
            }
        }
    }

    #[test]
    fn texts_that_do_not_repeat_stay_as_they_are_and_are_tried_again_later() {
        let different: ArrayRef = Arc::new(StringArray::from_iter_values((0..2000).map(|i| i.to_string())));
        let same: ArrayRef = Arc::new(StringArray::from(vec!["x"; 2000]));
        let mut packer = Packer::default();
        let packed = |column: ArrayRef| column.data_type() != &DataType::Utf8;
        assert!(!packed(packer.pack(&different).unwrap()));
        for _ in 0..PATIENCE {
            assert!(!packed(packer.pack(&same).unwrap()));
        }
        assert!(packed(packer.pack(&same).unwrap()));
        let numbers: ArrayRef = Arc::new(UInt16Array::from(vec![1, 1]));
        assert_eq!(&packer.pack(&numbers).unwrap(), &numbers);
    }
}
