//! Reads Parquet files through DataFusion: as they were listed, and small ones at once.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::common::Result as DFResult;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use tokio::sync::oneshot::Receiver;

use super::metrics::{GroupedOpener, MAX_GROUP_FILES};
use super::small::{SMALL_FILE_BYTES, SmallFiles};
use crate::input::SourceFile;
use crate::scan::{CheckedOpener, Origin};

/// DataFusion's source, whose files are read as they were listed, counted, and named in errors. Optimiser rules see the
/// inner source.
#[derive(Clone)]
pub(crate) struct ParquetScan {
    inner: Arc<dyn FileSource>,
    origin: Origin,
    batch_size: Option<usize>,
    /// Whether a sort was pushed down, which a new source cannot be told.
    is_sorted: bool,
}

impl ParquetScan {
    pub(crate) fn new(inner: Arc<dyn FileSource>, origin: Origin) -> Self {
        Self { inner, origin, batch_size: None, is_sorted: false }
    }

    fn wrap(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, ..self.clone() })
    }

    /// The same source with metrics of its own; none if there cannot be one.
    fn with_own_metrics(&self, source: &ParquetSource) -> DFResult<Option<ParquetSource>> {
        let Some(batch_size) = self.batch_size.filter(|_| !self.is_sorted) else { return Ok(None) };
        let mut new = ParquetSource::new(source.table_schema().clone())
            .with_table_parquet_options(source.table_parquet_options().clone());
        if let Some(predicate) = source.filter() {
            new = new.with_predicate(predicate);
        }
        let mut new: Arc<dyn FileSource> = new.with_batch_size(batch_size);
        if let Some(projection) = source.projection() {
            let Some(projected) = new.try_pushdown_projection(projection)? else { return Ok(None) };
            new = projected;
        }
        Ok(new.as_any().downcast_ref::<ParquetSource>().cloned())
    }

    /// The opener of a partition's files.
    fn opener(
        &self,
        source: &ParquetSource,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
        readers: Arc<Readers>,
    ) -> DFResult<Arc<dyn FileOpener>> {
        let files = config.file_groups.get(partition).map_or(0, |group| group.len());
        let grouped = if files > MAX_GROUP_FILES { self.with_own_metrics(source)? } else { None };
        let Some(grouped) = grouped else {
            return source
                .clone()
                .with_parquet_file_reader_factory(readers)
                .create_file_opener(store, config, partition);
        };
        // Without the files: each partition would have those of all.
        let config = FileScanConfigBuilder::new(config.object_store_url.clone(), Arc::new(grouped))
            .with_limit(config.limit)
            .with_preserve_order(config.preserve_order)
            .with_expr_adapter(config.expr_adapter_factory.clone())
            .build();
        let (scan, metrics, source) = (self.clone(), source.metrics().clone(), source.clone());
        let make = move || {
            let Some(new) = scan.with_own_metrics(&source)? else {
                return Err(DataFusionError::Internal("a source of Parquet cannot be made anew".to_owned()));
            };
            let new = new.with_parquet_file_reader_factory(Arc::clone(&readers) as _);
            let opener = new.create_file_opener(Arc::clone(&store), &config, partition)?;
            Ok((opener, new.metrics().clone()))
        };
        Ok(Arc::new(GroupedOpener::new(Box::new(make), files, metrics, partition)))
    }
}

impl FileSource for ParquetScan {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DFResult<Arc<dyn FileOpener>> {
        let Some(source) = self.inner.as_any().downcast_ref::<ParquetSource>() else {
            return Err(DataFusionError::Internal("a source of Parquet has become one of another format".to_owned()));
        };
        let scanned = MetricBuilder::new(source.metrics()).counter("bytes_scanned", partition);
        let origin = self.origin.clone();
        let group = config.file_groups.get(partition).into_iter().flat_map(|group| group.iter());
        let small = SmallFiles::new(Arc::clone(&store), origin.clone(), group);
        let readers = Arc::new(Readers { store: Arc::clone(&store), origin, scanned, small: Mutex::new(small) });
        let opener = self.opener(source, store, config, partition, readers)?;
        Ok(Arc::new(CheckedOpener::new(opener, config, self.origin.clone())?))
    }

    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        let inner = self.inner.with_batch_size(batch_size);
        Arc::new(Self { inner, batch_size: Some(batch_size), ..self.clone() })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_extra(t, f)
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        min_size: usize,
        ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> DFResult<Option<FileScanConfig>> {
        // The returned config is a copy of `config`, which contains this wrapper.
        self.inner.repartitioned(target_partitions, min_size, ordering, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> DFResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        let updated_node = pushed.updated_node.map(|inner| self.wrap(inner));
        Ok(FilterPushdownPropagation { filters: pushed.filters, updated_node })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> DFResult<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        let sorted = |inner| Arc::new(Self { inner, is_sorted: true, ..self.clone() }) as Arc<dyn FileSource>;
        Ok(self.inner.try_pushdown_sort(order, properties)?.map(sorted))
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> DFResult<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.wrap(inner)))
    }
}

