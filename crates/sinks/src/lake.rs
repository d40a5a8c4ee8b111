//! Folders that are those of Iceberg tables.

use futures::try_join;
use hardtack_core::listing::is_iceberg_metadata;
use hardtack_core::{Environment, Error, Location, Result};
use object_store::ObjectStore;

/// Where an Iceberg table keeps its metadata, relative to its folder: usually, and if it was one of files before.
const PLACES: [&str; 2] = ["metadata", "_iceberg/metadata"];

/// The newest metadata file of the Iceberg table in a folder; none if it is not the folder of one.
///
/// Metadata that the store does not permit to list counts as none.
///
/// # Errors
/// Errors of the store.
pub async fn iceberg_metadata(env: &Environment, folder: &Location) -> Result<Option<Location>> {
    let [usual, migrated] = PLACES.map(|place| newest(env, folder.join(place)));
    let (usual, migrated) = try_join!(usual, migrated)?;
    Ok(usual.or(migrated))
}

/// The newest metadata file in a folder.
async fn newest(env: &Environment, folder: Location) -> Result<Option<Location>> {
    use object_store::Error as E;
    let (store, path) = env.stores().open(&folder)?;
    let listed = match store.objects.list_with_delimiter(Some(&path)).await {
        Ok(listed) => listed.objects,
        Err(E::NotFound { .. } | E::PermissionDenied { .. } | E::Unauthenticated { .. }) => return Ok(None),
        Err(e) => return Err(Error::from(e).with("location", folder)),
    };
    let found = listed.into_iter().filter(|meta| meta.location.filename().is_some_and(is_iceberg_metadata));
    let newest = found.max_by(|a, b| (a.last_modified, &a.location).cmp(&(b.last_modified, &b.location)));
    Ok(newest.map(|meta| Location::of(&store.url, &meta.location)))
}

/// Refuses to write plain files to the folder of an Iceberg table: they would not be part of it, and its files might be
/// replaced by them.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) with the metadata; errors of the store.
pub(crate) async fn refuse_iceberg(env: &Environment, folder: &Location) -> Result<()> {
    match iceberg_metadata(env, folder).await? {
        None => Ok(()),
        Some(metadata) => Err(Error::usage(
            "this is the folder of an Iceberg table, whose files only the table replaces",
        )
        .with("location", folder)
        .with("metadata", metadata)
        .hint("save to the table by its name (`--target-database`, `--target-format iceberg`), or to another folder")),
    }
}
