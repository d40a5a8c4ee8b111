//! Runs that continue where the last one has stopped.

use std::fs;
use std::time::{Duration, SystemTime};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use hardtack_core::{Context, Error, ErrorKind, Result, RunId};
use hardtack_runtime::{Bars, BookmarkArgs, BookmarkChoice, Job, Outcome, RuntimeArgs, execute};
use hardtack_sinks::ParquetDataset;
use hardtack_sources::{Bookmark, JsonFiles, ParquetFiles};
use rstest::rstest;

use crate::World;

impl World {
    fn clicks(&self) -> JsonFiles {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        JsonFiles::new("clicks", self.at("landing"))
            .with_schema(std::sync::Arc::new(schema))
            .bookmarked(Bookmark::by_modification_time())
    }

    fn saved(&self) -> ParquetDataset {
        ParquetDataset::new("saved", self.at("saved"))
    }

    /// A file with this id arrives, an hour after the one with the id before.
    fn arrives(&self, id: u64) {
        let folder = self.folder.path().join("landing");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{id}.json"));
        fs::write(&path, format!("{{\"id\": {id}}}")).unwrap();
        let time = SystemTime::now() - Duration::from_secs(3600 * (50 - id));
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }

    async fn copy(&self, name: &str, bookmarks: BookmarkArgs) -> Result<Outcome> {
        self.run_as(name, bookmarks, async |ctx| {
            let rows = ctx.load(self.clicks()).await?;
            ctx.save(self.saved(), rows).await
        })
        .await
    }

    async fn run_as(
        &self,
        name: &str,
        bookmarks: BookmarkArgs,
        main: impl AsyncFnOnce(&Context<()>) -> Result<()>,
    ) -> Result<Outcome> {
        let options = RuntimeArgs { bookmarks, run_id: Some(name.parse().unwrap()), ..self.options() };
        execute(&Job::new("job"), (), &options, main, &Bars::new(false)).await
    }

    /// All ids that were saved, sorted.
    async fn ids(&self) -> Vec<i64> {
        let ctx = hardtack_core::JobContext::builder("test").build().unwrap();
        let Ok(rows) = ctx.load(ParquetFiles::new("saved", self.at("saved"))).await else { return Vec::new() };
        let rows = rows.collect().await.unwrap();
        let ids = rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        ids
    }
}

fn run_id(name: &str) -> Option<RunId> {
    Some(name.parse().unwrap())
}

#[tokio::test]
async fn a_run_that_fails_reads_the_same_again() {
    let world = World::new();
    world.arrives(1);
    world.copy("a", BookmarkArgs::default()).await.unwrap();
    world.arrives(2);
    let failed = world.run_as("b", BookmarkArgs::default(), async |ctx| {
        let rows = ctx.load(world.clicks()).await?;
        ctx.save(world.saved(), rows).await?;
        Err(Error::unavailable("later"))
    });
    failed.await.unwrap_err();
    assert_eq!(world.ids().await, [1]);
    world.copy("c", BookmarkArgs::default()).await.unwrap();
    world.copy("d", BookmarkArgs::default()).await.unwrap();
    assert_eq!(world.ids().await, [1, 2]);
}

/// The job has seen the rows, and decided.
#[tokio::test]
async fn a_job_that_keeps_nothing_moves_the_bookmark() {
    let world = World::new();
    world.arrives(1);
    let counts = world.run_as("a", BookmarkArgs::default(), async |ctx| {
        assert_eq!(ctx.load(world.clicks()).await?.count().await?, 1);
        Ok(())
    });
    let record = counts.await.unwrap().record;
    assert!(record.bookmarks_to.contains_key("clicks") && record.bookmarks_held.is_empty());
    world.copy("b", BookmarkArgs::default()).await.unwrap();
    assert_eq!(world.ids().await, [0_i64; 0]);
}

#[tokio::test]
async fn a_bookmark_that_stays_is_recorded_with_the_reason() {
    let world = World::new();
    world.arrives(1);
    let loads = world.run_as("a", BookmarkArgs::default(), async |ctx| ctx.load(world.clicks()).await.map(|_| ()));
    let record = loads.await.unwrap().record;
    assert_eq!(record.bookmarks_to, Default::default());
    assert_eq!(record.bookmarks_held["clicks"], "none of 1 file was read to its end");
    world.copy("b", BookmarkArgs::default()).await.unwrap();
    assert_eq!(world.ids().await, [1]);
}

