use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use arrow::util::display::array_value_to_string;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::record_batch;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{col, lit};
use hardtack_core::store::StoreFactory;
use hardtack_core::{JobContext, Location, Source, Store, Stores};
use hardtack_sources::ParquetFiles;
use insta::assert_snapshot;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rstest::rstest;

use crate::{collect, put, schema, show, types, with_files};

const AT: &str = "memory:/data";

pub(crate) fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn schemas_are_united_over_all_files() {
    let a = record_batch!(("id", Int32, vec![1, 2]), ("name", Utf8, vec!["a", "b"])).unwrap();
    let b = record_batch!(("price", Float64, vec![0.5]), ("id", Int64, vec![5_000_000_000])).unwrap();
    let ctx = with_files([("data/a.parquet", parquet(&a)), ("data/b.parquet", parquet(&b))]).await;
    assert_snapshot!(types(&ctx, ParquetFiles::new("a", AT)).await, @"id: Int64, name: Utf8View, price: Float64");
    assert_snapshot!(show(&ctx, ParquetFiles::new("a", AT)).await, @"
    +------------+------+-------+
    | id         | name | price |
    +------------+------+-------+
    | 1          | a    |       |
    | 2          | b    |       |
    | 5000000000 |      | 0.5   |
    +------------+------+-------+
    ");
    let c = record_batch!(("id", Utf8, vec!["x"])).unwrap();
    crate::put(&ctx, "data/c.parquet", parquet(&c)).await;
    assert_snapshot!(show(&ctx, ParquetFiles::new("a", AT)).await, @"refused: `id` is Int64 in memory:/data/b.parquet and Utf8 in memory:/data/c.parquet, which have no type in common (column: id, file: memory:/data/c.parquet, hint: declare a schema: a string holds the values of both, a double the numbers that it represents exactly)");
    crate::put(&ctx, "data/c.parquet", "PAR1 not really").await;
    assert_snapshot!(show(&ctx, ParquetFiles::new("a", AT)).await, @"refused: Parquet error: Invalid Parquet file. Corrupt footer (file: memory:/data/c.parquet)");
}

#[tokio::test]
async fn a_declared_schema_is_enforced() {
    let batch = record_batch!(
        ("id", Int64, vec![1, 5_000_000_000]),
        ("name", Utf8, vec![Some("7"), None]),
        ("f", Float64, vec![1.5, 2.0])
    )
    .unwrap();
    let ctx = with_files([("data/a.parquet", parquet(&batch))]).await;
    let read = |columns: &[(&str, DataType)]| ParquetFiles::new("a", AT).with_schema(schema(columns));
    let fine = read(&[("new", DataType::Date32), ("name", DataType::Int8), ("id", DataType::Utf8)]);
    assert_snapshot!(show(&ctx, fine).await, @"
    +-----+------+------------+
    | new | name | id         |
    +-----+------+------------+
    |     | 7    | 1          |
    |     |      | 5000000000 |
    +-----+------+------------+
    ");
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Int32)])).await, @"refused: a value does not fit the declared type without loss (column: id, value: 5000000000, type: bigint, declared: int, file: memory:/data/a.parquet)");
    assert_snapshot!(show(&ctx, read(&[("f", DataType::Int64)])).await, @"refused: the file stores a Float64, which is not always an Int64, as the schema requires (column: f, file: memory:/data/a.parquet)");
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Timestamp(TimeUnit::Second, None))])).await, @"refused: the file stores an Int64, which is not always a Timestamp(s), as the schema requires (column: id, file: memory:/data/a.parquet)");
    let required =
        |name| ParquetFiles::new("a", AT).with_schema(Schema::new(vec![Field::new(name, DataType::Utf8, false)]));
    assert_snapshot!(show(&ctx, required("name")).await, @"refused: a value is missing where the schema requires one (column: name, file: memory:/data/a.parquet)");
    assert_snapshot!(show(&ctx, required("nope")).await, @"refused: the file lacks a column that the schema requires (column: nope, file: memory:/data/a.parquet)");
}

