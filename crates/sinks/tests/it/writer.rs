//! The partitioned writer: its guarantees about files, duplicates, memory and order, for any number of threads.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray, StringViewArray,
    UInt32Array,
};
use datafusion::arrow::datatypes::{DataType, Int64Type, UInt32Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{DataFrame, col};
use hardtack_core::{ErrorKind, JobContext, Location, Sink};
use hardtack_sinks::{Compression, ParquetDataset, SortColumn, Statistics};
use hardtack_transforms::drop_duplicates;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;
use rstest::rstest;

use crate::{context, files, read, save, sql};

fn limited(threads: usize, bytes: usize) -> JobContext {
    JobContext::builder("job").run_id("r".parse().unwrap()).threads(threads).memory_limit(bytes).build().unwrap()
}

async fn save_frame(ctx: &JobContext, sink: &ParquetDataset, rows: DataFrame) -> u64 {
    let staged = sink.stage(&ctx.staging("out"), rows).await.unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    staged.report.rows
}

fn folders(root: &Path) -> (usize, BTreeSet<String>) {
    let all = files(root);
    (all.len(), all.iter().map(|f| f.rsplit_once('/').unwrap().0.to_owned()).collect())
}

/// The rows of a dataset, with partition columns from folder names, one line each, sorted.
async fn rows_of(root: &Path, partition: &str, query: &str) -> Vec<String> {
    let ctx = context("reader");
    let options = datafusion::prelude::ParquetReadOptions::default()
        .table_partition_cols(vec![(partition.to_owned(), DataType::Utf8)]);
    ctx.session().register_parquet("t", root.to_str().unwrap(), options).await.unwrap();
    lines(&sql(&ctx, query).await.collect().await.unwrap())
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let cells = |line: &str| line.split('|').map(str::trim).collect::<Vec<_>>().join("|");
    let mut lines: Vec<String> = text.lines().skip(3).filter(|l| l.starts_with('|')).map(cells).collect();
    lines.sort();
    lines
}

const VISITS: &str = "select value % 997 as patient, cast(value % 37 as int) as day, 'unit ' || (value % 5) as unit,
                             case when value % 11 = 0 then null else repeat('text ', cast(value % 7 as int)) end as note
                      from generate_series(1, 40000)";

#[rstest]
#[tokio::test]
async fn duplicates_are_dropped_in_the_partition_and_nothing_else_is(
    #[values(1, 2, 8)] threads: usize,
    #[values(None, Some(2 << 20))] memory: Option<usize>,
) {
    let folder = tempfile::tempdir().unwrap();
    let mut ctx = JobContext::builder("job").run_id("r".parse().unwrap()).threads(threads);
    if let Some(bytes) = memory {
        ctx = ctx.memory_limit(bytes * threads);
    }
    let ctx = ctx.build().unwrap();
    let visits = sql(&ctx, VISITS).await;
    let twice = visits.clone().union(visits).unwrap();
    let rows = drop_duplicates(twice.clone(), &[]).unwrap();
    let rows = rows.with_column("part", col("day") % datafusion::prelude::lit(10)).unwrap();
    let dataset = ParquetDataset::new("visits", Location::from(folder.path())).partition_by(["part"]);
    let staged = dataset.stage(&ctx.staging("out"), rows).await.unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    let wanted = sql(&context("w"), &format!("select distinct * from ({VISITS})")).await;
    let wanted = wanted.with_column("part", col("day") % datafusion::prelude::lit(10)).unwrap();
    let wanted = wanted.select_columns(&["patient", "day", "unit", "note", "part"]).unwrap();
    assert_eq!(folders(folder.path()).0, 10);
    assert_eq!(
        rows_of(folder.path(), "part", "select patient, day, unit, note, cast(part as int) as part from t").await,
        lines(&wanted.collect().await.unwrap())
    );
    assert_eq!(ctx.session().runtime_env().memory_pool.reserved(), 0, "memory was not given back");
}

/// Zero and NaN are single values, whether or not the distinct is moved into the partitions, and even if the partition
/// distinguishes them.
#[rstest]
#[case("select *, a % 2 as p from (select distinct f, a from t)")]
#[case("select *, cast(f as varchar) as p from (select distinct f, a from t)")]
#[case("select *, cast(row_number() over () as varchar) as p from (select distinct f, a from t)")]
#[tokio::test]
async fn numbers_that_are_equal_are_written_once(#[case] query: &str) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = context("r");
    let number = "case value % 5 when 0 then 0e0 when 1 then -0e0 when 2 then cast('NaN' as double) when 3 then -cast('NaN' as double) else 1.5 end";
    sql(&ctx, &format!("create table t as select {number} as f, value % 2 as a from generate_series(1, 100)")).await;
    let dataset = ParquetDataset::new("out", Location::from(folder.path())).partition_by(["p"]);
    assert_eq!(save_frame(&ctx, &dataset, sql(&ctx, query).await).await, 6);
}

/// Holds whether or not the distinct can be moved into the partitions. (`parquet::tests::rows_come_together` shows the
/// plans.)
#[rstest]
#[case("select *, a % 3 as p from (select distinct a, b from t)")]
#[case("select b, p from (select *, a % 3 as p from (select distinct a, b from t where a > 0)) where b <> 'x'")]
#[case("select *, cast(random() * 3 as int) as p from (select distinct a, b from t)")]
#[case("select *, row_number() over () as p from (select distinct a, b from t)")]
#[case("select a % 3 as p, max(b) as b from t group by a")]
#[tokio::test]
async fn what_is_written_is_what_the_query_says(#[case] query: &str) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = context("r");
    sql(
        &ctx,
        "create table t as select cast(value % 50 as int) as a, 'b' || (value % 2) as b from generate_series(1, 500)",
    )
    .await;
    let dataset = ParquetDataset::new("out", Location::from(folder.path())).partition_by(["p"]);
    let rows = sql(&ctx, query).await;
    let written = save_frame(&ctx, &dataset, rows.clone()).await;
    assert_eq!(written, rows.count().await.unwrap() as u64);
}

#[rstest]
#[tokio::test]
async fn a_partition_with_most_rows_is_one_file(#[values(1, 2, 8)] threads: usize) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = JobContext::builder("job").run_id("r".parse().unwrap()).threads(threads).build().unwrap();
    let dataset =
        ParquetDataset::new("skewed", Location::from(folder.path())).partition_by(["p"]).with_row_group_rows(10_000);
    let query = "select value as n, uuid() as u, case when value % 10 = 0 then value % 50 else 1 end as p
                 from generate_series(1, 100000)";
    let staged = save(&ctx, &dataset, query).await;
    assert_eq!((staged.report.files, staged.report.rows), (6, 100_000));
    let counts = rows_of(folder.path(), "p", "select p, count(*), count(distinct n) from t group by p").await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(counts.join("\n"), @"
        |0|2000|2000|
        |10|2000|2000|
        |1|90000|90000|
        |20|2000|2000|
        |30|2000|2000|
        |40|2000|2000|
        ");
    }
    let large = files(folder.path()).into_iter().find(|f| f.starts_with("p=1/")).unwrap();
    let large =
        crate::only_file(&folder.path().join("p=1"), large.strip_prefix("p=1/").unwrap().trim_end_matches(".parquet"));
    let metadata = SerializedFileReader::new(std::fs::File::open(large).unwrap()).unwrap();
    let rows: Vec<i64> = metadata.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(rows, [10_000; 9]);
}

/// Row groups are encoded in pieces of some MB. These rows take 40 MB.
#[rstest]
#[case::one_row_group(None, vec![400_000])]
#[case::several(Some(150_000), vec![150_000, 150_000, 100_000])]
#[tokio::test]
async fn a_row_group_of_several_pieces_holds_the_rows_in_order(
    #[case] row_group_rows: Option<usize>,
    #[case] expected: Vec<i64>,
    #[values(1, 8)] threads: usize,
) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("out", Location::from(folder.path())).sorted_by(["n"]);
    let dataset = row_group_rows.into_iter().fold(dataset, ParquetDataset::with_row_group_rows);
    let query = "select value as n, named_struct('u', uuid(), 'l', [value, -value]) as s, value % 3 as m
                 from generate_series(1, 400000)";
    let ctx = JobContext::builder("job").run_id("r".parse().unwrap()).threads(threads).build().unwrap();
    save(&ctx, &dataset, query).await;
    let file = std::fs::File::open(crate::only_file(folder.path(), "part")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let groups = reader.metadata().row_groups().iter();
    assert_eq!(groups.map(|group| group.num_rows()).collect::<Vec<_>>(), expected);
    let mut next = 1..;
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let (n, s) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_struct());
        let l = s.column(1).as_list::<i32>();
        assert_eq!(s.column(0).null_count(), 0);
        for (i, n) in n.values().iter().enumerate() {
            assert_eq!(
                (Some(*n), l.value(i).as_primitive::<Int64Type>().values().as_ref()),
                (next.next(), &[*n, -n][..])
            );
        }
    }
    assert_eq!(next.next(), Some(400_001));
}

