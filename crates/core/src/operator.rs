//! Relational operators of our own, as nodes of logical plans.
//!
//! An operator stays a node between its input and the rest of a plan, so whoever walks over the plan sees what it reads.
//! Sessions of [`sql::session`](crate::sql::session) can execute it; [`apply`] equips any other.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result as DFResult};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::DataFrame;

use crate::Result;

/// An operator over the rows of one input. It refers to columns by their position.
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// The name, for plans.
    fn name(&self) -> &'static str;

    /// What else a plan shows of it.
    fn describe(&self) -> String;

    /// The columns of the result.
    fn schema(&self) -> SchemaRef;

    /// The operator over an input that is planned.
    ///
    /// # Errors
    /// An input that it cannot work on.
    fn plan(&self, input: Arc<dyn ExecutionPlan>) -> DFResult<Arc<dyn ExecutionPlan>>;
}

/// Puts an operator on top of a plan.
///
/// ```
/// # use std::sync::Arc;
/// # use datafusion::arrow::datatypes::SchemaRef;
/// # use datafusion::common::Result;
/// # use datafusion::physical_plan::{ExecutionPlan, limit::GlobalLimitExec};
/// # use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
/// # use datafusion::prelude::*;
/// # use hardtack_core::operator::{self, Operator};
/// /// Any row of the input.
/// #[derive(Debug)]
/// struct AnyRow(SchemaRef);
///
/// impl Operator for AnyRow {
///     fn name(&self) -> &'static str {
///         "AnyRow"
///     }
///
///     fn describe(&self) -> String {
///         "of 1".to_owned()
///     }
///
///     fn schema(&self) -> SchemaRef {
///         Arc::clone(&self.0)
///     }
///
///     fn plan(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
///         let input = Arc::new(CoalescePartitionsExec::new(input));
///         Ok(Arc::new(GlobalLimitExec::new(input, 0, Some(1))))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let rows = dataframe!("id" => [1, 2, 3])?;
/// let any = AnyRow(Arc::clone(rows.schema().inner()));
/// assert_eq!(operator::apply(rows, Arc::new(any))?.count().await?, 1);
/// # Ok(()) }
/// ```
///
/// The session of the returned frame can execute operators. If it had a query planner of its own, that is replaced.
///
/// # Errors
/// `Usage` if two columns of the operator have the same name.
pub fn apply(rows: DataFrame, operator: Arc<dyn Operator>) -> Result<DataFrame> {
    let (state, input) = rows.into_parts();
    let schema = Arc::new(DFSchema::try_from(operator.schema().as_ref().clone())?);
    let node = OperatorNode { operator, schema, input };
    Ok(DataFrame::new(equipped(state), LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}

/// The session, able to execute operators.
pub(crate) fn equipped(state: SessionState) -> SessionState {
    let planner = Arc::clone(state.query_planner());
    // Its name is all that is known of it.
    if format!("{planner:?}") == format!("{OperatorPlanner:?}") {
        return state;
    }
    SessionStateBuilder::new_from_existing(state).with_query_planner(Arc::new(OperatorPlanner)).build()
}

/// An operator and its input.
#[derive(Debug, Clone)]
struct OperatorNode {
    operator: Arc<dyn Operator>,
    schema: DFSchemaRef,
    input: LogicalPlan,
}

impl PartialEq for OperatorNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.operator, &other.operator) && self.input == other.input
    }
}

impl Eq for OperatorNode {}

impl PartialOrd for OperatorNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other { Some(Ordering::Equal) } else { None }
    }
}

impl Hash for OperatorNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.operator.describe().hash(state);
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for OperatorNode {
    fn name(&self) -> &str {
        self.operator.name()
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

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operator.name(), self.operator.describe())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DFResult<Self> {
        let input = inputs.pop().ok_or_else(|| DataFusionError::Internal("an operator has one input".to_owned()))?;
        Ok(Self { input, ..self.clone() })
    }
}

/// Plans operators; DataFusion plans the rest.
/// What plans operators, for a planner that has nodes of its own to plan.
pub fn extension_planner() -> Arc<dyn ExtensionPlanner + Send + Sync> {
    Arc::new(OperatorPlanner)
}

#[derive(Debug)]
struct OperatorPlanner;

#[async_trait]
impl QueryPlanner for OperatorPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &SessionState,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Self)]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for OperatorPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &SessionState,
    ) -> DFResult<Option<Arc<dyn ExecutionPlan>>> {
        let node = node.as_any().downcast_ref::<OperatorNode>();
        let planned = node.zip(inputs.first()).map(|(node, input)| node.operator.plan(Arc::clone(input)));
        planned.transpose()
    }
}
