//! Parquet: through DataFusion's reader.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::config::TableParquetOptions;
use datafusion::datasource::file_format::parquet::transform_schema_to_view;
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use hardtack_core::{Error, Result};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::ParquetObjectReader;

use crate::convert::Lossless;
use crate::files::{Files, Format, Planned};
use crate::infer::infer_each;
use crate::input::SourceFile;
use crate::scan::{Metered, Origin, in_file};
use crate::widen::Union;

/// The Parquet format: see [`ParquetFiles`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parquet;

/// Parquet files (`.parquet`). Plans read only the columns, row groups and pages that they need.
///
/// ```
/// use hardtack_sources::ParquetFiles;
///
/// let books = ParquetFiles::new("books", "s3://lake/books").with_hive_partitions();
/// ```
///
/// # With a declared schema
/// Columns are found by name; those that are not declared are not read. A column that a file lacks is null there, and
/// refused if it allows no null. A column that is stored with another type is converted; where that could lose something
/// (a fraction, a time of day) it is refused with file and column, and so is a value that does not fit (a number that is
/// too large, a timestamp that is finer than the column).
///
/// # Without
/// The footer of every file is read. Columns are united by name in the order in which they are first seen, and types are
/// widened: integers and floats to larger ones, timestamps to the finer unit, structs field by field, lists by element.
/// Types that have nothing in common (a number and a text) are refused with both files. Texts are string views.
pub type ParquetFiles = Files<Parquet>;

#[async_trait]
impl Format for Parquet {
    const TYPE: &'static str = "ParquetFiles";
    const SUFFIXES: &'static [&'static str] = &[".parquet"];

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<SchemaRef> {
        let mut union = Union::default();
        // Footers are waited for, not worked on.
        infer_each(files, concurrency.max(16), footer, |file, (schema, _)| union.add(&schema, &file.location)).await?;
        Ok(Arc::new(transform_schema_to_view(&union.schema())))
    }

    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>> {
        Ok(read(table, origin, planned.parquet.clone()))
    }

    fn adapter(&self) -> Option<Arc<dyn PhysicalExprAdapterFactory>> {
        Some(Arc::new(Lossless))
    }
}

/// What reads Parquet files.
pub(crate) fn read(table: TableSchema, origin: Origin, options: TableParquetOptions) -> Arc<dyn FileSource> {
    let source = ParquetSource::new(table).with_table_parquet_options(options);
    Arc::new(Metered::new(Arc::new(source), origin))
}

/// The columns of a file, and how many rows it has.
pub(crate) async fn footer(file: SourceFile) -> Result<(Schema, u64)> {
    let mut reader =
        ParquetObjectReader::new(Arc::clone(&file.store), file.meta.location.clone()).with_file_size(file.meta.size);
    let metadata = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await;
    let metadata = metadata.map_err(|e| Error::from(in_file(e.into(), &file.location)))?;
    let rows = metadata.metadata().file_metadata().num_rows().unsigned_abs();
    Ok((metadata.schema().as_ref().clone(), rows))
}
