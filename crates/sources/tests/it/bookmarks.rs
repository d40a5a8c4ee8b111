//! Sources that are read where the last run has stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{DataFrame, col, lit};
use futures::stream::{self, BoxStream, StreamExt};
use hardtack_core::bookmarks::{BookmarkOption, Bookmarks, Positions, Reprocess};
use hardtack_core::store::StoreFactory;
use hardtack_core::{
    Clock, Context, ErrorKind, JobContext, Location, Result, Sink, StageContext, Staged, Store, Stores,
};
use hardtack_sources::{Bookmark, CsvFiles, JsonFiles, ParquetFiles};
use hardtack_test_support::{TempLake, TestContext, json, rows};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use proptest::prelude::*;
use rstest::rstest;
use tokio::runtime::Runtime;

use crate::parquet::parquet;
use crate::schema;

fn ids() -> SchemaRef {
    schema(&[("id", DataType::Int64)])
}

fn clicks(bookmark: impl Into<Bookmark>) -> JsonFiles {
    JsonFiles::new("clicks", "s3://lake/clicks").with_schema(ids()).bookmarked(bookmark)
}

/// A sink of which a test sees the rows.
#[derive(Debug)]
struct Out {
    replaces: bool,
}

const OUT: Out = Out { replaces: false };

#[async_trait]
impl Sink for Out {
    fn name(&self) -> &str {
        "out"
    }

    fn replaces(&self) -> bool {
        self.replaces
    }

    async fn stage(&self, _: &StageContext, _: DataFrame) -> Result<Staged> {
        unreachable!("the test takes the rows")
    }
}

async fn copy(ctx: &Context<()>, source: JsonFiles) -> Result<()> {
    let rows = ctx.load(source).await?;
    ctx.save(OUT, rows).await
}

/// The ids that a run saves, sorted.
async fn run(test: &TestContext<()>, source: JsonFiles) -> Vec<i64> {
    copy(test.ctx(), source).await.unwrap();
    let ids = test.saved("out").to_df(test.ctx().session()).sort_by(vec![col("id")]).unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&ids).unwrap().to_string();
    text.lines().filter_map(|line| line.trim_matches(['|', ' ']).parse().ok()).collect()
}

fn at(time: &str) -> String {
    format!("2026-01-01T{time}Z")
}

fn file(test: TestContext<()>, path: &str, id: i64, time: &str) -> TestContext<()> {
    test.given_file(format!("s3://lake/clicks/{path}"), format!("{{\"id\": {id}}}"), &at(time))
}

fn test() -> TestContext<()> {
    TestContext::new(()).at(&at("12:00:00"))
}

// --- what is new ----------------------------------------------------------------------------------------------------

#[rstest]
#[case::by_time(Bookmark::by_modification_time().into())]
#[case::by_path(Bookmark::by_path().into())]
#[tokio::test]
async fn a_run_reads_what_no_run_has_read(#[case] bookmark: Bookmark) {
    let test = file(file(test(), "10/a.json", 1, "10:00:00"), "10/b.json", 2, "10:00:00");
    assert_eq!(run(&test, clicks(bookmark)).await, [1, 2]);
    let test = file(test.next_run(()), "11/a.json", 3, "11:00:00");
    assert_eq!(run(&test, clicks(bookmark)).await, [3]);
    let test = test.next_run(());
    assert_eq!(run(&test, clicks(bookmark)).await, [0_i64; 0], "nothing is new, and the columns are there");
    let test = file(file(test.next_run(()), "11/b.json", 4, "11:00:00"), "12/a.json", 5, "11:59:00");
    assert_eq!(run(&test, clicks(bookmark)).await, [4, 5]);
}

/// The newest file so far is of 11:00.
#[rstest]
#[case::same_moment("late.json", "11:00:00", true)]
#[case::within_the_hour("late.json", "10:00:01", true)]
#[case::before_it("late.json", "10:00:00", false)]
#[case::rewritten_within("new.json", "11:00:01", true)]
#[case::rewritten_later("old.json", "11:30:00", true)]
#[case::from_the_future("late.json", "23:00:00", true)]
#[tokio::test]
async fn files_by_time_are_found_late(#[case] path: &str, #[case] time: &str, #[case] is_found: bool) {
    let test = file(file(test(), "old.json", 1, "08:00:00"), "new.json", 2, "11:00:00");
    assert_eq!(run(&test, clicks(Bookmark::by_modification_time())).await, [1, 2]);
    let test = file(test.next_run(()), path, 3, time);
    assert_eq!(run(&test, clicks(Bookmark::by_modification_time())).await, if is_found { vec![3] } else { vec![] });
    let test = test.next_run(());
    assert_eq!(run(&test, clicks(Bookmark::by_modification_time())).await, [0_i64; 0]);
}

