//! Examines every file before any is read.

use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::guard::guarded;
use hardtack_core::{Error, Result};

use crate::input::SourceFile;

/// The hint if the types of files have nothing in common.
pub(crate) const DECLARE: &str =
    "declare a schema: a string holds the values of both, a double the numbers that it represents exactly";

/// The same for lists and structs.
pub(crate) const DECLARE_NESTED: &str =
    "no type holds both: declare a schema without the column, or read the files with two sources (`with_glob`)";

/// Examines all files, a few at a time, and passes the results to `take` in the order of the files.
pub(crate) async fn infer_each<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    files: &[SourceFile],
    concurrency: usize,
    look: impl Fn(SourceFile) -> F,
    mut take: impl FnMut(&SourceFile, T) -> Result<()>,
) -> Result<()> {
    look_at_each(files, concurrency, look, |file, found| {
        take(file, found?).map_err(|e| if e.get("file").is_some() { e } else { e.with("file", &file.location) })
    })
    .await
}

/// The same, but passes errors to `take` as well.
pub(crate) async fn look_at_each<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    files: &[SourceFile],
    concurrency: usize,
    look: impl Fn(SourceFile) -> F,
    mut take: impl FnMut(&SourceFile, Result<T>) -> Result<()>,
) -> Result<()> {
    let mut found = stream::iter(files.to_vec())
        .map(|file| {
            // A task of its own, so that parsing is spread over the cores.
            let (looking, location) = (look(file.clone()), file.location.clone());
            let task = SpawnedTask::spawn(async move { guarded(&location, looking).await });
            async move {
                let found = task
                    .join_unwind()
                    .await
                    .map_err(|e| Error::unexpected("a task that reads a file panicked").because(e))?;
                Ok::<_, Error>((file, found))
            }
        })
        .buffered(concurrency.max(1));
    while let Some((file, found)) = found.try_next().await? {
        take(&file, found)?;
    }
    Ok(())
}
