//! Sinks for rows: Parquet datasets, CSV and JSON files, memory.
//!
//! Every sink is a value that *stages* rows: it writes them durably where no reader looks and returns the
//! [`PublishAction`](hardtack_core::PublishAction)s that make them visible. The run executes these once it has
//! committed.
//!
//! | sink | what appears | half-way through publishing a reader sees |
//! | --- | --- | --- |
//! | [`ParquetDataset`] | files in a folder, or in a folder per partition | whole files, new ones before old ones go |
//! | [`CsvFile`], [`JsonLines`] | one file | the old file or the new one |
//! | [`InMemory`] | batches in this process | all or nothing |

mod append_only;
mod compact;
mod distinct;
mod encode;
mod field_ids;
mod gather;
mod in_memory;
mod json;
mod lake;
mod layout;
mod named;
mod parquet;
mod partition;
mod placement;
mod plan;
mod text;
mod write;
mod written;

pub use append_only::{APPEND_ONLY_MARKER, mark_append_only, refuse_append_only};
pub use compact::SmallFiles;
pub use in_memory::InMemory;
pub use json::{check_moments, json_lines};
pub use lake::iceberg_metadata;
pub use layout::{Compression, SortColumn, Statistics};
pub use named::{PartitionValue, PartitionValues};
pub use parquet::ParquetDataset;
pub use placement::{Folder, Placement, Unseen, Visibility};
pub use text::{CsvFile, JsonLines};
pub use written::{ColumnMetrics, WrittenFile};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use hardtack_core::publish::Publishers;
use hardtack_core::{Result, StageContext};

/// Registers the executors of this crate's publish actions; the runtime calls it before it recovers a commit.
pub fn register(publishers: &Publishers) {
    in_memory::register(publishers);
}

/// The rows, coerced to the declared schema.
fn contract(rows: DataFrame, schema: Option<&SchemaRef>) -> Result<DataFrame> {
    match schema {
        Some(schema) => hardtack_transforms::coerce_to_schema(rows, schema),
        None => Ok(rows),
    }
}

/// A file name that no other run uses.
fn file_name(ctx: &StageContext, prefix: &str, serial: u64, suffix: &str) -> String {
    format!("{prefix}-{serial:05}-{}{suffix}", ctx.run().version())
}