/// A row group ends early where the rest of it would not fit into the file.
#[tokio::test]
async fn files_of_several_row_groups_have_the_target_size() {
    const TARGET: u64 = 18 << 20;
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("out", Location::from(folder.path()))
        .with_compression(Compression::Uncompressed)
        .without_dictionary(["u"])
        .with_target_file_bytes(TARGET)
        .with_row_group_rows(200_000);
    let query = "select uuid() as u, value as n from generate_series(1, 900000)";
    let staged = save(&context("r"), &dataset, query).await;
    let mut found: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let sizes: Vec<u64> = found.iter().map(|path| path.metadata().unwrap().len()).collect();
    assert_eq!((staged.report.files, staged.report.rows), (sizes.len() as u64, 900_000));
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.len() > 1 && full.iter().all(|size| (TARGET * 3 / 4..=TARGET).contains(size)), "{sizes:?}");
    assert!(*last <= TARGET, "{sizes:?}");
    // What did not fit begins the first row group of the next file, and is not one of its own.
    for path in &found[..found.len() - 1] {
        let file = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        assert_eq!(file.metadata().row_group(0).num_rows(), 200_000, "{}", path.display());
    }
    let rows = rows_of(folder.path(), "p", "select count(*), count(distinct n), min(n), max(n) from t").await;
    assert_eq!(rows, ["|900000|900000|1|900000|"]);
}

