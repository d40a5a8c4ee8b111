//! The imports of a job's `lib.rs`: `use hardtack::prelude::*`.
//!
//! Every name is listed here, so that an upgrade of DataFusion cannot introduce names that collide with an author's. Of
//! DataFusion's functions only the common ones are included; the others are in [`functions`](crate::functions).

pub use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
pub use clap;
pub use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
pub use datafusion::common::{JoinType, ScalarValue};
pub use datafusion::logical_expr::{Expr, ExprSchemable, cast, col, ident, lit, when};
pub use datafusion::prelude::DataFrame;

pub use hardtack_catalog::{
    COMMENT_KEY, CatalogOf, DatabaseName, HIVE_TYPE_KEY, HiveField, HiveType, schema, schema_from_catalog,
    schema_from_cloudformation, schema_of,
};
pub use hardtack_core::audit::sensitive;
pub use hardtack_core::{Context, Error, ErrorKind, LoadContext, Location, Result, Run, Sink, Source, StageContext};
#[cfg(feature = "iceberg")]
pub use hardtack_iceberg::{IcebergTable, NewIcebergTable, PartitionField};
pub use hardtack_quality::{Audited, Rules, WithRules};
pub use hardtack_runtime::Job;
pub use hardtack_sinks::{Compression, CsvFile, JsonLines, ParquetDataset, PartitionValues, SortColumn};
pub use hardtack_sources::{AvroFiles, Bookmark, CsvFiles, JsonFiles, ParquetFiles};
pub use hardtack_tables::{ByColumn, Dataset, SchemaEvolution, Table, register_names};
pub use hardtack_transforms::{
    Mapping, Merge, Missing, REFUSED_COLUMN, Snapshots, apply_mapping, coerce_or_null, coerce_to_schema,
    coerce_to_schema_with, differences, drop_columns, drop_duplicates, drop_nulls, except_existing, fill_nulls,
    merge_and_retain_last, refuse_rows, rename, split_by_schema, split_date,
};

pub use crate::endpoints::{SourceArgs, TargetArgs, TargetFormat};

// Nulls, choices, structs.
pub use datafusion::functions::core::expr_ext::FieldAccessor;
pub use datafusion::functions::expr_fn::{coalesce, greatest, least, named_struct, nullif, nvl};

// Texts.
pub use datafusion::functions::expr_fn::{
    btrim, character_length, concat, concat_ws, contains, ends_with, initcap, left, lower, lpad, ltrim, regexp_like,
    regexp_match, regexp_replace, replace, right, rpad, rtrim, sha256, split_part, starts_with, strpos, substr,
    substring, translate, trim, upper,
};

// Numbers.
pub use datafusion::functions::expr_fn::{abs, ceil, floor, power, round, sqrt, trunc};

// Dates and times. Some are our own, as `functions` says.
pub use datafusion::functions::expr_fn::{
    date_part, from_unixtime, make_date, to_date, to_timestamp, to_timestamp_micros, to_timestamp_millis,
    to_timestamp_seconds,
};
pub use hardtack_core::sql::{date_bin, date_trunc, to_char};

// Aggregates.
pub use datafusion::functions_aggregate::expr_fn::{avg, count, count_distinct, max, min, sum};
