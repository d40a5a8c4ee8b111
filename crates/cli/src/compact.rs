//! `hardtack compact`.

use std::convert::Infallible;
use std::process::ExitCode;

use clap::Args;
use hardtack_core::{Context, Environment, Error, Location, Result, Run};
use hardtack_runtime::{Job, RuntimeArgs, open_context, parse_size};
use hardtack_sinks::{ParquetDataset, SortColumn};

/// The default job name under which compactions are recorded.
const JOB: &str = "compact";

#[derive(Debug, Args)]
pub(crate) struct Compact {
    /// Folder of the dataset, for example `s3://my-lake/sales`
    location: Location,
    /// Size at which a file is closed and another begun, for example `256MB`
    #[arg(long, default_value = "512MiB", value_name = "SIZE", value_parser = parse_size)]
    target_file_size: u64,
    /// Sort the rows within each file by these columns, for example `customer,day desc nulls last` [default: the order
    /// that all files declare]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = sort_column)]
    sorted_by: Vec<SortColumn>,
    /// Record the run under the name of this job, which excludes runs of that job in the same scope
    #[arg(long, default_value = JOB, value_name = "NAME")]
    job: String,
    #[command(flatten)]
    options: RuntimeArgs,
}

/// Reads a column of `--sorted-by` or `--sort-by`.
pub(crate) fn sort_column(text: &str) -> Result<SortColumn, Infallible> {
    Ok(SortColumn::parse(text))
}

impl Compact {
    /// Runs the compaction like any other job: with a commit, a run record, and recovery of the previous run.
    pub(crate) fn run(mut self) -> ExitCode {
        let dataset = ParquetDataset::new(self.name(), &self.location)
            .with_target_file_bytes(self.target_file_size)
            .sorted_by(std::mem::take(&mut self.sorted_by));
        if self.options.dry_run {
            return crate::print(plan(&dataset, &self.options));
        }
        // Different datasets can be compacted concurrently, unless a job is given.
        if self.job == JOB && self.options.scope == Run::WHOLE_JOB {
            self.options.scope = self.absolute();
        }
        Job::new(self.job.leak()).run_with(dataset, &self.options, async |ctx: &Context<ParquetDataset>| {
            not_empty(ctx.args(), ctx.environment()).await?;
            ctx.args().compact(ctx).await
        })
    }

    /// The dataset is named after its folder.
    fn name(&self) -> String {
        let absolute = self.absolute();
        absolute.trim_end_matches('/').rsplit('/').next().unwrap_or(JOB).to_owned()
    }

    /// The same name for a place, whatever the working directory of the command.
    fn absolute(&self) -> String {
        let resolved = self.location.resolve();
        resolved.map_or_else(|_| self.location.to_string(), |at| Location::of(&at.store, &at.path).to_string())
    }
}

async fn not_empty(dataset: &ParquetDataset, env: &Environment) -> Result<()> {
    match dataset.is_empty(env).await? {
        true => Err(Error::not_found("there are no Parquet files to compact")
            .hint("check the location; files and folders whose names begin with `.` or `_` are ignored")),
        false => Ok(()),
    }
}

async fn plan(dataset: &ParquetDataset, options: &RuntimeArgs) -> Result<String> {
    let ctx = open_context(JOB, options)?;
    not_empty(dataset, &ctx).await?;
    let small = dataset.small_files(&ctx).await?;
    let mut text = String::from("dry run: nothing is written or recorded\n");
    if small.is_empty() {
        text.push_str("nothing to do: no folder would have fewer files\n");
    }
    for folder in small {
        text.push_str(&format!("{}: {} files of {} bytes together\n", folder.folder, folder.files, folder.bytes));
    }
    Ok(text)
}