#[tokio::test]
async fn nested_columns_gain_fields() {
    let of = |names: &[&str]| DataType::Struct(names.iter().map(|n| Field::new(*n, DataType::Int64, true)).collect());
    let json = |text: &str, t: DataType| {
        let columns = Arc::new(Schema::new(vec![Field::new("s", t, true)]));
        arrow::json::ReaderBuilder::new(columns).build(text.as_bytes()).unwrap().next().unwrap().unwrap()
    };
    let a = json("{\"s\":{\"x\":1}}", of(&["x"]));
    let b = json("{\"s\":{\"y\":2,\"x\":3}}", of(&["y", "x"]));
    let ctx = with_files([("data/a.parquet", parquet(&a)), ("data/b.parquet", parquet(&b))]).await;
    assert_snapshot!(show(&ctx, ParquetFiles::new("a", AT)).await, @"
    +--------------+
    | s            |
    +--------------+
    | {x: 1, y: }  |
    | {x: 3, y: 2} |
    +--------------+
    ");
    let list = |t: DataType| DataType::new_list(t, true);
    let a = json("{\"s\":[{\"x\":1}]}", list(of(&["x"])));
    let b = json("{\"s\":[{\"y\":2,\"x\":3}]}", list(of(&["y", "x"])));
    let ctx = with_files([("data/a.parquet", parquet(&a)), ("data/b.parquet", parquet(&b))]).await;
    assert_snapshot!(show(&ctx, ParquetFiles::new("a", AT)).await, @"
    +----------------+
    | s              |
    +----------------+
    | [{x: 1, y: }]  |
    | [{x: 3, y: 2}] |
    +----------------+
    ");
}

pub(crate) fn from_json(text: &str, columns: &[(&str, DataType)]) -> Vec<u8> {
    parquet(&batch(text, columns))
}

pub(crate) fn batch(text: &str, columns: &[(&str, DataType)]) -> RecordBatch {
    arrow::json::ReaderBuilder::new(schema(columns)).build(text.as_bytes()).unwrap().next().unwrap().unwrap()
}

/// The values of a column that two files store with two types, or the error.
#[rstest]
#[case::digits(
    (DataType::Int64, "9007199254740993"), (DataType::Float64, "0.5"),
    "`v` is Int64 in memory:/data/a.parquet and Float64 in memory:/data/b.parquet, which have no type in common (column: v)"
)]
#[case::digits_in_lists(
    (DataType::new_list(DataType::Int64, true), "[9007199254740993]"), (DataType::new_list(DataType::Float64, true), "[0.5]"),
    "`v[]` is Int64 in memory:/data/a.parquet and Float64 in memory:/data/b.parquet, which have no type in common (column: v[])"
)]
#[case::digits_in_structs(
    (of(DataType::Int64), r#"{"n": 9007199254740993}"#), (of(DataType::Float64), r#"{"n": 0.5}"#),
    "`v.n` is Int64 in memory:/data/a.parquet and Float64 in memory:/data/b.parquet, which have no type in common (column: v.n)"
)]
#[case::small_numbers((DataType::Int64, "9007199254740992"), (DataType::Float64, "0.5"), "9007199254740992.0|0.5")]
#[case::small_numbers_in_lists(
    (DataType::new_list(DataType::Int64, true), "[7, null]"), (DataType::new_list(DataType::Float64, true), "[0.5]"),
    "[7.0, ]|[0.5]"
)]
#[case::small_numbers_in_structs((of(DataType::Int64), r#"{"n": 7}"#), (of(DataType::Float64), r#"{"n": 0.5}"#), "{n: 7.0}|{n: 0.5}")]
#[case::digits_below_small_numbers(
    (DataType::new_list(DataType::Int64, true), "[-9007199254740993, 7]"), (DataType::new_list(DataType::Float64, true), "[0.5]"),
    "`v[]` is Int64 in memory:/data/a.parquet and Float64 in memory:/data/b.parquet, which have no type in common (column: v[])"
)]
#[case::digits_above_small_numbers(
    (DataType::new_list(DataType::Int64, true), "[7, 9007199254740993]"), (DataType::new_list(DataType::Float64, true), "[0.5]"),
    "`v[]` is Int64 in memory:/data/a.parquet and Float64 in memory:/data/b.parquet, which have no type in common (column: v[])"
)]
#[case::small_numbers_in_large_lists(
    (DataType::new_large_list(DataType::Int64, true), "[7]"), (DataType::new_large_list(DataType::Float64, true), "[0.5]"),
    "[7.0]|[0.5]"
)]
#[case::small_numbers_in_fixed_lists(
    (DataType::new_fixed_size_list(DataType::Int64, 2, true), "[7, 8]"), (DataType::new_fixed_size_list(DataType::Float64, 2, true), "[0.5, 1]"),
    "[7.0, 8.0]|[0.5, 1.0]"
)]
#[case::small_numbers_in_maps((map(DataType::Int64), r#"{"a": 1}"#), (map(DataType::Float64), r#"{"b": 0.5}"#), "{a: 1.0}|{b: 0.5}")]
#[case::nulls((DataType::Int64, "null"), (DataType::Float64, "0.5"), "|0.5")]
#[case::decimal_and_integer((DataType::Decimal128(5, 2), "1.25"), (DataType::Int64, "9007199254740993"), "1.25|9007199254740993.00")]
#[case::scales((DataType::Decimal128(5, 2), "1.25"), (DataType::Decimal128(9, 4), "3.0001"), "1.2500|3.0001")]
#[case::decimal_and_double(
    (DataType::Decimal128(5, 2), "1.25"), (DataType::Float64, "0.5"),
    "`v` is Decimal128(5, 2) in memory:/data/a.parquet and Float64 in memory:/data/b.parquet, which have no type in common (column: v)"
)]
#[case::zones((stamp(Some("UTC")), r#""2024-01-01T10:00:00Z""#), (stamp(Some("+00:00")), r#""2024-01-02T10:00:00Z""#), "2024-01-01T10:00:00Z|2024-01-02T10:00:00Z")]
#[case::zone_or_none((stamp(None), r#""2024-01-01T10:00:00""#), (stamp(Some("Europe/Berlin")), r#""2024-01-02T10:00:00Z""#), "2024-01-01T10:00:00Z|2024-01-02T10:00:00Z")]
#[case::lists(
    (DataType::new_list(DataType::Int32, true), "[1]"), (DataType::new_large_list(DataType::Int64, true), "[2, 3]"),
    "[1]|[2, 3]"
)]
#[case::fixed_list(
    (DataType::new_fixed_size_list(DataType::Float32, 2, true), "[1, 2]"), (DataType::new_list(DataType::Float32, true), "[0.5]"),
    "[1.0, 2.0]|[0.5]"
)]
#[case::fixed_lists(
    (DataType::new_fixed_size_list(DataType::Float32, 2, true), "[1, 2]"), (DataType::new_fixed_size_list(DataType::Float64, 2, true), "[0.5, 1]"),
    "[1.0, 2.0]|[0.5, 1.0]"
)]
#[case::maps((map(DataType::Int32), r#"{"a": 1}"#), (map(DataType::Int64), r#"{"b": 5000000000}"#), "{a: 1}|{b: 5000000000}")]
#[tokio::test]
async fn types_meet_without_losing_a_digit(
    #[case] one: (DataType, &str),
    #[case] other: (DataType, &str),
    #[case] expected: &str,
) {
    let file = |(of, value): (DataType, &str)| from_json(&format!("{{\"v\": {value}}}"), &[("v", of)]);
    let ctx = with_files([("data/a.parquet", file(one)), ("data/b.parquet", file(other))]).await;
    let found = match ParquetFiles::new("a", AT).load(&ctx.loading("a")).await {
        Ok(rows) => {
            let batches = rows.collect().await.unwrap();
            let cells = batches.iter().flat_map(|batch| {
                (0..batch.num_rows()).map(|row| array_value_to_string(batch.column(0), row).unwrap())
            });
            cells.collect::<Vec<_>>().join("|")
        }
        Err(e) => format!("{} (column: {})", e.message(), e.get("column").unwrap()),
    };
    assert_eq!(found, expected);
}

