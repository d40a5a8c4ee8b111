//! The table that a plan scans: a list of files with their partition values.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Result as DFResult, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use hardtack_core::progress::Part;
use url::Url;

/// A fixed list of files. Filters on partition columns skip files.
pub(crate) struct FilesTable {
    schema: SchemaRef,
    /// The position of each column of `schema` in the table schema of `source`, which has partition columns last.
    places: Vec<usize>,
    table: TableSchema,
    files: Vec<PartitionedFile>,
    store: Url,
    source: Arc<dyn FileSource>,
    adapter: Option<Arc<dyn PhysicalExprAdapterFactory>>,
}

impl fmt::Debug for FilesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesTable").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl FilesTable {
    pub(crate) fn new(
        schema: SchemaRef,
        table: TableSchema,
        files: Vec<PartitionedFile>,
        store: Url,
        source: Arc<dyn FileSource>,
    ) -> Self {
        let all = table.table_schema();
        let places = schema.fields().iter().filter_map(|f| all.index_of(f.name()).ok()).collect();
        Self { schema, places, table, files, store, source, adapter: None }
    }

    /// Sets the adapter from stored columns to those of the schema.
    pub(crate) fn with_adapter(self, adapter: Option<Arc<dyn PhysicalExprAdapterFactory>>) -> Self {
        Self { adapter, ..self }
    }

    /// The files that satisfy the filters, which are all on partition columns.
    fn prune(&self, filters: &[Expr], session: &dyn Session) -> DFResult<Vec<PartitionedFile>> {
        let values: Vec<&[ScalarValue]> = self.files.iter().map(|f| f.partition_values.as_slice()).collect();
        let keep = select(self.table.table_partition_cols(), &values, filters, session)?;
        select_parts(&self.files, &keep);
        Ok(self.files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone()).collect())
    }
}

/// Says which files a scan reads, and that it needs no others.
pub(crate) fn select_parts<'a>(files: impl IntoIterator<Item = &'a PartitionedFile>, keep: &[bool]) {
    let parts = files.into_iter().zip(keep).filter_map(|(file, keep)| Some((Part::of(file)?, *keep)));
    let (read, needless): (Vec<_>, Vec<_>) = parts.partition(|(_, keep)| *keep);
    let parts = |of: Vec<(&'a Part, bool)>| of.into_iter().map(|(part, _)| part);
    Part::select(parts(read), parts(needless));
}

/// Whether a filter refers to partition columns only, and is deterministic.
pub(crate) fn is_about(partitions: &[FieldRef], filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty()
        && !filter.is_volatile()
        && columns.iter().all(|c| partitions.iter().any(|p| p.name() == c.name()))
}

/// Evaluates all filters on these values of the partition columns. They refer to no other columns.
pub(crate) fn select(
    partitions: &[FieldRef],
    values: &[&[ScalarValue]],
    filters: &[Expr],
    session: &dyn Session,
) -> DFResult<Vec<bool>> {
    let Some(filter) = conjunction(filters.to_vec()).filter(|_| !values.is_empty()) else {
        return Ok(vec![true; values.len()]);
    };
    let schema = Arc::new(Schema::new(partitions.to_vec()));
    let column = |i: usize| ScalarValue::iter_to_array(values.iter().map(|v| v[i].clone()));
    let columns: Vec<ArrayRef> = (0..partitions.len()).map(column).collect::<DFResult<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
    let values = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
    let filter = session.create_physical_expr(unnormalize_col(filter), &DFSchema::try_from(schema)?)?;
    let keep = filter.evaluate(&values)?.into_array(values.num_rows())?;
    Ok(keep.as_boolean().iter().map(|keep| keep == Some(true)).collect())
}

/// Files of one store and one reader, with their partition values.
pub(crate) struct FileSet {
    pub(crate) store: ObjectStoreUrl,
    pub(crate) files: Vec<PartitionedFile>,
    pub(crate) source: Arc<dyn FileSource>,
    /// The adapter from stored columns to those of the schema.
    pub(crate) adapter: Option<Arc<dyn PhysicalExprAdapterFactory>>,
}

impl FileSet {
    /// The plan that reads these columns of the table schema.
    pub(crate) fn plan(
        self,
        columns: Vec<usize>,
        limit: Option<usize>,
        session: &dyn Session,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let table = self.source.table_schema().table_schema();
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(table.project(&columns)?))));
        }
        let bytes = self.files.iter().map(|f| f.object_meta.size as usize).sum();
        let mut statistics = Statistics::new_unknown(table);
        statistics.total_byte_size = Precision::Inexact(bytes);
        let groups = spread(self.files, session.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.store, self.source)
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_limit(limit)
            .with_expr_adapter(self.adapter)
            .with_projection_indices(Some(columns))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Splits files into at most `parts` groups of about as many bytes, in order.
