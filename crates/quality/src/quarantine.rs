//! Rows that are set aside instead of being published.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, ListBuilder, RecordBatch, StringBuilder};
use datafusion::arrow::compute::{cast, filter};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use hardtack_core::{Error, Result, Sink, StageContext, Staged};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::flow::{Feed, flow};
use crate::measure::plain;
use crate::query::frame;

/// The column with the rules that a row fails.
pub const FAILED_RULES: &str = "_failed_rules";

/// Stages refused rows to a sink, which begins with the first of them.
pub(crate) struct Quarantine {
    sink: Arc<dyn Sink>,
    ctx: StageContext,
    staging: Mutex<Option<Staging>>,
}

struct Staging {
    schema: SchemaRef,
    feed: Feed,
    staged: Abort,
}

/// A task that is stopped when nobody waits for it any more.
struct Abort(JoinHandle<Result<Staged>>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quarantine").field("sink", &self.sink).finish_non_exhaustive()
    }
}

impl Quarantine {
    pub(crate) fn new(sink: Arc<dyn Sink>, ctx: StageContext) -> Self {
        Self { sink, ctx, staging: Mutex::new(None) }
    }

    /// Adds the bad rows among those of a batch, with the rules that each of them fails.
    pub(crate) async fn add(
        &self,
        rows: &RecordBatch,
        bad: &BooleanArray,
        failing: &[(&str, &BooleanArray)],
    ) -> Result<()> {
        let (feed, schema) = {
            let mut staging = self.staging.lock().await;
            let staging = match &mut *staging {
                Some(staging) => staging,
                none => none.insert(self.begin(&rows.schema())?),
            };
            (staging.feed.clone(), Arc::clone(&staging.schema))
        };
        let columns = rows.columns().iter().zip(schema.fields()).map(|(column, field)| {
            let column = filter(column, bad)?;
            if column.data_type() == field.data_type() { Ok(column) } else { cast(&column, field.data_type()) }
        });
        let mut columns = columns.collect::<Result<Vec<ArrayRef>, _>>().map_err(DataFusionError::from)?;
        let mut reasons = ListBuilder::new(StringBuilder::new()).with_field(reason());
        for row in 0..rows.num_rows() {
            if bad.value(row) {
                for (rule, fails) in failing {
                    if fails.value(row) {
                        reasons.values().append_value(rule);
                    }
                }
                reasons.append(true);
            }
        }
        columns.push(Arc::new(reasons.finish()));
        let refused = RecordBatch::try_new(schema, columns).map_err(DataFusionError::from)?;
        // If the sink has failed, its error comes out in the end.
        let _ = feed.send(refused).await;
        Ok(())
    }

    fn begin(&self, schema: &SchemaRef) -> Result<Staging> {
        let mut fields: Vec<Field> =
            plain(schema).fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        if let Ok(taken) = schema.field_with_name(FAILED_RULES) {
            return Err(Error::usage(format!("the rows have a column `{}`, which the quarantine adds", taken.name())));
        }
        fields.push(Field::new(FAILED_RULES, DataType::List(Arc::new(reason())), false));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let (feed, table) = flow(Arc::clone(&schema))?;
        let rows = frame(&self.ctx.session().state(), table)?;
        let (sink, ctx) = (Arc::clone(&self.sink), self.ctx.clone());
        let staged = Abort(tokio::spawn(async move { sink.stage(&ctx, rows).await }));
        Ok(Staging { schema, feed, staged })
    }

    /// What is staged, once all rows were added; nothing if there were none.
    pub(crate) async fn end(&self) -> Result<Staged> {
        let Some(Staging { feed, mut staged, .. }) = self.staging.lock().await.take() else {
            return Ok(Staged::default());
        };
        drop(feed);
        let ended = (&mut staged.0).await;
        let ended = ended.map_err(|e| Error::unexpected("the quarantine ended early").because(e))?;
        ended.map_err(|e| e.with("quarantine", self.sink.name()))
    }
}

fn reason() -> Field {
    Field::new("item", DataType::Utf8, false)
}
