use arrow::array::{RecordBatch, record_batch};
use arrow::datatypes::DataType;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::writer::WriterBuilder;
use hardtack_sources::AvroFiles;
use insta::assert_snapshot;

use crate::{context, put, schema, show, types, with_files};

const AT: &str = "memory:/data";

fn avro(batch: &RecordBatch) -> Vec<u8> {
    let builder = WriterBuilder::new(batch.schema().as_ref().clone()).with_compression(Some(CompressionCodec::Deflate));
    let mut writer = builder.build::<_, arrow_avro::writer::format::AvroOcfFormat>(Vec::new()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner()
}

#[tokio::test]
async fn files_are_united_by_the_names_of_their_columns() {
    let a = record_batch!(("id", Int32, [1, 2]), ("name", Utf8, ["a", "b"])).unwrap();
    let b = record_batch!(("price", Float64, [0.5]), ("id", Int64, [5_000_000_000])).unwrap();
    let ctx = with_files([("data/a.avro", avro(&a)), ("data/b.avro", avro(&b))]).await;
    assert_snapshot!(types(&ctx, AvroFiles::new("a", AT)).await, @"");
    assert_snapshot!(show(&ctx, AvroFiles::new("a", AT)).await, @"");
    let frame = ctx.load(AvroFiles::new("count", AT)).await.unwrap();
    assert_eq!(frame.clone().count().await.unwrap(), 3);
    let one = frame.select_columns(&["price"]).unwrap().collect().await.unwrap();
    assert_snapshot!(arrow::util::pretty::pretty_format_batches(&one).unwrap(), @"");
}

#[tokio::test]
async fn a_declared_schema_is_enforced() {
    let batch = record_batch!(("id", Int64, [1, 5_000_000_000]), ("name", Utf8, ["7", "x"])).unwrap();
    let bytes = avro(&batch);
    let ctx = with_files([("data/a.avro", bytes.clone())]).await;
    let read = |columns: &[(&str, DataType)]| AvroFiles::new("a", AT).with_schema(schema(columns));
    assert_snapshot!(show(&ctx, read(&[("new", DataType::Date32), ("id", DataType::Utf8)])).await, @"");
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Int32)])).await, @"");
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Date32)])).await, @"");
    assert_snapshot!(show(&ctx, read(&[("name", DataType::Int32)])).await, @"");
    put(&ctx, "data/a.avro", bytes[..bytes.len() - 20].to_vec()).await;
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Int64)])).await, @"");
    put(&ctx, "data/a.avro", "nonsense").await;
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Int64)])).await, @"");
}

#[tokio::test]
async fn many_rows_come_in_batches() {
    let ids: arrow::array::Int64Array = (0..20_000).collect();
    let batch = RecordBatch::try_from_iter([("id", std::sync::Arc::new(ids) as _)]).unwrap();
    let ctx = context(4);
    put(&ctx, "data/a.avro", avro(&batch)).await;
    let batches = crate::collect(&ctx, AvroFiles::new("a", AT)).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 20_000);
    assert!(batches.iter().all(|b| b.num_rows() <= 8192));
    // A plan that has its rows lets the reader go.
    let two = ctx.load(AvroFiles::new("two", AT)).await.unwrap().limit(0, Some(2)).unwrap();
    assert_eq!(two.count().await.unwrap(), 2);
}
