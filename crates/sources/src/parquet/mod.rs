//! The Parquet format, through DataFusion's reader.

mod metrics;
mod read;
mod small;

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use async_trait::async_trait;
use datafusion::common::config::TableParquetOptions;
use datafusion::datasource::file_format::parquet::{coerce_int96_to_resolution, transform_schema_to_view};
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_catalog::types::{Policy, Union, with_exact_doubles};
use hardtack_core::{Error, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;

use crate::convert::Lossless;
use crate::files::{Files, Format, Inferred, Planned};
use crate::infer::{DECLARE, DECLARE_NESTED, infer_each};
use crate::input::SourceFile;
use crate::scan::{Batches, Origin, in_file};
use read::{ParquetReader, ParquetScan};

/// The Parquet format: see [`ParquetFiles`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parquet;

/// Parquet files (`.parquet`). Plans read only the columns, row groups and pages that they need. A file of up to 512 KiB
/// is read at once, by one request, while files before it are decoded. Local files are read from the file system,
/// whatever store is registered for `file:`.
///
/// ```
/// use hardtack_sources::ParquetFiles;
///
/// let books = ParquetFiles::new("books", "s3://lake/books").with_hive_partitions();
/// ```
///
/// # With a declared schema
/// Columns are found by name; undeclared ones are not read. A column that a file lacks is null there, or refused if it
/// is required. A column that is stored with another type is converted under
/// [`Policy::Read`](hardtack_catalog::types::Policy): if that would lose what is typical of the type (a fraction, a
/// time of day), it is refused with file and column, and so is a value that does not fit (a number that is too large or
/// that no double holds, a timestamp finer than the column).
///
/// # Without
/// The footer of every file is read. Columns are united by name in the order of first occurrence, and types under
/// [`Policy::Infer`](hardtack_catalog::types::Policy), which loses nothing: integers and floats become wider, integers
/// and decimals become decimals, timestamps get the finer unit; structs are united field by field, lists of all kinds
/// and maps by element. 64-bit integers meet doubles only if the statistics say that a double holds them all. Types
/// that have nothing in common (a number and a text) are refused with both files. Texts are string views.
pub type ParquetFiles = Files<Parquet>;

#[async_trait]
impl Format for Parquet {
    const TYPE: &'static str = "ParquetFiles";
    const SUFFIXES: &'static [&'static str] = &[".parquet"];

    async fn infer(&self, files: &[SourceFile], concurrency: usize) -> Result<Inferred> {
        let mut union = Union::new(Policy::Infer, DECLARE).with_hint_if_nested(DECLARE_NESTED);
        // Reading footers is I/O-bound.
        infer_each(files, concurrency.max(16), footer, |file, (schema, _)| union.add(&schema, &file.location)).await?;
        Ok(Arc::new(transform_schema_to_view(&union.schema())).into())
    }

    async fn column(&self, file: SourceFile, column: &Field) -> Result<Batches> {
        let reader = ParquetReader::new(file.clone());
        let failed = move |e: ParquetError| Error::from(in_file(e.into(), &file.location));
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(&failed)?;
        let fields = builder.schema().fields().iter();
        let roots: Vec<usize> = fields
            .enumerate()
            .filter(|(_, field)| field.name().to_lowercase() == column.name().to_lowercase())
            .map(|(root, _)| root)
            .collect();
        if roots.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let rows = builder.with_projection(mask).build().map_err(&failed)?;
        Ok(rows.map_err(failed).boxed())
    }

    fn plan(&self, table: TableSchema, origin: Origin, planned: &Planned) -> Result<Arc<dyn FileSource>> {
        Ok(read(table, origin, with_int96_unit(planned.parquet.clone())))
    }

    fn adapter(&self) -> Option<Arc<dyn PhysicalExprAdapterFactory>> {
        Some(Arc::new(Lossless::default()))
    }
}

/// The file source that reads Parquet files.
pub(crate) fn read(table: TableSchema, origin: Origin, options: TableParquetOptions) -> Arc<dyn FileSource> {
    let source = ParquetSource::new(table).with_table_parquet_options(options);
    Arc::new(ParquetScan::new(Arc::new(source), origin))
}

/// The columns of a file, and its number of rows.
pub(crate) async fn footer(file: SourceFile) -> Result<(Schema, u64)> {
    let mut reader = ParquetReader::new(file.clone());
    let metadata = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await;
    let metadata = metadata.map_err(|e| Error::from(in_file(e.into(), &file.location)))?;
    let rows = metadata.metadata().file_metadata().num_rows().unsigned_abs();
    let schema = coerce_int96_to_resolution(metadata.parquet_schema(), metadata.schema(), &INT96_UNIT);
    let schema = schema.as_ref().unwrap_or_else(|| metadata.schema().as_ref());
    Ok((with_exactness(schema, metadata.metadata()), rows))
}

