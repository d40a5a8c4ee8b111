//! The highest value of a column among the rows of a plan that was executed to its end.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, Result as DFResult, ScalarValue};
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::min_max::MaxAccumulator;
use datafusion::logical_expr::Accumulator;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SendableRecordBatchStream,
};
use datafusion::prelude::DataFrame;
use futures::{TryStreamExt, stream};

use crate::operator::{self, Operator};
use crate::{Error, Result};

/// The highest value of a column among the rows that a run has read.
///
/// A plan counts if it was executed to its end, and not below a limit. Of several plans, the one counts whose highest value
/// is the lowest: what is above it has not gone through all of them.
#[derive(Debug, Default)]
pub struct HighWater(Mutex<Read>);

#[derive(Debug, Default)]
enum Read {
    /// No plan was executed to its end.
    #[default]
    Nothing,
    /// No row.
    Empty,
    To(ScalarValue),
}

impl HighWater {
    /// The same rows, which are observed on their way through a plan.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if there is no such column, or if its values have no order. During execution
    /// [`Refused`](crate::ErrorKind::Refused) for a null: it is neither below nor above anything, so it would be lost.
    pub fn observe(rows: DataFrame, column: &str) -> Result<(DataFrame, Arc<Self>)> {
        let schema = Arc::clone(rows.schema().inner());
        let index = schema.index_of(column).map_err(|_| {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Error::usage("the column of the bookmark is not there")
                .with("column", column)
                .with("columns", names.join(", "))
        })?;
        let data_type = schema.field(index).data_type();
        let ordered = !data_type.is_nested() && *data_type != DataType::Boolean;
        if !ordered || MaxAccumulator::try_new(data_type).is_err() {
            let error = Error::usage("values of this type do not grow, so they cannot be a bookmark");
            return Err(error.with("column", column).with("type", data_type));
        }
        let water = Arc::new(Self::default());
        let watermark = Watermark { schema, index, water: Arc::clone(&water) };
        Ok((operator::apply(rows, Arc::new(watermark))?, water))
    }

    /// Whether a plan was executed to its end.
    pub fn is_read(&self) -> bool {
        !matches!(*self.read(), Read::Nothing)
    }

    /// The highest value, if a plan was executed to its end and had rows.
    pub fn value(&self) -> Option<ScalarValue> {
        match &*self.read() {
            Read::To(value) => Some(value.clone()),
            Read::Nothing | Read::Empty => None,
        }
    }

    /// A plan has ended.
    fn ended(&self, highest: ScalarValue) {
        let mut read = self.read();
        *read = match &*read {
            Read::Empty => return,
            Read::To(other) if *other <= highest => return,
            _ if highest.is_null() => Read::Empty,
            _ => Read::To(highest),
        };
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Watermark {
    schema: SchemaRef,
    index: usize,
    water: Arc<HighWater>,
}

impl Operator for Watermark {
    fn name(&self) -> &'static str {
        "Watermark"
    }

    fn describe(&self) -> String {
        self.schema.field(self.index).name().clone()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn plan(&self, input: Arc<dyn ExecutionPlan>) -> DFResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(WatermarkExec::new(input, self.index, Arc::clone(&self.water))?))
    }
}

/// Observes a column. Nothing is pushed through it: with a filter below, rows that the filter drops would not count.
#[derive(Debug)]
pub(crate) struct WatermarkExec {
    pub(crate) input: Arc<dyn ExecutionPlan>,
    index: usize,
    water: Arc<HighWater>,
    execution: Arc<Execution>,
}

/// One execution of a plan.
#[derive(Debug)]
struct Execution {
    highest: Mutex<MaxAccumulator>,
    /// The streams that have not ended.
    open: AtomicUsize,
}

impl Execution {
    fn observe(&self, batch: &RecordBatch, column: usize) -> DFResult<()> {
        let values = batch.column(column);
        if values.null_count() > 0 {
            let why = "a value of the bookmark's column is missing, so its row could not be found again";
            return Err(Error::refused(why).with("column", batch.schema().field(column).name()).into());
        }
        self.highest().update_batch(&[Arc::clone(values)])
    }

    /// A stream has ended. Returns the highest value if it was the last one.
    fn ended(&self) -> DFResult<Option<ScalarValue>> {
        match self.open.fetch_sub(1, Ordering::SeqCst) {
            1 => self.highest().evaluate().map(Some),
            _ => Ok(None),
        }
    }

    fn highest(&self) -> MutexGuard<'_, MaxAccumulator> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatermarkExec {
    fn new(input: Arc<dyn ExecutionPlan>, index: usize, water: Arc<HighWater>) -> DFResult<Self> {
        let highest = Mutex::new(MaxAccumulator::try_new(input.schema().field(index).data_type())?);
        let open = AtomicUsize::new(input.output_partitioning().partition_count());
        Ok(Self { input, index, water, execution: Arc::new(Execution { highest, open }) })
    }
}

impl DisplayAs for WatermarkExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatermarkExec: {}", self.input.schema().field(self.index).name())
    }
}

impl ExecutionPlan for WatermarkExec {
    fn name(&self) -> &'static str {
        "WatermarkExec"
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
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("an operator has one input".to_owned()))?;
        Ok(Arc::new(Self::new(input, self.index, Arc::clone(&self.water))?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DFResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (index, water, execution) = (self.index, Arc::clone(&self.water), Arc::clone(&self.execution));
        // It ends with an error, so only a stream that was read to its end has ended.
        let observed = stream::try_unfold((rows, water, execution), move |(mut rows, water, execution)| async move {
            match rows.try_next().await? {
                Some(batch) => {
                    execution.observe(&batch, index)?;
                    Ok(Some((batch, (rows, water, execution))))
                }
                None => {
                    execution.ended()?.into_iter().for_each(|highest| water.ended(highest));
                    Ok(None)
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), observed)))
    }
}
