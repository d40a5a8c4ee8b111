//! Turns what was found in files into descriptions for the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use hardtack_catalog::{Column, CsvFormat, HiveType, NULL_PARTITION, TableDescription, TableFormat};
use hardtack_sources::{FileFormat, FolderCsv, partition_type};
use object_store::ObjectMeta;

use super::Nanoseconds;
use super::tree::DataSet;
use crate::evolution::same_name;

/// The columns of a table as Athena reads them from such files, and those that had to be left out.
pub(super) fn columns(
    found: &Schema,
    format: &FileFormat,
    keys: &[String],
    nanoseconds: Nanoseconds,
) -> Result<(Schema, Vec<String>), String> {
    let (mut fields, mut left_out) = (Vec::new(), Vec::new());
    for field in found.fields() {
        if keys.iter().any(|key| same_name(key, field.name())) {
            if matches!(format, FileFormat::Csv(_)) {
                let name = field.name();
                return Err(format!(
                    "`{name}` is a column of the files and a partition key, which Hive and Athena cannot tell apart in CSV \
                     files; rename one"
                ));
            }
            // The folder has the value.
            continue;
        }
        let of = match format {
            FileFormat::Csv(csv) => csv_type(field, csv),
            _ => readable(field.data_type(), nanoseconds),
        };
        let (field, name) = (Field::new(field.name(), of, true), field.name().escape_debug());
        let column = match Column::of(&field) {
            Ok(column) => column,
            Err(e) => {
                left_out.push(format!("the column `{name}` is left out: {}", e.message()));
                continue;
            }
        };
        match (column.checked(), format) {
            (Ok(_), _) => fields.push(field),
            // Columns are read by position there, so none can be left out.
            (Err(e), FileFormat::Csv(_)) => {
                let hint = "give it another name, or read the header as a row: `crawl --csv-header absent`";
                return Err(format!("{}; {hint}", e.message()));
            }
            (Err(e), _) => {
                left_out.push(format!("the column `{name}` is left out: {}; give it another name", e.message()));
            }
        }
    }
    if fields.is_empty() {
        return Err(match left_out.is_empty() {
            true => "the files have no columns".to_owned(),
            false => format!("the files have no columns that a table can have: {}", left_out.join("; ")),
        });
    }
    Ok((Schema::new(fields), left_out))
}

/// The type in a Hive table: timestamps in UTC instead of instants, and no columns without a type.
fn readable(of: &DataType, nanoseconds: Nanoseconds) -> DataType {
    let item =
        |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(readable(field.data_type(), nanoseconds)));
    match of {
        DataType::Null => DataType::Utf8,
        DataType::Timestamp(TimeUnit::Nanosecond, _) if nanoseconds == Nanoseconds::Text => DataType::Utf8,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Date64 => DataType::Date32,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect::<Fields>()),
        DataType::List(of)
        | DataType::LargeList(of)
        | DataType::FixedSizeList(of, _)
        | DataType::ListView(of)
        | DataType::LargeListView(of) => DataType::List(item(of)),
        DataType::Map(entries, sorted) => DataType::Map(item(entries), *sorted),
        DataType::Dictionary(_, value) => readable(value, nanoseconds),
        other => other.clone(),
    }
}

/// The columns with timestamps finer than those of tables, at any depth.
pub(super) fn with_nanoseconds(found: &Schema) -> Vec<&str> {
    fn holds(of: &DataType) -> bool {
        match of {
            DataType::Timestamp(TimeUnit::Nanosecond, _) => true,
            DataType::Struct(fields) => fields.iter().any(|field| holds(field.data_type())),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::Map(item, _) => holds(item.data_type()),
            _ => false,
        }
    }
    found.fields().iter().filter(|field| holds(field.data_type())).map(|field| field.name().as_str()).collect()
}

