use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use hardtack_sources::CsvFiles;
use insta::assert_snapshot;
use proptest::prelude::*;
use rstest::rstest;

use crate::{collect, schema, show, types, with_files};

const AT: &str = "memory:/data";

fn people() -> CsvFiles {
    CsvFiles::new("people", AT).with_schema(schema(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("born", DataType::Date32),
    ]))
}

#[tokio::test]
async fn columns_are_found_by_name_in_any_order_and_case() {
    let a = "name,extra,ID,born\nAnn,x,1,2001-02-03\n\"\",\"y\n,z\",,\n";
    let b = "\u{feff}id;name";
    let ctx = with_files([("data/a.csv", a)]).await;
    assert_snapshot!(show(&ctx, people()).await, @"");
    let frame = ctx.load(people()).await.unwrap().select_columns(&["born"]).unwrap();
    assert_snapshot!(arrow::util::pretty::pretty_format_batches(&frame.collect().await.unwrap()).unwrap(), @"");
    let count = ctx.load(people()).await.unwrap().count().await.unwrap();
    assert_eq!(count, 2);
    crate::put(&ctx, "data/b.csv", b).await;
    assert_snapshot!(show(&ctx, people()).await, @"");
}

#[tokio::test]
async fn options_say_how_the_text_is_written() {
    let text = "1;'it\\'s; so';NULL\n2;;'NULL'\n";
    let source =
        CsvFiles::new("a", AT).with_delimiter(b';').with_quote(b'\'').with_escape(b'\\').with_null_text("NULL");
    let ctx = with_files([("data/a.csv", text)]).await;
    assert_snapshot!(show(&ctx, source.clone().without_header()).await, @"");
    let names = schema(&[("a", DataType::Int8), ("b", DataType::Utf8View), ("c", DataType::LargeUtf8)]);
    assert_snapshot!(show(&ctx, source.without_header().with_schema(names)).await, @"");
}

#[rstest]
#[case::value("7,\"a\nb\",1999-13-01\n")]
#[case::number("7.5,a,\n")]
#[case::few("7,a\n")]
#[case::many("7,a,,\n")]
#[case::quote("7,\"a\"b,\n")]
#[case::open("7,\"a,\n")]
#[tokio::test]
async fn what_does_not_fit_is_refused(#[case] row: &str) {
    let text = format!("id,name,born\n1,\"x\ny\",2001-02-03\n\n{row}8,b,\n");
    let ctx = with_files([("data/a.csv", text)]).await;
    insta::with_settings!({ snapshot_suffix => row.chars().filter(char::is_ascii_alphanumeric).collect::<String>() }, {
        assert_snapshot!(show(&ctx, people()).await);
    });
}

#[tokio::test]
async fn headers_must_have_the_declared_columns_once() {
    let ctx = with_files([("data/a.csv", "id,born,born,NAME\n")]).await;
    assert_snapshot!(show(&ctx, people()).await, @"");
    let ctx = with_files([("data/a.csv", "id,born,Name,NAME\n")]).await;
    assert_snapshot!(show(&ctx, people()).await, @"");
    assert_snapshot!(types(&ctx, CsvFiles::new("a", AT)).await, @"");
    let ctx = with_files([("data/a.csv", "id,id\n")]).await;
    assert_snapshot!(show(&ctx, CsvFiles::new("a", AT)).await, @"");
}

#[tokio::test]
async fn required_columns_need_values() {
    let source = CsvFiles::new("a", AT).with_schema(Schema::new(vec![Field::new("id", DataType::Utf8, false)]));
    let ctx = with_files([("data/a.csv", "x,id\n1,\"\"\n1,\n")]).await;
    assert_snapshot!(show(&ctx, source).await, @"");
    let nested = CsvFiles::new("a", AT).with_schema(schema(&[("l", DataType::new_list(DataType::Utf8, true))]));
    assert_snapshot!(show(&ctx, nested).await, @"");
}

#[tokio::test]
async fn types_are_found_in_every_file() {
    let a = "i,f,b,d,t,z,s,n,zip\n1,1,true,2024-01-31,2024-01-31,2024-01-31T10:00:00Z,1,,01234\n";
    let b = "extra,i,f,b,d,t,z,s,n\n1,,2.5,FALSE,,2024-01-31 10:00:00,2024-01-31T10:00:00+01:00,x,\n";
    let ctx = with_files([("data/a.csv", a), ("data/b.csv", b), ("data/c.csv", ""), ("data/d.csv", "i\n")]).await;
    assert_snapshot!(types(&ctx, CsvFiles::new("a", AT)).await, @"");
    assert_snapshot!(show(&ctx, CsvFiles::new("a", AT)).await, @"");
}

#[tokio::test]
async fn timestamps_and_decimals_are_parsed() {
    let text = "t,d,z\n2024-01-31 10:00:00.123,1.5,2024-07-01 12:00:00\n1706695200123,-2,2024-07-01T12:00:00Z\n";
    let columns = schema(&[
        ("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("d", DataType::Decimal128(5, 2)),
        ("z", DataType::Timestamp(TimeUnit::Second, Some("+02:00".into()))),
    ]);
    let ctx = with_files([("data/a.csv", text)]).await;
    assert_snapshot!(show(&ctx, CsvFiles::new("a", AT).with_schema(columns)).await, @"");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_arrow_writes_is_read_back(
        rows in prop::collection::vec((any::<i64>(), prop::option::of("[a\",\n\r ü]{1,6}"), any::<f64>()), 0..40),
    ) {
        let columns = schema(&[("i", DataType::Int64), ("s", DataType::Utf8), ("f", DataType::Float64)]);
        let batch = arrow::array::RecordBatch::try_new(columns.clone(), vec![
            std::sync::Arc::new(rows.iter().map(|r| Some(r.0)).collect::<arrow::array::Int64Array>()),
            std::sync::Arc::new(rows.iter().map(|r| r.1.clone()).collect::<arrow::array::StringArray>()),
            std::sync::Arc::new(rows.iter().map(|r| Some(r.2)).collect::<arrow::array::Float64Array>()),
        ]).unwrap();
        let mut bytes = Vec::new();
        arrow::csv::Writer::new(&mut bytes).write(&batch).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let back = runtime.block_on(async {
            let ctx = with_files([("data/a.csv", bytes)]).await;
            collect(&ctx, CsvFiles::new("a", AT).with_schema(columns.clone())).await.unwrap()
        });
        prop_assert_eq!(arrow::compute::concat_batches(&columns, &back).unwrap(), batch);
    }
}
