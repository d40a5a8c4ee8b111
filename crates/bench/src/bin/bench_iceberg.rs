//! The job of the suite `iceberg`: the observations by day, as plain Parquet and as an Iceberg table.

use hardtack::prelude::*;

/// Where to read and write, and what.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Folder that holds `observations.csv`", "target/bench/data-1-42", ["observations"])))]
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
    /// Parquet files in folders of days
    Plain,
    /// An Iceberg table, partitioned by day
    Table,
}

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

async fn run(ctx: &Context<Args>) -> Result<()> {
    let args = ctx.args();
    let delivered = ctx.load(delivered(args)).await?;
    match args.case {
        Case::Plain => {
            let day = cast(col("date"), DataType::Date32);
            let target = args.target.parquet("observations", "observations").overwrite().partition_by(["day"]);
            ctx.save(target, delivered.with_column("day", day)?).await
        }
        Case::Table => {
            let new = NewIcebergTable::at(args.target.join("observations")).partition_by([PartitionField::day("date")]);
            ctx.save(IcebergTable::named("lake", "observations").overwrite().create_if_missing(new), delivered).await
        }
    }
}

fn main() -> std::process::ExitCode {
    hardtack::run("bench_iceberg", run)
}
