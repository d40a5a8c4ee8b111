//! Folders of Parquet files.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::{Expr, cast, ident};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::DataFrame;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_catalog::partition_name;
use hardtack_core::{
    Environment, Error, Location, PublishAction, Result, ShowFields, Sink, StageContext, Staged, Store,
};
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::arrow::ArrowSchemaConverter;
#[cfg(doc)]
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use tokio::sync::Semaphore;

use crate::append_only::{self, APPEND_ONLY_MARKER, refuse_marked};
use crate::encode::parquet_error;
use crate::field_ids;
use crate::lake;
use crate::layout::{Compression, Layout, SortColumn, Statistics};
use crate::named::PartitionValues;
use crate::partition::{self, Partitioner};
use crate::placement::{Below, Placement};
use crate::plan;
use crate::write::{UPLOADS, Write, WriteSpec};
use crate::written::{self, WrittenFile};

const TARGET_FILE_BYTES: u64 = 512 << 20;
/// How many partitions are listed concurrently.
const LISTINGS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    AppendOnly,
    Overwrite,
    OverwritePartitions,
}

/// A folder of Parquet files, optionally with Hive-style partitions.
///
/// It writes one file per partition value (or a single file if there are no partitions), split only at a target size,
/// whatever the number of cores, and no file if there are no rows. File names contain the run's id. The rows of each
/// partition are gathered before they are written, on disk if they do not fit into memory; each core writes one file at
/// a time, and the columns of large files are encoded in parallel. Memory therefore does not grow with the number of
/// partitions, and one partition with most of the rows does not delay the others.
///
/// If the rows come from [`drop_duplicates`](hardtack_transforms::drop_duplicates) over all columns and the partition
/// columns are computed from them, duplicates are found within each partition, which takes a fraction of the memory and
/// time.
///
/// ```
/// use hardtack_sinks::{Compression, ParquetDataset};
///
/// let dataset = ParquetDataset::new("sales", "s3://lake/sales")
///     .overwrite()
///     .partition_by(["year", "month"])
///     .with_compression(Compression::Snappy);
/// assert_ne!(dataset, ParquetDataset::new("sales", "s3://lake/sales"));
/// ```
#[derive(Clone, PartialEq)]
pub struct ParquetDataset {
    pub(crate) name: String,
    pub(crate) location: Location,
    mode: Mode,
    merges: bool,
    /// The partitions that are replaced even without new rows.
    also: Vec<PartitionValues>,
    pub(crate) partition_by: Vec<String>,
    schema: Option<SchemaRef>,
    pub(crate) layout: Layout,
    keep_partition_columns: bool,
    /// The columns that files do not have.
    omitted: Vec<String>,
    pub(crate) target_file_bytes: u64,
    /// The field ids of the columns of files and of the fields within them, depth first.
    field_ids: Vec<i32>,
}

impl ParquetDataset {
    /// Creates a dataset in the folder `location`, to which rows are appended.
    pub fn new(name: impl Into<String>, location: impl Into<Location>) -> Self {
        Self {
            name: name.into(),
            location: location.into(),
            mode: Mode::Append,
            merges: false,
            also: Vec::new(),
            partition_by: Vec::new(),
            schema: None,
            layout: Layout::default(),
            keep_partition_columns: false,
            omitted: Vec::new(),
            target_file_bytes: TARGET_FILE_BYTES,
            field_ids: Vec::new(),
        }
    }

