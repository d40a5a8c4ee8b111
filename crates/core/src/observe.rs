//! Observes rows on their way to a sink, in the same pass that stages them.
//!
//! Staged uploads cannot be read back, and reading sources twice would cost as much as the job. So everything that
//! judges or describes rows, such as audits and profiles, observes them while they flow to the operator that writes.
//! Observers of the run see the rows of all sinks; a sink can have [its own](crate::StageContext::with_observer), which
//! may also hold rows back.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result as DFResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;

use crate::Result;
use crate::meter::Meter;

/// Observes the rows that are staged, of any sink it chooses.
///
/// Each stream of rows gets its own accumulator, so that none waits for another; when a stream ends, its accumulator
/// hands over its result. Columns may be dictionaries where the sink's schema has texts.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use async_trait::async_trait;
/// use datafusion::arrow::array::RecordBatch;
/// use datafusion::arrow::datatypes::SchemaRef;
/// use hardtack_core::observe::{Observer, RowAccumulator};
/// use hardtack_core::{Error, Result};
///
/// /// Stops a run that would save no rows at all.
/// #[derive(Debug, Default)]
/// struct NotEmpty(Arc<AtomicUsize>);
///
/// impl Observer for NotEmpty {
///     fn accumulator(&self, _: &str, _: &SchemaRef) -> Result<Option<Box<dyn RowAccumulator>>> {
///         Ok(Some(Box::new(Rows { seen: 0, all: Arc::clone(&self.0) })))
///     }
///
///     fn verdict(&self) -> Result<()> {
///         if self.0.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err(Error::refused("the run saves no rows")) }
///     }
/// }
///
/// struct Rows {
///     seen: usize,
///     all: Arc<AtomicUsize>,
/// }
///
/// #[async_trait]
/// impl RowAccumulator for Rows {
///     async fn update(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
///         self.seen += rows.num_rows();
///         Ok(rows)
///     }
///
///     async fn finish(self: Box<Self>) -> Result<()> {
///         self.all.fetch_add(self.seen, Ordering::SeqCst);
///         Ok(())
///     }
/// }
/// ```
pub trait Observer: Debug + Send + Sync {
    /// Creates an accumulator for one stream of rows to the sink of this name; none if its rows are not observed.
    ///
    /// # Errors
    /// If the observer does not support this schema; the run fails.
    fn accumulator(&self, sink: &str, schema: &SchemaRef) -> Result<Option<Box<dyn RowAccumulator>>>;

    /// The observer's verdict after all rows are staged and before anything is committed.
    ///
    /// # Errors
    /// [`Refused`](crate::ErrorKind::Refused) to stop the run; nothing of it becomes visible.
    fn verdict(&self) -> Result<()> {
        Ok(())
    }
}

/// The state of an [`Observer`] for one stream of rows.
#[async_trait]
pub trait RowAccumulator: Send {
    /// Takes a batch on its way, and returns the rows that go on to the sink: all of them, except for an observer that
    /// holds rows back and sees to it that they are not lost.
    ///
    /// # Errors
    /// An error ends the run at once.
    async fn update(&mut self, rows: RecordBatch) -> Result<RecordBatch>;

    /// Hands over the result at the end of the stream. Not called for a stream that failed or was dropped.
    ///
    /// # Errors
    /// If the result cannot be merged.
    async fn finish(self: Box<Self>) -> Result<()>;
}

/// Counts passing rows and shows them to observers.
pub(crate) struct ObserveExec {
    sink: Arc<str>,
    meter: Arc<Meter>,
    observers: Vec<Arc<dyn Observer>>,
    input: Arc<dyn ExecutionPlan>,
}

impl ObserveExec {
    pub(crate) fn wrap(
        sink: &Arc<str>,
        meter: Arc<Meter>,
        observers: Vec<Arc<dyn Observer>>,
        input: Arc<dyn ExecutionPlan>,
    ) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { sink: Arc::clone(sink), meter, observers, input })
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn RowAccumulator>>> {
        let schema = self.input.schema();
        self.observers.iter().filter_map(|observer| observer.accumulator(&self.sink, &schema).transpose()).collect()
    }
}

impl Debug for ObserveExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveExec")
            .field("sink", &self.sink)
            .field("observers", &self.observers)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for ObserveExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObserveExec: sink={}", self.sink)
    }
}

