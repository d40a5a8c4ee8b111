//! Compaction: merges the many small files of a dataset into few.
//!
//! In each folder, the files that are too small are read one after the other and written as one partition by the
//! operator that writes every dataset: it closes a file at the target size and begins another. The footer of a closed
//! file records this, so a second compaction finds at most one candidate per folder, and does nothing.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result as DFResult};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use datafusion::prelude::DataFrame;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use hardtack_catalog::types::{Policy, Union};
use hardtack_core::guard::{guarded, guarded_stream};
use hardtack_core::{
    Context, Environment, Error, JobContext, Location, Meter, PublishAction, Result, Sink, StageContext, Staged, Store,
};
use hardtack_transforms::convert_array;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use parquet::basic::Type;
use parquet::errors::ParquetError;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::ParquetDataset;
use crate::encode::given_up;
use crate::layout::SortColumn;
use crate::parquet::{execute, staged};
use crate::write::{FULL_AT, ParquetWriteExec, UPLOADS, Write, WriteSpec, required};

/// The maximum number of folders that are compacted concurrently (their size permitting), and of footers that are read
/// concurrently.
const CONCURRENCY: usize = 64;
/// A folder of this size, in KiB, takes one core's share of the memory; several smaller folders share it.
const LARGE_KIB: u64 = 16 << 10;
/// Large enough for most footers to take one request.
const FOOTER_BYTES: usize = 64 << 10;
/// Files up to this size are read with one request.
const WHOLE_BYTES: u64 = 1 << 20;
/// The number of files of a folder that are prefetched.
const PREFETCH: usize = 8;

/// The files of one folder that [compaction](ParquetDataset::compact) would merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFiles {
    /// The folder.
    pub folder: Location,
    /// How many files.
    pub files: u64,
    /// Their total size in bytes.
    pub bytes: u64,
}