/// Its time would hide all that come after it.
#[tokio::test]
async fn a_file_from_the_future_hides_nothing() {
    let test = file(test(), "future.json", 1, "23:00:00");
    assert_eq!(run(&test, clicks(Bookmark::by_modification_time())).await, [1]);
    let test = file(test.next_run(()), "now.json", 2, "12:00:00");
    assert_eq!(run(&test, clicks(Bookmark::by_modification_time())).await, [2]);
    let test = file(test.next_run(()).at(&at("13:30:00")), "next.json", 3, "13:29:00");
    assert_eq!(run(&test, clicks(Bookmark::by_modification_time())).await, [3]);
}

/// As by a store whose clock is behind ours.
#[tokio::test]
async fn a_clock_that_is_behind_hides_nothing() {
    let test = file(test(), "a.json", 1, "07:00:00");
    assert_eq!(run(&test, clicks(Bookmark::by_modification_time())).await, [1]);
    let test = file(test.next_run(()), "b.json", 2, "07:00:01");
    assert_eq!(run(&test, clicks(Bookmark::by_modification_time())).await, [2]);
}

/// The folders so far are 08, 09 and 10; the last two are open.
#[rstest]
#[case::a_new_folder("11/a.json", true)]
#[case::in_the_last("10/A.json", true)]
#[case::in_the_one_before("09/a.json", true)]
#[case::in_a_closed_one("08/z.json", false)]
#[case::between("085/a.json", false)]
#[case::rewritten("10/a.json", true)]
#[tokio::test]
async fn files_by_path_are_found_late(#[case] path: &str, #[case] is_found: bool) {
    let mut all = test();
    for (id, path) in ["08/a.json", "09/b.json", "10/a.json"].into_iter().enumerate() {
        all = file(all, path, id as i64, "10:00:00");
    }
    assert_eq!(run(&all, clicks(Bookmark::by_path())).await, [0, 1, 2]);
    let test = file(all.next_run(()), path, 3, "10:00:01");
    assert_eq!(run(&test, clicks(Bookmark::by_path())).await, if is_found { vec![3] } else { vec![] });
    let test = test.next_run(());
    assert_eq!(run(&test, clicks(Bookmark::by_path())).await, [0_i64; 0]);
}

/// A listing of all of them and one of the last folders say different things of a file.
#[rstest]
#[case::by_time(Bookmark::by_modification_time().into())]
#[case::by_path(Bookmark::by_path().into())]
#[tokio::test]
async fn local_files_are_read_once(#[case] bookmark: Bookmark) {
    let (lake, mut last) = (TempLake::in_memory(), Positions::new());
    let files = JsonFiles::new("clicks", lake.at("clicks")).with_schema(ids()).bookmarked(bookmark);
    let (a, b) = ("clicks/10/a.json", "clicks/11/b.json");
    for (arrives, expected) in
        [(Some((a, 1)), 1), (None, 0), (Some((b, 2)), 1), (None, 0), (Some((b, 33)), 1), (None, 0)]
    {
        if let Some((path, id)) = arrives {
            lake.write(path, object(id));
        }
        let ctx = JobContext::builder("job").bookmarks(last).build().unwrap();
        assert_eq!(ctx.load(files.clone()).await.unwrap().count().await.unwrap(), expected, "{arrives:?}");
        last = ctx.bookmarks_after();
    }
}

/// They are those of files in progress, and readers ignore them, however the folder is listed.
#[tokio::test]
async fn names_of_uploads_are_ignored_in_each_run() {
    let (lake, mut last) = (TempLake::in_memory(), Positions::new());
    let files = JsonFiles::new("clicks", lake.at("clicks")).with_schema(ids()).with_glob("**");
    let files = files.bookmarked(Bookmark::by_path());
    for (arrives, expected) in [("10/a", 1), ("10/b#1", 0), ("10/b", 1)] {
        lake.write(&format!("clicks/{arrives}"), object(1));
        let ctx = JobContext::builder("job").bookmarks(last).build().unwrap();
        assert_eq!(ctx.load(files.clone()).await.unwrap().count().await.unwrap(), expected, "{arrives}");
        last = ctx.bookmarks_after();
    }
}

