//! The last row of each key, among the rows so far.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, StructArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::kernels::cmp::not_distinct;
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{
    and, concat_batches, filter_record_batch, interleave, is_not_null, is_null, nullif, or, take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::hash_utils::create_hashes;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::spill::get_record_batch_memory_size;
use hardtack_core::sql::canonical_array;

use super::exec::{Known, Layout, evaluate};
use crate::encode;

/// Rows that do not fit into memory are split into this many parts, by key.
pub(super) const SPLITS: usize = 16;

/// A row that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    batch: u32,
    row: u32,
}

/// The rows that may be the last ones of their keys.
pub(super) struct Last {
    layout: Arc<Layout>,
    batch_size: usize,
    keys: Box<dyn GroupValues>,
    order: RowConverter,
    /// The last row of each key.
    rows: Vec<Row>,
    /// Where a version that is not [whole](Held::whole) had a part in a key: for each column that may be left out, the row
    /// that knew it last.
    parts: HashMap<usize, Vec<Option<Row>>>,
    held: Vec<Option<Held>>,
    /// The bytes of what is held, and its rows.
    bytes: usize,
    held_rows: usize,
    /// The key of each row of a batch, kept for its memory.
    groups: Vec<usize>,
}

/// A batch of which some rows may be the last ones.
struct Held {
    batch: RecordBatch,
    bytes: usize,
    /// The number of times that its rows are referred to.
    used: usize,
    /// Its order values.
    order: Rows,
    /// The rows that know all their values since their own order value. None if all do.
    whole: Option<BooleanArray>,
    /// For each column that may be left out: since when each row knows it, and the order of its versions.
    since: Vec<OnceLock<(ArrayRef, Rows)>>,
    /// What decides between rows that are equal otherwise.
    ties: OnceLock<Vec<u64>>,
}

impl Last {
    pub(super) fn new(layout: Arc<Layout>, batch_size: usize) -> Result<Self> {
        let order = layout.types(&layout.order)?.into_iter().map(SortField::new).collect();
        Ok(Self {
            keys: keys(&layout)?,
            order: RowConverter::new(order)?,
            layout,
            batch_size,
            rows: Vec::new(),
            parts: HashMap::new(),
            held: Vec::new(),
            bytes: 0,
            held_rows: 0,
            groups: Vec::new(),
        })
    }

    /// The memory that the rows take, in bytes.
    pub(super) fn size(&self) -> usize {
        let parts = self.layout.known.as_ref().map_or(0, |known| known.fields.len()) * size_of::<Option<Row>>() + 64;
        self.bytes + self.keys.size() + self.rows.capacity() * size_of::<Row>() + self.parts.len() * parts
    }

