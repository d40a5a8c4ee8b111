//! The physical scan: what DataFusion executes to read files.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::common::Result as DFResult;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{PhysicalExpr, conjunction_opt};
use datafusion::physical_expr_common::physical_expr::{is_dynamic_physical_expr, is_volatile};
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::projection::{ProjectionOpener, SplitProjection};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use hardtack_core::guard::{guarded, guarded_stream};
use hardtack_core::progress::Part;
use hardtack_core::{Error, ErrorKind, Location, Meter, Result};
use object_store::{ObjectMeta, ObjectStore};
use url::Url;

use crate::fault::{MISSING_VALUE, cut};
use crate::input::SourceFile;

/// The rows of one file.
pub(crate) type Batches = BoxStream<'static, Result<RecordBatch>>;

/// Reads files of one format, row by row from the start of the file to its end.
#[async_trait]
pub(crate) trait ReadRows: fmt::Debug + Send + Sync {
    /// The format's name in plans.
    fn kind(&self) -> &'static str;

    /// Whether it takes a filter: only if that saves something.
    fn can_filter(&self) -> bool {
        false
    }

    /// The rows of a file, in order.
    async fn read(&self, file: SourceFile, want: ReadRequest) -> Result<Batches>;
}

/// The requested part of a file's rows.
#[derive(Debug, Clone)]
pub(crate) struct ReadRequest {
    /// Only these columns.
    pub(crate) columns: SchemaRef,
    /// The maximum number of rows in a batch.
    pub(crate) batch_size: usize,
    /// The number of batches that may be decoded in parallel.
    pub(crate) parallelism: usize,
    /// Only these rows; none unless the format [can filter](ReadRows::can_filter).
    pub(crate) filter: Option<RowFilter>,
}

impl ReadRequest {
    /// One column.
    pub(crate) fn column(column: Field) -> Self {
        let columns = Arc::new(Schema::new(vec![column.with_nullable(true)]));
        Self { columns, batch_size: 8192, parallelism: 1, filter: None }
    }
}

/// Which rows of a file to return.
#[derive(Debug, Clone)]
pub(crate) struct RowFilter {
    /// The columns that it refers to, in the file's order.
    pub(crate) columns: SchemaRef,
    /// Over these columns.
    keep: Arc<dyn PhysicalExpr>,
    /// Counts the rows that are read, including dropped ones.
    meter: Arc<Meter>,
}

impl RowFilter {
    /// Which of these rows to return.
    pub(crate) fn apply(&self, rows: &RecordBatch) -> DFResult<BooleanArray> {
        let keep = self.keep.evaluate(rows)?.into_array(rows.num_rows())?;
        // Null counts as false.
        let keep = as_boolean_array(&keep)?;
        let keep = if keep.null_count() > 0 { prep_null_mask_filter(keep) } else { keep.clone() };
        self.meter.add_rows((keep.len() - keep.true_count()) as u64);
        Ok(keep)
    }
}

/// The source that a scan reads for: its meter, and the names of files in errors.
#[derive(Debug, Clone)]
pub struct Origin {
    pub(crate) store: Url,
    pub(crate) meter: Arc<Meter>,
    /// The parallelism of a plan.
    pub(crate) target_partitions: usize,
}

impl Origin {
    /// A file of the source, which counts what is read of it.
    pub(crate) fn file(&self, store: &Arc<dyn ObjectStore>, meta: ObjectMeta) -> SourceFile {
        let location = Location::of(&self.store, &meta.location);
        SourceFile { store: Arc::clone(store), location, meta, meter: Arc::clone(&self.meter) }
    }
}

// --- formats of our own --------------------------------------------------------------------------------------------

