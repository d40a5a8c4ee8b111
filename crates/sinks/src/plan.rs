//! Turns the rows of a sink into the plan that writes them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{Distribution, ExecutionPlan, ExecutionPlanProperties};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::DataFrame;
use hardtack_core::operator;

use crate::distinct::{DistinctInPartition, distinct_in_partition};
use crate::gather::GatherExec;
use crate::write::{ParquetWriteExec, Write, required};

/// The plan that writes rows.
pub(crate) async fn plan(rows: DataFrame, write: Arc<Write>) -> hardtack_core::Result<Arc<dyn ExecutionPlan>> {
    let (state, rows) = rows.into_parts();
    let input = distinct_in_partition(&rows, write.partitioner.names())?.unwrap_or(rows);
    let node = ParquetWrite { input, write: WriteRef(write), schema: Arc::new(DFSchema::empty()) };
    let plan = state.optimize(&LogicalPlan::Extension(Extension { node: Arc::new(node) }))?;
    let planners = vec![Arc::new(Planner), operator::extension_planner()];
    let planner = DefaultPhysicalPlanner::with_extension_planners(planners);
    Ok(planner.create_physical_plan(&plan, &state).await?)
}

/// Plans the nodes of this crate.
struct Planner;

#[async_trait]
impl ExtensionPlanner for Planner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &SessionState,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let input = || Arc::clone(&inputs[0]);
        Ok(if let Some(node) = node.as_any().downcast_ref::<DistinctInPartition>() {
            let keys = (node.columns..input().schema().fields().len()).collect();
            Some(Arc::new(GatherExec::try_new(input(), keys, Some(node.columns))?))
        } else if let Some(node) = node.as_any().downcast_ref::<ParquetWrite>() {
            let write = &node.write.0;
            let keys = write.partitioner.columns();
            let mut input = input();
            // If rows are to be sorted within files, the sort gathers those of a partition as well.
            if !keys.is_empty() && write.sort_by.is_empty() && !is_gathered(&input, keys)? {
                input = Arc::new(GatherExec::try_new(input, keys.to_vec(), None)?);
            }
            input = packed(input)?;
            Some(Arc::new(ParquetWriteExec::new(write.ctx.observe(input), Arc::clone(write))))
        } else {
            None
        })
    }
}

/// The rows with their texts as dictionaries, if the plan is a gathering with at most a selection of columns above it.
fn packed(input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let (gather, columns) = match input.as_any().downcast_ref::<ProjectionExec>() {
        Some(projection) => (projection.input(), column_indices(projection)),
        None => (&input, Some((0..input.schema().fields().len()).collect())),
    };
    let gather = gather.as_any().downcast_ref::<GatherExec>();
    match gather.zip(columns).and_then(|(gather, columns)| gather.packed(&input.schema(), columns)) {
        Some(packed) => Ok(Arc::new(packed?)),
        None => Ok(input),
    }
}

/// The columns of a projection that only selects columns.
fn column_indices(projection: &ProjectionExec) -> Option<Vec<usize>> {
    projection.expr().iter().map(|e| Some(e.expr.as_any().downcast_ref::<Column>()?.index())).collect()
}

/// Whether the rows already arrive in the order that a write needs.
fn is_gathered(input: &Arc<dyn ExecutionPlan>, keys: &[usize]) -> Result<bool> {
    let schema = input.schema();
    let Some(order) = required(&schema, keys, &[]) else { return Ok(true) };
    let columns = order.iter().map(|column| Arc::clone(&column.expr)).collect();
    let equivalence = input.equivalence_properties();
    let together =
        input.output_partitioning().satisfaction(&Distribution::HashPartitioned(columns), equivalence, false);
    Ok(together.is_satisfied() && equivalence.ordering_satisfy_requirement(order)?)
}

/// The write, the root of a logical plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ParquetWrite {
    input: LogicalPlan,
    write: WriteRef,
    schema: DFSchemaRef,
}

/// Plans are compared: writes are equal if their specification is and they belong to one run.
#[derive(Clone)]
struct WriteRef(Arc<Write>);

impl std::fmt::Debug for WriteRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.spec.fmt(f)
    }
}

impl PartialEq for WriteRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.spec == other.0.spec && self.0.ctx.run() == other.0.ctx.run()
    }
}

impl Eq for WriteRef {}

impl std::hash::Hash for WriteRef {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.spec.sink.hash(state);
        self.0.spec.placement.to_string().hash(state);
    }
}

impl PartialOrd for ParquetWrite {
    fn partial_cmp(&self, _: &Self) -> Option<std::cmp::Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for ParquetWrite {
    fn name(&self) -> &'static str {
        "ParquetWrite"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ParquetWrite")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self { input: inputs.swap_remove(0), ..self.clone() })
    }

    /// All columns are written.
    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}
