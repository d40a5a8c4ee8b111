//! Saving to an Iceberg table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::logical_expr::{Expr, ident};
use datafusion::prelude::DataFrame;
use hardtack_catalog::{CatalogOf, Conflict, SchemaEvolution};
use hardtack_core::actions::{DiscardAction, Phase};
use hardtack_core::audit::{Audit, PendingAudit};
use hardtack_core::{
    Environment, Error, ErrorKind, Location, NamedTable, PublishAction, Report, Result, Sink, StageContext, Staged,
    fault,
};
use hardtack_sinks::{Compression, Folder, ParquetDataset, Placement, Visibility, WrittenFile, iceberg_metadata};
use hardtack_transforms::coerce_to_schema;
use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, SchemaRef as SchemaRefOfIceberg, SnapshotReference, SnapshotRetention,
    TableMetadata, TableMetadataBuilder,
};
use iceberg::{TableCreation, TableRequirement, TableUpdate};
use object_store::ObjectStore;
use object_store::path::Path;
use twox_hash::XxHash3_128;

use crate::catalog::{Attempts, Change, IcebergCatalog, Loaded, tables_of};
use crate::error::failed;
use crate::partition::{self, Keys};
use crate::publisher::{Discard, PUBLISHER, Publish};
use crate::snapshot::{Draft, Mode};
use crate::sorting::{self, Sorting};
use crate::touched::Replaced;
use crate::{IcebergTable, NewIcebergTable, Touched, evolution, file, schema};

/// The property of a table with the run that created it.
pub(crate) const CREATED_BY: &str = "hardtack.created-by";
/// The property of a snapshot with the run that wrote it, and with the job.
pub(crate) const RUN: &str = "hardtack.run";
const JOB: &str = "hardtack.job";
/// The property of a snapshot with the id of the table's schema when it was staged.
pub(crate) const BASE_SCHEMA: &str = "hardtack.base-schema";
/// The property of a snapshot with what it does to earlier rows.
pub(crate) const MODE: &str = "hardtack.mode";
/// The property of a snapshot with the id under which a run staged it. It stays the same if the snapshot is produced
/// again on the head of another branch.
pub(crate) const STAGED: &str = "hardtack.staged";

