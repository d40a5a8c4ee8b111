//! The layout of Parquet files.

use std::fmt;
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

/// A column that rows are sorted by, and in which direction. A name alone means ascending, nulls first.
///
/// ```
/// use hardtack_sinks::{ParquetDataset, SortColumn};
///
/// let newest_first = ParquetDataset::new("sales", "s3://lake/sales").sorted_by([SortColumn::desc("sold_at")]);
/// let by_shop = ParquetDataset::new("sales", "s3://lake/sales").sorted_by(["shop", "sold_at"]);
/// assert_eq!(SortColumn::desc("sold_at").to_string(), "sold_at desc");
/// assert_eq!(SortColumn::from("shop"), SortColumn::asc("shop"));
/// assert_ne!(newest_first, by_shop);
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortColumn {
    name: String,
    descending: bool,
    nulls_first: bool,
}

impl SortColumn {
    /// The smallest value first, and nulls before it.
    pub fn asc(name: impl Into<String>) -> Self {
        Self { name: name.into(), descending: false, nulls_first: true }
    }

    /// The largest value first, and nulls last.
    pub fn desc(name: impl Into<String>) -> Self {
        Self { name: name.into(), descending: true, nulls_first: false }
    }

    /// Reads what [`Display`](fmt::Display) shows, and the command line takes: a name, and then a direction and the place
    /// of nulls as in Spark's `order by`, such as `sold_at desc nulls first`. Any text is a name, if nothing else.
    ///
    /// It is not `FromStr`, because clap would prefer `From<&str>`, for which all of the text is the name.
    pub fn parse(text: &str) -> Self {
        let (text, nulls_first) = match (without(text, "nulls first"), without(text, "nulls last")) {
            (Some(rest), _) => (rest, Some(true)),
            (None, Some(rest)) => (rest, Some(false)),
            (None, None) => (text.trim(), None),
        };
        let by = match (without(text, "desc"), without(text, "asc")) {
            (Some(name), _) => Self::desc(name),
            (None, Some(name)) => Self::asc(name),
            (None, None) => Self::asc(text),
        };
        let nulls_first = nulls_first.unwrap_or(by.nulls_first);
        Self { nulls_first, ..by }
    }

    /// Nulls before all values.
    #[must_use]
    pub fn nulls_first(self) -> Self {
        Self { nulls_first: true, ..self }
    }

    /// Nulls after all values.
    #[must_use]
    pub fn nulls_last(self) -> Self {
        Self { nulls_first: false, ..self }
    }

    /// The name of the column.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the largest value is first.
    pub fn is_descending(&self) -> bool {
        self.descending
    }

    /// Whether nulls come before all values.
    pub fn has_nulls_first(&self) -> bool {
        self.nulls_first
    }
}

impl From<&str> for SortColumn {
    fn from(name: &str) -> Self {
        Self::asc(name)
    }
}

impl From<String> for SortColumn {
    fn from(name: String) -> Self {
        Self::asc(name)
    }
}

/// What is before these words, if a text ends with them and something else is before.
fn without<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let text = text.trim();
    let (before, end) = text.split_at_checked(text.len().checked_sub(words.len())?)?;
    let is_separate = before.ends_with(char::is_whitespace);
    (is_separate && end.eq_ignore_ascii_case(words)).then(|| before.trim_end())
}

/// As in Spark's `order by`: ascending and nulls first, or descending and nulls last, unless it says otherwise.
impl fmt::Display for SortColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        f.write_str(if self.descending { " desc" } else { "" })?;
        f.write_str(match (self.descending, self.nulls_first) {
            (true, true) => " nulls first",
            (false, false) => " nulls last",
            _ => "",
        })
    }
}

impl fmt::Debug for SortColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// The properties that all files of a dataset share, apart from their columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) compression: Compression,
    pub(crate) statistics: Statistics,
    pub(crate) sorted_by: Vec<SortColumn>,
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
        if !self.sorted_by.is_empty() {
            f.field("sorted_by", &self.sorted_by);
        }
        for (name, columns) in
            [("bloom_filters", &self.bloom_filters), ("without_dictionary", &self.without_dictionary)]
        {
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
        let column = |by: &SortColumn| {
            Ok((index(schema, &by.name, "sorted_by")?, SortOptions::new(by.descending, by.nulls_first)))
        };
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
        let sorted = self.sorted_by.iter().map(|by| {
            let (descending, nulls_first) = (by.descending, by.nulls_first);
            leaf_index(schema, &by.name).map(|column_idx| SortingColumn { column_idx, descending, nulls_first })
        });
        // A nested column, or one that is in the folder's name instead of the file, cannot be declared there.
        if let Some(columns) = sorted.collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty()) {
            properties = properties.set_sorting_columns(Some(columns));
        }
        let mut properties = properties.build();
        // Arrow's own schema distinguishes types that Parquet does not.
        add_encoded_arrow_schema_to_metadata(schema, &mut properties);
        Ok(properties)
    }
}

pub(crate) fn index(schema: &SchemaRef, name: &str, option: &str) -> Result<usize> {
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::SortColumn;

    #[rstest]
    #[case("n", SortColumn::asc("n"), "n")]
    #[case(" n ASC ", SortColumn::asc("n"), "n")]
    #[case("n nulls first", SortColumn::asc("n"), "n")]
    #[case("n nulls last", SortColumn::asc("n").nulls_last(), "n nulls last")]
    #[case("n asc  NULLS Last", SortColumn::asc("n").nulls_last(), "n nulls last")]
    #[case("n desc", SortColumn::desc("n"), "n desc")]
    #[case("n Desc nulls last", SortColumn::desc("n"), "n desc")]
    #[case("n desc nulls first", SortColumn::desc("n").nulls_first(), "n desc nulls first")]
    #[case("sold at  desc", SortColumn::desc("sold at"), "sold at desc")]
    #[case("desc", SortColumn::asc("desc"), "desc")]
    #[case("größe", SortColumn::asc("größe"), "größe")]
    fn an_order_is_written_as_in_sql(#[case] text: &str, #[case] expected: SortColumn, #[case] shown: &str) {
        let by = SortColumn::parse(text);
        assert_eq!((by.to_string().as_str(), &by), (shown, &expected));
        assert_eq!(SortColumn::parse(shown), by);
    }
}
