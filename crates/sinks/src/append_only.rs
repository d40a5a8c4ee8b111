//! Places to which rows are only added.
//!
//! A place is protected by a marker, an object with a hidden name: it also stops sinks of other jobs, which know nothing
//! of the one that declared the place.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::{Environment, Error, Location, PublishAction, Result, StageContext, Store};
use object_store::ObjectStoreExt;
use object_store::path::Path;

/// The name of the marker. Readers ignore it, because names that begin with `_` are hidden.
pub const APPEND_ONLY_MARKER: &str = "_append_only";

/// Always the same, so that two runs that publish the marker do not take each other's for a stranger.
const CONTENT: &str = "Rows are only added here: hardtack refuses to replace what is at or below this folder.\n\
                       Remove this file to permit it again.\n";

const CONCURRENCY: usize = 64;

/// Refuses to replace files at `location` if it, or a folder above it, is
/// [append-only](crate::ParquetDataset::append_only).
///
/// A folder whose marker the store does not permit to look for counts as unprotected, because then it also does not
/// permit to protect it.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) with the marker; errors of the store.
pub async fn refuse_append_only(env: &Environment, location: &Location) -> Result<()> {
    let (store, path) = env.stores().open(location)?;
    let parts: Vec<_> = path.parts().collect();
    let above = (0..=parts.len()).map(|length| parts[..length].iter().cloned().collect()).collect();
    refuse_marked(&store, location, above).await
}

/// Refuses to replace files at `location` if one of these folders has a marker.
pub(crate) async fn refuse_marked(store: &Store, location: &Location, folders: BTreeSet<Path>) -> Result<()> {
    let looked = stream::iter(folders)
        .map(|folder| async move {
            let marker = folder.clone().join(APPEND_ONLY_MARKER);
            if is_there(store, &marker).await? { Err(refused(store, location, &marker)) } else { Ok(()) }
        })
        .buffer_unordered(CONCURRENCY);
    looked.try_collect().await
}

/// The error for a sink at `location` that would replace what a marker protects.
pub(crate) fn refused(store: &Store, location: &Location, marker: &Path) -> Error {
    Error::usage("the place is append-only, but the sink would replace what is there")
        .with("location", location)
        .with("marker", Location::of(&store.url, marker))
        .hint("append to it or write elsewhere; if its files may be replaced, remove the marker first")
}

/// Protects a folder: the action that makes its marker appear, or none if it has one.
///
/// # Errors
/// Errors of the store and the journal.
pub async fn mark_append_only(ctx: &StageContext, folder: &Location) -> Result<Option<PublishAction>> {
    let marker = folder.join(APPEND_ONLY_MARKER);
    let (store, path) = ctx.stores().open(&marker)?;
    if is_there(&store, &path).await? {
        return Ok(None);
    }
    let mut file = ctx.stage_file(folder, &marker).await?;
    file.write(Bytes::from_static(CONTENT.as_bytes())).await?;
    file.finish().await.map(Some)
}

async fn is_there(store: &Store, marker: &Path) -> Result<bool> {
    use object_store::Error as E;
    match store.objects.head(marker).await {
        Ok(_) => Ok(true),
        Err(E::NotFound { .. } | E::PermissionDenied { .. } | E::Unauthenticated { .. }) => Ok(false),
        Err(e) => Err(Error::from(e).with("location", Location::of(&store.url, marker))),
    }
}
