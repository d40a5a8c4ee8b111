//! Joins books to their authors into the `books` data product.

use hardtack::prelude::*;

/// Where from and where to.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Args {
    /// Lake root that holds `sample_data/`, for example `s3://my-bucket` or `fixtures/lake`
    #[arg(long, env = "SOURCE", value_name = "LOCATION", default_value = "fixtures/lake")]
    pub source: Location,

    /// Lake root that gets `books`, for example `s3://my-bucket` or `target/lake`
    #[arg(long, env = "TARGET", value_name = "LOCATION", default_value = "target/lake")]
    pub target: Location,

    /// Database of the catalog whose tables `books` and `authors` are read in place of the files, for example `raw`
    #[arg(long, env = "SOURCE_DATABASE", value_name = "DATABASE")]
    pub source_database: Option<DatabaseName>,

    /// Database of the catalog whose table `books` is written, over the files in the target, for example `glue_reference`
    #[arg(long, env = "TARGET_DATABASE", value_name = "DATABASE")]
    pub target_database: Option<DatabaseName>,
}

/// The books as they are delivered.
pub fn books(args: &Args) -> OrTable<JsonFiles> {
    let files = JsonFiles::new("books", args.source.join("sample_data/json/books")).with_schema(schema! {
        title: string not null,
        publish_date: date,
        author: string,
    });
    files.in_database(args.source_database.as_ref(), "books")
}

/// The authors as they are delivered.
pub fn authors(args: &Args) -> OrTable<JsonFiles> {
    let files = JsonFiles::new("authors", args.source.join("sample_data/json/authors")).with_schema(schema! {
        name: string not null,
        id: bigint not null,
        birth_date: date,
    });
    files.in_database(args.source_database.as_ref(), "authors")
}

/// One wide table for all readers, made anew by every run.
pub fn data_product(args: &Args) -> OrTable<ParquetDataset> {
    let files = ParquetDataset::new("books", args.target.join("books")).overwrite();
    files.in_database(args.target_database.as_ref(), "books")
}

/// Reads like a flow chart of the job: load, transform, save.
///
/// # Errors
/// Those of the sources and the sink.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let books = ctx.load(books(ctx.args())).await?;
    let authors = ctx.load(authors(ctx.args())).await?;
    ctx.save(data_product(ctx.args()), with_author(books, authors)?).await
}

/// Every book once for each author of its author's name, or once without.
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
