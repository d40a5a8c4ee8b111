//! File sources: the parts that all formats share.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::common::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::provider_as_source;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::TableReference;
use hardtack_core::progress::Part;
use hardtack_core::{Error, LoadContext, Location, Result, ShowFields, Source};
use hardtack_transforms::{Missing, coerce_to_schema_with};

use crate::bookmark::{Bookmark, Window, key_below, without_local_e_tag, without_schema};
use crate::fault::{MISSING_VALUE, a};
use crate::hidden::hidden;
use crate::input::SourceFile;
use crate::kind::Kind;
use crate::listing::{Found, Listing, Search};
use crate::scan::{Batches, Origin};
use crate::table::FilesTable;
use crate::text::parse;

/// Files of one format in one place, as a source: the common part of [`JsonFiles`](crate::JsonFiles),
/// [`CsvFiles`](crate::CsvFiles), [`ParquetFiles`](crate::ParquetFiles) and [`AvroFiles`](crate::AvroFiles).
///
/// It is a value: it says where and how to read, can be compared and printed, and touches nothing until it is loaded.
///
/// ```
/// use std::sync::Arc;
/// use arrow::datatypes::{DataType, Field, Schema};
/// use hardtack_sources::ParquetFiles;
///
/// let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
/// let customers = ParquetFiles::new("customers", "s3://lake/customers").with_schema(Arc::new(schema)).or_empty();
/// assert_eq!(
///     format!("{customers:?}"),
///     r#"ParquetFiles { name: "customers", location: "s3://lake/customers", schema: [id: Int64 not null, name: Utf8], or_empty: true }"#
/// );
/// ```
#[derive(Clone, PartialEq)]
pub struct Files<F> {
    name: String,
    location: Location,
    schema: Option<SchemaRef>,
    glob: Option<String>,
    file_or_folder: bool,
    recursive: bool,
    partitions: Partitions,
    origin: bool,
    or_empty: bool,
    bookmark: Option<Bookmark>,
    pub(crate) format: F,
}

/// The column with a row's file, added by [`Files::with_origin`].
pub const FILE_COLUMN: &str = "_file";

/// The column with the line on which a row starts, added by [`Files::with_origin`].
pub const LINE_COLUMN: &str = "_line";

/// Which columns come from folder names.
#[derive(Clone, PartialEq)]
enum Partitions {
    None,
    /// All that there are.
    Hive,
    Columns(Fields),
}

impl<F: Default> Files<F> {
    /// The file at `location`, or the files in and below the folder there. `name` is the source's identity within the
    /// job.
    pub fn new(name: impl Into<String>, location: impl Into<Location>) -> Self {
        Self {
            name: name.into(),
            location: location.into(),
            schema: None,
            glob: None,
            file_or_folder: false,
            recursive: true,
            partitions: Partitions::None,
            origin: false,
            or_empty: false,
            bookmark: None,
            format: F::default(),
        }
    }
}

impl<F> Files<F> {
    /// Declares the schema: the rows have exactly these columns in this order, and files that do not fit are refused.
    /// Without this, the schema is inferred from every file.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<SchemaRef>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Makes an empty or missing folder a source without rows instead of an error, and likewise a CSV file without even
    /// a header. Needs a declared schema.
    #[must_use]
    pub fn or_empty(mut self) -> Self {
        self.or_empty = true;
        self
    }

    /// Reads only the files that no earlier run of the job (and scope) has read, and remembers them once this run is
    /// published. A [`Bookmark`] says how to tell them. Needs a declared schema, for runs without new files.
    ///
    /// The position of the source is committed with the rows of the run or not at all, so each row arrives once, whatever
    /// crashes. It moves only if a plan has read all new files to their ends: not if the frame was never executed, or only
    /// as far as a limit. It belongs to the source's name and location: if the location changes, the run is refused.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use arrow::datatypes::Schema;
    /// use hardtack_sources::{Bookmark, JsonFiles};
    ///
    /// # let schema = Arc::new(Schema::empty());
    /// let clicks = JsonFiles::new("clicks", "s3://landing/clicks").with_schema(schema).bookmarked(Bookmark::by_path());
    /// assert!(format!("{clicks:?}").contains("bookmark: by path"));
    /// ```
    #[must_use]
    pub fn bookmarked(mut self, bookmark: impl Into<Bookmark>) -> Self {
        self.bookmark = Some(bookmark.into());
        self
    }

