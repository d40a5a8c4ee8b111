use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::{col, lit};
use datafusion::physical_plan::streaming::PartitionStream;
use futures::TryStreamExt;
use proptest::prelude::*;

use super::*;
use crate::{Error, JobContext};

/// Streams of rows that count how often they are read.
#[derive(Debug)]
struct Counted {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    reads: Arc<AtomicUsize>,
    /// The end of the streams.
    end: End,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Done,
    Error,
    Panic,
    Never,
}

impl PartitionStream for Counted {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let batches = futures::stream::iter(self.batches.clone()).map(Ok);
        let end = self.end;
        let end = futures::stream::once(async move {
            match end {
                End::Done => None,
                End::Error => Some(Err(DataFusionError::from(Error::refused("a bad row").with("line", 7)))),
                End::Panic => panic!("a bug"),
                End::Never => std::future::pending().await,
            }
        });
        let all = batches.chain(end.filter_map(async |end| end));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), all))
    }
}

/// `streams` streams of `batches` batches of `rows` numbers with a text each.
fn numbers(ctx: &JobContext, streams: usize, batches: usize, rows: usize, end: End) -> (DataFrame, Arc<AtomicUsize>) {
    let schema =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)]));
    let reads = Arc::new(AtomicUsize::new(0));
    let batch = |first: usize| {
        let numbers: Vec<i64> = (first..first + rows).map(|n| n as i64).collect();
        let texts = StringArray::from_iter(numbers.iter().map(|n| (n % 3 != 0).then(|| format!("number {n:040}"))));
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(numbers)), Arc::new(texts)];
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    };
    let stream = |stream: usize| {
        let batches = (0..batches).map(|b| batch((stream * batches + b) * rows)).collect();
        let reads = Arc::clone(&reads);
        Arc::new(Counted { schema: Arc::clone(&schema), batches, reads, end }) as Arc<dyn PartitionStream>
    };
    let table = StreamingTable::try_new(Arc::clone(&schema), (0..streams).map(stream).collect()).unwrap();
    (ctx.session().read_table(Arc::new(table)).unwrap(), reads)
}

fn context(memory_limit: Option<usize>) -> JobContext {
    let builder = JobContext::builder("job").threads(2);
    match memory_limit {
        Some(bytes) => builder.memory_limit(bytes),
        None => builder,
    }
    .build()
    .unwrap()
}

async fn sum(rows: DataFrame) -> Result<i64> {
    let sum = datafusion::functions_aggregate::expr_fn::sum(col("n"));
    let batches = rows.aggregate(vec![], vec![sum])?.collect().await?;
    Ok(batches[0].column(0).as_primitive::<Int64Type>().value(0))
}

#[tokio::test]
async fn rows_are_computed_once_and_only_when_they_are_needed() {
    let ctx = context(None);
    let (rows, reads) = numbers(&ctx, 3, 4, 10, End::Done);
    let rows = ctx.persist(rows).await.unwrap();
    assert_eq!(reads.load(Ordering::SeqCst), 0, "nobody has asked yet");
    let even = rows.clone().filter((col("n") % lit(2)).eq(lit(0))).unwrap();
    assert_eq!(sum(rows.clone()).await.unwrap(), 119 * 60);
    assert_eq!(sum(even).await.unwrap(), 118 * 30);
    let joined = rows.clone().alias("a").unwrap().join(
        rows.alias("b").unwrap(),
        datafusion::common::JoinType::Inner,
        &["a.n"],
        &["b.n"],
        None,
    );
    assert_eq!(joined.unwrap().count().await.unwrap(), 120);
    assert_eq!(reads.load(Ordering::SeqCst), 3, "one for each stream");
}

#[tokio::test]
async fn readers_at_the_same_time_share_one_execution() {
    let ctx = context(None);
    let (rows, reads) = numbers(&ctx, 2, 20, 100, End::Done);
    let rows = ctx.persist(rows).await.unwrap();
    let sums = futures::future::try_join_all((0..8).map(|_| sum(rows.clone()))).await.unwrap();
    assert_eq!((sums, reads.load(Ordering::SeqCst)), (vec![3999 * 2000; 8], 2));
}