fn spread(files: Vec<PartitionedFile>, parts: usize) -> Vec<FileGroup> {
    // An empty file costs something, too.
    let weight = |file: &PartitionedFile| u128::from(file.object_meta.size) + 4096;
    let total: u128 = files.iter().map(weight).sum();
    let mut groups: Vec<Vec<PartitionedFile>> = Vec::new();
    groups.resize_with(parts.max(1), Vec::new);
    let mut before = 0;
    for file in files {
        // A file belongs to the group that contains its middle.
        let weight = weight(&file);
        let group = (before + weight / 2) * groups.len() as u128 / total.max(1);
        before += weight;
        groups[group as usize].push(file);
    }
    groups.into_iter().filter(|group| !group.is_empty()).map(FileGroup::new).collect()
}

#[async_trait]
impl TableProvider for FilesTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match is_about(self.table.table_partition_cols(), filter) {
            true => TableProviderFilterPushDown::Exact,
            // Parquet gets its filters from the physical plan, where they are pushed down as well.
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let places = match projection {
            Some(columns) => columns.iter().map(|i| self.places[*i]).collect(),
            None => self.places.clone(),
        };
        let files = FileSet {
            store: ObjectStoreUrl::parse(&self.store)?,
            files: self.prune(filters, session)?,
            source: Arc::clone(&self.source),
            adapter: self.adapter.clone(),
        };
        files.plan(places, limit, session)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::config::TableParquetOptions;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::scan::Origin;

    /// A file is in the group that contains its middle.
    #[rstest]
    #[case(&[10], 2, &[1])]
    #[case(&[0, 1_000_000], 2, &[1, 1])]
    #[case(&[1_000_000, 0], 2, &[1, 1])]
    #[case(&[10, 10, 10], 2, &[1, 2])]
    #[case(&[10, 10, 10, 10], 2, &[2, 2])]
    #[case(&[0, 0, 0], 8, &[1, 1, 1])]
    fn files_are_spread(#[case] sizes: &[u64], #[case] parts: usize, #[case] expected: &[usize]) {
        let files = sizes.iter().map(|size| PartitionedFile::new("a", *size)).collect();
        assert_eq!(spread(files, parts).iter().map(FileGroup::len).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_table_says_how_many_files_it_has() {
        let schema: SchemaRef = Arc::new(Schema::empty());
        let (table, store) = (TableSchema::from_file_schema(Arc::clone(&schema)), Url::parse("memory:/").unwrap());
        let origin = Origin { store: store.clone(), meter: Arc::default(), target_partitions: 1 };
        let source = crate::parquet::read(table.clone(), origin, TableParquetOptions::default());
        let table = FilesTable::new(schema, table, vec![PartitionedFile::new("a", 1)], store, source);
        assert_eq!(format!("{table:?}"), "FilesTable { files: 1, .. }");
    }

    proptest! {
        #[test]
        fn files_are_spread_in_order_and_evenly(
            sizes in prop::collection::vec(0_u64..1_000_000, 0..50),
            parts in 1_usize..9,
        ) {
            let files: Vec<_> =
                sizes.iter().enumerate().map(|(i, s)| PartitionedFile::new(format!("{i}"), *s)).collect();
            let groups = spread(files.clone(), parts);
            prop_assert!(groups.len() <= parts);
            let back: Vec<_> = groups.iter().flat_map(FileGroup::iter).map(|f| f.object_meta.location.clone()).collect();
            prop_assert_eq!(back, files.iter().map(|f| f.object_meta.location.clone()).collect::<Vec<_>>());
            let weight = |g: &FileGroup| g.iter().map(|f| f.object_meta.size + 4096).sum::<u64>();
            let fair = sizes.iter().map(|s| s + 4096).sum::<u64>() / parts as u64;
            prop_assert!(groups.iter().all(|g| weight(g) <= fair + 1_004_097));
        }
    }
}
