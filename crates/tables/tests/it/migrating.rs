//! Tables of files that become Iceberg tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use chrono::TimeDelta;
use datafusion::prelude::{Expr, col, lit};
use hardtack_catalog::{NULL_PARTITION, TableFormat};
use hardtack_core::bookmarks::Positions;
use hardtack_core::{Error, ErrorKind, JobContext, Result};
use hardtack_sources::Bookmark;
use hardtack_tables::{CrawlOptions, Migrated, Table, VacuumOptions, crawl, migrate, purge, vacuum};
use hardtack_test_support::rows;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::data_type::{FixedLenByteArray, FixedLenByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use rstest::rstest;

use crate::faulty::FaultyCatalog;
use crate::files::{self, int96, parquet};
use crate::lake::{World, columns_of, load, sales};
use crate::saving::day;

impl World {
    async fn migrate(&self, dry_run: bool) -> Result<Migrated> {
        migrate(&self.run(), &sales(), dry_run).await
    }

    async fn loaded(&self) -> Vec<String> {
        load(&self.run(), sales()).await.unwrap()
    }

    fn put(&self, path: &str, content: Vec<u8>) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Its files, without those of metadata.
    fn data(&self) -> Vec<String> {
        self.dir.files("lake/sales").into_iter().filter(|file| !file.contains("metadata/")).collect()
    }
}

#[tokio::test]
async fn rows_and_files_stay_as_they_are() {
    let world = World::with_sales("id: bigint", "day: string, n: int").await;
    world.save(sales(), rows! { id, day, n; 1, "mon", 1; 2, "a/b=c %:é", -7; 3, null, null }).await;
    world.save(sales(), rows! { id, day, n; 4, "mon", 1 }).await;
    world.save(sales().overwrite_partitions(), rows! { id, day, n; 5, "mon", 2; 6, null, null }).await;
    let table = world.table("sales").await;
    let elsewhere = table.partition(["tue", "3"], world.dir.at("elsewhere/x"));
    world.catalog.add_partitions(&table, &[elsewhere]).await.unwrap();
    let schema: SchemaRef = Schema::new(vec![Field::new("id", DataType::Int64, true)]).into();
    world.put("elsewhere/x/of nobody.parquet", parquet(&files::rows(&schema, r#"{"id":7}"#)));
    let (rows, files) = (world.loaded().await, world.data());
    assert_eq!(rows.len(), 6);

    let would = world.migrate(true).await.unwrap();
    assert_eq!((would.files, would.rows, would.snapshot), (6, 6, None));
    assert!(!world.table("sales").await.is_iceberg());
    assert_eq!(world.dir.files("lake/sales"), files, "nothing was written");

    let done = world.migrate(false).await.unwrap();
    assert_eq!(Migrated { snapshot: None, ..done }, would);
    assert!(done.snapshot.is_some() && world.table("sales").await.is_iceberg());
    assert_eq!((world.loaded().await, world.data()), (rows, files));

    // It is an Iceberg table as any other.
    world.save(sales(), rows! { id, day, n; 8, "tue", 3 }).await;
    world.save(sales().overwrite_partitions(), rows! { id, day, n; 9, null, null; 10, "a/b=c %:é", -7 }).await;
    let mut rows = world.loaded().await;
    rows.sort();
    assert_eq!(
        rows,
        [
            "id=1 day=mon n=1",
            "id=10 day=a/b=c %:é n=-7",
            "id=4 day=mon n=1",
            "id=5 day=mon n=2",
            "id=7 day=tue n=3",
            "id=8 day=tue n=3",
            "id=9 day=null n=null",
        ]
    );
    let error = world.migrate(false).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.sales")));
}

#[tokio::test]
async fn a_table_without_rows_has_no_snapshot() {
    let world = World::partitioned().await;
    let done = world.migrate(false).await.unwrap();
    assert_eq!(done, Migrated { files: 0, rows: 0, bytes: 0, snapshot: None });
    assert_eq!(world.loaded().await, Vec::<String>::new());
    world.save(sales(), day("mon", &[1])).await;
    assert_eq!(world.loaded().await, ["id=1 day=mon"]);
}

/// Without partitions, whatever is in the folder of the table is a file of it, and metadata would be.
#[rstest]
#[case::in_the_folder(false, "_iceberg/metadata/")]
#[case::beside_the_version(true, "metadata/")]
#[tokio::test]
async fn readers_of_the_table_of_files_do_not_see_metadata(#[case] has_moved: bool, #[case] folder: &str) {
    let world = World::with_sales("id: bigint", "").await;
    world.save(sales(), rows! { id; 1; 2 }).await;
    if has_moved {
        world.save(sales().overwrite(), rows! { id; 3 }).await;
    }
    let rows = world.loaded().await;
    // The catalog fails, so that it is one of files still.
    let ctx = world.run_on(FaultyCatalog::new(Arc::clone(&world.catalog), 0, false));
    assert_eq!(migrate(&ctx, &sales(), false).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(world.dir.files("lake/sales").iter().any(|file| file.contains("metadata/")));
    assert_eq!(world.loaded().await, rows);

    world.migrate(false).await.unwrap();
    assert_eq!(world.loaded().await, rows);
    world.save(sales(), rows! { id; 4 }).await;
    assert_eq!(world.loaded().await.len(), rows.len() + 1);
    let crawled = crawl(&world.run(), &world.dir.at("lake/sales"), "lake", &CrawlOptions::default()).await.unwrap();
    assert!(crawled.problems[0].message.contains("this is a table of Iceberg"), "{crawled:?}");
    let metadata: Vec<String> = world.dir.files("lake/sales");
    let metadata: Vec<_> = metadata.iter().filter(|file| file.contains("metadata/")).collect();
    assert!(metadata.iter().all(|file| file.contains(&format!("sales/{folder}"))), "{metadata:?}");
    let description = world.table("sales").await;
    assert!(description.metadata_location().unwrap().contains(&format!("sales/{folder}")));
}

/// The answer of the catalog is lost, or it has failed.
#[rstest]
#[case::made(true)]
#[case::not_made(false)]
#[tokio::test]
async fn it_is_the_one_or_the_other(#[case] made: bool) {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1, 2])).await;
    let ctx = world.run_on(FaultyCatalog::new(Arc::clone(&world.catalog), 0, made));
    let done = migrate(&ctx, &sales(), false).await;
    assert_eq!(done.is_ok(), made, "{done:?}");
    assert_eq!(world.table("sales").await.is_iceberg(), made);
    assert_eq!(world.loaded().await.len(), 2);
}

#[tokio::test]
async fn who_changes_the_table_meanwhile_wins() {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    let others = Arc::clone(&world.catalog);
    let change = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut table = others.get_table("lake", "sales").await.unwrap();
            table.description = Some("changed".to_owned());
            others.update_table(&table).await.unwrap();
        });
    };
    let ctx = world.run_on(FaultyCatalog::interrupted_before_table(Arc::clone(&world.catalog), Box::new(change)));
    let error = migrate(&ctx, &sales(), false).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Conflict, Some("lake.sales")));
    assert!(!world.table("sales").await.is_iceberg());
    let left: Vec<String> = world.dir.files("lake/sales").into_iter().filter(|f| f.contains("metadata/")).collect();
    assert_eq!(left, Vec::<String>::new(), "what was written is removed");
    world.migrate(false).await.unwrap();
    assert_eq!(world.loaded().await, ["id=1 day=mon"]);
    assert_eq!(world.table("sales").await.description, None, "the embedded catalog keeps where the metadata is");
}

