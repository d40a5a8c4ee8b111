//! Counts how often keys occur while the rows flow, exactly and in little memory.
//!
//! A key is the values of a row's columns. Tables count keys by hashes of 96 bits, with a seed of its own in each audit:
//! among a billion different keys there are two with the same hash by chance once in 10^11 audits. (Whoever constructs two on
//! purpose could as well deliver a key twice.) The first time a key occurs again, its values are at hand to show them.
//!
//! When the tables exceed the memory of the run, an aggregation of DataFusion takes over, which spills: it gets the counts
//! so far without values, and all later keys with theirs.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, LargeBinaryBuilder, RecordBatch, StringArray, StringViewArray, UInt32Array,
    UInt64Array, new_null_array,
};
use datafusion::arrow::buffer::{Buffer, NullBuffer};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::DataFusionError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::functions_aggregate::expr_fn::{max, sum};
use datafusion::prelude::{DataFrame, ident};
use futures::TryStreamExt;
use hardtack_core::sql::canonical_array;
use hardtack_core::{Error, Result};
use twox_hash::XxHash3_128;

use crate::example::{SHOWN, texts};
use crate::flow::{Feed, flow};
use crate::measure::Groups;
use crate::query::frame;

/// Tables of their own for a part of the keys, so that streams seldom wait for each other.
const SHARDS: usize = 16;
/// The counts that are handed over at once.
const HANDED_OVER: usize = 8192;

/// The counts of one grouping. Clones are the same counts.
#[derive(Clone)]
pub(crate) struct Keys(Arc<Shared>);

struct Shared {
    state: SessionState,
    types: Vec<DataType>,
    converter: RowConverter,
    seed: u64,
    memory: MemoryReservation,
    shards: [Mutex<Shard>; SHARDS],
    repeated: Mutex<Least>,
    overflow: Mutex<Option<Overflow>>,
}

#[derive(Default)]
struct Shard {
    counts: Counts,
    /// Whether the counts were handed over.
    is_closed: bool,
}

/// The aggregation that takes over.
struct Overflow {
    feed: Feed,
    groups: SpawnedTask<Result<(Groups, Least)>>,
}

/// The hash of a key, in parts that leave no gap beside its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeyHash {
    high: [u32; 2],
    low: u32,
}

impl KeyHash {
    fn of(seed: u64, key: &[u8]) -> Self {
        let hash = XxHash3_128::oneshot_with_seed(seed, key);
        Self { high: [(hash >> 96) as u32, (hash >> 64) as u32], low: hash as u32 }
    }

    fn high(self) -> u64 {
        u64::from(self.high[0]) << 32 | u64::from(self.high[1])
    }

    fn shard(self) -> usize {
        (self.low % SHARDS as u32) as usize
    }
}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.high());
    }
}

/// Takes the hash that is given.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a key's hash is written as a number");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The number of rows of each key.
type Counts = HashMap<KeyHash, u32, BuildHasherDefault<Given>>;

/// The size of a table with room for so many keys: a power of two of places, of which seven of eight are used, and a byte of
/// its own for each.
fn bytes(capacity: usize) -> usize {
    match capacity {
        0 => 0,
        _ => (capacity * 8 / 7).next_power_of_two() * (size_of::<(KeyHash, u32)>() + 1),
    }
}

/// The least keys by the order of their values.
#[derive(Debug, Default)]
struct Least(BTreeSet<Box<[u8]>>);

impl Least {
    fn offer(&mut self, key: &[u8]) {
        let is_full = self.0.len() == SHOWN;
        if is_full && self.0.last().is_some_and(|last| **last <= *key) {
            return;
        }
        self.0.insert(key.into());
        if self.0.len() > SHOWN {
            self.0.pop_last();
        }
    }
}

