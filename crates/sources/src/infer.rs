//! Looking at every file before any is read.

use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::guard::guarded;
use hardtack_core::{Error, Result};

use crate::input::SourceFile;

/// What is said where the types of files have nothing in common.
pub(crate) const DECLARE: &str =
    "declare a schema: a string takes the values of both, a double the numbers that it holds exactly";

/// The same for lists and structs.
pub(crate) const DECLARE_NESTED: &str =
    "no type takes both: declare a schema without the column, or read the files by two sources (`with_glob`)";

/// Looks at all files, a few at a time, and takes in what was found in the order of the files.
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

/// The same, but what is wrong with a file is for `take` to judge.
pub(crate) async fn look_at_each<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    files: &[SourceFile],
    concurrency: usize,
    look: impl Fn(SourceFile) -> F,
    mut take: impl FnMut(&SourceFile, Result<T>) -> Result<()>,
) -> Result<()> {
    let mut found = stream::iter(files.to_vec())
        .map(|file| {
            // A task of its own, because parsing is work that one core alone should not do.
            let (looking, location) = (look(file.clone()), file.location.clone());
            let task = SpawnedTask::spawn(async move { guarded(&location, looking).await });
            async move {
                let found =
                    task.join_unwind().await.map_err(|e| Error::unexpected("reading a file died").because(e))?;
                Ok::<_, Error>((file, found))
            }
        })
        .buffered(concurrency.max(1));
    while let Some((file, found)) = found.try_next().await? {
        take(&file, found)?;
    }
    Ok(())
}