/// They are 64 MB in memory, and next to nothing once they are encoded.
#[tokio::test]
async fn rows_do_not_wait_for_their_row_group() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("out", Location::from(folder.path()));
    let query = "select repeat('text ', 30 + cast(value % 2 as int)) as t from generate_series(1, 400000)";
    let staged = save(&limited(1, 40 << 20), &dataset, query).await;
    assert_eq!(staged.report.rows, 400_000);
    let file = std::fs::File::open(crate::only_file(folder.path(), "part")).unwrap();
    let groups = SerializedFileReader::new(file).unwrap().metadata().row_groups().len();
    assert_eq!(groups, 1, "it ended early, because memory was short");
}

#[tokio::test]
async fn a_skewed_partition_is_split_at_the_target_size_into_files_with_names_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = JobContext::builder("job").run_id("r".parse().unwrap()).threads(4).build().unwrap();
    let dataset = ParquetDataset::new("skewed", Location::from(folder.path()))
        .partition_by(["p"])
        .with_compression(Compression::Uncompressed)
        .with_target_file_bytes(400_000);
    let query =
        "select uuid() as u, case when value % 10 = 0 then 'few' else 'many' end as p from generate_series(1, 50000)";
    let staged = save(&ctx, &dataset, query).await;
    let names = files(folder.path());
    let many: Vec<&String> = names.iter().filter(|n| n.starts_with("p=many/")).collect();
    assert!(many.len() > 3, "{names:?}");
    for (i, name) in many.iter().enumerate() {
        assert_eq!(**name, format!("p=many/part-{i:05}-r.parquet"));
    }
    for entry in std::fs::read_dir(folder.path().join("p=many")).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= 460_000, "larger than the target");
    }
    assert_eq!(staged.report.rows, 50_000);
}

