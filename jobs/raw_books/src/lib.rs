//! Loads delivered books into the raw layer.

use hardtack::prelude::*;

/// Where to read and write.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Lake root that holds `sample_data/`", "fixtures/lake", ["books"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `raw/books`", "target/lake", ["raw_books"])))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The delivered books, one JSON object each.
pub fn books(args: &Args) -> Dataset<JsonFiles> {
    args.source.json("books", "sample_data/json/books").with_schema(schema! {
        title: string not null,
        publish_date: date,
        author: string,
    })
}

/// The table of raw books, rebuilt by every run.
pub fn raw_books(args: &Args) -> Dataset<ParquetDataset> {
    args.target.parquet("raw_books", "raw/books").overwrite().with_schema(schema! {
        title: string not null,
        publish_date: date,
        author_name: string,
    })
}

/// When the job runs, and what it needs.
pub fn job() -> Job {
    hardtack::job!()
        .owner("books-data@example.com")
        .tag("domain", "books")
        .schedule("cron(30 3 * * ? *)")
        .timeout(TimeDelta::minutes(30))
        .attempts(3)
        .vcpus(0.5)
        .memory_mib(1024)
}

/// Reads like a flow chart of the job: load, transform, save.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let books = ctx.load(books(ctx.args())).await?;
    ctx.save(raw_books(ctx.args()), in_our_words(books)?).await
}

fn in_our_words(books: DataFrame) -> Result<DataFrame> {
    rename(books, &[("author", "author_name")])
}

#[cfg(test)]
mod tests;
