//! The job of the suite `quality`: the observations, without rules and with 25 of them.

use hardtack::prelude::*;

/// Where to read and write, and what to check.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Folder that holds `observations.csv` and `patients.csv`", "target/bench/data-1-42", ["observations", "patients"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `observations/`", "target/lake", ["observations"])))]
struct Args {
    /// Where to read
    #[command(flatten)]
    source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    target: TargetArgs,

    /// What to do
    #[arg(long, value_enum)]
    case: Case,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// Without rules
    Alone,
    /// With rules
    Audited,
}

/// Completeness, values, lengths and types, two rules on uniqueness, and a reference.
const RULES: &str = r#"Rules = [
    IsComplete "patient",
    IsComplete "code",
    IsComplete "description",
    IsComplete "type",
    Completeness "encounter" > 0.5,
    Completeness "value" > 0.5,
    ColumnLength "patient" = 36,
    ColumnLength "code" between 0 and 20,
    ColumnLength "description" between 0 and 300,
    ColumnLength "units" < 60,
    ColumnValues "type" in ["numeric", "text"],
    ColumnValues "category" != EMPTY,
    ColumnValues "year" between 1900 and 2100,
    ColumnValues "month" between 0 and 13,
    ColumnValues "day" between 0 and 32,
    ColumnValues "code" matches "[0-9A-Z-]+",
    ColumnValues "units" not in ["kilogram", "metre", "second"],
    ColumnDataType "value" = "Double" where "type = 'numeric'" with threshold > 0.9,
    ColumnDataType "code" != "Boolean" with threshold > 0.9,
    RowCount > 1000,
    ColumnCount = 11,
    Mean "year" between 1950 and 2050,
    Uniqueness "patient" "encounter" "code" "value" > 0.1,
    Uniqueness "encounter" "description" > 0.1,
    ReferentialIntegrity "patient" "patients.id" >= 0.99
]"#;

fn delivered(args: &Args) -> Dataset<CsvFiles> {
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

fn patients(args: &Args) -> Dataset<CsvFiles> {
    args.source.csv("patients", "patients").file_or_folder()
}

fn observations(args: &Args) -> Dataset<ParquetDataset> {
    let target = args.target.parquet("observations", "observations").overwrite();
    target.partition_by(["year", "month", "day"]).with_compression(Compression::Snappy)
}

async fn run(ctx: &Context<Args>) -> Result<()> {
    let args = ctx.args();
    let delivered = ctx.load(delivered(args)).await?;
    let rows = drop_columns(split_date(drop_duplicates(delivered, &[])?, "date")?, &["date"])?;
    match args.case {
        Case::Alone => ctx.save(observations(args), rows).await,
        Case::Audited => {
            let patients = ctx.load(patients(args)).await?;
            let rules = Rules::dqdl(RULES).reference("patients", patients);
            ctx.save(observations(args).audited(rules), rows).await
        }
    }
}

fn main() -> std::process::ExitCode {
    hardtack::run("bench_quality", run)
}
