//! Any table of the catalog, of files or of Iceberg, as DataFusion scans it.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use hardtack_catalog::{Catalog, TableDescription};
use hardtack_core::{Environment, Error, JobContext, Meter, Result};

use crate::CatalogTable;

/// Opens the table of this description, which was read from `catalog`, or a [version](versioned) of it. `meter` counts what
/// is read of it.
///
/// # Errors
/// As for [`CatalogTable::new`]; for an Iceberg table those of reading its metadata.
pub(crate) async fn opened(
    env: &Environment,
    catalog: Arc<dyn Catalog>,
    description: TableDescription,
    version: Option<&str>,
    meter: Arc<Meter>,
) -> Result<Arc<dyn TableProvider>> {
    if description.is_iceberg() {
        return iceberg(env, catalog, description, version, meter).await;
    }
    if let Some(version) = version {
        return Err(Error::usage("only Iceberg tables have versions and metadata tables")
            .with("table", description.qualified_name())
            .with("version", version));
    }
    Ok(Arc::new(CatalogTable::new(catalog, description, meter)?))
}

#[cfg(feature = "iceberg")]
async fn iceberg(
    env: &Environment,
    catalog: Arc<dyn Catalog>,
    description: TableDescription,
    version: Option<&str>,
    meter: Arc<Meter>,
) -> Result<Arc<dyn TableProvider>> {
    hardtack_iceberg::opened(env, catalog, description, version, meter).await
}

#[cfg(not(feature = "iceberg"))]
async fn iceberg(
    _: &Environment,
    _: Arc<dyn Catalog>,
    description: TableDescription,
    _: Option<&str>,
    _: Arc<Meter>,
) -> Result<Arc<dyn TableProvider>> {
    Err(Error::usage("this binary was built without support for Iceberg tables")
        .with("table", description.qualified_name())
        .hint("enable the feature `iceberg` of the hardtack crate"))
}

/// A name in SQL as that of a table and of a version of it: `people@main`, `people$snapshots`.
pub(crate) fn versioned(name: &str) -> (&str, Option<&str>) {
    match name.find(['@', '$']) {
        Some(at) if at > 0 => (&name[..at], Some(&name[at..])),
        _ => (name, None),
    }
}

/// Registers the publisher of Iceberg tables, if there is support for them.
pub(crate) fn register(ctx: &JobContext) {
    #[cfg(feature = "iceberg")]
    hardtack_iceberg::register(ctx);
    #[cfg(not(feature = "iceberg"))]
    let _ = ctx;
}