/// A run that wrote files for the table of files does not change the Iceberg table, and says so.
#[rstest]
#[case::append("day: string", sales())]
#[case::overwrite("day: string", sales().overwrite())]
#[case::overwrite_partitions("day: string", sales().overwrite_partitions())]
#[case::append_without_partitions("", sales())]
#[case::overwrite_without_partitions("", sales().overwrite())]
#[tokio::test]
async fn a_run_that_is_late_fails(#[case] keys: &str, #[case] table: Table) {
    let world = World::with_sales(if keys.is_empty() { "id: bigint, day: string" } else { "id: bigint" }, keys).await;
    world.save(sales(), day("mon", &[1])).await;
    let (ctx, staged) = world.stage(table, day("mon", &[2])).await.unwrap();
    world.migrate(false).await.unwrap();
    let error = ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Conflict, Some("lake.sales")));
    assert!(error.to_string().contains("has become an Iceberg table"), "{error}");
    assert_eq!(world.loaded().await, ["id=1 day=mon"]);
}

/// What was read of the table of files, a snapshot does not say; so nothing is read twice or left out unnoticed.
#[tokio::test]
async fn a_bookmark_by_files_is_refused() {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    let source = || sales().bookmarked(Bookmark::by_modification_time());
    let read = async |last: &Positions| {
        let ctx = JobContext::builder("job").share(&world.run()).bookmarks(last.clone()).build().unwrap();
        load(&ctx, source()).await.map(|rows| (rows, ctx.bookmarks_after()))
    };
    let (rows, last) = read(&Positions::new()).await.unwrap();
    assert_eq!(rows, ["id=1 day=mon"]);
    world.migrate(false).await.unwrap();
    let error = read(&last).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("hardtack bookmark"), "{error}");
}

