//! The audit of what a source delivers, while plans read it.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result as DFResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PlanProperties,
    SendableRecordBatchStream,
};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use hardtack_core::audit::{Audit, PendingAudit};
use hardtack_core::operator::{self, Operator};
use hardtack_core::{JobContext, Location, Result};

use crate::auditor::Auditor;
use crate::judge::judge;
use crate::rules::Rules;

/// The name of a source among those of audits: a sink may have the same.
fn subject(source: &str) -> String {
    format!("source {source}")
}

/// The rows of a source on their way into plans. The first plan that executes them is audited.
pub(crate) struct Incoming {
    source: String,
    location: Option<Location>,
    rules: Rules,
    job: JobContext,
    rows: DataFrame,
    auditor: Auditor,
    /// The streams of the audited plan that are still to be read to their end; none before a plan begins to read.
    open: OnceLock<AtomicUsize>,
}

impl Incoming {
    pub(crate) fn new(
        source: &str,
        location: Option<Location>,
        rules: &Rules,
        job: &JobContext,
        rows: DataFrame,
    ) -> Result<Arc<Self>> {
        let auditor = auditor(source, rules, job)?;
        let (source, rules, job, open) = (source.to_owned(), rules.clone(), job.clone(), OnceLock::new());
        Ok(Arc::new(Self { source, location, rules, job, rows, auditor, open }))
    }

    /// The rows, audited.
    pub(crate) fn frame(self: &Arc<Self>) -> Result<DataFrame> {
        operator::apply(self.rows.clone(), Arc::new(Audited(Arc::clone(self))))
    }
}

fn auditor(source: &str, rules: &Rules, job: &JobContext) -> Result<Auditor> {
    Ok(Auditor::new(rules.settings(job, job.earlier_metrics(&subject(source)), None, None)?))
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("source", &self.source).finish_non_exhaustive()
    }
}

#[async_trait]
impl PendingAudit for Incoming {
    async fn end(&self) -> Result<Option<Audit>> {
        let is_read = self.open.get().is_some_and(|open| open.load(Ordering::SeqCst) == 0);
        let mut auditor = self.auditor.clone();
        if !is_read {
            tracing::info!(
                source = self.source,
                "the run has not read all rows of the source; reading them for the audit"
            );
            // What the first one has begun is of no use, and holds memory.
            auditor.abandon();
            auditor = self::auditor(&self.source, &self.rules, &self.job)?;
            auditor.read(self.rows.clone()).await?;
        }
        let finding = auditor.end(self.rows.schema().inner()).await?;
        let mut audit = judge(&subject(&self.source), auditor.settings(), &finding);
        audit.table = self.location.as_ref().map(ToString::to_string);
        Ok(Some(audit))
    }
}

/// The audit as an operator. Nothing is pushed through it, for the rules are about all rows.
#[derive(Debug)]
struct Audited(Arc<Incoming>);

impl Operator for Audited {
    fn name(&self) -> &'static str {
        "Audit"
    }

    fn describe(&self) -> String {
        self.0.source.clone()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.rows.schema().inner())
    }

    fn plan(&self, input: Arc<dyn ExecutionPlan>) -> DFResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(AuditExec { input, incoming: Arc::clone(&self.0), audits: Arc::default() }))
    }
}

#[derive(Debug)]
struct AuditExec {
    input: Arc<dyn ExecutionPlan>,
    incoming: Arc<Incoming>,
    /// Whether this plan is the one that is audited; unknown until its first stream begins.
    audits: Arc<OnceLock<bool>>,
}

impl AuditExec {
    fn audits(&self) -> bool {
        *self.audits.get_or_init(|| {
            let streams = self.input.output_partitioning().partition_count();
            self.incoming.open.set(AtomicUsize::new(streams)).is_ok()
        })
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
        if !self.audits() {
            return Ok(rows);
        }
        let (schema, incoming) = (rows.schema(), Arc::clone(&self.incoming));
        let audit = incoming.auditor.stream(&schema)?;
        let batches =
            futures::stream::try_unfold((rows, audit, incoming), |(mut rows, mut audit, incoming)| async move {
                match rows.try_next().await? {
                    Some(batch) => {
                        let batch = audit.update(batch).await?;
                        Ok::<_, DataFusionError>(Some((batch, (rows, audit, incoming))))
                    }
                    None => {
                        audit.finish().await?;
                        if let Some(open) = incoming.open.get() {
                            open.fetch_sub(1, Ordering::SeqCst);
                        }
                        Ok(None)
                    }
                }
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