/// Even for a reader that started before the rows were spilled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_on_disk_and_comes_back_in_order() {
    let ctx = context(Some(8 << 20));
    let pool = Arc::clone(&ctx.session().runtime_env().memory_pool);
    let (rows, reads) = numbers(&ctx, 2, 200, 1000, End::Done);
    let rows = ctx.persist(rows).await.unwrap();
    let plan = rows.clone().create_physical_plan().await.unwrap();
    let task = ctx.session().task_ctx();
    let mut early = plan.execute(0, Arc::clone(&task)).unwrap();
    let first = early.next().await.unwrap().unwrap();
    assert_eq!(sum(rows.clone()).await.unwrap(), 399_999 * 200_000);
    assert!(pool.reserved() <= 2 << 20, "{} bytes", pool.reserved());

    let rest: Vec<_> = early.try_collect().await.unwrap();
    let late: Vec<_> = plan.execute(0, Arc::clone(&task)).unwrap().try_collect().await.unwrap();
    for batches in [std::iter::once(first).chain(rest).collect::<Vec<_>>(), late] {
        let all = concat_batches(&plan.schema(), &batches).unwrap();
        let numbers = all.column(0).as_primitive::<Int64Type>().values();
        assert!(numbers.iter().copied().eq(0..200_000), "rows are lost or out of order");
    }
    assert_eq!(reads.load(Ordering::SeqCst), 2);

    let scan = find(&plan, "PersistExec");
    let spilled = scan.metrics().unwrap();
    assert!((1..200).contains(&spilled.spill_count().unwrap()), "{spilled}");
    drop((rows, plan, scan));
    assert_eq!(pool.reserved(), 0, "memory is given back with the rows");
}

fn find(plan: &Arc<dyn ExecutionPlan>, name: &str) -> Arc<dyn ExecutionPlan> {
    if plan.name() == name { Arc::clone(plan) } else { find(plan.children()[0], name) }
}

#[tokio::test]
async fn several_frames_share_what_may_be_held() {
    let ctx = context(Some(8 << 20));
    let pool: Arc<dyn MemoryPool> = Arc::clone(&ctx.session().runtime_env().memory_pool);
    let mut kept = Vec::new();
    for _ in 0..6 {
        let (rows, _) = numbers(&ctx, 2, 20, 1000, End::Done);
        let rows = ctx.persist(rows).await.unwrap();
        assert_eq!(sum(rows.clone()).await.unwrap(), 39_999 * 20_000);
        kept.push(rows);
    }
    assert!(pool.reserved() <= 2 << 20, "{} bytes", pool.reserved());
}

