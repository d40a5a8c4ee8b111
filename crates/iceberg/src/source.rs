//! Reading an Iceberg table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;
use hardtack_catalog::{Catalog, CatalogOf, TableDescription};
use hardtack_core::{Environment, Error, LoadContext, Location, Meter, NamedTable, Result, Source};
use hardtack_transforms::{Missing, coerce_to_schema_with};
use iceberg::spec::SchemaRef as IcebergSchemaRef;

use crate::IcebergTable;
use crate::catalog::{Loaded, describe, tables_of};
use crate::changes::{CHANGE_TYPE, Since};
use crate::error::failed;
use crate::inspect::inspect;
use crate::scan::IcebergScan;
use crate::schema::storable;
use crate::sink::catalog_of;
use crate::version::{Version, refs};

impl Version {
    /// The columns of this version: those of the table for the head of a branch, as they were then for anything else.
    pub(crate) fn schema(&self, table: &Loaded) -> Result<IcebergSchemaRef> {
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
    /// The table; none if nothing was saved to it yet, and its columns are declared.
    async fn open(&self, ctx: &LoadContext) -> Result<Option<Loaded>> {
        match catalog_of(ctx).await?.find(self.database(), self.table()).await? {
            None if self.declared().is_some() => Ok(None),
            // The error says which table.
            None => catalog_of(ctx).await?.load(self.database(), self.table()).await.map(Some),
            there => Ok(there),
        }
    }

    fn declared(&self) -> Option<&SchemaRef> {
        self.create.as_ref()?.schema.as_ref()
    }

    /// The columns of the rows that are read of a table.
    fn columns(&self, table: &Loaded) -> Result<SchemaRef> {
        let columns = self.version.scan(table.clone(), Arc::default())?.schema();
        Ok(self.with_change_type(&columns))
    }

    /// The columns of the rows that are read of a table that is not there.
    fn declared_columns(&self) -> Result<Option<SchemaRef>> {
        let columns = self.declared().map(|schema| storable(schema)).transpose()?;
        Ok(columns.map(|columns| self.with_change_type(&Arc::new(columns))))
    }

    fn with_change_type(&self, columns: &SchemaRef) -> SchemaRef {
        if !self.changes {
            return Arc::clone(columns);
        }
        let change = Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, false));
        let fields: Vec<_> = columns.fields().iter().cloned().chain([change]).collect();
        Arc::new(Schema::new_with_metadata(fields, columns.metadata().clone()))
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

    fn catalog_table(&self) -> Option<NamedTable> {
        Some(self.named_table())
    }

    fn is_bookmarked(&self) -> bool {
        self.since == Since::Bookmark
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        if self.only.is_some() && (self.changes || self.since != Since::Beginning || self.version != Version::Current) {
            return Err(Error::usage("what is touched is read as it is, without a bookmark, a version or changes")
                .with("table", self.qualified_name())
                .hint("leave out `.only(...)`, or what else says which rows are read"));
        }
        let source: Arc<dyn TableProvider> = match self.open(ctx).await? {
            Some(table) if self.changes || self.since != Since::Beginning => {
                return self.changed_rows(ctx, table).await;
            }
            Some(table) => match &self.only {
                Some(touched) => Arc::new(touched.scan(table, ctx.meter()).await?),
                None => Arc::new(self.version.scan(table, ctx.meter())?),
            },
            None => {
                let columns = self.declared_columns()?.ok_or_else(|| Error::unexpected("no columns are declared"))?;
                Arc::new(EmptyTable::new(columns))
            }
        };
        // Qualified by its own name, so that two tables with a column of the same name can be joined.
        let name = TableReference::partial(self.database(), self.table());
        let plan = LogicalPlanBuilder::scan(name, provider_as_source(source), None)?.build()?;
        Ok(DataFrame::new(ctx.session().state(), plan))
    }

    /// The columns of the version that is read; no data file is opened.
    async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef> {
        match self.open(ctx).await? {
            Some(table) => self.columns(&table),
            None => self.declared_columns()?.ok_or_else(|| Error::unexpected("no columns are declared")),
        }
    }

    /// Coerces rows to the table's columns if the context has a catalog with the table, or else to the declared ones.
    async fn conform(&self, ctx: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        let schema = match ctx.catalog_handle() {
            Ok(_) => Some(Source::schema(self, ctx).await?),
            Err(_) => self.declared_columns()?,
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
/// [`Usage`](hardtack_core::ErrorKind::Usage) if it is not an Iceberg table, or has no such version; those of reading its metadata.
pub async fn opened(
    env: &Environment,
    catalog: Arc<dyn Catalog>,
    description: TableDescription,
    version: Option<&str>,
    meter: Arc<Meter>,
) -> Result<Arc<dyn TableProvider>> {
    let table = tables_of(catalog, env.shared_stores()).open(description).await?;
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
/// [`Usage`](hardtack_core::ErrorKind::Usage) if it is not an Iceberg table; those of reading its metadata.
pub async fn described(
    env: &Environment,
    catalog: Arc<dyn Catalog>,
    description: TableDescription,
) -> Result<TableDescription> {
    let table = tables_of(catalog, env.shared_stores()).open(description).await?;
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
