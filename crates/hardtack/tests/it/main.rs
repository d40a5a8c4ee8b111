//! The source of a format reads back what the sink of that format has written.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test looks at files and stops where it fails")]

mod endpoints;
mod prelude;

use hardtack::prelude::*;
use hardtack_test_support::{DataType, Frame, TempLake, assert_frame, load, rows, save};
use proptest::prelude::*;

/// Arbitrary texts: separators, quotes, line ends, escapes, other scripts, texts that look like other types.
fn text() -> impl Strategy<Value = Option<String>> {
    let odd = prop::sample::select(vec![
        "a,b",
        "say \"so\"",
        "two\nlines",
        "\r\n",
        "100%",
        "a/b=c",
        "München 東京",
        "null",
        "007",
        "1.50",
        "true",
        " ",
        "\\",
        "'",
        "2026-01-31",
        "{}",
        "[1]",
        "..",
        "#x?y",
        "__HIVE_DEFAULT_PARTITION__x",
        "a:b",
        "\t",
    ]);
    prop::option::of(odd.prop_map(str::to_owned).boxed().prop_union("[a-z]{1,5}".prop_map(|s| s).boxed()))
}

fn frame(values: &[(Option<String>, Option<i64>, Option<String>)]) -> Frame {
    let cells = values.iter().map(|(t, n, p)| vec![t.clone().into(), (*n).into(), p.clone().into()]).collect();
    hardtack_test_support::frame_of(
        vec![("t", Some(DataType::Utf8)), ("n", Some(DataType::Int64)), ("p", Some(DataType::Utf8))],
        cells,
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_come_back(values in prop::collection::vec((text(), any::<Option<i64>>(), text()), 1..20)) {
        let rows = frame(&values);
        let schema = schema! { t: string, n: bigint, p: string };
        block_on(async {
            let lake = TempLake::new();

            let target = lake.at("parquet");
            save(ParquetDataset::new("x", &target).partition_by(["p"]), &rows).await.unwrap();
            let back = load(ParquetFiles::new("x", &target).with_hive_partitions().with_schema(schema.clone())).await.unwrap();
            assert_frame(back, &rows);

            let target = lake.at("rows.jsonl.zst");
            save(JsonLines::new("x", &target), &rows).await.unwrap();
            assert_frame(load(JsonFiles::new("x", &target).with_schema(schema.clone())).await.unwrap(), &rows);

            let target = lake.at("rows.csv.gz");
            save(CsvFile::new("x", &target), &rows).await.unwrap();
            assert_frame(load(CsvFiles::new("x", &target).with_schema(schema.clone())).await.unwrap(), &rows);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_come_back_from_parquet() {
    let all = rows! {
        i: Int32, d: Date32, m: Decimal128(10, 2), at: Timestamp(Microsecond, None), utc: Timestamp(Microsecond, Some("UTC".into())), b: Boolean, l: List(Utf8), s: Struct([("a", Int64), ("b", Utf8)]);
        1, "1969-12-31", "-9.99", "2026-03-29T02:30:00", "2026-03-29T02:30:00Z", true, ["x"], hardtack_test_support::json!({"a": 1, "b": null});
        null, null, null, null, null, null, null, null;
    };
    let lake = TempLake::new();
    save(ParquetDataset::new("x", lake.at("x")), &all).await.unwrap();
    assert_frame(load(ParquetFiles::new("x", lake.at("x"))).await.unwrap(), &all);
    for (column, value) in [("d", "1969-12-31"), ("m", "-9.99"), ("b", "true")] {
        let lake = TempLake::new();
        save(ParquetDataset::new("x", lake.at("x")).partition_by([column]), &all).await.unwrap();
        assert!(
            lake.files("x").iter().any(|f| f.starts_with(&format!("x/{column}={value}/"))),
            "{:?}",
            lake.files("x")
        );
    }
}
