//! A dataset of all types and of unusual partition values. Our own source reads it back here; other engines do so in
//! `.ci/interop`, which sets the output folder in `HARDTACK_INTEROP_OUT`.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::compute::{cast, concat_batches, take};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit};
use datafusion::prelude::col;
use hardtack_core::{Sink, Source};
use hardtack_sinks::ParquetDataset;
use hardtack_sources::ParquetFiles;
use serde_json::{Value, json};

/// A column: its name, its type in other engines, four values of which the last is null, and the same values as another
/// engine should show them. These are written out rather than converted, so that no mistake of ours is in both.
struct Column(&'static str, &'static str, ArrayRef, Value);

/// The folders: the `city` and `year` of each row. To Hive an empty text is null.
const CITIES: [Option<&str>; 11] = [
    Some("a b"),
    Some("ü%20=#?"),
    Some("x/y"),
    Some("100%"),
    Some("it's"),
    None,
    Some(""),
    Some("\"*:\\[]^{}\t"),
    Some("a+b&c;d"),
    Some("a b"),
    Some("..."),
];
const YEARS: [Option<i32>; 11] = [
    Some(2026),
    Some(2026),
    Some(2026),
    Some(-1),
    None,
    Some(2026),
    Some(2026),
    Some(0),
    Some(2026),
    Some(2026),
    Some(2026),
];

fn moments<A: From<Vec<Option<i64>>>>(per_second: i64, below: [i64; 3]) -> A {
    // 2026-01-31 23:59:59, the second before 1970, and a date that falls on another day in the Julian calendar.
    let seconds = [1_769_903_999, -1, -12_219_292_801];
    let mut values: Vec<_> = seconds.iter().zip(below).map(|(s, below)| Some(s * per_second + below)).collect();
    values.push(None);
    A::from(values)
}

fn nested() -> [Column; 3] {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None, Some(3)]),
        Some(vec![]),
        Some(vec![None]),
        None,
    ]);
    let fields: Fields = vec![Field::new("n", DataType::Int32, true), Field::new("s", DataType::Utf8View, true)].into();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(1), None, None, None])),
        Arc::new(StringViewArray::from(vec![Some("one"), Some("a text of more than twelve bytes"), None, None])),
    ];
    let structs = StructArray::new(fields, columns, Some(vec![true, true, true, false].into()));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for entries in [&[("a", Some(1)), ("ü", None)][..], &[], &[("", Some(-1))]] {
        for (key, value) in entries {
            map.keys().append_value(key);
            map.values().append_option(*value);
        }
        map.append(true).unwrap();
    }
    map.append(false).unwrap();
    [
        Column("list", "list<int>", Arc::new(list), json!([[1, null, 3], [], [null], null])),
        Column(
            "struct",
            "struct<n:int,s:string>",
            Arc::new(structs),
            json!([{"n": 1, "s": "one"}, {"n": null, "s": "a text of more than twelve bytes"}, {"n": null, "s": null}, null]),
        ),
        Column("map", "map<string,int>", Arc::new(map.finish()), json!([{"a": 1, "ü": null}, {}, {"": -1}, null])),
    ]
}

fn columns() -> Vec<Column> {
    let texts = [Some("ü, \"quoted\"\n"), Some(""), Some("a text of more than twelve bytes"), None];
    let shown = || json!(["ü, \"quoted\"\n", "", "a text of more than twelve bytes", null]);
    let wide = [Some(99_999_999_999_999_999_999_999_999_999_999_999_999_i128), Some(-1), Some(0), None];
    let seconds =
        json!(["2026-01-31T23:59:59.000000", "1969-12-31T23:59:59.000000", "1582-10-14T23:59:59.000000", null]);
    let millis =
        json!(["2026-01-31T23:59:59.123000", "1969-12-31T23:59:59.999000", "1582-10-14T23:59:59.000000", null]);
    let micros =
        json!(["2026-01-31T23:59:59.123456", "1969-12-31T23:59:59.999999", "1582-10-14T23:59:59.000000", null]);
    let per_second: TimestampSecondArray = moments(1, [0, 0, 0]);
    let per_milli: TimestampMillisecondArray = moments(1_000, [123, 999, 0]);
    let per_micro: TimestampMicrosecondArray = moments(1_000_000, [123_456, 999_999, 0]);
    let mut columns = vec![
        Column(
            "int",
            "int",
            Arc::new(Int32Array::from(vec![Some(i32::MAX), Some(i32::MIN), Some(0), None])),
            json!([2_147_483_647, -2_147_483_648, 0, null]),
        ),
        Column(
            "bigint",
            "bigint",
            Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(i64::MIN), Some(0), None])),
            json!([9_223_372_036_854_775_807_i64, -9_223_372_036_854_775_808_i64, 0, null]),
        ),
        Column(
            "double",
            "double",
            Arc::new(Float64Array::from(vec![Some(0.1), Some(-1.797e308), Some(5e-324), None])),
            json!([0.1, -1.797e308, 5e-324, null]),
        ),
        Column(
            "dec9",
            "decimal(9,2)",
            Arc::new(
                Decimal128Array::from(vec![Some(999_999_999), Some(-1), Some(0), None])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
            json!(["9999999.99", "-0.01", "0.00", null]),
        ),
        Column(
            "dec38",
            "decimal(38,10)",
            Arc::new(Decimal128Array::from(wide.to_vec()).with_precision_and_scale(38, 10).unwrap()),
            json!(["9999999999999999999999999999.9999999999", "-0.0000000001", "0.0000000000", null]),
        ),
        Column(
            "boolean",
            "boolean",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), None])),
            json!([true, false, true, null]),
        ),
        Column(
            "date",
            "date",
            Arc::new(Date32Array::from(vec![Some(20_484), Some(-1), Some(-141_428), None])),
            json!(["2026-01-31", "1969-12-31", "1582-10-14", null]),
        ),
        Column("ts_seconds", "timestamp", Arc::new(per_second.clone()), seconds.clone()),
        Column("ts_millis", "timestamp", Arc::new(per_milli.clone()), millis.clone()),
        Column("ts_micros", "timestamp", Arc::new(per_micro.clone()), micros.clone()),
        Column("utc_seconds", "timestamp_utc", Arc::new(per_second.with_timezone("UTC")), seconds),
        Column("utc_millis", "timestamp_utc", Arc::new(per_milli.with_timezone("UTC")), millis),
        Column("utc_micros", "timestamp_utc", Arc::new(per_micro.with_timezone("UTC")), micros),
        Column("string", "string", Arc::new(StringArray::from(texts.to_vec())), shown()),
        Column("large_string", "string", Arc::new(LargeStringArray::from(texts.to_vec())), shown()),
        Column("string_view", "string", Arc::new(StringViewArray::from(texts.to_vec())), shown()),
        Column("dictionary", "string", Arc::new(DictionaryArray::<Int32Type>::from_iter(texts)), shown()),
        Column(
            "binary",
            "binary",
            Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), Some(b""), Some(b"abc"), None])),
            json!(["00ff", "", "616263", null]),
        ),
    ];
    columns.extend(nested());
    columns
}

