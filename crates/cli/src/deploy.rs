//! `hardtack deploy`: from what jobs say of themselves to their infrastructure on AWS.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::{Args, Subcommand};
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::{Error, Result};
use hardtack_deploy::{Changes, Environment, Policy, Project, Template};
use hardtack_runtime::{ArgumentDescription, DESCRIBE_ARGUMENTS, JobDescription};
use tokio::process::Command;

/// How many jobs describe themselves concurrently.
const DESCRIPTIONS: usize = 4;

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the CloudFormation template of an environment: queue, job definitions, roles, schedules, alarms, pipelines
    ///
    /// Deploy it with `aws cloudformation deploy --template-file FILE --stack-name NAME --capabilities CAPABILITY_IAM`.
    Template {
        #[command(flatten)]
        which: Which,
        /// File to write the template to [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print what the template would change
    Diff {
        #[command(flatten)]
        which: Which,
        /// The template that is deployed, as `aws cloudformation get-template` prints it, or an earlier one
        #[arg(long, value_name = "FILE")]
        against: PathBuf,
    },
    /// Print the IAM policy of a job: what its sources, its sinks and its state need
    Policy {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// The jobs, for example `customer_events` [default: all of the environment]
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Environment of `hardtack.toml`, for example `prod`
    #[arg(long, value_name = "NAME")]
    env: String,
    /// Where the environments are described
    #[arg(long, value_name = "FILE", default_value = "hardtack.toml")]
    config: PathBuf,
    /// Folder of the jobs' binaries
    #[arg(long, value_name = "FOLDER", default_value = "target/release")]
    binaries: PathBuf,
}

/// Executes the command; returns its output.
pub(crate) async fn run(args: DeployArgs) -> Result<String> {
    match args.command {
        What::Template { which, output } => {
            let (environment, jobs) = which.described().await?;
            let text = Template::of(&environment, &jobs)?.to_yaml()?;
            let Some(file) = output else { return Ok(text) };
            write(&file, &text).await?;
            Ok(format!("wrote {}\n", file.display()))
        }
        What::Diff { which, against } => {
            let (environment, jobs) = which.described().await?;
            let before = read(&against).await?;
            let template = Template::of(&environment, &jobs)?;
            let at = |e: Error| e.with("file", against.display());
            let changes = Changes::between(&before, &template).map_err(at)?;
            Ok(if changes.is_empty() { "nothing changes\n".to_owned() } else { changes.to_string() })
        }
        What::Policy { which } => {
            let (environment, jobs) = which.described().await?;
            let mut text = String::new();
            for job in &jobs {
                let policy = Policy::of(job, &environment)?.to_json();
                let policy = serde_json::to_string_pretty(&policy)
                    .map_err(|e| Error::unexpected("the policy cannot be printed").because(e))?;
                text.push_str(&format!("{policy}\n"));
            }
            Ok(text)
        }
    }
}

impl Which {
    /// The environment, and what its jobs say of themselves with the arguments that they have there.
    async fn described(&self) -> Result<(Environment, Vec<JobDescription>)> {
        let at = |e: Error| e.with("file", self.config.display());
        let project = Project::parse(&read(&self.config).await?).map_err(at)?;
        let environment = project.environment(&self.env).map_err(at)?;
        let all = environment.jobs.keys().cloned().collect();
        let jobs: Vec<String> = if self.jobs.is_empty() { all } else { self.jobs.clone() };
        if jobs.is_empty() {
            return Err(at(Error::usage("no job runs in the environment")
                .with("environment", &self.env)
                .hint(format!("add `[env.{}.jobs.JOB]` for each", self.env))));
        }
        let described = jobs.iter().map(|job| self.describe(environment, job));
        let described = stream::iter(described).buffered(DESCRIPTIONS).try_collect().await?;
        Ok((environment.clone(), described))
    }

    /// Asks a job what it is, with the arguments that it has in the environment.
    async fn describe(&self, environment: &Environment, job: &str) -> Result<JobDescription> {
        environment.settings(job)?;
        let said = self.ask(environment, job, &[DESCRIBE_ARGUMENTS.to_owned()]).await?;
        let known: Vec<ArgumentDescription> = serde_json::from_str(&said).map_err(|e| {
            Error::usage("the job does not say which arguments it has")
                .with("job", job)
                .hint("build it with this version of hardtack")
                .because(e)
        })?;
        let mut args = vec!["--describe".to_owned(), "--state".to_owned(), environment.state.to_string()];
        if let Some(catalog) = &environment.catalog {
            args.extend(["--catalog".to_owned(), catalog.clone()]);
        }
        args.extend(environment.command_line(job, &known)?);
        let said = self.ask(environment, job, &args).await?;
        let description = JobDescription::parse(&said).map_err(|e| e.with("job", job))?;
        for problem in &description.problems {
            tracing::warn!(job, "its policy may lack something: {problem}");
        }
        Ok(description)
    }

    /// What the binary of a job prints with these arguments.
    async fn ask(&self, environment: &Environment, job: &str, args: &[String]) -> Result<String> {
        let program = self.binaries.join(if environment.multi_call { "jobs" } else { job });
        let mut command = Command::new(&program);
        if environment.multi_call {
            command.args(["run", job]);
        }
        let at = |e: Error| e.with("job", job).with("binary", program.display());
        let done = command.args(args).stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(|e| {
            at(Error::usage("the job's binary cannot be started")
                .hint("build it (`cargo build --release`), or name its folder with `--binaries`")
                .because(e))
        })?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            false => {
                let said = String::from_utf8_lossy(&done.stderr);
                Err(at(Error::usage("the job does not describe itself").because(Error::usage(said.trim()))))
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the machine that deploys")]
async fn read(file: &Path) -> Result<String> {
    tokio::fs::read_to_string(file)
        .await
        .map_err(|e| Error::usage("the file cannot be read").with("file", file.display()).because(e))
}

#[expect(clippy::disallowed_methods, reason = "a file of the machine that deploys")]
async fn write(file: &Path, text: &str) -> Result<()> {
    tokio::fs::write(file, text)
        .await
        .map_err(|e| Error::usage("the file cannot be written").with("file", file.display()).because(e))
}
