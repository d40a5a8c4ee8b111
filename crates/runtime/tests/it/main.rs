//! Runs within this process: their commits, and their ends.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test looks at files and stops where it fails"
)]

mod bookmarks;
mod environment;
mod incremental;
mod s3;
mod spill;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use hardtack_core::actions::Phase;
use hardtack_core::observe::{Observer, RowAccumulator};
use hardtack_core::publish::Publisher;
use hardtack_core::{
    Context, Error, ErrorKind, LoadContext, Location, PublishAction, Result, Sink, Source, StageContext, Staged,
};
use hardtack_runtime::{Bars, Job, Outcome, RuntimeArgs, execute, open_context, open_state};
use hardtack_sinks::{InMemory, JsonLines, ParquetDataset};
use hardtack_state::{Ledger, RunRecord, RunStatus};

/// A folder with the state of a job.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn at(&self, path: &str) -> Location {
        Location::from(self.folder.path()).join(path)
    }

    fn options(&self) -> RuntimeArgs {
        RuntimeArgs::with_state(self.at("state"))
    }

    async fn run(&self, main: impl AsyncFnOnce(&Context<()>) -> Result<()>) -> Result<Outcome> {
        execute(&Job::new("job"), (), &self.options(), main, &Bars::new(false)).await
    }

    async fn records(&self) -> Vec<RunRecord> {
        let ctx = open_context("job", &self.options()).unwrap();
        let state = open_state(ctx.stores(), &self.options().records.state).unwrap();
        Ledger::runs(&state, "job").await.unwrap()
    }

    fn out(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("out")).into_iter().flatten();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

async fn one<A>(ctx: &Context<A>) -> Result<DataFrame> {
    Ok(ctx.session().sql("select 1 as n").await?)
}

#[tokio::test]
async fn a_run_is_published_as_a_whole() {
    let world = World::new();
    let (a, b, memory) = (world.at("out/a.jsonl"), world.at("out/b.jsonl"), InMemory::new("memory"));
    let outcome = world
        .run(async |ctx| {
            ctx.save(JsonLines::new("a", &a), one(ctx).await?).await?;
            assert!(
                world.out().iter().all(|name| name.starts_with('.')),
                "visible before the commit: {:?}",
                world.out()
            );
            ctx.save(JsonLines::new("b", &b), one(ctx).await?).await?;
            ctx.save(memory.clone(), one(ctx).await?).await
        })
        .await
        .unwrap();
    let mut names = world.out();
    names.sort();
    assert_eq!(names, ["a.jsonl", "b.jsonl"]);
    assert_eq!(memory.batches()[0].num_rows(), 1);
    assert_eq!(outcome.record.commit, Some(1));
    assert_eq!(world.records().await, [outcome.record]);
}

#[tokio::test]
async fn a_run_that_fails_leaves_nothing_but_its_record() {
    let world = World::new();
    let out = world.at("out/a.jsonl");
    let memory = InMemory::new("memory");
    let error = world
        .run(async |ctx| {
            ctx.save(JsonLines::new("a", &out), one(ctx).await?).await?;
            ctx.save(memory.clone(), one(ctx).await?).await?;
            Err(Error::refused("I do not like it"))
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!((world.out(), memory.batches().len()), (vec![], 0));
    let record = world.records().await.remove(0);
    assert_eq!((record.status, record.commit), (RunStatus::Failed, None));
    assert_eq!(record.error.unwrap().message, "I do not like it");
}

#[tokio::test]
async fn a_panic_is_a_failure_of_the_run() {
    let world = World::new();
    let out = world.at("out/a.jsonl");
    let error = world
        .run(async |ctx| {
            ctx.save(JsonLines::new("a", &out), one(ctx).await?).await?;
            panic!("oh {}", "no")
        })
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unexpected, "the job panicked: oh no"));
    assert_eq!(world.out(), Vec::<String>::new());
}