    /// Replaces the content of the folder: the `.parquet` files that exist when staging begins are deleted after the
    /// new ones have appeared. Hidden files (beginning with `.` or `_`) and other files stay.
    ///
    /// The whole folder is replaced: runs of different scopes may be concurrent, so they need separate folders.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.mode = Mode::Overwrite;
        self
    }

    /// Says that the rows that are saved include the earlier ones that are to stay, for example because they are merged
    /// with them. Only then may rows of a [bookmarked](hardtack_core::bookmarks) source replace what is there.
    #[must_use]
    pub fn merges(mut self) -> Self {
        self.merges = true;
        self
    }

    /// Replaces the partitions that have new rows, and leaves the others alone: the `.parquet` files that such a
    /// partition has when its new rows have been staged are deleted after the new ones have appeared. Nothing else is
    /// listed. Running again on the same rows therefore ends in the same state, so that one day, say, can be processed
    /// again.
    ///
    /// A partition that no longer has any rows has to be named:
    /// [`also_overwriting`](ParquetDataset::also_overwriting). Folders are those that this dataset writes: files in
    /// `month=03`, which others have written, are not in the partition `month=3`.
    ///
    /// Runs that write to the same partition must not be concurrent, unless they are of one job and scope. Partition
    /// columns are required.
    #[must_use]
    pub fn overwrite_partitions(mut self) -> Self {
        self.mode = Mode::OverwritePartitions;
        self
    }

    /// Does the same as [`overwrite_partitions`](ParquetDataset::overwrite_partitions), and also replaces these
    /// partitions, which are empty afterwards if there are no rows for them.
    ///
    /// ```
    /// use chrono::NaiveDate;
    /// use hardtack_sinks::{ParquetDataset, PartitionValues};
    ///
    /// /// All sales of a day, even if it turns out that there are none.
    /// fn sales(day: NaiveDate) -> ParquetDataset {
    ///     ParquetDataset::new("sales", "s3://lake/sales")
    ///         .partition_by(["day"])
    ///         .also_overwriting([PartitionValues::of("day", day)])
    /// }
    /// ```
    #[must_use]
    pub fn also_overwriting(mut self, partitions: impl IntoIterator<Item = PartitionValues>) -> Self {
        self.also.extend(partitions);
        self.overwrite_partitions()
    }

    /// Appends rows and protects them: sinks that would replace files at, below or above this place are refused from
    /// the first run on, in other jobs too. So are CSV and JSON files. Compaction, which keeps the rows, is permitted.
    ///
    /// The protection is a hidden object `_append_only` in the folder. It is published with the rows, and whoever
    /// removes it ends the protection.
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.mode = Mode::AppendOnly;
        self
    }

    /// Writes a folder `column=value` for each value of these columns, in this order; the files omit the columns.
    #[must_use]
    pub fn partition_by<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.partition_by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Declares the schema of the dataset, partition columns included: rows are coerced to it, and rows that do not
    /// conform are refused.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<SchemaRef>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Sets the compression (zstd level 3 by default).
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.layout.compression = compression;
        self
    }

    /// Keeps the partition columns in the files as well, for readers that ignore folder names.
    #[must_use]
    pub fn keep_partition_columns(mut self) -> Self {
        self.keep_partition_columns = true;
        self
    }

    /// Leaves these columns out of files, whose rows can still be sorted by them: for sinks that are built on this one.
    #[must_use]
    pub fn omit_columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.omitted = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Sorts the rows within each file by these columns, so that readers can skip more: names, for ascending and nulls
    /// first, or [`SortColumn`]s.
    #[must_use]
    pub fn sorted_by<C: Into<SortColumn>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.layout.sorted_by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the maximum rows of a row group (1,048,576 by default); with wide rows it ends earlier, at 128 MiB in
    /// memory.
    #[must_use]
    pub fn with_row_group_rows(mut self, rows: usize) -> Self {
        self.layout.row_group_rows = rows.max(1);
        self
    }

    /// Sets the statistics that are written for each column.
    #[must_use]
    pub fn with_statistics(mut self, statistics: Statistics) -> Self {
        self.layout.statistics = statistics;
        self
    }

    /// Adds Bloom filters for these columns, with which readers that look for one value can skip row groups without it.
    #[must_use]
    pub fn with_bloom_filters<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.layout.bloom_filters = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Writes these columns without a dictionary; use it for columns whose values do not repeat, such as row ids. Files
    /// of fewer than 64 rows have no dictionaries anyway, because these would take more space than they save.
    #[must_use]
    pub fn without_dictionary<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.layout.without_dictionary = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the size in bytes at which a file is closed and another begun (512 MiB by default), also by
    /// [`compact`](ParquetDataset::compact).
    #[must_use]
    pub fn with_target_file_bytes(mut self, bytes: u64) -> Self {
        self.target_file_bytes = bytes.max(1);
        self
    }

    /// Writes the field ids of this schema, which table formats such as Iceberg identify columns by, into the files. Fields
    /// have them in their metadata, under [`PARQUET_FIELD_ID_META_KEY`]. The rows must have the same columns, in the same
    /// order, before any partition columns and those that are [omitted](ParquetDataset::omit_columns).
    #[must_use]
    pub fn with_field_ids(mut self, schema: &Schema) -> Self {
        self.field_ids = field_ids::of(schema.fields());
        self
    }

    /// Lays files out as another dataset does: compression, order, row groups, statistics, sizes.
    #[must_use]
    pub fn with_layout_of(mut self, other: &Self) -> Self {
        self.layout = other.layout.clone();
        self.target_file_bytes = other.target_file_bytes;
        self
    }

    /// Whether files are laid out as by default.
    pub fn has_default_layout(&self) -> bool {
        self.layout == Layout::default() && self.target_file_bytes == TARGET_FILE_BYTES
    }

    /// Whether partitions are [named](ParquetDataset::also_overwriting) that are replaced even without rows.
    pub fn names_partitions(&self) -> bool {
        !self.also.is_empty()
    }

    /// The declared schema.
    pub fn declared_schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    /// The partition columns.
    pub fn partition_columns(&self) -> &[String] {
        &self.partition_by
    }

    /// Whether it replaces all existing files.
    pub fn is_overwrite(&self) -> bool {
        self.mode == Mode::Overwrite
    }

    /// Whether the rows that are saved [include](ParquetDataset::merges) the earlier ones.
    pub fn is_merge(&self) -> bool {
        self.merges
    }

    /// Whether it replaces the files of some partitions.
    pub fn is_overwrite_partitions(&self) -> bool {
        self.mode == Mode::OverwritePartitions
    }

    /// Whether it protects its place from being overwritten.
    pub fn is_append_only(&self) -> bool {
        self.mode == Mode::AppendOnly
    }

    /// The values of the partitions that were [named](ParquetDataset::also_overwriting), as the names of folders have
    /// them, in a dataset with these columns.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a dataset without partition columns, a column that is not one of
    /// them, one that is left out, and a value that does not have the column's type.
    pub fn named_partitions(&self, columns: &SchemaRef) -> Result<Vec<Vec<String>>> {
        if !self.is_overwrite_partitions() {
            return Ok(Vec::new());
        }
        if self.partition_by.is_empty() {
            return Err(Error::usage("only a dataset with partition columns has partitions to overwrite")
                .with("sink", &self.name)
                .with("location", &self.location)
                .hint("name the columns with `.partition_by([...])`, or replace everything with `.overwrite()`"));
        }
        self.also.iter().map(|partition| partition.texts(columns, &self.partition_by)).collect()
    }

    /// The folders of the partitions that were named, for rows as files hold them.
    fn named_folders(&self, columns: &SchemaRef) -> Result<BTreeSet<String>> {
        Ok(self.named_partitions(columns)?.iter().map(|values| self.folder(values)).collect())
    }

    /// The folder of a partition, relative to the dataset.
    fn folder(&self, values: &[String]) -> String {
        partition_name(self.partition_by.iter().map(String::as_str), values)
    }

    /// The files of these partitions, in their current state.
    async fn files_of(&self, env: &Environment, folders: BTreeSet<String>) -> Result<Vec<PublishAction>> {
        let (store, root) = env.stores().open(&self.location)?;
        let mut above = BTreeSet::new();
        for folder in &folders {
            let path = self.location.join(folder).resolve()?.path;
            let between = path.prefix_match(&root).into_iter().flatten().count();
            let parts: Vec<_> = path.parts().collect();
            above.extend((1..between).map(|up| parts[..parts.len() - up].iter().cloned().collect::<Path>()));
        }
        refuse_marked(&store, &self.location, above).await?;
        let files = stream::iter(folders).map(|folder| self.replaceable(env, self.location.join(folder)));
        Ok(files.buffered(LISTINGS).try_collect::<Vec<_>>().await?.concat())
    }

    /// The visible files at or below a folder, in their current state, unless they are append-only.
    async fn replaceable(&self, env: &Environment, folder: Location) -> Result<Vec<PublishAction>> {
        let (store, listed) = self.visible(env, &folder).await?;
        if let Some((_, meta)) = listed.iter().find(|(_, meta)| meta.location.filename() == Some(APPEND_ONLY_MARKER)) {
            return Err(append_only::refused(&store, &self.location, &meta.location));
        }
        let files = listed.into_iter().filter(|(_, meta)| is_file_of_rows(meta));
        Ok(files
            .map(|(_, meta)| PublishAction::Delete { location: Location::of(&store.url, &meta.location) })
            .collect())
    }

    /// The visible `.parquet` files, each with its folder relative to the dataset.
    pub(crate) async fn files(&self, env: &Environment) -> Result<(Store, Vec<(String, ObjectMeta)>)> {
        let (store, mut files) = self.visible(env, &self.location).await?;
        files.retain(|(_, meta)| is_file_of_rows(meta));
        Ok((store, files))
    }

    /// What is in visible folders at or below `place`, each with its folder relative to the dataset. A folder that is a
    /// partition is visible even if its name begins with `_` (`_x=1`).
    async fn visible(&self, env: &Environment, place: &Location) -> Result<(Store, Vec<(String, ObjectMeta)>)> {
        let (_, root) = env.stores().open(&self.location)?;
        let (store, place) = env.stores().open(place)?;
        let hidden = |part: &String| is_hidden(part) && !(part.starts_with('_') && part.contains('='));
        let folder = |meta: &ObjectMeta| {
            let parts: Vec<_> = meta.location.prefix_match(&root)?.map(|part| part.as_ref().to_owned()).collect();
            let (_, folders) = parts.split_last()?;
            (!folders.iter().any(hidden)).then(|| folders.join("/"))
        };
        let listed: Vec<_> = store.objects.list(Some(&place)).try_collect().await?;
        let visible = listed.into_iter().filter_map(|meta| Some((folder(&meta)?, meta))).collect();
        Ok((store, visible))
    }

    /// Writes rows as this dataset would, but to the folders that `placement` chooses: for sinks that are built on this
    /// one. Only the dataset's file layout, schema and partition columns apply.
    ///
    /// # Errors
    /// Errors of the rows and of the store. Whatever has been written by then is discarded with the run.
    pub async fn write_files(
        &self,
        ctx: &StageContext,
        rows: DataFrame,
        placement: Arc<dyn Placement>,
    ) -> Result<Vec<WrittenFile>> {
        let rows = self.stored(crate::contract(rows, self.schema.as_ref())?)?;
        let write = Arc::new(self.write(ctx, rows.schema().as_arrow().clone().into(), placement)?);
        let plan = plan::plan(rows, Arc::clone(&write)).await?;
        execute(plan, &write).await
    }

    /// The rows in the form in which files hold them, coerced to the declared schema.
    fn stored(&self, rows: DataFrame) -> Result<DataFrame> {
        partition::empty_is_null(readable(rows)?, &self.partition_by)
    }

    /// The conventional placement of partitions, in the folder `path` of this dataset.
    pub(crate) fn below(&self, path: &str) -> Arc<dyn Placement> {
        Arc::new(Below::new(&self.location, path))
    }

    /// State shared by the streams of a write.
    pub(crate) fn write(&self, ctx: &StageContext, schema: SchemaRef, placement: Arc<dyn Placement>) -> Result<Write> {
        let partitioner = Partitioner::new(&schema, &self.partition_by, self.keep_partition_columns, &self.omitted)?;
        let file_schema = field_ids::with(&partitioner.file_schema(&schema)?, &self.field_ids)?;
        let parquet_schema =
            ArrowSchemaConverter::new().convert(&file_schema).map_err(parquet_error)?.root_schema_ptr();
        let threads = ctx.session().state().config().target_partitions();
        let spec = WriteSpec {
            sink: self.name.clone(),
            partition_by: self.partition_by.clone(),
            keep_partition_columns: self.keep_partition_columns,
            omitted: self.omitted.clone(),
            layout: self.layout.clone(),
            target_file_bytes: self.target_file_bytes,
            prefix: "part".to_owned(),
            placement: placement.describe(),
            field_ids: self.field_ids.clone(),
        };
        Ok(Write {
            spec,
            properties: self.layout.properties(ctx, &file_schema)?,
            ctx: ctx.clone(),
            placement,
            partitioner,
            schema: file_schema,
            parquet_schema,
            sort_by: self.layout.sort_columns(&schema)?,
            meter: ctx.meter(),
            encoders: Arc::new(Semaphore::new(threads)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
        })
    }
}

