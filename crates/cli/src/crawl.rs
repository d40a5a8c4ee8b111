//! `hardtack crawl`: finds data sets and registers them as tables.

use std::fmt::Write;

use clap::{Args, ValueEnum};
use hardtack_catalog::HiveType;
use hardtack_core::{Error, JobContext, Location, Result as CoreResult};
use hardtack_runtime::parse_bytes;
use hardtack_tables::{CrawlOptions, CrawlOutcome, CrawlReport, CrawledTable, CsvHints, Nanoseconds};

use crate::draw::count;

#[derive(Debug, Args)]
pub(crate) struct CrawlArgs {
    /// Folder, for example `s3://my-bucket/lake`: a table, or folders that are tables
    #[arg(value_name = "LOCATION")]
    location: Location,
    /// Database of the tables, for example `lake`; it is created if it does not exist
    #[arg(long, value_name = "DB")]
    database: String,
    /// Prefix of the names of new tables, for example `raw_`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    table_prefix: String,
    /// Drop partitions that have no files left; otherwise they are only reported
    #[arg(long)]
    delete_missing: bool,
    /// Maximum amount of each CSV and JSON file to read, for example `64MB` [default: every value]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    sample: Option<usize>,
    /// Names of the partition keys of new tables whose folders contain only values, as in `2023/11/14/`; for example
    /// `year,month,day` [default: partition_0, partition_1 ...]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    partition_names: Vec<String>,
    /// Level of the folders that are new tables: 1 is LOCATION, 2 the folders in it; folders below are partitions
    /// [default: detected]
    #[arg(long, value_name = "N")]
    table_level: Option<usize>,
    /// Exclude files and folders by their path below LOCATION, for example `**/*.tmp`; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Conversion of timestamps in nanoseconds, which tables do not support: `exact` refuses values finer than
    /// microseconds when they are read, `text` makes the column a string, `truncate` rounds down to microseconds
    #[arg(long, value_name = "HOW", default_value = "exact", hide_default_value = true, hide_possible_values = true)]
    nanoseconds: How,
    /// Set the type of a column, for example `price=decimal(10,2)`, if its files have several types or only texts; may
    /// be repeated. Later crawls keep it (`hardtack.types`)
    #[arg(long = "type", value_name = "COLUMN=TYPE", value_parser = parse_type)]
    types: Vec<(String, HiveType)>,
    /// Only report what would change
    #[arg(long)]
    dry_run: bool,
    // Must be last: arguments after it would appear under its heading.
    #[command(flatten)]
    csv: CsvArgs,
}

// The CSV format of new tables. Options that are not given are detected; existing tables have theirs. (A doc comment
// here would replace that of the command.)
#[derive(Debug, Args)]
#[command(next_help_heading = "CSV files of new tables")]
struct CsvArgs {
    /// Whether the first line is a header [default: detected]
    #[arg(long, value_name = "WHICH")]
    csv_header: Option<Header>,
    /// Delimiter of fields, for example `;` or `tab` [default: detected]
    #[arg(long, value_name = "CHAR", value_parser = parse_byte)]
    csv_delimiter: Option<u8>,
    /// Quote around fields that contain a delimiter, or `none` [default: `"`]
    #[arg(long, value_name = "CHAR", value_parser = parse_quote)]
    csv_quote: Option<Quote>,
    /// Escape character in quoted fields [default: a backslash, if detected]
    #[arg(long, value_name = "CHAR", value_parser = parse_byte)]
    csv_escape: Option<u8>,
    /// Number of lines to skip at the start of each file [default: comments that begin with `#`]
    #[arg(long, value_name = "N")]
    csv_skip_lines: Option<u32>,
    /// Prefix of comment lines, for example `#` (Athena does not support comments)
    #[arg(long, value_name = "CHAR", value_parser = parse_byte)]
    csv_comment: Option<u8>,
}

