//! The file formats of tables.

use hardtack_catalog::{Partition, StorageDescriptor, TableDescription, TableFormat};
use hardtack_core::{Error, Result};
use hardtack_sources::{FileFormat, FolderCsv};

/// The format in which the files of a partition, or of a table without partitions, are read.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for an unknown format.
pub(crate) fn file_format(table: &TableDescription, partition: Option<&Partition>) -> Result<FileFormat> {
    let (format, storage) = match partition {
        Some(partition) => (table.format_of(partition)?, &partition.storage),
        None => (table.format()?, &table.storage),
    };
    if let (TableFormat::Json, Some(mapped)) =
        (&format, storage.serde_parameters.keys().find(|k| k.starts_with(MAPPING)))
    {
        // If the mapping were ignored, the column would silently be null everywhere.
        let why = format!("`{mapped}` gives a column of this table another name in its files, which is not supported");
        return Err(Error::usage(why).with("table", table.qualified_name()));
    }
    Ok(match format {
        TableFormat::Parquet => FileFormat::Parquet,
        TableFormat::Json => FileFormat::Json,
        TableFormat::Avro => FileFormat::Avro,
        TableFormat::Csv(csv) => FileFormat::Csv(FolderCsv {
            delimiter: csv.delimiter,
            quote: csv.quote,
            escape: csv.escape,
            null_text: null_text(storage, csv.quote.is_some()),
            comment: csv.comment,
            header_lines: csv.header_lines,
            skip_lines: csv.skip_lines,
        }),
        other => {
            let why = format!("tables of {} cannot be read", other.classification());
            return Err(Error::usage(why).with("table", table.qualified_name()));
        }
    })
}

/// The table parameter for timestamps that files store in nanoseconds.
pub(crate) const NANOSECONDS: &str = "hardtack.nanoseconds";

/// Nanoseconds are rounded down to microseconds.
pub(crate) const TRUNCATE: &str = "truncate";

/// The prefix of the JSON SerDe's parameters for a column's name in files: `mapping.ts` = `timestamp`.
const MAPPING: &str = "mapping.";

/// The text for null: Hive's `LazySimpleSerDe` writes `\N` by default; `OpenCSVSerde` has none, so an empty field is
/// null.
fn null_text(storage: &StorageDescriptor, quoted: bool) -> Option<String> {
    let text = storage.serde_parameters.get("serialization.null.format").cloned();
    if quoted { None } else { Some(text.unwrap_or_else(|| "\\N".to_owned())) }
}
