//! Rows that are computed at most once, however many plans use them.
//!
//! A DataFrame is a plan, so saving two frames derived from one reads the sources twice. [`persist`] puts a table in
//! between: the first plan that scans it executes the plan below, and all scans, at the same time or later, read the
//! same batches from a [`Buffer`].

mod buffer;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Column, DataFusionError, Result as DFResult};
use datafusion::datasource::{TableProvider, TableType, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SendableRecordBatchStream,
};
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use tokio::sync::OnceCell;

pub(crate) use self::buffer::Budget;
use self::buffer::Buffer;
use crate::Result;

/// The name of the table that plans scan.
const TABLE: &str = "persisted";

/// The same rows, computed when they are first needed, and only then.
pub(crate) fn persist(rows: DataFrame, budget: &Arc<Budget>) -> Result<DataFrame> {
    let (state, plan) = rows.into_parts();
    let schema = internal_names(plan.schema().as_arrow());
    // Columns get their names back, with their qualifiers; a table has only one.
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .zip(schema.fields())
        .map(|((qualifier, field), own)| {
            let column = Expr::Column(Column::new(Some(TABLE), own.name()));
            match qualifier {
                Some(qualifier) => column.alias_qualified(Some(qualifier.clone()), field.name()),
                None => column.alias(field.name()),
            }
        })
        .collect();
    let table = Persisted { plan, schema, budget: Arc::clone(budget), shared: Arc::default() };
    let scan = LogicalPlanBuilder::scan(TABLE, provider_as_source(Arc::new(table)), None)?;
    Ok(DataFrame::new(state, scan.project(columns)?.build()?))
}

/// The schema with unique new names: the names of a join need not be unique, and the optimiser considers a column
/// ambiguous if there is another one of the same name without a qualifier.
fn internal_names(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().enumerate().map(|(i, field)| {
        let mut name = format!("{}@{i}", field.name());
        while schema.column_with_name(&name).is_some() {
            name.push('@');
        }
        field.as_ref().clone().with_name(name)
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The table that plans scan.
struct Persisted {
    plan: LogicalPlan,
    schema: SchemaRef,
    budget: Arc<Budget>,
    /// The state that all scans share, once the first is planned.
    shared: Arc<OnceCell<Arc<Shared>>>,
}

impl fmt::Debug for Persisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Persisted").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Persisted {
    async fn shared(&self, state: &SessionState) -> DFResult<Arc<Shared>> {
        let plan = async || {
            let plan = state.create_physical_plan(&self.plan).await?;
            let names = self.schema.fields().iter().map(|field| field.name());
            let plan = project(plan, names.cloned().enumerate())?;
            Ok::<_, DataFusionError>(Arc::new(Shared::new(plan, Arc::clone(&self.budget))))
        };
        self.shared.get_or_try_init(plan).await.cloned()
    }
}

#[async_trait]
impl TableProvider for Persisted {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let state = session.as_any().downcast_ref::<SessionState>().ok_or_else(|| {
            DataFusionError::Internal("persisted rows are planned in a session of this process".to_owned())
        })?;
        let scan = Arc::new(PersistExec { shared: self.shared(state).await? });
        let Some(projection) = projection else { return Ok(scan) };
        project(scan, projection.iter().map(|i| (*i, self.schema.field(*i).name().clone())))
    }
}

/// Selects and renames columns of a plan by index. Its known order and distribution are preserved.
fn project(
    plan: Arc<dyn ExecutionPlan>,
    columns: impl Iterator<Item = (usize, String)>,
) -> DFResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let column = |(i, name): (usize, String)| {
        ProjectionExpr::new(Arc::new(PhysicalColumn::new(schema.field(i).name(), i)), name)
    };
    let columns: Vec<ProjectionExpr> = columns.map(column).collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}

/// The state that the scans share: the plan and its execution.
struct Shared {
    plan: Arc<dyn ExecutionPlan>,
    budget: Arc<Budget>,
    metrics: ExecutionPlanMetricsSet,
    execution: OnceLock<std::result::Result<Execution, Arc<DataFusionError>>>,
}

/// The plan while it is executed, and afterwards.
struct Execution {
    /// One for each stream of the plan.
    buffers: Vec<Arc<Buffer>>,
    /// The tasks end when nobody needs the rows any more.
    _tasks: Vec<SpawnedTask<()>>,
}

impl Shared {
    fn new(plan: Arc<dyn ExecutionPlan>, budget: Arc<Budget>) -> Self {
        Self { plan, budget, metrics: ExecutionPlanMetricsSet::new(), execution: OnceLock::new() }
    }

    /// Executes the plan, unless it is being executed already.
    fn buffer(&self, partition: usize, context: &Arc<TaskContext>) -> DFResult<Arc<Buffer>> {
        let execution = self.execution.get_or_init(|| self.execute(context).map_err(Arc::new));
        match execution {
            Ok(execution) => Ok(Arc::clone(&execution.buffers[partition])),
            Err(error) => Err(DataFusionError::Shared(Arc::clone(error))),
        }
    }

    fn execute(&self, context: &Arc<TaskContext>) -> DFResult<Execution> {
        let (mut buffers, mut tasks) = (Vec::new(), Vec::new());
        for partition in 0..self.plan.output_partitioning().partition_count() {
            let rows = self.plan.execute(partition, Arc::clone(context))?;
            let buffer = Buffer::new(partition, self.plan.schema(), Arc::clone(&self.budget), &self.metrics, context);
            let buffer = Arc::new(buffer);
            tasks.push(SpawnedTask::spawn(Arc::clone(&buffer).fill(rows)));
            buffers.push(buffer);
        }
        Ok(Execution { buffers, _tasks: tasks })
    }
}

/// Reads persisted rows.
struct PersistExec {
    shared: Arc<Shared>,
}

impl fmt::Debug for PersistExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersistExec").field("plan", &self.shared.plan).finish()
    }
}

impl DisplayAs for PersistExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersistExec")
    }
}

impl ExecutionPlan for PersistExec {
    fn name(&self) -> &'static str {
        "PersistExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.shared.plan.properties()
    }

    /// None: the plan below is optimised already, and must not be rewritten for one of those who share it.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DFResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DFResult<SendableRecordBatchStream> {
        let shared = Arc::clone(&self.shared);
        let batches = shared.buffer(partition, &context)?.read();
        // A reader keeps the rows alive.
        let batches = batches.inspect(move |_| {
            let _ = &shared;
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.shared.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests;
