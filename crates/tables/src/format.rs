//! How the files of a table are read.

use hardtack_catalog::{Partition, StorageDescriptor, Table, TableFormat};
use hardtack_core::{Error, Result};
use hardtack_sources::{FileFormat, FolderCsv};

/// How the files of a partition, or of a table without partitions, are read.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a format that this framework does not know.
pub(crate) fn file_format(table: &Table, partition: Option<&Partition>) -> Result<FileFormat> {
    let (format, storage) = match partition {
        Some(partition) => (table.format_of(partition)?, &partition.storage),
        None => (table.format()?, &table.storage),
    };
    if let (TableFormat::Json, Some(mapped)) =
        (&format, storage.serde_parameters.keys().find(|k| k.starts_with(MAPPING)))
    {
        // Without it the column would be null everywhere, and nobody would notice.
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

/// The parameter of a table that says what becomes of timestamps that its files store in nanoseconds.
pub(crate) const NANOSECONDS: &str = "hardtack.nanoseconds";

/// They are rounded down to microseconds.
pub(crate) const TRUNCATE: &str = "truncate";

/// How the JSON SerDe is told what a column is called in files: `mapping.ts` = `timestamp`.
const MAPPING: &str = "mapping.";

/// What stands for null in a text: Hive's `LazySimpleSerDe` writes `\N` unless it is told otherwise, `OpenCSVSerde` has no
/// word for null, so an empty field is one.
fn null_text(storage: &StorageDescriptor, quoted: bool) -> Option<String> {
    let text = storage.serde_parameters.get("serialization.null.format").cloned();
    if quoted { None } else { Some(text.unwrap_or_else(|| "\\N".to_owned())) }
}
