//! Prints rows as text.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use hardtack_core::{Error, Result};
use hardtack_sinks::{check_moments, json_lines};
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;

use super::Format;
use crate::draw::{Drawing, count};

/// The destination of text.
#[derive(Debug)]
pub(super) enum Out {
    Stdout,
    /// An object, which appears when it is finished.
    Object(Box<BufWriter>),
}

impl Out {
    pub(super) fn object(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self::Object(Box::new(BufWriter::new(store, path)))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match self {
            Self::Stdout => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
            Self::Object(object) => object.write_all(bytes).await,
        };
        written.map_err(|e| match e.kind() {
            // `| head` has closed the pipe.
            std::io::ErrorKind::BrokenPipe => Error::new(hardtack_core::ErrorKind::Stopped, "the output was closed"),
            _ => Error::unavailable("the rows cannot be written").because(e),
        })
    }
}

/// Prints the rows of queries in parts, because a result may be larger than memory.
#[derive(Debug)]
pub(super) struct Printer {
    pub(super) out: Out,
    pub(super) format: Format,
    /// The width of the terminal; `None` if rows are not printed to one.
    pub(super) width: Option<usize>,
}

/// The number of rows that determine the widths of columns.
const ROWS_FOR_WIDTHS: usize = 1000;

impl Printer {
    pub(super) fn new(out: Out, format: Format, width: Option<usize>) -> Self {
        Self { out, format, width }
    }

    /// Prints all rows.
    pub(super) async fn print(&mut self, rows: SendableRecordBatchStream) -> Result<()> {
        match self.format {
            Format::Table if is_plan(&rows.schema()) => self.plans(rows).await,
            Format::Table => self.table(rows).await,
            Format::Csv => self.csv(rows).await,
            Format::Json => self.json(rows).await,
            Format::Parquet => Err(Error::usage("Parquet cannot be printed; name a file: `--output FILE`")),
        }
    }

    /// Makes a written object visible.
    pub(super) async fn finish(self) -> Result<()> {
        match self.out {
            Out::Object(mut object) => {
                object.shutdown().await.map_err(|e| Error::unavailable("the file cannot be written").because(e))
            }
            _ => Ok(()),
        }
    }

    async fn table(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        let schema = rows.schema();
        let columns = schema.fields().iter().map(|f| (f.name(), f.data_type().is_numeric()));
        let (mut drawing, mut total) = (Drawing::new(columns, self.width), 0);
        let (mut waiting, mut begun) = (Vec::new(), false);
        loop {
            let batch = rows.try_next().await?;
            if let Some(batch) = &batch {
                total += batch.num_rows();
                waiting.extend(cells(batch)?);
            }
            if waiting.len() < ROWS_FOR_WIDTHS && batch.is_some() {
                continue;
            }
            let header = if begun { String::new() } else { drawing.header(&waiting) };
            begun = true;
            self.out.write((header + &drawing.rows(&waiting)).as_bytes()).await?;
            waiting.clear();
            if batch.is_none() {
                return self.out.write(format!("({})\n", count(total, "row")).as_bytes()).await;
            }
        }
    }

    /// Prints a plan, which has lines of its own and needs no frame.
    async fn plans(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = rows.try_next().await? {
            for row in cells(&batch)? {
                let text = row.iter().map(|cell| cell.trim_end()).collect::<Vec<_>>().join("\n");
                self.out.write((text + "\n\n").as_bytes()).await?;
            }
        }
        Ok(())
    }

    async fn csv(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        let mut batch = Some(RecordBatch::new_empty(rows.schema()));
        let mut header = true;
        while let Some(rows_of) = batch {
            check_moments(&rows_of)?;
            let mut text = Vec::new();
            let mut writer = csv::WriterBuilder::new().with_header(header).build(&mut text);
            writer
                .write(&rows_of)
                .map_err(|e| Error::usage("these rows cannot be written as CSV; use JSON").because(e))?;
            drop(writer);
            self.out.write(&text).await?;
            header = false;
            batch = rows.try_next().await?;
        }
        Ok(())
    }

    async fn json(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = rows.try_next().await? {
            self.out.write(&json_lines(&batch)?).await?;
        }
        Ok(())
    }
}

/// Whether these are the rows of `EXPLAIN`.
fn is_plan(schema: &SchemaRef) -> bool {
    schema.fields().iter().map(|f| f.name().as_str()).eq(["plan_type", "plan"])
}

fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    check_moments(batch)?;
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let schema: &Schema = batch.schema_ref();
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        ArrayFormatter::try_new(column, &options).map_err(|e| {
            Error::usage("this column cannot be displayed; cast it").with("column", field.name()).because(e)
        })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let row = |i: usize| columns.iter().map(|column| column.value(i).to_string()).collect();
    Ok((0..batch.num_rows()).map(row).collect())
}