fn of(inner: DataType) -> DataType {
    DataType::Struct(vec![Field::new("n", inner, true)].into())
}

fn stamp(zone: Option<&str>) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into))
}

fn map(value: DataType) -> DataType {
    let entry =
        DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)].into());
    DataType::Map(Arc::new(Field::new("entries", entry, false)), false)
}

/// A declared type takes the values that it holds exactly, even if only a filter refers to them.
#[tokio::test]
async fn a_declared_double_takes_the_integers_that_it_holds() {
    let ids = record_batch!(("id", Int64, vec![7, 9_007_199_254_740_993])).unwrap();
    let ctx = with_files([("data/a.parquet", parquet(&ids))]).await;
    let read = ParquetFiles::new("a", AT).with_schema(schema(&[("id", DataType::Float64)]));
    let refusal = "a value does not fit the declared type without loss (column: id, value: 9007199254740993, type: bigint, declared: double, file: memory:/data/a.parquet)";
    assert_eq!(show(&ctx, read.clone()).await, format!("refused: {refusal}"));
    let filtered = read.load(&ctx.loading("a")).await.unwrap().filter(col("id").gt(lit(8.0))).unwrap();
    let counted = filtered.aggregate(vec![], vec![count(lit(1))]).unwrap().collect().await;
    assert_eq!(hardtack_core::Error::from(counted.unwrap_err()).chain(), refusal);
}

