//! A sink that keeps rows in memory.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use hardtack_core::actions::Phase;
use hardtack_core::publish::{Publisher, Publishers};
use hardtack_core::{DiscardAction, PublishAction, Report, Result, Sink, StageContext, Staged};

const PUBLISHER: &str = "in-memory";

/// Staged but unpublished rows of this process, by run and sink.
static STAGED: LazyLock<Mutex<HashMap<String, Waiting>>> = LazyLock::new(Mutex::default);

type Table = Arc<Mutex<Vec<RecordBatch>>>;
/// Rows, and the table that will hold them.
type Waiting = (Table, Vec<RecordBatch>);

/// Keeps rows in memory; each run replaces the rows of the previous one.
///
/// Clones share their rows: keep a clone to read what a run has published.
///
/// ```
/// # use hardtack_core::{JobContext, Sink};
/// # use hardtack_sinks::InMemory;
/// # #[tokio::main] async fn main() -> hardtack_core::Result<()> {
/// let ctx = JobContext::builder("example").build()?;
/// let sink = InMemory::new("numbers");
/// let rows = ctx.session().sql("select 1 as n").await?;
/// let staged = sink.stage(&ctx.staging("numbers"), rows).await?;
/// assert_eq!(sink.batches().len(), 0); // staged, not published
/// ctx.publish(&staged.publish).await?;
/// assert_eq!(sink.batches()[0].num_rows(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct InMemory {
    name: String,
    schema: Option<SchemaRef>,
    published: Table,
}

impl InMemory {
    /// Creates a sink of this name, without rows.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), schema: None, published: Table::default() }
    }

    /// Declares the schema that the rows must conform to.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<SchemaRef>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// The rows of the last published run.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for InMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InMemory").field("name", &self.name).field("schema", &self.schema).finish()
    }
}

impl PartialEq for InMemory {
    /// Sinks are equal if their configuration is, whatever rows they hold.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.schema == other.schema
    }
}

#[async_trait]
impl Sink for InMemory {
    fn name(&self) -> &str {
        &self.name
    }

    fn declared_schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged> {
        register(ctx.publishers());
        let key = format!("{}/{}", ctx.run().id, self.name);
        let discard = DiscardAction::Foreign { publisher: PUBLISHER.to_owned(), payload: key.clone() };
        ctx.journal().note(discard).await?;
        let batches = ctx.execute(crate::contract(rows, self.schema.as_ref())?).await?;
        let batches: Vec<RecordBatch> = batches.try_collect().await?;
        let report = Report {
            files: 0,
            rows: batches.iter().map(|b| b.num_rows() as u64).sum(),
            bytes: batches.iter().map(|b| b.get_array_memory_size() as u64).sum(),
        };
        ctx.meter().add_bytes(report.bytes);
        let mut staged = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
        staged.insert(key.clone(), (Arc::clone(&self.published), batches));
        let action =
            PublishAction::Foreign { publisher: PUBLISHER.to_owned(), phase: Phase::Appear, payload: key.into() };
        Ok(Staged { report, publish: vec![action], location: None })
    }

    async fn conform(&self, _ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        crate::contract(rows, self.schema.as_ref())
    }
}

#[derive(Debug)]
struct MemoryPublisher;

pub(crate) fn register(publishers: &Publishers) {
    publishers.register(PUBLISHER, Arc::new(MemoryPublisher));
}

#[async_trait]
impl Publisher for MemoryPublisher {
    /// Rows that another process staged were lost with its memory, so there is nothing to do.
    async fn publish(&self, payload: &serde_json::Value) -> Result<()> {
        let key = payload.as_str().unwrap_or_default();
        let staged = STAGED.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some((table, batches)) = staged {
            *table.lock().unwrap_or_else(PoisonError::into_inner) = batches;
        }
        Ok(())
    }

    async fn discard(&self, payload: &str) -> Result<()> {
        STAGED.lock().unwrap_or_else(PoisonError::into_inner).remove(payload);
        Ok(())
    }
}
