//! Rules from the command line: `hardtack audit` and `hardtack quality`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use datafusion::common::TableReference;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use hardtack_catalog::CatalogOf;
use hardtack_core::audit::Audit;
use hardtack_core::{Error, ErrorKind, JobContext, Location, Result};
use hardtack_quality::{Rules, recommend};
use hardtack_runtime::{QueryArgs, RuntimeArgs, audit_text, open_context, open_state};
use hardtack_sources::{AvroFiles, CsvFiles, JsonFiles, ParquetFiles};
use hardtack_state::RunStatus;
use hardtack_tables::{Table, register_names};

use crate::bookmark::time;
use crate::draw::draw_to_terminal;
use crate::runs::all_runs;
use crate::sql::read_text;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// The table, for example `lake.books`, or the location of files, for example `s3://my-bucket/books`
    #[arg(value_name = "DB.TABLE|LOCATION")]
    data: String,
    /// File with the rules, in DQDL
    #[arg(long, value_name = "FILE")]
    rules: Location,
    /// Another data set that rules speak of, for example `authors=lake.authors`; may be given several times
    #[arg(long, value_name = "ALIAS=DB.TABLE|LOCATION", value_parser = reference)]
    reference: Vec<(String, String)>,
    /// Print the audit as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    query: QueryArgs,
}

fn reference(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((alias, data)) if !alias.is_empty() && !data.is_empty() => Ok((alias.to_owned(), data.to_owned())),
        _ => Err("expected an alias and a table or location, for example `authors=lake.authors`".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct QualityArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how the numbers that audits have measured moved over the runs of a table, location or sink
    History {
        /// The table, location or sink, for example `lake.books`
        #[arg(value_name = "DB.TABLE|LOCATION|SINK")]
        data: String,
        /// Only metrics whose names contain this, for example `Completeness` [default: all]
        #[arg(long, value_name = "NAME")]
        metric: Option<String>,
        /// Only the newest runs
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: usize,
    },
    /// Propose rules that a table or files meet today, as DQDL, to be read and adapted
    Recommend {
        /// The table, for example `lake.books`, or the location of files
        #[arg(value_name = "DB.TABLE|LOCATION")]
        data: String,
        #[command(flatten)]
        query: QueryArgs,
    },
}

/// Audits what is published. Exits with 3 if a rule that blocks fails.
pub(crate) async fn audit(options: RuntimeArgs, args: AuditArgs) -> Result<(String, ExitCode)> {
    let options = RuntimeArgs { query: args.query.clone(), ..options };
    let ctx = open_context("audit", &options)?;
    let mut rules = Rules::dqdl(&read_text(&ctx, "--rules", &args.rules).await?);
    rules.check().map_err(|e| e.with("--rules", &args.rules))?;
    for (alias, data) in &args.reference {
        rules = rules.reference(alias, rows(&ctx, data).await?);
    }
    let audit = rules.audit(&ctx, &args.data, rows(&ctx, &args.data).await?).await.map_err(|e| ctx.explain(e))?;
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string(&audit).map_err(|e| Error::unexpected("no JSON").because(e))?),
        false => audit_text(&audit),
    };
    let code = if audit.passed() { 0 } else { ErrorKind::Refused.exit_code() };
    Ok((text, ExitCode::from(code)))
}

pub(crate) async fn run(options: RuntimeArgs, args: QualityArgs) -> Result<String> {
    match args.command {
        Command::Recommend { data, query } => {
            let options = RuntimeArgs { query, ..options };
            let ctx = open_context("quality", &options)?;
            let rows = rows(&ctx, &data).await?;
            let set = recommend(rows).await.map_err(|e| ctx.explain(e).with("data", &data))?;
            Ok(format!("# Proposed from {data}. Read each rule: it says what is, not what should be.\n{set}\n"))
        }
        Command::History { data, metric, last } => {
            let ctx = open_context("quality", &options)?;
            history(&ctx, &options, &data, metric.as_deref(), last).await
        }
    }
}

