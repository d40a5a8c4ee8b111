use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_avro::compression::CompressionCodec;
use arrow_avro::writer::WriterBuilder;
use datafusion::common::record_batch;
use hardtack_sources::AvroFiles;
use insta::assert_snapshot;

use crate::{context, put, schema, show, types, with_files};

const AT: &str = "memory:/data";

pub(crate) fn avro(batch: &RecordBatch) -> Vec<u8> {
    let builder = WriterBuilder::new(batch.schema().as_ref().clone()).with_compression(Some(CompressionCodec::Deflate));
    let mut writer = builder.build::<_, arrow_avro::writer::format::AvroOcfFormat>(Vec::new()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner()
}

#[tokio::test]
async fn files_are_united_by_the_names_of_their_columns() {
    let a = record_batch!(("id", Int32, vec![1, 2]), ("name", Utf8, vec!["a", "b"])).unwrap();
    let b = record_batch!(("price", Float64, vec![0.5]), ("id", Int64, vec![5_000_000_000])).unwrap();
    let ctx = with_files([("data/a.avro", avro(&a)), ("data/b.avro", avro(&b))]).await;
    assert_snapshot!(types(&ctx, AvroFiles::new("a", AT)).await, @"id: Int64, name: Utf8, price: Float64");
    assert_snapshot!(show(&ctx, AvroFiles::new("a", AT)).await, @"
    +------------+------+-------+
    | id         | name | price |
    +------------+------+-------+
    | 1          | a    |       |
    | 2          | b    |       |
    | 5000000000 |      | 0.5   |
    +------------+------+-------+
    ");
    let frame = ctx.load(AvroFiles::new("count", AT)).await.unwrap();
    assert_eq!(frame.clone().count().await.unwrap(), 3);
    let one = frame.select_columns(&["price"]).unwrap().collect().await.unwrap();
    assert_snapshot!(arrow::util::pretty::pretty_format_batches(&one).unwrap(), @"
    +-------+
    | price |
    +-------+
    |       |
    |       |
    | 0.5   |
    +-------+
    ");
}

#[tokio::test]
async fn a_declared_schema_is_enforced() {
    let batch = record_batch!(("id", Int64, vec![1, 5_000_000_000]), ("name", Utf8, vec!["7", "x"])).unwrap();
    let nulls = record_batch!(("id", Int64, vec![Some(1), None])).unwrap();
    let ctx = with_files([("data/a.avro", avro(&nulls))]).await;
    let required = AvroFiles::new("a", AT).with_schema(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    assert_snapshot!(show(&ctx, required).await, @"refused: a value is missing where the schema requires one (column: id, file: memory:/data/a.avro)");
    let bytes = avro(&batch);
    let ctx = with_files([("data/a.avro", bytes.clone())]).await;
    let read = |columns: &[(&str, DataType)]| AvroFiles::new("a", AT).with_schema(schema(columns));
    assert_snapshot!(show(&ctx, read(&[("new", DataType::Date32), ("id", DataType::Utf8)])).await, @"
    +-----+------------+
    | new | id         |
    +-----+------------+
    |     | 1          |
    |     | 5000000000 |
    +-----+------------+
    ");
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Int32)])).await, @"refused: a value does not fit the declared type without loss (column: id, value: 5000000000, type: bigint, declared: int, file: memory:/data/a.avro)");
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Date32)])).await, @"refused: the file stores an Int64, which is not always a Date32, as the schema requires (column: id, file: memory:/data/a.avro)");
    assert_snapshot!(show(&ctx, read(&[("name", DataType::Int32)])).await, @"refused: a value does not fit the declared type without loss (column: name, value: x, type: string, declared: int, file: memory:/data/a.avro)");
    put(&ctx, "data/a.avro", bytes[..bytes.len() - 20].to_vec()).await;
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Int64)])).await, @"refused: the file is not whole and valid Avro (file: memory:/data/a.avro): it ends within a block");
    put(&ctx, "data/a.avro", "nonsense").await;
    assert_snapshot!(show(&ctx, read(&[("id", DataType::Int64)])).await, @"refused: this is not an Avro file: Parser error: Incorrect avro magic (file: memory:/data/a.avro)");
}

/// The header of a file, without rows.
fn header(schema: &str) -> Vec<u8> {
    // Lengths are zigzag-encoded, in two bytes, the first with seven bits.
    let length = |length: usize| vec![(length * 2) as u8 | 128, (length >> 6) as u8];
    let text = |text: &str| [length(text.len()), text.as_bytes().to_vec()].concat();
    [b"Obj\x01\x02".to_vec(), text("avro.schema"), text(schema), vec![0], b"0123456789abcdef".to_vec()].concat()
}

#[tokio::test]
async fn schemas_that_are_no_columns_are_refused() {
    let nested = r#"{"type": "record", "name": "n", "fields": [{"name": "next", "type": ["null", "n"]}]}"#;
    let good = r#"{"type": "record", "name": "n", "fields": [{"name": "id", "type": "long"}]}"#;
    let mut told = Vec::new();
    for schema in [good, nested, r#""int""#] {
        let ctx = with_files([("data/a.avro", header(schema))]).await;
        told.push(show(&ctx, AvroFiles::new("a", AT)).await);
    }
    assert_snapshot!(told.join("\n"), @"
    +----+
    | id |
    +----+
    +----+
    refused: the schema of this Avro file is not supported: Parser error: Failed to resolve .n (file: memory:/data/a.avro, hint: write the file without such a type, for example with a string instead of a union of several types; or leave it out: `with_glob`, `crawl --exclude`)
    refused: the schema of this Avro file is not supported: Parser error: Expected a Record schema to build an AvroField, but got TypeName(Primitive(Int)) (file: memory:/data/a.avro, hint: write the file without such a type, for example with a string instead of a union of several types; or leave it out: `with_glob`, `crawl --exclude`)
    ");
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
    // A plan that has enough rows stops the reader.
    let two = ctx.load(AvroFiles::new("two", AT)).await.unwrap().limit(0, Some(2)).unwrap();
    assert_eq!(two.count().await.unwrap(), 2);
}

/// Avro stores a UUID as text, and Arrow turns it into 16 bytes.
#[tokio::test]
async fn a_uuid_is_the_text_that_is_stored() {
    let ids = arrow::array::FixedSizeBinaryArray::try_from_iter([[0x5a_u8; 16], [0; 16]].into_iter()).unwrap();
    let field = Field::new("id", DataType::FixedSizeBinary(16), false)
        .with_metadata([("logicalType".to_owned(), "uuid".to_owned())].into());
    let list = Field::new("ids", DataType::new_list(DataType::Utf8, true), true);
    let lists = arrow::array::new_null_array(list.data_type(), 2);
    let schema = std::sync::Arc::new(Schema::new(vec![field, list]));
    let bytes = avro(&RecordBatch::try_new(schema, vec![std::sync::Arc::new(ids), lists]).unwrap());
    assert!(bytes.windows(6).any(|window| window == br#""uuid""#), "the file says that it is one");
    let ctx = with_files([("data/a.avro", bytes)]).await;
    assert_snapshot!(show(&ctx, AvroFiles::new("a", AT).with_schema(crate::schema(&[("id", DataType::Utf8)]))).await, @"
    +--------------------------------------+
    | id                                   |
    +--------------------------------------+
    | 5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a |
    | 00000000-0000-0000-0000-000000000000 |
    +--------------------------------------+
    ");
    assert_snapshot!(types(&ctx, AvroFiles::new("a", AT)).await, @"id: Utf8, ids: List(Utf8)");
}