#[tokio::test]
async fn an_empty_text_and_null_are_one_partition_and_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["a", "b"]);
    save(
        &context("r"),
        &dataset,
        "select * from (values (1, '', 1), (2, null, 1), (3, '', 2), (4, null, 2)) as t(n, a, b)",
    )
    .await;
    insta::assert_snapshot!(files(folder.path()).join("\n"), @"
    a=__HIVE_DEFAULT_PARTITION__/b=1/part-00000-r.parquet
    a=__HIVE_DEFAULT_PARTITION__/b=2/part-00000-r.parquet
    ");
}

/// Holds whether they arrive in several streams or in one that a plan may split, such as the scan of one file.
#[rstest]
#[tokio::test]
async fn rows_are_sorted_within_files_and_the_files_say_so(
    #[values(1, 2, 8)] threads: usize,
    #[values(false, true)] in_memory: bool,
) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = JobContext::builder("job").run_id("r".parse().unwrap()).threads(threads).build().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["p"]).sorted_by(["a", "b"]);
    let query = "select 1000 + (value * 7919) % 1000 as a, 'b' || (value % 3) as b, value % 4 as p from generate_series(1, 20000)";
    let mut rows = sql(&ctx, query).await;
    if in_memory {
        rows = ctx.session().read_batches(rows.collect().await.unwrap()).unwrap();
    }
    save_frame(&ctx, &dataset, rows).await;
    assert_eq!(folders(folder.path()).0, 4);
    for p in 0..4 {
        let file = crate::only_file(&folder.path().join(format!("p={p}")), "part");
        let reader = SerializedFileReader::new(std::fs::File::open(&file).unwrap()).unwrap();
        let sorting = reader.metadata().row_group(0).sorting_columns().unwrap();
        assert_eq!(sorting.iter().map(|c| c.column_idx).collect::<Vec<_>>(), [0, 1]);
        let ctx = context("reader");
        let rows = ctx.session().read_parquet(file.to_str().unwrap(), Default::default()).await.unwrap();
        let rows = rows.collect().await.unwrap();
        let pairs: Vec<String> =
            pretty_format_batches(&rows).unwrap().to_string().lines().skip(3).map(str::to_owned).collect();
        assert!(pairs[..5000].is_sorted(), "p={p}");
    }
}

#[rstest]
#[tokio::test]
async fn rows_are_sorted_by_what_files_do_not_have(#[values(&[], &["p"])] partitions: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path()))
        .partition_by(partitions.iter().copied())
        .sorted_by([SortColumn::desc("key"), "a".into()])
        .omit_columns(["key"]);
    let query = "select value as a, 'x' as p, value % 3 as key from generate_series(1, 6)";
    save(&context("r"), &dataset, query).await;
    let place = if partitions.is_empty() { folder.path().to_owned() } else { folder.path().join("p=x") };
    let file = crate::only_file(&place, "part");
    let reader = SerializedFileReader::new(std::fs::File::open(&file).unwrap()).unwrap();
    // Readers would take them for columns of the file.
    assert_eq!(reader.metadata().row_group(0).sorting_columns(), None);
    let rows = context("reader").session().read_parquet(file.to_str().unwrap(), Default::default()).await.unwrap();
    assert!(rows.schema().fields().iter().all(|field| field.name() != "key"));
    let rows = rows.select_columns(&["a"]).unwrap().collect().await.unwrap();
    let values = rows[0].column(0).as_primitive::<Int64Type>().values();
    assert_eq!(values, &[2, 5, 1, 4, 3, 6]);

    let ctx = context("r");
    let wrong = dataset.omit_columns(["kye"]).stage(&ctx.staging("out"), sql(&ctx, query).await).await.unwrap_err();
    assert_eq!(wrong.message(), "the column `kye` of `omit_columns` is not among the columns a, p, key");
}

