//! Checks the tables of a catalog for dangling pointers and orphaned files.

use std::collections::HashSet;

use futures::TryStreamExt;
use hardtack_catalog::{Catalog, CatalogOf, Predicate, TableDescription};
use hardtack_core::{Error, JobContext, Location, Result};

use crate::place::visible_files;
use crate::steps::{Counted, has_runs};
use crate::{Table, VacuumOptions, vacuum};

/// A problem of a table.
#[derive(Debug)]
pub struct TableProblem {
    /// The table, `database.table`.
    pub table: String,
    /// The problem.
    pub kind: TableProblemKind,
}

/// The kinds of problems of a table.
#[derive(Debug)]
pub enum TableProblemKind {
    /// The catalog counts rows in this folder, but there is no file. A partition has values.
    Dangling {
        /// The values of the partition.
        values: Vec<String>,
        /// The folder.
        location: Location,
    },
    /// These files of replaced partitions and of runs that died can be removed by [`vacuum`].
    LeftBehind(Vec<Location>),
    /// The table could not be checked.
    Unreadable(Error),
}

/// Checks all tables that jobs have saved to. For `unfinished` see [`VacuumOptions::unfinished`]. Files that vacuum
/// would not remove yet, under its default grace period, are not a problem.
///
/// # Errors
/// The catalog's, if even the names of its tables cannot be read.
pub async fn check_tables(ctx: &JobContext, unfinished: &HashSet<String>) -> Result<Vec<TableProblem>> {
    let catalog = ctx.catalog().await?;
    let mut problems = Vec::new();
    for database in catalog.list_databases().await? {
        for description in catalog.list_tables(&database.name).await? {
            let table = description.qualified_name();
            let problem = |kind| TableProblem { table: table.clone(), kind };
            match check_table(ctx, catalog.as_ref(), &description, unfinished).await {
                Ok(kinds) => problems.extend(kinds.into_iter().map(problem)),
                Err(e) => problems.push(problem(TableProblemKind::Unreadable(e))),
            }
        }
    }
    Ok(problems)
}

async fn check_table(
    ctx: &JobContext,
    catalog: &dyn Catalog,
    table: &TableDescription,
    unfinished: &HashSet<String>,
) -> Result<Vec<TableProblemKind>> {
    let mut problems = Vec::new();
    if table.partition_keys.is_empty() {
        // Tables that no job saves to are not ours to check.
        if !has_runs(&table.parameters) {
            return Ok(problems);
        }
        problems.extend(dangling(ctx, Counted::of(&table.parameters), Vec::new(), table.location()?).await?);
    }
    let mut pages = catalog.list_partitions(table, &Predicate::all());
    let mut is_saved_to = has_runs(&table.parameters);
    while let Some(page) = pages.try_next().await? {
        for partition in page.into_iter().filter(|partition| has_runs(&partition.parameters)) {
            is_saved_to = true;
            let Some(location) = &partition.storage.location else { continue };
            problems.extend(dangling(ctx, Counted::of(&partition.parameters), partition.values, location).await?);
        }
    }
    if is_saved_to {
        let options = VacuumOptions { dry_run: true, unfinished: unfinished.clone(), ..VacuumOptions::default() };
        let left = vacuum(ctx, &Table::named(&*table.database, &*table.name), &options).await?;
        problems.extend((!left.files.is_empty()).then_some(TableProblemKind::LeftBehind(left.files)));
    }
    Ok(problems)
}

async fn dangling(
    ctx: &JobContext,
    counted: Option<Counted>,
    values: Vec<String>,
    location: &Location,
) -> Result<Option<TableProblemKind>> {
    let has_rows = counted.is_some_and(|counted| counted.rows > 0);
    if !has_rows || !visible_files(ctx.stores(), location).await?.is_empty() {
        return Ok(None);
    }
    Ok(Some(TableProblemKind::Dangling { values, location: location.clone() }))
}
