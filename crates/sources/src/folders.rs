//! Folders of files whose columns are given: by the catalog.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{Result as DFResult, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::{Error, LoadContext, Location, Meter, Result};
use object_store::ObjectMeta;
use url::Url;

use crate::avro::AvroRows;
use crate::bookmark::{Bookmark, without_local_e_tag};
use crate::csv::{self, Dialect, Places};
use crate::globs::FileFilter;
use crate::json::{self, JsonObjects};
use crate::listing::folder_files;
use crate::parquet;
use crate::scan::{Origin, ReadRows, RowSource};
use crate::spelling::Caseless;
use crate::table::{FileSet, is_about, select, select_parts};

/// The dialect of CSV files whose columns are read by position. Bytes are ASCII.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderCsv {
    /// Separates two fields.
    pub delimiter: u8,
    /// Encloses fields that contain a delimiter or a line end; none if nothing is quoted.
    pub quote: Option<u8>,
    /// Precedes a literal character.
    pub escape: Option<u8>,
    /// The text for null. If set, an empty field of a text column is an empty text; otherwise it is null.
    pub null_text: Option<String>,
    /// Begins a comment line.
    pub comment: Option<u8>,
    /// The number of lines at the start of each file that are not rows, including the header.
    pub header_lines: u32,
    /// The number of those lines that precede the header.
    pub skip_lines: u32,
}

impl FolderCsv {
    pub(crate) fn dialect(&self) -> Dialect {
        // A single line may be the header; among several it is unknown which, unless it is stated.
        let header = self.header_lines == self.skip_lines.saturating_add(1);
        let skipped = if header { self.skip_lines } else { self.header_lines };
        let Self { delimiter, quote, escape, null_text, comment, .. } = self.clone();
        Dialect { delimiter, quote, escape, null_text, comment, skipped, header }
    }
}

/// The format of a folder's files.
#[derive(Debug, Clone, PartialEq)]
pub enum FileFormat {
    /// Parquet files.
    Parquet,
    /// JSON objects.
    Json,
    /// Delimited text.
    Csv(FolderCsv),
    /// Avro object container files.
    Avro,
}

/// A folder of files, whatever their names, with the partition values of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Folder {
    /// Where it is. Files and folders below it whose names start with `.` or `_` are hidden. It need not exist.
    pub location: Location,
    /// The format of its files.
    pub format: FileFormat,
    /// The values of the partition columns.
    pub values: Vec<ScalarValue>,
    /// Which of its files to read, if not all.
    pub wanted: FileFilter,
}

/// A file in a [`Folder`].
#[derive(Debug, Clone, PartialEq)]
pub struct FolderFile {
    /// Where it is.
    pub location: Location,
    /// Its size.
    pub bytes: u64,
    /// The values of the partition columns.
    pub values: Vec<ScalarValue>,
}

/// Reads folders whose columns are known: the building block of tables. It lists the given folders when a plan is made,
/// and nothing else.
#[derive(Debug, Clone)]
pub struct FolderScan {
    table: TableSchema,
    meter: Arc<Meter>,
    truncates: bool,
    json_texts: Arc<[String]>,
}

/// How many folders of an object store are listed concurrently: each waits for an answer.
const LISTING_CONCURRENCY: usize = 32;

/// How many local folders are listed concurrently. Each takes a thread, and a thread takes megabytes; one at a time would be
/// slow where the file system is on a network.
const LOCAL_LISTING_CONCURRENCY: usize = 8;

impl FolderScan {
    /// A scan with this schema, whose last `partition_columns` columns are not in the files. `meter` counts what is
    /// read.
    pub fn new(schema: &Schema, partition_columns: usize, meter: Arc<Meter>) -> Self {
        let (files, partitions) = schema.fields().split_at(schema.fields().len().saturating_sub(partition_columns));
        let file_schema = Schema::new_with_metadata(Fields::from(files.to_vec()), schema.metadata().clone());
        let table = TableSchema::new(Arc::new(file_schema), partitions.to_vec());
        Self { table, meter, truncates: false, json_texts: Arc::new([]) }
    }

    /// Rounds timestamps that files store in nanoseconds down to the microseconds of tables. Otherwise finer values are
    /// refused.
    #[must_use]
    pub fn with_truncated_timestamps(self, truncates: bool) -> Self {
        Self { truncates, ..self }
    }

    /// Reads lists and objects in these columns of JSON files as texts: their JSON, verbatim. Otherwise they are
    /// refused in a text column.
    #[must_use]
    pub fn with_json_text(self, columns: &[String]) -> Self {
        Self { json_texts: columns.into(), ..self }
    }

    /// The columns of the files, then the partition columns.
    pub fn schema(&self) -> &SchemaRef {
        self.table.table_schema()
    }

    /// The partition columns.
    pub fn partition_columns(&self) -> &[FieldRef] {
        self.table.table_partition_cols()
    }

