//! The table `hardtack.verdicts`: what the rules of all jobs have found out, from the run records.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, Session, TableProvider};
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::{DataFusionError, Result as DFResult};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use hardtack_core::audit::{Audit, Verdict};
use hardtack_core::{Error, JobContext, Result};
use hardtack_runtime::{RuntimeArgs, open_state};
use hardtack_state::{RunRecord, StateStore};

use crate::runs::{all_runs, status_name};

/// Makes the table known to SQL in this session.
pub(crate) fn register(ctx: &JobContext, options: &RuntimeArgs) -> Result<()> {
    let state = open_state(ctx.stores(), &options.records.state)?;
    let schema = MemorySchemaProvider::new();
    schema.register_table("verdicts".to_owned(), Arc::new(Verdicts { state, schema: columns() }))?;
    let session = ctx.session();
    let catalog = session.state().config().options().catalog.default_catalog.clone();
    let catalog = session.catalog(&catalog).ok_or_else(|| Error::unexpected("the session has no catalog"))?;
    catalog.register_schema("hardtack", Arc::new(schema))?;
    Ok(())
}

struct Verdicts {
    state: Arc<dyn StateStore>,
    schema: SchemaRef,
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verdicts")
    }
}

fn columns() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = |name| Field::new(name, DataType::UInt64, true);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        text("job"),
        text("scope"),
        text("run"),
        Field::new("started_at", time, true),
        text("status"),
        text("subject"),
        text("table_name"),
        number("rows"),
        number("rule_number"),
        text("rule"),
        text("outcome"),
        text("severity"),
        text("actual"),
        text("expected"),
        text("reason"),
        number("failed_rows"),
        text("examples"),
    ]))
}

#[async_trait]
impl TableProvider for Verdicts {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let runs = all_runs(&self.state).await.map_err(DataFusionError::from)?;
        let batch = batch(&self.schema, &runs)?;
        MemTable::try_new(Arc::clone(&self.schema), vec![vec![batch]])?.scan(session, projection, filters, limit).await
    }
}

fn batch(schema: &SchemaRef, runs: &[RunRecord]) -> DFResult<RecordBatch> {
    let rows: Vec<(&RunRecord, &Audit, &Verdict)> = runs
        .iter()
        .flat_map(|run| run.audits.iter().map(move |audit| (run, audit)))
        .flat_map(|(run, audit)| audit.verdicts.iter().map(move |verdict| (run, audit, verdict)))
        .collect();
    type Row<'a> = (&'a RunRecord, &'a Audit, &'a Verdict);
    fn texts<'a>(rows: &[Row<'a>], of: impl Fn(&Row<'a>) -> Option<String>) -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringArray>())
    }
    fn numbers<'a>(rows: &[Row<'a>], of: impl Fn(&Row<'a>) -> Option<u64>) -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<UInt64Array>())
    }
    let started: TimestampMicrosecondArray =
        rows.iter().map(|(run, ..)| Some(run.run.started_at.timestamp_micros())).collect();
    let columns: Vec<ArrayRef> = vec![
        texts(&rows, |(run, ..)| Some(run.run.job.clone())),
        texts(&rows, |(run, ..)| Some(run.run.scope.clone())),
        texts(&rows, |(run, ..)| Some(run.run.id.to_string())),
        Arc::new(started.with_timezone("UTC")),
        texts(&rows, |(run, ..)| Some(status_name(run.status).to_owned())),
        texts(&rows, |(_, audit, _)| Some(audit.subject.clone())),
        texts(&rows, |(_, audit, _)| audit.table.clone()),
        numbers(&rows, |(_, audit, _)| Some(audit.rows)),
        numbers(&rows, |(.., verdict)| Some(verdict.number as u64)),
        texts(&rows, |(.., verdict)| Some(verdict.rule.clone())),
        texts(&rows, |(.., verdict)| Some(verdict.outcome.name().to_owned())),
        texts(&rows, |(.., verdict)| Some(verdict.severity.name().to_owned())),
        texts(&rows, |(.., verdict)| verdict.actual.clone()),
        texts(&rows, |(.., verdict)| verdict.expected.clone()),
        texts(&rows, |(.., verdict)| verdict.reason.clone()),
        numbers(&rows, |(.., verdict)| verdict.failed_rows),
        texts(&rows, |(.., verdict)| (!verdict.examples.is_empty()).then(|| verdict.examples.join(", "))),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
