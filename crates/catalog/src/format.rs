//! File formats in Hive's terms: input format, output format, SerDe.

use std::collections::BTreeMap;

use hardtack_core::{Error, Result};

use crate::table::StorageDescriptor;

/// The format of a table's files, with the Hive classes and the `classification` by which Athena, Spark and Glue read
/// them.
///
/// | format | SerDe that is written | also read as |
/// | --- | --- | --- |
/// | Parquet | `ParquetHiveSerDe` | |
/// | JSON lines | `org.openx.data.jsonserde.JsonSerDe` | Hive's and HCatalog's `JsonSerDe` |
/// | CSV with quotes | `OpenCSVSerde` | |
/// | CSV without quotes | `LazySimpleSerDe` | |
/// | Avro | `AvroSerDe` | |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableFormat {
    /// Parquet files.
    Parquet,
    /// One JSON object per line.
    Json,
    /// Delimited text.
    Csv(CsvFormat),
    /// Avro files.
    Avro,
}

/// The dialect of a CSV table. Bytes are ASCII.
///
/// Athena reads every column of a quoted table as text and casts it to the declared type; it expects dates as days
/// since 1970. Declare dates of quoted tables as `string`, or use Parquet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvFormat {
    /// Separates two fields.
    pub delimiter: u8,
    /// Encloses fields that contain a delimiter; none if nothing is quoted.
    pub quote: Option<u8>,
    /// Precedes a literal character; if there is none, a quote is doubled.
    pub escape: Option<u8>,
    /// Begins a comment line. Neither Hive nor Athena supports comments.
    pub comment: Option<u8>,
    /// The number of lines at the start of each file that are not rows, including the header.
    pub header_lines: u32,
    /// The number of those lines that precede the header. Hive does not need it, because it reads columns by position.
    pub skip_lines: u32,
}

impl Default for CsvFormat {
    /// Commas, double quotes that are doubled within a field, a header.
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), escape: None, comment: None, header_lines: 1, skip_lines: 0 }
    }
}

const PARQUET_INPUT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat";
const PARQUET_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat";
const PARQUET_SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
const TEXT_INPUT: &str = "org.apache.hadoop.mapred.TextInputFormat";
const TEXT_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat";
const JSON_SERDE: &str = "org.openx.data.jsonserde.JsonSerDe";
const HCATALOG_JSON_SERDE: &str = "org.apache.hive.hcatalog.data.JsonSerDe";
const HIVE_JSON_SERDE: &str = "org.apache.hadoop.hive.serde2.JsonSerDe";
const OPEN_CSV_SERDE: &str = "org.apache.hadoop.hive.serde2.OpenCSVSerde";
const LAZY_SIMPLE_SERDE: &str = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe";
const AVRO_INPUT: &str = "org.apache.hadoop.hive.ql.io.avro.AvroContainerInputFormat";
const AVRO_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.avro.AvroContainerOutputFormat";
const AVRO_SERDE: &str = "org.apache.hadoop.hive.serde2.avro.AvroSerDe";

const CLASSIFICATION: &str = "classification";
const HEADER_LINES: &str = "skip.header.line.count";
/// TableDescription parameters of hardtack's own.
const SKIP_LINES: &str = "hardtack.csv.skip.lines";
const COMMENT: &str = "hardtack.csv.comment";

impl TableFormat {
    /// CSV with commas, double quotes and a header.
    pub fn csv() -> Self {
        Self::Csv(CsvFormat::default())
    }