#[tokio::test]
async fn names_are_identities() {
    let world = World::new();
    let (a, b) = (world.at("out/a.jsonl"), world.at("out/b.jsonl"));
    let error = world
        .run(async |ctx| {
            ctx.save(JsonLines::new("same", &a), one(ctx).await?).await?;
            ctx.save(JsonLines::new("same", &b), one(ctx).await?).await
        })
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"two sinks of this job are named `same`; a name is an identity, give each its own");
}

/// A source that continues from its bookmark.
#[derive(Debug)]
struct Counter;

#[async_trait]
impl Source for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        let from = ctx.bookmark().and_then(serde_json::Value::as_u64).unwrap_or(0);
        ctx.advance_bookmark((from + 1).into());
        Ok(ctx.session().sql(&format!("select {from} as n")).await?)
    }
}

/// A compaction commits like any other change, together with rows that the run appends; together with a sink that
/// replaces its files it is refused.
#[tokio::test]
async fn a_dataset_is_compacted_within_a_run() {
    let world = World::new();
    let sales = ParquetDataset::new("sales", world.at("out"));
    for _ in 0..2 {
        world.run(async |ctx| ctx.save(sales.clone(), one(ctx).await?).await).await.unwrap();
    }
    let twice = world.run(async |ctx| {
        sales.compact(ctx).await?;
        ctx.save(sales.clone().overwrite(), one(ctx).await?).await
    });
    let error = twice.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.message().contains("`sales (compaction)` and `sales` replace the same file"), "{error}");
    assert_eq!(world.out().len(), 2, "neither of the two, and no leftovers");

    let outcome = world.run(async |ctx| {
        sales.compact(ctx).await?;
        ctx.save(sales.clone(), one(ctx).await?).await
    });
    let counts = outcome.await.unwrap().record.sinks["sales (compaction)"];
    assert_eq!((counts.files, counts.rows), (1, 2));
    assert_eq!(world.out().len(), 2, "the compacted file and the one that was added");
}

#[tokio::test]
async fn bookmarks_move_with_the_data_or_not_at_all() {
    let world = World::new();
    let counted = InMemory::new("counted");
    for (fails, wanted) in [(false, 0), (true, 1), (false, 1), (false, 2)] {
        let mut seen = None;
        let done = world
            .run(async |ctx| {
                let rows = ctx.load(Counter).await?;
                seen = Some(rows.clone().to_string().await?.contains(&format!("| {wanted} ")));
                ctx.save(counted.clone(), rows).await?;
                if fails { Err(Error::unavailable("later")) } else { Ok(()) }
            })
            .await;
        assert_eq!((done.is_err(), seen), (fails, Some(true)));
    }
}

/// A third-party sink, with a publisher of its own.
#[derive(Debug)]
struct Mail;

#[async_trait]
impl Sink for Mail {
    fn name(&self) -> &str {
        "mail"
    }

    async fn stage(&self, _: &StageContext, rows: DataFrame) -> Result<Staged> {
        let payload = rows.to_string().await?.into();
        let action = PublishAction::Foreign { publisher: "mail".to_owned(), phase: Phase::Point, payload };
        Ok(Staged { publish: vec![action], ..Staged::default() })
    }
}

#[derive(Debug, Default)]
struct Postman(Mutex<Vec<String>>, Mutex<bool>);

