//! Compaction: rows stay, files become few, and files that need no compaction are left alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::prelude::ParquetReadOptions;
use futures::TryStreamExt;
use hardtack_core::actions::{DiscardAction, Journal, MemoryJournal};
use hardtack_core::publish::discard;
use hardtack_core::{Context, ErrorKind, JobContext, Location, Staged, StagingIo};
use hardtack_sinks::{Compression, ParquetDataset, SortColumn};
use parquet::file::metadata::SortingColumn;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;
use rstest::rstest;

use crate::{context, files, save, table};

/// Stages a compaction, without committing it.
async fn stage(dataset: &ParquetDataset, run: &str, threads: usize) -> (JobContext, Staged) {
    let io = Arc::new(StagingIo::default());
    let ctx = JobContext::builder("c").run_id(run.parse().unwrap()).threads(threads).io(io.clone()).build().unwrap();
    dataset.compact(&Context::new((), ctx.clone())).await.unwrap();
    let staged = io.staged().remove(0).staged;
    (ctx, staged)
}

async fn compact(dataset: &ParquetDataset, run: &str) -> Staged {
    let (ctx, staged) = stage(dataset, run, 2).await;
    ctx.publish(&staged.publish).await.unwrap();
    staged
}

fn plain(folder: &Path) -> ParquetDataset {
    ParquetDataset::new("d", Location::from(folder))
}

/// The rows as a fresh session sees them, with partition columns from folder names.
async fn rows(folder: &Path) -> String {
    let partitioned = files(folder).iter().any(|name| name.contains('='));
    let keys = partitioned.then(|| ("p".to_owned(), DataType::Utf8)).into_iter().collect();
    let options = ParquetReadOptions::default().table_partition_cols(keys);
    let rows = context("reader").session().read_parquet(folder.to_str().unwrap(), options).await.unwrap();
    let table = table(&rows.collect().await.unwrap());
    let mut lines: Vec<_> = table.lines().skip(3).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn about(file: &Path) -> BTreeMap<String, String> {
    let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
    let notes = reader.metadata().file_metadata().key_value_metadata().unwrap();
    notes.iter().map(|note| (note.key.clone(), note.value.clone().unwrap())).collect()
}

const TYPES: &str = "value as n, case when value % 3 = 0 then null else 'x' || value end as s,
    named_struct('a', value % 2, 'b', [value, null]) as t, map([value], [value + 1]) as m,
    cast(value as decimal(20, 4)) / 7 as d, arrow_cast(value, 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))') as z,
    arrow_cast('b' || (value % 2), 'Dictionary(Int32, Utf8)') as c, cast(null as date) as never";