#[tokio::test]
async fn whoever_reads_gets_the_error_with_its_kind() {
    for _ in 0..2 {
        let ctx = context(None);
        let (rows, reads) = numbers(&ctx, 2, 1, 10, End::Error);
        let rows = ctx.persist(rows).await.unwrap();
        for _ in 0..2 {
            let error = sum(rows.clone()).await.unwrap_err();
            assert_eq!((error.kind(), error.get("line")), (crate::ErrorKind::Refused, Some("7")), "{error:?}");
        }
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_panic_below_is_an_error_for_all_readers() {
    let ctx = context(None);
    let (rows, _) = numbers(&ctx, 2, 1, 10, End::Panic);
    let rows = ctx.persist(rows).await.unwrap();
    for _ in 0..2 {
        let error = sum(rows.clone()).await.unwrap_err();
        assert!(error.chain().contains("a bug"), "{}", error.chain());
    }
}

/// Readers of the first rows need not wait for the last, and a plan that nobody needs any more ends.
#[tokio::test]
async fn rows_are_there_as_they_come_and_the_plan_ends_with_its_readers() {
    let ctx = context(None);
    let (rows, reads) = numbers(&ctx, 1, 1, 10, End::Never);
    let source = Arc::downgrade(&reads);
    let rows = ctx.persist(rows).await.unwrap();
    let mut stream = rows.execute_stream().await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 10);
    drop((stream, reads));
    for _ in 0..100 {
        if source.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the plan is still there");
}

/// Both sides of a join keep their names.
#[tokio::test]
async fn columns_keep_their_qualifiers() {
    let ctx = context(None);
    let sql = "select * from (values (1, 'x')) as a(id, v) join (values (1, 'y')) as b(id, v) on a.id = b.id";
    let rows = ctx.session().sql(sql).await.unwrap();
    let schema = rows.schema().clone();
    let rows = ctx.persist(rows).await.unwrap();
    assert_eq!(rows.schema(), &schema);
    let chosen = rows.select([col("b.v"), col("a.v"), col("a.id")]).unwrap().collect().await.unwrap();
    insta::assert_snapshot!(pretty_format_batches(&chosen).unwrap(), @r"
    +---+---+----+
    | v | v | id |
    +---+---+----+
    | y | x | 1  |
    +---+---+----+
    ");
}

/// Even if the optimiser moves their uses in the plan above, and if names look like internal ones.
#[tokio::test]
async fn names_without_qualifiers_stay_so() {
    let ctx = context(None);
    let sql = "select 1 as id, named_struct('a', 2) as s, 3 as \"id@0\", 4 as \"id@0@2\"";
    let rows = ctx.session().sql(sql).await.unwrap();
    let schema = rows.schema().clone();
    let rows = ctx.persist(rows).await.unwrap();
    assert_eq!(rows.schema(), &schema);
    let rows = rows.filter(datafusion::functions::core::expr_fn::get_field(col("s"), "a").gt(lit(1))).unwrap();
    let rows = rows.with_column("s", col("id") + lit(1)).unwrap().with_column("id", lit(7)).unwrap();
    insta::assert_snapshot!(pretty_format_batches(&rows.collect().await.unwrap()).unwrap(), @r"
    +----+---+------+--------+
    | id | s | id@0 | id@0@2 |
    +----+---+------+--------+
    | 7  | 2 | 3    | 4      |
    +----+---+------+--------+
    ");
}

/// A source by name only.
#[derive(Debug)]
struct Numbers;

#[async_trait]
impl crate::Source for Numbers {
    fn name(&self) -> &str {
        "numbers"
    }

    async fn load(&self, _: &crate::LoadContext) -> crate::Result<DataFrame> {
        unreachable!("the test has made the rows")
    }
}

#[tokio::test]
async fn a_source_that_two_plans_read_is_told() {
    let ctx = context(None);
    let (rows, _) = numbers(&ctx, 1, 1, 10, End::Done);
    let reads = crate::Reads::default();
    reads.loaded(&Numbers, &rows);
    let even = rows.clone().filter((col("n") % lit(2)).eq(lit(0))).unwrap();
    assert!(reads.read("a", &even).is_empty());
    let advice = reads.read("b", &rows);
    assert_eq!(
        advice,
        ["the source `numbers` is read by a and again by b; `ctx.persist(rows)` computes shared rows once"]
    );

    let reads = crate::Reads::default();
    reads.loaded(&Numbers, &rows);
    let persisted = ctx.persist(rows).await.unwrap();
    assert!(reads.read("a", &persisted).is_empty() && reads.read("b", &persisted).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For all sizes and limits: the same rows, each stream in order, any number of times.
    #[test]
    fn persisted_or_not_the_rows_are_the_same(
        streams in 1_usize..4,
        batches in 0_usize..30,
        rows in 1_usize..3000,
        limit in prop_oneof![Just(None), (2_usize..32).prop_map(|mib| Some(mib << 20))],
    ) {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        tokio.block_on(async {
            let ctx = context(limit);
            let (plain, _) = numbers(&ctx, streams, batches, rows, End::Done);
            let expected = plain.clone().collect_partitioned().await.unwrap();
            let persisted = ctx.persist(plain).await.unwrap();
            for _ in 0..2 {
                let got = persisted.clone().collect_partitioned().await.unwrap();
                let one = |batches: &Vec<RecordBatch>| -> Vec<i64> {
                    let numbers = |b: &RecordBatch| b.column(0).as_primitive::<Int64Type>().values().to_vec();
                    batches.iter().flat_map(numbers).collect()
                };
                let all = |all: &[Vec<RecordBatch>]| all.iter().map(one).collect::<Vec<_>>();
                assert_eq!(all(&got), all(&expected));
            }
        });
    }
}
