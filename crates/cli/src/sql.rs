//! `hardtack sql`: SQL over the catalog.

mod complete;
mod print;
mod shell;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use datafusion::dataframe::{DataFrame, DataFrameWriteOptions};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use hardtack_core::{Error, ErrorKind, JobContext, Location, Result};
use hardtack_runtime::{QueryArgs, RuntimeArgs, open_context};
use hardtack_tables::with_versions_as_names;
use object_store::ObjectStoreExt;

use print::{Out, Printer};

use crate::draw::terminal_width;

#[derive(Debug, clap::Args)]
pub(crate) struct SqlArgs {
    /// Run these statements, separated by `;`, for example `select count(*) from lake.books`
    #[arg(short, long, value_name = "QUERY", conflicts_with = "file")]
    command: Option<String>,

    /// Run the statements in this file [default: standard input; on a terminal, a shell]
    #[arg(short, long, value_name = "FILE")]
    file: Option<Location>,

    /// Output format of rows [default: according to the suffix of `--output`, or `table`]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// Write the rows to this file, for example `books.parquet` or `s3://my-bucket/books.csv`, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<Location>,

    #[command(flatten)]
    query: QueryArgs,

    /// History file of the shell [default: `.hardtack_history` in the home folder]
    #[arg(long, env = "HARDTACK_HISTORY", value_name = "FILE")]
    history: Option<PathBuf>,
}

/// The output format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people
    Table,
    /// With a header; null is an empty field
    Csv,
    /// One JSON object per line
    Json,
    /// A Parquet file; needs `--output`
    Parquet,
}

impl SqlArgs {
    fn format(&self) -> Result<Format> {
        let output = self.output.as_ref().map(|location| location.as_str().to_ascii_lowercase());
        let format = match (self.format, &output) {
            (Some(format), _) => format,
            (None, None) => Format::Table,
            (None, Some(name)) => match name.rsplit('.').next() {
                Some("csv") => Format::Csv,
                Some("json" | "jsonl" | "ndjson") => Format::Json,
                Some("parquet") => Format::Parquet,
                _ => {
                    let message =
                        "the suffix of the output does not imply a format; add `--format`, for example `--format csv`";
                    return Err(Error::usage(message).with("output", name));
                }
            },
        };
        if format == Format::Parquet && output.is_none() {
            return Err(Error::usage("Parquet cannot be printed; name a file: `--output FILE`"));
        }
        Ok(format)
    }

    async fn script(&self, ctx: &JobContext) -> Result<String> {
        if let Some(text) = &self.command {
            return Ok(text.clone());
        }
        let Some(file) = &self.file else {
            return std::io::read_to_string(std::io::stdin())
                .map_err(|e| Error::usage("standard input is not SQL text").because(e));
        };
        read_text(ctx, "file", file).await
    }
}

/// The text of the file that an argument names.
pub(crate) async fn read_text(ctx: &JobContext, argument: &'static str, file: &Location) -> Result<String> {
    let (store, path) = ctx.stores().open(file)?;
    let bytes = async { store.objects.get(&path).await?.bytes().await }.await;
    let bytes = bytes.map_err(|e| match Error::from(e) {
        e if e.kind() == ErrorKind::NotFound => Error::usage("there is no such file").with(argument, file),
        e => e.with(argument, file),
    })?;
    String::from_utf8(bytes.into()).map_err(|e| Error::usage("this is not text").with(argument, file).because(e))
}

/// Runs a script or a shell.
pub(crate) async fn run(options: RuntimeArgs, args: SqlArgs) -> Result<()> {
    match execute(options, args).await {
        // The reader of the rows has closed the pipe.
        Err(e) if e.kind() == ErrorKind::Stopped => Ok(()),
        done => done,
    }
}

async fn execute(options: RuntimeArgs, args: SqlArgs) -> Result<()> {
    let format = args.format()?;
    let options = RuntimeArgs { query: args.query.clone(), ..options };
    let ctx = open_context("sql", &options)?;
    crate::verdicts::register(&ctx, &options)?;
    hardtack_tables::register_names(&ctx)?;
    if args.command.is_none() && args.file.is_none() && std::io::stdin().is_terminal() {
        if let Some(output) = &args.output {
            let message = "a shell prints its results; give the query with `-c` to write them to a file";
            return Err(Error::usage(message).with("output", output));
        }
        return shell::run(&ctx, format, args.history).await;
    }
    let script = args.script(&ctx).await?;
    let statements = parsed(&script)?;
    match &args.output {
        Some(output) => to_file(&ctx, statements, output, format).await,
        None => {
            let mut printer = Printer::new(Out::Stdout, format, terminal_width());
            for statement in statements {
                print(&ctx, statement, &mut printer).await?;
            }
            Ok(())
        }
    }
}

