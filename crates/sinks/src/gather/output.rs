//! The output: emits rows key by key, in key order, to several streams concurrently.
#![allow(clippy::disallowed_methods, reason = "what is spilled lies in files of the engine's own")]

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{SchemaRef, UInt32Type};
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::arrow::row::SortField;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::RefCountedTempFile;
use datafusion::execution::memory_pool::MemoryReservation;
use hashbrown::HashTable;

use super::held::{Held, RowHash, compact};
use super::intake::Intake;
use super::keys::Slice;
use super::pack::{Texts, packed_type};
use super::picked::{OutputColumns, Picked};

/// All rows, in memory and on disk, by key.
pub(super) struct Gathered {
    schema: SchemaRef,
    given: OutputColumns,
    /// The batches in memory, of all intakes.
    batches: Vec<Arc<Held>>,
    /// Sorted by key.
    slices: Vec<Slice>,
    /// Where the slices of each key end.
    ends: Vec<usize>,
    runs: Vec<SortedRun>,
    /// Ranges of neighbouring keys, each emitted by one stream.
    units: Vec<Range<u32>>,
    next: AtomicUsize,
    hash: Option<RowHash>,
    batch_rows: usize,
    /// The reservations of the intakes, held until the last row is emitted.
    _memory: Vec<MemoryReservation>,
}

struct SortedRun {
    file: RefCountedTempFile,
    batch_rows: usize,
    /// For each key of the run: its number, first row and number of rows.
    keys: Vec<(u32, u64, u64)>,
}

/// Units per stream: enough for all streams to finish at about the same time.
const UNITS_IN_MEMORY: u64 = 16;
/// Fewer when rows are read back from disk: at the boundaries of units, batches are read twice.
const UNITS_ON_DISK: u64 = 4;

impl Gathered {
    pub(super) fn new(
        schema: SchemaRef,
        given: OutputColumns,
        intakes: Vec<Intake>,
        hash: Option<RowHash>,
        batch_rows: usize,
        streams: usize,
    ) -> Self {
        let (numbers, count) = number_keys(&intakes);
        let mut all = Self {
            schema,
            given,
            batches: Vec::new(),
            slices: Vec::new(),
            ends: vec![0; count],
            runs: Vec::new(),
            units: Vec::new(),
            next: AtomicUsize::new(0),
            hash,
            batch_rows,
            _memory: Vec::new(),
        };
        let mut rows = vec![0_u64; count];
        let mut unsorted = Vec::new();
        for (i, (intake, numbers)) in intakes.into_iter().zip(&numbers).enumerate() {
            let first = all.batches.len() as u32;
            for slice in intake.slices {
                let key = numbers[slice.key as usize];
                rows[key as usize] += u64::from(slice.rows);
                all.ends[key as usize] += 1;
                unsorted.push(Slice { key, batch: first + slice.batch, ..slice });
            }
            all.batches.extend(intake.batches.into_iter().map(|held| Arc::new(Held { intake: i, ..held })));
            for run in intake.runs {
                let mut first_row = 0;
                let mut keys = Vec::with_capacity(run.keys.len());
                for (key, n) in run.keys {
                    let key = numbers[key as usize];
                    rows[key as usize] += n;
                    keys.push((key, first_row, n));
                    first_row += n;
                }
                all.runs.push(SortedRun { file: run.file, batch_rows: run.batch_rows, keys });
            }
            // A reservation that holds nothing would reduce the share of the others.
            if all.runs.is_empty() {
                all._memory.push(intake.memory);
            }
        }
        all.sort(unsorted);
        let per_stream = if all.runs.is_empty() { UNITS_IN_MEMORY } else { UNITS_ON_DISK };
        let wanted = rows.iter().sum::<u64>() / (per_stream * streams as u64);
        let (mut start, mut so_far) = (0, 0);
        for (key, n) in (0..).zip(&rows) {
            so_far += n;
            if so_far >= wanted {
                all.units.push(start..key + 1);
                (start, so_far) = (key + 1, 0);
            }
        }
        if (start as usize) < count {
            all.units.push(start..count as u32);
        }
        all
    }

    /// Sorts the slices by key; `ends` holds the number of slices per key.
    fn sort(&mut self, unsorted: Vec<Slice>) {
        let mut next = 0;
        for end in &mut self.ends {
            next += std::mem::replace(end, next);
        }
        self.slices = vec![Slice { key: 0, batch: 0, start: 0, rows: 0 }; unsorted.len()];
        for slice in unsorted {
            let at = &mut self.ends[slice.key as usize];
            self.slices[*at] = slice;
            *at += 1;
        }
    }

    /// The output columns of a batch with all columns.
    pub(super) fn given_out(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        self.given.of(rows)
    }