    /// The `classification` of Glue: `parquet`, `json`, `csv` or `avro`.
    pub fn classification(&self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Json => "json",
            Self::Csv(_) => "csv",
            Self::Avro => "avro",
        }
    }

    /// Writes this format into a table's description, in place of any other.
    pub fn describe(&self, storage: &mut StorageDescriptor, parameters: &mut BTreeMap<String, String>) {
        let (input, output, serde) = match self {
            Self::Parquet => (PARQUET_INPUT, PARQUET_OUTPUT, PARQUET_SERDE),
            Self::Json => (TEXT_INPUT, TEXT_OUTPUT, JSON_SERDE),
            Self::Csv(csv) if csv.quote.is_some() => (TEXT_INPUT, TEXT_OUTPUT, OPEN_CSV_SERDE),
            Self::Csv(_) => (TEXT_INPUT, TEXT_OUTPUT, LAZY_SIMPLE_SERDE),
            Self::Avro => (AVRO_INPUT, AVRO_OUTPUT, AVRO_SERDE),
        };
        storage.input_format = Some(input.to_owned());
        storage.output_format = Some(output.to_owned());
        storage.serde_library = Some(serde.to_owned());
        storage.serde_parameters = match self {
            Self::Csv(csv) => csv.serde_parameters(),
            _ => BTreeMap::from([("serialization.format".to_owned(), "1".to_owned())]),
        };
        parameters.insert(CLASSIFICATION.to_owned(), self.classification().to_owned());
        let own = match self {
            Self::Csv(csv) => csv.table_parameters(),
            _ => Default::default(),
        };
        for (key, value) in [HEADER_LINES, SKIP_LINES, COMMENT].into_iter().zip(own) {
            match value {
                Some(value) => _ = parameters.insert(key.to_owned(), value),
                None => _ = parameters.remove(key),
            }
        }
    }

    /// Reads the format from a table's description.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the SerDe is missing or not supported.
    pub fn of(storage: &StorageDescriptor, parameters: &BTreeMap<String, String>) -> Result<Self> {
        // Iceberg, Delta Lake and Hudi describe themselves as Parquet or not at all, but not all of their files are
        // rows.
        for key in ["table_type", "spark.sql.sources.provider"] {
            if let Some(kind) = parameters.get(key).filter(|kind| LAKE_FORMATS.contains(&kind.to_lowercase().as_str()))
            {
                return Err(not_plain_files(kind));
            }
        }
        match storage.serde_library.as_deref() {
            Some(PARQUET_SERDE) => Ok(Self::Parquet),
            Some(JSON_SERDE | HCATALOG_JSON_SERDE | HIVE_JSON_SERDE) => Ok(Self::Json),
            Some(AVRO_SERDE) => Ok(Self::Avro),
            Some(OPEN_CSV_SERDE) => CsvFormat::quoted(storage, parameters).map(Self::Csv),
            Some(LAZY_SIMPLE_SERDE) => CsvFormat::plain(storage, parameters).map(Self::Csv),
            Some(other) => Err(Error::usage("the format of these files is not known; Parquet, JSON, CSV and Avro are")
                .with("SerDe", other)),
            None => Err(Error::usage("this table names no SerDe, so the format of its files is not known")),
        }
    }
}

pub(crate) fn not_plain_files(kind: &str) -> Error {
    Error::usage(format!("this is a table of {kind}, which is not read as plain files"))
}

const LAKE_FORMATS: [&str; 3] = ["iceberg", "delta", "hudi"];

impl CsvFormat {
    /// The number of header lines, how many of them precede the header, and the comment character.
    fn table_parameters(&self) -> [Option<String>; 3] {
        let lines = |lines: u32| (lines > 0).then(|| lines.to_string());
        [lines(self.header_lines), lines(self.skip_lines), self.comment.map(|byte| char::from(byte).to_string())]
    }

