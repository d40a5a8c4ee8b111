//! An operator before a partitioned write: gathers the rows of each partition value.
//!
//! A sort would do this too, and is used where rows are to be sorted within their files. But gathering rows does not
//! require comparing them. A stream holds its batches as they arrive and records which rows belong to which key. Once
//! all have arrived, it emits the keys in order and copies each row once into its place. Rows that do not fit into
//! memory are spilled in runs sorted by key.
//!
//! The rows of a key have to be in one stream. The operator requires this of its input, so the plan has an exchange
//! below it, by a hash of the keys, and may run wherever the exchange delivers its rows, also in several processes. An
//! exchange within the process would copy every row once more. The operator therefore does that one itself: it takes
//! the input of the [`RepartitionExec`], gathers what arrives in any stream, and the output streams take keys in turn.
//!
//! Equal rows have equal keys as long as the keys are functions of the row. Duplicates can therefore be dropped here,
//! key by key, instead of in an aggregation over all rows: see [`distinct`](crate::distinct).

mod copy;
mod held;
mod intake;
mod keys;
mod output;
mod pack;
mod picked;

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::{SortOptions, concat_batches, partition, take_record_batch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, SpillMetrics};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};

use held::RowHash;
use intake::Intake;
use output::{Gathered, Next, Reader, sort_fields};
use picked::OutputColumns;

/// Gathers rows with equal values in some columns, sorted by these columns; optionally drops duplicates.
#[derive(Debug)]
pub(crate) struct GatherExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<usize>,
    /// The number of columns by which duplicates are found; the columns that follow are functions of them.
    distinct: Option<usize>,
    properties: Arc<PlanProperties>,
    given: OutputColumns,
    /// The rows of all streams, if the operator does the exchange.
    all: OnceGathered,
    metrics: ExecutionPlanMetricsSet,
}

type Gathering = Shared<BoxFuture<'static, Result<Arc<Gathered>, Arc<DataFusionError>>>>;

/// The state that the output streams share; the first of them initialises it.
#[derive(Default)]
struct OnceGathered(Mutex<Option<Gathering>>);

impl fmt::Debug for OnceGathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnceGathered")
    }
}

