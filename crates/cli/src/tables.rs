//! Lists and describes tables: `hardtack tables` and `hardtack describe`.

use std::sync::Arc;

use futures::TryStreamExt;
use hardtack_catalog::{Catalog, CatalogOf, Predicate, TableDescription};
use hardtack_core::{Error, JobContext, Result};
use hardtack_iceberg::{PARTITIONED_BY, described};
use serde_json::{Value, json};

use crate::draw::{count, draw};

#[derive(Debug, clap::Args)]
pub(crate) struct TablesArgs {
    /// Only the tables of this database, for example `lake` [default: all]
    database: Option<String>,
    /// Print one JSON object per table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DescribeArgs {
    /// The table, for example `lake.books`
    #[arg(value_name = "DB.TABLE", value_parser = qualified)]
    table: (String, String),
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DropArgs {
    /// The table, for example `lake.books`
    #[arg(value_name = "DB.TABLE", value_parser = qualified)]
    table: (String, String),
    /// Only report what would be dropped
    #[arg(long)]
    dry_run: bool,
}

/// Splits `database.table`.
pub(crate) fn qualified(text: &str) -> Result<(String, String), String> {
    match text.split_once('.') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => {
            Ok((database.to_owned(), table.to_owned()))
        }
        _ => Err("expected a database and a table, for example `lake.books`".to_owned()),
    }
}

pub(crate) async fn list(ctx: &JobContext, args: &TablesArgs) -> Result<String> {
    let catalog = ctx.catalog().await?;
    let databases = match &args.database {
        Some(name) => vec![name.to_lowercase()],
        None => catalog.list_databases().await?.into_iter().map(|database| database.name).collect(),
    };
    let mut tables = Vec::new();
    for database in &databases {
        for table in catalog.list_tables(database).await? {
            tables.push(match table.is_iceberg() {
                // One that cannot be read is listed nevertheless.
                true => described(ctx, Arc::clone(&catalog), table.clone()).await.unwrap_or(table),
                false => table,
            });
        }
    }
    if args.json {
        return tables.iter().map(|table| json_line(&as_json(table, None))).collect();
    }
    if tables.is_empty() {
        return Ok("no tables; `hardtack crawl LOCATION --database DB` finds some\n".to_owned());
    }
    let rows: Vec<Vec<String>> =
        tables.iter().map(|t| vec![t.qualified_name(), format_of(t), keys(t), location(t)]).collect();
    Ok(draw(&["table", "format", "partitioned by", "location"], &rows))
}

pub(crate) async fn describe(ctx: &JobContext, args: &DescribeArgs) -> Result<String> {
    let catalog = ctx.catalog().await?;
    let (database, name) = &args.table;
    let mut table = catalog.get_table(database, name).await?;
    if table.is_iceberg() {
        table = described(ctx, Arc::clone(&catalog), table).await?;
    }
    let partitions = match table.partition_keys.is_empty() {
        true => None,
        false => Some(count_partitions(catalog.as_ref(), &table).await?),
    };
    if args.json { json_line(&as_json(&table, partitions)) } else { Ok(as_text(&table, partitions)) }
}

/// Drops a table from the catalog. Files are never touched, so a crawl can find it again.
pub(crate) async fn drop(ctx: &JobContext, args: &DropArgs) -> Result<String> {
    let catalog = ctx.catalog().await?;
    let (database, name) = &args.table;
    let table = catalog.get_table(database, name).await?;
    if !args.dry_run {
        catalog.drop_table(&table.database, &table.name).await?;
    }
    let verb = if args.dry_run { "would drop" } else { "dropped" };
    Ok(match location(&table).as_str() {
        "" => format!("{verb} {}\n", table.qualified_name()),
        location => format!("{verb} {}; its files stay in {location}\n", table.qualified_name()),
    })
}

async fn count_partitions(catalog: &dyn Catalog, table: &TableDescription) -> Result<usize> {
    let pages = catalog.list_partitions(table, &Predicate::all());
    pages.try_fold(0, |n, page| async move { Ok(n + page.len()) }).await
}

fn as_text(table: &TableDescription, partitions: Option<usize>) -> String {
    let mut text = format!("{}\n", table.qualified_name());
    if let Some(description) = &table.description {
        text.push_str(&format!("{description}\n"));
    }
    text.push_str(&format!("\nformat    {}\nlocation  {}\n\n", format_of(table), location(table)));
    let row =
        |c: &hardtack_catalog::Column| vec![c.name.clone(), c.data_type.clone(), c.comment.clone().unwrap_or_default()];
    let columns: Vec<_> = table.storage.columns.iter().map(row).collect();
    text.push_str(&draw(&["column", "type", "comment"], &columns));
    if let Some(partitions) = partitions {
        let keys: Vec<_> = table.partition_keys.iter().map(row).collect();
        text.push_str(&format!("\n{}", draw(&["partition key", "type", "comment"], &keys)));
        text.push_str(&format!("({})\n", count(partitions, "partition")));
    }
    if !table.parameters.is_empty() {
        let parameters: Vec<_> =
            table.parameters.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
        text.push_str(&format!("\n{}", draw(&["parameter", "value"], &parameters)));
    }
    text
}

fn as_json(table: &TableDescription, partitions: Option<usize>) -> Value {
    let mut json = json!({
        "database": table.database,
        "name": table.name,
        "description": table.description,
        "format": format_of(table),
        "location": table.storage.location,
        "columns": table.storage.columns,
        "partition_keys": table.partition_keys,
        "parameters": table.parameters,
    });
    if let Some(partitions) = partitions {
        json["partitions"] = partitions.into();
    }
    json
}

fn json_line(value: &Value) -> Result<String> {
    let json = serde_json::to_string(value).map_err(|e| Error::unexpected("a table cannot be printed").because(e))?;
    Ok(json + "\n")
}

/// The format, or the kind of table, for example a view.
pub(crate) fn format_of(table: &TableDescription) -> String {
    if table.is_iceberg() {
        return "iceberg".to_owned();
    }
    match (table.format(), &table.table_type) {
        (Ok(format), _) => format.classification().to_owned(),
        (Err(_), Some(kind)) if kind != TableDescription::EXTERNAL => kind.to_lowercase().replace('_', " "),
        (Err(_), _) => "unknown".to_owned(),
    }
}

fn keys(table: &TableDescription) -> String {
    if let Some(fields) = table.parameters.get(PARTITIONED_BY).filter(|_| table.is_iceberg()) {
        return fields.clone();
    }
    table.partition_keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ")
}

pub(crate) fn location(table: &TableDescription) -> String {
    table.storage.location.as_ref().map(ToString::to_string).unwrap_or_default()
}