/// The properties of a snapshot with what has written it.
pub(crate) fn engine() -> [(String, String); 2] {
    [("engine-name", "hardtack"), ("engine-version", env!("CARGO_PKG_VERSION"))]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// The run's catalog of Iceberg tables.
pub(crate) async fn catalog_of(env: &Environment) -> Result<Arc<dyn IcebergCatalog>> {
    Ok(tables_of(env.catalog().await?, env.shared_stores()))
}

#[async_trait]
impl Sink for IcebergTable {
    fn name(&self) -> &str {
        self.qualified_name()
    }

    fn location(&self) -> Option<Location> {
        self.create.as_ref().map(|table| table.location.clone())
    }

    fn catalog_table(&self) -> Option<NamedTable> {
        Some(self.named_table())
    }

    fn declared_schema(&self) -> Option<SchemaRef> {
        self.create.as_ref()?.schema.clone()
    }

    fn replaces(&self) -> bool {
        self.mode != Mode::Append && !self.merges && self.only.is_none()
    }

    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged> {
        let catalog = catalog_of(ctx).await?;
        let discard = Discard {
            catalog: ctx.catalog_handle()?.identity().to_owned(),
            database: self.database().to_owned(),
            table: self.table().to_owned(),
            run: ctx.run().version(),
        };
        // Before anything of it exists.
        ctx.journal()
            .note(DiscardAction::Foreign { publisher: PUBLISHER.to_owned(), payload: discard.to_json()? })
            .await?;
        let table = match (catalog.load(self.database(), self.table()).await, &self.create) {
            (Err(e), Some(new)) if e.kind() == ErrorKind::NotFound => {
                self.created(ctx, catalog.as_ref(), new, rows.schema().as_arrow()).await?
            }
            (there, _) => there.map_err(unknown)?,
        };
        let at = |e: Error| if e.get("table").is_none() { e.with("table", self.qualified_name()) } else { e };
        let grown = with_schema_for(catalog.as_ref(), table, rows.schema().as_arrow(), self.evolution).await;
        let (table, schema) = grown.map_err(at)?;
        let saving = Saving { table: self, loaded: table, schema, ctx };
        tracing::info!(table = self.qualified_name(), location = %saving.loaded.location(), "saving to an Iceberg table");
        saving.stage(catalog.as_ref(), &discard, rows).await.map_err(at)
    }

    /// Coerces rows to the table's columns, if the context has a catalog with it, or to those that are declared.
    async fn conform(&self, ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        let there = match ctx.catalog_handle() {
            Ok(_) => Some(catalog_of(ctx).await?.load(self.database(), self.table()).await),
            Err(_) => None,
        };
        let metadata = match (there, &self.create) {
            (Some(Ok(table)), _) => Arc::clone(table.metadata()),
            (Some(Err(e)), None) => return Err(unknown(e)),
            (Some(Err(e)), Some(_)) if e.kind() != ErrorKind::NotFound => return Err(e),
            (_, Some(new)) => new_table(self, new, rows.schema().as_arrow(), None)?.into(),
            // Nobody knows of it here.
            (None, None) => return Ok(rows),
        };
        let grown = grown(&metadata, rows.schema().as_arrow(), self.evolution)?;
        let columns = schema::arrow_schema(grown.as_ref().unwrap_or(metadata.current_schema()))?;
        coerce_to_schema(rows, &columns).map_err(|e| e.with("table", self.qualified_name()))
    }
}

impl IcebergTable {
    /// Creates the table, unless another run is faster.
    async fn created(
        &self,
        ctx: &StageContext,
        catalog: &dyn IcebergCatalog,
        new: &NewIcebergTable,
        rows: &Schema,
    ) -> Result<Loaded> {
        let metadata = new_table(self, new, rows, Some(ctx.run().version()))?;
        if let Err(e) = check_folder(ctx, self.qualified_name(), &new.location).await {
            // What is in the folder may be this table.
            return catalog.find(self.database(), self.table()).await?.ok_or(e);
        }
        fault::hit("iceberg.create.before")?;
        let created = catalog.create(self.database(), self.table(), metadata).await;
        fault::hit("iceberg.create.after")?;
        match created {
            Err(e) if Conflict::of(&e) == Some(Conflict::AlreadyExists) => {
                catalog.load(self.database(), self.table()).await
            }
            created => created,
        }
    }
}

/// An error of the catalog, with what creates a table that is missing.
fn unknown(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => {
            error.hint("`.create_if_missing(NewIcebergTable::at(location))` creates it with the first run")
        }
        _ => error,
    }
}

/// Refuses a folder for a new table in which there is another table, or there are files that it would not have.
async fn check_folder(env: &Environment, table: &str, folder: &Location) -> Result<()> {
    if let Some(metadata) = iceberg_metadata(env, folder).await? {
        // A run that failed may have left one without rows.
        let file_io = crate::storage::file_io(env.shared_stores());
        let there = TableMetadata::read_from(&file_io, metadata.as_str()).await.map_err(failed);
        if there.is_ok_and(|there| there.current_snapshot().is_some()) {
            return Err(Error::usage("the folder of the new table is that of another Iceberg table")
                .with("table", table)
                .with("location", folder)
                .with("metadata", metadata)
                .hint("choose another folder; if that table was dropped, remove what is left of it"));
        }
    }
    let (store, path) = env.stores().open(folder)?;
    let listed = match store.objects.list_with_delimiter(Some(&path)).await {
        Ok(listed) => listed,
        Err(object_store::Error::NotFound { .. }) => return Ok(()),
        Err(e) => return Err(Error::from(e).with("location", folder)),
    };
    let known = |path: &Path| {
        path.filename().is_none_or(|name| name.starts_with(['_', '.']) || name == "data" || name == "metadata")
    };
    let there = listed.objects.iter().map(|meta| &meta.location).chain(&listed.common_prefixes);
    match there.filter(|path| !known(path)).min() {
        None => Ok(()),
        Some(other) => Err(Error::usage("there are files in the folder of the new table, which would not have their rows")
            .with("table", table)
            .with("there is", Location::of(&store.url, other))
            .hint("`hardtack crawl` makes a table of them, and `hardtack iceberg migrate` an Iceberg table of that; or choose \
                   another folder")),
    }
}

