//! Loads books, as they are delivered, into the raw layer.

use hardtack::prelude::*;

/// Where from and where to.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Args {
    /// Lake root that holds `sample_data/`, for example `s3://my-bucket` or `fixtures/lake`
    #[arg(long, env = "SOURCE", value_name = "LOCATION", default_value = "fixtures/lake")]
    pub source: Location,

    /// Lake root that gets `raw/books`, for example `s3://my-bucket` or `target/lake`
    #[arg(long, env = "TARGET", value_name = "LOCATION", default_value = "target/lake")]
    pub target: Location,

    /// Database of the catalog whose table `books` is read in place of the files, for example `raw`
    #[arg(long, env = "SOURCE_DATABASE", value_name = "DATABASE")]
    pub source_database: Option<DatabaseName>,

    /// Database of the catalog whose table `raw_books` is written, over the files in the target, for example `glue_reference`
    #[arg(long, env = "TARGET_DATABASE", value_name = "DATABASE")]
    pub target_database: Option<DatabaseName>,
}

/// The books as they are delivered, one JSON object each.
pub fn books(args: &Args) -> OrTable<JsonFiles> {
    let files = JsonFiles::new("books", args.source.join("sample_data/json/books")).with_schema(schema! {
        title: string not null,
        publish_date: date,
        author: string,
    });
    files.in_database(args.source_database.as_ref(), "books")
}

/// The table of raw books, made anew by every run.
pub fn raw_books(args: &Args) -> OrTable<ParquetDataset> {
    let files = ParquetDataset::new("raw_books", args.target.join("raw/books")).overwrite().with_schema(schema! {
        title: string not null,
        publish_date: date,
        author_name: string,
    });
    files.in_database(args.target_database.as_ref(), "raw_books")
}

/// Reads like a flow chart of the job: load, transform, save.
///
/// # Errors
/// Those of the source and the sink.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let books = ctx.load(books(ctx.args())).await?;
    ctx.save(raw_books(ctx.args()), in_our_words(books)?).await
}

fn in_our_words(books: DataFrame) -> Result<DataFrame> {
    rename(books, &[("author", "author_name")])
}

#[cfg(test)]
mod tests;