/// The rows of a table of the catalog, or of files.
pub(crate) async fn rows(ctx: &JobContext, data: &str) -> Result<DataFrame> {
    let is_place = data.contains(['/', '\\', ':']) || std::path::Path::new(data).exists();
    if let (false, Some((database, table))) = (is_place, data.split_once('.')) {
        // A version of an Iceberg table, or what is known about it, as SQL names it.
        if table.contains(['@', '$']) {
            register_names(ctx)?;
            return Ok(ctx.session().table(TableReference::partial(database, table)).await?);
        }
        return ctx.load(Table::named(database, table)).await;
    }
    let location = Location::from(data);
    match suffix(ctx, &location).await?.as_str() {
        "csv" => ctx.load(CsvFiles::new(data, location)).await,
        "json" | "jsonl" | "ndjson" => ctx.load(JsonFiles::new(data, location)).await,
        "avro" => ctx.load(AvroFiles::new(data, location)).await,
        _ => ctx.load(ParquetFiles::new(data, location).with_hive_partitions()).await,
    }
}

/// The suffix of a file, or of the first file of a folder, without that of a compression.
async fn suffix(ctx: &JobContext, location: &Location) -> Result<String> {
    let (store, path) = ctx.stores().open(location)?;
    let mut files = store.objects.list(Some(&path));
    let mut name = path.filename().unwrap_or_default().to_owned();
    while let Some(file) = files.try_next().await? {
        let found = file.location.filename().unwrap_or_default();
        if !found.starts_with(['.', '_']) && found.contains('.') {
            found.clone_into(&mut name);
            break;
        }
    }
    let name = name.to_lowercase();
    let plain =
        [".gz", ".zst", ".bz2", ".xz"].iter().fold(name.as_str(), |name, end| name.strip_suffix(end).unwrap_or(name));
    Ok(plain.rsplit('.').next().unwrap_or_default().to_owned())
}

async fn history(
    ctx: &JobContext,
    options: &RuntimeArgs,
    data: &str,
    metric: Option<&str>,
    last: usize,
) -> Result<String> {
    let state = open_state(ctx.stores(), &options.records.state)?;
    let mut places = vec![data.to_owned()];
    places.extend(Location::from(data).absolute().ok().map(|location| location.to_string()));
    if let Some((database, table)) = data.split_once('.')
        && let Ok(catalog) = ctx.catalog().await
        && let Ok(table) = catalog.get_table(database, table).await
        && let Ok(location) = table.location()
    {
        places.extend(location.absolute().ok().map(|location| location.to_string()));
    }
    let is_meant = |audit: &&Audit| {
        let table = audit.table.iter().flat_map(|table| {
            [Some(table.clone()), Location::from(table.as_str()).absolute().ok().map(|location| location.to_string())]
        });
        let mut names = table.flatten().chain([audit.subject.clone()]);
        names.any(|name| places.iter().any(|place| place.trim_end_matches('/') == name.trim_end_matches('/')))
    };
    let runs = all_runs(&state).await?;
    let mut audited: Vec<_> = runs
        .iter()
        .filter(|run| matches!(run.status, RunStatus::Succeeded))
        .flat_map(|run| run.audits.iter().filter(is_meant).map(move |audit| (run, audit)))
        .collect();
    let surplus = audited.len().saturating_sub(last);
    audited.drain(..surplus);
    let wanted = |name: &str| metric.is_none_or(|metric| name.to_lowercase().contains(&metric.to_lowercase()));
    let mut names: Vec<&String> =
        audited.iter().flat_map(|(_, audit)| audit.metrics.keys()).filter(|name| wanted(name)).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err(Error::usage(format!("no run that was published has measured anything of `{data}`")).hint(
            "`hardtack sql -c 'select distinct subject, table_name from hardtack.verdicts'` lists what is audited",
        ));
    }
    let mut text = String::new();
    for name in names {
        let values: Vec<_> = audited.iter().filter_map(|(run, audit)| Some((run, *audit.metrics.get(name)?))).collect();
        let low = values.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let high = values.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        let bar = |value: f64| {
            let share = if high > low { (value - low) / (high - low) } else { 1.0 };
            "█".repeat(1 + (share * 29.0).round() as usize)
        };
        let rows: Vec<Vec<String>> = values
            .iter()
            .map(|(run, value)| {
                vec![
                    time(run.run.started_at),
                    run.run.job.clone(),
                    run.run.id.to_string(),
                    value.to_string(),
                    bar(*value),
                ]
            })
            .collect();
        text.push_str(&format!("{name}\n"));
        let columns = [("started", false), ("job", false), ("run", false), ("value", true), ("", false)];
        text.push_str(&draw_to_terminal(&columns, &rows));
    }
    Ok(text)
}
