//! Processes the access records of an API, as a Firehose delivery stream lands them: one JSON object per call, with or
//! without a line of its own.
//!
//! The output has a row for each call, with what was called, by which client and about which entity. Every run appends
//! the calls in files that no run before it has read. Nothing is lost:
//! * A record that cannot be read fails the run, or is set aside with `--quarantine`.
//! * A record without a method or URL has no `normalized_method_signature`, because half of one would be counted as a
//!   call that nobody made; its other columns are there. One without a timestamp is in the partition of null.
//! * A record that was delivered twice is kept once. One without a session or timestamp counts as delivered twice only
//!   if all of its columns are equal.

mod client;
mod derive;
mod entity;
mod signature;

use std::sync::Arc;

use hardtack::datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use hardtack::prelude::*;

/// Where to read and write, and what to do with records that are broken or known.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Lake root that holds `access_records/YYYY/MM/DD/HH/`", "fixtures/lake", ["access_records"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `processed_access_records/`", "target/lake", ["processed_access_records"])))]
pub struct Args {
    /// Where to read
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where to write
    #[command(flatten)]
    pub target: TargetArgs,

    /// Folder to which records that cannot be read are added as Parquet, with file, offset and reason, for example
    /// `s3://my-bucket/quarantine`; without it such a record fails the run
    #[arg(long, env = "QUARANTINE", value_name = "LOCATION")]
    pub quarantine: Option<Location>,

    /// Drops records that the target already has, by session and timestamp; of the target only the days that were
    /// delivered are read
    #[arg(long, env = "DEDUPE_AGAINST_TARGET")]
    pub dedupe_against_target: bool,
}

/// The column with what is wrong with a record.
const CORRUPT: &str = "_corrupt";

/// The delivered records that no run has read. Firehose gives its files names without a suffix, compressed or not, so all
/// files are read.
pub fn access_records(args: &Args) -> Dataset<JsonFiles> {
    let records = JsonFiles::new("access_records", args.source.join("access_records"))
        .with_glob("**")
        .bookmarked(Bookmark::by_path());
    let records = records.with_schema(schema! {
        payload: struct<
            sessionId: string, timestamp: decimal(14, 0), userId: bigint, method: string, requestURL: string,
            userAgent: string, host: string, origin: string, xforwardedFor: string, via: string, threadId: bigint,
            elapseMS: bigint, success: boolean, stack: string, instance: string, vmId: string, returnObjectId: string,
            queryString: string, responseStatus: bigint, oauthClientId: string, basicAuthUsername: string,
            authenticationMethod: string
        > not null,
    });
    args.source.dataset(match args.quarantine {
        Some(_) => records.with_corrupt_records(CORRUPT),
        None => records,
    })
}

/// The processed records, a folder per day. Read as earlier runs left them (none before the first run), and added to.
pub fn processed_access_records(args: &Args) -> Dataset<ParquetDataset> {
    let records = args.target.parquet("processed_access_records", "processed_access_records").or_empty();
    records.partition_by([RECORD_DATE]).with_schema(schema! {
        session_id: string,
        timestamp: timestamp,
        user_id: bigint,
        method: string,
        request_url: string,
        user_agent: string,
        host: string,
        origin: string,
        x_forwarded_for: string,
        via: string,
        thread_id: bigint,
        elapse_ms: bigint,
        success: boolean,
        stack: string,
        instance: string,
        vm_id: string,
        return_object_id: string,
        query_string: string,
        response_status: bigint,
        oauth_client_id: string,
        basic_auth_username: string,
        auth_method: string,
        normalized_method_signature: string,
        client: string,
        client_version: string,
        entity_id: bigint,
        record_date: string,
    })
}

/// The records that could not be read, to which every run adds its own.
pub fn quarantine(location: &Location) -> ParquetDataset {
    ParquetDataset::new("quarantine", location.clone()).with_schema(schema! {
        file: string not null,
        offset: bigint not null,
        reason: string not null,
        text: string not null,
    })
}

