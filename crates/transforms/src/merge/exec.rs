//! The operator that keeps the last row of each key.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::RefCountedTempFile;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, SpillMetrics};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SendableRecordBatchStream,
    SpillManager,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use hardtack_core::operator::Operator;

use super::last::{Last, SPLITS};

/// By what rows are compared, in terms of the columns of the input. Those of the result come first.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The columns of the input.
    pub(super) input: SchemaRef,
    /// The number of columns of the result.
    pub(super) values: usize,
    /// Rows with equal values are versions of one thing.
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The version with the greatest values is the last.
    pub(super) order: Vec<Arc<dyn PhysicalExpr>>,
    /// Between versions with equal values, the hash of these decides.
    pub(super) tied: Vec<usize>,
    pub(super) known: Option<Known>,
}

/// The columns whose values a version may leave out.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The struct that says since when values are known.
    pub(super) column: usize,
    /// The column of each of its fields.
    pub(super) fields: Vec<usize>,
    /// The first order column, as it is.
    pub(super) since: Arc<dyn PhysicalExpr>,
    /// The delete marker.
    pub(super) marker: Option<usize>,
}

impl Layout {
    pub(super) fn output(&self) -> SchemaRef {
        Arc::new(Schema::new(self.input.fields()[..self.values].iter().cloned().collect::<Fields>()))
    }

    /// The types of expressions.
    pub(super) fn types(&self, exprs: &[Arc<dyn PhysicalExpr>]) -> Result<Vec<DataType>> {
        exprs.iter().map(|expr| expr.data_type(&self.input)).collect()
    }
}

/// The values of expressions.
pub(super) fn evaluate(exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|expr| expr.evaluate(rows)?.into_array(rows.num_rows())).collect()
}

impl Operator for Layout {
    fn name(&self) -> &'static str {
        "LastRows"
    }

    fn describe(&self) -> String {
        let show =
            |exprs: &[Arc<dyn PhysicalExpr>]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("keys=[{}], order=[{}]", show(&self.keys), show(&self.order))
    }

    fn schema(&self) -> SchemaRef {
        self.output()
    }

    fn plan(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(LastRowsExec::new(Arc::new(self.clone()), input)))
    }
}

/// Keeps the last row of each key.
///
/// The rows of a key come in one stream. Those that may be the last are held as they came, with a hash table of the
/// keys; at the end a batch of which all rows are the last goes on as it is. If memory runs out, the rows are split by
/// key into files, and those of one file at a time are gone through again.
#[derive(Debug)]
struct LastRowsExec {
    layout: Arc<Layout>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LastRowsExec {
    fn new(layout: Arc<Layout>, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(layout.output()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { layout, input, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for LastRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LastRowsExec: {}", self.layout.describe())
    }
}

impl ExecutionPlan for LastRowsExec {
    fn name(&self) -> &'static str {
        "LastRowsExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::HashPartitioned(self.layout.keys.clone())]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("one input".to_owned()))?;
        Ok(Arc::new(Self::new(Arc::clone(&self.layout), input)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let spill = SpillManager::new(
            context.runtime_env(),
            SpillMetrics::new(&self.metrics, partition),
            Arc::clone(&self.layout.input),
        );
        let consumer = MemoryConsumer::new(format!("LastRows[{partition}]")).with_can_spill(true);
        let task = Task {
            layout: Arc::clone(&self.layout),
            spill: spill.with_compression_type(context.session_config().spill_compression()),
            memory: consumer.register(context.memory_pool()),
            batch_size: context.session_config().batch_size(),
            metrics,
        };
        let rows = stream::once(task.rows(input, 0)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.layout.output(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Rows that were split into as many files more often than this do not fit into memory: they are of a few keys.
const MAX_SPLITS: usize = 8;

/// One stream of the operator.
struct Task {
    layout: Arc<Layout>,
    spill: SpillManager,
    memory: MemoryReservation,
    batch_size: usize,
    metrics: BaselineMetrics,
}

impl Task {
    /// The last rows among these, which were split this often.
    fn rows(self, input: SendableRecordBatchStream, splits: usize) -> BoxFuture<'static, Result<Batches>> {
        // Boxed, because it calls itself.
        self.last_of(input, splits).boxed()
    }

    async fn last_of(self, mut input: SendableRecordBatchStream, splits: usize) -> Result<Batches> {
        let mut last = Last::new(Arc::clone(&self.layout), self.batch_size)?;
        let mut files = Files::new();
        while let Some(batch) = input.next().await.transpose()? {
            let _timer = self.metrics.elapsed_compute().timer();
            last.add(batch)?;
            if let Err(full) = self.memory.try_resize(last.size()) {
                last.compact()?;
                if self.memory.try_resize(last.size()).is_ok() {
                    continue;
                }
                if splits == MAX_SPLITS {
                    return Err(full);
                }
                self.spill(&mut last, splits, &mut files)?;
            }
        }
        drop(input);
        if files.is_empty() {
            let (metrics, memory) = (self.metrics.clone(), self.memory);
            let rows = last.into_batches()?.map(move |batch| {
                let batch = batch?;
                memory.try_shrink(batch.get_array_memory_size().min(memory.size()))?;
                metrics.record_output(batch.num_rows());
                Ok(batch)
            });
            return Ok(stream::iter(rows).boxed());
        }
        self.spill(&mut last, splits, &mut files)?;
        let rows = stream::iter(files).then(move |files| {
            let task = Self {
                layout: Arc::clone(&self.layout),
                spill: self.spill.clone(),
                memory: self.memory.new_empty(),
                batch_size: self.batch_size,
                metrics: self.metrics.clone(),
            };
            async move {
                let spill = task.spill.clone();
                let rows = stream::iter(files).map(move |file| spill.read_spill_as_stream(file, None)).try_flatten();
                let rows = RecordBatchStreamAdapter::new(Arc::clone(&task.layout.input), rows);
                task.rows(Box::pin(rows), splits + 1).await
            }
        });
        Ok(rows.try_flatten().boxed())
    }

    /// Moves the rows to files, by key.
    fn spill(&self, last: &mut Last, splits: usize, files: &mut Files) -> Result<()> {
        files.resize_with(SPLITS, Vec::new);
        for (part, rows) in files.iter_mut().zip(last.split(splits)?) {
            part.extend(self.spill.spill_record_batch_and_finish(&rows, "last rows by key")?);
        }
        self.memory.free();
        Ok(())
    }
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

/// The files of each part into which rows were split by key.
type Files = Vec<Vec<RefCountedTempFile>>;
