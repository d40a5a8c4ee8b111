//! `hardtack recover`: completes the work of killed runs, or abandons it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use hardtack_core::{Error, Result};
use hardtack_runtime::{
    RecoverOptions, Recovered, RuntimeArgs, Unpublished, abandon, open_context, open_state, recover,
};
use hardtack_state::{Abandonment, Ledger};

use crate::draw::count;

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Only this job, for example `books_data_product` [default: all]
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Only this scope, for example `2026-11-21` [default: all]
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
    /// Continue where a staged file is missing or damaged; missing data stays missing
    #[arg(long)]
    skip_missing: bool,
    /// Abandon the commit with this number, which can never be published, for example `7`
    ///
    /// Shows what will stay unpublished, and asks for confirmation. The next run starts from the last published commit.
    #[arg(long, value_name = "SEQUENCE", requires_all = ["job", "scope"], conflicts_with = "skip_missing")]
    abandon: Option<u64>,
    /// Abandon without confirmation
    #[arg(long, requires = "abandon")]
    yes: bool,
}

/// Recovers or abandons, according to the arguments.
pub(crate) async fn run(options: &RuntimeArgs, args: RecoverArgs) -> Result<(String, ExitCode)> {
    match args {
        RecoverArgs { job: Some(job), scope: Some(scope), abandon: Some(sequence), yes, .. } => {
            abandon_one(options, &job, &scope, sequence, yes).await
        }
        RecoverArgs { job, scope, skip_missing, .. } => {
            recover_all(options, job.as_deref(), scope.as_deref(), RecoverOptions { skip_missing }).await
        }
    }
}

/// Recovers one ledger after the other, and reports on each. An error in one does not stop the others.
async fn recover_all(
    options: &RuntimeArgs,
    job: Option<&str>,
    scope: Option<&str>,
    how: RecoverOptions,
) -> Result<(String, ExitCode)> {
    let ctx = open_context("hardtack", options)?;
    let state = open_state(ctx.stores(), &options.records.state)?;
    let all = Ledger::all(&state).await?;
    if all.is_empty() {
        return Ok((format!("there are no runs in the state at {}\n", options.records.state), ExitCode::SUCCESS));
    }
    let wanted = |ledger: &Ledger| job.is_none_or(|j| j == ledger.job()) && scope.is_none_or(|s| s == ledger.scope());
    let ledgers: Vec<Ledger> = all.into_iter().filter(wanted).collect();
    if ledgers.is_empty() {
        return Err(
            Error::not_found("there is no such job or scope in this state").with("state", &options.records.state)
        );
    }
    let (mut text, mut failed) = (String::new(), Vec::new());
    for ledger in ledgers {
        let name = name(&ledger);
        match recover(&ctx, &ledger, how).await {
            Ok(recovered) => text.push_str(&render(&name, &recovered)),
            Err(e) => {
                let _ = writeln!(io::stderr(), "{name}: {}", e.chain());
                failed.push(e.kind());
            }
        }
    }
    let Some(kind) = failed.first() else { return Ok((text, ExitCode::SUCCESS)) };
    let _ = writeln!(io::stderr(), "hardtack: {} could not be recovered", count(failed.len(), "scope"));
    // The exit code of usage errors, after which a retry is useless, only if there are no other errors.
    let code = if failed.iter().all(|other| other == kind) { kind.exit_code() } else { 1 };
    Ok((text, ExitCode::from(code)))
}

fn name(ledger: &Ledger) -> String {
    format!("{} ({})", ledger.job(), ledger.scope())
}

fn render(name: &str, recovered: &Recovered) -> String {
    let published = recovered.published.iter().map(|run| format!("{name}: published run {run}\n"));
    let discarded = recovered.discarded.iter().map(|run| format!("{name}: discarded leftovers of run {run}\n"));
    let text: String = published.chain(discarded).collect();
    if text.is_empty() { format!("{name}: nothing to do\n") } else { text }
}

/// Shows what will stay unpublished, asks for confirmation, and abandons the commit.
async fn abandon_one(
    options: &RuntimeArgs,
    job: &str,
    scope: &str,
    sequence: u64,
    yes: bool,
) -> Result<(String, ExitCode)> {
    let ctx = open_context("hardtack", options)?;
    let ledger = Ledger::new(open_state(ctx.stores(), &options.records.state)?, job, scope);
    let unpublished = Unpublished::of(&ctx, &ledger, sequence).await?;
    let _ = write!(io::stderr(), "{unpublished}");
    if !yes {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Error::usage("abandoning a commit requires confirmation, but there is no terminal")
                .with("commit", sequence)
                .hint("review what stays unpublished, and add `--yes`"));
        }
        if !is_confirmed(&mut io::stdin().lock(), &mut io::stderr(), sequence) {
            return Ok(("nothing is abandoned\n".to_owned(), ExitCode::FAILURE));
        }
    }
    let by = Abandonment { user: user(), host: host(), at: ctx.now() };
    let abandonment = abandon(&ctx, &ledger, sequence, &by).await?;
    Ok((format!("{}: commit {sequence} was abandoned {abandonment}\n", name(&ledger)), ExitCode::SUCCESS))
}

/// Asks for the number once more: `y` is too easily typed for an irreversible action.
fn is_confirmed(input: &mut impl BufRead, output: &mut impl Write, sequence: u64) -> bool {
    let _ = write!(output, "Type the number of the commit to abandon it: ").and_then(|()| output.flush());
    let mut answer = String::new();
    input.read_line(&mut answer).is_ok() && answer.trim().parse() == Ok(sequence)
}

pub(crate) fn user() -> String {
    whoami::username().unwrap_or_else(|_| "unknown".to_owned())
}

pub(crate) fn host() -> String {
    whoami::hostname().unwrap_or_else(|_| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("7\n", true)]
    #[case(" 7 \n", true)]
    #[case("y\n", false)]
    #[case("8\n", false)]
    #[case("\n", false)]
    #[case("", false)]
    fn only_the_number_confirms(#[case] answer: &str, #[case] confirms: bool) {
        let mut asked = Vec::new();
        assert_eq!(is_confirmed(&mut answer.as_bytes(), &mut asked, 7), confirms);
        assert_eq!(asked, b"Type the number of the commit to abandon it: ");
    }
}