impl CsvArgs {
    fn hints(&self) -> CsvHints {
        CsvHints {
            delimiter: self.csv_delimiter,
            quote: self.csv_quote.map(|Quote(quote)| quote),
            escape: self.csv_escape,
            skip_lines: self.csv_skip_lines,
            comment: self.csv_comment,
            header: self.csv_header.map(|header| header == Header::Present),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Quote(Option<u8>);

fn parse_type(text: &str) -> Result<(String, HiveType), String> {
    match text.split_once('=') {
        Some((name, of)) if !name.is_empty() => Ok((name.to_owned(), of.parse().map_err(|e: Error| e.to_string())?)),
        _ => Err("expected a column and a type, for example `price=decimal(10,2)`".to_owned()),
    }
}

fn parse_byte(text: &str) -> Result<u8, String> {
    match (text, text.as_bytes()) {
        ("tab" | "\\t", _) => Ok(b'\t'),
        (_, [byte]) if byte.is_ascii() => Ok(*byte),
        _ => Err("this must be one ASCII character, or `tab`".to_owned()),
    }
}

fn parse_quote(text: &str) -> Result<Quote, String> {
    if text == "none" { Ok(Quote(None)) } else { parse_byte(text).map(|byte| Quote(Some(byte))) }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum How {
    Exact,
    Text,
    Truncate,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Header {
    Present,
    Absent,
}

/// Crawls, and returns a report and whether there were problems.
pub(crate) async fn crawl(ctx: &JobContext, args: CrawlArgs) -> CoreResult<(String, bool)> {
    let options = CrawlOptions {
        table_prefix: args.table_prefix,
        delete_missing: args.delete_missing,
        dry_run: args.dry_run,
        csv: args.csv.hints(),
        sample_bytes: args.sample.map(|bytes| bytes as u64),
        partition_names: args.partition_names,
        table_level: args.table_level,
        exclude: args.exclude,
        nanoseconds: match args.nanoseconds {
            How::Exact => Nanoseconds::Exact,
            How::Text => Nanoseconds::Text,
            How::Truncate => Nanoseconds::Truncate,
        },
        types: args.types.into_iter().collect(),
    };
    let report = hardtack_tables::crawl(ctx, &args.location, &args.database, &options).await?;
    Ok((render(&report, args.dry_run), !report.problems.is_empty()))
}

/// The number of partition names that are shown.
const MAX_SHOWN: usize = 5;

fn render(report: &CrawlReport, dry_run: bool) -> String {
    let mut text = String::new();
    for table in &report.tables {
        render_table(&mut text, table);
    }
    for problem in &report.problems {
        let table = problem.table.as_ref().map(|table| format!("{table}: ")).unwrap_or_default();
        let _ = writeln!(text, "problem at {}\n    {table}{}", problem.location, problem.message);
    }
    let of = |outcome| report.tables.iter().filter(|table| table.outcome == outcome).count();
    let verb = if dry_run { "would be " } else { "" };
    let _ = writeln!(
        text,
        "{}: {} {verb}created, {} {verb}updated, {} unchanged; {}",
        count(report.tables.len(), "table"),
        of(CrawlOutcome::Created),
        of(CrawlOutcome::Updated),
        of(CrawlOutcome::Unchanged),
        count(report.problems.len(), "problem"),
    );
    text
}

fn render_table(text: &mut String, table: &CrawledTable) {
    let outcome = match table.outcome {
        CrawlOutcome::Created => "created",
        CrawlOutcome::Updated => "updated",
        CrawlOutcome::Unchanged => "unchanged",
    };
    let _ = writeln!(text, "{outcome:9} {}  {}  {}", table.name, table.format, table.location);
    let mut line = |what: &str, of: String| {
        let _ = writeln!(text, "    {what}{of}");
    };
    let columns = |columns: &[hardtack_catalog::Column]| {
        columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect::<Vec<_>>().join(", ")
    };
    if table.outcome == CrawlOutcome::Created {
        line("columns: ", columns(&table.columns_added));
        if !table.partition_keys.is_empty() {
            line("partitioned by: ", columns(&table.partition_keys));
        }
    } else {
        if !table.columns_added.is_empty() {
            line("new columns: ", columns(&table.columns_added));
        }
        for column in &table.columns_retyped {
            line("new type: ", format!("{} from {} to {}", column.name, column.from, column.to));
        }
        if table.statistics {
            line("other statistics", String::new());
        }
    }
    let p = &table.partitions;
    let kinds = [("added", &p.added), ("updated", &p.updated), ("without files", &p.missing), ("dropped", &p.dropped)];
    for (what, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
        let more = if names.len() > MAX_SHOWN { ", ..." } else { "" };
        let shown = names[..names.len().min(MAX_SHOWN)].join(", ");
        line(&format!("{} {what}: ", count(names.len(), "partition")), shown + more);
    }
    for note in &table.notes {
        line("note: ", note.clone());
    }
}
