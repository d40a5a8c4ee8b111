//! The interactive shell.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use hardtack_core::{Error, JobContext, Result};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Editor, Helper};

use super::complete::{CatalogNames, complete, is_complete, is_farewell};
use super::print::{Out, Printer};
use super::{Format, parsed as statements, print, terminal_width};
use crate::tables::{DescribeArgs, TablesArgs, describe, list};

const HELP: &str = "\
Statements end with `;` and may have several lines. Tab completes names, Ctrl-C stops a query, Ctrl-D exits.
  \\d            the tables of the catalog
  \\d DB.TABLE   the columns of a table
  \\?            this help
  \\q            leave
";

/// Reads and runs statements until the user leaves.
pub(super) async fn run(ctx: &JobContext, format: Format, history: Option<PathBuf>) -> Result<()> {
    let history = history.or_else(|| std::env::home_dir().map(|home| home.join(".hardtack_history")));
    let mut editor = editor(ctx).map_err(no_terminal)?;
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    say("SQL over the catalog; `\\?` for help\n");
    loop {
        // Completion waits for the catalog, so tell the runtime that this thread blocks.
        let text = match tokio::task::block_in_place(|| editor.readline("sql> ")) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => {
                // The next output starts on a new line.
                say("\n");
                return Ok(());
            }
            Err(e) => return Err(no_terminal(e)),
        };
        if is_farewell(text.trim()) {
            return Ok(());
        }
        if text.trim().is_empty() {
            continue;
        }
        if editor.add_history_entry(text.trim()).unwrap_or(false)
            && let Some(file) = &history
            && let Err(e) = editor.append_history(file)
        {
            complain(&Error::unavailable("this line is not saved").with("history", file.display()).because(e));
        }
        tokio::select! {
            done = obey(ctx, text.trim(), format) => if let Err(error) = done {
                complain(&error);
            },
            _ = tokio::signal::ctrl_c() => say("\nstopped\n"),
        }
    }
}

/// Runs the typed text.
async fn obey(ctx: &JobContext, text: &str, format: Format) -> Result<()> {
    if let Some(command) = text.strip_prefix('\\') {
        say(&answer(ctx, command).await?);
        return Ok(());
    }
    let mut printer = Printer::new(Out::Stdout, format, terminal_width());
    for statement in statements(text)? {
        let begun = Instant::now();
        print(ctx, statement, &mut printer).await?;
        // Other formats are meant to be copied from the screen.
        if format == Format::Table {
            say(&format!("{:.3} s\n\n", begun.elapsed().as_secs_f64()));
        }
    }
    Ok(())
}

/// Arguments without a program name.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Arguments<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

async fn answer(ctx: &JobContext, command: &str) -> Result<String> {
    let words: Vec<&str> = command.trim_end_matches(';').split_whitespace().collect();
    match words.as_slice() {
        ["?"] => Ok(HELP.to_owned()),
        ["d", table] if table.contains('.') => describe(ctx, &parsed::<DescribeArgs>(&[table])?).await,
        ["d", rest @ ..] => list(ctx, &parsed::<TablesArgs>(rest)?).await,
        _ => Err(Error::usage(format!("there is no command `\\{command}`; `\\?` lists all commands"))),
    }
}

fn parsed<A: clap::Args>(words: &[&str]) -> Result<A> {
    let arguments = Arguments::<A>::try_parse_from(words);
    arguments.map(|a| a.args).map_err(|e| Error::usage(e.to_string().lines().next().unwrap_or_default()))
}

fn say(text: &str) {
    // If the terminal is closed, nobody reads it.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(error: &Error) {
    let _ = writeln!(std::io::stderr(), "{}", error.chain());
}

fn no_terminal(error: ReadlineError) -> Error {
    Error::unavailable("this terminal cannot be used; pass statements with `-c` or `-f`").because(error)
}

// --- the line editor -----------------------------------------------------------------------------------------------

type Line = Editor<Assistant, FileHistory>;

fn editor(ctx: &JobContext) -> rustyline::Result<Line> {
    let config = Config::builder().completion_type(CompletionType::List).history_ignore_space(true).build();
    let history = FileHistory::with_config(&config);
    let mut editor = Editor::with_history(config, history)?;
    editor.set_helper(Some(Assistant { names: Arc::new(CatalogNames::new(ctx)) }));
    Ok(editor)
}

/// Completes names, and detects the end of a statement.
struct Assistant {
    names: Arc<CatalogNames>,
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        cursor: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(self.names.as_ref(), line, cursor))
    }
}

impl Validator for Assistant {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(ctx.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hardtack_catalog::{CatalogHandle, EmbeddedCatalog};

    use super::*;

    #[tokio::test]
    async fn commands_are_answered_or_refused() {
        let catalog = CatalogHandle::new(Arc::new(EmbeddedCatalog::in_memory()));
        let ctx = JobContext::builder("sql").extension(Arc::new(catalog)).build().unwrap();
        assert_eq!(answer(&ctx, "?").await.unwrap(), HELP);
        insta::assert_snapshot!(answer(&ctx, "d").await.unwrap(), @"no tables; `hardtack crawl LOCATION --database DB` finds some");
        insta::assert_snapshot!(answer(&ctx, "d lake").await.unwrap_err(), @"there is no database `lake` in the catalog; create it, or check the name");
        insta::assert_snapshot!(answer(&ctx, "d lake.").await.unwrap_err(), @"error: invalid value 'lake.' for '<DB.TABLE>': expected a database and a table, for example `lake.books`");
        insta::assert_snapshot!(answer(&ctx, "d lake.books;").await.unwrap_err(), @"there is no table `lake.books` in the catalog; create it, or check the name");
        insta::assert_snapshot!(answer(&ctx, "x").await.unwrap_err(), @r"there is no command `\x`; `\?` lists all commands");
    }
}
