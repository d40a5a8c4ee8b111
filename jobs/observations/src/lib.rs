//! Loads observations into a lake partitioned by day, each of them once.

use hardtack::prelude::*;

/// Where to read and write.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe(
    "Folder that holds `observations.csv` or `observations/`",
    "fixtures/synthea",
    ["observations"]
)))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `observations/`", "target/lake", ["observations"])))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The observations, as Synthea exports them. Values are texts: not all of them are numbers.
pub fn delivered(args: &Args) -> Dataset<CsvFiles> {
    args.source.csv("observations", "observations").file_or_folder().with_schema(schema! {
        date: timestamp,
        patient: string,
        encounter: string,
        category: string,
        code: string,
        description: string,
        value: string,
        units: string,
        type: string,
    })
}

/// One folder per day, rebuilt by every run.
pub fn observations(args: &Args) -> Dataset<ParquetDataset> {
    args.target
        .parquet("observations", "observations")
        .overwrite()
        .partition_by(["year", "month", "day"])
        .with_compression(Compression::Snappy)
}

/// What the rows must be like to be published.
pub fn rules() -> Rules {
    Rules::dqdl(include_str!("../quality.dqdl"))
}

/// When the job runs, and what it needs.
pub fn job() -> Job {
    hardtack::job!()
        .owner("health-data@example.com")
        .tag("domain", "health")
        .timeout(TimeDelta::minutes(60))
        .attempts(3)
        .vcpus(2.0)
        .memory_mib(4096)
}

/// Reads like a flow chart of the job: load, clean, save.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let delivered = ctx.load(delivered(ctx.args())).await?;
    ctx.save(observations(ctx.args()).audited(rules()), by_day(delivered)?).await
}

/// The distinct observations, with their day (in UTC) instead of their date.
fn by_day(observations: DataFrame) -> Result<DataFrame> {
    let different = drop_duplicates(observations, &[])?;
    drop_columns(split_date(different, "date")?, &["date"])
}

#[cfg(test)]
mod tests;