/// The unit in which timestamps of the old type INT96 are read: Spark and Hive write no finer ones, and nanoseconds
/// since 1970 end in 2262.
const INT96_UNIT: TimeUnit = TimeUnit::Microsecond;

/// Sets the [unit](INT96_UNIT) of timestamps of the old type INT96, unless it was set.
pub(crate) fn with_int96_unit(mut options: TableParquetOptions) -> TableParquetOptions {
    options.global.coerce_int96.get_or_insert_with(|| "us".to_owned());
    options
}

/// Marks columns of 64-bit integers whose values all fit a double, according to the file's statistics.
fn with_exactness(schema: &Schema, metadata: &ParquetMetaData) -> Schema {
    let leaves = metadata.file_metadata().schema_descr().num_columns();
    let mut exact = (0..leaves).map(|leaf| metadata.row_groups().iter().all(|group| is_exact(group.column(leaf))));
    Schema::new(schema.fields().iter().map(|field| noted(field, &mut exact)).collect::<Fields>())
}

fn is_exact(column: &ColumnChunkMetaData) -> bool {
    const EXACT: RangeInclusive<i64> = -(1 << 53)..=1 << 53;
    match column.statistics() {
        Some(Statistics::Int64(values)) => match (values.min_opt(), values.max_opt()) {
            (Some(min), Some(max)) => EXACT.contains(min) && EXACT.contains(max),
            _ => values.null_count_opt().is_some_and(|nulls| i64::try_from(nulls) == Ok(column.num_values())),
        },
        _ => column.num_values() == 0,
    }
}

/// Marks the exact leaves of a field; `exact` yields one value per leaf, in order.
fn noted(field: &FieldRef, exact: &mut impl Iterator<Item = bool>) -> FieldRef {
    use DataType as D;
    let mut inside = |field: &FieldRef| noted(field, exact);
    let data_type = match field.data_type() {
        D::Struct(fields) => D::Struct(fields.iter().map(inside).collect()),
        D::List(item) => D::List(inside(item)),
        D::LargeList(item) => D::LargeList(inside(item)),
        D::ListView(item) => D::ListView(inside(item)),
        D::LargeListView(item) => D::LargeListView(inside(item)),
        D::FixedSizeList(item, size) => D::FixedSizeList(inside(item), *size),
        D::Map(entries, sorted) => D::Map(inside(entries), *sorted),
        D::Int64 => {
            let field = field.as_ref().clone();
            return Arc::new(if exact.next() == Some(true) { with_exact_doubles(field) } else { field });
        }
        _ => {
            exact.next();
            return Arc::clone(field);
        }
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn item(of: DataType) -> FieldRef {
        Arc::new(Field::new("item", of, true))
    }

    fn structure(fields: Vec<Field>) -> DataType {
        DataType::Struct(fields.into())
    }

    /// Leaves are numbered in order, whatever is around them.
    #[rstest]
    #[case::nothing(|n: Field| n.data_type().clone())]
    #[case::structure(|n: Field| structure(vec![Field::new("t", DataType::Utf8, true), n]))]
    #[case::list(|n: Field| DataType::List(n.into()))]
    #[case::large_list(|n: Field| DataType::LargeList(n.into()))]
    #[case::list_view(|n: Field| DataType::ListView(n.into()))]
    #[case::large_list_view(|n: Field| DataType::LargeListView(n.into()))]
    #[case::fixed_list(|n: Field| DataType::FixedSizeList(n.into(), 2))]
    #[case::list_of_structures(|n: Field| DataType::List(item(structure(vec![n]))))]
    #[case::map(|n: Field| DataType::Map(item(structure(vec![Field::new("key", DataType::Utf8, false), n])), false))]
    fn integers_that_a_double_holds_are_noted_at_any_depth(#[case] around: fn(Field) -> DataType) {
        let number = || Field::new("n", DataType::Int64, true);
        let field = |n: Field| match around(n.clone()) {
            DataType::Int64 => Arc::new(n),
            nested => Arc::new(Field::new("c", nested, true)),
        };
        let leaves = around(number()).to_string().matches("Utf8").count() + 1;
        // Only the last leaf is exact, and the next column follows it.
        let mut exact = (1..=leaves).map(|leaf| leaf == leaves).chain([false]);
        assert_eq!(noted(&field(number()), &mut exact), field(with_exact_doubles(number())));
        assert_eq!(exact.collect::<Vec<_>>(), [false], "the next column's");
    }
}