impl std::fmt::Debug for ParquetDataset {
    /// Shows the options that differ from the defaults.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("ParquetDataset");
        f.field("name", &self.name).field("location", &self.location.as_str()).field("mode", &self.mode);
        if self.merges {
            f.field("merges", &true);
        }
        if !self.also.is_empty() {
            f.field("also", &self.also);
        }
        if let Some(schema) = &self.schema {
            f.field("schema", &ShowFields(schema.fields()));
        }
        if !self.partition_by.is_empty() {
            f.field("partition_by", &self.partition_by);
        }
        if self.keep_partition_columns {
            f.field("keep_partition_columns", &true);
        }
        if !self.omitted.is_empty() {
            f.field("omitted", &self.omitted);
        }
        self.layout.show(&mut f);
        if self.target_file_bytes != TARGET_FILE_BYTES {
            f.field("target_file_bytes", &self.target_file_bytes);
        }
        if !self.field_ids.is_empty() {
            f.field("field_ids", &self.field_ids);
        }
        f.finish()
    }
}

#[async_trait]
impl Sink for ParquetDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> Option<Location> {
        Some(self.location.clone())
    }

    fn declared_schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    fn replaces(&self) -> bool {
        matches!(self.mode, Mode::Overwrite | Mode::OverwritePartitions) && !self.merges
    }

    fn deletes(&self) -> bool {
        self.mode != Mode::Append
    }

    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged> {
        let columns = self.stored(crate::contract(rows.clone(), self.schema.as_ref())?)?.schema().as_arrow().clone();
        let mut folders = self.named_folders(&columns.into())?;
        lake::refuse_iceberg(ctx, &self.location).await?;
        if self.is_overwrite() || self.is_overwrite_partitions() {
            append_only::refuse_append_only(ctx, &self.location).await?;
        }
        let mut superseded = match self.mode {
            Mode::Overwrite => self.replaceable(ctx, self.location.clone()).await?,
            _ => Vec::new(),
        };
        let files = self.write_files(ctx, rows, self.below("")).await?;
        if self.is_overwrite_partitions() {
            folders.extend(files.iter().map(|file| self.folder(&file.values)));
            superseded = self.files_of(ctx, folders).await?;
        }
        let mut staged = staged(files);
        staged.publish.extend(superseded);
        if self.is_append_only() {
            staged.publish.extend(append_only::mark_append_only(ctx, &self.location).await?);
        }
        Ok(staged)
    }

    async fn conform(&self, ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        let rows = crate::contract(rows, self.schema.as_ref())?;
        // The partition columns, the sort columns and those with options must exist.
        let stored = self.stored(rows.clone())?;
        let columns: SchemaRef = stored.schema().as_arrow().clone().into();
        self.write(ctx, Arc::clone(&columns), self.below(""))?;
        self.named_folders(&columns)?;
        Ok(rows)
    }
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