    /// Takes the files whose path below the location matches, for example `**/*.json.gz`, instead of those with the
    /// format's usual suffixes. `*` and `?` stay within a folder, `**` crosses folders.
    #[must_use]
    pub fn with_glob(mut self, glob: impl Into<String>) -> Self {
        self.glob = Some(glob.into());
        self
    }

    /// Lets the location, without a suffix, denote one file of that name or a folder: `lake/sales` is the file
    /// `lake/sales.csv` (or `.csv.gz`, or another of the format's usual suffixes) or the folder `lake/sales/`, however
    /// the data is delivered. Files in more than one of these places are an error, because it is ambiguous.
    ///
    /// ```
    /// use hardtack_sources::CsvFiles;
    ///
    /// let sales = CsvFiles::new("sales", "s3://lake/sales").file_or_folder();
    /// assert_ne!(sales, CsvFiles::new("sales", "s3://lake/sales"));
    /// ```
    #[must_use]
    pub fn file_or_folder(mut self) -> Self {
        self.file_or_folder = true;
        self
    }

    /// Appends the origin of each row: `_file`, the location of its file, and, for JSON files, `_line`, the number of
    /// the line on which it starts. Checks in the job can report them
    /// ([`refuse_rows`](hardtack_transforms::refuse_rows)), and saved refused rows can be traced. A filter on `_file`
    /// skips files. A table in the files' place has null there.
    ///
    /// ```
    /// use hardtack_sources::JsonFiles;
    ///
    /// let events = JsonFiles::new("events", "s3://lake/events").with_origin();
    /// assert_eq!(format!("{events:?}"), r#"JsonFiles { name: "events", location: "s3://lake/events", origin: true }"#);
    /// ```
    #[must_use]
    pub fn with_origin(mut self) -> Self {
        self.origin = true;
        self
    }

    /// Does not descend into folders below the location.
    #[must_use]
    pub fn non_recursive(mut self) -> Self {
        self.recursive = false;
        self
    }

    /// Takes columns from the folders `name=value` around files (below the location), as Hive and Spark write them. A
    /// declared schema determines which, and their types. Without one, all of them are appended to the columns of the
    /// files: as `Int64` if all values are integers (without leading zeros), `Date32` if all are dates, `Utf8`
    /// otherwise. If the files also have a column of that name, its values must agree, or it is refused; with a
    /// declared schema, the folder's value is used.
    #[must_use]
    pub fn with_hive_partitions(mut self) -> Self {
        self.partitions = Partitions::Hive;
        self
    }

    /// Takes these columns from the folders `name=value` around files. They follow the columns of the files, unless the
    /// declared schema places them. The schema is then known without a listing.
    #[must_use]
    pub fn with_partition_columns<N: Into<String>>(mut self, columns: impl IntoIterator<Item = (N, DataType)>) -> Self {
        let fields = columns.into_iter().map(|(name, of)| Field::new(name.into(), of, true));
        self.partitions = Partitions::Columns(fields.collect());
        self
    }
}

impl<F: Format> fmt::Debug for Files<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct(F::TYPE);
        f.field("name", &self.name).field("location", &self.location.as_str());
        if let Some(schema) = &self.schema {
            f.field("schema", &ShowFields(schema.fields()));
        }
        if let Some(glob) = &self.glob {
            f.field("glob", glob);
        }
        if self.file_or_folder {
            f.field("file_or_folder", &true);
        }
        if !self.recursive {
            f.field("recursive", &false);
        }
        match &self.partitions {
            Partitions::None => {}
            Partitions::Hive => _ = f.field("partitions", &"hive"),
            Partitions::Columns(fields) => _ = f.field("partitions", &ShowFields(fields)),
        }
        if self.origin {
            f.field("origin", &true);
        }
        if self.or_empty {
            f.field("or_empty", &true);
        }
        if let Some(bookmark) = &self.bookmark {
            f.field("bookmark", &format_args!("{bookmark}"));
        }
        self.format.show(&mut f);
        f.finish()
    }
}