#[rstest]
#[tokio::test]
async fn rows_stay_and_files_become_one(
    #[values(1, 2, 8)] threads: usize,
    #[values("'a/b = 100% {ü}'", "null", "'.. .'", "cast(value % 3 as int)")] p: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = plain(folder.path()).partition_by(["p"]).sorted_by(["n"]);
    let query = |p: &str| format!("select {p} as p, {TYPES} from generate_series(1, 20)");
    for run in ["r1", "r2", "r3"] {
        save(&context(run), &dataset, &query(p)).await;
    }
    save(&context("alone"), &dataset, &query("'left alone'")).await;
    let before = rows(folder.path()).await;
    let (writer, staged) = stage(&dataset, "c1", threads).await;
    assert_eq!(rows(folder.path()).await, before, "seen before it was published");
    // A file is added before publishing.
    save(&context("late"), &dataset, &query("'late'")).await;
    writer.publish(&staged.publish).await.unwrap();
    writer.publish(&staged.publish).await.unwrap();

    let left = files(folder.path());
    assert!(left.contains(&"p=late/part-00000-late.parquet".to_owned()), "{left:?}");
    assert!(left.contains(&"p=left alone/part-00000-alone.parquet".to_owned()), "{left:?}");
    let partitions = if p.starts_with("cast") { 3 } else { 1 };
    assert_eq!((left.len(), staged.report.files, staged.report.rows), (partitions + 2, partitions as u64, 60));
    std::fs::remove_dir_all(folder.path().join("p=late")).unwrap();
    assert_eq!(rows(folder.path()).await, before);
    assert_eq!(stage(&dataset, "c2", threads).await.1, Staged::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// For any files: rows stay, there are as many files as their size requires, none is far larger than the target,
    /// and a second compaction does nothing.
    #[test]
    fn any_files_hold_the_same_rows_afterwards(
        sizes in proptest::collection::vec((0_u32..1500, 0_u32..3), 1..9),
        target in 2_000_u64..60_000,
        row_group_rows in 50_usize..2000,
    ) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let dataset = plain(folder.path()).partition_by(["p"]).with_compression(Compression::Uncompressed);
            let query = |rows: u32, p: u32| format!(
                "select value % 40 as n, sha256(cast(value as string)) as s, {p} as p from generate_series(1, {rows})"
            );
            for (i, (rows, p)) in sizes.iter().enumerate() {
                save(&context(&format!("r{i}")), &dataset, &query(*rows, *p)).await;
            }
            if sizes.iter().all(|(rows, _)| *rows == 0) {
                return Ok(());
            }
            let before = rows(folder.path()).await;
            let small = dataset.with_target_file_bytes(target).with_row_group_rows(row_group_rows);
            let planned = small.small_files(&context("plan")).await.unwrap();
            let staged = compact(&small, "c1").await;
            prop_assert_eq!(rows(folder.path()).await, before);
            let deleted = staged.publish.len() as u64 - staged.report.files;
            prop_assert_eq!(deleted, planned.iter().map(|f| f.files).sum::<u64>());
            for files in &planned {
                let left = std::fs::read_dir(files.folder.as_str()).unwrap().map(|e| e.unwrap().path());
                let new: Vec<u64> = left.filter(|f| f.to_str().unwrap().contains("-c1-"))
                    .map(|f| f.metadata().unwrap().len()).collect();
                // With large row groups a file may be closed half full; footers add to the size.
                prop_assert!(new.len() as u64 <= 2 * files.bytes.div_ceil(target), "{:?} from {:?}", new, files);
                // The size of a row group is estimated from the previous one, in which more values may have repeated.
                let row_group = 40 * row_group_rows as u64;
                prop_assert!(new.iter().all(|size| *size < target + row_group + 6_000), "{:?}", new);
            }
            prop_assert_eq!(stage(&small, "c2", 2).await.1, Staged::default());
            prop_assert_eq!(small.small_files(&context("plan")).await.unwrap(), []);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn files_of_about_the_target_size_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(stage(&plain(folder.path()), "c", 2).await.1, Staged::default(), "there is no file");
    let query = "select uuid() as u from generate_series(1, 4000)";
    let save_as = async |run: &str| save(&context(run), &plain(folder.path()), query).await.report.bytes;
    let size = save_as("r1").await;
    for run in ["r2", "r3", "r4", "r5"] {
        save_as(run).await;
    }
    let sized = |target| plain(folder.path()).with_target_file_bytes(target).with_row_group_rows(1000);
    assert_eq!(stage(&sized(size), "c1", 2).await.1.publish, [], "they are that large");
    assert_eq!(stage(&sized(size * 10 / 8), "c2", 2).await.1.publish, [], "three quarters are enough");
    let staged = compact(&sized(size * 3), "c3").await;
    assert_eq!((staged.report.files, staged.report.rows), (2, 20_000));
    let files = || std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path());
    let full: Vec<_> = files().filter(|f| about(f).contains_key("hardtack.full_at")).collect();
    assert_eq!(full.len(), 1, "all but the last are full");
    assert_eq!(stage(&sized(size * 3), "c4", 2).await.1.publish, []);
    // New rows are merged into the file that is not full; the other is not touched.
    save_as("r6").await;
    let staged = compact(&sized(size * 3), "c5").await;
    assert_eq!((staged.report.files, staged.report.rows < 20_000), (1, true));
    assert!(full[0].exists());
}

#[tokio::test]
async fn a_store_with_uploads_is_compacted_as_well() {
    let first = context("r1");
    let run = |run: &str| JobContext::builder("job").share(&first).run_id(run.parse().unwrap());
    let dataset = ParquetDataset::new("d", "memory:/lake/d").partition_by(["p"]);
    for name in ["r1", "r2", "r3"] {
        save(&run(name).build().unwrap(), &dataset, "select 1 as n, 'a b/c' as p").await;
    }
    let io = Arc::new(StagingIo::default());
    let ctx = run("c1").io(io.clone()).build().unwrap();
    dataset.compact(&Context::new((), ctx.clone())).await.unwrap();
    ctx.publish(&io.staged()[0].staged.publish).await.unwrap();
    let (store, root) = ctx.stores().open(&"memory:/lake".into()).unwrap();
    let left: Vec<_> = store.objects.list(Some(&root)).try_collect().await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].location.as_ref().starts_with("lake/d/p=a b%2Fc/compacted-00000-c1-"), "{left:?}");
    assert_eq!(io.staged()[0].staged.report.rows, 3);
}