/// Refuses a quarantine among the records that are read or written: it would be taken for some of them.
fn check(args: &Args) -> Result<()> {
    let Some(quarantine) = &args.quarantine else { return Ok(()) };
    let folders = [access_records(args).location(), Sink::location(&processed_access_records(args))];
    let other = folders.into_iter().flatten().find(|other| other.contains(quarantine) || quarantine.contains(other));
    match other {
        Some(other) => Err(Error::usage("the quarantine must be a folder of its own")
            .with("--quarantine", quarantine)
            .with("overlaps", other)
            .hint("give a folder beside it, for example `s3://my-bucket/quarantine`")),
        None => Ok(()),
    }
}

/// What the calls must be like to be published.
pub fn rules() -> Rules {
    Rules::dqdl(include_str!("../quality.dqdl"))
}

/// When the job runs, and what it needs.
pub fn job() -> Job {
    hardtack::job!()
        .owner("platform-data@example.com")
        .tag("domain", "platform")
        .schedule("cron(15 2 * * ? *)")
        .timeout(TimeDelta::minutes(60))
        .attempts(3)
        .vcpus(2.0)
        .memory_mib(4096)
}

/// Reads like a flow chart of the job: load, set aside what is broken, process, save.
pub async fn main(ctx: &Context<Args>) -> Result<()> {
    let args = ctx.args();
    check(args)?;
    let records = ctx.load(access_records(args)).await?;
    let records = match &args.quarantine {
        Some(location) => set_aside(ctx, records, location).await?,
        None => records,
    };
    let records = derived(delivered_once(renamed(records)?)?)?;
    let records = match args.dedupe_against_target {
        true => not_in_target(ctx, records).await?,
        false => records,
    };
    ctx.save(processed_access_records(args).audited(rules()), records).await.map_err(|error| with_way_out(error, args))
}

/// Saves the records that cannot be read, and returns the others.
async fn set_aside(ctx: &Context<Args>, records: DataFrame, location: &Location) -> Result<DataFrame> {
    // Read once, whatever is done with them.
    let records = ctx.persist(records).await?;
    let parts = ["file", "offset", "reason", "text"].map(|part| col(CORRUPT).field(part).alias(part));
    let corrupt = records.clone().filter(col(CORRUPT).is_not_null())?.select(parts)?;
    ctx.save(quarantine(location), corrupt).await?;
    Ok(records.filter(col(CORRUPT).is_null())?)
}

/// Says how to go on when a record cannot be read.
fn with_way_out(error: Error, args: &Args) -> Error {
    let is_record = error.kind() == ErrorKind::Refused && error.get("line").is_some();
    match args.quarantine {
        None if is_record => error.hint("set such records aside with `--quarantine LOCATION`, or correct the file"),
        _ => error,
    }
}

/// The fields of a record and the columns that take them.
const COLUMNS: [(&str, &str); 22] = [
    ("sessionId", SESSION_ID),
    ("timestamp", TIMESTAMP),
    ("userId", "user_id"),
    ("method", "method"),
    ("requestURL", "request_url"),
    ("userAgent", "user_agent"),
    ("host", "host"),
    ("origin", "origin"),
    ("xforwardedFor", "x_forwarded_for"),
    ("via", "via"),
    ("threadId", "thread_id"),
    ("elapseMS", "elapse_ms"),
    ("success", "success"),
    ("stack", "stack"),
    ("instance", "instance"),
    ("vmId", "vm_id"),
    ("returnObjectId", "return_object_id"),
    ("queryString", "query_string"),
    ("responseStatus", "response_status"),
    ("oauthClientId", "oauth_client_id"),
    ("basicAuthUsername", "basic_auth_username"),
    ("authenticationMethod", "auth_method"),
];
const SESSION_ID: &str = "session_id";
const TIMESTAMP: &str = "timestamp";
const RECORD_DATE: &str = "record_date";