    /// Adds rows.
    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let keys = evaluate(&self.layout.keys, &batch)?;
        let mut groups = std::mem::take(&mut self.groups);
        self.keys.intern(&keys, &mut groups)?;
        let number = self.held.len() as u32;
        let held = self.hold(batch)?;
        self.bytes += held.bytes;
        self.held_rows += held.batch.num_rows();
        self.held.push(Some(held));
        for (at, group) in groups.iter().enumerate() {
            self.add_row(Row { batch: number, row: at as u32 }, *group)?;
        }
        self.groups = groups;
        self.drop_if_unused(number);
        Ok(())
    }

    fn hold(&self, batch: RecordBatch) -> Result<Held> {
        let order = evaluate(&self.layout.order, &batch)?;
        let order = self.order.convert_columns(&order)?;
        let whole = self.layout.known.as_ref().map(|known| whole(known, &batch)).transpose()?;
        let whole = whole.filter(|whole| whole.true_count() < whole.len());
        let batch = match (&self.layout.known, &whole) {
            (Some(known), None) => with_known(known, batch)?,
            _ => batch,
        };
        let fields = self.layout.known.as_ref().map_or(0, |known| known.fields.len());
        let since = (0..fields).map(|_| OnceLock::new()).collect();
        let bytes = get_record_batch_memory_size(&batch) + order.size();
        Ok(Held { batch, bytes, used: 0, order, whole, since, ties: OnceLock::new() })
    }

    fn add_row(&mut self, new: Row, group: usize) -> Result<()> {
        let whole = self.is_whole(new);
        let Some(old) = self.rows.get(group).copied() else {
            self.rows.push(new);
            self.used(new, 1);
            if !whole {
                self.begin_parts(group, new)?;
            }
            return Ok(());
        };
        if !whole && !self.parts.contains_key(&group) {
            self.begin_parts(group, old)?;
        }
        if self.is_later(new, old)? {
            self.rows[group] = new;
            self.used(new, 1);
            self.unused(old);
        }
        if self.parts.is_empty() {
            return Ok(());
        }
        let Some(parts) = self.parts.get(&group).cloned() else { return Ok(()) };
        for (field, old) in parts.iter().enumerate() {
            let later = match old {
                _ if !self.knows(new, field)? => false,
                None => true,
                Some(old) => self.is_known_later(field, new, *old)?,
            };
            if later {
                if let Some(parts) = self.parts.get_mut(&group) {
                    parts[field] = Some(new);
                }
                self.used(new, 1);
                old.iter().for_each(|old| self.unused(*old));
            }
        }
        Ok(())
    }

    /// From now on the columns of a key that may be left out have rows of their own. So far there is this one.
    fn begin_parts(&mut self, group: usize, row: Row) -> Result<()> {
        let fields = self.layout.known.as_ref().map_or(0, |known| known.fields.len());
        let part = |field| Ok(self.knows(row, field)?.then_some(row));
        let parts: Vec<Option<Row>> = (0..fields).map(part).collect::<Result<_>>()?;
        self.used(row, parts.iter().flatten().count());
        self.parts.insert(group, parts);
        Ok(())
    }

    fn held(&self, row: Row) -> Result<&Held> {
        let held = self.held.get(row.batch as usize).and_then(Option::as_ref);
        held.ok_or_else(|| DataFusionError::Internal("a row is used that is not held".to_owned()))
    }

    fn used(&mut self, row: Row, times: usize) {
        if let Some(Some(held)) = self.held.get_mut(row.batch as usize) {
            held.used += times;
        }
    }

    fn unused(&mut self, row: Row) {
        if let Some(Some(held)) = self.held.get_mut(row.batch as usize) {
            held.used -= 1;
        }
        // The newest batch is still being added.
        if row.batch as usize + 1 < self.held.len() {
            self.drop_if_unused(row.batch);
        }
    }

    fn drop_if_unused(&mut self, batch: u32) {
        if let Some(held) = self.held[batch as usize].take_if(|held| held.used == 0) {
            self.bytes -= held.bytes;
            self.held_rows -= held.batch.num_rows();
        }
    }

    /// Whether one row of a key is a later version than another.
    fn is_later(&self, new: Row, old: Row) -> Result<bool> {
        let (this, other) = (self.held(new)?, self.held(old)?);
        match this.order.row(new.row as usize).cmp(&other.order.row(old.row as usize)) {
            std::cmp::Ordering::Equal => self.wins_tie(new, old),
            order => Ok(order.is_gt()),
        }
    }

    fn wins_tie(&self, new: Row, old: Row) -> Result<bool> {
        Ok(self.tie(new)? > self.tie(old)?)
    }

    fn tie(&self, row: Row) -> Result<u64> {
        let held = self.held(row)?;
        if held.ties.get().is_none() {
            let values: Vec<ArrayRef> = self.layout.tied.iter().map(|at| Arc::clone(held.batch.column(*at))).collect();
            let _ = held.ties.set(encode::hashes(&values)?);
        }
        Ok(held.ties.get().map_or(0, |ties| ties[row.row as usize]))
    }

    // --- what is left out ---------------------------------------------------------------------------------------------

    fn is_whole(&self, row: Row) -> bool {
        let held = self.held.get(row.batch as usize).and_then(Option::as_ref);
        held.and_then(|held| held.whole.as_ref()).is_none_or(|whole| whole.value(row.row as usize))
    }

    /// Whether a row knows its value of a column.
    fn knows(&self, row: Row, field: usize) -> Result<bool> {
        let Some(known) = &self.layout.known else { return Ok(true) };
        let held = self.held(row)?;
        let column = held.batch.column(known.column).as_struct();
        let at = row.row as usize;
        Ok(column.is_null(at) || column.column(field).is_valid(at))
    }

    fn is_known_later(&self, field: usize, new: Row, old: Row) -> Result<bool> {
        let (this, other) = (self.since(new, field)?, self.since(old, field)?);
        match this.1.row(new.row as usize).cmp(&other.1.row(old.row as usize)) {
            std::cmp::Ordering::Equal => self.wins_tie(new, old),
            order => Ok(order.is_gt()),
        }
    }

    /// Since when the rows of a batch know a column, and their order by that.
    fn since(&self, row: Row, field: usize) -> Result<&(ArrayRef, Rows)> {
        let held = self.held(row)?;
        if let Some(since) = held.since.get(field).and_then(OnceLock::get) {
            return Ok(since);
        }
        let missing = || DataFusionError::Internal("no column is left out".to_owned());
        let known = self.layout.known.as_ref().ok_or_else(missing)?;
        let since = since(known, &held.batch, field)?;
        let mut order = evaluate(&self.layout.order, &held.batch)?;
        order[0] = canonical_array(&since)?;
        let rows = self.order.convert_columns(&order)?;
        let cell = held.since.get(field).ok_or_else(missing)?;
        Ok(cell.get_or_init(|| (since, rows)))
    }

    // --- the result ---------------------------------------------------------------------------------------------------

    /// Drops the rows that are no longer the last ones, if these are many.
    pub(super) fn compact(&mut self) -> Result<()> {
        if self.held_rows - self.rows.len().min(self.held_rows) < self.held_rows / 4 {
            return Ok(());
        }
        let mut moved: Vec<Vec<u32>> = vec![Vec::new(); self.held.len()];
        for (number, mut mask) in self.masks(true).into_iter().enumerate() {
            let mask = mask.finish();
            let Some(held) = self.held[number].take() else { continue };
            let mut next = 0;
            let to = mask.iter().map(|kept| {
                next += u32::from(kept);
                next.wrapping_sub(1)
            });
            moved[number] = to.collect();
            let mut kept = self.hold(filter_record_batch(&held.batch, &BooleanArray::new(mask, None))?)?;
            kept.used = held.used;
            self.bytes = self.bytes - held.bytes + kept.bytes;
            self.held_rows = self.held_rows - held.batch.num_rows() + kept.batch.num_rows();
            self.held[number] = Some(kept);
        }
        let parts = self.parts.values_mut().flatten().flatten();
        for row in self.rows.iter_mut().chain(parts) {
            row.row = moved[row.batch as usize][row.row as usize];
        }
        Ok(())
    }

    /// The rows of each batch that are used: all, or the last ones of the keys without parts.
    fn masks(&self, all: bool) -> Vec<BooleanBufferBuilder> {
        let nothing = |held: &Option<Held>| {
            let rows = held.as_ref().map_or(0, |held| held.batch.num_rows());
            let mut mask = BooleanBufferBuilder::new(rows);
            mask.append_n(rows, false);
            mask
        };
        let mut masks: Vec<BooleanBufferBuilder> = self.held.iter().map(nothing).collect();
        let mut set = |row: &Row| {
            if let Some(mask) = masks.get_mut(row.batch as usize) {
                mask.set_bit(row.row as usize, true);
            }
        };
        for (group, row) in self.rows.iter().enumerate() {
            if all || self.parts.is_empty() || !self.parts.contains_key(&group) {
                set(row);
            }
        }
        if all {
            self.parts.values().flatten().flatten().for_each(set);
        }
        masks
    }

    /// Splits the rows by key, and forgets them.
    pub(super) fn split(&mut self, splits: usize) -> Result<Vec<Vec<RecordBatch>>> {
        // Another function each time, and another than that which distributed the rows to streams.
        let seed = splits as u64 + 1;
        let random = ahash::RandomState::with_seeds(seed, seed << 8, seed << 16, seed << 24);
        let mut parts: Vec<Vec<RecordBatch>> = vec![Vec::new(); SPLITS];
        let mut pending: Vec<(Vec<RecordBatch>, usize)> = vec![(Vec::new(), 0); SPLITS];
        for (number, mut mask) in self.masks(true).into_iter().enumerate() {
            let Some(held) = self.held[number].take() else { continue };
            let rows = filter_record_batch(&held.batch, &BooleanArray::new(mask.finish(), None))?;
            drop(held);
            let keys = evaluate(&self.layout.keys, &rows)?;
            let mut hashes = vec![0; rows.num_rows()];
            create_hashes(&keys, &random, &mut hashes)?;
            let mut places: Vec<Vec<u32>> = vec![Vec::new(); SPLITS];
            for (at, hash) in hashes.iter().enumerate() {
                places[(hash >> 32) as usize % SPLITS].push(at as u32);
            }
            for ((places, pending), part) in places.into_iter().zip(&mut pending).zip(&mut parts) {
                pending.1 += places.len();
                pending.0.push(take_record_batch(&rows, &UInt32Array::from(places))?);
                if pending.1 >= self.batch_size {
                    part.push(concat_batches(&self.layout.input, &std::mem::take(pending).0)?);
                }
            }
        }
        for ((batches, _), part) in pending.into_iter().zip(&mut parts) {
            part.push(concat_batches(&self.layout.input, &batches)?);
        }
        *self = Self::new(Arc::clone(&self.layout), self.batch_size)?;
        Ok(parts)
    }

    /// The last rows, with the columns of the result.
    pub(super) fn into_batches(mut self) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send> {
        let mut masks = self.masks(false);
        let patched = self.patched()?;
        let layout = Arc::clone(&self.layout);
        let whole = self.held.into_iter().enumerate().filter_map(move |(number, held)| {
            let (held, mask) = (held?, masks.get_mut(number)?);
            let mask = BooleanArray::new(mask.finish(), None);
            let rows = match mask.true_count() {
                0 => return None,
                rows if rows == mask.len() => Ok(held.batch),
                _ => filter_record_batch(&held.batch, &mask).map_err(DataFusionError::from),
            };
            Some(rows.and_then(|rows| result(&layout, rows)))
        });
        Ok(whole.chain(patched.into_iter().map(Ok)))
    }

    /// The rows of the keys whose columns are from several rows.
    fn patched(&mut self) -> Result<Vec<RecordBatch>> {
        let Some(known) = self.layout.known.clone() else { return Ok(Vec::new()) };
        let mut groups: Vec<usize> = self.parts.keys().copied().collect();
        groups.sort_unstable();
        let (mut batches, mut numbers) = (Vec::new(), HashMap::new());
        for (number, held) in self.held.iter().enumerate() {
            if let Some(held) = held {
                numbers.insert(number as u32, batches.len());
                batches.push(&held.batch);
            }
        }
        let place = |row: &Row| (numbers.get(&row.batch).copied().unwrap_or_default(), row.row as usize);
        let column = |at: usize, rows: &[(usize, usize)]| {
            let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(at).as_ref()).collect();
            Ok::<_, DataFusionError>(interleave(&arrays, rows)?)
        };
        let mut made = Vec::new();
        for groups in groups.chunks(self.batch_size.max(1)) {
            let main: Vec<(usize, usize)> = groups.iter().map(|group| place(&self.rows[*group])).collect();
            let mut columns: Vec<ArrayRef> =
                (0..self.layout.input.fields().len()).map(|at| column(at, &main)).collect::<Result<_>>()?;
            let deleted = known.marker.map(|at| columns[at].as_boolean().clone());
            let mut since = Vec::new();
            for (field, value) in known.fields.iter().enumerate() {
                let parts: Vec<Option<Row>> =
                    groups.iter().map(|group| self.parts.get(group).and_then(|parts| parts[field])).collect();
                // Where no row knows the value, that of any row is made null.
                let rows: Vec<(usize, usize)> =
                    parts.iter().zip(&main).map(|(part, main)| part.as_ref().map_or(*main, place)).collect();
                let mut unknown = BooleanArray::from_iter(parts.iter().map(|part| Some(part.is_none())));
                if let Some(marker) = known.marker {
                    // A row that was deleted later knows nothing any more.
                    unknown = or(&unknown, column(marker, &rows)?.as_boolean())?;
                }
                let sinces = self.sinces(field, &parts)?;
                since.push(nullif(&sinces, &unknown)?);
                let taken = nullif(&column(*value, &rows)?, &unknown)?;
                columns[*value] = match &deleted {
                    // A delete determines its values itself.
                    Some(deleted) => zip(deleted, &columns[*value], &taken)?,
                    None => taken,
                };
            }
            let of = columns[known.column].data_type().clone();
            columns[known.column] = structure(&of, since, groups.len())?;
            columns.truncate(self.layout.values);
            made.push(RecordBatch::try_new(self.layout.output(), columns)?);
        }
        Ok(made)
    }

    /// Since when each of these rows knows a column.
    fn sinces(&self, field: usize, rows: &[Option<Row>]) -> Result<ArrayRef> {
        let (mut arrays, mut numbers) = (Vec::new(), HashMap::new());
        let mut places = Vec::new();
        for row in rows {
            let Some(row) = row else {
                places.push(None);
                continue;
            };
            let number = match numbers.get(&row.batch) {
                Some(number) => *number,
                None => {
                    numbers.insert(row.batch, arrays.len());
                    arrays.push(Arc::clone(&self.since(*row, field)?.0));
                    arrays.len() - 1
                }
            };
            places.push(Some((number, row.row as usize)));
        }
        let of = match (arrays.first(), &self.layout.known) {
            (Some(array), _) => array.data_type().clone(),
            (None, Some(known)) => known.since.data_type(&self.layout.input)?,
            (None, None) => return Err(DataFusionError::Internal("no column is left out".to_owned())),
        };
        let null = arrays.len();
        arrays.push(new_null_array(&of, 1));
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        let places: Vec<(usize, usize)> = places.into_iter().map(|place| place.unwrap_or((null, 0))).collect();
        Ok(interleave(&arrays, &places)?)
    }
}

