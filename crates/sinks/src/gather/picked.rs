//! Rows picked from several batches, with the columns of the output.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::Result;
use hashbrown::HashMap;

use super::copy::{RowRun, copy, copy_packed};
use super::held::Held;
use super::pack::{as_packed, packed_type};

/// The output columns and their types.
#[derive(Debug, Clone)]
pub(super) struct OutputColumns {
    /// Texts that are to stay packed have the [packed type](packed_type).
    pub(super) schema: SchemaRef,
    pub(super) columns: Vec<usize>,
    /// Whether any column is a text that stays packed.
    pub(super) has_packed_texts: bool,
}

impl OutputColumns {
    /// All columns, unchanged.
    pub(super) fn all(schema: &SchemaRef) -> Self {
        Self { schema: Arc::clone(schema), columns: (0..schema.fields().len()).collect(), has_packed_texts: false }
    }

    /// Some columns, renamed, with texts packed.
    pub(super) fn packed(schema: &SchemaRef, columns: Vec<usize>) -> Self {
        let packed = |field: &FieldRef| match field.data_type() {
            DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(packed_type())),
            _ => Arc::clone(field),
        };
        let has_packed_texts = schema.fields().iter().any(|field| field.data_type() == &DataType::Utf8);
        let fields: Fields = schema.fields().iter().map(packed).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Self { schema, columns, has_packed_texts }
    }

    /// Selects these columns from a batch with all columns.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().zip(self.schema.fields()).map(|(i, field)| {
            let column = Arc::clone(rows.column(*i));
            if column.data_type() == field.data_type() { Ok(column) } else { as_packed(column) }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let columns = columns.collect::<Result<_>>()?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// Rows picked from several batches, to be assembled into one.
#[derive(Default)]
pub(super) struct Picked {
    runs: Vec<RowRun>,
    rows: usize,
    batches: Vec<u32>,
    places: HashMap<u32, usize>,
}

impl Picked {
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn push(&mut self, batch: u32, rows: Range<u32>) {
        let (start, count) = (rows.start as usize, rows.len());
        self.rows += count;
        if let Some((place, first, n)) = self.runs.last_mut()
            && self.batches[*place] == batch
        {
            if *first + *n == start {
                *n += count;
            } else {
                let place = *place;
                self.runs.push((place, start, count));
            }
            return;
        }
        let place = *self.places.entry(batch).or_insert_with(|| {
            self.batches.push(batch);
            self.batches.len() - 1
        });
        self.runs.push((place, start, count));
    }

    /// Assembles the rows into a batch. Consecutive rows of a single batch are not copied.
    pub(super) fn take<'a>(&mut self, given: &OutputColumns, batch: impl Fn(u32) -> &'a Held) -> Result<RecordBatch> {
        let batches: Vec<&Held> = self.batches.iter().map(|b| batch(*b)).collect();
        let columns = given.columns.iter().zip(given.schema.fields()).map(|(i, field)| {
            let arrays: Vec<&dyn Array> = batches.iter().map(|b| b.columns[*i].as_ref()).collect();
            match self.runs.as_slice() {
                [(_, first, rows)] if arrays[0].data_type() == field.data_type() => Ok(arrays[0].slice(*first, *rows)),
                runs if field.data_type() == &packed_type() => copy_packed(&arrays, runs, self.rows),
                runs => copy(field.data_type(), &arrays, runs, self.rows),
            }
        });
        let columns = columns.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let taken = RecordBatch::try_new_with_options(Arc::clone(&given.schema), columns, &options)?;
        self.runs.clear();
        self.rows = 0;
        self.batches.clear();
        self.places.clear();
        Ok(taken)
    }
}