/// The type that Athena reads from a CSV text. No SerDe reads ISO 8601 timestamps. `OpenCSVSerde` expects dates as
/// numbers, and fails for an empty field in a column that is not declared as text.
fn csv_type(field: &Field, csv: &FolderCsv) -> DataType {
    match field.data_type() {
        DataType::Timestamp(..) => DataType::Utf8,
        DataType::Date32 if csv.quote.is_some() => DataType::Utf8,
        _ if csv.quote.is_some() && field.is_nullable() => DataType::Utf8,
        other => readable(other, Nanoseconds::Exact),
    }
}

/// The partition keys, with the types of their values.
pub(super) fn keys(set: &DataSet) -> Vec<Column> {
    let key = |(i, name): (usize, &String)| {
        let values = set.parts.keys().map(move |values| values[i].as_str()).filter(|v| *v != NULL_PARTITION);
        let of = match partition_type(values.clone()) {
            DataType::Int64 if values.clone().all(|v| v.parse::<i32>().is_ok()) => HiveType::Int,
            DataType::Int64 => HiveType::BigInt,
            DataType::Date32 => HiveType::Date,
            _ => HiveType::String,
        };
        Column::new(name, &of)
    };
    set.keys.iter().enumerate().map(key).collect()
}

/// The description of a new table.
pub(super) fn table(database: &str, name: &str, set: &DataSet, format: &FileFormat) -> TableDescription {
    let known = match format {
        FileFormat::Parquet => TableFormat::Parquet,
        FileFormat::Json => TableFormat::Json,
        FileFormat::Avro => TableFormat::Avro,
        FileFormat::Csv(csv) => TableFormat::Csv(CsvFormat {
            delimiter: csv.delimiter,
            quote: csv.quote,
            escape: csv.escape,
            comment: csv.comment,
            header_lines: csv.header_lines,
            skip_lines: csv.skip_lines,
        }),
    };
    let mut table = TableDescription::new(database, name, &known, set.location.clone())
        .with_partition_keys(keys(set))
        .with_parameter("typeOfData", "file")
        .with_parameter("compressionType", compression(set));
    if let FileFormat::Csv(csv) = format {
        if csv.quote.is_none() {
            // An empty field is null, for Hive and for us.
            table.storage.serde_parameters.insert("serialization.null.format".to_owned(), String::new());
        }
        table = table
            .with_parameter("delimiter", char::from(csv.delimiter).to_string())
            .with_parameter("areColumnsQuoted", csv.quote.is_some().to_string())
            .with_parameter("columnsOrdered", "true");
    }
    table
}

fn compression(set: &DataSet) -> &'static str {
    let suffix = |meta: &ObjectMeta| match meta.location.extension() {
        Some("gz") => "gzip",
        Some("zst") => "zstd",
        Some("bz2") => "bzip2",
        Some("xz") => "xz",
        _ => "none",
    };
    set.parts.values().flat_map(|part| &part.files).map(suffix).next().unwrap_or("none")
}

/// The size of a table or partition, under the names that Glue's crawlers use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    files: u64,
    bytes: u64,
    /// None if it is unknown.
    rows: Option<u64>,
}

impl Statistics {
    /// The parameters that they are written to.
    pub(super) const PARAMETERS: [&str; 4] = ["objectCount", "sizeKey", "totalSize", "recordCount"];

    pub(super) fn of(files: &[ObjectMeta], rows: Option<&[u64]>) -> Self {
        Self {
            files: files.len() as u64,
            bytes: files.iter().map(|meta| meta.size).sum(),
            rows: rows.map(|rows| rows.iter().sum()),
        }
    }

    pub(super) fn add(self, other: Self) -> Self {
        let rows = self.rows.zip(other.rows).map(|(a, b)| a + b);
        Self { files: self.files + other.files, bytes: self.bytes + other.bytes, rows }
    }