impl GatherExec {
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, keys: Vec<usize>, distinct: Option<usize>) -> Result<Self> {
        let given = OutputColumns::all(&input.schema());
        Self::giving_out(input, keys, distinct, given)
    }

    /// This operator with only some of its columns as output, under the names of `schema`, and texts as dictionaries:
    /// an encoder does not need copies of them. `None` if the keys are not among the columns.
    pub(crate) fn packed(&self, schema: &SchemaRef, columns: Vec<usize>) -> Option<Result<Self>> {
        let given = OutputColumns::packed(schema, columns);
        let complete = self.keys.iter().all(|key| given.columns.contains(key));
        complete.then(|| Self::giving_out(Arc::clone(&self.input), self.keys.clone(), self.distinct, given))
    }

    fn giving_out(
        input: Arc<dyn ExecutionPlan>,
        keys: Vec<usize>,
        distinct: Option<usize>,
        given: OutputColumns,
    ) -> Result<Self> {
        let schema = Arc::clone(&given.schema);
        let place = |key: &usize| given.columns.iter().position(|column| column == key);
        let columns: Vec<Arc<dyn PhysicalExpr>> =
            keys.iter().filter_map(place).map(|i| Arc::new(Column::new(schema.field(i).name(), i)) as _).collect();
        let mut equivalence = EquivalenceProperties::new(schema);
        equivalence
            .add_ordering(columns.iter().map(|c| PhysicalSortExpr::new(Arc::clone(c), SortOptions::new(false, true))));
        // After an exchange of its own, keys are distributed by load, not by hash, but the guarantee of a hash
        // partitioning holds: all rows of a key are in one stream.
        let partitioning = Partitioning::Hash(columns, input.output_partitioning().partition_count());
        let properties =
            PlanProperties::new(equivalence, partitioning, EmissionType::Final, Boundedness::Bounded).into();
        Ok(Self {
            input,
            keys,
            distinct,
            properties,
            given,
            all: OnceGathered::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Whether rows with columns of this type can be compared for duplicates.
    pub(crate) fn can_compare(data_type: &DataType) -> bool {
        match data_type {
            DataType::Struct(fields) => fields.iter().all(|f| Self::can_compare(f.data_type())),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                Self::can_compare(item.data_type())
            }
            data_type => {
                data_type.is_primitive()
                    || data_type.is_string()
                    || data_type.is_binary()
                    || matches!(data_type, DataType::Boolean)
            }
        }
    }

    /// The input of the exchange below this operator, if the exchange is within this process.
    fn exchanged(&self) -> Option<&Arc<dyn ExecutionPlan>> {
        let exchange = self.input.as_any().downcast_ref::<RepartitionExec>()?;
        matches!(exchange.partitioning(), Partitioning::Hash(..)).then(|| exchange.input())
    }

    /// What an output stream reads.
    fn gathered(&self, partition: usize, context: &Arc<TaskContext>) -> Result<Gathering> {
        let Some(input) = self.exchanged() else {
            return self.gather(&self.input, partition..partition + 1, 1, context);
        };
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gathering) = &*all {
            return Ok(gathering.clone());
        }
        let (inputs, outputs) =
            (input.output_partitioning().partition_count(), self.properties.partitioning.partition_count());
        let gathering = self.gather(input, 0..inputs, outputs, context)?;
        *all = Some(gathering.clone());
        Ok(gathering)
    }

    /// Gathers the rows of some streams, for some number of outputs.
    fn gather(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partitions: Range<usize>,
        outputs: usize,
        context: &Arc<TaskContext>,
    ) -> Result<Gathering> {
        let schema = self.input.schema();
        let given = self.given.clone();
        let hash = self.distinct.map(RowHash::new);
        let limit = match context.memory_pool().memory_limit() {
            MemoryLimit::Finite(bytes) => bytes,
            _ => usize::MAX,
        };
        let mut intakes = Vec::new();
        for partition in partitions {
            let memory = MemoryConsumer::new(format!("Gather[{partition}]")).with_can_spill(true);
            let intake = Intake::new(
                Arc::clone(&schema),
                sort_fields(&schema, &self.keys),
                self.keys.clone(),
                hash.clone(),
                memory.register(context.memory_pool()),
                Arc::clone(&context.runtime_env().disk_manager),
                SpillMetrics::new(&self.metrics, partition),
                // When runs are read back, one batch of each is held.
                (limit / 1024).clamp(16 << 10, 1 << 20),
            )?;
            intakes.push((intake, input.execute(partition, Arc::clone(context))?));
        }
        let batch_rows = context.session_config().batch_size();
        let gathering = async move {
            let tasks: Vec<_> =
                intakes.into_iter().map(|(intake, rows)| SpawnedTask::spawn(intake.take_in(rows))).collect();
            let mut done = Vec::with_capacity(tasks.len());
            for task in tasks {
                done.push(task.join_unwind().await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??);
            }
            Ok(Arc::new(Gathered::new(schema, given, done, hash, batch_rows, outputs)))
        };
        Ok(gathering.map(|all| all.map_err(Arc::new)).boxed().shared())
    }
}

