//! Schema evolution of tables.

use hardtack_tables::SchemaEvolution::{self, AddColumns, Fail, WidenTypes};
use hardtack_test_support::{Frame, rows};
use rstest::rstest;

use crate::lake::{World, columns_of, sales};

/// The columns of the table after rows with these columns were saved, or the error.
async fn evolved(table: &str, how: SchemaEvolution, rows: Frame) -> String {
    let world = World::with_sales(table, "day: string").await;
    match world.stage(sales().schema_evolution(how), rows).await {
        Ok((ctx, staged)) => match ctx.publish(&staged.publish).await {
            Ok(()) => {
                let table = world.table("sales").await;
                let columns = table.storage.columns.iter().map(|c| format!("{}: {}", c.name, c.data_type));
                columns.collect::<Vec<_>>().join(", ")
            }
            Err(e) => e.chain(),
        },
        Err(e) => e.chain(),
    }
}

#[rstest]
#[case::same("a: int", Fail, rows! { a: Int32, day; 1, "x" }, "a: int")]
#[case::any_case("a: int", Fail, rows! { A: Int32, DAY; 1, "x" }, "a: int")]
#[case::narrower("a: bigint", Fail, rows! { a: Int32, day; 1, "x" }, "a: bigint")]
#[case::wider_but_it_fits("a: int", Fail, rows! { a, day; 1, "x" }, "a: int")]
#[case::added("a: int", AddColumns, rows! { B, a: Int32, day; 1.5, 1, "x" }, "a: int, b: double")]
#[case::added_not_widened("a: int", AddColumns, rows! { a, b, day; 1, "t", "x" }, "a: int, b: string")]
#[case::integer("a: tinyint", WidenTypes, rows! { a: Int32, day; 1, "x" }, "a: int")]
#[case::bigint("a: int", WidenTypes, rows! { a, day; 1, "x" }, "a: bigint")]
#[case::never_narrower("a: bigint", WidenTypes, rows! { a: Int16, day; 1, "x" }, "a: bigint")]
#[case::double("a: float", WidenTypes, rows! { a, day; 1.5, "x" }, "a: double")]
#[case::decimal("a: decimal(5,2)", WidenTypes, rows! { a: Decimal128(9, 2), day; "1.50", "x" }, "a: decimal(9,2)")]
#[case::scale_stays("a: decimal(5,2)", WidenTypes, rows! { a: Decimal128(9, 3), day; "1.500", "x" }, "a: decimal(5,2)")]
#[case::text_stays("a: varchar(5)", WidenTypes, rows! { a, day; "abc", "x" }, "a: varchar(5)")]
#[case::nested("a: struct<x:int>", WidenTypes, rows! { a: Struct([("x", Int64), ("y", Utf8)]), day; hardtack_test_support::json!({"x": 1, "y": "t"}), "x" }, "a: struct<x:bigint,y:string>")]
#[tokio::test]
async fn columns_follow(
    #[case] table: &str,
    #[case] how: SchemaEvolution,
    #[case] rows: Frame,
    #[case] expected: &str,
) {
    assert_eq!(evolved(table, how, rows).await, expected);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_all_of_it_named() {
    let extra = || rows! { a: Int32, b, C, day; 1, "t", 2, "x" };
    insta::assert_snapshot!(evolved("a: int", Fail, extra()).await, @"the table does not have these columns (table: lake.sales, columns: b, C, hint: drop them before saving, or let the table grow: .schema_evolution(AddColumns))");
    insta::assert_snapshot!(evolved("a: struct<x:int>", Fail, rows! { a: Struct([("x", Int32), ("y", Utf8)]), day; hardtack_test_support::json!({"x": 1, "y": "t"}), "x" }).await, @"the table does not have these columns (table: lake.sales, columns: a.y, hint: drop them before saving, or let the table grow: .schema_evolution(AddColumns))");
    insta::assert_snapshot!(evolved("a: int, b: int, c: date", AddColumns, rows! { day; "x" }).await, @"declared columns are missing (missing: a, b, c, columns: day)");
    insta::assert_snapshot!(evolved("a: date, b: timestamp", WidenTypes, rows! { a: Int32, b: Int64, day; 1, 2, "x" }).await, @"columns cannot become the declared types (columns: a (int, declared date), b (bigint, declared timestamp))");
    insta::assert_snapshot!(evolved("a: date", WidenTypes, rows! { a: Int32, day; 1, "x" }).await, @"a column cannot become the declared type; state how it counts days (column: a, type: int, declared: date)");
    insta::assert_snapshot!(evolved("a: int", AddColumns, rows! { a, day; 5_000_000_000_i64, "x" }).await, @"a value does not fit the declared type without loss (column: a, value: 5000000000, type: bigint, declared: int)");
    insta::assert_snapshot!(evolved("a: int", Fail, rows! { a, A, day; 1, 2, "x" }).await, @"two columns differ only in case, which a table ignores; drop or rename one (columns: a, A)");
}

#[tokio::test]
async fn older_files_read_as_null_where_a_column_was_added() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon" }).await;
    world.save(sales().schema_evolution(AddColumns), rows! { id, name, day; 2, "x", "tue" }).await;
    assert_eq!(world.rows("sales").await, ["day=mon id=1", "day=tue id=2 name=x"]);
    let partitions = world.partitions("sales").await;
    assert_eq!(partitions[1].storage.columns, columns_of("id: bigint, name: string"));
    // The table has more columns than this run knows.
    let error = world.stage(sales(), rows! { id, day; 3, "wed" }).await.unwrap_err();
    insta::assert_snapshot!(error, @"declared columns are missing (missing: name, columns: id, day)");
}

#[tokio::test]
async fn changes_of_others_are_kept() {
    let world = World::with_sales("id: int", "").await;
    let grow = || sales().schema_evolution(WidenTypes);
    let (one, first) = world.stage(grow(), rows! { id, a; 1, "x" }).await.unwrap();
    let (two, second) = world.stage(grow(), rows! { id: Int32, b, a; 1, 2, "y" }).await.unwrap();
    let mut described = world.table("sales").await;
    described.description = Some("by somebody else".to_owned());
    world.catalog.update_table(&described).await.unwrap();
    two.publish(&second.publish).await.unwrap();
    one.publish(&first.publish).await.unwrap();
    let table = world.table("sales").await;
    assert_eq!(table.storage.columns, columns_of("id: bigint, b: bigint, a: string"));
    assert_eq!(table.description.as_deref(), Some("by somebody else"));

    let (one, first) = world.stage(grow(), rows! { id, b, a, z; 1, 1, "x", "text" }).await.unwrap();
    world.save(grow(), rows! { id, b, a, z; 1, 1, "x", true }).await;
    let error = one.publish(&first.publish).await.unwrap_err();
    insta::assert_snapshot!(error, @"a column was given another type while this run wrote to it (column: z, type: boolean, written: string, table: lake.sales, hint: give the column the type that was written, and run `hardtack recover`)");
}
