//! The job of the suite `json`: an aggregate of a few fields of access records, or all of their fields as Parquet.

use hardtack::prelude::*;

/// Where to read and write, and how much of it.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Folder that holds `access/` and `access_gzip/`", "target/bench/data-json-1-42", ["records"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `access_records/`", "target/lake", ["access_records"])))]
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
    /// Requests by country and status
    Few,
    /// All fields
    All,
    /// All fields of compressed files
    #[value(name = "all_gzip")]
    AllGzip,
}

/// The records, with as many of their fields as the case needs.
fn records(args: &Args) -> Dataset<JsonFiles> {
    match args.case {
        Case::Few => args.source.json("records", "access").with_schema(schema! {
            payload: struct<country: string, status: bigint, bytes_out: bigint, duration_ms: double>,
        }),
        Case::All => args.source.json("records", "access").with_schema(whole()),
        Case::AllGzip => args.source.json("records", "access_gzip").with_schema(whole()),
    }
}

fn whole() -> SchemaRef {
    schema! {
        id: bigint,
        time: timestamp,
        kind: string,
        payload: struct<
            method: string, host: string, path: string, query: string, status: bigint, bytes_in: bigint,
            bytes_out: bigint, duration_ms: double, upstream_ms: double, user_id: bigint, session: string, ip: string,
            user_agent: string, referer: string, tls: boolean, cached: boolean, country: string, region: string,
            client: struct<os: string, browser: string, version: bigint, mobile: boolean>, tags: array<string>,
            trace: string, message: string
        >,
    }
}

fn access_records(args: &Args) -> Dataset<ParquetDataset> {
    args.target.parquet("access_records", "access_records").overwrite()
}

async fn run(ctx: &Context<Args>) -> Result<()> {
    let records = ctx.load(records(ctx.args())).await?;
    let rows = if ctx.args().case == Case::Few { by_status(records)? } else { records };
    ctx.save(access_records(ctx.args()), rows).await
}

/// Requests, bytes and the longest duration, by country and status.
fn by_status(records: DataFrame) -> Result<DataFrame> {
    let field = |name: &str| col("payload").field(name);
    let groups = vec![field("country").alias("country"), field("status").alias("status")];
    let sums = vec![
        count(lit(1)).alias("requests"),
        sum(field("bytes_out")).alias("bytes_out"),
        max(field("duration_ms")).alias("duration_ms"),
    ];
    Ok(records.aggregate(groups, sums)?)
}

fn main() -> std::process::ExitCode {
    hardtack::run("bench_access_records", run)
}
