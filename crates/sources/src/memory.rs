//! Rows in memory.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;
use datafusion::sql::TableReference;
use hardtack_core::{Error, LoadContext, Result, ShowFields, Source};

/// Rows in memory as a source: seed data, or a frame from another part of the program.
///
/// ```
/// use datafusion::common::record_batch;
/// use hardtack_sources::InMemory;
///
/// let seed = record_batch!(("id", Int32, vec![1, 2])).unwrap();
/// assert_eq!(InMemory::new("seed", seed.clone()), InMemory::new("seed", seed.clone()));
/// assert_eq!(format!("{:?}", InMemory::new("seed", seed)), r#"InMemory { name: "seed", schema: [id: Int32], rows: 2 }"#);
/// ```
///
/// Sources of batches are equal if their batches are. Sources of frames are equal if their plans are, as DataFusion
/// compares them: two plans that scan different tables of one name are equal.
#[derive(Clone)]
pub struct InMemory {
    name: String,
    rows: Rows,
}

/// Rows for [`InMemory`]: a `RecordBatch`, a vector of them, or a `DataFrame`.
#[derive(Debug, Clone)]
pub struct Rows(Held);

#[derive(Debug, Clone)]
enum Held {
    Batches(Vec<RecordBatch>),
    Frame(Box<DataFrame>),
}

impl From<RecordBatch> for Rows {
    fn from(batch: RecordBatch) -> Self {
        Self(Held::Batches(vec![batch]))
    }
}

impl From<Vec<RecordBatch>> for Rows {
    fn from(batches: Vec<RecordBatch>) -> Self {
        Self(Held::Batches(batches))
    }
}

impl From<DataFrame> for Rows {
    fn from(frame: DataFrame) -> Self {
        Self(Held::Frame(Box::new(frame)))
    }
}

impl InMemory {
    /// A source of these rows. All batches have one schema; a source without rows needs an empty batch, for its schema.
    pub fn new(name: impl Into<String>, rows: impl Into<Rows>) -> Self {
        Self { name: name.into(), rows: rows.into() }
    }

    fn known_schema(&self) -> Result<SchemaRef> {
        match &self.rows.0 {
            Held::Frame(frame) => Ok(Arc::clone(frame.schema().inner())),
            Held::Batches(batches) => {
                let first = batches.first().ok_or_else(|| {
                    Error::usage("a source without batches has no schema; give it a batch without rows")
                })?;
                Ok(first.schema())
            }
        }
    }
}

impl PartialEq for InMemory {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && match (&self.rows.0, &other.rows.0) {
                (Held::Batches(a), Held::Batches(b)) => a == b,
                (Held::Frame(a), Held::Frame(b)) => a.logical_plan() == b.logical_plan(),
                _ => false,
            }
    }
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("InMemory");
        f.field("name", &self.name);
        if let Ok(schema) = self.known_schema() {
            f.field("schema", &ShowFields(schema.fields()));
        }
        match &self.rows.0 {
            Held::Batches(batches) => f.field("rows", &batches.iter().map(RecordBatch::num_rows).sum::<usize>()),
            Held::Frame(frame) => f.field("plan", &format_args!("{}", frame.logical_plan().display())),
        };
        f.finish()
    }
}

#[async_trait]
impl Source for InMemory {
    fn name(&self) -> &str {
        &self.name
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        let name = TableReference::bare(self.name.as_str());
        let plan = match &self.rows.0 {
            Held::Frame(frame) => LogicalPlanBuilder::from(frame.logical_plan().clone()).alias(name)?,
            Held::Batches(batches) => {
                ctx.meter().add_rows(batches.iter().map(|b| b.num_rows() as u64).sum());
                let table = MemTable::try_new(self.known_schema()?, vec![batches.clone()])?;
                LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?
            }
        };
        Ok(DataFrame::new(ctx.session().state(), plan.build()?))
    }

    async fn schema(&self, _ctx: &LoadContext) -> Result<SchemaRef> {
        self.known_schema()
    }
}