#[tokio::test]
async fn the_layout_is_as_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path()))
        .partition_by(["p"])
        .keep_partition_columns()
        .with_bloom_filters(["u"])
        .without_dictionary(["u"])
        .with_statistics(Statistics::RowGroup)
        .with_row_group_rows(15_000);
    save(&context("r"), &dataset, "select uuid() as u, 'x' as p from generate_series(1, 40000)").await;
    let file = std::fs::File::open(crate::only_file(&folder.path().join("p=x"), "part")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let groups = reader.metadata().row_groups();
    assert_eq!(groups.iter().map(|g| g.num_rows()).collect::<Vec<_>>(), [15_000, 15_000, 10_000]);
    let (u, p) = (groups[0].column(0), groups[0].column(1));
    assert_eq!((u.column_path().string(), p.column_path().string()), ("u".to_owned(), "p".to_owned()));
    assert!(u.bloom_filter_offset().is_some() && p.bloom_filter_offset().is_none());
    assert!(u.dictionary_page_offset().is_none() && p.dictionary_page_offset().is_some());
    assert!(u.statistics().is_some() && u.column_index_offset().is_none());

    // In a file of few rows a dictionary takes more space than it saves.
    for (rows, has_dictionary) in [(63, false), (64, true)] {
        let rows_of = format!("select uuid() as u, '{rows}' as p from generate_series(1, {rows})");
        save(&context(&format!("r{rows}")), &dataset, &rows_of).await;
        let file = std::fs::File::open(crate::only_file(&folder.path().join(format!("p={rows}")), "part")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let p = reader.metadata().row_group(0).column(1);
        assert_eq!(p.dictionary_page_offset().is_some(), has_dictionary, "{rows}");
        assert_eq!((p.num_values(), p.statistics().is_some()), (rows, true));
    }

    let none = dataset.clone().with_statistics(Statistics::None);
    save(&context("r2"), &none, "select uuid() as u, 'y' as p").await;
    let file = std::fs::File::open(crate::only_file(&folder.path().join("p=y"), "part")).unwrap();
    assert!(SerializedFileReader::new(file).unwrap().metadata().row_group(0).column(0).statistics().is_none());
}

#[rstest]
#[case(ParquetDataset::new("n", "memory:/x").sorted_by(["nope"]), "the column `nope` of `sorted_by` is not among the columns n, l")]
#[case(ParquetDataset::new("n", "memory:/x").with_bloom_filters(["l"]), "the column `l` of `with_bloom_filters` is nested (List(Int64))")]
#[case(ParquetDataset::new("n", "memory:/x").without_dictionary(["x"]), "the column `x` of `without_dictionary` is not among the columns n, l")]
#[tokio::test]
async fn a_layout_that_cannot_be_is_refused(#[case] dataset: ParquetDataset, #[case] message: &str) {
    let ctx = context("r");
    let error = dataset.stage(&ctx.staging("out"), sql(&ctx, "select 1 as n, [1] as l").await).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, message));
}

