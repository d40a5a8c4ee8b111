//! Publishes people to an Iceberg table: writes them to a branch, audits them there, and moves `main` to it.

use hardtack::prelude::*;

/// Where to read and write.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Lake root that holds `people/`", "fixtures/lake", ["people"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `people`", "target/lake", ["people"])))]
#[command(mut_args(TargetArgs::in_database_by_default("lake")))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The delivered people, one JSON object each.
pub fn people(args: &Args) -> Dataset<JsonFiles> {
    args.source.json("people", "people").with_schema(schema! {
        id: bigint,
        name: string,
        age: int,
    })
}

/// The table of adults that readers know. Every run adds to it.
pub fn published(args: &Args) -> IcebergTable {
    args.target.iceberg(
        "people",
        "people",
        schema! {
            id: bigint,
            name: string,
            age: int,
        },
    )
}

/// What the rows must be like to be published.
pub fn rules() -> Rules {
    Rules::dqdl(include_str!("../quality.dqdl"))
}

/// When the job runs, and what it needs.
pub fn job() -> Job {
    hardtack::job!()
        .owner("people-data@example.com")
        .tag("domain", "people")
        .schedule("rate(1 hour)")
        .timeout(TimeDelta::minutes(15))
        .attempts(3)
        .vcpus(0.5)
        .memory_mib(1024)
}

/// Reads like a flow chart of the job: load, transform, save.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let people = ctx.load(people(ctx.args())).await?;
    ctx.save(published(ctx.args()).audited(rules()), older_than(people, 25)?).await
}

/// Those whose age is known to be over `years`.
fn older_than(people: DataFrame, years: i32) -> Result<DataFrame> {
    Ok(people.filter(col("age").gt(lit(years)))?)
}

#[cfg(test)]
mod tests;
