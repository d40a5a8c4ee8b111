//! Profiles the saved columns, for `--profile`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ahash::RandomState;
use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{cast, filter, is_not_null};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::hash_utils::create_hashes;
use datafusion::functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::{Accumulator, AggregateUDF};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use hardtack_core::Result;
use hardtack_core::audit::is_sensitive;
use hardtack_core::observe::{Observer, RowAccumulator};
use hardtack_state::ColumnProfile;

/// Profiles the columns of all sinks. Streams are profiled in parallel, and merged when they end.
#[derive(Debug, Default)]
pub(crate) struct Profiler(Arc<Mutex<BTreeMap<String, Profile>>>);

/// The columns of one sink.
#[derive(Debug)]
struct Profile(Vec<(String, ColumnState)>);

impl Profiler {
    /// The profiles, by sink.
    ///
    /// # Errors
    /// Errors of the aggregates.
    pub(crate) fn profiles(&self) -> Result<BTreeMap<String, Vec<ColumnProfile>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let describe = |profile: &mut Profile| {
            profile.0.iter_mut().map(|(name, column)| column.describe(name)).collect::<Result<Vec<_>>>()
        };
        all.iter_mut().map(|(sink, profile)| Ok((sink.clone(), describe(profile)?))).collect()
    }
}

impl Observer for Profiler {
    fn accumulator(&self, sink: &str, schema: &SchemaRef) -> Result<Option<Box<dyn RowAccumulator>>> {
        let columns = schema.fields().iter().map(|field| Ok((field.name().clone(), ColumnState::of(field)?)));
        let profile = Profile(columns.collect::<Result<_>>()?);
        Ok(Some(Box::new(Stream { sink: sink.to_owned(), profile, all: Arc::clone(&self.0) })))
    }
}

/// The columns of one stream.
struct Stream {
    sink: String,
    profile: Profile,
    all: Arc<Mutex<BTreeMap<String, Profile>>>,
}

#[async_trait]
impl RowAccumulator for Stream {
    async fn update(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        self.profile.0.iter_mut().zip(rows.columns()).try_for_each(|((_, state), column)| state.update(column))?;
        Ok(rows)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(profile) = all.get_mut(&self.sink) else {
            all.insert(self.sink, self.profile);
            return Ok(());
        };
        // Columns have the same order in all streams of a sink.
        profile.0.iter_mut().zip(self.profile.0).try_for_each(|((_, into), (_, from))| into.merge(from))
    }
}

/// The profile of a column so far.
#[derive(Debug)]
struct ColumnState {
    /// The stored type: for a dictionary, that of its values.
    data_type: DataType,
    rows: u64,
    nulls: u64,
    distinct: Box<dyn Accumulator>,
    /// The minimum and the maximum, if the type is ordered.
    bounds: Option<[Box<dyn Accumulator>; 2]>,
    /// In characters.
    longest: Option<u64>,
}

/// The same seed in all streams, so that their sketches can be merged.
const HASH: [u64; 4] = [0x68, 0x61, 0x72, 0x64];

impl ColumnState {
    /// The least and the greatest value of a sensitive column are not shown.
    fn of(field: &Field) -> Result<Self> {
        let state = Self::new(field.data_type())?;
        Ok(if is_sensitive(field) { Self { bounds: None, ..state } } else { state })
    }

    fn new(data_type: &DataType) -> Result<Self> {
        let data_type = match data_type {
            DataType::Dictionary(_, values) => values.as_ref().clone(),
            data_type => data_type.clone(),
        };
        let ordered = data_type.is_primitive() || data_type.is_string() || data_type == DataType::Boolean;
        let bounds = match ordered && !matches!(data_type, DataType::Interval(_)) {
            true => Some([aggregate(min_udaf(), &data_type)?, aggregate(max_udaf(), &data_type)?]),
            false => None,
        };
        let longest = data_type.is_string().then_some(0);
        let distinct = aggregate(approx_distinct_udaf(), &DataType::UInt64)?;
        Ok(Self { data_type, rows: 0, nulls: 0, distinct, bounds, longest })
    }