impl DisplayAs for GatherExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.input.schema();
        let keys: Vec<_> = self.keys.iter().map(|k| schema.field(*k).name().as_str()).collect();
        write!(f, "GatherExec: by=[{}]", keys.join(", "))?;
        if self.distinct.is_some() {
            f.write_str(", distinct")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for GatherExec {
    fn name(&self) -> &'static str {
        "GatherExec"
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
        let schema = self.input.schema();
        let column = |key: &usize| Arc::new(Column::new(schema.field(*key).name(), *key)) as Arc<dyn PhysicalExpr>;
        vec![Distribution::HashPartitioned(self.keys.iter().map(column).collect())]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let (input, given) = (children.swap_remove(0), self.given.clone());
        Ok(Arc::new(Self::giving_out(input, self.keys.clone(), self.distinct, given)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let gathering = self.gathered(partition, &context)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let memory = MemoryConsumer::new(format!("GatherOutput[{partition}]")).register(context.memory_pool());
        let schema = self.schema();
        let task = self.input.schema();
        let columns = self.distinct.unwrap_or_default();
        let batches = async move {
            let all = gathering.await.map_err(DataFusionError::Shared)?;
            let output = Output { reader: Reader::new(Arc::clone(&all), memory), all, columns, distinct: None };
            Ok(futures::stream::try_unfold(output, move |output| output.next(Arc::clone(&context), Arc::clone(&task))))
        };
        let counted = batches.try_flatten_stream().inspect_ok(move |batch: &RecordBatch| {
            metrics.record_output(batch.num_rows());
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One output stream.
struct Output {
    all: Arc<Gathered>,
    reader: Reader,
    /// The number of columns by which duplicates are found.
    columns: usize,
    /// The rows of a key that is too large for finding duplicates in memory.
    distinct: Option<SendableRecordBatchStream>,
}

impl Output {
    async fn next(mut self, context: Arc<TaskContext>, schema: SchemaRef) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(rows) = &mut self.distinct {
                match rows.next().await {
                    Some(batch) => return Ok(Some((self.all.given_out(&batch?)?, self))),
                    None => self.distinct = None,
                }
            }
            // The consumer encodes these rows, which takes long; yield to other tasks.
            tokio::task::coop::consume_budget().await;
            match self.reader.next()? {
                Some(Next::Rows(batch)) => return Ok(Some((batch, self))),
                Some(Next::TooLarge(key)) => {
                    let rows = OneKey(Arc::clone(&self.all), key, Arc::clone(&schema));
                    self.distinct = Some(distinct(rows, self.columns, Arc::clone(&context))?);
                }
                None => match self.all.next_unit() {
                    Some(keys) => self.reader.read(keys),
                    None => return Ok(None),
                },
            }
        }
    }
}

/// Finds duplicates by sorting, which can spill under any limit. (An aggregation would have to copy all its groups
/// first.)
fn distinct(rows: OneKey, columns: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
    let schema = Arc::clone(&rows.2);
    let input = StreamingTableExec::try_new(Arc::clone(&schema), vec![Arc::new(rows)], None, [], false, None)?;
    let by = (0..columns).map(|i| {
        let column = Arc::new(Column::new(schema.field(i).name(), i)) as Arc<dyn PhysicalExpr>;
        PhysicalSortExpr::new(column, SortOptions::new(false, true))
    });
    let Some(order) = LexOrdering::new(by) else { return input.execute(0, context) };
    let sorted = SortExec::new(order, Arc::new(input)).execute(0, context)?;
    let mut before: Option<RecordBatch> = None;
    let different = sorted.map(move |batch| {
        let batch = batch?;
        if batch.num_rows() == 0 {
            return Ok(batch);
        }
        let mut firsts: Vec<u32> =
            partition(&batch.columns()[..columns])?.ranges().iter().map(|r| r.start as u32).collect();
        if let Some(before) = &before {
            let both = concat_batches(&batch.schema(), [before, &batch.slice(0, 1)])?;
            if partition(&both.columns()[..columns])?.len() == 1 {
                firsts.remove(0);
            }
        }
        before = Some(batch.slice(batch.num_rows() - 1, 1));
        Ok(take_record_batch(&batch, &UInt32Array::from(firsts))?)
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, different)))
}

/// The rows of one key, with duplicates.
#[derive(Debug)]
struct OneKey(Arc<Gathered>, u32, SchemaRef);

impl PartitionStream for OneKey {
    fn schema(&self) -> &SchemaRef {
        &self.2
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let memory = MemoryConsumer::new("GatherOutput").register(context.memory_pool());
        let reader = Reader::of_key(Arc::clone(&self.0), self.1, memory);
        let batches = futures::stream::try_unfold(reader, |mut reader| async move {
            Ok(match reader.next()? {
                Some(Next::Rows(batch)) => Some((batch, reader)),
                _ => None,
            })
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.2), batches))
    }
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gathered")
    }
}