    fn serde_parameters(&self) -> BTreeMap<String, String> {
        let text = |byte: u8| char::from(byte).to_string();
        let entries = match self.quote {
            // For this SerDe, an escape that equals the quote means no escape.
            Some(quote) => vec![
                ("separatorChar", text(self.delimiter)),
                ("quoteChar", text(quote)),
                ("escapeChar", text(self.escape.unwrap_or(quote))),
            ],
            None => {
                let mut entries =
                    vec![("field.delim", text(self.delimiter)), ("serialization.format", text(self.delimiter))];
                entries.extend(self.escape.map(|escape| ("escape.delim", text(escape))));
                entries
            }
        };
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn quoted(storage: &StorageDescriptor, parameters: &BTreeMap<String, String>) -> Result<Self> {
        let delimiter = byte(storage, "separatorChar")?.unwrap_or(b',');
        let quote = byte(storage, "quoteChar")?.unwrap_or(b'"');
        let escape = byte(storage, "escapeChar")?.filter(|escape| *escape != quote);
        Self { delimiter, quote: Some(quote), escape, ..Self::bare() }.with_lines(storage, parameters)
    }

    fn plain(storage: &StorageDescriptor, parameters: &BTreeMap<String, String>) -> Result<Self> {
        // Hive's own default is the control character 1.
        let delimiter = match byte(storage, "field.delim")? {
            Some(delimiter) => delimiter,
            None => byte(storage, "serialization.format")?.unwrap_or(1),
        };
        let escape = byte(storage, "escape.delim")?;
        Self { delimiter, quote: None, escape, ..Self::bare() }.with_lines(storage, parameters)
    }

    /// Every line is a row.
    fn bare() -> Self {
        Self { header_lines: 0, ..Self::default() }
    }

    /// Sets which lines are not rows.
    fn with_lines(self, storage: &StorageDescriptor, parameters: &BTreeMap<String, String>) -> Result<Self> {
        let comment = parameters.get(COMMENT).map(|text| match text.as_bytes() {
            [one] if one.is_ascii() => Ok(*one),
            _ => Err(Error::usage("what begins a comment must be one ASCII character").with("parameter", COMMENT)),
        });
        let header_lines = line_count(&[parameters, &storage.parameters, &storage.serde_parameters], HEADER_LINES)?;
        Ok(Self {
            comment: comment.transpose()?,
            header_lines,
            skip_lines: line_count(&[parameters], SKIP_LINES)?,
            ..self
        })
    }
}

/// A SerDe's parameter that is one byte. Hive also takes the byte's number (`9` for a tab).
fn byte(storage: &StorageDescriptor, key: &'static str) -> Result<Option<u8>> {
    let Some(text) = storage.serde_parameters.get(key) else { return Ok(None) };
    let found = match (text.as_str(), text.as_bytes()) {
        ("\\t", _) => Some(b'\t'),
        (number, _) if number.parse::<i8>().is_ok_and(|n| n >= 0) => number.parse().ok(),
        (_, [one]) => Some(*one),
        _ => None,
    };
    let unusable = || {
        Error::usage("this parameter of the SerDe must be one ASCII character")
            .with("parameter", key)
            .with("value", text.escape_debug())
    };
    found.filter(u8::is_ascii).map(Some).ok_or_else(unusable)
}

/// A number of lines, from the first of these places that has it. Crawlers store the number of header lines with the
/// table or the storage, Athena with the table, some tools with the SerDe.
fn line_count(places: &[&BTreeMap<String, String>], key: &'static str) -> Result<u32> {
    let Some(text) = places.iter().find_map(|place| place.get(key)) else { return Ok(0) };
    text.trim().parse().map_err(|_| Error::usage(format!("`{text}` is not a number of lines")).with("parameter", key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::TableDescription;

    fn show(table: &TableDescription) -> String {
        let (storage, mut lines) = (&table.storage, Vec::new());
        lines.push(format!("input  {}", storage.input_format.as_deref().unwrap_or("-")));
        lines.push(format!("output {}", storage.output_format.as_deref().unwrap_or("-")));
        lines.push(format!("serde  {}", storage.serde_library.as_deref().unwrap_or("-")));
        lines.push(format!("{:?}", storage.serde_parameters));
        lines.push(format!("{:?} {}", table.parameters, table.table_type.as_deref().unwrap_or("-")));
        lines.join("\n")
    }

    fn table(format: &TableFormat) -> TableDescription {
        TableDescription::new("lake", "books", format, "s3://lake/books")
    }

    /// These names are a contract with Athena and Spark.
    #[test]
    fn formats_are_described_as_hive_names_them() {
        insta::assert_snapshot!(show(&table(&TableFormat::Parquet)), @r#"
        input  org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat
        output org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat
        serde  org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe
        {"serialization.format": "1"}
        {"EXTERNAL": "TRUE", "classification": "parquet"} EXTERNAL_TABLE
        "#);
        insta::assert_snapshot!(show(&table(&TableFormat::Json)), @r#"
        input  org.apache.hadoop.mapred.TextInputFormat
        output org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat
        serde  org.openx.data.jsonserde.JsonSerDe
        {"serialization.format": "1"}
        {"EXTERNAL": "TRUE", "classification": "json"} EXTERNAL_TABLE
        "#);
        insta::assert_snapshot!(show(&table(&TableFormat::Avro)), @r#"
        input  org.apache.hadoop.hive.ql.io.avro.AvroContainerInputFormat
        output org.apache.hadoop.hive.ql.io.avro.AvroContainerOutputFormat
        serde  org.apache.hadoop.hive.serde2.avro.AvroSerDe
        {"serialization.format": "1"}
        {"EXTERNAL": "TRUE", "classification": "avro"} EXTERNAL_TABLE
        "#);
        insta::assert_snapshot!(show(&table(&TableFormat::csv())), @r#"
        input  org.apache.hadoop.mapred.TextInputFormat
        output org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat
        serde  org.apache.hadoop.hive.serde2.OpenCSVSerde
        {"escapeChar": "\"", "quoteChar": "\"", "separatorChar": ","}
        {"EXTERNAL": "TRUE", "classification": "csv", "skip.header.line.count": "1"} EXTERNAL_TABLE
        "#);
        let commented = CsvFormat { comment: Some(b'#'), header_lines: 3, skip_lines: 2, ..CsvFormat::default() };
        let parameters = format!("{:?}", table(&TableFormat::Csv(commented)).parameters);
        insta::assert_snapshot!(parameters, @r##"{"EXTERNAL": "TRUE", "classification": "csv", "hardtack.csv.comment": "#", "hardtack.csv.skip.lines": "2", "skip.header.line.count": "3"}"##);
        let plain = CsvFormat { delimiter: b'\t', quote: None, escape: Some(b'\\'), ..CsvFormat::bare() };
        insta::assert_snapshot!(show(&table(&TableFormat::Csv(plain))), @r#"
        input  org.apache.hadoop.mapred.TextInputFormat
        output org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat
        serde  org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe
        {"escape.delim": "\\", "field.delim": "\t", "serialization.format": "\t"}
        {"EXTERNAL": "TRUE", "classification": "csv"} EXTERNAL_TABLE
        "#);
    }

    fn any_format() -> impl Strategy<Value = TableFormat> {
        // Neither digits, which Hive takes for byte values, nor the same byte twice.
        let bytes = prop::sample::subsequence(b",;|\t\x01 \"'\\^~#".to_vec(), 4).prop_shuffle();
        let lines = (0u32..3, 0u32..3);
        let csv = (bytes, any::<(bool, bool, bool)>(), lines).prop_map(|(bytes, (quote, escape, comment), lines)| {
            TableFormat::Csv(CsvFormat {
                delimiter: bytes[0],
                quote: quote.then_some(bytes[1]),
                escape: escape.then_some(bytes[2]),
                comment: comment.then_some(bytes[3]),
                header_lines: lines.0,
                skip_lines: lines.1,
            })
        });
        prop_oneof![Just(TableFormat::Parquet), Just(TableFormat::Json), Just(TableFormat::Avro), csv]
    }

    proptest! {
        #[test]
        fn a_described_format_is_recognised(format in any_format(), before in any_format()) {
            let mut table = table(&before);
            format.describe(&mut table.storage, &mut table.parameters);
            prop_assert_eq!(table.format().unwrap(), format.clone());
            prop_assert_eq!(table.format_of(&table.partition(["x"], "s3://lake/books/x")).unwrap(), format);
        }
    }

    fn foreign(serde: &str, serde_parameters: &[(&str, &str)], parameters: &[(&str, &str)]) -> Result<TableFormat> {
        let map = |entries: &[(&str, &str)]| entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let storage = StorageDescriptor {
            serde_library: (!serde.is_empty()).then(|| serde.to_owned()),
            serde_parameters: map(serde_parameters),
            ..StorageDescriptor::default()
        };
        TableFormat::of(&storage, &map(parameters))
    }

    #[rstest]
    #[case::hive_default(LAZY_SIMPLE_SERDE, &[], &[], 1, None, None, 0)]
    #[case::by_number(LAZY_SIMPLE_SERDE, &[("serialization.format", "9")], &[], 9, None, None, 0)]
    #[case::crawler(LAZY_SIMPLE_SERDE, &[("field.delim", "|")], &[(HEADER_LINES, "1")], b'|', None, None, 1)]
    #[case::tab(LAZY_SIMPLE_SERDE, &[("field.delim", "\\t")], &[], b'\t', None, None, 0)]
    #[case::quoted(OPEN_CSV_SERDE, &[], &[], b',', Some(b'"'), None, 0)]
    #[case::athena(OPEN_CSV_SERDE, &[("escapeChar", "^"), (HEADER_LINES, "2")], &[], b',', Some(b'"'), Some(b'^'), 2)]
    fn tables_of_other_tools_are_recognised(
        #[case] serde: &str,
        #[case] serde_parameters: &[(&str, &str)],
        #[case] parameters: &[(&str, &str)],
        #[case] delimiter: u8,
        #[case] quote: Option<u8>,
        #[case] escape: Option<u8>,
        #[case] header_lines: u32,
    ) {
        let expected = CsvFormat { delimiter, quote, escape, header_lines, ..CsvFormat::bare() };
        assert_eq!(foreign(serde, serde_parameters, parameters).unwrap(), TableFormat::Csv(expected));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        insta::assert_snapshot!(foreign("", &[], &[]).unwrap_err(), @"this table names no SerDe, so the format of its files is not known");
        insta::assert_snapshot!(foreign("org.apache.hadoop.hive.ql.io.orc.OrcSerde", &[], &[]).unwrap_err(), @"the format of these files is not known; Parquet, JSON, CSV and Avro are (SerDe: org.apache.hadoop.hive.ql.io.orc.OrcSerde)");
        insta::assert_snapshot!(foreign("", &[], &[("table_type", "ICEBERG")]).unwrap_err(), @"this is a table of ICEBERG, which is not read as plain files");
        insta::assert_snapshot!(foreign(LAZY_SIMPLE_SERDE, &[("field.delim", "||")], &[]).unwrap_err(), @"this parameter of the SerDe must be one ASCII character (parameter: field.delim, value: ||)");
        insta::assert_snapshot!(foreign(LAZY_SIMPLE_SERDE, &[], &[("skip.header.line.count", "x")]).unwrap_err(), @"`x` is not a number of lines (parameter: skip.header.line.count)");
        insta::assert_snapshot!(foreign(OPEN_CSV_SERDE, &[], &[("hardtack.csv.comment", "//")]).unwrap_err(), @"what begins a comment must be one ASCII character (parameter: hardtack.csv.comment)");
        insta::assert_snapshot!(foreign(OPEN_CSV_SERDE, &[], &[("hardtack.csv.skip.lines", "-1")]).unwrap_err(), @"`-1` is not a number of lines (parameter: hardtack.csv.skip.lines)");
        let mut table = table(&TableFormat::Parquet);
        table.storage.serde_library = None;
        insta::assert_snapshot!(table.format().unwrap_err(), @"this table names no SerDe, so the format of its files is not known (table: lake.books)");
    }
}