/// The statements of a text.
fn parsed(text: &str) -> Result<Vec<Statement>> {
    Ok(DFParser::parse_sql(&with_versions_as_names(text)).map_err(unplannable)?.into())
}

/// Writes the rows of the last statement; the statements before it only prepare and have none.
async fn to_file(ctx: &JobContext, mut statements: Vec<Statement>, output: &Location, format: Format) -> Result<()> {
    let one = "expected one query, whose rows are written to the file";
    let last = statements.pop().ok_or_else(|| Error::usage(one).with("output", output))?;
    for statement in statements {
        if !frame(ctx, statement).await?.schema().fields().is_empty() {
            return Err(Error::usage(format!("{one}, but there are several")).with("output", output));
        }
    }
    let rows = frame(ctx, last).await?;
    let (store, path) = ctx.stores().open(output)?;
    if format == Format::Parquet {
        // Planned here as well, to distinguish errors of planning from errors of reading and writing.
        rows.clone().create_physical_plan().await.map_err(unplannable)?;
        let rows = writable(ctx, rows).await?;
        let url = format!("{}{path}", store.url);
        rows.write_parquet(&url, DataFrameWriteOptions::new().with_single_file_output(true), None).await?;
        return Ok(());
    }
    let mut printer = Printer::new(Out::object(store.objects, path), format, None);
    print_rows(ctx, rows, &mut printer).await?;
    printer.finish().await
}

/// The same rows in a plan that can be written. DataFusion executes `explain` and `describe` only at the root of a plan, so
/// they are executed here.
async fn writable(ctx: &JobContext, rows: DataFrame) -> Result<DataFrame> {
    match rows.logical_plan() {
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_) => {
            let schema = Arc::clone(rows.schema().inner());
            let rows = MemTable::try_new(schema, vec![rows.collect().await?])?;
            Ok(ctx.session().read_table(Arc::new(rows))?)
        }
        _ => Ok(rows),
    }
}

/// Runs one statement and prints its rows, if any.
async fn print(ctx: &JobContext, statement: Statement, printer: &mut Printer) -> Result<()> {
    let rows = frame(ctx, statement).await?;
    print_rows(ctx, rows, printer).await
}

async fn print_rows(ctx: &JobContext, rows: DataFrame, printer: &mut Printer) -> Result<()> {
    if rows.schema().fields().is_empty() {
        return Ok(());
    }
    let plan = rows.create_physical_plan().await.map_err(unplannable)?;
    printer.print(execute_stream(plan, ctx.session().task_ctx())?).await.map_err(|e| ctx.explain(e))
}

/// The result of a statement. Definitions (`create view`, `set`) are executed here.
async fn frame(ctx: &JobContext, statement: Statement) -> Result<DataFrame> {
    refuse_changes(&statement)?;
    let planned = async {
        let plan = ctx.session().state().statement_to_plan(statement).await?;
        SQLOptions::new().with_allow_dml(false).verify_plan(&plan)?;
        ctx.session().execute_logical_plan(plan).await
    };
    planned.await.map_err(unplannable)
}

/// Refuses statements that would change the catalog's tables. Planning would refuse them too, but with misleading
/// errors.
fn refuse_changes(statement: &Statement) -> Result<()> {
    let defined = match statement {
        Statement::CopyTo(_) => {
            let message = "`COPY` is not supported; `--output FILE` writes the rows of a query to a file";
            return Err(Error::usage(message));
        }
        Statement::CreateExternalTable(table) => Some(&table.name),
        Statement::Statement(statement) => match statement.as_ref() {
            SqlStatement::CreateTable(table) => Some(&table.name),
            SqlStatement::CreateView(view) => Some(&view.name),
            SqlStatement::Drop { names, .. } => names.first(),
            SqlStatement::Insert(_) | SqlStatement::Update(_) | SqlStatement::Delete(_) | SqlStatement::Truncate(_) => {
                return Err(Error::usage("SQL only reads; tables are written by jobs: `ctx.save(table, rows)`"));
            }
            _ => None,
        },
        _ => None,
    };
    match defined {
        Some(name) if name.0.len() > 1 => {
            Err(Error::usage(format!("`{name}` is in the catalog, which is read-only in SQL"))
                .hint("a name without a database is valid until this session ends"))
        }
        _ => Ok(()),
    }
}

/// Classifies an error of planning: the statement is wrong, unless the catalog or the store has failed.
fn unplannable(error: DataFusionError) -> Error {
    match Error::from(error) {
        own if own.kind() == ErrorKind::NotFound => Error::usage(own.chain()),
        own if own.kind() == ErrorKind::Unexpected && own.get_sqlstate().is_none() => Error::usage(own.chain()),
        own => own,
    }
}