/// Adapts [`ReadRows`] to DataFusion: with partition columns, and only the columns that a plan needs.
#[derive(Clone)]
pub(crate) struct RowSource {
    rows: Arc<dyn ReadRows>,
    table: TableSchema,
    origin: Origin,
    projection: SplitProjection,
    /// Over the columns of the table.
    filter: Option<Arc<dyn PhysicalExpr>>,
    batch_size: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl RowSource {
    pub(crate) fn new(rows: Arc<dyn ReadRows>, table: TableSchema, origin: Origin) -> Self {
        let projection = SplitProjection::unprojected(&table);
        Self {
            rows,
            table,
            origin,
            projection,
            filter: None,
            batch_size: 8192,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl RowSource {
    /// Rewrites a filter on columns of the table to the file's columns that it refers to.
    fn row_filter(&self, filter: &Arc<dyn PhysicalExpr>) -> DFResult<RowFilter> {
        let used: BTreeSet<usize> = collect_columns(filter).iter().map(Column::index).collect();
        let columns = self.table.file_schema().project(&used.into_iter().collect::<Vec<_>>())?;
        let keep = reassign_expr_columns(Arc::clone(filter), &columns)?;
        Ok(RowFilter { columns: Arc::new(columns), keep, meter: Arc::clone(&self.origin.meter) })
    }

    /// Whether the reader of a file can evaluate a filter.
    fn can_filter(&self, filter: &Arc<dyn PhysicalExpr>) -> bool {
        let in_file = |column: &Column| column.index() < self.table.file_schema().fields().len();
        self.rows.can_filter()
            && !is_volatile(filter)
            && !is_dynamic_physical_expr(filter)
            && collect_columns(filter).iter().all(in_file)
    }
}

impl FileSource for RowSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        _partition: usize,
    ) -> DFResult<Arc<dyn FileOpener>> {
        let file_schema = self.table.file_schema();
        let want = ReadRequest {
            columns: Arc::new(file_schema.project(&self.projection.file_indices)?),
            batch_size: self.batch_size,
            // If there are fewer files than cores, files share the cores.
            parallelism: self.origin.target_partitions.div_ceil(config.file_groups.len().max(1)),
            filter: self.filter.as_ref().map(|filter| self.row_filter(filter)).transpose()?,
        };
        let opener = RowOpener { rows: Arc::clone(&self.rows), origin: self.origin.clone(), store, want };
        let opener = Arc::new(opener);
        let opener = ProjectionOpener::try_new(self.projection.clone(), opener, file_schema)?;
        Ok(Arc::new(CheckedOpener::new(opener, config, self.origin.clone())?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size, ..self.clone() })
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> DFResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = |filter: &_| if self.can_filter(filter) { PushedDown::Yes } else { PushedDown::No };
        let told: Vec<PushedDown> = filters.iter().map(pushed).collect();
        let mut result = FilterPushdownPropagation::with_parent_pushdown_result(told.clone());
        let taken = filters.into_iter().zip(told).filter(|(_, told)| matches!(told, PushedDown::Yes));
        if let Some(filter) = conjunction_opt(self.filter.iter().cloned().chain(taken.map(|(filter, _)| filter))) {
            result = result.with_updated_node(Arc::new(Self { filter: Some(filter), ..self.clone() }) as _);
        }
        Ok(result)
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.filter.clone()
    }

    fn fmt_extra(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.filter.as_ref().map_or(Ok(()), |filter| write!(f, ", predicate={filter}"))
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> DFResult<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        self.rows.kind()
    }

    /// A byte range of a text may start within a quoted line, so files are read whole.
    fn supports_repartitioning(&self) -> bool {
        false
    }
}

struct RowOpener {
    rows: Arc<dyn ReadRows>,
    origin: Origin,
    store: Arc<dyn ObjectStore>,
    want: ReadRequest,
}

impl FileOpener for RowOpener {
    fn open(&self, file: PartitionedFile) -> DFResult<FileOpenFuture> {
        let (rows, want) = (Arc::clone(&self.rows), self.want.clone());
        let file = self.origin.file(&self.store, file.object_meta);
        Ok(async move {
            let batches = rows.read(file, want).await?;
            Ok(batches.map(|batch| batch.map_err(DataFusionError::from)).boxed())
        }
        .boxed())
    }
}

// --- all formats ---------------------------------------------------------------------------------------------------

/// Counts the rows of files, checks them against the schema, and names the file in errors, including panics of a
/// decoder.
pub(crate) struct CheckedOpener {
    inner: Arc<dyn FileOpener>,
    /// Of the rows.
    schema: SchemaRef,
    /// Of the rows with all columns.
    declared: SchemaRef,
    origin: Origin,
}

impl CheckedOpener {
    /// Checks the rows that are read as `config` says. Values of sensitive columns are in no error.
    pub(crate) fn new(inner: Arc<dyn FileOpener>, config: &FileScanConfig, origin: Origin) -> DFResult<Self> {
        let declared = Arc::clone(config.file_source.table_schema().table_schema());
        Ok(Self { inner, schema: config.projected_schema()?, declared, origin })
    }
}

impl FileOpener for CheckedOpener {
    fn open(&self, file: PartitionedFile) -> DFResult<FileOpenFuture> {
        let location = Location::of(&self.origin.store, &file.object_meta.location);
        let (schema, declared) = (Arc::clone(&self.schema), Arc::clone(&self.declared));
        let (inner, meter) = (Arc::clone(&self.inner), Arc::clone(&self.origin.meter));
        let range = file.range.as_ref().map(|range| range.start as u64..range.end as u64);
        let part = Part::of(&file).cloned().map(|part| (part, range));
        Ok(async move {
            let named = move |e, file: &Location| Error::from(in_file(e, file)).redacted(declared.fields());
            let opening =
                async { inner.open(file).map_err(|e| named(e, &location))?.await.map_err(|e| named(e, &location)) };
            let batches = guarded(&location, opening).await?;
            let file = location.clone();
            let checked = batches.map(move |batch| {
                let batch = batch.map_err(|e| named(e, &location))?;
                meter.add_rows(batch.num_rows() as u64);
                // The values of partition columns are literals, which are not nullable; the declared schema counts.
                if let Some(column) = missing_value(&batch, &schema) {
                    return Err(refuse_null(column).with("file", &location));
                }
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options)
                    .map_err(|e| in_file(e.into(), &location).into())
            });
            let checked = guarded_stream(file, checked).map_err(DataFusionError::from).boxed();
            Ok(match part {
                Some((part, range)) => followed(checked, part, range),
                None => checked,
            })
        }
        .boxed())
    }
}

/// The same rows of a file, or of a range of it. Its part of a source is read once somebody has asked for more than the
/// last row; after an error it is not.
fn followed(
    rows: BoxStream<'static, DFResult<RecordBatch>>,
    part: Part,
    range: Option<Range<u64>>,
) -> BoxStream<'static, DFResult<RecordBatch>> {
    stream::try_unfold((rows, part, range), |(mut rows, part, range)| async move {
        let next = rows.try_next().await?;
        if next.is_none() {
            part.read(range.clone());
        }
        Ok(next.map(|batch| (batch, (rows, part, range))))
    })
    .boxed()
}

