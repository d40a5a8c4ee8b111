//! Sort orders of tables, and of their files.

use hardtack_iceberg::IcebergTable;
use hardtack_sinks::SortColumn;
use hardtack_test_support::{json, rows};
use iceberg::TableUpdate;
use iceberg::spec::NullOrder::{self, First, Last};
use iceberg::spec::SortDirection::{self, Ascending, Descending};
use iceberg::spec::{DataContentType, SortField, SortOrder, Transform};
use insta::assert_snapshot;
use rstest::rstest;

use super::World;

/// A sort order as other engines can set it.
#[rstest]
#[case::by_column(&[(2, Transform::Identity, Ascending, First)], Ok("3 null|1 2024-01-02|4 2024-01-05|2 2024-02-01"))]
#[case::newest_first(&[(2, Transform::Identity, Descending, Last)], Ok("2 2024-02-01|4 2024-01-05|1 2024-01-02|3 null"))]
#[case::nulls_last(&[(2, Transform::Identity, Ascending, Last)], Ok("1 2024-01-02|4 2024-01-05|2 2024-02-01|3 null"))]
#[case::nulls_first(&[(2, Transform::Identity, Descending, First)], Ok("3 null|2 2024-02-01|4 2024-01-05|1 2024-01-02"))]
#[case::by_month_and_id(&[(2, Transform::Month, Descending, Last), (1, Transform::Identity, Descending, Last)],
    Ok("2 2024-02-01|4 2024-01-05|1 2024-01-02|3 null"))]
#[case::by_day(&[(2, Transform::Day, Descending, First)], Ok("3 null|2 2024-02-01|4 2024-01-05|1 2024-01-02"))]
#[case::month_and_day_backwards(&[(2, Transform::Month, Ascending, Last), (2, Transform::Identity, Descending, Last)],
    Ok("4 2024-01-05|1 2024-01-02|2 2024-02-01|3 null"))]
#[case::truncated(&[(1, Transform::Truncate(3), Ascending, First), (1, Transform::Identity, Descending, Last)],
    Ok("2 2024-02-01|1 2024-01-02|4 2024-01-05|3 null"))]
#[case::truncated_decimals(&[(3, Transform::Truncate(1000), Ascending, First)],
    Ok("2 2024-02-01|4 2024-01-05|1 2024-01-02|3 null"))]
#[case::buckets(&[(1, Transform::Bucket(4), Ascending, First), (1, Transform::Identity, Descending, First)],
    Ok("2 2024-02-01|1 2024-01-02|4 2024-01-05|3 null"))]
#[case::void(&[(1, Transform::Void, Ascending, First), (1, Transform::Identity, Descending, Last)],
    Ok("4 2024-01-05|3 null|2 2024-02-01|1 2024-01-02"))]
#[case::by_a_field(&[(5, Transform::Identity, Ascending, First)], Err(
    "rows cannot be sorted by the table's sort order (field: identity(at.city), table: lake.t, hint: \
    choose columns, or none, by `.sorted_by([...])` of the sink, or `--sort-by` of `iceberg compact`)"))]
#[tokio::test]
async fn rows_are_sorted_as_the_table_says(
    #[case] fields: &[(i32, Transform, SortDirection, NullOrder)],
    #[case] expected: std::result::Result<&str, &str>,
) {
    let world = World::new();
    let rows = rows! {
        id, day: Date32,  price: Decimal128(9, 2), at: Struct([("city", Utf8)]);
        1,  "2024-01-02", "5.00",                  null;
        2,  "2024-02-01", "-12.50",                json!({"city": "Ghent"});
        3,  null,         "111.00",                null;
        4,  "2024-01-05", "-3.10",                 null;
    };
    world.save(&world.table(), &rows).await;
    let field = |(source_id, transform, direction, null_order): &(i32, Transform, SortDirection, NullOrder)| {
        SortField { source_id: *source_id, transform: *transform, direction: *direction, null_order: *null_order }
    };
    let sort_order = SortOrder::builder().with_fields(fields.iter().map(field).collect()).build_unbound().unwrap();
    world
        .change(vec![TableUpdate::AddSortOrder { sort_order }, TableUpdate::SetDefaultSortOrder { sort_order_id: -1 }])
        .await;
    let table = IcebergTable::named("lake", "t").overwrite();
    let found = match world.stage(&table, &rows).await {
        Ok((run, staged)) => {
            run.ctx.publish(&staged.publish).await.unwrap();
            let reading = world.run();
            let read = reading.ctx.load(IcebergTable::named("lake", "t")).await.unwrap().collect().await.unwrap();
            let lines: Vec<String> =
                read.iter().flat_map(|batch| crate::world::lines(&batch.project(&[0, 1]).unwrap())).collect();
            // What is sorted by the order says so.
            let order = world.table_metadata().await.default_sort_order_id();
            let noted: Vec<_> =
                world.live(DataContentType::Data).await.iter().map(|(_, f)| f.sort_order_id()).collect();
            assert_eq!((order, noted), (1, vec![Some(1)]));
            // What a job sorts otherwise does not.
            world.save(&table.clone().sorted_by([SortColumn::asc("id").nulls_last()]), &rows).await;
            let noted: Vec<_> =
                world.live(DataContentType::Data).await.iter().map(|(_, f)| f.sort_order_id()).collect();
            assert_eq!(noted, [None]);
            Ok(lines.join("|"))
        }
        Err(error) => Err(error.to_string()),
    };
    assert_eq!(found.as_deref().map_err(String::as_str), expected);
}

#[tokio::test]
async fn a_new_table_has_the_order_of_its_files() {
    let world = World::new();
    let order = [SortColumn::desc("day"), SortColumn::asc("id").nulls_last()];
    let table = IcebergTable::named("lake", "t").create_if_missing(world.new_table().sorted_by(order));
    world.save(&table, &rows! { id, day; 1, "mon"; 2, "tue"; null, "tue" }).await;
    let order = &world.metadata().await["sort-orders"][0];
    assert_snapshot!(order.to_string(), @r#"{"order-id":1,"fields":[{"source-id":2,"transform":"identity","direction":"desc","null-order":"nulls-last"},{"source-id":1,"transform":"identity","direction":"asc","null-order":"nulls-last"}]}"#);
}
