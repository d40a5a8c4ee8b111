//! What the text formats share: batches from a text, and looking at every file before any is read.

use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::{Error, Result};

use crate::fault::Fault;
use crate::input::{SourceFile, Step, Text};
use crate::scan::Batches;

/// A batch is closed at this many bytes of text even if it has fewer rows than it could, so that wide rows do not make it
/// large.
pub(crate) const MAX_BATCH_BYTES: usize = 16 << 20;

/// Decodes the rows of a text that comes in pieces.
pub(crate) trait DecodeText: Send + 'static {
    /// Takes whole rows from the front of the text and makes a batch of them once there are enough, or if the text has
    /// ended. What it has not used it is given again, with more behind it.
    fn decode(&mut self, text: &[u8], ended: bool) -> Result<Step<RecordBatch>, Fault>;
}

impl Text {
    /// The rows of the text.
    pub(crate) fn batches(self, decoder: impl DecodeText) -> Batches {
        stream::try_unfold((self, decoder), |(mut text, mut decoder)| async move {
            let batch = text.next(|text, ended| decoder.decode(text, ended)).await?;
            Ok::<_, Error>(batch.map(|batch| (batch, (text, decoder))))
        })
        .boxed()
    }
}

/// Looks at all files, a few at a time, and takes in what was found in the order of the files.
pub(crate) async fn infer_each<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    files: &[SourceFile],
    concurrency: usize,
    look: impl Fn(SourceFile) -> F,
    mut take: impl FnMut(&SourceFile, T) -> Result<()>,
) -> Result<()> {
    let mut found = stream::iter(files.to_vec())
        .map(|file| {
            // A task of its own, because parsing is work that one core alone should not do.
            let task = SpawnedTask::spawn(look(file.clone()));
            async move {
                let found =
                    task.join_unwind().await.map_err(|e| Error::unexpected("reading a file died").because(e))??;
                Ok::<_, Error>((file, found))
            }
        })
        .buffered(concurrency.max(1));
    while let Some((file, found)) = found.try_next().await? {
        take(&file, found)?;
    }
    Ok(())
}