    fn slices_of(&self, key: u32) -> Range<usize> {
        let start = if key == 0 { 0 } else { self.ends[key as usize - 1] };
        start..self.ends[key as usize]
    }

    /// The keys that a stream emits next.
    pub(super) fn next_unit(&self) -> Option<Range<u32>> {
        self.units.get(self.next.fetch_add(1, Ordering::Relaxed)).cloned()
    }

    /// The number of rows of a key, and the bytes of them that are on disk.
    fn weight(&self, key: u32) -> (u64, u64) {
        let in_memory = self.slices[self.slices_of(key)].iter().map(|s| u64::from(s.rows)).sum::<u64>();
        let on_disk = self.runs.iter().filter_map(|run| {
            let (_, _, rows) = run.keys[run.keys.binary_search_by_key(&key, |k| k.0).ok()?];
            let all = run.keys.last().map_or(1, |last| last.1 + last.2);
            // Compressed data takes several times as much memory.
            Some((rows, run.file.current_disk_usage() * 4 * rows / all.max(1)))
        });
        on_disk.fold((in_memory, 0), |(rows, bytes), run| (rows + run.0, bytes + run.1))
    }
}

/// Numbers the keys of all intakes in key order.
fn number_keys(intakes: &[Intake]) -> (Vec<Vec<u32>>, usize) {
    let mut all: Vec<(&[u8], usize, u32)> = Vec::new();
    for (i, intake) in intakes.iter().enumerate() {
        all.extend((0..intake.keys.len() as u32).map(|n| (intake.keys.get(n), i, n)));
    }
    all.sort_unstable();
    let mut numbers: Vec<Vec<u32>> = intakes.iter().map(|intake| vec![0; intake.keys.len()]).collect();
    let (mut count, mut last) = (0_u32, None);
    for (key, intake, number) in all {
        if last != Some(key) {
            (count, last) = (count + 1, Some(key));
        }
        numbers[intake][number as usize] = count - 1;
    }
    (numbers, count as usize)
}

/// The next item of a [`Reader`].
pub(super) enum Next {
    Rows(RecordBatch),
    /// A key with too many rows for finding duplicates in memory.
    TooLarge(u32),
}

/// Emits the rows of one unit after another.
pub(super) struct Reader {
    all: Arc<Gathered>,
    hash: Option<RowHash>,
    keys: Range<u32>,
    /// The remaining slices of the current key.
    slices: Range<usize>,
    run: usize,
    run_rows: Range<u64>,
    picked: Picked,
    /// Where texts stay packed, each output batch has rows of a single intake, which has all their texts. This is the
    /// intake of the picked rows.
    intake: Option<usize>,
    cursors: Vec<Option<Cursor>>,
    /// Batches read from disk, numbered after those in memory.
    loaded: Vec<Arc<Held>>,
    /// The distinct rows of the current key.
    seen: HashTable<DistinctRow>,
    same: Compare,
    /// Set if all columns are emitted unchanged.
    all_columns: Option<OutputColumns>,
    memory: MemoryReservation,
}

#[derive(Clone, Copy)]
struct DistinctRow {
    hash: u32,
    batch: u32,
    row: u32,
}

/// Reads a run, mostly from its start to its end.
struct Cursor {
    reader: FileReader<BufReader<File>>,
    next: usize,
    current: Option<(usize, Arc<Held>)>,
    /// The number of the current batch among the loaded ones.
    number: Option<u32>,
}

impl Reader {
    pub(super) fn new(all: Arc<Gathered>, memory: MemoryReservation) -> Self {
        let hash = all.hash.clone();
        Self::of(all, 0..0, hash, memory)
    }

    /// The rows of one key, with duplicates.
    pub(super) fn of_key(all: Arc<Gathered>, key: u32, memory: MemoryReservation) -> Self {
        let all_columns = Some(OutputColumns::all(&all.schema));
        Self { all_columns, ..Self::of(all, key..key + 1, None, memory) }
    }

    fn of(all: Arc<Gathered>, keys: Range<u32>, hash: Option<RowHash>, memory: MemoryReservation) -> Self {
        Self {
            hash,
            keys,
            slices: 0..0,
            run: all.runs.len(),
            run_rows: 0..0,
            picked: Picked::default(),
            intake: None,
            cursors: all.runs.iter().map(|_| None).collect(),
            loaded: Vec::new(),
            seen: HashTable::new(),
            same: Compare::default(),
            all_columns: None,
            memory,
            all,
        }
    }

    /// Continues with these keys after the current ones.
    pub(super) fn read(&mut self, keys: Range<u32>) {
        self.keys = keys;
    }