    fn update(&mut self, column: &ArrayRef) -> Result<()> {
        // A dictionary may contain values that no row has, and null may be one of them.
        let column = match column.data_type() {
            DataType::Dictionary(..) => &cast(column, &self.data_type)?,
            _ => column,
        };
        let nulls = column.logical_null_count();
        self.rows += column.len() as u64;
        self.nulls += nulls as u64;
        if nulls == column.len() {
            return Ok(());
        }
        let values = if nulls == 0 { Arc::clone(column) } else { filter(column, &is_not_null(column)?)? };
        // Hashes, because the sketch does not support all types.
        let mut hashes = vec![0; values.len()];
        create_hashes([&values], &RandomState::with_seeds(HASH[0], HASH[1], HASH[2], HASH[3]), &mut hashes)?;
        self.distinct.update_batch(&[Arc::new(UInt64Array::from(hashes))])?;
        for bound in self.bounds.iter_mut().flatten() {
            bound.update_batch(std::slice::from_ref(&values))?;
        }
        if let Some(longest) = &mut self.longest {
            *longest = (*longest).max(longest_text(&values));
        }
        Ok(())
    }

    fn merge(&mut self, mut other: Self) -> Result<()> {
        self.rows += other.rows;
        self.nulls += other.nulls;
        self.longest = self.longest.max(other.longest);
        merge(&mut self.distinct, &mut other.distinct)?;
        for (into, from) in self.bounds.iter_mut().flatten().zip(other.bounds.iter_mut().flatten()) {
            merge(into, from)?;
        }
        Ok(())
    }

    fn describe(&mut self, name: &str) -> Result<ColumnProfile> {
        let distinct = match self.distinct.evaluate()? {
            ScalarValue::UInt64(Some(distinct)) => distinct,
            _ => 0,
        };
        let [min, max] = match &mut self.bounds {
            Some([min, max]) => [text(&min.evaluate()?), text(&max.evaluate()?)],
            None => [None, None],
        };
        Ok(ColumnProfile {
            name: name.to_owned(),
            data_type: self.data_type.to_string(),
            nulls: self.nulls,
            distinct: distinct.min(self.rows - self.nulls),
            min,
            max,
            longest: self.longest,
        })
    }
}

fn aggregate(function: Arc<AggregateUDF>, data_type: &DataType) -> Result<Box<dyn Accumulator>> {
    let schema = Arc::new(Schema::new(vec![Field::new("column", data_type.clone(), true)]));
    let column = Arc::new(Column::new("column", 0));
    Ok(AggregateExprBuilder::new(function, vec![column]).schema(schema).alias("value").build()?.create_accumulator()?)
}

fn merge(into: &mut Box<dyn Accumulator>, from: &mut Box<dyn Accumulator>) -> Result<()> {
    let state = from.state()?.iter().map(ScalarValue::to_array).collect::<datafusion::error::Result<Vec<_>>>()?;
    Ok(into.merge_batch(&state)?)
}

fn text(value: &ScalarValue) -> Option<String> {
    (!value.is_null()).then(|| value.to_string())
}

