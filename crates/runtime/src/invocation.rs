//! How a run was started, for its record.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use hardtack_core::location::without_credentials;
use hardtack_state::{Invocation, WithheldArg};

/// Arguments that are not recorded: those that the record says otherwise or that whoever runs it again decides, and those
/// of calls that are not on record.
const OF_THE_RUN: [&str; 12] = [
    "state",
    "catalog",
    "scope",
    "window_start",
    "window_end",
    "run_id",
    "claim",
    "dry_run",
    "describe",
    "audit_only",
    "on_failure_command",
    "on_failure_url",
];

/// Words in the name of an argument that make it a secret.
const SECRET_WORDS: [&str; 9] =
    ["password", "passwd", "pass", "passphrase", "secret", "token", "credential", "credentials", "auth"];

/// Says how this process was started. `command` declares the arguments of the job, and `matches` has those that were
/// given.
pub(crate) fn invocation(command: &Command, matches: &ArgMatches) -> Invocation {
    #[expect(clippy::disallowed_methods, reason = "this is where the command line comes in")]
    let given: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    #[expect(clippy::disallowed_methods, reason = "relative arguments are relative to it")]
    let directory = std::env::current_dir().unwrap_or_default();
    let binary = given.first().map(String::as_str).unwrap_or_default();
    // A name without a folder was found in `PATH`. Links are kept: the binary may be one of several jobs under this name.
    let binary = match binary.contains('/') {
        true => directory.join(binary).to_string_lossy().into_owned(),
        false => binary.to_owned(),
    };
    let name = command.get_name();
    // A binary of several jobs is told which one, see `Jobs`.
    let is_link = Path::new(&binary).file_stem() == Some(OsStr::new(name));
    let prefix = match given.get(1..3) {
        Some(words @ [run, job]) if run == "run" && job == name && !is_link => Some(words.to_vec()),
        _ => None,
    };
    let (args, withheld) = recorded(command, matches);
    Invocation {
        binary,
        directory: directory.to_string_lossy().into_owned(),
        host: sysinfo::System::host_name().unwrap_or_default(),
        pid: std::process::id(),
        args: prefix.into_iter().chain(args).collect(),
        withheld,
    }
}

/// The arguments that were given, and those of them that are withheld.
fn recorded(command: &Command, matches: &ArgMatches) -> (Vec<Vec<String>>, Vec<WithheldArg>) {
    let (mut named, mut plain, mut withheld) = (Vec::new(), Vec::new(), Vec::new());
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let is_given = matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        if !is_given || OF_THE_RUN.contains(&id) {
            continue;
        }
        match words(arg, matches) {
            Some(words) if !is_secret(arg) && !words.iter().flatten().any(|word| has_credentials(word)) => {
                if arg.is_positional() { plain.extend(words) } else { named.extend(words) }
            }
            _ => withheld.push(WithheldArg {
                name: name_of(arg),
                env: arg.get_env().map(|env| env.to_string_lossy().into_owned()),
            }),
        }
    }
    named.extend(plain);
    (named, withheld)
}

/// The name of an argument as on the command line.
fn name_of(arg: &Arg) -> String {
    match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => arg.get_id().to_string(),
    }
}

/// The words by which an argument is given again, for each time that it was given; `None` if one is not text.
fn words(arg: &Arg, matches: &ArgMatches) -> Option<Vec<Vec<String>>> {
    let (id, name) = (arg.get_id().as_str(), name_of(arg));
    match arg.get_action() {
        ArgAction::SetTrue => return Some(vec![vec![name]; usize::from(matches.get_flag(id))]),
        ArgAction::SetFalse => return Some(vec![vec![name]; usize::from(!matches.get_flag(id))]),
        ArgAction::Count => return Some(vec![vec![name]; usize::from(matches.get_count(id))]),
        _ => {}
    }
    let mut given = Vec::new();
    for occurrence in matches.get_raw_occurrences(id).into_iter().flatten() {
        let values: Option<Vec<String>> = occurrence.map(|value| value.to_str().map(str::to_owned)).collect();
        let values = values?;
        given.push(match (arg.get_value_delimiter(), &values[..]) {
            _ if arg.is_positional() => values,
            (_, [value]) => vec![joined(arg, &name, value)],
            (Some(delimiter), _) => vec![joined(arg, &name, &values.join(&delimiter.to_string()))],
            (None, _) => std::iter::once(name.clone()).chain(values).collect(),
        });
    }
    Some(given)
}

