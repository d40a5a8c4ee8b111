//! Keeps the whole set of insurance policies per month.
//!
//! A change belongs to the month from which it is effective, whenever it is delivered. A late one rebuilds the snapshot of
//! that month and carries its effect through all later ones, in one commit. So the snapshots depend neither on the order in
//! which changes arrive nor on how they are spread over runs.

use hardtack::prelude::*;

/// Where to read and write, and which months there are.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Lake root that holds `policy_events/`", "fixtures/lake", ["policy_events"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `policy_snapshots/`", "target/lake", ["policy_snapshots"])))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,

    /// Day in the last month that gets a snapshot, for example `2026-03-31`; today (in UTC) by default. Changes that are
    /// effective later make later snapshots in any case
    #[arg(long, env = "UNTIL", value_name = "DATE")]
    pub until: Option<NaiveDate>,
}

/// The changes of policies. Of two with the same effective date, the one that was recorded last counts.
pub fn events(args: &Args) -> Dataset<JsonFiles> {
    args.source.json("events", "policy_events").table_named("policy_events").with_origin().with_schema(schema! {
        policy_id: string not null,
        holder: string,
        premium: decimal(12, 2),
        status: string,
        effective_date: date not null,
        recorded_at: timestamp not null,
    })
}

/// One partition per month: read as the last run left them (none before the first run), and those that change rebuilt.
/// Policies that are `deleted` stay as markers, which readers leave out.
pub fn snapshots(args: &Args) -> Dataset<ParquetDataset> {
    let snapshots = args.target.parquet("policy_snapshots", "policy_snapshots").or_empty().with_schema(schema! {
        policy_id: string not null,
        holder: string,
        premium: decimal(12, 2),
        status: string,
        effective_date: date not null,
        recorded_at: timestamp not null,
        deleted: boolean not null,
        month: date not null,
    });
    snapshots.partition_by(["month"]).overwrite_partitions()
}

/// What a snapshot is. Its first day is in the column `month`.
pub fn months() -> Snapshots {
    Snapshots::monthly("month", &["policy_id"])
        .by_date("effective_date")
        .order_by("recorded_at")
        .delete_marker("deleted")
}

/// When the job runs, and what it needs.
pub fn job() -> Job {
    hardtack::job!()
        .owner("policies-data@example.com")
        .tag("domain", "policies")
        .schedule("cron(30 1 1 * ? *)")
        .timeout(TimeDelta::minutes(60))
        .attempts(3)
        .vcpus(1.0)
        .memory_mib(2048)
}

/// Reads like a flow chart of the job: load, rebuild, save.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let args = ctx.args();
    let events = ctx.load(events(args)).await?;
    let current = ctx.load(snapshots(args)).await?;

    let changes = ctx.persist(changes(events)?).await?;
    let until = args.until.unwrap_or_else(|| ctx.now().date_naive());
    let rebuilt = months().rebuild(current, changes, until).await?;

    ctx.save(snapshots(args), rebuilt).await
}

/// The events as versions of policies. One whose status nobody knows is refused.
fn changes(events: DataFrame) -> Result<DataFrame> {
    let known = ["active", "lapsed", "cancelled", "deleted"].map(lit).to_vec();
    let is_known = col("status").in_list(known, false);
    let why = "the status of a policy is none of active, lapsed, cancelled and deleted";
    let events = refuse_rows(events, &[(is_known.is_not_true(), why)])?;
    let deleted = col("status").eq(lit("deleted")).alias("deleted");
    let columns = ["policy_id", "holder", "premium", "status", "effective_date", "recorded_at"];
    Ok(events.select(columns.map(col).into_iter().chain([deleted]))?)
}

#[cfg(test)]
mod tests;
