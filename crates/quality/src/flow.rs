//! Rows of an audit on their way to a query that runs beside the writer.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use hardtack_core::Result;
use tokio::sync::mpsc;

/// Batches that wait for the query; the writer waits when there are more. Few, because they are not accounted for.
const WAITING: usize = 2;

/// Where the streams of rows put their batches.
pub(crate) type Feed = mpsc::Sender<RecordBatch>;

/// A table of the batches that are put into the feed. It can be scanned once, and ends when all copies of the feed are
/// dropped.
pub(crate) fn flow(schema: SchemaRef) -> Result<(Feed, Arc<dyn TableProvider>)> {
    let (feed, batches) = mpsc::channel(WAITING);
    let stream = Flow { schema: Arc::clone(&schema), batches: Mutex::new(Some(batches)) };
    Ok((feed, Arc::new(StreamingTable::try_new(schema, vec![Arc::new(stream)])?)))
}

struct Flow {
    schema: SchemaRef,
    batches: Mutex<Option<mpsc::Receiver<RecordBatch>>>,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flow")
    }
}

impl PartitionStream for Flow {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner).take();
        let again = || DataFusionError::Internal("the rows of an audit flow once".to_owned());
        let rows = futures::stream::try_unfold(batches.ok_or_else(again), |batches| async move {
            let mut batches = batches?;
            Ok(batches.recv().await.map(|batch| (batch, Ok(batches))))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}
