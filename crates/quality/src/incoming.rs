//! The audit of what a source delivers, while plans read it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as DFResult};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PlanProperties,
    SendableRecordBatchStream,
};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use hardtack_core::audit::{Audit, PendingAudit};
use hardtack_core::observe::Observer;
use hardtack_core::{Location, Result};

use crate::auditor::Auditor;
use crate::judge::judge;

/// The name of a source among those of audits: a sink may have the same.
pub(crate) fn subject(source: &str) -> String {
    format!("source {source}")
}

/// The rows of a source on their way into plans. The first plan that executes them is audited.
pub(crate) struct Incoming {
    source: String,
    location: Option<Location>,
    rows: DataFrame,
    auditor: Auditor,
    /// Starts again with all rows, should no plan read them to their end.
    again: Auditor,
    /// Whether a plan has begun to read.
    has_begun: AtomicBool,
    /// The streams that are still to be read to their end.
    open: AtomicUsize,
}

impl Incoming {
    pub(crate) fn new(source: &str, location: Option<Location>, rows: DataFrame, auditors: [Auditor; 2]) -> Arc<Self> {
        let [auditor, again] = auditors;
        let (has_begun, open) = (AtomicBool::new(false), AtomicUsize::new(1));
        Arc::new(Self { source: source.to_owned(), location, rows, auditor, again, has_begun, open })
    }

    /// The rows, audited.
    pub(crate) fn frame(self: &Arc<Self>) -> Result<DataFrame> {
        let (state, plan) = self.rows.clone().into_parts();
        let table = Table { schema: Arc::new(plan.schema().as_arrow().clone()), plan, incoming: Arc::clone(self) };
        let scan = LogicalPlanBuilder::scan(&self.source, provider_as_source(Arc::new(table)), None)?;
        Ok(DataFrame::new(state, scan.build()?))
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("source", &self.source).finish_non_exhaustive()
    }
}

#[async_trait]
impl PendingAudit for Incoming {
    async fn end(&self) -> Result<Audit> {
        let schema: SchemaRef = Arc::new(self.rows.schema().as_arrow().clone());
        let all_read = self.has_begun.load(Ordering::SeqCst) && self.open.load(Ordering::SeqCst) == 0;
        let auditor = if all_read { &self.auditor } else { &self.again };
        if !all_read {
            tracing::info!(
                source = self.source,
                "the run has not read all rows of the source; reading them for the audit"
            );
            self.again.read(self.rows.clone()).await?;
        }
        let finding = auditor.end(&schema).await?;
        let mut audit = judge(&subject(&self.source), auditor.settings(), &finding);
        audit.table = self.location.as_ref().map(ToString::to_string);
        Ok(audit)
    }
}

/// What plans scan.
struct Table {
    schema: SchemaRef,
    plan: LogicalPlan,
    incoming: Arc<Incoming>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.incoming.fmt(f)
    }
}

#[async_trait]
impl TableProvider for Table {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    /// All rows are read, whatever a plan needs of them, for the rules are about all of them.
    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let state = session.as_any().downcast_ref::<SessionState>().ok_or_else(|| {
            DataFusionError::Internal("audited rows are planned in a session of this process".to_owned())
        })?;
        let input = state.create_physical_plan(&self.plan).await?;
        let scan = Arc::new(AuditExec { input, incoming: Arc::clone(&self.incoming), audits: Arc::default() });
        let Some(projection) = projection else { return Ok(scan) };
        let column = |i: &usize| {
            let name = self.schema.field(*i).name();
            ProjectionExpr::new(Arc::new(Column::new(name, *i)), name.clone())
        };
        Ok(Arc::new(ProjectionExec::try_new(projection.iter().map(column).collect::<Vec<_>>(), scan)?))
    }
}

/// Whether an execution of the plan is the one that is audited; unknown until its first stream begins.
type IsFirst = std::sync::OnceLock<bool>;

struct AuditExec {
    input: Arc<dyn ExecutionPlan>,
    incoming: Arc<Incoming>,
    audits: Arc<IsFirst>,
}

impl fmt::Debug for AuditExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditExec").field("source", &self.incoming.source).finish_non_exhaustive()
    }
}

impl DisplayAs for AuditExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditExec: source={}", self.incoming.source)
    }
}

impl ExecutionPlan for AuditExec {
    fn name(&self) -> &'static str {
        "AuditExec"
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
        let (incoming, audits) = (Arc::clone(&self.incoming), Arc::clone(&self.audits));
        Ok(Arc::new(Self { input: children.swap_remove(0), incoming, audits }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DFResult<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let incoming = Arc::clone(&self.incoming);
        let streams = self.input.output_partitioning().partition_count();
        let audits = *self.audits.get_or_init(|| {
            let first = !incoming.has_begun.swap(true, Ordering::SeqCst);
            if first {
                incoming.open.store(streams, Ordering::SeqCst);
            }
            first
        });
        if !audits {
            return Ok(rows);
        }
        let schema = rows.schema();
        let accumulator = incoming.auditor.accumulator(&incoming.source, &schema)?;
        let batches = futures::stream::try_unfold(
            (rows, accumulator, incoming),
            |(mut rows, mut accumulator, incoming)| async move {
                match (rows.try_next().await?, &mut accumulator) {
                    (Some(batch), Some(audit)) => {
                        let batch = audit.update(batch).await?;
                        Ok::<_, DataFusionError>(Some((batch, (rows, accumulator, incoming))))
                    }
                    (Some(batch), None) => Ok(Some((batch, (rows, accumulator, incoming)))),
                    (None, _) => {
                        if let Some(audit) = accumulator {
                            audit.finish().await?;
                            incoming.open.fetch_sub(1, Ordering::SeqCst);
                        }
                        Ok(None)
                    }
                }
            },
        );
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
