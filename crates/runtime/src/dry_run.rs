//! Shows what a job would do, without doing it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::{empty::EmptyTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;
use futures::FutureExt;
use hardtack_core::{Context, Error, Io, JobContext, Location, Reads, Result, Sink, Source};
use hardtack_state::Ledger;

use crate::args::RuntimeArgs;
use crate::environment::{open_context, open_state};
use crate::outcome::panicked;

/// Calls `main` with empty frames of the real schemas, and prints its sources, sinks, schemas and plans. A source with
/// a declared schema is only checked for something to read; any other is read as far as inferring its schema requires.
///
/// # Errors
/// Errors of `main`, and of sources that cannot be read: they are printed, and the dry run continues as far as
/// possible.
pub(crate) async fn dry_run<A>(
    job: &str,
    args: A,
    options: &RuntimeArgs,
    main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
) -> Result<()> {
    let io = Arc::new(DryRunIo::default());
    let base = open_context(job, options)?;
    let ledger = Ledger::new(open_state(base.stores(), &options.records.state)?, job, &options.scope);
    let last = ledger.newest_bookmarks().await?.map(|entry| entry.bookmarks).unwrap_or_default();
    let again = options.bookmarks.reprocess(&ledger).await?;
    let ctx = JobContext::builder(job)
        .share(&base)
        .run(base.run().clone())
        .bookmarks(options.bookmarks.bookmarks(last, again))
        .io(io.clone())
        .build()?;
    let done = AssertUnwindSafe(main(&Context::new(args, ctx))).catch_unwind().await;
    let done = done.unwrap_or_else(|panic| Err(panicked(&*panic)));
    let mut text = format!("dry run of {job}: no rows are read, nothing is written or recorded\n");
    if let Some(window) = base.run().window {
        text.push_str(&format!("window {window} (in the scope {})\n", options.scope));
    }
    text.push_str(&io.text.lock().unwrap_or_else(PoisonError::into_inner));
    let _ = std::io::stdout().write_all(text.as_bytes());
    let unreadable = io.unreadable.lock().unwrap_or_else(PoisonError::into_inner).take();
    done.and(unreadable.map_or(Ok(()), Err))
}

#[derive(Debug, Default)]
struct DryRunIo {
    text: Mutex<String>,
    reads: Reads,
    /// The error of the first source that cannot be read.
    unreadable: Mutex<Option<Error>>,
}

impl DryRunIo {
    fn say(
        &self,
        what: &str,
        name: &str,
        location: Option<Location>,
        value: &str,
        schema: &Schema,
        plan: Option<&str>,
    ) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let place = location.map(|l| format!(" ({l})")).unwrap_or_default();
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "\n{what} {name}{place}\n  {value}\n  columns");
        for field in schema.fields() {
            let null = if field.is_nullable() { "" } else { " not null" };
            let _ = writeln!(text, "    {}: {}{null}", field.name(), field.data_type());
        }
        if let Some(plan) = plan {
            let _ = writeln!(text, "  plan");
            plan.lines().for_each(|line| {
                let _ = writeln!(text, "    {line}");
            });
        }
    }
}

impl DryRunIo {
    /// Warns if the run would read a source twice.
    fn note_reads(&self, reader: &str, rows: &DataFrame) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        for advice in self.reads.read(reader, rows) {
            let _ = writeln!(text, "  note: {advice}");
        }
    }
}

fn no_rows(ctx: &JobContext, name: &str, schema: SchemaRef) -> Result<DataFrame> {
    let table = provider_as_source(Arc::new(EmptyTable::new(schema)));
    let plan = LogicalPlanBuilder::scan(name, table, None)?.build()?;
    Ok(DataFrame::new(ctx.session().state(), plan))
}

#[async_trait]
impl Io for DryRunIo {
    async fn load(&self, ctx: &JobContext, source: &dyn Source) -> Result<DataFrame> {
        let name = source.name();
        // Loading does not execute anything: files are listed, not read.
        let schema: SchemaRef = match source.load(&ctx.loading(name)).await {
            Ok(rows) => Arc::new(rows.schema().as_arrow().clone()),
            Err(e) => {
                let e = e.with("source", name);
                let Ok(schema) = source.schema(&ctx.loading(name)).await else { return Err(e) };
                self.say(
                    "source",
                    name,
                    source.location(),
                    &format!("{source:?}\n  problem: {}", e.chain()),
                    &schema,
                    None,
                );
                self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                return no_rows(ctx, name, schema);
            }
        };
        self.say("source", name, source.location(), &format!("{source:?}"), &schema, None);
        let rows = no_rows(ctx, name, schema)?;
        self.reads.loaded(source, &rows);
        Ok(rows)
    }