impl ParquetDataset {
    /// Merges the many small files of this dataset into files of the target size, as part of this run: when the run is
    /// published, the new files appear and exactly the files whose rows they hold are deleted.
    ///
    /// It works folder by folder, whatever the folders are called, so partitions need not be declared. The files of a
    /// folder that are smaller than three quarters of the target size are rewritten if that makes them fewer; the
    /// others are left alone. A second compaction therefore does nothing, and compaction can be part of every nightly
    /// run.
    ///
    /// Rows are unchanged, duplicates included. Columns are matched by name: a column that a file lacks is null in its
    /// rows, and types are widened where nothing is lost. Rows are sorted if this dataset is [`sorted_by`] columns, or
    /// if all files declare the same sort order. Compression, row groups, Bloom filters and so on are those of this
    /// dataset; its mode, `partition_by` and declared schema do not matter.
    ///
    /// Files that are added meanwhile stay, including those that this run appends. Nothing else may *replace* files of
    /// the folder meanwhile (an overwrite, another compaction), or their rows would reappear. Of concurrent runs of one
    /// job and scope only one commits. Any other writer is detected if it replaces a file before compaction has ended,
    /// which is a [`Conflict`](hardtack_core::ErrorKind::Conflict). While the run is published, readers may briefly see
    /// rows twice, as with [`overwrite`].
    ///
    /// A test or a dry run sees it as a sink named `<name> (compaction)`.
    ///
    /// ```
    /// # async fn example() -> hardtack_core::Result<()> {
    /// use hardtack_core::{Context, JobContext, Sink};
    /// use hardtack_sinks::ParquetDataset;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let location = hardtack_core::Location::from(folder.path());
    /// let sales = ParquetDataset::new("sales", location).partition_by(["year"]);
    /// # for n in 1..=3 {
    /// #     let ctx = JobContext::builder("append").build()?;
    /// #     let rows = ctx.session().sql(&format!("select 2026 as year, {n} as n")).await?;
    /// #     ctx.publish(&sales.stage(&ctx.staging("sales"), rows).await?.publish).await?;
    /// # }
    /// # let io = std::sync::Arc::new(hardtack_core::StagingIo::default());
    /// # let job = JobContext::builder("job").io(io.clone()).build()?;
    /// # let ctx = Context::new((), job.clone());
    /// sales.compact(&ctx).await?;
    /// # job.publish(&io.staged()[0].staged.publish).await?;
    /// # let files = std::fs::read_dir(folder.path().join("year=2026")).unwrap().count();
    /// # assert_eq!((files, io.staged()[0].staged.report.rows), (1, 3));
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Refused`](hardtack_core::ErrorKind::Refused) if files of a folder have columns of one name whose types do not
    /// go together, or hold what could not be written again as it is; [`Conflict`](hardtack_core::ErrorKind::Conflict)
    /// if files were replaced meanwhile; those of [`Context::save`].
    ///
    /// [`sorted_by`]: ParquetDataset::sorted_by
    /// [`overwrite`]: ParquetDataset::overwrite
    pub async fn compact<A>(&self, ctx: &Context<A>) -> Result<()> {
        let rows = DataFrame::new(ctx.session().state(), LogicalPlanBuilder::empty(false).build()?);
        let name = format!("{} (compaction)", self.name);
        ctx.save(Compaction { name, dataset: self.clone() }, rows).await
    }

    /// Lists what [`compact`](ParquetDataset::compact) would merge now, by folder; writes nothing.
    ///
    /// # Errors
    /// Errors of the store, and those of `compact` about the content of files.
    pub async fn small_files(&self, ctx: &JobContext) -> Result<Vec<SmallFiles>> {
        let compacter = Arc::new(Compacter::new(&ctx.staging(&self.name), self, &self.name)?);
        let found = compacter.each(self.folders(ctx).await?, async |compacter, folder| {
            let folder = compacter.survey(folder).await?;
            Ok(folder.map(|f| SmallFiles {
                folder: compacter.dataset.location.join(&f.path),
                files: f.files.len() as u64,
                bytes: f.bytes(),
            }))
        });
        let mut found: Vec<_> = found.await?.into_iter().flatten().collect();
        found.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(found)
    }

    /// Whether the folder has no visible `.parquet` file.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn is_empty(&self, env: &Environment) -> Result<bool> {
        Ok(self.files(env).await?.1.is_empty())
    }

    /// The folders that could have fewer files, judging by sizes, with the files that are too small.
    async fn folders(&self, env: &Environment) -> Result<Vec<Folder<ObjectMeta>>> {
        let mut folders: BTreeMap<String, Vec<ObjectMeta>> = BTreeMap::new();
        let large = self.target_file_bytes - self.target_file_bytes / 4;
        for (path, meta) in self.files(env).await?.1.into_iter().filter(|(_, meta)| meta.size < large) {
            folders.entry(path).or_default().push(meta);
        }
        let folders = folders.into_iter().map(|(path, mut files)| {
            files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            Folder { path, files }
        });
        Ok(folders.filter(|folder| folder.could_be_fewer(self.target_file_bytes)).collect())
    }
}

/// Compaction as a sink, so that it is staged and published like every other change of a run. Its rows are those of the
/// dataset.
#[derive(Debug)]
struct Compaction {
    name: String,
    dataset: ParquetDataset,
}

#[async_trait]
impl Sink for Compaction {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> Option<Location> {
        Some(self.dataset.location.clone())
    }

    async fn stage(&self, ctx: &StageContext, _: DataFrame) -> Result<Staged> {
        crate::lake::refuse_iceberg(ctx, &self.dataset.location).await?;
        let folders = self.dataset.folders(ctx).await?;
        let compacter = Arc::new(Compacter::new(ctx, &self.dataset, &self.name)?);
        let done = compacter.each(folders, async |compacter, folder| compacter.compact(folder).await).await;
        // If files have vanished, report that rather than the read error it caused.
        compacter.check_unchanged(done.as_ref().err()).await?;
        let mut all = Staged::default();
        for staged in done?.into_iter().flatten() {
            all.report.files += staged.report.files;
            all.report.rows += staged.report.rows;
            all.report.bytes += staged.report.bytes;
            all.publish.extend(staged.publish);
        }
        compacter.check_options(&all)?;
        Ok(all)
    }
}

/// The files of one folder.
#[derive(Debug)]
struct Folder<F> {
    /// Relative to the dataset.
    path: String,
    files: Vec<F>,
}

impl<F: Borrow<ObjectMeta>> Folder<F> {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.borrow().size).sum()
    }

    /// All are smaller than three quarters of the target, so this holds whenever two of them fit into one.
    fn could_be_fewer(&self, target: u64) -> bool {
        self.bytes().div_ceil(target) < self.files.len() as u64
    }
}

impl Folder<File> {
    /// The sort order that all files declare.
    fn sorted_by(&self) -> Vec<SortColumn> {
        let mut orders = self.files.iter().filter(|file| file.rows > 0).map(|file| &file.sorted_by);
        match orders.next() {
            Some(order) if orders.all(|other| other == order) => order.clone(),
            _ => Vec::new(),
        }
    }
}

/// A file whose footer has been read.
#[derive(Debug)]
struct File {
    meta: ObjectMeta,
    location: Location,
    schema: SchemaRef,
    rows: i64,
    /// The target size at which it was closed because the next rows would not have fitted.
    full_at: u64,
    /// The sort order that it declares.
    sorted_by: Vec<SortColumn>,
    /// A column that would not survive rewriting, and the reason.
    problem: Option<(String, &'static str)>,
}

impl Borrow<ObjectMeta> for File {
    fn borrow(&self) -> &ObjectMeta {
        &self.meta
    }
}

/// State shared by the folders of a compaction.
struct Compacter {
    ctx: StageContext,
    dataset: ParquetDataset,
    name: String,
    store: Store,
    read: Arc<Meter>,
    /// The files that the new ones replace.
    superseded: Mutex<Vec<ObjectMeta>>,
    /// Columns that the dataset's options name but no folder has had so far.
    unknown: Mutex<BTreeSet<String>>,
    footers: Semaphore,
    encoders: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    /// Limits the folders in progress, in KiB of their files.
    room: Semaphore,
}

impl Compacter {
    fn new(ctx: &StageContext, dataset: &ParquetDataset, name: &str) -> Result<Self> {
        let threads = ctx.session().state().config().target_partitions();
        let layout = &dataset.layout;
        let named = layout.bloom_filters.iter().chain(&layout.without_dictionary).map(String::as_str);
        let named = layout.sorted_by.iter().map(SortColumn::name).chain(named);
        let is_partition = |column: &str| dataset.partition_by.iter().any(|partition| partition == column);
        let unknown = named.filter(|column| !is_partition(column)).map(str::to_owned).collect();
        Ok(Self {
            ctx: ctx.clone(),
            dataset: dataset.clone(),
            name: name.to_owned(),
            store: ctx.stores().open(&dataset.location)?.0,
            read: ctx.meters().source(&dataset.name),
            superseded: Mutex::default(),
            unknown: Mutex::new(unknown),
            footers: Semaphore::new(CONCURRENCY),
            encoders: Arc::new(Semaphore::new(threads)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            room: Semaphore::new(threads * LARGE_KIB as usize),
        })
    }

    /// Processes folders concurrently. All of its tasks have ended when it returns.
    async fn each<T: Send + 'static, W: Future<Output = Result<T>> + Send + 'static>(
        self: &Arc<Self>,
        folders: Vec<Folder<ObjectMeta>>,
        work: impl Fn(Arc<Self>, Folder<ObjectMeta>) -> W,
    ) -> Result<Vec<T>> {
        let (mut tasks, mut folders, mut done) = (JoinSet::new(), folders.into_iter(), Vec::new());
        loop {
            while tasks.len() < CONCURRENCY
                && let Some(folder) = folders.next()
            {
                tasks.spawn(work(Arc::clone(self), folder));
            }
            match tasks.join_next().await {
                None => return Ok(done),
                Some(Ok(Ok(value))) => done.push(value),
                Some(failed) => {
                    tasks.shutdown().await;
                    return failed.map_err(given_up)?.map(|_| done);
                }
            }
        }
    }

    /// The files of the folder that are to be merged, if any.
    async fn survey(&self, folder: Folder<ObjectMeta>) -> Result<Option<Folder<File>>> {
        let target = self.dataset.target_file_bytes;
        let mut opened = stream::iter(folder.files).map(|meta| self.open(meta)).buffered(CONCURRENCY);
        let mut files: Vec<File> = Vec::new();
        while let Some(mut file) = opened.try_next().await? {
            // Most files of a folder have the same schema, so they share it.
            if let Some(same) = files.last().map(|last| &last.schema).filter(|last| **last == file.schema) {
                file.schema = Arc::clone(same);
            }
            files.push(file);
        }
        files.retain(|file| file.full_at < target);
        let folder = Folder { path: folder.path, files };
        // Merging files without rows would leave nothing, not even their columns.
        let rows = folder.files.iter().any(|file| file.rows > 0);
        Ok((rows && folder.could_be_fewer(target)).then_some(folder))
    }

    async fn open(&self, meta: ObjectMeta) -> Result<File> {
        let _permit = self.footers.acquire().await.map_err(given_up)?;
        let location = Location::of(&self.store.url, &meta.location);
        let footer = guarded(&location, async {
            let mut reader = footer_first(&self.store, &meta);
            let footer = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await;
            footer.map_err(|e| unreadable(e, &location))
        });
        let footer = footer.await?;
        let about = footer.metadata().file_metadata();
        let notes = about.key_value_metadata().into_iter().flatten();
        let full_at = notes.filter(|note| note.key == FULL_AT).find_map(|note| note.value.as_ref()?.parse().ok());
        Ok(File {
            rows: about.num_rows(),
            full_at: full_at.unwrap_or_default(),
            sorted_by: sorted_by(&footer),
            problem: problem(&footer),
            schema: Arc::clone(footer.schema()),
            meta,
            location,
        })
    }

    async fn compact(&self, folder: Folder<ObjectMeta>) -> Result<Option<Staged>> {
        let Some(folder) = self.survey(folder).await? else { return Ok(None) };
        let write = Arc::new(self.write(&folder)?);
        // A sort needs its memory however few rows there are.
        let kib = if write.sort_by.is_empty() { (folder.bytes() >> 10).clamp(1, LARGE_KIB) } else { LARGE_KIB };
        let _room = self.room.acquire_many(kib as u32).await.map_err(given_up)?;
        let rows: i64 = folder.files.iter().map(|file| file.rows).sum();
        self.read.expect_bytes(folder.bytes());
        let metas = folder.files.iter().map(|file| file.meta.clone());
        self.superseded.lock().unwrap_or_else(PoisonError::into_inner).extend(metas);
        let delete = |file: &File| PublishAction::Delete { location: file.location.clone() };
        let superseded: Vec<_> = folder.files.iter().map(delete).collect();
        let path = folder.path.clone();
        let mut staged = staged(execute(self.plan(folder, &write)?, &write).await?);
        if i64::try_from(staged.report.rows) != Ok(rows) {
            let message = format!("{} rows were read, but the footers declare {rows}", staged.report.rows);
            return Err(Error::unexpected(message).with("folder", self.dataset.location.join(path)));
        }
        staged.publish.extend(superseded);
        Ok(Some(staged))
    }

    /// The write of one folder's files.
    fn write(&self, folder: &Folder<File>) -> Result<Write> {
        let schema = columns(&folder.files)?;
        let mut dataset = self.dataset.clone().partition_by::<String>([]);
        dataset.name.clone_from(&self.name);
        let layout = &mut dataset.layout;
        self.note_columns(folder, &schema);
        layout.sorted_by.retain(|by| schema.index_of(by.name()).is_ok());
        for columns in [&mut layout.bloom_filters, &mut layout.without_dictionary] {
            columns.retain(|name| schema.index_of(name).is_ok());
        }
        if layout.sorted_by.is_empty() {
            layout.sorted_by = folder.sorted_by();
        }
        let write = dataset.write(&self.ctx, schema, dataset.below(&folder.path))?;
        let (encoders, uploads) = (Arc::clone(&self.encoders), Arc::clone(&self.uploads));
        let spec = WriteSpec { prefix: "compacted".to_owned(), ..write.spec };
        Ok(Write { spec, encoders, uploads, ..write })
    }

    /// Records which columns exist. Partition columns need not be in files.
    fn note_columns(&self, folder: &Folder<File>, schema: &SchemaRef) {
        let of_folder = |part: &str| part.split_once('=').map(|(name, _)| name.to_owned());
        let of_folders: Vec<_> = folder.path.split('/').filter_map(of_folder).collect();
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.retain(|name| schema.index_of(name).is_err() && !of_folders.contains(name));
    }

    /// The plan that reads the files one after the other, sorts if requested, and writes.
    fn plan(&self, folder: Folder<File>, write: &Arc<Write>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&write.schema);
        let reader = Reader {
            store: self.store.clone(),
            read: Arc::clone(&self.read),
            schema: Arc::clone(&schema),
            batch_rows: self.ctx.session().state().config().batch_size(),
        };
        let rows = FileRows { reader: Arc::new(reader), files: folder.files.into() };
        let rows = StreamingTableExec::try_new(Arc::clone(&schema), vec![Arc::new(rows)], None, [], false, None)?;
        let mut plan: Arc<dyn ExecutionPlan> = Arc::new(rows);
        if let Some(order) = required(&schema, &[], &write.sort_by).map(LexOrdering::from) {
            plan = Arc::new(SortExec::new(order, plan));
        }
        Ok(Arc::new(ParquetWriteExec::new(self.ctx.observe(plan), Arc::clone(write))))
    }

    /// If another run has replaced or deleted files, ours would bring their rows back.
    async fn check_unchanged(&self, failure: Option<&Error>) -> Result<()> {
        let superseded = std::mem::take(&mut *self.superseded.lock().unwrap_or_else(PoisonError::into_inner));
        if superseded.is_empty() {
            return Ok(());
        }
        let now = self.dataset.files(&self.ctx).await?.1;
        let now: HashMap<_, _> = now.into_iter().map(|(_, meta)| (meta.location.clone(), meta)).collect();
        let Some(gone) = superseded.iter().find(|meta| now.get(&meta.location) != Some(meta)) else { return Ok(()) };
        let error = Error::conflict("a file was replaced or deleted while it was compacted; nothing was published")
            .with("file", Location::of(&self.store.url, &gone.location))
            .hint("compact when nothing else replaces files there, or use the same job and scope");
        Err(match failure {
            Some(failure) => error.because(failure.chain()),
            None => error,
        })
    }

    /// A column that no file has is probably misspelt.
    fn check_options(&self, staged: &Staged) -> Result<()> {
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        match unknown.first() {
            Some(column) if !staged.publish.is_empty() => Err(Error::usage(format!(
                "no file that is to be compacted has the column `{column}`, which the dataset's options name"
            ))
            .with("location", &self.dataset.location)),
            _ => Ok(()),
        }
    }
}

/// The columns by which the whole file is sorted.
fn sorted_by(footer: &ArrowReaderMetadata) -> Vec<SortColumn> {
    let columns = footer.parquet_schema().columns();
    let mut orders = footer.metadata().row_groups().iter().map(|group| {
        let sorting = group.sorting_columns()?.iter();
        let column = |by: &parquet::file::metadata::SortingColumn| {
            let [name] = columns.get(usize::try_from(by.column_idx).ok()?)?.path().parts() else { return None };
            let column = if by.descending { SortColumn::desc(name) } else { SortColumn::asc(name) };
            Some(if by.nulls_first { column.nulls_first() } else { column.nulls_last() })
        };
        sorting.map(column).collect::<Option<Vec<_>>>()
    });
    match orders.next().flatten() {
        Some(order) if orders.all(|other| other.as_ref() == Some(&order)) => order,
        _ => Vec::new(),
    }
}

/// The column that would not survive rewriting, if any.
fn problem(footer: &ArrowReaderMetadata) -> Option<(String, &'static str)> {
    let leaves = footer.parquet_schema().columns();
    if let Some(leaf) = leaves.iter().find(|leaf| leaf.physical_type() == Type::INT96) {
        // Arrow's timestamps in nanoseconds end in 2262.
        return Some((leaf.path().string(), "is a timestamp of the deprecated type INT96"));
    }
    let fields = footer.schema().fields();
    let twice = fields.iter().enumerate().find(|(i, f)| fields[..*i].iter().any(|g| g.name() == f.name()));
    twice.map(|(_, field)| (field.name().clone(), "occurs twice"))
}

/// The columns of all files, in order of first appearance.
fn columns(files: &[File]) -> Result<SchemaRef> {
    for file in files {
        if let Some((column, what)) = &file.problem {
            let message = format!("`{column}` {what}, so it cannot be compacted; rewrite the dataset with a job");
            return Err(Error::refused(message).with("file", &file.location).with("column", column));
        }
    }
    let mut columns = Union::new(Policy::Rewrite, "rewrite one of them with a job");
    for file in files {
        columns.add(&file.schema, &file.location)?;
    }
    Ok(Arc::new(columns.schema()))
}

/// The columns by name and type; missing ones are null.
fn with_columns(batch: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch> {
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => convert_array(Policy::Read, column, field),
    };
    let arrays = columns.fields().iter().map(column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(columns), arrays, &options)?)
}

fn unreadable(error: ParquetError, location: &Location) -> Error {
    Error::from(DataFusionError::from(error)).with("file", location)
}

fn footer_first(store: &Store, meta: &ObjectMeta) -> ParquetObjectReader {
    ParquetObjectReader::new(Arc::clone(&store.objects), meta.location.clone())
        .with_file_size(meta.size)
        .with_footer_size_hint(FOOTER_BYTES)
}

/// Reads the files of one folder.
struct Reader {
    store: Store,
    read: Arc<Meter>,
    schema: SchemaRef,
    batch_rows: usize,
}

impl Reader {
    /// The rows of a file, with the columns of its folder.
    async fn rows(self: Arc<Self>, meta: ObjectMeta) -> Result<impl Stream<Item = DFResult<RecordBatch>>> {
        let location = Location::of(&self.store.url, &meta.location);
        let failed = |e| unreadable(e, &location);
        let reader: Box<dyn AsyncFileReader> = if meta.size <= WHOLE_BYTES {
            let whole = async { self.store.objects.get(&meta.location).await?.bytes().await };
            Box::new(Cursor::new(whole.await.map_err(|e| Error::from(e).with("file", &location))?))
        } else {
            Box::new(footer_first(&self.store, &meta))
        };
        // The footer is read again, because the footers of all files of a folder may not fit into memory.
        let opened = guarded(&location, async {
            let rows = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
            rows.with_batch_size(self.batch_rows).build().map_err(failed)
        });
        let rows = opened.await?;
        self.read.add_files(1);
        self.read.add_bytes(meta.size);
        let file = location.clone();
        let rows = rows.map(move |batch| {
            let batch = batch.map_err(|e| unreadable(e, &location))?;
            self.read.add_rows(batch.num_rows() as u64);
            with_columns(&batch, &self.schema).map_err(|e| e.with("file", &location))
        });
        Ok(guarded_stream(file, rows).map_err(DataFusionError::from))
    }
}

/// The rows of files, one after the other.
struct FileRows {
    reader: Arc<Reader>,
    files: Arc<[File]>,
}

impl fmt::Debug for FileRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.iter().map(|file| file.location.as_str())).finish()
    }
}

impl PartitionStream for FileRows {
    fn schema(&self) -> &SchemaRef {
        &self.reader.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (reader, files) = (Arc::clone(&self.reader), Arc::clone(&self.files));
        let rows = stream::iter(0..files.len())
            .map(move |i| {
                let rows = Arc::clone(&reader).rows(files[i].meta.clone());
                let fetched = SpawnedTask::spawn(rows).join_unwind();
                async { fetched.await.map_err(given_up)?.map_err(DataFusionError::from) }
            })
            .buffered(PREFETCH)
            .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.reader.schema), rows))
    }
}