    /// Whether a filter refers to partition columns only, so that [`FolderScan::select`] can evaluate it.
    pub fn is_about_partitions(&self, filter: &Expr) -> bool {
        is_about(self.partition_columns(), filter)
    }

    /// Evaluates all filters on these values of the partition columns.
    ///
    /// # Errors
    /// If a filter refers to other columns, or fails.
    pub fn select(&self, values: &[&[ScalarValue]], filters: &[Expr], session: &dyn Session) -> DFResult<Vec<bool>> {
        select(self.partition_columns(), values, filters, session)
    }

    /// Lists the folders and plans to read these columns of their files, or all.
    ///
    /// # Errors
    /// The stores' errors; during execution [`Refused`](hardtack_core::ErrorKind::Refused) for files that do not fit.
    pub async fn plan(
        &self,
        folders: Vec<Folder>,
        columns: Option<&Vec<usize>>,
        limit: Option<usize>,
        session: &dyn Session,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let sets = self.list(folders, session.runtime_env()).await?;
        self.count(&sets);
        self.plan_sets(sets, columns, limit, session)
    }

    /// Lists the files of folders.
    ///
    /// # Errors
    /// The stores' errors.
    pub async fn files(&self, folders: Vec<Folder>, session: &dyn Session) -> Result<Vec<FolderFile>> {
        let sets = self.list(folders, session.runtime_env()).await?;
        let file = |store: &Url, file: PartitionedFile| FolderFile {
            location: Location::of(store, &file.object_meta.location),
            bytes: file.object_meta.size,
            values: file.partition_values,
        };
        Ok(sets.into_iter().flat_map(|set| set.files.into_iter().map(move |found| file(&set.store, found))).collect())
    }

    fn count(&self, sets: &[Listed]) {
        let files = || sets.iter().flat_map(|set| &set.files);
        self.meter.add_files(files().count() as u64);
        self.meter.expect_bytes(files().map(|file| file.object_meta.size).sum());
    }

    fn plan_sets(
        &self,
        sets: Vec<Listed>,
        columns: Option<&Vec<usize>>,
        limit: Option<usize>,
        session: &dyn Session,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let columns = columns.cloned().unwrap_or_else(|| (0..self.schema().fields().len()).collect());
        let mut plans = Vec::new();
        for set in sets {
            let wanted = columns.iter().filter_map(|i| self.table.file_schema().fields().get(*i).cloned());
            set.format.check(&Schema::new(wanted.collect::<Fields>()))?;
            plans.push(self.file_set(set, session)?.plan(columns.clone(), limit, session)?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(Arc::new(self.schema().project(&columns)?)))),
            _ => UnionExec::try_new(plans),
        }
    }

    /// The files of the folders, by store and format.
    async fn list(&self, folders: Vec<Folder>, stores: &RuntimeEnv) -> Result<Vec<Listed>> {
        let is_local = |folder: &Folder| folder.location.scheme().is_none_or(|scheme| scheme == "file");
        let concurrency = match folders.iter().all(is_local) {
            true => LOCAL_LISTING_CONCURRENCY,
            false => LISTING_CONCURRENCY,
        };
        let mut found = stream::iter(folders)
            .map(|folder| async move {
                let (store, files) = list(&folder, stores).await?;
                Ok::<_, Error>((folder, store, files))
            })
            .buffered(concurrency);
        let mut sets: Vec<Listed> = Vec::new();
        while let Some((folder, store, metas)) = found.try_next().await? {
            if metas.is_empty() {
                continue;
            }
            let files = metas.into_iter().map(|meta| {
                let mut file = PartitionedFile::from(meta);
                file.partition_values.clone_from(&folder.values);
                file
            });
            match sets.iter_mut().find(|set| set.store == store && set.format == folder.format) {
                Some(set) => set.files.extend(files),
                None => sets.push(Listed { files: files.collect(), store, format: folder.format }),
            }
        }
        Ok(sets)
    }

    fn file_set(&self, listed: Listed, session: &dyn Session) -> DFResult<FileSet> {
        let Listed { store, format, files } = listed;
        let origin = Origin {
            store: store.clone(),
            meter: Arc::clone(&self.meter),
            target_partitions: session.config().target_partitions(),
        };
        let parquet = session.table_options().parquet.clone();
        let (source, adapter) = self.reader(&format, origin, parquet);
        Ok(FileSet { store: ObjectStoreUrl::parse(&store)?, files, source, adapter })
    }
}

/// The files of folders that no run before this one has read; made by [`FolderScan::new_files`].
#[derive(Debug)]
pub struct NewFiles {
    scan: FolderScan,
    sets: Vec<Listed>,
}

