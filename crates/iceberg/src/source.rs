//! Reading an Iceberg table.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;
use hardtack_catalog::{Catalog, CatalogOf, TableDescription};
use hardtack_core::{Environment, ErrorKind, LoadContext, Location, Meter, Result, Source};
use hardtack_transforms::{Missing, coerce_to_schema_with};
use iceberg::spec::SchemaRef as IcebergSchemaRef;

use crate::IcebergTable;
use crate::catalog::{IcebergCatalog, Loaded, Pointers, describe};
use crate::error::failed;
use crate::inspect::inspect;
use crate::scan::IcebergScan;
use crate::schema::storable;
use crate::sink::catalog_of;
use crate::version::{Version, refs};

impl Version {
    /// The columns of this version: those of the table for the head of a branch, as they were then for anything else.
    fn schema(&self, table: &Loaded) -> Result<IcebergSchemaRef> {
        let metadata = table.metadata();
        let is_head = match self {
            Self::Current => true,
            Self::Ref(name) => refs(table)?.iter().any(|r| r.name == *name && r.reference.is_branch()),
            Self::Snapshot(_) | Self::AsOf(_) => false,
        };
        match self.of(table)? {
            Some(snapshot) if !is_head => snapshot.schema(metadata).map_err(failed),
            _ => Ok(Arc::clone(metadata.current_schema())),
        }
    }

    /// The rows of this version.
    pub(crate) fn scan(&self, table: Loaded, meter: Arc<Meter>) -> Result<IcebergScan> {
        let (snapshot, schema) = (self.of(&table)?, self.schema(&table)?);
        IcebergScan::new(table, snapshot, schema, meter)
    }
}

impl IcebergTable {
    async fn provider(&self, ctx: &LoadContext) -> Result<Arc<dyn TableProvider>> {
        let table = catalog_of(ctx).await?.load(self.database(), self.table()).await;
        let declared = self.create.as_ref().and_then(|new| new.schema.as_ref());
        match (table, declared) {
            (Ok(table), _) => Ok(Arc::new(self.version.scan(table, ctx.meter())?)),
            // Nothing was saved to it yet.
            (Err(e), Some(schema)) if e.kind() == ErrorKind::NotFound => {
                Ok(Arc::new(EmptyTable::new(Arc::new(storable(schema)?))))
            }
            (Err(e), _) => Err(e),
        }
    }
}

#[async_trait]
impl Source for IcebergTable {
    fn name(&self) -> &str {
        self.qualified_name()
    }

    fn location(&self) -> Option<Location> {
        self.create.as_ref().map(|table| table.location.clone())
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        let source = provider_as_source(self.provider(ctx).await?);
        // Qualified by its own name, so that two tables with a column of the same name can be joined.
        let name = TableReference::partial(self.database(), self.table());
        let plan = LogicalPlanBuilder::scan(name, source, None)?.build()?;
        Ok(DataFrame::new(ctx.session().state(), plan))
    }

    /// The columns of the version that is read; no data file is opened.
    async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef> {
        Ok(self.provider(ctx).await?.schema())
    }

    /// Coerces rows to the table's columns if the context has a catalog with the table, or else to the declared ones.
    async fn conform(&self, ctx: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        let schema = match ctx.catalog_handle() {
            Ok(_) => Some(self.provider(ctx).await?.schema()),
            Err(_) => match self.create.as_ref().and_then(|new| new.schema.as_ref()) {
                Some(schema) => Some(Arc::new(storable(schema)?)),
                None => None,
            },
        };
        match schema {
            Some(schema) => coerce_to_schema_with(rows, &schema, Missing::FillWithNull),
            None => Ok(rows),
        }
    }
}

/// The rows of an Iceberg table, given its description in `catalog`, or what it consists of. `meter` counts what is read of
/// it.
///
/// | `version` | |
/// | --- | --- |
/// | none | its current rows |
/// | `@5781947118336215154` | those of a snapshot |
/// | `@2026-11-29T12:00:00Z`, `@2026-11-29` | those that were published at a moment, or at the beginning of a day in UTC |
/// | `@main`, `@v1` | those of a branch or tag |
/// | `$snapshots`, `$history`, `$refs`, `$manifests`, `$files`, `$partitions` | its metadata |
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) if it is not an Iceberg table, or has no such version; those of reading its metadata.
pub async fn opened(
    env: &Environment,
    catalog: Arc<dyn Catalog>,
    description: TableDescription,
    version: Option<&str>,
    meter: Arc<Meter>,
) -> Result<Arc<dyn TableProvider>> {
    let table = Pointers::new(catalog, env.shared_stores()).open(description).await?;
    let version = match version {
        None => Version::Current,
        Some(text) => match text.strip_prefix('$') {
            Some(name) => return inspect(&table, name).await,
            None => Version::named(text.strip_prefix('@').unwrap_or(text)),
        },
    };
    Ok(Arc::new(version.scan(table, meter)?))
}

/// The description of an Iceberg table with what its metadata says: columns and location, which the catalog need not have,
/// and the parameters [`PARTITIONED_BY`] and `format-version`.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) if it is not an Iceberg table; those of reading its metadata.
pub async fn described(
    env: &Environment,
    catalog: Arc<dyn Catalog>,
    description: TableDescription,
) -> Result<TableDescription> {
    let table = Pointers::new(catalog, env.shared_stores()).open(description).await?;
    let metadata = table.metadata();
    let mut description = table.description().clone();
    describe(&mut description, metadata);
    let name = |id: i32| metadata.current_schema().name_by_field_id(id).unwrap_or("?");
    let fields = metadata.default_partition_spec().fields().iter();
    let fields: Vec<String> = fields.map(|field| format!("{}({})", field.transform, name(field.source_id))).collect();
    if !fields.is_empty() {
        description.parameters.insert(PARTITIONED_BY.to_owned(), fields.join(", "));
    }
    let version = metadata.format_version() as u8;
    description.parameters.insert("format-version".to_owned(), version.to_string());
    Ok(description)
}

/// The parameter of a [described](described()) table with its partition fields: `day(sold_at), bucket[16](id)`.
pub const PARTITIONED_BY: &str = "partitioned-by";
