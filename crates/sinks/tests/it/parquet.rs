//! Parquet datasets.

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use hardtack_core::{Context, ErrorKind, JobContext, Location, Sink};
use hardtack_sinks::{Compression, ParquetDataset};
use hardtack_transforms::{Merge, merge_and_retain_last};
use parquet::file::reader::{FileReader, SerializedFileReader};
use rstest::rstest;

use crate::{context, files, read, save, sql};

#[tokio::test]
async fn append_adds_and_overwrite_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let root = Location::from(folder.path());
    let dataset = ParquetDataset::new("numbers", &root);
    save(&context("r1"), &dataset, "select 1 as n").await;
    save(&context("r2"), &dataset, "select 2 as n").await;
    assert_eq!(files(folder.path()), ["part-00000-r1.parquet", "part-00000-r2.parquet"]);

    // Files that are not ours stay.
    std::fs::write(folder.path().join("README.txt"), "").unwrap();
    std::fs::write(folder.path().join("_keep.parquet"), "").unwrap();
    save(&context("r3"), &dataset.clone().overwrite(), "select 3 as n").await;
    assert_eq!(files(folder.path()), ["README.txt", "_keep.parquet", "part-00000-r3.parquet"]);

    save(&context("r4"), &dataset.overwrite(), "select 1 as n where false").await;
    assert_eq!(files(folder.path()), ["README.txt", "_keep.parquet"], "no rows, no file");
}

#[tokio::test]
async fn an_overwrite_knows_partitions_that_look_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("numbers", Location::from(folder.path())).overwrite().partition_by(["_p"]);
    save(&context("r1"), &dataset, "select 1 as n, 'a' as _p").await;
    std::fs::create_dir(folder.path().join("_kept")).unwrap();
    std::fs::write(folder.path().join("_kept/x.parquet"), "").unwrap();
    save(&context("r2"), &dataset, "select 2 as n, 'b' as _p").await;
    assert_eq!(files(folder.path()), ["_kept/x.parquet", "_p=b/part-00000-r2.parquet"]);
}

#[tokio::test]
async fn an_overwrite_deletes_what_was_there_when_it_began_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("numbers", Location::from(folder.path())).overwrite();
    save(&context("r1"), &dataset, "select 1 as n").await;
    let ctx = context("r2");
    let staged = dataset.stage(&ctx.staging("out"), sql(&ctx, "select 2 as n").await).await.unwrap();
    // Another writer adds a file meanwhile.
    std::fs::copy(crate::only_file(folder.path(), "part-00000-r1"), folder.path().join("other.parquet")).unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(files(folder.path()), ["other.parquet", "part-00000-r2.parquet"]);
}

#[rstest]
#[tokio::test]
async fn one_file_per_partition_value_whatever_the_threads(#[values(1, 2, 8)] threads: usize) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = JobContext::builder("job").run_id("r".parse().unwrap()).threads(threads).build().unwrap();
    let dataset = ParquetDataset::new("days", Location::from(folder.path())).partition_by(["year", "city"]);
    let query = "select value as n, 2020 + value % 2 as year,
                        case value % 3 when 0 then 'a/b=c 100%' when 1 then 'München' else null end as city
                 from generate_series(1, 20000)";
    let staged = save(&ctx, &dataset, query).await;
    assert_eq!((staged.report.files, staged.report.rows), (6, 20_000));
    let mut folders: Vec<String> =
        files(folder.path()).iter().map(|f| f.rsplit_once('/').unwrap().0.to_owned()).collect();
    folders.dedup();
    insta::allow_duplicates! {
        insta::assert_snapshot!(folders.join("\n"), @r"
        year=2020/city=München
        year=2020/city=__HIVE_DEFAULT_PARTITION__
        year=2020/city=a%2Fb%3Dc 100%25
        year=2021/city=München
        year=2021/city=__HIVE_DEFAULT_PARTITION__
        year=2021/city=a%2Fb%3Dc 100%25
        ");
    }
}

#[tokio::test]
async fn a_file_is_split_at_the_target_size() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path()))
        .with_compression(Compression::Uncompressed)
        .with_target_file_bytes(1 << 20);
    let staged = save(&context("r"), &dataset, "select value as n, uuid() as u from generate_series(1, 100000)").await;
    assert!((4..=6).contains(&staged.report.files), "{} files of {} bytes", staged.report.files, staged.report.bytes);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let size = entry.unwrap().metadata().unwrap().len();
        assert!(size < 2 << 20, "{size}");
    }
    let rows = read(&context("r2"), folder.path().to_str().unwrap()).await;
    assert_eq!(rows.lines().count(), 100_000 + 4);
}

#[tokio::test]
async fn more_rows_than_the_memory_limit_holds_are_sorted_by_spilling() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = JobContext::builder("job").threads(2).memory_limit(64 << 20).build().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["day"]);
    let query = "select value % 50 as day, uuid() as a, uuid() as b from generate_series(1, 700000)";
    let staged = save(&ctx, &dataset, query).await;
    assert_eq!((staged.report.files, staged.report.rows), (50, 700_000));
    assert_eq!(ctx.session().runtime_env().memory_pool.reserved(), 0, "memory was not given back");
}