/// A file format.
#[async_trait]
pub trait Format: fmt::Debug + Clone + PartialEq + Send + Sync + 'static {
    /// The name of the source type.
    const TYPE: &'static str;
    /// The suffixes of files in a folder, in lower case.
    const SUFFIXES: &'static [&'static str];
    /// Whether files may be compressed as a whole.
    const COMPRESSED: bool = false;
    /// Whether rows have line numbers.
    const LINES: bool = false;

    /// Shows options that differ from the defaults.
    fn show(&self, _: &mut fmt::DebugStruct<'_, '_>) {}

    /// The column that says what is wrong with a record that cannot be read, if there is one.
    #[doc(hidden)]
    fn corrupt_column(&self) -> Option<FieldRef> {
        None
    }

    /// Refuses a declared schema that files of this format cannot have.
    fn check(&self, _declared: &Schema) -> Result<()> {
        Ok(())
    }

    /// The united schema of all files.
    #[doc(hidden)]
    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<Inferred>;

    /// Reads one column of a file whose schema was inferred, in batches with just this column. A file that lacks it
    /// yields nulls, or no batch.
    #[doc(hidden)]
    async fn column(&self, file: SourceFile, column: &Field) -> Result<Batches>;

    /// The file source that reads files with this schema.
    #[doc(hidden)]
    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>>;

    /// The adapter from the stored columns to those of the schema, if the file source leaves that to DataFusion.
    #[doc(hidden)]
    fn adapter(&self) -> Option<Arc<dyn PhysicalExprAdapterFactory>> {
        None
    }
}

/// The common properties of a source's files.
pub struct Inferred {
    pub(crate) schema: SchemaRef,
    /// Whether they spell column names differently.
    pub(crate) caseless: bool,
}

impl From<SchemaRef> for Inferred {
    fn from(schema: SchemaRef) -> Self {
        Self { schema, caseless: false }
    }
}

/// What a format may need to plan a scan.
pub struct Planned {
    /// Whether the schema was declared and not inferred.
    pub(crate) declared: bool,
    /// Whether the rows have [`LINE_COLUMN`].
    pub(crate) lines: bool,
    /// Whether files spell column names differently.
    pub(crate) caseless: bool,
    /// Whether a missing input has no rows.
    pub(crate) or_empty: bool,
    /// The columns that are declared `not null`.
    pub(crate) required: Vec<String>,
    pub(crate) parquet: TableParquetOptions,
}

/// The columns of a source, and where each comes from.
struct Columns {
    /// The columns of the rows.
    schema: SchemaRef,
    /// The columns read from files, and those from folders.
    table: TableSchema,
    /// Whether files spell their names differently.
    caseless: bool,
}

impl Columns {
    /// `schema` with the columns `partitions` from folders. Partition columns that it does not have are appended.
    fn new(schema: &Schema, partitions: &[FieldRef]) -> Self {
        let is_partition = |f: &&FieldRef| partitions.iter().any(|p| p.name() == f.name());
        let of_schema = |p: &FieldRef| schema.field_with_name(p.name()).map_or(Arc::clone(p), |f| Arc::new(f.clone()));
        let folders: Vec<FieldRef> = partitions.iter().map(of_schema).collect();
        let missing = folders.iter().filter(|p| schema.field_with_name(p.name()).is_err());
        let all: Fields = schema.fields().iter().chain(missing).cloned().collect();
        let files: Fields = schema.fields().iter().filter(|f| !is_partition(f)).cloned().collect();
        let file_schema = Arc::new(Schema::new_with_metadata(files, schema.metadata().clone()));
        let schema = Arc::new(Schema::new_with_metadata(all, schema.metadata().clone()));
        Self { schema, table: TableSchema::new(file_schema, folders), caseless: false }
    }
}

impl<F: Format> Files<F> {
    /// The declared schema, with the columns of a [row's origin](Files::with_origin) and of [records that cannot be
    /// read](Files::with_corrupt_records).
    pub fn declared_schema(&self) -> Option<SchemaRef> {
        let schema = self.schema.as_ref()?;
        let corrupt = self.format.corrupt_column();
        if !self.origin && corrupt.is_none() {
            return Some(Arc::clone(schema));
        }
        // A record that cannot be read is null in all columns but one.
        let nullable = |field: &FieldRef| match &corrupt {
            Some(_) => Arc::new(field.as_ref().clone().with_nullable(true)),
            None => Arc::clone(field),
        };
        let declared = schema.fields().iter().map(nullable);
        let all: Fields = declared.chain(corrupt.clone()).chain(self.origin_columns()).collect();
        Some(Arc::new(Schema::new_with_metadata(all, schema.metadata().clone())))
    }

