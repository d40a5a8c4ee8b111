//! Merges Debezium change events into the current customers.
//!
//! The last event of a customer wins, by the time of the change (`ts_ms`) and not by the time of arrival: late and
//! replayed events change nothing. A deleted customer leaves a delete marker next to the table, so that an older event
//! that arrives after the delete does not restore the customer.

use hardtack::prelude::*;
use hardtack::sources::{FILE_COLUMN, LINE_COLUMN};

/// Where to read and write, and how long deletes are remembered.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Lake root that holds `customer_events/`", "fixtures/lake", ["customer_events"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `customers/` and `customers_deleted/`", "target/lake", ["customers", "customers_deleted"])))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,

    /// Days for which an applied delete is remembered, for example `30`; an older event that arrives after that may
    /// restore the customer
    #[arg(long, env = "KEEP_DELETES_DAYS", value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u32).range(..=36_500))]
    pub keep_deletes_days: u32,

    /// Placeholder for a large value that an update did not change (`unavailable.value.placeholder` of the connector)
    #[arg(long, env = "UNAVAILABLE_VALUE", value_name = "TEXT", default_value = "__debezium_unavailable_value")]
    pub unavailable_value: String,
}

/// The change events, as Debezium writes them.
pub fn events(args: &Args) -> Dataset<JsonFiles> {
    args.source.json("events", "customer_events").table_named("customer_events").with_origin().with_schema(schema! {
        before: struct<id: bigint, first_name: string, last_name: string, email: string>,
        after: struct<id: bigint, first_name: string, last_name: string, email: string>,
        op: string,
        ts_ms: bigint,
    })
}

/// The customers: read as the last run left them (none before the first run), and rebuilt. `_known_since` is null
/// unless the last update omitted a value: then it records which event each value is from.
pub fn customers(args: &Args) -> Dataset<ParquetDataset> {
    let customers = args.target.parquet("customers", "customers").or_empty().overwrite().with_schema(schema! {
        id: bigint not null,
        first_name: string,
        last_name: string,
        email: string,
        _as_of: timestamp not null,
        _known_since: struct<first_name: timestamp, last_name: timestamp, email: timestamp>,
    });
    // Adds `_known_since` to tables from before it existed.
    let customers = customers.when_table(|table| table.schema_evolution(SchemaEvolution::AddColumns));
    customers.when_table(|table| table.with_iceberg_partitions(by_id()))
}

/// The partitions of Iceberg tables: a change rewrites one of sixteen.
fn by_id() -> [PartitionField; 1] {
    [PartitionField::bucket(16, "id")]
}

/// The delete markers: read as the last run left them, and rebuilt.
pub fn delete_markers(args: &Args) -> Dataset<ParquetDataset> {
    let markers = args.target.parquet("customers_deleted", "customers_deleted").or_empty().overwrite();
    let markers = markers
        .with_schema(schema! { id: bigint not null, _as_of: timestamp not null, _applied_at: timestamp not null });
    markers.when_table(|table| table.with_iceberg_partitions(by_id()))
}

/// What the customers must be like to be published.
pub fn rules() -> Rules {
    Rules::dqdl(include_str!("../quality.dqdl"))
}

/// When the job runs, and what it needs.
pub fn job() -> Job {
    hardtack::job!()
        .owner("customers-data@example.com")
        .tag("domain", "customers")
        .schedule("rate(15 minutes)")
        .timeout(TimeDelta::minutes(60))
        .attempts(3)
        .vcpus(2.0)
        .memory_mib(4096)
}

/// Reads like a flow chart of the job: load, merge, save.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let args = ctx.args();
    let events = ctx.load(events(args)).await?;
    let mut changes = changes(valid(events)?, &args.unavailable_value)?;
    let (mut customers, mut markers) = (customers(args), delete_markers(args));
    // Of Iceberg tables, only the partitions in which something changes are read and written.
    if args.target.format == TargetFormat::Iceberg {
        changes = ctx.persist(changes).await?;
        let ids = changes.clone().select_columns(&["id"])?;
        customers = customers.touched_by(ctx.environment(), &ids).await?;
        markers = markers.touched_by(ctx.environment(), &ids).await?;
    }
    let current = ctx.load(customers.clone()).await?;
    let deleted = ctx.load(markers.clone()).await?;

    let merged = ctx.persist(merge(current, deleted, changes)?).await?;

    ctx.save(customers.audited(rules()), alive(merged.clone())?).await?;
    ctx.save(markers, remembered(merged, ctx.now(), args.keep_deletes_days)?).await
}

