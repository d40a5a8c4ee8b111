//! Files whose columns are matched by field id.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::collect;
use datafusion::prelude::{Expr, col, lit};
use hardtack_core::{Error, ErrorKind, JobContext, Meter};
use hardtack_sources::{IdFile, NamedId, ScanById};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use rstest::rstest;

use crate::{context, put};

/// A field with an id, or without if it is 0.
fn field(id: i32, name: &str, of: DataType) -> Field {
    let field = Field::new(name, of, true);
    if id == 0 { field } else { field.with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into()) }
}

fn structure(fields: &[Field]) -> DataType {
    DataType::Struct(fields.to_vec().into())
}

fn list(id: i32, of: DataType) -> DataType {
    DataType::List(Arc::new(field(id, "element", of)))
}

fn map(key: i32, value: i32, of: DataType) -> DataType {
    let pair = structure(&[field(key, "key", DataType::Utf8).with_nullable(false), field(value, "value", of)]);
    DataType::Map(Arc::new(Field::new("key_value", pair, false)), false)
}

const INT: DataType = DataType::Int32;
const TEXT: DataType = DataType::Utf8;

fn written(rows: &RecordBatch, rows_per_group: usize, rows_per_page: usize) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group))
        .set_data_page_row_count_limit(rows_per_page)
        .set_write_batch_size(rows_per_page)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap()
}

fn of_json(fields: &[Field], json: &str) -> RecordBatch {
    let schema: SchemaRef = Arc::new(Schema::new(fields.to_vec()));
    ReaderBuilder::new(schema).build(json.as_bytes()).unwrap().next().unwrap().unwrap()
}

async fn stored(ctx: &JobContext, path: &str, content: Vec<u8>) -> IdFile {
    let bytes = content.len() as u64;
    put(ctx, path, content).await;
    IdFile::new(format!("memory:/{path}").as_str().into(), bytes)
}

fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let row = |batch: &RecordBatch, row| {
        let cell = |column: &ArrayRef| match column.is_null(row) {
            true => "-".to_owned(),
            false => array_value_to_string(column, row).unwrap(),
        };
        batch.columns().iter().map(cell).collect::<Vec<_>>().join("|")
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |i| row(batch, i))).collect()
}

/// The rows of the files, in one line each; or the error.
async fn read(ctx: &JobContext, scan: ScanById, files: Vec<IdFile>, filter: Option<Expr>) -> Vec<String> {
    let rows = ctx.session().read_table(scan.table(files)).unwrap();
    let rows = match filter {
        Some(filter) => rows.filter(filter).unwrap(),
        None => rows,
    };
    match rows.collect().await {
        Ok(batches) => shown(&batches),
        Err(error) => vec![Error::from(error).to_string()],
    }
}

fn scan(wanted: &[Field]) -> ScanById {
    ScanById::new(&Arc::new(Schema::new(wanted.to_vec())), Arc::default())
}

#[rstest]
#[case::same(&[field(1, "a", INT)], r#"{"a":7}"#, &[field(1, "a", INT)], "7")]
#[case::renamed(&[field(1, "a", INT)], r#"{"a":7}"#, &[field(1, "b", INT)], "7")]
#[case::names_are_exchanged(&[field(1, "a", INT), field(2, "b", INT)], r#"{"a":7,"b":8}"#, &[field(1, "b", INT), field(2, "a", INT)], "7|8")]
#[case::dropped_and_added_again(&[field(1, "a", INT), field(2, "b", INT)], r#"{"a":7,"b":8}"#, &[field(3, "a", INT), field(2, "b", INT)], "-|8")]
#[case::added_again_with_another_type(&[field(1, "a", INT)], r#"{"a":7}"#, &[field(3, "a", TEXT)], "-")]
#[case::reordered(&[field(1, "a", INT), field(2, "b", INT)], r#"{"a":7,"b":8}"#, &[field(2, "b", INT), field(1, "a", INT)], "8|7")]
#[case::added(&[field(1, "a", INT)], r#"{"a":7}"#, &[field(9, "x", TEXT), field(1, "a", INT)], "-|7")]
#[case::wider_integer(&[field(1, "a", INT)], r#"{"a":7}"#, &[field(1, "b", DataType::Int64)], "7")]
#[case::wider_float(&[field(1, "a", DataType::Float32)], r#"{"a":0.5}"#, &[field(1, "b", DataType::Float64)], "0.5")]
#[case::wider_decimal(&[field(1, "a", DataType::Decimal128(5, 2))], r#"{"a":1.25}"#, &[field(1, "b", DataType::Decimal128(20, 2))], "1.25")]
#[case::names_of_files_without_ids(&[field(0, "a", INT), field(0, "b", INT)], r#"{"a":7,"b":8}"#, &[field(1, "b", DataType::Int64), field(2, "c", INT)], "8|-")]
#[case::in_structures(
    &[field(1, "s", structure(&[field(2, "a", INT), field(3, "b", INT)]))],
    r#"{"s":{"a":7,"b":8}}"#,
    &[field(1, "t", structure(&[field(3, "a", DataType::Int64), field(4, "b", INT), field(2, "c", INT)]))],
    "{a: 8, b: , c: 7}"
)]
#[case::in_lists(
    &[field(1, "s", list(2, structure(&[field(3, "a", INT), field(4, "b", INT)])))],
    r#"{"s":[{"a":7,"b":8},null]}"#,
    &[field(1, "t", list(2, structure(&[field(4, "a", INT), field(3, "b", DataType::Int64)])))],
    "[{a: 8, b: 7}, ]"
)]
#[case::in_maps(
    &[field(1, "m", map(2, 3, structure(&[field(4, "a", INT), field(5, "b", INT)])))],
    r#"{"m":{"k":{"a":7,"b":8}}}"#,
    &[field(1, "n", map(2, 3, structure(&[field(5, "a", INT), field(4, "b", INT)])))],
    "{k: {a: 8, b: 7}}"
)]
#[case::wider_in_lists(&[field(1, "s", list(2, INT))], r#"{"s":[7]}"#, &[field(1, "s", list(2, DataType::Int64))], "[7]")]
#[tokio::test]
async fn columns_are_matched_by_id(
    #[case] fields: &[Field],
    #[case] json: &str,
    #[case] wanted: &[Field],
    #[case] expected: &str,
) {
    let ctx = context(1);
    let file = stored(&ctx, "t/a.parquet", written(&of_json(fields, json), 100, 100)).await;
    assert_eq!(read(&ctx, scan(wanted), vec![file], None).await, [expected]);
}