/// Whether keys of this type can be told apart.
pub(crate) fn is_key(data_type: &DataType) -> bool {
    RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

impl Keys {
    /// Counts keys of these columns, given by their numbers.
    pub(crate) fn new(state: &SessionState, schema: &Schema, columns: &[usize]) -> Result<Self> {
        let types: Vec<_> = columns.iter().map(|i| schema.field(*i).data_type().clone()).collect();
        let fields = types.iter().cloned().map(SortField::new).collect();
        let converter = RowConverter::new(fields).map_err(DataFusionError::from)?;
        let memory = MemoryConsumer::new("Keys").with_can_spill(true).register(&state.runtime_env().memory_pool);
        Ok(Self(Arc::new(Shared {
            state: state.clone(),
            types,
            converter,
            seed: RandomState::new().hash_one(0_u8),
            memory,
            shards: Default::default(),
            repeated: Mutex::default(),
            overflow: Mutex::new(None),
        })))
    }

    /// Counts the keys of one stream of rows.
    pub(crate) fn counter(&self) -> KeyCounter {
        KeyCounter { keys: self.clone(), hashes: Vec::new(), by_shard: Default::default() }
    }

    /// The counts, once all streams have ended.
    pub(crate) async fn groups(&self) -> Result<Groups> {
        let overflow = locked(&self.0.overflow).take();
        let (mut groups, mut repeated) = match overflow {
            Some(Overflow { feed, groups }) => {
                // The aggregation ends when nobody can send any more.
                drop(feed);
                groups.await.map_err(|e| Error::unexpected("the counts of keys ended early").because(e))??
            }
            None => Default::default(),
        };
        for shard in &self.0.shards {
            let Shard { counts, .. } = std::mem::take(&mut *locked(shard));
            counts.values().for_each(|rows| groups.add(u64::from(*rows)));
        }
        std::mem::take(&mut *locked(&self.0.repeated)).0.iter().for_each(|key| repeated.offer(key));
        self.0.memory.free();
        groups.repeated = self.0.texts(&repeated).map_err(DataFusionError::from)?;
        Ok(groups)
    }
}

impl Shared {
    /// Makes room for another key, or says that there is none.
    fn has_room(&self, counts: &mut Counts) -> bool {
        if counts.len() < counts.capacity() {
            return true;
        }
        let (before, more) = (bytes(counts.capacity()), counts.capacity().max(64));
        // Both tables are there while one is copied into the other.
        if self.memory.try_grow(bytes(counts.capacity() + more)).is_err() {
            return false;
        }
        counts.reserve(more);
        self.memory.shrink(before);
        true
    }

    /// Where keys go that there is no room for. With the first of them, all counts go there.
    async fn overflow(&self) -> Result<Feed> {
        let feed = {
            let mut overflow = locked(&self.overflow);
            if let Some(Overflow { feed, .. }) = &*overflow {
                return Ok(feed.clone());
            }
            let (feed, table) = flow(overflowing())?;
            let keys = vec![ident("hash_1"), ident("hash_2")];
            let counted = frame(&self.state, table)?
                .aggregate(keys, vec![sum(ident("n")).alias("n"), max(ident("key")).alias("key")])?;
            let groups = SpawnedTask::spawn(aggregated(counted));
            *overflow = Some(Overflow { feed: feed.clone(), groups });
            feed
        };
        tracing::debug!("keys exceed the memory and are counted by an aggregation that spills");
        self.shards.iter().for_each(|shard| locked(shard).is_closed = true);
        for shard in &self.shards {
            let counts = std::mem::take(&mut locked(shard).counts);
            let size = bytes(counts.capacity());
            let mut counts = counts.into_iter();
            loop {
                let (hashes, rows): (Vec<KeyHash>, Vec<u32>) = counts.by_ref().take(HANDED_OVER).unzip();
                if hashes.is_empty() {
                    break;
                }
                let keys = new_null_array(&DataType::LargeBinary, hashes.len());
                // Whoever has stopped counting says why at the end.
                let _ = feed.send(handed_over(&hashes, &rows, keys)?).await;
            }
            drop(counts);
            self.memory.shrink(size);
        }
        Ok(feed)
    }

    /// The columns in which equal values are the same: there is one zero and one NaN, and batches may differ in what is
    /// nullable within a list.
    fn canonical(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
        let canonical = |(column, data_type): (&ArrayRef, &DataType)| match column.data_type() == data_type {
            true => canonical_array(column),
            false => canonical_array(&cast(column, data_type)?),
        };
        columns.iter().zip(&self.types).map(canonical).collect()
    }

    /// Some of the keys in Arrow's row format.
    fn rows(&self, columns: &[ArrayRef], numbers: &[usize]) -> Result<Rows> {
        let numbers = UInt32Array::from_iter_values(numbers.iter().map(|i| *i as u32));
        let taken = columns.iter().map(|column| take(column, &numbers, None)).collect::<Result<Vec<_>, _>>();
        let rows = taken.and_then(|columns| self.converter.convert_columns(&columns));
        Ok(rows.map_err(DataFusionError::from)?)
    }

    /// Keys as text.
    fn texts(&self, keys: &Least) -> Result<Vec<String>, ArrowError> {
        let parser = self.converter.parser();
        texts(&self.converter.convert_rows(keys.0.iter().map(|key| parser.parse(key)))?)
    }
}

/// Counts the keys of one stream of rows.
pub(crate) struct KeyCounter {
    keys: Keys,
    hashes: Vec<KeyHash>,
    /// The numbers of the rows by their shards.
    by_shard: [Vec<usize>; SHARDS],
}

/// The rows of a batch that need more than a count.
#[derive(Default)]
struct Special {
    /// Their keys occur for the second time.
    again: Vec<usize>,
    /// There is no room for their keys.
    left: Vec<usize>,
}

impl KeyCounter {
    /// Counts the keys of rows, given their columns.
    pub(crate) async fn add(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let columns = &self.keys.0.canonical(columns).map_err(DataFusionError::from)?;
        self.hash(columns).map_err(DataFusionError::from)?;
        let Special { again, left } = self.count();
        let keys = &self.keys.0;
        if !again.is_empty() {
            let rows = keys.rows(columns, &again)?;
            let mut repeated = locked(&keys.repeated);
            rows.iter().for_each(|row| repeated.offer(row.data()));
        }
        if left.is_empty() {
            return Ok(());
        }
        let feed = keys.overflow().await?;
        let hashes: Vec<_> = left.iter().map(|i| self.hashes[*i]).collect();
        let mut values = LargeBinaryBuilder::new();
        keys.rows(columns, &left)?.iter().for_each(|row| values.append_value(row.data()));
        let _ = feed.send(handed_over(&hashes, &vec![1; hashes.len()], Arc::new(values.finish()))?).await;
        Ok(())
    }

    fn hash(&mut self, columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.hashes.clear();
        self.by_shard.iter_mut().for_each(Vec::clear);
        let columns = columns.iter().map(Values::of).collect::<Result<Vec<_>, _>>()?;
        let mut key = Vec::new();
        for i in 0..columns.first().map_or(0, |column| column.len) {
            key.clear();
            columns.iter().for_each(|column| column.write(i, &mut key));
            let hash = KeyHash::of(self.keys.0.seed, &key);
            self.hashes.push(hash);
            // Nulls alone are no key.
            if !columns.iter().all(|column| column.is_null(i)) {
                self.by_shard[hash.shard()].push(i);
            }
        }
        Ok(())
    }

    /// Counts what there is room for.
    fn count(&self) -> Special {
        let mut special = Special::default();
        for (shard, rows) in self.keys.0.shards.iter().zip(&self.by_shard) {
            let shard = &mut *locked(shard);
            for i in rows {
                // Room for one more is made before it is known whether the key is new, so that it is looked up once.
                if shard.is_closed || !self.keys.0.has_room(&mut shard.counts) {
                    special.left.push(*i);
                    continue;
                }
                let rows = shard.counts.entry(self.hashes[*i]).or_default();
                match rows.checked_add(1) {
                    Some(more) => *rows = more,
                    None => special.left.push(*i),
                }
                if *rows == 2 {
                    special.again.push(*i);
                }
            }
        }
        special
    }
}

/// The values of a column as bytes.
struct Values<'a> {
    len: usize,
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Text(&'a StringArray),
    View(&'a StringViewArray),
    /// Numbers, times and the like: their bytes, and how many each has.
    Fixed(Buffer, usize),
    Other(Rows),
}

impl<'a> Values<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self, ArrowError> {
        let kind = match array.data_type() {
            DataType::Utf8 => Kind::Text(array.as_string()),
            DataType::Utf8View => Kind::View(array.as_string_view()),
            data_type => match data_type.primitive_width() {
                Some(width) => {
                    let data = array.to_data();
                    Kind::Fixed(data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width), width)
                }
                None => {
                    let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
                    Kind::Other(converter.convert_columns(&[Arc::clone(array)])?)
                }
            },
        };
        Ok(Self { len: array.len(), nulls: array.logical_nulls(), kind })
    }

    fn is_null(&self, i: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(i))
    }

    /// Appends a value so that keys have the same bytes if, and only if, their values are the same.
    fn write(&self, i: usize, key: &mut Vec<u8>) {
        if self.is_null(i) {
            return key.push(0);
        }
        key.push(1);
        let mut sized = |value: &[u8]| {
            key.extend_from_slice(&value.len().to_le_bytes());
            key.extend_from_slice(value);
        };
        match &self.kind {
            Kind::Text(texts) => sized(texts.value(i).as_bytes()),
            Kind::View(texts) => sized(texts.value(i).as_bytes()),
            Kind::Other(rows) => sized(rows.row(i).data()),
            Kind::Fixed(bytes, width) => key.extend_from_slice(&bytes[i * width..(i + 1) * width]),
        }
    }
}

