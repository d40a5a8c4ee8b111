//! Folders that are those of Iceberg tables.

use hardtack_core::{Environment, Error, Location, Result};
use object_store::ObjectStore;

/// Where an Iceberg table keeps its metadata, relative to its folder: usually, and if it was one of files before.
const PLACES: [&str; 2] = ["metadata", "_iceberg/metadata"];

/// The newest metadata file of the Iceberg table in a folder; none if it is not the folder of one.
///
/// A folder that the store does not permit to list counts as one without.
///
/// # Errors
/// Errors of the store.
pub async fn iceberg_metadata(env: &Environment, folder: &Location) -> Result<Option<Location>> {
    use object_store::Error as E;
    let mut newest = None;
    for place in PLACES {
        let (store, path) = env.stores().open(&folder.join(place))?;
        let listed = match store.objects.list_with_delimiter(Some(&path)).await {
            Ok(listed) => listed.objects,
            Err(E::NotFound { .. } | E::PermissionDenied { .. } | E::Unauthenticated { .. }) => Vec::new(),
            Err(e) => return Err(Error::from(e).with("location", Location::of(&store.url, &path))),
        };
        let is_metadata = |name: &str| name.ends_with(".metadata.json") || name.ends_with(".metadata.json.gz");
        let found = listed.into_iter().filter(|meta| meta.location.filename().is_some_and(is_metadata));
        let last = found.max_by(|a, b| (a.last_modified, &a.location).cmp(&(b.last_modified, &b.location)));
        newest = newest.or(last.map(|meta| Location::of(&store.url, &meta.location)));
    }
    Ok(newest)
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