// --- what moves a bookmark ------------------------------------------------------------------------------------------

type Uses = fn(DataFrame) -> datafusion::common::Result<DataFrame>;

/// Each file has more rows than fit into a batch, or fewer.
#[rstest]
#[case::all(|rows: DataFrame| Ok(rows), true)]
#[case::a_filter_on_rows(|rows: DataFrame| rows.filter(col("id").gt(lit(1_000_000_i64))), true)]
#[case::a_filter_on_folders(|rows: DataFrame| rows.filter(col("day").eq(lit(1_i64))), true)]
#[case::a_filter_on_all_folders(|rows: DataFrame| rows.filter(col("day").eq(lit(99_i64))), true)]
#[case::an_aggregate(|rows: DataFrame| rows.aggregate(vec![], vec![count(col("id"))]), true)]
#[case::the_best(|rows: DataFrame| rows.sort(vec![col("id").sort(false, false)])?.limit(0, Some(1)), true)]
#[case::groups_of_an_aggregate(
    |rows: DataFrame| rows.aggregate(vec![col("day")], vec![count(col("id"))])?.limit(0, Some(1)), true
)]
#[case::a_limit(|rows: DataFrame| rows.limit(0, Some(1)), false)]
#[case::a_limit_of_a_filter(|rows: DataFrame| rows.filter(col("id").gt(lit(1_i64)))?.limit(0, Some(1)), false)]
#[case::a_limit_below(|rows: DataFrame| rows.limit(0, Some(1))?.aggregate(vec![], vec![count(col("id"))]), false)]
#[case::one_half_of_a_union(|rows: DataFrame| rows.clone().limit(0, Some(1))?.union(rows), true)]
#[tokio::test]
async fn a_bookmark_moves_if_a_plan_has_read_all(
    #[case] uses: Uses,
    #[case] moves: bool,
    #[values(3, 20_000)] lines: i64,
    #[values(true, false)] is_parquet: bool,
) {
    for threads in [1, 4] {
        let lake = TempLake::in_memory();
        for day in 1..=3_i64 {
            let ids = day * lines..(day + 1) * lines;
            let (folder, ids) = (format!("clicks/day={day}"), ids.collect::<Vec<_>>());
            if is_parquet {
                let batch = datafusion::common::record_batch!(("id", Int64, ids)).unwrap();
                lake.write(&format!("{folder}/a.parquet"), parquet(&batch));
            } else {
                let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
                lake.write(&format!("{folder}/a.csv"), format!("id\n{text}"));
            }
        }
        let (location, columns) = (lake.at("clicks"), schema(&[("id", DataType::Int64), ("day", DataType::Int64)]));
        let ctx = JobContext::builder("job").threads(threads).build().unwrap();
        let by = Bookmark::by_modification_time();
        let rows = if is_parquet {
            let files = ParquetFiles::new("clicks", location).with_hive_partitions();
            ctx.load(files.with_schema(columns).bookmarked(by)).await
        } else {
            let files = CsvFiles::new("clicks", location).with_hive_partitions();
            ctx.load(files.with_schema(columns).bookmarked(by)).await
        };
        let rows = rows.unwrap();
        assert!(!ctx.bookmarks_after().contains_key("clicks"), "nothing is read");
        uses(rows).unwrap().collect().await.unwrap();
        assert_eq!(ctx.bookmarks_after().contains_key("clicks"), moves, "{:?}", ctx.bookmarks_held());
    }
}

