//! `hardtack compare`: what differs between two tables or data sets.

use std::collections::BTreeMap;
use std::process::ExitCode;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::prelude::{DataFrame, col, ident, lit};
use hardtack_core::{Error, ErrorKind, JobContext, Result};
use hardtack_runtime::{QueryArgs, RuntimeArgs, open_context};
use hardtack_transforms::{differences, drop_columns};
use serde_json::json;

use crate::draw::{count as count_of, draw_to_terminal};
use crate::quality::rows;

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// What is compared: a table, for example `lake.books`, or a version of one (`lake.people@2026-11-29`), or the location of files
    #[arg(value_name = "DB.TABLE|LOCATION")]
    before: String,
    /// With what
    #[arg(value_name = "DB.TABLE|LOCATION")]
    after: String,
    /// Columns that identify a row, for example `--key id` or `--key customer,day`
    #[arg(long, required = true, value_delimiter = ',', value_name = "COLUMN")]
    key: Vec<String>,
    /// Columns whose values may differ, for example `loaded_at`
    #[arg(long, value_delimiter = ',', value_name = "COLUMN")]
    ignore: Vec<String>,
    /// How many rows that differ are printed
    #[arg(long, value_name = "N", default_value_t = 10)]
    examples: usize,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    query: QueryArgs,
}

/// What two data sets differ in.
struct Comparison {
    rows: [i64; 2],
    /// Columns that only one of them has, or with types of which the values cannot be compared.
    columns: Vec<String>,
    /// How many rows were added, removed, changed.
    changes: BTreeMap<String, i64>,
    /// In how many of the changed rows each column differs.
    changed: BTreeMap<String, i64>,
    header: Vec<String>,
    examples: Vec<Vec<String>>,
}

/// Compares; the exit code is 3 if anything differs.
pub(crate) async fn run(options: RuntimeArgs, args: CompareArgs) -> Result<(String, ExitCode)> {
    let options = RuntimeArgs { query: args.query.clone(), ..options };
    let ctx = open_context("compare", &options)?;
    let comparison = compare(&ctx, &args).await.map_err(|e| ctx.explain(e))?;
    let same = comparison.columns.is_empty() && comparison.changes.is_empty();
    let text = if args.json { comparison.to_json() } else { comparison.to_text(&args) };
    Ok((text, ExitCode::from(if same { 0 } else { ErrorKind::Refused.exit_code() })))
}

async fn compare(ctx: &JobContext, args: &CompareArgs) -> Result<Comparison> {
    let load = async |data: &str| {
        let rows = rows(ctx, data).await?;
        let has = |column: &String| rows.schema().field_with_unqualified_name(column).is_ok();
        if let Some(missing) = args.key.iter().find(|column| !has(column)) {
            return Err(Error::usage("the data has no such column").with("column", missing).with("data", data));
        }
        let ignored: Vec<&str> = args.ignore.iter().filter(|column| has(column)).map(String::as_str).collect();
        drop_columns(rows.clone(), &ignored)
    };
    let (before, after) = (load(&args.before).await?, load(&args.after).await?);
    let keys: Vec<&str> = args.key.iter().map(String::as_str).collect();
    let mut rows = [0; 2];
    for (at, (frame, data)) in [(&before, &args.before), (&after, &args.after)].into_iter().enumerate() {
        rows[at] = check_key(frame, &keys).await.map_err(|e| e.with("data", data))?;
    }
    let columns = columns(&before, &after, args);
    // Read once: the differences are few, or there is nothing else to be seen.
    let different = ctx.persist(differences(before, after, &keys)?).await?;
    let changes = counted(ctx, different.clone().aggregate(vec![col("change")], vec![count(lit(1))])?).await?;
    let changed = different.clone().select(vec![col("columns")])?.unnest_columns(&["columns"])?;
    let changed = counted(ctx, changed.aggregate(vec![col("columns")], vec![count(lit(1))])?).await?;
    let order = std::iter::once(col("change")).chain(keys.iter().map(|key| ident(*key)));
    let examples = different.sort(order.map(|by| by.sort(true, true)).collect())?.limit(0, Some(args.examples))?;
    let header = examples.schema().fields().iter().map(|field| field.name().clone()).collect();
    let options = FormatOptions::new().with_null("");
    let mut lines = Vec::new();
    for batch in examples.collect().await? {
        let cells: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).map_err(Error::from))
            .collect::<Result<_>>()?;
        lines.extend((0..batch.num_rows()).map(|row| cells.iter().map(|cell| cell.value(row).to_string()).collect()));
    }
    Ok(Comparison { rows, columns, changes, changed, header, examples: lines })
}

