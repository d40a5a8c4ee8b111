//! Measures hardtack beside DuckDB, Polars and PySpark: whole processes, in turn, on generated data, with the results
//! compared row by row.
//!
//! ```sh
//! cargo run --release -p hardtack-bench -- elt --scale 1
//! ```

#![expect(clippy::disallowed_methods, reason = "not a job: it generates, measures and compares local files")]

mod appends;
mod check;
mod engines;
mod files;
mod generate;
mod lake;
mod measure;
mod report;
mod run;
mod suites;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hardtack_core::Result;

pub use appends::{Appended, Appends};
pub use check::{Digest, Partition};
pub use engines::{Engine, Programs, Tool};
pub use generate::{Data, Found, Recipe, Table, find, generate};
pub use measure::Usage;
pub use report::{Measured, Report};
pub use run::{Binaries, Options};
pub use suites::{Case, Suite};

/// Measures hardtack's jobs beside DuckDB, Polars and PySpark
#[derive(Debug, Parser)]
#[command(name = "hardtack-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the data of a suite
    Generate {
        /// Which data
        #[arg(long, value_enum, default_value = "tables")]
        what: Data,
        /// How much, for example `0.01`
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// Another seed gives other tables of the same size
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// Folder to write to, for example `target/bench/data`
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Run the three ELT cases with each engine in turn, compare the results, and print what each took
    #[command(mut_args(|arg| Suite::Elt.argument(arg)))]
    Elt(Options),
    /// Merge change events into nothing and into customers with each engine in turn, compare, and print what each took
    #[command(mut_args(|arg| Suite::Merge.argument(arg)))]
    Merge(Options),
    /// Rebuild monthly snapshots from a year of changes and from late ones with each engine in turn, compare, and print
    /// what each took
    #[command(mut_args(|arg| Suite::Snapshots.argument(arg)))]
    Snapshots(Options),
    /// Read some and all fields of JSON with each engine in turn, compare, and print what each took
    #[command(mut_args(|arg| Suite::Json.argument(arg)))]
    Json(Options),
    /// Process access records with each engine in turn, compare, and print what each took
    #[command(mut_args(|arg| Suite::Access.argument(arg)))]
    Access(Options),
    /// Ask a lake of many small files in SQL with each engine in turn, compare, and print what each took
    #[command(mut_args(|arg| Suite::Scan.argument(arg)))]
    Scan(Options),
    /// Write observations without rules and with 25 of them with each engine in turn, compare, and print what each took
    #[command(mut_args(|arg| Suite::Quality.argument(arg)))]
    Quality(Options),
    /// Writing the observations by day, as plain Parquet and as an Iceberg table
    ///
    /// The other engine is Polars, with PyIceberg for the table; `.ci/bench-python crates/bench/python/iceberg-requirements.txt`
    /// installs it.
    #[command(mut_args(|arg| Suite::Iceberg.argument(arg)))]
    Iceberg(Options),
    /// Merge change events into an Iceberg table and into plain files with each engine in turn, compare, and print what each
    /// took
    ///
    /// `.ci/bench-python crates/bench/python/iceberg-requirements.txt` installs PyIceberg, for the mode `polars:pyiceberg`.
    #[command(mut_args(|arg| Suite::IcebergMerge.argument(arg)))]
    IcebergMerge(Options),
    /// Ask Iceberg tables of few and of many files, and the same files read directly, with each engine in turn, compare, and
    /// print what each took
    ///
    /// For the mode `duckdb:iceberg` see the suite's part of `crates/bench/README.md`.
    #[command(mut_args(|arg| Suite::IcebergRead.argument(arg)))]
    IcebergRead(Options),
    /// Read what was appended to an Iceberg table, by snapshots and by a filter, with each engine in turn, compare, and print
    /// what each took
    #[command(mut_args(|arg| Suite::IcebergIncremental.argument(arg)))]
    IcebergIncremental(Options),
    /// Rewrite an Iceberg table of small files with each engine in turn, compare, and print what each took
    #[command(mut_args(|arg| Suite::IcebergCompact.argument(arg)))]
    IcebergCompact(Options),
    /// Find what differs between two data sets with each engine in turn, compare, and print what each took
    #[command(mut_args(|arg| Suite::Compare.argument(arg)))]
    Compare(Options),
    /// Append to an Iceberg table by many runs of `publish_people`, and print how its metadata grow, what a run takes, and what
    /// planning a query takes before and after snapshots have expired
    Appends(Appends),
    /// Run a job without rows and `hardtack --version`, and print what each took
    #[command(mut_args(|arg| Suite::Start.argument(arg)))]
    Start(Options),
    /// Run a program and print what it took; this is how the suites measure
    #[command(hide = true)]
    Measure {
        log: PathBuf,
        /// The exit code of success
        #[arg(long, default_value_t = 0)]
        code: i32,
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
}

/// Runs the command with these arguments (the first is the program's name), and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let (text, done) = match execute(cli.command) {
        Ok(done) => done,
        Err(error) => {
            say(&format!("hardtack-bench: {}", error.chain()));
            return ExitCode::from(error.kind().exit_code());
        }
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    done
}

/// Executes, and returns what to print.
fn execute(action: Action) -> Result<(String, ExitCode)> {
    match action {
        Action::Generate { what, scale, seed, out } => {
            generate(what, Recipe { scale, seed }, &out, cores())?;
            Ok((String::new(), ExitCode::SUCCESS))
        }
        Action::Elt(options) => run(Suite::Elt, &options),
        Action::Merge(options) => run(Suite::Merge, &options),
        Action::Snapshots(options) => run(Suite::Snapshots, &options),
        Action::Json(options) => run(Suite::Json, &options),
        Action::Access(options) => run(Suite::Access, &options),
        Action::Scan(options) => run(Suite::Scan, &options),
        Action::Quality(options) => run(Suite::Quality, &options),
        Action::Iceberg(options) => run(Suite::Iceberg, &options),
        Action::IcebergMerge(options) => run(Suite::IcebergMerge, &options),
        Action::IcebergRead(options) => run(Suite::IcebergRead, &options),
        Action::IcebergIncremental(options) => run(Suite::IcebergIncremental, &options),
        Action::IcebergCompact(options) => run(Suite::IcebergCompact, &options),
        Action::Compare(options) => run(Suite::Compare, &options),
        Action::Appends(appends) => {
            let report = appends.run()?;
            Ok((if appends.json { report.json()? } else { report.to_string() }, ExitCode::SUCCESS))
        }
        Action::Start(options) => run(Suite::Start, &options),
        Action::Measure { log, code, program } => Ok((measure::measure_here(&program, &log, code)?, ExitCode::SUCCESS)),
    }
}

fn run(suite: Suite, options: &Options) -> Result<(String, ExitCode)> {
    let report = options.run(suite)?;
    let code = if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok((if options.json { report.json()? } else { report.to_string() }, code))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Shows progress to a person.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
