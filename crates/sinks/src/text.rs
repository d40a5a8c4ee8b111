//! Single text files: CSV and JSON lines.

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::error::DataFusionError;
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use hardtack_core::{Error, Location, PublishAction, Report, Result, ShowFields, Sink, StageContext, Staged};

/// A single CSV file, replaced by each run. It is compressed if its name ends in `.gz`, `.zst`, `.bz2` or `.xz`.
///
/// The order of rows is that of the plan if it ends in a sort; otherwise it is arbitrary. The header is written even if
/// there are no rows. Null and the empty string are both written as an empty field; set a null text to distinguish
/// them.
///
/// ```
/// use hardtack_sinks::CsvFile;
///
/// let report = CsvFile::new("report", "out/report.csv.gz").with_delimiter(b';');
/// ```
#[derive(Clone, PartialEq)]
pub struct CsvFile {
    name: String,
    location: Location,
    schema: Option<SchemaRef>,
    delimiter: u8,
    header: bool,
    null: String,
    merges: bool,
}

impl CsvFile {
    /// Creates a sink for the file at `location`, separated by commas, with a header.
    pub fn new(name: impl Into<String>, location: impl Into<Location>) -> Self {
        let (name, location) = (name.into(), location.into());
        Self { name, location, schema: None, delimiter: b',', header: true, null: String::new(), merges: false }
    }

    /// Declares the schema that the rows must conform to.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<SchemaRef>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Says that the file includes the earlier rows that are to stay, or that each run writes a file of its own. Only then may
    /// it have the rows of a [bookmarked](hardtack_core::bookmarks) source: it replaces a file that is there.
    #[must_use]
    pub fn merges(mut self) -> Self {
        self.merges = true;
        self
    }

    /// Sets the byte that separates values.
    #[must_use]
    pub fn with_delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Writes no header.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.header = false;
        self
    }

    /// Sets the text that represents null (empty by default).
    #[must_use]
    pub fn with_null_text(mut self, text: impl Into<String>) -> Self {
        self.null = text.into();
        self
    }

    fn encode(&self, batch: &RecordBatch, first: bool) -> Result<Vec<u8>> {
        crate::check_moments(batch)?;
        let mut text = Vec::new();
        let mut writer = csv::WriterBuilder::new()
            .with_delimiter(self.delimiter)
            .with_header(self.header && first)
            .with_null(self.null.clone())
            .build(&mut text);
        writer.write(batch)?;
        drop(writer);
        Ok(text)
    }
}

impl std::fmt::Debug for CsvFile {
    /// Shows the options that differ from the defaults.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("CsvFile");
        f.field("name", &self.name).field("location", &self.location.as_str());
        if let Some(schema) = &self.schema {
            f.field("schema", &ShowFields(schema.fields()));
        }
        if self.delimiter != b',' {
            f.field("delimiter", &char::from(self.delimiter));
        }
        if !self.header {
            f.field("header", &false);
        }
        if !self.null.is_empty() {
            f.field("null", &self.null);
        }
        if self.merges {
            f.field("merges", &true);
        }
        f.finish()
    }
}

#[async_trait]
impl Sink for CsvFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> Option<Location> {
        Some(self.location.clone())
    }

    fn declared_schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    fn replaces(&self) -> bool {
        !self.merges
    }

    // The file is replaced by completing an upload.
    fn deletes(&self) -> bool {
        false
    }

    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged> {
        let rows = self.conform(ctx, rows).await?;
        let sink = self.clone();
        stage_text(ctx, &self.location, rows, move |batch, first| sink.encode(batch, first)).await
    }

    async fn conform(&self, _ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        let rows = crate::contract(rows, self.schema.as_ref())?;
        if let Some(nested) = rows.schema().fields().iter().find(|f| f.data_type().is_nested()) {
            return Err(Error::usage(format!("CSV does not support the column `{}`", nested.name()))
                .with("type", nested.data_type())
                .hint("flatten it, or write JSON lines or Parquet"));
        }
        Ok(rows)
    }
}

/// A single file of JSON objects, one per line, replaced by each run. It is compressed if its name ends in `.gz`,
/// `.zst`, `.bz2` or `.xz`.
///
/// Nulls are written (`"x":null`), so every line has all columns; the order of rows is as for [`CsvFile`].
///
/// ```
/// use hardtack_sinks::JsonLines;
///
/// let export = JsonLines::new("export", "s3://out/export.jsonl.zst");
/// ```
#[derive(Clone, PartialEq)]
pub struct JsonLines {
    name: String,
    location: Location,
    schema: Option<SchemaRef>,
    merges: bool,
}