/// The metadata of a table that is created, by this run.
pub(crate) fn new_table(
    table: &IcebergTable,
    new: &NewIcebergTable,
    rows: &Schema,
    run: Option<String>,
) -> Result<TableMetadata> {
    let at = |e: Error| e.with("table", table.qualified_name());
    let declared = new.schema.as_ref().map_or(rows, AsRef::as_ref);
    let schema = schema::iceberg_schema(declared).map_err(at)?;
    let spec = partition::spec(&new.partition_by, &schema).map_err(at)?;
    let order = sorting::order(&new.sorted_by, &schema).map_err(at)?;
    let format = match new.format_version {
        1 => FormatVersion::V1,
        2 => FormatVersion::V2,
        3 => FormatVersion::V3,
        other => {
            return Err(at(Error::usage(format!("there is no format version {other} of Iceberg; expected 2 or 3"))));
        }
    };
    // Readers may run in other working directories.
    let location = new.location.absolute()?;
    let creation = TableCreation::builder()
        .name(table.table().to_owned())
        .location(location.as_str().trim_end_matches('/').to_owned())
        .schema(schema)
        .partition_spec(spec)
        .sort_order(order)
        .properties(new.properties.clone().into_iter().chain(run.map(|run| (CREATED_BY.to_owned(), run))))
        .format_version(format)
        .build();
    let builder = TableMetadataBuilder::from_table_creation(creation).map_err(failed).map_err(at)?;
    Ok(builder.build().map_err(failed).map_err(at)?.metadata)
}

/// The schema that a table needs for these rows, unless it has that.
fn grown(metadata: &TableMetadata, rows: &Schema, how: SchemaEvolution) -> Result<Option<iceberg::spec::Schema>> {
    // A column of nulls has no type, and fits any.
    let has = |name: &str| metadata.current_schema().as_struct().fields().iter().any(|field| field.name == name);
    let typed = rows.fields().iter().filter(|f| !(f.data_type().is_null() && has(f.name()))).cloned();
    let rows = Schema::new(typed.collect::<Vec<_>>());
    if rows.fields().is_empty() {
        return Ok(None);
    }
    evolution::evolved(metadata, &schema::iceberg_schema(&rows)?, how)
}

/// The table with a schema for these rows, which is not its current one until the run is published.
async fn with_schema_for(
    catalog: &dyn IcebergCatalog,
    table: Loaded,
    rows: &Schema,
    how: SchemaEvolution,
) -> Result<(Loaded, SchemaRefOfIceberg)> {
    let mut attempts = Attempts::new(catalog, table);
    loop {
        let metadata = attempts.table().metadata();
        let Some(wanted) = grown(metadata, rows, how)? else {
            let schema = Arc::clone(metadata.current_schema());
            return Ok((attempts.table().clone(), schema));
        };
        if let Some(there) = metadata.schemas_iter().find(|schema| schema.as_struct() == wanted.as_struct()) {
            let schema = Arc::clone(there);
            return Ok((attempts.table().clone(), schema));
        }
        let last_assigned_field_id = metadata.last_column_id();
        let change = Change {
            requirements: vec![
                TableRequirement::UuidMatch { uuid: metadata.uuid() },
                TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id },
            ],
            updates: evolution::added(metadata, wanted.clone()),
        };
        if let Some(table) = attempts.commit(change).await? {
            let schema = table.metadata().schemas_iter().find(|schema| schema.as_struct() == wanted.as_struct());
            let schema =
                schema.cloned().ok_or_else(|| Error::unexpected("the table has not got the schema of the rows"))?;
            return Ok((table, schema));
        }
    }
}