/// One word, so that a value is never taken for another argument.
fn joined(arg: &Arg, name: &str, value: &str) -> String {
    if arg.get_long().is_some() { format!("{name}={value}") } else { format!("{name}{value}") }
}

fn has_credentials(word: &str) -> bool {
    matches!(without_credentials(word), Cow::Owned(_))
}

/// Whether the value of an argument is a secret: by its name, or because its author hides the values that come from the
/// environment from help (`hide_env_values`).
fn is_secret(arg: &Arg) -> bool {
    let name = arg.get_long().map_or_else(|| arg.get_id().to_string(), str::to_owned).to_lowercase();
    let words: Vec<&str> = name.split(['-', '_']).collect();
    let is_key =
        words.windows(2).any(|pair| pair[1] == "key" && ["api", "access", "private", "account"].contains(&pair[0]));
    arg.is_hide_env_values_set()
        || is_key
        || name.contains("apikey")
        || words.iter().any(|word| SECRET_WORDS.contains(word))
}

#[cfg(test)]
mod tests {
    use clap::Args;
    use rstest::rstest;

    use super::*;

    #[derive(Debug, Args)]
    struct Own {
        /// A file
        file: Option<String>,
        #[arg(long, env = "HARDTACK_TEST_INVOCATION")]
        target: Option<String>,
        #[arg(long, value_delimiter = ',')]
        columns: Vec<String>,
        #[arg(long, num_args = 2)]
        pair: Vec<String>,
        #[arg(short)]
        depth: Option<u32>,
        #[arg(short, long, action = ArgAction::Count)]
        verbose: u8,
        #[arg(long)]
        full: bool,
        #[arg(long, default_value = "7")]
        days: u32,
        #[arg(long, env = "HARDTACK_TEST_API_KEY")]
        api_key: Option<String>,
        #[arg(long, hide_env_values = true)]
        licence: Option<String>,
        #[arg(long)]
        partition_key: Option<String>,
        #[arg(long)]
        password_file: Option<String>,
    }

    fn of(args: &[&str]) -> (Vec<String>, Vec<String>) {
        let command = crate::RuntimeArgs::augment_args(Own::augment_args(Command::new("job")));
        // Cargo sets variables for those who try jobs out.
        let command = command.mut_args(|arg| arg.env(None));
        let matches = command.clone().try_get_matches_from(std::iter::once("job").chain(args.iter().copied())).unwrap();
        let (args, withheld) = recorded(&command, &matches);
        (args.concat(), withheld.into_iter().map(|arg| arg.name).collect())
    }

    #[rstest]
    #[case::nothing(&[], &[], &[])]
    #[case::value(&["--target", "s3://b", "--days", "7"], &["--target=s3://b", "--days=7"], &[])]
    #[case::list(&["--columns", "a,b", "--columns=c"], &["--columns=a,b", "--columns=c"], &[])]
    #[case::pair(&["--pair", "a", "b"], &["--pair", "a", "b"], &[])]
    #[case::short(&["-d", "3", "-vv"], &["-d3", "--verbose", "--verbose"], &[])]
    #[case::positional_comes_last(&["file", "--full"], &["--full", "file"], &[])]
    #[case::secret(&["--api-key", "x", "--licence=y"], &[], &["--api-key", "--licence"])]
    #[case::no_secret(&["--partition-key", "id"], &["--partition-key=id"], &[])]
    #[case::too_careful(&["--password-file", "f"], &[], &["--password-file"])]
    #[case::credentials(&["--target", "postgres://me:x@host/db"], &[], &["--target"])]
    #[case::of_the_run(&["--state", "s", "--scope", "x", "--run-id", "r", "--profile"], &["--profile"], &[])]
    fn arguments_are_recorded_without_secrets(
        #[case] given: &[&str],
        #[case] args: &[&str],
        #[case] withheld: &[&str],
    ) {
        let (recorded, kept_back) = of(given);
        assert_eq!(recorded, args);
        assert_eq!(kept_back, withheld);
    }

    /// What is recorded parses to the same.
    #[test]
    fn what_is_recorded_can_be_given_again() {
        let first = of(&["f", "--columns", "a,b", "--pair", "x", "y", "-d3", "-v", "--full", "--target", "t"]).0;
        let words: Vec<&str> = first.iter().map(String::as_str).collect();
        assert_eq!(of(&words).0, first);
    }
}
