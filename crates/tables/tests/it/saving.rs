//! Saving to tables.

use hardtack_catalog::{NULL_PARTITION, TableDescription, TableFormat};
use hardtack_core::{DiscardAction, ErrorKind, PublishAction, Sink, publish};
use hardtack_sinks::{Compression, PartitionValues};
use hardtack_tables::{SchemaEvolution, Table};
use hardtack_test_support::{Frame, rows};
use rstest::rstest;

use crate::lake::{World, columns_of, sales};

pub(crate) fn day(day: &str, ids: &[i64]) -> Frame {
    let lines: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":{id},"day":"{day}"}}"#)).collect();
    Frame::from_json_lines(&lines.join("\n"))
}

#[test]
fn a_table_is_a_value() {
    assert_eq!(sales().overwrite_partitions(), sales().overwrite_partitions());
    assert_ne!(sales().overwrite_partitions(), sales());
    assert_ne!(sales().overwrite(), sales().overwrite_partitions());
    assert_ne!(sales().with_compression(Compression::Snappy), sales());
    insta::assert_snapshot!(format!("{:?}", sales()), @r#"Table { name: "lake.sales" }"#);
    let chosen =
        sales().overwrite().schema_evolution(SchemaEvolution::AddColumns).grace_period(chrono::TimeDelta::minutes(5));
    insta::assert_snapshot!(format!("{chosen:?}"), @r#"Table { name: "lake.sales", mode: Overwrite, schema_evolution: AddColumns, grace_period: "PT300S" }"#);
}

#[tokio::test]
async fn append_adds_to_partitions_where_they_are() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "mon"; 3, "tue" }).await;
    insta::assert_snapshot!(world.rows("sales").await.join("\n"), @"
    day=mon id=1
    day=mon id=2
    day=tue id=3
    ");
    assert_eq!(world.files("lake").len(), 2);
    insta::assert_debug_snapshot!(world.counts("sales").await, @r#"
    {
        "all": "3",
        "day=mon": "2",
        "day=tue": "1",
    }
    "#);

    world.save(sales().overwrite_partitions(), day("mon", &[4])).await;
    world.save(sales(), rows! { id, day; 5, "mon"; 6, "wed" }).await;
    insta::assert_snapshot!(world.rows("sales").await.join("\n"), @"
    day=mon id=4
    day=mon id=5
    day=tue id=3
    day=wed id=6
    ");
    insta::assert_debug_snapshot!(world.counts("sales").await, @r#"
    {
        "all": "4",
        "day=mon": "2",
        "day=tue": "1",
        "day=wed": "1",
    }
    "#);
}

/// Partitions that are named are dropped if they have no rows, and null is a value.
#[tokio::test]
async fn partitions_that_are_named_are_replaced_as_well() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue"; 3, null; 4, "wed" }).await;
    let named = [Some("tue"), None, Some("never was")].map(|day| PartitionValues::of("day", day));
    world.save(sales().also_overwriting(named), day("mon", &[5, 6])).await;
    insta::assert_snapshot!(world.rows("sales").await.join("\n"), @"
    day=mon id=5
    day=mon id=6
    day=wed id=4
    ");
    insta::assert_debug_snapshot!(world.counts("sales").await, @r#"
    {
        "all": "3",
        "day=mon": "2",
        "day=wed": "1",
    }
    "#);
}

#[tokio::test]
async fn tables_of_append_only_places_are_not_rebuilt() {
    let world = World::partitioned().await;
    for _ in 0..2 {
        world.save(sales().append_only(), rows! { id, day; 1, "mon" }).await;
    }
    let before = world.rows("sales").await;
    for table in [sales().overwrite(), sales().overwrite_partitions()] {
        let error = world.stage(table, day("mon", &[2])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.get("marker").unwrap().ends_with("/_append_only"), "{error}");
    }
    assert_eq!(world.rows("sales").await, before);
    assert_eq!(before.len(), 2);
}

#[tokio::test]
async fn overwritten_partitions_have_the_new_rows_and_the_others_theirs() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue" }).await;
    for id in [3, 4, 5] {
        world.save(sales().overwrite_partitions(), day("mon", &[id, id * 10])).await;
        assert_eq!(
            world.rows("sales").await,
            [format!("day=mon id={id}"), format!("day=mon id={}", id * 10), "day=tue id=2".to_owned()]
        );
    }
    insta::assert_debug_snapshot!(world.counts("sales").await, @r#"
    {
        "all": "3",
        "day=mon": "2",
        "day=tue": "1",
    }
    "#);
    let before = world.rows("sales").await;
    world.save(sales().overwrite_partitions(), Frame::empty(rows! { id, day; 1, "" }.schema())).await;
    assert_eq!(world.rows("sales").await, before);
}

#[tokio::test]
async fn an_overwritten_table_has_the_new_rows_only() {
    let world = World::partitioned().await;
    world.save(sales(), rows! { id, day; 1, "mon"; 2, "tue" }).await;
    world.save(sales().overwrite(), rows! { id, day; 3, "tue"; 4, "wed" }).await;
    insta::assert_snapshot!(world.rows("sales").await.join("\n"), @"
    day=tue id=3
    day=wed id=4
    ");
    insta::assert_debug_snapshot!(world.counts("sales").await, @r#"
    {
        "all": "2",
        "day=tue": "1",
        "day=wed": "1",
    }
    "#);
    world.save(sales().overwrite(), Frame::empty(rows! { id, day; 1, "" }.schema())).await;
    assert!(world.rows("sales").await.is_empty() && world.partitions("sales").await.is_empty());
    insta::assert_debug_snapshot!(world.counts("sales").await, @r#"
    {
        "all": "0",
    }
    "#);
}

#[rstest]
#[case::overwrite(sales().overwrite())]
#[case::overwrite_partitions(sales().overwrite_partitions())]
#[tokio::test]
async fn a_table_without_partitions_moves_as_a_whole(#[case] overwrite: Table) {
    let world = World::with_sales("id: bigint", "").await;
    world.save(sales(), rows! { id; 1; 2 }).await;
    world.save(sales(), rows! { id; 3 }).await;
    assert_eq!(world.rows("sales").await, ["id=1", "id=2", "id=3"]);
    assert_eq!(world.counts("sales").await["all"], "3");
    for _ in 0..2 {
        world.save(overwrite.clone(), rows! { id; 4 }).await;
        world.save(sales(), rows! { id; 5 }).await;
        assert_eq!(world.rows("sales").await, ["id=4", "id=5"]);
    }
    assert_eq!(world.counts("sales").await["all"], "2");
    let table = world.table("sales").await;
    assert_eq!(table.parameters["hardtack.base"], world.dir.at("lake/sales").to_string());
    world.save(overwrite, Frame::empty(rows! { id; 1 }.schema())).await;
    assert!(world.rows("sales").await.is_empty());
    assert_eq!(world.counts("sales").await["all"], "0");
}

#[tokio::test]
async fn nothing_is_seen_before_it_is_published() {
    for table in [sales(), sales().overwrite(), sales().overwrite_partitions()] {
        let world = World::partitioned().await;
        world.save(sales(), day("mon", &[1])).await;
        let (ctx, staged) = world.stage(table, day("mon", &[2])).await.unwrap();
        assert_eq!((staged.report.files, staged.report.rows), (1, 1));
        assert_eq!(world.rows("sales").await, ["day=mon id=1"]);
        assert_eq!(world.files("lake").len(), 1);
        ctx.publish(&staged.publish).await.unwrap();
        assert!(world.rows("sales").await.contains(&"day=mon id=2".to_owned()));
    }
}

#[rstest]
#[case("string", "a b", "a b")]
#[case("string", "a/b=c%", "a/b=c%")]
#[case("string", "München 東京", "München 東京")]
#[case("string", "..", "..")]
#[case("string", "", NULL_PARTITION)]
#[case("date", "2026-07-01", "2026-07-01")]
#[case("int", "-7", "-7")]
#[case("decimal(5,2)", "9.5", "9.50")]
#[case("boolean", "true", "true")]
#[case("timestamp", "2026-07-01 12:00:00", "2026-07-01 12:00:00")]
#[tokio::test]
async fn odd_partition_values(#[case] key: &str, #[case] given: &str, #[case] kept: &str) {
    let world = World::with_sales("id: bigint", &format!("day: {key}, city: string")).await;
    for table in [sales(), sales().overwrite_partitions(), sales()] {
        world.save(table, rows! { id, day, city; 1, given, hardtack_test_support::null }).await;
    }
    let partitions = world.partitions("sales").await;
    assert_eq!(partitions.len(), 1);
    assert_eq!(partitions[0].values, [kept, NULL_PARTITION]);
    assert_eq!(world.rows("sales").await.len(), 2);
    assert_eq!(world.counts("sales").await["all"], "2");
}

#[tokio::test]
async fn thousands_of_partitions() {
    let world = World::partitioned().await;
    let lines =
        |from: i64| -> String { (0..2500).map(|n| format!("{{\"id\":{},\"day\":\"d{n}\"}}\n", from + n)).collect() };
    world.save(sales(), Frame::from_json_lines(&lines(0))).await;
    let actions = world.save(sales().overwrite_partitions(), Frame::from_json_lines(&lines(10_000))).await;
    assert_eq!(actions.len(), 4, "three times a thousand partitions, and their counts");
    let largest = actions.iter().map(|a| serde_json::to_string(a).unwrap().len()).max().unwrap();
    assert!(largest < 600_000, "a record of a thousand partitions has {largest} bytes");
    let rows = world.rows("sales").await;
    assert_eq!(rows.len(), 2500);
    assert!(rows.contains(&"day=d2499 id=12499".to_owned()));
    assert_eq!(world.table("sales").await.parameters["recordCount"], "2500");
}

/// Readers and later runs have other working directories.
#[tokio::test]
async fn a_relative_location_is_kept_absolute() {
    let world = World::new().await;
    // Up to the root, and down to the lake.
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let relative = format!("{up}{}/lake/made", world.dir.path().to_str().unwrap().trim_start_matches('/'));
    let description = TableDescription::new("lake", "made", &TableFormat::Parquet, relative.as_str())
        .with_columns(columns_of("id: bigint"))
        .with_partition_keys(columns_of("day: string"));
    let made = Table::named("lake", "made").create_if_missing(description);
    let (ctx, staged) = world.stage(made.clone(), day("mon", &[1])).await.unwrap();
    assert_eq!(staged.location, Some(world.dir.at("lake/made")));
    ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(world.table("made").await.location().unwrap(), &world.dir.at("lake/made"));
    assert_eq!(world.partitions("made").await[0].storage.location, Some(world.dir.at("lake/made/day=mon")));
    // The next run gives the absolute path of the same place.
    let full = world.description("made", "id: bigint", "day: string");
    world.save(Table::named("lake", "made").create_if_missing(full), day("tue", &[2])).await;
    assert_eq!(world.rows("made").await, ["day=mon id=1", "day=tue id=2"]);
    // And one that gives another place is refused.
    let mut other = world.description("made", "id: bigint", "day: string");
    other.storage.location = Some(world.dir.at("other/lake/made"));
    let error = world.stage(Table::named("lake", "made").create_if_missing(other), day("wed", &[3])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.get("location of the table"), Some(world.dir.at("lake/made").as_str()));
    assert_eq!(error.get("location in the job"), Some(world.dir.at("other/lake/made").as_str()));
}

#[tokio::test]
async fn create_if_missing_creates_when_published() {
    let world = World::new().await;
    let mut description = world.description("made", "id: bigint", "day: string");
    description.database = "other".to_owned();
    let made = Table::named("lake", "made").create_if_missing(description);
    let (ctx, staged) = world.stage(made.clone(), day("mon", &[1])).await.unwrap();
    assert_eq!(world.catalog.get_table("lake", "made").await.unwrap_err().kind(), ErrorKind::NotFound);
    ctx.publish(&staged.publish).await.unwrap();
    world.save(made, day("tue", &[2])).await;
    assert_eq!(world.rows("made").await, ["day=mon id=1", "day=tue id=2"]);
    assert_eq!(world.counts("made").await["all"], "2");
}

#[rstest]
#[case::append(sales())]
#[case::overwrite(sales().overwrite())]
#[tokio::test]
async fn a_run_that_fails_leaves_nothing(#[case] table: Table) {
    let world = World::new().await;
    let table = table.create_if_missing(world.description("sales", "id: bigint", "day: string"));
    let ctx = world.run();
    let journal = std::sync::Arc::new(hardtack_core::actions::MemoryJournal::default());
    let ctx = hardtack_core::JobContext::builder("job").share(&ctx).journal(journal.clone()).build().unwrap();
    table.stage(&ctx.staging("out"), day("mon", &[1, 2]).to_df(ctx.session())).await.unwrap();
    assert!(!journal.noted().is_empty());
    publish::discard(ctx.stores(), ctx.publishers(), &journal.noted()).await.unwrap();
    assert_eq!(world.dir.files("lake"), Vec::<String>::new());
    assert!(!world.dir.path().join("lake/sales").exists());
    assert!(world.catalog.list_tables("lake").await.unwrap().is_empty());
}

#[tokio::test]
async fn fresh_files_are_put_directly_and_noted_as_one_folder() {
    let world = World::partitioned().await;
    let journal = std::sync::Arc::new(hardtack_core::actions::MemoryJournal::default());
    let ctx = world.run();
    let ctx = hardtack_core::JobContext::builder("job").share(&ctx).journal(journal.clone()).build().unwrap();
    let rows = rows! { id, day; 1, "mon"; 2, "tue"; 3, "wed" };
    let staged = sales().overwrite_partitions().stage(&ctx.staging("out"), rows.to_df(ctx.session())).await.unwrap();
    let version = world.dir.at("lake/sales/_versions").join(ctx.run().version());
    assert_eq!(journal.noted(), [DiscardAction::Folder { location: version }]);
    assert_eq!(world.versions("sales").len(), 3);
    assert!(staged.publish.iter().all(|action| matches!(action, PublishAction::Foreign { .. })));
}

#[tokio::test]
async fn large_files_and_split_ones_are_whole() {
    let world = World::with_sales("id: bigint, name: string", "").await;
    let many = Frame::from_json_lines(
        &(0..60_000_i64).map(|n| format!("{{\"id\":{n},\"name\":\"{:x}\"}}\n", n * 7_919_999)).collect::<String>(),
    );
    for table in [sales(), sales().overwrite(), sales()] {
        let table = table.with_row_group_rows(10_000).with_target_file_bytes(100_000);
        world.save(table, many.clone()).await;
    }
    assert!(world.versions("sales").len() > 4);
    assert_eq!(world.counts("sales").await["all"], "120000");
    assert_eq!(world.rows("sales").await.len(), 120_000);
}

#[tokio::test]
async fn files_appear_where_their_partition_is() {
    let world = World::partitioned().await;
    let table = world.table("sales").await;
    let elsewhere = world.dir.at("elsewhere");
    world.catalog.add_partitions(&table, &[table.partition(["mon"], elsewhere.clone())]).await.unwrap();
    world.save(sales(), day("mon", &[1])).await;
    assert_eq!(world.dir.files("elsewhere").len(), 1);
    assert_eq!(world.rows("sales").await, ["day=mon id=1"]);
    // The number of rows before is unknown.
    assert_eq!(world.counts("sales").await["day=mon"], "?, no totalSize");
    world.save(sales().overwrite_partitions(), day("mon", &[2])).await;
    assert_eq!(world.rows("sales").await, ["day=mon id=2"]);
    world.save(sales(), day("mon", &[3])).await;
    assert_eq!(world.counts("sales").await["all"], "2");
}

#[tokio::test]
async fn what_cannot_be_saved_to_is_refused() {
    let world = World::new().await;
    let error = world.stage(sales(), day("mon", &[1])).await.unwrap_err();
    insta::assert_snapshot!(error.chain(), @"there is no table `lake.sales` in the catalog; create it, or check the name (hint: `.create_if_missing(description)` creates it with the first run)");
}

#[rstest]
#[case::json(TableFormat::Json)]
#[case::csv(TableFormat::csv())]
#[case::avro(TableFormat::Avro)]
#[tokio::test]
async fn tables_of_other_formats_are_refused_before_anything_is_written(#[case] format: TableFormat) {
    let world = World::new().await;
    let table = TableDescription::new("lake", "sales", &format, world.dir.at("lake/sales"));
    let table = table.with_columns(columns_of("id: bigint")).with_partition_keys(columns_of("day: string"));
    world.catalog.create_table(&table).await.unwrap();
    let before = (world.dir.files(""), world.dir.hidden_files(""), world.table("sales").await);
    for save in [sales(), sales().overwrite(), sales().overwrite_partitions(), sales().create_if_missing(table.clone())]
    {
        let error = world.stage(save, day("mon", &[1])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let format = format.classification();
        assert_eq!(
            error.chain(),
            format!(
                "its files are {format}, but only tables of Parquet files can be saved to (table: lake.sales, hint: save to a table of Parquet files, of another name or in another database, or write files with \
                 `CsvFile` or `JsonLines`)"
            )
        );
    }
    assert_eq!((world.dir.files(""), world.dir.hidden_files(""), world.table("sales").await), before);
    assert_eq!(world.partitions("sales").await, []);
}

#[tokio::test]
async fn a_partition_of_another_format_cannot_be_appended_to_but_replaced() {
    let world = World::partitioned().await;
    let table = world.table("sales").await;
    let mut json = table.partition(["mon"], world.dir.at("json"));
    hardtack_catalog::TableFormat::Json.describe(&mut json.storage, &mut json.parameters);
    world.catalog.add_partitions(&table, &[json]).await.unwrap();
    let error = world.stage(sales(), day("mon", &[1])).await.unwrap_err();
    insta::assert_snapshot!(error.chain(), @"its files are json, but only tables of Parquet files can be saved to (partition: day=mon, hint: save to a table of Parquet files, of another name or in another database, or write files with `CsvFile` or `JsonLines`)");
    world.save(sales().overwrite_partitions(), day("mon", &[2])).await;
    assert_eq!(world.rows("sales").await, ["day=mon id=2"]);
}