/// A table that rows are being saved to.
pub(crate) struct Saving<'a> {
    pub(crate) table: &'a IcebergTable,
    pub(crate) loaded: Loaded,
    /// Of the rows.
    pub(crate) schema: SchemaRefOfIceberg,
    pub(crate) ctx: &'a StageContext,
}

impl Saving<'_> {
    /// Writes rows as data files of the table's default spec, in a folder of their own.
    pub(crate) async fn write(&self, folder: Location, rows: DataFrame) -> Result<(Report, Vec<DataFile>)> {
        let columns = schema::arrow_schema(&self.schema)?;
        let spec = self.loaded.metadata().default_partition_spec();
        let keys = Keys::of(spec, &self.schema)?;
        let rows = coerce_to_schema(rows, &columns)?;
        let sorting = self.sorting()?;
        let computed: Vec<Expr> = keys.columns().chain(sorting.iter().flat_map(Sorting::columns)).collect();
        let rows = match computed.is_empty() {
            true => rows,
            false => {
                let all = columns.fields().iter().map(|field| ident(field.name())).chain(computed);
                rows.select(all.collect::<Vec<Expr>>())?
            }
        };
        let mut dataset = self.layout(&columns)?.partition_by(keys.names());
        if let Some(sorting) = &sorting {
            dataset = dataset.sorted_by(sorting.by.clone()).omit_columns(sorting.names());
        }
        let placement = Data { folder, partitioned: !spec.is_unpartitioned() };
        let files = dataset.write_files(self.ctx, rows, Arc::new(placement)).await?;
        let report = WrittenFile::report(&files);
        let sort_order = match self.is_sorted_as_the_table() {
            true => i32::try_from(self.loaded.metadata().default_sort_order_id()).ok(),
            false => None,
        };
        // There may be many thousands: each one is dropped as soon as it has become the other.
        let data_file = |file: WrittenFile| {
            let partition = keys.parse(&file.values)?;
            file::data_file(&file, &self.schema, spec.spec_id(), partition, sort_order)
        };
        let added = files.into_iter().map(data_file).collect::<Result<_>>()?;
        Ok((report, added))
    }

    async fn stage(self, catalog: &dyn IcebergCatalog, discard: &Discard, rows: DataFrame) -> Result<Staged> {
        let metadata = Arc::clone(self.loaded.metadata());
        let spec = metadata.default_partition_spec();
        // Names of files are unique within a run, a folder and a save.
        let save = uuid::Uuid::new_v4().simple().to_string();
        let folder = discard.data_folder(&self.loaded).join(&save[..8]);
        let (report, added) = self.write(folder, rows).await?;
        let touched = match &self.table.only {
            Some(touched) => touched.partitions.typed(&self.loaded, &self.schema)?,
            None => Replaced::default(),
        };
        if self.table.only.is_some()
            && let Some(file) = added.iter().find(|file| !touched.has(spec.spec_id(), file.partition()))
        {
            return Err(Error::usage("rows are in partitions that were not touched, whose earlier rows were not read")
                .with("partition", spec.partition_to_path(file.partition(), Arc::clone(&self.schema)))
                .with("rows", file.record_count())
                .hint("`touched` needs the keys of all rows that are saved"));
        }
        let location = Some(self.loaded.location());
        if added.is_empty() && matches!(self.table.mode, Mode::Append | Mode::OverwritePartitions) {
            return Ok(Staged { report, publish: Vec::new(), location });
        }
        let run = self.ctx.run();
        let properties = HashMap::from([
            (RUN.to_owned(), run.version()),
            (JOB.to_owned(), run.job.clone()),
            (MODE.to_owned(), self.table.mode.name().to_owned()),
            (BASE_SCHEMA.to_owned(), metadata.current_schema_id().to_string()),
        ]);
        let properties = properties.into_iter().chain(engine()).collect();
        let draft = Draft::new(&self.loaded, self.table.mode, spec.spec_id(), added, properties);
        let draft = match &self.table.only {
            Some(_) => draft.replacing(touched),
            None => draft,
        };
        let mut draft = draft.with_schema(&self.schema, self.schema.schema_id());
        draft.set(STAGED, draft.id.to_string());
        let branch = free_branch(&self.loaded, &discard.branch());
        let base = metadata.snapshot_for_ref(MAIN_BRANCH).cloned();
        let staged =
            commit(catalog, self.loaded.clone(), &mut draft, &branch, self.ctx.now().timestamp_millis()).await?;
        let snapshot = staged.metadata().snapshot_for_ref(&branch);
        let snapshot =
            snapshot.ok_or_else(|| Error::unexpected("the branch of the run is gone").with("branch", &branch))?;
        fault::hit("iceberg.staged.after")?;
        let payload = Publish {
            catalog: discard.catalog.clone(),
            database: discard.database.clone(),
            table: discard.table.clone(),
            uuid: metadata.uuid(),
            run: discard.run.clone(),
            branch,
            snapshot: snapshot.snapshot_id(),
            base: base.map(|base| base.snapshot_id()),
            mode: self.table.mode,
            base_schema: metadata.current_schema_id(),
            schema: self.schema.schema_id(),
            rows: report.rows,
        };
        if self.table.strict || self.table.only.is_some() {
            let (strict, touched) = (self.table.strict, self.table.only.clone());
            let check = Unchanged { step: payload.clone(), strict, touched, ctx: self.ctx.clone() };
            self.ctx.job().add_pending_audit(Arc::new(check));
        }
        let publish = vec![PublishAction::Foreign {
            publisher: PUBLISHER.to_owned(),
            phase: Phase::Point,
            payload: payload.to_json()?,
        }];
        Ok(Staged { report, publish, location })
    }

    /// The layout of files: what the job says, or else the table.
    fn layout(&self, columns: &Schema) -> Result<ParquetDataset> {
        let metadata = self.loaded.metadata();
        let property = |key: &str| metadata.properties().get(key).map(String::as_str);
        let mut files = self.table.files().with_field_ids(columns);
        if let Some(layout) = &self.table.layout {
            return Ok(files.with_layout_of(layout));
        }
        match self.table.target_file_bytes {
            Some(bytes) => files = files.with_target_file_bytes(bytes),
            None => files = files.with_target_file_bytes(target_file_bytes(metadata)?),
        }
        const CODEC: &str = "write.parquet.compression-codec";
        const LEVEL: &str = "write.parquet.compression-level";
        let compression = match (self.table.compression, property(CODEC)) {
            (Some(compression), _) => compression,
            (None, Some("snappy")) => Compression::Snappy,
            (None, Some("uncompressed")) => Compression::Uncompressed,
            (None, None | Some("zstd")) => match property(LEVEL) {
                Some(level) => Compression::Zstd(level.parse().map_err(|_| wrong(LEVEL, level))?),
                None => Compression::Zstd(3),
            },
            (None, Some(other)) => {
                return Err(wrong(CODEC, other).hint("`.with_compression(...)` chooses another one for this job"));
            }
        };
        files = files.with_compression(compression);
        Ok(files)
    }

    /// How the rows of a file are sorted: as the job says, or else the table. The layout of another dataset says it, too.
    fn sorting(&self) -> Result<Option<Sorting>> {
        Ok(match (&self.table.layout, &self.table.sorted_by) {
            (Some(_), _) => None,
            (None, Some(columns)) => Some(Sorting::by(columns.clone())),
            (None, None) => Some(Sorting::of(self.loaded.metadata().default_sort_order(), &self.schema)?),
        })
    }

    /// Whether rows are sorted by the table's sort order, which it may not have.
    fn is_sorted_as_the_table(&self) -> bool {
        let order = self.loaded.metadata().default_sort_order();
        self.table.layout.is_none() && self.table.sorted_by.is_none() && !order.fields.is_empty()
    }
}