    fn origin_columns(&self) -> impl Iterator<Item = FieldRef> + use<F> {
        let file = self.origin.then(|| Field::new(FILE_COLUMN, DataType::Utf8, true));
        let line = (self.origin && F::LINES).then(|| Field::new(LINE_COLUMN, DataType::Int64, true));
        file.into_iter().chain(line).map(Arc::new)
    }
}

impl<F> Files<F> {
    /// How the source tells what is new, if it does.
    pub fn bookmark(&self) -> Option<Bookmark> {
        self.bookmark
    }

    /// The columns that are declared `not null`.
    fn required(&self) -> Vec<String> {
        let fields = self.schema.iter().flat_map(|schema| schema.fields());
        fields.filter(|field| !field.is_nullable()).map(|field| field.name().clone()).collect()
    }

    /// Whether a missing input has no rows.
    pub fn is_or_empty(&self) -> bool {
        self.or_empty
    }
}

impl<F: Format> Files<F> {
    fn search(&self) -> Search<'_> {
        Search {
            location: &self.location,
            file_or_folder: self.file_or_folder,
            recursive: self.recursive,
            glob: self.glob.as_deref(),
            suffixes: F::SUFFIXES,
            compressed: F::COMPRESSED,
            after: "",
        }
    }

    /// All columns of the declared schema, without a listing.
    fn declared(&self) -> Result<Option<Columns>> {
        if self.or_empty && self.schema.is_none() {
            return Err(Error::usage(
                "`or_empty` needs the columns of a source without rows; declare them with `with_schema`",
            ));
        }
        let Some(schema) = self.declared_schema() else {
            return match self.format.corrupt_column() {
                Some(_) => Err(Error::usage(
                    "`with_corrupt_records` needs the columns that records must fit; declare them with `with_schema`",
                )),
                None => Ok(None),
            };
        };
        let folders = match &self.partitions {
            Partitions::Columns(fields) => fields.to_vec(),
            Partitions::None | Partitions::Hive => Vec::new(),
        };
        let columns = Columns::new(&schema, &self.not_in_files(folders));
        let names: BTreeSet<_> = schema.fields().iter().map(|f| f.name()).collect();
        if names.len() < schema.fields().len() {
            let error = Error::usage("the declared schema has two columns of one name");
            let error = match self.format.corrupt_column() {
                Some(corrupt) => error.with("added by `with_corrupt_records`", corrupt.name()),
                None => error,
            };
            return Err(if self.origin { error.with("added by `with_origin`", "_file, _line") } else { error });
        }
        self.format.check(columns.table.file_schema())?;
        Ok(Some(columns))
    }

    async fn columns(&self, listing: &Listing, files: &[SourceFile], session: &SessionContext) -> Result<Columns> {
        let declared = self.declared()?;
        let concurrency = session.state().config().target_partitions();
        let inferred = match declared {
            Some(columns) => Arc::clone(&columns.schema).into(),
            // Files that inference reads are read again by the plan; only the second read is counted.
            None => {
                let uncounted: Vec<_> =
                    files.iter().map(|f| SourceFile { meter: Arc::default(), ..f.clone() }).collect();
                let inferred = self.format.infer(&uncounted, concurrency).await?;
                if inferred.schema.fields().is_empty() {
                    let why = "the files have no columns; declare a schema if that is intended";
                    return Err(Error::refused(why).with("location", &self.location));
                }
                let Inferred { schema, caseless } = inferred;
                if let Some(column) = self.origin_columns().find(|c| schema.field_with_name(c.name()).is_ok()) {
                    let why = "the files have a column with the name of one that `with_origin` adds";
                    return Err(Error::refused(why).with("column", column.name()).with("location", &self.location));
                }
                let all: Fields = schema.fields().iter().cloned().chain(self.origin_columns()).collect();
                Inferred { schema: Arc::new(Schema::new_with_metadata(all, schema.metadata().clone())), caseless }
            }
        };
        let Inferred { schema, caseless } = inferred;
        let fields: Vec<FieldRef> = match &self.partitions {
            Partitions::None => Vec::new(),
            Partitions::Columns(fields) => fields.iter().cloned().collect(),
            Partitions::Hive => {
                let all = listing.files.first().into_iter().flat_map(|f| f.partitions.keys());
                let named = |name: &&String| name.as_str() != FILE_COLUMN && name.as_str() != LINE_COLUMN;
                let known = all.filter(|name| self.schema.is_none() || schema.field_with_name(name).is_ok());
                let known = known.filter(|name| !self.origin || named(name));
                let values =
                    |name| listing.files.iter().filter_map(move |f: &Found| f.partitions.get(name)?.as_deref());
                known.map(|name| Arc::new(Field::new(name, partition_type(values(name)), true))).collect()
            }
        };
        if self.schema.is_none() {
            self.check_hidden(listing, files, &schema, &fields, concurrency).await?;
        }
        Ok(Columns { caseless, ..Columns::new(&schema, &self.not_in_files(fields)) })
    }

    /// The columns that are not read from files: those of folders, and the name of the file.
    fn not_in_files(&self, folders: impl IntoIterator<Item = FieldRef>) -> Vec<FieldRef> {
        folders.into_iter().chain(self.origin_columns().filter(|c| c.name() == FILE_COLUMN)).collect()
    }

    /// Refuses files whose folders contradict a column. A column that agrees is dropped. A declared schema implies the
    /// folder's value.
    async fn check_hidden(
        &self,
        listing: &Listing,
        files: &[SourceFile],
        schema: &Schema,
        partitions: &[FieldRef],
        concurrency: usize,
    ) -> Result<()> {
        for column in partitions.iter().filter_map(|partition| schema.field_with_name(partition.name()).ok()) {
            let folder = |found: &Found| found.partitions.get(column.name()).cloned().flatten();
            let uncounted = |file: &SourceFile| SourceFile { meter: Arc::default(), ..file.clone() };
            let each = files.iter().zip(&listing.files).map(|(file, found)| (uncounted(file), folder(found)));
            if let Some(hidden) = hidden(&self.format, each.collect(), column, concurrency).await? {
                let hint = "leave out partition columns to have the value of the file, or declare a schema to have that of \
                               the folder";
                return Err(Error::refused(hidden.to_string())
                    .with("file", hidden.file)
                    .with("column", hidden.column)
                    .hint(hint));
            }
        }
        Ok(())
    }

    /// Keeps the files that no run before this one has read. Returns what tells of each that it was read.
    fn new_files(&self, listing: &mut Listing, window: &Window, ctx: &LoadContext) -> Result<Vec<Part>> {
        let (store, root) = ctx.stores().open(&self.location)?;
        listing.files.iter_mut().for_each(|found| without_local_e_tag(&store.url, &mut found.meta));
        let key = |found: &Found| key_below(&root, &found.meta.location);
        let all: Vec<_> = listing.files.iter().map(|found| (key(found), found.meta.clone())).collect();
        listing.files.retain(|found| window.takes(&key(found), &found.meta));
        tracing::debug!(source = self.name, listed = all.len(), new = listing.files.len(), "looked for new files");
        window.follow(ctx, &all, listing.files.iter().map(|found| found.meta.size))
    }

    fn nothing_found(&self, listing: &Listing) -> Error {
        let wanted = self.search().wanted();
        let error =
            Error::not_found(format!("no file to read: looked for {wanted}; use `or_empty` if that is acceptable"))
                .with("location", &self.location);
        if listing.passed_over.is_empty() { error } else { error.with("passed over", &listing.passed_over) }
    }
}