/// Refuses events that are not changes of a customer, instead of guessing.
fn valid(events: DataFrame) -> Result<DataFrame> {
    let (op, before, after) = (col("op"), col("before"), col("after"));
    let id = |row: &Expr| row.clone().field("id");
    let is = |ops: &[&str]| op.clone().in_list(ops.iter().map(|op| lit(*op)).collect(), false);
    refuse_rows(
        events,
        &[
            (
                op.clone().is_null(),
                "this is no change event: `op` is missing; keep events of other kinds in other folders",
            ),
            (is(&["t"]), "the source's table was truncated, which this job does not apply; begin with an empty target"),
            (is(&["m"]), "a message of the database's log (`op` is m) changes no row; keep messages in another folder"),
            (!is(&["c", "r", "u", "d"]), "`op` is none of c, r, u and d"),
            (col("ts_ms").is_null(), "the event does not say when it happened: `ts_ms` is missing"),
            (
                is(&["c", "r", "u"]).and(id(&after).is_null()),
                "the event does not say whose it is: there is no `after.id`",
            ),
            (
                is(&["d"]).and(id(&before).is_null()),
                "the delete does not say whose it is: there is no `before.id`; let the database log it (REPLICA IDENTITY)",
            ),
            (is(&["d"]).and(after.clone().is_not_null()), "a delete has an `after`"),
            (
                is(&["u"]).and(id(&before).not_eq(id(&after))),
                "an update changes the id, which should be a delete and an insert",
            ),
        ],
    )
}

/// The columns that an update may omit.
const FIELDS: [&str; 3] = ["first_name", "last_name", "email"];

/// One row per event: the customer after it, its time, and whether it was a delete.
fn changes(events: DataFrame, unavailable: &str) -> Result<DataFrame> {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let as_of = cast(to_timestamp_millis(vec![col("ts_ms")]), timestamp.clone());
    let mut columns = vec![coalesce(vec![col("after").field("id"), col("before").field("id")]).alias("id")];
    let mut known_since = Vec::new();
    for field in FIELDS {
        // An omitted value did not change, so the value before is the value after, if the database logs it.
        let after = nullif(col("after").field(field), lit(unavailable));
        let before = nullif(col("before").field(field), lit(unavailable));
        let left_out = col("after").field(field).eq(lit(unavailable));
        let never = lit(ScalarValue::try_from(&timestamp)?);
        columns.push(when(left_out.clone(), before.clone()).otherwise(after)?.alias(field));
        known_since.extend([lit(field), when(left_out.and(before.is_null()), never).otherwise(as_of.clone())?]);
    }
    columns.extend([
        as_of.alias("_as_of"),
        named_struct(known_since).alias(KNOWN_SINCE),
        col("op").eq(lit("d")).alias(DELETED),
        // The order of events within a millisecond: a snapshot, an insert, an update, a delete.
        when(col("op").eq(lit("d")), lit(3))
            .when(col("op").eq(lit("u")), lit(2))
            .when(col("op").eq(lit("c")), lit(1))
            .otherwise(lit(0))?
            .alias(STEP),
        col(FILE_COLUMN),
        col(LINE_COLUMN),
    ]);
    Ok(events.select(columns)?)
}

/// Marks a customer that is deleted.
const DELETED: &str = "_deleted";
/// The order of events within a millisecond.
const STEP: &str = "_step";
/// When a delete was applied; null for one that is applied now.
const APPLIED_AT: &str = "_applied_at";
/// Which event each value is from.
const KNOWN_SINCE: &str = "_known_since";

/// The last version of every customer, including deleted ones.
fn merge(current: DataFrame, deleted: DataFrame, changes: DataFrame) -> Result<DataFrame> {
    let current = current.with_column(DELETED, lit(false))?.with_column(STEP, lit(-1))?;
    // An applied delete wins against every event of its millisecond, including a replay of itself.
    let deleted = deleted.with_column(DELETED, lit(true))?.with_column(STEP, lit(4))?;
    let known = current.union_by_name(deleted)?;
    let last = Merge::on(&["id"]).order_by("_as_of").order_by(STEP).delete_marker(DELETED).known_since(KNOWN_SINCE);
    merge_and_retain_last(known, changes, &last)
}

/// The customers that are not deleted. A customer with a value that no event has ever contained is refused.
fn alive(merged: DataFrame) -> Result<DataFrame> {
    let since = |field: &str| col(KNOWN_SINCE).field(field);
    let rules = FIELDS.map(|field| {
        let why = "and no event before says what it is; deliver those events, or take a snapshot of the row";
        (since(field).is_null(), format!("an update leaves out `{field}`, {why}"))
    });
    let alive = refuse_rows(merged.filter(!col(DELETED))?, &rules)?;
    let all_now = FIELDS.map(|field| since(field).eq(col("_as_of"))).into_iter().reduce(Expr::and);
    let known_since = when(!all_now.unwrap_or_else(|| lit(true)), col(KNOWN_SINCE)).end()?;
    let alive = alive.with_column(KNOWN_SINCE, known_since)?;
    Ok(alive.select_columns(&["id", "first_name", "last_name", "email", "_as_of", KNOWN_SINCE])?)
}

/// The deletes that were applied in the last `days` days, whenever they happened.
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