#[tokio::test]
async fn moments_that_share_a_name_are_refused_as_partitions() {
    let ctx = context("r");
    let zoned = "select 1 as n, arrow_cast(0, 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))') as t";
    let dataset = ParquetDataset::new("n", "memory:/x").partition_by(["t"]);
    let error = dataset.stage(&ctx.staging("out"), sql(&ctx, zoned).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let utc = zoned.replace("Europe/Berlin", "UTC");
    assert!(dataset.stage(&ctx.staging("out"), sql(&ctx, &utc).await).await.is_ok());
}

#[tokio::test]
async fn a_partition_larger_than_memory_loses_its_duplicates_too() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = limited(2, 64 << 20);
    let query = "select repeat(md5(cast(value % 200000 as varchar)), 4) as a, repeat(md5(cast(value % 200000 + 1 as varchar)), 3) as b, 1 as p
                 from generate_series(1, 400001)";
    // One row occurs three times, so that other duplicates are split by the end of a batch.
    let rows = drop_duplicates(sql(&ctx, query).await, &[]).unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["p"]);
    assert_eq!(save_frame(&ctx, &dataset, rows).await, 200_000);
    let counts = rows_of(folder.path(), "p", "select count(*), count(distinct a) from t").await;
    assert_eq!(counts, ["|200000|200000|"]);
    assert_eq!(ctx.session().runtime_env().memory_pool.reserved(), 0);
}

/// Among this many rows some have equal hashes.
#[rstest]
#[case::numbers("value as n")]
#[case::texts_that_repeat("'a' || (value % 1000) as a, 'b' || cast(value / 1000 as int) as b")]
#[tokio::test]
async fn rows_are_compared_and_not_only_their_hashes(#[case] columns: &str) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = context("r");
    let rows = sql(&ctx, &format!("select {columns}, 1 as p from generate_series(1, 300000)")).await;
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["p"]);
    assert_eq!(save_frame(&ctx, &dataset, drop_duplicates(rows, &[]).unwrap()).await, 300_000);
}

#[tokio::test]
async fn ten_thousand_partitions_take_no_more_memory_than_ten() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = limited(2, 32 << 20);
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["p"]);
    let query = "select value as n, uuid() as u, value % 10000 as p from generate_series(1, 300000)";
    let staged = save(&ctx, &dataset, query).await;
    assert_eq!((staged.report.files, staged.report.rows), (10_000, 300_000));
    let counts =
        rows_of(folder.path(), "p", "select min(c), max(c) from (select p, count(*) as c from t group by p)").await;
    assert_eq!(counts, ["|30|30|"]);
}

#[tokio::test]
async fn a_disk_that_is_full_is_said_to_be_and_nothing_is_published() {
    // `/dev/full` cannot be used, because files are staged next to their targets. A read-only folder stands in for it
    // here; the jobs' end-to-end tests fill a real file system.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in the way"), "").unwrap();
    let ctx = context("r");
    let dataset = ParquetDataset::new("n", Location::from(folder.path()).join("in the way/x")).partition_by(["p"]);
    let error = dataset
        .stage(&ctx.staging("out"), sql(&ctx, "select 1 as n, value as p from generate_series(1, 9)").await)
        .await
        .unwrap_err();
    let named = ["target", "path", "location"].iter().any(|key| error.get(key).is_some());
    assert!(named, "{}", error.chain());
}