    /// Writes the parameters; returns whether any of them changed.
    pub(super) fn write(self, parameters: &mut BTreeMap<String, String>) -> bool {
        let values = [Some(self.files), Some(self.bytes), Some(self.bytes), self.rows];
        let mut changed = false;
        for (key, value) in Self::PARAMETERS.into_iter().zip(values) {
            let Some(value) = value.map(|value| value.to_string()) else { continue };
            changed |= parameters.get(key) != Some(&value);
            parameters.insert(key.to_owned(), value);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn csv(quote: Option<u8>) -> FileFormat {
        let (null_text, escape, comment) = (None, None, None);
        FileFormat::Csv(FolderCsv {
            delimiter: b',',
            quote,
            escape,
            null_text,
            comment,
            header_lines: 1,
            skip_lines: 0,
        })
    }

    fn instant() -> DataType {
        DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into()))
    }

    #[rstest]
    #[case::parquet(FileFormat::Parquet, instant(), true, "timestamp")]
    #[case::nothing(FileFormat::Parquet, DataType::Null, true, "string")]
    #[case::nested(FileFormat::Parquet, DataType::new_list(instant(), true), true, "array<timestamp>")]
    #[case::dictionary(
        FileFormat::Parquet,
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
        true,
        "string"
    )]
    #[case::unsigned(FileFormat::Parquet, DataType::UInt32, true, "bigint")]
    #[case::json(FileFormat::Json, DataType::Boolean, true, "boolean")]
    #[case::plain(csv(None), DataType::Int64, true, "bigint")]
    #[case::plain_date(csv(None), DataType::Date32, true, "date")]
    #[case::plain_timestamp(csv(None), instant(), true, "string")]
    #[case::quoted(csv(Some(b'"')), DataType::Int64, false, "bigint")]
    #[case::quoted_and_empty(csv(Some(b'"')), DataType::Int64, true, "string")]
    #[case::quoted_date(csv(Some(b'"')), DataType::Date32, false, "string")]
    fn types_are_those_that_athena_reads(
        #[case] format: FileFormat,
        #[case] found: DataType,
        #[case] nullable: bool,
        #[case] declared: &str,
    ) {
        let (schema, left_out) =
            columns(&Schema::new(vec![Field::new("x", found, nullable)]), &format, &[], Nanoseconds::Exact).unwrap();
        assert_eq!(HiveType::of(schema.field(0)).unwrap().to_string(), declared);
        assert!(left_out.is_empty());
    }

    #[test]
    fn what_hive_has_no_word_for_is_left_out_and_said() {
        let time = Field::new("t", DataType::Time64(TimeUnit::Microsecond), true);
        let found =
            Schema::new(vec![time, Field::new("day", DataType::Utf8, true), Field::new("n", DataType::Int8, true)]);
        let nameless = |format| {
            let found = Schema::new(["", "a\nb", "n"].map(|name| Field::new(name, DataType::Int8, true)).to_vec());
            columns(&found, &format, &[], Nanoseconds::Exact)
        };
        let (schema, left_out) = nameless(FileFormat::Json).unwrap();
        insta::assert_snapshot!(format!("{} {}", schema.fields().len(), left_out.join("\n")), @r"
        1 the column `` is left out: `` is not a valid name for a column; give it another name
        the column `a\nb` is left out: `a\nb` is not a valid name for a column; give it another name
        ");
        insta::assert_snapshot!(nameless(csv(None)).unwrap_err(), @"`` is not a valid name for a column; give it another name, or read the header as a row: `crawl --csv-header absent`");
        let (schema, left_out) =
            columns(&found, &FileFormat::Parquet, &["day".to_owned()], Nanoseconds::Exact).unwrap();
        assert_eq!(schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["n"]);
        insta::assert_snapshot!(left_out.join("\n"), @"the column `t` is left out: Hive has no type for Arrow's Time64(µs); cast it to one that Hive has, such as a string");
        insta::assert_snapshot!(columns(&found, &csv(None), &["day".to_owned()], Nanoseconds::Exact).unwrap_err(), @"`day` is a column of the files and a partition key, which Hive and Athena cannot tell apart in CSV files; rename one");
    }
}