fn is_file_of_rows(meta: &ObjectMeta) -> bool {
    meta.location.filename().is_some_and(|name| name.ends_with(".parquet") && !is_hidden(name))
}

/// Executes the plan of a write.
pub(crate) async fn execute(plan: Arc<dyn ExecutionPlan>, write: &Write) -> Result<Vec<WrittenFile>> {
    written::decode(&collect(plan, write.ctx.session().task_ctx()).await?)
}

/// The actions that make the files appear.
pub(crate) fn staged(files: Vec<WrittenFile>) -> Staged {
    let report = WrittenFile::report(&files);
    Staged { report, publish: files.into_iter().filter_map(|file| file.publish).collect(), location: None }
}

/// Converts rows to types that every engine reads. Parquet has no timestamp in seconds (it would be a bare integer),
/// and dictionary types are not the readers' concern: each column chunk of a file has a dictionary of its own anyway.
fn readable(rows: DataFrame) -> Result<DataFrame> {
    let schema = rows.schema().as_arrow();
    let readable = |data_type: &DataType| match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => Some(DataType::Timestamp(TimeUnit::Millisecond, zone.clone())),
        DataType::Dictionary(_, values) => Some(values.as_ref().clone()),
        _ => None,
    };
    if schema.fields().iter().all(|f| readable(f.data_type()).is_none()) {
        return Ok(rows);
    }
    let column = |field: &FieldRef| match readable(field.data_type()) {
        Some(data_type) => cast(ident(field.name()), data_type).alias(field.name()),
        None => ident(field.name()),
    };
    let columns: Vec<Expr> = schema.fields().iter().map(column).collect();
    Ok(rows.select(columns)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::RecordBatch;
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::physical_plan::coop::CooperativeExec;
    use datafusion::physical_plan::execution_plan::reset_plan_states;
    use datafusion::physical_plan::{ExecutionPlan, collect_partitioned, displayable};
    use rstest::rstest;

    use super::*;

    /// A value can be compared, and sent to another process.
    #[tokio::test]
    async fn a_write_is_a_value() {
        let ctx = hardtack_core::JobContext::builder("job").threads(1).build().unwrap();
        let schema: SchemaRef =
            ctx.session().sql("select 1 as p, 2 as n").await.unwrap().schema().as_arrow().clone().into();
        let spec = |dataset: &ParquetDataset| {
            dataset.write(&ctx.staging("out"), Arc::clone(&schema), dataset.below("")).unwrap().spec
        };
        let plain = ParquetDataset::new("out", "memory:/out");
        let identified = field_ids::with(&schema, &[3, 4]).unwrap();
        let all = [
            plain.clone(),
            plain.clone().partition_by(["p"]),
            plain
                .clone()
                .partition_by(["p"])
                .keep_partition_columns()
                .sorted_by(["n"])
                .with_compression(Compression::Snappy),
            plain.clone().with_field_ids(&identified),
            plain.clone().omit_columns(["n"]),
            plain.clone().with_bloom_filters(["n"]).with_statistics(Statistics::None).with_target_file_bytes(1 << 20),
            ParquetDataset::new("out", "memory:/elsewhere"),
        ];
        for (i, dataset) in all.iter().enumerate() {
            let text = serde_json::to_string(&spec(dataset)).unwrap();
            let sent: WriteSpec = serde_json::from_str(&text).unwrap();
            assert_eq!(sent, spec(dataset), "{text}");
            assert!(all[..i].iter().all(|other| spec(other) != sent), "{text}");
        }
    }

    /// Gathering rows and dropping duplicates is done by one operator, except if files are to be sorted, or if the
    /// query has added something to the rows after the distinct.
    #[rstest]
    #[case::gathered("select * from t", &[], &["GatherExec: by=[p]", "RepartitionExec"])]
    #[case::distinct(
        "select distinct a, a % 5 as p from t",
        &[],
        &["GatherExec: by=[__hardtack_partition_0], distinct", "RepartitionExec"]
    )]
    #[case::distinct_before(
        "select *, row_number() over () as n from (select distinct * from t)",
        &[],
        &["GatherExec: by=[p]", "RepartitionExec", "AggregateExec", "RepartitionExec", "AggregateExec"]
    )]
    #[case::distinct_below_a_filter(
        "select b, p from (select *, a % 5 as p from (select distinct a, b from u where a > 0)) where b <> 'x'",
        &[],
        &["GatherExec: by=[__hardtack_partition_0], distinct", "RepartitionExec"]
    )]
    #[case::distinct_by_chance(
        "select *, cast(random() * 5 as int) as p from (select distinct a from t)",
        &[],
        &["GatherExec: by=[p]", "RepartitionExec", "AggregateExec", "RepartitionExec", "AggregateExec"]
    )]
    #[case::sorted("select * from t", &["a"], &["SortExec", "RepartitionExec"])]
    #[tokio::test]
    async fn rows_come_together(#[case] query: &str, #[case] sorted_by: &[&str], #[case] operators: &[&str]) {
        let ctx = hardtack_core::JobContext::builder("job").threads(2).build().unwrap();
        let table = "create table t as select value % 5 as p, value as a from generate_series(1, 20000)";
        ctx.session().sql(table).await.unwrap().collect().await.unwrap();
        let table = "create table u as select value as a, 'b' || (value % 2) as b from generate_series(1, 20000)";
        ctx.session().sql(table).await.unwrap().collect().await.unwrap();
        let dataset = ParquetDataset::new("n", "memory:/n").partition_by(["p"]).sorted_by(sorted_by.iter().copied());
        let rows = ctx.session().sql(query).await.unwrap();
        let write =
            dataset.write(&ctx.staging("out"), rows.schema().as_arrow().clone().into(), dataset.below("")).unwrap();
        let plan = plan::plan(rows, write.into()).await.unwrap();
        let plan = displayable(plan.as_ref()).indent(false).to_string();
        let found = plan.lines().map(str::trim).filter(|line| {
            ["Gather", "Sort", "Aggregate", "RepartitionExec: partitioning=Hash"].iter().any(|o| line.starts_with(o))
        });
        let found: Vec<_> =
            found.map(|l| if l.starts_with("Gather") { l } else { &l[..l.find(':').unwrap()] }).collect();
        assert_eq!(found, operators, "{plan}");
    }

    fn gather(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
        let below = || plan.children().into_iter().find_map(gather);
        if plan.name() == "GatherExec" { Some(Arc::clone(plan)) } else { below() }
    }

    /// Behind an exchange that is not its own, such as one between machines, a stream needs nothing but its input.
    #[rstest]
    #[case::all("select n % 7 as p, 'x' || (n % 3) as t, n from u")]
    #[case::distinct("select distinct n % 7 as p, 'x' || (n % 3) as t from u")]
    #[case::large_keys("select distinct n % 2 as p, n % 50000 as t from u")]
    #[tokio::test]
    async fn a_stream_gathers_its_own_input(#[case] query: &str, #[values(256, 8)] megabytes: usize) {
        let ctx = hardtack_core::JobContext::builder("job").threads(3).memory_limit(megabytes << 20).build().unwrap();
        ctx.session().sql("create view u as select value as n from generate_series(1, 300000)").await.unwrap();
        let rows = ctx.session().sql(query).await.unwrap();
        let dataset = ParquetDataset::new("n", "memory:/n").partition_by(["p"]);
        let write =
            dataset.write(&ctx.staging("out"), rows.schema().as_arrow().clone().into(), dataset.below("")).unwrap();
        let plan = gather(&plan::plan(rows, write.into()).await.unwrap()).unwrap();
        let exchange = Arc::clone(plan.children()[0]);
        assert_eq!(exchange.name(), "RepartitionExec");
        let foreign = Arc::new(CooperativeExec::new(exchange)) as Arc<dyn ExecutionPlan>;
        let foreign = Arc::clone(&plan).with_new_children(vec![foreign]).unwrap();
        // The two have operators in common that can be executed once.
        let foreign = reset_plan_states(foreign).unwrap();
        let mut seen = Vec::new();
        for plan in [plan, foreign] {
            let key = plan.schema().index_of("p").unwrap();
            let streams = collect_partitioned(Arc::clone(&plan), ctx.session().task_ctx()).await.unwrap();
            assert_eq!(plan.metrics().unwrap().spill_count() > Some(0), megabytes < 256);
            assert_eq!(streams.len(), 3);
            let mut keys = Vec::new();
            for stream in &streams {
                let of_stream: Vec<_> = stream.iter().map(|rows| rows.project(&[key]).unwrap()).collect();
                let mut of_stream = lines(&of_stream);
                of_stream.dedup();
                assert!(of_stream.is_sorted(), "{of_stream:?}");
                keys.extend(of_stream);
            }
            keys.sort_unstable();
            let all = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), all, "a key is in two streams, or comes twice in one");
            let mut rows = lines(&streams.concat());
            rows.sort_unstable();
            seen.push(rows);
        }
        assert_eq!(seen[0].len(), seen[1].len());
        assert!(seen[0] == seen[1], "the rows differ");
    }

    /// The rows as texts.
    fn lines(rows: &[RecordBatch]) -> Vec<String> {
        let text = pretty_format_batches(rows).unwrap().to_string();
        text.lines().skip(3).filter(|line| line.starts_with('|')).map(str::to_owned).collect()
    }

    /// Spilling frees memory again: batches after the first spill are not each spilled on their own.
    #[rstest]
    #[tokio::test]
    async fn what_does_not_fit_is_spilled_in_few_files(#[values(1, 2)] threads: usize) {
        let ctx = hardtack_core::JobContext::builder("job")
            .threads(threads)
            .memory_limit(threads * (8 << 20))
            .build()
            .unwrap();
        let query = "select uuid() as u, value % 10 as p from generate_series(1, 500000)";
        let rows = ctx.session().sql(query).await.unwrap();
        let dataset = ParquetDataset::new("n", "memory:/n").partition_by(["p"]);
        let write =
            dataset.write(&ctx.staging("out"), rows.schema().as_arrow().clone().into(), dataset.below("")).unwrap();
        let plan = plan::plan(rows, write.into()).await.unwrap();
        collect(Arc::clone(&plan), ctx.session().task_ctx()).await.unwrap();
        let metrics = gather(&plan).unwrap().metrics().unwrap();
        let files = metrics.spill_count().unwrap();
        assert!((2..16).contains(&files), "{files} files");
        assert_eq!(metrics.spilled_rows().unwrap(), 500_000);
    }
}