#[rstest]
#[case(Compression::Snappy, "SNAPPY")]
#[case(Compression::Zstd(9), "ZSTD(ZstdLevel(1))")] // the level is not recorded in a file
#[case(Compression::Uncompressed, "UNCOMPRESSED")]
#[tokio::test]
async fn the_file_says_how_it_was_made(#[case] compression: Compression, #[case] codec: &str) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).with_compression(compression);
    // Other engines would see a timestamp in seconds as a bare integer.
    save(&context("r7"), &dataset, "select arrow_cast(0, 'Timestamp(Second, Some(\"UTC\"))') as t").await;
    let file = std::fs::File::open(crate::only_file(folder.path(), "part-00000-r7")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let column = reader.metadata().row_group(0).column(0);
    assert_eq!(format!("{:?}", column.compression()), codec);
    let logical = format!("{:?}", column.column_descr().logical_type_ref().unwrap());
    assert_eq!(logical, "Timestamp { is_adjusted_to_u_t_c: true, unit: MILLIS }");
    let about = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let run = about.iter().find(|kv| kv.key == "hardtack.run").unwrap();
    assert_eq!(run.value.as_deref(), Some("r7"));
}

#[rstest]
#[case(ParquetDataset::new("n", "memory:/x").partition_by(["nope"]), "the partition column `nope` is not among the columns n")]
#[case(ParquetDataset::new("n", "memory:/x").partition_by(["n"]), "all columns are partition columns; a file needs at least one column")]
#[case(ParquetDataset::new("n", "memory:/x").with_compression(Compression::Zstd(99)), "99 is not a zstd level; expected 1 to 22")]
#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused(#[case] dataset: ParquetDataset, #[case] message: &str) {
    let ctx = context("r");
    let error = dataset.stage(&ctx.staging("out"), sql(&ctx, "select 1 as n").await).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, message));
}

#[tokio::test]
async fn columns_are_taken_literally() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["Odd.Name \"x\""]);
    save(&context("r"), &dataset, "select 1 as \"N\", 'v' as \"Odd.Name \"\"x\"\"\"").await;
    assert_eq!(files(folder.path()), ["Odd.Name %22x%22=v/part-00000-r.parquet"]);
}

#[tokio::test]
async fn rows_are_coerced_to_the_declared_schema_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let schema = Schema::new(vec![Field::new("n", DataType::Int32, false), Field::new("day", DataType::Date32, true)]);
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).with_schema(schema);
    save(&context("r"), &dataset, "select '2026-01-31' as day, 7 as n, 'extra' as x").await;
    insta::assert_snapshot!(read(&context("r2"), folder.path().to_str().unwrap()).await, @"
    +---+------------+
    | n | day        |
    +---+------------+
    | 7 | 2026-01-31 |
    +---+------------+
    ");

    let ctx = context("r3");
    let error =
        dataset.stage(&ctx.staging("out"), sql(&ctx, "select 'someday' as day, 7 as n").await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    insta::assert_snapshot!(error.chain(), @"a value does not fit the declared type without loss (column: day, value: someday, type: string, declared: date)");
    let error = dataset.stage(&ctx.staging("out"), sql(&ctx, "select 7 as n").await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    insta::assert_snapshot!(error.chain(), @"declared columns are missing (missing: day, columns: n)");
}

/// The rows of a merge come from a node of our own in the plan.
#[tokio::test]
async fn merged_rows_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = context("r");
    let (current, changes) = (sql(&ctx, "select 1 as n, 'a' as c").await, sql(&ctx, "select 1 as n, 'b' as c").await);
    let merged = merge_and_retain_last(current, changes, &Merge::on(&["n"])).unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["n"]);
    let staged = dataset.stage(&ctx.staging("out"), merged).await.unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    assert_eq!(read(&ctx, folder.path().to_str().unwrap()).await, "+---+\n| c |\n+---+\n| b |\n+---+");
}

/// It has files that its metadata names; others would not be part of it, and might replace them.
#[rstest]
#[case::append("metadata", |d: ParquetDataset| d)]
#[case::overwrite("metadata", ParquetDataset::overwrite)]
#[case::overwrite_partitions("metadata", |d: ParquetDataset| d.partition_by(["n"]).overwrite_partitions())]
#[case::migrated("_iceberg/metadata", ParquetDataset::overwrite)]
#[tokio::test]
async fn the_folder_of_an_iceberg_table_is_refused(
    #[case] place: &str,
    #[case] how: fn(ParquetDataset) -> ParquetDataset,
) {
    let folder = tempfile::tempdir().unwrap();
    let metadata = folder.path().join(place);
    std::fs::create_dir_all(&metadata).unwrap();
    std::fs::write(metadata.join("00001-x.metadata.json"), "{}").unwrap();
    let sink = how(ParquetDataset::new("numbers", folder.path()));
    let ctx = context("r1");
    let before = files(folder.path());
    let error = sink.stage(&ctx.staging("out"), sql(&ctx, "select 1 as n, 2 as m").await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.get("metadata").unwrap().ends_with("00001-x.metadata.json"), "{error}");
    let compacted = ParquetDataset::new("numbers", folder.path()).compact(&Context::new((), context("r2"))).await;
    let error = compacted.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(files(folder.path()), before);
}
