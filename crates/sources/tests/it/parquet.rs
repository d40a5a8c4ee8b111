use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::record_batch;
use datafusion::prelude::{col, lit};
use hardtack_sources::ParquetFiles;
use insta::assert_snapshot;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::{collect, schema, show, types, with_files};

const AT: &str = "memory:/data";

fn parquet(batch: &RecordBatch) -> Vec<u8> {
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
    assert_snapshot!(show(&ctx, ParquetFiles::new("a", AT)).await, @"refused: `id` is Int64 in memory:/data/a.parquet and Utf8 in memory:/data/c.parquet; declare a schema (column: id)");
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
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Int32)])).await, @"refused: Can't cast value 5000000000 to type Int32 (column: id, file: memory:/data/a.parquet)");
    assert_snapshot!(show(&ctx, read(&[("f", DataType::Int64)])).await, @"refused: the file stores a Float64, which is not always an Int64, as the schema wants (column: f, file: memory:/data/a.parquet)");
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Timestamp(TimeUnit::Second, None))])).await, @"refused: the file stores an Int64, which is not always a Timestamp(s), as the schema wants (column: id, file: memory:/data/a.parquet)");
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

#[tokio::test]
async fn plans_read_what_they_need() {
    let ids: arrow::array::Int64Array = (0..1000).collect();
    let text: arrow::array::StringArray = (0..1000).map(|i| Some(format!("some text {i}"))).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("text", Arc::new(text) as _)]).unwrap();
    let bytes = parquet(&batch);
    let size = bytes.len() as u64;
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
    assert_snapshot!(pretty_format_batches(&some.collect().await.unwrap()).unwrap(), @"
    +-----+---------------+---+
    | id  | text          | d |
    +-----+---------------+---+
    | 150 | some text 150 | 2 |
    +-----+---------------+---+
    ");
    let counts = ctx.meters().source("a").counts();
    assert_eq!((counts.files, counts.rows), (2, 100), "one row group of one file");
    assert!(counts.bytes < size && counts.bytes > 0, "{counts:?}");
    let rows = collect(&ctx, ParquetFiles::new("b", AT)).await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>();
    assert_eq!(rows, 2000);
    assert_eq!(ctx.meters().source("b").counts().rows, 2000);
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
