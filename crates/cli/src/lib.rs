//! The `hardtack` command: maintains the state of jobs, datasets, and the catalog and its tables.

mod backfill;
mod bookmark;
mod compact;
mod compare;
mod crawl;
mod deploy;
mod draw;
mod fsck;
mod iceberg;
mod package;
mod pipeline;
mod process;
mod quality;
mod recover;
mod rerun;
mod runs;
#[cfg(feature = "serve")]
mod serve;
mod sql;
mod standing;
mod swap;
mod tables;
mod vacuum;
mod verdicts;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hardtack_core::{Error, ErrorKind, Result, fault};
use hardtack_runtime::{RecordArgs, RuntimeArgs, open_context, usage_without_credentials};

use crate::compact::Compact;

/// Maintains the runs of hardtack jobs, their datasets, and the catalog of their tables
#[derive(Debug, Parser)]
#[command(name = "hardtack", version)]
struct Cli {
    #[command(flatten)]
    records: RecordArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Finish runs that were killed after their commit, and discard the leftovers of runs that can never commit
    ///
    /// Every run of a job does the same for its own scope before it begins. If one job cannot be recovered, the others
    /// still are, and the command exits with 1.
    Recover(recover::RecoverArgs),
    /// List what is damaged, orphaned or left behind in state, lake and catalog; exits with 1 if there are findings
    ///
    /// Runs may be active meanwhile: their work in progress is not a finding.
    Fsck(fsck::FsckArgs),
    /// List or watch the runs of a job or of all jobs, oldest first; show one run; or show how runs have moved
    Runs(runs::RunsArgs),
    /// Run a job again with the arguments of an earlier run
    ///
    /// The run has the same binary, arguments, folder, scope and window; state and catalog are those of this command. Secrets
    /// are not on record: give them again, after `--`. Exits with the exit code of the job.
    Rerun(rerun::RerunArgs),
    /// Run the jobs of a pipeline in order, on this machine
    ///
    /// The pipeline is a TOML file: a `name`, and a `[[jobs]]` for each job, with `job`, and optionally `binary`, `args`, and
    /// in `after` the jobs that it waits for; if no job has `after`, each waits for the one before it. Jobs that come after one
    /// that has failed are skipped, the others still run, and the exit code is that of the first failure. `--resume` continues
    /// where the last execution has failed, was stopped or killed.
    Run(Box<pipeline::RunArgs>),
    /// Show, set, rewind or remove the positions of the sources of a job
    ///
    /// A change is a commit of its own, recorded with who made it and when: it cannot race with a run, and can be undone.
    /// A run that was active meanwhile exits with 4, and nothing of it is published.
    Bookmark(bookmark::BookmarkArgs),
    /// Run a job once per hour, day or month of a span of time
    ///
    /// Each window is a run of its own, in a scope of its own, with `--window-start` and `--window-end`. Failures do not
    /// stop the others; the command then exits with 1.
    Backfill(Box<backfill::BackfillArgs>),
    /// Merge the many small files of a Parquet dataset, folder by folder, in a run of its own
    ///
    /// Files of at least three quarters of the target size are left alone, and so are folders that would not have fewer
    /// files: a second call does nothing. Files that jobs append meanwhile stay. A job that *replaces* files there
    /// (overwrites, compacts) must not run at the same time; with that job's name and scope, only one of the two
    /// commits.
    Compact(Box<Compact>),
    /// Remove the superseded files of rebuilt partitions of a table
    ///
    /// Runs that save to the table do the same; this command is for tables that are not written for a while, and for
    /// the leftovers of killed runs.
    Vacuum(vacuum::VacuumArgs),
    /// Remove the files of a table that are older than a retention, and partitions that become empty
    Purge(vacuum::PurgeArgs),
    /// Drop a table from the catalog; its files stay
    ///
    /// A crawl of its folder recreates it and detects everything again: partition keys, CSV format, types.
    Drop(tables::DropArgs),
    /// Find the datasets below a location and register them as tables, or update the tables
    ///
    /// Tables get new columns, wider types and new partitions. Nothing is ever renamed or removed, except partitions
    /// without files with `--delete-missing`. A second crawl changes nothing. Exits with 3 if the catalog could not
    /// fully reflect what was found.
    Crawl(crawl::CrawlArgs),
    /// Look after an Iceberg table: its branches, tags and snapshots
    Iceberg(iceberg::IcebergArgs),
    /// Audit a table or files with rules in DQDL; exits with 3 if one fails
    Audit(Box<quality::AuditArgs>),
    /// Compare two tables or data sets by key: which rows were added, removed and changed; exits with 3 if they differ
    Compare(Box<compare::CompareArgs>),
    /// Swap two tables of the catalog: each name means what the other has meant; the same again is the way back
    ///
    /// Readers see the one table or the other as a whole. Files are not touched. Columns that readers of the first table will
    /// miss are named. Where a catalog cannot change two tables at once, such as Glue, Iceberg tables and tables of files
    /// without partitions can be swapped; the same command finishes a swap that was killed.
    Swap(swap::SwapArgs),
    /// Show how measured numbers moved over runs, or propose rules
    Quality(Box<quality::QualityArgs>),
    /// Derive the infrastructure of jobs on AWS Batch: CloudFormation templates, policies of least privilege
    Deploy(deploy::DeployArgs),
    /// Query the tables of the catalog with SQL, in a shell or from a script
    Sql(sql::SqlArgs),
    /// Serve the tables of the catalog to PostgreSQL clients (psql, DBeaver, Redash, Tableau ...)
    ///
    /// Tables are read-only. Without a password only this machine can connect. On SIGTERM or Ctrl-C the server stops
    /// once running statements have ended, or after ten seconds.
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
    /// Build jobs for release: archives with checksums, SBOM and build record, and container images
    ///
    /// Two calls for the same commit with the same toolchain write the same bytes. Artefacts appear once all of them are
    /// complete. No container engine is needed.
    Package(Box<package::PackageArgs>),
    /// List the tables of the catalog
    Tables(tables::TablesArgs),
    /// Show a table: columns, partition keys, location, format, parameters
    Describe(tables::DescribeArgs),
}

