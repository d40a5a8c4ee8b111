//! `hardtack rerun`: a run once more, with the same arguments.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use chrono::Utc;
use clap::Args;
use hardtack_catalog::CatalogChoice;
use hardtack_core::location::without_credentials;
use hardtack_core::{Error, Result, RunId};
use hardtack_runtime::{RecordArgs, RuntimeArgs, Stop, open_context, open_state};
use hardtack_state::{Invocation, Ledger, RunRecord, RunStatus, StateStore, WithheldArg};
use tokio::sync::watch;

use crate::bookmark::list;
use crate::process::{JobCommand, RunOptions, exists, exit_code, own_option, shell_word};
use crate::recover::host;
use crate::runs::find;

#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    /// The run's id, for example `20261121T040000Z-1f0c9a3e`
    run: RunId,
    /// The run of this job; ids that people choose may occur in several
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Binary of the job, if it is not where it was, for example `target/release/books_data_product`
    #[arg(long, value_name = "JOB_BINARY")]
    binary: Option<PathBuf>,
    /// Folder that relative locations are relative to, if it is not where it was
    #[arg(long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
    /// Run a run again that is on record as running: it was killed
    #[arg(long)]
    was_killed: bool,
    /// Print the command line; run nothing
    #[arg(long)]
    dry_run: bool,
    /// Arguments of the job that replace those of the run with the same names, or are added, after `--`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Runs the job again; returns nothing to print, and the exit code of the job.
pub(crate) async fn run(options: RuntimeArgs, args: RerunArgs) -> Result<(String, ExitCode)> {
    if let Some(arg) = own_option(&args.args) {
        return Err(Error::usage(format!("`hardtack rerun` sets `{arg}` itself"))
            .hint("leave it out behind `--`; give `--state` and `--catalog` before it"));
    }
    let ctx = open_context("hardtack", &options)?;
    let state = open_state(ctx.stores(), &options.records.state)?;
    let mut found = find(&state, &options, &args.run, args.job.as_deref()).await?;
    let record = match (found.pop(), found.is_empty()) {
        (Some(record), true) => record,
        (last, _) => {
            let jobs: Vec<String> = found.into_iter().chain(last).map(|record| record.run.job).collect();
            return Err(Error::usage(format!("several jobs have a run `{}`", args.run))
                .hint(format!("name one of {} with `--job`", list(jobs))));
        }
    };
    let invocation = check(&state, &record, &args).await?;
    let again = Again::new(&record, invocation, &args, &options.records)?;
    let run = RunId::generate(Utc::now());
    let binary = match &args.binary {
        Some(binary) => with_folder(binary)?,
        None => PathBuf::from(&invocation.binary),
    };
    let directory = Some(again.directory.as_path()).filter(|directory| !directory.as_os_str().is_empty());
    let command = JobCommand { binary: &binary, directory, args: &again.args, records: &again.records };
    let run = RunOptions { scope: &record.run.scope, window: record.run.window, run: Some(&run), claim: None };
    let line = again.shown(&binary, command.arguments(run), invocation);
    if args.dry_run {
        return Ok((format!("{line}\n"), ExitCode::SUCCESS));
    }
    let _ = writeln!(std::io::stderr(), "{line}");
    let mut signals = Stop::listen()?;
    let (stop, mut stopped) = watch::channel(false);
    let mut job = std::pin::pin!(command.run(run, None, &mut stopped));
    let status = loop {
        tokio::select! {
            biased;
            status = &mut job => break status,
            () = signals.wait() => {
                stop.send_replace(true);
            }
        }
    };
    let status = status.map_err(|error| match args.binary {
        None => error.hint("name the binary with `--binary`"),
        Some(_) => error,
    })?;
    Ok((String::new(), ExitCode::from(u8::try_from(exit_code(status)).unwrap_or(1))))
}

/// Fails if a run cannot be started again; returns how it was started.
async fn check<'a>(state: &Arc<dyn StateStore>, record: &'a RunRecord, args: &RerunArgs) -> Result<&'a Invocation> {
    let run = &record.run;
    let refused = |message: &str| Error::usage(message).with("job", &run.job).with("run", &run.id);
    if record.change.is_some() {
        return Err(refused("this is a change of bookmarks by a person, not a run of the job")
            .hint("`hardtack bookmark` changes them again"));
    }
    let Some(invocation) = &record.invocation else {
        return Err(refused("the record does not say how the run was started").hint(
            "start the job by hand; runs of earlier versions and of `hardtack compact` are recorded without it",
        ));
    };
    // Elsewhere nobody can see whether it is running.
    let is_dead = invocation.host == host() && !exists(invocation.pid);
    if record.status == RunStatus::Running && !is_dead && !args.was_killed {
        return Err(refused("the run is on record as running")
            .with("host", &invocation.host)
            .with("process", invocation.pid)
            .hint("wait until it has ended; if it was killed, add `--was-killed`"));
    }
    let pending = Ledger::new(Arc::clone(state), &run.job, &run.scope).pending().await?;
    if pending.iter().any(|commit| commit.run.id == run.id) {
        return Err(refused("the run has committed, and only its publication is unfinished").hint(format!(
            "`hardtack recover --job {} --scope {}` finishes it",
            shell_word(&run.job),
            shell_word(&run.scope)
        )));
    }
    let given: HashSet<&str> = args.args.iter().map(|word| name_in(word)).collect();
    let missing: Vec<&WithheldArg> = invocation
        .withheld
        .iter()
        .filter(|arg| !given.contains(arg.name.as_str()) && !is_set(arg.env.as_deref()))
        .collect();
    if missing.is_empty() {
        return Ok(invocation);
    }
    let again: Vec<String> = missing.iter().map(|arg| format!("{} VALUE", arg.name)).collect();
    let environment: Vec<&str> = missing.iter().filter_map(|arg| arg.env.as_deref()).collect();
    let or_set = match environment.is_empty() {
        true => String::new(),
        false => format!(", or set {} in the environment", list(environment)),
    };
    let names = list(missing.iter().map(|arg| &arg.name));
    Err(refused(&format!("the record does not hold the value of {names}, which is a secret")).hint(format!(
        "give it again: `hardtack rerun {} -- {}`{or_set}",
        run.id,
        again.join(" ")
    )))
}