impl JsonLines {
    /// Creates a sink for the file at `location`.
    pub fn new(name: impl Into<String>, location: impl Into<Location>) -> Self {
        Self { name: name.into(), location: location.into(), schema: None, merges: false }
    }

    /// Says that the file includes the earlier rows that are to stay, or that each run writes a file of its own. Only then may
    /// it have the rows of a [bookmarked](hardtack_core::bookmarks) source: it replaces a file that is there.
    #[must_use]
    pub fn merges(mut self) -> Self {
        self.merges = true;
        self
    }

    /// Declares the schema that the rows must conform to.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<SchemaRef>) -> Self {
        self.schema = Some(schema.into());
        self
    }
}

impl std::fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("JsonLines");
        f.field("name", &self.name).field("location", &self.location.as_str());
        if let Some(schema) = &self.schema {
            f.field("schema", &ShowFields(schema.fields()));
        }
        if self.merges {
            f.field("merges", &true);
        }
        f.finish()
    }
}

#[async_trait]
impl Sink for JsonLines {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> Option<Location> {
        Some(self.location.clone())
    }

    fn declared_schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    fn replaces(&self) -> bool {
        !self.merges
    }

    // The file is replaced by completing an upload.
    fn deletes(&self) -> bool {
        false
    }

    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged> {
        let rows = crate::contract(rows, self.schema.as_ref())?;
        stage_text(ctx, &self.location, rows, |batch, _| crate::json_lines(batch)).await
    }

    async fn conform(&self, _ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        crate::contract(rows, self.schema.as_ref())
    }
}

fn compression(location: &Location) -> FileCompressionType {
    let name = location.as_str();
    FileCompressionType::from(match name.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("gz") => CompressionTypeVariant::GZIP,
        Some("zst") => CompressionTypeVariant::ZSTD,
        Some("bz2") => CompressionTypeVariant::BZIP2,
        Some("xz") => CompressionTypeVariant::XZ,
        _ => CompressionTypeVariant::UNCOMPRESSED,
    })
}

/// Stages one file: batches are encoded, compressed and written as they arrive.
async fn stage_text(
    ctx: &StageContext,
    location: &Location,
    rows: DataFrame,
    encode: impl Fn(&RecordBatch, bool) -> Result<Vec<u8>> + Send + Sync + 'static,
) -> Result<Staged> {
    if location.resolve()?.folder {
        return Err(Error::usage(format!(
            "`{location}` is a folder; name the file, such as `{}`",
            location.join("rows.csv")
        )));
    }
    let root = parent(location)?;
    crate::refuse_append_only(ctx, &root).await?;
    let meter = ctx.meter();
    let schema: SchemaRef = rows.schema().as_arrow().clone().into();
    // An empty batch first, so that the header is written even without rows.
    let batches = futures::stream::iter([Ok(RecordBatch::new_empty(schema))]).chain(ctx.execute(rows).await?);
    let text = batches.enumerate().map(move |(i, batch)| {
        let batch = batch?;
        encode(&batch, i == 0).map(Bytes::from).map_err(DataFusionError::from)
    });
    let mut bytes = compression(location).convert_to_compress_stream(text.boxed())?;
    let mut file = ctx.stage_file(&root, location).await?;
    while let Some(chunk) = bytes.next().await.transpose()? {
        meter.add_bytes(chunk.len() as u64);
        file.write(chunk).await?;
    }
    let action = file.finish().await?;
    meter.add_files(1);
    let counts = meter.counts();
    let bytes = match &action {
        PublishAction::CompleteUpload { bytes, .. } | PublishAction::RenameFile { bytes, .. } => *bytes,
        _ => 0,
    };
    let report = Report { files: 1, rows: counts.rows, bytes };
    Ok(Staged { report, publish: vec![action], location: None })
}

/// The folder that a file is in.
fn parent(location: &Location) -> Result<Location> {
    let resolved = location.resolve()?;
    let parent = resolved.path.parent().ok_or_else(|| Error::usage(format!("`{location}` has no file name")))?;
    Ok(Location::of(&resolved.store, &parent))
}