/// The type of these values of a partition column: `Int64` if all are integers, `Date32` if all are dates, `Utf8`
/// otherwise. Values in another notation than their type's, such as `01`, are texts.
///
/// ```
/// use arrow::datatypes::DataType;
/// use hardtack_sources::partition_type;
///
/// assert_eq!(partition_type(["2024", "2025"].into_iter()), DataType::Int64);
/// assert_eq!(partition_type(["1", "02"].into_iter()), DataType::Utf8);
/// ```
pub fn partition_type<'a>(values: impl Iterator<Item = &'a str>) -> DataType {
    match values.map(Kind::of_folder).fold(Kind::Null, Kind::widen) {
        kind @ (Kind::Int | Kind::Long | Kind::Date) => kind.data_type(),
        _ => DataType::Utf8,
    }
}

/// A file with the values of its partition columns.
fn partitioned(found: &Found, columns: &[FieldRef], location: &Location, origin: bool) -> Result<PartitionedFile> {
    let mut file = PartitionedFile::from(found.meta.clone());
    let value = |field: &FieldRef| {
        if origin && field.name() == FILE_COLUMN {
            return Ok(ScalarValue::from(location.as_str()));
        }
        let text = found.partitions.get(field.name()).ok_or_else(|| {
            let why = format!("the file is in no folder `{}=...`, as its partition column requires", field.name());
            Error::refused(why).with("file", location).with("column", field.name())
        })?;
        partition_value(field, text.as_deref()).map_err(|e| e.with("file", location))
    };
    file.partition_values = columns.iter().map(value).collect::<Result<_>>()?;
    Ok(file)
}