/// What the aggregation gets: hashes of keys, how many rows have them, and the keys where they are at hand.
fn overflowing() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("hash_1", DataType::UInt64, false),
        Field::new("hash_2", DataType::UInt32, false),
        Field::new("n", DataType::Int64, false),
        Field::new("key", DataType::LargeBinary, true),
    ]))
}

fn handed_over(hashes: &[KeyHash], n: &[u32], keys: ArrayRef) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(hashes.iter().map(|hash| hash.high()))),
        Arc::new(UInt32Array::from_iter_values(hashes.iter().map(|hash| hash.low))),
        Arc::new(Int64Array::from_iter_values(n.iter().map(|n| i64::from(*n)))),
        keys,
    ];
    Ok(RecordBatch::try_new(overflowing(), columns).map_err(DataFusionError::from)?)
}

/// The counts of the aggregation, and the least of the keys that occur again. A key has no values if all its rows were
/// counted before; whether it occurs again was seen then.
async fn aggregated(counted: DataFrame) -> Result<(Groups, Least)> {
    let (mut groups, mut repeated) = (Groups::default(), Least::default());
    let mut batches = counted.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        let keys = batch.column(3).as_binary::<i64>();
        for (i, n) in batch.column(2).as_primitive::<Int64Type>().values().iter().enumerate() {
            groups.add(*n as u64);
            if *n > 1 && keys.is_valid(i) {
                repeated.offer(keys.value(i));
            }
        }
    }
    Ok((groups, repeated))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
