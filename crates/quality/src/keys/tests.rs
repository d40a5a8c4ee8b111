use std::collections::BTreeMap;

use datafusion::arrow::array::{Float64Array, Int8Array, Int64Array, ListArray, StringArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use proptest::prelude::*;

use super::*;

/// Refuses the tables of keys more than some bytes.
#[derive(Debug, Default)]
struct Tight {
    pool: UnboundedMemoryPool,
    tables: usize,
}

impl MemoryPool for Tight {
    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<(), DataFusionError> {
        if reservation.consumer().name() == "Keys" && reservation.size() + additional > self.tables {
            return Err(DataFusionError::ResourcesExhausted("no room".to_owned()));
        }
        self.pool.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }
}

type Key = (Option<String>, Option<i64>);

/// Counts the keys of two streams of batches that come side by side.
fn counted(streams: [Vec<Vec<Key>>; 2], tables: usize) -> (Groups, usize) {
    let pool = Arc::new(Tight { tables, ..Tight::default() });
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool) as Arc<dyn MemoryPool>).build().unwrap();
    let state = SessionStateBuilder::new().with_default_features().with_runtime_env(Arc::new(runtime)).build();
    let fields = vec![Field::new("s", DataType::Utf8, true), Field::new("i", DataType::Int64, true)];
    let schema = Schema::new(fields);
    let groups = async {
        let keys = Keys::new(&state, &schema, &[0, 1]).unwrap();
        let tasks = streams.map(|batches| {
            let mut counter = keys.counter();
            tokio::spawn(async move {
                for batch in batches {
                    let (texts, numbers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                    let columns: Vec<ArrayRef> =
                        vec![Arc::new(StringArray::from(texts)), Arc::new(Int64Array::from(numbers))];
                    counter.add(&columns).await.unwrap();
                }
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        keys.groups().await.unwrap()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let groups = runtime.block_on(groups);
    (groups, pool.reserved())
}

/// What is counted, by the simplest way.
fn expected(streams: &[Vec<Vec<Key>>; 2]) -> Groups {
    let mut counts: BTreeMap<Key, u64> = BTreeMap::new();
    // Nulls alone are no key.
    let keys = streams.iter().flatten().flatten().filter(|key| **key != (None, None));
    keys.for_each(|key| *counts.entry(key.clone()).or_default() += 1);
    let mut groups = Groups::default();
    counts.values().for_each(|n| groups.add(*n));
    let again = counts.iter().filter(|(_, n)| **n > 1).take(SHOWN);
    let text = |(text, number): &Key| {
        let text = text.as_ref().map_or("null".to_owned(), |text| format!("{text:?}"));
        format!("({text}, {})", number.map_or("null".to_owned(), |number| number.to_string()))
    };
    groups.repeated = again.map(|(key, _)| text(key)).collect();
    groups
}

fn batches() -> impl Strategy<Value = Vec<Vec<Key>>> {
    let key = (proptest::option::of("[a-d]{0,2}"), proptest::option::of(-8_i64..8));
    proptest::collection::vec(proptest::collection::vec(key, 0..40), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same counts and examples, in whatever order rows come, wherever the aggregation takes over.
    #[test]
    fn keys_are_counted_exactly(
        streams in [batches(), batches()],
        tables in prop_oneof![Just(usize::MAX), Just(0), 0..20_000_usize],
    ) {
        let expected = expected(&streams);
        let (groups, reserved) = counted(streams, tables);
        prop_assert_eq!(groups, expected);
        prop_assert_eq!(reserved, 0);
    }
}

async fn counted_in(columns: Vec<ArrayRef>) -> Groups {
    let state = SessionStateBuilder::new().with_default_features().build();
    let fields = columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let keys = Keys::new(&state, &schema, &(0..columns.len()).collect::<Vec<_>>()).unwrap();
    keys.counter().add(&columns).await.unwrap();
    keys.groups().await.unwrap()
}

fn numbers() -> ArrayRef {
    Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0]))
}

fn lists() -> ArrayRef {
    let field = Arc::new(Field::new_list_field(DataType::Float64, true));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1; 5]), numbers(), None))
}

/// There is one zero and one NaN, as everywhere in SQL here.
#[rstest::rstest]
#[case::numbers(numbers(), ["0.0", "NaN"])]
#[case::lists(lists(), ["[0.0]", "[NaN]"])]
#[tokio::test]
async fn equal_values_are_one_key(#[case] column: ArrayRef, #[case] repeated: [&str; 2]) {
    let groups = counted_in(vec![column]).await;
    assert_eq!((groups.distinct, groups.unique, groups.rows), (3, 1, 5));
    assert_eq!(groups.repeated, repeated);
}

#[rstest::rstest]
#[case::without_a_type(new_null_array(&DataType::Null, 3))]
#[case::texts(new_null_array(&DataType::Utf8, 3))]
#[case::views(new_null_array(&DataType::Utf8View, 3))]
#[tokio::test]
async fn nulls_alone_are_no_key(#[case] column: ArrayRef) {
    assert_eq!(counted_in(vec![Arc::clone(&column)]).await, Groups::default());
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(7), None]));
    let groups = counted_in(vec![column, ids]).await;
    assert_eq!((groups.distinct, groups.rows, groups.repeated), (1, 2, vec!["(null, 7)".to_owned()]));
}

/// Values of all types are told apart, in slices too.
#[rstest::rstest]
#[case(DataType::Int8)]
#[case(DataType::Boolean)]
#[case(DataType::Float32)]
#[case(DataType::Decimal128(20, 2))]
#[case(DataType::Decimal256(40, 2))]
#[case(DataType::LargeUtf8)]
#[case(DataType::Utf8View)]
#[case(DataType::Binary)]
#[tokio::test]
async fn keys_of_all_types(#[case] data_type: DataType) {
    let bytes = matches!(data_type, DataType::Binary);
    let values: ArrayRef = match bytes {
        true => Arc::new(StringArray::from(vec!["9", "1", "0", "1", "0"])),
        false => Arc::new(Int8Array::from(vec![9, 1, 0, 1, 0])),
    };
    let groups = counted_in(vec![cast(&values, &data_type).unwrap().slice(1, 4)]).await;
    assert_eq!((groups.distinct, groups.unique, groups.rows, groups.repeated.len()), (2, 0, 4, 2));
}

/// As large as the table that the standard library makes.
#[test]
fn the_size_of_a_table_is_known() {
    for keys in [1, 3, 4, 7, 8, 64, 1000, 100_000] {
        let mut counts = Counts::default();
        counts.reserve(keys);
        let places = (counts.capacity() * 8 / 7).next_power_of_two();
        assert!(counts.capacity() >= keys && places > counts.capacity(), "{keys}");
        assert_eq!(bytes(counts.capacity()), places * 17);
    }
    assert_eq!(bytes(0), 0);
}

/// A count at its end goes on in the aggregation.
#[tokio::test]
async fn a_key_of_more_rows_than_a_table_can_count() {
    let state = SessionStateBuilder::new().with_default_features().build();
    let keys = Keys::new(&state, &Schema::new(vec![Field::new("i", DataType::Int64, true)]), &[0]).unwrap();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![7, 8]))];
    keys.counter().add(&columns).await.unwrap();
    for shard in &keys.0.shards {
        locked(shard).counts.values_mut().for_each(|rows| *rows = u32::MAX);
    }
    keys.counter().add(&columns).await.unwrap();
    let groups = keys.groups().await.unwrap();
    assert_eq!((groups.distinct, groups.unique, groups.rows), (2, 0, 2 << 32));
    assert_eq!(groups.repeated, ["7", "8"]);
}
