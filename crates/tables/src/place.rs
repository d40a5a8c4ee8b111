//! The places of a table's files.

use futures::{StreamExt, TryStreamExt};
use hardtack_catalog::TableDescription;
use hardtack_core::staging::VERSIONS;
use hardtack_core::{Error, Location, Result, Store, Stores};
use hardtack_sources::FileFilter;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

/// The parameter with a table's original location, once the table points to a version below it.
pub(crate) const BASE: &str = "hardtack.base";

/// The base folder of a table's partitions and versions: its location, or its original location if it has moved to a version
/// below it.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if it has no location.
pub fn base_of(table: &TableDescription) -> Result<Location> {
    let location = table.location()?.absolute()?;
    match table.parameters.get(BASE) {
        // The table may have been given another location since.
        Some(base) if Location::from(base.as_str()).join(VERSIONS).contains(&location) => {
            Location::from(base.as_str()).absolute()
        }
        _ => Ok(location),
    }
}

/// Refuses an Iceberg table, for which a folder does not say which files it has.
pub(crate) fn check_not_iceberg(table: &TableDescription, hint: &str) -> Result<()> {
    match table.is_iceberg() {
        true => Err(Error::usage("this is an Iceberg table").with("table", table.qualified_name()).hint(hint)),
        false => Ok(()),
    }
}

/// Whether both denote the same place.
pub(crate) fn is_same(a: &Location, b: &Location) -> bool {
    match (a.resolve(), b.resolve()) {
        (Ok(a), Ok(b)) => (a.store, a.path) == (b.store, b.path),
        _ => a == b,
    }
}

/// Whether readers of the folder `outer` see the file `inner`: it is below it, and nothing on the path is hidden.
pub(crate) fn is_visible(inner: &Path, outer: &Path) -> bool {
    let mut inside = match inner.prefix_match(outer) {
        Some(inside) => inside,
        None => return false,
    };
    inside.all(|part| !is_hidden(part.as_ref()))
}

pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('_') || name.starts_with('.')
}

/// The folder of a file, and its name.
pub(crate) fn name_in(file: &Location) -> Result<(Location, String)> {
    let resolved = file.resolve()?;
    let parts: Vec<_> = resolved.path.parts().collect();
    let (name, folder) = parts.split_last().ok_or_else(|| Error::unexpected("a file has a name").with("file", file))?;
    Ok((Location::of(&resolved.store, &folder.iter().cloned().collect()), name.as_ref().to_owned()))
}

/// The store and path of a location; errors name the location.
pub(crate) fn open(stores: &Stores, location: &Location) -> Result<(Store, Path)> {
    stores.open(location)
}

/// The files that readers of a folder see. Hidden folders are not even listed.
pub(crate) async fn visible_files(stores: &Stores, folder: &Location) -> Result<Vec<ObjectMeta>> {
    let (store, root) = open(stores, folder)?;
    let mut files = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        let listed = store.objects.list_with_delimiter(Some(&folder)).await;
        let listed = listed.map_err(|e| Error::from(e).with("folder", Location::of(&store.url, &folder)))?;
        let visible = |path: &Path| path.filename().is_some_and(|name| !is_hidden(name));
        files.extend(listed.objects.into_iter().filter(|meta| visible(&meta.location)));
        folders.extend(listed.common_prefixes.into_iter().filter(visible));
    }
    Ok(files)
}

/// Those of [`visible_files`] that belong to a table.
pub(crate) async fn wanted_files(stores: &Stores, folder: &Location, wanted: &FileFilter) -> Result<Vec<ObjectMeta>> {
    let root = folder.resolve()?.path;
    let mut files = visible_files(stores, folder).await?;
    files.retain(|meta| {
        let inside: Vec<_> = meta.location.prefix_match(&root).into_iter().flatten().collect();
        wanted.takes(&inside.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/"))
    });
    Ok(files)
}

/// Deletes objects of one store; missing ones are ignored.
pub(crate) async fn delete(store: &Store, paths: Vec<Path>) -> Result<()> {
    let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
    let deleted = store
        .objects
        .delete_stream(paths)
        .filter(|deleted| futures::future::ready(!matches!(deleted, Err(object_store::Error::NotFound { .. }))));
    deleted.try_for_each(|_| futures::future::ready(Ok(()))).await.map_err(Error::from)
}