/// Commands that go by folders would remove files of the Iceberg table.
#[tokio::test]
async fn files_are_not_removed_by_folder() {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    world.save(sales().overwrite_partitions(), day("mon", &[2])).await;
    world.migrate(false).await.unwrap();
    world.advance(TimeDelta::days(100));
    let ctx = world.run();
    let options = VacuumOptions { grace_period: TimeDelta::zero(), ..VacuumOptions::default() };
    let error = vacuum(&ctx, &sales(), &options).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.sales")));
    let error = purge(&ctx, &sales(), TimeDelta::days(1), false).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Usage, Some("lake.sales")));
    assert_eq!(world.loaded().await, ["id=2 day=mon"]);
}

#[tokio::test]
async fn only_parquet_files_are_taken() {
    let world = World::new().await;
    let mut table = world.description("sales", "id: bigint", "");
    table =
        hardtack_catalog::TableDescription::new("lake", "sales", &TableFormat::Json, table.location().unwrap().clone())
            .with_columns(columns_of("id: bigint"));
    world.catalog.create_table(&table).await.unwrap();
    world.put("lake/sales/a.json", b"{\"id\":1}".to_vec());
    let error = world.migrate(true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("only Parquet"), "{error}");

    let world = World::with_sales("id: bigint", "").await;
    world.put("lake/sales/a.parquet", b"no Parquet".to_vec());
    let error = world.migrate(true).await.unwrap_err();
    assert!(error.get("file").unwrap().ends_with("lake/sales/a.parquet"), "{error}");
}

fn one(name: &str, of: DataType) -> SchemaRef {
    Schema::new(vec![Field::new(name, of, true)]).into()
}

/// A decimal as old Spark and Hive write it, whatever its precision.
fn decimal_in_bytes(values: &[i64]) -> Vec<u8> {
    let schema = "message m { optional fixed_len_byte_array(5) x (DECIMAL(9, 2)); }";
    let schema = parse_message_type(schema).unwrap();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let bytes = |n: &i64| FixedLenByteArray::from(n.to_be_bytes()[3..].to_vec());
    let values: Vec<_> = values.iter().map(bytes).collect();
    let defined = vec![1; values.len()];
    column.typed::<FixedLenByteArrayType>().write_batch(&values, Some(&defined), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

fn texts(of: DataType, json: &str) -> Vec<u8> {
    parquet(&files::rows(&one("x", of), json))
}

fn structure() -> DataType {
    DataType::Struct(Fields::from(vec![Field::new("A", DataType::Int32, true)]))
}

/// What is stored in another way than Iceberg would is read the same, and filters do not skip it.
#[rstest]
#[case::narrower("bigint", texts(DataType::Int32, r#"{"x":-7}{"x":9}"#), col("x").lt(lit(0_i64)), "x=-7")]
#[case::small("int", texts(DataType::Int8, r#"{"x":-7}{"x":9}"#), col("x").lt(lit(0)), "x=-7")]
#[case::single("double", texts(DataType::Float32, r#"{"x":-0.5}{"x":9}"#), col("x").lt(lit(0.0)), "x=-0.5")]
#[case::texts("string", texts(DataType::Utf8, r#"{"x":"é"}{"x":"a"}"#), col("x").gt(lit("z")), "x=é")]
#[case::decimal_in_bytes("decimal(9,2)", decimal_in_bytes(&[-1234, 500]), col("x").lt(lit(0)), "x=-12.34")]
#[case::few_digits(
    "decimal(12,2)", texts(DataType::Decimal128(9, 2), r#"{"x":-12.34}{"x":5}"#), col("x").lt(lit(0)), "x=-12.34"
)]
#[case::in_structures(
    "struct<a:bigint,b:int>", texts(structure(), r#"{"x":{"A":-7}}{"x":null}"#),
    col("x").is_not_null(), "x={a: -7, b: null}"
)]
#[case::in_lists(
    "array<bigint>", texts(DataType::List(Field::new("array", DataType::Int32, true).into()), r#"{"x":[7,null]}"#),
    col("x").is_not_null(), "x=[7, null]"
)]
#[tokio::test]
async fn what_fits_is_read_as_before(
    #[case] of: &str,
    #[case] content: Vec<u8>,
    #[case] filter: Expr,
    #[case] expected: &str,
) {
    let world = World::with_sales(&format!("x: {of}"), "").await;
    world.put("lake/sales/a.parquet", content);
    let read = async || -> Vec<String> {
        let ctx = world.run();
        let rows = ctx.load(sales()).await.unwrap().filter(filter.clone()).unwrap();
        crate::lake::shown(&rows.collect().await.unwrap())
    };
    assert_eq!(read().await, [expected]);
    world.migrate(false).await.unwrap();
    assert_eq!(read().await, [expected]);
}