fn wrong(key: &str, value: &str) -> Error {
    Error::usage(format!("the table's property `{key}` is `{value}`, which cannot be written"))
}

/// The size of files by the table's properties.
pub(crate) fn target_file_bytes(metadata: &TableMetadata) -> Result<u64> {
    const BYTES: &str = "write.target-file-size-bytes";
    match metadata.properties().get(BYTES) {
        Some(text) => text.parse().map_err(|_| wrong(BYTES, text)),
        None => Ok(512 << 20),
    }
}

/// The check that others have not changed what a run relies on, immediately before it is decided.
#[derive(Debug)]
struct Unchanged {
    step: Publish,
    /// Not the table.
    strict: bool,
    /// Not these partitions.
    touched: Option<Touched>,
    ctx: StageContext,
}

#[async_trait]
impl PendingAudit for Unchanged {
    async fn end(&self) -> Result<Option<Audit>> {
        let table = catalog_of(&self.ctx).await?.load(&self.step.database, &self.step.table).await?;
        if self.strict {
            self.step.check_base(&table)?;
        }
        if let Some(touched) = &self.touched {
            touched.check(&table).await?;
        }
        Ok(None)
    }
}

/// A branch of this name, or with a number if the run has one already.
fn free_branch(table: &Loaded, name: &str) -> String {
    let names = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}_{n}")));
    let free = |name: &String| table.metadata().snapshot_for_ref(name).is_none();
    names.into_iter().find(free).unwrap_or_else(|| name.to_owned())
}