fn is_set(variable: Option<&str>) -> bool {
    #[expect(clippy::disallowed_methods, reason = "the job reads it, not this command")]
    variable.is_some_and(|variable| std::env::var_os(variable).is_some())
}

/// The name in a word of a command line: `--target` in `--target=x`, `-d` in `-d3`.
fn name_in(word: &str) -> &str {
    match word {
        _ if word.starts_with("--") => word.split('=').next().unwrap_or(word),
        _ if word.starts_with('-') => word.char_indices().nth(2).map_or(word, |(end, _)| &word[..end]),
        _ => "",
    }
}

/// The path of a binary, for a process in another folder. A name without a folder is looked up in `PATH`.
fn with_folder(binary: &Path) -> Result<PathBuf> {
    match binary.components().count() {
        ..=1 => Ok(binary.to_owned()),
        _ => std::path::absolute(binary).map_err(|e| {
            Error::usage("the path of the binary cannot be resolved").with("binary", binary.display()).because(e)
        }),
    }
}

/// A run that is started again.
struct Again {
    args: Vec<String>,
    directory: PathBuf,
    records: RecordArgs,
}

impl Again {
    fn new(record: &RunRecord, invocation: &Invocation, args: &RerunArgs, records: &RecordArgs) -> Result<Self> {
        let directory = args.directory.clone().unwrap_or_else(|| PathBuf::from(&invocation.directory));
        if !is_folder(&directory) {
            let error = Error::usage("the folder in which the job ran is not on this machine")
                .with("job", &record.run.job)
                .with("folder", directory.display());
            return Err(error.hint("name the folder that relative locations are relative to with `--directory`"));
        }
        // The job runs in another folder, and must find the same state and catalog.
        let catalog = match &records.catalog {
            CatalogChoice::Embedded(Some(file)) => CatalogChoice::Embedded(Some(file.absolute()?)),
            other => other.clone(),
        };
        let records = RecordArgs { state: records.state.absolute()?, catalog };
        Ok(Self { args: merged(&invocation.args, &args.args), directory, records })
    }

    /// The command line for people, without secrets.
    fn shown(&self, binary: &Path, args: Vec<String>, invocation: &Invocation) -> String {
        let secret = |word: &str| invocation.withheld.iter().any(|arg| arg.name == name_in(word));
        let mut words = vec![shell_word(&binary.to_string_lossy())];
        let mut is_value = false;
        for word in args {
            words.push(match (is_value, word.split_once('=')) {
                (true, _) => "***".to_owned(),
                (false, Some((name, _))) if secret(&word) => format!("{name}=***"),
                _ => shell_word(&without_credentials(&word)),
            });
            is_value = !is_value && secret(&word) && !word.contains('=');
        }
        format!("cd {} && {}", shell_word(&self.directory.to_string_lossy()), words.join(" "))
    }
}

#[expect(clippy::disallowed_methods, reason = "a folder of this machine, and no data")]
fn is_folder(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_dir())
}

/// The arguments of the run, without those that are given again, and then these.
fn merged(recorded: &[Vec<String>], given: &[String]) -> Vec<String> {
    let again: HashSet<&str> = given.iter().map(|word| name_in(word)).filter(|name| !name.is_empty()).collect();
    let is_kept = |words: &&Vec<String>| words.first().is_none_or(|word| !again.contains(name_in(word)));
    let kept = recorded.iter().filter(is_kept).flatten();
    kept.chain(given).cloned().collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[rstest]
    #[case::nothing("", "run job --target=a --pair x y --full -d3 plain")]
    #[case::replaced("--target b", "run job --pair x y --full -d3 plain --target b")]
    #[case::replaced_with_several_values("--pair u v", "run job --target=a --full -d3 plain --pair u v")]
    #[case::replaced_by_its_letter("-d4", "run job --target=a --pair x y --full plain -d4")]
    #[case::added("--new=1", "run job --target=a --pair x y --full -d3 plain --new=1")]
    fn what_is_given_again_replaces(#[case] given: &str, #[case] all: &str) {
        let recorded = ["run job", "--target=a", "--pair x y", "--full", "-d3", "plain"].map(words);
        assert_eq!(merged(&recorded, &words(given)).join(" "), all);
    }

    #[rstest]
    #[case::one_word("--api-key=x --n=1", "cd / && job --api-key=*** --n=1")]
    #[case::two_words("--api-key x --n 1", "cd / && job --api-key *** --n 1")]
    #[case::credentials("--n s3://k:s@b", "cd / && job --n 's3://***@b'")]
    fn no_secret_is_printed(#[case] args: &str, #[case] line: &str) {
        let withheld = vec![WithheldArg { name: "--api-key".to_owned(), env: None }];
        let invocation = Invocation {
            binary: "job".to_owned(),
            directory: "/".to_owned(),
            host: String::new(),
            pid: 1,
            args: Vec::new(),
            withheld,
        };
        let again = Again { args: Vec::new(), directory: PathBuf::from("/"), records: RecordArgs::default() };
        assert_eq!(again.shown(Path::new("job"), words(args), &invocation), line);
    }
}