/// Runs the command with these arguments (the first is the program's name), and returns the exit code of the process.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) => {
            let e = usage_without_credentials(e);
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let options = RuntimeArgs { records: cli.records, ..RuntimeArgs::default() };
    match cli.command {
        Command::Compact(compact) => compact.run(),
        Command::Recover(args) => finish(recover::run(&options, args)),
        Command::Fsck(args) => finish(fsck::run(&options, &args)),
        Command::Runs(args) => print(runs::run(&options, args)),
        Command::Rerun(args) => finish(rerun::run(options, args)),
        Command::Run(args) => finish(pipeline::run(options, *args)),
        Command::Bookmark(args) => finish(bookmark::run(options, args)),
        Command::Backfill(args) => finish(backfill::run(options, *args)),
        Command::Vacuum(args) => print(vacuum::vacuum(&options, args)),
        Command::Purge(args) => print(vacuum::purge(&options, args)),
        Command::Drop(args) => print(async { tables::drop(&open_context("hardtack", &options)?, &args).await }),
        Command::Crawl(args) => finish(async {
            let (text, problems) = crawl::crawl(&open_context("hardtack", &options)?, args).await?;
            Ok((text, ExitCode::from(if problems { ErrorKind::Refused.exit_code() } else { 0 })))
        }),
        Command::Iceberg(args) => print(iceberg::run(&options, args)),
        Command::Audit(args) => finish(quality::audit(options, *args)),
        Command::Compare(args) => finish(compare::run(options, *args)),
        Command::Swap(args) => print(async { swap::swap(&options, &args).await }),
        Command::Quality(args) => print(quality::run(options, *args)),
        Command::Deploy(args) => print(deploy::run(args)),
        Command::Sql(args) => print(async { sql::run(options, args).await.map(|()| String::new()) }),
        #[cfg(feature = "serve")]
        Command::Serve(serve) => print(async { serve::serve(options, *serve, args).await.map(|()| String::new()) }),
        Command::Package(args) => print(package::run(*args)),
        Command::Tables(args) => print(async { tables::list(&open_context("hardtack", &options)?, &args).await }),
        Command::Describe(args) => print(async { tables::describe(&open_context("hardtack", &options)?, &args).await }),
    }
}

/// Prints the result.
fn print(work: impl Future<Output = Result<String>>) -> ExitCode {
    finish(async { Ok((work.await?, ExitCode::SUCCESS)) })
}

/// Prints the result, and returns its exit code.
fn finish(work: impl Future<Output = Result<(String, ExitCode)>>) -> ExitCode {
    fault::arm_from_environment();
    hardtack_runtime::init_logging(hardtack_runtime::LogFormat::Pretty, "warn");
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::unexpected("threads could not be started").because(e))
        .and_then(|tokio| tokio.block_on(work));
    match done {
        Ok((text, code)) => {
            say(&text);
            code
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hardtack: {}", error.chain());
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Writes to standard output, which may be closed.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