    async fn persist(&self, ctx: &JobContext, rows: DataFrame) -> Result<DataFrame> {
        let plan = rows.logical_plan().display_indent().to_string();
        self.say("persisted", "rows", None, "computed once", rows.schema().as_arrow(), Some(&plan));
        self.note_reads("persisted rows", &rows);
        let shared = ctx.persisted(rows.clone())?;
        self.reads.persisted(&rows, &shared);
        Ok(shared)
    }

    async fn save(&self, ctx: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()> {
        let schema = rows.schema().as_arrow().clone();
        let plan = rows.logical_plan().display_indent().to_string();
        self.say("sink", sink.name(), sink.location(), &format!("{sink:?}"), &schema, Some(&plan));
        self.reads.check(ctx, sink, &rows)?;
        self.note_reads(&format!("the sink `{}`", sink.name()), &rows);
        sink.conform(&ctx.staging(sink.name()), rows).await.map_err(|e| e.with("sink", sink.name()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hardtack_core::ErrorKind;
    use hardtack_sinks::ParquetDataset;
    use hardtack_sources::JsonFiles;

    use super::*;

    fn schema() -> SchemaRef {
        use datafusion::arrow::datatypes::{DataType, Field};
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
    }

    /// A missing source is reported, and the rest of the job is still checked.
    #[tokio::test]
    async fn what_is_not_there_is_the_error_in_the_end() {
        let options = RuntimeArgs::default();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Location::from(folder.path()).join(name);
        let mut saved = false;
        let error = dry_run("job", (), &options, async |ctx: &Context<()>| {
            let rows = ctx.load(JsonFiles::new("a", at("nowhere")).with_schema(schema())).await?;
            let fine = ctx.load(JsonFiles::new("b", at("nowhere")).with_schema(schema()).or_empty()).await?;
            ctx.save(ParquetDataset::new("out", at("out")), rows.union(fine)?).await?;
            saved = true;
            Ok(())
        });
        let error = error.await.unwrap_err();
        assert_eq!((error.kind(), error.get("source")), (ErrorKind::NotFound, Some("a")));
        assert!(error.message().starts_with("no file to read"), "{error}");
        assert!(saved && !folder.path().join("out").exists());
    }

    /// A sink requires columns that the rows do not have.
    #[tokio::test]
    async fn what_a_sink_would_refuse_is_the_error() {
        let options = RuntimeArgs::default();
        let error = dry_run("job", (), &options, async |ctx: &Context<()>| {
            let rows = ctx.load(JsonFiles::new("a", "memory:/none").with_schema(schema()).or_empty()).await?;
            ctx.save(ParquetDataset::new("out", "memory:/out").partition_by(["m"]), rows).await
        });
        let error = error.await.unwrap_err();
        assert_eq!((error.kind(), error.get("sink")), (ErrorKind::Usage, Some("out")));
    }

    /// So that its author persists what the sinks share; then there is nothing to note.
    #[tokio::test]
    async fn a_source_that_two_sinks_read_is_noted() {
        for persists in [false, true] {
            let io = Arc::new(DryRunIo::default());
            let ctx = JobContext::builder("job").io(io.clone()).build().unwrap();
            let mut rows =
                ctx.load(JsonFiles::new("a", "memory:/none").with_schema(schema()).or_empty()).await.unwrap();
            if persists {
                rows = ctx.persist(rows).await.unwrap();
            }
            for sink in ["one", "two"] {
                ctx.save(ParquetDataset::new(sink, format!("memory:/{sink}")), rows.clone()).await.unwrap();
            }
            let note =
                "note: the source `a` is read by the sink `one` and again by the sink `two`; `ctx.persist(rows)`";
            assert_eq!(io.text.lock().unwrap().contains(note), !persists);
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_as_in_a_real_run() {
        let options = RuntimeArgs::default();
        let error = dry_run("job", (), &options, async |_: &Context<()>| panic!("oh no")).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unexpected, "the job panicked: oh no"));
    }
}
