//! Joins books to their authors into the `books` data product.

use hardtack::prelude::*;

/// Where to read and write.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Lake root that holds `sample_data/`", "fixtures/lake", ["books", "authors"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `books`", "target/lake", ["books"])))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The delivered books.
pub fn books(args: &Args) -> Dataset<JsonFiles> {
    args.source.json("books", "sample_data/json/books").with_schema(schema! {
        title: string not null,
        publish_date: date,
        author: string,
    })
}

/// The delivered authors.
pub fn authors(args: &Args) -> Dataset<JsonFiles> {
    args.source.json("authors", "sample_data/json/authors").with_schema(schema! {
        name: string not null,
        id: bigint not null,
        birth_date: date,
    })
}

/// One wide table for all readers, rebuilt by every run.
pub fn data_product(args: &Args) -> Dataset<ParquetDataset> {
    args.target.parquet("books", "books").overwrite()
}

/// What the rows must be like to be published.
pub fn rules() -> Rules {
    Rules::dqdl(include_str!("../quality.dqdl"))
}

/// When the job runs, and what it needs.
pub fn job() -> Job {
    hardtack::job!()
        .owner("books-data@example.com")
        .tag("domain", "books")
        .schedule("cron(0 4 * * ? *)")
        .timeout(TimeDelta::minutes(30))
        .attempts(3)
        .vcpus(1.0)
        .memory_mib(2048)
}

/// Reads like a flow chart of the job: load, transform, save.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let books = ctx.load(books(ctx.args())).await?;
    let authors = ctx.load(authors(ctx.args())).await?;
    ctx.save(data_product(ctx.args()).audited(rules()), with_author(books, authors)?).await
}

/// Every book, once for each author with its author's name, or once without an author.
fn with_author(books: DataFrame, authors: DataFrame) -> Result<DataFrame> {
    let joined = books.join(authors, JoinType::Left, &["author"], &["name"], None)?;
    Ok(joined.select([
        col("title"),
        col("publish_date"),
        col("author").alias("author_name"),
        col("birth_date").alias("author_birth_date"),
        col("id").alias("author_id"),
    ])?)
}

#[cfg(test)]
mod tests;