#[async_trait]
impl Publisher for Postman {
    async fn publish(&self, payload: &serde_json::Value) -> Result<()> {
        if *self.1.lock().unwrap() {
            return Err(Error::unavailable("the postman is ill"));
        }
        self.0.lock().unwrap().push(payload.to_string());
        Ok(())
    }
    async fn discard(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_foreign_sink_is_recovered_by_its_publisher() {
    let world = World::new();
    let postman = Arc::new(Postman::default());
    let job = || Job::new("job").with_publisher("mail", postman.clone());
    let mail = async |ctx: &Context<()>| ctx.save(Mail, one(ctx).await?).await;

    *postman.1.lock().unwrap() = true;
    let error = execute(&job(), (), &world.options(), mail, &Bars::new(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    insta::assert_snapshot!(error.chain(), @"the run has committed, but not everything could be published (commit: 1, hint: the next run, or `hardtack recover`, continues from here): the postman is ill");
    assert_eq!(world.records().await[0].commit, Some(1));

    // A job that does not know the publisher fails with an error.
    let error = world.run(async |_| Ok(())).await.unwrap_err();
    assert!(error.chain().contains("no publisher is registered under the name `mail`"), "{}", error.chain());

    *postman.1.lock().unwrap() = false;
    execute(&job(), (), &world.options(), async |_: &Context<()>| Ok(()), &Bars::new(false)).await.unwrap();
    assert_eq!(postman.0.lock().unwrap().len(), 1);
    let statuses: Vec<_> = world.records().await.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [RunStatus::Succeeded, RunStatus::Succeeded]);
}

/// Refuses a run that saves more rows than the limit.
#[derive(Debug)]
struct RowLimit(u64, Arc<Mutex<u64>>);

struct Counting(u64, Arc<Mutex<u64>>);

impl Observer for RowLimit {
    fn accumulator(&self, _: &str, _: &SchemaRef) -> Result<Option<Box<dyn RowAccumulator>>> {
        Ok(Some(Box::new(Counting(0, Arc::clone(&self.1)))))
    }

    fn verdict(&self) -> Result<()> {
        let rows = *self.1.lock().unwrap();
        if rows <= self.0 { Ok(()) } else { Err(Error::refused("there are too many rows").with("rows", rows)) }
    }
}

#[async_trait]
impl RowAccumulator for Counting {
    async fn update(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        self.0 += rows.num_rows() as u64;
        Ok(rows)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        *self.1.lock().unwrap() += self.0;
        Ok(())
    }
}

/// By then all sinks are staged, and none is published.
#[tokio::test]
async fn an_observer_can_stop_a_run_before_its_commit() {
    let world = World::new();
    let (out, two) = (world.at("out/n.jsonl"), InMemory::new("two"));
    let main = async |ctx: &Context<()>| {
        ctx.save(JsonLines::new("one", &out), one(ctx).await?).await?;
        ctx.save(two.clone(), one(ctx).await?).await
    };
    let job = |rows| Job::new("job").with_observer(Arc::new(RowLimit(rows, Arc::default())));
    let error = execute(&job(1), (), &world.options(), main, &Bars::new(false)).await.unwrap_err();
    assert_eq!((error.kind(), error.get("rows")), (ErrorKind::Refused, Some("2")));
    assert_eq!((world.out(), two.batches().len()), (Vec::new(), 0));
    let record = world.records().await.remove(0);
    assert_eq!((record.status, record.commit, record.sinks["one"].rows), (RunStatus::Failed, None, 1));

    execute(&job(2), (), &world.options(), main, &Bars::new(false)).await.unwrap();
    assert_eq!((world.out().len(), two.batches()[0].num_rows()), (1, 1));
}

/// `--show` prints staged rows, and reads nothing twice.
#[tokio::test]
async fn the_first_rows_are_those_that_were_staged() {
    let world = World::new();
    let options = RuntimeArgs { show: 2, ..world.options() };
    let main = async |ctx: &Context<()>| {
        let rows = ctx.session().sql("select value as n from generate_series(1, 9) order by n").await?;
        ctx.save(JsonLines::new("all", world.at("out/n.jsonl")), rows).await?;
        let none = ctx.session().sql("select 1 as n where false").await?;
        ctx.save(JsonLines::new("none", world.at("out/none.jsonl")), none).await
    };
    let outcome = execute(&Job::new("job"), (), &options, main, &Bars::new(false)).await.unwrap();
    let shown: Vec<String> = outcome.shown.iter().map(|(sink, rows)| format!("{sink}\n{rows}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    all
    +---+
    | n |
    +---+
    | 1 |
    | 2 |
    +---+
    none
    +---+
    | n |
    +---+
    +---+
    ");
}
