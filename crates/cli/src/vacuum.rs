//! `hardtack vacuum` and `hardtack purge`: removes files of tables.

use std::collections::HashSet;
use std::fmt::Write;

use chrono::TimeDelta;
use clap::Args;
use hardtack_core::{JobContext, Location, Result};
use hardtack_runtime::{RuntimeArgs, open_context, open_state, parse_duration};
use hardtack_state::Ledger;
use hardtack_tables::{Table, VacuumOptions};

use crate::draw::count;

#[derive(Debug, Args)]
pub(crate) struct VacuumArgs {
    /// The table, for example `lake.books`
    #[arg(value_name = "DB.TABLE", value_parser = table)]
    table: Table,
    /// How long superseded files are kept, for example `90m`: at least as long as the longest query that may still read
    /// them
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    grace: TimeDelta,
    /// Only report what would be removed
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// The table, for example `lake.books`
    #[arg(value_name = "DB.TABLE", value_parser = table)]
    table: Table,
    /// Age beyond which files are removed, for example `30d`
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    retention: TimeDelta,
    /// Only report what would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn vacuum(options: &RuntimeArgs, args: VacuumArgs) -> Result<String> {
    let ctx = open_context("hardtack", options)?;
    let unfinished = unfinished(&ctx, &options.records.state).await?;
    let wanted = VacuumOptions { grace_period: args.grace, dry_run: args.dry_run, unfinished };
    let removed = hardtack_tables::vacuum(&ctx, &args.table, &wanted).await?;
    Ok(render(&removed.files, args.dry_run))
}

pub(crate) async fn purge(options: &RuntimeArgs, args: PurgeArgs) -> Result<String> {
    let ctx = open_context("hardtack", options)?;
    let purged = hardtack_tables::purge(&ctx, &args.table, args.retention, args.dry_run).await?;
    let mut text = render(&purged.files, args.dry_run);
    let verb = if args.dry_run { "would drop" } else { "dropped" };
    for partition in &purged.partitions {
        let _ = writeln!(text, "{verb} the partition {partition}");
    }
    Ok(text)
}

/// The runs of all jobs in this state that may still commit or be published.
pub(crate) async fn unfinished(ctx: &JobContext, state: &Location) -> Result<HashSet<String>> {
    let mut unfinished = HashSet::new();
    for ledger in Ledger::all(&open_state(ctx.stores(), state)?).await? {
        unfinished.extend(ledger.attempts().await?.iter().map(|attempt| attempt.run.version()));
    }
    Ok(unfinished)
}

pub(crate) fn render(files: &[Location], dry_run: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    for file in files {
        let _ = writeln!(text, "{verb} {file}");
    }
    let _ = writeln!(text, "{verb} {}", count(files.len(), "file"));
    text
}

fn table(text: &str) -> Result<Table, String> {
    match text.split_once('.') {
        Some((database, name)) if !database.is_empty() && !name.is_empty() && !name.contains('.') => {
            Ok(Table::named(database, name))
        }
        _ => Err("expected a database and a table, for example `lake.books`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_two_names() {
        assert_eq!(table("Lake.Books").unwrap(), Table::named("lake", "books"));
        for text in ["books", ".books", "lake.", "a.b.c", ""] {
            assert!(table(text).is_err(), "{text}");
        }
    }
}