fn keys(layout: &Layout) -> Result<Box<dyn GroupValues>> {
    let types = layout.types(&layout.keys)?;
    let fields: Vec<Field> = types.into_iter().enumerate().map(|(i, of)| Field::new(i.to_string(), of, true)).collect();
    new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)
}

/// The first order column.
fn own(known: &Known, rows: &RecordBatch) -> Result<ArrayRef> {
    known.since.evaluate(rows)?.into_array(rows.num_rows())
}

/// The rows that know all their values since their own order value.
fn whole(known: &Known, batch: &RecordBatch) -> Result<BooleanArray> {
    let column = batch.column(known.column);
    let own = &own(known, batch)?;
    let mut whole: Option<BooleanArray> = None;
    for since in column.as_struct().columns() {
        let is_own = and(&not_distinct(since, own)?, &is_not_null(since)?)?;
        whole = Some(match whole {
            Some(whole) => and(&whole, &is_own)?,
            None => is_own,
        });
    }
    let all = is_null(column)?;
    Ok(match whole {
        Some(whole) => or(&all, &whole)?,
        None => BooleanArray::from(vec![true; batch.num_rows()]),
    })
}

/// Since when the rows know a column: since their own order value, if they know all.
fn since(known: &Known, batch: &RecordBatch, field: usize) -> Result<ArrayRef> {
    let column = batch.column(known.column).as_struct();
    let since = column.column(field);
    if column.null_count() == 0 {
        return Ok(Arc::clone(since));
    }
    Ok(zip(&is_null(column)?, &own(known, batch)?, since)?)
}

