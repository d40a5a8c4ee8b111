//! Joins diagnoses of sinusitis to their patients, for a study of the age at diagnosis.

use hardtack::prelude::*;

/// Where to read and write.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe(
    "Folder that holds `conditions.csv` and `patients.csv` (or folders of files)",
    "fixtures/synthea",
    ["conditions", "patients"]
)))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `sinusitis_study/`", "target/lake", ["sinusitis_study"])))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The conditions, as Synthea exports them.
pub fn conditions(args: &Args) -> Dataset<CsvFiles> {
    args.source.csv("conditions", "conditions").file_or_folder().with_schema(schema! {
        start: date,
        stop: date,
        patient: string,
        encounter: string,
        code: bigint,
        description: string,
    })
}

/// The patients, as Synthea exports them.
pub fn patients(args: &Args) -> Dataset<CsvFiles> {
    args.source.csv("patients", "patients").file_or_folder().with_schema(schema! {
        id: string,
        birthdate: date,
        deathdate: date,
        ssn: string,
        drivers: string,
        passport: string,
        prefix: string,
        first: string,
        last: string,
        suffix: string,
        maiden: string,
        marital: string,
        race: string,
        ethnicity: string,
        gender: string,
        birthplace: string,
        address: string,
        city: string,
        state: string,
        county: string,
        zip: string,
        lat: double,
        lon: double,
        healthcare_expenses: double,
        healthcare_coverage: double,
    })
}

/// One file for the study, rebuilt by every run.
pub fn sinusitis_study(args: &Args) -> Dataset<ParquetDataset> {
    args.target.parquet("sinusitis_study", "sinusitis_study").overwrite().with_compression(Compression::Snappy)
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

/// Reads like a flow chart of the job: load, join, select, save.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let conditions = ctx.load(conditions(ctx.args())).await?;
    let patients = ctx.load(patients(ctx.args())).await?;

    let diagnoses = of_patients(conditions, patients)?;
    let sinusitis = complete(of_sinusitis(diagnoses)?)?;

    ctx.save(sinusitis_study(ctx.args()), with_age(sinusitis)?).await
}

/// The columns of the study.
const COLUMNS: [&str; 11] = [
    "start",
    "stop",
    "patient",
    "encounter",
    "code",
    "description",
    "birthdate",
    "marital",
    "race",
    "ethnicity",
    "gender",
];

/// The distinct pairs of a condition and its patient.
fn of_patients(conditions: DataFrame, patients: DataFrame) -> Result<DataFrame> {
    let joined = conditions.join(patients, JoinType::Inner, &["patient"], &["id"], None)?;
    Ok(drop_duplicates(joined, &[])?.select_columns(&COLUMNS)?)
}

fn of_sinusitis(diagnoses: DataFrame) -> Result<DataFrame> {
    Ok(diagnoses.filter(contains(col("description"), lit("sinusitis")))?)
}

/// The rows that have everything that the study groups by: neither null nor an empty text.
fn complete(diagnoses: DataFrame) -> Result<DataFrame> {
    let known = |column| col(column).not_eq(lit(""));
    Ok(diagnoses.filter(known("ethnicity").and(known("race")).and(known("gender")).and(known("marital")))?)
}

/// Adds the age of the patient in days at the diagnosis.
fn with_age(diagnoses: DataFrame) -> Result<DataFrame> {
    Ok(diagnoses.with_column("condition_age", cast(col("start") - col("birthdate"), DataType::Int32))?)
}

#[cfg(test)]
mod tests;
