//! Batches in memory: their columns, compact and with packed texts, and the hashes of their rows.

use std::sync::Arc;

use ahash::RandomState;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::hash_utils::create_hashes;

use super::pack::{Packer, hasher};

/// A batch, with the hash of each row if duplicates are to be found.
pub(super) struct Held {
    /// As in the schema, except that texts may be packed.
    pub(super) columns: Vec<ArrayRef>,
    pub(super) rows: usize,
    pub(super) hashes: Vec<u32>,
    /// Batches of one intake share their packed texts.
    pub(super) intake: usize,
}

/// Hashes the columns by which rows are compared. Equal hashes only mean that rows may be equal.
#[derive(Clone)]
pub(super) struct RowHash {
    /// The number of leading columns that are compared; the others are functions of them.
    pub(super) columns: usize,
    state: RandomState,
}

impl RowHash {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, state: hasher() }
    }

    /// In `packed`, some text columns are replaced by the numbers of their texts. A text has the same hash whether it
    /// is packed or not; a packed text is hashed once.
    pub(super) fn of(&self, schema: &Schema, packed: &[ArrayRef], packers: &[Packer], rows: usize) -> Result<Vec<u32>> {
        let texts = |column: &StringArray| -> UInt64Array {
            let offsets = column.value_offsets().windows(2);
            let text = |bounds: &[i32]| &column.value_data()[bounds[0] as usize..bounds[1] as usize];
            let hashes = offsets.map(|bounds| self.state.hash_one(text(bounds))).collect();
            UInt64Array::new(hashes, column.nulls().cloned())
        };
        let column = |i: usize| -> ArrayRef {
            match (schema.field(i).data_type(), packed[i].data_type()) {
                (DataType::Utf8, DataType::Utf8) => Arc::new(texts(packed[i].as_string())),
                (DataType::Utf8, _) => Arc::new(packers[i].hashes(packed[i].as_primitive())),
                _ => Arc::clone(&packed[i]),
            }
        };
        let columns: Vec<ArrayRef> = (0..self.columns).map(column).collect();
        let mut hashes = vec![0; rows];
        create_hashes(&columns, &self.state, &mut hashes)?;
        Ok(hashes.into_iter().map(|hash| hash as u32).collect())
    }
}

impl Held {
    /// A batch that was read from disk, with the columns of the schema.
    pub(super) fn loaded(schema: &Schema, columns: Vec<ArrayRef>, rows: usize, hash: Option<&RowHash>) -> Result<Self> {
        let hashes = hash.map_or_else(|| Ok(Vec::new()), |hash| hash.of(schema, &columns, &[], rows))?;
        Ok(Self { columns, rows, hashes, intake: usize::MAX })
    }

    pub(super) fn size(&self) -> usize {
        let columns: usize = self.columns.iter().map(|c| c.get_buffer_memory_size()).sum();
        columns + self.hashes.len() * 4
    }
}

/// The column without excess memory: an array may be a small slice that keeps a large buffer alive.
pub(super) fn compact(column: &ArrayRef) -> Result<ArrayRef> {
    const SLACK: usize = 64 << 10;
    let held = column.get_buffer_memory_size();
    if held < SLACK {
        return Ok(Arc::clone(column));
    }
    let used = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used() + column.len() * 16,
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used() + column.len() * 16,
        _ => column.to_data().get_slice_memory_size()?,
    };
    if held <= 2 * used + SLACK {
        return Ok(Arc::clone(column));
    }
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => take(column, &UInt64Array::from_iter_values(0..column.len() as u64), None)?,
    })
}
