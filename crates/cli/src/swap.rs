//! `hardtack swap`: exchanges two tables of the catalog.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::AsArray;
use clap::Args;
use hardtack_catalog::{Catalog, CatalogOf, TableDescription};
use hardtack_core::{Error, JobContext, Result};
use hardtack_iceberg::{IcebergMaintenance, described};
use hardtack_runtime::{RuntimeArgs, open_context};

use crate::tables::{format_of, location, qualified};
use crate::vacuum::unfinished;

#[derive(Debug, Args)]
pub(crate) struct SwapArgs {
    /// The table that readers use, for example `lake.customers`
    #[arg(value_name = "DB.TABLE", value_parser = qualified)]
    table: (String, String),
    /// The table that takes its place, for example `green.customers`
    #[arg(value_name = "DB.TABLE", value_parser = qualified)]
    with: (String, String),
    /// Only report what would be swapped
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn swap(options: &RuntimeArgs, args: &SwapArgs) -> Result<String> {
    let ctx = open_context("hardtack", options)?;
    let catalog = ctx.catalog().await?;
    let read = async |(database, name): &(String, String)| catalog.get_table(database, name).await;
    let (a, b) = (read(&args.table).await?, read(&args.with).await?);
    catalog.check_swap(&a, &b)?;
    check_runs(&ctx, options, [&a, &b]).await?;
    let has_begun = a.unfinished_swap().or(b.unfinished_swap()).is_some();
    let text = match has_begun {
        true => {
            let verb = if args.dry_run { "would finish" } else { "finished" };
            format!("{verb} the swap of {} and {}, which had begun\n", a.qualified_name(), b.qualified_name())
        }
        false => render(&shown(&ctx, &catalog, &a).await?, &shown(&ctx, &catalog, &b).await?, args.dry_run),
    };
    if !args.dry_run {
        catalog.swap_tables(&a, &b).await?;
    }
    Ok(text)
}

/// Refuses an Iceberg table to which a run is writing: its branch goes with the table, and a run publishes to the table
/// of the name only if that is the one to which it has written.
async fn check_runs(ctx: &JobContext, options: &RuntimeArgs, tables: [&TableDescription; 2]) -> Result<()> {
    let iceberg: Vec<&TableDescription> = tables.into_iter().filter(|table| table.is_iceberg()).collect();
    if iceberg.is_empty() {
        return Ok(());
    }
    let live = unfinished(ctx, &options.records.state).await?;
    for table in iceberg {
        let open = IcebergMaintenance::open(ctx, &table.database, &table.name, ctx.now()).await?;
        let refs = open.metadata("refs").await?;
        let names = refs.column_by_name("name").map(|names| names.as_string::<i32>());
        let run = |name| IcebergMaintenance::run_of_branch(name, &live);
        if let Some(run) = names.into_iter().flatten().flatten().find_map(run) {
            return Err(Error::usage("a run that has not ended writes to the table")
                .with("table", table.qualified_name())
                .with("run", run)
                .hint(
                    "wait for it; if it was killed, the next run of its job or `hardtack recover` removes its branch",
                ));
        }
    }
    Ok(())
}

/// The table with its columns and location, which the catalog may not have of an Iceberg table.
async fn shown(ctx: &JobContext, catalog: &Arc<dyn Catalog>, table: &TableDescription) -> Result<TableDescription> {
    match table.is_iceberg() {
        true => described(ctx, Arc::clone(catalog), table.clone()).await,
        false => Ok(table.clone()),
    }
}

/// What readers of `a` will miss, and what both names mean then.
fn render(a: &TableDescription, b: &TableDescription, dry_run: bool) -> String {
    let mut text = String::new();
    for warning in missed(a, b) {
        let _ = writeln!(text, "warning: {warning}");
    }
    let verb = if dry_run { "would swap" } else { "swapped" };
    let _ = writeln!(text, "{verb} {} and {}", a.qualified_name(), b.qualified_name());
    for (name, table) in [(a, b), (b, a)] {
        let _ = writeln!(text, "{}: {} in {}", name.qualified_name(), format_of(table), location(table));
    }
    text
}

/// The columns of `a` that `b` does not have, or with other types.
fn missed(a: &TableDescription, b: &TableDescription) -> Vec<String> {
    let (before, after) = (a.qualified_name(), b.qualified_name());
    let change = |column: &hardtack_catalog::Column| {
        let (name, was) = (&column.name, &column.data_type);
        match b.all_columns().find(|other| other.name.eq_ignore_ascii_case(name)) {
            None => Some(format!("`{name}` of {before} is missing in {after}")),
            Some(is) if is.data_type.eq_ignore_ascii_case(was) => None,
            Some(is) => Some(format!("`{name}` is {was} in {before} and {} in {after}", is.data_type)),
        }
    };
    a.all_columns().filter_map(change).collect()
}