#[tokio::test]
async fn what_was_not_read_is_said() {
    let test = file(file(test(), "a.json", 1, "10:00:00"), "b.json", 2, "10:00:00");
    let rows = test.ctx().load(clicks(Bookmark::by_modification_time())).await.unwrap();
    insta::assert_debug_snapshot!(test.job().bookmarks_held(), @r#"
    {
        "clicks": "none of 2 files was read to its end",
    }
    "#);
    rows.count().await.unwrap();
    assert_eq!(test.job().bookmarks_held(), BTreeMap::new());
    let bookmark = serde_json::to_string_pretty(&test.bookmark("clicks")).unwrap();
    insta::assert_snapshot!(bookmark, @r#"
    {
      "format": 1,
      "location": "s3://lake/clicks",
      "by": "modification_time",
      "through": "2026-01-01T09:00:00Z",
      "newest": "2026-01-01T10:00:00Z",
      "seen": "LzFUhpT5LEN+1Hpr8mw990fNmAAImGwe"
    }
    "#);
}

/// The job goes on, so the run may commit.
#[tokio::test]
async fn a_file_that_fails_is_not_read() {
    let test =
        file(test(), "a.json", 1, "10:00:00").given_file("s3://lake/clicks/b.json", "{\"id\": tru", &at("10:00:00"));
    let rows = test.ctx().load(clicks(Bookmark::by_modification_time())).await.unwrap();
    rows.collect().await.unwrap_err();
    assert_eq!(test.bookmark("clicks"), None);
    assert!(test.job().bookmarks_held().contains_key("clicks"));
}

#[tokio::test]
async fn a_source_with_a_bookmark_is_loaded_once() {
    let test = file(test(), "a.json", 1, "10:00:00");
    test.ctx().load(clicks(Bookmark::by_path())).await.unwrap();
    let error = test.ctx().load(clicks(Bookmark::by_path())).await.unwrap_err();
    insta::assert_snapshot!(error.chain(), @"a source with a bookmark is loaded once in a run; load it once and clone the frame (source: clicks)");
}

// --- what is refused ------------------------------------------------------------------------------------------------

#[rstest]
#[case::another_location(
    json!({"format": 1, "location": "s3://old/clicks", "by": "path", "through": ""}),
    "usage: the bookmark of this source is of another location"
)]
#[case::another_strategy(
    json!({"format": 1, "location": "s3://lake/clicks", "by": "modification_time", "through": "2026-01-01T00:00:00Z"}),
    "usage: the bookmark of this source is of another strategy"
)]
#[case::no_position(json!(7), "refused: the bookmark is not the position of a file source")]
#[case::no_strategy(
    json!({"format": 1, "location": "s3://lake/clicks"}), "refused: the bookmark is not the position of a file source"
)]
#[case::cut_off(
    json!({"format": 1, "location": "s3://lake/clicks", "by": "path", "through": "", "seen": "AAAA"}),
    "refused: the bookmark is not the position of a file source"
)]
#[case::newer(
    json!({"format": 9, "location": "s3://lake/clicks"}),
    "usage: a bookmark has format 9, and this version reads formats up to 1"
)]
#[tokio::test]
async fn a_position_of_something_else_is_refused(#[case] position: serde_json::Value, #[case] expected: &str) {
    let test = file(test(), "a.json", 1, "10:00:00").given_bookmark("clicks", position);
    let error = test.ctx().load(clicks(Bookmark::by_path())).await.unwrap_err();
    assert_eq!(format!("{}: {}", error.kind().name(), error.message()), expected);
    assert!(error.get_hint().is_some(), "{error}");
}

#[tokio::test]
async fn a_moved_source_starts_again_if_told_to() {
    let moved = json!({"format": 1, "location": "s3://old/clicks", "by": "path", "through": "z"});
    let last = Positions::from([("clicks".to_owned(), moved)]);
    let landing = Landing::default();
    landing.add("clicks/a.json", 1, 0);
    let (ids, next) = landing.read(Bookmarks { reset_moved: true, ..last.into() }, Bookmark::by_path()).await;
    assert_eq!((ids, &next["clicks"]["location"]), (vec![1], &json!("s3://lake/clicks")));
}

#[tokio::test]
async fn a_source_with_a_bookmark_needs_a_schema() {
    let test = file(test(), "a.json", 1, "10:00:00");
    let source = JsonFiles::new("clicks", "s3://lake/clicks").bookmarked(Bookmark::by_path());
    let error = test.ctx().load(source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.message().contains("`with_schema`"), "{error}");
}

