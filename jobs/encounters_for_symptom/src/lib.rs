//! Keeps the encounters for a symptom whose reason is known, in a lake that is partitioned by the day of their start.

use hardtack::prelude::*;

/// Where from and where to.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Args {
    /// Folder that holds `encounters.csv` or `encounters/`, for example `s3://my-bucket` or `fixtures/synthea`
    #[arg(long, env = "SOURCE", value_name = "LOCATION", default_value = "fixtures/synthea")]
    pub source: Location,

    /// Lake root that gets `encounters_for_symptom/`, for example `s3://my-bucket` or `target/lake`
    #[arg(long, env = "TARGET", value_name = "LOCATION", default_value = "target/lake")]
    pub target: Location,
}

/// The encounters as Synthea exports them.
pub fn encounters(args: &Args) -> CsvFiles {
    CsvFiles::new("encounters", args.source.join("encounters")).file_or_folder().with_schema(schema! {
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

/// A folder for every day, made anew by every run.
pub fn encounters_for_symptom(args: &Args) -> ParquetDataset {
    ParquetDataset::new("encounters_for_symptom", args.target.join("encounters_for_symptom"))
        .overwrite()
        .partition_by(["year", "month", "day"])
        .with_compression(Compression::Snappy)
}

/// Reads like a flow chart of the job: load, clean, save.
///
/// # Errors
/// Those of the source and the sink.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let encounters = ctx.load(encounters(ctx.args())).await?;
    ctx.save(encounters_for_symptom(ctx.args()), for_symptom(encounters)?).await
}

/// The different encounters for a symptom that have a reason, with the day (in UTC) of their start in its place.
fn for_symptom(encounters: DataFrame) -> Result<DataFrame> {
    let different = drop_duplicates(encounters, &[])?;
    let for_symptom = different.filter(contains(col("description"), lit("Encounter for symptom")))?;
    let with_reason = drop_nulls(for_symptom, &["reasoncode"])?;
    drop_columns(split_date(with_reason, "start")?, &["start"])
}

#[cfg(test)]
mod tests;
