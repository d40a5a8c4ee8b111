//! The layout of Parquet files.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use hardtack_core::{Error, Result, StageContext};
use parquet::arrow::add_encoded_arrow_schema_to_metadata;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

/// How the pages of a Parquet file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Zstandard at a level from 1 to 22 (the framework's default is 3): smaller.
    Zstd(i32),
    /// Snappy: faster, and Spark's default.
    Snappy,
    /// None.
    Uncompressed,
}

/// The statistics of a column's values, with which readers can skip data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistics {
    /// Minimum, maximum and null count of each page (the default).
    Page,
    /// Of each row group.
    RowGroup,
    /// Nothing.
    None,
}

/// The properties that all files of a dataset share, apart from their columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) compression: Compression,
    pub(crate) statistics: Statistics,
    pub(crate) sorted_by: Vec<String>,
    pub(crate) row_group_rows: usize,
    pub(crate) bloom_filters: Vec<String>,
    pub(crate) without_dictionary: Vec<String>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            compression: Compression::Zstd(3),
            statistics: Statistics::Page,
            sorted_by: Vec::new(),
            row_group_rows: 1 << 20,
            bloom_filters: Vec::new(),
            without_dictionary: Vec::new(),
        }
    }
}

/// The writer properties of files, by their number of rows.
#[derive(Debug)]
pub(crate) struct Properties {
    tiny: WriterPropertiesPtr,
    small: WriterPropertiesPtr,
    pub(crate) large: WriterPropertiesPtr,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Size {
    Tiny,
    Small,
    Large,
}

/// With fewer rows a dictionary takes more space than it saves, and time: for two tables of texts, numbers and times,
/// the break-even was at 64 and at 192 rows.
const TINY_ROWS: usize = 64;

/// A file with fewer rows has one page per column, so a page index adds nothing to the statistics of the row group.
pub(crate) const FEW_ROWS: usize = 20_000;

impl Properties {
    /// The properties of a file with this many rows.
    pub(crate) fn of(&self, rows: usize) -> &WriterPropertiesPtr {
        if rows < TINY_ROWS {
            &self.tiny
        } else if rows < FEW_ROWS {
            &self.small
        } else {
            &self.large
        }
    }
}

impl Layout {
    /// Shows the options that differ from the defaults.
    pub(crate) fn show(&self, f: &mut std::fmt::DebugStruct<'_, '_>) {
        let usual = Self::default();
        f.field("compression", &self.compression);
        if self.statistics != usual.statistics {
            f.field("statistics", &self.statistics);
        }
        for (name, columns) in [
            ("sorted_by", &self.sorted_by),
            ("bloom_filters", &self.bloom_filters),
            ("without_dictionary", &self.without_dictionary),
        ] {
            if !columns.is_empty() {
                f.field(name, columns);
            }
        }
        if self.row_group_rows != usual.row_group_rows {
            f.field("row_group_rows", &self.row_group_rows);
        }
    }

    /// The indices of the sort columns.
    pub(crate) fn sort_columns(&self, schema: &SchemaRef) -> Result<Vec<(usize, SortOptions)>> {
        let column = |name: &String| Ok((index(schema, name, "sorted_by")?, SortOptions::new(false, true)));
        self.sorted_by.iter().map(column).collect()
    }

    /// The properties of files with these columns.
    pub(crate) fn properties(&self, ctx: &StageContext, schema: &SchemaRef) -> Result<Properties> {
        let of = |size| self.properties_of(ctx, schema, size).map(Arc::new);
        Ok(Properties { tiny: of(Size::Tiny)?, small: of(Size::Small)?, large: of(Size::Large)? })
    }

    fn properties_of(&self, ctx: &StageContext, schema: &SchemaRef, size: Size) -> Result<WriterProperties> {
        let codec = match self.compression {
            Compression::Zstd(level) => Codec::ZSTD(
                ZstdLevel::try_new(level)
                    .map_err(|e| Error::usage(format!("{level} is not a zstd level; expected 1 to 22")).because(e))?,
            ),
            Compression::Snappy => Codec::SNAPPY,
            Compression::Uncompressed => Codec::UNCOMPRESSED,
        };
        let about = |key: &str, value: &str| KeyValue::new(key.to_owned(), value.to_owned());
        let statistics = match self.statistics {
            Statistics::Page if size != Size::Large => EnabledStatistics::Chunk,
            Statistics::Page => EnabledStatistics::Page,
            Statistics::RowGroup => EnabledStatistics::Chunk,
            Statistics::None => EnabledStatistics::None,
        };
        let mut properties = WriterProperties::builder()
            .set_compression(codec)
            .set_statistics_enabled(statistics)
            .set_offset_index_disabled(size != Size::Large)
            .set_dictionary_enabled(size != Size::Tiny)
            .set_created_by(format!("hardtack {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(vec![
                about("hardtack.job", &ctx.run().job),
                about("hardtack.run", ctx.run().id.as_str()),
            ]));
        for name in &self.bloom_filters {
            properties = properties.set_column_bloom_filter_enabled(leaf(schema, name, "with_bloom_filters")?, true);
        }
        for name in &self.without_dictionary {
            properties = properties.set_column_dictionary_enabled(leaf(schema, name, "without_dictionary")?, false);
        }
        let sorted = self.sorted_by.iter().map(|name| leaf_index(schema, name));
        // A nested column, or one that is in the folder's name instead of the file, cannot be declared there.
        if let Some(columns) = sorted.collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty()) {
            let column = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: true };
            properties = properties.set_sorting_columns(Some(columns.into_iter().map(column).collect()));
        }
        let mut properties = properties.build();
        // Arrow's own schema distinguishes types that Parquet does not.
        add_encoded_arrow_schema_to_metadata(schema, &mut properties);
        Ok(properties)
    }
}

fn index(schema: &SchemaRef, name: &str, option: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let there: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        Error::usage(format!("the column `{name}` of `{option}` is not among the columns {}", there.join(", ")))
    })
}

/// The path of a column, which must not be nested.
fn leaf(schema: &SchemaRef, name: &str, option: &str) -> Result<ColumnPath> {
    let field = schema.field(index(schema, name, option)?);
    if field.data_type().is_nested() {
        let data_type = field.data_type();
        return Err(Error::usage(format!("the column `{name}` of `{option}` is nested ({data_type})")));
    }
    Ok(ColumnPath::new(vec![name.to_owned()]))
}

/// The index of a column among the leaves of the file, unless it is nested.
fn leaf_index(schema: &SchemaRef, name: &str) -> Option<i32> {
    let at = schema.index_of(name).ok()?;
    let flat = schema.fields()[..=at].iter().all(|f| !f.data_type().is_nested());
    flat.then(|| i32::try_from(at).ok()).flatten()
}