    /// The next rows, sorted by key; `None` when there are no more keys.
    pub(super) fn next(&mut self) -> Result<Option<Next>> {
        loop {
            if self.picked.len() >= self.all.batch_rows {
                return self.take().map(Some);
            }
            if !self.slices.is_empty() {
                let Slice { batch, start, rows, .. } = self.all.slices[self.slices.start];
                if self.all.given.has_packed_texts {
                    let intake = Some(self.all.batches[batch as usize].intake);
                    if std::mem::replace(&mut self.intake, intake) != intake && self.picked.len() > 0 {
                        return self.take().map(Some);
                    }
                }
                self.slices.start += 1;
                self.pick(batch, start..start + rows)?;
            } else if !self.run_rows.is_empty() {
                self.pick_loaded()?;
            } else if self.run < self.all.runs.len() {
                self.run += 1;
                self.enter_run();
            } else if self.keys.is_empty() {
                return if self.picked.len() > 0 { self.take().map(Some) } else { Ok(None) };
            } else if let Some(next) = self.enter_key()? {
                return Ok(Some(next));
            }
        }
    }

    /// Begins the next key. Pending rows of other keys are emitted before a key that is too large.
    fn enter_key(&mut self) -> Result<Option<Next>> {
        let key = self.keys.start;
        self.seen.clear();
        if self.hash.is_some() {
            if self.picked.len() > 0 && self.loaded.len() > LOADED_BETWEEN_KEYS {
                return self.take().map(Some);
            }
            let (rows, bytes_on_disk) = self.all.weight(key);
            let wanted =
                usize::try_from(bytes_on_disk + rows * size_of::<DistinctRow>() as u64 * 2).unwrap_or(usize::MAX);
            if wanted > FITS_ALWAYS && self.memory.try_resize(wanted).is_err() {
                if self.picked.len() > 0 {
                    return self.take().map(Some);
                }
                self.keys.start += 1;
                return Ok(Some(Next::TooLarge(key)));
            }
        }
        self.keys.start += 1;
        self.slices = self.all.slices_of(key);
        self.run = 0;
        self.enter_run();
        Ok(None)
    }

    /// The current key is the one before the remaining ones.
    fn enter_run(&mut self) {
        let key = self.keys.start - 1;
        let Some(run) = self.all.runs.get(self.run) else { return };
        if let Ok(at) = run.keys.binary_search_by_key(&key, |k| k.0) {
            let (_, first, rows) = run.keys[at];
            self.run_rows = first..first + rows;
        }
    }