impl ExecutionPlan for ObserveExec {
    fn name(&self) -> &'static str {
        "ObserveExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        Ok(Self::wrap(&self.sink, Arc::clone(&self.meter), self.observers.clone(), children.swap_remove(0)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DFResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let observed = Observed { accumulators: self.accumulators()?, meter: Arc::clone(&self.meter) };
        let schema = rows.schema();
        let batches = futures::stream::try_unfold((rows, observed), |(mut rows, mut observed)| async move {
            match rows.next().await.transpose()? {
                Some(batch) => {
                    let batch = observed.update(batch).await?;
                    Ok::<_, DataFusionError>(Some((batch, (rows, observed))))
                }
                None => {
                    observed.finish().await?;
                    Ok(None)
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// One stream of rows.
struct Observed {
    accumulators: Vec<Box<dyn RowAccumulator>>,
    meter: Arc<Meter>,
}

impl Observed {
    async fn update(&mut self, mut batch: RecordBatch) -> Result<RecordBatch> {
        for accumulator in &mut self.accumulators {
            batch = accumulator.update(batch).await?;
        }
        self.meter.add_rows(batch.num_rows() as u64);
        Ok(batch)
    }

    async fn finish(self) -> Result<()> {
        for accumulator in self.accumulators {
            accumulator.finish().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::compute::filter_record_batch;
    use datafusion::arrow::datatypes::Int64Type;
    use futures::TryStreamExt;

    use super::*;
    use crate::{Error, ErrorKind, JobContext};

    /// Sums up the first column; refuses negative values at once, and a total above 10,000 at the end.
    #[derive(Debug, Default, Clone)]
    struct Sum(Arc<Mutex<(i64, usize)>>);

    struct StreamSum(i64, Sum);

    impl Observer for Sum {
        fn accumulator(&self, sink: &str, schema: &SchemaRef) -> Result<Option<Box<dyn RowAccumulator>>> {
            assert_eq!(schema.field(0).name(), "n");
            Ok((sink == "out").then(|| Box::new(StreamSum(0, self.clone())) as Box<dyn RowAccumulator>))
        }

        fn verdict(&self) -> Result<()> {
            let (sum, _) = *self.0.lock().unwrap();
            if sum > 10_000 { Err(Error::refused("too much").with("sum", sum)) } else { Ok(()) }
        }
    }

    #[async_trait]
    impl RowAccumulator for StreamSum {
        async fn update(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
            for n in rows.column(0).as_primitive::<Int64Type>().values() {
                if *n < 0 {
                    return Err(Error::refused("negative"));
                }
                self.0 += n;
            }
            Ok(rows)
        }

        async fn finish(self: Box<Self>) -> Result<()> {
            let mut all = self.1.0.lock().unwrap();
            *all = (all.0 + self.0, all.1 + 1);
            Ok(())
        }
    }

    async fn pass(sum: &Sum, sink: &str, rows: &str) -> (JobContext, Result<usize>) {
        let ctx = JobContext::builder("job").threads(2).observer(Arc::new(sum.clone())).build().unwrap();
        let rows = ctx.session().sql(rows).await.unwrap();
        let passed = match ctx.staging(sink).execute(rows).await {
            Ok(rows) => rows.try_fold(0, async |n, batch| Ok(n + batch.num_rows())).await.map_err(Error::from),
            Err(e) => Err(e),
        };
        (ctx, passed)
    }

    #[tokio::test]
    async fn what_is_staged_is_seen_and_counted_once() {
        let sum = Sum::default();
        let (ctx, passed) = pass(&sum, "out", "select value as n from generate_series(1, 100)").await;
        assert_eq!((passed.unwrap(), sum.0.lock().unwrap().0), (100, 5050));
        assert_eq!(ctx.meters().sink("out").counts().rows, 100);
        ctx.audit().await.unwrap();
    }

    #[tokio::test]
    async fn a_verdict_stops_the_run_and_so_does_a_row() {
        let (ctx, passed) = pass(&Sum::default(), "out", "select value as n from generate_series(1, 200)").await;
        assert_eq!((passed.unwrap(), ctx.audit().await.unwrap_err().get("sum")), (200, Some("20100")));

        let sum = Sum::default();
        let (_, passed) = pass(&sum, "out", "select value as n from generate_series(-5, 5)").await;
        assert_eq!(passed.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(*sum.0.lock().unwrap(), (0, 0), "a stream that failed hands nothing over");
    }

    /// Holds back what is odd.
    #[derive(Debug)]
    struct Even;

    impl Observer for Even {
        fn accumulator(&self, _: &str, _: &SchemaRef) -> Result<Option<Box<dyn RowAccumulator>>> {
            Ok(Some(Box::new(Even)))
        }
    }

    #[async_trait]
    impl RowAccumulator for Even {
        async fn update(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
            let even = rows.column(0).as_primitive::<Int64Type>().iter().map(|n| n.map(|n| n % 2 == 0)).collect();
            Ok(filter_record_batch(&rows, &even).map_err(DataFusionError::from)?)
        }

        async fn finish(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_a_sinks_observer_holds_back_is_neither_counted_nor_seen_by_others() {
        let sum = Sum::default();
        let ctx = JobContext::builder("job").observer(Arc::new(sum.clone())).build().unwrap();
        let rows = ctx.session().sql("select value as n from generate_series(1, 10)").await.unwrap();
        let staging = ctx.staging("out").with_observer(Arc::new(Even));
        let passed: Vec<_> = staging.execute(rows).await.unwrap().try_collect().await.unwrap();
        assert_eq!(passed.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
        assert_eq!((sum.0.lock().unwrap().0, ctx.meters().sink("out").counts().rows), (30, 5));
    }

    #[tokio::test]
    async fn other_sinks_do_not_matter() {
        let sum = Sum::default();
        let (_, passed) = pass(&sum, "other", "select value as n from generate_series(-5, 5)").await;
        assert_eq!((passed.unwrap(), *sum.0.lock().unwrap()), (11, (0, 0)));
    }
}
