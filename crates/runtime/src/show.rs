//! Collects the first rows of each sink, for `--show`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::util::pretty::pretty_format_batches;
use hardtack_core::Result;
use hardtack_core::observe::{Observer, RowAccumulator};

/// Keeps the first rows that are staged to each sink.
#[derive(Debug)]
pub(crate) struct FirstRows {
    limit: usize,
    kept: Arc<Mutex<BTreeMap<String, Vec<RecordBatch>>>>,
}

impl FirstRows {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, kept: Arc::default() }
    }

    /// The rows as tables, by sink.
    ///
    /// # Errors
    /// Errors of formatting.
    pub(crate) fn tables(&self) -> Result<Vec<(String, String)>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|(sink, rows)| Ok((sink.clone(), pretty_format_batches(rows)?.to_string()))).collect()
    }
}

impl Observer for FirstRows {
    fn accumulator(&self, sink: &str, schema: &SchemaRef) -> Result<Option<Box<dyn RowAccumulator>>> {
        let kept = Arc::clone(&self.kept);
        let rows = vec![RecordBatch::new_empty(Arc::clone(schema))];
        Ok(Some(Box::new(Stream { sink: sink.to_owned(), limit: self.limit, left: self.limit, rows, kept })))
    }
}

/// The first rows of one stream.
struct Stream {
    sink: String,
    limit: usize,
    left: usize,
    rows: Vec<RecordBatch>,
    kept: Arc<Mutex<BTreeMap<String, Vec<RecordBatch>>>>,
}

#[async_trait]
impl RowAccumulator for Stream {
    async fn update(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        let taken = self.left.min(rows.num_rows());
        if taken > 0 {
            // A slice would keep the whole batch alive.
            self.rows.push(take_record_batch(&rows, &UInt64Array::from_iter_values(0..taken as u64))?);
            self.left -= taken;
        }
        Ok(rows)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let all = kept.entry(self.sink).or_default();
        let mut left = self.limit.saturating_sub(all.iter().map(RecordBatch::num_rows).sum());
        for batch in self.rows {
            let taken = left.min(batch.num_rows());
            left -= taken;
            // A sink without rows still has a header.
            if taken > 0 || all.is_empty() {
                all.push(batch.slice(0, taken));
            }
        }
        Ok(())
    }
}
