//! What is wrong with the tables of a catalog: what points to nothing, and what nothing points to.

use std::collections::HashSet;

use futures::TryStreamExt;
use hardtack_catalog::{Catalog, CatalogOf, Predicate, Table as Description};
use hardtack_core::{Error, JobContext, Location, Result};

use crate::place::visible_files;
use crate::steps::{Counted, has_runs};
use crate::{Table, VacuumOptions, vacuum};

/// Something that is wrong with a table.
#[derive(Debug)]
pub struct TableProblem {
    /// The table, `database.table`.
    pub table: String,
    /// What is wrong.
    pub kind: TableProblemKind,
}

/// What is wrong with a table.
#[derive(Debug)]
pub enum TableProblemKind {
    /// The catalog counts rows in this folder, and there is no file. A partition has values.
    Dangling {
        /// The values of the partition.
        values: Vec<String>,
        /// The folder.
        location: Location,
    },
    /// These files of replaced partitions and of runs that died can be removed by [`vacuum`].
    LeftBehind(Vec<Location>),
    /// It could not be looked at.
    Unreadable(Error),
}

/// Looks at all tables that jobs have saved to. `unfinished` is what [`VacuumOptions::unfinished`] is. Files are removed by
/// vacuum after its usual grace period; those that it would not remove yet are no problem.
///
/// # Errors
/// Those of the catalog, if not even the names of its tables can be read.
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
    table: &Description,
    unfinished: &HashSet<String>,
) -> Result<Vec<TableProblemKind>> {
    let mut problems = Vec::new();
    if table.partition_keys.is_empty() {
        // Tables that no job saves to are the business of whoever does.
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