/// Makes the readers of a scan's files.
#[derive(Debug)]
struct Readers {
    store: Arc<dyn ObjectStore>,
    origin: Origin,
    /// The bytes that were read, of all files: a second set of metrics for each file would take more memory than its
    /// footer.
    scanned: Count,
    small: Mutex<SmallFiles>,
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        _: &ExecutionPlanMetricsSet,
    ) -> DFResult<Box<dyn AsyncFileReader + Send>> {
        let ahead = self.small.lock().unwrap_or_else(PoisonError::into_inner).take(&file.object_meta);
        let reader = ParquetReader::new(self.origin.file(&self.store, file.object_meta));
        let footer_bytes = footer_bytes.unwrap_or(reader.footer_bytes);
        Ok(Box::new(ParquetReader { footer_bytes, ahead, scanned: self.scanned.clone(), ..reader }))
    }
}

/// So many of a file's last bytes are read first. They hold the footer of most files.
const FOOTER_BYTES: usize = 64 << 10;

/// Reads one file.
#[derive(Debug)]
pub(crate) struct ParquetReader {
    file: SourceFile,
    footer_bytes: usize,
    /// All of a small file, if its read has begun already.
    ahead: Option<Receiver<hardtack_core::Result<Bytes>>>,
    /// All of a small file, once something of it was read.
    whole: Option<Bytes>,
    scanned: Count,
}

impl ParquetReader {
    pub(crate) fn new(file: SourceFile) -> Self {
        Self { file, footer_bytes: FOOTER_BYTES, ahead: None, whole: None, scanned: Count::new() }
    }

    async fn read(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let size = self.file.meta.size;
        if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > size) {
            let (from, to) = (range.start, range.end);
            return Err(ParquetError::EOF(format!("bytes {from} to {to} are not in a file of {size} bytes")));
        }
        if size > SMALL_FILE_BYTES {
            return self.fetch(ranges).await;
        }
        let whole = match &self.whole {
            Some(whole) => whole.clone(),
            None => self.fetch_whole().await?,
        };
        let parts = ranges.iter().map(|range| whole.slice(range.start as usize..range.end as usize)).collect();
        self.whole = Some(whole);
        Ok(parts)
    }

    async fn fetch_whole(&mut self) -> Result<Bytes> {
        let all = 0..self.file.meta.size;
        let ahead = match self.ahead.take() {
            Some(ahead) => ahead.await.ok(),
            None => None,
        };
        // The task that reads ahead may have panicked.
        let Some(whole) = ahead else { return Ok(self.fetch(slice::from_ref(&all)).await?.swap_remove(0)) };
        let whole = whole.map_err(|e| ParquetError::External(Box::new(e)))?;
        self.scanned.add(whole.len());
        Ok(whole)
    }

    async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let parts = self.file.ranges(ranges).await.map_err(|e| ParquetError::External(Box::new(e)))?;
        self.scanned.add(parts.iter().map(Bytes::len).sum());
        Ok(parts)
    }
}

impl AsyncFileReader for ParquetReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { Ok(self.read(&[range]).await?.swap_remove(0)) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let mut footer = ParquetMetaDataReader::new().with_prefetch_hint(Some(self.footer_bytes));
            if let Some(options) = options {
                footer = footer
                    .with_metadata_options(Some(options.metadata_options().clone()))
                    .with_column_index_policy(options.column_index_policy())
                    .with_offset_index_policy(options.offset_index_policy());
            }
            let size = self.file.meta.size;
            Ok(Arc::new(footer.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, path::Path};
    use rstest::rstest;

    use super::*;

    /// A damaged footer may refer to anything.
    #[rstest]
    #[case(10)]
    #[case(SMALL_FILE_BYTES + 10)]
    #[tokio::test]
    async fn bytes_beyond_the_end_of_a_file_are_refused(#[case] size: u64) {
        let (store, path) = (Arc::new(InMemory::new()), Path::from("a.parquet"));
        store.put(&path, vec![b'x'; size as usize].into()).await.unwrap();
        let meta = store.head(&path).await.unwrap();
        let file = SourceFile { store, meta, location: "memory:/a.parquet".into(), meter: Arc::default() };
        let mut reader = ParquetReader::new(file);
        assert_eq!(reader.get_bytes(size - 2..size).await.unwrap(), "xx");
        for (from, to) in [(size - 2, size + 1), (size - 1, size - 2)] {
            let error = reader.get_byte_ranges(vec![0..1, Range { start: from, end: to }]).await.unwrap_err();
            let expected = format!("EOF: bytes {from} to {to} are not in a file of {size} bytes");
            assert_eq!(error.to_string(), expected);
        }
    }
}