#[tokio::test]
async fn columns_are_united_or_refused_and_what_is_discarded_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let plain = plain(folder.path());
    save(&context("r1"), &plain, "select cast(1 as int) as a, 'x' as s, named_struct('i', 1) as t").await;
    let query = "select arrow_cast('y', 'LargeUtf8') as s, 2.5 as b, 7 as a, named_struct('j', 2, 'i', null) as t";
    save(&context("r2"), &plain, query).await;
    let before = files(folder.path());
    let (io, journal) = (Arc::new(StagingIo::default()), Arc::new(MemoryJournal::default()));
    let ctx = JobContext::builder("c").io(io.clone()).journal(journal.clone()).build().unwrap();
    plain.compact(&Context::new((), ctx.clone())).await.unwrap();
    assert_ne!(files(folder.path()), before);
    discard(ctx.stores(), ctx.publishers(), &journal.noted()).await.unwrap();
    assert_eq!(files(folder.path()), before);
    compact(&plain, "c1").await;
    insta::assert_snapshot!(crate::read(&context("reader"), folder.path().to_str().unwrap()).await, @"
    +---+---+-------------+-----+
    | a | s | t           | b   |
    +---+---+-------------+-----+
    | 1 | x | {i: 1, j: } |     |
    | 7 | y | {i: , j: 2} | 2.5 |
    +---+---+-------------+-----+
    ");
    save(&context("r3"), &plain, "select 'one' as a").await;
    let error = plain.compact(&Context::new((), context("c3"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let text = error.chain().replace(folder.path().to_str().unwrap(), "");
    for part in ["`a` is Int64 in /compacted-00000-c1-", "and Utf8", "in /part-00000-r3-", "column: a"] {
        assert!(text.contains(part), "`{part}` should be in: {text}");
    }
}

#[tokio::test]
async fn files_unite_as_long_as_types_stay_of_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let plain = plain(folder.path());
    let old = "select cast(1.25 as decimal(5, 2)) as x, [named_struct('a', 1)] as l,
        arrow_cast('2024-01-01T10:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))') as t";
    let new = "select cast(3.0001 as decimal(9, 4)) as x, [named_struct('b', 'y', 'a', cast(2 as int))] as l,
        arrow_cast('2024-01-02T10:00:00Z', 'Timestamp(Millisecond, Some(\"+00:00\"))') as t";
    save(&context("r1"), &plain, old).await;
    save(&context("r2"), &plain, new).await;
    compact(&plain, "c1").await;
    assert_eq!(files(folder.path()).len(), 1);
    insta::assert_snapshot!(crate::read(&context("reader"), folder.path().to_str().unwrap()).await, @"
    +--------+----------------+----------------------+
    | x      | l              | t                    |
    +--------+----------------+----------------------+
    | 1.2500 | [{a: 1, b: }]  | 2024-01-01T10:00:00Z |
    | 3.0001 | [{a: 2, b: y}] | 2024-01-02T10:00:00Z |
    +--------+----------------+----------------------+
    ");
    // Readers of integers have not declared a decimal.
    save(&context("r3"), &plain, "select cast(7 as bigint) as x").await;
    let error = plain.compact(&Context::new((), context("c2"))).await.unwrap_err();
    assert!(error.message().starts_with("`x` is Decimal128(9, 4) in "), "{error}");
    assert!(error.get_hint().is_some());
}

#[rstest]
#[tokio::test]
async fn the_layout_is_that_of_the_dataset_and_the_order_that_of_the_files(#[values(false, true)] descending: bool) {
    let folder = tempfile::tempdir().unwrap();
    let sorted = plain(folder.path()).sorted_by([if descending { SortColumn::desc("n") } else { "n".into() }]);
    for run in ["r1", "r2"] {
        save(&context(run), &sorted, "select value % 10 as n, 'v' || value as v from generate_series(1, 100)").await;
    }
    let zipped = plain(folder.path()).with_compression(Compression::Snappy).with_bloom_filters(["v"]);
    compact(&zipped.with_row_group_rows(60), "c1").await;
    let file = crate::only_file(folder.path(), "compacted-00000-c1");
    let reader = SerializedFileReader::new(std::fs::File::open(&file).unwrap()).unwrap();
    let groups = reader.metadata().row_groups();
    assert_eq!(groups.iter().map(|g| g.num_rows()).collect::<Vec<_>>(), [60, 60, 60, 20]);
    let order = vec![SortingColumn { column_idx: 0, descending, nulls_first: !descending }];
    assert!(groups.iter().all(|g| g.sorting_columns() == Some(&order)));
    assert!(groups[0].column(1).bloom_filter_offset().is_some());
    assert_eq!(format!("{:?}", groups[0].column(0).compression()), "SNAPPY");
    let n: Vec<i64> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|r| parquet::record::RowAccessor::get_long(&r.unwrap(), 0).unwrap())
        .collect();
    assert!(if descending { n.iter().rev().is_sorted() } else { n.is_sorted() }, "{n:?}");

    save(&context("r3"), &sorted, "select 1 as n, 'v' as v").await;
    let error = sorted.with_bloom_filters(["w"]).compact(&Context::new((), context("c2"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.message().contains("has the column `w`"), "{error}");
}

/// Another run that replaces a file at the moment when compaction has read the rows and begins a new file.
#[derive(Debug)]
struct Meddling {
    file: PathBuf,
    with: Option<&'static str>,
}

#[async_trait::async_trait]
impl Journal for Meddling {
    async fn note(&self, _: DiscardAction) -> hardtack_core::Result<()> {
        match self.with {
            Some(content) => std::fs::write(&self.file, content).unwrap(),
            None => std::fs::remove_file(&self.file).unwrap(),
        }
        Ok(())
    }
}

#[rstest]
#[case::deleted("part-00000-r1", None, Some(ErrorKind::Conflict))]
#[case::replaced("part-00000-r1", Some("other"), Some(ErrorKind::Conflict))]
#[case::added("other.parquet", Some("other"), None)]
#[tokio::test]
async fn a_file_that_is_replaced_meanwhile_is_a_conflict(
    #[case] name: &str,
    #[case] with: Option<&'static str>,
    #[case] wanted: Option<ErrorKind>,
) {
    let folder = tempfile::tempdir().unwrap();
    for run in ["r1", "r2"] {
        save(&context(run), &plain(folder.path()), "select 1 as n").await;
    }
    let file = match wanted {
        Some(_) => crate::only_file(folder.path(), name),
        None => folder.path().join(name),
    };
    let ctx = JobContext::builder("c").journal(Arc::new(Meddling { file, with })).build().unwrap();
    let error = plain(folder.path()).compact(&Context::new((), ctx.clone())).await.err();
    assert_eq!(error.as_ref().map(|e| e.kind()), wanted, "{error:?}");
    if let Some(error) = error {
        assert!(error.to_string().contains(&format!("/{name}-")), "{error}");
    }
}

#[rstest]
#[tokio::test]
async fn more_rows_than_the_memory_limit_holds(#[values(false, true)] sorted: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = plain(folder.path());
    if sorted {
        dataset = dataset.sorted_by(["a"]);
    }
    let query = "select uuid() as a, uuid() as b from generate_series(1, 200000)";
    for run in ["r1", "r2", "r3"] {
        save(&context(run), &plain(folder.path()), query).await;
    }
    let io = Arc::new(StagingIo::default());
    let ctx = JobContext::builder("c").threads(2).memory_limit(32 << 20).io(io.clone()).build().unwrap();
    dataset.compact(&Context::new((), ctx.clone())).await.unwrap();
    let report = io.staged()[0].staged.report;
    assert_eq!((report.files, report.rows), (1, 600_000));
    assert_eq!(ctx.session().runtime_env().memory_pool.reserved(), 0, "memory was not given back");
}

/// A damaged file is named, whichever way the decoder fails: it panics on some damage to the Arrow schema in the
/// footer.
#[tokio::test]
async fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = plain(folder.path());
    for run in ["r1", "r2"] {
        save(&context(run), &dataset, "select 1 as a, 'x' as b, cast(1 as decimal(9, 2)) as c").await;
    }
    let damaged = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&damaged).unwrap();
    let key = b"ARROW:schema";
    let start = whole.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    let start = start + whole[start..].iter().position(|b| *b == b'/').unwrap();
    let is_base64 = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let length = whole[start..].iter().take_while(is_base64).count();
    let mut panics = 0;
    for at in (start..start + length).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] = if bytes[at] == b'f' { b'g' } else { b'f' };
        std::fs::write(&damaged, bytes).unwrap();
        let ctx = JobContext::builder("c").build().unwrap();
        let Err(error) = dataset.compact(&Context::new((), ctx.clone())).await else { continue };
        assert!(error.get("file").is_some(), "{error:?}");
        panics += usize::from(error.message().contains("cannot be decoded"));
    }
    assert!(panics > 0, "no damage of {length} made a decoder panic");
}
