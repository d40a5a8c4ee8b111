//! `hardtack iceberg`: looks after an Iceberg table.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::TimeDelta;
use clap::{Args, Subcommand};
use hardtack_core::Result;
use hardtack_iceberg::{ExpireOptions, IcebergMaintenance};
use hardtack_runtime::{RuntimeArgs, open_context, parse_duration};

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
            let snapshots = open(&table, true).await?.metadata("snapshots").await?;
            listed(&snapshots, &["committed_at", "snapshot_id", "parent_id", "operation"])?
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

/// These columns of the rows, drawn.
fn listed(rows: &RecordBatch, columns: &[&str]) -> Result<String> {
    let options = FormatOptions::new().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.3fZ"));
    let mut cells = vec![Vec::new(); rows.num_rows()];
    for name in columns {
        let column = rows.column_by_name(name);
        let column =
            column.ok_or_else(|| hardtack_core::Error::unexpected("a column is missing").with("column", name))?;
        let texts = ArrayFormatter::try_new(column.as_ref(), &options)?;
        cells.iter_mut().enumerate().for_each(|(row, cells)| cells.push(texts.value(row).to_string()));
    }
    Ok(draw(columns, &cells))
}