/// Rows that all know their values since their own order value, without a copy of it for each column.
fn with_known(known: &Known, batch: RecordBatch) -> Result<RecordBatch> {
    let own = own(known, &batch)?;
    let of = batch.column(known.column).data_type().clone();
    let since = known.fields.iter().map(|_| Arc::clone(&own)).collect();
    let (schema, mut columns, rows) = batch.into_parts();
    columns[known.column] = structure(&of, since, rows)?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn structure(of: &DataType, columns: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef> {
    let DataType::Struct(fields) = of else {
        return Err(DataFusionError::Internal(format!("{of} is not a struct")));
    };
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None::<NullBuffer>, rows)?))
}

/// Whole rows with the columns of the result.
fn result(layout: &Layout, rows: RecordBatch) -> Result<RecordBatch> {
    let rows = match &layout.known {
        Some(known) => with_known(known, rows)?,
        None => rows,
    };
    let (_, mut columns, number) = rows.into_parts();
    if let Some(Known { column, marker: Some(marker), .. }) = &layout.known {
        // A row that is deleted knows nothing any more.
        let (deleted, of) = (columns[*marker].as_boolean().clone(), columns[*column].data_type().clone());
        if deleted.true_count() > 0 {
            let since = columns[*column].as_struct().columns().iter().map(|since| nullif(since, &deleted));
            columns[*column] = structure(&of, since.collect::<Result<_, _>>()?, number)?;
        }
    }
    columns.truncate(layout.values);
    Ok(RecordBatch::try_new(layout.output(), columns)?)
}
