//! The job of the suites `iceberg`, `iceberg-read`, `iceberg-incremental` and `iceberg-compact`: writes the observations as
//! plain Parquet and as Iceberg tables, and reads those that are new in a table.

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
    /// An Iceberg table, partitioned by year
    Years,
    /// An Iceberg table, partitioned by day, of all but the last month
    Base,
    /// The last month, appended to it
    Batch,
    /// What was appended since the last run, by the bookmark
    New,
    /// The same by a filter that statistics answer
    Filter,
    /// The same by a filter for which every file is read
    Full,
}

/// The column that says with which batch a row came.
const BATCH: &str = "batch";

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

fn observations() -> IcebergTable {
    IcebergTable::named("lake", "observations")
}

fn by_day(args: &Args) -> IcebergTable {
    let new = NewIcebergTable::at(args.target.join("observations")).partition_by([PartitionField::day("date")]);
    observations().create_if_missing(new)
}

fn by_year(args: &Args) -> IcebergTable {
    let new = NewIcebergTable::at(args.target.join("by_year")).partition_by([PartitionField::year("date")]);
    IcebergTable::named("lake", "by_year").create_if_missing(new)
}

fn new_observations(args: &Args) -> Dataset<ParquetDataset> {
    args.target.parquet("new_observations", "new_observations")
}

async fn run(ctx: &Context<Args>) -> Result<()> {
    let args = ctx.args();
    match args.case {
        Case::Plain => {
            let target = args.target.parquet("observations", "observations").overwrite().partition_by(["day"]);
            let day = cast(col("date"), DataType::Date32);
            ctx.save(target, ctx.load(delivered(args)).await?.with_column("day", day)?).await
        }
        Case::Table => ctx.save(by_day(args).overwrite(), ctx.load(delivered(args)).await?).await,
        Case::Years => ctx.save(by_year(args).overwrite(), ctx.load(delivered(args)).await?).await,
        Case::Base | Case::Batch => {
            let is_batch = args.case == Case::Batch;
            let is_last = col("date").gt_eq(cast(lit("2023-12-01"), DataType::Timestamp(TimeUnit::Microsecond, None)));
            let rows = ctx.load(delivered(args)).await?.filter(if is_batch { is_last } else { !is_last })?;
            ctx.save(by_day(args).append(), rows.with_column(BATCH, lit(i32::from(is_batch)))?).await
        }
        Case::New => ctx.save(new_observations(args), ctx.load(observations().bookmarked()).await?).await,
        Case::Filter => {
            let rows = ctx.load(observations()).await?.filter(col(BATCH).eq(lit(1)))?;
            ctx.save(new_observations(args), rows).await
        }
        Case::Full => {
            let rows = ctx.load(observations()).await?.filter(abs(col(BATCH)).eq(lit(1)))?;
            ctx.save(new_observations(args), rows).await
        }
    }
}

fn main() -> std::process::ExitCode {
    hardtack::run("bench_iceberg", run)
}
