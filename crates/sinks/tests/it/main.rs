//! Sinks against real files and the in-memory store: what is visible when, and with which content.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test looks at files and stops where it fails")]

mod compact;
mod contract;
mod failures;
mod interop;
mod parquet;
mod reprocessing;
mod text;
mod writer;

use std::path::{Path, PathBuf};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{DataFrame, ParquetReadOptions};
use hardtack_core::{JobContext, Sink, Staged};

/// A context with a fixed run id.
fn context(run: &str) -> JobContext {
    JobContext::builder("job").run_id(run.parse().unwrap()).threads(2).build().unwrap()
}

async fn sql(ctx: &JobContext, query: &str) -> DataFrame {
    ctx.session().sql(query).await.unwrap()
}

async fn save(ctx: &JobContext, sink: &impl Sink, query: &str) -> Staged {
    let staged = sink.stage(&ctx.staging("out"), sql(ctx, query).await).await.unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    staged
}

/// All files below a folder, hidden ones too, as paths relative to it.
fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(folder, &mut found);
    // Omits the run's token, which is random.
    let name = |path: &PathBuf| {
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
        match name.rsplit_once('-') {
            Some((before, token)) if token.len() == "12345678.parquet".len() => format!("{before}.parquet"),
            _ => name.to_owned(),
        }
    };
    let mut names: Vec<_> = found.iter().map(name).collect();
    names.sort();
    names
}

fn table(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

/// The rows of all Parquet files in a folder, as DataFusion's own reader sees them, sorted by all columns.
async fn read(ctx: &JobContext, folder: &str) -> String {
    let rows = ctx.session().read_parquet(folder, ParquetReadOptions::default()).await.unwrap();
    let order =
        rows.schema().columns().into_iter().map(|c| datafusion::prelude::Expr::from(c).sort(true, true)).collect();
    table(&rows.sort(order).unwrap().collect().await.unwrap())
}

/// The only file whose name begins with `begins`.
fn only_file(folder: &Path, begins: &str) -> PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(begins)).unwrap()
}