/// Commits a draft as the only snapshot of a new branch, which starts at `main`.
async fn commit(
    catalog: &dyn IcebergCatalog,
    loaded: Loaded,
    draft: &mut Draft,
    branch: &str,
    now_ms: i64,
) -> Result<Loaded> {
    let base = loaded.metadata().snapshot_for_ref(MAIN_BRANCH).cloned();
    let mut attempts = Attempts::new(catalog, loaded);
    loop {
        let table = attempts.table();
        // Others may have expired it.
        let parent = base.as_ref().filter(|base| table.metadata().snapshot_by_id(base.snapshot_id()).is_some());
        let snapshot = draft.produce(table, parent, now_ms).await?;
        // A branch that is kept for inspection goes when a person says so, whatever the age of others.
        let retention = SnapshotRetention::branch(None, None, Some(i64::MAX));
        let reference = SnapshotReference::new(snapshot.snapshot_id(), retention);
        let change = Change {
            requirements: vec![
                TableRequirement::UuidMatch { uuid: table.metadata().uuid() },
                TableRequirement::RefSnapshotIdMatch { r#ref: branch.to_owned(), snapshot_id: None },
            ],
            updates: vec![
                TableUpdate::AddSnapshot { snapshot },
                TableUpdate::SetSnapshotRef { ref_name: branch.to_owned(), reference },
            ],
        };
        if let Some(table) = attempts.commit(change).await? {
            return Ok(table);
        }
    }
}

/// The folder of a run's data files: nothing refers to it before they are committed. The values of partitions are not in
/// the names, which anybody may see.
#[derive(Debug)]
struct Data {
    folder: Location,
    partitioned: bool,
}

#[async_trait]
impl Placement for Data {
    async fn folder(&self, values: &[String], name: &str) -> Result<Folder> {
        let location = match self.partitioned {
            // File names are unique within a partition.
            true => self.folder.join(format!("{:032x}", XxHash3_128::oneshot(name.as_bytes()))),
            false => self.folder.clone(),
        };
        debug_assert_eq!(values.is_empty(), !self.partitioned);
        Ok(Folder { location, visibility: Visibility::Unseen })
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "iceberg": { "folder": self.folder, "partitioned": self.partitioned } })
    }
}