impl FolderScan {
    /// Lists all folders of a source with a bookmark, which are at `location` or elsewhere, and keeps the files that are
    /// new. The bookmark moves if the run reads them.
    ///
    /// # Errors
    /// The stores' errors; [`Usage`](hardtack_core::ErrorKind::Usage) if the bookmark is of another location.
    pub async fn new_files(
        &self,
        folders: Vec<Folder>,
        bookmark: Bookmark,
        location: &Location,
        ctx: &LoadContext,
    ) -> Result<NewFiles> {
        let window = bookmark.window(location, ctx)?;
        let mut sets = self.list(folders, &ctx.session().runtime_env()).await?;
        let (mut listed, mut elsewhere) = (Vec::new(), None);
        for set in &mut sets {
            set.files.iter_mut().for_each(|file| without_local_e_tag(&set.store, &mut file.object_meta));
            set.files.retain(|file| {
                let at = Location::of(&set.store, &file.object_meta.location);
                let key = window.key(&at);
                if window.is_by_path() && key == at.as_str() {
                    elsewhere.get_or_insert(at);
                }
                let is_new = window.takes(&key, &file.object_meta);
                listed.push((key, file.object_meta.clone()));
                is_new
            });
        }
        if let Some(file) = elsewhere {
            let why =
                "a bookmark by path needs all files below the location of the table: others have no place in the order";
            return Err(Error::usage(why)
                .with("file", file)
                .with("location", location)
                .hint("read by modification time"));
        }
        let sizes = sets.iter().flat_map(|set| &set.files).map(|file| file.object_meta.size);
        let mut parts = window.follow(ctx, &listed, sizes)?.into_iter();
        for file in sets.iter_mut().flat_map(|set| &mut set.files) {
            let part = parts.next().ok_or_else(|| Error::unexpected("each file is a part"))?;
            *file = part.beside(file.clone());
        }
        sets.retain(|set| !set.files.is_empty());
        self.count(&sets);
        Ok(NewFiles { scan: self.clone(), sets })
    }
}

impl NewFiles {
    /// Plans to read these columns of the files, or all, where all filters hold. The filters refer to partition columns
    /// only.
    ///
    /// # Errors
    /// As for [`FolderScan::plan`].
    pub fn plan(
        &self,
        columns: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
        session: &dyn Session,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let files = || self.sets.iter().flat_map(|set| &set.files);
        let values: Vec<&[ScalarValue]> = files().map(|file| file.partition_values.as_slice()).collect();
        let keep = self.scan.select(&values, filters, session)?;
        select_parts(files(), &keep);
        let mut keep = keep.into_iter();
        let mut sets = self.sets.clone();
        for set in &mut sets {
            set.files.retain(|_| keep.next().unwrap_or_default());
        }
        sets.retain(|set| !set.files.is_empty());
        self.scan.plan_sets(sets, columns, limit, session)
    }
}

/// Files of one store and format.
#[derive(Debug, Clone)]
struct Listed {
    store: Url,
    format: FileFormat,
    files: Vec<PartitionedFile>,
}

async fn list(folder: &Folder, stores: &RuntimeEnv) -> Result<(Url, Vec<ObjectMeta>)> {
    let location = &folder.location;
    let resolved = location.resolve()?;
    let store = stores.object_store(ObjectStoreUrl::parse(&resolved.store)?);
    let store = store.map_err(|e| Error::from(e).with("location", location))?;
    let files = folder_files(&resolved.store, &store, &resolved.path, &folder.wanted).await?;
    Ok((resolved.store, files))
}

type Reader = (Arc<dyn FileSource>, Option<Arc<dyn PhysicalExprAdapterFactory>>);

impl FolderScan {
    /// The reader of files of this format, which matches names in any case.
    fn reader(&self, format: &FileFormat, origin: Origin, options: TableParquetOptions) -> Reader {
        let (table, truncates) = (self.table.clone(), self.truncates);
        let rows = |rows: Arc<dyn ReadRows>, table, origin| Arc::new(RowSource::new(rows, table, origin));
        match format {
            FileFormat::Parquet => (
                parquet::read(table, origin, parquet::with_int96_unit(options)),
                Some(Arc::new(Caseless { truncates })),
            ),
            FileFormat::Json => {
                let texts = Arc::clone(&self.json_texts);
                (rows(Arc::new(JsonObjects { caseless: true, texts, ..JsonObjects::default() }), table, origin), None)
            }
            FileFormat::Csv(csv) => (csv::read(csv.dialect(), Places::Ordered, table, origin), None),
            FileFormat::Avro => (rows(Arc::new(AvroRows { caseless: true, truncates }), table, origin), None),
        }
    }
}

impl FileFormat {
    /// Refuses columns that files of this format cannot have.
    fn check(&self, schema: &Schema) -> Result<()> {
        match self {
            Self::Parquet | Self::Avro => Ok(()),
            Self::Json => json::check(schema),
            Self::Csv(_) => csv::check(schema),
        }
    }
}