    fn pick(&mut self, batch: u32, rows: Range<u32>) -> Result<()> {
        let Self { all, loaded, seen, same, picked, .. } = self;
        if self.hash.is_none() {
            picked.push(batch, rows);
            return Ok(());
        }
        let held = |batch: u32| held(all, loaded, batch);
        let columns = all.hash.as_ref().map_or(0, |hash| hash.columns);
        let mut first = rows.start;
        for row in rows.clone() {
            let new = DistinctRow { hash: held(batch).hashes[row as usize], batch, row };
            let mut failed = None;
            let found = seen.find(new.hash.into(), |old| {
                old.hash == new.hash
                    && same
                        .rows(columns, (old.batch, old.row), (batch, row), |b| held(b).columns.as_slice())
                        .unwrap_or_else(|e| {
                            failed = Some(e);
                            true
                        })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            if found.is_none() {
                seen.insert_unique(new.hash.into(), new, |s| s.hash.into());
            } else {
                if first < row {
                    picked.push(batch, first..row);
                }
                first = row + 1;
            }
        }
        if first < rows.end {
            picked.push(batch, first..rows.end);
        }
        Ok(())
    }

    /// Picks the next rows of the current run, from one batch.
    fn pick_loaded(&mut self) -> Result<()> {
        let run = &self.all.runs[self.run];
        let wanted = usize::try_from(self.run_rows.start / run.batch_rows as u64).unwrap_or(usize::MAX);
        let offset = (self.run_rows.start % run.batch_rows as u64) as u32;
        let cursor = match &mut self.cursors[self.run] {
            Some(cursor) => cursor,
            none => none.insert(Cursor {
                reader: FileReader::try_new_buffered(File::open(run.file.path())?, None)?,
                next: 0,
                current: None,
                number: None,
            }),
        };
        let held = match &cursor.current {
            Some((at, held)) if *at == wanted => Arc::clone(held),
            _ => {
                if cursor.next != wanted {
                    cursor.reader.set_index(wanted)?;
                }
                let rows = cursor.reader.next().ok_or_else(|| {
                    DataFusionError::Execution("a file of spilled rows is shorter than it was".to_owned())
                })??;
                // All columns of a batch share one buffer, which would be counted for each of them.
                let columns = rows.columns().iter().map(compact).collect::<Result<_>>()?;
                let held = Arc::new(Held::loaded(&self.all.schema, columns, rows.num_rows(), self.hash.as_ref())?);
                (cursor.next, cursor.number) = (wanted + 1, None);
                cursor.current = Some((wanted, Arc::clone(&held)));
                held
            }
        };
        let rows = held.rows as u32;
        let number = *cursor.number.get_or_insert_with(|| {
            self.loaded.push(held);
            (self.all.batches.len() + self.loaded.len() - 1) as u32
        });
        let end = u64::from(rows).min(u64::from(offset) + (self.run_rows.end - self.run_rows.start)) as u32;
        self.run_rows.start += u64::from(end - offset);
        self.pick(number, offset..end)
    }

    /// Assembles the picked rows. Batches from disk are released unless duplicates are to be found among their rows.
    fn take(&mut self) -> Result<Next> {
        let (all, loaded) = (&self.all, &self.loaded);
        let given = self.all_columns.as_ref().unwrap_or(&all.given);
        let rows = self.picked.take(given, |batch| held(all, loaded, batch))?;
        let within_a_key = !self.slices.is_empty() || !self.run_rows.is_empty() || self.run < self.all.runs.len();
        if self.hash.is_none() || !within_a_key {
            self.loaded.clear();
            self.same = Compare::default();
            self.cursors.iter_mut().flatten().for_each(|cursor| cursor.number = None);
        }
        Ok(Next::Rows(rows))
    }
}

/// Allocations up to this many bytes are not reserved.
const FITS_ALWAYS: usize = 1 << 20;
/// The number of batches from disk that may be held when a key begins.
const LOADED_BETWEEN_KEYS: usize = 64;

fn held<'a>(all: &'a Gathered, loaded: &'a [Arc<Held>], batch: u32) -> &'a Held {
    let batch = batch as usize;
    all.batches.get(batch).unwrap_or_else(|| &loaded[batch - all.batches.len()])
}

/// Compares rows of two batches exactly: null equals null, and a NaN equals a NaN with the same bits.
#[derive(Default)]
struct Compare {
    batches: (u32, u32),
    /// The comparator of each column of these two batches, created when needed.
    columns: Vec<Option<Same>>,
}

type Same = Box<dyn Fn(usize, usize) -> bool + Send + Sync>;

impl Compare {
    fn rows<'a>(
        &mut self,
        columns: usize,
        (a, i): (u32, u32),
        (b, j): (u32, u32),
        rows: impl Fn(u32) -> &'a [ArrayRef],
    ) -> Result<bool> {
        if self.batches != (a, b) {
            self.columns.clear();
            self.batches = (a, b);
        }
        self.columns.resize_with(columns, || None);
        let (i, j) = (i as usize, j as usize);
        for ((a, b), same) in rows(a).iter().zip(rows(b)).zip(&mut self.columns) {
            // Mostly only one pair of rows of two batches is compared, and most columns are packed.
            let equal = match packed_alike(a, b) {
                Some((a, b)) => number(a, i) == number(b, j),
                None => match same {
                    Some(same) => same(i, j),
                    none => none.insert(self::same(a, b)?)(i, j),
                },
            };
            if !equal {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The text numbers, if both columns are packed with the same texts.
fn packed_alike<'a>(a: &'a ArrayRef, b: &'a ArrayRef) -> Option<(&'a UInt32Array, &'a UInt32Array)> {
    let (a, b) = (a.as_dictionary_opt::<UInt32Type>()?, b.as_dictionary_opt::<UInt32Type>()?);
    Arc::ptr_eq(a.values(), b.values()).then(|| (a.keys(), b.keys()))
}

fn number(numbers: &UInt32Array, row: usize) -> Option<u32> {
    numbers.is_valid(row).then(|| numbers.value(row))
}

fn same(a: &ArrayRef, b: &ArrayRef) -> Result<Same> {
    if a.data_type() == b.data_type() && a.data_type() != &packed_type() {
        let compare = make_comparator(a.as_ref(), b.as_ref(), SortOptions::default())?;
        return Ok(Box::new(move |i, j| compare(i, j).is_eq()));
    }
    // Only one of them is packed, or each is packed with texts of its own.
    let (a, b) = (Arc::clone(a), Arc::clone(b));
    Ok(Box::new(move |i, j| Texts::of(a.as_ref()).get(i) == Texts::of(b.as_ref()).get(j)))
}

/// The sort order of keys: DataFusion's default.
pub(super) fn sort_fields(schema: &SchemaRef, columns: &[usize]) -> Vec<SortField> {
    let options = SortOptions { descending: false, nulls_first: true };
    columns.iter().map(|c| SortField::new_with_options(schema.field(*c).data_type().clone(), options)).collect()
}
