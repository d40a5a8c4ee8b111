use datafusion::prelude::*;
use hardtack_test_support::{
    TempLake, assert_frame_snapshot, json, logical_plan, optimized_plan, physical_plan, rows, table,
};
use insta::assert_snapshot;

#[test]
fn rows_are_sorted_and_aligned() {
    let frame = rows! {
        id, title,         tags: List(Utf8), price: Decimal128(6, 2);
        10, "Zoë's | book", ["a", "b"],       "10.00";
        9,  "null",        json!([]),        "9.50";
        9,  "",            null,             null;
        null, "line\nbreak", json!([null]),  "-1.00";
    };
    assert_frame_snapshot!(frame, @r#"
    id: Int64 | title: Utf8    | tags: List(Utf8) | price: Decimal128(6, 2)
    null      | "line\nbreak"  | [null]           | -1.00
    9         | ""             | null             | null
    9         | "null"         | []               | 9.50
    10        | "Zoë's | book" | ["a", "b"]       | 10.00
    "#);
}

#[test]
fn a_data_frame_is_executed() {
    let frame = rows! { a; 3; 1; 2 }.in_batches(2).df().filter(col("a").gt(lit(1))).unwrap();
    assert_frame_snapshot!(frame, @r"
    a: Int64
    2
    3
    ");
    assert_eq!(table(rows! { a: Int64; }), "a: Int64\n(no rows)");
}

#[tokio::test]
async fn plans_do_not_depend_on_where_files_are() {
    let lake = TempLake::new();
    lake.write_parquet("20260102T030405Z-0a1b2c3d.parquet", rows! { a, b; 1, "x" });
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let read = session.read_parquet(lake.path().to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    let plan = read.filter(col("a").gt(lit(1))).unwrap().select_columns(&["a"]).unwrap();
    assert_snapshot!(logical_plan(&plan), @r"
    Projection: ?table?.a
      Filter: ?table?.a > Int32(1)
        TableScan: ?table?
    ");
    assert_snapshot!(optimized_plan(&plan).unwrap(), @r"
    Filter: ?table?.a > Int64(1)
      TableScan: ?table? projection=[a], partial_filters=[?table?.a > Int64(1)]
    ");
    assert_snapshot!(physical_plan(&plan).await.unwrap(), @r"
    FilterExec: a@0 > 1
      RepartitionExec: partitioning=RoundRobinBatch(2), input_partitions=1
        DataSourceExec: file_groups={1 group: [[[tmp]/[run].parquet]]}, projection=[a], file_type=parquet, predicate=a@0 > 1, pruning_predicate=a_null_count@1 != row_count@2 AND a_max@0 > 1, required_guarantees=[]
    ");
}
