//! A job that processes the window of its run, for the tests of commands that run jobs.
//!
//! It is named after its file, so links to it are jobs of their own; but a link named `many` has the jobs `one` and `two`. It
//! appends a row with the start of its window, and advances the bookmark of the source `counter`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::prelude::DataFrame;
use hardtack_core::{Context, Error, LoadContext, Location, Result, Source, moment};
use hardtack_runtime::{Job, Jobs};
use hardtack_sinks::ParquetDataset;

#[derive(Debug, clap::Args)]
struct Args {
    /// Folder of the rows, for example `out`
    #[arg(long)]
    target: Location,
    /// Refuse the windows that start on these days, for example `2024-01-02,2024-01-05`
    #[arg(long, value_delimiter = ',')]
    refuse: Vec<String>,
    /// Time that a run takes before it ends, in milliseconds
    #[arg(long, default_value = "0")]
    pause: u64,
    /// Leave the bookmark alone
    #[arg(long)]
    idle: bool,
    /// A secret; `wrong` is refused
    #[arg(long, env = "WINDOWED_API_KEY")]
    api_key: Option<String>,
}

/// A source that counts the runs which have read it.
#[derive(Debug)]
struct Counter;

#[async_trait]
impl Source for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        let runs = ctx.bookmark().and_then(|position| position["runs"].as_u64()).unwrap_or(0);
        ctx.advance_bookmark(serde_json::json!({"format": 1, "runs": runs + 1}));
        let start = ctx.window().map_or(moment("1970-01-01")?, |window| window.start());
        let query = format!("select '{}' as day, {runs} as runs_before", start.format("%Y-%m-%d"));
        Ok(ctx.session().sql(&query).await?)
    }
}

async fn windowed(ctx: &Context<Args>) -> Result<()> {
    let args = ctx.args();
    if args.api_key.as_deref() == Some("wrong") {
        return Err(Error::refused("the key is not valid"));
    }
    if !args.idle {
        let rows = ctx.load(Counter).await?;
        ctx.save(ParquetDataset::new("days", args.target.clone()), rows).await?;
    }
    tokio::time::sleep(Duration::from_millis(args.pause)).await;
    let day = ctx.window().map(|window| window.start().format("%Y-%m-%d").to_string());
    match day.filter(|day| args.refuse.contains(day)) {
        Some(day) => Err(Error::refused("this day is not liked").with("day", day)),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "a link to this file is a job of its own")]
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_stem().map_or_else(Default::default, |name| name.to_string_lossy());
    match &*name {
        "many" => Jobs::new().with(Job::new("one"), windowed).with(Job::new("two"), windowed).run(),
        name => Job::new(name).run(windowed),
    }
}
