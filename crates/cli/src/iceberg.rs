//! `hardtack iceberg`: looks after an Iceberg table.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::TimeDelta;
use clap::{Args, Subcommand};
use hardtack_core::{Error, Location, Result};
use hardtack_iceberg::{CompactOptions, Compacted, ExpireOptions, IcebergMaintenance, PartitionField, TableChange};
use hardtack_runtime::{RuntimeArgs, open_context, parse_duration};
use hardtack_sinks::SortColumn;
use hardtack_tables::Table;

use crate::compact::sort_column;
use crate::draw::{count, draw};
use crate::recover::user;
use crate::tables::qualified;
use crate::vacuum::{render, unfinished};

#[derive(Debug, Args)]
pub(crate) struct IcebergArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Named {
    /// The table, for example `lake.people`
    #[arg(value_name = "DB.TABLE", value_parser = qualified)]
    table: (String, String),
    /// Only report what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List branches and tags
    Refs {
        /// The table, for example `lake.people`
        #[arg(value_name = "DB.TABLE", value_parser = qualified)]
        table: (String, String),
    },
    /// List snapshots, oldest first
    Snapshots {
        /// The table, for example `lake.people`
        #[arg(value_name = "DB.TABLE", value_parser = qualified)]
        table: (String, String),
    },
    /// Tag a version, or move a tag to it
    Tag {
        #[command(flatten)]
        named: Named,
        /// The name of the tag, for example `year-end`
        name: String,
        /// A snapshot, a moment (`2026-11-29T12:00:00Z`), a branch or a tag [default: the current snapshot]
        #[arg(long)]
        version: Option<String>,
    },
    /// Begin a branch at a version
    Branch {
        #[command(flatten)]
        named: Named,
        /// The name of the branch
        name: String,
        /// A snapshot, a moment (`2026-11-29T12:00:00Z`), a branch or a tag [default: the current snapshot]
        #[arg(long)]
        version: Option<String>,
    },
    /// Publish a branch, such as one whose audit has failed, and drop it
    ///
    /// `main` gets what the branch has more, as a snapshot that says who has decided so and why.
    Publish {
        #[command(flatten)]
        named: Named,
        /// The branch
        #[arg(long)]
        branch: String,
        /// Why it may be published: this is recorded
        #[arg(long)]
        reason: String,
        /// Who decides [default: you]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Drop a branch or tag; what only it has goes with the next expiry
    #[command(alias = "drop-tag")]
    DropBranch {
        #[command(flatten)]
        named: Named,
        /// The branch or tag
        name: String,
    },
    /// Move `main` back to an earlier snapshot
    Rollback {
        #[command(flatten)]
        named: Named,
        /// The snapshot, or a moment (`2026-11-29T12:00:00Z`) or a tag
        #[arg(long)]
        to: String,
    },
    /// Rewrite small files, and files of which rows were deleted, as files of the target size
    ///
    /// Rows stay as they are, those that others add meanwhile among them.
    Compact {
        #[command(flatten)]
        named: Named,
        /// The branch whose files are rewritten
        #[arg(long, default_value = "main")]
        branch: String,
        /// Rewrite the small files of a partition if there are at least so many
        #[arg(long, value_name = "COUNT", default_value_t = CompactOptions::default().min_input_files)]
        min_input_files: usize,
        /// Rewrite all files
        #[arg(long)]
        all: bool,
        /// Sort the rows within each file by these columns, for example `customer,day desc nulls last` [default: the
        /// table's sort order]
        #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = sort_column)]
        sort_by: Option<Vec<SortColumn>>,
    },
    /// Rewrite the manifests of data files, so that those of a partition are together
    RewriteManifests {
        #[command(flatten)]
        named: Named,
    },
    /// Change columns, partition fields or properties; files stay as they are
    Alter(Alter),
    /// Remove data files with their rows: one that is damaged, or was added by mistake
    ///
    /// Earlier snapshots have them still. `select file_path from db."table$files"` lists files.
    DeleteFiles {
        #[command(flatten)]
        named: Named,
        /// The data files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<Location>,
        /// The branch that loses them
        #[arg(long, default_value = "main")]
        branch: String,
    },
    /// Make a table of Parquet files an Iceberg table, without rewriting them
    ///
    /// Partition keys become partition fields. Stop the jobs that save to the table before.
    Migrate {
        #[command(flatten)]
        named: Named,
    },
    /// Remove old snapshots and the files that only they need
    ///
    /// Tags, the heads of branches and what the table's properties `history.expire.*` keep stay.
    Expire {
        #[command(flatten)]
        named: Named,
        /// Age beyond which snapshots expire, for example `30d` [default: the table's property, or 5d]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        older_than: Option<TimeDelta>,
        /// How many snapshots of each branch stay, whatever their age [default: the table's property, or 1]
        #[arg(long, value_name = "COUNT")]
        retain_last: Option<usize>,
    },
    /// Remove files that no snapshot refers to: what killed runs have left
    RemoveOrphans {
        #[command(flatten)]
        named: Named,
        /// Age beyond which they are removed: longer than a run of any tool can take
        #[arg(long, value_name = "TIME", default_value = "3d", value_parser = parse_duration)]
        older_than: TimeDelta,
    },
}

#[derive(Debug, Args)]
struct Alter {
    /// The table, for example `lake.people`
    #[arg(value_name = "DB.TABLE", value_parser = qualified)]
    table: (String, String),
    /// Only report what would be done
    #[arg(long, global = true)]
    dry_run: bool,
    #[command(subcommand)]
    change: Alteration,
}

/// Columns within structs are named with dots: `place.city`.
#[derive(Debug, Subcommand)]
enum Alteration {
    /// Give a column another name
    RenameColumn {
        /// The column, for example `place.city`
        column: String,
        /// Its new name, for example `town`
        to: String,
    },
    /// Drop a column; earlier snapshots have it still
    DropColumn {
        /// The column
        column: String,
    },
    /// Add a column, which is null in the rows that are there
    AddColumn {
        /// The column
        column: String,
        /// Its type, for example `bigint`, `decimal(9,2)`, `array<string>` or `timestamptz`
        #[arg(value_name = "TYPE", value_parser = TableChange::parse_type)]
        data_type: DataType,
    },
    /// Move a column within its table or struct
    MoveColumn {
        /// The column
        column: String,
        /// To the front
        #[arg(long, conflicts_with = "after", required_unless_present = "after")]
        first: bool,
        /// Behind this one
        #[arg(long, value_name = "COLUMN")]
        after: Option<String>,
    },
    /// Give a column a wider type
    WidenColumn {
        /// The column
        column: String,
        /// `bigint` for int, `double` for float, or a decimal of more digits
        #[arg(value_name = "TYPE", value_parser = TableChange::parse_type)]
        data_type: DataType,
    },
    /// Let a column be null
    MakeOptional {
        /// The column
        column: String,
    },
    /// Partition new files by these fields; those that are there keep theirs until they are compacted
    PartitionBy {
        /// The fields, for example `day(sold_at), bucket(16, id)`; none if empty
        fields: String,
    },
    /// Set a property
    Set {
        /// For example `write.target-file-size-bytes=134217728`
        #[arg(value_name = "PROPERTY=VALUE", value_parser = property)]
        property: (String, String),
    },
    /// Remove a property
    Unset {
        /// The property
        property: String,
    },
}

fn property(text: &str) -> std::result::Result<(String, String), String> {
    let (property, value) = text.split_once('=').ok_or("expected PROPERTY=VALUE")?;
    Ok((property.to_owned(), value.to_owned()))
}

impl Alteration {
    fn change(self) -> Result<TableChange> {
        Ok(match self {
            Self::RenameColumn { column, to } => TableChange::RenameColumn { column, to },
            Self::DropColumn { column } => TableChange::DropColumn { column },
            Self::AddColumn { column, data_type } => TableChange::AddColumn { column, data_type },
            Self::MoveColumn { column, after, .. } => TableChange::MoveColumn { column, after },
            Self::WidenColumn { column, data_type } => TableChange::WidenColumn { column, data_type },
            Self::MakeOptional { column } => TableChange::MakeOptional { column },
            Self::PartitionBy { fields } => TableChange::PartitionBy(PartitionField::parse_list(&fields)?),
            Self::Set { property: (property, value) } => TableChange::Set { property, value },
            Self::Unset { property } => TableChange::Unset { property },
        })
    }
}

pub(crate) async fn run(options: &RuntimeArgs, args: IcebergArgs) -> Result<String> {
    let ctx = open_context("hardtack", options)?;
    let open = async |(database, table): &(String, String), dry_run: bool| {
        Ok::<_, hardtack_core::Error>(
            IcebergMaintenance::open(&ctx, database, table, ctx.now()).await?.dry_run(dry_run),
        )
    };
    let would = |dry_run: bool, done: &'static str, would: &'static str| if dry_run { would } else { done };
    Ok(match args.command {
        Command::Refs { table } => {
            let refs = open(&table, true).await?.metadata("refs").await?;
            listed(&refs, &["name", "type", "snapshot_id"])?
        }
        Command::Snapshots { table } => {
            let table = open(&table, true).await?;
            with_names(&table.metadata("snapshots").await?, &table.metadata("refs").await?)?
        }
        Command::Tag { named, name, version } => {
            let id = open(&named.table, named.dry_run).await?.tag(&name, version.as_deref()).await?;
            format!("{} `{name}` at snapshot {id}\n", would(named.dry_run, "tagged", "would tag"))
        }
        Command::Branch { named, name, version } => {
            let id = open(&named.table, named.dry_run).await?.branch(&name, version.as_deref()).await?;
            format!("{} the branch `{name}` at snapshot {id}\n", would(named.dry_run, "began", "would begin"))
        }
        Command::Publish { named, branch, reason, by } => {
            let by = by.unwrap_or_else(user);
            let live = unfinished(&ctx, &options.records.state).await?;
            if let Some(run) = IcebergMaintenance::run_of_branch(&branch, &live) {
                return Err(Error::usage("the run that writes this branch has not ended")
                    .with("branch", &branch)
                    .with("run", run)
                    .hint("wait for it; if it was killed, the next run of the job removes the branch"));
            }
            let id = open(&named.table, named.dry_run).await?.publish(&branch, &by, &reason).await?;
            match named.dry_run {
                true => format!("would publish the branch `{branch}`\n"),
                false => format!("published the branch `{branch}` as snapshot {id}\n"),
            }
        }
        Command::DropBranch { named, name } => {
            let id = open(&named.table, named.dry_run).await?.drop_ref(&name).await?;
            format!("{} `{name}`, which was at snapshot {id}\n", would(named.dry_run, "dropped", "would drop"))
        }
        Command::Rollback { named, to } => {
            let id = open(&named.table, named.dry_run).await?.rollback(&to).await?;
            format!("{} `main` back to snapshot {id}\n", would(named.dry_run, "moved", "would move"))
        }
        Command::Compact { named, branch, min_input_files, all, sort_by } => {
            let options = CompactOptions { branch: Some(branch), min_input_files, all, sort_by };
            compacted(&open(&named.table, named.dry_run).await?.compact(&ctx, &options).await?, named.dry_run)
        }
        Command::RewriteManifests { named } => {
            let done = open(&named.table, named.dry_run).await?.rewrite_manifests().await?;
            match done.manifests {
                0 => "nothing to do: the files of each partition are together\n".to_owned(),
                n => format!(
                    "{} {} of {} as {}\n",
                    would(named.dry_run, "rewrote", "would rewrite"),
                    count(n, "manifest"),
                    count(done.files, "file"),
                    count(done.new_manifests, "manifest")
                ),
            }
        }
        Command::Alter(Alter { table, dry_run, change }) => {
            let change = change.change()?;
            match open(&table, dry_run).await?.alter(&change).await? {
                true => format!("{}: {change}\n", would(dry_run, "done", "would")),
                false => "nothing to do: it is so already\n".to_owned(),
            }
        }
        Command::DeleteFiles { named, files, branch } => {
            let done = open(&named.table, named.dry_run).await?.delete_files(Some(&branch), &files).await?;
            let rows = count(usize::try_from(done.rows).unwrap_or(usize::MAX), "row");
            let verb = would(named.dry_run, "deleted", "would delete");
            let snapshot = done.snapshot.map_or_else(String::new, |id| format!(", as snapshot {id}"));
            format!("{verb} {} with {rows}{snapshot}\n", count(done.files, "file"))
        }
        Command::Migrate { named: Named { table: (database, table), dry_run } } => {
            let done = hardtack_tables::migrate(&ctx, &Table::named(database, table), dry_run).await?;
            let verb = would(dry_run, "migrated", "would migrate");
            let snapshot = done.snapshot.map_or_else(String::new, |id| format!(", as snapshot {id}"));
            let (files, rows) =
                (count(done.files, "file"), count(usize::try_from(done.rows).unwrap_or(usize::MAX), "row"));
            format!("{verb} {files} of {} bytes with {rows}{snapshot}\n", done.bytes)
        }
        Command::Expire { named, older_than, retain_last } => {
            let options = ExpireOptions { older_than, retain_last };
            let expired = open(&named.table, named.dry_run).await?.expire(options).await?;
            let mut text = String::new();
            for name in &expired.refs {
                let _ = writeln!(text, "{} `{name}`", would(named.dry_run, "dropped", "would drop"));
            }
            let verb = would(named.dry_run, "expired", "would expire");
            let _ = writeln!(text, "{verb} {}", count(expired.snapshots.len(), "snapshot"));
            text + &render(&expired.files, named.dry_run)
        }
        Command::RemoveOrphans { named, older_than } => {
            let live = unfinished(&ctx, &options.records.state).await?;
            let files = open(&named.table, named.dry_run).await?.remove_orphans(older_than, &live).await?;
            render(&files, named.dry_run)
        }
    })
}

fn compacted(done: &Compacted, dry_run: bool) -> String {
    if done.files == 0 {
        return "nothing to do: no partition would have fewer files\n".to_owned();
    }
    let deletes = match done.delete_files {
        0 => String::new(),
        n => format!(", and {} of deletes", count(n, "file")),
    };
    let files = format!("{} of {} bytes{deletes}", count(done.files, "file"), done.bytes);
    match dry_run {
        true => format!("would rewrite {files}\n"),
        false => format!("rewrote {files}, as {} of {} bytes\n", count(done.new_files, "file"), done.new_bytes),
    }
}

/// Snapshots with what their summaries say of rows and runs, and the branches and tags that point at them.
fn with_names(snapshots: &RecordBatch, refs: &RecordBatch) -> Result<String> {
    let names = cells(refs, &["name", "snapshot_id"])?;
    let mut lines = cells(snapshots, &["committed_at", "snapshot_id", "parent_id", "operation", "summary"])?;
    for line in &mut lines {
        let summary = line.pop().unwrap_or_default();
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap_or_default();
        let said = ["added-records", "deleted-records", "total-records", "hardtack.run"]
            .map(|key| summary[key].as_str().unwrap_or_default().to_owned());
        let here = names.iter().filter(|name| name[1] == line[1]).map(|name| name[0].as_str());
        let here: Vec<&str> = here.collect();
        line.extend(said);
        line.push(here.join(", "));
    }
    let titles = ["committed_at", "snapshot_id", "parent_id", "operation", "added", "deleted", "rows", "run", "refs"];
    Ok(draw(&titles, &lines))
}

/// These columns of the rows, drawn.
fn listed(rows: &RecordBatch, columns: &[&str]) -> Result<String> {
    Ok(draw(columns, &cells(rows, columns)?))
}

/// The texts of these columns, row by row.
fn cells(rows: &RecordBatch, columns: &[&str]) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::new().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.3fZ"));
    let mut cells = vec![Vec::new(); rows.num_rows()];
    for name in columns {
        let column = rows.column_by_name(name);
        let column =
            column.ok_or_else(|| hardtack_core::Error::unexpected("a column is missing").with("column", name))?;
        let texts = ArrayFormatter::try_new(column.as_ref(), &options)?;
        cells.iter_mut().enumerate().for_each(|(row, cells)| cells.push(texts.value(row).to_string()));
    }
    Ok(cells)
}
