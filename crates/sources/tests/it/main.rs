//! Sources against real files: on the file system, and in the memory store.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod avro;
mod bookmarks;
mod by_id;
mod changed;
mod corrupt;
mod csv;
mod damaged;
mod dialect;
mod files;
mod folders;
mod inspect;
mod json;
mod memory;
mod parquet;
mod values;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches_with_schema;
use hardtack_core::{JobContext, Location, Result, Source};
use object_store::ObjectStoreExt;

/// A context with its own memory store, whose plans have `threads` partitions.
fn context(threads: usize) -> JobContext {
    JobContext::builder("test").threads(threads).build().unwrap()
}

/// A context with these files in its memory store, below `memory:/`.
async fn with_files<B: Into<bytes::Bytes>>(files: impl IntoIterator<Item = (&str, B)>) -> JobContext {
    let ctx = context(1);
    for (path, content) in files {
        put(&ctx, path, content).await;
    }
    ctx
}

async fn put(ctx: &JobContext, path: &str, content: impl Into<bytes::Bytes>) {
    let (store, path) = ctx.stores().open(&Location::from("memory:/").join(path)).unwrap();
    store.objects.put(&path, content.into().into()).await.unwrap();
}

async fn rows(ctx: &JobContext, source: impl Source) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    // Not through `ctx`, where names are identities: tests load variants of one source.
    let rows = source.load(&ctx.loading(source.name())).await?;
    Ok((Arc::clone(rows.schema().inner()), rows.collect().await?))
}

async fn collect(ctx: &JobContext, source: impl Source) -> Result<Vec<RecordBatch>> {
    Ok(rows(ctx, source).await?.1)
}

/// The rows as a table, or the error in one line.
async fn show(ctx: &JobContext, source: impl Source) -> String {
    match rows(ctx, source).await {
        Ok((schema, batches)) => pretty_format_batches_with_schema(schema, &batches).unwrap().to_string(),
        Err(error) => format!("{}: {}", error.kind().name(), error.chain()),
    }
}

/// The names and types of the columns in one line.
async fn types(ctx: &JobContext, source: impl Source) -> String {
    let schema = source.schema(&ctx.loading("a")).await.unwrap();
    schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ")
}

/// A schema of nullable columns.
fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Fields>()))
}
