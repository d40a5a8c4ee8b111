//! Merges Debezium change events into the current customers.
//!
//! The last event of a customer decides, by the time (`ts_ms`) at which it happened and not by the time at which it arrives:
//! late and replayed events change nothing. A deleted customer leaves a delete marker beside the table, so that an older
//! event that comes after the delete does not bring the customer back.

use hardtack::prelude::*;

/// Where from, where to, and for how long deletes are remembered.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Args {
    /// Lake root that holds `customer_events/`, for example `s3://my-bucket` or `fixtures/lake`
    #[arg(long, env = "SOURCE", value_name = "LOCATION", default_value = "fixtures/lake")]
    pub source: Location,

    /// Lake root that gets `customers/` and `customers_deleted/`, for example `s3://my-bucket` or `target/lake`
    #[arg(long, env = "TARGET", value_name = "LOCATION", default_value = "target/lake")]
    pub target: Location,

    /// Days for which an applied delete is remembered, for example `30`; an older event that comes after that may bring the customer back
    #[arg(long, env = "KEEP_DELETES_DAYS", value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u32).range(..=36_500))]
    pub keep_deletes_days: u32,

    /// Database of the catalog whose table `customer_events` is read in place of the files, for example `raw`
    #[arg(long, env = "SOURCE_DATABASE", value_name = "DATABASE")]
    pub source_database: Option<DatabaseName>,

    /// Database of the catalog whose tables `customers` and `customers_deleted` are written, over the files in the target, for example `glue_reference`
    #[arg(long, env = "TARGET_DATABASE", value_name = "DATABASE")]
    pub target_database: Option<DatabaseName>,
}

/// The change events as Debezium writes them.
pub fn events(args: &Args) -> OrTable<JsonFiles> {
    let files = JsonFiles::new("events", args.source.join("customer_events")).with_schema(schema! {
        before: struct<id: bigint, first_name: string, last_name: string, email: string>,
        after: struct<id: bigint, first_name: string, last_name: string, email: string>,
        op: string not null,
        ts_ms: bigint not null,
    });
    files.in_database(args.source_database.as_ref(), "customer_events")
}

/// The customers as the last run left them; none before the first.
pub fn current(args: &Args) -> OrTable<ParquetFiles> {
    ParquetFiles::new("customers", args.target.join("customers"))
        .with_schema(customers_schema())
        .or_empty()
        .in_database(args.target_database.as_ref(), "customers")
}

/// Who was deleted, and when, as the last run left it.
pub fn deleted(args: &Args) -> OrTable<ParquetFiles> {
    ParquetFiles::new("customers_deleted", args.target.join("customers_deleted"))
        .with_schema(deleted_schema())
        .or_empty()
        .in_database(args.target_database.as_ref(), "customers_deleted")
}

/// The customers, made anew.
pub fn customers(args: &Args) -> OrTable<ParquetDataset> {
    ParquetDataset::new("customers", args.target.join("customers"))
        .with_schema(customers_schema())
        .overwrite()
        .in_database(args.target_database.as_ref(), "customers")
}

/// The delete markers, made anew.
pub fn delete_markers(args: &Args) -> OrTable<ParquetDataset> {
    ParquetDataset::new("customers_deleted", args.target.join("customers_deleted"))
        .with_schema(deleted_schema())
        .overwrite()
        .in_database(args.target_database.as_ref(), "customers_deleted")
}

/// What readers of `customers` can rely on.
fn customers_schema() -> SchemaRef {
    schema! { id: bigint not null, first_name: string, last_name: string, email: string, _as_of: timestamp not null }
}

fn deleted_schema() -> SchemaRef {
    schema! { id: bigint not null, _as_of: timestamp not null, _applied_at: timestamp not null }
}

/// Reads like a flow chart of the job: load, merge, save.
///
/// # Errors
/// Those of the sources and sinks.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let args = ctx.args();
    let events = ctx.load(events(args)).await?;
    let current = ctx.load(current(args)).await?;
    let deleted = ctx.load(deleted(args)).await?;

    let merged = merge(current, deleted, changes(events)?)?;

    ctx.save(customers(args), alive(merged.clone())?).await?;
    ctx.save(delete_markers(args), remembered(merged, ctx.now(), args.keep_deletes_days)?).await
}

/// One row per event: the customer after it, when it happened, and whether it was a delete.
fn changes(events: DataFrame) -> Result<DataFrame> {
    let after = |field: &str| col("after").field(field);
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    Ok(events.select([
        coalesce(vec![after("id"), col("before").field("id")]).alias("id"),
        after("first_name").alias("first_name"),
        after("last_name").alias("last_name"),
        after("email").alias("email"),
        cast(to_timestamp_millis(vec![col("ts_ms")]), timestamp).alias("_as_of"),
        col("op").eq(lit("d")).alias(DELETED),
        // Of events of one millisecond: a snapshot is followed by an insert, that by an update, that by a delete.
        when(col("op").eq(lit("d")), lit(3))
            .when(col("op").eq(lit("u")), lit(2))
            .when(col("op").eq(lit("c")), lit(1))
            .otherwise(lit(0))?
            .alias(STEP),
    ])?)
}

/// Marks a customer that is deleted.
const DELETED: &str = "_deleted";
/// The order of events of one millisecond.
const STEP: &str = "_step";
/// When a delete was applied; null for one that is applied now.
const APPLIED_AT: &str = "_applied_at";

/// The last version of every customer, deleted ones too.
fn merge(current: DataFrame, deleted: DataFrame, changes: DataFrame) -> Result<DataFrame> {
    let current = current.with_column(DELETED, lit(false))?.with_column(STEP, lit(-1))?;
    // A delete that was applied stands against every event of its millisecond, also against itself once more.
    let deleted = deleted.with_column(DELETED, lit(true))?.with_column(STEP, lit(4))?;
    let known = current.union_by_name(deleted)?;
    let last = Merge::on(&["id"]).order_by("_as_of").order_by(STEP).delete_marker(DELETED);
    merge_and_retain_last(known, changes, &last)
}

/// The customers that are not deleted.
fn alive(merged: DataFrame) -> Result<DataFrame> {
    drop_columns(merged.filter(!col(DELETED))?, &[DELETED, STEP, APPLIED_AT])
}

/// The deletes that were applied in the last days, whenever they happened.
fn remembered(merged: DataFrame, now: DateTime<Utc>, days: u32) -> Result<DataFrame> {
    let moment = |time: DateTime<Utc>| lit(ScalarValue::TimestampMicrosecond(Some(time.timestamp_micros()), None));
    let deletes = merged.filter(col(DELETED))?.select([
        col("id"),
        col("_as_of"),
        coalesce(vec![col(APPLIED_AT), moment(now)]).alias(APPLIED_AT),
    ])?;
    Ok(deletes.filter(col(APPLIED_AT).gt_eq(moment(now - TimeDelta::days(days.into()))))?)
}

#[cfg(test)]
mod tests;