/// What Glue says of a range: the run of `from` is excluded, that of `to` is included.
#[rstest]
#[case::both(Some("a"), Some("c"), &[2, 3])]
#[case::from(Some("b"), None, &[3, 4])]
#[case::to(None, Some("b"), &[1, 2])]
#[case::a_run_that_failed_is_the_last_one_before_it(Some("a"), Some("failed"), &[2])]
#[tokio::test]
async fn what_runs_have_read_is_read_again(
    #[case] from: Option<&str>,
    #[case] to: Option<&str>,
    #[case] expected: &[i64],
) {
    let world = World::new();
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        world.arrives(id);
        if id == 3 {
            let fails = world.run_as("failed", BookmarkArgs::default(), async |_| Err(Error::unavailable("later")));
            fails.await.unwrap_err();
        }
        world.copy(name, BookmarkArgs::default()).await.unwrap();
    }
    world.arrives(4);
    fs::remove_dir_all(world.folder.path().join("saved")).unwrap();
    let again = BookmarkArgs {
        job_bookmark_from: from.and_then(run_id),
        job_bookmark_to: to.and_then(run_id),
        ..BookmarkArgs::default()
    };
    let record = world.copy("again", again).await.unwrap().record;
    assert_eq!(world.ids().await, expected);
    assert_eq!(record.bookmarks_to, record.bookmarks_from, "it stays");
}

#[rstest]
#[case::unknown(
    BookmarkArgs { job_bookmark_from: run_id("x"), ..BookmarkArgs::default() },
    "`--job-bookmark-from` names no run of this job and scope"
)]
#[case::backwards(
    BookmarkArgs { job_bookmark_from: run_id("b"), job_bookmark_to: run_id("a"), ..BookmarkArgs::default() },
    "`--job-bookmark-to` is an earlier run than `--job-bookmark-from`"
)]
#[case::of_everything(
    BookmarkArgs {
        job_bookmark_option: BookmarkChoice::JobBookmarkDisable,
        job_bookmark_to: run_id("a"),
        ..BookmarkArgs::default()
    },
    "`--job-bookmark-option job-bookmark-disable` reads everything, so `--job-bookmark-from` and `--job-bookmark-to` have \
     no effect"
)]
#[tokio::test]
async fn a_range_that_makes_no_sense_is_refused(#[case] bookmarks: BookmarkArgs, #[case] expected: &str) {
    let world = World::new();
    world.arrives(1);
    for name in ["a", "b"] {
        world.copy(name, BookmarkArgs::default()).await.unwrap();
    }
    let error = world.copy("c", bookmarks).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, expected));
    assert!(error.get_hint().is_some());
    assert_eq!(world.records().await.len(), 2, "it has not begun");
}

#[tokio::test]
async fn a_source_that_was_moved_is_refused_until_it_may_start_again() {
    let world = World::new();
    world.arrives(1);
    world.copy("a", BookmarkArgs::default()).await.unwrap();
    fs::rename(world.folder.path().join("landing"), world.folder.path().join("moved")).unwrap();
    let moved = async |reset| {
        let bookmarks = BookmarkArgs { job_bookmark_reset_moved: reset, ..BookmarkArgs::default() };
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        let clicks = JsonFiles::new("clicks", world.at("moved"))
            .with_schema(std::sync::Arc::new(schema))
            .bookmarked(Bookmark::by_modification_time());
        world
            .run_as("b", bookmarks, async |ctx| {
                let rows = ctx.load(clicks).await?;
                ctx.save(world.saved(), rows).await
            })
            .await
    };
    let error = moved(false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.chain().contains("--job-bookmark-reset-moved"), "{}", error.chain());
    moved(true).await.unwrap();
    assert_eq!(world.ids().await, [1, 1], "as told");
    moved(false).await.unwrap();
    assert_eq!(world.ids().await, [1, 1]);
}

/// Neither reads what the other has committed.
#[tokio::test]
async fn of_runs_at_once_one_moves_the_bookmark() {
    let world = World::new();
    for id in 1..=20 {
        world.arrives(id);
        let (a, b) = (format!("a{id}"), format!("b{id}"));
        let done = tokio::join!(world.copy(&a, BookmarkArgs::default()), world.copy(&b, BookmarkArgs::default()));
        for failed in [done.0, done.1].into_iter().filter_map(Result::err) {
            assert_eq!(failed.kind(), ErrorKind::Conflict, "{}", failed.chain());
        }
    }
    assert_eq!(world.ids().await, (1..=20).collect::<Vec<_>>());
}