#[tokio::test]
async fn names_differ_in_case_and_columns_are_missing() {
    let world = World::with_sales("id: bigint, name: string", "").await;
    let file = |fields: Vec<Field>, json| parquet(&files::rows(&Schema::new(fields).into(), json));
    let (id, name) = (|n| Field::new(n, DataType::Int64, true), |n| Field::new(n, DataType::Utf8, true));
    world.put("lake/sales/a.parquet", file(vec![id("ID"), name("Name")], r#"{"ID":1,"Name":"a"}"#));
    world.put("lake/sales/b.parquet", file(vec![name("NAME"), id("Id")], r#"{"NAME":"b","Id":2}"#));
    world.put("lake/sales/c.parquet", file(vec![id("id")], r#"{"id":3}"#));
    let rows = ["id=1 name=a", "id=2 name=b", "id=3 name=null"];
    assert_eq!(world.loaded().await, rows);
    world.migrate(false).await.unwrap();
    assert_eq!(world.loaded().await, rows);
}

fn with_id() -> Vec<u8> {
    let id = [(PARQUET_FIELD_ID_META_KEY.to_owned(), "1".to_owned())].into();
    let schema = Schema::new(vec![Field::new("x", DataType::Int32, true).with_metadata(id)]);
    let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    parquet(&RecordBatch::try_new(schema.into(), vec![column]).unwrap())
}

fn one_more() -> Vec<u8> {
    let schema = Schema::new(vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Int32, true)]);
    parquet(&files::rows(&schema.into(), r#"{"x":1,"y":2}"#))
}

fn twice() -> Vec<u8> {
    let schema = Schema::new(vec![Field::new("x", DataType::Int32, true), Field::new("X", DataType::Int32, true)]);
    parquet(&files::rows(&schema.into(), r#"{"x":1,"X":2}"#))
}

#[rstest]
#[case::another_type("int", texts(DataType::Utf8, r#"{"x":"7"}"#), "Utf8")]
#[case::wider("int", texts(DataType::Int64, r#"{"x":7}"#), "Int64")]
#[case::unsigned("bigint", texts(DataType::UInt32, r#"{"x":7}"#), "UInt32")]
#[case::small_unsigned("int", texts(DataType::UInt8, r#"{"x":7}"#), "UInt8")]
#[case::view("string", texts(DataType::Utf8View, r#"{"x":"a"}"#), "Utf8View")]
#[case::other_decimal("decimal(20,2)", texts(DataType::Decimal256(20, 2), r#"{"x":7}"#), "Decimal256")]
#[case::milliseconds(
    "timestamp",
    texts(DataType::Timestamp(TimeUnit::Millisecond, None), r#"{"x":"2020-01-01T00:00:00"}"#),
    "milliseconds"
)]
#[case::int96("timestamp", int96("x", 1, 1_000_000), "INT96")]
#[case::unknown_column("int", one_more(), "that the table does not have")]
#[case::other_scale("decimal(9,2)", texts(DataType::Decimal128(9, 1), r#"{"x":7}"#), "Decimal128(9, 1)")]
#[case::nanoseconds(
    "timestamp",
    texts(DataType::Timestamp(TimeUnit::Nanosecond, None), r#"{"x":"2020-01-01T00:00:00"}"#),
    "nanoseconds"
)]
#[case::in_structures("struct<a:string>", texts(structure(), r#"{"x":{"A":1}}"#), "x.a")]
#[case::in_lists("array<string>", texts(DataType::List(Field::new("item", DataType::Int32, true).into()), r#"{"x":[7]}"#), "x.element")]
#[case::no_list("array<int>", texts(DataType::Int32, r#"{"x":7}"#), "list")]
#[case::with_field_ids("int", with_id(), "field ids")]
#[case::ambiguous("int", twice(), "case")]
#[tokio::test]
async fn what_others_would_not_read_is_refused(#[case] of: &str, #[case] content: Vec<u8>, #[case] said: &str) {
    let world = World::with_sales(&format!("x: {of}"), "").await;
    world.put("lake/sales/a.parquet", content);
    let error: Error = world.migrate(false).await.unwrap_err();
    assert_eq!((error.kind(), error.get("table")), (ErrorKind::Refused, Some("lake.sales")), "{error}");
    assert!(error.get("file").unwrap().ends_with("lake/sales/a.parquet") && error.get("column").is_some());
    assert!(error.to_string().contains(said), "{error}");
    assert!(!world.table("sales").await.is_iceberg());
}

/// Readers differ in which value counts.
#[tokio::test]
async fn a_partition_key_in_a_file_is_refused() {
    let world = World::with_sales("id: bigint", "day: string").await;
    world.save(sales(), day("mon", &[1])).await;
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("Day", DataType::Utf8, true)]);
    let file = parquet(&files::rows(&schema.into(), r#"{"id":2,"Day":"tue"}"#));
    world.put("lake/sales/day=mon/other.parquet", file);
    let error = world.migrate(false).await.unwrap_err();
    assert_eq!((error.kind(), error.get("column")), (ErrorKind::Refused, Some("Day")), "{error}");
    assert!(error.get("file").unwrap().ends_with("day=mon/other.parquet"), "{error}");
}

#[tokio::test]
async fn a_file_in_two_partitions_is_refused() {
    let world = World::partitioned().await;
    world.save(sales(), day("mon", &[1])).await;
    let table = world.table("sales").await;
    let mut again = world.partitions("sales").await.remove(0);
    again.values = vec!["tue".to_owned()];
    world.catalog.add_partitions(&table, &[again]).await.unwrap();
    let error = world.migrate(true).await.unwrap_err();
    assert_eq!(error.get("partitions"), Some("day=mon, day=tue"), "{error}");
}

fn value(of: &'static str) -> impl Strategy<Value = &'static str> {
    let values = match of {
        "int" | "bigint" | "smallint" => vec!["0", "-1", "7", "007"],
        "string" => vec!["", "a", "=", "ü %/", "0"],
        "boolean" => vec!["true", "false"],
        "date" => vec!["2020-02-29", "0001-01-01"],
        "decimal(5,2)" => vec!["1.50", "-0.01"],
        "timestamp" => vec!["2020-02-29 01:02:03", "1969-12-31 23:59:59.5"],
        _ => vec!["0.5", "-2"],
    };
    prop_oneof![3 => prop::sample::select(values), 1 => Just(NULL_PARTITION)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever a table is partitioned by, its rows are the same, also those that a filter leaves.
    #[test]
    fn no_row_changes((of, values) in prop::sample::select(vec![
        "int", "bigint", "smallint", "string", "boolean", "date", "decimal(5,2)", "timestamp", "double",
    ]).prop_flat_map(|of| (Just(of), prop::collection::hash_set(value(of), 1..4)))) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let world = World::with_sales("id: bigint", &format!("k: {of}")).await;
            let table = world.table("sales").await;
            for (n, value) in values.iter().filter(|value| !value.is_empty()).enumerate() {
                let folder = format!("lake/sales/{n}");
                let rows = files::rows(&one("id", DataType::Int64), &format!(r#"{{"id":{n}}}"#));
                world.put(&format!("{folder}/a.parquet"), parquet(&rows));
                let partition = table.partition([*value], world.dir.at(&folder));
                world.catalog.add_partitions(&table, &[partition]).await.unwrap();
            }
            let read = async || {
                let mut all = vec![world.loaded().await];
                for filter in [col("k").is_null(), col("k").eq(col("k"))] {
                    let rows = world.run().load(sales()).await.unwrap().filter(filter).unwrap();
                    all.push(crate::lake::shown(&rows.collect().await.unwrap()));
                }
                all
            };
            let before = read().await;
            world.migrate(false).await.unwrap();
            assert_eq!(read().await, before);
        });
    }
}