/// Checks that a key is unique; returns the number of rows.
async fn check_key(rows: &DataFrame, keys: &[&str]) -> Result<i64> {
    const ROWS: &str = "__hardtack_rows";
    let by = keys.iter().map(|key| ident(*key)).collect();
    let groups = rows.clone().aggregate(by, vec![count(lit(1)).alias(ROWS)])?;
    let sizes = groups.clone().aggregate(vec![], vec![count(lit(1)), max(ident(ROWS))])?.collect().await?;
    let size = |column: usize| match sizes.first().map(|batch| batch.column(column).as_primitive::<Int64Type>()) {
        Some(sizes) if sizes.is_valid(0) => sizes.value(0),
        _ => 0,
    };
    if size(1) <= 1 {
        return Ok(size(0));
    }
    let twice = groups.filter(ident(ROWS).gt(lit(1)))?.limit(0, Some(1))?.collect().await?;
    let options = FormatOptions::new().with_null("null");
    let mut values = Vec::new();
    for batch in twice.iter().filter(|batch| batch.num_rows() > 0) {
        for (key, column) in keys.iter().zip(batch.columns()) {
            values.push(format!("{key} = {}", ArrayFormatter::try_new(column.as_ref(), &options)?.value(0)));
        }
    }
    Err(Error::refused("several rows have the same key")
        .with("key", values.join(", "))
        .hint("name more columns with `--key`"))
}

/// What the columns differ in.
fn columns(before: &DataFrame, after: &DataFrame, args: &CompareArgs) -> Vec<String> {
    let mut found = Vec::new();
    for (ours, theirs, data) in [(before, after, &args.before), (after, before, &args.after)] {
        for field in ours.schema().fields() {
            match theirs.schema().field_with_unqualified_name(field.name()) {
                Err(_) => found.push(format!("`{}` is only in {data}", field.name())),
                Ok(other) if std::ptr::eq(ours, before) && other.data_type() != field.data_type() => {
                    found.push(format!(
                        "`{}` is {} in {} and {} in {}",
                        field.name(),
                        field.data_type(),
                        args.before,
                        other.data_type(),
                        args.after
                    ))
                }
                Ok(_) => {}
            }
        }
    }
    found
}

/// The rows of texts and counts.
async fn counted(ctx: &JobContext, counts: DataFrame) -> Result<BTreeMap<String, i64>> {
    let mut all = BTreeMap::new();
    for batch in counts.collect().await.map_err(|e| ctx.explain(e.into()))? {
        let options = FormatOptions::new();
        let names = ArrayFormatter::try_new(batch.column(0).as_ref(), &options)?;
        let counts = batch.column(1).as_primitive::<Int64Type>();
        for row in (0..batch.num_rows()).filter(|row| batch.column(0).is_valid(*row)) {
            all.insert(names.value(row).to_string(), counts.value(row));
        }
    }
    Ok(all)
}

impl Comparison {
    fn count(&self, change: &str) -> i64 {
        self.changes.get(change).copied().unwrap_or_default()
    }

    fn to_json(&self) -> String {
        let examples = self.examples.iter().map(|row| {
            let cells = self.header.iter().zip(row).map(|(name, cell)| (name.clone(), json!(cell)));
            serde_json::Value::Object(cells.collect())
        });
        let json = json!({
            "rows_before": self.rows[0], "rows_after": self.rows[1], "columns": self.columns,
            "added": self.count("added"), "removed": self.count("removed"), "changed": self.count("changed"),
            "changed_by_column": self.changed, "examples": examples.collect::<Vec<_>>(),
        });
        format!("{json}\n")
    }

    fn to_text(&self, args: &CompareArgs) -> String {
        let rows = |at: usize| count_of(usize::try_from(self.rows[at]).unwrap_or_default(), "row");
        let mut text = format!("{}: {}\n{}: {}\n", args.before, rows(0), args.after, rows(1));
        self.columns.iter().for_each(|line| text.push_str(&format!("columns  {line}\n")));
        let [added, removed, changed] = ["added", "removed", "changed"].map(|change| self.count(change));
        if added + removed + changed == 0 {
            text.push_str("the rows are the same\n");
            return text;
        }
        text.push_str(&format!("rows     {added} added, {removed} removed, {changed} changed\n"));
        for (column, rows) in self.changed.iter().map(|(column, rows)| (column, *rows)) {
            let rows = count_of(usize::try_from(rows).unwrap_or_default(), "row");
            text.push_str(&format!("changed  `{column}` in {rows}\n"));
        }
        if !self.examples.is_empty() {
            let columns: Vec<(&str, bool)> = self.header.iter().map(|name| (name.as_str(), false)).collect();
            text.push_str(&draw_to_terminal(&columns, &self.examples));
        }
        text
    }
}