/// Parses the value of a partition column.
///
/// # Errors
/// [`Refused`](hardtack_core::ErrorKind::Refused) if the text is not a value of the column's type, or is missing in a
/// required column.
pub fn partition_value(column: &Field, text: Option<&str>) -> Result<ScalarValue> {
    let refuse = |message: String| Error::refused(message).with("column", column.name());
    if text.is_none() && !column.is_nullable() {
        return Err(refuse(MISSING_VALUE.to_owned()));
    }
    let array = parse([text.map(Into::into)].into_iter(), column.data_type()).map_err(|_| {
        let text = text.unwrap_or_default();
        refuse(format!("`{text}` is not {}", a(column.data_type()))).with("value", format!("{text:?}"))
    })?;
    Ok(ScalarValue::try_from_array(&array, 0)?)
}

#[async_trait]
impl<F: Format> Source for Files<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> Option<Location> {
        Some(self.location.clone())
    }

    fn has_files_beside(&self) -> bool {
        self.file_or_folder
    }

    fn is_bookmarked(&self) -> bool {
        self.bookmark.is_some()
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        let declared = self.declared()?.is_some();
        let window = self.bookmark.map(|bookmark| bookmark.window(&self.location, ctx)).transpose()?;
        let after = window.as_ref().map_or("", Window::offset);
        let mut listing = Search { after, ..self.search() }.list(ctx.stores()).await?;
        let has_begun = window.as_ref().is_some_and(Window::has_begun);
        if listing.files.is_empty() && !self.or_empty && !has_begun {
            return Err(self.nothing_found(&listing));
        }
        let parts = match window {
            Some(_) if !declared => return Err(without_schema()),
            Some(window) => self.new_files(&mut listing, &window, ctx)?,
            None => Vec::new(),
        };
        tracing::debug!(source = self.name, files = listing.files.len(), passed_over = %listing.passed_over, "listed");
        let meter = ctx.meter();
        meter.add_files(listing.files.len() as u64);
        meter.expect_bytes(listing.files.iter().map(|f| f.meta.size).sum());
        let files: Vec<SourceFile> = listing
            .files
            .iter()
            .map(|found| SourceFile {
                store: Arc::clone(&listing.store.objects),
                meta: found.meta.clone(),
                location: Location::of(&listing.store.url, &found.meta.location),
                meter: Arc::clone(&meter),
            })
            .collect();
        let columns = self.columns(&listing, &files, ctx.session()).await?;
        let folders = columns.table.table_partition_cols();
        let partitioned = listing
            .files
            .iter()
            .zip(&files)
            .map(|(found, file)| partitioned(found, folders, &file.location, self.origin));
        let mut partitioned = partitioned.collect::<Result<Vec<_>>>()?;
        if !parts.is_empty() {
            partitioned = partitioned.into_iter().zip(parts).map(|(file, part)| part.beside(file)).collect();
        }
        let target_partitions = ctx.session().state().config().target_partitions();
        let origin = Origin { store: listing.store.url.clone(), meter, target_partitions };
        let (lines, caseless) = (self.origin && F::LINES, columns.caseless);
        let planned = Planned {
            declared,
            caseless,
            lines,
            or_empty: self.or_empty,
            required: self.required(),
            parquet: ctx.session().copied_table_options().parquet,
        };
        let reader = self.format.plan(columns.table.clone(), origin, &planned)?;
        let table = FilesTable::new(columns.schema, columns.table, partitioned, listing.store.url, reader)
            .with_adapter(self.format.adapter());
        let source = provider_as_source(Arc::new(table));
        // Qualified by its own name, so that two sources with a column of the same name can be joined.
        let plan = LogicalPlanBuilder::scan(TableReference::bare(self.name.as_str()), source, None)?.build()?;
        Ok(DataFrame::new(ctx.session().state(), plan))
    }

    async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef> {
        match self.declared()? {
            Some(columns) => Ok(columns.schema),
            None => Ok(Arc::new(self.load(ctx).await?.schema().as_arrow().clone())),
        }
    }

    async fn conform(&self, _ctx: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        match self.declared()? {
            Some(columns) => coerce_to_schema_with(rows, &columns.schema, Missing::FillWithNull),
            None => Ok(rows),
        }
    }
}