#[tokio::test]
async fn plans_read_what_they_need() {
    let ids: arrow::array::Int64Array = (0..1000).collect();
    // Texts that no compression makes small.
    let long = |i: u64| (0..64).map(|j| format!("{:016x}", (i * 64 + j).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    let text: arrow::array::StringArray = (0..1000).map(|i| Some::<String>(long(i))).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("text", Arc::new(text) as _)]).unwrap();
    let bytes = parquet(&batch);
    let size = bytes.len() as u64;
    assert!(size > 600_000, "a smaller file is read at once: {size}");
    let ctx = with_files([("data/d=1/a.parquet", bytes.clone()), ("data/d=2/a.parquet", bytes)]).await;
    let source = ParquetFiles::new("a", AT).with_hive_partitions();
    let frame = ctx.load(source.clone()).await.unwrap();
    let some = frame.filter(col("id").eq(lit(150)).and(col("d").eq(lit(2)))).unwrap();
    let plan = some.clone().create_physical_plan().await.unwrap();
    let plan = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    assert_snapshot!(plan, @"
    FilterExec: id@0 = 150
      DataSourceExec: file_groups={1 group: [[data/d=2/a.parquet]]}, projection=[id, text, d], file_type=parquet, predicate=id@0 = 150, pruning_predicate=id_null_count@2 != row_count@3 AND id_min@0 <= 150 AND 150 <= id_max@1, required_guarantees=[id in (150)]
    ");
    let found = some.collect().await.unwrap();
    assert_eq!(found[0].column(1).as_string_view().value(0), long(150), "{found:?}");
    let counts = ctx.meters().source("a").counts();
    assert_eq!((counts.files, counts.rows), (2, 100), "one row group of one file");
    assert!(counts.bytes < size / 2 && counts.bytes > 0, "{counts:?}");
    let rows = collect(&ctx, ParquetFiles::new("b", AT)).await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>();
    assert_eq!(rows, 2000);
    assert_eq!(ctx.meters().source("b").counts().rows, 2000);
}

/// A request costs more than some bytes.
#[tokio::test]
async fn a_small_file_is_read_at_once() {
    let ids: arrow::array::Int64Array = (0..1000).collect();
    let bytes = parquet(&RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap());
    let size = bytes.len() as u64;
    let ctx = with_files([("data/a.parquet", bytes)]).await;
    let frame = ctx.load(ParquetFiles::new("a", AT)).await.unwrap();
    let some = frame.filter(col("id").eq(lit(150))).unwrap();
    let (plan, task) = (some.clone().create_physical_plan().await.unwrap(), Arc::new(some.task_ctx()));
    let rows = datafusion::physical_plan::collect(Arc::clone(&plan), task).await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    assert_eq!(ctx.meters().source("a").counts().bytes, size);
    // As `explain analyze` shows it.
    let scan = plan.children()[0].metrics().unwrap();
    assert_eq!(scan.sum_by_name("bytes_scanned").unwrap().as_usize() as u64, size);
}

#[derive(Debug)]
struct SlowStores;

impl StoreFactory for SlowStores {
    fn open(&self, url: &url::Url) -> hardtack_core::Result<Store> {
        let (plain, _) = Stores::new(false).open(&Location::from(url.as_str()))?;
        let slow = ThrottleConfig { wait_get_per_call: SLOW, ..ThrottleConfig::default() };
        Ok(Store { objects: Arc::new(ThrottledStore::new(plain.objects, slow)), ..plain })
    }
}

const SLOW: Duration = Duration::from_millis(100);

/// Of thirty requests that take a tenth of a second, several are under way at once.
#[tokio::test]
async fn waits_for_small_files_overlap() {
    let ctx = JobContext::builder("test").threads(1).store_factory("memory", Arc::new(SlowStores)).build().unwrap();
    for i in 0..30 {
        let batch = record_batch!(("id", Int32, vec![i])).unwrap();
        put(&ctx, &format!("data/{i:02}.parquet"), parquet(&batch)).await;
    }
    let source = ParquetFiles::new("a", AT).with_schema(schema(&[("id", DataType::Int32)]));
    let frame = ctx.load(source).await.unwrap();
    let start = Instant::now();
    let rows = frame.collect().await.unwrap();
    assert!(start.elapsed() < 20 * SLOW, "{:?}", start.elapsed());
    let ids: Vec<i32> =
        rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int32Type>().values()).copied().collect();
    assert_eq!(ids, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_file_is_read_by_all_cores() {
    let ids: arrow::array::Int64Array = (0..1000).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
    let ctx = crate::context(4);
    crate::put(&ctx, "data/a.parquet", parquet(&batch)).await;
    ctx.session().sql("set datafusion.optimizer.repartition_file_min_size = 0").await.unwrap();
    let frame = ctx.load(ParquetFiles::new("a", AT)).await.unwrap();
    let sum = frame.aggregate(vec![], vec![datafusion::functions_aggregate::expr_fn::sum(col("id"))]).unwrap();
    let plan = sum.clone().create_physical_plan().await.unwrap();
    let plan = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    assert!(plan.contains("4 groups"), "{plan}");
    assert_snapshot!(pretty_format_batches(&sum.collect().await.unwrap()).unwrap(), @"
    +-----------+
    | sum(a.id) |
    +-----------+
    | 499500    |
    +-----------+
    ");
    assert_eq!(ctx.meters().source("a").counts().rows, 1000);
}

/// Without statistics it is unknown whether a double holds the integers of a file.
#[tokio::test]
async fn integers_that_no_statistics_tell_of_do_not_become_doubles() {
    use parquet::file::properties::EnabledStatistics;
    let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
    let small = record_batch!(("v", Int64, vec![7])).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), small.schema(), Some(properties)).unwrap();
    writer.write(&small).unwrap();
    let double = record_batch!(("v", Float64, vec![0.5])).unwrap();
    let files = [("data/a.parquet", writer.into_inner().unwrap()), ("data/b.parquet", parquet(&double))];
    assert_snapshot!(show(&with_files(files).await, ParquetFiles::new("a", AT)).await, @"refused: `v` is Int64 in memory:/data/a.parquet and Float64 in memory:/data/b.parquet, which have no type in common (column: v, file: memory:/data/b.parquet, hint: declare a schema: a string holds the values of both, a double the numbers that it represents exactly)");
}

/// A timestamp as old Spark and Hive write it: nanoseconds of the day, and the day.
fn int96(column: &str, days_since_1970: u32, nanos: u64) -> Vec<u8> {
    use parquet::data_type::{Int96, Int96Type};
    let schema = format!("message m {{ required int96 {column}; }}");
    let schema = parquet::schema::parser::parse_message_type(&schema).unwrap();
    let writer = parquet::file::writer::SerializedFileWriter::new(Vec::new(), schema.into(), Arc::default());
    let mut writer = writer.unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let mut value = Int96::new();
    value.set_data(nanos as u32, (nanos >> 32) as u32, 2_440_588 + days_since_1970);
    column.typed::<Int96Type>().write_batch(&[value], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// Nanoseconds since 1970 end in 2262.
#[tokio::test]
async fn old_timestamps_are_those_of_any_year() {
    let ctx = with_files([("data/a.parquet", int96("at", 376_200, 37_800_000_000_000))]).await;
    assert_snapshot!(show(&ctx, ParquetFiles::new("a", AT)).await, @"
    +---------------------+
    | at                  |
    +---------------------+
    | 3000-01-01T10:30:00 |
    +---------------------+
    ");
}

/// The session's options apply to the reader.
#[tokio::test]
async fn rows_are_filtered_while_they_are_decoded_if_the_session_says_so() {
    let ids: arrow::array::Int64Array = (0..100).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
    let ctx = with_files([("data/a.parquet", parquet(&batch))]).await;
    ctx.session().sql("set datafusion.execution.parquet.pushdown_filters = true").await.unwrap();
    let frame = ctx.load(ParquetFiles::new("a", AT)).await.unwrap();
    let one = frame.filter(col("id").eq(lit(50))).unwrap().sort_by(vec![col("id")]).unwrap();
    let plan = one.clone().create_physical_plan().await.unwrap();
    let plan = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    assert!(plan.starts_with("DataSourceExec"), "nothing is left to be filtered or sorted: {plan}");
    assert_eq!(one.count().await.unwrap(), 1);
    assert_eq!(ctx.meters().source("a").counts().rows, 1);
}

#[tokio::test]
async fn the_folder_of_an_iceberg_table_is_refused() {
    let rows = record_batch!(("id", Int32, vec![1, 2])).unwrap();
    let ctx = with_files([("data/data/a.parquet", parquet(&rows)), ("data/metadata/notes.json", b"{}".to_vec())]).await;
    assert_eq!(collect(&ctx, ParquetFiles::new("a", AT)).await.unwrap()[0].num_rows(), 2);
    put(&ctx, "data/metadata/00000-x.metadata.json", "{}").await;
    assert_snapshot!(show(&ctx, ParquetFiles::new("a", AT)).await, @"usage: this is the folder of an Iceberg table, which is not read as plain files (location: memory:/data, metadata: memory:/data/metadata/00000-x.metadata.json, hint: read the table by its name: `--source-database`, or `Table::named(database, table)`)");
}