/// The length of the longest text, in characters.
fn longest_text(texts: &ArrayRef) -> u64 {
    // A text has at most as many characters as bytes, so most need not be counted.
    let longest = |longest: usize, text: Option<&str>| match text {
        Some(text) if text.len() > longest => longest.max(text.chars().count()),
        _ => longest,
    };
    let longest = match texts.data_type() {
        DataType::Utf8 => texts.as_string::<i32>().iter().fold(0, longest),
        DataType::LargeUtf8 => texts.as_string::<i64>().iter().fold(0, longest),
        DataType::Utf8View => texts.as_string_view().iter().fold(0, longest),
        _ => 0,
    };
    longest as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datafusion::arrow::array::{FixedSizeListArray, StringArray};
    use datafusion::arrow::datatypes::Int32Type;
    use hardtack_core::JobContext;
    use hardtack_sinks::ParquetDataset;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// In two streams.
    const ROWS: &str = "select * from (values
        (1,    'ä',      1.5,    date '2026-01-02', true,  [1, 2]),
        (2,    'bcd',    null,   null,              null,  null)
    ) as t(id, name, price, day, good, list)
    union all select * from (values
        (2,    null,     -2.25,  date '1999-12-31', false, [1, 2]),
        (null, 'ääää',   1.5,    date '2026-01-02', true,  [3])
    ) as t(id, name, price, day, good, list)";

    /// In one stream and in two; sorted, gathered by a key whose texts are dictionaries, and in arrival order.
    #[rstest]
    #[case::as_it_comes(ParquetDataset::new("out", "memory:/plain"))]
    #[case::partitioned(ParquetDataset::new("out", "memory:/by").partition_by(["day"]))]
    #[case::sorted(ParquetDataset::new("out", "memory:/sorted").sorted_by(["price"]))]
    #[tokio::test]
    async fn columns_are_profiled_while_they_are_written(
        #[case] dataset: ParquetDataset,
        #[values(1, 2)] threads: usize,
    ) {
        let profiler = Arc::new(Profiler::default());
        let observer: Arc<dyn Observer> = Arc::clone(&profiler) as _;
        let ctx = JobContext::builder("job").threads(threads).observer(observer).build().unwrap();
        let rows = ctx.session().sql(ROWS).await.unwrap();
        ctx.save(dataset, rows).await.unwrap();
        let text: Vec<String> =
            profiler.profiles().unwrap()["out"].iter().map(|column| format!("{column:?}")).collect();
        insta::allow_duplicates! {
            insta::assert_snapshot!(text.join("\n"), @r#"
            ColumnProfile { name: "id", data_type: "Int64", nulls: 1, distinct: 2, min: Some("1"), max: Some("2"), longest: None }
            ColumnProfile { name: "name", data_type: "Utf8", nulls: 1, distinct: 3, min: Some("bcd"), max: Some("ääää"), longest: Some(4) }
            ColumnProfile { name: "price", data_type: "Float64", nulls: 1, distinct: 2, min: Some("-2.25"), max: Some("1.5"), longest: None }
            ColumnProfile { name: "day", data_type: "Date32", nulls: 1, distinct: 2, min: Some("1999-12-31"), max: Some("2026-01-02"), longest: None }
            ColumnProfile { name: "good", data_type: "Boolean", nulls: 1, distinct: 2, min: Some("false"), max: Some("true"), longest: None }
            ColumnProfile { name: "list", data_type: "List(Int64)", nulls: 1, distinct: 2, min: None, max: None, longest: None }
            "#);
        }
    }

    /// Types that have no order here, or that the sketch does not know, have a profile, too.
    #[test]
    fn every_type_has_a_profile() {
        use DataType::*;
        use datafusion::arrow::datatypes::{Fields, IntervalUnit::*, TimeUnit::*};
        let item = || Arc::new(Field::new("item", Int32, true));
        let fields = || Fields::from(vec![Field::new("key", Utf8, false), Field::new("value", Int32, true)]);
        let mut types = vec![Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float16, Float32, Float64];
        types.extend([
            Decimal32(9, 2),
            Decimal64(18, 2),
            Decimal128(38, 2),
            Decimal256(76, 2),
            Date32,
            Date64,
            Boolean,
        ]);
        types.extend([Time32(Second), Time32(Millisecond), Time64(Microsecond), Time64(Nanosecond)]);
        for unit in [Second, Millisecond, Microsecond, Nanosecond] {
            types.extend([Timestamp(unit, None), Timestamp(unit, Some("UTC".into())), Duration(unit)]);
        }
        types.extend([Interval(YearMonth), Interval(DayTime), Interval(MonthDayNano)]);
        types.extend([Utf8, LargeUtf8, Utf8View, Binary, LargeBinary, BinaryView, FixedSizeBinary(3)]);
        types.extend([List(item()), LargeList(item()), FixedSizeList(item(), 2), Struct(fields())]);
        types.extend([Dictionary(Box::new(Int32), Box::new(Utf8)), Dictionary(Box::new(UInt8), Box::new(Int64))]);
        for data_type in types {
            let value: ArrayRef = match &data_type {
                // DataFusion's default has the width 0, whatever the type says.
                FixedSizeList(..) => Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                    [Some([Some(0), Some(0)]), Some([Some(0), Some(0)])],
                    2,
                )),
                _ => ScalarValue::new_default(&data_type).unwrap().to_array_of_size(2).unwrap(),
            };
            let null = ScalarValue::try_from(&data_type).unwrap().to_array().unwrap();
            let profile = || -> Result<ColumnProfile> {
                let (mut one, mut other) = (ColumnState::new(&data_type)?, ColumnState::new(&data_type)?);
                one.update(&value)?;
                other.update(&null)?;
                other.update(&value)?;
                one.merge(other)?;
                one.describe("column")
            };
            let profile = profile().unwrap_or_else(|e| panic!("{data_type}: {}", e.chain()));
            assert_eq!((profile.nulls, profile.distinct), (1, 1), "{data_type}: {profile:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the streams and batches: what one gets by going through all values.
        #[test]
        fn a_profile_says_what_the_values_say(
            streams in proptest::collection::vec(
                proptest::collection::vec(
                    proptest::collection::vec(proptest::option::of("[a-cäß]{0,3}"), 1..20),
                    0..4,
                ),
                1..4,
            ),
        ) {
            let mut all = ColumnState::new(&DataType::Utf8).unwrap();
            for stream in &streams {
                let mut state = ColumnState::new(&DataType::Utf8).unwrap();
                for batch in stream {
                    state.update(&(Arc::new(StringArray::from(batch.clone())) as ArrayRef)).unwrap();
                }
                all.merge(state).unwrap();
            }
            let values: Vec<&Option<String>> = streams.iter().flatten().flatten().collect();
            let texts: BTreeSet<&String> = values.iter().filter_map(|value| value.as_ref()).collect();
            let profile = all.describe("column").unwrap();
            prop_assert_eq!(profile.nulls, values.iter().filter(|value| value.is_none()).count() as u64);
            prop_assert_eq!(profile.min.as_ref(), texts.first().copied());
            prop_assert_eq!(profile.max.as_ref(), texts.last().copied());
            prop_assert_eq!(profile.longest, Some(texts.iter().map(|text| text.chars().count()).max().unwrap_or(0) as u64));
            // Two of a few values have one place in the sketch now and then.
            let distinct = texts.len() as u64;
            prop_assert!(profile.distinct.abs_diff(distinct) <= 1 + distinct / 50, "{profile:?}");
        }
    }

    #[tokio::test]
    async fn many_values_are_counted_about_right() {
        let profiler = Arc::new(Profiler::default());
        let observer: Arc<dyn Observer> = Arc::clone(&profiler) as _;
        let ctx = JobContext::builder("job").threads(2).observer(observer).build().unwrap();
        let rows = "select value as n, value % 100 as few, null as none from generate_series(1, 100000)";
        let rows = ctx.session().sql(rows).await.unwrap();
        ctx.save(ParquetDataset::new("out", "memory:/out").partition_by(["few"]), rows).await.unwrap();
        let profiles = profiler.profiles().unwrap();
        let [n, few, none] = &profiles["out"][..] else { panic!("{profiles:?}") };
        assert!((95_000..=100_000).contains(&n.distinct), "{n:?}");
        assert_eq!((n.min.as_deref(), n.max.as_deref(), n.nulls), (Some("1"), Some("100000"), 0));
        assert!((98..=102).contains(&few.distinct), "{few:?}");
        assert_eq!((none.nulls, none.distinct, none.min.as_deref()), (100_000, 0, None));
    }
}