/// Names the file in an error of reading it. Content that cannot be decoded is refused data, not an error of the query.
pub(crate) fn in_file(error: DataFusionError, location: &Location) -> DataFusionError {
    let refused = match error.find_root() {
        DataFusionError::ParquetError(e) => Some(Error::refused(e.to_string())),
        DataFusionError::ArrowError(e, _) => match e.as_ref() {
            ArrowError::CastError(text) | ArrowError::ParseError(text) | ArrowError::ParquetError(text) => {
                Some(Error::refused(cut(text)))
            }
            ArrowError::InvalidArgumentError(text) => null_of_arrow(text).map(refuse_null),
            _ => None,
        },
        _ => None,
    };
    let error = match (Error::from(error), refused) {
        // Explanations for queries do not apply to the contents of files.
        (error, Some(refused)) if error.kind() == ErrorKind::Unexpected || error.get_sqlstate().is_some() => refused,
        (error, _) => error,
    };
    if error.get("file").is_some() { error.into() } else { error.with("file", location).into() }
}

/// A required column that contains a null.
fn missing_value<'a>(batch: &RecordBatch, schema: &'a Schema) -> Option<&'a str> {
    let mut columns = schema.fields().iter().zip(batch.columns());
    columns
        .find(|(field, values)| !field.is_nullable() && values.null_count() > 0)
        .map(|(field, _)| field.name().as_str())
}

