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
}

/// The books as they are delivered, one JSON object each.
pub fn books(args: &Args) -> JsonFiles {
    JsonFiles::new("books", args.source.join("sample_data/json/books")).with_schema(schema! {
        title: string not null,
        publish_date: date,
        author: string,
    })
}

/// The table of raw books, made anew by every run.
pub fn raw_books(args: &Args) -> ParquetDataset {
    ParquetDataset::new("raw_books", args.target.join("raw/books")).overwrite().with_schema(schema! {
        title: string not null,
        publish_date: date,
        author_name: string,
    })
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
