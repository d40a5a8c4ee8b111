//! Rows that are computed at most once, however many plans use them.
//!
//! A DataFrame is a plan, so whoever saves two frames made from one reads the sources twice. [`persist`] puts a table in
//! between: the first plan that scans it executes the plan below, and all scans, at the same time or later, read the same
//! batches from a [`Buffer`].

mod buffer;

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
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
use datafusion::physical_plan::projection::ProjectionExec;
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
    let schema = distinct_names(plan.schema().as_arrow());
    // Columns keep their qualifiers, of which a table has but one.
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

/// The schema with a number after names that come again, as those of a join may.
fn distinct_names(schema: &Schema) -> SchemaRef {
    let mut taken: HashSet<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut used = HashSet::new();
    let mut name = |name: &String| {
        if used.insert(name.clone()) {
            return name.clone();
        }
        let free = (2..).map(|n| format!("{name}:{n}")).find(|name| taken.insert(name.clone())).unwrap_or_default();
        used.insert(free.clone());
        free
    };
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_name(name(field.name())));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The table that plans scan.
struct Persisted {
    plan: LogicalPlan,
    schema: SchemaRef,
    budget: Arc<Budget>,
    /// What all scans share, once the first was planned.
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
            Ok::<_, DataFusionError>(Arc::new(Shared::new(plan, Arc::clone(&self.schema), Arc::clone(&self.budget))))
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
        let column = |i: &usize| {
            let name = self.schema.field(*i).name();
            (Arc::new(PhysicalColumn::new(name, *i)) as _, name.clone())
        };
        let columns: Vec<(Arc<dyn datafusion::physical_expr::PhysicalExpr>, String)> =
            projection.iter().map(column).collect();
        Ok(Arc::new(ProjectionExec::try_new(columns, scan)?))
    }
}

/// What the scans share: the plan, and what came of it.
struct Shared {
    plan: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    schema: SchemaRef,
    budget: Arc<Budget>,
    metrics: ExecutionPlanMetricsSet,
    execution: OnceLock<std::result::Result<Execution, Arc<DataFusionError>>>,
}

/// The plan while it is executed, and afterwards.
struct Execution {
    /// One for each stream of the plan.
    buffers: Vec<Arc<Buffer>>,
    /// They end when nobody needs the rows any more.
    _tasks: Vec<SpawnedTask<()>>,
}

impl Shared {
    fn new(plan: Arc<dyn ExecutionPlan>, schema: SchemaRef, budget: Arc<Budget>) -> Self {
        let properties = if plan.schema().fields() == schema.fields() {
            Arc::clone(plan.properties())
        } else {
            renamed(&plan, &schema)
        };
        let (metrics, execution) = (ExecutionPlanMetricsSet::new(), OnceLock::new());
        Self { plan, properties, schema, budget, metrics, execution }
    }

    /// Executes the plan, unless somebody else has.
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
            let schema = Arc::clone(&self.schema);
            let rows = rows.map(move |batch| {
                let batch = batch?;
                let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &rows)?)
            });
            let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows));
            let buffer = Arc::new(Buffer::new(
                partition,
                Arc::clone(&self.schema),
                Arc::clone(&self.budget),
                &self.metrics,
                context,
            ));
            tasks.push(SpawnedTask::spawn(Arc::clone(&buffer).fill(rows)));
            buffers.push(buffer);
        }
        Ok(Execution { buffers, _tasks: tasks })
    }
}

/// The properties of a plan whose columns are renamed: their order and distribution are not known by the new names.
fn renamed(plan: &Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> Arc<PlanProperties> {
    use datafusion::physical_expr::EquivalenceProperties;
    use datafusion::physical_plan::Partitioning;
    let streams = plan.output_partitioning().partition_count();
    let properties = plan.properties().as_ref().clone();
    let properties = properties.with_eq_properties(EquivalenceProperties::new(Arc::clone(schema)));
    Arc::new(properties.with_partitioning(Partitioning::UnknownPartitioning(streams)))
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
        &self.shared.properties
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
        // Whoever reads keeps the rows.
        let batches = batches.inspect(move |_| {
            let _ = &shared;
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.shared.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.shared.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests;