/// Their names may have been exchanged since, so that the schemas are the same and mean other columns.
#[tokio::test]
async fn names_that_columns_had_are_known() {
    let fields = [field(0, "a", INT), field(0, "b", INT)];
    let names =
        [(2, "a"), (1, "b")].map(|(id, name)| NamedId { id: Some(id), names: vec![name.to_owned()], fields: vec![] });
    let ctx = context(1);
    let file = stored(&ctx, "t/a.parquet", written(&of_json(&fields, r#"{"a":7,"b":8}"#), 100, 100)).await;
    let scan = scan(&[field(1, "a", INT), field(2, "b", INT)]).with_names(names.to_vec());
    assert_eq!(read(&ctx, scan, vec![file], None).await, ["8|7"]);
}

/// Numbers 0 to 999 in a column `b` that was called `a`, and their negatives in a column `a` that was called `b`.
async fn numbers(ctx: &JobContext) -> (ScanById, Vec<IdFile>, Arc<Meter>) {
    let fields = vec![field(1, "a", INT), field(2, "b", INT)];
    let (a, b): (Vec<i32>, Vec<i32>) = (0..1000).map(|i| (i, -i)).unzip();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(a)), Arc::new(Int32Array::from(b))];
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let file = stored(ctx, "t/a.parquet", written(&rows, 100, 10)).await;
    let meter = Arc::<Meter>::default();
    let wanted = Schema::new(vec![field(2, "a", INT), field(1, "b", DataType::Int64), field(3, "c", INT)]);
    (ScanById::new(&Arc::new(wanted), Arc::clone(&meter)), vec![file], meter)
}

/// How many rows were decoded, which the scan counts. DataFusion skips nothing by a column that a file lacks.
#[rstest]
#[case::renamed(col("a").eq(lit(-250)), &["-250|250|-"], 10)]
#[case::renamed_and_wider(col("b").eq(lit(250_i64)), &["-250|250|-"], 10)]
#[case::range(col("b").gt(lit(997_i64)), &["-998|998|-", "-999|999|-"], 10)]
#[case::of_the_other_column(col("a").gt(lit(0)), &[], 0)]
#[case::missing(col("c").eq(lit(1)), &[], 1000)]
#[case::missing_or_not(col("c").is_null().and(col("a").eq(lit(-1))), &["-1|1|-"], 10)]
#[tokio::test]
async fn row_groups_and_pages_are_skipped_by_id(#[case] filter: Expr, #[case] expected: &[&str], #[case] decoded: u64) {
    let ctx = context(1);
    let (scan, files, meter) = numbers(&ctx).await;
    assert_eq!(read(&ctx, scan, files, Some(filter)).await, expected);
    assert_eq!(meter.counts().rows, decoded);
}

#[tokio::test]
async fn filters_on_fields_of_structures_are_right() {
    let stored_fields = [field(1, "s", structure(&[field(2, "a", INT), field(3, "b", INT)]))];
    let ctx = context(1);
    let rows = of_json(&stored_fields, "{\"s\":{\"a\":1,\"b\":2}}\n{\"s\":{\"a\":2,\"b\":1}}\n{\"s\":null}");
    let file = stored(&ctx, "t/a.parquet", written(&rows, 1, 1)).await;
    let wanted = [field(1, "t", structure(&[field(3, "a", INT), field(4, "b", INT), field(2, "c", INT)]))];
    let inner = |name: &str| datafusion::functions::core::expr_fn::get_field(col("t"), name);
    for (filter, expected) in [
        (inner("a").eq(lit(1)), vec!["{a: 1, b: , c: 2}"]),
        (inner("b").is_not_null(), vec![]),
        (inner("c").eq(lit(1)), vec!["{a: 2, b: , c: 1}"]),
        (col("t").is_null(), vec!["-"]),
    ] {
        assert_eq!(read(&ctx, scan(&wanted), vec![file.clone()], Some(filter.clone())).await, expected, "{filter}");
    }
}

/// Rows of migrated files do not contain the columns of their partitions.
#[tokio::test]
async fn columns_that_are_constant_in_a_file_need_not_be_in_it() {
    let ctx = context(1);
    let fields = [field(1, "id", INT)];
    let mut files = Vec::new();
    for (name, day) in [("a", Some("mon")), ("b", None)] {
        let rows = of_json(&fields, r#"{"id":1}"#);
        let file = stored(&ctx, &format!("t/{name}.parquet"), written(&rows, 9, 9)).await;
        files.push(IdFile { constants: vec![(0, ScalarValue::Utf8(day.map(str::to_owned)))], ..file });
    }
    let both = of_json(&[field(1, "id", INT), field(2, "d", TEXT)], r#"{"id":2,"d":"tue"}"#);
    files.push(stored(&ctx, "t/c.parquet", written(&both, 9, 9)).await);
    let wanted = [field(2, "day", TEXT), field(1, "n", DataType::Int64)];
    let mut rows = read(&ctx, scan(&wanted), files.clone(), None).await;
    rows.sort();
    assert_eq!(rows, ["-|1", "mon|1", "tue|2"]);
    assert_eq!(read(&ctx, scan(&wanted), files, Some(col("day").eq(lit("mon")))).await, ["mon|1"]);
}

/// Projections are by position in the schema, whatever is constant.
#[tokio::test]
async fn some_columns_are_read_and_files_are_counted() {
    let ctx = context(1);
    let (scan, files, meter) = numbers(&ctx).await;
    let session = ctx.session().state();
    let plan = scan.plan(files, Some(&vec![1, 0]), Some(2), &session).await.unwrap();
    let rows = collect(plan, ctx.session().task_ctx()).await.unwrap();
    assert_eq!(shown(&rows), ["0|0", "1|-1"]);
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().len(), 2);
    assert_eq!(meter.counts().files, 1);
    let none = scan.plan(Vec::new(), Some(&vec![2]), None, &session).await.unwrap();
    assert_eq!(none.schema().field(0).name(), "c");
}

#[rstest]
#[case::gone(0, false, ErrorKind::Changed)]
#[case::another_size(1, true, ErrorKind::Changed)]
#[tokio::test]
async fn a_file_that_is_not_as_the_table_says_is_named(
    #[case] more: u64,
    #[case] exists: bool,
    #[case] kind: ErrorKind,
) {
    let ctx = context(1);
    let (scan, mut files, _) = numbers(&ctx).await;
    files[0].bytes += more;
    if !exists {
        files[0].location = "memory:/t/nothing.parquet".into();
    }
    let plan = scan.plan(files.clone(), None, None, &ctx.session().state()).await.unwrap();
    let error = Error::from(collect(plan, ctx.session().task_ctx()).await.unwrap_err());
    assert_eq!((error.kind(), error.get("file")), (kind, Some(files[0].location.to_string().as_str())), "{error}");
}

#[tokio::test]
async fn required_columns_and_types_that_do_not_fit_are_refused() {
    let ctx = context(1);
    let (_, files, _) = numbers(&ctx).await;
    let required = [field(9, "x", INT).with_nullable(false)];
    let lacking = read(&ctx, scan(&required), files.clone(), None).await;
    assert_eq!(lacking, ["the file lacks a column that the schema requires (column: x, file: memory:/t/a.parquet)"]);
    let date = read(&ctx, scan(&[field(1, "x", DataType::Date32)]), files, None).await;
    assert!(date[0].starts_with("the file stores an Int32, which is not always a Date32"), "{date:?}");
}

/// Of a structure whose fields were all added later, it is still known whether it is null.
#[tokio::test]
async fn a_structure_without_any_known_field_is_still_there() {
    let ctx = context(1);
    let fields = [field(1, "s", structure(&[field(2, "a", INT)]))];
    let file = stored(&ctx, "t/a.parquet", written(&of_json(&fields, "{\"s\":{\"a\":1}}\n{\"s\":null}"), 9, 9)).await;
    let wanted = [field(1, "s", structure(&[field(5, "a", INT)]))];
    assert_eq!(read(&ctx, scan(&wanted), vec![file], None).await, ["{a: }", "-"]);
}