fn refuse_null(column: &str) -> Error {
    Error::refused(MISSING_VALUE).with("column", column)
}

/// The required column that contains a null, if that is the meaning of Arrow's message. Third-party readers create
/// their batches themselves, and Arrow has no error variant for this: only this function parses its text.
fn null_of_arrow(text: &str) -> Option<&str> {
    Some(text.strip_prefix("Column '")?.split_once("' is declared as non-nullable")?.0)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array};
    use arrow::datatypes::DataType;
    use datafusion::parquet::errors::ParquetError;
    use rstest::rstest;

    use super::*;

    fn arrow(error: ArrowError) -> DataFusionError {
        DataFusionError::ArrowError(Box::new(error), None)
    }

    /// Detects an upgrade of Arrow that changes the text.
    #[test]
    fn arrow_says_which_column_has_a_null() {
        let schema = Arc::new(Schema::new(vec![Field::new("it's", DataType::Int32, false)]));
        let column: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(1)]));
        match RecordBatch::try_new(schema, vec![column]) {
            Err(ArrowError::InvalidArgumentError(text)) => assert_eq!(null_of_arrow(&text), Some("it's"), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    /// A store's error while a file is read.
    fn gone() -> DataFusionError {
        let source = std::io::Error::other("gone").into();
        ParquetError::External(Box::new(object_store::Error::NotFound { path: "a".into(), source })).into()
    }

    #[rstest]
    #[case(arrow(ArrowError::CastError("no".into())), "refused: no (file: memory:/a)")]
    #[case(arrow(ArrowError::ParseError("no".into())), "refused: no (file: memory:/a)")]
    #[case(arrow(ArrowError::ParquetError("no".into())), "refused: no (file: memory:/a)")]
    #[case(ParquetError::General("no".into()).into(), "refused: Parquet error: no (file: memory:/a)")]
    #[case(
        arrow(ArrowError::InvalidArgumentError(
            "Column 'x' is declared as non-nullable but contains null values".into()
        )),
        "refused: a value is missing where the schema requires one (column: x, file: memory:/a)"
    )]
    #[case::from_another_file(
        Error::refused("no").with("file", "memory:/b").into(),
        "refused: no (file: memory:/b)"
    )]
    #[case::of_a_kind_of_its_own(Error::usage("no").into(), "usage: no (file: memory:/a)")]
    #[case::of_the_store(gone(), "not found: reading or writing failed (file: memory:/a)")]
    fn what_is_wrong_with_a_file_is_refused_with_its_name(#[case] error: DataFusionError, #[case] expected: &str) {
        let error = Error::from(in_file(error, &"memory:/a".into()));
        assert_eq!(format!("{}: {error}", error.kind().name()), expected);
    }

    /// The file is not at fault.
    #[rstest]
    #[case(arrow(ArrowError::InvalidArgumentError("no".into())))]
    #[case(arrow(ArrowError::ComputeError("no".into())))]
    #[case(DataFusionError::Internal("no".into()))]
    fn what_is_wrong_with_us_is_not_refused(#[case] error: DataFusionError) {
        let error = Error::from(in_file(error, &"memory:/a".into()));
        assert_eq!((error.kind(), error.get("file")), (ErrorKind::Unexpected, Some("memory:/a")));
    }
}