/// Columns of the types that rows are compared by, with nulls, NaNs and both zeros.
fn batch(rows: &[(u8, Option<u8>, Option<u8>)]) -> RecordBatch {
    let float = |n: u8| [0.0, -0.0, f64::NAN, 1.5][n as usize % 4];
    let text = |n: &Option<u8>| n.map(|n| "ab".repeat(n as usize % 9 + 1));
    RecordBatch::try_from_iter([
        ("p", Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| i32::from(r.0 % 3)))) as ArrayRef),
        ("f", Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.1.map(float))))),
        ("s", Arc::new(StringArray::from_iter(rows.iter().map(|r| text(&r.1))))),
        ("v", Arc::new(StringViewArray::from_iter(rows.iter().map(|r| text(&r.2))))),
    ])
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn in_the_partition_or_not_the_same_rows_are_kept(
        rows in prop::collection::vec((0_u8..9, prop::option::of(0_u8..4), prop::option::of(0_u8..3)), 0..200),
        threads in 1_usize..4,
        batches in 1_usize..5,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let ctx = JobContext::builder("job").threads(threads).build().unwrap();
            let all = batch(&rows);
            let size = rows.len().div_ceil(batches).max(1);
            let parts = (0..rows.len()).step_by(size).map(|i| all.slice(i, size.min(rows.len() - i))).collect::<Vec<_>>();
            let parts = if parts.is_empty() { vec![all.clone()] } else { parts };
            let frame = ctx.session().read_batches(parts).unwrap();
            let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["p"]);
            let written = save_frame(&ctx, &dataset, drop_duplicates(frame, &[]).unwrap()).await;
            // Zero and NaN are single values, as in SQL.
            let one_zero = |line: String| line.replace("|-0.0|", "|0.0|");
            let distinct: BTreeSet<String> = lines(&[all]).into_iter().map(one_zero).collect();
            assert_eq!(written, distinct.len() as u64);
            if written > 0 {
                let found = rows_of(folder.path(), "p", "select cast(p as int) as p, f, s, v from t").await;
                assert_eq!(found, distinct.into_iter().collect::<Vec<_>>());
            }
        });
    }
}

#[tokio::test]
async fn what_is_read_back_is_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = ParquetDataset::new("n", Location::from(folder.path())).partition_by(["day"]);
    let query = "select cast(1.5 as decimal(9, 2)) as d, date '2024-02-29' as day, interval '1' day is null as b,
                        arrow_cast(1700000000123456, 'Timestamp(Microsecond, Some(\"UTC\"))') as utc,
                        arrow_cast('view', 'Utf8View') as v, [1, null] as l, {'x': 1, 'y': 'z'} as s";
    save(&context("r"), &dataset, query).await;
    insta::assert_snapshot!(read(&context("r2"), folder.path().join("day=2024-02-29").to_str().unwrap()).await, @"
    +------+-------+-----------------------------+------+-------+--------------+
    | d    | b     | utc                         | v    | l     | s            |
    +------+-------+-----------------------------+------+-------+--------------+
    | 1.50 | false | 2023-11-14T22:13:20.123456Z | view | [1, ] | {x: 1, y: z} |
    +------+-------+-----------------------------+------+-------+--------------+
    ");
}

/// Dictionaries that differ from batch to batch, of the type that the writer uses internally, with nulls among their
/// values; in memory and spilled.
#[rstest]
#[tokio::test]
async fn dictionaries_come_back_as_their_values(#[values(None, Some(1 << 20))] memory: Option<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = memory.map_or_else(|| context("job"), |bytes| limited(1, bytes));
    let batch = |n: u32| {
        let values = StringArray::from(vec![Some(format!("text {n}")), None, Some("y".repeat(200))]);
        let numbers = UInt32Array::from_iter((0..4000).map(|i| (i % 4 < 3).then_some(i % 4)));
        let texts: ArrayRef = Arc::new(DictionaryArray::<UInt32Type>::new(numbers, Arc::new(values)));
        let days: ArrayRef = Arc::new(Int32Array::from_iter_values((0..4000).map(|i| i % 7)));
        RecordBatch::try_from_iter_with_nullable([("day", days, true), ("text", texts, true)]).unwrap()
    };
    let rows = ctx.session().read_batches((0..20).map(batch)).unwrap();
    let sink = ParquetDataset::new("d", folder.path().to_str().unwrap()).partition_by(["day"]);
    assert_eq!(save_frame(&ctx, &sink, rows).await, 80_000);
    let query =
        "select text is null as missing, length(text) as length, count(*) as n from t group by 1, 2 order by 1, 2";
    assert_eq!(
        rows_of(folder.path(), "day", query).await,
        ["|false|200|20000|", "|false|6|10000|", "|false|7|10000|", "|true||40000|"]
    );
}