/// The fields of the records as columns. The timestamp is still a number: milliseconds since 1970.
fn renamed(records: DataFrame) -> Result<DataFrame> {
    let columns = COLUMNS.map(|(field, column)| {
        let value = col("payload").field(field);
        match column {
            TIMESTAMP => cast(value, DataType::Int64).alias(column),
            // Padded with zeros by some versions of the stack.
            "instance" => ltrim(vec![value, lit("0")]).alias(column),
            _ => value.alias(column),
        }
    });
    Ok(records.select(columns)?)
}

/// The records without those that were delivered again.
fn delivered_once(records: DataFrame) -> Result<DataFrame> {
    const REST: &str = "_rest";
    let known = || ident(SESSION_ID).is_not_null().and(ident(TIMESTAMP).is_not_null());
    // With its length, a text cannot be taken for two; and null is not an empty text.
    let part = |column| {
        let text = || cast(ident(column), DataType::Utf8);
        let length = cast(character_length(text()), DataType::Utf8);
        when(text().is_null(), lit("-")).otherwise(concat(vec![length, lit(":"), text()]))
    };
    let parts = COLUMNS.iter().map(|(_, column)| part(*column)).collect::<Result<Vec<_>, _>>()?;
    let rest = when(known().is_false(), concat(parts)).end()?;
    let records = records.with_column(REST, rest)?;
    // Without sorting, which `drop_duplicates` does.
    let once = Merge::on(&[SESSION_ID, TIMESTAMP, REST]);
    drop_columns(merge_and_retain_last(none_of(&records), records, &once)?, &[REST])
}

/// No rows, with the columns of others.
fn none_of(rows: &DataFrame) -> DataFrame {
    let (state, plan) = rows.clone().into_parts();
    let none = EmptyRelation { produce_one_row: false, schema: Arc::clone(plan.schema()) };
    DataFrame::new(state, LogicalPlan::EmptyRelation(none))
}

/// The columns of the target.
fn derived(records: DataFrame) -> Result<DataFrame> {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut columns: Vec<Expr> = COLUMNS.iter().map(|(_, column)| ident(*column)).collect();
    columns[1] = cast(to_timestamp_millis(vec![ident(TIMESTAMP)]), timestamp).alias(TIMESTAMP);
    columns.extend([
        derive::normalized_method_signature(col("method"), col("request_url")).alias("normalized_method_signature"),
        derive::client(col("user_agent")).alias("client"),
        derive::client_version(col("user_agent")).alias("client_version"),
        derive::entity(col("request_url")).alias("entity_id"),
        derive::date_of_millis(ident(TIMESTAMP)).alias(RECORD_DATE),
    ]);
    Ok(records.select(columns)?)
}

/// The records that the target does not have, by session and timestamp. A record without either is in no target.
async fn not_in_target(ctx: &Context<Args>, records: DataFrame) -> Result<DataFrame> {
    // The days are needed before the target can be read.
    let records = ctx.persist(records).await?;
    let days = days(records.clone()).await.map_err(|error| with_way_out(error, ctx.args()))?;
    let target = ctx.load(processed_access_records(ctx.args())).await?;
    let target = target.filter(ident(RECORD_DATE).in_list(days, false))?;
    let known = target.select([ident(SESSION_ID).alias("known_session"), ident(TIMESTAMP).alias("known_time")])?;
    let (ours, theirs) = ([SESSION_ID, TIMESTAMP], ["known_session", "known_time"]);
    Ok(records.join(known, JoinType::LeftAnti, &ours, &theirs, None)?)
}

/// The days of the records.
async fn days(records: DataFrame) -> Result<Vec<Expr>> {
    let days = records.select([ident(RECORD_DATE)])?.distinct()?.collect().await?;
    let mut exprs = Vec::new();
    for batch in days {
        for row in 0..batch.num_rows() {
            exprs.push(lit(ScalarValue::try_from_array(batch.column(0), row)?));
        }
    }
    Ok(exprs)
}

#[cfg(test)]
mod tests;
