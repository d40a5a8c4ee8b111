//! Keeps the encounters for a symptom whose reason is known, in a lake partitioned by the day of their start.

use hardtack::prelude::*;

/// Where to read and write.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Folder that holds `encounters.csv` or `encounters/`", "fixtures/synthea", ["encounters"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `encounters_for_symptom/`", "target/lake", ["encounters_for_symptom"])))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The encounters, as Synthea exports them.
pub fn encounters(args: &Args) -> Dataset<CsvFiles> {
    args.source.csv("encounters", "encounters").file_or_folder().with_schema(schema! {
        id: string,
        start: timestamp,
        stop: timestamp,
        patient: string,
        organization: string,
        provider: string,
        payer: string,
        encounterclass: string,
        code: bigint,
        description: string,
        base_encounter_cost: double,
        total_claim_cost: double,
        payer_coverage: double,
        reasoncode: bigint,
        reasondescription: string,
    })
}

/// One folder per day, rebuilt by every run.
pub fn encounters_for_symptom(args: &Args) -> Dataset<ParquetDataset> {
    args.target
        .parquet("encounters_for_symptom", "encounters_for_symptom")
        .overwrite()
        .partition_by(["year", "month", "day"])
        .with_compression(Compression::Snappy)
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
    let encounters = ctx.load(encounters(ctx.args())).await?;
    ctx.save(encounters_for_symptom(ctx.args()), for_symptom(encounters)?).await
}

/// The distinct encounters for a symptom that have a reason, with the day (in UTC) of their start in its place.
fn for_symptom(encounters: DataFrame) -> Result<DataFrame> {
    let different = drop_duplicates(encounters, &[])?;
    let for_symptom = different.filter(contains(col("description"), lit("Encounter for symptom")))?;
    let with_reason = drop_nulls(for_symptom, &["reasoncode"])?;
    drop_columns(split_date(with_reason, "start")?, &["start"])
}

#[cfg(test)]
mod tests;