#[tokio::test]
async fn a_missing_place_is_an_error_in_the_first_run_only() {
    let elsewhere = |test: TestContext<()>| test.given_file("s3://lake/other/a.json", "{}", &at("10:00:00"));
    let test = elsewhere(test());
    let error = test.ctx().load(clicks(Bookmark::by_path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let test = file(self::test(), "a/a.json", 1, "10:00:00");
    assert_eq!(run(&test, clicks(Bookmark::by_path())).await, [1]);
    let bookmark = test.bookmark("clicks").unwrap();
    let test = elsewhere(self::test()).given_bookmark("clicks", bookmark.clone());
    assert_eq!(run(&test, clicks(Bookmark::by_path())).await, [0_i64; 0], "the files were archived");
    assert_eq!(test.bookmark("clicks").unwrap()["through"], bookmark["through"]);
}

/// They would be lost with the next run.
#[rstest]
#[case::as_they_are(false)]
#[case::persisted(true)]
#[tokio::test]
async fn new_rows_do_not_replace_all_rows(#[case] persists: bool) {
    let test = file(test(), "a.json", 1, "10:00:00");
    let mut rows = test.ctx().load(clicks(Bookmark::by_path())).await.unwrap();
    if persists {
        rows = test.ctx().persist(rows).await.unwrap();
    }
    let error = test.ctx().save(Out { replaces: true }, rows).await.unwrap_err();
    assert_eq!((error.kind(), error.get("bookmarked source")), (ErrorKind::Usage, Some("clicks")));
}

/// With given rows, too.
#[tokio::test]
async fn new_rows_that_a_test_gives_do_not_replace_all_rows() {
    let test = TestContext::new(()).given("clicks", rows! { id; 1_i64 });
    let rows = test.ctx().load(clicks(Bookmark::by_path())).await.unwrap();
    assert_eq!(test.ctx().save(Out { replaces: true }, rows).await.unwrap_err().kind(), ErrorKind::Usage);
}

// --- reading again --------------------------------------------------------------------------------------------------

/// What the runs after one up to another have read, and the bookmark stays.
#[rstest]
#[case::between(Some(0), Some(2), &[2, 3])]
#[case::one(Some(1), Some(2), &[3])]
#[case::nothing(Some(1), Some(1), &[])]
#[case::from_the_start(None, Some(1), &[1, 2])]
#[case::to_the_end(Some(2), None, &[4, 5])]
#[tokio::test]
async fn a_range_is_read_again(
    #[case] after: Option<usize>,
    #[case] until: Option<usize>,
    #[case] expected: &[i64],
    #[values(Bookmark::by_modification_time().into(), Bookmark::by_path().into())] bookmark: Bookmark,
) {
    let (landing, mut left) = (Landing::default(), vec![Positions::new()]);
    // Run `n` reads the file with id `n + 1`.
    for id in 1..=4 {
        landing.add(&format!("clicks/{id:02}/a.json"), id, 20 * id);
        let (ids, next) = landing.read(left.last().unwrap().clone(), bookmark).await;
        assert_eq!(ids, [id]);
        left.push(next);
    }
    landing.add("clicks/05/a.json", 5, 100);
    let positions = |run: usize| left[run + 1].clone();
    let again = Reprocess { after: after.map(positions).unwrap_or_default(), until: until.map(positions) };
    let last = positions(3);
    let bookmarks = Bookmarks { again: Some(again), ..last.clone().into() };
    assert_eq!(landing.read(bookmarks, bookmark).await, (expected.to_vec(), last));
}

#[rstest]
#[case(BookmarkOption::Enable, &[2], true)]
#[case(BookmarkOption::Pause, &[2], false)]
#[case(BookmarkOption::Disable, &[1, 2], false)]
#[tokio::test]
async fn an_option_says_what_is_read_and_remembered(
    #[case] option: BookmarkOption,
    #[case] expected: &[i64],
    #[case] moves: bool,
) {
    let landing = Landing::default();
    landing.add("clicks/01/a.json", 1, 0);
    let (_, last) = landing.read(Positions::new(), Bookmark::by_path()).await;
    landing.add("clicks/02/a.json", 2, 100);
    let (ids, next) = landing.read(Bookmarks { option, ..last.clone().into() }, Bookmark::by_path()).await;
    assert_eq!((ids.as_slice(), next != last), (expected, moves));
}

// --- the size of a landing zone -------------------------------------------------------------------------------------

/// A store with many objects, which pages its listings like S3.
#[derive(Debug, Clone, Default)]
struct Landing {
    objects: Arc<Mutex<BTreeMap<String, (ObjectMeta, i64)>>>,
    lists: Arc<AtomicUsize>,
}

/// The time of all clocks, unless they are askew.
fn noon() -> DateTime<Utc> {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn object(id: i64) -> bytes::Bytes {
    format!("{{\"id\": {id}}}").into()
}

impl Landing {
    /// Adds or replaces an object, this many minutes after noon.
    fn add(&self, path: &str, id: i64, minute: i64) {
        let (location, last_modified) = (Path::from(path), noon() + TimeDelta::minutes(minute));
        let (size, e_tag) = (object(id).len() as u64, Some(format!("{id:x}")));
        let meta = ObjectMeta { location, last_modified, size, e_tag, version: None };
        self.objects.lock().unwrap().insert(path.to_owned(), (meta, id));
    }

    /// The ids that a run reads, sorted, and the bookmarks that it leaves.
    async fn read(&self, bookmarks: impl Into<Bookmarks>, by: impl Into<Bookmark>) -> (Vec<i64>, Positions) {
        self.read_at(noon() + TimeDelta::days(1), bookmarks, by).await
    }

    async fn read_at(
        &self,
        now: DateTime<Utc>,
        bookmarks: impl Into<Bookmarks>,
        by: impl Into<Bookmark>,
    ) -> (Vec<i64>, Positions) {
        let ctx = JobContext::builder("job")
            .bookmarks(bookmarks)
            .clock(Arc::new(At(now)))
            .store_factory("s3", Arc::new(self.clone()))
            .threads(2)
            .build()
            .unwrap();
        let rows = ctx.load(clicks(by)).await.unwrap().collect().await.unwrap();
        let ids = rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        (ids, ctx.bookmarks_after())
    }

    /// How often a page of a listing was requested since the last call.
    fn lists(&self) -> usize {
        self.lists.swap(0, Ordering::SeqCst)
    }

    fn page(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let prefix = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let offset = offset.map(ToString::to_string).unwrap_or_default();
        let objects = self.objects.lock().unwrap();
        let from = objects.range(prefix.clone().max(offset.clone())..);
        let found: Vec<_> = from
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter(|(path, _)| **path > offset)
            .map(|(_, (meta, _))| Ok(meta.clone()))
            .collect();
        self.lists.fetch_add(found.len().div_ceil(1000).max(1), Ordering::SeqCst);
        stream::iter(found).boxed()
    }
}

/// A clock that stands still.
#[derive(Debug)]
struct At(DateTime<Utc>);

impl Clock for At {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

/// A position that a person has set.
fn set(by: &str, through: &str) -> Positions {
    let position = json!({"format": 1, "location": "s3://lake/clicks", "by": by, "through": through});
    Positions::from([("clicks".to_owned(), position)])
}

/// A hundred objects an hour, for a thousand hours: a page of a listing has a thousand.
#[tokio::test]
async fn a_run_lists_what_it_has_to_and_remembers_what_is_open() {
    let landing = Landing::default();
    for i in 0..100_000 {
        let (day, hour) = (i / 2_400, i / 100 % 24);
        let folder = format!("clicks/2026/{:02}/{:02}/{hour:02}", day / 28 + 1, day % 28 + 1);
        landing.add(&format!("{folder}/{i}.json"), i, i * 60 / 100);
    }
    let later = noon() + TimeDelta::days(100);
    let bytes = |positions: &Positions| positions["clicks"].to_string().len();

    let (new, last) = landing.read(set("path", "2026/02/14/14"), Bookmark::by_path()).await;
    assert_eq!((new.len(), landing.lists()), (200, 1));
    assert!((200 * 16..200 * 16 + 250).contains(&bytes(&last)), "the files of two folders: {}", bytes(&last));
    assert_eq!(landing.read(last.clone(), Bookmark::by_path()).await, (vec![], last.clone()));
    assert_eq!(landing.lists(), 1);
    landing.add("clicks/2026/12/28/23/x.json", 7, 60_000);
    assert_eq!(landing.read(last, Bookmark::by_path()).await.0, [7]);
    assert_eq!(landing.lists(), 1);

    let since = set("modification_time", "2026-02-12T03:00:00Z");
    let (new, last) = landing.read_at(later, since, Bookmark::by_modification_time()).await;
    assert_eq!((new.len(), landing.lists()), (99, 101));
    assert!((99 * 16..99 * 16 + 250).contains(&bytes(&last)), "the files of an hour: {}", bytes(&last));
    assert_eq!(landing.read_at(later, last.clone(), Bookmark::by_modification_time()).await, (vec![], last));
}

/// `cargo test --release -p hardtack-sources --test it -- --ignored --nocapture a_million`: a measurement.
#[tokio::test]
#[ignore = "takes minutes without optimisation"]
#[expect(clippy::disallowed_macros, reason = "a measurement is for people")]
async fn a_million_objects_with_nothing_new() {
    let landing = Landing::default();
    for i in 0..1_000_000 {
        let (day, hour) = (i / 24_000, i / 1_000 % 24);
        landing.add(
            &format!("clicks/2026/{:02}/{:02}/{hour:02}/{i}.json", day / 28 + 1, day % 28 + 1),
            i,
            i * 60 / 1_000,
        );
    }
    let later = noon() + TimeDelta::days(100);
    for (by, since) in [
        (Bookmark::from(Bookmark::by_modification_time()), set("modification_time", "2026-02-12T03:00:00Z")),
        (Bookmark::by_path().into(), set("path", "2026/02/14/14")),
    ] {
        let (_, last) = landing.read_at(later, since, by).await;
        landing.lists();
        let start = std::time::Instant::now();
        let (new, same) = landing.read_at(later, last.clone(), by).await;
        let (seconds, bytes) = (start.elapsed().as_secs_f64(), last["clicks"].to_string().len());
        assert_eq!((new.len(), same == last), (0, true));
        println!("{by}: {} requests, {seconds:.2} s, {bytes} bytes of state", landing.lists());
    }
}

// --- the law --------------------------------------------------------------------------------------------------------

/// What happens in a landing zone.
#[derive(Debug, Clone)]
enum Event {
    /// An object appears. It is this old, and may replace another.
    Arrives { name: u8, age: i64 },
    /// Time passes, in minutes.
    Passes(i64),
    /// A run reads to the end, and commits or not.
    Runs { commits: bool, clock: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0..40_u8, 0..60_i64).prop_map(|(name, age)| Event::Arrives { name, age }),
        2 => (1..90_i64).prop_map(Event::Passes),
        2 => (any::<bool>(), -500..500_i64).prop_map(|(commits, clock)| Event::Runs { commits, clock }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Objects that are at most an hour late are read once, whatever the clocks and whichever runs commit. An object that
    /// was replaced before it was read is not there any more.
    #[test]
    fn each_version_is_read_once_by_time(events in prop::collection::vec(event(), 1..60)) {
        Runtime::new().unwrap().block_on(async {
            let (landing, mut last) = (Landing::default(), Positions::new());
            let (mut minute, mut next, mut unread, mut newest) = (0, 1, BTreeMap::new(), 0);
            let all = events.into_iter().chain([Event::Runs { commits: true, clock: 0 }]);
            for event in all {
                match event {
                    Event::Arrives { name, age } => {
                        // Not older than the hour before the newest one.
                        let time = (minute - age).max(newest - 59);
                        newest = newest.max(time);
                        landing.add(&format!("clicks/{name}.json"), next, time);
                        unread.insert(name, next);
                        next += 1;
                    }
                    Event::Passes(minutes) => minute += minutes,
                    Event::Runs { commits, clock } => {
                        let now = noon() + TimeDelta::minutes(minute + clock);
                        if landing.objects.lock().unwrap().is_empty() {
                            continue;
                        }
                        let (ids, positions) = landing.read_at(now, last.clone(), Bookmark::by_modification_time()).await;
                        let expected: BTreeSet<i64> = unread.values().copied().collect();
                        prop_assert_eq!(ids, expected.into_iter().collect::<Vec<_>>());
                        if commits {
                            last = positions;
                            unread.clear();
                        }
                    }
                }
            }
            Ok(())
        })?;
    }
}

impl StoreFactory for Landing {
    fn open(&self, url: &url::Url) -> Result<Store> {
        let (memory, _) = Stores::new(false).open(&Location::from("memory:/"))?;
        Ok(Store { url: url.clone(), objects: Arc::new(self.clone()), ..memory })
    }
}

impl std::fmt::Display for Landing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("landing zone")
    }
}

#[async_trait]
impl ObjectStore for Landing {
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let objects = self.objects.lock().unwrap();
        let Some((meta, id)) = objects.get(at.as_ref()).cloned() else {
            return Err(object_store::Error::NotFound { path: at.to_string(), source: "no such object".into() });
        };
        assert!(options.if_match.is_none_or(|e_tag| Some(e_tag) == meta.e_tag));
        let payload = object_store::GetResultPayload::Stream(stream::once(async move { Ok(object(id)) }).boxed());
        Ok(GetResult { payload, range: 0..meta.size, meta, attributes: Default::default() })
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.page(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.page(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        unreachable!("sources list all below a folder")
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        unreachable!("sources only read")
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        unreachable!("sources only read")
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        unreachable!("sources only read")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        unreachable!("sources only read")
    }
}