/// The rows, and what other engines should read.
fn rows() -> (RecordBatch, Value) {
    let rows = CITIES.len();
    let ids = Int32Array::from_iter_values(0..rows as i32);
    let mut expected: Vec<_> = (0..rows).map(|id| json!({"id": id})).collect();
    let mut types = vec![json!({"name": "id", "type": "int"})];
    let mut batch: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(ids))];
    for (at, Column(name, type_name, values, shown)) in columns().into_iter().enumerate() {
        // Each column is null in different rows.
        let which = |row: usize| (row + at) % 4;
        let indices = UInt32Array::from_iter_values((0..rows).map(|row| which(row) as u32));
        batch.push((name, take(&values, &indices, None).unwrap()));
        types.push(json!({"name": name, "type": type_name}));
        for (row, expected) in expected.iter_mut().enumerate() {
            expected[name] = shown[which(row)].clone();
        }
    }
    for (row, expected) in expected.iter_mut().enumerate() {
        expected["city"] = json!(CITIES[row].filter(|city| !city.is_empty()));
        expected["year"] = json!(YEARS[row]);
    }
    batch.push(("city", Arc::new(StringArray::from(CITIES.to_vec()))));
    batch.push(("year", Arc::new(Int32Array::from(YEARS.to_vec()))));
    let fields: Vec<_> =
        batch.iter().map(|(name, a)| Field::new(*name, a.data_type().clone(), *name != "id")).collect();
    let batch =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.into_iter().map(|(_, a)| a).collect()).unwrap();
    types.push(json!({"name": "city", "type": "string"}));
    types.push(json!({"name": "year", "type": "int"}));
    (batch, json!({"partitions": ["city", "year"], "columns": types, "rows": expected}))
}

/// The rows as they should be read back: an empty city is null, and seconds are milliseconds.
fn as_read(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, values)| {
        let values = match field.data_type() {
            DataType::Timestamp(TimeUnit::Second, zone) => {
                cast(values, &DataType::Timestamp(TimeUnit::Millisecond, zone.clone())).unwrap()
            }
            _ if field.name() == "city" => {
                Arc::new(values.as_string::<i32>().iter().map(|v| v.filter(|v| !v.is_empty())).collect::<StringArray>())
            }
            _ => Arc::clone(values),
        };
        (field.name().clone(), values, field.is_nullable())
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[tokio::test]
async fn all_types_and_odd_partitions_come_back() {
    let kept_for_others = std::env::var_os("HARDTACK_INTEROP_OUT");
    let temporary = tempfile::tempdir().unwrap();
    let out = kept_for_others.as_deref().map_or(temporary.path(), Path::new);
    let (batch, expected) = rows();
    std::fs::write(out.join("expected.json"), serde_json::to_vec_pretty(&expected).unwrap()).unwrap();
    let ctx = super::context("2026-01-31");
    let wanted = as_read(&batch);

    for folder in ["left_out", "kept"] {
        let at = out.join(folder).to_str().unwrap().to_owned();
        let dataset = ParquetDataset::new(folder, at.as_str()).partition_by(["city", "year"]);
        let dataset = if folder == "kept" { dataset.keep_partition_columns() } else { dataset };
        let staged =
            dataset.stage(&ctx.staging("out"), ctx.session().read_batch(batch.clone()).unwrap()).await.unwrap();
        ctx.publish(&staged.publish).await.unwrap();
        // Rows 0 and 9 share a folder, and so do 5 and 6.
        assert_eq!(staged.report.files, 9);

        let source = ParquetFiles::new(folder, at.as_str()).with_schema(wanted.schema());
        // Columns that are kept in the files need no folder names.
        let source = if folder == "kept" { source } else { source.with_hive_partitions() };
        let back = source.load(&ctx.loading("a")).await.unwrap().sort(vec![col("id").sort(true, true)]).unwrap();
        let back = concat_batches(&wanted.schema(), &back.collect().await.unwrap()).unwrap();
        for (field, (back, wanted)) in wanted.schema().fields().iter().zip(back.columns().iter().zip(wanted.columns()))
        {
            assert_eq!(back, wanted, "{folder}: {}", field.name());
        }
    }
}
